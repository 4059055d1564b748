//! LiteLLM's model_prices_and_context_window.json: one object a model, with a field for each price.
//!
//! A field's name says it all: `input_cost_per_token_above_200k_tokens_batches` is what an input
//! token costs in a batch when there are more than 200,000 of them. The last word is the service tier;
//! such prices become variants. A price field that is not understood makes the units that it may touch
//! unclear: a call that uses one of them has no cost.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};

use super::rates::{Rates, number};
use super::{Import, ImportedModel, ReadResult, at, expected, list, name, object, text};
use crate::ledger::interrupt::checked;
use crate::ledger::number::plain;

/// The digits that the file's floats are good for.
const DIGITS: usize = 15;

/// Prices by their fields, each for one of the unit.
#[rustfmt::skip]
const PRICES: [(&str, &str); 52] = [
    ("input_cost_per_token", "input_tokens"),
    ("output_cost_per_token", "output_tokens"),
    ("cache_read_input_token_cost", "cache_read_tokens"),
    ("input_cost_per_token_cache_hit", "cache_read_tokens"),
    ("cache_creation_input_token_cost", "cache_write_tokens"),
    ("cache_creation_input_token_cost_above_1hr", "cache_write_1h_tokens"),
    ("cache_creation_input_token_cost_above_12hr", "cache_write_12h_tokens"),
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
    ("ocr_cost_per_credit", "credits"),
    ("code_interpreter_cost_per_session", "sessions"),
    ("search_queries_cost_per_query", "search_queries"),
    ("annotation_cost_per_page", "annotated_pages"),
];

/// Prices by the size of what a search brings back; the middle one is that of a search of which
/// nothing is said.
const SEARCH: &str = "search_context_cost_per_query";
const SEARCH_PREFIX: &str = "search_context_size_";

/// Service tiers that any price may be of. A price of tokens may be of any other, too.
const SERVICES: [&str; 6] = [
    "batches",
    "priority",
    "flex",
    "fast",
    "ultrafast",
    "balanced",
];
const BATCH: &str = "batch";

/// Prices of tokens are multiplied by these where the request was served there. `*` is any place but
/// the usual one.
const MULTIPLIERS: [(&str, &str, &str); 4] = [
    (
        "regional_processing_uplift_multiplier_eu",
        "data_residency",
        "eu",
    ),
    (
        "regional_processing_uplift_multiplier_us",
        "data_residency",
        "us",
    ),
    ("fedramp_uplift_multiplier", "data_residency", "fedramp"),
    (
        "regional_endpoint_uplift_multiplier",
        "vertex_location",
        "*",
    ),
];

/// What a vendor's own entry may hold that says nothing about a price.
const NO_ENTRIES: [&str; 7] = [
    "realtime_ga_only",
    "transcription_json_or_text_only",
    "transcription_usage_duration",
    "dashscope_video_reference_input",
    "volcengine_video_frames",
    "bedrock_invocation_schema",
    "fallback_model",
];

/// Fields that say nothing about a price. DBU are the currency of a vendor who has dollars beside it.
#[rustfmt::skip]
const NO_PRICES: [&str; 42] = [
    "litellm_provider", "mode", "source", "metadata", "comment", "max_tokens", "max_input_tokens",
    "max_output_tokens", "max_query_tokens", "max_document_chunks_per_query", "max_tokens_per_document_chunk",
    "max_audio_length_hours", "max_audio_per_prompt", "max_images_per_prompt", "max_pdf_size_mb",
    "max_video_length", "max_videos_per_prompt", "output_vector_size", "deprecation_date", "deprecation_source",
    "successor_model", "rpm", "tpm", "rpd", "prompt_cache_min_tokens", "input_dbu_cost_per_token",
    "output_dbu_cost_per_token", "search_free_requests", "web_search_billing_unit", "default_reasoning_effort",
    "audio_transcription_config", "gemini_audio_only_live", "gemini_native_audio", "uses_embed_content",
    "use_openai_responses_path", "vertex_ai_audio_api", "thinking_always_on", "thinking_on_by_default",
    "bedrock_output_config_effort_ceiling", "bedrock_converse_supports_strict_tools", "rules", "alias_of",
];
const NO_PRICE_PREFIXES: [&str; 4] = ["supports_", "supported_", "reasoning_", "token_count_"];

/// A field with one of these in its name is a price.
const OF_PRICES: [&str; 7] = [
    "cost",
    "pric",
    "multiplier",
    "uplift",
    "surcharge",
    "discount",
    "fee_",
];

/// Input tokens that a cache has to do with.
const CACHED: [&str; 4] = [
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "cache_write_12h_tokens",
];

/// A vendor who charges a tier's price from its threshold on, not above it.
const INCLUSIVE: &str = "xai";

/// An alias of an alias is followed so far.
const MAX_ALIASES: usize = 8;

/// The prices of one service: unit by unit the price and the tiers above it.
type Table = BTreeMap<String, (Option<Decimal>, BTreeMap<i64, Decimal>)>;

pub fn read(file: &Json) -> ReadResult<Import> {
    let mut import = Import::default();
    let file = object(file, "rates")?;
    for (model, own) in checked(file) {
        // It explains the fields.
        if model == "sample_spec" {
            continue;
        }
        let own = object(own, &format!("model {model}"))?;
        let fields = aliased(file, own);
        let Some(vendor) = fields.get("litellm_provider") else {
            // No model: the file keeps other things among them, too.
            let field = if own.contains_key("alias_of") {
                "alias_of"
            } else {
                model
            };
            import.unrecognised(field);
            import.skipped += 1;
            continue;
        };
        let named = |why: String| {
            let vendor = vendor.as_str().unwrap_or("?");
            format!("provider {vendor}: model {model}: {why}")
        };
        let vendor = name(Some(vendor), "litellm_provider").map_err(named)?;
        let model = name(Some(&json!(model)), "name").map_err(named)?.to_owned();
        match Model::read(vendor, fields, &mut import).map_err(named)? {
            None => import.skipped += 1,
            Some(rates) => {
                Rates::read(&rates).map_err(named)?;
                import.models.push(ImportedModel {
                    vendor: vendor.to_owned(),
                    model,
                    rates,
                });
            }
        }
    }
    Ok(import)
}

/// The fields of a model, or of the one that it is another name of.
fn aliased<'a>(file: &'a Map<String, Json>, own: &'a Map<String, Json>) -> &'a Map<String, Json> {
    let mut fields = own;
    for _ in 0..MAX_ALIASES {
        let alias = fields.get("alias_of").and_then(Json::as_str);
        match alias.and_then(|alias| file.get(alias)?.as_object()) {
            Some(meant) => fields = meant,
            None => break,
        }
    }
    fields
}

/// A model's prices as they are collected from its fields.
#[derive(Default)]
struct Model {
    standard: Table,
    services: BTreeMap<String, Table>,
    /// Other variants: how the request is served, and the unit's price.
    others: Vec<Json>,
    multipliers: Vec<Json>,
    /// Prices at certain hours, as constraints and tables.
    hours: Vec<(Map<String, Json>, Table)>,
    /// Units whose price depends on a field that is not understood.
    unclear: BTreeMap<String, String>,
    /// Above a threshold, or from it on.
    is_inclusive: bool,
}

impl Model {
    /// A model's rates in the stored form; `None` where it has no price.
    fn read(
        vendor: &str,
        fields: &Map<String, Json>,
        import: &mut Import,
    ) -> ReadResult<Option<Json>> {
        let mut model = Model {
            is_inclusive: vendor == INCLUSIVE,
            ..Model::default()
        };
        for (field, value) in checked(fields) {
            if !value.is_null() && !is_no_price(field) {
                model.read_field(field, value, import)?;
            }
        }
        // These stand instead of others, whatever the order of the fields.
        if let Some(tiers) = fields.get("tiered_pricing") {
            model.read_tiers(tiers, import)?;
        }
        if let Some(hours) = fields.get("off_peak_pricing") {
            model.read_hours(hours, import)?;
        }
        model.complete();
        Ok(model.stored())
    }

    fn read_field(&mut self, field: &str, value: &Json, import: &mut Import) -> ReadResult<()> {
        if let Some(meant) = meaning(field) {
            let price = read_price(value, field)?;
            let table = match &meant.service {
                None => &mut self.standard,
                Some(service) => self.services.entry(service.clone()).or_default(),
            };
            let (base, tiers) = table.entry(meant.unit.to_owned()).or_default();
            match meant.above {
                Some(above) => {
                    tiers.insert(above - i64::from(self.is_inclusive), price);
                }
                // Of two fields for the same unit the one that is first in the list above counts.
                None if base.is_none() || meant.is_first => *base = Some(price),
                None => {}
            }
            return Ok(());
        }
        let multiplier = MULTIPLIERS.iter().find(|(name, ..)| *name == field);
        match (field, multiplier) {
            (_, Some((_, key, place))) => {
                let times = read_price(value, field)?;
                self.multiply(key, place, times);
            }
            (SEARCH, _) => self.read_search(value, import)?,
            ("tiered_pricing" | "off_peak_pricing", _) => {}
            ("provider_specific_entry", _) => self.read_entry(value, import)?,
            ("guardrail_cost_per_unit", _) => {
                for (unit, price) in object(value, field)? {
                    let price = read_price(price, &format!("{field}.{unit}"))?;
                    self.standard.entry(unit.clone()).or_default().0 = Some(price);
                }
            }
            ("explicit_cache_read_input_token_cost", _) => {
                let price = read_price(value, field)?;
                let units = json!({"cache_read_tokens": {"price": plain(price), "per": 1}});
                self.others
                    .push(json!({"when": {"cache_type": "ephemeral"}, "units": units}));
            }
            _ => {
                import.unrecognised(field);
                if OF_PRICES.iter().any(|part| field.contains(part)) {
                    self.doubt(field);
                }
            }
        }
        Ok(())
    }

    /// Nothing is known of the price of the units that a field may touch.
    fn doubt(&mut self, field: &str) {
        let mut units: Vec<&str> = Vec::new();
        match longest(field) {
            Some((_, unit)) => units.push(unit),
            None if field.contains("search") || field.contains("query") => units.extend([
                "search_queries_low",
                "search_queries_medium",
                "search_queries_high",
                "web_searches",
                "queries",
            ]),
            None if field.starts_with("input") || field.starts_with("cache") => {
                units.push("input_tokens");
            }
            None if field.starts_with("output") => units.push("output_tokens"),
            None => units.push("*"),
        }
        for unit in units {
            self.unclear.insert(unit.to_owned(), field.to_owned());
        }
    }

    fn multiply(&mut self, key: &str, value: &str, times: Decimal) {
        let multiplier = json!({"when": {key: value}, "times": plain(times)});
        self.multipliers.push(multiplier);
    }

    /// `{"us": 1.1, "fast": 2}`: by what the price of tokens is multiplied in a place, or at a speed.
    fn read_entry(&mut self, entry: &Json, import: &mut Import) -> ReadResult<()> {
        for (key, value) in object(entry, "provider_specific_entry")? {
            let place = format!("provider_specific_entry.{key}");
            let is_place = key.len() == 2 && key.bytes().all(|byte| byte.is_ascii_lowercase());
            if key == "fast" || is_place {
                let of = if is_place { "inference_geo" } else { "speed" };
                let times = read_price(value, &place)?;
                self.multiply(of, key, times);
            } else if key == "minimax_free_input_images" {
                // So many images of a call cost nothing: which, only the vendor knows.
                self.unclear
                    .insert("input_images".to_owned(), place.clone());
                import.unrecognised(place);
            } else if !NO_ENTRIES.contains(&key.as_str()) {
                import.unrecognised(place.clone());
                if value.is_number() {
                    self.unclear.insert("*".to_owned(), place);
                }
            }
        }
        Ok(())
    }

    fn read_search(&mut self, value: &Json, import: &mut Import) -> ReadResult<()> {
        if value.is_number() {
            let price = read_price(value, SEARCH)?;
            self.standard
                .entry("web_searches".to_owned())
                .or_default()
                .0 = Some(price);
            return Ok(());
        }
        for (size, price) in object(value, SEARCH)? {
            let place = format!("{SEARCH}.{size}");
            match size.strip_prefix(SEARCH_PREFIX) {
                Some(size @ ("low" | "medium" | "high")) => {
                    let price = read_price(price, &place)?;
                    let unit = format!("search_queries_{size}");
                    self.standard.entry(unit).or_default().0 = Some(price);
                    if size == "medium" {
                        self.standard
                            .entry("web_searches".to_owned())
                            .or_default()
                            .0 = Some(price);
                    }
                }
                _ => import.unrecognised(place),
            }
        }
        Ok(())
    }

    /// `tiered_pricing`: the input tokens in all choose the one whose prices count for the whole call.
    fn read_tiers(&mut self, tiers: &Json, import: &mut Import) -> ReadResult<()> {
        let place = "tiered_pricing";
        let mut read: Vec<(i64, BTreeMap<&str, Decimal>)> = Vec::new();
        for tier in checked(list(tiers, place)?) {
            let tier = object(tier, place)?;
            let prices = self.read_prices(tier, place, &["range"], import)?;
            let range = tier.get("range").and_then(Json::as_array);
            match range.and_then(|range| range.first()) {
                Some(start) if prices.contains_key("input_tokens") => {
                    let start = number(start, &format!("{place}.range"))?;
                    let start = i64::try_from(
                        start.trunc().mantissa() / 10_i128.pow(start.trunc().scale()),
                    );
                    let start = start.map_err(|_| at(place, "a range is too large"))?;
                    read.push((start, prices));
                }
                // By something that is no input token: no count tells it.
                _ => {
                    import.unrecognised(place);
                    for unit in prices.keys() {
                        self.unclear.insert((*unit).to_owned(), place.to_owned());
                    }
                }
            }
        }
        read.sort_by_key(|(start, _)| *start);
        let units: BTreeSet<&str> = read
            .iter()
            .flat_map(|(_, prices)| prices.keys().copied())
            .collect();
        if units.is_empty() {
            return Ok(());
        }
        let mut replaced = vec!["input_tokens"];
        replaced.extend(CACHED);
        if units.contains("output_tokens") {
            replaced.extend(["output_tokens", "output_reasoning_tokens"]);
        }
        for unit in replaced {
            self.standard.remove(unit);
        }
        for unit in units {
            let mut base = None;
            let mut above = BTreeMap::new();
            for (start, prices) in &read {
                // What a tier does not say costs there what it is a part of.
                let around: &[&str] = match unit {
                    "cache_write_1h_tokens" | "cache_write_12h_tokens" => {
                        &["cache_write_tokens", "input_tokens"]
                    }
                    "cache_read_tokens" | "cache_write_tokens" => &["input_tokens"],
                    "output_reasoning_tokens" => &["output_tokens"],
                    _ => &[],
                };
                let mut names = std::iter::once(&unit).chain(around);
                let Some(price) = names.find_map(|name| prices.get(name)) else {
                    self.unclear.insert(unit.to_owned(), place.to_owned());
                    continue;
                };
                if base.is_none() {
                    base = Some(*price);
                } else {
                    above.insert(*start, *price);
                }
            }
            self.standard.insert(unit.to_owned(), (base, above));
        }
        Ok(())
    }

    /// The prices in a part of a model, by unit.
    fn read_prices<'a>(
        &mut self,
        fields: &'a Map<String, Json>,
        place: &str,
        others: &[&str],
        import: &mut Import,
    ) -> ReadResult<BTreeMap<&'a str, Decimal>> {
        let mut prices = BTreeMap::new();
        for (field, value) in fields {
            match meaning(field) {
                Some(meant) if meant.above.is_none() && meant.service.is_none() => {
                    prices.insert(meant.unit, read_price(value, &format!("{place}.{field}"))?);
                }
                _ if others.contains(&field.as_str()) || field.ends_with("_range") => {}
                _ => {
                    import.unrecognised(format!("{place}.{field}"));
                    self.doubt(field);
                }
            }
        }
        Ok(prices)
    }

    /// `off_peak_pricing`: the prices at certain hours (UTC) of certain days.
    fn read_hours(&mut self, hours: &Json, import: &mut Import) -> ReadResult<()> {
        let place = "off_peak_pricing";
        let fields = object(hours, place)?;
        let known = ["windows", "hours_utc", "weekday_timezone"];
        let prices = self.read_prices(fields, place, &known, import)?;
        let mut table = Table::new();
        for (unit, price) in prices {
            table.insert(unit.to_owned(), (Some(price), BTreeMap::new()));
        }
        let windows = match fields.get("windows") {
            None => &[][..],
            Some(windows) => list(windows, place)?,
        };
        let daily = fields
            .get("hours_utc")
            .map(|hours| json!({"hours_utc": hours}));
        for window in checked(daily.iter().chain(windows)) {
            let window = object(window, place)?;
            let mut days = Map::new();
            if let Some(weekdays) = window.get("weekdays") {
                let weekdays = list(weekdays, place)?.iter().map(weekday);
                days.insert(
                    "weekdays".into(),
                    Json::Array(weekdays.collect::<ReadResult<_>>()?),
                );
                if let Some(timezone) = fields.get("weekday_timezone") {
                    days.insert("timezone".into(), json!(text(timezone, place)?));
                }
            }
            let hours = match window.get("hours_utc") {
                Some(Json::Array(hours)) => hours.as_slice(),
                Some(one) => std::slice::from_ref(one),
                None => return Err(at(place, "a window has no hours_utc")),
            };
            for hours in hours {
                let hours = text(hours, place)?;
                let (start, end) = hours
                    .split_once('-')
                    .ok_or_else(|| at(place, "hours are like 16:30-00:30"))?;
                let mut when = days.clone();
                if start.trim() != end.trim() {
                    when.insert("start_time".into(), json!(format!("{}:00Z", start.trim())));
                    when.insert("end_time".into(), json!(format!("{}:00Z", end.trim())));
                }
                self.hours.push((when, table.clone()));
            }
        }
        Ok(())
    }

    /// What follows from other prices.
    fn complete(&mut self) {
        let base = |table: &Table, unit: &str| table.get(unit).and_then(|(base, _)| *base);
        // A model that makes images counts them as its output.
        let output = base(&self.standard, "output_tokens");
        if output.is_none_or(|price| price.is_zero())
            && let Some(image) = self.standard.get("output_image_tokens").cloned()
        {
            self.standard.insert("output_tokens".to_owned(), image);
        }
        // Cached tokens that have a price above a tier only cost below it what other input tokens do.
        let input = base(&self.standard, "input_tokens");
        for unit in CACHED {
            let Some((own, above)) = self.standard.get_mut(unit) else {
                continue;
            };
            if own.is_some() {
                continue;
            }
            *own = input;
            for table in self.services.values_mut() {
                if let Some((Some(input), _)) = table.get("input_tokens") {
                    let like_input = (Some(*input), above.clone());
                    table.entry(unit.to_owned()).or_insert(like_input);
                }
            }
        }
        let has_reasoning = self.standard.contains_key("output_reasoning_tokens");
        for (service, table) in &mut self.services {
            // A service's output price is also that of its reasoning.
            if let (true, Some(output)) = (has_reasoning, table.get("output_tokens").cloned()) {
                table
                    .entry("output_reasoning_tokens".to_owned())
                    .or_insert(output);
            }
            for (unit, (base, tiers)) in table {
                let Some((usual, above)) = self.standard.get(unit) else {
                    continue;
                };
                *base = base.or(*usual);
                // What it has no price of its own for above a tier costs there what it always does; a
                // batch costs the same below and above.
                if service != BATCH {
                    for (start, price) in above {
                        tiers.entry(*start).or_insert(*price);
                    }
                }
            }
        }
        if let (false, Some(fast)) = (
            self.services.contains_key("fast"),
            self.services.get("priority").cloned(),
        ) {
            self.services.insert("fast".to_owned(), fast);
        }
    }

    fn stored(self) -> Option<Json> {
        let units = stored(&self.standard);
        if units.is_empty() && self.services.is_empty() && self.unclear.is_empty() {
            return None;
        }
        let mut prices = vec![json!({"units": units})];
        for (mut when, table) in self.hours {
            let mut of_hours = units.clone();
            of_hours.extend(stored(&table));
            when.insert("units".into(), Json::Object(of_hours));
            prices.push(Json::Object(when));
        }
        let services = self.services.iter();
        let mut variants: Vec<Json> = services
            .map(|(service, table)| json!({"when": {"service_tier": service}, "units": stored(table)}))
            .collect();
        variants.extend(self.others);
        let mut rates = Map::new();
        rates.insert("prices".into(), Json::Array(prices));
        if !variants.is_empty() {
            rates.insert("variants".into(), Json::Array(variants));
        }
        if !self.multipliers.is_empty() {
            rates.insert("multipliers".into(), Json::Array(self.multipliers));
        }
        if !self.unclear.is_empty() {
            rates.insert("unclear".into(), json!(self.unclear));
        }
        Some(Json::Object(rates))
    }
}

/// A day of the week as a number, 1 is Monday.
fn weekday(day: &Json) -> ReadResult<Json> {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let named = day.as_str().and_then(|name| {
        let name = name.trim().to_lowercase();
        DAYS.iter().position(|day| name.starts_with(day))
    });
    match (named, day) {
        (Some(nth), _) => Ok(json!(nth + 1)),
        (None, Json::Number(_)) => Ok(day.clone()),
        _ => Err(at("off_peak_pricing", "a day of the week is 1 to 7")),
    }
}

/// What a field prices.
#[derive(Debug, PartialEq)]
struct Meaning {
    unit: &'static str,
    /// For which service tier.
    service: Option<String>,
    /// Above how many input tokens.
    above: Option<i64>,
    /// It is the first of the fields that price this unit.
    is_first: bool,
}

fn meaning(field: &str) -> Option<Meaning> {
    let (base, unit) = longest(field)?;
    let mut rest = field.strip_prefix(base)?;
    let first = PRICES.iter().find(|(_, priced)| *priced == unit);
    let mut meaning = Meaning {
        unit,
        service: None,
        above: None,
        is_first: first.is_some_and(|(first, _)| *first == base),
    };
    while let Some(more) = rest.strip_prefix('_') {
        let tier = more
            .strip_prefix("above_")
            .and_then(|above| above.split_once("_tokens"));
        if let (Some((above, after)), None) = (tier, meaning.above) {
            meaning.above = Some(read_above(above)?);
            rest = after;
            continue;
        }
        let (word, after) = more.split_at(more.find('_').unwrap_or(more.len()));
        let may_be_any = base.contains("token") && !word.is_empty();
        let is_word =
            may_be_any && word != "above" && word.bytes().all(|byte| byte.is_ascii_lowercase());
        if meaning.service.is_some() || !(SERVICES.contains(&word) || is_word) {
            return None;
        }
        meaning.service = Some(if word == "batches" { BATCH } else { word }.to_owned());
        rest = after;
    }
    rest.is_empty().then_some(meaning)
}

/// The longest of the known prices that a field's name begins with.
fn longest(field: &str) -> Option<(&'static str, &'static str)> {
    let known = PRICES.iter().filter(|(name, _)| {
        field
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    });
    known.max_by_key(|(name, _)| name.len()).copied()
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

/// The units in the stored form.
fn stored(table: &Table) -> Map<String, Json> {
    let mut units = Map::new();
    for (unit, (base, tiers)) in table {
        // A price above a tier and none below it: the tier's is the only one known.
        let Some(base) = base.or_else(|| tiers.values().next().copied()) else {
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
        units.insert(unit.clone(), price);
    }
    units
}

/// A float as it is printed, rounded to the digits that it is good for.
fn read_price(value: &Json, place: &str) -> ReadResult<Decimal> {
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

    fn price(text: &str) -> ReadResult<String> {
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
        let meant = |field: &str| {
            let meant = meaning(field)?;
            Some((
                meant.unit,
                meant.service.unwrap_or_default(),
                meant.above.unwrap_or_default(),
            ))
        };
        for (field, unit, service, above) in [
            ("input_cost_per_token", "input_tokens", "", 0),
            (
                "output_cost_per_token_above_200k_tokens_batches",
                "output_tokens",
                "batch",
                200_000,
            ),
            (
                "cache_creation_input_token_cost_above_1hr_above_200k_tokens",
                "cache_write_1h_tokens",
                "",
                200_000,
            ),
            ("output_cost_per_token_flex", "output_tokens", "flex", 0),
            (
                "output_cost_per_token_ultrafast",
                "output_tokens",
                "ultrafast",
                0,
            ),
            ("output_cost_per_token_turbo", "output_tokens", "turbo", 0),
            (
                "input_cost_per_token_priority_above_128_tokens",
                "input_tokens",
                "priority",
                128,
            ),
            (
                "output_cost_per_image_token_batches",
                "output_image_tokens",
                "batch",
                0,
            ),
            ("input_cost_per_token_cache_hit", "cache_read_tokens", "", 0),
            ("ocr_cost_per_page_batches", "pages", "batch", 0),
        ] {
            assert_eq!(
                meant(field),
                Some((unit, service.to_owned(), above)),
                "{field}"
            );
        }
        for field in [
            "output_cost_per_token_above_-1k_tokens",
            "output_cost_per_image_premium",
            "input_cost_per_token_batch_requests",
            "input_cost_per_video_per_second_above_15s_interval",
            "output_cost_per_galaxy",
        ] {
            assert_eq!(meant(field), None, "{field}");
        }
    }

    fn rates(fields: Json) -> (Json, Vec<String>) {
        let import = read(&json!({"m": fields})).unwrap();
        let rates = import
            .models
            .first()
            .map_or(Json::Null, |model| model.rates.clone());
        (rates, import.unrecognised.into_keys().collect())
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
                        "search_context_cost_per_query": {"search_context_size_low": 0.01, "x": 1}, "tiered_pricing": []},
                "huge": {"alias_of": "large"}, "large": {"alias_of": "big"}, "lost": {"alias_of": "nobody"}}"#,
        )
        .unwrap();
        let import = read(&file).unwrap();
        assert_eq!(import.skipped, 3);
        let unrecognised: Vec<_> = import.unrecognised.keys().collect();
        assert_eq!(
            unrecognised,
            ["alias_of", "fallback", "search_context_cost_per_query.x"]
        );
        let names: Vec<_> = import
            .models
            .iter()
            .map(|model| (model.vendor.as_str(), model.model.as_str()))
            .collect();
        assert_eq!(
            names,
            [("acme", "big"), ("acme", "huge"), ("acme", "large")]
        );
        assert_eq!(
            import.models[0].rates,
            json!({"prices": [{"units": {
                    "input_tokens": {"price": "0.000001", "per": 1,
                                     "tiers": [{"above": "200000", "price": "0.000002"}]},
                    "search_queries_low": {"price": "0.01", "per": 1}}}],
                "variants": [
                    {"when": {"service_tier": "batch"}, "units": {"input_tokens": {"price": "0.0000005", "per": 1}}},
                    {"when": {"service_tier": "fast"}, "units": {"output_tokens": {"price": "0.000003", "per": 1}}},
                    {"when": {"service_tier": "priority"}, "units": {"output_tokens": {"price": "0.000003", "per": 1}}}]})
        );
        assert_eq!(import.models[0].rates, import.models[1].rates);
    }

    #[test]
    fn tiers_hours_and_places_are_read() {
        let (read, unrecognised) = rates(
            json!({"litellm_provider": "acme", "input_cost_per_token": 9, "cache_read_input_token_cost": 8,
            "tiered_pricing": [{"range": [32000.0, 128000.0], "input_cost_per_token": 2, "output_cost_per_token": 4},
                               {"range": [0, 32000.0], "input_cost_per_token": 1, "output_cost_per_token": 3, "cache_read_input_token_cost": 0.5}],
            "provider_specific_entry": {"us": 1.1, "fast": 2.0, "realtime_ga_only": 1}}),
        );
        assert!(unrecognised.is_empty());
        assert_eq!(
            read,
            json!({
            "prices": [{"units": {
                "input_tokens": {"price": "1", "per": 1, "tiers": [{"above": "32000", "price": "2"}]},
                "output_tokens": {"price": "3", "per": 1, "tiers": [{"above": "32000", "price": "4"}]},
                "cache_read_tokens": {"price": "0.5", "per": 1, "tiers": [{"above": "32000", "price": "2"}]}}}],
            "multipliers": [{"when": {"speed": "fast"}, "times": "2"}, {"when": {"inference_geo": "us"}, "times": "1.1"}]})
        );
        let (read, _) = rates(
            json!({"litellm_provider": "acme", "input_cost_per_token": 2, "output_cost_per_token": 4,
            "off_peak_pricing": {"input_cost_per_token": 1, "weekday_timezone": "Asia/Shanghai", "windows": [
                {"hours_utc": ["10:00-00:00"], "weekdays": [1, "tue"]}, {"hours_utc": "00:00-00:00", "weekdays": [6, 7]}]}}),
        );
        let units = json!({"input_tokens": {"price": "1", "per": 1}, "output_tokens": {"price": "4", "per": 1}});
        assert_eq!(
            read["prices"][1],
            json!({"weekdays": [1, 2], "timezone": "Asia/Shanghai",
            "start_time": "10:00:00Z", "end_time": "00:00:00Z", "units": units})
        );
        assert_eq!(
            read["prices"][2],
            json!({"weekdays": [6, 7], "timezone": "Asia/Shanghai", "units": units})
        );
    }

    #[test]
    fn what_is_not_understood_makes_unclear_what_it_may_touch() {
        for (field, unit) in [
            ("input_cost_per_token_batch_requests", "input_tokens"),
            ("output_cost_per_galaxy", "output_tokens"),
            (
                "input_cost_per_video_per_second_above_15s_interval",
                "input_video_seconds",
            ),
            ("cost_of_everything", "*"),
        ] {
            let (read, unrecognised) =
                rates(json!({"litellm_provider": "acme", "input_cost_per_token": 1, field: 2}));
            assert_eq!(
                (read["unclear"].clone(), unrecognised),
                (json!({unit: field}), vec![field.to_owned()])
            );
        }
        let (read, unrecognised) =
            rates(json!({"litellm_provider": "acme", "input_cost_per_token": 1, "colour": 2}));
        assert_eq!(
            (read["unclear"].clone(), unrecognised),
            (Json::Null, vec!["colour".to_owned()])
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
