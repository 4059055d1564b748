//! Erasing and hashing: every column is blanked or kept on purpose, every change is found, and nobody
//! who works at the same time is disturbed.

mod support;

use postgres::Client;
use support::sql::{Database, attempt, refusal, rows, value, values};

/// What an erasure blanks.
const BLANKED: &[&str] = &[
    "authorizations.metadata",
    "authorizations.reason",
    "authorizations.scopes",
    "authorizations.usage",
    "cost_postings.scopes",
    "events.failure",
    "grants.metadata",
    "grants.payment",
    "ledger.metadata",
    "ledger.reason",
    "ledger.scopes",
    "ledger.usage",
    "limit_uses.scope",
    "margin_scopes.scope",
    "subscription_payments.payment",
    "vendor_costs.context",
    "vendor_costs.metadata",
    "vendor_costs.usage",
    "wallets.metadata",
    "wallets.status_reason",
];

/// Texts of a customer that stay: names of what was bought and of who charges it, words of ours, keys
/// and ids that decide replays, amounts and terms; of a wallet's state the limits of named users go.
const KEPT: &[&str] = &[
    "authorizations.action",
    "authorizations.asset",
    "authorizations.captured_costs",
    "authorizations.customer",
    "authorizations.dimensions",
    "authorizations.idempotency_key",
    "authorizations.last_request",
    "authorizations.overrun",
    "authorizations.pins",
    "authorizations.request",
    "authorizations.status",
    "cost_postings.action",
    "cost_postings.asset",
    "cost_postings.customer",
    "cost_postings.lines",
    "open_debts.action",
    "open_debts.asset",
    "open_debts.customer",
    "erasures.customer",
    "erasures.reason",
    "events.asset",
    "events.customer",
    "events.payload",
    "events.type",
    "grants.applies_to",
    "grants.asset",
    "grants.currency",
    "grants.customer",
    "grants.kind",
    "ledger.action",
    "ledger.allocations",
    "ledger.asset",
    "ledger.costs",
    "ledger.customer",
    "ledger.dimensions",
    "ledger.idempotency_key",
    "ledger.kind",
    "ledger.request",
    // Their rows are deleted, or taken in again without scopes.
    "limit_uses.asset",
    "limit_uses.counts",
    "limit_uses.customer",
    "limit_uses.every",
    "margin_customers.action",
    "margin_customers.asset",
    "margin_customers.customer",
    "margin_customers.kind",
    "margin_customers.model",
    "margin_customers.vendor",
    "margin_scopes.action",
    "margin_scopes.asset",
    "margin_scopes.customer",
    "margin_scopes.kind",
    "margin_scopes.model",
    "margin_scopes.vendor",
    "usage_days.action",
    "usage_days.asset",
    "usage_days.customer",
    "customer_price_lists.asset",
    "customer_price_lists.customer",
    "customer_price_lists.price_list",
    "period_grants.asset",
    "period_grants.customer",
    "period_grants.kind",
    "prices.action",
    "prices.asset",
    "prices.customer",
    "prices.price",
    "prices.price_list",
    "rollup_progress.asset",
    "rollup_progress.customer",
    "subscription_keys.customer",
    "subscription_payments.customer",
    "subscription_keys.idempotency_key",
    "subscription_keys.request",
    "booked_subscriptions.asset",
    "booked_subscriptions.customer",
    "booked_subscriptions.moved",
    "booked_subscriptions.plan",
    "booked_subscriptions.next_plan",
    "plan_changes.at",
    "plan_changes.customer",
    "plan_changes.from_plan",
    "plan_changes.proration",
    "plan_changes.to_plan",
];

const KEPT_TOO: &[&str] = &[
    "ended_grants.customer",
    "revoked_grants.customer",
    "booked_subscriptions.timezone",
    "vendor_costs.api_flavor",
    "vendor_costs.asset",
    "vendor_costs.currency",
    "vendor_costs.customer",
    "vendor_costs.model",
    "vendor_costs.reason",
    "vendor_costs.source",
    "vendor_costs.vendor",
    "vendor_costs.vendor_request_id",
    "vendor_requests.customer",
    "vendor_requests.source",
    "vendor_requests.vendor",
    "vendor_requests.vendor_request_id",
    "wallets.asset",
    "wallets.customer",
    "wallets.state",
    "wallets.status",
];

/// A customer of whom something is in every column that the hash covers.
fn lived_in(name: &str) -> (Database, Client) {
    let database = Database::new(name);
    let mut client = database.connect();
    rows(
        &mut client,
        r#"SELECT credyt.set_vendor_rate('gpu', 'a100', '{"second": "0.01"}');
           SELECT credyt.create_plan('pro', 10, '1 day', rollover => 5, applies_to => '{image}');
           SELECT credyt.open_wallet('ann', metadata => '{"m": 1}');
           SELECT credyt.grant_credits('ann', 100, paid => 30, metadata => '{"m": 1}', applies_to => '{*}', idempotency_key => 'g',
                                       expires_at => now() + interval '1 year');
           SELECT credyt.subscribe('ann', 'pro', now() - interval '36 hours');
           SELECT credyt.grant_credits('bob', 100, paid => 30);
           SELECT credyt.transfer('bob', 'ann', 10, reason => 'gift'), credyt.transfer('ann', 'bob', 3, reason => 'gift')"#,
    );
    let debit = value(
        &mut client,
        r#"SELECT id FROM credyt.debit_credits('ann', 'image', 3, '{"size": "4k"}', scopes => '{user:a}', metadata => '{"m": 1}', idempotency_key => 'd',
               usage => '{"vendor": "gpu", "model": "a100", "body": {"second": 7}}')"#,
    );
    let hold = value(
        &mut client,
        r#"SELECT id FROM credyt.authorize('ann', 'image', 3, scopes => '{user:a}', metadata => '{"m": 1}', idempotency_key => 'h',
               usage => '{"vendor": "gpu", "model": "a100", "body": {"second": 7}}')"#,
    );
    rows(
        &mut client,
        &format!(
            r#"SELECT credyt.capture('ann', '{hold}');
               SELECT credyt.refund('ann', '{debit}', 1, reason => 'sorry', idempotency_key => 'r');
               SELECT credyt.record_cost('ann', 'gpu', 'a100', usage => '{{"second": 9}}', debit_id => '{debit}', context => '{{"c": 1}}',
                                         metadata => '{{"m": 1}}', vendor_request_id => 'v', source => 'reported')"#
        ),
    );
    (database, client)
}

#[test]
fn every_text_is_blanked_or_kept_on_purpose() {
    let (_database, mut client) = lived_in("texts");
    let found = values(
        &mut client,
        "SELECT c.table_name || '.' || c.column_name FROM information_schema.columns c
         JOIN information_schema.tables t USING (table_schema, table_name)
         WHERE c.table_schema = 'credyt' AND t.table_type = 'BASE TABLE'
           AND (c.data_type IN ('text', 'jsonb', 'bytea', 'ARRAY') OR c.data_type = 'USER-DEFINED')
           AND c.udt_name <> '_uuid'
           AND EXISTS (SELECT FROM information_schema.columns o WHERE (o.table_schema, o.table_name, o.column_name) = (c.table_schema, c.table_name, 'customer'))",
    );
    let decided: Vec<&str> = [BLANKED, KEPT, KEPT_TOO].concat();
    let open: Vec<&String> = (found.iter())
        .filter(|column| !decided.contains(&column.as_str()))
        .collect();
    assert_eq!(open, [""; 0], "decide whether erase_customer blanks it");
    assert_eq!(found.len(), decided.len());

    rows(&mut client, "SELECT credyt.erase_customer('ann', 'x')");
    for column in BLANKED {
        let (table, column) = column.split_once('.').expect("a table");
        let ours = match (table, column) {
            ("ledger", "reason") => "AND kind NOT IN ('grant', 'debit')",
            _ => "",
        };
        let sql = format!(
            "SELECT count(*) FROM credyt.{table} WHERE customer = 'ann' AND {column} IS NOT NULL {ours}"
        );
        assert_eq!(value(&mut client, &sql), "0", "{table}.{column}");
    }
}

const HASH: &str = "SELECT hash FROM credyt.ledger_hash('ann', contents => $c)";

#[test]
fn the_hash_finds_a_change_of_every_column() {
    let (database, mut client) = lived_in("tampered");
    let _database = database.lawless();
    // A change that no CHECK refuses.
    rows(
        &mut client,
        "DO $$ DECLARE k record; BEGIN
             FOR k IN SELECT conrelid::regclass AS of, conname FROM pg_constraint
                      WHERE connamespace = 'credyt'::regnamespace AND contype = 'c' LOOP
                 EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', k.of, k.conname);
             END LOOP;
         END $$",
    );
    let whole = HASH.replace("$c", "true");
    let lasting = HASH.replace("$c", "false");
    let before = (value(&mut client, &whole), value(&mut client, &lasting));
    let mut tried = 0;
    for table in ["ledger", "grants", "vendor_costs", "cost_postings"] {
        let columns = format!(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'credyt' AND table_name = '{table}'"
        );
        for column in values(&mut client, &columns) {
            let (column, kind) = column.split_once(' ').expect("a type");
            let (filled, other) = match kind {
                "text" => ("'x'", format!("{column} || 'x'")),
                "bytea" => ("'\\x00'", format!("{column} || '\\x00'")),
                "uuid" => ("gen_random_uuid()", "gen_random_uuid()".to_owned()),
                "jsonb" => ("'[]'", format!("jsonb_build_array({column})")),
                "ARRAY" => ("'{x}'", format!("{column} || '{{x}}'")),
                "timestamp with time zone" => {
                    ("now()", format!("{column} + interval '1 microsecond'"))
                }
                // The smallest change there is.
                "numeric" => ("0", format!("{column} + 0.0000000001")),
                "integer" | "bigint" => ("0", format!("{column} + 1000")),
                _ => panic!("{table}.{column}: how is a {kind} changed?"),
            };
            // One row, of each kind of movement one, and a NULL into something.
            let of = if table == "ledger" { "kind" } else { "1" };
            let rows_of = format!(
                "SELECT DISTINCT ON ({of}, {column} IS NULL) ctid FROM credyt.{table} WHERE customer = 'ann'"
            );
            for row in values(&mut client, &rows_of) {
                rows(
                    &mut client,
                    "BEGIN; SET LOCAL session_replication_role = replica",
                );
                let reason_of_ours = value(
                    &mut client,
                    &format!(
                        "UPDATE credyt.{table} SET {column} = coalesce({other}, {filled}) WHERE ctid = '{row}'
                         RETURNING {} AND '{column}' = 'reason'",
                        if table == "ledger" {
                            "kind IN ('grant', 'debit')"
                        } else {
                            "false"
                        }
                    ),
                );
                let changed = |client: &mut Client, sql: &str| {
                    attempt(client, sql).map(|rows| rows[0].get(0).unwrap_or_default().to_owned())
                };
                let after = (changed(&mut client, &whole), changed(&mut client, &lasting));
                rows(&mut client, "ROLLBACK");
                let name = format!("{table}.{column}");
                assert_ne!(after.0.ok().as_ref(), Some(&before.0), "{name} of {row}");
                let blanked = BLANKED.contains(&name.as_str()) && reason_of_ours != "t";
                let same = after.1.ok().as_ref() == Some(&before.1);
                assert_eq!(same, blanked, "{name} of {row}");
                tried += 1;
            }
        }
    }
    assert!(tried > 120, "{tried}");

    // Rows that go, come or change places.
    for tampering in [
        "DELETE FROM credyt.ledger WHERE customer = 'ann' AND kind = 'refund'",
        "DELETE FROM credyt.ledger WHERE customer = 'ann' AND seq = (SELECT max(seq) FROM credyt.ledger WHERE customer = 'ann')",
        "DELETE FROM credyt.grants WHERE customer = 'ann'",
        "DELETE FROM credyt.vendor_costs",
        "DELETE FROM credyt.cost_postings WHERE nth = 2",
        "UPDATE credyt.ledger SET seq = 3 - seq WHERE customer = 'ann' AND seq < 3",
        "INSERT INTO credyt.vendor_costs SELECT 'ann', 'credits', 1, gen_random_uuid(), 'x', NULL, NULL, 'invoiced', 1, NULL, NULL, NULL, NULL, 'x',
             NULL, NULL, NULL, NULL, NULL, NULL, now(), now(), now(), NULL",
    ] {
        rows(
            &mut client,
            &format!("BEGIN; SET LOCAL session_replication_role = replica; {tampering}"),
        );
        assert_ne!(value(&mut client, &lasting), before.1, "{tampering}");
        rows(&mut client, "ROLLBACK");
    }
    assert_eq!(value(&mut client, &lasting), before.1);
}

#[test]
fn an_old_hash_can_be_checked_after_more_has_happened() {
    let (_database, mut client) = lived_in("older");
    let kept = value(
        &mut client,
        "SELECT through, rows, hash FROM credyt.ledger_hash('ann')",
    );
    let through = kept.split(' ').next().expect("a number").to_owned();
    rows(
        &mut client,
        "SELECT credyt.debit_credits('ann', 'image'), credyt.grant_credits('ann', 3), credyt.record_cost('ann', 'gpu', cost => 1),
                credyt.erase_customer('ann', 'x'), credyt.close_wallet('ann')",
    );
    assert_eq!(
        value(
            &mut client,
            &format!(
                "SELECT through, rows, hash FROM credyt.ledger_hash('ann', through => {through})"
            )
        ),
        kept
    );
}

#[test]
fn an_erasure_waits_for_who_is_spending_and_takes_that_too() {
    let (database, mut client) = lived_in("waiting");
    rows(
        &mut client,
        "BEGIN; SELECT credyt.debit_credits('ann', 'image', metadata => '{\"secret\": 1}')",
    );
    let erased = database.waiting(
        |other| {
            value(
                other,
                "SELECT blanked > 5 FROM credyt.erase_customer('ann', 'x')",
            )
        },
        || {
            rows(&mut client, "COMMIT");
        },
    );
    assert_eq!(erased, "t");
    assert_eq!(
        value(
            &mut client,
            "SELECT count(*) FROM credyt.ledger WHERE customer = 'ann' AND metadata IS NOT NULL"
        ),
        "0"
    );
}

#[test]
fn spending_erasing_and_maintaining_at_once() {
    let (database, mut client) = lived_in("at_once");
    let report = "SELECT debits, credits, revenue, cost FROM credyt.margin('{customer}') WHERE customer = 'ann'";
    database.at_once(6, |nth, client| {
        for round in 0..25 {
            let sql = match nth {
                0 | 1 => format!(
                    "SELECT credyt.debit_credits('ann', 'image', 0.01, scopes => '{{user:{round}}}', metadata => '{{}}')"
                ),
                2 => "SELECT credyt.maintain()".to_owned(),
                3 => format!("SELECT credyt.transfer('ann', 'bob', 0.0{}, reason => 'x')", round % 9 + 1),
                4 => "SELECT credyt.erase_customer('ann', 'x')".to_owned(),
                // Who gave and who got at once.
                _ => "SELECT credyt.erase_customer('bob', 'x')".to_owned(),
            };
            rows(client, &sql);
        }
    });
    rows(&mut client, "SELECT credyt.erase_customer('ann', 'x')");
    let fresh = value(&mut client, report);
    rows(&mut client, "SELECT credyt.maintain()");
    assert_eq!(value(&mut client, report), fresh);
    assert_eq!(
        value(
            &mut client,
            "SELECT count(*) FROM credyt.margin('{customer,scope}') WHERE customer = 'ann' AND scope IS NOT NULL"
        ),
        "0"
    );
    // The rollups say what the ledger says.
    rows(
        &mut client,
        "TRUNCATE credyt.margin_days, credyt.margin_customers, credyt.margin_scopes, credyt.usage_days, credyt.rollup_progress",
    );
    assert_eq!(value(&mut client, report), fresh);
}

#[test]
fn an_older_snapshot_leaves_no_scope_behind() {
    let (database, mut client) = lived_in("snapshots");
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        rows(
            &mut client,
            &format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM credyt.assets"),
        );
        rows(
            &mut database.connect(),
            "SELECT credyt.debit_credits('bob', 'image', scopes => '{user:b}'); SELECT credyt.maintain()",
        );
        let refused = refusal(&mut client, "SELECT credyt.erase_customer('bob', 'x')");
        assert_eq!(refused.code, "40001", "{refused:?}");
        rows(&mut client, "ROLLBACK");
        // A new one sees it all.
        rows(
            &mut client,
            &format!(
                "BEGIN ISOLATION LEVEL {level}; SELECT credyt.erase_customer('bob', 'x'); COMMIT"
            ),
        );
        assert_eq!(
            value(
                &mut client,
                "SELECT count(*) FROM credyt.margin('{customer,scope}') WHERE customer = 'bob' AND scope IS NOT NULL"
            ),
            "0"
        );
    }
}

#[test]
fn a_wallet_is_closed_between_two_debits_and_never_within_one() {
    let (database, mut client) = lived_in("closing");
    database.at_once(4, |nth, client| {
        for _ in 0..20 {
            let sql = if nth == 0 {
                "SELECT credyt.close_wallet('ann')"
            } else {
                "SELECT credyt.debit_credits('ann', 'image', 0.01)"
            };
            if let Err(refused) = attempt(client, sql) {
                assert_eq!(refused.code, "WC006", "{refused:?}");
            }
        }
    });
    assert_eq!(
        value(
            &mut client,
            "SELECT settled, available FROM credyt.balance('ann')"
        ),
        "0 0"
    );
}
