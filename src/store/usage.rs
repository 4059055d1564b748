//! The customer's own view: what was used, bucket by bucket, and what happened, row by row.
//!
//! Ids ascend with the time of booking, and nothing occurs after it was booked: the rows of a range are found from the
//! first id on that can lie in it. Whole days are read from a rollup, as reports of margin do, and from the ledger what
//! the rollup does not have yet.

use super::ledger;
use super::reports::{self, Days};
use super::statement::{Query, Store};
use super::table::{query, table};
use crate::errors::Result;
use crate::ledger::Moment;
use crate::sql_types::Args;
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

query! {
    /// The start of the bucket that lies a number of buckets before the one of a moment.
    BucketBefore(at: timestamptz, unit: text, timezone: text, back: int):
    "SELECT CASE WHEN :unit = 'hour' THEN date_trunc(:unit, :at, :timezone) - :back * interval '1 hour'
                 ELSE (date_trunc(:unit, :at AT TIME ZONE :timezone) - :back * ('1 ' || :unit)::interval)
                      AT TIME ZONE :timezone
            END"
}

/// The starts of the buckets from since to until. An hour is an hour of time, a day one of the calendar.
macro_rules! buckets {
    () => {
        "SELECT date_trunc('hour', h.at, :timezone) AS start
         FROM generate_series(date_trunc('hour', :since, :timezone), :until, interval '1 hour') AS h (at)
         WHERE :unit = 'hour' AND h.at < :until
         UNION ALL
         SELECT d.at AT TIME ZONE :timezone
         FROM generate_series(date_trunc(:unit, :since AT TIME ZONE :timezone), :until AT TIME ZONE :timezone,
                              CASE :unit WHEN 'week' THEN interval '1 week' WHEN 'month' THEN interval '1 month'
                                      ELSE interval '1 day' END) AS d (at)
         WHERE :unit <> 'hour' AND d.at AT TIME ZONE :timezone < :until"
    };
}

query! {
    /// How many buckets there are, counted no further than one beyond `most`.
    CountBuckets(since: timestamptz, until: timestamptz, unit: text, timezone: text, most: int):
    "SELECT count(*)::int FROM (", buckets!(), " LIMIT :most + 1) b"
}

/// What sums of usage take: those of a wallet in a range. No row of the range has an id below `first_id`; with
/// `every_bucket` there is a row for each.
macro_rules! usage_query {
    ($(#[$meta:meta])* $Query:ident($($arg:ident: $sql:ident),+): $($part:expr),+) => {
        query! {
            $(#[$meta])*
            $Query(
                customer: text, asset: text, since: timestamptz, until: timestamptz, unit: text, timezone: text, first_id: uuid,
                by_action: boolean, every_bucket: boolean, $($arg: $sql),+
            ):
            $($part),+
        }
    };
}

usage_query! {
    /// A refund counts for what its debit was; the captures of an authorization are one call.
    Usage(by_model: boolean, by_scope: boolean, by_kind: boolean):
    "WITH movements AS (
         SELECT CASE WHEN :unit IS NULL THEN :since ELSE date_trunc(:unit, u.occurred_at, :timezone) END AS start,
                CASE WHEN :by_action THEN u.action END AS action,
                CASE WHEN :by_model AND jsonb_typeof(u.dimensions->'model') = 'string' THEN u.dimensions->>'model' END AS model,
                u.scopes, u.allocations, u.credits, u.quantity, u.calls
         FROM credyt.usage_lines u
         WHERE u.customer = :customer AND u.asset = :asset
           AND (:first_id IS NULL OR u.id >= :first_id) AND (:since IS NULL OR u.occurred_at >= :since) AND u.occurred_at < :until
     ),
     lines AS (
         SELECT m.start, m.action, m.model, s.scope, k.kind, m.calls, m.quantity,
                sign(m.credits) * k.credits AS credits
         FROM movements m
         CROSS JOIN LATERAL (
             SELECT NULL::text AS scope WHERE NOT :by_scope OR coalesce(cardinality(m.scopes), 0) = 0
             UNION ALL
             SELECT DISTINCT n.scope FROM unnest(m.scopes) AS n (scope) WHERE :by_scope
         ) s
         CROSS JOIN LATERAL (
             SELECT NULL::text AS kind, abs(m.credits) AS credits
             WHERE NOT :by_kind OR jsonb_array_length(m.allocations) = 0
             UNION ALL
             SELECT a.part->>'kind', sum((a.part->>'credits')::numeric)
             FROM jsonb_array_elements(m.allocations) AS a (part) WHERE :by_kind GROUP BY 1
         ) k
         UNION ALL
         SELECT b.start, NULL, NULL, NULL, NULL, 0, 0, 0 FROM (", buckets!(), ") b WHERE :every_bucket
         UNION ALL
         SELECT :since, NULL, NULL, NULL, NULL, 0, 0, 0 WHERE :every_bucket AND :unit IS NULL
     )
     SELECT l.start, l.action, l.model, l.scope, l.kind, sum(l.calls)::bigint, trim_scale(sum(l.quantity)), trim_scale(sum(l.credits))
     FROM lines l
     GROUP BY 1, 2, 3, 4, 5
     ORDER BY 1, 2 NULLS FIRST, 3 NULLS FIRST, 4 NULLS FIRST, 5 NULLS FIRST"
}

table! {
    /// Up to which row a wallet is in the rollups, and the last row of the days around each end of a range.
    struct RolledUp {
        seq: i64 as bigint,
        id: Uuid as uuid,
        head_last_id: Option<Uuid> as uuid,
        tail_last_id: Option<Uuid> as uuid,
    }
}

query! {
    /// No row: nothing is rolled up. `first_day` is the first whole day, `end_day` the one after the last.
    RolledUpOf(customer: text, asset: text, timezone: text, since: timestamptz, until: timestamptz, first_day: date, end_day: date):
    "SELECT ", RolledUp::COLUMNS, "
     FROM (SELECT p.seq, p.id,
                  (SELECT d.last_id FROM credyt.usage_days d
                   WHERE d.customer = :customer AND d.asset = :asset AND d.day >= (:since AT TIME ZONE :timezone)::date - 1
                     AND d.day < :first_day AND d.day <= (:until AT TIME ZONE :timezone)::date + 1
                   ORDER BY d.last_id DESC LIMIT 1) AS head_last_id,
                  (SELECT d.last_id FROM credyt.usage_days d
                   WHERE d.customer = :customer AND d.asset = :asset AND d.day >= :end_day AND d.day <= (:until AT TIME ZONE :timezone)::date + 1
                   ORDER BY d.last_id DESC LIMIT 1) AS tail_last_id
           FROM credyt.rollup_progress p
           WHERE p.customer = :customer AND p.asset = :asset) r"
}

/// Debits and refunds that the sums of whole days do not have.
macro_rules! not_in_days {
    ($condition:literal) => {
        concat!(
            "SELECT CASE WHEN :unit IS NULL THEN :since ELSE date_trunc(:unit, u.occurred_at, :timezone) END AS start,
                    CASE WHEN :by_action THEN u.action END AS action, u.calls, u.quantity, u.credits
             FROM credyt.usage_lines u
             CROSS JOIN LATERAL (SELECT (u.occurred_at AT TIME ZONE :timezone)::date AS day) d
             WHERE u.customer = :customer AND u.asset = :asset AND (:since IS NULL OR u.occurred_at >= :since) AND u.occurred_at < :until AND ",
            $condition
        )
    };
}

usage_query! {
    /// By nothing or by action, and no finer than days: whole days from the rollup, and from the ledger what the rollup does
    /// not have yet and the parts of days at both ends: before `head` and from `tail` on, between the ids that can lie there.
    UsageByDays(
        first_day: date, end_day: date, rolled_up_seq: bigint, rolled_up_id: uuid, head: timestamptz, head_last_id: uuid,
        tail: timestamptz, tail_first_id: uuid, tail_last_id: uuid
    ):
    "WITH lines AS (
         SELECT CASE WHEN :unit IS NULL THEN :since ELSE date_trunc(:unit, d.day::timestamp) AT TIME ZONE :timezone END AS start,
                CASE WHEN :by_action THEN d.action END AS action, d.calls, d.quantity, d.credits
         FROM credyt.usage_days d
         WHERE d.customer = :customer AND d.asset = :asset AND d.day >= :first_day AND d.day < :end_day
         UNION ALL ",
    not_in_days!("u.seq > :rolled_up_seq AND u.id > :rolled_up_id AND (:first_id IS NULL OR u.id >= :first_id)"),
    " UNION ALL ",
    not_in_days!("u.seq <= :rolled_up_seq AND u.id >= :first_id AND u.id <= :head_last_id AND u.occurred_at < :head AND d.day < :first_day"),
    " UNION ALL ",
    not_in_days!("u.seq <= :rolled_up_seq AND u.id >= :tail_first_id AND u.id <= :tail_last_id AND u.occurred_at >= :tail AND d.day >= :end_day"),
    "    UNION ALL
         SELECT b.start, NULL, 0, 0, 0 FROM (", buckets!(), ") b WHERE :every_bucket
         UNION ALL
         SELECT :since, NULL, 0, 0, 0 WHERE :every_bucket AND :unit IS NULL
     )
     SELECT l.start, l.action, NULL::text, NULL::text, NULL::text, sum(l.calls)::bigint, trim_scale(sum(l.quantity)),
            trim_scale(sum(l.credits))
     FROM lines l
     GROUP BY 1, 2
     ORDER BY 1, 2 NULLS FIRST"
}

/// The start of the bucket that lies this many buckets before the one of a moment.
pub fn bucket_before(
    store: &Store,
    at: Moment,
    unit: &str,
    timezone: &str,
    back: i32,
) -> Result<Option<Moment>> {
    let query = BucketBefore {
        at,
        unit,
        timezone,
        back,
    };
    query.run(store)?.read_one()
}

/// Whether a range has more buckets than these.
pub fn has_more_buckets(store: &Store, range: &Range, most: i32) -> Result<bool> {
    let &Range {
        unit,
        timezone,
        since,
        until,
    } = range;
    let query = CountBuckets {
        since,
        until,
        unit,
        timezone,
        most,
    };
    Ok(query.run(store)?.read_one::<i32>()? > most)
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
    let &Range {
        unit,
        timezone,
        since,
        until,
    } = range;
    let (by_action, every_bucket) = (by.action, by.is_none());
    let first_id = since.map(ledger::first_id);
    if by.is_of_days() && unit != Some("hour") {
        let Days {
            first_day,
            end_day,
            head,
            tail,
            ..
        } = reports::whole_days(store, asset, since, until)?;
        let query = RolledUpOf {
            customer,
            asset,
            timezone,
            since,
            until,
            first_day,
            end_day,
        };
        if let Some(rolled_up) = query.run(store)?.read_first::<RolledUp>()? {
            let query = UsageByDays {
                customer,
                asset,
                since,
                until,
                unit,
                timezone,
                first_id,
                by_action,
                every_bucket,
                first_day,
                end_day,
                rolled_up_seq: rolled_up.seq,
                rolled_up_id: rolled_up.id,
                head,
                head_last_id: rolled_up.head_last_id,
                tail,
                tail_first_id: ledger::first_id(tail),
                tail_last_id: rolled_up.tail_last_id,
            };
            return query.answer(store, function);
        }
    }
    let query = Usage {
        customer,
        asset,
        since,
        until,
        unit,
        timezone,
        first_id,
        by_action,
        every_bucket,
        by_model: by.model,
        by_scope: by.scope,
        by_kind: by.kind,
    };
    query.answer(store, function)
}

query! {
    /// The last `count` rows before the id that the page before ended with. What is due and not booked yet is the
    /// newest and comes with the first page, all of it, so that a page that is not the last ends with an id.
    History(customer: text, asset: text, before: uuid, count: int):
    "SELECT h.id, h.occurred_at, h.kind, h.action, h.quantity, h.credits, h.balance, h.reason
     FROM (
         SELECT NULL::uuid AS id, p.occurred_at, p.kind, p.action, NULL::numeric AS quantity, p.credits, p.balance,
                p.reason, row_number() OVER () AS place
         FROM credyt.pending_entries p
         WHERE :before IS NULL AND p.customer = :customer AND p.asset = :asset
         UNION ALL
         (SELECT l.id, l.occurred_at, l.kind, l.action, l.quantity, l.credits, l.balance, l.reason, NULL
          FROM credyt.ledger l
          WHERE l.customer = :customer AND l.asset = :asset AND (:before IS NULL OR l.id < :before)
          ORDER BY l.id DESC LIMIT :count)
     ) h
     ORDER BY h.place DESC NULLS LAST, h.id DESC"
}

/// The rows of `credyt.history`, as the answer of the running function.
pub fn history(
    store: &Store,
    customer: &str,
    asset: &str,
    before: Option<Uuid>,
    count: i32,
    function: &Args,
) -> Result<()> {
    let query = History {
        customer,
        asset,
        before,
        count,
    };
    query.answer(store, function)
}
