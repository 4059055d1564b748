//! What tables, triggers and statements keep to, so that the tables can be spread over several servers by customer. Checked
//! on one server, by its catalogs and by the source.

mod support;

use std::fs;
use std::path::Path;
use support::Server;
use support::sql::values;

/// The names and texts of the files in a folder.
fn files(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(folder).expect("a folder").map(|file| {
        let path = file.expect("a file").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        (name.into_owned(), path)
    });
    let files = files.filter(|(_, path)| path.is_file());
    files
        .map(|(name, path)| (name, fs::read_to_string(path).expect("UTF-8")))
        .collect()
}

/// Every SQL text in `src/store`, as `file: text`.
fn texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for (name, source) in files("src/store") {
        let code: String = source
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .flat_map(|line| [line, "\n"])
            .collect();
        // A text ends at the quote that has no backslash before it.
        let mut parts = code.split('"');
        parts.next();
        while let Some(mut text) = parts.next().map(str::to_owned) {
            while text.ends_with('\\') {
                text.push_str(parts.next().unwrap_or_default());
            }
            texts.push((name.clone(), text));
            parts.next();
        }
    }
    texts
}

#[test]
fn every_unique_key_of_a_customers_rows_has_the_customer_in_it() {
    let server = Server::start();
    let mut client = server.fresh_database("keys");
    let without = values(
        &mut client,
        "SELECT i.indexrelid::regclass::text
         FROM pg_index i
         JOIN pg_class c ON c.oid = i.indrelid AND c.relnamespace = 'credyt'::regnamespace AND c.relkind = 'r'
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'customer' AND a.attnotnull
         WHERE (i.indisunique OR i.indisexclusion) AND NOT a.attnum = ANY (i.indkey)",
    );
    assert_eq!(without, Vec::<String>::new());
    let references = values(
        &mut client,
        "SELECT conrelid::regclass || '.' || conname FROM pg_constraint
         WHERE connamespace = 'credyt'::regnamespace AND contype = 'f'",
    );
    assert_eq!(references, Vec::<String>::new());
}

#[test]
fn a_trigger_is_told_the_name_of_its_table() {
    let server = Server::start();
    let mut client = server.fresh_database("triggers");
    let untold = values(
        &mut client,
        r"SELECT c.relname || '.' || t.tgname
          FROM pg_trigger t
          JOIN pg_class c ON c.oid = t.tgrelid AND c.relnamespace = 'credyt'::regnamespace
          JOIN pg_proc p ON p.oid = t.tgfoid
          WHERE NOT t.tgisinternal AND p.proname IN ('refuse_change', 'announce_change')
            AND t.tgargs <> convert_to(c.relname, 'UTF8') || '\x00'::bytea",
    );
    assert_eq!(untold, Vec::<String>::new());
}

/// What changes rows gives the same on every node that has a copy of them.
#[test]
fn no_statement_that_updates_or_deletes_calls_a_volatile_function() {
    let server = Server::start();
    let mut client = server.fresh_database("volatile");
    let mut changing = 0;
    for (file, text) in texts() {
        let upper = text.to_uppercase();
        if !["UPDATE CREDYT.", "DELETE FROM CREDYT.", "DO UPDATE"]
            .iter()
            .any(|what| upper.contains(what))
        {
            continue;
        }
        changing += 1;
        let volatile = client
            .query(
                "SELECT DISTINCT p.proname::text FROM regexp_matches($1, '([a-z_0-9]+)\\(', 'g') AS m (names)
                 JOIN pg_proc p ON p.proname = m.names[1] AND p.provolatile = 'v'
                   AND p.pronamespace IN ('pg_catalog'::regnamespace, 'credyt'::regnamespace)",
                &[&text],
            )
            .expect("the functions");
        let volatile: Vec<String> = volatile.iter().map(|row| row.get(0)).collect();
        assert!(volatile.is_empty(), "{file} calls {volatile:?} in {text}");
    }
    assert!(changing > 20, "only {changing} statements were found");
}

/// Statements that lock rows of several customers at once. Each has another form for a cluster, which the code takes there.
const LOCK_SEVERAL: &[&str] = &[
    "e.id = ANY ($1) AND e.acknowledged_at IS NULL AND",
    "l.id = ANY ($1) AND l.acknowledged_at IS NULL",
    "e.acknowledged_at <= $1 - interval '1 day'",
    "u.period_end <= $1 LIMIT $2",
    "w.customer = r.customer AND w.asset = r.asset",
];

/// A row is locked on the node that has it.
#[test]
fn rows_are_locked_of_one_customer_or_of_the_books() {
    let locks = |text: &str| {
        [
            "FOR UPDATE",
            "FOR NO KEY UPDATE",
            "FOR SHARE",
            "FOR KEY SHARE",
        ]
        .iter()
        .any(|lock| text.contains(lock))
    };
    let mut several = Vec::new();
    let mut found = 0;
    let texts = texts();
    for (at, (file, text)) in texts
        .iter()
        .enumerate()
        .filter(|(_, (_, text))| locks(text))
    {
        found += 1;
        // A statement is put together of texts that follow one another.
        let begin = texts[..at]
            .iter()
            .rposition(|(_, text)| text.contains("SELECT ") || text.contains("DELETE "));
        let whole: String = match text.contains("SELECT ") {
            true => text.clone(),
            false => texts[begin.unwrap_or(at)..=at]
                .iter()
                .map(|(_, text)| text.as_str())
                .collect(),
        };
        let of_one = [".customer = $1", ".customer = :customer"]
            .iter()
            .any(|one| whole.contains(one))
            || whole.contains("credyt.expiry_notices");
        // Made by a macro: of one wallet, or of what is due.
        let by_macro = text.trim_start().starts_with("FOR ")
            && ["wallets.rs", "maintenance.rs"].contains(&file.as_str());
        if !of_one && !by_macro && !LOCK_SEVERAL.iter().any(|known| whole.contains(known)) {
            several.push(format!("{file}: {whole}"));
        }
    }
    assert_eq!(several, Vec::<String>::new());
    assert!(found >= 8, "only {found} statements were found");
}

/// Citus takes no LATERAL without a FROM: what it is given in place of a view has none.
#[test]
fn no_view_of_a_cluster_has_a_lateral_without_from() {
    let views = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/store/cluster_views.sql"
    ))
    .expect("the views");
    for (at, _) in views.match_indices("LATERAL (") {
        let mut depth = 0;
        let inner: String = views[at + "LATERAL ".len()..]
            .chars()
            .take_while(|c| {
                depth += i32::from(*c == '(') - i32::from(*c == ')');
                depth > 0
            })
            .collect();
        assert!(inner.contains("FROM "), "{inner}");
    }
}

/// Each node runs an update by itself, after the coordinator's has changed its tables: every step is one that may be
/// repeated.
#[test]
fn an_update_can_be_repeated() {
    let scripts = files("sql")
        .into_iter()
        .filter(|(name, _)| name.starts_with("credyt_pg--") && name.ends_with(".sql"));
    for (name, script) in scripts {
        assert_eq!(not_repeatable(&script), Vec::<String>::new(), "{name}");
    }
    for step in [
        "CREATE TABLE credyt.a (b int);",
        "ALTER TABLE credyt.a ADD COLUMN b int;",
        "CREATE INDEX a_b ON credyt.a (b);",
        "ALTER TABLE credyt.a DROP COLUMN b;",
    ] {
        assert_eq!(not_repeatable(step).len(), 1, "{step}");
    }
    for step in [
        "CREATE TABLE IF NOT EXISTS credyt.a (b int);",
        "ALTER TABLE credyt.a ADD COLUMN IF NOT EXISTS b int;",
        "CREATE OR REPLACE FUNCTION credyt.f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;",
    ] {
        assert_eq!(not_repeatable(step), [""; 0], "{step}");
    }
}

/// The lines that change tables or indexes and fail the second time.
fn not_repeatable(script: &str) -> Vec<&str> {
    let steps = [
        ("CREATE TABLE ", "IF NOT EXISTS"),
        ("CREATE INDEX ", "IF NOT EXISTS"),
        ("CREATE UNIQUE INDEX ", "IF NOT EXISTS"),
        ("ADD COLUMN ", "IF NOT EXISTS"),
        ("DROP COLUMN ", "IF EXISTS"),
        ("DROP TABLE ", "IF EXISTS"),
        ("DROP INDEX ", "IF EXISTS"),
    ];
    let fails = |line: &&str| {
        steps
            .iter()
            .any(|(step, guard)| line.contains(step) && !line.contains(&format!("{step}{guard}")))
    };
    script.lines().filter(fails).collect()
}
