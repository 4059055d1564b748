-- Tiers over a month: "over": "month" beside graduated, volume and package.
SET timezone = 'UTC';
SELECT asset FROM credyt.create_asset('credits', timezone => 'America/New_York');
INSERT INTO credyt.clock VALUES ('2026-01-10 12:00+00');
SELECT version FROM credyt.set_price('image', '{"graduated": [{"up_to": 10, "per_unit": 3}, {"up_to": 20, "per_unit": 2}, {"per_unit": 1}], "over": "month"}');
SELECT version FROM credyt.set_price('page', '{"volume": [{"up_to": 10, "per_unit": 3}, {"per_unit": 1}], "over": "month"}');
SELECT version FROM credyt.set_price('mail', '{"package": {"size": 100, "credits": 5}, "over": "month"}');
SELECT credits FROM credyt.grant_credits('ann', 100000);
CREATE VIEW months AS
SELECT m->>'action' AS action, m->>'since' AS since, m->>'used' AS used
FROM credyt.wallets w, jsonb_array_elements(w.state::jsonb->'month_uses') AS m WHERE w.customer = 'ann';

-- Each slice of the month at its own rate; the count is in the wallet's state
SELECT credits FROM credyt.debit_credits('ann', 'image', 9);
SELECT credits FROM credyt.debit_credits('ann', 'image', 2);
SELECT credits FROM credyt.debit_credits('ann', 'image', 10, idempotency_key => 'k');
SELECT credits, replayed FROM credyt.debit_credits('ann', 'image', 10, idempotency_key => 'k');
SELECT credits FROM credyt.debit_credits('ann', 'image', 1);
SELECT * FROM months ORDER BY action;
-- Volume: this call at the rate that the count including it reaches
SELECT credits FROM credyt.debit_credits('ann', 'page', 9);
SELECT credits FROM credyt.debit_credits('ann', 'page', 2);
-- Package: those that are newly started
SELECT credits FROM credyt.debit_credits('ann', 'mail', 99);
SELECT credits FROM credyt.debit_credits('ann', 'mail', 1);
SELECT credits FROM credyt.debit_credits('ann', 'mail', 101);
-- quote counts for the customer, and as the first call of a month without one
SELECT c.customer, q.credits FROM unnest('{ann,bob,NULL}'::text[]) AS c (customer), credyt.quote('image', 1, customer => c.customer) AS q;
SELECT jsonb_pretty(breakdown) FROM credyt.quote('image', 1, customer => 'ann');
SELECT credits FROM credyt.quote('image', 1, customer => 'ann', at => '2026-02-01 05:00+00');
SELECT amount, credits FROM credyt.affordable('ann', 'image');
-- Credits that are given count as used, too; a refund does not count back; a debit that is refused does not count
SELECT credits FROM credyt.debit_credits('ann', 'mail', 99, credits => 0);
SELECT credits FROM credyt.quote('mail', 1, customer => 'ann');
SELECT r.credits FROM credyt.ledger l, credyt.refund('ann', l.id) AS r WHERE l.idempotency_key = 'k';
SELECT credits FROM credyt.quote('image', 1, customer => 'ann');
SELECT credits FROM credyt.debit_credits('ann', 'image', 1000000);
SELECT * FROM months ORDER BY action;

-- The month ends in the asset's time zone: 2026-02-01 05:00 in UTC
UPDATE credyt.clock SET now = '2026-02-01 04:59+00';
SELECT credits FROM credyt.debit_credits('ann', 'image');
UPDATE credyt.clock SET now = '2026-02-01 05:00+00';
SELECT credits FROM credyt.debit_credits('ann', 'image', 5);
SELECT * FROM months ORDER BY action;
-- Late usage counts in the month it happened in, which is summed from the ledger
SELECT credits FROM credyt.debit_credits('ann', 'image', 3, occurred_at => '2026-02-01 04:59+00');
SELECT credits FROM credyt.debit_credits('ann', 'image', 11, occurred_at => '2025-12-24');
SELECT credits FROM credyt.debit_credits('ann', 'image', 11, occurred_at => '2025-12-25');
SELECT credits FROM credyt.quote('image', 1, customer => 'ann', at => '2025-12-24');
-- and does not count in this one: five are used, so six more reach the second tier
SELECT credits FROM credyt.debit_credits('ann', 'image', 6);
SELECT * FROM credyt.verify();

-- Holds: an authorization prices from the count of its time, its captures at the tiers that it was authorized at
SELECT id AS hold, credits FROM credyt.authorize('ann', 'image', 10, ttl_seconds => 100000000) \gset
SELECT :'credits' AS held;
SELECT credits FROM credyt.debit_credits('ann', 'image', 100);
SELECT credits FROM credyt.capture('ann', :'hold', 4, keep_open => true);
SELECT credits FROM credyt.capture('ann', :'hold', 12, keep_open => true);
SELECT * FROM months WHERE action = 'image';
UPDATE credyt.clock SET now = '2026-03-02 12:00+00';
-- Captured in March: at February's tiers, counted in March
SELECT credits FROM credyt.capture('ann', :'hold', 15);
SELECT credits FROM credyt.debit_credits('ann', 'image', 8);
SELECT * FROM months WHERE action = 'image';
-- A hold whose credits are given is captured at the count of its time, too
SELECT id AS hold FROM credyt.authorize('ann', 'image', 1, credits => 50) \gset
SELECT credits FROM credyt.debit_credits('ann', 'image', 5);
SELECT credits FROM credyt.capture('ann', :'hold', 2);
-- As much as can be paid
SELECT credits FROM credyt.grant_credits('cid', 40);
SELECT credits FROM credyt.debit_credits('cid', 'image', 8);
SELECT amount, credits, bound FROM credyt.affordable('cid', 'image');
SELECT granted, credits FROM credyt.authorize('cid', 'image', 100, vary => 'quantity');

-- A batch counts what it has booked itself, in this month and in late ones
SELECT credits FROM credyt.grant_credits('dee', 1000);
SELECT quantity, credits FROM credyt.debit_many(
    '[{"customer": "dee", "action": "image", "quantity": 8}, {"customer": "dee", "action": "image", "quantity": 4},
      {"customer": "dee", "action": "image", "quantity": 9, "occurred_at": "2026-02-10"},
      {"customer": "dee", "action": "image", "quantity": 2, "occurred_at": "2026-02-11"},
      {"customer": "dee", "action": "image", "quantity": 9, "occurred_at": "2026-01-10"},
      {"customer": "dee", "action": "image", "quantity": 2, "occurred_at": "2026-02-12"},
      {"customer": "dee", "action": "image", "quantity": 9, "idempotency_key": "n"},
      {"customer": "dee", "action": "image", "quantity": 1}]');
SELECT credits FROM credyt.quote('image', 10, customer => 'dee', at => '2026-02-10');

-- All cases of a match count together; prices that change go on with the count
SELECT version FROM credyt.set_price('video', '{"match": [{"when": {"size": "4k"}, "price": {"graduated": [{"up_to": 10, "per_unit": 6}, {"per_unit": 4}], "over": "month"}}, {"price": 2}]}');
SELECT credits FROM credyt.debit_credits('ann', 'video', 8);
SELECT credits FROM credyt.debit_credits('ann', 'video', 4, '{"size": "4k"}');
SELECT version FROM credyt.set_price('video', '1');
SELECT credits FROM credyt.debit_credits('ann', 'video', 100);
SELECT version FROM credyt.set_price('video', '{"volume": [{"up_to": 111, "per_unit": 6}, {"per_unit": 4}], "over": "month"}');
SELECT credits FROM credyt.debit_credits('ann', 'video', 1);
-- An action that is counted from mid-month on begins with what the ledger has
SELECT version FROM credyt.set_price('song', '1');
SELECT credits FROM credyt.debit_credits('ann', 'song', 7);
SELECT version FROM credyt.set_price('song', '{"graduated": [{"up_to": 7, "per_unit": 2}, {"per_unit": 1}], "over": "month"}');
SELECT credits FROM credyt.debit_credits('ann', 'song', 1);

-- What the debits since then would have cost: those before count, in the same month
SELECT debits, credits_before, credits_after FROM credyt.simulate_price('image', '{"graduated": [{"up_to": 8, "per_unit": 10}, {"per_unit": 1}], "over": "month"}', since => '2026-03-01 05:00+00');

-- At most 100 actions in a month, and less than 1e15
SELECT credits FROM credyt.grant_credits('eve', 1000);
SELECT count(credyt.set_price('a.' || n, '{"volume": [{"per_unit": 1}], "over": "month"}')) FROM generate_series(1, 101) AS n;
SELECT count(credyt.debit_credits('eve', 'a.' || n)) FROM generate_series(1, 100) AS n;
SELECT credits FROM credyt.debit_credits('eve', 'a.101');
SELECT credits FROM credyt.debit_credits('eve', 'a.100', 1e15, credits => 0);
UPDATE credyt.clock SET now = '2026-04-02 12:00+00';
SELECT credits FROM credyt.debit_credits('eve', 'a.101');
SELECT credits FROM credyt.debit_credits('eve', 'a.100', 0);

-- What is no rule
SELECT credyt.set_price('bad', '{"graduated": [{"per_unit": 1}], "over": "day"}');
SELECT credyt.set_price('bad', '{"per_unit": 1, "over": "month"}');
SELECT credyt.set_price('bad', '{"match": [{"price": 1}], "over": "month"}');
-- The state survives its text form
SELECT count(*) FROM credyt.wallets w WHERE w.state::text::credyt.wallet::text = w.state::text;
SELECT * FROM credyt.verify();
