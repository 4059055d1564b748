//! What lives where in `src`, read from its text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The lines of the Rust files in a folder of `src`, each with its file and number.
fn lines(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src")
        .join(folder);
    let mut lines = Vec::new();
    let mut open = vec![folder];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of src") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a file");
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let numbered = (1..).zip(text.lines());
                lines.extend(numbered.map(|(at, line)| (format!("{name}:{at}"), line.to_owned())));
            }
        }
    }
    assert!(!lines.is_empty(), "no lines");
    lines
}

/// The places of these lines that are wrong.
fn wrong(folders: &[&str], is_wrong: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = folders.iter().flat_map(|folder| lines(folder));
    let wrong = lines.filter(|(_, line)| !line.trim_start().starts_with("//") && is_wrong(line));
    wrong
        .map(|(place, line)| format!("{place}: {}", line.trim()))
        .collect()
}

#[test]
fn every_statement_is_in_the_store() {
    let words = [
        "SELECT ",
        "INSERT INTO ",
        "UPDATE ",
        "DELETE FROM ",
        "WITH ",
        "LOCK TABLE ",
    ];
    let begins = |line: &str| words.iter().any(|word| line.contains(&format!("\"{word}")));
    assert_eq!(
        wrong(&["functions", "ledger", "sql_types"], begins),
        [""; 0]
    );
}

/// The files of the store that another one imports: `use super::{cluster, table}`, `super::cluster::...`,
/// `crate::store::cluster::...`.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| format!("{} ", line.split("//").next().unwrap_or_default()))
        .collect();
    let name = |text: &str| -> String {
        let is_part = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        text.trim_start().chars().take_while(is_part).collect()
    };
    let mut imported = BTreeSet::new();
    for path in ["super::", "crate::store::"] {
        for (at, _) in code.match_indices(path) {
            let rest = &code[at + path.len()..];
            let Some(list) = rest.strip_prefix('{') else {
                imported.insert(name(rest));
                continue;
            };
            // The names of the list itself, not those of lists within.
            let mut depth = 0;
            let end = list.find(';').unwrap_or(list.len());
            for part in list[..end].split_inclusive(['{', ',', '}']) {
                if depth == 0 {
                    imported.insert(name(part));
                }
                depth += part.matches('{').count();
                depth = depth.saturating_sub(part.matches('}').count());
            }
        }
    }
    imported
}

#[test]
fn no_files_of_the_store_import_each_other_in_a_circle() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&folder).expect("src/store") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.extension().is_some_and(|extension| extension == "rs") && name != "mod" {
            files.insert(name, imports(&fs::read_to_string(&path).expect("a file")));
        }
    }
    let names: BTreeSet<String> = files.keys().cloned().collect();
    for (name, imports) in &mut files {
        imports.retain(|other| names.contains(other) && other != name);
    }
    assert!(
        files["wallets"].contains("statement"),
        "imports are not found"
    );
    // Those that import nothing that is left are taken away; a circle stays.
    let is_ground = |files: &BTreeMap<String, BTreeSet<String>>| {
        let ground = |(_, imports): &(&String, &BTreeSet<String>)| {
            imports.iter().all(|other| !files.contains_key(other))
        };
        files.iter().find(ground).map(|(name, _)| name.clone())
    };
    while let Some(name) = is_ground(&files) {
        files.remove(&name);
    }
    assert!(files.is_empty(), "in a circle, or above one: {files:#?}");
}

#[test]
fn nothing_counts_columns_by_hand() {
    assert_eq!(wrong(&["functions", "store"], counts), [""; 0]);
    for line in [
        "row.text(1)?",
        "columns.get(3)",
        "args[0],",
        "parts.nth(12)",
        "row.value(7)",
    ] {
        assert!(counts(line), "{line}");
    }
    for line in [
        "args.name(0, \"customer\")",
        "value::int(1)",
        "&args[..2]",
        "p.proargnames[1]",
    ] {
        assert!(!counts(line), "{line}");
    }
}

/// The machinery in `table.rs` alone numbers arguments.
#[test]
fn arguments_are_given_by_name() {
    let numbered = |line: &str| {
        let mut after = line.split('$').skip(1);
        after.any(|rest| {
            let digits = rest.chars().take_while(char::is_ascii_digit).count();
            rest[..digits].parse::<u32>().is_ok_and(|number| number > 2)
        })
    };
    let found: Vec<String> = wrong(&["functions", "store"], numbered)
        .into_iter()
        .filter(|place| !place.starts_with("table.rs"))
        .collect();
    assert_eq!(
        found, [""; 0],
        "a statement of three or more arguments names them: declare it with query!, or the table with table! and insert!"
    );
    assert!(numbered("WHERE a = $1 AND b = $12") && !numbered("WHERE a = $2"));
}

/// A row read, or a list indexed, at a place that is written as a number.
fn counts(line: &str) -> bool {
    let readers = [
        "get", "nth", "value", "text", "int", "bigint", "bool", "uuid", "moment", "amount",
        "decimal", "numeric", "json", "bytes", "place",
    ];
    let lists = ["args", "row", "rows", "columns", "values", "parts"];
    let number = |rest: &str, end: char| {
        let digits = rest.chars().take_while(char::is_ascii_digit).count();
        digits > 0 && rest[digits..].starts_with(end)
    };
    let after = |name: &str, open: char, close: char, before: &[char]| {
        line.match_indices(&format!("{name}{open}"))
            .any(|(at, found)| {
                let is_word = line[..at]
                    .chars()
                    .next_back()
                    .is_none_or(|c| before.contains(&c));
                is_word && number(&line[at + found.len()..], close)
            })
    };
    readers
        .iter()
        .any(|name| after(name, '(', ')', &['.', '_']))
        || lists
            .iter()
            .any(|name| after(name, '[', ']', &[' ', '(', '[', '&', ',']))
}

#[test]
fn the_files_of_the_schema_are_numbered_and_listed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/schema");
    let mut files: Vec<String> = fs::read_dir(&folder)
        .expect("sql/schema")
        .map(|entry| {
            entry
                .expect("a file")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    files.sort();
    let first = fs::read_to_string(folder.join(&files[0])).expect("the first file");
    for (number, file) in (1..).zip(&files) {
        let name = file.strip_suffix(".sql").expect("SQL");
        assert!(
            name.starts_with(&format!("{number:02}_")),
            "{file} is number {number}"
        );
        assert!(
            first.contains(&format!("\n--   {name} ")),
            "{}: {name} is missing",
            files[0]
        );
        // A table is registered for dumps where it is made.
        let text = fs::read_to_string(folder.join(file)).expect(file);
        for table in text
            .lines()
            .filter_map(|line| line.strip_prefix("CREATE TABLE credyt."))
        {
            let table = table.trim_end_matches(" (");
            assert!(
                text.contains(&format!("pg_extension_config_dump('credyt.{table}', '")),
                "{file}: {table} is not registered for dumps"
            );
        }
    }
}

#[test]
fn the_guides_name_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = [
        "",
        "src",
        "sql/schema",
        "docs",
        "src/ledger",
        "src/store",
        "src/functions",
    ];
    let code = ["functions", "ledger", "sql_types", "store"]
        .map(lines)
        .concat();
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root.join(page)).expect(page);
        for name in text.split('`').skip(1).step_by(2) {
            let is_path = [".rs", ".sql", ".md", "/"]
                .iter()
                .any(|end| name.ends_with(end));
            if is_path && !name.contains([' ', '*']) {
                let found = places
                    .iter()
                    .any(|place| root.join(place).join(name).exists());
                assert!(found, "{page} names {name}, which is not there");
            }
            if let Some((_, function)) = name.split_once("::")
                && name.starts_with(char::is_uppercase)
            {
                let found = code
                    .iter()
                    .any(|(_, line)| line.contains(&format!("fn {function}")));
                assert!(found, "{page} names {name}, which is not there");
            }
        }
    }
}
