//! The invariants of the wallet, under any sequence of operations.
//!
//! [`Store`] keeps a real wallet the way the database does: it opens it (advances it to now), applies
//! one verb, sweeps, and writes it down. [`Model`] is the same wallet written as naively as possible,
//! with a ledger that forgets nothing. A random life is lived by both; after each step they must
//! agree on everything that can be seen, and the model's ledger must add up to what the real wallet
//! keeps.

mod examples;
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use proptest::prelude::*;
use proptest::sample::Index;
use uuid::Uuid;

use self::model::{Model, Movement, MovementKind, Units, sum};
use super::plan::{Lapse, PeriodGrant, PlanPeriod, Renewal, Rollover, grant_id};
use super::refund::{self, GrantPayment, RefundPart, RevokedDebt, RevokedGrant};
use super::wallet::{
    Debt, EndedHold, EntryKind, Overrun, Part, PendingEntry, Pin, Shortfall, total,
};
use super::{Amount, Grant, Kind, Moment, Wallet, packed, text};

const SECOND: i64 = 1_000_000;
const CREDIT: Units = 10_000_000_000;
const ACTIONS: [&str; 4] = ["image", "image.upscale", "video.second", "text"];

// ---- the real wallet, and the rows that the database keeps beside it ----------------------------

#[derive(Clone)]
struct Authorization {
    action: String,
    ends: Moment,
    /// Empty once it is closed or has ended.
    pins: Vec<Pin>,
    captured: Amount,
}

/// A debit, or a revocation of spent credits.
#[derive(Clone)]
struct Debit {
    /// Payment by payment, at once or by settlements.
    paid: Vec<GrantPayment>,
    /// How much of a debit's payments refunds gave back.
    back: Amount,
    revocation: Option<Revocation>,
}

#[derive(Clone)]
struct Revocation {
    grant: Uuid,
    owed: Amount,
    returned: Amount,
}

impl Debit {
    fn new() -> Debit {
        Debit {
            paid: Vec::new(),
            back: Amount::ZERO,
            revocation: None,
        }
    }

    fn pay(&mut self, part: &Part) {
        self.paid.extend(GrantPayment::of(part.clone()));
    }
}

/// A subscription as both keep it: its period in seconds; the terms of periods take turns.
#[derive(Clone, Debug)]
struct Subscription {
    id: Uuid,
    next: i64,
    length: i64,
    /// How many periods began.
    begun: usize,
    terms: [PeriodTerms; 2],
    paid_through: Option<i64>,
    ends_at: Option<i64>,
    /// What may roll over waits for a payment, at most so long.
    waits_until: Option<i64>,
}

#[derive(Clone, Debug)]
struct PeriodTerms {
    credits: Units,
    paid: Units,
    rollover: Option<Units>,
    percent: Units,
    times: Option<u32>,
    /// The smallest amount of the asset.
    step: Units,
    priority: i32,
    applies_to: Option<Vec<String>>,
}

impl Subscription {
    fn renews_at(&self) -> Option<i64> {
        let before = |end: Option<i64>| end.is_none_or(|end| self.next < end);
        (before(self.paid_through) && before(self.ends_at)).then_some(self.next)
    }

    /// When what may roll over begins to wait for a payment, or ceases to.
    fn waits_at(&self) -> Option<i64> {
        let wanted = self.ends_at.is_none_or(|end| self.next < end);
        let at = match self.waits_until {
            None => self.next,
            Some(until) => self.ends_at.map_or(until, |end| end.min(until)),
        };
        (self.renews_at().is_none() && wanted).then_some(at)
    }

    /// The asset's decimals.
    fn scale(&self) -> u32 {
        10 - self.terms[0].step.ilog10()
    }

    fn terms(&self, nth: usize) -> &PeriodTerms {
        &self.terms[nth % 2]
    }

    /// How what is unspent comes over into the next period: nothing into the first.
    fn rollover(&self) -> Rollover {
        let amount = Amount::from_units;
        match self.begun.checked_sub(1).map(|n| self.terms(n)) {
            None => Rollover::NOTHING,
            Some(terms) => Rollover {
                most: terms.rollover.map(amount),
                percent: amount(terms.percent * ONE_UNIT),
                times: terms.times,
            },
        }
    }

    /// The grant of the next period.
    fn grant(&self) -> Option<Grant> {
        let terms = self.terms(self.begun);
        (terms.credits > 0).then(|| Grant {
            id: grant_id(self.id, Moment(self.next), 0xfff),
            kind: Kind::Included,
            priority: terms.priority,
            effective_at: Moment(self.next),
            expires_at: Some(Moment(self.next + self.length)),
            applies_to: terms.applies_to.clone(),
            revoked: false,
            remaining: Amount::from_units(terms.credits),
            held: Amount::ZERO,
            waiting: Amount::ZERO,
            deferred: Amount::from_units(terms.paid),
        })
    }
}

#[derive(Clone)]
struct Store {
    wallet: Wallet,
    limit: Amount,
    /// Each with the grants of its period.
    subscriptions: Vec<(Subscription, Vec<PeriodGrant>)>,
    /// The terms of every grant ever issued.
    grants: BTreeMap<Uuid, Grant>,
    authorizations: Vec<Authorization>,
    debits: Vec<Debit>,
    debts: Vec<Debt>,
    /// What each grant has spent that was neither refunded nor revoked, and what that has earned.
    spent: BTreeMap<Uuid, (Amount, Amount)>,
    /// Grants revoked as a whole whose spent credits are owed.
    owing: BTreeSet<Uuid>,
}

impl Store {
    fn new(now: Moment) -> Store {
        Store {
            wallet: Wallet::new(now),
            limit: Amount::ZERO,
            subscriptions: Vec::new(),
            grants: BTreeMap::new(),
            authorizations: Vec::new(),
            debits: Vec::new(),
            debts: Vec::new(),
            spent: BTreeMap::new(),
            owing: BTreeSet::new(),
        }
    }

    /// Works through what has fallen due.
    fn open(&mut self, now: Moment) -> Vec<PendingEntry> {
        let mut ended = Vec::new();
        for (n, authorization) in self.authorizations.iter_mut().enumerate() {
            if authorization.ends <= now && !authorization.pins.is_empty() {
                let pins = std::mem::take(&mut authorization.pins);
                ended.push(EndedHold {
                    id: number(n),
                    at: authorization.ends,
                    pins,
                });
            }
        }
        let due = self.advance(now, &ended);
        self.wallet.changed_at = now;
        self.book(due)
    }

    fn advance(&mut self, now: Moment, ended: &[EndedHold]) -> Vec<PendingEntry> {
        let mut renewing = Vec::new();
        for (subscription, grants) in &mut self.subscriptions {
            let (mut lapse, mut wait_ends) = (None, None);
            let mut periods = Vec::new();
            while let Some(starts) = subscription.renews_at().filter(|at| *at <= now.0) {
                periods.push(PlanPeriod {
                    plan: "pro".to_owned(),
                    first: false,
                    starts: Moment(starts),
                    ends: Moment(starts + subscription.length),
                    grant: subscription.grant(),
                    rollover: subscription.rollover(),
                });
                subscription.next += subscription.length;
                subscription.begun += 1;
                subscription.waits_until = None;
            }
            let is_due = |at: Option<i64>| at.filter(|at| *at <= now.0);
            if !periods.is_empty() || !grants.is_empty() {
                if subscription.waits_until.is_none()
                    && let Some(at) = is_due(subscription.waits_at())
                {
                    subscription.waits_until = Some(at + subscription.length);
                    lapse = Some(Lapse {
                        at: Moment(at),
                        rollover: subscription.rollover(),
                    });
                }
                wait_ends = is_due(subscription.waits_at()).map(Moment);
            }
            renewing.push(Renewal {
                subscription: subscription.id,
                scale: subscription.scale(),
                grants: std::mem::take(grants),
                periods,
                difference: None,
                lapse,
                wait_ends,
                issued: Vec::new(),
            });
        }
        let due = self
            .wallet
            .advance(now, ended, &mut self.debts, &mut renewing);
        for ((_, grants), renewing) in self.subscriptions.iter_mut().zip(renewing) {
            *grants = renewing.grants;
            for issue in renewing.issued {
                self.grants.insert(issue.grant.id, issue.grant);
            }
        }
        let renewals = self.subscriptions.iter().filter_map(|(s, grants)| {
            let waits = s.waits_at().filter(|_| !grants.is_empty());
            s.renews_at().or(waits)
        });
        self.wallet.next_renewal = renewals.min().map(Moment);
        due
    }

    /// A subscription was made or changed.
    fn renew(&mut self) -> Vec<PendingEntry> {
        let due = self.advance(self.wallet.changed_at, &[]);
        self.book(due)
    }

    /// The last step of every verb.
    fn close(&mut self) -> Vec<PendingEntry> {
        let now = self.wallet.changed_at;
        let mut due = self.wallet.settle(now, &mut self.debts);
        due.extend(self.wallet.sweep(now));
        let holds = self.authorizations.iter().filter(|a| !a.pins.is_empty());
        self.wallet.next_hold_end = holds.map(|a| a.ends).min();
        self.wallet.seq += 1;
        self.book(due)
    }

    /// A settlement pays for the debit that owed.
    fn book(&mut self, due: Vec<PendingEntry>) -> Vec<PendingEntry> {
        for due in &due {
            if let EntryKind::Settled { debt, part, .. } = &due.what {
                self.debits[debt.as_u128() as usize].pay(part);
                self.count_spent(part, false);
            }
        }
        due
    }

    fn issue(&mut self, grant: Grant) -> Vec<PendingEntry> {
        self.grants.insert(grant.id, grant.clone());
        self.wallet.issue(grant).unwrap();
        let due = self.wallet.settle(self.wallet.changed_at, &mut self.debts);
        self.book(due)
    }

    fn debit(&mut self, action: &str, parts: &[Part]) {
        for part in parts.iter().filter(|part| part.grant.is_none()) {
            let (id, action) = (number(self.debits.len()), Some(action.to_owned()));
            self.debts.push(Debt {
                id,
                action,
                owed: part.credits,
            });
        }
        let mut debit = Debit::new();
        for part in parts {
            debit.pay(part);
            self.count_spent(part, false);
        }
        self.debits.push(debit);
    }

    fn count_spent(&mut self, part: &Part, back: bool) {
        let Some((id, _)) = part.grant else { return };
        let (spent, earned) = self.spent.entry(id).or_default();
        if back {
            *spent -= part.credits;
            *earned -= part.revenue;
        } else {
            *spent += part.credits;
            *earned += part.revenue;
        }
    }

    fn spend(&mut self, action: &str, credits: Amount) -> Result<Vec<Part>, Shortfall> {
        let parts = self
            .wallet
            .spend(self.wallet.changed_at, action, credits, self.limit)?;
        self.debit(action, &parts);
        Ok(parts)
    }

    fn hold(&mut self, action: &str, credits: Amount, ends: Moment) -> Result<Vec<Pin>, Shortfall> {
        let pins = self
            .wallet
            .hold(self.wallet.changed_at, action, credits, self.limit)?;
        let (action, captured) = (action.to_owned(), Amount::ZERO);
        self.authorizations.push(Authorization {
            action,
            ends,
            pins: pins.clone(),
            captured,
        });
        Ok(pins)
    }

    fn capture(
        &mut self,
        authorization: usize,
        credits: Amount,
        overrun: Overrun,
        keep_open: bool,
    ) -> Result<(Vec<Part>, Vec<PendingEntry>), Shortfall> {
        let Authorization {
            action,
            pins,
            captured,
            ..
        } = &mut self.authorizations[authorization];
        let (before, pins_before) = (self.wallet.clone(), pins.clone());
        let now = self.wallet.changed_at;
        let answer = self
            .wallet
            .capture(now, action, credits, self.limit, overrun, pins);
        if answer.is_err() {
            assert_eq!(
                (&self.wallet, &*pins),
                (&before, &pins_before),
                "refused, but changed"
            );
        }
        let parts = answer?;
        *captured += total(&parts);
        if !keep_open {
            self.wallet.unhold(&std::mem::take(pins));
        }
        let action = action.clone();
        self.debit(&action, &parts);
        let mut due = self.close();
        // What was revoked with `owe` while it was held is owed once it is spent.
        let is_owing = |part: &&Part| part.grant.is_some_and(|(id, _)| self.owing.contains(&id));
        let owing: Vec<Part> = parts.iter().filter(is_owing).cloned().collect();
        for part in &owing {
            self.reclaim(part);
            due.extend(self.close());
        }
        Ok((parts, due))
    }

    fn release(&mut self, authorization: usize) -> Vec<PendingEntry> {
        self.wallet.unhold(&std::mem::take(
            &mut self.authorizations[authorization].pins,
        ));
        self.close()
    }

    /// Lowers the debt first, then gives back to what paid, the last first, or what was revoked to who
    /// paid that. Returns how much of its own debt went, and all else that came back.
    fn refund(&mut self, debit: usize, credits: Amount) -> (Amount, Vec<Part>, Vec<PendingEntry>) {
        let mut forgiven = Amount::ZERO;
        for debt in self
            .debts
            .iter_mut()
            .filter(|debt| debt.id == number(debit))
        {
            forgiven = debt.owed.min(credits);
            debt.owed -= forgiven;
            self.wallet.owed -= forgiven;
        }
        let mut paid = self.debits[debit].paid.clone();
        refund::mark_back(&mut paid, self.debits[debit].back);
        self.debits[debit].back += credits - forgiven;
        let revoked = |grant| Ok::<_, Infallible>(self.revoked(grant));
        let Ok(backs) = refund::give_back(&mut paid, credits - forgiven, revoked);
        for RefundPart { part, debts } in &backs {
            for debt in debts {
                let revocation = &mut self.debits[debt.as_u128() as usize].revocation;
                revocation.as_mut().unwrap().returned += part.credits;
            }
            self.count_spent(part, true);
            let Some((id, _)) = part.grant else {
                for debt in (self.debts.iter_mut()).filter(|d| Some(&d.id) == debts.last()) {
                    debt.owed -= part.credits;
                }
                self.wallet.owed -= part.credits;
                continue;
            };
            if !self.wallet.restore(id, part.credits, part.revenue) {
                let terms = self.grants[&id].clone();
                let again = Grant {
                    remaining: part.credits,
                    deferred: part.revenue,
                    ..terms
                };
                self.wallet.issue(again).unwrap();
            }
        }
        self.debts.retain(|debt| debt.owed.is_positive());
        let back = backs.into_iter().map(|back| back.part).collect();
        (forgiven, back, self.close())
    }

    /// What was revoked of a grant after it was spent, read back from what is kept.
    fn revoked(&self, grant: Uuid) -> RevokedGrant {
        let mut revoked = RevokedGrant::default();
        for (n, debit) in self.debits.iter().enumerate() {
            if let Some(revocation) = debit.revocation.as_ref().filter(|r| r.grant == grant) {
                let left = self.debts.iter().find(|debt| debt.id == number(n));
                revoked.debts.push(RevokedDebt::new(
                    number(n),
                    revocation.owed,
                    left.map_or(Amount::ZERO, |debt| debt.owed),
                    revocation.returned,
                    debit.paid.clone(),
                ));
            }
        }
        revoked.reclaimed = !revoked.debts.is_empty();
        (revoked.spent, revoked.earned) = self.spent.get(&grant).copied().unwrap_or_default();
        revoked
    }

    /// Takes the unheld rest, or `credits` of it; without a number also what holds return. `owe`:
    /// what is spent is owed, or so much of it as the unheld rest lacks.
    fn revoke(
        &mut self,
        id: Uuid,
        credits: Option<Amount>,
        owe: bool,
    ) -> (Option<Part>, Option<Part>, Vec<PendingEntry>) {
        let taken = self.wallet.remove(id, credits.unwrap_or(Amount::MAX_ISSUE));
        let taken = taken.filter(|part| part.credits.is_positive());
        if credits.is_none() {
            self.wallet.mark_revoked(id);
            self.grants.get_mut(&id).unwrap().revoked = true;
        }
        let mut reclaimed = None;
        let (spent, earned) = self.spent.get(&id).copied().unwrap_or_default();
        let taken_credits = taken.as_ref().map_or(Amount::ZERO, |part| part.credits);
        let owed = credits.map_or(spent, |credits| credits - taken_credits);
        if owe && owed.is_positive() {
            let part = Part {
                grant: Some((id, self.grants[&id].kind)),
                credits: owed,
                revenue: earned.share(owed, spent),
            };
            self.reclaim(&part);
            reclaimed = Some(part);
        }
        if owe && credits.is_none() {
            self.owing.insert(id);
        }
        (taken, reclaimed, self.close())
    }

    /// Spent credits of a grant are owed.
    fn reclaim(&mut self, part: &Part) {
        let Some((grant, _)) = part.grant else { return };
        self.count_spent(part, true);
        self.wallet.owed += part.credits;
        self.debts.push(Debt {
            id: number(self.debits.len()),
            action: None,
            owed: part.credits,
        });
        self.debits.push(Debit {
            revocation: Some(Revocation {
                grant,
                owed: part.credits,
                returned: Amount::ZERO,
            }),
            ..Debit::new()
        });
    }
}

/// A transfer: what one wallet gives, the other gets as new grants, which pay debts first.
fn transfer(from: &mut (Store, Model), to: &mut (Store, Model), credits: Units) {
    let now = from.0.wallet.changed_at;
    let given = from.0.wallet.give(now, Amount::from_units(credits));
    let expected = from.1.give(credits);
    let (Ok(given), Ok(expected)) = (&given, &expected) else {
        assert_eq!(given.err(), expected.err());
        return;
    };
    assert_eq!(given.len(), expected.len());
    let mut moved = 0;
    for ((origin, part), (terms, part_expected)) in given.iter().zip(expected) {
        assert_eq!(part, part_expected);
        assert_eq!(part.grant, Some((origin.id, origin.kind)));
        let id = Uuid::from_u64_pair(u64::MAX, to.1.grants.len() as u64);
        let arriving = origin.moved(id, now, part.credits, part.revenue);
        // The same terms, whatever the wallet that gave has made of its own grant.
        let expected = Grant {
            id,
            effective_at: now,
            remaining: part.credits,
            deferred: part.revenue,
            held: Amount::ZERO,
            revoked: false,
            ..terms.clone()
        };
        assert_eq!(arriving, expected);
        let (units, money) = (part.credits.units(), part.revenue.units());
        assert_eq!(to.0.issue(arriving), to.1.issue(expected, units, money));
        moved += units;
    }
    assert_eq!(moved, credits);
}

/// The id of the nth debit or authorization.
fn number(n: usize) -> Uuid {
    Uuid::from_u128(n as u128)
}

// ---- what can happen ----------------------------------------------------------------------------

/// An amount that is told without knowing the wallet or the decimals of its asset.
#[derive(Clone, Copy, Debug)]
enum Size {
    /// So many of the smallest steps.
    Steps(u16),
    /// So many whole credits.
    Credits(u16),
    /// So many steps below 1e15, the most there may be.
    AlmostTooMuch(u16),
    /// So many sixteenths of what is there.
    Sixteenths(u8),
    /// All that is there and a number of steps more.
    Beyond(u16),
}

impl Size {
    /// The amount, where so much is there: a multiple of `step`.
    fn of(self, there: Units, step: Units) -> Units {
        let most = Amount::MAX_ISSUE.units() - step;
        let units = match self {
            Size::Steps(n) => step * Units::from(n),
            Size::Credits(n) => CREDIT * Units::from(n),
            Size::AlmostTooMuch(n) => most - step * Units::from(n),
            Size::Sixteenths(n) => there / 16 * Units::from(n) + there % 16 * Units::from(n) / 16,
            Size::Beyond(n) => there + step * Units::from(n),
        };
        units.clamp(0, most) / step * step
    }
}

#[derive(Clone, Debug)]
struct Issue {
    id: u64,
    kind: Kind,
    priority: i32,
    starts_in: i64,
    lasts: Option<i64>,
    applies_to: Option<Vec<&'static str>>,
    credits: Size,
    paid: Size,
}

#[derive(Clone, Debug)]
enum Step {
    Limit(Size),
    Issue(Issue),
    Spend(&'static str, Size),
    Hold(&'static str, Size, i64),
    Capture(Index, Size, Overrun, bool),
    Release(Index),
    Refund(Index, Size),
    /// Spent credits are owed, too.
    Revoke(Index, Option<Size>, bool),
    Subscribe(Plan),
    /// For a number of periods more.
    Pay(Index, i64),
    /// After a number of seconds.
    Unsubscribe(Index, i64),
    Close,
}

#[derive(Clone, Debug)]
struct Plan {
    id: u64,
    starts_in: i64,
    length: i64,
    paid_periods: Option<i64>,
    terms: [PlanTerms; 2],
}

/// Credits, paid, rollover, priority and applies_to.
type PlanTerms = (Size, Size, Rolls, i32, Option<Vec<&'static str>>);

/// The most credits, the percentage, and how often.
type Rolls = (Option<Size>, Units, Option<u32>);

const ONE_UNIT: Units = 10_000_000_000;

/// An asset's decimals, when the wallet is opened, and what happens then: after a number of seconds the
/// next step.
#[derive(Clone, Debug)]
struct Life {
    scale: u32,
    opened_at: i64,
    steps: Vec<(i64, Step)>,
}

fn sizes() -> impl Strategy<Value = Size> {
    prop_oneof![
        3 => (0..10_u16).prop_map(Size::Steps),
        6 => (0..200_u16).prop_map(Size::Credits),
        1 => (0..3_u16).prop_map(Size::AlmostTooMuch),
    ]
}

/// Sizes around what is there.
fn asked() -> impl Strategy<Value = Size> {
    prop_oneof![
        4 => (0..=16_u8).prop_map(Size::Sixteenths),
        2 => (0..3_u16).prop_map(Size::Beyond),
        3 => sizes(),
    ]
}

fn issues() -> impl Strategy<Value = Step> {
    let kinds = [Kind::Included, Kind::Promotional, Kind::Purchased];
    let patterns = [
        vec!["image.*"],
        vec!["image*"],
        vec!["*"],
        vec!["text", "video.*"],
        vec!["image"],
    ];
    (
        any::<u64>(),
        prop::sample::select(kinds.to_vec()),
        prop_oneof![4 => Just(100), 2 => 99..102, 1 => any::<i32>()],
        prop_oneof![3 => Just(0), 1 => -9..0_i64, 1 => 1..9_i64],
        prop::option::of(prop_oneof![4 => 1..12_i64, 1 => 12..200_i64]),
        prop_oneof![2 => Just(None), 1 => prop::sample::select(patterns.to_vec()).prop_map(Some)],
        sizes(),
        sizes(),
    )
        .prop_map(
            |(id, kind, priority, starts_in, lasts, applies_to, credits, paid)| {
                Step::Issue(Issue {
                    id,
                    kind,
                    priority,
                    starts_in,
                    lasts,
                    applies_to,
                    credits,
                    paid,
                })
            },
        )
}

fn plans() -> impl Strategy<Value = Step> {
    let patterns = prop_oneof![3 => Just(None), 1 => Just(Some(vec!["image*"]))];
    let terms = prop::array::uniform2((
        prop_oneof![1 => Just(Size::Steps(0)), 6 => sizes()],
        sizes(),
        (
            prop_oneof![2 => Just(None), 1 => Just(Some(Size::Steps(0))), 2 => sizes().prop_map(Some)],
            prop_oneof![3 => Just(100), 2 => 0..100_i128],
            prop::option::of(0..4_u32),
        ),
        prop_oneof![4 => Just(100), 1 => 99..102],
        patterns,
    ));
    (
        any::<u64>(),
        prop_oneof![3 => Just(0), 1 => -9..9_i64],
        1..9_i64,
        prop::option::of(0..4_i64),
        terms,
    )
        .prop_map(|(id, starts_in, length, paid_periods, terms)| {
            Step::Subscribe(Plan {
                id,
                starts_in,
                length,
                paid_periods,
                terms,
            })
        })
}

fn steps() -> impl Strategy<Value = Step> {
    let actions = || prop::sample::select(&ACTIONS[..]);
    let overruns = prop::sample::select(&[Overrun::Reject, Overrun::Clamp, Overrun::Overdraft][..]);
    let which = any::<Index>;
    let lively = prop_oneof![
        1 => sizes().prop_map(Step::Limit),
        6 => issues(),
        5 => (actions(), asked()).prop_map(|(action, size)| Step::Spend(action, size)),
        5 => (actions(), asked(), 1..12_i64).prop_map(|(a, size, ttl)| Step::Hold(a, size, ttl)),
        5 => (which(), asked(), overruns, any::<bool>())
            .prop_map(|(n, size, overrun, keep)| Step::Capture(n, size, overrun, keep)),
        1 => which().prop_map(Step::Release),
        4 => (which(), asked()).prop_map(|(n, size)| Step::Refund(n, size)),
        2 => (which(), prop::option::of(asked()), any::<bool>())
            .prop_map(|(n, size, owe)| Step::Revoke(n, size, owe)),
        2 => plans(),
        2 => (which(), 1..5_i64).prop_map(|(n, periods)| Step::Pay(n, periods)),
        1 => (which(), 0..9_i64).prop_map(|(n, seconds)| Step::Unsubscribe(n, seconds)),
    ];
    // Little happens after it.
    prop_oneof![99 => lively, 1 => Just(Step::Close)]
}

fn lives() -> impl Strategy<Value = Life> {
    let waits = prop_oneof![4 => Just(0), 5 => 1..4_i64, 1 => 4..30_i64];
    // Today, the first moment of Postgres' clock, and the years -3000 and 9998.
    let openings = [837_000_000, 0, -157_766_400_000, 252_423_993_600];
    (
        prop::sample::select(&[0, 2, 10][..]),
        prop::sample::select(openings.to_vec()),
        prop::collection::vec((waits, steps()), 1..50),
    )
        .prop_map(|(scale, opened_at, steps)| Life {
            scale,
            opened_at: opened_at * SECOND,
            steps,
        })
}

// ---- living it, twice ---------------------------------------------------------------------------

fn live(life: &Life) -> (Store, Model) {
    let mut store = Store::new(Moment(life.opened_at));
    let mut model = Model::new(life.opened_at);
    let step = 10_i128.pow(10 - life.scale);
    let mut now = life.opened_at;
    for (wait, what) in &life.steps {
        now += wait * SECOND;
        // When it is opened, some entries are pending already.
        compare_reads(&store, &model, now);
        assert_eq!(
            store.open(Moment(now)),
            model.pass_to(now),
            "pending entries"
        );
        happen(&mut store, &mut model, what, step);
        store.close();
        compare_reads(&store, &model, now);
        compare_state(&store, &model);
        check_invariants(&store, &model);
        check_next_due(&store);
        check_forms(&store.wallet);
    }
    (store, model)
}

/// Two wallets that live side by side; now and then one gives the other something.
fn live_together(life: &Life, gifts: &[(usize, bool, Size)]) {
    let born = || {
        (
            Store::new(Moment(life.opened_at)),
            Model::new(life.opened_at),
        )
    };
    let mut pair = [born(), born()];
    let step = 10_i128.pow(10 - life.scale);
    let mut now = life.opened_at;
    for (n, (wait, what)) in life.steps.iter().enumerate() {
        now += wait * SECOND;
        for (store, model) in &mut pair {
            assert_eq!(store.open(Moment(now)), model.pass_to(now));
        }
        let (store, model) = &mut pair[n % 2];
        happen(store, model, what, step);
        for (_, back, size) in gifts.iter().filter(|(at, _, _)| *at == n) {
            let [one, other] = &mut pair;
            let (from, to) = if *back { (other, one) } else { (one, other) };
            let credits = size.of(from.1.available(now, None), step);
            if !to.0.wallet.closed {
                transfer(from, to, credits);
            }
        }
        for (store, model) in &mut pair {
            store.close();
            compare_reads(store, model, now);
            compare_state(store, model);
            check_invariants(store, model);
            check_next_due(store);
            check_forms(&store.wallet);
        }
    }
}

/// Lets the step happen to both, and compares their answers.
fn happen(store: &mut Store, model: &mut Model, what: &Step, step: Units) {
    let amount = Amount::from_units;
    // A closed wallet is given nothing more, and its subscriptions have ended.
    let refused = matches!(
        what,
        Step::Limit(_)
            | Step::Issue(_)
            | Step::Subscribe(_)
            | Step::Pay(..)
            | Step::Unsubscribe(..)
    );
    if store.wallet.closed && refused {
        return;
    }
    match what {
        Step::Limit(size) => {
            model.limit = size.of(0, step);
            store.limit = amount(model.limit);
        }
        Step::Issue(issue) => {
            let credits = issue.credits.of(0, step).max(step);
            // Money has ten decimals, whatever the asset.
            let paid = issue.paid.of(0, 1);
            let effective_at = model.now + issue.starts_in * SECOND;
            let grant = Grant {
                id: Uuid::from_u64_pair(issue.id, model.grants.len() as u64),
                kind: issue.kind,
                priority: issue.priority,
                effective_at: Moment(effective_at),
                expires_at: (issue.lasts)
                    .map(|seconds| Moment(effective_at.max(model.now) + seconds * SECOND)),
                applies_to: (issue.applies_to.as_ref())
                    .map(|patterns| patterns.iter().map(|p| p.to_string()).collect()),
                revoked: false,
                remaining: amount(credits),
                held: Amount::ZERO,
                waiting: Amount::ZERO,
                deferred: amount(paid),
            };
            assert_eq!(
                store.issue(grant.clone()),
                model.issue(grant, credits, paid)
            );
        }
        Step::Spend(action, size) => {
            let credits = size.of(model.available(model.now, Some(action)), step);
            assert_eq!(
                store.spend(action, amount(credits)),
                model.spend(action, credits)
            );
        }
        Step::Hold(action, size, seconds) => {
            let credits = size.of(model.available(model.now, Some(action)), step);
            let ends = model.now + seconds * SECOND;
            let pins = store.hold(action, amount(credits), Moment(ends));
            assert_eq!(pins, model.hold(action, credits, ends));
        }
        Step::Capture(which, size, overrun, keep_open) => {
            if let Some(n) = choose(which, &capturable(model)) {
                let held = model.authorizations[n]
                    .pins
                    .iter()
                    .map(|(_, credits)| *credits);
                let credits = size.of(sum(held), step);
                let answer = store.capture(n, amount(credits), *overrun, *keep_open);
                assert_eq!(answer, model.capture(n, credits, *overrun, *keep_open));
            }
        }
        Step::Release(which) => {
            if let Some(n) = choose(which, &capturable(model)) {
                assert_eq!(store.release(n), model.release(n));
            }
        }
        Step::Refund(which, size) => {
            let refundable = |n: &usize| model.debits[*n].refundable() > 0;
            let debits: Vec<usize> = (0..model.debits.len()).filter(refundable).collect();
            if let Some(n) = choose(which, &debits) {
                let most = model.debits[n].refundable();
                let credits = size.of(most, step).min(most);
                let (mut answer, mut expected) =
                    (store.refund(n, amount(credits)), model.refund(n, credits));
                // In whatever order the credits came back.
                answer.1.sort_by_key(|part| part.grant.map(|(id, _)| id));
                expected.1.sort_by_key(|part| part.grant.map(|(id, _)| id));
                assert_eq!(answer, expected);
            }
        }
        Step::Revoke(which, size, owe) => {
            let grants: Vec<usize> = (0..model.grants.len()).collect();
            if let Some(g) = choose(which, &grants) {
                let most = model.unheld(g) + if *owe { model.spent(g).0 } else { 0 };
                let credits = size.map(|size| size.of(most, step).min(most));
                let answer = store.revoke(model.grants[g].id(), credits.map(amount), *owe);
                assert_eq!(answer, model.revoke(g, credits, *owe));
            }
        }
        Step::Subscribe(plan) => {
            let nth = model.subscriptions.len() as u64;
            let new = subscription(plan, nth, model.now, step);
            store.subscriptions.push((new.clone(), Vec::new()));
            assert_eq!(store.renew(), model.subscribe(new));
        }
        Step::Pay(which, periods) => {
            let all: Vec<usize> = (0..model.subscriptions.len()).collect();
            if let Some(n) = choose(which, &all) {
                let paid = &mut store.subscriptions[n].0;
                paid.paid_through = Some(paid.next + periods * paid.length);
                let paid_through = paid.paid_through;
                assert_eq!(store.renew(), model.pay(n, paid_through));
            }
        }
        Step::Unsubscribe(which, seconds) => {
            let all: Vec<usize> = (0..model.subscriptions.len()).collect();
            if let Some(n) = choose(which, &all) {
                let ends_at = Some(model.now + seconds * SECOND);
                store.subscriptions[n].0.ends_at = ends_at;
                assert_eq!(store.renew(), model.end(n, ends_at));
            }
        }
        Step::Close => {
            store.limit = Amount::ZERO;
            for (subscription, _) in &mut store.subscriptions {
                subscription.ends_at = Some(subscription.next);
            }
            store.wallet.close();
            assert_eq!(store.close(), model.close());
        }
    }
}

/// The terms of a plan, and when it starts.
fn subscription(plan: &Plan, nth: u64, now: i64, step: Units) -> Subscription {
    let terms = plan.terms.each_ref().map(|terms| {
        let (credits, paid, rollover, priority, applies_to) = terms;
        PeriodTerms {
            credits: credits.of(0, step),
            paid: paid.of(0, 1),
            rollover: rollover.0.map(|size| size.of(0, step)),
            percent: rollover.1,
            times: rollover.2,
            step,
            priority: *priority,
            applies_to: (applies_to.as_ref())
                .map(|patterns| patterns.iter().map(|p| p.to_string()).collect()),
        }
    });
    let (starts, length) = (now + plan.starts_in * SECOND, plan.length * SECOND);
    Subscription {
        id: Uuid::from_u64_pair(plan.id, nth),
        next: starts,
        length,
        begun: 0,
        terms,
        paid_through: plan.paid_periods.map(|periods| starts + periods * length),
        ends_at: None,
        waits_until: None,
    }
}

fn capturable(model: &Model) -> Vec<usize> {
    (0..model.authorizations.len())
        .filter(|n| model.authorizations[*n].capturable)
        .collect()
}

fn choose(which: &Index, from: &[usize]) -> Option<usize> {
    if from.is_empty() {
        None
    } else {
        Some(*which.get(from))
    }
}

/// All that a reader sees at this moment.
fn compare_reads(store: &Store, model: &Model, now: i64) {
    let (wallet, at) = (&store.wallet, Moment(now));
    for action in [None].into_iter().chain(ACTIONS.map(Some)) {
        let available = wallet.available(at, action, store.limit);
        assert_eq!(
            available.units(),
            model.available(now, action),
            "available for {action:?}"
        );
    }
    assert_eq!(wallet.settled(at).units(), model.settled(now), "settled");
    assert_eq!(wallet.held().units(), model.held(), "held");
    assert_eq!(wallet.owed.units(), model.owed(), "owed");
    assert_eq!(
        wallet.next_expiry(at),
        model.next_expiry(now),
        "next expiry"
    );
}

/// All that is kept.
fn compare_state(store: &Store, model: &Model) {
    assert_eq!(store.wallet.grants(), model.open_grants());
    assert_eq!(store.wallet.held_overdraft.units(), model.held_in(None));
    assert_eq!(store.debts, model.debts());
    for (n, authorization) in store.authorizations.iter().enumerate() {
        let pins = if model.authorizations[n].open {
            model.pins(n)
        } else {
            vec![]
        };
        assert_eq!(authorization.pins, pins, "pins of {n}");
        assert_eq!(authorization.action, model.authorizations[n].action);
    }
}

/// The invariants, one by one: the model's ledger against what the real wallet keeps.
fn check_invariants(store: &Store, model: &Model) {
    use MovementKind::{
        Debit, Expiry, Grant, Reclaimed, Refund, Revocation, Rollover, Settlement, Transfer,
    };
    let wallet = &store.wallet;
    assert_eq!(wallet.check(), Ok(()));
    let credits = |m: &Movement| sum(m.parts.iter().map(|part| part.credits));

    // 1. The sum of its ledger = what remains in its grants - what it owes.
    let signed = |m: &Movement| match m.kind {
        Grant | Refund => credits(m),
        Debit | Expiry | Revocation | Reclaimed | Transfer => -credits(m),
        // The debit has counted it; debt and grant shrink together. What rolls over stays.
        Settlement | Rollover => 0,
    };
    let remains = sum(wallet.grants().iter().map(|grant| grant.remaining.units()));
    let ledger = sum(model.ledger.iter().map(signed));
    assert_eq!(ledger, remains - wallet.owed.units(), "law 1");

    // 3. Available and held are never negative.
    let available = wallet.available(wallet.changed_at, None, store.limit);
    assert!(
        !available.is_negative() && !wallet.held().is_negative(),
        "law 3"
    );
    for grant in wallet.grants() {
        assert!(
            !grant.held.is_negative() && grant.held <= grant.remaining,
            "law 3"
        );
    }

    for (g, grant) in model.grants.iter().enumerate() {
        let open = wallet.grant(grant.id());
        let moved = |kinds: &[MovementKind]| {
            let movements = model.ledger.iter().filter(|m| kinds.contains(&m.kind));
            let parts = movements
                .flat_map(|m| &m.parts)
                .filter(|part| part.grant == Some(g));
            parts.fold((0, 0), |sum, part| {
                (sum.0 + part.credits, sum.1 + part.revenue)
            })
        };
        let (spent, earned) = moved(&[Debit, Settlement]);
        let (refunded, returned) = moved(&[Refund]);
        let (expired, breakage) = moved(&[Expiry]);
        let (revoked, revoked_money) = moved(&[Revocation]);
        let (_, reclaimed) = moved(&[Reclaimed]);
        let (transferred, transferred_money) = moved(&[Transfer, Rollover]);

        // 2. Issued = spent - refunded + expired + revoked + transferred + remaining.
        let remaining = open.map_or(0, |grant| grant.remaining.units());
        assert_eq!(
            grant.issued,
            spent - refunded + expired + revoked + transferred + remaining,
            "law 2"
        );

        // 3. What is held in a grant equals the open authorizations pinned to it.
        let pins = store
            .authorizations
            .iter()
            .flat_map(|authorization| &authorization.pins);
        let pinned: Amount = pins
            .filter(|pin| pin.grant.is_some_and(|(id, _)| id == grant.id()))
            .map(|pin| pin.credits)
            .sum();
        assert_eq!(
            open.map_or(Amount::ZERO, |grant| grant.held),
            pinned,
            "law 3"
        );

        // 4. Earned + breakage + revoked + transferred + deferred = paid; an emptied grant defers nothing.
        let deferred = open.map_or(0, |grant| grant.deferred.units());
        let earned = earned - returned - reclaimed;
        let revoked_money = revoked_money + reclaimed;
        assert_eq!(
            grant.paid,
            earned + breakage + revoked_money + transferred_money + deferred,
            "law 4"
        );
    }

    // 7. No wallet owes what its live, unheld credits may pay.
    assert!(!model.owes_what_it_can_pay(), "law 7");

    // 5. Captures add up to what the authorization says; refunds never exceed their debit.
    for (n, authorization) in store.authorizations.iter().enumerate() {
        let captures = model.ledger.iter().filter(|m| m.authorization == Some(n));
        assert_eq!(
            sum(captures.map(credits)),
            authorization.captured.units(),
            "law 5"
        );
        assert_eq!(
            model.authorizations[n].captured,
            authorization.captured.units(),
            "law 5"
        );
    }
    for (n, debit) in model.debits.iter().enumerate() {
        let refunds = model
            .ledger
            .iter()
            .filter(|m| m.kind == Refund && m.debit == Some(n));
        assert!(sum(refunds.map(credits)) <= debit.credits, "law 5");
    }
}

/// Until something is due, time changes nothing; and all that was due is done.
fn check_next_due(store: &Store) {
    let due = store.wallet.next_due().unwrap_or(Moment(i64::MAX));
    assert!(due > store.wallet.changed_at, "left undone");
    let holds = store.authorizations.iter().filter(|a| !a.pins.is_empty());
    assert!(
        holds.map(|a| a.ends).all(|end| due <= end),
        "a hold ends before it"
    );
    let (mut later, mut debts) = (store.wallet.clone(), store.debts.clone());
    assert_eq!(
        later.advance(Moment(due.0 - 1), &[], &mut debts, &mut []),
        []
    );
    assert_eq!((&later, &debts), (&store.wallet, &store.debts));
}

/// Its bytes and its text say the same wallet.
fn check_forms(wallet: &Wallet) {
    assert_eq!(packed::unpack(&packed::pack(wallet)).as_ref(), Ok(wallet));
    assert_eq!(text::parse(&text::print(wallet)).as_ref(), Ok(wallet));
}

/// Four times as many lives as proptest's default or PROPTEST_CASES say.
fn many() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: default.cases.saturating_mul(4),
        ..default
    }
}

/// Refunds and revocations of whatever there is, in one order and the other: as many credits are left, and
/// as many are owed.
fn either_order(store: &Store, model: &Model, grants: &[Index], size: Size, step: Units) {
    let all: Vec<usize> = (0..model.grants.len()).collect();
    let debits: Vec<usize> = (0..model.debits.len())
        .filter(|n| model.debits[*n].refundable() > 0)
        .collect();
    for (which, debit) in grants.iter().zip(&debits) {
        let Some(g) = choose(which, &all) else { return };
        let grant = model.grants[g].id();
        if store.grants[&grant].revoked {
            continue;
        }
        let most = model.debits[*debit].refundable();
        let refunded = Amount::from_units(size.of(most, step).min(most));
        let there = model.unheld(g) + model.spent(g).0;
        for credits in [None, Some(size.of(there, step).min(there))] {
            let credits = credits.map(Amount::from_units);
            let (mut one, mut other) = (store.clone(), store.clone());
            one.refund(*debit, refunded);
            // What came back to a grant that has ended is not there any more, but not owed either.
            let lost = (store.grants[&grant].expires_at).is_some_and(|end| end.0 <= model.now);
            if lost && credits.is_some() {
                continue;
            }
            one.revoke(grant, credits, true);
            other.revoke(grant, credits, true);
            other.refund(*debit, refunded);
            // Which grant pays may differ: one that gets its credits back first may pay what is owed. Where
            // it may pay for some actions only, so may what is owed in the end, but not what is left of both.
            // A refund may bring credits back to one that was spent up.
            let mut granted = model.grants.iter();
            let scoped = granted.any(|grant| grant.is_scoped());
            let left = |store: &Store| {
                let grants = store.wallet.grants().iter();
                let remaining: Amount = grants.map(|grant| grant.remaining).sum();
                let owed = (!scoped).then_some(store.wallet.owed);
                (remaining - store.wallet.owed, owed)
            };
            assert_eq!(
                left(&one),
                left(&other),
                "{grant} {credits:?} {debit} {refunded}"
            );
        }
    }
}

proptest! {
    #![proptest_config(many())]

    #[test]
    fn any_life_of_a_wallet_keeps_the_invariants(life in lives()) {
        live(&life);
    }

    #[test]
    fn two_wallets_that_give_to_each_other_keep_the_invariants(
        life in lives(), gifts in prop::collection::vec((0..50_usize, any::<bool>(), asked()), 1..20)
    ) {
        live_together(&life, &gifts);
    }

    #[test]
    fn a_refund_and_a_revocation_end_alike_in_either_order(
        life in lives(), grants in prop::collection::vec(any::<Index>(), 1..5), size in asked()
    ) {
        let (store, model) = live(&life);
        if !store.wallet.closed {
            either_order(&store, &model, &grants, size, 10_i128.pow(10 - life.scale));
        }
    }
}
