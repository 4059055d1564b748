-- Hold what they can pay: authorize with vary, and affordable.
\pset null -
INSERT INTO credyt.clock VALUES ('2026-03-10 12:00+00');
SELECT asset FROM credyt.create_asset('credits');
SELECT action FROM credyt.set_price('image', '4');
SELECT action FROM credyt.set_price('chat', '{"meters": {"input_tokens": {"per": 1000, "credits": "0.1"}, "output_tokens": {"per": 1000, "credits": "0.4"}}}');
SELECT action FROM credyt.set_price('bulk', '{"volume": [{"up_to": 10, "per_unit": "2"}, {"per_unit": "1"}]}');
SELECT action FROM credyt.set_price('capped', '{"per_unit": "2", "maximum": "20"}');
SELECT action FROM credyt.set_price('resale', '{"cost_plus": {"markup": "0", "credit_value": "0.01"}}');
SELECT action FROM credyt.set_price('sized', '{"match": [{"when": {"size": "4k"}, "price": 12}, {"price": 3}]}');
SELECT kind FROM credyt.grant_credits('ann', 10);
SELECT kind FROM credyt.grant_credits('ann', 5, 'promotional', applies_to => '{bulk}');

-- The question.
SELECT * FROM credyt.affordable('ann', 'image');
SELECT * FROM credyt.affordable('ann', 'chat', 'output_tokens', '{"input_tokens": 20000}');
SELECT * FROM credyt.affordable('ann', 'chat', 'output_tokens', '{"input_tokens": 20000}', step => 256);
SELECT * FROM credyt.affordable('ann', 'chat', 'output_tokens', '{"input_tokens": 2000000}');
SELECT * FROM credyt.affordable('ann', 'bulk');
SELECT * FROM credyt.affordable('ann', 'sized', dimensions => '{"size": "4k"}');
SELECT * FROM credyt.affordable('ann', 'sized');
SELECT * FROM credyt.affordable('ann', 'capped');
SELECT * FROM credyt.affordable('nobody', 'image');
SELECT * FROM credyt.affordable('{"customer": "ann", "action": "image", "step": "0.25"}'::jsonb);
SELECT kind FROM credyt.grant_credits('rich', 20);
SELECT * FROM credyt.affordable('rich', 'capped');

-- The hold: the largest multiple of step, up to the amount asked for.
SELECT approved, reason, credits, granted, available FROM credyt.authorize('ann', 'chat', dimensions => '{"input_tokens": 20000, "output_tokens": 100000}', vary => 'output_tokens', idempotency_key => 'h1');
SELECT replayed, granted, available FROM credyt.authorize('ann', 'chat', dimensions => '{"input_tokens": 20000, "output_tokens": 100000}', vary => 'output_tokens', idempotency_key => 'h1');
SELECT approved, reason, credits, granted, available FROM credyt.authorize('ann', 'image', 3, vary => 'quantity');
SELECT * FROM credyt.affordable('ann', 'image');
-- It stands as if so much had been asked for.
SELECT quantity, dimensions, credits FROM credyt.authorizations WHERE idempotency_key = 'h1';
SELECT id AS held FROM credyt.authorizations WHERE idempotency_key = 'h1' \gset
SELECT credits, available FROM credyt.capture('ann', :'held', dimensions => '{"input_tokens": 20000, "output_tokens": 5000}');
SELECT approved, credits, granted FROM credyt.authorize('ann', 'image', 3, vary => 'quantity', at_least => 2);
SELECT approved, credits, granted FROM credyt.authorize('ann', 'image', 3, vary => 'quantity', step => '0.75', at_least => 1);
SELECT approved, credits, granted FROM credyt.authorize('ann', 'image', 0.5, vary => 'quantity');
SELECT approved, granted FROM credyt.authorize('nobody', 'image', 3, vary => 'quantity');

-- Overdraft and limits.
SELECT kind FROM credyt.grant_credits('bob', 10);
SELECT overdraft_limit FROM credyt.open_wallet('bob', overdraft_limit => 6);
SELECT * FROM credyt.affordable('bob', 'image');
SELECT scope FROM credyt.set_limit('bob', 'user:*', 9, 'day');
SELECT scope FROM credyt.set_limit('bob', 'action:image', 13, 'month');
SELECT * FROM credyt.affordable('bob', 'image', scopes => '{user:x}');
SELECT * FROM credyt.affordable('bob', 'image');
SELECT credits, granted FROM credyt.authorize('bob', 'image', 4, scopes => '{user:x}', vary => 'quantity');
SELECT * FROM credyt.affordable('bob', 'image', scopes => '{user:x}');
SELECT * FROM credyt.affordable('bob', 'image', scopes => '{user:y}');
SELECT approved, reason FROM credyt.authorize('bob', 'image', 4, scopes => '{user:x}', vary => 'quantity');
SELECT status FROM credyt.freeze_wallet('bob');
SELECT * FROM credyt.affordable('bob', 'image');
SELECT approved, reason FROM credyt.authorize('bob', 'image', 4, vary => 'quantity');

\set VERBOSITY terse
SELECT * FROM credyt.authorize('ann', 'chat', dimensions => '{"output_tokens": 100}', vary => 'quantity');
SELECT * FROM credyt.authorize('ann', 'chat', dimensions => '{"output_tokens": 100}', vary => 'tokens');
SELECT * FROM credyt.authorize('ann', 'chat', vary => 'output_tokens');
SELECT * FROM credyt.authorize('ann', 'chat', dimensions => '{"output_tokens": "many"}', vary => 'output_tokens');
SELECT * FROM credyt.authorize('ann', 'image', 0, vary => 'quantity');
SELECT * FROM credyt.authorize('ann', 'image', vary => 'output_tokens', dimensions => '{"output_tokens": 3}');
SELECT * FROM credyt.authorize('ann', 'image', vary => 'quantity', credits => 3);
SELECT * FROM credyt.authorize('ann', 'resale', vary => 'quantity', cost => 3);
SELECT * FROM credyt.authorize('nobody', 'resale', vary => 'quantity', cost => 3);
SELECT * FROM credyt.authorize('ann', 'image', vary => 'quantity', step => 0);
SELECT * FROM credyt.authorize('ann', 'image', vary => 'quantity', step => -1);
SELECT * FROM credyt.authorize('ann', 'image', vary => 'quantity', step => NULL);
SELECT * FROM credyt.authorize('ann', 'image', vary => 'quantity', step => 'NaN');
SELECT * FROM credyt.authorize('ann', 'image', vary => 'quantity', at_least => -1);
SELECT * FROM credyt.authorize('ann', 'image', vary => '');
SELECT * FROM credyt.authorize('ann', 'chat', dimensions => '{"input_tokens": 20000, "output_tokens": 100000}', vary => 'output_tokens', step => 10, idempotency_key => 'h1');
SELECT * FROM credyt.affordable('ann', 'nothing');
SELECT * FROM credyt.affordable('ann', 'image', 'tokens');
SELECT * FROM credyt.affordable('ann', 'resale');
SELECT * FROM credyt.affordable('ann', 'image', step => 0);
SELECT * FROM credyt.affordable('ann', 'image', NULL);
SELECT * FROM credyt.affordable('ann', 'image', asset => 'gold');
-- What is asked for costs more than there can be; what is granted can be paid.
SELECT credits FROM credyt.grant_credits('huge', 100);
SELECT approved, credits, granted, available FROM credyt.authorize('huge', 'image', 1e16, vary => 'quantity');
SELECT * FROM credyt.verify();
