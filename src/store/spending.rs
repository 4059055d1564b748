//! The short way through the door, for debits: where nothing has fallen due, one statement locks the
//! newest row of the wallet, spends and writes it, and a second one books the debit.

use std::cell::RefCell;
use std::rc::Rc;

use rust_decimal::Decimal;

use super::books::{self, Asset};
use super::ledger::{self, Entry};
use super::limits;
use super::statement::{BYTES, Statement, Store, TEXT};
use super::wallets::{self, OpenWallet};
use crate::errors::{self, Result};
use crate::ledger::limit::missing_scope;
use crate::ledger::wallet::{Part, total};
use crate::ledger::watch::Asks;
use crate::ledger::{Amount, Moment};
use crate::sql_types::value;

/// A spend that is to be applied while the wallet's row is updated.
pub struct Spend {
    pub action: String,
    /// In whose name, for spend limits.
    pub scopes: Option<Vec<String>>,
    pub quantity: Option<Decimal>,
    /// When it happened; `None`: now.
    pub occurred_at: Option<Moment>,
    /// What it costs in this wallet; `None`: what was used in the month has to be learned first.
    pub price: Box<dyn Fn(&OpenWallet) -> Result<Option<Priced>>>,
}

/// What a price comes to.
#[derive(Clone, Copy, Debug)]
pub struct Priced {
    pub credits: Amount,
    /// The version of the price that says so; `None` where credits were given.
    pub version: Option<i32>,
    /// What had been used in the month, where the price counts it.
    pub month_used: Option<Decimal>,
}

/// A spend that was applied: the wallet as it is now, and what paid.
pub struct Spent {
    pub open: OpenWallet,
    pub parts: Vec<Part>,
    pub price_version: Option<i32>,
    /// The state before, should the call turn out to be a replay.
    before: Vec<u8>,
}

impl Spend {
    /// Takes it from an open wallet: what paid, and the version of the price. WC001, WC003, WC006; WC007
    /// without a scope that a limit requires.
    pub fn apply(&self, store: &Store, open: &mut OpenWallet) -> Result<(Vec<Part>, Option<i32>)> {
        if let Some(applied) = self.apply_known(open)? {
            return Ok(applied);
        }
        open.learn_used(store, &self.action, self.occurred_at.unwrap_or(open.now))?;
        let applied = self.apply_known(open)?;
        applied.ok_or_else(|| errors::corrupted("a price", "it asks for another month"))
    }

    /// The same with what the wallet's state says; `None`: that is not enough.
    fn apply_known(&self, open: &mut OpenWallet) -> Result<Option<(Vec<Part>, Option<i32>)>> {
        open.active()?;
        let scopes = self.scopes.as_deref().unwrap_or_default();
        if let Some(limit) = missing_scope(&open.wallet.limits, scopes) {
            let (customer, asset) = (&open.customer, &open.asset.name);
            return Err(errors::scope_missing(customer, asset, &limit.scope));
        }
        open.asks = Asks::Always;
        let Some(priced) = (self.price)(open)? else {
            return Ok(None);
        };
        let parts = open
            .wallet
            .spend(open.now, &self.action, priced.credits, open.limit)
            .map_err(|short| {
                let over = open.wallet.owed_beyond(open.limit);
                errors::insufficient_credits(&open.customer, &open.asset.name, short, over)
            })?;
        Ok(Some((parts, priced.version)))
    }
}

/// One statement locks the newest row, reads it, spends and writes. The function in it finds the
/// spend that this backend is about (`PENDING`), and after waiting for another transaction it is
/// asked again with the newest row.
static SPEND: Statement = Statement {
    sql: "UPDATE credyt.wallets w
          SET state = credyt.spend(w.state, w.next_due_at, w.status, w.overdraft_limit)
          WHERE w.customer = $1 AND w.asset = $2",
    args: &[TEXT, TEXT],
};

static RESTORE: Statement = Statement {
    sql: "UPDATE credyt.wallets SET state = $3::credyt.wallet WHERE customer = $1 AND asset = $2",
    args: &[TEXT, TEXT, BYTES],
};

/// What the running SPEND statement is about, and what came of it.
struct Pending {
    customer: String,
    asset: Rc<Asset>,
    spend: Rc<Spend>,
    clock: Option<Moment>,
    outcome: Option<Outcome>,
}

enum Outcome {
    Spent(Box<Spent>),
    Refused(errors::Error),
    /// Something has fallen due, or somebody has to be told: that takes more than one row.
    Due,
}

thread_local! {
    static PENDING: RefCell<Option<Pending>> = const { RefCell::new(None) };
}

/// Spends in the fewest statements: one for the wallet and one for the ledger. `None` when something
/// has fallen due, and the wallet has to be opened.
pub fn in_place(
    store: &Store,
    customer: &str,
    asset: &str,
    spend: &Rc<Spend>,
) -> Result<Option<Spent>> {
    let pending = Pending {
        customer: customer.to_owned(),
        asset: books::asset(store, asset)?,
        spend: spend.clone(),
        clock: books::stands_in(store)?,
        outcome: None,
    };
    PENDING.set(Some(pending));
    let forget = Forget;
    let found = SPEND
        .run(store, &[value::text(customer), value::text(asset)])?
        .count();
    let outcome = PENDING.take().and_then(|pending| pending.outcome);
    drop(forget);
    match outcome {
        _ if found == 0 => Err(wallets::missing(store, customer, asset)),
        Some(Outcome::Spent(spent)) => Ok(Some(*spent)),
        Some(Outcome::Refused(error)) => Err(error),
        // Also where the statement ran elsewhere, so that nothing was pending there.
        Some(Outcome::Due) | None => Ok(None),
    }
}

/// Nothing stays pending, also where the statement fails.
struct Forget;

impl Drop for Forget {
    fn drop(&mut self) {
        PENDING.set(None);
    }
}

/// What the function in SPEND does: the new state, or `None` to leave the state as it is.
pub fn evaluate(
    state: &[u8],
    next_due_at: Option<Moment>,
    status: &str,
    limit: Amount,
) -> Result<Option<Vec<u8>>> {
    PENDING.with_borrow_mut(|pending| {
        let Some(pending) = pending else {
            return Ok(None);
        };
        let wallet = wallets::read_state(state)?;
        let now = pending
            .clock
            .unwrap_or_else(books::wall_clock)
            .max(wallet.changed_at);
        if next_due_at.is_some_and(|at| at <= now) {
            pending.outcome = Some(Outcome::Due);
            return Ok(None);
        }
        let (customer, asset) = (pending.customer.clone(), pending.asset.clone());
        let open = OpenWallet::with_nothing_due(customer, asset, status, limit, now, wallet);
        match spend_and_pack(open, &pending.spend, state) {
            Ok(None) => {
                pending.outcome = Some(Outcome::Due);
                Ok(None)
            }
            Ok(Some((state, spent))) => {
                pending.outcome = Some(Outcome::Spent(Box::new(spent)));
                Ok(Some(state))
            }
            Err(error) => {
                pending.outcome = Some(Outcome::Refused(error));
                Ok(None)
            }
        }
    })
}

/// Spends, and counts the row that the debit will be. `None` where that asks for more than this row.
fn spend_and_pack(
    mut open: OpenWallet,
    spend: &Spend,
    before: &[u8],
) -> Result<Option<(Vec<u8>, Spent)>> {
    let Some((parts, price_version)) = spend.apply_known(&mut open)? else {
        return Ok(None);
    };
    let scopes = spend.scopes.as_deref();
    let counted = limits::count_in_state(&mut open, &spend.action, scopes, total(&parts))?;
    if !counted || open.has_news() {
        return Ok(None);
    }
    let occurred_at = spend.occurred_at.unwrap_or(open.now);
    open.count_use(&spend.action, spend.quantity, occurred_at)?;
    open.wallet.seq += 1;
    let state = open.state()?;
    let spent = Spent {
        open,
        parts,
        price_version,
        before: before.to_vec(),
    };
    Ok(Some((state, spent)))
}

impl Spent {
    /// Books the debit. False when its key is taken; then, and after an error, the wallet is as it was.
    pub fn book(&self, store: &Store, entry: &mut Entry) -> Result<bool> {
        let open = &self.open;
        let (seq, balance) = (open.wallet.seq, open.wallet.booked());
        entry.number(&open.customer, &open.asset.name, open.now, seq, balance);
        let booked = ledger::insert(store, entry);
        if !matches!(booked, Ok(true)) {
            let args = [
                value::text(&open.customer),
                value::text(&open.asset.name),
                value::bytes(&self.before),
            ];
            RESTORE.run(store, &args)?;
            return booked;
        }
        open.owe(store, entry)?;
        Ok(true)
    }
}
