-- Price lists, and customers who are kept on the prices of an earlier moment.
SET timezone = 'UTC';
SELECT asset FROM credyt.create_asset('credits');
INSERT INTO credyt.clock VALUES ('2026-01-01 12:00+00');
SELECT version, customer, price_list FROM credyt.set_price('image', '4');
SELECT version, customer, price_list FROM credyt.set_price('image', '3', price_list => 'enterprise');
SELECT version, customer, price_list FROM credyt.set_price('image', '1', customer => 'own');
SELECT * FROM credyt.set_price_list('own', 'enterprise');
SELECT * FROM credyt.set_price_list('ent', 'enterprise');
SELECT * FROM credyt.set_price_list('empty', 'no such list');
SELECT customer, credits FROM credyt.grant_many(
    '[{"customer": "own", "credits": 1000}, {"customer": "ent", "credits": 1000}, {"customer": "empty", "credits": 1000},
      {"customer": "all", "credits": 1000}, {"customer": "old", "credits": 1000}]');

-- A customer's own price, before that of his list, before that for all
SELECT c.customer, q.credits, q.price_version, d.credits AS debited, h.credits AS held
FROM unnest('{own,ent,empty,all}'::text[]) AS c (customer),
     credyt.quote('image', customer => c.customer) AS q,
     credyt.debit_credits(c.customer, 'image') AS d,
     credyt.authorize(c.customer, 'image', 2, ttl_seconds => 100000000) AS h;
SELECT customer, credits FROM credyt.debit_many('[{"customer": "ent", "action": "image"}, {"customer": "all", "action": "image"}]');
-- An action that the list does not price is that for all
SELECT version FROM credyt.set_price('video', '9');
SELECT credits FROM credyt.quote('video', customer => 'ent');

-- A price goes up: for all, and on the list. Who is kept stays where he was.
UPDATE credyt.clock SET now = '2026-02-01 12:00+00';
SELECT version FROM credyt.set_price('image', '8');
SELECT version FROM credyt.set_price('image', '6', price_list => 'enterprise');
SELECT credits, price_version FROM credyt.quote('image', customer => 'old');
SELECT * FROM credyt.set_price_list('old', as_of => '2026-01-15');
SELECT version, price_list, as_of FROM credyt.set_price_list('ent', 'enterprise', as_of => '2026-01-15');
-- The same again is no new version
SELECT version FROM credyt.set_price_list('ent', 'enterprise', as_of => '2026-01-15');
SELECT c.customer, q.credits, q.price_version FROM unnest('{own,ent,empty,all,old}'::text[]) AS c (customer), credyt.quote('image', customer => c.customer) AS q;
SELECT credits FROM credyt.debit_credits('old', 'image');
SELECT credits, price_version FROM credyt.ledger WHERE customer = 'old' AND kind = 'debit';
-- What was authorized before is captured at the price of its time
SELECT a.customer, c.credits FROM credyt.open_authorizations a, credyt.capture(a.customer, a.id, 3) AS c ORDER BY a.customer;
-- Late usage finds the assignment of its moment: before it, the price for all of that moment
UPDATE credyt.clock SET now = '2026-03-01 12:00+00';
SELECT version FROM credyt.set_price_list('all', 'enterprise');
SELECT credits FROM credyt.debit_credits('all', 'image', occurred_at => '2026-01-20');
SELECT credits FROM credyt.debit_credits('all', 'image', occurred_at => '2026-02-20');
SELECT credits FROM credyt.debit_credits('all', 'image', occurred_at => '2026-03-01 12:00+00');
SELECT credits FROM credyt.quote('image', customer => 'all', at => '2026-02-20');
-- Back to the prices for all, and of now
SELECT version, price_list, as_of FROM credyt.set_price_list('ent');
SELECT credits FROM credyt.quote('image', customer => 'ent');
-- An own price that is set later counts for who is kept, too
SELECT version FROM credyt.set_price('image', '2', customer => 'old');
SELECT credits FROM credyt.quote('image', customer => 'old');
SELECT version FROM credyt.set_price('image', 'null', customer => 'old');
SELECT credits FROM credyt.quote('image', customer => 'old');
-- An action that is newer than the moment one is kept at has its first price
SELECT version FROM credyt.set_price('song', '5');
UPDATE credyt.clock SET now = '2026-04-01 12:00+00';
SELECT version FROM credyt.set_price('song', '7');
SELECT credits, price_version FROM credyt.quote('song', customer => 'old');
SELECT credits, price_version FROM credyt.quote('song', customer => 'all');
-- A list's price is withdrawn
SELECT version FROM credyt.set_price('image', 'null', price_list => 'enterprise');
SELECT credits, price_version FROM credyt.quote('image', customer => 'all');

SELECT action, customer, price_list, version, price, effective_at, superseded_at FROM credyt.price_book WHERE action = 'image' ORDER BY version;
-- A price for all changes nothing for those who have another: own (1, 2, 3), ent's list (3), old (kept)
SELECT debits, credits_before, credits_after, customers, customers_pay_more FROM credyt.simulate_price('image', '10');
SELECT customer, sum(-credits) AS credits FROM credyt.ledger WHERE kind = 'debit' GROUP BY customer ORDER BY customer;

-- Bad input
SELECT * FROM credyt.set_price('image', '1', customer => 'own', price_list => 'enterprise');
SELECT * FROM credyt.set_price('image', '1', price_list => '');
SELECT * FROM credyt.set_price_list('own', '');
SELECT * FROM credyt.set_price_list('own', as_of => '2026-04-01 12:01+00');
SELECT * FROM credyt.set_price_list('own', asset => 'gems');
SELECT * FROM credyt.set_price_list(NULL);
UPDATE credyt.customer_price_lists SET price_list = 'x';
SELECT version, price_list FROM credyt.set_price_list('{"customer": 17, "price_list": "enterprise"}'::jsonb);
SELECT * FROM credyt.verify();
