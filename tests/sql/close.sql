-- Closing a wallet: what is left expires, nothing comes any more, what has begun is finished.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-15 12:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.create_asset('tokens', 0);
SELECT credyt.set_price('image', '1');
SELECT credyt.create_plan('pro', 100, paid => 20, rollover => 50);
SELECT credyt.create_plan('later', 7);
SELECT credyt.create_plan('gated', 9, '1 day', paid => 3);
SELECT credyt.open_wallet('acme', overdraft_limit => 25);
SELECT credyt.grant_credits('acme', 10, paid => 4, idempotency_key => 'g');
SELECT credyt.grant_credits('acme', 5, kind => 'promotional', expires_at => '2026-02-01', effective_at => '2026-01-20');
SELECT credyt.subscribe('acme', 'pro', idempotency_key => 's');
SELECT credyt.subscribe('acme', 'later', starts_at => '2026-03-01');
SELECT credyt.subscribe('acme', 'gated', paid_through => '2026-01-15 13:00+00', idempotency_key => 'gated');
SELECT credyt.set_limit('acme', 'user:alice', 50, 'day'), credyt.set_alert('acme', 20), credyt.set_topup('acme', 20, 100);
SELECT id AS debit FROM credyt.debit_credits('acme', 'image', 3, scopes => '{user:alice}', idempotency_key => 'd') \gset
SELECT id AS one FROM credyt.authorize('acme', 'image', 4, idempotency_key => 'h') \gset
SELECT id AS two FROM credyt.authorize('acme', 'image', 2) \gset
SELECT id AS three FROM credyt.authorize('acme', 'image', 1, ttl_seconds => 60) \gset
-- A day later the gated plan waits for its payment.
UPDATE credyt.clock SET now = '2026-01-16 14:00+00';
SELECT id AS one FROM credyt.authorize('acme', 'image', 4) \gset
SELECT id AS two FROM credyt.authorize('acme', 'image', 2) \gset
SELECT id AS three FROM credyt.authorize('acme', 'image', 1, ttl_seconds => 60) \gset
SELECT credyt.freeze_wallet('acme', reason => 'first this');
\o
SELECT plan, next_renewal_at, credits FROM credyt.renewals WHERE customer = 'acme' ORDER BY plan;

-- A frozen wallet closes too. Future grants end as well; of what is held only what comes back
SELECT * FROM credyt.close_wallet('acme', reason => 'account deleted') \gx
SELECT kind, occurred_at, credits, revenue, allocations->0->>'kind' AS of, allocations->0->>'deferred' AS breakage
FROM credyt.ledger WHERE customer = 'acme' AND kind = 'expiry' ORDER BY seq;
SELECT type, payload->>'credits' AS credits, payload->>'expired_at' AS at FROM credyt.events WHERE customer = 'acme' ORDER BY id;
SELECT status, status_reason FROM credyt.wallets WHERE customer = 'acme';
SELECT * FROM credyt.balance('acme') \gx
SELECT count(*) AS renewals FROM credyt.renewals WHERE customer = 'acme';
SELECT plan, ends_at FROM credyt.booked_subscriptions WHERE customer = 'acme' ORDER BY plan;
SELECT kind, remaining, held FROM credyt.grant_balances WHERE customer = 'acme' AND remaining > 0 ORDER BY id;
SELECT * FROM credyt.verify();

-- Again: as it is
SELECT status, settled, held FROM credyt.close_wallet('acme', reason => 'another reason');
SELECT status_reason FROM credyt.wallets WHERE customer = 'acme';

-- For good
SELECT * FROM refused($$SELECT credyt.debit_credits('acme', 'image')$$) \gx
SELECT approved, reason FROM credyt.authorize('acme', 'image');
SELECT c.call, r.code, r.detail::jsonb->>'status' AS status
FROM (VALUES ('debit_credits(''acme'', ''image'', 0)'), ('transfer(''acme'', ''other'', 1)'), ('grant_credits(''acme'', 1)'),
             ('open_wallet(''acme'')'), ('freeze_wallet(''acme'')'), ('unfreeze_wallet(''acme'')'),
             ('subscribe(''acme'', ''pro'')'), ('pay_subscription(''acme'', ''gated'', ''2026-02-01'')')) AS c (call),
     refused('SELECT credyt.' || c.call) AS r;
\o /dev/null
SELECT credyt.grant_credits('rich', 10);
\o
SELECT * FROM refused($$SELECT credyt.transfer('rich', 'acme', 1)$$) \gx
-- Calls of before are answered as before
SELECT credits, replayed FROM credyt.grant_credits('acme', 10, paid => 4, idempotency_key => 'g');
SELECT credits, replayed FROM credyt.debit_credits('acme', 'image', 3, scopes => '{user:alice}', idempotency_key => 'd');
SELECT status, replayed FROM credyt.subscribe('acme', 'pro', idempotency_key => 's');
SELECT approved, replayed FROM credyt.authorize('acme', 'image', 4, idempotency_key => 'h');
SELECT status, ends_at FROM credyt.unsubscribe('acme', 'gated');

-- What is held pays; more than that is not there. What comes back is gone
SELECT code, message FROM refused(format($$SELECT credyt.capture('acme', %L, 5)$$, :'one'));
SELECT credits, revenue, available FROM credyt.capture('acme', :'one', 3);
SELECT status, expires_at FROM credyt.extend('acme', :'two', 3600);
SELECT status, available FROM credyt.release('acme', :'two');
SELECT credits FROM credyt.refund('acme', :'debit');
-- The third one ends by itself: readers see it before anything is booked
UPDATE credyt.clock SET now = '2026-02-16 12:00+00';
SELECT settled, held, available FROM credyt.balance('acme');
SELECT settled, held, available FROM credyt.wallet_balances WHERE customer = 'acme';
SELECT status, held FROM credyt.close_wallet('acme');
SELECT kind, occurred_at, credits, allocations->0->>'deferred' AS breakage
FROM credyt.ledger WHERE customer = 'acme' AND seq > 9 ORDER BY seq;
SELECT state::jsonb->'grants' AS grants, state::jsonb->'closed' AS closed FROM credyt.wallets WHERE customer = 'acme';
SELECT DISTINCT type FROM credyt.events WHERE customer = 'acme';
SELECT kind, credits, revenue FROM credyt.deferred_revenue WHERE asset = 'credits';
SELECT * FROM credyt.verify();

-- Debt stays owed, and the overdraft that is held may still be taken
\o /dev/null
SELECT credyt.open_wallet('owing', overdraft_limit => 10);
SELECT id AS debit FROM credyt.debit_credits('owing', 'image', 4) \gset
SELECT id AS hold FROM credyt.authorize('owing', 'image', 5, overrun => 'overdraft') \gset
SELECT credyt.close_wallet('owing');
\o
SELECT settled, held, available, owed, overdraft_limit FROM credyt.balance('owing');
SELECT credits FROM credyt.capture('owing', :'hold', 6);
SELECT credits, available FROM credyt.refund('owing', :'debit', 1);
SELECT settled, owed FROM credyt.balance('owing');
SELECT * FROM credyt.verify();

-- An ended grant is issued again by a refund, and ends at once
\o /dev/null
SELECT credyt.grant_credits('back', 10, paid => 1, expires_at => '2026-02-17');
SELECT id AS debit FROM credyt.debit_credits('back', 'image', 10) \gset
UPDATE credyt.clock SET now = '2026-02-18';
SELECT credyt.close_wallet('back');
\o
SELECT credits, revenue, available FROM credyt.refund('back', :'debit', restore_until => '2027-01-01');
SELECT kind, credits, allocations->0->>'deferred' AS deferred FROM credyt.ledger WHERE customer = 'back' ORDER BY seq;
SELECT * FROM credyt.verify();

-- Only this asset's wallet; an empty one too
\o /dev/null
SELECT credyt.grant_credits('both', 1), credyt.grant_credits('both', 2, asset => 'tokens'), credyt.open_wallet('empty');
\o
SELECT status FROM credyt.close_wallet('both', 'tokens');
SELECT asset, available, status FROM credyt.wallet_balances WHERE customer = 'both' ORDER BY asset;
SELECT settled, available, status FROM credyt.close_wallet('empty');

-- Refusals
SELECT c.call, r.code, r.message
FROM (VALUES ('close_wallet(NULL)'), ('close_wallet('''')'), ('close_wallet(''nobody'')'), ('close_wallet(''acme'', NULL)'),
             ('close_wallet(''acme'', '''')'), ('close_wallet(''acme'', ''gold'')'), ('close_wallet(''acme'', ''tokens'')')) AS c (call),
     refused('SELECT credyt.' || c.call) AS r;
SELECT * FROM credyt.verify();

-- A state that says otherwise is found
UPDATE credyt.wallets SET status = 'active' WHERE customer = 'empty';
UPDATE credyt.wallets SET status = 'closed' WHERE customer = 'rich';
SELECT * FROM credyt.verify() ORDER BY customer;
