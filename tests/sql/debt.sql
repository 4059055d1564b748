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

-- Credits that end while somebody owes have paid before
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
SELECT credits, revenue, available, allocations->0->>'kind' AS kind, allocations->0->>'instead_of' = :'g' AS instead_of
FROM credyt.refund('two', :'d');
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

SELECT * FROM credyt.verify();
