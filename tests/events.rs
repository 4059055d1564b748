//! The outbox under many workers: nothing is lost, nothing comes out of order, a request is answered once.

mod support;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use postgres::Client;
use support::sql::{Database, attempt, rows, value, values};

#[test]
fn one_top_up_is_asked_for_by_twenty_four_connections() {
    let database = Database::new("asked_once");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 480), credyt.set_topup('acme', 240, 500), credyt.set_alert('acme', 100)",
    );
    let debit = "SELECT credyt.debit_credits('acme', 'image')";
    let spent = database.at_once(24, |_, client| {
        (0..20).filter(|_| attempt(client, debit).is_ok()).count()
    });
    assert_eq!(spent.iter().sum::<usize>(), 480);
    let events = "SELECT type, payload->>'available' FROM credyt.events_pending ORDER BY id";
    assert_eq!(
        values(&mut client, events),
        [
            "topup.requested 240",
            "balance.low 100",
            "balance.depleted 0"
        ]
    );
}

/// Each alert tells once of each crossing that was committed, and of none that was rolled back.
#[test]
fn every_crossing_is_told_once_whatever_races() {
    let database = Database::new("crossings");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 60), credyt.set_alert('acme', 50), credyt.set_alert('acme', 30), credyt.set_alert('acme', 10)",
    );
    database.at_once(24, |nth, client| {
        for n in 0..25 {
            let debit = format!(
                "SELECT credyt.debit_credits('acme', 'image', {})",
                (nth * 5 + n) % 9 + 1
            );
            let grant =
                format!("SELECT credyt.grant_credits('acme', 20, idempotency_key => '{nth}-{n}')");
            let call = if (nth + n) % 5 == 0 { &grant } else { &debit };
            match (nth * 3 + n) % 4 {
                0 => {
                    rows(client, "BEGIN");
                    let _ = attempt(client, call);
                    rows(client, "ROLLBACK");
                }
                1 => {
                    rows(client, "BEGIN; SAVEPOINT s");
                    let _ = attempt(client, &debit);
                    rows(client, "ROLLBACK TO s");
                    let _ = attempt(client, call);
                    rows(client, "COMMIT");
                }
                _ => drop(attempt(client, call)),
            }
        }
    });
    let crossed = "SELECT a.threshold, count(*) FILTER (WHERE m.before > a.threshold AND m.balance <= a.threshold) AS crossed
        FROM unnest('{50,30,10,0}'::numeric[]) AS a (threshold),
             (SELECT l.balance, lag(l.balance, 1, 0::numeric) OVER (ORDER BY l.seq) AS before FROM credyt.ledger l) m
        GROUP BY a.threshold";
    let written = "SELECT coalesce((payload->>'threshold')::numeric, 0) AS threshold, count(*) AS written FROM credyt.events GROUP BY 1";
    let wrong = format!(
        "SELECT * FROM ({crossed}) c FULL JOIN ({written}) t USING (threshold) WHERE coalesce(c.crossed, 0) <> coalesce(t.written, 0)"
    );
    assert_eq!(values(&mut client, &wrong), [""; 0]);
    let many = format!("SELECT count(*) >= 3, sum(t.written) > 10 FROM ({written}) t");
    assert_eq!(value(&mut client, &many), "t t");
}

#[test]
fn a_top_up_that_arrives_twice_is_granted_once() {
    let database = Database::new("arrives_twice");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 10), credyt.set_topup('acme', 5, 100);
         SELECT credyt.debit_credits('acme', 'image', 6)",
    );
    // A slow worker and the one that took over, the webhook beside them.
    let granted = database.at_once(12, |_, client| {
        value(
            client,
            "SELECT remaining, replayed FROM credyt.grant_credits('acme', 100, paid => 10, idempotency_key => 'pay_1')",
        )
    });
    let first = granted.iter().filter(|answer| *answer == "100 f").count();
    assert_eq!(
        (first, granted.iter().filter(|a| *a == "100 t").count()),
        (1, 11)
    );
    assert_eq!(
        value(&mut client, "SELECT available FROM credyt.balance('acme')"),
        "104"
    );
}

/// Who asks while others have the first events gets later ones, as many as there are.
#[test]
fn workers_share_a_long_queue() {
    let database = Database::new("long_queue");
    let mut client = database.connect();
    // 3 customers with 40 events each, and 3,000 with one, in turns.
    rows(
        &mut client,
        "INSERT INTO credyt.events (customer, id, asset, type, payload, created_at)
         SELECT CASE WHEN n % 27 < 3 AND n < 1080 THEN 'busy' || n % 27 ELSE 'c' || n END,
                ('018f0000000070008000' || lpad(to_hex(n), 12, '0'))::uuid, 'credits', 'balance.low', '{}', now()
         FROM generate_series(1, 3120) n;
         ANALYZE credyt.events",
    );
    // Each takes within a transaction that is still open.
    let mut workers: Vec<Client> = (0..6).map(|_| database.connect()).collect();
    let mut taken: Vec<Vec<String>> = Vec::new();
    for worker in &mut workers {
        rows(worker, "BEGIN");
        taken.push(values(
            worker,
            "SELECT customer, id FROM credyt.take_events(500)",
        ));
    }
    let counts: Vec<usize> = taken.iter().map(Vec::len).collect();
    assert_eq!(counts, [500; 6]);
    for events in &taken {
        let ids: Vec<&str> = events
            .iter()
            .filter_map(|event| event.split(' ').nth(1))
            .collect();
        assert!(ids.is_sorted(), "{ids:?}");
    }
    let mut all: Vec<&String> = taken.iter().flatten().collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 3000);
    // No customer is with two workers.
    for busy in ["busy0 ", "busy1 ", "busy2 "] {
        let with = taken
            .iter()
            .filter(|events| events.iter().any(|event| event.starts_with(busy)));
        assert_eq!(with.count(), 1, "{busy}");
    }
    // The first and the third give up; the next worker gets what they had, and the rest with it.
    for (nth, worker) in workers.iter_mut().enumerate() {
        rows(worker, if nth % 3 == 0 { "ROLLBACK" } else { "COMMIT" });
    }
    let next = values(
        &mut client,
        "SELECT customer, id FROM credyt.take_events(5000)",
    );
    let given_up: Vec<&String> = taken.iter().step_by(3).flatten().collect();
    assert!(given_up.iter().all(|event| next.contains(event)));
    let leased = "SELECT count(*) FROM credyt.events WHERE leased_until > now()";
    assert_eq!(value(&mut client, leased), "3120");
    assert_eq!(
        values(&mut client, "SELECT id FROM credyt.take_events(5000)"),
        [""; 0]
    );
}

#[test]
fn what_a_dead_worker_took_comes_again() {
    let database = Database::new("dead_worker");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 10), credyt.set_alert('acme', 5);
         SELECT credyt.debit_credits('acme', 'image', 10)",
    );
    let take = "SELECT id, type FROM credyt.take_events(10, 1)";
    // Dead before its transaction is over: at once.
    let mut dying = database.connect();
    rows(&mut dying, "BEGIN");
    let first = values(&mut dying, take);
    assert_eq!(first.len(), 2, "{first:?}");
    assert_eq!(values(&mut client, take), [""; 0]);
    drop(dying);
    let since = Instant::now();
    let taken = || {
        let mut client = database.connect();
        let mut events = values(&mut client, take);
        while events.is_empty() && since.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(50));
            events = values(&mut client, take);
        }
        events
    };
    assert_eq!(taken(), first);
    // Dead between take and ack: when its lease is over, the same in the same order.
    assert_eq!(values(&mut client, take), [""; 0]);
    assert_eq!(taken(), first);
    // One of them acknowledged, late and twice: the other one comes.
    let id = first[0].split(' ').next().unwrap();
    let ack = format!("SELECT events FROM credyt.ack_events('{{{id}}}')");
    assert_eq!(value(&mut client, &ack), "1");
    assert_eq!(value(&mut client, &ack), "0");
    assert_eq!(taken(), first[1..]);
}

#[test]
fn eight_workers_keep_the_order_of_every_customer() {
    let database = Database::new("eight_workers");
    let mut client = database.connect();
    let customers = 12;
    rows(
        &mut client,
        &format!(
            "SELECT credyt.grant_credits('c' || n, 11), credyt.set_alert('c' || n, 10) FROM generate_series(1, {customers}) n"
        ),
    );
    let seen: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());
    // Four connections make events: each pair of calls crosses the threshold and recovers.
    let made = 15 * customers;
    database.at_once(12, |nth, client| {
        if nth < 4 {
            for round in 0..15 {
                for customer in (1..=customers).filter(|n| n % 4 == nth) {
                    let debit =
                        format!("SELECT id FROM credyt.debit_credits('c{customer}', 'image')");
                    let id = value(client, &debit);
                    rows(
                        client,
                        &format!("SELECT credyt.refund('c{customer}', '{id}')"),
                    );
                    if round % 5 == 0 {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
            }
            return;
        }
        let since = Instant::now();
        while seen.lock().unwrap().len() < made && since.elapsed() < Duration::from_secs(60) {
            let batch = nth % 3 + 1;
            let take = format!("SELECT customer, id FROM credyt.take_events({batch}, 600)");
            for event in values(client, &take) {
                let (customer, id) = event.split_once(' ').unwrap();
                let mut seen = seen.lock().unwrap();
                seen.push((customer.to_owned(), id.to_owned()));
                drop(seen);
                std::thread::yield_now();
                let ack = format!("SELECT events FROM credyt.ack_events('{{{id}}}')");
                assert_eq!(value(client, &ack), "1");
            }
        }
    });
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), made);
    for n in 1..=customers {
        let customer = format!("c{n}");
        let mine = seen.iter().filter(|(c, _)| *c == customer);
        let ids: Vec<&String> = mine.map(|(_, id)| id).collect();
        assert_eq!(ids.len(), 15, "{customer}");
        assert!(ids.is_sorted(), "{customer}: {ids:?}");
    }
    let rows_of = "SELECT count(*), count(DISTINCT id), count(acknowledged_at) FROM credyt.events";
    assert_eq!(value(&mut client, rows_of), format!("{made} {made} {made}"));
    // In the order in which the wallet moved.
    let order = "SELECT count(*) FROM (SELECT created_at < lag(created_at) OVER (PARTITION BY customer ORDER BY id) AS wrong
                 FROM credyt.events) o WHERE wrong";
    assert_eq!(value(&mut client, order), "0");
}

/// Rows that a call writes, of which tables.
fn written(client: &mut Client, call: &str) -> Vec<String> {
    // What earlier transactions wrote has left this session's counters before.
    rows(client, "SELECT pg_stat_force_next_flush()");
    rows(client, &format!("BEGIN; SELECT {call}"));
    let written = values(
        client,
        "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_xact_all_tables
         WHERE schemaname = 'credyt' AND n_tup_ins + n_tup_upd + n_tup_del > 0 ORDER BY 1",
    );
    rows(client, "COMMIT");
    written
}

#[test]
fn a_debit_is_two_writes_until_something_is_told() {
    let database = Database::new("two_writes");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 100), credyt.set_topup('acme', 20, 100, max_credits => 150),
                credyt.set_alert('acme', 50), credyt.set_alert('acme', 20, unit => 'percent'), credyt.set_alert('acme', 10, enabled => false)",
    );
    let debit = |quantity| format!("credyt.debit_credits('acme', 'image', {quantity})");
    let two = ["ledger 1", "wallets 1"];
    for _ in 0..10 {
        assert_eq!(written(&mut client, &debit(4)), two);
    }
    // Two alerts and a top-up; then nothing until it recovers.
    let crossing = written(&mut client, &debit(45));
    assert_eq!(crossing, ["events 3", "ledger 1", "wallets 1"]);
    assert_eq!(written(&mut client, &debit(4)), two);
    // In the cooldown, and beyond the cap.
    let fail = "credyt.topup_failed('acme', in_flight) FROM credyt.topups";
    assert_eq!(written(&mut client, fail), ["events 1", "wallets 1"]);
    assert_eq!(written(&mut client, &debit(1)), two);
    rows(
        &mut client,
        "SELECT credyt.set_topup('acme', 20, 100, max_credits => 50, cooldown_seconds => 0)",
    );
    let refused = "credyt.authorize('acme', 'image', 1000)";
    assert_eq!(written(&mut client, refused), [""; 0]);
    assert_eq!(written(&mut client, &debit(1)), two);
}

#[test]
fn topups_race_with_spends_failures_purchases_and_rollbacks() {
    let database = Database::new("topups_race");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.set_topup('acme', 20, 30, max_credits => 600, cooldown_seconds => 0)",
    );
    database.at_once(24, |nth, client| {
        for n in 0..15 {
            let debit = "SELECT credyt.debit_credits('acme', 'image', 3)";
            match (nth + n) % 6 {
                // Spends: committed, rolled back, and undone to a savepoint.
                0 | 1 => drop(attempt(client, debit)),
                2 => {
                    rows(client, "BEGIN");
                    let _ = attempt(client, debit);
                    rows(client, "ROLLBACK");
                }
                3 => {
                    rows(client, "BEGIN; SAVEPOINT s");
                    let _ = attempt(client, debit);
                    rows(client, "ROLLBACK TO s");
                    let _ = attempt(client, "SELECT credyt.authorize('acme', 'image', 1, ttl_seconds => 1)");
                    rows(client, "COMMIT");
                }
                // A worker and the webhook, which answer every request twice; every third card is declined.
                4 => {
                    let events = "SELECT id FROM credyt.events_pending WHERE type = 'topup.requested'";
                    for id in values(client, events) {
                        let answer = match id.as_bytes()[id.len() - 1] % 3 {
                            0 => format!("credyt.topup_failed('acme', '{id}', 'declined')"),
                            _ => format!("credyt.grant_credits('acme', 30, paid => 3, idempotency_key => '{id}')"),
                        };
                        for _ in 0..2 {
                            rows(client, &format!("SELECT {answer}"));
                        }
                        let _ = attempt(client, &format!("SELECT credyt.ack_events('{{{id}}}')"));
                    }
                }
                _ => drop(attempt(client, "SELECT credyt.maintain()")),
            }
        }
    });
    // Every request but the last has been answered once before the next was made.
    let open = "SELECT count(*) FILTER (WHERE failed_at IS NULL AND NOT EXISTS (SELECT FROM credyt.ledger l
                           WHERE l.customer = e.customer AND l.idempotency_key = e.id::text)) <= 1,
                       coalesce(sum((payload->>'credits')::numeric) FILTER (WHERE failed_at IS NULL), 0) <= 600, count(*) > 3
                FROM credyt.events e WHERE type = 'topup.requested'";
    assert_eq!(value(&mut client, open), "t t t");
    let overlapping = "SELECT count(*) FROM (
            SELECT e.created_at, lag(coalesce(e.failed_at, l.created_at)) OVER (ORDER BY e.id) AS answered
            FROM credyt.events e LEFT JOIN credyt.ledger l ON l.customer = e.customer AND l.idempotency_key = e.id::text
            WHERE e.type = 'topup.requested') o
        WHERE answered > created_at";
    assert_eq!(value(&mut client, overlapping), "0");
    let capped = "SELECT count(*) <= 1 FROM credyt.events WHERE type = 'topup.capped'";
    assert_eq!(value(&mut client, capped), "t");
    let view = "SELECT requested = (SELECT sum((payload->>'credits')::numeric) FROM credyt.events
                                    WHERE type = 'topup.requested' AND failed_at IS NULL) FROM credyt.topups";
    assert_eq!(value(&mut client, view), "t");
    assert_eq!(
        value(&mut client, "SELECT count(*) FROM credyt.verify()"),
        "0"
    );
}

#[test]
fn the_end_of_every_grant_is_told_once_for_each_notice() {
    let database = Database::new("notices_race");
    let mut client = database.connect();
    let search = "SELECT booked FROM credyt.maintain(7)";
    let searched = "SELECT count(*) FROM credyt.expiry_notices WHERE searched_to IS NULL";
    database.at_once(24, |nth, client| {
        for n in 0..12 {
            let customer = format!("c{}", (nth * 7 + n) % 30);
            let grant = format!(
                "SELECT credyt.grant_credits('{customer}', 1000, expires_at => now() + interval '3 days', idempotency_key => '{nth}-{n}')"
            );
            let debit = format!("SELECT credyt.debit_credits('{customer}', 'image', 1)");
            match (nth, n) {
                // Set while others write; the second one replaces the first.
                (0, 3) => drop(rows(client, "SELECT credyt.set_expiry_notice('{7}')")),
                (0, 6) => drop(rows(client, "SELECT credyt.set_expiry_notice('{7,5}')")),
                (1..4, _) => drop(attempt(client, search)),
                (4..8, _) => {
                    rows(client, "BEGIN");
                    let _ = attempt(client, &grant);
                    rows(client, if n % 2 == 0 { "ROLLBACK" } else { "COMMIT" });
                }
                (8..12, _) => {
                    rows(client, "BEGIN; SAVEPOINT s");
                    let _ = attempt(client, &grant);
                    rows(client, "ROLLBACK TO s");
                    let _ = attempt(client, &debit);
                    rows(client, "COMMIT");
                }
                _ => {
                    rows(client, &grant);
                    rows(client, &grant);
                    rows(client, &debit);
                }
            }
        }
    });
    let since = Instant::now();
    while value(&mut client, searched) == "0" && since.elapsed() < Duration::from_secs(60) {
        rows(&mut client, search);
    }
    let wrong = "SELECT count(*) FROM credyt.grants g
        LEFT JOIN (SELECT e.customer, e.payload->>'grant' AS id, array_agg((e.payload->>'days')::int ORDER BY e.id) AS days
                   FROM credyt.events e WHERE e.type = 'grant.expiring' GROUP BY 1, 2) t ON t.customer = g.customer AND t.id = g.id::text
        WHERE t.days IS DISTINCT FROM '{7,5}'";
    assert_eq!(value(&mut client, wrong), "0");
    let many = "SELECT count(*) > 100 FROM credyt.events WHERE type = 'grant.expiring'";
    assert_eq!(value(&mut client, many), "t");
    assert_eq!(
        value(&mut client, "SELECT count(*) FROM credyt.verify()"),
        "0"
    );
}
