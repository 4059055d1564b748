//! ALTER EXTENSION credyt_pg UPDATE leads from the last release to what a fresh install has, keeps every row and every right,
//! and what is released never changes. Until there is a release, a stand-in is made of the present one.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use postgres::Client;
use support::Server;
use support::older::{Older, VERSION};
use support::sql::{attempt, refusal, rows, value, values};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const CATALOG: &str = include_str!("catalog.sql");

const ROLES: [(&str, &str); 3] = [
    ("credyt_up_spend", "spend"),
    ("credyt_up_operate", "operate"),
    ("credyt_up_report", "report"),
];

fn allow_all(client: &mut Client) {
    for (role, what) in ROLES {
        rows(client, &format!("SELECT credyt.allow('{role}', '{what}')"));
    }
}

/// Every fact of the catalog, function bodies in one line.
fn catalog(client: &mut Client) -> BTreeSet<String> {
    let facts = values(client, CATALOG);
    rows(client, "RESET search_path");
    assert!(facts.len() > 1000);
    facts.iter().map(|fact| fact.replace('\n', "\\n")).collect()
}

/// The rows of every table of the older version, as one hash each.
fn contents(client: &mut Client, tables: &[String]) -> Vec<String> {
    let hash = |table: &String| {
        let sql = format!(
            "SELECT '{table}', count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} t"
        );
        value(client, &sql)
    };
    tables.iter().map(hash).collect()
}

#[test]
fn an_update_leads_to_what_a_fresh_install_has() {
    let older = Older::install();
    let server = Server::start();
    let mut client = server.client();
    for (role, _) in ROLES {
        rows(&mut client, &format!("CREATE ROLE {role}"));
    }
    for name in ["updated", "fresh"] {
        rows(
            &mut client,
            &format!("CREATE DATABASE {name} TEMPLATE template0"),
        );
    }

    // The older version, with rows in it, and roles that were allowed something.
    let mut updated = server.client_to("updated");
    let create = format!("CREATE EXTENSION credyt_pg VERSION '{}'", older.version);
    rows(&mut updated, &create);
    rows(
        &mut updated,
        r#"SELECT credyt.create_asset('credits');
           SELECT credyt.set_price('image', '{"per_unit": "1.5"}');
           SELECT credyt.set_vendor_rate('acme', 'gpu', '{"gpu_second": "0.0011"}');
           SELECT credyt.grant_credits('ann', 100, paid => 33.3333333333);
           SELECT credyt.grant_credits('ann', 10, 'included', applies_to => '{image}', expires_at => now() + interval '1 day');
           SELECT credyt.create_plan('pro', 5, '1 day', rollover => 2);
           SELECT credyt.subscribe('ann', 'pro', now() - interval '3 days');
           SELECT credyt.debit_credits('ann', 'image', 3, idempotency_key => 'k', scopes => '{user:x}',
               usage => '{"vendor": "acme", "model": "gpu", "body": {"gpu_second": 3}}');
           SELECT credyt.authorize('ann', 'image', 2, idempotency_key => 'hold');
           SELECT credyt.refund('ann', id, 1) FROM credyt.ledger WHERE idempotency_key = 'k';
           SELECT credyt.maintain();
           SELECT credyt.close_period(now())"#,
    );
    allow_all(&mut updated);
    let rights = "SELECT o.name, e.grantee::regrole, e.privilege_type
                  FROM (SELECT oid::regprocedure::text AS name, proacl AS acl FROM pg_proc
                        UNION ALL SELECT oid::regclass::text, relacl FROM pg_class
                        UNION ALL SELECT attrelid::regclass || '.' || attname, attacl FROM pg_attribute
                        UNION ALL SELECT nspname, nspacl FROM pg_namespace) o, aclexplode(o.acl) e
                  WHERE e.grantee::regrole::text LIKE 'credyt\\_up%' ORDER BY 1, 2, 3";
    let rights_before = values(&mut updated, rights);
    let tables = "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind = 'r' ORDER BY 1";
    let tables = values(&mut updated, tables);
    let before = contents(&mut updated, &tables);
    // A session that goes on meanwhile, with its plans and what it remembers.
    let mut going_on = server.client_to("updated");
    let debit = "SELECT credits, replayed FROM credyt.debit_credits('ann', 'image', 3, idempotency_key => 'k', scopes => '{user:x}',
                     usage => '{\"vendor\": \"acme\", \"model\": \"gpu\", \"body\": {\"gpu_second\": 3}}')";
    assert_eq!(value(&mut going_on, debit), "4.5 t");
    let twelve = "BEGIN; SELECT count(credyt.debit_credits('ann', 'image')) FROM generate_series(1, 12); ROLLBACK";
    rows(&mut going_on, twelve);
    let direct = "SELECT calls FROM credyt.direct_access_counts() WHERE operation = 'lock' AND reason = 'direct'";
    let direct_before: u64 = value(&mut going_on, direct).parse().expect("a number");

    rows(&mut updated, "ALTER EXTENSION credyt_pg UPDATE");
    let version = "SELECT extversion FROM pg_extension WHERE extname = 'credyt_pg'";
    assert_eq!(value(&mut updated, version), VERSION);
    assert_eq!(contents(&mut updated, &tables), before);
    assert_eq!(values(&mut updated, rights), rights_before);

    // Whoever was allowed something is allowed what is new by being allowed again: as in a fresh one.
    allow_all(&mut updated);
    let mut fresh = server.client_to("fresh");
    rows(&mut fresh, "CREATE EXTENSION credyt_pg");
    allow_all(&mut fresh);
    let (updated_facts, fresh_facts) = (catalog(&mut updated), catalog(&mut fresh));
    let only = |these: &BTreeSet<String>, those: &BTreeSet<String>| {
        these.difference(those).cloned().collect::<Vec<_>>()
    };
    let (left, missing) = (
        only(&updated_facts, &fresh_facts),
        only(&fresh_facts, &updated_facts),
    );
    assert!(
        left.is_empty() && missing.is_empty(),
        "after the update only:\n{}\nafter a fresh install only:\n{}",
        left.join("\n"),
        missing.join("\n")
    );

    // And everything goes on, in sessions old and new.
    for client in [
        &mut going_on,
        &mut updated,
        &mut server.client_to("updated"),
    ] {
        assert_eq!(value(client, debit), "4.5 t");
        let sql =
            "SELECT credits FROM credyt.debit_credits('ann', 'image', idempotency_key => NULL)";
        assert_eq!(value(client, sql), "1.5");
        assert_eq!(
            values(client, "SELECT invariant FROM credyt.verify()"),
            [""; 0]
        );
    }
    rows(&mut going_on, twelve);
    let direct_after: u64 = value(&mut going_on, direct).parse().expect("a number");
    assert!(direct_after >= direct_before + 12);
    let capture =
        "SELECT c.credits FROM credyt.authorizations h, credyt.capture(h.customer, h.id) c";
    assert_eq!(value(&mut updated, capture), "3");
    let key = "SELECT status FROM credyt.subscribe('bob', 'pro', idempotency_key => 's')";
    assert_eq!(value(&mut updated, key), "active");
    rows(
        &mut updated,
        "SET ROLE credyt_up_report; SELECT * FROM credyt.runway; SELECT credyt.suggest_price('image', 0.5)",
    );
    rows(&mut updated, "RESET ROLE");
    assert_eq!(
        values(&mut updated, "SELECT invariant FROM credyt.verify()"),
        [""; 0]
    );

    versions_have_to_fit(&server);
}

/// A library and SQL objects of other times say so, whatever is called first.
fn versions_have_to_fit(server: &Server) {
    let mut owner = server.client_to("updated");
    let pretend = |owner: &mut Client, version: &str| {
        let sql =
            format!("UPDATE pg_extension SET extversion = '{version}' WHERE extname = 'credyt_pg'");
        rows(owner, &sql);
    };
    for (version, remedy) in [
        ("0.0.0", "ALTER EXTENSION credyt_pg UPDATE"),
        ("99.1", "newer library"),
    ] {
        pretend(&mut owner, version);
        for sql in [
            "SELECT credyt.balance('ann')",
            "SELECT credyt.debit_credits('ann', 'image')",
            "SELECT * FROM credyt.margin('{}')",
        ] {
            // It does not go away by trying again.
            let mut client = server.client_to("updated");
            for _ in 0..2 {
                let refused = refusal(&mut client, sql);
                assert_eq!(refused.code, "55000", "{refused:?}");
                assert_eq!(refused.json()["error"], "versions_differ");
                assert_eq!(refused.json()["installed"], version);
                assert!(refused.hint.contains(remedy), "{refused:?}");
            }
        }
    }
    // Nobody was refused for a difference that does not matter.
    pretend(&mut owner, VERSION);
    rows(
        &mut server.client_to("updated"),
        "SELECT credyt.balance('ann')",
    );
    assert!(attempt(&mut owner, "SELECT credyt.balance('ann')").is_ok());
}

// ---- releases ---------------------------------------------------------------------------------

/// A copy of what a release is made of.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Copy {
        let folder =
            std::env::temp_dir().join(format!("credyt_release_{}_{name}", std::process::id()));
        fs::create_dir_all(folder.join("scripts")).expect("a folder");
        for part in [
            "sql",
            "credyt_pg.control",
            "Cargo.toml",
            "scripts/releases.sh",
        ] {
            let copied = Command::new("cp")
                .arg("-r")
                .arg(Path::new(ROOT).join(part))
                .arg(folder.join(part))
                .status();
            assert!(copied.expect("cp").success());
        }
        // As if nothing had been released yet.
        let _ = fs::remove_dir_all(folder.join("sql/releases"));
        for entry in fs::read_dir(folder.join("sql")).expect("sql") {
            let path = entry.expect("a file").path();
            if path.is_file() {
                fs::remove_file(path).expect("removed");
            }
        }
        let copy = Copy(folder);
        copy.version(VERSION, "0.1.0");
        copy
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("written");
    }

    fn append(&self, name: &str, text: &str) {
        let before = fs::read_to_string(self.0.join(name)).expect(name);
        self.write(name, &(before + text));
    }

    fn version(&self, from: &str, to: &str) {
        for name in ["credyt_pg.control", "Cargo.toml"] {
            let text = fs::read_to_string(self.0.join(name)).expect(name);
            self.write(name, &text.replacen(from, to, 1));
        }
        self.write("CHANGELOG.md", &format!("# Changelog\n\n## {to}\n"));
    }

    /// What it complains of.
    fn run(&self, what: &str) -> Result<(), String> {
        let output = Command::new(self.0.join("scripts/releases.sh"))
            .arg(what)
            .output()
            .expect("scripts/releases.sh");
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8(output.stderr).expect("UTF-8")),
        }
    }

    fn refused(&self, what: &str, why: &str) {
        let complaint = self.run(what).expect_err(why);
        assert!(complaint.contains(why), "{complaint}");
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("removed");
    }
}

#[test]
fn what_is_released_never_changes() {
    let copy = Copy::new("frozen");
    copy.run("check").expect("nothing is released yet");
    copy.write("CHANGELOG.md", "## Unreleased\n");
    copy.refused("freeze", "no heading '## 0.1.0'");
    copy.version("0.1.0", "0.1.0");
    copy.run("freeze").expect("a release");
    copy.run("check").expect("just released");
    copy.refused("freeze", "0.1.0 is released already");

    // What is released is what this version installs.
    let schema = "sql/schema/24_access.sql";
    copy.append(schema, "COMMENT ON SCHEMA credyt IS 'x';\n");
    copy.refused("check", "raise the version");
    // A new version needs a way from the last one.
    copy.version("0.1.0", "0.2.0");
    copy.refused("check", "write sql/credyt_pg--0.1.0--0.2.0.sql");
    copy.refused("freeze", "write sql/credyt_pg--0.1.0--0.2.0.sql");
    let upgrade = "sql/credyt_pg--0.1.0--0.2.0.sql";
    copy.write(upgrade, "COMMENT ON SCHEMA credyt IS 'x';\n");
    copy.run("check").expect("there is a way");
    // Until it is released it may change, and then no more.
    copy.append(upgrade, "SELECT 1;\n");
    copy.run("freeze").expect("a second release");
    copy.append(upgrade, "SELECT 1;\n");
    copy.refused("check", "never changes");
    copy.write(upgrade, "COMMENT ON SCHEMA credyt IS 'x';\nSELECT 1;\n");
    copy.run("check").expect("as it was");
    copy.append("sql/releases/credyt_pg--0.1.0.sql", "\n");
    copy.refused("check", "never changes");
    fs::remove_file(copy.0.join("sql/releases/credyt_pg--0.1.0.sql")).expect("removed");
    copy.refused("check", "never changes");
}

#[test]
fn versions_are_the_same_everywhere() {
    let copy = Copy::new("versions");
    copy.write("credyt_pg.control", "default_version = '0.3.0'\n");
    copy.refused("check", "Cargo.toml 0.1.0");
    copy.version("0.1.0", "0.3.0");
    fs::create_dir_all(copy.0.join("sql/releases")).expect("a folder");
    copy.write("sql/releases/credyt_pg--0.2.0.sql", "");
    copy.write("sql/credyt_pg--0.2.0--0.3.0.sql", "");
    copy.refused("check", "was not made by make release");
    copy.write("sql/credyt_pg--0.3.0--0.4.0.sql", "");
    copy.refused("check", "does not lead to this version");
}
