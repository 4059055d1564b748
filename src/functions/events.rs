//! Telling the application: `set_alert`, `set_topup`, `topup_failed`, `take_events`, `ack_events`.

use std::str::FromStr;

use pgrx::pg_sys;
use rust_decimal::Decimal;

use crate::errors::{self, Result};
use crate::ledger::alerts::{
    Alert, HUNDRED, MAX_ALERTS, MAX_NOTICE_DAYS, MAX_NOTICES, Notice, Refill, RequestedTopUps,
    TopUp, TopUpTrigger, Unit,
};
use crate::ledger::amount::DECIMALS;
use crate::ledger::limit::Calendar;
use crate::ledger::{Amount, Kind};
use crate::sql_types::{Args, Row, args as arguments, row, value};
use crate::store::wallets::{self, OpenWallet};
use crate::store::{Store, assets, events, notices};

pub fn set_alert(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let threshold = args.optional_quantity("threshold")?;
    let asset = args.name("asset")?;
    let unit_text = args.name("unit")?;
    let unit = Unit::from_str(&unit_text).map_err(|_| {
        errors::invalid(
            "unit",
            format_args!("{unit_text:?} is neither credits nor percent"),
        )
    })?;
    let enabled = args.bool("enabled")?;
    let alert = Store::write(|store| {
        let mut open = wallets::open_or_create(store, &customer, &asset)?;
        // What has happened before is told to those that were there before.
        open.book_due_now(store)?;
        let alert = match threshold {
            None => {
                open.wallet.alert_state.alerts.clear();
                None
            }
            Some(threshold) => {
                let alert = Alert {
                    threshold: alert_threshold(&open, threshold, unit)?,
                    unit,
                    enabled,
                };
                let set = open.wallet.alert_state.set_alert(alert.clone());
                set.ok_or_else(|| errors::too_many_alerts(&customer, &asset, MAX_ALERTS))?;
                Some(alert)
            }
        };
        open.write_back(store)?;
        Ok(alert)
    })?;
    let alert = alert.as_ref();
    row! {
        customer: value::text(&customer),
        asset: value::text(&asset),
        threshold: alert.and_then(|alert| value::credits(alert.threshold)),
        unit: alert.and_then(|alert| value::text(alert.unit.as_str())),
        enabled: alert.and_then(|alert| value::bool(alert.enabled)),
    }
    .datum(args)
}

fn alert_threshold(open: &OpenWallet, threshold: Decimal, unit: Unit) -> Result<Amount> {
    match unit {
        Unit::Credits => amount(open, "threshold", threshold),
        Unit::Percent => {
            let percent = arguments::amount("threshold", threshold, DECIMALS)?;
            if percent > HUNDRED {
                return Err(errors::invalid(
                    "threshold",
                    format_args!("{percent} percent are more than all"),
                ));
            }
            Ok(percent)
        }
    }
}

/// `credyt.alert_rules(state, at)`: the alerts in a state.
pub fn alert_rules(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let wallet = wallets::read_state(args.bytes("state")?)?;
    let balance = wallet.balance(args.moment("at")?);
    let rule = |alert: &Alert| {
        let level = alert.level(wallet.alert_state.refilled);
        row! {
            threshold: value::credits(alert.threshold),
            unit: value::text(alert.unit.as_str()),
            enabled: value::bool(alert.enabled),
            level: value::credits(level),
            balance: value::credits(balance),
            reached: value::bool(balance <= level),
        }
    };
    row::rows(args, wallet.alert_state.alerts.iter().map(rule))
}

/// `credyt.topup_rules(state, at)`: the rule for top-ups in a state.
pub fn topup_rules(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let wallet = wallets::read_state(args.bytes("state")?)?;
    let at = args.moment("at")?;
    let balance = wallet.balance(at);
    let rule = |topup: &TopUp| {
        let asked = topup.asked_in(at);
        topup_terms(Some(topup)).and(row! {
            balance: value::credits(balance),
            in_flight: value::optional_uuid(topup.in_flight),
            cooldown_until: value::optional_moment(topup.waits_until.filter(|until| *until > at)),
            requested: value::credits(asked.map_or(Amount::ZERO, |asked| asked.credits)),
            resets_at: value::optional_moment(asked.map(|asked| asked.until)),
        })
    };
    row::rows(args, wallet.alert_state.topup.iter().map(rule))
}

fn amount(open: &OpenWallet, name: &str, number: Decimal) -> Result<Amount> {
    arguments::amount(name, number, open.asset.scale)
}

/// What `set_topup` is told, but for whose wallet it is.
struct Rule {
    threshold: Decimal,
    refill: RequestedRefill,
    enabled: bool,
    max_credits: Option<Decimal>,
    every: Calendar,
    cooldown_seconds: i32,
}

enum RequestedRefill {
    Credits(Decimal),
    ToBalance(Decimal),
}

pub fn set_topup(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let asset = args.name("asset")?;
    let rule = read_rule(args)?;
    let open = Store::write(|store| {
        let mut open = wallets::open_or_create(store, &customer, &asset)?;
        open.book_due_now(store)?;
        let known = open.wallet.alert_state.topup.take();
        let mut topup = rule.topup(&open)?;
        if let Some(known) = known {
            // What is asked for already goes on.
            topup.in_flight = known.in_flight;
            topup.waits_until = known.waits_until;
            topup.asked = match known.every == topup.every {
                true => known.asked,
                false => asked_instead(store, &open, &known, topup.every)?,
            };
        }
        open.wallet.alert_state.topup = Some(topup);
        open.asks = TopUpTrigger::Always;
        open.write_back(store)?;
        Ok(open)
    })?;
    topup_row(&open).datum(args)
}

fn read_rule(args: &Args) -> Result<Rule> {
    let threshold = args.quantity("threshold")?;
    let credits = args.optional_quantity("credits")?;
    let to_balance = args.optional_quantity("to_balance")?;
    let refill = match (credits, to_balance) {
        (Some(credits), None) if credits.is_zero() => {
            return Err(errors::invalid("credits", "a top-up of zero credits"));
        }
        (Some(credits), None) => RequestedRefill::Credits(credits),
        (None, Some(target)) if target <= threshold => {
            return Err(errors::invalid(
                "to_balance",
                format_args!("{target} is not above the threshold of {threshold}"),
            ));
        }
        (None, Some(target)) => RequestedRefill::ToBalance(target),
        (None, None) => {
            return Err(errors::invalid(
                "credits",
                "it may not be NULL without to_balance",
            ));
        }
        (Some(_), Some(_)) => {
            return Err(errors::invalid(
                "to_balance",
                "a top-up is of a number of credits or to a balance, not both",
            ));
        }
    };
    let every_text = args.name("every")?;
    let cooldown_seconds = args.int("cooldown_seconds")?;
    if cooldown_seconds < 0 {
        return Err(errors::invalid(
            "cooldown_seconds",
            format_args!("{cooldown_seconds} is negative"),
        ));
    }
    Ok(Rule {
        threshold,
        refill,
        enabled: args.bool("enabled")?,
        max_credits: args.optional_quantity("max_credits")?,
        every: Calendar::from_str(&every_text).map_err(|_| {
            errors::invalid(
                "every",
                format_args!("{every_text:?} is none of hour, day, week, month, year"),
            )
        })?,
        cooldown_seconds,
    })
}

impl Rule {
    fn topup(&self, open: &OpenWallet) -> Result<TopUp> {
        // Where the calendar has no such period, it is said now and not to who spends.
        open.period(self.every, open.now)?;
        let max_credits = self.max_credits.map(|max| amount(open, "max_credits", max));
        Ok(TopUp {
            threshold: amount(open, "threshold", self.threshold)?,
            refill: match self.refill {
                RequestedRefill::Credits(credits) => {
                    Refill::Credits(amount(open, "credits", credits)?)
                }
                RequestedRefill::ToBalance(target) => {
                    Refill::ToBalance(amount(open, "to_balance", target)?)
                }
            },
            enabled: self.enabled,
            max_credits: max_credits.transpose()?,
            every: self.every,
            cooldown_seconds: self.cooldown_seconds,
            in_flight: None,
            waits_until: None,
            asked: None,
        })
    }
}

/// What was asked for in another period than it was counted in.
fn asked_instead(
    store: &Store,
    open: &OpenWallet,
    known: &TopUp,
    every: Calendar,
) -> Result<Option<RequestedTopUps>> {
    let period = open.period(every, open.now)?;
    let counted = open.period(known.every, open.now)?;
    let within = known
        .asked_in(open.now)
        .filter(|_| counted.start >= period.start);
    let counted = within.map_or(Amount::ZERO, |asked| asked.credits);
    let asked = events::asked_since(store, open, period.start)?;
    Ok(Some(RequestedTopUps {
        until: period.end,
        credits: asked.max(counted),
        capped: false,
    }))
}

pub fn topup_failed(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let event_id = args.uuid("event_id")?;
    let reason = args.text("reason")?;
    let open = Store::write(|store| {
        let mut open = match events::request(store, &customer, event_id)? {
            Some(request) => wallets::open(store, &customer, &request.asset)?,
            None => wallets::in_flight(store, &customer, event_id)?
                .ok_or_else(|| errors::not_found("event", &customer, event_id))?,
        };
        open.asks = TopUpTrigger::Never;
        // Read under the lock: told again, it fails once.
        let request = events::request(store, &customer, event_id)?;
        let period = events::topup_period(&open)?;
        let failed_before = request.as_ref().is_some_and(|one| one.failed_at.is_some());
        if let Some(topup) = open
            .wallet
            .alert_state
            .topup
            .as_mut()
            .filter(|_| !failed_before)
        {
            let (credits, asked_at) = match &request {
                Some(request) => (request.credits, request.created_at),
                None => (Amount::ZERO, open.now),
            };
            topup.fail(event_id, credits, asked_at, open.now, period);
        }
        events::fail(store, &customer, event_id, open.now, reason.as_deref())?;
        open.write_back(store)?;
        Ok(open)
    })?;
    topup_row(&open).datum(args)
}

/// A `credyt.topup`; without a rule its terms are NULL.
fn topup_row(open: &OpenWallet) -> Row {
    let topup = open.wallet.alert_state.topup.as_ref();
    topup_terms(topup).and(row! {
        customer: value::text(&open.customer),
        asset: value::text(&open.asset.name),
        in_flight: value::optional_uuid(topup.and_then(|topup| topup.in_flight)),
        cooldown_until: value::optional_moment(topup.and_then(|topup| topup.waits_until)),
    })
}

/// The terms of a rule for top-ups, which types and views have; NULL without a rule.
fn topup_terms(topup: Option<&TopUp>) -> Row {
    let (credits, to_balance) = match topup.map(|topup| topup.refill) {
        Some(Refill::Credits(credits)) => (Some(credits), None),
        Some(Refill::ToBalance(target)) => (None, Some(target)),
        None => (None, None),
    };
    row! {
        threshold: topup.and_then(|topup| value::credits(topup.threshold)),
        credits: credits.and_then(value::credits),
        enabled: topup.and_then(|topup| value::bool(topup.enabled)),
        to_balance: to_balance.and_then(value::credits),
        max_credits: topup.and_then(|topup| topup.max_credits).and_then(value::credits),
        every: topup.and_then(|topup| value::text(topup.every.as_str())),
        cooldown_seconds: topup.and_then(|topup| value::int(topup.cooldown_seconds)),
    }
}

pub fn set_expiry_notice(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let mut days = args.optional_ints("days")?.unwrap_or_default();
    let asset = args.name("asset")?;
    let kinds = arguments::required("kinds", args.names("kinds")?)?;
    days.sort_unstable_by_key(|days| -i64::from(*days));
    days.dedup();
    if let Some(days) = days
        .iter()
        .find(|days| !(1..=MAX_NOTICE_DAYS).contains(*days))
    {
        return Err(errors::invalid(
            "days",
            format_args!("{days} is not between 1 and {MAX_NOTICE_DAYS}"),
        ));
    }
    if days.len() > MAX_NOTICES {
        return Err(errors::invalid(
            "days",
            format_args!("more than {MAX_NOTICES} notices"),
        ));
    }
    let notice = Notice {
        days,
        kinds: read_kinds(&kinds)?,
    };
    Store::write(|store| {
        let asset = assets::asset(store, &asset)?;
        notices::set(store, &asset.name, &notice, assets::wall_clock())
    })?;
    let kinds: Vec<String> = notice.kinds.iter().map(Kind::to_string).collect();
    let days = (!notice.days.is_empty()).then(|| notice.days.iter().copied());
    row! {
        asset: value::text(&asset),
        days: days.and_then(value::ints),
        kinds: value::texts(Some(&kinds)),
    }
    .datum(args)
}

fn read_kinds(texts: &[String]) -> Result<Vec<Kind>> {
    if texts.is_empty() {
        return Err(errors::invalid("kinds", "an empty list"));
    }
    let mut kinds = Vec::new();
    for text in texts {
        let kind = Kind::from_str(text).map_err(|_| {
            errors::invalid(
                "kinds",
                format_args!("{text:?} is none of included, promotional, purchased"),
            )
        })?;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Ok(kinds)
}

pub fn take_events(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let batch = at_least_one(args, "batch")?;
    let lease_seconds = at_least_one(args, "lease_seconds")?;
    Store::write(|store| {
        let now = assets::now(store)?;
        let until = now.plus_seconds(lease_seconds.into()).ok_or_else(|| {
            errors::out_of_range("lease_seconds", "the lease would end beyond the year 9999")
        })?;
        events::take(store, now, batch, until, args)
    })
}

fn at_least_one(args: &Args, name: &str) -> Result<i32> {
    match args.int(name)? {
        number if number < 1 => Err(errors::invalid(
            name,
            format_args!("{number} is less than 1"),
        )),
        number => Ok(number),
    }
}

pub fn ack_events(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let mut ids = args.uuids("ids")?;
    ids.sort_unstable();
    ids.dedup();
    let done = Store::write(|store| {
        let now = assets::now(store)?;
        let done = events::acknowledge(store, now, &ids)?;
        done.map_err(errors::event_not_found)
    })?;
    let done = i32::try_from(done).map_err(|_| errors::out_of_range("ids", "too many at once"))?;
    row! { events: value::int(done) }.datum(args)
}
