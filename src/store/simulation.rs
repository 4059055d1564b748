//! What the debits of an action would have cost under another price.

use serde_json::Value as Json;

use super::statement::{Query, Store};
use super::table::query;
use crate::errors::Result;
use crate::ledger::Moment;
use crate::ledger::price::Price;
use crate::sql_types::Args;

/// The debits of an action, what they cost the vendor, and whether a new price for all leaves theirs as it is. A cost
/// that was recorded after its debit counts as in margin, and is `late`.
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
                  WHERE l.kind = 'debit' AND l.action = :action AND (:since IS NULL OR l.accounted_at >= :since)
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
                    WHERE l.action = :action AND l.kind = 'debit' AND (:since IS NULL OR l.accounted_at >= :since)
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
              LEFT JOIN credyt.prices p ON p.asset = l.asset AND p.action = :action AND p.version = l.price_version
              UNION ALL
              SELECT c.asset, c.customer, NULL, 0, 0, c.before, c.revenue, c.late, NULL, c.quantity, c.dimensions, NULL,
                     c.occurred_at, c.stays
              FROM costed c WHERE c.authorization_id IS NULL AND c.late IS NOT NULL
          )"
        )
    };
}

/// Revenue is rounded at ten decimals, as it is everywhere.
macro_rules! simulate {
    ($(#[$doc:meta])* $Query:ident: $debits:expr, $used:literal, $join:literal $(,)?) => {
        query! {
            $(#[$doc])*
            $Query(action: text, price: jsonb, since: timestamptz):
            $debits,
            "
          SELECT s.asset, :action, s.debits, s.unpriced, s.credits_before, s.credits_after, s.revenue_before,
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
                                  ELSE credyt.repriced(:price, a.scale, a.rounding, d.quantity, d.dimensions, d.usage,
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
        }
    };
}

simulate! {
    /// For a rule that asks for costs or usage.
    Simulate: each!(), "NULL", ""
}

simulate! {
    SimulateAlike: alike!(), "NULL", ""
}

simulate! {
    /// For a rule that counts over a month: what was used before a call, in its month.
    SimulateMonths:
        each!(),
        "coalesce(sum(d.quantity) OVER (PARTITION BY d.asset, d.customer, date_trunc('month', d.occurred_at AT TIME ZONE a.timezone)
                                        ORDER BY d.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) + coalesce(e.used, 0)",
        "
         LEFT JOIN (SELECT l.asset, l.customer, date_trunc('month', l.occurred_at AT TIME ZONE a.timezone) AS month, sum(l.quantity) AS used
                    FROM credyt.ledger l JOIN credyt.assets a ON a.asset = l.asset
                    WHERE l.kind = 'debit' AND l.action = :action AND l.accounted_at < :since
                    GROUP BY 1, 2, 3) e
                ON e.asset = d.asset AND e.customer = d.customer AND e.month = date_trunc('month', d.occurred_at AT TIME ZONE a.timezone)"
}

/// Answers `credyt.simulate_price`.
pub fn simulate(
    store: &Store,
    action: &str,
    rule: &Json,
    price: &Price,
    since: Option<Moment>,
    function: &Args,
) -> Result<()> {
    if price.counts_months() {
        let price = rule;
        return SimulateMonths {
            action,
            price,
            since,
        }
        .answer(store, function);
    }
    let asks_more = price.needs_cost() || price.needs_usage();
    let price = rule;
    match asks_more {
        true => Simulate {
            action,
            price,
            since,
        }
        .answer(store, function),
        false => SimulateAlike {
            action,
            price,
            since,
        }
        .answer(store, function),
    }
}
