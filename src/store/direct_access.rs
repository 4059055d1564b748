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
use super::statement::{BOOL, Statement, Store, TEXT, TEXTS, WALLET};
use super::table::Column;
use super::wallets::WalletRow;
use crate::errors::{self, Result};
use crate::ledger::interrupt;
use crate::sql_types::value::{self, TablePlace, Value};

/// The setting `credyt.direct_access`.
static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);

/// Major versions of Postgres on which the tests of it pass.
const TESTED: &[u32] = &[18];

/// The first operations of a backend go by SQL, before it looks at the table: how many.
const FIRST: u32 = 10;

/// A table of which rows are reached directly.
pub struct DirectTable {
    /// Its place among those that a backend remembers.
    nth: usize,
    name: &'static str,
    columns: &'static [Column],
    types: &'static [Oid],
    /// A trigger that fires on an UPDATE matters, too.
    is_updated: bool,
    /// What else it is, as `SHAPE` prints it.
    shape: &'static str,
}

pub static WALLETS: DirectTable = DirectTable {
    nth: 0,
    name: "wallets",
    columns: WalletRow::DECLARED,
    types: WalletRow::TYPES,
    is_updated: true,
    shape: "\
table r p heap plain
not null asset, created_at, customer, overdraft_limit, state, status
constraint wallets_pkey PRIMARY KEY (customer, asset)
CREATE INDEX wallets_next_due_at ON credyt.wallets USING btree (next_due_at) WHERE (next_due_at IS NOT NULL)
CREATE UNIQUE INDEX wallets_pkey ON credyt.wallets USING btree (customer, asset)",
};

pub static LEDGER: DirectTable = DirectTable {
    nth: 1,
    name: "ledger",
    columns: Entry::DECLARED,
    types: Entry::TYPES,
    is_updated: false,
    shape: "\
table r p heap plain
not null accounted_at, allocations, asset, balance, created_at, credits, customer, id, kind, occurred_at, revenue, seq
constraint ledger_pkey PRIMARY KEY (customer, id)
CREATE INDEX ledger_accounted_at ON credyt.ledger USING brin \
(accounted_at timestamptz_minmax_multi_ops, created_at) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX ledger_authorization ON credyt.ledger USING btree (customer, authorization_id) WHERE (authorization_id IS NOT NULL)
CREATE UNIQUE INDEX ledger_key ON credyt.ledger USING btree (customer, idempotency_key) WHERE (idempotency_key IS NOT NULL)
CREATE UNIQUE INDEX ledger_pkey ON credyt.ledger USING btree (customer, id)
CREATE INDEX ledger_refers_to ON credyt.ledger USING btree (customer, refers_to) WHERE (refers_to IS NOT NULL)",
};

pub static AUTHORIZATIONS: DirectTable = DirectTable {
    nth: 2,
    name: "authorizations",
    columns: Authorization::DECLARED,
    types: Authorization::TYPES,
    is_updated: true,
    shape: "\
table r p heap plain
not null action, asset, captured, captured_quantity, created_at, credits, customer, expires_at, forgiven, id, overrun, pins, \
priced, quantity, status
constraint authorizations_pkey PRIMARY KEY (customer, id)
CREATE UNIQUE INDEX authorizations_key ON credyt.authorizations USING btree (customer, idempotency_key) \
WHERE (idempotency_key IS NOT NULL)
CREATE INDEX authorizations_open ON credyt.authorizations USING btree (customer, asset, expires_at) WHERE (status = 'open'::text)
CREATE UNIQUE INDEX authorizations_pkey ON credyt.authorizations USING btree (customer, id)",
};

const TABLES: usize = 3;

/// What `SHAPE` returns: of the indexes each where there is one.
type Seen = (Oid, Option<Oid>, Option<Oid>, bool, String);

/// The table of this name, its primary key, its index of idempotency keys; whether it has these columns and types
/// ($2) and no others; and what else it is, as text. $3: what fires on an UPDATE matters, too.
static SHAPE: Statement = Statement {
    sql: "SELECT c.oid, k.indexrelid, to_regclass('credyt.' || $1 || '_key')::oid,
              (SELECT array_agg(concat_ws(' ', a.attname, CASE WHEN a.atttypid = 'credyt.wallet'::regtype THEN -1
                                                               ELSE a.atttypid::bigint END,
                                          CASE WHEN a.atttypmod <> -1 OR a.attgenerated <> '' OR a.attidentity <> ''
                                                    OR a.atthasdef OR a.attisdropped
                                                    OR a.attcollation <> t.typcollation THEN 'other' END)
                                ORDER BY a.attnum)
               FROM pg_attribute a LEFT JOIN pg_type t ON t.oid = a.atttypid
               WHERE a.attrelid = c.oid AND a.attnum > 0) = $2,
              concat_ws(E'\\n',
              (SELECT concat_ws(' ', 'table', c.relkind, c.relpersistence, m.amname,
                   CASE WHEN c.relrowsecurity OR c.relforcerowsecurity OR c.relhasrules OR c.relhassubclass
                             OR c.relispartition OR c.reloftype <> 0
                             OR EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent))
                             OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid
                                        AND (t.tgtype & 4 <> 0 OR $3 AND t.tgtype & 16 <> 0))
                             OR current_setting('citus.version', true) IS NOT NULL
                        THEN 'other' ELSE 'plain' END)
               FROM pg_am m WHERE m.oid = c.relam),
              (SELECT 'not null ' || string_agg(a.attname, ', ' ORDER BY a.attname)
               FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attnotnull),
              (SELECT string_agg(concat_ws(' ', 'constraint', o.conname, pg_get_constraintdef(o.oid)), E'\\n'
                                 ORDER BY o.conname)
               FROM pg_constraint o WHERE (o.conrelid = c.oid AND o.contype <> 'n') OR o.confrelid = c.oid),
              (SELECT string_agg(concat_ws(' ', pg_get_indexdef(i.indexrelid),
                                     CASE WHEN NOT (i.indisvalid AND i.indisready AND i.indislive
                                                    AND i.indimmediate AND NOT i.indisexclusion)
                                          THEN 'unusable' END), E'\\n' ORDER BY n.relname)
               FROM pg_index i JOIN pg_class n ON n.oid = i.indexrelid WHERE i.indrelid = c.oid))
          FROM pg_class c LEFT JOIN pg_index k ON k.indrelid = c.oid AND k.indisprimary
          WHERE c.oid = to_regclass('credyt.' || $1)",
    args: &[TEXT, TEXTS, BOOL],
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
    /// This call has written the row by SQL.
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

/// The operations.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Operation {
    Lock,
    Update,
    Read,
    Insert,
}

const OPERATIONS: [&str; 4] = ["lock", "update", "read", "insert"];

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
    static EARLY: Cell<u32> = const { Cell::new(0) };
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Locks the row of this primary key as it is now, and reads these columns. `None`: it has to be done by
/// SQL, and nothing has been done.
pub fn lock(
    store: &Store,
    table: &'static DirectTable,
    keys: &[KeyPart; 2],
    wanted: &[usize],
) -> Result<Option<Row>> {
    access(store, table, Operation::Lock, |table| {
        direct_rows::find(table, keys, wanted, true)
    })
}

/// Reads these columns of the row of this primary key. `None`: it has to be done by SQL.
pub fn read(
    store: &Store,
    table: &'static DirectTable,
    keys: &[KeyPart; 2],
    wanted: &[usize],
) -> Result<Option<Row>> {
    access(store, table, Operation::Read, |table| {
        direct_rows::find(table, keys, wanted, false)
    })
}

/// Writes columns of the row at this place, which this call has read and no other session may write. False: it
/// has to be done by SQL, and nothing has been done.
pub fn update(
    store: &Store,
    table: &'static DirectTable,
    place: TablePlace,
    keys: &[KeyPart; 2],
    changes: &[(usize, Value)],
) -> Result<bool> {
    let done = access(store, table, Operation::Update, |table| {
        let way = direct_rows::update(table, place, keys, changes);
        (way, (way == Way::Direct).then_some(()))
    })?;
    Ok(done.is_some())
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
    let inserted = access(store, table, Operation::Insert, |table| {
        direct_rows::insert(table, row, index)
    })?;
    match inserted {
        None => Ok(None),
        Some(Inserted::Done) => Ok(Some(true)),
        Some(Inserted::KeyTaken) => Ok(Some(false)),
        Some(Inserted::Conflict) => {
            // No replay: requests of one wallet come one after another, so the other one was about another wallet.
            store.keep_key();
            Err(errors::idempotency_conflict(
                customer,
                key.unwrap_or_default(),
            ))
        }
    }
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
    store: &Store,
    table: &'static DirectTable,
    operation: Operation,
    section: impl FnOnce(Table) -> (Way, Option<R>),
) -> Result<Option<R>> {
    interrupt::check();
    let (way, done) = match usable(store, table)? {
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
fn usable(store: &Store, table: &'static DirectTable) -> Result<std::result::Result<Table, Way>> {
    if let Some(way) = obstacle() {
        return Ok(Err(way));
    }
    let known = || KNOWN.with(|known| known.get(table.nth).and_then(Cell::get));
    if known().is_none() {
        let early = EARLY.get();
        if early < FIRST {
            EARLY.set(early + 1);
            return Ok(Err(Way::First));
        }
        look(store, table)?;
    }
    Ok(known().filter(|table| table.plain).ok_or(Way::Table))
}

/// Looks at what the table is like now. Where anything changes meanwhile, the next call looks again.
fn look(store: &Store, table: &'static DirectTable) -> Result<()> {
    let changes = CHANGES.get();
    let column = |(column, kind): (&Column, &Oid)| match *kind {
        WALLET => format!("{} -1", column.name),
        kind => format!("{} {}", column.name, kind.to_u32()),
    };
    let columns: Vec<String> = table.columns.iter().zip(table.types).map(column).collect();
    let args = [
        value::text(table.name),
        value::texts(Some(&columns)),
        value::bool(table.is_updated),
    ];
    let found: Option<Seen> = SHAPE.run(store, &args)?.read_first()?;
    if let Some((relation, key, unique, has_columns, shape)) = found
        && CHANGES.get() == changes
    {
        let found = Table {
            relation,
            key: key.unwrap_or(Oid::INVALID),
            unique: unique.unwrap_or(Oid::INVALID),
            types: table.types,
            nth: table.nth,
            plain: has_columns && shape == table.shape,
        };
        KNOWN.with(|known| known.get(table.nth).map(|known| known.set(Some(found))));
    }
    Ok(())
}

/// Whether the table, now that it is locked, is still what it was when it was looked at.
pub(super) fn still_plain(table: Table) -> bool {
    KNOWN.with(|known| known.get(table.nth).and_then(Cell::get)) == Some(table)
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
