//! Direct access to rows: the same rows as by SQL, and SQL wherever something is not as it was declared.

mod support;

use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use support::Server;
use support::everything::lawful;
use support::load::{Load, exactly_once};
use support::sql::{Database, attempt, refusal, rows, value, values};

type Counts = BTreeMap<String, u64>;

/// How often this session did what which way, such as `lock direct`.
fn counts(client: &mut Client) -> Counts {
    let sql = "SELECT operation, reason, calls FROM credyt.direct_access_counts()";
    let pair = |line: String| {
        let (what, calls) = line.rsplit_once(' ').expect("three columns");
        (what.to_owned(), calls.parse().expect("a number"))
    };
    values(client, sql).into_iter().map(pair).collect()
}

/// Which ways a statement went to wallets; it may be refused.
fn ways(client: &mut Client, sql: &str) -> Vec<String> {
    let of_wallets = |way: &String| way.starts_with("lock") || way.starts_with("update");
    all_ways(client, sql)
        .into_iter()
        .filter(of_wallets)
        .collect()
}

/// Which ways a statement went; it may be refused.
fn all_ways(client: &mut Client, sql: &str) -> Vec<String> {
    let before = counts(client);
    let _ = attempt(client, sql);
    let more = |(what, calls): &(String, u64)| *calls > before.get(what).copied().unwrap_or(0);
    let after = counts(client).into_iter();
    after.filter(more).map(|(what, _)| what).collect()
}

const DIRECT: [&str; 2] = ["lock direct", "update direct"];
const TABLE: [&str; 2] = ["lock table", "update table"];
const DEBIT: &str = "SELECT credyt.debit_credits('ann', 'image')";

/// A session whose next debit goes directly.
fn warm(database: &Database) -> Client {
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('ann', 1000000, paid => 5, idempotency_key => 'warm');
         SELECT count(credyt.debit_credits('ann', 'image')) FROM generate_series(1, 12)",
    );
    assert_eq!(ways(&mut client, DEBIT), DIRECT);
    client
}

/// No statement of a debit is planned, so the first one of a session costs little.
#[test]
fn the_first_call_of_a_session_goes_directly() {
    let database = Database::new("first");
    rows(
        &mut database.connect(),
        "SELECT credyt.grant_credits('ann', 100)",
    );
    assert_eq!(
        all_ways(&mut database.connect(), DEBIT),
        ["insert direct", "lock direct", "update direct"]
    );
}

/// Assets, prices, price lists, notices and the clock as a session reads them first, with SQL and without.
#[test]
fn books_are_the_same_without_sql() {
    let database = Database::new("books");
    let mut admin = database.connect();
    rows(
        &mut admin,
        "SELECT credyt.create_asset('tokens', 4, 'half_even', 'EUR', 'Europe/Berlin');
         SELECT credyt.set_price('image', '3', asset => 'tokens');
         SELECT credyt.set_price('image', '5', asset => 'tokens', effective_at => now() + interval '1 hour');
         SELECT credyt.set_price('image', '7', asset => 'tokens', customer => 'own');
         SELECT credyt.set_price('image', '11', asset => 'tokens', price_list => 'gold');
         SELECT credyt.set_price_list('listed', 'gold', asset => 'tokens');
         SELECT credyt.set_price('gone', '1', asset => 'tokens'), credyt.set_price('gone', 'null', asset => 'tokens');
         SELECT credyt.grant_credits(c, 1000, asset => 'tokens', expires_at => now() + interval '3 days')
         FROM unnest(ARRAY['ann', 'own', 'listed']) c",
    );
    // Each is asked for first in a session of its own.
    let seen = |admin: &mut Client, change: &str, back: &str| {
        rows(admin, change);
        let seen = ["on", "off"].map(|setting| {
            ["ann", "own", "listed"].map(|customer| {
                let mut client = database.connect();
                rows(&mut client, &format!("SET credyt.direct_access = {setting}; BEGIN"));
                let debit = |action: &str| {
                    format!(
                        "SELECT credits FROM credyt.debit_credits('{customer}', '{action}', asset => 'tokens')"
                    )
                };
                let charged = value(&mut client, &debit("image"));
                let version = value(
                    &mut client,
                    &format!(
                        "SELECT price_version FROM credyt.ledger WHERE customer = '{customer}' AND kind = 'debit'"
                    ),
                );
                rows(&mut client, "SAVEPOINT s");
                let gone = refusal(&mut client, &debit("gone")).code;
                rows(&mut client, "ROLLBACK TO s");
                let due = value(&mut client, &format!("SELECT next_due_at < now() + interval '2 days' FROM credyt.wallets WHERE customer = '{customer}'"));
                rows(&mut client, "ROLLBACK");
                format!("{charged} {version} {gone} {due}")
            })
        });
        rows(admin, back);
        assert_eq!(seen[0], seen[1], "{change}");
        seen[0].join(", ")
    };
    let charged = seen(&mut admin, "", "");
    assert!(charged.starts_with("3 1 WC003 "), "{charged}");
    for (change, back) in [
        (
            "ALTER INDEX credyt.prices_customer RENAME TO other",
            "ALTER INDEX credyt.other RENAME TO prices_customer",
        ),
        (
            "ALTER INDEX credyt.prices_customer RENAME TO other; CREATE INDEX prices_customer ON credyt.prices (action, asset)",
            "DROP INDEX credyt.prices_customer; ALTER INDEX credyt.other RENAME TO prices_customer",
        ),
        (
            "ALTER TABLE credyt.prices ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE credyt.prices DISABLE ROW LEVEL SECURITY",
        ),
        (
            "ALTER TABLE credyt.assets ADD COLUMN note text DEFAULT 'x'",
            "",
        ),
    ] {
        assert_eq!(seen(&mut admin, change, back), charged, "{change}");
    }
    let noticed = seen(
        &mut admin,
        "SELECT credyt.set_expiry_notice('{2}', asset => 'tokens')",
        "",
    );
    assert_ne!(noticed, charged);
    // What the transaction itself has written counts at once.
    let mut client = database.connect();
    rows(
        &mut client,
        "BEGIN; SELECT credyt.create_asset('new'); SELECT credyt.set_price('image', '2', asset => 'new');
         SELECT credyt.grant_credits('ann', 10, asset => 'new')",
    );
    let debit = "SELECT credits FROM credyt.debit_credits('ann', 'image', asset => 'new')";
    assert_eq!(value(&mut client, debit), "2");
    rows(&mut client, "ROLLBACK");
    assert_eq!(refusal(&mut client, debit).code, "WC009");
}

/// An index of the right name that is made otherwise.
#[test]
fn an_index_that_is_made_otherwise_goes_by_sql() {
    let database = Database::new("otherwise");
    let mut client = warm(&database);
    let mut other = database.connect();
    let (drop, made) = (
        "DROP INDEX credyt.wallets_next_due_at",
        "CREATE INDEX wallets_next_due_at ON credyt.wallets",
    );
    for how in [
        "(next_due_at)",
        "(next_due_at DESC) WHERE next_due_at IS NOT NULL",
        "(next_due_at) INCLUDE (asset) WHERE next_due_at IS NOT NULL",
        "(next_due_at, asset) WHERE next_due_at IS NOT NULL",
        "(next_due_at) WHERE next_due_at > '2000-01-01Z'",
        "(next_due_at) WHERE next_due_at IS NULL",
        "((next_due_at + interval '1 hour' * 0)) WHERE next_due_at IS NOT NULL",
        "USING hash (next_due_at) WHERE next_due_at IS NOT NULL",
        "(created_at) WHERE next_due_at IS NOT NULL",
        "(status text_pattern_ops) WHERE next_due_at IS NOT NULL",
        "(status COLLATE \"C\") WHERE next_due_at IS NOT NULL",
    ] {
        if attempt(&mut other, &format!("{drop}; {made} {how}")).is_err() {
            assert!(how.contains("interval"), "{how}");
            continue;
        }
        assert_eq!(ways(&mut client, DEBIT), TABLE, "{how}");
    }
    rows(
        &mut other,
        &format!("{drop}; {made} (next_due_at) WHERE next_due_at IS NOT NULL"),
    );
    assert_eq!(ways(&mut client, DEBIT), DIRECT);
    rows(
        &mut other,
        "ALTER TABLE credyt.ledger DROP CONSTRAINT ledger_pkey, ADD CONSTRAINT ledger_pkey PRIMARY KEY (id, customer)",
    );
    assert!(all_ways(&mut client, DEBIT).contains(&"insert table".to_owned()));
}

#[test]
fn the_same_calls_leave_the_same_rows() {
    for seed in 0..4 {
        let [direct, by_sql] = [true, false].map(|on| {
            let database = Database::new(&format!("calls_{on}"));
            let mut client = database.connect();
            rows(
                &mut client,
                "INSERT INTO credyt.clock (now) VALUES ('2030-03-01Z')",
            );
            rows(
                &mut client,
                "SELECT credyt.create_asset('tokens');
                 SELECT credyt.set_price('image', '2', asset => 'tokens')",
            );
            if !on {
                rows(&mut client, "SET credyt.direct_access = off");
            }
            let answers = random_calls(&mut client, seed);
            let counts = counts(&mut client);
            let directly = counts.get("lock direct").copied().unwrap_or_default();
            assert_eq!(directly > 200, on, "{counts:?}");
            assert_eq!(counts.contains_key("lock setting"), !on, "{counts:?}");
            (answers, everything(&mut client))
        });
        for (direct, by_sql) in [(direct.0, by_sql.0), (direct.1, by_sql.1)] {
            assert_eq!(direct.len(), by_sql.len(), "seed {seed}");
            for (one, other) in direct.iter().zip(&by_sql) {
                assert_eq!(one, other, "seed {seed}");
            }
        }
    }
}

/// Rows of a batch: the same as by SQL, in every index, and seen by a trigger of one's own.
#[test]
fn batches_leave_the_same_rows() {
    let [direct, by_sql] = [true, false].map(|on| {
        let database = Database::new(&format!("batches_{on}"));
        let mut client = database.connect();
        rows(
            &mut client,
            &format!(
                r#"SET credyt.direct_access = {on};
                INSERT INTO credyt.clock (now) VALUES ('2030-03-01Z');
                SELECT credyt.grant_many((SELECT jsonb_agg(jsonb_build_object('customer', 'c' || n % 40, 'credits', n, 'paid', n,
                    'idempotency_key', 'g' || n)) FROM generate_series(1, 200) n));
                SELECT credyt.debit_many((SELECT jsonb_agg(jsonb_build_object('customer', 'c' || n % 40, 'action', 'image',
                    'quantity', n % 3, 'idempotency_key', CASE WHEN n % 2 = 0 THEN 'd' || n END,
                    'scopes', CASE n % 5 WHEN 0 THEN jsonb_build_array('user:a"b\c,{{', 'key:' || n) WHEN 1 THEN '[]' END,
                    'dimensions', CASE n % 7 WHEN 0 THEN jsonb_build_object('size', repeat('4k', n)) END,
                    'occurred_at', CASE n % 4 WHEN 0 THEN '2030-02-01Z' END)) FROM generate_series(1, 2000) n));
                SELECT credyt.authorize('c' || n % 40, 'image', idempotency_key => 'h' || n) FROM generate_series(1, 60) n;
                SELECT credyt.capture_many((SELECT jsonb_agg(jsonb_build_object('customer', customer, 'authorization_id', id) ORDER BY customer, id)
                                            FROM credyt.authorizations))"#
            ),
        );
        let many = |n: u32, key: &str| {
            format!(
                r#"SELECT credyt.debit_many('[{{"customer": "c{n}", "action": "image", "idempotency_key": "{key}"}}]')"#
            )
        };
        // A key that stands for a call of before, and a new one.
        let new = r#", {"customer": "c2", "action": "image", "idempotency_key": "new"}]'"#;
        let again = many(22, "d22").replace("]'", new);
        let again = format!(
            "SELECT (d).replayed FROM ({} AS d) b ORDER BY 1",
            again
        );
        assert_eq!(values(&mut client, &again), ["f", "t"]);
        assert_eq!(refusal(&mut client, &many(3, "g3")).code, "WC005");
        // In a savepoint that is rolled back.
        rows(&mut client, &format!("BEGIN; SAVEPOINT s; {}; ROLLBACK TO s; COMMIT", many(5, "gone")));
        let plain = counts(&mut client);
        assert_eq!(plain.contains_key("insert_many direct"), on, "{plain:?}");
        check_indexes(&mut client);
        // A trigger of one's own fires.
        rows(
            &mut client,
            "CREATE TABLE seen (key text);
             CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO public.seen VALUES (NEW.idempotency_key); RETURN NULL; END $$;
             CREATE TRIGGER own AFTER INSERT ON credyt.ledger FOR EACH ROW EXECUTE FUNCTION see()",
        );
        assert_eq!(
            all_ways(&mut client, &many(6, "seen")).contains(&"insert_many table".to_owned()),
            on
        );
        assert_eq!(value(&mut client, "SELECT key FROM seen"), "seen");
        assert_eq!(value(&mut client, "SELECT count(*) FROM credyt.verify()"), "0");
        everything(&mut client)
    });
    assert_eq!(direct, by_sql);
}

/// What came of each of 400 calls, without ids.
fn random_calls(client: &mut Client, seed: u64) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut answers = Vec::new();
    for nth in 0..400 {
        let customer = ["ann", "ben", "cat"][random.random_range(0..3)];
        let asset = ["credits", "credits", "tokens"][random.random_range(0..3)];
        let known = random.random_range(0..=nth);
        let amount = random.random_range(1..40);
        let call = match random.random_range(0..16) {
            0 => format!(
                "grant_credits('{customer}', {amount}, 'promotional', expires_at => '2030-03-02Z', asset => '{asset}')"
            ),
            1 => format!(
                "grant_credits('{customer}', {amount}, paid => {amount}.37, asset => '{asset}', idempotency_key => 'g{nth}')"
            ),
            2 => format!("debit_credits('{customer}', 'image', {amount}, asset => '{asset}')"),
            3..=5 => format!(
                "debit_credits('{customer}', 'image', asset => '{asset}', idempotency_key => 'd{nth}')"
            ),
            6 => format!(
                "debit_credits('{customer}', 'image', asset => '{asset}', idempotency_key => 'd{known}')"
            ),
            7 | 8 => format!(
                "authorize('{customer}', 'image', {amount}, asset => '{asset}', idempotency_key => 'h{nth}')"
            ),
            9 | 10 => format!(
                "capture('{customer}', (SELECT id FROM credyt.authorizations WHERE customer = '{customer}' ORDER BY id DESC LIMIT 1))"
            ),
            11 => format!(
                "release('{customer}', (SELECT id FROM credyt.authorizations WHERE customer = '{customer}' AND status = 'open' ORDER BY id LIMIT 1))"
            ),
            12 => format!(
                "refund('{customer}', (SELECT id FROM credyt.ledger WHERE customer = '{customer}' AND kind = 'debit' ORDER BY seq DESC LIMIT 1), 1)"
            ),
            13 => format!("set_limit('{customer}', 'user:*', {amount}0, asset => '{asset}')"),
            14 => format!("transfer('{customer}', 'dan', {amount}, asset => '{asset}')"),
            _ => format!(
                "open_wallet('{customer}', asset => '{asset}', overdraft_limit => {amount})"
            ),
        };
        // Some in a savepoint, some of them rolled back, some twice in one statement.
        let way = random.random_range(0..8);
        let sql = match way {
            0 => format!(
                "BEGIN; SAVEPOINT s; SELECT credyt.{call}; ROLLBACK TO s; SELECT credyt.{call}; COMMIT"
            ),
            1 => format!(
                "BEGIN; SAVEPOINT s; SELECT credyt.{call}; RELEASE s; SELECT credyt.{call}; ROLLBACK"
            ),
            2 => format!("SELECT credyt.{call} FROM generate_series(1, 2)"),
            _ => format!("SELECT credyt.{call}"),
        };
        answers.push(match attempt(client, &sql) {
            Ok(rows) => format!("{call}: {} rows", rows.len()),
            Err(refusal) => {
                rows(client, "ROLLBACK");
                format!("{call}: {}", refusal.code)
            }
        });
        if nth % 20 == 19 {
            rows(
                client,
                "UPDATE credyt.clock SET now = now + interval '3 hours'",
            );
        }
    }
    answers
}

/// Every row of every table, without ids, and without the time of what was there before the clock was set.
fn everything(client: &mut Client) -> Vec<String> {
    let sql = "SELECT relname FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind = 'r' ORDER BY 1";
    let tables = values(client, sql);
    let rows_of = |table: String| {
        let row = match table.as_str() {
            "wallets" => "to_jsonb(t) - 'state' || jsonb_build_object('state', t.state::jsonb)",
            _ => "to_jsonb(t)",
        };
        let sql = format!(
            r#"SELECT '{table}', r.row
               FROM (SELECT regexp_replace(regexp_replace(regexp_replace(({row})::text, '"20(?!30-03)[^"]*"', 'before', 'g'),
                         '[0-9a-f]{{8}}-[0-9a-f-]{{27}}', 'id', 'g'), '\\\\x[0-9a-f]+', 'bytes', 'g') AS row
                     FROM credyt.{table} t) r
               ORDER BY r.row COLLATE "C""#
        );
        values(client, &sql)
    };
    tables.into_iter().flat_map(rows_of).collect()
}

/// Rows that were inserted, updated, HOT updated and deleted in wallets, ledger and authorizations, one after another.
fn counted(client: &mut Client) -> Vec<i64> {
    let sql = "SELECT pg_stat_get_xact_tuples_inserted(t), pg_stat_get_xact_tuples_updated(t),
                      pg_stat_get_xact_tuples_hot_updated(t), pg_stat_get_xact_tuples_deleted(t)
               FROM unnest('{credyt.wallets,credyt.ledger,credyt.authorizations}'::regclass[]) t";
    let lines = values(client, sql).join(" ");
    let number = |word: &str| word.parse().expect("a number");
    lines.split(' ').map(number).collect()
}

/// What Postgres counts of each table, and the kinds of WAL records that one transaction wrote of tables and indexes.
fn counters_and_records(on: bool) -> (Vec<i64>, BTreeMap<String, u64>) {
    let database = Database::new(&format!("hot_{on}"));
    let mut client = warm(&database);
    rows(
        &mut client,
        &format!("SET credyt.direct_access = {on}; CHECKPOINT"),
    );
    let before = counts(&mut client);
    rows(&mut client, "BEGIN");
    let ids = value(
        &mut client,
        "SELECT pg_current_xact_id()::xid, pg_current_wal_insert_lsn()",
    );
    let (transaction, start) = ids.split_once(' ').expect("two");
    let counters = counted(&mut client);
    for nth in 0..100 {
        rows(
            &mut client,
            &format!(
                "SELECT credyt.debit_credits('ann', 'image', idempotency_key => 'd{nth}');
                 SELECT credyt.capture('ann', (SELECT id FROM credyt.authorize('ann', 'image')))"
            ),
        );
    }
    let counters = counted(&mut client).into_iter().zip(counters);
    let counters = counters.map(|(after, before)| after - before).collect();
    rows(&mut client, "SET LOCAL synchronous_commit = on; COMMIT");
    let records = format!(
        "SELECT resource_manager || CASE WHEN resource_manager = 'Heap' THEN ' ' || split_part(record_type, '+', 1) ELSE '' END,
                count(*)
         FROM pg_get_wal_records_info('{start}', pg_current_wal_flush_lsn())
         WHERE xid = '{transaction}' AND resource_manager IN ('Heap', 'Btree') AND record_type !~ 'DEDUP|DELETE|VACUUM|ROOT|UPPER|META'
         GROUP BY 1"
    );
    let records = match created(&mut client, "pg_walinspect") {
        true => values(&mut client, &records),
        false => Vec::new(),
    };
    let records = records.into_iter().map(|line| {
        let (kind, count) = line.rsplit_once(' ').expect("a count");
        (kind.to_owned(), count.parse().expect("a number"))
    });
    let records = records.collect();
    let after = counts(&mut client);
    for way in ["lock direct", "update direct", "insert direct"] {
        let of = |counts: &Counts| counts.get(way).copied().unwrap_or_default();
        assert_eq!(of(&after) - of(&before) >= 200, on, "{way}");
    }
    (counters, records)
}

/// HOT updates and WAL are those of SQL, but that an INSERT which asks for a key (ON CONFLICT) writes two records.
#[test]
fn counters_and_wal_are_those_of_sql() {
    let (direct, mut records) = counters_and_records(true);
    let (by_sql, mut records_by_sql) = counters_and_records(false);
    assert_eq!(direct, by_sql);
    let [_, wallets, hot, _, ledger, _, _, _, held, captured, ..] = direct[..] else {
        panic!("{direct:?}");
    };
    assert_eq!([wallets, ledger, held, captured], [300, 200, 100, 100]);
    assert!(hot > 270, "{direct:?}");
    if records.is_empty() {
        return;
    }
    // An index whose pages fill up splits them at the same rows, but for the bytes of ids.
    let leaves = [&mut records, &mut records_by_sql].map(|records| records.remove("Btree"));
    let [Some(leaves), Some(leaves_by_sql)] = leaves else {
        panic!("{leaves:?}");
    };
    assert!(
        leaves.abs_diff(leaves_by_sql) <= 2,
        "{leaves} {leaves_by_sql}"
    );
    let confirm = records_by_sql.keys().find(|kind| kind.ends_with("CONFIRM"));
    let confirm = confirm.cloned().expect("records of ON CONFLICT");
    records_by_sql.remove(&confirm);
    assert_eq!(records, records_by_sql);
}

/// Pages without room, and states out of line: every version of a row gets its index entries.
#[test]
fn full_pages_and_large_states() {
    let database = Database::new("pages");
    let mut client = warm(&database);
    rows(
        &mut client,
        "ALTER TABLE credyt.wallets SET (fillfactor = 100, autovacuum_enabled = off);
         SELECT count(credyt.grant_credits('c' || n, 50, paid => 1)) FROM generate_series(1, 300) n;
         SELECT count(credyt.grant_credits('big', 5, paid => 1, priority => n)) FROM generate_series(1, 250) n;
         SELECT count(credyt.debit_credits('c' || n, 'image')) FROM generate_series(1, 300) n, generate_series(1, 3);
         SELECT count(credyt.debit_credits('big', 'image')) FROM generate_series(1, 60)",
    );
    assert_eq!(
        ways(
            &mut client,
            "SELECT credyt.debit_credits('c7', 'image'), credyt.debit_credits('big', 'image')"
        ),
        DIRECT
    );
    let counted = counts(&mut client);
    assert!(counted["update direct"] > 900, "{counted:?}");
    check_indexes(&mut client);
    assert_eq!(
        value(
            &mut client,
            "SELECT min(settled), max(settled) FROM credyt.wallet_balances WHERE customer LIKE 'c%'"
        ),
        "46 47"
    );
    assert_eq!(
        value(&mut client, "SELECT settled FROM credyt.balance('big')"),
        "1189"
    );
}

#[test]
fn what_is_not_ordinary_goes_by_sql() {
    let database = Database::new("ordinary");
    let mut client = warm(&database);
    for (before, way, after) in [
        (
            "SET credyt.direct_access = off",
            "lock setting",
            "RESET credyt.direct_access",
        ),
        (
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "lock isolation",
            "COMMIT",
        ),
        (
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "lock isolation",
            "COMMIT",
        ),
        ("BEGIN READ ONLY", "lock read_only", "ROLLBACK"),
        (
            "BEGIN ISOLATION LEVEL READ UNCOMMITTED",
            "lock direct",
            "COMMIT",
        ),
    ] {
        rows(&mut client, before);
        let before = counts(&mut client);
        let _ = attempt(&mut client, DEBIT);
        rows(&mut client, after);
        let more = counts(&mut client)[way] - before.get(way).copied().unwrap_or_default();
        assert_eq!(more, 1, "{way}");
        assert_eq!(ways(&mut client, DEBIT), DIRECT);
    }
    assert_eq!(
        ways(
            &mut client,
            "SELECT credyt.debit_credits('nobody', 'image')"
        ),
        ["lock missing"]
    );
    // Who is no superuser may not change it.
    rows(
        &mut client,
        "DROP ROLE IF EXISTS direct_user; CREATE ROLE direct_user; SET ROLE direct_user",
    );
    assert_eq!(
        refusal(&mut client, "SET credyt.direct_access = off").code,
        "42501"
    );
    rows(&mut client, "RESET ROLE; DROP ROLE direct_user");
}

#[test]
fn a_standby_refuses_as_before() {
    let server = Server::start_with(&["fsync=off"]);
    let mut client = server.fresh_database("shop");
    rows(
        &mut client,
        "SELECT credyt.create_asset('credits'); SELECT credyt.set_price('image', '1');
         SELECT credyt.grant_credits('ann', 100)",
    );
    let standby = server.standby();
    let mut reader = standby.client_to("shop");
    for _ in 0..12 {
        assert_eq!(refusal(&mut reader, DEBIT).code, "25006");
    }
    let counted = counts(&mut reader);
    assert_eq!(counted.keys().collect::<Vec<_>>(), ["lock read_only"]);
}

/// Between two debits of one session the table changes: the next debit goes by SQL, and does all of it.
#[test]
fn the_table_changes_between_two_debits() {
    let database = Database::new("changes");
    let mut client = warm(&database);
    let mut other = database.connect();
    rows(
        &mut other,
        "CREATE TABLE parent (LIKE credyt.wallets);
         CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler",
    );
    for (change, back) in [
        (
            "CREATE INDEX own ON credyt.wallets (status)",
            "DROP INDEX credyt.own",
        ),
        (
            "ALTER TABLE credyt.wallets ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE credyt.wallets DISABLE ROW LEVEL SECURITY",
        ),
        (
            "ALTER TABLE credyt.wallets ADD CONSTRAINT own CHECK (status <> 'x')",
            "ALTER TABLE credyt.wallets DROP CONSTRAINT own",
        ),
        (
            "CREATE TABLE child () INHERITS (credyt.wallets)",
            "DROP TABLE child",
        ),
        (
            "CREATE RULE own AS ON INSERT TO credyt.wallets WHERE NEW.status = 'x' DO ALSO NOTHING",
            "DROP RULE own ON credyt.wallets",
        ),
        (
            "CREATE TABLE referring (customer text, asset text, FOREIGN KEY (customer, asset) REFERENCES credyt.wallets)",
            "DROP TABLE referring",
        ),
        (
            "ALTER INDEX credyt.wallets_pkey RENAME TO own",
            "ALTER INDEX credyt.own RENAME TO wallets_pkey",
        ),
        (
            "ALTER TABLE credyt.wallets SET UNLOGGED",
            "ALTER TABLE credyt.wallets SET LOGGED",
        ),
        (
            "ALTER TABLE credyt.wallets INHERIT parent",
            "ALTER TABLE credyt.wallets NO INHERIT parent",
        ),
        (
            "ALTER TABLE credyt.wallets ALTER created_at DROP NOT NULL",
            "ALTER TABLE credyt.wallets ALTER created_at SET NOT NULL",
        ),
    ] {
        rows(&mut other, change);
        assert_eq!(ways(&mut client, DEBIT), TABLE, "{change}");
        rows(&mut other, back);
        // A child's parent is not known to have lost it before it is analyzed.
        rows(&mut other, "VACUUM ANALYZE credyt.wallets");
        assert_eq!(ways(&mut client, DEBIT), DIRECT, "{back}");
    }
    // A trigger of its own fires.
    rows(
        &mut other,
        "CREATE TABLE seen (customer text);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO public.seen VALUES (NEW.customer); RETURN NULL; END $$;
         CREATE TRIGGER own AFTER UPDATE ON credyt.wallets FOR EACH ROW EXECUTE FUNCTION see()",
    );
    assert_eq!(ways(&mut client, DEBIT), TABLE);
    assert_eq!(value(&mut client, "SELECT count(*) FROM seen"), "1");
    rows(&mut other, "DROP TRIGGER own ON credyt.wallets");
    for change in [
        "VACUUM FULL credyt.wallets",
        "REINDEX TABLE CONCURRENTLY credyt.wallets",
        "REINDEX INDEX CONCURRENTLY credyt.wallets_pkey",
        "CLUSTER credyt.wallets USING wallets_pkey",
        "ALTER EXTENSION credyt_pg UPDATE",
        // It is heap by another name: any other is refused by its functions.
        "ALTER TABLE credyt.wallets SET ACCESS METHOD other",
        "ALTER TABLE credyt.wallets SET ACCESS METHOD heap",
        "ANALYZE credyt.wallets",
    ] {
        rows(&mut other, change);
        assert_eq!(ways(&mut client, DEBIT), DIRECT, "{change}");
    }
    // In the transaction itself, and rolled back with it.
    rows(
        &mut client,
        "BEGIN; CREATE INDEX own ON credyt.wallets (status)",
    );
    assert_eq!(ways(&mut client, DEBIT), TABLE);
    rows(&mut client, "ROLLBACK");
    assert_eq!(ways(&mut client, DEBIT), DIRECT);
    // No right, no access: as by SQL.
    rows(
        &mut other,
        "DROP ROLE IF EXISTS direct_owner; CREATE ROLE direct_owner;
         GRANT USAGE ON SCHEMA credyt TO direct_owner;
         GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA credyt TO direct_owner;
         DO $$ BEGIN EXECUTE (SELECT format('ALTER FUNCTION %s OWNER TO direct_owner', p.oid::regprocedure)
                              FROM pg_proc p WHERE p.proname = 'debit_credits' AND p.pronargs > 1); END $$",
    );
    assert_eq!(ways(&mut client, DEBIT), DIRECT);
    rows(
        &mut other,
        "REVOKE UPDATE ON credyt.wallets FROM direct_owner",
    );
    assert_eq!(ways(&mut client, DEBIT), ["lock permission"]);
    assert_eq!(refusal(&mut client, DEBIT).code, "42501");
    rows(
        &mut other,
        "REASSIGN OWNED BY direct_owner TO CURRENT_USER; DROP OWNED BY direct_owner; DROP ROLE direct_owner",
    );
    // No identity for replication: refused, as by SQL.
    rows(
        &mut other,
        "CREATE PUBLICATION own FOR TABLE credyt.wallets; ALTER TABLE credyt.wallets REPLICA IDENTITY NOTHING",
    );
    for setting in ["on", "off"] {
        rows(
            &mut client,
            &format!("SET credyt.direct_access = {setting}"),
        );
        assert_eq!(refusal(&mut client, DEBIT).code, "55000", "{setting}");
    }
    // An error within, caught: nothing is left behind that COMMIT would complain of.
    rows(&mut client, "RESET credyt.direct_access");
    rows(
        &mut client,
        "DO $$ BEGIN
             FOR n IN 1..20 LOOP
                 BEGIN
                     PERFORM credyt.debit_credits('ann', 'image');
                 EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
                 END;
             END LOOP;
         END $$",
    );
    rows(
        &mut other,
        "ALTER TABLE credyt.wallets REPLICA IDENTITY DEFAULT",
    );
    rows(&mut client, "RESET credyt.direct_access");
    assert_eq!(ways(&mut client, DEBIT), DIRECT);
    // A column that is dropped leaves its place behind.
    rows(
        &mut other,
        "ALTER TABLE credyt.wallets ADD COLUMN note text DEFAULT 'x'",
    );
    assert_eq!(ways(&mut client, DEBIT), TABLE);
    assert_eq!(
        value(
            &mut client,
            "SELECT note FROM credyt.wallets WHERE customer = 'ann'"
        ),
        "x"
    );
    rows(&mut other, "ALTER TABLE credyt.wallets DROP COLUMN note");
    assert_eq!(ways(&mut client, DEBIT), TABLE);
    // Another extension of the same name, in one session.
    rows(
        &mut other,
        "DROP PUBLICATION own; DROP TABLE parent; DROP EXTENSION credyt_pg; CREATE EXTENSION credyt_pg",
    );
    rows(
        &mut client,
        "SELECT credyt.create_asset('credits'); SELECT credyt.set_price('image', '1');
         SELECT credyt.grant_credits('ann', 100)",
    );
    assert_eq!(ways(&mut client, DEBIT), DIRECT);
    assert_eq!(
        value(&mut client, "SELECT settled FROM credyt.balance('ann')"),
        "99"
    );
}

#[test]
fn savepoints_and_exceptions_take_it_back() {
    let database = Database::new("savepoints");
    let mut client = warm(&database);
    let balance = "SELECT settled FROM credyt.balance('ann')";
    let before: u64 = value(&mut client, balance).parse().expect("a number");
    rows(&mut client, "BEGIN");
    for _ in 0..100 {
        rows(
            &mut client,
            "SAVEPOINT s; SELECT credyt.debit_credits('ann', 'image'); ROLLBACK TO s;
             SELECT credyt.debit_credits('ann', 'image'); RELEASE s;
             SAVEPOINT t; SELECT credyt.debit_credits('ann', 'image'); RELEASE t",
        );
    }
    rows(
        &mut client,
        "COMMIT;
         DO $$ BEGIN
             FOR n IN 1..50 LOOP
                 BEGIN
                     PERFORM credyt.debit_credits('ann', 'image');
                     PERFORM credyt.debit_credits('ann', 'image', 100000000);
                 EXCEPTION WHEN SQLSTATE 'WC001' THEN NULL;
                 END;
                 PERFORM credyt.debit_credits('ann', 'image');
             END LOOP;
         END $$",
    );
    rows(
        &mut client,
        "BEGIN; SELECT credyt.debit_credits('ann', 'image'); ROLLBACK",
    );
    rows(
        &mut client,
        "CREATE FUNCTION twice() RETURNS void LANGUAGE sql AS
             $$ SELECT credyt.debit_credits('ann', 'image'); SELECT credyt.debit_credits('ann', 'image') $$;
         SELECT twice()",
    );
    let after: u64 = value(&mut client, balance).parse().expect("a number");
    assert_eq!(before - after, 252);
    // A cursor that was opened before, and a trigger that debits.
    rows(
        &mut client,
        "CREATE TABLE jobs (n int);
         CREATE FUNCTION pay() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM credyt.debit_credits('ann', 'image', NEW.n); RETURN NEW; END $$;
         CREATE TRIGGER pay BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION pay();
         BEGIN;
         DECLARE c CURSOR FOR SELECT credyt.debit_credits('ann', 'image') FROM generate_series(1, 10);
         FETCH 4 FROM c; SELECT credyt.debit_credits('ann', 'image'); FETCH 4 FROM c; CLOSE c;
         INSERT INTO jobs SELECT 2 FROM generate_series(1, 5);
         COMMIT",
    );
    let last: u64 = value(&mut client, balance).parse().expect("a number");
    assert_eq!(after - last, 19);
    let counted = counts(&mut client);
    assert!(counted["update direct"] > 400, "{counted:?}");
    assert_eq!(counted.get("lock unexpected"), None);
    assert_eq!(counted.get("update unexpected"), None);
}

/// A trigger of the owner's that makes a call about the wallet for which it fires: no credit gets lost.
#[test]
fn calls_within_calls_lose_nothing() {
    let database = Database::new("within");
    let mut client = warm(&database);
    rows(
        &mut client,
        "SELECT credyt.create_asset('points');
         SELECT credyt.grant_credits('ann', 10, asset => 'points');
         SELECT credyt.grant_credits('bob', 10);
         CREATE FUNCTION cashback() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.kind = 'debit' AND NEW.asset = 'credits' THEN
                 PERFORM credyt.grant_credits(NEW.customer, 1, asset => TG_ARGV[0]);
             END IF;
             RETURN NEW;
         END $$;
         CREATE FUNCTION let_go() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM credyt.release(NEW.customer, NEW.id); RETURN NEW; END $$",
    );
    let one = "SELECT credyt.debit_credits('ann', 'image')";
    let many = r#"SELECT credyt.debit_many('[{"customer": "bob", "action": "image"}, {"customer": "ann", "action": "image"},
                                             {"customer": "ann", "action": "image"}]')"#;
    let hold = "SELECT credyt.authorize('ann', 'image', 5)";
    let balance = "SELECT settled FROM credyt.balance('ann')";
    let number = |client: &mut Client| -> i64 { value(client, balance).parse().expect("a number") };
    let before = number(&mut client);
    let at_once = ["AFTER", "BEFORE"].map(|when| {
        format!("CREATE TRIGGER own {when} INSERT ON credyt.ledger FOR EACH ROW EXECUTE FUNCTION cashback('credits')")
    });
    for trigger in at_once {
        rows(&mut client, &trigger);
        for call in [one, many] {
            let refused = refusal(&mut client, call);
            assert_eq!(refused.code, "27000", "{trigger}: {refused:?}");
        }
        lawful(&mut client);
        assert_eq!(number(&mut client), before, "{trigger}");
        rows(&mut client, "DROP TRIGGER own ON credyt.ledger");
    }
    let later =
        "CREATE CONSTRAINT TRIGGER own AFTER INSERT ON credyt.ledger DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION cashback('credits')";
    let other = "CREATE TRIGGER own AFTER INSERT ON credyt.ledger FOR EACH ROW EXECUTE FUNCTION cashback('points')";
    for (trigger, left) in [(later, before), (other, before - 3)] {
        rows(&mut client, trigger);
        for call in [one, many] {
            rows(&mut client, call);
        }
        rows(&mut client, "DROP TRIGGER own ON credyt.ledger");
        lawful(&mut client);
        assert_eq!(number(&mut client), left, "{trigger}");
    }
    rows(
        &mut client,
        "CREATE TRIGGER own AFTER INSERT ON credyt.authorizations FOR EACH ROW EXECUTE FUNCTION let_go()",
    );
    assert!(attempt(&mut client, hold).is_err());
    rows(&mut client, "DROP TRIGGER own ON credyt.authorizations");
    // A trigger that drops what a call writes: the call fails.
    let id = value(
        &mut client,
        "SELECT id FROM credyt.authorize('ann', 'image', 5)",
    );
    rows(
        &mut client,
        "CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER own BEFORE UPDATE ON credyt.authorizations FOR EACH ROW EXECUTE FUNCTION drop_row()",
    );
    for call in [
        format!("SELECT credyt.capture('ann', '{id}', 2)"),
        format!("SELECT credyt.release('ann', '{id}')"),
        format!("SELECT credyt.extend('ann', '{id}', 3600)"),
    ] {
        assert_eq!(refusal(&mut client, &call).code, "XX001", "{call}");
    }
    rows(&mut client, "DROP TRIGGER own ON credyt.authorizations");
    lawful(&mut client);
}

#[test]
fn one_wallet_from_everywhere() {
    let database = Database::new("everywhere");
    drop(warm(&database));
    let mut client = database.connect();
    let balance = "SELECT settled FROM credyt.balance('ann')";
    let before: u64 = value(&mut client, balance).parse().expect("a number");
    let counted = database.at_once(24, |nth, client| {
        for n in 0..40 {
            rows(
                client,
                &format!(
                    "SELECT credyt.debit_credits('ann', 'image', idempotency_key => 'k{}')",
                    (nth / 2) * 1000 + n
                ),
            );
        }
        counts(client)
    });
    let after: u64 = value(&mut client, balance).parse().expect("a number");
    // Two sessions use each key.
    assert_eq!(before - after, 12 * 40);
    let total = |what: &str| {
        counted
            .iter()
            .map(|counts| counts.get(what).copied().unwrap_or(0))
            .sum::<u64>()
    };
    assert!(
        total("lock direct") > 0 && total("lock contended") > 0,
        "{counted:?}"
    );
    assert_eq!(total("lock unexpected") + total("update unexpected"), 0);
}

#[test]
fn one_key_of_two_assets_at_once() {
    let database = Database::new("two_assets");
    let mut client = warm(&database);
    rows(
        &mut client,
        "SELECT credyt.create_asset('tokens'); SELECT credyt.set_price('image', '1', asset => 'tokens');
         SELECT credyt.grant_credits('ann', 1000, asset => 'tokens')",
    );
    for (end, call, direct) in [
        ("COMMIT", "debit_credits", true),
        ("ROLLBACK", "debit_credits", true),
        ("COMMIT", "authorize", true),
        ("ROLLBACK", "authorize", true),
        ("COMMIT", "debit_credits", false),
        ("COMMIT", "authorize", false),
    ] {
        let key = format!("{end} {call} {direct}");
        rows(
            &mut client,
            &format!("BEGIN; SELECT credyt.{call}('ann', 'image', idempotency_key => '{key}')"),
        );
        let (second, inserts) = database.waiting(
            |waiter| {
                rows(
                    waiter,
                    &format!(
                        "SET credyt.direct_access = {direct};
                         SELECT count(credyt.debit_credits('ann', 'image', asset => 'tokens')) FROM generate_series(1, 12)"
                    ),
                );
                let call = format!(
                    "SELECT credyt.{call}('ann', 'image', asset => 'tokens', idempotency_key => '{key}')"
                );
                let before = counts(waiter);
                let second = attempt(waiter, &call).map(|rows| rows.len());
                let inserts = counts(waiter).get("insert direct").copied().unwrap_or(0)
                    - before.get("insert direct").copied().unwrap_or(0);
                // The session goes on as if nothing had happened.
                rows(waiter, "SELECT credyt.debit_credits('ann', 'image', asset => 'tokens')");
                (second, inserts)
            },
            || {
                rows(&mut client, end);
            },
        );
        assert_eq!(inserts, u64::from(direct), "{key}");
        match (end, second) {
            ("ROLLBACK", second) => assert_eq!(second.ok(), Some(1), "{key}"),
            (_, Err(refusal)) => {
                assert_eq!(refusal.code, "WC005", "{key}");
                let detail = refusal.detail;
                for part in [&key, "\"asset\": \"tokens\"", "\"action\": \"image\""] {
                    assert!(
                        detail.contains(part) || detail.contains(&part.replace(": ", ":")),
                        "{detail}"
                    );
                }
            }
            (_, Ok(_)) => panic!("{key}: booked twice"),
        }
    }
    // In a block that catches it the rest of the transaction is kept.
    rows(
        &mut client,
        "BEGIN; SELECT credyt.debit_credits('ann', 'image', idempotency_key => 'caught')",
    );
    let caught = database.waiting(
        |waiter| {
            rows(
                waiter,
                "SELECT count(credyt.debit_credits('ann', 'image', asset => 'tokens')) FROM generate_series(1, 12);
                 CREATE TABLE caught (code text);
                 DO $$ BEGIN
                     PERFORM credyt.debit_credits('ann', 'image', 2, asset => 'tokens');
                     BEGIN
                         PERFORM credyt.debit_credits('ann', 'image', asset => 'tokens', idempotency_key => 'caught');
                     EXCEPTION WHEN OTHERS THEN INSERT INTO caught VALUES (SQLSTATE);
                     END;
                     PERFORM credyt.debit_credits('ann', 'image', 3, asset => 'tokens');
                 END $$",
            );
            values(waiter, "SELECT code FROM caught")
        },
        || {
            rows(&mut client, "COMMIT");
        },
    );
    assert_eq!(caught, ["WC005"]);
    let spent =
        "SELECT sum(quantity) FROM credyt.ledger WHERE asset = 'tokens' AND quantity IN (2, 3)";
    assert_eq!(value(&mut client, spent), "5");
}

/// A wallet that another session has is waited for by SQL, which can be cancelled.
#[test]
fn a_wait_can_be_cancelled() {
    let database = Database::new("cancelled");
    let mut client = warm(&database);
    let mut other = database.connect();
    rows(&mut other, &format!("BEGIN; {DEBIT}"));
    rows(&mut client, "SET statement_timeout = '200ms'");
    assert_eq!(refusal(&mut client, DEBIT).code, "57014");
    rows(&mut other, "COMMIT");
    assert_eq!(ways(&mut client, DEBIT), DIRECT);
    assert!(counts(&mut client)["lock contended"] > 0);
}

const HOLD: &str = "SELECT credyt.authorize('ann', 'image')";
const CAPTURE: &str = "SELECT credyt.capture('ann', (SELECT max(h.id::text)::uuid FROM credyt.authorizations h
                                                    WHERE h.customer = 'ann' AND h.status = 'open'))";

/// The ledger and the authorizations change between two calls: the next goes by SQL, and does all of it.
#[test]
fn the_other_tables_change_between_two_calls() {
    let database = Database::new("others");
    let mut client = warm(&database);
    let mut other = database.connect();
    rows(
        &mut other,
        "CREATE TABLE seen (id uuid);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO public.seen VALUES (NEW.id); RETURN NULL; END $$",
    );
    rows(&mut client, HOLD);
    assert_eq!(
        all_ways(&mut client, DEBIT),
        ["insert direct", "lock direct", "update direct"]
    );
    assert_eq!(
        all_ways(&mut client, HOLD),
        ["insert direct", "lock direct", "update direct"]
    );
    assert_eq!(
        all_ways(&mut client, CAPTURE),
        [
            "insert direct",
            "lock direct",
            "read direct",
            "update direct"
        ]
    );
    for (table, call) in [("ledger", DEBIT), ("authorizations", HOLD)] {
        for (change, back) in [
            (
                "CREATE INDEX own ON credyt.TABLE (created_at)",
                "DROP INDEX credyt.own",
            ),
            (
                "ALTER TABLE credyt.TABLE ENABLE ROW LEVEL SECURITY",
                "ALTER TABLE credyt.TABLE DISABLE ROW LEVEL SECURITY",
            ),
            (
                "ALTER TABLE credyt.TABLE ADD CONSTRAINT own CHECK (action <> 'x')",
                "ALTER TABLE credyt.TABLE DROP CONSTRAINT own",
            ),
            (
                "ALTER TABLE credyt.TABLE ALTER scopes SET DEFAULT '{}'",
                "ALTER TABLE credyt.TABLE ALTER scopes DROP DEFAULT",
            ),
            (
                "CREATE RULE own AS ON INSERT TO credyt.TABLE WHERE NEW.action = 'x' DO ALSO NOTHING",
                "DROP RULE own ON credyt.TABLE",
            ),
            (
                "CREATE TRIGGER own AFTER INSERT ON credyt.TABLE FOR EACH ROW EXECUTE FUNCTION see()",
                "DROP TRIGGER own ON credyt.TABLE",
            ),
            (
                "CREATE TRIGGER own BEFORE INSERT ON credyt.TABLE FOR EACH STATEMENT EXECUTE FUNCTION see()",
                "DROP TRIGGER own ON credyt.TABLE",
            ),
        ] {
            if change.contains("STATEMENT") {
                rows(
                    &mut other,
                    "CREATE OR REPLACE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
                );
            }
            rows(
                &mut other,
                &change
                    .replace("TABLE credyt.TABLE", &format!("TABLE credyt.{table}"))
                    .replace("credyt.TABLE", &format!("credyt.{table}")),
            );
            let ways = all_ways(&mut client, call);
            assert_eq!(
                ways,
                ["insert table", "lock direct", "update direct"],
                "{change}"
            );
            if change.contains("AFTER INSERT") {
                assert_eq!(
                    value(&mut other, "SELECT count(*) FROM seen"),
                    "1",
                    "{table}"
                );
                rows(&mut other, "TRUNCATE seen");
            }
            rows(
                &mut other,
                &back.replace("credyt.TABLE", &format!("credyt.{table}")),
            );
            rows(&mut other, &format!("VACUUM ANALYZE credyt.{table}"));
            let ways = all_ways(&mut client, call);
            assert_eq!(
                ways,
                ["insert direct", "lock direct", "update direct"],
                "{back}"
            );
        }
        rows(
            &mut other,
            "CREATE OR REPLACE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO public.seen VALUES (NEW.id); RETURN NULL; END $$",
        );
        for change in [
            "VACUUM FULL",
            "REINDEX TABLE CONCURRENTLY",
            "REINDEX TABLE",
            "ANALYZE",
        ] {
            rows(&mut other, &format!("{change} credyt.{table}"));
            let ways = all_ways(&mut client, call);
            assert_eq!(
                ways,
                ["insert direct", "lock direct", "update direct"],
                "{change}"
            );
        }
    }
    // A column that may not be NULL any more: refused, as by SQL.
    rows(
        &mut other,
        "UPDATE credyt.authorizations SET idempotency_key = id::text;
         ALTER TABLE credyt.authorizations ALTER idempotency_key SET NOT NULL",
    );
    assert!(all_ways(&mut client, HOLD).contains(&"insert table".to_owned()));
    assert_eq!(refusal(&mut client, HOLD).code, "23502");
    rows(
        &mut other,
        "ALTER TABLE credyt.authorizations ALTER idempotency_key DROP NOT NULL",
    );
    assert!(all_ways(&mut client, HOLD).contains(&"insert direct".to_owned()));
    // What only an UPDATE fires matters for authorizations.
    rows(
        &mut other,
        "CREATE TRIGGER own AFTER UPDATE ON credyt.authorizations FOR EACH ROW EXECUTE FUNCTION see()",
    );
    assert_eq!(
        all_ways(&mut client, CAPTURE),
        [
            "insert direct",
            "lock direct",
            "read table",
            "update direct"
        ]
    );
    assert_eq!(value(&mut other, "SELECT count(*) FROM seen"), "1");
    rows(&mut other, "DROP TRIGGER own ON credyt.authorizations");
    // A new column has its default, and one that was dropped leaves its place behind.
    for (table, call) in [("ledger", DEBIT), ("authorizations", HOLD)] {
        rows(
            &mut other,
            &format!("ALTER TABLE credyt.{table} ADD COLUMN note text NOT NULL DEFAULT 'x'"),
        );
        assert_eq!(
            all_ways(&mut client, call),
            ["insert table", "lock direct", "update direct"]
        );
        rows(
            &mut other,
            &format!("ALTER TABLE credyt.{table} DROP COLUMN note"),
        );
        assert_eq!(
            all_ways(&mut client, call),
            ["insert table", "lock direct", "update direct"]
        );
    }
    check_indexes(&mut other);
}

/// What a call comes to, three times in a block that catches it, while another session does this and goes back; P0009 if
/// it is not refused.
fn fault(client: &mut Client, other: &mut Client, obstacle: &str, call: &str) -> String {
    rows(other, &format!("BEGIN; {obstacle}"));
    rows(
        client,
        &format!(
            "CREATE TEMP TABLE outcome (code text);
             BEGIN;
             SET LOCAL lock_timeout = '30ms';
             DO $$ BEGIN
                 FOR n IN 1..3 LOOP
                     BEGIN
                         PERFORM {call};
                         RAISE EXCEPTION 'back' USING ERRCODE = 'P0009';
                     EXCEPTION WHEN OTHERS THEN
                         INSERT INTO outcome VALUES (SQLSTATE);
                     END;
                 END LOOP;
             END $$;
             COMMIT"
        ),
    );
    rows(other, "ROLLBACK");
    let codes = value(client, "SELECT string_agg(DISTINCT code, ' ') FROM outcome");
    rows(client, "DROP TABLE outcome");
    codes
}

/// An error in each of the sections, caught by a block: what the call did is taken back, the transaction goes on, and
/// the server has nothing to complain of.
#[test]
fn errors_within_are_taken_back() {
    let server =
        Server::start_with(&["fsync=off", "log_min_messages=warning", "wal_level=logical"]);
    let mut client = server.fresh_database("shop");
    rows(
        &mut client,
        "SELECT credyt.create_asset('credits'); SELECT credyt.set_price('image', '1');
         SELECT credyt.create_asset('tokens'); SELECT credyt.set_price('image', '1', asset => 'tokens');
         SELECT credyt.grant_credits('ann', 1000), credyt.grant_credits('ann', 10, asset => 'tokens');
         SELECT count(credyt.debit_credits('ann', 'image')) FROM generate_series(1, 12);
         SELECT count(credyt.authorize('ann', 'image')) FROM generate_series(1, 12)",
    );
    let mut other = server.client_to("shop");
    let balance = "SELECT settled, held FROM credyt.balance('ann')";
    let before = value(&mut client, balance);
    let debit = "credyt.debit_credits('ann', 'image', idempotency_key => 'k')";
    let hold = "credyt.authorize('ann', 'image', idempotency_key => 'k')";
    let capture =
        "credyt.capture('ann', (SELECT max(h.id::text)::uuid FROM credyt.authorizations h))";
    let many =
        r#"credyt.debit_many('[{"customer": "ann", "action": "image", "idempotency_key": "k"}]')"#;
    // A table that cannot be opened.
    for (table, refused) in [
        ("wallets", &[debit, hold, capture, many][..]),
        ("ledger", &[debit, capture, many]),
        ("authorizations", &[hold, capture]),
    ] {
        let obstacle = format!("LOCK TABLE credyt.{table} IN SHARE MODE");
        for call in [debit, hold, capture, many] {
            let expected = if refused.contains(&call) {
                "55P03"
            } else {
                "P0009"
            };
            assert_eq!(
                fault(&mut client, &mut other, &obstacle, call),
                expected,
                "{table} {call}"
            );
        }
    }
    // An index that cannot be: before a row is read, after it is written, and after that of another table.
    for (index, calls) in [
        ("credyt.wallets_pkey", &[debit, hold, capture][..]),
        ("credyt.wallets_next_due_at", &[hold]),
        ("credyt.ledger_key", &[debit, many]),
        ("credyt.ledger_pkey", &[debit, capture, many]),
        ("credyt.authorizations_key", &[hold]),
        ("credyt.authorizations_pkey", &[hold, capture]),
        ("credyt.authorizations_open", &[hold, capture]),
    ] {
        let obstacle = format!("ALTER INDEX {index} SET TABLESPACE pg_default");
        for call in calls {
            let code = fault(&mut client, &mut other, &obstacle, call);
            // What opens no index of the wallet's other column is not stopped by it.
            let expected = if index.ends_with("due_at") {
                "P0009"
            } else {
                "55P03"
            };
            assert_eq!(code, expected, "{index} {call}");
        }
    }
    // A state that is out of line, and cannot be read, or cannot be written.
    rows(
        &mut client,
        "SELECT count(credyt.grant_credits('big', 5, paid => 1, priority => n)) FROM generate_series(1, 250) n",
    );
    let toast = value(
        &mut client,
        "SELECT i.indexrelid::regclass FROM pg_class c JOIN pg_index i ON i.indrelid = c.reltoastrelid WHERE c.oid = 'credyt.wallets'::regclass",
    );
    let obstacle = format!(
        "SET LOCAL allow_system_table_mods = on; ALTER INDEX {toast} SET TABLESPACE pg_default"
    );
    let call = "credyt.debit_credits('big', 'image')";
    assert_eq!(fault(&mut client, &mut other, &obstacle, call), "55P03");
    // Another session is about to take the key: the row is in the table, and not yet in all indexes.
    for (call, first) in [(debit, debit), (hold, hold), (many, debit)] {
        let obstacle = format!("SELECT {}", first.replace("'k'", "'k', asset => 'tokens'"));
        assert_eq!(fault(&mut client, &mut other, &obstacle, call), "55P03");
    }
    // No identity for replication.
    rows(
        &mut other,
        "CREATE PUBLICATION own FOR TABLE credyt.wallets; ALTER TABLE credyt.wallets REPLICA IDENTITY NOTHING",
    );
    assert_eq!(fault(&mut client, &mut other, "SELECT", debit), "55000");
    rows(
        &mut other,
        "DROP PUBLICATION own; ALTER TABLE credyt.wallets REPLICA IDENTITY DEFAULT",
    );
    assert_eq!(value(&mut client, balance), before);
    let counted = counts(&mut client);
    assert!(
        !counted.keys().any(|way| way.contains("unexpected")),
        "{counted:?}"
    );
    assert_eq!(
        all_ways(&mut client, DEBIT),
        ["insert direct", "lock direct", "update direct"]
    );
    let log = server
        .data_directory()
        .parent()
        .expect("its folder")
        .join("log");
    let log = std::fs::read_to_string(log).expect("the log");
    let warnings: Vec<&str> = log
        .lines()
        .filter(|line| {
            ["WARNING", "PANIC", "TRAP"]
                .iter()
                .any(|word| line.contains(word))
        })
        .collect();
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// In the leader of a parallel plan a call is refused as by SQL.
#[test]
fn a_parallel_plan_refuses_as_before() {
    let database = Database::new("parallel");
    let mut client = warm(&database);
    rows(
        &mut client,
        "CREATE TABLE many AS SELECT n FROM generate_series(1, 10000) n; ANALYZE many;
         CREATE FUNCTION pay(n int) RETURNS int PARALLEL RESTRICTED LANGUAGE plpgsql AS
             $$ BEGIN PERFORM credyt.debit_credits('ann', 'image'); RETURN n; END $$;
         SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
         SET max_parallel_workers_per_gather = 2",
    );
    let sql = "SELECT pay(max(n)) FROM many WHERE n % 7 = 3";
    let plan = values(&mut client, &format!("EXPLAIN {sql}")).join(" ");
    assert!(plan.contains("Gather"), "{plan}");
    let before = counts(&mut client);
    let direct = refusal(&mut client, sql).code;
    assert!(counts(&mut client).get("lock parallel") > before.get("lock parallel"));
    rows(&mut client, "SET credyt.direct_access = off");
    assert_eq!(direct, refusal(&mut client, sql).code);
}

/// A library that checks permissions sees the statements of every call, and is obeyed.
#[test]
fn a_library_that_checks_permissions_is_asked() {
    let pg_config = std::env::var("CREDYT_PG_CONFIG").expect("CREDYT_PG_CONFIG");
    let headers = Command::new(pg_config).arg("--includedir-server").output();
    let headers = String::from_utf8(headers.expect("pg_config runs").stdout).expect("UTF-8");
    let headers = headers.trim();
    if !Path::new(headers).join("postgres.h").exists() {
        println!("not tried: no headers of Postgres in {headers}");
        return;
    }
    // Where the server's user can read it.
    let library = std::env::temp_dir().join(format!("credyt_hook_{}.so", std::process::id()));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/hook.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-I", headers, source, "-o"])
        .arg(&library)
        .status();
    assert!(built.expect("cc").success());
    let database = Database::new("hook");
    let mut client = warm(&database);
    rows(&mut client, &format!("LOAD '{}'", library.display()));
    assert_eq!(ways(&mut client, DEBIT), ["lock hook"]);
    assert!(
        refusal(&mut client, DEBIT)
            .message
            .contains("not by this library")
    );
    // Another session is not concerned.
    drop(warm(&database));
    std::fs::remove_file(library).expect("removed");
}

/// Indexes are made and made again while rows are written directly and by SQL: each has every row.
#[test]
fn indexes_are_made_while_rows_are_written() {
    let server = Server::start_with(&["fsync=off"]);
    drop(server.fresh_database("shop"));
    let url = server.connect_str_to("shop");
    let load = Load::start(&url, 4);
    let mut client = server.client_to("shop");
    for table in ["wallets", "ledger", "authorizations"] {
        load.wait(20);
        rows(
            &mut client,
            &format!("CREATE INDEX CONCURRENTLY own ON credyt.{table} (customer, created_at)"),
        );
        load.wait(5);
        for change in [
            "REINDEX INDEX CONCURRENTLY credyt.own",
            "DROP INDEX CONCURRENTLY credyt.own",
        ] {
            if change.starts_with("DROP") {
                check_indexes(&mut client);
            }
            rows(&mut client, change);
        }
        for _ in 0..2 {
            load.wait(10);
            rows(
                &mut client,
                &format!("REINDEX TABLE CONCURRENTLY credyt.{table}"),
            );
        }
    }
    load.wait(20);
    check_indexes(&mut client);
    let (answers, errors) = load.stop();
    println!("{} answers, errors {errors:?}", answers.len());
    exactly_once(&mut client, &answers);
    check_indexes(&mut client);
    lawful(&mut client);
}

/// Creates an extension of Postgres, where this one has it: PyPI's Postgres 16 has none.
fn created(client: &mut Client, extension: &str) -> bool {
    let there = attempt(
        client,
        &format!("CREATE EXTENSION IF NOT EXISTS {extension}"),
    )
    .is_ok();
    if !there {
        println!("not tried: no {extension}");
    }
    there
}

/// Every table and every B-tree of the extension is sound, and every row is in every index.
fn check_indexes(client: &mut Client) {
    if !created(client, "amcheck") {
        return;
    }
    let broken = values(
        client,
        "SELECT c.oid::regclass, v.* FROM pg_class c, LATERAL verify_heapam(c.oid) v
         WHERE c.relnamespace = 'credyt'::regnamespace AND c.relkind = 'r'",
    );
    assert_eq!(broken, Vec::<String>::new());
    rows(
        client,
        "SELECT bt_index_check(c.oid, true) FROM pg_class c JOIN pg_am m ON m.oid = c.relam JOIN pg_index i ON i.indexrelid = c.oid
         WHERE m.amname = 'btree' AND c.relnamespace = 'credyt'::regnamespace AND i.indisvalid",
    );
}
