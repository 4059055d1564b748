-- Exchange rates: vendors that bill in another currency than the asset's.
\pset null -
INSERT INTO credyt.clock VALUES ('2026-03-10 12:00+00');
SELECT asset FROM credyt.create_asset('credits');
SELECT kind FROM credyt.grant_credits('ann', 1000, paid => 100);
SELECT action FROM credyt.set_price('render', '1');
SELECT action FROM credyt.set_price('resale', '{"cost_plus": {"markup": "0", "credit_value": "0.01"}}');
SELECT vendor, currency FROM credyt.set_vendor_rate('gpu-cloud', 'a100', '{"gpu_second": "0.10", "currency": "EUR"}');
\set usage '{"vendor": "gpu-cloud", "model": "a100", "vendor_request_id": "r1", "body": {"gpu_second": 3}}'

-- Without an exchange rate the cost is not known, and the charge goes through.
SELECT credits, cost FROM credyt.debit_credits('ann', 'render', usage => :'usage', idempotency_key => 'd1');
SELECT vendor, reason FROM credyt.uncosted_usage;
SELECT credits FROM credyt.debit_credits('ann', 'resale', usage => '{"vendor": "gpu-cloud", "model": "a100", "body": {"gpu_second": 3}}');

-- The first rate of two currencies holds from the beginning, a later one from its moment.
SELECT currency, to_currency, version, rate, effective_at FROM credyt.set_exchange_rate('EUR', 'USD', 1.1);
UPDATE credyt.clock SET now = '2026-03-11 12:00+00';
SELECT version, rate, effective_at FROM credyt.set_exchange_rate('EUR', 'USD', 1.2);
SELECT version, rate, effective_at FROM credyt.set_exchange_rate('EUR', 'USD', 1.3, '2026-04-01Z');
SELECT version, rate, effective_at FROM credyt.set_exchange_rate('USD', 'JPY', '151.237');
SELECT cost, currency FROM credyt.vendor_cost('gpu-cloud', 'a100', '{"gpu_second": 3}');
SELECT credits, cost FROM credyt.debit_credits('ann', 'resale', usage => '{"vendor": "gpu-cloud", "model": "a100", "body": {"gpu_second": 3}}');
SELECT cost FROM credyt.debit_credits('ann', 'render', usage => '{"vendor": "gpu-cloud", "model": "a100", "body": {"gpu_second": 3}}', occurred_at => '2026-03-10Z');
SELECT cost FROM credyt.debit_credits('ann', 'render', usage => '{"vendor": "gpu-cloud", "model": "a100", "body": {"gpu_second": 3}}', cost => 9);
SELECT credits, cost FROM credyt.quote('resale', usage => '{"vendor": "gpu-cloud", "model": "a100", "body": {"gpu_second": 3}}') q, LATERAL (SELECT q.breakdown->>'cost' AS cost) c;
UPDATE credyt.clock SET now = '2026-04-02 12:00+00';
SELECT cost FROM credyt.debit_credits('ann', 'render', usage => '{"vendor": "gpu-cloud", "model": "a100", "body": {"gpu_second": 3}}');
SELECT cost FROM credyt.record_cost('ann', 'gpu-cloud', 'a100', usage => '{"gpu_second": 10}');

-- A rate that comes late serves recost: at the rate of the moment of the usage.
SELECT debit_id IS NOT NULL AS of_a_debit, cost_before, cost_after FROM credyt.recost('gpu-cloud');
SELECT count(*) FROM credyt.uncosted_usage;
SELECT * FROM credyt.recost('gpu-cloud');

-- Which rate each cost was converted at: the corrections, and not what they correct; a cost that was given is not converted.
SELECT debit_id IS NOT NULL AS of_a_debit, cost_id IS NOT NULL AS recorded, vendor, model, occurred_at, currency, currency_cost,
       exchange_rate, to_currency, cost
FROM credyt.converted_costs ORDER BY occurred_at, cost_id IS NOT NULL, cost, debit_id;
SELECT currency, exchange_rate, cost FROM credyt.vendor_costs ORDER BY seq;
SELECT cost, currency, exchange_rate FROM credyt.record_cost('ann', 'gpu-cloud', 'a100', usage => '{"gpu_second": 10}', vendor_request_id => 'q');
SELECT cost, currency, exchange_rate, replayed FROM credyt.record_cost('ann', 'gpu-cloud', 'a100', usage => '{"gpu_second": 10}', vendor_request_id => 'q');
SELECT cost, currency, exchange_rate FROM credyt.record_cost('ann', 'gpu-cloud', 'a100', cost => 1.4, vendor_request_id => 'q', source => 'invoiced');
-- What a debit names is read back from it; what is counted elsewhere is converted there alone.
SELECT cost, currency, exchange_rate, replayed FROM credyt.record_cost('ann', 'gpu-cloud', vendor_request_id => 'r1', cost => 2);
SELECT cost FROM credyt.debit_credits('ann', 'render', usage => :'usage');
-- A rate of the past that is corrected: a request that counts with another debit is not counted again, the reports have the new rate only.
SELECT version FROM credyt.set_exchange_rate('EUR', 'USD', 1.25, '2026-03-11 12:00Z');
SELECT cost_before, cost_after FROM credyt.recost('gpu-cloud');
SELECT exchange_rate, count(*), sum(currency_cost) AS euros, sum(cost) AS dollars FROM credyt.converted_costs GROUP BY 1 ORDER BY 1;
-- A hold that is captured in two steps: each has its part
SELECT id AS held FROM credyt.authorize('ann', 'render', 2) \gset
SELECT cost FROM credyt.capture('ann', :'held', 1, usage => '{"vendor": "gpu-cloud", "model": "a100", "body": {"gpu_second": 1}}', keep_open => true);
SELECT cost FROM credyt.capture('ann', :'held', 2, usage => '{"vendor": "gpu-cloud", "model": "a100", "body": {"gpu_second": 3}}');
SELECT currency_cost, exchange_rate, cost FROM credyt.converted_costs WHERE debit_id IN (SELECT id FROM credyt.ledger WHERE authorization_id = :'held') ORDER BY cost;
SELECT count(*) FROM credyt.recost('gpu-cloud');

-- Only direct pairs, and only that way round.
SELECT vendor FROM credyt.set_vendor_rate('yen', 'm', '{"page": 100, "currency": "JPY"}');
SELECT cost FROM credyt.debit_credits('ann', 'render', usage => '{"vendor": "yen", "model": "m", "body": {"page": 1}}');
SELECT reason FROM credyt.uncosted_usage WHERE vendor = 'yen';

\set VERBOSITY terse
SELECT * FROM credyt.set_exchange_rate('EUR', 'EUR', 1);
SELECT * FROM credyt.set_exchange_rate('eur', 'USD', 1);
SELECT * FROM credyt.set_exchange_rate('EUR', 'US', 1);
SELECT * FROM credyt.set_exchange_rate('EUR', 'USD', 0);
SELECT * FROM credyt.set_exchange_rate('EUR', 'USD', -1);
SELECT * FROM credyt.set_exchange_rate('EUR', 'USD', 'NaN');
SELECT * FROM credyt.set_exchange_rate('EUR', 'USD', NULL);
SELECT * FROM credyt.set_exchange_rate(NULL, 'USD', 1);
SELECT * FROM credyt.set_exchange_rate('EUR', 'USD', 1, 'infinity');
UPDATE credyt.exchange_rates SET rate = 2;
DELETE FROM credyt.exchange_rates;
SELECT * FROM credyt.verify();

-- What is paid in another currency is converted at the rate of the moment it is booked.
SELECT id AS grant_id, paid, deferred FROM credyt.grant_credits('bob', 100, paid => '9.99', currency => 'EUR', idempotency_key => 'g') \gset
SELECT :paid AS paid, :deferred AS deferred;
SELECT currency, currency_paid, exchange_rate, to_currency, paid FROM credyt.converted_payments WHERE customer = 'bob';
-- A retry is the same request at whatever rate; another currency or amount is not.
SELECT version FROM credyt.set_exchange_rate('EUR', 'USD', 1.5);
SELECT id = :'grant_id' AS same, paid, replayed FROM credyt.grant_credits('bob', 100, paid => 9.990, currency => 'EUR', idempotency_key => 'g');
SELECT paid FROM credyt.grant_credits('bob', 100, paid => 9.99, idempotency_key => 'g');
SELECT paid FROM credyt.grant_credits('bob', 100, paid => 9.99, currency => 'GBP', idempotency_key => 'g');
-- The asset's own currency needs no rate; another one without a rate is refused, and nothing is booked.
SELECT paid FROM credyt.grant_credits('bob', 1, paid => 2, currency => 'USD');
SELECT paid FROM credyt.grant_credits('bob', 1, paid => 2, currency => 'CHF', idempotency_key => 'chf');
SELECT paid FROM credyt.grant_credits('bob', 1, paid => 2, currency => 'usd');
SELECT paid FROM credyt.grant_credits('bob', 1, paid => 999999999999999, currency => 'EUR');
SELECT version FROM credyt.set_exchange_rate('CHF', 'USD', '1.13456789012345');
SELECT paid, replayed FROM credyt.grant_credits('bob', 1, paid => 2, currency => 'CHF', idempotency_key => 'chf');
-- grant_many, and the jsonb form
SELECT paid FROM credyt.grant_many('[{"customer": "bob", "credits": 1, "paid": 2, "currency": "EUR"}, {"customer": "bob", "credits": 1, "paid": 2}]');
SELECT paid FROM credyt.grant_credits('{"customer": "bob", "credits": 1, "paid": "0.0000000001", "currency": "EUR"}'::jsonb);
-- Reports are in the asset's currency: bob spends his euros first
SELECT credits, revenue FROM credyt.debit_credits('bob', 'render', 100);
SELECT asset, kind, credits, revenue FROM credyt.deferred_revenue;
SELECT currency, currency_paid, exchange_rate, paid FROM credyt.converted_payments ORDER BY grant_id;
-- What is given back to an ended grant keeps its share in the asset's currency
SELECT credits FROM credyt.grant_credits('eva', 10, paid => 1, currency => 'EUR', expires_at => '2026-05-01Z', idempotency_key => 'e');
SELECT id AS debit FROM credyt.debit_credits('eva', 'render', 10) \gset
UPDATE credyt.clock SET now = '2026-06-02 12:00+00';
SELECT credits, revenue FROM credyt.refund('eva', :'debit', restore_until => '2027-01-01Z');
SELECT credits, paid, origin IS NOT NULL AS reissued FROM credyt.grant_balances WHERE customer = 'eva' ORDER BY id;
SELECT * FROM credyt.verify();
