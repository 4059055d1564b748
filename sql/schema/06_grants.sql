-- Grants: credits that came in, and what is left of each.

CREATE TABLE credyt.grants (
    customer         text NOT NULL,
    id               uuid NOT NULL,
    asset            text NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('included', 'promotional', 'purchased')),
    priority         int NOT NULL,
    credits          numeric NOT NULL CHECK (credits > 0),
    paid             numeric NOT NULL CHECK (paid >= 0),
    settled          numeric NOT NULL CHECK (settled BETWEEN 0 AND credits),
    debt_revenue     numeric NOT NULL CHECK (debt_revenue >= 0),
    effective_at     timestamptz NOT NULL,
    expires_at       timestamptz,
    applies_to       text[],
    origin           uuid,
    created_at       timestamptz NOT NULL,
    metadata         jsonb,
    payment          text,
    currency         text,
    currency_paid    numeric,
    exchange_rate    numeric CHECK (exchange_rate > 0),
    PRIMARY KEY (customer, id),
    -- Paid in another currency: all of it is known, or none.
    CHECK (num_nulls(currency, currency_paid, exchange_rate) IN (0, 3))
);
CREATE INDEX grants_payment ON credyt.grants (customer, payment) WHERE payment IS NOT NULL;
COMMENT ON TABLE credyt.grants IS 'Every grant as it was issued, append-only. What is left of it is in credyt.grant_balances.';
COMMENT ON COLUMN credyt.grants.customer IS 'Customer.';
COMMENT ON COLUMN credyt.grants.id IS 'UUIDv7.';
COMMENT ON COLUMN credyt.grants.asset IS 'Asset.';
COMMENT ON COLUMN credyt.grants.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.grants.priority IS 'Lower burns first.';
COMMENT ON COLUMN credyt.grants.credits IS 'Credits issued.';
COMMENT ON COLUMN credyt.grants.paid IS 'Money paid for them, in the asset''s currency.';
COMMENT ON COLUMN credyt.grants.settled IS 'Credits of it that paid debt the moment it was issued.';
COMMENT ON COLUMN credyt.grants.debt_revenue IS 'Money earned by them.';
COMMENT ON COLUMN credyt.grants.effective_at IS 'Start, inclusive.';
COMMENT ON COLUMN credyt.grants.expires_at IS 'End, exclusive, where ended_grants has no earlier one; NULL: it never ends.';
COMMENT ON COLUMN credyt.grants.applies_to IS 'Patterns of the actions it may pay for, such as image.*; NULL: all.';
COMMENT ON COLUMN credyt.grants.origin IS 'The grant it came from: re-issued by a refund, rolled over (of several the first), or transferred (another customer''s).';
COMMENT ON COLUMN credyt.grants.created_at IS 'When it was issued.';
COMMENT ON COLUMN credyt.grants.currency IS 'The currency of currency_paid; NULL: it was paid in the asset''s.';
COMMENT ON COLUMN credyt.grants.currency_paid IS 'Money paid for them in that currency; paid is it times exchange_rate.';
COMMENT ON COLUMN credyt.grants.exchange_rate IS 'Money in the asset''s currency for one of that currency, when it was issued.';
COMMENT ON COLUMN credyt.grants.metadata IS 'The application''s own notes.';
COMMENT ON COLUMN credyt.grants.payment IS 'The payment it came with. Which payment paid for a plan''s period is in subscription_payments.';
SELECT pg_catalog.pg_extension_config_dump('credyt.grants', '');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.grants
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('grants');

CREATE TABLE credyt.ended_grants (
    customer  text NOT NULL,
    grant_id  uuid NOT NULL,
    ended_at  timestamptz NOT NULL,
    PRIMARY KEY (customer, grant_id)
);
COMMENT ON TABLE credyt.ended_grants IS 'Grants that credyt.change_plan has ended early, append-only.';
COMMENT ON COLUMN credyt.ended_grants.customer IS 'Customer.';
COMMENT ON COLUMN credyt.ended_grants.grant_id IS 'The grant.';
COMMENT ON COLUMN credyt.ended_grants.ended_at IS 'When it ended, instead of its expires_at.';
SELECT pg_catalog.pg_extension_config_dump('credyt.ended_grants', '');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.ended_grants
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('ended_grants');

CREATE TABLE credyt.revoked_grants (
    customer    text NOT NULL,
    grant_id    uuid NOT NULL,
    owed        boolean NOT NULL,
    revoked_at  timestamptz NOT NULL,
    PRIMARY KEY (customer, grant_id, owed)
);
COMMENT ON TABLE credyt.revoked_grants IS 'Grants that were revoked as a whole, append-only: what comes back to one is lost.';
COMMENT ON COLUMN credyt.revoked_grants.customer IS 'Customer.';
COMMENT ON COLUMN credyt.revoked_grants.grant_id IS 'The grant.';
COMMENT ON COLUMN credyt.revoked_grants.owed IS 'True: spent credits are owed, those that a capture takes later too. False: they are kept.';
COMMENT ON COLUMN credyt.revoked_grants.revoked_at IS 'When it was first revoked in this way.';
SELECT pg_catalog.pg_extension_config_dump('credyt.revoked_grants', '');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.revoked_grants
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('revoked_grants');

CREATE TYPE credyt.grant AS (
    id            uuid,
    customer      text,
    asset         text,
    kind          text,
    priority      int,
    credits       numeric,
    remaining     numeric,
    held          numeric,
    paid          numeric,
    deferred      numeric,
    effective_at  timestamptz,
    expires_at    timestamptz,
    applies_to    text[],
    origin        uuid,
    replayed      boolean
);
COMMENT ON TYPE credyt.grant IS 'A grant: a block of credits on the same terms.';
COMMENT ON COLUMN credyt.grant.id IS 'UUIDv7.';
COMMENT ON COLUMN credyt.grant.customer IS 'Customer.';
COMMENT ON COLUMN credyt.grant.asset IS 'Asset.';
COMMENT ON COLUMN credyt.grant.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.grant.priority IS 'Lower burns first.';
COMMENT ON COLUMN credyt.grant.credits IS 'Credits issued.';
COMMENT ON COLUMN credyt.grant.remaining IS 'Credits left, held ones included.';
COMMENT ON COLUMN credyt.grant.held IS 'Credits held by open authorizations.';
COMMENT ON COLUMN credyt.grant.paid IS 'Money paid for it, in the asset''s currency.';
COMMENT ON COLUMN credyt.grant.deferred IS 'The part of it that is not earned yet.';
COMMENT ON COLUMN credyt.grant.effective_at IS 'Start, inclusive.';
COMMENT ON COLUMN credyt.grant.expires_at IS 'End, exclusive; NULL: it never ends.';
COMMENT ON COLUMN credyt.grant.applies_to IS 'Patterns of the actions it may pay for; NULL: all.';
COMMENT ON COLUMN credyt.grant.origin IS 'The grant it came from.';
COMMENT ON COLUMN credyt.grant.replayed IS 'True: the same call was answered before, and nothing changed now.';

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
    'Gives a customer purchased, included or promotional credits, with what was paid for them.';

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
    'Takes back what is unheld of a grant, all or some of it; with spent owe, what was spent becomes a debt.';

-- ROWS 10: with fewer the planner compares each grant of a wallet with every other one in grant_balances.
CREATE FUNCTION credyt.grants(wallet credyt.wallet) RETURNS SETOF credyt.grant
    AS 'MODULE_PATHNAME', 'credyt_grants_of' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 10;
COMMENT ON FUNCTION credyt.grants(credyt.wallet) IS
    'The open grants in a wallet''s state, in burn order; what the state does not keep is NULL.';

CREATE FUNCTION credyt.pending_grants(customer text, asset text, state credyt.wallet, at timestamptz) RETURNS SETOF credyt.grant
    AS 'MODULE_PATHNAME', 'credyt_pending_grants' LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.pending_grants(text, text, credyt.wallet, timestamptz) IS
    'The grants of renewals that are pending at a moment.';

CREATE VIEW credyt.grant_balances AS
SELECT w.customer, g.id, w.asset, g.kind, g.priority, g.credits,
       coalesce(g.remaining, 0) AS remaining,
       coalesce(g.held, 0) AS held,
       g.paid,
       coalesce(g.deferred, 0.00) AS deferred,
       g.effective_at, g.expires_at, g.applies_to, g.origin,
       false AS replayed
FROM credyt.wallets w
CROSS JOIN LATERAL (
    SELECT CASE WHEN w.next_due_at <= (SELECT credyt.statement_time())
                THEN credyt.wallet_state_at(w.customer, w.asset, w.state, (SELECT credyt.statement_time()))
                ELSE w.state END AS state
    OFFSET 0
) n
-- OFFSET 0, here too: what is due is worked through once for a wallet, not once for each of its grants.
CROSS JOIN LATERAL (
    SELECT i.id, i.kind, i.priority, i.credits, o.remaining, o.held, i.paid, o.deferred, i.effective_at,
           coalesce(e.ended_at, i.expires_at) AS expires_at, i.applies_to, i.origin
    FROM credyt.grants i
    LEFT JOIN credyt.ended_grants e ON e.customer = i.customer AND e.grant_id = i.id
    LEFT JOIN credyt.grants(n.state) AS o ON o.id = i.id
    WHERE i.customer = w.customer AND i.asset = w.asset
    UNION ALL
    SELECT d.id, d.kind, d.priority, d.credits, d.remaining, d.held, d.paid, d.deferred, d.effective_at,
           d.expires_at, d.applies_to, d.origin
    FROM credyt.pending_grants(w.customer, w.asset, w.state, (SELECT credyt.statement_time())) AS d
    WHERE w.next_due_at <= (SELECT credyt.statement_time())
    OFFSET 0
) g;
COMMENT ON VIEW credyt.grant_balances IS 'What is left of every grant? Future, spent and ended ones too.';
COMMENT ON COLUMN credyt.grant_balances.customer IS 'Customer.';
COMMENT ON COLUMN credyt.grant_balances.id IS 'The grant.';
COMMENT ON COLUMN credyt.grant_balances.asset IS 'Asset.';
COMMENT ON COLUMN credyt.grant_balances.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.grant_balances.priority IS 'Lower burns first.';
COMMENT ON COLUMN credyt.grant_balances.credits IS 'Credits issued.';
COMMENT ON COLUMN credyt.grant_balances.remaining IS 'Credits left, held ones included.';
COMMENT ON COLUMN credyt.grant_balances.held IS 'Credits held by open authorizations.';
COMMENT ON COLUMN credyt.grant_balances.paid IS 'Money paid for it, in the asset''s currency.';
COMMENT ON COLUMN credyt.grant_balances.deferred IS 'The part of it that is not earned yet.';
COMMENT ON COLUMN credyt.grant_balances.effective_at IS 'Start, inclusive.';
COMMENT ON COLUMN credyt.grant_balances.expires_at IS 'End, exclusive; NULL: it never ends.';
COMMENT ON COLUMN credyt.grant_balances.applies_to IS 'Patterns of the actions it may pay for; NULL: all.';
COMMENT ON COLUMN credyt.grant_balances.origin IS 'The grant it came from.';
COMMENT ON COLUMN credyt.grant_balances.replayed IS 'Always false: a view answers no call.';

CREATE VIEW credyt.spend_order AS
SELECT w.customer, w.asset,
       row_number() OVER (PARTITION BY w.customer, w.asset ORDER BY o.place)::int AS position,
       o.id AS grant_id, o.kind, o.remaining, o.held, o.expires_at, o.applies_to
FROM credyt.current_wallets w
CROSS JOIN LATERAL credyt.grants(w.state) WITH ORDINALITY AS
    o (id, customer, asset, kind, priority, credits, remaining, held, paid, deferred, effective_at,
       expires_at, applies_to, origin, replayed, place)
WHERE w.status = 'active' AND o.remaining > o.held
  AND o.effective_at <= w.at AND (o.expires_at IS NULL OR o.expires_at > w.at);
COMMENT ON VIEW credyt.spend_order IS 'Which grant burns next? Those with applies_to pay for matching actions only.';
COMMENT ON COLUMN credyt.spend_order.customer IS 'Customer.';
COMMENT ON COLUMN credyt.spend_order.asset IS 'Asset.';
COMMENT ON COLUMN credyt.spend_order.position IS '1 burns first.';
COMMENT ON COLUMN credyt.spend_order.grant_id IS 'The grant.';
COMMENT ON COLUMN credyt.spend_order.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.spend_order.remaining IS 'Credits left, held ones included.';
COMMENT ON COLUMN credyt.spend_order.held IS 'Credits held by open authorizations.';
COMMENT ON COLUMN credyt.spend_order.expires_at IS 'When it ends; NULL: never.';
COMMENT ON COLUMN credyt.spend_order.applies_to IS 'Patterns of the actions it may pay for; NULL: all.';

CREATE VIEW credyt.expiring_grants AS
SELECT w.customer, w.asset, o.id AS grant_id, o.kind, o.remaining, o.expires_at
FROM credyt.current_wallets w
CROSS JOIN LATERAL credyt.grants(w.state) AS o
WHERE o.expires_at > w.at AND o.effective_at <= w.at;
COMMENT ON VIEW credyt.expiring_grants IS 'Which live credits will end, and when? Ask with ORDER BY expires_at.';
COMMENT ON COLUMN credyt.expiring_grants.customer IS 'Customer.';
COMMENT ON COLUMN credyt.expiring_grants.asset IS 'Asset.';
COMMENT ON COLUMN credyt.expiring_grants.grant_id IS 'The grant.';
COMMENT ON COLUMN credyt.expiring_grants.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.expiring_grants.remaining IS 'Credits left, held ones included.';
COMMENT ON COLUMN credyt.expiring_grants.expires_at IS 'When it ends.';
