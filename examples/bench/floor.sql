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

INSERT INTO bench.balances SELECT 'bystander ' || n, 1000 FROM generate_series(1, 1000) n;
INSERT INTO bench.balances VALUES ('floor', 1000000000);
