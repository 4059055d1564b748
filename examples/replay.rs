//! Replays an hour of real LLM traffic on a wallet per customer, over several connections at once, and checks every answer.
//!
//! ```text
//! make replay TRACE=AzureLLMInferenceTrace_conv.csv
//! cargo run --release --example replay -- <trace.csv> [--customers 500] [--connections 8] [--seed 1] [--limit N]
//! ```
//!
//! The trace is one of the Azure Public Dataset's "Azure LLM inference trace 2023": TIMESTAMP, ContextTokens,
//! GeneratedTokens; its rows are sent as fast as they are answered. It names no customers, so those are synthetic, and so
//! is the way in which each request is charged: see `replay/plan.rs`. The server is the one of PGHOST, PGPORT, PGUSER and
//! PGDATABASE; the replay makes a database of its own there and drops it in the end.
//!
//! It ends with code 0 when every answer was as expected, what the reports say equals what the program added up itself,
//! and `credyt.verify()` finds nothing.

mod common;
#[path = "replay/plan.rs"]
mod plan;
#[path = "replay/shop.rs"]
mod shop;

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use postgres::Client;
use rust_decimal::Decimal;

use common::{Result, Scratch, millis, option, percentile, said, thousands};
use plan::{ACTIONS, OWN_PRICE, Plan, SCALE, WAYS, read_trace};
use shop::{Shop, Sums, Tally};

const USAGE: &str = "\
cargo run --release --example replay -- <trace.csv> [--customers 500] [--connections 8] [--seed 1] [--limit N]";

struct Options {
    trace: String,
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
    let plan = Plan::make(&rows, options.customers, options.seed);
    let scratch = Scratch::create("replay")?;
    let mut client = scratch.connect()?;

    println!(
        "Replay of {} requests on {}\n",
        thousands(rows.len()),
        server(&mut client)?
    );
    println!(
        "  Sizes and order are those of the trace. Who asked is synthetic: the trace names no customers,"
    );
    println!(
        "  so each request is given to one of {} by Zipf's law (seed {}), and charged in",
        options.customers, options.seed
    );
    println!(
        "  one of these ways. The vendor's bill is computed, at ${} an input token and",
        plan::INPUT_COST
    );
    println!("  ${} an output token.\n", plan::OUTPUT_COST);
    for (_, share, label) in WAYS {
        println!("  {:>5.1} %  {label}", f64::from(share) / 10.0);
    }
    println!();

    let paid = set_up(&mut client, &plan)?;
    let (tally, took) = run(&scratch, &plan, options.connections)?;
    report(&tally, took, options.connections);
    check(&mut client, &tally, paid)
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

/// The asset, the prices, the wallets. Returns the money that was paid for what the customers start with.
fn set_up(client: &mut Client, plan: &Plan) -> Result<Decimal> {
    client
        .execute(
            "SELECT credyt.create_asset('credits', scale => $1)",
            &[&(SCALE as i32)],
        )
        .map_err(said("create_asset"))?;
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
    let began = Instant::now();
    let tallies: Vec<Result<Tally>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(one)).collect();
        workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err("a connection panicked".into()))
            })
            .collect()
    });
    let took = began.elapsed();
    bar.finish();
    let mut all = Tally::default();
    for tally in tallies {
        all.add(tally?);
    }
    Ok((all, took))
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
    let mut total = Sums::default();
    for sums in tally.actions.values() {
        total.add(sums);
    }

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
    ] {
        row(what, thousands(tally.counted(what)));
    }
    row("credits spent", fixed(total.credits, 4));
    row("revenue earned, $", fixed(total.revenue + tally.settled, 4));
    row("vendor cost, $", fixed(total.cost, 4));
    row(
        "margin, $",
        fixed(total.revenue + tally.settled - total.cost, 4),
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

/// What the database says, beside what the program added up from the answers.
fn check(client: &mut Client, tally: &Tally, paid_at_start: Decimal) -> Result<bool> {
    let mut sound = true;
    println!("\nMargin by action (credyt.margin_by_action)");
    println!(
        "  {:<18}{:>9}{:>14}{:>14}{:>14}{:>14}{:>8}",
        "action", "debits", "credits", "revenue $", "cost $", "margin $", "ratio"
    );
    let reported = margins(client)?;
    let settled = settlements(client)?;
    for (action, sums, margin) in &reported {
        let ratio = margin
            .checked_div(sums.revenue)
            .map(|ratio| format!("{:.1} %", ratio * Decimal::ONE_HUNDRED));
        println!(
            "  {action:<18}{:>9}{:>14}{:>14}{:>14}{:>14}{:>8}",
            thousands(sums.debits),
            fixed(sums.credits, 4),
            fixed(sums.revenue, 4),
            fixed(sums.cost, 4),
            fixed(*margin, 4),
            ratio.unwrap_or_default()
        );
    }

    println!("\nChecked");
    for (action, own) in &tally.actions {
        let mut own = own.clone();
        own.revenue += settled.get(*action).copied().unwrap_or_default();
        let said = reported.iter().find(|(name, ..)| name == action);
        let (said, margin) = said
            .map(|(_, sums, margin)| (sums.clone(), *margin))
            .unwrap_or_default();
        let pairs = [
            (
                "debits",
                Decimal::from(own.debits),
                Decimal::from(said.debits),
            ),
            ("quantity", own.quantity, said.quantity),
            ("credits", own.credits, said.credits),
            ("revenue", own.revenue, said.revenue),
            ("cost", own.cost, said.cost),
            ("margin", own.revenue - own.cost, margin),
        ];
        for (what, own, said) in pairs {
            if own != said {
                sound &= equal(&format!("{what} of {action}"), own, said);
            }
        }
    }
    sound &= reported.len() == tally.actions.len();
    verdict(
        "margin by action, and the sums of the answers",
        if sound { "equal" } else { "DIFFERENT" },
    );

    let earned: Decimal = reported.iter().map(|(_, sums, _)| sums.revenue).sum();
    let deferred = number(
        client,
        "SELECT sum(revenue)::text FROM credyt.deferred_revenue",
    )?;
    let breakage = number(client, "SELECT sum(revenue)::text FROM credyt.breakage")?;
    sound &= equal(
        "debt that top-ups paid",
        tally.settled,
        settled.values().sum(),
    );
    sound &= equal(
        "money paid, and earned + deferred + breakage",
        paid_at_start + tally.paid,
        earned + deferred + breakage,
    );
    let replies = number(
        client,
        "SELECT count(*)::text FROM app.replies JOIN credyt.ledger l ON (l.customer, l.id) = (replies.customer, debit)",
    )?;
    sound &= equal(
        "rows of the application, and their debits",
        Decimal::from(tally.counted("rows of the application")),
        replies,
    );
    let open = number(
        client,
        "SELECT count(*)::text FROM credyt.open_authorizations",
    )?;
    let open_verdict = if open.is_zero() {
        "none".into()
    } else {
        format!("{open} OPEN")
    };
    verdict("authorizations still open", &open_verdict);
    sound &= open.is_zero();

    let began = Instant::now();
    let broken = client
        .query(
            "SELECT law::text, customer, asset, detail::text FROM credyt.verify()",
            &[],
        )
        .map_err(said("credyt.verify()"))?;
    let took = began.elapsed().as_secs_f64();
    verdict(
        &format!("SELECT * FROM credyt.verify(), {took:.1} s"),
        &match broken.len() {
            0 => "no rows".into(),
            rows => format!("{rows} ROWS"),
        },
    );
    for row in broken.iter().take(20) {
        let column = |at: usize| row.get::<_, Option<&str>>(at).unwrap_or_default();
        println!(
            "    law {}: {} {} {}",
            column(0),
            column(1),
            column(2),
            column(3)
        );
    }
    Ok(sound && broken.is_empty())
}

type Margin = (String, Sums, Decimal);

fn margins(client: &mut Client) -> Result<Vec<Margin>> {
    let sql = "SELECT action, debits::text, quantity::text, credits::text, revenue::text, cost::text, margin::text
               FROM credyt.margin_by_action ORDER BY action";
    let rows = client.query(sql, &[]).map_err(said(sql))?;
    rows.iter()
        .map(|row| {
            let number = |at: usize| -> Result<Decimal> {
                Ok(row
                    .try_get::<_, Option<&str>>(at)?
                    .map_or(Ok(Decimal::ZERO), Decimal::from_str_exact)?)
            };
            let sums = Sums {
                debits: row.try_get::<_, &str>(1)?.parse()?,
                quantity: number(2)?,
                credits: number(3)?,
                revenue: number(4)?,
                cost: number(5)?,
            };
            Ok((row.try_get(0)?, sums, number(6)?))
        })
        .collect()
}

/// Revenue that was earned when a top-up paid debt: no answer of a debit had it.
fn settlements(client: &mut Client) -> Result<BTreeMap<String, Decimal>> {
    let sql = "SELECT action, sum(revenue)::text FROM credyt.ledger WHERE kind = 'settlement' GROUP BY action";
    let rows = client.query(sql, &[]).map_err(said(sql))?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, Decimal::from_str_exact(row.try_get(1)?)?)))
        .collect()
}

fn number(client: &mut Client, sql: &str) -> Result<Decimal> {
    let row = client.query_one(sql, &[]).map_err(said(sql))?;
    Ok(row
        .try_get::<_, Option<&str>>(0)?
        .map_or(Ok(Decimal::ZERO), Decimal::from_str_exact)?)
}

fn equal(what: &str, own: Decimal, said: Decimal) -> bool {
    if own == said {
        verdict(what, "equal");
    } else {
        verdict(
            what,
            &format!(
                "DIFFERENT: {} here, {} there",
                own.normalize(),
                said.normalize()
            ),
        );
    }
    own == said
}

fn verdict(what: &str, verdict: &str) {
    println!("  {what:<54}{verdict}");
}

fn fixed(number: Decimal, places: u32) -> String {
    format!("{:.*}", places as usize, number.round_dp(places))
}
