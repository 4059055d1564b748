//! Plans: `create_plan`, `subscribe`, `change_plan`, `pay_subscription`, `unsubscribe`.

use std::rc::Rc;
use std::str::FromStr;

use jiff::tz::TimeZone;
use pgrx::pg_sys;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::grants::check_patterns;
use super::once::{Outcome, once_by};
use super::request;
use crate::errors::{self, Result};
use crate::ledger::period::{self, PeriodLength};
use crate::ledger::plan::{
    Had, Plan, Proration, Rollover, Seats, Subscription, Terms, WHOLE_PERCENT,
};
use crate::ledger::{Amount, Moment};
use crate::sql_types::{Args, args as arguments, row, value};
use crate::store::Store;
use crate::store::assets;
use crate::store::ledger::Key;
use crate::store::payments::{self, PaidPeriods};
use crate::store::plans::{self, PlanChange, StoredSubscription};
use crate::store::wallets::{self, OpenWallet};

/// The most periods that a subscription made late may have missed.
const MAX_MISSED: i32 = 1000;

/// The most seats of a subscription.
const MAX_SEATS: u32 = 1_000_000_000;

/// Credits that may move only so often stay in a grant for each period they come from.
const MAX_MOVES: i32 = 1000;

pub fn create_plan(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let name = args.name("plan")?;
    let credits = args.quantity("credits")?;
    let every = args.name("every")?;
    let every = PeriodLength::from_str(&every).map_err(|why| errors::invalid("every", why))?;
    let asset = args.name("asset")?;
    let paid = args.paid("paid")?;
    let rollover = args.optional_quantity("rollover")?;
    let priority = args.int("priority")?;
    let applies_to = args.names("applies_to")?;
    check_patterns(applies_to.as_deref())?;
    let percent = args.paid("rollover_percent")?;
    if percent > WHOLE_PERCENT {
        return Err(errors::invalid("rollover_percent", "more than 100 percent"));
    }
    let times = args.optional_int("rollover_periods")?;
    if times.is_some_and(|times| !(0..=MAX_MOVES).contains(&times)) {
        let why = format_args!("it is not between 0 and {MAX_MOVES}");
        return Err(errors::invalid("rollover_periods", why));
    }
    let times = times.map(i32::unsigned_abs);
    let terms = Store::write(|store| {
        // Versions of the plans of an asset are made one after another.
        assets::lock(store, &asset)?;
        let scale = assets::asset(store, &asset)?.scale;
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
            since: assets::now(store)?,
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
    row! {
        plan: value::text(&name),
        version: value::int(terms.version),
        asset: value::text(&asset),
        credits: value::credits(terms.credits),
        every: value::text(&terms.every.to_string()),
        paid: value::money(terms.paid),
        rollover: terms.rollover.most.and_then(value::credits),
        priority: value::int(terms.priority),
        applies_to: value::texts(terms.applies_to.as_deref()),
        created_at: value::moment(terms.since),
        rollover_percent: value::credits(terms.rollover.percent),
        rollover_periods: terms.rollover.times.and_then(|times| value::int(times.cast_signed())),
    }
    .datum(args)
}

/// A plan keeps its asset.
fn check_asset(plan: Option<&Plan>, name: &str, asset: &str) -> Result<()> {
    match plan {
        Some(plan) if plan.asset != asset => Err(errors::plan_differs(name, &plan.asset)),
        _ => Ok(()),
    }
}

/// How many seats: a whole number above 0.
fn read_seats(args: &Args) -> Result<Option<u32>> {
    let Some(quantity) = args.optional_quantity("quantity")? else {
        return Ok(None);
    };
    if quantity.is_zero() {
        return Err(errors::no_seats());
    }
    if !quantity.fract().is_zero() {
        let why = format_args!("{quantity} is no whole number of seats");
        return Err(errors::invalid("quantity", why));
    }
    match u32::try_from(quantity.trunc()) {
        Ok(seats) if seats <= MAX_SEATS => Ok(Some(seats)),
        _ => {
            let why = format_args!("{quantity} is more than {MAX_SEATS}");
            Err(errors::out_of_range("quantity", why))
        }
    }
}

/// Refuses seats whose credits or money no grant can hold.
fn check_seats(seats: &Seats) -> Result<()> {
    let newest = plans::newest(&seats.plan)?;
    let (credits, paid) = newest.for_seats(seats.quantity);
    let times = |amount: Amount| amount.units().checked_mul(i128::from(seats.quantity));
    if times(newest.credits) == Some(credits.units()) && times(newest.paid) == Some(paid.units()) {
        return Ok(());
    }
    let why = format_args!(
        "{} times plan {} comes to 1e15 or more in a period",
        seats.quantity, seats.plan.plan
    );
    Err(errors::out_of_range("quantity", why))
}

/// Refuses a plan whose credits another subscription of the customer gives at that moment: in a period that was
/// granted, or in the next.
fn check_free(
    store: &Store,
    customer: &str,
    plan: &str,
    own: Uuid,
    at: Moment,
    now: Moment,
) -> Result<()> {
    let occupies = |known: &Subscription| {
        let is = |seats: &Seats| seats.plan.plan == plan;
        let wanted = |next: Moment| known.ends_at.is_none_or(|end| next < end);
        let will = known.scheduled.as_ref().is_some_and(is) && known.next.is_some_and(wanted);
        will || is(&known.on) && known.lasts_at(at)
    };
    let mut others = plans::all(store, customer, plan)?;
    others.retain(|known| occupies(&known.subscription));
    others.extend(plans::moved_within(store, customer, plan, at)?);
    match (others.iter()).find(|other| other.subscription.id != own) {
        Some(other) => {
            let known = &other.subscription.on.plan.plan;
            let ended = !runs(other, now);
            Err(errors::goes_on_as(customer, plan, known, ended))
        }
        None => Ok(()),
    }
}

/// Whether further periods of it are wanted.
fn runs(known: &StoredSubscription, now: Moment) -> bool {
    known.subscription.ends_at.is_none_or(|end| end > now)
}

pub fn subscribe(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let plan = args.name("plan")?;
    let starts_at = args.optional_moment("starts_at")?;
    let paid_through = args.optional_moment("paid_through")?;
    let timezone = args.optional_name("timezone")?;
    let key_text = args.optional_name("idempotency_key")?;
    let quantity = arguments::required("quantity", read_seats(args)?)?;
    let payment = args.optional_name("payment")?;
    let key = request::key(key_text, "subscribe", || {
        vec![
            ("plan", Some(plan.clone())),
            ("timezone", timezone.clone()),
            ("quantity", Some(quantity.to_string())),
            ("payment", payment.clone()),
        ]
    });
    let answer = once_by(
        first_of(&customer, &key),
        |store| {
            let plan = Rc::new(plans::plan(store, &plan)?);
            let mut open = wallets::open_or_create(store, &customer, &plan.asset)?;
            open.book_due_now(store)?;
            let start = starts_at.unwrap_or(open.now);
            let mut known = plans::all(store, &customer, &plan.plan)?.into_iter();
            let running = known.find(|known| {
                known.subscription.on.plan.plan == plan.plan && known.subscription.lasts_at(start)
            });
            let id = running
                .as_ref()
                .map_or_else(Uuid::now_v7, |running| running.subscription.id);
            if !claim(store, &customer, key.as_ref(), id, open.now)? {
                return Ok(Outcome::KeyTaken);
            }
            open.not_closed()?;
            let on = Seats { plan, quantity };
            if let Some(mut running) = running {
                if running.subscription.on.quantity != quantity {
                    return Err(errors::other_quantity(
                        &customer,
                        &on.plan.plan,
                        running.subscription.on.quantity,
                        quantity,
                    ));
                }
                let first = running.subscription.started.or(running.subscription.next);
                if let (Some(payment), Some(since)) = (&payment, first) {
                    let periods = PaidPeriods {
                        subscription_id: id,
                        since,
                        until: None,
                    };
                    payments::name_periods(store, &customer, &periods, payment, open.now)?;
                }
                let ending = running.subscription.ends_at.take().is_some();
                if ending {
                    let resumed = &running.subscription;
                    if let Some(next) = resumed.next {
                        check_missed(&resumed.on.plan, next, &resumed.zone, open.now)?;
                    }
                    plans::set_ends(store, &customer, &running.subscription)?;
                    open.renew(store, key.clone())?;
                    running = plans::by_id(store, &customer, id)?.ok_or_else(missing_row)?;
                }
                return SubscriptionResult::new(&customer, running, open.now, !ending)
                    .map(Outcome::Booked);
            }
            check_free(store, &customer, &on.plan.plan, id, start, open.now)?;
            // A call that comes again after the subscription was moved begins no second one.
            if key.is_none() {
                let former = plans::former(store, &customer, &on.plan.plan)?;
                if let Some(moved) = former.iter().find(|known| runs(known, open.now)) {
                    let known = &moved.subscription.on.plan.plan;
                    return Err(errors::moved_on(&customer, &on.plan.plan, known));
                }
            }
            plans::check_room(store, &customer, &on.plan.asset, open.now)?;
            check_seats(&on)?;
            let new =
                StoredSubscription::new(store, id, on, start, paid_through, timezone, open.now)?;
            plans::insert(store, &customer, &new)?;
            if let Some(payment) = &payment {
                // Without a gate it is the first period's.
                let periods = PaidPeriods {
                    subscription_id: id,
                    since: new.starts_at,
                    until: paid_through,
                };
                payments::name_periods(store, &customer, &periods, payment, open.now)?;
            }
            open.renew(store, key.clone())?;
            let new = plans::by_id(store, &customer, id)?.ok_or_else(missing_row)?;
            SubscriptionResult::new(&customer, new, open.now, false).map(Outcome::Booked)
        },
        again_of(&customer),
    )?;
    answer.row(args)
}

impl StoredSubscription {
    /// A subscription before its first period.
    fn new(
        store: &Store,
        id: Uuid,
        on: Seats,
        starts_at: Moment,
        paid_through: Option<Moment>,
        timezone: Option<String>,
        now: Moment,
    ) -> Result<StoredSubscription> {
        let plan = &on.plan;
        let timezone = match timezone {
            Some(timezone) => timezone,
            None => {
                let definition = assets::definition(store, &plan.asset)?;
                let definition = definition.ok_or_else(|| errors::asset_not_found(&plan.asset))?;
                definition.timezone
            }
        };
        let unknown = || errors::invalid("timezone", format_args!("{timezone:?} is not known"));
        if !assets::is_timezone(&timezone) {
            return Err(unknown());
        }
        let zone = period::zone(&timezone).ok_or_else(unknown)?;
        check_missed(plan, starts_at, &zone, now)?;
        Ok(StoredSubscription {
            asset: plan.asset.clone(),
            starts_at,
            created_at: now,
            subscription: Subscription {
                id,
                created_at: now,
                zone,
                scale: assets::asset(store, &plan.asset)?.scale,
                on,
                scheduled: None,
                had: Had::default(),
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

/// Refuses a start since which too many periods have passed.
fn check_missed(plan: &Plan, start: Moment, zone: &TimeZone, now: Moment) -> Result<()> {
    let missed = |terms: &Terms| terms.every.times_after(start, zone, MAX_MISSED);
    if (plan.versions.iter().filter_map(missed)).any(|then| then <= now) {
        return Err(errors::invalid(
            "starts_at",
            format_args!("more than {MAX_MISSED} periods have passed since {start}"),
        ));
    }
    Ok(())
}

pub fn change_plan(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let change = ChangeRequest::read(args)?;
    let (customer, key) = (change.customer.clone(), change.key.clone());
    let answer = once_by(
        first_of(&customer, &key),
        |store| change.make(store),
        again_of(&customer),
    )?;
    answer.row(args)
}

/// What `change_plan` is asked for.
struct ChangeRequest {
    customer: String,
    plan: String,
    to_plan: Option<String>,
    quantity: Option<u32>,
    /// `None`: at the next renewal.
    now: Option<Proration>,
    proration: String,
    key: Option<Key>,
}

impl ChangeRequest {
    fn read(args: &Args) -> Result<ChangeRequest> {
        let customer = args.name("customer")?;
        let plan = args.name("plan")?;
        let to_plan = args.optional_name("to_plan")?;
        let quantity = read_seats(args)?;
        let at = args.name("at")?;
        let proration = args.name("proration")?;
        let key_text = args.optional_name("idempotency_key")?;
        let how = match proration.as_str() {
            "difference" => Proration::Difference,
            "restart" => Proration::Restart,
            "none" => Proration::None,
            other => {
                let why = format_args!("{other:?} is not difference, restart or none");
                return Err(errors::invalid("proration", why));
            }
        };
        let now = match at.as_str() {
            "now" => Some(how),
            "renewal" => None,
            other => {
                let why = format_args!("{other:?} is not now or renewal");
                return Err(errors::invalid("at", why));
            }
        };
        let key = request::key(key_text, "change_plan", || {
            vec![
                ("plan", Some(plan.clone())),
                ("to_plan", to_plan.clone()),
                request::number("quantity", quantity.map(Decimal::from)),
                ("at", Some(at)),
                ("proration", Some(proration.clone())),
            ]
        });
        Ok(ChangeRequest {
            customer,
            plan,
            to_plan,
            quantity,
            now,
            proration,
            key,
        })
    }

    fn make(self, store: &Store) -> Result<Outcome<SubscriptionResult>> {
        let customer = self.customer.as_str();
        let plan = Rc::new(plans::plan(store, &self.plan)?);
        let to_plan = match &self.to_plan {
            Some(name) => Rc::new(plans::plan(store, name)?),
            None => Rc::clone(&plan),
        };
        if to_plan.asset != plan.asset {
            return Err(errors::plan_of_another_asset(
                &to_plan.plan,
                &to_plan.asset,
                &plan.asset,
            ));
        }
        let missing = || errors::not_subscribed(customer, &plan.plan);
        let mut open = wallets::find(store, customer, &plan.asset)?.ok_or_else(missing)?;
        open.book_due_now(store)?;
        open.not_closed()?;
        let runs = |known: &StoredSubscription| runs(known, open.now);
        let on =
            |known: &StoredSubscription, plan: &Plan| known.subscription.on.plan.plan == plan.plan;
        let known = plans::all(store, customer, &plan.plan)?.into_iter();
        let known = known.filter(runs).find(|known| on(known, &plan));
        let (known, again) = match known {
            Some(known) => (known, false),
            // A call that comes again finds what the first one made.
            None => {
                let seats = |known: &StoredSubscription| {
                    let quantity = known.subscription.on.quantity;
                    on(known, &to_plan) && self.quantity.is_none_or(|asked| asked == quantity)
                };
                let former = plans::former(store, customer, &plan.plan)?.into_iter();
                let moved = former.filter(runs).find(seats);
                (moved.ok_or_else(missing)?, true)
            }
        };
        let subscription = &known.subscription;
        let to = Seats {
            quantity: self.quantity.unwrap_or(subscription.on.quantity),
            plan: to_plan,
        };
        check_seats(&to)?;
        if !on(&known, &to.plan) {
            let id = subscription.id;
            check_free(store, customer, &to.plan.plan, id, open.now, open.now)?;
        }
        let key = self.key.as_ref();
        if !claim(store, customer, key, subscription.id, open.now)? {
            return Ok(Outcome::KeyTaken);
        }
        let stays = to.same(&subscription.on);
        let same = match &subscription.scheduled {
            Some(scheduled) => self.now.is_none() && to.same(scheduled),
            None => stays,
        };
        if again || same {
            return SubscriptionResult::new(customer, known, open.now, true).map(Outcome::Booked);
        }
        let answer = match self.now {
            Some(proration) if !stays => self.change_now(store, &mut open, known, to, proration),
            _ => self.schedule(store, &open, known, to),
        };
        answer.map(Outcome::Booked)
    }

    /// The next period is on the new plan; where that is the one of this period, nothing changes any more.
    fn schedule(
        &self,
        store: &Store,
        open: &OpenWallet,
        mut known: StoredSubscription,
        to: Seats,
    ) -> Result<SubscriptionResult> {
        let subscription = &mut known.subscription;
        if let (Some(end), Some(next)) = (subscription.ends_at, subscription.next)
            && end <= next
            && self.now.is_none()
        {
            return Err(errors::no_renewal(
                &self.customer,
                &subscription.on.plan.plan,
                end,
            ));
        }
        let (from, id) = (&subscription.on, subscription.id);
        self.write_down(store, open, [from, &to], id, None, None)?;
        subscription.scheduled = Some(to).filter(|to| !to.same(&subscription.on));
        plans::schedule(store, &self.customer, subscription)?;
        SubscriptionResult::new(&self.customer, known, open.now, false)
    }

    fn change_now(
        self,
        store: &Store,
        open: &mut OpenWallet,
        known: StoredSubscription,
        to: Seats,
        proration: Proration,
    ) -> Result<SubscriptionResult> {
        let mut changed = known.subscription;
        let (id, from) = (changed.id, changed.on.clone());
        let period_end = changed.next.filter(|_| changed.runs(open.now));
        if proration == Proration::Restart && changed.runs(open.now) {
            open.end_period(store, &changed)?;
        }
        let renewing = changed
            .change(to.clone(), proration, open.asset.rounding, open.now)
            .map_err(|why| errors::different_periods(&from.plan.plan, &to.plan.plan, why))?;
        let granted = renewing.difference.as_ref().map(|(grant, _)| grant.id);
        self.write_down(store, open, [&from, &to], id, granted, period_end)?;
        open.change_plan(store, changed, renewing, self.key)?;
        let known = plans::by_id(store, &self.customer, id)?.ok_or_else(missing_row)?;
        SubscriptionResult::new(&self.customer, known, open.now, false)
    }

    fn write_down(
        &self,
        store: &Store,
        open: &OpenWallet,
        [from, to]: [&Seats; 2],
        subscription: Uuid,
        grant: Option<Uuid>,
        period_end: Option<Moment>,
    ) -> Result<()> {
        let change = PlanChange {
            customer: self.customer.clone(),
            id: Uuid::now_v7(),
            subscription_id: subscription,
            from_plan: from.plan.plan.clone(),
            from_quantity: from.quantity,
            to_plan: to.plan.plan.clone(),
            to_quantity: to.quantity,
            at: if self.now.is_some() { "now" } else { "renewal" }.to_owned(),
            proration: self.now.map(|_| self.proration.clone()),
            grant_id: grant,
            created_at: open.now,
            period_end,
        };
        plans::insert_change(store, &change)
    }
}

pub fn pay_subscription(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let plan = args.name("plan")?;
    let paid_through = args.moment("paid_through")?;
    let key_text = args.optional_name("idempotency_key")?;
    // Timestamps are never compared: a retry may have computed another one.
    let payment = args.optional_name("payment")?;
    let key = request::key(key_text, "pay_subscription", || {
        vec![("plan", Some(plan.clone())), ("payment", payment.clone())]
    });
    let answer = once_by(
        first_of(&customer, &key),
        |store| {
            // A payment may be told under the name of the plan that it was asked for.
            let (mut open, mut subscribed) = opened(store, &customer, &plan, true)?;
            let subscription = &mut subscribed.subscription;
            let id = subscription.id;
            if !claim(store, &customer, key.as_ref(), id, open.now)? {
                return Ok(Outcome::KeyTaken);
            }
            open.not_closed()?;
            if let Some(payment) = &payment {
                // Those that it lets begin; where it lets none, the period that runs.
                let before = subscription.paid_through;
                let running = subscription.started.or(subscription.next);
                let since = before.filter(|before| *before < paid_through).or(running);
                let periods = since.map(|since| PaidPeriods {
                    subscription_id: id,
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
            open.renew(store, key.clone())?;
            let paid = plans::by_id(store, &customer, id)?.ok_or_else(missing_row)?;
            SubscriptionResult::new(&customer, paid, open.now, false).map(Outcome::Booked)
        },
        again_of(&customer),
    )?;
    answer.row(args)
}

pub fn unsubscribe(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let plan = args.name("plan")?;
    let at = args.optional_moment("at")?;
    let answer = Store::write(|store| {
        let (mut open, mut subscribed) = opened(store, &customer, &plan, false)?;
        let subscription = &mut subscribed.subscription;
        if subscription.ends_at.is_some_and(|end| end <= open.now) {
            return SubscriptionResult::new(&customer, subscribed, open.now, true);
        }
        subscription.ends_at = Some(at.unwrap_or(open.now).max(open.now));
        plans::set_ends(store, &customer, subscription)?;
        // Who comes back comes back to the plan of today.
        if subscription.scheduled.is_some() && subscription.next >= subscription.ends_at {
            subscription.scheduled = None;
            plans::schedule(store, &customer, subscription)?;
        }
        open.renew(store, None)?;
        SubscriptionResult::new(&customer, subscribed, open.now, false)
    })?;
    answer.row(args)
}

/// The wallet of a plan, with all that was due booked, and the customer's subscription to it: the one
/// that runs, or else the latest; `formerly` also one that was on that plan once. WC010, WC011.
fn opened(
    store: &Store,
    customer: &str,
    plan: &str,
    formerly: bool,
) -> Result<(OpenWallet, StoredSubscription)> {
    let plan = plans::plan(store, plan)?;
    let missing = || errors::not_subscribed(customer, &plan.plan);
    let mut open = wallets::find(store, customer, &plan.asset)?.ok_or_else(missing)?;
    open.book_due_now(store)?;
    let mut known = plans::all(store, customer, &plan.plan)?;
    known.retain(|known| known.subscription.on.plan.plan == plan.plan);
    let runs = |known: &StoredSubscription| runs(known, open.now);
    if formerly && !known.iter().any(runs) {
        known.extend(plans::former(store, customer, &plan.plan)?);
    }
    let place = known.iter().position(runs).unwrap_or(0);
    if known.is_empty() {
        let former = plans::former(store, customer, &plan.plan)?;
        return Err(match former.iter().find(|known| runs(known)) {
            Some(moved) => {
                errors::subscribed_elsewhere(customer, &plan.plan, &moved.subscription.on.plan.plan)
            }
            None => missing(),
        });
    }
    let subscribed = known.swap_remove(place);
    Ok((open, subscribed))
}

/// Takes the key of a call. False when it is taken.
fn claim(store: &Store, customer: &str, key: Option<&Key>, id: Uuid, now: Moment) -> Result<bool> {
    key.map_or(Ok(true), |key| plans::claim(store, customer, key, id, now))
}

/// Which subscription the first call with this key was about, if it was the same one.
fn first_of(customer: &str, key: &Option<Key>) -> impl FnOnce(&Store) -> Result<Option<Uuid>> {
    move |store| match key {
        Some(key) => plans::claimed(store, customer, key),
        None => Ok(None),
    }
}

/// The answer to it again, as its subscription stands now.
fn again_of(customer: &str) -> impl FnOnce(&Store, Uuid) -> Result<SubscriptionResult> {
    move |store, id| {
        let known = plans::by_id(store, customer, id)?.ok_or_else(missing_row)?;
        let view = wallets::look(store, customer, &known.asset, None)?;
        let now = view.map_or(known.created_at, |view| view.now);
        SubscriptionResult::new(customer, known, now, true)
    }
}

fn missing_row() -> errors::Error {
    errors::corrupted("the books", "a subscription is not there")
}

/// `credyt.subscription_at(customer, subscription_id, at)`: how far it is, seen from then.
pub fn subscription_at(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let id = args.uuid("subscription_id")?;
    let at = args.moment("at")?;
    Store::read(|store| {
        let Some(known) = plans::by_id(store, &customer, id)? else {
            return Ok(value::NULL);
        };
        let started = known.subscription.started.unwrap_or(known.starts_at);
        assets::check_ahead(store, at, started)?;
        let mut known = known.subscription;
        known.renew(at);
        let version = known.terms.as_ref().map(|terms| terms.version);
        let scheduled = known.scheduled.as_ref();
        row! {
            plan: value::text(&known.on.plan.plan),
            version: version.and_then(value::int),
            quantity: plans::seats(known.on.quantity),
            period_start: value::optional_moment(known.started),
            period_end: value::optional_moment(known.next),
            grant_id: value::optional_uuid(known.had.grant),
            next_plan: value::optional_text(scheduled.map(|next| next.plan.plan.as_str())),
            next_quantity: scheduled.and_then(|next| plans::seats(next.quantity)),
        }
        .datum(args)
    })
}

/// A `credyt.subscription`.
struct SubscriptionResult {
    customer: String,
    subscribed: StoredSubscription,
    terms: Terms,
    now: Moment,
    replayed: bool,
}

impl SubscriptionResult {
    fn new(
        customer: &str,
        subscribed: StoredSubscription,
        now: Moment,
        replayed: bool,
    ) -> Result<SubscriptionResult> {
        let terms = match &subscribed.subscription.terms {
            Some(terms) => terms.clone(),
            None => plans::newest(&subscribed.subscription.on.plan)?.clone(),
        };
        Ok(SubscriptionResult {
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
        let seats = |on: &Seats| value::decimal(Decimal::from(on.quantity));
        let scheduled = known.scheduled.as_ref();
        row! {
            id: value::uuid(known.id),
            customer: value::text(&self.customer),
            plan: value::text(&known.on.plan.plan),
            version: value::int(self.terms.version),
            quantity: seats(&known.on),
            asset: value::text(&self.subscribed.asset),
            credits: value::credits(self.terms.for_seats(known.on.quantity).0),
            timezone: value::text(&self.subscribed.timezone),
            status: value::text(status),
            starts_at: value::moment(self.subscribed.starts_at),
            period_start: value::optional_moment(known.started),
            period_end: value::optional_moment(known.started.and(known.next)),
            next_renewal_at: value::optional_moment(next),
            paid_through: value::optional_moment(known.paid_through),
            ends_at: value::optional_moment(known.ends_at),
            next_plan: value::optional_text(scheduled.map(|next| next.plan.plan.as_str())),
            next_quantity: scheduled.and_then(seats),
            replayed: value::bool(self.replayed),
        }
        .datum(args)
    }
}
