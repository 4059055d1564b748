//! `credyt.direct_access_counts()`: how often this session went to a row without SQL, and why not.

use pgrx::pg_sys;

use crate::errors::Result;
use crate::sql_types::row::{self, row};
use crate::sql_types::{Args, value};
use crate::store::direct_access;

pub fn direct_access_counts(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let counts = direct_access::counts().into_iter();
    let count = |(operation, reason, calls): (&str, &str, u64)| {
        row! {
            operation: value::text(operation),
            reason: value::text(reason),
            calls: value::bigint(calls as i64),
        }
    };
    row::rows(args, counts.map(count))
}
