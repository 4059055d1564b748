-- What functions return.

CREATE TYPE credyt.debit AS (
    id                uuid,
    customer          text,
    asset             text,
    kind              text,
    action            text,
    quantity          numeric,
    credits           numeric,
    revenue           numeric,
    cost              numeric,
    margin            numeric,
    available         numeric,
    held              numeric,
    allocations       jsonb,
    authorization_id  uuid,
    replayed          boolean,
    reason            text,
    created_at        timestamptz
);
COMMENT ON TYPE credyt.debit IS 'The answer to a debit, a capture or a refund.';
COMMENT ON COLUMN credyt.debit.id IS 'The ledger row.';
COMMENT ON COLUMN credyt.debit.customer IS 'Whose credits moved.';
COMMENT ON COLUMN credyt.debit.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.debit.kind IS 'debit or refund.';
COMMENT ON COLUMN credyt.debit.action IS 'What the customer did.';
COMMENT ON COLUMN credyt.debit.quantity IS 'How much of it; of a capture what this call adds.';
COMMENT ON COLUMN credyt.debit.credits IS 'Credits charged, or refunded, by this call; never negative.';
COMMENT ON COLUMN credyt.debit.revenue IS 'Money earned, or given back, by this call, in the asset''s currency.';
COMMENT ON COLUMN credyt.debit.cost IS 'Vendor cost known so far, in the asset''s currency; NULL: not known.';
COMMENT ON COLUMN credyt.debit.margin IS 'Revenue less cost; NULL while the cost is not known.';
COMMENT ON COLUMN credyt.debit.available IS 'Credits that can be spent now.';
COMMENT ON COLUMN credyt.debit.held IS 'Credits that open authorizations pin now.';
COMMENT ON COLUMN credyt.debit.allocations IS 'Grant by grant: credits and revenue, as strings; grant null: overdraft.';
COMMENT ON COLUMN credyt.debit.authorization_id IS 'The authorization it captures.';
COMMENT ON COLUMN credyt.debit.replayed IS 'True: the same call was answered before, and nothing changed now.';
COMMENT ON COLUMN credyt.debit.reason IS 'late: captured after the hold had ended; or the caller''s reason.';
COMMENT ON COLUMN credyt.debit.created_at IS 'When it was booked.';

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
COMMENT ON COLUMN credyt.authorization.customer IS 'Whose credits are held.';
COMMENT ON COLUMN credyt.authorization.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.authorization.action IS 'What for.';
COMMENT ON COLUMN credyt.authorization.approved IS 'Go on, or not.';
COMMENT ON COLUMN credyt.authorization.reason IS 'Why refused: insufficient_credits, wallet_not_found or wallet_frozen; or why released.';
COMMENT ON COLUMN credyt.authorization.credits IS 'Credits authorized, or asked for.';
COMMENT ON COLUMN credyt.authorization.granted IS 'The amount approved of what varies; NULL: nothing does, or refused.';
COMMENT ON COLUMN credyt.authorization.captured IS 'Credits captured so far.';
COMMENT ON COLUMN credyt.authorization.available IS 'Credits that can be spent on this action now.';
COMMENT ON COLUMN credyt.authorization.status IS 'open, captured, released or expired; NULL: refused.';
COMMENT ON COLUMN credyt.authorization.expires_at IS 'When the hold ends.';
COMMENT ON COLUMN credyt.authorization.replayed IS 'True: the same call was answered before, and nothing changed now.';

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
COMMENT ON TYPE credyt.grant IS 'A block of credits.';
COMMENT ON COLUMN credyt.grant.id IS 'UUIDv7.';
COMMENT ON COLUMN credyt.grant.customer IS 'Who got it.';
COMMENT ON COLUMN credyt.grant.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.grant.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.grant.priority IS 'Lower burns first.';
COMMENT ON COLUMN credyt.grant.credits IS 'Credits issued.';
COMMENT ON COLUMN credyt.grant.remaining IS 'Credits left, held ones included.';
COMMENT ON COLUMN credyt.grant.held IS 'Credits that open authorizations pin.';
COMMENT ON COLUMN credyt.grant.paid IS 'Money paid for it, in the asset''s currency.';
COMMENT ON COLUMN credyt.grant.deferred IS 'The part of it that is not earned yet.';
COMMENT ON COLUMN credyt.grant.effective_at IS 'Live from here on ...';
COMMENT ON COLUMN credyt.grant.expires_at IS '... and before this moment; NULL: it never ends.';
COMMENT ON COLUMN credyt.grant.applies_to IS 'Patterns of the actions it may pay for; NULL: all.';
COMMENT ON COLUMN credyt.grant.origin IS 'The grant it came from.';
COMMENT ON COLUMN credyt.grant.replayed IS 'True: the same call was answered before, and nothing changed now.';

CREATE TYPE credyt.asset AS (
    asset       text,
    scale       int,
    rounding    text,
    currency    text,
    timezone    text,
    created_at  timestamptz
);
COMMENT ON TYPE credyt.asset IS 'A unit of value.';
COMMENT ON COLUMN credyt.asset.asset IS 'Its name.';
COMMENT ON COLUMN credyt.asset.scale IS 'Decimal places of an amount.';
COMMENT ON COLUMN credyt.asset.rounding IS 'How a price is rounded: up, down, half_up or half_even.';
COMMENT ON COLUMN credyt.asset.currency IS 'The currency of paid, cost and revenue.';
COMMENT ON COLUMN credyt.asset.timezone IS 'The time zone of its days.';
COMMENT ON COLUMN credyt.asset.created_at IS 'When it was created.';

CREATE TYPE credyt.quote AS (
    action         text,
    quantity       numeric,
    asset          text,
    credits        numeric,
    price_version  int,
    breakdown      jsonb
);
COMMENT ON TYPE credyt.quote IS 'What an action would cost.';
COMMENT ON COLUMN credyt.quote.action IS 'What the customer would do.';
COMMENT ON COLUMN credyt.quote.quantity IS 'How much of it.';
COMMENT ON COLUMN credyt.quote.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.quote.credits IS 'Credits it would cost.';
COMMENT ON COLUMN credyt.quote.price_version IS 'The price that says so.';
COMMENT ON COLUMN credyt.quote.breakdown IS 'How the credits came about, amounts as strings.';

CREATE TYPE credyt.balance AS (
    settled          numeric,
    held             numeric,
    available        numeric,
    owed             numeric,
    overdraft_limit  numeric,
    next_expiry      timestamptz
);
COMMENT ON TYPE credyt.balance IS 'A customer''s balance.';
COMMENT ON COLUMN credyt.balance.settled IS 'Credits in live or held grants, less what is owed.';
COMMENT ON COLUMN credyt.balance.held IS 'Credits that open authorizations pin; NULL at a past time.';
COMMENT ON COLUMN credyt.balance.available IS 'Credits that can be spent, overdraft included; NULL at a past time.';
COMMENT ON COLUMN credyt.balance.owed IS 'Credits spent beyond the grants and not paid back.';
COMMENT ON COLUMN credyt.balance.overdraft_limit IS 'Credits that may be owed; NULL at a past time.';
COMMENT ON COLUMN credyt.balance.next_expiry IS 'When the first live grant ends; NULL: none does, or a past time.';

CREATE TYPE credyt.wallet_row AS (
    customer         text,
    asset            text,
    settled          numeric,
    held             numeric,
    available        numeric,
    owed             numeric,
    overdraft_limit  numeric,
    next_expiry      timestamptz,
    status           text
);
COMMENT ON TYPE credyt.wallet_row IS 'A wallet, in the columns of credyt.wallet_balances.';
COMMENT ON COLUMN credyt.wallet_row.customer IS 'Whose wallet.';
COMMENT ON COLUMN credyt.wallet_row.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.wallet_row.settled IS 'Credits in live or held grants, less what is owed.';
COMMENT ON COLUMN credyt.wallet_row.held IS 'Credits that open authorizations pin.';
COMMENT ON COLUMN credyt.wallet_row.available IS 'Credits that can be spent, overdraft included.';
COMMENT ON COLUMN credyt.wallet_row.owed IS 'Credits spent beyond the grants and not paid back.';
COMMENT ON COLUMN credyt.wallet_row.overdraft_limit IS 'Credits that may be owed.';
COMMENT ON COLUMN credyt.wallet_row.next_expiry IS 'When the first live grant ends.';
COMMENT ON COLUMN credyt.wallet_row.status IS 'active, frozen or closed.';

CREATE TYPE credyt.price AS (
    asset         text,
    action        text,
    version       int,
    customer      text,
    price_list    text,
    price         jsonb,
    effective_at  timestamptz,
    created_at    timestamptz
);
COMMENT ON TYPE credyt.price IS 'One version of a price.';
COMMENT ON COLUMN credyt.price.asset IS 'The asset it is charged in.';
COMMENT ON COLUMN credyt.price.action IS 'What the customer does.';
COMMENT ON COLUMN credyt.price.version IS 'Counts up from 1 within asset and action.';
COMMENT ON COLUMN credyt.price.customer IS 'Whose own price it is; NULL: a list''s, or for all.';
COMMENT ON COLUMN credyt.price.price_list IS 'The price list that it belongs to; NULL: a customer''s own, or for all.';
COMMENT ON COLUMN credyt.price.price IS 'The rule; JSON null: withdrawn.';
COMMENT ON COLUMN credyt.price.effective_at IS 'From when it counts.';
COMMENT ON COLUMN credyt.price.created_at IS 'When it was set.';

CREATE TYPE credyt.movement AS (
    kind          text,
    occurred_at   timestamptz,
    accounted_at  timestamptz,
    action        text,
    credits       numeric,
    balance       numeric,
    revenue       numeric,
    costs         jsonb,
    allocations   jsonb,
    refers_to     uuid,
    reason        text
);
COMMENT ON TYPE credyt.movement IS 'What time has decided and no call has booked yet, in the columns of credyt.ledger.';
COMMENT ON COLUMN credyt.movement.kind IS 'grant, expiry, revocation, settlement or transfer.';
COMMENT ON COLUMN credyt.movement.occurred_at IS 'When it fell due.';
COMMENT ON COLUMN credyt.movement.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.movement.action IS 'The action whose debt was settled.';
COMMENT ON COLUMN credyt.movement.credits IS 'Credits that came (positive) or went (negative).';
COMMENT ON COLUMN credyt.movement.balance IS 'Sum of credits of the wallet''s rows up to this one.';
COMMENT ON COLUMN credyt.movement.revenue IS 'Money earned.';
COMMENT ON COLUMN credyt.movement.costs IS 'Of a settlement, the weights of the vendors'' models behind the debit.';
COMMENT ON COLUMN credyt.movement.allocations IS 'Grant by grant, as in the ledger.';
COMMENT ON COLUMN credyt.movement.refers_to IS 'The grant that began or ended, or the debit that was settled.';
COMMENT ON COLUMN credyt.movement.reason IS 'Of a renewal, the plan.';
