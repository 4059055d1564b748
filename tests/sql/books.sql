-- A month's books: what moved deferred revenue, the close, and what comes late.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 00:00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.create_asset('tokens', currency => 'EUR');
\o
SELECT * FROM credyt.revenue_rollforward(NULL, NULL);

-- December: one grant bought, one tenth spent
UPDATE credyt.clock SET now = '2025-12-20';
\o /dev/null
SELECT credyt.grant_credits('ann', 100, paid => 50);
SELECT id AS december FROM credyt.debit_credits('ann', 'image', credits => 10) \gset
SELECT credyt.grant_credits('eve', 8, asset => 'tokens', paid => 2);
\o
SELECT * FROM credyt.revenue_rollforward('2025-12-01', '2026-01-01');

-- January: bought, spent, given back, ended, revoked, owed, and paid later
\o /dev/null
UPDATE credyt.clock SET now = '2026-01-05';
SELECT credyt.grant_credits('bob', 40, 'included', paid => 20, expires_at => '2026-01-31 12:00');
SELECT id AS january FROM credyt.debit_credits('bob', 'image', credits => 10) \gset
SELECT credyt.refund('bob', :'january', 4);
SELECT id AS gone FROM credyt.grant_credits('cy', 10, paid => 3) \gset
SELECT id AS owing FROM credyt.grant_credits('dee', 10, paid => 7) \gset
SELECT credyt.debit_credits('dee', 'image', credits => 4);
SELECT credyt.grant_credits('dee', 30, paid => 9, effective_at => '2026-02-10');
UPDATE credyt.clock SET now = '2026-01-20';
SELECT credyt.revoke_grant('cy', :'gone');
SELECT credyt.revoke_grant('dee', :'owing', spent => 'owe');
UPDATE credyt.clock SET now = '2026-02-03';
\o
-- Bob's grant has ended; nobody has booked it, and everybody sees it.
SELECT count(*) FROM credyt.ledger WHERE kind = 'expiry';
SELECT * FROM credyt.revenue_rollforward('2026-01-01', '2026-02-01');
SELECT * FROM credyt.revenue_rollforward('2026-01-01', '2026-02-01', 'tokens');
SELECT * FROM credyt.deferred_revenue ORDER BY asset, kind;
SELECT * FROM credyt.deferred_revenue_at('2026-02-03');
SELECT * FROM credyt.deferred_revenue_at('2026-01-31 12:00', 'credits');
SELECT * FROM credyt.deferred_revenue_at('2026-01-31 11:59:59.999999', 'credits');
SELECT * FROM credyt.deferred_revenue_at('2025-12-19');

-- The close books it in January
SELECT * FROM credyt.close_period('2026-02-01');
SELECT kind, credits, occurred_at, accounted_at, created_at FROM credyt.ledger WHERE kind = 'expiry';
SELECT customer, kind, remaining, deferred, through FROM credyt.period_grants ORDER BY customer, remaining;
CREATE TABLE january AS SELECT * FROM credyt.revenue_rollforward('2026-01-01', '2026-02-01');
CREATE TABLE january_31 AS SELECT * FROM credyt.deferred_revenue_at('2026-01-31 23:59:59.999999');
TABLE january;
TABLE january_31;
-- Again: nothing happens. Backwards, ahead of time, without a moment or an asset: refused.
SELECT count(*) FROM credyt.close_period('2026-02-01');
SELECT count(*) FROM credyt.periods;
\set VERBOSITY default
SELECT * FROM credyt.close_period('2026-01-31');
SELECT * FROM credyt.close_period('2026-02-03 00:00:00.000001');
\set VERBOSITY sqlstate
SELECT * FROM credyt.close_period(NULL);
SELECT * FROM credyt.close_period('2026-02-02', NULL);
SELECT * FROM credyt.close_period('2026-02-02', 'gold');
SELECT * FROM credyt.close_period('infinity');
SELECT * FROM credyt.deferred_revenue_at(NULL);
SELECT * FROM credyt.deferred_revenue_at('2026-02-04');
SELECT * FROM credyt.deferred_revenue_at('2026-02-02', 'gold');
SELECT * FROM credyt.revenue_rollforward('2026-02-02', '2026-02-01');
SELECT * FROM credyt.revenue_rollforward(NULL, NULL, 'gold');
UPDATE credyt.periods SET deferred = 0;
DELETE FROM credyt.period_grants;
\set VERBOSITY default

-- Late: a debit of January, refunds of December's and January's, and a debit of an asset whose books are open.
-- The first moment of the open period counts as it is.
UPDATE credyt.clock SET now = '2026-02-04';
\o /dev/null
SELECT credyt.debit_credits('ann', 'image', credits => 20, occurred_at => '2026-01-15');
SELECT credyt.refund('ann', :'december');
SELECT credyt.refund('bob', :'january');
SELECT credyt.debit_credits('eve', 'image', credits => 4, asset => 'tokens', occurred_at => '2026-01-15');
SELECT credyt.debit_credits('ann', 'image', credits => 1, occurred_at => '2026-02-01');
\o
SELECT customer, asset, kind, credits, revenue, occurred_at, accounted_at
FROM credyt.ledger WHERE created_at >= '2026-02-04' ORDER BY customer, asset, seq;
UPDATE credyt.clock SET now = '2026-02-20';
-- Dee's grant has begun and paid her debt.
SELECT * FROM credyt.revenue_rollforward('2026-02-01', '2026-03-01', 'credits');
-- January reads as before, but for tokens, which are open
SELECT 'was' AS is, * FROM january EXCEPT SELECT 'was', * FROM credyt.revenue_rollforward('2026-01-01', '2026-02-01');
SELECT * FROM credyt.revenue_rollforward('2026-01-01', '2026-02-01', 'tokens');
SELECT * FROM january_31 EXCEPT SELECT * FROM credyt.deferred_revenue_at('2026-01-31 23:59:59.999999');
SELECT * FROM credyt.deferred_revenue EXCEPT SELECT * FROM credyt.deferred_revenue_at('2026-02-20');

-- February is closed from January's snapshot; both together are one
UPDATE credyt.clock SET now = '2026-03-02';
SELECT * FROM credyt.close_period('2026-03-01');
SELECT * FROM credyt.revenue_rollforward('2026-02-01', '2026-03-01', 'credits');
SELECT * FROM credyt.revenue_rollforward('2026-01-01', '2026-03-01', 'credits');
SELECT * FROM credyt.revenue_rollforward('2026-01-10', '2026-02-15', 'credits');
SELECT * FROM credyt.close_period('2026-01-15', 'tokens');
SELECT through, closed_at, credits, deferred FROM credyt.close_period('2026-02-01');
SELECT * FROM credyt.verify();

-- Who closes and reads needs no more than the functions
CREATE ROLE accountant_here;
GRANT EXECUTE ON FUNCTION credyt.close_period, credyt.deferred_revenue_at, credyt.revenue_rollforward TO accountant_here;
SET ROLE accountant_here;
SELECT through FROM credyt.close_period('2026-03-02');
SELECT asset, closing FROM credyt.revenue_rollforward('2026-03-01', NULL);
SELECT * FROM credyt.deferred_revenue_at('2026-03-01', 'credits');
\set VERBOSITY sqlstate
SELECT credyt.keep_period('credits', '2026-03-02', '2026-03-02', '2026-03-02');
TABLE credyt.periods;
RESET ROLE;
REVOKE ALL ON FUNCTION credyt.close_period, credyt.deferred_revenue_at, credyt.revenue_rollforward FROM accountant_here;
DROP ROLE accountant_here;
