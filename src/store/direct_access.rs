//! Direct access to the rows of hot tables, found by their keys, locked, updated and inserted without SQL: it
//! saves the statements of every call that moves credits. `direct_rows` does it; here is when.
//!
//! It is done only where everything about it is known: the setting is on, the transaction and the server
//! are of the kind that was tested, and the table is exactly as declared. Whatever else there is, and
//! whatever does not succeed at once, goes by SQL, before anything has been written: direct access never
//! waits for a row that another session has. `counts` says how often, and why.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use super::direct_rows::{self, Inserted, KeyPart, Row};
use super::direct_way::{WAYS, Way};
use super::shape::{self, DirectTable, Table};
use super::statement::Store;
use crate::errors::{self, Result};
use crate::ledger::interrupt;
use crate::sql_types::value::{TablePlace, Value};

/// The setting `credyt.direct_access`.
static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);

/// The operations.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Operation {
    Lock,
    Update,
    Read,
    Insert,
    InsertMany,
}

const OPERATIONS: [&str; 5] = ["lock", "update", "read", "insert", "insert_many"];

thread_local! {
    static COUNTS: RefCell<[[u64; WAYS.len()]; OPERATIONS.len()]> =
        const { RefCell::new([[0; WAYS.len()]; OPERATIONS.len()]) };
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Locks the row of this primary key as it is now, and reads these columns. `None`: it has to be done by
/// SQL, and nothing has been done.
pub fn lock(table: &'static DirectTable, keys: &[KeyPart; 2], wanted: &[usize]) -> Option<Row> {
    access(table, Operation::Lock, |table| {
        direct_rows::find(table, keys, wanted, true)
    })
}

/// Reads these columns of the row of this primary key. `None`: it has to be done by SQL.
pub fn read(table: &'static DirectTable, keys: &[KeyPart; 2], wanted: &[usize]) -> Option<Row> {
    access(table, Operation::Read, |table| {
        direct_rows::find(table, keys, wanted, false)
    })
}

/// Writes columns of the row at this place, which this call has read and no other session may write. False: it
/// has to be done by SQL, and nothing has been done.
pub fn update(
    table: &'static DirectTable,
    place: TablePlace,
    keys: &[KeyPart; 2],
    changes: &[(usize, Value)],
) -> bool {
    let done = access(table, Operation::Update, |table| {
        let way = direct_rows::update(table, place, keys, changes);
        (way, (way == Way::Direct).then_some(()))
    });
    done.is_some()
}

/// Inserts a row, all its columns in their order. False: its key is taken. `None`: it has to be done by SQL,
/// and nothing has been done.
pub fn insert(
    store: &Store,
    table: &'static DirectTable,
    row: &[Value],
    customer: &str,
    key: Option<&str>,
) -> Result<Option<bool>> {
    let index = key.map(|key| [customer, key]);
    let inserted = access(table, Operation::Insert, |table| {
        direct_rows::insert(table, &[row], index)
    });
    match inserted {
        None => Ok(None),
        Some(Inserted::Done) => Ok(Some(true)),
        Some(Inserted::KeyTaken) => Ok(Some(false)),
        Some(Inserted::Conflict(_)) => {
            // No replay: requests of one wallet come one after another, so the other one was about another wallet.
            store.keep_key();
            Err(errors::idempotency_conflict(
                customer,
                key.unwrap_or_default(),
            ))
        }
    }
}

/// Inserts rows whose keys, under the locks of all their wallets, no other row has: how many. Fewer than there are:
/// another transaction has taken the key of the next one at the same moment, so the call has to fail, and must not
/// write any more. `None`: it has to be done by SQL, and nothing has been done.
pub fn insert_all(
    store: &Store,
    table: &'static DirectTable,
    rows: &[Vec<Value>],
) -> Option<usize> {
    let inserted = access(table, Operation::InsertMany, |table| {
        direct_rows::insert(table, rows, None)
    });
    Some(match inserted? {
        Inserted::Done => rows.len(),
        Inserted::KeyTaken => 0,
        Inserted::Conflict(at) => {
            store.keep_key();
            at
        }
    })
}

/// Called when the library is loaded.
pub fn define_setting() {
    GucRegistry::define_bool_guc(
        c"credyt.direct_access",
        c"Reads and writes rows of hot tables without SQL where nothing speaks against it.",
        c"Off: every row is read and written by SQL. Results are the same.",
        &ENABLED,
        GucContext::Suset,
        GucFlags::default(),
    );
}

/// How often each operation went which way in this backend.
pub fn counts() -> Vec<(&'static str, &'static str, u64)> {
    let counts = COUNTS.with_borrow(|counts| *counts);
    let of = |(operation, ways): (&'static str, [u64; WAYS.len()])| {
        let counted = WAYS.into_iter().zip(ways).filter(|(_, count)| *count > 0);
        counted.map(move |(way, count)| (operation, way, count))
    };
    OPERATIONS.into_iter().zip(counts).flat_map(of).collect()
}

/// Does it where direct access is possible, and counts what came of it.
fn access<R>(
    table: &'static DirectTable,
    operation: Operation,
    section: impl FnOnce(Table) -> (Way, Option<R>),
) -> Option<R> {
    interrupt::check();
    let (way, done) = match usable(table) {
        Ok(table) => section(table),
        Err(way) => (way, None),
    };
    if way == Way::Unexpected {
        FAILED.set(true);
        errors::warn_direct_access_failed(OPERATIONS[operation as usize]);
    }
    COUNTS.with_borrow_mut(|counts| counts[operation as usize][way as usize] += 1);
    done
}

/// The table, where nothing speaks against direct access.
fn usable(table: &'static DirectTable) -> std::result::Result<Table, Way> {
    if let Some(way) = obstacle() {
        return Err(way);
    }
    let known = shape::known(table);
    known.filter(|table| table.is_declared).ok_or(Way::Table)
}

/// Whether it is done at all in this transaction, whatever a table is like.
pub(super) fn is_possible() -> bool {
    obstacle().is_none()
}

/// What speaks against direct access, whatever the table is like.
fn obstacle() -> Option<Way> {
    // SAFETY: reads variables of the backend. On a standby every transaction is read-only.
    let (isolation, read_only, hook) = unsafe {
        (
            pg_sys::XactIsoLevel,
            pg_sys::XactReadOnly,
            { pg_sys::ExecutorCheckPerms_hook }.is_some(),
        )
    };
    if !ENABLED.get() {
        Some(Way::Off)
    } else if FAILED.get() {
        Some(Way::Failed)
    } else if isolation > pg_sys::XACT_READ_COMMITTED as i32 {
        Some(Way::Isolation)
    } else if read_only {
        Some(Way::ReadOnly)
    } else if hook {
        Some(Way::Hook)
    } else {
        None
    }
}
