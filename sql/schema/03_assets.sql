-- Assets: the units that are sold.

CREATE TABLE credyt.assets (
    asset       text PRIMARY KEY,
    scale       int NOT NULL CHECK (scale BETWEEN 0 AND 10),
    rounding    text NOT NULL CHECK (rounding IN ('up', 'down', 'half_up', 'half_even')),
    currency    text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    timezone    text NOT NULL,
    created_at  timestamptz NOT NULL
);
COMMENT ON TABLE credyt.assets IS 'Units of value. Written by credyt.create_asset; a definition never changes.';
COMMENT ON COLUMN credyt.assets.asset IS 'The name of the unit, such as credits.';
COMMENT ON COLUMN credyt.assets.scale IS 'Decimal places of an amount, 0 to 10.';
COMMENT ON COLUMN credyt.assets.rounding IS 'How a price is rounded to the scale: up, down, half_up or half_even.';
COMMENT ON COLUMN credyt.assets.currency IS 'The currency of paid, cost and revenue: three capital letters.';
COMMENT ON COLUMN credyt.assets.timezone IS 'The time zone in which its days and months are counted.';
COMMENT ON COLUMN credyt.assets.created_at IS 'When it was created.';
SELECT pg_catalog.pg_extension_config_dump('credyt.assets', '');
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON credyt.assets
    FOR EACH ROW EXECUTE FUNCTION credyt.announce_change('assets');
ALTER TABLE credyt.assets ENABLE ALWAYS TRIGGER announce;

CREATE TYPE credyt.asset AS (
    asset       text,
    scale       int,
    rounding    text,
    currency    text,
    timezone    text,
    created_at  timestamptz
);
COMMENT ON TYPE credyt.asset IS 'A unit of value.';
COMMENT ON COLUMN credyt.asset.asset IS 'Its name.';
COMMENT ON COLUMN credyt.asset.scale IS 'Decimal places of an amount.';
COMMENT ON COLUMN credyt.asset.rounding IS 'How a price is rounded: up, down, half_up or half_even.';
COMMENT ON COLUMN credyt.asset.currency IS 'The currency of paid, cost and revenue.';
COMMENT ON COLUMN credyt.asset.timezone IS 'The time zone of its days.';
COMMENT ON COLUMN credyt.asset.created_at IS 'When it was created.';

CREATE FUNCTION credyt.create_asset(
    asset     text,
    scale     int DEFAULT 2,
    rounding  text DEFAULT 'up',
    currency  text DEFAULT 'USD',
    timezone  text DEFAULT 'UTC'
) RETURNS credyt.asset
    AS 'MODULE_PATHNAME', 'credyt_create_asset' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.create_asset(text, int, text, text, text) IS
    'Creates a unit of value: decimal places, rounding of prices, currency, time zone of its days.';
