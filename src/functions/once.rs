//! Idempotency: a key stands for one call, for ever.

use crate::errors::{self, Error, Result};
use crate::store::Store;
use crate::store::authorizations::{self, Authorization};
use crate::store::ledger::{self, Entry, Key};

/// A row that keeps the key of the call it was written by.
pub trait Keyed: Sized {
    fn by_key(store: &Store, customer: &str, key: &str) -> Result<Option<Self>>;
    /// The hash of what was asked.
    fn request(&self) -> Option<&[u8]>;
}

impl Keyed for Entry {
    fn by_key(store: &Store, customer: &str, key: &str) -> Result<Option<Entry>> {
        ledger::by_key(store, customer, key)
    }

    fn request(&self) -> Option<&[u8]> {
        self.request.as_deref()
    }
}

impl Keyed for Authorization {
    fn by_key(store: &Store, customer: &str, key: &str) -> Result<Option<Authorization>> {
        authorizations::by_key(store, customer, key)
    }

    fn request(&self) -> Option<&[u8]> {
        self.request.as_deref()
    }
}

/// What came of a call that was not refused with an error.
pub enum Outcome<A> {
    Booked(A),
    /// An answer that says no, and has moved nothing.
    Refused(A),
    /// Its key is taken, and nothing was written.
    KeyTaken,
}

impl<A> Outcome<A> {
    /// `None`: the key is taken.
    pub fn of(booked: Option<A>) -> Outcome<A> {
        booked.map_or(Outcome::KeyTaken, Outcome::Booked)
    }
}

/// Runs a call at most once: a key that is taken answers with the first answer `again`, or WC005 when it
/// stands for another request. The key is asked before any refusal, since the first call may be why the
/// second is refused; so a call that is refused must have moved nothing.
pub fn once<K: Keyed, A>(
    customer: &str,
    key: Option<&Key>,
    call: impl FnOnce(&Store) -> Result<Outcome<A>>,
    again: impl FnOnce(&Store, K) -> Result<A>,
) -> Result<A> {
    let first = |store: &Store| {
        let Some(key) = key else {
            return Ok(None);
        };
        match K::by_key(store, customer, &key.text)? {
            Some(first) if !stands_for(&first, Some(key)) => Err(conflict(customer, Some(key))),
            first => Ok(first),
        }
    };
    once_by(first, call, again)
}

/// The same where something else than an idempotency key tells that it is the call of before: `first`
/// finds what that one wrote. An error that is raised after this call has written it is an error.
pub fn once_by<K, A>(
    first: impl FnOnce(&Store) -> Result<Option<K>>,
    call: impl FnOnce(&Store) -> Result<Outcome<A>>,
    again: impl FnOnce(&Store, K) -> Result<A>,
) -> Result<A> {
    Store::write(|store| {
        let refused = match call(store) {
            Ok(Outcome::Booked(answer)) => return Ok(answer),
            Ok(Outcome::Refused(answer)) => Ok(answer),
            Ok(Outcome::KeyTaken) => Err(errors::corrupted("a key", "it is taken by no row")),
            Err(error) if store.has_kept_key() => return Err(error),
            Err(error) => Err(error),
        };
        match first(store)? {
            Some(first) => again(store, first),
            None => refused,
        }
    })
}

/// Whether the key stands for no call yet.
pub fn is_free<K: Keyed>(store: &Store, customer: &str, key: Option<&Key>) -> Result<bool> {
    match key {
        Some(key) => Ok(K::by_key(store, customer, &key.text)?.is_none()),
        None => Ok(true),
    }
}

/// Whether the same request wrote the row.
pub fn stands_for(first: &impl Keyed, key: Option<&Key>) -> bool {
    first.request() == key.map(|key| key.request.as_slice())
}

/// WC005.
pub fn conflict(customer: &str, key: Option<&Key>) -> Error {
    errors::idempotency_conflict(customer, key.map_or("", |key| &key.text))
}
