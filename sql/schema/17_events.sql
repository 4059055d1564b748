-- The outbox: what the application is told, and who works on it. Alerts, top-ups and expiry notices, which write to it.

-- Half of each page is left free: to be taken costs an event another version of its row, and no index then
-- hears of it.
CREATE TABLE credyt.events (
    customer         text NOT NULL,
    id               uuid NOT NULL,
    asset            text NOT NULL,
    type             text NOT NULL CHECK (type IN ('balance.low', 'balance.depleted', 'topup.requested', 'topup.capped', 'limit.warning',
                                                   'limit.reached', 'grant.expiring', 'grant.expired', 'plan.renewed')),
    payload          jsonb NOT NULL,
    created_at       timestamptz NOT NULL,
    leased_until     timestamptz,
    acknowledged_at  timestamptz,
    failed_at        timestamptz,
    failure          text,
    PRIMARY KEY (customer, id)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX events_first ON credyt.events (id) WHERE acknowledged_at IS NULL;
CREATE INDEX events_waiting ON credyt.events (customer, id) WHERE acknowledged_at IS NULL;
CREATE INDEX events_id ON credyt.events (id);
CREATE INDEX events_done ON credyt.events (acknowledged_at) WHERE acknowledged_at IS NOT NULL;
COMMENT ON TABLE credyt.events IS 'The outbox of events; take them with credyt.take_events, read credyt.events_pending.';
COMMENT ON COLUMN credyt.events.customer IS 'Customer.';
COMMENT ON COLUMN credyt.events.id IS 'UUIDv7, ascending in each wallet.';
COMMENT ON COLUMN credyt.events.asset IS 'Asset.';
COMMENT ON COLUMN credyt.events.type IS 'balance.low, balance.depleted, topup.requested, topup.capped, grant.expiring, grant.expired or plan.renewed.';
COMMENT ON COLUMN credyt.events.payload IS 'The numbers of the event, as strings.';
COMMENT ON COLUMN credyt.events.created_at IS 'When it happened.';
COMMENT ON COLUMN credyt.events.leased_until IS 'Leased to a worker until then; NULL: never leased.';
COMMENT ON COLUMN credyt.events.acknowledged_at IS 'When it was acknowledged; NULL: take_events returns it again.';
COMMENT ON COLUMN credyt.events.failed_at IS 'When credyt.topup_failed said that a top-up failed; NULL: it has not.';
COMMENT ON COLUMN credyt.events.failure IS 'Why a top-up failed, as credyt.topup_failed was told.';
SELECT pg_catalog.pg_extension_config_dump('credyt.events', '');

CREATE TYPE credyt.event AS (
    id          uuid,
    customer    text,
    asset       text,
    type        text,
    payload     jsonb,
    created_at  timestamptz
);
COMMENT ON TYPE credyt.event IS 'An event of a wallet, as take_events returns it.';
COMMENT ON COLUMN credyt.event.id IS 'What ack_events and topup_failed ask for.';
COMMENT ON COLUMN credyt.event.customer IS 'Customer.';
COMMENT ON COLUMN credyt.event.asset IS 'Asset.';
COMMENT ON COLUMN credyt.event.type IS 'balance.low, balance.depleted, topup.requested, topup.capped, grant.expiring, grant.expired or plan.renewed.';
COMMENT ON COLUMN credyt.event.payload IS 'The numbers of the event, as strings.';
COMMENT ON COLUMN credyt.event.created_at IS 'When it happened.';

CREATE TYPE credyt.acknowledgement AS (
    events  int
);
COMMENT ON TYPE credyt.acknowledgement IS 'The answer to ack_events.';
COMMENT ON COLUMN credyt.acknowledgement.events IS 'How many were acknowledged by this call.';

CREATE TYPE credyt.alert AS (
    customer   text,
    asset      text,
    threshold  numeric,
    unit       text,
    enabled    boolean
);
COMMENT ON TYPE credyt.alert IS 'The answer to set_alert.';
COMMENT ON COLUMN credyt.alert.customer IS 'Customer.';
COMMENT ON COLUMN credyt.alert.asset IS 'Asset.';
COMMENT ON COLUMN credyt.alert.threshold IS 'At this balance or below; NULL: all alerts were removed.';
COMMENT ON COLUMN credyt.alert.unit IS 'credits, or percent of the balance right after credits last came in.';
COMMENT ON COLUMN credyt.alert.enabled IS 'False: no event is written.';

CREATE TYPE credyt.topup AS (
    customer          text,
    asset             text,
    threshold         numeric,
    credits           numeric,
    enabled           boolean,
    to_balance        numeric,
    max_credits       numeric,
    every             text,
    cooldown_seconds  int,
    in_flight         uuid,
    cooldown_until    timestamptz
);
COMMENT ON TYPE credyt.topup IS 'The answer to set_topup and topup_failed.';
COMMENT ON COLUMN credyt.topup.customer IS 'Customer.';
COMMENT ON COLUMN credyt.topup.asset IS 'Asset.';
COMMENT ON COLUMN credyt.topup.threshold IS 'Credits: at this balance or below.';
COMMENT ON COLUMN credyt.topup.credits IS 'Credits to ask for; NULL: as many as are missing to to_balance.';
COMMENT ON COLUMN credyt.topup.enabled IS 'False: no top-up is requested.';
COMMENT ON COLUMN credyt.topup.to_balance IS 'The balance to refill to; NULL: credits says how many to ask for.';
COMMENT ON COLUMN credyt.topup.max_credits IS 'The most credits that are requested in a period; NULL: no cap.';
COMMENT ON COLUMN credyt.topup.every IS 'The period: hour, day, week, month or year, in the asset''s time zone.';
COMMENT ON COLUMN credyt.topup.cooldown_seconds IS 'Seconds after a failure in which no top-up is requested.';
COMMENT ON COLUMN credyt.topup.in_flight IS 'The request that is not answered yet; NULL: there is none.';
COMMENT ON COLUMN credyt.topup.cooldown_until IS 'The end of the cooldown after the last failure; NULL: the last request has not failed.';

CREATE FUNCTION credyt.set_alert(
    customer   text,
    threshold  numeric,
    asset      text DEFAULT 'credits',
    unit       text DEFAULT 'credits',
    enabled    boolean DEFAULT true
) RETURNS credyt.alert
    AS 'MODULE_PATHNAME', 'credyt_set_alert' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.set_alert(text, numeric, text, text, boolean) IS
    'Sets an alert: the event balance.low when the balance falls to a threshold. NULL removes all alerts.';

CREATE FUNCTION credyt.set_topup(
    customer          text,
    threshold         numeric,
    credits           numeric DEFAULT NULL,
    asset             text DEFAULT 'credits',
    enabled           boolean DEFAULT true,
    to_balance        numeric DEFAULT NULL,
    max_credits       numeric DEFAULT NULL,
    every             text DEFAULT 'month',
    cooldown_seconds  int DEFAULT 3600
) RETURNS credyt.topup
    AS 'MODULE_PATHNAME', 'credyt_set_topup' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.set_topup(text, numeric, numeric, text, boolean, numeric, numeric, text, int) IS
    'Sets the rule for top-ups: the event topup.requested whenever the balance is at a threshold or below.';

CREATE FUNCTION credyt.topup_failed(
    customer  text,
    event_id  uuid,
    reason    text DEFAULT NULL
) RETURNS credyt.topup
    AS 'MODULE_PATHNAME', 'credyt_topup_failed' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.topup_failed(text, uuid, text) IS
    'Says that a requested top-up failed: after the cooldown it is asked for again. Acknowledge the event as well.';

CREATE FUNCTION credyt.take_events(
    batch          int DEFAULT 100,
    lease_seconds  int DEFAULT 60
) RETURNS SETOF credyt.event
    AS 'MODULE_PATHNAME', 'credyt_take_events' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.take_events(int, int) IS
    'Leases events to a worker, in order for each customer; what is not acknowledged in time comes again.';

CREATE FUNCTION credyt.ack_events(
    ids  uuid[]
) RETURNS credyt.acknowledgement
    AS 'MODULE_PATHNAME', 'credyt_ack_events' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.ack_events(uuid[]) IS
    'Acknowledges events: they do not come again.';

CREATE TYPE credyt.alert_rule AS (
    threshold  numeric,
    unit       text,
    enabled    boolean,
    level      numeric,
    balance    numeric,
    reached    boolean
);
COMMENT ON TYPE credyt.alert_rule IS 'An alert in a wallet''s state.';
COMMENT ON COLUMN credyt.alert_rule.threshold IS 'Credits or percent.';
COMMENT ON COLUMN credyt.alert_rule.unit IS 'credits or percent.';
COMMENT ON COLUMN credyt.alert_rule.enabled IS 'False: no event is written.';
COMMENT ON COLUMN credyt.alert_rule.level IS 'Credits: the balance at which it is reached.';
COMMENT ON COLUMN credyt.alert_rule.balance IS 'Credits that can be spent on anything without going into debt.';
COMMENT ON COLUMN credyt.alert_rule.reached IS 'True: the balance is at the level or below.';

CREATE TYPE credyt.topup_rule AS (
    threshold         numeric,
    credits           numeric,
    enabled           boolean,
    to_balance        numeric,
    max_credits       numeric,
    every             text,
    cooldown_seconds  int,
    balance           numeric,
    in_flight         uuid,
    cooldown_until    timestamptz,
    requested         numeric,
    resets_at         timestamptz
);
COMMENT ON TYPE credyt.topup_rule IS 'The rule for top-ups in a wallet''s state.';
COMMENT ON COLUMN credyt.topup_rule.threshold IS 'Credits: at this balance or below.';
COMMENT ON COLUMN credyt.topup_rule.credits IS 'Credits to ask for; NULL: as many as are missing to to_balance.';
COMMENT ON COLUMN credyt.topup_rule.enabled IS 'False: no top-up is requested.';
COMMENT ON COLUMN credyt.topup_rule.to_balance IS 'The balance to refill to; NULL: credits says how many to ask for.';
COMMENT ON COLUMN credyt.topup_rule.max_credits IS 'The most credits that are requested in a period; NULL: no cap.';
COMMENT ON COLUMN credyt.topup_rule.every IS 'The period: hour, day, week, month or year.';
COMMENT ON COLUMN credyt.topup_rule.cooldown_seconds IS 'Seconds after a failure in which no top-up is requested.';
COMMENT ON COLUMN credyt.topup_rule.balance IS 'Credits that can be spent on anything without going into debt.';
COMMENT ON COLUMN credyt.topup_rule.in_flight IS 'The request that is not answered yet; NULL: there is none.';
COMMENT ON COLUMN credyt.topup_rule.cooldown_until IS 'No top-up is requested before this moment; NULL: no cooldown runs.';
COMMENT ON COLUMN credyt.topup_rule.requested IS 'Credits that were requested in this period and have not failed.';
COMMENT ON COLUMN credyt.topup_rule.resets_at IS 'The end of this period; NULL: nothing was requested in it.';

CREATE FUNCTION credyt.alert_rules(state credyt.wallet, at timestamptz) RETURNS SETOF credyt.alert_rule
    AS 'MODULE_PATHNAME', 'credyt_alert_rules' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1;
COMMENT ON FUNCTION credyt.alert_rules(credyt.wallet, timestamptz) IS 'The alerts in a wallet''s state, and where its balance stands.';

CREATE FUNCTION credyt.topup_rules(state credyt.wallet, at timestamptz) RETURNS SETOF credyt.topup_rule
    AS 'MODULE_PATHNAME', 'credyt_topup_rules' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1;
COMMENT ON FUNCTION credyt.topup_rules(credyt.wallet, timestamptz) IS 'The rule for top-ups in a wallet''s state, and where its balance stands.';

CREATE VIEW credyt.alerts AS
SELECT w.customer, w.asset, r.threshold, r.unit, r.enabled, r.level, r.balance, r.reached
FROM credyt.current_wallets w CROSS JOIN LATERAL credyt.alert_rules(w.state, w.at) AS r;
COMMENT ON VIEW credyt.alerts IS 'Which alerts are set, and how far is the balance from each?';
COMMENT ON COLUMN credyt.alerts.customer IS 'Customer.';
COMMENT ON COLUMN credyt.alerts.asset IS 'Asset.';
COMMENT ON COLUMN credyt.alerts.threshold IS 'The event balance.low is written when the balance falls to this or below.';
COMMENT ON COLUMN credyt.alerts.unit IS 'credits, or percent of the balance right after credits last came in.';
COMMENT ON COLUMN credyt.alerts.enabled IS 'False: no event is written.';
COMMENT ON COLUMN credyt.alerts.level IS 'Credits: the balance at which it is reached.';
COMMENT ON COLUMN credyt.alerts.balance IS 'Credits that can be spent on anything without going into debt: what is compared.';
COMMENT ON COLUMN credyt.alerts.reached IS 'True: the balance is at the threshold or below; the next event comes after it has been above.';

CREATE VIEW credyt.topups AS
SELECT w.customer, w.asset, r.threshold, r.credits, r.enabled, r.balance, r.in_flight, r.to_balance, r.max_credits,
       r.every, r.requested, r.resets_at, r.cooldown_seconds, r.cooldown_until
FROM credyt.current_wallets w CROSS JOIN LATERAL credyt.topup_rules(w.state, w.at) AS r;
COMMENT ON VIEW credyt.topups IS 'Which top-up rules are set, and which requests are not answered yet?';
COMMENT ON COLUMN credyt.topups.customer IS 'Customer.';
COMMENT ON COLUMN credyt.topups.asset IS 'Asset.';
COMMENT ON COLUMN credyt.topups.threshold IS 'Credits: requested at this balance or below.';
COMMENT ON COLUMN credyt.topups.credits IS 'Credits to ask for; NULL: as many as are missing to to_balance.';
COMMENT ON COLUMN credyt.topups.enabled IS 'False: no top-up is requested.';
COMMENT ON COLUMN credyt.topups.balance IS 'Credits that can be spent on anything without going into debt: what is compared.';
COMMENT ON COLUMN credyt.topups.in_flight IS 'The event topup.requested that is not answered yet, by a purchase or credyt.topup_failed; NULL: there is none.';
COMMENT ON COLUMN credyt.topups.to_balance IS 'The balance to refill to; NULL: credits says how many to ask for.';
COMMENT ON COLUMN credyt.topups.max_credits IS 'The most credits that are requested in a period; NULL: no cap.';
COMMENT ON COLUMN credyt.topups.every IS 'The period: hour, day, week, month or year, in the asset''s time zone.';
COMMENT ON COLUMN credyt.topups.requested IS 'Credits that were requested in this period and have not failed.';
COMMENT ON COLUMN credyt.topups.resets_at IS 'The end of this period; NULL: nothing was requested in it.';
COMMENT ON COLUMN credyt.topups.cooldown_seconds IS 'Seconds after a failure in which no top-up is requested.';
COMMENT ON COLUMN credyt.topups.cooldown_until IS 'No top-up is requested before this moment; NULL: no cooldown runs.';

CREATE VIEW credyt.events_pending AS
SELECT e.id, e.customer, e.asset, e.type, e.payload, e.created_at
FROM credyt.events e
WHERE e.acknowledged_at IS NULL;
COMMENT ON VIEW credyt.events_pending IS 'Which events are not acknowledged yet? Leased ones included.';
COMMENT ON COLUMN credyt.events_pending.id IS 'The event.';
COMMENT ON COLUMN credyt.events_pending.customer IS 'Customer.';
COMMENT ON COLUMN credyt.events_pending.asset IS 'Asset.';
COMMENT ON COLUMN credyt.events_pending.type IS 'balance.low, balance.depleted, topup.requested, topup.capped, grant.expiring, grant.expired or plan.renewed.';
COMMENT ON COLUMN credyt.events_pending.payload IS 'The numbers of the event, as strings.';
COMMENT ON COLUMN credyt.events_pending.created_at IS 'When it happened.';

CREATE TABLE credyt.expiry_notices (
    asset        text PRIMARY KEY,
    days         int[] NOT NULL CHECK (cardinality(days) BETWEEN 1 AND 10),
    kinds        text[] NOT NULL CHECK (kinds <@ ARRAY['included', 'promotional', 'purchased']),
    set_at       timestamptz NOT NULL,
    searched_to  text
);
COMMENT ON TABLE credyt.expiry_notices IS 'How many days before its end a grant gets the event grant.expiring. Written by credyt.set_expiry_notice.';
COMMENT ON COLUMN credyt.expiry_notices.asset IS 'Asset.';
COMMENT ON COLUMN credyt.expiry_notices.days IS 'Days of 24 hours before the end of a grant.';
COMMENT ON COLUMN credyt.expiry_notices.kinds IS 'The kinds of grants that get a notice.';
COMMENT ON COLUMN credyt.expiry_notices.set_at IS 'When it was set, by the server''s clock.';
COMMENT ON COLUMN credyt.expiry_notices.searched_to IS 'The customer up to which maintain has searched for older grants; NULL: all are searched.';
SELECT pg_catalog.pg_extension_config_dump('credyt.expiry_notices', '');
-- Backends remember it with the asset.
CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE OF days, kinds ON credyt.expiry_notices
    FOR EACH ROW EXECUTE FUNCTION credyt.announce_change('expiry_notices');
ALTER TABLE credyt.expiry_notices ENABLE ALWAYS TRIGGER announce;

CREATE TYPE credyt.expiry_notice AS (
    asset  text,
    days   int[],
    kinds  text[]
);
COMMENT ON TYPE credyt.expiry_notice IS 'How many days before its end a grant gets the event grant.expiring.';
COMMENT ON COLUMN credyt.expiry_notice.asset IS 'Asset.';
COMMENT ON COLUMN credyt.expiry_notice.days IS 'Days of 24 hours before the end of a grant, the most first; NULL: no event is written.';
COMMENT ON COLUMN credyt.expiry_notice.kinds IS 'The kinds of grants that get a notice.';

CREATE FUNCTION credyt.set_expiry_notice(
    days   int[],
    asset  text DEFAULT 'credits',
    kinds  text[] DEFAULT '{promotional,purchased}'
) RETURNS credyt.expiry_notice
    AS 'MODULE_PATHNAME', 'credyt_set_expiry_notice' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.set_expiry_notice(int[], text, text[]) IS
    'Sets how many days before its end a grant gets the event grant.expiring, by kind; NULL removes it.';
