//! The price book, with its rules compiled once in each backend, cache epoch by cache epoch.

use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value as Json;

use super::assets::Asset;
use super::books::{self, Book, Is};
use super::cache_epoch;
pub use super::price_cache::Version;
use super::price_cache::{Assignment, PriceBook, Versions};
use super::price_lists;
use super::statement::{FromRow, Query, Reader, Statement, Store, TEXT};
use super::table::{insert, query, sql, table};
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::ledger::price::Price;
use crate::ledger::price::book::Layers;
use crate::sql_types::value;

/// More customers' own prices of an action, or actions of an asset, are not kept compiled.
const MAX_KEPT: usize = 1000;

/// The prices of an action that may apply to a customer, whenever it is.
#[derive(Clone)]
pub struct ApplicablePrices {
    own: Option<Versions>,
    /// What the customer is kept on, the latest first.
    kept: Vec<ListPrices>,
    for_all: Versions,
}

/// An assignment of the customer, and the prices of its list.
#[derive(Clone)]
struct ListPrices {
    assignment: Assignment,
    list: Option<Versions>,
}

impl ApplicablePrices {
    /// What counts at a moment: the customer's own price, or else that of his price list, or else that for
    /// all; the latter two as they were at the moment that he is kept on. `now`: the first price that has
    /// taken effect by then holds from the beginning.
    pub fn at(&self, at: Moment, now: Moment) -> Option<Version> {
        let in_force = |kept: &&ListPrices| kept.assignment.effective_at <= at;
        let kept = self.kept.iter().find(in_force);
        let layers = Layers {
            own: self.own.as_deref().unwrap_or_default(),
            list: kept
                .and_then(|kept| kept.list.as_deref())
                .unwrap_or_default(),
            for_all: &self.for_all,
            as_of: kept.and_then(|kept| kept.assignment.as_of),
        };
        layers.at(at, now).cloned()
    }
}

table! {
    struct VersionRow {
        version: i32 as int,
        effective_at: Moment as timestamptz,
        /// JSON null: withdrawn.
        price: Json as jsonb,
    }
}

table! {
    /// A price for all, or none where there is none; and whether any customer has prices of his own.
    struct ForAllRow {
        has_own: bool as boolean,
        version: Option<i32> as int,
        effective_at: Option<Moment> as timestamptz,
        price: Option<Json> as jsonb,
    }
}

static FOR_ALL: Statement = Statement {
    sql: sql!(
        "SELECT ",
        ForAllRow::COLUMNS,
        " FROM (SELECT EXISTS (SELECT 1 FROM credyt.prices o
                               WHERE o.asset = $1 AND o.action = $2 AND o.customer IS NOT NULL) AS has_own) o
          LEFT JOIN credyt.prices p
              ON p.asset = $1 AND p.action = $2 AND p.customer IS NULL AND p.price_list IS NULL
          ORDER BY p.effective_at DESC, p.version DESC"
    ),
    args: &[TEXT, TEXT],
};

static BOOK: Book = Book {
    name: c"prices",
    wanted: VersionRow::DECLARED,
    searched: &["asset", "action", "customer", "price_list"],
    index: Some(c"prices_customer"),
};

macro_rules! versions {
    ($condition:literal) => {
        sql!(
            "SELECT ",
            VersionRow::COLUMNS,
            " FROM credyt.prices p WHERE p.asset = :asset AND p.action = :action AND ",
            $condition,
            " ORDER BY p.effective_at DESC, p.version DESC"
        )
    };
}

query! {
    Listed(asset: text, action: text, price_list: text):
    versions!("p.customer IS NULL AND p.price_list = :price_list")
}

query! {
    Own(asset: text, action: text, customer: text):
    versions!("p.customer = :customer")
}

query! {
    OneVersion(asset: text, action: text, version: int):
    versions!("p.version = :version")
}

table! {
    /// A price that is set: for one customer, for those on a price list, or for all.
    pub struct NewPrice {
        asset: String as text,
        action: String as text,
        version: i32 as int,
        customer: Option<String> as text,
        price_list: Option<String> as text,
        price: Json as jsonb,
        effective_at: Moment as timestamptz,
        created_at: Moment as timestamptz,
    }
}

static LAST_VERSION: Statement = Statement {
    sql: "SELECT coalesce(max(p.version), 0) FROM credyt.prices p WHERE p.asset = $1 AND p.action = $2",
    args: &[TEXT, TEXT],
};

static INSERT: Statement = insert!("prices", NewPrice);

/// The prices of an action that may apply to a customer.
pub fn applicable(
    store: &Store,
    asset: &Asset,
    action: &str,
    customer: Option<&str>,
) -> Result<ApplicablePrices> {
    let assignments = match customer {
        Some(customer) => price_lists::of(store, asset, customer)?,
        None => None,
    };
    let assignments = assignments.as_deref().unwrap_or_default();
    let known = asset.prices.borrow().get(action).and_then(|book| {
        let own = match customer.filter(|_| book.has_own) {
            None => None,
            Some(customer) => Some(book.own.get(customer)?.clone()),
        };
        let list = |name: &str| book.lists.get(name).cloned();
        Some(ApplicablePrices {
            own,
            kept: kept(assignments, |name| list(name).ok_or(())).ok()?,
            for_all: book.for_all.clone(),
        })
    });
    match known {
        Some(known) => Ok(known),
        None => read_applicable(store, asset, action, customer, assignments),
    }
}

/// Each assignment with the prices of its list.
fn kept<E>(
    assignments: &[Assignment],
    list: impl Fn(&str) -> std::result::Result<Versions, E>,
) -> std::result::Result<Vec<ListPrices>, E> {
    let kept = |assignment: &Assignment| {
        let list = assignment.price_list.as_deref().map(&list).transpose()?;
        Ok(ListPrices {
            assignment: assignment.clone(),
            list,
        })
    };
    assignments.iter().map(kept).collect()
}

fn read_applicable(
    store: &Store,
    asset: &Asset,
    action: &str,
    customer: Option<&str>,
    assignments: &[Assignment],
) -> Result<ApplicablePrices> {
    let asset_name = &asset.name;
    let (has_own, for_all) = match read_for_all_directly(store, asset_name, action)? {
        Some(read) => read,
        None => read_for_all(store, asset_name, action)?,
    };
    let for_all: Versions = for_all.into();
    let own: Option<Versions> = match customer.filter(|_| has_own) {
        Some(customer) => {
            let own = Own {
                asset: asset_name,
                action,
                customer,
            };
            Some(own.run(store)?.read_all()?)
        }
        None => None,
    };
    let kept = kept(assignments, |price_list| {
        let listed = Listed {
            asset: asset_name,
            action,
            price_list,
        };
        listed.run(store)?.read_all()
    })?;
    // What was announced while it was read, or since the reader's snapshot was taken, may or may not
    // be in it: then it is used once.
    if cache_epoch::current() == asset.cache_epoch && store.sees_latest() {
        let mut prices = asset.prices.borrow_mut();
        if prices.len() >= MAX_KEPT {
            prices.clear();
        }
        let book = prices
            .entry(action.to_owned())
            .or_insert_with(|| PriceBook {
                for_all: for_all.clone(),
                has_own,
                own: HashMap::new(),
                lists: HashMap::new(),
            });
        if let (Some(customer), Some(own)) = (customer, &own) {
            if book.own.len() >= MAX_KEPT {
                book.own.clear();
            }
            book.own.insert(customer.to_owned(), own.clone());
        }
        for ListPrices { assignment, list } in &kept {
            if book.lists.len() >= MAX_KEPT {
                book.lists.clear();
            }
            if let (Some(name), Some(list)) = (&assignment.price_list, list) {
                book.lists.insert(name.clone(), list.clone());
            }
        }
    }
    Ok(ApplicablePrices { own, kept, for_all })
}

/// Whether any customer has prices of his own, and those for all, the latest first.
type ForAll = (bool, Vec<Version>);

fn read_for_all(store: &Store, asset: &str, action: &str) -> Result<ForAll> {
    let rows = FOR_ALL.run(store, &[value::text(asset), value::text(action)])?;
    let mut has_own = false;
    let mut for_all = Vec::with_capacity(rows.count());
    for row in rows.iter() {
        let row: ForAllRow = row.read()?;
        has_own = row.has_own;
        if let (Some(version), Some(effective_at), Some(price)) =
            (row.version, row.effective_at, row.price)
        {
            for_all.push(Version::of(VersionRow {
                version,
                effective_at,
                price,
            })?);
        }
    }
    Ok((has_own, for_all))
}

/// The same. `None`: it has to be read by SQL.
fn read_for_all_directly(store: &Store, asset: &str, action: &str) -> Result<Option<ForAll>> {
    let (asset, action) = (Is::Text(asset), Is::Text(action));
    let own: Option<Vec<Version>> = books::find(store, &BOOK, &[asset, action, Is::NotNull], 1)?;
    let all = [asset, action, Is::Null, Is::Null];
    let for_all = books::find(store, &BOOK, &all, usize::MAX)?;
    Ok(own.zip(for_all).map(|(own, mut for_all)| {
        // The index has the latest last.
        for_all.reverse();
        (!own.is_empty(), for_all)
    }))
}

/// One version of a price, whenever it counts.
pub fn version(
    store: &Store,
    asset: &Asset,
    action: &str,
    version: i32,
) -> Result<Option<Version>> {
    let for_all = applicable(store, asset, action, None)?.for_all;
    if let Some(found) = for_all.iter().find(|v| v.version == version) {
        return Ok(Some(found.clone()));
    }
    let query = OneVersion {
        asset: &asset.name,
        action,
        version,
    };
    query.run(store)?.read_first()
}

/// The version that the next price of an action is, under the lock of its asset.
pub fn next_version(store: &Store, asset: &str, action: &str) -> Result<i32> {
    let rows = LAST_VERSION.run(store, &[value::text(asset), value::text(action)])?;
    Ok(rows.read_one::<i32>()?.saturating_add(1))
}

/// Sets a price.
pub fn set(store: &Store, new: &NewPrice) -> Result<()> {
    INSERT.run(store, &new.values()?)?;
    Ok(())
}

impl Version {
    fn of(row: VersionRow) -> Result<Version> {
        let price = match &row.price {
            Json::Null => None,
            rule => {
                let price = Price::parse(rule);
                Some(Rc::new(
                    price.map_err(|why| errors::corrupted("a price", why))?,
                ))
            }
        };
        Ok(Version {
            version: row.version,
            effective_at: row.effective_at,
            price,
        })
    }
}

impl FromRow for Version {
    fn from_row(row: &mut Reader) -> Result<Version> {
        Version::of(FromRow::from_row(row)?)
    }
}
