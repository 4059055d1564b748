//! The price book, with its rules compiled once in each backend.
//!
//! Every `set_price` raises `assets.price_book` in the same transaction, and every call reads that
//! number with its asset. A compiled book of another number is read again. So a price set elsewhere
//! is used by the next statement, one that was rolled back never, and a REPEATABLE READ transaction
//! keeps the prices of its snapshot.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value as Json;

use super::books::Asset;
use super::statement::{BIGINT, INT, JSONB, RowRef, Statement, Store, TEXT, TIME};
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::ledger::price::Price;
use crate::sql_types::value;

/// More books than this are not kept compiled.
const MAX_BOOKS: usize = 1000;

/// One version of a price; `price` is `None` where it was withdrawn.
#[derive(Clone)]
pub struct Version {
    pub version: i32,
    effective_at: Moment,
    pub price: Option<Rc<Price>>,
}

/// The versions of one action's price: the list's, or one customer's own.
type Versions = Rc<[Version]>;

struct Book {
    edition: i64,
    /// Has any customer a price of their own for this action?
    has_own: bool,
    list: Versions,
    own: HashMap<String, Versions>,
}

thread_local! {
    static BOOKS: RefCell<HashMap<(String, String), Book>> = RefCell::default();
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

static NEW_EDITION: Statement = Statement {
    sql: "UPDATE credyt.assets a SET price_book = a.price_book + 1 WHERE a.asset = $1",
    args: &[TEXT],
};

static INSERT: Statement = Statement {
    sql: "INSERT INTO credyt.prices (asset, action, version, customer, price, effective_at, created_at)
          SELECT $1, $2, coalesce(max(p.version), 0) + 1, $3, $4, $5, $6
          FROM credyt.prices p WHERE p.asset = $1 AND p.action = $2
          RETURNING version",
    args: &[TEXT, TEXT, TEXT, JSONB, TIME, TIME],
};

static EDITION: Statement = Statement {
    sql: "SELECT a.price_book FROM credyt.assets a WHERE a.asset = $1 AND a.price_book <> $2",
    args: &[TEXT, BIGINT],
};

/// Forgets all compiled books.
pub fn forget() {
    BOOKS.with_borrow_mut(HashMap::clear);
}

/// The price of an action for a customer at a moment: the customer's own, or else the list's.
pub fn current(
    store: &Store,
    asset: &Asset,
    action: &str,
    customer: Option<&str>,
    at: Moment,
) -> Result<Option<Version>> {
    let (list, has_own) = list(store, asset, action)?;
    if let (true, Some(customer)) = (has_own, customer) {
        let own = own(store, asset, action, customer)?;
        if let Some(version) = in_force(&own, at) {
            return Ok(Some(version));
        }
    }
    Ok(in_force(&list, at))
}

/// One version of a price, whenever it counts.
pub fn version(store: &Store, asset: &Asset, action: &str, version: i32) -> Result<Option<Version>> {
    let (list, _) = list(store, asset, action)?;
    if let Some(found) = list.iter().find(|v| v.version == version) {
        return Ok(Some(found.clone()));
    }
    let args = [value::text(&asset.name), value::text(action), value::int(version)];
    VERSION.run(store, &args)?.first().map(|row| read(&row)).transpose()
}

/// Sets a price; the version it became. Prices of one asset are set one after another.
pub fn set(
    store: &Store,
    asset: &str,
    action: &str,
    customer: Option<&str>,
    price: &Json,
    effective_at: Moment,
    now: Moment,
) -> Result<i32> {
    NEW_EDITION.run(store, &[value::text(asset)])?;
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
    let row = rows.first().ok_or_else(|| errors::corrupted("the price book", "a price is lost"))?;
    row.int(1)
}

/// The latest version that counts at this moment, unless it withdraws the price.
fn in_force(versions: &[Version], at: Moment) -> Option<Version> {
    let latest = versions.iter().find(|version| version.effective_at <= at)?;
    latest.price.as_ref().map(|_| latest.clone())
}

fn list(store: &Store, asset: &Asset, action: &str) -> Result<(Versions, bool)> {
    let key = (asset.name.clone(), action.to_owned());
    let known = BOOKS.with_borrow(|books| {
        let book = books.get(&key).filter(|book| book.edition == asset.price_book)?;
        Some((book.list.clone(), book.has_own))
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let args = [value::text(&asset.name), value::text(action)];
    let list = read_all(LIST.run(store, &args)?.iter())?;
    let has_own = match ANY_OWN.run(store, &args)?.first() {
        Some(row) => row.bool(1)?,
        None => false,
    };
    // The book may be newer than the edition that was read with the asset: then it is used once.
    let args = [value::text(&asset.name), value::bigint(asset.price_book)];
    if EDITION.run(store, &args)?.count() == 0 {
        BOOKS.with_borrow_mut(|books| {
            if books.len() >= MAX_BOOKS {
                books.clear();
            }
            let edition = asset.price_book;
            let book = Book { edition, has_own, list: list.clone(), own: HashMap::new() };
            books.insert(key, book);
        });
    }
    Ok((list, has_own))
}

fn own(store: &Store, asset: &Asset, action: &str, customer: &str) -> Result<Versions> {
    let key = (asset.name.clone(), action.to_owned());
    let known = BOOKS.with_borrow(|books| {
        let book = books.get(&key).filter(|book| book.edition == asset.price_book)?;
        book.own.get(customer).cloned()
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let args = [value::text(&asset.name), value::text(action), value::text(customer)];
    let own = read_all(OWN.run(store, &args)?.iter())?;
    let args = [value::text(&asset.name), value::bigint(asset.price_book)];
    if EDITION.run(store, &args)?.count() == 0 {
        BOOKS.with_borrow_mut(|books| {
            let book = books.get_mut(&key).filter(|book| book.edition == asset.price_book);
            if let Some(book) = book {
                if book.own.len() >= MAX_BOOKS {
                    book.own.clear();
                }
                book.own.insert(customer.to_owned(), own.clone());
            }
        });
    }
    Ok(own)
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
            Some(Rc::new(price.map_err(|why| errors::corrupted("a price", why))?))
        }
    };
    Ok(Version { version: row.int(1)?, effective_at: row.moment(2)?, price })
}
