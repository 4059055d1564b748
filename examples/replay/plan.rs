//! What is replayed: the requests of the trace, and what the trace does not say, invented from a seed: which customer each
//! request is of, what its wallet was given, and in which of the ways an application can charge it is charged.

use std::fs;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rust_decimal::{Decimal, RoundingStrategy};

use crate::common::{Result, decimal};

/// Decimal places of a credit.
pub const SCALE: u32 = 4;
/// The application never asks the model for a longer answer: the worst case an authorization holds for.
pub const MAX_OUTPUT: u32 = 1000;
/// What the vendor charges for a token, in dollars.
pub const INPUT_COST: &str = "0.0000005";
pub const OUTPUT_COST: &str = "0.0000015";

/// What a customer does, and what 1000 tokens of it cost, in credits.
pub struct Action {
    pub name: &'static str,
    pub input: &'static str,
    pub output: &'static str,
    pub minimum: &'static str,
}

pub const ACTIONS: [Action; 3] = [
    Action {
        name: "chat.reply",
        input: "0.1",
        output: "0.4",
        minimum: "0.01",
    },
    Action {
        name: "chat.write",
        input: "0.1",
        output: "0.5",
        minimum: "0.1",
    },
    Action {
        name: "document.answer",
        input: "0.08",
        output: "0.4",
        minimum: "0.25",
    },
];
/// What the largest customer has negotiated for the last of them.
pub const OWN_PRICE: Action = Action {
    name: "document.answer",
    input: "0.06",
    output: "0.36",
    minimum: "0",
};

impl Action {
    /// The rule that `credyt.set_price` is given.
    pub fn price(&self) -> serde_json::Value {
        serde_json::json!({
            "meters": {
                "input_tokens": {"per": 1000, "credits": self.input},
                "output_tokens": {"per": 1000, "credits": self.output},
            },
            "minimum": self.minimum,
        })
    }

    /// The same computed here, to compare with what is charged.
    fn credits(&self, tokens: Tokens) -> Decimal {
        let thousandths = decimal(self.input) * Decimal::from(tokens.input)
            + decimal(self.output) * Decimal::from(tokens.output);
        (thousandths / Decimal::ONE_THOUSAND)
            .max(decimal(self.minimum))
            .round_dp_with_strategy(SCALE, RoundingStrategy::AwayFromZero)
            .normalize()
    }
}

/// The tokens of a request, or of a part of its answer.
#[derive(Clone, Copy)]
pub struct Tokens {
    pub input: u32,
    pub output: u32,
}

impl Tokens {
    pub fn dimensions(self) -> serde_json::Value {
        serde_json::json!({"input_tokens": self.input, "output_tokens": self.output})
    }

    /// The vendor's bill, in dollars.
    pub fn cost(self) -> Decimal {
        decimal(INPUT_COST) * Decimal::from(self.input)
            + decimal(OUTPUT_COST) * Decimal::from(self.output)
    }

    /// The same request with an answer of this length.
    pub fn with_output(self, output: u32) -> Tokens {
        Tokens { output, ..self }
    }
}

/// How a request is charged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One debit when the answer is there.
    Debit,
    /// A debit together with a row of the application, in one transaction.
    Transaction,
    /// The same, but the application fails and does it again.
    RolledBack,
    /// Authorize the worst case, capture what it was.
    Hold,
    /// Authorize the worst case, capture the answer so far, several times.
    Stream { parts: u32 },
    /// Authorize the question alone, capture it with its answer.
    Overrun,
    /// Authorize for a second, capture after it.
    Late,
    /// Authorize; the vendor fails; release. Of some a part had been captured.
    Release { partly: bool },
    /// Authorize for a second, extend, capture in time.
    Extend,
}

/// Each way, how many of 1000 requests take it, and what the report calls it.
pub const WAYS: [(Way, u32, &str); 9] = [
    (Way::Debit, 350, "debited directly"),
    (
        Way::Transaction,
        100,
        "debited beside a row of the application",
    ),
    (Way::RolledBack, 10, "the same, rolled back once"),
    (Way::Hold, 300, "authorized, then captured"),
    (
        Way::Stream { parts: 0 },
        100,
        "streamed in several captures",
    ),
    (Way::Overrun, 80, "captured above the hold"),
    (Way::Late, 20, "captured after the hold has ended"),
    (Way::Release { partly: false }, 30, "released"),
    (Way::Extend, 10, "extended, then captured"),
];

/// What is given back afterwards.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Refund {
    No,
    Half,
    All,
}

/// One row of the trace, with what was invented for it.
pub struct Request {
    pub number: usize,
    pub customer: usize,
    pub action: usize,
    pub tokens: Tokens,
    pub way: Way,
    pub overrun: &'static str,
    pub retry: bool,
    pub refund: Refund,
}

/// One grant that a customer starts with.
pub struct Grant {
    pub kind: &'static str,
    pub credits: Decimal,
    pub paid: Decimal,
    /// Seconds from the start of the replay.
    pub starts_in: Option<f64>,
    pub ends_in: Option<f64>,
    pub priority: i32,
    pub applies_to: Option<Vec<&'static str>>,
}

pub struct Customer {
    pub name: String,
    pub grants: Vec<Grant>,
    pub overdraft_limit: Decimal,
    /// What it buys when its credits are gone; None: it goes without.
    pub pack: Option<Decimal>,
}

/// All of it.
pub struct Plan {
    pub customers: Vec<Customer>,
    pub requests: Vec<Request>,
}

impl Plan {
    /// What a request costs in credits.
    pub fn credits(&self, request: &Request, tokens: Tokens) -> Decimal {
        let action = &ACTIONS[request.action];
        if request.customer == 0 && action.name == OWN_PRICE.name {
            OWN_PRICE.credits(tokens)
        } else {
            action.credits(tokens)
        }
    }

    pub fn make(rows: &[Tokens], customers: usize, seed: u64) -> Plan {
        let mut rng = StdRng::seed_from_u64(seed);
        let zipf = Zipf::new(customers);
        let mut plan = Plan {
            customers: Vec::new(),
            requests: Vec::new(),
        };
        plan.requests = rows
            .iter()
            .enumerate()
            .map(|(number, &tokens)| {
                let customer = zipf.draw(&mut rng);
                request(&mut rng, number, tokens, customer)
            })
            .collect();
        let mut demand = vec![Decimal::ZERO; customers];
        for request in &plan.requests {
            demand[request.customer] += plan.credits(request, request.tokens);
        }
        plan.customers = demand
            .into_iter()
            .enumerate()
            .map(|(rank, demand)| customer(&mut rng, rank, demand))
            .collect();
        // Debt that a grant pays when it starts is earned by nobody's call: keep what is earned easy to count.
        for request in &mut plan.requests {
            let starts_later = plan.customers[request.customer]
                .grants
                .iter()
                .any(|grant| grant.starts_in.is_some());
            if request.overrun == "overdraft" && starts_later {
                request.overrun = "clamp";
            }
        }
        plan
    }
}

fn request(rng: &mut StdRng, number: usize, tokens: Tokens, customer: usize) -> Request {
    let action = match tokens {
        Tokens { input: 2000.., .. } => 2,
        Tokens { output: 250.., .. } => 1,
        _ => 0,
    };
    let mut dice = rng.random_range(0..WAYS.iter().map(|way| way.1).sum::<u32>());
    let (mut way, ..) = *WAYS
        .iter()
        .find(|(_, share, _)| {
            let found = dice < *share;
            dice = dice.saturating_sub(*share);
            found
        })
        .expect("the dice are below the sum of the shares");
    match &mut way {
        Way::Stream { parts } => *parts = rng.random_range(2..=5),
        Way::Release { partly } => *partly = rng.random_bool(0.3),
        _ => {}
    }
    Request {
        number,
        customer,
        action,
        tokens,
        way,
        overrun: ["reject", "clamp", "overdraft"][rng.random_range(0..3)],
        retry: rng.random_bool(0.03),
        refund: match rng.random_range(0..1000) {
            0..8 => Refund::Half,
            8..15 => Refund::All,
            _ => Refund::No,
        },
    }
}

/// A customer of this rank whose requests would cost `demand`: some have plenty, some too little, a few no wallet.
fn customer(rng: &mut StdRng, rank: usize, demand: Decimal) -> Customer {
    const DAY: f64 = 86_400.0;
    let mut customer = Customer {
        name: format!("cus_{rank:04}"),
        grants: Vec::new(),
        overdraft_limit: if rng.random_bool(0.1) {
            decimal("2")
        } else {
            decimal("0")
        },
        pack: None,
    };
    if rank % 100 == 77 {
        return customer;
    }
    let tight = rng.random_bool(0.25);
    let buys = rng.random_bool(0.5);
    let part = |share| (demand * decimal(share)).round_dp(2).max(decimal("0.05"));
    if tight && buys {
        customer.pack = Some(part("0.2"));
    }
    let mut give = |kind, credits: Decimal, price: Decimal, ends_in: Option<f64>, priority| {
        customer.grants.push(Grant {
            kind,
            credits,
            paid: (credits * price).normalize(),
            starts_in: None,
            ends_in,
            priority,
            applies_to: None,
        });
        customer.grants.len() - 1
    };
    give(
        "included",
        part("0.3"),
        decimal("0.008"),
        Some(30.0 * DAY),
        50,
    );
    // A gift for chatting. Some of them end while the replay runs.
    let ends_in = if rng.random_bool(0.4) {
        rng.random_range(2.0..8.0)
    } else {
        7.0 * DAY
    };
    let gift = give("promotional", part("0.1"), decimal("0"), Some(ends_in), 100);
    let packs = if tight { 1 } else { rng.random_range(1..=3) };
    let share = if tight { "0.3" } else { "0.9" };
    let mut last = gift;
    for pack in 0..packs {
        let ends_in = if pack == 0 {
            None
        } else {
            Some(rng.random_range(90.0..400.0) * DAY)
        };
        let price = [decimal("0.01"), decimal("0.009"), decimal("0.0125")][pack];
        last = give("purchased", part(share), price, ends_in, 100);
    }
    customer.grants[gift].applies_to = Some(vec!["chat.*"]);
    if packs > 1 && rng.random_bool(0.3) {
        customer.grants[last].starts_in = Some(rng.random_range(2.0..6.0));
    }
    customer
}

/// Customers by rank: the second has half the requests of the first, the third a third.
struct Zipf {
    up_to: Vec<f64>,
}

impl Zipf {
    fn new(customers: usize) -> Zipf {
        let mut sum = 0.0;
        let up_to = (1..=customers)
            .map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            })
            .collect();
        Zipf { up_to }
    }

    fn draw(&self, rng: &mut StdRng) -> usize {
        let at = rng.random_range(0.0..*self.up_to.last().expect("there is a customer"));
        self.up_to.partition_point(|&up_to| up_to <= at)
    }
}

/// The rows of a trace: TIMESTAMP, ContextTokens, GeneratedTokens.
pub fn read_trace(path: &str) -> Result<Vec<Tokens>> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let mut lines = text.lines();
    let header = lines
        .next()
        .unwrap_or_default()
        .trim_start_matches('\u{feff}')
        .trim_end();
    if header != "TIMESTAMP,ContextTokens,GeneratedTokens" {
        return Err(
            format!("{path}: these are not the columns of an Azure LLM trace: {header}").into(),
        );
    }
    let mut rows = Vec::new();
    for (at, line) in lines
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let mut fields = line.trim_end().split(',').skip(1).map(str::parse);
        match (fields.next(), fields.next()) {
            (Some(Ok(input)), Some(Ok(output))) => rows.push(Tokens { input, output }),
            _ => return Err(format!("{path}, line {}: {line}", at + 2).into()),
        }
    }
    Ok(rows)
}
