-- The invariants, checked against what is stored. As plain SQL, so that nothing of the library's own
-- arithmetic vouches for itself: the state is opened, everything else is summed here.

CREATE FUNCTION credyt.verify(customer text DEFAULT NULL)
RETURNS TABLE (invariant int, customer text, asset text, detail text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- Everything is read and joined as a whole; the planner, which knows nothing of the sums, would loop.
SET enable_nestloop = off SET jit = off
AS $$
WITH
-- What is read of each table, of everybody or of one. Two arms each: a plan made for both would read all for one.
wallets AS NOT MATERIALIZED (
    SELECT w.* FROM credyt.wallets w WHERE verify.customer IS NULL
    UNION ALL
    SELECT w.* FROM credyt.wallets w WHERE w.customer = verify.customer
),
ledger AS NOT MATERIALIZED (
    SELECT l.* FROM credyt.ledger l WHERE verify.customer IS NULL
    UNION ALL
    SELECT l.* FROM credyt.ledger l WHERE l.customer = verify.customer
),
vendor_costs AS NOT MATERIALIZED (
    SELECT c.* FROM credyt.vendor_costs c WHERE verify.customer IS NULL
    UNION ALL
    SELECT c.* FROM credyt.vendor_costs c WHERE c.customer = verify.customer
),
issued AS NOT MATERIALIZED (
    SELECT g.* FROM credyt.grants g WHERE verify.customer IS NULL
    UNION ALL
    SELECT g.* FROM credyt.grants g WHERE g.customer = verify.customer
),
authorizations AS NOT MATERIALIZED (
    SELECT h.* FROM credyt.authorizations h WHERE verify.customer IS NULL
    UNION ALL
    SELECT h.* FROM credyt.authorizations h WHERE h.customer = verify.customer
),
subscriptions AS NOT MATERIALIZED (
    SELECT s.* FROM credyt.booked_subscriptions s WHERE verify.customer IS NULL
    UNION ALL
    SELECT s.* FROM credyt.booked_subscriptions s WHERE s.customer = verify.customer
),
ended_grants AS NOT MATERIALIZED (
    SELECT e.* FROM credyt.ended_grants e WHERE verify.customer IS NULL
    UNION ALL
    SELECT e.* FROM credyt.ended_grants e WHERE e.customer = verify.customer
),
plan_changes AS NOT MATERIALIZED (
    SELECT c.* FROM credyt.plan_changes c WHERE verify.customer IS NULL
    UNION ALL
    SELECT c.* FROM credyt.plan_changes c WHERE c.customer = verify.customer
),
-- within the period that was booked last; it may have been on another plan before
on_plan AS (
    SELECT s.customer, s.asset, s.id, s.plan, s.next_renewal_at, greatest(s.period_start, m.moved_at) AS since,
           s.ends_at, s.paid_through
    FROM subscriptions s
    LEFT JOIN (SELECT c.customer, c.subscription_id, max(c.created_at) AS moved_at FROM plan_changes c
               WHERE c.at = 'now' AND c.from_plan <> c.to_plan
               GROUP BY 1, 2) m ON m.customer = s.customer AND m.subscription_id = s.id
    WHERE s.period_start IS NOT NULL
),
debts AS NOT MATERIALIZED (
    SELECT d.* FROM credyt.open_debts d WHERE verify.customer IS NULL
    UNION ALL
    SELECT d.* FROM credyt.open_debts d WHERE d.customer = verify.customer
),
period_grants AS NOT MATERIALIZED (
    SELECT s.* FROM credyt.period_grants s WHERE verify.customer IS NULL
    UNION ALL
    SELECT s.* FROM credyt.period_grants s WHERE s.customer = verify.customer
),
limit_uses AS NOT MATERIALIZED (
    SELECT u.* FROM credyt.limit_uses u WHERE verify.customer IS NULL
    UNION ALL
    SELECT u.* FROM credyt.limit_uses u WHERE u.customer = verify.customer
),
postings AS NOT MATERIALIZED (
    SELECT p.* FROM credyt.cost_postings p WHERE verify.customer IS NULL
    UNION ALL
    SELECT p.* FROM credyt.cost_postings p WHERE p.customer = verify.customer
),
wallet AS MATERIALIZED (
    SELECT w.customer, w.asset, w.status, w.next_due_at, w.state,
           credyt.owed(w.state) AS owed, credyt.held(w.state) AS held,
           (w.state::jsonb->>'seq')::bigint AS seq,
           (w.state::jsonb->>'held_overdraft')::numeric AS held_overdraft,
           (w.state::jsonb->>'next_hold_end')::timestamptz AS next_hold_end,
           (w.state::jsonb->>'next_renewal')::timestamptz AS next_renewal
    FROM wallets w
),
open AS MATERIALIZED (
    SELECT w.customer, w.asset, o.id, o.kind, o.priority, o.effective_at, o.expires_at, o.applies_to,
           o.remaining, o.held, o.deferred
    FROM wallet w CROSS JOIN LATERAL credyt.grants(w.state) AS o
),
entry AS MATERIALIZED (
    SELECT l.customer, l.asset, l.id, l.seq, l.kind, l.credits, l.balance, l.revenue, l.allocations,
           l.authorization_id, l.refers_to, l.accounted_at, l.created_at
    FROM ledger l
),
numbered AS MATERIALIZED (
    SELECT e.customer, e.asset, e.id, e.seq FROM entry e
    UNION ALL
    SELECT c.customer, c.asset, c.id, c.seq
    FROM vendor_costs c
),
part AS MATERIALIZED (
    SELECT e.customer, e.asset, e.id AS entry_id, e.kind AS entry_kind, e.refers_to, e.accounted_at,
           (a.part->>'grant')::uuid AS grant_id, a.part->>'kind' AS kind,
           (a.part->>'credits')::numeric AS credits,
           (a.part->>'revenue')::numeric AS revenue,
           (a.part->>'deferred')::numeric AS deferred,
           (a.part->>'to')::uuid AS to_grant, a.part->>'to_customer' AS to_customer,
           (a.part->>'from')::uuid AS from_grant, a.part->>'from_customer' AS from_customer,
           a.part->'debts' AS debts
    FROM entry e CROSS JOIN LATERAL jsonb_array_elements(e.allocations) AS a (part)
),
-- Credits that moved into a grant from another one, of this wallet or of another customer's.
received AS MATERIALIZED (
    SELECT p.customer, p.asset, p.accounted_at, p.to_grant AS grant_id, p.grant_id AS origin, p.credits, p.deferred
    FROM part p
    WHERE p.to_grant IS NOT NULL AND p.to_customer IS NULL
    UNION ALL
    SELECT p.customer, p.asset, p.accounted_at, p.grant_id, p.from_grant, p.credits, p.deferred
    FROM part p
    WHERE p.from_grant IS NOT NULL
),
-- The other ends of transfers, which are other customers'.
arrived AS MATERIALIZED (
    SELECT g.customer, g.id, g.asset, g.origin, g.credits, g.paid
    FROM issued g WHERE verify.customer IS NULL
    UNION ALL
    SELECT g.customer, g.id, g.asset, g.origin, g.credits, g.paid
    FROM credyt.grants g
    WHERE verify.customer IS NOT NULL AND g.customer = ANY (ARRAY(SELECT DISTINCT p.to_customer FROM part p))
      AND g.id = ANY (ARRAY(SELECT p.to_grant FROM part p WHERE p.to_customer IS NOT NULL))
),
sent AS MATERIALIZED (
    SELECT e.customer, e.id, e.asset, e.credits
    FROM entry e WHERE verify.customer IS NULL AND e.kind = 'transfer'
    UNION ALL
    SELECT l.customer, l.id, l.asset, l.credits
    FROM credyt.ledger l
    WHERE verify.customer IS NOT NULL AND l.customer = ANY (ARRAY(SELECT DISTINCT p.from_customer FROM part p))
      AND l.id = ANY (ARRAY(SELECT e.refers_to FROM entry e WHERE e.kind = 'transfer')) AND l.kind = 'transfer'
),
moved AS MATERIALIZED (
    SELECT p.customer, p.grant_id,
           coalesce(sum(p.credits) FILTER (WHERE p.entry_kind IN ('debit', 'settlement')), 0) AS spent,
           coalesce(sum(p.credits) FILTER (WHERE p.entry_kind = 'refund'), 0) AS refunded,
           coalesce(sum(p.credits) FILTER (WHERE p.entry_kind = 'expiry'), 0) AS expired,
           coalesce(sum(p.credits) FILTER (WHERE p.entry_kind = 'revocation' AND p.deferred IS NOT NULL), 0) AS revoked,
           coalesce(sum(p.credits) FILTER (WHERE p.entry_kind = 'transfer'), 0) AS transferred,
           coalesce(sum(CASE WHEN p.entry_kind IN ('debit', 'settlement') THEN p.revenue ELSE -p.revenue END), 0) AS earned,
           coalesce(sum(p.deferred) FILTER (WHERE p.entry_kind = 'expiry'), 0) AS breakage,
           coalesce(sum(coalesce(p.deferred, p.revenue)) FILTER (WHERE p.entry_kind = 'revocation'), 0) AS revoked_money,
           coalesce(sum(p.deferred) FILTER (WHERE p.entry_kind = 'transfer'), 0) AS transferred_money
    FROM part p
    WHERE p.grant_id IS NOT NULL AND p.entry_kind <> 'grant' AND p.from_grant IS NULL
    GROUP BY p.customer, p.grant_id
),
grants AS MATERIALIZED (
    SELECT g.customer, g.asset, g.id, g.kind, g.priority, g.effective_at, g.expires_at, g.applies_to,
           g.credits, g.paid,
           coalesce(o.remaining, 0) AS remaining, coalesce(o.deferred, 0) AS deferred,
           m.spent, m.refunded, m.expired, m.revoked, m.transferred,
           m.earned, m.breakage, m.revoked_money, m.transferred_money
    FROM issued g
    LEFT JOIN open o ON o.customer = g.customer AND o.id = g.id
    LEFT JOIN moved m ON m.customer = g.customer AND m.grant_id = g.id
),
pinned AS MATERIALIZED (
    SELECT h.customer, h.asset, (a.pin->>'grant')::uuid AS grant_id, sum((a.pin->>'credits')::numeric) AS credits
    FROM authorizations h CROSS JOIN LATERAL jsonb_array_elements(h.pins) AS a (pin)
    WHERE h.status = 'open'
    GROUP BY h.customer, h.asset, (a.pin->>'grant')::uuid
),
-- The ends of the closed periods of an asset, in order; a moment is before the one after those it has reached.
closed AS MATERIALIZED (
    SELECT p.asset, array_agg(p.through ORDER BY p.through) AS ends, max(p.through) AS through
    FROM credyt.periods p
    GROUP BY p.asset
),
-- What a closed period began with and what moved in it, less what it ended with.
period AS MATERIALIZED (
    SELECT m.customer, m.asset, m.grant_id, c.ends[1 + width_bucket(m.accounted_at, c.ends)] AS through, m.credits, m.deferred
    FROM (
        SELECT p.customer, p.asset, p.grant_id, p.accounted_at,
               CASE WHEN p.entry_kind IN ('grant', 'refund') THEN p.credits ELSE -p.credits END AS credits,
               CASE WHEN p.entry_kind = 'grant' THEN p.deferred WHEN p.entry_kind = 'refund' THEN p.revenue
                    WHEN p.entry_kind IN ('debit', 'settlement') THEN -p.revenue ELSE -p.deferred END AS deferred
        FROM part p
        WHERE p.grant_id IS NOT NULL AND p.from_grant IS NULL AND NOT (p.entry_kind = 'revocation' AND p.deferred IS NULL)
        UNION ALL
        SELECT r.customer, r.asset, r.grant_id, r.accounted_at, r.credits, r.deferred
        FROM received r
    ) m
    JOIN closed c ON c.asset = m.asset AND m.accounted_at < c.through
    UNION ALL
    SELECT s.customer, s.asset, s.grant_id, e.through, e.sign * s.remaining, e.sign * s.deferred
    FROM period_grants s
    JOIN closed c ON c.asset = s.asset
    CROSS JOIN LATERAL (VALUES (s.through, -1), (c.ends[1 + width_bucket(s.through, c.ends)], 1)) AS e (through, sign)
    WHERE e.through IS NOT NULL
),
month AS MATERIALIZED (
    SELECT w.customer, w.asset, m.month->>'action' AS action, (m.month->>'since')::timestamptz AS since, (m.month->>'used')::numeric AS used
    FROM wallet w CROSS JOIN LATERAL jsonb_array_elements(w.state::jsonb->'month_uses') AS m (month)
),
-- What counts under spend limits, in the period that was counted last
counted AS MATERIALIZED (
    SELECT u.customer, u.asset, u.scope, u.every, u.counts, u.period_start, coalesce(u.period_end, 'infinity') AS period_end, u.after, u.used
    FROM limit_uses u
    WHERE NOT u.unopened
    UNION ALL
    SELECT w.customer, w.asset, c.scope, c.every, c.counts, c.period_start, 'infinity', c.after, c.used
    FROM wallet w CROSS JOIN LATERAL credyt.limit_counts(w.state) AS c
),
-- What has to count: credits less what was refunded of them, and calls, that is debits and authorizations.
used AS MATERIALIZED (
    SELECT l.customer, l.asset, 'credits' AS counts, l.created_at, l.seq, -l.credits - coalesce(r.credits, 0) AS amount, l.action, l.scopes
    FROM ledger l
    LEFT JOIN (SELECT e.customer, e.refers_to, sum(e.credits) AS credits
               FROM entry e WHERE e.kind = 'refund' GROUP BY 1, 2) r ON r.customer = l.customer AND r.refers_to = l.id
    WHERE l.kind = 'debit'
    UNION ALL
    SELECT l.customer, l.asset, 'calls', l.created_at, l.seq, 1, l.action, l.scopes
    FROM ledger l
    WHERE l.kind = 'debit' AND l.authorization_id IS NULL
    UNION ALL
    SELECT h.customer, h.asset, 'calls', h.created_at, NULL, 1, h.action, h.scopes
    FROM authorizations h
)

-- 1: the ledger's sum is what remains less what is owed
SELECT 1, w.customer, w.asset,
       format('the ledger adds up to %s, the wallet to %s', coalesce(e.credits, 0), coalesce(o.remaining, 0) - w.owed)
FROM wallet w
LEFT JOIN (SELECT o.customer, o.asset, sum(o.remaining) AS remaining FROM open o GROUP BY 1, 2) o
       ON o.customer = w.customer AND o.asset = w.asset
LEFT JOIN (SELECT e.customer, e.asset, sum(e.credits) AS credits FROM entry e GROUP BY 1, 2) e
       ON e.customer = w.customer AND e.asset = w.asset
WHERE coalesce(e.credits, 0) <> coalesce(o.remaining, 0) - w.owed
UNION ALL
SELECT 1, e.customer, e.asset, 'there are ledger rows and no wallet'
FROM entry e
WHERE NOT EXISTS (SELECT FROM wallet w WHERE w.customer = e.customer AND w.asset = e.asset)
GROUP BY e.customer, e.asset
UNION ALL
SELECT 1, w.customer, w.asset, format('debts add up to %s, the wallet owes %s', coalesce(sum(d.owed), 0), w.owed)
FROM wallet w LEFT JOIN debts d ON d.customer = w.customer AND d.asset = w.asset
GROUP BY w.customer, w.asset, w.owed
HAVING coalesce(sum(d.owed), 0) <> w.owed

-- 2: where the credits of a grant are
UNION ALL
SELECT 1, e.customer, e.asset, format('row %s leads from a balance of %s to %s by %s credits', e.seq, e.before, e.balance, e.credits)
FROM (SELECT e.customer, e.asset, e.seq, e.balance, e.credits,
             lag(e.balance, 1, 0::numeric) OVER (PARTITION BY e.customer, e.asset ORDER BY e.seq) AS before
      FROM entry e) e
WHERE e.before + e.credits <> e.balance
UNION ALL
SELECT 2, g.customer, g.asset,
       format('grant %s: %s issued, but %s spent - %s refunded + %s expired + %s revoked + %s transferred + %s remaining',
              g.id, g.credits, coalesce(g.spent, 0), coalesce(g.refunded, 0), coalesce(g.expired, 0),
              coalesce(g.revoked, 0), coalesce(g.transferred, 0), g.remaining)
FROM grants g
WHERE g.credits <> coalesce(g.spent - g.refunded + g.expired + g.revoked + g.transferred, 0) + g.remaining
UNION ALL
SELECT 2, o.customer, o.asset, format('grant %s is open in the wallet, on other terms than it was issued or not at all', o.id)
FROM open o
LEFT JOIN issued g ON g.customer = o.customer AND g.id = o.id
LEFT JOIN ended_grants e ON e.customer = o.customer AND e.grant_id = o.id
WHERE (g.asset, g.kind, g.priority, g.effective_at) IS DISTINCT FROM (o.asset, o.kind, o.priority, o.effective_at)
   OR coalesce(e.ended_at, g.expires_at) IS DISTINCT FROM o.expires_at OR g.applies_to IS DISTINCT FROM o.applies_to
UNION ALL
SELECT 2, p.customer, p.asset, format('ledger row %s moved credits of grant %s, which is not there', p.entry_id, p.grant_id)
FROM part p
WHERE p.grant_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM issued g WHERE g.customer = p.customer AND g.id = p.grant_id)
-- what went to another customer is what the grant it became was issued with
UNION ALL
SELECT 2, p.customer, p.asset,
       format('%s credits and %s of grant %s moved to grant %s of %s, which has %s and %s',
              p.credits, p.deferred, p.grant_id, p.to_grant, p.to_customer, g.credits, g.paid)
FROM part p
LEFT JOIN arrived g ON g.customer = p.to_customer AND g.id = p.to_grant AND g.asset = p.asset AND g.origin = p.grant_id
WHERE p.to_customer IS NOT NULL AND (p.credits, p.deferred) IS DISTINCT FROM (g.credits, g.paid)
-- and a grant that came from others was issued with what they gave
UNION ALL
SELECT 2, g.customer, g.asset, format('grant %s is of %s credits for %s and came from grant %s, but %s for %s moved into it',
                                      g.id, g.credits, g.paid, g.origin, coalesce(r.credits, 0), coalesce(r.deferred, 0))
FROM issued g
LEFT JOIN (SELECT r.customer, r.grant_id, array_agg(r.origin) AS origins, sum(r.credits) AS credits, sum(r.deferred) AS deferred
           FROM received r GROUP BY 1, 2) r ON r.customer = g.customer AND r.grant_id = g.id
WHERE (g.origin IS NOT NULL OR r.grant_id IS NOT NULL)
  AND ((r.credits, r.deferred) IS DISTINCT FROM (g.credits, g.paid) OR g.origin = ANY (r.origins) IS NOT TRUE)
UNION ALL
SELECT 2, e.customer, e.asset, format('ledger row %s received %s credits that %s did not send', e.id, e.credits, p.from_customer)
FROM entry e
JOIN (SELECT DISTINCT p.entry_id, p.customer, p.from_customer FROM part p WHERE p.from_grant IS NOT NULL) p
  ON p.customer = e.customer AND p.entry_id = e.id
LEFT JOIN sent s ON s.customer = p.from_customer AND s.id = e.refers_to AND s.asset = e.asset
WHERE e.credits IS DISTINCT FROM -s.credits

-- 3: held is what open authorizations pin, grant by grant
UNION ALL
SELECT 3, coalesce(o.customer, p.customer), coalesce(o.asset, p.asset),
       format('grant %s holds %s, open authorizations pin %s', coalesce(o.id, p.grant_id), coalesce(o.held, 0), coalesce(p.credits, 0))
FROM open o
FULL JOIN (SELECT * FROM pinned WHERE grant_id IS NOT NULL) p ON p.customer = o.customer AND p.grant_id = o.id
WHERE coalesce(o.held, 0) <> coalesce(p.credits, 0)
UNION ALL
SELECT 3, w.customer, w.asset, format('the wallet holds %s of its overdraft, open authorizations pin %s', w.held_overdraft, coalesce(p.credits, 0))
FROM wallet w
LEFT JOIN pinned p ON p.customer = w.customer AND p.asset = w.asset AND p.grant_id IS NULL
WHERE w.held_overdraft <> coalesce(p.credits, 0)
UNION ALL
SELECT 3, w.customer, w.asset, 'something is negative'
FROM wallet w
WHERE w.owed < 0 OR w.held < 0 OR w.held_overdraft < 0
UNION ALL
SELECT 3, w.customer, w.asset, format('the wallet is %s, which its state does not know', w.status)
FROM wallet w
WHERE (w.status = 'closed') <> coalesce((w.state::jsonb->>'closed')::boolean, false)
UNION ALL
SELECT 3, o.customer, o.asset, format('grant %s: something is negative, or more is held than remains', o.id)
FROM open o
WHERE o.held < 0 OR o.held > o.remaining OR o.deferred < 0
UNION ALL
SELECT 3, w.customer, w.asset, format('next_due_at is %s, the state says %s', w.next_due_at, credyt.next_due(w.state))
FROM wallet w
WHERE coalesce(w.next_due_at, 'infinity') > coalesce(credyt.next_due(w.state), 'infinity')
UNION ALL
SELECT 3, w.customer, w.asset, format('an open authorization ends at %s, the wallet waits for %s', h.first_end, w.next_hold_end)
FROM wallet w
JOIN (SELECT h.customer, h.asset, min(h.expires_at) AS first_end FROM authorizations h
      WHERE h.status = 'open'
      GROUP BY h.customer, h.asset) h ON h.customer = w.customer AND h.asset = w.asset
WHERE h.first_end < coalesce(w.next_hold_end, 'infinity')
UNION ALL
SELECT 3, w.customer, w.asset, format('a subscription renews at %s, the wallet waits for %s', s.first, w.next_renewal)
FROM wallet w
LEFT JOIN (SELECT s.customer, s.asset,
                  min(CASE WHEN s.next_renewal_at < s.paid_through OR s.paid_through IS NULL THEN s.next_renewal_at
                           ELSE least(coalesce(s.waits_until, s.next_renewal_at), s.ends_at) END) AS first
           FROM subscriptions s
           WHERE (s.next_renewal_at < s.paid_through OR s.paid_through IS NULL OR s.grants <> '{}')
             AND (s.next_renewal_at < s.ends_at OR s.ends_at IS NULL)
           GROUP BY s.customer, s.asset) s ON s.customer = w.customer AND s.asset = w.asset
WHERE s.first IS DISTINCT FROM w.next_renewal

-- 4: where the money of a grant is
UNION ALL
SELECT 4, g.customer, g.asset,
       format('grant %s: %s paid, but %s earned + %s breakage + %s revoked + %s transferred + %s deferred',
              g.id, g.paid, coalesce(g.earned, 0), coalesce(g.breakage, 0), coalesce(g.revoked_money, 0),
              coalesce(g.transferred_money, 0), g.deferred)
FROM grants g
WHERE g.paid <> coalesce(g.earned + g.breakage + g.revoked_money + g.transferred_money, 0) + g.deferred
UNION ALL
SELECT 4, g.customer, g.asset, format('grant %s is empty and defers %s', g.id, g.deferred)
FROM grants g
WHERE g.remaining = 0 AND g.deferred <> 0
UNION ALL
SELECT 4, p.customer, p.asset,
       format('grant %s: the period closed through %s has %s credits and %s of money too many', p.grant_id, p.through,
              -sum(p.credits), -sum(p.deferred))
FROM period p
GROUP BY p.customer, p.asset, p.grant_id, p.through
HAVING sum(p.credits) <> 0 OR sum(p.deferred) <> 0
UNION ALL
SELECT 4, NULL, p.asset, format('the period closed through %s says %s credits and %s of money, its grants %s and %s',
                                p.through, p.credits, p.deferred, coalesce(s.credits, 0), coalesce(s.deferred, 0))
FROM credyt.periods p
LEFT JOIN (SELECT s.asset, s.through, sum(s.remaining) AS credits, sum(s.deferred) AS deferred
           FROM credyt.period_grants s WHERE verify.customer IS NULL GROUP BY s.asset, s.through) s
       ON s.asset = p.asset AND s.through = p.through
WHERE verify.customer IS NULL
  AND (p.credits <> coalesce(s.credits, 0) OR p.deferred <> coalesce(s.deferred, 0))

-- 5: keys, captures, refunds
UNION ALL
SELECT 5, l.customer, min(l.asset), format('%s movements have the key %s', count(*), l.idempotency_key)
FROM ledger l
WHERE l.idempotency_key IS NOT NULL
GROUP BY l.customer, l.idempotency_key
HAVING count(*) > 1
UNION ALL
SELECT 5, h.customer, h.asset, format('authorization %s says %s captured, the ledger %s', h.id, h.captured, coalesce(e.credits, 0))
FROM authorizations h
LEFT JOIN (SELECT e.customer, e.authorization_id, -sum(e.credits) AS credits FROM entry e
           WHERE e.kind = 'debit' AND e.authorization_id IS NOT NULL GROUP BY 1, 2) e
       ON e.customer = h.customer AND e.authorization_id = h.id
WHERE h.captured <> coalesce(e.credits, 0)
UNION ALL
SELECT 5, r.customer, r.asset, format('debit %s took %s credits and %s revenue, refunds gave back %s and %s',
                                      r.refers_to, -d.credits, d.revenue, r.credits, -r.revenue)
FROM (SELECT e.customer, e.asset, e.refers_to, sum(e.credits) AS credits, sum(e.revenue) AS revenue
      FROM entry e WHERE e.kind = 'refund' GROUP BY 1, 2, 3) r
LEFT JOIN entry d ON d.customer = r.customer AND d.id = r.refers_to AND d.kind = 'debit'
WHERE d.id IS NULL OR r.credits > -d.credits
UNION ALL
SELECT 5, u.customer, u.asset, format('%s %s of %s count in the %s from %s, the ledger says %s',
                                      u.used, u.counts, u.scope, u.every, u.period_start, coalesce(s.most, 0))
FROM counted u
LEFT JOIN (
    -- Of authorizations at the very moment at which ever or a window begins, nothing says on which side they are.
    SELECT u.customer, u.asset, u.scope, u.every, u.counts, u.period_start, sum(d.amount) AS most,
           sum(d.amount) FILTER (WHERE d.seq IS NOT NULL OR d.created_at > u.period_start OR u.every !~ '^([0-9]|ever)') AS least
    FROM counted u
    JOIN (SELECT d.customer, d.asset, d.counts, d.created_at, d.seq, d.amount, c.action, c.scope
          FROM used d
          CROSS JOIN LATERAL (SELECT d.action, NULL AS scope UNION SELECT NULL, unnest(d.scopes)) AS c) d
      ON d.customer = u.customer AND d.asset = u.asset AND d.counts = u.counts
     AND d.created_at >= u.period_start AND d.created_at < u.period_end AND coalesce(d.seq > u.after, true)
     AND (d.scope = u.scope OR credyt.matches_action(u.scope, d.action))
    GROUP BY 1, 2, 3, 4, 5, 6
) s ON s.customer = u.customer AND s.asset = u.asset AND s.scope = u.scope AND s.every = u.every AND s.counts = u.counts
   AND s.period_start = u.period_start
WHERE u.used NOT BETWEEN coalesce(s.least, 0) AND coalesce(s.most, 0)

-- 6: rows are whole: their parts add up, and none is missing
UNION ALL
SELECT 6, e.customer, e.asset, format('ledger row %s (%s) moved %s credits and %s revenue, its allocations say %s and %s',
                                      e.id, e.kind, e.credits, e.revenue, p.credits, p.revenue)
FROM entry e
LEFT JOIN LATERAL (
    SELECT CASE WHEN e.kind IN ('grant', 'refund') THEN coalesce(sum(p.credits), 0)
                WHEN e.kind = 'settlement' THEN e.credits
                -- Within one wallet nothing comes or goes.
                WHEN e.kind = 'transfer' THEN coalesce(sum(CASE WHEN p.incoming THEN p.credits WHEN p.outgoing THEN -p.credits END), 0)
                ELSE -coalesce(sum(p.credits) FILTER (
                         WHERE NOT (e.kind = 'revocation' AND p.grant_id IS NOT NULL AND p.revenue IS NOT NULL)), 0)
           END AS credits,
           CASE WHEN e.kind IN ('refund', 'revocation') THEN -coalesce(sum(p.revenue), 0)
                ELSE coalesce(sum(p.revenue), 0) END AS revenue
    FROM (SELECT (a.part->>'grant')::uuid AS grant_id, (a.part->>'credits')::numeric AS credits,
                 (a.part->>'revenue')::numeric AS revenue,
                 a.part ? 'from' AS incoming, a.part ? 'to_customer' AS outgoing
          FROM jsonb_array_elements(e.allocations) AS a (part)) p
) p ON true
WHERE e.credits <> p.credits OR e.revenue <> p.revenue
UNION ALL
SELECT 6, w.customer, w.asset, format('the wallet counts %s rows, there are %s, numbered up to %s', w.seq, coalesce(e.rows, 0), coalesce(e.last, 0))
FROM wallet w
LEFT JOIN (SELECT n.customer, n.asset, count(*) AS rows, count(DISTINCT n.seq) AS numbers, max(n.seq) AS last
           FROM numbered n GROUP BY 1, 2) e
       ON e.customer = w.customer AND e.asset = w.asset
WHERE w.seq <> coalesce(e.rows, 0) OR w.seq <> coalesce(e.numbers, 0) OR w.seq <> coalesce(e.last, 0)
UNION ALL
SELECT 6, p.customer, p.asset, format('costs recorded late changed %s credits, %s revenue and %s debits in the reports', p.credits, p.revenue, p.debits)
FROM (SELECT p.customer, p.asset, sum(p.debits) FILTER (WHERE a.nth = 1) AS debits,
             sum((a.line->>'credits')::numeric) AS credits, sum((a.line->>'revenue')::numeric) AS revenue
      FROM postings p
      CROSS JOIN LATERAL jsonb_array_elements(p.lines) WITH ORDINALITY AS a (line, nth)
      GROUP BY p.customer, p.asset) p
WHERE p.credits <> 0 OR p.revenue <> 0 OR p.debits <> 0
UNION ALL
SELECT 6, p.customer, p.asset, format('a change of the reports is number %s, which no row of the wallet has', p.seq)
FROM postings p
WHERE NOT EXISTS (SELECT FROM numbered n WHERE n.customer = p.customer AND n.asset = p.asset AND n.seq = p.seq)
UNION ALL
SELECT 6, n.customer, n.asset, format('row %s is number %s, but its id is not above the one before', n.id, n.seq)
FROM (SELECT n.customer, n.asset, n.id, n.seq,
             lag(n.id) OVER (PARTITION BY n.customer, n.asset ORDER BY n.seq) AS before
      FROM numbered n) n
WHERE n.id <= n.before
UNION ALL
SELECT 6, g.customer, g.asset, format('grant %s was issued by no ledger row', g.id)
FROM grants g
JOIN issued i ON i.customer = g.customer AND i.id = g.id
WHERE i.origin IS NULL
  AND NOT EXISTS (SELECT FROM part p WHERE p.customer = g.customer AND p.grant_id = g.id AND p.entry_kind = 'grant'
                  AND p.credits = g.credits AND p.deferred = g.paid)
UNION ALL
SELECT 6, e.customer, e.asset, format('%s is accounted at %s, but was booked after that period was closed', e.what, e.accounted_at)
FROM (SELECT e.customer, e.asset, format('ledger row %s', e.id) AS what, e.accounted_at, e.created_at FROM entry e
      UNION ALL
      SELECT v.customer, v.asset, format('vendor cost %s', v.id), v.accounted_at, v.created_at FROM vendor_costs v) e
JOIN closed c ON c.asset = e.asset AND e.accounted_at < c.through
JOIN credyt.periods p ON p.asset = c.asset AND p.through = c.ends[1 + width_bucket(e.accounted_at, c.ends)]
WHERE e.created_at > p.closed_at
UNION ALL
SELECT 6, w.customer, w.asset, format('the wallet''s time is %s, but its books are closed through %s', credyt.changed_at(w.state), c.through)
FROM wallet w JOIN closed c ON c.asset = w.asset
WHERE credyt.changed_at(w.state) < c.through

-- 7: a debt is what was spent or revoked, less what was settled and what refunds took off it
UNION ALL
SELECT 7, coalesce(e.customer, d.customer), coalesce(e.asset, d.asset),
       format('ledger row %s owes %s by the ledger and %s by its debt; refunds returned %s of it, by its debt %s',
              coalesce(e.id, d.id), coalesce(e.owed, 0), coalesce(d.owed, 0), coalesce(e.returned, 0), coalesce(d.returned, 0))
FROM (SELECT o.customer, o.asset, o.id, sum(o.owed) AS owed, sum(o.returned) AS returned
      FROM (SELECT p.customer, p.asset,
                   CASE WHEN p.entry_kind IN ('debit', 'revocation') THEN p.entry_id
                        ELSE coalesce((p.debts->>-1)::uuid, p.refers_to) END AS id,
                   CASE WHEN p.entry_kind IN ('debit', 'revocation') THEN p.credits ELSE -p.credits END AS owed,
                   0 AS returned
            FROM part p
            WHERE p.grant_id IS NULL OR p.entry_kind = 'settlement'
            UNION ALL
            SELECT p.customer, p.asset, d.id::uuid, 0, p.credits
            FROM part p CROSS JOIN LATERAL jsonb_array_elements_text(p.debts) AS d (id)) o
      GROUP BY 1, 2, 3) e
FULL JOIN debts d
       ON d.customer = e.customer AND d.asset = e.asset AND d.id = e.id
WHERE coalesce(e.owed, 0) <> coalesce(d.owed, 0) OR coalesce(e.returned, 0) <> coalesce(d.returned, 0)
-- what was used of an action in a month is what its debits say
UNION ALL
SELECT 7, m.customer, m.asset, format('%s of %s are counted from %s on, by the ledger it is %s', m.used, m.action, m.since, coalesce(l.used, 0))
FROM month m
LEFT JOIN (SELECT m.customer, m.asset, m.action, sum(l.quantity) AS used
           FROM month m
           JOIN ledger l ON l.customer = m.customer AND l.asset = m.asset AND l.kind = 'debit'
            AND l.action = m.action AND l.occurred_at >= m.since
           GROUP BY 1, 2, 3) l ON l.customer = m.customer AND l.asset = m.asset AND l.action = m.action
WHERE m.used <> coalesce(l.used, 0)
-- what was paid in another currency is what it was converted to
UNION ALL
SELECT 7, g.customer, g.asset, format('grant %s was paid with %s %s at %s, which is not %s', g.id, g.currency_paid, g.currency, g.exchange_rate, g.paid)
FROM credyt.grants g
WHERE g.exchange_rate IS NOT NULL AND abs(g.paid - g.currency_paid * g.exchange_rate) > 0.00000000005
  AND (verify.customer IS NULL OR g.customer = verify.customer)
-- a change of plan grants its difference once, and a period never more than the most it was worth
UNION ALL
SELECT 7, c.customer, s.asset, format('change of plan %s granted %s, which is granted %s times', c.id, c.grant_id, count(g.id))
FROM plan_changes c
JOIN subscriptions s ON s.customer = c.customer AND s.id = c.subscription_id
LEFT JOIN issued g ON g.customer = c.customer AND g.id = c.grant_id
WHERE c.grant_id IS NOT NULL
GROUP BY c.customer, s.asset, c.id, c.grant_id HAVING count(g.id) <> 1
UNION ALL
SELECT 7, s.customer, s.asset, format('the period of subscription %s since %s has had %s for %s, more than its terms, %s for %s',
                                      s.id, s.period_start, sum(i.credits), sum(i.paid), s.had_credits, s.had_paid)
FROM subscriptions s CROSS JOIN LATERAL unnest(s.grants) AS u (id)
JOIN issued i ON i.customer = s.customer AND i.id = u.id AND i.origin IS NULL
GROUP BY s.customer, s.asset, s.id, s.period_start, s.had_credits, s.had_paid
HAVING sum(i.credits) > s.had_credits OR sum(i.paid) > s.had_paid
-- a period of a plan is granted to one subscription of a customer, and so is each grant and each difference
UNION ALL
SELECT 7, s.customer, s.asset, format('subscriptions %s and %s have both been on plan %s between %s and %s', s.id, o.id, s.plan,
                                      greatest(s.since, o.since), least(s.next_renewal_at, o.next_renewal_at))
FROM on_plan s
JOIN on_plan o ON o.customer = s.customer AND o.plan = s.plan AND o.id > s.id
 AND o.since < coalesce(s.next_renewal_at, 'infinity') AND s.since < coalesce(o.next_renewal_at, 'infinity')
 -- A period may be paid, and granted, after its subscription has ended and another has begun.
 AND NOT coalesce(s.ends_at <= o.since AND s.paid_through IS NOT NULL, false)
 AND NOT coalesce(o.ends_at <= s.since AND o.paid_through IS NOT NULL, false)
UNION ALL
SELECT 7, s.customer, s.asset, format('grant %s belongs to %s subscriptions', u.id, count(*))
FROM subscriptions s CROSS JOIN LATERAL unnest(s.grants) AS u (id)
GROUP BY s.customer, s.asset, u.id HAVING count(*) > 1
UNION ALL
SELECT 7, c.customer, s.asset, format('grant %s is the difference of %s changes of plan', c.grant_id, count(*))
FROM plan_changes c JOIN subscriptions s ON s.customer = c.customer AND s.id = c.subscription_id
WHERE c.grant_id IS NOT NULL
GROUP BY c.customer, s.asset, c.grant_id HAVING count(*) > 1
-- what waits for a payment does so for its subscription, for one period at most
UNION ALL
SELECT 7, w.customer, w.asset, format('%s of grant %s wait for a payment that is not waited for', o.state->>'waiting', o.state->>'id')
FROM wallet w CROSS JOIN LATERAL jsonb_array_elements(w.state::jsonb->'grants') AS o (state)
WHERE o.state ? 'waiting'
  AND NOT EXISTS (SELECT FROM subscriptions s
                  WHERE s.customer = w.customer AND s.asset = w.asset AND (o.state->>'id')::uuid = ANY (s.grants)
                    AND least(s.waits_until, s.ends_at) > credyt.changed_at(w.state) AND s.waits_until IS NOT NULL)
-- and debt never stands beside credits that may pay it
UNION ALL
SELECT 7, w.customer, w.asset, format('%s is owed for %s while grant %s has %s free', d.owed, coalesce(d.action, 'a revocation'),
                                      o.state->>'id', (o.state->>'remaining')::numeric - (o.state->>'held')::numeric)
FROM wallet w
JOIN debts d ON d.customer = w.customer AND d.asset = w.asset
CROSS JOIN LATERAL jsonb_array_elements(w.state::jsonb->'grants') AS o (state)
WHERE d.owed > 0 AND (o.state->>'remaining')::numeric > (o.state->>'held')::numeric
  AND NOT (o.state->>'revoked')::boolean
  AND (o.state->>'effective_at')::timestamptz <= credyt.changed_at(w.state)
  AND coalesce((o.state->>'expires_at')::timestamptz, 'infinity') > credyt.changed_at(w.state)
  AND (d.action IS NULL OR o.state->>'applies_to' IS NULL
       OR EXISTS (SELECT FROM jsonb_array_elements_text(o.state->'applies_to') AS p (pattern)
                  WHERE d.action = p.pattern
                     OR right(p.pattern, 1) = '*' AND starts_with(d.action, left(p.pattern, -1))))
$$;
COMMENT ON FUNCTION credyt.verify(text) IS
    'Checks the invariants of the ledger for one customer or all; no rows: all hold.';
