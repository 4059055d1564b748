//! Many connections at once: nothing is spent twice, no key counts twice, nothing is lost.

mod support;

use support::sql::{Database, attempt, refusal, rows, value, values};

#[test]
fn six_hundred_credits_are_spent_by_sixteen_connections_exactly() {
    let database = Database::new("spend");
    rows(
        &mut database.connect(),
        "SELECT credyt.grant_credits('ann', 100, 'promotional'), credyt.grant_credits('ann', 200, 'included'),
                credyt.grant_credits('ann', 300, paid => 30)",
    );
    let outcomes = database.at_once(16, |_, client| {
        let debit = "SELECT * FROM credyt.debit_credits('ann', 'image')";
        let codes = (0..60).map(|_| code(attempt(client, debit)));
        codes.collect::<Vec<_>>()
    });
    let outcomes = outcomes.concat();
    let count = |code: &str| outcomes.iter().filter(|outcome| *outcome == code).count();
    assert_eq!(
        (count("ok"), count("WC001"), outcomes.len()),
        (600, 360, 960)
    );
    let mut client = database.connect();
    assert_eq!(
        value(
            &mut client,
            "SELECT settled, available, held FROM credyt.balance('ann')"
        ),
        "0 0 0"
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT credits, revenue FROM credyt.margin_by_action"
        ),
        "600 30.00"
    );
}

/// One key, one request, 24 connections: one call does it, the others get its answer.
fn once_from_everywhere(name: &str, setup: &str, call: &str) {
    let database = Database::new(name);
    let mut client = database.connect();
    let id = value(&mut client, setup);
    let call = call.replace("$id", &id);
    let before = value(&mut client, "SELECT count(*) FROM credyt.ledger");
    let answers = database.at_once(24, |_, client| value(client, &call));
    let first: Vec<&str> = answers
        .iter()
        .filter_map(|a| a.strip_suffix(" f"))
        .collect();
    let again: Vec<&str> = answers
        .iter()
        .filter_map(|a| a.strip_suffix(" t"))
        .collect();
    assert_eq!((first.len(), again.len()), (1, 23), "{answers:?}");
    assert!(
        again.iter().all(|answer| *answer == first[0]),
        "{answers:?}"
    );
    let after = value(&mut client, "SELECT count(*) FROM credyt.ledger");
    let booked = after.parse::<i64>().unwrap() - before.parse::<i64>().unwrap();
    assert_eq!(booked, i64::from(!call.contains("authorize")));
}

#[test]
fn one_key_debits_once() {
    once_from_everywhere(
        "key_debit",
        "SELECT id FROM credyt.grant_credits('ann', 100, paid => 10)",
        "SELECT id, credits, revenue, allocations, replayed
         FROM credyt.debit_credits('ann', 'image', 3, idempotency_key => 'k')",
    );
}

#[test]
fn one_key_authorizes_once() {
    once_from_everywhere(
        "key_authorize",
        "SELECT id FROM credyt.grant_credits('ann', 100)",
        "SELECT id, credits, expires_at, replayed FROM credyt.authorize('ann', 'image', 3, idempotency_key => 'k')",
    );
}

#[test]
fn one_key_authorizes_once_where_the_credits_suffice_for_one_only() {
    once_from_everywhere(
        "key_authorize_all",
        "SELECT id FROM credyt.grant_credits('ann', 3)",
        "SELECT id, credits, approved, replayed FROM credyt.authorize('ann', 'image', 3, idempotency_key => 'k')",
    );
}

#[test]
fn one_key_authorizes_what_can_be_paid_once() {
    once_from_everywhere(
        "key_authorize_vary",
        "SELECT s.scope FROM credyt.grant_credits('ann', 100), credyt.set_limit('ann', 'user:*', 42.5, '5 hours', required => true) s",
        "SELECT id, granted, credits, expires_at, replayed FROM credyt.authorize('ann', 'image', 500, scopes => '{user:a}',
             vary => 'quantity', step => 0.5, at_least => 40, idempotency_key => 'k')",
    );
}

#[test]
fn one_key_debits_once_where_the_credits_suffice_for_one_only() {
    once_from_everywhere(
        "key_debit_all",
        "SELECT id FROM credyt.grant_credits('ann', 3)",
        "SELECT id, credits, replayed FROM credyt.debit_credits('ann', 'image', 3, idempotency_key => 'k')",
    );
}

#[test]
fn one_key_grants_once_also_to_a_new_customer() {
    once_from_everywhere(
        "key_grant",
        "SELECT 1",
        "SELECT id, credits, remaining, deferred, replayed
         FROM credyt.grant_credits('new', 7, paid => 7, idempotency_key => 'k')",
    );
}

#[test]
fn one_key_grants_a_payment_in_another_currency_once() {
    once_from_everywhere(
        "key_grant_currency",
        "SELECT rate FROM credyt.set_exchange_rate('EUR', 'USD', 1.25)",
        "SELECT id, credits, paid, deferred, replayed
         FROM credyt.grant_credits('new', 7, paid => 4, currency => 'EUR', payment => 'pi', idempotency_key => 'k')",
    );
}

#[test]
fn one_key_revokes_spent_credits_once() {
    once_from_everywhere(
        "key_revoke_owe",
        "SELECT g.id FROM credyt.grant_credits('ann', 100, paid => 10) g,
             LATERAL (SELECT credyt.debit_credits('ann', 'image', 30) WHERE g.id IS NOT NULL) d",
        "SELECT id, remaining, replayed FROM credyt.revoke_grant('ann', '$id', 90, 'owe', idempotency_key => 'k')",
    );
}

#[test]
fn one_key_revokes_once() {
    once_from_everywhere(
        "key_revoke",
        "SELECT id FROM credyt.grant_credits('ann', 100)",
        "SELECT id, remaining, replayed FROM credyt.revoke_grant('ann', '$id', 5, idempotency_key => 'k')",
    );
}

#[test]
fn one_key_revokes_a_payment_once() {
    once_from_everywhere(
        "key_revoke_payment",
        "SELECT g.id FROM credyt.grant_credits('ann', 100, paid => 10, payment => 'pi') g,
             LATERAL (SELECT credyt.debit_credits('ann', 'image', 30) WHERE g.id IS NOT NULL) d",
        "SELECT id, remaining, replayed FROM credyt.revoke_payment('ann', 'pi', idempotency_key => 'k')",
    );
}

#[test]
fn one_key_refunds_once() {
    once_from_everywhere(
        "key_refund",
        "SELECT d.id FROM credyt.grant_credits('ann', 100, paid => 10), credyt.debit_credits('ann', 'image', 9) d",
        "SELECT id, credits, revenue, replayed FROM credyt.refund('ann', '$id', 2, idempotency_key => 'k')",
    );
}

#[test]
fn the_cost_of_one_request_of_a_vendor_in_two_assets_at_once_counts_once() {
    let database = Database::new("two_assets_cost");
    let mut client = database.connect();
    rows(&mut client, "SELECT credyt.create_asset('tokens')");
    let assets = ["credits", "tokens"];
    let debits: Vec<Vec<String>> = (0..20)
        .map(|customer| {
            let debit = |asset: &&str| {
                let grant = format!("SELECT credyt.grant_credits('c{customer}', 10, asset => '{asset}')");
                rows(&mut client, &grant);
                let debit = format!(
                    "SELECT id FROM credyt.debit_credits('c{customer}', 'image', credits => 1, asset => '{asset}')"
                );
                value(&mut client, &debit)
            };
            assets.iter().map(debit).collect()
        })
        .collect();
    let answers = database.at_once(4, |nth, client| {
        let mut call = |(debits, customer): (&Vec<String>, usize)| {
            let sql = format!(
                "SELECT id, debit_id, replayed FROM credyt.record_cost('c{customer}', 'acme', cost => 1,
                     debit_id => '{}', vendor_request_id => 'r')",
                debits[nth % 2]
            );
            value(client, &sql)
        };
        debits.iter().zip(0..).map(&mut call).collect::<Vec<_>>()
    });
    for customer in 0..20 {
        let of: Vec<&str> = answers.iter().map(|all| all[customer].as_str()).collect();
        let first = of.iter().filter(|answer| answer.ends_with(" f")).count();
        assert_eq!(first, 1, "{of:?}");
    }
    let counted = value(&mut client, "SELECT count(*) FROM credyt.vendor_costs");
    assert_eq!(counted, "20");
}

#[test]
fn one_key_for_two_assets_at_once_counts_for_one() {
    let database = Database::new("two_assets");
    let mut client = database.connect();
    rows(&mut client, "SELECT credyt.create_asset('tokens')");
    for verb in ["debit_credits", "authorize"] {
        for customer in 0..20 {
            let grants = format!(
                "SELECT credyt.grant_credits('c{customer}', 10),
                        credyt.grant_credits('c{customer}', 10, asset => 'tokens')"
            );
            rows(&mut client, &grants);
        }
        let assets = ["credits", "tokens"];
        let outcomes = database.at_once(4, |nth, client| {
            let call = |customer| {
                let asset = assets[nth % 2];
                let sql = format!(
                    "SELECT * FROM credyt.{verb}('c{customer}', 'image', credits => 1, asset => '{asset}',
                                                 idempotency_key => 'k')"
                );
                code(attempt(client, &sql))
            };
            (0..20).map(call).collect::<Vec<_>>()
        });
        let of = |customer: usize| {
            let codes = outcomes.iter().map(|codes| codes[customer].as_str());
            codes.collect::<Vec<_>>()
        };
        for customer in 0..20 {
            let codes = of(customer);
            let mut by_asset = [(codes[0], codes[2]), (codes[1], codes[3])];
            by_asset.sort_unstable();
            assert_eq!(
                by_asset,
                [("WC005", "WC005"), ("ok", "ok")],
                "{verb} c{customer}"
            );
        }
    }
}

#[test]
fn the_same_capture_from_everywhere_charges_once() {
    let database = Database::new("captures");
    let mut client = database.connect();
    let sql = "SELECT h.id FROM credyt.grant_credits('ann', 100, paid => 100), credyt.authorize('ann', 'image', 10) h";
    for totals in [
        "",
        ", quantity => 4",
        ", credits => 15",
        ", quantity => 3, keep_open => true",
    ] {
        let id = value(&mut client, sql);
        let capture =
            format!("SELECT id, credits, replayed FROM credyt.capture('ann', '{id}'{totals})");
        let answers = database.at_once(24, |_, client| value(client, &capture));
        let charged = answers
            .iter()
            .filter(|answer| answer.ends_with(" f"))
            .count();
        assert_eq!(charged, 1, "{totals}: {answers:?}");
        let ids: std::collections::HashSet<_> =
            answers.iter().map(|a| a.split(' ').next()).collect();
        assert_eq!(ids.len(), 1, "{totals}: {answers:?}");
    }
    assert_eq!(
        value(
            &mut client,
            "SELECT -sum(credits) FROM credyt.ledger WHERE kind = 'debit'"
        ),
        "32"
    );
}

#[test]
fn of_capture_and_release_one_wins() {
    let database = Database::new("race");
    let mut client = database.connect();
    rows(&mut client, "SELECT credyt.grant_credits('ann', 1000)");
    let ids: Vec<String> = (0..40)
        .map(|_| {
            value(
                &mut client,
                "SELECT id FROM credyt.authorize('ann', 'image', 2)",
            )
        })
        .collect();
    let outcomes = database.at_once(8, |nth, client| {
        let verb = if nth % 2 == 0 { "capture" } else { "release" };
        let call = |id| {
            code(attempt(
                client,
                &format!("SELECT * FROM credyt.{verb}('ann', '{id}')"),
            ))
        };
        ids.iter().map(call).collect::<Vec<_>>()
    });
    for (at, id) in ids.iter().enumerate() {
        let captured: Vec<_> = (0..8)
            .step_by(2)
            .map(|nth| outcomes[nth][at].as_str())
            .collect();
        let released: Vec<_> = (1..8)
            .step_by(2)
            .map(|nth| outcomes[nth][at].as_str())
            .collect();
        let won = captured[0] == "ok";
        assert_eq!(captured, [if won { "ok" } else { "WC004" }; 4], "{id}");
        assert_eq!(released, [if won { "WC004" } else { "ok" }; 4], "{id}");
    }
    assert_eq!(
        value(
            &mut client,
            "SELECT held = 0 AND available = 1000 - (SELECT count(*) * 2 FROM credyt.ledger
                            WHERE kind = 'debit') FROM credyt.balance('ann')"
        ),
        "t"
    );
}

#[test]
fn the_first_grants_of_a_new_customer_open_one_wallet() {
    let database = Database::new("first_grant");
    for customer in ["new", "newer", "newest"] {
        let answers = database.at_once(24, |_, client| {
            let sql = format!("SELECT remaining FROM credyt.grant_credits('{customer}', 1)");
            value(client, &sql)
        });
        assert_eq!(answers, ["1"; 24]);
    }
    assert_eq!(
        values(
            &mut database.connect(),
            "SELECT customer, settled FROM credyt.wallet_balances ORDER BY 1"
        ),
        ["new 24", "newer 24", "newest 24"]
    );
}

#[test]
fn a_wallet_that_was_rolled_back_was_never_there() {
    let database = Database::new("rolled_back");
    let (mut one, mut other) = (database.connect(), database.connect());
    rows(
        &mut one,
        "BEGIN; SELECT credyt.grant_credits('ann', 5, idempotency_key => 'k')",
    );
    let debit = "SELECT available FROM credyt.debit_credits('ann', 'image')";
    assert_eq!(refusal(&mut other, debit).code, "WC002");
    assert_eq!(
        value(&mut other, "SELECT settled FROM credyt.balance('ann')"),
        "0"
    );

    // A grant elsewhere waits for the first one's end, and then opens the wallet itself.
    let granted = database.waiting(
        |client| value(client, "SELECT remaining, replayed FROM credyt.grant_credits('ann', 7, idempotency_key => 'k')"),
        || drop(rows(&mut one, "ROLLBACK")),
    );
    assert_eq!(granted, "7 f");
    assert_eq!(value(&mut one, debit), "6");

    // The same by a savepoint.
    rows(
        &mut one,
        "BEGIN; SAVEPOINT s; SELECT credyt.open_wallet('bob', overdraft_limit => 9)",
    );
    assert_eq!(
        value(
            &mut one,
            "SELECT available FROM credyt.debit_credits('bob', 'image')"
        ),
        "8"
    );
    rows(&mut one, "ROLLBACK TO s");
    assert_eq!(
        refusal(&mut one, "SELECT credyt.debit_credits('bob', 'image')").code,
        "WC002"
    );
    rows(&mut one, "ROLLBACK");
}

#[test]
fn a_debit_that_waited_sees_the_whole_newest_stack() {
    let database = Database::new("waited");
    let mut one = database.connect();
    rows(
        &mut one,
        "SELECT credyt.grant_credits('ann', 10, paid => 1)",
    );
    // Meanwhile two grants come that burn first, the price doubles and the limit rises.
    rows(
        &mut one,
        "BEGIN;
         SELECT credyt.grant_credits('ann', 2, 'promotional', priority => 1);
         SELECT credyt.grant_credits('ann', 3, 'included', priority => 2);
         SELECT credyt.open_wallet('ann', overdraft_limit => 4)",
    );
    let taken = database.waiting(
        |client| {
            value(
                client,
                "SELECT string_agg(a->>'kind' || ' ' || (a->>'credits'), ', ') || ', left ' || max(d.available)
                 FROM credyt.debit_credits('ann', 'image', 17) d, jsonb_array_elements(d.allocations) a",
            )
        },
        || drop(rows(&mut one, "COMMIT")),
    );
    assert_eq!(
        taken,
        "promotional 2, included 3, purchased 10, overdraft 2, left 2"
    );

    // And a debit that waited for the one that took all is refused with the numbers of now.
    rows(
        &mut one,
        "BEGIN; SELECT credyt.debit_credits('ann', 'image', 2)",
    );
    let refused = database.waiting(
        |client| refusal(client, "SELECT credyt.debit_credits('ann', 'image', 1)"),
        || drop(rows(&mut one, "COMMIT")),
    );
    assert_eq!(
        (refused.code.as_str(), &refused.json()["available"]),
        ("WC001", &"0".into())
    );
}

/// `ok`, or the SQLSTATE.
fn code<T>(outcome: Result<T, support::sql::Refusal>) -> String {
    outcome.map_or_else(|refused| refused.code, |_| "ok".to_owned())
}
