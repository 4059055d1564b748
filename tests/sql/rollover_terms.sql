-- Rollover by percent, at most so often, under one cap over all of it; plans by the hour.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 00:00+00');
CREATE FUNCTION pg_temp.clock(at timestamptz) RETURNS void LANGUAGE sql AS 'UPDATE credyt.clock SET now = at';
\o /dev/null
SELECT credyt.create_asset('credits');
\o
SELECT version, rollover, rollover_percent, rollover_periods FROM credyt.create_plan('half', 100, paid => 20, rollover => NULL, rollover_percent => 50);
SELECT version, rollover, rollover_percent, rollover_periods FROM credyt.create_plan('once', 100, paid => 20, rollover => NULL, rollover_periods => 1);
SELECT version FROM credyt.create_plan('once', 100, paid => 20, rollover => NULL, rollover_periods => 1);
SELECT version FROM credyt.create_plan('capped', 100, paid => 20, rollover => 120, rollover_percent => 90, rollover_periods => 2);
SELECT version, rollover_percent FROM credyt.create_plan('thirds', 10.01, paid => 1, rollover => NULL, rollover_percent => 33.3333333333);
SELECT version FROM credyt.create_plan('never', 100, rollover => NULL, rollover_periods => 0);
\o /dev/null
SELECT credyt.subscribe('ann', 'half'), credyt.subscribe('bob', 'once'), credyt.subscribe('cy', 'capped'), credyt.subscribe('dee', 'thirds'),
       credyt.subscribe('eve', 'never'), credyt.subscribe('fay', 'half', paid_through => '2026-02-01'), credyt.subscribe('gus', 'once', paid_through => '2026-02-01');
SELECT credyt.debit_credits('bob', 'image', credits => 30);
\o
-- A part that is held stays with its hold: half of the other 60 moves
SELECT available FROM credyt.authorize('ann', 'image', credits => 40, ttl_seconds => 10000000);

SELECT pg_temp.clock('2026-02-01');
SELECT customer, credits, remaining, held, paid, deferred, origin IS NOT NULL AS rolled FROM credyt.grant_balances
WHERE expires_at = '2026-03-01' ORDER BY customer, id;
SELECT settled, held, available FROM credyt.balance('ann');
-- Behind a gate half of it waits, and is not halved again
SELECT settled, available FROM credyt.balance('fay');
\o /dev/null
SELECT credyt.pay_subscription('fay', 'half', '2026-03-01'), credyt.pay_subscription('gus', 'once', '2026-03-01');
\o
SELECT settled, available FROM credyt.balance('fay');

-- bob's 70 have moved once, and end; his 100 of February move. The cap of cy is over all of it, the oldest first
SELECT pg_temp.clock('2026-03-01');
SELECT customer, credits, paid, origin IS NOT NULL AS rolled FROM credyt.grant_balances
WHERE expires_at = '2026-04-01' ORDER BY customer, id;
-- What has moved as often as it may does not wait for a payment either
SELECT settled, available FROM credyt.balance('gus');
-- Booked, it is the same
\o /dev/null
CREATE TABLE seen AS SELECT * FROM credyt.grant_balances;
SELECT credyt.open_wallet(customer) FROM credyt.wallet_balances;
\o
SELECT * FROM credyt.grant_balances EXCEPT SELECT * FROM seen;
SELECT pg_temp.clock('2026-04-01');
SELECT customer, credits, origin IS NOT NULL AS rolled FROM credyt.grant_balances
WHERE expires_at = '2026-05-01' AND customer IN ('bob', 'cy') ORDER BY customer, id;

-- Other terms: the limit is new, and what has moved without one has moved as often as its oldest part
SELECT version FROM credyt.create_plan('half', 100, paid => 20, rollover => NULL, rollover_periods => 2);
SELECT pg_temp.clock('2026-07-01');
SELECT credits, origin IS NOT NULL AS rolled FROM credyt.grant_balances WHERE customer = 'ann' AND expires_at = '2026-08-01' ORDER BY id;

-- By the hour
SELECT version, every FROM credyt.create_plan('hourly', 5, '1 hour', rollover => NULL, rollover_periods => 3);
SELECT period_start, period_end FROM credyt.subscribe('hal', 'hourly');
SELECT pg_temp.clock('2026-07-01 06:30');
SELECT settled, next_expiry FROM credyt.balance('hal');
SELECT plan, period_start, period_end FROM credyt.subscriptions WHERE customer = 'hal';

\set VERBOSITY terse
SELECT credyt.create_plan('x', 1, rollover_percent => 101);
SELECT credyt.create_plan('x', 1, rollover_percent => -1);
SELECT credyt.create_plan('x', 1, rollover_percent => NULL);
SELECT credyt.create_plan('x', 1, rollover_periods => -1);
SELECT credyt.create_plan('x', 1, rollover_periods => 1001);
SELECT credyt.create_plan('x', 1, '1 minute');
SELECT credyt.create_plan('x', 1, '0 hours');
UPDATE credyt.plans SET rollover_periods = 9;
SELECT * FROM credyt.verify();
