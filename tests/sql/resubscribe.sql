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
