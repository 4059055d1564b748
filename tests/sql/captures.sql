-- What a capture says replaces what the authorization guessed, and nothing that is known of the cost stops it.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-10 12:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('chat', '{"match": [{"when": {"model": "gpt-4o"}, "price": {"meters": {"input_tokens": {"per": 1000, "credits": "0.1"}, "output_tokens": {"per": 1000, "credits": "0.25"}}}}, {"price": 100}]}');
SELECT credyt.set_price('image', '{"match": [{"when": {"steps": 50}, "price": 2}, {"price": 1}]}');
SELECT credyt.set_price('agent', '{"cost_plus": {"markup": "0", "credit_value": "0.01"}}');
SELECT credyt.set_price('choice', '{"match": [{"when": {"size": "4k"}, "price": 12}]}');
SELECT credyt.import_vendor_rates('[{"id": "openai", "name": "OpenAI", "api_pattern": "https://api",
    "extractors": [{"api_flavor": "chat", "root": "usage", "model_path": "model", "mappings": [
        {"path": "prompt_tokens", "dest": "input_tokens", "required": true}, {"path": "completion_tokens", "dest": "output_tokens", "required": true}]}],
    "models": [{"id": "gpt-4o", "match": {"equals": "gpt-4o"}, "prices": {"input_mtok": 2.5, "output_mtok": 10}}]}]');
SELECT credyt.set_vendor_rate('gpus', 'h100', '{"second": "0.01"}');
SELECT credyt.grant_credits('ann', 1000, paid => 100);
\o
\set answer '\'{"vendor": "openai", "model": "gpt-4o", "body": {"usage": {"prompt_tokens": 300, "completion_tokens": 400, "total_tokens": 700}}}\''
\set partial '\'{"vendor": "openai", "model": "gpt-4o", "body": {"usage": {"prompt_tokens": 300, "completion_tokens": 100, "total_tokens": 400}}}\''
\set nothing '\'{"vendor": "openai", "model": "gpt-4o", "body": {"object": "chunk", "usage": null}}\''

-- Authorized by an estimate, captured by the answer: all counts are the answer's, the model is inherited
SELECT id AS a, credits FROM credyt.authorize('ann', 'chat', dimensions => '{"model": "gpt-4o", "input_tokens": 1200, "output_tokens": 8000}') \gset
SELECT credits, cost, reason FROM credyt.capture('ann', :'a', usage => :answer);
SELECT dimensions FROM credyt.ledger ORDER BY seq DESC LIMIT 1;
-- A capture that tells one count tells that the others are none; its dimensions come before its usage
SELECT id AS a FROM credyt.authorize('ann', 'chat', dimensions => '{"model": "gpt-4o", "input_tokens": 1200, "output_tokens": 8000}') \gset
SELECT credits, cost FROM credyt.capture('ann', :'a', dimensions => '{"input_tokens": 2000}', keep_open => true);
SELECT credits, cost FROM credyt.capture('ann', :'a', dimensions => '{"input_tokens": 3000}', usage => :answer);
SELECT dimensions FROM credyt.ledger ORDER BY seq DESC LIMIT 1;
-- A number that a case of the price looks at is no count
SELECT id AS a, credits FROM credyt.authorize('ann', 'image', 5, dimensions => '{"steps": 50, "guess": 7}') \gset
SELECT quantity, credits FROM credyt.capture('ann', :'a', dimensions => '{"seed": "x"}');
SELECT dimensions FROM credyt.ledger ORDER BY seq DESC LIMIT 1;
-- Without dimensions and usage the estimate is all there is
SELECT id AS a FROM credyt.authorize('ann', 'chat', dimensions => '{"model": "gpt-4o", "input_tokens": 1000}') \gset
SELECT quantity, credits, cost FROM credyt.capture('ann', :'a', quantity => 1);
SELECT id AS a FROM credyt.authorize('ann', 'chat', dimensions => '{"model": "gpt-4o", "input_tokens": 1000}') \gset
SELECT quantity, credits, cost FROM credyt.capture('ann', :'a', dimensions => '{}');
SELECT id AS a FROM credyt.authorize('ann', 'chat', dimensions => '{"model": "gpt-4o"}', usage => :answer) \gset
SELECT credits, cost FROM credyt.capture('ann', :'a', cost => 0.01);

-- A cost or usage that was guessed prices the hold, and is never booked
SELECT id AS a FROM credyt.authorize('ann', 'image', 5, cost => 5) \gset
SELECT quantity, credits, cost, margin FROM credyt.capture('ann', :'a', quantity => 4);
SELECT id AS a, credits FROM credyt.authorize('ann', 'agent', cost => 0.5) \gset
\echo :credits
SELECT credits, cost FROM credyt.capture('ann', :'a');
SELECT id AS a FROM credyt.authorize('ann', 'agent', cost => 0.5) \gset
SELECT credits, cost FROM credyt.capture('ann', :'a', quantity => 2);
SELECT id AS a FROM credyt.authorize('ann', 'agent', usage => '{"vendor": "gpus", "model": "h100", "body": {"second": 100}}') \gset
SELECT credits, cost FROM credyt.capture('ann', :'a', usage => '{"vendor": "gpus", "model": "h100", "body": {"second": 20}}');
SELECT usage, cost FROM credyt.ledger WHERE kind = 'debit' AND (cost IS NULL) <> (usage IS NULL);

-- Credits that were authorized stand where the action has no price, or no case of it
SELECT id AS a FROM credyt.authorize('ann', 'unpriced', credits => 5) \gset
SELECT credits, cost, reason FROM credyt.capture('ann', :'a', usage => :answer);
SELECT id AS a FROM credyt.authorize('ann', 'choice', credits => 5) \gset
SELECT credits, cost, reason FROM credyt.capture('ann', :'a', usage => :answer);
SELECT id AS a FROM credyt.authorize('ann', 'choice', dimensions => '{"size": "4k"}') \gset
SELECT code, message, hint FROM refused('SELECT credyt.capture(''ann'', $1, dimensions => ''{"size": "8k"}'')', :'a') \gx
-- Where it has one, other totals are priced
SELECT id AS a FROM credyt.authorize('ann', 'image', credits => 50) \gset
SELECT credits FROM credyt.capture('ann', :'a', quantity => 3);
SELECT id AS a FROM credyt.authorize('ann', 'image', credits => 50) \gset
SELECT credits, cost FROM credyt.capture('ann', :'a', dimensions => '{}');

-- A stream: chunks without usage charge nothing; then the answer is charged whole
SELECT id AS a FROM credyt.authorize('ann', 'chat', dimensions => '{"model": "gpt-4o", "input_tokens": 1000, "output_tokens": 8000}') \gset
SELECT credits, cost, held, reason, replayed FROM credyt.capture('ann', :'a', usage => :nothing, keep_open => true);
SELECT credits, cost, held, reason, replayed FROM credyt.capture('ann', :'a', usage => '{"vendor": "openai", "model": "gpt-4o", "body": null}', keep_open => true);
SELECT credits, cost, reason, replayed FROM credyt.capture('ann', :'a', usage => :partial, keep_open => true);
SELECT credits, cost, reason, replayed FROM credyt.capture('ann', :'a', usage => :nothing, keep_open => true);
SELECT count(*) AS uncosted FROM credyt.uncosted_usage;
SELECT credits, cost, held, reason, replayed FROM credyt.capture('ann', :'a', usage => :answer);
SELECT credits, replayed FROM credyt.capture('ann', :'a', usage => :answer);
SELECT quantity, credits, cost, reason FROM credyt.ledger WHERE authorization_id = :'a' ORDER BY seq;
SELECT count(*) AS uncosted FROM credyt.uncosted_usage;
-- A stream that ends without usage is charged as it was authorized, and stays uncosted
SELECT id AS a FROM credyt.authorize('ann', 'chat', dimensions => '{"model": "gpt-4o", "input_tokens": 1000, "output_tokens": 2000}') \gset
SELECT credits, cost, reason FROM credyt.capture('ann', :'a', usage => :nothing);
SELECT credits, cost, reason, replayed FROM credyt.capture('ann', :'a', usage => :nothing);
SELECT vendor, model, debit_id IS NOT NULL AS debit, reason FROM credyt.uncosted_usage;
-- Other totals decide where there are some; a cost is known all the same
SELECT id AS a FROM credyt.authorize('ann', 'image', 5) \gset
SELECT credits, cost, reason FROM credyt.capture('ann', :'a', quantity => 2, usage => :nothing);
SELECT id AS a FROM credyt.authorize('ann', 'chat', dimensions => '{"model": "gpt-4o", "output_tokens": 2000}') \gset
SELECT credits, cost, reason FROM credyt.capture('ann', :'a', dimensions => '{"input_tokens": 1000, "output_tokens": 1000}', cost => 0.02, usage => :nothing);
SELECT id AS a FROM credyt.authorize('ann', 'chat', dimensions => '{"model": "gpt-4o", "output_tokens": 2000}') \gset
SELECT credits, cost, reason FROM credyt.capture('ann', :'a', credits => 1, usage => :nothing);
-- Several usages, one of them without counts; none at all; counts that cannot be; a cost that cannot be computed
SELECT id AS a FROM credyt.authorize('ann', 'chat', dimensions => '{"model": "gpt-4o", "output_tokens": 2000}') \gset
SELECT credits, cost, reason FROM credyt.capture('ann', :'a', usage => jsonb_build_array(:answer::jsonb, :nothing::jsonb));
SELECT id AS a FROM credyt.authorize('ann', 'chat', dimensions => '{"model": "gpt-4o", "output_tokens": 2000}') \gset
SELECT credits, cost, reason FROM credyt.capture('ann', :'a', usage => '[]');
SELECT id AS a FROM credyt.authorize('ann', 'chat', dimensions => '{"model": "gpt-4o", "output_tokens": 2000}') \gset
SELECT credits, cost, reason FROM credyt.capture('ann', :'a', usage => '{"vendor": "gpus", "model": "h100", "body": {"second": -1}}');
SELECT id AS a FROM credyt.authorize('ann', 'agent', credits => 7) \gset
SELECT credits, cost, reason FROM credyt.capture('ann', :'a', usage => '{"vendor": "gpus", "model": "b300", "body": {"second": 1}}', keep_open => true);
SELECT credits, cost, reason FROM credyt.capture('ann', :'a', usage => '{"vendor": "gpus", "model": "b300", "body": {"second": 2}}');
SELECT id AS a FROM credyt.authorize('ann', 'agent', credits => 7) \gset
SELECT code, message, hint FROM refused('SELECT credyt.capture(''ann'', $1, quantity => 2)', :'a') \gx

-- A debit is charged, whatever the usage; only a price that needs the counts refuses it
SELECT credits, cost FROM credyt.debit_credits('ann', 'image', usage => :nothing);
SELECT credits, cost FROM credyt.debit_credits('ann', 'image', usage => '{"vendor": "gpus", "model": "h100", "body": {"second": -1}}');
SELECT credits, cost FROM credyt.debit_credits('ann', 'image', cost => 0.5, usage => :nothing);
SELECT credits, cost FROM credyt.debit_credits('ann', 'image', usage => '[]');
SELECT credits, cost FROM credyt.debit_credits('ann', 'chat', dimensions => '{"model": "gpt-4o", "input_tokens": 1000, "output_tokens": 0}', usage => :nothing);
SELECT credits, cost FROM credyt.debit_credits('ann', 'agent', cost => 0.5, usage => :nothing);
SELECT credits, reason FROM credyt.debit_many('[{"customer": "ann", "action": "image", "usage": {"vendor": "openai", "body": null}}, {"customer": "ann", "action": "image", "usage": {"vendor": "nobody", "body": {"x": -1}}}]', 'skip');
-- In a batch it is left out, like those that cannot pay
SELECT action, credits, reason FROM credyt.debit_many('[{"customer": "ann", "action": "chat", "dimensions": {"model": "gpt-4o"}, "usage": {"vendor": "openai", "model": "gpt-4o", "body": null}},
    {"customer": "ann", "action": "agent", "usage": {"vendor": "nobody", "model": "x", "body": {"second": 1}}}, {"customer": "ann", "action": "image", "idempotency_key": "1"}]', 'skip');
SELECT code, message, hint FROM refused($$SELECT credyt.debit_many('[{"customer": "ann", "action": "image", "idempotency_key": "2"}, {"customer": "ann", "action": "agent", "usage": {"vendor": "nobody", "model": "x", "body": {"second": 1}}}]')$$) \gx
SELECT code, message, hint FROM refused($$SELECT credyt.debit_credits('ann', 'chat', dimensions => '{"model": "gpt-4o", "input_tokens": 1000}', usage => '{"vendor": "openai", "model": "gpt-4o", "body": null}')$$) \gx
SELECT code, message, hint FROM refused($$SELECT credyt.debit_credits('ann', 'agent', usage => '{"vendor": "openai", "model": "gpt-4o", "body": {"id": "chunk"}}')$$) \gx
SELECT code, message, hint FROM refused($$SELECT credyt.authorize('ann', 'agent', usage => '{"vendor": "gpus", "model": "h100", "body": {"second": -1}}')$$) \gx
SELECT code, message, hint FROM refused($$SELECT credyt.quote('image', usage => '{"vendor": "gpus", "model": "h100", "body": {"second": -1}}')$$) \gx
SELECT credits FROM credyt.quote('image', usage => :nothing);
SELECT debits, cost_coverage FROM credyt.margin_by_action WHERE action = 'chat';

-- What exceeds the hold has to find room under the limits, too, and follows the overrun
\o /dev/null
SELECT credyt.grant_credits(c, 100), credyt.set_limit(c, 'user:u', 5) FROM unnest('{reject, clamp, overdraft, held}'::text[]) c;
SELECT credyt.debit_credits(c, 'image', 5, scopes => '{user:u}') FROM unnest('{reject, clamp, overdraft}'::text[]) c;
\o
SELECT id AS a FROM credyt.authorize('reject', 'image', 0, scopes => '{user:u}') \gset
SELECT code, message, hint FROM refused('SELECT credyt.capture(''reject'', $1, quantity => 50)', :'a') \gx
SELECT credits, available FROM credyt.capture('reject', :'a', credits => 0);
SELECT id AS a FROM credyt.authorize('clamp', 'image', 0, scopes => '{user:u}', overrun => 'clamp') \gset
SELECT credits, available FROM credyt.capture('clamp', :'a', quantity => 50);
SELECT id AS a FROM credyt.authorize('overdraft', 'image', 0, scopes => '{user:u}', overrun => 'overdraft') \gset
SELECT credits, available FROM credyt.capture('overdraft', :'a', quantity => 50);
SELECT customer, used, held FROM credyt.limits_used ORDER BY customer;
-- What is held counts, of this and of other holds
SELECT id AS a FROM credyt.authorize('held', 'image', 1, scopes => '{user:u}', overrun => 'clamp') \gset
SELECT id AS b FROM credyt.authorize('held', 'image', 2, scopes => '{user:u}') \gset
SELECT credits FROM credyt.capture('held', :'a', quantity => 2, keep_open => true);
SELECT credits FROM credyt.capture('held', :'a', quantity => 9, keep_open => true);
SELECT code, message, hint FROM refused('SELECT credyt.capture(''held'', $1, quantity => 3)', :'b') \gx
SELECT credits FROM credyt.capture('held', :'b', quantity => 2);
SELECT captured, forgiven FROM credyt.authorizations WHERE id = :'a';
-- One that has ended has no hold: all of it counts
SELECT id AS c FROM credyt.authorize('held', 'image', 0, scopes => '{user:u}', ttl_seconds => 1, overrun => 'clamp') \gset
UPDATE credyt.clock SET now = '2026-01-10 12:01+00';
SELECT credits, reason FROM credyt.capture('held', :'c', quantity => 4);
SELECT * FROM credyt.verify();
