-- What a customer can pay, before anything is held.

CREATE TYPE credyt.affordable AS (
    amount     numeric,
    credits    numeric,
    available  numeric,
    bound      text
);
COMMENT ON TYPE credyt.affordable IS 'The largest amount of an action that a customer can pay.';
COMMENT ON COLUMN credyt.affordable.amount IS 'The amount; 0: nothing; NULL: any amount.';
COMMENT ON COLUMN credyt.affordable.credits IS 'Its price in credits.';
COMMENT ON COLUMN credyt.affordable.available IS 'Credits that can be spent on the action, overdraft included.';
COMMENT ON COLUMN credyt.affordable.bound IS 'What bounds the amount: balance, limit or none.';

CREATE FUNCTION credyt.affordable(
    customer    text,
    action      text,
    vary        text DEFAULT 'quantity',
    dimensions  jsonb DEFAULT '{}',
    step        numeric DEFAULT 1,
    asset       text DEFAULT 'credits',
    scopes      text[] DEFAULT NULL
) RETURNS credyt.affordable
    AS 'MODULE_PATHNAME', 'credyt_affordable' LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.affordable(text, text, text, jsonb, numeric, text, text[]) IS
    'The largest multiple of step of the quantity, or of a metered dimension, that the customer can pay now.';
