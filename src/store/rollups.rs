//! Reports of margin, and the rollups that keep them and `usage` fast.
//!
//! A report over days reads whole days from the rollups, and from the ledger what the rollups do not
//! have yet and the parts of days at its ends. A wallet's rows are committed in the order of their
//! numbers, and the wallet knows its last one: what is newer than the rollups is every row beyond the
//! one in `rollup_progress`, in the same snapshot.

use super::statement::{
    BIGINT, BOOL, DATE, DATES, INT, JSONB, NUMERIC, Statement, Store, TEXT, TEXTS, TIME, UUID,
};
use super::{assets, cache_epoch, cluster, ledger};
use crate::errors::{self, Result};
use crate::ledger::price::Price;
use crate::ledger::{Moment, rollup};
use crate::sql_types::field::FromColumn;
use crate::sql_types::value::{self, Value};
use crate::sql_types::{Args, row};
use rust_decimal::Decimal;
use serde_json::Value as Json;

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

/// For each asset the whole days of a period: the first, and the one after the last. Where since or
/// until is no midnight, or a clock changes within three hours of it, so that a day may begin twice or
/// not at all, the days around it are not whole, and the moments in between are to be read one by one:
/// before `head`, and from `tail` on. A period without a whole day is all before `head`.
static DAYS: Statement = Statement {
    sql: "WITH
        at AS (
            SELECT a.asset, a.timezone,
                   $1::timestamptz AT TIME ZONE a.timezone AS since,
                   ($1::timestamptz - interval '3 h') AT TIME ZONE a.timezone AS before_since,
                   ($1::timestamptz + interval '3 h') AT TIME ZONE a.timezone AS after_since,
                   $2::timestamptz AT TIME ZONE a.timezone AS until,
                   ($2::timestamptz - interval '3 h') AT TIME ZONE a.timezone AS before_until,
                   ($2::timestamptz + interval '3 h') AT TIME ZONE a.timezone AS after_until
            FROM credyt.assets a
            WHERE $3 IS NULL OR a.asset = $3
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
                   CASE WHEN w.first >= w.last THEN $2
                        WHEN w.since IS NULL THEN '-infinity'
                        WHEN w.from_midnight THEN $1
                        ELSE w.first::timestamp AT TIME ZONE w.timezone + interval '3 h' END AS head,
                   CASE WHEN w.first >= w.last OR w.until IS NULL THEN 'infinity'
                        WHEN w.to_midnight THEN $2
                        ELSE w.last::timestamp AT TIME ZONE w.timezone - interval '3 h' END AS tail
            FROM whole w
        )
        SELECT array_agg(s.asset), array_agg(s.timezone), array_agg(s.first), array_agg(s.last),
               min(s.first), max(s.last), max(s.head), min(s.tail), coalesce($1, '-infinity'), coalesce($2, 'infinity'),
               min(s.first) = max(s.first) AND min(s.last) = max(s.last)
        FROM split s",
    args: &[TIME, TIME, TEXT],
};

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
             WHERE r.asset = ANY ($1) AND r.day >= $5 AND r.day < $6
               AND ($21 OR EXISTS (SELECT FROM asset a WHERE a.asset = r.asset AND r.day >= a.first AND r.day < a.last))
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
                 SELECT NULL::text AS scope WHERE NOT $17 OR coalesce(cardinality(m.scopes), 0) = 0
                 UNION ALL
                 SELECT DISTINCT s.scope FROM unnest(m.scopes) AS s (scope) WHERE $17
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
                "$7 > $9 AND m.accounted_at >= $9 AND m.accounted_at < least($7, $10) AND d.day < a.first"
            ),
            " UNION ALL ",
            as_booked!(
                "JOIN credyt.margin_lines m ON m.asset = a.asset",
                "$8 < $10 AND m.accounted_at >= greatest($8, $9) AND m.accounted_at < $10 AND d.day >= a.last"
            )
        )
    };
}

/// The sums of these rows, group by group. $11 to $17: what it is asked by; $18: the bit of
/// rollup::report; $19: one action; $20: only debits whose cost is known.
macro_rules! grouped {
    ($sum:literal, $($rows:expr),+) => {
        concat!(
            "SELECT t.asset,
                    CASE WHEN $11 THEN t.day END AS day,
                    CASE WHEN $12 THEN t.action END AS action,
                    CASE WHEN $13 THEN t.customer END AS customer,
                    CASE WHEN $14 THEN t.vendor END AS vendor,
                    CASE WHEN $15 THEN t.model END AS model,
                    CASE WHEN $16 THEN t.kind END AS kind,
                    CASE WHEN $17 THEN t.scope END AS scope,
                    coalesce(credyt.total_count(t.debits) FILTER (WHERE t.report_mask & $18 <> 0), 0) AS debits,
                    credyt.total_count(t.debits) FILTER (WHERE t.report_mask & $18 <> 0 AND t.costed) AS costed,
                    coalesce(", $sum, "(t.quantity) FILTER (WHERE t.report_mask & $18 <> 0), 0) AS quantity,
                    ", $sum, "(t.credits) AS credits,
                    ", $sum, "(t.revenue) AS revenue,
                    ", $sum, "(t.cost) AS cost
             FROM (", $($rows),+, ") t
             WHERE ($19 IS NULL OR t.action = $19) AND (NOT $20 OR t.costed)
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
                    CASE WHEN $11 THEN u.day END AS day,
                    CASE WHEN $12 THEN u.action END AS action,
                    CASE WHEN $13 THEN u.customer END AS customer,
                    CASE WHEN $14 THEN u.vendor END AS vendor,
                    CASE WHEN $15 THEN u.model END AS model,
                    CASE WHEN $16 THEN u.kind END AS kind,
                    CASE WHEN $17 THEN u.scope END AS scope,
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

/// All together, for a report with hardly fewer rows than the rollup: there workers would not help.
macro_rules! at_once {
    ($rollup:expr) => {
        grouped!("credyt.total", $rollup, " UNION ALL ", not_rolled_up!())
    };
}

/// All that a report sums. $1 to $4: the assets, their time zones, first and last days; $5, $6: the
/// first of the first days and the last of the last; $7, $8: head and tail; $9, $10: since and until;
/// $21: the days are the same for all assets, so that the planner can tell how many there are.
macro_rules! sums {
    ($what:literal, $groups:expr) => {
        concat!(
            "WITH asset AS NOT MATERIALIZED (
                 SELECT * FROM unnest($1, $2, $3, $4) AS a (asset, timezone, first, last)
             )
             SELECT ",
            $what,
            " FROM (",
            $groups,
            ") s"
        )
    };
}

macro_rules! args {
    ($($more:expr),*) => {
        &[TEXTS, TEXTS, DATES, DATES, DATE, DATE, TIME, TIME, TIME, TIME,
          BOOL, BOOL, BOOL, BOOL, BOOL, BOOL, BOOL, INT, TEXT, BOOL, BOOL $(, $more)*]
    };
}

macro_rules! margin {
    ($groups:expr) => {
        Statement {
            // A debit that a late cost has moved to another model leaves zeros behind: no row, and no
            // cost of zero where none is known.
            sql: concat!(
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
                " WHERE s.debits <> 0 OR s.quantity <> 0 OR s.credits <> 0 OR s.revenue <> 0 OR s.cost <> 0"
            ),
            args: args!(),
        }
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

static MARGIN_BY_CUSTOMER_AND_DAY: Statement = margin!(at_once!(rolled_up!(
    "margin_customers",
    "r.customer",
    "NULL::text",
    "true"
)));

/// What has no scopes is in the other rollups only.
static MARGIN_BY_SCOPE: Statement = margin!(by_parts!(
    rolled_up!(
        "margin_days",
        "NULL::text",
        "NULL::text",
        "NOT r.scoped AND NOT $13"
    ),
    " UNION ALL ",
    rolled_up!(
        "margin_customers",
        "r.customer",
        "NULL::text",
        "NOT r.scoped AND $13"
    ),
    " UNION ALL ",
    rolled_up!("margin_scopes", "r.customer", "r.scope", "true")
));

/// $22: the margin to reach. What a credit earned is revenue / credits, and the price the one at
/// which price x quantity x revenue / credits x (1 - margin) = cost.
static SUGGEST: Statement = Statement {
    sql: concat!(
        sums!(
            "s.asset, $19, s.debits, s.quantity, s.cost,
             trim_scale(s.revenue / nullif(s.credits, 0)),
             CASE WHEN s.revenue > 0 AND s.credits > 0 AND s.quantity > 0
                  THEN (SELECT trim_scale((div(p.num * 1e10, p.den) + sign(mod(p.num * 1e10, p.den))) * 0.0000000001)
                        FROM (SELECT s.cost * s.credits AS num, s.revenue * s.quantity * (1 - $22) AS den) p) END",
            by_parts!(rolled_up!("margin_days", "NULL::text", "NULL::text", "true"))
        ),
        " WHERE s.debits > 0"
    ),
    args: args!(NUMERIC),
};

/// Answers `credyt.margin`.
pub fn margin(store: &Store, by: GroupBy, period: &ReportRange, function: &Args) -> Result<()> {
    match arguments(store, by, period, None, false)? {
        Some(values) => {
            let statement = match by {
                GroupBy { scope: true, .. } => &MARGIN_BY_SCOPE,
                GroupBy {
                    customer: true,
                    day: true,
                    ..
                } => &MARGIN_BY_CUSTOMER_AND_DAY,
                GroupBy { customer: true, .. } => &MARGIN_BY_CUSTOMER,
                _ => &MARGIN,
            };
            statement.answer(store, &values, function)
        }
        None => row::rows(function, Vec::new()).map(drop),
    }
}

/// Answers `credyt.suggest_price`.
pub fn suggest(
    store: &Store,
    action: &str,
    target: Decimal,
    period: &ReportRange,
    function: &Args,
) -> Result<()> {
    match arguments(store, GroupBy::default(), period, Some(action), true)? {
        Some(mut values) => {
            values.push(value::decimal(target));
            SUGGEST.answer(store, &values, function)
        }
        None => row::rows(function, Vec::new()).map(drop),
    }
}

/// The whole days of a range in one asset.
pub struct WholeDays {
    /// The first, and the one after the last.
    pub days: [Value; 2],
    /// Before this moment and from that one on the moments are to be read one by one.
    pub head: Value,
    pub tail: Moment,
}

pub fn whole_days(
    store: &Store,
    asset: &str,
    since: Option<Moment>,
    until: Moment,
) -> Result<WholeDays> {
    let asked = [
        value::optional_moment(since),
        value::moment(until),
        value::text(asset),
    ];
    let rows = DAYS.run(store, &asked)?;
    let values = rows.first().map(|row| row.values()).unwrap_or_default();
    let [_, _, _, _, first, last, head, tail, ..] = values[..] else {
        return Err(errors::corrupted("the days of a range", asset));
    };
    Ok(WholeDays {
        days: [first, last],
        head,
        tail: Moment::from_value(tail)?,
    })
}

/// The values of $1 to $21; `None` where there is no asset.
fn arguments(
    store: &Store,
    by: GroupBy,
    period: &ReportRange,
    action: Option<&str>,
    costed: bool,
) -> Result<Option<Vec<Value>>> {
    let asked = [
        value::optional_moment(period.since),
        value::optional_moment(period.until),
        value::optional_text(period.asset.as_deref()),
    ];
    let rows = DAYS.run(store, &asked)?;
    let mut values = rows.first().map(|row| row.values()).unwrap_or_default();
    // There is no first day without an asset.
    if values.first().is_none_or(Option::is_none) {
        return Ok(None);
    }
    let last = values.pop().flatten();
    let asked = [
        by.day,
        by.action,
        by.customer,
        by.vendor,
        by.model,
        by.kind,
        by.scope,
    ];
    values.extend(asked.map(value::bool));
    values.push(value::int(rollup::report(by.vendor, by.model, by.kind)));
    values.push(value::optional_text(action));
    values.push(value::bool(costed));
    values.push(last);
    Ok(Some(values))
}

/// The debits of an action, what they cost the vendor, and whether a new price for all leaves theirs as it is. $1: the
/// action; $3: since. A cost that was recorded after its debit counts as in margin, and is `late`.
macro_rules! costed {
    () => {
        "
              SELECT l.asset, l.customer, l.seq, l.authorization_id, l.before, l.revenue, v.cost AS late,
                     CASE WHEN l.given IS NULL THEN v.cost ELSE l.given + coalesce(v.cost, 0) END AS cost,
                     l.costed + coalesce(v.costed, 0) > 0 AS costed, l.quantity, l.dimensions, l.usage, l.occurred_at, l.stays
              FROM (
                  SELECT l.asset, l.customer, l.id, l.seq, l.authorization_id, -l.credits AS before, l.revenue,
                         (l.cost IS NOT NULL)::int AS costed,
                         CASE WHEN l.cost IS NOT NULL OR l.costs IS NULL THEN l.cost
                              ELSE credyt.known_cost(l.costs)
                         END AS given,
                         l.quantity, l.dimensions, l.usage, l.occurred_at,
                         -- A new price for all leaves these as they are: a customer's own, a list's, one that is kept.
                         p.customer IS NOT NULL OR p.price_list IS NOT NULL
                         OR (l.customer, l.asset) IN (SELECT a.customer, a.asset FROM credyt.customer_price_lists a
                                                      WHERE a.as_of IS NOT NULL)
                            AND (SELECT a.as_of FROM credyt.customer_price_lists a
                                 WHERE a.customer = l.customer AND a.asset = l.asset AND a.effective_at <= l.occurred_at
                                 ORDER BY a.version DESC LIMIT 1) IS NOT NULL AS stays
                  FROM credyt.ledger l
                  LEFT JOIN credyt.prices p ON p.asset = l.asset AND p.action = l.action AND p.version = l.price_version
                  WHERE l.kind = 'debit' AND l.action = $1 AND ($3 IS NULL OR l.accounted_at >= $3)
              ) l
              LEFT JOIN (
                  SELECT v.customer, v.debit_id, sum(p.costed) AS costed, sum(p.cost) AS cost
                  FROM credyt.vendor_costs v
                  JOIN (SELECT p.customer, p.asset, p.seq, p.costed,
                               credyt.known_cost(p.lines) AS cost
                        FROM credyt.cost_postings p) p
                    ON p.customer = v.customer AND p.asset = v.asset AND p.seq = v.seq
                  WHERE v.debit_id IS NOT NULL
                  GROUP BY v.customer, v.debit_id
              ) v ON v.customer = l.customer AND v.debit_id = l.id"
    };
}

/// The captures of an authorization, together: their usage is a total so far, so the last one's counts.
macro_rules! captured {
    () => {
        "
              SELECT c.asset, c.customer, min(c.seq) AS seq, 1 AS times, count(*) AS debits, sum(c.before) AS before,
                     sum(c.revenue) AS revenue, sum(c.cost) AS cost, CASE WHEN bool_and(c.costed) THEN sum(c.cost) END AS rated_cost,
                     sum(c.quantity) AS quantity, (array_agg(c.dimensions ORDER BY c.seq DESC))[1] AS dimensions,
                     (array_agg(c.usage ORDER BY c.seq DESC))[1] AS usage, max(c.occurred_at) AS occurred_at, bool_or(c.stays) AS stays
              FROM costed c WHERE c.authorization_id IS NOT NULL
              GROUP BY c.asset, c.customer, c.authorization_id"
    };
}

/// Each debit by itself.
macro_rules! each {
    () => {
        concat!(
            "WITH costed AS (",
            costed!(),
            "
          ),
          used AS (",
            captured!(),
            "
              UNION ALL
              SELECT c.asset, c.customer, c.seq, 1, 1, c.before, c.revenue, c.cost, CASE WHEN c.costed THEN c.cost END,
                     c.quantity, c.dimensions, c.usage, c.occurred_at, c.stays
              FROM costed c WHERE c.authorization_id IS NULL
          )"
        )
    };
}

/// Debits that a rule without costs and usage cannot tell apart, together: where prices are few, so are these. `times` is how
/// many they are, `cost` is that of all. OFFSET 0 keeps columns from being unpacked for rows of other actions, and what is in it is worked out by the workers. A cost that came
/// later is a row of its own, of no debit.
macro_rules! alike {
    () => {
        concat!(
            "WITH costed AS NOT MATERIALIZED (",
            costed!(),
            "
          ),
          alike AS (
              SELECT l.asset, l.customer, l.price_version, l.quantity, l.dimensions, l.credits, l.revenue, l.occurred_at,
                     count(*) AS debits, sum(l.cost) AS cost
              FROM (SELECT l.asset, l.customer, l.price_version, l.quantity, l.dimensions, l.credits, l.revenue,
                           CASE WHEN (l.customer, l.asset) IN (SELECT a.customer, a.asset FROM credyt.customer_price_lists a
                                                               WHERE a.as_of IS NOT NULL)
                                THEN l.occurred_at END AS occurred_at,
                           CASE WHEN l.cost IS NOT NULL OR l.costs IS NULL THEN l.cost ELSE credyt.known_cost(l.costs) END AS cost,
                           l.authorization_id
                    FROM credyt.ledger l
                    WHERE l.action = $1 AND l.kind = 'debit' AND ($3 IS NULL OR l.accounted_at >= $3)
                    OFFSET 0) l
              WHERE l.authorization_id IS NULL
              GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
          ),
          used AS (",
            captured!(),
            "
              UNION ALL
              SELECT l.asset, l.customer, NULL, l.debits, l.debits, -l.credits, l.revenue, l.cost, NULL, l.quantity, l.dimensions,
                     NULL, l.occurred_at,
                     p.customer IS NOT NULL OR p.price_list IS NOT NULL
                     OR l.occurred_at IS NOT NULL
                        AND (SELECT a.as_of FROM credyt.customer_price_lists a
                             WHERE a.customer = l.customer AND a.asset = l.asset AND a.effective_at <= l.occurred_at
                             ORDER BY a.version DESC LIMIT 1) IS NOT NULL
              FROM alike l
              LEFT JOIN credyt.prices p ON p.asset = l.asset AND p.action = $1 AND p.version = l.price_version
              UNION ALL
              SELECT c.asset, c.customer, NULL, 0, 0, c.before, c.revenue, c.late, NULL, c.quantity, c.dimensions, NULL,
                     c.occurred_at, c.stays
              FROM costed c WHERE c.authorization_id IS NULL AND c.late IS NOT NULL
          )"
        )
    };
}

/// $2: the rule. Revenue is rounded at ten decimals, as it is everywhere.
macro_rules! simulate {
    ($debits:expr, $used:literal, $join:literal) => {
        concat!(
            $debits,
            "
          SELECT s.asset, $1, s.debits, s.unpriced, s.credits_before, s.credits_after, s.revenue_before,
                 s.revenue_after, s.cost,
                 s.revenue_before - coalesce(s.cost, 0), s.revenue_after - coalesce(s.cost, 0),
                 s.customers, s.customers_pay_more
          FROM (
              SELECT t.*, credyt.as_money(t.after) AS revenue_after
              FROM (
              SELECT c.asset,
                     sum(c.debits)::bigint AS debits,
                     sum(c.unpriced)::bigint AS unpriced,
                     coalesce(sum(c.before), 0) AS credits_before,
                     coalesce(sum(c.after), 0) AS credits_after,
                     coalesce(sum(c.revenue), 0) AS revenue_before,
                     coalesce(sum(c.earned), 0)
                         + coalesce(round(sum(c.free) * sum(c.revenue) / nullif(sum(c.before), 0), 10), 0) AS after,
                     sum(c.cost) AS cost,
                     count(*) FILTER (WHERE c.debits > 0) AS customers,
                     count(*) FILTER (WHERE c.after > c.before) AS customers_pay_more
              FROM (
                  SELECT r.asset, r.customer,
                         coalesce(sum(r.debits) FILTER (WHERE r.after IS NOT NULL), 0) AS debits,
                         coalesce(sum(r.debits) FILTER (WHERE r.after IS NULL), 0) AS unpriced,
                         sum(r.times * r.before) FILTER (WHERE r.after IS NOT NULL) AS before,
                         sum(r.times * r.after) AS after,
                         sum(r.times * r.revenue) FILTER (WHERE r.after IS NOT NULL) AS revenue,
                         sum(r.cost) FILTER (WHERE r.after IS NOT NULL) AS cost,
                         sum(r.times * round(r.revenue * r.after / nullif(r.before, 0), 10)) AS earned,
                         sum(r.times * r.after) FILTER (WHERE r.before = 0) AS free
                  FROM (
                      SELECT d.asset, d.customer, d.times, d.debits, d.before, d.revenue, d.cost,
                             CASE WHEN d.stays THEN d.before
                                  ELSE credyt.repriced($2, a.scale, a.rounding, d.quantity, d.dimensions, d.usage,
                                                      d.rated_cost, d.occurred_at, ",
            $used,
            ") END AS after
                      FROM used d
                      JOIN credyt.assets a ON a.asset = d.asset",
            $join,
            "
                  ) r
                  GROUP BY r.asset, r.customer
              ) c
              GROUP BY c.asset
              ) t
          ) s",
        )
    };
}

/// For a rule that asks for costs or usage.
static SIMULATE: Statement = Statement {
    sql: simulate!(each!(), "NULL", ""),
    args: &[TEXT, JSONB, TIME],
};

static SIMULATE_ALIKE: Statement = Statement {
    sql: simulate!(alike!(), "NULL", ""),
    args: &[TEXT, JSONB, TIME],
};

/// For a rule that counts over a month: what was used before a call, in its month.
static SIMULATE_MONTHS: Statement = Statement {
    sql: simulate!(
        each!(),
        "coalesce(sum(d.quantity) OVER (PARTITION BY d.asset, d.customer, date_trunc('month', d.occurred_at AT TIME ZONE a.timezone)
                                        ORDER BY d.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) + coalesce(e.used, 0)",
        "
         LEFT JOIN (SELECT l.asset, l.customer, date_trunc('month', l.occurred_at AT TIME ZONE a.timezone) AS month, sum(l.quantity) AS used
                    FROM credyt.ledger l JOIN credyt.assets a ON a.asset = l.asset
                    WHERE l.kind = 'debit' AND l.action = $1 AND l.accounted_at < $3
                    GROUP BY 1, 2, 3) e
                ON e.asset = d.asset AND e.customer = d.customer AND e.month = date_trunc('month', d.occurred_at AT TIME ZONE a.timezone)"
    ),
    args: &[TEXT, JSONB, TIME],
};

/// Answers `credyt.simulate_price`.
pub fn simulate(
    store: &Store,
    action: &str,
    rule: &Json,
    price: &Price,
    since: Option<Moment>,
    function: &Args,
) -> Result<()> {
    let values = [
        value::text(action),
        value::json("price", rule)?,
        value::optional_moment(since),
    ];
    let statement = if price.counts_months() {
        &SIMULATE_MONTHS
    } else if price.needs_cost() || price.needs_usage() {
        &SIMULATE
    } else {
        &SIMULATE_ALIKE
    };
    statement.answer(store, &values, function)
}

/// One session at a time changes the rollups: the number stands for that, in this database.
static TURN: Statement = Statement {
    sql: "SELECT pg_try_advisory_xact_lock(7165064744911531892)",
    args: &[],
};

/// The same, waiting for it.
static WAIT: Statement = Statement {
    sql: "SELECT pg_advisory_xact_lock(7165064744911531892)",
    args: &[],
};

static PROGRESS: Statement = Statement {
    sql: "SELECT coalesce(sum(p.seq), 0)::bigint FROM credyt.rollup_progress p WHERE p.customer = $1",
    args: &[TEXT],
};

/// If there is something under scopes: all of a customer, so that it is taken in again without them.
static TAKE_OUT: Statement = Statement {
    sql: "WITH mine AS (
              DELETE FROM credyt.margin_customers
              WHERE customer = $1
                AND EXISTS (SELECT FROM credyt.margin_customers s WHERE s.customer = $1 AND s.scoped)
              RETURNING *
          ),
          scopes AS (DELETE FROM credyt.margin_scopes WHERE customer = $1 RETURNING 1),
          usage AS (
              DELETE FROM credyt.usage_days
              WHERE customer = $1
                AND EXISTS (SELECT FROM credyt.margin_customers s WHERE s.customer = $1 AND s.scoped)
          ),
          progress AS (
              DELETE FROM credyt.rollup_progress
              WHERE customer IN ($1, '')
                AND EXISTS (SELECT FROM credyt.margin_customers s WHERE s.customer = $1 AND s.scoped)
          )
          UPDATE credyt.margin_days d
          SET debits = d.debits - m.debits, quantity = d.quantity - m.quantity, credits = d.credits - m.credits,
              revenue = d.revenue - m.revenue, cost = d.cost - coalesce(m.cost, 0)
          FROM mine m
          WHERE d.asset = m.asset AND d.day = m.day AND d.report_mask = m.report_mask
            AND d.costed = m.costed AND d.scoped = m.scoped
            AND d.action IS NOT DISTINCT FROM m.action AND d.vendor IS NOT DISTINCT FROM m.vendor
            AND d.model IS NOT DISTINCT FROM m.model AND d.kind IS NOT DISTINCT FROM m.kind",
    args: &[TEXT],
};

/// Sums of the lines that go into a rollup, added to what it has.
macro_rules! into {
    ($table:literal, $from:literal, $key:literal, $columns:literal) => {
        concat!(
            "INSERT INTO credyt.", $table, " AS r (", $key, ", debits, quantity, credits, revenue, cost)
             SELECT ", $columns, ", sum(l.debits), sum(l.quantity), sum(l.credits), sum(l.revenue), sum(l.cost)
             FROM ", $from, "
             GROUP BY ", $columns, "
             ON CONFLICT (", $key, ") DO UPDATE SET
                 debits = r.debits + excluded.debits,
                 quantity = r.quantity + excluded.quantity,
                 credits = r.credits + excluded.credits,
                 revenue = r.revenue + excluded.revenue,
                 cost = CASE WHEN r.cost IS NULL THEN excluded.cost ELSE r.cost + coalesce(excluded.cost, 0) END"
        )
    };
}

/// $1: the most wallets; $2: the most rows. What is newer than the rollups goes into them, and
/// the progress with it. A snapshot older than the last turn is refused by ON CONFLICT with 40001.
/// Says how many rows it took, and whether that was all there was.
macro_rules! roll_up {
    ($wallets:literal) => { concat!(
        "WITH behind AS MATERIALIZED (
             SELECT w.customer, w.asset, coalesce(p.seq, 0) AS seq,
                    coalesce(p.id, '00000000-0000-0000-0000-000000000000') AS id,
                    credyt.seq(w.state) AS last
             FROM ", $wallets, "
             LEFT JOIN credyt.rollup_progress p ON p.customer = w.customer AND p.asset = w.asset
             WHERE credyt.seq(w.state) > coalesce(p.seq, 0)
             ORDER BY w.customer, w.asset
             LIMIT $1
         ),
         step AS MATERIALIZED (
             SELECT c.customer, c.asset, c.seq, c.id, c.last, least(c.last, c.seq + $2 - c.before) AS upto
             FROM (SELECT b.*, sum(b.last - b.seq) OVER (ORDER BY b.customer, b.asset) - (b.last - b.seq) AS before
                   FROM behind b) c
             WHERE c.before < $2
         ),
         line AS MATERIALIZED (
             SELECT s.customer, s.asset, (m.accounted_at AT TIME ZONE a.timezone)::date AS day, m.action,
                    m.vendor, m.model, m.kind, m.report_mask, m.costed, m.scopes,
                    coalesce(cardinality(m.scopes), 0) > 0 AS scoped,
                    m.id, m.debits, m.quantity, m.credits, m.revenue, m.cost
             FROM step s
             JOIN credyt.assets a ON a.asset = s.asset
             CROSS JOIN LATERAL (
                 SELECT * FROM credyt.margin_lines m
                 WHERE m.customer = s.customer AND m.asset = s.asset AND m.id > s.id
                   AND m.seq > s.seq AND m.seq <= s.upto
                 OFFSET 0
             ) m
         ),
         days AS (",
        into!("margin_days", "line l",
              "asset, day, action, vendor, model, kind, report_mask, costed, scoped",
              "l.asset, l.day, l.action, l.vendor, l.model, l.kind, l.report_mask, l.costed, l.scoped"),
        "),
         customers AS (",
        into!("margin_customers", "line l",
              "customer, asset, day, action, vendor, model, kind, report_mask, costed, scoped",
              "l.customer, l.asset, l.day, l.action, l.vendor, l.model, l.kind, l.report_mask, l.costed, l.scoped"),
        "),
         scopes AS (",
        into!("margin_scopes",
              "line l CROSS JOIN LATERAL (SELECT DISTINCT s.scope FROM unnest(l.scopes) AS s (scope)) c",
              "customer, asset, day, scope, action, vendor, model, kind, report_mask, costed",
              "l.customer, l.asset, l.day, c.scope, l.action, l.vendor, l.model, l.kind, l.report_mask, l.costed"),
        "),
         used AS (
             INSERT INTO credyt.usage_days AS r (customer, asset, day, action, last_id, calls, quantity, credits)
             SELECT s.customer, s.asset, d.day, l.action, max(l.id::text COLLATE \"C\")::uuid, sum(l.calls),
                    sum(l.quantity), sum(l.credits)
             FROM step s
             JOIN credyt.assets a ON a.asset = s.asset
             CROSS JOIN LATERAL (
                 SELECT * FROM credyt.usage_lines l
                 WHERE l.customer = s.customer AND l.asset = s.asset AND l.id > s.id
                   AND l.seq > s.seq AND l.seq <= s.upto
                 OFFSET 0
             ) l
             CROSS JOIN LATERAL (SELECT (l.occurred_at AT TIME ZONE a.timezone)::date AS day) d
             GROUP BY s.customer, s.asset, d.day, l.action
             ON CONFLICT (customer, asset, day, action) DO UPDATE SET
                 last_id = greatest(r.last_id, excluded.last_id),
                 calls = r.calls + excluded.calls,
                 quantity = r.quantity + excluded.quantity,
                 credits = r.credits + excluded.credits
         ),
         progress AS (
             INSERT INTO credyt.rollup_progress AS p (customer, asset, seq, id)
             SELECT s.customer, s.asset, s.upto, coalesce(l.id, s.id)
             FROM step s
             LEFT JOIN (SELECT l.customer, l.asset, max(l.id::text COLLATE \"C\")::uuid AS id
                        FROM line l WHERE l.id <> 'ffffffff-ffff-ffff-ffff-ffffffffffff'
                        GROUP BY l.customer, l.asset) l ON l.customer = s.customer AND l.asset = s.asset
             ON CONFLICT (customer, asset) DO UPDATE SET seq = excluded.seq, id = excluded.id
         )
         SELECT coalesce(sum(s.upto - s.seq), 0)::bigint,
                (SELECT count(*) FROM behind) < $1 AND (SELECT count(*) FROM behind) = count(*) FILTER (WHERE s.upto = s.last)
         FROM step s"
    ) }
}

static ROLL_UP_ALL: Statement = Statement {
    sql: roll_up!("credyt.wallets w"),
    args: &[BIGINT, BIGINT],
};

/// $3: from when on rows may be missing. Only wallets with rows that were booked since are looked at.
static ROLL_UP_SINCE: Statement = Statement {
    sql: roll_up!(
        "(SELECT l.customer, l.asset FROM credyt.ledger l WHERE l.created_at >= $3
          UNION
          SELECT c.customer, c.asset FROM credyt.vendor_costs c WHERE c.created_at >= $3) n
         JOIN credyt.wallets w ON w.customer = n.customer AND w.asset = n.asset"
    ),
    args: &[BIGINT, BIGINT, TIME],
};

/// The row of no customer in `rollup_progress`: all rows that were booked before the time of its id are in
/// the rollups. Once a day all wallets are looked at whatever it says: rows may also come from elsewhere
/// (logical replication), or by a clock that was put back.
static COMPLETE: Statement = Statement {
    sql: "SELECT p.id FROM credyt.rollup_progress p WHERE p.customer = '' AND p.asset = current_date::text",
    args: &[],
};

static SET_COMPLETE: Statement = Statement {
    sql: "WITH before AS (DELETE FROM credyt.rollup_progress WHERE customer = '' AND asset <> current_date::text)
          INSERT INTO credyt.rollup_progress AS p (customer, asset, seq, id)
          VALUES ('', current_date::text, 0, $1)
          ON CONFLICT (customer, asset) DO UPDATE SET id = excluded.id",
    args: &[UUID],
};

/// No transaction that runs has begun before, so none will commit rows that were booked before. NULL where that
/// cannot be told.
static HORIZON: Statement = Statement {
    sql: "SELECT CASE WHEN count(*) FILTER (WHERE coalesce(a.state, 'disabled') = 'disabled') = 0
                       AND NOT EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts x WHERE x.database = current_database())
                      THEN least(clock_timestamp(), min(a.xact_start)) END
          FROM pg_catalog.pg_stat_activity a
          WHERE a.datname = current_database() AND a.backend_type = 'client backend'",
    args: &[],
};

/// Takes rows of a bounded number of wallets into the rollups, and a bounded number of rows. How many it took;
/// none where another session is at it.
pub fn roll_up(store: &Store, wallets: i64, rows: i64) -> Result<i64> {
    if cluster::is_distributed() {
        return Ok(0);
    }
    if !TURN.run(store, &[])?.read_one::<bool>()? {
        return Ok(0);
    }
    // A clock that stands in for the time may jump.
    let tells_time = assets::stands_in(store)?.is_none() && cache_epoch::sees_commits();
    let (mut since, mut horizon) = (None, None);
    if tells_time {
        // Before the rows are looked at.
        horizon = HORIZON.run(store, &[])?.read_one()?;
        since = COMPLETE.run(store, &[])?.read_first()?;
    }
    let (many, wide) = (value::bigint(wallets), value::bigint(rows));
    let rolled_up = match since.map(ledger::time_of) {
        Some(since) => ROLL_UP_SINCE.run_once(store, &[many, wide, value::moment(since)])?,
        None => ROLL_UP_ALL.run_once(store, &[many, wide])?,
    };
    let Some((taken, all)) = rolled_up.read_first()? else {
        return Ok(0);
    };
    if let (true, Some(horizon)) = (all, horizon) {
        SET_COMPLETE.run(store, &[value::uuid(ledger::first_id(horizon))])?;
    }
    Ok(taken)
}

/// Takes a customer out of the rollups whose scopes are about to be erased; reports read the ledger's rows
/// until the next `maintain`. Nobody else changes the rollups until the transaction ends.
pub fn take_out(store: &Store, customer: &str) -> Result<()> {
    if cluster::is_distributed() {
        return Ok(());
    }
    WAIT.run(store, &[])?;
    let args = [value::text(customer)];
    if !cache_epoch::sees_commits() {
        let ours: i64 = PROGRESS.run(store, &args)?.read_one()?;
        let latest: i64 = PROGRESS.run_latest(&args)?.read_one()?;
        if ours != latest {
            return Err(errors::reports_changed(customer));
        }
    }
    TAKE_OUT.run(store, &args)?;
    Ok(())
}
