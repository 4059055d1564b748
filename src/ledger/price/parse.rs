//! Reading a price rule from JSON, and refusing what is not one with the place and the remedy.

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;
use serde_json::{Map, Value};

use super::{Case, Conditions, CostAddition, Meter, PriceError, Rule, Scalar, Shape, Tier};
use crate::ledger::interrupt;
use crate::ledger::number::{json_decimal, kind_of, plain, quoted};

/// How many tiers, meters, cases or conditions one list may have.
pub(super) const MAX_ENTRIES: usize = 1000;

/// How deep one `match` may stand inside another.
pub(super) const MAX_DEPTH: usize = 8;

/// A minimum from here on could never be charged.
const PRICE_LIMIT: i64 = 1_000_000_000_000_000;

const SHAPES: [&str; 7] = [
    "per_unit",
    "package",
    "graduated",
    "volume",
    "meters",
    "cost_plus",
    "match",
];
const LIMITS: [&str; 2] = ["minimum", "maximum"];

/// The shapes that may count over a period.
const PERIODIC: [&str; 3] = ["package", "graduated", "volume"];

/// Where in the rule something stands: `match[1].price.graduated[0].up_to`.
pub(super) struct Path(String);

impl Path {
    pub fn root() -> Self {
        Self(String::new())
    }

    fn key(&self, key: &str) -> Self {
        if self.0.is_empty() {
            Self(key.into())
        } else {
            Self(format!("{}.{key}", self.0))
        }
    }

    /// For a key that the rule's author chose: in brackets, since it may hold anything.
    fn name(&self, name: &str) -> Self {
        Self(format!("{}[{}]", self.0, quoted(name)))
    }

    fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    fn invalid(&self, why: impl fmt::Display) -> PriceError {
        let place = if self.0.is_empty() { "price" } else { &self.0 };
        PriceError::Invalid(format!("{place}: {why}"))
    }
}

pub(super) fn read_rule(value: &Value, path: &Path, depth: usize) -> Result<Rule, PriceError> {
    interrupt::check();
    match value {
        Value::Number(_) | Value::String(_) => Ok(Rule {
            shape: Shape::PerUnit(read_amount(value, path)?),
            over_month: false,
            minimum: None,
            maximum: None,
        }),
        Value::Object(rule) => read_rule_object(rule, path, depth),
        Value::Null | Value::Bool(_) | Value::Array(_) => Err(path.invalid(format_args!(
            "must be a number of credits per unit or an object with one of {}, not {}",
            SHAPES.join(", "),
            kind_of(value)
        ))),
    }
}

fn read_rule_object(
    rule: &Map<String, Value>,
    path: &Path,
    depth: usize,
) -> Result<Rule, PriceError> {
    let mut given = None;
    for (key, value) in rule {
        if let Some(shape) = SHAPES.into_iter().find(|shape| shape == key) {
            if let Some((other, _)) = given {
                return Err(path.invalid(format_args!(
                    "has both {other} and {shape}; a rule has one of them"
                )));
            }
            given = Some((shape, value));
        } else if key != "over" && !LIMITS.contains(&key.as_str()) {
            return Err(path.invalid(format_args!(
                "has an unknown key {}; a rule has one of {}, and may have minimum, maximum and over",
                quoted(key),
                SHAPES.join(", ")
            )));
        }
    }
    let Some((shape, value)) = given else {
        return Err(path.invalid(format_args!(
            "says no price; it must have one of {}",
            SHAPES.join(", ")
        )));
    };

    let over_month = match rule.get("over") {
        None => false,
        Some(Value::String(over)) if over == "month" && PERIODIC.contains(&shape) => true,
        Some(Value::String(over)) if over == "month" => {
            return Err(path.key("over").invalid(format_args!(
                "stands beside {shape}; it stands beside one of {}",
                PERIODIC.join(", ")
            )));
        }
        Some(_) => return Err(path.key("over").invalid("must be \"month\"")),
    };
    let at = path.key(shape);
    let shape = match shape {
        "per_unit" => Shape::PerUnit(read_amount(value, &at)?),
        "package" => {
            let [size, credits] = read_fields(value, &at, ["size", "credits"])?;
            Shape::Package {
                size: read_positive(size, &at.key("size"))?,
                credits: read_amount(credits, &at.key("credits"))?,
            }
        }
        "graduated" => Shape::Graduated(read_tiers(value, &at)?),
        "volume" => Shape::Volume(read_tiers(value, &at)?),
        "meters" => Shape::Meters(read_meters(value, &at)?),
        "cost_plus" => {
            let fields = read_object(value, &at, &["markup", "margin", "credit_value"])?;
            let added = read_added(fields, &at)?;
            let credit_value = read_field(fields, &at, "credit_value")?;
            Shape::CostPlus {
                added,
                credit_value: read_positive(credit_value, &at.key("credit_value"))?,
            }
        }
        _ => Shape::Match(read_cases(value, &at, depth)?),
    };

    let limit = |key| {
        rule.get(key)
            .map(|value| read_amount(value, &path.key(key)))
            .transpose()
    };
    let (minimum, maximum) = (limit("minimum")?, limit("maximum")?);
    if let Some(minimum) = minimum {
        if minimum >= Decimal::from(PRICE_LIMIT) {
            return Err(path
                .key("minimum")
                .invalid(format_args!("must be less than {PRICE_LIMIT} credits")));
        }
        if let Some(maximum) = maximum.filter(|maximum| *maximum < minimum) {
            return Err(path.key("minimum").invalid(format_args!(
                "{} is more than the maximum {}",
                plain(minimum),
                plain(maximum)
            )));
        }
    }
    Ok(Rule {
        shape,
        over_month,
        minimum,
        maximum,
    })
}

fn read_tiers(value: &Value, path: &Path) -> Result<Vec<Tier>, PriceError> {
    let list = read_list(value, path, "tier")?;
    let mut tiers: Vec<Tier> = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let at = path.index(index);
        let tier = read_object(value, &at, &["up_to", "per_unit"])?;
        let is_last = index + 1 == list.len();
        let end = at.key("up_to");
        let up_to = match tier.get("up_to") {
            Some(_) if is_last => {
                return Err(end.invalid(
                    "the last tier must have no up_to, so that every quantity has a price",
                ));
            }
            None if !is_last => return Err(end.invalid("is missing; only the last tier has none")),
            Some(up_to) => Some(read_positive(up_to, &end)?),
            None => None,
        };
        let before = tiers.last().and_then(|tier| tier.up_to);
        if let (Some(before), Some(up_to)) = (before, up_to)
            && up_to <= before
        {
            return Err(end.invalid(format_args!(
                "{} is not more than the {} of the tier before; tiers must ascend",
                plain(up_to),
                plain(before)
            )));
        }
        let per_unit = read_amount(read_field(tier, &at, "per_unit")?, &at.key("per_unit"))?;
        tiers.push(Tier { up_to, per_unit });
    }
    Ok(tiers)
}

fn read_meters(value: &Value, path: &Path) -> Result<Vec<Meter>, PriceError> {
    let Value::Object(meters) = value else {
        return Err(path.invalid(format_args!(
            "must be an object of meters, like {{\"output_tokens\": {{\"per\": 1000, \"credits\": \"0.4\"}}}}, not {}",
            kind_of(value)
        )));
    };
    check_count(meters.len(), path, "meter")?;
    let read_meter = |(name, value): (&String, &Value)| {
        check_name(name, path, "meter")?;
        let at = path.name(name);
        let [per, credits] = read_fields(value, &at, ["per", "credits"])?;
        Ok(Meter {
            name: name.clone(),
            per: read_positive(per, &at.key("per"))?,
            credits: read_amount(credits, &at.key("credits"))?,
        })
    };
    meters.iter().map(read_meter).collect()
}

fn read_cases(value: &Value, path: &Path, depth: usize) -> Result<Vec<Case>, PriceError> {
    if depth >= MAX_DEPTH {
        return Err(path.invalid(format_args!(
            "is nested too deep; at most {MAX_DEPTH} matches may stand inside each other"
        )));
    }
    let list = read_list(value, path, "case")?;
    let mut cases = Vec::with_capacity(list.len());
    let mut seen: BTreeMap<Conditions, usize> = BTreeMap::new();
    for (index, value) in list.iter().enumerate() {
        let at = path.index(index);
        let case = read_object(value, &at, &["when", "price"])?;
        let when = match case.get("when") {
            Some(when) => read_conditions(when, &at.key("when"))?,
            None => Conditions::new(),
        };
        if let Some(other) = seen.insert(when.clone(), index) {
            let what = if when.is_empty() {
                "is a second default case; the first is"
            } else {
                "has the same when as"
            };
            return Err(at.invalid(format_args!("{what} {}", path.index(other).0)));
        }
        let price = read_rule(read_field(case, &at, "price")?, &at.key("price"), depth + 1)?;
        cases.push(Case { when, price });
    }
    Ok(cases)
}

fn read_conditions(value: &Value, path: &Path) -> Result<Conditions, PriceError> {
    let Value::Object(when) = value else {
        return Err(path.invalid(format_args!(
            "must be an object of dimensions and their values, like {{\"model\": \"gpt-5\"}}, not {}",
            kind_of(value)
        )));
    };
    if !when.is_empty() {
        check_count(when.len(), path, "condition")?;
    }
    let read_condition = |(name, value): (&String, &Value)| {
        check_name(name, path, "dimension")?;
        let scalar = Scalar::of(value).ok_or_else(|| {
            let why = match value {
                Value::Number(_) => json_decimal(value).err().unwrap_or_default(),
                other => format!(
                    "must be a string, a number or a boolean, not {}",
                    kind_of(other)
                ),
            };
            path.name(name).invalid(why)
        })?;
        Ok((name.clone(), scalar))
    };
    when.iter().map(read_condition).collect()
}

/// A number that is not negative.
fn read_amount(value: &Value, path: &Path) -> Result<Decimal, PriceError> {
    let number = json_decimal(value).map_err(|why| path.invalid(why))?;
    if number < Decimal::ZERO {
        return Err(path.invalid(format_args!(
            "must not be negative, and is {}",
            plain(number)
        )));
    }
    Ok(number)
}

fn read_positive(value: &Value, path: &Path) -> Result<Decimal, PriceError> {
    let number = json_decimal(value).map_err(|why| path.invalid(why))?;
    if number <= Decimal::ZERO {
        return Err(path.invalid(format_args!(
            "must be more than 0, and is {}",
            plain(number)
        )));
    }
    Ok(number)
}

/// A share added to the cost. It may lower it, but not to nothing.
fn read_markup(value: &Value, path: &Path) -> Result<Decimal, PriceError> {
    let number = json_decimal(value).map_err(|why| path.invalid(why))?;
    if number <= Decimal::NEGATIVE_ONE {
        return Err(path.invalid(format_args!(
            "must be more than -1 (\"0.40\" adds 40 %), and is {}",
            plain(number)
        )));
    }
    Ok(number)
}

/// A share of the price that is not cost.
fn read_margin(value: &Value, path: &Path) -> Result<Decimal, PriceError> {
    let number = json_decimal(value).map_err(|why| path.invalid(why))?;
    if number >= Decimal::ONE {
        return Err(path.invalid(format_args!(
            "must be less than 1 (\"0.40\" leaves 40 % of the price), and is {}",
            plain(number)
        )));
    }
    Ok(number)
}

/// What is added to the cost: a markup or a margin.
fn read_added(fields: &Map<String, Value>, path: &Path) -> Result<CostAddition, PriceError> {
    match (fields.get("markup"), fields.get("margin")) {
        (Some(markup), None) => read_markup(markup, &path.key("markup")).map(CostAddition::Markup),
        (None, Some(margin)) => read_margin(margin, &path.key("margin")).map(CostAddition::Margin),
        (Some(_), Some(_)) => Err(path.invalid(
            "has both markup and margin; markup is a share of the cost, margin one of the price",
        )),
        (None, None) => Err(path.invalid("has neither markup nor margin; it needs one of them")),
    }
}

/// The values of an object that has exactly these keys.
fn read_fields<'a, const N: usize>(
    value: &'a Value,
    path: &Path,
    keys: [&str; N],
) -> Result<[&'a Value; N], PriceError> {
    let object = read_object(value, path, &keys)?;
    let mut values = [value; N];
    for (slot, key) in values.iter_mut().zip(keys) {
        *slot = read_field(object, path, key)?;
    }
    Ok(values)
}

fn read_field<'a>(
    object: &'a Map<String, Value>,
    path: &Path,
    key: &str,
) -> Result<&'a Value, PriceError> {
    object
        .get(key)
        .ok_or_else(|| path.key(key).invalid("is missing"))
}

/// An object that has no other keys than these.
fn read_object<'a>(
    value: &'a Value,
    path: &Path,
    keys: &[&str],
) -> Result<&'a Map<String, Value>, PriceError> {
    let Value::Object(object) = value else {
        return Err(path.invalid(format_args!(
            "must be an object with {}, not {}",
            keys.join(" and "),
            kind_of(value)
        )));
    };
    match object.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(path.invalid(format_args!(
            "has an unknown key {}; it takes {}",
            quoted(key),
            keys.join(" and ")
        ))),
        None => Ok(object),
    }
}

fn read_list<'a>(value: &'a Value, path: &Path, what: &str) -> Result<&'a [Value], PriceError> {
    let Value::Array(list) = value else {
        return Err(path.invalid(format_args!(
            "must be an array of {what}s, not {}",
            kind_of(value)
        )));
    };
    check_count(list.len(), path, what)?;
    Ok(list)
}

fn check_count(count: usize, path: &Path, what: &str) -> Result<(), PriceError> {
    match count {
        0 => Err(path.invalid(format_args!("is empty; it must have at least one {what}"))),
        1..=MAX_ENTRIES => Ok(()),
        _ => Err(path.invalid(format_args!(
            "has {count} {what}s; at most {MAX_ENTRIES} are allowed"
        ))),
    }
}

fn check_name(name: &str, path: &Path, what: &str) -> Result<(), PriceError> {
    if name.is_empty() {
        Err(path.invalid(format_args!("has a {what} without a name")))
    } else {
        Ok(())
    }
}
