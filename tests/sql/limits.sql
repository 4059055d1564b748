-- Spend limits: by user, key and action, in calendar periods; spent and held count together.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-03-30 10:00+00');
\o /dev/null
SELECT credyt.create_asset('credits', timezone => 'Europe/Berlin');
SELECT credyt.set_price('image.standard', '1');
SELECT credyt.set_price('image.upscale', '4');
SELECT credyt.set_price('text', '0.5');
SELECT credyt.grant_credits('acme', 1000, paid => 100);
\o

-- Each user has 10 a day, alice 20; images have 25 a week
SELECT * FROM credyt.set_limit('acme', 'user:*', 10, 'day');
SELECT * FROM credyt.set_limit('acme', 'user:alice', 20, 'day');
SELECT * FROM credyt.set_limit('acme', 'action:image.*', 25, 'week');
SELECT credits FROM credyt.debit_credits('acme', 'image.standard', 10, scopes => '{user:bob,team:red}');
SELECT * FROM refused($$SELECT credyt.debit_credits('acme', 'text', 1, scopes => '{user:bob}')$$) \gx
SELECT credits FROM credyt.debit_credits('acme', 'text', 0, scopes => '{user:bob}');
SELECT id AS d, credits FROM credyt.debit_credits('acme', 'image.upscale', 3, scopes => '{user:alice}') \gset
SELECT * FROM refused($$SELECT credyt.debit_credits('acme', 'image.upscale', 1, scopes => '{user:carol}')$$) \gx
SELECT credits FROM credyt.debit_credits('acme', 'text', 8, scopes => '{user:carol,user:carol}');
SELECT credits FROM credyt.debit_credits('acme', 'text', 100);
SELECT * FROM credyt.limits_used ORDER BY scope;

-- A refusal leaves the wallet and the counts as they were; its key is free
SELECT * FROM refused($$SELECT credyt.debit_credits('acme', 'text', 100, scopes => '{user:alice}', idempotency_key => 'k')$$) \gx
SELECT credits, replayed FROM credyt.debit_credits('acme', 'text', 2, scopes => '{user:alice}', idempotency_key => 'k');
SELECT credits, replayed FROM credyt.debit_credits('acme', 'text', 2, scopes => '{user:alice}', idempotency_key => 'k');
SELECT used FROM credyt.limits_used WHERE scope = 'user:alice';
SELECT settled FROM credyt.balance('acme');
-- The HINT lets it through
SELECT substring(hint FROM 'SELECT .*;') AS remedy FROM refused($$SELECT credyt.debit_credits('acme', 'text', 100, scopes => '{user:alice}')$$) \gset
:remedy
SELECT credits FROM credyt.debit_credits('acme', 'text', 100, scopes => '{user:alice}');
SELECT cap FROM credyt.set_limit('acme', 'user:alice', 20, 'day');
-- Above the cap since it was lowered: nothing but zero
SELECT used > cap AS over FROM credyt.limits_used WHERE scope = 'user:alice';
SELECT credits FROM credyt.debit_credits('acme', 'text', 0, scopes => '{user:alice}');

-- A refund counts back in the period of its debit
SELECT credits FROM credyt.refund('acme', :'d', 4);
SELECT scope, used FROM credyt.limits_used WHERE scope <> 'user:carol' ORDER BY scope;

-- What is held counts, and comes back
SELECT id AS h, approved, reason FROM credyt.authorize('acme', 'text', 12, scopes => '{user:dave}') \gset
SELECT :'approved' AS approved;
SELECT id, approved, reason, credits, available FROM credyt.authorize('acme', 'text', 10, scopes => '{user:dave}');
SELECT * FROM refused($$SELECT credyt.debit_credits('acme', 'text', 10, scopes => '{user:dave}')$$) \gx
SELECT scope, cap, used, held FROM credyt.limits_used WHERE scope = 'user:dave';
SELECT credits FROM credyt.capture('acme', :'h', 6);
SELECT scope, cap, used, held FROM credyt.limits_used WHERE scope = 'user:dave';
-- A capture counts what it charged, beyond the cap where its overrun says so
SELECT id AS h FROM credyt.authorize('acme', 'text', 14, scopes => '{user:dave}', overrun => 'overdraft') \gset
SELECT approved, reason FROM credyt.authorize('acme', 'text', 1, scopes => '{user:dave}');
SELECT credits FROM credyt.capture('acme', :'h', credits => 9);
SELECT scope, cap, used, held FROM credyt.limits_used WHERE scope = 'user:dave';
-- Released and ended ones count no more
SELECT id AS h FROM credyt.authorize('acme', 'text', 20, scopes => '{user:erin}') \gset
SELECT status FROM credyt.release('acme', :'h');
SELECT id AS h, approved FROM credyt.authorize('acme', 'text', 20, ttl_seconds => 60, scopes => '{user:erin}', overrun => 'overdraft', idempotency_key => 'h') \gset
SELECT approved, replayed FROM credyt.authorize('acme', 'text', 20, ttl_seconds => 60, scopes => '{user:erin}', overrun => 'overdraft', idempotency_key => 'h');
SELECT scope, used, held FROM credyt.limits_used WHERE scope = 'user:erin';
UPDATE credyt.clock SET now = '2026-03-30 10:02+00';
SELECT scope, used, held FROM credyt.limits_used WHERE scope = 'user:erin';
SELECT credits FROM credyt.debit_credits('acme', 'text', 20, scopes => '{user:erin}');
SELECT credits, reason FROM credyt.capture('acme', :'h', credits => 1);
SELECT scope, used, held FROM credyt.limits_used WHERE scope = 'user:erin';

-- The next day in Berlin begins at 22:00 UTC; what is still held counts there
SELECT id AS d FROM credyt.debit_credits('acme', 'text', 6, scopes => '{user:frank}') \gset
SELECT id AS h FROM credyt.authorize('acme', 'text', 4, ttl_seconds => 86400, scopes => '{user:frank}') \gset
UPDATE credyt.clock SET now = '2026-03-30 21:59:59+00';
SELECT period_start, period_end, used, held FROM credyt.limits_used WHERE scope = 'user:frank';
UPDATE credyt.clock SET now = '2026-03-30 22:00+00';
SELECT period_start, period_end, used, held FROM credyt.limits_used WHERE scope = 'user:frank';
SELECT scope, used, held FROM credyt.limits_used ORDER BY scope;
SELECT * FROM refused($$SELECT credyt.debit_credits('acme', 'text', 17, scopes => '{user:frank}')$$) \gx
SELECT credits FROM credyt.debit_credits('acme', 'text', 16, scopes => '{user:frank}');
SELECT credits FROM credyt.refund('acme', :'d');
SELECT credits FROM credyt.capture('acme', :'h');
SELECT period_start, used, held FROM credyt.limits_used WHERE scope = 'user:frank';

-- A limit that comes in mid-period counts what was spent before; one scope may have several
SELECT credits FROM credyt.debit_credits('acme', 'text', 3, scopes => '{key:k1,user:grace}');
SELECT credits FROM credyt.debit_credits('acme', 'text', 4, scopes => '{key:k2,user:grace}');
\o /dev/null
SELECT credyt.set_limit('acme', 'key:k1', 2, 'hour');
SELECT credyt.set_limit('acme', 'key:*', 3);
SELECT credyt.set_limit('acme', 'key:k1', 50);
SELECT credyt.set_limit('acme', 'action:*', 2000, 'month');
SELECT credyt.set_limit('acme', 'action:text', 300, 'month');
\o
SELECT scope, period_start, cap, used FROM credyt.limits_used WHERE scope LIKE 'key:%' OR scope LIKE 'action:%' ORDER BY scope, cap;
SELECT * FROM refused($$SELECT credyt.debit_credits('acme', 'text', 2, scopes => '{key:k1}')$$) \gx
SELECT * FROM refused($$SELECT credyt.debit_credits('acme', 'text', 3, scopes => '{key:k2}')$$) \gx
-- Taken away, and what shared its counts goes on
\o /dev/null
SELECT credyt.set_limit('acme', 'key:k1', NULL);
SELECT credyt.set_limit('acme', 'user:*', NULL, 'day');
SELECT credyt.set_limit('acme', 'key:gone', NULL, 'week');
\o
SELECT scope, cap, used FROM credyt.limits_used WHERE scope ~ '^(key|user)' ORDER BY scope, cap;
SELECT * FROM credyt.set_limit('acme', 'key:k1', NULL, 'hour');
SELECT scope, every, cap FROM credyt.wallets w, credyt.limits(w.state) ORDER BY scope, every;
SELECT c.* FROM credyt.wallets w, credyt.limit_counts(w.state) c ORDER BY 1, 2;

-- A wallet that has no credits yet; frozen, and a debt, do not matter
SELECT * FROM credyt.set_limit('new', 'action:image.upscale', 4, 'hour');
\o /dev/null
SELECT credyt.open_wallet('new', overdraft_limit => 10);
\o
SELECT credits FROM credyt.debit_credits('new', 'image.upscale');
SELECT * FROM refused($$SELECT credyt.debit_credits('new', 'image.upscale')$$) \gx
UPDATE credyt.clock SET now = '2026-03-30 23:00+00';
SELECT credits FROM credyt.debit_credits('new', 'image.upscale');
SELECT customer, scope, period_start, period_end, cap, used, held FROM credyt.limits_used WHERE customer = 'new';

-- Refusals
SELECT * FROM refused($$SELECT credyt.set_limit('acme', 'alice', 1)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_limit('acme', 'team:red', 1)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_limit('acme', 'user:', 1)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_limit('acme', 'user:al*', 1)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_limit('acme', 'action:*.x', 1)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_limit('acme', 'user:a', 1, 'decade')$$) \gx
SELECT * FROM refused($$SELECT credyt.set_limit('acme', 'user:a', 1, NULL)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_limit('acme', 'user:a', -1)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_limit('acme', 'user:a', 'NaN')$$) \gx
SELECT * FROM refused($$SELECT credyt.set_limit('acme', 'user:a', 0.001)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_limit('acme', 'user:a', 1e15)$$) \gx
SELECT * FROM refused($$SELECT credyt.set_limit('acme', 'user:a', 1, asset => 'gold')$$) \gx
SELECT * FROM refused($$SELECT credyt.set_limit(NULL, 'user:a', 1)$$) \gx
SELECT count(credyt.set_limit('many', 'user:' || n, 0)) FROM generate_series(1, 100) n;
SELECT * FROM refused($$SELECT credyt.set_limit('many', 'user:a', 1)$$) \gx
SELECT * FROM refused($$SELECT credyt.limit_period('month', 'Mars/Olympus', '2026-01-01Z')$$) \gx
SELECT * FROM refused($$SELECT credyt.limit_period('month', 'UTC', '9999-12-31')$$) \gx
SELECT w.state::text::credyt.wallet::bytea = w.state::bytea AS both_ways FROM credyt.wallets w WHERE customer = 'acme';
SELECT * FROM credyt.verify();
