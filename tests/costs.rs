//! Vendor costs from many sources: each call of a vendor counts once, by what is known best of it,
//! whatever comes first; and what is recorded late moves revenue between models, never makes any.

mod support;

use postgres::Client;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use support::sql::{Database, attempt, rows, value, values};

const MODELS: [(&str, &str); 4] = [
    ("acme", "large"),
    ("acme", "small"),
    ("other", "large"),
    // Its rate is not known until the end.
    ("other", "new"),
];
const SOURCES: [&str; 3] = ["estimated", "reported", "invoiced"];

/// One call of a vendor, with all that was said about its cost.
struct Call {
    vendor: &'static str,
    model: &'static str,
    request: String,
    units: u32,
    debit: Option<usize>,
    /// By the debit's usage; `None`: it was not told there, or its rate was not known.
    given: Option<Decimal>,
    with_debit: bool,
    recorded: BTreeMap<usize, Decimal>,
}

impl Call {
    fn best(&self) -> Option<Decimal> {
        self.recorded.values().next_back().copied().or(self.given)
    }
}

fn rate(vendor: &str, model: &str) -> Decimal {
    match (vendor, model) {
        ("acme", "large") => Decimal::new(2, 3),
        ("acme", _) => Decimal::new(7, 4),
        (_, "large") => Decimal::new(31, 4),
        _ => Decimal::new(11, 3),
    }
}

fn set_rate(client: &mut Client, vendor: &str, model: &str) {
    let sql = format!(
        "SELECT credyt.set_vendor_rate('{vendor}', '{model}', '{{\"unit\": \"{}\"}}')",
        rate(vendor, model)
    );
    rows(client, &sql);
}

/// Known costs by vendor and model, as ledger and postings add up to.
const BY_MODEL: &str = "
    SELECT vendor, model, sum(cost)::text FROM (
        SELECT p.part->>'vendor' AS vendor, p.part->>'model' AS model, (p.part->>'cost')::numeric AS cost
        FROM credyt.ledger l, jsonb_array_elements(l.costs) AS p (part) WHERE l.kind = 'debit'
        UNION ALL
        SELECT a.line->>'vendor', a.line->>'model', (a.line->>'cost')::numeric
        FROM credyt.cost_postings p, jsonb_array_elements(p.lines) AS a (line)) x
    GROUP BY vendor, model HAVING sum(cost) <> 0 ORDER BY vendor, model";

const MARGIN_BY_MODEL: &str = "
    SELECT vendor, model, cost::text FROM credyt.margin('{vendor, model}') WHERE cost <> 0";

const COSTED: &str = "
    SELECT (SELECT count(*) FROM credyt.ledger WHERE kind = 'debit' AND cost IS NOT NULL)
         + (SELECT coalesce(sum(costed), 0) FROM credyt.cost_postings)";

fn check(client: &mut Client, calls: &[Call], debits: usize) {
    let mut expected: BTreeMap<(&str, &str), Decimal> = BTreeMap::new();
    for call in calls {
        if let Some(cost) = call.best() {
            *expected.entry((call.vendor, call.model)).or_default() += cost;
        }
    }
    expected.retain(|_, cost| !cost.is_zero());
    let expected: BTreeMap<(String, String), Decimal> = expected
        .into_iter()
        .map(|((vendor, model), cost)| ((vendor.to_owned(), model.to_owned()), cost.normalize()))
        .collect();
    for sql in [BY_MODEL, MARGIN_BY_MODEL] {
        let seen: BTreeMap<(String, String), Decimal> = rows(client, sql)
            .iter()
            .map(|row| {
                let text = |at| row.get(at).unwrap_or("-").to_owned();
                let cost = text(2).parse::<Decimal>().expect("a number");
                ((text(0), text(1)), cost.normalize())
            })
            .collect();
        assert_eq!(seen, expected, "{sql}");
    }
    let known = (0..debits)
        .filter(|debit| {
            let mut own = calls
                .iter()
                .filter(|call| call.debit == Some(*debit))
                .peekable();
            own.peek().is_some() && own.all(|call| call.best().is_some())
        })
        .count();
    assert_eq!(value(client, COSTED), known.to_string());
    let coverage = value(
        client,
        "SELECT round(debits * cost_coverage, 6) = round(debits * cost_coverage), round(debits * cost_coverage) FROM credyt.margin('{}')",
    );
    assert!(
        coverage == format!("t {known}") || debits == 0,
        "{coverage}, {known} are known"
    );
}

#[test]
fn each_call_counts_once_whoever_tells_it() {
    for seed in 0..6 {
        one_life(seed);
    }
}

fn one_life(seed: u64) {
    let database = Database::new(&format!("costs_{seed}"));
    let mut client = database.connect();
    let client = &mut client;
    for (vendor, model) in &MODELS[..3] {
        set_rate(client, vendor, model);
    }
    rows(
        client,
        "SELECT credyt.grant_credits('ann', 100000, paid => 1000)",
    );
    let mut random = StdRng::seed_from_u64(seed);
    let (mut calls, mut debits): (Vec<Call>, Vec<String>) = (Vec::new(), Vec::new());
    for _ in 0..120 {
        match random.random_range(0..10) {
            0..4 => {
                let first = calls.len();
                for _ in 0..random.random_range(1..4) {
                    let (vendor, model) = *MODELS.choose(&mut random).expect("one");
                    let units = random.random_range(0..1000);
                    let known = model != "new";
                    calls.push(Call {
                        vendor,
                        model,
                        request: format!("req-{}", calls.len()),
                        units,
                        debit: Some(debits.len()),
                        given: known.then(|| rate(vendor, model) * Decimal::from(units)),
                        with_debit: true,
                        recorded: BTreeMap::new(),
                    });
                }
                let usage: Vec<String> = calls[first..]
                    .iter()
                    .map(|call| {
                        format!(
                            r#"{{"vendor": "{}", "model": "{}", "vendor_request_id": "{}", "body": {{"unit": {}}}}}"#,
                            call.vendor, call.model, call.request, call.units
                        )
                    })
                    .collect();
                let sql = format!(
                    "SELECT id FROM credyt.debit_credits('ann', 'image', {}, usage => '[{}]')",
                    random.random_range(0..5),
                    usage.join(", ")
                );
                debits.push(value(client, &sql));
            }
            4..8 if !calls.is_empty() => {
                let at = random.random_range(0..calls.len());
                let source = random.random_range(0..3);
                let call = &mut calls[at];
                let by_usage = call.model != "new" && random.random_bool(0.3);
                let cost = if by_usage {
                    rate(call.vendor, call.model) * Decimal::from(call.units)
                } else {
                    Decimal::new(random.random_range(0..100_000), 5)
                };
                let what = if by_usage {
                    format!("usage => '{{\"unit\": {}}}'", call.units)
                } else {
                    format!("cost => {cost}")
                };
                let whose = match call.debit {
                    Some(debit) if random.random() => {
                        format!(", debit_id => '{}'", debits[debit])
                    }
                    _ => String::new(),
                };
                let sql = format!(
                    "SELECT replayed FROM credyt.record_cost('ann', '{}', '{}', {what}, source => '{}', vendor_request_id => '{}'{whose})",
                    call.vendor, call.model, SOURCES[source], call.request
                );
                // What a debit told about its requests is its estimate of them.
                let known = call.recorded.contains_key(&source) || call.with_debit && source == 0;
                assert_eq!(value(client, &sql), if known { "t" } else { "f" });
                if !known {
                    call.recorded.insert(source, cost);
                }
            }
            8 => {
                let (vendor, model) = MODELS[random.random_range(0..3)];
                let cost = Decimal::new(random.random_range(0..100_000), 5);
                let source = random.random_range(0..3);
                let request = format!("alone-{}", calls.len());
                let sql = format!(
                    "SELECT cost FROM credyt.record_cost('ann', '{vendor}', '{model}', cost => {cost}, source => '{}', vendor_request_id => '{request}')",
                    SOURCES[source]
                );
                rows(client, &sql);
                calls.push(Call {
                    vendor,
                    model,
                    request,
                    units: 1,
                    debit: None,
                    given: None,
                    with_debit: false,
                    recorded: BTreeMap::from([(source, cost)]),
                });
            }
            _ => {
                if let Some(debit) = debits.choose(&mut random) {
                    let sql = format!("SELECT credyt.refund('ann', '{debit}', 1)");
                    let _ = attempt(client, &sql);
                }
            }
        }
    }
    check(client, &calls, debits.len());
    rows(client, "SELECT * FROM credyt.maintain()");
    check(client, &calls, debits.len());

    // The missing rate becomes known, and another one turns out to be wrong.
    set_rate(client, "other", "new");
    let missing = values(client, "SELECT debit_id FROM credyt.uncosted_usage").len();
    let unknown = |call: &&Call| call.with_debit && call.best().is_none();
    assert_eq!(missing, calls.iter().filter(unknown).count());
    rows(client, "SELECT * FROM credyt.recost('other')");
    for call in &mut calls {
        if call.with_debit && call.model == "new" {
            call.given = Some(rate(call.vendor, call.model) * Decimal::from(call.units));
        }
    }
    check(client, &calls, debits.len());
    assert!(values(client, "SELECT * FROM credyt.uncosted_usage").is_empty());
    assert!(values(client, "SELECT * FROM credyt.recost('other')").is_empty());
}

#[test]
fn one_request_told_by_24_connections_counts_once() {
    let database = Database::new("costs_race");
    let mut client = database.connect();
    rows(&mut client, "SELECT credyt.grant_credits('ann', 100)");
    let debit = value(
        &mut client,
        "SELECT id FROM credyt.debit_credits('ann', 'image')",
    );
    let answers = database.at_once(24, |nth, client| {
        value(
            client,
            &format!(
                "SELECT id, cost, replayed FROM credyt.record_cost('ann', 'acme', cost => {nth}, debit_id => '{debit}',
                     vendor_request_id => 'r', source => 'reported')"
            ),
        )
    });
    let first: Vec<&String> = answers
        .iter()
        .filter(|answer| answer.ends_with(" f"))
        .collect();
    assert_eq!(first.len(), 1);
    let same = first[0].trim_end_matches(" f");
    assert!(answers.iter().all(|answer| answer.starts_with(same)));
    assert_eq!(
        value(&mut client, "SELECT count(*) FROM credyt.vendor_costs"),
        "1"
    );
}

#[test]
fn the_new_rate_of_another_session_is_used_by_the_next_statement() {
    let database = Database::new("costs_rate");
    let (mut one, mut other) = (database.connect(), database.connect());
    rows(&mut one, "SELECT credyt.grant_credits('ann', 100)");
    let rate = |price: &str| {
        format!("SELECT credyt.set_vendor_rate('acme', 'gpu', '{{\"second\": \"{price}\"}}')")
    };
    let spend = "SELECT cost FROM credyt.debit_credits('ann', 'image',
        usage => '{\"vendor\": \"acme\", \"model\": \"gpu\", \"body\": {\"second\": 10}}')";
    assert_eq!(value(&mut one, spend), "-");
    rows(&mut other, &rate("0.01"));
    assert_eq!(value(&mut one, spend), "0.10");
    rows(&mut other, &rate("0.02"));
    assert_eq!(value(&mut one, spend), "0.20");
    rows(&mut other, "BEGIN");
    rows(&mut other, &rate("0.03"));
    assert_eq!(value(&mut one, spend), "0.20");
    rows(&mut other, "ROLLBACK");
    assert_eq!(value(&mut other, spend), "0.20");
}

#[test]
fn a_request_that_goes_through_several_captures_counts_once() {
    let database = Database::new("costs_stream");
    let mut client = database.connect();
    let client = &mut client;
    rows(
        client,
        "SELECT credyt.grant_credits('ann', 1000, paid => 100)",
    );
    set_rate(client, "acme", "large");
    let hold = value(
        client,
        "SELECT id FROM credyt.authorize('ann', 'image', 50)",
    );
    let capture = |client: &mut Client, units: u32| {
        let sql = format!(
            "SELECT cost FROM credyt.capture('ann', '{hold}', {units}, keep_open => true, usage =>
                 '{{\"vendor\": \"acme\", \"model\": \"large\", \"vendor_request_id\": \"r\", \"body\": {{\"unit\": {units}}}}}')"
        );
        value(client, &sql)
    };
    let known = |client: &mut Client| {
        value(
            client,
            "SELECT debits, cost, cost_coverage FROM credyt.margin_by_model WHERE model = 'large'",
        )
    };
    assert_eq!(capture(client, 10), "0.02");
    assert_eq!(capture(client, 16), "0.012");
    assert_eq!(known(client), "2 0.032 1");
    let reported = "SELECT cost FROM credyt.record_cost('ann', 'acme', 'large', vendor_request_id => 'r', cost => 0.04, source => 'reported')";
    rows(client, reported);
    assert_eq!(known(client), "2 0.04 1");
    // What is captured of it afterwards was in the report.
    assert_eq!(capture(client, 20), "0.00");
    assert_eq!(known(client), "3 0.04 1");
    let invoiced = "SELECT cost FROM credyt.record_cost('ann', 'acme', 'large', vendor_request_id => 'r', cost => 0.05, source => 'invoiced',
        debit_id => (SELECT id FROM credyt.ledger WHERE kind = 'debit' ORDER BY seq DESC LIMIT 1))";
    rows(client, invoiced);
    assert_eq!(known(client), "3 0.05 1");
    rows(client, "SELECT * FROM credyt.maintain()");
    assert_eq!(known(client), "3 0.05 1");
}
