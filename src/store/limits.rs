//! Spend limits. They are in the wallet's state, and what is used under them is counted there, so that
//! most of them cost a debit no statement. Where `user:*` or `key:*` have more users or keys in a period
//! than the state takes in, the others are counted in rows, under the wallet's lock. What is held is
//! asked of the open authorizations.

use std::borrow::Cow;

use serde_json::json;
use uuid::Uuid;

use super::cluster;
use super::ledger::{self, Entry};
use super::open_wallet::{OpenWallet, OutboxEvent};
use super::statement::{INT, Query, Statement, Store, TEXT, TIME, UUID};
use super::table::{insert, query, sql, table};
use crate::errors::{self, Result};
use crate::ledger::limit::{
    self, ApplicableLimit, Counts, Every, ExceededLimit, LimitNotice, LimitPeriod, Start, Use,
};
use crate::ledger::{Amount, Limit, Moment};
use crate::sql_types::value;

table! {
    /// What is counted in a row.
    pub struct LimitUse {
        customer: String as text,
        asset: String as text,
        scope: String as text,
        every: String as text,
        counts: Cow<'static, str> as text,
        period_start: Moment as timestamptz,
        period_end: Option<Moment> as timestamptz,
        after: u64 as bigint,
        used: Amount as credits,
        warned: bool as boolean,
        reached: bool as boolean,
        unopened: bool as boolean,
    }
}

static WRITE: Statement = insert!("limit_uses AS u", LimitUse, " ON CONFLICT (customer, asset, scope, every, counts) DO UPDATE
          SET period_start = EXCLUDED.period_start, period_end = EXCLUDED.period_end, after = EXCLUDED.after,
              used = EXCLUDED.used, warned = EXCLUDED.warned, reached = EXCLUDED.reached, unopened = EXCLUDED.unopened");

query! {
    Read(customer: text, asset: text, scope: text, every: text, counts: text):
    "SELECT ", LimitUse::COLUMNS, " FROM credyt.limit_uses u
     WHERE u.customer = :customer AND u.asset = :asset AND u.scope = :scope AND u.every = :every AND u.counts = :counts"
}

table! {
    /// What an open authorization holds.
    struct Held {
        action: String as text,
        scopes: Option<Vec<String>> as texts,
        pinned: Amount as credits,
    }
}

query! {
    HeldBut(customer: text, asset: text, now: timestamptz, authorization: uuid):
    "SELECT ", Held::COLUMNS, "
     FROM (SELECT h.action, h.scopes,
                  (SELECT coalesce(sum((a.pin->>'credits')::numeric), 0) FROM jsonb_array_elements(h.pins) AS a (pin)) AS pinned
           FROM credyt.authorizations h
           WHERE h.customer = :customer AND h.asset = :asset AND h.status = 'open' AND h.expires_at > :now
             AND h.id IS DISTINCT FROM :authorization) h"
}

table! {
    /// What a debit counts under.
    struct Spent {
        action: Option<String> as text,
        scopes: Option<Vec<String>> as texts,
        created_at: Moment as timestamptz,
        seq: u64 as bigint,
    }
}

static SPENT_BY: Statement = Statement {
    sql: sql!(
        "SELECT ",
        Spent::COLUMNS,
        " FROM credyt.ledger l WHERE l.customer = $1 AND l.id = $2"
    ),
    args: &[TEXT, UUID],
};

query! {
    /// The rows of one user or key, or of all that begin so.
    Forget(customer: text, asset: text, every: text, counts: text, scope: text, each: text):
    "DELETE FROM credyt.limit_uses u
     WHERE u.customer = :customer AND u.asset = :asset AND u.every = :every AND u.counts = :counts
       AND (u.scope = :scope OR starts_with(u.scope, :each))"
}

query! {
    /// What was told of the users or keys under a limit for each whose cap or warning is another one now.
    Retell(customer: text, asset: text, every: text, counts: text, each: text, warning: credits, cap: credits):
    "UPDATE credyt.limit_uses u SET warned = u.warned AND u.used >= :warning, reached = u.reached AND u.used >= :cap
     WHERE u.customer = :customer AND u.asset = :asset AND u.every = :every AND u.counts = :counts
       AND starts_with(u.scope, :each)"
}

/// What counts in a period: of credits what debits and captures spent, less their refunds; of calls
/// the debits, and the authorizations instead of their captures.
macro_rules! counted {
    () => {
        "(SELECT l.scopes, l.action, -l.credits - coalesce((
                     SELECT sum(r.credits) FROM credyt.ledger r
                     WHERE r.customer = l.customer AND r.refers_to = l.id AND r.kind = 'refund'), 0) AS used
          FROM credyt.ledger l
          WHERE :counts = 'credits' AND l.customer = :customer AND l.asset = :asset AND l.id >= :first_id AND l.seq > :after AND l.kind = 'debit'
          UNION ALL
          SELECT l.scopes, l.action, 1 FROM credyt.ledger l
          WHERE :counts = 'calls' AND l.customer = :customer AND l.asset = :asset AND l.id >= :first_id AND l.seq > :after AND l.kind = 'debit'
            AND l.authorization_id IS NULL
          UNION ALL
          SELECT h.scopes, h.action, 1 FROM credyt.authorizations h
          WHERE :counts = 'calls' AND h.customer = :customer AND h.asset = :asset AND h.created_at >= :since) c"
    };
}

/// What is asked of a period since it began: no row of it has a lower id than `first_id`, `after` is the number of the
/// last row before it.
macro_rules! counted_query {
    ($(#[$meta:meta])* $Query:ident($($arg:ident: $sql:ident),+): $($part:expr),+) => {
        query! {
            $(#[$meta])*
            $Query(customer: text, asset: text, counts: text, first_id: uuid, after: bigint, since: timestamptz, $($arg: $sql),+):
            $($part),+
        }
    };
}

counted_query! {
    /// By user or key, one or all that begin so, but for those with a limit of their own; who used most comes first.
    UsedByEach(scope: text, each: text, own: texts):
    "SELECT s.scope, sum(c.used) FROM ", counted!(), "
     CROSS JOIN LATERAL (SELECT DISTINCT unnest(c.scopes)) AS s (scope)
     WHERE (s.scope = :scope OR starts_with(s.scope, :each)) AND s.scope <> ALL (:own)
     GROUP BY s.scope ORDER BY 2 DESC"
}

counted_query! {
    /// In the name of one user or key, on one action, or on those that begin so.
    UsedSince(scope: text, action: text, actions: text):
    "SELECT coalesce(sum(c.used), 0) FROM ", counted!(), "
     WHERE :scope = ANY (c.scopes) OR c.action = :action OR starts_with(c.action, :actions)"
}

static PRUNE: Statement = Statement {
    sql: "DELETE FROM credyt.limit_uses
          WHERE (customer, asset, scope, every, counts) IN (
              SELECT u.customer, u.asset, u.scope, u.every, u.counts FROM credyt.limit_uses u
              WHERE u.period_end <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
    args: &[TIME, INT],
};

static PRUNE_ALL: Statement = Statement {
    sql: "DELETE FROM credyt.limit_uses u WHERE u.period_end <= $1",
    args: &[TIME],
};

/// A limit that an action counts under, and what was used and held there.
struct LimitUsage {
    limit: ApplicableLimit,
    every: Every,
    counts: Counts,
    cap: Amount,
    current: Use,
    period: LimitPeriod,
    /// Something was used in the period: a window is open.
    open: bool,
    /// No window is open, and a refusal was told not longer ago than one lasts.
    refused_before: bool,
    held: Amount,
}

/// The limits that an action counts under, as they stand.
#[derive(Default)]
pub struct LimitCheck {
    places: Vec<LimitUsage>,
}

/// What has to be written into rows.
#[derive(Default)]
pub struct LimitRows {
    rows: Vec<LimitRow>,
}

struct LimitRow {
    every: Every,
    counts: Counts,
    ends: Option<Moment>,
    one: Use,
}

impl LimitCheck {
    /// Asks under which limits an action counts, and what was used and held there, but for what this
    /// authorization holds.
    pub fn of(
        store: &Store,
        open: &OpenWallet,
        action: &str,
        scopes: Option<&[String]>,
        but: Option<Uuid>,
    ) -> Result<LimitCheck> {
        let (limits, zone) = (&open.wallet.limits, &open.asset.timezone);
        let mut limit_check = LimitCheck::default();
        if limits.is_empty() {
            return Ok(limit_check);
        }
        for applying in limit::applying(limits, action, scopes.unwrap_or_default()) {
            let Some(limit) = limits.get(applying.place) else {
                continue;
            };
            let kept = match limit.knows(&applying.scope, zone, open.now) {
                true => limit.use_of(&applying.scope).cloned(),
                false => read_row(store, open, limit, &applying.scope)?,
            };
            let (current, period) = current(open, limit, &applying.scope, kept.as_ref())?;
            let same = |kept: &Use| !kept.unopened && kept.since == current.since;
            let told = |kept: &Use| {
                let period = limit.period_of(kept, zone);
                kept.unopened && kept.reached && period.is_some_and(|p| p.holds(open.now))
            };
            limit_check.places.push(LimitUsage {
                every: limit.every,
                counts: limit.counts,
                cap: limit.cap,
                limit: applying,
                open: kept.as_ref().is_some_and(same),
                refused_before: kept.as_ref().is_some_and(told),
                current,
                period,
                held: Amount::ZERO,
            });
        }
        if !open.wallet.held().is_zero() && limit_check.credits().next().is_some() {
            limit_check.ask_held(store, open, but)?;
        }
        Ok(limit_check)
    }

    /// What open authorizations hold under each of the limits.
    fn ask_held(&mut self, store: &Store, open: &OpenWallet, but: Option<Uuid>) -> Result<()> {
        let query = HeldBut {
            customer: &open.customer,
            asset: &open.asset.name,
            now: open.now,
            authorization: but,
        };
        for row in query.run(store)?.iter() {
            let held: Held = row.read()?;
            let scopes = held.scopes.unwrap_or_default();
            for place in &mut self.places {
                if place.counts == Counts::Credits && place.limit.counts(&held.action, &scopes) {
                    place.held += held.pinned;
                }
            }
        }
        Ok(())
    }

    fn credits(&self) -> impl Iterator<Item = &LimitUsage> {
        let credits = |place: &&LimitUsage| place.counts == Counts::Credits;
        self.places.iter().filter(credits)
    }

    /// The credits that the limits leave; `None`: none counts them.
    pub fn room(&self) -> Option<Amount> {
        self.credits().map(LimitUsage::room).min()
    }

    /// Whether some limit has no room for one more call.
    pub fn refuses_calls(&self) -> bool {
        let mut calls = self.places.iter().filter(|p| p.counts == Counts::Calls);
        calls.any(|place| place.room() < limit::CALL)
    }

    /// The first limit that has no room for a call of `credits`.
    pub fn exceeded(&self, credits: Amount) -> Option<ExceededLimit> {
        self.places.iter().find_map(|place| place.exceeded(credits))
    }

    /// The limit that has the least room for `credits` more, where one has too little. The call
    /// itself is counted already.
    pub fn tightest(&self, credits: Amount) -> Option<ExceededLimit> {
        let over = self.credits().filter_map(|place| place.exceeded(credits));
        over.min_by_key(ExceededLimit::room)
    }

    /// Counts a debit.
    fn count_debit(&mut self, open: &mut OpenWallet, credits: Amount) -> LimitRows {
        self.count(open, |place| {
            place.current.used += place.weight(credits);
            !place.weight(credits).is_zero()
        })
    }

    /// Counts an authorization that holds `credits`.
    pub fn count_hold(&mut self, open: &mut OpenWallet, credits: Amount) -> LimitRows {
        self.count(open, |place| {
            match place.counts {
                Counts::Calls => place.current.used += limit::CALL,
                Counts::Credits => place.held += credits,
            }
            !place.weight(credits).is_zero()
        })
    }

    /// Counts what a capture spends of an authorization that still holds so much.
    fn count_capture(&mut self, open: &mut OpenWallet, credits: Amount, held: Amount) -> LimitRows {
        self.count(open, |place| {
            let counts = place.counts == Counts::Credits && !credits.is_zero();
            if counts {
                place.current.used += credits;
                place.held += held;
            }
            counts
        })
    }

    /// Counts in each place that says so, and tells what that has reached.
    fn count(
        &mut self,
        open: &mut OpenWallet,
        mut counts: impl FnMut(&mut LimitUsage) -> bool,
    ) -> LimitRows {
        let mut counted = LimitRows::default();
        for place in &mut self.places {
            if !counts(place) {
                continue;
            }
            place.open = true;
            let total = place.current.used + place.held;
            let limit = open.wallet.limits.get(place.limit.place);
            let told = limit.map(|limit| limit.tell(&mut place.current, total));
            for told in told.unwrap_or_default() {
                open.told.push(place.news(told));
            }
            place.keep(open, &mut counted);
        }
        counted
    }

    /// Writes the events of limits that have refused a call of `credits`, each once in a period.
    pub fn refuse(&mut self, open: &mut OpenWallet, credits: Amount) -> LimitRows {
        let mut counted = LimitRows::default();
        for place in &mut self.places {
            let refused = place.exceeded(credits).is_some();
            if !refused || place.current.reached || place.refused_before {
                continue;
            }
            place.current.reached = true;
            place.current.unopened = place.is_closed_window();
            open.told.push(place.news(LimitNotice::Reached));
            place.keep(open, &mut counted);
        }
        counted
    }
}

impl LimitUsage {
    fn weight(&self, credits: Amount) -> Amount {
        match self.counts {
            Counts::Calls => limit::CALL,
            Counts::Credits => credits,
        }
    }

    fn room(&self) -> Amount {
        (self.cap - self.current.used - self.held).or_zero()
    }

    fn is_closed_window(&self) -> bool {
        matches!(self.every, Every::Window(_)) && !self.open
    }

    /// When what was used no longer counts.
    fn resets_at(&self) -> Option<Moment> {
        self.period.end.filter(|_| !self.is_closed_window())
    }

    fn exceeded(&self, credits: Amount) -> Option<ExceededLimit> {
        let needed = self.weight(credits);
        let over = !needed.is_zero() && self.current.used + self.held + needed > self.cap;
        over.then(|| ExceededLimit {
            scope: self.limit.scope.clone(),
            every: self.every,
            counts: self.counts,
            cap: self.cap,
            resets_at: self.resets_at(),
            used: self.current.used,
            held: self.held,
            needed,
        })
    }

    fn news(&self, told: LimitNotice) -> OutboxEvent {
        let kind = match told {
            LimitNotice::Warning => "limit.warning",
            LimitNotice::Reached => "limit.reached",
        };
        let payload = json!({
            "scope": self.limit.scope,
            "cap": self.cap.to_string(),
            "used": self.current.used.to_string(),
            "held": self.held.to_string(),
            "every": self.every.to_string(),
            "counts": self.counts.as_str(),
            "resets_at": self.resets_at().map(|at| at.to_string()),
        });
        OutboxEvent::new(kind, payload)
    }

    /// Keeps what is used now in the state, or for a row.
    fn keep(&self, open: &mut OpenWallet, counted: &mut LimitRows) {
        let zone = open.asset.timezone.clone();
        let Some(limit) = open.wallet.limits.get_mut(self.limit.place) else {
            return;
        };
        if limit.takes(&self.limit.scope, &zone, open.now) {
            limit.put(self.current.clone());
        } else {
            counted.rows.push(LimitRow {
                every: self.every,
                counts: self.counts,
                ends: self.period.end,
                one: self.current.clone(),
            });
        }
    }
}

impl LimitRows {
    /// Writes down what the wallet's state has no room for.
    pub fn write(&self, store: &Store, open: &OpenWallet) -> Result<()> {
        for LimitRow {
            every,
            counts,
            ends,
            one,
        } in &self.rows
        {
            let row = LimitUse {
                customer: open.customer.clone(),
                asset: open.asset.name.clone(),
                scope: one.scope.clone(),
                every: every.to_string(),
                counts: counts.as_str().into(),
                period_start: one.since,
                period_end: *ends,
                after: one.after,
                used: one.used,
                warned: one.warned,
                reached: one.reached,
                unopened: one.unopened,
            };
            WRITE.run(store, &row.values()?)?;
        }
        Ok(())
    }
}

/// What a use of now adds to, and its period.
fn current(
    open: &OpenWallet,
    limit: &Limit,
    scope: &str,
    kept: Option<&Use>,
) -> Result<(Use, LimitPeriod)> {
    let (zone, seq) = (&open.asset.timezone, open.wallet.seq);
    let current = limit.current(scope, kept, zone, open.now, seq);
    current.ok_or_else(|| open.no_period(limit.every))
}

/// What is counted in a row.
fn read_row(store: &Store, open: &OpenWallet, limit: &Limit, scope: &str) -> Result<Option<Use>> {
    let query = Read {
        customer: &open.customer,
        asset: &open.asset.name,
        scope,
        every: limit.every.to_string(),
        counts: limit.counts.as_str(),
    };
    let rows = query.run(store)?;
    Ok(rows.read_first()?.map(|row: LimitUse| Use {
        scope: row.scope,
        since: row.period_start,
        after: row.after,
        used: row.used,
        warned: row.warned,
        reached: row.reached,
        unopened: row.unopened,
    }))
}

/// Counts a movement that is about to be booked: a debit, which is refused with WC007 where a limit
/// has no room; a capture, which never is, and whose authorization still holds `held`; a refund, in the
/// period of its debit.
pub fn count(
    store: &Store,
    open: &mut OpenWallet,
    entry: &Entry,
    held: Amount,
) -> Result<LimitRows> {
    if open.wallet.limits.is_empty() {
        return Ok(LimitRows::default());
    }
    let action = entry.action.as_deref().unwrap_or_default();
    let (scopes, credits) = (entry.scopes.as_deref(), -entry.credits);
    match (&*entry.kind, entry.authorization_id, entry.refers_to) {
        ("debit", None, _) => {
            let mut limit_check = LimitCheck::of(store, open, action, scopes, None)?;
            match limit_check.exceeded(credits) {
                Some(over) => Err(refused(open, &over)),
                None => Ok(limit_check.count_debit(open, credits)),
            }
        }
        ("debit", capture, _) => {
            let mut limit_check = LimitCheck::of(store, open, action, scopes, capture)?;
            Ok(limit_check.count_capture(open, credits, held))
        }
        ("refund", _, Some(debit)) => count_back(store, open, debit, entry.credits),
        _ => Ok(LimitRows::default()),
    }
}

fn refused(open: &OpenWallet, over: &ExceededLimit) -> errors::Error {
    errors::limit_exceeded(&open.customer, &open.asset.name, over)
}

/// Takes a refund off what its debit has counted, wherever that was. A call is never taken back.
fn count_back(
    store: &Store,
    open: &mut OpenWallet,
    debit: Uuid,
    credits: Amount,
) -> Result<LimitRows> {
    let mut counted = LimitRows::default();
    let rows = SPENT_BY.run(store, &[value::text(&open.customer), value::uuid(debit)])?;
    let Some(spent) = rows.read_first::<Spent>()? else {
        return Ok(counted);
    };
    let zone = open.asset.timezone.clone();
    let action = spent.action.unwrap_or_default();
    let scopes = spent.scopes.unwrap_or_default();
    for applying in limit::applying(&open.wallet.limits, &action, &scopes) {
        let Some(limit) = open.wallet.limits.get(applying.place) else {
            continue;
        };
        if limit.counts == Counts::Calls {
            continue;
        }
        let counts = |kept: &Use| limit.counted(kept, &zone, spent.created_at, spent.seq);
        let here = limit.use_of(&applying.scope).cloned().filter(counts);
        // A row may be of an earlier period than what the state counts.
        let (kept, in_row) = match (here, limit.each()) {
            (None, Some(_)) => {
                let row = read_row(store, open, limit, &applying.scope)?;
                (row.filter(counts), true)
            }
            (here, _) => (here, false),
        };
        let Some(mut kept) = kept else {
            continue;
        };
        kept.used = (kept.used - credits).or_zero();
        if in_row {
            let ends = limit.period_of(&kept, &zone).and_then(|period| period.end);
            counted.rows.push(LimitRow {
                every: limit.every,
                counts: limit.counts,
                ends,
                one: kept,
            });
        } else if let Some(limit) = open.wallet.limits.get_mut(applying.place) {
            limit.put(kept);
        }
    }
    Ok(counted)
}

/// A limit as it is set.
pub struct Terms {
    pub cap: Amount,
    pub warn_at: Amount,
    pub required: bool,
}

/// Sets, changes or takes away the limit with this scope, period and what is counted. Limits may come
/// in the middle of a period, and a user's own one takes the place of the one for each: those of the
/// calendar count what the ledger says of the period before, `ever` starts now, and a window goes on
/// under the other limit.
pub fn set(
    store: &Store,
    open: &mut OpenWallet,
    scope: &str,
    every: Every,
    counts: Counts,
    terms: Option<Terms>,
) -> Result<()> {
    let same =
        |limit: &Limit| limit.scope == scope && (limit.every, limit.counts) == (every, counts);
    let place = open.wallet.limits.iter().position(same);
    match (terms, place) {
        (Some(terms), Some(at)) => {
            if let Some(limit) = open.wallet.limits.get_mut(at) {
                limit.change(terms.cap, terms.warn_at, terms.required);
                let limit = limit.clone();
                retell(store, open, &limit)?;
            }
            Ok(())
        }
        (Some(terms), None) => {
            let mut limit = Limit::new(scope, every, counts, terms.cap);
            (limit.warn_at, limit.required) = (terms.warn_at, terms.required);
            if every == Every::Ever {
                limit.start = Some(Start {
                    at: open.now,
                    after: open.wallet.seq,
                });
            }
            add(store, open, limit)
        }
        (None, Some(at)) => {
            let limit = open.wallet.limits.remove(at);
            remove(store, open, limit)
        }
        (None, None) => Ok(()),
    }
}

fn retell(store: &Store, open: &OpenWallet, limit: &Limit) -> Result<()> {
    let Some(each) = limit.each() else {
        return Ok(());
    };
    let query = Retell {
        customer: &open.customer,
        asset: &open.asset.name,
        every: limit.every.to_string(),
        counts: limit.counts.as_str(),
        each,
        warning: limit.warning(),
        cap: limit.cap,
    };
    query.run(store)?;
    Ok(())
}

/// A new limit, with what it counts already.
fn add(store: &Store, open: &mut OpenWallet, mut limit: Limit) -> Result<()> {
    // Where the calendar has no such period, it is said now and not to who spends.
    let (fresh, period) = current(open, &limit, &limit.scope, None)?;
    let each = for_each(open, &limit);
    let before = match each {
        Some(at) => take_out(store, open, at, &limit.scope)?,
        None => None,
    };
    match (limit.every, limit.each()) {
        (Every::Ever, _) => {}
        (Every::Window(_), _) => limit.uses.extend(before),
        (_, None) => {
            let used = used_since(store, open, &limit, &fresh)?;
            limit.put(Use { used, ..fresh });
        }
        (_, Some(_)) => recount_each(store, open, &mut limit, None, &fresh, period.end)?,
    }
    open.wallet.limits.push(limit);
    Ok(())
}

/// What goes on without this limit.
fn remove(store: &Store, open: &mut OpenWallet, mut limit: Limit) -> Result<()> {
    if limit.each().is_some() {
        return forget_rows(store, open, &limit, &limit.scope);
    }
    let Some(at) = for_each(open, &limit) else {
        return Ok(());
    };
    let Some(mut each) = open.wallet.limits.get(at).cloned() else {
        return Ok(());
    };
    match (each.every, limit.forget(&limit.scope.clone())) {
        (Every::Window(_), None) => {}
        (Every::Window(_), Some(one)) => {
            let ends = each.period_of(&one, &open.asset.timezone);
            let ends = ends.and_then(|period| period.end);
            count_one(store, open, &mut each, one, ends)?;
        }
        _ => {
            let (fresh, period) = current(open, &each, &limit.scope, None)?;
            let scope = Some(limit.scope.as_str());
            recount_each(store, open, &mut each, scope, &fresh, period.end)?;
        }
    }
    if let Some(place) = open.wallet.limits.get_mut(at) {
        *place = each;
    }
    Ok(())
}

/// The place of the limit for each that counts a user or key without a limit like this one.
fn for_each(open: &OpenWallet, limit: &Limit) -> Option<usize> {
    let (what @ ("user" | "key"), _) = limit.scope.split_once(':')? else {
        return None;
    };
    let scope = format!("{what}:*");
    let like = |other: &Limit| other.scope == scope && other.is_like(limit);
    let mut limits = open.wallet.limits.iter();
    limits.position(like).filter(|_| limit.each().is_none())
}

/// What a limit for each has counted of a scope, which it counts no longer.
fn take_out(store: &Store, open: &mut OpenWallet, at: usize, scope: &str) -> Result<Option<Use>> {
    let Some(each) = open.wallet.limits.get_mut(at) else {
        return Ok(None);
    };
    if let Some(one) = each.forget(scope) {
        return Ok(Some(one));
    }
    let each = each.clone();
    let one = read_row(store, open, &each, scope)?;
    if one.is_some() {
        forget_rows(store, open, &each, scope)?;
    }
    Ok(one)
}

/// Forgets the rows of one user or key, or of all.
fn forget_rows(store: &Store, open: &OpenWallet, limit: &Limit, scope: &str) -> Result<()> {
    let query = Forget {
        customer: &open.customer,
        asset: &open.asset.name,
        every: limit.every.to_string(),
        counts: limit.counts.as_str(),
        scope,
        each: Limit::each_of(scope),
    };
    query.run(store)?;
    Ok(())
}

fn used_since(store: &Store, open: &OpenWallet, limit: &Limit, since: &Use) -> Result<Amount> {
    let action = limit.scope.strip_prefix("action:");
    let query = UsedSince {
        customer: &open.customer,
        asset: &open.asset.name,
        counts: limit.counts.as_str(),
        first_id: ledger::first_id(since.since),
        after: since.after,
        since: since.since,
        scope: action.is_none().then_some(&limit.scope),
        action,
        actions: action.and_then(|pattern| pattern.strip_suffix('*')),
    };
    query.run(store)?.read_one()
}

/// Counts one user or key, or all, under a limit for each.
fn recount_each(
    store: &Store,
    open: &OpenWallet,
    limit: &mut Limit,
    scope: Option<&str>,
    fresh: &Use,
    ends: Option<Moment>,
) -> Result<()> {
    let own = open.wallet.limits.iter().filter(|own| own.is_like(limit));
    let own: Vec<String> = own.map(|own| own.scope.clone()).collect();
    let query = UsedByEach {
        customer: &open.customer,
        asset: &open.asset.name,
        counts: limit.counts.as_str(),
        first_id: ledger::first_id(fresh.since),
        after: fresh.after,
        since: fresh.since,
        scope,
        each: limit.each().filter(|_| scope.is_none()),
        own,
    };
    for row in query.run(store)?.iter() {
        let (scope, used) = row.read()?;
        let one = Use {
            scope,
            used,
            ..fresh.clone()
        };
        count_one(store, open, limit, one, ends)?;
    }
    Ok(())
}

/// Counts one user or key in the limit, or in a row.
fn count_one(
    store: &Store,
    open: &OpenWallet,
    limit: &mut Limit,
    one: Use,
    ends: Option<Moment>,
) -> Result<()> {
    if limit.takes(&one.scope, &open.asset.timezone, open.now) {
        limit.put(one);
        return Ok(());
    }
    let (every, counts) = (limit.every, limit.counts);
    let row = LimitRow {
        every,
        counts,
        ends,
        one,
    };
    LimitRows { rows: vec![row] }.write(store, open)
}

/// Deletes counts of periods that are over, at most `batch`: `maintain`'s share. How many.
pub fn prune(store: &Store, now: Moment, batch: i32) -> Result<usize> {
    if cluster::is_distributed() {
        return Ok(PRUNE_ALL.run(store, &[value::moment(now)])?.count());
    }
    let args = [value::moment(now), value::int(batch)];
    Ok(PRUNE.run(store, &args)?.count())
}
