-- What a payment brought, and its chargeback.

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
COMMENT ON COLUMN credyt.subscription_payments.customer IS 'Who is subscribed.';
COMMENT ON COLUMN credyt.subscription_payments.subscription_id IS 'The subscription.';
COMMENT ON COLUMN credyt.subscription_payments.since IS 'Periods that start from then on ...';
COMMENT ON COLUMN credyt.subscription_payments.until IS '... and before this moment; NULL: the period that starts then.';
COMMENT ON COLUMN credyt.subscription_payments.payment IS 'The payment; NULL: erased.';
COMMENT ON COLUMN credyt.subscription_payments.created_at IS 'When it was told.';
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
    'Takes back all credits that came with a payment; what was spent of them is owed.';
