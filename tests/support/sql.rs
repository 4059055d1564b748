//! A database for each test, SQL answers as text, refusals taken apart, and many connections at once.

use super::Server;
use postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use serde_json::Value;
use std::fmt::Display;
use std::sync::{Barrier, LazyLock};
use std::time::{Duration, Instant};

/// One server for all tests of a program; `scripts/server.sh` removes it when the program has ended.
static SERVER: LazyLock<Server> = LazyLock::new(Server::start);

/// A database with the extension, which others are copies of: quicker than to create the extension in each.
static WITH_EXTENSION: LazyLock<&str> = LazyLock::new(|| {
    drop(SERVER.fresh_database("with_extension"));
    "with_extension"
});

fn create(name: &str, template: &str) {
    let mut client = SERVER.client();
    client
        .batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        .expect("dropped");
    client
        .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}"))
        .expect("created");
}

/// A new database of one test. When the test is over, every invariant of the ledger has to hold in it.
pub struct Database {
    name: String,
    lawful: bool,
}

impl Database {
    /// A database with the extension, the asset `credits`, and the action `image` for 1 credit.
    pub fn new(name: &str) -> Database {
        create(name, &WITH_EXTENSION);
        SERVER
            .client_to(name)
            .batch_execute(
                "SELECT credyt.create_asset('credits');
                 SELECT credyt.set_price('image', '1');",
            )
            .expect("an asset and a price");
        Database {
            name: name.to_owned(),
            lawful: true,
        }
    }

    /// A database with nothing in it, not even the extension.
    pub fn empty(name: &str) -> Database {
        create(name, "template0");
        Database {
            name: name.to_owned(),
            lawful: true,
        }
    }

    /// The name of a database that is not there, for a test that creates it.
    pub fn none(name: &str) -> Database {
        let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        SERVER.client().batch_execute(&sql).expect("dropped");
        Database {
            name: name.to_owned(),
            lawful: true,
        }
    }

    /// For a test that breaks the invariants on purpose.
    pub fn lawless(self) -> Database {
        Database {
            name: self.name.clone(),
            lawful: false,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn connect(&self) -> Client {
        SERVER.client_to(&self.name)
    }

    /// How to connect, for programs of Postgres.
    pub fn connect_str(&self) -> String {
        SERVER.connect_str_to(&self.name)
    }

    /// Every invariant that does not hold, as `invariant customer: detail`.
    pub fn broken_invariants(&self) -> Vec<String> {
        let sql = "SELECT invariant, customer, detail FROM credyt.verify()";
        let found = rows(&mut self.connect(), sql);
        let line = |row: SimpleQueryRow| [0, 1, 2].map(|at| cell(&row, at)).join(" ");
        found.into_iter().map(line).collect()
    }

    /// Runs this on a number of connections at the same time; what each returned.
    pub fn at_once<T: Send>(
        &self,
        connections: usize,
        work: impl Fn(usize, &mut Client) -> T + Sync,
    ) -> Vec<T> {
        let clients: Vec<Client> = (0..connections).map(|_| self.connect()).collect();
        let (work, start) = (&work, &Barrier::new(connections));
        std::thread::scope(|scope| {
            let run = |(nth, mut client): (usize, Client)| {
                scope.spawn(move || {
                    start.wait();
                    work(nth, &mut client)
                })
            };
            let threads: Vec<_> = clients.into_iter().enumerate().map(run).collect();
            let result = |thread: std::thread::ScopedJoinHandle<T>| thread.join().expect("done");
            threads.into_iter().map(result).collect()
        })
    }

    /// Runs this on a connection of its own, which has to wait for a lock; then `meanwhile`, which
    /// lets it go on. What the waiting one returned.
    pub fn waiting<T: Send>(
        &self,
        work: impl FnOnce(&mut Client) -> T + Send,
        meanwhile: impl FnOnce(),
    ) -> T {
        let mut waiter = self.connect();
        let pid = value(&mut waiter, "SELECT pg_backend_pid()");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || work(&mut waiter));
            let blocked = format!("SELECT cardinality(pg_blocking_pids({pid})) > 0");
            let (mut watcher, since) = (self.connect(), Instant::now());
            while value(&mut watcher, &blocked) != "t" {
                assert!(since.elapsed() < Duration::from_secs(20), "nobody waits");
                std::thread::sleep(Duration::from_millis(5));
            }
            meanwhile();
            thread.join().expect("done")
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.lawful && !std::thread::panicking() {
            let broken = self.broken_invariants();
            assert!(broken.is_empty(), "{}: {broken:#?}", self.name);
        }
    }
}

/// An error of Postgres, taken apart.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: String,
    pub message: String,
    /// JSON where the extension refuses.
    pub detail: String,
    pub hint: String,
}

impl Refusal {
    pub fn of(error: &postgres::Error) -> Refusal {
        let error = error
            .as_db_error()
            .unwrap_or_else(|| panic!("no answer from the server: {error}"));
        Refusal {
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().unwrap_or_default().to_owned(),
            hint: error.hint().unwrap_or_default().to_owned(),
        }
    }

    /// DETAIL, which has to be a JSON object.
    pub fn json(&self) -> Value {
        let json: Value = serde_json::from_str(&self.detail)
            .unwrap_or_else(|why| panic!("DETAIL is no JSON ({why}): {self:?}"));
        assert!(json.is_object(), "DETAIL is no object: {self:?}");
        json
    }

    /// The statement in the HINT.
    pub fn remedy(&self) -> &str {
        let start = self.hint.find("SELECT ").expect("a statement in the hint");
        let end = self.hint.rfind(';').expect("it ends") + 1;
        &self.hint[start..end]
    }
}

/// Runs a statement: its rows, or why not.
pub fn attempt(client: &mut Client, sql: &str) -> Result<Vec<SimpleQueryRow>, Refusal> {
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    };
    match client.simple_query(sql) {
        Ok(messages) => Ok(messages.into_iter().filter_map(row).collect()),
        Err(error) => Err(Refusal::of(&error)),
    }
}

/// The rows of a statement that has to succeed.
pub fn rows(client: &mut Client, sql: &str) -> Vec<SimpleQueryRow> {
    attempt(client, sql).unwrap_or_else(|refusal| panic!("{}: {refusal:?}", shortened(sql)))
}

/// The first row of a statement, its columns joined by a blank.
pub fn value(client: &mut Client, sql: &str) -> String {
    let rows = rows(client, sql);
    let row = rows
        .first()
        .unwrap_or_else(|| panic!("no row from {}", shortened(sql)));
    let cells: Vec<String> = (0..row.len()).map(|at| cell(row, at)).collect();
    cells.join(" ")
}

/// All rows of a statement, each as `value` says the first.
pub fn values(client: &mut Client, sql: &str) -> Vec<String> {
    let line = |row: &SimpleQueryRow| {
        let cells: Vec<String> = (0..row.len()).map(|at| cell(row, at)).collect();
        cells.join(" ")
    };
    rows(client, sql).iter().map(line).collect()
}

/// The refusal of a statement that may not succeed.
pub fn refusal(client: &mut Client, sql: &str) -> Refusal {
    match attempt(client, sql) {
        Err(refusal) => refusal,
        Ok(_) => panic!("not refused: {}", shortened(sql)),
    }
}

/// A text as a SQL literal.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Sets what time it is.
pub fn clock(client: &mut Client, now: impl Display) {
    let sql = format!(
        "INSERT INTO credyt.clock (now) VALUES ('{now}')
         ON CONFLICT (one) DO UPDATE SET now = EXCLUDED.now"
    );
    rows(client, &sql);
}

/// A column of a row as text; NULL as `-`.
fn cell(row: &SimpleQueryRow, at: usize) -> String {
    row.get(at).unwrap_or("-").to_owned()
}

fn shortened(sql: &str) -> String {
    sql.chars().take(300).collect()
}
