//! Several servers: `distribute`.

use pgrx::pg_sys;

use crate::errors::{self, Result};
use crate::sql_types::{Args, value};
use crate::store::{Store, access, cluster};

/// Citus makes no more shards of one table at once.
const MOST_SHARDS: i32 = 1024;

pub fn distribute(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let shards = args.int("shards")?;
    if !(1..=MOST_SHARDS).contains(&shards) {
        let why = format_args!("{shards} is not from 1 to {MOST_SHARDS}");
        return Err(errors::invalid("shards", why));
    }
    let tables = Store::write(|store| {
        cluster::check_cluster(store)?;
        let tables = cluster::distribute(store, shards)?;
        for (role, what) in access::everyone_allowed(store)? {
            access::grant(store, &role, what, true)?;
        }
        Ok(tables)
    })?;
    Ok(value::int(i32::try_from(tables).unwrap_or(i32::MAX)))
}
