//! What is measured besides speed: WAL and HOT updates, a backend's memory, reads.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Options;
use crate::cases::{self, BY_HAND, DEBIT, Keys, median};
use crate::common::{Result, Scratch, millis, percentile, said, thousands};

/// Debits between two looks at the counters.
const WINDOW: u32 = 1000;

/// What a debit writes.
pub struct Wal {
    pub bytes: f64,
    /// The share of HOT updates, 0 to 1.
    pub hot: f64,
}

/// WAL and HOT updates of several stacks. Returns those of the stack of three.
pub fn wal(scratches: &[Scratch], options: &Options) -> Result<Wal> {
    println!("\nWritten by one debit");
    println!(
        "  {:<46}{:>10}{:>10}{:>10}{:>10}",
        "", "WAL bytes", "records", "images", "HOT"
    );
    let measure = |side: usize, what: &str, customer: &str, sql: &str, table: &str| {
        let what = format!("{}{what}, key", cases::side(side));
        written(&scratches[side], options, &what, customer, sql, table)
    };
    let of_debit = |side, what: &str, customer: &str| {
        let what = format!("debit_credits: {what}");
        measure(side, &what, customer, DEBIT, "credyt.wallets")
    };
    let wal = of_debit(0, "3 grants", "debit")?;
    if scratches.len() > 1 {
        of_debit(1, "3 grants", "debit")?;
    }
    of_debit(0, "30 grants", "debit_30")?;
    if options.long {
        of_debit(0, "100 grants", "debit_100")?;
    }
    measure(
        0,
        "by hand in PL/pgSQL: 3 grants",
        "plpgsql",
        BY_HAND,
        "bench.grants",
    )?;
    println!(
        "  After a checkpoint and {} debits: pg_stat_wal over windows of {} debits, the median of those",
        thousands(5 * WINDOW),
        thousands(WINDOW)
    );
    println!(
        "  without full-page images (images: seen in all windows); HOT: n_tup_hot_upd of n_tup_upd."
    );
    Ok(wal)
}

#[derive(Clone, Copy)]
struct Counters {
    records: f64,
    images: f64,
    bytes: f64,
    updates: f64,
    hot: f64,
}

fn written(
    scratch: &Scratch,
    options: &Options,
    what: &str,
    customer: &str,
    sql: &str,
    table: &str,
) -> Result<Wal> {
    let mut client = scratch.connect()?;
    client.batch_execute("SET synchronous_commit = off")?;
    let debit = client.prepare(sql).map_err(said(sql))?;
    let mut keys = Keys::new(7);
    let mut debits = |client: &mut Client, count: u32| -> Result<()> {
        for _ in 0..count {
            client
                .query_one(&debit, &[&customer, &keys.next()])
                .map_err(said(sql))?;
        }
        Ok(())
    };
    client
        .batch_execute("CHECKPOINT")
        .map_err(said("CHECKPOINT"))?;
    debits(&mut client, 5 * WINDOW)?;

    let mut windows = Vec::new();
    let first = counters(&mut client, table)?;
    let mut before = first;
    for _ in 0..options.wal_windows {
        debits(&mut client, WINDOW)?;
        let after = counters(&mut client, table)?;
        windows.push((
            after.images - before.images,
            after.bytes - before.bytes,
            after.records - before.records,
        ));
        before = after;
    }
    // Of a window with images, take the bytes of the pages off: what remains is a little too small, so only when there
    // is no other.
    let clean = windows.iter().any(|(images, ..)| *images == 0.0);
    windows.retain(|(images, ..)| !clean || *images == 0.0);
    let each = f64::from(WINDOW);
    let bytes = median(
        windows
            .iter()
            .map(|(images, bytes, _)| (bytes - images * 8192.0) / each)
            .collect(),
    );
    let records = median(windows.iter().map(|(.., records)| records / each).collect());
    let hot = (before.hot - first.hot) / (before.updates - first.updates).max(1.0);
    println!(
        "  {what:<46}{bytes:>10.0}{records:>10.1}{:>10.0}{:>8.2} %",
        before.images - first.images,
        hot * 100.0
    );
    Ok(Wal { bytes, hot })
}

/// The server's counters, with what this session has not reported yet.
fn counters(client: &mut Client, table: &str) -> Result<Counters> {
    client.execute("SELECT pg_stat_force_next_flush()", &[])?;
    let row = client.query_one(
        "SELECT wal_records::float8, wal_fpi::float8, wal_bytes::float8, n_tup_upd::float8, n_tup_hot_upd::float8
         FROM pg_stat_wal, pg_stat_all_tables WHERE relid = $1::text::regclass",
        &[&table],
    )?;
    Ok(Counters {
        records: row.get(0),
        images: row.get(1),
        bytes: row.get(2),
        updates: row.get(3),
        hot: row.get(4),
    })
}

/// How many bytes a backend grows by while it debits.
pub fn memory(scratch: &Scratch, options: &Options) -> Result<i64> {
    let mut client = scratch.connect()?;
    client.batch_execute("SET synchronous_commit = off")?;
    let debit = client.prepare(DEBIT).map_err(said(DEBIT))?;
    let mut keys = Keys::new(8);
    let bar = ProgressBar::new(u64::from(options.memory));
    let mut debits = |client: &mut Client, count: u32| -> Result<()> {
        for _ in 0..count {
            client
                .query_one(&debit, &[&"debit", &keys.next()])
                .map_err(said(DEBIT))?;
            bar.inc(1);
        }
        Ok(())
    };
    debits(&mut client, 2000)?;
    held(&mut client)?;
    let (contexts, resident) = held(&mut client)?;
    debits(&mut client, options.memory)?;
    bar.finish_and_clear();
    let (contexts_after, resident_after) = held(&mut client)?;
    let row = |what: &str, before: i64, after: i64| {
        let [before, after, more] =
            [before, after, after - before].map(|bytes| thousands(bytes / 1024));
        println!("  {what:<46}{before:>10}{after:>10}{more:>10}");
    };
    println!(
        "\n{:<48}{:>10}{:>10}{:>10}",
        format!(
            "A backend, {} debits in one session",
            thousands(options.memory)
        ),
        "kB",
        "after",
        "more"
    );
    row("memory contexts of Postgres", contexts, contexts_after);
    let mut grown = contexts_after - contexts;
    if let (Some(before), Some(after)) = (resident, resident_after) {
        row("private memory of the process (RssAnon)", before, after);
        grown = grown.max(after - before);
    }
    Ok(grown)
}

/// Bytes in the memory contexts of this backend; and those of the process, where the system tells.
fn held(client: &mut Client) -> Result<(i64, Option<i64>)> {
    let contexts = "SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts";
    let contexts = client.query_one(contexts, &[])?.get(0);
    let status = "SELECT substring(pg_read_file('/proc/self/status') from 'RssAnon:\\s*(\\d+) kB')::bigint * 1024";
    let resident = client
        .query_one(status, &[])
        .ok()
        .and_then(|row| row.get(0));
    Ok((contexts, resident))
}

/// Milliseconds that `balance()` and `wallet_balances` take for one customer in a ledger of many rows: medians.
pub fn reads(client: &mut Client, options: &Options) -> Result<[f64; 2]> {
    const CUSTOMERS: i32 = 1000;
    const CHUNK: i32 = 10_000;
    let fill = client.prepare(
        "SELECT count(*)
         FROM generate_series($1::int, $2::int) n, LATERAL credyt.debit_credits('reader ' || n % $3::int, 'image.generate')",
    )?;
    let grants = "SELECT count(*) FROM generate_series(0, $1::int - 1) n,
                       LATERAL generate_series(1, 3) g, LATERAL credyt.grant_credits('reader ' || n, 1000000, paid => 100 * g)";
    client
        .execute(grants, &[&CUSTOMERS])
        .map_err(said(grants))?;
    let bar = ProgressBar::new(options.rows.unsigned_abs().into());
    let began = Instant::now();
    for from in (0..options.rows).step_by(CHUNK as usize) {
        let to = (from + CHUNK).min(options.rows) - 1;
        client
            .execute(&fill, &[&from, &to, &CUSTOMERS])
            .map_err(said("filling the ledger"))?;
        bar.inc(CHUNK as u64);
    }
    bar.finish_and_clear();
    let rate = f64::from(options.rows) / began.elapsed().as_secs_f64();
    client
        .batch_execute("VACUUM ANALYZE credyt.wallets, credyt.ledger")
        .map_err(said("VACUUM"))?;
    let rows: i64 = client
        .query_one("SELECT count(*) FROM credyt.ledger", &[])?
        .get(0);
    println!(
        "\nReads in a ledger of {} rows ({} of them debited in bulk, {} a second)",
        thousands(rows),
        thousands(options.rows),
        thousands(rate as i64)
    );
    println!(
        "  {:<46}{:>10}{:>10}{:>10}",
        "ms, one customer of 1,000 at random", "p50", "p95", "p99"
    );
    let mut row = |what: &str, sql: &str| -> Result<f64> {
        let mut times = timed(client, sql, CUSTOMERS)?;
        times.sort_unstable();
        let [p50, p95, p99] = [50, 95, 99].map(|p| percentile(&times, p));
        println!(
            "  {what:<46}{:>10}{:>10}{:>10}",
            millis(p50),
            millis(p95),
            millis(p99)
        );
        Ok(p50.as_secs_f64() * 1000.0)
    };
    row("a bare round trip: SELECT $1", "SELECT $1::text")?;
    Ok([
        row(
            "SELECT * FROM credyt.balance($1)",
            "SELECT * FROM credyt.balance($1)",
        )?,
        row(
            "... FROM wallet_balances WHERE customer = $1",
            "SELECT * FROM credyt.wallet_balances WHERE customer = $1",
        )?,
    ])
}

fn timed(client: &mut Client, sql: &str, customers: i32) -> Result<Vec<Duration>> {
    let statement = client.prepare(sql).map_err(said(sql))?;
    let mut rng = StdRng::seed_from_u64(9);
    let mut times = Vec::new();
    for at in 0..2100 {
        let customer = format!("reader {}", rng.random_range(0..customers));
        let began = Instant::now();
        client
            .query_one(&statement, &[&customer])
            .map_err(said(sql))?;
        if at >= 100 {
            times.push(began.elapsed());
        }
    }
    Ok(times)
}
