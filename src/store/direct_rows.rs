//! The sections of direct access: what `direct_access` does with rows, by the functions of a table's access
//! method and of the executor. All `unsafe` of it is here. Its rules:
//!
//! - One guard (`pg_guard_ffi_boundary`) around a section, whose functions are declared in `server` without
//!   guards of their own. An error of Postgres leaves a section by longjmp: nothing in it has a destructor.
//! - What a section opens it closes on every way out. After an error Postgres closes it: all of it belongs
//!   to the resource owner, the snapshots and the memory of the (sub)transaction.
//! - Nothing that a section opens outlives it: a row is found again, by its place, when it is written.
//! - Structs of the server are made by the server (slots, states of the executor and of indexes), for their
//!   sizes change in minor releases. Scan keys and TM_FailureData are the caller's, by the interface of
//!   every access method.

use std::mem::MaybeUninit;
use std::panic::AssertUnwindSafe;
use std::ptr::null_mut;

use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{PgSqlErrorCode, PgTryBuilder};
use uuid::Uuid;

use super::direct_way::Way;
use super::server;
use super::shape::{Table, is_unchanged};
use super::statement::{BIGINT, BOOL, INT, TIME, UUID};
use crate::sql_types::value::{self, TablePlace, Value};

/// A part of the key that a row is found by.
#[derive(Clone, Copy)]
pub enum KeyPart<'a> {
    Text(&'a str),
    Id(Uuid),
}

impl KeyPart<'_> {
    fn datum(self) -> Datum {
        match self {
            KeyPart::Text(text) => value::text(text),
            KeyPart::Id(id) => value::uuid(id),
        }
        .unwrap_or(Datum::null())
    }
}

/// The values of the columns that were asked for, in their order, in the memory of the call; and the row's
/// place.
pub struct Row {
    pub values: Vec<Value>,
    pub place: TablePlace,
}

/// What came of inserting rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    Done,
    /// The key is taken, and nothing was written.
    KeyTaken,
    /// Another transaction took the key of the row at this place at the same moment. Postgres has raised this:
    /// the call has to fail, and must not write any more.
    Conflict(usize),
}

/// Finds a row as it is now by the two columns of the primary key, the first of the table. `lock`: where no
/// other session has it.
pub fn find(table: Table, keys: &[KeyPart; 2], wanted: &[usize], lock: bool) -> (Way, Option<Row>) {
    let mut read = Read {
        wanted,
        nulls: vec![true; wanted.len()],
        values: vec![Datum::null(); wanted.len()],
        place: TablePlace::default(),
    };
    let keys = keys.map(|key| (key, key.datum()));
    // SAFETY: a section; the keys have the types of the columns.
    let way =
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| find_row(table, &keys, lock, &mut read)) };
    let values = read.values.into_iter().zip(read.nulls);
    let row = Row {
        values: values
            .map(|(value, null)| (!null).then_some(value))
            .collect(),
        place: read.place,
    };
    (way, (way == Way::Direct).then_some(row))
}

/// Writes these columns of the row at this place, which `find` has found: no other session may write it.
pub fn update(
    table: Table,
    place: TablePlace,
    keys: &[KeyPart; 2],
    changes: &[(usize, Value)],
) -> Way {
    let columns = table.types.len();
    let mut new = New {
        values: vec![Datum::null(); columns],
        nulls: vec![false; columns],
        changed: vec![false; columns],
    };
    for (column, value) in changes {
        new.values[*column] = value.unwrap_or(Datum::null());
        new.nulls[*column] = value.is_none();
        new.changed[*column] = true;
    }
    // SAFETY: a section.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| update_row(table, place, keys, &new)) }
}

/// Inserts rows of all columns. `key`: the two columns of the unique index of keys, which are looked up first; without
/// it no key of the rows is known to be taken.
pub fn insert(
    table: Table,
    rows: &[impl AsRef<[Value]>],
    key: Option<[&str; 2]>,
) -> (Way, Option<Inserted>) {
    let key = key.map(|key| key.map(|text| (KeyPart::Text(text), KeyPart::Text(text).datum())));
    let mut done = 0;
    // SAFETY: a section, with as many values in each row as the table has columns.
    let section = AssertUnwindSafe(|| unsafe {
        let section = || insert_rows(table, rows, key.as_ref(), &mut done);
        Some(pg_sys::ffi::pg_guard_ffi_boundary(section))
    });
    let inserted = PgTryBuilder::new(section)
        .catch_when(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION, |_| None)
        .execute();
    inserted.unwrap_or((Way::Direct, Some(Inserted::Conflict(done))))
}

const LOCK_MODE: i32 = pg_sys::RowExclusiveLock as i32;
/// A lock is kept until the transaction ends.
const KEEP: i32 = pg_sys::NoLock as i32;

/// The new version of a row needs no entries in indexes.
#[cfg(feature = "pg15")]
const NO_INDEXES: bool = false;
#[cfg(not(feature = "pg15"))]
const NO_INDEXES: pg_sys::TU_UpdateIndexes::Type = pg_sys::TU_UpdateIndexes::TU_None;

/// What is written into a row, column by column.
struct New {
    values: Vec<Datum>,
    nulls: Vec<bool>,
    changed: Vec<bool>,
}

/// What is read of a row.
struct Read<'a> {
    wanted: &'a [usize],
    values: Vec<Datum>,
    nulls: Vec<bool>,
    place: TablePlace,
}

/// A key's part, and its datum.
type ScanPart<'a> = (KeyPart<'a>, Datum);

/// Opens the table, and sees what its locks let this transaction see.
///
/// # Safety
/// In a section.
unsafe fn open(table: Table, rights: u32) -> std::result::Result<pg_sys::Relation, Way> {
    // SAFETY: the table is closed again where it is of no use.
    unsafe {
        if server::IsInParallelMode() {
            return Err(Way::Parallel);
        }
        // As before every statement: what this transaction has written so far is to be seen.
        server::CommandCounterIncrement();
        let relation = server::try_table_open(table.relation, LOCK_MODE);
        if relation.is_null() {
            return Err(Way::Table);
        }
        // It may have changed until it was locked.
        let needed = (pg_sys::ACL_SELECT | rights) as pg_sys::AclMode;
        let all = pg_sys::AclMaskHow::ACLMASK_ALL;
        let way = if !is_unchanged(table) {
            Way::Table
        } else if server::pg_class_aclmask(table.relation, server::GetUserId(), needed, all)
            != needed
        {
            Way::Permission
        } else {
            server::PushActiveSnapshot(server::GetTransactionSnapshot());
            return Ok(relation);
        };
        server::table_close(relation, KEEP);
        Err(way)
    }
}

/// # Safety
/// In a section; with what `open` returned.
unsafe fn close(relation: pg_sys::Relation) {
    // SAFETY: as `open` left it.
    unsafe {
        server::PopActiveSnapshot();
        server::table_close(relation, KEEP);
    }
}

/// Searches an index for a row that the active snapshot sees; then `found` gets it, in a slot.
///
/// # Safety
/// In a section; the first two columns of the index have the types of the keys.
unsafe fn search(
    relation: pg_sys::Relation,
    index: Oid,
    keys: &[ScanPart; 2],
    found: impl FnOnce(*mut pg_sys::TupleTableSlot) -> Way,
) -> Way {
    // SAFETY: every call gets what the one before it made.
    unsafe {
        let index = server::index_open(index, LOCK_MODE);
        let mut scan_keys = MaybeUninit::<[pg_sys::ScanKeyData; 2]>::uninit();
        let scan_key = scan_keys.as_mut_ptr().cast::<pg_sys::ScanKeyData>();
        for (at, (part, datum)) in keys.iter().enumerate() {
            let (collation, equals) = match part {
                KeyPart::Text(_) => (pg_sys::DEFAULT_COLLATION_OID, pg_sys::F_TEXTEQ),
                KeyPart::Id(_) => (Oid::INVALID, pg_sys::F_UUID_EQ),
            };
            server::ScanKeyEntryInitialize(
                scan_key.add(at),
                0,
                at as pg_sys::AttrNumber + 1,
                pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                Oid::INVALID,
                collation,
                Oid::from(equals),
                *datum,
            );
        }
        let snapshot = server::GetActiveSnapshot();
        #[cfg(feature = "pg18")]
        let scan = server::index_beginscan(relation, index, snapshot, null_mut(), 2, 0);
        #[cfg(not(feature = "pg18"))]
        let scan = server::index_beginscan(relation, index, snapshot, 2, 0);
        server::index_rescan(scan, scan_key, 2, null_mut(), 0);
        let slot = server::table_slot_create(relation, null_mut());
        let forward = pg_sys::ScanDirection::ForwardScanDirection;
        let way = match server::index_getnext_slot(scan, forward, slot) {
            true => found(slot),
            false => Way::Missing,
        };
        server::ExecDropSingleTupleTableSlot(slot);
        server::index_endscan(scan);
        server::index_close(index, KEEP);
        way
    }
}

/// # Safety
/// In a section; the keys have the types of the primary key's columns.
unsafe fn find_row(table: Table, keys: &[ScanPart; 2], lock: bool, read: &mut Read) -> Way {
    // SAFETY: as above.
    unsafe {
        let rights = if lock { pg_sys::ACL_UPDATE } else { 0 };
        let relation = match open(table, rights) {
            Ok(relation) => relation,
            Err(way) => return way,
        };
        let way = search(relation, table.key, keys, |slot| {
            let way = if lock {
                lock_in(relation, slot)
            } else {
                Way::Direct
            };
            if way == Way::Direct {
                read_in(table, slot, read);
            }
            way
        });
        close(relation);
        way
    }
}

/// # Safety
/// In a section; the slot has a row of the table.
unsafe fn lock_in(relation: pg_sys::Relation, slot: *mut pg_sys::TupleTableSlot) -> Way {
    // SAFETY: the row is the one that the active snapshot sees.
    unsafe {
        let Some(tuple_lock) = (*(*relation).rd_tableam).tuple_lock else {
            return Way::Unexpected;
        };
        let mut failure = MaybeUninit::<pg_sys::TM_FailureData>::uninit();
        let result = tuple_lock(
            relation,
            &raw mut (*slot).tts_tid,
            server::GetActiveSnapshot(),
            slot,
            server::GetCurrentCommandId(true),
            pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
            pg_sys::LockWaitPolicy::LockWaitSkip,
            0,
            failure.as_mut_ptr(),
        );
        match result {
            pg_sys::TM_Result::TM_Ok => Way::Direct,
            pg_sys::TM_Result::TM_Updated
            | pg_sys::TM_Result::TM_Deleted
            | pg_sys::TM_Result::TM_WouldBlock => Way::Contended,
            _ => Way::Unexpected,
        }
    }
}

/// Copies what is wanted.
///
/// # Safety
/// In a section; the slot has a row of the table.
unsafe fn read_in(table: Table, slot: *mut pg_sys::TupleTableSlot, read: &mut Read) {
    // SAFETY: the wanted columns are among those of the table.
    unsafe {
        server::slot_getsomeattrs_int(slot, table.types.len() as i32);
        for (at, column) in read.wanted.iter().enumerate() {
            if *(*slot).tts_isnull.add(*column) {
                continue;
            }
            let value = *(*slot).tts_values.add(*column);
            read.nulls[at] = false;
            read.values[at] = match table.types[*column] {
                BOOL | INT | BIGINT | TIME => value,
                UUID => server::datumCopy(value, false, size_of::<Uuid>() as i32),
                _ => Datum::from(server::pg_detoast_datum_copy(value.cast_mut_ptr())),
            };
        }
        read.place = *(&raw const (*slot).tts_tid).cast::<TablePlace>();
    }
}

/// # Safety
/// In a section; the place is that of a row of the table that no other session may write.
unsafe fn update_row(table: Table, place: TablePlace, keys: &[KeyPart; 2], new: &New) -> Way {
    // SAFETY: every call gets what the one before it made.
    unsafe {
        let relation = match open(table, pg_sys::ACL_UPDATE) {
            Ok(relation) => relation,
            Err(way) => return way,
        };
        server::CheckCmdReplicaIdentity(relation, pg_sys::CmdType::CMD_UPDATE);
        let slot = server::table_slot_create(relation, null_mut());
        let way = update_in(relation, place, keys, new, slot);
        server::ExecDropSingleTupleTableSlot(slot);
        close(relation);
        if way == Way::Direct {
            server::CommandCounterIncrement();
        }
        way
    }
}

/// # Safety
/// As `update_row`; the slot is one of the table.
unsafe fn update_in(
    relation: pg_sys::Relation,
    place: TablePlace,
    keys: &[KeyPart; 2],
    new: &New,
    slot: *mut pg_sys::TupleTableSlot,
) -> Way {
    // SAFETY: a place has the bytes of an ItemPointerData. The slot is the table's, which makes it one
    // of heap tuples; the executor's state and that of the indexes are made and freed by the server.
    unsafe {
        let access = &*(*relation).rd_tableam;
        let (Some(fetch), Some(tuple_update)) =
            (access.tuple_fetch_row_version, access.tuple_update)
        else {
            return Way::Unexpected;
        };
        let mut tid = MaybeUninit::<pg_sys::ItemPointerData>::uninit();
        tid.as_mut_ptr().cast::<TablePlace>().write(place);
        let snapshot = server::GetActiveSnapshot();
        if !fetch(relation, tid.as_mut_ptr(), snapshot, slot) {
            return Way::Written;
        }
        server::slot_getsomeattrs_int(slot, new.values.len() as i32);
        for (column, key) in keys.iter().enumerate() {
            let datum = *(*slot).tts_values.add(column);
            let is_same = match key {
                KeyPart::Text(text) => {
                    let known = server::pg_detoast_datum_packed(datum.cast_mut_ptr());
                    pgrx::varlena::varlena_to_byte_slice(known) == text.as_bytes()
                }
                KeyPart::Id(id) => *datum.cast_mut_ptr::<[u8; 16]>() == *id.as_bytes(),
            };
            if !is_same {
                return Way::Unexpected;
            }
        }
        let mut free = false;
        let old = server::ExecFetchSlotHeapTuple(slot, false, &mut free);
        let tuple = server::heap_modify_tuple(
            old,
            (*relation).rd_att,
            new.values.as_ptr(),
            new.nulls.as_ptr(),
            new.changed.as_ptr(),
        );
        server::ExecForceStoreHeapTuple(tuple, slot, true);
        let mut failure = MaybeUninit::<pg_sys::TM_FailureData>::uninit();
        let mut mode = 0;
        let mut indexes = NO_INDEXES;
        let result = tuple_update(
            relation,
            tid.as_mut_ptr(),
            slot,
            server::GetCurrentCommandId(true),
            snapshot,
            null_mut(),
            true,
            failure.as_mut_ptr(),
            &mut mode,
            &mut indexes,
        );
        if result != pg_sys::TM_Result::TM_Ok {
            return Way::Unexpected;
        }
        if indexes != NO_INDEXES {
            let executor = server::CreateExecutorState();
            let state = server::CatalogOpenIndexes(relation);
            let (none, no_list) = (null_mut(), null_mut());
            #[cfg(feature = "pg15")]
            server::ExecInsertIndexTuples(state, slot, executor, true, false, none, no_list);
            #[cfg(not(feature = "pg15"))]
            server::ExecInsertIndexTuples(
                state,
                slot,
                executor,
                true,
                false,
                none,
                no_list,
                indexes == pg_sys::TU_UpdateIndexes::TU_Summarizing,
            );
            server::CatalogCloseIndexes(state);
            server::FreeExecutorState(executor);
        }
        Way::Direct
    }
}

/// # Safety
/// In a section; each row has as many values as the table has columns, of their types.
unsafe fn insert_rows(
    table: Table,
    rows: &[impl AsRef<[Value]>],
    key: Option<&[ScanPart; 2]>,
    done: &mut usize,
) -> (Way, Option<Inserted>) {
    // SAFETY: every call gets what the one before it made. The server checks constraints, and makes the entries
    // in indexes. The slot is cleared of one row before it gets the next.
    unsafe {
        let relation = match open(table, pg_sys::ACL_INSERT) {
            Ok(relation) => relation,
            Err(way) => return (way, None),
        };
        let taken = |key| search(relation, table.unique, key, |_| Way::Direct) == Way::Direct;
        if key.is_some_and(taken) {
            close(relation);
            return (Way::Direct, Some(Inserted::KeyTaken));
        }
        let slot = server::table_slot_create(relation, null_mut());
        let Some(clear) = (*(*slot).tts_ops).clear else {
            server::ExecDropSingleTupleTableSlot(slot);
            close(relation);
            return (Way::Unexpected, None);
        };
        let executor = server::CreateExecutorState();
        let state = server::CatalogOpenIndexes(relation);
        for row in rows {
            // By a jump, as every error in a section: `interrupt::check` would unwind.
            if (&raw const pg_sys::InterruptPending).read_volatile() != 0 {
                server::ProcessInterrupts();
            }
            for (at, value) in row.as_ref().iter().enumerate() {
                *(*slot).tts_values.add(at) = value.unwrap_or(Datum::null());
                *(*slot).tts_isnull.add(at) = value.is_none();
            }
            server::ExecStoreVirtualTuple(slot);
            server::ExecSimpleRelationInsert(state, executor, slot);
            clear(slot);
            *done += 1;
        }
        server::CatalogCloseIndexes(state);
        server::FreeExecutorState(executor);
        server::ExecDropSingleTupleTableSlot(slot);
        close(relation);
        server::CommandCounterIncrement();
        (Way::Direct, Some(Inserted::Done))
    }
}
