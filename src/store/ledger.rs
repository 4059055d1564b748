//! The ledger's rows.

use std::collections::HashMap;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::periods;
use super::statement::{
    BIGINT, BIGINTS, BYTES, BYTES_LIST, Columns, INT, INTS, JSONB, JSONBS, NUMERIC, NUMERICS,
    RowRef, Statement, Store, TEXT, TEXTS, TIME, TIMES, UUID, UUIDS,
};
use crate::errors::{self, Result};
use crate::ledger::margin::{self, Paid, Spent};
use crate::ledger::refund::Back;
use crate::ledger::wallet::{Decided, Due, Part};
use crate::ledger::{Amount, Kind, Moment};
use crate::sql_types::value::{self, Value};

/// An idempotency key and the hash of the request it stands for.
#[derive(Clone, Debug)]
pub struct Key {
    pub text: String,
    pub request: Vec<u8>,
}

/// A movement, ready to be booked.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Nil until it is booked.
    pub id: Uuid,
    /// Its number among the wallet's rows, once it is booked.
    pub seq: u64,
    /// The sum of the wallet's rows up to this one, once it is booked.
    pub balance: Amount,
    pub kind: &'static str,
    pub action: Option<String>,
    pub quantity: Option<Decimal>,
    /// What comes is positive, what goes negative.
    pub credits: Amount,
    /// Earned is positive, given back negative.
    pub revenue: Amount,
    pub cost: Option<Decimal>,
    /// By vendor and model; nothing where no usage tells.
    pub costs: Vec<Spent>,
    /// jsonb.
    pub allocations: Value,
    /// The part of it that is owed.
    pub owed: Amount,
    pub authorization_id: Option<Uuid>,
    pub refers_to: Option<Uuid>,
    pub price_version: Option<i32>,
    pub scopes: Option<Vec<String>>,
    pub reason: Option<String>,
    pub documents: Documents,
    pub key: Option<Key>,
    pub occurred_at: Moment,
}

/// What the caller tells about a movement, as it is stored: jsonb, or NULL. Made before the wallet is
/// locked, so that nobody waits for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Documents {
    pub dimensions: Value,
    pub usage: Value,
    pub metadata: Value,
}

impl Entry {
    /// An entry of this kind that moves nothing yet.
    pub fn new(kind: &'static str, occurred_at: Moment) -> Entry {
        Entry {
            id: Uuid::nil(),
            seq: 0,
            balance: Amount::ZERO,
            kind,
            action: None,
            quantity: None,
            credits: Amount::ZERO,
            revenue: Amount::ZERO,
            cost: None,
            costs: Vec::new(),
            allocations: value::NULL,
            owed: Amount::ZERO,
            authorization_id: None,
            refers_to: None,
            price_version: None,
            scopes: None,
            reason: None,
            documents: Documents::default(),
            key: None,
            occurred_at,
        }
    }

    /// The entry that books what time decided.
    pub fn of_due(due: &Due) -> Entry {
        let gone = |kind, part: &Part| Entry {
            credits: -part.credits,
            allocations: value::jsonb(&allocations(std::slice::from_ref(part), "deferred")),
            refers_to: part.grant.map(|(id, _)| id),
            ..Entry::new(kind, due.at)
        };
        match &due.what {
            Decided::Expired(part) => gone("expiry", part),
            Decided::Revoked(part) => gone("revocation", part),
            Decided::Moved { part, to } => Entry {
                allocations: value::jsonb(&moved(part, *to)),
                refers_to: part.grant.map(|(id, _)| id),
                ..Entry::new("transfer", due.at)
            },
            Decided::Renewed { part, plan } => Entry {
                credits: part.credits,
                allocations: value::jsonb(&allocations(std::slice::from_ref(part), "deferred")),
                refers_to: part.grant.map(|(id, _)| id),
                reason: Some(format!("plan {plan}")),
                ..Entry::new("grant", due.at)
            },
            Decided::Settled { debt, action, part } => Entry {
                action: action.clone(),
                revenue: part.revenue,
                allocations: value::jsonb(&allocations(std::slice::from_ref(part), "revenue")),
                refers_to: Some(*debt),
                ..Entry::new("settlement", due.at)
            },
        }
    }

    /// Gives the entry its place among the wallet's rows, which add up to `balance` with it.
    pub fn number(&mut self, now: Moment, seq: u64, balance: Amount) {
        self.id = row_id(now, seq);
        self.seq = seq;
        self.balance = balance;
    }

    /// The arguments of the INSERT statements, in the order of the columns.
    pub fn values(
        &self,
        customer: &str,
        asset: &str,
        now: Moment,
        accounted_at: Moment,
    ) -> Result<Vec<Value>> {
        Ok(vec![
            value::text(customer),
            value::text(asset),
            value::uuid(self.id),
            value::bigint(self.seq as i64),
            value::moment(now),
            value::moment(self.occurred_at),
            self.price_version.and_then(value::int),
            value::text(self.kind),
            value::optional_text(self.action.as_deref()),
            self.quantity.and_then(value::decimal),
            value::credits(self.credits),
            value::money(self.revenue),
            self.cost.and_then(value::money_decimal),
            costs(&self.costs),
            self.allocations,
            value::optional_uuid(self.authorization_id),
            value::optional_uuid(self.refers_to),
            value::texts(self.scopes.as_deref()),
            value::optional_text(self.reason.as_deref()),
            self.documents.dimensions,
            self.documents.usage,
            self.key.as_ref().and_then(|key| value::text(&key.text)),
            self.key.as_ref().and_then(|key| value::bytes(&key.request)),
            self.documents.metadata,
            value::moment(accounted_at),
            value::credits(self.balance),
        ])
    }
}

/// What vendors charge for a movement, as the ledger keeps it.
pub fn costs(spent: &[Spent]) -> Value {
    if spent.is_empty() {
        return value::NULL;
    }
    let list = spent.iter().map(Spent::json).collect();
    value::jsonb(&Json::Array(list).to_string())
}

/// The id of a wallet's row: a UUIDv7 of the wallet's time to the microsecond, then the row's number
/// and 30 random bits. Time in a wallet never runs backwards, so ids ascend as its rows do: whoever
/// knows the last row he has seen finds all later ones by the primary key.
pub fn row_id(now: Moment, seq: u64) -> Uuid {
    let micros = now.unix_micros();
    let time = u128::from(micros / 1000) << 80 | u128::from(micros % 1000) << 64;
    let random = Uuid::new_v4().as_u128() & 0x3fff_ffff;
    let number = u128::from(seq as u32) << 30;
    let (version, variant) = (0x7_u128 << 76, 0x2_u128 << 62);
    Uuid::from_u128(time | version | variant | number | random)
}

/// When a row with this id was booked.
pub fn time_of(id: Uuid) -> Moment {
    let bits = id.as_u128();
    let (millis, micros) = (bits >> 80, bits >> 64 & 0xfff);
    Moment::of_unix_micros((millis * 1000 + micros) as i64)
}

/// No row that is booked at this moment or later has a lower id.
pub fn first_id(at: Moment) -> Uuid {
    let micros = at.unix_micros();
    Uuid::from_u128(
        u128::from(micros / 1000) << 80 | u128::from(micros % 1000) << 64 | 0x7_u128 << 76,
    )
}

/// The allocation of credits that moved from one grant to another, with what is deferred for them.
fn moved(part: &Part, to: Uuid) -> String {
    let text = allocations(std::slice::from_ref(part), "deferred");
    text.replace("}]", &format!(r#","to":"{to}"}}]"#))
}

/// One end of a transfer, for its allocations: the grant there, and what came out of it or into it.
pub struct Transferred {
    pub here: Part,
    /// The grant at the other end.
    pub there: Uuid,
}

/// The allocations of a transfer: `"to"` and `"to_customer"` where the credits go, `"from"` and
/// `"from_customer"` where they come from.
pub fn transferred(moved: &[Transferred], way: &str, customer: &str) -> String {
    let parts = moved.iter().filter_map(|Transferred { here, there }| {
        let (id, kind) = here.grant?;
        Some(json!({
            "grant": id.to_string(),
            "kind": kind.as_str(),
            "credits": here.credits.to_string(),
            "deferred": here.revenue.money(),
            way: there.to_string(),
            format!("{way}_customer"): customer,
        }))
    });
    Json::Array(parts.collect()).to_string()
}

/// Grant by grant what moved: `[{"grant": "...", "kind": "included", "credits": "3", "revenue":
/// "0.60"}]`. The money is called `revenue` where it is earned or given back, `deferred` where it
/// moves unearned.
pub fn allocations(parts: &[Part], money: &str) -> String {
    let mut text = String::from("[");
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        match part.grant {
            Some((id, kind)) => text.push_str(&format!(
                r#"{{"grant":"{id}","kind":"{kind}","credits":"{}","{money}":"{}"}}"#,
                part.credits,
                part.revenue.money()
            )),
            None => text.push_str(&format!(
                r#"{{"grant":null,"kind":"overdraft","credits":"{}"}}"#,
                part.credits
            )),
        }
    }
    text.push(']');
    text
}

/// The allocations of a refund. `instead_of` is the revoked grant that paid the debit, `debt` the
/// revocation that a part lowers, or gives back to who had paid it.
pub fn given_back(backs: &[Back]) -> String {
    let parts = backs.iter().map(|back| {
        let mut part = match back.part.grant {
            Some((id, kind)) => json!({
                "grant": id.to_string(),
                "kind": kind.as_str(),
                "credits": back.part.credits.to_string(),
                "revenue": back.part.revenue.money(),
            }),
            None => json!({
                "grant": null,
                "kind": "overdraft",
                "credits": back.part.credits.to_string(),
            }),
        };
        let names = [("instead_of", back.instead_of), ("debt", back.debt)];
        for (name, id) in names.iter().filter_map(|(name, id)| Some((name, (*id)?))) {
            part[*name] = json!(id.to_string());
        }
        part
    });
    Json::Array(parts.collect()).to_string()
}

/// Two lists of allocations as one.
pub fn join(one: &str, other: &str) -> String {
    match (one.strip_suffix(']'), other.strip_prefix('[')) {
        (Some("["), _) => other.to_owned(),
        (Some(one), Some(other)) => format!("{one},{other}"),
        _ => one.to_owned(),
    }
}

/// The columns of a new row; $1 to $26 are their values.
macro_rules! insert {
    ($conflict:literal) => {
        concat!(
            "INSERT INTO credyt.ledger (customer, asset, id, seq, created_at, occurred_at,
                 accounted_at, price_version, kind, action, quantity, credits, revenue, cost, costs,
                 allocations, authorization_id, refers_to, scopes, reason, dimensions, usage,
                 idempotency_key, request, metadata, balance)
             VALUES ($1, $2, $3, $4, $5, $6, $25, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
                 $18, $19, $20, $21, $22, $23, $24, $26)",
            $conflict
        )
    };
}

const ENTRY: &[pgrx::pg_sys::Oid] = &[
    TEXT, TEXT, UUID, BIGINT, TIME, TIME, INT, TEXT, TEXT, NUMERIC, NUMERIC, NUMERIC, NUMERIC,
    JSONB, JSONB, UUID, UUID, TEXTS, TEXT, JSONB, JSONB, TEXT, BYTES, JSONB, TIME, NUMERIC,
];

static INSERT: Statement = Statement {
    sql: insert!(""),
    args: ENTRY,
};

static INSERT_ONCE: Statement = Statement {
    sql: insert!(
        " ON CONFLICT (customer, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
    ),
    args: ENTRY,
};

/// Books a movement of a locked wallet whose time is `now`. False, and nothing is written, when its
/// key is taken.
pub fn insert(
    store: &Store,
    customer: &str,
    asset: &str,
    now: Moment,
    entry: &Entry,
) -> Result<bool> {
    let accounted_at = periods::accounted_at(store, asset, entry.occurred_at, now)?;
    let values = entry.values(customer, asset, now, accounted_at)?;
    let statement = if entry.key.is_some() {
        &INSERT_ONCE
    } else {
        &INSERT
    };
    Ok(statement.run(store, &values)?.count() > 0)
}

/// The same for many rows; scopes come printed. In the list of columns the arrays are read in step,
/// and none of them is copied.
static INSERT_ALL: Statement = Statement {
    sql: "INSERT INTO credyt.ledger
             (customer, asset, id, seq, created_at, occurred_at, price_version, kind, action,
              quantity, credits, revenue, cost, costs, allocations, authorization_id, refers_to,
              scopes, reason, dimensions, usage, idempotency_key, request, metadata, accounted_at, balance)
          SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7),
              unnest($8), unnest($9), unnest($10), unnest($11), unnest($12), unnest($13),
              unnest($14), unnest($15), unnest($16), unnest($17), unnest($18)::text[], unnest($19),
              unnest($20), unnest($21), unnest($22), unnest($23), unnest($24), unnest($25), unnest($26)
          ON CONFLICT (customer, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING",
    args: &[
        TEXTS, TEXTS, UUIDS, BIGINTS, TIMES, TIMES, INTS, TEXTS, TEXTS, NUMERICS, NUMERICS,
        NUMERICS, NUMERICS, JSONBS, JSONBS, UUIDS, UUIDS, TEXTS, TEXTS, JSONBS, JSONBS, TEXTS,
        BYTES_LIST, JSONBS, TIMES, NUMERICS,
    ],
};

/// The place of the scopes among an entry's values.
const SCOPES: usize = 17;

/// Rows that are to be inserted together, while all their wallets are locked.
pub struct NewRows {
    columns: Columns,
    /// By asset. No period can be closed meanwhile.
    first_open: HashMap<String, Option<Moment>>,
}

impl Default for NewRows {
    fn default() -> NewRows {
        const KINDS: &[pgrx::pg_sys::Oid] = &[
            TEXT, TEXT, UUID, BIGINT, TIME, TIME, INT, TEXT, TEXT, NUMERIC, NUMERIC, NUMERIC,
            NUMERIC, JSONB, JSONB, UUID, UUID, TEXT, TEXT, JSONB, JSONB, TEXT, BYTES, JSONB, TIME,
            NUMERIC,
        ];
        NewRows {
            columns: Columns::new(KINDS),
            first_open: HashMap::new(),
        }
    }
}

impl NewRows {
    /// One more movement, of a wallet whose time is `now`.
    pub fn add(
        &mut self,
        store: &Store,
        customer: &str,
        asset: &str,
        now: Moment,
        entry: &Entry,
    ) -> Result<()> {
        let occurred_at = entry.occurred_at;
        let accounted_at = if occurred_at >= now {
            occurred_at
        } else {
            self.first_open(store, asset)?
                .map_or(occurred_at, |first| first.max(occurred_at))
        };
        let mut values = entry.values(customer, asset, now, accounted_at)?;
        if let Some(scopes) = values.get_mut(SCOPES) {
            *scopes = value::printed_texts(entry.scopes.as_deref());
        }
        self.columns.push(values);
        Ok(())
    }

    fn first_open(&mut self, store: &Store, asset: &str) -> Result<Option<Moment>> {
        if let Some(known) = self.first_open.get(asset) {
            return Ok(*known);
        }
        let first = periods::first_open(store, asset)?;
        self.first_open.insert(asset.to_owned(), first);
        Ok(first)
    }

    /// Inserts them all. False when one of their keys is taken: then the call has to fail.
    pub fn insert(&self, store: &Store) -> Result<bool> {
        if self.columns.is_empty() {
            return Ok(true);
        }
        let inserted = INSERT_ALL.run(store, &self.columns.args())?.count();
        Ok(inserted == self.columns.count())
    }
}

/// A booked row, as its answer needs it.
#[derive(Clone)]
pub struct Booked {
    pub id: Uuid,
    pub asset: String,
    pub kind: String,
    pub action: Option<String>,
    pub quantity: Option<Decimal>,
    pub credits: Amount,
    pub revenue: Amount,
    pub cost: Option<Decimal>,
    pub costs: Option<Json>,
    pub allocations: Json,
    pub authorization_id: Option<Uuid>,
    pub refers_to: Option<Uuid>,
    pub reason: Option<String>,
    pub created_at: Moment,
    pub request: Option<Vec<u8>>,
    pub seq: i64,
    pub scopes: Option<Vec<String>>,
    pub usage: Option<Json>,
    pub occurred_at: Moment,
    pub accounted_at: Moment,
}

impl Booked {
    /// Its allocations, read back; unearned money that moved counts as revenue zero.
    pub fn parts(&self) -> Result<Vec<Part>> {
        read_parts(&self.allocations, "the allocations of a ledger row")
    }

    /// The part of it that was owed when it was booked.
    pub fn owed(&self) -> Result<Amount> {
        let parts = self.parts()?;
        let owed = parts.iter().filter(|part| part.grant.is_none());
        Ok(owed.map(|part| part.credits).sum())
    }

    /// The parts of a refund, read back.
    pub fn backs(&self) -> Result<Vec<Back>> {
        let damaged = || errors::corrupted("the allocations of a refund", &self.allocations);
        let id = |part: &Json, name: &str| match part.get(name) {
            Some(id) => id
                .as_str()
                .and_then(|id| Uuid::parse_str(id).ok())
                .ok_or_else(damaged)
                .map(Some),
            None => Ok(None),
        };
        let list = self.allocations.as_array().ok_or_else(damaged)?;
        list.iter()
            .map(|part| {
                Ok(Back {
                    part: read_part(part).ok_or_else(damaged)?,
                    instead_of: id(part, "instead_of")?,
                    debt: id(part, "debt")?,
                })
            })
            .collect()
    }

    /// What each kind of grant paid, as reports count it.
    pub fn paid(&self) -> Result<Vec<Paid>> {
        margin::paid(&self.kind, &self.allocations)
            .ok_or_else(|| errors::corrupted("the allocations of a ledger row", &self.allocations))
    }

    /// The costs that came with it, by vendor and model.
    pub fn spent(&self) -> Result<Vec<Spent>> {
        Spent::read_all(self.costs.as_ref(), self.cost)
            .ok_or_else(|| errors::corrupted("the costs of a ledger row", self.id))
    }
}

/// Allocations, or the pins of an authorization, read back: parts without money count as revenue
/// zero.
pub(super) fn read_parts(parts: &Json, what: &str) -> Result<Vec<Part>> {
    let damaged = || errors::corrupted(what, parts);
    let list = parts.as_array().ok_or_else(damaged)?;
    list.iter()
        .map(|part| read_part(part).ok_or_else(damaged))
        .collect()
}

fn read_part(part: &Json) -> Option<Part> {
    let grant = match part.get("grant")? {
        Json::Null => None,
        id => {
            let id = Uuid::parse_str(id.as_str()?).ok()?;
            Some((id, Kind::from_str(part.get("kind")?.as_str()?).ok()?))
        }
    };
    let revenue = match part.get("revenue") {
        Some(revenue) => Amount::parse(revenue.as_str()?)?,
        None => Amount::ZERO,
    };
    Some(Part {
        grant,
        credits: Amount::parse(part.get("credits")?.as_str()?)?,
        revenue,
    })
}

macro_rules! booked {
    ($condition:literal) => {
        booked!(" FROM credyt.ledger l WHERE ", $condition)
    };
    ($from:literal, $condition:literal) => {
        concat!(
            "SELECT l.id, l.asset, l.kind, l.action, l.quantity, l.credits, l.revenue, l.cost,
                 l.allocations, l.authorization_id, l.refers_to, l.reason, l.created_at, l.request, l.seq,
                 l.costs, l.scopes, l.usage, l.occurred_at, l.accounted_at",
            $from,
            $condition
        )
    };
}

static BY_KEY: Statement = Statement {
    sql: booked!("l.customer = $1 AND l.idempotency_key = $2"),
    args: &[TEXT, TEXT],
};

static BY_KEYS: Statement = Statement {
    sql: booked!(
        ", k.nth FROM unnest($1, $2) WITH ORDINALITY AS k (customer, key, nth)
             CROSS JOIN LATERAL ",
        "(SELECT f.* FROM credyt.ledger f
          WHERE f.customer = k.customer AND f.idempotency_key = k.key LIMIT 1) l"
    ),
    args: &[TEXTS, TEXTS],
};

static BY_ID: Statement = Statement {
    sql: booked!("l.customer = $1 AND l.id = $2"),
    args: &[TEXT, UUID],
};

static REFERRING: Statement = Statement {
    sql: booked!("l.customer = $1 AND l.refers_to = $2 ORDER BY l.seq"),
    args: &[TEXT, UUID],
};

pub fn by_key(store: &Store, customer: &str, key: &str) -> Result<Option<Booked>> {
    let rows = BY_KEY.run(store, &[value::text(customer), value::text(key)])?;
    rows.first().map(|row| read(&row)).transpose()
}

/// The movements of these keys, each of a customer, that there are: with the place of its key.
pub fn by_keys(store: &Store, keys: &[(&str, &str)]) -> Result<Vec<(usize, Booked)>> {
    let mut columns = Columns::new(&[TEXT, TEXT]);
    for (customer, key) in keys {
        columns.push(vec![value::text(customer), value::text(key)]);
    }
    let rows = BY_KEYS.run(store, &columns.args())?;
    rows.iter()
        .map(|row| Ok((row.place(21)?, read(&row)?)))
        .collect()
}

pub fn by_id(store: &Store, customer: &str, id: Uuid) -> Result<Option<Booked>> {
    let rows = BY_ID.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.first().map(|row| read(&row)).transpose()
}

/// The rows that refer to a debit or a grant, in the order they were booked.
pub fn referring_to(store: &Store, customer: &str, id: Uuid) -> Result<Vec<Booked>> {
    let rows = REFERRING.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.iter().map(|row| read(&row)).collect()
}

static CAPTURES: Statement = Statement {
    sql: booked!("l.customer = $1 AND l.authorization_id = $2 AND l.kind = 'debit' ORDER BY l.seq"),
    args: &[TEXT, UUID],
};

/// The captures of an authorization, in the order they were booked.
pub fn captures_of(store: &Store, customer: &str, authorization: Uuid) -> Result<Vec<Booked>> {
    let args = [value::text(customer), value::uuid(authorization)];
    let rows = CAPTURES.run(store, &args)?;
    rows.iter().map(|row| read(&row)).collect()
}

static USAGE_BEFORE: Statement = Statement {
    sql: "SELECT l.usage FROM credyt.ledger l
          WHERE l.customer = $1 AND l.authorization_id = $2 AND l.kind = 'debit' AND l.seq < $3
          ORDER BY l.seq DESC LIMIT 1",
    args: &[TEXT, UUID, BIGINT],
};

/// The usage of the capture before this row.
pub fn usage_before(
    store: &Store,
    customer: &str,
    authorization: Uuid,
    seq: i64,
) -> Result<Option<Json>> {
    let args = [
        value::text(customer),
        value::uuid(authorization),
        value::bigint(seq),
    ];
    match USAGE_BEFORE.run(store, &args)?.first() {
        Some(row) => row.optional_json(1),
        None => Ok(None),
    }
}

fn read(row: &RowRef) -> Result<Booked> {
    Ok(Booked {
        id: row.uuid(1)?,
        asset: row.text(2)?,
        kind: row.text(3)?,
        action: row.optional_text(4),
        quantity: row.optional_decimal(5)?,
        credits: row.amount(6)?,
        revenue: row.amount(7)?,
        cost: row.optional_decimal(8)?,
        allocations: row.json(9)?,
        authorization_id: row.optional_uuid(10),
        refers_to: row.optional_uuid(11),
        reason: row.optional_text(12),
        created_at: row.moment(13)?,
        request: row.optional_bytes(14),
        seq: row.bigint(15)?,
        costs: row.optional_json(16)?,
        scopes: row.optional_texts(17),
        usage: row.optional_json(18)?,
        occurred_at: row.moment(19)?,
        accounted_at: row.moment(20)?,
    })
}
