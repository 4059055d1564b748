//! What a session keeps between statements (plans, compiled prices, settings) never shows.

mod support;

use postgres::Client;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};
use support::sql::{Database, refusal, rows, value, values};

const QUOTE: &str = "SELECT credits FROM credyt.quote('image', customer => 'ann')";
const DEBIT: &str = "SELECT credits FROM credyt.debit_credits('ann', 'image')";

fn set_price(client: &mut Client, price: u32) {
    rows(
        client,
        &format!("SELECT credyt.set_price('image', '{price}')"),
    );
}

fn two_sessions(name: &str) -> (Database, Client, Client) {
    let database = Database::new(name);
    let (mut here, there) = (database.connect(), database.connect());
    rows(&mut here, "SELECT credyt.grant_credits('ann', 1000)");
    // Compiled here.
    assert_eq!(
        (value(&mut here, QUOTE), value(&mut here, DEBIT)),
        ("1".into(), "1".into())
    );
    (database, here, there)
}

#[test]
fn a_price_set_elsewhere_is_used_by_the_next_statement() {
    let (_database, mut here, mut there) = two_sessions("elsewhere");
    for price in 2..6 {
        set_price(&mut there, price);
        assert_eq!(value(&mut here, DEBIT), price.to_string());
        assert_eq!(value(&mut here, QUOTE), price.to_string());
    }
    rows(
        &mut there,
        "SELECT credyt.set_price('image', '9', customer => 'ann')",
    );
    assert_eq!(value(&mut here, DEBIT), "9");
    rows(
        &mut there,
        "SELECT credyt.set_price('image', 'null', customer => 'ann')",
    );
    assert_eq!(value(&mut here, DEBIT), "5");
    rows(&mut there, "SELECT credyt.set_price('image', 'null')");
    assert_eq!(refusal(&mut here, DEBIT).code, "WC003");
}

#[test]
fn a_price_is_used_elsewhere_only_when_it_is_committed() {
    let (_database, mut here, mut there) = two_sessions("uncommitted");
    rows(&mut there, "BEGIN");
    set_price(&mut there, 2);
    assert_eq!(
        (value(&mut here, DEBIT), value(&mut there, QUOTE)),
        ("1".into(), "2".into())
    );
    // Prices of one asset wait for each other; spending does not wait for prices.
    rows(&mut here, "SET lock_timeout = '200ms'");
    assert_eq!(
        refusal(&mut here, "SELECT credyt.set_price('image', '3')").code,
        "55P03"
    );
    rows(&mut there, "COMMIT");
    assert_eq!(value(&mut here, DEBIT), "2");
}

#[test]
fn a_price_that_was_rolled_back_is_never_used() {
    let (_database, mut here, mut there) = two_sessions("never");
    rows(&mut here, "BEGIN");
    set_price(&mut here, 2);
    assert_eq!(value(&mut here, DEBIT), "2");
    rows(&mut here, "ROLLBACK");
    assert_eq!(value(&mut here, DEBIT), "1");

    // Also where the next price, set here or elsewhere, takes the place of the one rolled back.
    rows(&mut here, "BEGIN");
    set_price(&mut here, 3);
    assert_eq!(value(&mut here, QUOTE), "3");
    rows(&mut here, "ROLLBACK");
    set_price(&mut there, 4);
    assert_eq!(
        (value(&mut here, QUOTE), value(&mut here, DEBIT)),
        ("4".into(), "4".into())
    );

    rows(&mut here, "BEGIN; SAVEPOINT s");
    set_price(&mut here, 5);
    assert_eq!(value(&mut here, DEBIT), "5");
    rows(&mut here, "ROLLBACK TO s");
    assert_eq!(value(&mut here, QUOTE), "4");
    rows(&mut here, "SAVEPOINT t");
    set_price(&mut here, 6);
    assert_eq!(value(&mut here, QUOTE), "6");
    rows(&mut here, "ROLLBACK TO t");
    set_price(&mut here, 7);
    assert_eq!(
        (value(&mut here, QUOTE), value(&mut here, DEBIT)),
        ("7".into(), "7".into())
    );
    rows(&mut here, "COMMIT");
    assert_eq!(
        (value(&mut here, QUOTE), value(&mut there, QUOTE)),
        ("7".into(), "7".into())
    );
}

#[test]
fn a_repeatable_read_transaction_keeps_the_prices_of_its_snapshot() {
    let (_database, mut here, mut there) = two_sessions("snapshot");
    rows(&mut here, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    set_price(&mut there, 2);
    assert_eq!(
        (value(&mut here, QUOTE), value(&mut here, DEBIT)),
        ("1".into(), "1".into())
    );
    assert_eq!(
        refusal(&mut here, "SELECT credyt.set_price('image', '3')").code,
        "40001"
    );
    rows(&mut here, "ROLLBACK");
    assert_eq!(value(&mut here, DEBIT), "2");
}

#[test]
fn an_authorization_is_captured_at_the_price_it_was_authorized_at() {
    let (_database, mut here, mut there) = two_sessions("authorized");
    let hold = value(
        &mut here,
        "SELECT id FROM credyt.authorize('ann', 'image', 10)",
    );
    set_price(&mut there, 3);
    rows(
        &mut there,
        "SELECT credyt.set_price('image', '8', customer => 'ann')",
    );
    let capture = format!("SELECT credits FROM credyt.capture('ann', '{hold}', quantity => 4)");
    assert_eq!(value(&mut here, &capture), "4");
}

/// Calls every verb once.
fn use_everything(client: &mut Client) {
    rows(
        client,
        "SELECT credyt.create_asset('credits'); SELECT credyt.set_price('image', '2')",
    );
    rows(
        client,
        "SELECT credyt.open_wallet('ann', overdraft_limit => 5)",
    );
    let grant = value(
        client,
        "SELECT id FROM credyt.grant_credits('ann', 100, paid => 10, idempotency_key => 'g')",
    );
    let debit = value(
        client,
        "SELECT id FROM credyt.debit_credits('ann', 'image', 3, idempotency_key => 'd')",
    );
    let hold = "SELECT id FROM credyt.authorize('ann', 'image', 5, idempotency_key => 'a')";
    let (hold, other) = (
        value(client, hold),
        value(client, "SELECT id FROM credyt.authorize('ann', 'image', 5)"),
    );
    rows(
        client,
        &format!(
            "SELECT credyt.extend('ann', '{hold}'); SELECT credyt.capture('ann', '{hold}', 1, keep_open => true);
             SELECT credyt.capture('ann', '{hold}'); SELECT credyt.release('ann', '{other}');
             SELECT credyt.refund('ann', '{debit}', 2); SELECT credyt.revoke_grant('ann', '{grant}', 4);
             SELECT credyt.quote('image')"
        ),
    );
    assert_eq!(
        value(
            client,
            "SELECT settled, held, available FROM credyt.balance('ann')"
        ),
        "82 0 87"
    );
    let views = "SELECT 'SELECT count(*) FROM credyt.' || relname FROM pg_class
                 WHERE relnamespace = 'credyt'::regnamespace AND relkind = 'v' ORDER BY 1";
    for view in values(client, views) {
        rows(client, &view);
    }
    assert_eq!(values(client, "SELECT * FROM credyt.verify()"), [""; 0]);
}

#[test]
fn the_extension_can_be_dropped_and_created_again_in_one_session() {
    let database = Database::new("again");
    let (mut here, mut there) = (database.connect(), database.connect());
    use_everything(&mut here);
    assert_eq!(
        value(
            &mut there,
            "SELECT available FROM credyt.debit_credits('ann', 'image', 0)"
        ),
        "87"
    );
    rows(&mut here, "DROP EXTENSION credyt_pg");
    assert_eq!(
        value(
            &mut here,
            "SELECT count(*) FROM pg_namespace WHERE nspname = 'credyt'"
        ),
        "0"
    );
    rows(&mut here, "CREATE EXTENSION credyt_pg");
    use_everything(&mut here);
    assert_eq!(
        value(
            &mut there,
            "SELECT available FROM credyt.debit_credits('ann', 'image', 0)"
        ),
        "87"
    );

    // And where the new one is rolled back.
    rows(
        &mut here,
        "BEGIN; DROP EXTENSION credyt_pg; CREATE EXTENSION credyt_pg",
    );
    use_everything(&mut here);
    rows(&mut here, "ROLLBACK");
    assert_eq!(
        value(
            &mut here,
            "SELECT available FROM credyt.debit_credits('ann', 'image', 1)"
        ),
        "85"
    );
}

#[test]
fn the_session_s_settings_change_no_answer() {
    let settings = [
        "TimeZone = 'Asia/Kathmandu'",
        "DateStyle = 'SQL, DMY'",
        "IntervalStyle = 'sql_standard'",
        "bytea_output = 'escape'",
        "standard_conforming_strings = off",
        "extra_float_digits = -15",
        "search_path = ''",
        "search_path = pg_temp, public",
        "plan_cache_mode = force_custom_plan",
        "enable_indexscan = off",
        "client_encoding = 'LATIN1'",
        "default_transaction_isolation = 'serializable'",
        "transform_null_equals = on",
        "quote_all_identifiers = on",
        "row_security = off",
        "session_replication_role = replica",
        "work_mem = '64kB'",
    ];
    for (nth, setting) in settings.iter().enumerate() {
        let database = Database::new(&format!("setting_{nth}"));
        let mut client = database.connect();
        rows(&mut client, &format!("SET {setting}"));
        use_everything(&mut client);
    }
}

#[test]
fn reading_needs_no_right_to_write() {
    let (_database, mut here, _) = two_sessions("read_only");
    rows(&mut here, "BEGIN READ ONLY");
    assert_eq!(
        value(&mut here, "SELECT settled FROM credyt.balance('ann')"),
        "999"
    );
    assert_eq!(
        value(
            &mut here,
            "SELECT settled FROM credyt.balance('ann', at => now())"
        ),
        "999"
    );
    assert_eq!(value(&mut here, QUOTE), "1");
    assert_eq!(
        value(
            &mut here,
            "SELECT count(*) FROM credyt.wallet_balances, credyt.grant_balances"
        ),
        "1"
    );
    assert_eq!(values(&mut here, "SELECT * FROM credyt.verify()"), [""; 0]);
    let affordable = "SELECT amount, bound FROM credyt.affordable('ann', 'image', step => 0.5, scopes => '{user:a}')";
    assert_eq!(value(&mut here, affordable), "999 balance");
    for reads in [
        "usage('ann', now() - interval '1 day', now(), 'hour', '{action,model,scope,kind}')",
        "usage('ann', bucket => 'all')",
        "history('ann', before => 'ffffffff-ffff-ffff-ffff-ffffffffffff', count => 2)",
        "limits_used",
        "alerts",
        "topups",
        "health",
    ] {
        rows(&mut here, &format!("SELECT * FROM credyt.{reads}"));
    }
    assert_eq!(
        value(&mut here, "SELECT pg_current_xact_id_if_assigned() IS NULL"),
        "t",
        "reading took a transaction id"
    );
    rows(&mut here, "ROLLBACK");
    for writes in [
        "authorize('ann', 'image', 5000, vary => 'quantity')",
        "authorize('ann', 'image', 5000, vary => 'quantity', at_least => 4000)",
        "set_limit('ann', 'user:*', 5, '5 hours', counts => 'calls', warn_at => 0.5, required => true)",
        "set_alert('ann', 20, unit => 'percent')",
        "set_topup('ann', 20, to_balance => 50, max_credits => 100, cooldown_seconds => 0)",
        "set_expiry_notice('{7}')",
        "grant_credits('ann', 5, payment => 'pi')",
    ] {
        rows(&mut here, "BEGIN READ ONLY");
        let refused = refusal(&mut here, &format!("SELECT credyt.{writes}"));
        assert_eq!(refused.code, "25006", "{writes}");
        rows(&mut here, "ROLLBACK");
    }
    rows(&mut here, "BEGIN READ ONLY");
    assert_eq!(refusal(&mut here, DEBIT).code, "25006");
    rows(&mut here, "ROLLBACK");
}

#[test]
fn typed_and_prepared_statements_of_a_real_client() {
    let database = Database::new("client");
    let mut client = database.connect();
    let grant = "SELECT id, credits::text, expires_at, applies_to FROM credyt.grant_credits($1, $2::text::numeric,
                     expires_at => $3, priority => $4, applies_to => $5, metadata => $6)";
    let grant = client.prepare(grant).unwrap();
    let ends = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400);
    let patterns = vec!["image".to_owned(), "video.*".to_owned()];
    let metadata = serde_json::json!({"invoice": "2026-1", "lines": [1, 2.5]});
    let row = client
        .query_one(
            &grant,
            &[&"ann", &"12.50", &ends, &5_i32, &patterns, &metadata],
        )
        .unwrap();
    let (id, credits): (uuid::Uuid, String) = (row.get(0), row.get(1));
    assert_eq!(
        (credits.as_str(), row.get::<_, Vec<String>>(3)),
        ("12.5", patterns)
    );
    let seconds_apart = |a: std::time::SystemTime, b: std::time::SystemTime| {
        a.duration_since(b)
            .or_else(|_| b.duration_since(a))
            .unwrap()
            .as_secs()
    };
    assert_eq!(seconds_apart(row.get(2), ends), 0);

    // More calls than Postgres plans one by one: a generic plan, with and without a key.
    let debit = "SELECT id, replayed, allocations FROM credyt.debit_credits($1, $2, idempotency_key => $3, metadata => $4)";
    let debit = client.prepare(debit).unwrap();
    for nth in 0..12 {
        let key = (nth % 2 == 0).then(|| format!("key {nth}"));
        let row = client
            .query_one(&debit, &[&"ann", &"image", &key, &metadata])
            .unwrap();
        assert!(!row.get::<_, bool>(1));
        let allocations: serde_json::Value = row.get(2);
        assert_eq!(allocations[0]["grant"], id.to_string());
    }
    let refused = client
        .query_one(&debit, &[&"ann", &"image", &None::<String>, &metadata])
        .unwrap_err();
    assert_eq!(support::sql::Refusal::of(&refused).code, "WC001");
    let left = client
        .query_one(
            "SELECT remaining::text FROM credyt.grant_balances WHERE id = $1",
            &[&id],
        )
        .unwrap();
    assert_eq!(left.get::<_, String>(0), "0.5");
}

#[test]
fn a_clock_set_elsewhere_counts_here_when_it_is_committed() {
    let (_database, mut here, mut there) = two_sessions("clock_elsewhere");
    let year = "SELECT extract(year FROM created_at) FROM credyt.debit_credits('ann', 'image')";
    let true_year = value(&mut here, year);
    rows(
        &mut there,
        "BEGIN; INSERT INTO credyt.clock (now) VALUES ('2100-01-01Z')",
    );
    assert_eq!(value(&mut here, year), true_year);
    rows(
        &mut there,
        "ROLLBACK; INSERT INTO credyt.clock (now) VALUES ('2200-01-01Z')",
    );
    assert_eq!(value(&mut here, year), "2200");
    rows(&mut there, "UPDATE credyt.clock SET now = '2300-01-01Z'");
    assert_eq!(value(&mut here, year), "2300");
    rows(
        &mut here,
        "BEGIN; SAVEPOINT s; UPDATE credyt.clock SET now = '2400-01-01Z'",
    );
    let holds = "SELECT extract(year FROM expires_at) FROM credyt.authorize('ann', 'image')";
    assert_eq!(value(&mut here, holds), "2400");
    rows(&mut here, "ROLLBACK TO s");
    assert_eq!(value(&mut here, year), "2300");
    rows(&mut here, "COMMIT; TRUNCATE credyt.clock");
    // Time in a wallet never runs backwards; for a new one it is the true time again.
    assert_eq!(value(&mut here, year), "2300");
    let granted = "SELECT extract(year FROM effective_at) FROM credyt.grant_credits('bob', 1)";
    assert_eq!(value(&mut here, granted), true_year);
}

#[test]
fn a_price_list_counts_in_other_sessions_from_its_commit() {
    let (_database, mut here, mut there) = two_sessions("lists");
    rows(
        &mut there,
        "SELECT credyt.set_price('image', '7', price_list => 'enterprise')",
    );
    assert_eq!(value(&mut here, DEBIT), "1");
    rows(&mut there, "BEGIN");
    rows(
        &mut there,
        "SELECT credyt.set_price_list('ann', 'enterprise')",
    );
    assert_eq!(value(&mut there, QUOTE), "7");
    // Spending does not wait for it.
    assert_eq!(value(&mut here, DEBIT), "1");
    rows(&mut there, "COMMIT");
    assert_eq!(value(&mut here, DEBIT), "7");
    assert_eq!(value(&mut here, QUOTE), "7");

    rows(&mut here, "BEGIN");
    rows(&mut here, "SELECT credyt.set_price_list('ann')");
    assert_eq!(value(&mut here, DEBIT), "1");
    rows(&mut here, "ROLLBACK");
    assert_eq!(value(&mut here, DEBIT), "7");
    rows(
        &mut there,
        "SELECT credyt.set_price('image', '9', price_list => 'enterprise')",
    );
    assert_eq!(value(&mut here, DEBIT), "9");
}

#[test]
fn every_debit_is_charged_by_the_old_or_the_new_version_while_many_sessions_debit() {
    let database = Database::new("many_debit");
    let (sessions, changes) = (24, 12);
    let mut setter = database.connect();
    let lists = (2..2 + changes)
        .map(|price| {
            format!("SELECT credyt.set_price('image', '{price}', price_list => 'list {price}');")
        })
        .collect::<String>();
    rows(&mut setter, &lists);
    for nth in 0..sessions {
        let grant = format!("SELECT credyt.grant_credits('customer {nth}', 100000)");
        rows(&mut setter, &grant);
    }
    let set = AtomicUsize::new(1);
    let debited = AtomicUsize::new(0);
    database.at_once(sessions + 1, |nth, client| {
        if nth == sessions {
            // Changes everybody's list, each time while all go on.
            for price in 2..2 + changes {
                let lists: String = (0..sessions)
                    .map(|nth| {
                        format!("SELECT credyt.set_price_list('customer {nth}', 'list {price}');")
                    })
                    .collect();
                let (seen, since) = (debited.load(Relaxed), Instant::now());
                while debited.load(Relaxed) < seen + 2 * sessions {
                    assert!(since.elapsed().as_secs() < 60, "no debits any more");
                    std::thread::sleep(Duration::from_millis(1));
                }
                rows(client, &format!("BEGIN; {lists} COMMIT"));
                set.store(price, SeqCst);
            }
            set.store(usize::MAX, SeqCst);
            return;
        }
        let debit = format!("SELECT credits FROM credyt.debit_credits('customer {nth}', 'image')");
        let last = 1 + changes;
        loop {
            let before = set.load(SeqCst);
            let charged: usize = value(client, &debit).parse().expect("whole credits");
            let after = set.load(SeqCst);
            debited.fetch_add(1, Relaxed);
            // No older than what was set before the call, no newer than what is being set after it.
            let newest = if after == usize::MAX { last } else { after + 1 };
            assert!(
                before.min(last) <= charged && charged <= newest.min(last),
                "{charged} between {before} and {after}"
            );
            if before == usize::MAX {
                assert_eq!(charged, last);
                return;
            }
        }
    });
    // Each row is priced by the version that it names.
    let wrong = "SELECT count(*) FROM credyt.ledger l LEFT JOIN credyt.prices p USING (asset, action)
                 WHERE l.kind = 'debit' AND p.version = l.price_version AND p.price #>> '{}' <> (-l.credits)::int::text";
    assert_eq!(value(&mut setter, wrong), "0");
    let versions = "SELECT count(DISTINCT price_version) FROM credyt.ledger WHERE kind = 'debit'";
    assert_eq!(value(&mut setter, versions), (1 + changes).to_string());
}
