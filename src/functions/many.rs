//! Many calls as one: `debit_many`, `capture_many`, `grant_many`.
//!
//! Each element is a call of its own, read and applied as the single call would:
//! customer by customer, each customer's in the order given. What one customer does changes nothing
//! for another, so the outcome is that of the same calls one after another in the order given.

use std::borrow::Cow;
use std::collections::HashMap;

use pgrx::pg_sys;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::capture::{self, Capture};
use super::debit::{self, DebitRequest};
use super::grants::{self, NewGrant};
use super::once::{conflict, stands_for};
use super::results::{DebitResult, GrantResult};
use crate::errors::{self, Code, Error, Result};
use crate::ledger::interrupt::checked;
use crate::sql_types::args::required;
use crate::sql_types::named::encoded_twice;
use crate::sql_types::{Args, row};
use crate::store::Store;
use crate::store::authorizations;
use crate::store::batch::{Batch, WalletKeys};
use crate::store::grants as grant_rows;
use crate::store::ledger::{self, Entry, Key, TakenKey};
use crate::store::signatures;
use crate::store::wallets::OpenWallet;

/// More elements than these are not taken at once: they are in memory together.
const MAX_CALLS: usize = 100_000;

pub fn debit_many(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let requests = read(args, "debit_credits", debit::read)?;
    let skip = match args.name("on_shortfall")?.as_str() {
        "reject" => false,
        "skip" => true,
        other => {
            let why = format_args!("{other:?} is neither reject nor skip");
            return Err(errors::invalid("on_shortfall", why));
        }
    };
    let results = Store::write(|store| {
        let batch = Batch::open(store, &wanted(&requests))?;
        answer(store, &requests, batch, skip)
    })?;
    row::rows(args, results.into_iter().map(DebitResult::into_row))
}

pub fn capture_many(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let captures = read(args, "capture", capture::read)?;
    let results = Store::write(|store| {
        let ids: Vec<(&str, Uuid)> = (captures.iter())
            .map(|capture| (capture.customer.as_str(), capture.id))
            .collect();
        let assets = authorizations::assets_of(store, &ids)?;
        let of = |(capture, asset)| CaptureOf { capture, asset };
        let calls: Vec<CaptureOf> = captures.iter().zip(assets).map(of).collect();
        let batch = Batch::open(store, &wanted(&calls))?;
        answer(store, &calls, batch, false)
    })?;
    row::rows(args, results.into_iter().map(DebitResult::into_row))
}

/// A capture, and the asset of its authorization where there is such a one.
struct CaptureOf<'a> {
    capture: &'a Capture,
    asset: Option<String>,
}

pub fn grant_many(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let requests = read(args, "grant_credits", grants::read)?;
    let results = Store::write(|store| {
        let batch = Batch::open_or_create(store, &wanted(&requests))?;
        let results = answer(store, &requests, batch, false)?;
        let new = results.iter().filter(|answer| !answer.replayed);
        grant_rows::insert_all(store, new.map(|answer| &answer.grant))?;
        Ok(results)
    })?;
    row::rows(args, results.into_iter().map(GrantResult::into_row))
}

/// Reads the calls: an array of requests as the jsonb form of `function` takes them.
fn read<C>(args: &Args, function: &'static str, read: fn(&Args) -> Result<C>) -> Result<Vec<C>> {
    let requests = required("requests", args.optional_json("requests")?)?;
    let Json::Array(elements) = requests else {
        let why = "it has to be a JSON array of objects";
        return Err(errors::invalid("requests", why));
    };
    if elements.len() > MAX_CALLS {
        let why = format_args!("more than {MAX_CALLS} elements");
        return Err(errors::out_of_range("requests", why));
    }
    let signature = signatures::of(function)?;
    let call = |(index, element)| {
        let call = object(element).and_then(|given| {
            let args = args.by_name(&given, &signature)?;
            read(&args).map_err(|error| error.about(args.subject()))
        });
        call.map_err(|error: Error| error.at_index(index))
    };
    checked(&elements).enumerate().map(call).collect()
}

/// The arguments that an element names.
fn object(element: &Json) -> Result<Cow<'_, Map<String, Json>>> {
    match (encoded_twice(element), element) {
        (Some(Json::Object(given)), _) => Ok(Cow::Owned(given)),
        (_, Json::Object(given)) => Ok(Cow::Borrowed(given)),
        _ => Err(errors::not_an_object()),
    }
}

/// A call that comes with others.
trait Call {
    type Output;
    fn customer(&self) -> &str;
    fn asset(&self) -> &str;
    fn key(&self) -> Option<&Key>;
    /// What an error says that it was about.
    fn subject(&self) -> Vec<(&'static str, String)> {
        vec![
            ("customer", self.customer().to_owned()),
            ("asset", self.asset().to_owned()),
        ]
    }
    /// Applies it to its wallet, to be written with the others.
    fn make(&self, store: &Store, batch: &mut Batch) -> Result<Self::Output>;
    /// The first answer again, where its key was used before this batch, or in it.
    fn replay(&self, store: &Store, first: &Entry, open: &OpenWallet) -> Result<Self::Output>;
    fn repeat(&self, first: &Self::Output, open: &OpenWallet) -> Self::Output;
    /// What is said of one that is refused and left out.
    fn refused(&self, reason: &str, open: Option<&OpenWallet>) -> Option<Self::Output>;
}

impl Call for DebitRequest {
    type Output = DebitResult;

    fn customer(&self) -> &str {
        &self.customer
    }

    fn asset(&self) -> &str {
        &self.asset
    }

    fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    fn subject(&self) -> Vec<(&'static str, String)> {
        vec![
            ("customer", self.customer.clone()),
            ("asset", self.asset.clone()),
            ("action", self.action.clone()),
        ]
    }

    fn make(&self, store: &Store, batch: &mut Batch) -> Result<DebitResult> {
        debit::spend_later(store, self, batch)
    }

    fn replay(&self, _: &Store, first: &Entry, open: &OpenWallet) -> Result<DebitResult> {
        Ok(DebitResult::replayed_in(open, first.clone()))
    }

    fn repeat(&self, first: &DebitResult, open: &OpenWallet) -> DebitResult {
        first.again(open)
    }

    fn refused(&self, reason: &str, open: Option<&OpenWallet>) -> Option<DebitResult> {
        Some(DebitResult::refused(
            &self.customer,
            &self.asset,
            &self.action,
            self.charge.quantity,
            reason,
            open,
        ))
    }
}

impl Call for NewGrant {
    type Output = GrantResult;

    fn customer(&self) -> &str {
        &self.customer
    }

    fn asset(&self) -> &str {
        &self.asset
    }

    fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    fn make(&self, store: &Store, batch: &mut Batch) -> Result<GrantResult> {
        grants::issue_later(store, self, batch)
    }

    fn replay(&self, store: &Store, first: &Entry, open: &OpenWallet) -> Result<GrantResult> {
        grants::issued_before_in(store, open, first.refers_to)
    }

    fn repeat(&self, first: &GrantResult, _: &OpenWallet) -> GrantResult {
        GrantResult {
            replayed: true,
            ..first.clone()
        }
    }

    fn refused(&self, _: &str, _: Option<&OpenWallet>) -> Option<GrantResult> {
        None
    }
}

impl Call for CaptureOf<'_> {
    type Output = DebitResult;

    fn customer(&self) -> &str {
        &self.capture.customer
    }

    fn asset(&self) -> &str {
        self.asset.as_deref().unwrap_or_default()
    }

    /// Totals are their own key.
    fn key(&self) -> Option<&Key> {
        None
    }

    fn subject(&self) -> Vec<(&'static str, String)> {
        vec![
            ("customer", self.capture.customer.clone()),
            ("authorization_id", self.capture.id.to_string()),
        ]
    }

    fn make(&self, store: &Store, batch: &mut Batch) -> Result<DebitResult> {
        let Capture { customer, id, .. } = self.capture;
        let missing = || errors::not_found("authorization", customer, *id);
        let authorization = authorizations::by_id(store, customer, *id)?.ok_or_else(missing)?;
        if authorization.last_capture.is_some() {
            // What was captured before is read again; it may be of this batch.
            batch.insert_rows(store)?;
        }
        let (open, rows) = batch.wallet(store, customer, self.asset())?;
        self.capture.run(store, open, authorization, Some(rows))
    }

    /// Never asked for without a key.
    fn replay(&self, _: &Store, first: &Entry, open: &OpenWallet) -> Result<DebitResult> {
        Ok(DebitResult::replayed_in(open, first.clone()))
    }

    fn repeat(&self, first: &DebitResult, open: &OpenWallet) -> DebitResult {
        first.again(open)
    }

    fn refused(&self, _: &str, _: Option<&OpenWallet>) -> Option<DebitResult> {
        None
    }
}

/// The wallets that the calls are about.
fn wanted<C: Call>(calls: &[C]) -> WalletKeys<'_> {
    calls
        .iter()
        .map(|call| (call.customer(), call.asset()))
        .collect()
}

/// What an idempotency key of the batch stands for.
enum KeyUse {
    Before(Box<Entry>),
    /// The call of this batch at this place.
    Now(usize),
}

/// Makes all calls in their open wallets and writes them: their answers, in the order given. The
/// first refused, in that order, is raised, unless it is left out.
fn answer<C: Call>(
    store: &Store,
    calls: &[C],
    mut batch: Batch,
    skip: bool,
) -> Result<Vec<C::Output>> {
    let mut known = keys(store, calls)?;
    let mut results: Vec<Option<C::Output>> = calls.iter().map(|_| None).collect();
    let mut refused: Option<(usize, Error)> = None;
    let mut stuck: Option<&str> = None;
    for (place, call) in checked(by_customer(calls)) {
        let customer = call.customer();
        if stuck == Some(customer) {
            continue;
        }
        let name = call.key().map(|key| (customer, key.text.as_str()));
        let open = || batch.find(customer, call.asset());
        let known_as = name.and_then(|name| known.get(&name));
        let again = known_as.map(|known| match (known, open()) {
            (KeyUse::Before(first), Some(open)) if stands_for(&**first, call.key()) => {
                call.replay(store, first, open)
            }
            (KeyUse::Now(first), Some(open)) if same_call(call, calls.get(*first)) => {
                let first = results.get(*first).and_then(Option::as_ref);
                first
                    .map(|first| call.repeat(first, open))
                    .ok_or_else(missing_row)
            }
            _ => Err(conflict(customer, call.key())),
        });
        let answer = match again {
            Some(answer) => answer,
            None => match call.make(store, &mut batch) {
                Ok(answer) => {
                    known.extend(name.map(|name| (name, KeyUse::Now(place))));
                    Ok(answer)
                }
                Err(error) => match skippable(&error).filter(|_| skip) {
                    Some(reason) => call
                        .refused(reason, batch.find(customer, call.asset()))
                        .ok_or(error),
                    None => Err(error),
                },
            },
        };
        match answer {
            Ok(answer) => {
                if let Some(slot) = results.get_mut(place) {
                    *slot = Some(answer);
                }
            }
            Err(error) => {
                // Another customer's may come earlier in the order given.
                stuck = Some(customer);
                if refused.as_ref().is_none_or(|(first, _)| place < *first) {
                    refused = Some((place, error.about(call.subject())));
                }
            }
        }
    }
    if let Some((place, error)) = refused {
        return Err(error.at_index(place));
    }
    if let Some(taken) = batch.write(store)? {
        return Err(taken_meanwhile(store, calls, &taken)?);
    }
    let results: Option<Vec<C::Output>> = results.into_iter().collect();
    results.ok_or_else(missing_row)
}

/// Since the keys were looked up another transaction took one of them, in another asset: a wallet of
/// this one would have been locked. So it stands for another request.
fn taken_meanwhile<C: Call>(store: &Store, calls: &[C], taken: &TakenKey) -> Result<Error> {
    let mut named = calls.iter().enumerate();
    let taken = match taken {
        TakenKey::Of { customer, key } => named.find(|(_, call)| {
            call.customer() == customer && call.key().is_some_and(|one| one.text == *key)
        }),
        TakenKey::Unknown => {
            let known = keys(store, calls)?;
            named.find(|(_, call)| {
                let name = call.key().map(|key| (call.customer(), key.text.as_str()));
                let first = name.and_then(|name| known.get(&name));
                matches!(first, Some(KeyUse::Before(first)) if !stands_for(&**first, call.key()))
            })
        }
    };
    let (place, call) = taken.ok_or_else(missing_row)?;
    Ok(conflict(call.customer(), call.key())
        .about(call.subject())
        .at_index(place))
}

/// The calls with their places, customer by customer, each customer's in the order given.
fn by_customer<C: Call>(calls: &[C]) -> Vec<(usize, &C)> {
    let mut ordered: Vec<(usize, &C)> = calls.iter().enumerate().collect();
    ordered.sort_by(|(_, one), (_, other)| one.customer().cmp(other.customer()));
    ordered
}

/// What was booked before under the keys of these calls, whose wallets are locked.
fn keys<'a, C: Call>(store: &Store, calls: &'a [C]) -> Result<HashMap<(&'a str, &'a str), KeyUse>> {
    let name = |call: &'a C| Some((call.customer(), call.key()?.text.as_str()));
    let names: Vec<(&str, &str)> = calls.iter().filter_map(name).collect();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let mut known = HashMap::with_capacity(names.len());
    for (place, booked) in ledger::by_keys(store, &names)? {
        known.extend(
            names
                .get(place)
                .map(|name| (*name, KeyUse::Before(Box::new(booked)))),
        );
    }
    Ok(known)
}

/// Whether both are the same request.
fn same_call<C: Call>(call: &C, first: Option<&C>) -> bool {
    let first = first.and_then(|first| first.key());
    call.key().map(|key| &key.request) == first.map(|key| &key.request)
}

/// Why a call may be left out: what `authorize` would answer rather than raise, and what the vendor's answer
/// lacks.
fn skippable(error: &Error) -> Option<&'static str> {
    match error.code {
        Code::InsufficientCredits
        | Code::WalletNotFound
        | Code::WalletFrozen
        | Code::LimitExceeded
        | Code::ScopeMissing => Some(error.code.slug()),
        Code::UsageUnreadable => Some("usage_unreadable"),
        Code::CostUnknown => Some("cost_unknown"),
        _ => None,
    }
}

fn missing_row() -> Error {
    errors::corrupted("the batch", "a call has no answer")
}
