//! What `credyt.allow` lets a role do: exactly what docs/access.md says, kept by a dump, taken back by
//! `credyt.disallow`; and nothing that such a role puts in the way leads anywhere else.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use postgres::{Client, NoTls};
use support::sql::{Database, Refusal, attempt, quoted, refusal, rows, value, values};

const DOCUMENT: &str = include_str!("../docs/access.md");
const CAPABILITIES: [&str; 4] = ["spend", "events", "operate", "report"];
const ALL: usize = CAPABILITIES.len();

/// A role that may connect, for as long as the test runs.
struct Role<'a> {
    name: String,
    database: &'a Database,
}

impl Role<'_> {
    fn new<'a>(database: &'a Database, name: &str) -> Role<'a> {
        let mut owner = database.connect();
        let drop = format!("DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN");
        rows(&mut owner, &drop);
        let name = name.to_owned();
        Role { name, database }
    }

    /// A connection of its own, from the start.
    fn connect(&self) -> Client {
        let as_role = format!("user={}", self.name);
        let connect = self
            .database
            .connect_str()
            .replace("user=postgres", &as_role);
        Client::connect(&connect, NoTls).expect("a connection as the role")
    }

    fn allow(&self, what: &str) -> String {
        self.call("allow", what)
    }

    fn disallow(&self, what: &str) -> String {
        self.call("disallow", what)
    }

    fn call(&self, verb: &str, what: &str) -> String {
        let sql = format!(
            "SELECT * FROM credyt.{verb}({}, '{what}')",
            quoted(&self.name)
        );
        value(&mut self.database.connect(), &sql)
    }

    /// Every right that was given to it, as Postgres keeps it.
    fn rights(&self) -> Vec<String> {
        let sql = format!(
            "SELECT o.name || ' ' || e.privilege_type
             FROM (SELECT oid::regprocedure::text AS name, proacl AS acl FROM pg_proc
                   UNION ALL SELECT oid::regclass::text, relacl FROM pg_class
                   UNION ALL SELECT attrelid::regclass || '.' || attname, attacl FROM pg_attribute
                   UNION ALL SELECT nspname, nspacl FROM pg_namespace
                   UNION ALL SELECT oid::regtype::text, typacl FROM pg_type) o, aclexplode(o.acl) e
             WHERE e.grantee = {}::regrole ORDER BY 1",
            quoted(&self.name)
        );
        values(&mut self.database.connect(), &sql)
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let name = &self.name;
        let sql = format!("DROP OWNED BY {name} CASCADE; DROP ROLE {name}");
        let dropped = attempt(&mut self.database.connect(), &sql);
        assert!(dropped.is_ok() || std::thread::panicking(), "{dropped:?}");
    }
}

/// Who may use what, by its kind and name.
type Table = BTreeMap<String, BTreeSet<String>>;

/// The table of docs/access.md: names in backticks, those of functions with parentheses.
fn documented() -> Table {
    let section = DOCUMENT.split("## Every object").nth(1).expect("a section");
    let section = section.split("\n## ").next().expect("it ends");
    let mut table = Table::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').collect();
        let given = CAPABILITIES.iter().zip(&cells[2..2 + ALL]);
        let given: BTreeSet<String> = given
            .filter(|(_, cell)| cell.trim() == "yes")
            .map(|(what, _)| (*what).to_owned())
            .collect();
        for name in cells[1].split('`').skip(1).step_by(2) {
            let twice = table.insert(name.to_owned(), given.clone());
            assert_eq!(twice, None, "{name} is in docs/access.md twice");
        }
    }
    table
}

/// What the extension has made, named as in the document.
fn existing(client: &mut Client) -> BTreeSet<String> {
    let sql = "SELECT proname || '()' FROM pg_proc WHERE pronamespace = 'credyt'::regnamespace
               UNION ALL SELECT relname FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind NOT IN ('i', 'c')";
    values(client, sql).into_iter().collect()
}

#[test]
fn it_is_decided_who_may_use_every_object() {
    let database = Database::new("decided");
    let mut client = database.connect();
    let listed = "SELECT CASE kind WHEN 'function' THEN name || '()' ELSE name END, everyone OR spend, everyone OR events, everyone OR operate, everyone OR report
                  FROM credyt.capabilities";
    let mut decided = Table::new();
    for line in values(&mut client, listed) {
        let cells: Vec<&str> = line.split(' ').collect();
        let given = CAPABILITIES.iter().zip(&cells[1..]);
        let given = given.filter(|(_, may)| **may == "t");
        let given = given.map(|(what, _)| (*what).to_owned()).collect();
        let twice = decided.insert(cells[0].to_owned(), given);
        assert_eq!(twice, None, "{} is in credyt.capabilities twice", cells[0]);
    }
    let documented = documented();
    let existing = existing(&mut client);
    for name in &existing {
        assert!(
            decided.contains_key(name),
            "credyt.{name} is new: say in sql/schema/24_access.sql and docs/access.md who may use it"
        );
        assert_eq!(
            documented.get(name),
            decided.get(name),
            "credyt.{name}: docs/access.md (left) says otherwise than sql/schema/24_access.sql (right)"
        );
    }
    for name in decided.keys().chain(documented.keys()) {
        assert!(existing.contains(name), "there is no credyt.{name}");
    }
    let kinds = "SELECT c.kind, c.name FROM credyt.capabilities c
                 LEFT JOIN pg_class r ON r.relnamespace = 'credyt'::regnamespace AND r.relname = c.name
                 WHERE c.kind IS DISTINCT FROM CASE WHEN c.kind = 'function' THEN 'function' WHEN r.relkind = 'v' THEN 'view' WHEN r.relkind = 'r' THEN 'table' END";
    assert_eq!(values(&mut client, kinds), [""; 0]);
}

/// An argument of each type, so that every function can be called.
fn argument(kind: &str, wallet: &str) -> String {
    match kind {
        "text" | "name" | "cstring" => "'x'".into(),
        "text[]" => "'{day}'".into(),
        "integer[]" => "'{1}'".into(),
        "numeric" | "integer" | "bigint" => "1".into(),
        "boolean" => "true".into(),
        "jsonb" => "'[]'".into(),
        "uuid" => "'00000000-0000-0000-0000-000000000000'".into(),
        "uuid[]" => "'{}'".into(),
        "timestamp with time zone" => "'2026-01-01Z'".into(),
        "bytea" => "'\\x00'".into(),
        "credyt.wallet" => wallet.to_owned(),
        // No SQL has a value of it.
        "internal" => "NULL".into(),
        _ => panic!("no argument of type {kind} is known here"),
    }
}

/// A call of every function.
fn calls(client: &mut Client) -> Vec<(String, String)> {
    let wallet = value(client, "SELECT state::text FROM credyt.wallets LIMIT 1");
    let wallet = format!("{}::credyt.wallet", quoted(&wallet));
    // SQL cannot call what returns `internal`.
    let sql = "SELECT p.oid::int8 || ' ' || p.proname FROM pg_proc p
               WHERE p.pronamespace = 'credyt'::regnamespace AND p.prorettype <> 'internal'::regtype";
    let functions = values(client, sql);
    let mut calls = Vec::new();
    for line in functions {
        let (oid, name) = line.split_once(' ').expect("two");
        let types = format!(
            "SELECT format_type(a.type, NULL) FROM pg_proc p, unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, at)
             WHERE p.oid = {oid} ORDER BY a.at"
        );
        let arguments: Vec<String> = values(client, &types)
            .iter()
            .map(|kind| argument(kind, &wallet))
            .collect();
        let call = format!("SELECT credyt.{name}({})", arguments.join(", "));
        calls.push((format!("{name}()"), call));
    }
    calls
}

/// Tried in a transaction that is rolled back.
fn tried(client: &mut Client, sql: &str) -> Result<(), Refusal> {
    rows(client, "BEGIN");
    let outcome = attempt(client, sql).map(|_| ());
    rows(client, "ROLLBACK");
    outcome
}

#[test]
fn a_role_may_do_what_the_document_says_and_nothing_else() {
    let database = Database::new("walk");
    let mut owner = database.connect();
    rows(
        &mut owner,
        "SELECT credyt.grant_credits('ann', 10, paid => 1); SELECT credyt.debit_credits('ann', 'image');
         SELECT credyt.create_plan('pro', 5, '1 day');
         SELECT credyt.subscribe('ann', 'pro', now() - interval '25 hours')",
    );
    let calls = calls(&mut owner);
    assert!(calls.len() > 50, "{calls:?}");
    let relations: Vec<String> = existing(&mut owner)
        .into_iter()
        .filter(|name| !name.ends_with("()"))
        .collect();
    let documented = documented();
    let role = Role::new(&database, "credyt_walker");
    // None, each by itself, all.
    for subset in [0, 1, 2, 4, 8, 15] {
        let may: Vec<&str> = (0..ALL)
            .filter(|bit| subset & (1 << bit) != 0)
            .map(|bit| CAPABILITIES[bit])
            .collect();
        for what in CAPABILITIES {
            role.disallow(what);
        }
        for what in &may {
            role.allow(what);
        }
        let mut client = role.connect();
        let given = |name: &str| {
            let by = documented
                .get(name)
                .unwrap_or_else(|| panic!("{name} is not in docs/access.md"));
            by.len() == ALL || by.iter().any(|what| may.contains(&what.as_str()))
        };
        for (name, call) in &calls {
            let refused = tried(&mut client, call).err();
            let (code, message) = refused.map(|r| (r.code, r.message)).unwrap_or_default();
            assert_ne!(code, "XX000", "{call}: {message}");
            // Any other refusal is the function's own.
            assert_eq!(
                code == "42501",
                !given(name),
                "{may:?} {call}: {code} {message}"
            );
        }
        for name in &relations {
            let read = tried(&mut client, &format!("SELECT * FROM credyt.{name}"));
            match read {
                Ok(()) => assert!(given(name), "{may:?} may read {name}"),
                Err(refused) => {
                    assert_eq!(refused.code, "42501", "{name}: {refused:?}");
                    assert!(!given(name), "{may:?} may not read {name}: {refused:?}");
                }
            }
            // Whoever may do all may do no more than that.
            if may.len() < CAPABILITIES.len() {
                continue;
            }
            for write in [
                format!("INSERT INTO credyt.{name} DEFAULT VALUES"),
                format!("DELETE FROM credyt.{name}"),
                format!("TRUNCATE credyt.{name}"),
                format!("LOCK credyt.{name} IN SHARE MODE"),
                format!("ALTER TABLE credyt.{name} RENAME TO x"),
            ] {
                let refused = tried(&mut client, &write).expect_err(&write);
                // Not for a view, or not for a role like this.
                assert!(
                    ["42501", "55000", "42809"].contains(&refused.code.as_str()),
                    "{write}: {refused:?}"
                );
            }
        }
        let more = "SELECT relname FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind IN ('r', 'v')
                    AND (has_table_privilege(oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                         OR has_any_column_privilege(oid, 'INSERT, UPDATE, REFERENCES'))";
        assert_eq!(values(&mut client, more), [""; 0], "{may:?}");
    }
}

#[test]
fn what_one_capability_takes_back_another_keeps() {
    let database = Database::new("kept");
    let role = Role::new(&database, "credyt_keeper");
    let names = |subset: usize| {
        (0..ALL)
            .filter(move |bit| subset & (1 << bit) != 0)
            .map(|bit| CAPABILITIES[bit])
    };
    let answer = |subset: usize| {
        let t = |bit: usize| if subset & (1 << bit) != 0 { "t" } else { "f" };
        format!("credyt_keeper {} {} {} {}", t(0), t(1), t(2), t(3))
    };
    // What is there once exactly these were allowed.
    let mut expected = Vec::new();
    for subset in 0..1 << ALL {
        for what in names(subset) {
            role.allow(what);
        }
        let rights = role.rights();
        // Again changes nothing.
        for what in names(subset) {
            assert_eq!(role.allow(what), answer(subset));
        }
        assert_eq!(role.rights(), rights);
        expected.push(rights);
        for what in names(subset) {
            role.disallow(what);
        }
        assert_eq!(role.rights(), [""; 0]);
    }
    assert!(expected[1].contains(&"credyt.capabilities.spend SELECT".to_owned()));
    let forms = "SELECT count(*) FROM pg_proc p JOIN credyt.capabilities c ON c.name = p.proname AND c.kind = 'function' AND c.spend
                 WHERE p.pronamespace = 'credyt'::regnamespace";
    let forms_of_spend: usize = value(&mut database.connect(), forms)
        .parse()
        .expect("a count");
    assert!(expected[1].contains(&"credyt USAGE".to_owned()));
    assert_eq!(
        expected[1]
            .iter()
            .filter(|right| right.ends_with("EXECUTE"))
            .count(),
        forms_of_spend,
        "{:?}",
        expected[1]
    );
    // From every set of capabilities each one taken away leaves exactly the rights of the others.
    for subset in 0..1_usize << ALL {
        for (bit, what) in CAPABILITIES.iter().enumerate() {
            for what in names(subset) {
                role.allow(what);
            }
            let left = subset & !(1 << bit);
            assert_eq!(role.disallow(what), answer(left));
            assert_eq!(role.rights(), expected[left], "{subset} without {what}");
            for what in names(left) {
                role.disallow(what);
            }
        }
    }
}

#[test]
fn who_and_what_is_checked() {
    let database = Database::new("who");
    let mut client = database.connect();
    let role = Role::new(&database, r#""credyt we""ird; DROP 'x'""#);
    let name = r#"credyt we"ird; DROP 'x'"#;
    for verb in ["allow", "disallow"] {
        let answer = value(
            &mut client,
            &format!("SELECT * FROM credyt.{verb}({}, 'spend')", quoted(name)),
        );
        assert!(answer.starts_with(name), "{answer}");
        for (arguments, argument, says) in [
            (
                "'credyt_nobody', 'spend'",
                "role",
                "there is no role credyt_nobody",
            ),
            ("'public', 'spend'", "role", "public is everyone"),
            ("'none', 'spend'", "role", "there is no role none"),
            ("'postgres', 'spend'", "role", "postgres owns credyt_pg"),
            ("'', 'spend'", "role", "empty"),
            ("NULL, 'spend'", "role", "NULL"),
            ("'postgres', NULL", "what", "NULL"),
            ("'postgres', ''", "what", "empty"),
            (
                "'postgres', 'Spend'",
                "what",
                "spend, events, operate or report",
            ),
            (
                "'postgres', 'everyone'",
                "what",
                "spend, events, operate or report",
            ),
            (
                "'postgres', E'spend\\n'",
                "what",
                "spend, events, operate or report",
            ),
        ] {
            let refused = refusal(&mut client, &format!("SELECT credyt.{verb}({arguments})"));
            assert_eq!(refused.code, "22023", "{arguments}: {refused:?}");
            assert_eq!(refused.json()["argument"], argument, "{refused:?}");
            assert!(refused.message.contains(says), "{refused:?}");
        }
    }
    let hint = "SELECT credyt.allow('credyt \"x', 'spend')";
    assert_eq!(
        refusal(&mut client, hint).hint,
        r#"Create it: CREATE ROLE "credyt ""x";"#
    );
    drop(role);

    // A rollback takes it along; who is not the owner may not, even where the function was given.
    let role = Role::new(&database, "credyt_other");
    rows(
        &mut client,
        "BEGIN; SELECT credyt.allow('credyt_other', 'operate'); ROLLBACK",
    );
    assert_eq!(role.rights(), [""; 0]);
    role.allow("operate");
    let mut other = role.connect();
    let sql = "SELECT credyt.allow('credyt_other', 'report')";
    assert_eq!(refusal(&mut other, sql).code, "42501");
    rows(
        &mut client,
        "GRANT EXECUTE ON FUNCTION credyt.allow, credyt.disallow TO credyt_other",
    );
    let before = role.rights();
    for sql in [sql, "SELECT credyt.disallow('credyt_other', 'operate')"] {
        assert_eq!(refusal(&mut other, sql).code, "42501");
    }
    assert_eq!(role.rights(), before);
    // Its own columns of the list it may read.
    assert_eq!(
        value(
            &mut other,
            "SELECT count(*) > 50 FROM (SELECT kind, name, operate FROM credyt.capabilities) c"
        ),
        "t"
    );
    assert_eq!(
        refusal(&mut other, "SELECT spend FROM credyt.capabilities").code,
        "42501"
    );
}

#[test]
fn roles_are_allowed_by_many_at_once() {
    let database = Database::new("many_roles");
    let roles: Vec<Role> = (0..8)
        .map(|nth| Role::new(&database, &format!("credyt_at_once_{nth}")))
        .collect();
    database.at_once(8, |nth, client| {
        for round in 0..12 {
            let verb = if round % 2 == 0 { "disallow" } else { "allow" };
            // The same capability of the same role by two, and every object by all.
            let role = format!("credyt_at_once_{}", nth / 2);
            let what = CAPABILITIES[round / 2 % ALL];
            rows(client, &format!("SELECT credyt.{verb}('{role}', '{what}')"));
        }
    });
    for role in &roles {
        for what in CAPABILITIES {
            role.disallow(what);
        }
        assert_eq!(role.rights(), [""; 0]);
    }
}

fn program(name: &str, arguments: &[&str]) {
    let pg_config = std::env::var("CREDYT_PG_CONFIG").expect("CREDYT_PG_CONFIG");
    let path = Path::new(&pg_config).with_file_name(name);
    let output = Command::new(path).args(arguments).output().expect(name);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
}

#[test]
fn a_dump_keeps_who_was_allowed_what() {
    let database = Database::new("rights_from");
    let copy = Database::empty("rights_to");
    let file = std::env::temp_dir().join(format!("credyt_rights_{}.dump", std::process::id()));
    let file = file.to_str().expect("UTF-8");
    let names = [
        "credyt_dump_spend",
        "credyt_dump_events",
        "credyt_dump_operate",
        "credyt_dump_report",
        "credyt_dump_all",
        "credyt_dump_none",
    ];
    let roles = names.map(|name| Role::new(&database, name));
    for (role, what) in roles.iter().zip(CAPABILITIES) {
        role.allow(what);
        roles[ALL].allow(what);
        roles[ALL + 1].allow(what);
    }
    for what in CAPABILITIES {
        roles[ALL + 1].disallow(what);
    }
    let (from, to) = (database.connect_str(), copy.connect_str());
    program("pg_dump", &["-Fc", "-f", file, "-d", &from]);
    program("pg_restore", &["--exit-on-error", "-d", &to, file]);
    std::fs::remove_file(file).expect("removed");
    for role in &roles {
        let there = Role {
            name: role.name.clone(),
            database: &copy,
        };
        assert_eq!(there.rights(), role.rights(), "{}", role.name);
        // Taken back in the copy as well: the names are those that were given.
        for what in CAPABILITIES {
            there.disallow(what);
        }
        assert_eq!(there.rights(), [""; 0]);
        std::mem::forget(there);
    }
}

/// Everything that a role may call, with answers that do not depend on when it is done.
fn trade(client: &mut Client) -> Vec<String> {
    let mut said = Vec::new();
    let mut say = |client: &mut Client, sql: &str| {
        let answer = match attempt(client, sql) {
            Ok(rows) => {
                let cell =
                    |row: &postgres::SimpleQueryRow, at| row.get(at).unwrap_or("-").to_owned();
                let line = |row: &postgres::SimpleQueryRow| {
                    (0..row.len())
                        .map(|at| cell(row, at))
                        .collect::<Vec<_>>()
                        .join(" ")
                };
                // The plan may decide their order.
                let mut lines: Vec<String> = rows.iter().map(line).collect();
                lines.sort();
                lines.join("\n")
            }
            Err(refused) => format!("{} {}", refused.code, refused.message),
        };
        said.push(format!("{sql}\n{answer}"));
        answer
    };
    for sql in [
        "SELECT asset, scale, timezone FROM credyt.create_asset('tokens', 4, 'half_even', 'EUR', 'Asia/Kathmandu')",
        "SELECT scale FROM credyt.create_asset('tokens', 5)",
        r#"SELECT version, price FROM credyt.set_price('chat', '{"meters": {"input_tokens": {"per": 10, "credits": "0.1"}}}')"#,
        "SELECT version FROM credyt.set_price('image', '2', customer => 'bob')",
        "SELECT version FROM credyt.set_price_list('bob', 'enterprise')",
        "SELECT credits, breakdown FROM credyt.quote('image', 2.5)",
        "SELECT status, overdraft_limit FROM credyt.open_wallet('ann', overdraft_limit => 5)",
        "SELECT credits, deferred FROM credyt.grant_credits('ann', 10, paid => 3.3333333333)",
        "SELECT credits, applies_to FROM credyt.grant_credits('ann', 10, 'promotional', applies_to => '{image.*,NULL_is_a_name}', expires_at => '2100-01-01Z')",
        "SELECT added FROM credyt.import_vendor_rates('[{\"id\": \"acme\", \"models\": [{\"id\": \"m\", \"match\": {\"equals\": \"m\"}, \"prices\": {\"input_mtok\": 1}}]}]')",
        "SELECT version FROM credyt.set_vendor_rate('acme', 'gpu', '{\"gpu_second\": \"0.0011\"}')",
        "SELECT cost, usage FROM credyt.vendor_cost('acme', 'gpu', '{\"gpu_second\": 7}')",
        "SELECT credits, revenue, cost, available FROM credyt.debit_credits('ann', 'image', 3, usage => '{\"vendor\": \"acme\", \"model\": \"gpu\", \"body\": {\"gpu_second\": 3}}', scopes => '{user:x}', idempotency_key => 'k')",
        "SELECT credits, replayed FROM credyt.debit_credits('ann', 'image', 3, usage => '{\"vendor\": \"acme\", \"model\": \"gpu\", \"body\": {\"gpu_second\": 3}}', scopes => '{user:x}', idempotency_key => 'k')",
        "SELECT credits FROM credyt.debit_credits('ann', 'image', 4, idempotency_key => 'k')",
        "SELECT credits FROM credyt.debit_credits('ann', 'image', 1000)",
        "SELECT cost, reason FROM credyt.record_cost('ann', 'acme', 'gpu', '{\"gpu_second\": 5}')",
        "SELECT cost, reason FROM credyt.record_cost('ann', 'nobody', 'gpu', '{\"gpu_second\": 5}')",
        "SELECT * FROM credyt.recost('nobody')",
        "SELECT plan, version FROM credyt.create_plan('pro', 5, '1 day', rollover => 2)",
        "SELECT status FROM credyt.subscribe('ann', 'pro', paid_through => '2100-01-01Z')",
        "SELECT status FROM credyt.pay_subscription('ann', 'pro', '2101-01-01Z')",
        "SELECT status, quantity, credits FROM credyt.change_plan('ann', 'pro', quantity => 2)",
        "SELECT to_customer, credits FROM credyt.transfer('ann', 'ann/team', 1)",
        "SELECT status FROM credyt.freeze_wallet('ann/team')",
        "SELECT credits FROM credyt.debit_credits('ann/team', 'image')",
        "SELECT status FROM credyt.unfreeze_wallet('ann/team')",
        "SELECT scope, cap FROM credyt.set_limit('ann', 'user:*', 100)",
        "SELECT scope, cap FROM credyt.set_limit('ann', 'action:image*', 100)",
        "SELECT threshold FROM credyt.set_alert('ann', 1000)",
        "SELECT threshold, credits FROM credyt.set_topup('ann', 1000, 10)",
        "SELECT credits FROM credyt.debit_credits('ann', 'image', scopes => '{user:x}')",
        "SELECT scope, cap, used, held FROM credyt.limits_used",
        "SELECT type, payload FROM credyt.events_pending",
        "SELECT customer, type FROM credyt.take_events()",
        "SELECT events FROM credyt.ack_events('{}')",
        "SELECT credits FROM credyt.topup_failed('ann', '00000000-0000-0000-0000-000000000000')",
        r#"SELECT customer, credits FROM credyt.grant_many('[{"customer": "ann", "credits": 3}, {"customer": "many", "credits": "2.5"}]')"#,
        r#"SELECT customer, credits, reason FROM credyt.debit_many('[{"customer": "many", "action": "image"}, {"customer": "many", "action": "image", "quantity": 9}]', 'skip')"#,
        "SELECT l.scope, c.scope, c.used FROM credyt.current_wallets w, credyt.limits(w.state) l, credyt.limit_counts(w.state) c",
        "SELECT period_start IS NULL FROM credyt.limit_period('week', 'Asia/Kathmandu', '2026-01-01Z')",
        "SELECT credyt.matches_action('action:image*', 'image.large'), credyt.matches_action('action:image', 'image.large')",
        "SELECT settled, held, available, owed FROM credyt.balance('ann')",
        "SELECT amount, credits, bound FROM credyt.affordable('ann', 'image', scopes => '{user:x}')",
        "SELECT action, kind, calls, credits FROM credyt.usage('ann', bucket => 'all', \"by\" => '{action,kind,scope,model}')",
        "SELECT kind, credits, balance FROM credyt.history('ann', count => 3)",
        "SELECT days, kinds FROM credyt.set_expiry_notice('{30,7}')",
        "SELECT version, rate FROM credyt.set_exchange_rate('JPY', 'CHF', '0.0056')",
        "SELECT approved, reason FROM credyt.authorize('nobody', 'image')",
        r#"SELECT credits, replayed FROM credyt.debit_credits('{"customer": "ann", "action": "image", "credits": 1, "dimensions": [], "idempotency_key": 7}')"#,
        r#"SELECT credits, replayed FROM credyt.debit_credits('{"customer": "ann", "action": "image", "credits": 1, "idempotency_key": 7}')"#,
        r#"SELECT version FROM credyt.set_price_list('{"customer": "bob", "as_of": "2026-01-01"}')"#,
        r#"SELECT customer FROM credyt.set_alert('{"customer": "ann", "threshold": "5"}')"#,
        "SELECT status FROM credyt.unsubscribe('ann', 'pro')",
        "SELECT status FROM credyt.close_wallet('ann/team')",
        "SELECT reason, open_holds FROM credyt.erase_customer('ann/team', 'x')",
        "SELECT rows, through FROM credyt.ledger_hash('ann', contents => true)",
    ] {
        say(client, sql);
    }
    let first = |client: &mut Client, sql: &str| {
        attempt(client, sql).map_or_else(
            |refused| format!("{refused:?}"),
            |rows| rows[0].get(0).unwrap_or_default().to_owned(),
        )
    };
    let hold = first(
        client,
        "SELECT id FROM credyt.authorize('ann', 'image', 2, overrun => 'clamp')",
    );
    let debit = first(
        client,
        "SELECT id FROM credyt.debit_credits('ann', 'image', 2)",
    );
    let other = first(client, "SELECT id FROM credyt.authorize('ann', 'image', 1)");
    let grant = first(
        client,
        "SELECT id FROM credyt.grant_credits('ann', 4, payment => 'pi')",
    );
    for sql in [
        format!("SELECT status FROM credyt.extend('ann', '{hold}', 60)"),
        format!(
            r#"SELECT credits FROM credyt.capture_many('[{{"customer": "ann", "authorization_id": "{hold}", "quantity": 2, "keep_open": true}}]')"#
        ),
        format!("SELECT credits FROM credyt.capture('ann', '{hold}', 3)"),
        format!("SELECT status FROM credyt.release('ann', '{other}')"),
        format!("SELECT credits FROM credyt.refund('ann', '{debit}', 1)"),
        format!("SELECT remaining FROM credyt.revoke_grant('ann', '{grant}')"),
        "SELECT remaining FROM credyt.revoke_payment('ann', 'pi')".into(),
        "SELECT booked, rolled_up FROM credyt.maintain()".into(),
        "SELECT asset, debits, quantity, credits, revenue, cost, margin_ratio FROM credyt.margin('{}')".into(),
        "SELECT asset, action, customer, vendor, model, kind, scope, debits, revenue, cost FROM credyt.margin('{action,customer,vendor,model,kind,scope}')".into(),
        "SELECT * FROM credyt.suggest_price('image', 0.4)".into(),
        "SELECT * FROM credyt.simulate_price('image', '3')".into(),
        "SELECT asset, kind, credits, revenue FROM credyt.deferred_revenue_at(pg_catalog.now())".into(),
        "SELECT asset, opening, billed, earned, closing FROM credyt.revenue_rollforward(NULL, NULL)".into(),
        "SELECT asset, credits, deferred FROM credyt.close_period(pg_catalog.now())".into(),
        "SELECT invariant FROM credyt.verify()".into(),
        "SELECT operation FROM credyt.direct_access_counts() WHERE false".into(),
        "SELECT customer, asset, settled, held, available, owed, status FROM credyt.wallet_balances".into(),
        "SELECT kind, remaining, held, deferred, applies_to FROM credyt.grant_balances ORDER BY id".into(),
        "SELECT position, kind, remaining FROM credyt.spend_order ORDER BY position".into(),
        "SELECT action, credits FROM credyt.open_authorizations".into(),
        "SELECT kind, action, credits, balance, revenue, cost FROM credyt.statement ORDER BY id".into(),
        "SELECT action, asset, customer, version, price FROM credyt.price_book".into(),
        "SELECT currency, currency_paid, paid FROM credyt.converted_payments".into(),
        "SELECT currency, currency_cost, cost FROM credyt.converted_costs".into(),
        "SELECT kind, remaining FROM credyt.expiring_grants".into(),
        "SELECT * FROM credyt.deferred_revenue".into(),
        "SELECT severity, finding FROM credyt.health".into(),
        "SELECT holder FROM credyt.old_snapshots() WHERE holder IS NULL".into(),
        "SELECT vendor, model, reason FROM credyt.uncosted_since('2000-01-01Z')".into(),
        "SELECT credyt.rollup_backlog(), credyt.rolled_up_to() IS NOT NULL".into(),
        "SELECT * FROM credyt.breakage".into(),
        "SELECT vendor, model, unit, price, per FROM credyt.vendor_rate_book".into(),
        "SELECT customer, vendor, usage, reason FROM credyt.uncosted_usage".into(),
        "SELECT vendor, model, kind, credits, revenue, cost FROM credyt.margin_lines ORDER BY id".into(),
        "SELECT * FROM credyt.margin_by_action".into(),
        "SELECT * FROM credyt.margin_by_customer".into(),
        "SELECT * FROM credyt.margin_by_model".into(),
        "SELECT asset, action, debits, revenue FROM credyt.margin_daily".into(),
        "SELECT asset, action, margin FROM credyt.negative_margin".into(),
        "SELECT customer, available FROM credyt.runway".into(),
        "SELECT customer, kind, revenue FROM credyt.movements".into(),
        "SELECT movement, kind, credits, deferred FROM credyt.grant_movements".into(),
        "SELECT customer, plan FROM credyt.renewals".into(),
        "SELECT credyt.settled(state, at), credyt.held(state), credyt.available(state, 5, at), credyt.owed(state), credyt.seq(state) FROM credyt.current_wallets".into(),
        "SELECT credyt.next_expiry(state, at) IS NULL, credyt.next_due(state) IS NULL, credyt.changed_at(state) IS NULL FROM credyt.current_wallets".into(),
        "SELECT g.kind, g.remaining FROM credyt.current_wallets w, credyt.grants(w.state) g".into(),
        "SELECT d.kind, d.credits FROM credyt.current_wallets w, credyt.pending_movements(w.customer, w.asset, w.state, '2100-01-01Z') d".into(),
        "SELECT credyt.held(credyt.wallet_state_at(customer, asset, state, '2100-01-01Z')) FROM credyt.current_wallets".into(),
        "SELECT d.kind FROM credyt.current_wallets w, credyt.pending_grants(w.customer, w.asset, w.state, '2100-01-01Z') d".into(),
        "SELECT credyt.subscription_at('ann', '00000000-0000-0000-0000-000000000000', '2100-01-01Z')".into(),
        "SELECT credyt.statement_time() IS NOT NULL, credyt.as_money(1.5)".into(),
        "SELECT a.threshold, t.threshold FROM credyt.current_wallets w, credyt.alert_rules(w.state, w.at) a, credyt.topup_rules(w.state, w.at) t".into(),
        "SELECT kind, credits FROM credyt.pending_entries ORDER BY 1, 2".into(),
        "SELECT vendor, model, kind, credits, revenue, cost FROM credyt.margin_unrolled ORDER BY id".into(),
        "SELECT customer, plan, status FROM credyt.subscriptions ORDER BY 1, 2".into(),
        "SELECT * FROM credyt.alerts ORDER BY 1, 2".into(),
        "SELECT customer, asset, threshold FROM credyt.topups ORDER BY 1, 2".into(),
        "SELECT credits FROM credyt.split_lines('debit', '[{\"kind\": \"included\", \"credits\": \"1\", \"revenue\": \"0\"}]', NULL, 1)".into(),
        "SELECT credits FROM credyt.posting_lines('[]', 1)".into(),
        "SELECT credyt.unpack(state) IS NULL, credyt.wallet_out(state) IS NULL, credyt.wallet_send(state) IS NULL, credyt.pack(credyt.wallet_send(state)) IS NULL, credyt.wallet_in(credyt.wallet_out(state)) IS NULL FROM credyt.current_wallets".into(),
    ] {
        say(client, &sql);
    }
    for id in [hold, debit, other, grant] {
        for line in &mut said {
            *line = line.replace(&id, "the id");
        }
    }
    said
}

/// Every operator and function of Postgres that takes common types, under its own name in a schema of the role, and
/// tables and types in the way of the extension's: whoever looks one of them up reaches the role's code.
const IN_THE_WAY: &str = r#"
    CREATE SCHEMA evil;
    CREATE FUNCTION evil.reached(what text) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'reached % as %', what, current_user; END $$;
    SET check_function_bodies = off;
    DO $$
    DECLARE
        kinds oid[] := ARRAY['text', 'name', 'numeric', 'int4', 'int8', 'bool', 'bytea', 'uuid', 'jsonb', 'date', 'timestamp', 'timestamptz',
                             'interval', 'text[]', 'uuid[]', 'date[]', 'regclass', 'oid']::regtype[]::oid[];
        found record;
    BEGIN
        FOR found IN SELECT * FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b'
                     AND oprleft = ANY (kinds) AND oprright = ANY (kinds) LOOP
            EXECUTE format('CREATE FUNCTION evil.op_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS ''BEGIN PERFORM evil.reached(''''%s''''); END''',
                found.oid, found.oprleft::regtype, found.oprright::regtype, found.oprresult::regtype, 'operator ' || found.oprname);
            EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.op_%s)',
                found.oprname, found.oprleft::regtype, found.oprright::regtype, found.oid);
        END LOOP;
        FOR found IN SELECT DISTINCT ON (p.proname, p.proargtypes) p.oid, p.proname, p.prorettype, p.proretset,
                            oidvectortypes(p.proargtypes) AS arguments
                     FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a', 'w') AND p.provariadic = 0
                     AND p.proargtypes::oid[] <@ kinds AND p.prorettype = ANY (kinds) LOOP
            EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS ''BEGIN PERFORM evil.reached(''''%s''''); END''',
                found.proname, found.arguments, found.prorettype::regtype, 'function ' || replace(found.proname, '''', ''));
        END LOOP;
        FOR found IN SELECT relname FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind IN ('r', 'v')
                     UNION SELECT unnest(ARRAY['pg_class', 'pg_proc', 'pg_roles', 'pg_attribute', 'pg_timezone_names']) LOOP
            EXECUTE format('CREATE TEMP TABLE %I (in_the_way text)', found.relname);
            EXECUTE format('CREATE TABLE evil.%I (in_the_way text)', found.relname);
        END LOOP;
        FOR found IN SELECT unnest(ARRAY['text', 'numeric', 'int4', 'int8', 'uuid', 'jsonb', 'timestamptz', 'bytea', 'bool', 'regclass']) AS name LOOP
            EXECUTE format('CREATE TYPE pg_temp.%I AS (in_the_way date)', found.name);
            EXECUTE format('CREATE TYPE evil.%I AS (in_the_way date)', found.name);
        END LOOP;
    END $$;
    SET search_path = evil, pg_temp, public, pg_catalog"#;

/// Settings that any role may change for itself.
const SETTINGS: &str = "
    SET transform_null_equals = on; SET standard_conforming_strings = off; SET escape_string_warning = off; SET array_nulls = off;
    SET datestyle = 'German, DMY'; SET intervalstyle = 'sql_standard'; SET timezone = 'Asia/Kathmandu'; SET bytea_output = 'escape';
    SET extra_float_digits = -15; SET row_security = off; SET quote_all_identifiers = on; SET plan_cache_mode = force_custom_plan;
    SET enable_indexscan = off; SET enable_hashagg = off; SET enable_hashjoin = off; SET enable_sort = off; SET from_collapse_limit = 1;
    SET join_collapse_limit = 1; SET default_transaction_isolation = 'read committed'; SET jit_above_cost = 0; SET work_mem = '64kB';
    SET gin_fuzzy_search_limit = 1; SET geqo_threshold = 2; SET default_toast_compression = 'pglz'; SET synchronous_commit = off";

#[test]
fn what_a_caller_puts_in_the_way_is_not_looked_at() {
    let honest = Database::new("honest");
    let expected = trade(&mut honest.connect());
    for (name, capability) in calls_of_capabilities(&mut honest.connect()) {
        let called = expected
            .iter()
            .any(|line| line.contains(&format!("credyt.{name}")));
        assert!(
            called,
            "{capability} gives {name}, which the trade above does not use"
        );
    }

    let database = Database::new("hostile");
    let mut owner = database.connect();
    let role = Role::new(&database, "credyt_mallory");
    rows(
        &mut owner,
        "GRANT CREATE ON DATABASE hostile TO credyt_mallory",
    );
    for what in CAPABILITIES {
        role.allow(what);
    }
    let mut mallory = role.connect();
    mallory.batch_execute(IN_THE_WAY).expect("put in the way");
    // It works: mallory's own statements fall for it.
    for sql in [
        "SELECT 1::pg_catalog.numeric = 1::pg_catalog.numeric",
        "SELECT round(1.5::pg_catalog.numeric, 1)",
        "SELECT sum(1::pg_catalog.numeric)",
    ] {
        assert!(
            refusal(&mut mallory, sql)
                .message
                .contains("as credyt_mallory"),
            "{sql}"
        );
    }
    rows(&mut mallory, SETTINGS);
    let said = trade(&mut mallory);
    for (mallory, honest) in said.iter().zip(&expected) {
        assert_eq!(mallory, honest);
    }
    // And the owner, who lets roles in with such a path and wants reports.
    rows(
        &mut owner,
        "SET search_path = evil, pg_temp, public, pg_catalog",
    );
    assert_eq!(
        value(
            &mut owner,
            "SELECT * FROM credyt.allow('credyt_mallory', 'spend')"
        ),
        "credyt_mallory t t t t"
    );
    assert_eq!(
        value(
            &mut owner,
            "SELECT invariant FROM credyt.verify() UNION ALL SELECT 0"
        ),
        "0"
    );
}

/// What any of the capabilities gives: the names of functions with a parenthesis.
fn calls_of_capabilities(client: &mut Client) -> Vec<(String, String)> {
    let sql = "SELECT CASE kind WHEN 'function' THEN name || '(' ELSE name END, 'a capability' FROM credyt.capabilities
               WHERE (everyone OR spend OR events OR operate OR report) AND name NOT IN ('wallet_recv', 'assets')";
    let pair = |line: &String| {
        let (name, what) = line.split_once(' ').expect("two");
        (name.to_owned(), what.to_owned())
    };
    values(client, sql).iter().map(pair).collect()
}

#[test]
fn a_spender_gets_nowhere_else() {
    let database = Database::new("spender");
    let mut owner = database.connect();
    rows(
        &mut owner,
        "SELECT credyt.grant_credits('ann', 10); ANALYZE",
    );
    let role = Role::new(&database, "credyt_spender");
    role.allow("spend");
    let mut spender = role.connect();
    for sql in [
        "COPY credyt.ledger TO STDOUT",
        "TABLE credyt.wallets",
        "EXPLAIN SELECT * FROM credyt.ledger",
        "SELECT (SELECT w FROM credyt.wallets w LIMIT 1)",
        "INSERT INTO credyt.clock (now) VALUES ('2200-01-01Z')",
        "CREATE TABLE mine () INHERITS (credyt.ledger)",
        "CREATE FUNCTION credyt.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION credyt.as_money(amount numeric) RETURNS numeric LANGUAGE sql AS 'SELECT 1.0'",
        "CREATE TABLE credyt.mine (x int)",
        "ALTER FUNCTION credyt.debit_credits(jsonb) RESET search_path",
        "ALTER FUNCTION credyt.debit_credits(jsonb) SECURITY INVOKER",
        "ALTER TABLE credyt.ledger DISABLE TRIGGER append_only",
        "ALTER VIEW credyt.wallet_balances SET (security_invoker = true)",
        "CREATE INDEX ON credyt.ledger (credits)",
        "CREATE RULE r AS ON INSERT TO credyt.ledger DO INSTEAD NOTHING",
        "CREATE POLICY p ON credyt.ledger",
        "ALTER TYPE credyt.wallet SET (STORAGE = main)",
        "CREATE CAST (credyt.wallet AS text) WITH INOUT",
        "ALTER EXTENSION credyt_pg UPDATE",
        "ALTER EXTENSION credyt_pg DROP TABLE credyt.ledger",
        "DROP EXTENSION credyt_pg",
        "DROP SCHEMA credyt CASCADE",
        "COMMENT ON TABLE credyt.ledger IS 'mine'",
        "VACUUM FULL credyt.ledger; SELECT 1/0",
        "SET session_replication_role = replica",
        "SET ROLE postgres",
        "GRANT SELECT ON credyt.ledger TO credyt_spender",
        "SELECT credyt.allow('credyt_spender', 'operate')",
        "CREATE FUNCTION pg_temp.f() RETURNS int AS '$libdir/credyt_pg', 'credyt_wallet_seq' LANGUAGE c",
    ] {
        let refused = refusal(&mut spender, sql);
        // VACUUM only warns, and skips the table.
        let code = if sql.starts_with("VACUUM") {
            "25001 22012"
        } else {
            "42501"
        };
        assert!(code.contains(&refused.code), "{sql}: {refused:?}");
    }
    // A view of its own reads with its own rights; statistics of a table are shown to who may read it.
    rows(
        &mut spender,
        "CREATE TEMP VIEW mine AS SELECT * FROM credyt.ledger",
    );
    assert_eq!(refusal(&mut spender, "SELECT * FROM mine").code, "42501");
    assert_eq!(
        value(
            &mut spender,
            "SELECT count(*) FROM pg_stats WHERE schemaname = 'credyt'"
        ),
        "0"
    );
    // An own function does not get the owner's rights by being called from a debit's transaction.
    rows(
        &mut spender,
        "CREATE FUNCTION pg_temp.grab() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM credyt.ledger'",
    );
    let sql = "SELECT pg_temp.grab() FROM credyt.debit_credits('ann', 'image')";
    assert_eq!(refusal(&mut spender, sql).code, "42501");
    assert_eq!(value(&mut owner, "SELECT count(*) FROM credyt.ledger"), "1");
}

#[test]
fn an_owner_who_is_no_superuser_has_all_it_needs() {
    let database = Database::new("handed_over");
    let mut superuser = database.connect();
    let owner = Role::new(&database, "credyt_plain_owner");
    let block = DOCUMENT
        .split("DO $$")
        .nth(1)
        .and_then(|rest| rest.split("END $$;").next());
    let block = block
        .expect("the block that hands over")
        .replace("credyt_doc_owner", "credyt_plain_owner");
    superuser
        .batch_execute(&format!("DO $${block}END $$"))
        .expect("handed over");
    {
        let role = Role::new(&database, "credyt_of_plain_owner");
        let mut client = owner.connect();
        for what in CAPABILITIES {
            let sql = format!("SELECT credyt.allow('credyt_of_plain_owner', '{what}')");
            rows(&mut client, &sql);
        }
        let honest = Database::new("handed_over_honest");
        let expected = trade(&mut honest.connect());
        for (said, expected) in trade(&mut role.connect()).iter().zip(&expected) {
            assert_eq!(said, expected);
        }
        assert_eq!(
            refusal(&mut client, "DELETE FROM credyt.ledger").code,
            "WC012"
        );
        assert_eq!(
            refusal(
                &mut client,
                "SELECT credyt.disallow('credyt_plain_owner', 'spend')"
            )
            .code,
            "22023"
        );
        for what in CAPABILITIES {
            let sql = format!("SELECT credyt.disallow('credyt_of_plain_owner', '{what}')");
            rows(&mut client, &sql);
        }
        assert_eq!(role.rights(), [""; 0]);
    }
    // What was handed over goes back, so that the role can go.
    rows(
        &mut superuser,
        "REASSIGN OWNED BY credyt_plain_owner TO postgres",
    );
}
