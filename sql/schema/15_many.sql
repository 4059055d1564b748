-- Many calls as one. What goes through arrays takes the wallets one by one through their key,
-- whatever the planner knows of the tables: hence the settings.

CREATE FUNCTION credyt.debit_many(
    requests      jsonb,
    on_shortfall  text DEFAULT 'reject'
) RETURNS SETOF credyt.debit
    AS 'MODULE_PATHNAME', 'credyt_debit_many' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off;
COMMENT ON FUNCTION credyt.debit_many(jsonb, text) IS
    'Spends credits for many customers at once: an array of objects with the arguments of debit_credits, up to 100,000. All or none; answers in the order given. on_shortfall reject: the first refused is raised, with its index (from 0) in DETAIL; skip: what a wallet refuses (WC001, WC002, WC006, WC007) is answered with id NULL, credits 0 and the reason, and its key stays free. A key twice: the second is the replay. The errors of debit_credits, 22003, 22023.';

CREATE FUNCTION credyt.grant_many(
    requests  jsonb
) RETURNS SETOF credyt.grant
    AS 'MODULE_PATHNAME', 'credyt_grant_many' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off;
COMMENT ON FUNCTION credyt.grant_many(jsonb) IS
    'Issues credits to many customers at once: an array of objects with the arguments of grant_credits, up to 100,000. All or none; answers in the order given. An error has the index (from 0) of its element in DETAIL. A key twice: the second is the replay. The errors of grant_credits, 22003, 22023.';
