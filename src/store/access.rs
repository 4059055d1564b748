//! The rights of roles, as `credyt.capabilities` lists them.
//!
//! That a role was allowed something is a right, too: to read the column of that name in
//! `credyt.capabilities`. So nothing else has to be kept, and a dump keeps it.

use super::cluster;
use super::statement::{Query, Statement, Store, TEXT};
use super::table::query;
use crate::errors::Result;
use crate::sql_types::value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    Spend,
    Events,
    Operate,
    Report,
}

impl Capability {
    pub const ALL: [Capability; 4] = [
        Capability::Spend,
        Capability::Events,
        Capability::Operate,
        Capability::Report,
    ];

    /// Its column in `credyt.capabilities`.
    pub const fn name(self) -> &'static str {
        match self {
            Capability::Spend => "spend",
            Capability::Events => "events",
            Capability::Operate => "operate",
            Capability::Report => "report",
        }
    }
}

/// One change after another: Postgres lets only one transaction at a time change an object's rights,
/// and fails the others. Refused to all but the owner.
static LOCK: Statement = Statement {
    sql: "LOCK TABLE credyt.capabilities IN SHARE ROW EXCLUSIVE MODE",
    args: &[],
};

static OWNS: Statement = Statement {
    sql: "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c
                         WHERE c.relnamespace = 'credyt'::regnamespace AND c.relowner = r.oid)
                 OR EXISTS (SELECT FROM pg_catalog.pg_proc p
                            WHERE p.pronamespace = 'credyt'::regnamespace AND p.proowner = r.oid)
          FROM pg_catalog.pg_roles r WHERE r.rolname = $1",
    args: &[TEXT],
};

static ALLOWED: Statement = Statement {
    sql: "SELECT a.attname::text
          FROM pg_catalog.pg_attribute a
          CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) AS e
          JOIN pg_catalog.pg_roles r ON r.oid = e.grantee
          WHERE a.attrelid = 'credyt.capabilities'::regclass AND r.rolname = $1",
    args: &[TEXT],
};

static ALL_ALLOWED: Statement = Statement {
    sql: "SELECT r.rolname::text, a.attname::text
          FROM pg_catalog.pg_attribute a
          CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) AS e
          JOIN pg_catalog.pg_roles r ON r.oid = e.grantee
          WHERE a.attrelid = 'credyt.capabilities'::regclass",
    args: &[],
};

query! {
    /// What stands between GRANT and TO for all objects of a capability that are not part of others, and whether
    /// other nodes have to be told. On a cluster a view's reader needs the rights of its tables, too; Citus itself tells
    /// the nodes of tables and of some functions, which are alike.
    Rights(what: text, others: texts, on_cluster: boolean, alike: texts):
    "WITH object AS (
         SELECT 'EXECUTE ON FUNCTION ' AS what, p.oid::regprocedure::text AS name, c.spend, c.events, c.operate, c.report
         FROM credyt.capabilities c
         JOIN pg_catalog.pg_proc p ON p.pronamespace = 'credyt'::regnamespace AND p.proname = c.name
         WHERE c.kind = 'function'
         UNION ALL
         SELECT 'SELECT ON ', r.oid::regclass::text, c.spend, c.events, c.operate, c.report OR :on_cluster AND c.kind = 'table'
         FROM credyt.capabilities c
         JOIN pg_catalog.pg_class r ON r.relnamespace = 'credyt'::regnamespace AND r.relname = c.name
         WHERE c.kind IN ('view', 'table')
     )
     SELECT o.what || string_agg(o.name, ', ' ORDER BY o.name), n.is_alone
     FROM object o
     CROSS JOIN LATERAL (
         SELECT coalesce(array_agg(g.what), '{}') AS given
         FROM (VALUES ('spend', o.spend), ('events', o.events), ('operate', o.operate), ('report', o.report)) AS g (what, given)
         WHERE g.given
     ) g
     CROSS JOIN LATERAL (SELECT :on_cluster AND starts_with(o.what, 'EXECUTE') AND o.name <> ALL (:alike) AS is_alone) n
     WHERE :what = ANY (g.given) AND NOT g.given && :others
     GROUP BY o.what, n.is_alone"
}

static GRANT: Statement = Statement {
    sql: "SELECT pg_catalog.format('GRANT %s TO %I', $1, $2)",
    args: &[TEXT, TEXT],
};

static REVOKE: Statement = Statement {
    sql: "SELECT pg_catalog.format('REVOKE %s FROM %I', $1, $2)",
    args: &[TEXT, TEXT],
};

/// Locks everybody's rights until the transaction ends.
pub fn lock(store: &Store) -> Result<()> {
    LOCK.run(store, &[]).map(|_| ())
}

/// Whether the role owns an object of the extension. `None`: there is no such role.
pub fn owns(store: &Store, role: &str) -> Result<Option<bool>> {
    let rows = OWNS.run(store, &[value::text(role)])?;
    rows.read_first()
}

/// What a role has been allowed by now.
pub fn allowed(_: &Store, role: &str) -> Result<Vec<Capability>> {
    let rows = ALLOWED.run_latest(&[value::text(role)])?;
    let columns: Vec<String> = rows.read_all()?;
    let was_allowed = |what: &Capability| columns.iter().any(|column| column == what.name());
    Ok(Capability::ALL.into_iter().filter(was_allowed).collect())
}

/// Every role that was allowed something, and what.
pub fn everyone_allowed(store: &Store) -> Result<Vec<(String, Capability)>> {
    let rows: Vec<(String, String)> = ALL_ALLOWED.run(store, &[])?.read_all()?;
    let mut allowed = Vec::new();
    for (role, column) in rows {
        let what = Capability::ALL
            .into_iter()
            .find(|what| what.name() == column);
        allowed.extend(what.map(|what| (role, what)));
    }
    Ok(allowed)
}

/// Gives a role all rights of a capability.
pub fn grant(store: &Store, role: &str, what: Capability, on_cluster: bool) -> Result<()> {
    let mut rights = rights(store, what, &[], on_cluster)?;
    rights.push(("USAGE ON SCHEMA credyt".to_owned(), false));
    rights.push((columns(&["kind", "name", what.name()]), false));
    run(store, &GRANT, role, &rights)
}

/// Takes the rights of a capability from a role, but for those that others are made of.
pub fn revoke(store: &Store, role: &str, what: Capability, others: &[Capability]) -> Result<()> {
    let mut rights = rights(store, what, others, cluster::is_distributed())?;
    rights.push((columns(&[what.name()]), false));
    if others.is_empty() {
        rights.push((columns(&["kind", "name"]), false));
        rights.push(("USAGE ON SCHEMA credyt".to_owned(), false));
    }
    run(store, &REVOKE, role, &rights)
}

fn columns(columns: &[&str]) -> String {
    format!("SELECT ({}) ON credyt.capabilities", columns.join(", "))
}

fn rights(
    store: &Store,
    what: Capability,
    others: &[Capability],
    on_cluster: bool,
) -> Result<Vec<(String, bool)>> {
    let others: Vec<String> = others.iter().map(|other| other.name().to_owned()).collect();
    let alike = match on_cluster {
        true => cluster::distributed_functions(store)?,
        false => Vec::new(),
    };
    let query = Rights {
        what: what.name(),
        others,
        on_cluster,
        alike,
    };
    query.run(store)?.read_all()
}

fn run(store: &Store, command: &Statement, role: &str, rights: &[(String, bool)]) -> Result<()> {
    for (right, is_alone) in rights {
        let rows = command.run(store, &[value::text(right), value::text(role)])?;
        let command: String = rows.read_one()?;
        store.command(&command)?;
        if *is_alone {
            cluster::run_on_workers(store, &command)?;
        }
    }
    Ok(())
}
