//! Plans: what each period of a subscription gives, and which periods have come due.

use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::period::Every;
use super::price::{Rounding, proportion};
use super::{Amount, Grant, Kind, Moment, interrupt};

/// What of a period's unspent credits moves to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollover {
    /// At most so many; `None`: all.
    pub most: Option<Amount>,
    /// Of what is unspent so many percent, rounded down.
    pub percent: Amount,
    /// The same credits move at most so often; `None`: without end.
    pub times: Option<u32>,
}

/// All of it.
pub const WHOLE_PERCENT: Amount = Amount::from_units(1_000_000_000_000);

impl Rollover {
    pub const NOTHING: Rollover = Rollover {
        most: Some(Amount::ZERO),
        percent: WHOLE_PERCENT,
        times: None,
    };

    /// May credits move once more that have moved so often?
    pub fn again(&self, moved: u32) -> bool {
        self.times.is_none_or(|times| moved < times)
    }

    /// So many of these unspent credits move, of an asset with so many decimals. What waits for a
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

/// One version of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub version: i32,
    /// Credits of each period; with none it renews without a grant.
    pub credits: Amount,
    pub every: Every,
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
    /// Does a period on these terms give the same as on those?
    pub fn same_terms(&self, other: &Terms) -> bool {
        (self.credits, self.every, self.paid) == (other.credits, other.every, other.paid)
            && (self.rollover, self.priority) == (other.rollover, other.priority)
            && self.applies_to == other.applies_to
    }
}

/// A subscription: where it stands, and until when it goes on.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub id: Uuid,
    pub plan: String,
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
pub struct Period {
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
pub struct Renewing {
    pub subscription: Uuid,
    pub plan: String,
    /// The decimals of its credits.
    pub scale: u32,
    /// The grants whose unspent credits may move to the next period.
    pub grants: Vec<PeriodGrant>,
    /// In the order of time.
    pub periods: Vec<Period>,
    /// After them.
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

impl Renewing {
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

    /// Does it go on at a moment, or has it ended within a period, granted or yet to come, that lasts
    /// beyond that moment? Then who comes back resumes it: a period is granted once.
    pub fn lasts_at(&self, versions: &[Terms], at: Moment) -> bool {
        let Some(end) = self.ends_at.filter(|end| *end <= at) else {
            return true;
        };
        let mut ended = self.clone();
        ended.renew(versions, end);
        ended.started.is_some() && ended.next.is_some_and(|next| next > at)
    }

    /// Goes on through all periods that have come due by now. `versions` are those of its plan, the
    /// oldest first.
    pub fn renew(&mut self, versions: &[Terms], now: Moment) -> Renewing {
        let mut renewing = Renewing {
            subscription: self.id,
            plan: self.plan.clone(),
            scale: self.scale,
            grants: self.grants.clone(),
            periods: Vec::new(),
            lapse: None,
            wait_ends: None,
            issued: Vec::new(),
        };
        while let Some(period) = self.begin(versions, now) {
            interrupt::check();
            renewing.periods.push(period);
        }
        // A period that began has grants that may roll over, or none: the wallet knows.
        let may_wait = !renewing.periods.is_empty() || !self.grants.is_empty();
        if may_wait && self.turns_at(true).is_some_and(|at| at <= now) {
            if self.waits_until.is_none() {
                renewing.lapse = self.lapse(versions, now);
            }
            renewing.wait_ends = self.turns_at(true).filter(|at| *at <= now);
        }
        renewing
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
    fn lapse(&mut self, versions: &[Terms], now: Moment) -> Option<Lapse> {
        let at = self.next?;
        let mut paid = Subscription {
            paid_through: None,
            ..self.clone()
        };
        let next = paid.begin(versions, now);
        self.waits_until = Some(next.as_ref().map_or(at, |period| period.ends));
        let rollover = next?.rollover;
        Some(Lapse { at, rollover })
    }

    /// Begins its next period, if that has come due.
    fn begin(&mut self, versions: &[Terms], now: Moment) -> Option<Period> {
        let starts = self.renews_at().filter(|start| *start <= now)?;
        // The first period begins as it is subscribed to, unless it was to start later.
        let renews = self.terms.is_some() || starts > self.created_at;
        let terms = in_force(versions, starts, renews)?.clone();
        // Days cannot go on where months have led to: they count from this start.
        if let Some(before) = &self.terms
            && !before.every.same_unit(terms.every)
        {
            (self.anchor, self.steps) = (starts, 0);
        }
        let next = terms
            .every
            .next(self.anchor, &self.zone, self.steps, starts);
        self.next = next.map(|(_, start)| start);
        self.waits_until = None;
        let (steps, ends) = next?;
        self.steps = steps;
        self.started = Some(starts);
        // What was unspent rolls over by the terms it was given on.
        let rollover = match &self.terms {
            Some(before) => before.rollover,
            None => Rollover::NOTHING,
        };
        let grant = terms.credits.is_positive().then(|| Grant {
            id: grant_id(self.id, starts, OWN),
            kind: Kind::Included,
            priority: terms.priority,
            effective_at: starts,
            expires_at: Some(ends),
            applies_to: terms.applies_to.clone(),
            revoked: false,
            remaining: terms.credits,
            held: Amount::ZERO,
            waiting: Amount::ZERO,
            deferred: terms.paid,
        });
        let first = self.terms.replace(terms).is_none();
        Some(Period {
            first,
            starts,
            ends,
            grant,
            rollover,
        })
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

    fn subscription(starts: &str) -> Subscription {
        Subscription {
            id: Uuid::from_u128(1),
            plan: "pro".to_owned(),
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
    fn said(renewing: &Renewing) -> Vec<String> {
        let say = |period: &Period| {
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
        let mut pro = subscription("2026-01-31");
        let versions = [
            terms(1, "1 month", "2026-01-31"),
            terms(2, "3 months", "2026-02-10"),
            terms(3, "2 weeks", "2026-07-01"),
            terms(4, "1 month", "2026-09-10"),
        ];
        assert_eq!(
            said(&pro.renew(&versions, at("2026-11-30"))),
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
            let mut pro = subscription("2026-01-31");
            pro.renew(versions, at("2026-02-28"));
            pro.terms.map(|terms| terms.version)
        };
        assert_eq!(second(&versions(&late, Some("2026-02-27"))), Some(2));
        assert_eq!(second(&versions(&late, Some("2026-02-28"))), Some(1));
        assert_eq!(second(&versions(&late, None)), Some(1));
        // Nobody has seen a first period before it was subscribed to.
        late.since = at("2026-01-31");
        let mut pro = subscription("2026-01-31");
        pro.renew(&versions(&late, None), at("2026-01-31"));
        assert_eq!(pro.terms.map(|terms| terms.version), Some(2));
    }

    #[test]
    fn a_period_is_granted_when_it_is_paid_and_wanted() {
        let versions = [terms(1, "1 month", "2026-01-31")];
        let mut pro = subscription("2026-01-31");
        pro.paid_through = Some(at("2026-03-31"));
        let periods = |pro: &mut Subscription| pro.renew(&versions, at("2026-12-31")).periods.len();
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
        let lasts = |pro: &Subscription, on: &str| pro.lasts_at(&versions, at(on));
        let mut pro = subscription("2026-01-31");
        // Nothing was granted before it ended.
        pro.ends_at = Some(at("2026-01-31"));
        assert!(!lasts(&pro, "2026-01-31"));
        pro.ends_at = None;
        pro.renew(&versions, at("2026-02-10"));
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
