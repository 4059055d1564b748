//! The periods of a plan: how long one is, and when each begins.
//!
//! Starts are counted from one anchor, never from the start before, so that nothing drifts: months
//! from 31 January start on 28 February and on 31 March. They keep the anchor's local time of day in
//! a time zone. Where clocks are put forward over that time, the period starts as much later (02:30
//! becomes 03:30 that day); where they are put back over it, at the first of the two moments. A day
//! that a zone's calendar leaves out has no period of its own.

use std::fmt;
use std::str::FromStr;

use jiff::Span;
use jiff::tz::TimeZone;

use super::Moment;

/// The longest period, in years.
const MAX_YEARS: u32 = 10;

/// How long a period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeriodLength {
    /// Of 60 minutes each, whatever clocks do.
    Hours(u32),
    Days(u32),
    Months(u32),
}

impl PeriodLength {
    fn count(self) -> i32 {
        match self {
            PeriodLength::Hours(count)
            | PeriodLength::Days(count)
            | PeriodLength::Months(count) => i32::try_from(count).unwrap_or(i32::MAX),
        }
    }

    /// Whether both are counted in the same unit: hours, days or months.
    pub fn same_unit(self, other: PeriodLength) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// The start after this one, and how many hours, days or months it is from the anchor: `steps` are those
    /// of this start. `None` beyond the year 9999.
    pub fn next(
        self,
        anchor: Moment,
        zone: &TimeZone,
        steps: i32,
        start: Moment,
    ) -> Option<(i32, Moment)> {
        let mut steps = steps;
        loop {
            steps = steps.checked_add(self.count())?;
            let next = self.after(anchor, zone, steps)?;
            if next > start {
                return Some((steps, next));
            }
        }
    }

    /// The start a number of periods after the anchor. `None` beyond the year 9999.
    pub fn times_after(self, anchor: Moment, zone: &TimeZone, periods: i32) -> Option<Moment> {
        self.after(anchor, zone, periods.checked_mul(self.count())?)
    }

    /// A number of hours after the anchor, or of days or months, at the anchor's time of day.
    fn after(self, anchor: Moment, zone: &TimeZone, steps: i32) -> Option<Moment> {
        let span = match self {
            PeriodLength::Hours(_) => return anchor.plus_seconds(i64::from(steps) * 3600),
            PeriodLength::Days(_) => Span::new().try_days(steps).ok()?,
            PeriodLength::Months(_) => Span::new().try_months(steps).ok()?,
        };
        // A month that is too short for the day gives its last one.
        let local = zone
            .to_datetime(anchor.timestamp()?)
            .checked_add(span)
            .ok()?;
        Moment::of(zone.to_timestamp(local).ok()?)
    }
}

/// The text is no length of a period, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAPeriod(String);

impl fmt::Display for NotAPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `1 hour`, `1 day`, `2 weeks`, `3 months`, `1 year`.
impl FromStr for PeriodLength {
    type Err = NotAPeriod;
    fn from_str(text: &str) -> Result<PeriodLength, NotAPeriod> {
        let no = |why: &str| NotAPeriod(format!("{text:?} {why}"));
        let unknown = || no("is no number of hours, days, weeks, months or years, such as 1 month");
        let (number, unit) = text.split_once(' ').ok_or_else(unknown)?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(unknown());
        }
        let (unit, in_unit, in_year): (fn(u32) -> PeriodLength, u32, u32) = match unit {
            "hour" | "hours" => (PeriodLength::Hours, 1, 366 * 24),
            "day" | "days" => (PeriodLength::Days, 1, 366),
            "week" | "weeks" => (PeriodLength::Days, 7, 366),
            "month" | "months" => (PeriodLength::Months, 1, 12),
            "year" | "years" => (PeriodLength::Months, 12, 12),
            _ => return Err(unknown()),
        };
        let too_long = || no(&format!("is longer than {MAX_YEARS} years"));
        let number: u32 = number.parse().map_err(|_| too_long())?;
        match number.checked_mul(in_unit) {
            Some(0) => Err(no("is no time at all")),
            Some(count) if count <= MAX_YEARS * in_year => Ok(unit(count)),
            _ => Err(too_long()),
        }
    }
}

/// In the largest unit that it is a whole number of.
impl fmt::Display for PeriodLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match *self {
            PeriodLength::Hours(hours) => (hours, "hour"),
            PeriodLength::Days(days) if days % 7 == 0 => (days / 7, "week"),
            PeriodLength::Days(days) => (days, "day"),
            PeriodLength::Months(months) if months % 12 == 0 => (months / 12, "year"),
            PeriodLength::Months(months) => (months, "month"),
        };
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} {unit}{plural}")
    }
}

/// A time zone by its name in the IANA database.
pub fn zone(name: &str) -> Option<TimeZone> {
    jiff::tz::db().get(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::DateTime;
    use proptest::prelude::*;

    const ZONES: [&str; 3] = ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe"];

    /// The local times at which the periods start, the anchor first.
    fn starts(zone_name: &str, anchor: &str, every: &str, count: usize) -> Vec<String> {
        let zone = zone(zone_name).unwrap();
        let anchor: DateTime = anchor.parse().unwrap();
        let anchor = Moment::of(zone.to_timestamp(anchor).unwrap()).unwrap();
        let every: PeriodLength = every.parse().unwrap();
        let mut at = (0, anchor);
        let mut starts = Vec::new();
        for _ in 0..count {
            let local = zone.to_datetime(at.1.timestamp().unwrap());
            starts.push(local.strftime("%Y-%m-%d %H:%M").to_string());
            at = every.next(anchor, &zone, at.0, at.1).unwrap();
        }
        starts
    }

    #[test]
    fn months_count_from_the_anchor() {
        assert_eq!(
            starts("UTC", "2026-01-31T10:00", "1 month", 5),
            [
                "2026-01-31 10:00",
                "2026-02-28 10:00",
                "2026-03-31 10:00",
                "2026-04-30 10:00",
                "2026-05-31 10:00"
            ]
        );
        assert_eq!(
            starts("UTC", "2027-12-30T00:00", "1 month", 4),
            [
                "2027-12-30 00:00",
                "2028-01-30 00:00",
                "2028-02-29 00:00",
                "2028-03-30 00:00"
            ]
        );
        assert_eq!(
            starts("UTC", "2028-02-29T00:00", "1 year", 5),
            [
                "2028-02-29 00:00",
                "2029-02-28 00:00",
                "2030-02-28 00:00",
                "2031-02-28 00:00",
                "2032-02-29 00:00"
            ]
        );
        assert_eq!(
            starts("UTC", "2026-11-30T00:00", "3 months", 3),
            ["2026-11-30 00:00", "2027-02-28 00:00", "2027-05-30 00:00"]
        );
    }

    #[test]
    fn clocks_that_are_put_forward_or_back() {
        // Forward: the time is not there, and the period starts as much later.
        assert_eq!(
            starts("America/New_York", "2026-03-07T02:30", "1 day", 3),
            ["2026-03-07 02:30", "2026-03-08 03:30", "2026-03-09 02:30"]
        );
        assert_eq!(
            starts("Europe/Berlin", "2026-03-28T02:30", "1 day", 3),
            ["2026-03-28 02:30", "2026-03-29 03:30", "2026-03-30 02:30"]
        );
        // Half an hour is enough on Lord Howe.
        assert_eq!(
            starts("Australia/Lord_Howe", "2026-10-03T02:15", "1 day", 3),
            ["2026-10-03 02:15", "2026-10-04 02:45", "2026-10-05 02:15"]
        );
        // Back: the time is there twice, and the first one counts.
        for (zone_name, day, offset) in [
            ("America/New_York", "2026-11-01", "-04"),
            ("Europe/Berlin", "2026-10-25", "+02"),
        ] {
            let zone = zone(zone_name).unwrap();
            let hour = if offset == "-04" {
                "01:30:00"
            } else {
                "02:30:00"
            };
            let anchor: DateTime = format!("{day}T{hour}").parse().unwrap();
            let anchor = anchor.checked_sub(Span::new().days(1)).unwrap();
            let anchor = Moment::of(zone.to_timestamp(anchor).unwrap()).unwrap();
            let (_, next) = PeriodLength::Days(1)
                .next(anchor, &zone, 0, anchor)
                .unwrap();
            let first = Moment::parse(&format!("{day}T{hour}{offset}:00")).unwrap();
            assert_eq!(next, first);
        }
        // The local hour is kept over the change.
        assert_eq!(
            starts("Europe/Berlin", "2026-03-15T09:00", "1 month", 2),
            ["2026-03-15 09:00", "2026-04-15 09:00"]
        );
    }

    #[test]
    fn hours_are_hours_whatever_clocks_do() {
        assert_eq!(
            starts("Europe/Berlin", "2026-03-29T00:30", "1 hour", 4),
            [
                "2026-03-29 00:30",
                "2026-03-29 01:30",
                "2026-03-29 03:30",
                "2026-03-29 04:30"
            ]
        );
        assert_eq!(
            starts("Europe/Berlin", "2026-10-25T01:30", "1 hour", 4),
            [
                "2026-10-25 01:30",
                "2026-10-25 02:30",
                "2026-10-25 02:30",
                "2026-10-25 03:30"
            ]
        );
    }

    #[test]
    fn a_day_that_was_left_out_has_no_period() {
        // Samoa went from 29 to 31 December 2011.
        assert_eq!(
            starts("Pacific/Apia", "2011-12-28T10:00", "1 day", 4),
            [
                "2011-12-28 10:00",
                "2011-12-29 10:00",
                "2011-12-31 10:00",
                "2012-01-01 10:00"
            ]
        );
    }

    #[test]
    fn the_calendar_ends() {
        let anchor = Moment::parse("9999-12-01T00:00:00Z").unwrap();
        let utc = zone("UTC").unwrap();
        assert_eq!(PeriodLength::Months(1).next(anchor, &utc, 0, anchor), None);
        assert_eq!(
            PeriodLength::Days(1).next(anchor, &utc, i32::MAX, anchor),
            None
        );
    }

    #[test]
    fn texts() {
        for (text, printed) in [
            ("1 hour", "1 hour"),
            ("24 hours", "24 hours"),
            ("87840 hours", "87840 hours"),
            ("1 day", "1 day"),
            ("10 days", "10 days"),
            ("1 week", "1 week"),
            ("14 days", "2 weeks"),
            ("1 month", "1 month"),
            ("3 months", "3 months"),
            ("12 months", "1 year"),
            ("10 years", "10 years"),
            ("3660 days", "3660 days"),
        ] {
            let every: PeriodLength = text.parse().unwrap();
            assert_eq!(every.to_string(), printed);
            assert_eq!(printed.parse(), Ok(every));
        }
        for text in [
            "",
            " ",
            "month",
            "1",
            "1  month",
            "1 month ",
            "0 days",
            "-1 day",
            "+1 day",
            "1.5 months",
            "0 hours",
            "87841 hours",
            "1 minute",
            "1 Month",
            "11 years",
            "3661 days",
            "600 weeks",
            "65536 days",
            "99999999999999999999 days",
            "１ day",
            "P1M",
            "monthly",
        ] {
            assert!(text.parse::<PeriodLength>().is_err(), "{text:?}");
        }
    }

    fn lengths() -> impl Strategy<Value = PeriodLength> {
        prop_oneof![
            3 => (1..=3_u32).prop_map(PeriodLength::Months),
            1 => (1..=120_u32).prop_map(PeriodLength::Months),
            2 => Just(PeriodLength::Days(1)),
            1 => Just(PeriodLength::Days(7)),
            1 => (1..=3660_u32).prop_map(PeriodLength::Days),
        ]
    }

    proptest! {
        /// In three zones, whatever the anchor (half of them on a 29th, 30th or 31st): every start is
        /// later than the one before, on the day that the calendar says, at the anchor's time of day
        /// or, where clocks are put forward over it, up to an hour later.
        #[test]
        fn nothing_drifts(
            zone_name in prop::sample::select(&ZONES[..]),
            year in 1975..2120_i16, month in 1..=12_i8,
            day in prop_oneof![1 => 1..=28_i8, 1 => 29..=31_i8],
            minute in 0..1440_i32, every in lengths(),
        ) {
            let zone = zone(zone_name).unwrap();
            let date = jiff::civil::Date::new(year, month, 1).unwrap();
            let date = date.with().day(day.min(date.days_in_month())).build().unwrap();
            let local = date.at((minute / 60) as i8, (minute % 60) as i8, 0, 0);
            let anchor = Moment::of(zone.to_timestamp(local).unwrap()).unwrap();
            let local = zone.to_datetime(anchor.timestamp().unwrap());
            let (mut steps, mut start) = (0, anchor);
            for nth in 1..=60_i32 {
                let (next_steps, next) = every.next(anchor, &zone, steps, start).unwrap();
                prop_assert!(next > start);
                prop_assert_eq!(next_steps, nth * every.count());
                (steps, start) = (next_steps, next);
                let is = zone.to_datetime(start.timestamp().unwrap());
                let day = match every {
                    PeriodLength::Hours(_) => continue,
                    PeriodLength::Days(_) => local.date().checked_add(Span::new().days(steps)).unwrap(),
                    PeriodLength::Months(_) => {
                        let months = i32::from(local.year()) * 12 + i32::from(local.month()) - 1 + steps;
                        let first = jiff::civil::Date::new((months / 12) as i16, (months % 12 + 1) as i8, 1).unwrap();
                        first.with().day(local.day().min(first.days_in_month())).build().unwrap()
                    }
                };
                let late = is.duration_since(day.to_datetime(local.time())).as_secs();
                prop_assert!(late == 0 || late == 1800 || late == 3600, "{late} s late on {is}");
                // Counted from the anchor at once, it is the same moment.
                prop_assert_eq!(every.after(anchor, &zone, steps), Some(start));
            }
        }
    }
}
