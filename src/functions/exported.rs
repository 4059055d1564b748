//! The functions as Postgres calls them: exported under their names, guarded, with what the call is about in every error.

use pgrx::pg_sys;

use crate::errors::{RaisedError, Result};
use crate::sql_types::Args;
use crate::store::signatures;

type Body = fn(&Args) -> Result<Option<pg_sys::Datum>>;

/// Runs the body of a SQL function.
///
/// # Safety
/// To be called by Postgres' function manager only.
pub unsafe fn call(fcinfo: pg_sys::FunctionCallInfo, body: Body) -> pg_sys::Datum {
    // SAFETY: fcinfo is Postgres'.
    unsafe {
        guarded(fcinfo, |args| {
            body(args).map_err(|error| error.about(args.subject()))
        })
    }
}

/// Runs the body of a SQL function's jsonb form, its arguments by name.
///
/// # Safety
/// To be called by Postgres' function manager only.
pub unsafe fn call_by_name(
    fcinfo: pg_sys::FunctionCallInfo,
    symbol: &'static str,
    body: Body,
) -> pg_sys::Datum {
    // SAFETY: fcinfo is Postgres'.
    unsafe {
        guarded(fcinfo, |args| {
            let request = args.request()?;
            let signature = signatures::of(symbol.trim_start_matches("credyt_"))?;
            let args = args.by_name(&request, &signature)?;
            body(&args).map_err(|error| error.about(args.subject()))
        })
    }
}

/// An error becomes Postgres' error; a panic becomes XX000.
unsafe fn guarded(
    fcinfo: pg_sys::FunctionCallInfo,
    body: impl Fn(&Args) -> Result<Option<pg_sys::Datum>>
    + std::panic::UnwindSafe
    + std::panic::RefUnwindSafe,
) -> pg_sys::Datum {
    // SAFETY: this is the outermost frame of ours. Everything the body owned is dropped when the
    // guard returns; `RaisedError` owns nothing that has to be dropped.
    unsafe {
        let outcome = pg_sys::submodules::panic::pgrx_extern_c_guard(|| {
            body(&Args::new(fcinfo)).map_err(RaisedError::from)
        });
        match outcome {
            Ok(Some(datum)) => datum,
            Ok(None) => {
                (*fcinfo).isnull = true;
                pg_sys::Datum::from(0_usize)
            }
            Err(raised) => raised.raise(),
        }
    }
}

/// Exports functions to Postgres under the names that `sql/schema/*.sql` gives them. Those of
/// `customer` are exported a second time, as `..._request`: the jsonb form.
macro_rules! sql_functions {
    (customer { $($both:literal => $of_customer:path;)* } $($symbol:literal => $body:path;)*) => {
        $(
            $crate::functions::exported::sql_function!($both, |fcinfo| $crate::functions::exported::call(fcinfo, $of_customer));
            $crate::functions::exported::sql_function!(concat!($both, "_request"), |fcinfo| {
                $crate::functions::exported::call_by_name(fcinfo, $both, $of_customer)
            });
        )*
        $($crate::functions::exported::sql_function!($symbol, |fcinfo| $crate::functions::exported::call(fcinfo, $body));)*
    };
}

macro_rules! sql_function {
    ($symbol:expr, |$fcinfo:ident| $call:expr) => {
        const _: () = {
            #[unsafe(export_name = concat!("pg_finfo_", $symbol))]
            extern "C" fn info() -> *const pgrx::pg_sys::Pg_finfo_record {
                static INFO: pgrx::pg_sys::Pg_finfo_record =
                    pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
                &raw const INFO
            }
            #[unsafe(export_name = $symbol)]
            unsafe extern "C-unwind" fn function(
                $fcinfo: pgrx::pg_sys::FunctionCallInfo,
            ) -> pgrx::pg_sys::Datum {
                // SAFETY: Postgres calls this.
                unsafe { $call }
            }
        };
    };
}

pub(crate) use {sql_function, sql_functions};
