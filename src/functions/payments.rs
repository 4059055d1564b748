//! `revoke_payment`: a chargeback of all that came with one payment.
//!
//! Its credits may have rolled over or gone to teams, and mixed there with others. Of a grant that only a
//! part of is the payment's, the unspent rest counts as the payment's first, then what moved on, then what
//! was spent.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::pg_sys;
use uuid::Uuid;

use super::grants::current_grant;
use super::once::{Outcome, once};
use super::request;
use super::results::GrantResult;
use super::revoke::{owes, revocation};
use crate::errors::{self, Result};
use crate::ledger::interrupt::check;
use crate::ledger::wallet::Part;
use crate::ledger::{Amount, Moment};
use crate::sql_types::{Args, row};
use crate::store::Store;
use crate::store::booking;
use crate::store::grants::{self, GrantTerms};
use crate::store::ledger::{Entry, Key};
use crate::store::payments::{self, PaidPeriods};
use crate::store::plans;
use crate::store::wallets::{self, OpenWallet};

struct RevokePaymentRequest {
    customer: String,
    payment: String,
    owe_spent: bool,
    reason: Option<String>,
    key: Option<Key>,
}

pub fn revoke_payment(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let request = read(args)?;
    let results = once::<Entry, _>(
        &request.customer,
        request.key.as_ref(),
        |store| revoke(store, &request).map(Outcome::of),
        |store, _| answer_again(store, &request),
    )?;
    row::rows(args, results.into_iter().map(GrantResult::into_row))
}

fn read(args: &Args) -> Result<RevokePaymentRequest> {
    let customer = args.name("customer")?;
    let payment = args.name("payment")?;
    let spent = args.name("spent")?;
    let owe_spent = owes(&spent)?;
    let fields = || {
        vec![
            ("payment", Some(payment.clone())),
            ("spent", Some(spent.clone())),
        ]
    };
    let key_text = args.optional_name("idempotency_key")?;
    Ok(RevokePaymentRequest {
        key: request::key(key_text, "revoke_payment", fields),
        reason: args.text("reason")?,
        customer,
        payment,
        owe_spent,
    })
}

/// A grant with credits of the payment. In the order in which credits move: a grant comes before those
/// that its credits went to.
type Claims = BTreeMap<(Moment, Moment, Uuid), (GrantTerms, Amount)>;

/// `credits` of this grant, more where some are known, are the payment's.
fn claim(claims: &mut Claims, grant: GrantTerms, credits: Amount) {
    let place = (grant.created_at, grant.effective_at, grant.id);
    let (_, claimed) = claims.entry(place).or_insert((grant, Amount::ZERO));
    *claimed += credits;
}

fn roots(store: &Store, request: &RevokePaymentRequest, periods: &[PaidPeriods]) -> Result<Claims> {
    let mut claims = Claims::new();
    for grant in payments::grants(store, &request.customer, &request.payment, periods)? {
        let credits = grant.credits;
        claim(&mut claims, grant, credits);
    }
    Ok(claims)
}

/// All grants that credits of the payment are or were in.
fn reached(store: &Store, mut claims: Claims) -> Result<Vec<GrantTerms>> {
    let mut reached: Vec<GrantTerms> = Vec::new();
    let mut seen = BTreeSet::new();
    while let Some((_, (grant, _))) = claims.pop_first() {
        check();
        if !seen.insert(grant.id) {
            continue;
        }
        for (to, credits) in payments::moves(store, &grant.customer, grant.id)? {
            claim(&mut claims, to, credits);
        }
        reached.push(grant);
    }
    Ok(reached)
}

/// The wallets that the payment's credits are in, locked in one order for all calls.
struct Wallets<'a> {
    store: &'a Store,
    open: BTreeMap<(String, String), OpenWallet>,
}

impl Wallets<'_> {
    fn get(&mut self, customer: &str, asset: &str) -> Result<&mut OpenWallet> {
        let name = (customer.to_owned(), asset.to_owned());
        if !self.open.contains_key(&name) {
            let mut open = wallets::open(self.store, customer, asset)?;
            open.book_due_now(self.store)?;
            self.open.insert(name.clone(), open);
        }
        self.open
            .get_mut(&name)
            .ok_or_else(|| errors::wallet_not_found(customer, asset))
    }
}

/// What is taken of a grant.
struct Take {
    grant: GrantTerms,
    /// All of the grant is the payment's.
    whole: bool,
    unspent: Option<Part>,
    spent: Part,
}

/// Books the revocations; `None` when the key is taken.
fn revoke(store: &Store, request: &RevokePaymentRequest) -> Result<Option<Vec<GrantResult>>> {
    let customer = request.customer.as_str();
    // A period that nobody has booked yet may be the payment's.
    booking::book_due_of(store, customer)?;
    let periods = payments::periods(store, customer, &request.payment)?;
    let mut wallets = lock(store, request, &periods)?;
    let claims = roots(store, request, &periods)?;
    if claims.is_empty() && periods.is_empty() {
        return Err(errors::not_found("payment", customer, &request.payment));
    }

    // All unspent credits go first, so that none of them pays what is owed.
    let mut takes = take(&mut wallets, request, claims)?;
    // The customer's own rows come first: one of them has the key.
    takes.sort_by_key(|take| take.grant.customer != customer);
    let mut key = request.key.as_ref();
    let mut elsewhere: BTreeMap<String, Amount> = BTreeMap::new();
    let own = |take: &Take| take.grant.customer == customer;
    if key.is_some() && !takes.iter().any(|take| own(take) && take.moves()) {
        // A key is kept with a row, even of nothing.
        let name = wallets.open.keys().find(|(name, _)| name == customer);
        let asset = name.map(|(_, asset)| asset.clone()).unwrap_or_default();
        let open = wallets.get(customer, &asset)?;
        let mut entry = Entry {
            reason: request.reason.clone(),
            ..revocation(open, &[], &[], Amount::ZERO).under(key.take())
        };
        if !open.book(store, &mut entry, Vec::new())? {
            return Ok(None);
        }
    }
    for take in &takes {
        let open = wallets.get(&take.grant.customer, &take.grant.asset)?;
        let owed = if own(take) {
            take.spent.credits
        } else {
            // It is owed by who paid, not by whom he gave the credits to.
            let owed = elsewhere.entry(take.grant.asset.clone()).or_default();
            *owed += take.spent.credits;
            Amount::ZERO
        };
        if take.moves() {
            let spent = std::slice::from_ref(&take.spent);
            let key = key.take().filter(|_| own(take));
            let mut entry = Entry {
                refers_to: Some(take.grant.id),
                reason: request.reason.clone(),
                ..revocation(open, take.unspent.as_slice(), spent, owed).under(key)
            };
            if !open.book(store, &mut entry, Vec::new())? {
                return Ok(None);
            }
        } else {
            open.write_back(store)?;
        }
        if take.whole {
            let (owner, id) = (&take.grant.customer, take.grant.id);
            grants::revoke(store, owner, id, request.owe_spent, open.now)?;
        }
    }
    for (asset, owed) in elsewhere {
        if owed.is_positive() {
            let open = wallets.get(customer, &asset)?;
            let mut entry = Entry {
                reason: request.reason.clone(),
                ..revocation(open, &[], &[], owed)
            };
            open.book(store, &mut entry, Vec::new())?;
        }
    }
    stop_periods(store, customer, &periods, &mut wallets)?;
    let results = takes.into_iter().map(|take| {
        let open = wallets.get(&take.grant.customer, &take.grant.asset)?;
        Ok(GrantResult::of(open, take.grant))
    });
    results.collect::<Result<Vec<_>>>().map(Some)
}

impl Take {
    /// It books a row.
    fn moves(&self) -> bool {
        let unspent = self.unspent.as_ref();
        unspent.is_some_and(|part| part.credits.is_positive()) || self.spent.credits.is_positive()
    }
}

/// Locks the wallets that the payment's credits are in.
fn lock<'a>(
    store: &'a Store,
    request: &RevokePaymentRequest,
    periods: &[PaidPeriods],
) -> Result<Wallets<'a>> {
    let reached = reached(store, roots(store, request, periods)?)?;
    let mut names: BTreeSet<(String, String)> = reached
        .into_iter()
        .map(|grant| (grant.customer, grant.asset))
        .collect();
    for paid in periods {
        if let Some(known) = plans::by_id(store, &request.customer, paid.subscription_id)? {
            names.insert((request.customer.clone(), known.asset));
        }
    }
    let open = BTreeMap::new();
    let mut wallets = Wallets { store, open };
    for (customer, asset) in names {
        wallets.get(&customer, &asset)?;
    }
    Ok(wallets)
}

/// Takes the unspent rests out of the wallets, and finds what was spent.
fn take(
    wallets: &mut Wallets,
    request: &RevokePaymentRequest,
    mut claims: Claims,
) -> Result<Vec<Take>> {
    let store = wallets.store;
    let mut takes = Vec::new();
    while let Some((_, (grant, claimed))) = claims.pop_first() {
        check();
        let moves = payments::moves(store, &grant.customer, grant.id)?;
        let whole = claimed >= grant.credits;
        let open = wallets.get(&grant.customer, &grant.asset)?;
        if whole {
            open.wallet.mark_revoked(grant.id);
        }
        let unspent = open.wallet.remove(grant.id, claimed);
        let mut left = claimed - unspent.as_ref().map_or(Amount::ZERO, |part| part.credits);
        for (to, moved) in moves {
            let credits = left.min(moved);
            left -= credits;
            if credits.is_positive() {
                claim(&mut claims, to, credits);
            }
        }
        let mut spent = Part {
            grant: Some((grant.id, grant.kind)),
            credits: Amount::ZERO,
            revenue: Amount::ZERO,
        };
        if request.owe_spent {
            let (credits, earned) = grants::spent(store, &grant.customer, grant.id)?;
            spent.credits = left.min(credits).or_zero();
            if spent.credits.is_positive() {
                spent.revenue = earned.share(spent.credits, credits);
            }
        }
        takes.push(Take {
            grant,
            whole,
            unspent,
            spent,
        });
    }
    Ok(takes)
}

/// Periods that it paid for and that have not begun wait for another payment.
fn stop_periods(
    store: &Store,
    customer: &str,
    periods: &[PaidPeriods],
    wallets: &mut Wallets,
) -> Result<()> {
    for paid in periods {
        let Some(mut known) = plans::by_id(store, customer, paid.subscription_id)? else {
            continue;
        };
        let subscription = &mut known.subscription;
        let Some(next) = subscription.next.map(|next| next.max(paid.since)) else {
            continue;
        };
        let pays = paid.until.is_some_and(|until| until > next);
        if pays && subscription.paid_through.is_none_or(|paid| paid > next) {
            subscription.paid_through = Some(next);
            plans::set_ends(store, customer, subscription)?;
            wallets.get(customer, &known.asset)?.renew(store, None)?;
        }
    }
    Ok(())
}

/// All grants of the payment as they stand now.
fn answer_again(store: &Store, request: &RevokePaymentRequest) -> Result<Vec<GrantResult>> {
    let periods = payments::periods(store, &request.customer, &request.payment)?;
    let mut grants = reached(store, roots(store, request, &periods)?)?;
    grants.sort_by_key(|grant| grant.customer != request.customer);
    grants
        .into_iter()
        .map(|grant| {
            let now = current_grant(store, &grant.customer, Some(grant.id))?;
            Ok(GrantResult {
                replayed: true,
                ..now
            })
        })
        .collect()
}
