//! Every SQL statement, and the one door through which a wallet is opened for change.

pub mod access;
pub mod assets;
pub mod authorizations;
pub mod batch;
mod books;
pub mod cache_epoch;
pub mod cluster;
pub mod costs;
pub mod direct_access;
mod direct_rows;
pub mod erasure;
pub mod events;
pub mod exchange;
pub mod grants;
pub mod history;
pub mod ledger;
pub mod limits;
mod months;
pub mod notices;
pub mod payments;
pub mod periods;
pub mod plans;
pub mod price_lists;
pub mod prices;
pub mod rollups;
mod server;
mod shape;
pub mod signatures;
mod statement;
mod table;
pub mod usage;
pub mod vendors;
mod version;
pub mod wallets;

pub use statement::Store;
