//! `capture`: charge an authorization, by totals so far.
//!
//! What a capture says replaces what the authorization guessed. Once it tells counts, in its dimensions or
//! in usage that can be read, all counts are its own; a guessed cost or usage prices what it leaves open,
//! and is never booked. The vendor has been paid: usage that cannot be read stops no capture.

use std::rc::Rc;

use pgrx::pg_sys;
use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use super::costing::Costing;
use super::costs::{self, RecordedCosts};
use super::debit::{debit_entry, movement};
use super::holds::{closed, open_authorization};
use super::reported::read_usage;
use super::request::{Charge, hash};
use super::results::DebitResult;
use super::revoke::owe_captured;
use crate::errors::{self, Result};
use crate::ledger::alerts::TopUpTrigger;
use crate::ledger::costing;
use crate::ledger::margin::ModelCost;
use crate::ledger::price::{Price, PriceError};
use crate::ledger::wallet::{Overrun, Part, Pin, total};
use crate::ledger::{Amount, Moment};
use crate::sql_types::{Args, value};
use crate::store::Store;
use crate::store::authorizations::{self, Authorization};
use crate::store::ledger::{Entry, NewRows};
use crate::store::limits::LimitCheck;
use crate::store::prices;
use crate::store::wallets::OpenWallet;

/// The reasons that the row of a capture tells.
const LATE: &str = "late";
const USAGE_UNREADABLE: &str = "usage_unreadable";
const COST_UNKNOWN: &str = "cost_unknown";

pub fn capture(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let capture = read(args)?;
    let answer = Store::write(|store| {
        let (mut open, authorization) = open_authorization(store, &capture.customer, capture.id)?;
        capture.run(store, &mut open, authorization, None)
    })?;
    answer.row(args)
}

/// Totals for an authorization so far.
pub struct Capture {
    pub customer: String,
    pub id: Uuid,
    charge: Charge,
    keep_open: bool,
    metadata: Option<Json>,
}

pub fn read(args: &Args) -> Result<Capture> {
    Ok(Capture {
        customer: args.name("customer")?,
        id: args.uuid("authorization_id")?,
        charge: Charge::read(args)?,
        keep_open: args.bool("keep_open")?,
        metadata: args.optional_json("metadata")?,
    })
}

/// What a capture asks for.
struct CaptureRequest {
    /// With what it leaves open from the authorization.
    charge: Charge,
    costing: Costing,
    /// All counts are its own.
    tells_counts: bool,
}

/// What the totals come to.
struct Totals {
    credits: Amount,
    quantity: Decimal,
    price_version: Option<i32>,
    reason: Option<&'static str>,
}

/// What the totals add to those of the captures before.
struct Added {
    credits: Amount,
    quantity: Decimal,
    cost: Option<Decimal>,
    costs: Vec<ModelCost>,
    /// Some usage has no cost, which was not so before.
    uncosted: bool,
}

impl Added {
    fn of(totals: &Totals, costing: &Costing, authorization: &Authorization) -> Added {
        let settled = authorization.captured + authorization.forgiven;
        let booked = authorization.captured_cost.unwrap_or_default();
        let cost = costing.cost.map(|cost| (cost - booked).max(Decimal::ZERO));
        let before = &authorization.captured_costs;
        Added {
            credits: (totals.credits - settled).or_zero(),
            quantity: (totals.quantity - authorization.captured_quantity).max(Decimal::ZERO),
            cost,
            costs: costing::added(&costing.spent, before, cost),
            uncosted: is_uncosted(&costing.spent) && !is_uncosted(before),
        }
    }

    fn is_nothing(&self) -> bool {
        !self.credits.is_positive()
            && self.quantity.is_zero()
            && self.cost.unwrap_or_default().is_zero()
            && !self.uncosted
    }
}

fn is_uncosted(spent: &[ModelCost]) -> bool {
    spent.iter().any(|one| one.cost.is_none())
}

impl Authorization {
    /// What was captured of it, with this.
    fn add(&mut self, added: &Added, parts: &[Part], spent: &[ModelCost]) {
        self.captured += total(parts);
        self.forgiven += added.credits - total(parts);
        self.captured_quantity += added.quantity;
        let cost = added.cost.unwrap_or_else(|| costing::known(&added.costs));
        self.captured_cost = Some(self.captured_cost.unwrap_or_default() + cost);
        if !spent.is_empty() {
            self.captured_costs = spent.to_vec();
        }
    }
}

/// The price that was in force when it was authorized.
type Rule = Option<(i32, Rc<Price>)>;

impl Capture {
    /// Charges an authorization whose wallet is open. `later`: the rows that are written with those of
    /// other calls.
    pub fn run(
        &self,
        store: &Store,
        open: &mut OpenWallet,
        mut authorization: Authorization,
        mut later: Option<&mut NewRows>,
    ) -> Result<DebitResult> {
        let request = hash("capture", &self.charge.totals());
        if self.is_repeated(open, &authorization, &request)? {
            return last_capture(store, open, &authorization);
        }
        let rule = rule(store, open, &authorization)?;
        let asked = self.completed(store, open, &authorization, &rule)?;
        let totals = self.totals(store, open, &authorization, &rule, &asked)?;
        let costing =
            (asked.costing).counted_once(store, &open.customer, Some(authorization.id))?;
        let added = Added::of(&totals, &costing, &authorization);
        if self.keep_open && added.is_nothing() && authorization.last_capture.is_some() {
            return last_capture(store, open, &authorization);
        }

        open.asks = TopUpTrigger::Always;
        let late = authorization.status == "expired" || authorization.expires_at <= open.now;
        let mut pins = std::mem::take(&mut authorization.pins);
        if late {
            pins.clear();
        }
        let revoked = pinned_in_revoked(open, &pins);
        let parts = charge_wallet(
            store,
            open,
            &authorization,
            added.credits,
            &mut pins,
            &totals,
        )?;
        if !self.keep_open {
            open.wallet.unhold(&pins);
            pins.clear();
        }
        open.still_held = pins.iter().map(|pin| pin.credits).sum();
        authorization.pins = pins;
        let mut entry = Entry {
            price_version: totals.price_version,
            reason: if late { Some(LATE) } else { totals.reason }.map(str::to_owned),
            dimensions: value::optional_json(
                "dimensions",
                asked.charge.stored_dimensions().as_ref(),
            )?,
            ..self.entry(&authorization, &added, &parts, open.now)?
        };
        let was_uncosted = is_uncosted(&authorization.captured_costs);
        authorization.add(&added, &parts, &costing.spent);
        authorization.last_request = Some(request);
        authorization.status = match (self.keep_open, late) {
            (false, _) => "captured",
            (true, true) => "expired",
            (true, false) => "open",
        }
        .to_owned();

        let recorded = RecordedCosts::take(store, open, &authorization, &mut entry)?;
        match &mut later {
            Some(rows) => open.book_later(store, &mut entry, Vec::new(), rows)?,
            None if open.book(store, &mut entry, Vec::new())? => {}
            None => return Err(errors::corrupted("the ledger", "a capture was not booked")),
        }
        recorded.take_over(store, open, &entry)?;
        costing.claim(store, &open.customer, entry.id, Some(authorization.id))?;
        authorization.first_capture = authorization.first_capture.or(Some(entry.id));
        authorization.last_capture = Some(entry.id);
        authorizations::update(store, &authorization)?;
        let from_revoked = |part: &&Part| part.grant.is_some_and(|(id, _)| revoked.contains(&id));
        let taken: Vec<Part> = parts.iter().filter(from_revoked).cloned().collect();
        if let Some(rows) = later.filter(|_| !taken.is_empty()) {
            rows.write(store)?;
        }
        owe_captured(store, open, &taken)?;
        let capture = entry.id;
        let answer = DebitResult::booked(open, entry);
        if was_uncosted && (costing.cost.is_some() || !costing.spent.is_empty()) {
            costs::take_over_uncosted(store, open, authorization.id, capture)?;
        }
        Ok(answer)
    }

    /// Whether the last capture was of the same totals: then it is the answer. WC004 where it is closed.
    fn is_repeated(
        &self,
        open: &OpenWallet,
        authorization: &Authorization,
        request: &[u8],
    ) -> Result<bool> {
        let again = authorization.last_request.as_deref() == Some(request);
        match authorization.status.as_str() {
            "captured" if again => Ok(true),
            "captured" | "released" => {
                Err(closed(open, authorization, "captured with other totals"))
            }
            _ => Ok(again && self.keep_open),
        }
    }

    /// The row of a capture, as far as it is the authorization's and of what is added.
    fn entry(
        &self,
        authorization: &Authorization,
        added: &Added,
        parts: &[Part],
        now: Moment,
    ) -> Result<Entry> {
        let metadata = self.metadata.as_ref().or(authorization.metadata.as_ref());
        Ok(Entry {
            action: Some(authorization.action.clone()),
            quantity: Some(added.quantity),
            cost: added.cost,
            costs: added.costs.clone(),
            authorization_id: Some(authorization.id),
            scopes: authorization.scopes.clone(),
            usage: value::optional_json("usage", self.charge.usage.as_ref())?,
            metadata: value::optional_json("metadata", metadata)?,
            ..debit_entry(parts, now)
        })
    }

    /// With what it leaves open, from the authorization.
    fn completed(
        &self,
        store: &Store,
        open: &OpenWallet,
        authorization: &Authorization,
        rule: &Rule,
    ) -> Result<CaptureRequest> {
        let costing = Costing::of(store, &open.asset, &self.charge, open.now)?;
        let reads_usage = self.charge.usage.is_some() && costing.counts.unread.is_none();
        let tells_counts = self.charge.names_dimensions() || reads_usage;
        let price = rule.as_ref().map(|(_, price)| &**price);
        Ok(CaptureRequest {
            charge: self.charge.over(authorization, price, tells_counts),
            costing,
            tells_counts,
        })
    }

    /// What the totals come to: the whole hold where nothing is given or the action has no price, the
    /// credits where they are, otherwise the price at the version that was authorized.
    fn totals(
        &self,
        store: &Store,
        open: &OpenWallet,
        authorization: &Authorization,
        rule: &Rule,
        asked: &CaptureRequest,
    ) -> Result<Totals> {
        let charge = &asked.charge;
        let unread = asked.costing.counts.unread.is_some();
        let hold = Totals {
            credits: authorization.credits,
            quantity: charge.quantity.unwrap_or(Decimal::ONE),
            price_version: authorization.price_version.filter(|_| authorization.priced),
            reason: unread.then_some(USAGE_UNREADABLE),
        };
        if self.charge.is_empty() {
            return Ok(hold);
        }
        if let Some(credits) = self.charge.given(&open.asset)? {
            return Ok(Totals {
                credits,
                price_version: None,
                ..hold
            });
        }
        // The hold is what the customer has agreed to; while more is to come, nothing is charged for what
        // cannot be priced yet.
        let unpriced = |reason| match self.keep_open {
            false => Totals {
                reason: Some(reason),
                ..hold
            },
            true => Totals {
                credits: authorization.captured + authorization.forgiven,
                quantity: self
                    .charge
                    .quantity
                    .unwrap_or(authorization.captured_quantity),
                price_version: None,
                reason: Some(reason),
            },
        };
        if unread && !self.charge.has_other_totals() {
            return Ok(unpriced(USAGE_UNREADABLE));
        }
        let Some((version, price)) = rule else {
            return Ok(hold);
        };
        let measured = measured(store, open, authorization, price, asked)?;
        let month_used = authorization.month_used;
        match charge.try_price(price, &open.asset, &measured, month_used) {
            Ok(credits) => Ok(Totals {
                credits,
                price_version: Some(*version),
                ..hold
            }),
            Err(PriceError::UsageMissing) => Ok(unpriced(USAGE_UNREADABLE)),
            Err(PriceError::CostMissing) if unread => Ok(unpriced(USAGE_UNREADABLE)),
            Err(PriceError::CostMissing) if self.charge.usage.is_some() => {
                Ok(unpriced(COST_UNKNOWN))
            }
            // No case of the price was asked for, since the credits were given.
            Err(PriceError::NotFound(_)) if !authorization.priced => Ok(hold),
            Err(why) => Err(charge.priced(why, &authorization.action, &open.asset, &measured)),
        }
    }
}

impl Charge {
    /// Something besides usage decides how many credits it is.
    fn has_other_totals(&self) -> bool {
        self.quantity.is_some() || self.names_dimensions() || self.cost.is_some()
    }
}

fn rule(store: &Store, open: &OpenWallet, authorization: &Authorization) -> Result<Rule> {
    let Some(version) = authorization.price_version else {
        return Ok(None);
    };
    let version = prices::version(store, &open.asset, &authorization.action, version)?;
    Ok(version.and_then(|version| Some((version.version, version.price?))))
}

/// What is counted and what it costs, for the price: as the capture tells it, and where it does not as the
/// authorization guessed it.
fn measured(
    store: &Store,
    open: &OpenWallet,
    authorization: &Authorization,
    price: &Price,
    asked: &CaptureRequest,
) -> Result<Costing> {
    let mut measured = asked.costing.clone();
    let guesses_counts = !asked.tells_counts && price.needs_usage();
    let guesses_cost = measured.cost.is_none() && price.needs_cost();
    if !guesses_counts && !guesses_cost {
        return Ok(measured);
    }
    let guess = Charge {
        used: match &authorization.usage {
            Some(usage) => read_usage(usage)?,
            None => Vec::new(),
        },
        usage: authorization.usage.clone(),
        cost: authorization.cost,
        ..Charge::default()
    };
    let guess = Costing::of(store, &open.asset, &guess, authorization.created_at)?;
    if guesses_counts {
        measured.counts = guess.counts;
    }
    if guesses_cost {
        measured.cost = guess.cost;
        measured.uncosted = measured.uncosted.or(guess.uncosted);
    }
    Ok(measured)
}

/// Grants that were revoked while these pins held a part of them.
fn pinned_in_revoked(open: &OpenWallet, pins: &[Pin]) -> Vec<Uuid> {
    let pinned = pins
        .iter()
        .filter_map(|pin| open.wallet.grant(pin.grant?.0));
    pinned.filter(|g| g.revoked).map(|g| g.id).collect()
}

/// Takes the credits: from the hold, then from what is free. What exceeds the hold has to find room under
/// the spend limits, too, and follows the overrun where there is none.
fn charge_wallet(
    store: &Store,
    open: &mut OpenWallet,
    authorization: &Authorization,
    credits: Amount,
    pins: &mut Vec<Pin>,
    totals: &Totals,
) -> Result<Vec<Part>> {
    let (action, scopes) = (&authorization.action, authorization.scopes.as_deref());
    let excess = (credits - pins.iter().map(|pin| pin.credits).sum()).or_zero();
    let over = match excess.is_zero() {
        true => None,
        false => LimitCheck::of(store, open, action, scopes, None)?.tightest(excess),
    };
    let beyond = over
        .as_ref()
        .map_or(Amount::ZERO, |over| excess - over.room());
    let charged = match authorization.overrun {
        Overrun::Clamp => credits - beyond,
        Overrun::Reject | Overrun::Overdraft => credits,
    };
    let (limit, overrun) = (open.limit, authorization.overrun);
    let parts = open
        .wallet
        .capture(open.now, action, charged, limit, overrun, pins);
    let (customer, asset, id) = (&open.customer, &open.asset.name, authorization.id);
    let parts = parts
        .map_err(|short| errors::capture_exceeds(customer, asset, id, totals.credits, short))?;
    match over {
        Some(over) if overrun == Overrun::Reject => {
            let payable = totals.credits - beyond;
            Err(errors::capture_over_limit(
                customer, asset, id, payable, &over,
            ))
        }
        _ => Ok(parts),
    }
}

/// The answer to the last capture again.
fn last_capture(
    store: &Store,
    open: &OpenWallet,
    authorization: &Authorization,
) -> Result<DebitResult> {
    let id = authorization
        .last_capture
        .ok_or_else(|| errors::corrupted("an authorization", "it was captured by no ledger row"))?;
    let booked = movement(store, &open.customer, id, "capture")?;
    Ok(DebitResult::replayed_in(open, booked))
}
