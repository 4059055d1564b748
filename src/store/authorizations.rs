//! Authorizations: credits held for actions that have not finished.

use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use super::cluster;
use super::direct_access;
use super::direct_rows::KeyPart;
use super::ledger::read_parts;
use super::shape::DirectTable;
use super::statement::{Columns, Query, Statement, Store, TEXT, TEXTS, UUID, UUIDS, read_values};
use super::table::{insert, place, query, sql, table};
use crate::errors::{self, Result};
use crate::ledger::interrupt::checked;
use crate::ledger::margin::ModelCost;
use crate::ledger::wallet::{EndedHold, Overrun, Part, Pin};
use crate::ledger::{Amount, Moment, jsonb};
use crate::sql_types::field::{Field, FromColumn, Nth, types};
use crate::sql_types::value::{self, TablePlace, Value};

table! {
    /// An authorization as it is kept.
    #[derive(Clone, Debug)]
    pub struct Authorization {
        customer: String as text,
        id: Uuid as uuid,
        asset: String as text,
        action: String as text,
        overrun: Overrun as text,
        quantity: Decimal as numeric,
        credits: Amount as credits,
        cost: Option<Decimal> as numeric,
        price_version: Option<i32> as int,
        /// What had been used in the month, where the price counts it.
        month_used: Option<Decimal> as numeric,
        /// Credits came from the price; otherwise they were given.
        priced: bool as boolean,
        created_at: Moment as timestamptz,
        /// Hash of what was asked, where a key came with it.
        request: Option<Vec<u8>> as bytea,
        dimensions: Option<Json> as jsonb,
        usage: Option<Json> as jsonb,
        scopes: Option<Vec<String>> as texts,
        idempotency_key: Option<String> as text,
        metadata: Option<Json> as jsonb,
        /// The amount that was approved of what varies; `None`: nothing did.
        granted: Option<Decimal> as numeric,
    }
    changing {
        expires_at: Moment as timestamptz,
        /// open, captured, released or expired.
        status: String as text,
        captured: Amount as credits,
        /// What captures cost beyond what the customer could pay, and nobody will charge.
        forgiven: Amount as credits,
        captured_quantity: Decimal as numeric,
        captured_cost: Option<Decimal> as numeric,
        /// By vendor and model.
        captured_costs: Vec<ModelCost> as jsonb,
        /// What is still pinned.
        pins: Vec<Pin> as jsonb,
        first_capture: Option<Uuid> as uuid,
        last_capture: Option<Uuid> as uuid,
        last_request: Option<Vec<u8>> as bytea,
        reason: Option<String> as text,
    }
    beside {
        /// Where its row was when it was read directly.
        place: Option<TablePlace> = None,
    }
}

static AUTHORIZATIONS: DirectTable = DirectTable {
    nth: 2,
    name: "authorizations",
    columns: Authorization::DECLARED,
    types: Authorization::TYPES,
    not_null: &[
        "customer",
        "id",
        "asset",
        "action",
        "overrun",
        "quantity",
        "credits",
        "priced",
        "created_at",
        "expires_at",
        "status",
        "captured",
        "forgiven",
        "captured_quantity",
        "pins",
    ],
    is_updated: true,
    indexes: &[
        "authorizations_key: unique customer text_ops, idempotency_key text_ops where (idempotency_key IS NOT NULL)",
        "authorizations_open: customer text_ops, asset text_ops, expires_at datetime_ops where (status = 'open'::text)",
        "authorizations_pkey: primary key customer text_ops, id uuid_ops",
    ],
};

const ASSET: usize = place(Authorization::DECLARED, "asset");
const ALL: [usize; Authorization::DECLARED.len()] = {
    let mut all = [0; Authorization::DECLARED.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = at;
        at += 1;
    }
    all
};

static INSERT: Statement = insert!(
    "authorizations",
    Authorization,
    " ON CONFLICT (customer, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
);

static UPDATE: Statement = Statement {
    sql: sql!(
        "UPDATE credyt.authorizations SET ",
        Authorization::CHANGES,
        " WHERE customer = $1 AND id = $2"
    ),
    args: Authorization::CHANGE_TYPES,
};

static MARK_EXPIRED: Statement = Statement {
    sql: "UPDATE credyt.authorizations SET status = 'expired', pins = '[]'
          WHERE customer = $1 AND id = $2 AND status = 'open'",
    args: &[TEXT, UUID],
};

table! {
    struct EndedRow {
        id: Uuid as uuid,
        expires_at: Moment as timestamptz,
        pins: Vec<Pin> as jsonb,
    }
}

query! {
    Ended(customer: text, asset: text, now: timestamptz):
    "SELECT ", EndedRow::COLUMNS, " FROM credyt.authorizations h
     WHERE h.customer = :customer AND h.asset = :asset AND h.status = 'open' AND h.expires_at <= :now
     ORDER BY h.expires_at, h.id"
}

query! {
    NextEnd(customer: text, asset: text, now: timestamptz):
    "SELECT min(h.expires_at) FROM credyt.authorizations h
     WHERE h.customer = :customer AND h.asset = :asset AND h.status = 'open' AND h.expires_at > :now"
}

static ASSETS_OF: Statement = Statement {
    sql: "SELECT h.asset, k.nth FROM unnest($1, $2) WITH ORDINALITY AS k (customer, id, nth)
          CROSS JOIN LATERAL (SELECT f.asset FROM credyt.authorizations f
                              WHERE f.customer = k.customer AND f.id = k.id LIMIT 1) h",
    args: &[TEXTS, UUIDS],
};

static ASSET_OF: Statement = Statement {
    sql: "SELECT h.asset FROM credyt.authorizations h WHERE h.customer = $1 AND h.id = $2",
    args: &[TEXT, UUID],
};

macro_rules! authorization {
    ($condition:literal) => {
        sql!(
            "SELECT ",
            Authorization::COLUMNS,
            " FROM credyt.authorizations h WHERE h.customer = $1 AND ",
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
pub fn insert(store: &Store, new: &Authorization) -> Result<bool> {
    let (values, key) = (new.values()?, new.idempotency_key.as_deref());
    let inserted = match direct_access::insert(store, &AUTHORIZATIONS, &values, &new.customer, key)?
    {
        Some(inserted) => inserted,
        None => INSERT.run(store, &values)?.count() > 0,
    };
    if inserted && new.idempotency_key.is_some() {
        store.keep_key();
    }
    Ok(inserted)
}

/// Writes what captures, releases and extensions change.
pub fn update(store: &Store, changed: &Authorization) -> Result<()> {
    let changes = changed.changes()?;
    if let Some(place) = changed.place {
        let keys = [KeyPart::Text(&changed.customer), KeyPart::Id(changed.id)];
        let first = Authorization::DECLARED.len() - changes.len();
        let columns: Vec<(usize, Value)> = (first..).zip(changes.iter().copied()).collect();
        if direct_access::update(&AUTHORIZATIONS, place, &keys, &columns) {
            return Ok(());
        }
    }
    let mut args = vec![value::text(&changed.customer), value::uuid(changed.id)];
    args.extend(changes);
    match UPDATE.run(store, &args)?.count() {
        0 => Err(errors::corrupted("an authorization", "it is lost")),
        _ => Ok(()),
    }
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
    let query = Ended {
        customer,
        asset,
        now,
    };
    let rows: Vec<EndedRow> = query.run(store)?.read_all()?;
    let hold = |row: EndedRow| EndedHold {
        id: row.id,
        at: row.expires_at,
        pins: row.pins,
    };
    Ok(rows.into_iter().map(hold).collect())
}

/// When the next open hold of a wallet ends.
pub fn next_end(store: &Store, customer: &str, asset: &str, now: Moment) -> Result<Option<Moment>> {
    let query = NextEnd {
        customer,
        asset,
        now,
    };
    query.run(store)?.read_one()
}

/// The asset of an authorization, which never changes; `None` where the customer has none with
/// this id.
pub fn asset_of(store: &Store, customer: &str, id: Uuid) -> Result<Option<String>> {
    let keys = [KeyPart::Text(customer), KeyPart::Id(id)];
    if let Some(row) = direct_access::read(&AUTHORIZATIONS, &keys, &[ASSET]) {
        return read_values(&row.values).map(Some);
    }
    let rows = ASSET_OF.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.read_first()
}

/// The assets of these authorizations, in their order; `None` where there is none with this id.
pub fn assets_of(store: &Store, ids: &[(&str, Uuid)]) -> Result<Vec<Option<String>>> {
    if cluster::is_distributed() {
        let one = |(customer, id): &(&str, Uuid)| asset_of(store, customer, *id);
        return checked(ids).map(one).collect();
    }
    let mut columns = Columns::new(&[TEXT, UUID]);
    for (customer, id) in ids {
        columns.push(vec![value::text(customer), value::uuid(*id)]);
    }
    let mut assets = vec![None; ids.len()];
    for row in ASSETS_OF.run(store, &columns.args())?.iter() {
        let (found, Nth(nth)) = row.read()?;
        if let Some(asset) = assets.get_mut(nth) {
            *asset = found;
        }
    }
    Ok(assets)
}

pub fn by_id(store: &Store, customer: &str, id: Uuid) -> Result<Option<Authorization>> {
    let keys = [KeyPart::Text(customer), KeyPart::Id(id)];
    if let Some(row) = direct_access::read(&AUTHORIZATIONS, &keys, &ALL) {
        let read: Authorization = read_values(&row.values)?;
        return Ok(Some(Authorization {
            place: Some(row.place),
            ..read
        }));
    }
    let rows = BY_ID.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.read_first()
}

pub fn by_key(store: &Store, customer: &str, key: &str) -> Result<Option<Authorization>> {
    let rows = BY_KEY.run(store, &[value::text(customer), value::text(key)])?;
    rows.read_first()
}

/// `[{"grant": "...", "kind": "included", "credits": "3"}]`, grant null for overdraft.
impl Field<types::jsonb> for Vec<Pin> {
    fn value(&self, _: &str) -> Result<Value> {
        let mut list = jsonb::List::default();
        for pin in self {
            let mut text = Uuid::encode_buffer();
            let id = pin
                .grant
                .map(|(id, _)| &*id.hyphenated().encode_lower(&mut text));
            let kind = pin.grant.map_or("overdraft", |(_, kind)| kind.as_str());
            list.push(&[
                ("kind", Some(kind)),
                ("grant", id),
                ("credits", Some(&pin.credits.to_string())),
            ]);
        }
        Ok(value::jsonb_bytes(&list.finish()))
    }
}

impl FromColumn for Vec<Pin> {
    fn from_value(value: Value) -> Result<Vec<Pin>> {
        read_pins(&Json::from_value(value)?)
    }
}

fn read_pins(pins: &Json) -> Result<Vec<Pin>> {
    let parts = read_parts(pins, "the pins of an authorization")?;
    let pin = |part: Part| Pin {
        grant: part.grant,
        credits: part.credits,
    };
    Ok(parts.into_iter().map(pin).collect())
}
