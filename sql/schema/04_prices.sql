-- Prices: the price book, price lists, and what an action would cost.

CREATE TABLE credyt.prices (
    asset         text NOT NULL,
    action        text NOT NULL,
    version       int NOT NULL CHECK (version > 0),
    customer      text,
    price_list    text,
    price         jsonb NOT NULL,
    effective_at  timestamptz NOT NULL,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (asset, action, version),
    CHECK (customer IS NULL OR price_list IS NULL)
);
CREATE INDEX prices_customer ON credyt.prices (asset, action, customer, price_list, effective_at, version);
COMMENT ON TABLE credyt.prices IS 'The price book: every version of every rule, append-only. Written by credyt.set_price.';
COMMENT ON COLUMN credyt.prices.asset IS 'The asset it is charged in.';
COMMENT ON COLUMN credyt.prices.action IS 'What the customer does.';
COMMENT ON COLUMN credyt.prices.version IS 'Counts up from 1 within asset and action, prices for all, of lists and customers'' own together.';
COMMENT ON COLUMN credyt.prices.customer IS 'Whose own price it is; NULL: a list''s, or for all.';
COMMENT ON COLUMN credyt.prices.price_list IS 'The price list that it belongs to; NULL: a customer''s own, or for all.';
COMMENT ON COLUMN credyt.prices.price IS 'The rule, in credits. JSON null: withdrawn.';
COMMENT ON COLUMN credyt.prices.effective_at IS 'Start, inclusive; it ends where a later version starts.';
COMMENT ON COLUMN credyt.prices.created_at IS 'When it was set.';
SELECT pg_catalog.pg_extension_config_dump('credyt.prices', '');
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON credyt.prices
    FOR EACH ROW EXECUTE FUNCTION credyt.announce_change('prices');
ALTER TABLE credyt.prices ENABLE ALWAYS TRIGGER announce;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.prices
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('prices');

CREATE TYPE credyt.quote AS (
    action         text,
    quantity       numeric,
    asset          text,
    credits        numeric,
    price_version  int,
    breakdown      jsonb
);
COMMENT ON TYPE credyt.quote IS 'What an action would cost.';
COMMENT ON COLUMN credyt.quote.action IS 'What the customer would do.';
COMMENT ON COLUMN credyt.quote.quantity IS 'How much of it.';
COMMENT ON COLUMN credyt.quote.asset IS 'Asset.';
COMMENT ON COLUMN credyt.quote.credits IS 'Credits it would cost.';
COMMENT ON COLUMN credyt.quote.price_version IS 'The version of the price.';
COMMENT ON COLUMN credyt.quote.breakdown IS 'How the credits came about, amounts as strings.';

CREATE TYPE credyt.price AS (
    asset         text,
    action        text,
    version       int,
    customer      text,
    price_list    text,
    price         jsonb,
    effective_at  timestamptz,
    created_at    timestamptz
);
COMMENT ON TYPE credyt.price IS 'One version of a price.';
COMMENT ON COLUMN credyt.price.asset IS 'The asset it is charged in.';
COMMENT ON COLUMN credyt.price.action IS 'What the customer does.';
COMMENT ON COLUMN credyt.price.version IS 'Counts up from 1 within asset and action.';
COMMENT ON COLUMN credyt.price.customer IS 'Whose own price it is; NULL: a list''s, or for all.';
COMMENT ON COLUMN credyt.price.price_list IS 'The price list that it belongs to; NULL: a customer''s own, or for all.';
COMMENT ON COLUMN credyt.price.price IS 'The rule; JSON null: withdrawn.';
COMMENT ON COLUMN credyt.price.effective_at IS 'Start, inclusive.';
COMMENT ON COLUMN credyt.price.created_at IS 'When it was set.';

CREATE FUNCTION credyt.set_price(
    action        text,
    price         jsonb,
    asset         text DEFAULT 'credits',
    customer      text DEFAULT NULL,
    effective_at  timestamptz DEFAULT NULL,
    price_list    text DEFAULT NULL
) RETURNS credyt.price
    AS 'MODULE_PATHNAME', 'credyt_set_price' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.set_price(text, jsonb, text, text, timestamptz, text) IS
    'Sets what an action costs in credits, for all, one price list or one customer; JSON null withdraws it.';

CREATE FUNCTION credyt.quote(
    action      text,
    quantity    numeric DEFAULT 1,
    dimensions  jsonb DEFAULT '{}',
    asset       text DEFAULT 'credits',
    customer    text DEFAULT NULL,
    usage       jsonb DEFAULT NULL,
    cost        numeric DEFAULT NULL,
    at          timestamptz DEFAULT NULL
) RETURNS credyt.quote
    AS 'MODULE_PATHNAME', 'credyt_quote' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.quote(text, numeric, jsonb, text, text, jsonb, numeric, timestamptz) IS
    'What an action costs in credits, with the breakdown, by the prices and vendor rates of now or another moment.';

CREATE VIEW credyt.price_book AS
SELECT p.action, p.asset, p.customer, p.price_list, p.version, p.price, p.effective_at,
       lead(p.effective_at) OVER (PARTITION BY p.asset, p.action, p.customer, p.price_list
                                  ORDER BY p.effective_at, p.version) AS superseded_at
FROM credyt.prices p;
COMMENT ON VIEW credyt.price_book IS 'What does an action cost, now, before and later?';
COMMENT ON COLUMN credyt.price_book.action IS 'What the customer does.';
COMMENT ON COLUMN credyt.price_book.asset IS 'The asset it is charged in.';
COMMENT ON COLUMN credyt.price_book.customer IS 'Whose own price it is; NULL: a list''s, or for all.';
COMMENT ON COLUMN credyt.price_book.price_list IS 'The price list that it belongs to; NULL: a customer''s own, or for all.';
COMMENT ON COLUMN credyt.price_book.version IS 'Counts up from 1 within asset and action.';
COMMENT ON COLUMN credyt.price_book.price IS 'The rule, in credits; JSON null: withdrawn.';
COMMENT ON COLUMN credyt.price_book.effective_at IS 'Start, inclusive.';
COMMENT ON COLUMN credyt.price_book.superseded_at IS 'End, exclusive; NULL: until further notice.';

CREATE TABLE credyt.customer_price_lists (
    customer      text NOT NULL,
    asset         text NOT NULL,
    version       int NOT NULL CHECK (version > 0),
    price_list    text,
    as_of         timestamptz,
    effective_at  timestamptz NOT NULL,
    PRIMARY KEY (customer, asset, version)
);
COMMENT ON TABLE credyt.customer_price_lists IS 'Which prices a customer is kept on, append-only: the latest version counts. Written by credyt.set_price_list.';
COMMENT ON COLUMN credyt.customer_price_lists.customer IS 'Customer.';
COMMENT ON COLUMN credyt.customer_price_lists.asset IS 'The asset of the prices.';
COMMENT ON COLUMN credyt.customer_price_lists.version IS 'Counts up from 1 within customer and asset.';
COMMENT ON COLUMN credyt.customer_price_lists.price_list IS 'The price list; NULL: the prices for all.';
COMMENT ON COLUMN credyt.customer_price_lists.as_of IS 'The moment whose prices the customer keeps; NULL: those of now.';
COMMENT ON COLUMN credyt.customer_price_lists.effective_at IS 'Start, inclusive.';
SELECT pg_catalog.pg_extension_config_dump('credyt.customer_price_lists', '');
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
