-- What is in the books after each program, whatever the client.
SELECT customer, kind, action, credits, round(revenue, 4) AS revenue, cost
FROM credyt.ledger ORDER BY customer, created_at, id;
SELECT customer, settled, held, available FROM credyt.wallet_balances ORDER BY customer;
SELECT count(*) AS jobs FROM jobs;
SELECT count(*) AS texts FROM credyt.ledger AS l WHERE l::text LIKE '%lighthouse at dusk%';
SELECT count(*) AS open_holds FROM credyt.open_authorizations;
SELECT count(*) AS pending_events FROM credyt.events_pending;
SELECT * FROM credyt.verify();
