//! Spend limits: what has been spent in the period that runs, by scope. The limits themselves are in
//! the wallet's state, so that a wallet without any pays nothing for them; what is held is asked of
//! the open authorizations. All of it happens under the wallet's lock.

use uuid::Uuid;

use super::ledger::{self, Entry};
use super::statement::{NUMERIC, Statement, Store, TEXT, TEXTS, TIME, TIMES, UUID};
use super::wallets::OpenWallet;
use crate::errors::{self, Result};
use crate::ledger::limit::{self, Applying, Every, Period};
use crate::ledger::{Amount, Limit, Moment};
use crate::sql_types::value;

/// One row for each scope and kind of period: a new period starts from zero. What comes back is in
/// the order of the arrays.
static ADD: Statement = Statement {
    sql: "INSERT INTO credyt.limit_uses AS u (customer, asset, scope, every, period_start, period_end, used)
          SELECT $1, $2, s.scope, s.every, s.starts, s.ends, $7
          FROM unnest($3, $4, $5, $6) AS s (scope, every, starts, ends)
          ON CONFLICT (customer, asset, scope, every) DO UPDATE
          SET used = excluded.used + CASE WHEN u.period_start = excluded.period_start THEN u.used ELSE 0 END,
              period_start = excluded.period_start, period_end = excluded.period_end
          RETURNING u.used",
    args: &[TEXT, TEXT, TEXTS, TEXTS, TIMES, TIMES, NUMERIC],
};

/// Where the period is still the one that is counted.
static TAKE_BACK: Statement = Statement {
    sql: "UPDATE credyt.limit_uses u SET used = u.used - $6
          FROM unnest($3, $4, $5) AS s (scope, every, starts)
          WHERE u.customer = $1 AND u.asset = $2 AND u.scope = s.scope AND u.every = s.every
            AND u.period_start = s.starts",
    args: &[TEXT, TEXT, TEXTS, TEXTS, TIMES, NUMERIC],
};

static USED: Statement = Statement {
    sql: "SELECT coalesce(u.used, 0)
          FROM unnest($3, $4, $5) WITH ORDINALITY AS s (scope, every, starts, nth)
          LEFT JOIN credyt.limit_uses u
                 ON u.customer = $1 AND u.asset = $2 AND u.scope = s.scope AND u.every = s.every
                AND u.period_start = s.starts
          ORDER BY s.nth",
    args: &[TEXT, TEXT, TEXTS, TEXTS, TIMES],
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

/// What the ledger says was spent since a moment, less refunds of it, by the users or keys it was
/// spent for: one of them ($4), or all that begin so ($5).
static COUNT_SCOPES: Statement = Statement {
    sql: "INSERT INTO credyt.limit_uses (customer, asset, scope, every, period_start, period_end, used)
          SELECT l.customer, l.asset, s.scope, $3, $6, $7,
              sum(-l.credits - coalesce((SELECT sum(r.credits) FROM credyt.ledger r
                                         WHERE r.customer = l.customer AND r.refers_to = l.id AND r.kind = 'refund'), 0))
          FROM credyt.ledger l CROSS JOIN LATERAL (SELECT DISTINCT unnest(l.scopes)) AS s (scope)
          WHERE l.customer = $1 AND l.asset = $2 AND l.id >= $8 AND l.kind = 'debit'
            AND (s.scope = $4 OR starts_with(s.scope, $5))
          GROUP BY l.customer, l.asset, s.scope",
    args: &[TEXT, TEXT, TEXT, TEXT, TEXT, TIME, TIME, UUID],
};

/// The same by actions: the one ($4), or all that begin so ($5).
static COUNT_ACTIONS: Statement = Statement {
    sql: "INSERT INTO credyt.limit_uses (customer, asset, scope, every, period_start, period_end, used)
          SELECT l.customer, l.asset, $9, $3, $6, $7,
              sum(-l.credits - coalesce((SELECT sum(r.credits) FROM credyt.ledger r
                                         WHERE r.customer = l.customer AND r.refers_to = l.id AND r.kind = 'refund'), 0))
          FROM credyt.ledger l
          WHERE l.customer = $1 AND l.asset = $2 AND l.id >= $8 AND l.kind = 'debit'
            AND (l.action = $4 OR starts_with(l.action, $5))
          GROUP BY l.customer, l.asset",
    args: &[TEXT, TEXT, TEXT, TEXT, TEXT, TIME, TIME, UUID, TEXT],
};

static PRUNE: Statement = Statement {
    sql: "DELETE FROM credyt.limit_uses
          WHERE (customer, asset, scope, every) IN (
              SELECT u.customer, u.asset, u.scope, u.every FROM credyt.limit_uses u
              WHERE u.period_end <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
    args: &[TIME, super::statement::INT],
};

/// A spend that has been counted, or given back: the limits, and the period of each.
pub struct Counted {
    limits: Vec<Applying>,
    periods: Vec<Period>,
    credits: Amount,
}

/// A limit that has no room.
pub struct Exceeded {
    pub limit: Applying,
    pub until: Moment,
    pub used: Amount,
    pub held: Amount,
    pub needed: Amount,
}

impl Counted {
    fn of(
        open: &OpenWallet,
        action: Option<&str>,
        scopes: Option<&[String]>,
        at: Moment,
        credits: Amount,
    ) -> Result<Option<Counted>> {
        let (action, scopes) = (action.unwrap_or_default(), scopes.unwrap_or_default());
        let limits = limit::applying(&open.wallet.limits, action, scopes);
        if limits.is_empty() || credits.is_zero() {
            return Ok(None);
        }
        let periods: Result<Vec<Period>> = limits
            .iter()
            .map(|limit| period(open, limit.every, at))
            .collect();
        Ok(Some(Counted {
            limits,
            periods: periods?,
            credits,
        }))
    }

    /// Customer, asset, and by limit the scope, the kind of period and its start.
    fn args(&self, open: &OpenWallet) -> Vec<value::Value> {
        let scopes: Vec<String> = self.limits.iter().map(|l| l.scope.clone()).collect();
        let every: Vec<String> = self.limits.iter().map(|l| l.every.to_string()).collect();
        vec![
            value::text(&open.customer),
            value::text(&open.asset.name),
            value::texts(Some(&scopes)),
            value::texts(Some(&every)),
            value::moments(self.periods.iter().map(|period| period.start)),
        ]
    }

    /// The first limit that is exceeded where this is spent before it.
    fn exceeded(
        &self,
        store: &Store,
        open: &OpenWallet,
        used: &[Amount],
    ) -> Result<Option<Exceeded>> {
        let held = self.held(store, open)?;
        let both: Vec<Amount> = used.iter().zip(&held).map(|(u, h)| *u + *h).collect();
        let Some(at) = limit::exceeded(&self.limits, &both, self.credits) else {
            return Ok(None);
        };
        let found = self.limits.get(at).zip(self.periods.get(at));
        let amounts = used.get(at).zip(held.get(at));
        Ok(found
            .zip(amounts)
            .map(|((limit, period), (used, held))| Exceeded {
                limit: limit.clone(),
                until: period.end,
                used: *used,
                held: *held,
                needed: self.credits,
            }))
    }

    /// What open authorizations hold under each of the limits.
    fn held(&self, store: &Store, open: &OpenWallet) -> Result<Vec<Amount>> {
        let mut held = vec![Amount::ZERO; self.limits.len()];
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
            for (limit, held) in self.limits.iter().zip(&mut held) {
                if limit.counts(&action, &scopes) {
                    *held += pinned;
                }
            }
        }
        Ok(held)
    }

    fn add(&self, store: &Store, open: &OpenWallet) -> Result<Vec<Amount>> {
        let mut args = self.args(open);
        args.push(value::moments(self.periods.iter().map(|p| p.end)));
        args.push(value::credits(self.credits));
        let rows = ADD.run(store, &args)?;
        rows.iter().map(|row| row.amount(1)).collect()
    }

    fn take_back(&self, store: &Store, open: &OpenWallet, credits: Amount) -> Result<()> {
        let mut args = self.args(open);
        args.push(value::credits(credits));
        TAKE_BACK.run(store, &args)?;
        Ok(())
    }

    /// As if it had not been counted.
    pub fn undo(&self, store: &Store, open: &OpenWallet) -> Result<()> {
        self.take_back(store, open, self.credits)
    }
}

/// Counts a movement that is about to be booked: a debit, which is refused with WC007 where a limit
/// has no room; a capture, which never is; a refund, in the period of its debit. What is refused
/// leaves the counts as they were; `None`: no limit asks for it.
pub fn count(store: &Store, open: &OpenWallet, entry: &Entry) -> Result<Option<Counted>> {
    if open.wallet.limits.is_empty() {
        return Ok(None);
    }
    match (entry.kind, entry.refers_to) {
        ("debit", _) => count_debit(store, open, entry),
        ("refund", Some(debit)) => count_refund(store, open, debit, entry.credits),
        _ => Ok(None),
    }
}

fn count_debit(store: &Store, open: &OpenWallet, entry: &Entry) -> Result<Option<Counted>> {
    let (action, scopes) = (entry.action.as_deref(), entry.scopes.as_deref());
    let Some(counted) = Counted::of(open, action, scopes, open.now, -entry.credits)? else {
        return Ok(None);
    };
    let used = counted.add(store, open)?;
    if entry.authorization_id.is_none() {
        let before: Vec<Amount> = used.iter().map(|used| *used - counted.credits).collect();
        if let Some(exceeded) = counted.exceeded(store, open, &before)? {
            counted.undo(store, open)?;
            let (customer, asset) = (&open.customer, &open.asset.name);
            return Err(errors::limit_exceeded(customer, asset, &exceeded));
        }
    }
    Ok(Some(counted))
}

fn count_refund(
    store: &Store,
    open: &OpenWallet,
    debit: Uuid,
    credits: Amount,
) -> Result<Option<Counted>> {
    let rows = SPENT_BY.run(store, &[value::text(&open.customer), value::uuid(debit)])?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let (action, scopes) = (row.optional_text(1), row.optional_texts(2));
    let spent_at = row.moment(3)?;
    let back = Counted::of(
        open,
        action.as_deref(),
        scopes.as_deref(),
        spent_at,
        -credits,
    )?;
    if let Some(back) = &back {
        back.take_back(store, open, credits)?;
    }
    Ok(back)
}

/// The limit that has no room for holding so many credits.
pub fn exceeded(
    store: &Store,
    open: &OpenWallet,
    action: &str,
    scopes: Option<&[String]>,
    credits: Amount,
) -> Result<Option<Exceeded>> {
    if open.wallet.limits.is_empty() {
        return Ok(None);
    }
    let Some(counted) = Counted::of(open, Some(action), scopes, open.now, credits)? else {
        return Ok(None);
    };
    let rows = USED.run(store, &counted.args(open))?;
    let used: Result<Vec<Amount>> = rows.iter().map(|row| row.amount(1)).collect();
    counted.exceeded(store, open, &used?)
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

/// Counts anew, from the ledger, what a changed limit counts: limits may come in mid-period.
pub fn recount(store: &Store, open: &OpenWallet, scope: &str, every: Every) -> Result<()> {
    let limit = Limit {
        scope: scope.to_owned(),
        every,
        cap: Amount::ZERO,
    };
    let args = [
        value::text(&open.customer),
        value::text(&open.asset.name),
        value::text(every.as_str()),
        value::text(scope),
        value::optional_text(limit.each()),
    ];
    FORGET.run(store, &args)?;
    let period = period(open, every, open.now)?;
    for counted in limit::counted_with(&open.wallet.limits, &limit) {
        recount_one(store, open, counted, period)?;
    }
    Ok(())
}

fn recount_one(store: &Store, open: &OpenWallet, limit: Limit, period: Period) -> Result<()> {
    let action = limit.scope.strip_prefix("action:");
    let (name, beginning) = match action {
        Some(pattern) => (pattern, pattern.strip_suffix('*')),
        None => (limit.scope.as_str(), limit.each()),
    };
    let mut args = vec![
        value::text(&open.customer),
        value::text(&open.asset.name),
        value::text(limit.every.as_str()),
        value::text(name),
        value::optional_text(beginning),
        value::moment(period.start),
        value::moment(period.end),
        value::uuid(ledger::first_id(period.start)),
    ];
    if action.is_some() {
        args.push(value::text(&limit.scope));
        COUNT_ACTIONS.run(store, &args)?;
    } else {
        COUNT_SCOPES.run(store, &args)?;
    }
    Ok(())
}

/// Forgets counts of periods that are over, at most so many: `maintain`'s share. How many.
#[allow(dead_code)] // until maintain() is there
pub fn prune(store: &Store, now: Moment, batch: i32) -> Result<usize> {
    let args = [value::moment(now), value::int(batch)];
    Ok(PRUNE.run(store, &args)?.count())
}
