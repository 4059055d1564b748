//! Authorizations: credits held for actions that have not finished.

use std::str::FromStr;

use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::ledger::{self, Key, read_parts};
use super::statement::{
    BOOL, BYTES, INT, JSONB, NUMERIC, RowRef, Statement, Store, TEXT, TEXTS, TIME, UUID,
};
use crate::errors::{self, Result};
use crate::ledger::margin::Spent;
use crate::ledger::wallet::{EndedHold, Overrun, Part, Pin};
use crate::ledger::{Amount, Moment};
use crate::sql_types::value;

/// An authorization as it is kept.
#[derive(Clone, Debug)]
pub struct Authorization {
    pub id: Uuid,
    pub asset: String,
    pub action: String,
    /// open, captured, released or expired.
    pub status: String,
    pub overrun: Overrun,
    pub quantity: Decimal,
    pub credits: Amount,
    pub captured: Amount,
    /// What captures cost beyond what the customer could pay, and nobody will charge.
    pub forgiven: Amount,
    pub captured_quantity: Decimal,
    pub captured_cost: Option<Decimal>,
    /// By vendor and model.
    pub captured_costs: Vec<Spent>,
    pub cost: Option<Decimal>,
    pub price_version: Option<i32>,
    /// Credits came from the price; otherwise they were given.
    pub priced: bool,
    pub created_at: Moment,
    pub expires_at: Moment,
    /// What is still pinned.
    pub pins: Vec<Pin>,
    pub first_capture: Option<Uuid>,
    pub last_capture: Option<Uuid>,
    pub last_request: Option<Vec<u8>>,
    /// Hash of what was asked, where a key came with it.
    pub request: Option<Vec<u8>>,
    pub dimensions: Option<Json>,
    /// The amount that was approved of what varies; `None`: nothing did.
    pub granted: Option<Decimal>,
    pub usage: Option<Json>,
    pub scopes: Option<Vec<String>>,
    pub reason: Option<String>,
    pub metadata: Option<Json>,
}

static INSERT: Statement = Statement {
    sql: "INSERT INTO credyt.authorizations (customer, id, asset, action, status, overrun, quantity,
              credits, captured, forgiven, captured_quantity, cost, price_version, priced, created_at,
              expires_at, pins, request, dimensions, usage, scopes, idempotency_key, metadata, granted)
          VALUES ($1, $2, $3, $4, 'open', $5, $6, $7, 0, 0, 0, $8, $9, $10, $11, $12, $13, $14, $15,
              $16, $17, $18, $19, $20)
          ON CONFLICT (customer, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING",
    args: &[
        TEXT, UUID, TEXT, TEXT, TEXT, NUMERIC, NUMERIC, NUMERIC, INT, BOOL, TIME, TIME, JSONB,
        BYTES, JSONB, JSONB, TEXTS, TEXT, JSONB, NUMERIC,
    ],
};

static UPDATE: Statement = Statement {
    sql: "UPDATE credyt.authorizations
          SET status = $3, captured = $4, captured_quantity = $5, captured_cost = $6,
              expires_at = $7, pins = $8, last_capture = $9, last_request = $10, reason = $11,
              forgiven = $12, captured_costs = $13, first_capture = $14
          WHERE customer = $1 AND id = $2",
    args: &[
        TEXT, UUID, TEXT, NUMERIC, NUMERIC, NUMERIC, TIME, JSONB, UUID, BYTES, TEXT, NUMERIC,
        JSONB, UUID,
    ],
};

static MARK_EXPIRED: Statement = Statement {
    sql: "UPDATE credyt.authorizations SET status = 'expired', pins = '[]'
          WHERE customer = $1 AND id = $2 AND status = 'open'",
    args: &[TEXT, UUID],
};

static ENDED: Statement = Statement {
    sql: "SELECT h.id, h.expires_at, h.pins FROM credyt.authorizations h
          WHERE h.customer = $1 AND h.asset = $2 AND h.status = 'open' AND h.expires_at <= $3
          ORDER BY h.expires_at, h.id",
    args: &[TEXT, TEXT, TIME],
};

static NEXT_END: Statement = Statement {
    sql: "SELECT min(h.expires_at) FROM credyt.authorizations h
          WHERE h.customer = $1 AND h.asset = $2 AND h.status = 'open' AND h.expires_at > $3",
    args: &[TEXT, TEXT, TIME],
};

static ASSET_OF: Statement = Statement {
    sql: "SELECT h.asset FROM credyt.authorizations h WHERE h.customer = $1 AND h.id = $2",
    args: &[TEXT, UUID],
};

macro_rules! authorization {
    ($condition:literal) => {
        concat!(
            "SELECT h.id, h.asset, h.action, h.status, h.overrun, h.quantity, h.credits, h.captured,
                 h.captured_quantity, h.captured_cost, h.cost, h.price_version, h.priced,
                 h.created_at, h.expires_at, h.pins, h.last_capture, h.last_request, h.request,
                 h.dimensions, h.usage, h.scopes, h.reason, h.metadata, h.forgiven,
                 h.captured_costs, h.first_capture, h.granted
             FROM credyt.authorizations h WHERE h.customer = $1 AND ",
            $condition
        )
    };
}

static BY_ID: Statement = Statement {
    sql: authorization!("h.id = $2"),
    args: &[TEXT, UUID],
};

static BY_KEY: Statement = Statement {
    sql: authorization!("h.idempotency_key = $2"),
    args: &[TEXT, TEXT],
};

/// Keeps a new authorization. False, and nothing is written, when its key is taken.
pub fn insert(
    store: &Store,
    customer: &str,
    new: &Authorization,
    key: Option<&Key>,
) -> Result<bool> {
    let args = [
        value::text(customer),
        value::uuid(new.id),
        value::text(&new.asset),
        value::text(&new.action),
        value::text(new.overrun.as_str()),
        value::decimal(new.quantity),
        value::credits(new.credits),
        new.cost.and_then(value::decimal),
        new.price_version.and_then(value::int),
        value::bool(new.priced),
        value::moment(new.created_at),
        value::moment(new.expires_at),
        value::jsonb(&print_pins(&new.pins)),
        new.request.as_deref().and_then(value::bytes),
        value::optional_json("dimensions", new.dimensions.as_ref())?,
        value::optional_json("usage", new.usage.as_ref())?,
        value::texts(new.scopes.as_deref()),
        key.and_then(|key| value::text(&key.text)),
        value::optional_json("metadata", new.metadata.as_ref())?,
        new.granted.and_then(value::decimal),
    ];
    Ok(INSERT.run(store, &args)?.count() > 0)
}

/// Writes what captures, releases and extensions change.
pub fn update(store: &Store, customer: &str, changed: &Authorization) -> Result<()> {
    let args = [
        value::text(customer),
        value::uuid(changed.id),
        value::text(&changed.status),
        value::credits(changed.captured),
        value::decimal(changed.captured_quantity),
        changed.captured_cost.and_then(value::decimal),
        value::moment(changed.expires_at),
        value::jsonb(&print_pins(&changed.pins)),
        value::optional_uuid(changed.last_capture),
        changed.last_request.as_deref().and_then(value::bytes),
        value::optional_text(changed.reason.as_deref()),
        value::credits(changed.forgiven),
        ledger::costs(&changed.captured_costs),
        value::optional_uuid(changed.first_capture),
    ];
    UPDATE.run(store, &args)?;
    Ok(())
}

/// Marks holds whose end has come, unless the caller's verb has closed them just now.
pub fn mark_expired(store: &Store, customer: &str, ids: &[Uuid]) -> Result<()> {
    for id in ids {
        MARK_EXPIRED.run(store, &[value::text(customer), value::uuid(*id)])?;
    }
    Ok(())
}

/// The holds of a wallet that have ended and still pin credits, the first to end first.
pub fn ended(store: &Store, customer: &str, asset: &str, now: Moment) -> Result<Vec<EndedHold>> {
    let args = [
        value::text(customer),
        value::text(asset),
        value::moment(now),
    ];
    let rows = ENDED.run(store, &args)?;
    rows.iter()
        .map(|row| {
            Ok(EndedHold {
                id: row.uuid(1)?,
                at: row.moment(2)?,
                pins: read_pins(&row.json(3)?)?,
            })
        })
        .collect()
}

/// When the next open hold of a wallet ends.
pub fn next_end(store: &Store, customer: &str, asset: &str, now: Moment) -> Result<Option<Moment>> {
    let args = [
        value::text(customer),
        value::text(asset),
        value::moment(now),
    ];
    Ok(NEXT_END
        .run(store, &args)?
        .first()
        .and_then(|row| row.optional_moment(1)))
}

/// The asset of an authorization, which never changes; `None` where the customer has none with
/// this id.
pub fn asset_of(store: &Store, customer: &str, id: Uuid) -> Result<Option<String>> {
    let rows = ASSET_OF.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.first().map(|row| row.text(1)).transpose()
}

pub fn by_id(store: &Store, customer: &str, id: Uuid) -> Result<Option<Authorization>> {
    let rows = BY_ID.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.first().map(|row| read(&row)).transpose()
}

pub fn by_key(store: &Store, customer: &str, key: &str) -> Result<Option<Authorization>> {
    let rows = BY_KEY.run(store, &[value::text(customer), value::text(key)])?;
    rows.first().map(|row| read(&row)).transpose()
}

fn read(row: &RowRef) -> Result<Authorization> {
    let overrun = row.text(5)?;
    Ok(Authorization {
        id: row.uuid(1)?,
        asset: row.text(2)?,
        action: row.text(3)?,
        status: row.text(4)?,
        overrun: Overrun::from_str(&overrun)
            .map_err(|_| errors::corrupted("an authorization", overrun))?,
        quantity: row.decimal(6)?,
        credits: row.amount(7)?,
        captured: row.amount(8)?,
        captured_quantity: row.decimal(9)?,
        captured_cost: row.optional_decimal(10)?,
        cost: row.optional_decimal(11)?,
        price_version: row.optional_int(12),
        priced: row.bool(13)?,
        created_at: row.moment(14)?,
        expires_at: row.moment(15)?,
        pins: read_pins(&row.json(16)?)?,
        last_capture: row.optional_uuid(17),
        last_request: row.optional_bytes(18),
        request: row.optional_bytes(19),
        dimensions: row.optional_json(20)?,
        usage: row.optional_json(21)?,
        scopes: row.optional_texts(22),
        reason: row.optional_text(23),
        metadata: row.optional_json(24)?,
        forgiven: row.amount(25)?,
        captured_costs: match row.optional_json(26)? {
            Some(costs) => Spent::read_all(Some(&costs), None)
                .ok_or_else(|| errors::corrupted("the costs of an authorization", costs))?,
            None => Vec::new(),
        },
        first_capture: row.optional_uuid(27),
        granted: row.optional_decimal(28)?,
    })
}

/// Pins as JSON: `[{"grant": "...", "kind": "included", "credits": "3"}]`, grant null for overdraft.
fn print_pins(pins: &[Pin]) -> String {
    let pins: Vec<Json> = pins
        .iter()
        .map(|pin| {
            json!({
                "grant": pin.grant.map(|(id, _)| id.to_string()),
                "kind": pin.grant.map_or("overdraft", |(_, kind)| kind.as_str()),
                "credits": pin.credits.to_string(),
            })
        })
        .collect();
    Json::Array(pins).to_string()
}

fn read_pins(pins: &Json) -> Result<Vec<Pin>> {
    let parts = read_parts(pins, "the pins of an authorization")?;
    let pin = |part: Part| Pin {
        grant: part.grant,
        credits: part.credits,
    };
    Ok(parts.into_iter().map(pin).collect())
}
