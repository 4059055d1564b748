//! The row of a wallet, and a wallet that is open for change: what it has in memory. `wallets` opens it, `booking`
//! writes it back.

use std::rc::Rc;

use serde_json::Value as Json;
use uuid::Uuid;

use super::assets::Asset;
use super::ledger::Key;
use super::nested::ReadAt;
use super::plans::Renewals;
use super::shape::DirectTable;
use super::table::{place, table};
use crate::errors::{self, Result};
use crate::ledger::alerts::TopUpTrigger;
use crate::ledger::limit::{Calendar, CalendarPeriod, Every};
use crate::ledger::month::MonthUse;
use crate::ledger::packed;
use crate::ledger::wallet::{Debt, EntryKind, Part, PendingEntry, WalletFull};
use crate::ledger::{Amount, Grant, Moment, Wallet};
use crate::sql_types::value::TablePlace;

table! {
    /// A wallet as it is kept.
    pub struct WalletRow {
        customer: String as text,
        asset: String as text,
        created_at: Moment as timestamptz,
        next_due_at: Option<Moment> as timestamptz,
        overdraft_limit: Amount as credits,
        /// active, frozen or closed.
        status: String as text,
        status_reason: Option<String> as text,
        metadata: Option<Json> as jsonb,
        state: Wallet as wallet,
    }
}

pub static WALLETS: DirectTable = DirectTable {
    nth: 0,
    name: "wallets",
    columns: WalletRow::DECLARED,
    types: WalletRow::TYPES,
    not_null: &[
        "customer",
        "asset",
        "created_at",
        "overdraft_limit",
        "status",
        "state",
    ],
    is_updated: true,
    indexes: &[
        "wallets_next_due_at: next_due_at datetime_ops where (next_due_at IS NOT NULL)",
        "wallets_pkey: primary key customer text_ops, asset text_ops",
    ],
};

impl WalletRow {
    /// An empty wallet.
    pub fn new(customer: &str, asset: &str, now: Moment) -> WalletRow {
        WalletRow {
            customer: customer.to_owned(),
            asset: asset.to_owned(),
            created_at: now,
            next_due_at: None,
            overdraft_limit: Amount::ZERO,
            status: "active".to_owned(),
            status_reason: None,
            metadata: None,
            state: Wallet::new(now),
        }
    }
}

table! {
    /// What every verb needs of it.
    pub struct Found {
        state: Wallet as wallet,
        next_due_at: Option<Moment> as timestamptz,
        status: String as text,
        overdraft_limit: Amount as credits,
        ctid: TablePlace as tid,
    }
}

/// Where columns are in the table, from 0.
pub const NEXT_DUE_AT: usize = place(WalletRow::DECLARED, "next_due_at");
pub const STATE: usize = place(WalletRow::DECLARED, "state");
/// The columns of `Found` but for the last.
pub const FOUND: [usize; 4] = [
    STATE,
    NEXT_DUE_AT,
    place(WalletRow::DECLARED, "status"),
    place(WalletRow::DECLARED, "overdraft_limit"),
];

/// A wallet that is open for change: locked until the caller's transaction ends, and as it is now.
pub struct OpenWallet {
    pub customer: String,
    pub asset: Rc<Asset>,
    pub status: String,
    pub limit: Amount,
    pub now: Moment,
    pub wallet: Wallet,
    /// When its row says that something falls due.
    pub(super) due_in_row: Option<Moment>,
    /// Where its row is, until it is written.
    pub(super) place: Option<TablePlace>,
    pub(super) read_at: ReadAt,
    /// The pending entries since the wallet last changed; booked when it is written back.
    pub(super) due: Vec<PendingEntry>,
    /// The holds among it.
    pub(super) ended: Vec<Uuid>,
    /// The subscriptions that renew with it.
    pub(super) renewals: Renewals,
    /// What it owes, debt by debt, the oldest first; `None` until that is needed.
    pub(super) debts: Option<Vec<Debt>>,
    /// What was used in months that the state does not count, as far as it was asked for.
    pub(super) late_uses: Vec<MonthUse>,
    /// By how much a refund has lowered debts; written with its movement.
    pub(super) lowered: Vec<DebtReduction>,
    /// The key of the call that makes a subscription begin, for the first grant it books.
    pub(super) key: Option<Key>,
    /// The higher one of its balance when it was written last, and after time has done its part.
    pub(super) was: Amount,
    /// When writing it may ask for a top-up.
    pub asks: TopUpTrigger,
    /// The sum of its ledger rows so far.
    pub(super) booked: Amount,
    /// What its spend limits tell; written with the wallet.
    pub(super) told: Vec<OutboxEvent>,
    /// What the authorization that is captured now still holds.
    pub still_held: Amount,
}

/// What a refund does to a debt.
pub(super) struct DebtReduction {
    pub(super) id: Uuid,
    pub(super) owed: Amount,
    /// Of a revocation's debt.
    pub(super) returned: Amount,
}

/// An event that is about to be written.
#[derive(Clone, Debug)]
pub struct OutboxEvent {
    /// Nil until the wallet is written.
    pub(super) id: Uuid,
    pub(super) kind: &'static str,
    /// JSON.
    pub(super) payload: String,
}

impl OutboxEvent {
    pub(super) fn new(kind: &'static str, payload: Json) -> OutboxEvent {
        OutboxEvent {
            id: Uuid::nil(),
            kind,
            payload: payload.to_string(),
        }
    }
}

/// Whether a period of a subscription has begun.
pub(super) fn renewed(due: &[PendingEntry]) -> bool {
    due.iter()
        .any(|due| matches!(due.what, EntryKind::Renewed { .. }))
}

impl OpenWallet {
    /// Spending needs an active wallet; WC006 otherwise.
    pub fn active(&self) -> Result<()> {
        if self.status == "active" {
            Ok(())
        } else {
            Err(errors::wallet_frozen(
                &self.customer,
                &self.asset.name,
                &self.status,
            ))
        }
    }

    /// A call that brings credits needs a wallet that is not closed; WC006 otherwise.
    pub fn not_closed(&self) -> Result<()> {
        if self.status == "closed" {
            self.active()
        } else {
            Ok(())
        }
    }

    /// Spends credits on an action: what paid. WC001.
    pub fn spend(&mut self, action: &str, credits: Amount) -> Result<Vec<Part>> {
        self.asks = TopUpTrigger::Always;
        let spent = self.wallet.spend(self.now, action, credits, self.limit);
        spent.map_err(|short| {
            let over = self.wallet.owed_beyond(self.limit);
            errors::insufficient_credits(&self.customer, &self.asset.name, short, over)
        })
    }

    /// Whether writing it asks for a top-up. Nobody pays for a wallet that cannot spend.
    pub fn wants_topup(&self) -> bool {
        let balance = self.wallet.balance(self.now);
        let asks = match self.asks {
            TopUpTrigger::Never => false,
            TopUpTrigger::OnFall => balance < self.was,
            TopUpTrigger::Always => true,
        };
        let topup = self.wallet.alert_state.topup.as_ref();
        asks && self.status == "active"
            && topup.is_some_and(|topup| topup.is_wanted(balance, self.now))
    }

    /// The credits it has got are what alerts in percent are of.
    pub fn refilled(&mut self) {
        let balance = self.wallet.balance(self.now);
        self.wallet.alert_state.refill(balance);
    }

    /// When the next call has more to do than what it is about: to book pending entries, to write events of
    /// a grant that will end, or to ask for a top-up.
    fn next_due_at(&self) -> Option<Moment> {
        let balance = self.wallet.balance(self.now);
        let topup = self.wallet.alert_state.topup.as_ref();
        let topup = topup.filter(|_| self.status == "active");
        let asks = topup.and_then(|topup| topup.next(balance, self.now));
        let notice = self
            .wallet
            .next_notice(self.now, self.asset.notice.as_ref());
        let next = self.wallet.next_due().into_iter();
        next.chain(asks).chain(notice).min()
    }

    /// Whether a limit has an event to write.
    pub fn tells(&self) -> bool {
        !self.told.is_empty()
    }

    /// What can be spent on anything.
    pub fn available(&self) -> Amount {
        self.wallet.available(self.now, None, self.limit)
    }

    /// A hold of this wallet ends then.
    pub fn holds_until(&mut self, end: Moment) {
        let first = self
            .wallet
            .next_hold_end
            .map_or(end, |known| known.min(end));
        self.wallet.next_hold_end = Some(first);
    }

    /// Puts a grant on the stack.
    pub fn add(&mut self, grant: Grant) -> Result<()> {
        self.wallet.issue(grant).map_err(|full| match full {
            WalletFull::TooManyGrants => errors::too_many_grants(&self.customer, &self.asset.name),
            WalletFull::TooManyCredits => {
                errors::wallet_too_large(&self.customer, &self.asset.name)
            }
        })
    }

    /// The calendar period that a moment lies in, in the time zone of the asset.
    pub fn period(&self, every: Calendar, at: Moment) -> Result<CalendarPeriod> {
        let period = every.period(&self.asset.timezone, at);
        period.ok_or_else(|| self.no_period(Every::Calendar(every)))
    }

    pub(super) fn no_period(&self, every: Every) -> errors::Error {
        let (zone, now) = (&self.asset.timezone, self.now);
        errors::invalid(
            "every",
            format_args!("no {every} of time zone {zone} is known around {now}"),
        )
    }

    /// What the row says of when something falls due: it stays as it is while that is early enough, since
    /// it is indexed and a change of it costs a HOT update.
    pub(super) fn due_in_row(&self) -> Option<Moment> {
        let next = self.next_due_at();
        self.due_in_row
            .filter(|known| *known > self.now && next.is_none_or(|next| *known <= next))
            .or(next)
    }

    /// The packed state as of now.
    pub fn state(&mut self) -> Result<Vec<u8>> {
        self.wallet.changed_at = self.now;
        if self.wallet.owed >= Amount::MAX_WALLET {
            return Err(errors::wallet_too_large(&self.customer, &self.asset.name));
        }
        self.wallet
            .check()
            .map_err(|why| errors::corrupted("a wallet", why))?;
        Ok(packed::pack(&self.wallet))
    }
}
