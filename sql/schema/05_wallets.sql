-- Wallets: one row per customer and asset, and its state as of now.

CREATE TABLE credyt.wallets (
    customer         text NOT NULL,
    asset            text NOT NULL,
    created_at       timestamptz NOT NULL,
    next_due_at      timestamptz,
    overdraft_limit  numeric NOT NULL,
    status           text NOT NULL,
    status_reason    text,
    metadata         jsonb,
    state            credyt.wallet NOT NULL,
    PRIMARY KEY (customer, asset)
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_analyze_threshold = 10000, autovacuum_analyze_scale_factor = 0.1);
-- For maintain. A debit leaves next_due_at as it is, so this index takes no HOT update from it.
CREATE INDEX wallets_next_due_at ON credyt.wallets (next_due_at) WHERE next_due_at IS NOT NULL;
COMMENT ON TABLE credyt.wallets IS 'One hot row per customer and asset; a debit is one update of it. Read credyt.wallet_balances instead.';
COMMENT ON COLUMN credyt.wallets.customer IS 'Customer.';
COMMENT ON COLUMN credyt.wallets.asset IS 'Asset.';
COMMENT ON COLUMN credyt.wallets.created_at IS 'When it was opened.';
COMMENT ON COLUMN credyt.wallets.next_due_at IS 'Nothing falls due before this moment, top-ups included; NULL: never. A debit leaves it as it is, so it may be early.';
COMMENT ON COLUMN credyt.wallets.overdraft_limit IS 'Credits that may be owed.';
COMMENT ON COLUMN credyt.wallets.status IS 'active, frozen or closed.';
COMMENT ON COLUMN credyt.wallets.status_reason IS 'Why it was frozen or closed.';
COMMENT ON COLUMN credyt.wallets.metadata IS 'The application''s own notes.';
COMMENT ON COLUMN credyt.wallets.state IS 'The open grants with what remains, is held and is deferred, and what is owed; as of its last change.';
SELECT pg_catalog.pg_extension_config_dump('credyt.wallets', '');

CREATE TYPE credyt.balance AS (
    settled          numeric,
    held             numeric,
    available        numeric,
    owed             numeric,
    overdraft_limit  numeric,
    next_expiry      timestamptz
);
COMMENT ON TYPE credyt.balance IS 'A customer''s balance.';
COMMENT ON COLUMN credyt.balance.settled IS 'Credits in live or held grants, less what is owed.';
COMMENT ON COLUMN credyt.balance.held IS 'Credits held by open authorizations; NULL at a past time.';
COMMENT ON COLUMN credyt.balance.available IS 'Credits that can be spent, overdraft included; NULL at a past time.';
COMMENT ON COLUMN credyt.balance.owed IS 'Credits spent beyond the grants and not paid back.';
COMMENT ON COLUMN credyt.balance.overdraft_limit IS 'Credits that may be owed; NULL at a past time.';
COMMENT ON COLUMN credyt.balance.next_expiry IS 'When the first live grant ends; NULL: none does, or a past time.';

CREATE TYPE credyt.wallet_row AS (
    customer         text,
    asset            text,
    settled          numeric,
    held             numeric,
    available        numeric,
    owed             numeric,
    overdraft_limit  numeric,
    next_expiry      timestamptz,
    status           text
);
COMMENT ON TYPE credyt.wallet_row IS 'A wallet, in the columns of credyt.wallet_balances.';
COMMENT ON COLUMN credyt.wallet_row.customer IS 'Customer.';
COMMENT ON COLUMN credyt.wallet_row.asset IS 'Asset.';
COMMENT ON COLUMN credyt.wallet_row.settled IS 'Credits in live or held grants, less what is owed.';
COMMENT ON COLUMN credyt.wallet_row.held IS 'Credits held by open authorizations.';
COMMENT ON COLUMN credyt.wallet_row.available IS 'Credits that can be spent, overdraft included.';
COMMENT ON COLUMN credyt.wallet_row.owed IS 'Credits spent beyond the grants and not paid back.';
COMMENT ON COLUMN credyt.wallet_row.overdraft_limit IS 'Credits that may be owed.';
COMMENT ON COLUMN credyt.wallet_row.next_expiry IS 'When the first live grant ends.';
COMMENT ON COLUMN credyt.wallet_row.status IS 'active, frozen or closed.';

CREATE TYPE credyt.movement AS (
    kind          text,
    occurred_at   timestamptz,
    accounted_at  timestamptz,
    action        text,
    credits       numeric,
    balance       numeric,
    revenue       numeric,
    costs         jsonb,
    allocations   jsonb,
    refers_to     uuid,
    reason        text
);
COMMENT ON TYPE credyt.movement IS 'A pending entry: it has fallen due and is not booked, in the columns of credyt.ledger.';
COMMENT ON COLUMN credyt.movement.kind IS 'grant, expiry, revocation, settlement or transfer.';
COMMENT ON COLUMN credyt.movement.occurred_at IS 'When it fell due.';
COMMENT ON COLUMN credyt.movement.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.movement.action IS 'The action whose debt was settled.';
COMMENT ON COLUMN credyt.movement.credits IS 'Credits that came (positive) or went (negative).';
COMMENT ON COLUMN credyt.movement.balance IS 'Sum of credits of the wallet''s rows up to this one.';
COMMENT ON COLUMN credyt.movement.revenue IS 'Money earned.';
COMMENT ON COLUMN credyt.movement.costs IS 'Of a settlement, the weights of the vendors'' models behind the debit.';
COMMENT ON COLUMN credyt.movement.allocations IS 'Grant by grant, as in the ledger.';
COMMENT ON COLUMN credyt.movement.refers_to IS 'The grant that began or ended, or the debit that was settled.';
COMMENT ON COLUMN credyt.movement.reason IS 'Of a renewal, the plan.';

CREATE FUNCTION credyt.open_wallet(
    customer         text,
    asset            text DEFAULT 'credits',
    overdraft_limit  numeric DEFAULT NULL,
    metadata         jsonb DEFAULT NULL
) RETURNS credyt.wallet_row
    AS 'MODULE_PATHNAME', 'credyt_open_wallet' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.open_wallet(text, text, numeric, jsonb) IS
    'Opens a wallet, or sets the overdraft limit and metadata of one. A grant opens a wallet as well.';

CREATE FUNCTION credyt.balance(
    customer  text,
    asset     text DEFAULT 'credits',
    at        timestamptz DEFAULT NULL
) RETURNS credyt.balance
    AS 'MODULE_PATHNAME', 'credyt_balance' LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.balance(text, text, timestamptz) IS
    'A customer''s balance in credits, now or at another moment; zeros without a wallet.';

CREATE FUNCTION credyt.wallet_state_at(customer text, asset text, state credyt.wallet, at timestamptz) RETURNS credyt.wallet
    AS 'MODULE_PATHNAME', 'credyt_wallet_state_at' LANGUAGE c STABLE PARALLEL RESTRICTED
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.wallet_state_at(text, text, credyt.wallet, timestamptz) IS
    'A wallet''s state at a moment, pending entries included: what the views show.';

CREATE FUNCTION credyt.pending_movements(customer text, asset text, state credyt.wallet, at timestamptz) RETURNS SETOF credyt.movement
    AS 'MODULE_PATHNAME', 'credyt_pending_movements' LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.pending_movements(text, text, credyt.wallet, timestamptz) IS
    'The entries of a wallet that are pending at a moment, in the columns of the ledger.';

CREATE VIEW credyt.current_wallets AS
SELECT w.customer, w.asset, w.status, w.overdraft_limit, t.at, s.state
FROM credyt.wallets w
-- OFFSET 0: computed once for a wallet, not once for every column that is made of it.
CROSS JOIN LATERAL (
    SELECT greatest((SELECT credyt.statement_time()), credyt.changed_at(w.state)) AS at
    OFFSET 0
) t
CROSS JOIN LATERAL (
    SELECT CASE WHEN w.next_due_at <= t.at THEN credyt.wallet_state_at(w.customer, w.asset, w.state, t.at)
                ELSE w.state END AS state
    OFFSET 0
) s;
COMMENT ON VIEW credyt.current_wallets IS 'What is each wallet''s state now? Pending entries included; other views read it.';
COMMENT ON COLUMN credyt.current_wallets.customer IS 'Customer.';
COMMENT ON COLUMN credyt.current_wallets.asset IS 'Asset.';
COMMENT ON COLUMN credyt.current_wallets.status IS 'active, frozen or closed.';
COMMENT ON COLUMN credyt.current_wallets.overdraft_limit IS 'Credits that may be owed.';
COMMENT ON COLUMN credyt.current_wallets.at IS 'The moment it is read at.';
COMMENT ON COLUMN credyt.current_wallets.state IS 'The packed state.';

CREATE VIEW credyt.pending_entries AS
SELECT w.customer, w.asset, d.kind, d.occurred_at, d.accounted_at, d.action, d.credits, d.balance, d.revenue, d.costs,
       d.allocations, d.refers_to, d.reason
FROM credyt.wallets w
CROSS JOIN (SELECT credyt.statement_time() AS now OFFSET 0) n
CROSS JOIN LATERAL credyt.pending_movements(w.customer, w.asset, w.state, n.now) AS d
-- A wallet that last changed later, by a clock that was set back, has nothing due before then.
WHERE w.next_due_at <= n.now;
COMMENT ON VIEW credyt.pending_entries IS 'What is due in each wallet and not booked yet? The rows that the ledger will have; reports include them.';
COMMENT ON COLUMN credyt.pending_entries.customer IS 'Customer.';
COMMENT ON COLUMN credyt.pending_entries.asset IS 'Asset.';
COMMENT ON COLUMN credyt.pending_entries.kind IS 'grant, expiry, revocation, settlement or transfer.';
COMMENT ON COLUMN credyt.pending_entries.occurred_at IS 'When it fell due.';
COMMENT ON COLUMN credyt.pending_entries.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.pending_entries.action IS 'The action whose debt was settled.';
COMMENT ON COLUMN credyt.pending_entries.credits IS 'Credits that came (positive) or went (negative).';
COMMENT ON COLUMN credyt.pending_entries.balance IS 'Sum of credits of the wallet''s rows up to this one.';
COMMENT ON COLUMN credyt.pending_entries.revenue IS 'Money earned, in the asset''s currency.';
COMMENT ON COLUMN credyt.pending_entries.costs IS 'Of a settlement, the weights of the vendors'' models behind the debit.';
COMMENT ON COLUMN credyt.pending_entries.allocations IS 'Grant by grant, as in the ledger.';
COMMENT ON COLUMN credyt.pending_entries.refers_to IS 'The grant that began or ended, or the debit that was settled.';
COMMENT ON COLUMN credyt.pending_entries.reason IS 'Of a renewal, the plan.';

CREATE VIEW credyt.wallet_balances AS
SELECT w.customer, w.asset,
       credyt.settled(w.state, w.at) AS settled,
       credyt.held(w.state) AS held,
       credyt.available(w.state, w.overdraft_limit, w.at) AS available,
       credyt.owed(w.state) AS owed,
       w.overdraft_limit,
       credyt.next_expiry(w.state, w.at) AS next_expiry,
       w.status
FROM credyt.current_wallets w;
COMMENT ON VIEW credyt.wallet_balances IS 'What does each customer have? Credits, as credyt.balance says.';
COMMENT ON COLUMN credyt.wallet_balances.customer IS 'Customer.';
COMMENT ON COLUMN credyt.wallet_balances.asset IS 'Asset.';
COMMENT ON COLUMN credyt.wallet_balances.settled IS 'Credits in live or held grants, less what is owed.';
COMMENT ON COLUMN credyt.wallet_balances.held IS 'Credits held by open authorizations.';
COMMENT ON COLUMN credyt.wallet_balances.available IS 'Credits that can be spent, overdraft included.';
COMMENT ON COLUMN credyt.wallet_balances.owed IS 'Credits spent beyond the grants and not paid back.';
COMMENT ON COLUMN credyt.wallet_balances.overdraft_limit IS 'Credits that may be owed.';
COMMENT ON COLUMN credyt.wallet_balances.next_expiry IS 'When the first live grant ends.';
COMMENT ON COLUMN credyt.wallet_balances.status IS 'active, frozen or closed.';

CREATE FUNCTION credyt.freeze_wallet(
    customer  text,
    asset     text DEFAULT 'credits',
    reason    text DEFAULT NULL
) RETURNS credyt.wallet_row
    AS 'MODULE_PATHNAME', 'credyt_freeze_wallet' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.freeze_wallet(text, text, text) IS
    'Refuses debits, holds and transfers out until it is unfrozen; captures, refunds and renewals go on.';

CREATE FUNCTION credyt.unfreeze_wallet(
    customer  text,
    asset     text DEFAULT 'credits'
) RETURNS credyt.wallet_row
    AS 'MODULE_PATHNAME', 'credyt_unfreeze_wallet' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.unfreeze_wallet(text, text) IS
    'Lets a frozen wallet spend again; harmless on an active one, refused on a closed one.';

CREATE FUNCTION credyt.close_wallet(
    customer  text,
    asset     text DEFAULT 'credits',
    reason    text DEFAULT NULL
) RETURNS credyt.wallet_row
    AS 'MODULE_PATHNAME', 'credyt_close_wallet' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.close_wallet(text, text, text) IS
    'Closes a wallet for good: what is left expires now, what is held can still be captured.';
