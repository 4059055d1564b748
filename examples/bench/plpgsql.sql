-- The same job by hand, in PL/pgSQL, as a careful developer would write it: a row per grant, locked in burn order; the
-- revenue of what is spent; the grants that paid as allocations; one ledger row; a key that is charged once.
-- It looks up no price, checks no scopes and knows no holds and no overdraft: what the extension does besides is extra.

CREATE TABLE bench.grants (
    customer      text NOT NULL,
    id            bigint GENERATED ALWAYS AS IDENTITY,
    kind          text NOT NULL,
    priority      int NOT NULL,
    credits       numeric NOT NULL,
    paid          numeric NOT NULL,
    remaining     numeric NOT NULL CHECK (remaining >= 0),
    deferred      numeric NOT NULL CHECK (deferred >= 0),
    effective_at  timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    PRIMARY KEY (customer, id)       -- and no index on what changes: updates stay HOT
) WITH (fillfactor = 70);

CREATE TABLE bench.debits (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer         text NOT NULL,
    action           text NOT NULL,
    credits          numeric NOT NULL,
    revenue          numeric NOT NULL,
    allocations      jsonb NOT NULL, -- [{"grant": 1, "credits": "3", "revenue": "0.60"}]
    idempotency_key  text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (customer, idempotency_key)
);

CREATE FUNCTION bench.debit(
    p_customer text, p_action text, p_credits numeric, p_key text,
    OUT id bigint, OUT credits numeric, OUT revenue numeric, OUT available numeric, OUT allocations jsonb, OUT replayed boolean
) LANGUAGE plpgsql AS $$
DECLARE
    g       record;
    due     numeric := p_credits;
    taken   numeric;
    earned  numeric;
BEGIN
    -- A key that was charged before gets the first answer again.
    replayed := false;
    IF p_key IS NOT NULL THEN
        SELECT d.id, d.credits, d.revenue, d.allocations, true
        INTO id, credits, revenue, allocations, replayed
        FROM bench.debits d
        WHERE d.customer = p_customer AND d.idempotency_key = p_key;
        IF FOUND THEN
            SELECT coalesce(sum(r.remaining), 0) INTO available
            FROM bench.grants r
            WHERE r.customer = p_customer AND r.effective_at <= now() AND (r.expires_at IS NULL OR r.expires_at > now());
            RETURN;
        END IF;
        replayed := false;
    END IF;

    -- Every live grant, locked, the first to burn first.
    revenue := 0;
    available := 0;
    allocations := '[]';
    FOR g IN
        SELECT r.id, r.remaining, r.deferred
        FROM bench.grants r
        WHERE r.customer = p_customer AND r.remaining > 0
          AND r.effective_at <= now() AND (r.expires_at IS NULL OR r.expires_at > now())
        ORDER BY r.priority, r.expires_at NULLS LAST, r.kind, r.effective_at, r.id
        FOR UPDATE
    LOOP
        available := available + g.remaining;
        CONTINUE WHEN due = 0;
        taken := least(due, g.remaining);
        -- The last credit of a grant earns all that is left of its money.
        earned := CASE WHEN taken = g.remaining THEN g.deferred ELSE round(g.deferred * taken / g.remaining, 10) END;
        UPDATE bench.grants r
        SET remaining = r.remaining - taken, deferred = r.deferred - earned
        WHERE r.customer = p_customer AND r.id = g.id;
        due := due - taken;
        revenue := revenue + earned;
        available := available - taken;
        allocations := allocations
            || jsonb_build_object('grant', g.id, 'credits', taken::text, 'revenue', earned::text);
    END LOOP;
    IF due > 0 THEN
        RAISE EXCEPTION 'insufficient credits: % needed, % available', p_credits, available;
    END IF;

    -- Of two at once with one key the second fails here, and finds the first when it tries again.
    credits := p_credits;
    INSERT INTO bench.debits AS d (customer, action, credits, revenue, allocations, idempotency_key)
    VALUES (p_customer, p_action, p_credits, revenue, allocations, p_key)
    RETURNING d.id INTO id;
END
$$;

INSERT INTO bench.grants (customer, kind, priority, credits, paid, remaining, deferred, expires_at)
SELECT 'bystander ' || n, 'purchased', 100, 1000, 10, 1000, 10, now() + interval '1 year'
FROM generate_series(1, 1000) n;
INSERT INTO bench.debits (customer, action, credits, revenue, allocations, idempotency_key)
SELECT 'bystander ' || n % 1000, 'image.generate', 1, 0.01, '[]', gen_random_uuid() FROM generate_series(1, 10000) n;

-- A hold by hand: credits are reserved, the work is done, what it took is charged and the rest is free again. A balance and what is
-- held of it, a row for each hold, a row for each charge; a key is reserved once, a hold is settled once. No grants, prices, limits
-- or revenue, and no hold ends by itself.

CREATE TABLE bench.accounts (
    customer  text PRIMARY KEY,
    balance   numeric NOT NULL,
    held      numeric NOT NULL DEFAULT 0 CHECK (held >= 0 AND held <= balance)
) WITH (fillfactor = 70);

CREATE TABLE bench.holds (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer         text NOT NULL,
    action           text NOT NULL,
    credits          numeric NOT NULL,
    status           text NOT NULL DEFAULT 'open',
    idempotency_key  text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (customer, idempotency_key)
) WITH (fillfactor = 70);

CREATE TABLE bench.charges (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer    text NOT NULL,
    hold        bigint NOT NULL UNIQUE,
    action      text NOT NULL,
    credits     numeric NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION bench.reserve(p_customer text, p_action text, p_credits numeric, p_key text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    hold bigint;
BEGIN
    SELECT h.id INTO hold FROM bench.holds h WHERE h.customer = p_customer AND h.idempotency_key = p_key;
    IF FOUND THEN
        RETURN hold;
    END IF;
    UPDATE bench.accounts a SET held = a.held + p_credits
    WHERE a.customer = p_customer AND a.balance - a.held >= p_credits;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'insufficient credits: % needed', p_credits;
    END IF;
    INSERT INTO bench.holds (customer, action, credits, idempotency_key)
    VALUES (p_customer, p_action, p_credits, p_key) RETURNING id INTO hold;
    RETURN hold;
END
$$;

CREATE FUNCTION bench.settle(p_customer text, p_hold bigint, p_credits numeric) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    hold  record;
    left_ numeric;
BEGIN
    UPDATE bench.holds h SET status = 'settled'
    WHERE h.id = p_hold AND h.customer = p_customer AND h.status = 'open'
    RETURNING h.action, h.credits INTO hold;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'hold % is not open', p_hold;
    END IF;
    UPDATE bench.accounts a SET balance = a.balance - p_credits, held = a.held - hold.credits
    WHERE a.customer = p_customer RETURNING a.balance - a.held INTO left_;
    INSERT INTO bench.charges (customer, hold, action, credits) VALUES (p_customer, p_hold, hold.action, p_credits);
    RETURN left_;
END
$$;

INSERT INTO bench.accounts SELECT 'many ' || n, 1000000000 FROM generate_series(0, 1999) n;
INSERT INTO bench.accounts VALUES ('hold', 1000000000);
INSERT INTO bench.holds (customer, action, credits, status, idempotency_key)
SELECT 'many ' || n % 1000, 'image.generate', 4, 'settled', gen_random_uuid() FROM generate_series(1, 10000) n;
INSERT INTO bench.charges (customer, hold, action, credits)
SELECT h.customer, h.id, h.action, 3 FROM bench.holds h;
