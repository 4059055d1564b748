-- Accounting: deferred revenue and what moves it, and periods that are closed and never change again.

CREATE VIEW credyt.deferred_revenue AS
SELECT w.asset, o.kind, sum(o.remaining) AS credits, sum(o.deferred) AS revenue
FROM credyt.current_wallets w
CROSS JOIN LATERAL credyt.grants(w.state) AS o
GROUP BY w.asset, o.kind;
COMMENT ON VIEW credyt.deferred_revenue IS 'What was paid for credits that are not spent yet?';
COMMENT ON COLUMN credyt.deferred_revenue.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.deferred_revenue.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.deferred_revenue.credits IS 'Credits left in open grants, future ones too.';
COMMENT ON COLUMN credyt.deferred_revenue.revenue IS 'Money paid for them and not earned.';

CREATE VIEW credyt.breakage AS
SELECT e.asset, a.part->>'kind' AS kind,
       sum((a.part->>'credits')::numeric) AS credits,
       sum((a.part->>'deferred')::numeric) AS revenue
FROM (
    SELECT l.asset, l.allocations FROM credyt.ledger l WHERE l.kind = 'expiry'
    UNION ALL
    SELECT p.asset, p.allocations FROM credyt.pending_entries p WHERE p.kind = 'expiry'
) e
CROSS JOIN LATERAL jsonb_array_elements(e.allocations) AS a (part)
GROUP BY e.asset, a.part->>'kind';
COMMENT ON VIEW credyt.breakage IS 'What was paid for credits that ended unspent? All time, pending entries included.';
COMMENT ON COLUMN credyt.breakage.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.breakage.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.breakage.credits IS 'Credits that ended unspent.';
COMMENT ON COLUMN credyt.breakage.revenue IS 'Money paid for them.';

CREATE TABLE credyt.periods (
    asset      text NOT NULL,
    through    timestamptz NOT NULL,
    closed_at  timestamptz NOT NULL,
    credits    numeric NOT NULL,
    deferred   numeric NOT NULL,
    PRIMARY KEY (asset, through)
);
COMMENT ON TABLE credyt.periods IS 'Closed periods, append-only: what is accounted before through never changes again. Written by credyt.close_period.';
COMMENT ON COLUMN credyt.periods.asset IS 'Asset.';
COMMENT ON COLUMN credyt.periods.through IS 'End of the period, exclusive. The newest one is where the open books begin.';
COMMENT ON COLUMN credyt.periods.closed_at IS 'When it was closed.';
COMMENT ON COLUMN credyt.periods.credits IS 'Credits left in all grants at the end of the period, future grants too.';
COMMENT ON COLUMN credyt.periods.deferred IS 'Money paid for them and not earned, in the asset''s currency.';
SELECT pg_catalog.pg_extension_config_dump('credyt.periods', '');

CREATE TABLE credyt.period_grants (
    customer   text NOT NULL,
    asset      text NOT NULL,
    through    timestamptz NOT NULL,
    grant_id   uuid NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('included', 'promotional', 'purchased')),
    remaining  numeric NOT NULL,
    deferred   numeric NOT NULL,
    PRIMARY KEY (customer, grant_id, through)
);
-- Period after period is written in one go, so a few pages answer for each.
CREATE INDEX period_grants_through ON credyt.period_grants USING brin (through) WITH (autosummarize = on);
COMMENT ON TABLE credyt.period_grants IS 'Every grant with something left at the end of a closed period, append-only.';
COMMENT ON COLUMN credyt.period_grants.customer IS 'Customer.';
COMMENT ON COLUMN credyt.period_grants.asset IS 'Asset.';
COMMENT ON COLUMN credyt.period_grants.through IS 'End of the period, exclusive.';
COMMENT ON COLUMN credyt.period_grants.grant_id IS 'The grant.';
COMMENT ON COLUMN credyt.period_grants.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.period_grants.remaining IS 'Credits left, held ones included. Negative where a debit is accounted before the grant that paid it.';
COMMENT ON COLUMN credyt.period_grants.deferred IS 'Money paid for them and not earned.';
SELECT pg_catalog.pg_extension_config_dump('credyt.period_grants', '');

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.periods
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('periods');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.period_grants
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('period_grants');

CREATE VIEW credyt.movements AS
SELECT l.customer, l.asset, l.kind, l.accounted_at, l.revenue, l.allocations
FROM credyt.ledger l
UNION ALL
SELECT p.customer, p.asset, p.kind, p.accounted_at, p.revenue, p.allocations
FROM credyt.pending_entries p;
COMMENT ON VIEW credyt.movements IS 'What moved credits, pending entries included? The accounting reports add up these rows.';
COMMENT ON COLUMN credyt.movements.customer IS 'Customer.';
COMMENT ON COLUMN credyt.movements.asset IS 'Asset.';
COMMENT ON COLUMN credyt.movements.kind IS 'grant, debit, refund, expiry, revocation, settlement or transfer.';
COMMENT ON COLUMN credyt.movements.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.movements.revenue IS 'Money earned (positive) or given back (negative).';
COMMENT ON COLUMN credyt.movements.allocations IS 'Grant by grant, as in the ledger.';

CREATE VIEW credyt.grant_movements AS
SELECT m.customer, m.asset, m.accounted_at, m.kind AS movement, (a.part->>'grant')::uuid AS grant_id, a.part->>'kind' AS kind,
       CASE WHEN m.kind IN ('grant', 'refund') OR a.part ? 'from' THEN 1 ELSE -1 END * (a.part->>'credits')::numeric AS credits,
       CASE WHEN m.kind IN ('grant', 'refund') OR a.part ? 'from' THEN 1 ELSE -1 END
           * coalesce(a.part->>'deferred', a.part->>'revenue')::numeric AS deferred
FROM credyt.movements m
CROSS JOIN LATERAL jsonb_array_elements(m.allocations) AS a (part)
WHERE a.part->>'grant' IS NOT NULL
  -- Spent credits that a revocation made a debt: revenue went back, nothing left or entered the grant.
  AND NOT (m.kind = 'revocation' AND a.part ? 'revenue')
UNION ALL
SELECT m.customer, m.asset, m.accounted_at, m.kind, (a.part->>'to')::uuid, a.part->>'kind',
       (a.part->>'credits')::numeric, (a.part->>'deferred')::numeric
FROM credyt.movements m
CROSS JOIN LATERAL jsonb_array_elements(m.allocations) AS a (part)
-- Within the wallet; another customer's is in a row of its own.
WHERE m.kind = 'transfer' AND a.part ? 'to' AND NOT a.part ? 'to_customer';
COMMENT ON VIEW credyt.grant_movements IS 'What came into each grant and what left it? The sum up to a moment is what the grant had left then.';
COMMENT ON COLUMN credyt.grant_movements.customer IS 'Customer.';
COMMENT ON COLUMN credyt.grant_movements.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.grant_movements.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.grant_movements.movement IS 'grant, debit, refund, expiry, revocation, settlement or transfer.';
COMMENT ON COLUMN credyt.grant_movements.grant_id IS 'The grant.';
COMMENT ON COLUMN credyt.grant_movements.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.grant_movements.credits IS 'Credits that came (positive) or went (negative).';
COMMENT ON COLUMN credyt.grant_movements.deferred IS 'Money paid for them and not earned, likewise.';

CREATE FUNCTION credyt.close_period(
    through  timestamptz,
    asset    text DEFAULT 'credits'
) RETURNS credyt.periods
    AS 'MODULE_PATHNAME', 'credyt_close_period' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.close_period(timestamptz, text) IS
    'Closes an asset''s books before a past moment: they never change again, what comes late counts later.';

-- What every grant had left: at the last close, and what moved it since.
CREATE FUNCTION credyt.keep_period(asset text, since timestamptz, through timestamptz, closed_at timestamptz)
RETURNS credyt.periods
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
-- The one statement of close_period that reads whole tables.
SET enable_seqscan = on SET enable_sort = off SET jit = off
AS $$
WITH kept AS (
    INSERT INTO credyt.period_grants (customer, asset, through, grant_id, kind, remaining, deferred)
    SELECT m.customer, keep_period.asset, keep_period.through, m.grant_id, m.kind, sum(m.credits), sum(m.deferred)
    FROM (
        SELECT g.customer, g.grant_id, g.kind, g.remaining AS credits, g.deferred
        FROM credyt.period_grants g
        WHERE g.asset = keep_period.asset AND g.through = keep_period.since
        UNION ALL
        SELECT m.customer, m.grant_id, m.kind, m.credits, m.deferred
        FROM credyt.grant_movements m
        WHERE m.asset = keep_period.asset
          AND m.accounted_at >= keep_period.since AND m.accounted_at < keep_period.through
    ) m
    GROUP BY m.customer, m.grant_id, m.kind
    HAVING sum(m.credits) <> 0 OR sum(m.deferred) <> 0
    RETURNING remaining, deferred
)
INSERT INTO credyt.periods (asset, through, closed_at, credits, deferred)
SELECT keep_period.asset, keep_period.through, keep_period.closed_at,
       trim_scale(coalesce(sum(k.remaining), 0)), credyt.as_money(coalesce(sum(k.deferred), 0))
FROM kept k
RETURNING *
$$;
COMMENT ON FUNCTION credyt.keep_period(text, timestamptz, timestamptz, timestamptz) IS
    'Writes down what every grant had left at the end of a period. For close_period alone.';

-- The reports add up many rows into few sums, which the planner, not knowing the moments, would sort first.
CREATE FUNCTION credyt.deferred_revenue_at(
    at     timestamptz,
    asset  text DEFAULT NULL
) RETURNS SETOF credyt.deferred_revenue
    AS 'MODULE_PATHNAME', 'credyt_deferred_revenue_at' LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_sort = off SET jit = off;
COMMENT ON FUNCTION credyt.deferred_revenue_at(timestamptz, text) IS
    'What was paid for credits that were not spent yet at a past moment, by kind.';

CREATE TYPE credyt.rollforward AS (
    asset     text,
    opening   numeric,
    billed    numeric,
    earned    numeric,
    breakage  numeric,
    returned  numeric,
    closing   numeric
);
COMMENT ON TYPE credyt.rollforward IS 'How deferred revenue came from one moment to another: opening + billed - earned - breakage - returned = closing.';
COMMENT ON COLUMN credyt.rollforward.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.rollforward.opening IS 'Deferred before the period.';
COMMENT ON COLUMN credyt.rollforward.billed IS 'Paid for grants issued in it.';
COMMENT ON COLUMN credyt.rollforward.earned IS 'Revenue of credits spent in it, and of debt paid, less what refunds and revocations took back.';
COMMENT ON COLUMN credyt.rollforward.breakage IS 'Paid for credits that ended unspent in it.';
COMMENT ON COLUMN credyt.rollforward.returned IS 'Paid for credits that were revoked in it; of spent ones that became debt, the revenue.';
COMMENT ON COLUMN credyt.rollforward.closing IS 'Deferred at its end, added up separately.';

CREATE FUNCTION credyt.revenue_rollforward(
    since  timestamptz,
    until  timestamptz,
    asset  text DEFAULT NULL
) RETURNS SETOF credyt.rollforward
    AS 'MODULE_PATHNAME', 'credyt_revenue_rollforward' LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_sort = off SET jit = off;
COMMENT ON FUNCTION credyt.revenue_rollforward(timestamptz, timestamptz, text) IS
    'How deferred revenue came from opening to closing between two moments, by asset.';
