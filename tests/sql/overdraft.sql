-- Overdraft: owed up to a limit, and paid by the next grant that may pay, the oldest debt first.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 00:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image', '1');
SELECT credyt.set_price('video', '1');
SELECT credyt.open_wallet('acme', overdraft_limit => 20);
SELECT credyt.grant_credits('acme', 5, paid => 5);
\o

-- Grants first, then the limit, and not a credit beyond it
SELECT available FROM credyt.balance('acme');
SELECT credits, revenue, available FROM credyt.debit_credits('acme', 'image', 12);
SELECT a."grant" IS NOT NULL AS grant, a.kind, a.credits, a.revenue
FROM credyt.ledger, jsonb_to_recordset(allocations) AS a ("grant" text, kind text, credits text, revenue text) WHERE ledger.kind = 'debit';
SELECT settled, held, available, owed, overdraft_limit FROM credyt.balance('acme');
SELECT * FROM credyt.debit_credits('acme', 'video', 14);
SELECT credits, available FROM credyt.debit_credits('acme', 'video', 10);

-- A hold may use the room too: it lowers what is available
SELECT id AS h, available FROM credyt.authorize('acme', 'video', 2) \gset
SELECT settled, held, available, owed FROM credyt.balance('acme');
SELECT approved, reason, available FROM credyt.authorize('acme', 'video', 2);
\o /dev/null
SELECT credyt.release('acme', :'h');
\o

-- A grant for some actions pays the debts of these, one for later none
SELECT credits, remaining FROM credyt.grant_credits('acme', 3, applies_to => '{image}');
SELECT credits, remaining FROM credyt.grant_credits('acme', 2, applies_to => '{audio}', expires_at => '2026-01-02');
SELECT credits, remaining FROM credyt.grant_credits('acme', 1, paid => 1, effective_at => '2026-02-01');
SELECT settled, available, owed FROM credyt.balance('acme');

-- The next one does, the older debt first, and earns its revenue then
SELECT credits, remaining, paid, deferred FROM credyt.grant_credits('acme', 9, paid => 18);
SELECT settled, available, owed FROM credyt.balance('acme');
SELECT kind, action, credits, revenue FROM credyt.ledger WHERE customer = 'acme' ORDER BY seq;
SELECT action, owed FROM credyt.open_debts;

-- When a future grant begins, time alone settles with it
UPDATE credyt.clock SET now = '2026-02-01 00:00+00';
SELECT settled, available, owed FROM credyt.balance('acme');
SELECT count(*) FROM credyt.ledger WHERE kind = 'settlement';
SELECT credits, remaining, deferred FROM credyt.grant_credits('acme', 100, paid => 100);
SELECT settled, available, owed FROM credyt.balance('acme');
SELECT kind, action, credits, revenue, occurred_at FROM credyt.ledger WHERE kind = 'settlement' ORDER BY seq;
SELECT action, debits, credits, revenue FROM credyt.margin_by_action ORDER BY action;

-- NULL leaves the limit alone; a new wallet may owe nothing
SELECT available, overdraft_limit FROM credyt.open_wallet('acme', metadata => '{"plan": "pro"}');
SELECT available, overdraft_limit FROM credyt.open_wallet('new', metadata => '{"plan": "pro"}');

-- A lower limit does not make what is owed go away; nothing more can be spent
\o /dev/null
SELECT credyt.open_wallet('bert', overdraft_limit => 10);
SELECT credyt.debit_credits('bert', 'image', 8);
\o
SELECT available, owed, overdraft_limit FROM credyt.open_wallet('bert', overdraft_limit => 5);
\set VERBOSITY terse
SELECT * FROM credyt.debit_credits('bert', 'image', 1);
SELECT credits FROM credyt.debit_credits('bert', 'image', 0);
SELECT * FROM credyt.verify();
