//! Rows that a function returns.

use pgrx::{PgTupleDesc, pg_sys};

use super::value::Value;
use super::{Args, Scratch};
use crate::errors::{self, Result};
use crate::ledger::interrupt::checked;

/// A row of the composite type that the running function is declared to return. Its columns are found
/// by name.
pub struct Row(Vec<(&'static str, Value)>);

/// A row by its columns: `row! { customer: value::text(&customer), ... }`.
macro_rules! row {
    ($($name:ident: $value:expr),* $(,)?) => {
        $crate::sql_types::Row::new(vec![
            $((const { $crate::sql_types::row::plain(stringify!($name)) }, $value)),*
        ])
    };
}

pub(crate) use row;

/// A name as SQL has it: without what Rust puts before its own words.
pub const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

impl Row {
    pub fn new(columns: Vec<(&'static str, Value)>) -> Row {
        Row(columns)
    }

    /// With the columns of another one.
    pub fn and(mut self, other: Row) -> Row {
        self.0.extend(other.0);
        self
    }

    /// The datum to return from the function.
    pub fn datum(self, args: &Args) -> Result<Option<pg_sys::Datum>> {
        // SAFETY: the tuple descriptor is that of the declared result type, pinned while it is used;
        // its columns are those of the row. Their types are compared by the test that calls every
        // function.
        unsafe {
            let function = (*(*args.fcinfo()).flinfo).fn_oid;
            let desc = pg_sys::lookup_rowtype_tupdesc(pg_sys::get_func_rettype(function), -1);
            let columns = self.columns(desc);
            let formed = columns.map(|(mut values, mut nulls)| {
                let tuple = pg_sys::heap_form_tuple(desc, values.as_mut_ptr(), nulls.as_mut_ptr());
                pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
            });
            if (*desc).tdrefcount >= 0 {
                pg_sys::DecrTupleDescRefCount(desc);
            }
            formed.map(Some)
        }
    }

    /// The values and NULLs for a row of this description. A column of the description that is not named,
    /// or the other way round, is an installation that does not fit the library.
    ///
    /// # Safety
    /// `desc` is a tuple descriptor.
    unsafe fn columns(self, desc: pg_sys::TupleDesc) -> Result<(Vec<pg_sys::Datum>, Vec<bool>)> {
        let misfit = || {
            errors::corrupted(
                "the installation",
                "the library and the SQL objects are of different versions; run ALTER EXTENSION credyt_pg UPDATE",
            )
        };
        // SAFETY: the caller's descriptor is there as long as this is.
        let desc = unsafe { PgTupleDesc::from_pg_unchecked(desc) };
        let is_at = |name: &str, at: usize| desc.get(at).is_some_and(|one| is_named(one, name));
        if desc.len() != self.0.len() {
            return Err(misfit());
        }
        let mut values = vec![pg_sys::Datum::from(0_usize); desc.len()];
        let mut nulls = vec![true; desc.len()];
        for (at, (name, value)) in self.0.into_iter().enumerate() {
            let place = match is_at(name, at) {
                true => at,
                false => (0..desc.len())
                    .find(|place| is_at(name, *place))
                    .ok_or_else(misfit)?,
            };
            if let (Some(value), Some(to), Some(null)) =
                (value, values.get_mut(place), nulls.get_mut(place))
            {
                (*to, *null) = (value, false);
            }
        }
        Ok((values, nulls))
    }
}

fn is_named(attribute: &pg_sys::FormData_pg_attribute, name: &str) -> bool {
    let known = &attribute.attname.data;
    // SAFETY: letters of C are bytes.
    let known = unsafe { std::slice::from_raw_parts(known.as_ptr().cast::<u8>(), known.len()) };
    known.starts_with(name.as_bytes()) && known.get(name.len()) == Some(&0)
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
            let (mut values, mut nulls) = row?.columns((*info).setDesc)?;
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
