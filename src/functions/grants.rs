//! Credits in: `open_wallet`, `grant_credits`.

use std::str::FromStr;

use pgrx::pg_sys;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::exchange::check_currency;
use super::once::{Outcome, once};
use super::request::{self, number};
use super::results::{GrantResult, wallet_row};
use crate::errors::{self, Error, Result};
use crate::ledger::alerts::TopUpTrigger;
use crate::ledger::amount::DECIMALS;
use crate::ledger::exchange::convert;
use crate::ledger::wallet::{EntryKind, Part, PendingEntry};
use crate::ledger::{Amount, Kind, Moment};
use crate::sql_types::{Args, args as arguments};
use crate::store::Store;
use crate::store::batch::Batch;
use crate::store::exchange;
use crate::store::grants::{self, GrantTerms};
use crate::store::ledger::{Entry, Key, allocations};
use crate::store::wallets::{self, OpenWallet};

pub fn open_wallet(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let asset = args.name("asset")?;
    let limit = args.optional_quantity("overdraft_limit")?;
    let metadata = args.optional_json("metadata")?;
    let open = Store::write(|store| {
        let mut open = wallets::open_or_create(store, &customer, &asset)?;
        open.not_closed()?;
        let limit = limit
            .map(|limit| arguments::amount("overdraft_limit", limit, open.asset.scale))
            .transpose()?;
        open.set_terms(store, limit, metadata.as_ref())?;
        open.write_back(store)?;
        Ok(open)
    })?;
    wallet_row(&open).datum(args)
}

pub struct NewGrant {
    pub customer: String,
    credits: Decimal,
    kind: Kind,
    pub asset: String,
    paid: Amount,
    expires_at: Option<Moment>,
    effective_at: Option<Moment>,
    priority: i32,
    applies_to: Option<Vec<String>>,
    pub key: Option<Key>,
    metadata: Option<serde_json::Value>,
    payment: Option<String>,
    /// Of `paid`; `None`: the asset's.
    currency: Option<String>,
}

pub fn grant_credits(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let request = read(args)?;
    let answer = once(
        &request.customer,
        request.key.as_ref(),
        |store| issue(store, &request).map(Outcome::of),
        |store, first: Entry| issued_before(store, &request.customer, first.refers_to),
    )?;
    answer.row(args)
}

pub fn read(args: &Args) -> Result<NewGrant> {
    let customer = args.name("customer")?;
    let credits = args.quantity("credits")?;
    if credits.is_zero() {
        return Err(errors::invalid("credits", "a grant of zero credits"));
    }
    let kind_text = args.name("kind")?;
    let kind = Kind::from_str(&kind_text).map_err(|_| {
        errors::invalid(
            "kind",
            format_args!("{kind_text:?} is none of included, promotional, purchased"),
        )
    })?;
    let asset = args.name("asset")?;
    let paid = args.paid("paid")?;
    let priority = args.int("priority")?;
    let applies_to = args.names("applies_to")?;
    check_patterns(applies_to.as_deref())?;
    let payment = args.optional_name("payment")?;
    let currency = args.optional_name("currency")?;
    if let Some(currency) = &currency {
        check_currency("currency", currency)?;
    }
    let fields = || {
        vec![
            ("asset", Some(asset.clone())),
            number("credits", Some(credits)),
            ("paid", Some(paid.to_string())),
            ("currency", currency.clone()),
            ("kind", Some(kind.to_string())),
            ("priority", Some(priority.to_string())),
            request::names("applies_to", applies_to.as_deref()),
            ("payment", payment.clone()),
        ]
    };
    let key_text = args.optional_name("idempotency_key")?;
    Ok(NewGrant {
        key: request::key(key_text, "grant_credits", fields),
        expires_at: args.optional_moment("expires_at")?,
        effective_at: args.optional_moment("effective_at")?,
        priority,
        metadata: args.optional_json("metadata")?,
        customer,
        credits,
        kind,
        asset,
        paid,
        applies_to,
        payment,
        currency,
    })
}

/// A pattern is an action, or the beginning of one and `*`.
pub fn check_patterns(patterns: Option<&[String]>) -> Result<()> {
    let Some(patterns) = patterns else {
        return Ok(());
    };
    if patterns.is_empty() {
        return Err(errors::invalid(
            "applies_to",
            "an empty list pays for nothing; NULL pays for all",
        ));
    }
    for pattern in patterns {
        if pattern.strip_suffix('*').unwrap_or(pattern).contains('*') {
            return Err(errors::invalid(
                "applies_to",
                format_args!("{pattern:?}: * may stand at the end only"),
            ));
        }
    }
    Ok(())
}

/// Books the grant; `None` when its key is taken.
fn issue(store: &Store, request: &NewGrant) -> Result<Option<GrantResult>> {
    let mut open = wallets::open_or_create(store, &request.customer, &request.asset)?;
    let (grant, mut entry, paid_debts) = put(store, request, &mut open)?;
    if !open.book(store, &mut entry, paid_debts)? {
        return Ok(None);
    }
    grants::insert(store, &grant)?;
    Ok(Some(GrantResult::of(&open, grant)))
}

/// Puts the grant into one of many open wallets; its own row is the caller's to insert.
pub fn issue_later(store: &Store, request: &NewGrant, batch: &mut Batch) -> Result<GrantResult> {
    let (open, rows) = batch.wallet(store, &request.customer, &request.asset)?;
    let (grant, mut entry, paid_debts) = put(store, request, open)?;
    open.book_later(store, &mut entry, paid_debts, rows)?;
    Ok(GrantResult::of(open, grant))
}

/// Puts the grant on the stack: what was issued, the movement to book, and the debts it paid.
fn put(
    store: &Store,
    request: &NewGrant,
    open: &mut OpenWallet,
) -> Result<(GrantTerms, Entry, Vec<PendingEntry>)> {
    open.not_closed()?;
    open.asks = TopUpTrigger::Never;
    let credits = arguments::amount("credits", request.credits, open.asset.scale)?;
    let effective_at = request.effective_at.unwrap_or(open.now);
    if let Some(end) = request.expires_at {
        if end <= effective_at {
            return Err(errors::invalid(
                "expires_at",
                format_args!("it ends at {end}, not after it starts"),
            ));
        }
        if end <= open.now {
            return Err(errors::invalid("expires_at", format_args!("{end} is over")));
        }
    }
    let (paid, exchange_rate) = paid_in_asset(store, request, open)?;
    let mut grant = GrantTerms {
        customer: request.customer.clone(),
        id: Uuid::now_v7(),
        asset: request.asset.clone(),
        kind: request.kind,
        priority: request.priority,
        credits,
        paid,
        settled: Amount::ZERO,
        debt_revenue: Amount::ZERO,
        effective_at,
        expires_at: request.expires_at,
        applies_to: request.applies_to.clone(),
        origin: None,
        created_at: open.now,
        metadata: request.metadata.clone(),
        payment: request.payment.clone(),
        currency: request.currency.clone().filter(|_| exchange_rate.is_some()),
        currency_paid: exchange_rate.map(|_| request.paid),
        exchange_rate,
    };
    let paid_debts = open.issue(store, grant.open(credits, paid, false))?;
    for due in &paid_debts {
        if let PendingEntry {
            what: EntryKind::Settled { part, .. },
            ..
        } = due
        {
            grant.settled += part.credits;
            grant.debt_revenue += part.revenue;
        }
    }
    if request.kind == Kind::Purchased {
        open.wallet.alert_state.purchased();
    }
    if effective_at <= open.now {
        open.refilled();
    }
    let part = Part {
        grant: Some((grant.id, grant.kind)),
        credits,
        revenue: paid,
    };
    let entry = Entry {
        credits,
        allocations: allocations(&[part], "deferred"),
        refers_to: Some(grant.id),
        ..Entry::new("grant", open.now).under(request.key.as_ref())
    };
    Ok((grant, entry, paid_debts))
}

/// What was paid in the asset's currency, to ten decimals, and the rate of now where it was paid in another.
fn paid_in_asset(
    store: &Store,
    request: &NewGrant,
    open: &OpenWallet,
) -> Result<(Amount, Option<Decimal>)> {
    let to = &open.asset.currency;
    let Some(currency) = request.currency.as_ref().filter(|from| *from != to) else {
        return Ok((request.paid, None));
    };
    let rate = exchange::rate(store, currency, to, open.now)?
        .ok_or_else(|| errors::no_exchange_rate(currency, to))?;
    let out_of_range = || {
        let why = format_args!("{} {currency} at {rate} is not below 1e15", request.paid);
        errors::out_of_range("paid", why)
    };
    let paid = request.paid.to_decimal().ok_or_else(out_of_range)?;
    let paid = convert(paid, rate, DECIMALS).ok_or_else(out_of_range)?;
    let paid = Amount::from_decimal(paid, DECIMALS).map_err(|_| out_of_range())?;
    Ok((paid, Some(rate)))
}

/// The first answer to a grant again: what it had when it was issued; what is held of it now.
fn issued_before(store: &Store, customer: &str, id: Option<Uuid>) -> Result<GrantResult> {
    Ok(issued_first(current_grant(store, customer, id)?))
}

/// The same from one of many open wallets.
pub fn issued_before_in(store: &Store, open: &OpenWallet, id: Option<Uuid>) -> Result<GrantResult> {
    let grant = issued(store, &open.customer, id)?;
    Ok(issued_first(GrantResult::of(open, grant)))
}

fn issued_first(now: GrantResult) -> GrantResult {
    GrantResult {
        remaining: now.grant.credits - now.grant.settled,
        deferred: now.grant.paid - now.grant.debt_revenue,
        replayed: true,
        ..now
    }
}

/// A grant as it stands now, without locking.
pub fn current_grant(store: &Store, customer: &str, id: Option<Uuid>) -> Result<GrantResult> {
    let grant = issued(store, customer, id)?;
    let view = wallets::look(store, customer, &grant.asset, None)?.ok_or_else(missing_row)?;
    Ok(GrantResult::in_wallet(grant, &view.wallet))
}

/// The grant that a ledger row refers to.
fn issued(store: &Store, customer: &str, id: Option<Uuid>) -> Result<GrantTerms> {
    grants::by_id(store, customer, id.ok_or_else(missing_row)?)?.ok_or_else(missing_row)
}

fn missing_row() -> Error {
    errors::corrupted("the ledger", "a grant's row refers to no grant")
}
