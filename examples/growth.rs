//! How reports of margin grow with the ledger.
//!
//! ```text
//! make growth                                                       (ARGS="--sizes 100000,1000000")
//! cargo run --release --example growth -- [--sizes 100000,1000000,10000000] [--customers 10000] [--days 365] [--runs 3] [--keep]
//! ```
//!
//! For each size a new database with that many ledger rows, spread evenly over the customers and the last days: 8 actions,
//! 5 models of 2 vendors, 3 kinds of grants; a tenth of the debits is paid by two grants, a tenth uses two models, a fifth
//! names scopes, a fifth has no known cost, and every fiftieth row is a refund. They are inserted in bulk, with the
//! wallets' states made to fit. Then `credyt.maintain()` is called until nothing is left for it, and one more debit a
//! customer is added, which the reports have to find in the ledger. What is shown are medians.
//!
//! The server is the one of PGHOST, PGPORT, PGUSER and PGDATABASE, as a superuser; the databases are dropped in the end,
//! unless `--keep` is given.

mod common;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{Result, Scratch, flag, option, percentile, said, thousands};
use postgres::Client;

const QUESTIONS: [(&str, &str); 15] = [
    ("in total", "credyt.margin('{}', $since)"),
    ("action", "credyt.margin('{action}', $since)"),
    ("customer", "credyt.margin('{customer}', $since)"),
    ("vendor, model", "credyt.margin('{vendor,model}', $since)"),
    ("kind", "credyt.margin('{kind}', $since)"),
    ("day, action", "credyt.margin('{day,action}', $since)"),
    (
        "day, action, vendor, model, kind",
        "credyt.margin('{day,action,vendor,model,kind}', $since)",
    ),
    ("scope", "credyt.margin('{scope}', $since)"),
    (
        "scope, action, model",
        "credyt.margin('{scope,action,model}', $since)",
    ),
    (
        "customer, action",
        "credyt.margin('{customer,action}', $since)",
    ),
    (
        "customer, model, kind",
        "credyt.margin('{customer,model,kind}', $since)",
    ),
    ("customer, day", "credyt.margin('{customer,day}', $since)"),
    (
        "all seven",
        "credyt.margin('{day,action,customer,vendor,model,kind,scope}', $since)",
    ),
    (
        "suggest_price",
        "credyt.suggest_price('action.1', 0.4, $since)",
    ),
    (
        "simulate_price",
        "credyt.simulate_price('action.1', '{\"per_unit\": \"1.5\"}', $since)",
    ),
];

struct Options {
    sizes: Vec<i64>,
    customers: i64,
    days: i32,
    runs: usize,
    keep: bool,
}

impl Options {
    fn read() -> Result<Options> {
        let mut arguments: Vec<String> = std::env::args().skip(1).collect();
        let sizes: Option<String> = option(&mut arguments, "--sizes")?;
        let sizes = sizes.unwrap_or_else(|| "100000,1000000,10000000".to_owned());
        let keep = flag(&mut arguments, "--keep");
        let options = Options {
            keep,
            sizes: sizes
                .split(',')
                .map(str::parse)
                .collect::<std::result::Result<_, _>>()?,
            customers: option(&mut arguments, "--customers")?.unwrap_or(10_000),
            days: option(&mut arguments, "--days")?.unwrap_or(365),
            runs: option(&mut arguments, "--runs")?.unwrap_or(3),
        };
        if let Some(unknown) = arguments.first() {
            return Err(format!("{unknown}: no such option").into());
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    match Options::read().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    for size in &options.sizes {
        let scratch = Scratch::create("growth")?;
        let mut client = scratch.connect()?;
        println!(
            "\n{} ledger rows of {} customers over {} days",
            thousands(*size),
            thousands(options.customers),
            options.days
        );
        let (_, took) = timed(|| seed(&mut client, options, *size))?;
        println!("  made in {}", seconds(took));
        roll_up(&mut client, *size)?;
        let newest = "SELECT newest.add()";
        client.batch_execute(newest).map_err(said(newest))?;
        println!(
            "  {:<34} {:>9}  30 days  {:>9}  all time",
            "", "rows", "rows"
        );
        for (name, question) in QUESTIONS {
            let mut line = format!("  {name:<34}");
            for since in ["now() - interval '30 days'", "NULL"] {
                let sql = format!("SELECT count(*) FROM {}", question.replace("$since", since));
                let mut took = Vec::new();
                let mut rows = 0_i64;
                for _ in 0..options.runs {
                    let (row, this) =
                        timed(|| client.query_one(&sql, &[]).map_err(said("a report")))?;
                    rows = row.get(0);
                    took.push(this);
                }
                took.sort_unstable();
                line += &format!(
                    " {:>9} {:>9}",
                    thousands(rows),
                    seconds(percentile(&took, 50))
                );
            }
            println!("{line}");
        }
        let (row, took) = timed(|| {
            client
                .query_one("SELECT count(*) FROM credyt.runway", &[])
                .map_err(said("runway"))
        })?;
        println!(
            "  {:<34} {:>9} {:>9}",
            "runway",
            thousands(row.get::<_, i64>(0)),
            seconds(took)
        );
        if options.keep {
            std::mem::forget(scratch);
        }
    }
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let began = Instant::now();
    let result = work()?;
    Ok((result, began.elapsed()))
}

fn seconds(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

fn roll_up(client: &mut Client, size: i64) -> Result<()> {
    let (mut calls, mut total, mut longest) = (0, Duration::ZERO, Duration::ZERO);
    loop {
        let (row, took) = timed(|| {
            client
                .query_one("SELECT rolled_up FROM credyt.maintain()", &[])
                .map_err(said("maintain"))
        })?;
        if row.get::<_, i64>(0) == 0 {
            println!("  maintain with nothing to do: {}", seconds(took));
            break;
        }
        calls += 1;
        total += took;
        longest = longest.max(took);
    }
    let rate = (size as f64 / total.as_secs_f64()) as i64;
    println!(
        "  maintain: {calls} calls in {}, the longest {}, {} rows a second",
        seconds(total),
        seconds(longest),
        thousands(rate)
    );
    client
        .batch_execute("VACUUM ANALYZE credyt.margin_days, credyt.margin_customers, credyt.margin_scopes, credyt.usage_days, credyt.rollup_progress")
        .map_err(said("VACUUM"))?;
    let sizes = "SELECT c.relname::text, pg_size_pretty(pg_table_size(c.oid)), pg_size_pretty(pg_indexes_size(c.oid)), c.reltuples::bigint
                 FROM pg_class c WHERE c.relnamespace = 'credyt'::regnamespace
                   AND c.relname IN ('ledger', 'margin_days', 'margin_customers', 'margin_scopes', 'usage_days', 'rollup_progress')
                 ORDER BY c.relname";
    for row in client.query(sizes, &[]).map_err(said("sizes"))? {
        let [name, table, indexes]: [String; 3] = [row.get(0), row.get(1), row.get(2)];
        let rows = thousands(row.get::<_, i64>(3));
        println!("  {name:<17} {rows:>11} rows, {table} and {indexes} of indexes");
    }
    Ok(())
}

fn seed(client: &mut Client, options: &Options, size: i64) -> Result<()> {
    // Row i is the (i / customers + 1)th of its customer, and was made at its share of the days.
    let insert = format!(
        r#"INSERT INTO credyt.ledger (customer, asset, id, seq, created_at, occurred_at, accounted_at, price_version, kind, action,
               quantity, credits, balance, revenue, cost, costs, allocations, scopes)
           SELECT 'customer-' || m.customer, 'credits',
                  (lpad(to_hex((extract(epoch FROM m.at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(m.seq), 12, '0'))::uuid,
                  m.seq, m.at, m.at, m.at, 1, m.kind, 'action.' || m.i % 8, m.quantity,
                  CASE m.kind WHEN 'refund' THEN m.credits ELSE -m.credits END,
                  1000000000 - m.seq,
                  CASE m.kind WHEN 'refund' THEN -m.revenue ELSE m.revenue END,
                  CASE WHEN m.kind = 'debit' AND m.i % 5 > 0 THEN m.cost END,
                  CASE WHEN m.kind = 'refund' THEN NULL
                       WHEN m.i % 10 = 3 THEN jsonb_build_array(
                           jsonb_build_object('vendor', 'openai', 'model', 'model-' || m.i % 3, 'cost', (m.cost * 0.25)::text),
                           jsonb_build_object('vendor', 'anthropic', 'model', 'model-' || 3 + m.i % 2, 'cost', (m.cost * 0.75)::text))
                       ELSE jsonb_build_array(jsonb_build_object(
                           'vendor', CASE WHEN m.i % 5 < 3 THEN 'openai' ELSE 'anthropic' END, 'model', 'model-' || m.i % 5,
                           'cost', CASE WHEN m.i % 5 > 0 THEN m.cost::text END)) END,
                  CASE WHEN m.i % 10 = 7 THEN jsonb_build_array(
                           jsonb_build_object('grant', 'x', 'kind', 'promotional', 'credits', '1', 'revenue', '0.00'),
                           jsonb_build_object('grant', 'y', 'kind', 'purchased', 'credits', (m.credits - 1)::text, 'revenue', m.revenue::text))
                       ELSE jsonb_build_array(jsonb_build_object('grant', 'y', 'kind', (ARRAY['purchased', 'included', 'promotional'])[1 + m.customer % 3],
                                                                 'credits', m.credits::text, 'revenue', m.revenue::text)) END,
                  CASE WHEN m.i % 5 = 1 THEN ARRAY['user:' || m.customer || '-' || m.seq % 10] END
           FROM (
               SELECT r.i, r.i % {customers} AS customer, r.i / {customers} + 1 AS seq,
                      now() - interval '{days} days' + r.i * (interval '{days} days' / {{size}}) AS at,
                      CASE WHEN r.i % 50 = 49 THEN 'refund' ELSE 'debit' END AS kind,
                      1 + r.i % 3 AS quantity, (2 + r.i % 17)::numeric AS credits,
                      (2 + r.i % 17) * 0.01 AS revenue, ((1 + r.i % 97) * 0.00013) AS cost
               FROM generate_series($from::bigint, $to::bigint - 1) AS r (i)
           ) m"#,
        customers = options.customers,
        days = options.days,
    );
    let setup = format!(
        "SELECT credyt.create_asset('credits', timezone => 'Europe/Berlin');
         SELECT credyt.set_price('action.1', '1');
         SELECT credyt.grant_credits('customer-0', 1000000000, paid => 10000000);
         INSERT INTO credyt.wallets (customer, asset, created_at, next_due_at, overdraft_limit, status, metadata, state)
         SELECT 'customer-' || n, w.asset, w.created_at, w.next_due_at, 0, w.status, NULL, w.state
         FROM credyt.wallets w, generate_series(1, {customers} - 1) AS n;
         CREATE SCHEMA newest;
         CREATE FUNCTION newest.states(rows bigint) RETURNS void LANGUAGE sql AS $$
             UPDATE credyt.wallets w SET state = jsonb_set(w.state::jsonb, '{{seq}}',
                 to_jsonb(rows / {customers} + (replace(w.customer, 'customer-', '')::bigint < rows % {customers})::int))::text::credyt.wallet
         $$",
        customers = options.customers,
    );
    client.batch_execute(&setup).map_err(said("setting up"))?;
    // The wallet that was opened by a grant has that as its first row.
    let rows = |from: i64, to: i64| {
        insert
            .replace("{size}", &size.to_string())
            .replace("$from", &from.to_string())
            .replace("$to", &to.to_string())
    };
    const PART: i64 = 1_000_000;
    let mut from = 0;
    while from < size {
        let to = size.min(from + PART);
        client
            .batch_execute(&rows(from, to))
            .map_err(said("inserting"))?;
        from = to;
    }
    let more = format!(
        "SELECT newest.states({size});
         CREATE FUNCTION newest.add() RETURNS void LANGUAGE sql AS $f$
             {};
             SELECT newest.states({});
         $f$",
        rows(size, size + options.customers),
        size + options.customers
    );
    client.batch_execute(&more).map_err(said("the wallets"))?;
    client
        .batch_execute("VACUUM ANALYZE credyt.ledger, credyt.wallets")
        .map_err(said("VACUUM"))?;
    Ok(())
}
