//! Citus: whether the tables of this database are distributed over several servers. Code whose statements have
//! to differ there asks here.

use pgrx::pg_sys;

pub use super::session::{has_citus, is_distributed};
use super::statement::{Statement, Store, TEXT};
use crate::errors::{self, Result};
use crate::sql_types::value;

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
