-- The outbox: alerts and top-ups on crossing, events of pending entries, and workers that take events.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 00:00+00');
-- What was told since the last look
CREATE TABLE seen (id uuid PRIMARY KEY);
CREATE FUNCTION news() RETURNS TABLE (customer text, type text, payload jsonb, created_at timestamptz) LANGUAGE sql AS $$
    WITH new AS (INSERT INTO seen SELECT id FROM credyt.events_pending ON CONFLICT DO NOTHING RETURNING id)
    SELECT e.customer, e.type, e.payload - 'grant', e.created_at FROM new JOIN credyt.events_pending e ON e.id = new.id ORDER BY e.customer, e.id
$$;
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image', '1');
\o

-- An alert: once on crossing, again after recovery
SELECT * FROM credyt.set_alert('acme', 20);
SELECT credits FROM credyt.grant_credits('acme', 10);
SELECT credits FROM credyt.debit_credits('acme', 'image', 1);
SELECT count(*) FROM news();
SELECT id AS g FROM credyt.grant_credits('acme', 90, kind => 'promotional') \gset
SELECT available FROM credyt.debit_credits('acme', 'image', 78);
SELECT count(*) FROM news();
SELECT available FROM credyt.debit_credits('acme', 'image', 1);
SELECT * FROM news();
SELECT available FROM credyt.debit_credits('acme', 'image', 5);
SELECT count(*) FROM news();
-- Recovery by a refund, a release, a grant; then it falls by a hold, a transfer, a revocation
SELECT credits FROM credyt.grant_credits('acme', 10);
SELECT id AS h FROM credyt.authorize('acme', 'image', 10) \gset
SELECT * FROM news();
SELECT status FROM credyt.release('acme', :'h');
SELECT credits FROM credyt.transfer('acme', 'team', 6);
SELECT * FROM news();
SELECT id AS p FROM credyt.grant_credits('acme', 10) \gset
SELECT credits FROM credyt.revoke_grant('acme', :'p');
SELECT * FROM news();
-- Taken away; to nothing it is told all the same
SELECT * FROM credyt.set_alert('acme', NULL);
SELECT available FROM credyt.debit_credits('acme', 'image', 19);
SELECT * FROM news();
SELECT available FROM credyt.debit_credits('acme', 'image', 0);
SELECT count(*) FROM news();
-- Into debt: below nothing already
\o /dev/null
SELECT credyt.open_wallet('acme', overdraft_limit => 100);
\o
SELECT available FROM credyt.debit_credits('acme', 'image', 5);
SELECT count(*) FROM news();
SELECT remaining FROM credyt.grant_credits('acme', 8);
SELECT available FROM credyt.debit_credits('acme', 'image', 4);
SELECT * FROM news();
-- A call that is rolled back tells nothing; a replay neither
BEGIN;
SELECT credits FROM credyt.grant_credits('acme', 8);
SELECT credits FROM credyt.debit_credits('acme', 'image', 8);
ROLLBACK;
SELECT count(*) FROM news();

-- A top-up: one in flight, until a purchase
SELECT credits FROM credyt.grant_credits('buyer', 15);
SELECT * FROM credyt.set_topup('buyer', 10, 100);
SELECT available FROM credyt.debit_credits('buyer', 'image', 6, idempotency_key => 'd');
SELECT available, replayed FROM credyt.debit_credits('buyer', 'image', 6, idempotency_key => 'd');
SELECT * FROM news();
SELECT available FROM credyt.debit_credits('buyer', 'image', 3);
SELECT credits FROM credyt.grant_credits('buyer', 50, kind => 'promotional');
SELECT available FROM credyt.debit_credits('buyer', 'image', 50);
SELECT count(*) FROM news();
-- Other terms leave it in flight
SELECT threshold, credits, enabled, in_flight IS NOT NULL AS in_flight FROM credyt.set_topup('buyer', 12, 200);
SELECT available FROM credyt.debit_credits('buyer', 'image', 1);
SELECT count(*) FROM news();
SELECT id AS e FROM credyt.events_pending WHERE customer = 'buyer' \gset
SELECT remaining FROM credyt.grant_credits('buyer', 100, paid => 10, idempotency_key => :'e');
SELECT remaining, replayed FROM credyt.grant_credits('buyer', 100, paid => 10, idempotency_key => :'e');
SELECT available FROM credyt.debit_credits('buyer', 'image', 95);
SELECT * FROM news();
-- A failure: the next spend asks again
SELECT id AS e FROM credyt.events_pending WHERE customer = 'buyer' ORDER BY id DESC LIMIT 1 \gset
SELECT threshold, enabled, in_flight FROM credyt.topup_failed('buyer', :'e', 'card declined');
SELECT failure FROM credyt.events WHERE id = :'e';
SELECT count(*) FROM news();
SELECT available FROM credyt.debit_credits('buyer', 'image', 1);
SELECT count(*) FROM news();
UPDATE credyt.clock SET now = '2026-01-01 01:00+00';
SELECT available FROM credyt.debit_credits('buyer', 'image', 1);
SELECT * FROM news();
-- Reported again it fails nothing that is in flight by now
SELECT in_flight IS NOT NULL AS in_flight FROM credyt.topup_failed('buyer', :'e');
-- Turned off and on: what is in flight stays so
SELECT enabled, in_flight IS NOT NULL AS in_flight FROM credyt.set_topup('buyer', 12, 200, enabled => false);
SELECT enabled, in_flight IS NOT NULL AS in_flight FROM credyt.set_topup('buyer', 12, 200);
SELECT count(*) FROM news();
SELECT * FROM refused($$SELECT credyt.topup_failed('acme', (SELECT id FROM credyt.events_pending WHERE type = 'topup.requested' LIMIT 1))$$) \gx
SELECT * FROM refused($$SELECT credyt.topup_failed('acme', (SELECT id FROM credyt.events_pending WHERE type = 'balance.low' LIMIT 1))$$) \gx

-- What ends unspent, told by the call that books it
\o /dev/null
SELECT credyt.grant_credits('ends', 10, paid => 5, kind => 'included', expires_at => '2026-02-01');
SELECT credyt.grant_credits('ends', 10, kind => 'promotional', expires_at => '2026-02-02');
SELECT credyt.set_alert('ends', 5);
SELECT credyt.debit_credits('ends', 'image', 4);
\o
UPDATE credyt.clock SET now = '2026-02-05 00:00+00';
SELECT count(*) FROM news();
SELECT credits FROM credyt.debit_credits('ends', 'image', 0);
SELECT * FROM news();

-- Renewals, but not the first period: with a grant, with what rolled over, without credits, late ones in order
\o /dev/null
SELECT credyt.create_plan('pro', 10, '1 day', paid => 2, rollover => 4), credyt.create_plan('seat', 0, '1 day');
SELECT credyt.subscribe('renews', 'pro', timezone => 'UTC'), credyt.subscribe('sits', 'seat', timezone => 'UTC');
SELECT credyt.debit_credits('renews', 'image', 7);
\o
SELECT count(*) FROM news();
UPDATE credyt.clock SET now = '2026-02-07 00:00+00';
SELECT count(*) FROM news();
SELECT booked > 0 AS booked FROM credyt.maintain();
SELECT * FROM news();
SELECT payload->>'grant' = (SELECT id::text FROM credyt.grant_balances g WHERE g.customer = 'renews' AND g.kind = 'included' AND origin IS NULL
                            AND effective_at = '2026-02-07 00:00+00') AS grant FROM credyt.events_pending
WHERE type = 'plan.renewed' AND payload->>'starts_at' = '2026-02-07T00:00:00Z' AND customer = 'renews';
\o /dev/null
SELECT credyt.unsubscribe('renews', 'pro'), credyt.unsubscribe('sits', 'seat');
UPDATE credyt.clock SET now = '2026-02-05 00:00+00';
\o

-- Workers
SELECT events FROM credyt.ack_events(ARRAY(SELECT id FROM credyt.events_pending));
SELECT events FROM credyt.ack_events(ARRAY(SELECT id FROM credyt.events));
SELECT count(*) FROM credyt.events_pending;
SELECT count(*) FROM credyt.take_events();
\o /dev/null
SELECT credyt.grant_credits(c, 10), credyt.set_alert(c, 5) FROM unnest('{a,b,c}'::text[]) AS c;
SELECT credyt.debit_credits('a', 'image', 10);
UPDATE credyt.clock SET now = now + interval '1 ms';
SELECT credyt.debit_credits('b', 'image', 10);
UPDATE credyt.clock SET now = now + interval '1 ms';
SELECT credyt.debit_credits('c', 'image', 10);
UPDATE credyt.clock SET now = '2026-02-05 00:00+00';
\o
SELECT customer, type, payload, created_at FROM credyt.take_events(3, 60);
-- b's second event waits behind the first; c is free
SELECT customer, type FROM credyt.take_events();
SELECT count(*) FROM credyt.take_events();
SELECT count(*) FROM credyt.events_pending;
SELECT events FROM credyt.ack_events(ARRAY(SELECT id FROM credyt.events_pending WHERE customer = 'b'));
-- Not acknowledged: they come again, in order
UPDATE credyt.clock SET now = '2026-02-05 00:00:59+00';
SELECT count(*) FROM credyt.take_events();
UPDATE credyt.clock SET now = '2026-02-05 00:01:00+00';
SELECT customer, type FROM credyt.take_events();
SELECT events FROM credyt.ack_events(ARRAY(SELECT id FROM credyt.events_pending WHERE type = 'balance.low'));
SELECT count(*) FROM credyt.take_events();
UPDATE credyt.clock SET now = '2026-02-05 00:02:00+00';
SELECT customer, type FROM credyt.take_events(1);
SELECT customer, type FROM credyt.take_events(1);
SELECT customer, type FROM credyt.take_events(1);

-- What is acknowledged may be so again for a day; then maintain forgets it, requests after thirty
SELECT count(*) FILTER (WHERE type = 'topup.requested') AS requests, count(*) FILTER (WHERE type <> 'topup.requested') AS others
FROM credyt.events WHERE acknowledged_at IS NOT NULL;
UPDATE credyt.clock SET now = '2026-02-05 23:59:59+00';
SELECT pruned FROM credyt.maintain();
UPDATE credyt.clock SET now = '2026-02-06 00:02:00+00';
SELECT pruned FROM credyt.maintain(4);
SELECT pruned > 0 AS pruned FROM credyt.maintain();
SELECT pruned FROM credyt.maintain();
SELECT type, count(*) FROM credyt.events WHERE acknowledged_at IS NOT NULL GROUP BY type;
UPDATE credyt.clock SET now = '2026-03-10 00:00:00+00';
SELECT pruned > 0 AS pruned FROM credyt.maintain();
SELECT count(*) FROM credyt.events WHERE acknowledged_at IS NOT NULL;

-- Refusals
SELECT * FROM refused($$SELECT credyt.ack_events(ARRAY[gen_random_uuid(), (SELECT id FROM credyt.events_pending LIMIT 1)])$$) \gx
SELECT count(*) FROM credyt.events_pending;
SELECT events FROM credyt.ack_events('{}');
SELECT * FROM refused($$SELECT credyt.ack_events(NULL)$$) \gx
SELECT * FROM refused($$SELECT credyt.ack_events('{NULL}')$$) \gx
SELECT * FROM refused($$SELECT * FROM credyt.take_events(0)$$) \gx
SELECT * FROM refused($$SELECT * FROM credyt.take_events(NULL)$$) \gx
SELECT * FROM refused($$SELECT * FROM credyt.take_events(1, 0)$$) \gx
SELECT * FROM refused($$SELECT credyt.topup_failed('acme', gen_random_uuid())$$) \gx
SELECT * FROM refused($$SELECT credyt.topup_failed('acme', NULL)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_alert('acme', -1)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_alert('acme', 1e15)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_alert('acme', 1, 'gold')$$) \gx
SELECT * FROM refused($$SELECT credyt.set_topup('acme', 1, 0)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_topup('acme', NULL, 1)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_topup('acme', 0.001, 1)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_topup('acme', 1, 1, enabled => NULL)$$) \gx
SELECT count(*) FILTER (WHERE w.state::text::credyt.wallet::bytea = w.state::bytea) = count(*) AS both_ways FROM credyt.wallets w;
SELECT * FROM credyt.verify();
