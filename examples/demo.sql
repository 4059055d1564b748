\pset null '-'
\pset footer off
-- Four AI products that sell credits, in one database.
-- Their customers buy credits, spend them, and we see what each action earns.

CREATE EXTENSION credyt_pg;

-- The unit: credits with two decimals, money in US dollars.
SELECT asset, scale, rounding, currency
FROM credyt.create_asset('credits');

-- So that a month can pass while you watch, this demo tells the time itself.
INSERT INTO credyt.clock VALUES ('2026-01-01 09:00+00');


-- 1. AN IMAGE TOOL gives 100 credits a month.
-- A standard generation costs 1 credit, an upscale 4.

SELECT action, price FROM credyt.set_price('image.standard', '1');
SELECT action, price FROM credyt.set_price('image.upscale', '4');

-- Ada pays $10 for January. What she does not use ends with the month.
SELECT customer, kind, credits, paid, expires_at::date
FROM credyt.grant_credits('ada', 100, kind => 'included', paid => 10, expires_at => '2026-02-01');

-- She generates 12 images, for which our vendor charges us $0.24, and upscales 20 of her old ones for $0.60.
SELECT action, credits, revenue, cost, margin, available
FROM credyt.debit_credits('ada', 'image.standard', 12, cost => 0.24);
SELECT action, credits, revenue, cost, margin, available
FROM credyt.debit_credits('ada', 'image.upscale', 20, cost => 0.60);

-- She has 8 credits left: three more upscales are refused as a whole, and the error says what would help.
\set ON_ERROR_STOP off
SELECT * FROM credyt.debit_credits('ada', 'image.upscale', 3);
\set ON_ERROR_STOP on

-- February comes. No job runs; the 8 credits have simply ended.
UPDATE credyt.clock SET now = '2026-02-01 09:00+00';
SELECT settled, available FROM credyt.balance('ada');

-- And she pays for February.
SELECT customer, kind, credits, paid, expires_at::date
FROM credyt.grant_credits('ada', 100, kind => 'included', paid => 10, expires_at => '2026-03-01');


-- 2. A WRITING APP sells credit packs, spent per document. Longer documents cost more:
-- 0.01 credits a word, from word 1,001 on 0.015, and no document costs less than 2 credits.

SELECT action, price
FROM credyt.set_price('write.document',
     '{"graduated": [{"up_to": 1000, "per_unit": "0.01"}, {"per_unit": "0.015"}], "minimum": "2"}');

SELECT words, credits
FROM (VALUES (50), (600), (3000)) AS document (words),
     credyt.quote('write.document', words);

-- Ben gets 10 credits to try it, and buys a pack of 200 for $20.
SELECT customer, kind, credits, paid
FROM credyt.grant_credits('ben', 10, kind => 'promotional', expires_at => '2026-03-01');
SELECT customer, kind, credits, paid
FROM credyt.grant_credits('ben', 200, paid => 20, idempotency_key => 'payment-5001');

-- A document of 3,000 words: the gift burns first and earns nothing, the pack pays the rest.
SELECT credits, revenue, cost, available
FROM credyt.debit_credits('ben', 'write.document', 3000, cost => 0.45, idempotency_key => 'document-17');

-- The network failed and the application asks again: the same answer, and nothing is charged twice.
SELECT credits, revenue, available, replayed
FROM credyt.debit_credits('ben', 'write.document', 3000, cost => 0.45, idempotency_key => 'document-17');

-- The next one came out garbled. Its credits go back where they came from.
SELECT credits, available
FROM credyt.debit_credits('ben', 'write.document', 600, cost => 0.09, idempotency_key => 'document-18');
SELECT kind, credits, revenue, available
FROM credyt.refund('ben', (SELECT id FROM credyt.ledger WHERE customer = 'ben' AND idempotency_key = 'document-18'),
                   reason => 'garbled');

-- An apology: 5 more, for writing only.
SELECT customer, kind, credits, applies_to
FROM credyt.grant_credits('ben', 5, kind => 'promotional', applies_to => '{write.*}');


-- 3. A VIDEO PRODUCT charges 2 credits per second of footage.
-- Nobody knows how long a clip will be before it is there: hold first, charge what it was.

SELECT action, price FROM credyt.set_price('video.second', '2');
SELECT customer, kind, credits, paid
FROM credyt.grant_credits('cleo', 300, paid => 60);

-- Up to 60 seconds are asked for: 120 credits are held, for a quarter of an hour unless we say otherwise.
SELECT approved, credits, available, status, expires_at
FROM credyt.authorize('cleo', 'video.second', 60, idempotency_key => 'clip-1');

-- The clip has 42 seconds, and cost us $8.40. 84 credits are charged, the other 36 are free again.
-- (An application keeps the id that authorize answered.)
SELECT quantity, credits, revenue, cost, margin, available, held
FROM credyt.capture('cleo', (SELECT id FROM credyt.open_authorizations WHERE customer = 'cleo'),
                    quantity => 42, cost => 8.40);

-- The next one fails at the vendor, and is released.
SELECT approved, credits, available
FROM credyt.authorize('cleo', 'video.second', 100, idempotency_key => 'clip-2');
SELECT status, reason, available
FROM credyt.release('cleo', (SELECT id FROM credyt.open_authorizations WHERE customer = 'cleo'),
                    reason => 'vendor timeout');

-- A hold that the wallet cannot cover is an answer, not an error: nothing is rolled back.
SELECT approved, reason, credits, available
FROM credyt.authorize('cleo', 'video.second', 120);


-- 4. A CODING ASSISTANT includes 200 credits a month, then sells top-ups.
-- A credit is worth $0.01, and a request costs what the model cost us and 60 % more.

SELECT action, price
FROM credyt.set_price('code.request', '{"cost_plus": {"markup": "0.60", "credit_value": "0.01"}}');

SELECT customer, kind, credits, paid
FROM credyt.grant_credits('dora', 200, kind => 'included', paid => 2, expires_at => '2026-03-01');
SELECT customer, kind, credits, paid
FROM credyt.grant_credits('dora', 500, paid => 5);

-- What the models charge us for one token. (import_vendor_rates takes whole price lists.)
SELECT vendor, model
FROM credyt.set_vendor_rate('openai', 'gpt-5', '{"input_tokens": "0.00000125", "output_tokens": "0.00001"}') UNION ALL
SELECT vendor, model
FROM credyt.set_vendor_rate('anthropic', 'claude-opus-4', '{"input_tokens": "0.000015", "output_tokens": "0.000075"}');

-- A request: the vendor's own usage goes in, and cost and price follow from it.
SELECT cost, credits, revenue, margin, available
FROM credyt.debit_credits('dora', 'code.request', usage =>
     '{"vendor": "openai", "model": "gpt-5", "body": {"input_tokens": 18000, "output_tokens": 2000}}');

-- A long session: what is included burns first, because it ends first, then the top-up.
SELECT cost, credits, revenue, margin, available
FROM credyt.debit_credits('dora', 'code.request', usage =>
     '{"vendor": "openai", "model": "gpt-5", "body": {"input_tokens": 1000000, "output_tokens": 60000}}');

-- Explaining a line of code was priced by feel.
SELECT action, price FROM credyt.set_price('code.explain', '0.2');


-- 5. FOUR WEEKS GO BY, and everybody comes back. We also learn what images and footage cost by the piece,
-- but nobody tells us what the model charges that writes Ben's documents from the 18th on.

SELECT vendor, model FROM credyt.set_vendor_rate('stability', 'core', '{"image": "0.02"}') UNION ALL
SELECT vendor, model FROM credyt.set_vendor_rate('runway', 'gen-4', '{"second": "0.20"}');

DO $$
DECLARE
    used text := '{"vendor": "%s", "model": "%s", "body": {"input_tokens": %s, "output_tokens": %s}}';
    today date;
    n int;
BEGIN
    FOR day IN 2..28 LOOP
        today := make_date(2026, 2, day);
        UPDATE credyt.clock SET now = today + time '10:00';
        n := 1 + day * 7 % 5;
        PERFORM credyt.debit_credits('ada', 'image.standard', n, usage =>
            format('{"vendor": "stability", "model": "core", "body": {"image": %s}}', n)::jsonb);
        PERFORM credyt.debit_credits('dora', 'code.request', usage =>
            format(used, 'openai', 'gpt-5', 6000 * n, 900 * n)::jsonb);
        PERFORM credyt.debit_credits('dora', 'code.explain', 4 * n, usage =>
            format(used, 'openai', 'gpt-5', 3000 * n, 800 * n)::jsonb);
        IF day % 3 = 0 THEN
            PERFORM credyt.debit_credits('ben', 'write.document', 300 * n, usage => CASE WHEN day < 18
                THEN format(used, 'anthropic', 'claude-opus-4', 1000 * n, 400 * n)
                ELSE format(used, 'mistral', 'large', 1000 * n, 400 * n) END::jsonb);
        END IF;
        IF day % 4 = 0 THEN
            PERFORM credyt.debit_credits('cleo', 'video.second', 4 * n, usage =>
                format('{"vendor": "runway", "model": "gen-4", "body": {"second": %s}}', 4 * n)::jsonb);
        END IF;
        IF day % 7 = 0 THEN
            PERFORM credyt.grant_credits('ben', 5, 'promotional', expires_at => today + 16);
            PERFORM credyt.grant_credits('cleo', 75, paid => 15, expires_at => today + 30);
            PERFORM credyt.grant_credits('dora', 100, paid => 1, expires_at => today + 45);
        END IF;
    END LOOP;
END $$;

-- Two clips and a request are in the making right now.
SELECT customer, action, approved, credits, available
FROM credyt.authorize('cleo', 'video.second', 30) UNION ALL
SELECT customer, action, approved, credits, available
FROM credyt.authorize('cleo', 'video.second', 12, ttl_seconds => 1800) UNION ALL
SELECT customer, action, approved, credits, available
FROM credyt.authorize('dora', 'code.request', credits => 25);


-- WHERE THINGS STAND. What does everybody have?
SELECT customer, settled, held, available, next_expiry::date
FROM credyt.wallet_balances ORDER BY customer;

-- Which credits burn next?
SELECT customer, position, kind, remaining, held, applies_to, expires_at::date
FROM credyt.spend_order ORDER BY customer, position;

-- What does each action earn, and what does it cost us? A refunded action earns nothing, but its vendor was paid.
SELECT action, debits, credits, revenue, cost, margin, round(margin_ratio, 2) AS margin_ratio
FROM credyt.margin_by_action ORDER BY action;

-- And each model? What nobody told us stays unknown, and coverage says so.
SELECT vendor, model, debits, revenue, cost, margin, cost_coverage
FROM credyt.margin_by_model ORDER BY vendor, model;

-- Which action loses, and what would it have to cost?
SELECT action, revenue, cost, margin, round(break_even_credits, 2) AS break_even_credits FROM credyt.negative_margin;

-- What was paid for credits that are not spent yet, and for those that ended unspent?
SELECT kind, credits, revenue FROM credyt.deferred_revenue ORDER BY kind;
SELECT kind, credits, revenue FROM credyt.breakage ORDER BY kind;

-- Does every credit and every cent add up? No rows: yes.
SELECT * FROM credyt.verify();
