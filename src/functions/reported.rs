//! `usage`: what vendors report of their part in an action.

use serde_json::{Map, Value as Json};

use crate::errors::{self, Result};
use crate::ledger::interrupt::checked;
use crate::store::vendors::UsageToCost;

/// The keys of a usage object.
const KEYS: [&str; 6] = [
    "vendor",
    "model",
    "api_flavor",
    "body",
    "context",
    "vendor_request_id",
];

/// One vendor's report of what an action used.
#[derive(Clone, Debug)]
pub struct Usage {
    pub asked: UsageToCost,
    /// The vendor's own id of the request.
    pub request: Option<String>,
}

/// Usage is `{"vendor": ..., "body": ...}`, or an array of such objects. What the vendor answered may be
/// anything: a stream's chunk without usage has a body of null.
pub fn read_usage(usage: &Json) -> Result<Vec<Usage>> {
    match usage {
        Json::Array(list) => checked(list).map(read_one).collect(),
        Json::Object(_) => Ok(vec![read_one(usage)?]),
        _ => Err(errors::invalid(
            "usage",
            "it has to be an object with vendor and body, or an array of them",
        )),
    }
}

fn read_one(usage: &Json) -> Result<Usage> {
    let object = usage
        .as_object()
        .ok_or_else(|| errors::invalid("usage", "an element is no object"))?;
    if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(errors::invalid(
            "usage",
            format_args!(
                "unknown key {:?}: {} are known",
                key.chars().take(40).collect::<String>(),
                KEYS.join(", ")
            ),
        ));
    }
    let vendor = optional_text(object, "vendor")?
        .ok_or_else(|| errors::invalid("usage", "it names no vendor"))?;
    let context = match object.get("context") {
        None | Some(Json::Null) => Json::Object(Map::new()),
        Some(context @ Json::Object(_)) => context.clone(),
        Some(_) => return Err(errors::invalid("usage", "its context is no object")),
    };
    Ok(Usage {
        asked: UsageToCost {
            vendor,
            model: optional_text(object, "model")?,
            api_flavor: optional_text(object, "api_flavor")?,
            body: object.get("body").cloned().unwrap_or_default(),
            context,
        },
        request: optional_text(object, "vendor_request_id")?,
    })
}

/// A name in a usage object: a text of 1 to 255 bytes, where it is there.
fn optional_text(object: &Map<String, Json>, key: &str) -> Result<Option<String>> {
    match object.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) if !text.is_empty() && text.len() <= 255 => Ok(Some(text.clone())),
        Some(_) => Err(errors::invalid(
            "usage",
            format_args!("its {key} is no text of 1 to 255 bytes"),
        )),
    }
}
