//! What is replayed: the requests of the trace, and what the trace does not say, invented from a seed: which customer each
//! request is of, which model answers it, what its wallet was given, in which of the ways an application can charge it is
//! charged, and how its cost becomes known.

use std::fs;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rust_decimal::{Decimal, RoundingStrategy};

use crate::book::{Cost, total};
use crate::common::{Result, decimal};
use crate::vendors::{MISSING, MODELS, Model, ROUTER, Rates, UNKNOWN, Used};

/// Decimal places of a credit.
pub const SCALE: u32 = 4;
/// The application never asks the model for a longer answer: the worst case an authorization holds for.
pub const MAX_OUTPUT: u32 = 1000;
/// The router of a request writes no more than the name of a tool.
const ROUTED: u32 = 12;

/// What a customer does, and what it costs in credits.
pub struct Action {
    pub name: &'static str,
    price: Price,
}

enum Price {
    /// So much for 1000 tokens.
    Meters {
        input: &'static str,
        output: &'static str,
        minimum: &'static str,
    },
    /// What it costs us and so much more; what a credit is worth.
    CostPlus {
        markup: &'static str,
        credit_value: &'static str,
    },
}

const fn meters(
    name: &'static str,
    input: &'static str,
    output: &'static str,
    minimum: &'static str,
) -> Action {
    Action {
        name,
        price: Price::Meters {
            input,
            output,
            minimum,
        },
    }
}

pub const ACTIONS: [Action; 4] = [
    meters("chat.reply", "0.1", "0.4", "0.01"),
    meters("chat.write", "0.1", "0.5", "0.1"),
    meters("document.answer", "0.08", "0.4", "0.25"),
    Action {
        name: "code.assist",
        price: Price::CostPlus {
            markup: "0.40",
            credit_value: "0.01",
        },
    },
];
/// How many of 1000 requests are of the last of them; the sizes of the others say what they are.
const CODE: u32 = 150;
/// What the largest customer has negotiated.
pub const OWN_PRICE: Action = meters("document.answer", "0.06", "0.36", "0");
/// What is charged where the price starts from a cost that nobody knows.
pub const BY_HAND: &str = "0.5";

impl Action {
    /// The rule that `credyt.set_price` is given.
    pub fn price(&self) -> serde_json::Value {
        match self.price {
            Price::Meters {
                input,
                output,
                minimum,
            } => serde_json::json!({
                "meters": {
                    "input_tokens": {"per": 1000, "credits": input},
                    "output_tokens": {"per": 1000, "credits": output},
                },
                "minimum": minimum,
            }),
            Price::CostPlus {
                markup,
                credit_value,
            } => {
                serde_json::json!({"cost_plus": {"markup": markup, "credit_value": credit_value}})
            }
        }
    }

    pub fn is_cost_plus(&self) -> bool {
        matches!(self.price, Price::CostPlus { .. })
    }

    /// The same computed here, to compare with what is charged.
    fn credits(&self, tokens: Tokens, cost: Option<Decimal>) -> Decimal {
        let credits = match self.price {
            Price::Meters {
                input,
                output,
                minimum,
            } => {
                let thousandths = decimal(input) * Decimal::from(tokens.input)
                    + decimal(output) * Decimal::from(tokens.output);
                (thousandths / Decimal::ONE_THOUSAND).max(decimal(minimum))
            }
            Price::CostPlus {
                markup,
                credit_value,
            } => match cost {
                Some(cost) => cost * (Decimal::ONE + decimal(markup)) / decimal(credit_value),
                None => decimal(BY_HAND),
            },
        };
        credits
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

/// How the cost of a request becomes known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bill {
    /// From the usage in the vendor's answer, with the debit.
    Usage,
    /// From that of two models: a small one chose the tool.
    Pair,
    /// From usage; later the vendor reports what it really was.
    Reported,
    /// From usage; later reported and invoiced, in any order.
    Invoiced,
    /// As money, with the debit: nobody says of which vendor.
    Given,
    /// Not with the debit; later from its usage.
    Later,
    /// Not at all.
    Never,
    /// From the usage of a model whose rate is set when all is over.
    Missing,
    /// From the usage of a model whose rate nobody sets.
    Unknown,
}

/// Each of them, for how many of 1000 requests, and what the report calls it.
pub const BILLS: [(Bill, u32, &str); 9] = [
    (Bill::Usage, 500, "from the usage in the vendor's answer"),
    (Bill::Pair, 80, "from the usage of two models"),
    (
        Bill::Reported,
        100,
        "from usage, then reported by the vendor",
    ),
    (Bill::Invoiced, 80, "from usage, then reported and invoiced"),
    (Bill::Given, 70, "given as money"),
    (Bill::Later, 60, "recorded later, from usage"),
    (Bill::Never, 30, "never known"),
    (Bill::Missing, 50, "of a model whose rate is set in the end"),
    (Bill::Unknown, 30, "of a model whose rate is never set"),
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
    /// Which of MODELS answers it, and how much of the question that has read from its cache, or written to it.
    model: usize,
    cached: u32,
    written_to_cache: u32,
    pub bill: Bill,
    pub way: Way,
    pub overrun: &'static str,
    pub retry: bool,
    pub refund: Refund,
}

impl Request {
    pub fn action(&self) -> &'static Action {
        &ACTIONS[self.action]
    }

    /// The model that answers it.
    pub fn model(&self) -> &'static Model {
        match self.bill {
            Bill::Missing => &MISSING,
            Bill::Unknown => &UNKNOWN,
            _ => &MODELS[self.model].0,
        }
    }

    /// What that has used, for so much of the answer.
    pub fn used(&self, tokens: Tokens) -> Used {
        let model = self.model();
        let if_so = |so: bool, count: u32| if so { count } else { 0 };
        Used {
            input: tokens.input,
            cached: self.cached,
            written_to_cache: if_so(model.writes_to_cache(), self.written_to_cache),
            output: tokens.output,
            thoughts: if_so(model.thinks(), tokens.output / 4),
        }
    }

    /// The vendor's id of it.
    pub fn vendor_request(&self) -> String {
        format!("req_{:06}", self.number)
    }

    /// Is its cost recorded under that id?
    fn is_recorded(&self) -> bool {
        matches!(self.bill, Bill::Reported | Bill::Invoiced)
    }

    /// The usage that is passed with the call. Before the vendor was asked it has no id.
    pub fn usage(&self, tokens: Tokens, asked: bool) -> Option<serde_json::Value> {
        let id = self.vendor_request();
        let id = (asked && self.is_recorded()).then_some(id.as_str());
        let usage = self.model().usage(self.used(tokens), id);
        match self.bill {
            Bill::Given | Bill::Later | Bill::Never => None,
            Bill::Pair => {
                let routed = self.routed(tokens);
                Some(serde_json::json!([
                    MODELS[ROUTER].0.usage(routed, None),
                    usage
                ]))
            }
            _ => Some(usage),
        }
    }

    fn routed(&self, tokens: Tokens) -> Used {
        Used {
            input: tokens.input,
            cached: 0,
            written_to_cache: 0,
            output: ROUTED,
            thoughts: 0,
        }
    }
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
    pub rates: Rates,
    pub customers: Vec<Customer>,
    pub requests: Vec<Request>,
}

impl Plan {
    /// What a request costs in credits.
    pub fn credits(&self, request: &Request, tokens: Tokens) -> Decimal {
        let action = request.action();
        if request.customer == 0 && action.name == OWN_PRICE.name {
            return OWN_PRICE.credits(tokens, None);
        }
        action.credits(tokens, total(&self.costs(request, tokens)))
    }

    /// What the vendor charges for a request, in dollars, where its rate is known.
    pub fn bill(&self, request: &Request, tokens: Tokens) -> Decimal {
        self.rates.cost(request.model, request.used(tokens))
    }

    /// What is known of that with the debit, model by model.
    pub fn costs(&self, request: &Request, tokens: Tokens) -> Vec<Cost> {
        let bill = self.bill(request, tokens);
        let of = |model: &Model, cost: Option<Decimal>| Cost {
            vendor: Some(model.vendor),
            model: Some(model.id),
            cost,
            once_rated: None,
        };
        let model = request.model();
        match request.bill {
            Bill::Given => vec![Cost {
                cost: Some(bill),
                ..Cost::default()
            }],
            Bill::Later | Bill::Never => Vec::new(),
            Bill::Missing => vec![Cost {
                once_rated: Some(self.rates.cost_of_missing(request.used(tokens))),
                ..of(model, None)
            }],
            Bill::Unknown => vec![of(model, None)],
            Bill::Pair => {
                let routed = self.rates.cost(ROUTER, request.routed(tokens));
                vec![of(&MODELS[ROUTER].0, Some(routed)), of(model, Some(bill))]
            }
            Bill::Usage | Bill::Reported | Bill::Invoiced => vec![of(model, Some(bill))],
        }
    }

    /// The cost that is passed with the call.
    pub fn given(&self, request: &Request, tokens: Tokens) -> Option<String> {
        let given = request.bill == Bill::Given;
        given.then(|| self.bill(request, tokens).to_string())
    }

    pub fn make(rows: &[Tokens], rates: Rates, customers: usize, seed: u64) -> Plan {
        let mut rng = StdRng::seed_from_u64(seed);
        let zipf = Zipf::new(customers);
        let mut plan = Plan {
            rates,
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
        _ if rng.random_range(0..1000) < CODE => 3,
        Tokens { input: 2000.., .. } => 2,
        Tokens { output: 250.., .. } => 1,
        _ => 0,
    };
    let mut way = WAYS[draw(rng, WAYS.map(|(_, share, _)| share))].0;
    match &mut way {
        Way::Stream { parts } => *parts = rng.random_range(2..=5),
        Way::Release { partly } => *partly = rng.random_bool(0.3),
        _ => {}
    }
    let (mut cached, mut written_to_cache) = (0, 0);
    if rng.random_bool(0.4) {
        cached = tokens.input / 2 / 128 * 128;
    }
    if rng.random_bool(0.3) {
        written_to_cache = (tokens.input - cached) / 4;
    }
    let bill = BILLS[draw(rng, BILLS.map(|(_, share, _)| share))].0;
    Request {
        number,
        customer,
        action,
        tokens,
        model: draw(rng, MODELS.each_ref().map(|(_, share)| *share)),
        cached,
        written_to_cache,
        bill: possible(bill, way, &ACTIONS[action]),
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

/// A bill that this way of charging can have: one that is recorded later is of one debit, and a price that starts from
/// the cost has to know it, or is told what to charge instead.
fn possible(bill: Bill, way: Way, action: &Action) -> Bill {
    let several = matches!(way, Way::Stream { .. } | Way::Release { partly: true });
    let is_later = matches!(bill, Bill::Reported | Bill::Invoiced | Bill::Later);
    let is_open = matches!(bill, Bill::Later | Bill::Never);
    let has_no_rate = matches!(bill, Bill::Missing | Bill::Unknown);
    let unpriced = action.is_cost_plus() && (is_open || has_no_rate && way != Way::Debit);
    if several && is_later || unpriced {
        Bill::Usage
    } else {
        bill
    }
}

/// One of several, by their shares.
fn draw<const N: usize>(rng: &mut StdRng, shares: [u32; N]) -> usize {
    let mut dice = rng.random_range(0..shares.iter().sum::<u32>());
    let found = shares.iter().position(|share| {
        let found = dice < *share;
        dice = dice.saturating_sub(*share);
        found
    });
    found.expect("the dice are below the sum of the shares")
}

/// What the customer of this rank is called.
pub fn name(rank: usize) -> String {
    format!("cus_{rank:04}")
}

/// A customer of this rank whose requests would cost `demand`: some have plenty, some too little, a few no wallet.
fn customer(rng: &mut StdRng, rank: usize, demand: Decimal) -> Customer {
    const DAY: f64 = 86_400.0;
    let mut customer = Customer {
        name: name(rank),
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
