//! `affordable` and `authorize` with `vary` against trying every amount: random prices, grants, overdrafts, holds and
//! several limits at once. What is answered can be paid, and nothing larger can.
//!
//! CREDYT_CASES says how many random wallets are asked.

mod support;

use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng, prelude::IndexedRandom};
use rust_decimal::Decimal;
use support::sql::{Database, attempt, clock, rows, value, values};

/// Steps that are tried one by one.
const STEPS: u32 = 120;

/// The price of a hold of this amount, which is undone; NULL where it is refused.
const TRIED: &str = "
    CREATE FUNCTION tried(who text, what text, vary text, amount numeric, dims jsonb, of text[]) RETURNS numeric LANGUAGE plpgsql AS $$
    DECLARE
        held credyt.authorization;
    BEGIN
        IF vary = 'quantity' THEN
            held := credyt.authorize(who, what, amount, dims, scopes => of);
        ELSE
            held := credyt.authorize(who, what, dimensions => dims || jsonb_build_object(vary, amount), scopes => of);
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'ZZ000';
    EXCEPTION
        WHEN SQLSTATE 'ZZ000' THEN
            RETURN CASE WHEN held.approved THEN held.credits END;
        WHEN SQLSTATE 'WC003' OR SQLSTATE '22003' THEN
            RETURN NULL;
    END $$";

const PRICES: &[(&str, &str, &str)] = &[
    ("unit", "quantity", "\"0.7\""),
    (
        "capped",
        "quantity",
        r#"{"per_unit": "1.3", "minimum": "4", "maximum": "20"}"#,
    ),
    (
        "package",
        "quantity",
        r#"{"package": {"size": 7, "credits": "5"}}"#,
    ),
    (
        "graduated",
        "quantity",
        r#"{"graduated": [{"up_to": 5, "per_unit": "2"}, {"up_to": 12, "per_unit": "0.25"}, {"per_unit": "1"}]}"#,
    ),
    (
        "volume",
        "quantity",
        r#"{"volume": [{"up_to": 10, "per_unit": "2"}, {"up_to": 30, "per_unit": "0.6"}, {"per_unit": "0.5"}]}"#,
    ),
    (
        "monthly",
        "quantity",
        r#"{"graduated": [{"up_to": 20, "per_unit": "1"}, {"per_unit": "0.1"}], "over": "month"}"#,
    ),
    (
        "monthly.volume",
        "quantity",
        r#"{"volume": [{"up_to": 15, "per_unit": "2"}, {"per_unit": "0.4"}], "over": "month"}"#,
    ),
    (
        "monthly.package",
        "quantity",
        r#"{"package": {"size": 7, "credits": "5"}, "over": "month"}"#,
    ),
    (
        "tiers.free",
        "quantity",
        r#"{"graduated": [{"up_to": 10, "per_unit": "0"}, {"up_to": 20, "per_unit": "3"}, {"per_unit": "0"}], "minimum": "2"}"#,
    ),
    (
        "volume.capped",
        "quantity",
        r#"{"volume": [{"up_to": 10, "per_unit": "3"}, {"per_unit": "0.9"}], "minimum": "5", "maximum": "18"}"#,
    ),
    (
        "sized",
        "quantity",
        r#"{"match": [{"when": {"in": 7}, "price": {"volume": [{"up_to": 4, "per_unit": "4"}, {"per_unit": "1"}]}},
                      {"when": {"size": "big"}, "price": {"package": {"size": 12, "credits": "7"}, "maximum": "30"}},
                      {"price": {"graduated": [{"up_to": 3, "per_unit": "5"}, {"per_unit": "0.01"}], "over": "month"}}]}"#,
    ),
    (
        "chat.steps",
        "out",
        r#"{"match": [{"when": {"out": 5}, "price": {"meters": {"out": {"per": 1, "credits": "9"}}}},
                      {"when": {"out": 14, "size": "big"}, "price": {"meters": {"in": {"per": 1, "credits": "1"}}}},
                      {"price": {"meters": {"out": {"per": 7, "credits": "2"}}, "maximum": "21"}}]}"#,
    ),
    (
        "chat",
        "out",
        r#"{"meters": {"in": {"per": 10, "credits": "0.3"}, "out": {"per": 3, "credits": "1.1"}}}"#,
    ),
    (
        "chat.sized",
        "out",
        r#"{"match": [{"when": {"out": 9}, "price": 0}, {"when": {"size": "big"}, "price": {"meters": {"out": {"per": 1, "credits": "2"}}}},
                      {"price": {"meters": {"out": {"per": 1, "credits": "0.5"}}, "minimum": "3"}}]}"#,
    ),
    ("free", "quantity", "0"),
];

fn one<'a>(random: &mut StdRng, of: &[&'a str]) -> &'a str {
    of.choose(random).copied().unwrap_or_default()
}

/// A wallet with a past: grants, an overdraft, limits of both kinds, and what was spent and is held.
fn make(client: &mut Client, random: &mut StdRng, who: &str, action: &str, vary: &str) {
    let mut calls = vec![format!(
        "open_wallet('{who}', overdraft_limit => {})",
        one(random, &["0", "0", "7.5", "40"])
    )];
    let any = [
        "NULL".to_owned(),
        "NULL".to_owned(),
        format!("'{{{action}}}'"),
        "'{chat*,monthly*}'".to_owned(),
        "'{nothing}'".to_owned(),
    ];
    for _ in 0..random.random_range(0..5) {
        let applies_to = any.choose(random).cloned().unwrap_or_default();
        let cents = random.random_range(1..4000);
        calls.push(format!(
            "grant_credits('{who}', {cents} * 0.01, priority => {}, applies_to => {applies_to})",
            random.random_range(99..102)
        ));
    }
    for _ in 0..random.random_range(0..6) {
        let scope = one(
            random,
            &[
                "user:*",
                "user:a",
                "key:*",
                "key:k",
                "action:*",
                "action:chat*",
                "action:monthly*",
            ],
        );
        let every = one(
            random,
            &["hour", "day", "month", "year", "ever", "5 hours", "7 days"],
        );
        let (counts, cap) = match random.random_range(0..4) {
            0 => ("calls", random.random_range(1..8) * 100),
            _ => ("credits", random.random_range(0..6000)),
        };
        let required =
            scope.ends_with(":*") && !scope.starts_with("action") && random.random_bool(0.2);
        calls.push(format!(
            "set_limit('{who}', '{scope}', {cap} * 0.01, '{every}', counts => '{counts}', warn_at => {}, required => {required})",
            one(random, &["0.8", "0.5", "1", "0.01"])
        ));
    }
    for _ in 0..random.random_range(0..6) {
        let amount = random.random_range(1..25);
        let verb = one(random, &["debit_credits", "authorize"]);
        let (quantity, dims) = match vary {
            "quantity" => (amount, "{}".to_owned()),
            name => (1, format!(r#"{{"{name}": {amount}, "in": 5}}"#)),
        };
        calls.push(format!(
            "{verb}('{who}', '{action}', {quantity}, '{dims}', scopes => '{}')",
            one(
                random,
                &["{}", "{user:a}", "{user:b,key:k}", "{user:a,key:k}"]
            )
        ));
    }
    if random.random_bool(0.03) {
        calls.push(format!("freeze_wallet('{who}')"));
    }
    for call in calls {
        // A spend that is refused is a past like any other.
        if let Err(refused) = attempt(client, &format!("SELECT credyt.{call}")) {
            assert!(refused.code.starts_with("WC00"), "{call}: {refused:?}");
        }
    }
}

#[test]
fn what_is_affordable_is_what_trying_every_amount_finds() {
    let cases = std::env::var("CREDYT_CASES").ok();
    let cases: u64 = cases.and_then(|n| n.parse().ok()).unwrap_or(300);
    let database = Database::new("affordable");
    let mut client = database.connect();
    clock(&mut client, "2100-03-10 12:00Z");
    rows(&mut client, TRIED);
    for (action, _, price) in PRICES {
        rows(
            &mut client,
            &format!("SELECT credyt.set_price('{action}', '{price}')"),
        );
    }
    let (mut by_limit, mut by_balance, mut partly) = (0, 0, 0);
    for case in 0..cases {
        let mut random = StdRng::seed_from_u64(case);
        let random = &mut random;
        let Some((action, vary, price)) = PRICES.choose(random) else {
            panic!("no prices");
        };
        let who = format!("c{case}");
        make(&mut client, random, &who, action, vary);
        let dims = one(random, &[r#"{"in": 7}"#, r#"{"size": "big"}"#, "{}"]);
        let scopes = one(
            random,
            &["{}", "{user:a}", "{user:b}", "{key:k}", "{user:a,key:k}"],
        );
        let step: Decimal = one(random, &["1", "1", "0.5", "0.25", "3", "7"])
            .parse()
            .expect("a number");
        let label = format!("case {case}: {action} {price}, {dims}, {scopes}, step {step}");

        // Every amount, by trying.
        let tried = |client: &mut Client, amounts: &str| -> Vec<(Decimal, Option<Decimal>)> {
            let sql = format!(
                "SELECT n, tried('{who}', '{action}', '{vary}', n, '{dims}', '{scopes}') FROM {amounts} AS n"
            );
            let pair = |line: String| {
                let (amount, paid) = line.split_once(' ').expect("two columns");
                (amount.parse().expect("a number"), paid.parse().ok())
            };
            values(client, &sql).into_iter().map(pair).collect()
        };
        let all = tried(
            &mut client,
            &format!("generate_series({step}, {step} * {STEPS}, {step})"),
        );
        let payable: Vec<(Decimal, Decimal)> = (all.iter())
            .filter_map(|(amount, paid)| Some((*amount, (*paid)?)))
            .collect();

        let answer = value(
            &mut client,
            &format!(
                "SELECT amount, credits, bound FROM credyt.affordable('{who}', '{action}', '{vary}', '{dims}', {step}, scopes => '{scopes}')"
            ),
        );
        let parts: Vec<&str> = answer.split(' ').collect();
        let [amount, credits, bound] = parts[..] else {
            panic!("{label}: {answer}");
        };
        let credits: Decimal = credits.parse().expect("credits");
        match (amount.parse::<Decimal>().ok(), payable.last()) {
            // No end: whatever is tried can be paid, at this price at most.
            (None, _) => {
                assert_eq!(bound, "none", "{label}");
                let huge = tried(
                    &mut client,
                    &format!("unnest(ARRAY[{step} * 1000003, {step} * 1e13])"),
                );
                assert!(
                    huge.iter()
                        .all(|(_, paid)| paid.is_some_and(|paid| paid <= credits)),
                    "{label}: {huge:?}"
                );
            }
            (Some(amount), None) if amount.is_zero() => assert!(credits.is_zero(), "{label}"),
            (Some(amount), Some(last)) if amount <= step * Decimal::from(STEPS) => {
                assert_eq!((amount, credits), *last, "{label}");
            }
            (Some(amount), _) => {
                let after = tried(
                    &mut client,
                    &format!("generate_series({amount}, {amount} + {step} * 40, {step})"),
                );
                assert_eq!(after[0], (amount, Some(credits)), "{label}");
                assert!(
                    after[1..].iter().all(|(_, paid)| paid.is_none()),
                    "{label}: {after:?}"
                );
            }
        }
        by_limit += u32::from(bound == "limit");
        by_balance += u32::from(bound == "balance");

        // The hold: up to what is asked for, and not below the least.
        let asked = step * Decimal::from(random.random_range(1..=STEPS))
            + Decimal::new(i64::from(random.random_bool(0.3)), 1);
        let least = random
            .random_bool(0.4)
            .then(|| step * Decimal::from(random.random_range(1..20)));
        let expected = (payable.iter().rev())
            .find(|(amount, _)| *amount <= asked && *amount >= least.unwrap_or(step));
        let (quantity, asks) = match *vary {
            "quantity" => (asked, dims.to_owned()),
            name => {
                let mut asks: serde_json::Value = serde_json::from_str(dims).expect("dimensions");
                asks[name] = serde_json::from_str(&asked.to_string()).expect("a number");
                (Decimal::ONE, asks.to_string())
            }
        };
        let least_text = least.map_or("NULL".to_owned(), |least| least.to_string());
        let hold = format!(
            "SELECT approved, granted, credits FROM credyt.authorize('{who}', '{action}', {quantity}, '{asks}', scopes => '{scopes}',
                 vary => '{vary}', step => {step}, at_least => {least_text})"
        );
        let held = match attempt(&mut client, &hold) {
            Ok(found) => [0, 1, 2]
                .map(|at| found[0].get(at).unwrap_or("-"))
                .join(" "),
            // The least amount has no price: two cases of it apply.
            Err(refused) => {
                assert_eq!(
                    (refused.code.as_str(), expected),
                    ("WC003", None),
                    "{hold}: {refused:?}"
                );
                continue;
            }
        };
        let label = format!("{label}, asked {asked}, at least {least:?}");
        match (
            expected,
            held.strip_prefix("t ")
                .and_then(|held| held.split_once(' ')),
        ) {
            (Some((amount, paid)), Some((granted, credits))) => {
                assert_eq!(granted.parse(), Ok(*amount), "{label}: {held}");
                assert_eq!(credits.parse(), Ok(*paid), "{label}: {held}");
                partly += u32::from(*amount + step <= asked);
            }
            (None, None) => assert!(held.starts_with("f - "), "{label}: {held}"),
            _ => panic!("{label}: {held}, expected {expected:?}"),
        }
    }
    println!(
        "{cases} wallets: {by_limit} bound by a limit, {by_balance} by the balance, {partly} holds of a part"
    );
    let few = u32::try_from(cases / 15).unwrap_or(1);
    assert!(
        by_limit > few && by_balance > few && partly > few,
        "{by_limit} {by_balance} {partly}"
    );
}
