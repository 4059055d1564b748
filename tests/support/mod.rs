//! A throwaway Postgres with the extension, for the tests that need many connections.
//!
//! `make test` says which Postgres in CREDYT_PG_CONFIG; `scripts/server.sh` makes the server, and removes it even when the
//! test is killed.
#![allow(dead_code)] // each test program uses a part of this

pub mod everything;
pub mod load;
pub mod older;
pub mod recipes;
pub mod sql;

use postgres::{Client, NoTls};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// A running server, stopped and removed when dropped.
pub struct Server {
    folder: String,
    connect: String,
    data: String,
}

impl Server {
    /// A new server with the settings of this project's tests: nothing is flushed, room for many connections.
    pub fn start() -> Server {
        Server::start_with(&["fsync=off", "max_connections=200"])
    }

    /// A new server with these settings, each `name=value` without spaces.
    pub fn start_with(settings: &[&str]) -> Server {
        Server::start_limited(settings, 0)
    }

    /// The same, where no process may have more than `kilobytes` of memory; 0: no limit.
    pub fn start_limited(settings: &[&str], memory: u32) -> Server {
        let pg_config = std::env::var("CREDYT_PG_CONFIG").expect(
            "CREDYT_PG_CONFIG is not set: run this with `make test`, or set it to what `make stage` prints",
        );
        let options: Vec<String> = settings
            .iter()
            .map(|setting| format!("-c {setting}"))
            .collect();
        let exports = script(
            &["start", &pg_config],
            &[
                ("CREDYT_OPTIONS", options.join(" ")),
                ("CREDYT_MEMORY", memory.to_string()),
                ("CREDYT_OWNER", std::process::id().to_string()),
            ],
        );
        Server::from_exports(&exports)
    }

    /// A standby of this server, which follows it and takes reads only.
    pub fn standby(&self) -> Server {
        let owner = ("CREDYT_OWNER", std::process::id().to_string());
        Server::from_exports(&script(&["standby", &self.folder], &[owner]))
    }

    /// A base backup of this server, not started, with these lines in its settings.
    pub fn copy(&self, settings: &[String]) -> Server {
        let owner = ("CREDYT_OWNER", std::process::id().to_string());
        let copy = Server::from_exports(&script(&["copy", &self.folder], &[owner]));
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(copy.data_directory().join("postgresql.conf"))
            .expect("postgresql.conf");
        for line in settings {
            writeln!(file, "{line}").expect("written");
        }
        copy
    }

    /// Moves this server, which is stopped, to another Postgres with pg_upgrade.
    pub fn upgraded(&self, pg_config: &str) -> Server {
        let owner = ("CREDYT_OWNER", std::process::id().to_string());
        Server::from_exports(&script(&["upgrade", &self.folder, pg_config], &[owner]))
    }

    fn from_exports(exports: &str) -> Server {
        Server {
            folder: exported(exports, "CREDYT_SERVER"),
            connect: exported(exports, "CREDYT_URL"),
            data: exported(exports, "CREDYT_DATA"),
        }
    }

    /// How to connect to the database `postgres` as its superuser.
    pub fn connect_str(&self) -> &str {
        &self.connect
    }

    /// How to connect to another database of this server.
    pub fn connect_str_to(&self, database: &str) -> String {
        self.connect
            .replace("dbname=postgres", &format!("dbname={database}"))
    }

    /// A connection to the database `postgres`.
    pub fn client(&self) -> Client {
        self.client_to("postgres")
    }

    /// A connection to this database.
    pub fn client_to(&self, database: &str) -> Client {
        Client::connect(&self.connect_str_to(database), NoTls)
            .expect("a connection to the test server")
    }

    /// A new database with the extension in it, and a connection to it. One of that name is replaced.
    pub fn fresh_database(&self, name: &str) -> Client {
        let mut client = self.client();
        client
            .batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .expect("dropped");
        client
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .expect("created");
        let mut client = self.client_to(name);
        client
            .batch_execute("CREATE EXTENSION credyt_pg")
            .expect("CREATE EXTENSION");
        client
    }

    /// The data directory.
    pub fn data_directory(&self) -> &Path {
        Path::new(&self.data)
    }

    /// Stops the server as a crash would; what is in memory is lost.
    pub fn stop(&self) {
        script(&["down", &self.folder], &[]);
    }

    /// Starts it again, on the same port; it recovers from its WAL.
    pub fn start_again(&self) {
        script(&["up", &self.folder], &[]);
    }

    /// Both: a crash and its recovery.
    pub fn restart_immediate(&self) {
        script(&["crash", &self.folder], &[]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        script(&["stop", &self.folder], &[]);
    }
}

fn script(arguments: &[&str], environment: &[(&str, String)]) -> String {
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/server.sh"))
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .output()
        .expect("scripts/server.sh can be run");
    assert!(
        output.status.success() || std::thread::panicking(),
        "scripts/server.sh {arguments:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The value of `NAME='value'` in the exports that `scripts/server.sh start` printed.
fn exported(exports: &str, name: &str) -> String {
    let marked = format!("{name}='");
    let (_, rest) = exports.split_once(&marked).expect("exported");
    rest.split('\'').next().expect("closed").to_owned()
}
