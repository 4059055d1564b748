//! The rows that callers get: `credyt.debit`, `credyt.authorization`, `credyt.grant`.

use std::borrow::Cow;

use pgrx::pg_sys;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::errors::Result;
use crate::ledger::{Amount, Grant, Moment};
use crate::sql_types::value::Value;
use crate::sql_types::{Args, Row, row, value};
use crate::store::Store;
use crate::store::authorizations::Authorization;
use crate::store::grants::GrantTerms;
use crate::store::ledger::Entry;
use crate::store::wallets::{self, OpenWallet};

/// What the row of a refund says when some of it did not come back, before the caller's own reason.
pub const FORFEITED: &str = "forfeited";

/// What is free and what is held in a wallet, as of now.
#[derive(Clone, Copy)]
pub struct CurrentBalance {
    pub available: Amount,
    pub held: Amount,
}

impl CurrentBalance {
    /// Without a wallet.
    const NONE: CurrentBalance = CurrentBalance {
        available: Amount::ZERO,
        held: Amount::ZERO,
    };

    pub fn of(open: &OpenWallet) -> CurrentBalance {
        CurrentBalance {
            available: open.available(),
            held: open.wallet.held(),
        }
    }

    /// Without locking: for answers that change nothing.
    pub fn now(store: &Store, customer: &str, asset: &str) -> Result<CurrentBalance> {
        let view = wallets::look(store, customer, asset, None)?;
        Ok(view.map_or(CurrentBalance::NONE, |view| CurrentBalance {
            available: view.wallet.available(view.now, None, view.limit),
            held: view.wallet.held(),
        }))
    }
}

/// A `credyt.debit`.
#[derive(Clone)]
pub struct DebitResult {
    customer: String,
    asset: String,
    /// `None`: refused.
    id: Option<Uuid>,
    kind: Cow<'static, str>,
    action: Option<String>,
    quantity: Option<Decimal>,
    credits: Amount,
    revenue: Amount,
    cost: Option<Decimal>,
    allocations: Value,
    authorization_id: Option<Uuid>,
    reason: Option<String>,
    created_at: Option<Moment>,
    balance: CurrentBalance,
    replayed: bool,
}

impl DebitResult {
    /// The answer to a call that booked this entry.
    pub fn booked(open: &OpenWallet, entry: Entry) -> DebitResult {
        DebitResult {
            customer: open.customer.clone(),
            asset: open.asset.name.clone(),
            id: Some(entry.id),
            kind: entry.kind,
            action: entry.action,
            quantity: entry.quantity,
            credits: positive(entry.credits),
            revenue: positive(entry.revenue),
            cost: entry.cost,
            allocations: entry.allocations,
            authorization_id: entry.authorization_id,
            reason: entry.reason,
            created_at: Some(open.now),
            balance: CurrentBalance::of(open),
            replayed: false,
        }
    }

    /// The first answer again.
    pub fn replayed(store: &Store, customer: &str, first: Entry) -> Result<DebitResult> {
        let balance = CurrentBalance::now(store, customer, &first.asset)?;
        Ok(DebitResult::first(customer, first, balance))
    }

    /// The same, as of now in one of many open wallets.
    pub fn replayed_in(open: &OpenWallet, first: Entry) -> DebitResult {
        DebitResult::first(&open.customer, first, CurrentBalance::of(open))
    }

    /// The same, of an answer that was just given.
    pub fn again(&self, open: &OpenWallet) -> DebitResult {
        DebitResult {
            balance: CurrentBalance::of(open),
            replayed: true,
            ..self.clone()
        }
    }

    /// Nothing was booked, and why. `open`: where there is such a wallet.
    pub fn refused(
        customer: &str,
        asset: &str,
        action: &str,
        quantity: Option<Decimal>,
        reason: &str,
        open: Option<&OpenWallet>,
    ) -> DebitResult {
        DebitResult {
            customer: customer.to_owned(),
            asset: asset.to_owned(),
            id: None,
            kind: "debit".into(),
            action: Some(action.to_owned()),
            quantity,
            credits: Amount::ZERO,
            revenue: Amount::ZERO,
            cost: None,
            allocations: value::jsonb("[]"),
            authorization_id: None,
            reason: Some(reason.to_owned()),
            created_at: None,
            balance: open.map_or(CurrentBalance::NONE, CurrentBalance::of),
            replayed: false,
        }
    }

    fn first(customer: &str, first: Entry, balance: CurrentBalance) -> DebitResult {
        DebitResult {
            balance,
            customer: customer.to_owned(),
            asset: first.asset,
            id: Some(first.id),
            kind: first.kind,
            action: first.action,
            quantity: first.quantity,
            credits: positive(first.credits),
            revenue: positive(first.revenue),
            cost: first.cost,
            allocations: first.allocations,
            authorization_id: first.authorization_id,
            reason: first.reason,
            created_at: Some(first.created_at),
            replayed: true,
        }
    }

    pub fn row(self, args: &Args) -> Result<Option<pg_sys::Datum>> {
        self.into_row().datum(args)
    }

    pub fn into_row(self) -> Row {
        let margin = self
            .cost
            .and_then(|cost| Some(self.revenue.to_decimal()? - cost));
        row! {
            id: value::optional_uuid(self.id),
            customer: value::text(&self.customer),
            asset: value::text(&self.asset),
            kind: value::text(&self.kind),
            action: value::optional_text(self.action.as_deref()),
            quantity: self.quantity.and_then(value::decimal),
            credits: value::credits(self.credits),
            revenue: value::money(self.revenue),
            cost: self.cost.and_then(value::money_decimal),
            margin: margin.and_then(value::money_decimal),
            available: value::credits(self.balance.available),
            held: value::credits(self.balance.held),
            allocations: self.allocations,
            authorization_id: value::optional_uuid(self.authorization_id),
            replayed: value::bool(self.replayed),
            reason: value::optional_text(self.reason.as_deref().map(answered)),
            created_at: value::optional_moment(self.created_at),
        }
    }
}

/// The reason as callers compare it: that a refund was forfeited, without the words they gave themselves.
fn answered(reason: &str) -> &str {
    match reason.split_once(": ") {
        Some((FORFEITED, _)) => FORFEITED,
        _ => reason,
    }
}

/// A `credyt.authorization`.
pub struct AuthorizationResult {
    pub customer: String,
    pub asset: String,
    pub action: String,
    /// `None`: refused.
    pub id: Option<Uuid>,
    pub reason: Option<String>,
    pub credits: Amount,
    /// The amount that was approved of what varies.
    pub granted: Option<Decimal>,
    pub captured: Amount,
    /// Credits available for this action now.
    pub available: Amount,
    pub status: Option<String>,
    pub expires_at: Option<Moment>,
    pub replayed: bool,
}

impl AuthorizationResult {
    /// An authorization as it stands at this moment.
    pub fn of(
        customer: &str,
        authorization: Authorization,
        available: Amount,
        now: Moment,
    ) -> AuthorizationResult {
        let ended = authorization.status == "open" && authorization.expires_at <= now;
        AuthorizationResult {
            customer: customer.to_owned(),
            asset: authorization.asset,
            action: authorization.action,
            id: Some(authorization.id),
            reason: authorization.reason,
            credits: authorization.credits,
            granted: authorization.granted,
            captured: authorization.captured,
            available,
            status: Some(if ended {
                "expired".to_owned()
            } else {
                authorization.status
            }),
            expires_at: Some(authorization.expires_at),
            replayed: false,
        }
    }

    pub fn row(self, args: &Args) -> Result<Option<pg_sys::Datum>> {
        row! {
            id: value::optional_uuid(self.id),
            customer: value::text(&self.customer),
            asset: value::text(&self.asset),
            action: value::text(&self.action),
            approved: value::bool(self.id.is_some()),
            reason: value::optional_text(self.reason.as_deref()),
            credits: value::credits(self.credits),
            granted: self.granted.and_then(value::decimal),
            captured: value::credits(self.captured),
            available: value::credits(self.available),
            status: value::optional_text(self.status.as_deref()),
            expires_at: value::optional_moment(self.expires_at),
            replayed: value::bool(self.replayed),
        }
        .datum(args)
    }
}

/// A `credyt.grant`.
#[derive(Clone)]
pub struct GrantResult {
    pub grant: GrantTerms,
    pub remaining: Amount,
    pub held: Amount,
    pub deferred: Amount,
    pub replayed: bool,
}

impl GrantResult {
    /// A grant as it stands in an open wallet.
    pub fn of(open: &OpenWallet, grant: GrantTerms) -> GrantResult {
        GrantResult::in_wallet(grant, &open.wallet)
    }

    pub fn in_wallet(grant: GrantTerms, wallet: &crate::ledger::Wallet) -> GrantResult {
        let open = wallet.grant(grant.id);
        GrantResult {
            remaining: open.map_or(Amount::ZERO, |g| g.remaining),
            held: open.map_or(Amount::ZERO, |g| g.held),
            deferred: open.map_or(Amount::ZERO, |g| g.deferred),
            grant,
            replayed: false,
        }
    }

    pub fn row(self, args: &Args) -> Result<Option<pg_sys::Datum>> {
        self.into_row().datum(args)
    }

    pub fn into_row(self) -> Row {
        let grant = self.grant;
        row! {
            id: value::uuid(grant.id),
            customer: value::text(&grant.customer),
            asset: value::text(&grant.asset),
            kind: value::text(grant.kind.as_str()),
            priority: value::int(grant.priority),
            credits: value::credits(grant.credits),
            remaining: value::credits(self.remaining),
            held: value::credits(self.held),
            paid: value::money(grant.paid),
            deferred: value::money(self.deferred),
            effective_at: value::moment(grant.effective_at),
            expires_at: value::optional_moment(grant.expires_at),
            applies_to: value::texts(grant.applies_to.as_deref()),
            origin: value::optional_uuid(grant.origin),
            replayed: value::bool(self.replayed),
        }
    }
}

/// A `credyt.wallet_row`.
pub fn wallet_row(open: &OpenWallet) -> Row {
    let wallet = &open.wallet;
    row! {
        customer: value::text(&open.customer),
        asset: value::text(&open.asset.name),
        settled: value::credits(wallet.settled(open.now)),
        held: value::credits(wallet.held()),
        available: value::credits(open.available()),
        owed: value::credits(wallet.owed),
        overdraft_limit: value::credits(open.limit),
        next_expiry: value::optional_moment(wallet.next_expiry(open.now)),
        status: value::text(&open.status),
    }
}

/// A grant that is open in a wallet, as a row of `credyt.grants(wallet)`: what the state does not
/// keep is NULL.
pub fn open_grant_row(grant: &Grant) -> Row {
    row! {
        id: value::uuid(grant.id),
        customer: value::NULL,
        asset: value::NULL,
        kind: value::text(grant.kind.as_str()),
        priority: value::int(grant.priority),
        credits: value::NULL,
        remaining: value::credits(grant.remaining),
        held: value::credits(grant.held),
        paid: value::NULL,
        deferred: value::money(grant.deferred),
        effective_at: value::moment(grant.effective_at),
        expires_at: value::optional_moment(grant.expires_at),
        applies_to: value::texts(grant.applies_to.as_deref()),
        origin: value::NULL,
        replayed: value::NULL,
    }
}

fn positive(amount: Amount) -> Amount {
    if amount.is_negative() {
        -amount
    } else {
        amount
    }
}
