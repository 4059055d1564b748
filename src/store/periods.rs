//! Closed periods, and reports of what is deferred.
//!
//! A row counts in the books when it happened, or at the first moment of the first open period. What
//! is accounted before `through` never changes once `close_period(through)` has committed, because
//! no such row can be committed after it:
//!
//! - `close_period` locks, one by one, every wallet of the asset, and writes it back with a last
//!   change at or after `through`. So it waits for every transaction that has changed one of them, and
//!   only then sums up what is booked. From then on a wallet's own time, which never runs backwards,
//!   is not before `through`, and what happens at that time counts in an open period.
//! - What happened earlier (an explicit `occurred_at`, a cost recorded late, a pending entry) asks
//!   for the last close (`accounted_at`) after it has locked the wallet: either that close has let go
//!   of this wallet and is seen, or it has still to lock it and waits for this transaction. Under
//!   REPEATABLE READ and above an older snapshot does not get the lock: the close has changed the row.
//! - A wallet that is not there yet cannot be locked. So who makes one shares a lock on
//!   `credyt.periods` until the transaction ends (`share`), and `close_period` takes it alone
//!   (`lock`). The new wallet's time does not begin before the last close.
//!
//! Who changes several wallets in one transaction and meets `close_period` may end in a deadlock
//! (40P01), as with any other transaction that locks them in another order.

use pgrx::pg_sys;

use super::assets;
use super::cache_epoch;
use super::statement::{Query, Statement, Store, TEXT, TIME};
use super::table::{query, sql, table};
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::sql_types::value;

/// Before and after all time, as Postgres orders them.
const BEGINNING: Moment = Moment(i64::MIN);
const END: Moment = Moment(i64::MAX);

table! {
    /// A closed period.
    pub struct Period {
        asset: String as text,
        through: Moment as timestamptz,
        closed_at: Moment as timestamptz,
        credits: pg_sys::Datum as numeric,
        deferred: pg_sys::Datum as numeric,
    }
}

table! {
    /// What is deferred at a moment in grants of one kind.
    pub struct Deferred {
        asset: String as text,
        kind: String as text,
        credits: pg_sys::Datum as numeric,
        revenue: pg_sys::Datum as numeric,
    }
}

table! {
    /// From what was deferred before a period to what was at its end.
    pub struct Rollforward {
        asset: String as text,
        opening: pg_sys::Datum as numeric,
        billed: pg_sys::Datum as numeric,
        earned: pg_sys::Datum as numeric,
        breakage: pg_sys::Datum as numeric,
        returned: pg_sys::Datum as numeric,
        closing: pg_sys::Datum as numeric,
    }
}

/// On every node of a cluster.
static LOCK: Statement = Statement {
    sql: "LOCK TABLE credyt.periods IN EXCLUSIVE MODE",
    args: &[],
};

static LAST: Statement = Statement {
    sql: "SELECT max(p.through) FROM credyt.periods p WHERE p.asset = $1",
    args: &[TEXT],
};

/// What a close may not miss: who has a wallet. (Wallets are never deleted.)
static WALLETS: Statement = Statement {
    sql: "SELECT count(*) FROM credyt.wallets w WHERE w.asset = $1",
    args: &[TEXT],
};

/// In the order in which every call locks several: that of the bytes.
static CUSTOMERS: Statement = Statement {
    sql: "SELECT w.customer FROM credyt.wallets w WHERE w.asset = $1 ORDER BY w.customer COLLATE \"C\"",
    args: &[TEXT],
};

static CLOSED: Statement = Statement {
    sql: sql!(
        "SELECT ",
        Period::COLUMNS,
        " FROM credyt.periods p WHERE p.asset = $1 AND p.through = $2"
    ),
    args: &[TEXT, TIME],
};

query! {
    Keep(asset: text, last: timestamptz, through: timestamptz, closed_at: timestamptz):
    "SELECT ", Period::COLUMNS, " FROM credyt.keep_period(:asset, :last, :through, :closed_at) p"
}

/// From the last close before a moment, and what is accounted since.
static DEFERRED: Statement = Statement {
    sql: sql!(
        "WITH base AS MATERIALIZED (
              SELECT a.asset, coalesce((SELECT max(p.through) FROM credyt.periods p
                                        WHERE p.asset = a.asset AND p.through <= $1), '-infinity') AS through
              FROM credyt.assets a
              WHERE $2 IS NULL OR a.asset = $2
          ),
          total AS (
              SELECT m.asset, m.kind, trim_scale(sum(m.credits)) AS credits, credyt.as_money(sum(m.deferred)) AS revenue
              FROM (SELECT g.asset, g.kind, g.remaining AS credits, g.deferred
                    FROM base b
                    JOIN credyt.period_grants g ON g.asset = b.asset AND g.through = b.through
                    UNION ALL
                    SELECT m.asset, m.kind, m.credits, m.deferred
                    FROM base b
                    JOIN credyt.grant_movements m ON m.asset = b.asset AND m.accounted_at >= b.through
                    WHERE m.accounted_at >= (SELECT min(b.through) FROM base b) AND m.accounted_at < $1) m
              GROUP BY m.asset, m.kind
              HAVING sum(m.credits) <> 0 OR sum(m.deferred) <> 0
          )
          SELECT ",
        Deferred::COLUMNS,
        " FROM total t ORDER BY t.asset, t.kind"
    ),
    args: &[TIME, TEXT],
};

query! {
    /// Opening and closing are each summed from the last close before them, the rest from the movements
    /// of the period. Only what moves unearned money has to be opened: the revenue of a debit is its row's.
    RollforwardOf(since: timestamptz, until: timestamptz, asset: text):
    "WITH base AS MATERIALIZED (
         SELECT a.asset,
                coalesce((SELECT max(p.through) FROM credyt.periods p
                          WHERE p.asset = a.asset AND p.through <= :since), '-infinity') AS opened,
                coalesce((SELECT max(p.through) FROM credyt.periods p
                          WHERE p.asset = a.asset AND p.through <= :until), '-infinity') AS closed
         FROM credyt.assets a
         WHERE :asset IS NULL OR a.asset = :asset
     ),
     moved AS (
         SELECT m.asset, m.kind, m.accounted_at < :since AS before, m.accounted_at >= b.closed AS after,
                sum(m.revenue) AS revenue,
                coalesce(sum(CASE WHEN m.kind IN ('grant', 'expiry', 'revocation')
                             THEN (SELECT sum((a.part->>'deferred')::numeric)
                                   FROM jsonb_array_elements(m.allocations) AS a (part)) END), 0) AS deferred
         FROM base b
         JOIN credyt.movements m ON m.asset = b.asset AND m.accounted_at >= b.opened
         WHERE m.accounted_at >= (SELECT min(b.opened) FROM base b) AND m.accounted_at < :until
         GROUP BY 1, 2, 3, 4
     ),
     flow AS (
         SELECT m.asset, m.before, m.after, m.revenue AS earned,
                CASE WHEN m.kind = 'grant' THEN m.deferred ELSE 0 END AS billed,
                CASE WHEN m.kind = 'expiry' THEN m.deferred ELSE 0 END AS breakage,
                CASE WHEN m.kind = 'revocation' THEN m.deferred - m.revenue ELSE 0 END AS returned
         FROM moved m
     ),
     total AS (
         SELECT b.asset,
                coalesce(o.deferred, 0)
                    + coalesce(sum(f.billed - f.earned - f.breakage - f.returned) FILTER (WHERE f.before), 0) AS opening,
                coalesce(sum(f.billed) FILTER (WHERE NOT f.before), 0) AS billed,
                coalesce(sum(f.earned) FILTER (WHERE NOT f.before), 0) AS earned,
                coalesce(sum(f.breakage) FILTER (WHERE NOT f.before), 0) AS breakage,
                coalesce(sum(f.returned) FILTER (WHERE NOT f.before), 0) AS returned,
                coalesce(c.deferred, 0)
                    + coalesce(sum(f.billed - f.earned - f.breakage - f.returned) FILTER (WHERE f.after), 0) AS closing
         FROM base b
         LEFT JOIN credyt.periods o ON o.asset = b.asset AND o.through = b.opened
         LEFT JOIN credyt.periods c ON c.asset = b.asset AND c.through = b.closed
         LEFT JOIN flow f ON f.asset = b.asset
         GROUP BY b.asset, o.deferred, c.deferred
     )
     SELECT ", Rollforward::COLUMNS, "
     FROM (SELECT t.asset, credyt.as_money(t.opening) AS opening, credyt.as_money(t.billed) AS billed,
                  credyt.as_money(t.earned) AS earned, credyt.as_money(t.breakage) AS breakage,
                  credyt.as_money(t.returned) AS returned, credyt.as_money(t.closing) AS closing
           FROM total t) t
     ORDER BY t.asset"
}

/// The first moment of the first open period; `None` where no period was closed. What is done with
/// it needs the lock of the wallet it is about, taken before.
pub fn first_open(store: &Store, asset: &str) -> Result<Option<Moment>> {
    let rows = LAST.run(store, &[value::text(asset)])?;
    rows.read_one()
}

/// When something counts in the books that happened at a moment in an open (and so locked) wallet
/// whose time is `now`. Only what happened earlier can lie in a closed period.
pub fn accounted_at(
    store: &Store,
    asset: &str,
    occurred_at: Moment,
    now: Moment,
) -> Result<Moment> {
    if occurred_at >= now {
        return Ok(occurred_at);
    }
    let first_open = first_open(store, asset)?;
    Ok(first_open.map_or(occurred_at, |first| first.max(occurred_at)))
}

/// Keeps the books as they are until the transaction ends, for who makes a wallet: no close can
/// overlook it. Returns the first moment of the first open period.
pub fn share(store: &Store, asset: &str) -> Result<Option<Moment>> {
    // SAFETY: lookups by name, and a lock that the end of the transaction lets go of.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"credyt".as_ptr(), true);
        let table = pg_sys::get_relname_relid(c"periods".as_ptr(), schema);
        if table == pg_sys::Oid::INVALID {
            return Err(errors::corrupted(
                "the installation",
                "credyt.periods is not there",
            ));
        }
        // As LOCK TABLE ... IN ROW SHARE MODE, which Citus would send to every node: it conflicts with `LOCK`, which
        // does go to all of them, and not with itself, with readers or with a dump.
        pg_sys::LockRelationOid(table, pg_sys::RowShareLock as i32);
    }
    same_as_latest(store, &LAST, asset)?;
    first_open(store, asset)
}

/// Lets nobody else close a period or make a wallet until the transaction ends. Returns the first
/// moment of the first open period.
pub fn lock(store: &Store, asset: &str) -> Result<Option<Moment>> {
    LOCK.run(store, &[])?;
    same_as_latest(store, &LAST, asset)?;
    same_as_latest(store, &WALLETS, asset)?;
    first_open(store, asset)
}

/// 40001 where this transaction's snapshot is too old to see what counts.
fn same_as_latest(store: &Store, statement: &Statement, asset: &str) -> Result<()> {
    if cache_epoch::sees_commits() {
        return Ok(());
    }
    let args = [value::text(asset)];
    // A count and a moment alike are 64 bits.
    let ours: Option<Moment> = statement.run(store, &args)?.read_one()?;
    let latest = statement.run_latest(&args)?.read_one()?;
    if ours == latest {
        Ok(())
    } else {
        Err(errors::snapshot_too_old(asset))
    }
}

/// All who have a wallet, in the order in which they are locked.
pub fn customers(store: &Store, asset: &str) -> Result<Vec<String>> {
    let rows = CUSTOMERS.run(store, &[value::text(asset)])?;
    rows.read_all()
}

/// The columns of a closed period.
pub fn closed(store: &Store, asset: &str, through: Moment) -> Result<Option<Period>> {
    let rows = CLOSED.run(store, &[value::text(asset), value::moment(through)])?;
    rows.read_first()
}

/// Writes a period down, with what every grant had left at its end. `last` is the end of the period
/// before. Returns its columns.
pub fn keep(
    store: &Store,
    asset: &str,
    last: Option<Moment>,
    through: Moment,
    closed_at: Moment,
) -> Result<Period> {
    let query = Keep {
        asset,
        last: last.unwrap_or(BEGINNING),
        through,
        closed_at,
    };
    query.run(store)?.read_one()
}

/// What was deferred at a moment, itself included: asset, kind, credits and money.
pub fn deferred_at(store: &Store, at: Moment, asset: Option<&str>) -> Result<Vec<Deferred>> {
    known(store, asset)?;
    // What is accounted at a moment is accounted before the next microsecond.
    let until = Moment(at.0.saturating_add(1));
    let rows = DEFERRED.run(store, &[value::moment(until), value::optional_text(asset)])?;
    rows.read_all()
}

/// From what was deferred before `since` to what was before `until`, asset by asset.
pub fn rollforward(
    store: &Store,
    since: Option<Moment>,
    until: Option<Moment>,
    asset: Option<&str>,
) -> Result<Vec<Rollforward>> {
    known(store, asset)?;
    let query = RollforwardOf {
        since: since.unwrap_or(BEGINNING),
        until: until.unwrap_or(END),
        asset,
    };
    query.run(store)?.read_all()
}

/// WC009 for an asset that is not there.
fn known(store: &Store, asset: Option<&str>) -> Result<()> {
    asset.map_or(Ok(()), |name| assets::asset(store, name).map(|_| ()))
}
