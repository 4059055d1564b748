-- Without Citus there is nothing to distribute over: said with its remedy, and nothing has changed.
\set VERBOSITY verbose
SELECT credyt.distribute();
SELECT credyt.distribute(shards => 4);
\set VERBOSITY terse
SELECT credyt.distribute(0);
\echo :SQLSTATE
SELECT credyt.distribute(1025);
SELECT credyt.distribute(NULL);

-- The owner's
CREATE ROLE credyt_regress_operator;
SELECT credyt.allow('credyt_regress_operator', 'operate');
SET ROLE credyt_regress_operator;
SELECT credyt.distribute();
RESET ROLE;
DROP OWNED BY credyt_regress_operator;
DROP ROLE credyt_regress_operator;
