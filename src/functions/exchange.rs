//! Exchange rates: `set_exchange_rate`.

use pgrx::pg_sys;

use crate::errors::{self, Result};
use crate::sql_types::Args;
use crate::store::Store;
use crate::store::assets;
use crate::store::exchange;

pub fn set_exchange_rate(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let currency = read_currency(args, "currency")?;
    let to_currency = read_currency(args, "to_currency")?;
    let rate = args.quantity("rate")?;
    let effective_at = args.optional_moment("effective_at")?;
    if currency == to_currency {
        return Err(errors::invalid(
            "to_currency",
            format_args!("it is {currency} itself"),
        ));
    }
    if rate.is_zero() {
        return Err(errors::invalid("rate", "it is zero"));
    }
    let new = Store::write(|store| {
        let now = assets::now(store)?;
        exchange::set(store, &currency, &to_currency, rate, effective_at, now)
    })?;
    new.into_row()?.datum(args)
}

/// A code of three capital letters.
fn read_currency(args: &Args, name: &str) -> Result<String> {
    let code = args.name(name)?;
    check_currency(name, &code)?;
    Ok(code)
}

pub fn check_currency(name: &str, code: &str) -> Result<()> {
    if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    Err(errors::invalid(
        name,
        format_args!("{code:?} is no code of three capital letters, such as USD"),
    ))
}
