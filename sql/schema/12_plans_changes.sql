-- Changes of plan and of seats.

CREATE TABLE credyt.plan_changes (
    customer         text NOT NULL,
    id               uuid NOT NULL,
    subscription_id  uuid NOT NULL,
    from_plan        text NOT NULL,
    from_quantity    int NOT NULL,
    to_plan          text NOT NULL,
    to_quantity      int NOT NULL,
    at               text NOT NULL,
    proration        text,
    grant_id         uuid,
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (customer, id)
);
CREATE INDEX plan_changes_from ON credyt.plan_changes (customer, from_plan);
COMMENT ON TABLE credyt.plan_changes IS 'Every change of a subscription''s plan or seats as it was asked for, append-only.';
COMMENT ON COLUMN credyt.plan_changes.customer IS 'Who is subscribed.';
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
