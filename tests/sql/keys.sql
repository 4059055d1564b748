-- A key stands for a call that has succeeded: what fails, with an error or with its savepoint, leaves none.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image', '1');
SELECT credyt.grant_credits('ann', 100, paid => 10, idempotency_key => 'pack');
SELECT id AS spent FROM credyt.debit_credits('ann', 'image', 10, idempotency_key => 'spent') \gset
SELECT id AS bought FROM credyt.grant_credits('ann', 5, idempotency_key => 'small') \gset
SELECT credyt.grant_credits('bob', 1);
SELECT credyt.create_plan('base', 10, '1 month');
SELECT credyt.create_plan('more', 20, '1 month');
SELECT credyt.subscribe('dan', 'base', paid_through => now() + interval '1 year');
\o
-- Of each call the row that keeps its key is written, and then the wallet is not: no answer, no replay of itself
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER skip BEFORE UPDATE ON credyt.wallets FOR EACH ROW EXECUTE FUNCTION skip();
CREATE FUNCTION said(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
    EXECUTE call INTO answer;
    RETURN answer;
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate;
END $$;
CREATE TABLE calls AS SELECT format(call, :'spent', :'bought') AS call FROM (VALUES
    ('SELECT d.replayed FROM credyt.debit_credits(''ann'', ''image'', 1, idempotency_key => ''k1'') d'),
    ('SELECT a.replayed FROM credyt.authorize(''ann'', ''image'', 1, idempotency_key => ''k2'') a'),
    ('SELECT r.replayed FROM credyt.refund(''ann'', %1$L, 1, idempotency_key => ''k3'') r'),
    ('SELECT g.replayed FROM credyt.grant_credits(''ann'', 1, idempotency_key => ''k4'') g'),
    ('SELECT g.replayed FROM credyt.revoke_grant(''ann'', %2$L, 1, idempotency_key => ''k5'') g'),
    ('SELECT t.replayed FROM credyt.transfer(''ann'', ''bob'', 1, idempotency_key => ''k6'') t'),
    ('SELECT c.replayed FROM credyt.record_cost(''ann'', ''acme'', cost => 1, vendor_request_id => ''k7'') c'),
    ('SELECT s.replayed FROM credyt.subscribe(''bob'', ''base'', idempotency_key => ''k8'') s'),
    ('SELECT s.replayed FROM credyt.pay_subscription(''dan'', ''base'', now() + interval ''2 years'', idempotency_key => ''k9'') s'),
    ('SELECT s.replayed FROM credyt.change_plan(''dan'', ''base'', ''more'', idempotency_key => ''ka'') s')) c (call);
SELECT substring(call FROM 'credyt\.(\w+)') AS function, said(call) FROM calls;
DROP TRIGGER skip ON credyt.wallets;
SELECT count(*) FROM credyt.ledger WHERE idempotency_key LIKE 'k_';
SELECT count(*) FROM credyt.authorizations;
SELECT count(*) FROM credyt.vendor_costs;
SELECT count(*) FROM credyt.subscription_keys;
SELECT * FROM credyt.verify();
-- A savepoint takes the key with it
BEGIN;
SAVEPOINT here;
SELECT replayed FROM credyt.debit_credits('ann', 'image', 2, idempotency_key => 'k1');
SELECT replayed FROM credyt.record_cost('ann', 'acme', cost => 2, vendor_request_id => 'k7');
ROLLBACK TO here;
-- The same calls succeed once
SELECT substring(call FROM 'credyt\.(\w+)') AS function, said(call), said(call) AS again FROM calls;
COMMIT;
SELECT * FROM credyt.verify();
-- A replay of a cost opens no wallet, and locks none
SELECT asset FROM credyt.create_asset('points');
SELECT settled FROM credyt.open_wallet('ann', 'points');
SELECT replayed FROM credyt.record_cost('cid', 'acme', cost => 1, vendor_request_id => 'r1');
SELECT replayed, cost FROM credyt.record_cost('cid', 'acme', cost => 2, vendor_request_id => 'r1');
SELECT count(*) FROM credyt.vendor_costs WHERE customer = 'cid';
