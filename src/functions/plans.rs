//! Plans: `create_plan`, `subscribe`, `pay_subscription`, `unsubscribe`.

use std::str::FromStr;

use pgrx::pg_sys;
use uuid::Uuid;

use super::grants::check_patterns;
use super::request;
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::ledger::period::{self, Every};
use crate::ledger::plan::{self, Rollover, Subscription, Terms, WHOLE_PERCENT};
use crate::sql_types::{Args, Row, args as arguments, value};
use crate::store::Store;
use crate::store::books;
use crate::store::ledger::Key;
use crate::store::payments::{self, PaidPeriods};
use crate::store::plans::{self, Plan, Subscribed};
use crate::store::wallets;

/// A subscription that is made late may have missed so many periods.
const MAX_MISSED: i32 = 1000;

/// Credits that may move only so often stay in a grant for each period they come from.
const MAX_MOVES: i32 = 1000;

pub fn create_plan(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let name = args.name(0, "plan")?;
    let credits = args.quantity(1, "credits")?;
    let every = args.name(2, "every")?;
    let every = Every::from_str(&every).map_err(|why| errors::invalid("every", why))?;
    let asset = args.name(3, "asset")?;
    let paid = args.paid(4, "paid")?;
    let rollover = args.optional_quantity(5, "rollover")?;
    let priority = args.int(6, "priority")?;
    let applies_to = args.names(7, "applies_to")?;
    check_patterns(applies_to.as_deref())?;
    let percent = args.paid(8, "rollover_percent")?;
    if percent > WHOLE_PERCENT {
        return Err(errors::invalid("rollover_percent", "more than 100 percent"));
    }
    let times = args.optional_int(9, "rollover_periods")?;
    if times.is_some_and(|times| !(0..=MAX_MOVES).contains(&times)) {
        let why = format_args!("it is not between 0 and {MAX_MOVES}");
        return Err(errors::invalid("rollover_periods", why));
    }
    let times = times.map(i32::unsigned_abs);
    let terms = Store::write(|store| {
        // Versions of the plans of an asset are made one after another.
        books::lock(store, &asset)?;
        let scale = books::asset(store, &asset)?.scale;
        let credits = arguments::amount("credits", credits, scale)?;
        if credits.is_zero() && paid.is_positive() {
            return Err(errors::invalid("credits", "zero credits are not paid for"));
        }
        let rollover = rollover
            .map(|rollover| arguments::amount("rollover", rollover, scale))
            .transpose()?;
        let known = plans::find(store, &name)?;
        let newest = known.as_ref().and_then(|plan| plan.versions.last());
        let terms = Terms {
            version: newest.map_or(1, |newest| newest.version + 1),
            credits,
            every,
            paid,
            rollover: Rollover {
                most: rollover,
                percent,
                times,
            },
            priority,
            applies_to,
            since: books::now(store)?,
            committed_at: None,
        };
        check_asset(known.as_ref(), &name, &asset)?;
        if let Some(newest) = newest.filter(|newest| newest.same_terms(&terms)) {
            return Ok(newest.clone());
        }
        plans::insert_version(store, &name, &asset, &terms)?;
        // Another asset's plan of that name may have been quicker.
        check_asset(plans::find(store, &name)?.as_ref(), &name, &asset)?;
        Ok(terms)
    })?;
    Row::in_order(vec![
        value::text(&name),
        value::int(terms.version),
        value::text(&asset),
        value::credits(terms.credits),
        value::text(&terms.every.to_string()),
        value::money(terms.paid),
        terms.rollover.most.and_then(value::credits),
        value::int(terms.priority),
        value::texts(terms.applies_to.as_deref()),
        value::moment(terms.since),
        value::credits(terms.rollover.percent),
        terms
            .rollover
            .times
            .and_then(|times| value::int(times.cast_signed())),
    ])
    .datum(args)
}

/// A plan keeps its asset.
fn check_asset(plan: Option<&Plan>, name: &str, asset: &str) -> Result<()> {
    match plan {
        Some(plan) if plan.asset != asset => Err(errors::plan_differs(name, &plan.asset)),
        _ => Ok(()),
    }
}

pub fn subscribe(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name(0, "customer")?;
    let plan = args.name(1, "plan")?;
    let starts_at = args.optional_moment(2, "starts_at")?;
    let paid_through = args.optional_moment(3, "paid_through")?;
    let timezone = args.optional_name(4, "timezone")?;
    let key_text = args.optional_name(5, "idempotency_key")?;
    let payment = args.optional_name(6, "payment")?;
    let key = request::key(key_text, "subscribe", || {
        vec![
            ("plan", Some(plan.clone())),
            ("timezone", timezone.clone()),
            ("payment", payment.clone()),
        ]
    });
    let answer = Store::write(|store| {
        let plan = plans::plan(store, &plan)?;
        let mut open = wallets::open_or_create(store, &customer, &plan.asset)?;
        open.book_due_now(store)?;
        let start = starts_at.unwrap_or(open.now).max(open.now);
        let mut known = plans::all(store, &customer, &plan)?.into_iter();
        let running = known.find(|known| known.subscription.lasts_at(&plan.versions, start));
        let id = running
            .as_ref()
            .map_or_else(Uuid::now_v7, |running| running.subscription.id);
        if let Some(first) = claim(store, &customer, key.as_ref(), id, open.now)? {
            return answer_again(store, &customer, first, open.now);
        }
        open.not_closed()?;
        if let Some(mut running) = running {
            let first = running.subscription.started.or(running.subscription.next);
            if let (Some(payment), Some(since)) = (&payment, first) {
                let periods = PaidPeriods {
                    subscription: id,
                    since,
                    until: None,
                };
                payments::name_periods(store, &customer, &periods, payment, open.now)?;
            }
            let ending = running.subscription.ends_at.take().is_some();
            if ending {
                plans::set_ends(store, &customer, &running.subscription)?;
                open.renew(store, key)?;
            }
            return Answer::new(store, &customer, running, open.now, !ending);
        }
        plans::check_room(store, &customer, &plan.asset, open.now)?;
        let new = Subscribed::new(
            store,
            id,
            &plan,
            starts_at.unwrap_or(open.now),
            paid_through,
            timezone,
            open.now,
        )?;
        plans::insert(store, &customer, &new)?;
        if let Some(payment) = &payment {
            // Without a gate it is the first period's.
            let periods = PaidPeriods {
                subscription: id,
                since: new.starts_at,
                until: paid_through,
            };
            payments::name_periods(store, &customer, &periods, payment, open.now)?;
        }
        open.renew(store, key)?;
        let new = plans::by_id(store, &customer, id)?.ok_or_else(lost)?;
        Answer::new(store, &customer, new, open.now, false)
    })?;
    answer.row(args)
}

impl Subscribed {
    /// A subscription before its first period.
    fn new(
        store: &Store,
        id: Uuid,
        plan: &Plan,
        starts_at: Moment,
        paid_through: Option<Moment>,
        timezone: Option<String>,
        now: Moment,
    ) -> Result<Subscribed> {
        let timezone = match timezone {
            Some(timezone) => timezone,
            None => {
                let definition = books::definition(store, &plan.asset)?;
                let definition = definition.ok_or_else(|| errors::asset_not_found(&plan.asset))?;
                definition.timezone
            }
        };
        let unknown = || errors::invalid("timezone", format_args!("{timezone:?} is not known"));
        if !books::is_timezone(&timezone) {
            return Err(unknown());
        }
        let zone = period::zone(&timezone).ok_or_else(unknown)?;
        let missed = |terms: &Terms| terms.every.times_after(starts_at, &zone, MAX_MISSED);
        let is_over = |then: Option<Moment>| then.is_some_and(|then| then <= now);
        if plan.versions.iter().map(missed).any(is_over) {
            return Err(errors::invalid(
                "starts_at",
                format_args!("more than {MAX_MISSED} periods have passed since {starts_at}"),
            ));
        }
        Ok(Subscribed {
            asset: plan.asset.clone(),
            starts_at,
            created_at: now,
            subscription: Subscription {
                id,
                plan: plan.plan.clone(),
                created_at: now,
                zone,
                scale: books::asset(store, &plan.asset)?.scale,
                anchor: starts_at,
                steps: 0,
                next: Some(starts_at),
                started: None,
                terms: None,
                paid_through,
                ends_at: None,
                grants: Vec::new(),
                waits_until: None,
            },
            timezone,
        })
    }
}

pub fn pay_subscription(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name(0, "customer")?;
    let plan = args.name(1, "plan")?;
    let paid_through = args.moment(2, "paid_through")?;
    let key_text = args.optional_name(3, "idempotency_key")?;
    // Timestamps are never compared: a retry may have computed another one.
    let payment = args.optional_name(4, "payment")?;
    let key = request::key(key_text, "pay_subscription", || {
        vec![("plan", Some(plan.clone())), ("payment", payment.clone())]
    });
    let answer = Store::write(|store| {
        let (mut open, mut subscribed) = opened(store, &customer, &plan)?;
        let subscription = &mut subscribed.subscription;
        let id = subscription.id;
        if let Some(first) = claim(store, &customer, key.as_ref(), id, open.now)? {
            return answer_again(store, &customer, first, open.now);
        }
        open.not_closed()?;
        if let Some(payment) = &payment {
            // Those that it lets begin; where it lets none, the period that runs.
            let before = subscription.paid_through;
            let running = subscription.started.or(subscription.next);
            let since = before.filter(|before| *before < paid_through).or(running);
            let periods = since.map(|since| PaidPeriods {
                subscription: id,
                since,
                until: Some(paid_through).filter(|until| *until > since),
            });
            if let Some(periods) = periods {
                payments::name_periods(store, &customer, &periods, payment, open.now)?;
            }
        }
        // A payment that is told late takes nothing away.
        let known = subscription.paid_through.unwrap_or(paid_through);
        subscription.paid_through = Some(known.max(paid_through));
        plans::set_ends(store, &customer, subscription)?;
        open.renew(store, key)?;
        let paid = plans::by_id(store, &customer, id)?.ok_or_else(lost)?;
        Answer::new(store, &customer, paid, open.now, false)
    })?;
    answer.row(args)
}

pub fn unsubscribe(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name(0, "customer")?;
    let plan = args.name(1, "plan")?;
    let at = args.optional_moment(2, "at")?;
    let answer = Store::write(|store| {
        let (mut open, mut subscribed) = opened(store, &customer, &plan)?;
        let subscription = &mut subscribed.subscription;
        if subscription.ends_at.is_some_and(|end| end <= open.now) {
            return Answer::new(store, &customer, subscribed, open.now, true);
        }
        subscription.ends_at = Some(at.unwrap_or(open.now).max(open.now));
        plans::set_ends(store, &customer, subscription)?;
        open.renew(store, None)?;
        Answer::new(store, &customer, subscribed, open.now, false)
    })?;
    answer.row(args)
}

/// The wallet of a plan, with all that was due booked, and the customer's subscription to it: the one
/// that runs, or else the latest; WC010, WC011.
fn opened(store: &Store, customer: &str, plan: &str) -> Result<(wallets::OpenWallet, Subscribed)> {
    let plan = plans::plan(store, plan)?;
    let missing = || errors::not_subscribed(customer, &plan.plan);
    let mut open = wallets::find(store, customer, &plan.asset)?.ok_or_else(missing)?;
    open.book_due_now(store)?;
    let mut known = plans::all(store, customer, &plan)?;
    let runs = |known: &Subscribed| known.subscription.ends_at.is_none_or(|end| end > open.now);
    let place = known.iter().position(runs).unwrap_or(0);
    if known.is_empty() {
        return Err(missing());
    }
    let subscribed = known.swap_remove(place);
    Ok((open, subscribed))
}

/// Takes the key of a call; where it was taken by the same one, the subscription it was about.
fn claim(
    store: &Store,
    customer: &str,
    key: Option<&Key>,
    id: Uuid,
    now: Moment,
) -> Result<Option<Uuid>> {
    match key {
        Some(key) => plans::claim(store, customer, key, id, now),
        None => Ok(None),
    }
}

fn answer_again(store: &Store, customer: &str, id: Uuid, now: Moment) -> Result<Answer> {
    let known = plans::by_id(store, customer, id)?.ok_or_else(lost)?;
    Answer::new(store, customer, known, now, true)
}

fn lost() -> errors::Error {
    errors::corrupted("the books", "a subscription is not there")
}

/// `credyt.subscription_at(customer, subscription_id, at)`: how far it is, seen from then.
pub fn subscription_at(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name(0, "customer")?;
    let id = args.uuid(1, "subscription_id")?;
    let at = args.moment(2, "at")?;
    Store::read(|store| {
        let Some(known) = plans::by_id(store, &customer, id)? else {
            return Ok(value::NULL);
        };
        let started = known.subscription.started.unwrap_or(known.starts_at);
        books::check_ahead(store, at, started)?;
        let mut known = known.subscription;
        let plan = plans::plan(store, &known.plan)?;
        known.renew(&plan.versions, at);
        let version = known.terms.as_ref().map(|terms| terms.version);
        Row::in_order(vec![
            version.and_then(value::int),
            value::optional_moment(known.started),
            value::optional_moment(known.next),
        ])
        .datum(args)
    })
}

/// `credyt.period_grant(subscription_id, period_start)`: the id of what a period grants, if it does.
pub fn period_grant(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let id = args.uuid(0, "subscription_id")?;
    let starts = args.moment(1, "period_start")?;
    Ok(value::uuid(plan::grant_id(id, starts, plan::OWN)))
}

/// A `credyt.subscription`.
struct Answer {
    customer: String,
    subscribed: Subscribed,
    terms: Terms,
    now: Moment,
    replayed: bool,
}

impl Answer {
    fn new(
        store: &Store,
        customer: &str,
        subscribed: Subscribed,
        now: Moment,
        replayed: bool,
    ) -> Result<Answer> {
        let terms = match &subscribed.subscription.terms {
            Some(terms) => terms.clone(),
            None => plans::plan(store, &subscribed.subscription.plan)?
                .newest()?
                .clone(),
        };
        Ok(Answer {
            customer: customer.to_owned(),
            subscribed,
            terms,
            now,
            replayed,
        })
    }

    fn row(self, args: &Args) -> Result<Option<pg_sys::Datum>> {
        let known = &self.subscribed.subscription;
        let next = known
            .next
            .filter(|next| known.ends_at.is_none_or(|end| *next < end));
        let status = if known.ends_at.is_some_and(|end| end <= self.now) {
            "ended"
        } else if next.is_some_and(|next| next <= self.now) {
            "unpaid"
        } else if known.started.is_none() {
            "scheduled"
        } else {
            "active"
        };
        Row::in_order(vec![
            value::uuid(known.id),
            value::text(&self.customer),
            value::text(&known.plan),
            value::int(self.terms.version),
            value::text(&self.subscribed.asset),
            value::credits(self.terms.credits),
            value::text(&self.subscribed.timezone),
            value::text(status),
            value::moment(self.subscribed.starts_at),
            value::optional_moment(known.started),
            value::optional_moment(known.started.and(known.next)),
            value::optional_moment(next),
            value::optional_moment(known.paid_through),
            value::optional_moment(known.ends_at),
            value::bool(self.replayed),
        ])
        .datum(args)
    }
}
