-- Exchange rates: what a vendor charges, and what a customer paid, in another currency than the asset's.

CREATE TABLE credyt.exchange_rates (
    currency      text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    to_currency   text NOT NULL CHECK (to_currency ~ '^[A-Z]{3}$'),
    version       int NOT NULL CHECK (version > 0),
    rate          numeric NOT NULL CHECK (rate > 0),
    effective_at  timestamptz,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (currency, to_currency, version)
);
COMMENT ON TABLE credyt.exchange_rates IS 'Exchange rates, append-only. Written by credyt.set_exchange_rate.';
COMMENT ON COLUMN credyt.exchange_rates.currency IS 'The currency that is converted.';
COMMENT ON COLUMN credyt.exchange_rates.to_currency IS 'The currency that it becomes.';
COMMENT ON COLUMN credyt.exchange_rates.version IS 'Counts up from 1 within the two currencies.';
COMMENT ON COLUMN credyt.exchange_rates.rate IS 'Units of to_currency for one of currency.';
COMMENT ON COLUMN credyt.exchange_rates.effective_at IS 'Start, inclusive; NULL: from the beginning.';
COMMENT ON COLUMN credyt.exchange_rates.created_at IS 'When it was set.';
SELECT pg_catalog.pg_extension_config_dump('credyt.exchange_rates', '');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.exchange_rates
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('exchange_rates');

CREATE VIEW credyt.converted_payments AS
SELECT g.customer, g.asset, g.id AS grant_id, g.created_at, g.currency, g.currency_paid, g.exchange_rate,
       a.currency AS to_currency, g.paid
FROM credyt.grants g JOIN credyt.assets a ON a.asset = g.asset
WHERE g.exchange_rate IS NOT NULL;
COMMENT ON VIEW credyt.converted_payments IS 'Which grants were paid in another currency, and at which rate do reports count them?';
COMMENT ON COLUMN credyt.converted_payments.customer IS 'Customer.';
COMMENT ON COLUMN credyt.converted_payments.asset IS 'The asset of the grant.';
COMMENT ON COLUMN credyt.converted_payments.grant_id IS 'The grant.';
COMMENT ON COLUMN credyt.converted_payments.created_at IS 'When it was issued, and converted.';
COMMENT ON COLUMN credyt.converted_payments.currency IS 'The currency that was paid.';
COMMENT ON COLUMN credyt.converted_payments.currency_paid IS 'Money paid, in that currency.';
COMMENT ON COLUMN credyt.converted_payments.exchange_rate IS 'Units of to_currency for one of currency.';
COMMENT ON COLUMN credyt.converted_payments.to_currency IS 'The asset''s currency.';
COMMENT ON COLUMN credyt.converted_payments.paid IS 'Money paid, in the asset''s currency: revenue, deferred revenue and margin add up to it.';

CREATE FUNCTION credyt.set_exchange_rate(
    currency      text,
    to_currency   text,
    rate          numeric,
    effective_at  timestamptz DEFAULT NULL
) RETURNS credyt.exchange_rates
    AS 'MODULE_PATHNAME', 'credyt_set_exchange_rate' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.set_exchange_rate(text, text, numeric, timestamptz) IS
    'Sets the rate from one currency to another, from now or another moment; the first counts from the beginning.';
