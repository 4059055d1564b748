-- New prices: what a price would have to be, and what past usage would have brought at it.

CREATE TYPE credyt.suggested_price AS (
    asset         text,
    action        text,
    debits        bigint,
    quantity      numeric,
    cost          numeric,
    credit_value  numeric,
    price         numeric
);
COMMENT ON TYPE credyt.suggested_price IS 'A row of credyt.suggest_price.';
COMMENT ON COLUMN credyt.suggested_price.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.suggested_price.action IS 'What customers did.';
COMMENT ON COLUMN credyt.suggested_price.debits IS 'On how many debits it rests: those whose cost is fully known.';
COMMENT ON COLUMN credyt.suggested_price.quantity IS 'Sum of their quantities.';
COMMENT ON COLUMN credyt.suggested_price.cost IS 'Their vendor cost.';
COMMENT ON COLUMN credyt.suggested_price.credit_value IS 'What a credit earned with them, in money.';
COMMENT ON COLUMN credyt.suggested_price.price IS 'Credits per unit that would have reached the margin, rounded up at ten decimals; NULL: nothing earned or counted.';

CREATE FUNCTION credyt.suggest_price(
    action         text,
    target_margin  numeric,
    since          timestamptz DEFAULT NULL
) RETURNS SETOF credyt.suggested_price
    AS 'MODULE_PATHNAME', 'credyt_suggest_price' LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET work_mem = '64MB';
COMMENT ON FUNCTION credyt.suggest_price(text, numeric, timestamptz) IS
    'The price per unit that would have reached a margin on what was used since a moment.';

CREATE FUNCTION credyt.repriced(price jsonb, scale int, rounding text, quantity numeric, dimensions jsonb, usage jsonb, cost numeric, at timestamptz, month_used numeric) RETURNS numeric
    AS 'MODULE_PATHNAME', 'credyt_repriced' LANGUAGE c STABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION credyt.repriced(jsonb, int, text, numeric, jsonb, jsonb, numeric, timestamptz, numeric) IS
    'The credits of a rule for what was used; NULL where it cannot price it.';

-- Not a subquery, which would keep workers from helping to read the ledger.
CREATE FUNCTION credyt.known_cost(parts jsonb) RETURNS numeric
    AS 'MODULE_PATHNAME', 'credyt_known_cost' LANGUAGE c IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION credyt.known_cost(jsonb) IS
    'The sum of the costs in the costs of a ledger row, or in the lines of a cost posting; NULL: none is known.';

CREATE TYPE credyt.simulated_price AS (
    asset              text,
    action             text,
    debits             bigint,
    unpriced           bigint,
    credits_before     numeric,
    credits_after      numeric,
    revenue_before     numeric,
    revenue_after      numeric,
    cost               numeric,
    margin_before      numeric,
    margin_after       numeric,
    customers          bigint,
    customers_pay_more bigint
);
COMMENT ON TYPE credyt.simulated_price IS 'A row of credyt.simulate_price.';
COMMENT ON COLUMN credyt.simulated_price.asset IS 'Asset; money is in its currency.';
COMMENT ON COLUMN credyt.simulated_price.action IS 'What customers did.';
COMMENT ON COLUMN credyt.simulated_price.debits IS 'Debits that were priced again. Those at a customer''s own price, a list''s or a kept one cost what they did.';
COMMENT ON COLUMN credyt.simulated_price.unpriced IS 'Debits that the rule cannot price, such as those without a known cost; they are in no other column.';
COMMENT ON COLUMN credyt.simulated_price.credits_before IS 'Credits that they cost.';
COMMENT ON COLUMN credyt.simulated_price.credits_after IS 'Credits that they would have cost.';
COMMENT ON COLUMN credyt.simulated_price.revenue_before IS 'Money that they earned.';
COMMENT ON COLUMN credyt.simulated_price.revenue_after IS 'Money that they would have earned: a credit is worth what it was in its debit, in a free debit what it was on average.';
COMMENT ON COLUMN credyt.simulated_price.cost IS 'Their vendor cost that is known; NULL: none is.';
COMMENT ON COLUMN credyt.simulated_price.margin_before IS 'Revenue less known cost.';
COMMENT ON COLUMN credyt.simulated_price.margin_after IS 'Revenue less known cost.';
COMMENT ON COLUMN credyt.simulated_price.customers IS 'How many customers did it.';
COMMENT ON COLUMN credyt.simulated_price.customers_pay_more IS 'How many of them would have paid more.';

-- All of the ledger is read for the debits of one action: workers help, although the planner does not know in how few groups they are.
CREATE FUNCTION credyt.simulate_price(
    action  text,
    price   jsonb,
    since   timestamptz DEFAULT NULL
) RETURNS SETOF credyt.simulated_price
    AS 'MODULE_PATHNAME', 'credyt_simulate_price' LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET work_mem = '64MB' SET parallel_tuple_cost = 0.01;
COMMENT ON FUNCTION credyt.simulate_price(text, jsonb, timestamptz) IS
    'What the debits of an action since a moment would have cost under another price for all, by asset.';
