-- Spend limits. The limits are in the wallet's state, with what counts under them; the table here has what counts for the
-- users and keys under user:* and key:* for whom the state has no room.

CREATE TABLE credyt.limit_uses (
    customer      text NOT NULL,
    asset         text NOT NULL,
    scope         text NOT NULL,
    every         text NOT NULL,
    counts        text NOT NULL,
    period_start  timestamptz NOT NULL,
    period_end    timestamptz,
    after         bigint NOT NULL,
    used          numeric NOT NULL,
    warned        boolean NOT NULL,
    reached       boolean NOT NULL,
    unopened      boolean NOT NULL,
    PRIMARY KEY (customer, asset, scope, every, counts)
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX limit_uses_end ON credyt.limit_uses (period_end);
COMMENT ON TABLE credyt.limit_uses IS 'Uses under user:* and key:* for which a wallet''s state has no room, by user or key. Read credyt.limits_used instead.';
COMMENT ON COLUMN credyt.limit_uses.customer IS 'Customer.';
COMMENT ON COLUMN credyt.limit_uses.asset IS 'Asset.';
COMMENT ON COLUMN credyt.limit_uses.scope IS 'The user or key.';
COMMENT ON COLUMN credyt.limit_uses.every IS 'The limit''s period.';
COMMENT ON COLUMN credyt.limit_uses.counts IS 'credits or calls.';
COMMENT ON COLUMN credyt.limit_uses.period_start IS 'Start of the period that was counted last, inclusive.';
COMMENT ON COLUMN credyt.limit_uses.period_end IS 'Its end, exclusive; NULL: none.';
COMMENT ON COLUMN credyt.limit_uses.after IS 'Ledger rows up to this number do not count.';
COMMENT ON COLUMN credyt.limit_uses.used IS 'Credits spent in it, less what was refunded of them, or calls made.';
COMMENT ON COLUMN credyt.limit_uses.warned IS 'True: the event limit.warning was written in this period.';
COMMENT ON COLUMN credyt.limit_uses.reached IS 'True: the event limit.reached was written in this period.';
COMMENT ON COLUMN credyt.limit_uses.unopened IS 'True: no use has opened this window; the row remembers that limit.reached was written for a refusal.';
SELECT pg_catalog.pg_extension_config_dump('credyt.limit_uses', '');

CREATE TYPE credyt.spend_limit AS (
    customer  text,
    asset     text,
    scope     text,
    every     text,
    counts    text,
    cap       numeric,
    warn_at   numeric,
    required  boolean
);
COMMENT ON TYPE credyt.spend_limit IS 'The answer to set_limit.';
COMMENT ON COLUMN credyt.spend_limit.customer IS 'Customer.';
COMMENT ON COLUMN credyt.spend_limit.asset IS 'Asset.';
COMMENT ON COLUMN credyt.spend_limit.scope IS 'user:name, key:name, user:*, key:* or action:pattern.';
COMMENT ON COLUMN credyt.spend_limit.every IS 'hour, day, week, month, year, ever or a window such as 5 hours.';
COMMENT ON COLUMN credyt.spend_limit.counts IS 'credits or calls.';
COMMENT ON COLUMN credyt.spend_limit.cap IS 'Credits, spent and held together, or calls; NULL: no limit.';
COMMENT ON COLUMN credyt.spend_limit.warn_at IS 'The share of the cap at which limit.warning is written.';
COMMENT ON COLUMN credyt.spend_limit.required IS 'True: calls that name no such scope are refused.';

CREATE TYPE credyt.limit_row AS (
    scope     text,
    every     text,
    counts    text,
    cap       numeric,
    warn_at   numeric,
    required  boolean,
    start     timestamptz
);
COMMENT ON TYPE credyt.limit_row IS 'A limit in a wallet''s state.';
COMMENT ON COLUMN credyt.limit_row.scope IS 'user:name, key:name, user:*, key:* or action:pattern.';
COMMENT ON COLUMN credyt.limit_row.every IS 'hour, day, week, month, year, ever or a window such as 5 hours.';
COMMENT ON COLUMN credyt.limit_row.counts IS 'credits or calls.';
COMMENT ON COLUMN credyt.limit_row.cap IS 'Credits, spent and held together, or calls.';
COMMENT ON COLUMN credyt.limit_row.warn_at IS 'The share of the cap at which limit.warning is written.';
COMMENT ON COLUMN credyt.limit_row.required IS 'True: calls that name no such scope are refused.';
COMMENT ON COLUMN credyt.limit_row.start IS 'Start of the period ever; NULL for other periods.';

CREATE TYPE credyt.limit_count AS (
    scope         text,
    every         text,
    counts        text,
    period_start  timestamptz,
    after         bigint,
    used          numeric
);
COMMENT ON TYPE credyt.limit_count IS 'What counts under a limit, in a wallet''s state.';
COMMENT ON COLUMN credyt.limit_count.scope IS 'The user or key that spent, or the limit''s pattern of actions.';
COMMENT ON COLUMN credyt.limit_count.every IS 'The limit''s period.';
COMMENT ON COLUMN credyt.limit_count.counts IS 'credits or calls.';
COMMENT ON COLUMN credyt.limit_count.period_start IS 'Start of the period that was counted last, inclusive.';
COMMENT ON COLUMN credyt.limit_count.after IS 'Ledger rows up to this number do not count.';
COMMENT ON COLUMN credyt.limit_count.used IS 'Credits spent in it, less what was refunded of them, or calls made.';

CREATE TYPE credyt.scope_use AS (
    scope         text,
    period_start  timestamptz,
    period_end    timestamptz,
    used          numeric
);
COMMENT ON TYPE credyt.scope_use IS 'What a user, a key or a pattern of actions has used of a limit in a period.';
COMMENT ON COLUMN credyt.scope_use.scope IS 'The user, the key, or the pattern of actions.';
COMMENT ON COLUMN credyt.scope_use.period_start IS 'Start of the period, inclusive.';
COMMENT ON COLUMN credyt.scope_use.period_end IS 'End of the period, exclusive; NULL: none.';
COMMENT ON COLUMN credyt.scope_use.used IS 'Credits spent in it, less what was refunded of them, or calls made.';

CREATE TYPE credyt.period AS (
    period_start  timestamptz,
    period_end    timestamptz
);
COMMENT ON TYPE credyt.period IS 'A period of a limit.';
COMMENT ON COLUMN credyt.period.period_start IS 'Start, inclusive.';
COMMENT ON COLUMN credyt.period.period_end IS 'End, exclusive; NULL: none.';

CREATE FUNCTION credyt.set_limit(
    customer  text,
    scope     text,
    cap       numeric,
    every     text DEFAULT 'month',
    asset     text DEFAULT 'credits',
    counts    text DEFAULT 'credits',
    warn_at   numeric DEFAULT 0.8,
    required  boolean DEFAULT false
) RETURNS credyt.spend_limit
    AS 'MODULE_PATHNAME', 'credyt_set_limit' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.set_limit(text, text, numeric, text, text, text, numeric, boolean) IS
    'Caps the credits, or calls, that a scope may use in each period; a NULL cap removes the limit.';

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
    'The calendar period of a limit that a moment lies in, in a time zone, or the window that opens at it.';

CREATE FUNCTION credyt.matches_action(scope text, action text) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $$ SELECT CASE WHEN scope LIKE 'action:%*' THEN starts_with(action, substr(rtrim(scope, '*'), 8))
                      ELSE scope = 'action:' || action END $$;
COMMENT ON FUNCTION credyt.matches_action(text, text) IS 'True: a limit''s scope action:... matches this action.';

CREATE VIEW credyt.limits_used AS
SELECT w.customer, w.asset, s.scope,
       coalesce(u.period_start, p.period_start) AS period_start,
       coalesce(u.period_end, p.period_end) AS period_end,
       l.cap, coalesce(u.used, 0) AS used, h.held, l.every, l.counts
FROM credyt.current_wallets w
JOIN credyt.assets a ON a.asset = w.asset
CROSS JOIN LATERAL credyt.limits(w.state) AS l
-- A window has no period before something was used in it.
CROSS JOIN LATERAL (
    SELECT CASE WHEN l.every ~ '^[0-9]' THEN NULL WHEN l.every = 'ever' THEN l.start ELSE p.period_start END AS period_start,
           CASE WHEN l.every !~ '^[0-9]' THEN p.period_end END AS period_end
    FROM credyt.limit_period(l.every, a.timezone, w.at) AS p
) p
-- What counts in the period that runs, in the state or, of some users and keys, in rows.
CROSS JOIN LATERAL (
    SELECT array_agg(ROW(c.scope, c.period_start, e.period_end, c.used)::credyt.scope_use) AS uses
    FROM (SELECT c.scope, c.period_start, c.used FROM credyt.limit_counts(w.state) AS c
          WHERE c.every = l.every AND c.counts = l.counts
            AND (c.scope = l.scope OR l.scope IN ('user:*', 'key:*') AND starts_with(c.scope, rtrim(l.scope, '*')))
          UNION ALL
          SELECT u.scope, u.period_start, u.used FROM credyt.limit_uses u
          WHERE l.scope IN ('user:*', 'key:*') AND u.customer = w.customer AND u.asset = w.asset
            AND u.every = l.every AND u.counts = l.counts AND NOT u.unopened AND starts_with(u.scope, rtrim(l.scope, '*'))) c
    CROSS JOIN LATERAL credyt.limit_period(l.every, a.timezone, c.period_start) AS e
    WHERE c.period_start <= w.at AND coalesce(e.period_end, 'infinity') > w.at
) c
-- user:* and key:* are a limit of each user and key that is there in the period.
CROSS JOIN LATERAL (
    SELECT l.scope WHERE l.scope NOT IN ('user:*', 'key:*')
    UNION
    SELECT seen.scope
    FROM (SELECT u.scope FROM unnest(c.uses) AS u
          UNION
          SELECT unnest(h.scopes) FROM credyt.authorizations h
          WHERE h.customer = w.customer AND h.asset = w.asset AND h.status = 'open' AND h.expires_at > w.at
            AND l.counts = 'credits') seen
    WHERE l.scope IN ('user:*', 'key:*') AND starts_with(seen.scope, rtrim(l.scope, '*'))
      AND NOT EXISTS (SELECT FROM credyt.limits(w.state) AS own
                      WHERE own.scope = seen.scope AND own.every = l.every AND own.counts = l.counts)
) s
LEFT JOIN LATERAL (SELECT u.* FROM unnest(c.uses) AS u WHERE u.scope = s.scope) u ON true
CROSS JOIN LATERAL (
    SELECT coalesce(sum((a.pin->>'credits')::numeric), 0) AS held
    FROM credyt.authorizations h CROSS JOIN LATERAL jsonb_array_elements(h.pins) AS a (pin)
    WHERE h.customer = w.customer AND h.asset = w.asset AND h.status = 'open' AND h.expires_at > w.at
      AND l.counts = 'credits' AND (s.scope = ANY (h.scopes) OR credyt.matches_action(s.scope, h.action))
) h
WHERE l.scope NOT IN ('user:*', 'key:*') OR u.used <> 0 OR h.held <> 0;
COMMENT ON VIEW credyt.limits_used IS 'How much of each limit is used in its current period? Of user:* and key:* a row for each user or key seen in it.';
COMMENT ON COLUMN credyt.limits_used.customer IS 'Customer.';
COMMENT ON COLUMN credyt.limits_used.asset IS 'Asset.';
COMMENT ON COLUMN credyt.limits_used.scope IS 'The user, the key, or the pattern of actions.';
COMMENT ON COLUMN credyt.limits_used.period_start IS 'Start of the period, inclusive; NULL: a window that nothing has opened.';
COMMENT ON COLUMN credyt.limits_used.period_end IS 'End of the period, exclusive; NULL: none, or a window that nothing has opened.';
COMMENT ON COLUMN credyt.limits_used.cap IS 'Credits or calls that may be used in it.';
COMMENT ON COLUMN credyt.limits_used.used IS 'Credits spent in it, less what was refunded of them, or calls made.';
COMMENT ON COLUMN credyt.limits_used.held IS 'Credits held by open authorizations now; they count too.';
COMMENT ON COLUMN credyt.limits_used.every IS 'The limit''s period: hour, day, week, month, year, ever or a window such as 5 hours.';
COMMENT ON COLUMN credyt.limits_used.counts IS 'What it counts: credits or calls.';
