//! Spend limits under many connections: no cap is passed, nobody is refused below it, and the counts are the ledger's.

mod support;

use postgres::Client;
use support::sql::{Database, attempt, clock, refusal, rows, value, values};

#[test]
fn a_limit_reached_by_two_connections_at_once_is_reached_once() {
    let database = Database::new("two_at_once");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 100), credyt.set_limit('acme', 'user:alice', 10)",
    );
    let mut holder = database.connect();
    let debit =
        "SELECT credits FROM credyt.debit_credits('acme', 'image', 6, scopes => '{user:alice}')";
    rows(&mut holder, "BEGIN");
    rows(&mut holder, debit);
    // The other one waits for the wallet, and then sees what was spent.
    let refused = database.waiting(
        |client| refusal(client, debit),
        || {
            rows(&mut holder, "COMMIT");
        },
    );
    assert_eq!(refused.code, "WC007", "{refused:?}");
    let detail = refused.json();
    assert_eq!(
        [&detail["scope"], &detail["cap"], &detail["used"]],
        ["user:alice", "10", "6"]
    );
    // It waits again, but what it waited for is rolled back.
    rows(&mut holder, "BEGIN");
    rows(
        &mut holder,
        "SELECT credyt.debit_credits('acme', 'image', 4, scopes => '{user:alice}')",
    );
    let four =
        "SELECT credits FROM credyt.debit_credits('acme', 'image', 4, scopes => '{user:alice}')";
    let spent = database.waiting(
        |client| value(client, four),
        || {
            rows(&mut holder, "ROLLBACK");
        },
    );
    assert_eq!(spent, "4");
    let used = "SELECT cap, used, held FROM credyt.limits_used";
    assert_eq!(value(&mut client, used), "10 10 0");
    // Not in the snapshot, and so refused by Postgres rather than spent beyond the cap.
    rows(
        &mut client,
        "SELECT credyt.set_limit('acme', 'user:bob', 5)",
    );
    rows(
        &mut holder,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM credyt.assets",
    );
    let five =
        "SELECT credits FROM credyt.debit_credits('acme', 'image', 5, scopes => '{user:bob}')";
    assert_eq!(value(&mut client, five), "5");
    assert_eq!(refusal(&mut holder, five).code, "40001");
    rows(&mut holder, "ROLLBACK");
}

#[test]
fn sixteen_connections_fill_every_cap_to_the_last_credit() {
    let database = Database::new("fill");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 100000), credyt.set_price('video', '1');
         SELECT credyt.set_limit('acme', 'user:*', 40, 'month'), credyt.set_limit('acme', 'user:u0', 60, 'month'),
                credyt.set_limit('acme', 'action:im*', 150, 'month'), credyt.set_limit('acme', 'key:k', 1000, 'month')",
    );
    let outcomes = database.at_once(16, |nth, client| {
        let mut outcomes = Vec::new();
        for round in 0..60 {
            let user = (nth + round) % 5;
            let action = if round % 3 == 0 { "image" } else { "video" };
            let scopes = format!("'{{user:u{user},key:k}}'");
            if round % 4 == 1 {
                let call = format!(
                    "SELECT id, coalesce(reason, 'ok') FROM credyt.authorize('acme', '{action}', 2, scopes => {scopes})"
                );
                let answer = value(client, &call);
                if let Some(id) = answer.strip_suffix(" ok") {
                    let verb = ["capture", "release"][round / 4 % 2];
                    rows(client, &format!("SELECT credyt.{verb}('acme', '{id}')"));
                }
                outcomes.push(answer.split(' ').next_back().unwrap().to_owned());
            } else {
                let key = format!("'{nth}-{round}'");
                let call = format!(
                    "SELECT replayed FROM credyt.debit_credits('acme', '{action}', scopes => {scopes}, idempotency_key => {key})"
                );
                let answer = attempt(client, &call).map_err(|refusal| refusal.code);
                if answer.is_ok() {
                    assert_eq!(value(client, &call), "t");
                }
                outcomes.push(answer.map_or_else(|code| code, |_| "debited".to_owned()));
            }
        }
        outcomes
    });
    let outcomes = outcomes.concat();
    let known = ["ok", "limit_exceeded", "debited", "WC007"];
    assert!(
        outcomes
            .iter()
            .all(|outcome| known.contains(&outcome.as_str())),
        "{outcomes:?}"
    );
    // Whoever has room left is let through to the last credit, and no further.
    for user in 0..5 {
        let debit =
            format!("SELECT credyt.debit_credits('acme', 'video', scopes => '{{user:u{user}}}')");
        while attempt(&mut client, &debit).is_ok() {}
        assert_eq!(refusal(&mut client, &debit).code, "WC007");
    }
    let full = "SELECT scope, cap, used, held FROM credyt.limits_used WHERE scope LIKE 'user:%' ORDER BY scope";
    assert_eq!(
        values(&mut client, full),
        [
            "user:u0 60 60 0",
            "user:u1 40 40 0",
            "user:u2 40 40 0",
            "user:u3 40 40 0",
            "user:u4 40 40 0"
        ]
    );
    let spent = "SELECT -sum(credits) FROM credyt.ledger WHERE kind = 'debit'";
    assert_eq!(value(&mut client, spent), "220");
    // A limit that is set again counts the same.
    let uses = "SELECT scope, period_start, period_end, used, (SELECT count(*) FROM credyt.limit_uses WHERE used > 0)
                FROM credyt.limits_used ORDER BY 1, 2";
    let counted = values(&mut client, uses);
    rows(
        &mut client,
        "SELECT credyt.set_limit('acme', l.scope, l.cap, l.every) FROM credyt.wallets w, credyt.limits(w.state) l",
    );
    assert_eq!(values(&mut client, uses), counted);
}

#[test]
fn many_users_have_a_cap_each() {
    let database = Database::new("many_users");
    let mut client = database.connect();
    clock(&mut client, "2030-01-01 10:00Z");
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 100000), credyt.set_limit('acme', 'user:*', 3, 'day')",
    );
    let spend = |client: &mut Client, user: usize, credits: u32| {
        let call = format!(
            "SELECT id FROM credyt.debit_credits('acme', 'image', {credits}, scopes => '{{user:u{user}}}')"
        );
        attempt(client, &call)
            .map(|rows| rows[0].get(0).unwrap().to_owned())
            .map_err(|refusal| refusal.code)
    };
    // More than the wallet's state takes in.
    let mut debits = Vec::new();
    for round in 0..4 {
        for user in 0..40 {
            let spent = spend(&mut client, user, 1);
            assert_eq!(spent.is_ok(), round < 3, "{user} {spent:?}");
            debits.extend(spent);
        }
    }
    let full = "SELECT count(*), min(used), max(used), (SELECT count(*) > 20 FROM credyt.limit_uses) FROM credyt.limits_used";
    assert_eq!(value(&mut client, full), "40 3 3 t");
    assert_eq!(database.broken_invariants(), [""; 0]);
    // A refund makes room, wherever it was counted.
    for (user, debit) in debits.iter().take(40).enumerate() {
        rows(
            &mut client,
            &format!("SELECT credyt.refund('acme', '{debit}')"),
        );
        assert!(spend(&mut client, user, 2).is_err());
        let approved = format!(
            "SELECT approved FROM credyt.authorize('acme', 'image', 2, ttl_seconds => 60, scopes => '{{user:u{user}}}')"
        );
        assert_eq!(value(&mut client, &approved), "f");
        // Held, it leaves no room, until it has ended.
        assert_eq!(
            value(&mut client, &approved.replace("2, ttl", "1, ttl")),
            "t"
        );
        assert_eq!(spend(&mut client, user, 1), Err("WC007".to_owned()));
    }
    assert_eq!(
        value(
            &mut client,
            "SELECT count(*), min(used + held) FROM credyt.limits_used"
        ),
        "40 3"
    );
    clock(&mut client, "2030-01-01 10:02Z");
    for user in 0..40 {
        assert!(spend(&mut client, user, 1).is_ok());
        assert!(spend(&mut client, user, 1).is_err());
    }
    assert_eq!(database.broken_invariants(), [""; 0]);
    // Two of them get a limit of their own, one loses it again.
    rows(
        &mut client,
        "SELECT credyt.set_limit('acme', 'user:u0', 5, 'day'), credyt.set_limit('acme', 'user:u39', 5, 'day')",
    );
    for user in [0, 39] {
        assert!(spend(&mut client, user, 1).is_ok());
    }
    rows(
        &mut client,
        "SELECT credyt.set_limit('acme', 'user:u39', NULL, 'day')",
    );
    assert!(spend(&mut client, 0, 1).is_ok() && spend(&mut client, 39, 1).is_err());
    assert_eq!(value(&mut client, full), "40 3 5 t");
    // The next day begins with the last ones of today; what is refunded of yesterday changes nothing.
    clock(&mut client, "2030-01-02 10:00Z");
    for user in (0..40).rev() {
        assert!(spend(&mut client, user, 3).is_ok());
    }
    for debit in debits.iter().skip(40).take(40) {
        rows(
            &mut client,
            &format!("SELECT credyt.refund('acme', '{debit}')"),
        );
    }
    assert_eq!(value(&mut client, full), "40 3 3 t");
    // Counted again from the ledger it is the same.
    let used = "SELECT scope, used FROM credyt.limits_used ORDER BY 1";
    let counted = values(&mut client, used);
    rows(
        &mut client,
        "SELECT credyt.set_limit('acme', 'user:*', 3, 'day')",
    );
    assert_eq!(values(&mut client, used), counted);
}

#[test]
fn a_key_that_is_taken_counts_once_also_in_rows() {
    let database = Database::new("taken_in_rows");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 1000), credyt.set_limit('acme', 'user:*', 100);
         SELECT count(credyt.debit_credits('acme', 'image', scopes => ARRAY['user:' || n])) FROM generate_series(1, 20) n",
    );
    let keyed = "SELECT replayed FROM credyt.debit_credits('acme', 'image', 60, scopes => '{user:late}', idempotency_key => 'k')";
    let answers = database.at_once(8, |_, client| value(client, keyed));
    assert_eq!(answers.iter().filter(|answer| *answer == "f").count(), 1);
    // Refused for a limit that comes second, it counts under none.
    rows(&mut client, "SELECT credyt.set_limit('acme', 'key:*', 10)");
    rows(
        &mut client,
        "SELECT count(credyt.debit_credits('acme', 'image', scopes => ARRAY['key:' || n])) FROM generate_series(1, 20) n",
    );
    let both = "SELECT credyt.debit_credits('acme', 'image', 20, scopes => '{user:late,key:late}')";
    assert_eq!(refusal(&mut client, both).code, "WC007");
    let used = "SELECT used FROM credyt.limits_used WHERE scope = 'user:late'";
    assert_eq!(value(&mut client, used), "60");
}

#[test]
fn each_event_is_written_once_whatever_races() {
    let database = Database::new("told_once");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 1000000), credyt.set_price('image', '1');
         SELECT credyt.set_limit('acme', 'user:*', 30), credyt.set_limit('acme', 'user:*', 25, '300 days', counts => 'calls'),
                credyt.set_limit('acme', 'key:k', 400, 'ever'), credyt.set_limit('acme', 'action:image', 1e9, 'year')",
    );
    // More users than the wallet's state takes in. Each one is refused in the end.
    let kinds = database.at_once(24, |nth, client| {
        let mut refused = [0; 2];
        for round in 0..50 {
            let user = (nth * 7 + round) % 20;
            let scopes = format!("'{{user:u{user},key:k}}'");
            if round % 3 == 0 {
                let debit = format!("SELECT credyt.debit_credits('acme', 'image', 2, scopes => {scopes})");
                // Committed, rolled back, and undone to a savepoint before another call.
                let around = [("BEGIN", "COMMIT"), ("BEGIN", "ROLLBACK"), ("BEGIN; SAVEPOINT s", "ROLLBACK TO s")];
                let (before, after) = around[(nth + round / 3) % 3];
                rows(client, before);
                refused[0] += i32::from(attempt(client, &debit).is_err());
                rows(client, after);
                if after.ends_with('s') {
                    let hold = format!("SELECT credyt.authorize('acme', 'image', 1, scopes => {scopes}, ttl_seconds => 1)");
                    rows(client, &hold);
                    rows(client, "COMMIT");
                }
                continue;
            }
            let call = format!(
                "SELECT coalesce(id::text, reason) FROM credyt.authorize('acme', 'image', 2, scopes => {scopes})"
            );
            let answer = value(client, &call);
            if answer == "limit_exceeded" {
                refused[1] += 1;
            } else {
                let verb = ["capture", "release"][round % 2];
                rows(client, &format!("SELECT credyt.{verb}('acme', '{answer}')"));
            }
        }
        refused
    });
    assert!(kinds.iter().all(|refused| refused[1] > 0), "{kinds:?}");
    for user in 0..20 {
        let call = format!(
            "SELECT coalesce(reason, 'ok') FROM credyt.authorize('acme', 'image', 31, scopes => '{{user:u{user}}}')"
        );
        assert_eq!(value(&mut client, &call), "limit_exceeded");
    }
    let twice = "SELECT type, payload->>'scope', payload->>'every', payload->>'counts', count(*) FROM credyt.events
                 WHERE type LIKE 'limit.%' GROUP BY 1, 2, 3, 4 HAVING count(*) <> 1";
    assert_eq!(values(&mut client, twice), [""; 0]);
    let events = "SELECT type, payload->>'every', left(payload->>'scope', 5), count(*) > 10 FROM credyt.events
                WHERE type LIKE 'limit.%' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
    let events = values(&mut client, events);
    assert!(
        events.contains(&"limit.reached month user: t".to_owned()),
        "{events:?}"
    );
    assert!(
        events.contains(&"limit.warning ever key:k f".to_owned()),
        "{events:?}"
    );
    // What is reached was told, and what was told is in the counts.
    let untold = "SELECT scope, every, counts FROM credyt.limits_used u WHERE used + held >= cap AND NOT EXISTS (
                      SELECT FROM credyt.events e WHERE e.type = 'limit.reached' AND e.payload->>'scope' = u.scope
                        AND e.payload->>'every' = u.every AND e.payload->>'counts' = u.counts)";
    assert_eq!(values(&mut client, untold), [""; 0]);
    assert_eq!(database.broken_invariants(), [""; 0]);
}

/// The debit path stays two writes: one of the wallet and one of the ledger, until something is told.
#[test]
fn a_limit_costs_no_statement_until_it_tells() {
    let database = Database::new("two_writes");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 1000), credyt.set_limit('acme', 'user:*', 10, '5 hours', required => true),
                credyt.set_limit('acme', 'user:*', 100, 'ever', counts => 'calls'), credyt.set_limit('acme', 'action:*', 100, 'year')",
    );
    let rows_written = |client: &mut Client, call: &str| -> i64 {
        let count = "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_xact_user_tables WHERE schemaname = 'credyt'";
        rows(client, "BEGIN");
        let before: i64 = value(client, count).parse().unwrap();
        rows(client, call);
        let after: i64 = value(client, count).parse().unwrap();
        rows(client, "COMMIT");
        after - before
    };
    let written = |client: &mut Client, credits: u32| {
        let scopes = "'{user:a}'";
        rows_written(
            client,
            &format!("SELECT credyt.debit_credits('acme', 'image', {credits}, scopes => {scopes})"),
        )
    };
    assert_eq!(written(&mut client, 1), 2);
    assert_eq!(written(&mut client, 1), 2);
    // The warning is told: one row more.
    assert_eq!(written(&mut client, 6), 3);
    assert_eq!(written(&mut client, 1), 2);
    let events = "SELECT type, payload->>'used' FROM credyt.events";
    assert_eq!(values(&mut client, events), ["limit.warning 8"]);
    // A refusal that was told before writes nothing at all.
    let refused = "SELECT approved FROM credyt.authorize('acme', 'image', 5, scopes => '{user:a}')";
    assert_eq!(value(&mut client, refused), "f");
    assert_eq!(rows_written(&mut client, refused), 0);
    assert_eq!(
        values(&mut client, events),
        ["limit.warning 8", "limit.reached 9"]
    );
}

#[test]
fn a_wrong_count_is_found() {
    let database = Database::new("wrong_count").lawless();
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 100);
         SELECT credyt.set_limit('acme', 'user:*', 50), credyt.set_limit('acme', 'action:*', 60);
         SELECT count(credyt.debit_credits('acme', 'image', 3, scopes => ARRAY['user:' || n])) FROM generate_series(1, 17) n",
    );
    assert_eq!(database.broken_invariants(), [""; 0]);
    rows(&mut client, "UPDATE credyt.limit_uses SET used = used + 1");
    let broken = database.broken_invariants();
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(broken[0].contains("4 credits of user:17"), "{broken:?}");
    rows(
        &mut client,
        "UPDATE credyt.limit_uses SET used = used - 1;
         UPDATE credyt.wallets w SET state = replace(w.state::text, '\"used\":\"51\"', '\"used\":\"2\"')::credyt.wallet",
    );
    let broken = database.broken_invariants();
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(broken[0].contains("2 credits of action:*"), "{broken:?}");
}

#[test]
fn wrong_counts_of_every_kind_are_found() {
    let database = Database::new("wrong_kinds").lawless();
    let mut client = database.connect();
    for (nth, every) in ["hour", "day", "week", "month", "year", "ever", "5 hours"]
        .iter()
        .enumerate()
    {
        for counts in ["credits", "calls"] {
            rows(
                &mut client,
                &format!(
                    "SELECT credyt.grant_credits('c{nth}', 100);
                     SELECT credyt.set_limit('c{nth}', 'action:*', 70, '{every}', counts => '{counts}');
                     SELECT credyt.debit_credits('c{nth}', 'image', 3), credyt.authorize('c{nth}', 'image', 2);"
                ),
            );
        }
        assert_eq!(database.broken_invariants(), [""; 0], "{every}");
        for (counts, used) in [("credits", "6"), ("calls", "4")] {
            let used = match (counts, *every) {
                // The second limit was set after the first two calls.
                ("calls", "ever" | "5 hours") => "2",
                _ => used,
            };
            let change = |from: &str, to: &str| {
                format!(
                    "UPDATE credyt.wallets SET state = replace(state::text, '\"used\":\"{from}\"', '\"used\":\"{to}\"')::credyt.wallet
                     WHERE customer = 'c{nth}'"
                )
            };
            rows(&mut client, &change(used, "55"));
            let broken = database.broken_invariants();
            assert_eq!(broken.len(), 1, "{every} {counts} {broken:?}");
            let said = format!("55 {counts} of action:* count in the {every}");
            assert!(broken[0].contains(&said), "{broken:?}");
            rows(&mut client, &change("55", used));
        }
    }
}
