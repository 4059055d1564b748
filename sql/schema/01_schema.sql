-- Read top to bottom: schema, the wallet type, tables, result types, functions, views, verify, access.
\echo Use "CREATE EXTENSION credyt_pg" to load this file. \quit

-- No name or operator below is looked up where somebody else may have put one of the same name.
SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE SCHEMA credyt;
COMMENT ON SCHEMA credyt IS
    'credyt_pg: credits, prices and margin. Start with credyt.create_asset, set_price, grant_credits, debit_credits; read wallet_balances and margin_by_action.';
