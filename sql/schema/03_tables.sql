-- Tables. `customer` is the first column of every key of a customer's rows: it is the shard key and
-- the tenant key. There are no foreign keys: one to a wallet would lock the hottest row.

CREATE TABLE credyt.assets (
    asset       text PRIMARY KEY,
    scale       int NOT NULL,
    rounding    text NOT NULL,
    currency    text NOT NULL,
    timezone    text NOT NULL,
    created_at  timestamptz NOT NULL
);
COMMENT ON TABLE credyt.assets IS 'Units of value. Written by credyt.create_asset; a definition never changes.';
COMMENT ON COLUMN credyt.assets.asset IS 'The name of the unit, such as credits.';
COMMENT ON COLUMN credyt.assets.scale IS 'Decimal places of an amount, 0 to 10.';
COMMENT ON COLUMN credyt.assets.rounding IS 'How a price is rounded to the scale: up, down, half_up or half_even.';
COMMENT ON COLUMN credyt.assets.currency IS 'The currency of paid, cost and revenue: three capital letters.';
COMMENT ON COLUMN credyt.assets.timezone IS 'The time zone in which its days and months are counted.';
COMMENT ON COLUMN credyt.assets.created_at IS 'When it was created.';

CREATE TABLE credyt.prices (
    asset         text NOT NULL,
    action        text NOT NULL,
    version       int NOT NULL,
    customer      text,
    price_list    text,
    price         jsonb NOT NULL,
    effective_at  timestamptz NOT NULL,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (asset, action, version),
    CHECK (customer IS NULL OR price_list IS NULL)
);
CREATE INDEX prices_customer ON credyt.prices (asset, action, customer, price_list, effective_at, version);
COMMENT ON TABLE credyt.prices IS 'The price book: every version of every rule, append-only. Written by credyt.set_price.';
COMMENT ON COLUMN credyt.prices.asset IS 'The asset it is charged in.';
COMMENT ON COLUMN credyt.prices.action IS 'What the customer does.';
COMMENT ON COLUMN credyt.prices.version IS 'Counts up from 1 within asset and action, prices for all, of lists and customers'' own together.';
COMMENT ON COLUMN credyt.prices.customer IS 'Whose own price it is; NULL: a list''s, or for all.';
COMMENT ON COLUMN credyt.prices.price_list IS 'The price list that it belongs to; NULL: a customer''s own, or for all.';
COMMENT ON COLUMN credyt.prices.price IS 'The rule, in credits. JSON null: withdrawn.';
COMMENT ON COLUMN credyt.prices.effective_at IS 'From when it counts, until a later version does.';
COMMENT ON COLUMN credyt.prices.created_at IS 'When it was set.';

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
COMMENT ON COLUMN credyt.wallets.customer IS 'Whose wallet it is.';
COMMENT ON COLUMN credyt.wallets.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.wallets.created_at IS 'When it was opened.';
COMMENT ON COLUMN credyt.wallets.next_due_at IS 'Before this moment time alone changes nothing in the state and asks for no top-up; NULL: never. A debit leaves it as it is, so it may be early.';
COMMENT ON COLUMN credyt.wallets.overdraft_limit IS 'Credits that may be owed.';
COMMENT ON COLUMN credyt.wallets.status IS 'active, frozen or closed.';
COMMENT ON COLUMN credyt.wallets.status_reason IS 'Why it was frozen or closed.';
COMMENT ON COLUMN credyt.wallets.metadata IS 'The application''s own notes.';
COMMENT ON COLUMN credyt.wallets.state IS 'The open grants with what remains, is held and is deferred, and what is owed; as of its last change.';

CREATE TABLE credyt.grants (
    customer         text NOT NULL,
    id               uuid NOT NULL,
    asset            text NOT NULL,
    kind             text NOT NULL,
    priority         int NOT NULL,
    credits          numeric NOT NULL,
    paid             numeric NOT NULL,
    settled          numeric NOT NULL,
    debt_revenue  numeric NOT NULL,
    effective_at     timestamptz NOT NULL,
    expires_at       timestamptz,
    applies_to       text[],
    origin           uuid,
    created_at       timestamptz NOT NULL,
    metadata         jsonb,
    payment          text,
    currency         text,
    currency_paid    numeric,
    exchange_rate    numeric,
    PRIMARY KEY (customer, id)
);
CREATE INDEX grants_payment ON credyt.grants (customer, payment) WHERE payment IS NOT NULL;
COMMENT ON TABLE credyt.grants IS 'Every grant as it was issued, append-only. What is left of it is in credyt.grant_balances.';
COMMENT ON COLUMN credyt.grants.customer IS 'Who got it.';
COMMENT ON COLUMN credyt.grants.id IS 'UUIDv7.';
COMMENT ON COLUMN credyt.grants.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.grants.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.grants.priority IS 'Lower burns first.';
COMMENT ON COLUMN credyt.grants.credits IS 'Credits issued.';
COMMENT ON COLUMN credyt.grants.paid IS 'Money paid for them, in the asset''s currency.';
COMMENT ON COLUMN credyt.grants.settled IS 'Credits of it that paid debt the moment it was issued.';
COMMENT ON COLUMN credyt.grants.debt_revenue IS 'Money earned by them.';
COMMENT ON COLUMN credyt.grants.effective_at IS 'Live from here on ...';
COMMENT ON COLUMN credyt.grants.expires_at IS '... and before this moment, or that of ended_grants; NULL: it never ends.';
COMMENT ON COLUMN credyt.grants.applies_to IS 'Patterns of the actions it may pay for, such as image.*; NULL: all.';
COMMENT ON COLUMN credyt.grants.origin IS 'The grant it came from: re-issued by a refund, rolled over from the period before (the first, of several), or transferred (then another customer''s).';
COMMENT ON COLUMN credyt.grants.created_at IS 'When it was issued.';
COMMENT ON COLUMN credyt.grants.currency IS 'The currency of currency_paid; NULL: it was paid in the asset''s.';
COMMENT ON COLUMN credyt.grants.currency_paid IS 'Money paid for them in that currency; paid is it times exchange_rate.';
COMMENT ON COLUMN credyt.grants.exchange_rate IS 'Money in the asset''s currency for one of that currency, when it was issued.';
COMMENT ON COLUMN credyt.grants.metadata IS 'The application''s own notes.';
COMMENT ON COLUMN credyt.grants.payment IS 'The payment it came with. Which payment paid for a plan''s period is in subscription_payments.';

CREATE TABLE credyt.authorizations (
    customer           text NOT NULL,
    id                 uuid NOT NULL,
    asset              text NOT NULL,
    action             text NOT NULL,
    status             text NOT NULL,
    overrun            text NOT NULL,
    quantity           numeric NOT NULL,
    credits            numeric NOT NULL,
    captured           numeric NOT NULL,
    forgiven           numeric NOT NULL,
    captured_quantity  numeric NOT NULL,
    captured_cost      numeric,
    captured_costs     jsonb,
    cost               numeric,
    price_version      int,
    priced             boolean NOT NULL,
    created_at         timestamptz NOT NULL,
    expires_at         timestamptz NOT NULL,
    pins               jsonb NOT NULL,
    first_capture      uuid,
    last_capture       uuid,
    last_request       bytea,
    request            bytea,
    dimensions         jsonb,
    usage              jsonb,
    scopes             text[],
    reason             text,
    idempotency_key    text,
    metadata           jsonb,
    granted            numeric,
    month_used         numeric,
    PRIMARY KEY (customer, id)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX authorizations_key ON credyt.authorizations (customer, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX authorizations_open ON credyt.authorizations (customer, asset, expires_at)
    WHERE status = 'open';
COMMENT ON TABLE credyt.authorizations IS 'Credits held for actions that have not finished. Read credyt.open_authorizations for the open ones.';
COMMENT ON COLUMN credyt.authorizations.customer IS 'Whose credits are held.';
COMMENT ON COLUMN credyt.authorizations.id IS 'UUIDv7.';
COMMENT ON COLUMN credyt.authorizations.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.authorizations.action IS 'What for.';
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
COMMENT ON COLUMN credyt.authorizations.priced IS 'True: credits came from the price; false: they were given.';
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

CREATE TABLE credyt.ledger (
    customer          text NOT NULL,
    asset             text NOT NULL,
    id                uuid NOT NULL,
    seq               bigint NOT NULL,
    created_at        timestamptz NOT NULL,
    occurred_at       timestamptz NOT NULL,
    accounted_at      timestamptz NOT NULL,
    price_version     int,
    kind              text NOT NULL,
    action            text,
    quantity          numeric,
    credits           numeric NOT NULL,
    balance           numeric NOT NULL,
    revenue           numeric NOT NULL,
    cost              numeric,
    costs             jsonb,
    allocations       jsonb NOT NULL,
    authorization_id  uuid,
    refers_to         uuid,
    scopes            text[],
    reason            text,
    dimensions        jsonb,
    usage             jsonb,
    idempotency_key   text,
    request           bytea,
    metadata          jsonb,
    PRIMARY KEY (customer, id)
);
CREATE UNIQUE INDEX ledger_key ON credyt.ledger (customer, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX ledger_authorization ON credyt.ledger (customer, authorization_id) WHERE authorization_id IS NOT NULL;
CREATE INDEX ledger_refers_to ON credyt.ledger (customer, refers_to) WHERE refers_to IS NOT NULL;
COMMENT ON TABLE credyt.ledger IS 'Everything that moved credits, append-only. What leaves the wallet is negative; revenue earned is positive.';
COMMENT ON COLUMN credyt.ledger.customer IS 'Whose wallet moved.';
COMMENT ON COLUMN credyt.ledger.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.ledger.id IS 'UUIDv7.';
COMMENT ON COLUMN credyt.ledger.seq IS 'The number of the row in its wallet, from 1 without gaps.';
COMMENT ON COLUMN credyt.ledger.created_at IS 'When it was booked.';
COMMENT ON COLUMN credyt.ledger.occurred_at IS 'When it happened: for a debit what the caller says, for an expiry the moment it fell due.';
COMMENT ON COLUMN credyt.ledger.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.ledger.price_version IS 'The price that was charged; NULL: credits were given.';
COMMENT ON COLUMN credyt.ledger.kind IS 'grant, debit, refund, expiry, revocation, settlement or transfer.';
COMMENT ON COLUMN credyt.ledger.action IS 'What the customer did.';
COMMENT ON COLUMN credyt.ledger.quantity IS 'How much of it; of a revocation the credits asked for, NULL for the whole grant.';
COMMENT ON COLUMN credyt.ledger.credits IS 'Credits that came (positive) or went (negative).';
COMMENT ON COLUMN credyt.ledger.balance IS 'Sum of credits of the wallet''s rows up to this one: future grants included, less what is owed.';
COMMENT ON COLUMN credyt.ledger.revenue IS 'Money earned (positive) or given back (negative), in the asset''s currency.';
COMMENT ON COLUMN credyt.ledger.cost IS 'Vendor cost given with it, in the asset''s currency; NULL: not known.';
COMMENT ON COLUMN credyt.ledger.costs IS 'The vendors'' models behind it, each with its cost (null: not known, with the reason), read from usage; of a refund or settlement their weights.';
COMMENT ON COLUMN credyt.ledger.allocations IS 'Grant by grant: credits, and the revenue earned or the deferred money that moved, as strings; grant null: overdraft. Of a transfer also the grant (and customer) they moved to or came from. Of a refund also debts: the revocations whose debt it lowers, or gives back to who paid it.';
COMMENT ON COLUMN credyt.ledger.authorization_id IS 'The authorization it captures.';
COMMENT ON COLUMN credyt.ledger.refers_to IS 'The debit it refunds or settles, the grant it issues, ends or revokes; of a transfer in the sender''s row.';
COMMENT ON COLUMN credyt.ledger.scopes IS 'Spend limits it counts under.';
COMMENT ON COLUMN credyt.ledger.reason IS 'Why, in a word or a sentence.';
COMMENT ON COLUMN credyt.ledger.dimensions IS 'What the price was told about the action.';
COMMENT ON COLUMN credyt.ledger.usage IS 'The vendor''s usage object.';
COMMENT ON COLUMN credyt.ledger.idempotency_key IS 'Unique per customer.';
COMMENT ON COLUMN credyt.ledger.request IS 'Hash of what was asked, to know a replay from another request.';
COMMENT ON COLUMN credyt.ledger.metadata IS 'The application''s own notes.';

CREATE TABLE credyt.open_debts (
    customer  text NOT NULL,
    asset     text NOT NULL,
    seq       bigint NOT NULL,
    id        uuid NOT NULL,
    action    text,
    owed      numeric NOT NULL,
    returned  numeric NOT NULL,
    PRIMARY KEY (customer, asset, seq)
);
COMMENT ON TABLE credyt.open_debts IS 'Ledger rows that are still owed, the oldest paid first, and revocations that were.';
COMMENT ON COLUMN credyt.open_debts.customer IS 'Who owes.';
COMMENT ON COLUMN credyt.open_debts.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.open_debts.seq IS 'The number of the ledger row in its wallet.';
COMMENT ON COLUMN credyt.open_debts.id IS 'The ledger row.';
COMMENT ON COLUMN credyt.open_debts.action IS 'What the customer did: grants that may pay for it pay the debt. NULL: a revocation, which any grant pays.';
COMMENT ON COLUMN credyt.open_debts.owed IS 'Credits still owed.';
COMMENT ON COLUMN credyt.open_debts.returned IS 'Of a revocation: credits by which refunds lowered it, or that they gave back to the grants that had paid it.';

CREATE TABLE credyt.ended_grants (
    customer  text NOT NULL,
    grant_id  uuid NOT NULL,
    ended_at  timestamptz NOT NULL,
    PRIMARY KEY (customer, grant_id)
);
COMMENT ON TABLE credyt.ended_grants IS 'Grants of a period that credyt.change_plan has ended before its time, append-only.';
COMMENT ON COLUMN credyt.ended_grants.customer IS 'Whose grant.';
COMMENT ON COLUMN credyt.ended_grants.grant_id IS 'The grant.';
COMMENT ON COLUMN credyt.ended_grants.ended_at IS 'When it ended, instead of its expires_at.';

CREATE TABLE credyt.revoked_grants (
    customer    text NOT NULL,
    grant_id    uuid NOT NULL,
    owed        boolean NOT NULL,
    revoked_at  timestamptz NOT NULL,
    PRIMARY KEY (customer, grant_id, owed)
);
COMMENT ON TABLE credyt.revoked_grants IS 'Grants that were revoked as a whole, append-only: what comes back to one is lost.';
COMMENT ON COLUMN credyt.revoked_grants.customer IS 'Whose grant.';
COMMENT ON COLUMN credyt.revoked_grants.grant_id IS 'The grant.';
COMMENT ON COLUMN credyt.revoked_grants.owed IS 'True: spent credits are owed, those that a capture takes later too. False: they are kept.';
COMMENT ON COLUMN credyt.revoked_grants.revoked_at IS 'When it was revoked so first.';

CREATE TABLE credyt.clock (
    now timestamptz NOT NULL,
    one boolean PRIMARY KEY DEFAULT true CHECK (one)
);
COMMENT ON TABLE credyt.clock IS 'For tests only: a row here stands in for the clock. Empty in production; superusers only; never dumped.';
COMMENT ON COLUMN credyt.clock.now IS 'What time it is.';
COMMENT ON COLUMN credyt.clock.one IS 'Always true: there is at most one row.';

-- What backends remember is announced, whoever writes it: our functions, a restore, or logical replication,
-- which fires nothing but what is ALWAYS there FOR EACH ROW.
CREATE FUNCTION credyt.announce_change() RETURNS trigger
    AS 'MODULE_PATHNAME', 'credyt_announce_change' LANGUAGE c;
COMMENT ON FUNCTION credyt.announce_change() IS 'Tells every backend that a table it remembers has changed.';
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON credyt.assets
    FOR EACH ROW EXECUTE FUNCTION credyt.announce_change('assets');
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON credyt.prices
    FOR EACH ROW EXECUTE FUNCTION credyt.announce_change('prices');
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON credyt.clock
    FOR EACH ROW EXECUTE FUNCTION credyt.announce_change('clock');
CREATE TRIGGER announce_truncate AFTER TRUNCATE ON credyt.clock
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.announce_change('clock');
ALTER TABLE credyt.assets ENABLE ALWAYS TRIGGER announce;
ALTER TABLE credyt.prices ENABLE ALWAYS TRIGGER announce;
ALTER TABLE credyt.clock ENABLE ALWAYS TRIGGER announce, ENABLE ALWAYS TRIGGER announce_truncate;

-- Facts never change.
CREATE FUNCTION credyt.refuse_change() RETURNS trigger
    AS 'MODULE_PATHNAME', 'credyt_refuse_change' LANGUAGE c;
COMMENT ON FUNCTION credyt.refuse_change() IS 'Refuses UPDATE, DELETE and TRUNCATE of facts with WC012.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.ledger
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('ledger');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.grants
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('grants');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.ended_grants
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('ended_grants');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.revoked_grants
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('revoked_grants');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credyt.prices
    FOR EACH STATEMENT EXECUTE FUNCTION credyt.refuse_change('prices');
