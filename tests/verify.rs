//! `credyt.verify()` finds damage. Each case damages one thing behind the extension's back and is
//! rolled back; the row found has to name the invariant and the customer.

mod support;

use postgres::Client;
use support::sql::{Database, rows, value, values};

/// Three customers with all that can be damaged: `ann` in every way, `bob` owing, `cy` untouched.
const SETUP: &str = "
    SELECT credyt.grant_credits('ann', 100, paid => 10, expires_at => now() + interval '1 day', idempotency_key => 'g');
    SELECT credyt.grant_credits('ann', 20, 'included', paid => 3, priority => 5);
    SELECT credyt.debit_credits('ann', 'image', 30, idempotency_key => 'd');
    SELECT credyt.debit_credits('ann', 'image', 0);
    SELECT credyt.refund('ann', id, 4) FROM credyt.ledger WHERE idempotency_key = 'd';
    SELECT credyt.authorize('ann', 'image', 10);
    SELECT credyt.capture('ann', id, 3, keep_open => true) FROM credyt.authorizations WHERE customer = 'ann';
    SELECT credyt.open_wallet('bob', overdraft_limit => 50);
    SELECT credyt.grant_credits('bob', 5, paid => 1);
    SELECT credyt.debit_credits('bob', 'image', 12);
    SELECT credyt.authorize('bob', 'image', 6);
    SELECT credyt.grant_credits('cy', 5, paid => 1);
    SELECT credyt.debit_credits('cy', 'image', 2)";

fn damaged_database(name: &str) -> (Database, Client) {
    let database = Database::new(name).lawless();
    let mut client = database.connect();
    rows(&mut client, SETUP);
    assert_eq!(database.broken_invariants(), [""; 0]);
    (database, client)
}

/// What `verify()` says after this damage, which is then undone: the invariants broken, in order.
fn broken_invariants(client: &mut Client, damage: &str, customer: &str) -> Vec<String> {
    rows(
        client,
        "BEGIN; SET LOCAL session_replication_role = replica",
    );
    rows(client, damage);
    let found = values(
        client,
        "SELECT DISTINCT invariant, customer FROM credyt.verify() ORDER BY 1",
    );
    let named: Vec<String> = found
        .iter()
        .map(|line| match line.split_once(' ') {
            Some((invariant, who)) if who == customer => invariant.to_owned(),
            _ => panic!("{damage}: {line}"),
        })
        .collect();
    // Asked for one customer it says the same, and of another nothing.
    let one = format!("SELECT DISTINCT invariant FROM credyt.verify('{customer}') ORDER BY 1");
    assert_eq!(values(client, &one), named, "{damage}");
    assert_eq!(
        values(client, "SELECT * FROM credyt.verify('cy')"),
        [""; 0],
        "{damage}"
    );
    rows(client, "ROLLBACK");
    named
}

/// Each of these is found, under this invariant at least.
fn finds(client: &mut Client, customer: &str, cases: &[(&str, &str)]) {
    for (invariant, damage) in cases {
        let invariants = broken_invariants(client, damage, customer);
        assert!(
            invariants.iter().any(|found| found == invariant),
            "invariant {invariant}, found {invariants:?}: {damage}"
        );
    }
}

/// An edit of a wallet's state through its JSON text.
fn edit(customer: &str, path: &str, new: &str) -> String {
    format!(
        "UPDATE credyt.wallets SET state = jsonb_set(state::jsonb, '{{{path}}}', '{new}')::text::credyt.wallet
         WHERE customer = '{customer}'"
    )
}

#[test]
fn a_damaged_wallet_is_found() {
    let (_database, mut client) = damaged_database("wallets");
    let cases = [
        ("1", edit("ann", "grants,1,remaining", "\"90\"")),
        ("2", edit("ann", "grants,1,remaining", "\"90\"")),
        ("4", edit("ann", "grants,1,deferred", "\"9.0000000001\"")),
        ("3", edit("ann", "grants,1,held", "\"8\"")),
        ("3", edit("ann", "grants,1,held", "\"0\"")),
        ("1", edit("ann", "owed", "\"1\"")),
        ("3", edit("ann", "held_overdraft", "\"1\"")),
        ("3", edit("ann", "next_hold_end", "null")),
        ("6", edit("ann", "seq", "7")),
        ("6", edit("ann", "seq", "5")),
        ("2", edit("ann", "grants,1,kind", "\"included\"")),
        ("2", edit("ann", "grants,1,priority", "101")),
        ("2", edit("ann", "grants,1,applies_to", "[\"image\"]")),
        ("2", edit("ann", "grants,1,effective_at", "\"2020-01-01T00:00:00Z\"")),
        ("2", edit("ann", "grants,1,expires_at", "null")),
        ("2", edit("ann", "grants,1,id", "\"00000000-0000-7000-8000-000000000000\"")),
        ("3", "UPDATE credyt.wallets SET next_due_at = NULL WHERE customer = 'ann'".to_owned()),
        ("3", "UPDATE credyt.wallets SET next_due_at = next_due_at + interval '1 us' WHERE customer = 'ann'".to_owned()),
        ("1", "DELETE FROM credyt.wallets WHERE customer = 'ann'".to_owned()),
    ];
    // The stack burns the second grant first, and that is spent: what is left is one grant.
    let cases: Vec<_> = cases
        .iter()
        .map(|(invariant, sql)| (*invariant, sql.replace("grants,1", "grants,0")))
        .collect();
    let cases: Vec<_> = cases
        .iter()
        .map(|(invariant, sql)| (*invariant, sql.as_str()))
        .collect();
    finds(&mut client, "ann", &cases);
    let bob = [
        ("1", edit("bob", "owed", "\"6\"")),
        ("3", edit("bob", "held_overdraft", "\"5\"")),
    ];
    finds(
        &mut client,
        "bob",
        &bob.each_ref()
            .map(|(invariant, sql)| (*invariant, sql.as_str())),
    );
}

/// The columns of a subscription that a forged one takes over.
const COPIED: &str = "customer, quantity, asset, timezone, starts_at, anchor, steps, period_start, version, next_renewal_at,
    had_credits, had_paid, created_at";

#[test]
fn a_damaged_subscription_is_found() {
    let (database, mut client) = damaged_database("subscriptions");
    rows(
        &mut client,
        "SELECT credyt.create_plan('pro', 10, paid => 3, rollover => NULL), credyt.subscribe('dee', 'pro', now() - interval '70 days');
         SELECT credyt.change_plan('dee', 'pro', quantity => 2)",
    );
    assert_eq!(database.broken_invariants(), [""; 0]);
    let set = |what: &str| format!("UPDATE credyt.booked_subscriptions SET {what}");
    let cases = [
        ("3", edit("dee", "next_renewal", "null")),
        ("3", edit("dee", "next_renewal", "\"2020-01-01T00:00:00Z\"")),
        ("3", set("next_renewal_at = next_renewal_at + interval '1 us'")),
        // Unpaid, what may roll over begins to wait at the same moment.
        ("3", set("paid_through = now(), grants = '{}', moved = '{}'")),
        ("3", set("paid_through = now(), waits_until = now()")),
        ("7", edit("dee", "grants,0,waiting", "\"1\"")),
        ("3", set("ends_at = now()")),
        ("3", "DELETE FROM credyt.booked_subscriptions".to_owned()),
        // A difference is granted once, and a period has had no more than its terms.
        ("7", set("had_credits = 0")),
        ("7", set("had_paid = 0")),
        ("7", "UPDATE credyt.plan_changes SET grant_id = gen_random_uuid()".to_owned()),
        // A period, a grant and a difference belong to one subscription.
        ("7", format!("INSERT INTO credyt.booked_subscriptions (id, ends_at, plan, grants, moved, {COPIED})
                       SELECT gen_random_uuid(), now(), plan, '{{}}', '{{}}', {COPIED} FROM credyt.booked_subscriptions")),
        ("7", format!("INSERT INTO credyt.booked_subscriptions (id, ends_at, plan, grants, moved, {COPIED})
                       SELECT gen_random_uuid(), now(), 'other', grants, moved, {COPIED} FROM credyt.booked_subscriptions")),
        ("7", "INSERT INTO credyt.plan_changes SELECT customer, gen_random_uuid(), subscription_id, from_plan, from_quantity, to_plan,
                   to_quantity, at, proration, grant_id, created_at, period_end FROM credyt.plan_changes".to_owned()),
        // What rolled over into a grant is what it was issued with.
        ("2", "UPDATE credyt.grants SET credits = credits + 1 WHERE origin IS NOT NULL AND customer = 'dee'".to_owned()),
        ("2", "UPDATE credyt.grants SET paid = paid + 1 WHERE origin IS NOT NULL AND customer = 'dee'".to_owned()),
    ];
    let cases = cases
        .each_ref()
        .map(|(invariant, sql)| (*invariant, sql.as_str()));
    finds(&mut client, "dee", &cases);
}

#[test]
fn a_damaged_grant_is_found() {
    let (_database, mut client) = damaged_database("grants");
    finds(
        &mut client,
        "ann",
        &[
            ("2", "UPDATE credyt.grants SET credits = 101 WHERE kind = 'purchased' AND customer = 'ann'"),
            ("4", "UPDATE credyt.grants SET paid = 10.01 WHERE kind = 'purchased' AND customer = 'ann'"),
            ("6", "UPDATE credyt.grants SET credits = 21 WHERE kind = 'included'"),
            ("2", "UPDATE credyt.grants SET priority = 1 WHERE kind = 'purchased' AND customer = 'ann'"),
            ("2", "UPDATE credyt.grants SET kind = 'promotional' WHERE kind = 'purchased' AND customer = 'ann'"),
            ("2", "UPDATE credyt.grants SET expires_at = NULL WHERE kind = 'purchased' AND customer = 'ann'"),
            ("2", "DELETE FROM credyt.grants WHERE kind = 'purchased' AND customer = 'ann'"),
            ("2", "DELETE FROM credyt.grants WHERE kind = 'included'"),
            (
                "6",
                "INSERT INTO credyt.grants SELECT customer, gen_random_uuid(), asset, kind, priority, credits, paid, settled,
                     debt_revenue, effective_at, expires_at, applies_to, origin, created_at, metadata
                 FROM credyt.grants WHERE kind = 'included'",
            ),
        ],
    );
}

#[test]
fn a_damaged_ledger_row_is_found() {
    let (_database, mut client) = damaged_database("ledger");
    finds(
        &mut client,
        "ann",
        &[
            ("1", "UPDATE credyt.ledger SET credits = credits - 1 WHERE idempotency_key = 'd'"),
            ("6", "UPDATE credyt.ledger SET credits = credits - 1 WHERE idempotency_key = 'd'"),
            ("6", "UPDATE credyt.ledger SET revenue = revenue + 1 WHERE idempotency_key = 'd'"),
            ("1", "UPDATE credyt.ledger SET balance = balance + 1 WHERE idempotency_key = 'd'"),
            ("2", "UPDATE credyt.ledger SET allocations = jsonb_set(allocations, '{0,credits}', '\"19\"') WHERE idempotency_key = 'd'"),
            ("4", "UPDATE credyt.ledger SET allocations = jsonb_set(allocations, '{0,revenue}', '\"2\"') WHERE idempotency_key = 'd'"),
            (
                "2",
                "UPDATE credyt.ledger SET allocations = jsonb_set(allocations, '{0,grant}', allocations->1->'grant') WHERE idempotency_key = 'd'",
            ),
            ("6", "UPDATE credyt.ledger SET allocations = '[]' WHERE idempotency_key = 'd'"),
            ("6", "UPDATE credyt.ledger SET seq = seq + 100 WHERE idempotency_key = 'd'"),
            ("1", "UPDATE credyt.ledger SET asset = 'other' WHERE idempotency_key = 'd'"),
            ("1", "DELETE FROM credyt.ledger WHERE idempotency_key = 'd'"),
            ("6", "DELETE FROM credyt.ledger WHERE idempotency_key = 'd'"),
            ("6", "DELETE FROM credyt.ledger WHERE idempotency_key = 'g'"),
            // Rows that moved nothing are missed too.
            ("6", "DELETE FROM credyt.ledger WHERE kind = 'debit' AND credits = 0"),
            ("2", "DELETE FROM credyt.ledger WHERE kind = 'refund'"),
            ("5", "DELETE FROM credyt.ledger WHERE authorization_id IS NOT NULL"),
            ("5", "UPDATE credyt.ledger SET authorization_id = NULL WHERE authorization_id IS NOT NULL"),
            ("5", "UPDATE credyt.ledger SET refers_to = gen_random_uuid() WHERE kind = 'refund'"),
            ("5", "UPDATE credyt.ledger SET credits = 31 WHERE kind = 'refund'"),
            (
                "5",
                "DROP INDEX credyt.ledger_key; UPDATE credyt.ledger SET idempotency_key = 'd' WHERE idempotency_key = 'g'",
            ),
            (
                "6",
                "INSERT INTO credyt.ledger (customer, asset, id, seq, created_at, occurred_at, accounted_at, kind, credits, balance, revenue, allocations)
                 SELECT customer, asset, gen_random_uuid(), seq, created_at, occurred_at, accounted_at, kind, credits, balance, revenue, allocations
                 FROM credyt.ledger WHERE kind = 'debit' AND credits = 0",
            ),
        ],
    );
}

#[test]
fn a_damaged_authorization_is_found() {
    let (_database, mut client) = damaged_database("authorizations");
    finds(
        &mut client,
        "ann",
        &[
            (
                "5",
                "UPDATE credyt.authorizations SET captured = 4 WHERE customer = 'ann'",
            ),
            (
                "3",
                "UPDATE credyt.authorizations SET pins = '[]' WHERE customer = 'ann'",
            ),
            (
                "3",
                "UPDATE credyt.authorizations SET pins = jsonb_set(pins, '{0,credits}', '\"8\"') WHERE customer = 'ann'",
            ),
            (
                "3",
                "UPDATE credyt.authorizations SET status = 'released' WHERE customer = 'ann'",
            ),
            (
                "3",
                "DELETE FROM credyt.authorizations WHERE customer = 'ann'",
            ),
            (
                "7",
                "INSERT INTO credyt.open_debts VALUES ('ann', 'credits', 99, gen_random_uuid(), NULL, 1, 0)",
            ),
        ],
    );
    finds(
        &mut client,
        "bob",
        &[
            (
                "3",
                "UPDATE credyt.authorizations SET pins = '[]' WHERE customer = 'bob'",
            ),
            (
                "1",
                "UPDATE credyt.open_debts SET owed = 6 WHERE customer = 'bob'",
            ),
            ("1", "DELETE FROM credyt.open_debts WHERE customer = 'bob'"),
            (
                "7",
                "UPDATE credyt.open_debts SET owed = 6 WHERE customer = 'bob'",
            ),
            (
                "7",
                "UPDATE credyt.open_debts SET returned = 1 WHERE customer = 'bob'",
            ),
        ],
    );
}

#[test]
fn a_wallet_s_bytes_are_checked_before_they_are_believed() {
    let (_database, mut client) = damaged_database("bytes");
    let bytes = value(
        &mut client,
        "SELECT encode(state::bytea, 'hex') FROM credyt.wallets WHERE customer = 'ann'",
    );
    for at in (0..bytes.len()).step_by(2) {
        let flipped = u8::from_str_radix(&bytes[at..at + 2], 16).unwrap() ^ 1;
        let damaged = format!("{}{flipped:02x}{}", &bytes[..at], &bytes[at + 2..]);
        let refused =
            support::sql::refusal(&mut client, &format!("SELECT credyt.pack('\\x{damaged}')"));
        assert_eq!(refused.code, "22P02", "byte {}", at / 2);
        let cut = format!("SELECT credyt.pack('\\x{}')", &bytes[..at]);
        assert_eq!(
            support::sql::refusal(&mut client, &cut).code,
            "22P02",
            "cut at {}",
            at / 2
        );
    }
}

#[test]
fn a_damaged_period_is_found() {
    let (_database, mut client) = damaged_database("periods");
    let close = "SELECT through FROM credyt.close_period(clock_timestamp())";
    rows(&mut client, "SELECT pg_sleep(0.01)");
    let first = value(&mut client, close);
    rows(
        &mut client,
        "SELECT credyt.debit_credits('ann', 'image', 5, idempotency_key => 'next')",
    );
    rows(&mut client, close);
    rows(
        &mut client,
        "SELECT credyt.debit_credits('ann', 'image', 0, idempotency_key => 'open')",
    );
    let into_the_first = |key: &str| {
        format!(
            "UPDATE credyt.ledger SET accounted_at = '{first}'::timestamptz - interval '1 us' WHERE idempotency_key = '{key}'"
        )
    };
    let cases = [
        ("4", "UPDATE credyt.period_grants SET remaining = remaining + 1 WHERE customer = 'ann'".to_owned()),
        ("4", format!("UPDATE credyt.period_grants SET deferred = 0 WHERE customer = 'ann' AND through = '{first}'")),
        ("4", format!("DELETE FROM credyt.period_grants WHERE customer = 'ann' AND through = '{first}'")),
        ("4", format!("DELETE FROM credyt.period_grants WHERE customer = 'ann' AND through > '{first}'")),
        (
            "4",
            format!(
                "INSERT INTO credyt.period_grants SELECT customer, asset, through, gen_random_uuid(), kind, 1, 0
                 FROM credyt.period_grants WHERE customer = 'ann' AND through = '{first}'"
            ),
        ),
        ("4", into_the_first("next")),
        ("6", into_the_first("next")),
        // It moved nothing, and still was not there when the period was closed.
        ("6", into_the_first("open")),
        ("6", edit("ann", "changed_at", "\"2020-01-01T00:00:00Z\"")),
    ];
    for (invariant, damage) in &cases {
        rows(
            &mut client,
            "BEGIN; SET LOCAL session_replication_role = replica",
        );
        rows(&mut client, damage);
        let one = "SELECT DISTINCT invariant FROM credyt.verify('ann') ORDER BY 1";
        let invariants = values(&mut client, one);
        assert!(
            invariants.iter().any(|found| found == invariant),
            "invariant {invariant}, found {invariants:?}: {damage}"
        );
        assert_eq!(
            values(&mut client, "SELECT * FROM credyt.verify('cy')"),
            [""; 0],
            "{damage}"
        );
        rows(&mut client, "ROLLBACK");
    }
    rows(
        &mut client,
        "BEGIN; SET LOCAL session_replication_role = replica; UPDATE credyt.periods SET deferred = deferred + 1",
    );
    assert_eq!(
        values(
            &mut client,
            "SELECT DISTINCT invariant, asset FROM credyt.verify()"
        ),
        ["4 credits"]
    );
    rows(&mut client, "ROLLBACK");
}
