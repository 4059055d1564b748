//! Plans renew by themselves: exactly once, whoever comes, and for every reader before anyone comes.

mod support;

use postgres::Client;
use std::time::{Duration, Instant};
use support::Server;
use support::sql::{Database, attempt, clock, refusal, rows, value, values};

const BALANCE: &str = "SELECT settled, held, available, owed FROM credyt.balance('ann')";

/// All that can be read, one line each.
fn seen(client: &mut Client) -> Vec<String> {
    let mut seen = Vec::new();
    for view in [
        "wallet_balances",
        "grant_balances",
        "spend_order",
        "expiring_grants",
        "deferred_revenue",
        "breakage",
        "renewals",
        "open_authorizations",
    ] {
        let sql = format!("SELECT '{view}', v::text FROM credyt.{view} v ORDER BY 2");
        seen.extend(values(client, &sql));
    }
    seen
}

/// ann on the plan `pro`: 100 credits a month for 20, of which 30 roll over, from the 31st on.
fn on_pro(name: &str) -> (Database, Client) {
    let database = Database::new(name);
    let mut client = database.connect();
    clock(&mut client, "2100-01-31 10:00Z");
    rows(
        &mut client,
        "SELECT credyt.create_plan('pro', 100, paid => 20, rollover => 30);
         SELECT credyt.subscribe('ann', 'pro')",
    );
    (database, client)
}

#[test]
fn a_renewal_brings_what_it_was_seen_to_bring() {
    let (database, mut client) = on_pro("renew_seen");
    let mut slow = database.connect();
    rows(
        &mut slow,
        "BEGIN; SELECT credyt.create_plan('pro', 10, paid => 2, rollover => 0)",
    );
    // A renewal falls between the call and its commit, and nothing books it.
    clock(&mut client, "2100-02-28 10:00Z");
    assert_eq!(value(&mut client, BALANCE), "130 0 130 0");
    rows(&mut slow, "COMMIT");
    assert_eq!(value(&mut client, BALANCE), "130 0 130 0");
    rows(&mut client, "SELECT credyt.subscribe('bob', 'pro')");
    let bob = BALANCE.replace("ann", "bob");
    assert_eq!(value(&mut client, &bob), "10 0 10 0");
    clock(&mut client, "2100-03-31 10:00Z");
    assert_eq!(value(&mut client, BALANCE), "40 0 40 0");
    assert_eq!(database.broken_invariants(), [""; 0]);
}

#[test]
fn twenty_four_connections_renew_once() {
    let (database, mut client) = on_pro("renew_race");
    clock(&mut client, "2100-02-28 10:00Z");
    let debits = database.at_once(24, |_, client| {
        value(
            client,
            "SELECT credits FROM credyt.debit_credits('ann', 'image', credits => 5)",
        )
    });
    assert_eq!(debits, vec!["5"; 24]);
    assert_eq!(value(&mut client, BALANCE), "10 0 10 0");
    let grants = "SELECT count(*), count(DISTINCT effective_at) FROM credyt.grants WHERE origin IS NULL AND kind = 'included'";
    assert_eq!(value(&mut client, grants), "2 2");
    // At two months' distance, too, and with every verb that takes the wallet's lock.
    clock(&mut client, "2100-04-30 10:00Z");
    database.at_once(24, |nth, client| {
        let call = match nth % 6 {
            0 => "grant_credits('ann', 1, idempotency_key => 'once')",
            1 => "authorize('ann', 'image', 1, ttl_seconds => 1)",
            2 => "subscribe('ann', 'pro')",
            3 => "open_wallet('ann')",
            4 => "pay_subscription('ann', 'pro', '2200-01-01Z', 'once')",
            _ => "debit_credits('ann', 'image', idempotency_key => 'once')",
        };
        // The key is one call's; the others are told so.
        if let Err(refused) = attempt(client, &format!("SELECT credyt.{call}")) {
            assert_eq!(refused.code, "WC005", "{call}: {refused:?}");
        }
    });
    assert_eq!(value(&mut client, grants), "4 4");
}

#[test]
fn twenty_four_connections_subscribe_once() {
    let database = Database::new("subscribe_race");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.create_asset('other'), credyt.create_plan('pro', 100), credyt.create_plan('max', 7, asset => 'other')",
    );
    let answers = database.at_once(24, |_, client| {
        value(
            client,
            "SELECT id, replayed FROM credyt.subscribe('ann', 'pro')",
        )
    });
    assert_eq!(answers.iter().filter(|a| a.ends_with(" f")).count(), 1);
    assert_eq!(value(&mut client, BALANCE), "100 0 100 0");
    // One key for two plans of two assets: one wins, and the other books nothing.
    let answers = database.at_once(24, |nth, client| {
        let plan = if nth % 2 == 0 { "pro" } else { "max" };
        let call = format!(
            "SELECT replayed FROM credyt.subscribe('bob', '{plan}', idempotency_key => 'k')"
        );
        attempt(client, &call).map_or_else(
            |refused| refused.code,
            |rows| rows[0].get(0).unwrap().to_owned(),
        )
    });
    let count = |what: &str| answers.iter().filter(|answer| *answer == what).count();
    assert_eq!(
        (count("f"), count("t"), count("WC005")),
        (1, 11, 12),
        "{answers:?}"
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT count(*) FROM credyt.booked_subscriptions WHERE customer = 'bob'"
        ),
        "1"
    );
    // Plans, too: the same terms are one version, others another one each.
    let versions = database.at_once(24, |nth, client| {
        let credits = nth % 3 + 1;
        value(
            client,
            &format!("SELECT version FROM credyt.create_plan('raced', {credits})"),
        )
    });
    let highest = value(
        &mut client,
        "SELECT max(version) - min(version) + 1 = count(*) FROM credyt.plans WHERE plan = 'raced'",
    );
    assert_eq!(highest, "t", "{versions:?}");
}

#[test]
fn a_renewal_falls_due_inside_a_long_transaction() {
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let (database, mut client) = on_pro("renew_inside");
        rows(
            &mut client,
            "DELETE FROM credyt.clock; SELECT credyt.create_plan('day', 10, '1 day')",
        );
        // Its second day begins in a moment.
        rows(
            &mut client,
            "SELECT credyt.subscribe('bob', 'day', now() - interval '1 day' + interval '1 second')",
        );
        assert_eq!(
            value(
                &mut client,
                "SELECT count(*) FROM credyt.grants WHERE customer = 'bob'"
            ),
            "1"
        );
        rows(&mut client, &format!("BEGIN ISOLATION LEVEL {level}"));
        assert_eq!(
            value(
                &mut client,
                "SELECT available FROM credyt.debit_credits('bob', 'image', credits => 4)"
            ),
            "6"
        );
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(
            value(&mut client, "SELECT available FROM credyt.balance('bob')"),
            "10",
            "{level}"
        );
        assert_eq!(
            value(
                &mut client,
                "SELECT available FROM credyt.debit_credits('bob', 'image', credits => 4)"
            ),
            "6",
            "{level}"
        );
        rows(&mut client, "COMMIT");
        assert_eq!(
            value(
                &mut client,
                "SELECT count(*) FROM credyt.grants WHERE customer = 'bob'"
            ),
            "2"
        );
        drop(client);
        drop(database);
    }
}

#[test]
fn whoever_waits_for_a_renewal_sees_it() {
    let (database, mut client) = on_pro("renew_wait");
    clock(&mut client, "2100-02-28 10:00Z");
    rows(
        &mut client,
        "BEGIN; SELECT credyt.debit_credits('ann', 'image', credits => 100)",
    );
    let waited = database.waiting(
        |waiter| {
            value(
                waiter,
                "SELECT available FROM credyt.debit_credits('ann', 'image', credits => 30)",
            )
        },
        || {
            rows(&mut client, "COMMIT");
        },
    );
    assert_eq!(waited, "0");
    // Rolled back, it is as if it had not been.
    clock(&mut client, "2100-03-31 10:00Z");
    rows(
        &mut client,
        "BEGIN; SELECT credyt.debit_credits('ann', 'image', credits => 100)",
    );
    let waited = database.waiting(
        |waiter| {
            value(
                waiter,
                "SELECT available FROM credyt.debit_credits('ann', 'image', credits => 30)",
            )
        },
        || {
            rows(&mut client, "ROLLBACK");
        },
    );
    assert_eq!(waited, "70");
    assert_eq!(
        value(
            &mut client,
            "SELECT count(*) FROM credyt.grants WHERE origin IS NULL"
        ),
        "3"
    );
}

#[test]
fn a_year_of_missed_periods_is_read_as_it_will_be_booked() {
    let (_database, mut client) = on_pro("missed");
    rows(
        &mut client,
        "SELECT credyt.create_plan('day', 1, '1 day', paid => '0.3333333333', rollover => NULL, priority => 50);
         SELECT credyt.subscribe('ann', 'day', paid_through => '2100-06-01Z');
         SELECT credyt.open_wallet('ann', overdraft_limit => 500);
         SELECT credyt.debit_credits('ann', 'image', credits => 333)",
    );
    clock(&mut client, "2101-01-31 09:59:59Z");
    let before = seen(&mut client);
    let past = "SELECT (SELECT settled FROM credyt.balance('ann', at => t)), (SELECT owed FROM credyt.balance('ann', at => t))
                FROM generate_series('2100-02-01Z', '2101-01-31Z', interval '7 days') AS t";
    let history = values(&mut client, past);
    assert!(before.len() > 120, "{}", before.len());
    rows(
        &mut client,
        "SELECT credyt.open_wallet('ann', overdraft_limit => 500)",
    );
    assert_eq!(seen(&mut client), before);
    assert_eq!(values(&mut client, past), history);
    let starts = "SELECT effective_at::date FROM credyt.grants WHERE kind = 'included' AND priority = 100 AND origin IS NULL ORDER BY 1";
    assert_eq!(
        values(&mut client, starts),
        [
            "2100-01-31",
            "2100-02-28",
            "2100-03-31",
            "2100-04-30",
            "2100-05-31",
            "2100-06-30",
            "2100-07-31",
            "2100-08-31",
            "2100-09-30",
            "2100-10-31",
            "2100-11-30",
            "2100-12-31"
        ]
    );
    // 121 days were paid for.
    let days =
        "SELECT count(*), sum(credits) FROM credyt.grants WHERE priority = 50 AND origin IS NULL";
    assert_eq!(value(&mut client, days), "121 121");
}

/// However many grants there are and are due: the time that a view takes grows with them, and no faster.
#[test]
fn what_is_due_is_worked_through_once_for_all_grants() {
    let database = Database::new("plans_once");
    let mut client = database.connect();
    clock(&mut client, "2026-01-01Z");
    rows(
        &mut client,
        "SELECT credyt.create_plan('daily', 10, '1 day'), credyt.subscribe('ann', 'daily')",
    );
    clock(&mut client, "2026-02-01Z");
    rows(&mut client, "SET track_functions = 'all'; BEGIN");
    let grants = "SELECT count(*) FROM credyt.grant_balances";
    assert_eq!(value(&mut client, grants), "32");
    let calls = "SELECT calls FROM pg_stat_xact_user_functions WHERE funcname = 'wallet_state_at'";
    assert_eq!(value(&mut client, calls), "1");
    rows(&mut client, "COMMIT");
}

#[test]
fn starts_are_those_that_postgres_computes() {
    // Anchors at the ends of months and leap days, over both clock changes, in three zones. Postgres
    // adds to the local time as well; of a time that is there twice it takes the second, we the first.
    let database = Database::new("starts");
    let mut client = database.connect();
    clock(&mut client, "2027-06-15Z");
    let mut nth = 0;
    for every in ["1 day", "1 week", "1 month", "3 months", "1 year"] {
        rows(
            &mut client,
            &format!("SELECT credyt.create_plan('{every}', 1, '{every}')"),
        );
        for zone in ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe"] {
            for anchor in [
                "2026-01-29 02:30",
                "2026-01-30 02:15",
                "2026-01-31 23:59:59.999999",
                "2026-03-07 02:30",
                "2026-02-28 12:00",
                "2024-12-31 00:00",
                "2026-10-31 09:00",
            ] {
                nth += 1;
                let starts_at = format!("timestamp '{anchor}' AT TIME ZONE '{zone}'");
                rows(
                    &mut client,
                    &format!(
                        "SELECT credyt.subscribe('c{nth}', '{every}', {starts_at}, timezone => '{zone}'), credyt.open_wallet('c{nth}')"
                    ),
                );
                let differ = format!(
                    "WITH second AS (SELECT (timestamp '{anchor}' + n * interval '{every}') AT TIME ZONE '{zone}' AS at FROM generate_series(0, 1000) n),
                     wanted AS (SELECT min(s.at - back) AS at FROM second s, unnest(ARRAY['0', '30 min', '1 h']::interval[]) AS back
                                WHERE (s.at - back) AT TIME ZONE '{zone}' = s.at AT TIME ZONE '{zone}' GROUP BY s.at)
                     SELECT at FROM wanted WHERE at <= '2027-06-15Z' EXCEPT SELECT effective_at FROM credyt.grants WHERE customer = 'c{nth}'
                     UNION ALL
                     (SELECT effective_at FROM credyt.grants WHERE customer = 'c{nth}' EXCEPT SELECT at FROM wanted)"
                );
                assert_eq!(
                    values(&mut client, &differ),
                    [""; 0],
                    "{every} from {anchor} in {zone}"
                );
            }
        }
    }
}

#[test]
fn what_is_held_does_not_roll_over() {
    let (_database, mut client) = on_pro("rolled_holds");
    // 80 held, 5 spent: 15 are unheld.
    let hold = "SELECT id FROM credyt.authorize('ann', 'image', 80, ttl_seconds => 100 * 86400)";
    let hold = value(&mut client, hold);
    let debit = value(
        &mut client,
        "SELECT id FROM credyt.debit_credits('ann', 'image', 5)",
    );
    clock(&mut client, "2100-03-01Z");
    assert_eq!(value(&mut client, BALANCE), "195 80 115 0");
    // A part is captured from where it was pinned; the rest ends with its grant.
    assert_eq!(
        value(
            &mut client,
            &format!("SELECT credits, revenue FROM credyt.capture('ann', '{hold}', 50)")
        ),
        "50 10.00"
    );
    assert_eq!(value(&mut client, BALANCE), "115 0 115 0");
    assert_eq!(
        value(&mut client, "SELECT credits, revenue FROM credyt.breakage"),
        "30 6.00"
    );
    // What comes back to the ended grant is lost with it, unless it is restored.
    rows(
        &mut client,
        &format!("SELECT credyt.refund('ann', '{debit}', 2)"),
    );
    assert_eq!(value(&mut client, BALANCE), "115 0 115 0");
    rows(
        &mut client,
        &format!("SELECT credyt.refund('ann', '{debit}', 3, restore_until => '2101-01-01Z')"),
    );
    assert_eq!(value(&mut client, BALANCE), "118 0 118 0");
    // What was restored is no part of the period: it does not roll over with it.
    clock(&mut client, "2100-03-31 10:00Z");
    assert_eq!(value(&mut client, BALANCE), "133 0 133 0");
    // A refund to what rolled over counts under the cap again.
    let debit = value(
        &mut client,
        "SELECT id FROM credyt.debit_credits('ann', 'image', 30)",
    );
    rows(
        &mut client,
        "SELECT credyt.debit_credits('ann', 'image', 95)",
    );
    rows(
        &mut client,
        &format!("SELECT credyt.refund('ann', '{debit}', 10)"),
    );
    assert_eq!(value(&mut client, BALANCE), "18 0 18 0");
    clock(&mut client, "2100-04-30 10:00Z");
    assert_eq!(value(&mut client, BALANCE), "118 0 118 0");
}

#[test]
fn a_renewal_pays_debt_first_however_large_it_is() {
    let (_database, mut client) = on_pro("renewed_debt");
    rows(
        &mut client,
        "SELECT credyt.open_wallet('ann', overdraft_limit => 300);
         SELECT credyt.debit_credits('ann', 'image', credits => 350)",
    );
    assert_eq!(value(&mut client, BALANCE), "-250 0 50 250");
    clock(&mut client, "2100-02-28 10:00Z");
    assert_eq!(value(&mut client, BALANCE), "-150 0 150 150");
    clock(&mut client, "2100-04-30 10:00Z");
    assert_eq!(value(&mut client, BALANCE), "50 0 350 0");
    rows(
        &mut client,
        "SELECT credyt.open_wallet('ann', overdraft_limit => 300)",
    );
    assert_eq!(
        values(
            &mut client,
            "SELECT kind, credits, revenue, occurred_at::date FROM credyt.ledger WHERE kind <> 'debit' ORDER BY seq"
        ),
        [
            "grant 100 0.00 2100-01-31",
            "grant 100 0.00 2100-02-28",
            "settlement 0 20.00 2100-02-28",
            "grant 100 0.00 2100-03-31",
            "settlement 0 20.00 2100-03-31",
            "grant 100 0.00 2100-04-30",
            "settlement 0 10.00 2100-04-30",
        ]
    );
}

#[test]
fn a_late_payment_pays_debt_out_of_every_period() {
    let (_database, mut client) = on_pro("late_debt");
    rows(
        &mut client,
        "SELECT credyt.open_wallet('bob', overdraft_limit => 300);
         SELECT credyt.subscribe('bob', 'pro', paid_through => '2100-01-31 10:00Z');
         SELECT credyt.debit_credits('bob', 'image', credits => 250)",
    );
    clock(&mut client, "2100-04-15Z");
    // Three periods of 100: two and a half pay the debt.
    rows(
        &mut client,
        "SELECT credyt.pay_subscription('bob', 'pro', '2100-04-30Z')",
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT settled, owed FROM credyt.balance('bob')"
        ),
        "50 0"
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT settled, owed FROM credyt.balance('bob', at => '2100-04-14Z')"
        ),
        "-250 250"
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT sum(revenue), count(*) FILTER (WHERE kind = 'expiry') FROM credyt.ledger WHERE customer = 'bob'"
        ),
        "50.00 0"
    );
    // A customer who ended meanwhile may still pay for what came before.
    rows(
        &mut client,
        "SELECT credyt.unsubscribe('bob', 'pro', '2100-06-15Z')",
    );
    clock(&mut client, "2100-08-01Z");
    let paid = "SELECT status, period_start::date FROM credyt.pay_subscription('bob', 'pro', '2200-01-01Z')";
    assert_eq!(value(&mut client, paid), "ended 2100-05-31");
}

#[test]
fn a_plan_is_changed_in_mid_period() {
    let (_database, mut client) = on_pro("changed");
    rows(
        &mut client,
        "SELECT credyt.create_plan('max', 1000, paid => 100), credyt.debit_credits('ann', 'image', 20)",
    );
    clock(&mut client, "2100-02-10Z");
    rows(
        &mut client,
        "SELECT credyt.unsubscribe('ann', 'pro'), credyt.subscribe('ann', 'max')",
    );
    assert_eq!(value(&mut client, BALANCE), "1080 0 1080 0");
    clock(&mut client, "2100-02-28 10:00Z");
    assert_eq!(value(&mut client, BALANCE), "1000 0 1000 0");
    clock(&mut client, "2100-03-10Z");
    assert_eq!(value(&mut client, BALANCE), "1000 0 1000 0");
    assert_eq!(
        refusal(&mut client, "SELECT credyt.unsubscribe('ann', 'none')").code,
        "WC010"
    );
}

#[test]
fn a_grant_that_is_seen_can_be_revoked() {
    let (_database, mut client) = on_pro("revoked_unbooked");
    clock(&mut client, "2100-03-01Z");
    let rolled = "SELECT id FROM credyt.grant_balances WHERE remaining = 30";
    let rolled = value(&mut client, rolled);
    let revoke = format!("SELECT credits, remaining FROM credyt.revoke_grant('ann', '{rolled}')");
    assert_eq!(value(&mut client, &revoke), "30 0");
    assert_eq!(value(&mut client, BALANCE), "100 0 100 0");
}

#[test]
fn a_plan_is_paused() {
    let (_database, mut client) = on_pro("paused");
    rows(
        &mut client,
        "SELECT credyt.unsubscribe('ann', 'pro', '2100-02-28 10:00Z')",
    );
    let again = "SELECT status, starts_at::date, replayed FROM credyt.subscribe('ann', 'pro', starts_at => '2100-05-01Z')";
    assert_eq!(value(&mut client, again), "scheduled 2100-05-01 f");
    assert_eq!(value(&mut client, again), "scheduled 2100-05-01 t");
    clock(&mut client, "2100-03-01Z");
    assert_eq!(value(&mut client, BALANCE), "0 0 0 0");
    clock(&mut client, "2100-05-01Z");
    assert_eq!(value(&mut client, BALANCE), "100 0 100 0");
}

#[test]
fn a_plan_without_credits_goes_on() {
    let (_database, mut client) = on_pro("nothing");
    rows(
        &mut client,
        "SELECT credyt.create_plan('free', 0, '1 week'), credyt.subscribe('bob', 'free')",
    );
    clock(&mut client, "2100-03-01Z");
    let state = "SELECT period_start::date, period_end::date, status FROM credyt.";
    let on = |call: &str| format!("{state}{call}('bob', 'free')");
    assert_eq!(
        value(
            &mut client,
            "SELECT next_renewal_at::date FROM credyt.renewals WHERE customer = 'bob'"
        ),
        "2100-03-07"
    );
    assert_eq!(
        value(&mut client, &on("subscribe")),
        "2100-02-28 2100-03-07 active"
    );
    // It gives credits from the next period on, and then no more; what is left rolls over once.
    rows(
        &mut client,
        "SELECT credyt.create_plan('free', 10, '1 week', rollover => 4)",
    );
    clock(&mut client, "2100-03-08Z");
    assert_eq!(
        value(&mut client, "SELECT settled FROM credyt.balance('bob')"),
        "10"
    );
    rows(
        &mut client,
        "SELECT credyt.create_plan('free', 0, '1 week')",
    );
    clock(&mut client, "2100-03-15Z");
    assert_eq!(
        value(&mut client, "SELECT settled FROM credyt.balance('bob')"),
        "4"
    );
    clock(&mut client, "2100-03-22Z");
    assert_eq!(
        value(&mut client, "SELECT settled FROM credyt.balance('bob')"),
        "0"
    );
    assert_eq!(
        value(&mut client, &on("unsubscribe")),
        "2100-03-21 2100-03-28 ended"
    );
    // The unsubscribed one is as far as it had come.
    assert_eq!(
        value(&mut client, &on("unsubscribe")),
        "2100-03-21 2100-03-28 ended"
    );
    // Older versions count where a subscription starts in the past.
    rows(
        &mut client,
        "SELECT credyt.create_plan('long', 1, '1 day'), credyt.create_plan('long', 1, '10 years')",
    );
    assert_eq!(
        refusal(
            &mut client,
            "SELECT credyt.subscribe('bob', 'long', '2000-01-01Z')"
        )
        .code,
        "22023"
    );
}

#[test]
fn a_hundred_subscriptions_run_on_one_wallet() {
    let (_database, mut client) = on_pro("hundred");
    rows(
        &mut client,
        "SELECT credyt.create_plan('p' || n, 999999999999999.99, '1 day', rollover => NULL), credyt.subscribe('bob', 'p' || n)
         FROM generate_series(1, 100) n",
    );
    let refused = refusal(&mut client, "SELECT credyt.subscribe('bob', 'pro')");
    assert_eq!(refused.code, "54000");
    assert_eq!(refused.json()["error"], "too_many_subscriptions");
    // All rolls over, up to what one grant may hold.
    clock(&mut client, "2100-02-10 10:00Z");
    assert_eq!(
        value(
            &mut client,
            "SELECT settled = 200 * 999999999999999.99 FROM credyt.balance('bob')"
        ),
        "t"
    );
    rows(&mut client, "SELECT credyt.debit_credits('bob', 'image')");
}

#[test]
fn a_standby_shows_a_renewal_that_is_due() {
    let primary = Server::start();
    let mut here = primary.fresh_database("renewing");
    rows(
        &mut here,
        "SELECT credyt.create_asset('credits'); SELECT credyt.set_price('image', '1');
         SELECT credyt.create_plan('pro', 100, paid => 20, rollover => 30);
         INSERT INTO credyt.clock VALUES ('2100-01-31 10:00Z'); SELECT credyt.subscribe('ann', 'pro')",
    );
    let standby = primary.standby();
    clock(&mut here, "2100-03-31 10:00Z");
    let sent = value(&mut here, "SELECT pg_current_wal_lsn()");
    let mut there = standby.client_to("renewing");
    let (arrived, since) = (
        format!("SELECT pg_last_wal_replay_lsn() >= '{sent}'"),
        Instant::now(),
    );
    while value(&mut there, &arrived) != "t" {
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "the standby does not follow"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(value(&mut there, "SELECT pg_is_in_recovery()"), "t");
    assert_eq!(value(&mut there, BALANCE), "130 0 130 0");
    let expected = seen(&mut there);
    assert_eq!(
        value(
            &mut there,
            "SELECT next_renewal_at::date FROM credyt.renewals"
        ),
        "2100-04-30"
    );
    assert_eq!(
        value(
            &mut there,
            "SELECT settled FROM credyt.balance('ann', at => '2100-02-28 10:00Z')"
        ),
        "130"
    );
    // Booked on the primary it is what the standby showed.
    rows(&mut here, "SELECT credyt.open_wallet('ann')");
    assert_eq!(seen(&mut here), expected);
    assert_eq!(
        refusal(&mut there, "SELECT credyt.open_wallet('ann')").code,
        "25006"
    );
}
