//! Exchange rates, by version.

use rust_decimal::Decimal;

use super::statement::{NUMERIC, Statement, Store, TEXT, TIME};
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::sql_types::value;

/// Two who set rates wait for each other, so that versions count up by one.
static LOCK: Statement = Statement {
    sql: "LOCK TABLE credyt.exchange_rates IN SHARE ROW EXCLUSIVE MODE",
    args: &[],
};

/// The first rate of two currencies holds from the beginning: its effective_at is NULL.
static ADD: Statement = Statement {
    sql: "INSERT INTO credyt.exchange_rates (currency, to_currency, version, rate, effective_at, created_at)
          SELECT $1, $2, coalesce(max(r.version), 0) + 1, $3, CASE WHEN count(*) > 0 THEN $4 END, $5
          FROM credyt.exchange_rates r WHERE r.currency = $1 AND r.to_currency = $2
          ON CONFLICT DO NOTHING
          RETURNING version, effective_at",
    args: &[TEXT, TEXT, NUMERIC, TIME, TIME],
};

static IN_FORCE: Statement = Statement {
    sql: "SELECT r.rate FROM credyt.exchange_rates r
          WHERE r.currency = $1 AND r.to_currency = $2 AND (r.effective_at IS NULL OR r.effective_at <= $3)
          ORDER BY r.effective_at DESC NULLS LAST, r.version DESC LIMIT 1",
    args: &[TEXT, TEXT, TIME],
};

/// A rate between two currencies, one after the other.
pub struct NewRate<'a> {
    pub currency: &'a str,
    pub to_currency: &'a str,
    pub rate: Decimal,
    pub effective_at: Option<Moment>,
}

/// Adds a rate: the version it became, and from when it counts (`None`: from the beginning).
pub fn set(store: &Store, new: &NewRate, now: Moment) -> Result<(i32, Option<Moment>)> {
    LOCK.run(store, &[])?;
    let args = [
        value::text(new.currency),
        value::text(new.to_currency),
        value::decimal(new.rate),
        value::moment(new.effective_at.unwrap_or(now)),
        value::moment(now),
    ];
    let rows = ADD.run(store, &args)?;
    // An older snapshot does not see the version that another transaction has added.
    rows.read_first()?.ok_or_else(errors::rates_changed)
}

/// What one of a currency is in another at a moment; `None` where no rate is known.
pub fn rate(
    store: &Store,
    currency: &str,
    to_currency: &str,
    at: Moment,
) -> Result<Option<Decimal>> {
    let args = [
        value::text(currency),
        value::text(to_currency),
        value::moment(at),
    ];
    let rows = IN_FORCE.run(store, &args)?;
    rows.read_first()
}
