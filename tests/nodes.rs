//! What tables, triggers and statements keep to, so that the tables can be spread over several servers by customer. Checked
//! on one server, by its catalogs and by the source.

mod support;

use std::fs;
use support::Server;
use support::sql::values;

/// Every SQL text in `src/store`, as `file: text`.
fn texts() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store");
    let mut texts = Vec::new();
    for file in fs::read_dir(folder).expect("src/store") {
        let path = file.expect("a file").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let source = fs::read_to_string(&path).expect("UTF-8");
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
