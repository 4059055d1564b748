//! Writes an open wallet back: the movement of the call with all that is due, or what its operator has set.

use serde_json::Value as Json;
use uuid::Uuid;

use super::direct_rows::KeyPart;
use super::ledger::{self, Entry, Key, NewRows};
use super::limits::{self, LimitRows};
use super::open_wallet::{
    DebtReduction, NEXT_DUE_AT, OpenWallet, OutboxEvent, STATE, WALLETS, renewed,
};
use super::statement::{Query, ROWS_AT_ONCE, Statement, Store, TEXT};
use super::table::query;
use super::{authorizations, costs, direct_access, events, grants, nested, plans, wallets};
use crate::errors::{self, Result};
use crate::ledger::interrupt::checked;
use crate::ledger::plan::{Renewal, Subscription};
use crate::ledger::wallet::{Debt, EntryKind, PendingEntry};
use crate::ledger::{Amount, Grant, Moment};
use crate::sql_types::Scratch;
use crate::sql_types::value;

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

/// In the order in which every call locks several wallets.
static WAITING: Statement = Statement {
    sql: "SELECT w.asset FROM credyt.wallets w WHERE w.customer = $1 AND w.next_due_at IS NOT NULL
          ORDER BY w.asset COLLATE \"C\"",
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

/// Books the pending entries of a customer, so that the ledger has the grants that readers see.
pub fn book_due_of(store: &Store, customer: &str) -> Result<()> {
    let rows = WAITING.run(store, &[value::text(customer)])?;
    for row in rows.iter() {
        let asset: String = row.read()?;
        if let Some(mut open) = wallets::find(store, customer, &asset)? {
            open.book_due_now(store)?;
        }
    }
    Ok(())
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

impl OpenWallet {
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

    /// A call within this one must not have written it.
    pub(super) fn check_unwritten(&self, store: &Store) -> Result<()> {
        nested::check(&store.call, self.read_at, &self.customer, &self.asset.name)
    }

    pub(super) fn write(&mut self, store: &Store, state: &[u8]) -> Result<()> {
        self.check_unwritten(store)?;
        self.write_row(store, state)?;
        nested::wrote(&store.call, &self.customer, &self.asset.name);
        Ok(())
    }

    fn write_row(&mut self, store: &Store, state: &[u8]) -> Result<()> {
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
}
