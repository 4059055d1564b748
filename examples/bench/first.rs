//! What the first debit of a new connection costs: the library is loaded, caches are filled, plans are made.

use std::time::{Duration, Instant};

use crate::Options;
use crate::cases::{Keys, processor_time, side};
use crate::common::{Result, Scratch, millis, percentile, said, thousands};

const UPDATE: &str = "UPDATE bench.balances SET balance = balance - 1 WHERE customer = 'floor'";

/// Of connections that do the same: connecting, the first statement, the second one, and the processor time of the backend
/// from its start to the end of the first.
type Times = [Vec<Duration>; 4];

/// Milliseconds that the first debit takes longer than the first bare UPDATE: of the medians.
pub fn run(scratches: &[Scratch], options: &Options) -> Result<f64> {
    println!(
        "\n{:<48}{:>10}{:>10}{:>10}{:>10}",
        format!(
            "{} new connections each, ms",
            thousands(options.connections)
        ),
        "connect",
        "first",
        "second",
        "work"
    );
    let mut keys = Keys::new(21);
    let mut seen: Vec<[Times; 2]> = vec![Default::default(); scratches.len()];
    for _ in 0..options.connections {
        for (scratch, [updates, debits]) in scratches.iter().zip(&mut seen) {
            connection(scratch, || UPDATE.to_owned(), updates)?;
            let debit = || {
                let key = keys.next();
                format!(
                    "SELECT * FROM credyt.debit_credits('debit', 'image.generate', idempotency_key => '{key}')"
                )
            };
            connection(scratch, debit, debits)?;
        }
    }
    let mut more = Vec::new();
    for (at, pair) in seen.iter_mut().enumerate() {
        let mut firsts = Vec::new();
        for (what, times) in ["a bare UPDATE", "debit_credits: 3 grants, key"]
            .into_iter()
            .zip(pair)
        {
            let medians = times.each_mut().map(|times| {
                times.sort_unstable();
                percentile(times, 50)
            });
            let [connect, first, second, work] = medians.map(millis);
            println!(
                "{:<48}{connect:>10}{first:>10}{second:>10}{work:>10}",
                format!("  {}{what}", side(at))
            );
            firsts.push(medians[1].as_secs_f64() * 1e3);
        }
        more.push(firsts[1] - firsts[0]);
    }
    println!(
        "  work: processor time of the backend from its start to the end of its first statement"
    );
    Ok(more[0])
}

fn connection(scratch: &Scratch, mut sql: impl FnMut() -> String, times: &mut Times) -> Result<()> {
    let began = Instant::now();
    let mut client = scratch.connect_with("-c synchronous_commit=off")?;
    times[0].push(began.elapsed());
    for at in 1..3 {
        let sql = sql();
        let began = Instant::now();
        client.batch_execute(&sql).map_err(said(&sql))?;
        times[at].push(began.elapsed());
        if at == 1 {
            let pid = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
            times[3].push(processor_time(pid));
        }
    }
    Ok(())
}
