//! The one door through which a wallet is opened: lock it, load it, do what is due, let the caller
//! apply its verb, write it back. Readers look at it the same way, without lock or writing.

use std::rc::Rc;

use serde_json::Value as Json;
use uuid::Uuid;

use super::assets::{self, Asset};
use super::authorizations;
use super::cluster;
use super::costs;
use super::direct_access;
use super::direct_rows::KeyPart;
use super::events::{self, OutboxEvent};
use super::grants;
use super::ledger::{self, Entry, Key, NewRows};
use super::limits::{self, LimitRows};
use super::periods;
use super::plans::{self, Renewals};
use super::shape::DirectTable;
use super::statement::{INT, Query, ROWS_AT_ONCE, Statement, Store, TEXT, TIME, read_values};
use super::table::{insert, place, query, sql, table};
use crate::errors::{self, Result};
use crate::ledger::alerts::TopUpTrigger;
use crate::ledger::interrupt::checked;
use crate::ledger::month::MonthUse;
use crate::ledger::packed;
use crate::ledger::plan::{Renewal, Subscription};
use crate::ledger::refund::{GrantPayment, RevokedDebt, RevokedGrant};
use crate::ledger::wallet::{Debt, EndedHold, EntryKind, Part, PendingEntry, WalletFull};
use crate::ledger::{Amount, Grant, Moment, Wallet};
use crate::sql_types::Scratch;
use crate::sql_types::field;
use crate::sql_types::value::{self, TablePlace};

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

static WALLETS: DirectTable = DirectTable {
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
const NEXT_DUE_AT: usize = place(WalletRow::DECLARED, "next_due_at");
const STATE: usize = place(WalletRow::DECLARED, "state");
/// The columns of `Found` but for the last.
const FOUND: [usize; 4] = [
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
    due_in_row: Option<Moment>,
    /// Where its row is, until it is written.
    place: Option<TablePlace>,
    /// The pending entries since the wallet last changed; booked when it is written back.
    due: Vec<PendingEntry>,
    /// The holds among it.
    ended: Vec<Uuid>,
    /// The subscriptions that renew with it.
    pub(super) renewals: Renewals,
    /// What it owes, debt by debt, the oldest first; `None` until that is needed.
    debts: Option<Vec<Debt>>,
    /// What was used in months that the state does not count, as far as it was asked for.
    pub(super) late_uses: Vec<MonthUse>,
    /// By how much a refund has lowered debts; written with its movement.
    lowered: Vec<DebtReduction>,
    /// The key of the call that makes a subscription begin, for the first grant it books.
    key: Option<Key>,
    /// The higher one of its balance when it was written last, and after time has done its part.
    pub(super) was: Amount,
    /// When writing it may ask for a top-up.
    pub asks: TopUpTrigger,
    /// The sum of its ledger rows so far.
    booked: Amount,
    /// What its spend limits tell; written with the wallet.
    pub(super) told: Vec<OutboxEvent>,
    /// What the authorization that is captured now still holds.
    pub still_held: Amount,
}

/// What a refund does to a debt.
struct DebtReduction {
    id: Uuid,
    owed: Amount,
    /// Of a revocation's debt.
    returned: Amount,
}

/// What comes with a movement of an open wallet, numbered.
struct NumberedEntries {
    /// The number of the first row, and the sum of those before it.
    first: u64,
    booked: Amount,
    before: Vec<PendingEntry>,
    after: Vec<PendingEntry>,
    news: Vec<OutboxEvent>,
    counted: LimitRows,
}

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

query! {
    Write(customer: text, asset: text, state: wallet, next_due_at: timestamptz):
    "UPDATE credyt.wallets SET state = :state, next_due_at = :next_due_at
     WHERE customer = :customer AND asset = :asset"
}

query! {
    /// The same where the row is known to be, as it was locked.
    WriteInPlace(customer: text, asset: text, state: wallet, next_due_at: timestamptz, place: tid):
    "UPDATE credyt.wallets SET state = :state, next_due_at = :next_due_at
     WHERE customer = :customer AND asset = :asset AND ctid = :place"
}

macro_rules! overdue {
    ($lock:literal) => {
        concat!(
            "SELECT w.customer, w.asset FROM credyt.wallets w WHERE w.next_due_at <= $1
             ORDER BY w.next_due_at LIMIT $2",
            $lock
        )
    };
}

/// Wallets that have something due and that no other session has locked.
static OVERDUE: Statement = Statement {
    sql: overdue!(" FOR NO KEY UPDATE SKIP LOCKED"),
    args: &[TIME, INT],
};

/// The same on several nodes, where each is locked by itself.
static ALL_OVERDUE: Statement = Statement {
    sql: overdue!(""),
    args: &[TIME, INT],
};

static TRY_LOCK: Statement = Statement {
    sql: load!(" FOR NO KEY UPDATE SKIP LOCKED"),
    args: &[TEXT, TEXT],
};

/// In the order in which every call locks several wallets.
static WAITING: Statement = Statement {
    sql: "SELECT w.asset FROM credyt.wallets w WHERE w.customer = $1 AND w.next_due_at IS NOT NULL
          ORDER BY w.asset COLLATE \"C\"",
    args: &[TEXT],
};

static ASSETS: Statement = Statement {
    sql: "SELECT w.asset FROM credyt.wallets w WHERE w.customer = $1 ORDER BY w.asset COLLATE \"C\"",
    args: &[TEXT],
};

query! {
    SetTerms(customer: text, asset: text, overdraft_limit: credits, metadata: jsonb):
    "UPDATE credyt.wallets
     SET overdraft_limit = coalesce(:overdraft_limit, overdraft_limit), metadata = coalesce(:metadata, metadata)
     WHERE customer = :customer AND asset = :asset"
}

query! {
    SetStatus(customer: text, asset: text, status: text, reason: text):
    "UPDATE credyt.wallets SET status = :status, status_reason = :reason
     WHERE customer = :customer AND asset = :asset"
}

table! {
    /// What a ledger row owes.
    struct OpenDebt {
        customer: String as text,
        asset: String as text,
        seq: u64 as bigint,
        id: Uuid as uuid,
        action: Option<String> as text,
        owed: Amount as credits,
        /// Of a revocation's debt: what refunds gave back.
        returned: Amount as credits,
    }
}

static OWE: Statement = insert!("open_debts", OpenDebt);

static DEBTS: Statement = Statement {
    sql: sql!(
        "SELECT ",
        OpenDebt::COLUMNS,
        " FROM credyt.open_debts d WHERE d.customer = $1 AND d.asset = $2 AND d.owed > 0 ORDER BY d.seq"
    ),
    args: &[TEXT, TEXT],
};

query! {
    DebtOf(customer: text, asset: text, seq: bigint):
    "SELECT ", OpenDebt::COLUMNS, " FROM credyt.open_debts d
     WHERE d.customer = :customer AND d.asset = :asset AND d.seq = :seq"
}

query! {
    Pay(customer: text, asset: text, debt: uuid, credits: credits, returned: credits):
    "UPDATE credyt.open_debts SET owed = owed - :credits, returned = returned + :returned
     WHERE customer = :customer AND asset = :asset AND id = :debt"
}

/// A revocation's stay: what refunds give back of them counts.
static FORGET_PAID: Statement = Statement {
    sql: "DELETE FROM credyt.open_debts
          WHERE customer = $1 AND asset = $2 AND owed = 0 AND action IS NOT NULL",
    args: &[TEXT, TEXT],
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

/// Books the pending entries of a customer, so that the ledger has the grants that readers see.
pub fn book_due_of(store: &Store, customer: &str) -> Result<()> {
    let rows = WAITING.run(store, &[value::text(customer)])?;
    for row in rows.iter() {
        let asset: String = row.read()?;
        if let Some(mut open) = find(store, customer, &asset)? {
            open.book_due_now(store)?;
        }
    }
    Ok(())
}

/// Books the pending entries of at most `batch` wallets, leaving out those that other sessions have
/// locked. How many it was.
pub fn book_overdue(store: &Store, batch: i32) -> Result<usize> {
    let now = assets::now(store)?;
    let one_by_one = cluster::is_distributed();
    let overdue = match one_by_one {
        true => &ALL_OVERDUE,
        false => &OVERDUE,
    };
    let rows = overdue.run(store, &[value::moment(now), value::int(batch)])?;
    let mut booked = 0;
    for row in rows.iter() {
        let (customer, asset): (String, String) = row.read()?;
        if one_by_one && !try_lock(store, &customer, &asset)? {
            continue;
        }
        if let Some(mut open) = find(store, &customer, &asset)? {
            open.asks = TopUpTrigger::Always;
            open.write_back(store)?;
            booked += 1;
        }
    }
    Ok(booked)
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

/// Whether a period of a subscription has begun.
fn renewed(due: &[PendingEntry]) -> bool {
    due.iter()
        .any(|due| matches!(due.what, EntryKind::Renewed { .. }))
}

/// What the wallet owes, debt by debt, the oldest first.
fn debts_of(store: &Store, customer: &str, asset: &str, wallet: &Wallet) -> Result<Vec<Debt>> {
    if wallet.owed.is_zero() {
        return Ok(Vec::new());
    }
    let rows = DEBTS.run(store, &[value::text(customer), value::text(asset)])?;
    let debt = |row: OpenDebt| Debt {
        id: row.id,
        action: row.action,
        owed: row.owed,
    };
    rows.iter().map(|row| row.read().map(debt)).collect()
}

/// The entry of what is due, as it will be booked: that of a settlement is shared over the models of
/// the debit that owed.
pub fn entry_of(store: &Store, customer: &str, due: &PendingEntry) -> Result<Entry> {
    let mut entry = Entry::of_due(due);
    if let EntryKind::Settled { debt, .. } = &due.what
        && let Some(debit) = ledger::by_id(store, customer, *debt)?
    {
        entry.costs = costs::weights_of(store, customer, &debit)?;
    }
    Ok(entry)
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

    /// Books the pending entries at once, so that what a verb reads of the ledger is as of now: a
    /// grant that has started may have paid the debt that the verb asks for.
    pub fn book_due_now(&mut self, store: &Store) -> Result<()> {
        if self.due.is_empty() && self.renewals.is_empty() {
            Ok(())
        } else {
            self.write_back(store)
        }
    }

    /// Begins what has come due of the wallet's subscriptions after one was made or changed, and books
    /// it, under the key of the call where there is one. All else that was due is booked before.
    pub fn renew(&mut self, store: &Store, key: Option<Key>) -> Result<()> {
        let (customer, asset) = (&self.customer, &self.asset.name);
        self.renewals = plans::renew(store, customer, asset, self.now)?;
        self.begin_periods(store, key)
    }

    /// Books what a change of plan brings, under the key of the call where there is one. All that was due is
    /// booked before.
    pub fn change_plan(
        &mut self,
        store: &Store,
        subscription: Subscription,
        renewing: Renewal,
        key: Option<Key>,
    ) -> Result<()> {
        let (customer, asset) = (&self.customer, &self.asset.name);
        if renewing.difference.is_some() && self.wallet.is_full() {
            return Err(errors::too_many_grants(customer, asset));
        }
        self.renewals = plans::changed(store, customer, asset, subscription, renewing)?;
        self.begin_periods(store, key)
    }

    /// Ends the grants of a period before their time. A grant lasts for a microsecond at least: where the
    /// clock stands still, the wallet's time goes on.
    pub fn end_period(&mut self, store: &Store, subscription: &Subscription) -> Result<()> {
        let of_period = |id: Uuid| subscription.grants.iter().any(|known| known.id == id);
        let started = self
            .wallet
            .grants()
            .iter()
            .filter(|grant| of_period(grant.id));
        let last = (started.map(|grant| grant.effective_at))
            .chain(subscription.started)
            .max();
        if let Some(last) = last.filter(|last| *last >= self.now) {
            self.now = Moment(last.0.saturating_add(1));
        }
        self.wallet.end_grants(&subscription.grants, self.now);
        let ids = subscription.grants.iter().map(|grant| grant.id);
        grants::end(store, &self.customer, ids, self.now)
    }

    fn begin_periods(&mut self, store: &Store, key: Option<Key>) -> Result<()> {
        let mut debts = self.take_debts(store)?;
        // What only this call lets begin happens now, however long ago its period started.
        self.wallet.changed_at = self.now;
        let renewing = &mut self.renewals.renewing;
        self.due = self.wallet.advance(self.now, &[], &mut debts, renewing);
        self.debts = Some(debts);
        if renewed(&self.due) {
            self.refilled();
        }
        self.wallet.next_renewal = self.renewals.next();
        self.key = key;
        self.write_back(store)
    }

    /// Puts a new grant on the stack; a live one pays the debts that it may pay. Returns what it paid.
    pub fn issue(&mut self, store: &Store, grant: Grant) -> Result<Vec<PendingEntry>> {
        self.issue_all(store, vec![grant])
    }

    /// The same for several grants, in this order.
    pub fn issue_all(&mut self, store: &Store, grants: Vec<Grant>) -> Result<Vec<PendingEntry>> {
        self.book_due_now(store)?;
        for grant in grants {
            self.add(grant)?;
        }
        self.settle(store)
    }

    /// Pays what live credits can pay of what is owed. Returns what they paid.
    fn settle(&mut self, store: &Store) -> Result<Vec<PendingEntry>> {
        if !self.wallet.may_settle(self.now) {
            return Ok(Vec::new());
        }
        let mut debts = self.take_debts(store)?;
        let paid = self.wallet.settle(self.now, &mut debts);
        self.debts = Some(debts);
        Ok(paid)
    }

    fn take_debts(&mut self, store: &Store) -> Result<Vec<Debt>> {
        match self.debts.take() {
            Some(debts) => Ok(debts),
            None => debts_of(store, &self.customer, &self.asset.name, &self.wallet),
        }
    }

    /// How much of what this ledger row owes is not paid yet.
    pub fn owed_by(&mut self, store: &Store, id: Uuid) -> Result<Amount> {
        let debts = self.take_debts(store)?;
        let owed = debts
            .iter()
            .filter(|debt| debt.id == id)
            .map(|debt| debt.owed);
        let owed = owed.sum();
        self.debts = Some(debts);
        Ok(owed)
    }

    /// Lets a debit owe so much less, at most what it owes. Written with the next movement.
    pub fn lower_debt(&mut self, store: &Store, id: Uuid, credits: Amount) -> Result<()> {
        self.lower(store, id, credits, Amount::ZERO)
    }

    /// A refund takes credits off the debt of a revocation (`lowers`), or gives them back to who had paid
    /// it. Written with the next movement.
    pub fn return_debt(
        &mut self,
        store: &Store,
        id: Uuid,
        credits: Amount,
        lowers: bool,
    ) -> Result<()> {
        let owed = if lowers { credits } else { Amount::ZERO };
        self.lower(store, id, owed, credits)
    }

    fn lower(&mut self, store: &Store, id: Uuid, owed: Amount, returned: Amount) -> Result<()> {
        let mut debts = self.take_debts(store)?;
        for debt in debts.iter_mut().filter(|debt| debt.id == id) {
            debt.owed -= owed;
        }
        self.wallet.owed -= owed;
        debts.retain(|debt| debt.owed.is_positive());
        self.debts = Some(debts);
        if owed.is_positive() || returned.is_positive() {
            self.lowered.push(DebtReduction { id, owed, returned });
        }
        Ok(())
    }

    /// What was revoked of a grant after it was spent, as a refund needs it.
    pub fn revoked(&self, store: &Store, grant: Uuid) -> Result<RevokedGrant> {
        let mut revoked = RevokedGrant::default();
        for row in ledger::referring_to(store, &self.customer, grant)? {
            if row.kind != "revocation" {
                continue;
            }
            let owed = row.was_owed()?;
            let earned = |part: &Part| part.grant.is_some() && part.revenue.is_positive();
            revoked.reclaimed |= owed.is_positive() || row.parts()?.iter().any(earned);
            if owed.is_zero() {
                continue;
            }
            let query = DebtOf {
                customer: &self.customer,
                asset: &self.asset.name,
                seq: row.seq,
            };
            let debt: Option<OpenDebt> = query.run(store)?.read_first()?;
            let debt =
                debt.ok_or_else(|| errors::corrupted("the debts", "a revocation's is not there"))?;
            let mut settled = Vec::new();
            for settlement in ledger::referring_to(store, &self.customer, row.id)? {
                settled.extend(settlement.parts()?.into_iter().filter_map(GrantPayment::of));
            }
            revoked.debts.push(RevokedDebt::new(
                row.id,
                owed,
                debt.owed,
                debt.returned,
                settled,
            ));
        }
        if revoked.reclaimed {
            (revoked.spent, revoked.earned) = grants::spent(store, &self.customer, grant)?;
        }
        Ok(revoked)
    }

    /// Books a movement and writes the wallet back, with all that is due. `after` is what the
    /// movement itself brought about: debts it paid, credits it moved on. False, and nothing is
    /// written, when the movement's key is taken.
    pub fn book(
        &mut self,
        store: &Store,
        entry: &mut Entry,
        after: Vec<PendingEntry>,
    ) -> Result<bool> {
        let taken = self.take_in(store, entry, after)?;
        // The state first: a wallet that is too large books nothing.
        let state = self.state()?;
        if !ledger::insert(store, entry)? {
            return Ok(false);
        };
        self.write(store, &state)?;
        self.book_with(store, entry, &taken)?;
        Ok(true)
    }

    /// The same for one of several movements: its ledger row goes to the others, to be written with
    /// them and the wallet by `Batch::write`. Where it is refused the wallet is as it was.
    pub fn book_later(
        &mut self,
        store: &Store,
        entry: &mut Entry,
        after: Vec<PendingEntry>,
        rows: &mut NewRows,
    ) -> Result<()> {
        let taken = self.take_in(store, entry, after)?;
        rows.add(store, entry)?;
        self.book_with(store, entry, &taken)
    }

    /// Gives a movement its place in the wallet, behind all that is due; limits may refuse it.
    fn take_in(
        &mut self,
        store: &Store,
        entry: &mut Entry,
        mut after: Vec<PendingEntry>,
    ) -> Result<NumberedEntries> {
        let counted = limits::count(store, self, entry, self.still_held)?;
        self.count_entry(entry)?;
        let before = std::mem::take(&mut self.due);
        let first = self.wallet.seq + 1;
        let seq = first + before.len() as u64;
        let booked = self.booked;
        let sum = |due: &[PendingEntry]| due.iter().map(PendingEntry::credits).sum::<Amount>();
        let balance = booked + sum(&before) + entry.credits;
        entry.number(&self.customer, &self.asset.name, self.now, seq, balance);
        if self.debts.is_some() || self.wallet.may_settle(self.now) {
            let mut debts = self.take_debts(store)?;
            if entry.owed.is_positive() {
                debts.push(Debt {
                    id: entry.id,
                    action: entry.action.clone(),
                    owed: entry.owed,
                });
            }
            self.debts = Some(debts);
        }
        after.extend(self.settle(store)?);
        after.extend(self.wallet.sweep(self.now));
        self.wallet.seq = seq + after.len() as u64;
        self.booked = entry.balance + sum(&after);
        Ok(NumberedEntries {
            booked,
            news: events::collect(self, before.iter().chain(&after))?,
            first,
            before,
            after,
            counted,
        })
    }

    /// Writes down what comes with a movement.
    fn book_with(&mut self, store: &Store, entry: &Entry, taken: &NumberedEntries) -> Result<()> {
        taken.counted.write(store, self)?;
        self.owe(store, entry)?;
        let lowered = std::mem::take(&mut self.lowered);
        for DebtReduction { id, owed, returned } in &lowered {
            self.pay(store, *id, *owed, *returned)?;
        }
        if !lowered.is_empty() {
            self.forget_paid(store)?;
        }
        self.book_due(store, taken.first, taken.booked, &taken.before)?;
        self.book_due(store, entry.seq + 1, entry.balance, &taken.after)?;
        events::insert(store, self, &taken.news)
    }

    /// Writes the wallet back where the verb itself moved nothing, with all that is due.
    pub fn write_back(&mut self, store: &Store) -> Result<()> {
        let mut due = std::mem::take(&mut self.due);
        due.extend(self.settle(store)?);
        due.extend(self.wallet.sweep(self.now));
        let first = self.wallet.seq + 1;
        self.wallet.seq += due.len() as u64;
        let news = events::collect(self, due.iter())?;
        let state = self.state()?;
        self.write(store, &state)?;
        let booked = self.booked;
        self.booked += due.iter().map(PendingEntry::credits).sum();
        self.book_due(store, first, booked, &due)?;
        events::insert(store, self, &news)
    }

    /// What the row says of when something falls due: it stays as it is while that is early enough, since
    /// it is indexed and a change of it costs a HOT update.
    pub(super) fn due_in_row(&self) -> Option<Moment> {
        let next = self.next_due_at();
        self.due_in_row
            .filter(|known| *known > self.now && next.is_none_or(|next| *known <= next))
            .or(next)
    }

    pub(super) fn write(&mut self, store: &Store, state: &[u8]) -> Result<()> {
        if let Some(place) = self.place {
            let keys = [
                KeyPart::Text(&self.customer),
                KeyPart::Text(&self.asset.name),
            ];
            let changes = [
                (STATE, value::bytes(state)),
                (NEXT_DUE_AT, value::optional_moment(self.due_in_row())),
            ];
            if direct_access::update(&WALLETS, place, &keys, &changes) {
                self.place = None;
                return Ok(());
            }
        }
        let next_due_at = self.due_in_row();
        let place = self.place.take();
        let (customer, asset) = (&self.customer, &self.asset.name);
        if let Some(place) = place {
            let query = WriteInPlace {
                customer,
                asset,
                state,
                next_due_at,
                place,
            };
            if query.run(store)?.count() > 0 {
                return Ok(());
            }
            // Something else of this call has written it.
        }
        let query = Write {
            customer,
            asset,
            state,
            next_due_at,
        };
        match query.run(store)?.count() {
            0 => Err(errors::corrupted("the wallets", "one of them is lost")),
            _ => Ok(()),
        }
    }

    /// Sets the overdraft limit and metadata, each where there is some.
    pub fn set_terms(
        &mut self,
        store: &Store,
        limit: Option<Amount>,
        metadata: Option<&Json>,
    ) -> Result<()> {
        self.limit = limit.unwrap_or(self.limit);
        let query = SetTerms {
            customer: &self.customer,
            asset: &self.asset.name,
            overdraft_limit: limit,
            metadata,
        };
        query.run(store)?;
        Ok(())
    }

    /// Sets the status, and why.
    pub fn set_status(&mut self, store: &Store, status: &str, reason: Option<&str>) -> Result<()> {
        self.status = status.to_owned();
        let query = SetStatus {
            customer: &self.customer,
            asset: &self.asset.name,
            status,
            reason,
        };
        query.run(store)?;
        Ok(())
    }

    /// Closes it for good: what it has ends, but for what is held, and so do its subscriptions.
    pub fn close(&mut self, store: &Store, reason: Option<&str>) -> Result<()> {
        plans::end_all(store, &self.customer, &self.asset.name, self.now)?;
        self.wallet.close();
        self.set_terms(store, Some(Amount::ZERO), None)?;
        self.set_status(store, "closed", reason)?;
        self.write_back(store)
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

    /// Books what is due: its rows begin with this number, and those before add up to `balance`.
    fn book_due(
        &mut self,
        store: &Store,
        first: u64,
        mut balance: Amount,
        due: &[PendingEntry],
    ) -> Result<()> {
        let mut paid = false;
        for (nth, some) in due.chunks(ROWS_AT_ONCE).enumerate() {
            let _scratch = Scratch::new();
            let first = first + (nth * ROWS_AT_ONCE) as u64;
            paid |= self.book_some_due(store, first, &mut balance, some)?;
        }
        if paid {
            self.forget_paid(store)?;
        }
        let renewals = std::mem::take(&mut self.renewals);
        renewals.book(store, &self.customer, &self.asset.name, self.now, due)?;
        let ended = std::mem::take(&mut self.ended);
        if ended.is_empty() {
            return Ok(());
        }
        authorizations::mark_expired(store, &self.customer, &ended)
    }

    /// Inserts the rows of some of it. True: it paid debts.
    fn book_some_due(
        &mut self,
        store: &Store,
        first: u64,
        balance: &mut Amount,
        due: &[PendingEntry],
    ) -> Result<bool> {
        let mut rows = NewRows::default();
        let mut key = None;
        for (seq, due) in (first..).zip(checked(due)) {
            let mut entry = entry_of(store, &self.customer, due)?;
            *balance += entry.credits;
            entry.number(&self.customer, &self.asset.name, self.now, seq, *balance);
            if let EntryKind::Renewed { .. } = &due.what
                && self.key.is_some()
            {
                key = self.key.take();
                entry = entry.under(key.as_ref());
            }
            rows.add(store, &mut entry)?;
        }
        if !rows.insert(store)? {
            let key = key.map(|key| key.text).unwrap_or_default();
            return Err(errors::idempotency_conflict(&self.customer, &key));
        }
        let mut paid = false;
        for due in checked(due) {
            if let EntryKind::Settled { debt, part, .. } = &due.what {
                self.pay(store, *debt, part.credits, Amount::ZERO)?;
                paid = true;
            }
        }
        Ok(paid)
    }

    /// Writes down what a new ledger row owes.
    fn owe(&self, store: &Store, entry: &Entry) -> Result<()> {
        if entry.owed.is_zero() {
            return Ok(());
        }
        let row = OpenDebt {
            customer: self.customer.clone(),
            asset: self.asset.name.clone(),
            seq: entry.seq,
            id: entry.id,
            action: entry.action.clone(),
            owed: entry.owed,
            returned: Amount::ZERO,
        };
        OWE.run(store, &row.values()?)?;
        Ok(())
    }

    fn pay(&self, store: &Store, debt: Uuid, credits: Amount, returned: Amount) -> Result<()> {
        let query = Pay {
            customer: &self.customer,
            asset: &self.asset.name,
            debt,
            credits,
            returned,
        };
        query.run(store)?;
        Ok(())
    }

    fn forget_paid(&self, store: &Store) -> Result<()> {
        FORGET_PAID.run(
            store,
            &[value::text(&self.customer), value::text(&self.asset.name)],
        )?;
        Ok(())
    }
}
