//! Idempotency: a key stands for one call, for ever.

use std::collections::HashMap;

use crate::errors::{self, Result};
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
        let first = K::by_key(store, customer, &key.text)?;
        if let Some(first) = &first {
            check_request(customer, key, first.request())?;
        }
        Ok(first)
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

/// WC005 where the key stands for another request than the first.
fn check_request(customer: &str, key: &Key, first: Option<&[u8]>) -> Result<()> {
    match first == Some(key.request.as_slice()) {
        true => Ok(()),
        false => Err(errors::idempotency_conflict(customer, &key.text)),
    }
}

/// The first calls under the keys of a batch, whose wallets are locked.
pub struct FirstCalls<'a>(HashMap<(&'a str, &'a str), First<'a>>);

pub enum First<'a> {
    /// Booked before the batch.
    Booked(Box<Entry>),
    /// The call of the batch at this place, and its key.
    InBatch(usize, &'a Key),
}

impl<'a> FirstCalls<'a> {
    /// Those that were booked before.
    pub fn of(
        store: &Store,
        calls: impl Iterator<Item = (&'a str, Option<&'a Key>)>,
    ) -> Result<FirstCalls<'a>> {
        let names: Vec<(&str, &str)> = calls
            .filter_map(|(customer, key)| Some((customer, key?.text.as_str())))
            .collect();
        let mut first = HashMap::with_capacity(names.len());
        for (place, entry) in ledger::by_keys(store, &names)? {
            let name = names.get(place);
            first.extend(name.map(|name| (*name, First::Booked(Box::new(entry)))));
        }
        Ok(FirstCalls(first))
    }

    /// The first call under this key, or WC005.
    pub fn find<'b>(
        &'b self,
        customer: &'b str,
        key: Option<&'b Key>,
    ) -> Result<Option<&'b First<'b>>> {
        let Some(key) = key else {
            return Ok(None);
        };
        let first = self.0.get(&(customer, key.text.as_str()));
        let request = match first {
            Some(First::Booked(entry)) => entry.request(),
            Some(First::InBatch(_, first)) => Some(first.request.as_slice()),
            None => return Ok(None),
        };
        check_request(customer, key, request)?;
        Ok(first)
    }

    /// A call of the batch was the first one under its key.
    pub fn add(&mut self, customer: &'a str, key: Option<&'a Key>, place: usize) {
        let call = key.map(|key| ((customer, key.text.as_str()), First::InBatch(place, key)));
        self.0.extend(call);
    }
}
