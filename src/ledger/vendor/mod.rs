//! What vendors charge: who and which model is meant, how to read a vendor's own usage object, what
//! a unit costs at which moment, and what that makes for one call.
//!
//! | file      | what it knows                                                                   |
//! |-----------|---------------------------------------------------------------------------------|
//! | `units`   | the units that vendors count in, and how they lie inside each other             |
//! | `rules`   | how a vendor or a model is recognised by its name                               |
//! | `extract` | how the counts are read from a vendor's answer                                  |
//! | `usage`   | counts, and how they become disjoint amounts                                    |
//! | `uncosted`| why some usage has no cost                                                      |
//! | `rates`   | a model's rates, dated, by hour and by tier, and the cost of some usage          |
//! | `genai`   | rates and rules from a genai-prices file                                        |
//! | `litellm` | rates from LiteLLM's model_prices_and_context_window.json                        |
//!
//! No vendor is known here: who they are and how they answer is data.

pub mod extract;
pub mod genai;
pub mod litellm;
pub mod rates;
pub mod reading;
pub mod rules;
pub mod terms;
pub mod units;
pub mod usage;
pub mod usual;

mod definition;
#[cfg(test)]
mod properties;
mod uncosted;

use std::collections::BTreeMap;
use std::fmt::Display;

use serde_json::{Map, Value as Json};

pub use definition::{Definition, find};
pub use rates::{ComputedCost, Rates};
pub use uncosted::{Completeness, Reason, Uncosted};
pub use usage::Counts;

/// What was read, or in words what is wrong and where.
pub type ReadResult<T> = Result<T, String>;

/// What a file of rates holds, in the form that is stored.
#[derive(Debug, Default)]
pub struct Import {
    pub vendors: Vec<ImportedVendor>,
    pub models: Vec<ImportedModel>,
    /// Models without a price.
    pub skipped: i32,
    /// Fields that nothing was made of, and how often they occurred.
    pub unrecognised: BTreeMap<String, i64>,
}

/// How one vendor's names and answers are read.
#[derive(Debug)]
pub struct ImportedVendor {
    pub vendor: String,
    pub definition: Json,
}

/// The rates of one model.
#[derive(Debug)]
pub struct ImportedModel {
    pub vendor: String,
    pub model: String,
    pub rates: Json,
}

impl Import {
    fn unrecognised(&mut self, field: impl Into<String>) {
        *self.unrecognised.entry(field.into()).or_default() += 1;
    }
}

/// Reads a file of rates in one of the known formats.
///
/// # Errors
/// An unknown format, and whatever in the file is not as the format has it: provider, model, field
/// and reason.
pub fn read_import(format: &str, file: &Json) -> Result<Import, ImportError> {
    match format {
        "genai-prices" => genai::read(file).map_err(ImportError::File),
        "litellm" => litellm::read(file).map_err(ImportError::File),
        _ => Err(ImportError::Format),
    }
}

#[derive(Debug)]
pub enum ImportError {
    Format,
    File(String),
}

// ---- reading JSON, saying where it is wrong ---------------------------------------------------

fn at(place: &str, why: impl Display) -> String {
    format!("{place}: {why}")
}

fn expected(place: &str, what: &str, value: &Json) -> String {
    at(
        place,
        format_args!("it has to be {what}, not {}", super::number::kind_of(value)),
    )
}

fn object<'a>(value: &'a Json, place: &str) -> ReadResult<&'a Map<String, Json>> {
    value
        .as_object()
        .ok_or_else(|| expected(place, "an object", value))
}

fn list<'a>(value: &'a Json, place: &str) -> ReadResult<&'a Vec<Json>> {
    value
        .as_array()
        .ok_or_else(|| expected(place, "a list", value))
}

fn text<'a>(value: &'a Json, place: &str) -> ReadResult<&'a str> {
    let text = value
        .as_str()
        .ok_or_else(|| expected(place, "a string", value))?;
    if text.contains('\0') {
        return Err(at(place, "it holds a NUL character"));
    }
    Ok(text)
}

/// A vendor's or a model's name: as long as an argument may be.
fn name<'a>(value: Option<&'a Json>, place: &str) -> ReadResult<&'a str> {
    let value = value.ok_or_else(|| at(place, "it is missing"))?;
    let text = text(value, place)?;
    match text.len() {
        0 => Err(at(place, "it is empty")),
        1..=255 => Ok(text),
        long => Err(at(
            place,
            format_args!("it is {long} bytes long, 255 are allowed"),
        )),
    }
}
