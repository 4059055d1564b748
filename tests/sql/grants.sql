-- Grants: what burns first, who may pay for what, start and end, and taking them back.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 00:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image.small', '1');
SELECT credyt.set_price('video', '1');

-- Each grant loses to the one above it by exactly one criterion. They are issued from the bottom.
SELECT credyt.grant_credits('burn', 1, kind => 'purchased', metadata => '"7 the youngest"', effective_at => '2025-12-31 01:00+00');
SELECT credyt.grant_credits('burn', 1, kind => 'purchased', metadata => '"6 purchased, older"', effective_at => '2025-12-31 00:00+00');
SELECT credyt.grant_credits('burn', 1, kind => 'included', metadata => '"5 included"');
SELECT credyt.grant_credits('burn', 1, kind => 'promotional', metadata => '"4 promotional"');
SELECT credyt.grant_credits('burn', 1, applies_to => '{image.*, video}', metadata => '"3 limited"');
SELECT credyt.grant_credits('burn', 1, expires_at => '2026-03-01', metadata => '"2 ends"');
SELECT credyt.grant_credits('burn', 1, expires_at => '2026-02-01', metadata => '"1 ends sooner"');
SELECT credyt.grant_credits('burn', 1, priority => 1, metadata => '"0 priority"');
\o

-- The preview ...
SELECT s.position, g.metadata, s.kind, s.remaining, s.expires_at::date, s.applies_to
FROM credyt.spend_order s JOIN credyt.grants g ON g.customer = s.customer AND g.id = s.grant_id
WHERE s.customer = 'burn' ORDER BY s.position;
-- ... is what a debit of all of it does.
SELECT a.n, g.metadata
FROM credyt.debit_credits('burn', 'video', 8) AS d,
     jsonb_array_elements(d.allocations) WITH ORDINALITY AS a (part, n)
JOIN credyt.grants g ON g.id = (a.part->>'grant')::uuid ORDER BY a.n;

-- A grant that is limited to some actions pays for those only.
\o /dev/null
SELECT credyt.grant_credits('scoped', 10, applies_to => '{image.*}');
SELECT credyt.grant_credits('scoped', 5, applies_to => '{video}');
SELECT credyt.grant_credits('scoped', 2);
\o
SELECT available FROM credyt.balance('scoped');
\set VERBOSITY terse
SELECT * FROM credyt.debit_credits('scoped', 'video', 8);
SELECT * FROM credyt.debit_credits('scoped', 'image', credits => 3);
SELECT * FROM credyt.debit_credits('scoped', 'image.', credits => 13);
SELECT credits, available FROM credyt.debit_credits('scoped', 'image.small', 12);
SELECT kind, remaining, applies_to FROM credyt.spend_order WHERE customer = 'scoped';

-- What kind and what was paid: 1/3 of the money is not a whole cent, and nothing is lost.
\o /dev/null
SELECT credyt.grant_credits('money', 3, paid => 1);
SELECT credyt.grant_credits('money', 3, kind => 'promotional');
\o
SELECT credits, revenue FROM credyt.debit_credits('money', 'video', 4);
SELECT credits, revenue FROM credyt.debit_credits('money', 'video', 1);
SELECT credits, revenue FROM credyt.debit_credits('money', 'video', 1);
SELECT kind, credits, remaining, paid, deferred FROM credyt.grant_balances WHERE customer = 'money' ORDER BY kind;

-- A future grant counts nowhere but in grant_balances until it is live; an ended one has gone by itself.
\o /dev/null
SELECT credyt.grant_credits('later', 10, paid => 1, effective_at => '2026-02-01', expires_at => '2026-03-01');
\o
SELECT settled, available, next_expiry FROM credyt.balance('later');
SELECT credits, remaining, deferred FROM credyt.grant_balances WHERE customer = 'later';
SELECT * FROM credyt.debit_credits('later', 'video');
UPDATE credyt.clock SET now = '2026-02-01';
SELECT settled, available, next_expiry FROM credyt.balance('later');
SELECT credits, available FROM credyt.debit_credits('later', 'video', 4);
UPDATE credyt.clock SET now = '2026-02-28 23:59:59.999999';
SELECT available FROM credyt.balance('later');
UPDATE credyt.clock SET now = '2026-03-01';
SELECT available FROM credyt.balance('later');
SELECT credits, remaining, deferred FROM credyt.grant_balances WHERE customer = 'later';
SELECT kind, credits, revenue FROM credyt.breakage;
-- Nothing has booked it yet. The next call that changes the wallet does, with the moment it fell due.
SELECT count(*) FROM credyt.ledger WHERE kind = 'expiry' AND customer = 'later';
\o /dev/null
SELECT credyt.grant_credits('later', 1);
\o
SELECT kind, credits, occurred_at FROM credyt.ledger WHERE customer = 'later' ORDER BY seq;
SELECT kind, credits, revenue FROM credyt.breakage;

-- Revoking: all that is unheld, a part, what a hold returns later
SELECT id AS whole FROM credyt.grant_credits('revoke', 10, paid => 5) \gset
SELECT credits FROM credyt.debit_credits('revoke', 'video', 4);
SELECT credits, remaining, deferred FROM credyt.revoke_grant('revoke', :'whole', 1, reason => 'a part');
SELECT credits, remaining, deferred, replayed FROM credyt.revoke_grant('revoke', :'whole', idempotency_key => 'r1');
SELECT credits, remaining, deferred, replayed FROM credyt.revoke_grant('revoke', :'whole', idempotency_key => 'r1');
SELECT kind, credits, revenue, reason FROM credyt.ledger WHERE customer = 'revoke' ORDER BY seq;

SELECT id AS held FROM credyt.grant_credits('revoke_held', 10) \gset
SELECT id AS hold FROM credyt.authorize('revoke_held', 'video', 6) \gset
SELECT * FROM credyt.revoke_grant('revoke_held', :'held', 5);
\echo :SQLSTATE
SELECT remaining, held FROM credyt.revoke_grant('revoke_held', :'held');
SELECT credits, available, held FROM credyt.capture('revoke_held', :'hold', 2);
SELECT settled, held, available FROM credyt.balance('revoke_held');

-- What was spent of it is owed, and its revenue taken back
SELECT id AS owe FROM credyt.grant_credits('revoke_owe', 10, paid => 5) \gset
\o /dev/null
SELECT credyt.debit_credits('revoke_owe', 'video', 4);
\o
SELECT remaining, deferred FROM credyt.revoke_grant('revoke_owe', :'owe', spent => 'owe');
SELECT settled, available, owed FROM credyt.balance('revoke_owe');
SELECT kind, credits, revenue FROM credyt.ledger WHERE customer = 'revoke_owe' ORDER BY seq;

-- A key
SELECT credits, replayed FROM credyt.grant_credits('keys', 10, paid => 1, idempotency_key => 'k');
\o /dev/null
SELECT credyt.debit_credits('keys', 'video', 3);
\o
SELECT credits, remaining, deferred, replayed FROM credyt.grant_credits('keys', 10.00, paid => 1, idempotency_key => 'k', metadata => '"not compared"');
\set VERBOSITY sqlstate
SELECT * FROM credyt.grant_credits('keys', 11, paid => 1, idempotency_key => 'k');
SELECT * FROM credyt.debit_credits('keys', 'video', 3, idempotency_key => 'k');
\set VERBOSITY terse
SELECT available FROM credyt.balance('keys');

-- What is no grant
SELECT * FROM credyt.grant_credits(NULL, 1);
SELECT * FROM credyt.grant_credits('', 1);
SELECT * FROM credyt.grant_credits('bad', NULL);
SELECT * FROM credyt.grant_credits('bad', 0);
SELECT * FROM credyt.grant_credits('bad', -1);
SELECT * FROM credyt.grant_credits('bad', 'NaN');
SELECT * FROM credyt.grant_credits('bad', 'Infinity');
SELECT * FROM credyt.grant_credits('bad', 0.001);
SELECT * FROM credyt.grant_credits('bad', 1e15);
SELECT * FROM credyt.grant_credits('bad', 1e30);
SELECT * FROM credyt.grant_credits('bad', 1, paid => -1);
SELECT * FROM credyt.grant_credits('bad', 1, paid => 1e15);
SELECT * FROM credyt.grant_credits('bad', 1, kind => 'gift');
SELECT * FROM credyt.grant_credits('bad', 1, expires_at => '2026-03-01');
SELECT * FROM credyt.grant_credits('bad', 1, expires_at => '2026-04-01', effective_at => '2026-04-01');
SELECT * FROM credyt.grant_credits('bad', 1, expires_at => '2026-02-01', effective_at => '2026-01-01');
SELECT * FROM credyt.grant_credits('bad', 1, expires_at => 'infinity');
SELECT * FROM credyt.grant_credits('bad', 1, applies_to => '{}');
SELECT * FROM credyt.grant_credits('bad', 1, applies_to => '{a*b}');
SELECT * FROM credyt.grant_credits('bad', 1, applies_to => '{NULL}');
SELECT * FROM credyt.grant_credits('bad', 1, priority => NULL);
SELECT * FROM credyt.grant_credits('bad', 1, idempotency_key => '');
SELECT * FROM credyt.grant_credits('bad', 1, idempotency_key => repeat('k', 256));
SELECT * FROM credyt.revoke_grant('revoke', '00000000-0000-7000-8000-000000000000');
\echo :SQLSTATE
\set VERBOSITY sqlstate
SELECT * FROM credyt.revoke_grant('scoped', :'whole');
\set VERBOSITY terse
SELECT * FROM credyt.revoke_grant('revoke', NULL);
SELECT * FROM credyt.revoke_grant('revoke', :'whole', 0);
SELECT * FROM credyt.revoke_grant('revoke', :'whole', 5, spent => 'owe');
SELECT * FROM credyt.revoke_grant('revoke', :'whole', spent => 'forget');
SELECT count(*) FROM credyt.wallets WHERE customer = 'bad';

SELECT * FROM credyt.verify();
