//! The sections of direct access: what `direct_access` does with a wallet's row, by the functions of its
//! table's access method, as the executor calls them. All `unsafe` of it is here. Its rules:
//!
//! - One guard (`pg_guard_ffi_boundary`) around a section, whose functions are declared in `server` without
//!   guards of their own. An error of Postgres leaves a section by longjmp: nothing in it has a destructor.
//! - What a section opens it closes on every way out. After an error Postgres closes it: all of it belongs
//!   to the resource owner, the snapshots and the memory of the (sub)transaction.
//! - Nothing that a section opens outlives it: the row is found again, by its place, when it is written.
//! - Structs of the server are made by the server (slots, states of the executor and of indexes), for their
//!   sizes change in minor releases. Scan keys and TM_FailureData are the caller's, by the interface of
//!   every access method.

use std::mem::MaybeUninit;
use std::ptr::null_mut;

use pgrx::pg_sys::{self, Datum, Oid};

use super::direct_access::{Table, Way, still_plain};
use super::table::place;
use super::wallets::{Found, WalletRow};
use crate::errors::Result;
use crate::ledger::Moment;
use crate::sql_types::field::FromColumn;
use crate::sql_types::value::{self, TablePlace, Value};

/// Where columns are, from 0: `direct_access` sees that the table has those that are declared.
const CUSTOMER: usize = place(WalletRow::DECLARED, "customer");
const ASSET: usize = place(WalletRow::DECLARED, "asset");
const NEXT_DUE_AT: usize = place(WalletRow::DECLARED, "next_due_at");
const OVERDRAFT_LIMIT: usize = place(WalletRow::DECLARED, "overdraft_limit");
const STATUS: usize = place(WalletRow::DECLARED, "status");
const STATE: usize = place(WalletRow::DECLARED, "state");
const COLUMNS: usize = WalletRow::DECLARED.len();

const NONE: Datum = Datum::null();

/// A wallet's row, locked. It was copied into the memory of the call.
pub struct Row {
    state: Datum,
    next_due_at: Value,
    overdraft_limit: Datum,
    status: Datum,
    place: TablePlace,
}

impl Row {
    pub fn found(&self) -> Result<Found> {
        Ok(Found {
            state: FromColumn::from_value(Some(self.state))?,
            next_due_at: FromColumn::from_value(self.next_due_at)?,
            status: FromColumn::from_value(Some(self.status))?,
            overdraft_limit: FromColumn::from_value(Some(self.overdraft_limit))?,
            ctid: self.place,
        })
    }
}

/// Locks a wallet's newest row, where no other session has it.
pub fn lock(table: Table, customer: &str, asset: &str) -> (Way, Option<Row>) {
    let keys = [value::text(customer), value::text(asset)].map(|key| key.unwrap_or(NONE));
    let mut row = MaybeUninit::uninit();
    // SAFETY: a section, with texts as keys; it fills in the row where it says `Direct`.
    unsafe {
        let way = pg_sys::ffi::pg_guard_ffi_boundary(|| lock_row(table, &keys, &mut row));
        (way, (way == Way::Direct).then(|| row.assume_init()))
    }
}

/// Writes the row at this place, which this transaction has locked.
pub fn update(
    table: Table,
    place: TablePlace,
    keys: [&str; 2],
    state: &[u8],
    next_due_at: Option<Moment>,
) -> Way {
    let mut new = New {
        values: [NONE; COLUMNS],
        nulls: [false; COLUMNS],
        changed: [false; COLUMNS],
    };
    new.set(STATE, value::bytes(state));
    new.set(NEXT_DUE_AT, value::optional_moment(next_due_at));
    // SAFETY: a section, with the place of a locked row.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| update_row(table, place, keys, &new)) }
}

const LOCK_MODE: i32 = pg_sys::RowExclusiveLock as i32;
/// A lock is kept until the transaction ends.
const KEEP: i32 = pg_sys::NoLock as i32;

/// The new version of a row needs no entries in indexes.
#[cfg(feature = "pg15")]
const NO_INDEXES: bool = false;
#[cfg(not(feature = "pg15"))]
const NO_INDEXES: pg_sys::TU_UpdateIndexes::Type = pg_sys::TU_UpdateIndexes::TU_None;

/// What is written into a row.
struct New {
    values: [Datum; COLUMNS],
    nulls: [bool; COLUMNS],
    changed: [bool; COLUMNS],
}

impl New {
    fn set(&mut self, column: usize, value: Value) {
        self.values[column] = value.unwrap_or(NONE);
        self.nulls[column] = value.is_none();
        self.changed[column] = true;
    }
}

/// Opens the table, and sees what its locks let this transaction see.
///
/// # Safety
/// In a section.
unsafe fn open(table: Table) -> std::result::Result<pg_sys::Relation, Way> {
    // SAFETY: the table is closed again where it is of no use.
    unsafe {
        if server::IsInParallelMode() {
            return Err(Way::Parallel);
        }
        // As before every statement: what this transaction has written so far is to be seen.
        server::CommandCounterIncrement();
        let wallets = server::try_table_open(table.wallets, LOCK_MODE);
        if wallets.is_null() {
            return Err(Way::Table);
        }
        // It may have changed until it was locked.
        let needed = (pg_sys::ACL_SELECT | pg_sys::ACL_UPDATE) as pg_sys::AclMode;
        let all = pg_sys::AclMaskHow::ACLMASK_ALL;
        let way = if !still_plain(table) {
            Way::Table
        } else if server::pg_class_aclmask(table.wallets, server::GetUserId(), needed, all)
            != needed
        {
            Way::Permission
        } else {
            server::PushActiveSnapshot(server::GetTransactionSnapshot());
            return Ok(wallets);
        };
        server::table_close(wallets, KEEP);
        Err(way)
    }
}

/// # Safety
/// In a section; with what `open` returned.
unsafe fn close(wallets: pg_sys::Relation) {
    // SAFETY: as `open` left it.
    unsafe {
        server::PopActiveSnapshot();
        server::table_close(wallets, KEEP);
    }
}

/// # Safety
/// In a section; the keys are texts.
unsafe fn lock_row(table: Table, keys: &[Datum; 2], row: &mut MaybeUninit<Row>) -> Way {
    // SAFETY: every call gets what the one before it made; the key's index has these two texts.
    unsafe {
        let wallets = match open(table) {
            Ok(wallets) => wallets,
            Err(way) => return way,
        };
        let index = server::index_open(table.key, LOCK_MODE);
        let mut scan_keys = MaybeUninit::<[pg_sys::ScanKeyData; 2]>::uninit();
        let scan_key = scan_keys.as_mut_ptr().cast::<pg_sys::ScanKeyData>();
        for (at, key) in keys.iter().enumerate() {
            server::ScanKeyEntryInitialize(
                scan_key.add(at),
                0,
                at as pg_sys::AttrNumber + 1,
                pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                Oid::INVALID,
                pg_sys::DEFAULT_COLLATION_OID,
                Oid::from(pg_sys::F_TEXTEQ),
                *key,
            );
        }
        let snapshot = server::GetActiveSnapshot();
        #[cfg(feature = "pg18")]
        let scan = server::index_beginscan(wallets, index, snapshot, null_mut(), 2, 0);
        #[cfg(not(feature = "pg18"))]
        let scan = server::index_beginscan(wallets, index, snapshot, 2, 0);
        server::index_rescan(scan, scan_key, 2, null_mut(), 0);
        let slot = server::table_slot_create(wallets, null_mut());
        let way =
            if !server::index_getnext_slot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot)
            {
                Way::Missing
            } else {
                lock_in(wallets, snapshot, slot, row)
            };
        server::ExecDropSingleTupleTableSlot(slot);
        server::index_endscan(scan);
        server::index_close(index, KEEP);
        close(wallets);
        way
    }
}

/// # Safety
/// In a section; the slot has a row of the table.
unsafe fn lock_in(
    wallets: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    slot: *mut pg_sys::TupleTableSlot,
    row: &mut MaybeUninit<Row>,
) -> Way {
    // SAFETY: the table has the declared columns; what is kept of them is copied.
    unsafe {
        let Some(tuple_lock) = (*(*wallets).rd_tableam).tuple_lock else {
            return Way::Unexpected;
        };
        let mut failure = MaybeUninit::<pg_sys::TM_FailureData>::uninit();
        let result = tuple_lock(
            wallets,
            &raw mut (*slot).tts_tid,
            snapshot,
            slot,
            server::GetCurrentCommandId(true),
            pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
            pg_sys::LockWaitPolicy::LockWaitSkip,
            0,
            failure.as_mut_ptr(),
        );
        match result {
            pg_sys::TM_Result::TM_Ok => {}
            pg_sys::TM_Result::TM_Updated
            | pg_sys::TM_Result::TM_Deleted
            | pg_sys::TM_Result::TM_WouldBlock => return Way::Contended,
            _ => return Way::Unexpected,
        }
        server::slot_getsomeattrs_int(slot, COLUMNS as i32);
        let values = (*slot).tts_values;
        let copy = |column: usize| {
            Datum::from(server::pg_detoast_datum_copy(
                (*values.add(column)).cast_mut_ptr(),
            ))
        };
        let due = !*(*slot).tts_isnull.add(NEXT_DUE_AT);
        row.write(Row {
            state: copy(STATE),
            next_due_at: due.then(|| *values.add(NEXT_DUE_AT)),
            overdraft_limit: copy(OVERDRAFT_LIMIT),
            status: copy(STATUS),
            place: *(&raw const (*slot).tts_tid).cast::<TablePlace>(),
        });
        Way::Direct
    }
}

/// # Safety
/// In a section; the place is that of a row of the table that this transaction has locked.
unsafe fn update_row(table: Table, place: TablePlace, keys: [&str; 2], new: &New) -> Way {
    // SAFETY: every call gets what the one before it made.
    unsafe {
        let wallets = match open(table) {
            Ok(wallets) => wallets,
            Err(way) => return way,
        };
        server::CheckCmdReplicaIdentity(wallets, pg_sys::CmdType::CMD_UPDATE);
        let slot = server::table_slot_create(wallets, null_mut());
        let way = update_in(wallets, place, keys, new, slot);
        server::ExecDropSingleTupleTableSlot(slot);
        close(wallets);
        if way == Way::Direct {
            server::CommandCounterIncrement();
        }
        way
    }
}

/// # Safety
/// As `update_row`; the slot is one of the table.
unsafe fn update_in(
    wallets: pg_sys::Relation,
    place: TablePlace,
    keys: [&str; 2],
    new: &New,
    slot: *mut pg_sys::TupleTableSlot,
) -> Way {
    // SAFETY: a place has the bytes of an ItemPointerData. The slot is the table's, which makes it one
    // of heap tuples; the executor's state and that of the indexes are made and freed by the server.
    unsafe {
        let access = &*(*wallets).rd_tableam;
        let (Some(fetch), Some(tuple_update)) =
            (access.tuple_fetch_row_version, access.tuple_update)
        else {
            return Way::Unexpected;
        };
        let mut tid = MaybeUninit::<pg_sys::ItemPointerData>::uninit();
        tid.as_mut_ptr().cast::<TablePlace>().write(place);
        let snapshot = server::GetActiveSnapshot();
        if !fetch(wallets, tid.as_mut_ptr(), snapshot, slot) {
            return Way::Written;
        }
        server::slot_getsomeattrs_int(slot, COLUMNS as i32);
        let is = |column: usize, text: &str| {
            let datum = (*(*slot).tts_values.add(column)).cast_mut_ptr();
            let known = server::pg_detoast_datum_packed(datum);
            pgrx::varlena::varlena_to_byte_slice(known) == text.as_bytes()
        };
        if !is(CUSTOMER, keys[0]) || !is(ASSET, keys[1]) {
            return Way::Unexpected;
        }
        let mut free = false;
        let old = server::ExecFetchSlotHeapTuple(slot, false, &mut free);
        let tuple = server::heap_modify_tuple(
            old,
            (*wallets).rd_att,
            new.values.as_ptr(),
            new.nulls.as_ptr(),
            new.changed.as_ptr(),
        );
        server::ExecForceStoreHeapTuple(tuple, slot, true);
        let mut failure = MaybeUninit::<pg_sys::TM_FailureData>::uninit();
        let mut mode = 0;
        let mut indexes = NO_INDEXES;
        let result = tuple_update(
            wallets,
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
            let state = server::CatalogOpenIndexes(wallets);
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

/// The server's functions, without a guard around each.
mod server {
    use pgrx::pg_sys::{
        AclMaskHow, AclMode, AttrNumber, CatalogIndexState, CmdType, CommandId, Datum, EState,
        HeapTuple, IndexScanDesc, List, Oid, RegProcedure, Relation, ScanKey, Snapshot,
        StrategyNumber, TupleDesc, TupleTableSlot, varlena,
    };

    #[allow(clashing_extern_declarations)]
    unsafe extern "C-unwind" {
        pub fn CommandCounterIncrement();
        pub fn GetCurrentCommandId(used: bool) -> CommandId;
        pub fn IsInParallelMode() -> bool;
        pub fn GetUserId() -> Oid;
        pub fn pg_class_aclmask(
            table: Oid,
            role: Oid,
            mask: AclMode,
            how: AclMaskHow::Type,
        ) -> AclMode;
        pub fn CheckCmdReplicaIdentity(table: Relation, command: CmdType::Type);
        pub fn GetTransactionSnapshot() -> Snapshot;
        pub fn PushActiveSnapshot(snapshot: Snapshot);
        pub fn GetActiveSnapshot() -> Snapshot;
        pub fn PopActiveSnapshot();
        pub fn try_table_open(table: Oid, mode: i32) -> Relation;
        pub fn table_close(table: Relation, mode: i32);
        pub fn index_open(index: Oid, mode: i32) -> Relation;
        pub fn index_close(index: Relation, mode: i32);
        pub fn ScanKeyEntryInitialize(
            entry: ScanKey,
            flags: i32,
            column: AttrNumber,
            strategy: StrategyNumber,
            subtype: Oid,
            collation: Oid,
            procedure: RegProcedure,
            argument: Datum,
        );
        #[cfg(feature = "pg18")]
        pub fn index_beginscan(
            table: Relation,
            index: Relation,
            snapshot: Snapshot,
            instrument: *mut pgrx::pg_sys::IndexScanInstrumentation,
            keys: i32,
            order_by: i32,
        ) -> IndexScanDesc;
        #[cfg(not(feature = "pg18"))]
        pub fn index_beginscan(
            table: Relation,
            index: Relation,
            snapshot: Snapshot,
            keys: i32,
            order_by: i32,
        ) -> IndexScanDesc;
        pub fn index_rescan(
            scan: IndexScanDesc,
            keys: ScanKey,
            count: i32,
            order_by: ScanKey,
            order_by_count: i32,
        );
        pub fn index_getnext_slot(
            scan: IndexScanDesc,
            direction: i32,
            slot: *mut TupleTableSlot,
        ) -> bool;
        pub fn index_endscan(scan: IndexScanDesc);
        pub fn table_slot_create(table: Relation, list: *mut *mut List) -> *mut TupleTableSlot;
        pub fn ExecDropSingleTupleTableSlot(slot: *mut TupleTableSlot);
        pub fn slot_getsomeattrs_int(slot: *mut TupleTableSlot, count: i32);
        pub fn pg_detoast_datum_copy(datum: *mut varlena) -> *mut varlena;
        pub fn pg_detoast_datum_packed(datum: *mut varlena) -> *mut varlena;
        pub fn ExecFetchSlotHeapTuple(
            slot: *mut TupleTableSlot,
            materialize: bool,
            free: *mut bool,
        ) -> HeapTuple;
        pub fn heap_modify_tuple(
            tuple: HeapTuple,
            columns: TupleDesc,
            values: *const Datum,
            nulls: *const bool,
            changed: *const bool,
        ) -> HeapTuple;
        pub fn ExecForceStoreHeapTuple(tuple: HeapTuple, slot: *mut TupleTableSlot, free: bool);
        pub fn CreateExecutorState() -> *mut EState;
        pub fn FreeExecutorState(state: *mut EState);
        pub fn CatalogOpenIndexes(table: Relation) -> CatalogIndexState;
        pub fn CatalogCloseIndexes(state: CatalogIndexState);
        #[cfg(feature = "pg15")]
        pub fn ExecInsertIndexTuples(
            table: CatalogIndexState,
            slot: *mut TupleTableSlot,
            executor: *mut EState,
            update: bool,
            no_error: bool,
            conflict: *mut bool,
            arbiters: *mut List,
        ) -> *mut List;
        #[cfg(not(feature = "pg15"))]
        pub fn ExecInsertIndexTuples(
            table: CatalogIndexState,
            slot: *mut TupleTableSlot,
            executor: *mut EState,
            update: bool,
            no_error: bool,
            conflict: *mut bool,
            arbiters: *mut List,
            only_summarizing: bool,
        ) -> *mut List;
    }
}
