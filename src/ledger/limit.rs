//! Spend limits: so many credits per scope and calendar period.
//!
//! A scope is `user:alice` or `key:abc`, named by whoever spends; `user:*` or `key:*`, which give each
//! user or key a cap of its own (a limit of its own comes before that one); or `action:image.*`, which
//! is matched by the action itself.
//!
//! What is spent under a limit is counted where the limit is, in the wallet. Of the users or keys under
//! `user:*` or `key:*`, of which there may be many, the first few of a period are counted there, the
//! others elsewhere.

use std::fmt;
use std::str::FromStr;

use jiff::Span;
use jiff::civil::DateTime;

use super::grant::matches;
use super::{Amount, Moment, period};

/// More limits than this a wallet does not take: a debit reads them all.
pub const MAX_LIMITS: usize = 100;

/// So many users or keys are counted with a limit for each, unless their names are too long.
const MAX_COUNTS: usize = 16;
const MAX_NAME: usize = 64;

/// A calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Every {
    Hour,
    Day,
    /// From Monday.
    Week,
    Month,
}

impl Every {
    pub const ALL: [Every; 4] = [Every::Hour, Every::Day, Every::Week, Every::Month];

    pub const fn as_str(self) -> &'static str {
        match self {
            Every::Hour => "hour",
            Every::Day => "day",
            Every::Week => "week",
            Every::Month => "month",
        }
    }

    /// The period that a moment lies in, as clocks of this time zone show it: an hour that they show
    /// twice is one period, a day has 23 to 25 hours. `None` for a zone that is not known, and beyond
    /// the year 9999.
    pub fn period(self, zone: &str, at: Moment) -> Option<Period> {
        let zone = period::zone(zone)?;
        let local = zone.to_datetime(at.timestamp()?);
        let start = self.start(local)?;
        let next = match self {
            Every::Hour => Span::new().hours(1),
            Every::Day => Span::new().days(1),
            Every::Week => Span::new().weeks(1),
            Every::Month => Span::new().months(1),
        };
        // A local time that is skipped is the first one after the gap, one that comes twice the first.
        let moment = |local: DateTime| Moment::of(zone.to_timestamp(local).ok()?);
        Some(Period {
            start: moment(start)?,
            end: moment(start.checked_add(next).ok()?)?,
        })
    }

    /// When the period began, as the clocks show it.
    fn start(self, local: DateTime) -> Option<DateTime> {
        let date = local.date();
        let date = match self {
            Every::Hour => {
                let hour = jiff::civil::time(local.hour(), 0, 0, 0);
                return Some(date.to_datetime(hour));
            }
            Every::Day => date,
            Every::Week => {
                let days = i64::from(date.weekday().to_monday_zero_offset());
                date.checked_sub(Span::new().days(days)).ok()?
            }
            Every::Month => date.first_of_month(),
        };
        Some(date.to_datetime(jiff::civil::Time::midnight()))
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPeriod;

impl FromStr for Every {
    type Err = UnknownPeriod;
    fn from_str(text: &str) -> Result<Every, UnknownPeriod> {
        let known = Every::ALL.into_iter().find(|every| every.as_str() == text);
        known.ok_or(UnknownPeriod)
    }
}

/// From `start` on and before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub start: Moment,
    pub end: Moment,
}

/// At most so many credits, spent and held together, in each period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub scope: String,
    pub every: Every,
    pub cap: Amount,
    /// What was counted: of a limit for each by user or key, of others under its own scope.
    pub counts: Vec<Count>,
    /// In the period that began then, some of a limit for each are counted elsewhere.
    pub spilled: Option<Moment>,
}

/// What was spent under a scope in the period that began then, less what was refunded of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    pub scope: String,
    pub since: Moment,
    pub credits: Amount,
}

/// A limit that a spend counts under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applying {
    /// What is counted: the user or key that spends, or the limit's own pattern of actions.
    pub scope: String,
    pub every: Every,
    pub cap: Amount,
    /// Its place among the wallet's limits.
    pub place: usize,
}

impl Applying {
    /// Does what is spent on this action, in the name of these scopes, count here?
    pub fn counts(&self, action: &str, scopes: &[String]) -> bool {
        match self.scope.strip_prefix("action:") {
            Some(pattern) => matches(pattern, action),
            None => scopes.contains(&self.scope),
        }
    }
}

/// Why a text is no scope.
pub fn check_scope(scope: &str) -> Result<(), &'static str> {
    let Some((what, name)) = scope.split_once(':') else {
        return Err("it is none of user:..., key:... and action:...");
    };
    let beginning = name.strip_suffix('*').unwrap_or(name);
    match what {
        "user" | "key" if name == "*" => Ok(()),
        "user" | "key" if name.contains('*') => Err("* stands for all, or is not there"),
        "action" if beginning.contains('*') => Err("* may stand at the end only"),
        "user" | "key" | "action" if name.is_empty() => Err("it names nobody"),
        "user" | "key" | "action" => Ok(()),
        _ => Err("it is none of user:..., key:... and action:..."),
    }
}

/// Forgets who users and keys are: their own limits, and what they have spent under one for each, which
/// starts from zero. How many limits had something to forget.
pub fn forget_names(limits: &mut Vec<Limit>) -> usize {
    let mut forgotten = 0;
    limits.retain_mut(|limit| {
        if limit.scope.starts_with("action:") {
            return true;
        }
        let each = limit.each().is_some();
        if !each || !limit.counts.is_empty() || limit.spilled.is_some() {
            forgotten += 1;
        }
        (limit.counts, limit.spilled) = (Vec::new(), None);
        each
    });
    forgotten
}

/// The limits that a spend on this action, in the name of these scopes, counts under.
pub fn applying(limits: &[Limit], action: &str, scopes: &[String]) -> Vec<Applying> {
    let mut found: Vec<Applying> = Vec::new();
    for (place, limit) in limits.iter().enumerate() {
        let on = |scope: &str| Applying {
            scope: scope.to_owned(),
            every: limit.every,
            cap: limit.cap,
            place,
        };
        if let Some(pattern) = limit.scope.strip_prefix("action:") {
            if matches(pattern, action) {
                found.push(on(&limit.scope));
            }
            continue;
        }
        for scope in scopes {
            let once = !found
                .iter()
                .any(|a| a.scope == *scope && a.every == limit.every);
            if once && covers(limits, limit, scope) {
                found.push(on(scope));
            }
        }
    }
    found
}

/// Does this limit count what is spent in the name of this user or key?
fn covers(limits: &[Limit], limit: &Limit, scope: &str) -> bool {
    match limit.each() {
        None => limit.scope == scope,
        Some(beginning) => {
            let own = |other: &Limit| {
                other.each().is_none() && other.scope == scope && other.every == limit.every
            };
            scope.starts_with(beginning) && !limits.iter().any(own)
        }
    }
}

impl Limit {
    /// `user:` of `user:*`: each user has a cap of its own.
    pub fn each(&self) -> Option<&str> {
        Limit::each_of(&self.scope)
    }

    /// The same of a scope.
    pub fn each_of(scope: &str) -> Option<&str> {
        match scope {
            "user:*" | "key:*" => scope.strip_suffix('*'),
            _ => None,
        }
    }

    /// A limit under which nothing was counted yet.
    pub fn new(scope: &str, every: Every, cap: Amount) -> Limit {
        Limit {
            scope: scope.to_owned(),
            every,
            cap,
            counts: Vec::new(),
            spilled: None,
        }
    }

    fn count(&self, scope: &str) -> Option<&Count> {
        self.counts.iter().find(|count| count.scope == scope)
    }

    /// Is all that was spent under this scope in the period that began then counted here?
    pub fn knows(&self, scope: &str, since: Moment) -> bool {
        self.count(scope).is_some() || self.spilled != Some(since)
    }

    /// Takes a scope in, where there is room, to be counted here in the period that began then, which
    /// is the newest. Otherwise it has to be counted elsewhere until that period is over.
    pub fn takes(&mut self, scope: &str, since: Moment) -> bool {
        if self.each().is_none() || self.count(scope).is_some() {
            return true;
        }
        if self.spilled != Some(since) {
            self.counts.retain(|count| count.since >= since);
            if self.counts.len() < MAX_COUNTS && scope.len() <= MAX_NAME {
                return true;
            }
            self.spilled = Some(since);
        }
        false
    }

    /// What was counted here in the period that began then.
    pub fn used(&self, scope: &str, since: Moment) -> Amount {
        let now = self.count(scope).filter(|count| count.since == since);
        now.map_or(Amount::ZERO, |count| count.credits)
    }

    /// Counts a spend in the period that began then.
    pub fn add(&mut self, scope: &str, since: Moment, credits: Amount) {
        match self.counts.iter_mut().find(|count| count.scope == scope) {
            Some(count) if count.since == since => count.credits += credits,
            Some(count) => (count.since, count.credits) = (since, credits),
            None => self.counts.push(Count {
                scope: scope.to_owned(),
                since,
                credits,
            }),
        }
    }

    /// Takes a spend of that period back, if it is still the one that is counted.
    pub fn take_back(&mut self, scope: &str, since: Moment, credits: Amount) {
        let known = self
            .counts
            .iter_mut()
            .find(|count| count.scope == scope && count.since == since);
        if let Some(count) = known {
            count.credits -= credits;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn period(every: &str, zone: &str, at: &str) -> String {
        let every: Every = every.parse().unwrap();
        let period = every.period(zone, Moment::parse(at).unwrap()).unwrap();
        format!("{} {}", period.start, period.end)
    }

    #[test]
    fn calendar_periods() {
        let at = "2026-11-22T14:07:00.000001Z";
        for (every, expected) in [
            ("hour", "2026-11-22T14:00:00Z 2026-11-22T15:00:00Z"),
            ("day", "2026-11-22T00:00:00Z 2026-11-23T00:00:00Z"),
            ("week", "2026-11-16T00:00:00Z 2026-11-23T00:00:00Z"),
            ("month", "2026-11-01T00:00:00Z 2026-12-01T00:00:00Z"),
        ] {
            assert_eq!(period(every, "UTC", at), expected);
        }
        // Monday is the first day, December the last month, and Kathmandu 45 minutes beside.
        assert_eq!(
            period("week", "UTC", "2026-11-23T00:00:00Z"),
            "2026-11-23T00:00:00Z 2026-11-30T00:00:00Z"
        );
        assert_eq!(
            period("month", "America/New_York", "2027-01-01T04:59:59Z"),
            "2026-12-01T05:00:00Z 2027-01-01T05:00:00Z"
        );
        assert_eq!(
            period("hour", "Asia/Kathmandu", at),
            "2026-11-22T13:15:00Z 2026-11-22T14:15:00Z"
        );
    }

    #[test]
    fn clocks_change() {
        // Forward in New York: no 02:00, and a day of 23 hours.
        assert_eq!(
            period("day", "America/New_York", "2026-03-08T12:00:00Z"),
            "2026-03-08T05:00:00Z 2026-03-09T04:00:00Z"
        );
        assert_eq!(
            period("hour", "America/New_York", "2026-03-08T06:30:00Z"),
            "2026-03-08T06:00:00Z 2026-03-08T07:00:00Z"
        );
        // Back in Berlin: the hour from 02:00 comes twice, and is one.
        for at in ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"] {
            assert_eq!(
                period("hour", "Europe/Berlin", at),
                "2026-10-25T00:00:00Z 2026-10-25T02:00:00Z"
            );
        }
        // Forward at midnight in Cairo: the day begins at one o'clock.
        assert_eq!(
            period("day", "Africa/Cairo", "2026-04-24T10:00:00Z"),
            "2026-04-23T22:00:00Z 2026-04-24T21:00:00Z"
        );
    }

    #[test]
    fn scopes() {
        for good in [
            "user:alice",
            "key:*",
            "user:*",
            "action:image.*",
            "action:*",
            "action:upscale",
            "user:a:b",
        ] {
            assert_eq!(check_scope(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "alice",
            "team:red",
            "user:",
            "user:al*",
            "key:**",
            "action:",
            "action:*.x",
            "action:a*b*",
            ":x",
        ] {
            assert!(check_scope(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_limit_of_its_own_comes_before_the_one_for_each() {
        let limit = |scope: &str, every, cap| Limit::new(scope, every, Amount::from_units(cap));
        let limits = [
            limit("user:*", Every::Day, 10),
            limit("user:alice", Every::Day, 100),
            limit("user:alice", Every::Month, 500),
            limit("action:image.*", Every::Day, 7),
            limit("key:k", Every::Hour, 1),
        ];
        let found = |action: &str, scopes: &[&str]| -> Vec<String> {
            let scopes: Vec<String> = scopes.iter().map(|s| s.to_string()).collect();
            let found = applying(&limits, action, &scopes);
            let say = |a: Applying| format!("{} {} {}", a.scope, a.every, a.cap.units());
            found.into_iter().map(say).collect()
        };
        assert_eq!(
            found("text", &["user:bob", "user:bob"]),
            ["user:bob day 10"]
        );
        assert_eq!(
            found("image.big", &["key:k", "user:alice", "team:x"]),
            [
                "user:alice day 100",
                "user:alice month 500",
                "action:image.* day 7",
                "key:k hour 1"
            ]
        );
        assert_eq!(found("text", &[]), [""; 0]);
    }

    #[test]
    fn the_first_few_of_each_are_counted_here() {
        let mut limit = Limit::new("user:*", Every::Day, Amount::ZERO);
        let (one, credits) = (Moment(1), Amount::from_units(5));
        let user = |n: usize| format!("user:{n}");
        for n in 0..MAX_COUNTS {
            assert!(limit.takes(&user(n), one));
            limit.add(&user(n), one, credits);
        }
        assert!(limit.knows("user:new", one));
        assert!(!limit.takes("user:new", one) && !limit.knows("user:new", one));
        assert!(limit.takes(&user(3), one));
        limit.add(&user(3), one, credits);
        limit.take_back(&user(3), one, Amount::from_units(1));
        assert_eq!(limit.used(&user(3), one), Amount::from_units(9));
        // The next period: what is not spent any more makes room.
        let two = Moment(2);
        assert_eq!(limit.used(&user(3), two), Amount::ZERO);
        assert!(limit.takes(&user(3), two));
        limit.add(&user(3), two, credits);
        assert!(limit.knows("user:new", two) && limit.takes("user:new", two));
        limit.add("user:new", two, credits);
        assert_eq!(limit.counts.len(), 2);
        limit.take_back(&user(3), one, credits);
        assert_eq!(limit.used(&user(3), two), credits);
        assert!(!limit.takes(&"long".repeat(20), two) && limit.takes(&user(3), two));
    }

    proptest! {
        #[test]
        fn periods_hold_their_moment_and_follow_each_other(
            at in -30_000_000_000_000_000..200_000_000_000_000_000_i64,
            zone in prop::sample::select(&["UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "America/Havana", "Africa/Casablanca"][..]),
            every in prop::sample::select(&Every::ALL[..]),
        ) {
            let period = every.period(zone, Moment(at)).unwrap();
            prop_assert!(period.start.0 <= at && at < period.end.0);
            for other in [period.start.0, period.end.0 - 1] {
                prop_assert_eq!(every.period(zone, Moment(other)), Some(period));
            }
            prop_assert_eq!(every.period(zone, period.end).map(|next| next.start), Some(period.end));
        }
    }
}
