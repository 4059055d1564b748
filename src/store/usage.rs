//! The customer's own view: what was used, bucket by bucket, and what happened, row by row.
//!
//! The statement of `usage` reads the rows of one customer from the first that can lie in the range: ids ascend with
//! the time of booking, and nothing occurs after it was booked.

use super::ledger::first_id;
use super::statement::{BOOL, INT, Statement, Store, TEXT, TIME, UUID};
use crate::errors::Result;
use crate::ledger::Moment;
use crate::sql_types::Args;
use crate::sql_types::value::{self, Value};
use uuid::Uuid;

/// What usage is broken down by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breakdown {
    pub action: bool,
    pub model: bool,
    pub scope: bool,
    pub kind: bool,
}

impl Breakdown {
    pub fn is_none(self) -> bool {
        !(self.action || self.model || self.scope || self.kind)
    }
}

/// The moments `since <= occurred_at < until`, cut into buckets of the asset's time zone.
pub struct Range<'a> {
    /// The `unit` of Postgres' `date_trunc`; `None`: one bucket for all.
    pub unit: Option<&'a str>,
    pub timezone: &'a str,
    pub since: Option<Moment>,
    pub until: Moment,
}

/// The start of the bucket that lies a number of buckets before the one of a moment.
static BACK: Statement = Statement {
    sql: "SELECT CASE WHEN $2 = 'hour' THEN date_trunc($2, $1, $3) - $4 * interval '1 hour'
                      ELSE (date_trunc($2, $1 AT TIME ZONE $3) - $4 * ('1 ' || $2)::interval) AT TIME ZONE $3
                 END",
    args: &[TIME, TEXT, TEXT, INT],
};

/// The starts of the buckets from since to until. An hour is an hour of time, a day one of the calendar.
macro_rules! buckets {
    () => {
        "SELECT date_trunc('hour', h.at, $4) AS start
         FROM generate_series(date_trunc('hour', $1, $4), $2, interval '1 hour') AS h (at)
         WHERE $3 = 'hour' AND h.at < $2
         UNION ALL
         SELECT d.at AT TIME ZONE $4
         FROM generate_series(date_trunc($3, $1 AT TIME ZONE $4), $2 AT TIME ZONE $4,
                              CASE $3 WHEN 'week' THEN interval '1 week' WHEN 'month' THEN interval '1 month'
                                      ELSE interval '1 day' END) AS d (at)
         WHERE $3 <> 'hour' AND d.at AT TIME ZONE $4 < $2"
    };
}

/// How many buckets there are, counted no further than one beyond $5.
static COUNT: Statement = Statement {
    sql: concat!(
        "SELECT count(*)::int FROM (",
        buckets!(),
        " LIMIT $5 + 1) b"
    ),
    args: &[TIME, TIME, TEXT, TEXT, INT],
};

/// $5 customer, $6 asset, $7 the first id to read, $8 to $11 by action, model, scope and kind, $12 a row for
/// every bucket. A refund counts for what its debit was; the captures of an authorization are one call. OFFSET 0: what
/// a row refers to is looked up row by row; a join by hash would read all that the customer has.
static USAGE: Statement = Statement {
    sql: concat!(
        "WITH movements AS (
             SELECT CASE WHEN $3 IS NULL THEN $1 ELSE date_trunc($3, l.occurred_at, $4) END AS start,
                    CASE WHEN $8 THEN l.action END AS action,
                    CASE WHEN $9 AND jsonb_typeof(coalesce(o.dimensions, l.dimensions)->'model') = 'string'
                         THEN coalesce(o.dimensions, l.dimensions)->>'model' END AS model,
                    coalesce(o.scopes, l.scopes) AS scopes, l.allocations, l.credits,
                    CASE WHEN l.kind = 'debit' THEN l.quantity END AS quantity,
                    (l.kind = 'debit' AND (l.authorization_id IS NULL OR l.id = h.first_capture))::int AS calls
             FROM credyt.ledger l
             LEFT JOIN LATERAL (
                 SELECT o.dimensions, o.scopes FROM credyt.ledger o
                 WHERE l.kind = 'refund' AND o.customer = l.customer AND o.id = l.refers_to OFFSET 0
             ) o ON true
             LEFT JOIN LATERAL (
                 SELECT h.first_capture FROM credyt.authorizations h
                 WHERE l.authorization_id IS NOT NULL AND h.customer = l.customer AND h.id = l.authorization_id OFFSET 0
             ) h ON true
             WHERE l.customer = $5 AND l.asset = $6 AND l.kind IN ('debit', 'refund')
               AND ($7 IS NULL OR l.id >= $7) AND ($1 IS NULL OR l.occurred_at >= $1) AND l.occurred_at < $2
         ),
         lines AS (
             SELECT m.start, m.action, m.model, s.scope, k.kind, m.calls, m.quantity,
                    -sign(m.credits) * k.credits AS credits
             FROM movements m
             CROSS JOIN LATERAL (
                 SELECT NULL::text AS scope WHERE NOT $10 OR coalesce(cardinality(m.scopes), 0) = 0
                 UNION ALL
                 SELECT DISTINCT n.scope FROM unnest(m.scopes) AS n (scope) WHERE $10
             ) s
             CROSS JOIN LATERAL (
                 SELECT NULL::text AS kind, abs(m.credits) AS credits
                 WHERE NOT $11 OR jsonb_array_length(m.allocations) = 0
                 UNION ALL
                 SELECT a.part->>'kind', sum((a.part->>'credits')::numeric)
                 FROM jsonb_array_elements(m.allocations) AS a (part) WHERE $11 GROUP BY 1
             ) k
             UNION ALL
             SELECT b.start, NULL, NULL, NULL, NULL, 0, 0, 0 FROM (", buckets!(), ") b WHERE $12
             UNION ALL
             SELECT $1, NULL, NULL, NULL, NULL, 0, 0, 0 WHERE $12 AND $3 IS NULL
         )
         SELECT l.start, l.action, l.model, l.scope, l.kind, sum(l.calls)::bigint,
                trim_scale(coalesce(sum(l.quantity), 0)), trim_scale(sum(l.credits))
         FROM lines l
         GROUP BY 1, 2, 3, 4, 5
         ORDER BY 1, 2 NULLS FIRST, 3 NULLS FIRST, 4 NULLS FIRST, 5 NULLS FIRST"
    ),
    args: &[
        TIME, TIME, TEXT, TEXT, TEXT, TEXT, UUID, BOOL, BOOL, BOOL, BOOL, BOOL,
    ],
};

/// The start of the bucket that lies this many buckets before the one of a moment.
pub fn bucket_before(
    store: &Store,
    at: Moment,
    unit: &str,
    timezone: &str,
    back: i32,
) -> Result<Option<Moment>> {
    let args = [
        value::moment(at),
        value::text(unit),
        value::text(timezone),
        value::int(back),
    ];
    let rows = BACK.run(store, &args)?;
    rows.read_one()
}

/// Whether a range has more buckets than these.
pub fn has_more_buckets(store: &Store, range: &Range, most: i32) -> Result<bool> {
    let mut args = range.args().to_vec();
    args.push(value::int(most));
    let rows = COUNT.run(store, &args)?;
    Ok(rows.read_one::<i32>()? > most)
}

/// The rows of `credyt.usage`, as the answer of the running function.
pub fn answer(
    store: &Store,
    customer: &str,
    asset: &str,
    range: &Range,
    by: Breakdown,
    function: &Args,
) -> Result<()> {
    let mut args: Vec<Value> = range.args().to_vec();
    args.extend([
        value::text(customer),
        value::text(asset),
        value::optional_uuid(range.since.map(first_id)),
        value::bool(by.action),
        value::bool(by.model),
        value::bool(by.scope),
        value::bool(by.kind),
        value::bool(by.is_none()),
    ]);
    USAGE.answer(store, &args, function)
}

impl Range<'_> {
    fn args(&self) -> [Value; 4] {
        [
            value::optional_moment(self.since),
            value::moment(self.until),
            value::optional_text(self.unit),
            value::text(self.timezone),
        ]
    }
}

/// $3 the id that the page before ended with, $4 how many booked rows. What is due and not booked yet is the
/// newest and comes with the first page, all of it, so that a page that is not the last ends with an id.
static HISTORY: Statement = Statement {
    sql: "SELECT h.id, h.occurred_at, h.kind, h.action, h.quantity, h.credits, h.balance, h.reason
          FROM (
              SELECT NULL::uuid AS id, p.occurred_at, p.kind, p.action, NULL::numeric AS quantity, p.credits, p.balance,
                     p.reason, row_number() OVER () AS place
              FROM credyt.pending_entries p
              WHERE $3 IS NULL AND p.customer = $1 AND p.asset = $2
              UNION ALL
              (SELECT l.id, l.occurred_at, l.kind, l.action, l.quantity, l.credits, l.balance, l.reason, NULL
               FROM credyt.ledger l
               WHERE l.customer = $1 AND l.asset = $2 AND ($3 IS NULL OR l.id < $3)
               ORDER BY l.id DESC LIMIT $4)
          ) h
          ORDER BY h.place DESC NULLS LAST, h.id DESC",
    args: &[TEXT, TEXT, UUID, INT],
};

/// The rows of `credyt.history`, as the answer of the running function.
pub fn history(
    store: &Store,
    customer: &str,
    asset: &str,
    before: Option<Uuid>,
    count: i32,
    function: &Args,
) -> Result<()> {
    let args = [
        value::text(customer),
        value::text(asset),
        value::optional_uuid(before),
        value::int(count),
    ];
    HISTORY.answer(store, &args, function)
}
