-- Alerts and top-ups: several alerts in both units, top-ups that fire at 0, stop at a cap, refill to a target
-- and wait after a failed card.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-10 00:00+00');
-- What was told since the last look
CREATE TABLE seen (id uuid PRIMARY KEY);
CREATE FUNCTION news() RETURNS TABLE (customer text, type text, payload jsonb) LANGUAGE sql AS $$
    WITH new AS (INSERT INTO seen SELECT id FROM credyt.events_pending ON CONFLICT DO NOTHING RETURNING id)
    SELECT e.customer, e.type, e.payload - 'grant' FROM new JOIN credyt.events_pending e ON e.id = new.id ORDER BY e.customer, e.id
$$;
\o /dev/null
SELECT credyt.create_asset('credits', timezone => 'Europe/Berlin');
SELECT credyt.set_price('image', '1');

-- Several alerts, in credits and in percent of what was there after credits last came in
SELECT credyt.grant_credits('acme', 200);
\o
SELECT * FROM credyt.set_alert('acme', 50);
SELECT * FROM credyt.set_alert('acme', 20, unit => 'percent');
SELECT * FROM credyt.set_alert('acme', 10, enabled => false);
SELECT * FROM credyt.set_alert('acme', 0.5, 'credits', 'percent', true);
SELECT available FROM credyt.debit_credits('acme', 'image', 149);
SELECT count(*) FROM news();
SELECT available FROM credyt.debit_credits('acme', 'image', 1);
SELECT * FROM news();
SELECT threshold, unit, enabled, level, balance, reached FROM credyt.alerts WHERE customer = 'acme';
-- One call may reach several: the highest first
SELECT available FROM credyt.debit_credits('acme', 'image', 49);
SELECT * FROM news();
-- A gift is what percentages are of from then on; a refund is not
SELECT id AS d FROM credyt.debit_credits('acme', 'image', 1) \gset
SELECT remaining FROM credyt.grant_credits('acme', 400, kind => 'promotional');
SELECT credits FROM credyt.refund('acme', :'d');
SELECT threshold, unit, level FROM credyt.alerts WHERE customer = 'acme' AND unit = 'percent';
SELECT available FROM credyt.debit_credits('acme', 'image', 320);
SELECT * FROM news();
-- Set again it is the same alert; turned off it says nothing; NULL removes all
SELECT * FROM credyt.set_alert('acme', 50, enabled => false);
SELECT count(*) FROM credyt.alerts WHERE customer = 'acme';
SELECT available FROM credyt.debit_credits('acme', 'image', 40);
SELECT count(*) FROM news();
SELECT * FROM credyt.set_alert('acme', NULL);
SELECT count(*) FROM credyt.alerts WHERE customer = 'acme';
-- A renewal, a grant that starts and a transfer are what percentages are of, too
\o /dev/null
SELECT credyt.create_plan('pro', 100, '1 day'), credyt.subscribe('renews', 'pro'), credyt.set_alert('renews', 50, unit => 'percent');
SELECT credyt.debit_credits('renews', 'image', 60);
SELECT credyt.grant_credits('starts', 10), credyt.grant_credits('starts', 100, effective_at => '2026-01-10 12:00+00'),
       credyt.set_alert('starts', 50, unit => 'percent');
SELECT credyt.set_alert('team', 50, unit => 'percent'), credyt.grant_credits('boss', 100), credyt.transfer('boss', 'team', 40);
\o
SELECT * FROM news();
UPDATE credyt.clock SET now = '2026-01-11 00:00+00';
-- In one call: time brings 100, which is a recovery, and the debit takes 50
SELECT available FROM credyt.debit_credits('renews', 'image', 50);
SELECT available FROM credyt.debit_credits('starts', 'image', 55);
SELECT available FROM credyt.debit_credits('team', 'image', 20);
SELECT * FROM news();
-- What ends and is replaced at the same moment is no fall; what ends unnoticed is told once
\o /dev/null
SELECT credyt.unsubscribe('renews', 'pro');
SELECT credyt.grant_credits('ends', 100, expires_at => '2026-01-11 06:00+00'), credyt.set_alert('ends', 50);
SELECT credyt.grant_credits('ends', 80, effective_at => '2026-01-11 06:00+00', expires_at => '2026-01-11 12:00+00');
UPDATE credyt.clock SET now = '2026-01-11 06:00+00';
SELECT credyt.debit_credits('ends', 'image', 0);
\o
SELECT type FROM news();
UPDATE credyt.clock SET now = '2026-01-11 12:00+00';
SELECT booked FROM credyt.maintain();
SELECT type, payload->'available' AS available FROM news();
SELECT available FROM credyt.debit_credits('ends', 'image', 0);
SELECT booked FROM credyt.maintain();
SELECT count(*) FROM news();
-- At most ten
\o /dev/null
SELECT credyt.set_alert('ten', n) FROM generate_series(1, 10) n;
\o
SELECT * FROM refused($$SELECT credyt.set_alert('ten', 11)$$) \gx
SELECT threshold FROM credyt.set_alert('ten', 10.00);

-- A top-up fires when the rule is set, at a balance of 0 too
SELECT threshold, credits, enabled, to_balance, max_credits, every, cooldown_seconds, in_flight IS NOT NULL AS in_flight, cooldown_until
FROM credyt.set_topup('zero', 0, 100);
SELECT * FROM news();
-- One in flight, whoever asks
SELECT approved, reason FROM credyt.authorize('zero', 'image', 1);
SELECT booked FROM credyt.maintain();
SELECT count(*) FROM news();
-- Answered; a spend to 0 asks again, a debit beyond that is refused and asks for nothing
SELECT remaining FROM credyt.grant_credits('zero', 100, paid => 10);
SELECT * FROM news();
SELECT available FROM credyt.debit_credits('zero', 'image', 100);
SELECT * FROM news();
SELECT id AS e FROM credyt.events_pending WHERE customer = 'zero' ORDER BY id DESC LIMIT 1 \gset
-- The card is declined: nothing is asked for in the cooldown, by whatever call
SELECT in_flight, cooldown_until FROM credyt.topup_failed('zero', :'e', 'card declined');
SELECT in_flight, cooldown_until, requested, resets_at FROM credyt.topups WHERE customer = 'zero';
SELECT failed_at, failure FROM credyt.events WHERE id = :'e';
SELECT approved, reason FROM credyt.authorize('zero', 'image', 1);
SELECT cooldown_until FROM credyt.set_topup('zero', 0, 100);
SELECT booked FROM credyt.maintain();
SELECT count(*) FROM news();
UPDATE credyt.clock SET now = '2026-01-11 12:59:59+00';
SELECT approved, reason FROM credyt.authorize('zero', 'image', 1);
SELECT count(*) FROM news();
-- Reported again it is the same failure
UPDATE credyt.clock SET now = '2026-01-11 13:00+00';
SELECT cooldown_until FROM credyt.topup_failed('zero', :'e');
SELECT cooldown_until FROM credyt.topups WHERE customer = 'zero';
-- A refused authorize asks after the cooldown, and stores nothing else
SELECT changed_at FROM credyt.wallets w, credyt.changed_at(w.state) WHERE customer = 'zero';
SELECT approved, reason, id FROM credyt.authorize('zero', 'image', 1);
SELECT * FROM news();
SELECT count(*) FROM credyt.authorizations WHERE customer = 'zero';
SELECT count(*) FROM credyt.verify();
-- ... and so does maintain, which has nothing to do before
SELECT id AS e FROM credyt.events_pending WHERE customer = 'zero' ORDER BY id DESC LIMIT 1 \gset
SELECT cooldown_until FROM credyt.topup_failed('zero', :'e');
UPDATE credyt.clock SET now = '2026-01-11 13:59+00';
SELECT booked FROM credyt.maintain();
UPDATE credyt.clock SET now = '2026-01-11 14:00+00';
SELECT booked FROM credyt.maintain();
SELECT * FROM news();
SELECT booked FROM credyt.maintain();
-- A replayed authorize asks for nothing
\o /dev/null
SELECT credyt.grant_credits('key', 5), credyt.authorize('key', 'image', 5, idempotency_key => 'h'), credyt.set_topup('key', 0, 100);
SELECT credyt.topup_failed('key', in_flight) FROM credyt.topups WHERE customer = 'key';
UPDATE credyt.clock SET now = '2026-01-11 16:00+00';
SELECT count(*) FROM news();
\o
SELECT approved, replayed FROM credyt.authorize('key', 'image', 5, idempotency_key => 'h');
SELECT count(*) FROM news();

-- Refill to a target: what lacks to it, what is owed included
\o /dev/null
SELECT credyt.open_wallet('fill', overdraft_limit => 50), credyt.grant_credits('fill', 100);
\o
SELECT threshold, credits, to_balance FROM credyt.set_topup('fill', 20, to_balance => 150);
SELECT available FROM credyt.debit_credits('fill', 'image', 110);
SELECT type, payload FROM news();
SELECT remaining FROM credyt.grant_credits('fill', 160, paid => 16);
SELECT settled FROM credyt.balance('fill');
-- A purchase that does not suffice asks for nothing itself; the next spend does, or maintain
\o /dev/null
SELECT credyt.debit_credits('fill', 'image', 150);
SELECT count(*) FROM news();
\o
SELECT remaining FROM credyt.grant_credits('fill', 5, paid => 1);
SELECT count(*) FROM news();
SELECT booked FROM credyt.maintain();
SELECT type, payload FROM news();
SELECT booked FROM credyt.maintain();

-- A cap: 250 credits a day, which in Berlin begins at 23:00 UTC
\o /dev/null
UPDATE credyt.clock SET now = '2026-01-12 12:00+00';
SELECT credyt.grant_credits('cap', 100);
\o
SELECT max_credits, every FROM credyt.set_topup('cap', 10, 100, max_credits => 250, every => 'day', cooldown_seconds => 0);
\o /dev/null
SELECT credyt.debit_credits('cap', 'image', 100), credyt.grant_credits('cap', 100, paid => 1);
SELECT credyt.debit_credits('cap', 'image', 100);
SELECT id AS e FROM credyt.events_pending WHERE customer = 'cap' ORDER BY id DESC LIMIT 1 \gset
\o
SELECT type FROM news();
SELECT requested, resets_at FROM credyt.topups WHERE customer = 'cap';
-- What has failed does not count; with a cooldown of 0 the next call asks
SELECT cooldown_until FROM credyt.topup_failed('cap', :'e');
SELECT requested, cooldown_until FROM credyt.topups WHERE customer = 'cap';
SELECT available FROM credyt.debit_credits('cap', 'image', 0);
SELECT requested FROM credyt.topups WHERE customer = 'cap';
SELECT type FROM news();
\o /dev/null
SELECT credyt.grant_credits('cap', 100, paid => 1);
\o
-- The third would be 300: told once
SELECT available FROM credyt.debit_credits('cap', 'image', 95);
SELECT type, payload FROM news();
SELECT available FROM credyt.debit_credits('cap', 'image', 1);
SELECT approved FROM credyt.authorize('cap', 'image', 100);
SELECT booked FROM credyt.maintain();
SELECT count(*) FROM news() WHERE customer = 'cap';
-- A higher cap lets it ask at once, and the same cap again tells nothing
SELECT in_flight FROM credyt.set_topup('cap', 10, 100, max_credits => 250, every => 'day');
SELECT count(*) FROM news();
SELECT in_flight IS NOT NULL AS in_flight FROM credyt.set_topup('cap', 10, 100, max_credits => 300, every => 'day', cooldown_seconds => 0);
SELECT type FROM news();
SELECT requested FROM credyt.topups WHERE customer = 'cap';
\o /dev/null
SELECT credyt.grant_credits('cap', 1, paid => 1);
\o
SELECT available FROM credyt.debit_credits('cap', 'image', 0);
SELECT count(*) FROM news();
-- The next day maintain asks
UPDATE credyt.clock SET now = '2026-01-12 22:59:59+00';
SELECT booked FROM credyt.maintain();
UPDATE credyt.clock SET now = '2026-01-12 23:00+00';
SELECT booked FROM credyt.maintain();
SELECT type, payload FROM news();
SELECT requested, resets_at FROM credyt.topups WHERE customer = 'cap';
-- Counted in another period, what was asked for in it counts
SELECT every FROM credyt.set_topup('cap', 10, 100, max_credits => 400, every => 'month', cooldown_seconds => 0);
SELECT requested, resets_at FROM credyt.topups WHERE customer = 'cap';

-- Nobody pays for a wallet that cannot spend
\o /dev/null
SELECT credyt.grant_credits('ice', 5), credyt.freeze_wallet('ice'), credyt.set_topup('ice', 10, 100);
SELECT credyt.maintain();
\o
SELECT count(*) FROM news() WHERE customer = 'ice';
\o /dev/null
SELECT credyt.unfreeze_wallet('ice');
SELECT credyt.maintain();
\o
SELECT type FROM news() WHERE customer = 'ice';
-- A rule that is off asks for nothing; turned on it does
\o /dev/null
SELECT credyt.set_topup('off', 10, 100, enabled => false), credyt.maintain();
\o
SELECT count(*) FROM news();
SELECT in_flight IS NOT NULL AS in_flight FROM credyt.set_topup('off', 10, 100);
-- The event may be gone: what is in flight is failed all the same, once
\o /dev/null
SELECT in_flight AS e FROM credyt.topups WHERE customer = 'off' \gset
DELETE FROM credyt.events WHERE customer = 'off';
\o
SELECT in_flight FROM credyt.topup_failed('off', :'e');
SELECT code FROM refused(format($$SELECT credyt.topup_failed('off', %L)$$, :'e'));

-- A state goes through its text
SELECT count(*) FROM credyt.wallets w WHERE w.state::text::credyt.wallet::text <> w.state::text;
SELECT w.state::text::jsonb->'alerts' AS alerts, (w.state::text::jsonb->'topup') - 'in_flight' AS topup FROM credyt.wallets w WHERE customer IN ('cap', 'team');
SELECT count(*) FROM credyt.verify();

-- Bad input
SELECT (refused(format('SELECT credyt.set_alert(%s)', a))).* FROM unnest(ARRAY[
    $$NULL, 1$$, $$'', 1$$, $$'acme', 'NaN'$$, $$'acme', -1$$, $$'acme', 1e15$$, $$'acme', 0.001$$, $$'acme', 1, NULL$$, $$'acme', 1, 'gold'$$,
    $$'acme', 1, unit => NULL$$, $$'acme', 1, unit => 'tokens'$$, $$'acme', 100.1, unit => 'percent'$$, $$'acme', 1, enabled => NULL$$]) AS a;
SELECT (refused(format('SELECT credyt.set_topup(%s)', a))).* FROM unnest(ARRAY[
    $$NULL, 1, 1$$, $$'acme', NULL, 1$$, $$'acme', 'NaN', 1$$, $$'acme', -1, 1$$, $$'acme', 1$$, $$'acme', 1, 0$$, $$'acme', 1, -1$$, $$'acme', 1, 1e15$$,
    $$'acme', 1, 5, to_balance => 5$$, $$'acme', 5, to_balance => 5$$, $$'acme', 5, to_balance => 'Infinity'$$, $$'acme', 5, to_balance => 1e15$$,
    $$'acme', 1, 5, max_credits => -1$$, $$'acme', 1, 5, max_credits => 'NaN'$$, $$'acme', 1, 5, every => NULL$$, $$'acme', 1, 5, every => 'fortnight'$$,
    $$'acme', 1, 5, cooldown_seconds => -1$$, $$'acme', 1, 5, cooldown_seconds => NULL$$, $$'acme', 1, 5, enabled => NULL$$, $$'acme', 1, 5, 'gold'$$]) AS a;
-- Nothing of it was set
SELECT (SELECT count(*) FROM credyt.alerts WHERE customer = 'acme') AS alerts, (SELECT count(*) FROM credyt.topups WHERE customer = 'acme') AS topups;
BEGIN READ ONLY;
SELECT credyt.set_topup('acme', 1, 5);
ROLLBACK;
BEGIN READ ONLY;
SELECT credyt.set_alert('acme', 1);
ROLLBACK;
