//! Every refusal: its SQLSTATE, the keys of its DETAIL, and a HINT that helps when it is followed.

mod support;

use postgres::Client;
use support::sql::{Database, Refusal, refusal, rows, value};

fn ann_has(name: &str, credits: u32) -> (Database, Client) {
    let database = Database::new(name);
    let mut client = database.connect();
    rows(
        &mut client,
        &format!("SELECT credyt.grant_credits('ann', {credits})"),
    );
    (database, client)
}

/// What a call is about: every error has those of them that the call names.
const SUBJECTS: [&str; 10] = [
    "customer",
    "to_customer",
    "asset",
    "action",
    "plan",
    "scope",
    "authorization_id",
    "debit_id",
    "grant_id",
    "event_id",
];

/// The refusal of this call: this code and slug, these keys in DETAIL, besides what the call is about, and a HINT.
fn refused(client: &mut Client, call: &str, code: &str, slug: &str, keys: &[&str]) -> Refusal {
    let refused = refusal(client, &format!("SELECT * FROM credyt.{call}"));
    let detail = refused.json();
    assert_eq!(
        (refused.code.as_str(), &detail["error"]),
        (code, &slug.into()),
        "{refused:?}"
    );
    let names = detail.as_object().unwrap().keys().map(String::as_str);
    let mut found: Vec<&str> = names
        .filter(|name| keys.contains(name) || !SUBJECTS.contains(name))
        .collect();
    let mut expected = [&["error"], keys].concat();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{refused:?}");
    assert!(
        !refused.message.is_empty() && !refused.hint.is_empty(),
        "{refused:?}"
    );
    refused
}

/// Refused; then what the HINT says is run; then it succeeds.
fn remedied(client: &mut Client, call: &str, code: &str, slug: &str, keys: &[&str]) {
    let refused = refused(client, call, code, slug, keys);
    rows(client, refused.remedy());
    rows(client, &format!("SELECT * FROM credyt.{call}"));
}

#[test]
fn wc001_names_what_is_needed_and_grants_what_is_missing() {
    let (_database, mut client) = ann_has("wc001", 3);
    let keys = ["customer", "asset", "needed", "available", "missing"];
    let debit = "debit_credits('ann', 'image', 7.25)";
    let error = refused(&mut client, debit, "WC001", "insufficient_credits", &keys).json();
    assert_eq!(
        [&error["needed"], &error["available"], &error["customer"]],
        ["7.25", "3", "ann"]
    );
    remedied(&mut client, debit, "WC001", "insufficient_credits", &keys);
    assert_eq!(
        value(&mut client, "SELECT available FROM credyt.balance('ann')"),
        "0"
    );

    // With credits that may not pay for it, and within a limit that is used up in part.
    rows(
        &mut client,
        "SELECT credyt.grant_credits('ann', 50, applies_to => '{video}'), credyt.open_wallet('ann', overdraft_limit => 10),
                credyt.set_price('video', '1')",
    );
    rows(
        &mut client,
        "SELECT credyt.debit_credits('ann', 'image', 4)",
    );
    remedied(&mut client, debit, "WC001", "insufficient_credits", &keys);
}

#[test]
fn wc001_grants_what_is_missing_where_more_is_owed_than_may_be() {
    let (_database, mut client) = ann_has("wc001_owing", 1);
    let hold = value(
        &mut client,
        "SELECT id FROM credyt.authorize('ann', 'image', overrun => 'overdraft')",
    );
    rows(
        &mut client,
        &format!("SELECT credyt.capture('ann', '{hold}', 6)"),
    );
    assert_eq!(
        value(&mut client, "SELECT owed FROM credyt.balance('ann')"),
        "5"
    );
    let keys = ["customer", "asset", "needed", "available", "missing"];
    remedied(
        &mut client,
        "debit_credits('ann', 'image', 2)",
        "WC001",
        "insufficient_credits",
        &keys,
    );
}

#[test]
fn wc001_of_a_capture_says_what_can_be_captured() {
    let (_database, mut client) = ann_has("wc001_capture", 5);
    rows(
        &mut client,
        "SELECT credyt.open_wallet('ann', overdraft_limit => 1.5)",
    );
    let hold = value(
        &mut client,
        "SELECT id FROM credyt.authorize('ann', 'image', 4)",
    );
    rows(
        &mut client,
        &format!("SELECT credyt.capture('ann', '{hold}', 2, keep_open => true)"),
    );
    let call = format!("capture('ann', '{hold}', 9)");
    let keys = [
        "customer",
        "asset",
        "authorization_id",
        "needed",
        "available",
        "payable",
    ];
    let short = refused(&mut client, &call, "WC001", "insufficient_credits", &keys);
    // It is still open, with what it held.
    assert_eq!(
        value(
            &mut client,
            "SELECT credits, captured FROM credyt.open_authorizations"
        ),
        "4 2"
    );
    let captured = value(
        &mut client,
        &short.remedy().replace('*', "credits, available"),
    );
    assert_eq!(captured, "4.5 0");
    assert_eq!(
        value(
            &mut client,
            "SELECT status, captured FROM credyt.authorizations"
        ),
        "captured 6.5"
    );
}

#[test]
fn wc001_of_a_revocation_is_about_what_no_hold_pins() {
    let (_database, mut client) = ann_has("wc001_revoke", 5);
    rows(&mut client, "SELECT credyt.authorize('ann', 'image', 4)");
    let id = value(&mut client, "SELECT id FROM credyt.grant_balances");
    let call = format!("revoke_grant('ann', '{id}', 2)");
    let error = refused(
        &mut client,
        &call,
        "WC001",
        "insufficient_credits",
        &["customer", "asset", "needed", "available"],
    );
    assert_eq!(
        [&error.json()["needed"], &error.json()["available"]],
        ["2", "1"]
    );
    assert!(error.hint.contains("credits => NULL"), "{error:?}");
}

#[test]
fn wc002_opens_the_wallet() {
    let database = Database::new("wc002");
    let mut client = database.connect();
    for name in [
        "new",
        "o'brien",
        "back\\slash",
        "'; DROP TABLE credyt.ledger; --",
    ] {
        let customer = support::sql::quoted(name);
        let debit = format!("debit_credits({customer}, 'image')");
        remedied(
            &mut client,
            &debit,
            "WC002",
            "wallet_not_found",
            &["customer", "asset"],
        );
    }
}

/// The keys of DETAIL, of which `customer` comes last: a price and an asset are nobody's.
fn of<'a>(call: &str, keys: &'a [&'a str]) -> &'a [&'a str] {
    let nobodys = call.starts_with("quote") || call.starts_with("set_price");
    &keys[..keys.len() - usize::from(nobodys)]
}

#[test]
fn wc003_sets_the_price() {
    let (_database, mut client) = ann_has("wc003", 10);
    for call in [
        "debit_credits('ann', 'it''s')",
        "quote('quote')",
        "authorize('ann', 'hold', ttl_seconds => 1)",
    ] {
        remedied(
            &mut client,
            call,
            "WC003",
            "price_not_found",
            of(call, &["action", "asset", "customer"]),
        );
    }
    rows(
        &mut client,
        r#"SELECT credyt.set_price('either', '{"match": [{"when": {"a": 1}, "price": 1}, {"when": {"b": 1}, "price": 2}]}');
           SELECT credyt.set_price('cost', '{"cost_plus": {"markup": "0.5", "credit_value": "0.01"}}')"#,
    );
    for (call, why) in [
        (
            r#"debit_credits('ann', 'either', dimensions => '{"a": 1, "b": 1}')"#,
            "either",
        ),
        ("debit_credits('ann', 'either')", "either"),
        (
            r#"debit_credits('ann', 'cost', usage => '{"vendor": "v", "body": {}}')"#,
            "vendor cost",
        ),
    ] {
        let refused = refused(
            &mut client,
            call,
            "WC003",
            "price_not_found",
            if why == "vendor cost" {
                &["action", "asset", "customer", "vendor", "model", "reason"]
            } else {
                &["action", "asset", "customer"]
            },
        );
        assert!(
            refused.message.contains(why) && refused.hint.contains("credits"),
            "{refused:?}"
        );
    }
    // Without usage it is the caller's mistake.
    let missing = refusal(&mut client, "SELECT credyt.debit_credits('ann', 'cost')");
    assert_eq!(
        (missing.code.as_str(), &missing.json()["argument"]),
        ("22023", &"cost".into())
    );
    // A capture whose totals fit no case of the price it was authorized at is refused, and stays open.
    let hold = value(
        &mut client,
        r#"SELECT id FROM credyt.authorize('ann', 'either', dimensions => '{"a": 1}')"#,
    );
    let capture = format!(r#"capture('ann', '{hold}', dimensions => '{{"a": 2}}')"#);
    refused(
        &mut client,
        &capture,
        "WC003",
        "price_not_found",
        &["action", "asset", "customer"],
    );
    rows(
        &mut client,
        &format!("SELECT credyt.capture('ann', '{hold}')"),
    );
}

#[test]
fn wc004_says_how_it_ended() {
    let (_database, mut client) = ann_has("wc004", 10);
    let keys = ["customer", "authorization_id", "status"];
    for (first, status, then) in [
        (
            "release('ann', $id)",
            "released",
            vec![
                "capture('ann', $id)",
                "capture('ann', $id, 1)",
                "extend('ann', $id)",
            ],
        ),
        (
            "capture('ann', $id)",
            "captured",
            vec![
                "release('ann', $id)",
                "capture('ann', $id, 2)",
                "extend('ann', $id)",
            ],
        ),
    ] {
        let hold = value(
            &mut client,
            "SELECT id FROM credyt.authorize('ann', 'image')",
        );
        let with_id = |call: &str| call.replace("$id", &format!("'{hold}'"));
        rows(&mut client, &format!("SELECT credyt.{}", with_id(first)));
        for call in then {
            let error = refused(
                &mut client,
                &with_id(call),
                "WC004",
                "authorization_closed",
                &keys,
            );
            assert_eq!(error.json()["status"], status);
        }
        // The same again is no error.
        rows(&mut client, &format!("SELECT credyt.{}", with_id(first)));
    }
}

#[test]
fn wc005_is_any_other_request_of_any_function() {
    let (_database, mut client) = ann_has("wc005", 100);
    rows(
        &mut client,
        "SELECT credyt.create_asset('other'), credyt.grant_credits('ann', 9, asset => 'other')",
    );
    let debit = value(
        &mut client,
        "SELECT id FROM credyt.debit_credits('ann', 'image', 3, idempotency_key => 'k')",
    );
    let grant = value(
        &mut client,
        "SELECT id FROM credyt.grant_balances WHERE asset = 'credits'",
    );
    let keys = ["customer", "idempotency_key"];
    for call in [
        "debit_credits('ann', 'image', 4, idempotency_key => 'k')",
        "debit_credits('ann', 'image', 3, '{\"a\": 1}', idempotency_key => 'k')",
        "debit_credits('ann', 'image', 3, cost => 1, idempotency_key => 'k')",
        "debit_credits('ann', 'image', 3, credits => 3, idempotency_key => 'k')",
        "debit_credits('ann', 'other', 3, credits => 3, idempotency_key => 'k')",
        "debit_credits('ann', 'image', 3, asset => 'other', credits => 3, idempotency_key => 'k')",
        "grant_credits('ann', 3, idempotency_key => 'k')",
        &format!("refund('ann', '{debit}', idempotency_key => 'k')"),
        &format!("revoke_grant('ann', '{grant}', idempotency_key => 'k')"),
    ] {
        refused(&mut client, call, "WC005", "idempotency_conflict", &keys);
    }
    // Timestamps and metadata are not compared, and 3.00 is 3.
    let again = "SELECT id, replayed FROM credyt.debit_credits('ann', 'image', 3.00, metadata => '{\"try\": 2}',
                     occurred_at => now() - interval '1 h', idempotency_key => 'k')";
    assert_eq!(value(&mut client, again), format!("{debit} t"));
    // Authorizations have keys of their own; another customer too.
    rows(
        &mut client,
        "SELECT credyt.authorize('ann', 'image', 3, idempotency_key => 'k')",
    );
    refused(
        &mut client,
        "authorize('ann', 'image', 4, idempotency_key => 'k')",
        "WC005",
        "idempotency_conflict",
        &keys,
    );
    rows(
        &mut client,
        "SELECT credyt.grant_credits('bob', 3, idempotency_key => 'k')",
    );
}

#[test]
fn wc006_thaws() {
    let (_database, mut client) = ann_has("wc006_thaws", 10);
    let keys = ["customer", "asset", "status"];
    for call in ["debit_credits('ann', 'image')", "transfer('ann', 'bob', 1)"] {
        rows(&mut client, "SELECT credyt.freeze_wallet('ann')");
        remedied(&mut client, call, "WC006", "wallet_frozen", &keys);
    }
}

#[test]
fn wc007_allows_more() {
    let (_database, mut client) = ann_has("wc007", 100);
    rows(
        &mut client,
        "SELECT credyt.set_limit('ann', 'user:*', 5, 'day'), credyt.set_limit('ann', 'action:im*', 7.5);
         SELECT credyt.authorize('ann', 'image', 2, scopes => '{user:o''brien}')",
    );
    let keys = [
        "customer",
        "asset",
        "scope",
        "every",
        "counts",
        "cap",
        "used",
        "held",
        "needed",
        "resets_at",
    ];
    for call in [
        "debit_credits('ann', 'image', 4, scopes => '{user:o''brien}')",
        "debit_credits('ann', 'image', 2)",
    ] {
        remedied(&mut client, call, "WC007", "limit_exceeded", &keys);
    }
}

#[test]
fn wc001_of_a_transfer_grants_what_is_missing() {
    let (_database, mut client) = ann_has("wc001_transfer", 3);
    rows(
        &mut client,
        "SELECT credyt.open_wallet('ann', overdraft_limit => 10); SELECT credyt.debit_credits('ann', 'image', 5)",
    );
    let keys = ["customer", "asset", "needed", "available", "missing"];
    let call = "transfer('ann', 'bob', 4)";
    remedied(&mut client, call, "WC001", "insufficient_credits", &keys);
    assert_eq!(
        value(
            &mut client,
            "SELECT settled, owed FROM credyt.balance('ann')"
        ),
        "0 0"
    );
}

#[test]
fn wc006_is_for_spending_only() {
    let (_database, mut client) = ann_has("wc006", 10);
    let debit = value(
        &mut client,
        "SELECT id FROM credyt.debit_credits('ann', 'image', 3)",
    );
    let (one, two) = (
        value(
            &mut client,
            "SELECT id FROM credyt.authorize('ann', 'image')",
        ),
        value(
            &mut client,
            "SELECT id FROM credyt.authorize('ann', 'image')",
        ),
    );
    rows(&mut client, "SELECT credyt.freeze_wallet('ann')");
    refused(
        &mut client,
        "debit_credits('ann', 'image')",
        "WC006",
        "wallet_frozen",
        &["customer", "asset", "status"],
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT approved, reason FROM credyt.authorize('ann', 'image')"
        ),
        "f wallet_frozen"
    );
    rows(
        &mut client,
        &format!(
            "SELECT credyt.capture('ann', '{one}'), credyt.release('ann', '{two}'), credyt.refund('ann', '{debit}'),
                    credyt.grant_credits('ann', 1)"
        ),
    );
}

#[test]
fn wc008_says_what_is_left() {
    let (_database, mut client) = ann_has("wc008", 10);
    let debit = value(
        &mut client,
        "SELECT id FROM credyt.debit_credits('ann', 'image', 3)",
    );
    rows(
        &mut client,
        &format!("SELECT credyt.refund('ann', '{debit}', 1)"),
    );
    let call = format!("refund('ann', '{debit}', 2.01)");
    let keys = ["customer", "debit_id", "needed", "refundable"];
    let error = refused(&mut client, &call, "WC008", "refund_exceeds_debit", &keys).json();
    assert_eq!([&error["needed"], &error["refundable"]], ["2.01", "2"]);
    rows(
        &mut client,
        &format!("SELECT credyt.refund('ann', '{debit}', credits => NULL)"),
    );
    refused(
        &mut client,
        &format!("refund('ann', '{debit}')"),
        "WC008",
        "refund_exceeds_debit",
        &keys,
    );
}

#[test]
fn wc009_creates_the_asset() {
    let (_database, mut client) = ann_has("wc009", 10);
    for (nth, call) in [
        "set_price('image', '1', asset => 'gold$n')",
        "grant_credits('ann', 1, asset => 'gold$n')",
        "open_wallet('ann', 'gold$n')",
        "balance('ann', 'it''s $n')",
    ]
    .iter()
    .enumerate()
    {
        let call = call.replace("$n", &nth.to_string());
        remedied(
            &mut client,
            &call,
            "WC009",
            "asset_not_found",
            of(&call, &["asset", "customer"]),
        );
    }
    for call in [
        "debit_credits('ann', 'image', asset => 'no')",
        "authorize('ann', 'image', asset => 'no')",
        "quote('image', asset => 'no')",
    ] {
        refused(
            &mut client,
            call,
            "WC009",
            "asset_not_found",
            of(call, &["asset", "customer"]),
        );
    }
}

#[test]
fn wc011_is_any_id_that_is_not_this_customer_s() {
    let (_database, mut client) = ann_has("wc011", 10);
    let grant = value(&mut client, "SELECT id FROM credyt.grant_balances");
    let debit = value(
        &mut client,
        "SELECT id FROM credyt.debit_credits('ann', 'image')",
    );
    let hold = value(
        &mut client,
        "SELECT id FROM credyt.authorize('ann', 'image')",
    );
    rows(&mut client, "SELECT credyt.grant_credits('bob', 10)");
    let unknown = "01890000-0000-7000-8000-000000000000";
    let entry = value(
        &mut client,
        "SELECT id FROM credyt.ledger WHERE kind = 'grant' AND customer = 'ann'",
    );
    for (customer, call, id) in [
        ("bob", "revoke_grant", &grant),
        ("bob", "refund", &debit),
        ("bob", "capture", &hold),
        ("bob", "release", &hold),
        ("bob", "extend", &hold),
        ("nobody", "capture", &hold),
        ("ann", "refund", &entry),
        ("ann", "refund", &grant),
        ("ann", "revoke_grant", &debit),
        ("ann", "capture", &unknown.to_owned()),
    ] {
        let call = format!("{call}('{customer}', '{id}')");
        let error = refused(
            &mut client,
            &call,
            "WC011",
            "not_found",
            &["customer", "id"],
        );
        assert_eq!(
            [&error.json()["customer"], &error.json()["id"]],
            [customer, id.as_str()],
            "{call}"
        );
        rows(&mut client, error.remedy());
    }
}

#[test]
fn a_refusal_can_be_caught_and_leaves_nothing() {
    let (_database, mut client) = ann_has("caught", 3);
    let before = value(&mut client, "SELECT count(*) FROM credyt.ledger");
    rows(
        &mut client,
        "DO $$ DECLARE error text; BEGIN
             PERFORM credyt.debit_credits('ann', 'image', 5, idempotency_key => 'k');
         EXCEPTION WHEN SQLSTATE 'WC001' THEN
             GET STACKED DIAGNOSTICS error = PG_EXCEPTION_DETAIL;
             ASSERT error::jsonb->>'available' = '3', error;
             PERFORM credyt.debit_credits('ann', 'image', 2, idempotency_key => 'k');
         END $$",
    );
    assert_eq!(
        value(&mut client, "SELECT count(*) - 1 FROM credyt.ledger"),
        before
    );
}

#[test]
fn every_error_says_what_the_call_was_about() {
    let (_database, mut client) = ann_has("subjects", 10);
    rows(
        &mut client,
        "SELECT credyt.create_plan('pro', 5), credyt.subscribe('ann', 'pro')",
    );
    let id = "01890000-0000-7000-8000-000000000000";
    for (code, call, subject) in [
        (
            "WC001",
            "debit_credits('ann', 'image', 99)",
            "customer asset action",
        ),
        (
            "22023",
            "authorize('ann', 'image', -1)",
            "customer asset action",
        ),
        (
            "WC002",
            "debit_credits('bob', 'image')",
            "customer asset action",
        ),
        (
            "WC003",
            "debit_credits('ann', 'none')",
            "customer asset action",
        ),
        ("WC003", "quote('none')", "asset action"),
        (
            "WC003",
            "quote('none', customer => 'ann')",
            "customer asset action",
        ),
        (
            "WC009",
            "quote('image', asset => 'gold', customer => 'ann')",
            "customer asset action",
        ),
        ("WC009", "balance('ann', 'gold')", "customer asset"),
        ("WC010", "subscribe('ann', 'gold')", "customer plan"),
        (
            "WC011",
            "pay_subscription('bob', 'pro', now())",
            "customer plan",
        ),
        (
            "WC011",
            "capture('ann', '$id')",
            "customer authorization_id",
        ),
        (
            "WC011",
            "release('ann', '$id')",
            "customer authorization_id",
        ),
        ("WC011", "extend('ann', '$id')", "customer authorization_id"),
        ("WC011", "refund('ann', '$id')", "customer debit_id"),
        ("WC011", "revoke_grant('ann', '$id')", "customer grant_id"),
        ("WC011", "topup_failed('ann', '$id')", "customer event_id"),
        (
            "22023",
            "transfer('ann', 'bob', -1)",
            "customer to_customer asset",
        ),
        ("22023", "grant_credits('ann', 0)", "customer asset"),
        (
            "22023",
            "set_limit('ann', 'nobody', 1)",
            "customer scope asset",
        ),
        ("22003", "grant_credits('ann', 1e15)", "customer asset"),
        (
            "22023",
            "debit_credits('ann', 'image', '-1')",
            "customer asset action",
        ),
        (
            "22023",
            r#"debit_credits('{"customer": "ann", "action": "image", "quantity": -1}')"#,
            "customer asset action",
        ),
        (
            "22023",
            r#"debit_many('[{"customer": "ann", "action": "image", "quantity": -1}]')"#,
            "customer asset action",
        ),
        (
            "WC001",
            r#"debit_many('[{"customer": "ann", "action": "image", "quantity": 99}]')"#,
            "customer asset action",
        ),
        (
            "22023",
            r#"grant_many('[{"customer": "ann", "credits": 0}]')"#,
            "customer asset",
        ),
        // What cannot be read is left out.
        ("22023", "debit_credits('', 'image')", "asset action"),
        (
            "22023",
            r#"debit_credits('{"customer": [], "action": "image"}')"#,
            "asset action",
        ),
    ] {
        let call = call.replace("$id", id);
        let refused = refusal(&mut client, &format!("SELECT * FROM credyt.{call}"));
        assert_eq!(refused.code, code, "{call}: {refused:?}");
        let detail = refused.json();
        let mut found: Vec<&str> = SUBJECTS
            .into_iter()
            .filter(|name| detail.get(name).is_some())
            .collect();
        let mut expected: Vec<&str> = subject.split(' ').collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{call}: {refused:?}");
        assert!(
            expected.iter().all(|name| detail[name].is_string()),
            "{refused:?}"
        );
    }
}

/// What the HINT says is run by a session that reads backslashes in every literal.
#[test]
fn hints_can_be_pasted_under_any_standard_conforming_strings() {
    let (_database, mut client) = ann_has("pasted", 10);
    rows(
        &mut client,
        "SET standard_conforming_strings = off; SET escape_string_warning = off",
    );
    for (nth, name) in [
        r"back\slash",
        r"o'brien\'s",
        r"\\",
        r"ends with \",
        r"\'; DROP SCHEMA credyt CASCADE; --",
        r"C:\new\table",
        "o'brien",
    ]
    .iter()
    .enumerate()
    {
        let n = format!("E'{}'", name.replace('\\', "\\\\").replace('\'', "''"));
        let asset = format!("'asset{nth}'");
        // The asset and the price that HINTs create, then credits, a frozen wallet, a cap, a plan.
        for (call, code) in [
            (format!("balance({n}, {n})"), "WC009"),
            (format!("quote({n}, asset => {n})"), "WC003"),
            (format!("debit_credits({n}, {n}, asset => {n})"), "WC002"),
            (
                format!("debit_credits({n}, {n}, 1000, asset => {n})"),
                "WC001",
            ),
            (
                format!("transfer({n}, {asset}, 5000, asset => {n})"),
                "WC001",
            ),
            (format!("subscribe({n}, {n})"), "WC010"),
            (
                format!("pay_subscription('pays' || {n}, {n}, now())"),
                "WC011",
            ),
        ] {
            let error = refusal(&mut client, &format!("SELECT * FROM credyt.{call}"));
            assert_eq!(error.code, code, "{call}: {error:?}");
            rows(&mut client, error.remedy());
            rows(&mut client, &format!("SELECT * FROM credyt.{call}"));
        }
        rows(
            &mut client,
            &format!("SELECT credyt.grant_credits({n}, 10, asset => {n})"),
        );
        rows(
            &mut client,
            &format!("SELECT credyt.freeze_wallet({n}, {n})"),
        );
        let debit =
            format!("debit_credits({n}, {n}, asset => {n}, scopes => ARRAY['user:' || {n}])");
        let error = refusal(&mut client, &format!("SELECT credyt.{debit}"));
        assert_eq!(error.code, "WC006", "{error:?}");
        rows(&mut client, error.remedy());
        rows(
            &mut client,
            &format!("SELECT credyt.set_limit({n}, 'user:' || {n}, 0.5, asset => {n})"),
        );
        let error = refusal(&mut client, &format!("SELECT credyt.{debit}"));
        assert_eq!(error.code, "WC007", "{error:?}");
        rows(&mut client, error.remedy());
        let id = value(&mut client, &format!("SELECT id FROM credyt.{debit}"));
        rows(&mut client, &format!("SELECT credyt.refund({n}, '{id}')"));
        for call in [
            format!("refund({n}, '{id}')"),
            format!("refund({n}, gen_random_uuid())"),
            format!("release({n}, gen_random_uuid())"),
            format!("revoke_grant({n}, gen_random_uuid())"),
        ] {
            let error = refusal(&mut client, &format!("SELECT credyt.{call}"));
            rows(&mut client, error.remedy());
        }
        let hold = value(
            &mut client,
            &format!("SELECT id FROM credyt.authorize({n}, {n}, asset => {n})"),
        );
        let error = refusal(
            &mut client,
            &format!("SELECT credyt.capture({n}, '{hold}', 1000000)"),
        );
        assert_eq!(error.code, "WC001", "{error:?}");
        rows(&mut client, error.remedy());
    }
    let role = r#"no\'role""#;
    let error = refusal(
        &mut client,
        &format!("SELECT credyt.allow(E'{}', 'spend')", r#"no\\''role""#),
    );
    assert!(
        error
            .hint
            .contains(&format!("\"{}\"", role.replace('"', "\"\""))),
        "{error:?}"
    );
    rows(
        &mut client,
        &format!(
            "BEGIN; {}; ROLLBACK",
            error
                .hint
                .trim_start_matches("Create it: ")
                .trim_end_matches(';')
        ),
    );
}
