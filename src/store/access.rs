//! The rights of roles, as `credyt.capabilities` lists them.
//!
//! That a role was allowed something is a right, too: to read the column of that name in
//! `credyt.capabilities`. So nothing else has to be kept, and a dump keeps it.

use super::statement::{Statement, Store, TEXT, TEXTS};
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

/// What stands between GRANT and TO for all objects of a capability ($1) that are not part of others ($2).
static RIGHTS: Statement = Statement {
    sql: "WITH object AS (
              SELECT 'EXECUTE ON FUNCTION ' AS what, p.oid::regprocedure::text AS name, c.spend, c.events, c.operate, c.report
              FROM credyt.capabilities c
              JOIN pg_catalog.pg_proc p ON p.pronamespace = 'credyt'::regnamespace AND p.proname = c.name
              WHERE c.kind = 'function'
              UNION ALL
              SELECT 'SELECT ON ', r.oid::regclass::text, c.spend, c.events, c.operate, c.report
              FROM credyt.capabilities c
              JOIN pg_catalog.pg_class r ON r.relnamespace = 'credyt'::regnamespace AND r.relname = c.name
              WHERE c.kind IN ('view', 'table')
          )
          SELECT o.what || string_agg(o.name, ', ' ORDER BY o.name)
          FROM object o
          CROSS JOIN LATERAL (
              SELECT coalesce(array_agg(g.what), '{}') AS given
              FROM (VALUES ('spend', o.spend), ('events', o.events), ('operate', o.operate), ('report', o.report)) AS g (what, given)
              WHERE g.given
          ) g
          WHERE $1 = ANY (g.given) AND NOT g.given && $2
          GROUP BY o.what",
    args: &[TEXT, TEXTS],
};

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

/// Does the role own something of ours? None: there is no such role.
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

/// Gives a role all rights of a capability.
pub fn grant(store: &Store, role: &str, what: Capability) -> Result<()> {
    let mut rights = rights(store, what, &[])?;
    rights.push("USAGE ON SCHEMA credyt".to_owned());
    rights.push(columns(&["kind", "name", what.name()]));
    run(store, &GRANT, role, &rights)
}

/// Takes the rights of a capability from a role, but for those that others are made of.
pub fn revoke(store: &Store, role: &str, what: Capability, others: &[Capability]) -> Result<()> {
    let mut rights = rights(store, what, others)?;
    rights.push(columns(&[what.name()]));
    if others.is_empty() {
        rights.push(columns(&["kind", "name"]));
        rights.push("USAGE ON SCHEMA credyt".to_owned());
    }
    run(store, &REVOKE, role, &rights)
}

fn columns(columns: &[&str]) -> String {
    format!("SELECT ({}) ON credyt.capabilities", columns.join(", "))
}

fn rights(store: &Store, what: Capability, others: &[Capability]) -> Result<Vec<String>> {
    let others: Vec<String> = others.iter().map(|other| other.name().to_owned()).collect();
    let rows = RIGHTS.run(
        store,
        &[value::text(what.name()), value::texts(Some(&others))],
    )?;
    rows.read_all()
}

fn run(store: &Store, command: &Statement, role: &str, rights: &[String]) -> Result<()> {
    for right in rights {
        let rows = command.run(store, &[value::text(right), value::text(role)])?;
        store.command(&rows.read_one::<String>()?)?;
    }
    Ok(())
}
