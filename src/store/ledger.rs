//! The ledger's rows.

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::cluster;
use super::direct_access;
use super::periods;
use super::shape::DirectTable;
use super::statement::{
    Columns, Query, ROWS_AT_ONCE, Statement, Store, TEXT, TEXTS, UUID, read_values,
};
use super::table::{insert, insert_all, place, query, sql, table};
use crate::errors::{self, Result};
use crate::ledger::interrupt::checked;
use crate::ledger::margin::{self, KindPayment, ModelCost};
use crate::ledger::refund::RefundPart;
use crate::ledger::wallet::{EntryKind, Part, PendingEntry};
use crate::ledger::{Amount, Kind, Moment, jsonb};
use crate::sql_types::field::{Field, FromColumn, Nth, types};
use crate::sql_types::value::{self, Value};

/// An idempotency key and the hash of the request it stands for.
#[derive(Clone, Debug)]
pub struct Key {
    pub text: String,
    pub request: Vec<u8>,
}

table! {
    /// A movement: to be booked, or as it was booked.
    #[derive(Clone, Debug)]
    pub struct Entry {
        customer: String as text,
        asset: String as text,
        /// Nil until it is booked.
        id: Uuid as uuid,
        /// Its number among the wallet's rows.
        seq: u64 as bigint,
        created_at: Moment as timestamptz,
        occurred_at: Moment as timestamptz,
        accounted_at: Moment as timestamptz,
        price_version: Option<i32> as int,
        kind: Cow<'static, str> as text,
        action: Option<String> as text,
        quantity: Option<Decimal> as numeric,
        /// What comes is positive, what goes negative.
        credits: Amount as credits,
        /// The sum of the wallet's rows up to this one.
        balance: Amount as credits,
        /// Earned is positive, given back negative.
        revenue: Amount as money,
        cost: Option<Decimal> as money,
        /// By vendor and model; nothing where no usage tells.
        costs: Vec<ModelCost> as jsonb,
        allocations: Value as jsonb,
        authorization_id: Option<Uuid> as uuid,
        refers_to: Option<Uuid> as uuid,
        scopes: Option<Vec<String>> as texts,
        reason: Option<String> as text,
        dimensions: Value as jsonb,
        usage: Value as jsonb,
        idempotency_key: Option<String> as text,
        request: Option<Vec<u8>> as bytea,
        metadata: Value as jsonb,
    }
    beside {
        /// The part of it that is owed when it is booked.
        owed: Amount = Amount::ZERO,
    }
}

static LEDGER: DirectTable = DirectTable {
    nth: 1,
    name: "ledger",
    columns: Entry::DECLARED,
    types: Entry::TYPES,
    not_null: &[
        "customer",
        "asset",
        "id",
        "seq",
        "created_at",
        "occurred_at",
        "accounted_at",
        "kind",
        "credits",
        "balance",
        "revenue",
        "allocations",
    ],
    is_updated: false,
    indexes: &[
        "ledger_accounted_at: accounted_at datetime_minmax_multi_ops, created_at datetime_minmax_ops",
        "ledger_authorization: customer text_ops, authorization_id uuid_ops where (authorization_id IS NOT NULL)",
        "ledger_key: unique customer text_ops, idempotency_key text_ops where (idempotency_key IS NOT NULL)",
        "ledger_pkey: primary key customer text_ops, id uuid_ops",
        "ledger_refers_to: customer text_ops, refers_to uuid_ops where (refers_to IS NOT NULL)",
    ],
};

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
            customer: String::new(),
            asset: String::new(),
            id: Uuid::nil(),
            seq: 0,
            created_at: occurred_at,
            occurred_at,
            accounted_at: occurred_at,
            price_version: None,
            kind: Cow::Borrowed(kind),
            action: None,
            quantity: None,
            credits: Amount::ZERO,
            balance: Amount::ZERO,
            revenue: Amount::ZERO,
            cost: None,
            costs: Vec::new(),
            allocations: value::NULL,
            authorization_id: None,
            refers_to: None,
            scopes: None,
            reason: None,
            dimensions: value::NULL,
            usage: value::NULL,
            idempotency_key: None,
            request: None,
            metadata: value::NULL,
            owed: Amount::ZERO,
        }
    }

    /// The same under the key of a call.
    pub fn under(self, key: Option<&Key>) -> Entry {
        Entry {
            idempotency_key: key.map(|key| key.text.clone()),
            request: key.map(|key| key.request.clone()),
            ..self
        }
    }

    /// The entry that books a pending one.
    pub fn of_due(due: &PendingEntry) -> Entry {
        let gone = |kind, part: &Part| Entry {
            credits: -part.credits,
            allocations: allocations(std::slice::from_ref(part), "deferred"),
            refers_to: part.grant.map(|(id, _)| id),
            ..Entry::new(kind, due.at)
        };
        match &due.what {
            EntryKind::Expired(part) => gone("expiry", part),
            EntryKind::Revoked(part) => gone("revocation", part),
            EntryKind::Moved { part, to } => Entry {
                allocations: value::jsonb(&moved(part, *to)),
                refers_to: part.grant.map(|(id, _)| id),
                ..Entry::new("transfer", due.at)
            },
            EntryKind::Renewed { part, plan } => Entry {
                credits: part.credits,
                allocations: allocations(std::slice::from_ref(part), "deferred"),
                refers_to: part.grant.map(|(id, _)| id),
                reason: Some(format!("plan {plan}")),
                ..Entry::new("grant", due.at)
            },
            EntryKind::Settled { debt, action, part } => Entry {
                action: action.clone(),
                revenue: part.revenue,
                allocations: allocations(std::slice::from_ref(part), "revenue"),
                refers_to: Some(*debt),
                ..Entry::new("settlement", due.at)
            },
        }
    }

    /// Gives the entry its place among the rows of a wallet whose time is `now`; they add up to
    /// `balance` with it.
    pub fn number(&mut self, customer: &str, asset: &str, now: Moment, seq: u64, balance: Amount) {
        customer.clone_into(&mut self.customer);
        asset.clone_into(&mut self.asset);
        self.created_at = now;
        self.id = row_id(now, seq);
        self.seq = seq;
        self.balance = balance;
    }

    /// Its allocations, read back; unearned money that moved counts as revenue zero.
    pub fn parts(&self) -> Result<Vec<Part>> {
        read_parts(&self.allocations()?, "the allocations of a ledger row")
    }

    fn allocations(&self) -> Result<Json> {
        let missing = || errors::corrupted("a ledger row", "it has no allocations");
        value::read_json(self.allocations)?.ok_or_else(missing)
    }

    /// The usage that came with it, read back.
    pub fn read_usage(&self) -> Result<Option<Json>> {
        value::read_json(self.usage)
    }

    /// The part of it that was owed when it was booked.
    pub fn was_owed(&self) -> Result<Amount> {
        let parts = self.parts()?;
        let owed = parts.iter().filter(|part| part.grant.is_none());
        Ok(owed.map(|part| part.credits).sum())
    }

    /// The parts of a refund, read back.
    pub fn backs(&self) -> Result<Vec<RefundPart>> {
        let allocations = self.allocations()?;
        let damaged = || errors::corrupted("the allocations of a refund", &allocations);
        let debts = |part: &Json| {
            let ids = part.get("debts").and_then(Json::as_array);
            let read = |id: &Json| Uuid::parse_str(id.as_str()?).ok();
            ids.into_iter().flatten().map(read).collect::<Option<_>>()
        };
        let list = allocations.as_array().ok_or_else(damaged)?;
        list.iter()
            .map(|part| {
                Ok(RefundPart {
                    part: read_part(part).ok_or_else(damaged)?,
                    debts: debts(part).ok_or_else(damaged)?,
                })
            })
            .collect()
    }

    /// What each kind of grant paid, as reports count it.
    pub fn paid(&self) -> Result<Vec<KindPayment>> {
        let allocations = self.allocations()?;
        margin::paid(&self.kind, &allocations)
            .ok_or_else(|| errors::corrupted("the allocations of a ledger row", &allocations))
    }

    /// The costs that came with it, by vendor and model; where no usage tells, the cost that was given,
    /// of no vendor.
    pub fn spent(&self) -> Vec<ModelCost> {
        match self.costs.is_empty() {
            true => vec![ModelCost {
                cost: self.cost,
                ..ModelCost::default()
            }],
            false => self.costs.clone(),
        }
    }
}

/// What vendors charge for a movement, as the ledger keeps it: NULL where no usage tells.
pub fn stored_costs(spent: &[ModelCost]) -> Value {
    if spent.is_empty() {
        return value::NULL;
    }
    let list = spent.iter().map(ModelCost::json).collect();
    value::jsonb(&Json::Array(list).to_string())
}

impl Field<types::jsonb> for Vec<ModelCost> {
    fn value(&self, _: &str) -> Result<Value> {
        Ok(stored_costs(self))
    }
}

impl FromColumn for Vec<ModelCost> {
    fn from_value(value: Value) -> Result<Vec<ModelCost>> {
        match value::read_json(value)? {
            Some(costs) => ModelCost::read_all(Some(&costs), None)
                .ok_or_else(|| errors::corrupted("the vendors' costs", costs)),
            None => Ok(Vec::new()),
        }
    }
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
    let grant = part.grant.map(|(id, kind)| (id.to_string(), kind.as_str()));
    let (grant, kind) = grant.unzip();
    json!([{
        "grant": grant,
        "kind": kind,
        "credits": part.credits.to_string(),
        "deferred": part.revenue.money(),
        "to": to.to_string(),
    }])
    .to_string()
}

/// One end of a transfer, for its allocations: the grant there, and what came out of it or into it.
pub struct TransferEnd {
    pub here: Part,
    /// The grant at the other end.
    pub there: Uuid,
}

/// The allocations of a transfer: `"to"` and `"to_customer"` where the credits go, `"from"` and
/// `"from_customer"` where they come from.
pub fn transferred(moved: &[TransferEnd], way: &str, customer: &str) -> String {
    let parts = moved.iter().filter_map(|TransferEnd { here, there }| {
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
pub fn allocations(parts: &[Part], money: &str) -> Value {
    allocations_of(&mut parts.iter().map(|part| (part, money)))
}

/// The same of parts whose money has different names.
pub fn allocations_of(parts: &mut dyn Iterator<Item = (&Part, &str)>) -> Value {
    let mut list = jsonb::List::default();
    for (part, money) in parts {
        let credits = part.credits.to_string();
        match part.grant {
            Some((id, kind)) => {
                let mut text = Uuid::encode_buffer();
                let id = &*id.hyphenated().encode_lower(&mut text);
                let earned = part.revenue.money();
                list.push(&[
                    ("kind", Some(kind.as_str())),
                    ("grant", Some(id)),
                    ("credits", Some(&credits)),
                    (money, Some(&earned)),
                ]);
            }
            None => list.push(&[
                ("kind", Some("overdraft")),
                ("grant", None),
                ("credits", Some(&credits)),
            ]),
        }
    }
    value::jsonb_bytes(&list.finish())
}

/// The allocations of a refund. `debts` are the revocations that led to a part: it lowers the debt of the
/// last one, or goes back to the grant that had paid it.
pub fn given_back(backs: &[RefundPart]) -> String {
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
        if !back.debts.is_empty() {
            let debts: Vec<String> = back.debts.iter().map(Uuid::to_string).collect();
            part["debts"] = json!(debts);
        }
        part
    });
    Json::Array(parts.collect()).to_string()
}

static INSERT: Statement = insert!("ledger", Entry);

static INSERT_ONCE: Statement = insert!(
    "ledger",
    Entry,
    " ON CONFLICT (customer, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
);

/// In the list of columns the arrays are read in step, and none of them is copied.
static INSERT_ALL: Statement = insert_all!(
    "ledger",
    Entry,
    " ON CONFLICT (customer, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
);

/// Books a numbered movement of a locked wallet. False, and nothing is written, when its key is taken.
pub fn insert(store: &Store, entry: &mut Entry) -> Result<bool> {
    let (occurred_at, now) = (entry.occurred_at, entry.created_at);
    entry.accounted_at = periods::accounted_at(store, &entry.asset, occurred_at, now)?;
    let statement = match entry.idempotency_key {
        Some(_) => &INSERT_ONCE,
        None => &INSERT,
    };
    let (values, key) = (entry.values()?, entry.idempotency_key.as_deref());
    let inserted = match direct_access::insert(store, &LEDGER, &values, &entry.customer, key)? {
        Some(inserted) => inserted,
        None => statement.run(store, &values)?.count() > 0,
    };
    if inserted && entry.idempotency_key.is_some() {
        store.keep_key();
    }
    Ok(inserted)
}

/// Rows that are to be inserted together, while all their wallets are locked.
#[derive(Default)]
pub struct NewRows {
    rows: Vec<Vec<Value>>,
    /// By asset. No period can be closed meanwhile.
    first_open: HashMap<String, Option<Moment>>,
}

/// A key of a row that another transaction has taken since the wallets were locked: in another asset, so the call
/// has to fail, and must neither read nor write any more.
pub struct TakenKey {
    pub customer: String,
    pub key: String,
}

/// Columns of a row among many: what it is found by, and what arrays of many rows have as text.
const CUSTOMER: usize = place(Entry::DECLARED, "customer");
const ID: usize = place(Entry::DECLARED, "id");
const SCOPES: usize = place(Entry::DECLARED, "scopes");
const KEY: usize = place(Entry::DECLARED, "idempotency_key");

impl NewRows {
    /// One more numbered movement.
    pub fn add(&mut self, store: &Store, entry: &mut Entry) -> Result<()> {
        let (occurred_at, now) = (entry.occurred_at, entry.created_at);
        entry.accounted_at = if occurred_at >= now {
            occurred_at
        } else {
            self.first_open(store, &entry.asset)?
                .map_or(occurred_at, |first| first.max(occurred_at))
        };
        self.rows.push(entry.values()?);
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

    /// Inserts them all, none of whose keys was there when the wallets had been locked.
    pub fn insert_new(&mut self, store: &Store) -> Result<Option<TakenKey>> {
        let rows = std::mem::take(&mut self.rows);
        for some in rows.chunks(ROWS_AT_ONCE) {
            let taken = match direct_access::insert_all(store, &LEDGER, some) {
                Some(inserted) => some.get(inserted),
                None if insert_by_sql(store, some)? => None,
                None => Some(other_has_key(store, some)?),
            };
            if let Some(row) = taken {
                let ((customer, key), _) = named(row)?;
                return Ok(Some(TakenKey { customer, key }));
            }
        }
        Ok(None)
    }

    /// Inserts those that there are, none of which has a key, for a call that reads them.
    pub fn write(&mut self, store: &Store) -> Result<()> {
        match self.insert_new(store)? {
            None => Ok(()),
            Some(_) => Err(errors::corrupted("the ledger", "a row is there already")),
        }
    }

    /// Inserts them all. False when one of their keys is taken: then the call has to fail.
    pub fn insert(&self, store: &Store) -> Result<bool> {
        insert_by_sql(store, &self.rows)
    }
}

/// The customer, the key and the id of a row that has a key.
fn named(row: &[Value]) -> Result<((String, String), Uuid)> {
    let column = |column: usize| row.get(column).copied().flatten();
    read_values(&[column(CUSTOMER), column(KEY), column(ID)])
}

/// The first of these rows whose key another row has.
fn other_has_key<'a>(store: &Store, rows: &'a [Vec<Value>]) -> Result<&'a Vec<Value>> {
    for row in checked(rows).filter(|row| row.get(KEY).is_some_and(Option::is_some)) {
        let ((customer, key), id) = named(row)?;
        if by_key(store, &customer, &key)?.is_some_and(|other| other.id != id) {
            return Ok(row);
        }
    }
    Err(errors::corrupted("a key", "it is taken by no row"))
}

fn insert_by_sql(store: &Store, rows: &[Vec<Value>]) -> Result<bool> {
    if rows.is_empty() {
        return Ok(true);
    }
    let mut columns = Columns::new(Entry::ELEMENTS);
    for row in checked(rows) {
        columns.push(elements(row)?);
    }
    let inserted = INSERT_ALL.run(store, &columns.args())?.count();
    Ok(inserted == columns.count())
}

/// A row of the arrays that one statement inserts.
fn elements(row: &[Value]) -> Result<Vec<Value>> {
    let mut elements = row.to_vec();
    if let Some(scopes) = elements.get_mut(SCOPES).filter(|scopes| scopes.is_some()) {
        let names: Vec<String> = FromColumn::from_value(*scopes)?;
        *scopes = value::printed_texts(Some(&names));
    }
    Ok(elements)
}

/// Allocations, or the pins of an authorization, read back: parts/// Allocations, or the pins of an authorization, read back: parts without money count as revenue
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
        sql!(
            "SELECT ",
            Entry::COLUMNS,
            " FROM credyt.ledger l WHERE ",
            $condition
        )
    };
}

static BY_KEY: Statement = Statement {
    sql: booked!("l.customer = $1 AND l.idempotency_key = $2"),
    args: &[TEXT, TEXT],
};

static BY_KEYS: Statement = Statement {
    sql: sql!(
        "SELECT k.nth, ",
        Entry::COLUMNS,
        "
         FROM unnest($1, $2) WITH ORDINALITY AS k (of_customer, of_key, nth)
             CROSS JOIN LATERAL (SELECT f.* FROM credyt.ledger f
                                 WHERE f.customer = k.of_customer AND f.idempotency_key = k.of_key
                                 LIMIT 1) l"
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

pub fn by_key(store: &Store, customer: &str, key: &str) -> Result<Option<Entry>> {
    let rows = BY_KEY.run(store, &[value::text(customer), value::text(key)])?;
    rows.read_first()
}

/// The movements of these keys, each of a customer, that there are: with the place of its key.
pub fn by_keys(store: &Store, keys: &[(&str, &str)]) -> Result<Vec<(usize, Entry)>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    if cluster::is_distributed() {
        let one = |(place, (customer, key)): (usize, &(&str, &str))| {
            let found = by_key(store, customer, key);
            found
                .map(|entry| entry.map(|entry| (place, entry)))
                .transpose()
        };
        return checked(keys).enumerate().filter_map(one).collect();
    }
    let mut columns = Columns::new(&[TEXT, TEXT]);
    for (customer, key) in keys {
        columns.push(vec![value::text(customer), value::text(key)]);
    }
    let rows = BY_KEYS.run(store, &columns.args())?;
    rows.iter()
        .map(|row| row.read().map(|(Nth(nth), entry)| (nth, entry)))
        .collect()
}

pub fn by_id(store: &Store, customer: &str, id: Uuid) -> Result<Option<Entry>> {
    let rows = BY_ID.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.read_first()
}

/// The rows that refer to a debit or a grant, in the order they were booked.
pub fn referring_to(store: &Store, customer: &str, id: Uuid) -> Result<Vec<Entry>> {
    let rows = REFERRING.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.read_all()
}

static CAPTURES: Statement = Statement {
    sql: booked!("l.customer = $1 AND l.authorization_id = $2 AND l.kind = 'debit' ORDER BY l.seq"),
    args: &[TEXT, UUID],
};

/// The captures of an authorization, in the order they were booked.
pub fn captures_of(store: &Store, customer: &str, authorization: Uuid) -> Result<Vec<Entry>> {
    let args = [value::text(customer), value::uuid(authorization)];
    let rows = CAPTURES.run(store, &args)?;
    rows.read_all()
}

query! {
    UsageBefore(customer: text, authorization: uuid, seq: bigint):
    "SELECT l.usage FROM credyt.ledger l
     WHERE l.customer = :customer AND l.authorization_id = :authorization AND l.kind = 'debit' AND l.seq < :seq
     ORDER BY l.seq DESC LIMIT 1"
}

/// The usage of the capture before this row.
pub fn usage_before(
    store: &Store,
    customer: &str,
    authorization: Uuid,
    seq: u64,
) -> Result<Option<Json>> {
    let query = UsageBefore {
        customer,
        authorization,
        seq,
    };
    Ok(query.run(store)?.read_first()?.flatten())
}
