//! The customer's own view: what was used, bucket by bucket, and what happened, row by row.
//!
//! Ids ascend with the time of booking, and nothing occurs after it was booked: the rows of a range are found from the
//! first id on that can lie in it. Whole days are read from a rollup, as reports of margin do, and from the ledger what
//! the rollup does not have yet.

use super::ledger::first_id;
use super::rollups::{self, WholeDays};
use super::statement::{BIGINT, BOOL, DATE, INT, Statement, Store, TEXT, TIME, UUID};
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
        !self.action && self.is_of_days()
    }

    /// Whether the rollup by days has all that is asked for.
    fn is_of_days(self) -> bool {
        !(self.model || self.scope || self.kind)
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
/// every bucket. A refund counts for what its debit was; the captures of an authorization are one call.
static USAGE: Statement = Statement {
    sql: concat!(
        "WITH movements AS (
             SELECT CASE WHEN $3 IS NULL THEN $1 ELSE date_trunc($3, u.occurred_at, $4) END AS start,
                    CASE WHEN $8 THEN u.action END AS action,
                    CASE WHEN $9 AND jsonb_typeof(u.dimensions->'model') = 'string' THEN u.dimensions->>'model' END AS model,
                    u.scopes, u.allocations, u.credits, u.quantity, u.calls
             FROM credyt.usage_lines u
             WHERE u.customer = $5 AND u.asset = $6
               AND ($7 IS NULL OR u.id >= $7) AND ($1 IS NULL OR u.occurred_at >= $1) AND u.occurred_at < $2
         ),
         lines AS (
             SELECT m.start, m.action, m.model, s.scope, k.kind, m.calls, m.quantity,
                    sign(m.credits) * k.credits AS credits
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
         SELECT l.start, l.action, l.model, l.scope, l.kind, sum(l.calls)::bigint, trim_scale(sum(l.quantity)), trim_scale(sum(l.credits))
         FROM lines l
         GROUP BY 1, 2, 3, 4, 5
         ORDER BY 1, 2 NULLS FIRST, 3 NULLS FIRST, 4 NULLS FIRST, 5 NULLS FIRST"
    ),
    args: &[
        TIME, TIME, TEXT, TEXT, TEXT, TEXT, UUID, BOOL, BOOL, BOOL, BOOL, BOOL,
    ],
};

/// Up to which row a wallet is in the rollups, and the last row of the days around each end of a range. $3 time zone,
/// $4 since, $5 until, $6 and $7 the first of its whole days and the one after the last. No row: nothing is rolled up.
static ROLLED_UP: Statement = Statement {
    sql: "SELECT p.seq, p.id,
                 (SELECT d.last_id FROM credyt.usage_days d
                  WHERE d.customer = $1 AND d.asset = $2 AND d.day >= ($4 AT TIME ZONE $3)::date - 1
                    AND d.day < $6 AND d.day <= ($5 AT TIME ZONE $3)::date + 1
                  ORDER BY d.last_id DESC LIMIT 1),
                 (SELECT d.last_id FROM credyt.usage_days d
                  WHERE d.customer = $1 AND d.asset = $2 AND d.day >= $7 AND d.day <= ($5 AT TIME ZONE $3)::date + 1
                  ORDER BY d.last_id DESC LIMIT 1)
          FROM credyt.rollup_progress p
          WHERE p.customer = $1 AND p.asset = $2",
    args: &[TEXT, TEXT, TEXT, TIME, TIME, DATE, DATE],
};

/// Debits and refunds that the sums of whole days do not have.
macro_rules! not_in_days {
    ($condition:literal) => {
        concat!(
            "SELECT CASE WHEN $3 IS NULL THEN $1 ELSE date_trunc($3, u.occurred_at, $4) END AS start,
                    CASE WHEN $8 THEN u.action END AS action, u.calls, u.quantity, u.credits
             FROM credyt.usage_lines u
             CROSS JOIN LATERAL (SELECT (u.occurred_at AT TIME ZONE $4)::date AS day) d
             WHERE u.customer = $5 AND u.asset = $6 AND ($1 IS NULL OR u.occurred_at >= $1) AND u.occurred_at < $2 AND ",
            $condition
        )
    };
}

/// By nothing or by action, and no finer than days: whole days from the rollup, and from the ledger what the rollup does
/// not have yet and the parts of days at both ends. $1 to $7 as above, $8 by action, $9 a row for every bucket; $10 and
/// $11 the first whole day and the one after the last; $12 and $13 head and tail; $14 and $15 the number and id of the
/// last row in the rollup; $16 the last id of the days before the first whole one, $17 the first and $18 the last of
/// those after the last.
static USAGE_BY_DAYS: Statement = Statement {
    sql: concat!(
        "WITH lines AS (
             SELECT CASE WHEN $3 IS NULL THEN $1 ELSE date_trunc($3, d.day::timestamp) AT TIME ZONE $4 END AS start,
                    CASE WHEN $8 THEN d.action END AS action, d.calls, d.quantity, d.credits
             FROM credyt.usage_days d
             WHERE d.customer = $5 AND d.asset = $6 AND d.day >= $10 AND d.day < $11
             UNION ALL ",
        not_in_days!("u.seq > $14 AND u.id > $15 AND ($7 IS NULL OR u.id >= $7)"),
        " UNION ALL ",
        not_in_days!("u.seq <= $14 AND u.id >= $7 AND u.id <= $16 AND u.occurred_at < $12 AND d.day < $10"),
        " UNION ALL ",
        not_in_days!("u.seq <= $14 AND u.id >= $17 AND u.id <= $18 AND u.occurred_at >= $13 AND d.day >= $11"),
        "    UNION ALL
             SELECT b.start, NULL, 0, 0, 0 FROM (", buckets!(), ") b WHERE $9
             UNION ALL
             SELECT $1, NULL, 0, 0, 0 WHERE $9 AND $3 IS NULL
         )
         SELECT l.start, l.action, NULL::text, NULL::text, NULL::text, sum(l.calls)::bigint, trim_scale(sum(l.quantity)),
                trim_scale(sum(l.credits))
         FROM lines l
         GROUP BY 1, 2
         ORDER BY 1, 2 NULLS FIRST"
    ),
    args: &[
        TIME, TIME, TEXT, TEXT, TEXT, TEXT, UUID, BOOL, BOOL, DATE, DATE, TIME, TIME, BIGINT, UUID, UUID, UUID, UUID,
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
    ]);
    if by.is_of_days() && range.unit != Some("hour") {
        let WholeDays { days, head, tail } =
            rollups::whole_days(store, asset, range.since, range.until)?;
        let asked = [
            value::text(customer),
            value::text(asset),
            value::text(range.timezone),
            value::optional_moment(range.since),
            value::moment(range.until),
            days[0],
            days[1],
        ];
        let rows = ROLLED_UP.run(store, &asked)?;
        if let Some((seq, id, head_end, tail_end)) = rows.read_first()? {
            args.extend([
                value::bool(by.is_none()),
                days[0],
                days[1],
                head,
                value::moment(tail),
                value::bigint(seq),
                value::uuid(id),
                value::optional_uuid(head_end),
                value::uuid(first_id(tail)),
                value::optional_uuid(tail_end),
            ]);
            return USAGE_BY_DAYS.answer(store, &args, function);
        }
    }
    args.extend([
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
