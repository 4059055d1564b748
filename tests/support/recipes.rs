//! The commands of docs/operations.md and docs/scale.md, run as they are written there.

use postgres::Client;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const DOCUMENTS: [&str; 2] = [
    include_str!("../../docs/operations.md"),
    include_str!("../../docs/scale.md"),
];

/// The commands under a heading of the documents.
pub fn recipe(heading: &str) -> String {
    let heading = format!("\n### {heading}\n");
    let mut found = DOCUMENTS
        .iter()
        .filter_map(|text| text.split_once(&heading));
    let (_, section) = found.next().unwrap_or_else(|| panic!("no recipe{heading}"));
    let section = section.split("\n##").next().expect("a section");
    let blocks = section.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split("```").next().expect("closed"))
        .collect()
}

/// Runs commands with Postgres' own programs in the path, in a folder that goes away. They may not warn of anything.
pub fn run(commands: &str, environment: &[(&str, &str)]) {
    let output = tried(commands, environment);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{commands}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs commands that fail, and says how.
pub fn refused(commands: &str, environment: &[(&str, &str)]) -> String {
    let output = tried(commands, environment);
    assert!(!output.status.success(), "{commands}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn tried(commands: &str, environment: &[(&str, &str)]) -> Output {
    let folder = Scratch::new();
    let pg_config = std::env::var("CREDYT_PG_CONFIG").expect("CREDYT_PG_CONFIG");
    let programs = Path::new(&pg_config).parent().expect("a folder").display();
    let path = std::env::var("PATH").expect("PATH");
    Command::new("bash")
        .args(["-euc", commands])
        .current_dir(&folder.0)
        .env("PATH", format!("{programs}:{path}"))
        .envs(environment.iter().copied())
        .output()
        .expect("bash")
}

/// Waits until a query says `t`.
pub fn until(client: &mut Client, query: &str) {
    let since = std::time::Instant::now();
    while super::sql::value(client, query) != "t" {
        assert!(since.elapsed().as_secs() < 60, "still not: {query}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let name = format!("credyt_recipe_{}", uuid::Uuid::now_v7());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        Scratch(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
