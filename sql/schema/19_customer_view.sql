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

CREATE VIEW credyt.usage_lines AS
SELECT l.customer, l.asset, l.id, l.seq, l.occurred_at, l.action,
       coalesce(d.dimensions, l.dimensions) AS dimensions, coalesce(d.scopes, l.scopes) AS scopes, l.allocations,
       (l.kind = 'debit' AND (l.authorization_id IS NULL OR l.id = h.first_capture))::int AS calls,
       CASE WHEN l.kind = 'debit' THEN coalesce(l.quantity, 0) ELSE 0 END AS quantity,
       -l.credits AS credits
FROM credyt.ledger l
-- OFFSET 0: what a row refers to is looked up row by row; a join by hash would read all that the customer has.
LEFT JOIN LATERAL (
    SELECT d.dimensions, d.scopes FROM credyt.ledger d
    WHERE l.kind = 'refund' AND d.customer = l.customer AND d.id = l.refers_to OFFSET 0
) d ON true
LEFT JOIN LATERAL (
    SELECT h.first_capture FROM credyt.authorizations h
    WHERE l.authorization_id IS NOT NULL AND h.customer = l.customer AND h.id = l.authorization_id OFFSET 0
) h ON true
WHERE l.kind IN ('debit', 'refund');
COMMENT ON VIEW credyt.usage_lines IS 'What does each debit and refund add to usage? credyt.usage adds up nothing else; ask for one customer.';
COMMENT ON COLUMN credyt.usage_lines.customer IS 'Whose.';
COMMENT ON COLUMN credyt.usage_lines.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.usage_lines.id IS 'The ledger row.';
COMMENT ON COLUMN credyt.usage_lines.seq IS 'Its number among the rows of the wallet.';
COMMENT ON COLUMN credyt.usage_lines.occurred_at IS 'When it happened: a debit when the caller says, a refund when it was given.';
COMMENT ON COLUMN credyt.usage_lines.action IS 'What the customer did.';
COMMENT ON COLUMN credyt.usage_lines.dimensions IS 'The dimensions of the debit, also of what was refunded of it.';
COMMENT ON COLUMN credyt.usage_lines.scopes IS 'The scopes of the debit, also of what was refunded of it.';
COMMENT ON COLUMN credyt.usage_lines.allocations IS 'Which grants paid, or get back, as in the ledger.';
COMMENT ON COLUMN credyt.usage_lines.calls IS '1 for a debit and for the first capture of an authorization, else 0.';
COMMENT ON COLUMN credyt.usage_lines.quantity IS 'The quantity of the debit; 0 for a refund.';
COMMENT ON COLUMN credyt.usage_lines.credits IS 'Credits spent; of a refund negative.';

-- A rollup beside those of margin: by the day on which it happened, not the one on which it counts in the books. It
-- holds a wallet's rows up to the one that rollup_progress names, and usage adds what is newer.
CREATE TABLE credyt.usage_days (
    customer  text NOT NULL,
    asset     text NOT NULL,
    day       date NOT NULL,
    action    text NOT NULL,
    last_id   uuid NOT NULL,
    calls     bigint NOT NULL,
    quantity  numeric NOT NULL,
    credits   numeric NOT NULL,
    PRIMARY KEY (customer, asset, day, action)
) WITH (fillfactor = 90);
COMMENT ON TABLE credyt.usage_days IS 'Rollup of credyt.usage_lines by customer, day and action. Written by credyt.maintain, read by credyt.usage.';
COMMENT ON COLUMN credyt.usage_days.customer IS 'Whose.';
COMMENT ON COLUMN credyt.usage_days.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.usage_days.day IS 'The day on which it happened, in the time zone of the asset.';
COMMENT ON COLUMN credyt.usage_days.action IS 'What the customer did.';
COMMENT ON COLUMN credyt.usage_days.last_id IS 'The last ledger row of the day; usage that is told late has a row of a later time.';
COMMENT ON COLUMN credyt.usage_days.calls IS 'Debits, and authorizations with a capture.';
COMMENT ON COLUMN credyt.usage_days.quantity IS 'Sum of their quantities.';
COMMENT ON COLUMN credyt.usage_days.credits IS 'Credits spent, less refunds.';
SELECT pg_catalog.pg_extension_config_dump('credyt.usage_days', '');

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
