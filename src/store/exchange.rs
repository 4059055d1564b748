//! Exchange rates, by version.

use rust_decimal::Decimal;

use super::statement::{Query, Statement, Store, TEXT};
use super::table::{insert, query, table};
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::sql_types::value;

table! {
    /// A rate between two currencies, one after the other.
    pub struct ExchangeRate {
        currency: String as text,
        to_currency: String as text,
        version: i32 as int,
        rate: Decimal as numeric,
        /// `None`: from the beginning.
        effective_at: Option<Moment> as timestamptz,
        created_at: Moment as timestamptz,
    }
}

/// Two who set rates wait for each other, so that versions count up by one.
static LOCK: Statement = Statement {
    sql: "LOCK TABLE credyt.exchange_rates IN SHARE ROW EXCLUSIVE MODE",
    args: &[],
};

static LAST_VERSION: Statement = Statement {
    sql: "SELECT max(r.version) FROM credyt.exchange_rates r WHERE r.currency = $1 AND r.to_currency = $2",
    args: &[TEXT, TEXT],
};

/// An older snapshot does not see the version that another transaction has added.
static ADD: Statement = insert!("exchange_rates", ExchangeRate, " ON CONFLICT DO NOTHING");

query! {
    InForce(currency: text, to_currency: text, at: timestamptz):
    "SELECT r.rate FROM credyt.exchange_rates r
     WHERE r.currency = :currency AND r.to_currency = :to_currency AND (r.effective_at IS NULL OR r.effective_at <= :at)
     ORDER BY r.effective_at DESC NULLS LAST, r.version DESC LIMIT 1"
}

/// Adds a rate. The first one of two currencies holds from the beginning.
pub fn set(
    store: &Store,
    currency: &str,
    to_currency: &str,
    rate: Decimal,
    effective_at: Option<Moment>,
    now: Moment,
) -> Result<ExchangeRate> {
    LOCK.run(store, &[])?;
    let rows = LAST_VERSION.run(store, &[value::text(currency), value::text(to_currency)])?;
    let last: Option<i32> = rows.read_one()?;
    let new = ExchangeRate {
        currency: currency.to_owned(),
        to_currency: to_currency.to_owned(),
        version: last.unwrap_or_default().saturating_add(1),
        rate,
        effective_at: last.map(|_| effective_at.unwrap_or(now)),
        created_at: now,
    };
    match ADD.run(store, &new.values()?)?.count() {
        0 => Err(errors::rates_changed()),
        _ => Ok(new),
    }
}

/// What one of a currency is in another at a moment; `None` where no rate is known.
pub fn rate(
    store: &Store,
    currency: &str,
    to_currency: &str,
    at: Moment,
) -> Result<Option<Decimal>> {
    let query = InForce {
        currency,
        to_currency,
        at,
    };
    query.run(store)?.read_first()
}
