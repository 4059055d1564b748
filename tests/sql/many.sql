-- Many calls as one: debit_many, grant_many.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-03-30 10:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.create_asset('points', scale => 0);
SELECT credyt.set_price('image', '1');
SELECT credyt.set_price('text', '0.35');
\o

-- Grants open the wallets; answers come in the order given
SELECT customer, asset, kind, credits, remaining, paid, deferred, priority, expires_at, applies_to, replayed FROM credyt.grant_many('[
    {"customer": "zoe", "credits": 10, "paid": "2.50"},
    {"customer": "ann", "credits": "20.50", "kind": "promotional", "applies_to": ["image*"], "expires_at": "2026-04-30T00:00:00Z"},
    {"customer": "zoe", "credits": 5, "asset": "points", "priority": "7", "idempotency_key": "invoice 1", "metadata": {"n": 1}},
    {"customer": "zoe", "credits": 5.0, "asset": "points", "priority": 7.0, "idempotency_key": "invoice 1"},
    {"customer": "zoe", "credits": 3, "effective_at": "2026-03-31 00:00+02"}]');
SELECT customer, asset, seq, kind, credits, idempotency_key, allocations->0->>'deferred' AS deferred FROM credyt.ledger ORDER BY customer, asset, seq;
-- The key counts for single calls, too, and theirs here
SELECT replayed FROM credyt.grant_credits('zoe', 5, asset => 'points', priority => 7, idempotency_key => 'invoice 1');
SELECT credits, replayed FROM credyt.grant_many('[{"customer": "zoe", "credits": 5, "asset": "points", "priority": 7, "idempotency_key": "invoice 1"}]');
SELECT * FROM refused($$SELECT credyt.grant_many('[{"customer": "bob", "credits": 5}, {"customer": "zoe", "credits": 6, "asset": "points", "idempotency_key": "invoice 1"}]')$$) \gx
SELECT * FROM refused($$SELECT credyt.grant_many('[{"customer": "bob", "credits": 5, "asset": "none"}]')$$) \gx
SELECT * FROM refused($$SELECT credyt.grant_many('[{"customer": "bob", "credits": 5}, {"customer": "ann", "credits": 5, "expires_at": "2026-03-01Z"}]')$$) \gx
SELECT count(*) FROM credyt.wallets WHERE customer = 'bob';

-- Debits: one customer's calls one after another, in the order given
SELECT customer, asset, action, quantity, credits, revenue, cost, margin, available, reason, replayed FROM credyt.debit_many('[
    {"customer": "zoe", "action": "image", "quantity": 4, "cost": "0.3", "idempotency_key": "a", "scopes": ["user:x", "a \"b\\\\c\""]},
    {"customer": "ann", "action": "image"},
    {"customer": "zoe", "action": "text", "quantity": "1.5", "occurred_at": "2026-03-29T12:00:00Z", "metadata": [null]},
    {"customer": "zoe", "action": "image", "quantity": 4.0, "cost": 0.30, "idempotency_key": "a", "scopes": ["a \"b\\\\c\"", "user:x"]},
    {"customer": "zoe", "action": "bonus", "credits": 2, "asset": "points", "dimensions": {"model": "m"}},
    {"customer": "ann", "action": "image", "quantity": 0}]');
SELECT customer, asset, seq, action, quantity, credits, price_version, scopes, dimensions, metadata, occurred_at FROM credyt.ledger
WHERE kind = 'debit' ORDER BY customer, asset, seq;
-- A key that is used twice for different things
SELECT * FROM refused($$SELECT credyt.debit_many('[{"customer": "zoe", "action": "image", "idempotency_key": "b"}, {"customer": "zoe", "action": "text", "idempotency_key": "b"}]', 'skip')$$) \gx
SELECT * FROM refused($$SELECT credyt.debit_many('[{"customer": "zoe", "action": "image", "idempotency_key": "invoice 1"}]', 'skip')$$) \gx

-- All or none: the first refused, in the order given, is raised
SELECT * FROM refused($$SELECT credyt.debit_many('[{"customer": "zoe", "action": "image"}, {"customer": "zoe", "action": "image", "quantity": 50}, {"customer": "ann", "action": "image", "quantity": 50}]')$$) \gx
SELECT * FROM refused($$SELECT credyt.debit_many('[{"customer": "zoe", "action": "image"}, {"customer": "bob", "action": "image"}, {"customer": "ann", "action": "image", "quantity": 50}]')$$) \gx
SELECT customer, asset, settled FROM credyt.wallet_balances ORDER BY 1, 2;

-- Left out: what a wallet refuses books nothing, and its key is free
\o /dev/null
SELECT credyt.grant_credits('cold', 5); SELECT credyt.freeze_wallet('cold');
SELECT credyt.set_limit('ann', 'user:a', 2, 'day');
\o
SELECT id IS NULL AS refused, customer, quantity, credits, revenue, available, held, allocations = '[]' AS nothing, reason, created_at FROM credyt.debit_many('[
    {"customer": "zoe", "action": "image", "quantity": 50, "idempotency_key": "c"},
    {"customer": "bob", "action": "image"},
    {"customer": "cold", "action": "image"},
    {"customer": "ann", "action": "image", "quantity": 3, "scopes": ["user:a"]},
    {"customer": "ann", "action": "image", "quantity": 2, "scopes": ["user:a"]},
    {"customer": "ann", "action": "image", "quantity": 1, "scopes": ["user:a"]},
    {"customer": "zoe", "action": "image", "idempotency_key": "c"}]', 'skip');
SELECT scope, used FROM credyt.limits_used;
-- Anything else is raised all the same
SELECT * FROM refused($$SELECT credyt.debit_many('[{"customer": "zoe", "action": "unpriced"}]', 'skip')$$) \gx
SELECT * FROM refused($$SELECT credyt.debit_many('[{"customer": "zoe", "action": "image", "asset": "none"}]', 'skip')$$) \gx

-- What is wrong is named
SELECT message FROM (VALUES ('3'), ('[3]'), ('[{}]'), ('[{"customer": "zoe"}]'), ('[{"customer": "zoe", "action": "image", "quantity": "x"}]'),
    ('[{"customer": "zoe", "action": "image"}, {"customer": "zoe", "action": "image", "credits": 1.001}]'),
    ('[{"customer": "zoe", "action": "image", "kwantity": 1}]'), ('[{"customer": 1, "action": "image"}]'),
    ('[{"customer": "zoe", "action": "image", "occurred_at": "soon"}]'), ('[{"customer": "zoe", "action": "image", "occurred_at": "2026-03-31Z"}]'),
    ('[{"customer": "zoe", "action": "image", "scopes": "user:a"}]'), ('[{"customer": "zoe", "action": "image", "usage": {"body": {}}}]')) AS r (requests),
    refused(format('SELECT credyt.debit_many(%L)', requests));

-- Debts are paid in their order, by the grants in theirs; due things are booked; the application is told
\o /dev/null
SELECT credyt.open_wallet('dee', overdraft_limit => 10);
SELECT credyt.grant_credits('dee', 3, expires_at => '2026-04-01 00:00+00', paid => 3), credyt.set_topup('dee', 2, 50);
\o
SELECT credits, available, allocations @> '[{"kind": "overdraft"}]' AS owes FROM credyt.debit_many('[{"customer": "dee", "action": "image", "quantity": 2},
    {"customer": "dee", "action": "image", "quantity": 4}, {"customer": "dee", "action": "text", "quantity": 10}]');
UPDATE credyt.clock SET now = '2026-04-02 10:00+00';
SELECT credits, remaining, deferred FROM credyt.grant_many('[{"customer": "dee", "credits": 4, "paid": 4}, {"customer": "dee", "credits": 9, "paid": 9, "kind": "promotional"}]');
SELECT seq, kind, action, credits, revenue FROM credyt.ledger WHERE customer = 'dee' ORDER BY seq;
SELECT type, payload->>'available' AS available FROM credyt.events WHERE customer = 'dee' ORDER BY id;
SELECT settled, owed FROM credyt.wallet_balances WHERE customer = 'dee';
SELECT * FROM credyt.verify();
