//! Spend limits. They are in the wallet's state, and what is spent under them is counted there, so that
//! most of them cost a debit no statement. Where `user:*` or `key:*` have more users or keys in a period
//! than the state takes in, the others are counted in rows, under the wallet's lock. What is held is
//! asked of the open authorizations.

use uuid::Uuid;

use super::ledger::{self, Entry};
use super::statement::{INT, NUMERIC, Statement, Store, TEXT, TEXTS, TIME, UUID};
use super::wallets::OpenWallet;
use crate::errors::{self, Result};
use crate::ledger::limit::{self, Applying, Every, Period};
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

/// By user or key: the one ($4), or all that begin so ($5) but for those with a limit of their own
/// ($6). Who spent most comes first.
static SPENT_BY_EACH: Statement = Statement {
    sql: concat!(
        "SELECT s.scope, ",
        net!(),
        " FROM credyt.ledger l CROSS JOIN LATERAL (SELECT DISTINCT unnest(l.scopes)) AS s (scope)
         WHERE l.customer = $1 AND l.asset = $2 AND l.id >= $3 AND l.kind = 'debit'
           AND (s.scope = $4 OR starts_with(s.scope, $5)) AND s.scope <> ALL ($6)
         GROUP BY s.scope ORDER BY 2 DESC"
    ),
    args: &[TEXT, TEXT, UUID, TEXT, TEXT, TEXTS],
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

/// A limit, the period of it, and whether it is counted in the wallet's state or in a row.
struct Place {
    limit: Applying,
    period: Period,
    in_row: bool,
}

impl Exceeded {
    /// What may still be spent.
    pub fn room(&self) -> Amount {
        (self.limit.cap - self.used - self.held).or_zero()
    }
}

/// Credits that count under some limits.
pub struct Counting {
    places: Vec<Place>,
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
        let place = |limit: Applying| {
            let period = period(open, limit.every, at)?;
            let kept = open.wallet.limits.get(limit.place);
            let in_row = kept.is_some_and(|kept| !kept.knows(&limit.scope, period.start));
            Ok(Place {
                limit,
                period,
                in_row,
            })
        };
        let applying = limit::applying(&open.wallet.limits, action, scopes);
        let places: Result<Vec<Place>> = applying.into_iter().map(place).collect();
        let places = places?;
        Ok((!places.is_empty()).then_some(Counting { places, credits }))
    }

    /// The same for a spend of now, which the state takes in where it has room.
    fn of_spend(
        open: &mut OpenWallet,
        action: Option<&str>,
        scopes: Option<&[String]>,
        credits: Amount,
    ) -> Result<Option<Counting>> {
        let Some(mut counting) = Counting::of(open, action, scopes, open.now, credits)? else {
            return Ok(None);
        };
        for place in &mut counting.places {
            if let Some(kept) = open.wallet.limits.get_mut(place.limit.place) {
                place.in_row = !kept.takes(&place.limit.scope, place.period.start);
            }
        }
        Ok(Some(counting))
    }

    /// The first limit that has no room, as far as the state says. `held` by place.
    fn check_state(&self, open: &OpenWallet, held: &[Amount]) -> Result<()> {
        for (place, held) in self.places.iter().zip(held) {
            let kept = open.wallet.limits.get(place.limit.place);
            if let Some(kept) = kept.filter(|_| !place.in_row) {
                let used = kept.used(&place.limit.scope, place.period.start);
                self.check(open, place, used, *held)?;
            }
        }
        Ok(())
    }

    /// WC007 where the limit has no room.
    fn check(&self, open: &OpenWallet, place: &Place, used: Amount, held: Amount) -> Result<()> {
        match self.exceeded(place, used, held) {
            None => Ok(()),
            Some(over) => Err(errors::limit_exceeded(
                &open.customer,
                &open.asset.name,
                &over,
            )),
        }
    }

    fn exceeded(&self, place: &Place, used: Amount, held: Amount) -> Option<Exceeded> {
        let Place { limit, period, .. } = place;
        (used + held + self.credits > limit.cap).then(|| Exceeded {
            limit: limit.clone(),
            until: period.end,
            used,
            held,
            needed: self.credits,
        })
    }

    fn add_to_state(&self, open: &mut OpenWallet) {
        for place in self.places.iter().filter(|place| !place.in_row) {
            if let Some(kept) = open.wallet.limits.get_mut(place.limit.place) {
                kept.add(&place.limit.scope, place.period.start, self.credits);
            }
        }
    }

    /// What open authorizations hold under each of the limits.
    fn held(&self, store: &Store, open: &OpenWallet) -> Result<Vec<Amount>> {
        let mut held = vec![Amount::ZERO; self.places.len()];
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
            for (place, held) in self.places.iter().zip(&mut held) {
                if place.limit.counts(&action, &scopes) {
                    *held += pinned;
                }
            }
        }
        Ok(held)
    }

    /// Counts in the rows. Where one has no room, none was counted, and it is WC007. `held` by place;
    /// `None`: nothing is asked.
    fn add_to_rows(&self, store: &Store, open: &OpenWallet, held: Option<&[Amount]>) -> Result<()> {
        for (at, place) in self.places.iter().enumerate() {
            if !place.in_row {
                continue;
            }
            let used = self.add_to_row(store, open, place)?;
            let Some(held) = held.and_then(|held| held.get(at)) else {
                continue;
            };
            if let Err(refused) = self.check(open, place, used, *held) {
                for counted in self.places.iter().take(at + 1) {
                    self.take_back_from_row(store, open, counted)?;
                }
                return Err(refused);
            }
        }
        Ok(())
    }

    /// Counts in one row. What was spent before.
    fn add_to_row(&self, store: &Store, open: &OpenWallet, place: &Place) -> Result<Amount> {
        let mut args = place.key(open);
        args.push(value::moment(place.period.end));
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

    fn take_back_from_row(&self, store: &Store, open: &OpenWallet, place: &Place) -> Result<()> {
        if place.in_row {
            let mut args = place.key(open);
            args.push(value::credits(self.credits));
            TAKE_BACK.run(store, &args)?;
        }
        Ok(())
    }

    /// As if it had not been counted in the rows: where the movement is not booked after all.
    pub fn undo(&self, store: &Store, open: &OpenWallet) -> Result<()> {
        for place in &self.places {
            self.take_back_from_row(store, open, place)?;
        }
        Ok(())
    }
}

impl Place {
    /// What was spent under the limit in its period.
    fn used(&self, store: &Store, open: &OpenWallet) -> Result<Amount> {
        let kept = open.wallet.limits.get(self.limit.place);
        match kept.filter(|_| !self.in_row) {
            Some(kept) => Ok(kept.used(&self.limit.scope, self.period.start)),
            None => {
                let rows = USED.run(store, &self.key(open))?;
                rows.first().map_or(Ok(Amount::ZERO), |row| row.amount(1))
            }
        }
    }

    /// Customer, asset, scope, kind of period and its start.
    fn key(&self, open: &OpenWallet) -> Vec<value::Value> {
        vec![
            value::text(&open.customer),
            value::text(&open.asset.name),
            value::text(&self.limit.scope),
            value::text(self.limit.every.as_str()),
            value::moment(self.period.start),
        ]
    }
}

/// Counts a movement that is about to be booked: a debit, which is refused with WC007 where a limit
/// has no room; a capture, which never is; a refund, in the period of its debit. What is returned has
/// to be undone where the movement is not booked; then the wallet is not written either.
pub fn count(store: &Store, open: &mut OpenWallet, entry: &Entry) -> Result<Option<Counting>> {
    match (&*entry.kind, entry.refers_to) {
        ("debit", _) => {
            let (action, scopes) = (entry.action.as_deref(), entry.scopes.as_deref());
            let counting = Counting::of_spend(open, action, scopes, -entry.credits)?;
            if let Some(counting) = &counting {
                // A capture is never refused.
                let asked = entry.authorization_id.is_none();
                let held = asked.then(|| counting.held(store, open)).transpose()?;
                if let Some(held) = &held {
                    counting.check_state(open, held)?;
                }
                counting.add_to_rows(store, open, held.as_deref())?;
                counting.add_to_state(open);
            }
            Ok(counting)
        }
        ("refund", Some(debit)) if !open.wallet.limits.is_empty() => {
            count_back(store, open, debit, entry.credits)
        }
        _ => Ok(None),
    }
}

/// What counting a debit in the state alone has come to.
pub enum InState {
    /// Counted, but for what has to be counted in rows when it is booked.
    Counted(Option<Counting>),
    /// What is held has to be asked first.
    AskFirst,
}

/// Counts a debit in the state, while its row is updated. WC007.
pub fn count_in_state(
    open: &mut OpenWallet,
    action: &str,
    scopes: Option<&[String]>,
    credits: Amount,
) -> Result<InState> {
    let Some(counting) = Counting::of_spend(open, Some(action), scopes, credits)? else {
        return Ok(InState::Counted(None));
    };
    if !open.wallet.held().is_zero() {
        return Ok(InState::AskFirst);
    }
    counting.check_state(open, &vec![Amount::ZERO; counting.places.len()])?;
    counting.add_to_state(open);
    let rows = counting.places.iter().any(|place| place.in_row);
    Ok(InState::Counted(rows.then_some(counting)))
}

/// The rest of it, before the debit is booked: nothing is held.
pub fn count_in_rows(store: &Store, open: &OpenWallet, counting: &Counting) -> Result<()> {
    let nothing_held = vec![Amount::ZERO; counting.places.len()];
    counting.add_to_rows(store, open, Some(&nothing_held))
}

/// Counts a refund in the period of its debit, wherever that was counted.
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
    let Some(mut counting) = Counting::of(open, action, scopes, row.moment(3)?, credits)? else {
        return Ok(None);
    };
    for place in &mut counting.places {
        let (scope, since) = (&place.limit.scope, place.period.start);
        if let Some(kept) = open.wallet.limits.get_mut(place.limit.place) {
            kept.take_back(scope, since, credits);
            place.in_row = kept.each().is_some();
        }
    }
    counting.undo(store, open)?;
    // Undone itself, it counts again.
    counting.credits = -credits;
    Ok(Some(counting))
}

/// The limit that has the least room for so many credits more, spent or held, where one has too little.
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
    let held = counting.held(store, open)?;
    let mut tightest: Option<Exceeded> = None;
    for (place, held) in counting.places.iter().zip(held) {
        let used = place.used(store, open)?;
        if let Some(over) = counting.exceeded(place, used, held)
            && tightest
                .as_ref()
                .is_none_or(|least| over.room() < least.room())
        {
            tightest = Some(over);
        }
    }
    Ok(tightest)
}

/// What the limits leave for an action; `None`: none counts it.
pub fn room(
    store: &Store,
    open: &OpenWallet,
    action: &str,
    scopes: Option<&[String]>,
) -> Result<Option<Amount>> {
    let any = Amount::from_units(1);
    let Some(counting) = Counting::of(open, Some(action), scopes, open.now, any)? else {
        return Ok(None);
    };
    let held = counting.held(store, open)?;
    let mut least: Option<Amount> = None;
    for (place, held) in counting.places.iter().zip(held) {
        let room = (place.limit.cap - place.used(store, open)? - held).or_zero();
        least = Some(least.map_or(room, |least| least.min(room)));
    }
    Ok(least)
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
    let each = Limit::each_of(scope);
    let forget = [
        value::text(&open.customer),
        value::text(&open.asset.name),
        value::text(every.as_str()),
        value::text(scope),
        value::optional_text(each),
    ];
    FORGET.run(store, &forget)?;
    for limit in open.wallet.limits.iter_mut().filter(|l| l.every == every) {
        limit.counts.retain(|count| count.scope != scope);
    }
    let find = |open: &OpenWallet, scope: &str| {
        let same = |limit: &Limit| limit.scope == scope && limit.every == every;
        open.wallet.limits.iter().position(same)
    };
    if each.is_none()
        && let Some(at) = find(open, scope)
    {
        let credits = spent_since(store, open, scope, period)?;
        if let Some(limit) = open.wallet.limits.get_mut(at) {
            limit.add(scope, period.start, credits);
        }
        return Ok(());
    }
    // One for each was set; or one of its own was taken away, and the one for each counts again.
    let for_each = match scope.split_once(':') {
        Some((what @ ("user" | "key"), _)) => find(open, &format!("{what}:*")),
        _ => None,
    };
    match for_each {
        Some(at) => recount_each(store, open, scope, at, period),
        None => Ok(()),
    }
}

fn spent_since(store: &Store, open: &OpenWallet, scope: &str, period: Period) -> Result<Amount> {
    let action = scope.strip_prefix("action:");
    let args = [
        value::text(&open.customer),
        value::text(&open.asset.name),
        value::uuid(ledger::first_id(period.start)),
        value::optional_text(action.is_none().then_some(scope)),
        value::optional_text(action),
        value::optional_text(action.and_then(|pattern| pattern.strip_suffix('*'))),
    ];
    let rows = SPENT_SINCE.run(store, &args)?;
    rows.first().map_or(Ok(Amount::ZERO), |row| row.amount(1))
}

/// Counts one user or key, or all, under the limit for each that is at this place.
fn recount_each(
    store: &Store,
    open: &mut OpenWallet,
    scope: &str,
    at: usize,
    period: Period,
) -> Result<()> {
    let Some(mut limit) = open.wallet.limits.get(at).cloned() else {
        return Ok(());
    };
    let each = Limit::each_of(scope);
    if each.is_some() {
        (limit.counts, limit.spilled) = (Vec::new(), None);
    }
    let own = open
        .wallet
        .limits
        .iter()
        .filter(|own| own.every == limit.every);
    let own: Vec<String> = own.map(|limit| limit.scope.clone()).collect();
    let args = [
        value::text(&open.customer),
        value::text(&open.asset.name),
        value::uuid(ledger::first_id(period.start)),
        value::optional_text(each.is_none().then_some(scope)),
        value::optional_text(each),
        value::texts(Some(&own)),
    ];
    for row in SPENT_BY_EACH.run(store, &args)?.iter() {
        let (scope, credits) = (row.text(1)?, row.amount(2)?);
        if limit.takes(&scope, period.start) {
            limit.add(&scope, period.start, credits);
            continue;
        }
        let args = [
            value::text(&open.customer),
            value::text(&open.asset.name),
            value::text(&scope),
            value::text(limit.every.as_str()),
            value::moment(period.start),
            value::moment(period.end),
            value::credits(credits),
        ];
        FIRST.run(store, &args)?;
    }
    if let Some(place) = open.wallet.limits.get_mut(at) {
        *place = limit;
    }
    Ok(())
}

/// Forgets counts of periods that are over, at most so many: `maintain`'s share. How many.
pub fn prune(store: &Store, now: Moment, batch: i32) -> Result<usize> {
    let args = [value::moment(now), value::int(batch)];
    Ok(PRUNE.run(store, &args)?.count())
}
