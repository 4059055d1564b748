//! Assets.

use std::str::FromStr;

use super::statement::{INT, Statement, Store, TEXT, TIME};
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::ledger::price::Rounding;
use crate::sql_types::value;

/// What every call needs to know of an asset.
#[derive(Clone, Debug)]
pub struct Asset {
    pub name: String,
    pub scale: u32,
    pub rounding: Rounding,
    /// Which edition of the price book this is: compiled prices of another one are old.
    pub price_book: i64,
}

/// An asset as it was defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub asset: String,
    pub scale: i32,
    pub rounding: String,
    pub currency: String,
    pub timezone: String,
}

static ASSET: Statement = Statement {
    sql: "SELECT a.scale, a.rounding, a.price_book, (SELECT c.now FROM credyt.clock c WHERE c.one)
          FROM credyt.assets a WHERE a.asset = $1",
    args: &[TEXT],
};

static DEFINITION: Statement = Statement {
    sql: "SELECT a.scale, a.rounding, a.currency, a.timezone, a.created_at
          FROM credyt.assets a WHERE a.asset = $1",
    args: &[TEXT],
};

static INSERT: Statement = Statement {
    sql: "INSERT INTO credyt.assets (asset, scale, rounding, currency, timezone, created_at)
          VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (asset) DO NOTHING",
    args: &[TEXT, INT, TEXT, TEXT, TEXT, TIME],
};

static TIMEZONE: Statement = Statement {
    sql: "SELECT 1 FROM pg_catalog.pg_timezone_names WHERE name = $1",
    args: &[TEXT],
};

/// The asset and the time it is, or WC009.
pub fn asset(store: &Store, name: &str) -> Result<(Asset, Moment)> {
    let rows = ASSET.run(store, &[value::text(name)])?;
    let row = rows.first().ok_or_else(|| errors::asset_not_found(name))?;
    let now = row.optional_moment(4).unwrap_or_else(super::wallets::clock);
    Ok((read_asset(name, row.int(1)?, &row.text(2)?, row.bigint(3)?)?, now))
}

/// An asset from its columns.
pub fn read_asset(name: &str, scale: i32, rounding: &str, price_book: i64) -> Result<Asset> {
    let damaged = |why: &str| errors::corrupted("an asset", why);
    Ok(Asset {
        name: name.to_owned(),
        scale: u32::try_from(scale).map_err(|_| damaged("its scale is negative"))?,
        rounding: Rounding::from_str(rounding).map_err(|why| damaged(&why))?,
        price_book,
    })
}

pub fn definition(store: &Store, name: &str) -> Result<Option<(Definition, Moment)>> {
    let rows = DEFINITION.run(store, &[value::text(name)])?;
    let Some(row) = rows.first() else { return Ok(None) };
    let definition = Definition {
        asset: name.to_owned(),
        scale: row.int(1)?,
        rounding: row.text(2)?,
        currency: row.text(3)?,
        timezone: row.text(4)?,
    };
    Ok(Some((definition, row.moment(5)?)))
}

/// Creates an asset unless one of that name is there.
pub fn create(store: &Store, new: &Definition, now: Moment) -> Result<()> {
    INSERT.run(
        store,
        &[
            value::text(&new.asset),
            value::int(new.scale),
            value::text(&new.rounding),
            value::text(&new.currency),
            value::text(&new.timezone),
            value::moment(now),
        ],
    )?;
    Ok(())
}

/// Does Postgres know this time zone by its full name?
pub fn is_timezone(store: &Store, name: &str) -> Result<bool> {
    Ok(TIMEZONE.run(store, &[value::text(name)])?.count() > 0)
}
