//! Spend limits: `set_limit`, and what the view `limits_used` is made of.

use std::str::FromStr;

use pgrx::pg_sys;
use rust_decimal::Decimal;

use crate::errors::{self, Result};
use crate::ledger::limit::{Counts, Every, MAX_LIMITS, check_scope};
use crate::ledger::{Amount, Limit};
use crate::sql_types::{Args, args as arguments, row, value};
use crate::store::limits::Terms;
use crate::store::wallets::{self, OpenWallet, read_state};
use crate::store::{Store, limits};

/// The decimals of `warn_at`.
const SHARE_DECIMALS: u32 = 10;

pub fn set_limit(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let scope = args.name("scope")?;
    check_scope(&scope)
        .map_err(|why| errors::invalid("scope", format_args!("{scope:?}: {why}")))?;
    let cap = args.optional_quantity("cap")?;
    let every = read_every(args)?;
    let asset = args.name("asset")?;
    let counts = read_counts(args)?;
    let warn_at = read_share(args)?;
    let required = args.bool("required")?;
    if required && Limit::each_of(&scope).is_none() {
        return Err(errors::invalid(
            "required",
            format_args!("a call can be required to name one of user:* or key:*, not {scope}"),
        ));
    }
    let cap = Store::write(|store| {
        let mut open = wallets::open_or_create(store, &customer, &asset)?;
        let cap = cap.map(|cap| read_cap(&open, counts, cap)).transpose()?;
        let terms = cap.map(|cap| Terms {
            cap,
            warn_at,
            required,
        });
        limits::set(store, &mut open, &scope, every, counts, terms)?;
        if open.wallet.limits.len() > MAX_LIMITS {
            return Err(errors::invalid(
                "scope",
                format_args!("the wallet has {MAX_LIMITS} limits already"),
            ));
        }
        open.write_back(store)?;
        Ok(cap)
    })?;
    row! {
        customer: value::text(&customer),
        asset: value::text(&asset),
        scope: value::text(&scope),
        every: value::text(&every.to_string()),
        counts: value::text(counts.as_str()),
        cap: cap.and_then(value::credits),
        warn_at: value::credits(warn_at),
        required: value::bool(required),
    }
    .datum(args)
}

fn read_cap(open: &OpenWallet, counts: Counts, cap: Decimal) -> Result<Amount> {
    match counts {
        Counts::Credits => arguments::amount("cap", cap, open.asset.scale),
        Counts::Calls => arguments::amount("cap", cap, 0),
    }
}

fn read_every(args: &Args) -> Result<Every> {
    let text = args.name("every")?;
    Every::from_str(&text).map_err(|why| errors::invalid_every(&text, why))
}

fn read_counts(args: &Args) -> Result<Counts> {
    let text = args.name("counts")?;
    Counts::from_str(&text)
        .map_err(|()| errors::invalid("counts", format_args!("{text:?} is none of credits, calls")))
}

/// A share of the cap: more than 0, at most 1.
fn read_share(args: &Args) -> Result<Amount> {
    let share = args.measure("warn_at", SHARE_DECIMALS)?;
    if share.is_zero() || share > Decimal::ONE {
        return Err(errors::invalid(
            "warn_at",
            format_args!("{share} is not above 0 and at most 1"),
        ));
    }
    arguments::amount("warn_at", share, SHARE_DECIMALS)
}

/// `credyt.limits(wallet)`: the limits in a state.
pub fn limits_of(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let wallet = read_state(args.bytes("wallet")?)?;
    let limit = |limit: &Limit| {
        row! {
            scope: value::text(&limit.scope),
            every: value::text(&limit.every.to_string()),
            counts: value::text(limit.counts.as_str()),
            cap: value::credits(limit.cap),
            warn_at: value::credits(limit.warn_at),
            required: value::bool(limit.required),
            start: value::optional_moment(limit.start.map(|start| start.at)),
        }
    };
    row::rows(args, wallet.limits.iter().map(limit))
}

/// `credyt.limit_counts(wallet)`: what is counted under them in the state.
pub fn limit_counts(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let wallet = read_state(args.bytes("wallet")?)?;
    let counts = wallet.limits.iter().flat_map(|limit| {
        limit.uses.iter().filter(|one| !one.unopened).map(|one| {
            row! {
                scope: value::text(&one.scope),
                every: value::text(&limit.every.to_string()),
                counts: value::text(limit.counts.as_str()),
                period_start: value::moment(one.since),
                after: value::bigint(one.after as i64),
                used: value::credits(one.used),
            }
        })
    });
    row::rows(args, counts)
}

/// `credyt.limit_period(every, timezone, at)`: the period that a moment lies in.
pub fn limit_period(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let every = read_every(args)?;
    let zone = args.name("timezone")?;
    let at = args.moment("at")?;
    let period = every.period(&zone, at).ok_or_else(|| {
        errors::invalid(
            "timezone",
            format_args!("no {every} of {zone:?} is known around {at}"),
        )
    })?;
    row! {
        period_start: value::moment(period.start),
        period_end: value::optional_moment(period.end),
    }
    .datum(args)
}
