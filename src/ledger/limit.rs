//! Spend limits: the most credits or calls that a scope may use in a period.
//!
//! A scope is `user:alice` or `key:abc`, named by whoever spends; `user:*` or `key:*`, which give each
//! user or key a cap of its own (a limit of its own comes before that one); or `action:image.*`, which
//! is matched by the action itself. A limit is known by its scope, its period and what it counts.
//!
//! What was used under a limit is counted where the limit is, in the wallet. Of the users or keys under
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

/// This many users or keys are counted with a limit for each, unless their names are too long.
const MAX_USES: usize = 16;
const MAX_NAME: usize = 64;

/// A call, as an amount that is counted.
pub const CALL: Amount = Amount::from_units(10_000_000_000);

/// What `warn_at` is a share of.
const WHOLE: i128 = 10_000_000_000;

const MINUTES_A_DAY: u32 = 24 * 60;
const MAX_WINDOW: u32 = 366 * MINUTES_A_DAY;

/// The periods of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Calendar {
    Hour,
    Day,
    /// From Monday.
    Week,
    Month,
    Year,
}

impl Calendar {
    pub const ALL: [Calendar; 5] = [
        Calendar::Hour,
        Calendar::Day,
        Calendar::Week,
        Calendar::Month,
        Calendar::Year,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Calendar::Hour => "hour",
            Calendar::Day => "day",
            Calendar::Week => "week",
            Calendar::Month => "month",
            Calendar::Year => "year",
        }
    }

    /// The period that a moment lies in, as clocks of this time zone show it: an hour that they show
    /// twice is one period, a day has 23 to 25 hours. `None` for a zone that is not known, and beyond
    /// the year 9999.
    pub fn period(self, zone: &str, at: Moment) -> Option<CalendarPeriod> {
        let zone = period::zone(zone)?;
        let local = zone.to_datetime(at.timestamp()?);
        let start = self.start(local)?;
        let next = match self {
            Calendar::Hour => Span::new().hours(1),
            Calendar::Day => Span::new().days(1),
            Calendar::Week => Span::new().weeks(1),
            Calendar::Month => Span::new().months(1),
            Calendar::Year => Span::new().years(1),
        };
        // A local time that is skipped is the first one after the gap, one that comes twice the first.
        let moment = |local: DateTime| Moment::of(zone.to_timestamp(local).ok()?);
        Some(CalendarPeriod {
            start: moment(start)?,
            end: moment(start.checked_add(next).ok()?)?,
        })
    }

    /// When the period began, as the clocks show it.
    fn start(self, local: DateTime) -> Option<DateTime> {
        let date = local.date();
        let date = match self {
            Calendar::Hour => {
                let hour = jiff::civil::time(local.hour(), 0, 0, 0);
                return Some(date.to_datetime(hour));
            }
            Calendar::Day => date,
            Calendar::Week => {
                let days = i64::from(date.weekday().to_monday_zero_offset());
                date.checked_sub(Span::new().days(days)).ok()?
            }
            Calendar::Month => date.first_of_month(),
            Calendar::Year => date.first_of_year(),
        };
        Some(date.to_datetime(jiff::civil::Time::midnight()))
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no period of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCalendar;

impl FromStr for Calendar {
    type Err = NotCalendar;
    fn from_str(text: &str) -> Result<Calendar, NotCalendar> {
        let mut all = Calendar::ALL.into_iter();
        all.find(|one| one.as_str() == text).ok_or(NotCalendar)
    }
}

/// From `start` on and before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalendarPeriod {
    pub start: Moment,
    pub end: Moment,
}

/// The period of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Every {
    Calendar(Calendar),
    /// One period without an end, from when the limit was set.
    Ever,
    /// This many minutes, from the first use after the last window closed.
    Window(u32),
}

impl Every {
    /// The periods that begin whether or not anything is used.
    pub const NAMED: [Every; 6] = [
        Every::Calendar(Calendar::Hour),
        Every::Calendar(Calendar::Day),
        Every::Calendar(Calendar::Week),
        Every::Calendar(Calendar::Month),
        Every::Calendar(Calendar::Year),
        Every::Ever,
    ];

    const fn name(self) -> Option<&'static str> {
        match self {
            Every::Calendar(calendar) => Some(calendar.as_str()),
            Every::Ever => Some("ever"),
            Every::Window(_) => None,
        }
    }

    /// The calendar period that a moment lies in; the window that opens at that moment; of `ever` all
    /// that follows it. `None` where there is none, for a zone that is not known, and beyond the year
    /// 9999.
    pub fn period(self, zone: &str, at: Moment) -> Option<LimitPeriod> {
        let (start, end) = match self {
            Every::Calendar(calendar) => {
                let period = calendar.period(zone, at)?;
                (period.start, Some(period.end))
            }
            Every::Ever => (at, None),
            Every::Window(minutes) => (at, Some(at.plus_seconds(i64::from(minutes) * 60)?)),
        };
        Some(LimitPeriod { start, end })
    }

    /// A window of this many minutes; `None` where there is none.
    pub fn window(minutes: u32) -> Option<Every> {
        (1..=MAX_WINDOW)
            .contains(&minutes)
            .then_some(Every::Window(minutes))
    }
}

/// One text for each: `48 hours` is `2 days`.
impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Every::Window(minutes) = *self else {
            return f.write_str(self.name().unwrap_or_default());
        };
        // A single hour or day is a word of the calendar.
        let many = |unit: u32| minutes % unit == 0 && minutes > unit;
        if many(MINUTES_A_DAY) {
            write!(f, "{} days", minutes / MINUTES_A_DAY)
        } else if many(60) {
            write!(f, "{} hours", minutes / 60)
        } else {
            write!(f, "{minutes} minute{}", if minutes == 1 { "" } else { "s" })
        }
    }
}

/// Why a text names no period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotEvery {
    /// It is one calendar period; the calendar's word is this one.
    Calendar(&'static str),
    Other(&'static str),
}

impl FromStr for Every {
    type Err = NotEvery;
    fn from_str(text: &str) -> Result<Every, NotEvery> {
        let named = Every::NAMED.into_iter();
        if let Some(known) = named.into_iter().find(|every| every.name() == Some(text)) {
            return Ok(known);
        }
        let unknown = NotEvery::Other(
            "is none of hour, day, week, month, year, ever and windows such as 5 hours or 7 days",
        );
        let Some((number, unit)) = text.split_once(' ') else {
            return Err(unknown);
        };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(unknown);
        }
        let too_long = NotEvery::Other("is a window longer than 366 days");
        let (word, minutes) = match unit {
            "minute" | "minutes" => (None, Some(1)),
            "hour" | "hours" => (Some("hour"), Some(60)),
            "day" | "days" => (Some("day"), Some(MINUTES_A_DAY)),
            "week" | "weeks" => (Some("week"), Some(7 * MINUTES_A_DAY)),
            "month" | "months" => (Some("month"), None),
            "year" | "years" => (Some("year"), None),
            _ => return Err(unknown),
        };
        let count: u32 = number.parse().map_err(|_| too_long.clone())?;
        match (word, minutes, count) {
            (_, _, 0) => Err(NotEvery::Other("is no time at all")),
            (Some(word), _, 1) => Err(NotEvery::Calendar(word)),
            (_, None, _) => Err(NotEvery::Other(
                "is not a valid window: months and years differ in length, count days",
            )),
            (_, Some(minutes), _) => count
                .checked_mul(minutes)
                .and_then(Every::window)
                .ok_or(too_long),
        }
    }
}

/// From `start` on and before `end`; `None`: without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitPeriod {
    pub start: Moment,
    pub end: Option<Moment>,
}

impl LimitPeriod {
    pub fn holds(&self, at: Moment) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counts {
    Credits,
    /// Debits and authorizations, each once.
    Calls,
}

impl Counts {
    pub const ALL: [Counts; 2] = [Counts::Credits, Counts::Calls];

    pub const fn as_str(self) -> &'static str {
        match self {
            Counts::Credits => "credits",
            Counts::Calls => "calls",
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Counts {
    type Err = ();
    fn from_str(text: &str) -> Result<Counts, ()> {
        let known = Counts::ALL.into_iter();
        known.into_iter().find(|one| one.as_str() == text).ok_or(())
    }
}

/// At most so much, used and held together, in each period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub scope: String,
    pub every: Every,
    pub counts: Counts,
    /// Credits, or calls as whole numbers.
    pub cap: Amount,
    /// The share of the cap at which a warning is due: more than 0, at most 1.
    pub warn_at: Amount,
    /// A call has to name a scope that it matches.
    pub required: bool,
    /// Where `ever` begins.
    pub start: Option<Start>,
    /// What was used: of a limit for each by user or key, of others under its own scope.
    pub uses: Vec<Use>,
    /// Some of a limit for each are counted elsewhere: in the period that began then; of windows,
    /// until then.
    pub spilled: Option<Moment>,
}

/// A place in the history of a wallet: the moment, and the number of the last ledger row before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub at: Moment,
    pub after: u64,
}

/// What was used under a scope in the period that began then, less what was refunded of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    pub scope: String,
    pub since: Moment,
    /// Ledger rows up to this number do not count.
    pub after: u64,
    pub used: Amount,
    /// The warning was told.
    pub warned: bool,
    /// That the cap is reached was told.
    pub reached: bool,
    /// No use has opened this window: it only remembers that a refusal was told.
    pub unopened: bool,
}

/// An event of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitNotice {
    Warning,
    Reached,
}

/// A limit that a use counts under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicableLimit {
    /// What is counted: the user or key that spends, or the limit's own pattern of actions.
    pub scope: String,
    /// Its place among the wallet's limits.
    pub place: usize,
}

impl ApplicableLimit {
    /// Whether what is spent on this action, under these scopes, counts here.
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

/// Forgets who users and keys are: their own limits, and what they have used under one for each, which
/// starts from zero. How many limits had something to forget.
pub fn forget_names(limits: &mut Vec<Limit>) -> usize {
    let mut forgotten = 0;
    limits.retain_mut(|limit| {
        if limit.scope.starts_with("action:") {
            return true;
        }
        let each = limit.each().is_some();
        if !each || !limit.uses.is_empty() || limit.spilled.is_some() {
            forgotten += 1;
        }
        (limit.uses, limit.spilled) = (Vec::new(), None);
        each
    });
    forgotten
}

/// The limits that a use of this action, in the name of these scopes, counts under.
pub fn applying(limits: &[Limit], action: &str, scopes: &[String]) -> Vec<ApplicableLimit> {
    let mut found: Vec<ApplicableLimit> = Vec::new();
    for (place, limit) in limits.iter().enumerate() {
        let on = |scope: &str| ApplicableLimit {
            scope: scope.to_owned(),
            place,
        };
        if let Some(pattern) = limit.scope.strip_prefix("action:") {
            if matches(pattern, action) {
                found.push(on(&limit.scope));
            }
            continue;
        }
        for (nth, scope) in scopes.iter().enumerate() {
            let again = scopes.iter().take(nth).any(|before| before == scope);
            if !again && covers(limits, limit, scope) {
                found.push(on(scope));
            }
        }
    }
    found
}

/// Whether this limit counts what this user or key spends.
fn covers(limits: &[Limit], limit: &Limit, scope: &str) -> bool {
    match limit.each() {
        None => limit.scope == scope,
        Some(beginning) => {
            let own = |other: &Limit| other.scope == scope && other.is_like(limit);
            scope.starts_with(beginning) && !limits.iter().any(own)
        }
    }
}

/// The first limit that asks for a scope which these do not name.
pub fn missing_scope<'a>(limits: &'a [Limit], scopes: &[String]) -> Option<&'a Limit> {
    let named = |beginning: &str| scopes.iter().any(|scope| scope.starts_with(beginning));
    let mut required = limits.iter().filter(|limit| limit.required);
    required.find(|limit| limit.each().is_some_and(|beginning| !named(beginning)))
}

impl Limit {
    /// A limit under which nothing was counted yet.
    pub fn new(scope: &str, every: Every, counts: Counts, cap: Amount) -> Limit {
        Limit {
            scope: scope.to_owned(),
            every,
            counts,
            cap,
            warn_at: Amount::from_units(WHOLE / 10 * 8),
            required: false,
            start: None,
            uses: Vec::new(),
            spilled: None,
        }
    }

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

    /// Whether both have the same periods and count the same thing: credits, or calls.
    pub fn is_like(&self, other: &Limit) -> bool {
        (self.every, self.counts) == (other.every, other.counts)
    }

    /// What is counted here under a scope.
    pub fn use_of(&self, scope: &str) -> Option<&Use> {
        self.uses.iter().find(|one| one.scope == scope)
    }

    /// Whether what was used under this scope in the period of this moment is counted here.
    pub fn knows(&self, scope: &str, zone: &str, at: Moment) -> bool {
        self.use_of(scope).is_some() || !self.spills(zone, at)
    }

    /// Whether new scopes are counted elsewhere in the period of this moment.
    fn spills(&self, zone: &str, at: Moment) -> bool {
        match (self.spilled, self.every) {
            (None, _) => false,
            (Some(until), Every::Window(_)) => at < until,
            (Some(_), Every::Ever) => true,
            (Some(since), every) => {
                let period = every.period(zone, at);
                period.is_some_and(|period| period.start == since)
            }
        }
    }

    /// The period of what is counted.
    pub fn period_of(&self, one: &Use, zone: &str) -> Option<LimitPeriod> {
        self.every.period(zone, one.since)
    }

    /// The use that one of this moment adds to: `kept` where its period still runs, otherwise one that
    /// starts from zero. `seq` numbers the wallet's last ledger row. `None` where the calendar has no
    /// such period.
    pub fn current(
        &self,
        scope: &str,
        kept: Option<&Use>,
        zone: &str,
        at: Moment,
        seq: u64,
    ) -> Option<(Use, LimitPeriod)> {
        let (period, after) = match (self.every, self.start) {
            (Every::Ever, Some(start)) => {
                let period = Every::Ever.period(zone, start.at)?;
                (period, start.after)
            }
            (Every::Ever, None) => (Every::Ever.period(zone, at)?, seq),
            (Every::Window(_), _) => match kept.filter(|kept| !kept.unopened) {
                Some(kept) if self.period_of(kept, zone)?.holds(at) => {
                    (self.period_of(kept, zone)?, kept.after)
                }
                _ => (self.every.period(zone, at)?, seq),
            },
            (every, _) => (every.period(zone, at)?, 0),
        };
        let same = |kept: &&Use| !kept.unopened && kept.since == period.start;
        let current = kept.filter(same).cloned().unwrap_or_else(|| Use {
            scope: scope.to_owned(),
            since: period.start,
            after,
            used: Amount::ZERO,
            warned: false,
            reached: false,
            unopened: false,
        });
        Some((current, period))
    }

    /// Whether this use counts what the debit of that moment, with this number, has spent.
    pub fn counted(&self, one: &Use, zone: &str, at: Moment, seq: u64) -> bool {
        let period = self.period_of(one, zone);
        seq > one.after && !one.unopened && period.is_some_and(|period| period.holds(at))
    }

    /// Takes a scope in, where there is room, to be counted here in the period of this moment, which is
    /// the newest. Otherwise it has to be counted elsewhere until that period is over.
    pub fn takes(&mut self, scope: &str, zone: &str, at: Moment) -> bool {
        if self.each().is_none() || self.use_of(scope).is_some() {
            return true;
        }
        if !self.spills(zone, at) {
            let (every, mut uses) = (self.every, std::mem::take(&mut self.uses));
            let runs = |one: &Use| every.period(zone, one.since).is_some_and(|p| p.holds(at));
            uses.retain(runs);
            self.uses = uses;
            if self.uses.len() < MAX_USES && scope.len() <= MAX_NAME {
                return true;
            }
        }
        let Some(period) = self.every.period(zone, at) else {
            return false;
        };
        self.spilled = match self.every {
            Every::Window(_) => self.spilled.max(period.end),
            _ => Some(period.start),
        };
        false
    }

    /// Keeps what is counted here of a scope.
    pub fn put(&mut self, one: Use) {
        match self.uses.iter_mut().find(|kept| kept.scope == one.scope) {
            Some(kept) => *kept = one,
            None => self.uses.push(one),
        }
    }

    /// Forgets a scope, and what was counted of it.
    pub fn forget(&mut self, scope: &str) -> Option<Use> {
        let at = self.uses.iter().position(|one| one.scope == scope)?;
        Some(self.uses.remove(at))
    }

    /// What is used and held from which on a warning is due.
    pub fn warning(&self) -> Amount {
        let units = self.cap.units() * self.warn_at.units();
        Amount::from_units(units / WHOLE + i128::from(units % WHOLE != 0))
    }

    /// What has to be told when so much is used and held together, each once in a period.
    pub fn tell(&self, one: &mut Use, total: Amount) -> Vec<LimitNotice> {
        let mut told = Vec::new();
        if total >= self.warning() && !one.warned {
            one.warned = true;
            told.push(LimitNotice::Warning);
        }
        if total >= self.cap && !one.reached {
            one.reached = true;
            told.push(LimitNotice::Reached);
        }
        told
    }

    /// Changes cap and warning of a limit that has counted before. What was told stays told in its
    /// period, unless another cap or warning has put it out of reach again.
    pub fn change(&mut self, cap: Amount, warn_at: Amount, required: bool) {
        let changed = (self.cap, self.warn_at) != (cap, warn_at);
        (self.cap, self.warn_at, self.required) = (cap, warn_at, required);
        if changed {
            let warning = self.warning();
            for one in &mut self.uses {
                one.warned &= one.used >= warning;
                one.reached &= one.used >= cap;
            }
        }
    }
}

/// A limit that has no room.
pub struct ExceededLimit {
    pub scope: String,
    pub every: Every,
    pub counts: Counts,
    pub cap: Amount,
    /// When what was used no longer counts; `None`: never, or nothing was used.
    pub resets_at: Option<Moment>,
    pub used: Amount,
    pub held: Amount,
    pub needed: Amount,
}

impl ExceededLimit {
    /// What may still be used.
    pub fn room(&self) -> Amount {
        (self.cap - self.used - self.held).or_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn period(every: &str, zone: &str, at: &str) -> String {
        let every: Every = every.parse().unwrap();
        let period = every.period(zone, Moment::parse(at).unwrap()).unwrap();
        format!("{} {}", period.start, period.end.unwrap())
    }

    #[test]
    fn calendar_periods() {
        let at = "2026-11-22T14:07:00.000001Z";
        for (every, expected) in [
            ("hour", "2026-11-22T14:00:00Z 2026-11-22T15:00:00Z"),
            ("day", "2026-11-22T00:00:00Z 2026-11-23T00:00:00Z"),
            ("week", "2026-11-16T00:00:00Z 2026-11-23T00:00:00Z"),
            ("month", "2026-11-01T00:00:00Z 2026-12-01T00:00:00Z"),
            ("year", "2026-01-01T00:00:00Z 2027-01-01T00:00:00Z"),
            (
                "5 hours",
                "2026-11-22T14:07:00.000001Z 2026-11-22T19:07:00.000001Z",
            ),
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
        // Leap years have a day more, and February its 29th.
        assert_eq!(
            period("year", "Europe/Berlin", "2028-02-29T12:00:00Z"),
            "2027-12-31T23:00:00Z 2028-12-31T23:00:00Z"
        );
        assert_eq!(
            period("month", "UTC", "2028-02-29T23:59:59Z"),
            "2028-02-01T00:00:00Z 2028-03-01T00:00:00Z"
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
        // Back: one of 25. A window's days have 24.
        assert_eq!(
            period("day", "America/New_York", "2026-11-01T12:00:00Z"),
            "2026-11-01T04:00:00Z 2026-11-02T05:00:00Z"
        );
        assert_eq!(
            period("2 days", "America/New_York", "2026-10-31T12:00:00Z"),
            "2026-10-31T12:00:00Z 2026-11-02T12:00:00Z"
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
    fn windows_and_words() {
        for (text, printed) in [
            ("hour", "hour"),
            ("ever", "ever"),
            ("5 hours", "5 hours"),
            ("48 hours", "2 days"),
            ("24 hours", "24 hours"),
            ("7 days", "7 days"),
            ("2 weeks", "14 days"),
            ("366 days", "366 days"),
            ("90 minutes", "90 minutes"),
            ("60 minutes", "60 minutes"),
            ("1 minute", "1 minute"),
        ] {
            let every: Every = text.parse().unwrap();
            assert_eq!(every.to_string(), printed);
            assert_eq!(printed.parse(), Ok(every));
        }
        for word in ["hour", "day", "week", "month", "year"] {
            let not = Err(NotEvery::Calendar(word));
            assert_eq!(format!("1 {word}").parse::<Every>(), not);
            assert_eq!(format!("01 {word}s").parse::<Every>(), not);
        }
        for bad in [
            "",
            " ",
            "Hour",
            "hours",
            "5",
            "5 ",
            " hours",
            "0 hours",
            "-5 hours",
            "5.5 hours",
            "5  hours",
            "5 hours ",
            "3 months",
            "2 years",
            "367 days",
            "53 weeks",
            "99999999999 hours",
            "4294967295 weeks",
            "5 fortnights",
            "\u{665} hours",
        ] {
            let why = bad.parse::<Every>();
            assert!(matches!(why, Err(NotEvery::Other(_))), "{bad:?} {why:?}");
        }
    }

    fn limit(scope: &str, every: Every, cap: i128) -> Limit {
        Limit::new(scope, every, Counts::Credits, Amount::from_units(cap))
    }

    #[test]
    fn a_limit_of_its_own_comes_before_the_one_for_each() {
        let mut limits = vec![
            limit("user:*", Every::Calendar(Calendar::Day), 10),
            limit("user:alice", Every::Calendar(Calendar::Day), 100),
            limit("user:alice", Every::Calendar(Calendar::Month), 500),
            limit("action:image.*", Every::Calendar(Calendar::Day), 7),
            limit("key:k", Every::Calendar(Calendar::Hour), 1),
            Limit::new(
                "user:*",
                Every::Calendar(Calendar::Day),
                Counts::Calls,
                CALL,
            ),
        ];
        let found = |limits: &[Limit], action: &str, scopes: &[&str]| -> Vec<String> {
            let scopes: Vec<String> = scopes.iter().map(|s| s.to_string()).collect();
            let say = |a: ApplicableLimit| {
                let limit = &limits[a.place];
                format!("{} {} {}", a.scope, limit.every, limit.counts)
            };
            let found = applying(limits, action, &scopes);
            found.into_iter().map(say).collect()
        };
        assert_eq!(
            found(&limits, "text", &["user:bob", "user:bob"]),
            ["user:bob day credits", "user:bob day calls"]
        );
        assert_eq!(
            found(&limits, "image.big", &["key:k", "user:alice", "team:x"]),
            [
                "user:alice day credits",
                "user:alice month credits",
                "action:image.* day credits",
                "key:k hour credits",
                "user:alice day calls"
            ]
        );
        assert_eq!(found(&limits, "text", &[]), [""; 0]);
        // A scope that is required is named by whoever it matches, with a limit of its own, too.
        let missing = |limits: &[Limit], scope: &str| {
            missing_scope(limits, &[scope.to_owned()]).map(|limit| limit.scope.clone())
        };
        assert_eq!(missing(&limits, "key:k"), None);
        limits[0].required = true;
        assert_eq!(missing(&limits, "key:k"), Some("user:*".to_owned()));
        assert_eq!(missing(&limits, "user:alice"), None);
    }

    #[test]
    fn each_is_told_once_in_a_period() {
        use LimitNotice::{Reached, Warning};
        let mut limit = limit("action:*", Every::Calendar(Calendar::Day), 10);
        // A third of 10 is a little more than 3.
        limit.warn_at = Amount::from_units(WHOLE / 3);
        let mut one = used(&limit, "action:*", None, 0, 0);
        let fresh = one.clone();
        let tell = |limit: &Limit, one: &mut Use, total| limit.tell(one, Amount::from_units(total));
        assert_eq!(tell(&limit, &mut one, 3), []);
        assert_eq!(tell(&limit, &mut one, 4), [Warning]);
        assert_eq!(tell(&limit, &mut one, 9), []);
        assert_eq!(tell(&limit, &mut one, 10), [Reached]);
        assert_eq!(tell(&limit, &mut one, 25), []);
        assert_eq!(tell(&limit, &mut fresh.clone(), 10), [Warning, Reached]);
        // Another cap puts out of reach again what was told; the same one does not.
        one.used = Amount::from_units(10);
        limit.put(one);
        limit.change(limit.cap, limit.warn_at, true);
        let told = |limit: &Limit| {
            limit
                .uses
                .iter()
                .map(|u| (u.warned, u.reached))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&limit), [(true, true)]);
        limit.change(Amount::from_units(20), limit.warn_at, false);
        assert_eq!(told(&limit), [(true, false)]);
        limit.change(Amount::from_units(20), CALL, false);
        assert_eq!(told(&limit), [(false, false)]);
    }

    /// What a use of then adds to.
    fn used(limit: &Limit, scope: &str, kept: Option<&Use>, at: i64, seq: u64) -> Use {
        let current = limit.current(scope, kept, "UTC", Moment(at), seq);
        current.unwrap().0
    }

    /// Uses so much now, where it is counted here.
    fn spend(limit: &mut Limit, scope: &str, at: i64, seq: u64, credits: i128) -> bool {
        let kept = limit.use_of(scope).cloned();
        let mut one = used(limit, scope, kept.as_ref(), at, seq);
        one.used += Amount::from_units(credits);
        let here = limit.takes(scope, "UTC", Moment(at));
        if here {
            limit.put(one);
        }
        here
    }

    #[test]
    fn the_first_few_of_each_are_counted_here() {
        let day = 86_400_000_000;
        for every in [Every::Calendar(Calendar::Day), Every::Window(24 * 60)] {
            let mut limit = limit("user:*", every, 0);
            let user = |n: usize| format!("user:{n}");
            for n in 0..MAX_USES {
                assert!(spend(&mut limit, &user(n), 1, 1, 5));
            }
            assert!(limit.knows("user:new", "UTC", Moment(1)));
            assert!(!spend(&mut limit, "user:new", 1, 1, 5));
            assert!(!limit.knows("user:new", "UTC", Moment(day - 1)));
            assert!(spend(&mut limit, &user(3), 1, 1, 5));
            assert_eq!(limit.use_of(&user(3)).unwrap().used, Amount::from_units(10));
            // The next period: what is not spent any more makes room.
            assert!(limit.knows("user:new", "UTC", Moment(day + 1)));
            assert!(spend(&mut limit, &user(3), day + 1, 2, 5));
            assert!(spend(&mut limit, "user:new", day + 1, 2, 5));
            assert_eq!(limit.uses.len(), 2);
            assert_eq!(limit.use_of(&user(3)).unwrap().used, Amount::from_units(5));
            assert!(!spend(&mut limit, &"long".repeat(20), day + 1, 3, 5));
            assert!(spend(&mut limit, &user(3), day + 1, 3, 5));
        }
        let mut ever = limit("user:*", Every::Ever, 0);
        ever.start = Some(Start {
            at: Moment(0),
            after: 0,
        });
        for n in 0..MAX_USES {
            assert!(spend(&mut ever, &format!("user:{n}"), n as i64, 1, 5));
        }
        assert!(!spend(&mut ever, "user:new", i64::from(i32::MAX), 1, 5));
        assert!(!ever.knows("user:new", "UTC", Moment(day * 3650)));
    }

    /// A use of a wallet: when, what it spends, and how much of that is refunded at the end.
    #[derive(Clone, Debug)]
    struct Spend {
        later: i64,
        credits: i128,
        refunded: i128,
    }

    fn spends() -> impl Strategy<Value = Vec<Spend>> {
        let hour = 3_600_000_000_i64;
        let later = prop_oneof![
            2 => Just(0_i64),
            4 => 0..4 * hour,
            2 => 0..40 * hour,
            1 => 0..9_000 * hour,
            2 => prop::sample::select(vec![hour, 5 * hour - 1, 5 * hour, 24 * hour, 168 * hour]),
        ];
        let one = (later, 1..100_i128, 0..=100_i128).prop_map(|(later, credits, share)| Spend {
            later,
            credits,
            refunded: credits * share / 100,
        });
        prop::collection::vec(one, 1..40)
    }

    proptest! {
        #[test]
        fn periods_hold_their_moment_and_follow_each_other(
            at in -30_000_000_000_000_000..200_000_000_000_000_000_i64,
            zone in prop::sample::select(&ZONES[..]),
            every in prop::sample::select(&Every::NAMED[..5]),
        ) {
            let period = every.period(zone, Moment(at)).unwrap();
            let end = period.end.unwrap();
            prop_assert!(period.holds(Moment(at)) && !period.holds(end));
            for other in [period.start.0, end.0 - 1] {
                prop_assert_eq!(every.period(zone, Moment(other)), Some(period));
            }
            prop_assert_eq!(every.period(zone, end).map(|next| next.start), Some(end));
        }

        /// Whatever the period and the zone, what is counted is what a naive reader of all uses counts in
        /// the period of the last one, with every refund that fell into it. The limit is set after some
        /// uses, at the same moment as the last of them, perhaps.
        #[test]
        fn counts_are_those_of_a_naive_reader(
            spends in spends(), start in 0..60_000_000_000_000_000_i64, set in 0..10_usize,
            zone in prop::sample::select(&ZONES[..]),
            every in prop_oneof![
                2 => prop::sample::select(&Every::NAMED[..]),
                1 => prop::sample::select(vec![Every::Window(300), Every::Window(1440), Every::Window(7 * 1440)]),
                1 => (1..20_000_u32).prop_map(Every::Window),
            ],
        ) {
            let mut limit = limit("action:*", every, 0);
            let mut now = start;
            let mut history: Vec<(i64, u64, Spend)> = Vec::new();
            for (seq, spend) in (1..).zip(spends) {
                if history.len() == set.min(3) && every == Every::Ever {
                    limit.start = Some(Start { at: Moment(now), after: seq - 1 });
                }
                now += spend.later;
                if history.len() >= set.min(3) || !matches!(every, Every::Ever | Every::Window(_)) {
                    let kept = limit.use_of("action:*").cloned();
                    let (mut one, period) = limit.current("action:*", kept.as_ref(), zone, Moment(now), seq - 1).unwrap();
                    prop_assert!(period.holds(Moment(now)) && one.since == period.start);
                    one.used += Amount::from_units(spend.credits);
                    limit.put(one);
                }
                history.push((now, seq, spend));
            }
            let Some(mut one) = limit.use_of("action:*").cloned() else { return Ok(()) };
            for (at, seq, spend) in &history {
                if limit.counted(&one, zone, Moment(*at), *seq) {
                    one.used -= Amount::from_units(spend.refunded);
                }
            }
            // The naive reader: of all uses since the limit counts, those in the last one's period.
            let counting: Vec<_> = match every {
                Every::Ever | Every::Window(_) => history.iter().skip(set.min(3)).collect(),
                _ => history.iter().collect(),
            };
            let mut period: Vec<&(i64, u64, Spend)> = Vec::new();
            for use_ in counting {
                let same = match (every, period.first()) {
                    (_, None) => false,
                    (Every::Ever, _) => true,
                    (Every::Window(minutes), Some(first)) => use_.0 - first.0 < i64::from(minutes) * 60_000_000,
                    (_, Some(first)) => naive_start(every, zone, use_.0) == naive_start(every, zone, first.0),
                };
                if !same {
                    period.clear();
                }
                period.push(use_);
            }
            let expected: i128 = period.iter().map(|(_, _, spend)| spend.credits - spend.refunded).sum();
            prop_assert_eq!(one.used, Amount::from_units(expected));
        }
    }

    const ZONES: [&str; 7] = [
        "UTC",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "Pacific/Apia",
        "America/Havana",
        "Africa/Casablanca",
    ];

    /// The local date, and hour, that the period of a moment is named after.
    fn naive_start(every: Every, zone: &str, at: i64) -> (i16, i16, i8) {
        let zone = period::zone(zone).unwrap();
        let local = zone.to_datetime(Moment(at).timestamp().unwrap());
        let day = local.date().day_of_year();
        match every {
            Every::Calendar(Calendar::Hour) => (local.year(), day, local.hour()),
            Every::Calendar(Calendar::Day) => (local.year(), day, 0),
            Every::Calendar(Calendar::Week) => {
                let week = local.date().iso_week_date();
                (week.year(), i16::from(week.week()), 0)
            }
            Every::Calendar(Calendar::Month) => (local.year(), i16::from(local.month()), 0),
            _ => (local.year(), 0, 0),
        }
    }
}
