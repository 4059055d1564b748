//! `maintain` changes no balance: what readers see is the same before it, while it runs and after it,
//! however many entries are pending and from however many sessions it is called.

mod support;

use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::sql::{Database, attempt, clock, rows, value, values};

/// What readers see of wallets, grants and limits, row by row.
fn seen(client: &mut Client) -> Vec<String> {
    let views = ["wallet_balances", "grant_balances", "limits_used"];
    let rows = views.map(|view| {
        let sql = format!(
            "SELECT '{view} ' || to_jsonb(v)::text FROM credyt.{view} v ORDER BY to_jsonb(v)::text COLLATE \"C\""
        );
        values(client, &sql)
    });
    rows.concat()
}

/// Customers with grants that end, plans that renew, holds that end, limits and debts.
fn lively(client: &mut Client, random: &mut StdRng) {
    rows(
        client,
        "SELECT credyt.create_plan('day', 20, '1 day', paid => 3, rollover => 7),
                credyt.create_plan('hours', 5, '1 week', rollover => NULL),
                credyt.create_plan('seat', 0, '1 day')",
    );
    for n in 0..40 {
        let customer = format!("c{n}");
        let ends = random.random_range(1..200);
        let mut calls = vec![
            format!(
                "credyt.open_wallet('{customer}', overdraft_limit => {})",
                n % 3 * 10
            ),
            format!(
                "credyt.grant_credits('{customer}', 30, paid => 7, expires_at => credyt_now() + interval '{ends} hours')"
            ),
            format!(
                "credyt.grant_credits('{customer}', 10, kind => 'promotional', effective_at => credyt_now() + interval '{ends} hours')"
            ),
            format!("credyt.set_limit('{customer}', 'user:*', 1000, 'day')"),
            format!("credyt.set_limit('{customer}', 'action:image', 1000, 'hour')"),
            format!("credyt.set_alert('{customer}', 15)"),
        ];
        for plan in ["day", "hours", "seat"] {
            if random.random_bool(0.4) {
                calls.push(format!("credyt.subscribe('{customer}', '{plan}')"));
            }
        }
        if n % 7 == 0 {
            calls.push(format!("credyt.freeze_wallet('{customer}')"));
        }
        rows(client, &format!("SELECT {}", calls.join(", ")));
    }
}

/// Spends, holds and gives back at random; refusals are part of it.
fn live(client: &mut Client, random: &mut StdRng, calls: usize) {
    for _ in 0..calls {
        let customer = format!("c{}", random.random_range(0..40));
        let user = random.random_range(0..30);
        let credits = random.random_range(0..12);
        let sql = match random.random_range(0..5) {
            0 => format!(
                "SELECT credyt.authorize('{customer}', 'image', credits => {credits}, ttl_seconds => {}, scopes => '{{user:{user}}}')",
                random.random_range(1..200_000)
            ),
            1 => format!(
                "SELECT credyt.refund('{customer}', l.id) FROM credyt.ledger l
                 WHERE l.customer = '{customer}' AND l.kind = 'debit' ORDER BY l.id DESC LIMIT 1"
            ),
            _ => format!(
                "SELECT credyt.debit_credits('{customer}', 'image', credits => {credits}, scopes => '{{user:{user}}}')"
            ),
        };
        let _ = attempt(client, &sql);
    }
}

#[test]
fn no_balance_changes() {
    let database = Database::new("maintain");
    let mut client = database.connect();
    let mut random = StdRng::seed_from_u64(7);
    clock(&mut client, "2026-03-01 00:00+00");
    rows(
        &mut client,
        "CREATE FUNCTION credyt_now() RETURNS timestamptz LANGUAGE sql AS 'SELECT now FROM credyt.clock'",
    );
    lively(&mut client, &mut random);
    let (mut booked, mut pruned) = (0, 0);
    for day in 1..14 {
        live(&mut client, &mut random, 60);
        clock(
            &mut client,
            format!("2026-03-{day:02} {:02}:30+00", random.random_range(0..24)),
        );
        rows(
            &mut client,
            "SELECT credyt.ack_events(ARRAY(SELECT id FROM credyt.events_pending LIMIT 50))",
        );
        let before = seen(&mut client);
        assert!(before.len() > 120, "{} rows", before.len());
        // Several at once, in small steps, and a reader beside them.
        let done = database.at_once(4, |n, client| {
            let mut sums = (0, 0);
            for _ in 0..200 {
                if n == 3 {
                    assert_eq!(seen(client), before, "day {day}, while maintain runs");
                    return sums;
                }
                let did = value(
                    client,
                    "SELECT booked, rolled_up, pruned FROM credyt.maintain(3)",
                );
                let counts: Vec<i64> = did.split(' ').map(|n| n.parse().unwrap()).collect();
                sums = (sums.0 + counts[0], sums.1 + counts[2]);
                if did == "0 0 0" {
                    return sums;
                }
            }
            panic!("maintain has always something to do");
        });
        booked += done.iter().map(|sums| sums.0).sum::<i64>();
        pruned += done.iter().map(|sums| sums.1).sum::<i64>();
        assert_eq!(seen(&mut client), before, "day {day}, after maintain");
        assert_eq!(database.broken_invariants(), [""; 0], "day {day}");
    }
    // It had something to do, of each sort.
    assert!(
        booked > 100 && pruned > 100,
        "{booked} booked, {pruned} pruned"
    );
    for (what, sql) in [
        (
            "renewals",
            "SELECT count(*) FROM credyt.ledger WHERE kind = 'grant' AND reason LIKE 'plan %'",
        ),
        (
            "expiries",
            "SELECT count(*) FROM credyt.ledger WHERE kind = 'expiry'",
        ),
        (
            "ended holds",
            "SELECT count(*) FROM credyt.authorizations WHERE status = 'expired'",
        ),
    ] {
        let count: i64 = value(&mut client, sql).parse().unwrap();
        assert!(count > 10, "{count} {what}");
    }
}

#[test]
fn a_hold_that_it_ended_is_captured_late() {
    let database = Database::new("late_capture");
    let mut client = database.connect();
    clock(&mut client, "2026-03-01 00:00+00");
    rows(&mut client, "SELECT credyt.grant_credits('acme', 10)");
    let hold = value(
        &mut client,
        "SELECT id FROM credyt.authorize('acme', 'image', credits => 4)",
    );
    clock(&mut client, "2026-03-01 01:00+00");
    assert_eq!(
        value(&mut client, "SELECT booked FROM credyt.maintain()"),
        "1"
    );
    let status = "SELECT status FROM credyt.authorizations";
    assert_eq!(value(&mut client, status), "expired");
    let capture =
        format!("SELECT credits, available, reason FROM credyt.capture('acme', '{hold}')");
    assert_eq!(value(&mut client, &capture), "4 6 late");
    assert_eq!(value(&mut client, status), "captured");
    assert_eq!(
        value(&mut client, "SELECT booked FROM credyt.maintain()"),
        "0"
    );
}
