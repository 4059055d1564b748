-- Holds: authorize, capture, release, extend, and what time does to them.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 12:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('video', '2');
SELECT credyt.grant_credits('acme', 100, paid => 10);
\o

-- Approved; the same again; refused, which is an answer and stores nothing
SELECT customer, asset, action, approved, reason, credits, captured, available, status, expires_at, replayed
FROM credyt.authorize('acme', 'video', 30, idempotency_key => 'a') \gx
SELECT approved, credits, available, replayed FROM credyt.authorize('acme', 'video', 30, idempotency_key => 'a', ttl_seconds => 5);
SELECT * FROM refused('SELECT credyt.authorize(''acme'', ''video'', 31, idempotency_key => ''a'')', NULL) \gx
\set VERBOSITY terse
SELECT id, approved, reason, credits, available, status FROM credyt.authorize('acme', 'video', 21, idempotency_key => 'b');
SELECT id, approved, reason, credits, available FROM credyt.authorize('nobody', 'video', 1);
\o /dev/null
SELECT credyt.grant_credits('frozen', 10);
\o
UPDATE credyt.wallets SET status = 'frozen' WHERE customer = 'frozen';
SELECT id, approved, reason, credits, available FROM credyt.authorize('frozen', 'video', 1);
SELECT customer, asset, action, credits, captured, expires_at FROM credyt.open_authorizations;
-- The key of a refusal is free
SELECT approved, credits, available FROM credyt.authorize('acme', 'video', 1, idempotency_key => 'b');
-- What is held can be spent by nobody else
SELECT * FROM credyt.debit_credits('acme', 'video', 20);
SELECT * FROM credyt.authorize('acme', 'nothing');
SELECT * FROM credyt.authorize('acme', 'video', ttl_seconds => 0);
SELECT * FROM credyt.authorize('acme', 'video', overrun => 'maybe');
SELECT * FROM credyt.authorize('acme', 'video', -1);

-- Capture a part: the rest is free. The same totals again change nothing; other totals are refused
SELECT id AS a FROM credyt.authorize('acme', 'video', 30, idempotency_key => 'a') \gset
SELECT kind, action, quantity, credits, revenue, cost, margin, available, held, reason, replayed
FROM credyt.capture('acme', :'a', quantity => 20, cost => 1.5) \gx
SELECT credits, available, held, replayed FROM credyt.capture('acme', :'a', quantity => 20, cost => 1.5);
SELECT * FROM refused('SELECT credyt.capture(''acme'', $1, quantity => 21, cost => 1.5)', :'a') \gx
\set VERBOSITY sqlstate
SELECT * FROM credyt.release('acme', :'a');
SELECT * FROM credyt.extend('acme', :'a');
SELECT * FROM credyt.capture('bert', :'a');
\set VERBOSITY default
SELECT * FROM credyt.capture('acme', '00000000-0000-7000-8000-000000000000');
\set VERBOSITY terse

-- Capture the whole hold: by saying nothing
SELECT id AS b FROM credyt.authorize('acme', 'video', 1, idempotency_key => 'b') \gset
SELECT quantity, credits, available, held FROM credyt.capture('acme', :'b');
SELECT credits, replayed FROM credyt.capture('acme', :'b');

-- Streaming: totals so far, each call charges what is new
SELECT id AS s FROM credyt.authorize('acme', 'video', 10) \gset
SELECT quantity, credits, cost, available, held, replayed FROM credyt.capture('acme', :'s', quantity => 3, cost => 0.1, keep_open => true);
SELECT quantity, credits, cost, available, held, replayed FROM credyt.capture('acme', :'s', quantity => 3, cost => 0.1, keep_open => true);
SELECT quantity, credits, cost, available, held, replayed FROM credyt.capture('acme', :'s', quantity => 7, cost => 0.3, keep_open => true);
-- smaller totals charge and return nothing
SELECT quantity, credits, cost, available, held, replayed FROM credyt.capture('acme', :'s', quantity => 5, cost => 0.2, keep_open => true);
SELECT quantity, credits, cost, available, held, replayed FROM credyt.capture('acme', :'s', quantity => 8, cost => 0.3, keep_open => true);
-- the same totals without keep_open close it
SELECT quantity, credits, cost, available, held, replayed FROM credyt.capture('acme', :'s', quantity => 8, cost => 0.3);
SELECT quantity, credits, cost, available, held, replayed FROM credyt.capture('acme', :'s', quantity => 8, cost => 0.3);
SELECT sum(quantity) AS quantity, sum(credits) AS credits, sum(cost) AS cost FROM credyt.ledger WHERE authorization_id = :'s';
-- or release does
SELECT id AS s FROM credyt.authorize('acme', 'video', 10) \gset
\o /dev/null
SELECT credyt.capture('acme', :'s', quantity => 1, keep_open => true);
\o
SELECT status, credits, captured, available, replayed FROM credyt.release('acme', :'s', reason => 'stopped');
SELECT status, reason, captured, available, replayed FROM credyt.release('acme', :'s', reason => 'again');
\set VERBOSITY sqlstate
SELECT * FROM credyt.capture('acme', :'s', quantity => 1);
\set VERBOSITY terse

-- Priced at the version it was authorized at
SELECT id AS p FROM credyt.authorize('acme', 'video', 2) \gset
\o /dev/null
SELECT credyt.set_price('video', '3');
\o
SELECT credits FROM credyt.capture('acme', :'p', quantity => 1);
SELECT credits FROM credyt.quote('video', 1);
\o /dev/null
SELECT credyt.set_price('video', '2');
\o

-- Above the hold free credits pay; beyond those: reject keeps it open, clamp forgives, overdraft is owed
\o /dev/null
SELECT credyt.grant_credits(c, 10) FROM unnest('{reject, clamp, overdraft}'::text[]) AS c;
\o
SELECT id AS r FROM credyt.authorize('reject', 'video', 3) \gset
SELECT * FROM refused('SELECT credyt.capture(''reject'', $1, quantity => 6)', :'r') \gx
SELECT status FROM credyt.authorizations WHERE id = :'r';
SELECT credits, available, held FROM credyt.capture('reject', :'r', quantity => 5);
SELECT id AS c FROM credyt.authorize('clamp', 'video', 3, overrun => 'clamp') \gset
SELECT quantity, credits, available FROM credyt.capture('clamp', :'c', quantity => 6);
SELECT captured, forgiven FROM credyt.authorizations WHERE id = :'c';
SELECT id AS o FROM credyt.authorize('overdraft', 'video', 3, overrun => 'overdraft') \gset
SELECT quantity, credits, available FROM credyt.capture('overdraft', :'o', quantity => 6);
SELECT settled, available, owed FROM credyt.balance('overdraft');

-- A hold ends by the clock alone; extend counts from now; a late capture takes what is free
\o /dev/null
SELECT credyt.grant_credits('late', 10, paid => 1);
\o
SELECT id AS l, expires_at FROM credyt.authorize('late', 'video', 4, ttl_seconds => 60) \gset
UPDATE credyt.clock SET now = '2026-01-01 12:00:59.999999+00';
SELECT held, available FROM credyt.balance('late');
SELECT expires_at FROM credyt.extend('late', :'l', 60);
UPDATE credyt.clock SET now = '2026-01-01 12:01:59.999999+00';
SELECT held, available FROM credyt.balance('late');
SELECT count(*) FROM credyt.open_authorizations WHERE customer = 'late';
\set VERBOSITY sqlstate
SELECT * FROM credyt.extend('late', :'l', 60);
\set VERBOSITY terse
SELECT credits, available, held, reason FROM credyt.capture('late', :'l', quantity => 3);
SELECT credits, available, replayed, reason FROM credyt.capture('late', :'l', quantity => 3);
-- Asking for and releasing one that has ended
SELECT id AS e FROM credyt.authorize('late', 'video', 1, ttl_seconds => 1, idempotency_key => 'e') \gset
UPDATE credyt.clock SET now = '2026-01-01 12:03+00';
SELECT approved, status, replayed FROM credyt.authorize('late', 'video', 1, ttl_seconds => 1, idempotency_key => 'e');
SELECT status, available FROM credyt.release('late', :'e');

-- A hold outlives its grant; what it gives back after that is lost
\o /dev/null
SELECT credyt.grant_credits('outlives', 10, paid => 1, expires_at => '2026-01-01 12:10+00');
\o
SELECT id AS h FROM credyt.authorize('outlives', 'video', 4) \gset
UPDATE credyt.clock SET now = '2026-01-01 12:10+00';
SELECT settled, held, available FROM credyt.balance('outlives');
SELECT credits, revenue, available, held, reason FROM credyt.capture('outlives', :'h', quantity => 3);
SELECT settled, held, available FROM credyt.balance('outlives');
SELECT kind, credits, revenue, occurred_at FROM credyt.ledger WHERE customer = 'outlives' ORDER BY seq;
SELECT kind, credits, revenue FROM credyt.breakage;

-- Captures and releases go on in a frozen wallet
\o /dev/null
SELECT credyt.grant_credits('cold', 10);
\o
SELECT id AS h FROM credyt.authorize('cold', 'video', 2) \gset
SELECT id AS i FROM credyt.authorize('cold', 'video', 1) \gset
UPDATE credyt.wallets SET status = 'frozen' WHERE customer = 'cold';
SELECT credits, available FROM credyt.capture('cold', :'h');
SELECT status, available FROM credyt.release('cold', :'i');
SELECT * FROM credyt.verify();

-- Free credits that pay in place of the held overdraft free it.
SELECT overdraft_limit FROM credyt.open_wallet('od', overdraft_limit => 20);
SELECT credits FROM credyt.grant_credits('od', 1);
SELECT id AS od FROM credyt.authorize('od', 'x', credits => 3) \gset
SELECT credits FROM credyt.grant_credits('od', 10);
SELECT credits, held, available FROM credyt.capture('od', :'od', credits => 3, keep_open => true);
SELECT * FROM credyt.verify('od');
