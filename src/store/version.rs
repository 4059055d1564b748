//! The library and the SQL objects are replaced at different moments of an upgrade.

use std::cell::Cell;

use super::statement::{Statement, Store};
use crate::errors::{self, Result};

/// The version of this library.
const LIBRARY: &str = env!("CARGO_PKG_VERSION");
/// The oldest version of the SQL objects that it works with.
const OLDEST: [u32; 3] = [0, 0, 1];

thread_local! {
    static FITS: Cell<bool> = const { Cell::new(false) };
}

static INSTALLED: Statement = Statement {
    sql: "SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'credyt_pg'",
    args: &[],
};

/// Refuses to work with SQL objects of another time. Looked at once in a backend.
pub fn check(store: &Store) -> Result<()> {
    if FITS.get() {
        return Ok(());
    }
    let rows = INSTALLED.run(store, &[])?;
    let installed = rows.first().map(|row| row.text(1)).transpose()?;
    let installed = installed.unwrap_or_default();
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

/// The first three numbers of a version.
fn numbers(version: &str) -> [u32; 3] {
    let mut numbers = [0; 3];
    for (number, part) in numbers.iter_mut().zip(version.split('.')) {
        *number = part.parse().unwrap_or(0);
    }
    numbers
}
