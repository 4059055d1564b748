//! What is left of a customer who is gone, and whether it is as it was: `erase_customer`, `ledger_hash`.

use pgrx::pg_sys;

use crate::errors::{self, Result};
use crate::sql_types::Args;
use crate::sql_types::args::required;
use crate::store::{Store, assets, erasure};

pub fn erase_customer(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let reason = required("reason", args.text("reason")?)?;
    if reason.trim().is_empty() {
        return Err(errors::invalid("reason", "it is empty"));
    }
    let erased = Store::write(|store| erasure::erase(store, &customer, &reason))?;
    erased.into_row()?.datum(args)
}

pub fn ledger_hash(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let asset = args.optional_name("asset")?;
    let through = args.optional_bigint("through")?;
    if let Some(through) = through.filter(|through| *through < 1) {
        return Err(errors::invalid(
            "through",
            format_args!("{through} is less than 1"),
        ));
    }
    let contents = args.bool("contents")?;
    Store::read(|store| {
        if let Some(asset) = &asset {
            assets::asset(store, asset)?;
        }
        erasure::hash(store, &customer, asset.as_deref(), through, contents, args)
    })?;
    Ok(None)
}
