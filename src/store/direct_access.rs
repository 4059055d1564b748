//! Direct access to a wallet's row: found by its key, locked and updated without SQL, which saves two
//! statements of every call that moves credits. `wallet_row` does it; here is when.
//!
//! It is done only where everything about it is known: the setting is on, the transaction and the server
//! are of the kind that was tested, and the table is exactly as `DECLARED`. Whatever else there is, and
//! whatever does not succeed at once, goes by SQL, before anything has been written: direct access never
//! waits for a row that another session has. `counts` says how often, and why.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys::{self, Oid};
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use super::statement::{Statement, Store};
use super::wallet_row::{self, Row};
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::ledger::interrupt;
use crate::sql_types::value::TablePlace;

/// The setting `credyt.direct_access`.
static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);

/// Major versions of Postgres on which the tests of it pass.
const TESTED: &[u32] = &[18];

/// The first operations of a backend go by SQL, before it looks at the table: how many.
const FIRST: u32 = 10;

/// The table, its columns in their order, its constraints and its indexes, as `SHAPE` prints them.
const DECLARED: &str = "\
table r p heap plain
1 customer pg_catalog.text -1 100 t
2 asset pg_catalog.text -1 100 t
3 created_at pg_catalog.timestamptz -1 0 t
4 next_due_at pg_catalog.timestamptz -1 0 f
5 overdraft_limit pg_catalog.numeric -1 0 t
6 status pg_catalog.text -1 100 t
7 status_reason pg_catalog.text -1 100 f
8 metadata pg_catalog.jsonb -1 0 f
9 state credyt.wallet -1 0 t
constraint wallets_pkey PRIMARY KEY (customer, asset)
CREATE INDEX wallets_next_due_at ON credyt.wallets USING btree (next_due_at) WHERE (next_due_at IS NOT NULL)
CREATE UNIQUE INDEX wallets_pkey ON credyt.wallets USING btree (customer, asset)";

static SHAPE: Statement = Statement {
    sql: "SELECT c.oid, k.indexrelid, concat_ws(E'\\n',
              (SELECT concat_ws(' ', 'table', c.relkind, c.relpersistence, m.amname,
                   CASE WHEN c.relrowsecurity OR c.relforcerowsecurity OR c.relhasrules OR c.relhassubclass
                             OR c.relispartition OR c.reloftype <> 0
                             OR EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent))
                             OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid)
                             OR current_setting('citus.version', true) IS NOT NULL
                        THEN 'other' ELSE 'plain' END)
               FROM pg_am m WHERE m.oid = c.relam),
              (SELECT string_agg(concat_ws(' ', a.attnum, a.attname, s.nspname || '.' || t.typname, a.atttypmod,
                                           a.attcollation, a.attnotnull, nullif(a.attgenerated, ''),
                                           nullif(a.attidentity, ''), CASE WHEN a.atthasdef THEN 'default' END),
                                 E'\\n' ORDER BY a.attnum)
               FROM pg_attribute a LEFT JOIN pg_type t ON t.oid = a.atttypid
               LEFT JOIN pg_namespace s ON s.oid = t.typnamespace
               WHERE a.attrelid = c.oid AND a.attnum > 0),
              (SELECT string_agg(concat_ws(' ', 'constraint', o.conname, pg_get_constraintdef(o.oid)), E'\\n'
                                 ORDER BY o.conname)
               FROM pg_constraint o WHERE (o.conrelid = c.oid AND o.contype <> 'n') OR o.confrelid = c.oid),
              (SELECT string_agg(concat_ws(' ', pg_get_indexdef(i.indexrelid),
                                     CASE WHEN NOT (i.indisvalid AND i.indisready AND i.indislive
                                                    AND i.indimmediate AND NOT i.indisexclusion)
                                          THEN 'unusable' END), E'\\n' ORDER BY n.relname)
               FROM pg_index i JOIN pg_class n ON n.oid = i.indexrelid WHERE i.indrelid = c.oid))
          FROM pg_class c LEFT JOIN pg_index k ON k.indrelid = c.oid AND k.indisprimary
          WHERE c.oid = 'credyt.wallets'::regclass",
    args: &[],
};

/// What was done, or why it was left to SQL.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Way {
    Direct,
    /// The setting is off.
    Off,
    /// A version of Postgres that it was not tested on.
    Version,
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
    /// The first operations of a backend: to look at the table takes longer than they would save.
    First,
    /// The table is not as declared, or is changing.
    Table,
    /// The function's owner may not do all that it takes.
    Permission,
    /// There is no such row.
    Missing,
    /// Another session has the row, or has just changed it.
    Contended,
    /// This call has written the row by SQL meanwhile.
    Written,
    /// What must not be: from now on this backend uses SQL.
    Unexpected,
}

const WAYS: [&str; 15] = [
    "direct",
    "setting",
    "version",
    "failed",
    "isolation",
    "read_only",
    "parallel",
    "hook",
    "first",
    "table",
    "permission",
    "missing",
    "contended",
    "written",
    "unexpected",
];

/// The two operations.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Operation {
    Lock,
    Update,
}

const OPERATIONS: [&str; 2] = ["lock", "update"];

/// The table as it was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Table {
    pub wallets: Oid,
    /// The index of its primary key.
    pub key: Oid,
    /// It is as declared.
    plain: bool,
}

thread_local! {
    static COUNTS: RefCell<[[u64; WAYS.len()]; OPERATIONS.len()]> =
        const { RefCell::new([[0; WAYS.len()]; OPERATIONS.len()]) };
    /// Until the relation cache hears that it, or one of its indexes, has changed.
    static TABLE: Cell<Option<Table>> = const { Cell::new(None) };
    /// What the relation cache has heard while no table was known.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
    static EARLY: Cell<u32> = const { Cell::new(0) };
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Locks a wallet's row as it is now. `None`: it has to be done by SQL, and nothing has been done.
pub fn lock(store: &Store, customer: &str, asset: &str) -> Result<Option<Row>> {
    access(store, Operation::Lock, |table| {
        wallet_row::lock(table, customer, asset)
    })
}

/// Writes the row at this place, which this call has locked. False: it has to be done by SQL, and nothing
/// has been done.
pub fn update(
    store: &Store,
    place: TablePlace,
    keys: [&str; 2],
    state: &[u8],
    next_due_at: Option<Moment>,
) -> Result<bool> {
    let done = access(store, Operation::Update, |table| {
        let way = wallet_row::update(table, place, keys, state, next_due_at);
        (way, (way == Way::Direct).then_some(()))
    })?;
    Ok(done.is_some())
}

/// Called when the library is loaded.
pub fn define_setting() {
    GucRegistry::define_bool_guc(
        c"credyt.direct_access",
        c"Reads and writes wallets without SQL where nothing speaks against it.",
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
    let others = |table: Table| relation != table.wallets && relation != table.key;
    if relation == Oid::INVALID || !TABLE.get().is_some_and(others) {
        TABLE.set(None);
        CHANGES.set(CHANGES.get() + 1);
    }
}

/// Does it where direct access is possible, and counts what came of it.
fn access<R>(
    store: &Store,
    operation: Operation,
    section: impl FnOnce(Table) -> (Way, Option<R>),
) -> Result<Option<R>> {
    interrupt::check();
    let (way, done) = match usable(store)? {
        Ok(table) => section(table),
        Err(way) => (way, None),
    };
    if way == Way::Unexpected {
        FAILED.set(true);
        errors::warn_direct_access_failed(OPERATIONS[operation as usize]);
    }
    COUNTS.with_borrow_mut(|counts| counts[operation as usize][way as usize] += 1);
    Ok(done)
}

/// The table, where nothing speaks against direct access.
fn usable(store: &Store) -> Result<std::result::Result<Table, Way>> {
    if let Some(way) = obstacle() {
        return Ok(Err(way));
    }
    if TABLE.get().is_none() {
        let early = EARLY.get();
        if early < FIRST {
            EARLY.set(early + 1);
            return Ok(Err(Way::First));
        }
        look(store)?;
    }
    let known = TABLE.get().filter(|table| table.plain);
    Ok(known.ok_or(Way::Table))
}

/// Looks at what the table is like now. Where it changes meanwhile, the next call looks again.
fn look(store: &Store) -> Result<()> {
    let changes = CHANGES.get();
    let found: Option<(Oid, Option<Oid>, String)> = SHAPE.run(store, &[])?.read_first()?;
    if let Some((wallets, key, shape)) = found
        && CHANGES.get() == changes
    {
        TABLE.set(Some(Table {
            wallets,
            key: key.unwrap_or(Oid::INVALID),
            plain: shape == DECLARED,
        }));
    }
    Ok(())
}

/// Is it, now that it is locked, what it was when it was looked at?
pub(super) fn still_plain(table: Table) -> bool {
    TABLE.get() == Some(table)
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
    } else if !TESTED.contains(&(pg_sys::PG_VERSION_NUM / 10_000)) {
        Some(Way::Version)
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
