-- Margin: what every movement adds to it, the rollups that keep reports fast, and the reports.

CREATE TYPE credyt.margin_line AS (
    vendor   text,
    model    text,
    kind     text,
    report_mask  int,
    credits  numeric,
    revenue  numeric,
    cost     numeric
);
COMMENT ON TYPE credyt.margin_line IS 'The part of a movement that one vendor, model and kind of grant has.';
COMMENT ON COLUMN credyt.margin_line.vendor IS 'Vendor; NULL: not known.';
COMMENT ON COLUMN credyt.margin_line.model IS 'Model; NULL: not known.';
COMMENT ON COLUMN credyt.margin_line.kind IS 'What paid: included, promotional, purchased or overdraft; NULL: nothing was to pay.';
COMMENT ON COLUMN credyt.margin_line.report_mask IS 'The reports that count the movement with this line: bit n, n the sum of vendor 1, model 2 and kind 4; 255: all.';
COMMENT ON COLUMN credyt.margin_line.credits IS 'Credits spent, less refunds.';
COMMENT ON COLUMN credyt.margin_line.revenue IS 'Money earned.';
COMMENT ON COLUMN credyt.margin_line.cost IS 'Vendor cost; NULL: not known.';

CREATE FUNCTION credyt.split_lines(kind text, allocations jsonb, costs jsonb, cost numeric) RETURNS SETOF credyt.margin_line
    AS 'MODULE_PATHNAME', 'credyt_split_lines' LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 4;
COMMENT ON FUNCTION credyt.split_lines(text, jsonb, jsonb, numeric) IS
    'A ledger row, shared over its models by cost and over its kinds by credits. Shares add up to the row.';

CREATE FUNCTION credyt.posting_lines(lines jsonb, debits int) RETURNS SETOF credyt.margin_line
    AS 'MODULE_PATHNAME', 'credyt_posting_lines' LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 4;
COMMENT ON FUNCTION credyt.posting_lines(jsonb, int) IS 'The lines of a cost posting.';

-- Most rows have one allocation and one model at most: they are a line as they are.
-- What is due and not booked yet has no number: what is asked for by number leaves it out.
CREATE VIEW credyt.margin_lines AS
SELECT l.customer, l.asset, l.id, l.seq, l.accounted_at, l.action,
       -- What a debit gets back, or earns later, counts under its scopes.
       CASE WHEN l.kind IN ('refund', 'settlement')
            THEN (SELECT d.scopes FROM credyt.ledger d WHERE d.customer = l.customer AND d.id = l.refers_to)
            ELSE l.scopes END AS scopes,
       CASE WHEN l.kind = 'debit' THEN 1 ELSE 0 END AS debits,
       l.kind = 'debit' AND l.cost IS NOT NULL AS costed,
       CASE WHEN l.kind = 'debit' THEN coalesce(l.quantity, 0) ELSE 0 END AS quantity,
       s.vendor, s.model, s.kind, s.report_mask, s.credits, s.revenue, s.cost
FROM credyt.ledger l
CROSS JOIN LATERAL (
    SELECT l.costs->0->>'vendor' AS vendor, l.costs->0->>'model' AS model, l.allocations->0->>'kind' AS kind,
           255 AS report_mask,
           CASE WHEN l.kind IN ('debit', 'refund') THEN -l.credits ELSE 0 END AS credits,
           l.revenue,
           CASE WHEN l.costs IS NULL THEN l.cost ELSE (l.costs->0->>'cost')::numeric END AS cost
    WHERE l.kind <> 'settlement' AND jsonb_array_length(l.allocations) <= 1
      AND (l.costs IS NULL OR jsonb_array_length(l.costs) <= 1)
    UNION ALL
    SELECT s.vendor, s.model, s.kind, s.report_mask, s.credits, s.revenue, s.cost
    FROM credyt.split_lines(l.kind, l.allocations, l.costs, l.cost) AS s
    WHERE l.kind = 'settlement' OR jsonb_array_length(l.allocations) > 1
      OR (l.costs IS NOT NULL AND jsonb_array_length(l.costs) > 1)
) s
WHERE l.kind IN ('debit', 'refund', 'settlement') OR l.revenue <> 0
UNION ALL
SELECT p.customer, p.asset, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid, p.seq, p.accounted_at, p.action,
       p.scopes,
       p.debits, p.costed <> 0, p.quantity,
       s.vendor, s.model, s.kind, s.report_mask, s.credits, s.revenue, s.cost
FROM credyt.cost_postings p
CROSS JOIN LATERAL (
    SELECT p.lines->0->>'vendor' AS vendor, p.lines->0->>'model' AS model, p.lines->0->>'kind' AS kind,
           255 AS report_mask,
           (p.lines->0->>'credits')::numeric AS credits,
           (p.lines->0->>'revenue')::numeric AS revenue,
           (p.lines->0->>'cost')::numeric AS cost
    WHERE jsonb_array_length(p.lines) = 1
    UNION ALL
    SELECT s.vendor, s.model, s.kind, s.report_mask, s.credits, s.revenue, s.cost
    FROM credyt.posting_lines(p.lines, p.debits) AS s
    WHERE jsonb_array_length(p.lines) <> 1
) s
UNION ALL
SELECT e.customer, e.asset, NULL::uuid, NULL::bigint, e.accounted_at, e.action,
       (SELECT d.scopes FROM credyt.ledger d WHERE d.customer = e.customer AND d.id = e.refers_to),
       0, false, 0::numeric, s.vendor, s.model, s.kind, s.report_mask, s.credits, s.revenue, s.cost
FROM credyt.pending_entries e
CROSS JOIN LATERAL credyt.split_lines(e.kind, e.allocations, e.costs, NULL) AS s
WHERE e.kind = 'settlement' OR e.revenue <> 0;
COMMENT ON VIEW credyt.margin_lines IS 'What does each movement add to margin? The reports add up these rows; query one customer at a time.';
COMMENT ON COLUMN credyt.margin_lines.customer IS 'Customer.';
COMMENT ON COLUMN credyt.margin_lines.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.margin_lines.id IS 'The ledger row; all f: a recorded cost; NULL: due, and not booked yet.';
COMMENT ON COLUMN credyt.margin_lines.seq IS 'Its number among the rows of the wallet; NULL: due, and not booked yet.';
COMMENT ON COLUMN credyt.margin_lines.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.margin_lines.action IS 'What customers did; NULL: revenue taken back by revoked grants, and costs without a debit.';
COMMENT ON COLUMN credyt.margin_lines.scopes IS 'The scopes of the debit, also of what was refunded of it.';
COMMENT ON COLUMN credyt.margin_lines.debits IS '1 for a debit, -1 where a recorded cost takes one out to count it again, else 0.';
COMMENT ON COLUMN credyt.margin_lines.costed IS 'True: a debit whose cost is fully known.';
COMMENT ON COLUMN credyt.margin_lines.quantity IS 'The quantity of the debit.';
COMMENT ON COLUMN credyt.margin_lines.vendor IS 'Vendor; NULL: not known.';
COMMENT ON COLUMN credyt.margin_lines.model IS 'Model; NULL: not known.';
COMMENT ON COLUMN credyt.margin_lines.kind IS 'What paid: included, promotional, purchased or overdraft; NULL: nothing was to pay.';
COMMENT ON COLUMN credyt.margin_lines.report_mask IS 'The reports that count the movement with this line: bit n, n the sum of vendor 1, model 2 and kind 4; 255: all.';
COMMENT ON COLUMN credyt.margin_lines.credits IS 'Credits spent, less refunds.';
COMMENT ON COLUMN credyt.margin_lines.revenue IS 'Money earned.';
COMMENT ON COLUMN credyt.margin_lines.cost IS 'Vendor cost; NULL: not known.';

-- Rollups: sums of margin_lines by the days of the asset. They hold a wallet's rows up to the one that
-- rollup_progress names, and change in one transaction with it; a report adds what is newer. So they
-- may lag behind, and may be emptied, all five at once (usage_days is one): no report reads differently.
CREATE TABLE credyt.rollup_progress (
    customer  text NOT NULL,
    asset     text NOT NULL,
    seq       bigint NOT NULL,
    id        uuid NOT NULL,
    PRIMARY KEY (customer, asset)
) WITH (fillfactor = 80);
COMMENT ON TABLE credyt.rollup_progress IS 'Up to which row each wallet is in the rollups. Written by credyt.maintain.';
COMMENT ON COLUMN credyt.rollup_progress.customer IS 'Customer; empty in the row for all wallets, which says until when every row is in the rollups.';
COMMENT ON COLUMN credyt.rollup_progress.asset IS 'Asset.';
COMMENT ON COLUMN credyt.rollup_progress.seq IS 'The number of the last row in the rollups.';
COMMENT ON COLUMN credyt.rollup_progress.id IS 'The last ledger row in the rollups; in the row for all wallets only its time counts.';
SELECT pg_catalog.pg_extension_config_dump('credyt.rollup_progress', '');

CREATE TABLE credyt.margin_days (
    asset     text NOT NULL,
    day       date NOT NULL,
    report_mask   int NOT NULL,
    costed    boolean NOT NULL,
    scoped    boolean NOT NULL,
    debits    bigint NOT NULL,
    action    text,
    vendor    text,
    model     text,
    kind      text,
    quantity  numeric NOT NULL,
    credits   numeric NOT NULL,
    revenue   numeric NOT NULL,
    cost      numeric,
    UNIQUE NULLS NOT DISTINCT (asset, day, action, vendor, model, kind, report_mask, costed, scoped)
) WITH (fillfactor = 90);
COMMENT ON TABLE credyt.margin_days IS 'Rollup of credyt.margin_lines by day, over all customers. Written by credyt.maintain, read by credyt.margin.';
COMMENT ON COLUMN credyt.margin_days.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.margin_days.day IS 'The day in the time zone of the asset.';
COMMENT ON COLUMN credyt.margin_days.report_mask IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_days.costed IS 'True: debits whose cost is fully known.';
COMMENT ON COLUMN credyt.margin_days.scoped IS 'True: movements that have scopes.';
COMMENT ON COLUMN credyt.margin_days.debits IS 'How many debits.';
COMMENT ON COLUMN credyt.margin_days.action IS 'What customers did; NULL: revenue taken back by revoked grants, and costs without a debit.';
COMMENT ON COLUMN credyt.margin_days.vendor IS 'Vendor; NULL: not known.';
COMMENT ON COLUMN credyt.margin_days.model IS 'Model; NULL: not known.';
COMMENT ON COLUMN credyt.margin_days.kind IS 'What paid: included, promotional, purchased or overdraft; NULL: nothing was to pay.';
COMMENT ON COLUMN credyt.margin_days.quantity IS 'Sum of their quantities.';
COMMENT ON COLUMN credyt.margin_days.credits IS 'Credits spent, less refunds.';
COMMENT ON COLUMN credyt.margin_days.revenue IS 'Money earned.';
COMMENT ON COLUMN credyt.margin_days.cost IS 'Vendor cost that is known; NULL: none is.';
SELECT pg_catalog.pg_extension_config_dump('credyt.margin_days', '');

CREATE TABLE credyt.margin_customers (
    customer  text NOT NULL,
    asset     text NOT NULL,
    day       date NOT NULL,
    report_mask   int NOT NULL,
    costed    boolean NOT NULL,
    scoped    boolean NOT NULL,
    debits    bigint NOT NULL,
    action    text,
    vendor    text,
    model     text,
    kind      text,
    quantity  numeric NOT NULL,
    credits   numeric NOT NULL,
    revenue   numeric NOT NULL,
    cost      numeric,
    UNIQUE NULLS NOT DISTINCT (customer, asset, day, action, vendor, model, kind, report_mask, costed, scoped)
) WITH (fillfactor = 90);
CREATE INDEX margin_customers_day ON credyt.margin_customers USING brin (day) WITH (autosummarize = on);
COMMENT ON TABLE credyt.margin_customers IS 'Rollup of credyt.margin_lines by customer and day. Written by credyt.maintain, read by credyt.margin.';
COMMENT ON COLUMN credyt.margin_customers.customer IS 'Customer.';
COMMENT ON COLUMN credyt.margin_customers.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.margin_customers.day IS 'The day in the time zone of the asset.';
COMMENT ON COLUMN credyt.margin_customers.report_mask IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_customers.costed IS 'True: debits whose cost is fully known.';
COMMENT ON COLUMN credyt.margin_customers.scoped IS 'True: movements that have scopes.';
COMMENT ON COLUMN credyt.margin_customers.debits IS 'How many debits.';
COMMENT ON COLUMN credyt.margin_customers.action IS 'What customers did; NULL: revenue taken back by revoked grants, and costs without a debit.';
COMMENT ON COLUMN credyt.margin_customers.vendor IS 'Vendor; NULL: not known.';
COMMENT ON COLUMN credyt.margin_customers.model IS 'Model; NULL: not known.';
COMMENT ON COLUMN credyt.margin_customers.kind IS 'What paid: included, promotional, purchased or overdraft; NULL: nothing was to pay.';
COMMENT ON COLUMN credyt.margin_customers.quantity IS 'Sum of their quantities.';
COMMENT ON COLUMN credyt.margin_customers.credits IS 'Credits spent, less refunds.';
COMMENT ON COLUMN credyt.margin_customers.revenue IS 'Money earned.';
COMMENT ON COLUMN credyt.margin_customers.cost IS 'Vendor cost that is known; NULL: none is.';
SELECT pg_catalog.pg_extension_config_dump('credyt.margin_customers', '');

CREATE TABLE credyt.margin_scopes (
    customer  text NOT NULL,
    asset     text NOT NULL,
    day       date NOT NULL,
    report_mask   int NOT NULL,
    costed    boolean NOT NULL,
    debits    bigint NOT NULL,
    scope     text NOT NULL,
    action    text,
    vendor    text,
    model     text,
    kind      text,
    quantity  numeric NOT NULL,
    credits   numeric NOT NULL,
    revenue   numeric NOT NULL,
    cost      numeric,
    UNIQUE NULLS NOT DISTINCT (customer, asset, day, scope, action, vendor, model, kind, report_mask, costed)
) WITH (fillfactor = 90);
CREATE INDEX margin_scopes_day ON credyt.margin_scopes USING brin (day) WITH (autosummarize = on);
-- Without a primary key, a publication of these tables would refuse every update of them.
ALTER TABLE credyt.margin_days REPLICA IDENTITY FULL;
ALTER TABLE credyt.margin_customers REPLICA IDENTITY FULL;
ALTER TABLE credyt.margin_scopes REPLICA IDENTITY FULL;
COMMENT ON TABLE credyt.margin_scopes IS 'Rollup of the credyt.margin_lines that have scopes, by customer, day and scope: once under each.';
COMMENT ON COLUMN credyt.margin_scopes.customer IS 'Customer.';
COMMENT ON COLUMN credyt.margin_scopes.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.margin_scopes.day IS 'The day in the time zone of the asset.';
COMMENT ON COLUMN credyt.margin_scopes.report_mask IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_scopes.costed IS 'True: debits whose cost is fully known.';
COMMENT ON COLUMN credyt.margin_scopes.debits IS 'How many debits.';
COMMENT ON COLUMN credyt.margin_scopes.scope IS 'The scope.';
COMMENT ON COLUMN credyt.margin_scopes.action IS 'What customers did; NULL: revenue taken back by revoked grants, and costs without a debit.';
COMMENT ON COLUMN credyt.margin_scopes.vendor IS 'Vendor; NULL: not known.';
COMMENT ON COLUMN credyt.margin_scopes.model IS 'Model; NULL: not known.';
COMMENT ON COLUMN credyt.margin_scopes.kind IS 'What paid: included, promotional, purchased or overdraft; NULL: nothing was to pay.';
COMMENT ON COLUMN credyt.margin_scopes.quantity IS 'Sum of their quantities.';
COMMENT ON COLUMN credyt.margin_scopes.credits IS 'Credits spent, less refunds.';
COMMENT ON COLUMN credyt.margin_scopes.revenue IS 'Money earned.';
COMMENT ON COLUMN credyt.margin_scopes.cost IS 'Vendor cost that is known; NULL: none is.';
SELECT pg_catalog.pg_extension_config_dump('credyt.margin_scopes', '');

-- So that a plan knows how many groups a report has.
CREATE STATISTICS credyt.margin_customers_groups (ndistinct) ON customer, day, action, vendor, model, kind FROM credyt.margin_customers;
COMMENT ON STATISTICS credyt.margin_customers_groups IS 'How many groups a report by several of these has.';

CREATE STATISTICS credyt.margin_days_groups (ndistinct) ON day, action, vendor, model, kind FROM credyt.margin_days;
COMMENT ON STATISTICS credyt.margin_days_groups IS 'How many groups a report by several of these has.';

-- OFFSET 0: what is newer is looked up wallet by wallet.
CREATE VIEW credyt.margin_unrolled AS
SELECT w.customer, w.asset, m.id, m.seq, m.accounted_at, m.action, m.scopes, m.debits, m.costed, m.quantity,
       m.vendor, m.model, m.kind, m.report_mask, m.credits, m.revenue, m.cost
FROM credyt.wallets w
LEFT JOIN credyt.rollup_progress p ON p.customer = w.customer AND p.asset = w.asset
CROSS JOIN LATERAL (
    SELECT * FROM credyt.margin_lines m
    WHERE m.customer = w.customer AND m.asset = w.asset AND m.seq > coalesce(p.seq, 0)
      AND m.id > coalesce(p.id, '00000000-0000-0000-0000-000000000000')
    OFFSET 0
) m
WHERE credyt.seq(w.state) > coalesce(p.seq, 0)
UNION ALL
SELECT m.customer, m.asset, m.id, m.seq, m.accounted_at, m.action, m.scopes, m.debits, m.costed, m.quantity,
       m.vendor, m.model, m.kind, m.report_mask, m.credits, m.revenue, m.cost
FROM credyt.margin_lines m
WHERE m.seq IS NULL;
COMMENT ON VIEW credyt.margin_unrolled IS 'The credyt.margin_lines that the rollups do not have yet: newer ones and pending entries.';
COMMENT ON COLUMN credyt.margin_unrolled.customer IS 'Customer.';
COMMENT ON COLUMN credyt.margin_unrolled.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.margin_unrolled.id IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_unrolled.seq IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_unrolled.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.margin_unrolled.action IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_unrolled.scopes IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_unrolled.debits IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_unrolled.costed IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_unrolled.quantity IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_unrolled.vendor IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_unrolled.model IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_unrolled.kind IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_unrolled.report_mask IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_unrolled.credits IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_unrolled.revenue IS 'As in credyt.margin_lines.';
COMMENT ON COLUMN credyt.margin_unrolled.cost IS 'As in credyt.margin_lines.';

-- Reports

CREATE TYPE credyt.margin_report AS (
    asset         text,
    day           date,
    action        text,
    customer      text,
    vendor        text,
    model         text,
    kind          text,
    scope         text,
    debits        bigint,
    quantity      numeric,
    credits       numeric,
    revenue       numeric,
    cost          numeric,
    margin        numeric,
    margin_ratio  numeric,
    cost_coverage numeric
);
COMMENT ON TYPE credyt.margin_report IS 'A row of credyt.margin.';
COMMENT ON COLUMN credyt.margin_report.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.margin_report.day IS 'The day in the time zone of the asset. NULL where not asked for.';
COMMENT ON COLUMN credyt.margin_report.action IS 'What customers did; NULL: revenue taken back by revoked grants, and costs without a debit. NULL where not asked for.';
COMMENT ON COLUMN credyt.margin_report.customer IS 'Customer. NULL where not asked for.';
COMMENT ON COLUMN credyt.margin_report.vendor IS 'Vendor; NULL: not known. NULL where not asked for.';
COMMENT ON COLUMN credyt.margin_report.model IS 'Model; NULL: not known. NULL where not asked for.';
COMMENT ON COLUMN credyt.margin_report.kind IS 'What paid: included, promotional, purchased or overdraft; NULL: nothing was to pay. NULL where not asked for.';
COMMENT ON COLUMN credyt.margin_report.scope IS 'One of the scopes of the debit; NULL: it has none. NULL where not asked for.';
COMMENT ON COLUMN credyt.margin_report.debits IS 'How many debits and captures; one counts under each of its models, kinds and scopes, and once in a total.';
COMMENT ON COLUMN credyt.margin_report.quantity IS 'Sum of their quantities.';
COMMENT ON COLUMN credyt.margin_report.credits IS 'Credits spent, less refunds.';
COMMENT ON COLUMN credyt.margin_report.revenue IS 'Money earned by them.';
COMMENT ON COLUMN credyt.margin_report.cost IS 'Vendor cost that is known; NULL: none is.';
COMMENT ON COLUMN credyt.margin_report.margin IS 'Revenue less known cost.';
COMMENT ON COLUMN credyt.margin_report.margin_ratio IS 'Margin / revenue; NULL without revenue.';
COMMENT ON COLUMN credyt.margin_report.cost_coverage IS 'Share of the debits whose cost is fully known, 0 to 1; NULL without debits.';

-- Without a search_path and without STRICT, which would keep it from becoming part of the queries that use it, at six times
-- the time: every name in it is qualified, and NULL gives NULL.
CREATE FUNCTION credyt.as_money(amount numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT pg_catalog.round(amount, greatest(2, pg_catalog.min_scale(amount))) $$;
COMMENT ON FUNCTION credyt.as_money(numeric) IS 'Money as it is shown: at least two decimals, no trailing zeros beyond them.';

-- Where a group has one row or two, most of what sum() takes is the state that it allocates and makes a number of.
CREATE AGGREGATE credyt.total(numeric) (
    sfunc = pg_catalog.numeric_add, stype = numeric, combinefunc = pg_catalog.numeric_add, parallel = safe
);
COMMENT ON AGGREGATE credyt.total(numeric) IS 'The sum of a few numbers: the same as sum(), and faster for a few.';

CREATE AGGREGATE credyt.total_count(bigint) (
    sfunc = pg_catalog.int8pl, stype = bigint, combinefunc = pg_catalog.int8pl, parallel = safe
);
COMMENT ON AGGREGATE credyt.total_count(bigint) IS 'The sum of counts, as a bigint.';

-- The plan is made for the question, with more memory for the groups than a small query needs. Without sorting, which the
-- planner would take to be as fast: it expects far more rows that are newer than the rollups than there are. What workers add
-- up is all that is read where they help; the session has their sums to add and to show.
CREATE FUNCTION credyt.margin(
    "by"   text[],
    since  timestamptz DEFAULT NULL,
    until  timestamptz DEFAULT NULL,
    asset  text DEFAULT NULL
) RETURNS SETOF credyt.margin_report
    AS 'MODULE_PATHNAME', 'credyt_margin' LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET work_mem = '64MB' SET enable_sort = off
    SET parallel_leader_participation = off;
COMMENT ON FUNCTION credyt.margin(text[], timestamptz, timestamptz, text) IS
    'Revenue, vendor cost and margin by any of day, action, customer, vendor, model, kind and scope.';

CREATE VIEW credyt.margin_by_action AS
SELECT m.asset, m.action,
       m.debits, m.quantity, m.credits, m.revenue, m.cost, m.margin, m.margin_ratio, m.cost_coverage
FROM credyt.margin(ARRAY['action']) AS m;
COMMENT ON VIEW credyt.margin_by_action IS 'What does each action earn, and what does it cost? All time, refunds taken off.';
COMMENT ON COLUMN credyt.margin_by_action.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.margin_by_action.action IS 'What customers did; NULL: revenue taken back by revoked grants, and costs without a debit.';
COMMENT ON COLUMN credyt.margin_by_action.debits IS 'How many debits and captures; one counts under each of its models, kinds and scopes, and once in a total.';
COMMENT ON COLUMN credyt.margin_by_action.quantity IS 'Sum of their quantities.';
COMMENT ON COLUMN credyt.margin_by_action.credits IS 'Credits spent, less refunds.';
COMMENT ON COLUMN credyt.margin_by_action.revenue IS 'Money earned by them.';
COMMENT ON COLUMN credyt.margin_by_action.cost IS 'Vendor cost that is known; NULL: none is.';
COMMENT ON COLUMN credyt.margin_by_action.margin IS 'Revenue less known cost.';
COMMENT ON COLUMN credyt.margin_by_action.margin_ratio IS 'Margin / revenue; NULL without revenue.';
COMMENT ON COLUMN credyt.margin_by_action.cost_coverage IS 'Share of the debits whose cost is fully known, 0 to 1; NULL without debits.';

-- A query of its own, so that one customer's rows are all that is read for one customer.
CREATE VIEW credyt.margin_by_customer AS
SELECT s.asset, s.customer, s.debits, trim_scale(s.quantity) AS quantity, trim_scale(s.credits) AS credits,
       credyt.as_money(s.revenue) AS revenue,
       CASE WHEN s.cost <> 0 OR s.costed > 0 THEN credyt.as_money(s.cost) END AS cost,
       credyt.as_money(s.revenue - coalesce(s.cost, 0)) AS margin,
       trim_scale((s.revenue - coalesce(s.cost, 0)) / nullif(s.revenue, 0)) AS margin_ratio,
       trim_scale(coalesce(s.costed, 0) / nullif(s.debits, 0)::numeric) AS cost_coverage
FROM (
    SELECT t.asset, t.customer,
           coalesce(sum(t.debits) FILTER (WHERE t.report_mask & 1 <> 0), 0)::bigint AS debits,
           sum(t.debits) FILTER (WHERE t.report_mask & 1 <> 0 AND t.costed) AS costed,
           coalesce(sum(t.quantity) FILTER (WHERE t.report_mask & 1 <> 0), 0) AS quantity,
           sum(t.credits) AS credits, sum(t.revenue) AS revenue, sum(t.cost) AS cost
    FROM (
        SELECT r.asset, r.customer, r.report_mask, r.costed, r.debits, r.quantity, r.credits, r.revenue, r.cost
        FROM credyt.margin_customers r
        UNION ALL
        SELECT u.asset, u.customer, u.report_mask, u.costed, u.debits, u.quantity, u.credits, u.revenue, u.cost
        FROM credyt.margin_unrolled u
    ) t
    GROUP BY t.asset, t.customer
) s
WHERE s.debits <> 0 OR s.quantity <> 0 OR s.credits <> 0 OR s.revenue <> 0 OR s.cost <> 0;
COMMENT ON VIEW credyt.margin_by_customer IS 'What does each customer earn and cost? All time, refunds taken off.';
COMMENT ON COLUMN credyt.margin_by_customer.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.margin_by_customer.customer IS 'Customer.';
COMMENT ON COLUMN credyt.margin_by_customer.debits IS 'How many debits and captures; one counts under each of its models, kinds and scopes, and once in a total.';
COMMENT ON COLUMN credyt.margin_by_customer.quantity IS 'Sum of their quantities.';
COMMENT ON COLUMN credyt.margin_by_customer.credits IS 'Credits spent, less refunds.';
COMMENT ON COLUMN credyt.margin_by_customer.revenue IS 'Money earned by them.';
COMMENT ON COLUMN credyt.margin_by_customer.cost IS 'Vendor cost that is known; NULL: none is.';
COMMENT ON COLUMN credyt.margin_by_customer.margin IS 'Revenue less known cost.';
COMMENT ON COLUMN credyt.margin_by_customer.margin_ratio IS 'Margin / revenue; NULL without revenue.';
COMMENT ON COLUMN credyt.margin_by_customer.cost_coverage IS 'Share of the debits whose cost is fully known, 0 to 1; NULL without debits.';

CREATE VIEW credyt.margin_by_model AS
SELECT m.asset, m.vendor, m.model,
       m.debits, m.quantity, m.credits, m.revenue, m.cost, m.margin, m.margin_ratio, m.cost_coverage
FROM credyt.margin(ARRAY['vendor', 'model']) AS m;
COMMENT ON VIEW credyt.margin_by_model IS 'What is earned with each vendor''s models, and what do they cost? All time.';
COMMENT ON COLUMN credyt.margin_by_model.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.margin_by_model.vendor IS 'Vendor; NULL: not known.';
COMMENT ON COLUMN credyt.margin_by_model.model IS 'Model; NULL: not known.';
COMMENT ON COLUMN credyt.margin_by_model.debits IS 'How many debits and captures; one counts under each of its models, kinds and scopes, and once in a total.';
COMMENT ON COLUMN credyt.margin_by_model.quantity IS 'Sum of their quantities.';
COMMENT ON COLUMN credyt.margin_by_model.credits IS 'Credits spent, less refunds.';
COMMENT ON COLUMN credyt.margin_by_model.revenue IS 'Money earned by them.';
COMMENT ON COLUMN credyt.margin_by_model.cost IS 'Vendor cost that is known; NULL: none is.';
COMMENT ON COLUMN credyt.margin_by_model.margin IS 'Revenue less known cost.';
COMMENT ON COLUMN credyt.margin_by_model.margin_ratio IS 'Margin / revenue; NULL without revenue.';
COMMENT ON COLUMN credyt.margin_by_model.cost_coverage IS 'Share of the debits whose cost is fully known, 0 to 1; NULL without debits.';

CREATE VIEW credyt.margin_daily AS
SELECT m.asset, m.day, m.action,
       m.debits, m.quantity, m.credits, m.revenue, m.cost, m.margin, m.margin_ratio, m.cost_coverage
FROM credyt.margin(ARRAY['day', 'action']) AS m;
COMMENT ON VIEW credyt.margin_daily IS 'What does each action earn and cost, day by day?';
COMMENT ON COLUMN credyt.margin_daily.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.margin_daily.day IS 'The day in the time zone of the asset.';
COMMENT ON COLUMN credyt.margin_daily.action IS 'What customers did; NULL: revenue taken back by revoked grants, and costs without a debit.';
COMMENT ON COLUMN credyt.margin_daily.debits IS 'How many debits and captures; one counts under each of its models, kinds and scopes, and once in a total.';
COMMENT ON COLUMN credyt.margin_daily.quantity IS 'Sum of their quantities.';
COMMENT ON COLUMN credyt.margin_daily.credits IS 'Credits spent, less refunds.';
COMMENT ON COLUMN credyt.margin_daily.revenue IS 'Money earned by them.';
COMMENT ON COLUMN credyt.margin_daily.cost IS 'Vendor cost that is known; NULL: none is.';
COMMENT ON COLUMN credyt.margin_daily.margin IS 'Revenue less known cost.';
COMMENT ON COLUMN credyt.margin_daily.margin_ratio IS 'Margin / revenue; NULL without revenue.';
COMMENT ON COLUMN credyt.margin_daily.cost_coverage IS 'Share of the debits whose cost is fully known, 0 to 1; NULL without debits.';

CREATE VIEW credyt.negative_margin AS
SELECT m.asset, m.action, m.debits, m.quantity, m.credits, m.revenue, m.cost, m.margin, m.margin_ratio, m.cost_coverage,
       CASE WHEN m.revenue > 0 AND m.credits > 0 AND m.quantity > 0
            THEN (SELECT trim_scale((div(p.num * 1e10, p.den) + sign(mod(p.num * 1e10, p.den))) * 0.0000000001)
                  FROM (SELECT m.cost * m.credits AS num, m.revenue * m.quantity AS den) p) END AS break_even_credits
FROM credyt.margin_by_action m
WHERE m.margin < 0;
COMMENT ON VIEW credyt.negative_margin IS 'Which actions cost more than they earn, and what would each unit have to cost in credits?';
COMMENT ON COLUMN credyt.negative_margin.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.negative_margin.action IS 'What customers did; NULL: revenue taken back by revoked grants, and costs without a debit.';
COMMENT ON COLUMN credyt.negative_margin.debits IS 'How many debits and captures; one counts under each of its models, kinds and scopes, and once in a total.';
COMMENT ON COLUMN credyt.negative_margin.quantity IS 'Sum of their quantities.';
COMMENT ON COLUMN credyt.negative_margin.credits IS 'Credits spent, less refunds.';
COMMENT ON COLUMN credyt.negative_margin.revenue IS 'Money earned by them.';
COMMENT ON COLUMN credyt.negative_margin.cost IS 'Vendor cost that is known; NULL: none is.';
COMMENT ON COLUMN credyt.negative_margin.margin IS 'Revenue less known cost.';
COMMENT ON COLUMN credyt.negative_margin.margin_ratio IS 'Margin / revenue; NULL without revenue.';
COMMENT ON COLUMN credyt.negative_margin.cost_coverage IS 'Share of the debits whose cost is fully known, 0 to 1; NULL without debits.';
COMMENT ON COLUMN credyt.negative_margin.break_even_credits IS 'Credits per unit that would cover the known cost, rounded up at ten decimals; NULL: nothing earned, or nothing counted.';

CREATE VIEW credyt.runway AS
SELECT w.customer, w.asset, w.available,
       trim_scale(round(b.credits * 86400 / nullif(b.seconds, 0), 10)) AS burn_per_day,
       CASE WHEN b.credits > 0 AND b.seconds > 0
            THEN trim_scale(round(greatest(w.available, 0) * b.seconds / (b.credits * 86400), 2)) END AS days_left
FROM credyt.wallet_balances w
CROSS JOIN LATERAL (
    SELECT n.at, n.at - interval '7 days' AS since,
           -- Ids begin with the time of the row: a debit was booked no earlier than it happened.
           rpad(lpad(to_hex((extract(epoch FROM n.at - interval '7 days') * 1000)::bigint), 12, '0'), 32, '0')::uuid AS id
    FROM (SELECT credyt.statement_time() AS at) n
) n
CROSS JOIN LATERAL (
    SELECT coalesce(-sum(l.credits) FILTER (WHERE l.occurred_at >= n.since), 0) AS credits,
           min(l.occurred_at) FILTER (WHERE l.kind = 'debit') AS first
    FROM credyt.ledger l
    WHERE l.customer = w.customer AND l.asset = w.asset AND l.kind IN ('debit', 'refund') AND l.id >= n.id
) r
CROSS JOIN LATERAL (
    SELECT r.credits,
           extract(epoch FROM n.at - CASE
               WHEN r.first <= n.since OR EXISTS (
                   SELECT FROM credyt.ledger l
                   WHERE l.customer = w.customer AND l.asset = w.asset AND l.kind = 'debit' AND l.id < n.id) THEN n.since
               ELSE coalesce(r.first, n.since) END) AS seconds
) b;
COMMENT ON VIEW credyt.runway IS 'How many days will each customer''s credits last at the spending of the last seven days?';
COMMENT ON COLUMN credyt.runway.customer IS 'Customer.';
COMMENT ON COLUMN credyt.runway.asset IS 'Asset.';
COMMENT ON COLUMN credyt.runway.available IS 'Credits that can be spent now, overdraft included.';
COMMENT ON COLUMN credyt.runway.burn_per_day IS 'Credits spent a day, less refunds: over the last seven days, or since the first debit.';
COMMENT ON COLUMN credyt.runway.days_left IS 'Days until the credits are spent at that rate; NULL: nothing is being spent.';

-- A cost that was computed again leaves its correction here, and not what it corrects.
CREATE VIEW credyt.converted_costs AS
SELECT c.customer, c.asset, c.debit_id, c.cost_id, c.vendor, c.model, c.occurred_at, c.currency,
       credyt.as_money(round(c.cost / c.exchange_rate, 10)) AS currency_cost, c.exchange_rate, c.to_currency,
       credyt.as_money(c.cost) AS cost
FROM (
    SELECT l.customer, l.asset, l.id AS debit_id, NULL::uuid AS cost_id, p.part->>'vendor' AS vendor,
           p.part->>'model' AS model, l.occurred_at, p.part->>'currency' AS currency,
           (p.part->>'exchange_rate')::numeric AS exchange_rate, (p.part->>'cost')::numeric AS cost,
           a.currency AS to_currency
    FROM credyt.ledger l
    JOIN credyt.assets a ON a.asset = l.asset
    CROSS JOIN LATERAL jsonb_array_elements(l.costs) WITH ORDINALITY AS p (part, nth)
    WHERE l.kind = 'debit' AND p.part ? 'exchange_rate'
      AND NOT EXISTS (SELECT FROM credyt.vendor_costs k
                      WHERE k.customer = l.customer AND k.debit_id = l.id AND k.replaces = l.id AND k.part = p.nth - 1)
    UNION ALL
    SELECT c.customer, c.asset, c.debit_id, c.id, c.vendor, c.model, c.occurred_at, c.currency, c.exchange_rate, c.cost,
           a.currency
    FROM credyt.vendor_costs c
    JOIN credyt.assets a ON a.asset = c.asset
    WHERE c.exchange_rate IS NOT NULL
      AND NOT EXISTS (SELECT FROM credyt.vendor_costs k
                      WHERE k.customer = c.customer AND k.seq > c.seq
                        AND (k.replaces = c.id OR k.replaces = c.replaces AND k.part = c.part))
) c;
COMMENT ON VIEW credyt.converted_costs IS 'Which vendor costs were converted to the asset''s currency, and at which rate?';
COMMENT ON COLUMN credyt.converted_costs.customer IS 'Customer.';
COMMENT ON COLUMN credyt.converted_costs.asset IS 'In whose margin it counts.';
COMMENT ON COLUMN credyt.converted_costs.debit_id IS 'The debit; NULL: it was recorded without one.';
COMMENT ON COLUMN credyt.converted_costs.cost_id IS 'The row of credyt.vendor_costs; NULL: the cost came with the debit.';
COMMENT ON COLUMN credyt.converted_costs.vendor IS 'Who charges it.';
COMMENT ON COLUMN credyt.converted_costs.model IS 'For what.';
COMMENT ON COLUMN credyt.converted_costs.occurred_at IS 'When it happened: the rate is that of this moment.';
COMMENT ON COLUMN credyt.converted_costs.currency IS 'The currency that the vendor charges.';
COMMENT ON COLUMN credyt.converted_costs.currency_cost IS 'Money in that currency: cost divided by exchange_rate.';
COMMENT ON COLUMN credyt.converted_costs.exchange_rate IS 'Units of to_currency for one of currency.';
COMMENT ON COLUMN credyt.converted_costs.to_currency IS 'The asset''s currency.';
COMMENT ON COLUMN credyt.converted_costs.cost IS 'Money in the asset''s currency.';
