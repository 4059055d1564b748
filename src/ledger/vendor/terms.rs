//! How a request was served, where its price may depend on it: the service tier, the speed, the place.

use serde_json::Value as Json;

use super::reading::VendorResponse;

/// What an answer may say of how it was served, and where. `.` leads into an object.
const TOLD: [(&str, &str); 6] = [
    ("service_tier", "service_tier"),
    ("service_tier", "serviceTier.type"),
    ("service_tier", "trafficType"),
    ("speed", "speed"),
    ("inference_geo", "inference_geo"),
    ("cache_type", "prompt_tokens_details.cache_type"),
];

/// Values that stand for the usual price.
const USUAL: [&str; 7] = [
    "auto",
    "default",
    "standard",
    "on_demand",
    "not_available",
    "global",
    "",
];

/// Other names of a tier.
const ALIASES: [(&str, &str); 4] = [
    ("batches", "batch"),
    ("on_demand_priority", "priority"),
    ("on_demand_flex", "flex"),
    ("traffic_type_unspecified", "default"),
];

/// How a request was served.
#[derive(Debug, Default)]
pub struct Terms(Vec<Term>);

/// One thing of it, in lower case.
#[derive(Debug)]
pub struct Term {
    pub key: String,
    pub value: String,
    /// The answer says so; otherwise the caller does.
    pub is_told: bool,
}

impl Terms {
    /// What the answer tells, and the caller, who is right where both do.
    pub fn of(answer: &VendorResponse, context: &Json) -> Terms {
        let said = context.as_object().into_iter().flatten();
        let mut terms: Vec<Term> = said
            .filter_map(|(key, value)| Some(Term::new(key, value.as_str()?, false)))
            .collect();
        let said: Vec<String> = terms.iter().map(|term| term.key.clone()).collect();
        for (key, path) in TOLD {
            // The usage object says what was, the answer around it may say what was asked.
            let places = [answer.usage(), answer.body()];
            let mut values = places.iter().filter_map(|place| text_at(place, path));
            let is_known = said
                .iter()
                .chain(terms.iter().map(|term| &term.key))
                .any(|known| known == key);
            if let (false, Some(value)) = (is_known, values.next()) {
                terms.push(Term::new(key, value, true));
            }
        }
        Terms(terms)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Term> {
        self.0.iter()
    }
}

fn text_at<'a>(json: &'a Json, path: &str) -> Option<&'a str> {
    let found = path.split('.').try_fold(json, |json, key| json.get(key));
    found?.as_str()
}

impl Term {
    fn new(key: &str, value: &str, is_told: bool) -> Term {
        let (key, value) = (canonical_key(key), canonical(value));
        Term {
            key,
            value,
            is_told,
        }
    }

    /// Whether it means the usual price, unless the rates say otherwise.
    pub fn is_usual(&self) -> bool {
        USUAL.contains(&self.value.as_str())
    }

    /// Whether every value of it has a price of its own, except the usual one.
    pub fn is_priced(&self) -> bool {
        ["service_tier", "speed", "inference_geo"].contains(&self.key.as_str())
    }
}

/// A key as it is compared. genai-prices files tell batches from the rest by `processing`.
pub fn canonical_key(key: &str) -> String {
    match key {
        "processing" => "service_tier".to_owned(),
        key => key.to_owned(),
    }
}

/// A value as it is compared.
pub fn canonical(value: &str) -> String {
    let lower = value.to_lowercase();
    let alias = ALIASES.iter().find(|(alias, _)| *alias == lower);
    alias.map_or(lower, |(_, name)| (*name).to_owned())
}
