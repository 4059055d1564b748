//! Grants as they were issued.

use std::borrow::Borrow;

use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use super::statement::{Columns, Statement, Store, TEXT, UUID};
use super::table::{insert, insert_all, sql, table};
use crate::errors::Result;
use crate::ledger::interrupt::checked;
use crate::ledger::{Amount, Grant, Kind, Moment};
use crate::sql_types::value;

table! {
    /// The terms of a grant.
    #[derive(Clone, Debug)]
    pub struct GrantTerms {
        customer: String as text,
        id: Uuid as uuid,
        asset: String as text,
        kind: Kind as text,
        priority: i32 as int,
        credits: Amount as credits,
        paid: Amount as money,
        /// Credits of it that paid debt the moment it was issued, and the revenue earned by them.
        settled: Amount as credits,
        debt_revenue: Amount as money,
        effective_at: Moment as timestamptz,
        expires_at: Option<Moment> as timestamptz,
        applies_to: Option<Vec<String>> as texts,
        origin: Option<Uuid> as uuid,
        created_at: Moment as timestamptz,
        metadata: Option<Json> as jsonb,
        payment: Option<String> as text,
        /// What it was paid in, where that is not the asset's currency: how much, and the rate that `paid` was
        /// converted at.
        currency: Option<String> as text,
        currency_paid: Option<Amount> as money,
        exchange_rate: Option<Decimal> as numeric,
    }
}

impl GrantTerms {
    /// The terms of a grant that came out of others, as it is issued.
    pub fn of(customer: &str, asset: &str, grant: &Grant, now: Moment) -> GrantTerms {
        GrantTerms {
            customer: customer.to_owned(),
            id: grant.id,
            asset: asset.to_owned(),
            kind: grant.kind,
            priority: grant.priority,
            credits: grant.remaining,
            paid: grant.deferred,
            settled: Amount::ZERO,
            debt_revenue: Amount::ZERO,
            effective_at: grant.effective_at,
            expires_at: grant.expires_at,
            applies_to: grant.applies_to.clone(),
            origin: None,
            created_at: now,
            metadata: None,
            payment: None,
            currency: None,
            currency_paid: None,
            exchange_rate: None,
        }
    }

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

static INSERT: Statement = insert!("grants", GrantTerms);

static INSERT_ALL: Statement = insert_all!("grants", GrantTerms);

static BY_ID: Statement = Statement {
    sql: sql!(
        "SELECT ",
        GrantTerms::COLUMNS,
        " FROM credyt.grants g WHERE g.customer = $1 AND g.id = $2"
    ),
    args: &[TEXT, UUID],
};

static ENDED: Statement = Statement {
    sql: "SELECT e.ended_at FROM credyt.ended_grants e WHERE e.customer = $1 AND e.grant_id = $2",
    args: &[TEXT, UUID],
};

table! {
    /// A grant that ended before its time.
    struct EndedGrant {
        customer: String as text,
        grant_id: Uuid as uuid,
        ended_at: Moment as timestamptz,
    }
}

static END: Statement = insert_all!(
    "ended_grants",
    EndedGrant,
    " ON CONFLICT (customer, grant_id) DO NOTHING"
);

table! {
    /// A grant that was revoked as a whole.
    struct Revocation {
        customer: String as text,
        grant_id: Uuid as uuid,
        /// So was what of it is spent.
        owed: bool as boolean,
        revoked_at: Moment as timestamptz,
    }
}

static REVOKE: Statement = insert!(
    "revoked_grants",
    Revocation,
    " ON CONFLICT (customer, grant_id, owed) DO NOTHING"
);

static IS_REVOKED: Statement = Statement {
    sql: "SELECT 1 FROM credyt.revoked_grants r WHERE r.customer = $1 AND r.grant_id = $2",
    args: &[TEXT, UUID],
};

static OWES_SPENT: Statement = Statement {
    sql: "SELECT 1 FROM credyt.revoked_grants r
          WHERE r.customer = $1 AND r.grant_id = $2 AND r.owed",
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

pub fn insert(store: &Store, grant: &GrantTerms) -> Result<()> {
    INSERT.run(store, &grant.values()?)?;
    Ok(())
}

/// Inserts grants together.
pub fn insert_all(
    store: &Store,
    grants: impl Iterator<Item = impl Borrow<GrantTerms>>,
) -> Result<()> {
    let mut columns = Columns::new(GrantTerms::ELEMENTS);
    for grant in checked(grants) {
        columns.push(grant.borrow().elements()?);
    }
    if !columns.is_empty() {
        INSERT_ALL.run(store, &columns.args())?;
    }
    Ok(())
}

pub fn by_id(store: &Store, customer: &str, id: Uuid) -> Result<Option<GrantTerms>> {
    let rows = BY_ID.run(store, &[value::text(customer), value::uuid(id)])?;
    let Some(mut grant) = rows.read_first::<GrantTerms>()? else {
        return Ok(None);
    };
    // A plan's grant may have ended before its time.
    if grant.kind == Kind::Included {
        let rows = ENDED.run(store, &[value::text(customer), value::uuid(id)])?;
        grant.expires_at = rows.read_first()?.or(grant.expires_at);
    }
    Ok(Some(grant))
}

/// Writes down that these grants have ended before their time.
pub fn end(
    store: &Store,
    customer: &str,
    ids: impl Iterator<Item = Uuid>,
    now: Moment,
) -> Result<()> {
    let mut columns = Columns::new(EndedGrant::ELEMENTS);
    for grant_id in ids {
        let row = EndedGrant {
            customer: customer.to_owned(),
            grant_id,
            ended_at: now,
        };
        columns.push(row.elements()?);
    }
    if !columns.is_empty() {
        END.run(store, &columns.args())?;
    }
    Ok(())
}

/// Writes down that a grant is revoked as a whole, and whether what of it is spent is owed.
pub fn revoke(store: &Store, customer: &str, id: Uuid, owed: bool, now: Moment) -> Result<()> {
    let row = Revocation {
        customer: customer.to_owned(),
        grant_id: id,
        owed,
        revoked_at: now,
    };
    REVOKE.run(store, &row.values()?)?;
    Ok(())
}

/// Whether what the grant still spends is owed: it was revoked as a whole, with its spent credits.
pub fn owes_spent(store: &Store, customer: &str, id: Uuid) -> Result<bool> {
    let rows = OWES_SPENT.run(store, &[value::text(customer), value::uuid(id)])?;
    Ok(rows.count() > 0)
}

/// Whether the grant was revoked as a whole. What comes back to it is then lost.
pub fn is_revoked(store: &Store, customer: &str, id: Uuid) -> Result<bool> {
    let rows = IS_REVOKED.run(store, &[value::text(customer), value::uuid(id)])?;
    Ok(rows.count() > 0)
}

/// Credits of a grant that are spent, and the revenue earned by them. Reads the customer's ledger.
pub fn spent(store: &Store, customer: &str, id: Uuid) -> Result<(Amount, Amount)> {
    let rows = SPENT.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.read_one()
}
