-- grant.expiring: a number of days before a grant of some kinds ends with something left, once per grant and notice.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 00:00+00');
CREATE TABLE seen (id uuid PRIMARY KEY);
CREATE FUNCTION news() RETURNS TABLE (customer text, type text, payload jsonb) LANGUAGE sql AS $$
    WITH new AS (INSERT INTO seen SELECT id FROM credyt.events_pending ON CONFLICT DO NOTHING RETURNING id)
    SELECT e.customer, e.type, e.payload - 'grant' FROM new JOIN credyt.events_pending e ON e.id = new.id ORDER BY e.customer, e.id
$$;
\o /dev/null
SELECT credyt.create_asset('credits'), credyt.create_asset('points');
SELECT credyt.set_price('image', '1');
-- Before there is a notice
SELECT credyt.grant_credits('old', 10, expires_at => '2026-01-21'), credyt.grant_credits('older', 10, expires_at => '2026-01-03'),
       credyt.grant_credits('ended', 10, expires_at => '2026-01-01 00:00:01+00'), credyt.grant_credits('never', 10);
SELECT credyt.grant_credits('old', 10, 'promotional', asset => 'points', expires_at => '2026-01-03');
\o
UPDATE credyt.clock SET now = '2026-01-01 12:00+00';
SELECT * FROM credyt.set_expiry_notice('{3,14,3}');
-- A grant that is made now is told when its moment comes, by whatever call
SELECT id AS new FROM credyt.grant_credits('new', 10, kind => 'promotional', expires_at => '2026-01-20 12:00+00') \gset
SELECT next_due_at FROM credyt.wallets WHERE customer = 'new';
SELECT count(*) FROM news();
-- The older ones are found by maintain, in batches; those whose moment has passed are told at once
SELECT booked FROM credyt.maintain(2);
SELECT searched_to FROM credyt.expiry_notices;
SELECT booked FROM credyt.maintain(2);
SELECT booked FROM credyt.maintain(2);
SELECT searched_to FROM credyt.expiry_notices;
SELECT customer, payload FROM news() WHERE type = 'grant.expiring';
SELECT customer, next_due_at FROM credyt.wallets WHERE asset = 'credits' ORDER BY customer;
-- A debit before the moment is two writes and tells nothing; at it, one tells
UPDATE credyt.clock SET now = '2026-01-06 11:59:59+00';
SELECT available FROM credyt.debit_credits('new', 'image', 1);
SELECT count(*) FROM news();
UPDATE credyt.clock SET now = '2026-01-06 12:00+00';
SELECT available FROM credyt.debit_credits('new', 'image', 1);
SELECT customer, type, payload FROM news();
SELECT available FROM credyt.debit_credits('new', 'image', 1);
SELECT credits FROM credyt.grant_credits('new', 5);
SELECT booked FROM credyt.maintain();
SELECT count(*) FROM news();
SELECT payload->>'grant' = :'new' AS same FROM credyt.events_pending WHERE customer = 'new';
-- A replay and a rollback tell nothing
UPDATE credyt.clock SET now = '2026-01-17 12:00+00';
BEGIN;
SELECT available FROM credyt.debit_credits('new', 'image', 1, idempotency_key => 'k');
ROLLBACK;
SELECT count(*) FROM news();
SELECT available FROM credyt.debit_credits('new', 'image', 1, idempotency_key => 'k');
SELECT available, replayed FROM credyt.debit_credits('new', 'image', 1, idempotency_key => 'k');
SELECT customer, type, payload FROM news();
-- maintain tells where nobody calls; both notices, where their moments have passed
SELECT booked FROM credyt.maintain();
SELECT customer, type, payload FROM news();
UPDATE credyt.clock SET now = '2026-01-20 00:00+00';
SELECT booked FROM credyt.maintain();
SELECT customer, type, payload FROM news();
-- What is spent before, or revoked, or is of another kind, is told nothing of
\o /dev/null
SELECT id AS g FROM credyt.grant_credits('gone', 10, expires_at => '2026-02-20') \gset
SELECT credyt.revoke_grant('gone', :'g');
SELECT credyt.grant_credits('spent', 10, expires_at => '2026-02-20'), credyt.debit_credits('spent', 'image', 10);
SELECT credyt.grant_credits('plan', 10, kind => 'included', expires_at => '2026-02-20');
SELECT credyt.grant_credits('later', 10, effective_at => '2026-02-19', expires_at => '2026-02-20');
UPDATE credyt.clock SET now = '2026-02-18 00:00+00';
SELECT credyt.maintain();
SELECT count(*) FROM news() WHERE type <> 'grant.expiring';
\o
SELECT count(*) FROM news();
-- Not before it has started; then all notices that are due
UPDATE credyt.clock SET now = '2026-02-19 00:00+00';
SELECT booked FROM credyt.maintain();
SELECT customer, payload FROM news();
-- Other days or kinds: what has been told is not told again
SELECT * FROM credyt.set_expiry_notice('{30,2,1}', kinds => '{included,promotional,purchased}');
SELECT booked FROM credyt.maintain();
SELECT customer, payload FROM news();
SELECT booked FROM credyt.maintain();
-- Held credits count as left; a frozen wallet is told of, a closed one has nothing left
\o /dev/null
SELECT credyt.grant_credits('held', 5, expires_at => '2026-02-25'), credyt.authorize('held', 'image', 5, ttl_seconds => 8640000);
SELECT credyt.grant_credits('frozen', 5, expires_at => '2026-02-25'), credyt.freeze_wallet('frozen');
SELECT credyt.grant_credits('closed', 5, expires_at => '2026-02-25'), credyt.close_wallet('closed');
SELECT count(*) FROM news();
UPDATE credyt.clock SET now = '2026-02-24 00:00+00';
SELECT credyt.maintain();
\o
SELECT customer, payload FROM news() WHERE type = 'grant.expiring';
-- Removed, and set for another asset
SELECT * FROM credyt.set_expiry_notice(NULL);
SELECT * FROM credyt.set_expiry_notice('{}');
SELECT credits FROM credyt.grant_credits('none', 5, expires_at => '2026-02-25');
SELECT count(*) FROM news();
SELECT * FROM credyt.set_expiry_notice('{1}', 'points', '{included}');
SELECT asset, days, kinds FROM credyt.expiry_notices;
SELECT count(*) FROM credyt.wallets w WHERE w.state::text::credyt.wallet::text <> w.state::text;
SELECT w.state::text::jsonb->'noticed'->0->'days' AS days FROM credyt.wallets w WHERE customer = 'held';
SELECT count(*) FROM credyt.verify();
-- Bad input
SELECT (refused(format('SELECT credyt.set_expiry_notice(%s)', a))).* FROM unnest(ARRAY[
    $$'{0}'$$, $$'{-1}'$$, $$'{3651}'$$, $$'{1,NULL}'$$, $$'{1,2,3,4,5,6,7,8,9,10,11}'$$, $$'{1}', NULL$$, $$'{1}', 'gold'$$, $$'{1}', kinds => NULL$$,
    $$'{1}', kinds => '{}'$$, $$'{1}', kinds => '{free}'$$, $$'{1}', kinds => '{NULL}'$$]) AS a;
BEGIN READ ONLY;
SELECT credyt.set_expiry_notice('{1}');
ROLLBACK;
