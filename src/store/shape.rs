//! What a table is like now, read from what Postgres keeps of every open table: for `direct_access`, which
//! knows what it has to be like. Not by SQL, which takes longer to plan than the first debit of a session.

use std::cell::Cell;
use std::ffi::{CStr, CString};

use pgrx::PgTupleDesc;
use pgrx::pg_sys::{self, Oid};

use super::cluster;
use super::server;
use super::statement::{WALLET, wallet_type};
use super::table::Column;

/// A table of which rows are reached directly, and what it has to be like.
pub struct DirectTable {
    /// Its place among those that a backend remembers.
    pub(super) nth: usize,
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
    pub(super) types: &'static [Oid],
    pub(super) not_null: &'static [&'static str],
    /// A trigger that fires on an UPDATE matters, too.
    pub(super) is_updated: bool,
    /// In the order of their names, as `shape` prints them.
    pub(super) indexes: &'static [&'static str],
}

/// A table as it was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Table {
    pub relation: Oid,
    /// The index of its primary key.
    pub key: Oid,
    /// The unique index of its idempotency keys, where it has one.
    pub unique: Oid,
    pub types: &'static [Oid],
    nth: usize,
    pub is_declared: bool,
}

const TABLES: usize = 3;

thread_local! {
    /// Each until the relation cache hears that it, or one of its indexes, has changed.
    static KNOWN: [Cell<Option<Table>>; TABLES] = const { [const { Cell::new(None) }; TABLES] };
    /// What the relation cache has heard.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// What a table is like. Where an index changes while it is looked at, the next call looks again.
pub fn known(table: &'static DirectTable) -> Option<Table> {
    let known = || KNOWN.with(|known| known.get(table.nth).and_then(Cell::get));
    if known().is_none() {
        if !LISTENING.replace(true) {
            // SAFETY: a callback that outlives the backend's need of it.
            unsafe {
                pg_sys::CacheRegisterRelcacheCallback(Some(changed), pg_sys::Datum::from(0_usize));
            }
        }
        let changes = CHANGES.get();
        let seen = look(table);
        if CHANGES.get() == changes {
            KNOWN.with(|known| known.get(table.nth).map(|known| known.set(seen)));
        }
    }
    known()
}

/// Whether the table, now that it is locked, is still what it was when it was looked at.
pub fn is_unchanged(table: Table) -> bool {
    KNOWN.with(|known| known.get(table.nth).and_then(Cell::get)) == Some(table)
}

/// Postgres calls this for every change of any table or index; the invalid oid stands for all of them.
unsafe extern "C-unwind" fn changed(_: pg_sys::Datum, relation: Oid) {
    CHANGES.set(CHANGES.get() + 1);
    let is_about =
        |table: Table| [Oid::INVALID, table.relation, table.key, table.unique].contains(&relation);
    KNOWN.with(|known| {
        for table in known
            .iter()
            .filter(|known| known.get().is_some_and(is_about))
        {
            table.set(None);
        }
    });
}

/// Looks at a table, which stays locked as by a statement that writes. `None`: there is no such table.
fn look(table: &DirectTable) -> Option<Table> {
    let name = CString::new(table.name).ok()?;
    let mode = pg_sys::RowExclusiveLock as i32;
    // SAFETY: lookups by name; what is opened is closed again, by Postgres itself where an error ends it.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"credyt".as_ptr(), true);
        let relation = pg_sys::get_relname_relid(name.as_ptr(), schema);
        let opened = pg_sys::try_table_open(relation, mode);
        if opened.is_null() {
            return None;
        }
        let mut seen = Table {
            relation,
            key: Oid::INVALID,
            unique: Oid::INVALID,
            types: table.types,
            nth: table.nth,
            is_declared: is_plain(opened, table.is_updated) && has_columns(opened, table),
        };
        let mut indexes = indexes(opened, table, &mut seen);
        indexes.sort_unstable();
        let made = indexes.iter().map(|(_, made)| made.as_str());
        seen.is_declared &= made.eq(table.indexes.iter().copied());
        pg_sys::table_close(opened, pg_sys::NoLock as i32);
        Some(seen)
    }
}

/// A heap of this server on which nothing acts but what writes to it.
///
/// # Safety
/// The table is open.
unsafe fn is_plain(table: pg_sys::Relation, is_updated: bool) -> bool {
    // SAFETY: parts of an open table, which are there or null.
    unsafe {
        let about = &*(*table).rd_rel;
        let triggers = (*table).trigdesc.as_ref();
        let fires = triggers.is_some_and(|triggers| {
            let triggers =
                std::slice::from_raw_parts(triggers.triggers, triggers.numtriggers as usize);
            let on_insert = |kind: i16| kind & pg_sys::TRIGGER_TYPE_INSERT as i16 != 0;
            let on_update = |kind: i16| kind & pg_sys::TRIGGER_TYPE_UPDATE as i16 != 0;
            (triggers.iter())
                .any(|one| on_insert(one.tgtype) || is_updated && on_update(one.tgtype))
        });
        let constraints = (*(*table).rd_att).constr.as_ref();
        about.relkind == pg_sys::RELKIND_RELATION as std::ffi::c_char
            && about.relpersistence == pg_sys::RELPERSISTENCE_PERMANENT as std::ffi::c_char
            && std::ptr::eq((*table).rd_tableam, pg_sys::GetHeapamTableAmRoutine())
            && !about.relrowsecurity
            && !about.relforcerowsecurity
            && !about.relhasrules
            && !about.relhassubclass
            && !about.relispartition
            && about.reloftype == Oid::INVALID
            && !server::has_superclass((*table).rd_id)
            && !fires
            && constraints.is_none_or(|constraints| constraints.num_check == 0)
            && pg_sys::RelationGetFKeyList(table).is_null()
            && !cluster::is_citus_loaded()
    }
}

/// Whether it has the declared columns, of the declared types, and no others.
///
/// # Safety
/// The table is open.
unsafe fn has_columns(opened: pg_sys::Relation, table: &DirectTable) -> bool {
    // SAFETY: the description is there as long as the table is open.
    let columns = unsafe { PgTupleDesc::from_pg_unchecked((*opened).rd_att) };
    let declared = table.columns.iter().zip(table.types);
    columns.len() == table.columns.len()
        && columns.iter().zip(declared).all(|(found, (column, kind))| {
            let kind = match *kind {
                WALLET => wallet_type().unwrap_or(Oid::INVALID),
                kind => kind,
            };
            // SAFETY: a lookup by a type's oid.
            let collation = unsafe { pg_sys::get_typcollation(kind) };
            found.name() == column.name
                && found.atttypid == kind
                && found.atttypmod == -1
                && found.attcollation == collation
                && found.attnotnull == table.not_null.contains(&column.name)
                && found.attgenerated == 0
                && found.attidentity == 0
                && !found.atthasdef
                && !found.attisdropped
        })
}

/// How each of its indexes is made, by name; the two that rows are found by are put down.
///
/// # Safety
/// The table is open.
unsafe fn indexes(
    opened: pg_sys::Relation,
    table: &DirectTable,
    seen: &mut Table,
) -> Vec<(String, String)> {
    let unique = format!("{}_key", table.name);
    let mut made = Vec::new();
    // SAFETY: each index of the list is open while it is looked at.
    unsafe {
        let list = pg_sys::RelationGetIndexList(opened);
        let cells = list.as_ref().map(|list| (list.elements, list.length));
        let cells = cells.map(|(cells, count)| std::slice::from_raw_parts(cells, count as usize));
        for cell in cells.unwrap_or_default() {
            let oid = cell.oid_value;
            let index = pg_sys::index_open(oid, pg_sys::AccessShareLock as i32);
            let name = named(&(*(*index).rd_rel).relname);
            if (*(*index).rd_index).indisprimary {
                seen.key = oid;
            }
            if name == unique {
                seen.unique = oid;
            }
            let how = how_made(opened, index, &name);
            pg_sys::index_close(index, pg_sys::NoLock as i32);
            made.push((name, how));
        }
    }
    made
}

/// The families of operators of our indexes: B-trees, and the last two BRIN. Their oids never change.
const FAMILIES: [(u32, &str); 5] = [
    (1994, "text_ops"),
    (2968, "uuid_ops"),
    (434, "datetime_ops"),
    (4605, "datetime_minmax_multi_ops"),
    (4059, "datetime_minmax_ops"),
];

/// How an index is made: what decides which entries a row gets, and what they keep from being there twice.
/// By its parts, since `pg_get_indexdef` takes as long as a whole debit.
///
/// # Safety
/// Both are open.
unsafe fn how_made(table: pg_sys::Relation, index: pg_sys::Relation, name: &str) -> String {
    // SAFETY: parts of an open index; there is one of each for every column of its key.
    unsafe {
        let about = &*(*index).rd_index;
        let columns = PgTupleDesc::from_pg_unchecked((*table).rd_att);
        let places = about.indkey.values.as_slice(about.indnatts as usize);
        let column = |(at, place): (usize, &i16)| {
            let found = usize::try_from(*place - 1)
                .ok()
                .and_then(|at| columns.get(at));
            let name = found.map_or("an expression", |found| found.name());
            if at >= about.indnkeyatts as usize {
                return format!("with {name}");
            }
            let family = (*(*index).rd_opfamily.add(at)).to_u32();
            let known = FAMILIES.iter().find(|(oid, _)| *oid == family);
            let family = known.map_or("other_ops", |(_, name)| name);
            let collation = found.map_or(Oid::INVALID, |found| found.attcollation);
            let is_other = *(*index).rd_indoption.add(at) != 0
                || *(*index).rd_indcollation.add(at) != collation;
            format!(
                "{name} {family}{}",
                if is_other { " otherwise" } else { "" }
            )
        };
        let columns: Vec<String> = places.iter().enumerate().map(column).collect();
        let what = match (about.indisprimary, about.indisunique) {
            (true, _) => "primary key ",
            (_, true) => "unique ",
            _ => "",
        };
        let predicate = match pg_sys::RelationGetIndexPredicate(index) {
            none if none.is_null() => String::new(),
            some => {
                let name = (*(*table).rd_rel).relname.data.as_ptr();
                let context = pg_sys::deparse_context_for(name, (*table).rd_id);
                let all = pg_sys::make_ands_explicit(some).cast();
                let text = pg_sys::deparse_expression(all, context, false, false);
                format!(" where {}", CStr::from_ptr(text).to_string_lossy())
            }
        };
        let usable = about.indisvalid
            && about.indisready
            && about.indislive
            && about.indimmediate
            && !about.indisexclusion;
        let usable = if usable { "" } else { " unusable" };
        format!("{name}: {what}{}{predicate}{usable}", columns.join(", "))
    }
}

fn named(name: &pg_sys::NameData) -> String {
    // SAFETY: a name ends with a NUL.
    let name = unsafe { CStr::from_ptr(name.data.as_ptr()) };
    name.to_string_lossy().into_owned()
}
