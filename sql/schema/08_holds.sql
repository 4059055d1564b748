-- Holds: credits kept for actions that have not finished, and what a customer could pay.

-- What captures change comes last: of an update the WAL has what lies between the first and the last difference.
CREATE TABLE credyt.authorizations (
    customer           text NOT NULL,
    id                 uuid NOT NULL,
    asset              text NOT NULL,
    action             text NOT NULL,
    overrun            text NOT NULL,
    quantity           numeric NOT NULL,
    credits            numeric NOT NULL,
    cost               numeric,
    price_version      int,
    month_used         numeric,
    priced             boolean NOT NULL,
    created_at         timestamptz NOT NULL,
    request            bytea,
    dimensions         jsonb,
    usage              jsonb,
    scopes             text[],
    idempotency_key    text,
    metadata           jsonb,
    granted            numeric,
    expires_at         timestamptz NOT NULL,
    status             text NOT NULL,
    captured           numeric NOT NULL,
    forgiven           numeric NOT NULL,
    captured_quantity  numeric NOT NULL,
    captured_cost      numeric,
    captured_costs     jsonb,
    pins               jsonb NOT NULL,
    first_capture      uuid,
    last_capture       uuid,
    last_request       bytea,
    reason             text,
    PRIMARY KEY (customer, id)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX authorizations_key ON credyt.authorizations (customer, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX authorizations_open ON credyt.authorizations (customer, asset, expires_at)
    WHERE status = 'open';
COMMENT ON TABLE credyt.authorizations IS 'Credits held for actions that have not finished. Read credyt.open_authorizations for the open ones.';
COMMENT ON COLUMN credyt.authorizations.customer IS 'Customer.';
COMMENT ON COLUMN credyt.authorizations.id IS 'UUIDv7.';
COMMENT ON COLUMN credyt.authorizations.asset IS 'Asset.';
COMMENT ON COLUMN credyt.authorizations.action IS 'Action.';
COMMENT ON COLUMN credyt.authorizations.status IS 'open, captured, released or expired (open ones past expires_at count as expired).';
COMMENT ON COLUMN credyt.authorizations.overrun IS 'What a capture above the hold does: reject, clamp or overdraft.';
COMMENT ON COLUMN credyt.authorizations.quantity IS 'Quantity authorized.';
COMMENT ON COLUMN credyt.authorizations.credits IS 'Credits authorized.';
COMMENT ON COLUMN credyt.authorizations.captured IS 'Credits captured so far.';
COMMENT ON COLUMN credyt.authorizations.forgiven IS 'Credits that captures cost beyond what could be paid, forgiven by overrun clamp.';
COMMENT ON COLUMN credyt.authorizations.captured_quantity IS 'Quantity captured so far.';
COMMENT ON COLUMN credyt.authorizations.captured_cost IS 'Vendor cost of the captures so far, as far as it is known, in the asset''s currency.';
COMMENT ON COLUMN credyt.authorizations.captured_costs IS 'The same by vendor and model, read from usage.';
COMMENT ON COLUMN credyt.authorizations.cost IS 'Vendor cost expected, in the asset''s currency; prices the hold, and is never booked.';
COMMENT ON COLUMN credyt.authorizations.price_version IS 'The version its captures are priced at; NULL: the action had no price.';
COMMENT ON COLUMN credyt.authorizations.priced IS 'True: the credits came from the price; false: the caller gave them.';
COMMENT ON COLUMN credyt.authorizations.created_at IS 'When it was authorized.';
COMMENT ON COLUMN credyt.authorizations.expires_at IS 'When the hold ends.';
COMMENT ON COLUMN credyt.authorizations.pins IS 'What is still pinned, grant by grant; grant null: overdraft.';
COMMENT ON COLUMN credyt.authorizations.first_capture IS 'The ledger row of the first capture: costs that are recorded for the authorization count with it.';
COMMENT ON COLUMN credyt.authorizations.last_capture IS 'The ledger row of the last capture.';
COMMENT ON COLUMN credyt.authorizations.last_request IS 'Hash of the totals last captured.';
COMMENT ON COLUMN credyt.authorizations.request IS 'Hash of what was asked, to know a replay from another request.';
COMMENT ON COLUMN credyt.authorizations.dimensions IS 'What the price was told about the action.';
COMMENT ON COLUMN credyt.authorizations.usage IS 'The usage expected; prices the hold, and is never booked.';
COMMENT ON COLUMN credyt.authorizations.scopes IS 'Spend limits named by the caller.';
COMMENT ON COLUMN credyt.authorizations.reason IS 'Why it was released.';
COMMENT ON COLUMN credyt.authorizations.idempotency_key IS 'Unique per customer among authorizations.';
COMMENT ON COLUMN credyt.authorizations.metadata IS 'The application''s own notes.';
COMMENT ON COLUMN credyt.authorizations.granted IS 'The amount approved of what varies; NULL: nothing does.';
COMMENT ON COLUMN credyt.authorizations.month_used IS 'What had been used of the action in the month; NULL: the price does not count it.';
SELECT pg_catalog.pg_extension_config_dump('credyt.authorizations', '');

CREATE TYPE credyt.authorization AS (
    id          uuid,
    customer    text,
    asset       text,
    action      text,
    approved    boolean,
    reason      text,
    credits     numeric,
    granted     numeric,
    captured    numeric,
    available   numeric,
    status      text,
    expires_at  timestamptz,
    replayed    boolean
);
COMMENT ON TYPE credyt.authorization IS 'The answer to authorize, release and extend.';
COMMENT ON COLUMN credyt.authorization.id IS 'What capture, release and extend ask for; NULL: refused, nothing stored.';
COMMENT ON COLUMN credyt.authorization.customer IS 'Customer.';
COMMENT ON COLUMN credyt.authorization.asset IS 'Asset.';
COMMENT ON COLUMN credyt.authorization.action IS 'Action.';
COMMENT ON COLUMN credyt.authorization.approved IS 'True: the credits are held. False: refused, see reason.';
COMMENT ON COLUMN credyt.authorization.reason IS 'Why refused: insufficient_credits, wallet_not_found or wallet_frozen; or why released.';
COMMENT ON COLUMN credyt.authorization.credits IS 'Credits authorized, or asked for.';
COMMENT ON COLUMN credyt.authorization.granted IS 'The amount approved of what varies; NULL: nothing does, or refused.';
COMMENT ON COLUMN credyt.authorization.captured IS 'Credits captured so far.';
COMMENT ON COLUMN credyt.authorization.available IS 'Credits that can be spent on this action now.';
COMMENT ON COLUMN credyt.authorization.status IS 'open, captured, released or expired; NULL: refused.';
COMMENT ON COLUMN credyt.authorization.expires_at IS 'When the hold ends.';
COMMENT ON COLUMN credyt.authorization.replayed IS 'True: the same call was answered before, and nothing changed now.';

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
    'Frees the held credits of an authorization; called again, it returns the first answer.';

CREATE FUNCTION credyt.extend(
    customer          text,
    authorization_id  uuid,
    ttl_seconds       int DEFAULT 900
) RETURNS credyt.authorization
    AS 'MODULE_PATHNAME', 'credyt_extend' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.extend(text, uuid, int) IS
    'Moves the end of a hold to ttl_seconds from now; refused once it has ended or is closed.';

CREATE VIEW credyt.open_authorizations AS
SELECT h.customer, h.asset, h.id, h.action, h.credits, h.captured, h.expires_at
FROM credyt.authorizations h
CROSS JOIN (SELECT credyt.statement_time() AS now OFFSET 0) n
JOIN credyt.wallets w ON w.customer = h.customer AND w.asset = h.asset
WHERE h.status = 'open' AND h.expires_at > n.now AND h.expires_at > credyt.changed_at(w.state);
COMMENT ON VIEW credyt.open_authorizations IS 'What is held right now?';
COMMENT ON COLUMN credyt.open_authorizations.customer IS 'Customer.';
COMMENT ON COLUMN credyt.open_authorizations.asset IS 'Asset.';
COMMENT ON COLUMN credyt.open_authorizations.id IS 'The authorization.';
COMMENT ON COLUMN credyt.open_authorizations.action IS 'Action.';
COMMENT ON COLUMN credyt.open_authorizations.credits IS 'Credits authorized.';
COMMENT ON COLUMN credyt.open_authorizations.captured IS 'Credits captured so far.';
COMMENT ON COLUMN credyt.open_authorizations.expires_at IS 'When the hold ends.';

CREATE TYPE credyt.affordable AS (
    amount     numeric,
    credits    numeric,
    available  numeric,
    bound      text
);
COMMENT ON TYPE credyt.affordable IS 'The largest amount of an action that a customer can pay.';
COMMENT ON COLUMN credyt.affordable.amount IS 'The largest amount; 0: not even one step; NULL: any amount.';
COMMENT ON COLUMN credyt.affordable.credits IS 'Its price in credits.';
COMMENT ON COLUMN credyt.affordable.available IS 'Credits that can be spent on the action, overdraft included.';
COMMENT ON COLUMN credyt.affordable.bound IS 'What bounds the amount: balance, limit or none.';

CREATE FUNCTION credyt.affordable(
    customer    text,
    action      text,
    vary        text DEFAULT 'quantity',
    dimensions  jsonb DEFAULT '{}',
    step        numeric DEFAULT 1,
    asset       text DEFAULT 'credits',
    scopes      text[] DEFAULT NULL
) RETURNS credyt.affordable
    AS 'MODULE_PATHNAME', 'credyt_affordable' LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.affordable(text, text, text, jsonb, numeric, text, text[]) IS
    'The largest multiple of step of the quantity, or of a metered dimension, that the customer can pay now.';
