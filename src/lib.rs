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
//! What exists in the database is in `sql/schema/*.sql`, a file a feature, each after what it needs; the
//! install script is those files in the order of their names. `01_schema.sql` lists them:
//!
//! | files   | feature                                                                          |
//! |---------|----------------------------------------------------------------------------------|
//! | 01 - 05 | schema and triggers, the wallet type, assets, prices and price lists, wallets     |
//! | 06 - 08 | credits in, out and held: grants, ledger, holds                                   |
//! | 09 - 11 | what vendors charge: vendors and rates, exchange rates, costs that come later     |
//! | 12 - 14 | reports: margin and rollups, new prices, accounting                               |
//! | 15 - 19 | plans, limits, events, batches, what customers see of their own                   |
//! | 20 - 24 | erasure, verify, operation, the jsonb forms, rights                               |
//!
//! ARCHITECTURE.md follows a call through.

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
