//! Plans, and who is subscribed to them. A subscription changes under the lock of its wallet only.

use std::collections::HashMap;
use std::rc::Rc;
use std::str::FromStr;

use uuid::Uuid;

use super::assets;
use super::cluster;
use super::grants::{self, GrantTerms};
use super::ledger::{self, Key};
use super::statement::{Query, ROWS_AT_ONCE, Statement, Store, TEXT, TIME};
use super::table::{insert, query, sql, table};
use crate::errors::{self, Result};
use crate::ledger::period::{self, PeriodLength};
use crate::ledger::plan::{
    Had, Issue, PeriodGrant, Plan, Renewal, Rollover, Seats, Subscription, Terms,
};
use crate::ledger::wallet::{EntryKind, PendingEntry};
use crate::ledger::{Amount, Moment};
use crate::sql_types::Scratch;
use crate::sql_types::field::{Field, FromColumn, types};
use crate::sql_types::value::{self, Value};

/// More subscriptions than these do not run on one wallet.
const MAX_RUNNING: usize = 100;

/// A subscription as it is kept.
pub struct StoredSubscription {
    pub asset: String,
    pub timezone: String,
    pub starts_at: Moment,
    pub created_at: Moment,
    pub subscription: Subscription,
}

table! {
    /// A version of a plan.
    struct PlanRow {
        plan: String as text,
        version: i32 as int,
        asset: String as text,
        credits: Amount as credits,
        every: PeriodLength as text,
        paid: Amount as money,
        rollover: Option<Amount> as credits,
        priority: i32 as int,
        applies_to: Option<Vec<String>> as texts,
        created_at: Moment as timestamptz,
        committed_at: Option<Moment> as timestamptz,
        rollover_percent: Amount as credits,
        rollover_periods: Option<u32> as int,
    }
}

table! {
    /// A subscription: what never changes, and what it is paid for.
    struct SubscriptionRow {
        id: Uuid as uuid,
        asset: String as text,
        timezone: String as text,
        starts_at: Moment as timestamptz,
        created_at: Moment as timestamptz,
        paid_through: Option<Moment> as timestamptz,
        ends_at: Option<Moment> as timestamptz,
    }
}

table! {
    /// How far it is booked.
    struct Progress {}
    changing {
        plan: String as text,
        quantity: u32 as int,
        anchor: Moment as timestamptz,
        steps: i32 as int,
        period_start: Option<Moment> as timestamptz,
        version: Option<i32> as int,
        next_renewal_at: Option<Moment> as timestamptz,
        grants: Vec<Uuid> as uuids,
        moved: Vec<i32> as ints,
        waits_until: Option<Moment> as timestamptz,
        next_plan: Option<String> as text,
        next_quantity: Option<u32> as int,
        grant_id: Option<Uuid> as uuid,
        had_credits: Amount as credits,
        had_paid: Amount as money,
    }
}

impl Field<types::text> for PeriodLength {
    fn value(&self, _: &str) -> Result<Value> {
        Ok(value::text(&self.to_string()))
    }
}

impl FromColumn for PeriodLength {
    fn from_value(value: Value) -> Result<PeriodLength> {
        let every = String::from_value(value)?;
        PeriodLength::from_str(&every).map_err(|why| errors::corrupted("a plan", why))
    }
}

static VERSIONS: Statement = Statement {
    sql: sql!(
        "SELECT ",
        PlanRow::COLUMNS,
        " FROM credyt.plans p WHERE p.plan = $1 ORDER BY p.version"
    ),
    args: &[TEXT],
};

static INSERT_VERSION: Statement =
    insert!("plans", PlanRow, " ON CONFLICT (plan, version) DO NOTHING");

/// Those that this transaction has made.
static COMMIT: Statement = Statement {
    sql: "UPDATE credyt.plans SET committed_at = $1 WHERE committed_at IS NULL",
    args: &[TIME],
};

macro_rules! subscriptions {
    ($condition:literal) => {
        sql!(
            "SELECT ",
            SubscriptionRow::COLUMNS,
            ", ",
            Progress::COLUMNS,
            " FROM credyt.booked_subscriptions s WHERE s.customer = :customer AND ",
            $condition
        )
    };
}

query! {
    /// Those that renew without a further payment, or whose credits may wait for one; with when that is.
    Renewable(customer: text, asset: text):
    "SELECT ", SubscriptionRow::COLUMNS, ", ", Progress::COLUMNS, ",
            CASE WHEN s.paid_through IS NULL OR s.next_renewal_at < s.paid_through
                 THEN s.next_renewal_at
                 ELSE least(coalesce(s.waits_until, s.next_renewal_at), s.ends_at) END
     FROM credyt.booked_subscriptions s
     WHERE s.customer = :customer AND s.asset = :asset AND s.next_renewal_at IS NOT NULL
       AND (s.paid_through IS NULL OR s.next_renewal_at < s.paid_through OR s.grants <> '{}')
       AND (s.ends_at IS NULL OR s.next_renewal_at < s.ends_at)
     ORDER BY s.id"
}

query! {
    All(customer: text, plan: text):
    subscriptions!("(s.plan = :plan OR s.next_plan = :plan) ORDER BY s.id DESC")
}

query! {
    Former(customer: text, plan: text):
    subscriptions!(
        "s.plan <> :plan AND s.id IN (SELECT c.subscription_id FROM credyt.plan_changes c
                                      WHERE c.customer = :customer AND c.from_plan = :plan) ORDER BY s.id DESC"
    )
}

query! {
    /// Those that are on another plan, and left this one within a period that was to end after that moment.
    MovedWithin(customer: text, plan: text, at: timestamptz):
    subscriptions!(
        "s.plan <> :plan AND s.id IN (SELECT c.subscription_id FROM credyt.plan_changes c
                                      WHERE c.customer = :customer AND c.from_plan = :plan AND c.period_end > :at)
         ORDER BY s.id DESC"
    )
}

query! {
    ById(customer: text, id: uuid):
    subscriptions!("s.id = :id")
}

query! {
    Running(customer: text, asset: text, now: timestamptz):
    "SELECT 1 FROM credyt.booked_subscriptions s
     WHERE s.customer = :customer AND s.asset = :asset AND (s.ends_at IS NULL OR s.ends_at > :now)"
}

table! {
    /// A subscription before its first period.
    struct NewSubscription {
        customer: String as text,
        id: Uuid as uuid,
        plan: String as text,
        quantity: u32 as int,
        asset: String as text,
        timezone: String as text,
        starts_at: Moment as timestamptz,
        anchor: Moment as timestamptz,
        steps: i32 as int,
        next_renewal_at: Moment as timestamptz,
        paid_through: Option<Moment> as timestamptz,
        grants: Vec<Uuid> as uuids,
        moved: Vec<i32> as ints,
        had_credits: Amount as credits,
        had_paid: Amount as money,
        created_at: Moment as timestamptz,
    }
}

static INSERT: Statement = insert!("booked_subscriptions", NewSubscription);

static UPDATE: Statement = Statement {
    sql: sql!(
        "UPDATE credyt.booked_subscriptions SET ",
        Progress::CHANGES,
        " WHERE customer = $1 AND id = $2"
    ),
    args: Progress::CHANGE_TYPES,
};

query! {
    SetEnds(customer: text, id: uuid, paid_through: timestamptz, ends_at: timestamptz):
    "UPDATE credyt.booked_subscriptions SET paid_through = :paid_through, ends_at = :ends_at
     WHERE customer = :customer AND id = :id"
}

query! {
    Schedule(customer: text, id: uuid, next_plan: text, next_quantity: int):
    "UPDATE credyt.booked_subscriptions SET next_plan = :next_plan, next_quantity = :next_quantity
     WHERE customer = :customer AND id = :id"
}

table! {
    /// A change of plan, as it was asked for.
    pub struct PlanChange {
        customer: String as text,
        id: Uuid as uuid,
        subscription_id: Uuid as uuid,
        from_plan: String as text,
        from_quantity: u32 as int,
        to_plan: String as text,
        to_quantity: u32 as int,
        at: String as text,
        proration: Option<String> as text,
        /// What a difference granted.
        grant_id: Option<Uuid> as uuid,
        created_at: Moment as timestamptz,
        /// When the period within which it comes was to end.
        period_end: Option<Moment> as timestamptz,
    }
}

static INSERT_CHANGE: Statement = insert!("plan_changes", PlanChange);

query! {
    /// A period that waits for a payment is not wanted any more either.
    EndAll(customer: text, asset: text, now: timestamptz):
    "UPDATE credyt.booked_subscriptions SET ends_at = least(:now, next_renewal_at)
     WHERE customer = :customer AND asset = :asset
       AND (ends_at IS NULL OR ends_at > least(:now, next_renewal_at))"
}

table! {
    /// The key of a call about a subscription.
    struct SubscriptionKey {
        customer: String as text,
        idempotency_key: String as text,
        request: Vec<u8> as bytea,
        subscription_id: Uuid as uuid,
        created_at: Moment as timestamptz,
    }
}

static CLAIM: Statement = insert!(
    "subscription_keys",
    SubscriptionKey,
    " ON CONFLICT (customer, idempotency_key) DO NOTHING"
);

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
    let rows: Vec<PlanRow> = rows.read_all()?;
    let asset = rows.first().map(|first| first.asset.clone());
    Ok(asset.map(|asset| Plan {
        plan: name.to_owned(),
        asset,
        versions: rows.into_iter().map(PlanRow::terms).collect(),
    }))
}

impl PlanRow {
    fn terms(self) -> Terms {
        Terms {
            version: self.version,
            credits: self.credits,
            every: self.every,
            paid: self.paid,
            rollover: Rollover {
                most: self.rollover,
                percent: self.rollover_percent,
                times: self.rollover_periods,
            },
            priority: self.priority,
            applies_to: self.applies_to,
            since: self.created_at,
            committed_at: self.committed_at,
        }
    }
}

/// Keeps a new version, unless another one of that number is there.
pub fn insert_version(store: &Store, plan: &str, asset: &str, terms: &Terms) -> Result<()> {
    let row = PlanRow {
        plan: plan.to_owned(),
        version: terms.version,
        asset: asset.to_owned(),
        credits: terms.credits,
        every: terms.every,
        paid: terms.paid,
        rollover: terms.rollover.most,
        priority: terms.priority,
        applies_to: terms.applies_to.clone(),
        created_at: terms.since,
        committed_at: None,
        rollover_percent: terms.rollover.percent,
        rollover_periods: terms.rollover.times,
    };
    INSERT_VERSION.run(store, &row.values()?)?;
    match cluster::is_distributed() {
        true => commit(store),
        false => Ok(()),
    }
}

/// More than it takes to make a commit visible. Renewals of that time are on the old terms, since
/// another session may have read them so.
const COMMIT_TAKES: i64 = 1;

/// The transaction commits: from now on its versions count for renewals. On several nodes, where each would say so
/// by itself, they count from the call.
pub fn commit_versions(store: &Store) -> Result<()> {
    match cluster::is_distributed() {
        true => Ok(()),
        false => commit(store),
    }
}

fn commit(store: &Store) -> Result<()> {
    let at = match assets::stands_in(store)? {
        Some(at) => Some(at),
        None => assets::wall_clock().plus_seconds(COMMIT_TAKES),
    };
    COMMIT.run(store, &[value::optional_moment(at)])?;
    Ok(())
}

// ---- subscriptions ------------------------------------------------------------------------------

/// The customer's subscriptions that are on a plan, or will be; the latest first.
pub fn all(store: &Store, customer: &str, plan: &str) -> Result<Vec<StoredSubscription>> {
    let rows = All { customer, plan }.run(store)?;
    rows.iter().map(|row| read(store, row.read()?)).collect()
}

/// Those that were on the plan once and are on another one; the latest first.
pub fn former(store: &Store, customer: &str, plan: &str) -> Result<Vec<StoredSubscription>> {
    let rows = Former { customer, plan }.run(store)?;
    rows.iter().map(|row| read(store, row.read()?)).collect()
}

/// Those that are on another plan, but left this one within a period that was to last beyond that moment.
pub fn moved_within(
    store: &Store,
    customer: &str,
    plan: &str,
    at: Moment,
) -> Result<Vec<StoredSubscription>> {
    let rows = MovedWithin { customer, plan, at }.run(store)?;
    rows.iter().map(|row| read(store, row.read()?)).collect()
}

pub fn by_id(store: &Store, customer: &str, id: Uuid) -> Result<Option<StoredSubscription>> {
    let found = ById { customer, id }.run(store)?.read_first()?;
    found.map(|row| read(store, row)).transpose()
}

type StoredRow = (SubscriptionRow, Progress);

fn read(store: &Store, (row, at): StoredRow) -> Result<StoredSubscription> {
    let seats = |plan: &str, quantity: u32| {
        let plan = Rc::new(self::plan(store, plan)?);
        Ok::<Seats, errors::Error>(Seats { plan, quantity })
    };
    let on = seats(&at.plan, at.quantity)?;
    let scheduled = at.next_plan.as_deref().zip(at.next_quantity);
    let scheduled = scheduled.map(|(plan, quantity)| seats(plan, quantity));
    let terms = (on.plan.versions.iter()).find(|terms| Some(terms.version) == at.version);
    let unknown = || errors::corrupted("a subscription", "its time zone is unknown");
    let grants = at.grants.into_iter().zip(at.moved);
    Ok(StoredSubscription {
        asset: row.asset,
        starts_at: row.starts_at,
        created_at: row.created_at,
        subscription: Subscription {
            id: row.id,
            created_at: row.created_at,
            zone: period::zone(&row.timezone).ok_or_else(unknown)?,
            anchor: at.anchor,
            steps: at.steps,
            next: at.next_renewal_at,
            started: at.period_start,
            terms: terms.cloned(),
            paid_through: row.paid_through,
            ends_at: row.ends_at,
            scale: assets::asset(store, &on.plan.asset)?.scale,
            on,
            scheduled: scheduled.transpose()?,
            had: Had {
                grant: at.grant_id,
                credits: at.had_credits,
                paid: at.had_paid,
            },
            grants: grants
                .map(|(id, moved)| PeriodGrant {
                    id,
                    moved: moved.unsigned_abs(),
                })
                .collect(),
            waits_until: at.waits_until,
        },
        timezone: row.timezone,
    })
}

/// Refuses one more subscription (54000) on a wallet that has too many.
pub fn check_room(store: &Store, customer: &str, asset: &str, now: Moment) -> Result<()> {
    let running = Running {
        customer,
        asset,
        now,
    };
    if running.run(store)?.count() >= MAX_RUNNING {
        return Err(errors::too_many_subscriptions(customer, asset, MAX_RUNNING));
    }
    Ok(())
}

/// Keeps a new subscription, before its first period.
pub fn insert(store: &Store, customer: &str, new: &StoredSubscription) -> Result<()> {
    let row = NewSubscription {
        customer: customer.to_owned(),
        id: new.subscription.id,
        plan: new.subscription.on.plan.plan.clone(),
        quantity: new.subscription.on.quantity,
        asset: new.asset.clone(),
        timezone: new.timezone.clone(),
        starts_at: new.starts_at,
        anchor: new.starts_at,
        steps: 0,
        next_renewal_at: new.starts_at,
        paid_through: new.subscription.paid_through,
        grants: Vec::new(),
        moved: Vec::new(),
        had_credits: Amount::ZERO,
        had_paid: Amount::ZERO,
        created_at: new.created_at,
    };
    INSERT.run(store, &row.values()?)?;
    Ok(())
}

/// Writes down until when it is paid for, and until when it goes on.
pub fn set_ends(store: &Store, customer: &str, changed: &Subscription) -> Result<()> {
    let query = SetEnds {
        customer,
        id: changed.id,
        paid_through: changed.paid_through,
        ends_at: changed.ends_at,
    };
    query.run(store)?;
    Ok(())
}

/// Writes down what it is on from its next period on.
pub fn schedule(store: &Store, customer: &str, changed: &Subscription) -> Result<()> {
    let scheduled = changed.scheduled.as_ref();
    let query = Schedule {
        customer,
        id: changed.id,
        next_plan: scheduled.map(|next| &next.plan.plan),
        next_quantity: scheduled.map(|next| next.quantity),
    };
    query.run(store)?;
    Ok(())
}

/// Keeps a change of plan.
pub fn insert_change(store: &Store, change: &PlanChange) -> Result<()> {
    INSERT_CHANGE.run(store, &change.values()?)?;
    Ok(())
}

/// Seats as they are kept.
pub fn seats(quantity: u32) -> Value {
    value::int(quantity.cast_signed())
}

/// Ends all subscriptions of a wallet in which all that was due is booked: no period begins any more.
pub fn end_all(store: &Store, customer: &str, asset: &str, now: Moment) -> Result<()> {
    let query = EndAll {
        customer,
        asset,
        now,
    };
    query.run(store)?;
    Ok(())
}

/// Lets a key stand for a request about a subscription, for ever. False when it is taken; WC005 when it
/// stands for a movement.
pub fn claim(store: &Store, customer: &str, key: &Key, id: Uuid, now: Moment) -> Result<bool> {
    let row = SubscriptionKey {
        customer: customer.to_owned(),
        idempotency_key: key.text.clone(),
        request: key.request.clone(),
        subscription_id: id,
        created_at: now,
    };
    if CLAIM.run(store, &row.values()?)?.count() == 0 {
        return Ok(false);
    }
    store.keep_key();
    match ledger::by_key(store, customer, &key.text)? {
        Some(_) => Err(errors::idempotency_conflict(customer, &key.text)),
        None => Ok(true),
    }
}

/// The subscription that a call with this key was answered with; WC005 when the key stands for another
/// request.
pub fn claimed(store: &Store, customer: &str, key: &Key) -> Result<Option<Uuid>> {
    let rows = CLAIMED.run(store, &[value::text(customer), value::text(&key.text)])?;
    match rows.read_first::<(Vec<u8>, Uuid)>()? {
        Some((request, id)) if request == key.request => Ok(Some(id)),
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
    pub renewing: Vec<Renewal>,
    /// When the next of the others turns.
    next: Option<Moment>,
}

/// Works through the subscriptions of a wallet, in memory.
pub fn renew(store: &Store, customer: &str, asset: &str, now: Moment) -> Result<Renewals> {
    let mut renewals = Renewals::default();
    let rows = Renewable { customer, asset }.run(store)?;
    for row in rows.iter() {
        let (stored, turns_at) = row.read()?;
        if turns_at <= now {
            let mut subscription = read(store, stored)?.subscription;
            let renewing = subscription.renew(now);
            renewals.renewing.push(renewing);
            renewals.changed.push(subscription);
        } else {
            renewals.wait_for(turns_at);
        }
    }
    Ok(renewals)
}

impl Progress {
    fn of(subscription: Subscription) -> Progress {
        let next = subscription.scheduled;
        let (next_plan, next_quantity) = next
            .map(|next| (next.plan.plan.clone(), next.quantity))
            .unzip();
        let grants = subscription.grants.iter();
        let (grants, moved) = grants
            .map(|grant| (grant.id, grant.moved.cast_signed()))
            .unzip();
        Progress {
            plan: subscription.on.plan.plan.clone(),
            quantity: subscription.on.quantity,
            anchor: subscription.anchor,
            steps: subscription.steps,
            period_start: subscription.started,
            version: subscription.terms.map(|terms| terms.version),
            next_renewal_at: subscription.next,
            grants,
            moved,
            waits_until: subscription.waits_until,
            next_plan,
            next_quantity,
            grant_id: subscription.had.grant,
            had_credits: subscription.had.credits,
            had_paid: subscription.had.paid,
        }
    }
}

/// What a change of plan makes of one subscription, in a wallet in which all that was due is booked.
pub fn changed(
    store: &Store,
    customer: &str,
    asset: &str,
    subscription: Subscription,
    renewing: Renewal,
) -> Result<Renewals> {
    let mut renewals = Renewals::default();
    let rows = Renewable { customer, asset }.run(store)?;
    for row in rows.iter() {
        let ((row, _), turns_at): (StoredRow, Moment) = row.read()?;
        if row.id != subscription.id {
            renewals.wait_for(turns_at);
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
        due: &[PendingEntry],
    ) -> Result<()> {
        let settled = settled_by(due);
        for (mut subscription, renewing) in self.changed.into_iter().zip(self.renewing) {
            for issues in renewing.issued.chunks(ROWS_AT_ONCE) {
                let _scratch = Scratch::new();
                let terms = |issue: &Issue| issue.terms(customer, asset, now, &settled);
                grants::insert_all(store, issues.iter().map(terms))?;
            }
            subscription.grants = renewing.grants;
            let id = subscription.id;
            let progress = Progress::of(subscription);
            let mut args = vec![value::text(customer), value::uuid(id)];
            args.extend(progress.changes()?);
            UPDATE.run(store, &args)?;
        }
        Ok(())
    }
}

/// Credits of each grant that paid debt the moment it was issued, and the revenue earned by them.
pub type DebtPayments = HashMap<Uuid, (Amount, Amount)>;

/// What grants have settled, of what was decided with them.
pub fn settled_by(due: &[PendingEntry]) -> DebtPayments {
    let mut settled = DebtPayments::new();
    for due in due {
        if let EntryKind::Settled { part, .. } = &due.what
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
    pub fn terms(
        &self,
        customer: &str,
        asset: &str,
        now: Moment,
        settled: &DebtPayments,
    ) -> GrantTerms {
        let grant = &self.grant;
        let (settled, debt_revenue) = settled.get(&grant.id).copied().unwrap_or_default();
        GrantTerms {
            settled,
            debt_revenue,
            origin: self.origin,
            ..GrantTerms::of(customer, asset, grant, now)
        }
    }
}
