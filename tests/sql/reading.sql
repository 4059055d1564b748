-- Reading: balances now and in the past, every view, and the wallet type.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 00:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.create_asset('tokens', scale => 0, currency => 'EUR');
SELECT credyt.set_price('image', '1');
SELECT credyt.set_price('video', '2');
SELECT credyt.grant_credits('acme', 100, paid => 10);
UPDATE credyt.clock SET now = '2026-01-02 00:00+00';
SELECT credyt.grant_credits('acme', 50, kind => 'included', paid => 10, expires_at => '2026-01-10');
UPDATE credyt.clock SET now = '2026-01-03 00:00+00';
SELECT credyt.debit_credits('acme', 'image', 20, cost => 1);
SELECT credyt.authorize('acme', 'video', 5, ttl_seconds => 3600);
SELECT credyt.grant_credits('bert', 7, asset => 'tokens');
UPDATE credyt.clock SET now = '2026-01-03 00:30+00';
\o

-- A balance: now, at a past moment, of someone unknown, at a later moment
SELECT * FROM credyt.balance('acme');
SELECT at::date, settled, held, available, owed
FROM unnest('{2025-12-31, 2026-01-01, 2026-01-02, 2026-01-03}'::timestamptz[]) AS at, credyt.balance('acme', at => at);
SELECT * FROM credyt.balance('nobody');
SELECT * FROM credyt.balance('bert', 'tokens');
SELECT * FROM credyt.balance('acme', at => '2026-01-03 00:30:01+00');
SELECT * FROM credyt.balance(NULL);

-- The views
SELECT * FROM credyt.wallet_balances ORDER BY customer;
SELECT customer, asset, kind, priority, credits, remaining, held, paid, deferred, expires_at FROM credyt.grant_balances ORDER BY id;
SELECT customer, asset, position, kind, remaining, held, expires_at FROM credyt.spend_order ORDER BY customer, position;
SELECT customer, asset, action, credits, captured, expires_at FROM credyt.open_authorizations;
SELECT created_at, kind, action, quantity, credits, balance, revenue, cost FROM credyt.statement WHERE customer = 'acme';
SELECT action, customer, version, price, effective_at > '2026-01-01' AS later, superseded_at FROM credyt.price_book ORDER BY action;
SELECT customer, asset, kind, remaining, expires_at FROM credyt.expiring_grants;
SELECT * FROM credyt.margin_by_action;
SELECT * FROM credyt.deferred_revenue ORDER BY asset, kind;
SELECT * FROM credyt.breakage;

-- Time alone, with nothing written: the hold has ended, then the grant; the past stays as it was
UPDATE credyt.clock SET now = '2026-01-20 00:00+00';
SELECT settled, held, available, next_expiry FROM credyt.balance('acme');
SELECT settled, held, available FROM credyt.wallet_balances WHERE customer = 'acme';
SELECT at::date, settled FROM unnest('{2026-01-09, 2026-01-10, 2026-01-11}'::timestamptz[]) AS at, credyt.balance('acme', at => at);
SELECT kind, remaining, held, deferred FROM credyt.grant_balances WHERE customer = 'acme' ORDER BY id;
SELECT count(*) FROM credyt.open_authorizations;
SELECT * FROM credyt.deferred_revenue WHERE asset = 'credits';
SELECT * FROM credyt.breakage;
SELECT kind, credits FROM credyt.ledger WHERE customer = 'acme' ORDER BY seq;
-- ... and the same once it has been booked
\o /dev/null
SELECT credyt.debit_credits('acme', 'image', 0);
\o
SELECT at::date, settled FROM unnest('{2026-01-09, 2026-01-10, 2026-01-11}'::timestamptz[]) AS at, credyt.balance('acme', at => at);
SELECT kind, credits, occurred_at FROM credyt.ledger WHERE customer = 'acme' ORDER BY seq;
SELECT * FROM credyt.breakage;

-- The type: JSON text that reads back, jsonb, bytes, and the grants in it
SELECT state::text::jsonb = state::jsonb AS same_document,
       state::text::credyt.wallet::text = state::text AS text_reads_back,
       state::bytea::credyt.wallet::text = state::text AS bytes_read_back,
       credyt.wallet_send(state) = state::bytea AS sent
FROM credyt.wallets WHERE customer = 'acme';
SELECT array_agg(key ORDER BY key) AS keys FROM credyt.wallets, jsonb_object_keys(state::jsonb) AS key WHERE customer = 'acme';
SELECT g.customer, g.kind, g.priority, g.credits, g.remaining, g.held, g.deferred, g.expires_at
FROM credyt.wallets w, credyt.grants(w.state) AS g WHERE w.customer = 'acme';
SELECT credyt.settled(state, '2026-01-20'), credyt.held(state), credyt.available(state, 5, '2026-01-20'), credyt.owed(state),
       credyt.next_expiry(state, '2026-01-20'), credyt.next_due(state), credyt.changed_at(state)
FROM credyt.wallets WHERE customer = 'acme';

-- What is no wallet
\set VERBOSITY terse
SELECT ''::credyt.wallet;
\echo :SQLSTATE
SELECT '{}'::credyt.wallet;
SELECT '[1]'::credyt.wallet;
SELECT 'nonsense'::credyt.wallet;
SELECT '\x'::bytea::credyt.wallet;
\echo :SQLSTATE
SELECT '\xdeadbeef'::bytea::credyt.wallet;
SELECT set_byte(state::bytea, 20, get_byte(state::bytea, 20) # 1)::credyt.wallet FROM credyt.wallets WHERE customer = 'acme';
SELECT substr(state::bytea, 1, 20)::credyt.wallet FROM credyt.wallets WHERE customer = 'acme';
SELECT jsonb_set(state::jsonb, '{grants,0,remaining}', '"-1"')::text::credyt.wallet FROM credyt.wallets WHERE customer = 'acme';
SELECT jsonb_set(state::jsonb, '{grants,0,held}', '"1000"')::text::credyt.wallet FROM credyt.wallets WHERE customer = 'acme';
SELECT (state::jsonb || '{"surprise": 1}')::text::credyt.wallet FROM credyt.wallets WHERE customer = 'acme';
SELECT * FROM credyt.verify();

-- A balance of the past reads what came after that moment, not the whole history
\o /dev/null
UPDATE credyt.clock SET now = '2026-01-21 00:00+00';
SELECT count(credyt.debit_credits('acme', 'image', 0)) FROM generate_series(1, 300);
UPDATE credyt.clock SET now = '2026-01-22 00:00+00';
SELECT credyt.debit_credits('acme', 'image', 1);
BEGIN;
SELECT coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0) AS before
FROM pg_stat_xact_user_tables WHERE relid = 'credyt.ledger'::regclass \gset
\o
SELECT settled, owed FROM credyt.balance('acme', at => '2026-01-21 12:00+00');
SELECT coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0) - :before < 20 AS few
FROM pg_stat_xact_user_tables WHERE relid = 'credyt.ledger'::regclass;
ROLLBACK;
