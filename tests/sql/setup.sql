-- Assets: created once, never changed, and every refusal.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 00:00+00');

SELECT * FROM credyt.create_asset('credits');
SELECT asset, scale, rounding, currency, timezone
FROM credyt.create_asset('tokens', scale => 0, rounding => 'half_even', currency => 'EUR', timezone => 'Europe/Berlin');

-- Again: the asset as it is.
UPDATE credyt.clock SET now = '2026-02-01 00:00+00';
SELECT asset, created_at FROM credyt.create_asset('credits', 2, 'up', 'USD', 'UTC');

-- With another definition: refused, with the code.
SELECT * FROM credyt.create_asset('credits', scale => 3);
\echo :SQLSTATE
\set VERBOSITY terse
SELECT * FROM credyt.create_asset('credits', rounding => 'down');
SELECT * FROM credyt.create_asset('credits', currency => 'EUR');
SELECT * FROM credyt.create_asset('credits', timezone => 'Europe/Berlin');

-- What is no asset.
SELECT * FROM credyt.create_asset(NULL);
\echo :SQLSTATE
SELECT * FROM credyt.create_asset('');
SELECT * FROM credyt.create_asset(repeat('x', 256));
SELECT * FROM credyt.create_asset('a', scale => NULL);
SELECT * FROM credyt.create_asset('a', scale => -1);
SELECT * FROM credyt.create_asset('a', scale => 11);
SELECT * FROM credyt.create_asset('a', rounding => 'nearest');
SELECT * FROM credyt.create_asset('a', currency => 'usd');
SELECT * FROM credyt.create_asset('a', currency => 'DOLLAR');
SELECT * FROM credyt.create_asset('a', timezone => 'Mars/Olympus');

-- A call about an asset that is not there.
\set VERBOSITY default
SELECT * FROM credyt.grant_credits('acme', 1, asset => 'gems');
\echo :SQLSTATE
\set VERBOSITY terse
SELECT * FROM credyt.set_price('a', '1', asset => 'gems');
SELECT * FROM credyt.quote('a', asset => 'gems');
SELECT * FROM credyt.open_wallet('acme', asset => 'gems');
SELECT * FROM credyt.authorize('acme', 'a', asset => 'gems');
SELECT * FROM credyt.balance('acme', asset => 'gems');
SELECT * FROM credyt.debit_credits('acme', 'a', asset => 'gems');

-- Wallets: opened by hand, and again with other terms; a NULL leaves the metadata.
SELECT * FROM credyt.open_wallet('acme', overdraft_limit => 10, metadata => '{"vip": true}');
SELECT available, overdraft_limit FROM credyt.open_wallet('acme', overdraft_limit => 5);
SELECT customer, overdraft_limit, status, metadata FROM credyt.wallets;
SELECT * FROM credyt.open_wallet('acme', overdraft_limit => -1);
SELECT * FROM credyt.open_wallet('acme', overdraft_limit => 0.001);
SELECT * FROM credyt.open_wallet('');

SELECT asset, scale, rounding, currency, timezone FROM credyt.assets ORDER BY asset;
SELECT * FROM credyt.verify();
