-- Spend limits of every kind: years, ever, windows that open with the first use, calls, required scopes; and what they tell.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-03-28 10:00+00');
CREATE VIEW told AS SELECT customer, type, payload FROM credyt.events ORDER BY id;
\o /dev/null
SELECT credyt.create_asset('credits', timezone => 'Europe/Berlin');
SELECT credyt.set_price('chat', '1');
SELECT credyt.grant_credits(c, 1000, paid => 100) FROM unnest('{win, ever, calls, req, told, each}'::text[]) c;
\o

-- A window opens with the first use and closes five hours later
SELECT * FROM credyt.set_limit('win', 'user:*', 10, '5 hours');
SELECT scope, every, cap, warn_at, required, start FROM credyt.wallets w, credyt.limits(w.state) WHERE customer = 'win';
SELECT * FROM credyt.limits_used WHERE customer = 'win';
SELECT * FROM credyt.set_limit('win', 'action:chat', 12, '5 hours');
SELECT scope, period_start, period_end, cap, used, held, every, counts FROM credyt.limits_used WHERE customer = 'win';
UPDATE credyt.clock SET now = '2026-03-28 11:30+00';
SELECT id AS d FROM credyt.debit_credits('win', 'chat', 6, scopes => '{user:a}') \gset
UPDATE credyt.clock SET now = '2026-03-28 13:00+00';
SELECT credits FROM credyt.debit_credits('win', 'chat', 3, scopes => '{user:b}');
SELECT scope, period_start, period_end, used, held FROM credyt.limits_used WHERE customer = 'win' ORDER BY scope;
SELECT * FROM refused($$SELECT credyt.debit_credits('win', 'chat', 5, scopes => '{user:a}')$$) \gx
UPDATE credyt.clock SET now = '2026-03-28 16:29:59.999999+00';
SELECT * FROM refused($$SELECT credyt.debit_credits('win', 'chat', 5, scopes => '{user:a}')$$) \gx
UPDATE credyt.clock SET now = '2026-03-28 16:30+00';
-- Closed: that of b runs on
SELECT scope, period_start, period_end, used, held FROM credyt.limits_used WHERE customer = 'win' ORDER BY scope;
-- A refund of a window that is the last one counts back there, and opens none
SELECT credits FROM credyt.refund('win', :'d', 1);
SELECT scope, period_start, used FROM credyt.limits_used WHERE customer = 'win' ORDER BY scope;
UPDATE credyt.clock SET now = '2026-03-28 17:00+00';
-- A hold opens it too; the clocks go forward that night, and five hours are five hours
UPDATE credyt.clock SET now = '2026-03-28 23:00+00';
SELECT id AS h FROM credyt.authorize('win', 'chat', 4, scopes => '{user:a}', ttl_seconds => 36000) \gset
SELECT scope, period_start, period_end, used, held FROM credyt.limits_used WHERE customer = 'win' ORDER BY scope;
UPDATE credyt.clock SET now = '2026-03-29 03:59:59+00';
SELECT approved, reason FROM credyt.authorize('win', 'chat', 7, scopes => '{user:a}');
UPDATE credyt.clock SET now = '2026-03-29 04:00+00';
-- What is held counts until it ends; its capture opens the next window
SELECT scope, period_start, period_end, used, held FROM credyt.limits_used WHERE customer = 'win' ORDER BY scope;
SELECT credits FROM credyt.capture('win', :'h', 2);
SELECT scope, period_start, period_end, used, held FROM credyt.limits_used WHERE customer = 'win' ORDER BY scope;
SELECT credits FROM credyt.refund('win', :'d');
SELECT scope, used FROM credyt.limits_used WHERE customer = 'win' ORDER BY scope;
-- A limit of one's own goes on with the window, and so does the one for each without it
SELECT cap FROM credyt.set_limit('win', 'user:a', 50, '5 hours');
SELECT credits FROM credyt.debit_credits('win', 'chat', 5, scopes => '{user:a}');
SELECT scope, period_start, cap, used FROM credyt.limits_used WHERE customer = 'win' ORDER BY scope;
SELECT cap FROM credyt.set_limit('win', 'user:a', NULL, '5 hours');
SELECT scope, period_start, cap, used FROM credyt.limits_used WHERE customer = 'win' ORDER BY scope;
-- Windows are known by their length
SELECT every FROM credyt.set_limit('win', 'user:a', 100, '48 hours');
SELECT every, cap FROM credyt.set_limit('win', 'user:a', 90, '2 days');
SELECT scope, every, cap FROM credyt.wallets w, credyt.limits(w.state) WHERE customer = 'win' ORDER BY scope, every;

-- Ever counts from when it is set; another cap does not start it again
SELECT credits FROM credyt.debit_credits('ever', 'chat', 7, scopes => '{key:k}');
SELECT id AS h FROM credyt.authorize('ever', 'chat', 2, scopes => '{key:k}') \gset
SELECT cap FROM credyt.set_limit('ever', 'key:*', 10, 'ever');
SELECT cap FROM credyt.set_limit('ever', 'key:*', 3, 'ever', counts => 'calls');
SELECT id AS d FROM credyt.debit_credits('ever', 'chat', 5, scopes => '{key:k}') \gset
SELECT credits FROM credyt.capture('ever', :'h', 2);
SELECT scope, period_start, period_end, cap, used, held, every, counts FROM credyt.limits_used WHERE customer = 'ever' ORDER BY counts;
UPDATE credyt.clock SET now = '2030-01-01 00:00+00';
SELECT * FROM refused($$SELECT credyt.debit_credits('ever', 'chat', 4, scopes => '{key:k}')$$) \gx
SELECT cap FROM credyt.set_limit('ever', 'key:*', 20, 'ever');
SELECT credits FROM credyt.debit_credits('ever', 'chat', 4, scopes => '{key:k}');
SELECT credits FROM credyt.refund('ever', :'d', 5);
SELECT scope, cap, used, counts FROM credyt.limits_used WHERE customer = 'ever' ORDER BY counts;
SELECT cap FROM credyt.set_limit('ever', 'key:k', 30, 'ever');
SELECT credits FROM credyt.debit_credits('ever', 'chat', 1, scopes => '{key:k}');
SELECT scope, period_start, cap, used, counts FROM credyt.limits_used WHERE customer = 'ever' ORDER BY counts;
SELECT * FROM refused($$SELECT credyt.debit_credits('ever', 'chat', 0, scopes => '{key:k}')$$) \gx
SELECT cap FROM credyt.set_limit('ever', 'key:k', NULL, 'ever');
SELECT scope, period_start, cap, used, counts FROM credyt.limits_used WHERE customer = 'ever' ORDER BY counts;
SELECT * FROM credyt.verify();

-- Calls: each debit and each authorization once, and never back
SELECT * FROM credyt.set_limit('calls', 'action:chat', 5, 'day', counts => 'calls');
SELECT * FROM credyt.set_limit('calls', 'action:chat', 5, 'day');
SELECT id AS d FROM credyt.debit_credits('calls', 'chat', 1) \gset
SELECT credits FROM credyt.refund('calls', :'d');
SELECT credits FROM credyt.debit_credits('calls', 'chat', 0);
SELECT id AS h FROM credyt.authorize('calls', 'chat', 1, idempotency_key => 'h') \gset
SELECT replayed FROM credyt.authorize('calls', 'chat', 1, idempotency_key => 'h');
SELECT credits FROM credyt.capture('calls', :'h', 1, keep_open => true);
SELECT credits FROM credyt.capture('calls', :'h', 1);
SELECT id AS h FROM credyt.authorize('calls', 'chat', 1) \gset
SELECT status FROM credyt.release('calls', :'h');
SELECT cap, used, held, counts FROM credyt.limits_used WHERE customer = 'calls' ORDER BY counts;
SELECT amount, bound FROM credyt.affordable('calls', 'chat');
SELECT credits FROM credyt.debit_credits('calls', 'chat', 1, idempotency_key => 'last');
SELECT * FROM refused($$SELECT credyt.debit_credits('calls', 'chat', 0)$$) \gx
SELECT replayed FROM credyt.debit_credits('calls', 'chat', 1, idempotency_key => 'last');
SELECT approved, reason FROM credyt.authorize('calls', 'chat', 1);
SELECT approved, reason, granted FROM credyt.authorize('calls', 'chat', 1, vary => 'quantity');
SELECT amount, bound FROM credyt.affordable('calls', 'chat');
SELECT credits, reason FROM credyt.debit_many('[{"customer": "calls", "action": "chat"}]', on_shortfall => 'skip');
-- Set in the middle of a period it counts the calls before
SELECT cap FROM credyt.set_limit('calls', 'action:*', 7, 'month', counts => 'calls');
SELECT scope, cap, used, counts FROM credyt.limits_used WHERE customer = 'calls' ORDER BY scope, counts;
SELECT * FROM credyt.verify();

-- Required: a forgotten scope is no way around a cap
SELECT required FROM credyt.set_limit('req', 'user:*', 10, 'year', required => true);
SELECT required FROM credyt.set_limit('req', 'user:vip', 50, 'year');
SELECT * FROM refused($$SELECT credyt.debit_credits('req', 'chat')$$) \gx
SELECT * FROM refused($$SELECT credyt.debit_credits('req', 'chat', 0, scopes => '{key:k}')$$) \gx
SELECT approved, reason, id FROM credyt.authorize('req', 'chat', scopes => '{team:x}');
SELECT amount, bound FROM credyt.affordable('req', 'chat');
SELECT amount, bound FROM credyt.affordable('req', 'chat', scopes => '{user:a}');
SELECT credits, reason FROM credyt.debit_many('[{"customer": "req", "action": "chat"}, {"customer": "req", "action": "chat", "scopes": ["user:a"]}]', on_shortfall => 'skip');
SELECT credits FROM credyt.debit_credits('req', 'chat', 20, scopes => '{user:vip}');
SELECT id AS h, approved FROM credyt.authorize('req', 'chat', 5, scopes => '{user:a}') \gset
SELECT credits FROM credyt.capture('req', :'h', 5);
SELECT scope, period_start, period_end, used FROM credyt.limits_used WHERE customer = 'req' ORDER BY scope;
SELECT required FROM credyt.set_limit('req', 'user:*', 10, 'year');
SELECT credits FROM credyt.debit_credits('req', 'chat');

-- A year begins at midnight in Berlin
UPDATE credyt.clock SET now = '2030-12-31 22:59:59+00';
SELECT period_start, period_end, used FROM credyt.limits_used WHERE customer = 'req' AND scope = 'user:vip';
UPDATE credyt.clock SET now = '2030-12-31 23:00+00';
SELECT period_start, period_end, used FROM credyt.limits_used WHERE customer = 'req' AND scope = 'user:vip';

-- What is told: the warning, and that the cap is reached, each once a period
UPDATE credyt.clock SET now = '2031-06-01 10:00+00';
DELETE FROM credyt.events;
SELECT warn_at FROM credyt.set_limit('told', 'user:*', 10, 'day', warn_at => 0.5);
SELECT credits FROM credyt.debit_credits('told', 'chat', 4, scopes => '{user:a}');
SELECT count(*) FROM told;
SELECT id AS d FROM credyt.debit_credits('told', 'chat', 1, scopes => '{user:a}') \gset
SELECT * FROM told;
SELECT credits FROM credyt.debit_credits('told', 'chat', 1, scopes => '{user:a}');
SELECT credits FROM credyt.refund('told', :'d');
SELECT credits FROM credyt.debit_credits('told', 'chat', 1, scopes => '{user:a}');
SELECT count(*) FROM told;
SELECT id AS h FROM credyt.authorize('told', 'chat', 4, scopes => '{user:a}') \gset
SELECT type, payload FROM told OFFSET 1;
SELECT credits FROM credyt.capture('told', :'h', 4);
SELECT approved, reason FROM credyt.authorize('told', 'chat', 4, scopes => '{user:a}');
SELECT count(*) FROM told;
-- Both at once; a refusal tells only that it is reached, and a debit that is refused nothing at all
SELECT credits FROM credyt.debit_credits('told', 'chat', 10, scopes => '{user:b}');
SELECT payload->>'scope' AS scope, type, payload->>'used' AS used FROM told OFFSET 2;
SELECT code FROM refused($$SELECT credyt.debit_credits('told', 'chat', 11, scopes => '{user:c}')$$);
SELECT approved, reason FROM credyt.authorize('told', 'chat', 11, scopes => '{user:c}', idempotency_key => 'c');
SELECT approved, reason FROM credyt.authorize('told', 'chat', 11, scopes => '{user:c}', idempotency_key => 'c');
SELECT payload->>'scope' AS scope, type, payload->>'used' AS used FROM told OFFSET 4;
SELECT scope, used FROM credyt.limits_used WHERE customer = 'told' ORDER BY scope;
-- The next day again
UPDATE credyt.clock SET now = '2031-06-02 10:00+00';
SELECT approved, reason FROM credyt.authorize('told', 'chat', 11, scopes => '{user:c}');
SELECT payload->>'scope' AS scope, type, payload->>'resets_at' AS resets_at FROM told OFFSET 5;
-- A higher cap is reached again; the same one is not
SELECT cap FROM credyt.set_limit('told', 'user:*', 10, 'day', warn_at => 0.5);
SELECT credits FROM credyt.debit_credits('told', 'chat', 10, scopes => '{user:c}');
SELECT cap FROM credyt.set_limit('told', 'user:*', 20, 'day', warn_at => 0.5);
SELECT credits FROM credyt.debit_credits('told', 'chat', 10, scopes => '{user:c}');
SELECT type, payload FROM told OFFSET 6;
-- A window that was not opened remembers what it told, and is opened by the first use
DELETE FROM credyt.events;
SELECT cap FROM credyt.set_limit('told', 'key:k', 3, '5 hours');
SELECT approved FROM credyt.authorize('told', 'chat', 4, scopes => '{key:k}');
UPDATE credyt.clock SET now = '2031-06-02 12:00+00';
SELECT approved FROM credyt.authorize('told', 'chat', 4, scopes => '{key:k}');
SELECT type, payload FROM told;
SELECT scope, period_start, used FROM credyt.limits_used WHERE customer = 'told' AND scope = 'key:k';
SELECT credits FROM credyt.debit_credits('told', 'chat', 3, scopes => '{key:k}');
SELECT scope, period_start, used FROM credyt.limits_used WHERE customer = 'told' AND scope = 'key:k';
SELECT type, payload FROM told OFFSET 1;
SELECT * FROM credyt.verify();

-- Many users: in the state and in rows alike
DELETE FROM credyt.events;
\o /dev/null
SELECT credyt.set_limit('each', 'user:*', 4, 'ever'), credyt.set_limit('each', 'user:*', 4, '5 hours'), credyt.set_limit('each', 'user:*', 2, 'day', counts => 'calls');
SELECT credyt.debit_credits('each', 'chat', 2, scopes => ARRAY['user:' || n]) FROM generate_series(1, 20) n;
\o
SELECT every, counts, count(*), min(used), max(used) FROM credyt.limits_used WHERE customer = 'each' GROUP BY 1, 2 ORDER BY 1;
SELECT every, counts, count(*), min(used), max(used) FROM credyt.limit_uses GROUP BY 1, 2 ORDER BY 1;
SELECT id AS h FROM credyt.authorize('each', 'chat', 2, scopes => '{user:20}') \gset
SELECT approved, reason FROM credyt.authorize('each', 'chat', 1, scopes => '{user:20}');
SELECT approved, reason FROM credyt.authorize('each', 'chat', 1, scopes => '{user:20}');
SELECT credits FROM credyt.capture('each', :'h', 2);
SELECT payload->>'scope' AS scope, type, payload->>'every' AS every, payload->>'counts' AS counts, payload->>'used' AS used, payload->>'held' AS held FROM told;
SELECT scope, every, counts, period_start, period_end, used, warned, reached FROM credyt.limit_uses WHERE scope = 'user:20' ORDER BY every;
SELECT cap FROM credyt.set_limit('each', 'user:20', 8, '5 hours');
SELECT scope, cap, used, held FROM credyt.limits_used WHERE customer = 'each' AND scope = 'user:20' ORDER BY every;
SELECT cap FROM credyt.set_limit('each', 'user:20', NULL, '5 hours');
SELECT scope, cap, used, held FROM credyt.limits_used WHERE customer = 'each' AND scope = 'user:20' ORDER BY every;
UPDATE credyt.clock SET now = '2031-06-02 17:00+00';
SELECT every, count(*), min(used), max(used) FROM credyt.limits_used WHERE customer = 'each' GROUP BY 1 ORDER BY 1;
SELECT * FROM credyt.verify();

-- An erased customer's users are in no limit, window or event
SELECT * FROM credyt.erase_customer('each', 'asked to') \gset
SELECT scope, every, used FROM credyt.limits_used WHERE customer = 'each' ORDER BY scope, every;
SELECT DISTINCT payload->>'scope' AS scope FROM told WHERE customer = 'each';
SELECT scope, every, counts, cap FROM credyt.wallets w, credyt.limits(w.state) WHERE customer = 'each' ORDER BY every;
SELECT * FROM credyt.verify();

-- Bad input
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, '1 hour')$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, '1 week')$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, '3 months')$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, '0 hours')$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, '367 days')$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, '5 parsecs')$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, counts => 'tokens')$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, counts => NULL)$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1.5, counts => 'calls')$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, warn_at => 0)$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, warn_at => 1.1)$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, warn_at => -1)$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, warn_at => 'NaN')$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, warn_at => 1e30)$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, warn_at => NULL)$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:a', 1, required => true)$$);
SELECT code, message, hint FROM refused($$SELECT credyt.set_limit('win', 'user:*', 1, required => NULL)$$);
SELECT cap FROM credyt.set_limit('{"customer": "win", "scope": "user:a", "cap": null, "every": "2 days"}'::jsonb);
SELECT scope, every FROM credyt.wallets w, credyt.limits(w.state) WHERE customer = 'win' ORDER BY scope;
SELECT w.state::text::credyt.wallet::bytea = w.state::bytea AS both_ways FROM credyt.wallets w;
