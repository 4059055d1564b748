-- What vendors charge: how they are read, and their rates.

CREATE TABLE credyt.vendors (
    vendor      text NOT NULL,
    version     int NOT NULL CHECK (version > 0),
    source      text NOT NULL CHECK (source IN ('own', 'genai-prices', 'litellm')),
    definition  jsonb NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (vendor, version)
);
COMMENT ON TABLE credyt.vendors IS 'How vendors, models and usage are recognized and read, append-only; the last version counts.';
COMMENT ON COLUMN credyt.vendors.vendor IS 'The vendor''s id.';
COMMENT ON COLUMN credyt.vendors.version IS 'Counts up from 1 within the vendor.';
COMMENT ON COLUMN credyt.vendors.source IS 'The format of the file it came from.';
COMMENT ON COLUMN credyt.vendors.definition IS 'As JSON: how its usage is read and its models are matched: position, match, fallback, extractors, models.';
COMMENT ON COLUMN credyt.vendors.created_at IS 'When it was imported.';
SELECT pg_catalog.pg_extension_config_dump('credyt.vendors', '');

CREATE TABLE credyt.vendor_rates (
    vendor        text NOT NULL,
    model         text NOT NULL,
    version       int NOT NULL CHECK (version > 0),
    source        text NOT NULL CHECK (source IN ('own', 'genai-prices', 'litellm')),
    currency      text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    rates         jsonb NOT NULL,
    effective_at  timestamptz,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (vendor, model, version)
);
COMMENT ON TABLE credyt.vendor_rates IS 'Every version of every model''s rates, append-only; read credyt.vendor_rate_book.';
COMMENT ON COLUMN credyt.vendor_rates.vendor IS 'Vendor.';
COMMENT ON COLUMN credyt.vendor_rates.model IS 'Model.';
COMMENT ON COLUMN credyt.vendor_rates.version IS 'Counts up from 1 within vendor and model.';
COMMENT ON COLUMN credyt.vendor_rates.source IS 'own (credyt.set_vendor_rate), genai-prices or litellm (the file''s format). Where there are several, the first counts.';
COMMENT ON COLUMN credyt.vendor_rates.currency IS 'The currency of the prices.';
COMMENT ON COLUMN credyt.vendor_rates.rates IS 'As JSON, by unit: prices (of dated or hourly ones the last active counts) and variants by context. null: withdrawn.';
COMMENT ON COLUMN credyt.vendor_rates.effective_at IS 'Start, inclusive, NULL: from the beginning; it ends where a later one of the same source starts.';
COMMENT ON COLUMN credyt.vendor_rates.created_at IS 'When it was set.';
SELECT pg_catalog.pg_extension_config_dump('credyt.vendor_rates', '');

CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON credyt.vendors
    FOR EACH ROW EXECUTE FUNCTION credyt.announce_change('vendors');
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON credyt.vendor_rates
    FOR EACH ROW EXECUTE FUNCTION credyt.announce_change('vendor_rates');
ALTER TABLE credyt.vendors ENABLE ALWAYS TRIGGER announce;
ALTER TABLE credyt.vendor_rates ENABLE ALWAYS TRIGGER announce;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.vendors
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('vendors');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.vendor_rates
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('vendor_rates');

CREATE TYPE credyt.vendor_import AS (
    added         int,
    changed       int,
    unchanged     int,
    skipped       int,
    unrecognised  jsonb
);
COMMENT ON TYPE credyt.vendor_import IS 'The answer to import_vendor_rates: how many models it changed, or with dry_run would change.';
COMMENT ON COLUMN credyt.vendor_import.added IS 'Models that this format had no rate of.';
COMMENT ON COLUMN credyt.vendor_import.changed IS 'Models with another rate than the one that counted.';
COMMENT ON COLUMN credyt.vendor_import.unchanged IS 'Models whose rate is the same.';
COMMENT ON COLUMN credyt.vendor_import.skipped IS 'Models without a price.';
COMMENT ON COLUMN credyt.vendor_import.unrecognised IS 'Fields that the importer ignored, and how often each occurred.';

CREATE TYPE credyt.vendor_cost_result AS (
    vendor        text,
    model         text,
    cost          numeric,
    currency      text,
    components    jsonb,
    usage         jsonb,
    rate_version  int,
    reason        text
);
COMMENT ON TYPE credyt.vendor_cost_result IS 'What a vendor charges for some usage, as far as it is known.';
COMMENT ON COLUMN credyt.vendor_cost_result.vendor IS 'The vendor, by the name that its rates have.';
COMMENT ON COLUMN credyt.vendor_cost_result.model IS 'The model, by the name that its rates have.';
COMMENT ON COLUMN credyt.vendor_cost_result.cost IS 'Money, at most 12 decimals; NULL: not known, see reason.';
COMMENT ON COLUMN credyt.vendor_cost_result.currency IS 'The currency of the cost.';
COMMENT ON COLUMN credyt.vendor_cost_result.components IS 'Unit by unit: count, price, per (units that the price is for), cost; above: the tier; price null: it costs nothing.';
COMMENT ON COLUMN credyt.vendor_cost_result.usage IS 'Amounts by unit, without overlap: input_tokens are those not cached. Meters in prices read these.';
COMMENT ON COLUMN credyt.vendor_cost_result.rate_version IS 'The version of the rate in credyt.vendor_rates.';
COMMENT ON COLUMN credyt.vendor_cost_result.reason IS 'Why the cost is not known.';

CREATE FUNCTION credyt.import_vendor_rates(
    rates         jsonb,
    format        text DEFAULT 'genai-prices',
    effective_at  timestamptz DEFAULT NULL,
    dry_run       boolean DEFAULT false
) RETURNS credyt.vendor_import
    AS 'MODULE_PATHNAME', 'credyt_import_vendor_rates' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.import_vendor_rates(jsonb, text, timestamptz, boolean) IS
    'Imports vendors and rates, in USD, from a file of genai-prices or LiteLLM; adds only what changed.';

CREATE FUNCTION credyt.set_vendor_rate(
    vendor        text,
    model         text,
    rates         jsonb,
    effective_at  timestamptz DEFAULT NULL
) RETURNS credyt.vendor_rates
    AS 'MODULE_PATHNAME', 'credyt_set_vendor_rate' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.set_vendor_rate(text, text, jsonb, timestamptz) IS
    'Sets what a vendor charges you for a model; it counts before any imported rate.';

CREATE FUNCTION credyt.vendor_cost(
    vendor      text,
    model       text,
    usage       jsonb,
    api_flavor  text DEFAULT NULL,
    at          timestamptz DEFAULT NULL,
    context     jsonb DEFAULT '{}'
) RETURNS credyt.vendor_cost_result
    AS 'MODULE_PATHNAME', 'credyt_vendor_cost' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.vendor_cost(text, text, jsonb, text, timestamptz, jsonb) IS
    'What a vendor charges for some usage at a moment; NULL with a reason where that is not known.';

-- One line of a model's rates is one source; the prices within one version are dated, too.
CREATE VIEW credyt.vendor_rate_book AS
SELECT b.vendor, b.model, b.unit || b.when_used AS unit, b.price, b.per, b.effective_at, b.superseded_at, b.source
FROM (
    SELECT r.vendor, r.model, u.unit, t.price, (u.rate ->> 'per')::numeric AS per, r.source,
           concat(', from ' || (p.part ->> 'start_time') || ' to ' || (p.part ->> 'end_time'),
                  ', on days ' || (p.part ->> 'weekdays'),
                  (SELECT string_agg(', ' || w.key || ' ' || w.value, '' ORDER BY w.key)
                   FROM jsonb_each_text(p.part -> 'when') w),
                  ', above ' || t.above || ' input tokens') AS when_used,
           CASE WHEN p.nth = 1 AND p.part -> 'when' IS NULL THEN r.effective_at
                ELSE greatest(r.effective_at, (p.part ->> 'start_date')::timestamp AT TIME ZONE 'UTC')
           END AS effective_at,
           least(r.superseded_at,
                 (SELECT min((later.part ->> 'start_date')::timestamp AT TIME ZONE 'UTC')
                  FROM jsonb_array_elements(r.rates -> 'prices') WITH ORDINALITY AS later (part, nth)
                  WHERE later.nth > p.nth AND p.part -> 'when' IS NULL)) AS superseded_at
    FROM (
        SELECT v.vendor, v.model, v.version, v.source, v.rates, v.effective_at,
               lead(v.effective_at) OVER (PARTITION BY v.vendor, v.model, v.source
                                          ORDER BY v.effective_at NULLS FIRST, v.version) AS superseded_at
        FROM credyt.vendor_rates v
    ) r
    CROSS JOIN LATERAL (
        SELECT a.part, a.nth FROM jsonb_array_elements(r.rates -> 'prices') WITH ORDINALITY AS a (part, nth)
        UNION ALL
        SELECT a.part, a.nth FROM jsonb_array_elements(r.rates -> 'variants') WITH ORDINALITY AS a (part, nth)
    ) p
    CROSS JOIN LATERAL jsonb_each(p.part -> 'units') AS u (unit, rate)
    CROSS JOIN LATERAL (
        SELECT (u.rate ->> 'price')::numeric AS price, NULL AS above
        UNION ALL
        SELECT (a.tier ->> 'price')::numeric, a.tier ->> 'above'
        FROM jsonb_array_elements(u.rate -> 'tiers') AS a (tier)
    ) t
) b
WHERE b.superseded_at IS NULL OR b.effective_at IS NULL OR b.effective_at < b.superseded_at;
COMMENT ON VIEW credyt.vendor_rate_book IS 'What does a vendor charge for a model? A row for each unit, tier, hour and variant.';
COMMENT ON COLUMN credyt.vendor_rate_book.vendor IS 'Vendor.';
COMMENT ON COLUMN credyt.vendor_rate_book.model IS 'Model.';
COMMENT ON COLUMN credyt.vendor_rate_book.unit IS 'The unit, such as input_tokens or gpu_second, with its tier, hours or variant where it has one.';
COMMENT ON COLUMN credyt.vendor_rate_book.price IS 'Money, in the currency of the rate (credyt.vendor_rates); imported ones are in USD.';
COMMENT ON COLUMN credyt.vendor_rate_book.per IS 'Number of units that the price is for.';
COMMENT ON COLUMN credyt.vendor_rate_book.effective_at IS 'Start, inclusive; NULL: from the beginning.';
COMMENT ON COLUMN credyt.vendor_rate_book.superseded_at IS 'End, exclusive; NULL: until further notice.';
COMMENT ON COLUMN credyt.vendor_rate_book.source IS 'own, genai-prices or litellm. Where several have the model, the first counts.';
