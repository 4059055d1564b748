//! SQL statements with kept plans.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_char};
use std::ptr::NonNull;

use pgrx::pg_sys;

use super::session;
use crate::errors::{self, Result};
use crate::ledger::interrupt;
use crate::sql_types::Args;
use crate::sql_types::value::{self, Value};

pub const TEXT: pg_sys::Oid = pg_sys::TEXTOID;
pub const TEXTS: pg_sys::Oid = pg_sys::TEXTARRAYOID;
pub const INT: pg_sys::Oid = pg_sys::INT4OID;
pub const BIGINT: pg_sys::Oid = pg_sys::INT8OID;
pub const BOOL: pg_sys::Oid = pg_sys::BOOLOID;
pub const TIME: pg_sys::Oid = pg_sys::TIMESTAMPTZOID;
pub const UUID: pg_sys::Oid = pg_sys::UUIDOID;
pub const UUIDS: pg_sys::Oid = pg_sys::UUIDARRAYOID;
pub use super::rows::{FromRow, Reader, Rows, read_values};
pub use super::session::Store;
pub use crate::sql_types::field::WALLET;

/// The rows that one statement writes at most, so that no more of them are in memory twice.
pub const ROWS_AT_ONCE: usize = 10_000;

// Postgres' own receiver of rows for set-returning functions, which pgrx does not declare.
unsafe extern "C-unwind" {
    fn CreateTuplestoreDestReceiver() -> *mut pg_sys::DestReceiver;
    fn SetTuplestoreDestReceiverParams(
        receiver: *mut pg_sys::DestReceiver,
        store: *mut pg_sys::Tuplestorestate,
        memory: pg_sys::MemoryContext,
        detoast: bool,
        target: pg_sys::TupleDesc,
        mismatch: *const c_char,
    );
}

/// A statement and the types of its arguments. Its plan is made at the first use in a backend.
pub struct Statement {
    pub sql: &'static str,
    pub args: &'static [pg_sys::Oid],
}

struct Plan(NonNull<pg_sys::_SPI_plan>);

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: the plan was kept and is freed once.
        unsafe {
            pg_sys::SPI_freeplan(self.0.as_ptr());
        }
    }
}

thread_local! {
    /// Kept plans, by the address of their statement's text, and the installation that they are of.
    static PLANS: RefCell<(u64, HashMap<usize, Plan>)> = RefCell::default();
}

impl Statement {
    /// Runs it with these arguments.
    pub fn run(&self, store: &Store, args: &[Value]) -> Result<Rows> {
        self.execute(args, |plan, values, nulls| {
            // SAFETY: `execute` passes what belongs to the plan.
            unsafe { pg_sys::SPI_execute_plan(plan, values, nulls, store.read_only, 0) }
        })
    }

    /// Reads what is committed by now, also where the transaction sees an older snapshot.
    pub fn run_latest(&self, args: &[Value]) -> Result<Rows> {
        self.execute(args, |plan, values, nulls| {
            // SAFETY: as above; SPI copies the snapshot.
            unsafe {
                let (latest, none) = (pg_sys::GetLatestSnapshot(), std::ptr::null_mut());
                pg_sys::SPI_execute_snapshot(plan, values, nulls, latest, none, true, false, 0)
            }
        })
    }

    fn execute(
        &self,
        args: &[Value],
        execute: impl FnOnce(*mut pg_sys::_SPI_plan, *mut pg_sys::Datum, *const c_char) -> i32,
    ) -> Result<Rows> {
        interrupt::check();
        let plan = self.plan()?;
        let mut values: Vec<pg_sys::Datum> = Vec::with_capacity(args.len());
        let mut nulls: Vec<c_char> = Vec::with_capacity(args.len());
        for arg in args {
            values.push(arg.unwrap_or(pg_sys::Datum::from(0_usize)));
            nulls.push(if arg.is_some() { b' ' } else { b'n' } as c_char);
        }
        if args.len() != self.args.len() {
            return Err(self.broken("a wrong number of arguments"));
        }
        // SAFETY: the plan is kept, SPI is connected, and there are as many values as the plan has
        // arguments.
        unsafe {
            // SPI leaves its own memory current, which goes with the connection.
            let context = pg_sys::CurrentMemoryContext;
            let code = execute(plan.as_ptr(), values.as_mut_ptr(), nulls.as_ptr());
            pg_sys::MemoryContextSwitchTo(context);
            if code < 0 {
                return Err(self.broken("SPI refused it"));
            }
            Ok(Rows::of_spi())
        }
    }

    /// Runs it with a plan made for these arguments: for reports, whose arguments decide what there
    /// is to read at all. Parallel workers may help. Its rows are the answer of the running
    /// set-returning function, column by column.
    pub fn answer(&self, store: &Store, args: &[Value], function: &Args) -> Result<()> {
        // SAFETY: InitMaterializedSRF checks that the caller takes a set and makes the tuplestore,
        // which lives in the memory of the calling query, as does the receiver's.
        unsafe {
            pg_sys::InitMaterializedSRF(function.fcinfo(), 0);
            let info = (*function.fcinfo())
                .resultinfo
                .cast::<pg_sys::ReturnSetInfo>();
            let memory = (*(*info).econtext).ecxt_per_query_memory;
            let receiver = CreateTuplestoreDestReceiver();
            SetTuplestoreDestReceiverParams(
                receiver,
                (*info).setResult,
                memory,
                false,
                (*info).setDesc,
                c"the library and the SQL objects are of different versions".as_ptr(),
            );
            self.plan_and_run(store, args, receiver)?;
            if let Some(destroy) = (*receiver).rDestroy {
                destroy(receiver);
            }
        }
        Ok(())
    }

    /// Runs it with a plan made for these arguments.
    pub fn run_once(&self, store: &Store, args: &[Value]) -> Result<Rows> {
        // SAFETY: without a receiver SPI makes a table of the rows.
        unsafe { self.plan_and_run(store, args, std::ptr::null_mut()) }
    }

    /// # Safety
    /// `receiver` is null or takes rows.
    unsafe fn plan_and_run(
        &self,
        store: &Store,
        args: &[Value],
        receiver: *mut pg_sys::DestReceiver,
    ) -> Result<Rows> {
        if args.len() != self.args.len() {
            return Err(self.broken("a wrong number of arguments"));
        }
        let sql = CString::new(self.sql).map_err(|_| self.broken("it holds a NUL"))?;
        // SAFETY: SPI is connected; the list has as many parameters as are written to it.
        unsafe {
            let context = pg_sys::CurrentMemoryContext;
            let params = pg_sys::makeParamList(args.len() as i32);
            let slots = (*params).params.as_mut_ptr();
            for (at, (arg, kind)) in args.iter().zip(self.args).enumerate() {
                *slots.add(at) = pg_sys::ParamExternData {
                    value: arg.unwrap_or(pg_sys::Datum::from(0_usize)),
                    isnull: arg.is_none(),
                    pflags: pg_sys::PARAM_FLAG_CONST as u16,
                    ptype: *kind,
                };
            }
            let options = pg_sys::SPIExecuteOptions {
                params,
                read_only: store.read_only,
                dest: receiver,
                ..Default::default()
            };
            let code = pg_sys::SPI_execute_extended(sql.as_ptr(), &options);
            pg_sys::MemoryContextSwitchTo(context);
            if code < 0 {
                return Err(self.broken("SPI refused it"));
            }
            Ok(Rows::of_spi())
        }
    }

    fn plan(&self) -> Result<NonNull<pg_sys::_SPI_plan>> {
        let key = self.sql.as_ptr() as usize;
        let kept = PLANS.with_borrow_mut(|(of, plans)| {
            if *of != session::installation() {
                *of = session::installation();
                plans.clear();
            }
            plans.get(&key).map(|plan| plan.0)
        });
        if let Some(plan) = kept {
            return Ok(plan);
        }
        let sql = CString::new(self.sql).map_err(|_| self.broken("it holds a NUL"))?;
        let mut types = self.args.to_vec();
        for kind in types.iter_mut().filter(|kind| **kind == WALLET) {
            *kind = wallet_type().ok_or_else(|| self.broken("credyt.wallet is no type"))?;
        }
        // One generic plan is kept for the life of the backend: keys decide every statement, so no argument would
        // make a better one. Citus has to see the arguments to find the shard.
        let options = match session::is_distributed() {
            true => 0,
            false => pg_sys::CURSOR_OPT_GENERIC_PLAN,
        };
        // SAFETY: SPI is connected.
        let plan = unsafe {
            let context = pg_sys::CurrentMemoryContext;
            let plan = pg_sys::SPI_prepare_cursor(
                sql.as_ptr(),
                types.len() as i32,
                types.as_mut_ptr(),
                options as i32,
            );
            let plan = NonNull::new(plan).ok_or_else(|| self.broken("it cannot be planned"))?;
            pg_sys::SPI_keepplan(plan.as_ptr());
            pg_sys::MemoryContextSwitchTo(context);
            plan
        };
        PLANS.with_borrow_mut(|(_, plans)| plans.insert(key, Plan(plan)));
        Ok(plan)
    }

    fn broken(&self, why: &str) -> errors::Error {
        errors::corrupted("the installation", format_args!("{why}: {}", self.sql))
    }
}

/// A statement that `query!` declares, with its arguments.
pub trait Query {
    type Values: AsRef<[Value]>;

    fn statement(&self) -> &'static Statement;

    fn values(&self) -> Result<Self::Values>;

    fn run(&self, store: &Store) -> Result<Rows> {
        self.statement().run(store, self.values()?.as_ref())
    }

    /// As `Statement::run_once`.
    fn run_once(&self, store: &Store) -> Result<Rows> {
        self.statement().run_once(store, self.values()?.as_ref())
    }

    /// As `Statement::answer`.
    fn answer(&self, store: &Store, function: &Args) -> Result<()> {
        let values = self.values()?;
        self.statement().answer(store, values.as_ref(), function)
    }
}

pub(super) fn wallet_type() -> Option<pg_sys::Oid> {
    // SAFETY: looks up the schema and a type in it.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"credyt".as_ptr(), true);
        let found = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
            1,
            pg_sys::Datum::from(c"wallet".as_ptr()),
            pg_sys::Datum::from(schema),
            pg_sys::Datum::from(0_usize),
            pg_sys::Datum::from(0_usize),
        );
        (found != pg_sys::InvalidOid).then_some(found)
    }
}

/// Rows for a statement that takes an array for each column.
pub struct Columns {
    kinds: &'static [pg_sys::Oid],
    columns: Vec<Vec<Value>>,
}

impl Columns {
    /// Columns of these types.
    pub fn new(kinds: &'static [pg_sys::Oid]) -> Columns {
        Columns {
            kinds,
            columns: vec![Vec::new(); kinds.len()],
        }
    }

    /// One more row.
    pub fn push(&mut self, row: Vec<Value>) {
        for (column, value) in self.columns.iter_mut().zip(row) {
            column.push(value);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many rows there are.
    pub fn count(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// The arguments. A column of NULLs alone is no array at all: to unnest it costs nothing.
    pub fn args(&self) -> Vec<Value> {
        let array = |(kind, values): (&pg_sys::Oid, &Vec<Value>)| {
            let some = values.iter().any(Option::is_some);
            some.then(|| value::array(*kind, values)).flatten()
        };
        self.kinds.iter().zip(&self.columns).map(array).collect()
    }
}
