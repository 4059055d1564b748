-- What the benchmark compares with: a balance and a ledger as plain as they can be.
CREATE SCHEMA bench;

CREATE TABLE bench.balances (
    customer  text PRIMARY KEY,
    balance   numeric NOT NULL CHECK (balance >= 0)
) WITH (fillfactor = 50);

CREATE TABLE bench.movements (
    id               uuid PRIMARY KEY,
    customer         text NOT NULL,
    action           text NOT NULL,
    credits          numeric NOT NULL,
    idempotency_key  text,
    created_at       timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX movements_key ON bench.movements (customer, idempotency_key);

-- The extension's own ledger again, with its indexes and without its triggers.
CREATE TABLE bench.ledger (LIKE credyt.ledger INCLUDING ALL);

-- Others were here before: a plan made for empty tables would be a bad one.
INSERT INTO bench.balances SELECT 'bystander ' || n, 1000 FROM generate_series(1, 1000) n;
INSERT INTO bench.balances SELECT 'many ' || n, 1000000000 FROM generate_series(0, 1999) n;
INSERT INTO bench.balances VALUES ('floor', 1000000000), ('floor_row', 1000000000);
INSERT INTO bench.movements (id, customer, action, credits, idempotency_key)
SELECT gen_random_uuid(), 'bystander ' || n % 1000, 'image.generate', -1, gen_random_uuid() FROM generate_series(1, 10000) n;
INSERT INTO bench.ledger SELECT * FROM credyt.ledger;
