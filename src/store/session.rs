//! A connection to the database inside the caller's transaction, and what a backend knows of that database: which
//! installation it has, and whether it is one of a cluster.

use std::cell::Cell;
use std::ffi::CString;

use pgrx::{Spi, pg_sys};

use super::nested::Call;
use super::rows::Rows;
use super::{cache_epoch, version};
use crate::errors::{self, Result};

thread_local! {
    static INSTALLATION: Cell<u64> = const { Cell::new(0) };
    /// The cache epoch in which it was asked whether there is a cluster, and the answer.
    static DISTRIBUTED: Cell<(u64, bool)> = const { Cell::new((0, false)) };
}

/// A number that is another one when the schema is (after DROP and CREATE EXTENSION), or when its tables have been
/// distributed: plans and signatures belong to one.
pub(super) fn installation() -> u64 {
    INSTALLATION.get()
}

/// Whether the wallets are distributed over the nodes of a Citus cluster, as of the beginning of the call.
pub fn is_distributed() -> bool {
    DISTRIBUTED.get().1
}

/// A connection to the database inside the caller's transaction.
pub struct Store {
    pub(super) read_only: bool,
    pub(super) call: Call,
    /// A row that keeps the key of the call has been written through it.
    has_kept_key: Cell<bool>,
}

impl Store {
    /// For functions that change something: every statement sees what has been committed before it.
    pub fn write<R>(body: impl FnOnce(&Store) -> Result<R>) -> Result<R> {
        Store::connect(false, body)
    }

    /// For functions that only read: every statement sees what the calling statement sees, and a
    /// standby can run them.
    pub fn read<R>(body: impl FnOnce(&Store) -> Result<R>) -> Result<R> {
        Store::connect(true, body)
    }

    /// Whether every statement sees what was committed before it. What a reader sees may be older than
    /// what has been announced: it is not to be remembered.
    pub fn sees_latest(&self) -> bool {
        !self.read_only
    }

    /// A row has been written that keeps the key of the call. What fails from now on is no replay: the row
    /// goes with the caller's transaction, or savepoint.
    pub(super) fn keep_key(&self) {
        self.has_kept_key.set(true);
    }

    pub fn has_kept_key(&self) -> bool {
        self.has_kept_key.get()
    }

    /// Runs a command whose text is made when it is needed, such as GRANT, which takes no arguments.
    pub(super) fn command(&self, sql: &str) -> Result<()> {
        self.query(sql).map(|_| ())
    }

    /// Runs a query whose text is made when it is needed.
    pub(super) fn query(&self, sql: &str) -> Result<Rows> {
        let damaged = |why| errors::corrupted("the installation", format_args!("{why}: {sql}"));
        let text = CString::new(sql).map_err(|_| damaged("it holds a NUL"))?;
        // SAFETY: SPI is connected.
        unsafe {
            let context = pg_sys::CurrentMemoryContext;
            let code = pg_sys::SPI_execute(text.as_ptr(), self.read_only, 0);
            pg_sys::MemoryContextSwitchTo(context);
            if code < 0 {
                return Err(damaged("SPI refused it"));
            }
            Ok(Rows::of_spi())
        }
    }

    fn connect<R>(read_only: bool, body: impl FnOnce(&Store) -> Result<R>) -> Result<R> {
        // SAFETY: reads a variable of the backend.
        let caller = unsafe { pg_sys::CurrentMemoryContext };
        if cache_epoch::listen() {
            INSTALLATION.set(INSTALLATION.get() + 1);
            version::forget();
        }
        Spi::connect_mut(|_| {
            // What the body makes outlives the connection: it goes into the answer, too.
            // SAFETY: the context that was current is the caller's, and SPI switches back to it.
            unsafe { pg_sys::MemoryContextSwitchTo(caller) };
            let store = Store {
                read_only,
                call: Call::begin(),
                has_kept_key: Cell::new(false),
            };
            version::check()?;
            look_for_cluster(&store)?;
            if read_only && is_distributed() {
                return within_queries(|| body(&store));
            }
            body(&store)
        })
    }
}

/// Asks again where a table of ours may have changed.
fn look_for_cluster(store: &Store) -> Result<()> {
    let (cache_epoch, before) = DISTRIBUTED.get();
    if cache_epoch == cache_epoch::current() {
        return Ok(());
    }
    let now = has_citus() && asks(store)?;
    DISTRIBUTED.set((cache_epoch::current(), now));
    if now != before {
        INSTALLATION.set(INSTALLATION.get() + 1);
    }
    Ok(())
}

/// Lets a reader ask other shards of its customer where a view's query has called it on one of them.
fn within_queries<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: the setting is back at the end of the call; an error puts all settings back.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        pg_sys::set_config_option(
            c"citus.allow_nested_distributed_execution".as_ptr(),
            c"on".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
        let result = body();
        pg_sys::AtEOXact_GUC(true, level);
        result
    }
}

/// Whether the table is there in which Citus keeps what it has distributed.
pub fn has_citus() -> bool {
    let catalog = pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE);
    // SAFETY: a lookup by name.
    let table = unsafe { pg_sys::get_relname_relid(c"pg_dist_partition".as_ptr(), catalog) };
    table != pg_sys::Oid::INVALID
}

fn asks(store: &Store) -> Result<bool> {
    let rows = store.query(
        "SELECT FROM pg_catalog.pg_dist_partition p WHERE p.logicalrelid = 'credyt.wallets'::regclass AND p.partmethod = 'h'",
    )?;
    Ok(rows.count() > 0)
}
