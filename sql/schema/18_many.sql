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
    'Spends credits for many customers at once: an array of objects with the arguments of debit_credits.';

CREATE FUNCTION credyt.capture_many(
    requests  jsonb
) RETURNS SETOF credyt.debit
    AS 'MODULE_PATHNAME', 'credyt_capture_many' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off;
COMMENT ON FUNCTION credyt.capture_many(jsonb) IS 'Charges many authorizations at once; all or none, answers in the order given.';

CREATE FUNCTION credyt.grant_many(
    requests  jsonb
) RETURNS SETOF credyt.grant
    AS 'MODULE_PATHNAME', 'credyt_grant_many' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off;
COMMENT ON FUNCTION credyt.grant_many(jsonb) IS
    'Gives credits to many customers at once: an array of objects with the arguments of grant_credits.';
