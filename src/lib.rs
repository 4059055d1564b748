//! credyt_pg: credits, prices and margin for AI products, inside your own Postgres transaction.
//!
//! The map:
//!
//! | module      | what it knows                                                              |
//! |-------------|----------------------------------------------------------------------------|
//! | `ledger`    | the arithmetic: amounts, grants, wallets, prices. Knows nothing of Postgres |
//! | `functions` | one SQL function after another: read arguments, ask the ledger, store      |
//! | `store`     | every SQL statement; the one place where a wallet is opened                |
//! | `sql_types` | the borders: arguments in, rows out, the wallet type                       |
//! | `errors`    | every SQLSTATE, message, DETAIL and HINT                                   |
//!
//! What exists in the database is in `sql/schema/*.sql`; the install script is those files in the
//! order of their names: schema, wallet type, tables, result types, functions, views, verify; then a
//! file or two a feature; the jsonb forms, rights and dumps last. ARCHITECTURE.md follows a call through.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::float_arithmetic))]

pub mod ledger;

#[cfg(feature = "extension")]
mod errors;
#[cfg(feature = "extension")]
mod functions;
#[cfg(feature = "extension")]
mod sql_types;
#[cfg(feature = "extension")]
mod store;

#[cfg(feature = "extension")]
pgrx::pg_module_magic!();

/// Postgres calls this when it loads the library.
#[cfg(feature = "extension")]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn _PG_init() {
    ledger::interrupt::install(sql_types::check_for_interrupts);
    store::direct_access::define_setting();
}
