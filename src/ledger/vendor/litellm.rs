//! LiteLLM's model_prices_and_context_window.json: one object a model, with a field for each price.
//!
//! A field's name says it all: `input_cost_per_token_above_200k_tokens_batches` is what an input
//! token costs in a batch when there are more than 200,000 of them. Batch, priority and flex prices
//! become variants, chosen by `{"service_tier": "batch"}` and so on in the context of a request. A
//! service without tiers of its own has none.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};

use super::rates::{Rates, number};
use super::{Found, Import, ModelRead, at, expected, name, object};
use crate::ledger::interrupt::checked;
use crate::ledger::number::plain;

/// The digits that the file's floats are good for.
const DIGITS: usize = 15;

/// Prices by their fields, each for one of the unit.
#[rustfmt::skip]
const PRICES: [(&str, &str); 48] = [
    ("input_cost_per_token", "input_tokens"),
    ("output_cost_per_token", "output_tokens"),
    ("cache_read_input_token_cost", "cache_read_tokens"),
    ("input_cost_per_token_cache_hit", "cache_read_tokens"),
    ("cache_creation_input_token_cost", "cache_write_tokens"),
    ("cache_creation_input_token_cost_above_1hr", "cache_write_1h_tokens"),
    ("output_cost_per_reasoning_token", "output_reasoning_tokens"),
    ("citation_cost_per_token", "output_citation_tokens"),
    ("input_cost_per_audio_token", "input_audio_tokens"),
    ("output_cost_per_audio_token", "output_audio_tokens"),
    ("cache_read_input_audio_token_cost", "cache_audio_read_tokens"),
    ("cache_creation_input_audio_token_cost", "cache_audio_write_tokens"),
    ("input_cost_per_image_token", "input_image_tokens"),
    ("output_cost_per_image_token", "output_image_tokens"),
    ("cache_read_input_image_token_cost", "cache_image_read_tokens"),
    ("input_cost_per_video_token", "input_video_tokens"),
    ("output_cost_per_video_token", "output_video_tokens"),
    ("input_cost_per_character", "input_characters"),
    ("output_cost_per_character", "output_characters"),
    ("cost_per_second", "seconds"),
    ("input_cost_per_second", "input_seconds"),
    ("output_cost_per_second", "output_seconds"),
    ("output_cost_per_second_480p", "output_seconds_480p"),
    ("output_cost_per_second_720p", "output_seconds_720p"),
    ("output_cost_per_second_768p", "output_seconds_768p"),
    ("output_cost_per_second_1080p", "output_seconds_1080p"),
    ("output_cost_per_second_2k", "output_seconds_2k"),
    ("output_cost_per_second_4k", "output_seconds_4k"),
    ("input_cost_per_audio_per_second", "input_audio_seconds"),
    ("input_cost_per_video_per_second", "input_video_seconds"),
    ("output_cost_per_video_per_second", "output_video_seconds"),
    ("input_cost_per_image", "input_images"),
    ("output_cost_per_image", "output_images"),
    ("output_cost_per_image_512", "output_images_512"),
    ("output_cost_per_image_1024", "output_images_1024"),
    ("output_cost_per_image_1536", "output_images_1536"),
    ("output_cost_per_image_0.5K", "output_images_0.5k"),
    ("output_cost_per_image_1K", "output_images_1k"),
    ("output_cost_per_image_2K", "output_images_2k"),
    ("output_cost_per_image_4K", "output_images_4k"),
    ("input_cost_per_text_message", "input_text_messages"),
    ("input_cost_per_pixel", "input_pixels"),
    ("output_cost_per_pixel", "output_pixels"),
    ("input_cost_per_query", "queries"),
    ("input_cost_per_request", "requests"),
    ("google_maps_grounding_cost_per_query", "maps_queries"),
    ("ocr_cost_per_page", "pages"),
    ("annotation_cost_per_page", "annotated_pages"),
];

/// Prices by the size of what a search brings back.
const SEARCH: &str = "search_context_cost_per_query";
const SEARCH_PREFIX: &str = "search_context_size_";

/// How a request is served, by the end of a field's name.
const SERVICES: [(&str, &str); 3] = [
    ("_batches", "batch"),
    ("_priority", "priority"),
    ("_flex", "flex"),
];

/// How the context of a request says it. A batch is also called that in genai-prices files.
const CONTEXTS: [(&str, &str); 4] = [
    ("service_tier", "batch"),
    ("processing", "batch"),
    ("service_tier", "priority"),
    ("service_tier", "flex"),
];

/// Fields that say nothing about a price.
#[rustfmt::skip]
const NO_PRICES: [&str; 24] = [
    "litellm_provider", "mode", "source", "metadata", "comment", "max_tokens", "max_input_tokens",
    "max_output_tokens", "max_query_tokens", "max_document_chunks_per_query", "max_tokens_per_document_chunk",
    "max_audio_length_hours", "max_audio_per_prompt", "max_images_per_prompt", "max_pdf_size_mb",
    "max_video_length", "max_videos_per_prompt", "output_vector_size", "deprecation_date", "rpm", "tpm", "rpd",
    "prompt_cache_min_tokens", "provider_specific_entry",
];
const NO_PRICE_PREFIXES: [&str; 4] = ["supports_", "supported_", "reasoning_", "token_count_"];

/// The prices of one service: unit by unit the price and the tiers above it.
type Table = BTreeMap<&'static str, (Option<Decimal>, BTreeMap<i64, Decimal>)>;

pub fn read(file: &Json) -> Found<Import> {
    let mut import = Import::default();
    for (model, fields) in checked(object(file, "rates")?) {
        // It explains the fields.
        if model == "sample_spec" {
            continue;
        }
        let fields = object(fields, &format!("model {model}"))?;
        let Some(vendor) = fields.get("litellm_provider") else {
            // No model: the file keeps other things among them, too.
            import.unrecognised(model.as_str());
            import.skipped += 1;
            continue;
        };
        let named = |why: String| {
            let vendor = vendor.as_str().unwrap_or("?");
            format!("provider {vendor}: model {model}: {why}")
        };
        let vendor = name(Some(vendor), "litellm_provider").map_err(named)?;
        let model = name(Some(&json!(model)), "name").map_err(named)?.to_owned();
        match read_rates(fields, &mut import).map_err(named)? {
            None => import.skipped += 1,
            Some(rates) => {
                Rates::read(&rates).map_err(named)?;
                import.models.push(ModelRead {
                    vendor: vendor.to_owned(),
                    model,
                    rates,
                });
            }
        }
    }
    Ok(import)
}

/// A model's rates in the stored form; `None` where it has no price.
fn read_rates(fields: &Map<String, Json>, import: &mut Import) -> Found<Option<Json>> {
    let mut standard = Table::new();
    let mut services: BTreeMap<&'static str, Table> = BTreeMap::new();
    let mut search = Map::new();
    for (field, value) in fields {
        if value.is_null() || is_no_price(field) {
            continue;
        }
        if field == SEARCH {
            read_search(value, &mut search, import)?;
            continue;
        }
        let Some((unit, service, above)) = meaning(field) else {
            import.unrecognised(field.as_str());
            continue;
        };
        let price = read_price(value, field)?;
        let table = match service {
            None => &mut standard,
            Some(service) => services.entry(service).or_default(),
        };
        let (base, tiers) = table.entry(unit).or_default();
        match above {
            Some(above) => {
                tiers.insert(above, price);
            }
            // Of two fields for the same unit the one that is first in the list above counts.
            None if base.is_none() || is_first(field, unit) => *base = Some(price),
            None => {}
        }
    }
    let mut units = stored(&standard, &Table::new());
    units.extend(search);
    if units.is_empty() && services.is_empty() {
        return Ok(None);
    }
    let mut rates = Map::new();
    rates.insert("prices".into(), json!([{"units": units}]));
    let variants: Vec<Json> = CONTEXTS
        .iter()
        .filter_map(|(key, service)| {
            let units = stored(services.get(service)?, &standard);
            Some(json!({"when": {*key: service}, "units": units}))
        })
        .collect();
    if !variants.is_empty() {
        rates.insert("variants".into(), Json::Array(variants));
    }
    Ok(Some(Json::Object(rates)))
}

/// Is it, but for its service, the first of the fields that price this unit?
fn is_first(field: &str, unit: &str) -> bool {
    let first = PRICES.iter().find(|(_, priced)| *priced == unit);
    first.is_some_and(|(first, _)| without_service(field).0 == *first)
}

/// The unit that a field prices, for which service, and above how many input tokens.
fn meaning(field: &str) -> Option<(&'static str, Option<&'static str>, Option<i64>)> {
    let (rest, service) = without_service(field);
    let tier = rest.strip_suffix("_tokens");
    let tier = tier.and_then(|rest| rest.rsplit_once("_above_"));
    let (rest, above) = match tier {
        Some((rest, above)) => (rest, Some(read_above(above)?)),
        None => (rest, None),
    };
    // The service may also stand before the tier.
    let (rest, service) = match service {
        Some(_) => (rest, service),
        None => without_service(rest),
    };
    let (_, unit) = PRICES.iter().find(|(name, _)| *name == rest)?;
    Some((unit, service, above))
}

fn without_service(field: &str) -> (&str, Option<&'static str>) {
    let mut found = SERVICES
        .iter()
        .filter_map(|(end, service)| Some((field.strip_suffix(end)?, Some(*service))));
    found.next().unwrap_or((field, None))
}

/// `200k` or `200`.
fn read_above(above: &str) -> Option<i64> {
    let (number, times) = match above.strip_suffix('k') {
        Some(thousands) => (thousands, 1000),
        None => (above, 1),
    };
    Some(i64::from(number.parse::<u32>().ok()?) * times)
}

fn is_no_price(field: &str) -> bool {
    NO_PRICES.contains(&field)
        || NO_PRICE_PREFIXES
            .iter()
            .any(|start| field.starts_with(start))
}

fn read_search(value: &Json, units: &mut Map<String, Json>, import: &mut Import) -> Found<()> {
    for (size, price) in object(value, SEARCH)? {
        let place = format!("{SEARCH}.{size}");
        match size.strip_prefix(SEARCH_PREFIX) {
            Some(size @ ("low" | "medium" | "high")) => {
                let price = read_price(price, &place)?;
                units.insert(
                    format!("search_queries_{size}"),
                    json!({"price": plain(price), "per": 1}),
                );
            }
            _ => import.unrecognised(place),
        }
    }
    Ok(())
}

/// The units in the stored form. What a service has no price of its own for below a tier costs there
/// what it always costs.
fn stored(table: &Table, standard: &Table) -> Map<String, Json> {
    let mut units = Map::new();
    for (unit, (base, tiers)) in table {
        let usual = || standard.get(unit).and_then(|(base, _)| *base);
        let Some(base) = base.or_else(usual) else {
            // A price above a tier and none below it: the tier's is the only one known.
            if let Some(price) = tiers.values().next() {
                units.insert((*unit).into(), json!({"price": plain(*price), "per": 1}));
            }
            continue;
        };
        let mut price = json!({"price": plain(base), "per": 1});
        if !tiers.is_empty()
            && let Json::Object(price) = &mut price
        {
            let tiers = tiers.iter();
            let tiers = tiers
                .map(|(above, price)| json!({"above": above.to_string(), "price": plain(*price)}));
            price.insert("tiers".into(), tiers.collect());
        }
        units.insert((*unit).into(), price);
    }
    units
}

/// A float as it is printed, rounded to the digits that it is good for.
fn read_price(value: &Json, place: &str) -> Found<Decimal> {
    let Json::Number(printed) = value else {
        return Err(expected(place, "a number", value));
    };
    let rounded = to_digits(printed.as_str());
    let rounded: Json = Json::String(rounded.ok_or_else(|| at(place, "it has too many digits"))?);
    number(&rounded, place)
}

/// A number's text with no more digits than floats are good for, the last one rounded.
fn to_digits(text: &str) -> Option<String> {
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let dropped = digits.len().saturating_sub(DIGITS);
    let (kept, rest) = digits.split_at_checked(digits.len() - dropped)?;
    let mut kept: i64 = if kept.is_empty() {
        0
    } else {
        kept.parse().ok()?
    };
    if rest.starts_with(['5', '6', '7', '8', '9']) {
        kept += 1;
    }
    let exponent: i64 = exponent.parse().ok()?;
    let exponent = exponent
        .checked_sub(i64::try_from(fraction.len()).ok()?)?
        .checked_add(i64::try_from(dropped).ok()?)?;
    Some(format!("{sign}{kept}e{exponent}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(text: &str) -> Found<String> {
        let value: Json = serde_json::from_str(text).unwrap();
        read_price(&value, "field").map(plain)
    }

    #[test]
    fn floats_are_read_as_printed_to_15_digits() {
        for (printed, read) in [
            ("3e-07", "0.0000003"),
            ("1.1999999999999999e-07", "0.00000012"),
            ("2.9999999999999997e-08", "0.00000003"),
            ("4.049997e-05", "0.00004049997"),
            ("0.000000029999999999999997", "0.00000003"),
            ("1.0000000000000005", "1"),
            ("9.999999999999999e-28", "0.000000000000000000000000001"),
            ("0", "0"),
            ("0.0", "0"),
            ("123", "123"),
        ] {
            assert_eq!(price(printed), Ok(read.to_owned()), "{printed}");
        }
        for (printed, why) in [
            ("-1e-07", "field: -0.0000001 is negative"),
            ("1e400", "field: \"1e400\" has more digits"),
            ("1e12", "field: 1000000000000 is not below 1e12"),
            ("\"1e-7\"", "field: it has to be a number, not a string"),
            ("{}", "field: it has to be a number, not an object"),
            ("1e99999999999999999999", "field: it has too many digits"),
        ] {
            let error = price(printed).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
    }

    #[test]
    fn a_name_says_what_is_priced() {
        for (field, meant) in [
            ("input_cost_per_token", Some(("input_tokens", None, None))),
            (
                "output_cost_per_token_above_200k_tokens_batches",
                Some(("output_tokens", Some("batch"), Some(200_000))),
            ),
            (
                "cache_creation_input_token_cost_above_1hr_above_200k_tokens",
                Some(("cache_write_1h_tokens", None, Some(200_000))),
            ),
            (
                "output_cost_per_token_flex",
                Some(("output_tokens", Some("flex"), None)),
            ),
            (
                "input_cost_per_token_priority_above_128_tokens",
                Some(("input_tokens", Some("priority"), Some(128))),
            ),
            ("output_cost_per_token_above_-1k_tokens", None),
            ("output_cost_per_token_ultrafast", None),
            ("output_dbu_cost_per_token", None),
        ] {
            assert_eq!(meaning(field), meant, "{field}");
        }
    }

    #[test]
    fn a_model_is_read() {
        let file: Json = serde_json::from_str(
            r#"{"sample_spec": {"input_cost_per_token": "explained"},
                "fallback": {"rules": []},
                "free": {"litellm_provider": "acme", "mode": "chat"},
                "big": {"litellm_provider": "acme", "supports_vision": true, "input_cost_per_token": 1e-06,
                        "input_cost_per_token_above_200k_tokens": 2e-06,
                        "input_cost_per_token_batches": 5e-07, "output_cost_per_token_priority": 3e-06,
                        "search_context_cost_per_query": {"search_context_size_low": 0.01, "x": 1},
                        "output_cost_per_token_ultrafast": 1, "tiered_pricing": []}}"#,
        )
        .unwrap();
        let import = read(&file).unwrap();
        assert_eq!(import.skipped, 2);
        assert_eq!(
            import.unrecognised.keys().collect::<Vec<_>>(),
            [
                "fallback",
                "output_cost_per_token_ultrafast",
                "search_context_cost_per_query.x",
                "tiered_pricing"
            ]
        );
        assert_eq!(import.models.len(), 1);
        assert_eq!(
            import.models[0].rates,
            json!({"prices": [{"units": {
                    "input_tokens": {"price": "0.000001", "per": 1,
                                     "tiers": [{"above": "200000", "price": "0.000002"}]},
                    "search_queries_low": {"price": "0.01", "per": 1}}}],
                "variants": [
                    {"when": {"service_tier": "batch"}, "units": {"input_tokens": {"price": "0.0000005", "per": 1}}},
                    {"when": {"processing": "batch"}, "units": {"input_tokens": {"price": "0.0000005", "per": 1}}},
                    {"when": {"service_tier": "priority"}, "units": {"output_tokens": {"price": "0.000003", "per": 1}}}]})
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let file = json!({"m": {"litellm_provider": "acme", "input_cost_per_token": "free"}});
        assert_eq!(
            read(&file).unwrap_err(),
            "provider acme: model m: input_cost_per_token: it has to be a number, not a string"
        );
    }
}
