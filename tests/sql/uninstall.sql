-- DROP EXTENSION leaves nothing behind, and what comes back is empty.
\o /dev/null
CREATE EXTENSION credyt_pg;
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image', '1');
SELECT credyt.grant_credits('acme', 10);
SELECT credyt.authorize('acme', 'image');
\o
\set VERBOSITY terse
DROP SCHEMA credyt;
DROP TABLE credyt.ledger;
DROP EXTENSION credyt_pg;
SELECT count(*) FROM pg_namespace WHERE nspname = 'credyt';
SELECT count(*) FROM pg_proc WHERE probin LIKE '%credyt_pg%' OR prosrc LIKE '%credyt%';
SELECT count(*) FROM pg_type WHERE typname IN ('wallet', '_wallet', 'balance');
SELECT count(*) FROM pg_cast WHERE oid >= 16384;
SELECT count(*) FROM pg_depend WHERE deptype = 'e' AND objid >= 16384;
SELECT * FROM credyt.balance('acme');

-- Again, by a session that has used it before
CREATE EXTENSION credyt_pg;
SELECT * FROM credyt.debit_credits('acme', 'image');
SELECT asset FROM credyt.create_asset('credits');
SELECT credits, remaining FROM credyt.grant_credits('acme', 5);
SELECT count(*) FROM credyt.ledger;
SELECT * FROM credyt.verify();
DROP EXTENSION credyt_pg;
