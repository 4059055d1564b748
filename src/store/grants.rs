//! Grants as they were issued.

use std::borrow::Borrow;
use std::str::FromStr;

use serde_json::Value as Json;
use uuid::Uuid;

use super::statement::{
    Columns, INT, INTS, JSONB, JSONBS, NUMERIC, NUMERICS, RowRef, Statement, Store, TEXT, TEXTS,
    TIME, TIMES, UUID, UUIDS,
};
use crate::errors::{self, Result};
use crate::ledger::interrupt::checked;
use crate::ledger::{Amount, Grant, Kind, Moment};
use crate::sql_types::value::{self, Value};

/// The terms of a grant.
#[derive(Clone, Debug)]
pub struct Issued {
    pub id: Uuid,
    pub asset: String,
    pub kind: Kind,
    pub priority: i32,
    pub credits: Amount,
    pub paid: Amount,
    /// Credits of it that paid debt the moment it was issued, and the revenue earned by them.
    pub settled: Amount,
    pub settled_revenue: Amount,
    pub effective_at: Moment,
    pub expires_at: Option<Moment>,
    pub applies_to: Option<Vec<String>>,
    pub origin: Option<Uuid>,
    pub created_at: Moment,
    pub metadata: Option<Json>,
}

impl Issued {
    /// The grant on these terms with so much in it, to be put on a wallet's stack.
    pub fn open(&self, remaining: Amount, deferred: Amount, revoked: bool) -> Grant {
        Grant {
            id: self.id,
            kind: self.kind,
            priority: self.priority,
            effective_at: self.effective_at,
            expires_at: self.expires_at,
            applies_to: self.applies_to.clone(),
            revoked,
            remaining,
            held: Amount::ZERO,
            waiting: Amount::ZERO,
            deferred,
        }
    }
}

static INSERT: Statement = Statement {
    sql: "INSERT INTO credyt.grants (customer, id, asset, kind, priority, credits, paid, settled,
              settled_revenue, effective_at, expires_at, applies_to, origin, created_at, metadata)
          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    args: &[
        TEXT, UUID, TEXT, TEXT, INT, NUMERIC, NUMERIC, NUMERIC, NUMERIC, TIME, TIME, TEXTS, UUID,
        TIME, JSONB,
    ],
};

/// The same for many; `applies_to` comes printed.
static INSERT_ALL: Statement = Statement {
    sql: "INSERT INTO credyt.grants (customer, id, asset, kind, priority, credits, paid, settled,
              settled_revenue, effective_at, expires_at, applies_to, origin, created_at, metadata)
          SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7),
              unnest($8), unnest($9), unnest($10), unnest($11), unnest($12)::text[], unnest($13),
              unnest($14), unnest($15)",
    args: &[
        TEXTS, UUIDS, TEXTS, TEXTS, INTS, NUMERICS, NUMERICS, NUMERICS, NUMERICS, TIMES, TIMES,
        TEXTS, UUIDS, TIMES, JSONBS,
    ],
};

/// The place of `applies_to` among a grant's values.
const PATTERNS: usize = 11;

static BY_ID: Statement = Statement {
    sql:
        "SELECT g.id, g.asset, g.kind, g.priority, g.credits, g.paid, g.settled, g.settled_revenue,
              g.effective_at, g.expires_at, g.applies_to, g.origin, g.created_at, g.metadata
          FROM credyt.grants g WHERE g.customer = $1 AND g.id = $2",
    args: &[TEXT, UUID],
};

static REVOKE: Statement = Statement {
    sql: "INSERT INTO credyt.revoked_grants (customer, grant_id, revoked_at) VALUES ($1, $2, $3)
          ON CONFLICT (customer, grant_id) DO NOTHING",
    args: &[TEXT, UUID, TIME],
};

static IS_REVOKED: Statement = Statement {
    sql: "SELECT 1 FROM credyt.revoked_grants r WHERE r.customer = $1 AND r.grant_id = $2",
    args: &[TEXT, UUID],
};

/// What a grant's credits were spent on, less what came back, and the revenue of it.
static SPENT: Statement = Statement {
    sql: "SELECT coalesce(sum(m.sign * (a.part->>'credits')::numeric), 0),
              coalesce(sum(m.sign * (a.part->>'revenue')::numeric), 0)
          FROM (SELECT l.allocations,
                    CASE WHEN l.kind IN ('debit', 'settlement') THEN 1 ELSE -1 END AS sign
                FROM credyt.ledger l
                WHERE l.customer = $1
                  AND l.kind IN ('debit', 'settlement', 'refund', 'revocation')) m,
              jsonb_array_elements(m.allocations) AS a (part)
          WHERE a.part->>'grant' = $2::text AND a.part ? 'revenue'",
    args: &[TEXT, UUID],
};

pub fn insert(store: &Store, customer: &str, grant: &Issued) -> Result<()> {
    INSERT.run(store, &values(customer, grant)?)?;
    Ok(())
}

/// Inserts grants together, each a customer's.
pub fn insert_all<'a>(
    store: &Store,
    grants: impl Iterator<Item = (&'a str, impl Borrow<Issued>)>,
) -> Result<()> {
    let mut columns = Columns::new(&[
        TEXT, UUID, TEXT, TEXT, INT, NUMERIC, NUMERIC, NUMERIC, NUMERIC, TIME, TIME, TEXT, UUID,
        TIME, JSONB,
    ]);
    for (customer, grant) in checked(grants) {
        let grant = grant.borrow();
        let mut values = values(customer, grant)?;
        if let Some(patterns) = values.get_mut(PATTERNS) {
            *patterns = value::printed_texts(grant.applies_to.as_deref());
        }
        columns.push(values);
    }
    if !columns.is_empty() {
        INSERT_ALL.run(store, &columns.args())?;
    }
    Ok(())
}

fn values(customer: &str, grant: &Issued) -> Result<Vec<Value>> {
    Ok(vec![
        value::text(customer),
        value::uuid(grant.id),
        value::text(&grant.asset),
        value::text(grant.kind.as_str()),
        value::int(grant.priority),
        value::credits(grant.credits),
        value::money(grant.paid),
        value::credits(grant.settled),
        value::money(grant.settled_revenue),
        value::moment(grant.effective_at),
        value::optional_moment(grant.expires_at),
        value::texts(grant.applies_to.as_deref()),
        value::optional_uuid(grant.origin),
        value::moment(grant.created_at),
        value::optional_json("metadata", grant.metadata.as_ref())?,
    ])
}

pub fn by_id(store: &Store, customer: &str, id: Uuid) -> Result<Option<Issued>> {
    let rows = BY_ID.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.first().map(|row| read(&row)).transpose()
}

/// Writes down that a grant is revoked as a whole.
pub fn revoke(store: &Store, customer: &str, id: Uuid, now: Moment) -> Result<()> {
    let args = [value::text(customer), value::uuid(id), value::moment(now)];
    REVOKE.run(store, &args)?;
    Ok(())
}

/// Was the grant revoked as a whole? What comes back to it is lost then.
pub fn is_revoked(store: &Store, customer: &str, id: Uuid) -> Result<bool> {
    let rows = IS_REVOKED.run(store, &[value::text(customer), value::uuid(id)])?;
    Ok(rows.count() > 0)
}

/// Credits of a grant that are spent, and the revenue earned by them. Reads the customer's ledger.
pub fn spent(store: &Store, customer: &str, id: Uuid) -> Result<(Amount, Amount)> {
    let rows = SPENT.run(store, &[value::text(customer), value::uuid(id)])?;
    match rows.first() {
        Some(row) => Ok((row.amount(1)?, row.amount(2)?)),
        None => Ok((Amount::ZERO, Amount::ZERO)),
    }
}

fn read(row: &RowRef) -> Result<Issued> {
    let kind = row.text(3)?;
    Ok(Issued {
        id: row.uuid(1)?,
        asset: row.text(2)?,
        kind: Kind::from_str(&kind).map_err(|_| errors::corrupted("a grant", kind))?,
        priority: row.int(4)?,
        credits: row.amount(5)?,
        paid: row.amount(6)?,
        settled: row.amount(7)?,
        settled_revenue: row.amount(8)?,
        effective_at: row.moment(9)?,
        expires_at: row.optional_moment(10),
        applies_to: row.optional_texts(11),
        origin: row.optional_uuid(12),
        created_at: row.moment(13)?,
        metadata: row.optional_json(14)?,
    })
}
