//! Rows that a statement returned, read column after column.

use pgrx::pg_sys;

use crate::errors::{self, Result};
use crate::ledger::interrupt::checked;
use crate::sql_types::field::FromColumn;
use crate::sql_types::value::Value;

/// What a statement returned. It lives as long as the connection.
pub struct Rows {
    table: *mut pg_sys::SPITupleTable,
    processed: usize,
}

impl Rows {
    /// Of the statement that SPI has just run. A PL handler or a trigger may use SPI too, so they are taken at once.
    pub(super) fn of_spi() -> Rows {
        // SAFETY: reads variables of the backend.
        unsafe {
            Rows {
                table: pg_sys::SPI_tuptable,
                // More rows than memory holds do not come back.
                processed: pg_sys::SPI_processed as usize,
            }
        }
    }

    /// How many rows were returned, or written.
    pub fn count(&self) -> usize {
        self.processed
    }

    pub fn iter(&self) -> impl Iterator<Item = RowRef<'_>> {
        checked(0..self.processed).map(|at| RowRef { rows: self, at })
    }

    pub fn first(&self) -> Option<RowRef<'_>> {
        self.iter().next()
    }

    /// The first row, read; `None` where there is none.
    pub fn read_first<T: FromRow>(&self) -> Result<Option<T>> {
        self.first().map(|row| row.read()).transpose()
    }

    /// The one row that there always is.
    pub fn read_one<T: FromRow>(&self) -> Result<T> {
        let none = || errors::corrupted("a statement", "it returned no row");
        self.read_first()?.ok_or_else(none)
    }

    pub fn read_all<T: FromRow, C: FromIterator<T>>(&self) -> Result<C> {
        self.iter().map(|row| row.read()).collect()
    }
}

/// One row of a result.
pub struct RowRef<'a> {
    rows: &'a Rows,
    at: usize,
}

impl RowRef<'_> {
    /// All its columns, in their order: into a declared row, a value, or a tuple of such.
    pub fn read<T: FromRow>(&self) -> Result<T> {
        let mut reader = Reader::new(Source::Row(self));
        let read = T::from_row(&mut reader)?;
        match reader.read == self.width() {
            true => Ok(read),
            false => Err(errors::corrupted("a row", "it has other columns")),
        }
    }

    fn width(&self) -> usize {
        // SAFETY: SPI made the table with its descriptor.
        unsafe { (*(*self.rows.table).tupdesc).natts as usize }
    }

    /// Columns count from 1.
    fn value(&self, column: usize) -> Value {
        let mut is_null = true;
        // SAFETY: SPI made the table with `processed` rows; SPI_getbinval checks the column.
        let datum = unsafe {
            let table = self.rows.table.as_ref()?;
            let tuple = *table.vals.add(self.at);
            pg_sys::SPI_getbinval(tuple, table.tupdesc, column as i32, &mut is_null)
        };
        if is_null { None } else { Some(datum) }
    }
}

/// A row that is being read, column after column.
pub struct Reader<'a> {
    source: Source<'a>,
    read: usize,
}

enum Source<'a> {
    Row(&'a RowRef<'a>),
    Values(&'a [Value]),
}

impl<'a> Reader<'a> {
    fn new(source: Source<'a>) -> Reader<'a> {
        Reader { source, read: 0 }
    }

    pub fn next<T: FromColumn>(&mut self) -> Result<T> {
        self.read += 1;
        T::from_value(match self.source {
            Source::Row(row) => row.value(self.read),
            Source::Values(values) => values.get(self.read - 1).copied().flatten(),
        })
    }
}

/// Reads what a row's columns have been read to.
pub fn read_values<T: FromRow>(values: &[Value]) -> Result<T> {
    T::from_row(&mut Reader::new(Source::Values(values)))
}

/// What some columns of a row, one after another, are read into.
pub trait FromRow: Sized {
    fn from_row(row: &mut Reader) -> Result<Self>;
}

impl<T: FromColumn> FromRow for T {
    fn from_row(row: &mut Reader) -> Result<T> {
        row.next()
    }
}

impl<A: FromRow, B: FromRow> FromRow for (A, B) {
    fn from_row(row: &mut Reader) -> Result<(A, B)> {
        Ok((A::from_row(row)?, B::from_row(row)?))
    }
}
