//! Files of the genai-prices project: a list of providers with their extractors and models.

use std::collections::HashSet;

use serde_json::{Map, Value as Json, json};

use super::extract::Extractor;
use super::rates::{Rates, stored_price};
use super::rules::{Budget, Rule};
use super::units;
use super::{Import, ImportedModel, ImportedVendor, ReadResult, at, list, name, object, text};
use crate::ledger::interrupt::checked;

/// Fields that say nothing about a price or how to find it.
const OF_PROVIDER: [&str; 11] = [
    "id",
    "name",
    "api_pattern",
    "pricing_urls",
    "description",
    "price_comments",
    "model_match",
    "provider_match",
    "extractors",
    "fallback_model_providers",
    "models",
];
const OF_MODEL: [&str; 9] = [
    "id",
    "name",
    "description",
    "match",
    "context_window",
    "price_comments",
    "deprecated",
    "prices",
    "price_variants",
];

/// What the project knows of some vendors' bills in its program instead of in its files: a request
/// is billed for at least a number of a unit.
const MINIMUMS: [(&str, &str, &str, u32); 4] = [
    ("groq", "whisper-large-v3", "audio_seconds", 10),
    ("groq", "whisper-large-v3", "input_audio_seconds", 10),
    ("groq", "whisper-large-v3-turbo", "audio_seconds", 10),
    ("groq", "whisper-large-v3-turbo", "input_audio_seconds", 10),
];

pub fn read(file: &Json) -> ReadResult<Import> {
    let mut import = Import::default();
    let mut vendors = HashSet::new();
    let mut budget = Budget::default();
    for (position, provider) in checked(list(file, "rates")?).enumerate() {
        let place = format!("provider {position}");
        let provider = object(provider, &place)?;
        let vendor = name(provider.get("id"), &format!("{place}: id"))?;
        if !vendors.insert(vendor) {
            return Err(at(&format!("provider {vendor}: id"), "it occurs twice"));
        }
        budget.next_vendor();
        read_provider(vendor, position, provider, &mut budget, &mut import)
            .map_err(|why| format!("provider {vendor}: {why}"))?;
    }
    Ok(import)
}

fn read_provider(
    vendor: &str,
    position: usize,
    provider: &Map<String, Json>,
    budget: &mut Budget,
    import: &mut Import,
) -> ReadResult<()> {
    note_unknown(provider, &OF_PROVIDER, "provider", import);
    let mut definition = Map::new();
    definition.insert("position".into(), json!(position));
    if let Some(rule) = present(provider, "provider_match") {
        Rule::read(rule, "provider_match")?.check("provider_match", budget)?;
        definition.insert("match".into(), rule.clone());
    }
    if let Some(fallback) = present(provider, "fallback_model_providers") {
        for vendor in list(fallback, "fallback_model_providers")? {
            text(vendor, "fallback_model_providers")?;
        }
        definition.insert("fallback".into(), fallback.clone());
    }
    if let Some(extractors) = present(provider, "extractors") {
        for (nth, extractor) in list(extractors, "extractors")?.iter().enumerate() {
            let place = format!("extractors[{nth}]");
            Extractor::read(extractor, &place)?.check(&place, budget)?;
            note_unknown_units(extractor, import);
        }
        definition.insert("extractors".into(), extractors.clone());
    }
    let mut known = HashSet::new();
    let mut models = Vec::new();
    let all = match present(provider, "models") {
        None => &[][..],
        Some(all) => list(all, "models")?,
    };
    for (nth, model) in checked(all).enumerate() {
        let place = format!("models[{nth}]");
        let model = object(model, &place)?;
        let id = name(model.get("id"), &format!("{place}.id"))?;
        let named = |why: String| format!("model {id}: {why}");
        if !known.insert(id) {
            return Err(named(at("id", "it occurs twice")));
        }
        note_unknown(model, &OF_MODEL, "model", import);
        let rule = model.get("match").unwrap_or(&Json::Null);
        let read = Rule::read(rule, "match").and_then(|rule| rule.check("match.regex", budget));
        read.map_err(named)?;
        models.push(json!({"id": id, "match": rule}));
        match read_rates(vendor, id, model, import).map_err(named)? {
            None => import.skipped += 1,
            Some(rates) => {
                Rates::read(&rates).map_err(named)?;
                import.models.push(ImportedModel {
                    vendor: vendor.to_owned(),
                    model: id.to_owned(),
                    rates,
                });
            }
        }
    }
    definition.insert("models".into(), Json::Array(models));
    import.vendors.push(ImportedVendor {
        vendor: vendor.to_owned(),
        definition: Json::Object(definition),
    });
    Ok(())
}

/// A model's rates in the stored form; `None` where it has no price.
fn read_rates(
    vendor: &str,
    model: &str,
    fields: &Map<String, Json>,
    import: &mut Import,
) -> ReadResult<Option<Json>> {
    let mut has_price = false;
    let mut read = |table: &Json, place: &str| -> ReadResult<Map<String, Json>> {
        let units = read_units(vendor, model, table, place, import)?;
        has_price |= !units.is_empty();
        Ok(units)
    };
    let mut prices = Vec::new();
    match present(fields, "prices") {
        None => {}
        Some(Json::Array(conditional)) => {
            for (nth, price) in conditional.iter().enumerate() {
                let place = format!("prices[{nth}]");
                let price = object(price, &place)?;
                let mut stored = constraint(price, &place)?;
                let table = price.get("prices").unwrap_or(&Json::Null);
                let units = read(table, &format!("{place}.prices"))?;
                stored.insert("units".into(), Json::Object(units));
                prices.push(Json::Object(stored));
            }
        }
        Some(table) => prices.push(json!({"units": read(table, "prices")?})),
    }
    let mut variants = Vec::new();
    if let Some(all) = present(fields, "price_variants") {
        for (nth, variant) in list(all, "price_variants")?.iter().enumerate() {
            let place = format!("price_variants[{nth}]");
            let variant = object(variant, &place)?;
            let mut stored = constraint(variant, &place)?;
            let when = variant.get("when").unwrap_or(&Json::Null);
            object(when, &format!("{place}.when"))?;
            stored.insert("when".into(), when.clone());
            let table = variant.get("prices").unwrap_or(&Json::Null);
            let units = read(table, &format!("{place}.prices"))?;
            stored.insert("units".into(), Json::Object(units));
            variants.push(Json::Object(stored));
        }
    }
    if !has_price || prices.is_empty() {
        return Ok(None);
    }
    let mut rates = Map::new();
    rates.insert("prices".into(), Json::Array(prices));
    if !variants.is_empty() {
        rates.insert("variants".into(), Json::Array(variants));
    }
    Ok(Some(Json::Object(rates)))
}

/// The constraint of a price, lifted beside its units.
fn constraint(price: &Map<String, Json>, place: &str) -> ReadResult<Map<String, Json>> {
    let place = format!("{place}.constraint");
    match present(price, "constraint") {
        None => Ok(Map::new()),
        Some(constraint) => {
            let constraint = object(constraint, &place)?;
            let known = ["start_date", "start_time", "end_time"];
            match constraint.keys().find(|key| !known.contains(&key.as_str())) {
                // To apply the price always, or never, would be a guess.
                Some(key) => Err(at(&format!("{place}.{key}"), "no such constraint is known")),
                None => Ok(constraint.clone()),
            }
        }
    }
}

fn read_units(
    vendor: &str,
    model: &str,
    table: &Json,
    place: &str,
    import: &mut Import,
) -> ReadResult<Map<String, Json>> {
    let mut units = Map::new();
    for (key, price) in object(table, place)? {
        if price.is_null() {
            continue;
        }
        let place = format!("{place}.{key}");
        let unit = units::priced_by(key).map(units::kind);
        let per = unit.map_or(1, |unit| unit.per);
        let mut stored = Map::new();
        match price {
            Json::Object(tiered) => {
                let get = |key: &str| tiered.get(key).cloned().unwrap_or(Json::Null);
                let tiers = get("tiers");
                let tiers = list(&tiers, &format!("{place}.tiers"))?;
                let tiers = tiers.iter().enumerate().map(|(nth, tier)| {
                    let tier = object(tier, &format!("{place}.tiers[{nth}]"))?;
                    Ok(json!({"above": tier.get("start"), "price": tier.get("price")}))
                });
                stored.insert("tiers".into(), tiers.collect::<ReadResult<_>>()?);
                stored.insert("price".into(), get("base"));
            }
            price => {
                stored.insert("price".into(), price.clone());
            }
        }
        stored.insert("per".into(), json!(per));
        if let Some(minimum) = unit.and_then(|unit| minimum(vendor, model, unit.name)) {
            stored.insert("minimum".into(), json!(minimum));
        }
        // What is not recognised has to be a price all the same.
        let stored = stored_price(&Json::Object(stored), &place)?;
        match unit {
            Some(unit) => {
                units.insert(unit.name.into(), stored);
            }
            None => import.unrecognised(format!("prices.{key}")),
        }
    }
    Ok(units)
}

fn minimum(vendor: &str, model: &str, unit: &str) -> Option<u32> {
    let found = MINIMUMS
        .iter()
        .find(|known| (known.0, known.1, known.2) == (vendor, model, unit));
    found.map(|known| known.3)
}

fn present<'a>(fields: &'a Map<String, Json>, key: &str) -> Option<&'a Json> {
    fields.get(key).filter(|value| !value.is_null())
}

fn note_unknown(fields: &Map<String, Json>, known: &[&str], what: &str, import: &mut Import) {
    for key in fields.keys().filter(|key| !known.contains(&key.as_str())) {
        import.unrecognised(format!("{what}.{key}"));
    }
}

/// Units that an extractor reads and nobody knows.
fn note_unknown_units(extractor: &Json, import: &mut Import) {
    let mappings = extractor.get("mappings").and_then(Json::as_array);
    for mapping in mappings.into_iter().flatten() {
        if let Some(dest) = mapping.get("dest").and_then(Json::as_str)
            && units::named(dest).is_none()
        {
            import.unrecognised(format!("extractors.{dest}"));
        }
    }
}
