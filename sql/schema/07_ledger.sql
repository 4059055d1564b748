-- The ledger: debits, refunds, transfers, and what is owed.

CREATE TABLE credyt.ledger (
    customer          text NOT NULL,
    asset             text NOT NULL,
    id                uuid NOT NULL,
    seq               bigint NOT NULL,
    created_at        timestamptz NOT NULL,
    occurred_at       timestamptz NOT NULL,
    accounted_at      timestamptz NOT NULL,
    price_version     int,
    kind              text NOT NULL,
    action            text,
    quantity          numeric,
    credits           numeric NOT NULL,
    balance           numeric NOT NULL,
    revenue           numeric NOT NULL,
    cost              numeric,
    costs             jsonb,
    allocations       jsonb NOT NULL,
    authorization_id  uuid,
    refers_to         uuid,
    scopes            text[],
    reason            text,
    dimensions        jsonb,
    usage             jsonb,
    idempotency_key   text,
    request           bytea,
    metadata          jsonb,
    PRIMARY KEY (customer, id)
);
CREATE UNIQUE INDEX ledger_key ON credyt.ledger (customer, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX ledger_authorization ON credyt.ledger (customer, authorization_id) WHERE authorization_id IS NOT NULL;
CREATE INDEX ledger_refers_to ON credyt.ledger (customer, refers_to) WHERE refers_to IS NOT NULL;
-- A report reads rows newer than the rollups, and the parts of days at its ends, from the ledger by
-- this index; maintain finds by it what was booked lately. It is some hundred bytes for each megabyte of ledger.
CREATE INDEX ledger_accounted_at ON credyt.ledger
    USING brin (accounted_at timestamptz_minmax_multi_ops, created_at) WITH (pages_per_range = 64, autosummarize = on);
COMMENT ON TABLE credyt.ledger IS 'Everything that moved credits, append-only. What leaves the wallet is negative; revenue earned is positive.';
COMMENT ON COLUMN credyt.ledger.customer IS 'Customer.';
COMMENT ON COLUMN credyt.ledger.asset IS 'Asset.';
COMMENT ON COLUMN credyt.ledger.id IS 'UUIDv7.';
COMMENT ON COLUMN credyt.ledger.seq IS 'The number of the row in its wallet, from 1 without gaps.';
COMMENT ON COLUMN credyt.ledger.created_at IS 'When it was booked.';
COMMENT ON COLUMN credyt.ledger.occurred_at IS 'When it happened: for a debit what the caller says, for an expiry the moment it fell due.';
COMMENT ON COLUMN credyt.ledger.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.ledger.price_version IS 'The version of the price that was charged; NULL: the caller gave the credits.';
COMMENT ON COLUMN credyt.ledger.kind IS 'grant, debit, refund, expiry, revocation, settlement or transfer.';
COMMENT ON COLUMN credyt.ledger.action IS 'What the customer did.';
COMMENT ON COLUMN credyt.ledger.quantity IS 'How much of it; of a revocation the credits asked for, NULL for the whole grant.';
COMMENT ON COLUMN credyt.ledger.credits IS 'Credits that came (positive) or went (negative).';
COMMENT ON COLUMN credyt.ledger.balance IS 'Sum of credits of the wallet''s rows up to this one: future grants included, less what is owed.';
COMMENT ON COLUMN credyt.ledger.revenue IS 'Money earned (positive) or given back (negative), in the asset''s currency.';
COMMENT ON COLUMN credyt.ledger.cost IS 'Vendor cost given with it, in the asset''s currency; NULL: not known.';
COMMENT ON COLUMN credyt.ledger.costs IS 'Vendors'' models behind it, each with its cost (null: not known, with the reason); of a refund or settlement, weights.';
COMMENT ON COLUMN credyt.ledger.allocations IS 'Grant by grant: credits, and revenue earned or deferred money moved, as strings. docs/reference.md lists the keys.';
COMMENT ON COLUMN credyt.ledger.authorization_id IS 'The authorization it captures.';
COMMENT ON COLUMN credyt.ledger.refers_to IS 'The debit it refunds or settles, the grant it issues, ends or revokes; of a transfer in the sender''s row.';
COMMENT ON COLUMN credyt.ledger.scopes IS 'Spend limits it counts under.';
COMMENT ON COLUMN credyt.ledger.reason IS 'Why, in a word or a sentence.';
COMMENT ON COLUMN credyt.ledger.dimensions IS 'What the price was told about the action.';
COMMENT ON COLUMN credyt.ledger.usage IS 'The vendor''s usage object.';
COMMENT ON COLUMN credyt.ledger.idempotency_key IS 'Unique per customer.';
COMMENT ON COLUMN credyt.ledger.request IS 'Hash of what was asked, to know a replay from another request.';
COMMENT ON COLUMN credyt.ledger.metadata IS 'The application''s own notes.';
SELECT pg_catalog.pg_extension_config_dump('credyt.ledger', '');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.ledger
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('ledger');

CREATE TABLE credyt.open_debts (
    customer  text NOT NULL,
    asset     text NOT NULL,
    seq       bigint NOT NULL,
    id        uuid NOT NULL,
    action    text,
    owed      numeric NOT NULL CHECK (owed >= 0),
    returned  numeric NOT NULL CHECK (returned >= 0),
    PRIMARY KEY (customer, asset, seq)
);
COMMENT ON TABLE credyt.open_debts IS 'Ledger rows that are still owed, the oldest paid first, and revocations that were owed once.';
COMMENT ON COLUMN credyt.open_debts.customer IS 'Customer.';
COMMENT ON COLUMN credyt.open_debts.asset IS 'Asset.';
COMMENT ON COLUMN credyt.open_debts.seq IS 'The number of the ledger row in its wallet.';
COMMENT ON COLUMN credyt.open_debts.id IS 'The ledger row.';
COMMENT ON COLUMN credyt.open_debts.action IS 'What the customer did: grants that may pay for it pay the debt. NULL: a revocation, which any grant pays.';
COMMENT ON COLUMN credyt.open_debts.owed IS 'Credits still owed.';
COMMENT ON COLUMN credyt.open_debts.returned IS 'Of a revocation: credits by which refunds lowered it, or that they gave back to the grants that had paid it.';
SELECT pg_catalog.pg_extension_config_dump('credyt.open_debts', '');

CREATE TYPE credyt.debit AS (
    id                uuid,
    customer          text,
    asset             text,
    kind              text,
    action            text,
    quantity          numeric,
    credits           numeric,
    revenue           numeric,
    cost              numeric,
    margin            numeric,
    available         numeric,
    held              numeric,
    allocations       jsonb,
    authorization_id  uuid,
    replayed          boolean,
    reason            text,
    created_at        timestamptz
);
COMMENT ON TYPE credyt.debit IS 'The answer to a debit, a capture or a refund.';
COMMENT ON COLUMN credyt.debit.id IS 'The ledger row.';
COMMENT ON COLUMN credyt.debit.customer IS 'Customer.';
COMMENT ON COLUMN credyt.debit.asset IS 'Asset.';
COMMENT ON COLUMN credyt.debit.kind IS 'debit or refund.';
COMMENT ON COLUMN credyt.debit.action IS 'What the customer did.';
COMMENT ON COLUMN credyt.debit.quantity IS 'How much of it; of a capture what this call adds.';
COMMENT ON COLUMN credyt.debit.credits IS 'Credits charged, or refunded, by this call; never negative.';
COMMENT ON COLUMN credyt.debit.revenue IS 'Money earned, or given back, by this call, in the asset''s currency.';
COMMENT ON COLUMN credyt.debit.cost IS 'Vendor cost known so far, in the asset''s currency; NULL: not known.';
COMMENT ON COLUMN credyt.debit.margin IS 'Revenue less cost; NULL while the cost is not known.';
COMMENT ON COLUMN credyt.debit.available IS 'Credits that can be spent now.';
COMMENT ON COLUMN credyt.debit.held IS 'Credits held by open authorizations now.';
COMMENT ON COLUMN credyt.debit.allocations IS 'Grant by grant: credits and revenue, as strings; grant null: overdraft.';
COMMENT ON COLUMN credyt.debit.authorization_id IS 'The authorization it captures.';
COMMENT ON COLUMN credyt.debit.replayed IS 'True: the same call was answered before, and nothing changed now.';
COMMENT ON COLUMN credyt.debit.reason IS 'late: captured after the hold had ended; or the caller''s reason.';
COMMENT ON COLUMN credyt.debit.created_at IS 'When it was booked.';

CREATE FUNCTION credyt.debit_credits(
    customer         text,
    action           text,
    quantity         numeric DEFAULT 1,
    dimensions       jsonb DEFAULT '{}',
    usage            jsonb DEFAULT NULL,
    cost             numeric DEFAULT NULL,
    credits          numeric DEFAULT NULL,
    asset            text DEFAULT 'credits',
    idempotency_key  text DEFAULT NULL,
    scopes           text[] DEFAULT NULL,
    occurred_at      timestamptz DEFAULT NULL,
    metadata         jsonb DEFAULT NULL
) RETURNS credyt.debit
    AS 'MODULE_PATHNAME', 'credyt_debit_credits' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.debit_credits(text, text, numeric, jsonb, jsonb, numeric, numeric, text, text, text[], timestamptz, jsonb) IS
    'Spends credits on an action, all or nothing, in the caller''s transaction.';

CREATE FUNCTION credyt.refund(
    customer         text,
    debit_id         uuid,
    credits          numeric DEFAULT NULL,
    restore_until    timestamptz DEFAULT NULL,
    reason           text DEFAULT NULL,
    idempotency_key  text DEFAULT NULL
) RETURNS credyt.debit
    AS 'MODULE_PATHNAME', 'credyt_refund' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.refund(text, uuid, numeric, timestamptz, text, text) IS
    'Gives credits of a debit (NULL: the rest) back to the grants that paid; reason forfeited: not all came back.';

-- A page in the order of id is read by the primary key and costs what the page costs; id is the order of seq.
-- An index for the order of seq itself would add 90 bytes of WAL to the 890 of a debit, and 5 percent of its time.
CREATE VIEW credyt.statement AS
SELECT l.customer, l.asset, l.seq, l.id, l.occurred_at, l.created_at, l.kind, l.action, l.quantity, l.credits, l.balance,
       l.revenue, l.cost, l.reason, l.scopes,
       CASE WHEN l.kind IN ('grant', 'expiry', 'revocation') THEN l.refers_to
            WHEN jsonb_array_length(l.allocations) = 1 THEN (l.allocations->0->>'grant')::uuid END AS grant_id
FROM credyt.ledger l
UNION ALL
SELECT p.customer, p.asset, NULL::bigint, NULL::uuid, p.occurred_at, NULL::timestamptz, p.kind, p.action, NULL::numeric,
       p.credits, p.balance, p.revenue, NULL::numeric, p.reason, NULL::text[], (p.allocations->0->>'grant')::uuid
FROM credyt.pending_entries p;
COMMENT ON VIEW credyt.statement IS 'What happened in a wallet? Page by id, which has the order of seq; pending entries have neither and come last.';
COMMENT ON COLUMN credyt.statement.customer IS 'Customer.';
COMMENT ON COLUMN credyt.statement.asset IS 'Asset.';
COMMENT ON COLUMN credyt.statement.seq IS 'The number of the row in its wallet; NULL: not booked yet.';
COMMENT ON COLUMN credyt.statement.id IS 'The ledger row; NULL: not booked yet.';
COMMENT ON COLUMN credyt.statement.occurred_at IS 'When it happened: of an expiry or a renewal when it fell due, however late it was booked.';
COMMENT ON COLUMN credyt.statement.created_at IS 'When it was booked; NULL: not yet.';
COMMENT ON COLUMN credyt.statement.kind IS 'grant, debit, refund, expiry, revocation, settlement or transfer.';
COMMENT ON COLUMN credyt.statement.action IS 'What the customer did.';
COMMENT ON COLUMN credyt.statement.quantity IS 'How much of it.';
COMMENT ON COLUMN credyt.statement.credits IS 'Credits that came (positive) or went (negative).';
COMMENT ON COLUMN credyt.statement.balance IS 'Credits after this row, future grants included, less what is owed.';
COMMENT ON COLUMN credyt.statement.revenue IS 'Money earned (positive) or given back (negative).';
COMMENT ON COLUMN credyt.statement.cost IS 'Vendor cost; NULL: not known.';
COMMENT ON COLUMN credyt.statement.reason IS 'Why, in a word or a sentence; for a renewal the plan.';
COMMENT ON COLUMN credyt.statement.scopes IS 'Spend limits it counts under.';
COMMENT ON COLUMN credyt.statement.grant_id IS 'The grant that came, went or paid; NULL: several, or the overdraft.';

CREATE TYPE credyt.transfer_result AS (
    id           uuid,
    customer     text,
    to_customer  text,
    asset        text,
    credits      numeric,
    available    numeric,
    allocations  jsonb,
    reason       text,
    replayed     boolean,
    created_at   timestamptz
);
COMMENT ON TYPE credyt.transfer_result IS 'The answer to a transfer.';
COMMENT ON COLUMN credyt.transfer_result.id IS 'The sender''s ledger row.';
COMMENT ON COLUMN credyt.transfer_result.customer IS 'The sender.';
COMMENT ON COLUMN credyt.transfer_result.to_customer IS 'The receiver.';
COMMENT ON COLUMN credyt.transfer_result.asset IS 'Asset.';
COMMENT ON COLUMN credyt.transfer_result.credits IS 'Credits that moved.';
COMMENT ON COLUMN credyt.transfer_result.available IS 'Credits that the sender can spend now.';
COMMENT ON COLUMN credyt.transfer_result.allocations IS 'Grant by grant: credits, what is deferred for them, and the receiver''s new grant, as strings.';
COMMENT ON COLUMN credyt.transfer_result.reason IS 'The caller''s reason.';
COMMENT ON COLUMN credyt.transfer_result.replayed IS 'True: the same call was answered before, and nothing changed now.';
COMMENT ON COLUMN credyt.transfer_result.created_at IS 'When it was booked.';

CREATE FUNCTION credyt.transfer(
    customer         text,
    to_customer      text,
    credits          numeric,
    asset            text DEFAULT 'credits',
    reason           text DEFAULT NULL,
    idempotency_key  text DEFAULT NULL
) RETURNS credyt.transfer_result
    AS 'MODULE_PATHNAME', 'credyt_transfer' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.transfer(text, text, numeric, text, text, text) IS
    'Moves unheld credits to another customer''s wallet, on the same terms and with what was paid for them.';
