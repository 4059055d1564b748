-- What a customer may see of their own: what was used, and what happened. No revenue, no cost, no vendor, no metadata.

CREATE TYPE credyt.usage_row AS (
    bucket_start  timestamptz,
    action        text,
    model         text,
    scope         text,
    kind          text,
    calls         bigint,
    quantity      numeric,
    credits       numeric
);
COMMENT ON TYPE credyt.usage_row IS 'What a customer used in one bucket of time.';
COMMENT ON COLUMN credyt.usage_row.bucket_start IS 'Start of the bucket, in the asset''s time zone; of bucket all what since says.';
COMMENT ON COLUMN credyt.usage_row.action IS 'What the customer did; NULL unless asked by.';
COMMENT ON COLUMN credyt.usage_row.model IS 'The dimension model of the call; NULL unless asked by.';
COMMENT ON COLUMN credyt.usage_row.scope IS 'Scope of the call, such as user:alice; NULL unless asked by.';
COMMENT ON COLUMN credyt.usage_row.kind IS 'Kind of the grants that paid, or overdraft; NULL unless asked by.';
COMMENT ON COLUMN credyt.usage_row.calls IS 'Debits, and authorizations with a capture; refunds are not taken off.';
COMMENT ON COLUMN credyt.usage_row.quantity IS 'Sum of their quantities; refunds are not taken off.';
COMMENT ON COLUMN credyt.usage_row.credits IS 'Credits spent, less those refunded in this bucket.';

CREATE FUNCTION credyt.usage(
    customer  text,
    since     timestamptz DEFAULT NULL,
    until     timestamptz DEFAULT NULL,
    bucket    text DEFAULT 'day',
    "by"      text[] DEFAULT '{}',
    asset     text DEFAULT 'credits'
) RETURNS SETOF credyt.usage_row
    AS 'MODULE_PATHNAME', 'credyt_usage' LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION credyt.usage(text, timestamptz, timestamptz, text, text[], text) IS
    'What a customer used by hour, day, week, month or in all, as a chart for that customer needs it.';

CREATE TYPE credyt.history_row AS (
    id           uuid,
    occurred_at  timestamptz,
    kind         text,
    action       text,
    quantity     numeric,
    credits      numeric,
    balance      numeric,
    reason       text
);
COMMENT ON TYPE credyt.history_row IS 'What happened in a wallet, for its customer.';
COMMENT ON COLUMN credyt.history_row.id IS 'The ledger row; NULL: due, and not booked yet.';
COMMENT ON COLUMN credyt.history_row.occurred_at IS 'When it happened.';
COMMENT ON COLUMN credyt.history_row.kind IS 'grant, debit, refund, expiry, revocation, settlement or transfer.';
COMMENT ON COLUMN credyt.history_row.action IS 'What the customer did.';
COMMENT ON COLUMN credyt.history_row.quantity IS 'How much of it.';
COMMENT ON COLUMN credyt.history_row.credits IS 'Credits that came (positive) or went (negative).';
COMMENT ON COLUMN credyt.history_row.balance IS 'Credits after this row, future grants included, less what is owed.';
COMMENT ON COLUMN credyt.history_row.reason IS 'Why, in a word or a sentence.';

CREATE FUNCTION credyt.history(
    customer  text,
    asset     text DEFAULT 'credits',
    before    uuid DEFAULT NULL,
    count     int DEFAULT 50
) RETURNS SETOF credyt.history_row
    AS 'MODULE_PATHNAME', 'credyt_history' LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION credyt.history(text, text, uuid, int) IS
    'What happened in a wallet, newest first, page by page: before is the last id of the page before.';
