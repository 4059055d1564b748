-- Plans and subscriptions: periods, changes of plan and of seats, what a payment brought and its chargeback.

CREATE TABLE credyt.plans (
    plan        text NOT NULL,
    version     int NOT NULL CHECK (version > 0),
    asset       text NOT NULL,
    credits     numeric NOT NULL CHECK (credits >= 0),
    every       text NOT NULL,
    paid        numeric NOT NULL CHECK (paid >= 0),
    rollover    numeric CHECK (rollover >= 0),
    priority    int NOT NULL,
    applies_to  text[],
    created_at  timestamptz NOT NULL,
    committed_at timestamptz,
    rollover_percent numeric NOT NULL CHECK (rollover_percent BETWEEN 0 AND 100),
    rollover_periods int CHECK (rollover_periods >= 0),
    PRIMARY KEY (plan, version)
);
COMMENT ON TABLE credyt.plans IS 'Every version of every plan, append-only. Written by credyt.create_plan.';
COMMENT ON COLUMN credyt.plans.plan IS 'The name of the plan.';
COMMENT ON COLUMN credyt.plans.version IS 'Counts up from 1; a subscription takes the newest one when its next period starts.';
COMMENT ON COLUMN credyt.plans.asset IS 'The asset of its credits; the same in every version.';
COMMENT ON COLUMN credyt.plans.credits IS 'Credits of each period.';
COMMENT ON COLUMN credyt.plans.every IS 'Length of a period: a number of hours, days, weeks, months or years.';
COMMENT ON COLUMN credyt.plans.paid IS 'Money paid for each period, in the asset''s currency.';
COMMENT ON COLUMN credyt.plans.rollover IS 'Most unspent credits that move to the next period; NULL: all.';
COMMENT ON COLUMN credyt.plans.rollover_percent IS 'Percentage of the unspent credits that moves, rounded down, at most rollover.';
COMMENT ON COLUMN credyt.plans.rollover_periods IS 'How often the same credits may move; NULL: any number of times.';
COMMENT ON COLUMN credyt.plans.priority IS 'Of its grants: lower burns first.';
COMMENT ON COLUMN credyt.plans.applies_to IS 'Patterns of the actions its grants may pay for; NULL: all.';
COMMENT ON COLUMN credyt.plans.created_at IS 'When it was made.';
COMMENT ON COLUMN credyt.plans.committed_at IS 'Renewals after this moment are on these terms; NULL until the transaction that made it commits.';
SELECT pg_catalog.pg_extension_config_dump('credyt.plans', '');
CREATE TRIGGER append_only
    BEFORE UPDATE OF plan, version, asset, credits, every, paid, rollover, priority, applies_to, created_at, rollover_percent, rollover_periods OR DELETE OR TRUNCATE
    ON credyt.plans FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('plans');
CREATE TRIGGER committed_once BEFORE UPDATE ON credyt.plans
    FOR EACH ROW WHEN (OLD.committed_at IS NOT NULL) EXECUTE FUNCTION credyt.refuse_change('plans');

-- What a reader has seen a renewal bring, it brings: a new version counts from its commit, not from its
-- call. A restored row has its moment already, so that nothing fires.
CREATE FUNCTION credyt.commit_plans() RETURNS trigger
    AS 'MODULE_PATHNAME', 'credyt_commit_plans' LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION credyt.commit_plans() IS 'Writes down when new versions of plans are committed.';

CREATE CONSTRAINT TRIGGER committed AFTER INSERT ON credyt.plans DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.committed_at IS NULL) EXECUTE FUNCTION credyt.commit_plans();

CREATE TABLE credyt.booked_subscriptions (
    customer         text NOT NULL,
    id               uuid NOT NULL,
    plan             text NOT NULL,
    quantity         int NOT NULL CHECK (quantity > 0),
    asset            text NOT NULL,
    timezone         text NOT NULL,
    starts_at        timestamptz NOT NULL,
    anchor           timestamptz NOT NULL,
    steps            int NOT NULL,
    period_start     timestamptz,
    version          int,
    next_renewal_at  timestamptz,
    paid_through     timestamptz,
    ends_at          timestamptz,
    grants           uuid[] NOT NULL,
    moved            int[] NOT NULL,
    waits_until      timestamptz,
    next_plan        text,
    next_quantity    int CHECK (next_quantity > 0),
    grant_id         uuid,
    had_credits      numeric NOT NULL CHECK (had_credits >= 0),
    had_paid         numeric NOT NULL CHECK (had_paid >= 0),
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (customer, id),
    CHECK (cardinality(grants) = cardinality(moved))
) WITH (fillfactor = 80);
COMMENT ON TABLE credyt.booked_subscriptions IS 'How far each subscription has been booked; changed under the lock of the wallet. Read credyt.subscriptions instead.';
COMMENT ON COLUMN credyt.booked_subscriptions.customer IS 'Customer.';
COMMENT ON COLUMN credyt.booked_subscriptions.id IS 'UUIDv7.';
COMMENT ON COLUMN credyt.booked_subscriptions.plan IS 'Plan.';
COMMENT ON COLUMN credyt.booked_subscriptions.quantity IS 'Seats.';
COMMENT ON COLUMN credyt.booked_subscriptions.asset IS 'The asset of its credits.';
COMMENT ON COLUMN credyt.booked_subscriptions.timezone IS 'Periods keep the local hour of this time zone.';
COMMENT ON COLUMN credyt.booked_subscriptions.starts_at IS 'When its first period starts.';
COMMENT ON COLUMN credyt.booked_subscriptions.anchor IS 'What periods are counted from: the first start, or the one at which months became days or days months.';
COMMENT ON COLUMN credyt.booked_subscriptions.steps IS 'Hours, days or months from the anchor to the start of the next period.';
COMMENT ON COLUMN credyt.booked_subscriptions.period_start IS 'When the last period that was booked started; NULL: none was.';
COMMENT ON COLUMN credyt.booked_subscriptions.version IS 'The version of the plan that it is on.';
COMMENT ON COLUMN credyt.booked_subscriptions.next_renewal_at IS 'When the period after it starts; NULL: after the year 9999.';
COMMENT ON COLUMN credyt.booked_subscriptions.paid_through IS 'Periods that start at or after this are not granted until paid; NULL: no gate.';
COMMENT ON COLUMN credyt.booked_subscriptions.ends_at IS 'Periods that start at or after this are not wanted; NULL: it goes on.';
COMMENT ON COLUMN credyt.booked_subscriptions.grants IS 'The grants of the period booked last: its own, and what rolled over into it. Empty once nothing of them can roll over.';
COMMENT ON COLUMN credyt.booked_subscriptions.moved IS 'How often the credits of each of these grants have rolled over.';
COMMENT ON COLUMN credyt.booked_subscriptions.waits_until IS 'Until then, or ends_at, what may roll over waits for the payment of the next period; NULL: nothing waits.';
COMMENT ON COLUMN credyt.booked_subscriptions.next_plan IS 'The plan of its next period, where a change is scheduled.';
COMMENT ON COLUMN credyt.booked_subscriptions.next_quantity IS 'The seats of its next period, where a change is scheduled.';
COMMENT ON COLUMN credyt.booked_subscriptions.grant_id IS 'The first grant of the period booked last, what rolled over left out; NULL: it granted nothing.';
COMMENT ON COLUMN credyt.booked_subscriptions.had_credits IS 'The most credits that the terms of that period came to; a change by difference grants what goes beyond.';
COMMENT ON COLUMN credyt.booked_subscriptions.had_paid IS 'The most money that the terms of that period came to.';
COMMENT ON COLUMN credyt.booked_subscriptions.created_at IS 'When it was made.';
SELECT pg_catalog.pg_extension_config_dump('credyt.booked_subscriptions', '');

CREATE TABLE credyt.subscription_keys (
    customer         text NOT NULL,
    idempotency_key  text NOT NULL,
    request          bytea NOT NULL,
    subscription_id  uuid NOT NULL,
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (customer, idempotency_key)
);
COMMENT ON TABLE credyt.subscription_keys IS 'The idempotency keys of credyt.subscribe, credyt.change_plan and credyt.pay_subscription, append-only.';
COMMENT ON COLUMN credyt.subscription_keys.customer IS 'Customer.';
COMMENT ON COLUMN credyt.subscription_keys.idempotency_key IS 'Unique per customer.';
COMMENT ON COLUMN credyt.subscription_keys.request IS 'Hash of what was asked, to know a replay from another request.';
COMMENT ON COLUMN credyt.subscription_keys.subscription_id IS 'The subscription that was answered with.';
COMMENT ON COLUMN credyt.subscription_keys.created_at IS 'When the first call with this key was made.';
SELECT pg_catalog.pg_extension_config_dump('credyt.subscription_keys', '');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.subscription_keys
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('subscription_keys');

CREATE TYPE credyt.plan AS (
    plan        text,
    version     int,
    asset       text,
    credits     numeric,
    every       text,
    paid        numeric,
    rollover    numeric,
    priority    int,
    applies_to  text[],
    created_at  timestamptz,
    rollover_percent numeric,
    rollover_periods int
);
COMMENT ON TYPE credyt.plan IS 'One version of a plan.';
COMMENT ON COLUMN credyt.plan.plan IS 'Its name.';
COMMENT ON COLUMN credyt.plan.version IS 'Counts up from 1.';
COMMENT ON COLUMN credyt.plan.asset IS 'The asset of its credits.';
COMMENT ON COLUMN credyt.plan.credits IS 'Credits of each period.';
COMMENT ON COLUMN credyt.plan.every IS 'How long a period is.';
COMMENT ON COLUMN credyt.plan.paid IS 'Money paid for each period, in the asset''s currency.';
COMMENT ON COLUMN credyt.plan.rollover IS 'Most unspent credits that move to the next period; NULL: all.';
COMMENT ON COLUMN credyt.plan.rollover_percent IS 'Percentage of the unspent credits that moves, rounded down, at most rollover.';
COMMENT ON COLUMN credyt.plan.rollover_periods IS 'How often the same credits may move; NULL: any number of times.';
COMMENT ON COLUMN credyt.plan.priority IS 'Of its grants: lower burns first.';
COMMENT ON COLUMN credyt.plan.applies_to IS 'Patterns of the actions its grants may pay for; NULL: all.';
COMMENT ON COLUMN credyt.plan.created_at IS 'When it was made. Periods that start after its commit are on these terms.';

CREATE TYPE credyt.subscription AS (
    id               uuid,
    customer         text,
    plan             text,
    version          int,
    quantity         numeric,
    asset            text,
    credits          numeric,
    timezone         text,
    status           text,
    starts_at        timestamptz,
    period_start     timestamptz,
    period_end       timestamptz,
    next_renewal_at  timestamptz,
    paid_through     timestamptz,
    ends_at          timestamptz,
    next_plan        text,
    next_quantity    numeric,
    replayed         boolean
);
COMMENT ON TYPE credyt.subscription IS 'A subscription as it stands now.';
COMMENT ON COLUMN credyt.subscription.id IS 'UUIDv7.';
COMMENT ON COLUMN credyt.subscription.customer IS 'Customer.';
COMMENT ON COLUMN credyt.subscription.plan IS 'Plan.';
COMMENT ON COLUMN credyt.subscription.version IS 'The version of the plan that its period is on; before the first, the newest.';
COMMENT ON COLUMN credyt.subscription.quantity IS 'Seats: how often the plan is taken.';
COMMENT ON COLUMN credyt.subscription.asset IS 'The asset of its credits.';
COMMENT ON COLUMN credyt.subscription.credits IS 'Credits of a period on that version, of all seats.';
COMMENT ON COLUMN credyt.subscription.timezone IS 'Periods keep the local hour of this time zone.';
COMMENT ON COLUMN credyt.subscription.status IS 'scheduled: its first period is still to come; active; unpaid: a period has come that is not paid for; ended.';
COMMENT ON COLUMN credyt.subscription.starts_at IS 'When its first period starts.';
COMMENT ON COLUMN credyt.subscription.period_start IS 'When the last period that was granted started; NULL: none was.';
COMMENT ON COLUMN credyt.subscription.period_end IS 'When that period ends.';
COMMENT ON COLUMN credyt.subscription.next_renewal_at IS 'When the next period starts; past where it waits for a payment. NULL: there is none.';
COMMENT ON COLUMN credyt.subscription.paid_through IS 'Periods that start at or after this are not granted until paid; NULL: no gate.';
COMMENT ON COLUMN credyt.subscription.ends_at IS 'Periods that start at or after this are not wanted; NULL: it goes on.';
COMMENT ON COLUMN credyt.subscription.next_plan IS 'The plan of its next period, where a change is scheduled; NULL: none is.';
COMMENT ON COLUMN credyt.subscription.next_quantity IS 'The seats of its next period, where a change is scheduled; NULL: none is.';
COMMENT ON COLUMN credyt.subscription.replayed IS 'True: it was there, and nothing changed now.';

CREATE FUNCTION credyt.create_plan(
    plan        text,
    credits     numeric,
    every       text DEFAULT '1 month',
    asset       text DEFAULT 'credits',
    paid        numeric DEFAULT 0,
    rollover    numeric DEFAULT 0,
    priority    int DEFAULT 100,
    applies_to  text[] DEFAULT NULL,
    rollover_percent numeric DEFAULT 100,
    rollover_periods int DEFAULT NULL
) RETURNS credyt.plan
    AS 'MODULE_PATHNAME', 'credyt_create_plan' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.create_plan(text, numeric, text, text, numeric, numeric, int, text[], numeric, int) IS
    'Creates a plan: its period, credits, price and rollover. Other terms make a new version; the same ones are harmless.';

CREATE FUNCTION credyt.subscribe(
    customer         text,
    plan             text,
    starts_at        timestamptz DEFAULT NULL,
    paid_through     timestamptz DEFAULT NULL,
    timezone         text DEFAULT NULL,
    idempotency_key  text DEFAULT NULL,
    quantity         numeric DEFAULT 1,
    payment          text DEFAULT NULL
) RETURNS credyt.subscription
    AS 'MODULE_PATHNAME', 'credyt_subscribe' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.subscribe(text, text, timestamptz, timestamptz, text, text, numeric, text) IS
    'Starts a subscription, whose credits come period by period; returns the running one where there is one.';

CREATE FUNCTION credyt.pay_subscription(
    customer         text,
    plan             text,
    paid_through     timestamptz,
    idempotency_key  text DEFAULT NULL,
    payment          text DEFAULT NULL
) RETURNS credyt.subscription
    AS 'MODULE_PATHNAME', 'credyt_pay_subscription' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.pay_subscription(text, text, timestamptz, text, text) IS
    'Marks the periods that start before paid_through as paid; those that have come due are granted at once.';

CREATE FUNCTION credyt.unsubscribe(
    customer  text,
    plan      text,
    at        timestamptz DEFAULT NULL
) RETURNS credyt.subscription
    AS 'MODULE_PATHNAME', 'credyt_unsubscribe' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.unsubscribe(text, text, timestamptz) IS
    'Ends a subscription now or later; what was granted stays until its period ends.';

CREATE TYPE credyt.subscription_period AS (
    plan           text,
    version        int,
    quantity       int,
    period_start   timestamptz,
    period_end     timestamptz,
    grant_id       uuid,
    next_plan      text,
    next_quantity  int
);
COMMENT ON TYPE credyt.subscription_period IS 'The period that a subscription is in, booked or not.';
COMMENT ON COLUMN credyt.subscription_period.plan IS 'The plan that it is on.';
COMMENT ON COLUMN credyt.subscription_period.version IS 'The version of it.';
COMMENT ON COLUMN credyt.subscription_period.quantity IS 'Seats.';
COMMENT ON COLUMN credyt.subscription_period.period_start IS 'When it started; NULL: none has.';
COMMENT ON COLUMN credyt.subscription_period.period_end IS 'When the next one starts.';
COMMENT ON COLUMN credyt.subscription_period.grant_id IS 'What it granted; NULL: nothing.';
COMMENT ON COLUMN credyt.subscription_period.next_plan IS 'The plan of the next one, where a change is scheduled.';
COMMENT ON COLUMN credyt.subscription_period.next_quantity IS 'The seats of the next one, where a change is scheduled.';

CREATE FUNCTION credyt.subscription_at(customer text, subscription_id uuid, at timestamptz) RETURNS credyt.subscription_period
    AS 'MODULE_PATHNAME', 'credyt_subscription_at' LANGUAGE c STABLE STRICT
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.subscription_at(text, uuid, timestamptz) IS
    'The period that a subscription is in at a moment, pending renewals included.';

CREATE VIEW credyt.subscriptions AS
SELECT s.customer, p.plan, coalesce(p.version, n.version) AS version, p.quantity::numeric AS quantity,
       CASE WHEN s.ends_at <= s.at THEN 'ended'
            WHEN p.period_end <= s.at AND (s.ends_at IS NULL OR p.period_end < s.ends_at) THEN 'unpaid'
            WHEN p.period_start IS NULL THEN 'scheduled'
            ELSE 'active' END AS status,
       s.starts_at, p.period_start,
       CASE WHEN p.period_start IS NOT NULL THEN p.period_end END AS period_end,
       s.paid_through, nullif(p.next_plan, p.plan) AS next_plan, p.grant_id
FROM (
    SELECT s.*, t.at,
           s.next_renewal_at <= t.at AND (s.paid_through IS NULL OR s.next_renewal_at < s.paid_through)
               AND (s.ends_at IS NULL OR s.next_renewal_at < s.ends_at) AS due
    FROM credyt.booked_subscriptions s
    JOIN credyt.wallets w ON w.customer = s.customer AND w.asset = s.asset
    CROSS JOIN LATERAL (
        SELECT greatest((SELECT credyt.statement_time()), credyt.changed_at(w.state)) AS at OFFSET 0
    ) t
) s
CROSS JOIN LATERAL (
    SELECT s.plan, s.version, s.quantity, s.period_start, s.next_renewal_at AS period_end, s.grant_id, s.next_plan
    WHERE s.due IS NOT TRUE
    UNION ALL
    SELECT p.plan, p.version, p.quantity, p.period_start, p.period_end, p.grant_id, p.next_plan
    FROM credyt.subscription_at(s.customer, s.id, s.at) AS p WHERE s.due
) p
CROSS JOIN LATERAL (
    SELECT max(v.version) AS version FROM credyt.plans v WHERE v.plan = p.plan
) n;
COMMENT ON VIEW credyt.subscriptions IS 'Who is on which plan, and until when?';
COMMENT ON COLUMN credyt.subscriptions.customer IS 'Customer.';
COMMENT ON COLUMN credyt.subscriptions.plan IS 'Plan.';
COMMENT ON COLUMN credyt.subscriptions.version IS 'The version of the plan that its period is on; before the first, the newest.';
COMMENT ON COLUMN credyt.subscriptions.quantity IS 'Seats: how often the plan is taken.';
COMMENT ON COLUMN credyt.subscriptions.status IS 'scheduled: its first period is still to come; active; unpaid: a period has come that is not paid for; ended.';
COMMENT ON COLUMN credyt.subscriptions.starts_at IS 'When its first period starts.';
COMMENT ON COLUMN credyt.subscriptions.period_start IS 'When the last period that was granted started; NULL: none was.';
COMMENT ON COLUMN credyt.subscriptions.period_end IS 'When that period ends.';
COMMENT ON COLUMN credyt.subscriptions.paid_through IS 'Periods that start at or after this are not granted until paid; NULL: no gate.';
COMMENT ON COLUMN credyt.subscriptions.next_plan IS 'The plan of the next period, where it is another one; NULL: the same.';
COMMENT ON COLUMN credyt.subscriptions.grant_id IS 'What the period granted; NULL: nothing.';

CREATE VIEW credyt.renewals AS
SELECT s.customer, s.plan, s.next_renewal_at,
       (SELECT least(p.credits * s.quantity, greatest(p.credits, 999999999999999)) FROM credyt.plans p
        WHERE p.plan = s.plan ORDER BY p.version DESC LIMIT 1) AS credits
FROM (
    SELECT s.customer, coalesce(p.next_plan, p.plan) AS plan, coalesce(p.next_quantity, p.quantity) AS quantity,
           s.ends_at, p.period_end AS next_renewal_at
    FROM credyt.booked_subscriptions s
    JOIN credyt.wallets w ON w.customer = s.customer AND w.asset = s.asset
    CROSS JOIN LATERAL (
        SELECT greatest((SELECT credyt.statement_time()), credyt.changed_at(w.state)) AS at OFFSET 0
    ) t
    CROSS JOIN LATERAL (
        SELECT s.plan, s.quantity, s.next_plan, s.next_quantity, s.next_renewal_at AS period_end
        WHERE s.next_renewal_at > t.at
        UNION ALL
        SELECT p.plan, p.quantity, p.next_plan, p.next_quantity, p.period_end
        FROM credyt.subscription_at(s.customer, s.id, t.at) AS p WHERE s.next_renewal_at <= t.at
    ) p
    WHERE s.next_renewal_at < s.ends_at OR s.ends_at IS NULL
) s
WHERE s.next_renewal_at IS NOT NULL AND (s.next_renewal_at < s.ends_at OR s.ends_at IS NULL);
COMMENT ON VIEW credyt.renewals IS 'Which customers get credits from a plan next, when, and how many?';
COMMENT ON COLUMN credyt.renewals.customer IS 'Customer.';
COMMENT ON COLUMN credyt.renewals.plan IS 'The plan of the next period.';
COMMENT ON COLUMN credyt.renewals.next_renewal_at IS 'When the next period starts. A moment that has passed waits for a payment.';
COMMENT ON COLUMN credyt.renewals.credits IS 'Credits that it grants to all seats, on the terms the plan has now; what rolls over comes on top.';

CREATE TABLE credyt.plan_changes (
    customer         text NOT NULL,
    id               uuid NOT NULL,
    subscription_id  uuid NOT NULL,
    from_plan        text NOT NULL,
    from_quantity    int NOT NULL CHECK (from_quantity > 0),
    to_plan          text NOT NULL,
    to_quantity      int NOT NULL CHECK (to_quantity > 0),
    at               text NOT NULL CHECK (at IN ('now', 'renewal')),
    proration        text CHECK (proration IN ('difference', 'restart', 'none')),
    grant_id         uuid,
    created_at       timestamptz NOT NULL,
    period_end       timestamptz,
    PRIMARY KEY (customer, id)
);
CREATE INDEX plan_changes_from ON credyt.plan_changes (customer, from_plan);
COMMENT ON TABLE credyt.plan_changes IS 'Every change of a subscription''s plan or seats as it was asked for, append-only.';
COMMENT ON COLUMN credyt.plan_changes.customer IS 'Customer.';
COMMENT ON COLUMN credyt.plan_changes.id IS 'UUIDv7.';
COMMENT ON COLUMN credyt.plan_changes.subscription_id IS 'The subscription.';
COMMENT ON COLUMN credyt.plan_changes.from_plan IS 'The plan before.';
COMMENT ON COLUMN credyt.plan_changes.from_quantity IS 'The seats before.';
COMMENT ON COLUMN credyt.plan_changes.to_plan IS 'The plan after.';
COMMENT ON COLUMN credyt.plan_changes.to_quantity IS 'The seats after.';
COMMENT ON COLUMN credyt.plan_changes.at IS 'now, or renewal: with the next period, unless another change comes first.';
COMMENT ON COLUMN credyt.plan_changes.proration IS 'What the rest of the period brings: difference, restart or none; NULL: at a renewal.';
COMMENT ON COLUMN credyt.plan_changes.grant_id IS 'What a difference granted; NULL: nothing.';
COMMENT ON COLUMN credyt.plan_changes.created_at IS 'When it was asked for.';
COMMENT ON COLUMN credyt.plan_changes.period_end IS 'When the period that was changed was to end; NULL: none was.';
SELECT pg_catalog.pg_extension_config_dump('credyt.plan_changes', '');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.plan_changes
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('plan_changes');

CREATE FUNCTION credyt.change_plan(
    customer         text,
    plan             text,
    to_plan          text DEFAULT NULL,
    quantity         numeric DEFAULT NULL,
    at               text DEFAULT 'now',
    proration        text DEFAULT 'difference',
    idempotency_key  text DEFAULT NULL
) RETURNS credyt.subscription
    AS 'MODULE_PATHNAME', 'credyt_change_plan' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.change_plan(text, text, text, numeric, text, text, text) IS
    'Moves a running subscription to another plan, other seats or both, now or at its next renewal.';

CREATE TABLE credyt.subscription_payments (
    customer         text NOT NULL,
    subscription_id  uuid NOT NULL,
    since            timestamptz NOT NULL,
    until            timestamptz,
    payment          text,
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (customer, subscription_id, since)
);
CREATE INDEX subscription_payments_payment ON credyt.subscription_payments (customer, payment) WHERE payment IS NOT NULL;
COMMENT ON TABLE credyt.subscription_payments IS 'Which payment paid for which periods of a plan, append-only.';
COMMENT ON COLUMN credyt.subscription_payments.customer IS 'Customer.';
COMMENT ON COLUMN credyt.subscription_payments.subscription_id IS 'The subscription.';
COMMENT ON COLUMN credyt.subscription_payments.since IS 'Start, inclusive: periods that start then or later.';
COMMENT ON COLUMN credyt.subscription_payments.until IS 'End, exclusive; NULL: only the period that starts at since.';
COMMENT ON COLUMN credyt.subscription_payments.payment IS 'The payment; NULL: erased.';
COMMENT ON COLUMN credyt.subscription_payments.created_at IS 'When it was recorded.';
SELECT pg_catalog.pg_extension_config_dump('credyt.subscription_payments', '');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.subscription_payments
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('subscription_payments');

CREATE FUNCTION credyt.revoke_payment(
    customer         text,
    payment          text,
    spent            text DEFAULT 'owe',
    reason           text DEFAULT NULL,
    idempotency_key  text DEFAULT NULL
) RETURNS SETOF credyt.grant
    AS 'MODULE_PATHNAME', 'credyt_revoke_payment' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.revoke_payment(text, text, text, text, text) IS
    'Takes back all credits that came with a payment; what was spent of them is owed, or kept.';
