//! `usage` from the rollup and the ledger together, against sums over the ledger alone: random lives in time zones that
//! set their clocks back at midnight, usage that is told late, holds captured in parts, refunds and closed periods.

mod support;

use jiff::{SignedDuration, Timestamp};
use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng, prelude::IndexedRandom};
use support::sql::{Database, attempt, clock, rows, value, values};

/// What `usage` says otherwise than the ledger. A bucket of a range without `by` may be there with zeros.
const WRONG: &str = "
    CREATE FUNCTION wrong(who text, what text, since timestamptz, until timestamptz, unit text, by_action boolean, zone text)
    RETURNS TABLE (told text) LANGUAGE sql AS $$
        WITH rows AS (
            SELECT l.*, min(l.id::text) FILTER (WHERE l.authorization_id IS NOT NULL) OVER (PARTITION BY l.authorization_id) AS first
            FROM credyt.ledger l WHERE l.customer = who AND l.asset = what AND l.kind IN ('debit', 'refund')
        ),
        expected AS (
            SELECT CASE WHEN unit = 'all' THEN since ELSE date_trunc(unit, l.occurred_at, zone) END AS bucket_start,
                   CASE WHEN by_action THEN l.action END AS action,
                   count(*) FILTER (WHERE l.kind = 'debit' AND (l.authorization_id IS NULL OR l.first = l.id::text)) AS calls,
                   coalesce(sum(l.quantity) FILTER (WHERE l.kind = 'debit'), 0) AS quantity, -sum(l.credits) AS credits
            FROM rows l WHERE (since IS NULL OR l.occurred_at >= since) AND l.occurred_at < until
            GROUP BY 1, 2
        ),
        answer AS (
            SELECT u.bucket_start, u.action, u.calls, u.quantity, u.credits
            FROM credyt.usage(who, since, until, unit, CASE WHEN by_action THEN '{action}' ELSE '{}' END::text[], what) u
        )
        SELECT w::text FROM (
            ((SELECT 'missing', * FROM expected) EXCEPT ALL (SELECT 'missing', * FROM answer))
            UNION ALL
            ((SELECT 'wrong', * FROM answer) EXCEPT ALL (SELECT 'wrong', * FROM expected))
        ) w WHERE by_action OR w.calls <> 0 OR w.quantity <> 0 OR w.credits <> 0
    $$";

const ZONES: [(&str, &str); 3] = [
    ("coins", "Europe/Berlin"),
    ("rocks", "America/St_Johns"),
    ("pearls", "Asia/Kathmandu"),
];

fn spend(client: &mut Client, random: &mut StdRng, now: Timestamp) {
    let (customer, (asset, _)) = (
        ["ann", "bob"].choose(random).unwrap(),
        ZONES.choose(random).unwrap(),
    );
    let action = ["image", "chat", "video"].choose(random).unwrap();
    let late = match random.random_range(0..4) {
        0 => SignedDuration::from_mins(random.random_range(0..60 * 24 * 6)),
        _ => SignedDuration::from_secs(0),
    };
    let cents = random.random_range(0..900);
    let call = match random.random_range(0..6) {
        0..=2 => format!(
            "SELECT credyt.debit_credits('{customer}', '{action}', {cents} * 0.01, credits => {cents} * 0.01, asset => '{asset}',
                 occurred_at => '{}')",
            now - late
        ),
        3 => format!(
            "SELECT credyt.capture('{customer}', h.id, 2, credits => {cents} / 100 * 0.9, keep_open => {}) FROM (
                 SELECT a.id FROM credyt.open_authorizations a WHERE a.customer = '{customer}' AND a.asset = '{asset}'
                 UNION ALL
                 SELECT a.id FROM credyt.authorize('{customer}', '{action}', credits => 9, ttl_seconds => 400000, asset => '{asset}') a
                 LIMIT 1) h",
            random.random_bool(0.7)
        ),
        4 => format!(
            "SELECT credyt.capture('{customer}', a.id, 3, credits => a.captured + 1.5, keep_open => true)
             FROM credyt.open_authorizations a WHERE a.customer = '{customer}' AND a.asset = '{asset}' LIMIT 1"
        ),
        _ => format!(
            "SELECT credyt.refund('{customer}', d.id, 0.01) FROM (
                 SELECT id FROM credyt.ledger WHERE customer = '{customer}' AND asset = '{asset}' AND kind = 'debit' AND credits < -0.02
                 ORDER BY md5(id::text || '{cents}') LIMIT 1) d"
        ),
    };
    if let Err(refused) = attempt(client, &call) {
        assert!(refused.code.starts_with("WC0"), "{call}: {refused:?}");
    }
}

/// Ranges between random moments, and those that begin or end with a day.
fn compare(client: &mut Client, random: &mut StdRng, first: Timestamp, now: Timestamp) {
    let span = now.as_second() - first.as_second();
    for (asset, zone) in ZONES {
        for unit in ["day", "week", "month", "hour", "all"] {
            let mut moment = |from: i64| {
                let at = first.as_second() + random.random_range(from..span + 90_000);
                let at = Timestamp::from_second(at).expect("a moment");
                if random.random_bool(0.5) {
                    format!("date_trunc('day', timestamptz '{at}', '{zone}')")
                } else {
                    format!("timestamptz '{at}'")
                }
            };
            let (one, two) = (moment(-90_000), moment(0));
            let since = if unit == "all" && random.random_bool(0.5) {
                "NULL".to_owned()
            } else {
                format!("least({one}, {two})")
            };
            let by_action = random.random_bool(0.5);
            let wrong = format!(
                "SELECT c, told FROM unnest('{{ann,bob,cy}}'::text[]) c,
                     wrong(c, '{asset}', {since}, greatest({one}, {two}), '{unit}', {by_action}, '{zone}')"
            );
            assert_eq!(values(client, &wrong), [""; 0], "{wrong}");
        }
    }
}

#[test]
fn what_is_rolled_up_is_used_as_if_it_were_not() {
    let database = Database::new("usage_rollup");
    let mut client = database.connect();
    rows(&mut client, WRONG);
    // St. John's set its clocks back at one minute past midnight then.
    let first: Timestamp = "2010-11-01T09:00:00Z".parse().expect("a moment");
    clock(&mut client, first);
    for (asset, zone) in ZONES {
        rows(
            &mut client,
            &format!(
                "SELECT credyt.create_asset('{asset}', timezone => '{zone}'); SELECT credyt.set_price(a, '1', '{asset}') FROM unnest('{{image,chat,video}}'::text[]) a;
                 SELECT credyt.grant_credits(c, 3000, asset => '{asset}') FROM unnest('{{ann,bob}}'::text[]) c"
            ),
        );
    }
    let mut random = StdRng::seed_from_u64(14);
    let random = &mut random;
    let mut now = first;
    for round in 0..72 {
        for _ in 0..6 {
            spend(&mut client, random, now);
            now += SignedDuration::from_secs(random.random_range(1..7200));
            clock(&mut client, now);
        }
        match round % 6 {
            1 => rows(&mut client, "SELECT credyt.maintain(2)").len(),
            3 | 4 => rows(&mut client, "SELECT credyt.maintain()").len(),
            _ => 0,
        };
        if round == 40 {
            rows(
                &mut client,
                &format!(
                    "SELECT credyt.close_period('{now}'::timestamptz - interval '1 day', 'coins')"
                ),
            );
        }
        compare(&mut client, random, first, now);
    }
    // All of it rolled up, days that were told about late among them; and emptied.
    while value(&mut client, "SELECT rolled_up FROM credyt.maintain()") != "0" {}
    let read = "SELECT count(*) FROM credyt.ledger WHERE kind IN ('debit', 'refund')";
    assert!(value(&mut client, read).parse::<u32>().unwrap() > 200);
    for _ in 0..20 {
        compare(&mut client, random, first, now);
    }
    // It is the rollup that is read: a wrong sum there is told.
    let whole = format!(
        "FROM wrong('ann', 'coins', '{first}'::timestamptz - interval '9 days', '{now}', 'day', true, 'Europe/Berlin')"
    );
    let days = "SELECT count(*) FROM credyt.usage_days WHERE customer = 'ann' AND asset = 'coins'";
    let differ = format!(
        "BEGIN; UPDATE credyt.usage_days SET calls = calls + 1; SELECT count(*) FILTER (WHERE told LIKE '(wrong%') {whole}"
    );
    let differ = value(&mut client, &differ);
    assert_eq!(value(&mut client, days), differ);
    rows(&mut client, "ROLLBACK");
    rows(
        &mut client,
        "TRUNCATE credyt.rollup_progress, credyt.margin_days, credyt.margin_customers, credyt.margin_scopes, credyt.usage_days",
    );
    compare(&mut client, random, first, now);
}
