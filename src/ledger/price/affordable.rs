//! The largest amount that a budget pays for.
//!
//! A price need not rise with the amount: a volume tier makes 11 cheaper than 10. But between two ends of
//! tiers it never falls. So each stretch between them is searched by halves, the one with the largest
//! amounts first.

use rust_decimal::Decimal;
use serde_json::Value;

use super::{Measure, Price, PriceError, Rounding, Rule, Scalar, Shape, charge};
use crate::ledger::number::plain;

/// Amounts are whole numbers of 10^-12, as quantities are kept.
const DECIMALS: u32 = 12;

/// No amount is searched from here on: 10^15.
const END: i128 = 10_i128.pow(15 + DECIMALS);

/// What of a call varies: its quantity, or a metered dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vary<'a> {
    Quantity,
    Dimension(&'a str),
}

impl<'a> From<&'a str> for Vary<'a> {
    fn from(name: &'a str) -> Vary<'a> {
        match name {
            "quantity" => Vary::Quantity,
            name => Vary::Dimension(name),
        }
    }
}

/// Which amounts come into question, and what may be spent on them.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Amounts are multiples of it. More than 0.
    pub step: Decimal,
    /// The smallest amount.
    pub at_least: Decimal,
    /// The largest amount; `None`: there is no end.
    pub at_most: Option<Decimal>,
    /// Units of 10^-10 credits.
    pub budget: i128,
}

/// An amount that can be paid, and its price in units of 10^-10 credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affordable {
    /// `None`: any amount can be paid, at this price at most.
    pub amount: Option<Decimal>,
    pub units: i128,
}

/// What a search has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Largest {
    Found(Affordable),
    /// Nothing can be paid. The price of the smallest amount, where it has one.
    None {
        smallest: Option<i128>,
    },
}

impl Price {
    /// Whether the price of this call depends on what varies.
    ///
    /// # Errors
    /// `NotFound`: no case of a `match` applies, or two do.
    pub fn reads(&self, vary: Vary, measure: &Measure) -> Result<bool, PriceError> {
        let mut rule = &self.rule;
        loop {
            return Ok(match (&rule.shape, vary) {
                (Shape::Match(cases), _) => {
                    rule = &charge::find_case(cases, measure.dimensions)?.price;
                    continue;
                }
                (Shape::Meters(meters), Vary::Dimension(name)) => {
                    meters.iter().any(|meter| meter.name == name)
                }
                (Shape::CostPlus { .. } | Shape::Meters(_), _) => false,
                (_, vary) => vary == Vary::Quantity,
            });
        }
    }

    /// The largest amount of what varies that the budget pays for. All else about the call stays as it is.
    ///
    /// # Errors
    /// Any [`PriceError`] of the smallest amount.
    pub fn affordable(
        &self,
        vary: Vary,
        measure: &Measure,
        search: &Search,
        scale: u32,
        rounding: Rounding,
    ) -> Result<Largest, PriceError> {
        let mut dimensions = measure.dimensions.clone();
        let mut price_of = |amount: i128| {
            let amount = decimal(amount);
            let mut call = *measure;
            match vary {
                Vary::Quantity => call.quantity = amount,
                Vary::Dimension(name) => {
                    let number = plain(amount).parse().map_or(Value::Null, Value::Number);
                    dimensions.insert(name.to_owned(), number);
                }
            }
            call.dimensions = &dimensions;
            self.credits(&call, scale, rounding)
        };
        let step = floor(search.step).max(1);
        let first = floor(search.at_least).max(step);
        let last = search
            .at_most
            .map_or(END - 1, |most| floor(most).min(END - 1));
        let (first, last) = (
            first.div_euclid(step) + i128::from(first % step != 0),
            last / step,
        );
        if first > last {
            return Ok(Largest::None { smallest: None });
        }
        // What is wrong with the call itself is wrong with its smallest amount.
        let smallest = price_of(first * step);
        if let Err(PriceError::Invalid(_) | PriceError::CostMissing) = smallest {
            return smallest.map(|_| Largest::None { smallest: None });
        }

        // The number of steps at the end of each stretch, the last stretch first.
        let mut ends: Vec<i128> = Vec::new();
        let used = floor(measure.used);
        self.rule.ends(vary, used, &mut |end| ends.push(end / step));
        ends.retain(|end| (first..last).contains(end));
        ends.push(last);
        ends.sort_unstable();
        ends.dedup();
        let mut payable = |steps: i128| match price_of(steps * step) {
            Ok(units) if units <= search.budget => Some(units),
            // A price that is not there, or is too large, cannot be paid.
            _ => None,
        };
        for (at, end) in ends.iter().enumerate().rev() {
            let start = at.checked_sub(1).map_or(first, |before| ends[before] + 1);
            let Some(units) = payable(start) else {
                continue;
            };
            let (mut low, mut units, mut high) = (start, units, *end);
            while low < high {
                let middle = high - (high - low) / 2;
                match payable(middle) {
                    Some(more) => (low, units) = (middle, more),
                    None => high = middle - 1,
                }
            }
            let endless = search.at_most.is_none() && low == last;
            return Ok(Largest::Found(Affordable {
                amount: (!endless).then(|| decimal(low * step).normalize()),
                units,
            }));
        }
        smallest.map(|units| Largest::None {
            smallest: Some(units),
        })
    }
}

impl Rule {
    /// Tells the amounts after which the price may fall: where a tier ends, and on both sides of a number
    /// that a case of a `match` asks for. `used` is what was used before in the month.
    fn ends(&self, vary: Vary, used: i128, tell: &mut impl FnMut(i128)) {
        match (&self.shape, vary) {
            (Shape::Graduated(tiers) | Shape::Volume(tiers), Vary::Quantity) => {
                let before = if self.over_month { used } else { 0 };
                tiers
                    .iter()
                    .filter_map(|tier| tier.up_to)
                    .for_each(|end| tell(floor(end) - before));
            }
            (Shape::Match(cases), _) => {
                for case in cases {
                    case.price.ends(vary, used, tell);
                    let Vary::Dimension(name) = vary else {
                        continue;
                    };
                    if let Some(Scalar::Number(number)) = case.when.get(name) {
                        tell(floor(*number) - 1);
                        tell(floor(*number));
                    }
                }
            }
            _ => {}
        }
    }
}

/// An amount in units of 10^-12, rounded down; `END` where it lies beyond.
fn floor(amount: Decimal) -> i128 {
    let amount = amount.normalize();
    let mantissa = amount.mantissa();
    match DECIMALS.checked_sub(amount.scale()) {
        Some(more) => mantissa.saturating_mul(10_i128.pow(more)).min(END),
        None => mantissa / 10_i128.pow(amount.scale() - DECIMALS),
    }
}

/// The amount of these units, which are below `END`.
fn decimal(units: i128) -> Decimal {
    Decimal::from_i128_with_scale(units, DECIMALS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::properties::{any_call, any_rounding, any_rule, number, positive};
    use super::super::tests::{Call, decimal as of, price};
    use super::*;

    fn largest(
        rule: &Value,
        vary: &str,
        budget: &str,
        at_most: Option<&str>,
    ) -> Option<Affordable> {
        let call = Call::of("1");
        let search = Search {
            step: Decimal::ONE,
            at_least: Decimal::ONE,
            at_most: at_most.map(of),
            budget: floor(of(budget)) / 100,
        };
        let found = price(rule).affordable(vary.into(), &call.measure(), &search, 2, Rounding::Up);
        paid(found.unwrap())
    }

    fn paid(found: Largest) -> Option<Affordable> {
        match found {
            Largest::Found(paid) => Some(paid),
            Largest::None { .. } => None,
        }
    }

    fn amount(found: Option<Affordable>) -> Option<String> {
        found.map(|found| found.amount.map_or("no end".to_owned(), plain))
    }

    #[test]
    fn a_volume_tier_makes_more_affordable_than_less() {
        let rule = json!({"volume": [{"up_to": 10, "per_unit": "2"}, {"per_unit": "1"}]});
        assert_eq!(
            amount(largest(&rule, "quantity", "15", Some("100"))),
            Some("15".to_owned())
        );
        assert_eq!(
            amount(largest(&rule, "quantity", "10.99", Some("100"))),
            Some("5".to_owned())
        );
        assert_eq!(amount(largest(&rule, "quantity", "1.99", None)), None);
    }

    #[test]
    fn what_costs_no_more_has_no_end() {
        assert_eq!(
            amount(largest(&json!(0), "quantity", "0", None)),
            Some("no end".to_owned())
        );
        let capped = json!({"per_unit": "2", "maximum": "50"});
        let found = largest(&capped, "quantity", "50", None).unwrap();
        assert_eq!((found.amount, found.units), (None, 500_000_000_000));
        assert_eq!(
            amount(largest(&capped, "quantity", "49", None)),
            Some("24".to_owned())
        );
    }

    #[test]
    fn a_meter_is_read_and_others_are_not() {
        let meters = json!({"meters": {"tokens": {"per": 1000, "credits": "0.4"}}});
        assert_eq!(
            amount(largest(&meters, "tokens", "10", None)),
            Some("25000".to_owned())
        );
        let call = Call::of("1");
        let reads = |rule: &Value, vary: &str| price(rule).reads(vary.into(), &call.measure());
        assert_eq!(reads(&meters, "tokens"), Ok(true));
        assert_eq!(reads(&meters, "quantity"), Ok(false));
        assert_eq!(reads(&json!(4), "tokens"), Ok(false));
        assert_eq!(
            reads(&json!({"match": [{"price": 4}]}), "quantity"),
            Ok(true)
        );
        let cost_plus = json!({"cost_plus": {"markup": "0.4", "credit_value": "0.01"}});
        assert_eq!(reads(&cost_plus, "quantity"), Ok(false));
    }

    #[test]
    fn a_number_that_a_case_asks_for_is_priced_by_it() {
        let rule = json!({"match": [
            {"when": {"seconds": 7}, "price": {"meters": {"seconds": {"per": 1, "credits": "0.1"}}}},
            {"price": {"meters": {"seconds": {"per": 1, "credits": "2"}}}}
        ]});
        assert_eq!(
            amount(largest(&rule, "seconds", "5", Some("60"))),
            Some("7".to_owned())
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

        /// The amount that is found is the last that a search of all amounts finds.
        #[test]
        fn no_larger_amount_can_be_paid(
            rule in any_rule(), call in any_call(), scale in 0_u32..=10, rounding in any_rounding(),
            vary in prop::sample::select(vec!["quantity", "a", "b", "x"]),
            step in positive(300, 2), least in number(40, 1), steps in 0_u32..150, budget in number(3_000_000, 4),
        ) {
            let price = price(&rule);
            let (step, least) = (of(&step), of(&least));
            let most = step * Decimal::from(steps);
            let search = Search { step, at_least: least, at_most: Some(most), budget: floor(of(&budget)) / 100 };
            let found = price.affordable(vary.into(), &call.measure(), &search, scale, rounding);
            let mut best = None;
            for times in 1..=steps {
                let amount = step * Decimal::from(times);
                if amount < least {
                    continue;
                }
                let mut call = call.clone();
                match vary {
                    "quantity" => call.quantity = amount,
                    name => { call.dimensions.insert(name.to_owned(), Value::Number(plain(amount).parse().unwrap())); }
                }
                if let Ok(units) = price.credits(&call.measure(), scale, rounding) && units <= search.budget {
                    best = Some(Affordable { amount: Some(amount.normalize()), units });
                }
            }
            match found {
                Ok(found) => prop_assert_eq!(paid(found), best),
                Err(_) => prop_assert_eq!(None, best),
            }
        }
    }
}
