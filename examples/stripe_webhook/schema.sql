-- What is sold. Run once, after CREATE EXTENSION credyt_pg, in a transaction of its own.
SELECT credyt.create_asset('credits');
SELECT credyt.create_plan('pro', 1000, paid => 20);
SELECT credyt.create_plan('max', 6000, paid => 100);

-- A payment: the invoice of a plan's period, or the Checkout session of a pack. In cents, tax included.
CREATE TABLE payments (
    id text PRIMARY KEY,
    payment_intent text UNIQUE,
    customer text NOT NULL,
    amount int NOT NULL,
    grants uuid[] NOT NULL DEFAULT '{}',
    given_back uuid[] NOT NULL DEFAULT '{}',
    refunded int NOT NULL DEFAULT 0,
    disputed int NOT NULL DEFAULT 0,
    dispute_won boolean NOT NULL DEFAULT false,
    taken_back int NOT NULL DEFAULT 0
);

CREATE TABLE subscriptions (
    id text PRIMARY KEY,
    customer text NOT NULL,
    plan text NOT NULL,
    seats int NOT NULL,
    changed_at timestamptz NOT NULL,
    ended boolean NOT NULL DEFAULT false
);

-- The role that the webhook connects with: CREATE ROLE billing LOGIN; then
SELECT credyt.allow('billing', 'operate');
SELECT credyt.allow('billing', 'report');
GRANT SELECT, INSERT, UPDATE ON payments, subscriptions TO billing;
