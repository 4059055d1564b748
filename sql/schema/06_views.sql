-- Views: one question each. They read as of the calling statement and never write.

CREATE VIEW credyt.current_wallets AS
SELECT w.customer, w.asset, w.status, w.overdraft_limit, t.at, s.state
FROM credyt.wallets w
-- OFFSET 0: computed once for a wallet, not once for every column that is made of it.
CROSS JOIN LATERAL (
    SELECT greatest((SELECT credyt.statement_time()), credyt.changed_at(w.state)) AS at
    OFFSET 0
) t
CROSS JOIN LATERAL (
    SELECT CASE WHEN w.next_due_at <= t.at THEN credyt.wallet_state_at(w.customer, w.asset, w.state, t.at)
                ELSE w.state END AS state
    OFFSET 0
) s;
COMMENT ON VIEW credyt.current_wallets IS 'Every wallet''s state now, pending entries included. The other views are made of it.';
COMMENT ON COLUMN credyt.current_wallets.customer IS 'Whose wallet.';
COMMENT ON COLUMN credyt.current_wallets.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.current_wallets.status IS 'active, frozen or closed.';
COMMENT ON COLUMN credyt.current_wallets.overdraft_limit IS 'Credits that may be owed.';
COMMENT ON COLUMN credyt.current_wallets.at IS 'The moment it is read at.';
COMMENT ON COLUMN credyt.current_wallets.state IS 'The packed state.';

CREATE VIEW credyt.pending_entries AS
SELECT w.customer, w.asset, d.kind, d.occurred_at, d.accounted_at, d.action, d.credits, d.balance, d.revenue, d.costs,
       d.allocations, d.refers_to, d.reason
FROM credyt.wallets w
CROSS JOIN (SELECT credyt.statement_time() AS now OFFSET 0) n
CROSS JOIN LATERAL credyt.pending_movements(w.customer, w.asset, w.state, n.now) AS d
-- A wallet that last changed later, by a clock that was set back, has nothing due before then.
WHERE w.next_due_at <= n.now;
COMMENT ON VIEW credyt.pending_entries IS 'What is due in every wallet and no call has booked yet: the rows that the ledger will have. Every report includes it.';
COMMENT ON COLUMN credyt.pending_entries.customer IS 'Whose wallet.';
COMMENT ON COLUMN credyt.pending_entries.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.pending_entries.kind IS 'grant, expiry, revocation, settlement or transfer.';
COMMENT ON COLUMN credyt.pending_entries.occurred_at IS 'When it fell due.';
COMMENT ON COLUMN credyt.pending_entries.accounted_at IS 'When it counts in the books.';
COMMENT ON COLUMN credyt.pending_entries.action IS 'The action whose debt was settled.';
COMMENT ON COLUMN credyt.pending_entries.credits IS 'Credits that came (positive) or went (negative).';
COMMENT ON COLUMN credyt.pending_entries.balance IS 'Sum of credits of the wallet''s rows up to this one.';
COMMENT ON COLUMN credyt.pending_entries.revenue IS 'Money earned, in the asset''s currency.';
COMMENT ON COLUMN credyt.pending_entries.costs IS 'Of a settlement, the weights of the vendors'' models behind the debit.';
COMMENT ON COLUMN credyt.pending_entries.allocations IS 'Grant by grant, as in the ledger.';
COMMENT ON COLUMN credyt.pending_entries.refers_to IS 'The grant that began or ended, or the debit that was settled.';
COMMENT ON COLUMN credyt.pending_entries.reason IS 'Of a renewal, the plan.';

CREATE VIEW credyt.wallet_balances AS
SELECT w.customer, w.asset,
       credyt.settled(w.state, w.at) AS settled,
       credyt.held(w.state) AS held,
       credyt.available(w.state, w.overdraft_limit, w.at) AS available,
       credyt.owed(w.state) AS owed,
       w.overdraft_limit,
       credyt.next_expiry(w.state, w.at) AS next_expiry,
       w.status
FROM credyt.current_wallets w;
COMMENT ON VIEW credyt.wallet_balances IS 'What does each customer have? Credits, as credyt.balance says.';
COMMENT ON COLUMN credyt.wallet_balances.customer IS 'Whose wallet.';
COMMENT ON COLUMN credyt.wallet_balances.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.wallet_balances.settled IS 'Credits in live or held grants, less what is owed.';
COMMENT ON COLUMN credyt.wallet_balances.held IS 'Credits that open authorizations pin.';
COMMENT ON COLUMN credyt.wallet_balances.available IS 'Credits that can be spent, overdraft included.';
COMMENT ON COLUMN credyt.wallet_balances.owed IS 'Credits spent beyond the grants and not paid back.';
COMMENT ON COLUMN credyt.wallet_balances.overdraft_limit IS 'Credits that may be owed.';
COMMENT ON COLUMN credyt.wallet_balances.next_expiry IS 'When the first live grant ends.';
COMMENT ON COLUMN credyt.wallet_balances.status IS 'active, frozen or closed.';

CREATE VIEW credyt.grant_balances AS
SELECT g.customer, g.id, g.asset, g.kind, g.priority, g.credits,
       coalesce(o.remaining, 0) AS remaining,
       coalesce(o.held, 0) AS held,
       g.paid,
       coalesce(o.deferred, 0.00) AS deferred,
       g.effective_at, g.expires_at, g.applies_to, g.origin,
       false AS replayed
FROM (
    SELECT i.customer, i.id, i.asset, i.kind, i.priority, i.credits, i.paid, i.effective_at,
           coalesce(e.ended_at, i.expires_at) AS expires_at, i.applies_to, i.origin
    FROM credyt.grants i
    LEFT JOIN credyt.ended_grants e ON e.customer = i.customer AND e.grant_id = i.id
    UNION ALL
    SELECT w.customer, d.id, w.asset, d.kind, d.priority, d.credits, d.paid, d.effective_at, d.expires_at,
           d.applies_to, d.origin
    FROM credyt.wallets w
    CROSS JOIN LATERAL credyt.pending_grants(w.customer, w.asset, w.state, (SELECT credyt.statement_time())) AS d
    WHERE w.next_due_at <= (SELECT credyt.statement_time())
) g
LEFT JOIN (
    SELECT w.customer, open.id, open.remaining, open.held, open.deferred
    FROM credyt.current_wallets w CROSS JOIN LATERAL credyt.grants(w.state) AS open
) o ON o.customer = g.customer AND o.id = g.id;
COMMENT ON VIEW credyt.grant_balances IS 'What is left of every grant? Future, spent and ended ones too.';
COMMENT ON COLUMN credyt.grant_balances.customer IS 'Who got it.';
COMMENT ON COLUMN credyt.grant_balances.id IS 'The grant.';
COMMENT ON COLUMN credyt.grant_balances.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.grant_balances.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.grant_balances.priority IS 'Lower burns first.';
COMMENT ON COLUMN credyt.grant_balances.credits IS 'Credits issued.';
COMMENT ON COLUMN credyt.grant_balances.remaining IS 'Credits left, held ones included.';
COMMENT ON COLUMN credyt.grant_balances.held IS 'Credits that open authorizations pin.';
COMMENT ON COLUMN credyt.grant_balances.paid IS 'Money paid for it, in the asset''s currency.';
COMMENT ON COLUMN credyt.grant_balances.deferred IS 'The part of it that is not earned yet.';
COMMENT ON COLUMN credyt.grant_balances.effective_at IS 'Live from here on ...';
COMMENT ON COLUMN credyt.grant_balances.expires_at IS '... and before this moment; NULL: it never ends.';
COMMENT ON COLUMN credyt.grant_balances.applies_to IS 'Patterns of the actions it may pay for; NULL: all.';
COMMENT ON COLUMN credyt.grant_balances.origin IS 'The grant it came from.';
COMMENT ON COLUMN credyt.grant_balances.replayed IS 'Always false: a view answers no call.';

CREATE VIEW credyt.spend_order AS
SELECT w.customer, w.asset,
       row_number() OVER (PARTITION BY w.customer, w.asset ORDER BY o.place)::int AS position,
       o.id AS grant_id, o.kind, o.remaining, o.held, o.expires_at, o.applies_to
FROM credyt.current_wallets w
CROSS JOIN LATERAL credyt.grants(w.state) WITH ORDINALITY AS
    o (id, customer, asset, kind, priority, credits, remaining, held, paid, deferred, effective_at,
       expires_at, applies_to, origin, replayed, place)
WHERE w.status = 'active' AND o.remaining > o.held
  AND o.effective_at <= w.at AND (o.expires_at IS NULL OR o.expires_at > w.at);
COMMENT ON VIEW credyt.spend_order IS 'Which grant burns next? Those with applies_to pay for matching actions only.';
COMMENT ON COLUMN credyt.spend_order.customer IS 'Whose wallet.';
COMMENT ON COLUMN credyt.spend_order.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.spend_order.position IS '1 burns first.';
COMMENT ON COLUMN credyt.spend_order.grant_id IS 'The grant.';
COMMENT ON COLUMN credyt.spend_order.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.spend_order.remaining IS 'Credits left, held ones included.';
COMMENT ON COLUMN credyt.spend_order.held IS 'Credits that open authorizations pin.';
COMMENT ON COLUMN credyt.spend_order.expires_at IS 'When it ends; NULL: never.';
COMMENT ON COLUMN credyt.spend_order.applies_to IS 'Patterns of the actions it may pay for; NULL: all.';

CREATE VIEW credyt.open_authorizations AS
SELECT h.customer, h.asset, h.id, h.action, h.credits, h.captured, h.expires_at
FROM credyt.authorizations h
CROSS JOIN (SELECT credyt.statement_time() AS now OFFSET 0) n
JOIN credyt.wallets w ON w.customer = h.customer AND w.asset = h.asset
WHERE h.status = 'open' AND h.expires_at > n.now AND h.expires_at > credyt.changed_at(w.state);
COMMENT ON VIEW credyt.open_authorizations IS 'What is held right now?';
COMMENT ON COLUMN credyt.open_authorizations.customer IS 'Whose credits are held.';
COMMENT ON COLUMN credyt.open_authorizations.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.open_authorizations.id IS 'The authorization.';
COMMENT ON COLUMN credyt.open_authorizations.action IS 'What for.';
COMMENT ON COLUMN credyt.open_authorizations.credits IS 'Credits authorized.';
COMMENT ON COLUMN credyt.open_authorizations.captured IS 'Credits captured so far.';
COMMENT ON COLUMN credyt.open_authorizations.expires_at IS 'When the hold ends.';

-- A page in the order of id is read by the primary key and costs what the page costs; id is the order of seq.
-- An index for the order of seq itself would add 90 bytes of WAL to the 890 of a debit, and 5 percent of its time.
CREATE VIEW credyt.statement AS
SELECT l.customer, l.asset, l.seq, l.id, l.occurred_at, l.created_at, l.kind, l.action, l.quantity, l.credits, l.balance,
       l.revenue, l.cost, l.reason, l.scopes,
       CASE WHEN l.kind IN ('grant', 'expiry', 'revocation') THEN l.refers_to
            WHEN jsonb_array_length(l.allocations) = 1 THEN (l.allocations->0->>'grant')::uuid END AS grant_id
FROM credyt.ledger l
UNION ALL
SELECT p.customer, p.asset, NULL::bigint, NULL::uuid, p.occurred_at, NULL::timestamptz, p.kind, p.action, NULL::numeric,
       p.credits, p.balance, p.revenue, NULL::numeric, p.reason, NULL::text[], (p.allocations->0->>'grant')::uuid
FROM credyt.pending_entries p;
COMMENT ON VIEW credyt.statement IS 'What happened in a wallet? Page by id, which has the order of seq; what is pending has neither and is last.';
COMMENT ON COLUMN credyt.statement.customer IS 'Whose wallet.';
COMMENT ON COLUMN credyt.statement.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.statement.seq IS 'The number of the row in its wallet; NULL: not booked yet.';
COMMENT ON COLUMN credyt.statement.id IS 'The ledger row; NULL: not booked yet.';
COMMENT ON COLUMN credyt.statement.occurred_at IS 'When it happened: of an expiry or a renewal when it fell due, however late it was booked.';
COMMENT ON COLUMN credyt.statement.created_at IS 'When it was booked; NULL: not yet.';
COMMENT ON COLUMN credyt.statement.kind IS 'grant, debit, refund, expiry, revocation, settlement or transfer.';
COMMENT ON COLUMN credyt.statement.action IS 'What the customer did.';
COMMENT ON COLUMN credyt.statement.quantity IS 'How much of it.';
COMMENT ON COLUMN credyt.statement.credits IS 'Credits that came (positive) or went (negative).';
COMMENT ON COLUMN credyt.statement.balance IS 'Credits after this row, future grants included, less what is owed.';
COMMENT ON COLUMN credyt.statement.revenue IS 'Money earned (positive) or given back (negative).';
COMMENT ON COLUMN credyt.statement.cost IS 'Vendor cost; NULL: not known.';
COMMENT ON COLUMN credyt.statement.reason IS 'Why, in a word or a sentence; of a renewal the plan.';
COMMENT ON COLUMN credyt.statement.scopes IS 'Spend limits it counts under.';
COMMENT ON COLUMN credyt.statement.grant_id IS 'The grant that came, went or paid; NULL: several, or the overdraft.';

CREATE VIEW credyt.price_book AS
SELECT p.action, p.asset, p.customer, p.price_list, p.version, p.price, p.effective_at,
       lead(p.effective_at) OVER (PARTITION BY p.asset, p.action, p.customer, p.price_list
                                  ORDER BY p.effective_at, p.version) AS superseded_at
FROM credyt.prices p;
COMMENT ON VIEW credyt.price_book IS 'What does an action cost, now, before and later?';
COMMENT ON COLUMN credyt.price_book.action IS 'What the customer does.';
COMMENT ON COLUMN credyt.price_book.asset IS 'The asset it is charged in.';
COMMENT ON COLUMN credyt.price_book.customer IS 'Whose own price it is; NULL: a list''s, or for all.';
COMMENT ON COLUMN credyt.price_book.price_list IS 'The price list that it belongs to; NULL: a customer''s own, or for all.';
COMMENT ON COLUMN credyt.price_book.version IS 'Counts up from 1 within asset and action.';
COMMENT ON COLUMN credyt.price_book.price IS 'The rule, in credits; JSON null: withdrawn.';
COMMENT ON COLUMN credyt.price_book.effective_at IS 'From when it counts ...';
COMMENT ON COLUMN credyt.price_book.superseded_at IS '... and until when; NULL: until further notice.';

CREATE VIEW credyt.expiring_grants AS
SELECT w.customer, w.asset, o.id AS grant_id, o.kind, o.remaining, o.expires_at
FROM credyt.current_wallets w
CROSS JOIN LATERAL credyt.grants(w.state) AS o
WHERE o.expires_at > w.at AND o.effective_at <= w.at;
COMMENT ON VIEW credyt.expiring_grants IS 'Which live credits will end, and when? Ask with ORDER BY expires_at.';
COMMENT ON COLUMN credyt.expiring_grants.customer IS 'Whose wallet.';
COMMENT ON COLUMN credyt.expiring_grants.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.expiring_grants.grant_id IS 'The grant.';
COMMENT ON COLUMN credyt.expiring_grants.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.expiring_grants.remaining IS 'Credits left, held ones included.';
COMMENT ON COLUMN credyt.expiring_grants.expires_at IS 'When it ends.';

CREATE VIEW credyt.deferred_revenue AS
SELECT w.asset, o.kind, sum(o.remaining) AS credits, sum(o.deferred) AS revenue
FROM credyt.current_wallets w
CROSS JOIN LATERAL credyt.grants(w.state) AS o
GROUP BY w.asset, o.kind;
COMMENT ON VIEW credyt.deferred_revenue IS 'What was paid for credits that are not spent yet?';
COMMENT ON COLUMN credyt.deferred_revenue.asset IS 'In which asset; money is in its currency.';
COMMENT ON COLUMN credyt.deferred_revenue.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.deferred_revenue.credits IS 'Credits left in open grants, future ones too.';
COMMENT ON COLUMN credyt.deferred_revenue.revenue IS 'Money paid for them and not earned.';

CREATE VIEW credyt.breakage AS
SELECT e.asset, a.part->>'kind' AS kind,
       sum((a.part->>'credits')::numeric) AS credits,
       sum((a.part->>'deferred')::numeric) AS revenue
FROM (
    SELECT l.asset, l.allocations FROM credyt.ledger l WHERE l.kind = 'expiry'
    UNION ALL
    SELECT p.asset, p.allocations FROM credyt.pending_entries p WHERE p.kind = 'expiry'
) e
CROSS JOIN LATERAL jsonb_array_elements(e.allocations) AS a (part)
GROUP BY e.asset, a.part->>'kind';
COMMENT ON VIEW credyt.breakage IS 'What was paid for credits that ended unspent? All time, also where no call has booked the end yet.';
COMMENT ON COLUMN credyt.breakage.asset IS 'In which asset; money is in its currency.';
COMMENT ON COLUMN credyt.breakage.kind IS 'included, promotional or purchased.';
COMMENT ON COLUMN credyt.breakage.credits IS 'Credits that ended unspent.';
COMMENT ON COLUMN credyt.breakage.revenue IS 'Money paid for them.';
