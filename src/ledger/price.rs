//! What an action costs in credits: a price rule, written in JSON, becomes a [`Price`] that turns
//! the measure of a call (quantity, dimensions, usage, vendor cost) into credits.
//!
//! ```json
//! 4
//! {"per_unit": "0.5", "minimum": "1", "maximum": "50"}
//! {"package": {"size": 1000, "credits": "5"}}
//! {"graduated": [{"up_to": 10, "per_unit": "2"}, {"per_unit": "1"}]}
//! {"volume": [{"up_to": 10, "per_unit": "2"}, {"per_unit": "1"}]}
//! {"meters": {"input_tokens": {"per": 1000, "credits": "0.1"}}}
//! {"cost_plus": {"markup": "0.40", "credit_value": "0.01"}}
//! {"match": [{"when": {"model": "gpt-5"}, "price": 5}, {"price": 1}]}
//! ```
//!
//! - A plain number is `per_unit`. A `package` that is started is charged whole.
//! - A tier reaches up to and including `up_to`. `graduated` charges each slice of the quantity at
//!   its own rate, `volume` the whole quantity at the rate of the tier it reaches.
//! - `"over": "month"` beside `graduated`, `volume` or `package` counts what was used of the action in
//!   the month, too: a call of `quantity` after `used` costs the slices between `used` and `used +
//!   quantity`, all of it the rate that their sum reaches, or the packages that it starts.
//! - `meters` are read from the dimensions, else from the usage, else they are 0, and are summed,
//!   pro rata. `cost_plus` is cost x (1 + markup) / credit_value, the money one credit stands for; with
//!   `margin`, a share of the price, it is cost / (1 - margin) / credit_value. Both ignore the quantity.
//! - `match` takes the case with the most conditions of those whose conditions all hold. It is an
//!   error if there is none, or if two have equally many.
//! - Any rule may carry `minimum` and `maximum`. Where the quantity decides, quantity 0 is free,
//!   whatever the minimum; inside a `match` that depends on the case.
//!
//! The arithmetic is exact through the whole rule, minimum and maximum included; it is rounded
//! once, at the end, to the asset's decimals. Reading and refusing rules is in `parse`, charging
//! and explaining in `charge`, numbers in `exact`.

mod affordable;
pub mod book;
mod charge;
mod exact;
mod parse;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;
use serde_json::{Map, Value};

pub use affordable::{Affordable, Largest, Search, Vary};
pub use exact::{Rounding, proportion};

/// A price rule that has been read and found valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    rule: Rule,
    counts_months: bool,
}

/// What is being priced: one call's quantity, and what else its price may depend on.
#[derive(Debug, Clone, Copy)]
pub struct Measure<'a> {
    /// How many units of the action. Not negative.
    pub quantity: Decimal,
    /// How many were used before in the month; for rules `"over": "month"` only. Not negative, below
    /// 10^15, and with at most 12 decimals.
    pub used: Decimal,
    /// What the caller says about the call: what `match` compares, and the first place where
    /// `meters` look.
    pub dimensions: &'a Map<String, Value>,
    /// Normalised vendor usage, by meter; empty when there is none. The second place where `meters`
    /// look.
    pub usage: &'a BTreeMap<String, Decimal>,
    /// Whether all of that usage could be read: then a meter that is nowhere is 0, else it is unknown.
    pub usage_is_whole: bool,
    /// The vendor cost in money, in the asset's currency; `None` when it was not given and cannot
    /// be computed.
    pub cost: Option<Decimal>,
}

/// A computed price with its explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// Credits, in units of 10^-10 credits, already rounded to the asset's decimals.
    pub units: i128,
    /// How they came about, for people: a JSON object with amounts as plain decimal strings.
    ///
    /// Always there are `rule` and `credits`. `quantity`, `tiers`, `meters` and the like depend on
    /// the rule. `match` holds the conditions that decided, `minimum` or `maximum` stand there when
    /// they took effect, and `exact` is the amount before rounding where rounding changed it. A
    /// number that does not end is cut after 20 decimals and ends in `...`.
    pub breakdown: Value,
}

/// Why there is no price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PriceError {
    /// The rule, or a number that was to be priced, is not valid (SQLSTATE 22023). The text says
    /// where and why.
    Invalid(String),
    /// No case of a `match` applies, or two apply equally well (WC003).
    NotFound(String),
    /// A `cost_plus` rule without a cost: 22023 if the caller gave neither cost nor usage, WC003 if
    /// the cost of the given usage cannot be computed. The caller knows which.
    CostMissing,
    /// A meter is not among the dimensions, and the usage that would tell it could not be read. The
    /// caller knows why.
    UsageMissing,
    /// The result is 10^15 credits or more (22003).
    OutOfRange(String),
}

impl fmt::Display for PriceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) | Self::NotFound(text) | Self::OutOfRange(text) => {
                f.write_str(text)
            }
            Self::CostMissing => {
                f.write_str("the price is computed from the vendor cost, and the cost is not known")
            }
            Self::UsageMissing => {
                f.write_str("the price counts what was used, and the usage cannot be read")
            }
        }
    }
}

impl std::error::Error for PriceError {}

impl Price {
    /// Reads a rule, and refuses whatever is not exactly one of the shapes above.
    ///
    /// Numbers are JSON numbers or strings with a number, read exactly. They are not negative;
    /// `size`, `per`, `credit_value` and `up_to` are more than 0, `markup` is more than -1 and
    /// `margin` less than 1. JSON null, which withdraws a price, is the caller's to notice.
    ///
    /// # Errors
    /// [`PriceError::Invalid`] with the place (`match[1].price.graduated[0].up_to`) and the reason.
    pub fn parse(rule: &Value) -> Result<Self, PriceError> {
        let rule = parse::read_rule(rule, &parse::Path::root(), 0)?;
        let counts_months = rule.contains(Rule::is_over_month);
        Ok(Self {
            rule,
            counts_months,
        })
    }

    /// The credits for a call, in units of 10^-10, rounded to `scale` decimals (0 to 10).
    ///
    /// # Errors
    /// Any [`PriceError`]. `Invalid` names the quantity, dimension, usage or cost that is negative
    /// or not a number.
    pub fn credits(
        &self,
        measure: &Measure,
        scale: u32,
        rounding: Rounding,
    ) -> Result<i128, PriceError> {
        charge::credits(&self.rule, measure, scale, rounding)
    }

    /// The same credits as [`Price::credits`], and how they came about.
    ///
    /// # Errors
    /// Those of [`Price::credits`].
    pub fn explain(
        &self,
        measure: &Measure,
        scale: u32,
        rounding: Rounding,
    ) -> Result<Quote, PriceError> {
        charge::explain(&self.rule, measure, scale, rounding)
    }

    /// Whether the price of some call depends on what was used before in the month.
    pub fn counts_months(&self) -> bool {
        self.counts_months
    }

    /// Whether the price of some call depends on its vendor cost: there is a `cost_plus` somewhere
    /// in the rule.
    pub fn needs_cost(&self) -> bool {
        self.rule
            .contains(|rule| matches!(rule.shape, Shape::CostPlus { .. }))
    }

    /// Whether the price of some call depends on metered usage: there are `meters` somewhere in the
    /// rule.
    pub fn needs_usage(&self) -> bool {
        self.rule
            .contains(|rule| matches!(rule.shape, Shape::Meters(_)))
    }

    /// Whether a dimension is what a meter counts.
    pub fn counts(&self, dimension: &str) -> bool {
        let counts = |rule: &Rule| match &rule.shape {
            Shape::Meters(meters) => meters.iter().any(|meter| meter.name == dimension),
            _ => false,
        };
        self.rule.contains(counts)
    }

    /// Whether a dimension decides between the cases of the rule.
    pub fn compares(&self, dimension: &str) -> bool {
        self.rule.compares(dimension)
    }
}

/// A shape, and the limits within which what it charges is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    shape: Shape,
    /// Tiers and packages count what was used in the calendar month; only beside those.
    over_month: bool,
    minimum: Option<Decimal>,
    maximum: Option<Decimal>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// Credits for each unit.
    PerUnit(Decimal),
    /// Credits for each started package of `size` units. `size` > 0.
    Package { size: Decimal, credits: Decimal },
    /// Each slice of the quantity at its own rate.
    Graduated(Vec<Tier>),
    /// The whole quantity at the rate of the tier it reaches.
    Volume(Vec<Tier>),
    /// The sum over the meters, by name.
    Meters(Vec<Meter>),
    /// The cost and what is added to it, over the money one credit stands for, which is more than 0.
    CostPlus {
        added: CostAddition,
        credit_value: Decimal,
    },
    /// The price of the most specific case that applies.
    Match(Vec<Case>),
}

/// What a price adds to the vendor cost.
#[derive(Debug, Clone, PartialEq, Eq)]
enum CostAddition {
    /// A share of the cost, more than -1: cost x (1 + markup).
    Markup(Decimal),
    /// A share of the price, less than 1: cost / (1 - margin).
    Margin(Decimal),
}

/// A rate up to and including a quantity; the last tier, and only it, has no end. Ends ascend
/// strictly from above 0.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tier {
    up_to: Option<Decimal>,
    per_unit: Decimal,
}

/// `credits` for every `per` that the meter counts, pro rata. `per` > 0.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Meter {
    name: String,
    per: Decimal,
    credits: Decimal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Case {
    when: Conditions,
    price: Rule,
}

/// What dimensions must be equal to. None at all is the default case.
type Conditions = BTreeMap<String, Scalar>;

/// A dimension's value as `match` compares it: numbers by value, so that 1 is 1.0; a string is
/// never equal to a number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Scalar {
    Text(String),
    Number(Decimal),
    Flag(bool),
}

impl Rule {
    /// Whether this rule or one inside it is of a kind.
    fn contains(&self, is_kind: impl Fn(&Rule) -> bool + Copy) -> bool {
        match &self.shape {
            Shape::Match(cases) => cases.iter().any(|case| case.price.contains(is_kind)),
            _ => is_kind(self),
        }
    }

    fn is_over_month(&self) -> bool {
        self.over_month
    }

    fn compares(&self, dimension: &str) -> bool {
        match &self.shape {
            Shape::Match(cases) => cases
                .iter()
                .any(|case| case.when.contains_key(dimension) || case.price.compares(dimension)),
            _ => false,
        }
    }
}

impl Scalar {
    /// `None` for what cannot be compared: null, arrays, objects, and numbers with too many digits.
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Number(_) => super::number::json_decimal(value).ok().map(Self::Number),
            Value::Bool(flag) => Some(Self::Flag(*flag)),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn equals(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text(text), Value::String(other)) => text == other,
            (Self::Number(number), Value::Number(_)) => {
                super::number::json_decimal(value) == Ok(*number)
            }
            (Self::Flag(flag), Value::Bool(other)) => flag == other,
            _ => false,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => Value::String(text.clone()),
            Self::Number(number) => {
                let text = super::number::plain(*number);
                text.parse().map_or(Value::String(text), Value::Number)
            }
            Self::Flag(flag) => Value::Bool(*flag),
        }
    }
}
