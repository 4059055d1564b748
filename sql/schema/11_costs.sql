-- Vendor costs that become known after the debit, or without one.

CREATE TABLE credyt.vendor_costs (
    customer           text NOT NULL,
    asset              text NOT NULL,
    seq                bigint NOT NULL,
    id                 uuid NOT NULL,
    vendor             text NOT NULL,
    model              text,
    vendor_request_id  text,
    source             text NOT NULL CHECK (source IN ('estimated', 'reported', 'invoiced')),
    cost               numeric,
    reason             text,
    rate_version       int,
    currency           text,
    exchange_rate      numeric CHECK (exchange_rate > 0),
    api_flavor         text,
    usage              jsonb,
    context            jsonb,
    debit_id           uuid,
    authorization_id   uuid,
    replaces           uuid,
    part               int,
    occurred_at        timestamptz NOT NULL,
    accounted_at       timestamptz NOT NULL,
    created_at         timestamptz NOT NULL,
    metadata           jsonb,
    PRIMARY KEY (customer, id)
);
CREATE INDEX vendor_costs_debit ON credyt.vendor_costs (customer, debit_id) WHERE debit_id IS NOT NULL;
CREATE INDEX vendor_costs_authorization ON credyt.vendor_costs (customer, authorization_id) WHERE authorization_id IS NOT NULL;
CREATE INDEX vendor_costs_created_at ON credyt.vendor_costs
    USING brin (created_at) WITH (pages_per_range = 16, autosummarize = on);
-- Recorded costs that are not known, for credyt.health; they are few.
CREATE INDEX vendor_costs_unknown ON credyt.vendor_costs (occurred_at) WHERE cost IS NULL;
COMMENT ON TABLE credyt.vendor_costs IS 'Vendor costs recorded apart from the debit, append-only. What of them counts is in credyt.cost_postings.';
COMMENT ON COLUMN credyt.vendor_costs.customer IS 'Customer.';
COMMENT ON COLUMN credyt.vendor_costs.asset IS 'The asset in whose margin it counts; the cost is in its currency.';
COMMENT ON COLUMN credyt.vendor_costs.seq IS 'Its number among the rows of the wallet, ledger rows included.';
COMMENT ON COLUMN credyt.vendor_costs.id IS 'UUIDv7.';
COMMENT ON COLUMN credyt.vendor_costs.vendor IS 'Vendor.';
COMMENT ON COLUMN credyt.vendor_costs.model IS 'Model.';
COMMENT ON COLUMN credyt.vendor_costs.vendor_request_id IS 'The vendor''s own id of the request.';
COMMENT ON COLUMN credyt.vendor_costs.source IS 'How well it is known: estimated, reported or invoiced.';
COMMENT ON COLUMN credyt.vendor_costs.cost IS 'Money, in the asset''s currency; NULL: not known.';
COMMENT ON COLUMN credyt.vendor_costs.reason IS 'Why the cost is not known; or why it was recorded again.';
COMMENT ON COLUMN credyt.vendor_costs.rate_version IS 'The version of the rate it was computed by; NULL: the caller gave the cost.';
COMMENT ON COLUMN credyt.vendor_costs.currency IS 'The currency that the cost was converted from; NULL: it was not.';
COMMENT ON COLUMN credyt.vendor_costs.exchange_rate IS 'Money in the asset''s currency for one of that currency.';
COMMENT ON COLUMN credyt.vendor_costs.api_flavor IS 'Which of the vendor''s APIs answered; NULL: the one that fits best.';
COMMENT ON COLUMN credyt.vendor_costs.usage IS 'The vendor''s own usage object.';
COMMENT ON COLUMN credyt.vendor_costs.context IS 'What the rate depends on besides the usage, such as the region.';
COMMENT ON COLUMN credyt.vendor_costs.debit_id IS 'The debit it was for.';
COMMENT ON COLUMN credyt.vendor_costs.authorization_id IS 'The authorization it was for.';
COMMENT ON COLUMN credyt.vendor_costs.replaces IS 'The cost, or the debit, whose cost this row computes again (credyt.recost).';
COMMENT ON COLUMN credyt.vendor_costs.part IS 'Where replaces is a debit: which element of its usage, from 0.';
COMMENT ON COLUMN credyt.vendor_costs.occurred_at IS 'When it happened.';
COMMENT ON COLUMN credyt.vendor_costs.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.vendor_costs.created_at IS 'When it was recorded.';
COMMENT ON COLUMN credyt.vendor_costs.metadata IS 'The application''s own notes.';
SELECT pg_catalog.pg_extension_config_dump('credyt.vendor_costs', '');

CREATE TABLE credyt.vendor_requests (
    customer           text NOT NULL,
    vendor             text NOT NULL,
    vendor_request_id  text NOT NULL,
    source             text NOT NULL,
    debit_id           uuid,
    authorization_id   uuid,
    cost_id            uuid,
    PRIMARY KEY (customer, vendor, vendor_request_id, source)
);
COMMENT ON TABLE credyt.vendor_requests IS 'Which cost counts for a vendor''s request, by source, append-only: each request counts once.';
COMMENT ON COLUMN credyt.vendor_requests.customer IS 'Customer.';
COMMENT ON COLUMN credyt.vendor_requests.vendor IS 'Vendor.';
COMMENT ON COLUMN credyt.vendor_requests.vendor_request_id IS 'The vendor''s own id of it.';
COMMENT ON COLUMN credyt.vendor_requests.source IS 'estimated, reported or invoiced; what came with a debit is estimated.';
COMMENT ON COLUMN credyt.vendor_requests.debit_id IS 'The debit it was for.';
COMMENT ON COLUMN credyt.vendor_requests.authorization_id IS 'The authorization it was for.';
COMMENT ON COLUMN credyt.vendor_requests.cost_id IS 'The recorded cost; NULL: it came with the debit.';
SELECT pg_catalog.pg_extension_config_dump('credyt.vendor_requests', '');

CREATE TABLE credyt.cost_postings (
    customer      text NOT NULL,
    asset         text NOT NULL,
    seq           bigint NOT NULL,
    nth           int NOT NULL CHECK (nth > 0),
    accounted_at  timestamptz NOT NULL,
    action        text,
    scopes        text[],
    debits        int NOT NULL CHECK (debits BETWEEN -1 AND 1),
    costed        int NOT NULL CHECK (costed BETWEEN -1 AND 1),
    quantity      numeric NOT NULL,
    lines         jsonb NOT NULL,
    PRIMARY KEY (customer, asset, seq, nth)
);
CREATE INDEX cost_postings_accounted_at ON credyt.cost_postings (asset, accounted_at);
COMMENT ON TABLE credyt.cost_postings IS 'What a recorded cost changes in margin, append-only: reports add these to the ledger''s rows.';
COMMENT ON COLUMN credyt.cost_postings.customer IS 'Customer.';
COMMENT ON COLUMN credyt.cost_postings.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.cost_postings.seq IS 'The cost''s number among the rows of the wallet.';
COMMENT ON COLUMN credyt.cost_postings.nth IS 'The number of the posting within the cost, from 1.';
COMMENT ON COLUMN credyt.cost_postings.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.cost_postings.action IS 'The debit''s action; NULL: no debit.';
COMMENT ON COLUMN credyt.cost_postings.scopes IS 'The debit''s scopes.';
COMMENT ON COLUMN credyt.cost_postings.debits IS '1: a debit is added; -1: a debit is taken out; 0: neither.';
COMMENT ON COLUMN credyt.cost_postings.costed IS 'Those of them whose cost is known.';
COMMENT ON COLUMN credyt.cost_postings.quantity IS 'Their quantity.';
COMMENT ON COLUMN credyt.cost_postings.lines IS 'By vendor, model and kind of grant: credits, revenue and cost, as strings (cost null: not known).';
SELECT pg_catalog.pg_extension_config_dump('credyt.cost_postings', '');

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.vendor_costs
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('vendor_costs');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.vendor_requests
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('vendor_requests');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.cost_postings
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('cost_postings');

CREATE TYPE credyt.recorded_cost AS (
    id                 uuid,
    customer           text,
    asset              text,
    vendor             text,
    model              text,
    vendor_request_id  text,
    source             text,
    cost               numeric,
    reason             text,
    rate_version       int,
    currency           text,
    exchange_rate      numeric,
    debit_id           uuid,
    authorization_id   uuid,
    occurred_at        timestamptz,
    accounted_at       timestamptz,
    created_at         timestamptz,
    replayed           boolean
);
COMMENT ON TYPE credyt.recorded_cost IS 'The answer to record_cost.';
COMMENT ON COLUMN credyt.recorded_cost.id IS 'The row of credyt.vendor_costs; for a cost that came with a debit, the debit.';
COMMENT ON COLUMN credyt.recorded_cost.customer IS 'Customer.';
COMMENT ON COLUMN credyt.recorded_cost.asset IS 'The asset in whose margin it counts.';
COMMENT ON COLUMN credyt.recorded_cost.vendor IS 'Vendor.';
COMMENT ON COLUMN credyt.recorded_cost.model IS 'Model.';
COMMENT ON COLUMN credyt.recorded_cost.vendor_request_id IS 'The vendor''s own id of the request.';
COMMENT ON COLUMN credyt.recorded_cost.source IS 'estimated, reported or invoiced.';
COMMENT ON COLUMN credyt.recorded_cost.cost IS 'Money, in the asset''s currency; NULL: not known.';
COMMENT ON COLUMN credyt.recorded_cost.reason IS 'Why the cost is not known.';
COMMENT ON COLUMN credyt.recorded_cost.rate_version IS 'The version of the rate it was computed by; NULL: the caller gave the cost.';
COMMENT ON COLUMN credyt.recorded_cost.currency IS 'The currency that the cost was converted from; NULL: it was not.';
COMMENT ON COLUMN credyt.recorded_cost.exchange_rate IS 'Money in the asset''s currency for one of that currency.';
COMMENT ON COLUMN credyt.recorded_cost.debit_id IS 'The debit it counts with.';
COMMENT ON COLUMN credyt.recorded_cost.authorization_id IS 'The authorization it was recorded for.';
COMMENT ON COLUMN credyt.recorded_cost.occurred_at IS 'When it happened.';
COMMENT ON COLUMN credyt.recorded_cost.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.recorded_cost.created_at IS 'When it was recorded.';
COMMENT ON COLUMN credyt.recorded_cost.replayed IS 'True: it was recorded before, and nothing changed now.';

CREATE FUNCTION credyt.record_cost(
    customer           text,
    vendor             text,
    model              text DEFAULT NULL,
    usage              jsonb DEFAULT NULL,
    cost               numeric DEFAULT NULL,
    debit_id           uuid DEFAULT NULL,
    authorization_id   uuid DEFAULT NULL,
    vendor_request_id  text DEFAULT NULL,
    api_flavor         text DEFAULT NULL,
    source             text DEFAULT 'estimated',
    occurred_at        timestamptz DEFAULT NULL,
    context            jsonb DEFAULT '{}',
    metadata           jsonb DEFAULT NULL
) RETURNS credyt.recorded_cost
    AS 'MODULE_PATHNAME', 'credyt_record_cost' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.record_cost(text, text, text, jsonb, numeric, uuid, uuid, text, text, text, timestamptz, jsonb, jsonb) IS
    'Records what a vendor charges for a debit, an authorization, or a customer alone; each call counts once.';

CREATE TYPE credyt.recost_result AS (
    customer     text,
    asset        text,
    debit_id     uuid,
    cost_id      uuid,
    vendor       text,
    model        text,
    cost_before  numeric,
    cost_after   numeric,
    occurred_at  timestamptz
);
COMMENT ON TYPE credyt.recost_result IS 'A cost that credyt.recost corrected.';
COMMENT ON COLUMN credyt.recost_result.customer IS 'Customer.';
COMMENT ON COLUMN credyt.recost_result.asset IS 'The asset in whose margin it counts.';
COMMENT ON COLUMN credyt.recost_result.debit_id IS 'The debit.';
COMMENT ON COLUMN credyt.recost_result.cost_id IS 'The recorded cost; NULL: it came with the debit.';
COMMENT ON COLUMN credyt.recost_result.vendor IS 'Vendor.';
COMMENT ON COLUMN credyt.recost_result.model IS 'Model.';
COMMENT ON COLUMN credyt.recost_result.cost_before IS 'Money, as it was known; NULL: it was not.';
COMMENT ON COLUMN credyt.recost_result.cost_after IS 'Money, by the rate that counts now.';
COMMENT ON COLUMN credyt.recost_result.occurred_at IS 'When it happened.';

CREATE FUNCTION credyt.recost(
    vendor   text,
    model    text DEFAULT NULL,
    since    timestamptz DEFAULT NULL,
    dry_run  boolean DEFAULT false
) RETURNS SETOF credyt.recost_result
    AS 'MODULE_PATHNAME', 'credyt_recost' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.recost(text, text, timestamptz, boolean) IS
    'Computes again what was costed by another rate, or not at all, and records what differs.';

CREATE VIEW credyt.uncosted_usage AS
SELECT l.customer, p.part->>'vendor' AS vendor, p.part->>'model' AS model,
       CASE jsonb_typeof(l.usage) WHEN 'array' THEN l.usage->(p.nth::int - 1) ELSE l.usage END AS usage,
       l.id AS debit_id, l.occurred_at, p.part->>'reason' AS reason
FROM credyt.ledger l
CROSS JOIN LATERAL jsonb_array_elements(l.costs) WITH ORDINALITY AS p (part, nth)
WHERE l.kind = 'debit' AND p.part->>'cost' IS NULL
  AND NOT EXISTS (
      SELECT FROM credyt.vendor_costs c
      WHERE c.customer = l.customer AND c.debit_id = l.id AND c.cost IS NOT NULL
        AND CASE WHEN c.replaces = l.id THEN c.part = p.nth - 1
                 WHEN c.vendor <> p.part->>'vendor' THEN false
                 WHEN c.vendor_request_id <> p.part->>'vendor_request_id' THEN false
                 WHEN c.vendor_request_id = p.part->>'vendor_request_id' THEN true
                 ELSE coalesce(c.model = p.part->>'model', true) END)
UNION ALL
SELECT c.customer, c.vendor, c.model, c.usage, c.debit_id, c.occurred_at, c.reason
FROM credyt.vendor_costs c
WHERE c.cost IS NULL
  AND NOT EXISTS (
      SELECT FROM credyt.vendor_costs k
      WHERE k.customer = c.customer AND k.cost IS NOT NULL
        AND (k.replaces = c.id
             OR coalesce(k.debit_id, k.authorization_id) = coalesce(c.debit_id, c.authorization_id)
                AND k.vendor = c.vendor
                AND coalesce(k.vendor_request_id = c.vendor_request_id, k.model = c.model, true)
             OR k.vendor = c.vendor AND k.vendor_request_id = c.vendor_request_id));
COMMENT ON VIEW credyt.uncosted_usage IS 'Which usage has no cost yet, and why? Set the rate and call credyt.recost, or record the cost.';
COMMENT ON COLUMN credyt.uncosted_usage.customer IS 'Customer.';
COMMENT ON COLUMN credyt.uncosted_usage.vendor IS 'Vendor.';
COMMENT ON COLUMN credyt.uncosted_usage.model IS 'Model.';
COMMENT ON COLUMN credyt.uncosted_usage.usage IS 'The usage as it was given.';
COMMENT ON COLUMN credyt.uncosted_usage.debit_id IS 'The debit it is for.';
COMMENT ON COLUMN credyt.uncosted_usage.occurred_at IS 'When it happened.';
COMMENT ON COLUMN credyt.uncosted_usage.reason IS 'Why it has no cost.';
