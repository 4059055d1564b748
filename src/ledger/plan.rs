//! Plans: what each period of a subscription gives, which periods have come due, and what a change of plan
//! brings.

use std::rc::Rc;

use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::period::PeriodLength;
use super::price::{Rounding, proportion};
use super::{Amount, Grant, Kind, Moment, interrupt};

/// What of a period's unspent credits moves to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollover {
    /// The most credits; `None`: all.
    pub most: Option<Amount>,
    /// The percentage of what is unspent, rounded down.
    pub percent: Amount,
    /// The same credits move at most so often; `None`: without end.
    pub times: Option<u32>,
}

/// The decimals that money keeps.
const MONEY_DECIMALS: u32 = super::amount::DECIMALS;

/// All of it.
pub const WHOLE_PERCENT: Amount = Amount::from_units(1_000_000_000_000);

impl Rollover {
    pub const NOTHING: Rollover = Rollover {
        most: Some(Amount::ZERO),
        percent: WHOLE_PERCENT,
        times: None,
    };

    /// Whether credits that have rolled over `moved` times may roll over once more.
    pub fn again(&self, moved: u32) -> bool {
        self.times.is_none_or(|times| moved < times)
    }

    /// How many of these unspent credits move, at the decimals of the asset. What waits for a
    /// payment was a percentage before.
    pub fn of(&self, unspent: Amount, waiting: Amount, scale: u32) -> Amount {
        let most = if waiting.is_positive() {
            waiting
        } else {
            proportion(unspent, self.percent, WHOLE_PERCENT, scale, Rounding::Down)
        };
        self.most.map_or(most, |cap| cap.min(most))
    }
}

/// A grant of a period, and how often its credits have moved on from an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeriodGrant {
    pub id: Uuid,
    pub moved: u32,
}

/// A plan with all its versions, the oldest first.
#[derive(Clone, Debug)]
pub struct Plan {
    pub plan: String,
    pub asset: String,
    pub versions: Vec<Terms>,
}

/// One version of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub version: i32,
    /// Credits of each period; with none it renews without a grant.
    pub credits: Amount,
    pub every: PeriodLength,
    /// Money that a period's credits are paid with.
    pub paid: Amount,
    pub rollover: Rollover,
    pub priority: i32,
    pub applies_to: Option<Vec<String>>,
    /// First periods that start from here on are on these terms.
    pub since: Moment,
    /// Renewals after this moment are, too: it is when the version was committed, so that what a reader
    /// has seen a renewal bring, it brings. `None`: not yet.
    pub committed_at: Option<Moment>,
}

impl Terms {
    /// Whether a period gives the same on both terms.
    pub fn same_terms(&self, other: &Terms) -> bool {
        (self.credits, self.every, self.paid) == (other.credits, other.every, other.paid)
            && (self.rollover, self.priority) == (other.rollover, other.priority)
            && self.applies_to == other.applies_to
    }

    /// What a period gives to a number of seats: credits, and the money they are paid with. A renewal is never
    /// refused, so they end where a grant's do.
    pub fn for_seats(&self, quantity: u32) -> (Amount, Amount) {
        let times = |amount: Amount| {
            let units = amount.units().saturating_mul(i128::from(quantity));
            Amount::from_units(units).min(LARGEST.max(amount))
        };
        (times(self.credits), times(self.paid))
    }
}

/// The largest grant that every asset can issue: 1e15 less 1.
const LARGEST: Amount =
    Amount::from_units(Amount::MAX_ISSUE.units() - 10_i128.pow(super::amount::DECIMALS));

/// The plan that a subscription is on, and for how many seats.
#[derive(Clone, Debug)]
pub struct Seats {
    pub plan: Rc<Plan>,
    pub quantity: u32,
}

impl Seats {
    pub fn same(&self, other: &Seats) -> bool {
        (&self.plan.plan, self.quantity) == (&other.plan.plan, other.quantity)
    }
}

/// What the period of a subscription that has begun has had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Had {
    /// The first grant of it, what rolled over left out.
    pub grant: Option<Uuid>,
    /// The most that its terms came to: a change of plan brings what goes beyond it.
    pub credits: Amount,
    pub paid: Amount,
}

/// What the rest of a period brings when the plan changes within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proration {
    /// The difference of the terms, for what is left of the period.
    Difference,
    /// The period ends, and a new one begins.
    Restart,
    /// Nothing.
    None,
}

/// The two plans have periods of different lengths, so that there is no difference between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DifferentPeriods {
    pub from: PeriodLength,
    pub to: PeriodLength,
}

/// A subscription: where it stands, and until when it goes on.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub id: Uuid,
    pub on: Seats,
    /// What it is on from its next period on, where that is something else.
    pub scheduled: Option<Seats>,
    pub created_at: Moment,
    pub zone: TimeZone,
    /// The decimals of its credits.
    pub scale: u32,
    /// What its starts are counted from.
    pub anchor: Moment,
    /// So many days or months after the anchor its next period starts, and when that is. `None`:
    /// beyond the calendar's end, never.
    pub steps: i32,
    pub next: Option<Moment>,
    /// When the last period that came due started, and its terms; `None` before the first.
    pub started: Option<Moment>,
    pub terms: Option<Terms>,
    /// Periods that start before this are paid for; `None`: all are.
    pub paid_through: Option<Moment>,
    /// Periods that start from here on are not wanted any more.
    pub ends_at: Option<Moment>,
    /// The grants of the period that has begun: its own, and what rolled over into it. None once
    /// nothing can roll over any more.
    pub grants: Vec<PeriodGrant>,
    /// What that period has had.
    pub had: Had,
    /// That period is over, the next one is not paid for, and what may roll over waits until then.
    pub waits_until: Option<Moment>,
}

/// The end of a period whose successor is not paid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lapse {
    pub at: Moment,
    /// Of the unspent credits this waits for the payment.
    pub rollover: Rollover,
}

/// A period that has come due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanPeriod {
    pub plan: String,
    /// The subscription's first one.
    pub first: bool,
    pub starts: Moment,
    pub ends: Moment,
    /// What it grants, if anything.
    pub grant: Option<Grant>,
    /// Of the unspent credits of the period before this comes over.
    pub rollover: Rollover,
}

/// A subscription whose periods have come due, as its wallet sees it.
#[derive(Clone, Debug)]
pub struct Renewal {
    pub subscription: Uuid,
    /// The decimals of its credits.
    pub scale: u32,
    /// The grants whose unspent credits may move to the next period.
    pub grants: Vec<PeriodGrant>,
    /// In the order of time.
    pub periods: Vec<PlanPeriod>,
    /// What a change of plan adds to the period that runs, and the plan.
    pub difference: Option<(Grant, String)>,
    /// After the periods.
    pub lapse: Option<Lapse>,
    /// Then what waits is lost.
    pub wait_ends: Option<Moment>,
    /// What the wallet made of it.
    pub issued: Vec<Issue>,
}

/// A grant that time made: a period's own, or what rolled over into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// As it was issued.
    pub grant: Grant,
    /// The first of the grants that rolled over into it.
    pub origin: Option<Uuid>,
    /// How often its credits have moved on.
    pub moved: u32,
}

impl Issue {
    pub fn of_period(&self) -> PeriodGrant {
        PeriodGrant {
            id: self.grant.id,
            moved: self.moved,
        }
    }
}

impl Renewal {
    /// The grant among its own, if its credits may move once more.
    pub fn may_move(&self, grant: &Grant, rollover: &Rollover) -> Option<PeriodGrant> {
        let of_period = self.grants.iter().find(|known| known.id == grant.id)?;
        (!grant.revoked && rollover.again(of_period.moved)).then_some(*of_period)
    }
}

impl Subscription {
    /// When its next period begins, if that needs no further payment.
    pub fn renews_at(&self) -> Option<Moment> {
        self.next.filter(|start| {
            self.paid_through.is_none_or(|paid| *start < paid)
                && self.ends_at.is_none_or(|end| *start < end)
        })
    }

    /// Whether it goes on at a moment, or has ended within a period, granted or yet to come, that lasts
    /// beyond that moment. Then a customer who comes back resumes it: a period is granted once.
    pub fn lasts_at(&self, at: Moment) -> bool {
        let Some(end) = self.ends_at.filter(|end| *end <= at) else {
            return true;
        };
        let mut ended = self.clone();
        ended.renew(end);
        ended.started.is_some() && ended.next.is_some_and(|next| next > at)
    }

    /// Goes on through all periods that have come due by now.
    pub fn renew(&mut self, now: Moment) -> Renewal {
        let mut renewing = self.renewing();
        while let Some(period) = self.begin(now) {
            interrupt::check();
            renewing.periods.push(period);
        }
        // A period that began has grants that may roll over, or none: the wallet knows.
        let may_wait = !renewing.periods.is_empty() || !self.grants.is_empty();
        if may_wait && self.turns_at(true).is_some_and(|at| at <= now) {
            if self.waits_until.is_none() {
                renewing.lapse = self.lapse(now);
            }
            renewing.wait_ends = self.turns_at(true).filter(|at| *at <= now);
        }
        renewing
    }

    fn renewing(&self) -> Renewal {
        Renewal {
            subscription: self.id,
            scale: self.scale,
            grants: self.grants.clone(),
            periods: Vec::new(),
            difference: None,
            lapse: None,
            wait_ends: None,
            issued: Vec::new(),
        }
    }

    /// Whether a period that was granted runs now.
    pub fn runs(&self, now: Moment) -> bool {
        self.started.is_some() && self.next.is_some_and(|next| next > now)
    }

    /// Goes over to another plan or other seats now; all that was due is booked. Where no granted period
    /// runs, nothing is granted: the period that waits for its start or its payment is on the new plan.
    /// With `Restart` the wallet has ended the grants of the period that runs.
    pub fn change(
        &mut self,
        to: Seats,
        proration: Proration,
        rounding: Rounding,
        now: Moment,
    ) -> Result<Renewal, DifferentPeriods> {
        let mut renewing = self.renewing();
        self.scheduled = None;
        let Some(newest) = to.plan.versions.last().cloned() else {
            return Ok(renewing);
        };
        let runs = self.runs(now);
        match proration {
            Proration::Restart if runs => {
                (self.anchor, self.steps) = (now, 0);
                renewing.periods.extend(self.start(now, to, newest));
            }
            Proration::Restart => {
                let waits = self.next.is_some_and(|next| next <= now);
                self.switch(to, newest);
                if waits {
                    (self.anchor, self.steps, self.next) = (now, 0, Some(now));
                    if self.waits_until.is_some() {
                        self.lapse(now);
                    }
                }
            }
            Proration::Difference if runs => {
                if let Some(old) = self.terms.as_ref().filter(|old| old.every != newest.every) {
                    let (from, to) = (old.every, newest.every);
                    return Err(DifferentPeriods { from, to });
                }
                renewing.difference = self.difference(&to, &newest, rounding, now);
                self.switch(to, newest);
            }
            Proration::Difference | Proration::None => self.switch(to, newest),
        }
        Ok(renewing)
    }

    /// What the period that runs has on new terms beyond the most that it has had, for what is left of it.
    fn difference(
        &mut self,
        to: &Seats,
        terms: &Terms,
        rounding: Rounding,
        now: Moment,
    ) -> Option<(Grant, String)> {
        let (started, ends) = (self.started?, self.next?);
        let span = |from: Moment, to: Moment| Amount::from_units(i128::from(to.0 - from.0));
        let (left, whole) = (span(now, ends), span(started, ends));
        let (credits, paid) = terms.for_seats(to.quantity);
        let (more, more_paid) = (
            (credits - self.had.credits).or_zero(),
            (paid - self.had.paid).or_zero(),
        );
        let granted = proportion(more, left, whole, self.scale, rounding);
        if !granted.is_positive() {
            return None;
        }
        let id = Uuid::now_v7();
        self.had.credits += more;
        self.had.paid += more_paid;
        self.had.grant.get_or_insert(id);
        let grant = Grant {
            id,
            deferred: proportion(more_paid, left, whole, MONEY_DECIMALS, Rounding::HalfEven),
            ..terms.grant(id, granted, now, ends)
        };
        Some((grant, to.plan.plan.clone()))
    }

    /// Is on another plan from now on, and stays in its period.
    fn switch(&mut self, to: Seats, newest: Terms) {
        if let Some(before) = &self.terms {
            // Where months become days, or days months, they count from the next start.
            if let Some(next) = self.next.filter(|_| !before.every.same_unit(newest.every)) {
                (self.anchor, self.steps) = (next, 0);
            }
            self.terms = Some(newest);
        }
        self.on = to;
    }

    /// When its next period begins, or else what may roll over of its last one begins or ceases to wait
    /// for a payment. Without `grants` there is nothing to roll over.
    pub fn turns_at(&self, grants: bool) -> Option<Moment> {
        let next = self.next?;
        if self.renews_at().is_some() {
            Some(next)
        } else if grants && self.ends_at.is_none_or(|end| next < end) {
            let until = self.waits_until.unwrap_or(next);
            Some(self.ends_at.map_or(until, |end| end.min(until)))
        } else {
            None
        }
    }

    /// Its period is over and the next one is not paid for.
    fn lapse(&mut self, now: Moment) -> Option<Lapse> {
        let at = self.next?;
        let mut paid = Subscription {
            paid_through: None,
            ..self.clone()
        };
        let next = paid.begin(now);
        self.waits_until = Some(next.as_ref().map_or(at, |period| period.ends));
        let rollover = next?.rollover;
        Some(Lapse { at, rollover })
    }

    /// Begins its next period, if that has come due.
    fn begin(&mut self, now: Moment) -> Option<PlanPeriod> {
        let starts = self.renews_at().filter(|start| *start <= now)?;
        // The first period begins as it is subscribed to, unless it was to start later.
        let renews = self.terms.is_some() || starts > self.created_at;
        let on = self.scheduled.as_ref().unwrap_or(&self.on).clone();
        let terms = in_force(&on.plan.versions, starts, renews)?.clone();
        // Days cannot go on where months have led to: they count from this start.
        if let Some(before) = &self.terms
            && !before.every.same_unit(terms.every)
        {
            (self.anchor, self.steps) = (starts, 0);
        }
        self.start(starts, on, terms)
    }

    /// Begins a period on these terms.
    fn start(&mut self, starts: Moment, on: Seats, terms: Terms) -> Option<PlanPeriod> {
        let next = terms
            .every
            .next(self.anchor, &self.zone, self.steps, starts);
        self.next = next.map(|(_, start)| start);
        self.waits_until = None;
        let (steps, ends) = next?;
        self.steps = steps;
        self.started = Some(starts);
        // What was unspent rolls over by the terms it was given on, into another plan by those of that plan.
        let rollover = match &self.terms {
            Some(_) if on.plan.plan != self.on.plan.plan => terms.rollover,
            Some(before) => before.rollover,
            None => Rollover::NOTHING,
        };
        let (credits, paid) = terms.for_seats(on.quantity);
        let grant = credits.is_positive().then(|| Grant {
            deferred: paid,
            ..terms.grant(grant_id(self.id, starts, OWN), credits, starts, ends)
        });
        let plan = on.plan.plan.clone();
        self.had = Had {
            grant: grant.as_ref().map(|grant| grant.id),
            credits,
            paid,
        };
        (self.on, self.scheduled) = (on, None);
        let first = self.terms.replace(terms).is_none();
        Some(PlanPeriod {
            plan,
            first,
            starts,
            ends,
            grant,
            rollover,
        })
    }
}

impl Terms {
    /// A grant on these terms, without the money that it was paid with.
    fn grant(&self, id: Uuid, credits: Amount, starts: Moment, ends: Moment) -> Grant {
        Grant {
            id,
            kind: Kind::Included,
            priority: self.priority,
            effective_at: starts,
            expires_at: Some(ends),
            applies_to: self.applies_to.clone(),
            revoked: false,
            remaining: credits,
            held: Amount::ZERO,
            waiting: Amount::ZERO,
            deferred: Amount::ZERO,
        }
    }
}

/// The terms of a period that starts then: the newest that there were, or else the first. Readers may
/// have seen what a period that `renews` brings before any call books it.
fn in_force(versions: &[Terms], start: Moment, renews: bool) -> Option<&Terms> {
    let counts = |terms: &&Terms| match terms.committed_at {
        Some(at) if renews => at < start,
        None if renews => false,
        _ => terms.since <= start,
    };
    let newest = versions.iter().rev().find(counts);
    newest.or(versions.first())
}

/// The place of a period's own grant; what rolls over comes before it.
pub const OWN: usize = 0xfff;

/// The id of the nth grant of a period: the same for whoever reads it before it is booked, and once
/// it is. A UUIDv7 of the period's start, so that of two grants that burn alike the earlier place
/// burns first.
pub fn grant_id(subscription: Uuid, starts: Moment, nth: usize) -> Uuid {
    let mut hasher = Sha256::new();
    hasher.update(subscription.as_bytes());
    hasher.update(starts.0.to_le_bytes());
    hasher.update((nth as u64).to_le_bytes());
    let mut random = [0; 16];
    random.copy_from_slice(&hasher.finalize()[..16]);
    let random = u128::from_le_bytes(random) & ((1 << 62) - 1);
    let time = u128::from(starts.unix_micros() / 1000) << 80;
    let place = ((nth & 0xfff) as u128) << 64;
    Uuid::from_u128(time | 0x7 << 76 | place | 0x2 << 62 | random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::period::zone;

    fn at(text: &str) -> Moment {
        Moment::parse(&format!("{text}T00:00:00Z")).unwrap()
    }

    fn terms(version: i32, every: &str, since: &str) -> Terms {
        Terms {
            version,
            credits: Amount::from_units(i128::from(version)),
            every: every.parse().unwrap(),
            paid: Amount::ZERO,
            rollover: Rollover {
                most: Some(Amount::from_units(10 * i128::from(version))),
                ..Rollover::NOTHING
            },
            priority: 100,
            applies_to: None,
            since: at(since),
            committed_at: Some(at(since)),
        }
    }

    fn plan(name: &str, versions: &[Terms]) -> Rc<Plan> {
        Rc::new(Plan {
            plan: name.to_owned(),
            asset: "credits".to_owned(),
            versions: versions.to_vec(),
        })
    }

    fn subscription(starts: &str, versions: &[Terms]) -> Subscription {
        Subscription {
            id: Uuid::from_u128(1),
            on: Seats {
                plan: plan("pro", versions),
                quantity: 1,
            },
            scheduled: None,
            had: Had::default(),
            created_at: at(starts),
            zone: zone("UTC").unwrap(),
            scale: 2,
            anchor: at(starts),
            steps: 0,
            next: Some(at(starts)),
            started: None,
            terms: None,
            paid_through: None,
            ends_at: None,
            grants: Vec::new(),
            waits_until: None,
        }
    }

    /// "2026-01-31 for 1, 0 over"
    fn said(renewing: &Renewal) -> Vec<String> {
        let say = |period: &PlanPeriod| {
            format!(
                "{} for {}, {} over",
                &period.starts.to_string()[..10],
                period
                    .grant
                    .as_ref()
                    .map_or(0, |grant| grant.remaining.units()),
                period.rollover.most.map_or(-1, Amount::units)
            )
        };
        renewing.periods.iter().map(say).collect()
    }

    #[test]
    fn a_version_counts_from_the_next_period_on() {
        let versions = [
            terms(1, "1 month", "2026-01-31"),
            terms(2, "3 months", "2026-02-10"),
            terms(3, "2 weeks", "2026-07-01"),
            terms(4, "1 month", "2026-09-10"),
        ];
        let mut pro = subscription("2026-01-31", &versions);
        assert_eq!(
            said(&pro.renew(at("2026-11-30"))),
            [
                "2026-01-31 for 1, 0 over",
                "2026-02-28 for 2, 10 over",
                // Months still count from the 31st.
                "2026-05-31 for 2, 20 over",
                "2026-08-31 for 3, 20 over",
                "2026-09-14 for 4, 30 over",
                "2026-10-14 for 4, 40 over",
                "2026-11-14 for 4, 40 over",
            ]
        );
        assert_eq!(pro.next, Some(at("2026-12-14")));
    }

    #[test]
    fn a_renewal_that_may_have_been_seen_keeps_its_terms() {
        let mut late = terms(2, "1 month", "2026-02-10");
        let versions = |late: &Terms, committed: Option<&str>| {
            let mut late = late.clone();
            late.committed_at = committed.map(at);
            [terms(1, "1 month", "2026-01-31"), late]
        };
        let second = |versions: &[Terms]| {
            let mut pro = subscription("2026-01-31", versions);
            pro.renew(at("2026-02-28"));
            pro.terms.map(|terms| terms.version)
        };
        assert_eq!(second(&versions(&late, Some("2026-02-27"))), Some(2));
        assert_eq!(second(&versions(&late, Some("2026-02-28"))), Some(1));
        assert_eq!(second(&versions(&late, None)), Some(1));
        // Nobody has seen a first period before it was subscribed to.
        late.since = at("2026-01-31");
        let mut pro = subscription("2026-01-31", &versions(&late, None));
        pro.renew(at("2026-01-31"));
        assert_eq!(pro.terms.map(|terms| terms.version), Some(2));
    }

    #[test]
    fn a_period_is_granted_when_it_is_paid_and_wanted() {
        let versions = [terms(1, "1 month", "2026-01-31")];
        let mut pro = subscription("2026-01-31", &versions);
        pro.paid_through = Some(at("2026-03-31"));
        let periods = |pro: &mut Subscription| pro.renew(at("2026-12-31")).periods.len();
        assert_eq!((periods(&mut pro), pro.renews_at()), (2, None));
        assert_eq!(pro.next, Some(at("2026-03-31")));
        pro.paid_through = Some(at("2026-07-01"));
        assert_eq!((periods(&mut pro), pro.renews_at()), (4, None));
        (pro.paid_through, pro.ends_at) = (None, Some(at("2026-08-31")));
        assert_eq!(pro.renews_at(), Some(at("2026-07-31")));
        assert_eq!((periods(&mut pro), pro.renews_at()), (1, None));
    }

    #[test]
    fn a_granted_period_outlasts_the_end() {
        let versions = [terms(1, "1 month", "2026-01-31")];
        let lasts = |pro: &Subscription, on: &str| pro.lasts_at(at(on));
        let mut pro = subscription("2026-01-31", &versions);
        // Nothing was granted before it ended.
        pro.ends_at = Some(at("2026-01-31"));
        assert!(!lasts(&pro, "2026-01-31"));
        pro.ends_at = None;
        pro.renew(at("2026-02-10"));
        assert!(lasts(&pro, "2036-02-10"));
        pro.ends_at = Some(at("2026-02-10"));
        assert!(lasts(&pro, "2026-02-10") && lasts(&pro, "2026-02-27"));
        assert!(!lasts(&pro, "2026-02-28"));
        // It ends later: the last period begins before that.
        pro.ends_at = Some(at("2026-04-01"));
        assert!(lasts(&pro, "2026-04-01") && lasts(&pro, "2026-04-29"));
        assert!(!lasts(&pro, "2026-04-30"));
        // A period that is not paid for is not granted.
        pro.paid_through = Some(at("2026-03-31"));
        assert!(lasts(&pro, "2026-03-31") && !lasts(&pro, "2026-04-01"));
    }

    #[test]
    fn a_percentage_is_rounded_down_and_capped() {
        let amount = |text: &str| Amount::parse(text).unwrap();
        let rollover = |percent: &str, most: Option<&str>| Rollover {
            most: most.map(amount),
            percent: amount(percent),
            times: None,
        };
        let of = |percent, most, unspent: &str| {
            rollover(percent, most)
                .of(amount(unspent), Amount::ZERO, 2)
                .to_string()
        };
        assert_eq!(of("50", None, "0.05"), "0.02");
        assert_eq!(of("33.3333333333", None, "100"), "33.33");
        assert_eq!(
            of("100", None, "999999999999999999.99"),
            "999999999999999999.99"
        );
        assert_eq!(of("50", Some("20"), "100"), "20");
        assert_eq!(of("0", None, "100"), "0");
        // What waits was a percentage when it began to.
        let waits = rollover("50", Some("20"));
        assert_eq!(waits.of(Amount::ZERO, amount("7"), 2), amount("7"));
        assert_eq!(waits.of(Amount::ZERO, amount("70"), 2), amount("20"));
    }

    /// Terms of 100 x `version` credits for 10 x `version`, all of which rolls over up to 10 x `version`.
    fn hundreds(name: &str, version: i32, every: &str) -> Rc<Plan> {
        let hundred = i128::from(version) * 1_000_000_000_000;
        let terms = Terms {
            credits: Amount::from_units(hundred),
            paid: Amount::from_units(hundred / 10),
            ..terms(version, every, "2026-06-01")
        };
        plan(name, &[terms])
    }

    fn on(plan: &Rc<Plan>, quantity: u32) -> Seats {
        Seats {
            plan: Rc::clone(plan),
            quantity,
        }
    }

    /// On 1 June for a month of 30 days.
    fn since_june(plan: &Rc<Plan>) -> Subscription {
        let mut one = subscription("2026-06-01", &plan.versions);
        one.on = on(plan, 1);
        one.renew(at("2026-06-01"));
        one
    }

    #[test]
    fn a_difference_is_what_goes_beyond_the_most_of_the_period() {
        let (one, three) = (
            hundreds("one", 1, "1 month"),
            hundreds("three", 3, "1 month"),
        );
        let mut known = since_june(&one);
        // "150 for 15"
        let mut change = |to: Seats, day: &str| {
            let renewing = known.change(to, Proration::Difference, Rounding::Up, at(day));
            let grant = renewing.unwrap().difference.map(|(grant, _)| grant);
            grant.map(|grant| format!("{} for {}", grant.remaining, grant.deferred))
        };
        assert_eq!(
            change(on(&three, 1), "2026-06-16").as_deref(),
            Some("100 for 10")
        );
        assert_eq!(change(on(&one, 1), "2026-06-17"), None);
        assert_eq!(change(on(&one, 3), "2026-06-18"), None);
        // The fourth seat: a third of the month is left.
        assert_eq!(
            change(on(&one, 4), "2026-06-21").as_deref(),
            Some("33.34 for 3.3333333333")
        );
        let weekly = hundreds("weekly", 1, "7 days");
        let refused = known.change(
            on(&weekly, 1),
            Proration::Difference,
            Rounding::Up,
            at("2026-06-22"),
        );
        assert!(refused.is_err());
    }

    #[test]
    fn a_restart_begins_a_period_of_the_new_plan() {
        let (one, weekly) = (
            hundreds("one", 1, "1 month"),
            hundreds("weekly", 2, "7 days"),
        );
        let mut known = since_june(&one);
        // What was paid before does not hold it back.
        known.paid_through = Some(at("2026-06-02"));
        let now = at("2026-06-10");
        let renewing = known.change(on(&weekly, 2), Proration::Restart, Rounding::Up, now);
        assert_eq!(
            said(&renewing.unwrap()),
            ["2026-06-10 for 4000000000000, 20 over"]
        );
        assert_eq!(known.next, Some(at("2026-06-17")));
        assert_eq!(known.renews_at(), None);
        // Unpaid, it waits from now on.
        let now = at("2026-06-20");
        known.renew(now);
        let renewing = known.change(on(&one, 1), Proration::Restart, Rounding::Up, now);
        assert!(renewing.unwrap().periods.is_empty());
        assert_eq!((known.next, known.renews_at()), (Some(now), None));
    }

    #[test]
    fn a_change_at_the_renewal_rolls_over_into_the_new_plan() {
        let (one, weekly) = (
            hundreds("one", 1, "1 month"),
            hundreds("weekly", 2, "7 days"),
        );
        let mut known = since_june(&one);
        known.scheduled = Some(on(&weekly, 1));
        assert_eq!(
            said(&known.renew(at("2026-07-08"))),
            [
                "2026-07-01 for 2000000000000, 20 over",
                "2026-07-08 for 2000000000000, 20 over",
            ]
        );
        assert!(known.scheduled.is_none());
        // Months count from the next start where weeks were before.
        let change = known.change(on(&one, 1), Proration::None, Rounding::Up, at("2026-07-09"));
        assert!(change.unwrap().periods.is_empty());
        assert_eq!(said(&known.renew(at("2026-08-14"))).len(), 1);
        assert_eq!(known.next, Some(at("2026-08-15")));
    }

    #[test]
    fn ids_are_the_same_again_and_ascend_within_a_period() {
        let id = |nth| grant_id(Uuid::from_u128(1), at("2026-01-31"), nth);
        assert_eq!(id(0), id(0));
        assert!(id(0) < id(1) && id(1) < id(OWN));
        assert_eq!(id(OWN).get_version_num(), 7);
        assert_eq!(id(OWN).get_variant(), uuid::Variant::RFC4122);
        assert!(id(OWN).to_string().starts_with("019c"));
    }
}
