-- Debt and credits that may pay it never stand side by side.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 00:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('api.call', '1');
SELECT credyt.set_price('image', '1');
\o

-- Who owes for api calls and buys credits for api calls has paid, and the revenue is earned
\o /dev/null
SELECT credyt.open_wallet('api', overdraft_limit => 50);
SELECT credyt.debit_credits('api', 'api.call', 40);
\o
SELECT credits, remaining, deferred FROM credyt.grant_credits('api', 100, paid => 10, applies_to => '{api.*}');
SELECT settled, available, owed FROM credyt.balance('api');
SELECT kind, action, credits, revenue FROM credyt.ledger WHERE customer = 'api' ORDER BY seq;

-- A chargeback takes what is free, whatever it is for; nothing is left to spend or to give away
SELECT id AS g FROM credyt.grant_credits('fraud', 600, paid => 60) \gset
\o /dev/null
SELECT credyt.debit_credits('fraud', 'image', 550);
SELECT credyt.grant_credits('fraud', 39, kind => 'promotional');
SELECT credyt.grant_credits('fraud', 50, applies_to => '{image}', expires_at => '2026-02-01');
\o
SELECT remaining FROM credyt.revoke_grant('fraud', :'g', spent => 'owe');
SELECT settled, held, available, owed FROM credyt.balance('fraud');
\set VERBOSITY sqlstate
SELECT credyt.debit_credits('fraud', 'image');
SELECT credyt.transfer('fraud', 'friend', 1);
\set VERBOSITY default
SELECT kind, action, credits, revenue FROM credyt.ledger WHERE customer = 'fraud' ORDER BY seq;

-- What a hold gives back, by a release, a capture or its end, pays what is owed
\o /dev/null
SELECT credyt.open_wallet('held', overdraft_limit => 100);
SELECT credyt.grant_credits('held', 30, paid => 3);
\o
SELECT id AS h1 FROM credyt.authorize('held', 'image', 10, ttl_seconds => 60) \gset
SELECT id AS h2 FROM credyt.authorize('held', 'image', 10) \gset
SELECT id AS h3 FROM credyt.authorize('held', 'image', 10) \gset
\o /dev/null
SELECT credyt.debit_credits('held', 'api.call', 25);
\o
SELECT settled, held, available, owed FROM credyt.balance('held');
SELECT available FROM credyt.release('held', :'h2');
SELECT settled, held, available, owed FROM credyt.balance('held');
SELECT credits FROM credyt.capture('held', :'h3', 6);
SELECT settled, held, available, owed FROM credyt.balance('held');
UPDATE credyt.clock SET now = '2026-01-01 00:01+00';
SELECT settled, held, available, owed FROM credyt.balance('held');
SELECT credits, available FROM credyt.debit_credits('held', 'image', 0);
SELECT kind, action, credits, revenue, occurred_at FROM credyt.ledger WHERE customer = 'held' AND kind = 'settlement' ORDER BY seq;

-- So does a refund of another debit
\o /dev/null
SELECT credyt.open_wallet('refund', overdraft_limit => 20);
SELECT credyt.grant_credits('refund', 10, paid => 1);
\o
SELECT id AS d FROM credyt.debit_credits('refund', 'image', 10) \gset
\o /dev/null
SELECT credyt.debit_credits('refund', 'api.call', 7);
\o
SELECT credits, available FROM credyt.refund('refund', :'d');
SELECT settled, available, owed FROM credyt.balance('refund');

-- Credits that end while the customer owes have paid before
\o /dev/null
SELECT credyt.open_wallet('ending', overdraft_limit => 20);
SELECT credyt.debit_credits('ending', 'image', 5);
SELECT credyt.grant_credits('ending', 3, applies_to => '{api.call}', expires_at => '2026-01-02');
SELECT credyt.grant_credits('ending', 3, expires_at => '2026-01-02');
\o
UPDATE credyt.clock SET now = '2026-01-03 00:00+00';
SELECT settled, available, owed FROM credyt.balance('ending');
SELECT kind, credits FROM credyt.breakage;

-- An event tells what settled - held is
\o /dev/null
SELECT credyt.open_wallet('told', overdraft_limit => 100);
SELECT credyt.grant_credits('told', 30, applies_to => '{image}');
SELECT credyt.set_alert('told', 5);
SELECT credyt.debit_credits('told', 'api.call', 27);
\o
SELECT payload FROM credyt.events_pending WHERE customer = 'told';
SELECT settled - held AS available FROM credyt.balance('told');

-- A refund and a revocation with owe, in both orders: alike
CREATE FUNCTION ends(name text) RETURNS TABLE (settled numeric, available numeric, owed numeric, deferred numeric, earned numeric) LANGUAGE sql AS $$
    SELECT b.settled, b.available, b.owed, (SELECT sum(g.deferred) FROM credyt.grant_balances g WHERE g.customer = name),
           (SELECT sum(l.revenue) FROM credyt.ledger l WHERE l.customer = name)
    FROM credyt.balance(name) b
$$;
SELECT id AS g FROM credyt.grant_credits('one', 100, paid => 10) \gset
SELECT id AS d FROM credyt.debit_credits('one', 'image', 30) \gset
\o /dev/null
SELECT credyt.refund('one', :'d');
SELECT credyt.revoke_grant('one', :'g', spent => 'owe');
SELECT credyt.grant_credits('one', 50, paid => 5);
\o
SELECT * FROM ends('one');

SELECT id AS g FROM credyt.grant_credits('two', 100, paid => 10) \gset
SELECT id AS d FROM credyt.debit_credits('two', 'image', 30) \gset
\o /dev/null
SELECT credyt.revoke_grant('two', :'g', spent => 'owe');
\o
SELECT * FROM ends('two');
SELECT r.credits, r.revenue, r.available, r.allocations->0->>'kind' AS kind, l.kind AS lowers, l.refers_to = :'g' AS of_the_grant
FROM credyt.refund('two', :'d') r
JOIN credyt.ledger l ON l.customer = r.customer AND l.id = (r.allocations->0->'debts'->>0)::uuid;
\o /dev/null
SELECT credyt.grant_credits('two', 50, paid => 5);
\o
SELECT * FROM ends('two');

-- Also when the debt has been paid meanwhile: who paid it gets the credits back, with their money
SELECT id AS g FROM credyt.grant_credits('three', 100, paid => 10) \gset
SELECT id AS d FROM credyt.debit_credits('three', 'image', 30) \gset
\o /dev/null
SELECT credyt.revoke_grant('three', :'g', spent => 'owe');
SELECT credyt.grant_credits('three', 50, paid => 5);
\o
SELECT * FROM ends('three');
SELECT credits, revenue, available FROM credyt.refund('three', :'d', 10);
SELECT credits, revenue, available FROM credyt.refund('three', :'d');
SELECT * FROM ends('three');
\set VERBOSITY sqlstate
SELECT credyt.refund('three', :'d', 1);
\set VERBOSITY default

-- A part: first what is unspent, the rest as debt, in both orders
SELECT id AS g FROM credyt.grant_credits('part', 100, paid => 10) \gset
SELECT id AS d FROM credyt.debit_credits('part', 'image', 30) \gset
SELECT credits, remaining, deferred FROM credyt.revoke_grant('part', :'g', 80, spent => 'owe', idempotency_key => 'r');
SELECT * FROM ends('part');
SELECT credits, remaining, replayed FROM credyt.revoke_grant('part', :'g', 80, spent => 'owe', idempotency_key => 'r');
SELECT credits, revenue, available FROM credyt.refund('part', :'d', 5);
SELECT * FROM ends('part');
SELECT credits, revenue, available FROM credyt.refund('part', :'d');
SELECT * FROM ends('part');
SELECT id AS g FROM credyt.grant_credits('part2', 100, paid => 10) \gset
SELECT id AS d FROM credyt.debit_credits('part2', 'image', 30) \gset
\o /dev/null
SELECT credyt.refund('part2', :'d');
SELECT credyt.revoke_grant('part2', :'g', 80, spent => 'owe');
\o
SELECT * FROM ends('part2');
\set VERBOSITY sqlstate
SELECT credyt.revoke_grant('part2', :'g', 21, spent => 'owe');
\set VERBOSITY default

-- Nothing left to take: no row, however often, and what comes back to it later is lost
SELECT id AS g FROM credyt.grant_credits('again', 10, paid => 1) \gset
SELECT id AS d FROM credyt.debit_credits('again', 'image', 10) \gset
SELECT remaining FROM credyt.revoke_grant('again', :'g');
SELECT remaining FROM credyt.revoke_grant('again', :'g', reason => 'twice');
SELECT count(*) FROM credyt.ledger WHERE customer = 'again' AND kind = 'revocation';
SELECT credits, available FROM credyt.refund('again', :'d', 4);
SELECT remaining FROM credyt.revoke_grant('again', :'g', spent => 'owe');
SELECT remaining FROM credyt.revoke_grant('again', :'g', spent => 'owe');
SELECT * FROM ends('again');
SELECT credits, reason FROM credyt.ledger WHERE customer = 'again' AND kind = 'revocation' ORDER BY seq;
-- A key is kept with a row of 0, one for each key, so that the same call again is its replay
SELECT remaining, replayed FROM credyt.revoke_grant('again', :'g', idempotency_key => 'once');
SELECT remaining, replayed FROM credyt.revoke_grant('again', :'g', idempotency_key => 'once');
SELECT credits, reason FROM credyt.ledger WHERE customer = 'again' AND kind = 'revocation' ORDER BY seq;

-- The last payment comes back first, also where one grant paid twice: A paid 10, then B 5, then A 5
\set VERBOSITY default
\o /dev/null
SELECT credyt.open_wallet('order', overdraft_limit => 100);
SELECT id AS a FROM credyt.grant_credits('order', 20, paid => 20, applies_to => '{image}') \gset
SELECT id AS h FROM credyt.authorize('order', 'image', 10) \gset
SELECT id AS d FROM credyt.debit_credits('order', 'image', 20) \gset
SELECT id AS b FROM credyt.grant_credits('order', 5, paid => 10) \gset
SELECT credyt.release('order', :'h');
\o
SELECT kind, credits, allocations->0->>'credits' AS part, (allocations->0->>'grant')::uuid = :'a' AS of_a
FROM credyt.ledger WHERE customer = 'order' AND kind IN ('debit', 'settlement') ORDER BY seq;
SELECT credits, part->>'credits' AS part, part->>'revenue' AS revenue, (part->>'grant')::uuid = :'a' AS of_a
FROM credyt.refund('order', :'d', 7), jsonb_array_elements(allocations) AS part;
SELECT credits, part->>'credits' AS part, part->>'revenue' AS revenue, (part->>'grant')::uuid = :'a' AS of_a
FROM credyt.refund('order', :'d', 5), jsonb_array_elements(allocations) AS part;
SELECT credits, revenue FROM credyt.refund('order', :'d');
SELECT * FROM ends('order');

-- A chain: B paid the debt of A's revocation and is revoked with it; C pays both, and gets all back, piece by piece
\o /dev/null
SELECT id AS a FROM credyt.grant_credits('chain', 100, paid => 10) \gset
SELECT id AS d FROM credyt.debit_credits('chain', 'image', 100) \gset
SELECT credyt.revoke_grant('chain', :'a', spent => 'owe');
SELECT id AS b FROM credyt.grant_credits('chain', 60, paid => 6) \gset
SELECT credyt.revoke_grant('chain', :'b', spent => 'owe');
SELECT id AS c FROM credyt.grant_credits('chain', 150, paid => 15) \gset
\o
SELECT * FROM ends('chain');
SELECT revenue, part->>'credits' AS part, (part->>'grant')::uuid = :'c' AS of_c, jsonb_array_length(part->'debts') AS debts
FROM credyt.refund('chain', :'d', 30), jsonb_array_elements(allocations) AS part;
SELECT revenue, part->>'credits' AS part, (part->>'grant')::uuid = :'c' AS of_c, jsonb_array_length(part->'debts') AS debts
FROM credyt.refund('chain', :'d', 30), jsonb_array_elements(allocations) AS part;
SELECT revenue, part->>'credits' AS part, (part->>'grant')::uuid = :'c' AS of_c, jsonb_array_length(part->'debts') AS debts
FROM credyt.refund('chain', :'d'), jsonb_array_elements(allocations) AS part;
SELECT * FROM ends('chain');
SELECT id, returned FROM (SELECT row_number() OVER (ORDER BY seq) AS id, returned FROM credyt.open_debts WHERE customer = 'chain') d;

-- What is held of a grant while it is revoked with owe is owed once it is captured, as if it had been before
\o /dev/null
SELECT id AS g FROM credyt.grant_credits('pinned1', 100, paid => 10) \gset
SELECT credyt.debit_credits('pinned1', 'image', 30);
SELECT id AS h FROM credyt.authorize('pinned1', 'image', 20) \gset
SELECT credyt.revoke_grant('pinned1', :'g', spent => 'owe');
\o
SELECT * FROM ends('pinned1');
SELECT credits, revenue, available FROM credyt.capture('pinned1', :'h', 15);
SELECT credits, revenue, available, replayed FROM credyt.capture('pinned1', :'h', 15);
SELECT * FROM ends('pinned1');
SELECT kind, credits, revenue, balance, reason FROM credyt.ledger WHERE customer = 'pinned1' ORDER BY seq;
\o /dev/null
SELECT id AS g FROM credyt.grant_credits('pinned2', 100, paid => 10) \gset
SELECT credyt.debit_credits('pinned2', 'image', 30);
SELECT id AS h FROM credyt.authorize('pinned2', 'image', 20) \gset
SELECT credyt.capture('pinned2', :'h', 15);
SELECT credyt.revoke_grant('pinned2', :'g', spent => 'owe');
\o
SELECT * FROM ends('pinned2');
-- in parts, then nothing is left to owe; and what comes back lowers the debt
\o /dev/null
SELECT id AS g FROM credyt.grant_credits('pinned3', 10, paid => 1) \gset
SELECT id AS h FROM credyt.authorize('pinned3', 'image', 10) \gset
SELECT credyt.revoke_grant('pinned3', :'g', spent => 'owe');
SELECT id AS d FROM credyt.capture('pinned3', :'h', 4, keep_open => true) \gset
\o
SELECT * FROM ends('pinned3');
SELECT credits, available FROM credyt.capture('pinned3', :'h', 10);
SELECT * FROM ends('pinned3');
SELECT remaining FROM credyt.revoke_grant('pinned3', :'g', spent => 'owe');
SELECT * FROM ends('pinned3');
SELECT credits, revenue FROM credyt.refund('pinned3', :'d');
SELECT * FROM ends('pinned3');
-- kept is kept, until it is owed
\o /dev/null
SELECT id AS g FROM credyt.grant_credits('pinned4', 10, paid => 1) \gset
SELECT id AS h FROM credyt.authorize('pinned4', 'image', 10) \gset
SELECT credyt.revoke_grant('pinned4', :'g');
SELECT credyt.capture('pinned4', :'h', 4, keep_open => true);
\o
SELECT * FROM ends('pinned4');
\o /dev/null
SELECT credyt.revoke_grant('pinned4', :'g', spent => 'owe');
\o
SELECT * FROM ends('pinned4');
SELECT credits, available FROM credyt.capture('pinned4', :'h', 10);
SELECT * FROM ends('pinned4');

SELECT * FROM credyt.verify();
