-- Tables refuse rows that can never be, from every writer: kinds, statuses, signs, ranges.
\pset footer off
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image', '1');
SELECT credyt.grant_credits('ann', 10, paid => 1), credyt.open_wallet('bob', overdraft_limit => 5);
SELECT credyt.debit_credits('bob', 'image', 2);
SELECT credyt.set_alert('ann', 9);
SELECT credyt.debit_credits('ann', 'image', 2);
SELECT credyt.set_vendor_rate('v', 'm', '{"second": "0.01"}');
SELECT credyt.import_vendor_rates('[{"id": "w", "models": [{"id": "m", "match": {"equals": "m"}, "prices": {"input_mtok": 1}}]}]');
SELECT credyt.record_cost('ann', 'v', 'm', cost => 1);
SELECT credyt.set_exchange_rate('EUR', 'USD', 1.1);
SELECT credyt.set_price_list('ann', 'old');
SELECT credyt.set_expiry_notice('{7}');
SELECT credyt.create_plan('pro', 10), credyt.subscribe('ann', 'pro', payment => 'p', paid_through => now() + interval '2 months');
SELECT credyt.change_plan('ann', 'pro', quantity => 2);
SELECT credyt.open_wallet('bob', metadata => '{"name": "Bob"}');
SELECT credyt.erase_customer('bob', 'asked for');
-- Append-only tables are opened for what follows.
SET session_replication_role = replica;
\o
SELECT c.table_name, c.change, r.code, substring(r.message FROM 'constraint "(.*)"') AS refused_by
FROM (VALUES
    ('assets', 'scale = 11'), ('assets', 'scale = -1'), ('assets', 'rounding = ''floor'''), ('assets', 'currency = ''usd'''),
    ('prices', 'version = 0'), ('prices', 'customer = ''ann'', price_list = ''old'''), ('customer_price_lists', 'version = 0'),
    ('grants', 'kind = ''gift'''), ('grants', 'credits = 0'), ('grants', 'paid = -0.01'), ('grants', 'settled = -1'), ('grants', 'settled = credits + 1'),
    ('grants', 'debt_revenue = -1'), ('grants', 'currency = ''EUR'''), ('grants', 'currency = ''EUR'', currency_paid = 1, exchange_rate = 0'),
    ('open_debts', 'owed = -1'), ('open_debts', 'returned = -1'),
    ('vendors', 'version = 0'), ('vendors', 'source = ''x'''), ('vendor_rates', 'version = 0'), ('vendor_rates', 'source = ''x'''), ('vendor_rates', 'currency = ''usd'''),
    ('exchange_rates', 'rate = 0'), ('exchange_rates', 'version = 0'), ('exchange_rates', 'currency = ''eur'''), ('exchange_rates', 'to_currency = ''usd'''),
    ('vendor_costs', 'source = ''x'''), ('vendor_costs', 'exchange_rate = 0'),
    ('cost_postings', 'nth = 0'), ('cost_postings', 'debits = 2'), ('cost_postings', 'costed = -2'),
    ('plans', 'version = 0'), ('plans', 'credits = -1'), ('plans', 'paid = -1'), ('plans', 'rollover = -1'), ('plans', 'rollover_percent = 101'), ('plans', 'rollover_periods = -1'),
    ('booked_subscriptions', 'quantity = 0'), ('booked_subscriptions', 'next_quantity = 0'), ('booked_subscriptions', 'had_credits = -1'),
    ('booked_subscriptions', 'had_paid = -1'), ('booked_subscriptions', 'moved = moved || 1'),
    ('plan_changes', 'from_quantity = 0'), ('plan_changes', 'to_quantity = 0'), ('plan_changes', 'at = ''later'''), ('plan_changes', 'proration = ''half'''),
    ('events', 'type = ''x'''), ('expiry_notices', 'days = ''{}'''), ('expiry_notices', 'kinds = ''{gift}'''),
    ('erasures', 'blanked = -1'), ('erasures', 'open_holds = -1')
) AS c (table_name, change)
CROSS JOIN LATERAL refused(format('UPDATE credyt.%I SET %s', c.table_name, c.change)) AS r;
-- The tables that debits and holds write have none: sql/schema/01_schema.sql says why
SELECT c.relname AS table_name, count(k.oid) AS checks FROM pg_class c
LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'c'
WHERE c.oid IN ('credyt.wallets'::regclass, 'credyt.ledger'::regclass, 'credyt.authorizations'::regclass, 'credyt.vendor_requests'::regclass, 'credyt.limit_uses'::regclass)
GROUP BY c.relname ORDER BY 1;
