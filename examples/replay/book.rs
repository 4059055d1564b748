//! The program's own book: every debit as it was answered, and what it cost by the program's own reckoning. The reports of
//! the database are compared with sums made here, in the end, when everything is known.

use std::collections::{BTreeMap, HashMap, VecDeque};

use rust_decimal::{Decimal, RoundingStrategy};
use uuid::Uuid;

/// The decimal places of credits and revenue; what is shared is rounded there.
const PLACES: u32 = 10;

/// What one vendor's model cost.
#[derive(Clone, Default)]
pub struct Cost {
    pub vendor: Option<&'static str>,
    pub model: Option<&'static str>,
    /// None: nobody knows.
    pub cost: Option<Decimal>,
    /// What it will be when the missing rate is set.
    pub once_rated: Option<Decimal>,
}

/// The sum of costs; None where one is not known, or there are none.
pub fn total(costs: &[Cost]) -> Option<Decimal> {
    let mut costs = costs.iter();
    let first = costs.next()?.cost?;
    costs.try_fold(first, |sum, cost| Some(sum + cost.cost?))
}

/// What a grant paid of a debit, or got back in a refund; or what was owed of it.
#[derive(Clone, Copy)]
pub struct Part {
    pub credits: Decimal,
    pub revenue: Decimal,
    pub owed: bool,
}

/// A debit or capture.
pub struct Sale {
    pub customer: usize,
    pub action: &'static str,
    /// When it was booked, in microseconds.
    pub at: i64,
    pub quantity: Decimal,
    pub parts: Vec<Part>,
    /// In the order in which they became known.
    pub costs: Vec<Cost>,
}

/// What came back of a debit.
pub struct Refund {
    pub debit: Uuid,
    pub at: i64,
    pub parts: Vec<Part>,
}

/// Credits that were bought while the replay ran. They pay what is owed first.
pub struct TopUp {
    pub customer: usize,
    pub at: i64,
    pub credits: Decimal,
    /// Money for one of them.
    pub worth: Decimal,
}

/// A cost that is of no debit.
pub struct Overhead {
    pub customer: usize,
    pub action: Option<&'static str>,
    pub cost: Cost,
}

/// By what sums are made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    Customer,
    Action,
    Vendor,
    Model,
}

/// The values of what was asked for, as a report has them.
pub type Key = Vec<Option<String>>;

/// A row of a report.
#[derive(Clone, Default)]
pub struct Sums {
    pub debits: u64,
    /// Those of them whose cost is known.
    pub costed: u64,
    pub quantity: Decimal,
    pub credits: Decimal,
    pub revenue: Decimal,
    pub cost: Option<Decimal>,
}

impl Sums {
    pub fn margin(&self) -> Decimal {
        self.revenue - self.cost.unwrap_or_default()
    }

    pub fn margin_ratio(&self) -> Option<Decimal> {
        self.margin().checked_div(self.revenue)
    }

    pub fn cost_coverage(&self) -> Option<Decimal> {
        Decimal::from(self.costed).checked_div(Decimal::from(self.debits))
    }

    fn spend(&mut self, cost: Option<Decimal>) {
        if let Some(cost) = cost {
            *self.cost.get_or_insert_default() += cost;
        }
    }
}

#[derive(Default)]
pub struct Book {
    pub sales: HashMap<Uuid, Sale>,
    pub refunds: Vec<Refund>,
    pub top_ups: Vec<TopUp>,
    pub overheads: Vec<Overhead>,
}

impl Book {
    pub fn add(&mut self, other: Book) {
        self.sales.extend(other.sales);
        self.refunds.extend(other.refunds);
        self.top_ups.extend(other.top_ups);
        self.overheads.extend(other.overheads);
    }

    /// The missing rate is set. Returns how many costs became known.
    pub fn rate(&mut self) -> usize {
        let of_sales = self.sales.values_mut().flat_map(|sale| &mut sale.costs);
        let alone = self.overheads.iter_mut().map(|overhead| &mut overhead.cost);
        let mut rated = 0;
        for cost in of_sales.chain(alone) {
            if let Some(known) = cost.once_rated.take() {
                cost.cost = Some(known);
                rated += 1;
            }
        }
        rated
    }

    /// Usage of debits whose cost is not known.
    pub fn uncosted(&self) -> usize {
        let costs = self.sales.values().flat_map(|sale| &sale.costs);
        costs
            .filter(|cost| cost.vendor.is_some() && cost.cost.is_none())
            .count()
    }

    /// The rows of a report.
    pub fn sums(&self, by: &[By]) -> BTreeMap<Key, Sums> {
        let mut sums: BTreeMap<Key, Sums> = BTreeMap::new();
        for sale in self.sales.values() {
            let costed = total(&sale.costs).is_some();
            let mut counted: Vec<Key> = Vec::new();
            for (cost, share) in sale.shared(&sale.parts) {
                let key = key(by, sale.customer, Some(sale.action), &cost);
                let row = sums.entry(key.clone()).or_default();
                row.credits += share.credits;
                row.revenue += share.revenue;
                row.spend(cost.cost);
                // A debit counts once in a row, even with two models of it.
                if !counted.contains(&key) {
                    row.debits += 1;
                    row.costed += u64::from(costed);
                    row.quantity += sale.quantity;
                    counted.push(key);
                }
            }
        }
        for (debit, part) in self.afterwards() {
            let sale = &self.sales[&debit];
            for (cost, share) in sale.shared(&[part]) {
                let key = key(by, sale.customer, Some(sale.action), &cost);
                let row = sums.entry(key).or_default();
                row.credits += share.credits;
                row.revenue += share.revenue;
            }
        }
        for overhead in &self.overheads {
            let key = key(by, overhead.customer, overhead.action, &overhead.cost);
            sums.entry(key).or_default().spend(overhead.cost.cost);
        }
        sums
    }

    /// What was earned when debt was paid.
    pub fn settled(&self) -> Decimal {
        self.settlements()
            .iter()
            .map(|(_, part)| part.revenue)
            .sum()
    }

    /// What happened to debits later: refunds take back, and top-ups earn where they pay what is owed.
    fn afterwards(&self) -> Vec<(Uuid, Part)> {
        let mut all = self.settlements();
        for refund in &self.refunds {
            all.extend(refund.parts.iter().map(|part| {
                let back = Part {
                    credits: -part.credits,
                    revenue: -part.revenue,
                    ..*part
                };
                (refund.debit, back)
            }));
        }
        all
    }

    /// The debts that top-ups paid, the oldest first.
    fn settlements(&self) -> Vec<(Uuid, Part)> {
        enum Event<'a> {
            Owes(Uuid, Decimal),
            Forgives(Uuid, Decimal),
            Pays(&'a TopUp),
        }
        let owed = |parts: &[Part]| -> Decimal {
            let owed = parts.iter().filter(|part| part.owed);
            owed.map(|part| part.credits).sum()
        };
        let mut events: Vec<(usize, i64, Event)> = Vec::new();
        for (id, sale) in &self.sales {
            let credits = owed(&sale.parts);
            events.push((sale.customer, sale.at, Event::Owes(*id, credits)));
        }
        for refund in &self.refunds {
            let (customer, credits) = (self.sales[&refund.debit].customer, owed(&refund.parts));
            events.push((customer, refund.at, Event::Forgives(refund.debit, credits)));
        }
        for top_up in &self.top_ups {
            events.push((top_up.customer, top_up.at, Event::Pays(top_up)));
        }
        events.retain(|(.., event)| !matches!(event, Event::Owes(_, c) | Event::Forgives(_, c) if c.is_zero()));
        events.sort_by_key(|(customer, at, _)| (*customer, *at));

        let mut settled = Vec::new();
        let mut debts: VecDeque<(Uuid, Decimal)> = VecDeque::new();
        let mut of = usize::MAX;
        for (customer, _, event) in events {
            if customer != of {
                of = customer;
                debts.clear();
            }
            match event {
                Event::Owes(id, credits) => debts.push_back((id, credits)),
                Event::Forgives(id, credits) => {
                    if let Some(debt) = debts.iter_mut().find(|debt| debt.0 == id) {
                        debt.1 -= credits;
                    }
                }
                Event::Pays(top_up) => {
                    let mut left = top_up.credits;
                    for (id, debt) in &mut debts {
                        let credits = left.min(*debt);
                        *debt -= credits;
                        left -= credits;
                        let earned = Part {
                            credits: Decimal::ZERO,
                            revenue: credits * top_up.worth,
                            owed: false,
                        };
                        settled.push((*id, earned));
                    }
                }
            }
            debts.retain(|(_, credits)| !credits.is_zero());
        }
        settled
    }
}

impl Sale {
    /// Each model's cost, with its share of these parts: by cost, equal ones where nothing has one. The shares of a part
    /// add up to it.
    fn shared(&self, parts: &[Part]) -> Vec<(Cost, Part)> {
        let none = [Cost::default()];
        let costs = if self.costs.is_empty() {
            &none
        } else {
            &self.costs[..]
        };
        let mut weights: Vec<Decimal> = costs.iter().map(|c| c.cost.unwrap_or_default()).collect();
        if weights.iter().all(Decimal::is_zero) {
            weights.fill(Decimal::ONE);
        }
        let empty = Part {
            credits: Decimal::ZERO,
            revenue: Decimal::ZERO,
            owed: false,
        };
        let mut shares = vec![empty; costs.len()];
        for part in parts {
            let credits = split(part.credits, &weights);
            let revenue = split(part.revenue, &weights);
            for ((share, credits), revenue) in shares.iter_mut().zip(credits).zip(revenue) {
                share.credits += credits;
                share.revenue += revenue;
            }
        }
        costs.iter().cloned().zip(shares).collect()
    }
}

/// Up to each weight its part of the whole, rounded; less what those before it have.
fn split(whole: Decimal, weights: &[Decimal]) -> Vec<Decimal> {
    let sum: Decimal = weights.iter().sum();
    let (mut reached, mut given) = (Decimal::ZERO, Decimal::ZERO);
    let share = |weight: &Decimal| {
        reached += weight;
        let until = (whole * reached / sum)
            .round_dp_with_strategy(PLACES, RoundingStrategy::MidpointAwayFromZero);
        let share = until - given;
        given = until;
        share
    };
    weights.iter().map(share).collect()
}

fn key(by: &[By], customer: usize, action: Option<&str>, cost: &Cost) -> Key {
    let value = |by: &By| match by {
        By::Customer => Some(crate::plan::name(customer)),
        By::Action => action.map(str::to_owned),
        By::Vendor => cost.vendor.map(str::to_owned),
        By::Model => cost.model.map(str::to_owned),
    };
    by.iter().map(value).collect()
}
