//! Hostile inputs by the million (CREDYT_CASES=1000000 cargo test --release --lib fuzz): whatever bytes,
//! text or JSON come in, the ledger takes them whole or refuses them. It never panics, and never takes
//! what it would not write itself.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::price::{Measure, Price, Rounding};
use super::vendor::reading::VendorResponse;
use super::vendor::terms::Terms;
use super::vendor::{
    Counts, Definition, Import, Rates, extract::Extractor, find, rates::read_own, read_import,
    rules,
};
use super::wallet::{EndedHold, Overrun};
use super::{Amount, Grant, Kind, Moment, Wallet, margin, number, packed, period, rollup, text};

#[path = "../../tests/support/hostile.rs"]
mod hostile;
use hostile::{cases, edited};

const NOW: Moment = Moment(848_000_000_000_000);

// ---- wallets ------------------------------------------------------------------------------------

/// What makes a wallet: grants, then spends and holds.
fn wallet() -> impl Strategy<Value = Wallet> {
    let grant = (
        any::<u128>(),
        select(&[Kind::Included, Kind::Promotional, Kind::Purchased][..]),
        select(&[i32::MIN, -1, 0, 99, 100, i32::MAX][..]),
        prop::option::of(1..1_000_000_000_000_i64),
        prop::option::of(prop::collection::vec("[a-zé.*]{1,12}", 1..4)),
        (1..10_i128.pow(24), 0..10_i128.pow(24)),
    );
    let grants = prop::collection::vec(grant, 0..6);
    let verbs = prop::collection::vec((any::<bool>(), 0..10_i128.pow(23)), 0..6);
    let rest = (any::<bool>(), any::<bool>(), 0..i64::MAX as u64);
    (grants, verbs, rest).prop_map(|(grants, verbs, (hold, renewal, seq))| {
        let mut wallet = Wallet::new(NOW);
        for (id, kind, priority, end, applies_to, (remaining, deferred)) in grants {
            let grant = Grant {
                id: Uuid::from_u128(id),
                kind,
                priority,
                effective_at: NOW,
                expires_at: end.map(|after| Moment(NOW.0 + after)),
                applies_to,
                revoked: id % 7 == 0,
                remaining: Amount::from_units(remaining),
                held: Amount::ZERO,
                waiting: Amount::ZERO,
                deferred: Amount::from_units(deferred),
            };
            let _ = wallet.issue(grant);
        }
        let limit = Amount::MAX_ISSUE;
        for (hold, credits) in verbs {
            let credits = Amount::from_units(credits);
            let _ = match hold {
                true => wallet.hold(NOW, "a.b", credits, limit).map(drop),
                false => wallet.spend(NOW, "a.b", credits, limit).map(drop),
            };
        }
        wallet.seq = seq;
        wallet.next_hold_end = hold.then_some(Moment(NOW.0 + 1));
        wallet.next_renewal = renewal.then_some(Moment(NOW.0 + 2));
        wallet
    })
}

/// A wallet that was taken is one that would be written: it comes back from both forms, and every verb
/// works on it.
fn is_a_wallet(wallet: Wallet) {
    let bytes = packed::pack(&wallet);
    assert_eq!(packed::unpack(&bytes).as_ref(), Ok(&wallet));
    assert_eq!(text::parse(&text::print(&wallet)).as_ref(), Ok(&wallet));
    let (now, limit) = (NOW, Amount::MAX_ISSUE);
    let _ = (wallet.settled(now), wallet.held(), wallet.next_due());
    let _ = (wallet.available(now, None, limit), wallet.next_expiry(now));
    let credits = Amount::from_units(12_345_678_901);
    let mut one = wallet.clone();
    let _ = one.advance(now, &[], &mut Vec::new(), &mut []);
    if let Ok(mut pins) = one.hold(now, "a.b", credits, limit) {
        let _ = one.capture(now, "a.b", limit, limit, Overrun::Overdraft, &mut pins);
        let ended = EndedHold {
            id: Uuid::nil(),
            at: now,
            pins,
        };
        let _ = one.advance(now, &[ended], &mut Vec::new(), &mut []);
    }
    let _ = one.spend(now, "a.b", credits, limit);
    if let Some(id) = one.grants().first().map(|grant| grant.id) {
        one.mark_revoked(id);
        let _ = one.remove(id, credits);
    }
    let _ = one.sweep(now);
}

/// Bytes of a wallet, changed, with a checksum that is right again.
fn forged() -> impl Strategy<Value = Vec<u8>> {
    wallet().prop_flat_map(|wallet| hostile::forged(packed::pack(&wallet)))
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn of_forged_bytes_only_a_wallet_s_own_are_taken(bytes in forged()) {
        if let Ok(wallet) = packed::unpack(&bytes) {
            prop_assert_eq!(packed::pack(&wallet), bytes);
            is_a_wallet(wallet);
        }
    }

    #[test]
    fn changed_and_random_bytes_are_refused(wallet in wallet(), changes in hostile::changes(), noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let good = packed::pack(&wallet);
        let mut bytes = good.clone();
        for (at, gone, piece) in changes {
            let from = at.index(bytes.len() + 1);
            let gone = gone.min(bytes.len() - from);
            bytes.splice(from..from + gone, piece);
        }
        prop_assert!(bytes == good || packed::unpack(&bytes).is_err());
        prop_assert!(packed::unpack(&noise).is_err());
        let mut noise = noise;
        noise.splice(0..0, good[..1].iter().copied());
        prop_assert!(packed::unpack(&noise).is_err());
    }

    #[test]
    fn a_text_is_a_wallet_s_or_refused(seed in wallet(), changed in any::<Index>(), edit in any::<u64>(), piece in hostile::text()) {
        // The characters of the text, and the values of the document.
        let good = text::print(&seed);
        let mut raw = good.clone();
        hostile::splice(&mut raw, changed, &piece);
        if let Ok(wallet) = text::parse(&raw) { is_a_wallet(wallet); }
        let end = (edit as usize) % (raw.len() + 1);
        if raw.is_char_boundary(end) && end < raw.trim_end().len() {
            raw.truncate(end);
            prop_assert!(text::parse(&raw).is_err() || raw.len() >= good.len());
        }
        prop_assert_eq!(text::parse(&good), Ok(seed));
    }

    #[test]
    fn a_document_is_a_wallet_s_or_refused(json in wallet().prop_flat_map(|wallet| {
        edited(vec![serde_json::from_str(&text::print(&wallet)).expect("JSON")])
    })) {
        if let Ok(wallet) = text::parse(&json.to_string()) { is_a_wallet(wallet); }
    }
}

/// What only a forger writes, and what could not be printed, read or stored again.
#[test]
fn what_postgres_cannot_keep_is_no_wallet() {
    let taken = |change: fn(&mut Wallet, &mut Grant)| {
        let mut grant = Grant {
            id: Uuid::nil(),
            kind: Kind::Purchased,
            priority: 100,
            effective_at: NOW,
            expires_at: None,
            applies_to: None,
            revoked: false,
            remaining: Amount::from_units(1),
            held: Amount::ZERO,
            waiting: Amount::ZERO,
            deferred: Amount::ZERO,
        };
        let mut wallet = Wallet::new(NOW);
        change(&mut wallet, &mut grant);
        let _ = wallet.issue(grant);
        packed::unpack(&packed::pack(&wallet)).is_ok()
    };
    assert!(taken(|_, _| {}));
    assert!(!taken(|wallet, _| wallet.changed_at = Moment(i64::MAX - 1)));
    assert!(!taken(
        |wallet, _| wallet.next_hold_end = Some(Moment(i64::MIN))
    ));
    assert!(!taken(
        |wallet, _| wallet.next_renewal = Some(Moment(i64::MIN))
    ));
    assert!(!taken(|_, grant| grant.effective_at = Moment(i64::MIN)));
    assert!(!taken(|_, grant| grant.expires_at = Some(Moment(i64::MAX))));
    assert!(!taken(|wallet, _| wallet.seq = 1 << 63));
    assert!(!taken(
        |_, grant| grant.applies_to = Some(vec![String::new()])
    ));
    assert!(!taken(
        |_, grant| grant.applies_to = Some(vec!["a\0".to_owned()])
    ));
}

/// Every change of one byte, every cut, one byte more anywhere.
#[test]
fn every_small_damage_is_found() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    for _ in 0..8 {
        let wallet = wallet().new_tree(&mut runner).expect("a wallet").current();
        let good = packed::pack(&wallet);
        let mut bytes = good.clone();
        for at in 0..good.len() {
            for flip in 1..=255 {
                bytes[at] = good[at] ^ flip;
                assert!(packed::unpack(&bytes).is_err(), "{at} {flip}: {bytes:?}");
            }
            bytes[at] = good[at];
            assert!(packed::unpack(&good[..at]).is_err());
        }
        for at in 0..=good.len() {
            for byte in 0..=255 {
                let mut longer = good.clone();
                longer.insert(at, byte);
                assert!(packed::unpack(&longer).is_err(), "{at} {byte}: {good:?}");
            }
        }
    }
}

// ---- prices -------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_rule_is_a_price_or_refused(
        rule in edited(hostile::price_rules()),
        dimensions in edited(hostile::dimensions()),
        counts in edited(hostile::answers()),
        quantity in hostile::number(),
        cost in hostile::number(),
        scale in 0..=10_u32,
        rounding in select(&[Rounding::Up, Rounding::Down, Rounding::HalfUp, Rounding::HalfEven][..]),
    ) {
        let Ok(price) = Price::parse(&rule) else { return Ok(()) };
        let empty = Map::new();
        let usage: BTreeMap<String, Decimal> = Counts::read_any(&counts).own;
        let measure = Measure {
            used: Decimal::ZERO,
            quantity: number::json_decimal(&quantity).unwrap_or(Decimal::TEN),
            dimensions: dimensions.as_object().unwrap_or(&empty),
            usage: &usage,
            usage_is_whole: scale % 2 == 0,
            cost: number::json_decimal(&cost).ok(),
        };
        let _ = (price.needs_cost(), price.needs_usage());
        let credits = price.credits(&measure, scale, rounding);
        let explained = price.explain(&measure, scale, rounding);
        prop_assert_eq!(&credits, &explained.map(|quoted| quoted.units));
        if let Ok(units) = credits {
            prop_assert!((0..Amount::MAX_ISSUE.units()).contains(&units));
            prop_assert_eq!(units % 10_i128.pow(10 - scale), 0);
        }
    }
}

// ---- vendors ------------------------------------------------------------------------------------

/// Whatever is read of a file can be read again as it is stored, and costs something or says why not.
fn use_all(import: Import, usage: &Json, model: &str) {
    let lower = model.to_lowercase();
    for one in import.vendors {
        let definition = Definition::read(&one.definition).expect("the stored form");
        let _ = find((&one.vendor, &definition), &[], &lower);
        for extractor in &definition.extractors {
            let _ = extractor.model(usage);
            let _ = extractor.read_counts(usage);
        }
    }
    for one in import.models {
        cost(&Rates::read(&one.rates).expect("the stored form"), usage);
    }
}

fn cost(rates: &Rates, usage: &Json) {
    let counts = Counts::read(usage).unwrap_or_else(|_| Counts::read_any(usage));
    for at in [NOW, Moment(i64::MIN), Moment(i64::MAX)] {
        for context in [&Json::Null, usage] {
            let terms = Terms::of(&VendorResponse::of(usage), context);
            let _ = rates.cost(&counts, at, &terms);
        }
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_file_of_rates_is_read_or_refused(
        genai in edited(vec![hostile::genai_file()]),
        litellm in edited(vec![hostile::litellm_file()]),
        usage in edited(hostile::answers()),
        model in hostile::text(),
    ) {
        for (format, file) in [("genai-prices", &genai), ("litellm", &litellm), ("genai-prices", &litellm), ("litellm", &genai)] {
            if let Ok(import) = read_import(format, file) { use_all(import, &usage, &model); }
        }
    }

    #[test]
    fn what_is_stored_is_read_or_refused(
        own in edited(hostile::own_rates()),
        stored in edited(vec![hostile::stored_rates()]),
        usage in edited(hostile::usages()),
        extractor in edited(vec![hostile::genai_file()[0]["extractors"][0].clone()]),
    ) {
        if let Ok((stored, _)) = read_own(&own) { cost(&Rates::read(&stored).expect("the stored form"), &usage); }
        if let Ok(rates) = Rates::read(&stored) { cost(&rates, &usage); }
        let _ = Definition::read(&stored);
        if let Ok(extractor) = Extractor::read(&extractor, "extractor") {
            let _ = extractor.model(&usage);
            let _ = extractor.read_counts(&usage);
        }
    }

    #[test]
    fn a_text_is_a_number_a_time_a_period_a_date_or_refused(text in hostile::text(), more in hostile::text(), at in any::<Index>()) {
        let mut text = text;
        hostile::splice(&mut text, at, &more);
        let _ = number::parse_decimal(&text);
        let _ = Moment::parse(&text).map(|at| at.to_string());
        let _ = text.parse::<period::PeriodLength>();
        let _ = rules::with_dashed_dates(&text);
        if let Some(amount) = Amount::parse(&text) {
            prop_assert_eq!(Amount::parse(&amount.to_string()), Some(amount));
        }
    }
}

// ---- what reports read --------------------------------------------------------------------------

/// Their sum is no decimal.
#[test]
fn costs_beyond_any_row_s_are_refused() {
    let one = json!({"kind": "included", "credits": "1", "revenue": "1", "cost": "79228162514264337593543950335"});
    let two = Json::Array(vec![one.clone(), one]);
    assert_eq!(margin::ModelCost::read_all(Some(&two), None), None);
    assert_eq!(rollup::read(&two), None);
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_row_s_money_is_shared_to_the_last_digit_or_refused(
        allocations in edited(vec![hostile::allocations()]),
        costs in edited(vec![hostile::costs()]),
        posted in edited(vec![hostile::lines()]),
        kind in select(&["debit", "refund", "settlement", "revocation", "grant", ""][..]),
    ) {
        let _ = rollup::read(&posted).map(|lines| rollup::counted(&lines));
        let read = (margin::paid(kind, &allocations), margin::ModelCost::read_all(Some(&costs), None));
        let (Some(paid), Some(spent)) = read else { return Ok(()) };
        if paid.len() * spent.len() > 10_000 { return Ok(()) }
        let lines = margin::merged(margin::lines(&paid, &spent));
        let _ = rollup::counted(&lines);
        let credits: Amount = lines.iter().map(|line| line.credits).sum();
        let revenue: Amount = lines.iter().map(|line| line.revenue).sum();
        prop_assert_eq!(credits, paid.iter().map(|one| one.credits).sum());
        prop_assert_eq!(revenue, paid.iter().map(|one| one.revenue).sum());
    }
}
