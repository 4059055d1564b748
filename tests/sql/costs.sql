-- Vendor costs: with the debit, from its usage, and recorded later.
\set VERBOSITY default
SELECT asset FROM credyt.create_asset('credits');
SELECT vendor, model FROM credyt.set_vendor_rate('acme', 'h100', '{"gpu_second": "0.002", "request": "0.01"}');
SELECT vendor, model FROM credyt.set_vendor_rate('acme', 'a10', '{"gpu_second": "0.0005"}');
SELECT vendor, model FROM credyt.set_vendor_rate('euro', 'gpu', '{"gpu_second": "0.0011", "currency": "EUR"}');
SELECT action FROM credyt.set_price('clip', '{"cost_plus": {"markup": "0.40", "credit_value": "0.01"}}');
SELECT action FROM credyt.set_price('image', '2');
SELECT action FROM credyt.set_price('metered', '{"meters": {"gpu_second": {"per": 10, "credits": "1"}}}');
SELECT kind FROM credyt.grant_credits('ann', 1000, paid => 100);

-- A price that starts from the cost works from usage everywhere
SELECT credits, breakdown FROM credyt.quote('clip', usage => '{"vendor": "acme", "model": "h100", "body": {"gpu_second": 20}}');
SELECT credits, cost, revenue, margin FROM credyt.debit_credits('ann', 'clip', usage => '{"vendor": "acme", "model": "h100", "body": {"gpu_second": 20}}');
SELECT credits, cost FROM credyt.debit_credits('ann', 'clip', usage => '[{"vendor": "acme", "model": "h100", "body": {"gpu_second": 20}}, {"vendor": "acme", "model": "a10", "body": {"gpu_second": 4}}]');
SELECT credits FROM credyt.debit_credits('ann', 'metered', usage => '[{"vendor": "acme", "model": "h100", "body": {"gpu_second": 20}}, {"vendor": "acme", "model": "a10", "body": {"gpu_second": 5}}]');
SELECT id AS hold, credits FROM credyt.authorize('ann', 'clip', usage => '{"vendor": "acme", "model": "h100", "body": {"gpu_second": 100}}') \gset
\echo :credits
SELECT credits, cost FROM credyt.capture('ann', :'hold', usage => '{"vendor": "acme", "model": "h100", "body": {"gpu_second": 20}}', keep_open => true);
SELECT credits, cost FROM credyt.capture('ann', :'hold', usage => '[{"vendor": "acme", "model": "h100", "body": {"gpu_second": 50}}, {"vendor": "acme", "model": "a10", "body": {"gpu_second": 4}}]');
SELECT quantity, credits, cost, costs FROM credyt.ledger WHERE authorization_id = :'hold' ORDER BY seq;

-- A cost that is given beats what can be computed, and is shared by it
SELECT cost FROM credyt.debit_credits('ann', 'image', cost => 0.09, usage => '[{"vendor": "acme", "model": "h100", "body": {"gpu_second": 10}}, {"vendor": "acme", "model": "a10", "body": {"gpu_second": 20}}]');
SELECT costs FROM credyt.ledger ORDER BY seq DESC LIMIT 1;

-- What is not known is not zero
SELECT credits, cost, margin FROM credyt.debit_credits('ann', 'image', usage => '{"vendor": "acme", "model": "b200", "body": {"gpu_second": 10}}', idempotency_key => 'unknown');
SELECT credits, cost FROM credyt.debit_credits('ann', 'image', usage => '{"vendor": "euro", "model": "gpu", "body": {"gpu_second": 10}}', idempotency_key => 'foreign');
SELECT * FROM credyt.debit_credits('ann', 'clip', usage => '{"vendor": "acme", "model": "b200", "body": {"gpu_second": 10}}');
SELECT vendor, model, usage, reason FROM credyt.uncosted_usage ORDER BY occurred_at;
-- ... until its rate is known and counts from the beginning
SELECT vendor, model, cost_before, cost_after FROM credyt.recost('acme', dry_run => true);
SELECT vendor, model FROM credyt.set_vendor_rate('acme', 'b200', '{"gpu_second": "0.004"}');
SELECT customer, vendor, model, cost_before, cost_after FROM credyt.recost('acme', dry_run => true);
SELECT customer, vendor, model, cost_before, cost_after FROM credyt.recost('acme');
SELECT customer, vendor, model, cost_before, cost_after FROM credyt.recost('acme');
SELECT vendor, model, usage, reason FROM credyt.uncosted_usage ORDER BY occurred_at;

-- Recorded later: the strongest source counts, once
SELECT id AS debit FROM credyt.debit_credits('ann', 'image', cost => 0.10, idempotency_key => 'late') \gset
SELECT vendor, model, source, cost, replayed FROM credyt.record_cost('ann', 'acme', 'h100', usage => '{"gpu_second": 30}', debit_id => :'debit');
SELECT source, cost, replayed FROM credyt.record_cost('ann', 'acme', 'h100', cost => 0.07, debit_id => :'debit', vendor_request_id => 'req-1', source => 'reported');
SELECT source, cost, replayed FROM credyt.record_cost('ann', 'acme', 'h100', cost => 0.08, debit_id => :'debit', vendor_request_id => 'req-1', source => 'reported');
SELECT source, cost, debit_id = :'debit' AS found FROM credyt.record_cost('ann', 'acme', 'h100', cost => 0.0701, vendor_request_id => 'req-1', source => 'invoiced');
SELECT nth, debits, costed, lines FROM credyt.cost_postings WHERE seq >= (SELECT max(seq) - 2 FROM credyt.vendor_costs) ORDER BY seq, nth;
-- A request that the vendor has an id for is counted with one debit
SELECT cost FROM credyt.debit_credits('ann', 'image', usage => '{"vendor": "acme", "model": "h100", "body": {"gpu_second": 10}, "vendor_request_id": "req-2"}', idempotency_key => 'a');
SELECT cost FROM credyt.debit_credits('ann', 'image', usage => '{"vendor": "acme", "model": "h100", "body": {"gpu_second": 10}, "vendor_request_id": "req-2"}', idempotency_key => 'b');
SELECT cost, replayed FROM credyt.debit_credits('ann', 'image', usage => '{"vendor": "acme", "model": "h100", "body": {"gpu_second": 10}, "vendor_request_id": "req-2"}', idempotency_key => 'a');
-- For an authorization: the first capture takes it over
SELECT id AS hold FROM credyt.authorize('ann', 'image', 3) \gset
SELECT cost, debit_id IS NULL AS waits FROM credyt.record_cost('ann', 'acme', 'a10', cost => 0.30, authorization_id => :'hold');
SELECT cost FROM credyt.capture('ann', :'hold', 2, cost => 0.20);
SELECT cost, debit_id IS NULL AS waits FROM credyt.record_cost('ann', 'acme', 'a10', cost => 0.31, authorization_id => :'hold', source => 'invoiced');
-- For a customer alone, also one who never had credits
SELECT cost, asset FROM credyt.record_cost('bob', 'acme', 'a10', usage => '{"gpu_second": 1000}');
SELECT settled, available FROM credyt.balance('bob');
-- The revenue of a refund is shared as the debit's is
SELECT credits, revenue FROM credyt.refund('ann', :'debit', 1);
SELECT costs FROM credyt.ledger WHERE kind = 'refund';

-- A closed period reads as before; what is recorded late counts in the first open one
SELECT through AS closed FROM credyt.close_period(now()) \gset
CREATE TEMP TABLE before AS SELECT * FROM credyt.margin('{day, action, customer, vendor, model, kind}', until => :'closed');
SELECT accounted_at >= :'closed' AS late FROM credyt.record_cost('ann', 'acme', 'h100', cost => 0.09, debit_id => :'debit', vendor_request_id => 'req-1b', source => 'invoiced');
SELECT count(*), bool_and(accounted_at >= :'closed') AS late FROM credyt.cost_postings WHERE seq = (SELECT max(seq) FROM credyt.vendor_costs);
SELECT count(*) AS changed FROM (TABLE before EXCEPT SELECT * FROM credyt.margin('{day, action, customer, vendor, model, kind}', until => :'closed')) x;
SELECT vendor, model, debits, quantity, credits, revenue, cost FROM credyt.margin('{vendor, model}', since => :'closed') ORDER BY vendor, model;

-- Errors
SELECT * FROM credyt.record_cost('ann', 'acme');
\echo :SQLSTATE
SELECT * FROM credyt.record_cost('ann', NULL, cost => 1);
\echo :SQLSTATE
SELECT * FROM credyt.record_cost('ann', 'acme', cost => -1);
\echo :SQLSTATE
SELECT * FROM credyt.record_cost('ann', 'acme', cost => 'NaN');
\echo :SQLSTATE
SELECT * FROM credyt.record_cost('ann', 'acme', cost => 1e15);
\echo :SQLSTATE
SELECT * FROM credyt.record_cost('ann', 'acme', cost => -0.0000000001);
\echo :SQLSTATE
SELECT * FROM credyt.record_cost('ann', 'acme', cost => 1, source => 'guessed');
\echo :SQLSTATE
SELECT * FROM credyt.record_cost('ann', 'acme', usage => '[1]');
\echo :SQLSTATE
SELECT cost, reason FROM credyt.record_cost('ann', 'acme', 'h100', usage => '{"gpu_second": -1}');
\echo :SQLSTATE
SELECT * FROM credyt.record_cost('ann', 'acme', cost => 1, debit_id => '00000000-0000-0000-0000-000000000000');
\echo :SQLSTATE
SELECT * FROM credyt.record_cost('ann', 'acme', cost => 1, authorization_id => '00000000-0000-0000-0000-000000000000');
\echo :SQLSTATE
\set VERBOSITY sqlstate
SELECT * FROM credyt.record_cost('bob', 'acme', cost => 1, debit_id => :'debit');
\set VERBOSITY default
\set VERBOSITY terse
SELECT * FROM credyt.record_cost('ann', 'acme', cost => 1, debit_id => :'debit', authorization_id => :'hold');
\set VERBOSITY default
\echo :SQLSTATE
SELECT * FROM credyt.record_cost('ann', 'acme', cost => 1, occurred_at => 'infinity');
\echo :SQLSTATE
SELECT * FROM credyt.debit_credits('ann', 'image', usage => '{"vendor": "acme", "body": {"gpu_second": 1}, "flavour": "x"}');
\echo :SQLSTATE
SELECT * FROM credyt.debit_credits('ann', 'image', usage => '{"vendor": "acme", "model": 5, "body": {}}');
\echo :SQLSTATE
SELECT * FROM credyt.debit_credits('ann', 'clip', usage => '{"vendor": "acme", "model": "h100", "body": {"gpu_second": "many"}}');
\echo :SQLSTATE
SELECT * FROM credyt.recost(NULL);
\echo :SQLSTATE
SELECT * FROM credyt.verify();
