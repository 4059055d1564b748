//! Expiry notices: how many days before their end grants of an asset are told of.
//!
//! A wallet notes the moment of its next notice whenever it is written. Wallets that were written before a
//! notice was set are searched by `maintain`, in the order of their customers.

use super::assets::{self, Asset};
use super::books::{self, Book, Is};
use super::statement::{INT, INTS, Statement, Store, TEXT, TEXTS, TIME};
use super::wallets;
use crate::errors::Result;
use crate::ledger::alerts::{Notice, TopUpTrigger};
use crate::ledger::interrupt::checked;
use crate::ledger::{Kind, Moment, Wallet};
use crate::sql_types::value;

static BOOK: Book = Book {
    name: c"expiry_notices",
    wanted: &[("days", INTS), ("kinds", TEXTS)],
    searched: &["asset"],
    index: None,
};

static OF: Statement = Statement {
    sql: "SELECT n.days, n.kinds FROM credyt.expiry_notices n WHERE n.asset = $1",
    args: &[TEXT],
};

/// `set_at` is compared with what the server says of sessions: it is the server's clock, not a test's.
static SET: Statement = Statement {
    sql: "INSERT INTO credyt.expiry_notices AS n (asset, days, kinds, set_at, searched_to)
          VALUES ($1, $2, $3, $4, '')
          ON CONFLICT (asset) DO UPDATE SET days = $2, kinds = $3, set_at = $4, searched_to = ''",
    args: &[TEXT, INTS, TEXTS, TIME],
};

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

static PAGE: Statement = Statement {
    sql: "SELECT w.customer, w.state::bytea, w.next_due_at FROM credyt.wallets w
          WHERE w.customer > $2 AND w.asset = $1 ORDER BY w.customer LIMIT $3",
    args: &[TEXT, TEXT, INT],
};

static SEARCHED_TO: Statement = Statement {
    sql: "UPDATE credyt.expiry_notices n SET searched_to = $2 WHERE n.asset = $1",
    args: &[TEXT, TEXT],
};

/// The notice of an asset.
pub(super) fn of(store: &Store, asset: &str) -> Result<Option<Notice>> {
    type Found = (Vec<i32>, Vec<Kind>);
    let found: Option<Found> = match books::find(store, &BOOK, &[Is::Text(asset)], 1)? {
        Some(found) => found.into_iter().next(),
        None => OF.run(store, &[value::text(asset)])?.read_first()?,
    };
    Ok(found.map(|(days, kinds)| Notice { days, kinds }))
}

/// Sets the notice of an asset; without days it is removed.
pub fn set(store: &Store, asset: &Asset, notice: &Notice) -> Result<()> {
    if notice.days.is_empty() {
        REMOVE.run(store, &[value::text(&asset.name)])?;
        return Ok(());
    }
    let kinds: Vec<String> = notice.kinds.iter().map(Kind::to_string).collect();
    let args = [
        value::text(&asset.name),
        value::ints(notice.days.iter().copied()),
        value::texts(Some(&kinds)),
        value::moment(assets::wall_clock()),
    ];
    SET.run(store, &args)?;
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
    let args = [
        value::text(&asset),
        value::text(&searched_to),
        value::int(batch),
    ];
    let page = PAGE.run(store, &args)?;
    let mut written = 0;
    let mut ends = page.count() < usize::try_from(batch).unwrap_or(usize::MAX);
    for row in checked(page.iter()) {
        let (customer, wallet, noted): (String, Wallet, Option<Moment>) = row.read()?;
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
