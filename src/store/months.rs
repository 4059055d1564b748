//! What was used of an action in a month, for prices whose tiers count over a month. The newest month is in
//! the wallet's state, so that a debit costs no further statement; others are summed from the ledger.

use rust_decimal::Decimal;

use super::ledger::{Entry, first_id};
use super::open_wallet::OpenWallet;
use super::statement::{Query, Store};
use super::table::query;
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::ledger::limit::{Calendar, CalendarPeriod};
use crate::ledger::month::{Count, CountError, MonthUse};

query! {
    /// Rows are booked after they happened, so none before the month's first id is of the month. What is out of
    /// range is told as the first count that is.
    Used(customer: text, asset: text, action: text, first_id: uuid, since: timestamptz, until: timestamptz):
    "SELECT least(coalesce(sum(l.quantity), 0), 1e15) FROM credyt.ledger l
     WHERE l.customer = :customer AND l.id >= :first_id AND l.asset = :asset AND l.kind = 'debit' AND l.action = :action
       AND l.occurred_at >= :since AND l.occurred_at < :until"
}

impl OpenWallet {
    /// What was used of an action in the month of a moment; `None`: `learn_used` has to ask the ledger.
    pub fn used(&self, action: &str, at: Moment) -> Result<Option<Decimal>> {
        let since = month(self, at)?.start;
        let late = || self.late_use(action, since).map(|one| one.used);
        let used = self.wallet.month_uses.used(action, since).or_else(late);
        Ok(used.map(Count::decimal))
    }

    /// The same, asked of the ledger where that has to be. From then on it is counted: in the state where it is
    /// the month of now, otherwise as long as the wallet is open.
    pub fn learn_used(&mut self, store: &Store, action: &str, at: Moment) -> Result<Decimal> {
        if let Some(known) = self.used(action, at)? {
            return Ok(known);
        }
        let month = month(self, at)?;
        let query = Used {
            customer: &self.customer,
            asset: &self.asset.name,
            action,
            first_id: first_id(month.start),
            since: month.start,
            until: month.end,
        };
        let sum: Decimal = query.run(store)?.read_one()?;
        let used = Count::of(sum).ok_or_else(|| uncounted(self, action, CountError::OutOfRange))?;
        if self.now < month.end {
            let uses = &mut self.wallet.month_uses;
            let begun = uses.begin(action, month.start, used);
            begun.map_err(|why| uncounted(self, action, why))?;
        } else {
            self.late_uses.push(MonthUse {
                action: action.to_owned(),
                since: month.start,
                used,
            });
        }
        Ok(used.decimal())
    }

    /// Counts a debit, where its action is counted.
    pub(super) fn count_use(
        &mut self,
        action: &str,
        quantity: Option<Decimal>,
        at: Moment,
    ) -> Result<()> {
        let is_late = |one: &MonthUse| one.action == action;
        let counts = self.wallet.month_uses.counts(action);
        if !counts && !self.late_uses.iter().any(is_late) {
            return Ok(());
        }
        let since = month(self, at)?.start;
        let of_month = |one: &&mut MonthUse| one.action == action && one.since == since;
        let more = Count::of(quantity.unwrap_or_default()).ok_or(CountError::OutOfRange);
        let counted = more.and_then(|more| {
            if let Some(late) = self.late_uses.iter_mut().find(of_month) {
                late.used = late.used.plus(more)?;
            }
            self.wallet.month_uses.add(action, since, more)
        });
        counted.map_err(|why| uncounted(self, action, why))
    }

    /// The same of a movement that is booked.
    pub(super) fn count_entry(&mut self, entry: &Entry) -> Result<()> {
        match &entry.action {
            Some(action) if entry.kind == "debit" => {
                self.count_use(action, entry.quantity, entry.occurred_at)
            }
            _ => Ok(()),
        }
    }

    fn late_use(&self, action: &str, since: Moment) -> Option<&MonthUse> {
        let is_it = |one: &&MonthUse| one.action == action && one.since == since;
        self.late_uses.iter().find(is_it)
    }
}

/// The month of a moment, in the time zone of the asset.
fn month(open: &OpenWallet, at: Moment) -> Result<CalendarPeriod> {
    open.period(Calendar::Month, at)
}

fn uncounted(open: &OpenWallet, action: &str, why: CountError) -> errors::Error {
    match why {
        CountError::TooMany => errors::too_many_actions(&open.customer, &open.asset.name),
        CountError::OutOfRange => errors::out_of_range(
            "quantity",
            format_args!("the quantity of {action} in a month is not below 1e15"),
        ),
    }
}
