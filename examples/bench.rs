//! What a debit costs, beside the least that any ledger must do and beside the same by hand.
//!
//! ```text
//! make bench                                                        (ARGS="--long" and the like)
//! make bench OTHER=<commit>                                         the library of another commit in turns with this one
//! cargo run --release --example bench -- [--long] [--only name,name] [--rounds 5] [--seconds 0.3] [--rows 50000]
//!                                        [--settings "SQL to run first, such as another fillfactor"] [--other "host=... port=..."]
//! ```
//!
//! 1. Debits a second, case by case, through prepared statements over one connection with synchronous_commit off. The
//!    cases take turns of a tenth of a second, some of them in every round. What is shown are medians; a ratio is
//!    the median over the rounds of a case against the floor of the same round. The floor is one statement that updates
//!    a balance and inserts a row (`bench/floor.sql`); the version by hand is `bench/plpgsql.sql`. Every case has a
//!    customer of its own among 3,000 others, with more credits than it can spend. The grants of a stack differ in
//!    priority, end, credits and price, by a fixed seed, so that packed states do not compress.
//! 2. `saturated`: 6 connections over 1,000 wallets. 3. `first`: the first debit of a new connection. 4. `wal`: WAL and HOT
//!    updates a debit, `memory` of a backend, `reads` in a large ledger. Each says how it is measured.
//! 5. `contention`: 1 to 64 connections on one wallet; `wallets` and `ledger`: debits in a database of 1 thousand to 1 million
//!    wallets, and of 0.1 to 10 million ledger rows (`--sizes 100000,50000000`). They take minutes, so only when they are named
//!    (contention also with `--long`).
//!
//! The server is the one of PGHOST, PGPORT, PGUSER and PGDATABASE, as a superuser; the benchmark makes a database of its
//! own there and drops it in the end. It writes nothing but its output. With `--other` it does the same on a second server, which
//! has another build of the library; its cases take turns with those of the first, and are compared with them and their own floor.

#[path = "bench/cases.rs"]
mod cases;
mod common;
#[path = "bench/contention.rs"]
mod contention;
#[path = "bench/first.rs"]
mod first;
#[path = "bench/growth.rs"]
mod growth;
#[path = "bench/measures.rs"]
mod measures;
#[path = "common/plot.rs"]
mod plot;
#[path = "bench/saturated.rs"]
mod saturated;

use std::process::ExitCode;
use std::time::Duration;

use postgres::Client;

use cases::{NAMES, Which};
use common::{Result, Scratch, flag, option, said, thousands};

const USAGE: &str = "\
cargo run --release --example bench -- [--long] [--only name,name] [--rounds 5] [--seconds 0.3] [--rows 50000] [--sizes 100000,1000000,10000000] [--settings SQL] [--other \"host=... port=...\"]";

/// The parts after the cases that `--only` knows.
const PARTS: [&str; 5] = ["saturated", "first", "wal", "memory", "reads"];
/// Those that take minutes: only when they are named, the first of them also with `--long`.
const SLOW: [&str; 3] = ["contention", "wallets", "ledger"];

pub struct Options {
    only: Vec<String>,
    long: bool,
    /// Where a server with another build of the library is.
    other: Option<String>,
    connections: u32,
    rounds: usize,
    slice: Duration,
    rows: i32,
    memory: u32,
    wal_windows: usize,
    settings: Option<String>,
    sizes: Vec<i64>,
}

impl Options {
    fn read() -> Result<Options> {
        let mut arguments: Vec<String> = std::env::args().skip(1).collect();
        let long = flag(&mut arguments, "--long");
        let only: Option<String> = option(&mut arguments, "--only")?;
        let only: Vec<String> = only
            .iter()
            .flat_map(|names| names.split(','))
            .map(str::to_owned)
            .collect();
        if let Some(name) = only
            .iter()
            .find(|name| !parts().any(|part| part == name.as_str()))
        {
            let parts: Vec<&str> = parts().collect();
            return Err(format!("{name}: no such case. There are {}", parts.join(", ")).into());
        }
        let sizes: Option<String> = option(&mut arguments, "--sizes")?;
        let sizes = sizes.unwrap_or_else(|| "100000,1000000,10000000".to_owned());
        let seconds: f64 =
            option(&mut arguments, "--seconds")?.unwrap_or(if long { 2.0 } else { 0.3 });
        let options = Options {
            only,
            long,
            other: option(&mut arguments, "--other")?
                .or_else(|| std::env::var("CREDYT_OTHER").ok()),
            connections: if long { 200 } else { 40 },
            rounds: option(&mut arguments, "--rounds")?
                .unwrap_or(if long { 7 } else { 5 })
                .max(1),
            slice: Duration::from_secs_f64(seconds.clamp(0.05, 600.0)),
            rows: option(&mut arguments, "--rows")?.unwrap_or(if long {
                1_000_000
            } else {
                50_000
            }),
            settings: option(&mut arguments, "--settings")?,
            sizes: sizes
                .split(',')
                .map(str::parse)
                .collect::<std::result::Result<_, _>>()?,
            memory: if long { 200_000 } else { 20_000 },
            wal_windows: if long { 20 } else { 4 },
        };
        match arguments.first() {
            Some(argument) => Err(format!("{argument}: no such option").into()),
            None => Ok(options),
        }
    }

    fn asks_for(&self, name: &str) -> bool {
        self.only.iter().any(|only| only == name)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.asks_for(name)
    }
}

/// All that `--only` knows.
fn parts() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().chain(PARTS).chain(SLOW)
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        let parts: Vec<&str> = parts().collect();
        println!("{USAGE}\n--only knows {}", parts.join(", "));
        return ExitCode::SUCCESS;
    }
    let options = match Options::read() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match bench(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe benchmark ended early. {error}");
            ExitCode::FAILURE
        }
    }
}

/// One line of the last table.
struct Target {
    what: &'static str,
    wanted: String,
    /// As text, and whether it is what is wanted.
    seen: Option<(String, bool)>,
}

impl Target {
    fn new(what: &'static str, wanted: impl Into<String>, seen: Option<(String, bool)>) -> Target {
        Target {
            what,
            wanted: wanted.into(),
            seen,
        }
    }
}

fn bench(options: &Options) -> Result<()> {
    let mut scratches = vec![Scratch::create("bench")?];
    if let Some(other) = &options.other {
        scratches.push(Scratch::create_on(other.parse()?, "bench")?);
    }
    let (mut clients, mut cases) = (Vec::new(), Vec::new());
    for (side, scratch) in scratches.iter().enumerate() {
        let mut client = scratch.connect()?;
        client
            .batch_execute("SET synchronous_commit = off")
            .map_err(said("synchronous_commit"))?;
        if let Some(settings) = &options.settings {
            client.batch_execute(settings).map_err(said(settings))?;
        }
        if side == 0 {
            introduce(&mut client, options)?;
        }
        cases.extend(cases::set_up(&mut client, side, options)?);
        clients.push(client);
    }
    let scratch = &scratches[0];

    let wal = options
        .wants("wal")
        .then(|| measures::wal(&scratches, options))
        .transpose()?;
    cases::run(&mut clients, &mut cases, options)?;
    cases::print(&cases);
    let saturated = options
        .wants("saturated")
        .then(|| saturated::run(&scratches, options))
        .transpose()?;
    let first = options
        .wants("first")
        .then(|| first::run(&scratches, options))
        .transpose()?;
    let memory = options
        .wants("memory")
        .then(|| measures::memory(scratch, options))
        .transpose()?;
    let reads = options
        .wants("reads")
        .then(|| measures::reads(&mut clients[0], options))
        .transpose()?;

    if options.asks_for("contention") || options.long && options.only.is_empty() {
        contention::run(scratch, options)?;
    }
    drop(clients);
    drop(scratches);
    if options.asks_for("wallets") {
        growth::wallets(options)?;
    }
    if options.asks_for("ledger") {
        growth::ledger(options)?;
    }

    let at_least = |what, wanted: f64, seen: Option<f64>| {
        let seen = seen.map(|seen| (format!("{seen:.2}"), seen >= wanted));
        Target::new(what, format!("{wanted:.2} or more"), seen)
    };
    let ratio = |what, name, of, wanted| {
        let seen = cases::ratio(&cases, Which(0, name), Which(0, of));
        at_least(what, wanted, seen)
    };
    let read = |what, at: usize| {
        let seen = reads.map(|reads| (format!("{:.3} ms", reads[at]), reads[at] < 0.2));
        Target::new(what, "less than 0.2 ms", seen)
    };
    let work = saturated.map(|seen| (format!("{:.2}", seen.debit_work), seen.debit_work <= 1.4));
    let bytes = wal
        .as_ref()
        .map(|wal| (format!("{:.0} bytes", wal.bytes), wal.bytes <= 700.0));
    let hot = wal
        .as_ref()
        .map(|wal| (format!("{:.2} %", wal.hot * 100.0), wal.hot >= 0.99));
    let first = first.map(|more| (format!("{more:.2} ms"), more <= 1.5));
    let grown = memory.map(|grown| {
        (
            format!("{} kB", thousands(grown / 1024)),
            grown < 1024 * 1024,
        )
    });
    let targets = [
        at_least(
            "debit, 3 grants and a key, to the floor, saturated",
            0.75,
            saturated.map(|seen| seen.debit),
        ),
        Target::new("its processor time to the floor's", "1.40 or less", work),
        at_least(
            "the same to PL/pgSQL by hand, saturated",
            1.5,
            saturated.map(|seen| seen.debit_to_hand),
        ),
        ratio("the same, one connection", "debit", "plpgsql", 1.5),
        ratio(
            "authorize + capture to the floor, one connection",
            "hold",
            "floor",
            0.42,
        ),
        at_least("the same, saturated", 0.3, saturated.map(|seen| seen.hold)),
        ratio("to reserve and settle by hand", "hold", "hold_by_hand", 1.0),
        ratio(
            "debit_many, debits to the floor's",
            "debit_many",
            "floor",
            6.0,
        ),
        Target::new(
            "WAL a debit, full-page images aside",
            "700 bytes or fewer",
            bytes,
        ),
        Target::new(
            "first debit of a connection to an UPDATE",
            "1.5 ms more",
            first,
        ),
        ratio("30 stacked grants to 3", "debit_30", "debit", 0.85),
        ratio("100 stacked grants to 3", "debit_100", "debit", 0.6),
        ratio("300 open holds to none", "debit_holds", "debit", 0.95),
        ratio(
            "priced by usage and cost_plus to a plain one",
            "debit_usage",
            "debit",
            0.7,
        ),
        ratio(
            "with plan, top-up rule and alert to a plain one",
            "debit_plan",
            "debit",
            0.9,
        ),
        ratio(
            "with two limits as well to a plain one",
            "debit_limits",
            "debit",
            0.7,
        ),
        Target::new("HOT updates of wallets", "99 % or more", hot),
        Target::new(
            if options.long {
                "a backend's memory, 200,000 debits later"
            } else {
                "a backend's memory, 20,000 debits later"
            },
            "less than 1 MB more",
            grown,
        ),
        read("balance() of one customer", 0),
        read("wallet_balances of one customer", 1),
    ];
    println!("\n{:<50}{:>20}{:>14}", "Targets", "wanted", "seen");
    for target in targets {
        let (seen, verdict) = match &target.seen {
            Some((seen, true)) => (seen.as_str(), "reached"),
            Some((seen, false)) => (seen.as_str(), "MISSED"),
            None => ("", "not measured"),
        };
        println!(
            "  {:<48}{:>20}{seen:>14}   {verdict}",
            target.what, target.wanted
        );
    }
    Ok(())
}

fn introduce(client: &mut Client, options: &Options) -> Result<()> {
    let row = client.query_one(
        "SELECT current_setting('server_version'), current_setting('shared_buffers'), current_setting('fsync')",
        &[],
    )?;
    let version: &str = row.get(0);
    println!(
        "PostgreSQL {}, shared_buffers {}, fsync {}, synchronous_commit off; {} processors",
        version.split(' ').next().unwrap_or(version),
        row.get::<_, &str>(1),
        row.get::<_, &str>(2),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    println!(
        "One connection, prepared statements; {} rounds of {:.1} s a case, taking turns",
        options.rounds,
        options.slice.as_secs_f64()
    );
    Ok(())
}
