-- Plans: included credits period by period, what rolls over, and who has paid.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset null -
\pset footer off
SELECT FROM credyt.create_asset('credits', timezone => 'Europe/Berlin');
INSERT INTO credyt.clock VALUES ('2026-01-31 09:00Z');
CREATE FUNCTION pg_temp.clock(at timestamptz) RETURNS void LANGUAGE sql AS 'UPDATE credyt.clock SET now = at';

-- A plan; the same terms again are harmless, other terms make a new version
SELECT * FROM credyt.create_plan('pro', 100, paid => 20, rollover => 30);
SELECT version FROM credyt.create_plan('pro', 100.00, '1 month', paid => 20.00, rollover => 30.0);
SELECT version, every, rollover, applies_to FROM credyt.create_plan('team', 500, '12 months', rollover => NULL, applies_to => ARRAY['image.*']);
SELECT version, every FROM credyt.create_plan('team', 500, '1 year', rollover => NULL, applies_to => ARRAY['image.*']);
SELECT version, every, credits FROM credyt.create_plan('free', 0, '7 days');

-- The first credits come at once; again, with or without its key, it is the running subscription
SELECT plan, version, asset, credits, timezone, status, starts_at, period_start, period_end, next_renewal_at, paid_through, ends_at, replayed
FROM credyt.subscribe('ann', 'pro', idempotency_key => 's1');
SELECT status, period_start, replayed FROM credyt.subscribe('ann', 'pro', idempotency_key => 's1');
SELECT status, period_start, replayed FROM credyt.subscribe('ann', 'pro');
SELECT settled, available, next_expiry FROM credyt.balance('ann');
SELECT kind, credits, remaining, paid, deferred, effective_at, expires_at, origin FROM credyt.grant_balances;
SELECT kind, credits, occurred_at, reason, idempotency_key FROM credyt.ledger;
SELECT * FROM credyt.renewals;

-- Spent 60: 30 of the rest roll over, 10 end. Reads show it before any call
SELECT credits, revenue FROM credyt.debit_credits('ann', 'image', credits => 60);
SELECT pg_temp.clock('2026-02-28 08:59:59Z');
SELECT settled FROM credyt.balance('ann');
SELECT pg_temp.clock('2026-02-28 09:00Z');
SELECT settled, available, next_expiry FROM credyt.balance('ann');
SELECT settled, available FROM credyt.wallet_balances;
CREATE TABLE before AS SELECT * FROM credyt.grant_balances;
SELECT credits, remaining, paid, deferred, effective_at, expires_at, origin IS NOT NULL AS rolled FROM before ORDER BY id;
SELECT position, remaining, expires_at FROM credyt.spend_order;
SELECT remaining, expires_at FROM credyt.expiring_grants ORDER BY 1;
SELECT * FROM credyt.breakage;
SELECT * FROM credyt.deferred_revenue;
SELECT * FROM credyt.renewals;
SELECT count(*) FROM credyt.ledger;
-- The next call books it; nothing that could be read is another one then, not even an id
SELECT credits, revenue, available FROM credyt.debit_credits('ann', 'image', credits => 0);
SELECT * FROM credyt.grant_balances EXCEPT SELECT * FROM before;
SELECT seq, kind, credits, revenue, occurred_at, reason, refers_to = g.id AS of_first FROM credyt.ledger
CROSS JOIN (SELECT id FROM before ORDER BY id LIMIT 1) g ORDER BY seq;
SELECT * FROM credyt.breakage;
SELECT * FROM credyt.renewals;
-- What rolled over burns first
SELECT credits, revenue, available FROM credyt.debit_credits('ann', 'image', credits => 40);
SELECT credits, remaining, origin IS NOT NULL AS rolled FROM credyt.grant_balances WHERE remaining > 0;
SELECT settled FROM credyt.balance('ann', at => '2026-02-28 08:59Z');
SELECT settled FROM credyt.balance('ann', at => '2026-02-28 09:00Z');

-- New terms count from the next period on, and the hour is Berlin's
SELECT pg_temp.clock('2026-03-10Z');
SELECT version, created_at FROM credyt.create_plan('pro', 200, paid => 30, rollover => 0);
SELECT version, credits, replayed FROM credyt.subscribe('ann', 'pro');
SELECT * FROM credyt.renewals;
SELECT pg_temp.clock('2026-04-30 12:00Z');
SELECT settled, next_expiry FROM credyt.balance('ann');
SELECT FROM credyt.open_wallet('ann');
SELECT kind, credits, occurred_at FROM credyt.ledger WHERE seq > 7 ORDER BY seq;
SELECT version, period_start, next_renewal_at FROM credyt.booked_subscriptions;

-- Unsubscribed later: renewals until then; at once: what was granted stays
SELECT status, next_renewal_at, ends_at, replayed FROM credyt.unsubscribe('ann', 'pro', '2026-06-01Z');
SELECT * FROM credyt.renewals;
SELECT status, ends_at, replayed FROM credyt.subscribe('ann', 'pro');
SELECT status, ends_at, replayed FROM credyt.unsubscribe('ann', 'pro', '2020-01-01Z');
SELECT status, ends_at, replayed FROM credyt.unsubscribe('ann', 'pro');
SELECT count(*) FROM credyt.renewals;
SELECT settled FROM credyt.balance('ann');
SELECT pg_temp.clock('2026-06-30Z');
SELECT settled FROM credyt.balance('ann');
-- Subscribed again it is another subscription
SELECT status, starts_at, replayed FROM credyt.subscribe('ann', 'pro');
SELECT count(*), count(DISTINCT id) FROM credyt.booked_subscriptions;

-- A gate: nothing is granted before it is paid
SELECT status, period_start, next_renewal_at FROM credyt.subscribe('bob', 'pro', paid_through => '2026-06-30Z');
SELECT settled FROM credyt.balance('bob');
SELECT customer, next_renewal_at, credits FROM credyt.renewals ORDER BY 1;
SELECT status, period_start, paid_through, replayed FROM credyt.pay_subscription('bob', 'pro', '2026-07-30Z', 'pay-1');
SELECT status, period_start, paid_through, replayed FROM credyt.pay_subscription('bob', 'pro', '2026-07-30Z', 'pay-1');
SELECT settled FROM credyt.balance('bob');
-- Three periods late: each has its turn, and is over at once, but the last
SELECT pg_temp.clock('2026-10-15Z');
SELECT settled FROM credyt.balance('bob');
SELECT status, period_start, paid_through FROM credyt.pay_subscription('bob', 'pro', '2026-10-30Z', 'pay-2');
SELECT seq, kind, credits, occurred_at FROM credyt.ledger WHERE customer = 'bob' ORDER BY seq;
SELECT settled FROM credyt.balance('bob', at => '2026-10-01Z');
SELECT settled FROM credyt.balance('bob');
-- An older payment that arrives later takes nothing back
SELECT paid_through FROM credyt.pay_subscription('bob', 'pro', '2026-08-30Z', 'pay-0');

-- A plan without credits renews without a grant; one that starts later waits
SELECT status, credits, next_renewal_at FROM credyt.subscribe('eve', 'free');
SELECT status, period_start, next_renewal_at FROM credyt.subscribe('eve', 'team', '2026-11-01Z', timezone => 'America/New_York');
SELECT settled, available FROM credyt.balance('eve');
SELECT pg_temp.clock('2026-11-02Z');
SELECT settled FROM credyt.balance('eve');
SELECT plan, next_renewal_at, credits FROM credyt.renewals WHERE customer = 'eve' ORDER BY plan;
SELECT FROM credyt.open_wallet('eve');
SELECT kind, credits FROM credyt.ledger WHERE customer = 'eve';
SELECT priority, applies_to FROM credyt.grant_balances WHERE customer = 'eve';

-- A frozen wallet renews
UPDATE credyt.wallets SET status = 'frozen' WHERE customer = 'bob';
SELECT paid_through FROM credyt.pay_subscription('bob', 'pro', '2027-01-01Z');
SELECT settled FROM credyt.balance('bob');
SELECT available FROM credyt.debit_credits('bob', 'image', credits => 1);

-- Refusals
\set VERBOSITY default
SELECT credyt.subscribe('ann', 'gold');
SELECT credyt.subscribe('ann', 'team', idempotency_key => 's1');
SELECT credyt.pay_subscription('bob', 'pro', '2027-01-01Z', 'pay-3'), credyt.grant_credits('bob', 1, idempotency_key => 'pay-2');
SELECT credyt.pay_subscription('fay', 'pro', '2027-01-01Z');
SELECT credyt.pay_subscription('bob', 'pro', NULL);
SELECT credyt.unsubscribe('fay', 'pro');
SELECT credyt.unsubscribe('ann', 'free');
\set VERBOSITY terse
SELECT credyt.subscribe('fay', 'pro', timezone => 'Mars/Olympus');
SELECT credyt.subscribe('fay', 'pro', '1900-01-01Z');
SELECT credyt.create_plan('x', 1, 'month');
SELECT credyt.create_plan('x', 1, '0 days');
SELECT credyt.create_plan('x', 1, '1 minute');
SELECT credyt.create_plan('x', 1, '11 years');
SELECT credyt.create_plan('x', 1.001);
SELECT credyt.create_plan('x', -1);
SELECT credyt.create_plan('x', 0, paid => 1);
SELECT credyt.create_plan('x', 1, rollover => 0.001);
SELECT credyt.create_plan('x', 1, asset => 'gems');
SELECT credyt.create_plan('x', 1, applies_to => '{}');
SELECT FROM credyt.create_asset('gems');
SELECT credyt.create_plan('pro', 1, asset => 'gems');
SELECT credyt.create_plan('x', 1e15);
SELECT count(*) FROM credyt.plans WHERE plan = 'x';
UPDATE credyt.plans SET credits = 1;

SELECT * FROM credyt.verify();
