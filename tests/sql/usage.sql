-- usage: what a customer used, for the customer to see. 29 March 2026 has 23 hours in Berlin.
\pset null -
INSERT INTO credyt.clock VALUES ('2026-03-28 12:00+00');
SELECT asset FROM credyt.create_asset('credits', timezone => 'Europe/Berlin');
SELECT action FROM credyt.set_price('image', '1');
SELECT action FROM credyt.set_price('chat', '2');
SELECT kind FROM credyt.grant_credits('acme', 5, 'promotional');
SELECT kind FROM credyt.grant_credits('acme', 1000, paid => 10);
SELECT credits FROM credyt.debit_credits('acme', 'image', 3, '{"model": "flux"}', scopes => '{user:a,key:b}', idempotency_key => 'i');
SELECT credits FROM credyt.debit_credits('acme', 'image', 4, '{"model": "flux"}');
SELECT credits FROM credyt.grant_credits('other', 5);
SELECT credits FROM credyt.debit_credits('other', 'image', 5);
UPDATE credyt.clock SET now = '2026-03-29 12:00+00';
-- Late usage counts when it happened; a refund when it was given; captures of one authorization are one call.
SELECT credits FROM credyt.debit_credits('acme', 'chat', 4, occurred_at => '2026-03-29 00:30+00');
SELECT r.credits FROM credyt.ledger l CROSS JOIN credyt.refund('acme', l.id) r WHERE l.idempotency_key = 'i';
SELECT id AS hold FROM credyt.authorize('acme', 'chat', 5) \gset
SELECT credits FROM credyt.capture('acme', :'hold', 2, keep_open => true);
SELECT credits FROM credyt.capture('acme', :'hold', 5);
UPDATE credyt.clock SET now = '2026-03-30 12:00+00';
SELECT credits FROM credyt.debit_credits('acme', 'image', 0);

-- Without by: a row for every bucket, zeros included.
SELECT bucket_start AT TIME ZONE 'Europe/Berlin' AS day, calls, quantity, credits FROM credyt.usage('acme', since => '2026-03-27');
SELECT count(*), min(bucket_start), max(bucket_start), sum(credits) FROM credyt.usage('acme');
SELECT count(*), sum(calls) FROM credyt.usage('acme', '2026-03-29 00:00 Europe/Berlin', '2026-03-30 00:00 Europe/Berlin', 'hour');
SELECT count(*), min(bucket_start), max(bucket_start) FROM credyt.usage('acme', bucket => 'month');
SELECT * FROM credyt.usage('acme', since => '2026-03-29', bucket => 'week');
-- With by: the rows that there are.
SELECT bucket_start, action, kind, calls, quantity, credits FROM credyt.usage('acme', '2026-03-27', "by" => '{action,kind}');
SELECT model, scope, calls, quantity, credits FROM credyt.usage('acme', bucket => 'all', "by" => '{model,scope}');
SELECT * FROM credyt.usage('acme', bucket => 'all');
SELECT count(*) FROM credyt.usage('acme', '2026-03-20', '2026-03-21', "by" => '{action}');
-- A range includes its start and excludes its end.
SELECT sum(calls) FROM credyt.usage('acme', '2026-03-28 12:00+00', '2026-03-29 00:30+00');
SELECT sum(calls) FROM credyt.usage('acme', '2026-03-28 12:00+00', '2026-03-29 00:30:00.000001+00');
-- A customer without a wallet used nothing.
SELECT * FROM credyt.usage('nobody', since => '2026-03-30');

\set VERBOSITY terse
SELECT * FROM credyt.usage('acme', bucket => 'hour', since => '2025-01-01');
SELECT * FROM credyt.usage('acme', bucket => 'hour', since => '0001-01-01', until => '9990-12-31');
SELECT count(*) FROM credyt.usage('acme', bucket => 'hour', since => '2025-01-01', until => timestamptz '2025-01-01' + interval '10000 hours');
SELECT * FROM credyt.usage('acme', asset => 'gold');
SELECT * FROM credyt.usage('acme', "by" => '{day}');
SELECT * FROM credyt.usage('acme', "by" => '{action,action}');
SELECT * FROM credyt.usage('acme', "by" => NULL);
SELECT * FROM credyt.usage('acme', bucket => 'year');
SELECT * FROM credyt.usage('acme', since => '2026-03-29', until => '2026-03-28');
SELECT * FROM credyt.usage(NULL);
SELECT * FROM credyt.usage('acme', since => 'infinity');
