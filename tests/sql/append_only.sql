-- Facts never change: not even for a superuser, as long as the triggers are there.
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image', '1');
SELECT credyt.grant_credits('acme', 10, paid => 1);
SELECT credyt.debit_credits('acme', 'image', 3);
\o
UPDATE credyt.ledger SET credits = 0;
\echo :SQLSTATE
\set VERBOSITY terse
DELETE FROM credyt.ledger;
TRUNCATE credyt.ledger;
UPDATE credyt.grants SET credits = 1000;
DELETE FROM credyt.grants WHERE false;
TRUNCATE credyt.grants;
UPDATE credyt.prices SET price = '0';
DELETE FROM credyt.prices;
TRUNCATE credyt.prices;
INSERT INTO credyt.ledger SELECT * FROM credyt.ledger ON CONFLICT (customer, id) DO UPDATE SET credits = 0;
\echo :SQLSTATE
SELECT kind, credits FROM credyt.ledger ORDER BY seq;

-- Nobody else may even try
CREATE ROLE credyt_regress_nobody;
SET ROLE credyt_regress_nobody;
SELECT * FROM credyt.ledger;
SELECT * FROM credyt.wallet_balances;
SELECT * FROM credyt.balance('acme');
SELECT * FROM credyt.debit_credits('acme', 'image');
UPDATE credyt.ledger SET credits = 0;
INSERT INTO credyt.clock VALUES (now());
RESET ROLE;

-- One that may write everything may still not change facts, nor set the clock
GRANT ALL ON ALL TABLES IN SCHEMA credyt TO credyt_regress_nobody;
REVOKE ALL ON credyt.clock FROM credyt_regress_nobody;
SET ROLE credyt_regress_nobody;
DELETE FROM credyt.ledger;
\echo :SQLSTATE
INSERT INTO credyt.clock VALUES (now());
RESET ROLE;
REVOKE ALL ON ALL TABLES IN SCHEMA credyt FROM credyt_regress_nobody;
DROP ROLE credyt_regress_nobody;
