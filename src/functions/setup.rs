//! Assets and prices: `create_asset`, `set_price`, `set_price_list`, `quote`.

use std::str::FromStr;

use pgrx::pg_sys;
use serde_json::Value as Json;

use super::costing::Costing;
use super::exchange::check_currency;
use super::pricing::in_force;
use super::request::{Charge, read_cost};
use crate::errors::{self, Result};
use crate::ledger::amount::DECIMALS;
use crate::ledger::number::MEASURED_DECIMALS;
use crate::ledger::price::{Price, Rounding};
use crate::sql_types::{Args, Row, value};
use crate::store::Store;
use crate::store::books::{self, Definition};
use crate::store::price_lists;
use crate::store::prices::{self, NewPrice};
use crate::store::wallets::{self, WalletView};

pub fn create_asset(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let new = Definition {
        asset: args.name(0, "asset")?,
        scale: args.int(1, "scale")?,
        rounding: args.name(2, "rounding")?,
        currency: args.name(3, "currency")?,
        timezone: args.name(4, "timezone")?,
    };
    if !(0..=DECIMALS as i32).contains(&new.scale) {
        return Err(errors::invalid(
            "scale",
            format_args!("{} is not between 0 and {DECIMALS}", new.scale),
        ));
    }
    Rounding::from_str(&new.rounding).map_err(|why| errors::invalid("rounding", why))?;
    check_currency("currency", &new.currency)?;
    let (known, created_at) = Store::write(|store| {
        if !books::is_timezone(&new.timezone) {
            return Err(errors::invalid(
                "timezone",
                format_args!("{:?} is not in pg_timezone_names", new.timezone),
            ));
        }
        books::create(store, &new, books::now(store)?)?;
        books::definition(store, &new.asset)?.ok_or_else(|| errors::asset_not_found(&new.asset))
    })?;
    if known != new {
        return Err(errors::asset_differs(&new.asset));
    }
    Row::new(vec![
        value::text(&known.asset),
        value::int(known.scale),
        value::text(&known.rounding),
        value::text(&known.currency),
        value::text(&known.timezone),
        value::moment(created_at),
    ])
    .datum(args)
}

pub fn set_price(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let action = args.name(0, "action")?;
    let rule = args.optional_json(1, "price")?.ok_or_else(|| {
        errors::invalid(
            "price",
            "it may not be NULL; the JSON value null withdraws a price",
        )
    })?;
    let asset = args.name(2, "asset")?;
    let customer = args.optional_name(3, "customer")?;
    let effective_at = args.optional_moment(4, "effective_at")?;
    let price_list = args.optional_name(5, "price_list")?;
    if customer.is_some() && price_list.is_some() {
        return Err(errors::invalid(
            "price_list",
            "a price is one customer's own, or a list's, not both",
        ));
    }
    if rule != Json::Null {
        Price::parse(&rule).map_err(|why| errors::invalid("price", why))?;
    }
    let (version, effective_at, now) = Store::write(|store| {
        books::lock(store, &asset)?;
        let now = books::now(store)?;
        let from = effective_at.unwrap_or(now);
        if from < now {
            return Err(errors::invalid(
                "effective_at",
                format_args!("{from} is in the past: a price takes effect now or later"),
            ));
        }
        let new = NewPrice {
            asset: &asset,
            action: &action,
            customer: customer.as_deref(),
            price_list: price_list.as_deref(),
            price: &rule,
            effective_at: from,
        };
        Ok((prices::set(store, &new, now)?, from, now))
    })?;
    Row::new(vec![
        value::text(&asset),
        value::text(&action),
        value::int(version),
        value::optional_text(customer.as_deref()),
        value::optional_text(price_list.as_deref()),
        value::json("price", &rule)?,
        value::moment(effective_at),
        value::moment(now),
    ])
    .datum(args)
}

pub fn set_price_list(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name(0, "customer")?;
    let price_list = args.optional_name(1, "price_list")?;
    let as_of = args.optional_moment(2, "as_of")?;
    let asset = args.name(3, "asset")?;
    let set = Store::write(|store| {
        books::asset(store, &asset)?;
        let now = books::now(store)?;
        if let Some(as_of) = as_of.filter(|as_of| *as_of > now) {
            return Err(errors::invalid(
                "as_of",
                format_args!("{as_of} is in the future"),
            ));
        }
        price_lists::set(store, &customer, &asset, price_list.as_deref(), as_of, now)
    })?;
    Row::new(vec![
        value::text(&customer),
        value::text(&asset),
        value::int(set.version),
        value::optional_text(set.price_list.as_deref()),
        value::optional_moment(set.as_of),
        value::moment(set.effective_at),
    ])
    .datum(args)
}

pub fn quote(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let action = args.name(0, "action")?;
    let quantity = args.measure(1, "quantity", MEASURED_DECIMALS)?;
    let asset = args.name(3, "asset")?;
    let customer = args.optional_name(4, "customer")?;
    let charge = Charge::read_quote(args)?;
    let at = args.optional_moment(7, "at")?;
    let (credits, version, breakdown) = Store::read(|store| {
        let asset = books::asset(store, &asset)?;
        let prices = prices::applicable(store, &asset, &action, customer.as_deref())?;
        let now = books::now(store)?;
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
    Row::new(vec![
        value::text(&action),
        value::decimal(quantity),
        value::text(&asset),
        value::credits(credits),
        value::int(version),
        value::json("breakdown", &breakdown)?,
    ])
    .datum(args)
}

impl Charge {
    /// The arguments of `quote`: what is priced is spread over the list.
    fn read_quote(args: &Args) -> Result<Charge> {
        let quantity = args.optional_measure(1, "quantity", MEASURED_DECIMALS)?;
        let dimensions = Some(args.object(2, "dimensions")?);
        Charge::checked(Charge {
            quantity,
            dimensions,
            usage: args.optional_json(5, "usage")?,
            used: Vec::new(),
            cost: read_cost(args, 6)?,
            credits: None,
        })
    }
}
