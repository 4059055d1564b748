-- Reports agree at every moment: each includes what is due and no call has booked yet.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-09-01 00:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image', '1');
SELECT credyt.set_price('video', '2');
SELECT credyt.create_plan('pro', 100, paid => 20);
SELECT credyt.create_plan('free', 0);
SELECT credyt.open_wallet('owes', overdraft_limit => 100);
SELECT credyt.debit_credits('owes', 'image', 40, cost => 3, scopes => '{user:ann}');
SELECT credyt.subscribe('owes', 'pro', starts_at => '2026-10-01');
SELECT credyt.grant_credits('ends', 50, paid => 5, expires_at => '2026-10-01');
SELECT credyt.debit_credits('ends', 'image', 10, cost => 2);
SELECT credyt.authorize('ends', 'video', 4, ttl_seconds => 3000000);
SELECT credyt.set_alert('ends', 45);
SELECT credyt.set_topup('owes', 20, 500);
SELECT credyt.subscribe('ends', 'free');
UPDATE credyt.clock SET now = '2026-11-03 00:00+00';
-- All that reports say, as one text.
CREATE VIEW all_reports AS
SELECT 'margin' AS report, string_agg(m::text, ' ' ORDER BY m::text) AS says
FROM credyt.margin('{day,action,customer,vendor,model,kind,scope}') m
UNION ALL SELECT 'margin by customer', string_agg(m::text, ' ' ORDER BY m::text) FROM credyt.margin_by_customer m
UNION ALL SELECT 'part of a day', string_agg(m::text, ' ' ORDER BY m::text) FROM credyt.margin('{day}', '2026-09-30 12:00+00', '2026-10-01 12:00+00') m
UNION ALL SELECT 'negative margin', string_agg(m::text, ' ' ORDER BY m::text) FROM credyt.negative_margin m
UNION ALL SELECT 'suggested price', string_agg(m::text, ' ' ORDER BY m::text) FROM credyt.suggest_price('image', 0.5) m
UNION ALL SELECT 'rollforward', string_agg(r::text, ' ' ORDER BY r::text) FROM credyt.revenue_rollforward(NULL, NULL) r
UNION ALL SELECT 'deferred', string_agg(d::text, ' ' ORDER BY d::text) FROM credyt.deferred_revenue d
UNION ALL SELECT 'deferred at', string_agg(d::text, ' ' ORDER BY d::text) FROM credyt.deferred_revenue_at('2026-10-15') d
UNION ALL SELECT 'breakage', string_agg(b::text, ' ' ORDER BY b::text) FROM credyt.breakage b
UNION ALL SELECT 'statement', string_agg(concat_ws('|', s.customer, s.occurred_at, s.kind, s.credits, s.balance, s.revenue, s.reason, s.grant_id IS NULL), ' ' ORDER BY s.customer, s.occurred_at, s.kind) FROM credyt.statement s
UNION ALL SELECT 'balances', string_agg(concat_ws('|', b.customer, b.settled, b.held, b.available, b.owed), ' ' ORDER BY b.customer) FROM credyt.wallet_balances b
UNION ALL SELECT 'grants', string_agg(concat_ws('|', g.customer, g.kind, g.remaining, g.held, g.deferred, g.effective_at), ' ' ORDER BY g.id) FROM credyt.grant_balances g
UNION ALL SELECT 'subscriptions', string_agg(s::text, ' ' ORDER BY s::text) FROM credyt.subscriptions s
UNION ALL SELECT 'renewals', string_agg(r::text, ' ' ORDER BY r::text) FROM credyt.renewals r
UNION ALL SELECT 'alerts', string_agg(a::text, ' ' ORDER BY a::text) FROM credyt.alerts a
UNION ALL SELECT 'past', string_agg(concat_ws('|', w.customer, at::date, b.settled, b.owed), ' ' ORDER BY w.customer, at)
          FROM credyt.wallets w, unnest('{2026-09-02, 2026-09-30, 2026-10-01, 2026-10-15, 2026-11-01}'::timestamptz[]) AS at, credyt.balance(w.customer, at => at) b
UNION ALL SELECT 'future', string_agg(concat_ws('|', w.customer, at::date, b.*), ' ' ORDER BY w.customer, at)
          FROM credyt.wallets w, unnest('{2026-11-03, 2026-11-30, 2026-12-01, 2027-06-15}'::timestamptz[]) AS at, credyt.balance(w.customer, at => at) b;
CREATE TABLE before AS SELECT * FROM all_reports;
\o

-- A debt that a renewal has paid, and credits that have ended: everywhere, and nothing is booked
SELECT action, customer, kind, revenue, cost FROM credyt.margin('{action,customer,kind}') ORDER BY 1, 2, 3;
SELECT scope, revenue FROM credyt.margin('{scope}') ORDER BY 1;
SELECT customer, revenue, cost, margin FROM credyt.margin_by_customer ORDER BY 1;
SELECT * FROM credyt.revenue_rollforward(NULL, NULL);
SELECT * FROM credyt.deferred_revenue;
SELECT * FROM credyt.breakage;
SELECT customer, settled, available FROM credyt.wallet_balances ORDER BY 1;
SELECT count(*) FROM credyt.ledger;
SELECT seq, id IS NULL AS pending, occurred_at::date, created_at::date, kind, action, quantity, credits, balance, revenue, cost, reason, scopes
FROM credyt.statement WHERE customer = 'owes' ORDER BY seq;
SELECT seq, occurred_at::date, created_at::date, kind, credits, balance FROM credyt.statement WHERE customer = 'ends' ORDER BY seq;
SELECT g.kind FROM credyt.statement s JOIN credyt.grant_balances g ON g.id = s.grant_id WHERE s.customer = 'owes' ORDER BY s.seq;

-- The same once they are booked: an expiry of 1 October is one of 1 October
\o /dev/null
SELECT credyt.maintain();
\o
SELECT b.report, b.says AS before, a.says AS after FROM before b JOIN all_reports a USING (report) WHERE b.says IS DISTINCT FROM a.says;
SELECT count(*) FROM all_reports WHERE says <> '';
SELECT seq, occurred_at::date, created_at::date, kind, credits, balance FROM credyt.statement WHERE customer = 'ends' ORDER BY seq;

-- Who is on which plan
SELECT customer, plan, version, quantity, status, starts_at, period_start, period_end, paid_through, next_plan, grant_id IS NULL AS nothing FROM credyt.subscriptions ORDER BY customer;
SELECT g.kind, g.credits, g.effective_at::date FROM credyt.grant_balances g WHERE (g.customer, g.id) IN (SELECT s.customer, s.grant_id FROM credyt.subscriptions s);
\o /dev/null
SELECT credyt.subscribe('later', 'pro', starts_at => '2027-01-31');
SELECT credyt.subscribe('pays', 'pro', paid_through => '2026-12-01');
SELECT credyt.subscribe('left', 'pro');
SELECT credyt.unsubscribe('left', 'pro');
UPDATE credyt.clock SET now = '2026-12-20 00:00+00';
\o
SELECT customer, plan, version, status, starts_at::date, period_start::date, period_end::date, paid_through::date FROM credyt.subscriptions ORDER BY customer;

-- Rules, and where they stand
SELECT * FROM credyt.alerts;
SELECT customer, asset, threshold, credits, enabled, balance, in_flight IS NOT NULL AS in_flight FROM credyt.topups;

-- What will be there if nothing is spent until then: renewals that are paid for, ends, holds
SELECT at::date, b.* FROM unnest('{2026-12-20, 2026-12-31, 2027-01-01, 2030-03-31}'::timestamptz[]) AS at, credyt.balance('owes', at => at) b;
SELECT at::date, b.settled FROM unnest('{2026-12-31, 2027-03-31}'::timestamptz[]) AS at, credyt.balance('pays', at => at) b;
SELECT at::date, b.settled, b.available FROM unnest('{2027-01-30, 2027-01-31, 2027-02-28}'::timestamptz[]) AS at, credyt.balance('later', at => at) b;
\o /dev/null
SELECT credyt.grant_credits('holds', 10, expires_at => '2027-02-01');
SELECT credyt.authorize('holds', 'image', 4, ttl_seconds => 86400 * 60);
\o
SELECT at::date, b.settled, b.held, b.available, b.next_expiry::date FROM unnest('{2027-01-31, 2027-02-01, 2027-02-17, 2027-02-18}'::timestamptz[]) AS at, credyt.balance('holds', at => at) b;
SELECT settled FROM credyt.balance('nobody', at => '2030-01-01');
SELECT settled FROM credyt.balance('owes', at => '2036-12-20');
\set VERBOSITY terse
SELECT credyt.balance('owes', at => '2036-12-20 00:00:01+00');
\echo :SQLSTATE
SELECT credyt.balance('nobody', at => 'infinity');
\echo :SQLSTATE

-- The order of spending has nothing that cannot be spent
\o /dev/null
SELECT credyt.grant_credits('order', 5, expires_at => '2027-01-15');
SELECT credyt.grant_credits('order', 7, 'promotional', effective_at => '2027-01-01');
SELECT credyt.grant_credits('order', 3);
SELECT credyt.authorize('order', 'image', 5, ttl_seconds => 86400 * 60);
\o
SELECT position, kind, remaining, held FROM credyt.spend_order WHERE customer = 'order';
UPDATE credyt.clock SET now = '2027-01-02 00:00+00';
SELECT position, kind, remaining, held FROM credyt.spend_order WHERE customer = 'order';
SELECT sum(remaining - held) AS listed FROM credyt.spend_order WHERE customer = 'order';
SELECT available FROM credyt.balance('order');
\o /dev/null
SELECT credyt.freeze_wallet('order');
\o
SELECT position, kind, remaining, held FROM credyt.spend_order WHERE customer = 'order';
SELECT * FROM credyt.verify();

-- Inside CALL and DO every statement has its own time
DELETE FROM credyt.clock;
\o /dev/null
SELECT credyt.grant_credits('calls', 8, expires_at => clock_timestamp() + interval '1 second');
\o
CREATE PROCEDURE looks(INOUT early numeric, INOUT late numeric, INOUT view numeric, INOUT refused text) LANGUAGE plpgsql AS $$
BEGIN
    early := (SELECT available FROM credyt.balance('calls'));
    PERFORM pg_sleep(1.1);
    late := (SELECT available FROM credyt.balance('calls'));
    view := (SELECT available FROM credyt.wallet_balances WHERE customer = 'calls');
    BEGIN
        PERFORM credyt.debit_credits('calls', 'image', credits => 1);
    EXCEPTION WHEN SQLSTATE 'WC001' THEN
        refused := SQLSTATE;
    END;
END $$;
CALL looks(NULL, NULL, NULL, NULL);
