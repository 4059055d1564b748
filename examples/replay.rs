//! Replays an hour of real LLM traffic at the real rates of five models on a wallet per customer, over several connections
//! at once, and checks every answer.
//!
//! ```text
//! make replay TRACE=AzureLLMInferenceTrace_conv.csv RATES=genai_prices.json
//! cargo run --release --example replay -- <trace.csv> [--rates <genai_prices.json>] [--customers 500] [--connections 8]
//!                                                     [--seed 1] [--limit N]
//! ```
//!
//! The trace is one of the Azure Public Dataset's "Azure LLM inference trace 2023": TIMESTAMP, ContextTokens,
//! GeneratedTokens; its rows are sent as fast as they are answered. It names no customers and no models, so those are
//! synthetic, and so is the way in which each request is charged and its cost becomes known: see `replay/plan.rs`. The
//! rates are those of a data.json of the genai-prices project, genai_prices.json beside the trace unless said otherwise.
//! The server is the one of PGHOST, PGPORT, PGUSER and PGDATABASE; the replay makes a database of its own there and drops
//! it in the end. While it runs, one more connection calls `credyt.maintain()`.
//!
//! It ends with code 0 when every answer was as expected, every cell of the reports of margin equals the sum that the
//! program made itself (`replay/book.rs`), and `credyt.verify()` finds nothing.

#[path = "replay/book.rs"]
mod book;
#[path = "replay/calls.rs"]
mod calls;
#[path = "replay/checks.rs"]
mod checks;
mod common;
#[path = "replay/plan.rs"]
mod plan;
#[path = "replay/shop.rs"]
mod shop;
#[path = "replay/vendors.rs"]
mod vendors;

use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use postgres::Client;
use rust_decimal::Decimal;

use checks::{check, fixed, verdict};
use common::{Result, Scratch, millis, option, percentile, said, thousands};
use plan::{ACTIONS, BILLS, OWN_PRICE, Plan, SCALE, WAYS, read_trace};
use shop::{Shop, Tally};
use vendors::{MISSING, Rates};

const USAGE: &str = "\
cargo run --release --example replay -- <trace.csv> [--rates <genai_prices.json>] [--customers 500] [--connections 8]
                                                    [--seed 1] [--limit N]";

/// How long maintenance rests.
const MAINTAIN_EVERY: Duration = Duration::from_millis(100);

struct Options {
    trace: String,
    rates: Option<String>,
    customers: usize,
    connections: usize,
    seed: u64,
    limit: usize,
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match replay(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nThe replay ended early. {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = Options {
        rates: option(&mut arguments, "--rates")?,
        customers: option(&mut arguments, "--customers")?.unwrap_or(500).max(1),
        connections: option(&mut arguments, "--connections")?.unwrap_or(8).max(1),
        seed: option(&mut arguments, "--seed")?.unwrap_or(1),
        limit: option(&mut arguments, "--limit")?.unwrap_or(usize::MAX),
        trace: arguments.pop().ok_or("Which trace?")?,
    };
    match arguments.first() {
        Some(argument) => Err(format!("{argument}: no such option").into()),
        None => Ok(options),
    }
}

fn replay(options: &Options) -> Result<bool> {
    let mut rows = read_trace(&options.trace)?;
    rows.truncate(options.limit);
    let beside = Path::new(&options.trace).with_file_name("genai_prices.json");
    let rates = options.rates.as_deref().map_or(beside.as_path(), Path::new);
    let rates = Rates::read(&rates.to_string_lossy())?;
    let plan = Plan::make(&rows, rates, options.customers, options.seed);
    let scratch = Scratch::create("replay")?;
    let mut client = scratch.connect()?;

    println!(
        "Replay of {} requests on {}\n",
        thousands(rows.len()),
        server(&mut client)?
    );
    introduce(&plan, options);
    let paid = set_up(&mut client, &plan)?;
    let (mut tally, took) = run(&scratch, &plan, options.connections)?;
    report(&tally, took, options.connections);
    let learned = learn_the_missing_rate(&mut client, &plan, &mut tally)?;
    Ok(check(&mut client, &tally, paid)? && learned)
}

fn introduce(plan: &Plan, options: &Options) {
    println!(
        "  Sizes and order are those of the trace, prices those of the vendors. The rest is synthetic, since the trace
  names neither customers nor models: each request is given to one of {} customers by Zipf's law (seed {}),
  and to one of these models, with their prices in dollars per million tokens; a part of some questions is
  said to have been cached.\n",
        options.customers, options.seed
    );
    for line in plan.rates.lines() {
        println!("  {line}");
    }
    let shares = |title: &str, shares: &[(u32, &str)]| {
        println!("\n  {title}");
        for (share, label) in shares {
            println!("  {:>5.1} %  {label}", f64::from(*share) / 10.0);
        }
    };
    shares(
        "It is charged in one of these ways:",
        &WAYS.map(|(_, share, label)| (share, label)),
    );
    shares(
        "What it costs becomes known in one of these, as far as the way it is charged allows:",
        &BILLS.map(|(_, share, label)| (share, label)),
    );
    println!();
}

fn server(client: &mut Client) -> Result<String> {
    let row = client.query_one(
        "SELECT current_setting('server_version'), current_setting('synchronous_commit')",
        &[],
    )?;
    let version: &str = row.get(0);
    let version = version.split(' ').next().unwrap_or(version);
    Ok(format!(
        "PostgreSQL {version}, synchronous_commit {}",
        row.get::<_, &str>(1)
    ))
}

/// The asset, the rates, the prices, the wallets. Returns the money that was paid for what the customers start with.
fn set_up(client: &mut Client, plan: &Plan) -> Result<Decimal> {
    client
        .execute(
            "SELECT credyt.create_asset('credits', scale => $1)",
            &[&(SCALE as i32)],
        )
        .map_err(said("create_asset"))?;
    import(client, &plan.rates)?;
    let price = "SELECT credyt.set_price($1, $2, customer => $3)";
    for action in &ACTIONS {
        client
            .execute(price, &[&action.name, &action.price(), &None::<&str>])
            .map_err(said(price))?;
    }
    let largest = plan.customers[0].name.as_str();
    client
        .execute(price, &[&OWN_PRICE.name, &OWN_PRICE.price(), &largest])
        .map_err(said(price))?;

    let open = "SELECT credyt.open_wallet($1, overdraft_limit => $2::text::numeric)";
    let grant = "
        SELECT id FROM credyt.grant_credits($1, $2::text::numeric, kind => $3, paid => $4::text::numeric,
            effective_at => clock_timestamp() + make_interval(secs => $5),
            expires_at => clock_timestamp() + make_interval(secs => $6),
            priority => $7, applies_to => $8, idempotency_key => $9)";
    let grant = client.prepare(grant).map_err(said(grant))?;
    let mut paid = Decimal::ZERO;
    for customer in plan
        .customers
        .iter()
        .filter(|customer| !customer.grants.is_empty())
    {
        if !customer.overdraft_limit.is_zero() {
            let limit = customer.overdraft_limit.to_string();
            client
                .execute(open, &[&customer.name, &limit])
                .map_err(said(open))?;
        }
        for (number, given) in customer.grants.iter().enumerate() {
            client
                .execute(
                    &grant,
                    &[
                        &customer.name,
                        &given.credits.to_string(),
                        &given.kind,
                        &given.paid.to_string(),
                        &given.starts_in,
                        &given.ends_in,
                        &given.priority,
                        &given.applies_to,
                        &format!("start {number}"),
                    ],
                )
                .map_err(said("grant_credits"))?;
            paid += given.paid;
        }
    }
    client.batch_execute(
        "CREATE SCHEMA app;
         CREATE TABLE app.replies (request bigint PRIMARY KEY, customer text NOT NULL, debit uuid NOT NULL)",
    )?;
    Ok(paid)
}

/// The rates of all vendors; twice, since what is there already changes nothing.
fn import(client: &mut Client, rates: &Rates) -> Result<()> {
    let sql = "SELECT added, changed, unchanged, skipped FROM credyt.import_vendor_rates($1)";
    let mut import = || -> Result<[i32; 4]> {
        let row = client.query_one(sql, &[&rates.file]).map_err(said(sql))?;
        Ok([
            row.try_get(0)?,
            row.try_get(1)?,
            row.try_get(2)?,
            row.try_get(3)?,
        ])
    };
    let began = Instant::now();
    let [added, changed, unchanged, skipped] = import()?;
    println!(
        "Imported the rates of {} models in {} ms; {skipped} more have no price\n",
        thousands(added),
        millis(began.elapsed())
    );
    let again = import()?;
    if (changed, unchanged) != (0, 0) || again != [0, 0, added, skipped] {
        return Err(format!("{sql} again: {again:?} after {added} added").into());
    }
    Ok(())
}

/// A vendor tells what its new model costs: sets that and corrects what was booked without it.
fn learn_the_missing_rate(client: &mut Client, plan: &Plan, tally: &mut Tally) -> Result<bool> {
    let (vendor, model) = (MISSING.vendor, MISSING.id);
    let set = "SELECT version FROM credyt.set_vendor_rate($1, $2, $3)";
    client
        .query_one(set, &[&vendor, &model, &plan.rates.missing()])
        .map_err(said(set))?;
    let recost = "SELECT cost_before IS NULL AND cost_after IS NOT NULL FROM credyt.recost($1, $2, dry_run => $3)";
    let mut recost = |dry_run: bool| -> Result<Option<usize>> {
        let rows = client
            .query(recost, &[&vendor, &model, &dry_run])
            .map_err(said(recost))?;
        Ok(rows.iter().all(|row| row.get(0)).then_some(rows.len()))
    };
    let began = Instant::now();
    let corrected = [recost(true)?, recost(false)?, recost(false)?];
    let took = began.elapsed().as_secs_f64();
    let rated = tally.book.rate();
    let as_expected = corrected == [Some(rated), Some(rated), Some(0)];
    println!("\nThe rate of {model} is set, {took:.1} s");
    verdict(
        &format!(
            "{} costs corrected by credyt.recost, once",
            thousands(rated)
        ),
        &match as_expected {
            true => "as expected".into(),
            false => format!("DIFFERENT: dry run, run and run again: {corrected:?}"),
        },
    );
    Ok(as_expected)
}

/// All requests, each taken by the next connection that is free.
fn run(scratch: &Scratch, plan: &Plan, connections: usize) -> Result<(Tally, Duration)> {
    let bar = Progress::new(plan.requests.len());
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let one = || -> Result<Tally> {
        let mut shop = Shop::open(scratch, plan)?;
        while let Some(request) = plan.requests.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            shop.serve(request)?;
            bar.one_more();
        }
        shop.close()?;
        Ok(shop.tally)
    };
    let one = || one().inspect_err(|_| stop.store(true, Ordering::Relaxed));
    let done = AtomicBool::new(false);
    let panicked = || Err("a connection panicked".into());
    let began = Instant::now();
    let tallies: Vec<Result<Tally>> = thread::scope(|scope| {
        let maintenance = scope.spawn(|| maintain(scratch, &done));
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(one)).collect();
        let join =
            |worker: ScopedJoinHandle<Result<Tally>>| worker.join().unwrap_or_else(|_| panicked());
        let mut tallies: Vec<_> = workers.into_iter().map(join).collect();
        done.store(true, Ordering::Relaxed);
        tallies.push(join(maintenance));
        tallies
    });
    let took = began.elapsed();
    bar.finish();
    let mut all = Tally::default();
    for tally in tallies {
        all.add(tally?);
    }
    Ok((all, took))
}

/// Takes what the others book into the rollups, while they do.
fn maintain(scratch: &Scratch, done: &AtomicBool) -> Result<Tally> {
    let sql = "SELECT rolled_up FROM credyt.maintain(100)";
    let mut client = scratch.connect()?;
    let mut tally = Tally::default();
    while !done.load(Ordering::Relaxed) {
        let row = client.query_one(sql, &[]).map_err(said(sql))?;
        tally.count("calls of maintain");
        let rows: i64 = row.try_get(0)?;
        *tally.counts.entry("rows rolled up").or_default() += rows.unsigned_abs();
        thread::sleep(MAINTAIN_EVERY);
    }
    Ok(tally)
}

/// A bar on a terminal, a line for every tenth elsewhere.
struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    fn new(requests: usize) -> Progress {
        let bar = ProgressBar::new(requests as u64);
        let style = ProgressStyle::with_template(
            "  {bar:40} {human_pos:>7} of {human_len}  {per_sec:>10}  {eta} left",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress {
            bar,
            quiet: !stderr().is_terminal(),
        }
    }

    fn one_more(&self) {
        self.bar.inc(1);
        let (at, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
        if self.quiet && at % (all / 10).max(1) == 0 {
            eprintln!("  {:>7} of {}", thousands(at), thousands(all));
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn report(tally: &Tally, took: Duration, connections: usize) {
    let row = |label: &str, value: String| println!("  {label:<32}{value:>14}");
    let requests = tally.counted("requests");
    let calls: usize = tally.times.values().map(Vec::len).sum();
    let sums = tally.book.sums(&[]);
    let total = sums.values().next().cloned().unwrap_or_default();

    println!("What happened");
    row("requests", thousands(requests));
    row("approved", thousands(tally.counted("approved")));
    for (reason, count) in &tally.declines {
        row(&format!("declined, {reason}"), thousands(*count));
    }
    for what in [
        "captures",
        "captures in parts",
        "late captures",
        "above the hold, refused",
        "above the hold, forgiven",
        "above the hold, owed",
        "extensions",
        "releases",
        "retries",
        "refunds",
        "top-ups",
        "rolled back",
        "priced by hand",
        "costs recorded",
        "costs that came twice",
        "calls of maintain",
        "rows rolled up",
    ] {
        row(what, thousands(tally.counted(what)));
    }
    row("credits spent", fixed(total.credits, 4));
    row("revenue earned, $", fixed(total.revenue, 4));
    row(
        "vendor cost so far, $",
        fixed(total.cost.unwrap_or_default(), 4),
    );

    let seconds = took.as_secs_f64();
    println!("\nHow fast, over {connections} connections in {seconds:.1} s");
    row(
        "requests a second",
        format!("{:.0}", requests as f64 / seconds),
    );
    row("calls a second", format!("{:.0}", calls as f64 / seconds));
    println!(
        "\n  {:<32}{:>9}{:>10}{:>10}{:>10}",
        "call, ms", "calls", "p50", "p95", "p99"
    );
    for (call, times) in &tally.times {
        let mut times = times.clone();
        times.sort_unstable();
        let [p50, p95, p99] = [50, 95, 99].map(|p| millis(percentile(&times, p)));
        println!(
            "  {:<32}{:>9}{p50:>10}{p95:>10}{p99:>10}",
            call.label(),
            thousands(times.len())
        );
    }
}
