-- Vendor costs that become known after the debit, or without one.

CREATE TABLE credyt.vendor_costs (
    customer           text NOT NULL,
    asset              text NOT NULL,
    seq                bigint NOT NULL,
    id                 uuid NOT NULL,
    vendor             text NOT NULL,
    model              text,
    vendor_request_id  text,
    source             text NOT NULL,
    cost               numeric,
    reason             text,
    rate_version       int,
    api_flavor         text NOT NULL,
    usage              jsonb,
    context            jsonb,
    debit_id           uuid,
    authorization_id   uuid,
    replaces           uuid,
    occurred_at        timestamptz NOT NULL,
    accounted_at       timestamptz NOT NULL,
    created_at         timestamptz NOT NULL,
    metadata           jsonb,
    PRIMARY KEY (customer, id)
);
CREATE UNIQUE INDEX vendor_costs_request ON credyt.vendor_costs (customer, vendor, vendor_request_id, source)
    WHERE vendor_request_id IS NOT NULL AND replaces IS NULL;
CREATE INDEX vendor_costs_debit ON credyt.vendor_costs (customer, debit_id) WHERE debit_id IS NOT NULL;
CREATE INDEX vendor_costs_authorization ON credyt.vendor_costs (customer, authorization_id) WHERE authorization_id IS NOT NULL;
COMMENT ON TABLE credyt.vendor_costs IS 'What vendors charge us, recorded apart from the debit, append-only. What of it counts is in credyt.cost_postings.';
COMMENT ON COLUMN credyt.vendor_costs.customer IS 'For whom.';
COMMENT ON COLUMN credyt.vendor_costs.asset IS 'In whose currency it is, and in whose margin it counts.';
COMMENT ON COLUMN credyt.vendor_costs.seq IS 'Its number among the rows of the wallet, ledger rows included.';
COMMENT ON COLUMN credyt.vendor_costs.id IS 'UUIDv7.';
COMMENT ON COLUMN credyt.vendor_costs.vendor IS 'Who charges it.';
COMMENT ON COLUMN credyt.vendor_costs.model IS 'For what.';
COMMENT ON COLUMN credyt.vendor_costs.vendor_request_id IS 'The vendor''s own id of the request.';
COMMENT ON COLUMN credyt.vendor_costs.source IS 'How well it is known: estimated, reported or invoiced.';
COMMENT ON COLUMN credyt.vendor_costs.cost IS 'Money, in the asset''s currency; NULL: not known.';
COMMENT ON COLUMN credyt.vendor_costs.reason IS 'Why the cost is not known; or why it was recorded again.';
COMMENT ON COLUMN credyt.vendor_costs.rate_version IS 'The version of the rate it was computed by; NULL: it was given.';
COMMENT ON COLUMN credyt.vendor_costs.api_flavor IS 'How the usage is read.';
COMMENT ON COLUMN credyt.vendor_costs.usage IS 'The vendor''s own usage object.';
COMMENT ON COLUMN credyt.vendor_costs.context IS 'What else the rate depends on.';
COMMENT ON COLUMN credyt.vendor_costs.debit_id IS 'The debit it was for.';
COMMENT ON COLUMN credyt.vendor_costs.authorization_id IS 'The authorization it was for.';
COMMENT ON COLUMN credyt.vendor_costs.replaces IS 'The cost, or the debit, whose cost this row computes anew (credyt.recost).';
COMMENT ON COLUMN credyt.vendor_costs.occurred_at IS 'When it happened.';
COMMENT ON COLUMN credyt.vendor_costs.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.vendor_costs.created_at IS 'When it was recorded.';
COMMENT ON COLUMN credyt.vendor_costs.metadata IS 'The application''s own notes.';

CREATE TABLE credyt.cost_postings (
    customer      text NOT NULL,
    asset         text NOT NULL,
    seq           bigint NOT NULL,
    nth           int NOT NULL,
    accounted_at  timestamptz NOT NULL,
    action        text,
    scopes        text[],
    debits        int NOT NULL,
    costed        int NOT NULL,
    quantity      numeric NOT NULL,
    lines         jsonb NOT NULL,
    PRIMARY KEY (customer, asset, seq, nth)
);
CREATE INDEX cost_postings_accounted_at ON credyt.cost_postings (asset, accounted_at);
COMMENT ON TABLE credyt.cost_postings IS 'What a recorded cost changes in margin, append-only: reports add these to the ledger''s rows. A cost of a debit takes the debit out as it was reported before, and puts it in as it is known now.';
COMMENT ON COLUMN credyt.cost_postings.customer IS 'Whose.';
COMMENT ON COLUMN credyt.cost_postings.asset IS 'In which asset; money is in its currency.';
COMMENT ON COLUMN credyt.cost_postings.seq IS 'The cost''s number among the rows of the wallet.';
COMMENT ON COLUMN credyt.cost_postings.nth IS 'The number of the posting within the cost, from 1.';
COMMENT ON COLUMN credyt.cost_postings.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.cost_postings.action IS 'The debit''s action; NULL: no debit.';
COMMENT ON COLUMN credyt.cost_postings.scopes IS 'The debit''s scopes.';
COMMENT ON COLUMN credyt.cost_postings.debits IS 'Debits put in (1), taken out (-1), or neither (0).';
COMMENT ON COLUMN credyt.cost_postings.costed IS 'Those of them whose cost is known.';
COMMENT ON COLUMN credyt.cost_postings.quantity IS 'Their quantity.';
COMMENT ON COLUMN credyt.cost_postings.lines IS 'By vendor, model and kind of grant: credits, revenue and cost, as strings (cost null: not known).';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.vendor_costs
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.cost_postings
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change();
