//! How a vendor's answer becomes counts: which reader reads it, and what it leaves unknown.

use std::borrow::Cow;

use rust_decimal::Decimal;
use serde_json::{Map, Value as Json};

use super::extract::{Extractor, Reading};
use super::units::{self, named};
use super::usage::count;
use super::{Completeness, Counts, Rates, Reason, Uncosted, at as at_place, usual};
use crate::ledger::Moment;
use crate::ledger::number::quoted;

/// Where an event of a stream keeps the part of the answer that it tells.
const PARTS: [&str; 4] = ["message", "response", "metadata", "delta"];

/// Where an answer keeps its usage.
const USAGES: [&str; 3] = ["usage", "usageMetadata", "usage_metadata"];

/// Where an answer names its model.
const MODELS: [&str; 4] = ["model", "modelVersion", "model_version", "modelId"];

/// Objects inside each other are merged so deep.
const MAX_DEPTH: usize = 16;

/// A vendor's answer as one object.
pub struct VendorResponse<'a> {
    body: Cow<'a, Json>,
    /// The end of the stream, which tells the output, is missing.
    is_cut: bool,
}

impl<'a> VendorResponse<'a> {
    /// The answer, its usage object, an event of a stream, or a list of events or chunks: of those,
    /// later counts replace earlier ones, and null replaces nothing.
    pub fn of(body: &'a Json) -> VendorResponse<'a> {
        let events = match body {
            Json::Array(events) => events.as_slice(),
            one => std::slice::from_ref(one),
        };
        let is = |event: &Json, kind: &str| event.get("type").and_then(Json::as_str) == Some(kind);
        let starts = events.iter().any(|event| is(event, "message_start"));
        let ends = |event: &Json| is(event, "message_delta") && has_usage(event);
        let is_cut = starts && !events.iter().any(ends);
        let body = match body {
            Json::Object(_) if has_usage(body) || part(body).is_none() => Cow::Borrowed(body),
            Json::Object(_) | Json::Array(_) => {
                let mut whole = Map::new();
                for event in events {
                    for part in [part(event), event.as_object()].into_iter().flatten() {
                        merge(&mut whole, part, 0);
                    }
                }
                Cow::Owned(Json::Object(whole))
            }
            _ => Cow::Borrowed(body),
        };
        VendorResponse { body, is_cut }
    }

    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub fn body(&self) -> &Json {
        &self.body
    }

    /// The usage object: that of the answer, or what was given instead of an answer.
    pub fn usage(&self) -> &Json {
        let mut found = USAGES.iter().filter_map(|key| self.body.get(key));
        found.find(|usage| usage.is_object()).unwrap_or(&self.body)
    }

    /// The model, where answers usually name it.
    pub fn model(&self) -> Option<&str> {
        let mut found = MODELS.iter().filter_map(|key| self.body.get(key)?.as_str());
        found.find(|model| !model.is_empty())
    }

    /// What the vendor says the call cost (OpenRouter), in USD.
    pub fn reported_cost(&self) -> Option<Decimal> {
        count(self.usage().get("cost")?, false).ok()
    }
}

fn has_usage(event: &Json) -> bool {
    USAGES
        .iter()
        .any(|key| event.get(key).is_some_and(Json::is_object))
}

/// The part of the answer inside an event.
fn part(event: &Json) -> Option<&Map<String, Json>> {
    let inside = PARTS.iter().filter_map(|key| event.get(key));
    inside
        .filter(|part| has_usage(part))
        .find_map(Json::as_object)
}

fn merge(into: &mut Map<String, Json>, from: &Map<String, Json>, depth: usize) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (_, Json::Null) => {}
            (Some(Json::Object(into)), Json::Object(from)) if depth < MAX_DEPTH => {
                merge(into, from, depth + 1);
            }
            (Some(into), value) => *into = value.clone(),
            (None, value) => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The readers of a vendor's answers.
#[derive(Clone, Copy)]
pub struct Readers<'a> {
    pub all: &'a [Extractor],
    /// The caller said which one.
    pub is_named: bool,
}

/// Counts as they were read.
pub struct ReadCounts {
    pub counts: Counts,
    /// A reader of the vendor's file read them: what it did not ask for is 0.
    pub by_file: bool,
}

/// Counts, or why there are none, and what they are good for.
pub type UsageResult = Result<ReadCounts, (Uncosted, Completeness)>;

/// The counts in an answer: by the vendor's reader that accounts for most of them, of several the
/// first in its file. Where none fits: as `{unit: count}` where the rates have a price for each of
/// the units, or by the usual shapes.
pub fn read(
    readers: Readers,
    answer: &VendorResponse,
    rates: Option<&Rates>,
    at: Moment,
) -> UsageResult {
    let flat = Counts::read(answer.usage());
    // Units that are known, or have a price.
    let is_priced = |counts: &Counts| rates.is_some_and(|rates| rates.has_all(counts, at));
    let own = match &flat {
        Ok(counts) if counts.number() > 0 && (is_priced(counts) || counts.own.is_empty()) => {
            Some(Reading {
                counts: Ok(counts.clone()),
                accounted: counts.number(),
            })
        }
        _ => None,
    };
    let mut unfit = None;
    let fitting = readers.all.iter().filter_map(|reader| {
        let read = reader.read_counts(answer.body());
        read.map_err(|why| unfit.get_or_insert(why)).ok()
    });
    let fitting: Vec<Reading> = fitting.collect();
    let by_file = !fitting.is_empty();
    let found = if by_file {
        best(fitting.into_iter().chain(own))
    } else if readers.is_named || (own.is_some() && flat.as_ref().is_ok_and(is_priced)) {
        own
    } else {
        best(usual::read(answer).into_iter().chain(own))
    };
    let invalid = |why: String| {
        (
            Uncosted::new(Reason::UsageInvalid, why),
            Completeness::Invalid,
        )
    };
    if let Some(Reading { counts, .. }) = found {
        let found = counts.map(|counts| ReadCounts { counts, by_file });
        return found.map_err(invalid);
    }
    if let Some(rates) = rates
        && let Some(why) = bad_count(answer, rates, at)
    {
        return Err(invalid(why));
    }
    if is_empty(answer) {
        let why = Uncosted::new(Reason::UsageMissing, "the usage has no counts");
        return Err((why, Completeness::Nothing));
    }
    let counts = match (&flat, rates) {
        // Units that have no price; or, of a vendor that is not known, whatever numbers there are.
        (Ok(counts), rates) if rates.is_none() || readers.all.is_empty() => Some(counts.clone()),
        (Err(_), None) if readers.all.is_empty() => Some(Counts::read_any(answer.usage())),
        _ => None,
    };
    if let Some(counts) = counts.filter(|counts| counts.number() > 0) {
        return Ok(ReadCounts { counts, by_file });
    }
    let why = match (unfit, flat) {
        (Some(why), _) | (None, Err(why)) => why,
        (None, Ok(_)) => "no reader understands it".to_owned(),
    };
    let why = Uncosted::new(Reason::UsageUnreadable, why);
    Err((why, Completeness::Nothing))
}

/// What is wrong with the count of a unit that is known or has a price.
fn bad_count(answer: &VendorResponse, rates: &Rates, at: Moment) -> Option<String> {
    let usage = answer.usage().as_object()?;
    usage.iter().find_map(|(name, value)| {
        let unit = named(name);
        let is_unit = unit.is_some() || rates.has_own(name, at);
        let is_count = matches!(value, Json::Number(_) | Json::String(_));
        let is_whole = unit.is_some_and(|unit| units::kind(unit).is_whole());
        let why = (is_unit && is_count).then(|| count(value, is_whole).err())??;
        Some(at_place(&quoted(name), why))
    })
}

/// The reading that accounts for most, of several the first.
pub fn best(readings: impl IntoIterator<Item = Reading>) -> Option<Reading> {
    readings.into_iter().reduce(|best, one| {
        if one.accounted > best.accounted {
            one
        } else {
            best
        }
    })
}

/// Whether the usage has no number at all.
fn is_empty(answer: &VendorResponse) -> bool {
    fn has_number(json: &Json, depth: usize) -> bool {
        match json {
            Json::Number(_) => true,
            Json::Object(fields) if depth < MAX_DEPTH => {
                fields.values().any(|value| has_number(value, depth + 1))
            }
            Json::Array(list) if depth < MAX_DEPTH => {
                list.iter().any(|value| has_number(value, depth + 1))
            }
            // A count as a text is one that cannot be read.
            Json::String(text) => text.parse::<f64>().is_ok(),
            _ => false,
        }
    }
    let usage = answer.usage();
    !has_number(usage, 0) || (std::ptr::eq(usage, answer.body()) && names_answer(usage))
}

/// An answer without a usage object, rather than a usage object.
fn names_answer(body: &Json) -> bool {
    let known = ["choices", "content", "candidates", "output", "object"];
    known.iter().any(|key| body.get(key).is_some())
}

/// What parts of the counts are unknown.
pub fn unknown_part(
    answer: &VendorResponse,
    found: &ReadCounts,
    rates: Option<&Rates>,
    at: Moment,
) -> Option<&'static str> {
    if answer.is_cut {
        return Some("the end of the stream is missing, which tells the output tokens");
    }
    let is_priced = || rates.is_none_or(|rates| rates.prices_input(at));
    (!found.by_file && found.counts.tells_output_alone() && is_priced())
        .then_some("it has output tokens and no input tokens")
}

/// The unit that is counted where only the beginning of a stream is there.
pub fn without_output(mut counts: Counts) -> Counts {
    if let Some(output) = named("output_tokens") {
        counts.remove(|unit| unit == output || units::around(unit) & units::bit(output) != 0);
    }
    counts
}
