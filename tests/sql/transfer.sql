-- Transfers: unheld credits in burn order, on the same terms, with what was paid. Freezing and unfreezing.
SET timezone = 'UTC'; SET datestyle = 'ISO';
\pset footer off
\pset null '-'
INSERT INTO credyt.clock VALUES ('2026-01-01 00:00+00');
\o /dev/null
SELECT credyt.create_asset('credits');
SELECT credyt.create_asset('tokens', 0);
SELECT credyt.set_price('image.standard', '1');
SELECT credyt.grant_credits('acme', 5, kind => 'promotional', applies_to => '{image.*}', expires_at => '2026-02-01', priority => 10);
SELECT credyt.grant_credits('acme', 10, kind => 'included', paid => 1, expires_at => '2026-03-01');
SELECT credyt.grant_credits('acme', 30, paid => 10);
SELECT credyt.grant_credits('acme', 50, paid => 5, effective_at => '2026-06-01');
SELECT id AS h FROM credyt.authorize('acme', 'image.standard', 2) \gset
\o

-- 3 of the gift, 10 included, 7 bought; 2 of the gift stay held
SELECT customer, to_customer, asset, credits, available, reason, replayed, created_at
FROM credyt.transfer('acme', 'team', 20, reason => 'budget', idempotency_key => 't');
SELECT credits, available, replayed FROM credyt.transfer('acme', 'team', 20.00, reason => 'not compared', idempotency_key => 't');
SELECT position, kind, remaining, held, expires_at, applies_to FROM credyt.spend_order WHERE customer = 'acme' ORDER BY position;
SELECT position, kind, remaining, held, expires_at, applies_to FROM credyt.spend_order WHERE customer = 'team' ORDER BY position;
SELECT t.kind, t.priority, t.credits, t.paid, t.deferred, t.effective_at, a.kind = t.kind AS same_kind
FROM credyt.grant_balances t JOIN credyt.grants a ON a.customer = 'acme' AND a.id = t.origin
WHERE t.customer = 'team' ORDER BY t.id;
SELECT l.customer, l.kind, l.credits, l.revenue, l.reason, l.idempotency_key AS key, a.kind, a.credits, a.deferred, a.to_customer, a.from_customer
FROM credyt.ledger l, jsonb_to_recordset(l.allocations) AS a (kind text, credits text, deferred text, to_customer text, from_customer text)
WHERE l.kind = 'transfer' ORDER BY l.customer, a.kind;
SELECT r.refers_to = s.id AS refers_to_sent FROM credyt.ledger r JOIN credyt.ledger s ON s.customer = 'acme' AND s.kind = 'transfer'
WHERE r.customer = 'team';
SELECT credits, revenue FROM credyt.debit_credits('team', 'image.standard', 20);
SELECT * FROM credyt.verify();

-- The key is the sender's
SELECT * FROM refused($$SELECT credyt.transfer('acme', 'team', 21, idempotency_key => 't')$$) \gx
SELECT * FROM refused($$SELECT credyt.transfer('acme', 'other', 20, idempotency_key => 't')$$) \gx
SELECT credits, replayed FROM credyt.grant_credits('team', 1, idempotency_key => 't');

-- What is held, owed or future is not there to give
SELECT available FROM credyt.balance('acme');
\o /dev/null
SELECT credyt.open_wallet('acme', overdraft_limit => 100);
\o
SELECT * FROM refused($$SELECT credyt.transfer('acme', 'team', 23.5)$$) \gx
SELECT credits, available FROM credyt.transfer('acme', 'team', 23);
SELECT * FROM refused($$SELECT credyt.transfer('acme', 'team', 1)$$) \gx
SELECT settled, held, available FROM credyt.balance('acme');
SELECT credits FROM credyt.capture('acme', :'h');

-- Refusals
SELECT * FROM refused($$SELECT credyt.transfer('acme', 'acme', 1)$$) \gx
SELECT * FROM refused($$SELECT credyt.transfer('nobody', 'acme', 1)$$) \gx
SELECT * FROM refused($$SELECT credyt.transfer('zoe', 'acme', 1)$$) \gx
SELECT * FROM refused($$SELECT credyt.transfer('acme', 'team', 1, 'gold')$$) \gx
SELECT * FROM refused($$SELECT credyt.transfer('acme', 'team', 0)$$) \gx
SELECT * FROM refused($$SELECT credyt.transfer('acme', 'team', -1)$$) \gx
SELECT * FROM refused($$SELECT credyt.transfer('acme', 'team', 'NaN')$$) \gx
SELECT * FROM refused($$SELECT credyt.transfer('acme', 'team', 0.001)$$) \gx
SELECT * FROM refused($$SELECT credyt.transfer('acme', 'team', 1e15)$$) \gx
SELECT * FROM refused($$SELECT credyt.transfer('acme', NULL, 1)$$) \gx
SELECT count(*) FROM credyt.wallets WHERE customer IN ('nobody', 'zoe');

-- Debts of the receiver are paid first, the oldest first, by the grants that may pay them in burn order
\o /dev/null
SELECT credyt.open_wallet('late', overdraft_limit => 10);
SELECT credyt.debit_credits('late', 'image.standard', 4);
SELECT credyt.debit_credits('late', 'image.standard', 5);
SELECT credyt.grant_credits('rich', 2, kind => 'promotional', applies_to => '{image.*}', expires_at => '2026-02-01');
SELECT credyt.grant_credits('rich', 3, paid => 3);
SELECT credyt.grant_credits('rich', 40, paid => 80);
\o
SELECT credits FROM credyt.transfer('rich', 'late', 12);
SELECT settled, owed, available FROM credyt.balance('late');
SELECT kind, credits, revenue FROM credyt.ledger WHERE customer = 'late' ORDER BY seq;
SELECT kind, credits, remaining, paid, deferred FROM credyt.grant_balances WHERE customer = 'late' ORDER BY id;
SELECT * FROM credyt.verify();

-- A third of a cent is carried along to the last digit
\o /dev/null
SELECT credyt.grant_credits('thirds', 3, paid => 0.01);
SELECT credyt.transfer('thirds', 'a', 1), credyt.transfer('thirds', 'b', 1), credyt.transfer('thirds', 'a', 1);
SELECT credyt.transfer('a', 'thirds', 2), credyt.transfer('b', 'thirds', 1);
\o
SELECT customer, kind, credits, paid, deferred FROM credyt.grant_balances WHERE customer IN ('thirds', 'a', 'b') ORDER BY id;
SELECT sum(revenue) FROM credyt.deferred_revenue;
SELECT credits, revenue FROM credyt.debit_credits('thirds', 'image.standard', 3);

-- A transfer can end with its grant, and a refund goes back to who spent
\o /dev/null
SELECT credyt.grant_credits('rich', 2, kind => 'promotional', expires_at => '2026-02-01');
SELECT credyt.transfer('rich', 'late', 2);
\o
SELECT id AS d FROM credyt.debit_credits('late', 'image.standard', 1) \gset
UPDATE credyt.clock SET now = '2026-02-02 00:00+00';
SELECT credits, available FROM credyt.refund('late', :'d');
SELECT kind, credits FROM credyt.ledger WHERE customer = 'late' ORDER BY seq DESC LIMIT 3;
SELECT * FROM credyt.verify();
SELECT * FROM credyt.verify('late');

-- Frozen: nothing new is spent, what began goes on
\o /dev/null
SELECT credyt.grant_credits('iced', 10, paid => 10);
SELECT id AS d FROM credyt.debit_credits('iced', 'image.standard', 1) \gset
SELECT id AS h FROM credyt.authorize('iced', 'image.standard', 1) \gset
SELECT id AS r FROM credyt.authorize('iced', 'image.standard', 1) \gset
\o
SELECT * FROM credyt.freeze_wallet('iced', reason => 'chargeback');
SELECT status FROM credyt.freeze_wallet('iced', reason => 'still');
SELECT status_reason FROM credyt.wallets WHERE customer = 'iced';
SELECT * FROM refused($$SELECT credyt.debit_credits('iced', 'image.standard')$$) \gx
SELECT * FROM refused($$SELECT credyt.transfer('iced', 'acme', 1)$$) \gx
SELECT id, approved, reason, available FROM credyt.authorize('iced', 'image.standard');
SELECT credits FROM credyt.capture('iced', :'h');
SELECT status FROM credyt.release('iced', :'r');
SELECT credits FROM credyt.refund('iced', :'d');
SELECT credits FROM credyt.grant_credits('iced', 1);
SELECT credits FROM credyt.transfer('rich', 'iced', 1);
SELECT status, available FROM credyt.wallet_balances WHERE customer = 'iced';
SELECT status FROM credyt.unfreeze_wallet('iced');
SELECT status FROM credyt.unfreeze_wallet('iced');
SELECT status_reason FROM credyt.wallets WHERE customer = 'iced';
SELECT credits FROM credyt.debit_credits('iced', 'image.standard');
SELECT * FROM refused($$SELECT credyt.freeze_wallet('nobody')$$) \gx
SELECT * FROM refused($$SELECT credyt.unfreeze_wallet('iced', 'gold')$$) \gx
SELECT * FROM refused($$SELECT credyt.freeze_wallet(NULL)$$) \gx
SELECT * FROM credyt.verify();
