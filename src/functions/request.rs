//! What a caller asks for, read from arguments, and the hash that tells a replay from another
//! request.

use rust_decimal::Decimal;
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use super::reported::{Usage, read_usage};
use crate::errors::{self, Result};
use crate::ledger::Amount;
use crate::ledger::margin::COST_DECIMALS;
use crate::ledger::number::{MEASURED_DECIMALS, json_measured, plain};
use crate::ledger::price::Price;
use crate::sql_types::Args;
use crate::sql_types::args::{self, required};
use crate::store::assets::Asset;
use crate::store::authorizations::Authorization;
use crate::store::ledger::Key;

/// What decides how many credits an action costs.
#[derive(Clone, Debug, Default)]
pub struct Charge {
    pub quantity: Option<Decimal>,
    pub dimensions: Option<Map<String, Json>>,
    pub usage: Option<Json>,
    /// What `usage` says.
    pub used: Vec<Usage>,
    pub cost: Option<Decimal>,
    pub credits: Option<Decimal>,
}

impl Charge {
    /// Reads quantity, dimensions, usage, cost and credits, which stand side by side.
    pub fn read(args: &Args) -> Result<Charge> {
        Charge::checked(Charge {
            quantity: args.optional_measure("quantity", MEASURED_DECIMALS)?,
            dimensions: args.optional_object("dimensions")?,
            usage: args.optional_json("usage")?,
            used: Vec::new(),
            cost: read_cost(args)?,
            credits: args.optional_quantity("credits")?,
        })
    }

    /// Reads the usage.
    pub fn checked(mut charge: Charge) -> Result<Charge> {
        if let Some(usage) = &charge.usage {
            charge.used = read_usage(usage)?;
        }
        Ok(charge)
    }

    /// The same, where quantity and dimensions may not be NULL.
    pub fn read_new(args: &Args) -> Result<Charge> {
        let charge = Charge::read(args)?;
        required("quantity", charge.quantity.as_ref())?;
        required("dimensions", charge.dimensions.as_ref())?;
        Ok(charge)
    }

    /// Nothing is given.
    pub fn is_empty(&self) -> bool {
        self.quantity.is_none()
            && !self.names_dimensions()
            && self.usage.is_none()
            && self.cost.is_none()
            && self.credits.is_none()
    }

    /// Some dimension is named.
    pub fn names_dimensions(&self) -> bool {
        self.dimensions.as_ref().is_some_and(|d| !d.is_empty())
    }

    /// The same with what is missing from the authorization: the quantity, and of the dimensions those
    /// that are no counts; all of them where this tells no counts of its own.
    pub fn over(
        &self,
        authorization: &Authorization,
        price: Option<&Price>,
        tells_counts: bool,
    ) -> Charge {
        let mut dimensions = Map::new();
        if let Some(Json::Object(authorized)) = &authorization.dimensions {
            let stays = |name: &str, value: &Json| {
                let counts = match price {
                    Some(price) if price.counts(name) => true,
                    Some(price) if price.compares(name) => false,
                    _ => value.is_number(),
                };
                !tells_counts || !counts
            };
            let stay = authorized.iter().filter(|(name, value)| stays(name, value));
            dimensions.extend(stay.map(|(name, value)| (name.clone(), value.clone())));
        }
        let told = self.dimensions.clone().unwrap_or_default();
        dimensions.extend(told);
        Charge {
            quantity: self.quantity.or(Some(authorization.quantity)),
            dimensions: Some(dimensions),
            ..self.clone()
        }
    }

    /// The dimensions to store: NULL where there are none.
    pub fn stored_dimensions(&self) -> Option<Json> {
        self.dimensions
            .as_ref()
            .filter(|d| !d.is_empty())
            .map(|d| Json::Object(d.clone()))
    }

    /// What is compared of a request to spend.
    pub fn fields(&self, asset: &str, action: &str, scopes: Option<&[String]>) -> Vec<Field> {
        let mut fields = vec![
            ("asset", Some(asset.to_owned())),
            ("action", Some(action.to_owned())),
            names("scopes", scopes),
        ];
        fields.extend(self.totals());
        fields
    }

    /// What is compared of a capture.
    pub fn totals(&self) -> [Field; 5] {
        [
            number("quantity", self.quantity),
            json("dimensions", self.stored_dimensions().as_ref()),
            json("usage", self.usage.as_ref()),
            number("cost", self.cost),
            number("credits", self.credits),
        ]
    }

    /// The credits that were given instead of a price.
    pub fn given(&self, asset: &Asset) -> Result<Option<Amount>> {
        self.credits
            .map(|credits| args::amount("credits", credits, asset.scale))
            .transpose()
    }
}

/// The vendor cost that a caller gives: rounded to the decimals that are kept, below 1e15.
pub fn read_cost(args: &Args) -> Result<Option<Decimal>> {
    let cost = args.optional_measure("cost", COST_DECIMALS)?;
    check_cost(cost)?;
    Ok(cost)
}

/// Refuses a cost that is too large.
pub fn check_cost(cost: Option<Decimal>) -> Result<()> {
    match cost {
        Some(cost) if cost >= Decimal::from(1_000_000_000_000_000_i64) => Err(
            errors::out_of_range("cost", format_args!("{cost} is not below 1e15")),
        ),
        _ => Ok(()),
    }
}

/// A compared part of a request: its name and value.
pub type Field = (&'static str, Option<String>);

/// A number as a part of a request: 1 and 1.00 are the same request.
pub fn number(name: &'static str, value: Option<Decimal>) -> Field {
    (name, value.map(|value| value.normalize().to_string()))
}

/// A list of names as a part of a request: in whatever order they were given, and none is as if there
/// were no list.
pub fn names(name: &'static str, value: Option<&[String]>) -> Field {
    let mut list = value.unwrap_or_default().to_vec();
    list.sort();
    list.dedup();
    (
        name,
        (!list.is_empty()).then(|| Json::from(list).to_string()),
    )
}

/// A document as a part of a request: its numbers are compared as numbers.
pub fn json(name: &'static str, value: Option<&Json>) -> Field {
    (name, value.map(|value| comparable(value).to_string()))
}

/// The document with its numbers as they are compared: 2.0 is 2.
fn comparable(value: &Json) -> Json {
    match value {
        Json::Number(number) => {
            let rounded = json_measured(value).ok();
            let rounded = rounded.and_then(|rounded| plain(rounded).parse().ok());
            Json::Number(rounded.unwrap_or_else(|| number.clone()))
        }
        Json::Array(list) => list.iter().map(comparable).collect(),
        Json::Object(object) => {
            let field = |(key, value): (&String, &Json)| (key.clone(), comparable(value));
            Json::Object(object.iter().map(field).collect())
        }
        other => other.clone(),
    }
}

/// Sixteen bytes that stand for a request: the function and what it was asked.
pub fn hash(function: &str, fields: &[Field]) -> Vec<u8> {
    let mut hasher = Sha256::new();
    // Lengths before texts, so that no two requests run together.
    let mut add = |text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    add(function);
    for (name, value) in fields {
        if let Some(value) = value {
            add(name);
            add(value);
        }
    }
    hasher.finalize()[..16].to_vec()
}

/// The key of a call, if it has one.
pub fn key(
    text: Option<String>,
    function: &str,
    fields: impl FnOnce() -> Vec<Field>,
) -> Option<Key> {
    text.map(|text| Key {
        text,
        request: hash(function, &fields()),
    })
}
