-- The views and functions that Citus takes in another form only. Each says what the one of that name says on one server.

CREATE OR REPLACE VIEW credyt.current_wallets AS
SELECT w.customer, w.asset, w.status, w.overdraft_limit, greatest(n.now, credyt.changed_at(w.state)) AS at, w.state
FROM credyt.wallets w
CROSS JOIN (SELECT credyt.statement_time() AS now OFFSET 0) n
WHERE w.next_due_at IS NULL OR w.next_due_at > n.now
UNION ALL
SELECT w.customer, w.asset, w.status, w.overdraft_limit, greatest(n.now, credyt.changed_at(w.state)) AS at, s.state
FROM credyt.wallets w
CROSS JOIN (SELECT credyt.statement_time() AS now OFFSET 0) n
CROSS JOIN LATERAL credyt.wallet_state_at(w.customer, w.asset, w.state, greatest(n.now, credyt.changed_at(w.state))) AS s (state)
WHERE w.next_due_at <= n.now;

-- What is due is worked through once for each grant of a wallet here: Citus takes no join within the wallet.
CREATE OR REPLACE VIEW credyt.grant_balances AS
SELECT g.customer, g.id, g.asset, g.kind, g.priority, g.credits,
       coalesce(o.remaining, 0) AS remaining,
       coalesce(o.held, 0) AS held,
       g.paid,
       coalesce(o.deferred, 0.00) AS deferred,
       g.effective_at, g.expires_at, g.applies_to, g.origin,
       false AS replayed
FROM (
    SELECT i.customer, i.id, i.asset, i.kind, i.priority, i.credits, i.paid, i.effective_at,
           coalesce(e.ended_at, i.expires_at) AS expires_at, i.applies_to, i.origin
    FROM credyt.grants i
    LEFT JOIN credyt.ended_grants e ON e.customer = i.customer AND e.grant_id = i.id
    UNION ALL
    SELECT w.customer, d.id, w.asset, d.kind, d.priority, d.credits, d.paid, d.effective_at, d.expires_at,
           d.applies_to, d.origin
    FROM credyt.wallets w
    CROSS JOIN LATERAL credyt.pending_grants(w.customer, w.asset, w.state, (SELECT credyt.statement_time())) AS d
    WHERE w.next_due_at <= (SELECT credyt.statement_time())
) g
LEFT JOIN (
    SELECT w.customer, open.id, open.remaining, open.held, open.deferred
    FROM credyt.current_wallets w CROSS JOIN LATERAL credyt.grants(w.state) AS open
) o ON o.customer = g.customer AND o.id = g.id;

CREATE OR REPLACE VIEW credyt.margin_lines AS
SELECT l.customer, l.asset, l.id, l.seq, l.accounted_at, l.action,
       CASE WHEN l.kind = 'refund'
            THEN (SELECT d.scopes FROM credyt.ledger d WHERE d.customer = l.customer AND d.id = l.refers_to)
            ELSE l.scopes END AS scopes,
       CASE WHEN l.kind = 'debit' THEN 1 ELSE 0 END AS debits,
       l.kind = 'debit' AND l.cost IS NOT NULL AS costed,
       CASE WHEN l.kind = 'debit' THEN coalesce(l.quantity, 0) ELSE 0 END AS quantity,
       l.costs->0->>'vendor' AS vendor, l.costs->0->>'model' AS model, l.allocations->0->>'kind' AS kind,
       255 AS report_mask,
       CASE WHEN l.kind IN ('debit', 'refund') THEN -l.credits ELSE 0 END AS credits,
       l.revenue,
       CASE WHEN l.costs IS NULL THEN l.cost ELSE (l.costs->0->>'cost')::numeric END AS cost
FROM credyt.ledger l
WHERE (l.kind IN ('debit', 'refund') OR l.kind <> 'settlement' AND l.revenue <> 0)
  AND jsonb_array_length(l.allocations) <= 1 AND (l.costs IS NULL OR jsonb_array_length(l.costs) <= 1)
UNION ALL
SELECT l.customer, l.asset, l.id, l.seq, l.accounted_at, l.action,
       CASE WHEN l.kind IN ('refund', 'settlement')
            THEN (SELECT d.scopes FROM credyt.ledger d WHERE d.customer = l.customer AND d.id = l.refers_to)
            ELSE l.scopes END,
       CASE WHEN l.kind = 'debit' THEN 1 ELSE 0 END,
       l.kind = 'debit' AND l.cost IS NOT NULL,
       CASE WHEN l.kind = 'debit' THEN coalesce(l.quantity, 0) ELSE 0 END,
       s.vendor, s.model, s.kind, s.report_mask, s.credits, s.revenue, s.cost
FROM credyt.ledger l
CROSS JOIN LATERAL credyt.split_lines(l.kind, l.allocations, l.costs, l.cost) AS s
WHERE (l.kind IN ('debit', 'refund', 'settlement') OR l.revenue <> 0)
  AND (l.kind = 'settlement' OR jsonb_array_length(l.allocations) > 1
       OR (l.costs IS NOT NULL AND jsonb_array_length(l.costs) > 1))
UNION ALL
SELECT p.customer, p.asset, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid, p.seq, p.accounted_at, p.action,
       p.scopes, p.debits, p.costed <> 0, p.quantity,
       s.vendor, s.model, s.kind, s.report_mask, s.credits, s.revenue, s.cost
FROM credyt.cost_postings p
CROSS JOIN LATERAL credyt.posting_lines(p.lines, p.debits) AS s
UNION ALL
SELECT e.customer, e.asset, NULL::uuid, NULL::bigint, e.accounted_at, e.action, d.scopes,
       0, false, 0::numeric, s.vendor, s.model, s.kind, s.report_mask, s.credits, s.revenue, s.cost
FROM credyt.pending_entries e
CROSS JOIN LATERAL credyt.split_lines(e.kind, e.allocations, e.costs, NULL) AS s
LEFT JOIN credyt.ledger d ON d.customer = e.customer AND d.id = e.refers_to
WHERE e.kind = 'settlement' OR e.revenue <> 0;

-- Nothing is rolled up.
CREATE OR REPLACE VIEW credyt.margin_unrolled AS
SELECT m.customer, m.asset, m.id, m.seq, m.accounted_at, m.action, m.scopes, m.debits, m.costed, m.quantity,
       m.vendor, m.model, m.kind, m.report_mask, m.credits, m.revenue, m.cost
FROM credyt.margin_lines m;

CREATE OR REPLACE VIEW credyt.runway AS
SELECT w.customer, w.asset, w.available,
       trim_scale(round(b.credits * 86400 / nullif(b.seconds, 0), 10)) AS burn_per_day,
       CASE WHEN b.credits > 0 AND b.seconds > 0
            THEN trim_scale(round(greatest(w.available, 0) * b.seconds / (b.credits * 86400), 2)) END AS days_left
FROM credyt.wallet_balances w
JOIN (
    SELECT r.customer, r.asset, r.credits,
           extract(epoch FROM r.at - CASE WHEN r.first <= r.since OR r.earlier THEN r.since ELSE coalesce(r.first, r.since) END) AS seconds
    FROM (
        SELECT w.customer, w.asset, n.at, n.since,
               (SELECT coalesce(-sum(l.credits) FILTER (WHERE l.occurred_at >= n.since), 0) FROM credyt.ledger l
                WHERE l.customer = w.customer AND l.asset = w.asset AND l.kind IN ('debit', 'refund') AND l.id >= n.id) AS credits,
               (SELECT min(l.occurred_at) FROM credyt.ledger l
                WHERE l.customer = w.customer AND l.asset = w.asset AND l.kind = 'debit' AND l.id >= n.id) AS first,
               EXISTS (SELECT FROM credyt.ledger l
                       WHERE l.customer = w.customer AND l.asset = w.asset AND l.kind = 'debit' AND l.id < n.id) AS earlier
        FROM credyt.wallets w
        CROSS JOIN (
            SELECT n.at, n.at - interval '7 days' AS since,
                   -- Ids begin with the time of the row: a debit was booked no earlier than it happened.
                   rpad(lpad(to_hex((extract(epoch FROM n.at - interval '7 days') * 1000)::bigint), 12, '0'), 32, '0')::uuid AS id
            FROM (SELECT credyt.statement_time() AS at OFFSET 0) n
        ) n
    ) r
) b ON b.customer = w.customer AND b.asset = w.asset;

CREATE OR REPLACE VIEW credyt.subscriptions AS
SELECT s.customer, s.plan, coalesce(s.version, n.version) AS version, s.quantity::numeric AS quantity,
       CASE WHEN s.ends_at <= s.at THEN 'ended'
            WHEN s.period_end <= s.at AND (s.ends_at IS NULL OR s.period_end < s.ends_at) THEN 'unpaid'
            WHEN s.period_start IS NULL THEN 'scheduled'
            ELSE 'active' END AS status,
       s.starts_at, s.period_start,
       CASE WHEN s.period_start IS NOT NULL THEN s.period_end END AS period_end,
       s.paid_through, nullif(s.next_plan, s.plan) AS next_plan, s.grant_id
FROM (
    SELECT d.customer, d.at, d.starts_at, d.ends_at, d.paid_through,
           CASE WHEN d.due THEN p.plan ELSE d.plan END AS plan,
           CASE WHEN d.due THEN p.version ELSE d.version END AS version,
           CASE WHEN d.due THEN p.quantity ELSE d.quantity END AS quantity,
           CASE WHEN d.due THEN p.period_start ELSE d.period_start END AS period_start,
           CASE WHEN d.due THEN p.period_end ELSE d.next_renewal_at END AS period_end,
           CASE WHEN d.due THEN p.grant_id ELSE d.grant_id END AS grant_id,
           CASE WHEN d.due THEN p.next_plan ELSE d.next_plan END AS next_plan
    FROM (
        SELECT s.*, greatest(n.now, credyt.changed_at(w.state)) AS at,
               s.next_renewal_at <= greatest(n.now, credyt.changed_at(w.state))
                   AND (s.paid_through IS NULL OR s.next_renewal_at < s.paid_through)
                   AND (s.ends_at IS NULL OR s.next_renewal_at < s.ends_at) AS due
        FROM credyt.booked_subscriptions s
        JOIN credyt.wallets w ON w.customer = s.customer AND w.asset = s.asset
        CROSS JOIN (SELECT credyt.statement_time() AS now OFFSET 0) n
    ) d
    -- Strict: of what is not due nothing is asked.
    CROSS JOIN LATERAL credyt.subscription_at(d.customer, d.id, CASE WHEN d.due THEN d.at END) AS p
) s
LEFT JOIN (SELECT v.plan, max(v.version) AS version FROM credyt.plans v GROUP BY v.plan) n ON n.plan = s.plan;

CREATE OR REPLACE VIEW credyt.renewals AS
SELECT r.customer, r.plan, r.next_renewal_at, least(c.credits * r.quantity, greatest(c.credits, 999999999999999)) AS credits
FROM (
    SELECT d.customer, d.ends_at,
           CASE WHEN d.due THEN coalesce(p.next_plan, p.plan) ELSE coalesce(d.next_plan, d.plan) END AS plan,
           CASE WHEN d.due THEN coalesce(p.next_quantity, p.quantity) ELSE coalesce(d.next_quantity, d.quantity) END AS quantity,
           CASE WHEN d.due THEN p.period_end ELSE d.next_renewal_at END AS next_renewal_at
    FROM (
        SELECT s.*, greatest(n.now, credyt.changed_at(w.state)) AS at,
               s.next_renewal_at <= greatest(n.now, credyt.changed_at(w.state)) AS due
        FROM credyt.booked_subscriptions s
        JOIN credyt.wallets w ON w.customer = s.customer AND w.asset = s.asset
        CROSS JOIN (SELECT credyt.statement_time() AS now OFFSET 0) n
        WHERE s.next_renewal_at < s.ends_at OR s.ends_at IS NULL
    ) d
    CROSS JOIN LATERAL credyt.subscription_at(d.customer, d.id, CASE WHEN d.due THEN d.at END) AS p
) r
LEFT JOIN (SELECT DISTINCT ON (p.plan) p.plan, p.credits FROM credyt.plans p ORDER BY p.plan, p.version DESC) c ON c.plan = r.plan
WHERE r.next_renewal_at IS NOT NULL AND (r.next_renewal_at < r.ends_at OR r.ends_at IS NULL);

CREATE OR REPLACE VIEW credyt.limits_used AS
WITH limited AS NOT MATERIALIZED (
    SELECT w.customer, w.asset, w.at, w.state, a.timezone, l.scope AS limited, l.every, l.counts, l.cap,
           CASE WHEN l.every ~ '^[0-9]' THEN NULL WHEN l.every = 'ever' THEN l.start ELSE p.period_start END AS now_start,
           CASE WHEN l.every !~ '^[0-9]' THEN p.period_end END AS now_end
    FROM credyt.current_wallets w
    JOIN credyt.assets a ON a.asset = w.asset
    CROSS JOIN LATERAL credyt.limits(w.state) AS l
    CROSS JOIN LATERAL credyt.limit_period(l.every, a.timezone, w.at) AS p
)
-- A limit of a user or key of its own counts in place of that of user:* or key:*.
SELECT u.customer, u.asset, u.scope,
       CASE WHEN bool_or(u.limited = u.scope)
            THEN coalesce(max(u.period_start) FILTER (WHERE u.limited = u.scope), max(u.now_start) FILTER (WHERE u.limited = u.scope))
            ELSE coalesce(max(u.period_start), max(u.now_start)) END AS period_start,
       CASE WHEN bool_or(u.limited = u.scope)
            THEN coalesce(max(u.period_end) FILTER (WHERE u.limited = u.scope), max(u.now_end) FILTER (WHERE u.limited = u.scope))
            ELSE coalesce(max(u.period_end), max(u.now_end)) END AS period_end,
       coalesce(max(u.cap) FILTER (WHERE u.limited = u.scope), max(u.cap)) AS cap,
       coalesce(sum(u.used) FILTER (WHERE u.limited = u.scope), sum(u.used)) AS used,
       coalesce(sum(u.held) FILTER (WHERE u.limited = u.scope), sum(u.held)) AS held, u.every, u.counts
FROM (
    SELECT l.customer, l.asset, l.limited, l.limited AS scope, l.every, l.counts, l.cap, l.now_start, l.now_end,
           NULL::timestamptz AS period_start, NULL::timestamptz AS period_end, 0::numeric AS used, 0::numeric AS held
    FROM limited l
    WHERE l.limited NOT IN ('user:*', 'key:*')
    UNION ALL
    SELECT l.customer, l.asset, l.limited, c.scope, l.every, l.counts, l.cap, l.now_start, l.now_end,
           c.period_start, e.period_end, c.used, 0
    FROM limited l
    CROSS JOIN LATERAL credyt.limit_counts(l.state) AS c
    CROSS JOIN LATERAL credyt.limit_period(l.every, l.timezone, c.period_start) AS e
    WHERE c.every = l.every AND c.counts = l.counts AND c.period_start <= l.at AND coalesce(e.period_end, 'infinity') > l.at
      AND (c.scope = l.limited OR l.limited IN ('user:*', 'key:*') AND starts_with(c.scope, rtrim(l.limited, '*')))
    UNION ALL
    SELECT l.customer, l.asset, l.limited, u.scope, l.every, l.counts, l.cap, l.now_start, l.now_end,
           u.period_start, e.period_end, u.used, 0
    FROM limited l
    JOIN credyt.limit_uses u ON u.customer = l.customer AND u.asset = l.asset AND u.every = l.every AND u.counts = l.counts
    CROSS JOIN LATERAL credyt.limit_period(l.every, l.timezone, u.period_start) AS e
    WHERE l.limited IN ('user:*', 'key:*') AND starts_with(u.scope, rtrim(l.limited, '*')) AND NOT u.unopened
      AND u.period_start <= l.at AND coalesce(e.period_end, 'infinity') > l.at
    UNION ALL
    SELECT h.customer, h.asset, h.limited, h.scope, h.every, h.counts, h.cap, h.now_start, h.now_end, NULL, NULL, 0, h.credits
    FROM (
        SELECT DISTINCT l.customer, l.asset, l.limited, s.scope, l.every, l.counts, l.cap, l.now_start, l.now_end,
               h.id, a.nth, (a.pin->>'credits')::numeric AS credits
        FROM limited l
        JOIN credyt.authorizations h ON h.customer = l.customer AND h.asset = l.asset
        CROSS JOIN LATERAL unnest(CASE WHEN l.limited IN ('user:*', 'key:*') THEN h.scopes ELSE ARRAY[l.limited] END) AS s (scope)
        CROSS JOIN LATERAL jsonb_array_elements(h.pins) WITH ORDINALITY AS a (pin, nth)
        WHERE h.status = 'open' AND h.expires_at > l.at AND l.counts = 'credits'
          AND CASE WHEN l.limited IN ('user:*', 'key:*') THEN starts_with(s.scope, rtrim(l.limited, '*'))
                   ELSE l.limited = ANY (h.scopes) OR credyt.matches_action(l.limited, h.action) END
    ) h
) u
GROUP BY u.customer, u.asset, u.scope, u.every, u.counts
HAVING bool_or(u.limited = u.scope) OR sum(u.used) <> 0 OR sum(u.held) <> 0;

CREATE OR REPLACE FUNCTION credyt.uncosted_since(since timestamptz)
RETURNS TABLE (vendor text, model text, reason text, occurred_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT u.vendor, u.model, u.reason, u.occurred_at FROM credyt.uncosted_usage u WHERE u.occurred_at >= $1 $$;

CREATE OR REPLACE FUNCTION credyt.rollup_backlog() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT 0::bigint $$;
