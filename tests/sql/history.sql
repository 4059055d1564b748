-- history: what happened in a wallet, for its customer, newest first.
\pset null -
INSERT INTO credyt.clock VALUES ('2026-03-01 12:00+00');
SELECT asset FROM credyt.create_asset('credits');
SELECT action FROM credyt.set_price('image', '1');
SELECT kind FROM credyt.grant_credits('ann', 100, paid => 10);
SELECT kind FROM credyt.grant_credits('ann', 30, 'promotional', expires_at => '2026-03-05Z');
UPDATE credyt.clock SET now = '2026-03-02 12:00+00';
SELECT credits FROM credyt.debit_credits('ann', 'image', 12, cost => 0.5, idempotency_key => 'd');
SELECT r.credits FROM credyt.ledger l CROSS JOIN credyt.refund('ann', l.id, 2, reason => 'blurred') r WHERE l.idempotency_key = 'd';
SELECT credits FROM credyt.transfer('ann', 'ben', 5, reason => 'for the team');
SELECT occurred_at::date AS day, kind, action, quantity, credits, balance, reason FROM credyt.history('ann');
-- What is due and not booked yet is there, without an id, and balance agrees.
UPDATE credyt.clock SET now = '2026-03-06 12:00+00';
SELECT id IS NULL AS pending, occurred_at::date AS day, kind, credits, balance FROM credyt.history('ann', count => 2);
SELECT settled FROM credyt.balance('ann');
SELECT count(*) FROM credyt.history('ann');
-- Page by page.
SELECT h.id AS last FROM credyt.history('ann', count => 2) h OFFSET 2 \gset
SELECT kind, credits, balance FROM credyt.history('ann', before => :'last', count => 2);
SELECT kind, credits, balance FROM credyt.history(jsonb_build_object('customer', 'ann', 'before', :'last', 'count', 2));
SELECT count(*) FROM credyt.history('ann', before => '00000000-0000-0000-0000-000000000000');
SELECT booked FROM credyt.maintain();
SELECT id IS NULL AS pending, occurred_at::date AS day, kind, credits, balance FROM credyt.history('ann', count => 2);
SELECT kind, credits, balance FROM credyt.history('ben');
SELECT * FROM credyt.history('nobody');

\set VERBOSITY terse
SELECT * FROM credyt.history('ann', count => 0);
SELECT * FROM credyt.history('ann', count => 10001);
SELECT * FROM credyt.history('ann', count => NULL);
SELECT * FROM credyt.history('ann', asset => 'gold');
SELECT * FROM credyt.history(NULL);

-- A first page of nothing but pending rows would have no id to go on from.
SELECT plan FROM credyt.create_plan('daily', 10, '1 day');
SELECT status FROM credyt.subscribe('cat', 'daily');
UPDATE credyt.clock SET now = '2026-03-20 12:00+00';
SELECT count(*) > 20 AS many_pending, (array_agg(id))[count(*)] IS NOT NULL AS ends_with_an_id FROM credyt.history('cat', count => 1);
