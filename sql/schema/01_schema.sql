-- Read top to bottom: schema, the wallet type, tables, result types, functions, views, verify, access.
\echo Use "CREATE EXTENSION credyt_pg" to load this file. \quit

-- No name or operator below is looked up where somebody else may have put one of the same name.
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
    'credyt_pg: credits, prices and margin. Start with credyt.create_asset, set_price, grant_credits, debit_credits; read wallet_balances and margin_by_action.';
