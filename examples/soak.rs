//! A long run with everything at once, at a fixed rate: what becomes of latency, tables and memory.
//!
//! ```text
//! make soak                                                         (ARGS="--minutes 60")
//! cargo run --release --example soak -- [--minutes 3] [--rate 300] [--customers 2000] [--connections 4] [--snapshot 0.5]
//!                                       [--settings "SQL"] [--into target/soak]
//! ```
//!
//! Of a hundred calls 70 are debits, 12 holds, 8 captures, 2 releases, 4 refunds and 4 grants; three of four grants end
//! within two minutes, as do half of the holds. Every fifth call is about one and the same customer, the others are spread
//! evenly; a tenth of the customers has a limit, an alert and a top-up rule. Each minute `maintain()` is called and the
//! events are taken. From a third of the time on, another session keeps a snapshot open that it does not use, for
//! `--snapshot` minutes: as a forgotten transaction or a long report does. `--settings` is SQL that is run before the
//! tables are filled, to try other storage parameters.
//!
//! Latency is that of the call as its client sees it, synchronous_commit as the server has it. All samples go to soak.csv
//! and soak.svg in the folder `--into`; `verify()` has the last word.

mod common;
#[path = "common/plot.rs"]
mod plot;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Result, Scratch, millis, option, percentile, said, thousands};
use plot::Plot;
use postgres::{Client, Statement};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

const HOT: &str = "customer 0";

struct Options {
    length: Duration,
    snapshot: Duration,
    rate: f64,
    customers: i32,
    connections: u64,
    settings: Option<String>,
    into: String,
}

impl Options {
    fn read() -> Result<Options> {
        let mut arguments: Vec<String> = std::env::args().skip(1).collect();
        let minutes = |minutes: f64| Duration::from_secs_f64((minutes * 60.0).clamp(1.0, 1e6));
        let length = minutes(option(&mut arguments, "--minutes")?.unwrap_or(3.0));
        let options = Options {
            length,
            snapshot: option(&mut arguments, "--snapshot")?.map_or(length / 6, minutes),
            rate: option(&mut arguments, "--rate")?.unwrap_or(300.0),
            customers: option(&mut arguments, "--customers")?
                .unwrap_or(2000)
                .max(10),
            connections: option(&mut arguments, "--connections")?.unwrap_or(4).max(1),
            settings: option(&mut arguments, "--settings")?,
            into: option(&mut arguments, "--into")?.unwrap_or_else(|| "target/soak".to_owned()),
        };
        match arguments.first() {
            Some(argument) => Err(format!("{argument}: no such option").into()),
            None => Ok(options),
        }
    }

    /// When the snapshot is taken and when it is let go.
    fn held(&self) -> (Duration, Duration) {
        (self.length / 3, self.length / 3 + self.snapshot)
    }
}

/// What all threads know.
struct Run<'a> {
    options: &'a Options,
    scratch: &'a Scratch,
    began: Instant,
    /// Since the last sample: whether it was a debit of the hot customer, and how long it took.
    debits: Mutex<Vec<(bool, Duration)>>,
    calls: AtomicU64,
    refused: AtomicU64,
    /// A client has failed.
    over: AtomicBool,
}

impl Run<'_> {
    fn goes_on(&self) -> bool {
        self.began.elapsed() < self.options.length && !self.over.load(Ordering::Relaxed)
    }
}

fn main() -> ExitCode {
    match Options::read().and_then(|options| soak(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Every invariant held in the end.
fn soak(options: &Options) -> Result<bool> {
    let scratch = Scratch::create("soak")?;
    let mut client = scratch.connect()?;
    set_up(&mut client, options)?;
    println!(
        "{} calls a second over {} connections for {:.0} minutes, {} customers; from minute {:.1} to {:.1} an idle snapshot",
        options.rate,
        options.connections,
        options.length.as_secs_f64() / 60.0,
        thousands(options.customers),
        options.held().0.as_secs_f64() / 60.0,
        options.held().1.as_secs_f64() / 60.0,
    );
    let run = Run {
        options,
        scratch: &scratch,
        began: Instant::now(),
        debits: Mutex::default(),
        calls: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        over: AtomicBool::new(false),
    };
    let watched = |result: Result<()>| {
        if result.is_err() {
            run.over.store(true, Ordering::Relaxed);
        }
        result
    };
    let pids = Mutex::new(Vec::new());
    let (samples, ended) = thread::scope(|scope| -> Result<(Vec<Sample>, Result<()>)> {
        let mut threads: Vec<_> = (0..options.connections)
            .map(|nth| {
                let (run, pids) = (&run, &pids);
                scope.spawn(move || watched(calls(run, nth, pids)))
            })
            .collect();
        threads.push(scope.spawn(|| watched(maintenance(&run))));
        threads.push(scope.spawn(|| watched(old_snapshot(&run))));
        let samples = watch(&run, &mut client, &pids);
        run.over.store(samples.is_err(), Ordering::Relaxed);
        let mut ended = Ok(());
        for thread in threads {
            ended = ended.and(thread.join().map_err(|_| "a thread panicked")?);
        }
        // What was seen is worth its report, also where a client has failed.
        Ok((samples?, ended))
    })?;
    report(&run, &samples)?;
    ended?;
    let wrong = client
        .query("SELECT v::text FROM credyt.verify() v", &[])
        .map_err(said("verify"))?;
    for row in wrong.iter().take(20) {
        println!("  {}", row.get::<_, &str>(0));
    }
    println!("\nverify(): {} findings", wrong.len());
    Ok(wrong.is_empty())
}

fn set_up(client: &mut Client, options: &Options) -> Result<()> {
    if let Some(settings) = &options.settings {
        client.batch_execute(settings).map_err(said(settings))?;
    }
    let sql = format!(
        "SELECT credyt.create_asset('credits');
         SELECT credyt.set_price('image.generate', '1');
         SELECT count(*) FROM generate_series(0, {0} - 1) n,
             LATERAL credyt.grant_credits('customer ' || n, 1000000, paid => 20000, priority => 200) AS large,
             LATERAL credyt.grant_credits('customer ' || n, 20, 'promotional') AS small;
         SELECT count(*) FROM generate_series(0, {0} - 1, 10) n,
             LATERAL credyt.set_alert('customer ' || n, 999990),
             LATERAL credyt.set_topup('customer ' || n, 999950, 100),
             LATERAL credyt.set_limit('customer ' || n, 'user:*', 1000000, 'hour')",
        options.customers
    );
    client.batch_execute(&sql).map_err(said("setting up"))?;
    for sql in ["VACUUM ANALYZE", "CHECKPOINT"] {
        client.batch_execute(sql).map_err(said(sql))?;
    }
    Ok(())
}

// The load.

struct Calls {
    debit: Statement,
    authorize: Statement,
    capture: Statement,
    release: Statement,
    refund: Statement,
    grant: Statement,
    rng: StdRng,
    /// The last ones, with their customers.
    debits: VecDeque<(String, Uuid)>,
    holds: VecDeque<(String, Uuid)>,
}

fn calls(run: &Run, nth: u64, pids: &Mutex<Vec<i32>>) -> Result<()> {
    let mut client = run.scratch.connect()?;
    let pid = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    pids.lock().map_err(|_| "a thread panicked")?.push(pid);
    let mut prepare = |sql: &str| client.prepare(sql).map_err(said(sql));
    let mut calls = Calls {
        debit: prepare(
            "SELECT id FROM credyt.debit_credits($1, 'image.generate', $2::int, scopes => ARRAY[$3], idempotency_key => $4)",
        )?,
        authorize: prepare(
            "SELECT id FROM credyt.authorize($1, 'image.generate', $2::int, ttl_seconds => $3, idempotency_key => $4)",
        )?,
        capture: prepare("SELECT id FROM credyt.capture($1, $2, 1)")?,
        release: prepare("SELECT id FROM credyt.release($1, $2)")?,
        refund: prepare("SELECT id FROM credyt.refund($1, $2, 0.5)")?,
        grant: prepare(
            "SELECT id FROM credyt.grant_credits($1, 20, $2, paid => 1, expires_at => clock_timestamp() + $3::int * interval '1 second')",
        )?,
        rng: StdRng::seed_from_u64(nth),
        debits: VecDeque::new(),
        holds: VecDeque::new(),
    };
    let pause = Duration::from_secs_f64(run.options.connections as f64 / run.options.rate);
    let mut next = Instant::now() + pause.mul_f64(nth as f64 / run.options.connections as f64);
    while run.goes_on() {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        // Who has fallen behind does not make up for it in a burst.
        next = (next + pause).max(Instant::now());
        match calls.call(&mut client, run) {
            Ok(()) => {}
            // Too few credits, a hold that is over, nothing left to refund: answers, too.
            Err(error)
                if error
                    .code()
                    .is_some_and(|code| code.code().starts_with("WC")) =>
            {
                run.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => return Err(common::explain(&error).into()),
        }
        run.calls.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

impl Calls {
    fn call(&mut self, client: &mut Client, run: &Run) -> std::result::Result<(), postgres::Error> {
        let customer = match self.rng.random_range(0..5) {
            0 => HOT.to_owned(),
            _ => format!(
                "customer {}",
                self.rng.random_range(1..run.options.customers)
            ),
        };
        let key = Uuid::from_u128(self.rng.random()).to_string();
        let quantity: i32 = self.rng.random_range(1..4);
        match self.rng.random_range(0..100) {
            ..70 => {
                let user = format!("user:{}", self.rng.random_range(0..20));
                let began = Instant::now();
                let row = client.query_one(&self.debit, &[&customer, &quantity, &user, &key])?;
                if let Ok(mut debits) = run.debits.lock() {
                    debits.push((customer == HOT, began.elapsed()));
                }
                remember(&mut self.debits, customer, row.try_get(0)?);
            }
            70..82 => {
                let seconds: i32 = self.rng.random_range(5..120);
                let row =
                    client.query_one(&self.authorize, &[&customer, &quantity, &seconds, &key])?;
                remember(&mut self.holds, customer, row.try_get(0)?);
            }
            82..92 => {
                let Some((customer, hold)) = self.holds.pop_front() else {
                    return Ok(());
                };
                let how = if self.rng.random_range(0..5) == 0 {
                    &self.release
                } else {
                    &self.capture
                };
                client.query_one(how, &[&customer, &hold])?;
            }
            92..96 => {
                let Some((customer, debit)) = self.debits.pop_front() else {
                    return Ok(());
                };
                client.query_one(&self.refund, &[&customer, &debit])?;
            }
            _ => {
                let ends = self.rng.random_range(0..4) > 0;
                let seconds = ends.then(|| self.rng.random_range(20..120));
                let kind = if ends { "promotional" } else { "purchased" };
                client.query_one(&self.grant, &[&customer, &kind, &seconds])?;
            }
        }
        Ok(())
    }
}

fn remember(list: &mut VecDeque<(String, Uuid)>, customer: String, id: Uuid) {
    list.push_back((customer, id));
    if list.len() > 100 {
        list.pop_front();
    }
}

/// Once a minute what a cron job would do.
fn maintenance(run: &Run) -> Result<()> {
    let mut client = run.scratch.connect()?;
    let mut next = Duration::from_secs(10);
    while run.goes_on() {
        thread::sleep(Duration::from_millis(200));
        if run.began.elapsed() < next {
            continue;
        }
        next += Duration::from_secs(60);
        let maintain = "SELECT m.booked = 1000 OR m.rolled_up > 0 FROM credyt.maintain() m";
        let events = "SELECT events > 0 FROM credyt.ack_events(ARRAY(SELECT id FROM credyt.take_events(1000)))";
        for call in [maintain, events] {
            while run.goes_on() && client.query_one(call, &[]).map_err(said(call))?.get(0) {}
        }
    }
    Ok(())
}

/// A session that looks once and then forgets to end its transaction.
fn old_snapshot(run: &Run) -> Result<()> {
    let (from, until) = run.options.held();
    let wait_for = |moment| {
        while run.goes_on() && run.began.elapsed() < moment {
            thread::sleep(Duration::from_millis(100));
        }
    };
    wait_for(from);
    let mut client = run.scratch.connect()?;
    let look = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM credyt.wallets";
    client.batch_execute(look).map_err(said(look))?;
    wait_for(until);
    client.batch_execute("ROLLBACK").map_err(said("ROLLBACK"))
}

// What is seen of it.

/// The tables that are looked at.
const TABLES: [&str; 6] = [
    "wallets",
    "ledger",
    "authorizations",
    "limit_uses",
    "events",
    "rollup_progress",
];

#[derive(Clone, Copy, Default)]
struct Table {
    bytes: i64,
    indexes: i64,
    dead: i64,
    updates: i64,
    hot: i64,
    vacuums: i64,
}

struct Sample {
    minutes: f64,
    calls: u64,
    /// p50 and p99 of the debits of the hot customer, and of the others.
    hot: [Duration; 2],
    others: [Duration; 2],
    tables: [Table; TABLES.len()],
    /// Private memory of the calling backends, in bytes: the largest.
    memory: i64,
    wal: i64,
}

/// The number of samples.
const SAMPLES: u32 = 180;

fn watch(run: &Run, client: &mut Client, pids: &Mutex<Vec<i32>>) -> Result<Vec<Sample>> {
    let tables = "
        SELECT pg_table_size(c.oid), pg_indexes_size(c.oid), coalesce(s.n_dead_tup, 0), coalesce(s.n_tup_upd, 0),
               coalesce(s.n_tup_hot_upd, 0), coalesce(s.vacuum_count + s.autovacuum_count, 0)
        FROM unnest($1::text[]) WITH ORDINALITY t (name, place)
        JOIN pg_class c ON c.oid = ('credyt.' || t.name)::regclass LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
        ORDER BY t.place";
    let tables = client.prepare(tables).map_err(said(tables))?;
    let memory = "
        SELECT coalesce(max(substring(pg_read_file('/proc/' || pid || '/status') from 'RssAnon:\\s*(\\d+) kB')::bigint) * 1024, 0)
        FROM unnest($1::int[]) pid";
    let memory = client.prepare(memory).map_err(said(memory))?;
    let mut samples = Vec::new();
    let mut before = 0;
    let every = run.options.length / SAMPLES;
    while run.goes_on() {
        let due = every * (samples.len() as u32 + 1);
        thread::sleep(due.saturating_sub(run.began.elapsed()));
        let debits = std::mem::take(&mut *run.debits.lock().map_err(|_| "a thread panicked")?);
        let calls = run.calls.load(Ordering::Relaxed);
        let pids = pids.lock().map_err(|_| "a thread panicked")?.clone();
        let mut seen = [Table::default(); TABLES.len()];
        for (table, row) in seen
            .iter_mut()
            .zip(client.query(&tables, &[&TABLES.as_slice()])?)
        {
            *table = Table {
                bytes: row.get(0),
                indexes: row.get(1),
                dead: row.get(2),
                updates: row.get(3),
                hot: row.get(4),
                vacuums: row.get(5),
            };
        }
        samples.push(Sample {
            minutes: run.began.elapsed().as_secs_f64() / 60.0,
            calls: calls - before,
            hot: percentiles(&debits, true),
            others: percentiles(&debits, false),
            tables: seen,
            // Where the system does not tell, it is nothing.
            memory: client
                .query_one(&memory, &[&pids])
                .map_or(0, |row| row.get(0)),
            wal: client
                .query_one(
                    "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint",
                    &[],
                )?
                .get(0),
        });
        before = calls;
    }
    Ok(samples)
}

fn percentiles(debits: &[(bool, Duration)], hot: bool) -> [Duration; 2] {
    let mut times: Vec<Duration> = debits
        .iter()
        .filter(|debit| debit.0 == hot)
        .map(|debit| debit.1)
        .collect();
    times.sort_unstable();
    [50, 99].map(|p| percentile(&times, p))
}

fn report(run: &Run, samples: &[Sample]) -> Result<()> {
    std::fs::create_dir_all(&run.options.into)?;
    let write = |name: &str, text: String| {
        let path = format!("{}/{name}", run.options.into);
        std::fs::write(&path, text).map_err(|error| format!("{path}: {error}"))
    };
    write("soak.csv", csv(samples))?;
    write("soak.svg", picture(run, samples)?)?;

    let (from, until) = run.options.held();
    let at = |moment: Duration| {
        let minutes = moment.as_secs_f64() / 60.0;
        samples
            .iter()
            .position(|sample| sample.minutes > minutes)
            .unwrap_or(samples.len())
    };
    let (from, until) = (at(from), at(until));
    let half = (from + until) / 2;
    let settled = until + (samples.len() - until) / 4;
    let phases = [
        ("before the snapshot", 1.min(from)..from),
        ("its second half", half..until),
        ("from a while after", settled..samples.len()),
    ];
    println!(
        "\n{:<24}{:>12}{:>10}{:>10}{:>12}{:>10}{:>12}{:>12}",
        "Medians of the samples",
        "hot p50",
        "p99",
        "worst",
        "others p50",
        "p99",
        "worst",
        "calls/s"
    );
    for (what, samples) in phases.map(|(what, range)| (what, &samples[range])) {
        if samples.is_empty() {
            continue;
        }
        let of = |pick: &dyn Fn(&Sample) -> Duration, p: usize| {
            let mut times: Vec<Duration> = samples.iter().map(pick).collect();
            times.sort_unstable();
            millis(percentile(&times, p))
        };
        let calls: u64 = samples.iter().map(|sample| sample.calls).sum();
        let seconds = run.options.length.as_secs_f64() / f64::from(SAMPLES) * samples.len() as f64;
        println!(
            "  {what:<22}{:>12}{:>10}{:>10}{:>12}{:>10}{:>12}{:>12.0}",
            of(&|s| s.hot[0], 50),
            of(&|s| s.hot[1], 50),
            of(&|s| s.hot[1], 100),
            of(&|s| s.others[0], 50),
            of(&|s| s.others[1], 50),
            of(&|s| s.others[1], 100),
            calls as f64 / seconds
        );
    }
    println!(
        "  ms; hot: one customer that every fifth call is about; worst: the highest p99 of a sample"
    );

    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return Ok(());
    };
    println!(
        "\n{:<18}{:>10}{:>12}{:>10}{:>12}{:>12}{:>12}{:>12}{:>10}",
        "Tables",
        "kB first",
        "at release",
        "last",
        "indexes",
        "dead most",
        "dead last",
        "updates",
        "HOT"
    );
    let release = &samples[until.min(samples.len() - 1)];
    for (nth, name) in TABLES.iter().enumerate() {
        let [first, release, last] = [first, release, last].map(|sample| sample.tables[nth]);
        let most = samples
            .iter()
            .map(|sample| sample.tables[nth].dead)
            .max()
            .unwrap_or(0);
        let updates = last.updates - first.updates;
        let hot = match updates {
            0 => String::new(),
            _ => format!(
                "{:.1} %",
                (last.hot - first.hot) as f64 * 100.0 / updates as f64
            ),
        };
        println!(
            "  {name:<16}{:>10}{:>12}{:>10}{:>12}{:>12}{:>12}{:>12}{hot:>10}   {} vacuums",
            thousands(first.bytes / 1024),
            thousands(release.bytes / 1024),
            thousands(last.bytes / 1024),
            thousands(last.indexes / 1024),
            thousands(most),
            thousands(last.dead),
            thousands(updates),
            last.vacuums
        );
    }
    let calls = run.calls.load(Ordering::Relaxed);
    println!(
        "\nThe largest backend: {} kB at first, {} in the middle, {} at last (RssAnon). {} bytes of WAL a call. {} calls, {} refused.",
        thousands(first.memory / 1024),
        thousands(samples[samples.len() / 2].memory / 1024),
        thousands(last.memory / 1024),
        thousands((last.wal - first.wal) / (calls as i64).max(1)),
        thousands(calls),
        thousands(run.refused.load(Ordering::Relaxed))
    );
    println!(
        "Written to {0}/soak.csv and {0}/soak.svg.",
        run.options.into
    );
    Ok(())
}

fn csv(samples: &[Sample]) -> String {
    let mut text = String::from(
        "minutes,calls,hot_p50_ms,hot_p99_ms,others_p50_ms,others_p99_ms,memory_bytes,wal_bytes",
    );
    for table in TABLES {
        for what in [
            "bytes",
            "index_bytes",
            "dead",
            "updates",
            "hot_updates",
            "vacuums",
        ] {
            text += &format!(",{table}_{what}");
        }
    }
    for sample in samples {
        let [a, b] = sample.hot.map(millis);
        let [c, d] = sample.others.map(millis);
        text += &format!(
            "\n{:.3},{},{a},{b},{c},{d},{},{}",
            sample.minutes, sample.calls, sample.memory, sample.wal
        );
        for table in &sample.tables {
            text += &format!(
                ",{},{},{},{},{},{}",
                table.bytes, table.indexes, table.dead, table.updates, table.hot, table.vacuums
            );
        }
    }
    text + "\n"
}

fn picture(run: &Run, samples: &[Sample]) -> Result<String> {
    let (from, until) = run.options.held();
    let held = from.as_secs_f64() / 60.0..until.as_secs_f64() / 60.0;
    let line = |name: &str, value: &dyn Fn(&Sample) -> f64| {
        let points = samples.iter().map(|sample| (sample.minutes, value(sample)));
        (name.to_owned(), points.collect())
    };
    let ms = |duration: Duration| (duration.as_secs_f64() * 1000.0).max(0.01);
    let tables = |value: &dyn Fn(&Table) -> f64| {
        let mut lines = Vec::new();
        for (nth, name) in TABLES.iter().enumerate() {
            lines.push(line(name, &|sample| value(&sample.tables[nth])));
        }
        lines
    };
    let without_ledger = |mut lines: Vec<(String, Vec<(f64, f64)>)>| {
        lines.retain(|(name, _)| name != "ledger");
        lines
    };
    let plot = |title, y, log, lines| Plot {
        title,
        x: "minutes",
        y,
        log: (false, log),
        shade: Some((held.clone(), "an idle snapshot is held")),
        lines,
    };
    plot::svg(&[
        plot(
            "Latency of a debit",
            "ms",
            true,
            vec![
                line("hot customer, p99", &|sample| ms(sample.hot[1])),
                line("hot customer, p50", &|sample| ms(sample.hot[0])),
                line("others, p99", &|sample| ms(sample.others[1])),
                line("others, p50", &|sample| ms(sample.others[0])),
            ],
        ),
        plot(
            "Dead rows",
            "rows",
            false,
            without_ledger(tables(&|table| table.dead as f64)),
        ),
        plot(
            "Size of the tables, without indexes and ledger",
            "MB",
            false,
            without_ledger(tables(&|table| table.bytes as f64 / 1e6)),
        ),
        plot(
            "Private memory of the largest backend",
            "MB",
            false,
            vec![line("RssAnon", &|sample| sample.memory as f64 / 1e6)],
        ),
    ])
}
