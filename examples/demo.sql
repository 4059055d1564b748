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

-- A shorter one is rendering right now.
SELECT approved, credits, available
FROM credyt.authorize('cleo', 'video.second', 30, idempotency_key => 'clip-3');


-- 4. A CODING ASSISTANT includes 200 credits a month, then sells top-ups.
-- A credit is worth $0.01, and a request costs what the model cost us and 60 % more.

SELECT action, price
FROM credyt.set_price('code.request', '{"cost_plus": {"markup": "0.60", "credit_value": "0.01"}}');

SELECT customer, kind, credits, paid
FROM credyt.grant_credits('dora', 200, kind => 'included', paid => 2, expires_at => '2026-03-01');
SELECT customer, kind, credits, paid
FROM credyt.grant_credits('dora', 500, paid => 5);

-- A request whose tokens cost us $0.0425.
SELECT cost, credits, revenue, margin, available
FROM credyt.debit_credits('dora', 'code.request', cost => 0.0425);

-- A long session: what is included burns first, because it ends first, then the top-up.
SELECT cost, credits, revenue, margin, available
FROM credyt.debit_credits('dora', 'code.request', cost => 1.85);


-- WHERE THINGS STAND. What does everybody have?
SELECT customer, settled, held, available, next_expiry::date
FROM credyt.wallet_balances ORDER BY customer;

-- Which credits burn next?
SELECT customer, position, kind, remaining, held, applies_to, expires_at::date
FROM credyt.spend_order ORDER BY customer, position;

-- What does each action earn, and what does it cost us? A refunded action earns nothing, but its vendor was paid.
SELECT action, debits, credits, revenue, cost, margin, round(margin_ratio, 2) AS margin_ratio
FROM credyt.margin_by_action ORDER BY action;

-- What was paid for credits that are not spent yet, and for those that ended unspent?
SELECT kind, credits, revenue FROM credyt.deferred_revenue ORDER BY kind;
SELECT kind, credits, revenue FROM credyt.breakage ORDER BY kind;

-- Does every credit and every cent add up? No rows: yes.
SELECT * FROM credyt.verify();
