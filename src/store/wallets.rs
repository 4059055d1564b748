//! Opens wallets for change: locks the row, reads it, applies what is due in memory. The verb changes the open wallet,
//! and `booking` writes it back. Readers look at a wallet the same way, without lock or writing.

use std::rc::Rc;

use uuid::Uuid;

use super::assets::{self, Asset};
use super::authorizations;
use super::cluster;
use super::debts::debts_of;
use super::direct_access;
use super::direct_rows::KeyPart;
use super::nested;
pub use super::open_wallet::OpenWallet;
use super::open_wallet::{FOUND, Found, WALLETS, WalletRow, renewed};
use super::periods;
use super::plans::{self, Renewals};
use super::statement::{Statement, Store, TEXT, read_values};
use super::table::{insert, sql};
use crate::errors::{self, Result};
use crate::ledger::alerts::TopUpTrigger;
use crate::ledger::wallet::{Debt, EndedHold, PendingEntry};
use crate::ledger::{Amount, Moment, Wallet};
use crate::sql_types::field;
use crate::sql_types::value;

/// A wallet as a reader sees it.
pub struct WalletView {
    pub customer: String,
    pub asset: Rc<Asset>,
    pub status: String,
    pub limit: Amount,
    pub now: Moment,
    /// What it is seen at: now, or later.
    pub at: Moment,
    pub wallet: Wallet,
    /// What is due until then and no writer has booked yet.
    pub due: Vec<PendingEntry>,
}

/// The pending entries of a wallet.
#[derive(Default)]
pub struct Pending {
    pub due: Vec<PendingEntry>,
    ended: Vec<Uuid>,
    pub renewals: Renewals,
    debts: Option<Vec<Debt>>,
}

macro_rules! load {
    ($lock:literal) => {
        sql!(
            "SELECT ",
            Found::COLUMNS,
            " FROM credyt.wallets w WHERE w.customer = $1 AND w.asset = $2",
            $lock
        )
    };
}

static LOCK: Statement = Statement {
    sql: load!(" FOR NO KEY UPDATE"),
    args: &[TEXT, TEXT],
};

static LOOK: Statement = Statement {
    sql: load!(""),
    args: &[TEXT, TEXT],
};

static OPEN: Statement = insert!(
    "wallets",
    WalletRow,
    " ON CONFLICT (customer, asset) DO NOTHING"
);

static TRY_LOCK: Statement = Statement {
    sql: load!(" FOR NO KEY UPDATE SKIP LOCKED"),
    args: &[TEXT, TEXT],
};

static ASSETS: Statement = Statement {
    sql: "SELECT w.asset FROM credyt.wallets w WHERE w.customer = $1 ORDER BY w.asset COLLATE \"C\"",
    args: &[TEXT],
};

/// Opens a wallet for change, or WC002, or WC009.
pub fn open(store: &Store, customer: &str, asset: &str) -> Result<OpenWallet> {
    match find(store, customer, asset)? {
        Some(wallet) => Ok(wallet),
        None => Err(missing(store, customer, asset)),
    }
}

/// WC002, or WC009 where there is no such asset.
pub(super) fn missing(store: &Store, customer: &str, asset: &str) -> errors::Error {
    match assets::asset(store, asset) {
        Ok(_) => errors::wallet_not_found(customer, asset),
        Err(error) => error,
    }
}

/// Opens a wallet for change; an empty one is made where there is none. WC009 without the asset.
pub fn open_or_create(store: &Store, customer: &str, asset: &str) -> Result<OpenWallet> {
    if let Some(wallet) = find(store, customer, asset)? {
        return Ok(wallet);
    }
    assets::asset(store, asset)?;
    // Before the time is taken, so that no close overlooks this wallet.
    let first_open = periods::share(store, asset)?;
    let now = assets::now(store)?;
    let now = first_open.map_or(now, |first| first.max(now));
    OPEN.run(store, &WalletRow::new(customer, asset, now).values()?)?;
    open(store, customer, asset)
}

/// Opens a wallet for change where there is one.
pub fn find(store: &Store, customer: &str, asset: &str) -> Result<Option<OpenWallet>> {
    find_at(store, customer, asset, None)
}

/// Opens the wallets of two customers, the second one made where it is not there, at one moment for
/// both. Locked in the order of the customers, so that two such calls never wait for each other.
pub fn open_two(
    store: &Store,
    customer: &str,
    other: &str,
    asset: &str,
) -> Result<(OpenWallet, OpenWallet)> {
    if other < customer {
        drop(open_or_create(store, other, asset)?);
    }
    let first = open(store, customer, asset)?;
    let second = open_or_create(store, other, asset)?;
    let now = first.now.max(second.now);
    Ok((first.at(store, now)?, second.at(store, now)?))
}

/// Opens the wallet for which this top-up is in flight.
pub fn in_flight(store: &Store, customer: &str, event: Uuid) -> Result<Option<OpenWallet>> {
    let rows = ASSETS.run(store, &[value::text(customer)])?;
    for row in rows.iter() {
        let asset: String = row.read()?;
        let open = find(store, customer, &asset)?;
        let waits = |open: &OpenWallet| {
            let topup = open.wallet.alert_state.topup.as_ref();
            topup.is_some_and(|topup| topup.in_flight == Some(event))
        };
        if let Some(open) = open.filter(waits) {
            return Ok(Some(open));
        }
    }
    Ok(None)
}

/// Opens a wallet where there is one, as of this moment, or of now.
fn find_at(
    store: &Store,
    customer: &str,
    asset: &str,
    at: Option<Moment>,
) -> Result<Option<OpenWallet>> {
    let keys = [KeyPart::Text(customer), KeyPart::Text(asset)];
    let found = match direct_access::lock(&WALLETS, &keys, &FOUND) {
        Some(row) => {
            let place = value::table_place(&row.place);
            Some(read_values(&[row.values, vec![place]].concat())?)
        }
        None => {
            cluster::hold_shard(store, customer)?;
            let rows = LOCK.run(store, &[value::text(customer), value::text(asset)])?;
            rows.read_first()?
        }
    };
    let Some(found) = found else {
        return Ok(None);
    };
    // Taken after the lock, so that time in a wallet never runs backwards.
    let now = at.map_or_else(|| assets::now(store), Ok)?;
    load(store, customer, asset, found, now).map(Some)
}

/// The wallet of a locked row, brought up to this moment.
pub(super) fn load(
    store: &Store,
    customer: &str,
    asset: &str,
    found: Found,
    now: Moment,
) -> Result<OpenWallet> {
    let mut wallet = found.state;
    let now = now.max(wallet.changed_at);
    let mut was = wallet.balance(wallet.changed_at);
    let booked = wallet.booked();
    let passed = match found.next_due_at {
        Some(at) if at <= now => {
            let came_in = wallet.starts_until(now);
            let passed = do_what_is_due(store, customer, asset, &mut wallet, now)?;
            let balance = wallet.balance(now);
            was = was.max(balance);
            if came_in || renewed(&passed.due) {
                wallet.alert_state.refill(balance);
            }
            passed
        }
        _ => Pending::default(),
    };
    Ok(OpenWallet {
        customer: customer.to_owned(),
        asset: assets::asset(store, asset)?,
        status: found.status,
        limit: found.overdraft_limit,
        now,
        due_in_row: found.next_due_at,
        place: Some(found.ctid),
        read_at: nested::read_at(),
        wallet,
        due: passed.due,
        ended: passed.ended,
        renewals: passed.renewals,
        debts: passed.debts,
        late_uses: Vec::new(),
        lowered: Vec::new(),
        key: None,
        was,
        asks: TopUpTrigger::default(),
        booked,
        told: Vec::new(),
        still_held: Amount::ZERO,
    })
}

/// Locks a wallet unless another session has locked it.
pub(super) fn try_lock(store: &Store, customer: &str, asset: &str) -> Result<bool> {
    cluster::hold_shard(store, customer)?;
    let rows = TRY_LOCK.run(store, &[value::text(customer), value::text(asset)])?;
    Ok(rows.count() > 0)
}

/// Looks at a wallet as it is at the moment of the caller's statement, or as it will be at a later one if
/// nothing is spent until then.
pub fn look(
    store: &Store,
    customer: &str,
    asset: &str,
    at: Option<Moment>,
) -> Result<Option<WalletView>> {
    let rows = LOOK.run(store, &[value::text(customer), value::text(asset)])?;
    let Some(found) = rows.read_first::<Found>()? else {
        return Ok(None);
    };
    let mut wallet = found.state;
    let now = assets::statement_now(store)?.max(wallet.changed_at);
    let at = at.map_or(now, |at| at.max(now));
    assets::check_ahead(store, at, now)?;
    let due = as_of(store, customer, asset, &mut wallet, at)?.due;
    Ok(Some(WalletView {
        customer: customer.to_owned(),
        asset: assets::asset(store, asset)?,
        status: found.status,
        limit: found.overdraft_limit,
        now,
        at,
        wallet,
        due,
    }))
}

/// Brings a state up to a moment: applies, and returns, the entries that are pending until then.
pub fn as_of(
    store: &Store,
    customer: &str,
    asset: &str,
    wallet: &mut Wallet,
    now: Moment,
) -> Result<Pending> {
    if wallet.next_due().is_none_or(|at| at > now) {
        return Ok(Pending::default());
    }
    do_what_is_due(store, customer, asset, wallet, now)
}

pub fn read_state(bytes: &[u8]) -> Result<Wallet> {
    field::read_wallet(bytes)
}

/// Works through what has fallen due, in memory. Returns what has to be booked.
fn do_what_is_due(
    store: &Store,
    customer: &str,
    asset: &str,
    wallet: &mut Wallet,
    now: Moment,
) -> Result<Pending> {
    let holds_end = wallet.next_hold_end.is_some_and(|at| at <= now);
    let ended = if holds_end {
        authorizations::ended(store, customer, asset, now)?
    } else {
        Vec::new()
    };
    let renews = wallet.next_renewal.is_some_and(|at| at <= now);
    let mut renewals = if renews {
        plans::renew(store, customer, asset, now)?
    } else {
        Renewals::default()
    };
    let mut debts = debts_of(store, customer, asset, wallet)?;
    let due = wallet.advance(now, &ended, &mut debts, &mut renewals.renewing);
    if renews {
        wallet.next_renewal = renewals.next();
    }
    if holds_end {
        wallet.next_hold_end = authorizations::next_end(store, customer, asset, now)?;
    }
    Ok(Pending {
        due,
        ended: ended.into_iter().map(|hold: EndedHold| hold.id).collect(),
        renewals,
        debts: Some(debts),
    })
}

impl WalletView {
    /// As verbs take it: for questions. It is not locked, and never written.
    pub fn into_open(self) -> OpenWallet {
        OpenWallet {
            customer: self.customer,
            asset: self.asset,
            status: self.status,
            limit: self.limit,
            now: self.at,
            was: self.wallet.balance(self.at),
            asks: TopUpTrigger::default(),
            booked: self.wallet.booked(),
            due_in_row: None,
            place: None,
            read_at: nested::read_at(),
            wallet: self.wallet,
            due: Vec::new(),
            ended: Vec::new(),
            renewals: Renewals::default(),
            debts: None,
            late_uses: Vec::new(),
            lowered: Vec::new(),
            key: None,
            told: Vec::new(),
            still_held: Amount::ZERO,
        }
    }
}

impl OpenWallet {
    /// The same wallet, of which nothing has been written, at a later moment.
    fn at(mut self, store: &Store, now: Moment) -> Result<OpenWallet> {
        if self.now < now && self.wallet.next_due().is_some_and(|at| at <= now) {
            let again = find_at(store, &self.customer, &self.asset.name, Some(now))?;
            return again.ok_or_else(|| missing(store, &self.customer, &self.asset.name));
        }
        self.now = now;
        Ok(self)
    }
}
