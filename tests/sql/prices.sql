-- Prices: every shape of a rule, from when and for whom it holds, and every refusal.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 00:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.create_asset('rounded_down', rounding => 'down');
SELECT credyt.create_asset('half_up', rounding => 'half_up');
SELECT credyt.create_asset('half_even', rounding => 'half_even');
SELECT credyt.create_asset('whole', scale => 0);
\o

-- Per unit, plain and long, as numbers and as strings
SELECT version, customer, price, effective_at FROM credyt.set_price('plain', '4');
\o /dev/null
SELECT credyt.set_price('text', '"0.25"');
SELECT credyt.set_price('limits', '{"per_unit": "0.5", "minimum": "1", "maximum": "50"}');
\o
SELECT * FROM credyt.quote('plain', 2.5);
SELECT credits FROM credyt.quote('text', 3);
SELECT quantity, credits, breakdown FROM unnest('{0, 1, 3, 1000}'::numeric[]) AS q, credyt.quote('limits', q);

-- Rounded once, at the end, in the asset's way
\o /dev/null
SELECT credyt.set_price('r', '"0.125"', asset => a) FROM unnest('{credits, rounded_down, half_up, half_even, whole}'::text[]) AS a;
\o
SELECT asset, credits, breakdown->>'exact' AS exact
FROM unnest('{credits, rounded_down, half_up, half_even, whole}'::text[]) AS a, credyt.quote('r', 1, asset => a);
SELECT asset, credits FROM unnest('{half_up, half_even}'::text[]) AS a, credyt.quote('r', 3, asset => a);

-- Packages
\o /dev/null
SELECT credyt.set_price('package', '{"package": {"size": 1000, "credits": "5"}}');
\o
SELECT quantity, credits FROM unnest('{0, 0.1, 1000, 1000.1, 2001}'::numeric[]) AS q, credyt.quote('package', q);

-- Tiers: each slice at its rate, or everything at the rate reached
\o /dev/null
SELECT credyt.set_price('graduated', '{"graduated": [{"up_to": 10, "per_unit": "2"}, {"up_to": 20, "per_unit": 1}, {"per_unit": "0.5"}]}');
SELECT credyt.set_price('volume', '{"volume": [{"up_to": 10, "per_unit": "2"}, {"up_to": 20, "per_unit": 1}, {"per_unit": "0.5"}]}');
\o
SELECT q AS quantity, g.credits AS graduated, v.credits AS volume
FROM unnest('{0, 5, 10, 10.5, 20, 30}'::numeric[]) AS q, credyt.quote('graduated', q) AS g, credyt.quote('volume', q) AS v;
SELECT t.* FROM credyt.quote('graduated', 30), jsonb_to_recordset(breakdown->'tiers') AS t (quantity text, per_unit text, credits text);
SELECT t.* FROM credyt.quote('volume', 30), jsonb_to_recordset(breakdown->'tiers') AS t (quantity text, per_unit text, credits text);

-- Meters: from dimensions, whatever the quantity; a missing one is 0
\o /dev/null
SELECT credyt.set_price('meters', '{"meters": {"input_tokens": {"per": 1000, "credits": "0.1"}, "output_tokens": {"per": 1000, "credits": "0.4"}}, "minimum": "0.05"}');
\o
SELECT d AS dimensions, credits
FROM (VALUES ('{}'::jsonb), ('{"input_tokens": 2500}'), ('{"input_tokens": "2500", "output_tokens": 800}'), ('{"other": 9}')) AS v (d),
     credyt.quote('meters', 0, d);
SELECT m.* FROM credyt.quote('meters', dimensions => '{"input_tokens": 2500, "output_tokens": 800}'),
     jsonb_to_recordset(breakdown->'meters') AS m (meter text, quantity text, rate text, credits text);
SELECT * FROM credyt.quote('meters', dimensions => '{"input_tokens": "many"}');
SELECT * FROM credyt.quote('meters', dimensions => '{"input_tokens": -1}');

-- Cost plus
\o /dev/null
SELECT credyt.set_price('cost_plus', '{"cost_plus": {"markup": "0.40", "credit_value": "0.01"}}');
SELECT credyt.set_price('below_cost', '{"cost_plus": {"markup": "-0.5", "credit_value": "0.01"}, "minimum": 1}');
\o
SELECT c AS cost, p.credits AS cost_plus, b.credits AS below_cost
FROM unnest('{0, 0.01, 0.0321, 2}'::numeric[]) AS c, credyt.quote('cost_plus', cost => c) AS p, credyt.quote('below_cost', 7, cost => c) AS b;
SELECT breakdown FROM credyt.quote('cost_plus', cost => 0.0321);
SELECT * FROM credyt.quote('cost_plus');
SELECT * FROM credyt.quote('cost_plus', usage => '{"vendor": "acme", "body": {}}');

-- Match: the case with the most conditions decides
\o /dev/null
SELECT credyt.set_price('match', '{"match": [{"when": {"model": "large", "size": "4k"}, "price": 12}, {"when": {"model": "large"}, "price": {"per_unit": 5, "minimum": 8}}, {"when": {"draft": true}, "price": 0}, {"when": {"steps": 50}, "price": {"match": [{"when": {"fast": true}, "price": 3}, {"price": 2}]}}, {"price": 1}]}');
SELECT credyt.set_price('no_default', '{"match": [{"when": {"model": "large"}, "price": 1}]}');
\o
SELECT d AS dimensions, credits, breakdown->'match' AS matched
FROM (VALUES ('{"model": "large", "size": "4k", "other": 1}'::jsonb), ('{"model": "large"}'), ('{"draft": true}'),
             ('{"steps": "50"}'), ('{"steps": 50.0}'), ('{"steps": 50, "fast": true}'), ('{"model": "small"}'), ('{}')) AS v (d),
     credyt.quote('match', 1, d);
SELECT * FROM credyt.quote('match', 1, '{"model": "large", "draft": true}');
\echo :SQLSTATE
\set VERBOSITY terse
SELECT * FROM credyt.quote('no_default', 1, '{"model": "small"}');
SELECT * FROM credyt.quote('nothing');

-- From when: now or later, never in the past; of two for one moment the one set last
SELECT version, effective_at FROM credyt.set_price('plain', '5', effective_at => '2026-02-01 00:00+00');
SELECT version, effective_at FROM credyt.set_price('plain', '6', effective_at => '2026-02-01 00:00+00');
SELECT version, effective_at FROM credyt.set_price('plain', '7', effective_at => '2026-01-15 00:00+00');
SELECT * FROM credyt.set_price('plain', '7', effective_at => '2025-12-31 23:59:59.999999+00');
SELECT * FROM credyt.set_price('plain', '7', effective_at => 'infinity');
UPDATE credyt.clock SET now = '2026-01-14 23:59:59.999999+00';
SELECT credits, price_version FROM credyt.quote('plain');
UPDATE credyt.clock SET now = '2026-01-15 00:00+00';
SELECT credits, price_version FROM credyt.quote('plain');
UPDATE credyt.clock SET now = '2026-02-01 00:00+00';
SELECT credits, price_version FROM credyt.quote('plain');

-- A customer's own price, and its withdrawal
SELECT version, customer, price FROM credyt.set_price('plain', '3', customer => 'acme');
SELECT credits, price_version FROM credyt.quote('plain', customer => 'acme');
SELECT credits, price_version FROM credyt.quote('plain', customer => 'bert');
SELECT version, price FROM credyt.set_price('plain', 'null', customer => 'acme');
SELECT credits, price_version FROM credyt.quote('plain', customer => 'acme');
SELECT version, price FROM credyt.set_price('plain', 'null');
SELECT * FROM credyt.quote('plain');
SELECT * FROM credyt.price_book WHERE action = 'plain' ORDER BY version;

-- What is no price
SELECT * FROM credyt.set_price('bad', NULL);
SELECT * FROM credyt.set_price('', '1');
SELECT * FROM credyt.set_price('bad', 'true');
SELECT * FROM credyt.set_price('bad', '[]');
SELECT * FROM credyt.set_price('bad', '{}');
SELECT * FROM credyt.set_price('bad', '-1');
SELECT * FROM credyt.set_price('bad', '"NaN"');
SELECT * FROM credyt.set_price('bad', '"ten"');
SELECT * FROM credyt.set_price('bad', '"0.12345678901234567890123456789"');
SELECT * FROM credyt.set_price('bad', '{"per_units": 1}');
SELECT * FROM credyt.set_price('bad', '{"per_unit": 1, "package": {"size": 1, "credits": 1}}');
SELECT * FROM credyt.set_price('bad', '{"per_unit": 1, "minimum": 3, "maximum": 2}');
SELECT * FROM credyt.set_price('bad', '{"per_unit": 1, "minimum": "1000000000000000"}');
SELECT * FROM credyt.set_price('bad', '{"package": {"size": 0, "credits": 1}}');
SELECT * FROM credyt.set_price('bad', '{"package": {"size": 1}}');
SELECT * FROM credyt.set_price('bad', '{"package": {"size": 1, "credits": 1, "bonus": 1}}');
SELECT * FROM credyt.set_price('bad', '{"graduated": []}');
SELECT * FROM credyt.set_price('bad', '{"graduated": [{"up_to": 10, "per_unit": 1}]}');
SELECT * FROM credyt.set_price('bad', '{"volume": [{"per_unit": 1}, {"per_unit": 2}]}');
SELECT * FROM credyt.set_price('bad', '{"volume": [{"up_to": 10, "per_unit": 1}, {"up_to": 10, "per_unit": 2}, {"per_unit": 1}]}');
SELECT * FROM credyt.set_price('bad', '{"meters": {}}');
SELECT * FROM credyt.set_price('bad', '{"meters": {"tokens": 1}}');
SELECT * FROM credyt.set_price('bad', '{"meters": {"tokens": {"per": 0, "credits": 1}}}');
SELECT * FROM credyt.set_price('bad', '{"cost_plus": {"markup": "0.4"}}');
SELECT * FROM credyt.set_price('bad', '{"cost_plus": {"markup": -1, "credit_value": 1}}');
SELECT * FROM credyt.set_price('bad', '{"cost_plus": {"markup": 0, "credit_value": 0}}');
SELECT * FROM credyt.set_price('bad', '{"match": [{"when": {"a": 1}}]}');
SELECT * FROM credyt.set_price('bad', '{"match": [{"when": {"a": [1]}, "price": 1}]}');
SELECT * FROM credyt.set_price('bad', '{"match": [{"price": 1}, {"price": 2}]}');
SELECT * FROM credyt.set_price('bad', '{"match": [{"when": {"a": 1}, "price": 1}, {"when": {"a": "1"}, "price": 2}, {"when": {"a": 1.0}, "price": 3}]}');
SELECT * FROM credyt.set_price('bad', '{"match": [{"price": {"graduated": [{"up_to": -1, "per_unit": 1}, {"per_unit": 1}]}}]}');
SELECT count(*) FROM credyt.prices WHERE action = 'bad';
