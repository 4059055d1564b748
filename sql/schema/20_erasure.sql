-- Erasing what says who a customer is, and the hash that an auditor keeps.

CREATE TABLE credyt.erasures (
    customer    text NOT NULL,
    id          uuid NOT NULL,
    reason      text NOT NULL,
    blanked     bigint NOT NULL CHECK (blanked >= 0),
    open_holds  int NOT NULL CHECK (open_holds >= 0),
    erased_at   timestamptz NOT NULL,
    PRIMARY KEY (customer, id)
);
COMMENT ON TABLE credyt.erasures IS 'Every erasure of a customer, when and why, append-only. Written by credyt.erase_customer.';
COMMENT ON COLUMN credyt.erasures.customer IS 'The erased customer.';
COMMENT ON COLUMN credyt.erasures.id IS 'UUIDv7.';
COMMENT ON COLUMN credyt.erasures.reason IS 'The caller''s reason. It is kept, so it must not name anybody.';
COMMENT ON COLUMN credyt.erasures.blanked IS 'Number of rows and limits that were blanked.';
COMMENT ON COLUMN credyt.erasures.open_holds IS 'Open authorizations whose usage stays, because captures may be priced from it. Erase again when they are closed.';
COMMENT ON COLUMN credyt.erasures.erased_at IS 'When the customer was erased.';
SELECT pg_catalog.pg_extension_config_dump('credyt.erasures', '');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.erasures
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('erasures');

CREATE FUNCTION credyt.erase_customer(
    customer  text,
    reason    text
) RETURNS credyt.erasures
    AS 'MODULE_PATHNAME', 'credyt_erase_customer' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.erase_customer(text, text) IS
    'Blanks what may say who a customer is, wherever it is kept; amounts, times, ids and keys stay.';

CREATE TYPE credyt.ledger_hash_row AS (
    customer  text,
    asset     text,
    rows      bigint,
    through   bigint,
    hash      text
);
COMMENT ON TYPE credyt.ledger_hash_row IS 'A row of credyt.ledger_hash.';
COMMENT ON COLUMN credyt.ledger_hash_row.customer IS 'Customer.';
COMMENT ON COLUMN credyt.ledger_hash_row.asset IS 'Asset.';
COMMENT ON COLUMN credyt.ledger_hash_row.rows IS 'How many rows it is of: ledger rows and recorded costs.';
COMMENT ON COLUMN credyt.ledger_hash_row.through IS 'The number (seq) of the last of them: pass it as through to hash the same rows again.';
COMMENT ON COLUMN credyt.ledger_hash_row.hash IS 'SHA-256, in hex.';

CREATE FUNCTION credyt.ledger_hash(
    customer  text,
    asset     text DEFAULT NULL,
    through   bigint DEFAULT NULL,
    contents  boolean DEFAULT false
) RETURNS SETOF credyt.ledger_hash_row
    AS 'MODULE_PATHNAME', 'credyt_ledger_hash' LANGUAGE c STABLE ROWS 1
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET work_mem = '64MB'
    -- The same text everywhere.
    SET datestyle = 'ISO, YMD' SET timezone = 'UTC' SET bytea_output = 'hex';
COMMENT ON FUNCTION credyt.ledger_hash(text, text, bigint, boolean) IS
    'A hash over each of a customer''s ledgers, for an auditor to keep: it finds any later change.';
