//! Margin by vendor, model and kind: how one movement is shared over the vendors' models behind it
//! and the kinds of grants that paid it.
//!
//! What each kind paid is known, and so is what each model cost. Where both are asked for, the
//! credits and revenue of a kind are shared over the models by cost, and the cost of a model over the
//! kinds by credits. Shares are rounded so that they add up to the whole, always.

use ethnum::U256;
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};

use super::Amount;
use super::exchange::Conversion;
use super::interrupt::{self, checked};
use super::number::{parse_decimal, plain};

/// The decimals a vendor cost keeps.
pub const COST_DECIMALS: u32 = 12;

/// What a row costs stays below this, with room for sums.
const COST_LIMIT: i64 = 10_000_000_000_000_000;

/// What one kind of grant paid.
#[derive(Clone, Debug, PartialEq)]
pub struct KindPayment {
    /// included, promotional, purchased or overdraft; `None` where nothing was to pay.
    pub kind: Option<String>,
    pub credits: Amount,
    pub revenue: Amount,
}

/// What one vendor's model cost. Also an element of `costs` in the ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelCost {
    pub vendor: Option<String>,
    pub model: Option<String>,
    /// `None`: not known.
    pub cost: Option<Decimal>,
    /// By what revenue is shared, where the movement itself costs nothing: of a refund the debit's cost.
    pub weight: Option<Decimal>,
    /// Why the cost is not known.
    pub reason: Option<String>,
    pub rate_version: Option<i32>,
    /// `None`: the rate was in the asset's currency, or the cost was given in it.
    pub conversion: Option<Conversion>,
    pub request: Option<String>,
}

/// A movement's part of one vendor, model and kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub vendor: Option<String>,
    pub model: Option<String>,
    pub kind: Option<String>,
    pub credits: Amount,
    pub revenue: Amount,
    pub cost: Option<Decimal>,
}

/// A movement, shared over the kinds and models: a line for each pair of them.
pub fn lines(paid: &[KindPayment], spent: &[ModelCost]) -> Vec<Line> {
    let nothing = [KindPayment {
        kind: None,
        credits: Amount::ZERO,
        revenue: Amount::ZERO,
    }];
    let unknown = [ModelCost::default()];
    let paid = if paid.is_empty() { &nothing } else { paid };
    let spent = if spent.is_empty() { &unknown } else { spent };
    let by_credits: Vec<u128> = paid
        .iter()
        .map(|p| p.credits.units().unsigned_abs())
        .collect();
    let by_cost: Vec<u128> = spent.iter().map(ModelCost::shares_by).collect();
    let costs: Vec<Option<Vec<i128>>> = spent
        .iter()
        .map(|s| s.cost.map(|cost| split(cost_units(cost), &by_credits)))
        .collect();
    let mut lines = Vec::with_capacity(paid.len() * spent.len());
    for (k, paid) in paid.iter().enumerate() {
        let credits = split(paid.credits.units(), &by_cost);
        let revenue = split(paid.revenue.units(), &by_cost);
        for (m, spent) in checked(spent).enumerate() {
            lines.push(Line {
                vendor: spent.vendor.clone(),
                model: spent.model.clone(),
                kind: paid.kind.clone(),
                credits: Amount::from_units(credits[m]),
                revenue: Amount::from_units(revenue[m]),
                cost: costs[m].as_ref().map(|costs| cost_of(costs[k])),
            });
        }
    }
    lines
}

/// Lines of the same vendor, model and kind as one, in a fixed order.
pub fn merged(mut lines: Vec<Line>) -> Vec<Line> {
    // Stable, so that costs are added in their order.
    lines.sort_by(|a, b| {
        interrupt::check();
        group(a).cmp(&group(b))
    });
    let mut merged: Vec<Line> = Vec::with_capacity(lines.len());
    for line in checked(lines) {
        match merged.last_mut() {
            Some(sum) if group(sum) == group(&line) => {
                sum.credits += line.credits;
                sum.revenue += line.revenue;
                sum.cost = match (sum.cost, line.cost) {
                    (Some(one), Some(other)) => Some(one + other),
                    (one, other) => one.or(other),
                };
            }
            _ => merged.push(line),
        }
    }
    merged
}

fn group(line: &Line) -> (&Option<String>, &Option<String>, &Option<String>) {
    (&line.vendor, &line.model, &line.kind)
}

/// What each kind paid, from the allocations of a ledger row of this kind. Credits and revenue count
/// as reports do: spent is positive, refunded negative. A settlement moves credits from overdraft to
/// the kind that paid. `None`: they are not what a ledger row has.
pub fn paid(row: &str, allocations: &Json) -> Option<Vec<KindPayment>> {
    let mut paid = Vec::new();
    for part in checked(allocations.as_array()?) {
        let amount = |name: &str| match part.get(name) {
            Some(text) => Amount::parse(text.as_str()?),
            None => Some(Amount::ZERO),
        };
        let (credits, revenue) = (amount("credits")?, amount("revenue")?);
        let kind = part.get("kind")?.as_str()?.to_owned();
        let of = |kind: &str, credits, revenue| KindPayment {
            kind: Some(kind.to_owned()),
            credits,
            revenue,
        };
        match row {
            "debit" => paid.push(of(&kind, credits, revenue)),
            "refund" => paid.push(of(&kind, -credits, -revenue)),
            "settlement" => {
                paid.push(of(&kind, credits, revenue));
                paid.push(of("overdraft", -credits, Amount::ZERO));
            }
            "revocation" => paid.push(of(&kind, Amount::ZERO, -revenue)),
            _ => {}
        }
    }
    Some(paid)
}

/// Why a vendor's request costs nothing with this debit.
const COUNTED_BEFORE: &str = "counted before";

impl ModelCost {
    /// It counts with another debit, or was recorded: here it costs nothing, and no rate was used.
    pub fn count_elsewhere(&mut self) {
        self.cost = Some(Decimal::ZERO);
        self.reason = Some(COUNTED_BEFORE.to_owned());
        self.rate_version = None;
        self.conversion = None;
    }

    pub fn is_counted_elsewhere(&self) -> bool {
        self.reason.as_deref() == Some(COUNTED_BEFORE)
    }

    fn shares_by(&self) -> u128 {
        let by = self.weight.or(self.cost).unwrap_or_default();
        cost_units(by).unsigned_abs()
    }

    /// As an element of `costs` in the ledger.
    pub fn json(&self) -> Json {
        let mut object = Map::new();
        let mut put = |name: &str, value: Json| object.insert(name.to_owned(), value);
        put("vendor", json!(self.vendor));
        put("model", json!(self.model));
        if let Some(weight) = self.weight {
            put("weight", json!(plain(weight)));
        } else {
            put("cost", json!(self.cost.map(plain)));
        }
        if let Some(reason) = &self.reason {
            put("reason", json!(reason));
        }
        if let Some(version) = self.rate_version {
            put("rate_version", json!(version));
        }
        if let Some(conversion) = &self.conversion {
            put("currency", json!(conversion.currency));
            put("exchange_rate", json!(plain(conversion.rate)));
        }
        if let Some(request) = &self.request {
            put("vendor_request_id", json!(request));
        }
        Json::Object(object)
    }

    /// Read back; `None` when it is no such element.
    pub fn read(element: &Json) -> Option<ModelCost> {
        let object = element.as_object()?;
        let text = |name: &str| object.get(name).and_then(Json::as_str).map(str::to_owned);
        let number = |name: &str| match object.get(name) {
            None | Some(Json::Null) => Some(None),
            Some(text) => read_cost(text).map(Some),
        };
        let version = object.get("rate_version").and_then(Json::as_i64);
        let conversion = match (text("currency"), object.get("exchange_rate")) {
            (Some(currency), Some(rate)) => Some(Conversion {
                currency,
                rate: parse_decimal(rate.as_str()?).ok()?,
            }),
            _ => None,
        };
        Some(ModelCost {
            vendor: text("vendor"),
            model: text("model"),
            cost: number("cost")?,
            weight: number("weight")?,
            reason: text("reason"),
            rate_version: version.and_then(|version| i32::try_from(version).ok()),
            conversion,
            request: text("vendor_request_id"),
        })
    }

    /// The `costs` of a ledger row; where it has none, the cost that was given with it, of no vendor.
    pub fn read_all(costs: Option<&Json>, cost: Option<Decimal>) -> Option<Vec<ModelCost>> {
        match costs {
            Some(costs) => checked(costs.as_array()?).map(ModelCost::read).collect(),
            None => Some(vec![ModelCost {
                cost,
                ..ModelCost::default()
            }]),
        }
    }
}

impl Line {
    /// As an element of `lines` in the cost postings.
    pub fn json(&self) -> Json {
        json!({
            "vendor": self.vendor,
            "model": self.model,
            "kind": self.kind,
            "credits": self.credits.to_string(),
            "revenue": self.revenue.to_string(),
            "cost": self.cost.map(plain),
        })
    }
}

/// Shares of a total by these weights; equal ones where all weights are zero. They add up to it.
pub fn split(total: i128, weights: &[u128]) -> Vec<i128> {
    let equal = vec![1; weights.len()];
    let weights = if weights.iter().all(|w| *w == 0) {
        &equal
    } else {
        weights
    };
    let sum: U256 = weights.iter().map(|w| U256::from(*w)).sum();
    let size = U256::from(total.unsigned_abs());
    let (mut reached, mut given) = (U256::ZERO, 0_i128);
    let share = |weight: &u128| {
        reached += U256::from(*weight);
        let until = ((size * reached + sum / 2) / sum).as_i128();
        let share = until - given;
        given = until;
        if total < 0 { -share } else { share }
    };
    checked(weights).map(share).collect()
}

/// Shares of a cost by these weights; none of them negative.
pub fn split_cost(cost: Decimal, weights: &[Decimal]) -> Vec<Decimal> {
    let weights: Vec<u128> = weights
        .iter()
        .map(|weight| cost_units(*weight).unsigned_abs())
        .collect();
    split(cost_units(cost), &weights)
        .into_iter()
        .map(cost_of)
        .collect()
}

/// The sum of the costs that are known in `costs` of a ledger row or `lines` of a cost posting; `Some(None)`: none is.
/// `None`: they are no such thing.
pub fn known_cost(parts: &Json) -> Option<Option<Decimal>> {
    let mut sum: Option<Decimal> = None;
    for part in checked(parts.as_array()?) {
        match part.as_object()?.get("cost") {
            None | Some(Json::Null) => {}
            Some(cost) => sum = Some(sum.unwrap_or_default().checked_add(read_cost(cost)?)?),
        }
    }
    Some(sum)
}

/// A cost as it is stored; `None` where it is no number, or more than a row can cost.
pub(super) fn read_cost(text: &Json) -> Option<Decimal> {
    let cost = parse_decimal(text.as_str()?).ok()?;
    (cost.abs() < Decimal::from(COST_LIMIT)).then_some(cost)
}

fn cost_units(cost: Decimal) -> i128 {
    let cost = cost.round_dp(COST_DECIMALS).normalize();
    // Costs are below 1e15 with 12 decimals: 27 digits.
    cost.mantissa()
        .saturating_mul(10_i128.pow(COST_DECIMALS - cost.scale()))
}

fn cost_of(units: i128) -> Decimal {
    Decimal::try_from_i128_with_scale(units, COST_DECIMALS)
        .unwrap_or(Decimal::MAX)
        .normalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(kind: &str, credits: &str, revenue: &str) -> KindPayment {
        KindPayment {
            kind: Some(kind.to_owned()),
            credits: Amount::parse(credits).unwrap(),
            revenue: Amount::parse(revenue).unwrap(),
        }
    }

    fn model(name: &str, cost: &str) -> ModelCost {
        ModelCost {
            vendor: Some("openai".to_owned()),
            model: Some(name.to_owned()),
            cost: parse_decimal(cost).ok(),
            ..ModelCost::default()
        }
    }

    #[test]
    fn revenue_is_shared_by_cost_and_cost_by_credits() {
        let paid = [kind("included", "3", "0"), kind("purchased", "1", "0.10")];
        let lines = lines(&paid, &[model("a", "0.03"), model("b", "0.01")]);
        let seen: Vec<_> = lines
            .iter()
            .map(|l| {
                let (model, kind) = (l.model.clone().unwrap(), l.kind.clone().unwrap());
                format!(
                    "{model} {kind} {} {} {}",
                    l.credits,
                    l.revenue,
                    l.cost.unwrap()
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                "a included 2.25 0 0.0225",
                "b included 0.75 0 0.0075",
                "a purchased 0.75 0.075 0.0075",
                "b purchased 0.25 0.025 0.0025"
            ]
        );
    }

    #[test]
    fn what_is_not_known_is_shared_equally_and_stays_unknown() {
        let lines = lines(
            &[kind("purchased", "3", "1")],
            &[model("a", "x"), model("b", "x")],
        );
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.cost.is_none()));
        assert_eq!(lines[0].revenue, Amount::parse("0.5").unwrap());
    }

    #[test]
    fn a_movement_without_allocations_keeps_its_cost() {
        let lines = lines(&[], &[model("a", "0.5")]);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].kind, None);
        assert_eq!(lines[0].cost, parse_decimal("0.5").ok());
    }

    #[test]
    fn a_settlement_moves_credits_from_overdraft_to_the_kind_that_paid() {
        let allocations =
            json!([{"grant": "x", "kind": "purchased", "credits": "2", "revenue": "0.40"}]);
        let paid = paid("settlement", &allocations).unwrap();
        assert_eq!(
            paid,
            [kind("purchased", "2", "0.40"), kind("overdraft", "-2", "0")]
        );
    }

    #[test]
    fn costs_are_read_back_as_they_were_written() {
        let spent = ModelCost {
            reason: Some("unknown model".to_owned()),
            rate_version: Some(3),
            request: Some("req_1".to_owned()),
            ..model("a", "0.000000000001")
        };
        assert_eq!(ModelCost::read(&spent.json()), Some(spent));
        assert_eq!(ModelCost::read(&json!("no object")), None);
    }

    #[test]
    fn costs_that_are_known_add_up() {
        let sum = |parts| known_cost(&parts).map(|sum| sum.map(plain));
        let costs = json!([{"cost": "0.1", "vendor": "a"}, {"cost": null}, {"model": "b"}, {"cost": "-0.025"}]);
        assert_eq!(sum(costs), Some(Some("0.075".to_owned())));
        assert_eq!(sum(json!([{"cost": null}, {}])), Some(None));
        assert_eq!(sum(json!([])), Some(None));
        for wrong in [
            json!({}),
            json!([1]),
            json!([{"cost": 1}]),
            json!([{"cost": "x"}]),
        ] {
            assert_eq!(sum(wrong.clone()), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn shares_add_up(total in -(10_i128.pow(30))..10_i128.pow(30),
                         weights in prop::collection::vec(0..10_u128.pow(27), 1..8)) {
            let shares = split(total, &weights);
            prop_assert_eq!(shares.iter().sum::<i128>(), total);
            prop_assert!(shares.iter().all(|share| share.signum() * total.signum() >= 0));
        }
    }
}
