//! Many calls as one: `debit_many`, `capture_many`, `grant_many`.
//!
//! Each element is a call of its own, read and applied as the single call would:
//! customer by customer, each customer's in the order given. What one customer does changes nothing
//! for another, so the outcome is that of the same calls one after another in the order given.

use std::borrow::Cow;

use pgrx::pg_sys;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::capture::{self, Capture};
use super::debit::{self, DebitRequest};
use super::grants::{self, NewGrant};
use super::once::{First, FirstCalls};
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
use crate::store::ledger::{Entry, Key, TakenKey};
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
    type Output: Answer;
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
    /// The answer to one that is refused and left out, where it may be.
    fn refused(&self, _reason: &str, _open: Option<&OpenWallet>) -> Option<Self::Output> {
        None
    }
}

/// The answer to a call, which its key answers with again.
trait Answer: Sized {
    /// Of a call before the batch, which booked this entry.
    fn replayed(store: &Store, first: &Entry, open: &OpenWallet) -> Result<Self>;
    /// Of a call in the batch.
    fn repeated(&self, open: &OpenWallet) -> Self;
}

impl Answer for DebitResult {
    fn replayed(_: &Store, first: &Entry, open: &OpenWallet) -> Result<DebitResult> {
        Ok(DebitResult::replayed_in(open, first.clone()))
    }

    fn repeated(&self, open: &OpenWallet) -> DebitResult {
        self.again(open)
    }
}

impl Answer for GrantResult {
    fn replayed(store: &Store, first: &Entry, open: &OpenWallet) -> Result<GrantResult> {
        grants::issued_before_in(store, open, first.refers_to)
    }

    fn repeated(&self, _: &OpenWallet) -> GrantResult {
        GrantResult {
            replayed: true,
            ..self.clone()
        }
    }
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
}

/// The wallets that the calls are about.
fn wanted<C: Call>(calls: &[C]) -> WalletKeys<'_> {
    calls
        .iter()
        .map(|call| (call.customer(), call.asset()))
        .collect()
}

/// Makes all calls in their open wallets and writes them: their answers, in the order given. The
/// first refused, in that order, is raised, unless it is left out.
fn answer<C: Call>(
    store: &Store,
    calls: &[C],
    mut batch: Batch,
    skip: bool,
) -> Result<Vec<C::Output>> {
    let keys = calls.iter().map(|call| (call.customer(), call.key()));
    let mut firsts = FirstCalls::of(store, keys)?;
    let mut results: Vec<Option<C::Output>> = calls.iter().map(|_| None).collect();
    let mut refused: Option<(usize, Error)> = None;
    let mut stuck: Option<&str> = None;
    // Customer by customer, each customer's in the order given.
    let mut ordered: Vec<(usize, &C)> = calls.iter().enumerate().collect();
    ordered.sort_by_key(|(_, call)| call.customer());
    for (place, call) in checked(ordered) {
        if stuck == Some(call.customer()) {
            continue;
        }
        let answer = match replay(store, call, &firsts, &results, &batch).transpose() {
            Some(again) => again,
            None => {
                let made = call.make(store, &mut batch);
                if made.is_ok() {
                    firsts.add(call.customer(), call.key(), place);
                }
                made.or_else(|error| match skippable(&error).filter(|_| skip) {
                    Some(reason) => call
                        .refused(reason, batch.find(call.customer(), call.asset()))
                        .ok_or(error),
                    None => Err(error),
                })
            }
        };
        match answer {
            Ok(answer) => {
                if let Some(slot) = results.get_mut(place) {
                    *slot = Some(answer);
                }
            }
            Err(error) => {
                // Another customer's may come earlier in the order given.
                stuck = Some(call.customer());
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
        return Err(taken_meanwhile(calls, &taken)?);
    }
    let results: Option<Vec<C::Output>> = results.into_iter().collect();
    results.ok_or_else(missing_row)
}

/// The first answer again, where the key of the call was used before, in the batch or before it.
fn replay<C: Call>(
    store: &Store,
    call: &C,
    firsts: &FirstCalls,
    results: &[Option<C::Output>],
    batch: &Batch,
) -> Result<Option<C::Output>> {
    let Some(first) = firsts.find(call.customer(), call.key())? else {
        return Ok(None);
    };
    let open = batch.find(call.customer(), call.asset());
    let open = open.ok_or_else(missing_row)?;
    match first {
        First::Booked(entry) => C::Output::replayed(store, entry, open).map(Some),
        First::InBatch(place, _) => {
            let first = results.get(*place).and_then(Option::as_ref);
            first
                .map(|first| Some(first.repeated(open)))
                .ok_or_else(missing_row)
        }
    }
}

/// Since the keys were looked up another transaction took one of them, in another asset: a wallet of
/// this one would have been locked. So it stands for another request.
fn taken_meanwhile<C: Call>(calls: &[C], TakenKey { customer, key }: &TakenKey) -> Result<Error> {
    let is_it =
        |call: &C| call.customer() == customer && call.key().is_some_and(|one| one.text == *key);
    let mut named = calls.iter().enumerate();
    let (place, call) = named
        .find(|(_, call)| is_it(call))
        .ok_or_else(missing_row)?;
    let conflict = errors::idempotency_conflict(customer, key);
    Ok(conflict.about(call.subject()).at_index(place))
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
