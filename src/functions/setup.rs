//! Assets and prices: `create_asset`, `set_price`, `set_price_list`, `quote`.

use std::str::FromStr;

use pgrx::pg_sys;
use serde_json::Value as Json;

use super::costing::Costing;
use super::exchange::check_currency;
use super::pricing::in_force;
use super::request::{Charge, read_cost};
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::ledger::amount::DECIMALS;
use crate::ledger::number::MEASURED_DECIMALS;
use crate::ledger::price::{Price, Rounding};
use crate::sql_types::{Args, row, value};
use crate::store::Store;
use crate::store::assets::{self, Definition};
use crate::store::price_lists;
use crate::store::prices::{self, NewPrice};
use crate::store::wallets::{self, WalletView};

pub fn create_asset(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let mut new = Definition {
        asset: args.name("asset")?,
        scale: args.int("scale")?,
        rounding: args.name("rounding")?,
        currency: args.name("currency")?,
        timezone: args.name("timezone")?,
        created_at: Moment(0),
    };
    if !(0..=DECIMALS as i32).contains(&new.scale) {
        return Err(errors::invalid(
            "scale",
            format_args!("{} is not between 0 and {DECIMALS}", new.scale),
        ));
    }
    Rounding::from_str(&new.rounding).map_err(|why| errors::invalid("rounding", why))?;
    check_currency("currency", &new.currency)?;
    let known = Store::write(|store| {
        if !assets::is_timezone(&new.timezone) {
            return Err(errors::invalid(
                "timezone",
                format_args!("{:?} is not in pg_timezone_names", new.timezone),
            ));
        }
        new.created_at = assets::now(store)?;
        assets::create(store, &new)?;
        assets::definition(store, &new.asset)?.ok_or_else(|| errors::asset_not_found(&new.asset))
    })?;
    if !known.is_same(&new) {
        return Err(errors::asset_differs(&new.asset));
    }
    row! {
        asset: value::text(&known.asset),
        scale: value::int(known.scale),
        rounding: value::text(&known.rounding),
        currency: value::text(&known.currency),
        timezone: value::text(&known.timezone),
        created_at: value::moment(known.created_at),
    }
    .datum(args)
}

pub fn set_price(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let action = args.name("action")?;
    let rule = args.optional_json("price")?.ok_or_else(|| {
        errors::invalid(
            "price",
            "it may not be NULL; the JSON value null withdraws a price",
        )
    })?;
    let asset = args.name("asset")?;
    let customer = args.optional_name("customer")?;
    let effective_at = args.optional_moment("effective_at")?;
    let price_list = args.optional_name("price_list")?;
    if customer.is_some() && price_list.is_some() {
        return Err(errors::invalid(
            "price_list",
            "a price is one customer's own, or a list's, not both",
        ));
    }
    if rule != Json::Null {
        Price::parse(&rule).map_err(|why| errors::invalid("price", why))?;
    }
    let new = Store::write(|store| {
        assets::lock(store, &asset)?;
        let now = assets::now(store)?;
        let from = effective_at.unwrap_or(now);
        if from < now {
            return Err(errors::invalid(
                "effective_at",
                format_args!("{from} is in the past: a price takes effect now or later"),
            ));
        }
        let new = NewPrice {
            version: prices::next_version(store, &asset, &action)?,
            asset,
            action,
            customer,
            price_list,
            price: rule,
            effective_at: from,
            created_at: now,
        };
        prices::set(store, &new)?;
        Ok(new)
    })?;
    new.into_row()?.datum(args)
}

pub fn set_price_list(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let price_list = args.optional_name("price_list")?;
    let as_of = args.optional_moment("as_of")?;
    let asset = args.name("asset")?;
    let set = Store::write(|store| {
        assets::asset(store, &asset)?;
        let now = assets::now(store)?;
        if let Some(as_of) = as_of.filter(|as_of| *as_of > now) {
            return Err(errors::invalid(
                "as_of",
                format_args!("{as_of} is in the future"),
            ));
        }
        price_lists::set(store, &customer, &asset, price_list.as_deref(), as_of, now)
    })?;
    set.into_row()?.datum(args)
}

pub fn quote(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let action = args.name("action")?;
    let quantity = args.measure("quantity", MEASURED_DECIMALS)?;
    let asset = args.name("asset")?;
    let customer = args.optional_name("customer")?;
    let charge = Charge::read_quote(args)?;
    let at = args.optional_moment("at")?;
    let (credits, version, breakdown) = Store::read(|store| {
        let asset = assets::asset(store, &asset)?;
        let prices = prices::applicable(store, &asset, &action, customer.as_deref())?;
        let now = assets::now(store)?;
        let at = at.unwrap_or(now);
        let (version, price) = in_force(prices.at(at, now), &action, &asset)?;
        let costing = Costing::of(store, &asset, &charge, at)?;
        costing.counts.check()?;
        let month_used = match (&customer, price.counts_months()) {
            (Some(customer), true) => match wallets::look(store, customer, &asset.name, None)?
                .map(WalletView::into_open)
            {
                Some(mut open) => Some(open.learn_used(store, &action, at)?),
                None => None,
            },
            _ => None,
        };
        let (credits, breakdown) = charge.explain(&price, &action, &asset, &costing, month_used)?;
        Ok((credits, version, breakdown))
    })?;
    row! {
        action: value::text(&action),
        quantity: value::decimal(quantity),
        asset: value::text(&asset),
        credits: value::credits(credits),
        price_version: value::int(version),
        breakdown: value::json("breakdown", &breakdown)?,
    }
    .datum(args)
}

impl Charge {
    /// The arguments of `quote`: what is priced is spread over the list.
    fn read_quote(args: &Args) -> Result<Charge> {
        let quantity = args.optional_measure("quantity", MEASURED_DECIMALS)?;
        let dimensions = Some(args.object("dimensions")?);
        Charge::checked(Charge {
            quantity,
            dimensions,
            usage: args.optional_json("usage")?,
            used: Vec::new(),
            cost: read_cost(args)?,
            credits: None,
        })
    }
}
