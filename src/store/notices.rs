//! Expiry notices: how many days before their end grants of an asset are told of.
//!
//! A wallet notes the moment of its next notice whenever it is written. Wallets that were written before a
//! notice was set are searched by `maintain`, in the order of their customers.

use super::assets::{self, Asset};
use super::books::{self, Book, Is};
use super::statement::{Query, Statement, Store, TEXT};
use super::table::{query, sql, table};
use super::wallets;
use crate::errors::Result;
use crate::ledger::alerts::{Notice, TopUpTrigger};
use crate::ledger::interrupt::checked;
use crate::ledger::{Kind, Moment, Wallet};
use crate::sql_types::value;

table! {
    struct NoticeRow {
        days: Vec<i32> as ints,
        kinds: Vec<Kind> as texts,
    }
}

static BOOK: Book = Book {
    name: c"expiry_notices",
    wanted: NoticeRow::DECLARED,
    searched: &["asset"],
    index: None,
};

static OF: Statement = Statement {
    sql: sql!(
        "SELECT ",
        NoticeRow::COLUMNS,
        " FROM credyt.expiry_notices n WHERE n.asset = $1"
    ),
    args: &[TEXT],
};

query! {
    /// `set_at` is compared with what the server says of sessions: it is the server's clock, not a test's.
    Set(asset: text, days: ints, kinds: texts, set_at: timestamptz):
    "INSERT INTO credyt.expiry_notices AS n (asset, days, kinds, set_at, searched_to)
     VALUES (:asset, :days, :kinds, :set_at, '')
     ON CONFLICT (asset) DO UPDATE SET days = :days, kinds = :kinds, set_at = :set_at, searched_to = ''"
}

static REMOVE: Statement = Statement {
    sql: "DELETE FROM credyt.expiry_notices n WHERE n.asset = $1",
    args: &[TEXT],
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

/// The notice of an asset.
pub(super) fn of(store: &Store, asset: &str) -> Result<Option<Notice>> {
    let found: Option<NoticeRow> = match books::find(store, &BOOK, &[Is::Text(asset)], 1)? {
        Some(found) => found.into_iter().next(),
        None => OF.run(store, &[value::text(asset)])?.read_first()?,
    };
    Ok(found.map(|NoticeRow { days, kinds }| Notice { days, kinds }))
}

/// Sets the notice of an asset; without days it is removed.
pub fn set(store: &Store, asset: &Asset, notice: &Notice) -> Result<()> {
    if notice.days.is_empty() {
        REMOVE.run(store, &[value::text(&asset.name)])?;
        return Ok(());
    }
    let set = Set {
        asset: &asset.name,
        days: &notice.days,
        kinds: &notice.kinds,
        set_at: assets::wall_clock(),
    };
    set.run(store)?;
    Ok(())
}

/// Searches at most `batch` wallets for grants that were there before a notice was set: `maintain`'s share.
/// How many it wrote. It ends before a wallet that another session has locked, and goes on there.
pub fn search(store: &Store, batch: i32) -> Result<usize> {
    let rows = SEARCHED.run(store, &[])?;
    let Some((asset, mut searched_to)) = rows.read_first::<(String, String)>()? else {
        return Ok(0);
    };
    let notice = of(store, &asset)?;
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
