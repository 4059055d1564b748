//! `debit_credits`: spend credits on an action.

use std::rc::Rc;

use pgrx::pg_sys;
use uuid::Uuid;

use super::costing::Costing;
use super::once::{Outcome, once};
use super::pricing::Pricing;
use super::request::{self, Charge};
use super::results::DebitResult;
use crate::errors::{self, Result};
use crate::ledger::limit::missing_scope;
use crate::ledger::wallet::{Part, total};
use crate::ledger::{Amount, Moment};
use crate::sql_types::Args;
use crate::store::Store;
use crate::store::assets;
use crate::store::batch::Batch;
use crate::store::ledger::{self, Documents, Entry, Key, allocations};
use crate::store::wallets::{self, OpenWallet};

pub struct DebitRequest {
    pub customer: String,
    pub action: String,
    pub asset: String,
    pub charge: Rc<Charge>,
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
        |store| spend(store, &request).map(Outcome::of),
        |store, first| DebitResult::replayed(store, &request.customer, first),
    )?;
    answer.row(args)
}

pub fn read(args: &Args) -> Result<DebitRequest> {
    let customer = args.name("customer")?;
    let action = args.name("action")?;
    let charge = Charge::read_new(args)?;
    let asset = args.name("asset")?;
    let key_text = args.optional_name("idempotency_key")?;
    let scopes = args.names("scopes")?;
    Ok(DebitRequest {
        key: request::key(key_text, "debit_credits", || {
            charge.fields(&asset, &action, scopes.as_deref())
        }),
        scopes,
        occurred_at: args.optional_moment("occurred_at")?,
        documents: Documents {
            dimensions: args.as_given("dimensions", charge.stored_dimensions().as_ref())?,
            usage: args.as_given("usage", charge.usage.as_ref())?,
            metadata: args.as_given("metadata", args.optional_json("metadata")?.as_ref())?,
        },
        customer,
        action,
        asset,
        charge: Rc::new(charge),
    })
}

/// A debit that is ready to be taken from its wallet: all that is known before that is locked.
struct PreparedDebit<'a> {
    request: &'a DebitRequest,
    pricing: Pricing,
    costing: Rc<Costing>,
}

impl PreparedDebit<'_> {
    fn new<'a>(store: &Store, request: &'a DebitRequest) -> Result<PreparedDebit<'a>> {
        let asset = assets::asset(store, &request.asset)?;
        let at = match request.occurred_at {
            Some(at) => at,
            None => assets::now(store)?,
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
        Ok(PreparedDebit {
            request,
            pricing,
            costing,
        })
    }

    /// Takes the credits from the open wallet: what is to be booked. A request that the vendor has an id for
    /// is counted once, which the wallet's lock protects.
    fn take(&mut self, store: &Store, open: &mut OpenWallet) -> Result<Entry> {
        let request = self.request;
        if self.costing.names_requests() {
            let counted = self.costing.counted_once(store, &request.customer, None)?;
            self.costing = Rc::new(counted);
        }
        open.active()?;
        let scopes = request.scopes.as_deref().unwrap_or_default();
        if let Some(limit) = missing_scope(&open.wallet.limits, scopes) {
            let (customer, asset) = (&open.customer, &open.asset.name);
            return Err(errors::scope_missing(customer, asset, &limit.scope));
        }
        if let Some(at) = request.occurred_at.filter(|at| *at > open.now) {
            let why = format_args!("{at} is in the future");
            return Err(errors::invalid("occurred_at", why));
        }
        let priced = self.pricing.in_wallet(store, open, request.occurred_at)?;
        let parts = open.spend(&request.action, priced.credits)?;
        Ok(request.entry(&parts, priced.version, open.now, &self.costing))
    }

    /// The debit stands for the vendors' requests that it names.
    fn claim(&self, store: &Store, debit: Uuid) -> Result<()> {
        let customer = &self.request.customer;
        self.costing.claim(store, customer, debit, None)
    }
}

/// Books the debit; `None` when its key is taken.
fn spend(store: &Store, request: &DebitRequest) -> Result<Option<DebitResult>> {
    let mut debit = PreparedDebit::new(store, request)?;
    let mut open = wallets::open(store, &request.customer, &request.asset)?;
    let mut entry = debit.take(store, &mut open)?;
    if !open.book(store, &mut entry, Vec::new())? {
        return Ok(None);
    }
    debit.claim(store, entry.id)?;
    Ok(Some(DebitResult::booked(&open, entry)))
}

/// Takes the debit from one of many open wallets; where it is refused, that one is as it was.
pub fn spend_later(
    store: &Store,
    request: &DebitRequest,
    batch: &mut Batch,
) -> Result<DebitResult> {
    let mut debit = PreparedDebit::new(store, request)?;
    let (open, rows) = batch.wallet(store, &request.customer, &request.asset)?;
    // Limits refuse after the wallet has paid.
    let limited = (!open.wallet.limits.is_empty()).then(|| open.wallet.clone());
    let mut entry = debit.take(store, open)?;
    if let Err(refused) = open.book_later(store, &mut entry, Vec::new(), rows) {
        if let Some(before) = limited {
            open.wallet = before;
        }
        return Err(refused);
    }
    debit.claim(store, entry.id)?;
    Ok(DebitResult::booked(open, entry))
}

impl DebitRequest {
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
        allocations: allocations(parts, "revenue"),
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

/// A movement of this customer, or WC011.
pub fn movement(store: &Store, customer: &str, id: Uuid, what: &str) -> Result<Entry> {
    ledger::by_id(store, customer, id)?.ok_or_else(|| errors::not_found(what, customer, id))
}
