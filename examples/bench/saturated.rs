//! More connections than processors, over many wallets: what a server reaches, and what of it each case takes.
//!
//! The cases take turns of half a second; in each, all connections do the same to wallets picked at random. Processor time is
//! that of all backends together.

use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Statement};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::Options;
use crate::cases::{
    AUTHORIZE, BY_HAND, CAPTURE, DEBIT, FLOOR, Keys, RESERVE, SETTLE, median, median_ratio,
    processor_time, side,
};
use crate::common::{Result, Scratch, said, thousands};

const CONNECTIONS: u64 = 6;
const WALLETS: u32 = 1000;
const TURN: Duration = Duration::from_millis(500);

/// Name, what it is, and its statements: the second takes the id that the first answers.
const CASES: [(&str, &str, &[&str]); 5] = [
    ("floor", "one statement: UPDATE balance, INSERT", &[FLOOR]),
    ("debit", "debit_credits: 3 grants, key", &[DEBIT]),
    (
        "hold",
        "authorize with a key, then capture",
        &[AUTHORIZE, CAPTURE],
    ),
    ("plpgsql", "by hand in PL/pgSQL: 3 grants, key", &[BY_HAND]),
    (
        "hold_by_hand",
        "by hand in PL/pgSQL: reserve, settle",
        &[RESERVE, SETTLE],
    ),
];
/// Those that the other library has, too.
const OTHERS: [&str; 3] = ["floor", "debit", "hold"];

/// Of one case on one side, round by round.
struct Case {
    side: usize,
    name: &'static str,
    what: &'static str,
    rates: Vec<f64>,
    work: Vec<f64>,
}

/// To the floor: transactions (or pairs of them) a second, and processor time.
#[derive(Clone, Copy)]
pub struct Ratios {
    pub debit: f64,
    pub debit_work: f64,
    pub debit_to_hand: f64,
    pub hold: f64,
}

/// A connection and its statements, case by case.
struct Caller {
    client: Client,
    pid: i32,
    statements: Vec<Vec<Statement>>,
    keys: Keys,
    random: StdRng,
}

pub fn run(scratches: &[Scratch], options: &Options) -> Result<Ratios> {
    let mut callers = Vec::new();
    for (side, scratch) in scratches.iter().enumerate() {
        let seed = |nth| 1000 * (side as u64 + 1) + nth;
        let connected = (0..CONNECTIONS).map(|nth| Caller::connect(scratch, side, seed(nth)));
        callers.push(connected.collect::<Result<Vec<_>>>()?);
    }
    let mut cases = Vec::new();
    for (name, what, _) in CASES {
        for side in 0..scratches.len() {
            if side == 0 || OTHERS.contains(&name) {
                cases.push(Case {
                    side,
                    name,
                    what,
                    rates: Vec::new(),
                    work: Vec::new(),
                });
            }
        }
    }
    let turns = options.slice.div_duration_f64(TURN).ceil().max(1.0) as usize;
    for round in 0..options.rounds {
        for turn in 0..turns {
            for at in 0..cases.len() {
                let at = (at + round + turn) % cases.len();
                let case = &mut cases[at];
                self::turn(&mut callers[case.side], case)?;
            }
        }
    }
    Ok(print(&cases))
}

impl Caller {
    fn connect(scratch: &Scratch, side: usize, seed: u64) -> Result<Caller> {
        let mut client = scratch.connect()?;
        client.batch_execute("SET synchronous_commit = off")?;
        let mut statements = Vec::new();
        for (name, _, texts) in CASES {
            let mut of_case = Vec::new();
            if side == 0 || OTHERS.contains(&name) {
                for text in texts {
                    of_case.push(client.prepare(text).map_err(said(text))?);
                }
            }
            statements.push(of_case);
        }
        Ok(Caller {
            pid: client.query_one("SELECT pg_backend_pid()", &[])?.get(0),
            client,
            statements,
            keys: Keys::new(seed),
            random: StdRng::seed_from_u64(seed),
        })
    }

    fn step(&mut self, at: usize) -> std::result::Result<(), postgres::Error> {
        let customer = format!("many {}", self.random.random_range(0..WALLETS));
        let key = self.keys.next();
        let client = &mut self.client;
        match (CASES[at].0, self.statements[at].as_slice()) {
            ("floor", [floor]) => {
                client.query_one(floor, &[&customer, &Uuid::now_v7(), &key])?;
            }
            ("hold_by_hand", [reserve, settle]) => {
                let id: i64 = client.query_one(reserve, &[&customer, &key])?.get("id");
                client.query_one(settle, &[&customer, &id])?;
            }
            (_, [authorize, capture]) => {
                let id: Uuid = client.query_one(authorize, &[&customer, &key])?.get("id");
                client.query_one(capture, &[&customer, &id])?;
            }
            (_, statements) => {
                client.query_one(&statements[0], &[&customer, &key])?;
            }
        }
        Ok(())
    }
}

fn turn(callers: &mut [Caller], case: &mut Case) -> Result<()> {
    let at = CASES
        .iter()
        .position(|(name, ..)| *name == case.name)
        .unwrap_or_default();
    let worked = |callers: &[Caller]| -> Duration {
        callers
            .iter()
            .map(|caller| processor_time(caller.pid))
            .sum()
    };
    let before = worked(callers);
    let began = Instant::now();
    let steps: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = callers
            .iter_mut()
            .map(|caller| {
                scope.spawn(move || {
                    let mut steps = 0_u32;
                    while began.elapsed() < TURN {
                        caller.step(at)?;
                        steps += 1;
                    }
                    Ok::<u32, postgres::Error>(steps)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let took = began.elapsed();
    let mut sum = 0;
    for steps in steps {
        sum += steps
            .map_err(|_| "a thread panicked")?
            .map_err(said(case.name))?;
    }
    let each = f64::from(sum.max(1));
    case.rates.push(f64::from(sum) / took.as_secs_f64());
    case.work
        .push((worked(callers) - before).as_secs_f64() * 1e6 / each);
    Ok(())
}

fn print(cases: &[Case]) -> Ratios {
    println!(
        "\n{:<71}{:>8}{:>8}{:>10}{:>8}",
        format!(
            "Saturated: {CONNECTIONS} connections, {} wallets",
            thousands(WALLETS)
        ),
        "tps",
        "ratio",
        "work, us",
        "ratio"
    );
    let of = |side: usize, name: &str| {
        cases
            .iter()
            .find(|case| case.side == side && case.name == name)
    };
    let ratio = |this: Option<&Case>, of: Option<&Case>| -> [f64; 2] {
        let (Some(this), Some(of)) = (this, of) else {
            return [f64::NAN; 2];
        };
        [
            median_ratio(&this.rates, &of.rates),
            median_ratio(&this.work, &of.work),
        ]
    };
    for case in cases {
        let [rates, work] = ratio(Some(case), of(case.side, "floor"));
        println!(
            "{:<16}{:<55}{:>8}{rates:>8.2}{:>10.0}{work:>8.2}",
            format!("  {}{}", side(case.side), case.name),
            case.what,
            thousands(median(case.rates.clone()).round() as i64),
            median(case.work.clone()),
        );
    }
    println!(
        "  both ratios to the floor: transactions (or pairs) a second, and processor time of the backends"
    );
    for name in OTHERS {
        if let Some(other) = of(1, name) {
            let [rates, work] = ratio(of(0, name), Some(other));
            println!("  {name} to the other library's: tps {rates:.2}, work {work:.2}");
        }
    }
    let [debit, debit_work] = ratio(of(0, "debit"), of(0, "floor"));
    let [debit_to_hand, _] = ratio(of(0, "debit"), of(0, "plpgsql"));
    let [hold, _] = ratio(of(0, "hold"), of(0, "floor"));
    Ratios {
        debit,
        debit_work,
        debit_to_hand,
        hold,
    }
}
