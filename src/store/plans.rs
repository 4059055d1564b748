//! Plans, and who is subscribed to them. A subscription changes under the lock of its wallet only.

use std::collections::HashMap;
use std::rc::Rc;
use std::str::FromStr;

use uuid::Uuid;

use super::books;
use super::grants::{self, Issued};
use super::ledger::{self, Key};
use super::statement::{
    BYTES, INT, INTS, NUMERIC, ROWS_AT_ONCE, RowRef, Statement, Store, TEXT, TEXTS, TIME, UUID,
    UUIDS,
};
use crate::errors::{self, Result};
use crate::ledger::period::{self, Every};
use crate::ledger::plan::{
    Had, Issue, PeriodGrant, Plan, Renewing, Rollover, Seats, Subscription, Terms,
};
use crate::ledger::wallet::{Decided, Due};
use crate::ledger::{Amount, Moment};
use crate::sql_types::value::Value;
use crate::sql_types::{Scratch, value};

/// More subscriptions than these do not run on one wallet.
const MAX_RUNNING: usize = 100;

/// A subscription as it is kept.
pub struct Subscribed {
    pub asset: String,
    pub timezone: String,
    pub starts_at: Moment,
    pub created_at: Moment,
    pub subscription: Subscription,
}

static VERSIONS: Statement = Statement {
    sql: "SELECT p.asset, p.version, p.credits, p.every, p.paid, p.rollover, p.priority,
              p.applies_to, p.created_at, p.committed_at, p.rollover_percent, p.rollover_periods
          FROM credyt.plans p WHERE p.plan = $1 ORDER BY p.version",
    args: &[TEXT],
};

static INSERT_VERSION: Statement = Statement {
    sql: "INSERT INTO credyt.plans (plan, version, asset, credits, every, paid, rollover, priority,
              applies_to, created_at, rollover_percent, rollover_periods)
          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
          ON CONFLICT (plan, version) DO NOTHING",
    args: &[
        TEXT, INT, TEXT, NUMERIC, TEXT, NUMERIC, NUMERIC, INT, TEXTS, TIME, NUMERIC, INT,
    ],
};

/// Those that this transaction has made.
static COMMIT: Statement = Statement {
    sql: "UPDATE credyt.plans SET committed_at = $1 WHERE committed_at IS NULL",
    args: &[TIME],
};

macro_rules! subscriptions {
    ($condition:literal) => {
        concat!(
            "SELECT s.id, s.plan, s.asset, s.timezone, s.starts_at, s.anchor, s.steps,
                 s.period_start, s.version, s.next_renewal_at, s.paid_through, s.ends_at, s.grants,
                 s.created_at, s.waits_until,
                 CASE WHEN s.paid_through IS NULL OR s.next_renewal_at < s.paid_through
                      THEN s.next_renewal_at
                      ELSE least(coalesce(s.waits_until, s.next_renewal_at), s.ends_at) END,
                 s.moved, s.quantity, s.next_plan, s.next_quantity, s.grant_id, s.had_credits, s.had_paid,
                 s.had_plans
             FROM credyt.booked_subscriptions s WHERE s.customer = $1 AND ",
            $condition
        )
    };
}

/// Those that renew without a further payment, or whose credits may wait for one; with when that is.
static RENEWABLE: Statement = Statement {
    sql: subscriptions!(
        "s.asset = $2 AND s.next_renewal_at IS NOT NULL
             AND (s.paid_through IS NULL OR s.next_renewal_at < s.paid_through OR s.grants <> '{}')
             AND (s.ends_at IS NULL OR s.next_renewal_at < s.ends_at)
         ORDER BY s.id"
    ),
    args: &[TEXT, TEXT],
};

static ALL: Statement = Statement {
    sql: subscriptions!(
        "(s.plan = $2 OR s.next_plan = $2 OR $2 = ANY (s.had_plans)) ORDER BY s.id DESC"
    ),
    args: &[TEXT, TEXT],
};

static FORMER: Statement = Statement {
    sql: subscriptions!(
        "s.plan <> $2 AND s.id IN (SELECT c.subscription_id FROM credyt.plan_changes c
                                   WHERE c.customer = $1 AND c.from_plan = $2) ORDER BY s.id DESC"
    ),
    args: &[TEXT, TEXT],
};

static BY_ID: Statement = Statement {
    sql: subscriptions!("s.id = $2"),
    args: &[TEXT, UUID],
};

static RUNNING: Statement = Statement {
    sql: "SELECT 1 FROM credyt.booked_subscriptions s
          WHERE s.customer = $1 AND s.asset = $2 AND (s.ends_at IS NULL OR s.ends_at > $3)",
    args: &[TEXT, TEXT, TIME],
};

static INSERT: Statement = Statement {
    sql: "INSERT INTO credyt.booked_subscriptions (customer, id, plan, asset, timezone, starts_at, anchor,
              steps, next_renewal_at, paid_through, grants, moved, created_at, quantity, had_credits, had_paid,
              had_plans)
          VALUES ($1, $2, $3, $4, $5, $6, $6, 0, $6, $7, '{}', '{}', $8, $9, 0, 0, '{}')",
    args: &[TEXT, UUID, TEXT, TEXT, TEXT, TIME, TIME, TIME, INT],
};

static UPDATE: Statement = Statement {
    sql: "UPDATE credyt.booked_subscriptions
          SET anchor = $3, steps = $4, period_start = $5, version = $6, next_renewal_at = $7,
              grants = $8, waits_until = $9, moved = $10, plan = $11, quantity = $12, next_plan = $13,
              next_quantity = $14, grant_id = $15, had_credits = $16, had_paid = $17, had_plans = $18
          WHERE customer = $1 AND id = $2",
    args: &[
        TEXT, UUID, TIME, INT, TIME, INT, TIME, UUIDS, TIME, INTS, TEXT, INT, TEXT, INT, UUID,
        NUMERIC, NUMERIC, TEXTS,
    ],
};

static SET_ENDS: Statement = Statement {
    sql: "UPDATE credyt.booked_subscriptions SET paid_through = $3, ends_at = $4
          WHERE customer = $1 AND id = $2",
    args: &[TEXT, UUID, TIME, TIME],
};

static SCHEDULE: Statement = Statement {
    sql: "UPDATE credyt.booked_subscriptions SET next_plan = $3, next_quantity = $4
          WHERE customer = $1 AND id = $2",
    args: &[TEXT, UUID, TEXT, INT],
};

static INSERT_CHANGE: Statement = Statement {
    sql: "INSERT INTO credyt.plan_changes (customer, id, subscription_id, from_plan, from_quantity, to_plan,
              to_quantity, at, proration, grant_id, created_at)
          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    args: &[
        TEXT, UUID, UUID, TEXT, INT, TEXT, INT, TEXT, TEXT, UUID, TIME,
    ],
};

/// A period that waits for a payment is not wanted any more either.
static END_ALL: Statement = Statement {
    sql: "UPDATE credyt.booked_subscriptions SET ends_at = least($3, next_renewal_at)
          WHERE customer = $1 AND asset = $2
            AND (ends_at IS NULL OR ends_at > least($3, next_renewal_at))",
    args: &[TEXT, TEXT, TIME],
};

static CLAIM: Statement = Statement {
    sql: "INSERT INTO credyt.subscription_keys
              (customer, idempotency_key, request, subscription_id, created_at)
          VALUES ($1, $2, $3, $4, $5) ON CONFLICT (customer, idempotency_key) DO NOTHING",
    args: &[TEXT, TEXT, BYTES, UUID, TIME],
};

static CLAIMED: Statement = Statement {
    sql: "SELECT k.request, k.subscription_id FROM credyt.subscription_keys k
          WHERE k.customer = $1 AND k.idempotency_key = $2",
    args: &[TEXT, TEXT],
};

// ---- plans --------------------------------------------------------------------------------------

/// The newest version of a plan; there is always one.
pub fn newest(plan: &Plan) -> Result<&Terms> {
    (plan.versions.last()).ok_or_else(|| errors::plan_not_found(&plan.plan))
}

/// A plan, or WC010.
pub fn plan(store: &Store, name: &str) -> Result<Plan> {
    find(store, name)?.ok_or_else(|| errors::plan_not_found(name))
}

pub fn find(store: &Store, name: &str) -> Result<Option<Plan>> {
    let rows = VERSIONS.run(store, &[value::text(name)])?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let versions: Result<Vec<Terms>> = rows.iter().map(|row| read_terms(&row)).collect();
    Ok(Some(Plan {
        plan: name.to_owned(),
        asset: first.text(1)?,
        versions: versions?,
    }))
}

fn read_terms(row: &RowRef) -> Result<Terms> {
    let every = row.text(4)?;
    Ok(Terms {
        version: row.int(2)?,
        credits: row.amount(3)?,
        every: Every::from_str(&every).map_err(|why| errors::corrupted("a plan", why))?,
        paid: row.amount(5)?,
        rollover: Rollover {
            most: row.optional_amount(6)?,
            percent: row.amount(11)?,
            times: row.optional_int(12).map(|times| times.unsigned_abs()),
        },
        priority: row.int(7)?,
        applies_to: row.optional_texts(8),
        since: row.moment(9)?,
        committed_at: row.optional_moment(10),
    })
}

/// Keeps a new version, unless another one of that number is there.
pub fn insert_version(store: &Store, plan: &str, asset: &str, terms: &Terms) -> Result<()> {
    let args = [
        value::text(plan),
        value::int(terms.version),
        value::text(asset),
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
    ];
    INSERT_VERSION.run(store, &args)?;
    Ok(())
}

/// More than it takes to make a commit visible. Renewals of that time are on the old terms, since
/// somebody may have read them so.
const COMMIT_TAKES: i64 = 1;

/// The transaction commits: from now on its versions count for renewals.
pub fn commit_versions(store: &Store) -> Result<()> {
    let at = match books::stands_in(store)? {
        Some(at) => Some(at),
        None => books::wall_clock().plus_seconds(COMMIT_TAKES),
    };
    COMMIT.run(store, &[value::optional_moment(at)])?;
    Ok(())
}

// ---- subscriptions ------------------------------------------------------------------------------

/// The customer's subscriptions that are on a plan, will be, or were within the period that was booked last;
/// the latest first.
pub fn all(store: &Store, customer: &str, plan: &str) -> Result<Vec<Subscribed>> {
    let rows = ALL.run(store, &[value::text(customer), value::text(plan)])?;
    rows.iter().map(|row| read(store, &row)).collect()
}

/// Those that were on the plan once and are on another one; the latest first.
pub fn former(store: &Store, customer: &str, plan: &str) -> Result<Vec<Subscribed>> {
    let rows = FORMER.run(store, &[value::text(customer), value::text(plan)])?;
    rows.iter().map(|row| read(store, &row)).collect()
}

pub fn by_id(store: &Store, customer: &str, id: Uuid) -> Result<Option<Subscribed>> {
    let rows = BY_ID.run(store, &[value::text(customer), value::uuid(id)])?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(read(store, &row)?))
}

fn read(store: &Store, row: &RowRef) -> Result<Subscribed> {
    let seats = |plan: &str, quantity: i32| {
        Ok::<Seats, errors::Error>(Seats {
            plan: Rc::new(self::plan(store, plan)?),
            quantity: quantity.unsigned_abs(),
        })
    };
    let on = seats(&row.text(2)?, row.int(18)?)?;
    let scheduled = match (row.optional_text(19), row.optional_int(20)) {
        (Some(plan), Some(quantity)) => Some(seats(&plan, quantity)?),
        _ => None,
    };
    let damaged = |why: &str| errors::corrupted("a subscription", why);
    let timezone = row.text(4)?;
    let version = row.optional_int(9);
    let terms = (on.plan.versions.iter()).find(|t| Some(t.version) == version);
    Ok(Subscribed {
        asset: row.text(3)?,
        starts_at: row.moment(5)?,
        created_at: row.moment(14)?,
        subscription: Subscription {
            id: row.uuid(1)?,
            created_at: row.moment(14)?,
            zone: period::zone(&timezone).ok_or_else(|| damaged("its time zone is unknown"))?,
            anchor: row.moment(6)?,
            steps: row.int(7)?,
            next: row.optional_moment(10),
            started: row.optional_moment(8),
            terms: terms.cloned(),
            paid_through: row.optional_moment(11),
            ends_at: row.optional_moment(12),
            scale: books::asset(store, &on.plan.asset)?.scale,
            on,
            scheduled,
            had: Had {
                grant: row.optional_uuid(21),
                credits: row.amount(22)?,
                paid: row.amount(23)?,
                plans: row.optional_texts(24).unwrap_or_default(),
            },
            grants: row
                .uuids(13)?
                .into_iter()
                .zip(row.ints(17)?)
                .map(|(id, moved)| PeriodGrant {
                    id,
                    moved: moved.unsigned_abs(),
                })
                .collect(),
            waits_until: row.optional_moment(15),
        },
        timezone,
    })
}

/// Refuses one more subscription (54000) on a wallet that has too many.
pub fn check_room(store: &Store, customer: &str, asset: &str, now: Moment) -> Result<()> {
    let args = [
        value::text(customer),
        value::text(asset),
        value::moment(now),
    ];
    if RUNNING.run(store, &args)?.count() >= MAX_RUNNING {
        return Err(errors::too_many_subscriptions(customer, asset, MAX_RUNNING));
    }
    Ok(())
}

/// Keeps a new subscription, before its first period.
pub fn insert(store: &Store, customer: &str, new: &Subscribed) -> Result<()> {
    let args = [
        value::text(customer),
        value::uuid(new.subscription.id),
        value::text(&new.subscription.on.plan.plan),
        value::text(&new.asset),
        value::text(&new.timezone),
        value::moment(new.starts_at),
        value::optional_moment(new.subscription.paid_through),
        value::moment(new.created_at),
        seats(new.subscription.on.quantity),
    ];
    INSERT.run(store, &args)?;
    Ok(())
}

/// Writes down until when it is paid for, and until when it goes on.
pub fn set_ends(store: &Store, customer: &str, changed: &Subscription) -> Result<()> {
    let args = [
        value::text(customer),
        value::uuid(changed.id),
        value::optional_moment(changed.paid_through),
        value::optional_moment(changed.ends_at),
    ];
    SET_ENDS.run(store, &args)?;
    Ok(())
}

/// Writes down what it is on from its next period on.
pub fn schedule(store: &Store, customer: &str, changed: &Subscription) -> Result<()> {
    let scheduled = changed.scheduled.as_ref();
    let args = [
        value::text(customer),
        value::uuid(changed.id),
        value::optional_text(scheduled.map(|next| next.plan.plan.as_str())),
        scheduled.and_then(|next| seats(next.quantity)),
    ];
    SCHEDULE.run(store, &args)?;
    Ok(())
}

/// A change of plan, as it was asked for.
pub struct Change<'a> {
    pub subscription: Uuid,
    pub from: &'a Seats,
    pub to: &'a Seats,
    pub at: &'a str,
    pub proration: Option<&'a str>,
    /// What a difference granted.
    pub grant: Option<Uuid>,
}

pub fn insert_change(store: &Store, customer: &str, change: &Change, now: Moment) -> Result<()> {
    let args = [
        value::text(customer),
        value::uuid(Uuid::now_v7()),
        value::uuid(change.subscription),
        value::text(&change.from.plan.plan),
        seats(change.from.quantity),
        value::text(&change.to.plan.plan),
        seats(change.to.quantity),
        value::text(change.at),
        value::optional_text(change.proration),
        value::optional_uuid(change.grant),
        value::moment(now),
    ];
    INSERT_CHANGE.run(store, &args)?;
    Ok(())
}

/// Seats as they are kept.
pub fn seats(quantity: u32) -> Value {
    value::int(quantity.cast_signed())
}

/// Ends all subscriptions of a wallet in which all that was due is booked: no period begins any more.
pub fn end_all(store: &Store, customer: &str, asset: &str, now: Moment) -> Result<()> {
    let args = [
        value::text(customer),
        value::text(asset),
        value::moment(now),
    ];
    END_ALL.run(store, &args)?;
    Ok(())
}

/// Lets a key stand for a request about a subscription, for ever. When it does so already: the
/// subscription that was answered then. WC005 when it stands for another request.
pub fn claim(
    store: &Store,
    customer: &str,
    key: &Key,
    id: Uuid,
    now: Moment,
) -> Result<Option<Uuid>> {
    let args = [
        value::text(customer),
        value::text(&key.text),
        value::bytes(&key.request),
        value::uuid(id),
        value::moment(now),
    ];
    let conflict = || errors::idempotency_conflict(customer, &key.text);
    if CLAIM.run(store, &args)?.count() > 0 {
        return match ledger::by_key(store, customer, &key.text)? {
            Some(_) => Err(conflict()),
            None => Ok(None),
        };
    }
    claimed(store, customer, key)?.map_or_else(|| Err(conflict()), |id| Ok(Some(id)))
}

/// The subscription that a call with this key was answered with; WC005 when the key stands for another
/// request.
pub fn claimed(store: &Store, customer: &str, key: &Key) -> Result<Option<Uuid>> {
    let rows = CLAIMED.run(store, &[value::text(customer), value::text(&key.text)])?;
    match rows.first() {
        Some(row) if row.bytes(1)? == key.request => Ok(Some(row.uuid(2)?)),
        Some(_) => Err(errors::idempotency_conflict(customer, &key.text)),
        None => Ok(None),
    }
}

// ---- renewals -----------------------------------------------------------------------------------

/// What has come due among the subscriptions of a wallet.
#[derive(Default)]
pub struct Renewals {
    changed: Vec<Subscription>,
    /// The same ones as the wallet sees them.
    pub renewing: Vec<Renewing>,
    /// When the next of the others turns.
    next: Option<Moment>,
}

/// Works through the subscriptions of a wallet, in memory.
pub fn renew(store: &Store, customer: &str, asset: &str, now: Moment) -> Result<Renewals> {
    let mut renewals = Renewals::default();
    let rows = RENEWABLE.run(store, &[value::text(customer), value::text(asset)])?;
    for row in rows.iter() {
        let turns_at = row.moment(16)?;
        if turns_at <= now {
            let mut subscription = read(store, &row)?.subscription;
            let renewing = subscription.renew(now);
            renewals.renewing.push(renewing);
            renewals.changed.push(subscription);
        } else {
            renewals.wait_for(turns_at);
        }
    }
    Ok(renewals)
}

/// What a change of plan makes of one subscription, in a wallet in which all that was due is booked.
pub fn changed(
    store: &Store,
    customer: &str,
    asset: &str,
    subscription: Subscription,
    renewing: Renewing,
) -> Result<Renewals> {
    let mut renewals = Renewals::default();
    let rows = RENEWABLE.run(store, &[value::text(customer), value::text(asset)])?;
    for row in rows.iter() {
        if row.uuid(1)? != subscription.id {
            renewals.wait_for(row.moment(16)?);
        }
    }
    renewals.renewing.push(renewing);
    renewals.changed.push(subscription);
    Ok(renewals)
}

impl Renewals {
    /// Another subscription turns then.
    fn wait_for(&mut self, turns_at: Moment) {
        self.next = Some(self.next.map_or(turns_at, |next| next.min(turns_at)));
    }

    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    /// When the next subscription turns, once the wallet has advanced.
    pub fn next(&self) -> Option<Moment> {
        let changed = self.changed.iter().zip(&self.renewing);
        let turns = changed.filter_map(|(known, now)| known.turns_at(!now.grants.is_empty()));
        turns.chain(self.next).min()
    }

    /// Writes down the grants that were made, and how far the subscriptions are. `due` is what was
    /// decided with them: debts that the grants paid at once.
    pub fn book(
        self,
        store: &Store,
        customer: &str,
        asset: &str,
        now: Moment,
        due: &[Due],
    ) -> Result<()> {
        let settled = settled_by(due);
        for (mut subscription, renewing) in self.changed.into_iter().zip(self.renewing) {
            for issues in renewing.issued.chunks(ROWS_AT_ONCE) {
                let _scratch = Scratch::new();
                let terms = |issue: &Issue| issue.terms(customer, asset, now, &settled);
                grants::insert_all(store, issues.iter().map(terms))?;
            }
            subscription.grants = renewing.grants;
            let version = subscription.terms.as_ref().map(|terms| terms.version);
            let scheduled = subscription.scheduled.as_ref();
            let args = [
                value::text(customer),
                value::uuid(subscription.id),
                value::moment(subscription.anchor),
                value::int(subscription.steps),
                value::optional_moment(subscription.started),
                version.and_then(value::int),
                value::optional_moment(subscription.next),
                value::uuids(subscription.grants.iter().map(|grant| grant.id)),
                value::optional_moment(subscription.waits_until),
                value::ints(
                    subscription
                        .grants
                        .iter()
                        .map(|grant| grant.moved.cast_signed()),
                ),
                value::text(&subscription.on.plan.plan),
                seats(subscription.on.quantity),
                value::optional_text(scheduled.map(|next| next.plan.plan.as_str())),
                scheduled.and_then(|next| seats(next.quantity)),
                value::optional_uuid(subscription.had.grant),
                value::credits(subscription.had.credits),
                value::money(subscription.had.paid),
                value::texts(Some(&subscription.had.plans)),
            ];
            UPDATE.run(store, &args)?;
        }
        Ok(())
    }
}

/// Credits of each grant that paid debt the moment it was issued, and the revenue earned by them.
pub type Settled = HashMap<Uuid, (Amount, Amount)>;

/// What grants have settled, of what was decided with them.
pub fn settled_by(due: &[Due]) -> Settled {
    let mut settled = Settled::new();
    for due in due {
        if let Decided::Settled { part, .. } = &due.what
            && let Some((id, _)) = part.grant
        {
            let (credits, revenue) = settled.entry(id).or_default();
            *credits += part.credits;
            *revenue += part.revenue;
        }
    }
    settled
}

impl Issue {
    /// The terms of the grant that was made.
    pub fn terms(&self, customer: &str, asset: &str, now: Moment, settled: &Settled) -> Issued {
        let grant = &self.grant;
        let (settled, settled_revenue) = settled.get(&grant.id).copied().unwrap_or_default();
        Issued {
            customer: customer.to_owned(),
            id: grant.id,
            asset: asset.to_owned(),
            kind: grant.kind,
            priority: grant.priority,
            credits: grant.remaining,
            paid: grant.deferred,
            settled,
            settled_revenue,
            effective_at: grant.effective_at,
            expires_at: grant.expires_at,
            applies_to: grant.applies_to.clone(),
            origin: self.origin,
            created_at: now,
            metadata: None,
            payment: None,
            currency: None,
            currency_paid: None,
            exchange_rate: None,
        }
    }
}
