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
