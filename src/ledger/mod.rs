//! The pure ledger: amounts, grants, the wallet and prices. It knows nothing of Postgres, of where
//! a wallet is kept or what the time is: everything comes in as a value and goes out as a value.

pub mod alerts;
pub mod amount;
pub mod costing;
pub mod exchange;
pub mod grant;
pub mod interrupt;
pub mod jsonb;
pub mod limit;
pub mod margin;
pub mod moment;
pub mod month;
pub mod number;
pub mod numeric;
pub mod packed;
pub mod period;
pub mod plan;
pub mod price;
pub mod refund;
pub mod rollup;
pub mod spelling;
pub mod text;
pub mod vendor;
pub mod wallet;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod invariants;

pub use alerts::AlertState;
pub use amount::Amount;
pub use grant::{Grant, Kind};
pub use limit::Limit;
pub use moment::Moment;
pub use wallet::Wallet;
