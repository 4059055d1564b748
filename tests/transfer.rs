//! Transfers from many connections at once: nothing is lost, and no call deadlocks.

mod support;

use support::sql::{Database, attempt, refusal, rows, value, values};

#[test]
fn twenty_four_connections_give_in_circles_and_nothing_is_lost() {
    let database = Database::new("circles");
    let mut client = database.connect();
    let teams = ["ann", "ben", "cat", "dan", "eve"];
    for team in teams {
        rows(
            &mut client,
            &format!(
                "SELECT credyt.grant_credits('{team}', 100, 'promotional'),
                        credyt.grant_credits('{team}', 100.01, 'included', paid => 1, expires_at => now() + interval '1 day'),
                        credyt.grant_credits('{team}', 99.99, paid => 33.33)"
            ),
        );
    }
    let outcomes = database.at_once(24, |nth, client| {
        let give = |round: usize| {
            let from = teams[(nth + round) % 5];
            // Some one way round, some the other.
            let to = teams[(nth + round + [1, 4, 2][nth % 3]) % 5];
            let credits = (round * 7 + nth) % 40 + 1;
            let key = format!("'{nth}-{round}'");
            let call = format!(
                "SELECT replayed FROM credyt.transfer('{from}', '{to}', {credits}.37, idempotency_key => {key})"
            );
            let first = attempt(client, &call);
            // Again, as after a lost answer.
            if first.is_ok() {
                assert_eq!(value(client, &call), "t");
            }
            first.map_or_else(|refusal| refusal.code, |_| "ok".to_owned())
        };
        (0..30).map(give).collect::<Vec<_>>()
    });
    let outcomes = outcomes.concat();
    let known = |code: &String| ["ok", "WC001"].contains(&code.as_str());
    assert!(outcomes.iter().all(known), "{outcomes:?}");
    let moved = outcomes.iter().filter(|code| *code == "ok").count();
    assert!(moved > 300, "{moved}");
    let counted = "SELECT count(*) FILTER (WHERE credits < 0), count(*) FILTER (WHERE credits > 0), sum(credits)
                   FROM credyt.ledger WHERE kind = 'transfer'";
    assert_eq!(value(&mut client, counted), format!("{moved} {moved} 0.00"));
    let all =
        "SELECT sum(settled), sum(available), (SELECT sum(revenue) FROM credyt.deferred_revenue)
               FROM credyt.wallet_balances";
    let (credits, money) = ("1500", "171.65");
    let left = value(&mut client, all);
    let mut left = left.split(' ');
    assert_eq!((left.next(), left.next()), (Some(credits), Some(credits)));
    let same = format!("SELECT {} = {money}", left.next().unwrap());
    assert_eq!(value(&mut client, &same), "t");
    // What is spent in the end earns what was paid in the beginning.
    for team in teams {
        rows(
            &mut client,
            &format!(
                "SELECT credyt.debit_credits('{team}', 'image', settled) FROM credyt.balance('{team}')"
            ),
        );
    }
    let earned =
        format!("SELECT sum(revenue) = {money}, sum(revenue) FROM credyt.margin_by_action");
    assert!(value(&mut client, &earned).starts_with("t "), "{earned}");
}

#[test]
fn one_key_transfers_once() {
    let database = Database::new("one_key");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('zoe', 100, paid => 10)",
    );
    let call = "SELECT id, credits, allocations, replayed
                FROM credyt.transfer('zoe', 'ann', 30, idempotency_key => 'k')";
    let answers = database.at_once(24, |_, client| value(client, call));
    let first: Vec<&str> = answers
        .iter()
        .filter_map(|answer| answer.strip_suffix(" f"))
        .collect();
    assert_eq!(first.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.starts_with(first[0])));
    let balances = "SELECT settled FROM credyt.wallet_balances ORDER BY customer";
    assert_eq!(values(&mut client, balances), ["30", "70"]);
}

#[test]
fn a_receiver_that_is_full_leaves_the_sender_as_it_was() {
    let database = Database::new("receiver_full");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('ann', 10), credyt.grant_credits('ann', 10, 'promotional');
         SELECT count(credyt.grant_credits('ben', 1, priority => n)) FROM generate_series(1, 999) n",
    );
    let refused = refusal(
        &mut client,
        "SELECT credyt.transfer('ann', 'ben', 20, idempotency_key => 'k')",
    );
    assert_eq!(refused.code, "54000");
    assert_eq!(refused.json()["customer"], "ben");
    let settled = "SELECT settled FROM credyt.wallet_balances ORDER BY customer";
    assert_eq!(values(&mut client, settled), ["20", "999"]);
    // Its key is free, and one grant still finds room.
    let call =
        "SELECT credits, replayed FROM credyt.transfer('ann', 'ben', 10, idempotency_key => 'k')";
    assert_eq!(value(&mut client, call), "10 f");
}

#[test]
fn a_grant_that_ends_while_the_sender_waits_is_not_given() {
    let database = Database::new("ends");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('ann', 10, expires_at => clock_timestamp() + interval '700 ms');
         SELECT credyt.grant_credits('zoe', 10)",
    );
    let mut holder = database.connect();
    rows(&mut holder, "BEGIN; SELECT credyt.grant_credits('zoe', 1)");
    // It has its own wallet open, and waits for the other until the grant is over.
    let refused = database.waiting(
        |client| refusal(client, "SELECT credyt.transfer('ann', 'zoe', 5)"),
        || {
            std::thread::sleep(std::time::Duration::from_millis(900));
            rows(&mut holder, "COMMIT");
        },
    );
    assert_eq!(refused.code, "WC001", "{refused:?}");
    assert_eq!(refused.json()["available"], "0");
}

#[test]
fn two_wallets_in_one_transaction_can_deadlock_and_one_of_them_goes_on() {
    let database = Database::new("deadlock");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('ann', 10), credyt.grant_credits('ben', 10)",
    );
    let spend = |customer: &str| format!("SELECT credyt.debit_credits('{customer}', 'image')");
    let (mut one, mut other) = (database.connect(), database.connect());
    rows(&mut one, "BEGIN");
    rows(&mut one, &spend("ben"));
    rows(&mut other, "BEGIN");
    rows(&mut other, &spend("ann"));
    let waited = std::thread::scope(|scope| {
        let transfer = scope.spawn(|| attempt(&mut one, "SELECT credyt.transfer('ann', 'ben', 1)"));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let spent = attempt(&mut other, &spend("ben"));
        if spent.is_ok() {
            rows(&mut other, "COMMIT");
        } else {
            rows(&mut other, "ROLLBACK");
        }
        [transfer.join().unwrap().err(), spent.err()]
    });
    let codes: Vec<String> = waited.into_iter().flatten().map(|r| r.code).collect();
    assert_eq!(codes, ["40P01"]);
}

#[test]
fn a_transfer_whose_sides_differ_is_found() {
    let database = Database::new("sides").lawless();
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('ann', 10, paid => 10);
         SELECT credyt.transfer('ann', 'ben', 4);
         SET session_replication_role = replica",
    );
    assert_eq!(database.broken_invariants(), [""; 0]);
    for damage in [
        "UPDATE credyt.grants SET origin = gen_random_uuid() WHERE customer = 'ben'",
        "UPDATE credyt.grants SET paid = 3.99 WHERE customer = 'ben'",
        "UPDATE credyt.ledger SET allocations = replace(allocations::text, '\"4\"', '\"3\"')::jsonb WHERE customer = 'ben'",
        "UPDATE credyt.ledger SET allocations = replace(allocations::text, '4.00', '3.00')::jsonb WHERE customer = 'ann' AND kind = 'transfer'",
        "UPDATE credyt.ledger SET refers_to = NULL WHERE customer = 'ben'",
        "UPDATE credyt.ledger SET allocations = replace(allocations::text, '\"ben\"', '\"bob\"')::jsonb WHERE customer = 'ann'",
        "DELETE FROM credyt.ledger WHERE customer = 'ann' AND kind = 'transfer'",
    ] {
        rows(&mut client, "BEGIN");
        rows(&mut client, damage);
        let found = "SELECT count(*) > 0 FROM credyt.verify()";
        assert_eq!(value(&mut client, found), "t", "{damage}");
        rows(&mut client, "ROLLBACK");
    }
}
