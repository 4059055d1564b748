//! The wallet: a stack of grants, what is held of them and what is owed.
//!
//! Every verb is plain arithmetic on values. Whoever keeps the wallet opens it (`advance` it to
//! now), applies one verb, sweeps what came back to ended grants, and writes it down again.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::alerts::{ExpiringGrant, HUNDRED, MAX_ALERTS, Notice, Refill, Unit};
use super::interrupt::{check, checked};
use super::limit::{CALL, Counts, Every, MAX_LIMITS, check_scope};
use super::month::MonthUses;
use super::plan::{self, Issue, PeriodGrant, PlanPeriod, Renewal, Rollover};
use super::{AlertState, Amount, Grant, Kind, Limit, Moment};

/// More open grants than this a wallet does not take.
pub const MAX_GRANTS: usize = 1000;

/// One customer's balance in one asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wallet {
    /// When it last changed; its clock never runs backwards.
    pub changed_at: Moment,
    /// The number of its last ledger row.
    pub seq: u64,
    /// Credits spent beyond the grants and not paid back.
    pub owed: Amount,
    /// Overdraft that open authorizations pin.
    pub held_overdraft: Amount,
    /// No open authorization ends before this; `None` where there is none.
    pub next_hold_end: Option<Moment>,
    /// When the next period of a subscription begins that needs no further payment.
    pub next_renewal: Option<Moment>,
    /// What may be spent in a period.
    pub limits: Vec<Limit>,
    /// What was used of actions in a month, where prices ask for it.
    pub month_uses: MonthUses,
    /// Who wants to be told when it falls low.
    pub alert_state: AlertState,
    /// It takes nothing more: what is unheld, or comes back, is gone.
    pub closed: bool,
    /// The open grants, in burn order.
    grants: Vec<Grant>,
}

/// Credits that one grant, or the overdraft, gave or got in a movement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// `None`: the overdraft.
    pub grant: Option<(Uuid, Kind)>,
    pub credits: Amount,
    /// The share of what was paid for the grant that moved with the credits.
    pub revenue: Amount,
}

impl Part {
    /// Takes credits out of a grant, with their share of what is deferred.
    fn taken(grant: &mut Grant, credits: Amount) -> Part {
        Part {
            grant: Some((grant.id, grant.kind)),
            credits,
            revenue: grant.take(credits),
        }
    }
}

/// Credits that an authorization pins in one grant, or of the overdraft (`None`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    pub grant: Option<(Uuid, Kind)>,
    pub credits: Amount,
}

/// A hold whose end has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedHold {
    pub id: Uuid,
    pub at: Moment,
    pub pins: Vec<Pin>,
}

/// A debit, or a revocation of spent credits, that is still owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debt {
    /// The ledger row that owes.
    pub id: Uuid,
    /// Grants that may pay for this action pay the debt. `None`, for a revocation: every grant does.
    pub action: Option<String>,
    pub owed: Amount,
}

/// What time alone, or the return of credits to an ended grant, has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEntry {
    pub at: Moment,
    pub what: EntryKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// The unheld rest of an ended grant is gone; its revenue is breakage.
    Expired(Part),
    /// Credits that came back to a revoked grant are gone with it.
    Revoked(Part),
    /// A grant paid a debt.
    Settled {
        debt: Uuid,
        action: Option<String>,
        part: Part,
    },
    /// Credits that came back to a grant, or were unspent when their period ended, moved on to a new
    /// one.
    Moved { part: Part, to: Uuid },
    /// A period of this plan began and granted this, for what was paid.
    Renewed { part: Part, plan: String },
}

impl PendingEntry {
    /// Credits that its ledger row adds to the wallet's (positive) or takes from them (negative).
    pub fn credits(&self) -> Amount {
        match &self.what {
            EntryKind::Expired(part) | EntryKind::Revoked(part) => -part.credits,
            EntryKind::Renewed { part, .. } => part.credits,
            EntryKind::Settled { .. } | EntryKind::Moved { .. } => Amount::ZERO,
        }
    }
}

/// What happens to a capture beyond what the customer can pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overrun {
    /// It is refused, and the authorization stays open.
    Reject,
    /// What cannot be paid is forgiven.
    Clamp,
    /// What cannot be paid is owed, beyond the overdraft limit too.
    Overdraft,
}

impl Overrun {
    pub const fn as_str(self) -> &'static str {
        match self {
            Overrun::Reject => "reject",
            Overrun::Clamp => "clamp",
            Overrun::Overdraft => "overdraft",
        }
    }
}

/// The text names no way to treat an overrun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownOverrun;

impl FromStr for Overrun {
    type Err = UnknownOverrun;
    fn from_str(text: &str) -> Result<Overrun, UnknownOverrun> {
        match text {
            "reject" => Ok(Overrun::Reject),
            "clamp" => Ok(Overrun::Clamp),
            "overdraft" => Ok(Overrun::Overdraft),
            _ => Err(UnknownOverrun),
        }
    }
}

/// The wallet cannot pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    pub needed: Amount,
    pub available: Amount,
}

/// The wallet has no room for one more grant, or for these credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalletFull {
    TooManyGrants,
    TooManyCredits,
}

/// A state that no sequence of verbs leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt(pub &'static str);

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

fn ensure(holds: bool, invariant: &'static str) -> Result<(), Corrupt> {
    match holds {
        true => Ok(()),
        false => Err(Corrupt(invariant)),
    }
}

fn in_wallet(amount: Amount) -> bool {
    !amount.is_negative() && amount < Amount::MAX_WALLET
}

impl Wallet {
    /// An empty wallet, opened at this moment.
    pub fn new(opened_at: Moment) -> Wallet {
        Wallet {
            changed_at: opened_at,
            seq: 0,
            owed: Amount::ZERO,
            held_overdraft: Amount::ZERO,
            next_hold_end: None,
            next_renewal: None,
            limits: Vec::new(),
            month_uses: MonthUses::default(),
            alert_state: AlertState::default(),
            closed: false,
            grants: Vec::new(),
        }
    }

    /// The wallet with these open grants, refused when its parts contradict each other.
    pub fn with_grants(mut self, grants: Vec<Grant>) -> Result<Wallet, Corrupt> {
        self.grants = grants;
        self.check()?;
        Ok(self)
    }

    /// The open grants, in burn order.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    pub fn grant(&self, id: Uuid) -> Option<&Grant> {
        self.grants.iter().find(|g| g.id == id)
    }

    // ---- what can be read off it ------------------------------------------------------------

    /// What remains in live or held grants or waits for a payment, less what is owed.
    pub fn settled(&self, now: Moment) -> Amount {
        let remaining: Amount = self
            .grants
            .iter()
            .map(|g| {
                if g.live(now) {
                    g.remaining
                } else {
                    g.held + g.waiting
                }
            })
            .sum();
        remaining - self.owed
    }

    /// The sum of its ledger rows: what remains in its grants, future ones too, less what is owed.
    pub fn booked(&self) -> Amount {
        self.grants.iter().map(|g| g.remaining).sum::<Amount>() - self.owed
    }

    /// What open authorizations pin, overdraft included.
    pub fn held(&self) -> Amount {
        self.grants.iter().map(|g| g.held).sum::<Amount>() + self.held_overdraft
    }

    /// What can be spent now on this action (`None`: on any), overdraft included.
    pub fn available(&self, now: Moment, action: Option<&str>, limit: Amount) -> Amount {
        self.free(now, action) + self.room(limit)
    }

    /// What can be spent on anything without going into debt; negative where more is owed.
    pub fn balance(&self, now: Moment) -> Amount {
        self.free(now, None) - self.owed - self.held_overdraft
    }

    /// When the first live grant with credits ends.
    pub fn next_expiry(&self, now: Moment) -> Option<Moment> {
        self.grants
            .iter()
            .filter(|g| g.live(now))
            .filter_map(|g| g.expires_at)
            .min()
    }

    /// The next moment at which time alone changes something that has to be booked.
    pub fn next_due(&self) -> Option<Moment> {
        let starts = self
            .grants
            .iter()
            .map(|g| g.effective_at)
            .filter(|at| *at > self.changed_at);
        let ends = self
            .grants
            .iter()
            .filter(|g| g.perishable().is_positive())
            .filter_map(|g| g.expires_at);
        let others = self.next_hold_end.into_iter().chain(self.next_renewal);
        starts.chain(ends).chain(others).min()
    }

    /// The grants whose end is to be told now.
    pub fn expiring(&mut self, now: Moment, notice: Option<&Notice>) -> Vec<ExpiringGrant> {
        self.alert_state.expiring(&self.grants, now, notice)
    }

    /// When the end of a grant is to be told next.
    pub fn next_notice(&self, now: Moment, notice: Option<&Notice>) -> Option<Moment> {
        let open = notice.filter(|_| !self.closed);
        self.alert_state.next_notice(&self.grants, now, open)
    }

    /// Whether a grant has started since the wallet last changed.
    pub fn starts_until(&self, now: Moment) -> bool {
        let starts = |grant: &Grant| grant.effective_at > self.changed_at && grant.started(now);
        self.grants.iter().any(starts)
    }

    /// Unheld credits of the live grants that may pay for this action.
    fn free(&self, now: Moment, action: Option<&str>) -> Amount {
        let payers = self
            .grants
            .iter()
            .filter(|g| g.live(now) && g.pays_for(action));
        payers.map(Grant::unheld).sum()
    }

    /// What the overdraft limit still allows.
    fn room(&self, limit: Amount) -> Amount {
        (limit - self.owed - self.held_overdraft).or_zero()
    }

    /// What a new grant pays before its credits count: debt beyond the limit.
    pub fn owed_beyond(&self, limit: Amount) -> Amount {
        (self.owed + self.held_overdraft - limit)
            .or_zero()
            .min(self.owed)
    }

    // ---- the verbs --------------------------------------------------------------------------

    /// Works through what has fallen due up to now, in the order of time: grants begin (and pay
    /// debts), periods of subscriptions begin, grants end, holds end. Returns what has to be booked.
    ///
    /// A period that was paid for late has its turn when it would have begun, and is booked as of the
    /// wallet's last change.
    pub fn advance(
        &mut self,
        now: Moment,
        ended: &[EndedHold],
        debts: &mut Vec<Debt>,
        renewing: &mut [Renewal],
    ) -> Vec<PendingEntry> {
        // Ten years of a hundred daily plans are 730,000 of them: an event says where to find what it is about.
        #[derive(Clone, Copy)]
        enum Event<'a> {
            Starts,
            Renews { nth: usize, period: usize },
            Adds(usize),
            Lapses(usize),
            Ends,
            WaitEnds(usize),
            HoldEnds(&'a EndedHold),
        }
        let mut events = Vec::new();
        for grant in &self.grants {
            if grant.started(now) && grant.effective_at > self.changed_at {
                events.push((grant.effective_at, 0, Event::Starts));
            }
            if let Some(end) = grant.expires_at.filter(|end| *end <= now) {
                events.push((end, 2, Event::Ends));
            }
        }
        for (nth, renewing) in renewing.iter().enumerate() {
            for (period, its) in checked(renewing.periods.iter().enumerate()) {
                events.push((its.starts, 1, Event::Renews { nth, period }));
                if its.ends <= now {
                    events.push((its.ends, 2, Event::Ends));
                }
            }
            if let Some((grant, _)) = &renewing.difference {
                events.push((grant.effective_at, 1, Event::Adds(nth)));
            }
            if let Some(lapse) = &renewing.lapse {
                events.push((lapse.at, 1, Event::Lapses(nth)));
            }
            if let Some(at) = renewing.wait_ends {
                events.push((at, 3, Event::WaitEnds(nth)));
            }
        }
        for hold in ended {
            events.push((hold.at, 4, Event::HoldEnds(hold)));
        }
        // Stable, so that what falls on one moment keeps the burn order.
        events.sort_by(|(at, rank, _), (other_at, other_rank, _)| {
            check();
            (at, rank).cmp(&(other_at, other_rank))
        });
        let mut due = Vec::new();
        for (at, _, event) in checked(events) {
            match event {
                Event::Starts => due.extend(self.settle(at, debts)),
                Event::Renews { nth, period } => {
                    if let Some(renewing) = renewing.get_mut(nth)
                        && let Some(period) = renewing.periods.get(period).cloned()
                    {
                        due.extend(self.renew(renewing, period, debts));
                    }
                }
                Event::Adds(nth) => {
                    if let Some(renewing) = renewing.get_mut(nth)
                        && let Some((grant, plan)) = renewing.difference.clone()
                    {
                        let (issue, renewed) = granted(grant, plan, at);
                        renewing.grants.push(issue.of_period());
                        self.put(issue.grant.clone());
                        renewing.issued.push(issue);
                        due.push(renewed);
                        due.extend(self.settle(at, debts));
                    }
                }
                Event::Lapses(nth) => {
                    if let Some(renewing) = renewing.get(nth)
                        && let Some(lapse) = &renewing.lapse
                    {
                        self.wait(renewing, &lapse.rollover);
                    }
                }
                Event::Ends => due.extend(self.sweep(at)),
                Event::WaitEnds(nth) => {
                    if let Some(renewing) = renewing.get_mut(nth) {
                        self.end_wait(renewing);
                        due.extend(self.sweep(at));
                    }
                }
                Event::HoldEnds(hold) => {
                    self.unhold(&hold.pins);
                    due.extend(self.settle(at, debts));
                    due.extend(self.sweep(at));
                }
            }
        }
        for due in &mut due {
            due.at = due.at.max(self.changed_at);
        }
        due
    }

    /// A period ends and the next one is not paid for: what may roll over waits.
    fn wait(&mut self, renewing: &Renewal, rollover: &Rollover) {
        let mut left = self.rolls_over(renewing, rollover);
        for grant in &mut self.grants {
            if renewing.may_move(grant, rollover).is_some() {
                grant.waiting = left.min(grant.unheld());
                left -= grant.waiting;
            }
        }
    }

    /// How many credits of a period's grants move to the next one.
    fn rolls_over(&self, renewing: &Renewal, rollover: &Rollover) -> Amount {
        let (mut unspent, mut waiting) = (Amount::ZERO, Amount::ZERO);
        for grant in &self.grants {
            if renewing.may_move(grant, rollover).is_some() {
                unspent += grant.unheld();
                waiting += grant.waiting;
            }
        }
        rollover.of(unspent, waiting, renewing.scale)
    }

    /// Nothing waits any more: the next period was not paid for in time, or is not wanted.
    fn end_wait(&mut self, renewing: &mut Renewal) {
        for grant in &mut self.grants {
            if renewing.grants.iter().any(|known| known.id == grant.id) {
                grant.waiting = Amount::ZERO;
            }
        }
        renewing.grants.clear();
    }

    /// Begins a period of a subscription: what may roll over moves into it, and it grants its own
    /// credits. Both pay debts first.
    fn renew(
        &mut self,
        renewing: &mut Renewal,
        period: PlanPeriod,
        debts: &mut Vec<Debt>,
    ) -> Vec<PendingEntry> {
        let at = period.starts;
        let (mut issues, mut due) = self.roll_over(renewing, &period);
        if let Some(grant) = period.grant {
            let (issue, renewed) = granted(grant, period.plan, at);
            issues.push(issue);
            due.push(renewed);
        }
        renewing.grants = issues.iter().map(Issue::of_period).collect();
        for issue in &issues {
            // Never refused for want of room: what a plan gives does not add up, it ends.
            self.put(issue.grant.clone());
        }
        due.extend(self.settle(at, debts));
        renewing.issued.extend(issues);
        due
    }

    /// Takes what may move to a period out of the grants of the one before, in burn order: into one
    /// new grant for all that were given on the same terms, and have moved as often where that counts.
    fn roll_over(
        &mut self,
        renewing: &Renewal,
        period: &PlanPeriod,
    ) -> (Vec<Issue>, Vec<PendingEntry>) {
        let (mut issues, mut due): (Vec<Issue>, Vec<PendingEntry>) = (Vec::new(), Vec::new());
        let mut left = self.rolls_over(renewing, &period.rollover);
        for grant in &mut self.grants {
            let Some(of_period) = renewing.may_move(grant, &period.rollover) else {
                continue;
            };
            let moved = of_period.moved.saturating_add(1);
            let waiting = std::mem::take(&mut grant.waiting);
            let credits = if waiting.is_positive() {
                left.min(waiting)
            } else {
                left.min(grant.unheld())
            };
            if !credits.is_positive() {
                continue;
            }
            let alike = |issue: &Issue| {
                (issue.grant.priority, &issue.grant.applies_to)
                    == (grant.priority, &grant.applies_to)
                    && (period.rollover.times.is_none() || issue.moved == moved)
            };
            let place = match issues.iter().position(alike) {
                Some(place) => place,
                None => {
                    issues.push(Issue {
                        grant: Grant {
                            id: plan::grant_id(renewing.subscription, period.starts, issues.len()),
                            effective_at: period.starts,
                            expires_at: Some(period.ends),
                            remaining: Amount::ZERO,
                            held: Amount::ZERO,
                            deferred: Amount::ZERO,
                            ..grant.clone()
                        },
                        origin: Some(grant.id),
                        moved,
                    });
                    issues.len() - 1
                }
            };
            let Some(issue) = issues.get_mut(place) else {
                continue;
            };
            issue.moved = issue.moved.max(moved);
            let to = &mut issue.grant;
            // No grant is larger than one that can be issued: the rest stays, and ends.
            let most = Amount::MAX_ISSUE;
            if to.remaining + credits >= most || to.deferred + grant.deferred >= most {
                continue;
            }
            let part = Part::taken(grant, credits);
            left -= credits;
            to.remaining += credits;
            to.deferred += part.revenue;
            let to = to.id;
            due.push(PendingEntry {
                at: period.starts,
                what: EntryKind::Moved { part, to },
            });
        }
        issues.retain(|issue| issue.grant.remaining.is_positive());
        self.drop_empty();
        (issues, due)
    }

    /// Lets a period's grants end now, before their time: their unheld credits are lost with the next
    /// `advance`, unless they move to the period that begins.
    pub fn end_grants(&mut self, grants: &[PeriodGrant], now: Moment) {
        for grant in &mut self.grants {
            let of_period = grants.iter().any(|known| known.id == grant.id);
            if of_period && grant.expires_at.is_none_or(|end| end > now) {
                grant.expires_at = Some(now);
            }
        }
        self.grants.sort_by(Grant::burn_order);
    }

    /// Removes what lies unheld in ended or revoked grants, or in any grant of a closed wallet: the last
    /// step of every verb, since credits may have come back to such a grant.
    pub fn sweep(&mut self, now: Moment) -> Vec<PendingEntry> {
        let mut due = Vec::new();
        for grant in &mut self.grants {
            if self.closed || grant.revoked {
                grant.waiting = Amount::ZERO;
            }
            let credits = grant.perishable();
            let over = self.closed || grant.revoked || grant.ended(now);
            if credits.is_positive() && over {
                let part = Part::taken(grant, credits);
                let what = if grant.revoked {
                    EntryKind::Revoked(part)
                } else {
                    EntryKind::Expired(part)
                };
                due.push(PendingEntry { at: now, what });
            }
        }
        self.drop_empty();
        due
    }

    /// Whether it has as many grants as it can.
    pub fn is_full(&self) -> bool {
        self.grants.len() >= MAX_GRANTS
    }

    /// Puts a grant on the stack.
    pub fn issue(&mut self, grant: Grant) -> Result<(), WalletFull> {
        if self.is_full() {
            return Err(WalletFull::TooManyGrants);
        }
        let total: Amount = self.grants.iter().map(|g| g.remaining).sum();
        if total + grant.remaining >= Amount::MAX_WALLET {
            return Err(WalletFull::TooManyCredits);
        }
        self.put(grant);
        Ok(())
    }

    /// Whether it owes while live credits are free. They may be for other actions than the debt.
    pub fn may_settle(&self, now: Moment) -> bool {
        self.owed.is_positive() && self.free(now, None).is_positive()
    }

    /// Pays what can be paid of what is owed: the oldest debt first, each by the live grants that may
    /// pay for its action, in burn order. The last step of whatever brings or frees credits.
    pub fn settle(&mut self, now: Moment, debts: &mut Vec<Debt>) -> Vec<PendingEntry> {
        let mut due = Vec::new();
        if !self.may_settle(now) {
            return due;
        }
        // Actions that no grant is left for: each is looked for once, however many debts it has.
        let mut unpaid: HashSet<Option<&str>> = HashSet::new();
        let mut paid = Vec::with_capacity(debts.len());
        for debt in debts.iter() {
            let action = debt.action.as_deref();
            let mut left = debt.owed;
            let payers = self
                .grants
                .iter_mut()
                .filter(|g| !unpaid.contains(&action) && g.live(now));
            for grant in payers.filter(|g| g.pays_for(action)) {
                let credits = left.min(grant.unheld());
                if !credits.is_positive() {
                    continue;
                }
                let part = Part::taken(grant, credits);
                left -= credits;
                let what = EntryKind::Settled {
                    debt: debt.id,
                    action: debt.action.clone(),
                    part,
                };
                due.push(PendingEntry { at: now, what });
            }
            if left.is_positive() {
                unpaid.insert(action);
            }
            paid.push(debt.owed - left);
        }
        for (debt, paid) in debts.iter_mut().zip(paid) {
            debt.owed -= paid;
            self.owed -= paid;
        }
        debts.retain(|debt| debt.owed.is_positive());
        self.drop_empty();
        due
    }

    /// Spends credits on an action, all or nothing: from the grants in burn order, then on credit
    /// within the overdraft limit.
    pub fn spend(
        &mut self,
        now: Moment,
        action: &str,
        credits: Amount,
        limit: Amount,
    ) -> Result<Vec<Part>, Shortfall> {
        self.afford(now, action, credits, limit)?;
        let mut parts = self.take(self.choose_free(now, Some(action), credits));
        let rest = credits - total(&parts);
        self.owe(rest, &mut parts);
        Ok(parts)
    }

    /// Pins credits for an action that has not finished, in burn order, then of the overdraft.
    pub fn hold(
        &mut self,
        now: Moment,
        action: &str,
        credits: Amount,
        limit: Amount,
    ) -> Result<Vec<Pin>, Shortfall> {
        self.afford(now, action, credits, limit)?;
        let mut pins = self.choose_free(now, Some(action), credits);
        let left = credits - pins.iter().map(|pin| pin.credits).sum();
        if left.is_positive() {
            pins.push(Pin {
                grant: None,
                credits: left,
            });
        }
        for pin in &pins {
            match pin.grant {
                None => self.held_overdraft += pin.credits,
                Some((id, _)) => {
                    if let Some(grant) = self.grants.iter_mut().find(|g| g.id == id) {
                        grant.held += pin.credits;
                    }
                }
            }
        }
        Ok(pins)
    }

    /// Gives held credits free again.
    pub fn unhold(&mut self, pins: &[Pin]) {
        for pin in pins {
            match pin.grant {
                None => self.held_overdraft -= pin.credits,
                Some((id, _)) => {
                    if let Some(grant) = self.grants.iter_mut().find(|g| g.id == id) {
                        grant.held -= pin.credits;
                    }
                }
            }
        }
    }

    /// Charges an authorization: from its pins, then from free credits, then from the overdraft it
    /// pinned, then from what the limit still allows. `overrun` decides about the rest. The pins
    /// are lowered by what they paid.
    pub fn capture(
        &mut self,
        now: Moment,
        action: &str,
        credits: Amount,
        limit: Amount,
        overrun: Overrun,
        pins: &mut Vec<Pin>,
    ) -> Result<Vec<Part>, Shortfall> {
        // First only who pays how much, so that a refusal changes nothing.
        let mut left = credits;
        let mut pay = |most: Amount| {
            let credits = left.min(most);
            left -= credits;
            credits
        };
        let mut used: Vec<Pin> = pins.clone();
        for pin in used.iter_mut().filter(|pin| pin.grant.is_some()) {
            pin.credits = pay(pin.credits);
        }
        let free = self.choose_free(now, Some(action), pay(self.free(now, Some(action))));
        let mut owed = Amount::ZERO;
        // What free credits pay in place of the overdraft is not held any longer.
        let mut freed: Amount = free.iter().map(|pin| pin.credits).sum();
        for pin in used.iter_mut().filter(|pin| pin.grant.is_none()) {
            let held = pin.credits;
            pin.credits = pay(held);
            owed += pin.credits;
            let instead = freed.min(held - pin.credits);
            pin.credits += instead;
            freed -= instead;
        }
        owed += pay(self.room(limit));
        if left.is_positive() {
            match overrun {
                Overrun::Reject => {
                    return Err(Shortfall {
                        needed: credits,
                        available: credits - left,
                    });
                }
                Overrun::Clamp => {}
                Overrun::Overdraft => owed += left,
            }
        }

        self.unhold(&used);
        for (pin, used) in pins.iter_mut().zip(&used) {
            pin.credits -= used.credits;
        }
        pins.retain(|pin| pin.credits.is_positive());
        used.retain(|pin| pin.grant.is_some() && pin.credits.is_positive());
        // One movement takes its share of a grant's revenue once.
        merge(&mut used, free);
        let mut parts = self.take(used);
        self.owe(owed, &mut parts);
        Ok(parts)
    }

    /// Gives credits back to an open grant, with the revenue their debit took. False when the grant
    /// is not open: it has to be issued again.
    pub fn restore(&mut self, id: Uuid, credits: Amount, revenue: Amount) -> bool {
        match self.grants.iter_mut().find(|g| g.id == id) {
            None => false,
            Some(grant) => {
                grant.remaining += credits;
                grant.deferred += revenue;
                true
            }
        }
    }

    /// Takes credits out of a grant for good. At most what is unheld.
    pub fn remove(&mut self, id: Uuid, credits: Amount) -> Option<Part> {
        let grant = self.grants.iter_mut().find(|g| g.id == id)?;
        let credits = credits.min(grant.unheld());
        let part = Part::taken(grant, credits);
        self.drop_empty();
        Some(part)
    }

    /// Takes unheld live credits out for another wallet, in burn order, whatever they may pay for.
    /// The overdraft is nothing to give. Each part with the grant as it was.
    pub fn give(&mut self, now: Moment, credits: Amount) -> Result<Vec<(Grant, Part)>, Shortfall> {
        let available = self.free(now, None);
        if credits > available {
            return Err(Shortfall {
                needed: credits,
                available,
            });
        }
        let chosen = self.choose_free(now, None, credits);
        let given = |pin: &Pin| self.grant(pin.grant?.0).cloned();
        let grants: Vec<Grant> = chosen.iter().filter_map(given).collect();
        let parts = self.take(chosen);
        Ok(grants.into_iter().zip(parts).collect())
    }

    /// From now on it takes nothing more: the sweep that follows ends all grants but for what is held.
    pub fn close(&mut self) {
        self.closed = true;
        self.next_renewal = None;
    }

    /// Marks an open grant as revoked: what is still held of it goes when it comes back.
    pub fn mark_revoked(&mut self, id: Uuid) {
        if let Some(grant) = self.grants.iter_mut().find(|g| g.id == id) {
            grant.revoked = true;
        }
    }

    // ---- the pieces they share --------------------------------------------------------------

    fn afford(
        &self,
        now: Moment,
        action: &str,
        credits: Amount,
        limit: Amount,
    ) -> Result<(), Shortfall> {
        // Zero credits are always affordable, whatever is owed.
        let available = self.available(now, Some(action), limit);
        if credits > available {
            Err(Shortfall {
                needed: credits,
                available,
            })
        } else {
            Ok(())
        }
    }

    /// Up to `credits` unheld credits of the live grants, in burn order.
    fn choose_free(&self, now: Moment, action: Option<&str>, wanted: Amount) -> Vec<Pin> {
        let mut chosen = Vec::new();
        let mut left = wanted;
        for grant in &self.grants {
            if left.is_zero() {
                break;
            }
            if grant.live(now) && grant.pays_for(action) && grant.unheld().is_positive() {
                let credits = left.min(grant.unheld());
                left -= credits;
                chosen.push(Pin {
                    grant: Some((grant.id, grant.kind)),
                    credits,
                });
            }
        }
        chosen
    }

    /// Takes what was chosen, with its revenue.
    fn take(&mut self, chosen: Vec<Pin>) -> Vec<Part> {
        let mut parts = Vec::with_capacity(chosen.len());
        for Pin {
            grant: from,
            credits,
        } in chosen
        {
            if let Some(grant) = self
                .grants
                .iter_mut()
                .find(|g| Some(g.id) == from.map(|f| f.0))
            {
                parts.push(Part::taken(grant, credits));
            }
        }
        self.drop_empty();
        parts
    }

    fn owe(&mut self, credits: Amount, parts: &mut Vec<Part>) {
        if credits.is_positive() {
            self.owed += credits;
            parts.push(Part {
                grant: None,
                credits,
                revenue: Amount::ZERO,
            });
        }
    }

    /// At its place in the burn order.
    fn put(&mut self, grant: Grant) {
        let place = self
            .grants
            .partition_point(|g| g.burn_order(&grant).is_lt());
        self.grants.insert(place, grant);
    }

    fn drop_empty(&mut self) {
        self.grants.retain(|g| g.remaining.is_positive());
    }

    /// The invariants that hold within one state.
    pub fn check(&self) -> Result<(), Corrupt> {
        // What plans give is never turned away, so it does not count here, and there is room for as
        // many credits again as can be issued.
        let issued = self.grants.iter().filter(|g| g.kind != Kind::Included);
        ensure(issued.count() <= MAX_GRANTS, "more than 1000 open grants")?;
        let moments = [Some(self.changed_at), self.next_hold_end, self.next_renewal];
        ensure(
            moments.iter().flatten().all(|at| at.has_a_date()),
            "a time that no calendar has",
        )?;
        ensure(i64::try_from(self.seq).is_ok(), "seq is out of range")?;
        ensure(in_wallet(self.owed), "owed is out of range")?;
        ensure(
            in_wallet(self.held_overdraft),
            "held_overdraft is out of range",
        )?;
        ensure(
            self.month_uses.iter().all(|one| one.since.has_a_date()),
            "a month that no calendar has",
        )?;
        ensure(
            !self.closed || self.next_renewal.is_none(),
            "a closed wallet renews",
        )?;
        self.check_limits()?;
        self.check_alerts()?;
        self.check_grants()
    }

    fn check_limits(&self) -> Result<(), Corrupt> {
        ensure(self.limits.len() <= MAX_LIMITS, "more than 100 limits")?;
        for limit in &self.limits {
            ensure(check_scope(&limit.scope).is_ok(), "a limit on no scope")?;
            ensure(in_wallet(limit.cap), "a cap is out of range")?;
            let whole = limit.cap.units() % CALL.units() == 0;
            ensure(limit.counts == Counts::Credits || whole, "a part of a call")?;
            let share = (1..=CALL.units()).contains(&limit.warn_at.units());
            ensure(share, "a warning at no share of the cap")?;
            ensure(
                !limit.required || limit.each().is_some(),
                "a limit requires one scope",
            )?;
            ensure(
                limit.start.is_some() == (limit.every == Every::Ever),
                "a limit with a wrong start",
            )?;
            ensure(
                limit.uses.iter().all(|one| in_wallet(one.used)),
                "what is used under a limit is out of range",
            )?;
        }
        Ok(())
    }

    fn check_alerts(&self) -> Result<(), Corrupt> {
        ensure(
            self.alert_state.alerts.len() <= MAX_ALERTS,
            "more than 10 alerts",
        )?;
        ensure(
            in_wallet(self.alert_state.refilled),
            "refilled is out of range",
        )?;
        for alert in &self.alert_state.alerts {
            let most = match alert.unit {
                Unit::Credits => Amount::MAX_WALLET,
                Unit::Percent => HUNDRED,
            };
            ensure(
                !alert.threshold.is_negative() && alert.threshold <= most,
                "a threshold is out of range",
            )?;
        }
        ensure(
            self.alert_state
                .noticed
                .is_sorted_by(|a, b| a.grant < b.grant)
                && self.alert_state.noticed.iter().all(|one| one.days > 0),
            "a grant was told of twice",
        )?;
        if let Some(topup) = &self.alert_state.topup {
            ensure(in_wallet(topup.threshold), "a threshold is out of range")?;
            ensure(
                match topup.refill {
                    Refill::Credits(credits) => credits.is_positive() && in_wallet(credits),
                    Refill::ToBalance(target) => target > topup.threshold && in_wallet(target),
                },
                "a top-up of nothing",
            )?;
            let asked = topup.asked.as_ref();
            ensure(
                topup.max_credits.is_none_or(in_wallet)
                    && asked.is_none_or(|asked| in_wallet(asked.credits))
                    && topup.cooldown_seconds >= 0,
                "a top-up is out of range",
            )?;
            let moments = [topup.waits_until, asked.map(|asked| asked.until)];
            ensure(
                moments.iter().flatten().all(|at| at.has_a_date()),
                "a time that no calendar has",
            )?;
        }
        Ok(())
    }

    fn check_grants(&self) -> Result<(), Corrupt> {
        let mut total = Amount::ZERO;
        for grant in &self.grants {
            ensure(
                !self.closed || grant.unheld().is_zero(),
                "unheld credits in a closed wallet",
            )?;
            ensure(
                grant.remaining.is_positive(),
                "an open grant with nothing remaining",
            )?;
            ensure(in_wallet(grant.remaining), "remaining is out of range")?;
            ensure(!grant.held.is_negative(), "held is negative")?;
            ensure(
                grant.held <= grant.remaining,
                "more is held in a grant than remains in it",
            )?;
            ensure(!grant.waiting.is_negative(), "waiting is negative")?;
            ensure(
                grant.waiting <= grant.unheld(),
                "more waits in a grant than is free",
            )?;
            ensure(
                grant.waiting.is_zero() || grant.expires_at.is_some() && !grant.revoked,
                "credits wait in a grant that never ends",
            )?;
            ensure(in_wallet(grant.deferred), "deferred is out of range")?;
            ensure(
                grant.effective_at.has_a_date() && grant.expires_at.is_none_or(Moment::has_a_date),
                "a time that no calendar has",
            )?;
            ensure(
                grant.expires_at.is_none_or(|end| end > grant.effective_at),
                "a grant ends before it starts",
            )?;
            let patterns = grant.applies_to.as_deref();
            ensure(
                patterns.is_none_or(|all| !all.is_empty() && all.iter().all(|one| is_pattern(one))),
                "a grant applies to nothing",
            )?;
            total += grant.remaining;
        }
        ensure(
            total < Amount::MAX_WALLET + Amount::MAX_WALLET,
            "remaining is out of range",
        )?;
        // Strict, so that no grant is there twice.
        ensure(
            self.grants.is_sorted_by(|a, b| a.burn_order(b).is_lt()),
            "the grants are not in burn order",
        )
    }
}

/// A grant that a plan gives, as it is issued and as it is booked.
fn granted(grant: Grant, plan: String, at: Moment) -> (Issue, PendingEntry) {
    let part = Part {
        grant: Some((grant.id, grant.kind)),
        credits: grant.remaining,
        revenue: grant.deferred,
    };
    let what = EntryKind::Renewed { part, plan };
    let issue = Issue {
        grant,
        origin: None,
        moved: 0,
    };
    (issue, PendingEntry { at, what })
}

/// Whether some action could match it. Texts of Postgres hold no NUL.
fn is_pattern(text: &str) -> bool {
    !text.is_empty() && !text.contains('\0')
}

/// The credits of all parts.
pub fn total(parts: &[Part]) -> Amount {
    parts.iter().map(|part| part.credits).sum()
}

/// Adds pins to others, one for each grant.
fn merge(pins: &mut Vec<Pin>, more: Vec<Pin>) {
    for pin in more {
        match pins.iter_mut().find(|p| p.grant == pin.grant) {
            Some(known) => known.credits += pin.credits,
            None => pins.push(pin),
        }
    }
}
