//! Reports of margin.
//!
//! A report over days reads whole days from the rollups, and from the ledger what the rollups do not
//! have yet and the parts of days at its ends. A wallet's rows are committed in the order of their
//! numbers, and the wallet knows its last one: what is newer than the rollups is every row beyond the
//! one in `rollup_progress`, in the same snapshot.

use pgrx::pg_sys;
use rust_decimal::Decimal;

use super::cluster::is_distributed;
use super::statement::{Query, Statement, Store};
use super::table::{Text, fixed, query, table};
use crate::errors::{self, Result};
use crate::ledger::{Moment, rollup};
use crate::sql_types::field::Day;
use crate::sql_types::{Args, row};

/// What a report is asked by.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupBy {
    pub day: bool,
    pub action: bool,
    pub customer: bool,
    pub vendor: bool,
    pub model: bool,
    pub kind: bool,
    pub scope: bool,
}

/// Which movements a report is about.
#[derive(Clone, Debug, Default)]
pub struct ReportRange {
    pub since: Option<Moment>,
    pub until: Option<Moment>,
    pub asset: Option<String>,
}

table! {
    /// The whole days of a period, in each asset and in all of them, and the moments around them.
    pub struct Days {
        assets: Vec<String> as texts,
        timezones: Vec<String> as texts,
        /// The first whole day of each asset, and the one after the last.
        first_days: pg_sys::Datum as dates,
        end_days: pg_sys::Datum as dates,
        /// The first of the first days, and the last of the last.
        first_day: Day as date,
        end_day: Day as date,
        /// Before this moment and from that one on the moments are to be read one by one.
        head: Moment as timestamptz,
        tail: Moment as timestamptz,
        since: Moment as timestamptz,
        until: Moment as timestamptz,
        /// They are the same for all assets, so that the planner can tell how many there are.
        same_days: bool as boolean,
    }
}

query! {
    /// For each asset the whole days of a period: the first, and the one after the last. Where since or
    /// until is no midnight, or a clock changes within three hours of it, so that a day may begin twice or
    /// not at all, the days around it are not whole, and the moments in between are to be read one by one:
    /// before `head`, and from `tail` on. A period without a whole day is all before `head`.
    DaysOf(since: timestamptz, until: timestamptz, asset: text):
    "WITH
        at AS (
            SELECT a.asset, a.timezone,
                   :since::timestamptz AT TIME ZONE a.timezone AS since,
                   (:since::timestamptz - interval '3 h') AT TIME ZONE a.timezone AS before_since,
                   (:since::timestamptz + interval '3 h') AT TIME ZONE a.timezone AS after_since,
                   :until::timestamptz AT TIME ZONE a.timezone AS until,
                   (:until::timestamptz - interval '3 h') AT TIME ZONE a.timezone AS before_until,
                   (:until::timestamptz + interval '3 h') AT TIME ZONE a.timezone AS after_until
            FROM credyt.assets a
            WHERE :asset IS NULL OR a.asset = :asset
        ),
        clean AS (
            SELECT a.*,
                   a.since = date_trunc('day', a.since) AND a.before_since = a.since - interval '3 h'
                       AND a.after_since = a.since + interval '3 h' AS from_midnight,
                   a.until = date_trunc('day', a.until) AND a.before_until = a.until - interval '3 h'
                       AND a.after_until = a.until + interval '3 h' AS to_midnight
            FROM at a
        ),
        whole AS (
            SELECT c.*,
                   CASE WHEN c.since IS NULL THEN '-infinity'::date
                        WHEN c.from_midnight THEN c.since::date
                        ELSE c.after_since::date + 1 END AS first,
                   CASE WHEN c.until IS NULL THEN 'infinity'::date
                        WHEN c.to_midnight THEN c.until::date
                        ELSE c.before_until::date END AS last
            FROM clean c
        ),
        split AS (
            SELECT w.asset, w.timezone,
                   CASE WHEN w.first < w.last THEN w.first ELSE 'infinity' END AS first,
                   CASE WHEN w.first < w.last THEN w.last ELSE 'infinity' END AS last,
                   CASE WHEN w.first >= w.last THEN :until
                        WHEN w.since IS NULL THEN '-infinity'
                        WHEN w.from_midnight THEN :since
                        ELSE w.first::timestamp AT TIME ZONE w.timezone + interval '3 h' END AS head,
                   CASE WHEN w.first >= w.last OR w.until IS NULL THEN 'infinity'
                        WHEN w.to_midnight THEN :until
                        ELSE w.last::timestamp AT TIME ZONE w.timezone - interval '3 h' END AS tail
            FROM whole w
        )
        SELECT ", Days::COLUMNS, "
        FROM (SELECT array_agg(s.asset) AS assets, array_agg(s.timezone) AS timezones, array_agg(s.first) AS first_days,
                     array_agg(s.last) AS end_days, min(s.first) AS first_day, max(s.last) AS end_day, max(s.head) AS head,
                     min(s.tail) AS tail, coalesce(:since, '-infinity') AS since, coalesce(:until, 'infinity') AS until,
                     min(s.first) = max(s.first) AND min(s.last) = max(s.last) AS same_days
              FROM split s) d
        WHERE d.assets IS NOT NULL"
}

table! {
    /// What every report takes.
    struct Report {
        assets: Vec<String> as texts,
        timezones: Vec<String> as texts,
        first_days: pg_sys::Datum as dates,
        end_days: pg_sys::Datum as dates,
        first_day: Day as date,
        end_day: Day as date,
        head: Moment as timestamptz,
        tail: Moment as timestamptz,
        since: Moment as timestamptz,
        until: Moment as timestamptz,
        same_days: bool as boolean,
        by_day: bool as boolean,
        by_action: bool as boolean,
        by_customer: bool as boolean,
        by_vendor: bool as boolean,
        by_model: bool as boolean,
        by_kind: bool as boolean,
        by_scope: bool as boolean,
        /// The bit of `rollup::report`.
        report: i32 as int,
        /// One action,
        action: Option<String> as text,
        /// and only debits whose cost is known.
        costed: bool as boolean,
        /// The margin to reach.
        target: Option<Decimal> as numeric,
        /// Where the customers are cut in two halves, one for each of two workers; `None`: not at all.
        middle: Option<String> as text,
    }
}

macro_rules! report {
    ($($part:expr),+ $(,)?) => {
        Statement {
            sql: fixed!(Text::new()$(.with_named($part, Report::DECLARED))+),
            args: Report::TYPES,
        }
    };
}

/// The columns of what is summed, from the rollup `$table`.
macro_rules! rolled_up {
    ($table:literal, $customer:literal, $scope:literal, $condition:literal) => {
        concat!(
            "SELECT r.asset, r.day, ",
            $customer,
            " AS customer, r.action, r.vendor, r.model, r.kind, ",
            $scope,
            " AS scope,
                 r.report_mask, r.costed, r.debits, r.quantity, r.credits, r.revenue, r.cost
             FROM credyt.",
            $table,
            " r
             WHERE r.asset = ANY (:assets) AND r.day >= :first_day AND r.day < :end_day
               AND (:same_days OR EXISTS (SELECT FROM asset a WHERE a.asset = r.asset AND r.day >= a.first AND r.day < a.last))
               AND ",
            $condition
        )
    };
}

/// The same from rows of margin_lines, a row for each scope where scopes are asked for.
macro_rules! as_booked {
    ($lines:literal, $condition:literal) => {
        concat!(
            "SELECT m.asset, d.day, m.customer, m.action, m.vendor, m.model, m.kind, c.scope,
                 m.report_mask, m.costed, m.debits::bigint, m.quantity, m.credits, m.revenue, m.cost
             FROM asset a ", $lines, "
             CROSS JOIN LATERAL (SELECT (m.accounted_at AT TIME ZONE a.timezone)::date AS day) d
             CROSS JOIN LATERAL (
                 SELECT NULL::text AS scope WHERE NOT :by_scope OR coalesce(cardinality(m.scopes), 0) = 0
                 UNION ALL
                 SELECT DISTINCT s.scope FROM unnest(m.scopes) AS s (scope) WHERE :by_scope
             ) c
             WHERE ", $condition
        )
    };
}

/// What the rollups do not have.
macro_rules! not_rolled_up {
    () => {
        concat!(
            // Newer than the rollups.
            as_booked!(
                "JOIN credyt.margin_unrolled m ON m.asset = a.asset",
                "d.day >= a.first AND d.day < a.last"
            ),
            " UNION ALL ",
            // From since to the first whole day, and from the last one to until.
            as_booked!(
                "JOIN credyt.margin_lines m ON m.asset = a.asset",
                ":head > :since AND m.accounted_at >= :since AND m.accounted_at < least(:head, :until) AND d.day < a.first"
            ),
            " UNION ALL ",
            as_booked!(
                "JOIN credyt.margin_lines m ON m.asset = a.asset",
                ":tail < :until AND m.accounted_at >= greatest(:tail, :since) AND m.accounted_at < :until AND d.day >= a.last"
            )
        )
    };
}

/// The sums of these rows, group by group.
macro_rules! grouped {
    ($sum:literal, $($rows:expr),+) => {
        concat!(
            "SELECT t.asset,
                    CASE WHEN :by_day THEN t.day END AS day,
                    CASE WHEN :by_action THEN t.action END AS action,
                    CASE WHEN :by_customer THEN t.customer END AS customer,
                    CASE WHEN :by_vendor THEN t.vendor END AS vendor,
                    CASE WHEN :by_model THEN t.model END AS model,
                    CASE WHEN :by_kind THEN t.kind END AS kind,
                    CASE WHEN :by_scope THEN t.scope END AS scope,
                    coalesce(credyt.total_count(t.debits) FILTER (WHERE t.report_mask & :report <> 0), 0) AS debits,
                    credyt.total_count(t.debits) FILTER (WHERE t.report_mask & :report <> 0 AND t.costed) AS costed,
                    coalesce(", $sum, "(t.quantity) FILTER (WHERE t.report_mask & :report <> 0), 0) AS quantity,
                    ", $sum, "(t.credits) AS credits,
                    ", $sum, "(t.revenue) AS revenue,
                    ", $sum, "(t.cost) AS cost
             FROM (", $($rows),+, ") t
             WHERE (:action IS NULL OR t.action = :action) AND (NOT :costed OR t.costed)
             GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"
        )
    };
}

/// The sums of what is rolled up and of what is not, one by one, and then of both. So workers can take a part of the
/// rollups. What is not asked by is a constant for the planner here too: the sums of an ordered rollup stay in its order.
macro_rules! by_parts {
    ($($rollup:expr),+) => {
        concat!(
            "SELECT u.asset,
                    CASE WHEN :by_day THEN u.day END AS day,
                    CASE WHEN :by_action THEN u.action END AS action,
                    CASE WHEN :by_customer THEN u.customer END AS customer,
                    CASE WHEN :by_vendor THEN u.vendor END AS vendor,
                    CASE WHEN :by_model THEN u.model END AS model,
                    CASE WHEN :by_kind THEN u.kind END AS kind,
                    CASE WHEN :by_scope THEN u.scope END AS scope,
                    credyt.total_count(u.debits) AS debits,
                    credyt.total_count(u.costed) AS costed,
                    credyt.total(u.quantity) AS quantity,
                    credyt.total(u.credits) AS credits,
                    credyt.total(u.revenue) AS revenue,
                    credyt.total(u.cost) AS cost
             FROM (",
            grouped!("sum", $($rollup),+),
            " UNION ALL ",
            grouped!("sum", not_rolled_up!()),
            ") u
             GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"
        )
    };
}
/// The sums of what is rolled up, customer by customer and day by day, and to the few that have them those of what is newer. For a
/// report with hardly fewer rows than the rollup: a worker sums each half of the customers, from first to last, and nothing is
/// summed again here.
macro_rules! by_halves {
    () => {
        concat!(
            "SELECT coalesce(r.asset, n.asset) AS asset,
                    coalesce(r.day, n.day) AS day,
                    coalesce(r.action, n.action) AS action,
                    coalesce(r.customer, n.customer) AS customer,
                    coalesce(r.vendor, n.vendor) AS vendor,
                    coalesce(r.model, n.model) AS model,
                    coalesce(r.kind, n.kind) AS kind,
                    NULL::text AS scope,
                    coalesce(r.debits + n.debits, r.debits, n.debits) AS debits,
                    coalesce(r.costed + n.costed, r.costed, n.costed) AS costed,
                    coalesce(r.quantity + n.quantity, r.quantity, n.quantity) AS quantity,
                    coalesce(r.credits + n.credits, r.credits, n.credits) AS credits,
                    coalesce(r.revenue + n.revenue, r.revenue, n.revenue) AS revenue,
                    coalesce(r.cost + n.cost, r.cost, n.cost) AS cost
             FROM (",
            grouped!("credyt.total", rolled_up!("margin_customers", "r.customer", "NULL::text", "(:middle IS NULL OR r.customer < :middle)")),
            " UNION ALL ",
            grouped!("credyt.total", rolled_up!("margin_customers", "r.customer", "NULL::text", "r.customer >= :middle")),
            ") r
             FULL JOIN (",
            grouped!("credyt.total", not_rolled_up!()),
            ") n
               ON n.asset = r.asset AND n.customer = r.customer AND n.day = r.day
                  AND n.action IS NOT DISTINCT FROM r.action AND n.vendor IS NOT DISTINCT FROM r.vendor
                  AND n.model IS NOT DISTINCT FROM r.model AND n.kind IS NOT DISTINCT FROM r.kind"
        )
    };
}

/// On a cluster, where nothing is rolled up: each node sums the lines of its customers, one by one, which Citus takes as a whole,
/// and here those sums are summed.
macro_rules! on_cluster {
    () => {
        "SELECT t.asset, t.day, t.action, CASE WHEN :by_customer THEN t.customer END AS customer, t.vendor, t.model, t.kind, t.scope,
                sum(t.debits)::bigint AS debits, sum(t.costed)::bigint AS costed, sum(t.quantity) AS quantity,
                sum(t.credits) AS credits, sum(t.revenue) AS revenue, sum(t.cost) AS cost
         FROM (
             SELECT m.asset,
                    CASE WHEN :by_day THEN (m.accounted_at AT TIME ZONE a.timezone)::date END AS day,
                    CASE WHEN :by_action THEN m.action END AS action,
                    m.customer,
                    CASE WHEN :by_vendor THEN m.vendor END AS vendor,
                    CASE WHEN :by_model THEN m.model END AS model,
                    CASE WHEN :by_kind THEN m.kind END AS kind,
                    CASE WHEN :by_scope THEN c.scope END AS scope,
                    coalesce(sum(m.debits) FILTER (WHERE m.report_mask & :report <> 0), 0) AS debits,
                    sum(m.debits) FILTER (WHERE m.report_mask & :report <> 0 AND m.costed) AS costed,
                    coalesce(sum(m.quantity) FILTER (WHERE m.report_mask & :report <> 0), 0) AS quantity,
                    sum(m.credits) AS credits, sum(m.revenue) AS revenue, sum(m.cost) AS cost
             FROM credyt.margin_lines m
             JOIN credyt.assets a ON a.asset = m.asset
             CROSS JOIN LATERAL unnest(
                 CASE WHEN :by_scope AND cardinality(m.scopes) > 0 THEN ARRAY(SELECT DISTINCT s.scope FROM unnest(m.scopes) AS s (scope))
                      ELSE '{NULL}' END) AS c (scope)
             WHERE m.asset = ANY (:assets) AND m.accounted_at >= :since AND m.accounted_at < :until
               AND (:action IS NULL OR m.action = :action) AND (NOT :costed OR m.costed)
             GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
         ) t
         GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"
    };
}

/// All that a report sums.
macro_rules! sums {
    ($what:literal, $groups:expr) => {
        concat!(
            "WITH asset AS NOT MATERIALIZED (
                 SELECT * FROM unnest(:assets, :timezones, :first_days, :end_days) AS a (asset, timezone, first, last)
             )
             SELECT ",
            $what,
            " FROM (",
            $groups,
            ") s"
        )
    };
}
/// A debit that a late cost has moved to another model leaves zeros behind: no row, and no cost of zero where none is known.
macro_rules! margin {
    ($groups:expr) => {
        report!(
            sums!(
                "s.asset, s.day, s.action, s.customer, s.vendor, s.model, s.kind, s.scope,
                 s.debits, trim_scale(s.quantity), trim_scale(s.credits), credyt.as_money(s.revenue),
                 CASE WHEN s.cost <> 0 OR s.costed > 0 THEN credyt.as_money(s.cost) END,
                 credyt.as_money(s.revenue - coalesce(s.cost, 0)),
                 trim_scale((s.revenue - coalesce(s.cost, 0)) / nullif(s.revenue, 0)),
                 CASE WHEN s.debits = 0 THEN NULL
                      WHEN s.costed = s.debits THEN 1
                      ELSE trim_scale(coalesce(s.costed, 0)::numeric / s.debits) END",
                $groups
            ),
            " WHERE s.debits <> 0 OR s.quantity <> 0 OR s.credits <> 0 OR s.revenue <> 0 OR s.cost <> 0",
        )
    };
}

static MARGIN: Statement = margin!(by_parts!(rolled_up!(
    "margin_days",
    "NULL::text",
    "NULL::text",
    "true"
)));

static MARGIN_BY_CUSTOMER: Statement = margin!(by_parts!(rolled_up!(
    "margin_customers",
    "r.customer",
    "NULL::text",
    "true"
)));

static MARGIN_BY_CUSTOMER_AND_DAY: Statement = margin!(by_halves!());

static MARGIN_ON_CLUSTER: Statement = margin!(on_cluster!());

/// What has no scopes is in the other rollups only.
static MARGIN_BY_SCOPE: Statement = margin!(by_parts!(
    rolled_up!(
        "margin_days",
        "NULL::text",
        "NULL::text",
        "NOT r.scoped AND NOT :by_customer"
    ),
    " UNION ALL ",
    rolled_up!(
        "margin_customers",
        "r.customer",
        "NULL::text",
        "NOT r.scoped AND :by_customer"
    ),
    " UNION ALL ",
    rolled_up!("margin_scopes", "r.customer", "r.scope", "true")
));
/// What a credit earned is revenue / credits, and the price the one at
/// which price x quantity x revenue / credits x (1 - margin) = cost.
macro_rules! suggest {
    ($groups:expr) => {
        report!(
            sums!(
                "s.asset, :action, s.debits, s.quantity, s.cost,
                 trim_scale(s.revenue / nullif(s.credits, 0)),
                 CASE WHEN s.revenue > 0 AND s.credits > 0 AND s.quantity > 0
                      THEN (SELECT trim_scale((div(p.num * 1e10, p.den) + sign(mod(p.num * 1e10, p.den))) * 0.0000000001)
                            FROM (SELECT s.cost * s.credits AS num, s.revenue * s.quantity * (1 - :target) AS den) p) END",
                $groups
            ),
            " WHERE s.debits > 0",
        )
    };
}

static SUGGEST: Statement = suggest!(by_parts!(rolled_up!(
    "margin_days",
    "NULL::text",
    "NULL::text",
    "true"
)));

static SUGGEST_ON_CLUSTER: Statement = suggest!(on_cluster!());

/// The customer in the middle of the rollup, by the planner's statistics: any other would do.
static MIDDLE: Statement = Statement {
    sql: "SELECT b.bounds[1 + cardinality(b.bounds) / 2]
          FROM (SELECT s.histogram_bounds::text::text[] AS bounds
                FROM pg_catalog.pg_stats s
                WHERE s.schemaname = 'credyt' AND s.tablename = 'margin_customers' AND s.attname = 'customer') b
          WHERE cardinality(b.bounds) > 0",
    args: &[],
};

/// Answers `credyt.margin`.
pub fn margin(store: &Store, by: GroupBy, period: &ReportRange, function: &Args) -> Result<()> {
    let mut report = asked(store, by, period)?;
    let statement = match by {
        _ if is_distributed() => &MARGIN_ON_CLUSTER,
        GroupBy { scope: true, .. } => &MARGIN_BY_SCOPE,
        GroupBy {
            customer: true,
            day: true,
            ..
        } => {
            if let Some(report) = &mut report {
                report.middle = MIDDLE.run(store, &[])?.read_first()?;
            }
            &MARGIN_BY_CUSTOMER_AND_DAY
        }
        GroupBy { customer: true, .. } => &MARGIN_BY_CUSTOMER,
        _ => &MARGIN,
    };
    answer(store, statement, report, function)
}

/// Answers `credyt.suggest_price`.
pub fn suggest(
    store: &Store,
    action: &str,
    target: Decimal,
    period: &ReportRange,
    function: &Args,
) -> Result<()> {
    let report = asked(store, GroupBy::default(), period)?.map(|report| Report {
        action: Some(action.to_owned()),
        costed: true,
        target: Some(target),
        ..report
    });
    let statement = match is_distributed() {
        true => &SUGGEST_ON_CLUSTER,
        false => &SUGGEST,
    };
    answer(store, statement, report, function)
}

fn answer(
    store: &Store,
    statement: &'static Statement,
    report: Option<Report>,
    function: &Args,
) -> Result<()> {
    match report {
        Some(report) => statement.answer(store, &report.values()?, function),
        None => row::rows(function, Vec::new()).map(drop),
    }
}

/// What a report over this range takes; `None` where there is no asset.
fn asked(store: &Store, by: GroupBy, period: &ReportRange) -> Result<Option<Report>> {
    let query = DaysOf {
        since: period.since,
        until: period.until,
        asset: period.asset.as_deref(),
    };
    let days: Option<Days> = query.run(store)?.read_first()?;
    Ok(days.map(|days| Report {
        assets: days.assets,
        timezones: days.timezones,
        first_days: days.first_days,
        end_days: days.end_days,
        first_day: days.first_day,
        end_day: days.end_day,
        head: days.head,
        tail: days.tail,
        since: days.since,
        until: days.until,
        same_days: days.same_days,
        by_day: by.day,
        by_action: by.action,
        by_customer: by.customer,
        by_vendor: by.vendor,
        by_model: by.model,
        by_kind: by.kind,
        by_scope: by.scope,
        report: rollup::report(by.vendor, by.model, by.kind),
        action: None,
        costed: false,
        target: None,
        middle: None,
    }))
}

/// The whole days of a range in one asset.
pub fn whole_days(
    store: &Store,
    asset: &str,
    since: Option<Moment>,
    until: Moment,
) -> Result<Days> {
    let query = DaysOf {
        since,
        until,
        asset,
    };
    let days = query.run(store)?.read_first()?;
    days.ok_or_else(|| errors::corrupted("the days of a range", asset))
}
