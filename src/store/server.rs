//! Functions of the server that `direct_rows` calls in its sections, declared without a guard around each.

use pgrx::pg_sys::{
    AclMaskHow, AclMode, AttrNumber, CatalogIndexState, CmdType, CommandId, Datum, EState,
    HeapTuple, IndexScanDesc, List, Oid, RegProcedure, Relation, ScanKey, Snapshot, StrategyNumber,
    TupleDesc, TupleTableSlot, varlena,
};

#[allow(clashing_extern_declarations)]
unsafe extern "C-unwind" {
    pub fn CommandCounterIncrement();
    pub fn GetCurrentCommandId(used: bool) -> CommandId;
    pub fn IsInParallelMode() -> bool;
    pub fn has_superclass(table: Oid) -> bool;
    pub fn GetUserId() -> Oid;
    pub fn pg_class_aclmask(table: Oid, role: Oid, mask: AclMode, how: AclMaskHow::Type)
    -> AclMode;
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
    pub fn ExecStoreVirtualTuple(slot: *mut TupleTableSlot) -> *mut TupleTableSlot;
    pub fn ExecSimpleRelationInsert(
        table: CatalogIndexState,
        executor: *mut EState,
        slot: *mut TupleTableSlot,
    );
    pub fn datumCopy(value: Datum, by_value: bool, length: i32) -> Datum;
    pub fn ProcessInterrupts();
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
