//! As much as can be paid: `vary` of `authorize`, and `affordable`.

use std::rc::Rc;

use pgrx::pg_sys;
use rust_decimal::Decimal;

use super::costing::Costing;
use super::pricing::Pricing;
use super::request::{self, Charge, Field};
use crate::errors::{self, Result};
use crate::ledger::limit::missing_scope;
use crate::ledger::number::{MEASURED_DECIMALS, json_decimal};
use crate::ledger::price::{Affordable, Largest, Search};
use crate::ledger::{Amount, Moment};
use crate::sql_types::{Args, row, value};
use crate::store::limits::LimitCheck;
use crate::store::wallets::{self, OpenWallet, WalletView};
use crate::store::{Store, assets};

/// What of a call varies: `quantity` or a metered dimension, in which steps and from what amount on.
pub struct VaryRequest {
    pub what: String,
    pub step: Decimal,
    at_least: Option<Decimal>,
}

impl VaryRequest {
    /// Reads vary, step and at_least, which stand side by side; `None` without vary.
    pub fn read(args: &Args, charge: &Charge) -> Result<Option<VaryRequest>> {
        let what = args.optional_name("vary")?;
        let step = read_step(args)?;
        let at_least = args.optional_measure("at_least", MEASURED_DECIMALS)?;
        if what.is_some() && charge.credits.is_some() {
            return Err(errors::invalid(
                "vary",
                "credits are given instead of a price",
            ));
        }
        Ok(what.map(|what| VaryRequest {
            what,
            step,
            at_least,
        }))
    }

    /// The amount that is asked for.
    pub fn asked(&self, charge: &Charge, costing: &Costing) -> Result<Decimal> {
        let told = charge.dimensions.as_ref().and_then(|d| d.get(&self.what));
        let asked = match (self.what.as_str(), told) {
            ("quantity", _) => charge.quantity,
            (_, Some(told)) => Some(json_decimal(told).map_err(|why| {
                errors::invalid("dimensions", format_args!("{}: {why}", self.what))
            })?),
            (what, None) => costing.counts.by_unit.get(what).copied(),
        };
        asked.filter(|asked| *asked > Decimal::ZERO).ok_or_else(|| {
            errors::invalid(
                "vary",
                format_args!("no amount of {} is asked for", self.what),
            )
        })
    }

    /// What is searched when this amount is asked for and this may be spent.
    pub fn search(&self, asked: Decimal, budget: Budget) -> Search {
        Search {
            step: self.step,
            at_least: self.at_least.unwrap_or(self.step),
            at_most: Some(asked),
            budget: budget.least().units(),
        }
    }

    /// What is compared of it.
    pub fn fields(&self) -> [Field; 3] {
        [
            ("vary", Some(self.what.clone())),
            request::number("step", Some(self.step)),
            request::number("at_least", self.at_least),
        ]
    }
}

fn read_step(args: &Args) -> Result<Decimal> {
    let step = args.measure("step", MEASURED_DECIMALS)?;
    if step.is_zero() {
        return Err(errors::invalid("step", "it is zero"));
    }
    Ok(step)
}

/// What may be spent on an action.
#[derive(Clone, Copy)]
pub struct Budget {
    /// What the grants for it and the overdraft can pay.
    pub available: Amount,
    /// What its limits leave; `None`: it has none.
    room: Option<Amount>,
}

impl Budget {
    pub const NOTHING: Budget = Budget {
        available: Amount::ZERO,
        room: None,
    };

    pub fn of(open: &OpenWallet, action: &str, limit_check: &LimitCheck) -> Budget {
        Budget {
            available: open.wallet.available(open.now, Some(action), open.limit),
            room: limit_check.room(),
        }
    }

    /// As if no limit counted the action.
    pub fn without_limits(self) -> Budget {
        Budget { room: None, ..self }
    }

    fn least(self) -> Amount {
        self.room
            .map_or(self.available, |room| room.min(self.available))
    }

    /// Whether a limit leaves less than the wallet.
    pub fn is_limited(self) -> bool {
        self.room.is_some_and(|room| room < self.available)
    }
}

pub fn affordable(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let action = args.name("action")?;
    let what = args.name("vary")?;
    let dimensions = args.object("dimensions")?;
    let step = read_step(args)?;
    let asset_name = args.name("asset")?;
    let scopes = args.names("scopes")?;
    let charge = Rc::new(Charge {
        quantity: Some(Decimal::ONE),
        dimensions: Some(dimensions),
        ..Charge::default()
    });
    let (found, budget, limited) = Store::read(|store| {
        let asset = assets::asset(store, &asset_name)?;
        let costing = Rc::new(Costing::default());
        let pricing = Pricing::new(store, &asset, &action, &customer, &charge, &costing)?;
        let view = wallets::look(store, &customer, &asset_name, None)?;
        let mut open = view.map(WalletView::into_open);
        let month_used = match &mut open {
            Some(open) => pricing.month_used(store, open)?,
            None => None,
        };
        let now = open
            .as_ref()
            .map_or_else(|| assets::statement_now(store), |open| Ok(open.now))?;
        let scopes = scopes.as_deref().unwrap_or_default();
        let (budget, spends, limited) = match &open {
            Some(open) => {
                let limit_check = LimitCheck::of(store, open, &action, Some(scopes), None)?;
                let refused = limit_check.refuses_calls()
                    || missing_scope(&open.wallet.limits, scopes).is_some();
                let budget = Budget::of(open, &action, &limit_check);
                let limited = refused || budget.is_limited();
                (budget, open.active().is_ok() && !refused, limited)
            }
            None => (Budget::NOTHING, false, false),
        };
        let search = Search {
            step,
            at_least: step,
            at_most: None,
            budget: budget.least().units(),
        };
        pricing.check_vary(&what, now)?;
        let found = pricing.largest(&what, &search, now, month_used)?;
        Ok((Some(found).filter(|_| spends), budget, limited))
    })?;
    let (amount, units) = match found {
        Some(Largest::Found(Affordable { amount, units })) => (amount, units),
        Some(Largest::None { .. }) | None => (Some(Decimal::ZERO), 0),
    };
    let bound = match amount {
        None => "none",
        Some(_) if limited => "limit",
        Some(_) => "balance",
    };
    row! {
        amount: amount.and_then(value::decimal),
        credits: value::credits(Amount::from_units(units)),
        available: value::credits(budget.available),
        bound: value::text(bound),
    }
    .datum(args)
}

impl Charge {
    /// The same call with another amount of what varies.
    pub fn with(&self, what: &str, amount: Decimal) -> Charge {
        let mut charge = self.clone();
        match what {
            "quantity" => charge.quantity = Some(amount),
            what => {
                let text = crate::ledger::number::plain(amount);
                let number = text
                    .parse()
                    .map_or(serde_json::Value::Null, serde_json::Value::Number);
                charge
                    .dimensions
                    .get_or_insert_default()
                    .insert(what.to_owned(), number);
            }
        }
        charge
    }
}

impl Pricing {
    /// The largest amount of what varies that can be paid now.
    pub fn largest(
        &self,
        what: &str,
        search: &Search,
        now: Moment,
        month_used: Option<Decimal>,
    ) -> Result<Largest> {
        let (price, asset) = (self.price_at(now)?, self.asset());
        self.with_measure(month_used, |measure| {
            price.affordable(what.into(), measure, search, asset.scale, asset.rounding)
        })
        .map_err(|why| self.refused(why))
    }

    /// 22023 where the price does not read what varies.
    pub fn check_vary(&self, what: &str, now: Moment) -> Result<()> {
        let price = self.price_at(now)?;
        let reads = self.with_measure(None, |measure| price.reads(what.into(), measure));
        if reads.map_err(|why| self.refused(why))? {
            return Ok(());
        }
        Err(errors::invalid(
            "vary",
            format_args!("the price of {} does not read {what}", self.action()),
        ))
    }
}
