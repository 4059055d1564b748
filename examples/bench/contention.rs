//! Many connections that debit one wallet, beside the same over many wallets and beside bare INSERTs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Statement};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::Options;
use crate::cases::{BYSTANDERS, DEBIT, insert_sql, median};
use crate::common::{Result, Scratch, millis, percentile, said, thousands};

const CONNECTIONS: [usize; 4] = [1, 8, 32, 64];
/// What else a transaction does after its debit, before it commits.
const OTHER_WORK: [Duration; 2] = [Duration::ZERO, Duration::from_millis(5)];
const CASES: [&str; 3] = ["one wallet", "many wallets", "insert only"];

/// Connected, with its statements.
struct Caller {
    client: Client,
    debit: Statement,
    insert: Statement,
    rng: StdRng,
}

#[derive(Default)]
struct Seen {
    rates: Vec<f64>,
    times: Vec<Duration>,
    /// Connections that waited for a lock, on average.
    waiting: Vec<f64>,
}

pub fn run(scratch: &Scratch, options: &Options) -> Result<()> {
    println!(
        "\nContention: transactions of one debit each, synchronous_commit on, {} turns of {:.1} s each",
        options.rounds,
        options.slice.as_secs_f64()
    );
    println!(
        "  {:<14}{:<12}{:<15}{:>8}{:>9}{:>9}{:>10}{:>10}{:>10}",
        "connections",
        "other work",
        "",
        "tps",
        "p50 ms",
        "p99 ms",
        "waiting",
        "to many",
        "to insert"
    );
    for connections in CONNECTIONS {
        let mut callers = callers(scratch, connections)?;
        for work in OTHER_WORK {
            let mut seen: [Seen; CASES.len()] = Default::default();
            for _ in 0..options.rounds {
                for (case, seen) in CASES.into_iter().zip(&mut seen) {
                    turn(scratch, &mut callers, case, work, options.slice, seen)?;
                }
            }
            let rates = seen.each_ref().map(|seen| seen.rates.clone());
            for (case, mut seen) in CASES.into_iter().zip(seen) {
                seen.times.sort_unstable();
                let to = |other: &[f64]| {
                    let ratios = seen.rates.iter().zip(other).map(|(rate, of)| rate / of);
                    median(ratios.collect())
                };
                println!(
                    "  {connections:<14}{:<12}{case:<15}{:>8}{:>9}{:>9}{:>10.1}{:>10.2}{:>10.2}",
                    if work.is_zero() {
                        "none".into()
                    } else {
                        format!("{} ms", work.as_millis())
                    },
                    thousands(median(seen.rates.clone()).round() as i64),
                    millis(percentile(&seen.times, 50)),
                    millis(percentile(&seen.times, 99)),
                    median(seen.waiting.clone()),
                    to(&rates[1]),
                    to(&rates[2])
                );
            }
        }
    }
    println!(
        "  waiting: connections that waited for a lock (pg_stat_activity, looked at every 20 ms), on average; the ratios"
    );
    println!(
        "  are to the same load over {} wallets and to a bare INSERT of the same row, turn by turn",
        thousands(BYSTANDERS)
    );
    Ok(())
}

fn callers(scratch: &Scratch, connections: usize) -> Result<Vec<Caller>> {
    let mut first = scratch.connect()?;
    let insert = insert_sql(&mut first)?;
    (0..connections)
        .map(|nth| {
            let mut client = scratch.connect()?;
            Ok(Caller {
                debit: client.prepare(DEBIT).map_err(said(DEBIT))?,
                insert: client.prepare(&insert).map_err(said(&insert))?,
                client,
                // No key is ever used again.
                rng: StdRng::seed_from_u64((connections << 32 | nth) as u64),
            })
        })
        .collect()
}

fn turn(
    scratch: &Scratch,
    callers: &mut [Caller],
    case: &str,
    work: Duration,
    length: Duration,
    seen: &mut Seen,
) -> Result<()> {
    let over = AtomicBool::new(false);
    let began = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let waiting = scope.spawn(|| waiting(scratch, &over));
        let threads: Vec<_> = callers
            .iter_mut()
            .map(|caller| {
                scope.spawn(move || -> std::result::Result<_, postgres::Error> {
                    let mut times = Vec::new();
                    while began.elapsed() < length {
                        let started = Instant::now();
                        caller.transaction(case, work)?;
                        times.push(started.elapsed());
                    }
                    Ok(times)
                })
            })
            .collect();
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        let took = began.elapsed();
        over.store(true, Ordering::Relaxed);
        let mut count = 0;
        for times in ended {
            let times = times.map_err(|_| "a thread panicked")?;
            let times = times.map_err(said(case))?;
            count += times.len();
            seen.times.extend(times);
        }
        seen.rates.push(count as f64 / took.as_secs_f64());
        let waiting = waiting.join().map_err(|_| "a thread panicked")??;
        seen.waiting.push(waiting);
        Ok(())
    })
}

impl Caller {
    fn transaction(
        &mut self,
        case: &str,
        work: Duration,
    ) -> std::result::Result<(), postgres::Error> {
        let key = Uuid::from_u128(self.rng.random()).to_string();
        let customer = match case {
            "one wallet" => "debit".to_owned(),
            _ => format!("bystander {}", self.rng.random_range(1..=BYSTANDERS)),
        };
        if work.is_zero() {
            return match case {
                "insert only" => self
                    .client
                    .query_one(&self.insert, &[&Uuid::now_v7(), &key]),
                _ => self.client.query_one(&self.debit, &[&customer, &key]),
            }
            .map(|_| ());
        }
        let mut transaction = self.client.transaction()?;
        match case {
            "insert only" => transaction.query_one(&self.insert, &[&Uuid::now_v7(), &key])?,
            _ => transaction.query_one(&self.debit, &[&customer, &key])?,
        };
        thread::sleep(work);
        transaction.commit()
    }
}

/// How many connections wait for a lock, on average until it is over.
fn waiting(scratch: &Scratch, over: &AtomicBool) -> Result<f64> {
    let mut client = scratch.connect()?;
    let look = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let look = client.prepare(look).map_err(said(look))?;
    let (mut looks, mut sum) = (0.0_f64, 0.0);
    while !over.load(Ordering::Relaxed) {
        sum += client.query_one(&look, &[])?.get::<_, i64>(0) as f64;
        looks += 1.0;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(sum / looks.max(1.0))
}
