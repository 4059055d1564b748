-- Operation: upkeep, and what an operator should know.

CREATE TYPE credyt.maintenance AS (
    booked     bigint,
    rolled_up  bigint,
    pruned     bigint
);
COMMENT ON TYPE credyt.maintenance IS 'What a call of credyt.maintain did.';
COMMENT ON COLUMN credyt.maintenance.booked IS 'Wallets in which it booked pending entries: renewals, ends of grants, ends of holds.';
COMMENT ON COLUMN credyt.maintenance.rolled_up IS 'Ledger rows and recorded costs taken into the rollups; 0: there were none, or another session does it.';
COMMENT ON COLUMN credyt.maintenance.pruned IS 'Events acknowledged before, and counts under spend limits of periods that are over, which it deleted.';

CREATE FUNCTION credyt.maintain(batch int DEFAULT 1000) RETURNS credyt.maintenance
    AS 'MODULE_PATHNAME', 'credyt_maintain' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET work_mem = '64MB';
COMMENT ON FUNCTION credyt.maintain(int) IS
    'Books what is due, keeps reports fast, deletes old events; optional: results are the same without it.';

CREATE FUNCTION credyt.direct_access_counts()
RETURNS TABLE (operation text, reason text, calls bigint)
    AS 'MODULE_PATHNAME', 'credyt_direct_access_counts' LANGUAGE c VOLATILE;
COMMENT ON FUNCTION credyt.direct_access_counts() IS
    'How often this session reached rows of wallets, ledger and authorizations directly, and why it used SQL otherwise.';

-- Runs with the caller's rights: distributing tables is the owner's. The way back is a dump: docs/scale.md.
CREATE FUNCTION credyt.distribute(shards int DEFAULT 32) RETURNS int
    AS 'MODULE_PATHNAME', 'credyt_distribute' LANGUAGE c VOLATILE
    SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION credyt.distribute(int) IS
    'Distributes the tables over the nodes of a Citus cluster, by customer; returns the number of tables.';

CREATE FUNCTION credyt.keep_call_here(internal) RETURNS internal
    AS 'MODULE_PATHNAME', 'credyt_keep_call_here' LANGUAGE c STRICT;
COMMENT ON FUNCTION credyt.keep_call_here(internal) IS
    'Planner support: keeps Citus from delegating a call about no customer, or of a role that cannot log in.';

-- With the rights of the extension's owner: else pg_stat_activity hides other users' sessions. Texts of
-- queries are not shown.
CREATE FUNCTION credyt.old_snapshots()
RETURNS TABLE (holder text, since timestamptz, transactions bigint, hint text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('%s %s of %s (%s)', a.backend_type, a.pid, coalesce(a.usename, 'the server'),
                  concat_ws(', ', nullif(a.application_name, ''), a.state)),
           a.xact_start, greatest(age(a.backend_xmin), age(a.backend_xid))::bigint,
           format('SELECT pg_terminate_backend(%s);', a.pid)
    FROM pg_stat_activity a
    WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) AND a.pid <> pg_backend_pid()
      AND (a.datname = current_database() OR a.backend_type = 'walsender')
    UNION ALL
    SELECT format('prepared transaction %s of %s', quote_literal(p.gid), p.owner),
           p.prepared, age(p.transaction)::bigint,
           format('ROLLBACK PREPARED %s;', quote_literal(p.gid))
    FROM pg_prepared_xacts p
    WHERE p.database = current_database()
    UNION ALL
    SELECT format('replication slot %s%s', s.slot_name, CASE WHEN s.active THEN '' ELSE ' (not active)' END),
           NULL, age(s.xmin)::bigint,
           format('SELECT pg_drop_replication_slot(%L);', s.slot_name)
    FROM pg_replication_slots s
    WHERE s.xmin IS NOT NULL
$$;
COMMENT ON FUNCTION credyt.old_snapshots() IS
    'Sessions, prepared transactions and replication slots that keep old row versions from being removed.';

-- All rows that were booked before this moment are in the rollups; -infinity: nobody knows of one.
CREATE FUNCTION credyt.rolled_up_to() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT timestamptz 'epoch' + ('x0000' || left(replace(p.id::text, '-', ''), 12))::bit(64)::bigint * interval '1 millisecond'
                     FROM credyt.rollup_progress p WHERE p.customer = '' ORDER BY p.asset DESC LIMIT 1),
                    '-infinity')
$$;
COMMENT ON FUNCTION credyt.rolled_up_to() IS 'Every row that was booked before this moment is in the rollups; -infinity: none is known to be.';

-- Where the rollups of these days have no usage without a cost, only rows that they lack are read. A function, so
-- that the planner asks the index by time however few rows it expects to leave out.
CREATE FUNCTION credyt.uncosted_since(since timestamptz)
RETURNS TABLE (vendor text, model text, reason text, occurred_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
AS $$
    SELECT u.vendor, u.model, u.reason, u.occurred_at
    FROM credyt.ledger l
    CROSS JOIN LATERAL (SELECT * FROM credyt.uncosted_usage u
                        WHERE u.customer = l.customer AND u.debit_id = l.id OFFSET 0) u
    WHERE l.accounted_at >= $1 AND l.kind = 'debit' AND l.costs @? '$[*] ? (@.cost == null)'
      AND l.created_at >= (SELECT CASE WHEN EXISTS (SELECT FROM credyt.margin_days d
                                                    WHERE d.day >= ($1 - interval '2 days')::date AND d.vendor IS NOT NULL AND NOT d.costed)
                                       THEN '-infinity' ELSE credyt.rolled_up_to() END)
    UNION ALL
    SELECT u.vendor, u.model, u.reason, u.occurred_at
    FROM credyt.vendor_costs c
    CROSS JOIN LATERAL (SELECT * FROM credyt.uncosted_usage u
                        WHERE u.customer = c.customer AND u.vendor = c.vendor AND u.debit_id IS NULL
                          AND u.occurred_at = c.occurred_at AND u.usage IS NOT DISTINCT FROM c.usage OFFSET 0) u
    WHERE c.cost IS NULL AND c.occurred_at >= $1 AND c.debit_id IS NULL
$$;
COMMENT ON FUNCTION credyt.uncosted_since(timestamptz) IS
    'The rows of credyt.uncosted_usage since a moment, without customers; found by time.';

-- Few rows were booked since all were in the rollups: then no wallet is read. A function, so that they are found by time.
CREATE FUNCTION credyt.rollup_backlog() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
AS $$
    SELECT CASE WHEN (SELECT count(*)
                      FROM (SELECT FROM credyt.ledger l WHERE l.created_at >= (SELECT credyt.rolled_up_to()) LIMIT 100001) l)
                   + (SELECT count(*)
                      FROM (SELECT FROM credyt.vendor_costs v WHERE v.created_at >= (SELECT credyt.rolled_up_to()) LIMIT 100001) v)
                   > 100000
                THEN (SELECT sum(credyt.seq(w.state) - coalesce(p.seq, 0))::bigint
                      FROM credyt.wallets w
                      LEFT JOIN credyt.rollup_progress p ON p.customer = w.customer AND p.asset = w.asset)
                ELSE 0 END
$$;
COMMENT ON FUNCTION credyt.rollup_backlog() IS
    'Ledger rows and recorded costs that the rollups do not have, where there may be more than 100,000; else 0.';

CREATE VIEW credyt.health AS
WITH clock AS MATERIALIZED (
    SELECT credyt.statement_time() AS now
)
SELECT f.severity, f.finding, f.detail, f.hint, f.since
FROM (
    SELECT 'critical' AS severity, 'clock_replaced' AS finding,
           format('a row in credyt.clock stands in for the time: it is %s in every wallet', c.now) AS detail,
           'DELETE FROM credyt.clock;' AS hint, NULL::timestamptz AS since
    FROM credyt.clock c
    UNION ALL
    -- Every debit leaves a version of its wallet's row behind, and the next one walks over all of them.
    SELECT CASE WHEN s.since < n.now - interval '1 hour' THEN 'critical' ELSE 'warning' END, 'old_snapshot',
           format('%s keeps old versions of rows, %s transactions ago: debits of busy wallets get slower and tables grow',
                  s.holder, s.transactions),
           s.hint, s.since
    FROM clock n CROSS JOIN credyt.old_snapshots() s
    WHERE s.since < n.now - interval '5 minutes' OR s.transactions > 1000000
    UNION ALL
    SELECT 'warning', 'autovacuum_off',
           format('autovacuum is off for %s: it will grow with every debit', coalesce(string_agg(t.name, ', '), 'every table')),
           coalesce(string_agg(format('ALTER TABLE %s RESET (autovacuum_enabled);', t.name), ' '),
                    'ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf();'), NULL
    FROM (SELECT c.oid::regclass::text AS name FROM pg_class c
          WHERE c.relnamespace = 'credyt'::regnamespace AND c.relkind = 'r'
            AND c.reloptions && '{autovacuum_enabled=false,autovacuum_enabled=off}' ORDER BY 1) t
    HAVING count(*) > 0 OR NOT current_setting('autovacuum')::boolean
    UNION ALL
    SELECT 'warning', 'bloated',
           format('%s.%s has %s dead rows beside %s live ones: autovacuum does not keep up, or something keeps it from forgetting them',
                  t.schemaname, t.relname, t.n_dead_tup, t.n_live_tup),
           format('VACUUM %I.%I;', t.schemaname, t.relname), greatest(t.last_vacuum, t.last_autovacuum)
    FROM pg_stat_all_tables t
    WHERE t.schemaname = 'credyt' AND t.n_dead_tup > 10000 + t.n_live_tup
    UNION ALL
    -- Harmless for balances, which every reader takes at the moment he asks. A wallet falls due when its first hold ends.
    SELECT 'info', 'holds_not_booked',
           format('holds that ended more than 10 minutes ago and are not booked as ended: %s',
                  CASE WHEN count(*) > 10000 THEN 'more than 10000' ELSE count(*)::text END),
           'SELECT * FROM credyt.maintain();', min(h.expires_at)
    FROM (SELECT h.expires_at
          FROM clock n
          JOIN credyt.wallets w ON w.next_due_at < n.now - interval '10 minutes'
          JOIN credyt.authorizations h ON h.customer = w.customer AND h.asset = w.asset
              AND h.status = 'open' AND h.expires_at < n.now - interval '10 minutes'
          LIMIT 10001) h
    HAVING count(*) > 0
    UNION ALL
    SELECT 'info', 'wallets_overdue',
           format('wallets with something due for more than 10 minutes (a renewal, the end of a grant or hold) that is not booked: %s',
                  CASE WHEN count(*) > 10000 THEN 'more than 10000' ELSE count(*)::text END),
           'SELECT * FROM credyt.maintain();', min(w.next_due_at)
    FROM (SELECT w.next_due_at
          FROM clock n JOIN credyt.wallets w ON w.next_due_at < n.now - interval '10 minutes'
          ORDER BY w.next_due_at LIMIT 10001) w
    HAVING count(*) > 0
    UNION ALL
    SELECT 'info', 'rollups_behind', format('ledger rows that reports of margin read one by one, since the rollups do not have them: %s', b.rows),
           'SELECT * FROM credyt.maintain();', NULL
    FROM credyt.rollup_backlog() AS b (rows)
    WHERE b.rows > 100000
    UNION ALL
    SELECT 'warning', 'events_waiting',
           format('events that nobody has dealt with for more than 15 minutes: %s',
                  CASE WHEN count(*) > 10000 THEN 'more than 10000' ELSE count(*)::text END),
           'SELECT * FROM credyt.take_events(); -- then credyt.ack_events', min(e.created_at)
    FROM (SELECT e.created_at FROM clock n JOIN credyt.events e
              ON e.acknowledged_at IS NULL AND e.created_at < n.now - interval '15 minutes'
          LIMIT 10001) e
    HAVING count(*) > 0
    UNION ALL
    SELECT 'warning', 'uncosted_usage',
           format('uses of %s %s in the last day without a cost: %s (%s)', u.vendor, u.model, count(*), u.reason),
           format('SELECT * FROM credyt.set_vendor_rate(%L, %L, ...); SELECT * FROM credyt.recost(%L, %L);',
                  u.vendor, u.model, u.vendor, u.model), min(u.occurred_at)
    FROM clock n CROSS JOIN credyt.uncosted_since(n.now - interval '1 day') u
    GROUP BY u.vendor, u.model, u.reason
    UNION ALL
    -- A state of 900 grants is far longer than this: only long ones are opened and counted, and no wallet is
    -- read where every state fits into its row. (An empty table: its rows are in shards, if anywhere.)
    SELECT 'warning', 'many_grants',
           format('the wallet of %s (%s) has %s open grants; beyond 1000 it takes no more, and each slows down its debits',
                  w.customer, w.asset, g.grants),
           'give fewer and larger grants, or let them end (expires_at)', NULL
    FROM credyt.wallets w CROSS JOIN LATERAL (SELECT count(*) AS grants FROM credyt.grants(w.state) OFFSET 0) g
    WHERE pg_column_size(w.state) > 8000 AND g.grants >= 900
      AND (SELECT pg_relation_size(c.reltoastrelid) > 0 OR pg_relation_size(c.oid) = 0
           FROM pg_class c WHERE c.oid = 'credyt.wallets'::regclass)
) f;
COMMENT ON VIEW credyt.health IS
    'What is wrong, or soon will be? A row for each finding. Cheap enough to be read every minute.';
COMMENT ON COLUMN credyt.health.severity IS 'critical: act now; warning: act soon; info: nothing is wrong yet.';
COMMENT ON COLUMN credyt.health.finding IS 'Its name, such as old_snapshot. docs/reference.md lists them.';
COMMENT ON COLUMN credyt.health.detail IS 'What was found, for people.';
COMMENT ON COLUMN credyt.health.hint IS 'The remedy, as SQL where it can be.';
COMMENT ON COLUMN credyt.health.since IS 'Since when, where that is known; of a bloated table its last vacuum.';
