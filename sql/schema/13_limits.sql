-- Between wallets, and what they may not do: transfers, freezing, spend limits.

CREATE TYPE credyt.transferred AS (
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
COMMENT ON TYPE credyt.transferred IS 'The answer to a transfer.';
COMMENT ON COLUMN credyt.transferred.id IS 'The sender''s ledger row.';
COMMENT ON COLUMN credyt.transferred.customer IS 'Who gave.';
COMMENT ON COLUMN credyt.transferred.to_customer IS 'Who got.';
COMMENT ON COLUMN credyt.transferred.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.transferred.credits IS 'Credits that moved.';
COMMENT ON COLUMN credyt.transferred.available IS 'Credits that the sender can spend now.';
COMMENT ON COLUMN credyt.transferred.allocations IS 'Grant by grant: credits, what is deferred for them, and the receiver''s new grant, as strings.';
COMMENT ON COLUMN credyt.transferred.reason IS 'The caller''s reason.';
COMMENT ON COLUMN credyt.transferred.replayed IS 'True: the same call was answered before, and nothing changed now.';
COMMENT ON COLUMN credyt.transferred.created_at IS 'When it was booked.';

CREATE FUNCTION credyt.transfer(
    customer         text,
    to_customer      text,
    credits          numeric,
    asset            text DEFAULT 'credits',
    reason           text DEFAULT NULL,
    idempotency_key  text DEFAULT NULL
) RETURNS credyt.transferred
    AS 'MODULE_PATHNAME', 'credyt_transfer' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.transfer(text, text, numeric, text, text, text) IS
    'Moves unheld credits to another customer''s wallet, which it opens, in burn order, on the same terms and with what was paid for them. There they pay debt first. The key is the sender''s. WC001 for more than is unheld (overdraft cannot be given), WC002, WC005, WC006 where the sender is frozen, WC009, 22003, 22023, 54000.';

CREATE FUNCTION credyt.freeze_wallet(
    customer  text,
    asset     text DEFAULT 'credits',
    reason    text DEFAULT NULL
) RETURNS credyt.wallet_row
    AS 'MODULE_PATHNAME', 'credyt_freeze_wallet' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.freeze_wallet(text, text, text) IS
    'From now on debit_credits, authorize and transfer out are refused; captures, releases, refunds, grants and renewals go on. Again: the newer reason counts. WC002, WC009, 22023.';

CREATE FUNCTION credyt.unfreeze_wallet(
    customer  text,
    asset     text DEFAULT 'credits'
) RETURNS credyt.wallet_row
    AS 'MODULE_PATHNAME', 'credyt_unfreeze_wallet' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.unfreeze_wallet(text, text) IS
    'Lets a frozen wallet spend again; harmless on one that is not frozen. WC002, WC009, 22023.';
