-- What credyt.health finds: each finding made for real, and gone after its remedy. (Old snapshots: tests/health.rs.)
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image', '1');
SELECT credyt.grant_credits('acme', 100, paid => 10);
SELECT credyt.debit_credits('acme', 'image');
\o
-- All is well
SELECT * FROM credyt.health;

-- A hold that ended, which nobody has booked
\o /dev/null
SELECT credyt.authorize('acme', 'image', ttl_seconds => 60);
\o
SELECT * FROM credyt.health;
INSERT INTO credyt.clock SELECT created_at + interval '12 minutes' FROM credyt.authorizations;
SELECT severity, finding, regexp_replace(detail, '[0-9-]+ [0-9:.]+', '<then>') AS detail, hint,
       since = (SELECT expires_at FROM credyt.authorizations) AS since_it_ended
FROM credyt.health ORDER BY finding;
SELECT booked FROM credyt.maintain();
SELECT finding, hint FROM credyt.health ORDER BY finding;
DELETE FROM credyt.clock;
SELECT * FROM credyt.health;

-- An event that nobody takes
\o /dev/null
SELECT credyt.set_alert('acme', 50), credyt.debit_credits('acme', 'image', 60);
INSERT INTO credyt.clock SELECT created_at + interval '16 minutes' FROM credyt.events;
\o
SELECT severity, finding, detail, hint, since = (SELECT created_at FROM credyt.events) AS since_then
FROM credyt.health WHERE finding <> 'clock_replaced';
SELECT events FROM credyt.ack_events(ARRAY(SELECT id FROM credyt.take_events()));
SELECT finding FROM credyt.health;
DELETE FROM credyt.clock;

-- Usage whose cost nobody knows, with a debit and without one
\o /dev/null
SELECT credyt.debit_credits('acme', 'image', usage => '{"vendor": "renderfarm", "model": "r1", "body": {"gpu_second": 3}}');
SELECT credyt.debit_credits('acme', 'image', usage => '{"vendor": "renderfarm", "model": "r1", "body": {"gpu_second": 4}}');
SELECT credyt.record_cost('acme', 'renderfarm', 'r2', usage => '{"gpu_second": 5}');
\o
SELECT severity, finding, detail, hint, since IS NOT NULL AS since FROM credyt.health ORDER BY detail;
\o /dev/null
SELECT credyt.set_vendor_rate('renderfarm', 'r1', '{"gpu_second": "0.001"}');
\o
SELECT count(*) FROM credyt.recost('renderfarm', 'r1');
SELECT detail FROM credyt.health;
\o /dev/null
SELECT credyt.set_vendor_rate('renderfarm', 'r2', '{"gpu_second": "0.002"}');
\o
SELECT count(*) FROM credyt.recost('renderfarm', 'r2');
SELECT * FROM credyt.health;

-- A wallet that is nearly full
\o /dev/null
SELECT credyt.grant_credits('full', 1) FROM generate_series(1, 899);
\o
SELECT * FROM credyt.health;
SELECT id AS last FROM credyt.grant_credits('full', 1) \gset
SELECT severity, finding, detail, hint, since FROM credyt.health;
SELECT credits FROM credyt.revoke_grant('full', :'last');
SELECT * FROM credyt.health;

-- Rows that the rollups do not have
\o /dev/null
SELECT credyt.debit_credits('acme', 'image') FROM generate_series(1, 3);
SELECT * FROM credyt.maintain(1000);
INSERT INTO credyt.ledger (customer, asset, id, seq, created_at, occurred_at, accounted_at, kind, action, quantity, credits, balance, revenue, allocations)
SELECT 'acme', 'credits', (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
       credyt.seq(w.state) + n, now(), now(), now(), 'debit', 'image', 0, 0, 0, 0, '[]'
FROM credyt.wallets w, generate_series(1, 100500) n WHERE w.customer = 'acme';
\o
-- These are found by time, and then the wallets say how many are missing.
SELECT finding FROM credyt.health;
UPDATE credyt.wallets SET state = jsonb_set(state::jsonb, '{seq}', to_jsonb(credyt.seq(state) + 100500))::text::credyt.wallet WHERE customer = 'acme';
SELECT severity, finding, regexp_replace(detail, '\d+', '<n>') AS detail, hint FROM credyt.health;
DO $$ BEGIN WHILE (SELECT m.rolled_up > 0 FROM credyt.maintain(200000) m) LOOP END LOOP; END $$;
SELECT * FROM credyt.health;

-- Tables that are never vacuumed, and one that is full of old versions
ALTER TABLE credyt.wallets SET (autovacuum_enabled = false);
ALTER TABLE credyt.open_debts SET (autovacuum_enabled = off);
SELECT * FROM credyt.health;
ALTER TABLE credyt.open_debts RESET (autovacuum_enabled); ALTER TABLE credyt.wallets RESET (autovacuum_enabled);
SELECT * FROM credyt.health;
ALTER TABLE credyt.limit_uses SET (autovacuum_vacuum_threshold = 1000000);
INSERT INTO credyt.limit_uses SELECT 'c' || n, 'credits', 'user:a', 'month', 'credits', '2026-01-01', '9999-01-01', 0, 1, false, false, false FROM generate_series(1, 10500) n;
DELETE FROM credyt.limit_uses;
SELECT pg_stat_force_next_flush() IS NULL;
SELECT severity, finding, detail, hint FROM credyt.health;
VACUUM credyt.limit_uses;
SELECT pg_stat_force_next_flush() IS NULL;
SELECT * FROM credyt.health;
