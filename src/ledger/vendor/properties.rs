//! No JSON, however odd, panics; what is read obeys what units promise.

use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};

use super::extract::Extractor;
use super::rates::{Rates, read_own};
use super::reading::{self, Readers, VendorResponse};
use super::terms::Terms;
use super::units::{self, KINDS, kind};
use super::usage::Counts;
use super::{Definition, genai, litellm};
use crate::ledger::Moment;
use crate::ledger::number::parse_decimal;

const AT: Moment = Moment(800_000_000_000_000);

/// Keys and texts that the formats know, among others.
fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "id",
        "models",
        "match",
        "prices",
        "extractors",
        "mappings",
        "path",
        "dest",
        "root",
        "required",
        "equals",
        "or",
        "and",
        "regex",
        "constraint",
        "start_date",
        "start_time",
        "end_time",
        "2026-01-01",
        "00:30:00Z",
        "25:00",
        "input_mtok",
        "output_mtok",
        "base",
        "tiers",
        "start",
        "price",
        "per",
        "when",
        "price_variants",
        "input_tokens",
        "cache_read_tokens",
        "requests",
        "gpu_second",
        "litellm_provider",
        "input_cost_per_token",
        "input_cost_per_token_above_200k_tokens_batches",
        "currency",
        "USD",
        "units",
        "search_context_cost_per_query",
        "search_context_size_low",
        "provider_match",
        "(",
        "type",
        "array-match",
        "field",
        "variants",
        "minimum",
        "above",
        "usage",
        "model",
        "fallback",
        "sample_spec",
    ]);
    prop_oneof![8 => known.prop_map(str::to_owned), 1 => "\\PC{0,12}", 1 => Just("\0".to_owned())]
}

fn any_json() -> impl Strategy<Value = Json> {
    let number = prop::sample::select(vec![
        "0",
        "1",
        "-1",
        "0.5",
        "200000",
        "1e12",
        "1e15",
        "1e400",
        "-0.0",
        "3e-07",
        "1e-400",
        "79228162514264337593543950336",
        "0.1999999999999999999999999999999",
    ]);
    let number = number.prop_map(|text| serde_json::from_str(text).unwrap_or(Json::Null));
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number,
        word().prop_map(Json::String),
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::vec((word(), inner), 0..5)
                .prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

/// A file that is valid, with one value in it replaced.
fn spoilt(file: Json) -> impl Strategy<Value = Json> {
    let mut places = Vec::new();
    collect(&file, String::new(), &mut places);
    (prop::sample::select(places), any_json()).prop_map(move |(place, value)| {
        let mut file = file.clone();
        if let Some(at) = file.pointer_mut(&place) {
            *at = value;
        }
        file
    })
}

fn collect(json: &Json, place: String, places: &mut Vec<String>) {
    places.push(place.clone());
    match json {
        Json::Object(fields) => fields
            .iter()
            .for_each(|(key, value)| collect(value, format!("{place}/{key}"), places)),
        Json::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(nth, value)| collect(value, format!("{place}/{nth}"), places)),
        _ => {}
    }
}

fn genai_file() -> Json {
    json!([{
        "id": "acme", "provider_match": {"or": [{"contains": "acme"}, {"regex": "^a"}]},
        "fallback_model_providers": ["other"],
        "extractors": [{"api_flavor": "default", "root": ["a", "usage"], "model_path": "model", "mappings": [
            {"path": ["list", {"type": "array-match", "field": "kind", "match": {"equals": "X"}}, "n"],
             "dest": "cache_read_tokens", "required": false},
            {"path": "in", "dest": "input_tokens", "required": true}]}],
        "models": [{"id": "m", "match": {"and": [{"starts_with": "m"}]}, "prices": [
            {"prices": {"input_mtok": {"base": 1, "tiers": [{"start": 10, "price": 2}]}, "requests_kcount": 5}},
            {"constraint": {"start_time": "16:30:00Z", "end_time": "00:30:00+02:00"}, "prices": {"input_mtok": 3}},
            {"constraint": {"start_date": "2026-01-01"}, "prices": {"output_mtok": 3}}],
            "price_variants": [{"when": {"tier": "x"}, "prices": {"input_mtok": 9}}]}]
    }])
}

fn litellm_file() -> Json {
    json!({"m": {"litellm_provider": "acme", "input_cost_per_token": 1e-06, "input_cost_per_token_above_200k_tokens": 2e-06,
                 "output_cost_per_token_batches": 2, "search_context_cost_per_query": {"search_context_size_low": 1},
                 "mode": "chat", "supports_x": true}})
}

/// How a request was served, as its caller says.
fn terms(context: &Json) -> Terms {
    Terms::of(&VendorResponse::of(&Json::Null), context)
}

/// Whatever is read of a file can be read again as it is stored, and costs something or says why not.
fn use_all(import: super::Import, usage: &Json) {
    for one in import.vendors {
        let definition = Definition::read(&one.definition).expect("the stored form");
        let _ = definition.model("m-1");
        for extractor in &definition.extractors {
            let _ = extractor.model(usage);
            let _ = extractor.read_counts(usage);
        }
    }
    for one in import.models {
        let rates = Rates::read(&one.rates).expect("the stored form");
        if let Ok(counts) = Counts::read(usage) {
            let _ = rates.cost(&counts, AT, &terms(usage));
        }
    }
}

/// Counts of which each is at most what it lies inside.
fn counts() -> impl Strategy<Value = Json> {
    (
        0..2_000_000_i64,
        0..2_000_000_i64,
        prop::array::uniform4(0..=250_000_i64),
    )
        .prop_map(|(input, output, [read, write, audio, heard])| {
            let heard = heard.min(read).min(audio);
            json!({"input_tokens": input + read + write + audio, "output_tokens": output,
                   "cache_read_tokens": read, "cache_write_tokens": write, "input_audio_tokens": audio,
                   "cache_audio_read_tokens": heard, "output_reasoning_tokens": output / 2})
        })
}

proptest! {
    #[test]
    fn no_json_panics(file in any_json(), usage in any_json()) {
        let answer = VendorResponse::of(&usage);
        let readers = Readers { all: &[], is_named: false };
        let _ = reading::read(readers, &answer, None, AT);
        let _ = (answer.model(), answer.reported_cost(), Terms::of(&answer, &file));
        let _ = Counts::read_any(&usage).disjoint(u128::MAX >> (128 - KINDS.len()));
        let _ = Extractor::read(&file, "extractor").map(|one| one.read_counts(&usage));
        let _ = Rates::read(&file);
        let _ = Definition::read(&file);
        let _ = read_own(&file).map(|(stored, _)| Rates::read(&stored).expect("the stored form"));
        if let Ok(import) = genai::read(&file) { use_all(import, &usage); }
        if let Ok(import) = litellm::read(&file) { use_all(import, &usage); }
    }

    #[test]
    fn no_spoilt_genai_file_panics(file in spoilt(genai_file()), usage in any_json()) {
        if let Ok(import) = genai::read(&file) { use_all(import, &usage); }
    }

    #[test]
    fn no_spoilt_litellm_file_panics(file in spoilt(litellm_file()), usage in any_json()) {
        if let Ok(import) = litellm::read(&file) { use_all(import, &usage); }
    }

    /// Nothing is lost and nothing is counted twice, whatever is priced apart.
    #[test]
    fn disjoint_amounts_add_up(usage in counts(), priced in any::<u128>()) {
        let counts = Counts::read(&usage).unwrap();
        let input = units::named("input_tokens").unwrap();
        let output = units::named("output_tokens").unwrap();
        for priced in [priced, priced & 0b1111, 0] {
            // With audio priced apart and cached tokens too, their overlap has to be told; it is.
            let Ok(apart) = counts.disjoint(priced) else { continue };
            for root in [input, output] {
                let sum: Decimal = apart.known.iter()
                    .filter(|(unit, _)| *unit == root || units::around(*unit) & units::bit(root) != 0)
                    .map(|(_, count)| *count)
                    .sum();
                prop_assert_eq!(sum, counts.of(root), "{}", kind(root).name);
            }
            prop_assert!(apart.known.iter().all(|(_, count)| !count.is_sign_negative() || count.is_zero()));
        }
    }

    /// The quick sum and the wide one are the same number.
    #[test]
    fn costs_are_exact(price in "[0-9]{1,9}(\\.[0-9]{1,12})?", count in 0..1_000_000_000_000_000_i64, per in prop::sample::select(vec![1_u64, 60, 1000, 3600, 1_000_000])) {
        let rates = json!({"prices": [{"units": {"thing": {"price": price, "per": per}}}]});
        let rates = Rates::read(&rates).unwrap();
        let usage: Json = serde_json::from_str(&format!("{{\"thing\": {count}}}")).unwrap();
        let costed = rates.cost(&Counts::read(&usage).unwrap(), AT, &Terms::default());
        // price x count / per by whole numbers: 10^12 times as much, rounded half to even.
        let digits = parse_decimal(&price).unwrap();
        let scaled = digits.mantissa() * 10_i128.pow(12 - digits.scale());
        let per = i128::from(per);
        let product = num_bigint::BigInt::from(scaled) * count;
        let (whole, rest) = (&product / per, &product % per);
        let up = &rest * 2 > per.into() || (&rest * 2 == per.into() && whole.bit(0));
        let wanted = whole + i32::from(up);
        match costed.unwrap().cost {
            Ok(cost) => {
                let found = num_bigint::BigInt::from(cost.mantissa()) * 10_i128.pow(12 - cost.scale());
                prop_assert_eq!(found, wanted);
            }
            Err(why) => {
                prop_assert_eq!(why.reason, super::Reason::CostTooLarge);
                prop_assert!(wanted >= num_bigint::BigInt::from(10_i128.pow(27)));
            }
        }
    }
}

#[test]
fn rates_are_applied_as_they_say() {
    let rates = Rates::read(&json!({
        "prices": [
            {"units": {"input_tokens": {"price": "1", "per": 10}, "image": {"price": "7", "minimum": "3"}}},
            {"start_date": "2025-01-01", "units": {"input_tokens": {"price": "2", "per": 10, "tiers": [
                {"above": "1000", "price": "5"}, {"above": "100", "price": "3"}]}}},
            {"start_time": "22:00:00", "end_time": "02:00:00", "units": {"input_tokens": {"price": "9", "per": 10}}}],
        "variants": [
            {"when": {"tier": "batch"}, "units": {"input_tokens": {"price": "0.5", "per": 10}}},
            {"when": {"tier": "batch"}, "units": {"input_tokens": "4", "output_tokens": "1"}}]
    }))
    .unwrap();
    let cost = |usage: Json, at: &str, context: Json| {
        let at = Moment::parse(at).unwrap();
        let costed = rates.cost(&Counts::read(&usage).unwrap(), at, &terms(&context));
        let costed = costed.unwrap();
        costed
            .cost
            .map_or_else(|why| why.says, crate::ledger::number::plain)
    };
    let none = || json!({});
    for (usage, at, context, wanted) in [
        (
            json!({"input_tokens": 100}),
            "2024-12-31T12:00:00Z",
            none(),
            "10",
        ),
        (
            json!({"input_tokens": 100}),
            "2025-01-01T12:00:00Z",
            none(),
            "20",
        ),
        (
            json!({"input_tokens": 101}),
            "2025-01-01T12:00:00Z",
            none(),
            "30.3",
        ),
        (
            json!({"input_tokens": 1001}),
            "2025-01-01T12:00:00Z",
            none(),
            "500.5",
        ),
        (
            json!({"input_tokens": 10}),
            "2025-01-01T01:59:59.999999Z",
            none(),
            "9",
        ),
        (
            json!({"input_tokens": 10}),
            "2025-01-01T02:00:00Z",
            none(),
            "2",
        ),
        (
            json!({"input_tokens": 10}),
            "2025-01-01T22:00:00Z",
            none(),
            "9",
        ),
        // Cached tokens have no price of their own: they cost what input does.
        (
            json!({"input_tokens": 10, "cache_read_tokens": 5}),
            "2025-01-01T12:00:00Z",
            none(),
            "2",
        ),
        (json!({"image": 1}), "2024-06-01T12:00:00Z", none(), "21"),
        (json!({"image": 0}), "2024-06-01T12:00:00Z", none(), "0"),
        (
            json!({"image": 1}),
            "2025-06-01T12:00:00Z",
            none(),
            "no price for image",
        ),
        (
            json!({"image": 1, "video": 2}),
            "2024-06-01T12:00:00Z",
            none(),
            "no price for video",
        ),
        // Output is free here, and no more than a note beside the input.
        (
            json!({"input_tokens": 10, "output_tokens": 5}),
            "2025-01-01T12:00:00Z",
            none(),
            "2",
        ),
        (
            json!({"output_tokens": 5}),
            "2025-01-01T12:00:00Z",
            none(),
            "no price for output_tokens",
        ),
        (
            json!({"input_tokens": 10, "output_tokens": 5}),
            "2025-01-01T12:00:00Z",
            json!({"tier": "batch"}),
            "5.5",
        ),
        (
            json!({"input_tokens": 10}),
            "2025-01-01T12:00:00Z",
            json!({"tier": "Batch"}),
            "0.5",
        ),
        (
            json!({"input_tokens": 10}),
            "2025-01-01T12:00:00Z",
            json!({"tier": 1}),
            "2",
        ),
    ] {
        assert_eq!(
            cost(usage.clone(), at, context.clone()),
            wanted,
            "{usage} {at} {context}"
        );
    }
}

#[test]
fn counts_that_cannot_be_are_refused() {
    let all = u128::MAX >> (128 - KINDS.len());
    for (usage, priced, why) in [
        (
            json!({"input_tokens": 5, "cache_read_tokens": 6}),
            0,
            "cache_read_tokens is 6, more than input_tokens, which includes it: 5",
        ),
        (
            json!({"cache_read_tokens": 6}),
            1,
            "cache_read_tokens is 6, but input_tokens, which includes it, is missing",
        ),
        (
            json!({"input_tokens": 5, "cache_read_tokens": 3, "cache_write_tokens": 3}),
            0,
            "the counts inside input_tokens come to 6, more than its 5",
        ),
        (
            json!({"output_tokens": 5, "output_audio_tokens": 6}),
            all,
            "output_audio_tokens is 6, more than output_tokens, which includes it: 5",
        ),
    ] {
        assert_eq!(
            Counts::read(&usage).unwrap().disjoint(priced).unwrap_err(),
            why
        );
    }
    // Half of it may be both audio and cached.
    let overlap = json!({"input_tokens": 6, "cache_read_tokens": 5, "input_audio_tokens": 4});
    let apart = Counts::read(&overlap).unwrap().disjoint(0b101).unwrap();
    let named = apart.named();
    assert_eq!(named.get("input_tokens"), Some(&Decimal::from(1)));
    assert_eq!(named.get("cache_read_tokens"), Some(&Decimal::from(5)));
    // Nothing is lost where the whole was not counted.
    let part = json!({"input_text_tokens": 5, "cache_read_tokens": 1});
    let named = Counts::read(&part).unwrap().disjoint(0).unwrap().named();
    assert_eq!(named.len(), 2);
    // Nobody asks how much was audio.
    let odd = json!({"output_tokens": 5, "output_audio_tokens": 6});
    let named = Counts::read(&odd).unwrap().disjoint(0).unwrap().named();
    assert_eq!(named.get("output_tokens"), Some(&Decimal::from(5)));
}

#[test]
fn own_rates_are_read_and_refused() {
    let (stored, currency) = read_own(
        &json!({"gpu_second": "0.0011", "currency": "EUR", "page": {"price": 3, "per": 1000}}),
    )
    .unwrap();
    assert_eq!(currency, "EUR");
    assert_eq!(
        stored,
        json!({"prices": [{"units": {"gpu_second": {"price": "0.0011", "per": 1}, "page": {"price": "3", "per": 1000}}}]})
    );
    for (rates, why) in [
        (
            json!(3),
            "rates: it has to be an object of units and prices, not a number",
        ),
        (json!({}), "rates: there is no unit"),
        (json!({"currency": "EUR"}), "rates: there is no unit"),
        (
            json!({"a": 1, "currency": "euro"}),
            "currency: \"euro\" is no code",
        ),
        (json!({"a": -1}), "a: -1 is negative"),
        (json!({"a": 1e13}), "a: 10000000000000 is not below 1e12"),
        (
            json!({"a": {"price": 1, "per": 0}}),
            "a.per: it has to be a whole number above 0",
        ),
        (json!({"a": {"price": 1, "for": 1}}), "a.for: a price has"),
        (
            json!({"input_mtok": 3}),
            "input_mtok: a rate names a unit: {\"input_tokens\"",
        ),
        (
            json!({"": 3}),
            "prices[0].units: a unit has between 1 and 100 bytes",
        ),
    ] {
        let error = read_own(&rates).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }
}
