//! What payments brought: the grants that name one, the periods of plans that one paid for, and where the
//! credits of a grant went.

use uuid::Uuid;

use super::grants::{self, GrantTerms};
use super::statement::{Query, Statement, Store, TEXT, UUID};
use super::table::{insert, query, sql, table};
use crate::errors::{self, Result};
use crate::ledger::{Amount, Moment, plan};
use crate::sql_types::value;

table! {
    /// The periods of a subscription that a payment paid for: those that start in `[since, until)`, or with
    /// `None` the one that starts at `since`.
    pub struct PaidPeriods {
        subscription_id: Uuid as uuid,
        since: Moment as timestamptz,
        until: Option<Moment> as timestamptz,
    }
}

table! {
    /// A payment, and what it paid for.
    struct SubscriptionPayment {
        customer: String as text,
        subscription_id: Uuid as uuid,
        since: Moment as timestamptz,
        until: Option<Moment> as timestamptz,
        payment: String as text,
        created_at: Moment as timestamptz,
    }
}

/// The first payment that names a period counts.
static NAME: Statement = insert!(
    "subscription_payments",
    SubscriptionPayment,
    " ON CONFLICT (customer, subscription_id, since) DO NOTHING"
);

static PERIODS: Statement = Statement {
    sql: sql!(
        "SELECT ",
        PaidPeriods::COLUMNS,
        " FROM credyt.subscription_payments p
          WHERE p.customer = $1 AND p.payment = $2 ORDER BY p.since, p.subscription_id"
    ),
    args: &[TEXT, TEXT],
};

static GRANTS: Statement = Statement {
    sql: "SELECT g.id FROM credyt.grants g WHERE g.customer = $1 AND g.payment = $2 ORDER BY g.id",
    args: &[TEXT, TEXT],
};

query! {
    /// What plans granted in periods that start then.
    PeriodGrants(customer: text, since: timestamptz, until: timestamptz):
    "SELECT g.id, g.effective_at FROM credyt.grants g
     WHERE g.customer = :customer AND g.kind = 'included' AND g.origin IS NULL AND g.effective_at >= :since
       AND (g.effective_at = :since OR g.effective_at < :until) ORDER BY g.effective_at"
}

table! {
    struct Move {
        customer: String as text,
        grant_id: Uuid as uuid,
        credits: Amount as credits,
    }
}

/// Where credits of a grant went: to other grants of the wallet or of another customer's.
static MOVES: Statement = Statement {
    sql: sql!(
        "SELECT ",
        Move::COLUMNS,
        " FROM (SELECT coalesce(a.part->>'to_customer', l.customer) AS customer, (a.part->>'to')::uuid AS grant_id,
                       sum((a.part->>'credits')::numeric) AS credits
                FROM credyt.ledger l CROSS JOIN LATERAL jsonb_array_elements(l.allocations) AS a (part)
                WHERE l.customer = $1 AND l.kind = 'transfer' AND (l.refers_to = $2 OR l.refers_to IS NULL)
                  AND a.part->>'grant' = $2::text AND a.part ? 'to'
                GROUP BY 1, 2) m ORDER BY m.grant_id"
    ),
    args: &[TEXT, UUID],
};

/// Says that a payment paid for these periods.
pub fn name_periods(
    store: &Store,
    customer: &str,
    periods: &PaidPeriods,
    payment: &str,
    now: Moment,
) -> Result<()> {
    let row = SubscriptionPayment {
        customer: customer.to_owned(),
        subscription_id: periods.subscription_id,
        since: periods.since,
        until: periods.until,
        payment: payment.to_owned(),
        created_at: now,
    };
    NAME.run(store, &row.values()?)?;
    Ok(())
}

pub fn periods(store: &Store, customer: &str, payment: &str) -> Result<Vec<PaidPeriods>> {
    let rows = PERIODS.run(store, &[value::text(customer), value::text(payment)])?;
    rows.read_all()
}

/// The grants that came with a payment: those that name it, and those of the periods it paid for.
pub fn grants(
    store: &Store,
    customer: &str,
    payment: &str,
    periods: &[PaidPeriods],
) -> Result<Vec<GrantTerms>> {
    let rows = GRANTS.run(store, &[value::text(customer), value::text(payment)])?;
    let mut ids: Vec<Uuid> = rows.read_all()?;
    for paid in periods {
        let query = PeriodGrants {
            customer,
            since: paid.since,
            until: paid.until,
        };
        for row in query.run(store)?.iter() {
            let (id, starts): (Uuid, Moment) = row.read()?;
            if id == plan::grant_id(paid.subscription_id, starts, plan::OWN) && !ids.contains(&id) {
                ids.push(id);
            }
        }
    }
    ids.into_iter()
        .map(|id| issued(store, customer, id))
        .collect()
}

/// The grants that credits of a grant moved to, and how many.
pub fn moves(store: &Store, customer: &str, id: Uuid) -> Result<Vec<(GrantTerms, Amount)>> {
    let rows = MOVES.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.iter()
        .map(|row| {
            let to: Move = row.read()?;
            Ok((issued(store, &to.customer, to.grant_id)?, to.credits))
        })
        .collect()
}

fn issued(store: &Store, customer: &str, id: Uuid) -> Result<GrantTerms> {
    grants::by_id(store, customer, id)?.ok_or_else(|| {
        errors::corrupted("the ledger", "a grant that credits moved to is not there")
    })
}
