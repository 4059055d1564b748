//! `debit_credits`: spend credits on an action.

use std::rc::Rc;

use pgrx::pg_sys;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::answers::DebitAnswer;
use super::costing::Costing;
use super::request::{self, Charge, Pricing};
use crate::errors::{self, Error, Result};
use crate::ledger::wallet::{Part, total};
use crate::ledger::{Amount, Moment};
use crate::sql_types::{Args, value};
use crate::store::Store;
use crate::store::batch::Batch;
use crate::store::books;
use crate::store::ledger::{self, Documents, Entry, Key, allocations};
use crate::store::spending::{self, Spend};
use crate::store::wallets::{self, OpenWallet};

pub struct Request {
    pub customer: String,
    pub action: String,
    pub asset: String,
    charge: Rc<Charge>,
    pub key: Option<Key>,
    scopes: Option<Vec<String>>,
    occurred_at: Option<Moment>,
    documents: Documents,
}

pub fn debit_credits(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let request = read(args)?;
    let answer = once(
        &request.customer,
        request.key.as_ref(),
        |store| spend(store, &request),
        |store, first| DebitAnswer::replayed(store, &request.customer, first),
    )?;
    answer.row(args)
}

pub fn read(args: &Args) -> Result<Request> {
    let customer = args.name(0, "customer")?;
    let action = args.name(1, "action")?;
    let charge = Charge::read_new(args, 2)?;
    let asset = args.name(7, "asset")?;
    let key_text = args.optional_name(8, "idempotency_key")?;
    let scopes = args.names(9, "scopes")?;
    Ok(Request {
        key: request::key(key_text, "debit_credits", || {
            charge.fields(&asset, &action, scopes.as_deref())
        }),
        scopes,
        occurred_at: args.optional_moment(10, "occurred_at")?,
        documents: Documents {
            dimensions: args.as_given(3, "dimensions", charge.stored_dimensions().as_ref())?,
            usage: args.as_given(4, "usage", charge.usage.as_ref())?,
            metadata: args.as_given(
                11,
                "metadata",
                args.optional_json(11, "metadata")?.as_ref(),
            )?,
        },
        customer,
        action,
        asset,
        charge: Rc::new(charge),
    })
}

/// What it will cost the customer, and us: all that is known before the wallet is open.
fn price(store: &Store, request: &Request) -> Result<(Rc<Spend>, Rc<Costing>)> {
    let asset = books::asset(store, &request.asset)?;
    let occurred_at = request.occurred_at;
    let at = match occurred_at {
        Some(at) => at,
        None => books::now(store)?,
    };
    let costing = Rc::new(Costing::of(store, &asset, &request.charge, at)?);
    let pricing = Pricing::new(
        store,
        &asset,
        &request.action,
        &request.customer,
        &request.charge,
        &costing,
    )?;
    let spend = Spend {
        action: request.action.clone(),
        scopes: request.scopes.clone(),
        quantity: request.charge.quantity,
        occurred_at,
        price: Box::new(move |open| match occurred_at {
            Some(at) if at > open.now => Err(errors::invalid(
                "occurred_at",
                format_args!("{at} is in the future"),
            )),
            _ => pricing.at(occurred_at, open.now, Some(open)),
        }),
    };
    Ok((Rc::new(spend), costing))
}

/// Takes the debit from one of many open wallets; where it is refused, that one is as it was.
pub fn spend_later(store: &Store, request: &Request, batch: &mut Batch) -> Result<DebitAnswer> {
    let (customer, asset) = (&request.customer, &request.asset);
    let (spend, mut costing) = price(store, request)?;
    let (open, rows) = batch.wallet(store, customer, asset)?;
    if costing.names_requests() {
        costing = Rc::new(costing.counted_once(store, customer, None)?);
    }
    // Limits refuse after the wallet has paid.
    let limited = (!open.wallet.limits.is_empty()).then(|| open.wallet.clone());
    let (parts, price_version) = spend.apply(store, open)?;
    let mut entry = request.entry(&parts, price_version, open.now, &costing);
    if let Err(refused) = open.book_later(store, &mut entry, Vec::new(), rows) {
        if let Some(before) = limited {
            open.wallet = before;
        }
        return Err(refused);
    }
    costing.claim(store, customer, entry.id, None)?;
    Ok(DebitAnswer::booked(open, entry))
}

/// Books the debit; `None` when its key is taken.
fn spend(store: &Store, request: &Request) -> Result<Option<DebitAnswer>> {
    let (spend, costing) = price(store, request)?;
    if costing.names_requests() {
        return spend_once(store, request, &spend, &costing);
    }
    // Where nothing has fallen due, two statements do: one for the wallet and one for the ledger.
    if let Some(spent) = spending::in_place(store, &request.customer, &request.asset, &spend)? {
        let mut entry = request.entry(&spent.parts, spent.price_version, spent.open.now, &costing);
        return Ok(spent
            .book(store, &mut entry)?
            .then(|| DebitAnswer::booked(&spent.open, entry)));
    }
    let mut open = wallets::open(store, &request.customer, &request.asset)?;
    let (parts, price_version) = spend.apply(store, &mut open)?;
    let entry = request.entry(&parts, price_version, open.now, &costing);
    book(store, &mut open, entry)
}

/// Books a debit for requests that the vendor has ids for: under the wallet's lock, so that each is
/// counted once.
fn spend_once(
    store: &Store,
    request: &Request,
    spend: &Spend,
    costing: &Costing,
) -> Result<Option<DebitAnswer>> {
    let mut open = wallets::open(store, &request.customer, &request.asset)?;
    let costing = costing.counted_once(store, &request.customer, None)?;
    let (parts, price_version) = spend.apply(store, &mut open)?;
    let entry = request.entry(&parts, price_version, open.now, &costing);
    let answer = book(store, &mut open, entry)?;
    if let Some(id) = answer.as_ref().and_then(DebitAnswer::id) {
        costing.claim(store, &request.customer, id, None)?;
    }
    Ok(answer)
}

impl Request {
    pub fn quantity(&self) -> Option<Decimal> {
        self.charge.quantity
    }

    fn entry(
        &self,
        parts: &[Part],
        price_version: Option<i32>,
        now: Moment,
        costing: &Costing,
    ) -> Entry {
        Entry {
            action: Some(self.action.clone()),
            quantity: self.charge.quantity,
            cost: costing.cost,
            costs: costing.spent.clone(),
            price_version,
            scopes: self.scopes.clone(),
            dimensions: self.documents.dimensions,
            usage: self.documents.usage,
            metadata: self.documents.metadata,
            ..debit_entry(parts, self.occurred_at.unwrap_or(now)).under(self.key.as_ref())
        }
    }
}

/// A debit that these parts pay.
pub fn debit_entry(parts: &[Part], occurred_at: Moment) -> Entry {
    Entry {
        credits: -total(parts),
        revenue: parts.iter().map(|part| part.revenue).sum(),
        allocations: value::jsonb(&allocations(parts, "revenue")),
        owed: owed(parts),
        ..Entry::new("debit", occurred_at)
    }
}

fn owed(parts: &[Part]) -> Amount {
    parts
        .iter()
        .filter(|part| part.grant.is_none())
        .map(|part| part.credits)
        .sum()
}

/// Books an entry with its wallet; `None` when its key is taken.
pub fn book(store: &Store, open: &mut OpenWallet, mut entry: Entry) -> Result<Option<DebitAnswer>> {
    Ok(open
        .book(store, &mut entry, Vec::new())?
        .then(|| DebitAnswer::booked(open, entry)))
}

/// Runs a call that books a movement under a key at most once: a key that is taken answers with the
/// first answer `again`, or WC005 when it stood for another request. The key is asked before any
/// refusal, since the first call may be why the second is refused; so a call that is refused must
/// have moved nothing.
pub fn once<A>(
    customer: &str,
    key: Option<&Key>,
    call: impl FnOnce(&Store) -> Result<Option<A>>,
    again: impl FnOnce(&Store, Entry) -> Result<A>,
) -> Result<A> {
    Store::write_for(customer, |store| {
        let refused = match call(store) {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => unbooked(),
            Err(error) => error,
        };
        let first = match key {
            Some(key) => first(store, customer, key)?,
            None => None,
        };
        match first {
            Some(booked) => again(store, booked),
            None => Err(refused),
        }
    })
}

/// The movement that a key stands for; WC005 when it is another request's.
fn first(store: &Store, customer: &str, key: &Key) -> Result<Option<Entry>> {
    match ledger::by_key(store, customer, &key.text)? {
        Some(booked) if booked.request.as_deref() == Some(&key.request) => Ok(Some(booked)),
        Some(_) => Err(errors::idempotency_conflict(customer, &key.text)),
        None => Ok(None),
    }
}

/// Nothing was booked although nothing spoke against it.
fn unbooked() -> Error {
    errors::corrupted(
        "the ledger",
        "a movement found neither a place nor a row with its key",
    )
}

/// A movement of this customer, or WC011.
pub fn movement(store: &Store, customer: &str, id: Uuid, what: &str) -> Result<Entry> {
    ledger::by_id(store, customer, id)?.ok_or_else(|| errors::not_found(what, customer, id))
}
