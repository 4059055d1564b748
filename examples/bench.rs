//! What a debit costs, beside the least that any ledger must do and beside the same by hand.
//!
//! ```text
//! make bench                                                        (ARGS="--quick" and the like)
//! cargo run --release --example bench -- [--quick] [--only name,name] [--rounds 7] [--seconds 2] [--rows 1000000]
//!                                        [--settings "SQL to run first, such as another fillfactor"]
//! ```
//!
//! 1. Debits a second, case by case, through prepared statements over one connection with synchronous_commit off. The
//!    cases take turns of a tenth of a second, some seconds each in every round. What is shown are medians; a ratio is
//!    the median over the rounds of a case against the floor of the same round. The floor is one statement that updates
//!    a balance and inserts a row (`bench/floor.sql`); the version by hand is `bench/plpgsql.sql`. Every case has a
//!    customer of its own among 1,000 others, with more credits than it can spend. The grants of a stack differ in
//!    priority, end, credits and price, by a fixed seed, so that packed states do not compress.
//! 2. WAL and HOT updates a debit, 3. the memory of a backend, 4. reads in a large ledger, 5. contention: 1 to 64
//!    connections on one wallet; each says how it is measured.
//! 6. `--only wallets` and `--only ledger`: debits in a database of 1 thousand to 1 million wallets, and of 0.1 to 10 million
//!    ledger rows (`--sizes 100000,50000000`). They take minutes, so only when they are named.
//!
//! The server is the one of PGHOST, PGPORT, PGUSER and PGDATABASE, as a superuser; the benchmark makes a database of its
//! own there and drops it in the end. It writes nothing but its output.

#[path = "bench/cases.rs"]
mod cases;
mod common;
#[path = "bench/contention.rs"]
mod contention;
#[path = "bench/growth.rs"]
mod growth;
#[path = "bench/measures.rs"]
mod measures;
#[path = "common/plot.rs"]
mod plot;

use std::process::ExitCode;
use std::time::Duration;

use postgres::Client;

use cases::NAMES;
use common::{Result, Scratch, flag, option, said, thousands};

const USAGE: &str = "\
cargo run --release --example bench -- [--quick] [--only name,name] [--rounds 7] [--seconds 2] [--rows 1000000] [--sizes 100000,1000000,10000000] [--settings SQL]";

/// The parts after the cases that `--only` knows.
const PARTS: [&str; 4] = ["wal", "memory", "reads", "contention"];
/// Those that take minutes: only when they are named.
const SLOW: [&str; 2] = ["wallets", "ledger"];

pub struct Options {
    only: Vec<String>,
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
        let quick = flag(&mut arguments, "--quick");
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
            option(&mut arguments, "--seconds")?.unwrap_or(if quick { 0.4 } else { 2.0 });
        let options = Options {
            only,
            rounds: option(&mut arguments, "--rounds")?
                .unwrap_or(if quick { 3 } else { 7 })
                .max(1),
            slice: Duration::from_secs_f64(seconds.clamp(0.05, 600.0)),
            rows: option(&mut arguments, "--rows")?.unwrap_or(if quick {
                100_000
            } else {
                1_000_000
            }),
            settings: option(&mut arguments, "--settings")?,
            sizes: sizes
                .split(',')
                .map(str::parse)
                .collect::<std::result::Result<_, _>>()?,
            memory: if quick { 20_000 } else { 200_000 },
            wal_windows: if quick { 5 } else { 20 },
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
    let scratch = Scratch::create("bench")?;
    let mut client = scratch.connect()?;
    client
        .batch_execute("SET synchronous_commit = off")
        .map_err(said("synchronous_commit"))?;
    if let Some(settings) = &options.settings {
        client.batch_execute(settings).map_err(said(settings))?;
    }
    introduce(&mut client, options)?;
    let mut cases = cases::set_up(&mut client, options)?;

    let wal = options
        .wants("wal")
        .then(|| measures::wal(&scratch, options))
        .transpose()?;
    cases::run(&mut client, &mut cases, options)?;
    cases::print(&cases);
    let memory = options
        .wants("memory")
        .then(|| measures::memory(&scratch, options))
        .transpose()?;
    let reads = options
        .wants("reads")
        .then(|| measures::reads(&mut client, options))
        .transpose()?;

    if options.wants("contention") {
        contention::run(&scratch, options)?;
    }
    drop(client);
    drop(scratch);
    if options.asks_for("wallets") {
        growth::wallets(options)?;
    }
    if options.asks_for("ledger") {
        growth::ledger(options)?;
    }

    let ratio = |what, name: &str, of: &str, at_least: f64| {
        let seen = cases::ratio(&cases, name, of);
        Target::new(
            what,
            format!("{at_least:.2} or more"),
            seen.map(|seen| (format!("{seen:.2}"), seen >= at_least)),
        )
    };
    let read = |what, at: usize| {
        let seen = reads.map(|reads| (format!("{:.3} ms", reads[at]), reads[at] < 0.2));
        Target::new(what, "less than 0.2 ms", seen)
    };
    let bytes = wal
        .as_ref()
        .map(|wal| (format!("{:.0} bytes", wal.bytes), wal.bytes <= 650.0));
    let hot = wal
        .as_ref()
        .map(|wal| (format!("{:.2} %", wal.hot * 100.0), wal.hot >= 0.99));
    let grown = memory.map(|grown| {
        (
            format!("{} kB", thousands(grown / 1024)),
            grown < 1024 * 1024,
        )
    });
    let targets = [
        ratio(
            "debit_credits, 3 grants and a key, to the floor",
            "debit",
            "floor",
            0.9,
        ),
        ratio("the same to PL/pgSQL by hand", "debit", "plpgsql", 1.4),
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
        ratio(
            "debit_many, 5,000 over 2,000 wallets, to one by one",
            "debit_many",
            "debit_each",
            10.0,
        ),
        ratio("grant_many, the same", "grant_many", "grant_each", 10.0),
        Target::new(
            "WAL a debit, full-page images aside",
            "650 bytes or fewer",
            bytes,
        ),
        Target::new("HOT updates of wallets", "99 % or more", hot),
        Target::new(
            "a backend's memory, 200,000 debits later",
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
