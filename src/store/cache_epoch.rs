//! What a backend may remember between calls: assets, compiled prices and rates, and that the clock is
//! not replaced. A trigger announces whoever changes one of them; at commit Postgres tells every backend, as it
//! does for changed tables, and a rollback (of a savepoint, too) tells the backend that made it.
//!
//! Everything remembered belongs to a cache epoch, a number that every announcement raises. Reads of an
//! older snapshot (REPEATABLE READ and above) neither use nor leave anything here.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString};

use pgrx::pg_sys;

/// The tables whose changes are announced.
const ANNOUNCED: [&CStr; 7] = [
    c"assets",
    c"prices",
    c"expiry_notices",
    c"customer_price_lists",
    c"vendors",
    c"vendor_rates",
    c"clock",
];

thread_local! {
    static CACHE_EPOCH: Cell<u64> = const { Cell::new(0) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
    /// The schema that plans were made for, and its announced tables.
    static SCHEMA: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::Oid::INVALID) };
    static TABLES: RefCell<[pg_sys::Oid; ANNOUNCED.len()]> =
        const { RefCell::new([pg_sys::Oid::INVALID; ANNOUNCED.len()]) };
}

/// The cache epoch that counts now.
pub fn current() -> u64 {
    CACHE_EPOCH.get()
}

/// Whether every statement of this transaction sees what was committed before it (READ COMMITTED): only then may what it
/// reads be remembered, and what is remembered be used.
pub fn sees_commits() -> bool {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::XactIsoLevel < pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Hears what other backends have announced. True when the schema is another one than before (after
/// DROP and CREATE EXTENSION in one session everything has new oids).
pub fn listen() -> bool {
    // SAFETY: lookups by name and a callback that outlives the backend's need of it.
    unsafe {
        if !LISTENING.replace(true) {
            pg_sys::CacheRegisterRelcacheCallback(Some(announced), pg_sys::Datum::from(0_usize));
        }
        pg_sys::AcceptInvalidationMessages();
        let schema = pg_sys::get_namespace_oid(c"credyt".as_ptr(), true);
        if SCHEMA.replace(schema) == schema {
            return false;
        }
        TABLES.set(ANNOUNCED.map(|table| pg_sys::get_relname_relid(table.as_ptr(), schema)));
    }
    CACHE_EPOCH.set(CACHE_EPOCH.get() + 1);
    true
}

/// Announces that a table of ours has changed.
pub fn announce(table: &str) {
    let Ok(name) = CString::new(table) else {
        return;
    };
    // SAFETY: lookups by name, and a message about a table that is there.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"credyt".as_ptr(), true);
        let table = pg_sys::get_relname_relid(name.as_ptr(), schema);
        if table != pg_sys::Oid::INVALID {
            pg_sys::CacheInvalidateRelcacheByRelid(table);
        }
    }
}

/// Postgres calls this for every change of any table; the invalid oid stands for all of them.
unsafe extern "C-unwind" fn announced(_: pg_sys::Datum, table: pg_sys::Oid) {
    let ours = TABLES.with(|tables| tables.try_borrow().is_ok_and(|ours| ours.contains(&table)));
    if ours || table == pg_sys::Oid::INVALID {
        CACHE_EPOCH.set(CACHE_EPOCH.get() + 1);
    }
}
