-- The schema, and what every file below needs: the triggers that guard and announce tables, and the time.
--
-- The install script is the files of this folder in the order of their names. Each has the types, tables, functions and
-- views of its feature, with comments and the registration for dumps; rights are in 24_access.sql, for all at once.
--
--   01_schema          the schema, triggers for all tables, the clock of tests, statement_time
--   02_wallet_type     the type credyt.wallet: the packed state of a wallet
--   03_assets          create_asset
--   04_prices          set_price, quote, price lists, price_book
--   05_wallets         open, read, freeze and close a wallet; wallet_balances, pending_entries
--   06_grants          grant_credits, revoke_grant; what is left of grants
--   07_ledger          debit_credits, refund, transfer; statement
--   08_holds           authorize, capture, release, extend, affordable
--   09_vendors         vendors' answers and rates
--   10_exchange_rates  costs and payments in other currencies
--   11_costs           record_cost, recost, uncosted_usage
--   12_margin          margin and its rollups, margin_by_*, runway
--   13_new_prices      suggest_price, simulate_price
--   14_accounting      deferred revenue, breakage, rollforward, close_period
--   15_plans           plans, subscriptions, what payments brought
--   16_limits          spend limits
--   17_events          the outbox, alerts, top-ups, expiry notices
--   18_many            debit_many, capture_many, grant_many
--   19_customer_view   usage and history, for the customer
--   20_erasure         erase_customer, ledger_hash
--   21_verify          verify
--   22_operation       maintain, health
--   23_requests        f(request jsonb) of every function about a customer
--   24_access          allow, disallow, capabilities; what is revoked from PUBLIC
--
-- Tables: `customer` is the first column of every key of a customer's rows: it is the shard key and the tenant key.
-- There are no foreign keys: one to a wallet would lock the hottest row. What a row must always satisfy is a CHECK, but
-- for the tables that debits and holds write (wallets, ledger, authorizations, vendor_requests, limit_uses): two CHECKs
-- on the ledger add 73,000 instructions to a debit, since Postgres reads them again for each statement, and direct access
-- would not look at them. credyt.verify() checks what matters in these tables.
--
-- Functions: writers run with their owner's rights and a fixed search_path, so that a caller needs no rights on tables
-- and can put nothing in their way. Sequential scans are off for them: every statement goes by a key, and a plan made
-- while a table was small is kept.
--
-- Views: one question each. They read as of the calling statement and never write.
\echo Use "CREATE EXTENSION credyt_pg" to load this file. \quit

-- No name or operator below is looked up in a schema where others may have put one of the same name.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- Texts are UTF-8 to the library: other encodings are refused once, here.
DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() <> 'UTF8' THEN
        RAISE EXCEPTION 'credyt_pg needs a database with encoding UTF8, and % has %', pg_catalog.current_database(), pg_catalog.getdatabaseencoding()
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Create another one: CREATE DATABASE name TEMPLATE template0 ENCODING ''UTF8'';';
    END IF;
END $$;

CREATE SCHEMA credyt;
COMMENT ON SCHEMA credyt IS
    'credyt_pg: credits, prices and margin. Start with create_asset, set_price, grant_credits and debit_credits.';

-- What backends remember is announced, whoever writes it: our functions, a restore, or logical replication,
-- which fires nothing but what is ALWAYS there FOR EACH ROW.
CREATE FUNCTION credyt.announce_change() RETURNS trigger
    AS 'MODULE_PATHNAME', 'credyt_announce_change' LANGUAGE c;
COMMENT ON FUNCTION credyt.announce_change() IS 'Invalidates what backends have cached of a table.';

-- Facts never change.
CREATE FUNCTION credyt.refuse_change() RETURNS trigger
    AS 'MODULE_PATHNAME', 'credyt_refuse_change' LANGUAGE c;
COMMENT ON FUNCTION credyt.refuse_change() IS 'Refuses UPDATE, DELETE and TRUNCATE of append-only tables.';

CREATE TABLE credyt.clock (
    now timestamptz NOT NULL,
    one boolean PRIMARY KEY DEFAULT true CHECK (one)
);
COMMENT ON TABLE credyt.clock IS 'For tests only: a row here stands in for the clock. Empty in production; superusers only; never dumped.';
COMMENT ON COLUMN credyt.clock.now IS 'What time it is.';
COMMENT ON COLUMN credyt.clock.one IS 'Always true: there is at most one row.';
-- Time in another database is not ours to say.
SELECT pg_catalog.pg_extension_config_dump('credyt.clock', 'WHERE false');
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON credyt.clock
    FOR EACH ROW EXECUTE FUNCTION credyt.announce_change('clock');
CREATE TRIGGER announce_truncate AFTER TRUNCATE ON credyt.clock
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.announce_change('clock');
ALTER TABLE credyt.clock ENABLE ALWAYS TRIGGER announce, ENABLE ALWAYS TRIGGER announce_truncate;

CREATE FUNCTION credyt.statement_time() RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'credyt_statement_time' LANGUAGE c STABLE PARALLEL RESTRICTED
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION credyt.statement_time() IS
    'The time as of which reads answer: the start of the statement; inside CALL and DO the clock.';
