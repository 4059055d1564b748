//! Computing a price, and explaining it while doing so.

use rust_decimal::Decimal;
use serde_json::{Map, Value};

use super::exact::{Fraction, product_in_units};
use super::{
    Case, Conditions, CostAddition, Measure, Meter, PriceError, Quote, Rounding, Rule, Shape, Tier,
};
use crate::ledger::interrupt::checked;
use crate::ledger::number::{json_measured, plain, quoted};

/// The credits in units. A plain price per unit is computed without the machinery, with the same
/// result.
pub(super) fn credits(
    rule: &Rule,
    measure: &Measure,
    scale: u32,
    rounding: Rounding,
) -> Result<i128, PriceError> {
    check_measure(measure)?;
    if let Rule {
        shape: Shape::PerUnit(per_unit),
        minimum: None,
        maximum: None,
        ..
    } = rule
        && let Some(units) = product_in_units(measure.quantity, *per_unit, scale, rounding)?
    {
        return Ok(units);
    }
    charge(rule, measure, &mut Breakdown::omitted())?
        .credits
        .to_units(scale, rounding)
}

/// The same credits, with their breakdown.
pub(super) fn explain(
    rule: &Rule,
    measure: &Measure,
    scale: u32,
    rounding: Rounding,
) -> Result<Quote, PriceError> {
    check_measure(measure)?;
    let mut breakdown = Breakdown::wanted();
    let exact = charge(rule, measure, &mut breakdown)?.credits;
    let units = exact.to_units(scale, rounding)?;
    let rounded = Fraction::of_units(units);
    breakdown.note("credits", || rounded.text().into());
    if !rounded.equals(&exact) {
        breakdown.note("exact", || exact.text().into());
    }
    Ok(Quote {
        units,
        breakdown: breakdown.into_json(),
    })
}

fn check_measure(measure: &Measure) -> Result<(), PriceError> {
    let negative = |what: &str, number: Decimal| {
        PriceError::Invalid(format!(
            "{what} must not be negative, and is {}",
            plain(number)
        ))
    };
    if measure.quantity < Decimal::ZERO {
        return Err(negative("quantity", measure.quantity));
    }
    if measure.used < Decimal::ZERO {
        return Err(negative("what was used", measure.used));
    }
    match measure.cost {
        Some(cost) if cost < Decimal::ZERO => Err(negative("cost", cost)),
        _ => Ok(()),
    }
}

/// What a rule charges, before rounding.
struct Charge {
    credits: Fraction,
    /// Nothing was bought: the quantity decides the price, and it is 0. No minimum applies.
    nothing: bool,
}

fn charge(rule: &Rule, measure: &Measure, breakdown: &mut Breakdown) -> Result<Charge, PriceError> {
    let quantity = measure.quantity;
    let used = match rule.over_month {
        true => measure.used,
        false => Decimal::ZERO,
    };
    let by_quantity = |credits| Charge {
        credits,
        nothing: quantity.is_zero(),
    };
    let whatever_quantity = |credits| Charge {
        credits,
        nothing: false,
    };
    let Charge {
        mut credits,
        nothing,
    } = match &rule.shape {
        Shape::PerUnit(per_unit) => by_quantity(per_unit_credits(*per_unit, quantity, breakdown)),
        Shape::Package { size, credits } => {
            by_quantity(package_credits(*size, *credits, used, quantity, breakdown))
        }
        Shape::Graduated(tiers) => by_quantity(graduated_credits(tiers, used, quantity, breakdown)),
        Shape::Volume(tiers) => by_quantity(volume_credits(tiers, used, quantity, breakdown)),
        Shape::Meters(meters) => whatever_quantity(meters_credits(meters, measure, breakdown)?),
        Shape::CostPlus {
            added,
            credit_value,
        } => whatever_quantity(cost_plus_credits(
            added,
            *credit_value,
            measure.cost,
            breakdown,
        )?),
        Shape::Match(cases) => {
            let case = find_case(cases, measure.dimensions)?;
            breakdown.note_match(&case.when);
            charge(&case.price, measure, breakdown)?
        }
    };

    if rule.over_month {
        breakdown.note("over", || "month".into());
        breakdown.note("used", || plain(used).into());
    }
    if let Some(minimum) = rule.minimum.map(Fraction::from)
        && !nothing
        && credits.is_below(&minimum)
    {
        breakdown.note("minimum", || minimum.text().into());
        credits = minimum;
    }
    if let Some(maximum) = rule.maximum.map(Fraction::from)
        && maximum.is_below(&credits)
    {
        breakdown.note("maximum", || maximum.text().into());
        credits = maximum;
    }
    Ok(Charge { credits, nothing })
}

fn per_unit_credits(per_unit: Decimal, quantity: Decimal, breakdown: &mut Breakdown) -> Fraction {
    breakdown.note("rule", || "per_unit".into());
    breakdown.note("quantity", || plain(quantity).into());
    breakdown.note("per_unit", || plain(per_unit).into());
    Fraction::from(quantity).times(&per_unit.into())
}

fn package_credits(
    size: Decimal,
    credits: Decimal,
    used: Decimal,
    quantity: Decimal,
    breakdown: &mut Breakdown,
) -> Fraction {
    let started = |count: &Fraction| count.over(&size.into()).round_up();
    let before = Fraction::from(used);
    let packages = started(&before.plus(&quantity.into())).minus(&started(&before));
    breakdown.note("rule", || "package".into());
    breakdown.note("quantity", || plain(quantity).into());
    breakdown.note("package", || {
        object([("size", plain(size)), ("credits", plain(credits))])
    });
    breakdown.note("packages", || packages.text().into());
    packages.times(&credits.into())
}

fn graduated_credits(
    tiers: &[Tier],
    used: Decimal,
    quantity: Decimal,
    breakdown: &mut Breakdown,
) -> Fraction {
    breakdown.note("rule", || "graduated".into());
    breakdown.note("tiers", || Value::Array(Vec::new()));
    let mut total = Fraction::zero();
    let mut start = Fraction::from(used);
    let last = start.plus(&quantity.into());
    for tier in checked(tiers) {
        if !start.is_below(&last) {
            break;
        }
        let end = tier.up_to.map(Fraction::from);
        let end = end.filter(|end| end.is_below(&last));
        let end = end.unwrap_or_else(|| last.clone());
        if start.is_below(&end) {
            total = total.plus(&tier_credits(&end.minus(&start), tier, breakdown));
            start = end;
        }
    }
    total
}

fn volume_credits(
    tiers: &[Tier],
    used: Decimal,
    quantity: Decimal,
    breakdown: &mut Breakdown,
) -> Fraction {
    breakdown.note("rule", || "volume".into());
    breakdown.note("tiers", || Value::Array(Vec::new()));
    let last = Fraction::from(used).plus(&quantity.into());
    let reaches = |up_to: Decimal| !Fraction::from(up_to).is_below(&last);
    let reached = tiers.iter().find(|tier| tier.up_to.is_none_or(reaches));
    match reached {
        Some(tier) if !quantity.is_zero() => tier_credits(&quantity.into(), tier, breakdown),
        _ => Fraction::zero(),
    }
}

/// One tier's share, as a line of the breakdown's tiers.
fn tier_credits(quantity: &Fraction, tier: &Tier, breakdown: &mut Breakdown) -> Fraction {
    let credits = quantity.times(&tier.per_unit.into());
    breakdown.note_line("tiers", || {
        object([
            ("quantity", quantity.text()),
            ("per_unit", plain(tier.per_unit)),
            ("credits", credits.text()),
        ])
    });
    credits
}

fn meters_credits(
    meters: &[Meter],
    measure: &Measure,
    breakdown: &mut Breakdown,
) -> Result<Fraction, PriceError> {
    breakdown.note("rule", || "meters".into());
    breakdown.note("meters", || Value::Array(Vec::new()));
    let mut total = Fraction::zero();
    for meter in checked(meters) {
        let count = read_meter(&meter.name, measure)?;
        let credits = Fraction::from(count)
            .times(&meter.credits.into())
            .over(&meter.per.into());
        breakdown.note_line("meters", || {
            let mut line = object([
                ("meter", meter.name.clone()),
                ("quantity", plain(count)),
                ("credits", credits.text()),
            ]);
            line["rate"] = object([("per", plain(meter.per)), ("credits", plain(meter.credits))]);
            line
        });
        total = total.plus(&credits);
    }
    Ok(total)
}

/// A meter's count: from the dimensions, else from the usage, else 0 where the usage is whole.
fn read_meter(name: &str, measure: &Measure) -> Result<Decimal, PriceError> {
    let invalid = |place: &str, why: String| {
        PriceError::Invalid(format!(
            "{place}[{}]: {why}; it is a meter of the price",
            quoted(name)
        ))
    };
    let (place, count) = match (measure.dimensions.get(name), measure.usage.get(name)) {
        (Some(value), _) => (
            "dimensions",
            json_measured(value).map_err(|why| invalid("dimensions", why))?,
        ),
        (None, Some(count)) => ("usage", *count),
        (None, None) if measure.usage_is_whole => return Ok(Decimal::ZERO),
        (None, None) => return Err(PriceError::UsageMissing),
    };
    if count < Decimal::ZERO {
        return Err(invalid(
            place,
            format!("must not be negative, and is {}", plain(count)),
        ));
    }
    Ok(count)
}

fn cost_plus_credits(
    added: &CostAddition,
    credit_value: Decimal,
    cost: Option<Decimal>,
    breakdown: &mut Breakdown,
) -> Result<Fraction, PriceError> {
    let cost = cost.ok_or(PriceError::CostMissing)?;
    breakdown.note("rule", || "cost_plus".into());
    breakdown.note("cost", || plain(cost).into());
    let charged = match *added {
        CostAddition::Markup(markup) => {
            breakdown.note("markup", || plain(markup).into());
            Fraction::from(cost).times(&Fraction::one().plus(&markup.into()))
        }
        CostAddition::Margin(margin) => {
            breakdown.note("margin", || plain(margin).into());
            Fraction::from(cost).over(&Fraction::one().minus(&margin.into()))
        }
    };
    breakdown.note("credit_value", || plain(credit_value).into());
    Ok(charged.over(&credit_value.into()))
}

/// The case with the most conditions among those whose conditions all hold.
pub(super) fn find_case<'a>(
    cases: &'a [Case],
    dimensions: &Map<String, Value>,
) -> Result<&'a Case, PriceError> {
    let holds = |when: &Conditions| {
        when.iter().all(|(name, wanted)| {
            dimensions
                .get(name)
                .is_some_and(|value| wanted.equals(value))
        })
    };
    let mut best: Option<&Case> = None;
    let mut equally_good: Option<&Case> = None;
    for case in checked(cases).filter(|case| holds(&case.when)) {
        let conditions = case.when.len();
        match best {
            Some(other) if conditions < other.when.len() => {}
            Some(other) if conditions == other.when.len() => equally_good = Some(case),
            _ => (best, equally_good) = (Some(case), None),
        }
    }
    match (best, equally_good) {
        (Some(case), None) => Ok(case),
        (Some(one), Some(other)) => Err(PriceError::NotFound(format!(
            "the price is ambiguous: the cases {} and {} apply equally well; add a case with the conditions of both",
            conditions_text(&one.when),
            conditions_text(&other.when)
        ))),
        (None, _) => Err(PriceError::NotFound(format!(
            "no case of the price applies to these dimensions: it looks at {}, and has no case without conditions",
            names_text(cases)
        ))),
    }
}

fn conditions_text(when: &Conditions) -> String {
    Value::Object(conditions_json(when)).to_string()
}

fn conditions_json(when: &Conditions) -> Map<String, Value> {
    when.iter()
        .map(|(name, value)| (name.clone(), value.to_json()))
        .collect()
}

/// The names of the dimensions that cases look at, the first few of them.
fn names_text(cases: &[Case]) -> String {
    const SHOWN: usize = 10;
    let names: std::collections::BTreeSet<&String> =
        cases.iter().flat_map(|case| case.when.keys()).collect();
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(|name| quoted(name)).collect();
    if names.len() > SHOWN {
        shown.push("others".into());
    }
    shown.join(", ")
}

/// The explanation of a price while it is computed: nothing is built when nobody wants it.
struct Breakdown(Option<Map<String, Value>>);

impl Breakdown {
    fn omitted() -> Self {
        Self(None)
    }

    fn wanted() -> Self {
        Self(Some(Map::new()))
    }

    fn note(&mut self, key: &str, value: impl FnOnce() -> Value) {
        if let Some(notes) = &mut self.0 {
            notes.insert(key.into(), value());
        }
    }

    /// Adds to a list that has been noted before.
    fn note_line(&mut self, key: &str, line: impl FnOnce() -> Value) {
        if let Some(Value::Array(lines)) = self.0.as_mut().and_then(|notes| notes.get_mut(key)) {
            lines.push(line());
        }
    }

    /// The conditions that decided. Those of a match inside a match come on top.
    fn note_match(&mut self, when: &Conditions) {
        if let Some(notes) = &mut self.0 {
            let noted = notes
                .entry("match")
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(noted) = noted {
                noted.extend(conditions_json(when));
            }
        }
    }

    fn into_json(self) -> Value {
        Value::Object(self.0.unwrap_or_default())
    }
}

fn object<const N: usize>(fields: [(&str, String); N]) -> Value {
    Value::Object(
        fields
            .into_iter()
            .map(|(key, text)| (key.to_owned(), Value::String(text)))
            .collect(),
    )
}
