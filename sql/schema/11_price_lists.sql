-- Price lists: which prices a customer is kept on.

CREATE TABLE credyt.customer_price_lists (
    customer      text NOT NULL,
    asset         text NOT NULL,
    version       int NOT NULL,
    price_list    text,
    as_of         timestamptz,
    effective_at  timestamptz NOT NULL,
    PRIMARY KEY (customer, asset, version)
);
COMMENT ON TABLE credyt.customer_price_lists IS 'Which prices a customer is kept on, append-only: the latest version counts. Written by credyt.set_price_list.';
COMMENT ON COLUMN credyt.customer_price_lists.customer IS 'The customer.';
COMMENT ON COLUMN credyt.customer_price_lists.asset IS 'The asset of the prices.';
COMMENT ON COLUMN credyt.customer_price_lists.version IS 'Counts up from 1 within customer and asset.';
COMMENT ON COLUMN credyt.customer_price_lists.price_list IS 'The price list; NULL: the prices for all.';
COMMENT ON COLUMN credyt.customer_price_lists.as_of IS 'The moment whose prices the customer keeps; NULL: those of now.';
COMMENT ON COLUMN credyt.customer_price_lists.effective_at IS 'Start, inclusive.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.customer_price_lists
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('customer_price_lists');
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON credyt.customer_price_lists
    FOR EACH ROW EXECUTE FUNCTION credyt.announce_change('customer_price_lists');
ALTER TABLE credyt.customer_price_lists ENABLE ALWAYS TRIGGER announce;

CREATE FUNCTION credyt.set_price_list(
    customer    text,
    price_list  text DEFAULT NULL,
    as_of       timestamptz DEFAULT NULL,
    asset       text DEFAULT 'credits'
) RETURNS credyt.customer_price_lists
    AS 'MODULE_PATHNAME', 'credyt_set_price_list' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.set_price_list(text, text, timestamptz, text) IS
    'Puts a customer on a price list (NULL: the prices for all), kept at the prices of as_of (NULL: of now).';
