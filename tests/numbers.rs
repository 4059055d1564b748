//! Exact to the last digit, up to the limits, and refused beyond them.

mod support;

use support::sql::{Database, refusal, rows, value, values};

const MOST: &str = "999999999999999.9999999999";

#[test]
fn tenths_add_up() {
    let database = Database::new("tenths");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.create_asset('fine', 10), credyt.set_price('chat', '0.1', asset => 'fine')",
    );
    rows(
        &mut client,
        "SELECT credyt.grant_credits('ann', 0.1, asset => 'fine', paid => 0.0000000001) FROM generate_series(1, 10)",
    );
    let debit = "SELECT available FROM credyt.debit_credits('ann', 'chat', asset => 'fine')";
    for left in [
        "0.9", "0.8", "0.7", "0.6", "0.5", "0.4", "0.3", "0.2", "0.1", "0",
    ] {
        assert_eq!(value(&mut client, debit), left);
    }
    assert_eq!(refusal(&mut client, debit).code, "WC001");
    assert_eq!(
        value(&mut client, "SELECT sum(revenue) FROM credyt.ledger"),
        "0.0000000010"
    );
}

#[test]
fn each_scale_keeps_its_digits() {
    let database = Database::new("scales");
    let mut client = database.connect();
    for (scale, least, too_fine) in [
        (0, "1", "0.1"),
        (2, "0.01", "0.001"),
        (10, "0.0000000001", "0.00000000001"),
    ] {
        let create = format!(
            "SELECT credyt.create_asset('s{scale}', {scale}), credyt.set_price('chat', '0.00000000000001', asset => 's{scale}')"
        );
        rows(&mut client, &create);
        let grant = |credits: &str| {
            format!(
                "SELECT remaining FROM credyt.grant_credits('ann', {credits}, asset => 's{scale}')"
            )
        };
        assert_eq!(value(&mut client, &grant(least)), least);
        assert_eq!(value(&mut client, &grant("5.0000000000000000")), "5");
        let refused = refusal(&mut client, &grant(too_fine));
        assert_eq!(
            (refused.code.as_str(), &refused.json()["argument"]),
            ("22023", &"credits".into())
        );
        // A price below the scale is rounded, once, to the least that can be charged.
        let debit =
            format!("SELECT credits FROM credyt.debit_credits('ann', 'chat', asset => 's{scale}')");
        assert_eq!(value(&mut client, &debit), least);
    }
}

#[test]
fn the_largest_grant_is_spent_and_earned_to_the_last_digit() {
    let database = Database::new("largest");
    let mut client = database.connect();
    rows(&mut client, "SELECT credyt.create_asset('fine', 10)");
    let grant = format!(
        "SELECT remaining, paid FROM credyt.grant_credits('ann', {MOST}, asset => 'fine', paid => {MOST})"
    );
    assert_eq!(value(&mut client, &grant), format!("{MOST} {MOST}"));
    // What was paid is the same number as the credits, so each debit earns exactly what it spends.
    let debit = |credits: &str| {
        format!(
            "SELECT credits = revenue, available FROM credyt.debit_credits('ann', 'chat', credits => {credits}, asset => 'fine')"
        )
    };
    assert_eq!(
        value(&mut client, &debit("0.0000000001")),
        "t 999999999999999.9999999998"
    );
    assert_eq!(
        value(&mut client, &debit("333333333333333.3333333333")),
        "t 666666666666666.6666666665"
    );
    assert_eq!(
        value(&mut client, &debit("666666666666666.6666666665")),
        "t 0"
    );
    assert_eq!(
        value(&mut client, "SELECT sum(revenue) FROM credyt.ledger"),
        MOST
    );

    // Thirds of a cent: nothing is lost when the grant is emptied.
    rows(
        &mut client,
        "SELECT credyt.grant_credits('bob', 3, asset => 'fine', paid => 10)",
    );
    let debit =
        "SELECT revenue FROM credyt.debit_credits('bob', 'chat', credits => 1, asset => 'fine')";
    let earned: Vec<String> = (0..3).map(|_| value(&mut client, debit)).collect();
    assert_eq!(earned, ["3.3333333333", "3.3333333334", "3.3333333333"]);
}

#[test]
fn beyond_the_limits_is_refused() {
    let database = Database::new("limits");
    let mut client = database.connect();
    rows(&mut client, "SELECT credyt.grant_credits('ann', 10)");
    for (argument, call) in [
        ("credits", "grant_credits('ann', 1000000000000000)"),
        ("credits", "grant_credits('ann', 1e30)"),
        ("paid", "grant_credits('ann', 1, paid => 1000000000000000)"),
        (
            "overdraft_limit",
            "open_wallet('ann', overdraft_limit => 1000000000000000)",
        ),
        (
            "credits",
            "debit_credits('ann', 'image', credits => 1000000000000000)",
        ),
        (
            "cost",
            "debit_credits('ann', 'image', cost => 1000000000000000)",
        ),
        ("quantity", "debit_credits('ann', 'image', 1e40)"),
        ("credits", "debit_credits('ann', 'image', 1e20)"),
        ("credits", "authorize('ann', 'image', 1e20)"),
        ("credits", "quote('image', 1e20)"),
    ] {
        let refused = refusal(&mut client, &format!("SELECT credyt.{call}"));
        assert_eq!(refused.code, "22003", "{call}: {refused:?}");
        assert_eq!(refused.json()["argument"], argument, "{call}: {refused:?}");
    }
}

#[test]
fn a_wallet_takes_a_thousand_grants_and_less_than_1e18_credits() {
    let database = Database::new("thousand");
    let mut client = database.connect();
    let most = "SELECT count(*) FROM (SELECT credyt.grant_credits('ann', 999999999999999.99, paid => 1) FROM generate_series(1, 1000)) g";
    assert_eq!(value(&mut client, most), "1000");
    assert_eq!(
        value(&mut client, "SELECT settled FROM credyt.balance('ann')"),
        "999999999999999990"
    );
    let one_more = "SELECT credyt.grant_credits('ann', 0.01)";
    let refused = refusal(&mut client, one_more);
    assert_eq!(
        (refused.code.as_str(), &refused.json()["error"]),
        ("54000", &"too_many_grants".into())
    );
    assert!(refused.hint.contains("Revoke"), "{refused:?}");

    // One debit over two of them makes room for one more.
    let debit = "SELECT jsonb_array_length(allocations) FROM credyt.debit_credits('ann', 'image', credits => 999999999999999.99)";
    assert_eq!(value(&mut client, debit), "1");
    rows(&mut client, one_more);
    assert_eq!(refusal(&mut client, one_more).code, "54000");
    rows(
        &mut client,
        "SELECT credyt.grant_credits('bob', 1) FROM generate_series(1, 1000)",
    );
    let all = "SELECT jsonb_array_length(allocations), available FROM credyt.debit_credits('bob', 'image', 1000)";
    assert_eq!(value(&mut client, all), "1000 0");
    assert_eq!(
        values(&mut client, "SELECT status FROM credyt.wallet_balances"),
        ["active", "active"]
    );
}

#[test]
fn what_is_owed_stays_below_1e18() {
    let database = Database::new("owed");
    let mut client = database.connect();
    rows(&mut client, "SELECT credyt.open_wallet('ann')");
    let owe = "DO $$ DECLARE hold uuid; BEGIN FOR n IN 1..$n LOOP
                   SELECT id INTO hold FROM credyt.authorize('ann', 'image', 0, overrun => 'overdraft');
                   PERFORM credyt.capture('ann', hold, credits => 999999999999999);
               END LOOP; END $$";
    rows(&mut client, &owe.replace("$n", "1000"));
    assert_eq!(
        value(
            &mut client,
            "SELECT settled, owed FROM credyt.balance('ann')"
        ),
        "-999999999999999000 999999999999999000"
    );
    let refused = refusal(&mut client, &owe.replace("$n", "1"));
    assert_eq!(
        (refused.code.as_str(), &refused.json()["customer"]),
        ("22003", &"ann".into())
    );
}

/// Numbers and allocations are written in Postgres' own binary forms: each has to be what Postgres makes of
/// its text.
#[test]
fn numbers_and_allocations_are_stored_as_postgres_stores_them() {
    let database = Database::new("binary_forms");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.create_asset('fine', 10); SELECT setseed(0.5);
         SELECT count(credyt.grant_credits('c' || n % 7, credits => trunc((10 ^ (n % 25 - 10) * (1 + 8 * random()))::numeric, 10) + 0.0000000001,
                                           asset => 'fine', paid => (10 ^ (n % 23 - 9) * random())::numeric))
         FROM generate_series(1, 700) n;
         SELECT count(credyt.debit_credits('c' || n % 7, 'image', credits => trunc((10 ^ (n % 20 - 10) * random())::numeric, 10), asset => 'fine',
                                           quantity => (10 ^ (n % 30 - 12) * random())::numeric, cost => (10 ^ (n % 26 - 12) * random())::numeric))
         FROM generate_series(1, 700) n;
         SELECT credyt.open_wallet('most', overdraft_limit => 5);
         SELECT count(credyt.grant_credits('most', 1 + n, paid => n)) FROM generate_series(1, 70) n;
         SELECT credyt.debit_credits('most', 'image', credits => n) FROM (VALUES (0), (1.5), (2400), (150)) d (n);
         CREATE TABLE printed AS SELECT id, quantity::text::numeric, credits::text::numeric, balance::text::numeric, revenue::text::numeric,
             cost::text::numeric, allocations::text::jsonb FROM credyt.ledger",
    );
    let different = values(
        &mut client,
        "SELECT o.name, o.n FROM credyt.ledger l JOIN printed p USING (id), LATERAL (VALUES
             ('quantity', l.quantity, p.quantity), ('credits', l.credits, p.credits), ('balance', l.balance, p.balance),
             ('revenue', l.revenue, p.revenue), ('cost', l.cost, p.cost)) o (name, n, m)
         WHERE numeric_send(n) <> numeric_send(m) OR pg_column_size(n) <> pg_column_size(m)",
    );
    assert_eq!(different, Vec::<String>::new());
    let different = values(
        &mut client,
        "SELECT l.allocations FROM credyt.ledger l JOIN printed p USING (id)
         WHERE l.allocations <> p.allocations OR pg_column_size(l.allocations) <> pg_column_size(p.allocations)
            OR jsonb_hash_extended(l.allocations, 0) <> jsonb_hash_extended(p.allocations, 0)
            OR NOT l.allocations @> p.allocations OR NOT p.allocations @> l.allocations
            OR EXISTS (SELECT FROM generate_series(0, jsonb_array_length(p.allocations)) at, unnest('{grant,kind,credits,revenue,deferred}'::text[]) key
                       WHERE l.allocations->at->key IS DISTINCT FROM p.allocations->at->key)",
    );
    assert_eq!(different, Vec::<String>::new());
    assert_eq!(
        value(
            &mut client,
            "SELECT max(jsonb_array_length(allocations)) FROM credyt.ledger"
        ),
        "68"
    );
}
