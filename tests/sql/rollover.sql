-- What may roll over waits for the payment of the next period.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 00:00+00');
CREATE FUNCTION have(name text) RETURNS TABLE (settled numeric, held numeric, available numeric, deferred numeric, breakage numeric) LANGUAGE sql AS $$
    SELECT b.settled, b.held, b.available, (SELECT sum(g.deferred) FROM credyt.grant_balances g WHERE g.customer = name),
           (SELECT -sum(m.credits) FROM credyt.grant_movements m WHERE m.customer = name AND m.movement = 'expiry')
    FROM credyt.balance(name) b
$$;
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.create_plan('saver', 100, paid => 20, rollover => 90);
SELECT credyt.subscribe(c, 'saver', paid_through => '2026-02-01')
FROM unnest('{late,lost,gone,back,held,revoked,ontime,years,closed}'::text[]) AS c;
SELECT credyt.debit_credits(c, 'image', credits => 5) FROM unnest('{late,lost,gone,back,revoked,ontime,closed}'::text[]) AS c;
\o
SELECT id AS h FROM credyt.authorize('held', 'image', credits => 30, ttl_seconds => 10000000) \gset
SELECT id AS g FROM credyt.grant_balances WHERE customer = 'revoked' \gset

-- Paid in time: 90 of 95 roll over, 5 are lost
UPDATE credyt.clock SET now = '2026-01-31 23:59:59+00';
\o /dev/null
SELECT credyt.pay_subscription('ontime', 'saver', '2026-03-01');
\o
UPDATE credyt.clock SET now = '2026-02-01 00:00:01+00';
SELECT * FROM have('ontime');

-- A second after the period: 90 wait, neither spendable nor lost
SELECT * FROM have('late');
SELECT count(*) FROM credyt.spend_order WHERE customer = 'late';
\set VERBOSITY sqlstate
SELECT credyt.debit_credits('late', 'image', credits => 1);
SELECT credyt.transfer('late', 'friend', 1);
\set VERBOSITY default
-- Booked or not
SELECT available FROM credyt.debit_credits('late', 'image', credits => 0);
SELECT * FROM have('late');
SELECT settled, available FROM credyt.balance('late', at => '2026-02-01 00:00:01+00');
-- The webhook comes late, and all is as if it had been in time
SELECT status, period_start, period_end FROM credyt.pay_subscription('late', 'saver', '2026-03-01', 'payment-1');
SELECT * FROM have('late');
SELECT remaining, expires_at FROM credyt.spend_order WHERE customer = 'late';
SELECT kind, credits, allocations->0->>'credits' AS moved, occurred_at FROM credyt.ledger WHERE customer = 'late' ORDER BY seq;

-- What a hold gives back meanwhile does not wait: it came back after the period's end
SELECT * FROM have('held');
\o /dev/null
SELECT credyt.release('held', :'h');
\o
SELECT * FROM have('held');

-- It pays no debt, and can be revoked
SELECT remaining FROM credyt.revoke_grant('revoked', :'g', 40);
SELECT * FROM have('revoked');
SELECT remaining FROM credyt.revoke_grant('revoked', :'g');
SELECT * FROM have('revoked');
\o /dev/null
SELECT credyt.pay_subscription('revoked', 'saver', '2026-03-01');
\o
SELECT * FROM have('revoked');

-- Who leaves while it waits has lost it; who comes back before the end he set has not
SELECT status, ends_at FROM credyt.unsubscribe('gone', 'saver');
SELECT * FROM have('gone');
SELECT status FROM credyt.unsubscribe('back', 'saver', '2026-02-10');
SELECT status FROM credyt.subscribe('back', 'saver');
UPDATE credyt.clock SET now = '2026-02-11 00:00+00';
SELECT * FROM have('back');
SELECT * FROM have('closed');
\o /dev/null
SELECT credyt.close_wallet('closed');
\o
SELECT * FROM have('closed');

-- A whole period has passed unpaid: lost, and a later payment brings the periods without it
UPDATE credyt.clock SET now = '2026-02-28 23:59:59.999999+00';
SELECT * FROM have('lost');
UPDATE credyt.clock SET now = '2026-03-01 00:00+00';
SELECT * FROM have('lost');
SELECT movement, credits, deferred, accounted_at FROM credyt.grant_movements WHERE customer = 'lost' AND movement = 'expiry' ORDER BY accounted_at;
SELECT available FROM credyt.debit_credits('lost', 'image', credits => 0);
SELECT status, period_start FROM credyt.pay_subscription('lost', 'saver', '2026-03-02');
SELECT * FROM have('lost');

-- Dormant for years, then paid for some of them: the last of them waits
UPDATE credyt.clock SET now = '2028-01-20 00:00+00';
SELECT * FROM have('years');
SELECT status, period_start FROM credyt.pay_subscription('years', 'saver', '2027-12-15');
SELECT * FROM have('years');
UPDATE credyt.clock SET now = '2028-02-01 00:00+00';
SELECT * FROM have('years');

SELECT * FROM credyt.verify();
