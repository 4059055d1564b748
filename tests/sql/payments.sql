-- What came with a payment, and its chargeback.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
\o /dev/null
INSERT INTO credyt.clock VALUES ('2026-03-01 00:00Z');
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image', '1');

\o
CREATE FUNCTION ends(name text) RETURNS TABLE (settled numeric, available numeric, owed numeric, deferred numeric, earned numeric) LANGUAGE sql AS $$
    SELECT b.settled, b.available, b.owed, (SELECT sum(g.deferred) FROM credyt.grant_balances g WHERE g.customer = name),
           (SELECT sum(l.revenue) FROM credyt.ledger l WHERE l.customer = name)
    FROM credyt.balance(name) b
$$;

-- A pack with a bonus, of which 150 were spent; another payment stays
\o /dev/null
SELECT credyt.grant_credits('ben', 50, 'promotional', payment => 'pi_1');
SELECT credyt.grant_credits('ben', 200, paid => 20, payment => 'pi_1', idempotency_key => 'pi_1');
SELECT credyt.grant_credits('ben', 30, paid => 3, payment => 'pi_2', effective_at => '2026-03-02Z');
SELECT credyt.debit_credits('ben', 'image', 150);
\o
SELECT kind, credits, remaining, deferred, replayed FROM credyt.revoke_payment('ben', 'pi_1', reason => 'dispute du_1', idempotency_key => 'du_1');
SELECT * FROM ends('ben');
SELECT kind, credits, remaining, deferred, replayed FROM credyt.revoke_payment('ben', 'pi_1', reason => 'dispute du_1', idempotency_key => 'du_1');
SELECT kind, credits, revenue, balance, reason FROM credyt.ledger WHERE customer = 'ben' ORDER BY seq;
-- the other payment pays what is owed as any credits do
UPDATE credyt.clock SET now = '2026-03-02 00:00Z';
SELECT * FROM ends('ben');
-- The dispute is won: a new grant with a new key
SELECT credits, remaining, deferred FROM credyt.grant_credits('ben', 200, paid => 20, payment => 'pi_1', idempotency_key => 'du_1 won');
SELECT credits, remaining, deferred FROM credyt.grant_credits('ben', 50, 'promotional', payment => 'pi_1', idempotency_key => 'du_1 won: bonus');
SELECT * FROM ends('ben');
-- and disputed again
SELECT kind, credits, remaining FROM credyt.revoke_payment('ben', 'pi_1', idempotency_key => 'du_2') ORDER BY 1, 2, 3;
SELECT * FROM ends('ben');

-- Kept: only the unspent rest goes
\o /dev/null
SELECT credyt.grant_credits('kay', 100, paid => 10, payment => 'pi_1');
SELECT credyt.debit_credits('kay', 'image', 40);
SELECT id AS h FROM credyt.authorize('kay', 'image', 10) \gset
\o
SELECT remaining, held FROM credyt.revoke_payment('kay', 'pi_1', 'keep');
SELECT * FROM ends('kay');
-- then owed: what was spent, and what the hold takes later
SELECT remaining, held FROM credyt.revoke_payment('kay', 'pi_1');
SELECT * FROM ends('kay');
SELECT credits, available FROM credyt.capture('kay', :'h', 4);
SELECT * FROM ends('kay');
-- nothing is left: no row without a key, a row of 0 with one
SELECT remaining FROM credyt.revoke_payment('kay', 'pi_1');
SELECT remaining, replayed FROM credyt.revoke_payment('kay', 'pi_1', idempotency_key => 'k');
SELECT remaining, replayed FROM credyt.revoke_payment('kay', 'pi_1', idempotency_key => 'k');
SELECT kind, credits, revenue, reason FROM credyt.ledger WHERE customer = 'kay' ORDER BY seq;

-- A plan's period with what rolled over of it: March by in_3, April by in_4
\o /dev/null
SELECT credyt.create_plan('pro', 100, '1 month', paid => 10, rollover => NULL);
SELECT credyt.subscribe('ada', 'pro', paid_through => '2026-04-02Z', payment => 'in_3');
SELECT credyt.debit_credits('ada', 'image', 30);
UPDATE credyt.clock SET now = '2026-04-02 01:00Z';
SELECT credyt.pay_subscription('ada', 'pro', '2026-05-02Z', payment => 'in_4');
SELECT credyt.debit_credits('ada', 'image', 20);
\o
SELECT credits, remaining, paid, effective_at FROM credyt.grant_balances WHERE customer = 'ada' ORDER BY effective_at, credits;
SELECT kind, credits, remaining, effective_at FROM credyt.revoke_payment('ada', 'in_3', idempotency_key => 'du_3');
SELECT * FROM ends('ada');
SELECT credits, remaining, effective_at FROM credyt.grant_balances WHERE customer = 'ada';
-- In May what rolled over of both months is one grant: of it only what is left of March is taken
\o /dev/null
UPDATE credyt.clock SET now = '2026-03-02 00:00Z';
SELECT credyt.subscribe('eva', 'pro', paid_through => '2026-04-02Z', payment => 'in_3');
UPDATE credyt.clock SET now = '2026-04-02 01:00Z';
SELECT credyt.pay_subscription('eva', 'pro', '2026-05-02Z', payment => 'in_4');
SELECT credyt.debit_credits('eva', 'image', 60);
UPDATE credyt.clock SET now = '2026-05-02 01:00Z';
SELECT credyt.pay_subscription('eva', 'pro', '2026-06-02Z', payment => 'in_5');
SELECT credyt.debit_credits('eva', 'image', 10);
\o
SELECT credits, remaining, effective_at FROM credyt.grant_balances WHERE customer = 'eva' ORDER BY credits;
SELECT credits, remaining, effective_at FROM credyt.revoke_payment('eva', 'in_3') ORDER BY effective_at;
SELECT credits, remaining, effective_at FROM credyt.grant_balances WHERE customer = 'eva' ORDER BY credits;
SELECT * FROM ends('eva');
-- The period that runs, named afterwards; and a year paid in advance, whose other months wait for a payment
\o /dev/null
SELECT credyt.subscribe('ida', 'pro', paid_through => '2026-06-02Z');
SELECT credyt.pay_subscription('ida', 'pro', '2026-06-02Z', payment => 'in_5');
SELECT credyt.pay_subscription('ida', 'pro', '2026-06-02Z', payment => 'in_6');
SELECT credyt.subscribe('uma', 'pro', paid_through => '2027-05-02Z', payment => 'in_5');
SELECT credyt.subscribe('ole', 'pro', payment => 'in_5');
\o
SELECT remaining FROM credyt.revoke_payment('ida', 'in_5');
\set VERBOSITY sqlstate
SELECT * FROM credyt.revoke_payment('ida', 'in_6');
\set VERBOSITY default
SELECT credits, remaining, effective_at FROM credyt.revoke_payment('uma', 'in_5');
SELECT credits, remaining, effective_at FROM credyt.revoke_payment('ole', 'in_5');
UPDATE credyt.clock SET now = '2026-06-02 12:00Z';
SELECT customer, status, period_end, paid_through FROM credyt.subscriptions WHERE customer IN ('uma', 'ole') ORDER BY 1;
SELECT * FROM ends('uma');
SELECT * FROM ends('ole');
\o /dev/null
SELECT credyt.pay_subscription('uma', 'pro', '2026-07-02Z', payment => 'in_6');
\o
SELECT remaining FROM credyt.revoke_payment('uma', 'in_6');

-- Credits that went on to a team, some of them spent there, some given on and some given back
\o /dev/null
SELECT credyt.grant_credits('org', 100, paid => 10, payment => 'pi_1');
SELECT credyt.grant_credits('org', 40, paid => 4, payment => 'pi_2', priority => 200);
SELECT credyt.transfer('org', 'team', 80);
SELECT id AS d FROM credyt.debit_credits('team', 'image', 25) \gset
SELECT credyt.transfer('team', 'mia', 10);
SELECT credyt.transfer('team', 'org', 15);
SELECT credyt.debit_credits('mia', 'image', 4);
SELECT credyt.debit_credits('org', 'image', 3);
\o
SELECT customer, credits, remaining FROM credyt.revoke_payment('org', 'pi_1', reason => 'dispute', idempotency_key => 'du');
SELECT * FROM ends('org');
SELECT * FROM ends('team');
SELECT * FROM ends('mia');
SELECT customer, kind, credits, revenue, reason FROM credyt.ledger WHERE customer IN ('org', 'team', 'mia') AND kind IN ('revocation', 'settlement') ORDER BY customer, seq;
-- What the team is given back of it afterwards is lost, and earns nobody anything
SELECT credits, revenue, available, reason FROM credyt.refund('team', :'d', 5);
SELECT * FROM credyt.verify();

-- A refund lowers what is owed
\o /dev/null
SELECT credyt.grant_credits('ron', 20, paid => 2, payment => 'pi_1');
SELECT id AS d FROM credyt.debit_credits('ron', 'image', 15) \gset
SELECT credyt.revoke_payment('ron', 'pi_1');
\o
SELECT credits, revenue FROM credyt.refund('ron', :'d', 5);
SELECT * FROM ends('ron');

-- A key stands for one request; a payment is the customer's own; the arguments say what is wrong
\set VERBOSITY terse
SELECT * FROM credyt.revoke_payment('ben', 'pi_2', idempotency_key => 'du_1');
SELECT * FROM credyt.revoke_payment('ben', 'pi_1', 'keep', idempotency_key => 'du_1');
SELECT * FROM credyt.revoke_payment('ben', 'pi_9');
SELECT * FROM credyt.revoke_payment('ron', 'pi_2');
SELECT * FROM credyt.revoke_payment('nobody', 'pi_1');
SELECT * FROM credyt.revoke_payment(NULL, 'pi_1');
SELECT * FROM credyt.revoke_payment('ben', NULL);
SELECT * FROM credyt.revoke_payment('ben', '');
SELECT * FROM credyt.revoke_payment('ben', 'pi_1', 'forget');
SELECT * FROM credyt.revoke_payment('ben', 'pi_1', NULL);
SELECT * FROM credyt.revoke_payment('ben', 'pi_1', idempotency_key => '');
SELECT credyt.grant_credits('ben', 1, payment => '');
SELECT credyt.grant_credits('ben', 200, paid => 20, payment => 'pi_7', idempotency_key => 'pi_1');
SELECT credyt.subscribe('ben', 'pro', payment => '');
SELECT credyt.pay_subscription('ada', 'pro', '2026-07-02Z', payment => '');
\set VERBOSITY default

-- Nobody knows a payment of an erased customer
\o /dev/null
SELECT credyt.erase_customer('ada', 'asked');
SELECT credyt.erase_customer('ron', 'asked');
\o
SELECT count(*) FROM credyt.grants WHERE customer IN ('ada', 'ron') AND payment IS NOT NULL;
SELECT count(*) FROM credyt.subscription_payments WHERE customer = 'ada' AND payment IS NOT NULL;
\set VERBOSITY sqlstate
SELECT * FROM credyt.revoke_payment('ron', 'pi_1');
\set VERBOSITY default

SELECT * FROM credyt.verify();
