//! Direct access to rows: the same rows as by SQL, and SQL wherever something is not as it was declared.

mod support;

use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use support::Server;
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

/// Is this a Postgres on which it is done at all? On others every call goes by SQL.
fn is_tested() -> bool {
    let pg_config = std::env::var("CREDYT_PG_CONFIG").expect("CREDYT_PG_CONFIG");
    let version = std::process::Command::new(pg_config)
        .arg("--version")
        .output();
    let version = String::from_utf8(version.expect("pg_config runs").stdout).expect("UTF-8");
    version.starts_with("PostgreSQL 18")
}

#[test]
fn other_versions_use_sql() {
    if is_tested() {
        return;
    }
    let database = Database::new("version");
    let mut client = database.connect();
    rows(&mut client, "SELECT credyt.grant_credits('ann', 100)");
    for _ in 0..20 {
        assert_eq!(ways(&mut client, DEBIT), ["lock version", "update version"]);
    }
}

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
    if !is_tested() {
        return;
    }
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
    if !is_tested() {
        return;
    }
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
    if !is_tested() {
        return;
    }
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
    if !is_tested() {
        return;
    }
    for seed in 0..4 {
        let [direct, by_sql] = [true, false].map(|on| {
            let database = Database::new(&format!("calls_{on}"));
            let mut client = database.connect();
            rows(
                &mut client,
                "INSERT INTO credyt.clock (now) VALUES ('2030-03-01Z');
                 SELECT credyt.create_asset('tokens');
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
    if !is_tested() {
        return;
    }
    let [direct, by_sql] = [true, false].map(|on| {
        let database = Database::new(&format!("batches_{on}"));
        let mut client = database.connect();
        rows(
            &mut client,
            &format!(
                r#"SET credyt.direct_access = {on};
                CREATE EXTENSION IF NOT EXISTS amcheck;
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
        rows(
            &mut client,
            "SELECT bt_index_check(i.indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
             JOIN pg_am a ON a.oid = c.relam WHERE i.indrelid = 'credyt.ledger'::regclass AND a.amname = 'btree'",
        );
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

/// Every row of what wallets are about, without ids.
fn everything(client: &mut Client) -> Vec<String> {
    let masked = "regexp_replace(regexp_replace(t::jsonb::text, '[0-9a-f]{8}-[0-9a-f-]{27}', 'id', 'g'), '\\\\x[0-9a-f]+', 'bytes', 'g')";
    let mut all = Vec::new();
    for (table, order) in [
        ("wallets", "customer, asset"),
        ("ledger", "customer, asset, seq"),
        ("authorizations", "customer, id"),
        ("grants", "customer, asset, id"),
    ] {
        let row = match table {
            "wallets" => "(to_jsonb(w) - 'state') || jsonb_build_object('state', w.state::jsonb)",
            _ => "to_jsonb(w)",
        };
        let sql = format!(
            "SELECT {} FROM (SELECT {row} AS t FROM credyt.{table} w ORDER BY {order}) r",
            masked
        );
        all.extend(values(client, &sql));
    }
    all
}

#[test]
fn updates_are_hot_as_often_as_by_sql() {
    if !is_tested() {
        return;
    }
    let hot = [true, false].map(|on| {
        let database = Database::new(&format!("hot_{on}"));
        let mut client = warm(&database);
        rows(&mut client, &format!("SET credyt.direct_access = {on}"));
        let count =
            "SELECT pg_stat_get_xact_tuples_updated(w), pg_stat_get_xact_tuples_hot_updated(w)
                     FROM CAST('credyt.wallets' AS regclass) w";
        rows(&mut client, "BEGIN");
        for _ in 0..300 {
            rows(&mut client, DEBIT);
        }
        let counted = value(&mut client, count);
        rows(&mut client, "COMMIT");
        let counts = counts(&mut client);
        assert_eq!(
            counts.get("update direct").copied().unwrap_or_default() > 300,
            on
        );
        counted
    });
    assert_eq!(hot[0], hot[1]);
}

/// Pages without room, and states out of line: every version of a row gets its index entries.
#[test]
fn full_pages_and_large_states() {
    if !is_tested() {
        return;
    }
    let database = Database::new("pages");
    let mut client = warm(&database);
    rows(
        &mut client,
        "CREATE EXTENSION IF NOT EXISTS amcheck;
         ALTER TABLE credyt.wallets SET (fillfactor = 100, autovacuum_enabled = off);
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
    rows(
        &mut client,
        "SELECT bt_index_check(i.indexrelid, true) FROM pg_index i WHERE i.indrelid = 'credyt.wallets'::regclass",
    );
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
    if !is_tested() {
        return;
    }
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
    if !is_tested() {
        return;
    }
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
    if !is_tested() {
        return;
    }
    let database = Database::new("changes");
    let mut client = warm(&database);
    let mut other = database.connect();
    for (change, back) in [
        (
            "CREATE INDEX own ON credyt.wallets (status)",
            "DROP INDEX credyt.own",
        ),
        (
            "ALTER TABLE credyt.wallets ADD COLUMN note text DEFAULT 'x'",
            "ALTER TABLE credyt.wallets DROP COLUMN note",
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
    ] {
        // After a column was dropped the table is another one for good: last.
        if change.contains("ADD COLUMN") {
            continue;
        }
        rows(&mut other, change);
        assert_eq!(ways(&mut client, DEBIT), TABLE, "{change}");
        rows(&mut other, back);
        // A child's parent is not known to have lost it before it is analyzed.
        rows(&mut other, "VACUUM ANALYZE credyt.wallets");
        assert_eq!(ways(&mut client, DEBIT), DIRECT, "{back}");
    }
    // The new row is in the new index; a trigger of its own fires.
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
        "DROP PUBLICATION own; DROP EXTENSION credyt_pg; CREATE EXTENSION credyt_pg",
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
    if !is_tested() {
        return;
    }
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

#[test]
fn one_wallet_from_everywhere() {
    if !is_tested() {
        return;
    }
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
    if !is_tested() {
        return;
    }
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
    if !is_tested() {
        return;
    }
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
    if !is_tested() {
        return;
    }
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
    rows(
        &mut other,
        "CREATE EXTENSION IF NOT EXISTS amcheck;
         SELECT bt_index_check(i.indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         JOIN pg_am m ON m.oid = c.relam
         WHERE m.amname = 'btree' AND i.indrelid IN ('credyt.ledger'::regclass, 'credyt.authorizations'::regclass)",
    );
}

/// An error in each of the sections, caught by a block: what the call did is taken back, the transaction goes on, and
/// the server has nothing to complain of.
#[test]
fn errors_within_are_taken_back() {
    if !is_tested() {
        return;
    }
    let server = Server::start_with(&["fsync=off", "log_min_messages=warning"]);
    let mut client = server.fresh_database("shop");
    rows(
        &mut client,
        "SELECT credyt.create_asset('credits'); SELECT credyt.set_price('image', '1');
         SELECT credyt.grant_credits('ann', 1000);
         SELECT count(credyt.debit_credits('ann', 'image')) FROM generate_series(1, 12);
         SELECT count(credyt.authorize('ann', 'image')) FROM generate_series(1, 12)",
    );
    let mut other = server.client_to("shop");
    let balance = "SELECT settled, held FROM credyt.balance('ann')";
    let before = value(&mut client, balance);
    for table in ["wallets", "ledger", "authorizations"] {
        for call in [
            "credyt.debit_credits('ann', 'image', idempotency_key => 'k')",
            "credyt.authorize('ann', 'image', idempotency_key => 'k')",
            "credyt.capture('ann', (SELECT max(h.id::text)::uuid FROM credyt.authorizations h))",
        ] {
            let touches = match table {
                "wallets" => true,
                "ledger" => !call.contains("authorize("),
                _ => !call.contains("debit"),
            };
            rows(
                &mut other,
                &format!("BEGIN; LOCK TABLE credyt.{table} IN SHARE MODE"),
            );
            rows(
                &mut client,
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
            rows(&mut other, "COMMIT");
            let codes = value(
                &mut client,
                "SELECT string_agg(DISTINCT code, ' ') FROM outcome",
            );
            assert_eq!(
                codes,
                if touches { "55P03" } else { "P0009" },
                "{table} {call}"
            );
            rows(&mut client, "DROP TABLE outcome");
            assert_eq!(value(&mut client, balance), before, "{table} {call}");
        }
    }
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
        .filter(|line| line.contains("WARNING") || line.contains("PANIC"))
        .collect();
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// In the leader of a parallel plan a call is refused as by SQL.
#[test]
fn a_parallel_plan_refuses_as_before() {
    if !is_tested() {
        return;
    }
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
