SELECT asset, scale, currency FROM credyt.create_asset('credits');
SELECT action, price FROM credyt.set_price('image.upscale', '4');
SELECT kind, credits, paid, deferred
FROM credyt.grant_credits('acme', 100, paid => 20, idempotency_key => 'payment-1');
SELECT credits, revenue, cost, margin, available
FROM credyt.debit_credits('acme', 'image.upscale', 3, cost => 0.30, idempotency_key => 'job-1');
SELECT action, debits, credits, revenue, cost, margin FROM credyt.margin_by_action;
