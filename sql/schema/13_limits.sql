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
    'Moves unheld credits to another customer''s wallet, on the same terms and with what was paid for them.';

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
    'Lets a frozen wallet spend again; harmless on one that is active. WC002, WC006 on a closed one, WC009, 22023.';

-- Spend limits. The limits are in the wallet's state, with what counts under them; here is what counts for the users
-- and keys under user:* and key:* for whom the state has no room.

CREATE TABLE credyt.limit_uses (
    customer      text NOT NULL,
    asset         text NOT NULL,
    scope         text NOT NULL,
    every         text NOT NULL,
    period_start  timestamptz NOT NULL,
    period_end    timestamptz NOT NULL,
    used          numeric NOT NULL,
    PRIMARY KEY (customer, asset, scope, every)
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX limit_uses_end ON credyt.limit_uses (period_end);
COMMENT ON TABLE credyt.limit_uses IS 'What users and keys spent in their last period under a limit user:* or key:*, where the wallet''s state has no room for them. Read credyt.limits_used instead.';
COMMENT ON COLUMN credyt.limit_uses.customer IS 'Whose wallet.';
COMMENT ON COLUMN credyt.limit_uses.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.limit_uses.scope IS 'The user or key that spent.';
COMMENT ON COLUMN credyt.limit_uses.every IS 'hour, day, week or month.';
COMMENT ON COLUMN credyt.limit_uses.period_start IS 'The period that was counted last: from here on ...';
COMMENT ON COLUMN credyt.limit_uses.period_end IS '... and before this moment.';
COMMENT ON COLUMN credyt.limit_uses.used IS 'Credits spent in it, less what was refunded of them.';

CREATE TYPE credyt.spend_limit AS (
    customer  text,
    asset     text,
    scope     text,
    every     text,
    credits   numeric
);
COMMENT ON TYPE credyt.spend_limit IS 'At most so many credits in each period.';
COMMENT ON COLUMN credyt.spend_limit.customer IS 'Whose wallet.';
COMMENT ON COLUMN credyt.spend_limit.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.spend_limit.scope IS 'user:name, key:name, user:*, key:* or action:pattern.';
COMMENT ON COLUMN credyt.spend_limit.every IS 'hour, day, week or month.';
COMMENT ON COLUMN credyt.spend_limit.credits IS 'Credits, spent and held together; NULL: no limit.';

CREATE TYPE credyt.limit_row AS (
    scope    text,
    every    text,
    credits  numeric
);
COMMENT ON TYPE credyt.limit_row IS 'A limit in a wallet''s state.';
COMMENT ON COLUMN credyt.limit_row.scope IS 'user:name, key:name, user:*, key:* or action:pattern.';
COMMENT ON COLUMN credyt.limit_row.every IS 'hour, day, week or month.';
COMMENT ON COLUMN credyt.limit_row.credits IS 'Credits, spent and held together.';

CREATE TYPE credyt.limit_count AS (
    scope         text,
    every         text,
    period_start  timestamptz,
    used          numeric
);
COMMENT ON TYPE credyt.limit_count IS 'What counts under a limit, in a wallet''s state.';
COMMENT ON COLUMN credyt.limit_count.scope IS 'The user or key that spent, or the limit''s pattern of actions.';
COMMENT ON COLUMN credyt.limit_count.every IS 'hour, day, week or month.';
COMMENT ON COLUMN credyt.limit_count.period_start IS 'When the period that was counted last began.';
COMMENT ON COLUMN credyt.limit_count.used IS 'Credits spent in it, less what was refunded of them.';

CREATE TYPE credyt.period AS (
    period_start  timestamptz,
    period_end    timestamptz
);
COMMENT ON TYPE credyt.period IS 'A calendar period.';
COMMENT ON COLUMN credyt.period.period_start IS 'From here on ...';
COMMENT ON COLUMN credyt.period.period_end IS '... and before this moment.';

CREATE FUNCTION credyt.set_limit(
    customer  text,
    scope     text,
    credits   numeric,
    every     text DEFAULT 'month',
    asset     text DEFAULT 'credits'
) RETURNS credyt.spend_limit
    AS 'MODULE_PATHNAME', 'credyt_set_limit' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.set_limit(text, text, numeric, text, text) IS
    'Lets a scope spend at most so many credits (spent and held) in each calendar hour, day, week or month of the asset''s time zone; NULL takes that limit away. scope: user:alice or key:abc, as named in scopes by who spends; user:* or key:*, a cap for each one that has none of its own; action:image.*, matched by the action. What was spent in the period before counts. Opens the wallet. WC009, 22003, 22023.';

CREATE FUNCTION credyt.limits(wallet credyt.wallet) RETURNS SETOF credyt.limit_row
    AS 'MODULE_PATHNAME', 'credyt_limits_of' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 2;
COMMENT ON FUNCTION credyt.limits(credyt.wallet) IS
    'The limits in a wallet''s state.';

CREATE FUNCTION credyt.limit_counts(wallet credyt.wallet) RETURNS SETOF credyt.limit_count
    AS 'MODULE_PATHNAME', 'credyt_limit_counts' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 2;
COMMENT ON FUNCTION credyt.limit_counts(credyt.wallet) IS
    'What counts under the limits, in a wallet''s state.';

CREATE FUNCTION credyt.limit_period(every text, timezone text, at timestamptz) RETURNS credyt.period
    AS 'MODULE_PATHNAME', 'credyt_limit_period' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credyt.limit_period(text, text, timestamptz) IS
    'The calendar hour, day, week (from Monday) or month that a moment lies in, in a time zone. 22023.';

CREATE FUNCTION credyt.covers(scope text, action text) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $$ SELECT CASE WHEN scope LIKE 'action:%*' THEN starts_with(action, substr(rtrim(scope, '*'), 8))
                      ELSE scope = 'action:' || action END $$;
COMMENT ON FUNCTION credyt.covers(text, text) IS 'Does a limit''s scope action:... match this action?';

CREATE VIEW credyt.limits_used AS
SELECT w.customer, w.asset, s.scope, p.period_start, p.period_end, l.credits AS cap,
       u.used, h.held
FROM credyt.wallets_now w
JOIN credyt.assets a ON a.asset = w.asset
CROSS JOIN LATERAL credyt.limits(w.state) AS l
CROSS JOIN LATERAL credyt.limit_period(l.every, a.timezone, w.at) AS p
-- user:* and key:* are a limit of each user and key that is there in the period.
CROSS JOIN LATERAL (
    SELECT l.scope WHERE l.scope NOT IN ('user:*', 'key:*')
    UNION
    SELECT seen.scope
    FROM (SELECT c.scope FROM credyt.limit_counts(w.state) AS c
          WHERE c.every = l.every AND c.period_start = p.period_start
          UNION
          SELECT u.scope FROM credyt.limit_uses u
          WHERE u.customer = w.customer AND u.asset = w.asset AND u.every = l.every AND u.period_start = p.period_start
          UNION
          SELECT unnest(h.scopes) FROM credyt.authorizations h
          WHERE h.customer = w.customer AND h.asset = w.asset AND h.status = 'open' AND h.expires_at > w.at) seen
    WHERE l.scope IN ('user:*', 'key:*') AND starts_with(seen.scope, rtrim(l.scope, '*'))
      AND NOT EXISTS (SELECT FROM credyt.limits(w.state) AS own WHERE own.scope = seen.scope AND own.every = l.every)
) s
CROSS JOIN LATERAL (
    SELECT coalesce(sum(u.used), 0) AS used
    FROM (SELECT c.used FROM credyt.limit_counts(w.state) AS c
          WHERE c.scope = s.scope AND c.every = l.every AND c.period_start = p.period_start
          UNION ALL
          SELECT u.used FROM credyt.limit_uses u
          WHERE l.scope IN ('user:*', 'key:*') AND u.customer = w.customer AND u.asset = w.asset
            AND u.scope = s.scope AND u.every = l.every AND u.period_start = p.period_start) u
) u
CROSS JOIN LATERAL (
    SELECT coalesce(sum((a.pin->>'credits')::numeric), 0) AS held
    FROM credyt.authorizations h CROSS JOIN LATERAL jsonb_array_elements(h.pins) AS a (pin)
    WHERE h.customer = w.customer AND h.asset = w.asset AND h.status = 'open' AND h.expires_at > w.at
      AND (s.scope = ANY (h.scopes) OR credyt.covers(s.scope, h.action))
) h
WHERE l.scope NOT IN ('user:*', 'key:*') OR u.used <> 0 OR h.held <> 0;
COMMENT ON VIEW credyt.limits_used IS 'How much of each spend limit is used in the period that runs? Of user:* and key:* one row for each user or key seen in it.';
COMMENT ON COLUMN credyt.limits_used.customer IS 'Whose wallet.';
COMMENT ON COLUMN credyt.limits_used.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.limits_used.scope IS 'The user, the key, or the pattern of actions.';
COMMENT ON COLUMN credyt.limits_used.period_start IS 'The period: from here on ...';
COMMENT ON COLUMN credyt.limits_used.period_end IS '... and before this moment.';
COMMENT ON COLUMN credyt.limits_used.cap IS 'Credits that may be spent in it.';
COMMENT ON COLUMN credyt.limits_used.used IS 'Credits spent in it, less what was refunded of them.';
COMMENT ON COLUMN credyt.limits_used.held IS 'Credits that open authorizations hold now; they count too.';
