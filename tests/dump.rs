//! Backup and restore with Postgres' own programs: every row comes back, and the ledger goes on.

mod support;

use postgres::Client;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use support::sql::{Database, clock, rows, value};

const TABLES: [&str; 17] = [
    "assets",
    "prices",
    "wallets",
    "grants",
    "authorizations",
    "ledger",
    "debts",
    "periods",
    "period_grants",
    "plans",
    "subscriptions",
    "subscription_keys",
    "vendors",
    "vendor_rates",
    "limit_uses",
    "events",
    "erasures",
];

/// A ledger with something in every table, and a clock that is set.
fn lived_in(name: &str) -> (Database, Client) {
    let database = Database::new(name);
    let mut client = database.connect();
    rows(
        &mut client,
        r#"SELECT credyt.create_asset('tokens', 10, 'half_even', 'EUR', 'Europe/Berlin');
           SELECT credyt.set_price('image', '{"match": [{"when": {"model": "x"}, "price": "1.50"}, {"price": 2}]}', customer => 'ann');
           SELECT credyt.set_price('chat', '0.0000000001', asset => 'tokens');
           SELECT credyt.set_vendor_rate('gpu-cloud', 'a100', '{"gpu_second": "0.0011", "currency": "EUR"}');
           SELECT credyt.import_vendor_rates('[{"id": "acme", "models": [{"id": "m", "match": {"equals": "m"}, "prices": {"input_mtok": 1}}]}]');
           SELECT credyt.grant_credits('ann', 100, paid => 33.3333333333, metadata => '{"note": "a \"quoted\" ü\n"}');
           SELECT credyt.grant_credits('ann', 10, 'included', applies_to => '{image,"video.*"}', expires_at => now() + interval '1 day');
           SELECT credyt.grant_credits('ann', 7, 'promotional', effective_at => now() + interval '1 hour', priority => -1);
           SELECT credyt.create_plan('pro', 5, '1 day', rollover => 2, applies_to => '{video.*}');
           SELECT credyt.subscribe('ann', 'pro', now() - interval '3 days', timezone => 'America/New_York', idempotency_key => 's');
           SELECT credyt.debit_credits('ann', 'image', 3, dimensions => '{"model": "x"}', idempotency_key => 'k', cost => 0.123456789012,
                                       usage => '{"vendor": "v", "body": {"n": 1}}', scopes => '{user:a}');
           SELECT credyt.authorize('ann', 'image', 2, idempotency_key => 'hold');
           SELECT credyt.open_wallet(E'o''brien\\', 'tokens', overdraft_limit => 1, metadata => '[1.10]');
           SELECT credyt.debit_credits(E'o''brien\\', 'chat', 12345, asset => 'tokens')"#,
    );
    rows(
        &mut client,
        r#"SELECT credyt.set_limit('many', 'user:*', 1000), credyt.set_limit('many', E'user:o''b\\', 5, 'hour'),
                  credyt.set_limit('ann', 'action:im*', 90, 'day'), credyt.set_alert('ann', 50), credyt.set_topup('ann', 200, 20);
           SELECT credyt.grant_credits('many', 100, paid => 9);
           SELECT count(credyt.debit_credits('many', 'image', credits => 1.5, scopes => ARRAY['user:' || n])) FROM generate_series(1, 20) n;
           SELECT credyt.debit_credits('ann', 'image', 3), credyt.freeze_wallet('ann', reason => 'for a moment'), credyt.unfreeze_wallet('ann');
           SELECT credyt.transfer('many', 'other', 3.33, reason => 'ü');
           SELECT credyt.erase_customer('other', 'ünasked'), credyt.close_wallet('other')"#,
    );
    for nth in 0..60 {
        rows(
            &mut client,
            &format!(
                "SELECT credyt.grant_credits('many', {nth} + 0.01, paid => {nth}, applies_to => '{{action.{nth}.*}}')"
            ),
        );
    }
    rows(&mut client, "SELECT credyt.close_period(now())");
    (database, client)
}

fn program(name: &str, arguments: &[&str]) -> Vec<u8> {
    let pg_config = std::env::var("CREDYT_PG_CONFIG").expect("CREDYT_PG_CONFIG");
    let path = Path::new(&pg_config).with_file_name(name);
    let output = Command::new(path).args(arguments).output().expect(name);
    assert!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn same_rows(here: &mut Client, there: &mut Client) {
    for table in TABLES {
        let sql = format!(
            "SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM credyt.{table} t"
        );
        let expected = value(here, &sql);
        assert!(!expected.starts_with("0 "), "{table} is empty");
        assert_eq!(value(there, &sql), expected, "{table}");
    }
    let hash = "SELECT h.hash FROM credyt.ledger_hash('ann', contents => true) h";
    assert_eq!(value(there, hash), value(here, hash));
}

/// The restored ledger answers old keys, takes new debits, and finishes what was held.
fn goes_on(client: &mut Client) {
    assert_eq!(
        value(
            client,
            "SELECT credits, replayed FROM credyt.debit_credits('ann', 'image', 3, dimensions => '{\"model\": \"x\"}',
                 idempotency_key => 'k', cost => 0.123456789012, usage => '{\"vendor\": \"v\", \"body\": {\"n\": 1}}')"
        ),
        "4.5 t"
    );
    assert_eq!(
        value(
            client,
            "SELECT credits FROM credyt.debit_credits('ann', 'image')"
        ),
        "2"
    );
    assert_eq!(
        value(
            client,
            "SELECT replayed FROM credyt.authorize('ann', 'image', 2, idempotency_key => 'hold')"
        ),
        "t"
    );
    assert_eq!(
        value(
            client,
            "SELECT replayed FROM credyt.subscribe('ann', 'pro', timezone => 'America/New_York', idempotency_key => 's')"
        ),
        "t"
    );
    let capture =
        "SELECT c.credits FROM credyt.authorizations h, credyt.capture(h.customer, h.id) c";
    assert_eq!(value(client, capture), "4");
}

fn restored(name: &str, dump: &[&str], restore: impl Fn(&str, &str, &str)) {
    let (database, mut here) = lived_in(&format!("{name}_from"));
    rows(
        &mut here,
        &format!(
            "CREATE ROLE reader_{name}; GRANT SELECT ON credyt.wallet_balances TO reader_{name};
             GRANT EXECUTE ON FUNCTION credyt.balance TO reader_{name}"
        ),
    );
    // What time it was in the test is not what time it is in the copy.
    clock(&mut here, "2040-01-01Z");
    let copy = Database::empty(&format!("{name}_to"));
    let file = std::env::temp_dir().join(format!("credyt_{}_{name}.dump", std::process::id()));
    let file = file.to_str().expect("UTF-8");
    let (from, to) = (database.connect_str(), copy.connect_str());
    program("pg_dump", &[dump, &["-f", file, "-d", &from]].concat());
    restore(&to, file, &from);
    std::fs::remove_file(file).expect("removed");

    let mut there = copy.connect();
    same_rows(&mut here, &mut there);
    assert_eq!(value(&mut there, "SELECT count(*) FROM credyt.clock"), "0");
    assert_eq!(
        value(
            &mut there,
            &format!(
                "SELECT has_function_privilege('reader_{name}', 'credyt.balance(text, text, timestamptz)', 'EXECUTE'),
                        has_table_privilege('reader_{name}', 'credyt.wallet_balances', 'SELECT')"
            )
        ),
        "t t"
    );
    assert_eq!(copy.broken_laws(), [""; 0]);
    goes_on(&mut there);
    for client in [&mut here, &mut there] {
        rows(client, &format!("DROP OWNED BY reader_{name}"));
    }
    rows(&mut here, &format!("DROP ROLE reader_{name}"));
}

#[test]
fn a_plain_dump_restores() {
    restored("plain", &[], |to, file, _| {
        program(
            "psql",
            &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", to, "-f", file],
        );
    });
}

#[test]
fn a_custom_dump_restores() {
    restored("custom", &["-Fc"], |to, file, _| {
        program("pg_restore", &["--exit-on-error", "-d", to, file]);
    });
}

#[test]
fn a_dump_of_inserts_restores() {
    restored("inserts", &["--inserts"], |to, file, _| {
        program(
            "psql",
            &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", to, "-f", file],
        );
    });
}

#[test]
fn a_wallet_s_text_and_bytes_read_back_as_they_were() {
    let (_database, mut client) = lived_in("text");
    assert_eq!(
        value(
            &mut client,
            "SELECT count(*), bool_and(state::text::credyt.wallet::bytea = state::bytea), bool_and(state::bytea::credyt.wallet::text = state::text),
                    bool_and(state::jsonb = state::text::jsonb), max(octet_length(state::bytea)) > 2000
             FROM credyt.wallets"
        ),
        "4 t t t t"
    );
}

#[test]
fn every_table_goes_through_binary_copy() {
    let (_database, mut here) = lived_in("binary_from");
    let copy = Database::empty("binary_to");
    let mut there = copy.connect();
    rows(&mut there, "CREATE EXTENSION credyt_pg");
    for table in TABLES {
        let mut bytes = Vec::new();
        let out = format!("COPY credyt.{table} TO STDOUT (FORMAT binary)");
        here.copy_out(&out)
            .expect(table)
            .read_to_end(&mut bytes)
            .expect(table);
        let mut into = there
            .copy_in(&format!("COPY credyt.{table} FROM STDIN (FORMAT binary)"))
            .expect(table);
        into.write_all(&bytes).expect(table);
        into.finish().expect(table);
    }
    same_rows(&mut here, &mut there);
    goes_on(&mut there);
}
