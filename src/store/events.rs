//! The outbox: what an application is told, as rows written in the transaction that it is about.
//!
//! Order is kept by customer: a worker gets the first events of customers none of whose events is out
//! with another one. The row of a customer's first event is the lock.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::ledger;
use super::statement::{INT, JSONB, RowRef, Statement, Store, TEXT, TEXTS, TIME, UUID, UUIDS};
use super::wallets::OpenWallet;
use crate::errors::Result;
use crate::ledger::plan::Renewing;
use crate::ledger::wallet::{Decided, Due, Part};
use crate::ledger::watch::Signal;
use crate::ledger::{Amount, Moment};
use crate::sql_types::value;

/// An event that is about to be written.
#[derive(Clone, Debug)]
pub struct News {
    /// Nil until the wallet is written.
    id: Uuid,
    kind: &'static str,
    payload: Json,
}

/// An event that a worker takes.
pub struct Event {
    pub id: Uuid,
    pub customer: String,
    pub asset: String,
    pub kind: String,
    pub payload: Json,
    pub created_at: Moment,
}

static INSERT: Statement = Statement {
    sql: "INSERT INTO credyt.events (customer, id, asset, type, payload, created_at)
          VALUES ($1, $2, $3, $4, $5, $6)",
    args: &[TEXT, UUID, TEXT, TEXT, JSONB, TIME],
};

/// The customers whose first event waits for a worker, and none of whose events is out: locked by
/// the row of that event. Who is being served now is passed over.
static CUSTOMERS: Statement = Statement {
    sql: "SELECT e.customer FROM credyt.events e
          WHERE e.acknowledged_at IS NULL AND (e.leased_until IS NULL OR e.leased_until <= $1)
            AND NOT EXISTS (SELECT FROM credyt.events o
                            WHERE o.customer = e.customer AND o.acknowledged_at IS NULL
                              AND (o.id < e.id OR o.leased_until > $1))
          ORDER BY e.id LIMIT $2 FOR UPDATE OF e SKIP LOCKED",
    args: &[TIME, INT],
};

static WAITING: Statement = Statement {
    sql: "SELECT e.id, e.customer, e.asset, e.type, e.payload, e.created_at
          FROM unnest($1) AS c (customer)
          CROSS JOIN LATERAL (SELECT w.* FROM credyt.events w
                              WHERE w.customer = c.customer AND w.acknowledged_at IS NULL
                              ORDER BY w.id LIMIT $2) e
          ORDER BY e.id",
    args: &[TEXTS, INT],
};

/// Whoever acknowledges one of them just now holds it.
static LOCK: Statement = Statement {
    sql: "SELECT e.id FROM credyt.events e
          WHERE e.customer = ANY ($1) AND e.id = ANY ($2) AND e.acknowledged_at IS NULL
          FOR UPDATE SKIP LOCKED",
    args: &[TEXTS, UUIDS],
};

static LEASE: Statement = Statement {
    sql: "UPDATE credyt.events e SET leased_until = $3
          WHERE e.customer = ANY ($1) AND e.id = ANY ($2)",
    args: &[TEXTS, UUIDS, TIME],
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

static ASSET_OF: Statement = Statement {
    sql: "SELECT e.asset FROM credyt.events e
          WHERE e.customer = $1 AND e.id = $2 AND e.type = 'topup.requested'",
    args: &[TEXT, UUID],
};

static FAIL: Statement = Statement {
    sql: "UPDATE credyt.events e SET failure = $3 WHERE e.customer = $1 AND e.id = $2",
    args: &[TEXT, UUID, TEXT],
};

/// Kept for a day, so that a worker may acknowledge again; requests longer, so that a failure that is
/// told late finds them.
static PRUNE: Statement = Statement {
    sql: "DELETE FROM credyt.events
          WHERE (customer, id) IN (
              SELECT e.customer, e.id FROM credyt.events e
              WHERE e.acknowledged_at <= $1 - interval '1 day'
                AND (e.type <> 'topup.requested' OR e.acknowledged_at <= $1 - interval '30 days')
              LIMIT $2 FOR UPDATE SKIP LOCKED)",
    args: &[TIME, INT],
};

impl News {
    fn new(kind: &'static str, payload: Json) -> News {
        News {
            id: Uuid::nil(),
            kind,
            payload,
        }
    }

    /// What is told of what time decided.
    fn of_due(due: &Due) -> Option<News> {
        match &due.what {
            Decided::Expired(part) => Some(News::new("grant.expired", expired(part, due.at))),
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
fn renewed(renewing: &Renewing) -> Vec<(Moment, News)> {
    let periods = renewing.periods.iter().filter(|period| !period.first);
    let news = periods.map(|period| {
        let rolled_over: Amount = (renewing.issued.iter())
            .filter(|issue| issue.origin.is_some() && issue.grant.effective_at == period.starts)
            .map(|issue| issue.grant.remaining)
            .sum();
        let grant = period.grant.as_ref();
        let payload = json!({
            "plan": renewing.plan,
            "starts_at": period.starts.to_string(),
            "ends_at": period.ends.to_string(),
            "grant": grant.map(|grant| grant.id.to_string()),
            "credits": grant.map_or(Amount::ZERO, |grant| grant.remaining).to_string(),
            "paid": grant.map_or(Amount::ZERO, |grant| grant.deferred).money(),
            "rolled_over": rolled_over.to_string(),
        });
        (period.starts, News::new("plan.renewed", payload))
    });
    news.collect()
}

/// All that is to be told when the wallet is written now: what time decided, in its order, and that its balance has fallen. The wallet remembers what it has told.
pub fn collect<'a>(open: &mut OpenWallet, due: impl Iterator<Item = &'a Due>) -> Vec<News> {
    let balance = open.wallet.balance(open.now);
    // Who closes a wallet knows that it is empty, and nobody is to pay for more.
    let signals = if open.wallet.closed {
        Vec::new()
    } else {
        open.wallet.watch.signals(open.was, balance)
    };
    open.was = balance;
    let mut passed: Vec<(Moment, News)> = due
        .filter_map(|due| Some((due.at, News::of_due(due)?)))
        .collect();
    passed.extend(open.renewals.renewing.iter().flat_map(renewed));
    passed.sort_by_key(|(at, _)| *at);
    let mut news: Vec<News> = passed.into_iter().map(|(_, news)| news).collect();
    let mut asked = None;
    for signal in signals {
        let left = balance.to_string();
        news.push(match signal {
            Signal::Low { threshold } => News::new(
                "balance.low",
                json!({"threshold": threshold.to_string(), "available": left}),
            ),
            Signal::Depleted => News::new("balance.depleted", json!({"available": left})),
            Signal::TopUp { threshold, credits } => {
                asked = Some(news.len());
                let (threshold, credits) = (threshold.to_string(), credits.to_string());
                News::new(
                    "topup.requested",
                    json!({"threshold": threshold, "credits": credits, "available": left}),
                )
            }
        });
    }
    let watch = &mut open.wallet.watch;
    for (at, news) in news.iter_mut().enumerate() {
        watch.events += 1;
        // Ascending in the wallet, as its ledger rows do.
        news.id = ledger::row_id(open.now, watch.events);
        if let Some(topup) = watch.topup.as_mut().filter(|_| asked == Some(at)) {
            topup.in_flight = Some(news.id);
        }
    }
    news
}

/// Writes them down.
pub fn insert(store: &Store, open: &OpenWallet, news: &[News]) -> Result<()> {
    for news in news {
        let args = [
            value::text(&open.customer),
            value::uuid(news.id),
            value::text(&open.asset.name),
            value::text(news.kind),
            value::json("payload", &news.payload)?,
            value::moment(open.now),
        ];
        INSERT.run(store, &args)?;
    }
    Ok(())
}

/// Up to so many events that nobody else works on, in order; they are this worker's until then.
pub fn take(store: &Store, now: Moment, batch: i32, until: Moment) -> Result<Vec<Event>> {
    let rows = CUSTOMERS.run(store, &[value::moment(now), value::int(batch)])?;
    let customers: Result<Vec<String>> = rows.iter().map(|row| row.text(1)).collect();
    let customers = customers?;
    if customers.is_empty() {
        return Ok(Vec::new());
    }
    let rows = WAITING.run(store, &[value::texts(Some(&customers)), value::int(batch)])?;
    let waiting: Result<Vec<Event>> = rows.iter().map(|row| read(&row)).collect();
    let mut waiting = waiting?;
    waiting.truncate(usize::try_from(batch).unwrap_or_default());
    let ids = |events: &[Event]| value::uuids(events.iter().map(|event| event.id));
    let rows = LOCK.run(store, &[value::texts(Some(&customers)), ids(&waiting)])?;
    let locked: Result<Vec<Uuid>> = rows.iter().map(|row| row.uuid(1)).collect();
    let locked = locked?;
    // Behind one that could not be locked, the customer's later ones wait too.
    let mut passed: Vec<String> = Vec::new();
    waiting.retain(|event| {
        let free = locked.contains(&event.id) && !passed.contains(&event.customer);
        if !free {
            passed.push(event.customer.clone());
        }
        free
    });
    let args = [
        value::texts(Some(&customers)),
        ids(&waiting),
        value::moment(until),
    ];
    LEASE.run(store, &args)?;
    Ok(waiting)
}

fn read(row: &RowRef) -> Result<Event> {
    Ok(Event {
        id: row.uuid(1)?,
        customer: row.text(2)?,
        asset: row.text(3)?,
        kind: row.text(4)?,
        payload: row.json(5)?,
        created_at: row.moment(6)?,
    })
}

/// Acknowledges events that have not been yet. How many; or an id that is no event's.
pub fn acknowledge(
    store: &Store,
    now: Moment,
    ids: &[Uuid],
) -> Result<std::result::Result<usize, Uuid>> {
    let list = value::uuids(ids.iter().copied());
    let done = ACKNOWLEDGE.run(store, &[list, value::moment(now)])?.count();
    if done < ids.len() {
        let rows = UNKNOWN.run(store, &[list])?;
        if let Some(row) = rows.first() {
            return Ok(Err(row.uuid(1)?));
        }
    }
    Ok(Ok(done))
}

/// The asset of a customer's request for a top-up; `None` where there is no such request.
pub fn topup_asset(store: &Store, customer: &str, id: Uuid) -> Result<Option<String>> {
    let rows = ASSET_OF.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.first().map(|row| row.text(1)).transpose()
}

/// Writes down why a top-up failed.
pub fn fail(store: &Store, customer: &str, id: Uuid, reason: Option<&str>) -> Result<()> {
    let args = [
        value::text(customer),
        value::uuid(id),
        value::optional_text(reason),
    ];
    FAIL.run(store, &args)?;
    Ok(())
}

/// Forgets acknowledged events, at most so many: `maintain`'s share. How many.
pub fn prune(store: &Store, now: Moment, batch: i32) -> Result<usize> {
    let args = [value::moment(now), value::int(batch)];
    Ok(PRUNE.run(store, &args)?.count())
}
