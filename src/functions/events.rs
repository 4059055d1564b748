//! Telling the application: `set_alert`, `set_topup`, `topup_failed`, `take_events`, `ack_events`.

use pgrx::pg_sys;
use rust_decimal::Decimal;

use crate::errors::{self, Result};
use crate::ledger::Amount;
use crate::ledger::watch::TopUp;
use crate::sql_types::{Args, Row, args as arguments, row, value};
use crate::store::wallets::{self, OpenWallet};
use crate::store::{Store, books, events};

pub fn set_alert(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name(0, "customer")?;
    let threshold = args.optional_quantity(1, "threshold")?;
    let asset = args.name(2, "asset")?;
    let threshold = Store::write_for(&customer, |store| {
        let mut open = wallets::open_or_create(store, &customer, &asset)?;
        let threshold = threshold
            .map(|threshold| amount(&open, "threshold", threshold))
            .transpose()?;
        open.wallet.watch.alert = threshold;
        open.write_back(store)?;
        Ok(threshold)
    })?;
    Row::new(vec![
        value::text(&customer),
        value::text(&asset),
        threshold.and_then(value::credits),
    ])
    .datum(args)
}

/// `credyt.alert_rules(state, at)`: the alerts in a state.
pub fn alert_rules(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let wallet = wallets::read_state(args.bytes(0, "state")?)?;
    let balance = wallet.balance(args.moment(1, "at")?);
    let rule = |threshold: Amount| {
        Row::new(vec![
            value::credits(threshold),
            value::credits(balance),
            value::bool(balance <= threshold),
        ])
    };
    row::rows(args, wallet.watch.alert.into_iter().map(rule))
}

/// `credyt.topup_rules(state, at)`: the rule for top-ups in a state.
pub fn topup_rules(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let wallet = wallets::read_state(args.bytes(0, "state")?)?;
    let balance = wallet.balance(args.moment(1, "at")?);
    let rule = |topup: &TopUp| {
        Row::new(vec![
            value::credits(topup.threshold),
            value::credits(topup.credits),
            value::bool(topup.enabled),
            value::credits(balance),
            value::optional_uuid(topup.in_flight),
        ])
    };
    row::rows(args, wallet.watch.topup.iter().map(rule))
}

fn amount(open: &OpenWallet, name: &str, number: Decimal) -> Result<Amount> {
    arguments::amount(name, number, open.asset.scale)
}

pub fn set_topup(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name(0, "customer")?;
    let threshold = args.quantity(1, "threshold")?;
    let credits = args.quantity(2, "credits")?;
    if credits.is_zero() {
        return Err(errors::invalid("credits", "a top-up of zero credits"));
    }
    let asset = args.name(3, "asset")?;
    let enabled = args.bool(4, "enabled")?;
    let open = Store::write_for(&customer, |store| {
        let mut open = wallets::open_or_create(store, &customer, &asset)?;
        let known = open.wallet.watch.topup.take();
        open.wallet.watch.topup = Some(TopUp {
            threshold: amount(&open, "threshold", threshold)?,
            credits: amount(&open, "credits", credits)?,
            enabled,
            // What is asked for already goes on; a rule that is turned off forgets it.
            in_flight: known.and_then(|topup| topup.in_flight).filter(|_| enabled),
        });
        open.write_back(store)?;
        Ok(open)
    })?;
    topup_row(&open).datum(args)
}

pub fn topup_failed(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name(0, "customer")?;
    let event_id = args.uuid(1, "event_id")?;
    let reason = args.text(2, "reason")?;
    let open = Store::write_for(&customer, |store| {
        let missing = || errors::not_found("event", &customer, event_id);
        let asset = events::topup_asset(store, &customer, event_id)?.ok_or_else(missing)?;
        let mut open = wallets::open(store, &customer, &asset)?;
        if let Some(topup) = &mut open.wallet.watch.topup {
            // Another one may be in flight by now.
            topup.in_flight = topup.in_flight.filter(|id| *id != event_id);
        }
        events::fail(store, &customer, event_id, reason.as_deref())?;
        open.write_back(store)?;
        Ok(open)
    })?;
    topup_row(&open).datum(args)
}

/// A `credyt.topup`; without a rule its terms are NULL.
fn topup_row(open: &OpenWallet) -> Row {
    let topup = open.wallet.watch.topup.as_ref();
    Row::new(vec![
        value::text(&open.customer),
        value::text(&open.asset.name),
        topup.and_then(|topup| value::credits(topup.threshold)),
        topup.and_then(|topup| value::credits(topup.credits)),
        value::bool(topup.is_some_and(|topup| topup.enabled)),
        value::optional_uuid(topup.and_then(|topup| topup.in_flight)),
    ])
}

pub fn take_events(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let batch = at_least_one(args, 0, "batch")?;
    let lease_seconds = at_least_one(args, 1, "lease_seconds")?;
    Store::write(|store| {
        let now = books::now(store)?;
        let until = now.plus_seconds(lease_seconds.into()).ok_or_else(|| {
            errors::out_of_range("lease_seconds", "the lease would end beyond the year 9999")
        })?;
        events::take(store, now, batch, until, args)
    })
}

fn at_least_one(args: &Args, at: usize, name: &str) -> Result<i32> {
    match args.int(at, name)? {
        number if number < 1 => Err(errors::invalid(
            name,
            format_args!("{number} is less than 1"),
        )),
        number => Ok(number),
    }
}

pub fn ack_events(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let mut ids = args.uuids(0, "ids")?;
    ids.sort_unstable();
    ids.dedup();
    let done = Store::write(|store| {
        let now = books::now(store)?;
        let done = events::acknowledge(store, now, &ids)?;
        done.map_err(errors::event_not_found)
    })?;
    Row::new(vec![value::int(
        i32::try_from(done).map_err(|_| errors::out_of_range("ids", "too many at once"))?,
    )])
    .datum(args)
}
