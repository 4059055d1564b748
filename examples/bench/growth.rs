//! What a debit costs with more wallets, and with a longer ledger.
//!
//! One database that grows. The wallets are copies of one with three grants; the ledger's rows are those of debits, in the
//! order of their time, spread over the wallets, each with a key. They are inserted without the indexes, which are made
//! again with pages as full as they are after random inserts. At each size the same three take turns: a debit of a customer
//! picked at random, a debit of one and the same customer, and the floor. After a checkpoint, since the first change of a
//! page writes all of it; so short turns see the worst of that.

use std::time::{Duration, Instant};

use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::Options;
use crate::cases::{DEBIT, FLOOR, Keys, median, processor_time};
use crate::common::{Result, Scratch, said, thousands};
use crate::plot::{self, Plot};

const WALLETS: [i64; 3] = [1_000, 100_000, 1_000_000];
/// The wallets of a growing ledger.
const SPREAD: i64 = 100_000;

/// By how many wallets.
pub fn wallets(options: &Options) -> Result<()> {
    let mut grown = Grown::create("wallets", options)?;
    let mut points = Vec::new();
    heading("Wallets, an empty ledger");
    for size in WALLETS {
        grown.wallets_to(size)?;
        points.push((size, grown.measure(size)?));
    }
    save("wallets", "Debits by the number of wallets", &points)
}

/// By how many ledger rows.
pub fn ledger(options: &Options) -> Result<()> {
    let mut grown = Grown::create("ledger", options)?;
    grown.wallets_to(SPREAD)?;
    let mut points = Vec::new();
    heading(&format!("Ledger rows, {} wallets", thousands(SPREAD)));
    for size in &options.sizes {
        let began = Instant::now();
        grown.ledger_to(*size)?;
        let made = began.elapsed();
        points.push((*size, grown.measure(*size)?));
        println!(
            "  {:>14}{}, made in {:.0} s; credyt.health answers in {:.0} ms",
            "",
            grown.sizes()?,
            made.as_secs_f64(),
            grown.health()?
        );
    }
    save("rows", "Debits by the length of the ledger", &points)
}

struct Grown {
    client: Client,
    /// Dropped after the client.
    _scratch: Scratch,
    wallets: i64,
    rows: i64,
    rounds: usize,
}

/// Per second and against the floor, median of the rounds; WAL and processor time of a step.
struct Point {
    rates: [f64; 3],
    ratios: [f64; 3],
    wal: [f64; 3],
    work: [f64; 3],
}

impl Grown {
    fn create(purpose: &str, options: &Options) -> Result<Grown> {
        let scratch = Scratch::create(purpose)?;
        let mut client = scratch.connect()?;
        let sql = "
            SET synchronous_commit = off;
            SELECT credyt.create_asset('credits');
            SELECT credyt.set_price('image.generate', '1');
            SELECT credyt.grant_credits('customer 0', 12345678.91, 'included', paid => 123456.12, priority => 7, expires_at => now() + interval '300 days'),
                   credyt.grant_credits('customer 0', 22345678.92, 'promotional', paid => 223456.23, priority => 9, expires_at => now() + interval '500 days'),
                   credyt.grant_credits('customer 0', 32345678.93, 'purchased', paid => 323456.34, priority => 8)";
        client.batch_execute(sql).map_err(said(sql))?;
        client
            .batch_execute(include_str!("floor.sql"))
            .map_err(said("floor.sql"))?;
        Ok(Grown {
            client,
            _scratch: scratch,
            wallets: 1,
            rows: 0,
            rounds: options.rounds,
        })
    }

    fn wallets_to(&mut self, size: i64) -> Result<()> {
        let sql = format!(
            "INSERT INTO credyt.wallets (customer, asset, created_at, next_due_at, overdraft_limit, status, state)
             SELECT 'customer ' || n, w.asset, w.created_at, w.next_due_at, w.overdraft_limit, w.status, w.state
             FROM generate_series({}, {size} - 1) n, credyt.wallets w WHERE w.customer = 'customer 0'",
            self.wallets
        );
        self.client.batch_execute(&sql).map_err(said(&sql))?;
        self.wallets = size;
        self.settle()
    }

    fn ledger_to(&mut self, size: i64) -> Result<()> {
        const PART: i64 = 1_000_000;
        let drop =
            "ALTER TABLE credyt.ledger DROP CONSTRAINT ledger_pkey; DROP INDEX credyt.ledger_key";
        self.client.batch_execute(drop).map_err(said(drop))?;
        while self.rows < size {
            let to = size.min(self.rows + PART);
            let sql = format!(
                "INSERT INTO credyt.ledger (customer, asset, id, seq, created_at, occurred_at, accounted_at, price_version, kind,
                     action, quantity, credits, balance, revenue, allocations, idempotency_key, request)
                 SELECT 'customer ' || r.i * 7919 % {wallets}, 'credits',
                        (lpad(to_hex((extract(epoch FROM r.at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(r.i), 12, '0'))::uuid,
                        4 + r.i / {wallets}, r.at, r.at, r.at, 1, 'debit', 'image.generate', 1, -1, 1000000 - r.i / {wallets}, 0.01,
                        '[{{\"grant\": \"019a9c5e-7e3f-7c00-8000-00000000abcd\", \"kind\": \"included\", \"credits\": \"1\", \"revenue\": \"0.01\"}}]',
                        gen_random_uuid()::text, '\\x00112233445566778899aabbccddeeff'
                 FROM (SELECT i, now() - interval '60 days' + i * interval '0.05 s' AS at
                       FROM generate_series({from}::bigint, {to} - 1) i) r",
                wallets = self.wallets,
                from = self.rows,
            );
            self.client.batch_execute(&sql).map_err(said(&sql))?;
            self.rows = to;
        }
        let make = "
            SET maintenance_work_mem = '512MB';
            ALTER TABLE credyt.ledger ADD PRIMARY KEY (customer, id) WITH (fillfactor = 70);
            CREATE UNIQUE INDEX ledger_key ON credyt.ledger (customer, idempotency_key) WITH (fillfactor = 70)
                WHERE idempotency_key IS NOT NULL";
        self.client.batch_execute(make).map_err(said(make))?;
        self.settle()
    }

    fn settle(&mut self) -> Result<()> {
        for sql in [
            "VACUUM ANALYZE credyt.wallets, credyt.ledger, bench.movements",
            "CHECKPOINT",
        ] {
            self.client.batch_execute(sql).map_err(said(sql))?;
        }
        Ok(())
    }

    fn measure(&mut self, size: i64) -> Result<Point> {
        const TURN: Duration = Duration::from_millis(250);
        let client = &mut self.client;
        let (debit, floor) = (client.prepare(DEBIT)?, client.prepare(FLOOR)?);
        let pid = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
        let (mut keys, mut rng) = (Keys::new(size as u64), StdRng::seed_from_u64(size as u64));
        let mut seen: [[Vec<f64>; 3]; 3] = Default::default();
        // As many turns as make `--seconds` of each in every round.
        for _ in 0..self.rounds * 4 {
            for (case, [rates, wal, work]) in seen.iter_mut().enumerate() {
                let (before, worked) = (position(client)?, processor_time(pid));
                let (began, mut steps) = (Instant::now(), 0);
                while began.elapsed() < TURN {
                    let customer = format!("customer {}", rng.random_range(0..self.wallets));
                    match case {
                        0 => client.query_one(&debit, &[&customer, &keys.next()]),
                        1 => client.query_one(&debit, &[&"customer 0", &keys.next()]),
                        _ => client.query_one(&floor, &[&"floor", &Uuid::now_v7(), &keys.next()]),
                    }
                    .map_err(said("a step"))?;
                    steps += 1;
                }
                let (took, steps) = (began.elapsed().as_secs_f64(), f64::from(steps));
                rates.push(steps / took);
                wal.push((position(client)? - before) as f64 / steps);
                work.push((processor_time(pid) - worked).as_secs_f64() * 1e6 / steps);
            }
        }
        let [spread, one, floor] = &seen;
        let ratio = |case: &[Vec<f64>; 3]| {
            median(
                case[0]
                    .iter()
                    .zip(&floor[0])
                    .map(|(rate, of)| rate / of)
                    .collect(),
            )
        };
        let cases = [spread, one, floor];
        let point = Point {
            rates: cases.map(|case| median(case[0].clone())),
            ratios: cases.map(ratio),
            wal: cases.map(|case| median(case[1].clone())),
            work: cases.map(|case| median(case[2].clone())),
        };
        println!(
            "  {:>12}{:>10.0}{:>8.2}{:>9.0}{:>8.0}  {:>10.0}{:>8.2}{:>9.0}{:>8.0}  {:>10.0}{:>8.0}",
            thousands(size),
            point.rates[0],
            point.ratios[0],
            point.wal[0],
            point.work[0],
            point.rates[1],
            point.ratios[1],
            point.wal[1],
            point.work[1],
            point.rates[2],
            point.work[2]
        );
        Ok(point)
    }

    /// How many milliseconds the view takes: the least of three.
    fn health(&mut self) -> Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..3 {
            let began = Instant::now();
            self.client
                .query("SELECT * FROM credyt.health", &[])
                .map_err(said("health"))?;
            least = least.min(began.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(least)
    }

    fn sizes(&mut self) -> Result<String> {
        let sizes = "SELECT format('%s of rows, %s of indexes', pg_size_pretty(pg_table_size('credyt.ledger')),
                                   pg_size_pretty(pg_indexes_size('credyt.ledger')))";
        Ok(self.client.query_one(sizes, &[])?.get(0))
    }
}

/// Bytes of WAL since the server was made.
fn position(client: &mut Client) -> Result<i64> {
    let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
    Ok(client.query_one(sql, &[])?.get(0))
}

fn heading(what: &str) {
    println!("\nDebits by size: {what}");
    println!(
        "  {:>12}{:>35}  {:>35}  {:>18}",
        "", "any customer", "one customer", "floor"
    );
    println!(
        "  {:>12}{:>10}{:>8}{:>9}{:>8}  {:>10}{:>8}{:>9}{:>8}  {:>10}{:>8}",
        "", "tps", "ratio", "WAL", "us", "tps", "ratio", "WAL", "us", "tps", "us"
    );
}

fn save(name: &str, title: &str, points: &[(i64, Point)]) -> Result<()> {
    let line = |what: &str, case: usize| {
        let points = points
            .iter()
            .map(|(size, point)| (*size as f64, point.ratios[case]));
        (what.to_owned(), points.collect())
    };
    let plot = Plot {
        title,
        x: name,
        y: "debits to the floor",
        log: (true, false),
        shade: None,
        lines: vec![line("a customer at random", 0), line("one and the same", 1)],
    };
    let path = format!("target/bench_{name}.svg");
    std::fs::create_dir_all("target")?;
    std::fs::write(&path, plot::svg(&[plot])?).map_err(|error| format!("{path}: {error}"))?;
    println!("  WAL: bytes a debit; us: processor time of the backend. Drawn in {path}");
    Ok(())
}
