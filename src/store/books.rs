//! Rows of the books (assets, prices, the clock), read without SQL: the first call of a session asks for
//! them, and to plan the statements takes longer than all the rest of a debit. Later calls remember them.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use pgrx::PgTupleDesc;
use pgrx::pg_sys::{self, Datum, Oid};

use super::statement::{FromRow, Store, read_values};
use super::table::Column;
use super::{cluster, direct_access};
use crate::errors::Result;
use crate::ledger::interrupt;
use crate::sql_types::value::{self, Value};

/// A table of the books, as far as it is read here.
pub struct Book {
    pub name: &'static CStr,
    /// The columns that are read, and those that are searched, the latter in the order of the index.
    pub wanted: &'static [Column],
    pub searched: &'static [&'static str],
    /// The index that is searched by; without one the table has few rows.
    pub index: Option<&'static CStr>,
}

/// What a searched column has to be, all of them texts.
#[derive(Clone, Copy)]
pub enum Is<'a> {
    Text(&'a str),
    Null,
    NotNull,
}

/// The first rows that are found, at most so many. `None`: they have to be read by SQL.
pub fn find<T: FromRow>(
    store: &Store,
    book: &Book,
    keys: &[Is],
    most: usize,
) -> Result<Option<Vec<T>>> {
    // SAFETY: what is opened here is closed again, by Postgres itself where an error ends it.
    unsafe {
        if !direct_access::is_possible() || cluster::is_citus_loaded() || pg_sys::IsInParallelMode()
        {
            return Ok(None);
        }
        let schema = pg_sys::get_namespace_oid(c"credyt".as_ptr(), true);
        let oid = pg_sys::get_relname_relid(book.name.as_ptr(), schema);
        let right = pg_sys::ACL_SELECT as pg_sys::AclMode;
        let user = pg_sys::GetUserId();
        if oid == Oid::INVALID
            || pg_sys::pg_class_aclcheck(oid, user, right) != pg_sys::AclResult::ACLCHECK_OK
        {
            return Ok(None);
        }
        let table = pg_sys::table_open(oid, LOCK);
        let found = match places(table, book) {
            Some((wanted, searched)) => match index(book, schema, oid, &searched) {
                Ok(index) => Some(read(store, table, index, &wanted, &searched, keys, most)),
                Err(NotAsDeclared) => None,
            },
            None => None,
        };
        pg_sys::table_close(table, LOCK);
        found.transpose()
    }
}

const LOCK: i32 = pg_sys::AccessShareLock as i32;

struct NotAsDeclared;

/// Where the columns are, from 1, wanted and searched; `None` where it is no plain table, or has others.
///
/// # Safety
/// The table is open.
unsafe fn places(table: pg_sys::Relation, book: &Book) -> Option<(Vec<usize>, Vec<usize>)> {
    // SAFETY: parts of an open table.
    let (about, columns) = unsafe {
        let columns = PgTupleDesc::from_pg_unchecked((*table).rd_att);
        if !std::ptr::eq((*table).rd_tableam, pg_sys::GetHeapamTableAmRoutine()) {
            return None;
        }
        (&*(*table).rd_rel, columns)
    };
    let is_plain = !about.relrowsecurity && !about.relhasrules && !about.relhassubclass;
    let place = |name: &str, kind: Oid| {
        let is_it = |one: &pg_sys::FormData_pg_attribute| one.name() == name && !one.attisdropped;
        let place = columns.iter().position(is_it)?;
        (columns.get(place)?.atttypid == kind).then_some(place + 1)
    };
    let wanted = book.wanted.iter().map(|one| place(one.name, one.kind));
    let searched = book
        .searched
        .iter()
        .map(|name| place(name, pg_sys::TEXTOID));
    let places = (
        wanted.collect::<Option<_>>()?,
        searched.collect::<Option<_>>()?,
    );
    is_plain.then_some(places)
}

/// The index, which begins with the searched columns; the invalid oid where the table is read as it is.
///
/// # Safety
/// The table is open.
unsafe fn index(
    book: &Book,
    schema: Oid,
    table: Oid,
    searched: &[usize],
) -> std::result::Result<Oid, NotAsDeclared> {
    let Some(name) = book.index else {
        return Ok(Oid::INVALID);
    };
    // SAFETY: parts of an open index. Its lock is kept, since it is opened again to be read.
    unsafe {
        let oid = pg_sys::get_relname_relid(name.as_ptr(), schema);
        if oid == Oid::INVALID || pg_sys::IndexGetRelation(oid, true) != table {
            return Err(NotAsDeclared);
        }
        let index = pg_sys::try_relation_open(oid, LOCK);
        if index.is_null() {
            return Err(NotAsDeclared);
        }
        let about = &*(*index).rd_index;
        let columns = about.indkey.values.as_slice(about.indnkeyatts as usize);
        let begins = columns.iter().map(|column| *column as usize);
        let is_declared = about.indisvalid
            && !about.indcheckxmin
            && (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
            && begins.take(searched.len()).eq(searched.iter().copied())
            && pg_sys::RelationGetIndexPredicate(index).is_null();
        pg_sys::relation_close(index, pg_sys::NoLock as i32);
        match is_declared {
            true => Ok(oid),
            false => Err(NotAsDeclared),
        }
    }
}

/// # Safety
/// The table is open, and has the index.
unsafe fn read<T: FromRow>(
    store: &Store,
    table: pg_sys::Relation,
    index: Oid,
    wanted: &[usize],
    searched: &[usize],
    keys: &[Is],
    most: usize,
) -> Result<Vec<T>> {
    let mut scan_keys: [MaybeUninit<pg_sys::ScanKeyData>; 4] = [const { MaybeUninit::zeroed() }; 4];
    let (flags, equals) = (
        pg_sys::SK_ISNULL as i32,
        pg_sys::BTEqualStrategyNumber as u16,
    );
    let mut found = Vec::new();
    // SAFETY: as every statement of a writer this sees what was committed before it, and what the transaction has
    // written; a reader sees what the calling statement sees. Values are read before the next row is.
    unsafe {
        let mut count = 0;
        for ((to, column), key) in scan_keys.iter_mut().zip(searched).zip(keys) {
            let (flags, strategy, equals, value) = match key {
                Is::Text(text) => (0, equals, pg_sys::F_TEXTEQ, value::text(text)),
                Is::Null => (flags | pg_sys::SK_SEARCHNULL as i32, 0, 0, None),
                Is::NotNull => (flags | pg_sys::SK_SEARCHNOTNULL as i32, 0, 0, None),
            };
            pg_sys::ScanKeyEntryInitialize(
                to.as_mut_ptr(),
                flags,
                *column as pg_sys::AttrNumber,
                strategy,
                Oid::INVALID,
                pg_sys::DEFAULT_COLLATION_OID,
                Oid::from(equals),
                value.unwrap_or(Datum::null()),
            );
            count += 1;
        }
        if store.sees_latest() {
            pg_sys::CommandCounterIncrement();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let snapshot = pg_sys::GetActiveSnapshot();
        let keys = scan_keys.as_mut_ptr().cast();
        let by_index = index != Oid::INVALID;
        let scan = pg_sys::systable_beginscan(table, index, by_index, snapshot, count, keys);
        while found.len() < most {
            interrupt::check();
            let row = pg_sys::systable_getnext(scan);
            if row.is_null() {
                break;
            }
            let value = |column: &usize| -> Value {
                let mut is_null = true;
                let value =
                    pg_sys::heap_getattr(row, *column as i32, (*table).rd_att, &mut is_null);
                (!is_null).then_some(value)
            };
            let values: Vec<Value> = wanted.iter().map(value).collect();
            found.push(read_values(&values));
        }
        pg_sys::systable_endscan(scan);
        if store.sees_latest() {
            pg_sys::PopActiveSnapshot();
        }
    }
    found.into_iter().collect()
}
