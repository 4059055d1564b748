//! The books: `close_period`, `deferred_revenue_at`, `revenue_rollforward`.

use pgrx::{PgMemoryContexts, pg_sys};

use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::sql_types::{Args, row};
use crate::store::{Store, assets, periods, wallets};

/// Wallets that are written back before what they took of memory is given back.
const BATCH: usize = 500;

pub fn close_period(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let through = args.moment("through")?;
    let asset = args.name("asset")?;
    let now = Store::write(|store| {
        assets::asset(store, &asset)?;
        let now = assets::now(store)?;
        if through > now {
            let why = format_args!("{through} is in the future");
            return Err(errors::invalid("through", why));
        }
        Ok(now)
    })?;
    let (last, closed, customers) = Store::write(|store| {
        let last = periods::lock(store, &asset)?;
        let closed = periods::closed(store, &asset, through)?;
        match last {
            _ if closed.is_some() => Ok((last, closed, Vec::new())),
            Some(last) if through < last => Err(errors::invalid(
                "through",
                format_args!("{asset} is closed through {last} already"),
            )),
            _ => Ok((last, None, periods::customers(store, &asset)?)),
        }
    })?;
    if let Some(closed) = closed {
        return closed.into_row()?.datum(args);
    }
    let mut closed_at = now;
    for customers in customers.chunks(BATCH) {
        // SAFETY: nothing that is made in this context is used after it.
        let done = unsafe {
            PgMemoryContexts::new("credyt close_period")
                .switch_to(|_| write_back(customers, &asset, through))
        };
        closed_at = closed_at.max(done?);
    }
    let period = Store::write(|store| periods::keep(store, &asset, last, through, closed_at))?;
    period.into_row()?.datum(args)
}

/// Locks these wallets, books what has fallen due, and lets none of them go back before `through`.
/// Returns the latest time among them.
fn write_back(customers: &[String], asset: &str, through: Moment) -> Result<Moment> {
    let mut latest = through;
    for customer in customers {
        Store::write(|store| {
            let mut open = wallets::open(store, customer, asset)?;
            // The clock may have been set back since it was asked.
            open.now = open.now.max(through);
            latest = latest.max(open.now);
            open.write_back(store)
        })
        .map_err(|error| error.about(vec![("customer", customer.clone())]))?;
    }
    Ok(latest)
}

pub fn deferred_revenue_at(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let at = args.moment("at")?;
    let asset = args.optional_name("asset")?;
    let deferred = Store::read(|store| {
        if at > assets::now(store)? {
            return Err(errors::invalid("at", format_args!("{at} is in the future")));
        }
        periods::deferred_at(store, at, asset.as_deref())
    })?;
    row::try_rows(args, deferred.into_iter().map(|row| row.into_row()))
}

pub fn revenue_rollforward(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let since = args.optional_moment("since")?;
    let until = args.optional_moment("until")?;
    let asset = args.optional_name("asset")?;
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        let why = format_args!("{until} is before since, {since}");
        return Err(errors::invalid("until", why));
    }
    let rows = Store::read(|store| periods::rollforward(store, since, until, asset.as_deref()))?;
    row::try_rows(args, rows.into_iter().map(|row| row.into_row()))
}
