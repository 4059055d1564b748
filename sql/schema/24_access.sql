-- Who may do what. The view capabilities is the one place that says it; allow and disallow read it.

CREATE VIEW credyt.capabilities AS
SELECT o.kind, o.name,
       'everyone' = ANY (o.given) AS everyone,
       'spend' = ANY (o.given) AS spend,
       'events' = ANY (o.given) AS events,
       'operate' = ANY (o.given) AS operate,
       'report' = ANY (o.given) AS report
FROM (VALUES
    -- What customers do.
    ('function', 'debit_credits', '{spend,operate}'::text[]),
    ('function', 'debit_many', '{spend,operate}'),
    ('function', 'capture_many', '{spend,operate}'),
    ('function', 'authorize', '{spend,operate}'),
    ('function', 'capture', '{spend,operate}'),
    ('function', 'release', '{spend,operate}'),
    ('function', 'extend', '{spend,operate}'),
    ('function', 'refund', '{spend,operate}'),
    ('function', 'balance', '{spend,operate}'),
    ('function', 'quote', '{spend,operate}'),
    ('function', 'affordable', '{spend,operate}'),
    ('function', 'usage', '{spend,operate}'),
    ('function', 'history', '{spend,operate}'),
    -- What a worker does that charges cards: it takes events, grants what was paid, or says that it was not.
    ('function', 'take_events', '{events,operate}'),
    ('function', 'ack_events', '{events,operate}'),
    ('function', 'topup_failed', '{events,operate}'),
    ('function', 'grant_credits', '{events,operate}'),
    -- What runs the business.
    ('function', 'create_asset', '{operate}'),
    ('function', 'set_price', '{operate}'),
    ('function', 'set_price_list', '{operate}'),
    ('function', 'open_wallet', '{operate}'),
    ('function', 'grant_many', '{operate}'),
    ('function', 'revoke_grant', '{operate}'),
    ('function', 'revoke_payment', '{operate}'),
    ('function', 'import_vendor_rates', '{operate}'),
    ('function', 'set_vendor_rate', '{operate}'),
    ('function', 'set_exchange_rate', '{operate}'),
    ('function', 'vendor_cost', '{operate}'),
    ('function', 'record_cost', '{operate}'),
    ('function', 'recost', '{operate}'),
    ('function', 'create_plan', '{operate}'),
    ('function', 'subscribe', '{operate}'),
    ('function', 'change_plan', '{operate}'),
    ('function', 'pay_subscription', '{operate}'),
    ('function', 'unsubscribe', '{operate}'),
    ('function', 'transfer', '{operate}'),
    ('function', 'freeze_wallet', '{operate}'),
    ('function', 'unfreeze_wallet', '{operate}'),
    ('function', 'close_wallet', '{operate}'),
    ('function', 'erase_customer', '{operate}'),
    ('function', 'set_limit', '{operate}'),
    ('function', 'set_alert', '{operate}'),
    ('function', 'set_topup', '{operate}'),
    ('function', 'set_expiry_notice', '{operate}'),
    ('function', 'close_period', '{operate}'),
    ('function', 'maintain', '{operate}'),
    ('function', 'verify', '{operate}'),
    -- Reports, and what the views call with the reader's rights.
    ('function', 'margin', '{operate,report}'),
    ('function', 'suggest_price', '{operate,report}'),
    ('function', 'simulate_price', '{operate,report}'),
    ('function', 'deferred_revenue_at', '{operate,report}'),
    ('function', 'revenue_rollforward', '{operate,report}'),
    ('function', 'ledger_hash', '{operate,report}'),
    ('function', 'statement_time', '{operate,report}'),
    ('function', 'wallet_state_at', '{operate,report}'),
    ('function', 'pending_movements', '{operate,report}'),
    ('function', 'pending_grants', '{operate,report}'),
    ('function', 'subscription_at', '{operate,report}'),
    ('function', 'alert_rules', '{operate,report}'),
    ('function', 'topup_rules', '{operate,report}'),
    ('function', 'grants', '{operate,report}'),
    ('function', 'changed_at', '{operate,report}'),
    ('function', 'seq', '{operate,report}'),
    ('function', 'next_due', '{operate,report}'),
    ('function', 'settled', '{operate,report}'),
    ('function', 'held', '{operate,report}'),
    ('function', 'available', '{operate,report}'),
    ('function', 'owed', '{operate,report}'),
    ('function', 'next_expiry', '{operate,report}'),
    ('function', 'limits', '{operate,report}'),
    ('function', 'limit_counts', '{operate,report}'),
    ('function', 'limit_period', '{operate,report}'),
    ('function', 'matches_action', '{operate,report}'),
    ('function', 'split_lines', '{operate,report}'),
    ('function', 'posting_lines', '{operate,report}'),
    ('function', 'as_money', '{operate,report}'),
    ('function', 'old_snapshots', '{operate,report}'),
    ('function', 'direct_access_counts', '{operate}'),
    ('function', 'uncosted_since', '{operate,report}'),
    ('function', 'rollup_backlog', '{operate,report}'),
    ('function', 'rolled_up_to', '{operate,report}'),
    -- The type's own functions: anyone who may read a wallet may print it.
    ('function', 'wallet_in', '{everyone}'),
    ('function', 'wallet_out', '{everyone}'),
    ('function', 'wallet_recv', '{everyone}'),
    ('function', 'wallet_send', '{everyone}'),
    ('function', 'pack', '{everyone}'),
    ('function', 'unpack', '{everyone}'),
    -- The owner's.
    ('function', 'allow', '{}'),
    ('function', 'disallow', '{}'),
    ('function', 'distribute', '{}'),
    -- What only the other functions and the triggers call, with the owner's rights.
    ('function', 'keep_period', '{}'),
    ('function', 'keep_call_here', '{}'),
    ('function', 'repriced', '{}'),
    ('function', 'known_cost', '{}'),
    ('function', 'total', '{}'),
    ('function', 'total_count', '{}'),
    ('function', 'refuse_change', '{}'),
    ('function', 'announce_change', '{}'),
    ('function', 'commit_plans', '{}'),

    ('view', 'current_wallets', '{report}'),
    ('view', 'pending_entries', '{report}'),
    ('view', 'wallet_balances', '{report}'),
    ('view', 'grant_balances', '{report}'),
    ('view', 'spend_order', '{report}'),
    ('view', 'open_authorizations', '{report}'),
    ('view', 'statement', '{report}'),
    ('view', 'price_book', '{report}'),
    ('view', 'converted_costs', '{report}'),
    ('view', 'converted_payments', '{report}'),
    ('view', 'expiring_grants', '{report}'),
    ('view', 'deferred_revenue', '{report}'),
    ('view', 'breakage', '{report}'),
    ('view', 'vendor_rate_book', '{report}'),
    ('view', 'uncosted_usage', '{report}'),
    ('view', 'margin_lines', '{report}'),
    ('view', 'margin_unrolled', '{report}'),
    ('view', 'usage_lines', '{}'),
    ('view', 'margin_by_action', '{report}'),
    ('view', 'margin_by_customer', '{report}'),
    ('view', 'margin_by_model', '{report}'),
    ('view', 'margin_daily', '{report}'),
    ('view', 'negative_margin', '{report}'),
    ('view', 'runway', '{report}'),
    ('view', 'movements', '{report}'),
    ('view', 'grant_movements', '{report}'),
    ('view', 'subscriptions', '{report}'),
    ('view', 'renewals', '{report}'),
    ('view', 'alerts', '{report}'),
    ('view', 'topups', '{report}'),
    ('view', 'limits_used', '{report}'),
    ('view', 'events_pending', '{report}'),
    ('view', 'health', '{report}'),
    -- Its columns are given one by one: see allow.
    ('view', 'capabilities', '{}'),

    -- Reports name the currency.
    ('table', 'assets', '{report}'),
    ('table', 'prices', '{}'),
    ('table', 'customer_price_lists', '{}'),
    ('table', 'wallets', '{}'),
    ('table', 'grants', '{}'),
    ('table', 'authorizations', '{}'),
    ('table', 'ledger', '{}'),
    ('table', 'open_debts', '{}'),
    ('table', 'revoked_grants', '{}'),
    ('table', 'ended_grants', '{}'),
    ('table', 'clock', '{}'),
    ('table', 'vendors', '{}'),
    ('table', 'vendor_rates', '{}'),
    ('table', 'exchange_rates', '{}'),
    ('table', 'vendor_costs', '{}'),
    ('table', 'vendor_requests', '{}'),
    ('table', 'cost_postings', '{}'),
    ('table', 'rollup_progress', '{}'),
    ('table', 'margin_days', '{}'),
    ('table', 'margin_customers', '{}'),
    ('table', 'margin_scopes', '{}'),
    ('table', 'usage_days', '{}'),
    ('table', 'periods', '{}'),
    ('table', 'period_grants', '{}'),
    ('table', 'plans', '{}'),
    ('table', 'booked_subscriptions', '{}'),
    ('table', 'plan_changes', '{}'),
    ('table', 'subscription_keys', '{}'),
    ('table', 'subscription_payments', '{}'),
    ('table', 'limit_uses', '{}'),
    ('table', 'events', '{}'),
    ('table', 'expiry_notices', '{}'),
    ('table', 'erasures', '{}')
) AS o (kind, name, given);
COMMENT ON VIEW credyt.capabilities IS 'What does credyt.allow let a role do? EXECUTE on functions, SELECT on views and tables.';
COMMENT ON COLUMN credyt.capabilities.kind IS 'function, view or table.';
COMMENT ON COLUMN credyt.capabilities.name IS 'Its name in schema credyt.';
COMMENT ON COLUMN credyt.capabilities.everyone IS 'True: everyone may.';
COMMENT ON COLUMN credyt.capabilities.spend IS 'True: part of spend. Only a role that was allowed spend may read this column.';
COMMENT ON COLUMN credyt.capabilities.events IS 'True: part of events. Only a role that was allowed events may read this column.';
COMMENT ON COLUMN credyt.capabilities.operate IS 'True: part of operate. Only a role that was allowed operate may read this column.';
COMMENT ON COLUMN credyt.capabilities.report IS 'True: part of report. Only a role that was allowed report may read this column.';

CREATE TYPE credyt.access AS (
    role     name,
    spend    boolean,
    events   boolean,
    operate  boolean,
    report   boolean
);
COMMENT ON TYPE credyt.access IS 'What a role has been allowed by now.';
COMMENT ON COLUMN credyt.access.role IS 'The role.';
COMMENT ON COLUMN credyt.access.spend IS 'True: it may spend.';
COMMENT ON COLUMN credyt.access.events IS 'True: it may take events, and answer them with grants.';
COMMENT ON COLUMN credyt.access.operate IS 'True: it may operate.';
COMMENT ON COLUMN credyt.access.report IS 'True: it may read reports.';

-- They run with the caller's rights: whether the caller may grant is Postgres' to decide.
CREATE FUNCTION credyt.allow(role name, what text) RETURNS credyt.access
    AS 'MODULE_PATHNAME', 'credyt_allow' LANGUAGE c VOLATILE
    SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION credyt.allow(name, text) IS
    'Lets a role spend, take events, operate or report: grants what credyt.capabilities lists.';

CREATE FUNCTION credyt.disallow(role name, what text) RETURNS credyt.access
    AS 'MODULE_PATHNAME', 'credyt_disallow' LANGUAGE c VOLATILE
    SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION credyt.disallow(name, text) IS
    'Takes back what credyt.allow gave, except what the role needs for another capability.';

-- Of everything above: nobody has a right that was not given.
REVOKE ALL ON SCHEMA credyt FROM PUBLIC;
GRANT USAGE ON SCHEMA credyt TO PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA credyt FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA credyt FROM PUBLIC;
-- The type's own functions: anyone who may read a wallet may print it.
GRANT EXECUTE ON FUNCTION credyt.wallet_in(cstring), credyt.wallet_out(credyt.wallet),
    credyt.wallet_recv(internal), credyt.wallet_send(credyt.wallet), credyt.pack(bytea),
    credyt.unpack(credyt.wallet) TO PUBLIC;
