//! Triggers: facts stay as they are, but for what is erased, and what backends remember is announced
//! when it changes.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::errors::{self, Result};
use crate::sql_types::Args;
use crate::store::{Store, cache_epoch, cluster, erasure, plans};

/// Refuses UPDATE, DELETE and TRUNCATE with WC012, but for the UPDATEs of an erasure.
pub fn refuse_change(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let trigger = trigger(args)?;
    let table = table_name(trigger)?;
    let operation = match trigger.tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
        pg_sys::TRIGGER_EVENT_DELETE => "DELETE",
        pg_sys::TRIGGER_EVENT_TRUNCATE => "TRUNCATE",
        _ => "UPDATE",
    };
    let is_permitted = operation != "DELETE" && erasure::permits(table)
        || operation == "UPDATE"
            // No call of ours may have begun.
            && Store::read(|_| Ok(cluster::is_distributed()))?
            && erasure::blanks(table, &updated_columns(trigger));
    match is_permitted {
        // A BEFORE trigger of a statement returns nothing.
        true => Ok(Some(pg_sys::Datum::from(0_usize))),
        false => Err(errors::append_only(table, operation)),
    }
}

/// Tells every backend to look at this table again.
pub fn announce_change(args: &Args) -> Result<Option<pg_sys::Datum>> {
    cache_epoch::announce(table_name(trigger(args)?)?);
    // An AFTER trigger returns nothing.
    Ok(Some(pg_sys::Datum::from(0_usize)))
}

/// Says of new versions of plans when they are committed: from then on renewals are on them.
pub fn commit_plans(args: &Args) -> Result<Option<pg_sys::Datum>> {
    trigger(args)?;
    Store::write(plans::commit_versions)?;
    // An AFTER trigger returns nothing.
    Ok(Some(pg_sys::Datum::from(0_usize)))
}

fn trigger<'a>(args: &'a Args) -> Result<&'a pg_sys::TriggerData> {
    // SAFETY: Postgres passes a TriggerData as context exactly when it calls a trigger.
    unsafe {
        let context = (*args.fcinfo()).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            return Err(errors::invalid("trigger", "this is a trigger function"));
        }
        Ok(&*context.cast::<pg_sys::TriggerData>())
    }
}

/// The names of the columns that the trigger's UPDATE sets.
fn updated_columns(trigger: &pg_sys::TriggerData) -> Vec<&str> {
    let mut columns = Vec::new();
    let mut member = -1;
    loop {
        // SAFETY: of a statement's trigger Postgres says which columns it sets, NULL being none of them; a table has a
        // name for each.
        let name = unsafe {
            member = pg_sys::bms_next_member(trigger.tg_updatedcols, member);
            if member < 0 {
                return columns;
            }
            let column = member + pg_sys::FirstLowInvalidHeapAttributeNumber;
            CStr::from_ptr(pg_sys::get_attname(
                (*trigger.tg_relation).rd_id,
                column as i16,
                false,
            ))
        };
        columns.push(name.to_str().unwrap_or_default());
    }
}

/// The name of the trigger's table: its argument, since a shard has another name than the table it is part of.
fn table_name(trigger: &pg_sys::TriggerData) -> Result<&str> {
    // SAFETY: a trigger has a description, which has as many arguments as it says.
    let name = unsafe {
        let description = &*trigger.tg_trigger;
        (description.tgnargs > 0).then(|| CStr::from_ptr(*description.tgargs))
    };
    let missing = || errors::invalid("trigger", "its argument is the name of its table");
    name.and_then(|name| name.to_str().ok()).ok_or_else(missing)
}
