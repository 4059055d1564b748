-- The functions. Writers run with their owner's rights and a fixed search_path, so that a caller
-- needs no rights on tables and can put nothing in their way. Sequential scans are off for them:
-- every statement goes by a key, and a plan made while a table was small is kept.

-- Setting up

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
    'What an action costs in credits, and how that comes about, by the prices and vendor rates of now or another moment.';

-- Credits in

CREATE FUNCTION credyt.open_wallet(
    customer         text,
    asset            text DEFAULT 'credits',
    overdraft_limit  numeric DEFAULT NULL,
    metadata         jsonb DEFAULT NULL
) RETURNS credyt.wallet_row
    AS 'MODULE_PATHNAME', 'credyt_open_wallet' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.open_wallet(text, text, numeric, jsonb) IS
    'Opens a wallet, or sets the overdraft limit and metadata of one; a grant opens a wallet, too.';

CREATE FUNCTION credyt.grant_credits(
    customer         text,
    credits          numeric,
    kind             text DEFAULT 'purchased',
    asset            text DEFAULT 'credits',
    paid             numeric DEFAULT 0,
    expires_at       timestamptz DEFAULT NULL,
    effective_at     timestamptz DEFAULT NULL,
    priority         int DEFAULT 100,
    applies_to       text[] DEFAULT NULL,
    idempotency_key  text DEFAULT NULL,
    metadata         jsonb DEFAULT NULL,
    payment          text DEFAULT NULL,
    currency         text DEFAULT NULL
) RETURNS credyt.grant
    AS 'MODULE_PATHNAME', 'credyt_grant_credits' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.grant_credits(text, numeric, text, text, numeric, timestamptz, timestamptz, int, text[], text, jsonb, text, text) IS
    'Gives a customer credits that were bought, promised by a plan or are a gift, with what was paid for them.';

CREATE FUNCTION credyt.revoke_grant(
    customer         text,
    grant_id         uuid,
    credits          numeric DEFAULT NULL,
    spent            text DEFAULT 'keep',
    reason           text DEFAULT NULL,
    idempotency_key  text DEFAULT NULL
) RETURNS credyt.grant
    AS 'MODULE_PATHNAME', 'credyt_revoke_grant' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.revoke_grant(text, uuid, numeric, text, text, text) IS
    'Takes back what is unheld of a grant (or so many credits of it) at once, and what holds return later. spent owe: what was spent of it is owed from now on, and its revenue taken back. WC001 for more credits than are unheld, WC005, WC011, 22023.';

-- Credits out

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

CREATE FUNCTION credyt.authorize(
    customer         text,
    action           text,
    quantity         numeric DEFAULT 1,
    dimensions       jsonb DEFAULT '{}',
    usage            jsonb DEFAULT NULL,
    cost             numeric DEFAULT NULL,
    credits          numeric DEFAULT NULL,
    ttl_seconds      int DEFAULT 900,
    overrun          text DEFAULT 'reject',
    asset            text DEFAULT 'credits',
    idempotency_key  text DEFAULT NULL,
    scopes           text[] DEFAULT NULL,
    metadata         jsonb DEFAULT NULL,
    vary             text DEFAULT NULL,
    step             numeric DEFAULT 1,
    at_least         numeric DEFAULT NULL
) RETURNS credyt.authorization
    AS 'MODULE_PATHNAME', 'credyt_authorize' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.authorize(text, text, numeric, jsonb, jsonb, numeric, numeric, int, text, text, text, text[], jsonb, text, numeric, numeric) IS
    'Holds credits for an action that has not finished; a refusal is an answer with a reason, not an error.';

CREATE FUNCTION credyt.capture(
    customer          text,
    authorization_id  uuid,
    quantity          numeric DEFAULT NULL,
    dimensions        jsonb DEFAULT NULL,
    usage             jsonb DEFAULT NULL,
    cost              numeric DEFAULT NULL,
    credits           numeric DEFAULT NULL,
    keep_open         boolean DEFAULT false,
    metadata          jsonb DEFAULT NULL
) RETURNS credyt.debit
    AS 'MODULE_PATHNAME', 'credyt_capture' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.capture(text, uuid, numeric, jsonb, jsonb, numeric, numeric, boolean, jsonb) IS
    'Charges an authorization by totals so far, which replace its estimate; nothing given: the whole hold.';

CREATE FUNCTION credyt.release(
    customer          text,
    authorization_id  uuid,
    reason            text DEFAULT NULL
) RETURNS credyt.authorization
    AS 'MODULE_PATHNAME', 'credyt_release' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.release(text, uuid, text) IS
    'Gives the held credits free. Again: the first answer. WC004 once captured, WC011, 22023.';

CREATE FUNCTION credyt.extend(
    customer          text,
    authorization_id  uuid,
    ttl_seconds       int DEFAULT 900
) RETURNS credyt.authorization
    AS 'MODULE_PATHNAME', 'credyt_extend' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.extend(text, uuid, int) IS
    'Moves the end of a hold to ttl_seconds from now; WC004 once it has ended or is closed.';

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

-- Reading

CREATE FUNCTION credyt.statement_time() RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'credyt_statement_time' LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION credyt.statement_time() IS
    'The time that readers read at: the start of the statement, inside CALL and DO that of the clock.';

CREATE FUNCTION credyt.balance(
    customer  text,
    asset     text DEFAULT 'credits',
    at        timestamptz DEFAULT NULL
) RETURNS credyt.balance
    AS 'MODULE_PATHNAME', 'credyt_balance' LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.balance(text, text, timestamptz) IS
    'A customer''s balance in credits, now or at another moment; zeros without a wallet.';

-- ROWS 10: with fewer the planner compares each grant of a wallet with every other one in grant_balances.
CREATE FUNCTION credyt.grants(wallet credyt.wallet) RETURNS SETOF credyt.grant
    AS 'MODULE_PATHNAME', 'credyt_grants_of' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 10;
COMMENT ON FUNCTION credyt.grants(credyt.wallet) IS
    'The open grants in a wallet''s state, in burn order; what the state does not keep is NULL.';

CREATE FUNCTION credyt.wallet_state_at(customer text, asset text, state credyt.wallet, at timestamptz) RETURNS credyt.wallet
    AS 'MODULE_PATHNAME', 'credyt_wallet_state_at' LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.wallet_state_at(text, text, credyt.wallet, timestamptz) IS
    'A wallet''s state at a moment, pending entries included: what the views show.';

CREATE FUNCTION credyt.pending_movements(customer text, asset text, state credyt.wallet, at timestamptz) RETURNS SETOF credyt.movement
    AS 'MODULE_PATHNAME', 'credyt_pending_movements' LANGUAGE c STABLE ROWS 1
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.pending_movements(text, text, credyt.wallet, timestamptz) IS
    'What time has decided about a wallet up to a moment and no call has booked yet.';

CREATE FUNCTION credyt.pending_grants(customer text, asset text, state credyt.wallet, at timestamptz) RETURNS SETOF credyt.grant
    AS 'MODULE_PATHNAME', 'credyt_pending_grants' LANGUAGE c STABLE ROWS 1
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.pending_grants(text, text, credyt.wallet, timestamptz) IS
    'The grants that renewals up to a moment have made and no call has booked yet.';
