-- Charging as applications do it: numbers as they come, keys, late usage, and refunds that do not come back.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-10 12:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image', '1');
SELECT credyt.set_price('chat', '{"meters": {"input_tokens": {"per": 1000, "credits": "1"}, "output_tokens": {"per": 1000, "credits": "10"}}}');
SELECT credyt.set_price('agent', '{"cost_plus": {"markup": "0", "credit_value": "0.01"}}');
SELECT credyt.grant_credits('ann', 1000, paid => 100);
\o

-- Measurements with more decimals than are kept are rounded half-even: costs and quantities, in a batch and a quote too
SELECT quantity, credits, cost FROM credyt.debit_credits('ann', 'image', 0.1::float8::numeric + 0.2::float8::numeric + 0.00000000000000004, cost => 0.30000000000000004);
SELECT quantity, credits, cost FROM credyt.debit_credits('ann', 'image', 1.0000000000005, cost => 0.0000000000015);
SELECT quantity, credits, cost FROM credyt.debit_many('[{"customer": "ann", "action": "image", "quantity": 0.30000000000000004, "cost": "0.123456789012500000000000000000000000000000001"}]');
SELECT quantity, credits FROM credyt.quote('image', 1.00000000000000000000000000000000001);
SELECT credits FROM credyt.quote('chat', dimensions => '{"input_tokens": 1000.00000000000000000000000000000000001}');
SELECT credits FROM credyt.quote('agent', cost => 0.1 + 0.2 + 0.00000000000000004);
SELECT cost FROM credyt.record_cost('ann', 'openai', cost => 0.0000123456789012345);
SELECT paid, deferred FROM credyt.grant_credits('ann', 3, paid => 9.99000000000000021);
SELECT paid FROM credyt.grant_many('[{"customer": "ann", "credits": 3, "paid": 0.00000000015}]');
SELECT paid FROM credyt.create_plan('pro', 100, paid => 19.900000000000002);
-- Large ones keep 28 digits in all; credits are never rounded
SELECT quantity FROM credyt.quote('image', 12345678901234.12345678901249);
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.quote('image', 12345678901234567890123456789.5)$$);
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.debit_credits('ann', 'image', credits => 0.3000001)$$);
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.debit_credits('ann', 'image', cost => 1e15)$$);

-- A key stands for everything that was asked, numbers compared as numbers
SELECT replayed FROM credyt.debit_credits('ann', 'chat', dimensions => '{"input_tokens": 2, "model": "x"}', scopes => '{user:a,key:k}', cost => 0.30000000000000004, idempotency_key => 'd');
SELECT replayed FROM credyt.debit_credits('ann', 'chat', dimensions => '{"model": "x", "input_tokens": 2.0}', scopes => '{key:k,user:a}', cost => 0.3, occurred_at => '2026-01-01', metadata => '1', idempotency_key => 'd');
SELECT replayed FROM credyt.debit_many('[{"customer": "ann", "action": "chat", "dimensions": {"input_tokens": 2.00, "model": "x"}, "scopes": ["user:a", "key:k"], "cost": "0.3", "idempotency_key": "d"}]');
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.debit_credits('ann', 'chat', dimensions => '{"model": "x", "input_tokens": 2}', cost => 0.3, scopes => '{user:a}', idempotency_key => 'd')$$);
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.debit_credits('ann', 'chat', dimensions => '{"model": "x", "input_tokens": "2"}', cost => 0.3, scopes => '{user:a,key:k}', idempotency_key => 'd')$$);
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.debit_credits('ann', 'chat', dimensions => '{"model": "x", "input_tokens": 2}', cost => 0.3, idempotency_key => 'd')$$);
SELECT replayed FROM credyt.grant_credits('ann', 5, paid => 1, priority => 50, applies_to => '{image,chat}', idempotency_key => 'g');
SELECT replayed FROM credyt.grant_credits('ann', 5.00, paid => 1.00000000001, priority => 50, applies_to => '{chat,image}', expires_at => '2027-01-01', idempotency_key => 'g');
SELECT replayed FROM credyt.grant_many('[{"customer": "ann", "credits": "5", "paid": 1, "priority": 50, "applies_to": ["image", "chat"], "idempotency_key": "g"}]');
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.grant_credits('ann', 5, paid => 1, priority => 51, applies_to => '{image,chat}', idempotency_key => 'g')$$);
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.grant_credits('ann', 5, paid => 1, priority => 50, applies_to => '{image}', idempotency_key => 'g')$$);
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.grant_credits('ann', 5, paid => 1, priority => 50, idempotency_key => 'g')$$);
SELECT replayed FROM credyt.authorize('ann', 'image', 2, scopes => '{user:a}', overrun => 'clamp', idempotency_key => 'a');
SELECT replayed FROM credyt.authorize('ann', 'image', 2.0, scopes => '{user:a,user:a}', overrun => 'clamp', ttl_seconds => 5, metadata => '1', idempotency_key => 'a');
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.authorize('ann', 'image', 2, scopes => '{user:a}', overrun => 'reject', idempotency_key => 'a')$$);
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.authorize('ann', 'image', 2, scopes => '{user:b}', overrun => 'clamp', idempotency_key => 'a')$$);
SELECT count(*), bool_or(replayed) FROM credyt.transfer('ann', 'bob', 2, idempotency_key => 't');
SELECT count(*), bool_and(replayed) FROM credyt.transfer('ann', 'bob', 2.00, reason => 'again', idempotency_key => 't');
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.transfer('ann', 'bob', 3, idempotency_key => 't')$$);
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.transfer('ann', 'eve', 2, idempotency_key => 't')$$);
SELECT id AS g FROM credyt.grant_credits('bob', 9) \gset
SELECT remaining, replayed FROM credyt.revoke_grant('bob', :'g', 4, idempotency_key => 'v');
SELECT remaining, replayed FROM credyt.revoke_grant('bob', :'g', 4.0, reason => 'again', idempotency_key => 'v');
SELECT code AS refused FROM refused(format('SELECT credyt.revoke_grant(''bob'', %L, 5, idempotency_key => ''v'')', :'g'));
SELECT code AS refused FROM refused(format('SELECT credyt.revoke_grant(''bob'', %L, idempotency_key => ''v'')', :'g'));
SELECT id AS d FROM credyt.debit_credits('bob', 'image', credits => 3) \gset
SELECT credits, replayed FROM credyt.refund('bob', :'d', 2, idempotency_key => 'w');
SELECT credits, replayed FROM credyt.refund('bob', :'d', 2.0, restore_until => '2030-01-01', reason => 'again', idempotency_key => 'w');
SELECT code AS refused FROM refused(format('SELECT credyt.refund(''bob'', %L, 1, idempotency_key => ''w'')', :'d'));
SELECT plan, replayed FROM credyt.subscribe('bob', 'pro', idempotency_key => 's');
SELECT plan, replayed FROM credyt.subscribe('bob', 'pro', paid_through => '2027-01-01', idempotency_key => 's');
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.subscribe('bob', 'pro', timezone => 'Europe/Berlin', idempotency_key => 's')$$);
SELECT replayed FROM credyt.pay_subscription('bob', 'pro', '2026-06-01', idempotency_key => 'p');
SELECT replayed FROM credyt.pay_subscription('bob', 'pro', '2026-07-01', idempotency_key => 'p');
-- A repeated capture is the same one however its numbers are written
SELECT id AS a FROM credyt.authorize('ann', 'chat', dimensions => '{"input_tokens": 1000}') \gset
SELECT credits, replayed FROM credyt.capture('ann', :'a', dimensions => '{"input_tokens": 500}', cost => 0.30000000000000004);
SELECT credits, replayed FROM credyt.capture('ann', :'a', dimensions => '{"input_tokens": 500.0}', cost => 0.3);

-- Late usage has the price of its moment; an action's first price holds from the beginning
\o /dev/null
SELECT credyt.set_vendor_rate('gpus', 'h100', '{"second": "0.01"}');
UPDATE credyt.clock SET now = '2026-02-01 00:00+00';
SELECT credyt.set_price('image', '3');
SELECT credyt.set_price('image', '2', customer => 'own');
SELECT credyt.set_vendor_rate('gpus', 'h100', '{"second": "0.02"}');
SELECT credyt.grant_credits('own', 100);
SELECT credyt.set_price('later', '7', effective_at => '2026-03-01');
UPDATE credyt.clock SET now = '2026-02-10 00:00+00';
\o
SELECT credits FROM credyt.debit_credits('ann', 'image', occurred_at => '2026-01-31 23:59:59.999999+00');
SELECT at, a.credits AS ann, o.credits AS own, a.price_version
FROM unnest('{1970-01-01 00:00+00, 2026-01-31 23:59:59.999999+00, 2026-02-01 00:00+00, 2026-02-20 00:00+00, NULL}'::timestamptz[]) AS at,
     credyt.quote('image', customer => 'ann', at => at) AS a, credyt.quote('image', customer => 'own', at => at) AS o;
SELECT credits FROM credyt.debit_credits('own', 'image', occurred_at => '2026-01-31');
SELECT credits FROM credyt.debit_credits('own', 'image', occurred_at => '2026-02-01');
SELECT credits FROM credyt.debit_many('[{"customer": "ann", "action": "image", "occurred_at": "2026-01-15"}, {"customer": "ann", "action": "image", "occurred_at": "1999-01-01"}, {"customer": "ann", "action": "image"}]');
SELECT credits, cost FROM credyt.debit_credits('ann', 'agent', usage => '{"vendor": "gpus", "model": "h100", "body": {"second": 10}}', occurred_at => '2026-01-20');
SELECT credits, cost FROM credyt.debit_credits('ann', 'agent', usage => '{"vendor": "gpus", "model": "h100", "body": {"second": 10}}');
SELECT credits FROM credyt.quote('agent', usage => '{"vendor": "gpus", "model": "h100", "body": {"second": 10}}', at => '2026-01-20');
-- Counts in usage are rounded, too
SELECT usage, cost FROM credyt.vendor_cost('gpus', 'h100', '{"second": 0.33333333333333333333333333333333333333333}');
SELECT credits, cost FROM credyt.debit_credits('ann', 'agent', usage => '{"vendor": "gpus", "model": "h100", "body": {"second": 30.000000000000004}}');
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.debit_credits('ann', 'image', occurred_at => '2026-02-10 00:00:01+00')$$);
-- A first price that has not taken effect yet holds for nobody; a quote may ask for a moment to come
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.debit_credits('ann', 'later', occurred_at => '2026-01-01')$$);
SELECT credits FROM credyt.quote('later', at => '2026-03-01');
-- A withdrawn price was in force until then
\o /dev/null
SELECT credyt.set_price('image', 'null');
\o
SELECT code || ' ' || message AS refused FROM refused($$SELECT credyt.debit_credits('ann', 'image')$$);
SELECT credits FROM credyt.debit_credits('ann', 'image', occurred_at => '2026-02-09');

-- A refund that brings nothing back says so; a second full one says that nothing is left
SELECT id AS d FROM credyt.debit_credits('ann', 'image', credits => 4) \gset
SELECT credits, reason FROM credyt.refund('ann', :'d');
SELECT code || ' ' || message AS refused FROM refused(format('SELECT credyt.refund(''ann'', %L)', :'d'));
SELECT code || ' ' || message AS refused FROM refused(format('SELECT credyt.refund(''ann'', %L, 1)', :'d'));
\o /dev/null
SELECT credyt.grant_credits('ends', 10, expires_at => '2026-02-11');
SELECT credyt.grant_credits('closes', 10);
\o
SELECT id AS g FROM credyt.grant_credits('revoked', 10) \gset
SELECT id AS e FROM credyt.debit_credits('ends', 'image', credits => 4) \gset
SELECT id AS c FROM credyt.debit_credits('closes', 'image', credits => 4) \gset
SELECT id AS r FROM credyt.debit_credits('revoked', 'image', credits => 4) \gset
\o /dev/null
SELECT credyt.close_wallet('closes');
SELECT credyt.revoke_grant('revoked', :'g');
UPDATE credyt.clock SET now = '2026-02-11 00:00+00';
\o
SELECT credits, available, reason FROM credyt.refund('ends', :'e', 1, idempotency_key => 'r');
SELECT credits, available, reason, replayed FROM credyt.refund('ends', :'e', 1, idempotency_key => 'r');
SELECT credits, available, reason FROM credyt.refund('ends', :'e', 1, reason => 'blurred', idempotency_key => 's');
SELECT credits, reason, replayed FROM credyt.refund('ends', :'e', 1, reason => 'blurred', idempotency_key => 's');
SELECT credits, available, reason FROM credyt.refund('ends', :'e', 1, restore_until => '2026-03-01');
SELECT credits, available, reason FROM credyt.refund('closes', :'c');
SELECT credits, available, reason FROM credyt.refund('revoked', :'r');
SELECT customer, credits, reason FROM credyt.ledger WHERE kind = 'refund' ORDER BY customer, seq;
SELECT * FROM credyt.verify();
