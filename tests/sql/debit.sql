-- Debits: what they answer, what they refuse, and the same one again.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 12:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image', '1');
SELECT credyt.set_price('chat', '{"meters": {"tokens": {"per": 1000, "credits": "0.5"}}}');
SELECT credyt.set_price('agent', '{"cost_plus": {"markup": "0.5", "credit_value": "0.1"}}');
SELECT credyt.grant_credits('acme', 10, kind => 'promotional');
SELECT credyt.grant_credits('acme', 100, paid => 50);
\o

-- From two grants: the gift earns nothing
SELECT customer, asset, kind, action, quantity, credits, revenue, cost, margin, available, held, authorization_id, replayed, reason, created_at
FROM credyt.debit_credits('acme', 'image', 12, cost => 0.25) \gx
SELECT a.kind, a.credits, a.revenue, a."grant" IS NOT NULL AS grant
FROM credyt.ledger, jsonb_to_recordset(allocations) AS a (kind text, credits text, revenue text, "grant" uuid)
WHERE ledger.kind = 'debit';

-- By dimensions, by cost, by credits; nothing at all; without a cost the margin is not known
SELECT credits, revenue, margin FROM credyt.debit_credits('acme', 'chat', dimensions => '{"tokens": 1700}');
SELECT credits, revenue, margin FROM credyt.debit_credits('acme', 'agent', cost => 0.2);
SELECT credits, revenue, margin FROM credyt.debit_credits('acme', 'support', credits => 2.5, cost => 0);
SELECT credits, revenue, margin, available FROM credyt.debit_credits('acme', 'image', 0);
SELECT credits, revenue, margin, available FROM credyt.debit_credits('acme', 'image', credits => 0, cost => 0.3);
SELECT action, quantity, credits, revenue, cost, price_version FROM credyt.ledger WHERE kind = 'debit' ORDER BY seq;

-- When it happened, and what the application wants to keep with it
\o /dev/null
SELECT credyt.debit_credits('acme', 'image', occurred_at => '2025-12-24 18:00+00', metadata => '{"job": 7}',
    scopes => '{user:alice}', dimensions => '{"size": "4k"}', usage => '{"vendor": "acme", "body": {"images": 1}}');
\o
SELECT occurred_at, accounted_at, created_at, metadata, scopes, dimensions, usage FROM credyt.ledger ORDER BY seq DESC LIMIT 1;
SELECT * FROM credyt.debit_credits('acme', 'image', occurred_at => '2026-01-01 12:00:01+00');

-- The same call again changes nothing, however it is written; another one is refused
SELECT credits, revenue, available, replayed FROM credyt.debit_credits('acme', 'image', 3, idempotency_key => 'job-1');
\o /dev/null
SELECT credyt.debit_credits('acme', 'image', 5);
\o
SELECT credits, revenue, available, replayed
FROM credyt.debit_credits('acme', 'image', 3.00, '{}', idempotency_key => 'job-1', metadata => '"not compared"', occurred_at => '2025-01-01');
-- ... even where the call itself would be refused: nothing is spent on the way to that
SELECT credits, available, replayed FROM credyt.debit_credits('acme', 'image', 3, idempotency_key => 'job-1', occurred_at => '2099-01-01');
\set VERBOSITY terse
SELECT * FROM credyt.debit_credits('acme', 'image', 4, idempotency_key => 'job-1');
\set VERBOSITY sqlstate
SELECT * FROM credyt.debit_credits('acme', 'chat', 3, idempotency_key => 'job-1');
SELECT * FROM credyt.debit_credits('acme', 'image', 3, cost => 1, idempotency_key => 'job-1');
SELECT * FROM credyt.debit_credits('acme', 'image', 3, credits => 3, idempotency_key => 'job-1');
SELECT * FROM credyt.debit_credits('acme', 'image', 3, '{"size": "4k"}', idempotency_key => 'job-1');
SELECT * FROM credyt.grant_credits('acme', 3, idempotency_key => 'job-1');
-- Another customer has other keys; a call that failed leaves none
SELECT * FROM credyt.debit_credits('bert', 'image', idempotency_key => 'job-1');
\o /dev/null
SELECT credyt.grant_credits('bert', 1);
\o
SELECT * FROM credyt.debit_credits('bert', 'image', 2, idempotency_key => 'job-1');
SELECT credits, replayed FROM credyt.debit_credits('bert', 'image', 1, idempotency_key => 'job-1');
-- A replay answers even when the wallet could not pay again
SELECT credits, available, replayed FROM credyt.debit_credits('bert', 'image', 1, idempotency_key => 'job-1');

-- Every refusal, with code, detail and hint
\set VERBOSITY default
SELECT * FROM credyt.debit_credits('bert', 'image', 2.5);
\echo :SQLSTATE
SELECT * FROM credyt.debit_credits('o''hara', 'image');
\echo :SQLSTATE
SELECT * FROM credyt.debit_credits('acme', 'nothing');
\echo :SQLSTATE
SELECT * FROM credyt.debit_credits('acme', 'image', asset => 'gems');
\echo :SQLSTATE
SELECT * FROM credyt.debit_credits('acme', 'agent');
\echo :SQLSTATE
SELECT * FROM credyt.debit_credits('acme', 'agent', usage => '{"vendor": "acme", "body": {}}');
\echo :SQLSTATE
UPDATE credyt.wallets SET status = 'frozen' WHERE customer = 'bert';
SELECT * FROM credyt.debit_credits('bert', 'image');
\echo :SQLSTATE
\set VERBOSITY terse
SELECT * FROM credyt.debit_credits(NULL, 'image');
SELECT * FROM credyt.debit_credits('acme', '');
SELECT * FROM credyt.debit_credits('acme', 'image', NULL);
SELECT * FROM credyt.debit_credits('acme', 'image', -1);
SELECT * FROM credyt.debit_credits('acme', 'image', 'NaN');
SELECT * FROM credyt.debit_credits('acme', 'image', 1e30);
SELECT * FROM credyt.debit_credits('acme', 'image', 1e20);
SELECT * FROM credyt.debit_credits('acme', 'image', 1, NULL);
SELECT * FROM credyt.debit_credits('acme', 'image', 1, '[1]');
SELECT * FROM credyt.debit_credits('acme', 'image', credits => 0.001);
SELECT * FROM credyt.debit_credits('acme', 'image', credits => -1);
SELECT * FROM credyt.debit_credits('acme', 'image', credits => 1e15);
SELECT * FROM credyt.debit_credits('acme', 'image', cost => -0.01);
SELECT credits, cost FROM credyt.debit_credits('acme', 'image', credits => 0, cost => 0.30000000000000004);
SELECT * FROM credyt.debit_credits('acme', 'image', usage => '3');
SELECT * FROM credyt.debit_credits('acme', 'image', usage => '{"body": {}}');
SELECT credits, cost FROM credyt.debit_credits('acme', 'image', credits => 0, usage => '[{"vendor": "acme"}]');
SELECT * FROM credyt.debit_credits('acme', 'image', scopes => '{NULL}');
SELECT * FROM credyt.debit_credits('acme', 'image', occurred_at => '-infinity');

-- In a transaction that rolls back nothing happened, and the key is free again
BEGIN;
SELECT available FROM credyt.debit_credits('acme', 'image', 7, idempotency_key => 'job-2');
ROLLBACK;
SELECT available, replayed FROM credyt.debit_credits('acme', 'image', 7, idempotency_key => 'job-2');
SELECT * FROM credyt.verify();
