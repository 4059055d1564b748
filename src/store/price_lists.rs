//! Which prices a customer is kept on: a price list, the prices of an earlier moment, or both. Versions
//! are added, never changed: late usage finds the one of its moment.

use super::assets::Asset;
use super::cache_epoch;
use super::price_cache::{Assignment, Assignments};
use super::statement::{Statement, Store, TEXT};
use super::table::{insert, sql};
use crate::errors::Result;
use crate::ledger::Moment;
use crate::ledger::interrupt;
use crate::sql_types::value;

/// More customers than this are not remembered.
const MAX_KEPT: usize = 1000;

static ANY: Statement = Statement {
    sql: "SELECT EXISTS (SELECT 1 FROM credyt.customer_price_lists)",
    args: &[],
};

static OF_CUSTOMER: Statement = Statement {
    sql: sql!(
        "SELECT ",
        Assignment::COLUMNS,
        " FROM credyt.customer_price_lists l
          WHERE l.customer = $1 AND l.asset = $2 ORDER BY l.version DESC"
    ),
    args: &[TEXT, TEXT],
};

/// Who sets one at the same moment makes the version that this one would be: then nothing is added.
static ADD: Statement = insert!(
    "customer_price_lists",
    Assignment,
    " ON CONFLICT DO NOTHING"
);

/// The assignments of a customer; `None` where no customer has any.
pub(super) fn of(store: &Store, asset: &Asset, customer: &str) -> Result<Option<Assignments>> {
    {
        let known = asset.price_lists.borrow();
        if known.any == Some(false) {
            return Ok(None);
        }
        if let Some(found) = known.of.get(customer) {
            return Ok(Some(found.clone()));
        }
    }
    let known = asset.price_lists.borrow().any;
    let any = match known {
        Some(any) => any,
        None => ANY.run(store, &[])?.read_one()?,
    };
    let found = match any {
        true => Some(read(store, customer, &asset.name)?),
        false => None,
    };
    if cache_epoch::current() == asset.cache_epoch && store.sees_latest() {
        let mut known = asset.price_lists.borrow_mut();
        known.any = Some(any);
        if known.of.len() >= MAX_KEPT {
            known.of.clear();
        }
        if let Some(found) = &found {
            known.of.insert(customer.to_owned(), found.clone());
        }
    }
    Ok(found)
}

/// Assigns a customer; the version in force stays where it says the same.
pub fn set(
    store: &Store,
    customer: &str,
    asset: &str,
    price_list: Option<&str>,
    as_of: Option<Moment>,
    now: Moment,
) -> Result<Assignment> {
    loop {
        interrupt::check();
        let latest = read(store, customer, asset)?.first().cloned();
        let same =
            |one: &&Assignment| one.price_list.as_deref() == price_list && one.as_of == as_of;
        if let Some(latest) = latest.as_ref().filter(same) {
            return Ok(latest.clone());
        }
        let new = Assignment {
            customer: customer.to_owned(),
            asset: asset.to_owned(),
            version: latest
                .as_ref()
                .map_or(1, |latest| latest.version.saturating_add(1)),
            price_list: price_list.map(str::to_owned),
            as_of,
            effective_at: latest.map_or(now, |latest| latest.effective_at.max(now)),
        };
        if ADD.run(store, &new.values()?)?.count() > 0 {
            return Ok(new);
        }
    }
}

fn read(store: &Store, customer: &str, asset: &str) -> Result<Assignments> {
    let rows = OF_CUSTOMER.run(store, &[value::text(customer), value::text(asset)])?;
    rows.read_all()
}
