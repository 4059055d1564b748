//! Rows that a function returns.

use pgrx::pg_sys;

use super::value::Value;
use super::{Args, Scratch};
use crate::errors::{self, Result};
use crate::ledger::interrupt::checked;

/// A row of the composite type that the running function is declared to return.
pub struct Row(Vec<Value>);

impl Row {
    pub fn new(values: Vec<Value>) -> Row {
        Row(values)
    }

    /// The datum to return from the function.
    pub fn datum(self, args: &Args) -> Result<Option<pg_sys::Datum>> {
        // SAFETY: the tuple descriptor is that of the declared result type, pinned while it is used;
        // the number of columns is compared before they are read. Their types are compared by the
        // test that calls every function.
        unsafe {
            let function = (*(*args.fcinfo()).flinfo).fn_oid;
            let desc = pg_sys::lookup_rowtype_tupdesc(pg_sys::get_func_rettype(function), -1);
            let (mut values, mut nulls) = self.columns((*desc).natts)?;
            let tuple = pg_sys::heap_form_tuple(desc, values.as_mut_ptr(), nulls.as_mut_ptr());
            let datum = pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data);
            if (*desc).tdrefcount >= 0 {
                pg_sys::DecrTupleDescRefCount(desc);
            }
            Ok(Some(datum))
        }
    }

    fn columns(self, expected: i32) -> Result<(Vec<pg_sys::Datum>, Vec<bool>)> {
        if self.0.len() != expected as usize {
            return Err(errors::corrupted(
                "the installation",
                "the library and the SQL objects are of different versions; run ALTER EXTENSION credyt_pg UPDATE",
            ));
        }
        Ok(self
            .0
            .into_iter()
            .map(|v| (v.unwrap_or(pg_sys::Datum::from(0_usize)), v.is_none()))
            .unzip())
    }
}

/// Returns rows from a set-returning function. What is made for a row as it comes is given back after
/// it.
pub fn rows(args: &Args, rows: impl IntoIterator<Item = Row>) -> Result<Option<pg_sys::Datum>> {
    try_rows(args, rows.into_iter().map(Ok))
}

/// The same where a row may not come about.
pub fn try_rows(
    args: &Args,
    rows: impl IntoIterator<Item = Result<Row>>,
) -> Result<Option<pg_sys::Datum>> {
    // SAFETY: InitMaterializedSRF checks that the caller takes a set and makes the tuplestore and
    // the descriptor of the declared type that the rows are put with.
    unsafe {
        pg_sys::InitMaterializedSRF(args.fcinfo(), 0);
        let info = (*args.fcinfo()).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        let scratch = Scratch::new();
        for row in checked(rows) {
            let (mut values, mut nulls) = row?.columns((*(*info).setDesc).natts)?;
            pg_sys::tuplestore_putvalues(
                (*info).setResult,
                (*info).setDesc,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            scratch.reset();
        }
    }
    Ok(None)
}
