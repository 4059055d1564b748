//! What `maintain` does to wallets: it books what is overdue, and searches for grants that a notice was set for.

use super::statement::{INT, Query, Statement, Store, TEXT, TIME};
use super::table::{query, table};
use super::{assets, cluster, notices, wallets};
use crate::errors::Result;
use crate::ledger::alerts::TopUpTrigger;
use crate::ledger::interrupt::checked;
use crate::ledger::{Moment, Wallet};
use crate::sql_types::value;

macro_rules! overdue {
    ($lock:literal) => {
        concat!(
            "SELECT w.customer, w.asset FROM credyt.wallets w WHERE w.next_due_at <= $1
             ORDER BY w.next_due_at LIMIT $2",
            $lock
        )
    };
}

/// Wallets that have something due and that no other session has locked.
static OVERDUE: Statement = Statement {
    sql: overdue!(" FOR NO KEY UPDATE SKIP LOCKED"),
    args: &[TIME, INT],
};

/// The same on several nodes, where each is locked by itself.
static ALL_OVERDUE: Statement = Statement {
    sql: overdue!(""),
    args: &[TIME, INT],
};

/// A notice that wallets have to be searched for, once no transaction runs any more that may not know it.
static SEARCHED: Statement = Statement {
    sql: "SELECT n.asset, n.searched_to FROM credyt.expiry_notices n
          WHERE n.searched_to IS NOT NULL
            AND NOT EXISTS (SELECT FROM pg_stat_activity a
                            WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() AND a.xact_start < n.set_at
                              AND (a.backend_xid IS NOT NULL OR a.state = 'active')
                              AND a.datname = current_database())
            AND NOT EXISTS (SELECT FROM pg_prepared_xacts p
                            WHERE p.database = current_database() AND p.prepared < n.set_at)
          ORDER BY n.asset LIMIT 1 FOR UPDATE OF n SKIP LOCKED",
    args: &[],
};

table! {
    struct SearchedWallet {
        customer: String as text,
        state: Wallet as wallet,
        next_due_at: Option<Moment> as timestamptz,
    }
}

query! {
    Page(asset: text, searched_to: text, count: int):
    "SELECT ", SearchedWallet::COLUMNS, " FROM credyt.wallets w
     WHERE w.customer > :searched_to AND w.asset = :asset ORDER BY w.customer LIMIT :count"
}

static SEARCHED_TO: Statement = Statement {
    sql: "UPDATE credyt.expiry_notices n SET searched_to = $2 WHERE n.asset = $1",
    args: &[TEXT, TEXT],
};

/// Books the pending entries of at most `batch` wallets, leaving out those that other sessions have
/// locked. How many it was.
pub fn book_overdue(store: &Store, batch: i32) -> Result<usize> {
    let now = assets::now(store)?;
    let one_by_one = cluster::is_distributed();
    let overdue = match one_by_one {
        true => &ALL_OVERDUE,
        false => &OVERDUE,
    };
    let rows = overdue.run(store, &[value::moment(now), value::int(batch)])?;
    let mut booked = 0;
    for row in rows.iter() {
        let (customer, asset): (String, String) = row.read()?;
        if one_by_one && !wallets::try_lock(store, &customer, &asset)? {
            continue;
        }
        if let Some(mut open) = wallets::find(store, &customer, &asset)? {
            open.asks = TopUpTrigger::Always;
            open.write_back(store)?;
            booked += 1;
        }
    }
    Ok(booked)
}

/// Searches at most `batch` wallets for grants that were there before a notice was set: `maintain`'s share.
/// How many it wrote. It ends before a wallet that another session has locked, and goes on there.
/// They are searched in the order of their customers.
pub fn search_notices(store: &Store, batch: i32) -> Result<usize> {
    let rows = SEARCHED.run(store, &[])?;
    let Some((asset, mut searched_to)) = rows.read_first::<(String, String)>()? else {
        return Ok(0);
    };
    let notice = notices::of(store, &asset)?;
    let page = Page {
        asset: &asset,
        searched_to: &searched_to,
        count: batch,
    };
    let page = page.run(store)?;
    let mut written = 0;
    let mut ends = page.count() < usize::try_from(batch).unwrap_or(usize::MAX);
    for row in checked(page.iter()) {
        let SearchedWallet {
            customer,
            state: wallet,
            next_due_at: noted,
        } = row.read()?;
        let next = wallet.next_notice(wallet.changed_at, notice.as_ref());
        // Who has written it since the notice was set has noted it.
        if next.is_some_and(|next| noted.is_none_or(|noted| noted > next)) {
            if !wallets::try_lock(store, &customer, &asset)? {
                ends = false;
                break;
            }
            let mut open = wallets::open(store, &customer, &asset)?;
            open.asks = TopUpTrigger::Always;
            open.write_back(store)?;
            written += 1;
        }
        searched_to = customer;
    }
    let to = (!ends).then_some(searched_to.as_str());
    SEARCHED_TO.run(store, &[value::text(&asset), value::optional_text(to)])?;
    Ok(written)
}
