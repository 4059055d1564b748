//! What can only be read off the ledger's rows: balances of the past, and whether all adds up.

use super::ledger::first_id;
use super::statement::{Query, Statement, Store, TEXT};
use super::table::query;
use crate::errors::Result;
use crate::ledger::{Amount, Moment};
use crate::sql_types::{Args, value};

query! {
    /// A debit counts from when it was booked, a renewal or an expiry from the moment it
    /// fell due, and a grant, with what was revoked of it, not before it is live. `next_id` is the first id after that
    /// moment: what was booked by then is in the balance of the row before it, so only later rows are read. The second
    /// column is what they added to what is owed.
    SettledAt(customer: text, asset: text, at: timestamptz, next_id: uuid):
    "WITH later AS (
         SELECT l.credits, l.kind, l.allocations, l.kind <> 'debit' AND l.occurred_at <= :at AS fell_due, g.effective_at
         FROM credyt.ledger l
         LEFT JOIN credyt.grants g ON g.customer = l.customer AND g.id = l.refers_to
             AND l.kind IN ('grant', 'expiry', 'revocation')
         WHERE l.customer = :customer AND l.asset = :asset AND l.id >= :next_id
     )
     SELECT coalesce((SELECT l.balance FROM credyt.ledger l
                      WHERE l.customer = :customer AND l.asset = :asset AND l.id < :next_id
                      ORDER BY l.id DESC LIMIT 1), 0)
            + coalesce((SELECT sum(m.credits) FROM later m
                        WHERE m.fell_due AND (m.effective_at IS NULL OR m.effective_at <= :at)), 0)
            - coalesce((SELECT sum(l.credits)
                        FROM credyt.grants g
                        JOIN credyt.ledger l ON l.customer = g.customer AND l.refers_to = g.id
                            AND l.kind IN ('grant', 'expiry', 'revocation')
                        WHERE g.customer = :customer AND g.asset = :asset AND g.effective_at > :at AND l.id < :next_id), 0),
            coalesce((SELECT sum(CASE WHEN m.kind = 'settlement' THEN -(a.part->>'credits')::numeric
                                      ELSE sign(-m.credits) * (a.part->>'credits')::numeric END)
                      FROM later m CROSS JOIN LATERAL jsonb_array_elements(m.allocations) AS a (part)
                      WHERE NOT m.fell_due
                        AND (m.kind = 'settlement'
                             OR m.kind IN ('debit', 'refund', 'revocation') AND a.part->>'kind' = 'overdraft')), 0)"
}

/// What was settled at a past moment, and by how much what is owed has grown since, as far as it is booked.
pub fn settled_at(
    store: &Store,
    customer: &str,
    asset: &str,
    at: Moment,
) -> Result<(Amount, Amount)> {
    let next = Moment(at.0.saturating_add(1));
    let query = SettledAt {
        customer,
        asset,
        at,
        next_id: first_id(next),
    };
    query.run(store)?.read_one()
}

static VERIFY: Statement = Statement {
    sql: "SELECT * FROM credyt.verify(customer => $1)",
    args: &[TEXT],
};

/// The invariants that do not hold, as the rows of the running function.
pub fn verify(store: &Store, customer: Option<&str>, function: &Args) -> Result<()> {
    VERIFY.answer(store, &[value::optional_text(customer)], function)
}
