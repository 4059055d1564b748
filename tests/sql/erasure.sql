-- Erasing a customer: what may say who it is goes, amounts stay, and every report adds up to the same.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-15 12:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.create_asset('tokens', 0);
SELECT credyt.set_price('image', '1');
SELECT credyt.set_vendor_rate('gpu', 'a100', '{"second": "0.01"}');
SELECT credyt.set_price('video', '{"meters": {"second": {"per": 1, "credits": 2}}}');
SELECT credyt.open_wallet('ann', overdraft_limit => 5, metadata => '{"secret": "wallet"}');
SELECT credyt.grant_credits('ann', 100, paid => 30, metadata => '{"secret": "grant"}', idempotency_key => 'g');
SELECT credyt.grant_credits('ann', 50, asset => 'tokens', metadata => '{"secret": "grant"}');
SELECT credyt.grant_credits('bob', 20, paid => 2, metadata => '{"note": "of bob"}');
SELECT credyt.set_limit('ann', 'user:secret-alice', 50, 'day'), credyt.set_limit('ann', 'user:*', 40), credyt.set_limit('ann', 'action:im*', 90);
SELECT id AS debit FROM credyt.debit_credits('ann', 'image', 3, scopes => '{user:secret-alice,key:secret}', metadata => '{"secret": "debit"}',
    idempotency_key => 'd') \gset
-- More users than the state has room for
SELECT credyt.debit_credits('ann', 'image', 1, scopes => ARRAY['user:secret-' || n]) FROM generate_series(1, 20) n;
SELECT credyt.debit_credits('ann', 'video', credits => 2, scopes => '{user:secret-bob}', dimensions => '{"size": "4k"}',
    usage => '{"vendor": "gpu", "model": "a100", "vendor_request_id": "r1", "body": {"second": 7}}');
SELECT credyt.debit_credits('bob', 'image', 2, scopes => '{user:carl}', metadata => '{"note": "of bob"}');
SELECT credyt.refund('ann', :'debit', 1, reason => 'secret reason', idempotency_key => 'r');
SELECT credyt.transfer('ann', 'bob', 4, reason => 'secret gift'), credyt.transfer('bob', 'ann', 2, reason => 'secret present');
SELECT credyt.transfer('bob', 'carl', 1, reason => 'of bob');
SELECT credyt.record_cost('ann', 'gpu', 'a100', usage => '{"second": 9}', debit_id => :'debit', context => '{"secret": "context"}',
    metadata => '{"secret": "cost"}', vendor_request_id => 'r2');
SELECT credyt.record_cost('ann', 'gpu', 'a100', cost => 0.5, vendor_request_id => 'r3', metadata => '{"secret": "cost"}');
SELECT id AS released FROM credyt.authorize('ann', 'video', usage => '{"vendor": "gpu", "model": "a100", "body": {"second": 1, "secret": 1}}',
    scopes => '{user:secret-alice}', metadata => '{"secret": "hold"}') \gset
SELECT credyt.release('ann', :'released', reason => 'secret change of mind');
SELECT id AS ended FROM credyt.authorize('ann', 'image', ttl_seconds => 1, usage => '{"vendor": "gpu", "body": {"secret": 1}}') \gset
UPDATE credyt.clock SET now = '2026-01-15 13:00+00';
SELECT id AS open FROM credyt.authorize('ann', 'video', usage => '{"vendor": "gpu", "model": "a100", "body": {"second": 3}}',
    scopes => '{user:secret-alice}', metadata => '{"secret": "hold"}', idempotency_key => 'h') \gset
SELECT credyt.set_topup('ann', 1000, 10);
SELECT credyt.debit_credits('ann', 'image', 1);
SELECT credyt.topup_failed('ann', id, 'secret card') FROM credyt.events WHERE customer = 'ann' AND type = 'topup.requested';
SELECT credyt.freeze_wallet('ann', 'tokens', 'secret suspicion');
\o

-- All that is stored of a customer, as text
CREATE FUNCTION secrets(OUT place text, OUT rows bigint) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
    FOR place IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'credyt'::regnamespace AND c.relkind = 'r' ORDER BY 1 LOOP
        EXECUTE format('SELECT count(*) FROM credyt.%I t WHERE t::text LIKE ''%%secret%%''', place) INTO rows;
        IF rows > 0 THEN RETURN NEXT; END IF;
    END LOOP;
END $$;
-- A part of the reports comes from the rollups, and a part is newer
SELECT pruned FROM credyt.maintain();
\o /dev/null
SELECT credyt.debit_credits('ann', 'image', 2, scopes => '{key:secret}');
\o
SELECT * FROM secrets();

CREATE TEMP TABLE reports AS
SELECT 'day' AS by, m::text FROM credyt.margin('{day,action,customer,vendor,model,kind}') m
UNION ALL SELECT 'action', m::text FROM credyt.margin_by_action m
UNION ALL SELECT 'deferred', d::text FROM credyt.deferred_revenue d
UNION ALL SELECT 'rollforward', r::text FROM credyt.revenue_rollforward('2026-01-01', '2026-01-16') r
UNION ALL SELECT 'runway', r::text FROM credyt.runway r
UNION ALL SELECT 'balance', b::text FROM credyt.wallet_balances b
UNION ALL SELECT 'grants', g::text FROM credyt.grant_balances g;
CREATE TEMP TABLE hashes AS SELECT * FROM credyt.ledger_hash('ann') UNION ALL SELECT * FROM credyt.ledger_hash('bob');
SELECT customer, scope, debits, credits, revenue, cost FROM credyt.margin('{customer,scope}') WHERE scope IS NULL OR scope !~ '-[0-9]' ORDER BY customer, scope;

SELECT customer, reason, blanked, open_holds, erased_at FROM credyt.erase_customer('ann', 'ticket 4711');

SELECT * FROM secrets();
SELECT * FROM credyt.verify();
-- No report has changed but the one by scope, where the customer has none any more
SELECT count(*) AS differ FROM (
    SELECT 'day' AS by, m::text FROM credyt.margin('{day,action,customer,vendor,model,kind}') m
    UNION ALL SELECT 'action', m::text FROM credyt.margin_by_action m
    UNION ALL SELECT 'deferred', d::text FROM credyt.deferred_revenue d
    UNION ALL SELECT 'rollforward', r::text FROM credyt.revenue_rollforward('2026-01-01', '2026-01-16') r
    UNION ALL SELECT 'runway', r::text FROM credyt.runway r
    UNION ALL SELECT 'balance', b::text FROM credyt.wallet_balances b
    UNION ALL SELECT 'grants', g::text FROM credyt.grant_balances g) now
FULL JOIN reports ON reports.by = now.by AND reports.m = now.m
WHERE now.m IS NULL OR reports.m IS NULL;
SELECT customer, scope, debits, credits, revenue, cost FROM credyt.margin('{customer,scope}') ORDER BY customer, scope;
-- And the same when the rollups have taken it in again
SELECT rolled_up > 0 AS again FROM credyt.maintain();
SELECT customer, scope, debits, credits, revenue, cost FROM credyt.margin('{customer,scope}') ORDER BY customer, scope;
SELECT sum(debits) AS debits, sum(credits) AS credits, sum(cost) AS cost FROM credyt.margin_days WHERE asset = 'credits';
SELECT count(*) AS differ FROM (SELECT m::text FROM credyt.margin('{day,action,customer,vendor,model,kind}') m) now
FULL JOIN (SELECT * FROM reports WHERE by = 'day') then_ ON then_.m = now.m WHERE now.m IS NULL OR then_.m IS NULL;
-- Nor has the hash
SELECT h.customer, h.asset, h.rows, n.rows = h.rows AND n.hash = h.hash AS same
FROM hashes h, credyt.ledger_hash(h.customer, h.asset) n ORDER BY h.customer, h.asset;
-- Of others nothing went but the reasons of what passed between them
SELECT customer, kind, scopes, metadata, reason FROM credyt.ledger WHERE customer <> 'ann' ORDER BY customer, seq;

-- Limits: those of named users are gone, the others count on, each user from zero
SELECT scope, cap, used, held FROM credyt.limits_used WHERE customer = 'ann' ORDER BY scope;
SELECT l.* FROM credyt.wallets w, credyt.limits(w.state) AS l WHERE w.customer = 'ann' ORDER BY scope;
SELECT count(*) FROM credyt.limit_uses WHERE customer = 'ann';
-- What was booked before counts back where it was counted
SELECT credits FROM credyt.debit_credits('ann', 'image', 30, scopes => '{user:secret-alice}');
SELECT credits FROM credyt.refund('ann', :'debit');
SELECT scope, used FROM credyt.limits_used WHERE customer = 'ann' ORDER BY scope;
SELECT * FROM credyt.verify();

-- Keys decide as before
SELECT credits, replayed FROM credyt.debit_credits('ann', 'image', 3, idempotency_key => 'd', scopes => '{user:secret-alice,key:secret}');
SELECT code FROM refused($$SELECT credyt.debit_credits('ann', 'image', 4, idempotency_key => 'd')$$);
SELECT credits, reason, replayed FROM credyt.refund('ann', :'debit', 1, reason => 'secret reason', idempotency_key => 'r');
SELECT credits, replayed FROM credyt.grant_credits('ann', 100, paid => 30, idempotency_key => 'g');
SELECT cost, replayed FROM credyt.record_cost('ann', 'gpu', 'a100', usage => '{"second": 9}', vendor_request_id => 'r2');
SELECT approved, replayed FROM credyt.authorize('ann', 'video', idempotency_key => 'h', scopes => '{user:secret-alice}',
    usage => '{"vendor": "gpu", "model": "a100", "body": {"second": 3}}');
-- What is held is priced from what it was held for, though nothing else is left of that
SELECT scopes, metadata, usage IS NOT NULL AS usage FROM credyt.authorizations WHERE id = :'open';
SELECT credits, cost FROM credyt.capture('ann', :'open', dimensions => '{}');
SELECT credits, reason FROM credyt.capture('ann', :'ended');
-- Raw usage is gone, so nothing is computed from it
SELECT count(*) FROM credyt.recost('gpu');

-- Again: harmless, and takes what has come since
SELECT blanked > 0 AS blanked, open_holds FROM credyt.erase_customer('ann', 'again');
SELECT blanked, open_holds FROM credyt.erase_customer('ann', 'and again');
SELECT customer, reason, open_holds FROM credyt.erasures ORDER BY id;
SELECT usage IS NOT NULL AS usage FROM credyt.authorizations WHERE id = :'open';
SELECT h.asset, n.rows = h.rows AND n.hash = h.hash AS same FROM hashes h, credyt.ledger_hash(h.customer, h.asset, h.through) n ORDER BY h.customer, h.asset;
SELECT * FROM credyt.verify();

-- Nobody else gets past the triggers, in this session either, whatever is set
SELECT code, message FROM refused($$UPDATE credyt.ledger SET metadata = NULL$$);
SELECT code FROM refused($$DELETE FROM credyt.erasures$$);
SELECT code FROM refused($$UPDATE credyt.erasures SET reason = ''$$);
-- An owner's trigger that comes first gets no permit of another table, and what fails leaves none behind
CREATE FUNCTION sneak() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE credyt.grants SET credits = 1000; RETURN NULL; END $$;
CREATE TRIGGER aaa BEFORE UPDATE ON credyt.ledger FOR EACH STATEMENT EXECUTE FUNCTION sneak();
SELECT message FROM refused($$SELECT credyt.erase_customer('bob', 'x')$$);
SELECT code FROM refused($$UPDATE credyt.ledger SET metadata = NULL$$);
DROP TRIGGER aaa ON credyt.ledger;

-- Refusals
SELECT c.call, r.code, r.message
FROM (VALUES ('erase_customer(NULL, ''x'')'), ('erase_customer('''', ''x'')'), ('erase_customer(''ann'', NULL)'), ('erase_customer(''ann'', '''')'),
             ('erase_customer(''ann'', E'' \n'')'), ('erase_customer(''nobody'', ''x'')'),
             ('ledger_hash(NULL)'), ('ledger_hash('''')'), ('ledger_hash(''ann'', '''')'), ('ledger_hash(''ann'', ''gold'')'),
             ('ledger_hash(''ann'', through => 0)'), ('ledger_hash(''ann'', contents => NULL)')) AS c (call),
     refused('SELECT credyt.' || c.call) AS r;
SELECT detail, hint FROM refused($$SELECT credyt.erase_customer('nobody', 'x')$$);

-- The hash: of nobody none, of an empty wallet one, of the first rows the same for ever
SELECT count(*) FROM credyt.ledger_hash('nobody');
\o /dev/null
SELECT credyt.open_wallet('empty');
\o
SELECT rows, through, hash FROM credyt.ledger_hash('empty');
SELECT rows, through FROM credyt.ledger_hash('bob', through => 2);
SELECT a.hash = b.hash AS same, a.hash = c.hash AS all FROM credyt.ledger_hash('bob', through => 2) a, credyt.ledger_hash('bob', 'credits', 2) b,
    credyt.ledger_hash('bob', through => 3) c;
-- Of known rows it is known: on every version, under all settings
INSERT INTO credyt.wallets SELECT 'müller', asset, created_at, next_due_at, overdraft_limit, status, status_reason, metadata, state
FROM credyt.wallets WHERE customer = 'empty';
INSERT INTO credyt.ledger (customer, asset, id, seq, created_at, occurred_at, accounted_at, kind, action, quantity, credits, revenue, cost, allocations,
    refers_to, idempotency_key, request, dimensions, scopes, metadata, balance) VALUES
('müller', 'credits', '019b0000-0000-7000-8000-000000000001', 1, '2026-01-01 00:00:00.000001+00', '2026-01-01', '2026-01-01', 'grant', NULL, NULL, 1.50, 0,
 NULL, '[{"grant": "019b0000-0000-7000-8000-00000000000a", "kind": "purchased", "credits": "1.5", "deferred": "0.10"}]',
 '019b0000-0000-7000-8000-00000000000a', 'kéy "1"', '\x00ff', NULL, NULL, NULL, 1.50),
('müller', 'credits', '019b0000-0000-7000-8000-000000000002', 5000, '2026-03-29 01:30+00', '0001-01-01 BC', '9999-12-31', 'debit', E'bild\n', 0.10, -1e-10, 123456789012345.6789012345,
 0.000000000001, '[]', NULL, NULL, NULL, '{"b": 1.10, "a": "\\ü"}', '{user:a}', '{"m": 1e3}', 1.4999999999);
INSERT INTO credyt.grants (customer, id, asset, kind, priority, credits, paid, settled, debt_revenue, effective_at, applies_to, created_at) VALUES
('müller', '019b0000-0000-7000-8000-00000000000a', 'credits', 'purchased', 100, 1.5, 0.10, 0, 0, '2026-01-01', '{image.*,"a b"}', '2026-01-01');
INSERT INTO credyt.vendor_costs (customer, asset, seq, id, vendor, source, cost, api_flavor, occurred_at, accounted_at, created_at) VALUES
('müller', 'credits', 3, '019b0000-0000-7000-8000-000000000003', 'gpu', 'invoiced', 0.5, 'default', '2026-01-02', '2026-01-02', '2026-01-02');
INSERT INTO credyt.cost_postings (customer, asset, seq, nth, accounted_at, scopes, debits, costed, quantity, lines) VALUES
('müller', 'credits', 3, 1, '2026-01-02', '{user:a}', 0, 0, 0, '[]'), ('müller', 'credits', 3, 2, '2026-01-02', NULL, 1, 1, 1, '[]');
SELECT rows, through, hash FROM credyt.ledger_hash('müller');
SELECT hash FROM credyt.ledger_hash('müller', contents => true);
SET timezone = 'Asia/Kathmandu'; SET datestyle = 'SQL, DMY'; SET extra_float_digits = -15; SET bytea_output = 'escape'; SET client_encoding = 'LATIN1';
SET intervalstyle = 'sql_standard'; SET search_path = ''; SET max_parallel_workers_per_gather = 0; SET enable_hashjoin = off;
SELECT hash FROM credyt.ledger_hash(U&'m\00fcller', contents => true);
