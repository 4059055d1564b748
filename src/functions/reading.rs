//! Reading: `balance`, and what the views are made of.

use pgrx::pg_sys;

use super::results::{GrantResult, open_grant_row};
use crate::errors::Result;
use crate::ledger::interrupt::checked;
use crate::ledger::wallet::{EntryKind, PendingEntry};
use crate::ledger::{Amount, Moment, Wallet, packed};
use crate::sql_types::{Args, Row, row, value};
use crate::store::Store;
use crate::store::wallets::{self, Pending, WalletView, read_state};
use crate::store::{assets, booking, history, ledger, periods, plans};

pub fn balance(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let asset = args.name("asset")?;
    let at = args.optional_moment("at")?;
    let row = Store::read(|store| {
        let Some(view) = wallets::look(store, &customer, &asset, at)? else {
            assets::asset(store, &asset)?;
            let now = assets::statement_now(store)?;
            return match at {
                Some(at) if at < now => Ok(Balance::past(Amount::ZERO, Amount::ZERO)),
                Some(at) => assets::check_ahead(store, at, now).map(|()| Balance::default()),
                None => Ok(Balance::default()),
            };
        };
        match at {
            Some(at) if at < view.now => Balance::at(store, &customer, &asset, &view, at),
            _ => Ok(Balance::of(&view)),
        }
    })?;
    row.row().datum(args)
}

struct Balance {
    settled: Amount,
    held: Option<Amount>,
    available: Option<Amount>,
    owed: Amount,
    limit: Option<Amount>,
    next_expiry: Option<Moment>,
}

impl Default for Balance {
    fn default() -> Balance {
        Balance {
            settled: Amount::ZERO,
            held: Some(Amount::ZERO),
            available: Some(Amount::ZERO),
            owed: Amount::ZERO,
            limit: Some(Amount::ZERO),
            next_expiry: None,
        }
    }
}

impl Balance {
    fn of(view: &WalletView) -> Balance {
        Balance {
            settled: view.wallet.settled(view.at),
            held: Some(view.wallet.held()),
            available: Some(view.wallet.available(view.at, None, view.limit)),
            owed: view.wallet.owed,
            limit: Some(view.limit),
            next_expiry: view.wallet.next_expiry(view.at),
        }
    }

    /// At a past moment: as the ledger's rows tell it, with what is due and not booked yet.
    fn at(
        store: &Store,
        customer: &str,
        asset: &str,
        view: &WalletView,
        at: Moment,
    ) -> Result<Balance> {
        let (mut settled, owed_since) = history::settled_at(store, customer, asset, at)?;
        let mut owed = view.wallet.owed - owed_since;
        for due in &view.due {
            match &due.what {
                _ if due.at <= at => settled += due.credits(),
                EntryKind::Settled { part, .. } => owed += part.credits,
                _ => {}
            }
        }
        Ok(Balance::past(settled, owed))
    }

    /// What was held at a past moment is not kept.
    fn past(settled: Amount, owed: Amount) -> Balance {
        Balance {
            settled,
            owed,
            held: None,
            available: None,
            limit: None,
            next_expiry: None,
        }
    }

    fn row(self) -> Row {
        row! {
            settled: value::credits(self.settled),
            held: self.held.and_then(value::credits),
            available: self.available.and_then(value::credits),
            owed: value::credits(self.owed),
            overdraft_limit: self.limit.and_then(value::credits),
            next_expiry: value::optional_moment(self.next_expiry),
        }
    }
}

/// `credyt.statement_time()`: the moment that readers read at.
pub fn statement_time(_: &Args) -> Result<Option<pg_sys::Datum>> {
    Store::read(|store| Ok(value::moment(assets::statement_now(store)?)))
}

/// `credyt.grants(wallet)`: the open grants in burn order.
pub fn grants_of(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let wallet = read_state(args.bytes("wallet")?)?;
    row::rows(args, wallet.grants().iter().map(open_grant_row))
}

/// The wallet of (customer, asset, state, at), brought to that moment, and the entries pending until
/// then.
fn brought_to(args: &Args) -> Result<(Wallet, Pending)> {
    let customer = args.name("customer")?;
    let asset = args.name("asset")?;
    let mut wallet = read_state(args.bytes("state")?)?;
    let at = args.moment("at")?;
    let passed = Store::read(|store| {
        assets::check_ahead(store, at, wallet.changed_at)?;
        wallets::as_of(store, &customer, &asset, &mut wallet, at)
    })?;
    Ok((wallet, passed))
}

/// `credyt.wallet_state_at(customer, asset, state, at)`: the state then, pending entries included.
pub fn wallet_state_at(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let (wallet, _) = brought_to(args)?;
    Ok(value::bytes(&packed::pack(&wallet)))
}

/// `credyt.pending_movements(customer, asset, state, at)`: the pending entries: expiry and renewal that no call has booked.
pub fn pending_movements(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let asset = args.name("asset")?;
    let (wallet, passed) = brought_to(args)?;
    let mut balance =
        wallet.booked() - passed.due.iter().map(PendingEntry::credits).sum::<Amount>();
    Store::read(|store| {
        let first_open = periods::first_open(store, &asset)?;
        let movement = |due: &PendingEntry| {
            let entry = booking::entry_of(store, &customer, due)?;
            let at = entry.occurred_at;
            balance += entry.credits;
            Ok(row! {
                kind: value::text(&entry.kind),
                occurred_at: value::moment(at),
                accounted_at: value::moment(first_open.map_or(at, |first| first.max(at))),
                action: value::optional_text(entry.action.as_deref()),
                credits: value::credits(entry.credits),
                balance: value::credits(balance),
                revenue: value::money(entry.revenue),
                costs: ledger::stored_costs(&entry.costs),
                allocations: entry.allocations,
                refers_to: value::optional_uuid(entry.refers_to),
                reason: value::optional_text(entry.reason.as_deref()),
            })
        };
        row::try_rows(args, passed.due.iter().map(movement))
    })
}

/// `credyt.pending_grants(customer, asset, state, at)`: grants that time has made and no call has booked,
/// as they were issued.
pub fn pending_grants(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let asset = args.name("asset")?;
    let at = args.moment("at")?;
    let (wallet, passed) = brought_to(args)?;
    let settled = plans::settled_by(&passed.due);
    let issues = (passed.renewals.renewing.iter()).flat_map(|renewing| &renewing.issued);
    let grants = checked(issues).map(|issue| {
        let terms = issue.terms(&customer, &asset, at, &settled);
        GrantResult::in_wallet(terms, &wallet).into_row()
    });
    row::rows(args, grants)
}

/// The jsonb form of `credyt.verify`, which is itself written in SQL.
pub fn verify(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.optional_name("customer")?;
    Store::read(|store| history::verify(store, customer.as_deref(), args))?;
    Ok(None)
}
