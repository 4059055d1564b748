//! Expiry notices: how many days before their end grants of an asset are told of.
//! A wallet notes the moment of its next notice whenever it is written; `maintenance` searches those that were
//! written before a notice was set.

use super::books::{self, Book, Is};
use super::statement::{Query, Statement, Store, TEXT};
use super::table::{query, sql, table};
use crate::errors::Result;
use crate::ledger::alerts::Notice;
use crate::ledger::{Kind, Moment};
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

/// The notice of an asset.
pub(super) fn of(store: &Store, asset: &str) -> Result<Option<Notice>> {
    let found: Option<NoticeRow> = match books::find(store, &BOOK, &[Is::Text(asset)], 1)? {
        Some(found) => found.into_iter().next(),
        None => OF.run(store, &[value::text(asset)])?.read_first()?,
    };
    Ok(found.map(|NoticeRow { days, kinds }| Notice { days, kinds }))
}

/// Sets the notice of an asset, at this time of the server; without days it is removed.
pub fn set(store: &Store, asset: &str, notice: &Notice, set_at: Moment) -> Result<()> {
    if notice.days.is_empty() {
        REMOVE.run(store, &[value::text(asset)])?;
        return Ok(());
    }
    let set = Set {
        asset,
        days: &notice.days,
        kinds: &notice.kinds,
        set_at,
    };
    set.run(store)?;
    Ok(())
}
