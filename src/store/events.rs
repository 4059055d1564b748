//! The outbox: what an application is told, as rows written in the transaction that it is about.
//!
//! Order is kept by customer: a worker gets the first events of customers none of whose events is out
//! with another one. The row of a customer's first event is the lock.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use pgrx::pg_sys;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::cluster;
use super::ledger;
use super::open_wallet::{OpenWallet, OutboxEvent};
use super::statement::{
    BIGINT, Columns, INT, Query, ROWS_AT_ONCE, Statement, Store, TEXT, TIME, UUID, UUIDS,
};
use super::table::{insert_all, query, sql, table};
use crate::errors::Result;
use crate::ledger::alerts::{ExpiringGrant, Signal};
use crate::ledger::interrupt::checked;
use crate::ledger::limit::{Calendar, CalendarPeriod};
use crate::ledger::plan::Renewal;
use crate::ledger::wallet::{EntryKind, Part, PendingEntry};
use crate::ledger::{Amount, Moment};
use crate::sql_types::value::{self, Value};
use crate::sql_types::{Args, Scratch, row};

table! {
    /// An event as it is kept, and as a worker gets it.
    pub struct Event {
        id: Uuid as uuid,
        customer: String as text,
        asset: String as text,
        r#type: Cow<'static, str> as text,
        payload: Value as jsonb,
        created_at: Moment as timestamptz,
    }
}

/// The events of a customer that wait for a worker, in order.
struct Waiting {
    customer: String,
    ids: Vec<Uuid>,
}

static INSERT: Statement = insert_all!("events", Event);

table! {
    struct FirstEvent {
        customer: String as text,
        id: Uuid as uuid,
        leased_until: Option<Moment> as timestamptz,
    }
}

static FIRST: Statement = Statement {
    sql: sql!(
        "SELECT ",
        FirstEvent::COLUMNS,
        " FROM credyt.events e WHERE e.acknowledged_at IS NULL ORDER BY e.id LIMIT $1"
    ),
    args: &[BIGINT],
};

/// Those of these events that nobody takes, has or acknowledges just now. By id alone, as they are acknowledged:
/// a list of ids is looked up in a third of the time that a join takes.
static LOCK: Statement = Statement {
    sql: sql!(
        "SELECT ",
        Event::COLUMNS,
        " FROM credyt.events e
          WHERE e.id = ANY ($1) AND e.acknowledged_at IS NULL AND (e.leased_until IS NULL OR e.leased_until <= $2)
          FOR UPDATE SKIP LOCKED"
    ),
    args: &[UUIDS, TIME],
};

static LEASE: Statement = Statement {
    sql: "UPDATE credyt.events e SET leased_until = $2 WHERE e.id = ANY ($1)",
    args: &[UUIDS, TIME],
};

query! {
    /// The same on several nodes, one customer at a time.
    LockOf(customer: text, ids: uuids, now: timestamptz):
    "SELECT ", Event::COLUMNS, " FROM credyt.events e
     WHERE e.customer = :customer AND e.id = ANY (:ids) AND e.acknowledged_at IS NULL
       AND (e.leased_until IS NULL OR e.leased_until <= :now)
     FOR UPDATE SKIP LOCKED"
}

query! {
    AcknowledgeOf(customer: text, ids: uuids, now: timestamptz):
    "UPDATE credyt.events e SET acknowledged_at = :now
     WHERE e.customer = :customer AND e.id = ANY (:ids) AND e.acknowledged_at IS NULL"
}

static CUSTOMERS_OF: Statement = Statement {
    sql: "SELECT e.id, e.customer FROM credyt.events e WHERE e.id = ANY ($1)",
    args: &[UUIDS],
};

/// In one order, so that two workers who acknowledge the same events do not wait for each other.
static ACKNOWLEDGE: Statement = Statement {
    sql: "UPDATE credyt.events e SET acknowledged_at = $2
          FROM (SELECT l.customer, l.id FROM credyt.events l
                WHERE l.id = ANY ($1) AND l.acknowledged_at IS NULL
                ORDER BY l.customer, l.id FOR UPDATE) found
          WHERE e.customer = found.customer AND e.id = found.id",
    args: &[UUIDS, TIME],
};

static UNKNOWN: Statement = Statement {
    sql: "SELECT a.id FROM unnest($1) AS a (id)
          WHERE NOT EXISTS (SELECT FROM credyt.events e WHERE e.id = a.id) LIMIT 1",
    args: &[UUIDS],
};

table! {
    /// A request for a top-up.
    pub struct TopUpRequest {
        asset: String as text,
        credits: Amount as credits,
        created_at: Moment as timestamptz,
        failed_at: Option<Moment> as timestamptz,
    }
}

static REQUEST: Statement = Statement {
    sql: sql!(
        "SELECT ",
        TopUpRequest::COLUMNS,
        " FROM (SELECT e.asset, (e.payload->>'credits')::numeric AS credits, e.created_at, e.failed_at
                FROM credyt.events e
                WHERE e.customer = $1 AND e.id = $2 AND e.type = 'topup.requested') e"
    ),
    args: &[TEXT, UUID],
};

query! {
    Fail(customer: text, id: uuid, now: timestamptz, reason: text):
    "UPDATE credyt.events e SET failed_at = coalesce(e.failed_at, :now), failure = coalesce(:reason, e.failure)
     WHERE e.customer = :customer AND e.id = :id"
}

query! {
    /// What a customer was asked to pay for since a moment, but for what has failed.
    AskedSince(customer: text, asset: text, since: timestamptz):
    "SELECT coalesce(sum((e.payload->>'credits')::numeric), 0) FROM credyt.events e
     WHERE e.customer = :customer AND e.asset = :asset AND e.type = 'topup.requested'
       AND e.created_at >= :since AND e.failed_at IS NULL"
}

/// Kept for a day, so that a worker may acknowledge again; requests for longer than a month, so that a
/// failure that is told late finds them, and a new rule what was asked for in the month.
static PRUNE: Statement = Statement {
    sql: "DELETE FROM credyt.events
          WHERE (customer, id) IN (
              SELECT e.customer, e.id FROM credyt.events e
              WHERE e.acknowledged_at <= $1 - interval '1 day'
                AND (e.type <> 'topup.requested' OR e.acknowledged_at <= $1 - interval '32 days')
              LIMIT $2 FOR UPDATE SKIP LOCKED)",
    args: &[TIME, INT],
};

static PRUNE_ALL: Statement = Statement {
    sql: "DELETE FROM credyt.events e
          WHERE e.acknowledged_at <= $1 - interval '1 day'
            AND (e.type <> 'topup.requested' OR e.acknowledged_at <= $1 - interval '32 days')",
    args: &[TIME],
};

impl OutboxEvent {
    fn of(signal: &Signal, balance: Amount) -> OutboxEvent {
        let available = balance.to_string();
        match signal {
            Signal::Low { threshold, unit } => OutboxEvent::new(
                "balance.low",
                json!({
                    "threshold": threshold.to_string(),
                    "unit": unit.as_str(),
                    "available": available,
                }),
            ),
            Signal::Depleted => {
                OutboxEvent::new("balance.depleted", json!({"available": available}))
            }
            Signal::TopUp { threshold, credits } => OutboxEvent::new(
                "topup.requested",
                json!({
                    "threshold": threshold.to_string(),
                    "credits": credits.to_string(),
                    "available": available,
                }),
            ),
            Signal::Capped {
                threshold,
                max_credits,
                requested,
                resets_at,
            } => OutboxEvent::new(
                "topup.capped",
                json!({
                    "threshold": threshold.to_string(),
                    "max_credits": max_credits.to_string(),
                    "requested": requested.to_string(),
                    "resets_at": resets_at.to_string(),
                }),
            ),
        }
    }

    fn of_expiring(expiring: &ExpiringGrant) -> OutboxEvent {
        OutboxEvent::new(
            "grant.expiring",
            json!({
                "grant": expiring.grant.to_string(),
                "kind": expiring.kind.as_str(),
                "remaining": expiring.remaining.to_string(),
                "expires_at": expiring.expires_at.to_string(),
                "days": expiring.days,
            }),
        )
    }

    /// The events of pending entries.
    fn of_due(due: &PendingEntry) -> Option<OutboxEvent> {
        match &due.what {
            EntryKind::Expired(part) => {
                Some(OutboxEvent::new("grant.expired", expired(part, due.at)))
            }
            _ => None,
        }
    }
}

fn expired(part: &Part, at: Moment) -> Json {
    json!({
        "grant": part.grant.map(|(id, _)| id.to_string()),
        "kind": part.grant.map(|(_, kind)| kind.as_str()),
        "credits": part.credits.to_string(),
        "deferred": part.revenue.money(),
        "expired_at": at.to_string(),
    })
}

/// The periods that came due, but for the first of a subscription, which is none that renews.
fn renewed(renewing: &Renewal) -> Vec<(Moment, OutboxEvent)> {
    let mut moved: HashMap<Moment, Amount> = HashMap::new();
    for issue in renewing.issued.iter().filter(|one| one.origin.is_some()) {
        *moved.entry(issue.grant.effective_at).or_default() += issue.grant.remaining;
    }
    let periods = renewing.periods.iter().filter(|period| !period.first);
    let news = checked(periods).map(|period| {
        let rolled_over = moved.get(&period.starts).copied().unwrap_or_default();
        let grant = period.grant.as_ref();
        let payload = json!({
            "plan": period.plan,
            "starts_at": period.starts.to_string(),
            "ends_at": period.ends.to_string(),
            "grant": grant.map(|grant| grant.id.to_string()),
            "credits": grant.map_or(Amount::ZERO, |grant| grant.remaining).to_string(),
            "paid": grant.map_or(Amount::ZERO, |grant| grant.deferred).money(),
            "rolled_over": rolled_over.to_string(),
        });
        (period.starts, OutboxEvent::new("plan.renewed", payload))
    });
    news.collect()
}

/// All events to write with the wallet now: those of pending entries, in their order, then which grants
/// will end, that the balance has fallen and a top-up is asked for. The wallet remembers what it has told.
pub fn collect<'a>(
    open: &mut OpenWallet,
    due: impl Iterator<Item = &'a PendingEntry>,
) -> Result<Vec<OutboxEvent>> {
    let mut passed: Vec<(Moment, OutboxEvent)> = checked(due)
        .filter_map(|due| Some((due.at, OutboxEvent::of_due(due)?)))
        .collect();
    passed.extend(open.renewals.renewing.iter().flat_map(renewed));
    passed.sort_by_key(|(at, _)| *at);
    let mut news: Vec<OutboxEvent> = passed.into_iter().map(|(_, news)| news).collect();
    news.append(&mut open.told);
    let balance = open.wallet.balance(open.now);
    let mut requested = None;
    // Who closes a wallet knows that it is empty.
    if !open.wallet.closed {
        let expiring = open.wallet.expiring(open.now, open.asset.notice.as_ref());
        news.extend(checked(&expiring).map(OutboxEvent::of_expiring));
        let crossings = open.wallet.alert_state.crossings(open.was, balance);
        news.extend(
            crossings
                .iter()
                .map(|signal| OutboxEvent::of(signal, balance)),
        );
        if let Some(signal) = ask(open, balance)? {
            requested = matches!(signal, Signal::TopUp { .. }).then_some(news.len());
            news.push(OutboxEvent::of(&signal, balance));
        }
    }
    open.was = balance;
    let alert_state = &mut open.wallet.alert_state;
    for (at, news) in news.iter_mut().enumerate() {
        alert_state.events += 1;
        // Ascending in the wallet, as its ledger rows do.
        news.id = ledger::row_id(open.now, alert_state.events);
        if let Some(topup) = alert_state.topup.as_mut().filter(|_| requested == Some(at)) {
            topup.in_flight = Some(news.id);
        }
    }
    Ok(news)
}

/// Asks for a top-up where one is wanted.
fn ask(open: &mut OpenWallet, balance: Amount) -> Result<Option<Signal>> {
    if !open.wants_topup() {
        return Ok(None);
    }
    let period = topup_period(open)?;
    let now = open.now;
    let topup = open.wallet.alert_state.topup.as_mut();
    Ok(topup.map(|topup| topup.ask(balance, now, period)))
}

/// The period that lasts in which the rule for top-ups counts; without a rule the month.
pub fn topup_period(open: &OpenWallet) -> Result<CalendarPeriod> {
    let topup = open.wallet.alert_state.topup.as_ref();
    let every = topup.map_or(Calendar::Month, |topup| topup.every);
    open.period(every, open.now)
}

/// Writes them down.
pub fn insert(store: &Store, open: &OpenWallet, news: &[OutboxEvent]) -> Result<()> {
    for news in news.chunks(ROWS_AT_ONCE) {
        let _scratch = Scratch::new();
        let mut columns = Columns::new(Event::ELEMENTS);
        for news in checked(news) {
            let event = Event {
                id: news.id,
                customer: open.customer.clone(),
                asset: open.asset.name.clone(),
                r#type: news.kind.into(),
                payload: value::jsonb(&news.payload),
                created_at: open.now,
            };
            columns.push(event.elements()?);
        }
        INSERT.run(store, &columns.args())?;
    }
    Ok(())
}

/// Hands over up to `batch` events that nobody else works on, in order, as the result of the running
/// function; they are this worker's until then.
pub fn take(
    store: &Store,
    now: Moment,
    batch: i32,
    until: Moment,
    function: &Args,
) -> Result<Option<pg_sys::Datum>> {
    let most = usize::try_from(batch).unwrap_or_default();
    // The first events may be with other workers: then it looks further.
    let mut among = i64::from(batch).saturating_mul(2).saturating_add(500);
    let (customers, mut locked) = loop {
        let (waiting, is_all) = waiting(store, now, among)?;
        let found = lock_customers(store, now, waiting, most)?;
        let events: usize = found.0.iter().map(|customer| customer.ids.len()).sum();
        if is_all || events >= most {
            break found;
        }
        among = among.saturating_mul(8);
    };
    let mut events: Vec<(Uuid, &str)> = Vec::new();
    for customer in checked(&customers) {
        events.extend(customer.ids.iter().map(|id| (*id, &*customer.customer)));
    }
    events.sort_unstable_by_key(|(id, _)| *id);
    events.truncate(most);
    let others = events.iter().map(|(id, _)| *id);
    let others = lock(store, now, others.filter(|id| !locked.contains_key(id)))?;
    locked.extend(others);
    // Behind one that could not be locked, the customer's later ones wait too.
    let mut passed: HashSet<&str> = HashSet::new();
    let mut taken = Vec::with_capacity(events.len());
    events.retain(|(id, customer)| match locked.remove(id) {
        Some(row) if !passed.contains(customer) => {
            taken.push(row);
            true
        }
        _ => {
            passed.insert(customer);
            false
        }
    });
    let ids = value::uuids(events.iter().map(|(id, _)| *id));
    LEASE.run(store, &[ids, value::moment(until)])?;
    row::try_rows(function, taken.into_iter().map(|event| event.into_row()))
}

/// Those of the first events that wait, by customer: only of customers none of whose events is with a
/// worker. And whether these are all that there are.
fn waiting(store: &Store, now: Moment, among: i64) -> Result<(Vec<Waiting>, bool)> {
    let rows = FIRST.run(store, &[value::bigint(among)])?;
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut served: HashSet<usize> = HashSet::new();
    for row in rows.iter() {
        let FirstEvent {
            customer,
            id,
            leased_until,
        } = row.read()?;
        let place = *places.entry(customer).or_insert_with_key(|customer| {
            waiting.push(Waiting {
                customer: customer.clone(),
                ids: Vec::new(),
            });
            waiting.len() - 1
        });
        if leased_until.is_some_and(|until| until > now) {
            served.insert(place);
        }
        if let Some(waiting) = waiting.get_mut(place) {
            waiting.ids.push(id);
        }
    }
    let is_all = usize::try_from(among).is_ok_and(|among| rows.count() < among);
    let mut place = 0..;
    waiting.retain(|_| place.next().is_some_and(|place| !served.contains(&place)));
    Ok((waiting, is_all))
}

/// The first customers that have `most` events together, or all customers. The row of a customer's first
/// event is the lock: who is being served now is passed over. And these rows.
fn lock_customers(
    store: &Store,
    now: Moment,
    waiting: Vec<Waiting>,
    most: usize,
) -> Result<(Vec<Waiting>, HashMap<Uuid, Event>)> {
    let (mut free, mut locked) = (Vec::new(), HashMap::new());
    let (mut waiting, mut events) = (waiting.into_iter(), 0);
    while events < most {
        let mut next: Vec<Waiting> = Vec::new();
        let mut more = events;
        while more < most
            && let Some(customer) = waiting.next()
        {
            more += customer.ids.len();
            next.push(customer);
        }
        if next.is_empty() {
            break;
        }
        let firsts = next.iter().filter_map(|one| one.ids.first().copied());
        let rows = lock(store, now, firsts)?;
        next.retain(|one| one.ids.first().is_some_and(|id| rows.contains_key(id)));
        events += next.iter().map(|one| one.ids.len()).sum::<usize>();
        free.append(&mut next);
        locked.extend(rows);
    }
    Ok((free, locked))
}

/// Locks events that are free, and reads them.
fn lock(
    store: &Store,
    now: Moment,
    ids: impl Iterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Event>> {
    let ids: Vec<Uuid> = checked(ids).collect();
    if cluster::is_distributed() {
        let found = customers_of(store, &ids)?;
        let mut locked = HashMap::new();
        for (customer, ids) in by_customer(&found) {
            let query = LockOf { customer, ids, now };
            let events: Vec<Event> = query.run(store)?.read_all()?;
            locked.extend(events.into_iter().map(|event| (event.id, event)));
        }
        return Ok(locked);
    }
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let args = [value::uuids(ids.into_iter()), value::moment(now)];
    let rows = LOCK.run(store, &args)?;
    let events: Vec<Event> = rows.read_all()?;
    Ok(events.into_iter().map(|event| (event.id, event)).collect())
}

/// Whose events these are, of those that there are.
fn customers_of(store: &Store, ids: &[Uuid]) -> Result<Vec<(Uuid, String)>> {
    let list = value::uuids(ids.iter().copied());
    CUSTOMERS_OF.run(store, &[list])?.read_all()
}

/// The events of each customer, in one order.
fn by_customer(events: &[(Uuid, String)]) -> BTreeMap<&str, Vec<Uuid>> {
    let mut of: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
    for (id, customer) in checked(events) {
        of.entry(customer).or_default().push(*id);
    }
    of
}

/// Acknowledges events that have not been yet. How many; or an id that is no event's.
pub fn acknowledge(
    store: &Store,
    now: Moment,
    ids: &[Uuid],
) -> Result<std::result::Result<usize, Uuid>> {
    let list = value::uuids(ids.iter().copied());
    if cluster::is_distributed() {
        let found = customers_of(store, ids)?;
        let known: HashSet<Uuid> = found.iter().map(|(id, _)| *id).collect();
        if let Some(unknown) = ids.iter().find(|id| !known.contains(id)) {
            return Ok(Err(*unknown));
        }
        let mut done = 0;
        for (customer, ids) in by_customer(&found) {
            let query = AcknowledgeOf { customer, ids, now };
            done += query.run(store)?.count();
        }
        return Ok(Ok(done));
    }
    let done = ACKNOWLEDGE.run(store, &[list, value::moment(now)])?.count();
    if done < ids.len() {
        let rows = UNKNOWN.run(store, &[list])?;
        if let Some(unknown) = rows.read_first()? {
            return Ok(Err(unknown));
        }
    }
    Ok(Ok(done))
}

/// A customer's request for a top-up.
pub fn request(store: &Store, customer: &str, id: Uuid) -> Result<Option<TopUpRequest>> {
    let rows = REQUEST.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.read_first()
}

/// Writes down that a top-up failed, and why.
pub fn fail(
    store: &Store,
    customer: &str,
    id: Uuid,
    now: Moment,
    reason: Option<&str>,
) -> Result<()> {
    let query = Fail {
        customer,
        id,
        now,
        reason,
    };
    query.run(store)?;
    Ok(())
}

/// What a wallet has asked for since a moment, as far as its events are kept.
pub fn asked_since(store: &Store, open: &OpenWallet, since: Moment) -> Result<Amount> {
    let query = AskedSince {
        customer: &open.customer,
        asset: &open.asset.name,
        since,
    };
    query.run(store)?.read_one()
}

/// Deletes acknowledged events, at most `batch`: `maintain`'s share. How many.
pub fn prune(store: &Store, now: Moment, batch: i32) -> Result<usize> {
    if cluster::is_distributed() {
        return Ok(PRUNE_ALL.run(store, &[value::moment(now)])?.count());
    }
    let args = [value::moment(now), value::int(batch)];
    Ok(PRUNE.run(store, &args)?.count())
}
