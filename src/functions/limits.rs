//! Spend limits: `set_limit`, and what the view `limits_used` is made of.

use std::str::FromStr;

use pgrx::pg_sys;

use crate::errors::{self, Result};
use crate::ledger::Limit;
use crate::ledger::limit::{Every, MAX_LIMITS, check_scope};
use crate::sql_types::{Args, Row, args as arguments, row, value};
use crate::store::wallets::{self, read_state};
use crate::store::{Store, limits};

pub fn set_limit(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name(0, "customer")?;
    let scope = args.name(1, "scope")?;
    check_scope(&scope)
        .map_err(|why| errors::invalid("scope", format_args!("{scope:?}: {why}")))?;
    let credits = args.optional_quantity(2, "credits")?;
    let every = read_every(args, 3)?;
    let asset = args.name(4, "asset")?;
    let cap = Store::write_for(&customer, |store| {
        let mut open = wallets::open_or_create(store, &customer, &asset)?;
        let cap = match credits {
            Some(credits) => Some(arguments::amount("credits", credits, open.asset.scale)?),
            None => None,
        };
        // Where the calendar has no such period, it is said now and not to who spends.
        limits::period(&open, every, open.now)?;
        let place = (open.wallet.limits.iter()).position(|l| l.scope == scope && l.every == every);
        if let Some(at) = place {
            open.wallet.limits.remove(at);
        }
        if let Some(cap) = cap {
            if open.wallet.limits.len() >= MAX_LIMITS {
                return Err(errors::invalid(
                    "scope",
                    format_args!("the wallet has {MAX_LIMITS} limits already"),
                ));
            }
            let limit = Limit::new(&scope, every, cap);
            let at = place.unwrap_or(open.wallet.limits.len());
            open.wallet.limits.insert(at, limit);
        }
        limits::recount(store, &mut open, &scope, every)?;
        open.write_back(store)?;
        Ok(cap)
    })?;
    Row::new(vec![
        value::text(&customer),
        value::text(&asset),
        value::text(&scope),
        value::text(every.as_str()),
        cap.and_then(value::credits),
    ])
    .datum(args)
}

fn read_every(args: &Args, at: usize) -> Result<Every> {
    let text = args.name(at, "every")?;
    Every::from_str(&text).map_err(|_| {
        errors::invalid(
            "every",
            format_args!("{text:?} is none of hour, day, week, month"),
        )
    })
}

/// `credyt.limits(wallet)`: the limits in a state.
pub fn limits_of(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let wallet = read_state(args.bytes(0, "wallet")?)?;
    let limit = |limit: &Limit| {
        Row::new(vec![
            value::text(&limit.scope),
            value::text(limit.every.as_str()),
            value::credits(limit.cap),
        ])
    };
    row::rows(args, wallet.limits.iter().map(limit))
}

/// `credyt.limit_counts(wallet)`: what is counted under them in the state.
pub fn limit_counts(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let wallet = read_state(args.bytes(0, "wallet")?)?;
    let counts = wallet.limits.iter().flat_map(|limit| {
        limit.counts.iter().map(|count| {
            Row::new(vec![
                value::text(&count.scope),
                value::text(limit.every.as_str()),
                value::moment(count.since),
                value::credits(count.credits),
            ])
        })
    });
    row::rows(args, counts)
}

/// `credyt.limit_period(every, timezone, at)`: the period that a moment lies in.
pub fn limit_period(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let every = read_every(args, 0)?;
    let zone = args.name(1, "timezone")?;
    let at = args.moment(2, "at")?;
    let period = every.period(&zone, at).ok_or_else(|| {
        errors::invalid(
            "timezone",
            format_args!("no {every} of {zone:?} is known around {at}"),
        )
    })?;
    Row::new(vec![value::moment(period.start), value::moment(period.end)]).datum(args)
}
