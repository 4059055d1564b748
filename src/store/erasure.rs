//! Erasing what may say who a customer is, and the hash that finds every other change.
//!
//! Facts never change, and a trigger says so to everyone. What an erasure blanks passes it by a permit:
//! a variable of this library in this backend, good for one UPDATE of one table, which no SQL can set.

use std::cell::Cell;

use uuid::Uuid;

use super::costs::{CostRow, Posting};
use super::grants::GrantTerms;
use super::ledger::Entry;
use super::rollups;
use super::statement::{Query, Statement, Store, TEXT};
use super::table::{fixed, insert, named_but, named_of, query, sql, table};
use super::{assets, cluster, wallets};
use crate::errors::{self, Result};
use crate::ledger::{Moment, limit};
use crate::sql_types::{Args, value};

thread_local! {
    static PERMIT: Cell<Option<String>> = const { Cell::new(None) };
}

/// For the trigger: whether this table may be updated or truncated, this once.
pub fn permits(table: &str) -> bool {
    PERMIT.take().as_deref() == Some(table)
}

/// Lets one statement of `body` change a table of facts.
pub(super) fn with_permit<R>(table: &str, body: impl FnOnce() -> R) -> R {
    PERMIT.set(Some(table.to_owned()));
    let _withdraw = PermitGuard;
    body()
}

/// What an erasure blanks in facts, table by table.
const BLANKED: [(&str, &[&str]); 5] = [
    ("ledger", LEDGER),
    ("grants", GRANTS),
    ("subscription_payments", &["payment"]),
    ("vendor_costs", VENDOR_COSTS),
    ("cost_postings", COST_POSTINGS),
];
const LEDGER: &[&str] = &["metadata", "scopes", "usage", "reason"];
const GRANTS: &[&str] = &["metadata", "payment"];
const VENDOR_COSTS: &[&str] = &["usage", "context", "metadata"];
const COST_POSTINGS: &[&str] = &["scopes"];

/// For the trigger on a node of a cluster, to which another node may have sent an erasure's UPDATE without a
/// permit: whether it changes nothing but what an erasure blanks.
pub fn blanks(table: &str, columns: &[&str]) -> bool {
    let blanked = BLANKED.iter().find(|(name, _)| *name == table);
    blanked.is_some_and(|(_, names)| columns.iter().all(|column| names.contains(column)))
}

/// No permit is left behind, also where the statement fails.
struct PermitGuard;

impl Drop for PermitGuard {
    fn drop(&mut self) {
        PERMIT.set(None);
    }
}

static WALLETS: Statement = Statement {
    sql: "SELECT w.asset FROM credyt.wallets w WHERE w.customer = $1 ORDER BY w.asset COLLATE \"C\"",
    args: &[TEXT],
};

/// What blanks the facts of customer $1, table by table. Of a reason only what a caller has written:
/// those of grants and debits are ours.
static FACTS: [(&str, Statement); 6] = [
    (
        "ledger",
        Statement {
            sql: "UPDATE credyt.ledger
                  SET metadata = NULL, scopes = NULL, usage = NULL,
                      reason = CASE WHEN kind IN ('grant', 'debit') THEN reason END
                  WHERE customer = $1
                    AND (metadata IS NOT NULL OR scopes IS NOT NULL OR usage IS NOT NULL
                         OR reason IS NOT NULL AND kind NOT IN ('grant', 'debit'))",
            args: &[TEXT],
        },
    ),
    // One reason is in both rows of a transfer; the receiver's refers to the sender's.
    (
        "ledger",
        Statement {
            sql: "UPDATE credyt.ledger o SET reason = NULL
                  FROM credyt.ledger m
                  CROSS JOIN LATERAL (SELECT DISTINCT coalesce(a.part->>'to_customer', a.part->>'from_customer') AS customer
                                      FROM jsonb_array_elements(m.allocations) AS a (part)) t
                  WHERE m.customer = $1 AND m.kind = 'transfer' AND o.customer = t.customer
                    AND (o.refers_to = m.id OR o.id = m.refers_to)
                    AND o.kind = 'transfer' AND o.reason IS NOT NULL",
            args: &[TEXT],
        },
    ),
    (
        "grants",
        Statement {
            sql: "UPDATE credyt.grants SET metadata = NULL, payment = NULL
                  WHERE customer = $1 AND (metadata IS NOT NULL OR payment IS NOT NULL)",
            args: &[TEXT],
        },
    ),
    (
        "subscription_payments",
        Statement {
            sql: "UPDATE credyt.subscription_payments SET payment = NULL
                  WHERE customer = $1 AND payment IS NOT NULL",
            args: &[TEXT],
        },
    ),
    (
        "vendor_costs",
        Statement {
            sql: "UPDATE credyt.vendor_costs SET usage = NULL, context = NULL, metadata = NULL
                  WHERE customer = $1
                    AND (usage IS NOT NULL OR context IS NOT NULL OR metadata IS NOT NULL)",
            args: &[TEXT],
        },
    ),
    (
        "cost_postings",
        Statement {
            sql: "UPDATE credyt.cost_postings SET scopes = NULL
                  WHERE customer = $1 AND scopes IS NOT NULL",
            args: &[TEXT],
        },
    ),
];

/// The same where rows may change.
static OTHERS: [Statement; 5] = [
    Statement {
        sql: "UPDATE credyt.wallets SET metadata = NULL, status_reason = NULL
              WHERE customer = $1 AND (metadata IS NOT NULL OR status_reason IS NOT NULL)",
        args: &[TEXT],
    },
    // The captures of an open hold may be priced from its usage.
    Statement {
        sql: "UPDATE credyt.authorizations
              SET metadata = NULL, scopes = NULL, reason = NULL,
                  usage = CASE WHEN status = 'open' THEN usage END
              WHERE customer = $1
                AND (metadata IS NOT NULL OR scopes IS NOT NULL OR reason IS NOT NULL
                     OR usage IS NOT NULL AND status <> 'open')",
        args: &[TEXT],
    },
    Statement {
        sql: "UPDATE credyt.events SET failure = NULL WHERE customer = $1 AND failure IS NOT NULL",
        args: &[TEXT],
    },
    Statement {
        sql: r#"UPDATE credyt.events SET payload = payload || '{"scope": null}'
               WHERE customer = $1 AND payload->>'scope' ~ '^(user|key):'"#,
        args: &[TEXT],
    },
    Statement {
        sql: "DELETE FROM credyt.limit_uses WHERE customer = $1",
        args: &[TEXT],
    },
];

table! {
    /// The other side of a transfer, where it may be on another node: who, and both rows' ids.
    struct OtherSide {
        other: String as text,
        id: Uuid as uuid,
        refers_to: Option<Uuid> as uuid,
    }
}

static OTHER_SIDES: Statement = Statement {
    sql: sql!(
        "SELECT DISTINCT ",
        OtherSide::COLUMNS,
        " FROM (SELECT coalesce(a.part->>'to_customer', a.part->>'from_customer') AS other, m.id, m.refers_to
                FROM credyt.ledger m CROSS JOIN LATERAL jsonb_array_elements(m.allocations) AS a (part)
                WHERE m.customer = $1 AND m.kind = 'transfer') m
          WHERE m.other IS NOT NULL"
    ),
    args: &[TEXT],
};

query! {
    ForgetReason(other: text, id: uuid, refers_to: uuid):
    "UPDATE credyt.ledger o SET reason = NULL
     WHERE o.customer = :other AND (o.refers_to = :id OR o.id = :refers_to) AND o.kind = 'transfer' AND o.reason IS NOT NULL"
}

/// Which of FACTS is about other customers.
const OTHER_SIDE: usize = 1;

fn forget_other_sides(store: &Store, customer: &str) -> Result<usize> {
    let mut forgotten = 0;
    for row in OTHER_SIDES.run(store, &[value::text(customer)])?.iter() {
        let OtherSide {
            other,
            id,
            refers_to,
        } = row.read()?;
        let query = ForgetReason {
            other,
            id,
            refers_to,
        };
        forgotten += query.run(store)?.count();
    }
    Ok(forgotten)
}

static OPEN_HOLDS: Statement = Statement {
    sql: "SELECT count(*)::int FROM credyt.authorizations h
          WHERE h.customer = $1 AND h.status = 'open' AND h.usage IS NOT NULL",
    args: &[TEXT],
};

table! {
    /// A row of `credyt.erasures`.
    pub struct Erasure {
        customer: String as text,
        id: Uuid as uuid,
        reason: String as text,
        /// How many values and rows.
        blanked: i64 as bigint,
        open_holds: i32 as int,
        erased_at: Moment as timestamptz,
    }
}

static TRACE: Statement = insert!("erasures", Erasure);

/// Blanks what may say who a customer is, and leaves a trace of that. WC002 without any wallet.
pub fn erase(store: &Store, customer: &str, reason: &str) -> Result<Erasure> {
    // One erasure after another, so that two of them, of both sides of a transfer, cannot deadlock.
    rollups::take_out(store, customer)?;
    let whom = [value::text(customer)];
    let rows = WALLETS.run(store, &whom)?;
    if rows.count() == 0 {
        return Err(errors::no_wallet(customer));
    }
    let mut blanked = 0;
    for row in rows.iter() {
        let asset: String = row.read()?;
        let mut open = wallets::open(store, customer, &asset)?;
        blanked += limit::forget_names(&mut open.wallet.limits);
        open.write_back(store)?;
    }
    for (nth, (table, statement)) in FACTS.iter().enumerate() {
        blanked += match nth == OTHER_SIDE && cluster::is_distributed() {
            true => forget_other_sides(store, customer)?,
            false => with_permit(table, || statement.run(store, &whom))?.count(),
        };
    }
    for statement in &OTHERS {
        blanked += statement.run(store, &whom)?.count();
    }
    let holds = OPEN_HOLDS.run(store, &whom)?;
    let erasure = Erasure {
        customer: customer.to_owned(),
        id: Uuid::now_v7(),
        reason: reason.to_owned(),
        blanked: blanked as i64,
        open_holds: holds.read_one()?,
        erased_at: assets::now(store)?,
    };
    TRACE.run(store, &erasure.values()?)?;
    Ok(erasure)
}

/// The columns of a table of facts as a row of the hash has them: the customer is in the hash of the wallet, and what an
/// erasure blanks comes last, where it is asked for.
macro_rules! hashed {
    ($alias:literal, $Row:ident, $blanked:ident) => {
        sql!(
            fixed!(named_but(
                $alias,
                $Row::DECLARED,
                &[&["customer"], $blanked]
            )),
            ", CASE WHEN :contents THEN ROW(",
            fixed!(named_of($alias, $blanked)),
            ")::text END"
        )
    };
}

query! {
    /// Row by row the text of what is covered, which the settings of `credyt.ledger_hash` make the same
    /// everywhere. Each has a hash, a block of 4096 numbers has one of theirs, a wallet of its blocks'. A
    /// ledger row goes with the grants that it issued, a recorded cost with what it changed in the reports.
    /// `contents`: with what an erasure blanks.
    Hash(customer: text, asset: text, through: bigint, contents: boolean):
    "WITH
        fact AS (
            SELECT l.asset, l.seq, 1 AS rows, ROW(
                       'ledger', ", hashed!("l", Entry, LEDGER), ",
                       CASE WHEN l.kind IN ('grant', 'debit') THEN l.reason END,
                       CASE WHEN l.kind IN ('grant', 'transfer') THEN (
                           SELECT array_agg(g.text ORDER BY a.nth)
                           FROM jsonb_array_elements(l.allocations) WITH ORDINALITY AS a (part, nth)
                           CROSS JOIN LATERAL (
                               SELECT ROW(", hashed!("g", GrantTerms, GRANTS), ")::text AS text
                               FROM credyt.grants g
                               WHERE g.customer = :customer
                                 AND g.id = CASE WHEN l.kind = 'grant' OR a.part ? 'from' THEN a.part->>'grant'
                                                 WHEN NOT a.part ? 'to_customer' THEN a.part->>'to' END::uuid
                               OFFSET 0
                           ) g) END
                   )::text AS text
            FROM credyt.ledger l
            WHERE l.customer = :customer
            UNION ALL
            SELECT c.asset, c.seq, 1, ROW('cost', ", hashed!("c", CostRow, VENDOR_COSTS), ")::text
            FROM credyt.vendor_costs c
            WHERE c.customer = :customer
            UNION ALL
            SELECT p.asset, p.seq, 0, ROW('posting', ", hashed!("p", Posting, COST_POSTINGS), ")::text
            FROM credyt.cost_postings p
            WHERE p.customer = :customer
        ),
        hashed AS MATERIALIZED (
            SELECT f.asset, f.seq, f.rows, sha256(convert_to(f.text, 'UTF8')) AS hash
            FROM fact f
            WHERE (:asset IS NULL OR f.asset = :asset) AND (:through IS NULL OR f.seq <= :through)
        ),
        block AS (
            SELECT h.asset, h.seq / 4096 AS nth, sum(h.rows) AS rows, max(h.seq) AS through,
                   sha256(string_agg(h.hash, '' ORDER BY h.seq, h.hash)) AS hash
            FROM hashed h
            GROUP BY h.asset, h.seq / 4096
        )
        SELECT w.customer, w.asset, coalesce(sum(b.rows), 0)::bigint, coalesce(max(b.through), 0),
               encode(sha256(convert_to(ROW('credyt', 1, :contents, w.customer, w.asset)::text, 'UTF8')
                             || coalesce(string_agg(b.hash, '' ORDER BY b.nth), '')), 'hex')
        FROM credyt.wallets w
        LEFT JOIN block b ON b.asset = w.asset
        WHERE w.customer = :customer AND (:asset IS NULL OR w.asset = :asset)
        GROUP BY w.customer, w.asset
        ORDER BY w.asset"
}

/// Answers `credyt.ledger_hash`.
pub fn hash(
    store: &Store,
    customer: &str,
    asset: Option<&str>,
    through: Option<i64>,
    contents: bool,
    function: &Args,
) -> Result<()> {
    let query = Hash {
        customer,
        asset,
        through,
        contents,
    };
    query.answer(store, function)
}
