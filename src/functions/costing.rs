//! What an action costs us, read from `usage` by the vendors' rates.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::{Map, Value as Json};

use super::request::{Charge, check_cost};
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::ledger::costing;
use crate::ledger::interrupt::checked;
use crate::ledger::margin::{self, Spent};
use crate::ledger::vendor::Uncosted;
use crate::store::Store;
use crate::store::books::Asset;
use crate::store::costs::{self, Claim};
use crate::store::vendors::{self, Asked, Costed};

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
    pub asked: Asked,
    /// The vendor's own id of the request.
    pub request: Option<String>,
}

/// Usage is `{"vendor": ..., "body": ...}`, or an array of such objects.
pub fn read_usage(usage: &Json) -> Result<Vec<Usage>> {
    match usage {
        Json::Array(list) if !list.is_empty() => checked(list).map(read_one).collect(),
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
    let body = match object.get("body") {
        Some(body @ (Json::Object(_) | Json::Array(_))) => body.clone(),
        _ => {
            return Err(errors::invalid(
                "usage",
                "its body is neither an object nor a list of them",
            ));
        }
    };
    let context = match object.get("context") {
        None | Some(Json::Null) => Json::Object(Map::new()),
        Some(context @ Json::Object(_)) => context.clone(),
        Some(_) => return Err(errors::invalid("usage", "its context is no object")),
    };
    Ok(Usage {
        asked: Asked {
            vendor,
            model: optional_text(object, "model")?,
            api_flavor: optional_text(object, "api_flavor")?,
            body,
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

/// What an action costs us, as far as its caller or its usage tells.
#[derive(Clone, Debug, Default)]
pub struct Costing {
    /// `None`: not, or not fully, known.
    pub cost: Option<Decimal>,
    /// By vendor and model; empty without usage.
    pub spent: Vec<Spent>,
    /// The normalised usage of all vendors together.
    pub usage: BTreeMap<String, Decimal>,
    /// The first usage that has no cost.
    pub uncosted: Option<Missing>,
}

/// A cost that is not known, and why.
#[derive(Clone, Debug)]
pub struct Missing {
    pub vendor: String,
    pub model: Option<String>,
    pub why: Uncosted,
}

impl Costing {
    /// Reads the usage by the rates of this moment. A cost that is given beats what can be computed:
    /// it is shared over the models by that.
    pub fn of(store: &Store, asset: &Asset, charge: &Charge, at: Moment) -> Result<Costing> {
        let mut spent = Vec::with_capacity(charge.used.len());
        let mut usage = BTreeMap::new();
        let mut uncosted = None;
        for used in checked(&charge.used) {
            let costed = vendors::cost(store, &used.asked, at)?;
            let costed = costed.in_currency(store, &asset.currency, at)?;
            costed.check()?;
            add(&mut usage, &costed)?;
            if let (None, Err(why)) = (&uncosted, &costed.cost) {
                uncosted = Some(Missing {
                    vendor: costed.vendor.clone(),
                    model: costed.model.clone(),
                    why: why.clone(),
                });
            }
            spent.push(computed(costed, used.request.clone()));
        }
        match charge.cost {
            Some(cost) => share(&mut spent, cost),
            None => check_cost(costing::total(&spent))?,
        }
        Ok(Costing {
            cost: charge.cost.or_else(|| costing::total(&spent)),
            spent,
            usage,
            uncosted,
        })
    }

    /// Is any of it about a request that the vendor has an id for?
    pub fn names_requests(&self) -> bool {
        self.spent.iter().any(|spent| spent.request.is_some())
    }

    /// What is counted already with another debit, or was recorded before, is not counted again: a
    /// vendor's request costs once. The price is what it was.
    pub fn counted_once(
        &self,
        store: &Store,
        customer: &str,
        authorization: Option<uuid::Uuid>,
    ) -> Result<Costing> {
        let mut once = self.clone();
        for spent in &mut once.spent {
            let (Some(vendor), Some(request)) = (&spent.vendor, &spent.request) else {
                continue;
            };
            let claim = costs::claim_of(store, customer, vendor, request, "estimated")?;
            let own =
                |claim: &Claim| authorization.is_some() && claim.authorization_id == authorization;
            if claim.is_some_and(|claim| !own(&claim)) {
                spent.cost = Some(Decimal::ZERO);
                spent.reason = Some("counted before".to_owned());
                spent.request = None;
                spent.rate_version = None;
            }
        }
        if !once.spent.is_empty() {
            once.cost = costing::total(&once.spent);
        }
        Ok(once)
    }

    /// Puts down that a debit stands for these requests.
    pub fn claim(
        &self,
        store: &Store,
        customer: &str,
        debit_id: uuid::Uuid,
        authorization_id: Option<uuid::Uuid>,
    ) -> Result<()> {
        for spent in &self.spent {
            if let (Some(vendor), Some(request)) = (&spent.vendor, &spent.request) {
                let claim = Claim {
                    debit_id: Some(debit_id),
                    authorization_id,
                    cost_id: None,
                };
                costs::claim(store, customer, vendor, request, "estimated", &claim)?;
            }
        }
        Ok(())
    }
}

/// The normalised usage of all vendors together.
pub fn used(store: &Store, used: &[Usage], at: Moment) -> Result<BTreeMap<String, Decimal>> {
    let mut usage = BTreeMap::new();
    for used in checked(used) {
        add(&mut usage, &vendors::cost(store, &used.asked, at)?)?;
    }
    Ok(usage)
}

fn add(usage: &mut BTreeMap<String, Decimal>, costed: &Costed) -> Result<()> {
    for (unit, count) in &costed.usage {
        let sum = usage.entry(unit.clone()).or_default();
        *sum = sum.checked_add(*count).ok_or_else(|| {
            errors::out_of_range("usage", format_args!("too many {unit} together"))
        })?;
    }
    Ok(())
}

/// What some usage of an asset costs, in its currency, or why that is not known.
pub fn cost_of(
    store: &Store,
    asset: &Asset,
    asked: &Asked,
    request: Option<String>,
    at: Moment,
) -> Result<Spent> {
    let costed = vendors::cost(store, asked, at)?;
    Ok(computed(
        costed.in_currency(store, &asset.currency, at)?,
        request,
    ))
}

fn computed(costed: Costed, request: Option<String>) -> Spent {
    let (cost, reason) = match costed.cost {
        Ok(cost) => (Some(cost), None),
        Err(why) => (None, Some(why.to_string())),
    };
    Spent {
        vendor: Some(costed.vendor),
        model: costed.model,
        cost,
        weight: None,
        reason,
        rate_version: costed.rate_version,
        request,
    }
}

/// Shares a cost that is known as a whole over the models, by what each would cost.
pub fn share(spent: &mut [Spent], cost: Decimal) {
    let weights: Vec<Decimal> = spent
        .iter()
        .map(|one| one.cost.unwrap_or_default())
        .collect();
    for (one, share) in spent.iter_mut().zip(margin::split_cost(cost, &weights)) {
        one.cost = Some(share);
        one.reason = None;
        one.rate_version = None;
    }
}
