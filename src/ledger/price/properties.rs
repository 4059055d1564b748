//! Any rule and any call, against a computation written the other way round: on the JSON itself,
//! with a library's fractions.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Zero};
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::tests::{Call, ROUNDINGS, decimal, price, text_of};
use super::{Price, PriceError, Rounding};

fn ratio(value: &Value) -> BigRational {
    let text = value.as_str().unwrap();
    let (negative, text) = text
        .strip_prefix('-')
        .map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: BigInt = format!("{whole}{fraction}").parse().unwrap();
    let number = BigRational::new(digits, BigInt::from(10).pow(fraction.len() as u32));
    if negative { -number } else { number }
}

fn ratio_of(number: Decimal) -> BigRational {
    ratio(&json!(number.to_string()))
}

fn naive_exact(rule: &Value, call: &Call) -> Option<(BigRational, bool)> {
    let quantity = ratio_of(call.quantity);
    if rule.is_string() {
        return Some((quantity * ratio(rule), true));
    }
    let used = match rule.get("over") {
        Some(_) => ratio_of(call.used_before),
        None => BigRational::zero(),
    };
    // What it costs to come from nothing to a count.
    let packages = |count: &BigRational, size: &Value| -((-count.clone()) / ratio(size)).floor();
    let slices = |count: &BigRational, tiers: &[Value]| {
        // Everything at the first rate, and from each boundary on what the next rate adds or takes.
        let mut total = count.clone() * ratio(&tiers[0]["per_unit"]);
        for pair in tiers.windows(2) {
            let beyond = (count.clone() - ratio(&pair[0]["up_to"])).max(BigRational::zero());
            total += beyond * (ratio(&pair[1]["per_unit"]) - ratio(&pair[0]["per_unit"]));
        }
        total
    };
    let then = used.clone() + quantity.clone();
    let (mut credits, by_quantity) = if let Some(per_unit) = rule.get("per_unit") {
        (quantity.clone() * ratio(per_unit), true)
    } else if let Some(package) = rule.get("package") {
        let started = packages(&then, &package["size"]) - packages(&used, &package["size"]);
        (started * ratio(&package["credits"]), true)
    } else if let Some(tiers) = rule.get("graduated").and_then(Value::as_array) {
        (slices(&then, tiers) - slices(&used, tiers), true)
    } else if let Some(tiers) = rule.get("volume").and_then(Value::as_array) {
        let passed = tiers
            .iter()
            .filter(|tier| tier.get("up_to").is_some_and(|up_to| ratio(up_to) < then))
            .count();
        (quantity.clone() * ratio(&tiers[passed]["per_unit"]), true)
    } else if let Some(meters) = rule.get("meters").and_then(Value::as_object) {
        let mut total = BigRational::zero();
        for (name, meter) in meters {
            let count = call
                .dimensions
                .get(name)
                .map(ratio)
                .or_else(|| call.usage.get(name).map(|count| ratio_of(*count)));
            total += count.unwrap_or_else(BigRational::zero) / ratio(&meter["per"])
                * ratio(&meter["credits"]);
        }
        (total, false)
    } else if let Some(cost_plus) = rule.get("cost_plus") {
        let cost = ratio_of(call.cost?);
        let money = match cost_plus.get("margin") {
            // What is left of the price beside the margin is the cost.
            Some(margin) => cost / (BigRational::one() - ratio(margin)),
            None => &cost + &cost * ratio(&cost_plus["markup"]),
        };
        (money / ratio(&cost_plus["credit_value"]), false)
    } else {
        let cases = rule["match"].as_array().unwrap();
        let when = |case: &Value| {
            case.get("when")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default()
        };
        let applies = |case: &&Value| {
            when(case)
                .iter()
                .all(|(name, value)| call.dimensions.get(name) == Some(value))
        };
        let applying: Vec<&Value> = cases.iter().filter(applies).collect();
        let most = applying.iter().map(|case| when(case).len()).max()?;
        let best: Vec<&&Value> = applying
            .iter()
            .filter(|case| when(case).len() == most)
            .collect();
        match best[..] {
            [case] => naive_exact(&case["price"], call)?,
            _ => return None,
        }
    };
    if let Some(minimum) = rule.get("minimum")
        && !(by_quantity && quantity.is_zero())
    {
        credits = credits.max(ratio(minimum));
    }
    if let Some(maximum) = rule.get("maximum") {
        credits = credits.min(ratio(maximum));
    }
    Some((credits, by_quantity))
}

fn naive_units(exact: &BigRational, scale: u32, rounding: Rounding) -> BigInt {
    let step = |digits: u32| BigRational::from(BigInt::from(10).pow(digits));
    let steps = exact * step(scale);
    let half = BigRational::new(BigInt::one(), BigInt::from(2));
    let rounded = match rounding {
        Rounding::Up => steps.ceil(),
        Rounding::Down => steps.floor(),
        Rounding::HalfUp => (steps + half).floor(),
        Rounding::HalfEven if steps.fract() == half => {
            if steps.floor().to_integer().is_even() {
                steps.floor()
            } else {
                steps.ceil()
            }
        }
        Rounding::HalfEven => steps.round(),
    };
    (rounded * step(10 - scale)).to_integer()
}

pub(super) fn number(most: u64, decimals: u32) -> impl Strategy<Value = String> {
    (0..=most, 0..=decimals).prop_map(|(digits, scale)| {
        Decimal::try_from_i128_with_scale(digits.into(), scale)
            .unwrap()
            .to_string()
    })
}

pub(super) fn positive(most: u64, decimals: u32) -> impl Strategy<Value = String> {
    (1..=most, 0..=decimals).prop_map(|(digits, scale)| {
        Decimal::try_from_i128_with_scale(digits.into(), scale)
            .unwrap()
            .to_string()
    })
}

fn tiers() -> impl Strategy<Value = Value> {
    let ends = prop::collection::btree_set(1_u64..100, 0..5);
    (ends, prop::collection::vec(number(10_000, 4), 6)).prop_map(|(ends, rates)| {
        let mut rates = rates.into_iter();
        let mut tiers: Vec<Value> = ends
            .iter()
            .zip(&mut rates)
            .map(|(end, rate)| json!({"up_to": format!("{end}.5"), "per_unit": rate}))
            .collect();
        tiers.push(json!({"per_unit": rates.next()}));
        Value::Array(tiers)
    })
}

fn limited(rule: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let limit = || prop::option::of(number(1000, 3));
    (rule, limit(), limit()).prop_map(|(mut rule, minimum, maximum)| {
        let ordered = match (&minimum, &maximum) {
            (Some(minimum), Some(maximum)) => decimal(minimum) <= decimal(maximum),
            _ => true,
        };
        if let (Some(rule), true) = (rule.as_object_mut(), ordered) {
            rule.extend(minimum.map(|minimum| ("minimum".to_owned(), json!(minimum))));
            rule.extend(maximum.map(|maximum| ("maximum".to_owned(), json!(maximum))));
        }
        rule
    })
}

fn simple_rule() -> impl Strategy<Value = Value> {
    let meter = || {
        (positive(5000, 2), number(1000, 6))
            .prop_map(|(per, credits)| json!({"per": per, "credits": credits}))
    };
    limited(prop_oneof![
        number(1_000_000, 8).prop_map(Value::String),
        number(u64::MAX, 20).prop_map(|per_unit| json!({"per_unit": per_unit})),
        over(
            (positive(10_000, 3), number(10_000, 3))
                .prop_map(|(size, credits)| json!({"package": {"size": size, "credits": credits}})),
        ),
        over(tiers().prop_map(|tiers| json!({"graduated": tiers}))),
        over(tiers().prop_map(|tiers| json!({"volume": tiers}))),
        prop::collection::btree_map("[abc]", meter(), 1..4)
            .prop_map(|meters| json!({"meters": meters})),
        (
            number(20_000, 4),
            any::<bool>(),
            any::<bool>(),
            positive(1000, 4)
        )
            .prop_map(|(share, is_margin, is_small, value)| {
                let small = format!("0.{}", share.replace('.', ""));
                match (is_margin, is_small) {
                    (true, true) => json!({"cost_plus": {"margin": small, "credit_value": value}}),
                    (true, false) => {
                        json!({"cost_plus": {"margin": format!("-{share}"), "credit_value": value}})
                    }
                    (false, true) => {
                        json!({"cost_plus": {"markup": format!("-{small}"), "credit_value": value}})
                    }
                    (false, false) => {
                        json!({"cost_plus": {"markup": share, "credit_value": value}})
                    }
                }
            },),
    ])
}

/// Some of them over a month.
fn over(rule: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    (rule, any::<bool>()).prop_map(|(mut rule, over)| {
        if over {
            rule["over"] = json!("month");
        }
        rule
    })
}

fn conditions() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[xyz]", "[12]", 0..3)
}

pub(super) fn any_rule() -> impl Strategy<Value = Value> {
    simple_rule().prop_recursive(2, 8, 4, |inner| {
        let cases = prop::collection::btree_map(conditions(), inner, 1..5).prop_map(|cases| {
            let cases: Vec<Value> = cases
                .into_iter()
                .map(|(when, price)| json!({"when": when, "price": price}))
                .collect();
            json!({"match": cases})
        });
        limited(cases)
    })
}

pub(super) fn any_call() -> impl Strategy<Value = Call> {
    let quantity =
        prop_oneof![3 => number(150, 1), 1 => number(u64::MAX, 18), 1 => Just("0".to_owned())];
    let text =
        |map: BTreeMap<String, String>| map.into_iter().map(|(name, value)| (name, json!(value)));
    let meters = || prop::collection::btree_map("[abc]", number(100_000, 2), 0..3);
    (
        (quantity, prop_oneof![number(150, 1), number(10_000, 12)]),
        conditions(),
        meters(),
        meters(),
        prop::option::weighted(0.8, number(100_000, 8)),
    )
        .prop_map(
            move |((quantity, used), conditions, metered, usage, cost)| Call {
                quantity: decimal(&quantity),
                used_before: decimal(&used),
                dimensions: text(conditions).chain(text(metered)).collect(),
                usage: usage
                    .into_iter()
                    .map(|(name, count)| (name, decimal(&count)))
                    .collect(),
                cost: cost.map(|cost| decimal(&cost)),
            },
        )
}

pub(super) fn any_rounding() -> impl Strategy<Value = Rounding> {
    prop::sample::select(ROUNDINGS.to_vec())
}

/// JSON that is nearly a rule.
fn nearly_a_rule() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "per_unit",
        "package",
        "graduated",
        "volume",
        "meters",
        "cost_plus",
        "match",
        "when",
        "price",
        "minimum",
        "maximum",
        "size",
        "credits",
        "up_to",
        "per",
        "markup",
        "margin",
        "over",
        "credit_value",
        "x",
    ]);
    let number = "-?[0-9]{1,3}(\\.[0-9]{1,3})?([eE]-?[0-9]{1,2})?";
    let leaf = prop_oneof![
        4 => number.prop_map(Value::String),
        2 => (0..100_u32).prop_map(|number| json!(number)),
        1 => Just(json!(null)),
        1 => Just(json!(true)),
        1 => "\\PC{0,3}".prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map(key.clone(), inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_price_is_what_the_naive_computation_says(rule in any_rule(), call in any_call(), scale in 0_u32..=10, rounding in any_rounding()) {
        let quoted = call.quote(&price(&rule), scale, rounding);
        match naive_exact(&rule, &call) {
            None => prop_assert!(matches!(quoted, Err(PriceError::NotFound(_) | PriceError::CostMissing)), "{:?}", quoted),
            Some((exact, _)) => {
                let units = naive_units(&exact, scale, rounding);
                if units >= BigInt::from(10).pow(25) {
                    prop_assert!(matches!(quoted, Err(PriceError::OutOfRange(_))), "{:?}", quoted);
                } else {
                    let quoted = quoted.unwrap();
                    prop_assert_eq!(BigInt::from(quoted.units), units);
                    prop_assert_eq!(&quoted.breakdown["credits"], &json!(text_of(quoted.units)));
                    let rounded = BigRational::new(quoted.units.into(), BigInt::from(10).pow(10));
                    prop_assert_eq!(quoted.breakdown.get("exact").is_some(), rounded != exact);
                }
            }
        }
    }

    /// Call::quote compares the quick way of a plain price per unit with the long one.
    #[test]
    fn the_quick_way_is_the_long_way(
        per_unit in 0_i128..=79_228_162_514_264_337_593_543_950_335, per_unit_scale in 0_u32..=28,
        quantity in 0_i128..=79_228_162_514_264_337_593_543_950_335, quantity_scale in 0_u32..=28,
        shift in 0_u32..96, scale in 0_u32..=10, rounding in any_rounding(),
    ) {
        let per_unit = Decimal::try_from_i128_with_scale(per_unit >> shift, per_unit_scale).unwrap();
        let quantity = Decimal::try_from_i128_with_scale(quantity >> (95 - shift), quantity_scale).unwrap();
        let rule = price(&json!(per_unit.to_string()));
        let quoted = Call::of(&quantity.to_string()).quote(&rule, scale, rounding);
        let units = naive_units(&(ratio_of(per_unit) * ratio_of(quantity)), scale, rounding);
        if units < BigInt::from(10).pow(25) {
            prop_assert_eq!(quoted.map(|quoted| quoted.units.into()), Ok(units));
        } else {
            prop_assert!(matches!(quoted, Err(PriceError::OutOfRange(_))));
        }
    }

    #[test]
    fn more_never_costs_less(
        rule in limited(prop_oneof![
            number(1_000_000, 8).prop_map(Value::String),
            (positive(10_000, 3), number(10_000, 3)).prop_map(|(size, credits)| json!({"package": {"size": size, "credits": credits}})),
            tiers().prop_map(|tiers| json!({"graduated": tiers})),
        ]),
        quantity in number(2000, 1), more in number(2000, 1), scale in 0_u32..=10, rounding in any_rounding(),
    ) {
        let price = price(&rule);
        let larger = (decimal(&quantity) + decimal(&more)).to_string();
        let units = |quantity: &str| Call::of(quantity).quote(&price, scale, rounding).unwrap().units;
        prop_assert!(units(&quantity) <= units(&larger));
    }

    #[test]
    fn rounding_goes_the_way_it_says(rule in simple_rule(), call in any_call(), scale in 0_u32..=10) {
        let price = price(&rule);
        let units = |rounding| call.quote(&price, scale, rounding).map(|quoted| quoted.units);
        if let [Ok(up), Ok(down), Ok(half_up), Ok(half_even)] = ROUNDINGS.map(units) {
            let step = 10_i128.pow(10 - scale);
            prop_assert!(up == down || up == down + step);
            prop_assert!([up, down, half_up, half_even].iter().all(|units| units % step == 0));
            prop_assert!((down..=up).contains(&half_even) && half_even <= half_up && half_up <= up);
        }
    }

    #[test]
    fn nothing_panics(rule in nearly_a_rule(), call in any_call(), dimensions in nearly_a_rule()) {
        let mut call = call;
        call.dimensions.extend(dimensions.as_object().cloned().unwrap_or_default());
        match Price::parse(&rule) {
            Ok(price) => { let _ = call.quote(&price, 2, Rounding::HalfEven); }
            Err(error) => prop_assert!(matches!(error, PriceError::Invalid(text) if text.contains(": "))),
        }
    }
}
