-- Access and dumps.

REVOKE ALL ON SCHEMA credyt FROM PUBLIC;
GRANT USAGE ON SCHEMA credyt TO PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA credyt FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA credyt FROM PUBLIC;
-- The type's own functions: anyone who may read a wallet may print it.
GRANT EXECUTE ON FUNCTION credyt.wallet_in(cstring), credyt.wallet_out(credyt.wallet),
    credyt.wallet_recv(internal), credyt.wallet_send(credyt.wallet), credyt.pack(bytea),
    credyt.unpack(credyt.wallet) TO PUBLIC;

SELECT pg_catalog.pg_extension_config_dump('credyt.assets', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.prices', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.customer_price_lists', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.wallets', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.grants', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.authorizations', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.ledger', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.open_debts', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.revoked_grants', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.ended_grants', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.vendors', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.vendor_rates', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.exchange_rates', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.vendor_costs', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.vendor_requests', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.cost_postings', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.rollup_progress', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.margin_days', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.margin_customers', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.margin_scopes', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.periods', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.period_grants', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.plans', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.booked_subscriptions', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.plan_changes', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.subscription_keys', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.subscription_payments', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.limit_uses', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.events', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.expiry_notices', '');
SELECT pg_catalog.pg_extension_config_dump('credyt.erasures', '');
-- Time in another database is not ours to say.
SELECT pg_catalog.pg_extension_config_dump('credyt.clock', 'WHERE false');
