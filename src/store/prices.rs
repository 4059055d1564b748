//! The price book, with its rules compiled once in each backend, edition by edition.

use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value as Json;

use super::books::Asset;
use super::edition;
use super::statement::{INT, JSONB, RowRef, Statement, Store, TEXT, TIME};
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::ledger::price::Price;
use crate::sql_types::value;

/// More customers' own prices of an action, or actions of an asset, are not kept compiled.
const MAX_KEPT: usize = 1000;

/// One version of a price; `price` is `None` where it was withdrawn.
#[derive(Clone)]
pub struct Version {
    pub version: i32,
    effective_at: Moment,
    pub price: Option<Rc<Price>>,
}

/// The versions of one action's price, the latest first: the list's, or one customer's own.
type Versions = Rc<[Version]>;

/// The prices of one action.
pub(super) struct Book {
    list: Versions,
    /// Has any customer a price of their own?
    has_own: bool,
    own: HashMap<String, Versions>,
}

/// The prices of an action that may apply to a customer, whenever it is.
#[derive(Clone)]
pub struct Applicable {
    own: Option<Versions>,
    list: Versions,
}

impl Applicable {
    /// What counts at a moment: the customer's own price, or else the list's. `now`: the first one that
    /// has taken effect by then holds from the beginning.
    pub fn at(&self, at: Moment, now: Moment) -> Option<Version> {
        let versions = || self.own.iter().chain([&self.list]);
        let before = |moment| {
            versions()
                .flat_map(|v| v.iter())
                .filter(move |v| v.effective_at <= moment)
        };
        if before(at).next().is_some() {
            return versions().find_map(|versions| in_force(versions, at));
        }
        let first = before(now).map(|version| version.effective_at).min()?;
        versions().find_map(|versions| in_force(versions, first))
    }
}

static LIST: Statement = Statement {
    sql: "SELECT p.version, p.effective_at, p.price FROM credyt.prices p
          WHERE p.asset = $1 AND p.action = $2 AND p.customer IS NULL
          ORDER BY p.effective_at DESC, p.version DESC",
    args: &[TEXT, TEXT],
};

static OWN: Statement = Statement {
    sql: "SELECT p.version, p.effective_at, p.price FROM credyt.prices p
          WHERE p.asset = $1 AND p.action = $2 AND p.customer = $3
          ORDER BY p.effective_at DESC, p.version DESC",
    args: &[TEXT, TEXT, TEXT],
};

static ANY_OWN: Statement = Statement {
    sql: "SELECT EXISTS (SELECT 1 FROM credyt.prices p
          WHERE p.asset = $1 AND p.action = $2 AND p.customer IS NOT NULL)",
    args: &[TEXT, TEXT],
};

static VERSION: Statement = Statement {
    sql: "SELECT p.version, p.effective_at, p.price FROM credyt.prices p
          WHERE p.asset = $1 AND p.action = $2 AND p.version = $3",
    args: &[TEXT, TEXT, INT],
};

static INSERT: Statement = Statement {
    sql: "INSERT INTO credyt.prices (asset, action, version, customer, price, effective_at, created_at)
          SELECT $1, $2, coalesce(max(p.version), 0) + 1, $3, $4, $5, $6
          FROM credyt.prices p WHERE p.asset = $1 AND p.action = $2
          RETURNING version",
    args: &[TEXT, TEXT, TEXT, JSONB, TIME, TIME],
};

/// The prices of an action that may apply to a customer.
pub fn applicable(
    store: &Store,
    asset: &Asset,
    action: &str,
    customer: Option<&str>,
) -> Result<Applicable> {
    let known = asset.prices.borrow().get(action).and_then(|book| {
        let own = match customer.filter(|_| book.has_own) {
            None => None,
            Some(customer) => Some(book.own.get(customer)?.clone()),
        };
        Some(Applicable {
            own,
            list: book.list.clone(),
        })
    });
    match known {
        Some(known) => Ok(known),
        None => read_applicable(store, asset, action, customer),
    }
}

fn read_applicable(
    store: &Store,
    asset: &Asset,
    action: &str,
    customer: Option<&str>,
) -> Result<Applicable> {
    let args = [
        value::text(&asset.name),
        value::text(action),
        value::optional_text(customer),
    ];
    let list = read_all(LIST.run(store, &args[..2])?.iter())?;
    let has_own = match ANY_OWN.run(store, &args[..2])?.first() {
        Some(row) => row.bool(1)?,
        None => false,
    };
    let own = match customer.filter(|_| has_own) {
        Some(_) => Some(read_all(OWN.run(store, &args)?.iter())?),
        None => None,
    };
    // What was announced while it was read, or since the reader's snapshot was taken, may or may not
    // be in it: then it is used once.
    if edition::current() == asset.edition && store.sees_latest() {
        let mut prices = asset.prices.borrow_mut();
        if prices.len() >= MAX_KEPT {
            prices.clear();
        }
        let book = prices.entry(action.to_owned()).or_insert_with(|| Book {
            list: list.clone(),
            has_own,
            own: HashMap::new(),
        });
        if let (Some(customer), Some(own)) = (customer, &own) {
            if book.own.len() >= MAX_KEPT {
                book.own.clear();
            }
            book.own.insert(customer.to_owned(), own.clone());
        }
    }
    Ok(Applicable { own, list })
}

/// One version of a price, whenever it counts.
pub fn version(
    store: &Store,
    asset: &Asset,
    action: &str,
    version: i32,
) -> Result<Option<Version>> {
    let list = applicable(store, asset, action, None)?.list;
    if let Some(found) = list.iter().find(|v| v.version == version) {
        return Ok(Some(found.clone()));
    }
    let args = [
        value::text(&asset.name),
        value::text(action),
        value::int(version),
    ];
    VERSION
        .run(store, &args)?
        .first()
        .map(|row| read(&row))
        .transpose()
}

/// Sets a price; the version it became.
pub fn set(
    store: &Store,
    asset: &str,
    action: &str,
    customer: Option<&str>,
    price: &Json,
    effective_at: Moment,
    now: Moment,
) -> Result<i32> {
    let rows = INSERT.run(
        store,
        &[
            value::text(asset),
            value::text(action),
            value::optional_text(customer),
            value::json("price", price)?,
            value::moment(effective_at),
            value::moment(now),
        ],
    )?;
    let row = rows
        .first()
        .ok_or_else(|| errors::corrupted("the price book", "a price is lost"))?;
    row.int(1)
}

/// The latest version that counts at this moment, unless it withdraws the price.
fn in_force(versions: &[Version], at: Moment) -> Option<Version> {
    let latest = versions.iter().find(|version| version.effective_at <= at)?;
    latest.price.as_ref().map(|_| latest.clone())
}

fn read_all<'a>(rows: impl Iterator<Item = RowRef<'a>>) -> Result<Versions> {
    rows.map(|row| read(&row)).collect()
}

fn read(row: &RowRef) -> Result<Version> {
    let rule = row.json(3)?;
    let price = match &rule {
        Json::Null => None,
        rule => {
            let price = Price::parse(rule);
            Some(Rc::new(
                price.map_err(|why| errors::corrupted("a price", why))?,
            ))
        }
    };
    Ok(Version {
        version: row.int(1)?,
        effective_at: row.moment(2)?,
        price,
    })
}
