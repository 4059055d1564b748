//! The version before this one: the last release, and until there is one a stand-in, made of the present version by leaving a
//! few things out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// An older version, installed beside this one for as long as the test runs.
pub struct Older {
    pub version: String,
    files: Vec<PathBuf>,
}

impl Older {
    pub fn install() -> Older {
        let (version, install, upgrade) = match last_release() {
            Some(version) => {
                let install = read(&format!("sql/releases/credyt_pg--{version}.sql"));
                // The way from there has been installed with this version.
                (version, install, None)
            }
            None => {
                let (install, upgrade) = stand_in(&install_script());
                ("0.0.9".to_owned(), install, Some(upgrade))
            }
        };
        let mut older = Older {
            version,
            files: Vec::new(),
        };
        let version = older.version.clone();
        older.write(&format!("credyt_pg--{version}.sql"), &install);
        if let Some(upgrade) = upgrade {
            older.write(&format!("credyt_pg--{version}--{VERSION}.sql"), &upgrade);
        }
        older
    }

    fn write(&mut self, name: &str, text: &str) {
        let pg_config = std::env::var("CREDYT_PG_CONFIG").expect("CREDYT_PG_CONFIG");
        let share = Command::new(pg_config)
            .arg("--sharedir")
            .output()
            .expect("pg_config");
        let share = String::from_utf8(share.stdout).expect("UTF-8");
        let file = Path::new(share.trim()).join("extension").join(name);
        fs::write(&file, text).expect("written");
        self.files.push(file);
    }
}

impl Drop for Older {
    fn drop(&mut self) {
        for file in &self.files {
            fs::remove_file(file).expect("removed");
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).expect(path)
}

fn last_release() -> Option<String> {
    let last = Command::new(Path::new(ROOT).join("scripts/releases.sh"))
        .arg("last")
        .output()
        .expect("scripts/releases.sh");
    let last = String::from_utf8(last.stdout).expect("UTF-8");
    Some(last.trim().to_owned()).filter(|last| !last.is_empty())
}

fn install_script() -> String {
    let folder = fs::read_dir(Path::new(ROOT).join("sql/schema")).expect("sql/schema");
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let text = |file: &PathBuf| fs::read_to_string(file).expect("a script");
    files.iter().map(text).collect()
}

/// What the stand-in does not have: a view, a function with its type, and a table.
const MISSING: [&str; 4] = [
    "runway",
    "suggest_price",
    "suggested_price",
    "subscription_keys",
];
/// What it says, and stores, otherwise.
const OTHERWISE: [(&str, &str, &str); 2] = [
    (
        "COMMENT ON VIEW credyt.breakage IS",
        "'Another comment.';",
        "",
    ),
    (
        ") WITH (fillfactor = 80);\nCOMMENT ON TABLE credyt.booked_subscriptions",
        ") WITH (fillfactor = 60);\nCOMMENT ON TABLE credyt.booked_subscriptions",
        "ALTER TABLE credyt.booked_subscriptions SET (fillfactor = 80);\n",
    ),
];

/// The install script of a version before this one, and the script that leads here, as they would be written by hand.
fn stand_in(install: &str) -> (String, String) {
    let mut install = install.to_owned();
    let mut upgrade = "\\echo Use \"ALTER EXTENSION credyt_pg UPDATE\" to load this file. \\quit\n\
                       SET LOCAL search_path TO pg_catalog, pg_temp;\n"
        .to_owned();
    // Another comment, and another fillfactor.
    let (comment, another, _) = OTHERWISE[0];
    let start = install.find(comment).expect("a comment") + comment.len();
    let end = start + install[start..].find(";\n").expect("it ends") + 1;
    upgrade += &format!("{comment}{}\n", &install[start..end]);
    install.replace_range(start..end, &format!(" {another}"));
    let (now, before, change) = OTHERWISE[1];
    assert!(install.contains(now));
    install = install.replace(now, before);
    upgrade += change;

    let mut older = String::new();
    let mut made = Vec::new();
    for statement in statements(&install) {
        let about = |name: &&&str| {
            let named = format!("credyt.{name}");
            statement.match_indices(&named).any(|(at, _)| {
                !statement[at + named.len()..]
                    .starts_with(|next: char| next.is_alphanumeric() || next == '_')
            })
        };
        if statement.contains("CREATE VIEW credyt.capabilities") {
            let named = |line: &&str| {
                !MISSING
                    .iter()
                    .any(|name| line.contains(&format!("'{name}'")))
            };
            let lines: Vec<&str> = statement.lines().filter(named).collect();
            older += &(lines.join("\n") + "\n");
            made.push(statement.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"));
        } else if MISSING.iter().find(about).is_some() {
            made.push(statement);
        } else {
            older += &statement;
        }
    }
    assert!(made.len() > 20, "{}", made.len());
    upgrade += &made.concat();
    upgrade += "REVOKE ALL ON credyt.runway, credyt.subscription_keys FROM PUBLIC;\n\
                REVOKE ALL ON FUNCTION credyt.suggest_price FROM PUBLIC;\n";
    (older, upgrade)
}

/// A script's statements, each with the comments before it.
fn statements(script: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut statement = String::new();
    for line in script.lines() {
        statement += line;
        statement.push('\n');
        let whole = statement.matches("$$").count().is_multiple_of(2);
        if whole && line.ends_with(';') && !line.trim_start().starts_with("--") {
            statements.push(std::mem::take(&mut statement));
        }
    }
    statements.push(statement);
    statements
}
