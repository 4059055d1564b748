-- A period of a plan is granted once, however often a customer leaves and comes back.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-31 09:00+00');
\o /dev/null
SELECT credyt.create_asset('credits'), credyt.create_plan('pro', 100, paid => 20, rollover => 30), credyt.create_plan('seat', 0);
SELECT credyt.subscribe('ann', 'pro', paid_through => '2026-03-31 09:00+00');
\o
SELECT available FROM credyt.debit_credits('ann', 'image', credits => 80);

-- Left and come back five times: the anchor and what is paid stay, and nothing is granted again
UPDATE credyt.clock SET now = '2026-02-10';
SELECT status, ends_at FROM credyt.unsubscribe('ann', 'pro');
SELECT status, starts_at, period_start, period_end, paid_through, ends_at, replayed FROM credyt.subscribe('ann', 'pro', paid_through => '2027-01-01');
\o /dev/null
SELECT credyt.unsubscribe('ann', 'pro'), credyt.subscribe('ann', 'pro') FROM generate_series(1, 4);
\o
SELECT count(*) FROM credyt.booked_subscriptions;
SELECT count(*) AS grants, sum(credits) AS credits, sum(paid) AS paid FROM credyt.grant_balances;
SELECT settled FROM credyt.balance('ann');
-- Renewals go on as if nothing had been: 20 roll over
UPDATE credyt.clock SET now = '2026-02-28 09:00+00';
SELECT settled FROM credyt.balance('ann');

-- An end that is set for later, and a start after it within the period that is granted before that end
SELECT status, ends_at FROM credyt.unsubscribe('ann', 'pro', '2026-03-10');
SELECT status, starts_at, ends_at FROM credyt.subscribe('ann', 'pro', '2026-03-20');
-- Left, and back after the period has ended: the next period of another subscription
SELECT status FROM credyt.unsubscribe('ann', 'pro');
UPDATE credyt.clock SET now = '2026-03-31 09:00+00';
SELECT settled FROM credyt.balance('ann');
SELECT status, starts_at, period_end FROM credyt.subscribe('ann', 'pro');
SELECT settled FROM credyt.balance('ann');

-- A later subscription that never began does not hide the period that was granted
SELECT status FROM credyt.unsubscribe('ann', 'pro');
SELECT status, starts_at FROM credyt.subscribe('ann', 'pro', '2026-06-15');
SELECT status FROM credyt.unsubscribe('ann', 'pro');
SELECT status, starts_at FROM credyt.subscribe('ann', 'pro');
SELECT settled FROM credyt.balance('ann');
-- And it is the one that is paid and ended
SELECT starts_at, ends_at FROM credyt.unsubscribe('ann', 'pro');

-- A period that was not paid for was not granted
SELECT status, starts_at FROM credyt.subscribe('bob', 'pro', paid_through => '2026-03-01');
SELECT status FROM credyt.unsubscribe('bob', 'pro');
UPDATE credyt.clock SET now = '2026-04-01 09:00+00';
SELECT status, starts_at FROM credyt.subscribe('bob', 'pro');
SELECT settled FROM credyt.balance('bob');

-- A plan without credits is resumed, too
SELECT starts_at FROM credyt.subscribe('cy', 'seat');
UPDATE credyt.clock SET now = '2026-04-02 09:00+00';
SELECT status FROM credyt.unsubscribe('cy', 'seat');
SELECT starts_at FROM credyt.subscribe('cy', 'seat');
SELECT * FROM credyt.verify();

-- Moved to another plan, which has renewed: a call without a key that comes again begins no second subscription
\o /dev/null
SELECT credyt.create_plan('max', 500, paid => 50), credyt.create_plan('trial', 20, '14 days');
UPDATE credyt.clock SET now = '2026-05-01';
SELECT credyt.subscribe('dee', 'pro', idempotency_key => 's1');
UPDATE credyt.clock SET now = '2026-05-10';
SELECT credyt.change_plan('dee', 'pro', 'max', proration => 'none');
UPDATE credyt.clock SET now = '2026-06-10';
\o
\set VERBOSITY default
SELECT credyt.subscribe('dee', 'pro');
-- A cancellation names the plan that it is on; a payment may name the one before
SELECT credyt.unsubscribe('dee', 'pro');
\set VERBOSITY terse
SELECT plan, paid_through FROM credyt.pay_subscription('dee', 'pro', '2027-01-01');
SELECT plan, replayed FROM credyt.subscribe('dee', 'pro', idempotency_key => 's1');
SELECT plan, status FROM credyt.subscriptions WHERE customer = 'dee';
SELECT settled FROM credyt.balance('dee');
-- A key of its own asks for one beside it
SELECT plan, starts_at, replayed FROM credyt.subscribe('dee', 'pro', idempotency_key => 's2');
SELECT plan, replayed FROM credyt.subscribe('dee', 'pro');
SELECT settled FROM credyt.balance('dee');
-- Left, it holds nothing back
SELECT plan, status FROM credyt.unsubscribe('dee', 'pro');
SELECT plan, status FROM credyt.unsubscribe('dee', 'max');
UPDATE credyt.clock SET now = '2026-07-10';
SELECT plan, starts_at FROM credyt.subscribe('dee', 'pro');
SELECT settled FROM credyt.balance('dee');

-- Moved at a renewal
\o /dev/null
UPDATE credyt.clock SET now = '2026-05-01';
SELECT credyt.subscribe('eli', 'max'), credyt.change_plan('eli', 'max', 'pro', at => 'renewal');
UPDATE credyt.clock SET now = '2026-06-02';
\o
SELECT plan FROM credyt.subscribe('eli', 'max');
SELECT plan, replayed FROM credyt.subscribe('eli', 'pro');

-- A trial that was left for a plan is not had again in the days it was to last, with a key, after leaving, or by another subscription
\o /dev/null
UPDATE credyt.clock SET now = '2026-05-01';
SELECT credyt.subscribe('fin', 'trial');
UPDATE credyt.clock SET now = '2026-05-03';
SELECT credyt.change_plan('fin', 'trial', 'pro', proration => 'restart'), credyt.subscribe('fin', 'seat');
\o
SELECT plan FROM credyt.subscribe('fin', 'trial');
SELECT plan FROM credyt.subscribe('fin', 'trial', idempotency_key => 't2');
SELECT plan FROM credyt.change_plan('fin', 'seat', 'trial', proration => 'restart');
SELECT status FROM credyt.unsubscribe('fin', 'pro');
\set VERBOSITY default
SELECT plan FROM credyt.subscribe('fin', 'trial');
\set VERBOSITY terse
SELECT settled FROM credyt.balance('fin');
-- The subscription itself may go back, and begins what it is asked to begin
SELECT plan, period_end FROM credyt.subscribe('fin', 'pro');
SELECT plan, period_start, period_end FROM credyt.change_plan('fin', 'pro', 'trial', proration => 'restart');
SELECT settled FROM credyt.balance('fin');

-- A start in the past, within a period that was granted: as if the call had come in time, the subscription is resumed
\o /dev/null
UPDATE credyt.clock SET now = '2026-05-01';
SELECT credyt.subscribe('gia', 'pro');
UPDATE credyt.clock SET now = '2026-05-05';
SELECT credyt.unsubscribe('gia', 'pro');
UPDATE credyt.clock SET now = '2026-06-10';
\o
SELECT starts_at, period_start, period_end FROM credyt.subscribe('gia', 'pro', '2026-05-20');
SELECT effective_at, credits, expires_at FROM credyt.grant_balances WHERE customer = 'gia' ORDER BY 1, 2;
-- Too many periods later it is refused as any other late start is
\o /dev/null
SELECT credyt.create_plan('hourly', 1, '1 hour'), credyt.subscribe('hui', 'hourly'), credyt.unsubscribe('hui', 'hourly');
UPDATE credyt.clock SET now = '2026-08-10';
\o
SELECT status FROM credyt.subscribe('hui', 'hourly', '2026-06-10');
SELECT status, starts_at FROM credyt.subscribe('hui', 'hourly');
SELECT * FROM credyt.verify();
