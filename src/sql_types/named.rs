//! Arguments by name: the keys of a JSON object, as every jsonb form and every element of a batch has them.
//!
//! A function whose first argument is `customer` has one more form `f(request jsonb)`. Both forms are
//! read by the same body; `sql/schema/23_requests.sql` says how a function comes by its second form.

use rust_decimal::Decimal;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::document::parsed;
use crate::errors::{self, Result};
use crate::ledger::number::parse_decimal;
use crate::ledger::spelling;

/// The arguments of a function as SQL declares them, with what they are when they are not given.
pub struct Signature {
    pub function: &'static str,
    pub arguments: Vec<Argument>,
}

pub struct Argument {
    pub name: String,
    /// None: it has to be given.
    pub default: Option<Json>,
}

/// The arguments of one call, by name.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    given: &'a Map<String, Json>,
    signature: &'a Signature,
}

impl<'a> Named<'a> {
    /// Refuses what the function does not know, and the lack of what has to be given.
    pub fn new(given: &'a Map<String, Json>, signature: &'a Signature) -> Result<Named<'a>> {
        let known = || signature.arguments.iter().map(|a| a.name.as_str());
        if let Some(key) = given.keys().find(|key| !known().any(|name| name == *key)) {
            return Err(errors::no_such_argument(
                signature.function,
                key,
                spelling::nearest(key, known()),
            ));
        }
        let missing = |a: &&Argument| a.default.is_none() && !given.contains_key(&a.name);
        match signature.arguments.iter().find(missing) {
            Some(argument) => Err(errors::invalid(&argument.name, "it is missing")),
            None => Ok(Named { given, signature }),
        }
    }

    /// What is given, else the default. A null is as if it were not there; where there is no default
    /// it is NULL.
    fn get(self, name: &str) -> Option<&'a Json> {
        let arguments = &self.signature.arguments;
        let default = || arguments.iter().find(|a| a.name == name)?.default.as_ref();
        let some = |json: &&Json| !json.is_null();
        self.given
            .get(name)
            .filter(some)
            .or_else(|| default().filter(some))
    }

    /// Whether the function has such an argument.
    pub fn declares(self, name: &str) -> bool {
        self.signature.arguments.iter().any(|a| a.name == name)
    }

    pub fn json(self, name: &str) -> Option<&'a Json> {
        self.get(name)
    }

    /// A text; a number stands for its digits.
    pub fn text(self, name: &str) -> Result<Option<String>> {
        self.get(name).map(|json| text(name, json)).transpose()
    }

    /// A list of texts, which may hold NULLs.
    pub fn texts(self, name: &str) -> Result<Option<Vec<Option<String>>>> {
        let Some(json) = self.get(name) else {
            return Ok(None);
        };
        let Json::Array(list) = json else {
            return Err(errors::invalid(
                name,
                "it has to be a JSON array of strings",
            ));
        };
        let element = |json: &Json| match json {
            Json::Null => Ok(None),
            json => text(name, json).map(Some),
        };
        list.iter().map(element).collect::<Result<_>>().map(Some)
    }

    /// A whole number of the given type, or its text.
    pub fn whole<N: TryFrom<Decimal>>(self, name: &str, bits: u32) -> Result<Option<N>> {
        let Some(digits) = self.digits(name)? else {
            return Ok(None);
        };
        let number = parse_decimal(&digits).map_err(|why| errors::invalid(name, why))?;
        if !number.fract().is_zero() {
            let why = format_args!("{number} is no whole number");
            return Err(errors::invalid(name, why));
        }
        let number = number.trunc();
        N::try_from(number).map(Some).map_err(|_| {
            errors::out_of_range(name, format_args!("{number} is no number of {bits} bits"))
        })
    }

    pub fn bool(self, name: &str) -> Result<bool> {
        match required(name, self.get(name))? {
            Json::Bool(value) => Ok(*value),
            Json::String(text) if text == "true" => Ok(true),
            Json::String(text) if text == "false" => Ok(false),
            _ => Err(errors::invalid(name, "it has to be true or false")),
        }
    }

    pub fn uuid(self, name: &str) -> Result<Option<Uuid>> {
        let Some(text) = self.string(name, "it has to be a JSON string with a UUID")? else {
            return Ok(None);
        };
        let shown: String = text.chars().take(40).collect();
        let id = Uuid::parse_str(text);
        id.map(Some)
            .map_err(|_| errors::invalid(name, format_args!("{shown:?} is no UUID")))
    }

    /// A JSON string, or NULL.
    pub fn string(self, name: &str, otherwise: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(_) => Err(errors::invalid(name, otherwise)),
        }
    }

    /// A number, or its text.
    pub fn digits(self, name: &str) -> Result<Option<String>> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::Number(number)) => Ok(Some(number.to_string())),
            Some(Json::String(text)) => Ok(Some(text.clone())),
            Some(_) => {
                let why = "it has to be a JSON number or a string";
                Err(errors::invalid(name, why))
            }
        }
    }
}

/// What may not be NULL; 22023.
pub fn required<T>(name: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| errors::invalid(name, "it may not be NULL"))
}

fn text(name: &str, json: &Json) -> Result<String> {
    match json {
        Json::String(text) => Ok(text.clone()),
        Json::Number(number) => Ok(number.to_string()),
        _ => Err(errors::invalid(
            name,
            "it has to be a JSON string or a number",
        )),
    }
}

/// What a client has encoded twice: a JSON string that holds the text of an object or an array.
pub fn encoded_twice(json: &Json) -> Option<Json> {
    let Json::String(text) = json else {
        return None;
    };
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    parsed(text).ok()
}
