//! Direct access to the rows of hot tables, found by their keys, locked, updated and inserted without SQL: it
//! saves the statements of every call that moves credits. `direct_rows` does it; here is when.
//!
//! It is done only where everything about it is known: the setting is on, the transaction and the server
//! are of the kind that was tested, and the table is exactly as declared. Whatever else there is, and
//! whatever does not succeed at once, goes by SQL, before anything has been written: direct access never
//! waits for a row that another session has. `counts` says how often, and why.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys::{self, Oid};
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use super::authorizations::Authorization;
use super::direct_rows::{self, Inserted, KeyPart, Row};
use super::ledger::Entry;
use super::shape;
use super::statement::Store;
use super::table::Column;
use super::wallets::WalletRow;
use crate::errors::{self, Result};
use crate::ledger::interrupt;
use crate::sql_types::value::{TablePlace, Value};

/// The setting `credyt.direct_access`.
static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);

/// A table of which rows are reached directly, and what it has to be like.
pub struct DirectTable {
    /// Its place among those that a backend remembers.
    nth: usize,
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
    pub(super) types: &'static [Oid],
    pub(super) not_null: &'static [&'static str],
    /// A trigger that fires on an UPDATE matters, too.
    pub(super) is_updated: bool,
    /// In the order of their names, as `shape` prints them.
    pub(super) indexes: &'static [&'static str],
}

pub static WALLETS: DirectTable = DirectTable {
    nth: 0,
    name: "wallets",
    columns: WalletRow::DECLARED,
    types: WalletRow::TYPES,
    not_null: &[
        "customer",
        "asset",
        "created_at",
        "overdraft_limit",
        "status",
        "state",
    ],
    is_updated: true,
    indexes: &[
        "wallets_next_due_at: next_due_at datetime_ops where (next_due_at IS NOT NULL)",
        "wallets_pkey: primary key customer text_ops, asset text_ops",
    ],
};

pub static LEDGER: DirectTable = DirectTable {
    nth: 1,
    name: "ledger",
    columns: Entry::DECLARED,
    types: Entry::TYPES,
    not_null: &[
        "customer",
        "asset",
        "id",
        "seq",
        "created_at",
        "occurred_at",
        "accounted_at",
        "kind",
        "credits",
        "balance",
        "revenue",
        "allocations",
    ],
    is_updated: false,
    indexes: &[
        "ledger_accounted_at: accounted_at datetime_minmax_multi_ops, created_at datetime_minmax_ops",
        "ledger_authorization: customer text_ops, authorization_id uuid_ops where (authorization_id IS NOT NULL)",
        "ledger_key: unique customer text_ops, idempotency_key text_ops where (idempotency_key IS NOT NULL)",
        "ledger_pkey: primary key customer text_ops, id uuid_ops",
        "ledger_refers_to: customer text_ops, refers_to uuid_ops where (refers_to IS NOT NULL)",
    ],
};

pub static AUTHORIZATIONS: DirectTable = DirectTable {
    nth: 2,
    name: "authorizations",
    columns: Authorization::DECLARED,
    types: Authorization::TYPES,
    not_null: &[
        "customer",
        "id",
        "asset",
        "action",
        "overrun",
        "quantity",
        "credits",
        "priced",
        "created_at",
        "expires_at",
        "status",
        "captured",
        "forgiven",
        "captured_quantity",
        "pins",
    ],
    is_updated: true,
    indexes: &[
        "authorizations_key: unique customer text_ops, idempotency_key text_ops where (idempotency_key IS NOT NULL)",
        "authorizations_open: customer text_ops, asset text_ops, expires_at datetime_ops where (status = 'open'::text)",
        "authorizations_pkey: primary key customer text_ops, id uuid_ops",
    ],
};

const TABLES: usize = 3;

/// What was done, or why it was left to SQL.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Way {
    Direct,
    /// The setting is off.
    Off,
    /// An earlier call of this backend had an unexpected result.
    Failed,
    /// Above READ COMMITTED.
    Isolation,
    /// A read-only transaction, or a standby.
    ReadOnly,
    /// A parallel operation.
    Parallel,
    /// An extension checks permissions.
    Hook,
    /// The table is not as declared, or is changing.
    Table,
    /// The function's owner may not do all that it takes.
    Permission,
    /// There is no such row.
    Missing,
    /// Another session has the row, or has just changed it.
    Contended,
    /// This call has written the row by SQL.
    Written,
    /// What must not be: from now on this backend uses SQL.
    Unexpected,
}

const WAYS: [&str; 13] = [
    "direct",
    "setting",
    "failed",
    "isolation",
    "read_only",
    "parallel",
    "hook",
    "table",
    "permission",
    "missing",
    "contended",
    "written",
    "unexpected",
];

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

/// A table as it was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Table {
    pub relation: Oid,
    /// The index of its primary key.
    pub key: Oid,
    /// The unique index of its idempotency keys, where it has one.
    pub unique: Oid,
    pub types: &'static [Oid],
    nth: usize,
    /// It is as declared.
    plain: bool,
}

thread_local! {
    static COUNTS: RefCell<[[u64; WAYS.len()]; OPERATIONS.len()]> =
        const { RefCell::new([[0; WAYS.len()]; OPERATIONS.len()]) };
    /// Each until the relation cache hears that it, or one of its indexes, has changed.
    static KNOWN: [Cell<Option<Table>>; TABLES] = const { [const { Cell::new(None) }; TABLES] };
    /// What the relation cache has heard.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
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

/// Postgres has heard that a table or an index has changed; the invalid oid stands for all of them.
pub fn changed(relation: Oid) {
    CHANGES.set(CHANGES.get() + 1);
    let is_about =
        |table: Table| [Oid::INVALID, table.relation, table.key, table.unique].contains(&relation);
    KNOWN.with(|known| {
        for table in known
            .iter()
            .filter(|known| known.get().is_some_and(is_about))
        {
            table.set(None);
        }
    });
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
    let known = || KNOWN.with(|known| known.get(table.nth).and_then(Cell::get));
    if known().is_none() {
        look(table);
    }
    known().filter(|table| table.plain).ok_or(Way::Table)
}

/// Looks at what the table is like now. Where an index changes meanwhile, the next call looks again.
fn look(table: &'static DirectTable) {
    let changes = CHANGES.get();
    if let Some(seen) = shape::look(table)
        && CHANGES.get() == changes
    {
        let found = Table {
            relation: seen.relation,
            key: seen.key,
            unique: seen.unique,
            types: table.types,
            nth: table.nth,
            plain: seen.is_declared,
        };
        KNOWN.with(|known| known.get(table.nth).map(|known| known.set(Some(found))));
    }
}

/// Whether the table, now that it is locked, is still what it was when it was looked at.
pub(super) fn still_plain(table: Table) -> bool {
    KNOWN.with(|known| known.get(table.nth).and_then(Cell::get)) == Some(table)
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
