//! The customer's own view: `usage` and `history`.

use std::str::FromStr;

use pgrx::pg_sys;

use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::sql_types::Args;
use crate::sql_types::args::required;
use crate::store::usage::{self, Breakdown, Range};
use crate::store::{Store, assets, wallets};

/// The buckets of an answer at most.
const MAX_BUCKETS: i32 = 10_000;

/// The buckets of an answer whose start is not given.
const DEFAULT_BUCKETS: i32 = 30;

/// How long a bucket is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bucket {
    Hour,
    Day,
    Week,
    Month,
    All,
}

impl FromStr for Bucket {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Bucket, ()> {
        match text {
            "hour" => Ok(Bucket::Hour),
            "day" => Ok(Bucket::Day),
            "week" => Ok(Bucket::Week),
            "month" => Ok(Bucket::Month),
            "all" => Ok(Bucket::All),
            _ => Err(()),
        }
    }
}

impl Bucket {
    /// The unit of Postgres' `date_trunc`.
    fn unit(self) -> Option<&'static str> {
        match self {
            Bucket::Hour => Some("hour"),
            Bucket::Day => Some("day"),
            Bucket::Week => Some("week"),
            Bucket::Month => Some("month"),
            Bucket::All => None,
        }
    }

    /// The seconds that no bucket is longer than: an hour or a day may be an hour longer where clocks change.
    fn longest(self) -> i64 {
        const HOUR: i64 = 3600;
        match self {
            Bucket::Hour => 2 * HOUR,
            Bucket::Day => 25 * HOUR,
            Bucket::Week => (7 * 24 + 1) * HOUR,
            Bucket::Month => (31 * 24 + 1) * HOUR,
            Bucket::All => i64::MAX,
        }
    }
}

pub fn usage(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let since = args.optional_moment("since")?;
    let until = args.optional_moment("until")?;
    let bucket = args.name("bucket")?;
    let bucket = Bucket::from_str(&bucket).map_err(|()| {
        errors::invalid(
            "bucket",
            format_args!("{bucket:?} is none of hour, day, week, month and all"),
        )
    })?;
    let by = read_by(&required("by", args.names("by")?)?)?;
    let asset = args.name("asset")?;
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(errors::invalid(
            "since",
            format_args!("{since} is after until, {until}"),
        ));
    }
    Store::read(|store| {
        let asset = assets::asset(store, &asset)?;
        // What happened at this moment is included.
        let until = match until {
            Some(until) => until,
            None => {
                let view = wallets::look(store, &customer, &asset.name, None)?;
                let now = view.map_or_else(|| assets::statement_now(store), |view| Ok(view.now))?;
                Moment(now.0 + 1)
            }
        };
        let since = match (since, bucket.unit()) {
            (None, Some(unit)) => {
                let back = DEFAULT_BUCKETS - 1;
                usage::bucket_before(store, Moment(until.0 - 1), unit, &asset.timezone, back)?
            }
            (since, _) => since,
        };
        let range = Range {
            unit: bucket.unit(),
            timezone: &asset.timezone,
            since,
            until,
        };
        // The long ranges first, whose buckets would take long to count.
        let seconds = since.map_or(0, |since| until.0.saturating_sub(since.0) / 1_000_000);
        if seconds / bucket.longest() > MAX_BUCKETS.into()
            || usage::has_more_buckets(store, &range, MAX_BUCKETS)?
        {
            return Err(errors::out_of_range(
                "bucket",
                format_args!("the range has more than {MAX_BUCKETS} buckets"),
            ));
        }
        usage::answer(store, &customer, &asset.name, &range, by, args)
    })?;
    Ok(None)
}

/// The rows of a page at most.
const MAX_ROWS: i32 = 10_000;

pub fn history(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let asset = args.name("asset")?;
    let before = args.optional_uuid("before")?;
    let count = args.int("count")?;
    if count < 1 {
        return Err(errors::invalid(
            "count",
            format_args!("{count} is less than 1"),
        ));
    }
    if count > MAX_ROWS {
        return Err(errors::out_of_range(
            "count",
            format_args!("{count} is more than {MAX_ROWS}"),
        ));
    }
    Store::read(|store| {
        let asset = assets::asset(store, &asset)?;
        usage::history(store, &customer, &asset.name, before, count, args)
    })?;
    Ok(None)
}

fn read_by(names: &[String]) -> Result<Breakdown> {
    let mut by = Breakdown::default();
    for name in names {
        let asked = match name.as_str() {
            "action" => &mut by.action,
            "model" => &mut by.model,
            "scope" => &mut by.scope,
            "kind" => &mut by.kind,
            _ => {
                return Err(errors::invalid(
                    "by",
                    format_args!("{name:?} is none of action, model, scope and kind"),
                ));
            }
        };
        if std::mem::replace(asked, true) {
            return Err(errors::invalid(
                "by",
                format_args!("{name} is listed twice"),
            ));
        }
    }
    Ok(by)
}
