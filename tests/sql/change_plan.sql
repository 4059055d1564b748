-- A subscription moves to another plan or other seats, now or at its next renewal.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset null -
\pset footer off
INSERT INTO credyt.clock VALUES ('2026-06-01 00:00Z');
CREATE FUNCTION pg_temp.clock(at timestamptz) RETURNS void LANGUAGE sql AS 'UPDATE credyt.clock SET now = at';
CREATE VIEW pg_temp.mine AS
    SELECT customer, credits, remaining, paid, deferred, effective_at, expires_at, origin IS NOT NULL AS rolled
    FROM credyt.grant_balances ORDER BY customer, effective_at, credits;
\o /dev/null
SELECT credyt.create_asset('credits'), credyt.create_asset('gems', 0);
SELECT credyt.create_plan('basic', 100, paid => 10, rollover => 20), credyt.create_plan('pro', 400, paid => 40, rollover => 150),
       credyt.create_plan('max', 1000, paid => 100), credyt.create_plan('year', 5000, '1 year', paid => 500),
       credyt.create_plan('weekly', 70, '7 days', paid => 7), credyt.create_plan('free', 0), credyt.create_plan('trial', 30, '14 days'),
       credyt.create_plan('stones', 1, asset => 'gems');
\o

-- Seats multiply credits and money
SELECT plan, quantity, credits, status FROM credyt.subscribe('sue', 'basic', quantity => 3);
SELECT credits, paid FROM pg_temp.mine;
SELECT quantity, replayed FROM credyt.subscribe('sue', 'basic', quantity => 3.00);
SELECT customer, plan, quantity, next_plan FROM credyt.subscriptions;
SELECT * FROM credyt.renewals;
\set VERBOSITY default
SELECT credyt.subscribe('sue', 'basic');
\set VERBOSITY terse
-- Twelve days on, 18 of 30 are left: two seats more are 2 x 100 x 18/30 = 120 credits for 12
SELECT pg_temp.clock('2026-06-13 00:00Z');
SELECT quantity, credits, period_end, replayed FROM credyt.change_plan('sue', 'basic', quantity => 5, idempotency_key => 'c1');
SELECT quantity, credits, period_end, replayed FROM credyt.change_plan('sue', 'basic', quantity => 5, idempotency_key => 'c1');
SELECT quantity, replayed FROM credyt.change_plan('sue', 'basic', quantity => 5);
SELECT credyt.change_plan('sue', 'basic', quantity => 6, idempotency_key => 'c1');
-- Down, and up again: nothing. Six seats: one more than there were
SELECT quantity FROM credyt.change_plan('sue', 'basic', quantity => 1);
SELECT quantity FROM credyt.change_plan('sue', 'basic', quantity => 4);
SELECT quantity FROM credyt.change_plan('sue', 'basic', quantity => 6);
SELECT credits, remaining, paid, effective_at, expires_at FROM pg_temp.mine;
SELECT settled FROM credyt.balance('sue', at => '2026-06-30 23:59Z');
-- Six seats from the next period on; 20 of all that is left roll over
SELECT settled FROM credyt.balance('sue', at => '2026-07-01 00:00Z');
SELECT kind, credits, revenue, reason, occurred_at FROM credyt.ledger WHERE customer = 'sue' ORDER BY seq;

-- A difference between plans: up in the middle of the month, 300 x 1/2 for 30 x 1/2
SELECT pg_temp.clock('2026-06-01 00:00Z');
\o /dev/null
SELECT credyt.subscribe('ann', 'basic');
\o
SELECT pg_temp.clock('2026-06-16 00:00Z');
SELECT credits, revenue FROM credyt.debit_credits('ann', 'image', credits => 30);
SELECT plan, version, credits, period_start, period_end FROM credyt.change_plan('ann', 'basic', 'pro');
SELECT credits, remaining, paid, deferred, effective_at, expires_at FROM pg_temp.mine WHERE customer = 'ann';
SELECT plan, quantity, period_start, grant_id = (SELECT id FROM credyt.grant_balances WHERE customer = 'ann' AND credits = 100) AS first
FROM credyt.subscriptions WHERE customer = 'ann';
-- Down and up again mints nothing, and a call that comes again finds what the first one made
SELECT plan, version FROM credyt.change_plan('ann', 'pro', 'basic');
SELECT pg_temp.clock('2026-06-17 00:00Z');
SELECT plan FROM credyt.change_plan('ann', 'basic', 'pro');
SELECT plan, replayed FROM credyt.change_plan('ann', 'basic', 'pro');
SELECT settled FROM credyt.balance('ann');
-- Further up: (1000 - 400) x 7/30 = 140, paid (100 - 40) x 7/30 = 14
SELECT pg_temp.clock('2026-06-24 00:00Z');
SELECT plan FROM credyt.change_plan('ann', 'pro', 'max');
SELECT credits, paid FROM pg_temp.mine WHERE customer = 'ann' ORDER BY effective_at DESC LIMIT 1;
-- It no longer is on pro, and nothing else can be subscribed to in its period under a former name
SELECT credyt.change_plan('ann', 'pro', 'year');
\set VERBOSITY default
SELECT credyt.subscribe('ann', 'basic');
\set VERBOSITY terse
-- Rounded as the asset rounds: 100 x 1/3 of the period
SELECT pg_temp.clock('2026-06-21 00:00Z');
\o /dev/null
SELECT credyt.subscribe('rod', 'free', starts_at => '2026-06-01 00:00Z');
\o
SELECT plan FROM credyt.change_plan('rod', 'free', 'basic');
SELECT credits, paid, expires_at FROM pg_temp.mine WHERE customer = 'rod';
SELECT grant_id IS NOT NULL AS granted FROM credyt.subscriptions WHERE customer = 'rod';

-- At the renewal: the last one said counts, and what is left rolls over under the new plan's cap
SELECT pg_temp.clock('2026-06-25 00:00Z');
SELECT plan, next_plan, next_quantity, replayed FROM credyt.change_plan('ann', 'max', 'basic', at => 'renewal');
SELECT plan, next_plan, next_quantity, replayed FROM credyt.change_plan('ann', 'max', 'basic', at => 'renewal');
SELECT plan, next_plan, next_quantity, replayed FROM credyt.change_plan('ann', 'max', 'pro', 2, at => 'renewal');
SELECT next_plan FROM credyt.subscriptions WHERE customer = 'ann';
SELECT * FROM credyt.renewals WHERE customer = 'ann';
SELECT settled FROM credyt.balance('ann');
SELECT settled FROM credyt.balance('ann', at => '2026-07-01 00:00Z');
SELECT pg_temp.clock('2026-07-01 00:00Z');
SELECT settled FROM credyt.balance('ann');
SELECT plan, version, quantity, status, period_start, period_end, next_plan, grant_id IS NOT NULL AS granted
FROM credyt.subscriptions WHERE customer = 'ann';
SELECT credits, remaining, paid, deferred, rolled FROM pg_temp.mine WHERE customer = 'ann' AND remaining > 0;
SELECT available FROM credyt.debit_credits('ann', 'image', credits => 0);
SELECT plan, quantity, next_plan, grant_id IS NOT NULL AS granted FROM credyt.subscriptions WHERE customer = 'ann';
SELECT credits, remaining, paid, deferred, rolled FROM pg_temp.mine WHERE customer = 'ann' AND remaining > 0;
-- A change that is scheduled is taken back by naming today's plan, or by one that is made now
SELECT next_plan FROM credyt.change_plan('ann', 'pro', 'max', at => 'renewal');
SELECT next_plan FROM credyt.change_plan('ann', 'pro', at => 'renewal');
SELECT next_plan FROM credyt.change_plan('ann', 'pro', 'max', at => 'renewal');
SELECT next_plan, quantity, replayed FROM credyt.change_plan('ann', 'pro');
-- The payment that comes under the former name
SELECT plan, paid_through FROM credyt.pay_subscription('ann', 'max', '2026-07-31 00:00Z');

-- Restart: the period ends now, as if it had run out; what is left rolls over under the new plan's cap, the rest is breakage
SELECT pg_temp.clock('2026-06-01 00:00Z');
\o /dev/null
SELECT credyt.subscribe('ron', 'pro');
\o
SELECT pg_temp.clock('2026-06-11 00:00Z');
SELECT credits, revenue FROM credyt.debit_credits('ron', 'image', credits => 100, idempotency_key => 'd1');
SELECT credits, status FROM credyt.authorize('ron', 'image', credits => 50, idempotency_key => 'h1');
SELECT plan, period_start, period_end FROM credyt.change_plan('ron', 'pro', 'basic', proration => 'restart', idempotency_key => 'r1');
SELECT replayed, period_start, period_end FROM credyt.change_plan('ron', 'pro', 'basic', proration => 'restart', idempotency_key => 'r1');
-- 250 are free, 20 of them move; 50 are held, and go on to be captured; 100 are new
SELECT credits, remaining, paid, deferred, effective_at, expires_at, rolled FROM pg_temp.mine WHERE customer = 'ron';
SELECT kind, credits, revenue, reason FROM credyt.ledger WHERE customer = 'ron' ORDER BY seq;
SELECT settled, held, available, next_expiry FROM credyt.balance('ron');
-- What comes back to a grant that was ended is lost, unless it is issued again
SELECT credits, reason FROM credyt.refund('ron', (SELECT id FROM credyt.ledger WHERE idempotency_key = 'd1'), 10);
SELECT credits, reason FROM credyt.refund('ron', (SELECT id FROM credyt.ledger WHERE idempotency_key = 'd1'), 10, restore_until => '2026-07-01 00:00Z');
SELECT credits, revenue, available FROM credyt.capture('ron', (SELECT id FROM credyt.authorizations WHERE customer = 'ron'), credits => 40);
SELECT settled, held, available FROM credyt.balance('ron');
SELECT * FROM credyt.verify();
-- At the very moment at which it began; and the same plan, with other seats
SELECT credits, period_start FROM credyt.change_plan('ron', 'basic', quantity => 2, proration => 'restart');
SELECT credits, period_start FROM credyt.change_plan('ron', 'basic', quantity => 1, proration => 'restart');
SELECT settled, available FROM credyt.balance('ron');
SELECT * FROM credyt.verify();

-- It is granted whatever was paid before; the next period waits
SELECT pg_temp.clock('2026-06-01 00:00Z');
\o /dev/null
SELECT credyt.subscribe('gus', 'basic', paid_through => '2026-06-05 00:00Z');
\o
SELECT pg_temp.clock('2026-06-11 00:00Z');
SELECT plan, status, period_end, paid_through FROM credyt.change_plan('gus', 'basic', 'max', proration => 'restart');
SELECT settled FROM credyt.balance('gus');
SELECT settled FROM credyt.balance('gus', at => '2026-07-11 00:00Z');
-- Left and back: the period that was restarted is resumed
\o /dev/null
SELECT credyt.unsubscribe('gus', 'max');
\o
SELECT plan, status, period_end FROM credyt.subscribe('gus', 'max');
SELECT settled FROM credyt.balance('gus');

-- None: the plan changes, its credits come with the next period, of whatever length
SELECT pg_temp.clock('2026-01-31 12:00Z');
\o /dev/null
SELECT credyt.subscribe('nan', 'basic', timezone => 'Europe/Berlin');
\o
SELECT pg_temp.clock('2026-02-10 00:00Z');
SELECT credyt.change_plan('nan', 'basic', 'weekly');
SELECT plan, period_end, next_renewal_at FROM credyt.change_plan('nan', 'basic', 'weekly', proration => 'none');
SELECT settled FROM credyt.balance('nan');
SELECT * FROM credyt.renewals WHERE customer = 'nan';
SELECT pg_temp.clock('2026-03-10 00:00Z');
SELECT period_start, period_end FROM credyt.subscriptions WHERE customer = 'nan';
-- And back to months, that count from the next start on
SELECT plan, period_end FROM credyt.change_plan('nan', 'weekly', 'pro', proration => 'none');
-- The clocks of Berlin are put forward on 29 March; local noon is an hour earlier
SELECT pg_temp.clock('2026-04-20 00:00Z');
SELECT plan, period_start, period_end FROM credyt.subscriptions WHERE customer = 'nan';

-- A year with a leap day, and a difference in it: 5000 x 2/366 for 500 x 2/366, rounded up and to ten decimals
SELECT pg_temp.clock('2027-03-01 00:00Z');
\o /dev/null
SELECT credyt.subscribe('lea', 'year');
\o
SELECT pg_temp.clock('2028-02-28 00:00Z');
SELECT quantity, period_end FROM credyt.change_plan('lea', 'year', quantity => 2);
SELECT credits, paid FROM pg_temp.mine WHERE customer = 'lea' AND effective_at > '2028-01-01';

-- A period that is not paid: nothing is granted until it is
SELECT pg_temp.clock('2026-06-01 00:00Z');
\o /dev/null
SELECT credyt.subscribe('pam', 'pro', paid_through => '2026-07-01 00:00Z'), credyt.subscribe('new', 'basic', paid_through => '2026-06-01 00:00Z');
\o
SELECT pg_temp.clock('2026-07-03 00:00Z');
SELECT status, settled, available FROM credyt.wallet_balances WHERE customer = 'pam';
SELECT plan, status, period_end FROM credyt.change_plan('pam', 'pro', 'max');
SELECT plan, status, quantity FROM credyt.change_plan('new', 'basic', 'pro', 2);
SELECT customer, settled, available FROM credyt.wallet_balances WHERE customer IN ('pam', 'new') ORDER BY 1;
SELECT plan, status, period_start, period_end FROM credyt.pay_subscription('pam', 'pro', '2026-08-01 00:00Z');
SELECT plan, status, period_start, period_end FROM credyt.pay_subscription('new', 'basic', '2026-07-04 00:00Z');
SELECT customer, settled, available FROM credyt.wallet_balances WHERE customer IN ('pam', 'new') ORDER BY 1;
-- Restarted, it waits from now on; what may roll over waits along
SELECT pg_temp.clock('2026-08-05 00:00Z');
SELECT plan, status, next_renewal_at FROM credyt.change_plan('pam', 'max', 'pro', proration => 'restart');
SELECT plan, status, period_start, period_end FROM credyt.pay_subscription('pam', 'pro', '2026-08-06 00:00Z');
SELECT settled, available FROM credyt.balance('pam');

-- A trial that becomes a plan: with its last day, or today
SELECT pg_temp.clock('2026-06-01 00:00Z');
\o /dev/null
SELECT credyt.subscribe('tim', 'trial'), credyt.subscribe('tom', 'trial');
SELECT credyt.change_plan('tim', 'trial', 'pro', at => 'renewal');
\o
SELECT pg_temp.clock('2026-06-08 00:00Z');
SELECT plan, period_end FROM credyt.change_plan('tom', 'trial', 'pro', proration => 'restart');
SELECT pg_temp.clock('2026-06-16 00:00Z');
SELECT customer, plan, period_start, period_end FROM credyt.subscriptions WHERE customer IN ('tim', 'tom') ORDER BY 1;

-- Before it begins
\o /dev/null
SELECT credyt.subscribe('sid', 'basic', starts_at => '2026-07-01 00:00Z');
\o
SELECT plan, status, credits, next_renewal_at FROM credyt.change_plan('sid', 'basic', 'year', quantity => 2);
-- One that ends: it keeps its end, and has no renewal. Who comes back comes back to the plan of today
\o /dev/null
SELECT credyt.change_plan('tom', 'pro', 'max', at => 'renewal'), credyt.unsubscribe('tom', 'pro', '2026-07-01 00:00Z');
\o
SELECT next_plan, ends_at FROM credyt.change_plan('tom', 'pro', quantity => 2);
SELECT credyt.change_plan('tom', 'pro', 'max', at => 'renewal');
SELECT next_plan, ends_at, quantity FROM credyt.subscribe('tom', 'pro', quantity => 2);
-- Debt is paid by what a change brings
\o /dev/null
SELECT credyt.subscribe('deb', 'basic'), credyt.open_wallet('deb', overdraft_limit => 500);
SELECT credyt.debit_credits('deb', 'image', credits => 250);
\o
SELECT credits FROM credyt.change_plan('deb', 'basic', 'pro');
SELECT settled, available, owed FROM credyt.balance('deb');

-- A frozen wallet changes its plan, a closed one does not
\o /dev/null
SELECT credyt.freeze_wallet('deb');
\o
SELECT plan, quantity, status FROM credyt.change_plan('{"customer": "deb", "plan": "pro", "quantity": "2"}');
SELECT settled FROM credyt.balance('deb');
\o /dev/null
SELECT credyt.unfreeze_wallet('deb'), credyt.close_wallet('deb');
\o
SELECT credyt.change_plan('deb', 'pro', 'max');
-- What is told of a period that was restarted
SELECT type, payload->>'plan' AS plan, payload->>'credits' AS credits, payload->>'rolled_over' AS rolled_over FROM credyt.events_pending
WHERE customer = 'ron' AND type = 'plan.renewed' ORDER BY id;

-- Refusals
\set VERBOSITY default
SELECT credyt.change_plan('tim', 'pro', 'stones');
SELECT credyt.change_plan('tim', 'pro', 'year');
SELECT credyt.change_plan('tim', 'max', 'pro');
SELECT credyt.change_plan('tim', 'pro', 'gold');
SELECT credyt.change_plan('nobody', 'pro', 'max');
SELECT credyt.change_plan('tim', 'pro', quantity => 0);
\set VERBOSITY terse
SELECT credyt.change_plan('tim', 'gold', 'pro');
SELECT credyt.change_plan('tim', 'pro', quantity => -1);
SELECT credyt.change_plan('tim', 'pro', quantity => 1.5);
SELECT credyt.change_plan('tim', 'pro', quantity => 'NaN');
SELECT credyt.change_plan('tim', 'pro', quantity => 2e9);
SELECT credyt.change_plan('tim', 'pro', quantity => 1e40);
SELECT credyt.change_plan('tim', 'pro', at => 'later', quantity => 2);
SELECT credyt.change_plan('tim', 'pro', at => NULL, quantity => 2);
SELECT credyt.change_plan('tim', 'pro', proration => 'half', quantity => 2);
SELECT credyt.subscribe('tim', 'max', quantity => 0);
SELECT credyt.subscribe('tim', 'max', quantity => NULL);
SELECT FROM credyt.create_plan('huge', 1e12);
SELECT credyt.subscribe('tim', 'huge', quantity => 1000);
SELECT status FROM credyt.unsubscribe('tim', 'pro');
SELECT credyt.change_plan('tim', 'pro', 'max');
-- Two subscriptions never meet on one plan
\o /dev/null
SELECT credyt.subscribe('two', 'basic'), credyt.subscribe('two', 'pro');
\o
SELECT credyt.change_plan('two', 'basic', 'pro');
SELECT next_plan FROM credyt.change_plan('two', 'basic', 'max', at => 'renewal');
SELECT credyt.subscribe('two', 'max');
-- Nor where the other one has ended, and its period has not
\o /dev/null
SELECT credyt.change_plan('two', 'pro', 'year', proration => 'none'), credyt.unsubscribe('two', 'year');
\o
\set VERBOSITY default
SELECT credyt.subscribe('two', 'pro');
\set VERBOSITY terse
-- The facts stay
UPDATE credyt.plan_changes SET to_quantity = 9;
DELETE FROM credyt.ended_grants;
TRUNCATE credyt.plan_changes;

SELECT * FROM credyt.verify();

-- Limits count on through a change: neither the new credits nor a restart give them back
SELECT pg_temp.clock('2026-06-01 00:00Z');
\o /dev/null
SELECT credyt.subscribe('lim', 'basic'), credyt.set_limit('lim', 'user:*', 150), credyt.set_limit('lim', 'action:image', 500, 'ever');
\o
SELECT credits FROM credyt.debit_credits('lim', 'image', credits => 60, scopes => '{user:ann}');
SELECT approved, reason FROM credyt.authorize('lim', 'image', credits => 30, scopes => '{user:ann}', idempotency_key => 'h');
SELECT pg_temp.clock('2026-06-16 00:00Z');
SELECT plan FROM credyt.change_plan('lim', 'basic', 'pro');
SELECT plan, period_start FROM credyt.change_plan('lim', 'pro', 'max', proration => 'restart');
SELECT scope, cap, used, held FROM credyt.limits_used WHERE customer = 'lim' ORDER BY scope;
SELECT approved, reason FROM credyt.authorize('lim', 'image', credits => 91, scopes => '{user:ann}');
SELECT credits FROM credyt.debit_credits('lim', 'image', credits => 90, scopes => '{user:ann}');
SELECT scope, used, held FROM credyt.limits_used WHERE customer = 'lim' ORDER BY scope;

-- On the day of the renewal: a moment before it the difference is next to nothing, at its moment all of it
\o /dev/null
SELECT pg_temp.clock('2026-06-01 00:00Z'), credyt.subscribe('eve', 'basic'), credyt.subscribe('dot', 'basic');
\o
SELECT pg_temp.clock('2026-06-30 23:59:59Z');
SELECT plan, period_end FROM credyt.change_plan('eve', 'basic', 'pro');
SELECT pg_temp.clock('2026-07-01 00:00Z');
SELECT plan, period_end FROM credyt.change_plan('dot', 'basic', 'pro');
SELECT credits, paid, effective_at, expires_at, rolled FROM pg_temp.mine WHERE customer = 'eve';
SELECT settled FROM credyt.balance('eve');
SELECT credits, paid, effective_at, expires_at, rolled FROM pg_temp.mine WHERE customer = 'dot';
SELECT * FROM credyt.verify();
