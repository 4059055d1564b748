//! What can only be read off the ledger's rows: balances of the past, and whether all adds up.

use super::statement::{Statement, Store, TEXT, TIME};
use crate::errors::Result;
use crate::ledger::{Amount, Moment};
use crate::sql_types::{Args, value};

/// A debit counts from when it was booked, what time decided (a renewal, an expiry) from the moment it
/// fell due, and a grant, with what was revoked of it, not before it is live.
static SETTLED_AT: Statement = Statement {
    sql: "SELECT coalesce(sum(m.credits), 0), coalesce(sum(m.owed), 0)
          FROM (SELECT l.credits, l.seq,
                    CASE WHEN l.kind = 'debit' THEN l.created_at ELSE l.occurred_at END AS at,
                    CASE WHEN l.kind IN ('grant', 'expiry', 'revocation') THEN g.effective_at END AS live_at,
                    CASE WHEN l.kind IN ('debit', 'refund', 'revocation') THEN sign(-l.credits) * (
                             SELECT sum((a.part->>'credits')::numeric)
                             FROM jsonb_array_elements(l.allocations) AS a (part)
                             WHERE a.part->>'kind' = 'overdraft')
                         WHEN l.kind = 'settlement' THEN -(
                             SELECT sum((a.part->>'credits')::numeric)
                             FROM jsonb_array_elements(l.allocations) AS a (part))
                    END AS owed
                FROM credyt.ledger l
                LEFT JOIN credyt.grants g ON g.customer = l.customer AND g.id = l.refers_to
                WHERE l.customer = $1 AND l.asset = $2) m
          WHERE m.at <= $3 AND (m.live_at IS NULL OR m.live_at <= $3)",
    args: &[TEXT, TEXT, TIME],
};

/// What was settled and what was owed at a past moment.
pub fn settled_at(
    store: &Store,
    customer: &str,
    asset: &str,
    at: Moment,
) -> Result<(Amount, Amount)> {
    let args = [value::text(customer), value::text(asset), value::moment(at)];
    let rows = SETTLED_AT.run(store, &args)?;
    match rows.first() {
        Some(row) => Ok((row.amount(1)?, row.amount(2)?)),
        None => Ok((Amount::ZERO, Amount::ZERO)),
    }
}

static VERIFY: Statement = Statement {
    sql: "SELECT * FROM credyt.verify(customer => $1)",
    args: &[TEXT],
};

/// The invariants that do not hold, as the rows of the running function.
pub fn verify(store: &Store, customer: Option<&str>, function: &Args) -> Result<()> {
    VERIFY.answer(store, &[value::optional_text(customer)], function)
}
