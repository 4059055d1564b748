//! Citus: whether the tables of this database are distributed over several servers. Code whose statements have
//! to differ there asks here.

use std::cell::Cell;

use pgrx::pg_sys;

use super::statement::{Statement, Store, TEXT};
use super::{cache_epoch, erasure};
use crate::errors::{self, Result};
use crate::sql_types::value;

thread_local! {
    /// The cache epoch in which it was asked, and the answer.
    static DISTRIBUTED: Cell<(u64, bool)> = const { Cell::new((0, false)) };
}

/// Whether the wallets are distributed over the nodes of a Citus cluster, as of the beginning of the call.
pub fn is_distributed() -> bool {
    DISTRIBUTED.get().1
}

/// The same where no call of ours may have begun.
pub fn is_seen_distributed() -> Result<bool> {
    Store::read(|_| Ok(is_distributed()))
}

/// Asks again where a table of ours may have changed. True when the answer is another one than before.
pub(super) fn look(store: &Store) -> Result<bool> {
    let (cache_epoch, before) = DISTRIBUTED.get();
    if cache_epoch == cache_epoch::current() {
        return Ok(false);
    }
    let now = has_citus() && asks(store)?;
    DISTRIBUTED.set((cache_epoch::current(), now));
    Ok(now != before)
}

/// Lets a reader ask other shards of its customer where a view's query has called it on one of them.
pub(super) fn within_queries<R>(body: impl FnOnce() -> R) -> R {
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

/// Whether Citus is loaded: then any table may be an empty one whose rows are in shards, and become so at any moment.
pub(super) fn is_citus_loaded() -> bool {
    // SAFETY: reads a setting, if it is known.
    unsafe { !pg_sys::GetConfigOption(c"citus.version".as_ptr(), true, false).is_null() }
}

/// Whether the current role is one that cannot log in.
pub fn is_without_login() -> bool {
    // SAFETY: a lookup by the role's id; the row is read before it is let go of.
    unsafe {
        let role = pg_sys::Datum::from(pg_sys::GetUserId());
        let row = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::AUTHOID as i32, role);
        if row.is_null() {
            return true;
        }
        let login = pg_sys::Anum_pg_authid_rolcanlogin as pg_sys::AttrNumber;
        let mut is_null = false;
        let can = pg_sys::SysCacheGetAttr(
            pg_sys::SysCacheIdentifier::AUTHOID as i32,
            row,
            login,
            &mut is_null,
        );
        pg_sys::ReleaseSysCache(row);
        is_null || can.value() == 0
    }
}

fn asks(store: &Store) -> Result<bool> {
    let rows = store.query(
        "SELECT FROM pg_catalog.pg_dist_partition p WHERE p.logicalrelid = 'credyt.wallets'::regclass AND p.partmethod = 'h'",
    )?;
    Ok(rows.count() > 0)
}

/// Of the tables that are not distributed: those of a customer's rows, wallets first, and those of the books, which every
/// node has.
static TABLES: Statement = Statement {
    sql: "SELECT c.relname::text, coalesce(a.attnotnull AND c.relname <> 'customer_price_lists', false) AS is_customers
          FROM pg_catalog.pg_class c
          LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'customer' AND NOT a.attisdropped
          WHERE c.relnamespace = 'credyt'::regnamespace AND c.relkind = 'r'
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_dist_partition p WHERE p.logicalrelid = c.oid)
          ORDER BY is_customers, c.relname = 'wallets' DESC, c.relname",
    args: &[],
};

static HOLD_SHARD: Statement = Statement {
    sql: "SELECT pg_catalog.lock_shard_metadata(5, ARRAY[
              pg_catalog.get_shard_id_for_distribution_column('credyt.wallets', $1)])",
    args: &[TEXT],
};

/// Keeps a customer's shard where it is until the transaction ends, for who is about to lock a row of it. Citus does so for
/// writes only, and a row lock stays behind on the old node: two calls could each have locked the wallet.
pub(super) fn hold_shard(store: &Store, customer: &str) -> Result<()> {
    match is_distributed() {
        true => HOLD_SHARD.run(store, &[value::text(customer)]).map(|_| ()),
        false => Ok(()),
    }
}

/// The functions whose rights Citus makes the same on every node.
pub(super) fn distributed_functions(store: &Store) -> Result<Vec<String>> {
    let rows = store.query(
        "SELECT p.oid::regprocedure::text FROM pg_catalog.pg_proc p
         JOIN pg_catalog.pg_dist_object o ON o.classid = 'pg_catalog.pg_proc'::regclass AND o.objid = p.oid
         WHERE p.pronamespace = 'credyt'::regnamespace",
    )?;
    rows.read_all()
}

static ON_WORKERS: Statement = Statement {
    sql: "SELECT n.nodename || ':' || n.nodeport, r.result
          FROM pg_catalog.run_command_on_workers($1) r JOIN pg_catalog.pg_dist_node n USING (nodename, nodeport)
          WHERE NOT r.success",
    args: &[TEXT],
};

/// Runs a command on each of the other nodes, where it counts at once, whatever becomes of this transaction.
pub(super) fn run_on_workers(store: &Store, command: &str) -> Result<()> {
    let failed: Option<(String, Option<String>)> = ON_WORKERS
        .run(store, &[value::text(command)])?
        .read_first()?;
    match failed {
        Some((node, why)) => Err(errors::node_refused(&node, &why.unwrap_or_default())),
        None => Ok(()),
    }
}

/// What the tables were distributed for: an update of the extension may have put back objects of one server, or have brought
/// new ones. A comment is in no dump of the extension, so it does not come back on one server.
const NOTE_VERSION: &str = "DO $$ BEGIN EXECUTE pg_catalog.format('COMMENT ON FUNCTION credyt.distribute(int) IS %L',
    'Distributed for version ' || (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'credyt_pg')); END $$";

const IS_OF_THIS_VERSION: &str = "SELECT pg_catalog.obj_description('credyt.distribute(int)'::regprocedure, 'pg_proc')
    = 'Distributed for version ' || e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'credyt_pg'";

/// Refuses (55000) a cluster that the tables cannot be distributed over as it is.
pub fn check_cluster(store: &Store) -> Result<()> {
    let first = |sql: &str| -> Result<bool> {
        let rows = store.query(sql)?;
        Ok(rows.read_first::<bool>()?.unwrap_or(false))
    };
    if !has_citus() {
        return Err(errors::no_citus());
    }
    if !first("SELECT g.groupid = 0 FROM pg_catalog.pg_dist_local_group g")? {
        return Err(errors::not_the_coordinator());
    }
    if is_distributed() && first(IS_OF_THIS_VERSION)? {
        return Err(errors::already_distributed());
    }
    if !first("SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_node n WHERE n.groupid = 0)")? {
        return Err(errors::coordinator_not_in_cluster());
    }
    if !first(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_node n WHERE n.shouldhaveshards AND n.isactive)",
    )? {
        return Err(errors::no_workers());
    }
    // The function loads the library, which compares its version with that of the SQL objects.
    let nodes = store.query(
        "SELECT r.nodename || ':' || r.nodeport, CASE WHEN r.success THEN 'it has version ' ELSE '' END || r.result
         FROM (SELECT n.nodename, n.nodeport, a.success, a.result
               FROM pg_catalog.run_command_on_all_nodes(
                        $$SELECT e.extversion FROM pg_catalog.pg_extension e
                          WHERE e.extname = 'credyt_pg' AND credyt.statement_time() IS NOT NULL$$) a
               JOIN pg_catalog.pg_dist_node n ON n.nodeid = a.nodeid) r
         WHERE NOT r.success
            OR r.result IS DISTINCT FROM (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'credyt_pg')
         ORDER BY 1",
    )?;
    let first: Option<(String, Option<String>)> = nodes.read_first()?;
    match first {
        Some((node, why)) => Err(errors::node_not_ready(&node, &why.unwrap_or_default())),
        None => Ok(()),
    }
}

/// Distributes the tables over this many shards, those that are not yet distributed. How many tables.
pub fn distribute(store: &Store, shards: i32) -> Result<usize> {
    // One connection to each node: Citus demands it where tables and functions are distributed after an update.
    store.command(
        "SELECT pg_catalog.set_config('citus.multi_shard_modify_mode', 'sequential', true)",
    )?;
    // Reports read the ledger alone on a cluster.
    store.command("TRUNCATE credyt.rollup_progress, credyt.margin_days, credyt.margin_customers, credyt.margin_scopes,
                   credyt.usage_days")?;
    store.command(include_str!("cluster_views.sql"))?;
    store.command("SET LOCAL citus.enable_unsafe_triggers = on")?;
    let tables: Vec<(String, bool)> = TABLES.run(store, &[])?.read_all()?;
    for (table, is_customers) in &tables {
        let command = match (*is_customers, table.as_str()) {
            (false, _) => format!("SELECT pg_catalog.create_reference_table('credyt.{table}')"),
            (true, "wallets") => format!(
                "SELECT pg_catalog.create_distributed_table('credyt.wallets', 'customer', shard_count => {shards}, colocate_with => 'none')"
            ),
            (true, _) => format!(
                "SELECT pg_catalog.create_distributed_table('credyt.{table}', 'customer', colocate_with => 'credyt.wallets')"
            ),
        };
        store.command(&command)?;
        // The rows are in the shards now; what the coordinator still has of its own is no longer read.
        let leftovers = format!(
            "SELECT pg_catalog.truncate_local_data_after_distributing_table('credyt.{table}')"
        );
        erasure::with_permit(table, || store.command(&leftovers))?;
    }
    // Whole calls go to the node of their customer, within transactions, too.
    store.command(
        "SELECT pg_catalog.create_distributed_function(p.oid, 'customer', colocate_with => 'credyt.wallets', force_delegation => true)
         FROM pg_catalog.pg_proc p WHERE p.prosupport = 'credyt.keep_call_here'::regproc",
    )?;
    store.command(NOTE_VERSION)?;
    Ok(tables.len())
}
