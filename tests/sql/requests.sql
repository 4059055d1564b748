-- f(request jsonb): named arguments as the keys of one JSON object.
SELECT count(*) FROM credyt.create_asset('credits');
SELECT count(*) FROM credyt.set_price('image', '{"meters": {"pixels": {"per": 10, "credits": "1"}}}');

-- Untyped literals take the text form, in statements and in prepared ones without types.
SELECT id IS NOT NULL AS id, customer, credits FROM credyt.grant_credits('17', 100);
SELECT available FROM credyt.balance('17');
PREPARE untyped AS SELECT available FROM credyt.balance($1);
EXECUTE untyped ('17');
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'untyped';
PREPARE named AS SELECT available FROM credyt.balance(customer => $1);
EXECUTE named ('17');
PREPARE request AS SELECT available FROM credyt.balance(request => $1);
EXECUTE request ('{"customer": 17}');
SELECT name, parameter_types FROM pg_prepared_statements ORDER BY name;

-- Integers stand for texts, texts for numbers; a null is left out.
SELECT customer, credits, paid, kind, priority, applies_to, expires_at
FROM credyt.grant_credits('{"customer": 17, "credits": "5.50", "paid": 1e-1, "priority": "50", "applies_to": ["image"], "kind": null,
                           "expires_at": "2127-01-01T00:00:00Z"}');
SELECT customer, credits, quantity, cost FROM credyt.debit_credits('{"customer": 17, "action": "image", "cost": 0.1, "quantity": 2, "dimensions": {"pixels": 30}}');
-- Both forms are one function: one key, one replay.
SELECT credits, replayed FROM credyt.debit_credits('17', 'image', dimensions => '{"pixels": 20}', idempotency_key => '5');
SELECT credits, replayed FROM credyt.debit_credits('{"customer": 17, "action": "image", "dimensions": {"pixels": 20}, "idempotency_key": 5}');
SELECT credits, replayed FROM credyt.debit_many('[{"customer": 17, "action": "image", "dimensions": {"pixels": 20}, "idempotency_key": 5}]');
SELECT credits, replayed FROM credyt.debit_credits('{"customer": 17, "action": "image", "dimensions": {"pixels": 21}, "idempotency_key": 5}');
-- Encoded twice, and an empty list for an empty object.
SELECT credits FROM credyt.debit_credits('"{\"customer\": 17, \"action\": \"image\", \"dimensions\": \"{\\\"pixels\\\": 30}\"}"');
SELECT credits FROM credyt.debit_credits('17', 'image', dimensions => '"{\"pixels\": 30}"', metadata => '"{\"a\": 1}"');
SELECT dimensions, metadata FROM credyt.ledger ORDER BY seq DESC LIMIT 1;
SELECT credits FROM credyt.debit_credits('17', 'image', credits => 1, dimensions => '[]');
SELECT credits FROM credyt.debit_credits('{"customer": 17, "action": "image", "credits": 1, "dimensions": []}');
SELECT dimensions FROM credyt.ledger ORDER BY seq DESC LIMIT 1;
SELECT credits FROM credyt.debit_many('"[{\"customer\": 17, \"action\": \"image\", \"credits\": 1}]"');
-- Ids, truth values and whole numbers.
SELECT id AS hold FROM credyt.authorize('{"customer": 17, "action": "image", "credits": 4, "ttl_seconds": "60", "scopes": ["user:1", 2]}') \gset
SELECT credits FROM credyt.capture(jsonb_build_object('customer', 17, 'authorization_id', :'hold', 'credits', 2, 'keep_open', true));
SELECT credits FROM credyt.capture(jsonb_build_object('customer', 17, 'authorization_id', :'hold', 'credits', 3, 'keep_open', 'false'));
SELECT count(*) FROM credyt.ledger_hash('{"customer": 17, "through": "1"}'::jsonb);
SELECT count(*) FROM credyt.verify('{"customer": 17}'::jsonb);
-- Where there is no default, null is NULL.
SELECT customer FROM credyt.set_alert('{"customer": 17, "threshold": null}');

-- What is refused, and how.
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT credyt.balance('{"customer": 17}');
SELECT credyt.balance(NULL::jsonb);
SELECT credyt.balance('[]'::jsonb);
SELECT credyt.balance('{}'::jsonb);
SELECT credyt.balance('{"customer": null}'::jsonb);
SELECT credyt.balance('{"customer": true}'::jsonb);
SELECT credyt.balance('{"customer": "{}"}'::jsonb);
SELECT credyt.balance('{"customer": 17, "assets": "credits"}'::jsonb);
SELECT credyt.balance('{"customer": 17, "at": 20260101}'::jsonb);
SELECT credyt.debit_credits('{"customer": 17, "action": "image", "idempotencyKey": 1}');
SELECT credyt.debit_many('[{"customer": 17, "action": "image"}, {"customer": 17, "action": "image", "key": 1}]');
SELECT credyt.capture('{"customer": 17, "authorization_id": 5}');
SELECT credyt.capture('{"customer": 17, "authorization_id": "x"}');
SELECT credyt.capture('{"customer": 17}');
SELECT credyt.authorize('{"customer": 17, "action": "image", "ttl_seconds": 1.5}');
SELECT credyt.authorize('{"customer": 17, "action": "image", "ttl_seconds": 3000000000}');
SELECT credyt.authorize('{"customer": 17, "action": "image", "scopes": "user:1"}');
\set VERBOSITY terse
SELECT credyt.capture(jsonb_build_object('customer', 17, 'authorization_id', :'hold', 'keep_open', 1));
\set VERBOSITY default
SELECT credyt.transfer('17', '{"customer": 17}', 1);
SELECT credyt.verify('{"custmer": 17}'::jsonb);

-- What JavaScript makes of an object that is passed as a text.
SELECT * FROM credyt.balance('[object Object]');
