-- Margin by every dimension, before and after the rollups are kept; suggested and simulated prices.
\o /dev/null
INSERT INTO credyt.clock VALUES ('2026-03-28 10:00+00');
SELECT credyt.create_asset('credits', timezone => 'Europe/Berlin'), credyt.create_asset('tokens', currency => 'EUR'), credyt.create_asset('empty');
SELECT credyt.set_price('image', '1'), credyt.set_price('video', '3'), credyt.set_price('image', '1', 'tokens');
SELECT credyt.grant_credits('ann', 6, 'promotional', priority => 1), credyt.grant_credits('ann', 100, paid => 10);
SELECT credyt.grant_credits('bob', 50, 'included', paid => 20), credyt.grant_credits('bob', 9, asset => 'tokens', paid => 9);
SELECT credyt.open_wallet('cy', overdraft_limit => 50);
SELECT credyt.debit_credits('ann', 'image', 10, cost => 0.10, scopes => '{user:a,user:b,user:a}');
SELECT credyt.debit_credits('ann', 'image', 2);
SELECT credyt.debit_credits('bob', 'image', 4, cost => 0);
SELECT credyt.debit_credits('bob', 'image', 4, asset => 'tokens', cost => 1);
SELECT credyt.debit_credits('cy', 'video', 5, cost => 2, scopes => '{user:a}');
SELECT credyt.debit_credits('bob', 'image', 0, cost => 0.01);
\o
-- Clocks go forward in Berlin on the 29th.
UPDATE credyt.clock SET now = '2026-03-29 21:59:59+00';
\o /dev/null
SELECT credyt.debit_credits('ann', 'image', 1, cost => 0.03);
UPDATE credyt.clock SET now = '2026-03-29 22:00:00+00';
SELECT credyt.debit_credits('ann', 'image', 1, cost => 0.04);
-- A debt is paid: its revenue is earned now, by what paid.
SELECT credyt.grant_credits('cy', 20, paid => 8);
SELECT credyt.refund('ann', id, 8) FROM credyt.ledger WHERE customer = 'ann' AND quantity = 10;
\o

SELECT asset, action, debits, quantity, credits, revenue, cost, margin, round(margin_ratio, 6) AS ratio, cost_coverage FROM credyt.margin_by_action ORDER BY 1, 2;
SELECT asset, customer, debits, quantity, credits, revenue, cost, margin, round(margin_ratio, 6) AS ratio, round(cost_coverage, 6) AS coverage FROM credyt.margin_by_customer ORDER BY 1, 2;
SELECT * FROM credyt.margin_by_model ORDER BY asset;
SELECT asset, day, action, debits, credits, revenue, cost FROM credyt.margin_daily ORDER BY 1, 2, 3;
SELECT kind, debits, quantity, credits, revenue, cost FROM credyt.margin('{kind}', asset => 'credits') ORDER BY kind;
SELECT scope, action, debits, quantity, credits, revenue, cost FROM credyt.margin('{scope,action}', asset => 'credits') ORDER BY 1, 2;
SELECT * FROM credyt.negative_margin;
SELECT * FROM credyt.runway ORDER BY 1, 2;

-- since belongs to the period, until does not.
SELECT debits, cost FROM credyt.margin('{}', '2026-03-29 21:59:59+00', '2026-03-29 22:00+00', 'credits');
SELECT debits, cost FROM credyt.margin('{}', '2026-03-29 22:00+00', '2026-03-29 22:00+00');
SELECT asset, debits FROM credyt.margin('{}', '2026-03-30', '2026-03-31');

CREATE TABLE before AS
SELECT 1 AS question, * FROM credyt.margin('{day,action,customer,vendor,model,kind,scope}')
UNION ALL SELECT 2, * FROM credyt.margin('{kind}', '2026-03-28 12:00+00') UNION ALL SELECT 3, * FROM credyt.margin('{scope}', NULL, '2026-03-29 22:00+00');
SELECT * FROM credyt.maintain(1);
SELECT customer, asset, seq FROM credyt.rollup_progress;
SELECT * FROM credyt.maintain();
SELECT * FROM credyt.maintain();
CREATE TABLE after AS
SELECT 1 AS question, * FROM credyt.margin('{day,action,customer,vendor,model,kind,scope}')
UNION ALL SELECT 2, * FROM credyt.margin('{kind}', '2026-03-28 12:00+00') UNION ALL SELECT 3, * FROM credyt.margin('{scope}', NULL, '2026-03-29 22:00+00');
(TABLE before EXCEPT ALL TABLE after) UNION ALL (TABLE after EXCEPT ALL TABLE before);
SELECT day, kind, debits, quantity, credits, revenue, cost, report_mask FROM credyt.margin_days WHERE asset = 'credits' ORDER BY day, kind, costed, credits;

-- Prices. 0.8: revenue is five times the cost.
SELECT asset, debits, quantity, cost, round(credit_value, 6) AS credit_value, price FROM credyt.suggest_price('image', 0.8) ORDER BY asset;
SELECT asset, debits, price FROM credyt.suggest_price('image', 0, since => '2026-03-29 22:00+00');
SELECT * FROM credyt.suggest_price('nothing', 0.5);
\x on
SELECT * FROM credyt.simulate_price('image', '{"per_unit": "0.333"}') ORDER BY asset;
SELECT * FROM credyt.simulate_price('image', '{"cost_plus": {"markup": 1, "credit_value": "0.01"}}', since => '2026-03-28') ORDER BY asset;
\x off
SELECT * FROM credyt.simulate_price('nothing', '1');
