//! Tiers over a month: the count is exact, however many spend at once.

mod support;

use support::sql::{Database, attempt, clock, rows, value};

const TIERS: [(i64, i64); 3] = [(500, 5), (1500, 3), (i64::MAX, 1)];

/// What it costs to come from nothing to a count, in whole credits.
fn all_of(count: i64) -> i64 {
    let mut credits = 0;
    let mut start = 0;
    for (up_to, rate) in TIERS {
        credits += (count.min(up_to) - start).max(0) * rate;
        start = up_to;
    }
    credits
}

fn tiered(name: &str) -> Database {
    let database = Database::new(name);
    rows(
        &mut database.connect(),
        r#"SELECT credyt.set_price('image', '{"graduated": [{"up_to": 500, "per_unit": 5}, {"up_to": 1500, "per_unit": 3}, {"per_unit": 1}], "over": "month"}');
           SELECT credyt.grant_credits('ann', 100000)"#,
    );
    database
}

/// 24 connections debit, hold, book batches and late usage: in every month the debits cost what the
/// same quantity costs one after another, since slices add up in whatever order they come.
#[test]
fn debits_of_24_connections_cost_what_a_serial_model_says() {
    let database = tiered("tiers_at_once");
    clock(&mut database.connect(), "2036-03-15 12:00+00");
    database.at_once(24, |nth, client| {
        for round in 0..20 {
            let quantity = 1 + (nth * 7 + round * 3) % 5;
            let call = match (nth + round) % 4 {
                0 => format!("SELECT credits FROM credyt.debit_credits('ann', 'image', {quantity})"),
                1 => format!(
                    "SELECT credits FROM credyt.debit_credits('ann', 'image', {quantity}, occurred_at => '2036-02-10')"
                ),
                2 => format!(
                    r#"SELECT credits FROM credyt.debit_many('[{{"customer": "ann", "action": "image", "quantity": {quantity}}},
                        {{"customer": "ann", "action": "image", "quantity": 2, "occurred_at": "2036-02-01"}},
                        {{"customer": "ann", "action": "image", "quantity": 1}}]')"#
                ),
                _ => format!(
                    "SELECT c.credits FROM credyt.authorize('ann', 'image', {quantity}, credits => 5) a,
                            credyt.debit_credits('ann', 'image', {quantity}, occurred_at => '2036-03-01') c"
                ),
            };
            attempt(client, &call).unwrap_or_else(|refused| panic!("{call}: {refused:?}"));
        }
    });
    let mut client = database.connect();
    for month in ["2036-02-01", "2036-03-01"] {
        let of = |what: &str| {
            format!(
                "SELECT {what} FROM credyt.ledger WHERE kind = 'debit' AND date_trunc('month', occurred_at AT TIME ZONE 'UTC') = '{month}'"
            )
        };
        let used: i64 = value(&mut client, &of("sum(quantity)")).parse().unwrap();
        let charged: i64 = value(&mut client, &of("sum(-credits)")).parse().unwrap();
        assert!(used > 500, "{month}: {used}");
        assert_eq!(charged, all_of(used), "{month}: {used}");
    }
    assert_eq!(
        value(
            &mut client,
            "SELECT m->>'used' = (SELECT sum(quantity)::text FROM credyt.ledger WHERE kind = 'debit' AND occurred_at >= '2036-03-01')
             FROM credyt.wallets w, jsonb_array_elements(w.state::jsonb->'month_uses') m WHERE w.customer = 'ann'"
        ),
        "t"
    );
    assert!(database.broken_invariants().is_empty());
}

/// Holds of many connections are charged at the tiers they were authorized at.
#[test]
fn captures_cost_what_their_authorizations_say() {
    let database = tiered("tiers_held");
    let differences = database.at_once(24, |_, client| {
        let mut differences = Vec::new();
        for _ in 0..8 {
            let hold = value(
                client,
                "SELECT id, credits FROM credyt.authorize('ann', 'image', 30)",
            );
            let (id, held) = hold.split_once(' ').unwrap();
            let held: i64 = held.parse().unwrap();
            let part =
                format!("SELECT credits FROM credyt.capture('ann', '{id}', 13, keep_open => true)");
            let rest = format!("SELECT credits FROM credyt.capture('ann', '{id}', 30)");
            let charged: i64 = value(client, &part).parse::<i64>().unwrap()
                + value(client, &rest).parse::<i64>().unwrap();
            if charged != held {
                differences.push((id.to_owned(), held, charged));
            }
        }
        differences
    });
    assert!(differences.concat().is_empty());
    let mut client = database.connect();
    let wrong = "SELECT a.id, a.month_used, a.credits FROM credyt.authorizations a
                 WHERE a.month_used IS NULL OR a.captured <> a.credits OR a.captured_quantity <> 30";
    assert!(rows(&mut client, wrong).is_empty());
    assert_eq!(
        value(
            &mut client,
            "SELECT breakdown->>'used' FROM credyt.quote('image', 1, customer => 'ann')"
        ),
        (24 * 8 * 30).to_string()
    );
    assert!(database.broken_invariants().is_empty());
}
