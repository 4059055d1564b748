//! Citus: distributes the tables of this database over the nodes of a cluster.

use super::cluster::{has_citus, is_distributed};
use super::erasure;
use super::statement::{Statement, Store};
use crate::errors::{self, Result};

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
