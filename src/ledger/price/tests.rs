//! Golden cases of each shape, every refusal, rounding, range and breakdown.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use super::parse::{MAX_DEPTH, MAX_ENTRIES};
use super::{Measure, Price, PriceError, Quote, Rounding};
use crate::ledger::number::{parse_decimal, plain};

pub(super) const ROUNDINGS: [Rounding; 4] = [
    Rounding::Up,
    Rounding::Down,
    Rounding::HalfUp,
    Rounding::HalfEven,
];

// ---- helpers ----

pub(super) fn decimal(text: &str) -> Decimal {
    parse_decimal(text).unwrap()
}

pub(super) fn price(rule: &Value) -> Price {
    Price::parse(rule).unwrap_or_else(|error| panic!("{rule}: {error}"))
}

/// A call, with everything a price may look at.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub quantity: Decimal,
    pub used_before: Decimal,
    pub dimensions: Map<String, Value>,
    pub usage: BTreeMap<String, Decimal>,
    pub cost: Option<Decimal>,
}

impl Call {
    pub fn of(quantity: &str) -> Self {
        Self {
            quantity: decimal(quantity),
            used_before: Decimal::ZERO,
            dimensions: Map::new(),
            usage: BTreeMap::new(),
            cost: None,
        }
    }

    fn with(mut self, dimensions: Value) -> Self {
        let Value::Object(dimensions) = dimensions else {
            panic!("not an object")
        };
        self.dimensions = dimensions;
        self
    }

    fn used(mut self, meter: &str, count: &str) -> Self {
        self.usage.insert(meter.into(), decimal(count));
        self
    }

    fn after(mut self, used: &str) -> Self {
        self.used_before = decimal(used);
        self
    }

    fn costing(mut self, cost: &str) -> Self {
        self.cost = Some(decimal(cost));
        self
    }

    pub fn measure(&self) -> Measure<'_> {
        Measure {
            quantity: self.quantity,
            used: self.used_before,
            dimensions: &self.dimensions,
            usage: &self.usage,
            usage_is_whole: true,
            cost: self.cost,
        }
    }

    /// The explained price; the price that is not explained must be the same, or the same error.
    pub fn quote(
        &self,
        price: &Price,
        scale: u32,
        rounding: Rounding,
    ) -> Result<Quote, PriceError> {
        let explained = price.explain(&self.measure(), scale, rounding);
        let credits = price.credits(&self.measure(), scale, rounding);
        assert_eq!(credits, explained.clone().map(|quoted| quoted.units));
        explained
    }

    /// The credits as text, at two decimals, rounded up.
    fn credits(&self, rule: &Value) -> String {
        let quoted = self
            .quote(&price(rule), 2, Rounding::Up)
            .unwrap_or_else(|error| panic!("{rule}: {error}"));
        text_of(quoted.units)
    }

    fn error(&self, rule: &Value) -> PriceError {
        self.quote(&price(rule), 2, Rounding::Up)
            .expect_err("a refusal")
    }

    fn breakdown(&self, rule: &Value) -> Value {
        self.quote(&price(rule), 2, Rounding::Up).unwrap().breakdown
    }
}

pub(super) fn text_of(units: i128) -> String {
    plain(Decimal::try_from_i128_with_scale(units, 10).unwrap())
}

fn credits(rule: &Value, quantity: &str) -> String {
    Call::of(quantity).credits(rule)
}

fn refusal(rule: &str) -> String {
    let rule: Value = serde_json::from_str(rule).unwrap();
    match Price::parse(&rule) {
        Err(PriceError::Invalid(text)) => text,
        other => panic!("{rule}: {other:?}"),
    }
}

// ---- the shapes ----

#[test]
fn a_number_is_credits_per_unit() {
    for rule in [
        json!(4),
        json!("4"),
        json!("4.00"),
        json!({"per_unit": 4}),
        json!({"per_unit": "4e0"}),
    ] {
        assert_eq!(credits(&rule, "1"), "4", "{rule}");
        assert_eq!(credits(&rule, "2.5"), "10", "{rule}");
        assert_eq!(credits(&rule, "0"), "0", "{rule}");
    }
    assert_eq!(credits(&json!(0), "1000"), "0");
    let exponent: Value = serde_json::from_str("1e-3").unwrap();
    assert_eq!(credits(&exponent, "20"), "0.02");
}

#[test]
fn minimum_and_maximum_limit_the_credits() {
    let rule = json!({"per_unit": "0.5", "minimum": "1", "maximum": "50"});
    for (quantity, charged) in [
        ("0", "0"),
        ("0.01", "1"),
        ("1", "1"),
        ("2", "1"),
        ("3", "1.5"),
        ("100", "50"),
        ("101", "50"),
    ] {
        assert_eq!(credits(&rule, quantity), charged, "{quantity}");
    }
    assert_eq!(credits(&json!({"per_unit": 3, "maximum": 0}), "5"), "0");
    assert_eq!(
        credits(&json!({"per_unit": 3, "minimum": 7, "maximum": "7.0"}), "5"),
        "7"
    );
    // A limit finer than the asset is rounded with the rest.
    assert_eq!(
        credits(&json!({"per_unit": 1, "minimum": "2.001"}), "1"),
        "2.01"
    );
}

#[test]
fn started_packages_are_charged_whole() {
    let rule = json!({"package": {"size": 1000, "credits": "5"}});
    for (quantity, charged) in [
        ("0", "0"),
        ("0.001", "5"),
        ("999", "5"),
        ("1000", "5"),
        ("1000.5", "10"),
        ("2001", "15"),
    ] {
        assert_eq!(credits(&rule, quantity), charged, "{quantity}");
    }
    assert_eq!(
        credits(&json!({"package": {"size": "0.3", "credits": 1}}), "0.9"),
        "3"
    );
    assert_eq!(
        credits(
            &json!({"package": {"size": 10, "credits": 1}, "minimum": 3}),
            "5"
        ),
        "3"
    );
}

#[test]
fn graduated_slices_each_have_their_rate() {
    let rule = json!({"graduated": [{"up_to": 10, "per_unit": "2"}, {"up_to": 100, "per_unit": "1"}, {"per_unit": "0.1"}]});
    for (quantity, charged) in [
        ("0", "0"),
        ("1", "2"),
        ("10", "20"),
        ("11", "21"),
        ("10.5", "20.5"),
        ("100", "110"),
        ("1000", "200"),
    ] {
        assert_eq!(credits(&rule, quantity), charged, "{quantity}");
    }
    assert_eq!(credits(&json!({"graduated": [{"per_unit": 3}]}), "4"), "12");
    assert_eq!(
        credits(
            &json!({"graduated": [{"up_to": 5, "per_unit": 0}, {"per_unit": 3}], "minimum": 1}),
            "4"
        ),
        "1"
    );
}

#[test]
fn volume_takes_the_whole_quantity_at_the_reached_rate() {
    let rule = json!({"volume": [{"up_to": 10, "per_unit": "2"}, {"up_to": 100, "per_unit": "1"}, {"per_unit": "0.1"}]});
    for (quantity, charged) in [
        ("0", "0"),
        ("1", "2"),
        ("10", "20"),
        ("10.01", "10.01"),
        ("100", "100"),
        ("101", "10.1"),
    ] {
        assert_eq!(credits(&rule, quantity), charged, "{quantity}");
    }
}

#[test]
fn meters_are_summed_and_quantity_does_not_count() {
    let rule = json!({"meters": {"input_tokens": {"per": 1000, "credits": "0.1"}, "output_tokens": {"per": 1000, "credits": "0.4"}}});
    let call = Call::of("77");
    assert_eq!(call.credits(&rule), "0");
    assert_eq!(
        call.clone()
            .with(json!({"input_tokens": 2000, "output_tokens": "500"}))
            .credits(&rule),
        "0.4"
    );
    assert_eq!(
        call.clone()
            .used("input_tokens", "2000")
            .used("output_tokens", "500")
            .credits(&rule),
        "0.4"
    );
    // What the dimensions say comes first, meter by meter.
    let both = call
        .clone()
        .with(json!({"input_tokens": 1000}))
        .used("input_tokens", "9000")
        .used("output_tokens", "1000");
    assert_eq!(both.credits(&rule), "0.5");
    assert_eq!(
        Call::of("0").used("output_tokens", "1000").credits(&rule),
        "0.4"
    );
    assert_eq!(
        call.with(json!({"input_tokens": "1e3", "other": null}))
            .credits(&rule),
        "0.1"
    );
}

#[test]
fn a_meter_of_the_wrong_kind_is_named() {
    let rule = json!({"meters": {"seconds": {"per": 1, "credits": 2}}});
    for wrong in [
        json!("many"),
        json!("NaN"),
        json!(null),
        json!([1]),
        json!({}),
        json!(true),
        json!(-1),
        json!("-0.5"),
        json!("1e30"),
    ] {
        let error = Call::of("1").with(json!({"seconds": wrong})).error(&rule);
        let PriceError::Invalid(text) = error else {
            panic!("{error:?}")
        };
        assert!(text.starts_with("dimensions[\"seconds\"]: "), "{text}");
    }
    let error = Call::of("1").used("seconds", "-1").error(&rule);
    assert_eq!(
        error.to_string(),
        "usage[\"seconds\"]: must not be negative, and is -1; it is a meter of the price"
    );
}

#[test]
fn cost_plus_turns_money_into_credits() {
    let rule = json!({"cost_plus": {"markup": "0.40", "credit_value": "0.01"}});
    assert_eq!(Call::of("1").costing("0.02").credits(&rule), "2.8");
    assert_eq!(Call::of("0").costing("0.02").credits(&rule), "2.8");
    assert_eq!(Call::of("9").costing("0").credits(&rule), "0");
    assert_eq!(Call::of("1").error(&rule), PriceError::CostMissing);
    let at_a_loss = json!({"cost_plus": {"markup": "-0.5", "credit_value": 3}});
    assert_eq!(Call::of("1").costing("1").credits(&at_a_loss), "0.17");
    assert_eq!(
        Call::of("1")
            .costing("0")
            .credits(&json!({"cost_plus": {"markup": 0, "credit_value": 1}, "minimum": 2})),
        "2"
    );
    // A margin is a share of the price: of 0.02 / 0.60 the cost is 60 %.
    let margin = json!({"cost_plus": {"margin": "0.40", "credit_value": "0.01"}});
    assert_eq!(Call::of("1").costing("0.03").credits(&margin), "5");
    assert_eq!(Call::of("1").costing("0.02").credits(&margin), "3.34");
    let below_cost = json!({"cost_plus": {"margin": "-1", "credit_value": 1}});
    assert_eq!(Call::of("1").costing("3").credits(&below_cost), "1.5");
    // A markup of as many digits as there can be: 1 + markup does not fit a Decimal.
    let fine = json!({"cost_plus": {"markup": "7.9228162514264337593543950335", "credit_value": "0.0000000000000000000000000001"}});
    let quoted = Call::of("1")
        .costing("0.00000000000001")
        .quote(&price(&fine), 10, Rounding::Down)
        .unwrap();
    assert_eq!(text_of(quoted.units), "892281625142643.3759354395");
}

#[test]
fn tiers_over_a_month_count_what_was_used_before() {
    let tiers =
        json!([{"up_to": 10, "per_unit": 3}, {"up_to": 20, "per_unit": 2}, {"per_unit": 1}]);
    let graduated = json!({"graduated": tiers, "over": "month"});
    let volume = json!({"volume": tiers, "over": "month"});
    let package = json!({"package": {"size": 10, "credits": 5}, "over": "month"});
    for (used, quantity, by_slice, by_volume, by_package) in [
        ("0", "10", "30", "30", "5"),
        ("10", "1", "2", "2", "5"),
        ("9", "1", "3", "3", "0"),
        ("9", "2", "5", "4", "5"),
        ("5", "20", "40", "20", "10"),
        ("9.5", "1", "2.5", "2", "5"),
        ("1000", "1", "1", "1", "5"),
        ("1000", "0", "0", "0", "0"),
        ("999", "1", "1", "1", "0"),
    ] {
        let call = || Call::of(quantity).after(used);
        assert_eq!(call().credits(&graduated), by_slice, "{used} {quantity}");
        assert_eq!(call().credits(&volume), by_volume, "{used} {quantity}");
        assert_eq!(call().credits(&package), by_package, "{used} {quantity}");
        // Without over they count within one call.
        let alone = json!({"graduated": tiers});
        assert_eq!(
            call().credits(&alone),
            Call::of(quantity).credits(&alone),
            "{used} {quantity}"
        );
    }
    assert!(
        price(&json!({"match": [{"when": {"size": "4k"}, "price": graduated}, {"price": 1}]}))
            .counts_months()
    );
    assert!(!price(&json!({"graduated": tiers})).counts_months());
    let quoted = Call::of("2")
        .after("9")
        .quote(&price(&graduated), 2, Rounding::Up);
    assert_eq!(
        quoted.unwrap().breakdown,
        json!({"rule": "graduated", "over": "month", "used": "9", "credits": "5", "tiers": [
            {"quantity": "1", "per_unit": "3", "credits": "3"}, {"quantity": "1", "per_unit": "2", "credits": "2"}]})
    );
}

#[test]
fn the_most_specific_case_decides() {
    let rule = json!({"match": [
        {"when": {"model": "gpt-5", "size": "4k"}, "price": 12},
        {"when": {"model": "gpt-5"}, "price": 5},
        {"price": 1},
    ]});
    assert_eq!(credits(&rule, "2"), "2");
    for (dimensions, charged) in [
        (json!({"model": "gpt-5"}), "5"),
        (json!({"model": "gpt-5", "size": "4k"}), "12"),
        (json!({"model": "gpt-5", "size": "4k", "user": 1}), "12"),
        (json!({"model": "gpt-5", "size": "2k"}), "5"),
        (json!({"size": "4k"}), "1"),
        (json!({"model": "GPT-5"}), "1"),
        (json!({"model": null}), "1"),
        (json!({"model": ["gpt-5"]}), "1"),
    ] {
        assert_eq!(
            Call::of("1").with(dimensions.clone()).credits(&rule),
            charged,
            "{dimensions}"
        );
    }
}

#[test]
fn conditions_compare_by_kind_and_value() {
    let rule = json!({"match": [
        {"when": {"x": "1"}, "price": 1},
        {"when": {"x": 1}, "price": 2},
        {"when": {"x": true}, "price": 3},
        {"when": {"x": "0.1"}, "price": 4},
        {"when": {}, "price": 5},
    ]});
    for (value, charged) in [
        ("\"1\"", "1"),
        ("1", "2"),
        ("1.0", "2"),
        ("10e-1", "2"),
        ("1.0000000000000000000000000000000000000001", "5"),
        ("1e999999999999999999999", "5"),
        ("true", "3"),
        ("false", "5"),
        ("\"0.1\"", "4"),
        ("0.1", "5"),
        ("\"0.10\"", "5"),
        ("null", "5"),
    ] {
        let value: Value = serde_json::from_str(value).unwrap();
        assert_eq!(
            Call::of("1").with(json!({"x": value})).credits(&rule),
            charged,
            "{value}"
        );
    }
}

#[test]
fn a_tie_and_no_match_are_not_found() {
    let tie = json!({"match": [
        {"when": {"model": "a"}, "price": 1},
        {"when": {"size": 4}, "price": 2},
        {"when": {"model": "b", "size": 4}, "price": 3},
    ]});
    let PriceError::NotFound(text) = Call::of("1")
        .with(json!({"model": "a", "size": 4.0}))
        .error(&tie)
    else {
        panic!()
    };
    assert!(
        text.contains(r#"{"model":"a"}"#) && text.contains(r#"{"size":4}"#),
        "{text}"
    );
    // A more specific case settles the tie below it.
    assert_eq!(
        Call::of("1")
            .with(json!({"model": "b", "size": 4}))
            .credits(&tie),
        "3"
    );
    // Quantity 0 does not make a price where there is none.
    let PriceError::NotFound(text) = Call::of("0").with(json!({"model": "c"})).error(&tie) else {
        panic!()
    };
    assert!(text.contains(r#""model", "size""#), "{text}");
}

#[test]
fn a_match_may_stand_inside_a_match_with_limits_of_its_own() {
    let rule = json!({"match": [
        {"when": {"tier": "pro"}, "price": {"match": [{"when": {"size": 1}, "price": {"per_unit": 2, "minimum": 3}}, {"price": 5}], "maximum": 20}},
        {"price": {"meters": {"s": {"per": 1, "credits": 1}}}},
    ], "minimum": 4});
    let pro = |quantity: &str| Call::of(quantity).with(json!({"tier": "pro", "size": 1}));
    assert_eq!(pro("1").credits(&rule), "4");
    assert_eq!(pro("3").credits(&rule), "6");
    assert_eq!(pro("100").credits(&rule), "20");
    // At quantity 0 the case that applies decides whether a minimum counts, the match's own
    // included.
    assert_eq!(pro("0").credits(&rule), "0");
    assert_eq!(Call::of("0").credits(&rule), "4");
    assert_eq!(
        pro("1").breakdown(&rule)["match"],
        json!({"tier": "pro", "size": 1})
    );
}

#[test]
fn quantity_0_is_free_where_quantity_decides() {
    for rule in [
        json!({"per_unit": 2, "minimum": 5}),
        json!({"package": {"size": 1, "credits": 2}, "minimum": 5}),
        json!({"graduated": [{"per_unit": 2}], "minimum": 5}),
        json!({"volume": [{"per_unit": 2}], "minimum": 5}),
        json!({"match": [{"price": {"per_unit": 2, "minimum": 5}}], "minimum": 6}),
    ] {
        assert_eq!(credits(&rule, "0"), "0", "{rule}");
        assert_eq!(credits(&rule, "-0.00"), "0", "{rule}");
    }
    for rule in [
        json!({"meters": {"s": {"per": 1, "credits": 1}}, "minimum": 5}),
        json!({"cost_plus": {"markup": 0, "credit_value": 1}, "minimum": 5}),
    ] {
        assert_eq!(Call::of("0").costing("0").credits(&rule), "5", "{rule}");
    }
}

#[test]
fn a_price_says_what_it_needs() {
    let nested = json!({"match": [{"when": {"a": 1}, "price": {"cost_plus": {"markup": 0, "credit_value": 1}}}, {"price": 1}]});
    assert!(price(&nested).needs_cost() && !price(&nested).needs_usage());
    // Only the case that applies asks for it.
    assert_eq!(credits(&nested, "1"), "1");
    let meters = json!({"meters": {"s": {"per": 1, "credits": 1}}});
    assert!(!price(&meters).needs_cost() && price(&meters).needs_usage());
}

#[test]
fn a_negative_quantity_or_cost_is_refused() {
    for call in [Call::of("-1"), Call::of("1").costing("-0.01")] {
        assert!(
            matches!(call.error(&json!(1)), PriceError::Invalid(_)),
            "{call:?}"
        );
    }
}

// ---- rounding, range, exactness ----

#[test]
fn rounding_happens_once_at_the_end() {
    use Rounding::{Down, HalfEven, HalfUp, Up};
    for (exact, scale, expected) in [
        (
            "0.5",
            0,
            [(Up, "1"), (Down, "0"), (HalfUp, "1"), (HalfEven, "0")],
        ),
        (
            "1.5",
            0,
            [(Up, "2"), (Down, "1"), (HalfUp, "2"), (HalfEven, "2")],
        ),
        (
            "2.5",
            0,
            [(Up, "3"), (Down, "2"), (HalfUp, "3"), (HalfEven, "2")],
        ),
        (
            "2.50000000001",
            0,
            [(Up, "3"), (Down, "2"), (HalfUp, "3"), (HalfEven, "3")],
        ),
        (
            "2.49999999999",
            0,
            [(Up, "3"), (Down, "2"), (HalfUp, "2"), (HalfEven, "2")],
        ),
        (
            "0.125",
            2,
            [
                (Up, "0.13"),
                (Down, "0.12"),
                (HalfUp, "0.13"),
                (HalfEven, "0.12"),
            ],
        ),
        (
            "0.1",
            2,
            [
                (Up, "0.1"),
                (Down, "0.1"),
                (HalfUp, "0.1"),
                (HalfEven, "0.1"),
            ],
        ),
        (
            "0.00000000005",
            10,
            [
                (Up, "0.0000000001"),
                (Down, "0"),
                (HalfUp, "0.0000000001"),
                (HalfEven, "0"),
            ],
        ),
    ] {
        // The same number by the quick way and by the long one.
        for rule in [
            json!(exact),
            json!({"graduated": [{"per_unit": exact}]}),
            json!({"package": {"size": 1, "credits": exact}}),
        ] {
            for (rounding, rounded) in expected {
                let quoted = Call::of("1").quote(&price(&rule), scale, rounding).unwrap();
                assert_eq!(text_of(quoted.units), rounded, "{rule} {rounding}");
            }
        }
    }
    // Three thirds make one: nothing is rounded on the way.
    let third = |name: &str| (name.to_owned(), json!({"per": 3, "credits": 1}));
    let thirds = json!({"meters": Map::from_iter([third("a"), third("b"), third("c")])});
    assert_eq!(
        Call::of("1")
            .with(json!({"a": 1, "b": 1, "c": 1}))
            .credits(&thirds),
        "1"
    );
}

#[test]
fn rounding_modes_have_names() {
    for rounding in ROUNDINGS {
        assert_eq!(rounding.to_string().parse(), Ok(rounding));
    }
    for name in ["", "UP", "nearest", "half-up"] {
        assert!(
            name.parse::<Rounding>()
                .is_err_and(|text| text.contains("half_even")),
            "{name}"
        );
    }
}

#[test]
fn results_beyond_28_digits_are_exact() {
    // 20 and 14 decimals make 34: one rounding in between would show.
    let rule = json!("0.12345678901234567891");
    let quoted = Call::of("1000000.00000000000001")
        .quote(&price(&rule), 10, Rounding::Down)
        .unwrap();
    assert_eq!(text_of(quoted.units), "123456.7890123456");
    assert_eq!(
        quoted.breakdown["exact"],
        json!("123456.7890123456789112345678901234567891")
    );
    // A sliver beyond a full step is charged as a step when rounded up, however small.
    let sliver = Call::of("1.0000000000000000000000000001").quote(
        &price(&json!("1.0000000000000000000000000001")),
        10,
        Rounding::Up,
    );
    assert_eq!(text_of(sliver.unwrap().units), "1.0000000001");
}

#[test]
fn a_price_of_ten_to_the_fifteen_is_out_of_range() {
    let most = Call::of("999999999999999.9999999999")
        .quote(&price(&json!(1)), 10, Rounding::Up)
        .unwrap();
    assert_eq!(most.units, 10_i128.pow(25) - 1);
    for (rule, quantity, scale) in [
        (json!(1), "1000000000000000", 10),
        (json!(1), "999999999999999.9999999999", 9),
        (json!(1), "79228162514264337593543950335", 0),
        (
            json!("79228162514264337593543950335"),
            "79228162514264337593543950335",
            0,
        ),
        (
            json!({"package": {"size": "1e-28", "credits": 1}}),
            "79228162514264337593543950335",
            0,
        ),
        (json!({"per_unit": 1, "maximum": "1e28"}), "2e15", 0),
    ] {
        let refused = Call::of(quantity).quote(&price(&rule), scale, Rounding::Up);
        assert!(
            matches!(refused, Err(PriceError::OutOfRange(_))),
            "{rule} {refused:?}"
        );
    }
    // What the maximum brings back into range is in range.
    assert_eq!(
        credits(&json!({"per_unit": "1e28", "maximum": 7}), "1e28"),
        "7"
    );
    let finer_than_a_unit = Call::of("1").quote(&price(&json!(1)), 11, Rounding::Up);
    assert!(matches!(finer_than_a_unit, Err(PriceError::Invalid(_))));
}

// ---- what a person reads ----

#[test]
fn a_breakdown_says_how_the_credits_came_about() {
    let tokens = json!({"meters": {"input": {"per": 3000, "credits": "0.1"}}, "maximum": "0.5"});
    for (call, rule, breakdown) in [
        (
            Call::of("3"),
            json!(4),
            json!({"rule": "per_unit", "quantity": "3", "per_unit": "4", "credits": "12"}),
        ),
        (
            Call::of("1.50"),
            json!({"per_unit": "0.333", "minimum": "0.10"}),
            json!({"rule": "per_unit", "quantity": "1.5", "per_unit": "0.333", "credits": "0.5", "exact": "0.4995"}),
        ),
        (
            Call::of("1"),
            json!({"per_unit": "0.5", "minimum": "1.00"}),
            json!({"rule": "per_unit", "quantity": "1", "per_unit": "0.5", "minimum": "1", "credits": "1"}),
        ),
        (
            Call::of("2500"),
            json!({"package": {"size": 1000, "credits": "5"}}),
            json!({"rule": "package", "quantity": "2500", "package": {"size": "1000", "credits": "5"}, "packages": "3", "credits": "15"}),
        ),
        (
            Call::of("12"),
            json!({"graduated": [{"up_to": 10, "per_unit": "2"}, {"per_unit": "1"}]}),
            json!({"rule": "graduated", "credits": "22", "tiers": [
                {"quantity": "10", "per_unit": "2", "credits": "20"},
                {"quantity": "2", "per_unit": "1", "credits": "2"},
            ]}),
        ),
        (
            Call::of("12"),
            json!({"volume": [{"up_to": 10, "per_unit": "2"}, {"per_unit": "1"}]}),
            json!({"rule": "volume", "credits": "12", "tiers": [{"quantity": "12", "per_unit": "1", "credits": "12"}]}),
        ),
        (
            Call::of("0"),
            json!({"volume": [{"per_unit": "1"}]}),
            json!({"rule": "volume", "credits": "0", "tiers": []}),
        ),
        (
            Call::of("1").used("input", "1000"),
            tokens.clone(),
            json!({"rule": "meters", "credits": "0.04", "exact": "0.03333333333333333333...", "meters": [
                {"meter": "input", "quantity": "1000", "rate": {"per": "3000", "credits": "0.1"}, "credits": "0.03333333333333333333..."},
            ]}),
        ),
        (
            Call::of("1").used("input", "30000"),
            tokens,
            json!({"rule": "meters", "credits": "0.5", "maximum": "0.5", "meters": [
                {"meter": "input", "quantity": "30000", "rate": {"per": "3000", "credits": "0.1"}, "credits": "1"},
            ]}),
        ),
        (
            Call::of("1").costing("0.020"),
            json!({"cost_plus": {"markup": "0.40", "credit_value": "0.01"}}),
            json!({"rule": "cost_plus", "cost": "0.02", "markup": "0.4", "credit_value": "0.01", "credits": "2.8"}),
        ),
        (
            Call::of("1").with(json!({"model": "m", "hd": true, "n": 1.0})),
            json!({"match": [{"when": {"model": "m", "hd": true, "n": 1}, "price": 2}, {"price": 1}]}),
            json!({"rule": "per_unit", "match": {"model": "m", "hd": true, "n": 1}, "quantity": "1", "per_unit": "2", "credits": "2"}),
        ),
        (
            Call::of("1"),
            json!({"match": [{"price": 1}]}),
            json!({"rule": "per_unit", "match": {}, "quantity": "1", "per_unit": "1", "credits": "1"}),
        ),
    ] {
        assert_eq!(call.breakdown(&rule), breakdown, "{rule}");
    }
}

// ---- refusals ----

#[test]
fn refusals_say_where_and_why() {
    let kinds = "per_unit, package, graduated, volume, meters, cost_plus, match";
    for (rule, text) in [
        (
            "null",
            format!(
                "price: must be a number of credits per unit or an object with one of {kinds}, not null"
            ),
        ),
        (
            "true",
            format!(
                "price: must be a number of credits per unit or an object with one of {kinds}, not a boolean"
            ),
        ),
        (
            "[1]",
            format!(
                "price: must be a number of credits per unit or an object with one of {kinds}, not an array"
            ),
        ),
        (
            "{}",
            format!("price: says no price; it must have one of {kinds}"),
        ),
        (
            r#"{"minimum": 1}"#,
            format!("price: says no price; it must have one of {kinds}"),
        ),
        (
            r#"{"per_uint": 1}"#,
            format!(
                "price: has an unknown key \"per_uint\"; a rule has one of {kinds}, and may have minimum, maximum and over"
            ),
        ),
        (
            r#"{"per_unit": 1, "Minimum": 1}"#,
            format!(
                "price: has an unknown key \"Minimum\"; a rule has one of {kinds}, and may have minimum, maximum and over"
            ),
        ),
    ] {
        assert_eq!(refusal(rule), text);
    }
    for (rule, text) in [
        // numbers
        ("-1", "price: must not be negative, and is -1"),
        (r#""four""#, "price: \"four\" is not a number"),
        (r#""""#, "price: \"\" is not a number"),
        (r#""NaN""#, "price: \"NaN\" is not a number"),
        (r#""Infinity""#, "price: \"Infinity\" is not a number"),
        (
            r#"{"per_unit": null}"#,
            "per_unit: must be a number or a string with a number, not null",
        ),
        (
            r#"{"per_unit": {}}"#,
            "per_unit: must be a number or a string with a number, not an object",
        ),
        (
            r#"{"per_unit": "-0.1"}"#,
            "per_unit: must not be negative, and is -0.1",
        ),
        (
            "1e29",
            "price: \"1e+29\" has more digits than can be kept exactly (28, decimals included)",
        ),
        (
            r#""1e29""#,
            "price: \"1e29\" has more digits than can be kept exactly (28, decimals included)",
        ),
        (
            "0.12345678901234567890123456789",
            "price: \"0.12345678901234567890123456789\" has more digits than can be kept exactly (28, decimals included)",
        ),
        // limits
        (
            r#"{"per_unit": 1, "package": {}}"#,
            "price: has both package and per_unit; a rule has one of them",
        ),
        (
            r#"{"per_unit": 1, "minimum": -1}"#,
            "minimum: must not be negative, and is -1",
        ),
        (
            r#"{"per_unit": 1, "maximum": "x"}"#,
            "maximum: \"x\" is not a number",
        ),
        (
            r#"{"per_unit": 1, "maximum": null}"#,
            "maximum: must be a number or a string with a number, not null",
        ),
        (
            r#"{"per_unit": 1, "minimum": "2.0", "maximum": 1}"#,
            "minimum: 2 is more than the maximum 1",
        ),
        (
            r#"{"per_unit": 1, "minimum": 1000000000000000}"#,
            "minimum: must be less than 1000000000000000 credits",
        ),
        // package
        (
            r#"{"package": 5}"#,
            "package: must be an object with size and credits, not a number",
        ),
        (r#"{"package": {}}"#, "package.size: is missing"),
        (r#"{"package": {"size": 1}}"#, "package.credits: is missing"),
        (
            r#"{"package": {"size": 0, "credits": 1}}"#,
            "package.size: must be more than 0, and is 0",
        ),
        (
            r#"{"package": {"size": 1, "credits": -1}}"#,
            "package.credits: must not be negative, and is -1",
        ),
        (
            r#"{"package": {"size": 1, "credits": 1, "price": 1}}"#,
            "package: has an unknown key \"price\"; it takes size and credits",
        ),
        // tiers
        (
            r#"{"graduated": {}}"#,
            "graduated: must be an array of tiers, not an object",
        ),
        (
            r#"{"graduated": []}"#,
            "graduated: is empty; it must have at least one tier",
        ),
        (
            r#"{"volume": [1]}"#,
            "volume[0]: must be an object with up_to and per_unit, not a number",
        ),
        (r#"{"volume": [{}]}"#, "volume[0].per_unit: is missing"),
        (
            r#"{"volume": [{"per_unit": 1, "flat": 2}]}"#,
            "volume[0]: has an unknown key \"flat\"; it takes up_to and per_unit",
        ),
        (
            r#"{"graduated": [{"up_to": 1, "per_unit": 1}]}"#,
            "graduated[0].up_to: the last tier must have no up_to, so that every quantity has a price",
        ),
        (
            r#"{"graduated": [{"per_unit": 1, "up_to": null}]}"#,
            "graduated[0].up_to: the last tier must have no up_to, so that every quantity has a price",
        ),
        (
            r#"{"graduated": [{"per_unit": 1}, {"per_unit": 1}]}"#,
            "graduated[0].up_to: is missing; only the last tier has none",
        ),
        (
            r#"{"graduated": [{"up_to": 0, "per_unit": 1}, {"per_unit": 1}]}"#,
            "graduated[0].up_to: must be more than 0, and is 0",
        ),
        (
            r#"{"graduated": [{"up_to": 5, "per_unit": 1}, {"up_to": "5.0", "per_unit": 1}, {"per_unit": 1}]}"#,
            "graduated[1].up_to: 5 is not more than the 5 of the tier before; tiers must ascend",
        ),
        // meters
        (
            r#"{"meters": []}"#,
            "meters: must be an object of meters, like {\"output_tokens\": {\"per\": 1000, \"credits\": \"0.4\"}}, not an array",
        ),
        (
            r#"{"meters": {}}"#,
            "meters: is empty; it must have at least one meter",
        ),
        (
            r#"{"meters": {"": {"per": 1, "credits": 1}}}"#,
            "meters: has a meter without a name",
        ),
        (
            r#"{"meters": {"s": 1}}"#,
            "meters[\"s\"]: must be an object with per and credits, not a number",
        ),
        (
            r#"{"meters": {"s": {"credits": 1}}}"#,
            "meters[\"s\"].per: is missing",
        ),
        (
            r#"{"meters": {"s": {"per": 0, "credits": 1}}}"#,
            "meters[\"s\"].per: must be more than 0, and is 0",
        ),
        (
            r#"{"meters": {"s": {"per": 1, "credits": "?"}}}"#,
            "meters[\"s\"].credits: \"?\" is not a number",
        ),
        // cost_plus
        (
            r#"{"cost_plus": {"markup": 1}}"#,
            "cost_plus.credit_value: is missing",
        ),
        (
            r#"{"cost_plus": {"credit_value": 1}}"#,
            "cost_plus: has neither markup nor margin; it needs one of them",
        ),
        (
            r#"{"cost_plus": {"markup": 1, "margin": "0.5", "credit_value": 1}}"#,
            "cost_plus: has both markup and margin; markup is a share of the cost, margin one of the price",
        ),
        (
            r#"{"cost_plus": {"margin": 1, "credit_value": 1}}"#,
            "cost_plus.margin: must be less than 1 (\"0.40\" leaves 40 % of the price), and is 1",
        ),
        (
            r#"{"cost_plus": {"markup": -1, "credit_value": 1}}"#,
            "cost_plus.markup: must be more than -1 (\"0.40\" adds 40 %), and is -1",
        ),
        (
            r#"{"cost_plus": {"markup": 1, "credit_value": "0.00"}}"#,
            "cost_plus.credit_value: must be more than 0, and is 0",
        ),
        // over
        (
            r#"{"per_unit": 1, "over": "month"}"#,
            "over: stands beside per_unit; it stands beside one of package, graduated, volume",
        ),
        (
            r#"{"volume": [{"per_unit": 1}], "over": "week"}"#,
            "over: must be \"month\"",
        ),
        // match
        (
            r#"{"match": {}}"#,
            "match: must be an array of cases, not an object",
        ),
        (
            r#"{"match": []}"#,
            "match: is empty; it must have at least one case",
        ),
        (
            r#"{"match": [4]}"#,
            "match[0]: must be an object with when and price, not a number",
        ),
        (
            r#"{"match": [{"when": {"a": 1}}]}"#,
            "match[0].price: is missing",
        ),
        (
            r#"{"match": [{"if": {}, "price": 1}]}"#,
            "match[0]: has an unknown key \"if\"; it takes when and price",
        ),
        (
            r#"{"match": [{"when": "a", "price": 1}]}"#,
            "match[0].when: must be an object of dimensions and their values, like {\"model\": \"gpt-5\"}, not a string",
        ),
        (
            r#"{"match": [{"when": {"a": null}, "price": 1}]}"#,
            "match[0].when[\"a\"]: must be a string, a number or a boolean, not null",
        ),
        (
            r#"{"match": [{"when": {"a": [1]}, "price": 1}]}"#,
            "match[0].when[\"a\"]: must be a string, a number or a boolean, not an array",
        ),
        (
            r#"{"match": [{"when": {"": 1}, "price": 1}]}"#,
            "match[0].when: has a dimension without a name",
        ),
        (
            r#"{"match": [{"price": 1}, {"when": {}, "price": 2}]}"#,
            "match[1]: is a second default case; the first is match[0]",
        ),
        (
            r#"{"match": [{"when": {"a": 1, "b": "x"}, "price": 1}, {"price": 1}, {"when": {"b": "x", "a": 1.0}, "price": 2}]}"#,
            "match[2]: has the same when as match[0]",
        ),
        (
            r#"{"match": [{"price": 1}, {"when": {"a": 1}, "price": {"graduated": [{"up_to": "x", "per_unit": 1}, {"per_unit": 1}]}}]}"#,
            "match[1].price.graduated[0].up_to: \"x\" is not a number",
        ),
        (
            r#"{"match": [{"price": null}]}"#,
            "match[0].price: must be a number of credits per unit or an object with one of per_unit, package, graduated, volume, meters, cost_plus, match, not null",
        ),
    ] {
        assert_eq!(refusal(rule), text, "{rule}");
    }
}

#[test]
fn sizes_are_limited() {
    let nested =
        |depth: usize| (0..depth).fold(json!(1), |price, _| json!({"match": [{"price": price}]}));
    assert!(Price::parse(&nested(MAX_DEPTH)).is_ok());
    let error = Price::parse(&nested(MAX_DEPTH + 1)).unwrap_err();
    assert!(error.to_string().contains("nested too deep"), "{error}");

    let tiers = |count: usize| {
        let mut tiers: Vec<Value> = (1..count)
            .map(|up_to| json!({"up_to": up_to, "per_unit": 1}))
            .collect();
        tiers.push(json!({"per_unit": 1}));
        json!({"graduated": tiers})
    };
    let meters = |count: usize| json!({"meters": Map::from_iter((0..count).map(|name| (name.to_string(), json!({"per": 1, "credits": 1}))))});
    let cases = |count: usize| json!({"match": Vec::from_iter((0..count).map(|name| json!({"when": {"a": name}, "price": 1})))});
    let conditions = |count: usize| json!({"match": [{"when": Map::from_iter((0..count).map(|name| (name.to_string(), json!(1)))), "price": 1}]});
    for rule in [tiers, meters, cases, conditions] {
        assert!(Price::parse(&rule(MAX_ENTRIES)).is_ok());
        let error = Price::parse(&rule(MAX_ENTRIES + 1)).unwrap_err();
        assert!(error.to_string().contains("at most 1000"), "{error}");
    }
}

#[test]
fn a_thousand_awkward_meters_are_priced_in_time() {
    // No two have a common divisor to speak of, so the exact sum has tens of thousands of digits.
    let awkward = |index: usize| json!({"per": format!("7922816251426433759354.{index:04}7"), "credits": "1.2345678901234567890123456789"});
    let rule = json!({"meters": Map::from_iter((0..MAX_ENTRIES).map(|index| (index.to_string(), awkward(index))))});
    let call = Call::of("1").with(Value::Object(
        (0..MAX_ENTRIES)
            .map(|index| (index.to_string(), json!("12345678901234567.891")))
            .collect(),
    ));
    let started = std::time::Instant::now();
    assert_eq!(call.credits(&rule), "0.01");
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}
