//! Spend limits. They are in the wallet's state, and what is spent under them is counted there, so that
//! most of them cost a debit no statement. What each user or key spends under `user:*` or `key:*` is
//! counted in rows of its own, in the wallet's transaction and under its lock. What is held is asked
//! of the open authorizations.

use uuid::Uuid;

use super::ledger::{self, Entry};
use super::statement::{INT, NUMERIC, Statement, Store, TEXT, TEXTS, TIME, UUID};
use super::wallets::OpenWallet;
use crate::errors::{self, Result};
use crate::ledger::limit::{self, Applying, Every, Period, Uses};
use crate::ledger::{Amount, Limit, Moment};
use crate::sql_types::value;

/// A new period starts from zero.
static ADD: Statement = Statement {
    sql: "UPDATE credyt.limit_uses u
          SET used = $7 + CASE WHEN u.period_start = $5 THEN u.used ELSE 0 END, period_start = $5, period_end = $6
          WHERE u.customer = $1 AND u.asset = $2 AND u.scope = $3 AND u.every = $4
          RETURNING u.used",
    args: &[TEXT, TEXT, TEXT, TEXT, TIME, TIME, NUMERIC],
};

static FIRST: Statement = Statement {
    sql: "INSERT INTO credyt.limit_uses (customer, asset, scope, every, period_start, period_end, used)
          VALUES ($1, $2, $3, $4, $5, $6, $7)",
    args: &[TEXT, TEXT, TEXT, TEXT, TIME, TIME, NUMERIC],
};

/// Where the period is still the one that is counted.
static TAKE_BACK: Statement = Statement {
    sql: "UPDATE credyt.limit_uses u SET used = u.used - $6
          WHERE u.customer = $1 AND u.asset = $2 AND u.scope = $3 AND u.every = $4 AND u.period_start = $5",
    args: &[TEXT, TEXT, TEXT, TEXT, TIME, NUMERIC],
};

static USED: Statement = Statement {
    sql: "SELECT u.used FROM credyt.limit_uses u
          WHERE u.customer = $1 AND u.asset = $2 AND u.scope = $3 AND u.every = $4 AND u.period_start = $5",
    args: &[TEXT, TEXT, TEXT, TEXT, TIME],
};

static HELD: Statement = Statement {
    sql: "SELECT h.action, h.scopes,
              (SELECT coalesce(sum((a.pin->>'credits')::numeric), 0) FROM jsonb_array_elements(h.pins) AS a (pin))
          FROM credyt.authorizations h
          WHERE h.customer = $1 AND h.asset = $2 AND h.status = 'open' AND h.expires_at > $3",
    args: &[TEXT, TEXT, TIME],
};

static SPENT_BY: Statement = Statement {
    sql: "SELECT l.action, l.scopes, l.created_at FROM credyt.ledger l WHERE l.customer = $1 AND l.id = $2",
    args: &[TEXT, UUID],
};

static FORGET: Statement = Statement {
    sql: "DELETE FROM credyt.limit_uses u
          WHERE u.customer = $1 AND u.asset = $2 AND u.every = $3 AND (u.scope = $4 OR starts_with(u.scope, $5))",
    args: &[TEXT, TEXT, TEXT, TEXT, TEXT],
};

/// What a debit spent, less its refunds.
macro_rules! net {
    () => {
        "sum(-l.credits - coalesce((SELECT sum(r.credits) FROM credyt.ledger r
             WHERE r.customer = l.customer AND r.refers_to = l.id AND r.kind = 'refund'), 0))"
    };
}

/// By user or key: the one ($4), or all that begin so ($5) but for those with a limit of their own ($9).
static COUNT_EACH: Statement = Statement {
    sql: concat!(
        "INSERT INTO credyt.limit_uses (customer, asset, scope, every, period_start, period_end, used)
         SELECT l.customer, l.asset, s.scope, $3, $6, $7, ",
        net!(),
        " FROM credyt.ledger l CROSS JOIN LATERAL (SELECT DISTINCT unnest(l.scopes)) AS s (scope)
         WHERE l.customer = $1 AND l.asset = $2 AND l.id >= $8 AND l.kind = 'debit'
           AND (s.scope = $4 OR starts_with(s.scope, $5)) AND s.scope <> ALL ($9)
         GROUP BY l.customer, l.asset, s.scope"
    ),
    args: &[TEXT, TEXT, TEXT, TEXT, TEXT, TIME, TIME, UUID, TEXTS],
};

/// In the name of one user or key ($4), or on one action ($5) or those that begin so ($6).
static SPENT_SINCE: Statement = Statement {
    sql: concat!(
        "SELECT coalesce(",
        net!(),
        ", 0) FROM credyt.ledger l
         WHERE l.customer = $1 AND l.asset = $2 AND l.id >= $3 AND l.kind = 'debit'
           AND ($4 = ANY (l.scopes) OR l.action = $5 OR starts_with(l.action, $6))"
    ),
    args: &[TEXT, TEXT, UUID, TEXT, TEXT, TEXT],
};

static PRUNE: Statement = Statement {
    sql: "DELETE FROM credyt.limit_uses
          WHERE (customer, asset, scope, every) IN (
              SELECT u.customer, u.asset, u.scope, u.every FROM credyt.limit_uses u
              WHERE u.period_end <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
    args: &[TIME, INT],
};

/// A limit that has no room.
pub struct Exceeded {
    pub limit: Applying,
    pub until: Moment,
    pub used: Amount,
    pub held: Amount,
    pub needed: Amount,
}

/// Credits that count under some limits: each with the period that the spend lies in.
pub struct Counting {
    limits: Vec<(Applying, Period)>,
    credits: Amount,
}

impl Counting {
    /// `None`: no limit asks for it.
    fn of(
        open: &OpenWallet,
        action: Option<&str>,
        scopes: Option<&[String]>,
        at: Moment,
        credits: Amount,
    ) -> Result<Option<Counting>> {
        if open.wallet.limits.is_empty() || credits.is_zero() {
            return Ok(None);
        }
        let (action, scopes) = (action.unwrap_or_default(), scopes.unwrap_or_default());
        let applying = limit::applying(&open.wallet.limits, action, scopes);
        let limits: Result<Vec<(Applying, Period)>> = applying
            .into_iter()
            .map(|limit| period(open, limit.every, at).map(|period| (limit, period)))
            .collect();
        let limits = limits?;
        Ok((!limits.is_empty()).then_some(Counting { limits, credits }))
    }

    /// Those that are counted in rows.
    fn rows(&self) -> impl Iterator<Item = &(Applying, Period)> {
        self.limits
            .iter()
            .filter(|(limit, _)| limit.place.is_none())
    }

    /// Counts in the wallet's state: once it is sure that the limits have room.
    fn add_in_state(&self, open: &mut OpenWallet) {
        for (limit, period) in &self.limits {
            if let Some(limit) = limit.place.and_then(|at| open.wallet.limits.get_mut(at)) {
                limit.add(period.start, self.credits);
            }
        }
    }

    /// What was spent before, limit by limit: read off the state, or off what the rows say.
    fn used(
        &self,
        open: &OpenWallet,
        mut row: impl FnMut(&(Applying, Period)) -> Result<Amount>,
    ) -> Result<Vec<Amount>> {
        let used = |at: &(Applying, Period)| match at.0.place {
            Some(place) => {
                let limit = open.wallet.limits.get(place);
                Ok(limit.map_or(Amount::ZERO, |limit| limit.used(at.1.start)))
            }
            None => row(at),
        };
        self.limits.iter().map(used).collect()
    }

    fn exceeded(&self, used: &[Amount], held: &[Amount]) -> Option<Exceeded> {
        let limits: Vec<Applying> = self.limits.iter().map(|(limit, _)| limit.clone()).collect();
        let both: Vec<Amount> = used.iter().zip(held).map(|(u, h)| *u + *h).collect();
        let at = limit::exceeded(&limits, &both, self.credits)?;
        let (limit, period) = self.limits.get(at)?;
        Some(Exceeded {
            limit: limit.clone(),
            until: period.end,
            used: *used.get(at)?,
            held: *held.get(at)?,
            needed: self.credits,
        })
    }

    fn nothing_held(&self) -> Vec<Amount> {
        vec![Amount::ZERO; self.limits.len()]
    }

    /// What open authorizations hold under each of the limits.
    fn held(&self, store: &Store, open: &OpenWallet) -> Result<Vec<Amount>> {
        let mut held = self.nothing_held();
        if open.wallet.held().is_zero() {
            return Ok(held);
        }
        let args = [
            value::text(&open.customer),
            value::text(&open.asset.name),
            value::moment(open.now),
        ];
        for row in HELD.run(store, &args)?.iter() {
            let (action, scopes) = (row.text(1)?, row.optional_texts(2).unwrap_or_default());
            let pinned = row.amount(3)?;
            for ((limit, _), held) in self.limits.iter().zip(&mut held) {
                if limit.counts(&action, &scopes) {
                    *held += pinned;
                }
            }
        }
        Ok(held)
    }

    /// Counts in the row of one user or key. What was spent before.
    fn add_row(
        &self,
        store: &Store,
        open: &OpenWallet,
        (limit, period): &(Applying, Period),
    ) -> Result<Amount> {
        let mut args = key(open, limit, period);
        args.push(value::moment(period.end));
        args.push(value::credits(self.credits));
        let rows = ADD.run(store, &args)?;
        match rows.first() {
            Some(row) => Ok(row.amount(1)? - self.credits),
            None => {
                FIRST.run(store, &args)?;
                Ok(Amount::ZERO)
            }
        }
    }

    /// Counts in the rows, or says which limit has no room; then nothing was counted.
    fn add_rows(
        &self,
        store: &Store,
        open: &OpenWallet,
        held: Option<Vec<Amount>>,
    ) -> Result<Option<Exceeded>> {
        let used = self.used(open, |at| self.add_row(store, open, at))?;
        let exceeded = held.and_then(|held| self.exceeded(&used, &held));
        if exceeded.is_some() {
            self.take_rows_back(store, open)?;
        }
        Ok(exceeded)
    }

    /// As if it had not been counted in the rows.
    pub fn take_rows_back(&self, store: &Store, open: &OpenWallet) -> Result<()> {
        for (limit, period) in self.rows() {
            let mut args = key(open, limit, period);
            args.push(value::credits(self.credits));
            TAKE_BACK.run(store, &args)?;
        }
        Ok(())
    }
}

fn key(open: &OpenWallet, limit: &Applying, period: &Period) -> Vec<value::Value> {
    vec![
        value::text(&open.customer),
        value::text(&open.asset.name),
        value::text(&limit.scope),
        value::text(limit.every.as_str()),
        value::moment(period.start),
    ]
}

fn refusal(open: &OpenWallet, exceeded: Option<Exceeded>) -> Result<()> {
    match exceeded {
        Some(exceeded) => Err(errors::limit_exceeded(
            &open.customer,
            &open.asset.name,
            &exceeded,
        )),
        None => Ok(()),
    }
}

/// Counts a movement that is about to be booked: a debit, which is refused with WC007 where a limit
/// has no room; a capture, which never is; a refund, in the period of its debit. What was counted in
/// rows has to be taken back where the movement is not booked.
pub fn count(store: &Store, open: &mut OpenWallet, entry: &Entry) -> Result<Option<Counting>> {
    match (entry.kind, entry.refers_to) {
        ("debit", _) => {
            let (action, scopes) = (entry.action.as_deref(), entry.scopes.as_deref());
            let counting = Counting::of(open, action, scopes, open.now, -entry.credits)?;
            if let Some(counting) = &counting {
                let asked = entry.authorization_id.is_none();
                let held = asked.then(|| counting.held(store, open)).transpose()?;
                refusal(open, counting.add_rows(store, open, held)?)?;
                counting.add_in_state(open);
            }
            Ok(counting)
        }
        ("refund", Some(debit)) if !open.wallet.limits.is_empty() => {
            count_back(store, open, debit, entry.credits)
        }
        _ => Ok(None),
    }
}

/// Counts a debit in the state alone, where that is all that has to be asked. False: it is not.
pub fn count_in_state(
    open: &mut OpenWallet,
    action: &str,
    scopes: Option<&[String]>,
    credits: Amount,
) -> Result<bool> {
    let Some(counting) = Counting::of(open, Some(action), scopes, open.now, credits)? else {
        return Ok(true);
    };
    if !open.wallet.held().is_zero() {
        return Ok(false);
    }
    // What the rows say is asked when the debit is booked.
    let used = counting.used(open, |_| Ok(-credits))?;
    refusal(open, counting.exceeded(&used, &counting.nothing_held()))?;
    counting.add_in_state(open);
    Ok(true)
}

/// The rest of it, for a debit that is about to be booked: what is counted in rows.
pub fn count_in_rows(store: &Store, open: &OpenWallet, entry: &Entry) -> Result<Option<Counting>> {
    let (action, scopes) = (entry.action.as_deref(), entry.scopes.as_deref());
    let counting = Counting::of(open, action, scopes, open.now, -entry.credits)?;
    let Some(mut counting) = counting else {
        return Ok(None);
    };
    counting.limits.retain(|(limit, _)| limit.place.is_none());
    let held = counting.nothing_held();
    refusal(open, counting.add_rows(store, open, Some(held))?)?;
    Ok(Some(counting))
}

fn count_back(
    store: &Store,
    open: &mut OpenWallet,
    debit: Uuid,
    credits: Amount,
) -> Result<Option<Counting>> {
    let rows = SPENT_BY.run(store, &[value::text(&open.customer), value::uuid(debit)])?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let (action, scopes) = (row.optional_text(1), row.optional_texts(2));
    let (action, scopes) = (action.as_deref(), scopes.as_deref());
    let Some(counting) = Counting::of(open, action, scopes, row.moment(3)?, credits)? else {
        return Ok(None);
    };
    counting.take_rows_back(store, open)?;
    for (limit, period) in &counting.limits {
        if let Some(limit) = limit.place.and_then(|at| open.wallet.limits.get_mut(at)) {
            limit.take_back(period.start, credits);
        }
    }
    // Taken back once more, a refund that is not booked counts as nothing.
    Ok(Some(Counting {
        credits: -credits,
        ..counting
    }))
}

/// The limit that has no room for holding so many credits.
pub fn exceeded(
    store: &Store,
    open: &OpenWallet,
    action: &str,
    scopes: Option<&[String]>,
    credits: Amount,
) -> Result<Option<Exceeded>> {
    let Some(counting) = Counting::of(open, Some(action), scopes, open.now, credits)? else {
        return Ok(None);
    };
    let used = counting.used(open, |(limit, period)| {
        let rows = USED.run(store, &key(open, limit, period))?;
        rows.first().map_or(Ok(Amount::ZERO), |row| row.amount(1))
    })?;
    Ok(counting.exceeded(&used, &counting.held(store, open)?))
}

/// The period of a limit that a moment lies in, in the time zone of the wallet's asset.
pub fn period(open: &OpenWallet, every: Every, at: Moment) -> Result<Period> {
    let zone = &open.asset.timezone;
    let period = every.period(zone, at);
    period.ok_or_else(|| {
        errors::invalid(
            "every",
            format_args!("no {every} of time zone {zone} is known around {at}"),
        )
    })
}

/// Counts anew, from the ledger, what a limit counts that was set, changed or taken away: limits may
/// come in mid-period, and a user's own one takes the place of the one for each.
pub fn recount(store: &Store, open: &mut OpenWallet, scope: &str, every: Every) -> Result<()> {
    let period = period(open, every, open.now)?;
    let customer_and_asset = [value::text(&open.customer), value::text(&open.asset.name)];
    let [customer, asset] = customer_and_asset;
    let each = |scope: &str| Limit::each_of(scope).map(str::to_owned);
    let forget = [
        customer,
        asset,
        value::text(every.as_str()),
        value::text(scope),
        value::optional_text(each(scope).as_deref()),
    ];
    FORGET.run(store, &forget)?;
    let limits = &mut open.wallet.limits;
    let there = |scope: &str, limits: &[Limit]| {
        (limits.iter()).position(|limit| limit.scope == scope && limit.every == every)
    };
    let first = value::uuid(ledger::first_id(period.start));
    let place = there(scope, limits);
    if let (Some(at), None) = (place, each(scope)) {
        let action = scope.strip_prefix("action:");
        let args = [
            customer,
            asset,
            first,
            value::optional_text(action.is_none().then_some(scope)),
            value::optional_text(action),
            value::optional_text(action.and_then(|pattern| pattern.strip_suffix('*'))),
        ];
        let rows = SPENT_SINCE.run(store, &args)?;
        let credits = rows.first().map_or(Ok(Amount::ZERO), |row| row.amount(1))?;
        if let Some(limit) = limits.get_mut(at) {
            let since = period.start;
            limit.uses = Some(Uses { since, credits });
        }
        return Ok(());
    }
    // One for each was set; or one of its own was taken away, and the one for each counts again.
    let for_each = match scope.split_once(':') {
        Some((what @ ("user" | "key"), _)) => there(&format!("{what}:*"), limits),
        _ => None,
    };
    if for_each.is_some() {
        let own = limits.iter().filter(|limit| limit.every == every);
        let own: Vec<String> = own.map(|limit| limit.scope.clone()).collect();
        let args = [
            customer,
            asset,
            value::text(every.as_str()),
            value::optional_text(each(scope).is_none().then_some(scope)),
            value::optional_text(each(scope).as_deref()),
            value::moment(period.start),
            value::moment(period.end),
            first,
            value::texts(Some(&own)),
        ];
        COUNT_EACH.run(store, &args)?;
    }
    Ok(())
}

/// Forgets counts of periods that are over, at most so many: `maintain`'s share. How many.
#[allow(dead_code)] // until maintain() is there
pub fn prune(store: &Store, now: Moment, batch: i32) -> Result<usize> {
    let args = [value::moment(now), value::int(batch)];
    Ok(PRUNE.run(store, &args)?.count())
}
