-- Refunds: back to the grants that paid, the last one first, with the revenue they earned.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 00:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image', '1');
SELECT credyt.grant_credits('acme', 5, kind => 'promotional', paid => 1);
SELECT credyt.grant_credits('acme', 10, paid => 5);
\o

-- A part, the same again, the rest, and no more
SELECT id AS d, credits, revenue FROM credyt.debit_credits('acme', 'image', 9, cost => 0.9) \gset
SELECT kind, action, quantity, credits, revenue, cost, margin, available, replayed
FROM credyt.refund('acme', :'d', 6, reason => 'black', idempotency_key => 'r') \gx
SELECT credits, available, replayed FROM credyt.refund('acme', :'d', 6, reason => 'not compared', idempotency_key => 'r');
SELECT position, kind, remaining FROM credyt.spend_order WHERE customer = 'acme';
\set VERBOSITY sqlstate
SELECT * FROM credyt.refund('acme', :'d', 5, idempotency_key => 'r');
\set VERBOSITY terse
SELECT * FROM refused('SELECT credyt.refund(''acme'', $1, 4)', :'d') \gx
SELECT credits, revenue, available FROM credyt.refund('acme', :'d');
\set VERBOSITY sqlstate
SELECT * FROM credyt.refund('acme', :'d');
SELECT * FROM credyt.refund('bert', :'d');
\set VERBOSITY default
SELECT * FROM credyt.refund('acme', '00000000-0000-7000-8000-000000000000');
\echo :SQLSTATE
\set VERBOSITY terse
SELECT * FROM credyt.refund('acme', :'d', 0);
SELECT * FROM credyt.refund('acme', :'d', -1);
SELECT * FROM credyt.refund('acme', NULL);
SELECT * FROM credyt.refund('acme', :'d', 1, restore_until => '2025-12-31');
SELECT l.credits, l.revenue, l.reason, a.kind, a.credits, a.revenue
FROM credyt.ledger l, jsonb_to_recordset(allocations) AS a (kind text, credits text, revenue text)
WHERE l.kind = 'refund' ORDER BY l.seq;
SELECT action, credits, revenue, cost, margin FROM credyt.margin_by_action;

-- A debit of nothing has nothing to refund; a refund is no debit
SELECT id AS z FROM credyt.debit_credits('acme', 'image', 0) \gset
SELECT credits FROM credyt.refund('acme', :'z');
SELECT id AS f FROM credyt.ledger WHERE kind = 'refund' ORDER BY seq LIMIT 1 \gset
\set VERBOSITY sqlstate
SELECT * FROM credyt.refund('acme', :'f');
\set VERBOSITY terse

-- A capture is refunded like a debit
SELECT id AS h FROM credyt.authorize('acme', 'image', 4) \gset
SELECT id AS c FROM credyt.capture('acme', :'h') \gset
SELECT credits, available FROM credyt.refund('acme', :'c', 1);

-- A grant that has ended loses them, unless restore_until issues them again
\o /dev/null
SELECT credyt.grant_credits('ended', 10, paid => 5, kind => 'included', expires_at => '2026-02-01');
\o
SELECT id AS d FROM credyt.debit_credits('ended', 'image', 6) \gset
UPDATE credyt.clock SET now = '2026-02-02 00:00+00';
SELECT credits, revenue, available FROM credyt.refund('ended', :'d', 2);
SELECT credits, revenue, available FROM credyt.refund('ended', :'d', 3, restore_until => '2026-03-01');
SELECT kind, credits, remaining, paid, deferred, expires_at, origin IS NOT NULL AS again FROM credyt.grant_balances WHERE customer = 'ended' ORDER BY id;
SELECT kind, credits, revenue, occurred_at FROM credyt.ledger WHERE customer = 'ended' ORDER BY seq;
SELECT kind, credits, revenue FROM credyt.breakage;

-- So does one that was revoked
SELECT id AS g FROM credyt.grant_credits('revoked', 10, paid => 5) \gset
SELECT id AS d FROM credyt.debit_credits('revoked', 'image', 4) \gset
\o /dev/null
SELECT credyt.revoke_grant('revoked', :'g');
\o
SELECT credits, available FROM credyt.refund('revoked', :'d');

-- What was owed is lowered first
\o /dev/null
SELECT credyt.open_wallet('owing', overdraft_limit => 10);
SELECT credyt.grant_credits('owing', 3, paid => 3);
\o
SELECT id AS d FROM credyt.debit_credits('owing', 'image', 8) \gset
SELECT owed, available FROM credyt.balance('owing');
SELECT credits, revenue, available FROM credyt.refund('owing', :'d', 6);
SELECT settled, owed, available FROM credyt.balance('owing');
SELECT * FROM credyt.verify();
