//! What an application wants to be told of a wallet: that its balance has fallen low, and that credits
//! are to be bought.
//!
//! The balance that is compared is what can be spent on anything without going into debt: live and
//! unheld, less what is owed or pinned of the overdraft. A crossing is a fall from above a level to it or
//! below; a fall that begins there already is none.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::amount::DECIMALS;
use super::interrupt::checked;
use super::limit::{Calendar, CalendarPeriod};
use super::{Amount, Grant, Kind, Moment};

/// More alerts than this a wallet does not take.
pub const MAX_ALERTS: usize = 10;

/// The most percent there are.
pub const HUNDRED: Amount = Amount::from_units(100 * 10_i128.pow(DECIMALS));

const MOST_ASKED: Amount = Amount::from_units(Amount::MAX_WALLET.units() - 1);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertState {
    pub alerts: Vec<Alert>,
    /// The balance right after credits last came in: what alerts in percent are of.
    pub refilled: Amount,
    pub topup: Option<TopUp>,
    /// Open grants whose end has been told, by their ids.
    pub noticed: Vec<SentNotice>,
    /// How many events this wallet has written: their ids ascend with it.
    pub events: u64,
}

/// The balance at which the event `balance.low` is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub threshold: Amount,
    pub unit: Unit,
    pub enabled: bool,
}

/// What the threshold of an alert counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Credits,
    /// Of the balance right after credits last came in.
    Percent,
}

impl Unit {
    pub const fn as_str(self) -> &'static str {
        match self {
            Unit::Credits => "credits",
            Unit::Percent => "percent",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownUnit;

impl FromStr for Unit {
    type Err = UnknownUnit;
    fn from_str(text: &str) -> Result<Unit, UnknownUnit> {
        match text {
            "credits" => Ok(Unit::Credits),
            "percent" => Ok(Unit::Percent),
            _ => Err(UnknownUnit),
        }
    }
}

impl Alert {
    /// The balance at which it is reached.
    pub fn level(&self, refilled: Amount) -> Amount {
        match self.unit {
            Unit::Credits => self.threshold,
            Unit::Percent => refilled.percent(self.threshold),
        }
    }
}

/// When to ask for more credits, and for how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopUp {
    pub threshold: Amount,
    pub refill: Refill,
    pub enabled: bool,
    /// At most so much in each calendar period.
    pub max_credits: Option<Amount>,
    pub every: Calendar,
    /// After a failure nothing is asked for during this time.
    pub cooldown_seconds: i32,
    /// The request that has not been answered yet, by a purchase or a failure.
    pub in_flight: Option<Uuid>,
    /// The end of the cooldown after the last failure.
    pub waits_until: Option<Moment>,
    pub asked: Option<RequestedTopUps>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refill {
    /// So many.
    Credits(Amount),
    /// What lacks to this balance.
    ToBalance(Amount),
}

/// What was asked for in a calendar period and has not failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestedTopUps {
    /// The end of the period.
    pub until: Moment,
    pub credits: Amount,
    /// The application knows that `max_credits` is reached.
    pub capped: bool,
}

/// The most days before the end that a notice takes, and the most notices.
pub const MAX_NOTICE_DAYS: i32 = 3650;
pub const MAX_NOTICES: usize = 10;

const DAY: i64 = 86_400_000_000;

/// How many days before its end a grant of these kinds is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub days: Vec<i32>,
    pub kinds: Vec<Kind>,
}

/// A grant whose end has been told, and the fewest days before it that were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentNotice {
    pub grant: Uuid,
    pub days: i32,
}

/// A grant that will end with something left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiringGrant {
    pub grant: Uuid,
    pub kind: Kind,
    pub remaining: Amount,
    pub expires_at: Moment,
    pub days: i32,
}

impl Notice {
    /// When the end of a grant is announced next, given the last number of days before it; the most days first.
    fn untold<'a>(
        &'a self,
        grant: &'a Grant,
        told: Option<i32>,
    ) -> impl Iterator<Item = (Moment, i32)> + 'a {
        let end = grant
            .expires_at
            .filter(|_| !grant.revoked && self.kinds.contains(&grant.kind));
        let mut days: Vec<i32> = self.days.clone();
        days.sort_unstable_by_key(|days| -days);
        days.dedup();
        let more = days
            .into_iter()
            .filter(move |days| told.is_none_or(|told| *days < told));
        more.zip(std::iter::repeat(end)).filter_map(|(days, end)| {
            let at = Moment(end?.0.saturating_sub(i64::from(days).saturating_mul(DAY)));
            Some((at.max(grant.effective_at), days))
        })
    }
}

/// When a write of the wallet may ask for a top-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopUpTrigger {
    /// Where the balance has fallen.
    #[default]
    OnFall,
    /// It is a spend, a hold that was refused, the rule itself, or `maintain`.
    Always,
    /// It brings credits in, or says that a top-up has failed.
    Never,
}

/// What the application has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    Low {
        threshold: Amount,
        unit: Unit,
    },
    Depleted,
    TopUp {
        threshold: Amount,
        credits: Amount,
    },
    Capped {
        threshold: Amount,
        max_credits: Amount,
        requested: Amount,
        resets_at: Moment,
    },
}

impl AlertState {
    /// What a change of the balance brings about, the highest level first. `before` is the higher one of
    /// the balance at the last write and now that time has done its part.
    pub fn crossings(&self, before: Amount, after: Amount) -> Vec<Signal> {
        if after >= before {
            return Vec::new();
        }
        let crossed = |level: Amount| before > level && after <= level;
        let enabled = self.alerts.iter().filter(|alert| alert.enabled);
        let mut reached: Vec<(Amount, &Alert)> = enabled
            .map(|alert| (alert.level(self.refilled), alert))
            .filter(|(level, _)| crossed(*level))
            .collect();
        reached.sort_by_key(|(level, _)| -*level);
        let mut signals: Vec<Signal> = reached
            .into_iter()
            .map(|(_, alert)| Signal::Low {
                threshold: alert.threshold,
                unit: alert.unit,
            })
            .collect();
        if crossed(Amount::ZERO) {
            signals.push(Signal::Depleted);
        }
        signals
    }

    /// The grants whose end is to be announced now, each with its number of days; they are marked as announced.
    pub fn expiring(
        &mut self,
        grants: &[Grant],
        now: Moment,
        notice: Option<&Notice>,
    ) -> Vec<ExpiringGrant> {
        if !self.noticed.is_empty() {
            let mut open: Vec<Uuid> = grants.iter().map(|grant| grant.id).collect();
            open.sort_unstable();
            self.noticed
                .retain(|one| open.binary_search(&one.grant).is_ok());
        }
        let mut expiring = Vec::new();
        let Some(notice) = notice else {
            return expiring;
        };
        for grant in checked(grants).filter(|grant| grant.live(now)) {
            let place = self.place(grant.id);
            let told = place.ok().map(|at| self.noticed[at].days);
            let untold = notice.untold(grant, told);
            let due: Vec<i32> = untold
                .filter(|(at, _)| *at <= now)
                .map(|(_, days)| days)
                .collect();
            let Some(fewest) = due.last() else {
                continue;
            };
            let noticed = SentNotice {
                grant: grant.id,
                days: *fewest,
            };
            match place {
                Ok(at) => self.noticed[at] = noticed,
                Err(at) => self.noticed.insert(at, noticed),
            }
            expiring.extend(due.into_iter().filter_map(|days| {
                Some(ExpiringGrant {
                    grant: grant.id,
                    kind: grant.kind,
                    remaining: grant.remaining,
                    expires_at: grant.expires_at?,
                    days,
                })
            }));
        }
        expiring
    }

    /// When the end of a grant is to be told next.
    pub fn next_notice(
        &self,
        grants: &[Grant],
        now: Moment,
        notice: Option<&Notice>,
    ) -> Option<Moment> {
        let notice = notice?;
        let next = checked(grants)
            .filter(|grant| !grant.ended(now))
            .filter_map(|grant| {
                let told = self.place(grant.id).ok().map(|at| self.noticed[at].days);
                notice.untold(grant, told).next().map(|(at, _)| at)
            });
        next.min()
    }

    /// Where a grant is among those that were told of, or would be.
    fn place(&self, grant: Uuid) -> Result<usize, usize> {
        self.noticed.binary_search_by_key(&grant, |one| one.grant)
    }

    /// Credits have come in.
    pub fn refill(&mut self, balance: Amount) {
        self.refilled = balance.or_zero();
    }

    /// A purchase has answered the request that was in flight.
    pub fn purchased(&mut self) {
        if let Some(topup) = &mut self.topup {
            topup.in_flight = None;
        }
    }

    /// The alert that counts the same, or a place for one more; `None` where there are too many.
    pub fn set_alert(&mut self, alert: Alert) -> Option<()> {
        let same = |known: &Alert| known.threshold == alert.threshold && known.unit == alert.unit;
        match self.alerts.iter().position(same) {
            Some(at) => self.alerts[at] = alert,
            None if self.alerts.len() < MAX_ALERTS => self.alerts.push(alert),
            None => return None,
        }
        Some(())
    }
}

impl TopUp {
    /// Whether there is something to say: ask for a top-up, or tell that the cap is reached.
    pub fn is_wanted(&self, balance: Amount, now: Moment) -> bool {
        self.enabled
            && self.in_flight.is_none()
            && balance <= self.threshold
            && self.waits_until.is_none_or(|until| until <= now)
            && !self.asked_in(now).is_some_and(|asked| {
                asked.capped && self.exceeds(asked.credits, self.needed(balance))
            })
    }

    /// Asks for a top-up that is wanted, or says that the cap is reached. `period` is the calendar period
    /// that lasts. What is asked for is in flight once its event has an id.
    pub fn ask(&mut self, balance: Amount, now: Moment, period: CalendarPeriod) -> Signal {
        self.waits_until = None;
        let credits = self.needed(balance);
        let asked = self.asked_in(now).unwrap_or(RequestedTopUps {
            until: period.end,
            credits: Amount::ZERO,
            capped: false,
        });
        if let Some(max_credits) = self.max_credits
            && self.exceeds(asked.credits, credits)
        {
            self.asked = Some(RequestedTopUps {
                capped: true,
                ..asked
            });
            return Signal::Capped {
                threshold: self.threshold,
                max_credits,
                requested: asked.credits,
                resets_at: asked.until,
            };
        }
        self.asked = Some(RequestedTopUps {
            // Beyond any wallet it is counted no further.
            credits: (asked.credits + credits).min(MOST_ASKED),
            ..asked
        });
        Signal::TopUp {
            threshold: self.threshold,
            credits,
        }
    }

    /// A request for `credits` has failed; `asked_at` is when it was made.
    pub fn fail(
        &mut self,
        event: Uuid,
        credits: Amount,
        asked_at: Moment,
        now: Moment,
        period: CalendarPeriod,
    ) {
        self.in_flight = self.in_flight.filter(|id| *id != event);
        self.waits_until = now.plus_seconds(self.cooldown_seconds.into());
        if let Some(asked) = &mut self.asked
            && asked.until == period.end
            && asked_at >= period.start
        {
            asked.credits = (asked.credits - credits).or_zero();
        }
    }

    /// What was asked for in the period that lasts.
    pub fn asked_in(&self, now: Moment) -> Option<RequestedTopUps> {
        self.asked.filter(|asked| now < asked.until)
    }

    /// When, as far as is known at `now`, time alone lets it be asked for.
    pub fn next(&self, balance: Amount, now: Moment) -> Option<Moment> {
        if !self.enabled || self.in_flight.is_some() {
            return None;
        }
        // Whatever the balance is: a debit that lets it fall leaves this moment as it is.
        if let Some(until) = self.waits_until.filter(|until| *until > now) {
            return Some(until);
        }
        if self.is_wanted(balance, now) {
            return Some(now);
        }
        let asked = self.asked_in(now).filter(|asked| asked.capped);
        asked.map(|asked| asked.until)
    }

    fn needed(&self, balance: Amount) -> Amount {
        match self.refill {
            Refill::Credits(credits) => credits,
            Refill::ToBalance(target) => target - balance,
        }
    }

    fn exceeds(&self, asked: Amount, credits: Amount) -> bool {
        self.max_credits.is_some_and(|max| asked + credits > max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn amount(units: i128) -> Amount {
        Amount::from_units(units)
    }

    fn alert(threshold: i128, unit: Unit) -> Alert {
        Alert {
            threshold: amount(threshold),
            unit,
            enabled: true,
        }
    }

    fn topup(threshold: i128, refill: Refill, max: Option<i128>) -> TopUp {
        TopUp {
            threshold: amount(threshold),
            refill,
            enabled: true,
            max_credits: max.map(amount),
            every: Calendar::Day,
            cooldown_seconds: 600,
            in_flight: None,
            waits_until: None,
            asked: None,
        }
    }

    fn day(now: Moment) -> CalendarPeriod {
        Calendar::Day.period("UTC", now).unwrap()
    }

    #[test]
    fn once_on_crossing_and_again_after_recovery() {
        let mut alert_state = AlertState {
            alerts: vec![alert(20, Unit::Credits)],
            ..AlertState::default()
        };
        let low = Signal::Low {
            threshold: amount(20),
            unit: Unit::Credits,
        };
        let falls =
            |alert_state: &AlertState, from, to| alert_state.crossings(amount(from), amount(to));
        assert_eq!(falls(&alert_state, 30, 21), []);
        assert_eq!(falls(&alert_state, 21, 20), std::slice::from_ref(&low));
        assert_eq!(falls(&alert_state, 20, 19), []);
        assert_eq!(falls(&alert_state, 19, 50), []);
        assert_eq!(falls(&alert_state, 50, -5), [low, Signal::Depleted]);
        assert_eq!(falls(&alert_state, -5, -6), []);
        alert_state.alerts[0].enabled = false;
        assert_eq!(falls(&alert_state, 50, 1), []);
        assert_eq!(falls(&alert_state, 1, 0), [Signal::Depleted]);
    }

    #[test]
    fn percent_is_of_what_came_in_last_and_rounds_down() {
        let mut alert_state = AlertState::default();
        alert_state.refill(amount(999));
        let twenty = alert(20 * 10_i128.pow(DECIMALS), Unit::Percent);
        assert_eq!(twenty.level(alert_state.refilled), amount(199));
        assert_eq!(alert_state.set_alert(twenty), Some(()));
        assert_eq!(alert_state.crossings(amount(999), amount(200)), []);
        assert_eq!(alert_state.crossings(amount(200), amount(199)).len(), 1);
        alert_state.refill(amount(-7));
        assert_eq!(alert_state.refilled, Amount::ZERO);
        for n in 0..9 {
            assert_eq!(alert_state.set_alert(alert(n, Unit::Credits)), Some(()));
        }
        assert_eq!(alert_state.set_alert(alert(9, Unit::Credits)), None);
        assert_eq!(alert_state.set_alert(alert(8, Unit::Credits)), Some(()));
        assert_eq!(alert_state.alerts.len(), MAX_ALERTS);
    }

    /// An alert that remembers whether it is armed.
    struct ArmedAlert {
        percent: bool,
        threshold: i128,
        armed: bool,
    }

    impl ArmedAlert {
        fn level(&self, refilled: i128) -> i128 {
            match self.percent {
                true => refilled.max(0) * self.threshold / 100,
                false => self.threshold,
            }
        }
    }

    /// A request for a top-up in the naive model's history.
    struct PastRequest {
        at: i64,
        credits: i128,
        failed: bool,
        answered: bool,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Spend(i128),
        Gift(i128),
        Purchase(i128),
        /// The request so far back fails, perhaps again.
        Fail(usize),
        Maintain,
        Wait(i64),
        Set(i128, bool, i128, Option<i128>, bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..40_i128).prop_map(Step::Spend),
            1 => (1..30_i128).prop_map(Step::Gift),
            2 => (1..60_i128).prop_map(Step::Purchase),
            2 => (0..3_usize).prop_map(Step::Fail),
            2 => Just(Step::Maintain),
            3 => prop_oneof![0..3 * MINUTE, 5 * MINUTE..15 * MINUTE, DAY / 3..2 * DAY].prop_map(Step::Wait),
            1 => (0..30_i128, any::<bool>(), 1..60_i128, prop::option::of(0..150_i128), any::<bool>())
                .prop_map(|(threshold, to, credits, max, on)| Step::Set(threshold, to, credits, max, on)),
        ];
        prop::collection::vec(step, 1..80)
    }

    proptest! {
        /// Every alert is told once on crossing, until the balance has been above.
        #[test]
        fn alerts_as_a_naive_model_has_them(
            thresholds in prop::collection::vec((0..100_i128, any::<bool>()), 0..5),
            moves in prop::collection::vec((-60..60_i128, any::<bool>()), 0..60),
        ) {
            let mut alert_state = AlertState::default();
            let mut model: Vec<ArmedAlert> = Vec::new();
            for (threshold, percent) in thresholds {
                let known = model.iter().any(|one| one.percent == percent && one.threshold == threshold);
                if !known {
                    model.push(ArmedAlert { percent, threshold, armed: false });
                }
                let (scale, unit) = if percent { (10_i128.pow(DECIMALS), Unit::Percent) } else { (1, Unit::Credits) };
                alert_state.set_alert(alert(threshold * scale, unit));
            }
            let (mut balance, mut refilled) = (0, 0);
            for (change, comes_in) in moves {
                let before = balance;
                balance += change;
                if change > 0 && comes_in {
                    refilled = balance;
                    alert_state.refill(amount(balance));
                }
                let mut told = 0;
                for one in &mut model {
                    let level = one.level(refilled);
                    if balance > level {
                        one.armed = true;
                    } else if one.armed && balance < before {
                        one.armed = false;
                        told += 1;
                    }
                }
                let depleted = usize::from(before > 0 && balance <= 0);
                let signals = alert_state.crossings(amount(before), amount(balance));
                prop_assert_eq!(signals.len(), told + depleted, "{:?} of {} after {}", signals, balance, before);
            }
        }

        /// The end of a grant is told once for each notice, by the first write at or after its moment.
        #[test]
        fn notices_as_a_naive_model_has_them(
            grants in prop::collection::vec((0..20_i64, 1..40_i64, 0..3_usize), 1..6),
            notices in prop::collection::vec(1..30_i32, 0..4), kinds in 1..8_usize,
            later in prop::collection::vec(1..30_i32, 0..4), changes_at in 0..60_usize,
            writes in prop::collection::vec((0..DAY, 0..4_u8), 1..60),
        ) {
            let all = [Kind::Included, Kind::Promotional, Kind::Purchased];
            let kinds: Vec<Kind> = all.iter().enumerate().filter(|(n, _)| kinds >> n & 1 == 1).map(|(_, kind)| *kind).collect();
            let grants: Vec<Grant> = grants.into_iter().enumerate().map(|(n, (start, lasts, kind))| Grant {
                id: Uuid::from_u128(n as u128 + 1),
                kind: all[kind],
                priority: 0,
                effective_at: Moment(start * DAY),
                expires_at: Some(Moment((start + lasts) * DAY)),
                applies_to: None,
                revoked: false,
                remaining: amount(7),
                held: Amount::ZERO,
                waiting: Amount::ZERO,
                deferred: Amount::ZERO,
            }).collect();
            let mut alert_state = AlertState::default();
            let mut told: Vec<(Uuid, i32)> = Vec::new();
            let first = Notice { days: notices.clone(), kinds: kinds.clone() };
            let mut noted = alert_state.next_notice(&grants, Moment(0), Some(&first));
            let mut now = Moment(0);
            for (nth, (waits, every)) in writes.into_iter().enumerate() {
                now = Moment(now.0 + waits);
                let days = if nth < changes_at { &notices } else { &later };
                let notice = Notice { days: days.clone(), kinds: kinds.clone() };
                if nth == changes_at {
                    noted = alert_state.next_notice(&grants, now, Some(&notice));
                }
                // A debit does not look at notices before their moment.
                if every > 0 && noted.is_none_or(|at| at > now) {
                    let missed = alert_state.clone().expiring(&grants, now, Some(&notice));
                    prop_assert!(missed.is_empty(), "{:?} at {:?}, noted {:?}", missed, now, noted);
                    continue;
                }
                let mut expected: Vec<(Uuid, i32)> = Vec::new();
                for grant in grants.iter().filter(|grant| grant.live(now) && kinds.contains(&grant.kind)) {
                    // Announced with fewer days before its end, it is not announced with more.
                    let fewest = told.iter().filter(|(id, _)| *id == grant.id).map(|(_, days)| *days).min();
                    for days in 1..30 {
                        let due = now.0 + i64::from(days) * DAY >= grant.expires_at.unwrap().0;
                        if due && notice.days.contains(&days) && fewest.is_none_or(|fewest| days < fewest) {
                            expected.push((grant.id, days));
                        }
                    }
                }
                let mut real: Vec<(Uuid, i32)> = alert_state.expiring(&grants, now, Some(&notice)).iter().map(|one| (one.grant, one.days)).collect();
                real.sort_unstable();
                prop_assert_eq!(&real, &expected);
                told.extend(expected);
                noted = alert_state.next_notice(&grants, now, Some(&notice));
                prop_assert!(noted.is_none_or(|at| at > now));
            }
            let mut once = told.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), told.len());
            // It forgets grants that are gone.
            alert_state.expiring(&[], now, None);
            prop_assert!(alert_state.noticed.is_empty());
        }

        /// Top-ups are asked for, and caps told, when a model that keeps the whole history does so.
        #[test]
        fn topups_as_a_naive_model_has_them(
            threshold in 0..30_i128, to_balance in any::<bool>(), credits in 1..60_i128,
            max in prop::option::of(0..150_i128), steps in steps(),
        ) {
            let refill = |threshold, to: bool, credits| match to {
                true => Refill::ToBalance(amount(threshold + credits)),
                false => Refill::Credits(amount(credits)),
            };
            let mut real = topup(threshold, refill(threshold, to_balance, credits), max);
            let (mut threshold, mut to_balance, mut credits, mut max, mut enabled) = (threshold, to_balance, credits, max, true);
            let mut history: Vec<PastRequest> = Vec::new();
            let mut capped: Vec<i64> = Vec::new();
            let mut failed_at: Option<i64> = None;
            let (mut balance, mut now) = (100_i128, 0_i64);
            let mut noted = None;
            for step in steps {
                let mut asks = TopUpTrigger::Always;
                let (maintains, spends) = (matches!(step, Step::Maintain), matches!(step, Step::Spend(_)));
                match step {
                    Step::Spend(some) => balance -= some,
                    Step::Gift(some) => { balance += some; asks = TopUpTrigger::Never }
                    Step::Purchase(some) => {
                        balance += some;
                        asks = TopUpTrigger::Never;
                        real.in_flight = None;
                        history.iter_mut().for_each(|one| one.answered = true);
                    }
                    Step::Fail(back) => {
                        asks = TopUpTrigger::Never;
                        let Some(at) = history.len().checked_sub(back + 1) else { continue };
                        let one = &mut history[at];
                        if !one.failed {
                            real.fail(Uuid::from_u128(at as u128), amount(one.credits), Moment(one.at), Moment(now), day(Moment(now)));
                            (one.failed, failed_at) = (true, Some(now));
                        }
                    }
                    Step::Maintain => {}
                    Step::Wait(some) => { now += some; continue }
                    Step::Set(a, b, c, d, on) => {
                        (threshold, to_balance, credits, max, enabled) = (a, b, c, d, on);
                        real = TopUp {
                            in_flight: real.in_flight,
                            waits_until: real.waits_until,
                            asked: real.asked,
                            enabled,
                            ..topup(a, refill(a, b, c), d)
                        };
                    }
                }
                // The model, from all that has ever happened.
                let today = now / DAY;
                let needed = if to_balance { threshold + credits - balance } else { credits };
                let flying = history.iter().any(|one| !one.failed && !one.answered);
                let cooling = failed_at.is_some_and(|at| now < at + 10 * MINUTE);
                let asked: i128 = history.iter().filter(|one| !one.failed && one.at / DAY == today).map(|one| one.credits).sum();
                let exceeds = max.is_some_and(|max| asked + needed > max);
                let wanted = enabled && balance <= threshold && !flying && !cooling && !(exceeds && capped.contains(&today));
                prop_assert_eq!(real.is_wanted(amount(balance), Moment(now)), wanted);
                // What only time has brought about is noted beforehand, so that `maintain` finds it.
                prop_assert!(!maintains || !wanted || noted.is_some_and(|at| at <= Moment(now)));
                // A debit that tells nothing leaves the note as it is.
                if !spends || wanted {
                    noted = real.next(amount(balance), Moment(now));
                }
                if asks == TopUpTrigger::Never || !wanted {
                    continue;
                }
                match real.ask(amount(balance), Moment(now), day(Moment(now))) {
                    Signal::TopUp { credits, .. } => {
                        prop_assert!(!exceeds);
                        prop_assert_eq!(credits, amount(needed));
                        real.in_flight = Some(Uuid::from_u128(history.len() as u128));
                        history.push(PastRequest { at: now, credits: needed, failed: false, answered: false });
                    }
                    Signal::Capped { requested, resets_at, .. } => {
                        prop_assert!(exceeds);
                        prop_assert_eq!(requested, amount(asked));
                        prop_assert_eq!(resets_at, Moment((today + 1) * DAY));
                        capped.push(today);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
                prop_assert!(!real.is_wanted(amount(balance), Moment(now)), "asked again at once");
                noted = real.next(amount(balance), Moment(now));
            }
        }
    }
}
