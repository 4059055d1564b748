//! Moments in time, as Postgres counts them.

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// Microseconds between 1970-01-01 and 2000-01-01, where Postgres' clock starts.
const UNIX_TO_POSTGRES: i64 = 946_684_800_000_000;

/// The first moment that a `timestamptz` can be: 24 November 4714 BC.
const FIRST: i64 = -211_813_488_000_000_000;

/// A moment: microseconds since 2000-01-01 00:00:00 UTC, the value of a `timestamptz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

impl Moment {
    /// The moment of an RFC 3339 text, `None` when it is not one.
    pub fn parse(text: &str) -> Option<Moment> {
        Moment::of(text.parse().ok()?)
    }

    pub(super) fn of(stamp: Timestamp) -> Option<Moment> {
        let micros = stamp.as_microsecond().checked_sub(UNIX_TO_POSTGRES)?;
        (micros >= FIRST).then_some(Moment(micros))
    }

    /// This moment and a number of seconds, `None` beyond the year 9999.
    pub fn plus_seconds(self, seconds: i64) -> Option<Moment> {
        let moment = Moment(self.0.checked_add(seconds.checked_mul(1_000_000)?)?);
        moment.timestamp().map(|_| moment)
    }

    /// The same day a number of years later, `None` beyond the year 9999.
    pub fn plus_years(self, years: i16) -> Option<Moment> {
        let years = Span::new().try_years(years).ok()?;
        let here = self.timestamp()?.to_zoned(TimeZone::UTC);
        Moment::of(here.checked_add(years).ok()?.timestamp())
    }

    /// Whether it lies in the year 1 or later.
    pub fn is_of_our_era(self) -> bool {
        const DAYS_BEFORE_2000: i64 = 730_119;
        self.0 >= -DAYS_BEFORE_2000 * 86_400_000_000
    }

    /// Whether it lies between the first moment of Postgres and the year 9999, so that it can be written
    /// as a date and read again.
    pub fn has_a_date(self) -> bool {
        self.0 >= FIRST && self.timestamp().is_some()
    }

    /// Whole microseconds since 1970; 0 for moments before.
    pub fn unix_micros(self) -> u64 {
        let since = self.0.saturating_add(UNIX_TO_POSTGRES);
        u64::try_from(since).unwrap_or(0)
    }

    /// The moment a number of microseconds after 1970.
    pub fn of_unix_micros(micros: i64) -> Moment {
        Moment(micros.saturating_sub(UNIX_TO_POSTGRES))
    }

    pub(super) fn timestamp(self) -> Option<Timestamp> {
        Timestamp::from_microsecond(self.0.checked_add(UNIX_TO_POSTGRES)?).ok()
    }
}

/// RFC 3339 in UTC, with as many decimals of a second as are needed.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.timestamp() {
            Some(stamp) => stamp.fmt(f),
            // Outside the years -9999 to 9999; no moment of a wallet is.
            None => write!(f, "{} us", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_both_ways() {
        for text in [
            "2000-01-01T00:00:00Z",
            "2026-11-22T14:07:00.000001Z",
            "1999-12-31T23:59:59Z",
        ] {
            assert_eq!(Moment::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Moment::parse("2000-01-01T00:00:00Z"), Some(Moment(0)));
        let first = Moment(FIRST);
        assert!(first.has_a_date() && !Moment(FIRST - 1).has_a_date());
        assert_eq!(Moment::parse(&first.to_string()), Some(first));
        assert_eq!(Moment::parse("yesterday"), None);
        assert_eq!(Moment(i64::MAX).plus_seconds(1), None);
        let leap = Moment::parse("2028-02-29T12:00:00Z").unwrap();
        assert_eq!(leap.plus_years(10), Moment::parse("2038-02-28T12:00:00Z"));
        assert_eq!(leap.plus_years(8000), None);
    }
}
