//! What a charge costs the customer, by the price that applies.

use std::rc::Rc;

use rust_decimal::Decimal;
use serde_json::{Map, Value as Json};

use super::costing::Costing;
use super::request::Charge;
use crate::errors::{self, Error, Result};
use crate::ledger::price::{Measure, Price, PriceError};
use crate::ledger::{Amount, Moment};
use crate::store::Store;
use crate::store::assets::Asset;
use crate::store::prices::{self, ApplicablePrices, Version};
use crate::store::wallets::OpenWallet;

/// What a price comes to.
#[derive(Clone, Copy, Debug)]
pub struct PriceResult {
    pub credits: Amount,
    /// The version of the price that says so; `None` where credits were given.
    pub version: Option<i32>,
    /// What had been used in the month, where the price counts it.
    pub month_used: Option<Decimal>,
}

impl Charge {
    /// The credits of the price, rounded to the asset's scale.
    pub fn price(
        &self,
        price: &Price,
        action: &str,
        asset: &Asset,
        costing: &Costing,
        month_used: Option<Decimal>,
    ) -> Result<Amount> {
        self.try_price(price, asset, costing, month_used)
            .map_err(|why| self.priced(why, action, asset, costing))
    }

    /// The same, for a caller who knows what to do without a price.
    pub fn try_price(
        &self,
        price: &Price,
        asset: &Asset,
        costing: &Costing,
        month_used: Option<Decimal>,
    ) -> std::result::Result<Amount, PriceError> {
        let none = Map::new();
        let measure = self.measure(&none, costing, month_used);
        let units = price.credits(&measure, asset.scale, asset.rounding)?;
        Ok(Amount::from_units(units))
    }

    /// The credits of the price and how they came about.
    pub fn explain(
        &self,
        price: &Price,
        action: &str,
        asset: &Asset,
        costing: &Costing,
        month_used: Option<Decimal>,
    ) -> Result<(Amount, Json)> {
        let none = Map::new();
        let measure = self.measure(&none, costing, month_used);
        let quoted = price
            .explain(&measure, asset.scale, asset.rounding)
            .map_err(|why| self.priced(why, action, asset, costing))?;
        Ok((Amount::from_units(quoted.units), quoted.breakdown))
    }

    fn measure<'a>(
        &'a self,
        none: &'a Map<String, Json>,
        costing: &'a Costing,
        month_used: Option<Decimal>,
    ) -> Measure<'a> {
        Measure {
            quantity: self.quantity.unwrap_or(Decimal::ONE),
            used: month_used.unwrap_or_default(),
            dimensions: self.dimensions.as_ref().unwrap_or(none),
            usage: &costing.counts.by_unit,
            usage_is_whole: costing.counts.unread.is_none(),
            cost: costing.cost,
        }
    }

    /// The error for a price that cannot be computed.
    pub fn priced(&self, why: PriceError, action: &str, asset: &Asset, costing: &Costing) -> Error {
        let needs_counts = matches!(why, PriceError::UsageMissing);
        if let (PriceError::UsageMissing | PriceError::CostMissing, Some(unread)) =
            (&why, &costing.counts.unread)
            && (needs_counts || unread.is_invalid)
        {
            return unread.error.clone();
        }
        match (why, &costing.uncosted) {
            (PriceError::UsageMissing, _) => {
                errors::invalid("usage", format_args!("the price of {action} counts it"))
            }
            (PriceError::Invalid(why), _) => errors::invalid("dimensions", why),
            (PriceError::NotFound(why), _) => {
                errors::price_does_not_match(action, &asset.name, why)
            }
            (PriceError::OutOfRange(why), _) => errors::out_of_range("credits", why),
            (PriceError::CostMissing, Some(missing)) => {
                let model = missing.model.as_deref();
                errors::cost_unknown(action, &asset.name, &missing.vendor, model, &missing.why)
            }
            (PriceError::CostMissing, None) => errors::invalid(
                "cost",
                format_args!(
                    "the price of {action} starts from the vendor cost: pass usage, cost or credits"
                ),
            ),
        }
    }
}

/// What an action may cost: what is known before the wallet says what time it is.
pub struct Pricing {
    action: String,
    asset: Rc<Asset>,
    charge: Rc<Charge>,
    costing: Rc<Costing>,
    /// Not asked for where credits are given.
    prices: Option<ApplicablePrices>,
}

impl Pricing {
    pub fn new(
        store: &Store,
        asset: &Rc<Asset>,
        action: &str,
        customer: &str,
        charge: &Rc<Charge>,
        costing: &Rc<Costing>,
    ) -> Result<Pricing> {
        let prices = match charge.credits {
            Some(_) => None,
            None => Some(prices::applicable(store, asset, action, Some(customer))?),
        };
        Ok(Pricing {
            action: action.to_owned(),
            asset: asset.clone(),
            charge: charge.clone(),
            costing: costing.clone(),
            prices,
        })
    }

    /// What it costs in a wallet (`None`: there is none), if it happened at this moment (`None`: now). `None`:
    /// what was used in the month has to be learned first.
    pub fn at(
        &self,
        happened: Option<Moment>,
        now: Moment,
        open: Option<&OpenWallet>,
    ) -> Result<Option<PriceResult>> {
        let Some(prices) = &self.prices else {
            let given = self.charge.given(&self.asset)?;
            return Ok(Some(PriceResult {
                credits: given.unwrap_or_default(),
                version: None,
                month_used: None,
            }));
        };
        let at = happened.unwrap_or(now);
        let (version, price) = in_force(prices.at(at, now), &self.action, &self.asset)?;
        let month_used = match open {
            Some(open) if price.counts_months() => match open.used(&self.action, at)? {
                Some(used) => Some(used),
                None => return Ok(None),
            },
            _ => None,
        };
        let (action, asset) = (&self.action, &self.asset);
        let credits = self
            .charge
            .price(&price, action, asset, &self.costing, month_used)?;
        Ok(Some(PriceResult {
            credits,
            version: Some(version),
            month_used,
        }))
    }

    /// What it costs in a wallet, if it happened at this moment (`None`: now); what was used in the month is
    /// learned.
    pub fn in_wallet(
        &self,
        store: &Store,
        open: &mut OpenWallet,
        happened: Option<Moment>,
    ) -> Result<PriceResult> {
        if let Some(priced) = self.at(happened, open.now, Some(open))? {
            return Ok(priced);
        }
        open.learn_used(store, &self.action, happened.unwrap_or(open.now))?;
        let priced = self.at(happened, open.now, Some(open))?;
        priced.ok_or_else(|| errors::corrupted("a price", "it asks for another month"))
    }

    /// What was used in the month, where the price of now counts it.
    pub fn month_used(&self, store: &Store, open: &mut OpenWallet) -> Result<Option<Decimal>> {
        match self.price_at(open.now)?.counts_months() {
            true => open.learn_used(store, &self.action, open.now).map(Some),
            false => Ok(None),
        }
    }
}

impl Pricing {
    pub fn action(&self) -> &str {
        &self.action
    }

    pub fn asset(&self) -> &Asset {
        &self.asset
    }

    /// The rule in force now, and its version; WC003.
    pub fn rule_at(&self, now: Moment) -> Result<(i32, Rc<Price>)> {
        let version = self.prices.as_ref().and_then(|prices| prices.at(now, now));
        in_force(version, &self.action, &self.asset)
    }

    /// The rule in force now; WC003.
    pub fn price_at(&self, now: Moment) -> Result<Rc<Price>> {
        Ok(self.rule_at(now)?.1)
    }

    pub fn with_measure<A>(
        &self,
        month_used: Option<Decimal>,
        ask: impl FnOnce(&Measure) -> A,
    ) -> A {
        let none = Map::new();
        ask(&self.charge.measure(&none, &self.costing, month_used))
    }

    /// The error for a price that cannot be computed.
    pub fn refused(&self, why: PriceError) -> Error {
        self.charge
            .priced(why, &self.action, &self.asset, &self.costing)
    }
}

/// A version and its rule, or WC003 where there is none or it was withdrawn.
pub fn in_force(version: Option<Version>, action: &str, asset: &Asset) -> Result<(i32, Rc<Price>)> {
    version
        .and_then(|v| v.price.map(|price| (v.version, price)))
        .ok_or_else(|| errors::price_not_found(action, &asset.name))
}
