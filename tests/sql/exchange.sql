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
