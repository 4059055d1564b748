//! The library and the SQL objects are replaced at different moments of an upgrade.

use std::cell::Cell;
use std::mem::MaybeUninit;

use pgrx::{FromDatum, pg_sys};

use crate::errors::{self, Result};

/// The version of this library.
const LIBRARY: &str = env!("CARGO_PKG_VERSION");
/// The oldest version of the SQL objects that it works with.
const OLDEST: [u32; 3] = [0, 0, 1];

thread_local! {
    static FITS: Cell<bool> = const { Cell::new(false) };
}

/// Refuses to work with SQL objects of another time. Looked at once in a backend.
pub fn check() -> Result<()> {
    if FITS.get() {
        return Ok(());
    }
    let installed = installed().unwrap_or_default();
    if installed != LIBRARY {
        let version = numbers(&installed);
        if version < OLDEST || version > numbers(LIBRARY) {
            return Err(errors::versions_differ(
                &installed,
                LIBRARY,
                version < OLDEST,
            ));
        }
    }
    FITS.set(true);
    Ok(())
}

/// To be looked at again: the schema is another one.
pub fn forget() {
    FITS.set(false);
}

/// The version of the SQL objects. Not by SQL: each backend asks once, and to plan it takes longer than a debit.
fn installed() -> Option<String> {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    let mut key = MaybeUninit::<pg_sys::ScanKeyData>::zeroed();
    // SAFETY: what is opened is closed again, by Postgres itself where an error ends it; the text is copied before.
    unsafe {
        pg_sys::ScanKeyInit(
            key.as_mut_ptr(),
            pg_sys::Anum_pg_extension_extname as pg_sys::AttrNumber,
            pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
            pg_sys::RegProcedure::from(pg_sys::F_NAMEEQ),
            pg_sys::Datum::from(c"credyt_pg".as_ptr()),
        );
        let extensions = pg_sys::table_open(pg_sys::ExtensionRelationId, lock);
        let by_name = pg_sys::Oid::from(pg_sys::ExtensionNameIndexId);
        let snapshot = std::ptr::null_mut();
        let scan =
            pg_sys::systable_beginscan(extensions, by_name, true, snapshot, 1, key.as_mut_ptr());
        let mut version = None;
        if let Some(row) = std::ptr::NonNull::new(pg_sys::systable_getnext(scan)) {
            let mut is_null = true;
            let column = pg_sys::Anum_pg_extension_extversion as i32;
            let text =
                pg_sys::heap_getattr(row.as_ptr(), column, (*extensions).rd_att, &mut is_null);
            version = String::from_datum(text, is_null);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(extensions, lock);
        version
    }
}

/// The first three numbers of a version.
fn numbers(version: &str) -> [u32; 3] {
    let mut numbers = [0; 3];
    for (number, part) in numbers.iter_mut().zip(version.split('.')) {
        *number = part.parse().unwrap_or(0);
    }
    numbers
}
