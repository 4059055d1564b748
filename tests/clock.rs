//! Expiry and renewal are applied lazily: what starts and ends does so at its moment in every read, and is
//! booked at that moment, whenever that is done. `credyt.clock` says what time it is.

mod support;

use postgres::Client;
use support::sql::{Database, clock, refusal, rows, value, values};

const BALANCE: &str = "SELECT settled, held, available, owed FROM credyt.balance('ann')";
const IN_VIEW: &str =
    "SELECT settled, held, available, owed FROM credyt.wallet_balances WHERE customer = 'ann'";

/// The balance as the function says it, and the view the same.
fn balance(client: &mut Client) -> String {
    let balance = value(client, BALANCE);
    assert_eq!(
        value(client, IN_VIEW),
        balance,
        "wallet_balances differs from balance()"
    );
    balance
}

fn at_eight(name: &str) -> (Database, Client) {
    let database = Database::new(name);
    let mut client = database.connect();
    // The price of Database::new is set at the true time; the test's time lies behind it.
    clock(&mut client, "2100-01-01 08:00Z");
    (database, client)
}

#[test]
fn a_hold_outlives_the_grant_it_pins() {
    let (_database, mut client) = at_eight("outlives");
    rows(
        &mut client,
        "SELECT credyt.grant_credits('ann', 10, paid => 20, expires_at => '2100-01-01 09:00Z')",
    );
    let hold = value(
        &mut client,
        "SELECT id FROM credyt.authorize('ann', 'image', 6, ttl_seconds => 7200)",
    );
    assert_eq!(balance(&mut client), "10 6 4 0");

    clock(&mut client, "2100-01-01 09:00Z");
    assert_eq!(balance(&mut client), "6 6 0 0");
    assert_eq!(
        value(&mut client, "SELECT credits, revenue FROM credyt.breakage"),
        "4 8.00"
    );
    assert_eq!(
        refusal(&mut client, "SELECT credyt.debit_credits('ann', 'image')").code,
        "WC001"
    );

    // Captured in part: the rest comes back to the ended grant, and is lost with it.
    let capture = format!(
        "SELECT credits, revenue, reason, available, held FROM credyt.capture('ann', '{hold}', 5)"
    );
    assert_eq!(value(&mut client, &capture), "5 10.00 - 0 0");
    assert_eq!(balance(&mut client), "0 0 0 0");
    assert_eq!(
        value(&mut client, "SELECT credits, revenue FROM credyt.breakage"),
        "5 10.00"
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT remaining, held, deferred FROM credyt.grant_balances"
        ),
        "0 0 0.00"
    );
}

#[test]
fn a_hold_ends_by_the_clock_alone() {
    let (_database, mut client) = at_eight("ends");
    rows(&mut client, "SELECT credyt.grant_credits('ann', 10)");
    let hold = value(
        &mut client,
        "SELECT id FROM credyt.authorize('ann', 'image', 10, ttl_seconds => 60)",
    );
    assert_eq!(
        refusal(&mut client, "SELECT credyt.debit_credits('ann', 'image')").code,
        "WC001"
    );
    clock(&mut client, "2100-01-01 08:00:59.999999Z");
    assert_eq!(balance(&mut client), "10 10 0 0");
    assert_eq!(
        value(
            &mut client,
            "SELECT count(*) FROM credyt.open_authorizations"
        ),
        "1"
    );

    clock(&mut client, "2100-01-01 08:01Z");
    assert_eq!(balance(&mut client), "10 0 10 0");
    assert_eq!(
        value(
            &mut client,
            "SELECT remaining, held FROM credyt.grant_balances"
        ),
        "10 0"
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT remaining, held FROM credyt.spend_order"
        ),
        "10 0"
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT count(*) FROM credyt.open_authorizations"
        ),
        "0"
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT approved, available FROM credyt.authorize('ann', 'image', 1, ttl_seconds => 1)"
        ),
        "t 9"
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT available FROM credyt.debit_credits('ann', 'image', 9)"
        ),
        "0"
    );
    let extend = format!("SELECT * FROM credyt.extend('ann', '{hold}')");
    assert_eq!(refusal(&mut client, &extend).json()["status"], "expired");
    let release = format!(
        "SELECT r.status, b.held, b.available FROM credyt.release('ann', '{hold}') r, credyt.balance('ann') b"
    );
    assert_eq!(value(&mut client, &release), "released 1 0");
}

#[test]
fn extend_counts_from_now_and_holds_go_on() {
    let (_database, mut client) = at_eight("extend");
    rows(&mut client, "SELECT credyt.grant_credits('ann', 10)");
    let hold = value(
        &mut client,
        "SELECT id FROM credyt.authorize('ann', 'image', 4, ttl_seconds => 60)",
    );
    clock(&mut client, "2100-01-01 08:00:50Z");
    let extend = format!("SELECT expires_at FROM credyt.extend('ann', '{hold}', 60)");
    assert_eq!(value(&mut client, &extend), "2100-01-01 08:01:50+00");
    clock(&mut client, "2100-01-01 08:01:49Z");
    assert_eq!(balance(&mut client), "10 4 6 0");
    clock(&mut client, "2100-01-01 08:01:50Z");
    assert_eq!(balance(&mut client), "10 0 10 0");
}

#[test]
fn a_late_capture_takes_what_is_free() {
    let (_database, mut client) = at_eight("late");
    rows(&mut client, "SELECT credyt.grant_credits('ann', 10)");
    let authorize = |client: &mut Client, overrun: &str| {
        let sql = format!(
            "SELECT id FROM credyt.authorize('ann', 'image', 6, ttl_seconds => 60, overrun => '{overrun}')"
        );
        value(client, &sql)
    };
    let capture =
        |id: &str| format!("SELECT credits, reason, available FROM credyt.capture('ann', '{id}')");
    let first = authorize(&mut client, "reject");
    clock(&mut client, "2100-01-01 08:02Z");
    assert_eq!(value(&mut client, &capture(&first)), "6 late 4");

    // The remaining 4 do not pay another 6: refused and free to come again, forgiven, or owed.
    rows(&mut client, "SELECT credyt.grant_credits('ann', 2)");
    let second = authorize(&mut client, "reject");
    clock(&mut client, "2100-01-01 08:04Z");
    rows(
        &mut client,
        "SELECT credyt.debit_credits('ann', 'image', 2)",
    );
    let refused = refusal(&mut client, &capture(&second));
    assert_eq!(
        (refused.code.as_str(), &refused.json()["available"]),
        ("WC001", &"4".into())
    );
    let remedy = refused.remedy().replace("*", "credits, reason, available");
    assert_eq!(value(&mut client, &remedy), "4 late 0");
    for (overrun, charged, left) in [
        ("clamp", "2 late 0", "0 0 0 0"),
        ("overdraft", "6 late 0", "-4 0 0 4"),
    ] {
        rows(&mut client, "SELECT credyt.grant_credits('ann', 6)");
        let hold = authorize(&mut client, overrun);
        let hour = if overrun == "clamp" { 9 } else { 10 };
        clock(&mut client, format!("2100-01-01 {hour}:00Z"));
        rows(
            &mut client,
            "SELECT credyt.debit_credits('ann', 'image', 4)",
        );
        assert_eq!(value(&mut client, &capture(&hold)), charged);
        assert_eq!(balance(&mut client), left);
    }
}

#[test]
fn what_returns_to_an_ended_grant_is_breakage_unless_it_is_restored() {
    let (_database, mut client) = at_eight("returns");
    let debit = "SELECT d.id FROM credyt.grant_credits('ann', 10, 'included', paid => 5, expires_at => '2100-01-01 09:00Z'),
                      credyt.debit_credits('ann', 'image', 10) d";
    let debit = value(&mut client, debit);
    clock(&mut client, "2100-01-01 10:00Z");
    let refund =
        format!("SELECT credits, revenue, available FROM credyt.refund('ann', '{debit}', 4)");
    assert_eq!(value(&mut client, &refund), "4 2.00 0");
    assert_eq!(
        value(
            &mut client,
            "SELECT kind, credits, revenue FROM credyt.breakage"
        ),
        "included 4 2.00"
    );
    let refund = format!(
        "SELECT credits, revenue, available FROM credyt.refund('ann', '{debit}', restore_until => '2100-01-01 11:00Z')"
    );
    assert_eq!(value(&mut client, &refund), "6 3.00 6");
    assert_eq!(
        value(
            &mut client,
            "SELECT n.kind, n.remaining, n.deferred, n.expires_at, n.origin = o.id
             FROM credyt.grant_balances n, credyt.grant_balances o WHERE o.origin IS NULL AND n.origin IS NOT NULL"
        ),
        "included 6 3.00 2100-01-01 11:00:00+00 t"
    );
    clock(&mut client, "2100-01-01 11:00Z");
    assert_eq!(balance(&mut client), "0 0 0 0");
    assert_eq!(
        value(&mut client, "SELECT credits, revenue FROM credyt.breakage"),
        "10 5.00"
    );
}

#[test]
fn a_future_grant_counts_nowhere_until_it_is_live() {
    let (_database, mut client) = at_eight("future");
    rows(
        &mut client,
        "SELECT credyt.grant_credits('ann', 10, effective_at => '2100-01-01 09:00Z', expires_at => '2100-01-01 10:00Z')",
    );
    let places = ["spend_order", "expiring_grants"];
    let counts = |client: &mut Client| {
        places.map(|view| value(client, &format!("SELECT count(*) FROM credyt.{view}")))
    };
    for moment in ["2100-01-01 08:00Z", "2100-01-01 08:59:59.999999Z"] {
        clock(&mut client, moment);
        assert_eq!(balance(&mut client), "0 0 0 0");
        assert_eq!(counts(&mut client), ["0", "0"]);
        assert_eq!(
            refusal(&mut client, "SELECT credyt.debit_credits('ann', 'image')").json()["available"],
            "0"
        );
        assert_eq!(
            value(
                &mut client,
                "SELECT approved, reason, available FROM credyt.authorize('ann', 'image')"
            ),
            "f insufficient_credits 0"
        );
        assert_eq!(
            value(&mut client, "SELECT remaining FROM credyt.grant_balances"),
            "10"
        );
    }
    clock(&mut client, "2100-01-01 09:00Z");
    assert_eq!(balance(&mut client), "10 0 10 0");
    assert_eq!(counts(&mut client), ["1", "1"]);
    assert_eq!(
        value(
            &mut client,
            "SELECT available FROM credyt.debit_credits('ann', 'image')"
        ),
        "9"
    );
    clock(&mut client, "2100-01-01 10:00Z");
    assert_eq!(balance(&mut client), "0 0 0 0");
    assert_eq!(counts(&mut client), ["0", "0"]);
}

#[test]
fn a_grant_pays_debt_the_moment_it_starts() {
    let (_database, mut client) = at_eight("settles");
    rows(
        &mut client,
        "SELECT credyt.open_wallet('ann', overdraft_limit => 10);
         SELECT credyt.grant_credits('ann', 8, paid => 4, effective_at => '2100-01-01 09:00Z');
         SELECT credyt.debit_credits('ann', 'image', 3); SELECT credyt.debit_credits('ann', 'image', 2)",
    );
    assert_eq!(balance(&mut client), "-5 0 5 5");
    clock(&mut client, "2100-01-01 09:00Z");
    assert_eq!(balance(&mut client), "3 0 13 0");
    clock(&mut client, "2100-01-01 12:00Z");
    assert_eq!(
        value(
            &mut client,
            "SELECT available FROM credyt.debit_credits('ann', 'image')"
        ),
        "12"
    );
    assert_eq!(
        values(
            &mut client,
            "SELECT kind, credits, revenue, occurred_at, created_at FROM credyt.ledger WHERE kind = 'settlement' ORDER BY seq"
        ),
        [
            "settlement 0 1.50 2100-01-01 09:00:00+00 2100-01-01 12:00:00+00",
            "settlement 0 1.00 2100-01-01 09:00:00+00 2100-01-01 12:00:00+00",
        ]
    );
}

#[test]
fn an_end_is_booked_at_its_moment_however_late() {
    let (_database, mut client) = at_eight("occurred");
    rows(
        &mut client,
        "SELECT credyt.grant_credits('ann', 1, expires_at => '2100-01-01 09:00Z');
         SELECT credyt.grant_credits('ann', 2, expires_at => '2100-01-02 09:00Z');
         SELECT credyt.authorize('ann', 'image', 3, ttl_seconds => 36000)",
    );
    // The hold ends at 18:00: the first grant ended under it, the second ends after it.
    clock(&mut client, "2100-03-01 00:00Z");
    assert_eq!(balance(&mut client), "0 0 0 0");
    rows(
        &mut client,
        "SELECT credyt.debit_credits('ann', 'image', credits => 0)",
    );
    assert_eq!(
        values(
            &mut client,
            "SELECT credits, occurred_at, accounted_at, created_at FROM credyt.ledger WHERE kind = 'expiry' ORDER BY seq"
        ),
        [
            "-1 2100-01-01 18:00:00+00 2100-01-01 18:00:00+00 2100-03-01 00:00:00+00",
            "-2 2100-01-02 09:00:00+00 2100-01-02 09:00:00+00 2100-03-01 00:00:00+00",
        ]
    );
    assert_eq!(
        value(&mut client, "SELECT status FROM credyt.authorizations"),
        "expired"
    );
}

#[test]
fn the_past_is_the_same_before_and_after_it_is_booked() {
    let (_database, mut client) = at_eight("past");
    let past = |client: &mut Client| {
        let sql = "SELECT t, b.settled, b.owed
                   FROM generate_series('2100-01-01 08:00Z'::timestamptz, '2100-01-01 20:00Z', '10 min') t,
                        credyt.balance('ann', at => t) b ORDER BY t";
        values(client, sql)
    };
    let work = [
        "SELECT credyt.open_wallet('ann', overdraft_limit => 50)",
        "SELECT credyt.grant_credits('ann', 10, paid => 3, expires_at => '2100-01-01 10:00Z')",
        "SELECT credyt.grant_credits('ann', 40, paid => 9, effective_at => '2100-01-01 12:30Z', expires_at => '2100-01-01 15:00Z')",
        "SELECT credyt.grant_credits('ann', 7, applies_to => '{video}', expires_at => '2100-01-01 14:00Z')",
        "SELECT credyt.authorize('ann', 'image', 4, ttl_seconds => 3 * 3600)",
        "SELECT credyt.debit_credits('ann', 'image', 18, occurred_at => '2100-01-01 08:00Z')",
        "SELECT credyt.authorize('ann', 'image', 9, ttl_seconds => 5 * 3600)",
        "SELECT credyt.revoke_grant('ann', id, 2) FROM credyt.grant_balances WHERE applies_to IS NOT NULL",
        "SELECT credyt.grant_credits('ann', 3, expires_at => '2100-01-01 16:00Z')",
    ];
    // While time passes in steps of ten minutes, and one thing happens every so often, what is said
    // of a moment is noted then.
    let mut seen = Vec::new();
    for step in 0..=72 {
        let minute = 8 * 60 + 10 * step;
        let now = format!("2100-01-01 {:02}:{:02}:00+00", minute / 60, minute % 60);
        clock(&mut client, &now);
        if step % 2 == 0
            && let Some(sql) = work.get(step / 2)
        {
            rows(&mut client, sql);
        }
        let standing = value(
            &mut client,
            "SELECT settled, owed FROM credyt.balance('ann')",
        );
        seen.push(format!("{now} {standing}"));
    }
    assert!(
        seen.iter().any(|line| !line.ends_with(" 0")),
        "nothing was ever owed: {seen:#?}"
    );
    let unbooked = past(&mut client);
    assert_eq!(unbooked, seen);
    let rows_before = value(&mut client, "SELECT count(*) FROM credyt.ledger");
    rows(
        &mut client,
        "SELECT credyt.debit_credits('ann', 'image', credits => 0)",
    );
    assert_ne!(
        value(&mut client, "SELECT count(*) - 1 FROM credyt.ledger"),
        rows_before,
        "nothing was due"
    );
    assert_eq!(past(&mut client), seen);
    let ahead = refusal(
        &mut client,
        "SELECT credyt.balance('ann', at => '2110-01-02 20:00:00Z')",
    );
    assert_eq!(
        (ahead.code.as_str(), &ahead.json()["argument"]),
        ("22003", &"at".into())
    );
}

#[test]
fn time_in_a_wallet_never_runs_backwards() {
    let (_database, mut client) = at_eight("backwards");
    rows(
        &mut client,
        "SELECT credyt.grant_credits('ann', 10, expires_at => '2100-01-01 09:00Z')",
    );
    clock(&mut client, "2100-01-01 09:00Z");
    rows(
        &mut client,
        "SELECT credyt.debit_credits('ann', 'image', credits => 0)",
    );
    clock(&mut client, "2100-01-01 08:30Z");
    assert_eq!(balance(&mut client), "0 0 0 0");
    assert_eq!(
        value(
            &mut client,
            "SELECT created_at FROM credyt.debit_credits('ann', 'image', credits => 0)"
        ),
        "2100-01-01 09:00:00+00"
    );
}

#[test]
fn a_price_counts_from_its_moment() {
    let (_database, mut client) = at_eight("price_moment");
    rows(
        &mut client,
        "SELECT credyt.set_price('image', '5', effective_at => '2100-01-01 09:00Z');
         SELECT credyt.set_price('image', '7', effective_at => '2100-01-01 09:00Z');
         SELECT credyt.set_price('image', '2', customer => 'ann', effective_at => '2100-01-01 10:00Z');
         SELECT credyt.set_price('image', 'null', customer => 'ann', effective_at => '2100-01-01 11:00Z')",
    );
    for (now, price) in [
        ("08:59:59", "1"),
        ("09:00", "7"),
        ("10:00", "2"),
        ("11:00", "7"),
        ("08:00", "1"),
    ] {
        clock(&mut client, format!("2100-01-01 {now}Z"));
        assert_eq!(
            value(
                &mut client,
                "SELECT credits FROM credyt.quote('image', customer => 'ann')"
            ),
            price,
            "{now}"
        );
    }
    let past = refusal(
        &mut client,
        "SELECT credyt.set_price('image', '1', effective_at => '2100-01-01 07:59Z')",
    );
    assert_eq!(past.json()["argument"], "effective_at");
}

/// A debt, and a grant that paid it at nine o'clock; nobody has called since.
fn paid_by_time(name: &str) -> (Database, Client, String) {
    let (database, mut client) = at_eight(name);
    rows(
        &mut client,
        "SELECT credyt.open_wallet('ann', overdraft_limit => 10);
         SELECT credyt.grant_credits('ann', 8, paid => 4, effective_at => '2100-01-01 09:00Z')",
    );
    let debit = value(
        &mut client,
        "SELECT id FROM credyt.debit_credits('ann', 'image', 5)",
    );
    clock(&mut client, "2100-01-01 10:00Z");
    (database, client, debit)
}

#[test]
fn a_debt_that_time_has_paid_is_not_paid_by_the_next_grant() {
    let (_database, mut client, _) = paid_by_time("next_grant");
    assert_eq!(
        value(
            &mut client,
            "SELECT remaining FROM credyt.grant_credits('ann', 2)"
        ),
        "2"
    );
    assert_eq!(balance(&mut client), "5 0 15 0");
}

#[test]
fn a_debt_that_time_has_paid_is_refunded_to_the_grant_that_paid() {
    let (_database, mut client, debit) = paid_by_time("next_refund");
    let refund = format!("SELECT credits, revenue FROM credyt.refund('ann', '{debit}')");
    assert_eq!(value(&mut client, &refund), "5 2.50");
    assert_eq!(balance(&mut client), "8 0 18 0");
}

#[test]
fn what_time_has_spent_of_a_grant_is_owed_when_it_is_revoked() {
    let (_database, mut client, _) = paid_by_time("next_revoke");
    rows(
        &mut client,
        "SELECT credyt.revoke_grant('ann', id, spent => 'owe') FROM credyt.grant_balances",
    );
    assert_eq!(balance(&mut client), "-5 0 5 5");
}

#[test]
fn what_came_back_since_it_was_owed_is_not_given_twice() {
    let (_database, mut client) = at_eight("owed_twice");
    let ids = "SELECT g.id, d.id FROM credyt.grant_credits('ann', 8, paid => 4) g, credyt.debit_credits('ann', 'image', 5) d";
    let ids = value(&mut client, ids);
    let (grant, debit) = ids.split_once(' ').unwrap();
    let revoke = format!("SELECT credyt.revoke_grant('ann', '{grant}', spent => 'owe')");
    rows(&mut client, &revoke);
    assert_eq!(balance(&mut client), "-5 0 0 5");
    rows(
        &mut client,
        &format!("SELECT credyt.refund('ann', '{debit}')"),
    );
    // The refund lowered the debt: nothing is left to take.
    rows(&mut client, &revoke);
    assert_eq!(balance(&mut client), "0 0 0 0");
}
