//! Assets, and what time it is.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::rc::Rc;
use std::str::FromStr;

use pgrx::pg_sys;

use super::books::{self, Book, Is};
use super::cache_epoch;
use super::notices;
use super::price_cache::{PriceBook, PriceListCache};
use super::statement::{Statement, Store, TEXT};
use super::table::{column, insert, sql, table};
use crate::errors::{self, Result};
use crate::ledger::alerts::Notice;
use crate::ledger::price::Rounding;
use crate::ledger::{Moment, period};
use crate::sql_types::value;

/// What every call needs to know of an asset, with the prices that have been asked for.
pub struct Asset {
    pub name: String,
    pub scale: u32,
    pub rounding: Rounding,
    pub currency: String,
    pub timezone: String,
    /// How many days before their end grants are told of.
    pub notice: Option<Notice>,
    /// The cache epoch it was read in.
    pub(super) cache_epoch: u64,
    /// Compiled prices by action.
    pub(super) prices: RefCell<HashMap<String, PriceBook>>,
    /// Which price lists customers are on.
    pub(super) price_lists: RefCell<PriceListCache>,
}

table! {
    /// An asset as it was defined.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Definition {
        asset: String as text,
        scale: i32 as int,
        rounding: String as text,
        currency: String as text,
        timezone: String as text,
        created_at: Moment as timestamptz,
    }
}

impl Definition {
    /// Whenever it was created.
    pub fn is_same(&self, other: &Definition) -> bool {
        let created_at = self.created_at;
        *self
            == Definition {
                created_at,
                ..other.clone()
            }
    }
}

thread_local! {
    static ASSETS: RefCell<HashMap<String, Rc<Asset>>> = RefCell::default();
    /// The cache epoch in which the clock was looked at, and the moment that stands in for it.
    static CLOCK: Cell<(u64, Option<Moment>)> = const { Cell::new((0, None)) };
}

/// With what else the first call of a backend asks: a plan of its own for each would cost more than to read it.
static ASSET: Statement = Statement {
    sql: sql!(
        "SELECT ",
        Definition::COLUMNS,
        ",    EXISTS (SELECT FROM credyt.customer_price_lists),
              (SELECT c.now FROM credyt.clock c WHERE c.one)
          FROM credyt.assets a WHERE a.asset = $1"
    ),
    args: &[TEXT],
};

static ASSETS_BOOK: Book = Book {
    name: c"assets",
    wanted: Definition::DECLARED,
    searched: &["asset"],
    index: None,
};

static CLOCK_BOOK: Book = Book {
    name: c"clock",
    wanted: &[column!(now as timestamptz)],
    searched: &[],
    index: None,
};

static DEFINITION: Statement = Statement {
    sql: sql!(
        "SELECT ",
        Definition::COLUMNS,
        " FROM credyt.assets a WHERE a.asset = $1"
    ),
    args: &[TEXT],
};

static INSERT: Statement = insert!("assets", Definition, " ON CONFLICT (asset) DO NOTHING");

/// Prices of one asset are set one after another. An update, though it changes nothing: a snapshot
/// that is older than the last price is then refused with 40001, before its version is taken twice.
static LOCK: Statement = Statement {
    sql: "UPDATE credyt.assets a SET scale = a.scale WHERE a.asset = $1",
    args: &[TEXT],
};

/// To see whether any customer has a price list.
static LISTS_BOOK: Book = Book {
    name: c"customer_price_lists",
    wanted: &[column!(version as int)],
    searched: &[],
    index: None,
};

static STANDS_IN: Statement = Statement {
    sql: "SELECT c.now FROM credyt.clock c WHERE c.one",
    args: &[],
};

/// The asset, or WC009.
pub fn asset(store: &Store, name: &str) -> Result<Rc<Asset>> {
    let cache_epoch = cache_epoch::current();
    if cache_epoch::sees_commits() {
        let known = ASSETS.with_borrow(|assets| assets.get(name).cloned());
        if let Some(asset) = known.filter(|asset| asset.cache_epoch == cache_epoch) {
            return Ok(asset);
        }
    }
    let row = match read_directly(store, name)? {
        Some(found) => found,
        None => ASSET.run(store, &[value::text(name)])?.read_first()?,
    };
    let (definition, (any_price_list, stands_in)) =
        row.ok_or_else(|| errors::asset_not_found(name))?;
    let damaged = |why: &str| errors::corrupted("an asset", why);
    let asset = Rc::new(Asset {
        name: definition.asset,
        scale: u32::try_from(definition.scale).map_err(|_| damaged("its scale is negative"))?,
        rounding: Rounding::from_str(&definition.rounding).map_err(|why| damaged(&why))?,
        currency: definition.currency,
        timezone: definition.timezone,
        notice: notices::of(store, name)?,
        cache_epoch,
        prices: RefCell::default(),
        price_lists: RefCell::default(),
    });
    if cache_epoch::sees_commits() {
        CLOCK.set((cache_epoch, stands_in));
        ASSETS.with_borrow_mut(|assets| {
            assets.retain(|_, asset| asset.cache_epoch == cache_epoch);
            assets.insert(name.to_owned(), asset.clone());
        });
    }
    if cache_epoch::current() == cache_epoch && store.sees_latest() {
        asset.price_lists.borrow_mut().any = Some(any_price_list);
    }
    Ok(asset)
}

/// An asset, whether any customer has a price list, and what stands in for the clock.
type Read = (Definition, (bool, Option<Moment>));

/// The same as `ASSET`. `None`: it has to be read by SQL.
fn read_directly(store: &Store, name: &str) -> Result<Option<Option<Read>>> {
    let Some(found) = books::find(store, &ASSETS_BOOK, &[Is::Text(name)], 1)? else {
        return Ok(None);
    };
    let Some(definition) = found.into_iter().next() else {
        return Ok(Some(None));
    };
    let lists: Option<Vec<i32>> = books::find(store, &LISTS_BOOK, &[], 1)?;
    let clock: Option<Vec<Moment>> = books::find(store, &CLOCK_BOOK, &[], 1)?;
    Ok(lists.zip(clock).map(|(lists, clock)| {
        let read = (!lists.is_empty(), clock.into_iter().next());
        Some((definition, read))
    }))
}

/// Locks an asset's price book until the transaction ends, or WC009.
pub fn lock(store: &Store, name: &str) -> Result<()> {
    match LOCK.run(store, &[value::text(name)])?.count() {
        0 => Err(errors::asset_not_found(name)),
        _ => Ok(()),
    }
}

/// What time it is for a writer: the wall clock, unless a test stands in for it.
pub fn now(store: &Store) -> Result<Moment> {
    Ok(stands_in(store)?.unwrap_or_else(wall_clock))
}

pub fn wall_clock() -> Moment {
    // SAFETY: reads the time.
    Moment(unsafe { pg_sys::GetCurrentTimestamp() })
}

/// What time it is for a reader: when the caller's statement began. What CALL and DO run are statements
/// of their own, which see what was committed before them; to Postgres all of them began with the first.
pub fn statement_now(store: &Store) -> Result<Moment> {
    // SAFETY: reads a variable of the backend.
    let began = || Moment(unsafe { pg_sys::GetCurrentStatementStartTimestamp() });
    let now = || {
        if in_procedure() {
            wall_clock()
        } else {
            began()
        }
    };
    Ok(stands_in(store)?.unwrap_or_else(now))
}

/// Whether the client runs CALL or DO.
fn in_procedure() -> bool {
    use pg_sys::CommandTag::{CMDTAG_CALL, CMDTAG_DO};
    // SAFETY: the portal that runs is there as long as it runs; outside of one there is none.
    let running = unsafe { pg_sys::ActivePortal.as_ref() };
    running.is_some_and(|portal| matches!(portal.commandTag, CMDTAG_CALL | CMDTAG_DO))
}

/// So far ahead a reader may look: all that comes due until then is worked through in memory.
const MOST_YEARS_AHEAD: i16 = 10;

/// Refuses (22003) a moment that lies too far ahead of now, or of when what is looked at last changed.
pub fn check_ahead(store: &Store, at: Moment, changed_at: Moment) -> Result<()> {
    let now = statement_now(store)?.max(changed_at);
    let most = now.plus_years(MOST_YEARS_AHEAD);
    if most.is_some_and(|most| at > most) {
        let why = format_args!("{at} lies more than {MOST_YEARS_AHEAD} years ahead");
        return Err(errors::out_of_range("at", why));
    }
    Ok(())
}

/// The row of `credyt.clock`, if there is one.
pub fn stands_in(store: &Store) -> Result<Option<Moment>> {
    let cache_epoch = cache_epoch::current();
    let (seen_in, moment) = CLOCK.get();
    if cache_epoch::sees_commits() && seen_in == cache_epoch {
        return Ok(moment);
    }
    let rows = STANDS_IN.run(store, &[])?;
    let moment = rows.read_first()?;
    if cache_epoch::sees_commits() {
        CLOCK.set((cache_epoch, moment));
    }
    Ok(moment)
}

pub fn definition(store: &Store, name: &str) -> Result<Option<Definition>> {
    DEFINITION.run(store, &[value::text(name)])?.read_first()
}

/// Creates an asset unless one of that name is there.
pub fn create(store: &Store, new: &Definition) -> Result<()> {
    INSERT.run(store, &new.values()?)?;
    Ok(())
}

/// Whether Postgres and the ledger know this time zone by its full name, as it is written. (The view
/// pg_timezone_names would read every file of the database of time zones.)
pub fn is_timezone(name: &str) -> bool {
    let Ok(text) = CString::new(name) else {
        return false;
    };
    // SAFETY: reads a C string; a zone that was found stays for the life of the backend.
    let known = unsafe {
        let zone = pg_sys::pg_tzset(text.as_ptr());
        !zone.is_null()
            && pg_sys::pg_tz_acceptable(zone)
            && CStr::from_ptr(pg_sys::pg_get_timezone_name(zone)) == text.as_c_str()
    };
    known && period::zone(name).is_some()
}
