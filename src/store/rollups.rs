//! The rollups that keep reports of margin and `usage` fast: sums of days, which `maintain` keeps up to date.

use super::statement::{Query, Statement, Store, TEXT, UUID};
use super::table::query;
use super::{assets, cache_epoch, cluster, ledger};
use crate::errors::{self, Result};
use crate::sql_types::value;

/// One session at a time changes the rollups: the number stands for that, in this database.
static TURN: Statement = Statement {
    sql: "SELECT pg_try_advisory_xact_lock(7165064744911531892)",
    args: &[],
};

/// The same, waiting for it.
static WAIT: Statement = Statement {
    sql: "SELECT pg_advisory_xact_lock(7165064744911531892)",
    args: &[],
};

static PROGRESS: Statement = Statement {
    sql: "SELECT coalesce(sum(p.seq), 0)::bigint FROM credyt.rollup_progress p WHERE p.customer = $1",
    args: &[TEXT],
};

/// If there is something under scopes: all of a customer, so that it is taken in again without them.
static TAKE_OUT: Statement = Statement {
    sql: "WITH mine AS (
              DELETE FROM credyt.margin_customers
              WHERE customer = $1
                AND EXISTS (SELECT FROM credyt.margin_customers s WHERE s.customer = $1 AND s.scoped)
              RETURNING *
          ),
          scopes AS (DELETE FROM credyt.margin_scopes WHERE customer = $1 RETURNING 1),
          usage AS (
              DELETE FROM credyt.usage_days
              WHERE customer = $1
                AND EXISTS (SELECT FROM credyt.margin_customers s WHERE s.customer = $1 AND s.scoped)
          ),
          progress AS (
              DELETE FROM credyt.rollup_progress
              WHERE customer IN ($1, '')
                AND EXISTS (SELECT FROM credyt.margin_customers s WHERE s.customer = $1 AND s.scoped)
          )
          UPDATE credyt.margin_days d
          SET debits = d.debits - m.debits, quantity = d.quantity - m.quantity, credits = d.credits - m.credits,
              revenue = d.revenue - m.revenue, cost = d.cost - coalesce(m.cost, 0)
          FROM mine m
          WHERE d.asset = m.asset AND d.day = m.day AND d.report_mask = m.report_mask
            AND d.costed = m.costed AND d.scoped = m.scoped
            AND d.action IS NOT DISTINCT FROM m.action AND d.vendor IS NOT DISTINCT FROM m.vendor
            AND d.model IS NOT DISTINCT FROM m.model AND d.kind IS NOT DISTINCT FROM m.kind",
    args: &[TEXT],
};

/// Sums of the lines that go into a rollup, added to what it has.
macro_rules! into {
    ($table:literal, $from:literal, $key:literal, $columns:literal) => {
        concat!(
            "INSERT INTO credyt.", $table, " AS r (", $key, ", debits, quantity, credits, revenue, cost)
             SELECT ", $columns, ", sum(l.debits), sum(l.quantity), sum(l.credits), sum(l.revenue), sum(l.cost)
             FROM ", $from, "
             GROUP BY ", $columns, "
             ON CONFLICT (", $key, ") DO UPDATE SET
                 debits = r.debits + excluded.debits,
                 quantity = r.quantity + excluded.quantity,
                 credits = r.credits + excluded.credits,
                 revenue = r.revenue + excluded.revenue,
                 cost = CASE WHEN r.cost IS NULL THEN excluded.cost ELSE r.cost + coalesce(excluded.cost, 0) END"
        )
    };
}

/// At most `:wallets`, and at most `:rows` of them. What is newer than the rollups goes into them, and
/// the progress with it. A snapshot older than the last turn is refused by ON CONFLICT with 40001.
/// Says how many rows it took, and whether that was all there was.
macro_rules! roll_up {
    ($wallets:literal) => { concat!(
        "WITH behind AS MATERIALIZED (
             SELECT w.customer, w.asset, coalesce(p.seq, 0) AS seq,
                    coalesce(p.id, '00000000-0000-0000-0000-000000000000') AS id,
                    credyt.seq(w.state) AS last
             FROM ", $wallets, "
             LEFT JOIN credyt.rollup_progress p ON p.customer = w.customer AND p.asset = w.asset
             WHERE credyt.seq(w.state) > coalesce(p.seq, 0)
             ORDER BY w.customer, w.asset
             LIMIT :wallets
         ),
         step AS MATERIALIZED (
             SELECT c.customer, c.asset, c.seq, c.id, c.last, least(c.last, c.seq + :rows - c.before) AS upto
             FROM (SELECT b.*, sum(b.last - b.seq) OVER (ORDER BY b.customer, b.asset) - (b.last - b.seq) AS before
                   FROM behind b) c
             WHERE c.before < :rows
         ),
         line AS MATERIALIZED (
             SELECT s.customer, s.asset, (m.accounted_at AT TIME ZONE a.timezone)::date AS day, m.action,
                    m.vendor, m.model, m.kind, m.report_mask, m.costed, m.scopes,
                    coalesce(cardinality(m.scopes), 0) > 0 AS scoped,
                    m.id, m.debits, m.quantity, m.credits, m.revenue, m.cost
             FROM step s
             JOIN credyt.assets a ON a.asset = s.asset
             CROSS JOIN LATERAL (
                 SELECT * FROM credyt.margin_lines m
                 WHERE m.customer = s.customer AND m.asset = s.asset AND m.id > s.id
                   AND m.seq > s.seq AND m.seq <= s.upto
                 OFFSET 0
             ) m
         ),
         days AS (",
        into!("margin_days", "line l",
              "asset, day, action, vendor, model, kind, report_mask, costed, scoped",
              "l.asset, l.day, l.action, l.vendor, l.model, l.kind, l.report_mask, l.costed, l.scoped"),
        "),
         customers AS (",
        into!("margin_customers", "line l",
              "customer, asset, day, action, vendor, model, kind, report_mask, costed, scoped",
              "l.customer, l.asset, l.day, l.action, l.vendor, l.model, l.kind, l.report_mask, l.costed, l.scoped"),
        "),
         scopes AS (",
        into!("margin_scopes",
              "line l CROSS JOIN LATERAL (SELECT DISTINCT s.scope FROM unnest(l.scopes) AS s (scope)) c",
              "customer, asset, day, scope, action, vendor, model, kind, report_mask, costed",
              "l.customer, l.asset, l.day, c.scope, l.action, l.vendor, l.model, l.kind, l.report_mask, l.costed"),
        "),
         used AS (
             INSERT INTO credyt.usage_days AS r (customer, asset, day, action, last_id, calls, quantity, credits)
             SELECT s.customer, s.asset, d.day, l.action, max(l.id::text COLLATE \"C\")::uuid, sum(l.calls),
                    sum(l.quantity), sum(l.credits)
             FROM step s
             JOIN credyt.assets a ON a.asset = s.asset
             CROSS JOIN LATERAL (
                 SELECT * FROM credyt.usage_lines l
                 WHERE l.customer = s.customer AND l.asset = s.asset AND l.id > s.id
                   AND l.seq > s.seq AND l.seq <= s.upto
                 OFFSET 0
             ) l
             CROSS JOIN LATERAL (SELECT (l.occurred_at AT TIME ZONE a.timezone)::date AS day) d
             GROUP BY s.customer, s.asset, d.day, l.action
             ON CONFLICT (customer, asset, day, action) DO UPDATE SET
                 last_id = greatest(r.last_id, excluded.last_id),
                 calls = r.calls + excluded.calls,
                 quantity = r.quantity + excluded.quantity,
                 credits = r.credits + excluded.credits
         ),
         progress AS (
             INSERT INTO credyt.rollup_progress AS p (customer, asset, seq, id)
             SELECT s.customer, s.asset, s.upto, coalesce(l.id, s.id)
             FROM step s
             LEFT JOIN (SELECT l.customer, l.asset, max(l.id::text COLLATE \"C\")::uuid AS id
                        FROM line l WHERE l.id <> 'ffffffff-ffff-ffff-ffff-ffffffffffff'
                        GROUP BY l.customer, l.asset) l ON l.customer = s.customer AND l.asset = s.asset
             ON CONFLICT (customer, asset) DO UPDATE SET seq = excluded.seq, id = excluded.id
         )
         SELECT coalesce(sum(s.upto - s.seq), 0)::bigint,
                (SELECT count(*) FROM behind) < :wallets AND (SELECT count(*) FROM behind) = count(*) FILTER (WHERE s.upto = s.last)
         FROM step s"
    ) }
}

query! {
    RollUpAll(wallets: bigint, rows: bigint): roll_up!("credyt.wallets w")
}

query! {
    /// `since`: from when on rows may be missing. Only wallets with rows that were booked since are looked at.
    RollUpSince(wallets: bigint, rows: bigint, since: timestamptz): roll_up!(
        "(SELECT l.customer, l.asset FROM credyt.ledger l WHERE l.created_at >= :since
          UNION
          SELECT c.customer, c.asset FROM credyt.vendor_costs c WHERE c.created_at >= :since) n
         JOIN credyt.wallets w ON w.customer = n.customer AND w.asset = n.asset"
    )
}

/// The row of no customer in `rollup_progress`: all rows that were booked before the time of its id are in
/// the rollups. Once a day all wallets are looked at whatever it says: rows may also come from elsewhere
/// (logical replication), or by a clock that was put back.
static COMPLETE: Statement = Statement {
    sql: "SELECT p.id FROM credyt.rollup_progress p WHERE p.customer = '' AND p.asset = current_date::text",
    args: &[],
};

static SET_COMPLETE: Statement = Statement {
    sql: "WITH before AS (DELETE FROM credyt.rollup_progress WHERE customer = '' AND asset <> current_date::text)
          INSERT INTO credyt.rollup_progress AS p (customer, asset, seq, id)
          VALUES ('', current_date::text, 0, $1)
          ON CONFLICT (customer, asset) DO UPDATE SET id = excluded.id",
    args: &[UUID],
};

/// No transaction that runs has begun before, so none will commit rows that were booked before. NULL where that
/// cannot be told.
static HORIZON: Statement = Statement {
    sql: "SELECT CASE WHEN count(*) FILTER (WHERE coalesce(a.state, 'disabled') = 'disabled') = 0
                       AND NOT EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts x WHERE x.database = current_database())
                      THEN least(clock_timestamp(), min(a.xact_start)) END
          FROM pg_catalog.pg_stat_activity a
          WHERE a.datname = current_database() AND a.backend_type = 'client backend'",
    args: &[],
};

/// Takes rows of a bounded number of wallets into the rollups, and a bounded number of rows. How many it took;
/// none where another session is at it.
pub fn roll_up(store: &Store, wallets: i64, rows: i64) -> Result<i64> {
    if cluster::is_distributed() {
        return Ok(0);
    }
    if !TURN.run(store, &[])?.read_one::<bool>()? {
        return Ok(0);
    }
    // A clock that stands in for the time may jump.
    let tells_time = assets::stands_in(store)?.is_none() && cache_epoch::sees_commits();
    let (mut since, mut horizon) = (None, None);
    if tells_time {
        // Before the rows are looked at.
        horizon = HORIZON.run(store, &[])?.read_one()?;
        since = COMPLETE.run(store, &[])?.read_first()?;
    }
    let rolled_up = match since.map(ledger::time_of) {
        Some(since) => RollUpSince {
            wallets,
            rows,
            since,
        }
        .run_once(store)?,
        None => RollUpAll { wallets, rows }.run_once(store)?,
    };
    let Some((taken, all)) = rolled_up.read_first()? else {
        return Ok(0);
    };
    if let (true, Some(horizon)) = (all, horizon) {
        SET_COMPLETE.run(store, &[value::uuid(ledger::first_id(horizon))])?;
    }
    Ok(taken)
}

/// Takes a customer out of the rollups whose scopes are about to be erased; reports read the ledger's rows
/// until the next `maintain`. Nobody else changes the rollups until the transaction ends.
pub fn take_out(store: &Store, customer: &str) -> Result<()> {
    if cluster::is_distributed() {
        return Ok(());
    }
    WAIT.run(store, &[])?;
    let args = [value::text(customer)];
    if !cache_epoch::sees_commits() {
        let ours: i64 = PROGRESS.run(store, &args)?.read_one()?;
        let latest: i64 = PROGRESS.run_latest(&args)?.read_one()?;
        if ours != latest {
            return Err(errors::reports_changed(customer));
        }
    }
    TAKE_OUT.run(store, &args)?;
    Ok(())
}
