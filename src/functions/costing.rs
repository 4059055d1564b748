//! What an action costs us, read from `usage` by the vendors' rates.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::reported::Usage;
use super::request::{Charge, check_cost};
use crate::errors::{self, Error, Result};
use crate::ledger::Moment;
use crate::ledger::costing;
use crate::ledger::interrupt::checked;
use crate::ledger::margin::{self, ModelCost};
use crate::ledger::vendor::{Completeness, Uncosted};
use crate::store::Store;
use crate::store::assets::Asset;
use crate::store::costs::{self, Claim};
use crate::store::vendors::{self, UsageCost, UsageToCost};

/// What an action costs us, as far as its caller or its usage tells.
#[derive(Clone, Debug, Default)]
pub struct Costing {
    /// `None`: not, or not fully, known.
    pub cost: Option<Decimal>,
    /// By vendor and model; empty without usage.
    pub spent: Vec<ModelCost>,
    /// The normalised usage of all vendors together.
    pub counts: Counts,
    /// The first usage that has no cost.
    pub uncosted: Option<MissingCost>,
}

/// A cost that is not known, and why.
#[derive(Clone, Debug)]
pub struct MissingCost {
    pub vendor: String,
    pub model: Option<String>,
    pub why: Uncosted,
}

/// Disjoint amounts by unit, of all vendors together.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub by_unit: BTreeMap<String, Decimal>,
    /// Why they are not all there is.
    pub unread: Option<UnreadUsage>,
}

/// Usage that no price may count by.
#[derive(Clone, Debug)]
pub struct UnreadUsage {
    /// What a price is refused with that has to.
    pub error: Error,
    /// It has counts, but they are no numbers or contradict each other.
    pub is_invalid: bool,
}

impl Costing {
    /// Reads the usage by the rates of this moment, as far as it can be. A cost that is given beats what
    /// can be computed: it is shared over the models by that.
    pub fn of(store: &Store, asset: &Asset, charge: &Charge, at: Moment) -> Result<Costing> {
        let mut spent = Vec::with_capacity(charge.used.len());
        let mut counts = Counts::default();
        let mut uncosted = None;
        if charge.usage.is_some() && charge.used.is_empty() {
            counts.unreadable(errors::invalid("usage", "the array is empty"), false);
        }
        for used in checked(&charge.used) {
            let costed = vendors::cost(store, &used.asked, at)?;
            counts.add(&costed);
            let costed = costed.in_currency(store, &asset.currency, at)?;
            if let (None, Err(why)) = (&uncosted, &costed.cost) {
                uncosted = Some(MissingCost {
                    vendor: costed.vendor.clone(),
                    model: costed.model.clone(),
                    why: why.clone(),
                });
            }
            spent.push(computed(costed, used.request.clone()));
        }
        if let Some(cost) = charge.cost {
            share(&mut spent, cost);
        }
        let computed = costing::total(&spent).filter(|cost| check_cost(Some(*cost)).is_ok());
        Ok(Costing {
            cost: charge.cost.or(computed),
            spent,
            counts,
            uncosted,
        })
    }

    /// Whether any of it is about a request that has an id at the vendor.
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
                spent.count_elsewhere();
                spent.request = None;
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

/// What the usage counts.
pub fn used(store: &Store, used: &[Usage], at: Moment) -> Result<Counts> {
    let mut counts = Counts::default();
    for used in checked(used) {
        counts.add(&vendors::cost(store, &used.asked, at)?);
    }
    Ok(counts)
}

impl Counts {
    fn add(&mut self, costed: &UsageCost) {
        if !costed.is_readable() {
            let is_invalid = costed.counted == Completeness::Invalid;
            return self.unreadable(costed.unreadable(), is_invalid);
        }
        for (unit, count) in &costed.usage {
            let sum = self.by_unit.entry(unit.clone()).or_default();
            match sum.checked_add(*count) {
                Some(more) => *sum = more,
                None => {
                    let why = format_args!("too many {unit} together");
                    self.unreadable(errors::invalid("usage", why), true);
                }
            }
        }
    }

    /// The first reason is told, unless a later one is that counts are wrong.
    fn unreadable(&mut self, error: Error, is_invalid: bool) {
        let known = self.unread.as_ref();
        if known.is_none_or(|known| is_invalid && !known.is_invalid) {
            self.unread = Some(UnreadUsage { error, is_invalid });
        }
    }

    /// Refuses counts that are no numbers or contradict each other; 22023.
    pub fn check(&self) -> Result<()> {
        match &self.unread {
            Some(unread) if unread.is_invalid => Err(unread.error.clone()),
            _ => Ok(()),
        }
    }
}

/// What some usage of an asset costs, in its currency, or why that is not known.
pub fn cost_of(
    store: &Store,
    asset: &Asset,
    asked: &UsageToCost,
    request: Option<String>,
    at: Moment,
) -> Result<ModelCost> {
    let costed = vendors::cost(store, asked, at)?;
    Ok(computed(
        costed.in_currency(store, &asset.currency, at)?,
        request,
    ))
}

fn computed(costed: UsageCost, request: Option<String>) -> ModelCost {
    let (cost, reason) = match costed.cost {
        Ok(cost) => (Some(cost), None),
        Err(why) => (None, Some(why.to_string())),
    };
    ModelCost {
        vendor: Some(costed.vendor),
        model: costed.model,
        cost,
        weight: None,
        reason,
        rate_version: costed.rate_version,
        conversion: costed.conversion,
        request,
    }
}

/// Shares a cost that is known as a whole over the models, by what each would cost.
pub fn share(spent: &mut [ModelCost], cost: Decimal) {
    let weights: Vec<Decimal> = spent
        .iter()
        .map(|one| one.cost.unwrap_or_default())
        .collect();
    for (one, share) in spent.iter_mut().zip(margin::split_cost(cost, &weights)) {
        one.cost = Some(share);
        one.reason = None;
        one.rate_version = None;
        one.conversion = None;
    }
}
