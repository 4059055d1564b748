//! The type `credyt.wallet`: its text, its bytes, and what can be read off one state.

use std::ffi::CString;

use pgrx::pg_sys;

use crate::errors::{self, Result};
use crate::ledger::{Amount, Wallet, packed, text};
use crate::sql_types::{Args, value};
use crate::store::wallets::read_state;

type DatumResult = Result<Option<pg_sys::Datum>>;

/// The text form, read.
pub fn input(args: &Args) -> DatumResult {
    let wallet = text::parse(&args.cstring("text")?).map_err(errors::not_a_wallet)?;
    Ok(value::bytes(&packed::pack(&wallet)))
}

/// The text form, printed.
pub fn output(args: &Args) -> DatumResult {
    let text = CString::new(text::print(&state(args)?)).map_err(errors::not_a_wallet)?;
    // SAFETY: copies a C string into the caller's memory context.
    Ok(Some(unsafe { pg_sys::pstrdup(text.as_ptr()) }.into()))
}

/// The binary form from a client: the packed bytes.
pub fn receive(args: &Args) -> DatumResult {
    // SAFETY: a receive function gets a StringInfo with the message; all of it is taken.
    let bytes = unsafe {
        let buffer = args.internal::<pg_sys::StringInfoData>("message")?;
        let length = (*buffer).len - (*buffer).cursor;
        let start = pg_sys::pq_getmsgbytes(buffer, length);
        std::slice::from_raw_parts(start.cast::<u8>(), length as usize)
    };
    packed::unpack(bytes).map_err(errors::not_a_wallet)?;
    Ok(value::bytes(bytes))
}

/// The binary form for a client: the packed bytes.
pub fn send(args: &Args) -> DatumResult {
    Ok(value::bytes(args.bytes("wallet")?))
}

/// The wallet of packed bytes, checked.
pub fn pack(args: &Args) -> DatumResult {
    let bytes = args.bytes("bytes")?;
    packed::unpack(bytes).map_err(errors::not_a_wallet)?;
    Ok(value::bytes(bytes))
}

/// The wallet as jsonb.
pub fn unpack(args: &Args) -> DatumResult {
    Ok(value::jsonb(&text::print(&state(args)?)))
}

pub fn changed_at(args: &Args) -> DatumResult {
    Ok(value::moment(state(args)?.changed_at))
}

pub fn seq(args: &Args) -> DatumResult {
    Ok(value::bigint(state(args)?.seq as i64))
}

pub fn next_due(args: &Args) -> DatumResult {
    Ok(value::optional_moment(state(args)?.next_due()))
}

pub fn settled(args: &Args) -> DatumResult {
    Ok(value::credits(state(args)?.settled(args.moment("at")?)))
}

pub fn held(args: &Args) -> DatumResult {
    Ok(value::credits(state(args)?.held()))
}

pub fn available(args: &Args) -> DatumResult {
    let limit = args.amount("overdraft_limit", crate::ledger::amount::DECIMALS)?;
    let available: Amount = state(args)?.available(args.moment("at")?, None, limit);
    Ok(value::credits(available))
}

pub fn owed(args: &Args) -> DatumResult {
    Ok(value::credits(state(args)?.owed))
}

pub fn next_expiry(args: &Args) -> DatumResult {
    Ok(value::optional_moment(
        state(args)?.next_expiry(args.moment("at")?),
    ))
}

fn state(args: &Args) -> Result<Wallet> {
    read_state(args.bytes("state")?)
}
