//! The wallet a second time, as naively as it can be written, straight from the words of the design.
//!
//! Nothing is ever thrown away: emptied grants, closed authorizations and paid debts stay, and every
//! movement is kept in a ledger. Amounts are plain counts of 10^-10 units, shares are fractions of
//! big integers. From the ledger proper it borrows plain data only, never a computation.

use std::collections::BTreeSet;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::ToPrimitive;
use uuid::Uuid;

use super::Subscription;
use crate::ledger::plan::grant_id;
use crate::ledger::wallet::{Debt, EntryKind, Overrun, Part, PendingEntry, Pin, Shortfall};
use crate::ledger::{Amount, Grant, Kind, Moment};

/// A count of 10^-10 units.
pub type Units = i128;

pub struct ModelGrant {
    /// What was agreed; its amounts are not looked at.
    terms: Grant,
    pub issued: Units,
    pub paid: Units,
    revoked: bool,
    /// Revoked as a whole, and what of it is spent is owed.
    owing: bool,
    pub remaining: Units,
    deferred: Units,
    /// How often its credits have rolled over.
    moved: u32,
    /// Unspent credits of an ended period that roll over when the next one is paid for.
    waiting: Units,
}

impl ModelGrant {
    pub fn id(&self) -> Uuid {
        self.terms.id
    }

    pub fn is_scoped(&self) -> bool {
        self.terms.applies_to.is_some()
    }
}

/// Credits that a grant, by its place in the list, or the overdraft (`None`) gives or gets.
#[derive(Clone, Copy)]
pub struct ModelPart {
    pub grant: Option<usize>,
    pub credits: Units,
    pub revenue: Units,
}

pub struct ModelAuthorization {
    pub action: String,
    pub ends: i64,
    /// Its pins count: neither captured, nor released, nor ended.
    pub open: bool,
    /// A capture is still possible.
    pub capturable: bool,
    pub pins: Vec<(Option<usize>, Units)>,
    pub captured: Units,
}

pub struct ModelDebit {
    action: Option<String>,
    /// What grants paid (at once or later, by a settlement), payment by payment.
    paid: Vec<ModelPart>,
    owed: Units,
    pub credits: Units,
    /// It is no debit: spent credits of this grant were revoked.
    revokes: Option<usize>,
    /// How much of each payment was given back.
    back: Vec<Units>,
}

impl ModelDebit {
    pub fn refundable(&self) -> Units {
        if self.revokes.is_some() {
            return 0;
        }
        self.owed + sum(self.paid.iter().map(|part| part.credits)) - sum(self.back.iter().copied())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MovementKind {
    Grant,
    Debit,
    Refund,
    Expiry,
    Revocation,
    /// Spent credits became debt, and their revenue was taken back.
    Reclaimed,
    Settlement,
    /// To another grant of the wallet.
    Rollover,
    /// Gone to another wallet.
    Transfer,
}

pub struct Movement {
    pub kind: MovementKind,
    pub parts: Vec<ModelPart>,
    pub authorization: Option<usize>,
    /// The debit that a refund gives back or a settlement pays.
    pub debit: Option<usize>,
}

pub struct Model {
    pub now: i64,
    pub limit: Units,
    /// In the order of issue.
    pub grants: Vec<ModelGrant>,
    pub authorizations: Vec<ModelAuthorization>,
    /// In the order of time.
    pub debits: Vec<ModelDebit>,
    pub ledger: Vec<Movement>,
    /// In the order they were made, each with the grants of its period.
    pub subscriptions: Vec<(Subscription, Vec<usize>)>,
    closed: bool,
}

impl Model {
    pub fn new(now: i64) -> Model {
        Model {
            now,
            limit: 0,
            grants: vec![],
            authorizations: vec![],
            debits: vec![],
            ledger: vec![],
            subscriptions: vec![],
            closed: false,
        }
    }

    // ---- what can be read off it ------------------------------------------------------------

    /// The open grants in burn order: "Lower priority first; then the earliest expires_at
    /// (never-expiring last); then grants limited by applies_to before unlimited ones; then
    /// promotional, included, purchased; then the oldest effective_at; then id."
    pub fn burn_order(&self) -> Vec<usize> {
        let mut open: Vec<usize> = (0..self.grants.len())
            .filter(|g| self.grants[*g].remaining > 0)
            .collect();
        open.sort_by_key(|g| {
            let terms = &self.grants[*g].terms;
            let never_expires = terms.expires_at.is_none();
            let unlimited = terms.applies_to.is_none();
            let kinds = [Kind::Promotional, Kind::Included, Kind::Purchased];
            let kind = kinds.iter().position(|kind| *kind == terms.kind);
            (
                (terms.priority, never_expires, terms.expires_at),
                (unlimited, kind, terms.effective_at, terms.id),
            )
        });
        open
    }

    pub fn held_in(&self, grant: Option<usize>) -> Units {
        let open = self.authorizations.iter().filter(|a| a.open);
        let pins = open.flat_map(|a| &a.pins);
        sum(pins
            .filter(|(pinned, _)| *pinned == grant)
            .map(|(_, credits)| *credits))
    }

    pub fn held(&self) -> Units {
        let in_grants = (0..self.grants.len()).map(|g| self.held_in(Some(g)));
        sum(in_grants) + self.held_in(None)
    }

    pub fn owed(&self) -> Units {
        sum(self.debits.iter().map(|debit| debit.owed))
    }

    /// "settled = remaining of live or held grants - owed"; of an ended grant only what is held is
    /// not lost.
    pub fn settled(&self, at: i64) -> Units {
        let mut settled = -self.owed();
        for (g, grant) in self.grants.iter().enumerate() {
            settled += if self.live(g, at) {
                grant.remaining
            } else {
                self.held_in(Some(g)) + grant.waiting
            };
        }
        settled
    }

    /// "available = live and unheld + what the overdraft limit still allows".
    pub fn available(&self, at: i64, action: Option<&str>) -> Units {
        let payers = (0..self.grants.len()).filter(|g| self.live(*g, at) && self.pays(*g, action));
        sum(payers.map(|g| self.unheld(g))) + self.room()
    }

    pub fn next_expiry(&self, at: i64) -> Option<Moment> {
        let open = self.burn_order().into_iter().filter(|g| self.live(*g, at));
        open.filter_map(|g| self.grants[g].terms.expires_at).min()
    }

    /// Each open grant as the wallet should keep it, in burn order.
    pub fn open_grants(&self) -> Vec<Grant> {
        let as_kept = |g: usize| Grant {
            revoked: self.grants[g].revoked,
            remaining: Amount::from_units(self.grants[g].remaining),
            held: Amount::from_units(self.held_in(Some(g))),
            waiting: Amount::from_units(self.grants[g].waiting),
            deferred: Amount::from_units(self.grants[g].deferred),
            ..self.grants[g].terms.clone()
        };
        self.burn_order().into_iter().map(as_kept).collect()
    }

    pub fn debts(&self) -> Vec<Debt> {
        let debts = self
            .debits
            .iter()
            .enumerate()
            .filter(|(_, debit)| debit.owed > 0);
        let as_kept = |(n, debit): (usize, &ModelDebit)| Debt {
            id: Uuid::from_u128(n as u128),
            action: debit.action.clone(),
            owed: Amount::from_units(debit.owed),
        };
        debts.map(as_kept).collect()
    }

    pub fn pins(&self, authorization: usize) -> Vec<Pin> {
        let pins = self.authorizations[authorization].pins.iter();
        let as_kept = |(grant, credits): &(Option<usize>, Units)| Pin {
            grant: self.name(*grant),
            credits: Amount::from_units(*credits),
        };
        pins.map(as_kept).collect()
    }

    pub fn unheld(&self, grant: usize) -> Units {
        self.grants[grant].remaining - self.held_in(Some(grant))
    }

    fn ended(&self, grant: usize, at: i64) -> bool {
        self.grants[grant]
            .terms
            .expires_at
            .is_some_and(|Moment(end)| at >= end)
    }

    fn live(&self, grant: usize, at: i64) -> bool {
        let grant_is = &self.grants[grant];
        at >= grant_is.terms.effective_at.0 && !self.ended(grant, at) && !grant_is.revoked
    }

    fn pays(&self, grant: usize, action: Option<&str>) -> bool {
        let (Some(patterns), Some(action)) = (&self.grants[grant].terms.applies_to, action) else {
            return true;
        };
        patterns.iter().any(|pattern| {
            let stars = pattern.ends_with('*');
            let beginning = pattern.replace('*', "");
            *pattern == action
                || stars
                    && action
                        .chars()
                        .take(beginning.chars().count())
                        .eq(beginning.chars())
        })
    }

    fn room(&self) -> Units {
        (self.limit - self.owed() - self.held_in(None)).max(0)
    }

    // ---- the verbs --------------------------------------------------------------------------

    /// Lives through every moment up to now at which something starts or ends.
    pub fn pass_to(&mut self, now: i64) -> Vec<PendingEntry> {
        let starts = self.grants.iter().map(|grant| grant.terms.effective_at.0);
        let ends = self
            .grants
            .iter()
            .filter_map(|grant| grant.terms.expires_at)
            .map(|at| at.0);
        let hold_ends = self
            .authorizations
            .iter()
            .map(|authorization| authorization.ends);
        let mut moments: BTreeSet<i64> = starts.chain(ends).chain(hold_ends).collect();
        for (subscription, _) in &self.subscriptions {
            let mut at = subscription.next;
            while at <= now + subscription.length {
                moments.insert(at);
                at += subscription.length;
            }
            moments.extend(subscription.waits_until);
            moments.extend(subscription.ends_at);
        }
        let mut due = vec![];
        for at in moments
            .into_iter()
            .filter(|at| self.now < *at && *at <= now)
            .collect::<Vec<_>>()
        {
            self.now = at;
            if self
                .grants
                .iter()
                .any(|grant| grant.terms.effective_at.0 == at)
            {
                due.extend(self.settle());
            }
            for s in 0..self.subscriptions.len() {
                if self.subscriptions[s].0.renews_at() == Some(at) {
                    due.extend(self.begin(s));
                }
                self.wait(s);
            }
            due.extend(self.sweep());
            for s in 0..self.subscriptions.len() {
                due.extend(self.end_wait(s));
            }
            for a in 0..self.authorizations.len() {
                if self.authorizations[a].open && self.authorizations[a].ends == at {
                    self.authorizations[a].open = false;
                    due.extend(self.settle());
                    due.extend(self.sweep());
                }
            }
        }
        self.now = now;
        due
    }

    pub fn issue(&mut self, terms: Grant, issued: Units, paid: Units) -> Vec<PendingEntry> {
        let grant = self.grants.len();
        self.grants.push(ModelGrant {
            terms,
            issued,
            paid,
            revoked: false,
            owing: false,
            remaining: issued,
            deferred: paid,
            waiting: 0,
            moved: 0,
        });
        let whole = ModelPart {
            grant: Some(grant),
            credits: issued,
            revenue: paid,
        };
        self.book(MovementKind::Grant, vec![whole], None, None);
        self.settle()
    }

    pub fn subscribe(&mut self, new: Subscription) -> Vec<PendingEntry> {
        self.subscriptions.push((new, vec![]));
        self.catch_up(self.subscriptions.len() - 1)
    }

    pub fn pay(&mut self, subscription: usize, paid_through: Option<i64>) -> Vec<PendingEntry> {
        self.subscriptions[subscription].0.paid_through = paid_through;
        self.catch_up(subscription)
    }

    pub fn end(&mut self, subscription: usize, ends_at: Option<i64>) -> Vec<PendingEntry> {
        self.subscriptions[subscription].0.ends_at = ends_at;
        self.catch_up(subscription)
    }

    /// All that is left is gone now, and what comes back later at once; nothing begins any more.
    pub fn close(&mut self) -> Vec<PendingEntry> {
        self.closed = true;
        self.limit = 0;
        for (subscription, _) in &mut self.subscriptions {
            subscription.ends_at = Some(subscription.next);
        }
        self.end_of_verb()
    }

    /// Begins all periods that a payment has let begin, each as if it were its time, but now.
    fn catch_up(&mut self, subscription: usize) -> Vec<PendingEntry> {
        let now = self.now;
        let mut due = vec![];
        while let Some(at) = self.subscriptions[subscription].0.renews_at() {
            if at > now {
                break;
            }
            self.now = at;
            due.extend(self.begin(subscription));
            due.extend(self.sweep());
        }
        let (known, _) = &self.subscriptions[subscription];
        let (next, length) = (known.next, known.length);
        for at in [next, next + length, now]
            .into_iter()
            .filter(|at| *at <= now)
        {
            self.now = at;
            self.wait(subscription);
            due.extend(self.sweep());
            due.extend(self.end_wait(subscription));
        }
        self.now = now;
        due.extend(self.sweep());
        for due in &mut due {
            due.at = Moment(now);
        }
        due
    }

    /// "Behind a gate what may roll over waits for the payment of the next period, unspendable and not
    /// expired."
    fn wait(&mut self, subscription: usize) {
        let (known, grants) = self.subscriptions[subscription].clone();
        let unpaid = known.paid_through.is_some_and(|paid| known.next >= paid);
        let wanted = known.ends_at.is_none_or(|end| known.next < end);
        let waits = known.waits_until.is_some();
        if !unpaid || !wanted || waits || grants.is_empty() || self.now < known.next {
            return;
        }
        let mut left = self.rolls_over(&known, &grants);
        for g in self.burn_order() {
            if self.may_move(&known, &grants, g) {
                self.grants[g].waiting = left.min(self.unheld(g));
                left -= self.grants[g].waiting;
            }
        }
        self.subscriptions[subscription].0.waits_until = Some(known.next + known.length);
    }

    /// "At most `rollover_periods` times."
    fn may_move(&self, subscription: &Subscription, grants: &[usize], g: usize) -> bool {
        let often =
            (subscription.rollover().times).is_none_or(|times| self.grants[g].moved < times);
        grants.contains(&g) && !self.grants[g].revoked && often
    }

    /// "`rollover_percent` of what is unspent moves, rounded down", and up to the cap over all of it.
    fn rolls_over(&self, subscription: &Subscription, grants: &[usize]) -> Units {
        let movable = |g: &&usize| self.may_move(subscription, grants, **g);
        let sum = |units: &dyn Fn(usize) -> Units| -> Units {
            grants.iter().filter(movable).map(|g| units(*g)).sum()
        };
        let waiting = sum(&|g| self.grants[g].waiting);
        let most = subscription
            .rollover()
            .most
            .map_or(Units::MAX, Amount::units);
        if waiting > 0 {
            return waiting.min(most);
        }
        let (percent, step) = match subscription.begun.checked_sub(1) {
            None => (0, 1),
            Some(n) => (subscription.terms(n).percent, subscription.terms(n).step),
        };
        most.min(sum(&|g| self.unheld(g)) * percent / 100 / step * step)
    }

    /// "It is breakage when a whole period has passed unpaid or the subscription has ended."
    fn end_wait(&mut self, subscription: usize) -> Vec<PendingEntry> {
        let (known, grants) = self.subscriptions[subscription].clone();
        let passed = |at: Option<i64>| at.is_some_and(|at| at <= self.now);
        let ended = passed(known.ends_at) && known.waits_until.is_some();
        let unwanted = known.ends_at.is_some_and(|end| end <= known.next);
        if !passed(known.waits_until) && !ended || unwanted || grants.is_empty() {
            return vec![];
        }
        for g in grants {
            self.grants[g].waiting = 0;
        }
        self.subscriptions[subscription].1 = vec![];
        self.sweep()
    }

    /// Begins a period: unspent credits of the last one come over, up to the cap, then it grants its
    /// own; each new grant pays debts.
    fn begin(&mut self, subscription: usize) -> Vec<PendingEntry> {
        let (mut renewed, old) = self.subscriptions[subscription].clone();
        let mut due = vec![];
        let mut new: Vec<usize> = vec![];
        let times = renewed.rollover().times;
        let mut left = self.rolls_over(&renewed, &old);
        for g in self.burn_order() {
            if !self.may_move(&renewed, &old, g) {
                continue;
            }
            let moved = self.grants[g].moved + 1;
            let waiting = std::mem::take(&mut self.grants[g].waiting);
            let credits = match waiting {
                0 => self.unheld(g).min(left),
                waiting => waiting.min(left),
            };
            if credits == 0 {
                continue;
            }
            let alike = |n: &&usize| {
                let (old, new) = (&self.grants[g].terms, &self.grants[**n].terms);
                let alike = old.priority == new.priority && old.applies_to == new.applies_to;
                alike && (times.is_none() || self.grants[**n].moved == moved)
            };
            let to = match new.iter().find(alike) {
                Some(to) => *to,
                None => {
                    let terms = Grant {
                        id: grant_id(renewed.id, Moment(renewed.next), new.len()),
                        effective_at: Moment(renewed.next),
                        expires_at: Some(Moment(renewed.next + renewed.length)),
                        ..self.grants[g].terms.clone()
                    };
                    self.grants.push(ModelGrant {
                        terms,
                        issued: 0,
                        paid: 0,
                        revoked: false,
                        owing: false,
                        remaining: 0,
                        deferred: 0,
                        waiting: 0,
                        moved: 0,
                    });
                    new.push(self.grants.len() - 1);
                    self.grants.len() - 1
                }
            };
            self.grants[to].moved = self.grants[to].moved.max(moved);
            // "Credits and paid below 1e15 each."
            let most = 1_000_000_000_000_000 * 10_000_000_000;
            let sum = |units: fn(&ModelGrant) -> Units| units(&self.grants[to]);
            if sum(|to| to.remaining) + credits >= most
                || sum(|to| to.deferred) + self.grants[g].deferred >= most
            {
                continue;
            }
            let part = self.take(g, credits);
            left -= credits;
            let into = &mut self.grants[to];
            into.issued += credits;
            into.remaining += credits;
            into.paid += part.revenue;
            into.deferred += part.revenue;
            let to = into.terms.id;
            self.book(MovementKind::Rollover, vec![part], None, None);
            due.push(self.due(|part| EntryKind::Moved { part, to }, part));
        }
        if let Some(terms) = renewed.grant() {
            let (issued, paid) = (terms.remaining.units(), terms.deferred.units());
            self.grants.push(ModelGrant {
                terms,
                issued,
                paid,
                revoked: false,
                owing: false,
                remaining: issued,
                deferred: paid,
                waiting: 0,
                moved: 0,
            });
            let whole = ModelPart {
                grant: Some(self.grants.len() - 1),
                credits: issued,
                revenue: paid,
            };
            new.push(self.grants.len() - 1);
            self.book(MovementKind::Grant, vec![whole], None, None);
            let plan = "pro".to_owned();
            due.push(self.due(
                |part| EntryKind::Renewed {
                    part,
                    plan: plan.clone(),
                },
                whole,
            ));
        }
        due.extend(self.settle());
        renewed.next += renewed.length;
        renewed.begun += 1;
        renewed.waits_until = None;
        self.subscriptions[subscription] = (renewed, new);
        due
    }

    pub fn spend(&mut self, action: &str, credits: Units) -> Result<Vec<Part>, Shortfall> {
        self.afford(action, credits)?;
        let wanted = self.free_in_burn_order(action, credits);
        let owed = credits - sum(wanted.iter().map(|(_, credits)| *credits));
        Ok(self.debit(action, wanted, owed, None))
    }

    pub fn hold(&mut self, action: &str, credits: Units, ends: i64) -> Result<Vec<Pin>, Shortfall> {
        self.afford(action, credits)?;
        let mut pins: Vec<(Option<usize>, Units)> = vec![];
        for (grant, credits) in self.free_in_burn_order(action, credits) {
            pins.push((Some(grant), credits));
        }
        let rest = credits - sum(pins.iter().map(|(_, credits)| *credits));
        if rest > 0 {
            pins.push((None, rest));
        }
        self.authorizations.push(ModelAuthorization {
            action: action.to_owned(),
            ends,
            open: true,
            capturable: true,
            pins,
            captured: 0,
        });
        Ok(self.pins(self.authorizations.len() - 1))
    }

    /// First decides who gives how much, then lets each give it in one go.
    pub fn capture(
        &mut self,
        authorization: usize,
        credits: Units,
        overrun: Overrun,
        keep_open: bool,
    ) -> Result<(Vec<Part>, Vec<PendingEntry>), Shortfall> {
        let action = self.authorizations[authorization].action.clone();
        let pins = match self.authorizations[authorization].open {
            true => self.authorizations[authorization].pins.clone(),
            false => vec![],
        };
        // 1. What it pins in grants.
        let mut left = credits;
        let mut wanted: Vec<(usize, Units)> = vec![];
        let mut pins_left = vec![];
        let mut pinned_overdraft = 0;
        for (pinned, credits) in pins {
            match pinned {
                None => pinned_overdraft += credits,
                Some(grant) => {
                    let given = left.min(credits);
                    left -= given;
                    pins_left.push((pinned, credits - given));
                    if given > 0 {
                        wanted.push((grant, given));
                    }
                }
            }
        }
        // 2. Free credits.
        let mut free = 0;
        for (grant, credits) in self.free_in_burn_order(&action, left) {
            left -= credits;
            free += credits;
            match wanted.iter_mut().find(|(known, _)| *known == grant) {
                Some((_, known)) => *known += credits,
                None => wanted.push((grant, credits)),
            }
        }
        // 3. The overdraft that it pins. 4. The overdraft that is free.
        let room = self.room();
        let from_pin = left.min(pinned_overdraft);
        let from_room = (left - from_pin).min(room);
        left -= from_pin + from_room;
        // What was paid in place of the overdraft is not pinned any longer.
        let freed = free.min(pinned_overdraft - from_pin);
        pins_left.push((None, pinned_overdraft - from_pin - freed));
        // 5. What nobody pays.
        let mut owed = from_pin + from_room;
        if left > 0 {
            match overrun {
                Overrun::Reject => return Err(shortfall(credits, credits - left)),
                Overrun::Clamp => {}
                Overrun::Overdraft => owed += left,
            }
        }
        pins_left.retain(|(_, credits)| *credits > 0);
        self.authorizations[authorization].pins = pins_left;
        let parts = self.debit(&action, wanted, owed, Some(authorization));
        let charged: Amount = parts.iter().map(|part| part.credits).sum();
        let open = &mut self.authorizations[authorization];
        open.captured += charged.units();
        open.capturable = keep_open;
        open.open = open.open && keep_open;
        let mut due = self.end_of_verb();
        // "spent => 'owe' books the spent part as debt", also what is spent later, of what was held.
        for part in self.debits.last().unwrap().paid.clone() {
            if self.grants[part.grant.unwrap()].owing {
                self.reclaim(part);
                due.extend(self.end_of_verb());
            }
        }
        Ok((parts, due))
    }

    pub fn release(&mut self, authorization: usize) -> Vec<PendingEntry> {
        self.authorizations[authorization].open = false;
        self.authorizations[authorization].capturable = false;
        self.end_of_verb()
    }

    /// Lowers the debt first, then gives back to what paid, the last first; where that was revoked, to
    /// who paid the revocation's debt. Returns how much of its own debt went, and what came back.
    pub fn refund(
        &mut self,
        debit: usize,
        credits: Units,
    ) -> (Amount, Vec<Part>, Vec<PendingEntry>) {
        let forgiven = credits.min(self.debits[debit].owed);
        self.debits[debit].owed -= forgiven;
        // The movement comes first: what follows counts as refunded at once.
        self.book(MovementKind::Refund, vec![], None, Some(debit));
        let own = ModelPart {
            grant: None,
            credits: forgiven,
            revenue: 0,
        };
        self.add_to_refund(own);
        let mut back = vec![];
        for given in self.undo(debit, &mut (credits - forgiven)) {
            back.extend(self.give_back(given));
        }
        (
            Amount::from_units(forgiven),
            self.as_parts(&back),
            self.end_of_verb(),
        )
    }

    /// Up to `credits` of what paid a debit or a debt, "last one first", each with its share.
    fn undo(&mut self, debit: usize, left: &mut Units) -> Vec<ModelPart> {
        let debit = &mut self.debits[debit];
        let mut given = vec![];
        for p in (0..debit.paid.len()).rev() {
            let paid = debit.paid[p];
            let credits = (*left).min(paid.credits - debit.back[p]);
            if credits > 0 {
                let share = |back| rounded_share(paid.revenue, back, paid.credits);
                let revenue = share(debit.back[p] + credits) - share(debit.back[p]);
                debit.back[p] += credits;
                *left -= credits;
                given.push(ModelPart {
                    credits,
                    revenue,
                    ..paid
                });
            }
        }
        given
    }

    /// "A refund of a debit whose grant was revoked with owe lowers that debt, and where it has been
    /// paid, gives the credits back to the grants that paid it, with their money." What came back.
    fn give_back(&mut self, given: ModelPart) -> Vec<ModelPart> {
        let grant = given.grant.unwrap();
        let mut left = given.credits;
        let (mut back, mut others) = (vec![], vec![]);
        let revocations: Vec<usize> = (0..self.debits.len())
            .filter(|n| self.debits[*n].revokes == Some(grant))
            .collect();
        let untouched = revocations.is_empty();
        for n in revocations {
            let credits = left.min(self.debits[n].owed);
            self.debits[n].owed -= credits;
            left -= credits;
            if credits > 0 {
                back.push(ModelPart {
                    grant: None,
                    credits,
                    revenue: 0,
                });
            }
            others.extend(self.undo(n, &mut left));
        }
        if left > 0 {
            // Revenue that a revocation took back is not given back twice.
            let revenue = if untouched {
                given.revenue
            } else {
                let (spent, earned) = self.spent(grant);
                rounded_share(earned, left, spent)
            };
            self.grants[grant].remaining += left;
            self.grants[grant].deferred += revenue;
            back.push(ModelPart {
                grant: Some(grant),
                credits: left,
                revenue,
            });
        }
        for part in &back {
            self.add_to_refund(*part);
        }
        for other in others {
            back.extend(self.give_back(other));
        }
        back
    }

    fn add_to_refund(&mut self, part: ModelPart) {
        self.ledger.last_mut().unwrap().parts.push(part);
    }

    /// Takes the unheld rest, or `credits` of it; without a number also what holds return. `owe`:
    /// what is spent is owed, "first from what is unspent, the rest as debt".
    pub fn revoke(
        &mut self,
        grant: usize,
        credits: Option<Units>,
        owe: bool,
    ) -> (Option<Part>, Option<Part>, Vec<PendingEntry>) {
        let taken = self.unheld(grant).min(credits.unwrap_or(Units::MAX));
        let mut parts = vec![];
        if taken > 0 {
            parts.push(self.take(grant, taken));
            self.book(MovementKind::Revocation, parts.clone(), None, None);
        }
        if credits.is_none() {
            self.grants[grant].revoked = true;
        }
        let (spent, earned) = self.spent(grant);
        let owed = credits.map_or(spent, |credits| credits - taken);
        let mut reclaimed = vec![];
        if owe && owed > 0 {
            reclaimed.push(ModelPart {
                grant: Some(grant),
                credits: owed,
                revenue: rounded_share(earned, owed, spent),
            });
            self.reclaim(reclaimed[0]);
        }
        if owe && credits.is_none() {
            self.grants[grant].owing = true;
        }
        (
            self.as_parts(&parts).pop(),
            self.as_parts(&reclaimed).pop(),
            self.end_of_verb(),
        )
    }

    fn reclaim(&mut self, part: ModelPart) {
        self.book(MovementKind::Reclaimed, vec![part], None, None);
        self.debits.push(ModelDebit {
            action: None,
            paid: vec![],
            owed: part.credits,
            credits: part.credits,
            revokes: part.grant,
            back: vec![],
        });
    }

    /// Gives unheld live credits away; each part with what was agreed about its grant.
    pub fn give(&mut self, credits: Units) -> Result<Vec<(Grant, Part)>, Shortfall> {
        let there = sum((0..self.grants.len())
            .filter(|g| self.live(*g, self.now))
            .map(|g| self.unheld(g)));
        if credits > there {
            return Err(shortfall(credits, there));
        }
        let mut left = credits;
        let (mut given, mut parts) = (vec![], vec![]);
        for g in self.burn_order() {
            let credits = left.min(self.unheld(g));
            if self.live(g, self.now) && credits > 0 {
                left -= credits;
                let part = self.take(g, credits);
                given.push((self.grants[g].terms.clone(), self.as_part(&part)));
                parts.push(part);
            }
        }
        self.book(MovementKind::Transfer, parts, None, None);
        Ok(given)
    }

    // ---- the pieces they share --------------------------------------------------------------

    fn afford(&self, action: &str, credits: Units) -> Result<(), Shortfall> {
        let available = self.available(self.now, Some(action));
        if credits > available {
            Err(shortfall(credits, available))
        } else {
            Ok(())
        }
    }

    /// Which grants would give how much of `credits`, as far as it goes.
    fn free_in_burn_order(&self, action: &str, credits: Units) -> Vec<(usize, Units)> {
        let mut left = credits;
        let mut wanted = vec![];
        for g in self.burn_order() {
            if self.live(g, self.now) && self.pays(g, Some(action)) {
                let given = left.min(self.unheld(g));
                if given > 0 {
                    left -= given;
                    wanted.push((g, given));
                }
            }
        }
        wanted
    }

    fn debit(
        &mut self,
        action: &str,
        wanted: Vec<(usize, Units)>,
        owed: Units,
        authorization: Option<usize>,
    ) -> Vec<Part> {
        let paid: Vec<ModelPart> = wanted
            .iter()
            .map(|(g, credits)| self.take(*g, *credits))
            .collect();
        let mut parts = paid.clone();
        if owed > 0 {
            parts.push(ModelPart {
                grant: None,
                credits: owed,
                revenue: 0,
            });
        }
        self.book(
            MovementKind::Debit,
            parts.clone(),
            authorization,
            Some(self.debits.len()),
        );
        self.debits.push(ModelDebit {
            action: Some(action.to_owned()),
            back: vec![0; paid.len()],
            paid,
            owed,
            credits: sum(parts.iter().map(|part| part.credits)),
            revokes: None,
        });
        self.as_parts(&parts)
    }

    fn pay_debt(&mut self, debt: usize, part: ModelPart) {
        self.debits[debt].paid.push(part);
        self.debits[debt].back.push(0);
    }

    /// What a grant has spent that was neither refunded nor revoked, and what that has earned.
    pub fn spent(&self, grant: usize) -> (Units, Units) {
        use MovementKind::{Debit, Reclaimed, Refund, Settlement};
        let (mut spent, mut earned) = (0, 0);
        for movement in &self.ledger {
            let sign = match movement.kind {
                Debit | Settlement => 1,
                Refund | Reclaimed => -1,
                _ => 0,
            };
            for part in movement.parts.iter().filter(|p| p.grant == Some(grant)) {
                spent += sign * part.credits;
                earned += sign * part.revenue;
            }
        }
        (spent, earned)
    }

    /// "Debt and free credits never stand side by side": the oldest debt first, by the grants that may
    /// pay for its action, in burn order. A debt of no action may be paid by any.
    fn settle(&mut self) -> Vec<PendingEntry> {
        let mut due = vec![];
        for n in 0..self.debits.len() {
            for g in self.burn_order() {
                let action = self.debits[n].action.clone();
                if !self.live(g, self.now) || !self.pays(g, action.as_deref()) {
                    continue;
                }
                let credits = self.debits[n].owed.min(self.unheld(g));
                if credits > 0 {
                    let part = self.take(g, credits);
                    self.debits[n].owed -= credits;
                    self.pay_debt(n, part);
                    self.book(MovementKind::Settlement, vec![part], None, Some(n));
                    due.push(self.due(
                        |part| EntryKind::Settled {
                            debt: Uuid::from_u128(n as u128),
                            action: action.clone(),
                            part,
                        },
                        part,
                    ));
                }
            }
        }
        due
    }

    /// What came back pays debts, and goes where it came back to an ended grant.
    fn end_of_verb(&mut self) -> Vec<PendingEntry> {
        let mut due = self.settle();
        due.extend(self.sweep());
        due
    }

    /// "No wallet owes what its live, unheld credits may pay."
    pub fn owes_what_it_can_pay(&self) -> bool {
        let owing = self.debits.iter().filter(|debit| debit.owed > 0);
        let payers = |debit: &ModelDebit| {
            let action = debit.action.as_deref();
            (0..self.grants.len())
                .any(|g| self.live(g, self.now) && self.pays(g, action) && self.unheld(g) > 0)
        };
        owing.into_iter().any(payers)
    }

    /// What lies unheld in ended or revoked grants is gone.
    fn sweep(&mut self) -> Vec<PendingEntry> {
        let mut due = vec![];
        for g in self.burn_order() {
            let revoked = self.grants[g].revoked;
            if revoked || self.closed {
                self.grants[g].waiting = 0;
            }
            let unheld = self.unheld(g) - self.grants[g].waiting;
            if unheld > 0 && revoked {
                let part = self.take(g, unheld);
                self.book(MovementKind::Revocation, vec![part], None, None);
                due.push(self.due(EntryKind::Revoked, part));
            } else if unheld > 0 && (self.closed || self.ended(g, self.now)) {
                let part = self.take(g, unheld);
                self.book(MovementKind::Expiry, vec![part], None, None);
                due.push(self.due(EntryKind::Expired, part));
            }
        }
        due
    }

    /// "A movement of a credits takes round(deferred x a / remaining) at ten decimals."
    fn take(&mut self, grant: usize, credits: Units) -> ModelPart {
        let from = &mut self.grants[grant];
        let revenue = rounded_share(from.deferred, credits, from.remaining);
        from.remaining -= credits;
        from.deferred -= revenue;
        let unheld = self.unheld(grant);
        let from = &mut self.grants[grant];
        from.waiting = from.waiting.min(unheld);
        ModelPart {
            grant: Some(grant),
            credits,
            revenue,
        }
    }

    fn book(
        &mut self,
        kind: MovementKind,
        parts: Vec<ModelPart>,
        authorization: Option<usize>,
        debit: Option<usize>,
    ) {
        self.ledger.push(Movement {
            kind,
            parts,
            authorization,
            debit,
        });
    }

    fn due(&self, what: impl Fn(Part) -> EntryKind, part: ModelPart) -> PendingEntry {
        PendingEntry {
            at: Moment(self.now),
            what: what(self.as_part(&part)),
        }
    }

    fn name(&self, grant: Option<usize>) -> Option<(Uuid, Kind)> {
        grant.map(|g| (self.grants[g].terms.id, self.grants[g].terms.kind))
    }

    fn as_part(&self, part: &ModelPart) -> Part {
        Part {
            grant: self.name(part.grant),
            credits: Amount::from_units(part.credits),
            revenue: Amount::from_units(part.revenue),
        }
    }

    fn as_parts(&self, parts: &[ModelPart]) -> Vec<Part> {
        parts.iter().map(|part| self.as_part(part)).collect()
    }
}

/// `amount x part / whole`, rounded half up.
fn rounded_share(amount: Units, part: Units, whole: Units) -> Units {
    let exact = BigRational::new(
        BigInt::from(amount) * BigInt::from(part),
        BigInt::from(whole),
    );
    let half = BigRational::new(BigInt::from(1), BigInt::from(2));
    (exact + half).floor().to_integer().to_i128().unwrap()
}

fn shortfall(needed: Units, available: Units) -> Shortfall {
    Shortfall {
        needed: Amount::from_units(needed),
        available: Amount::from_units(available),
    }
}

pub fn sum(units: impl Iterator<Item = Units>) -> Units {
    units.sum()
}
