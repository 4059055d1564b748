//! Credits held for an action that has not finished: `authorize`, `release`, `extend`. How they are
//! charged is in `capture`.

use std::rc::Rc;
use std::str::FromStr;

use pgrx::pg_sys;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::costing::Costing;
use super::once::{Outcome, is_free, once};
use super::pricing::Pricing;
use super::request::{self, Charge};
use super::results::AuthorizationResult;
use super::vary::{Budget, VaryRequest};
use crate::errors::{self, Result};
use crate::ledger::alerts::TopUpTrigger;
use crate::ledger::limit::missing_scope;
use crate::ledger::price::{Affordable, Largest};
use crate::ledger::wallet::Overrun;
use crate::ledger::{Amount, Moment};
use crate::sql_types::Args;
use crate::store::Store;
use crate::store::assets;
use crate::store::authorizations::{self, Authorization};
use crate::store::ledger::Key;
use crate::store::limits::LimitCheck;
use crate::store::prices;
use crate::store::wallets::{self, OpenWallet};

// ---- authorize --------------------------------------------------------------------------------

struct HoldRequest {
    customer: String,
    action: String,
    asset: String,
    charge: Rc<Charge>,
    ttl_seconds: i32,
    overrun: Overrun,
    key: Option<Key>,
    scopes: Option<Vec<String>>,
    metadata: Option<serde_json::Value>,
    varying: Option<VaryRequest>,
}

pub fn authorize(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let request = read(args)?;
    let answer = once(
        &request.customer,
        request.key.as_ref(),
        |store| hold(store, &request),
        |store, first| replay(store, &request.customer, first),
    )?;
    answer.row(args)
}

fn read(args: &Args) -> Result<HoldRequest> {
    let customer = args.name("customer")?;
    let action = args.name("action")?;
    let charge = Charge::read_new(args)?;
    let ttl_seconds = ttl(args)?;
    let overrun_text = args.name("overrun")?;
    let overrun = Overrun::from_str(&overrun_text).map_err(|_| {
        errors::invalid(
            "overrun",
            format_args!("{overrun_text:?} is none of reject, clamp, overdraft"),
        )
    })?;
    let asset = args.name("asset")?;
    let key_text = args.optional_name("idempotency_key")?;
    let scopes = args.names("scopes")?;
    let varying = VaryRequest::read(args, &charge)?;
    let fields = || {
        let mut fields = charge.fields(&asset, &action, scopes.as_deref());
        fields.push(("overrun", Some(overrun_text)));
        fields.extend(varying.iter().flat_map(VaryRequest::fields));
        fields
    };
    Ok(HoldRequest {
        key: request::key(key_text, "authorize", fields),
        scopes,
        metadata: args.optional_json("metadata")?,
        customer,
        action,
        asset,
        charge: Rc::new(charge),
        ttl_seconds,
        overrun,
        varying,
    })
}

fn ttl(args: &Args) -> Result<i32> {
    let seconds = args.int("ttl_seconds")?;
    if seconds < 1 {
        return Err(errors::invalid(
            "ttl_seconds",
            format_args!("{seconds} is less than 1"),
        ));
    }
    Ok(seconds)
}

fn ends(now: Moment, ttl_seconds: i32) -> Result<Moment> {
    now.plus_seconds(ttl_seconds.into()).ok_or_else(|| {
        errors::out_of_range("ttl_seconds", "the hold would end beyond the year 9999")
    })
}

/// Holds the credits, or says why not.
fn hold(store: &Store, request: &HoldRequest) -> Result<Outcome<AuthorizationResult>> {
    let action = request.action.as_str();
    let refused =
        |reason, credits, available| Outcome::Refused(refusal(request, reason, credits, available));
    let asset = assets::asset(store, &request.asset)?;
    let costing = Rc::new(Costing::of(
        store,
        &asset,
        &request.charge,
        assets::now(store)?,
    )?);
    let pricing = Pricing::new(
        store,
        &asset,
        action,
        &request.customer,
        &request.charge,
        &costing,
    )?;
    let asked = match &request.varying {
        Some(varying) => {
            let asked = varying.asked(&request.charge, &costing)?;
            pricing.check_vary(&varying.what, assets::now(store)?)?;
            Some((varying, asked))
        }
        None => None,
    };
    let Some(mut open) = wallets::find(store, &request.customer, &request.asset)? else {
        let credits = needed(store, &pricing, asked, None)?;
        return Ok(refused("wallet_not_found", credits, Amount::ZERO));
    };
    open.asks = TopUpTrigger::Always;
    let available = open.wallet.available(open.now, Some(action), open.limit);
    let scopes = request.scopes.as_deref();
    let reason = if open.active().is_err() {
        Some("wallet_frozen")
    } else {
        let missing = missing_scope(&open.wallet.limits, scopes.unwrap_or_default());
        missing.map(|_| "scope_missing")
    };
    if let Some(reason) = reason {
        let credits = needed(store, &pricing, asked, Some(&mut open))?;
        return Ok(refused(reason, credits, available));
    }
    let mut limit_check = LimitCheck::of(store, &open, action, scopes, None)?;
    let payable = match asked {
        Some(asked) => largest_payable(store, request, &pricing, &mut open, &limit_check, asked)?,
        None => {
            let priced = pricing.in_wallet(store, &mut open, None)?;
            Ok(Payable {
                credits: priced.credits,
                charge: request.charge.clone(),
                price: priced.version.map(|version| (version, priced.month_used)),
                granted: None,
            })
        }
    };
    let payable = match payable {
        Ok(payable) => payable,
        Err((Lack::Credits, credits)) => {
            buy_credits(store, request, &mut open)?;
            return Ok(refused("insufficient_credits", credits, available));
        }
        Err((Lack::Limit, credits)) => {
            limits_refuse(store, request, &mut open, limit_check, credits)?;
            return Ok(refused("limit_exceeded", credits, available));
        }
    };
    let credits = payable.credits;
    let Ok(pins) = open.wallet.hold(open.now, action, credits, open.limit) else {
        buy_credits(store, request, &mut open)?;
        return Ok(refused("insufficient_credits", credits, available));
    };
    if limit_check.exceeded(credits).is_some() {
        open.wallet.unhold(&pins);
        limits_refuse(store, request, &mut open, limit_check, credits)?;
        return Ok(refused("limit_exceeded", credits, available));
    }
    let captures_price = match payable.price {
        Some((version, month_used)) => (Some(version), month_used),
        None => capture_price(store, &asset, request, &mut open)?,
    };
    let authorization = Authorization {
        pins,
        ..request.authorization(&open, payable, captures_price)?
    };
    let counted = limit_check.count_hold(&mut open, credits);
    // A wallet that cannot be written holds nothing.
    open.state()?;
    if !authorizations::insert(store, &authorization)? {
        return Ok(Outcome::KeyTaken);
    }
    counted.write(store, &open)?;
    open.holds_until(authorization.expires_at);
    open.write_back(store)?;
    let available = open.wallet.available(open.now, Some(action), open.limit);
    Ok(Outcome::Booked(AuthorizationResult::of(
        &request.customer,
        authorization,
        available,
        open.now,
    )))
}

/// What is to be held.
struct Payable {
    credits: Amount,
    charge: Rc<Charge>,
    /// The version of the price, and what was used in the month if the price counts it; `None`: the credits were given.
    price: Option<(i32, Option<Decimal>)>,
    /// How much of what varies.
    granted: Option<Decimal>,
}

/// Of what a refused customer has too little.
enum Lack {
    Credits,
    Limit,
}

/// The most of what varies that can be paid; or what is lacking for the least, and its credits.
fn largest_payable(
    store: &Store,
    request: &HoldRequest,
    pricing: &Pricing,
    open: &mut OpenWallet,
    limit_check: &LimitCheck,
    (varying, asked): (&VaryRequest, Decimal),
) -> Result<std::result::Result<Payable, (Lack, Amount)>> {
    let month_used = pricing.month_used(store, open)?;
    let budget = Budget::of(open, &request.action, limit_check);
    let now = open.now;
    let search = |budget| {
        let search = varying.search(asked, budget);
        pricing.largest(&varying.what, &search, now, month_used)
    };
    match search(budget)? {
        Largest::Found(Affordable { amount, units }) => {
            let amount = amount.unwrap_or(asked);
            let (version, _) = pricing.rule_at(now)?;
            Ok(Ok(Payable {
                credits: Amount::from_units(units),
                charge: Rc::new(request.charge.with(&varying.what, amount)),
                price: Some((version, month_used)),
                granted: Some(amount),
            }))
        }
        Largest::None { smallest } => {
            let limited = budget.is_limited()
                && matches!(search(budget.without_limits())?, Largest::Found(_));
            let credits = match smallest {
                Some(units) => Amount::from_units(units),
                None => pricing.in_wallet(store, open, None)?.credits,
            };
            let lack = if limited { Lack::Limit } else { Lack::Credits };
            Ok(Err((lack, credits)))
        }
    }
}

impl HoldRequest {
    /// The hold, as it is before credits are pinned. `captures_price`: the version at which captures are priced, and what
    /// was used in the month.
    fn authorization(
        &self,
        open: &OpenWallet,
        payable: Payable,
        (price_version, month_used): (Option<i32>, Option<Decimal>),
    ) -> Result<Authorization> {
        Ok(Authorization {
            customer: self.customer.clone(),
            idempotency_key: self.key.as_ref().map(|key| key.text.clone()),
            id: Uuid::now_v7(),
            asset: open.asset.name.clone(),
            action: self.action.clone(),
            status: "open".to_owned(),
            overrun: self.overrun,
            quantity: payable.charge.quantity.unwrap_or(Decimal::ONE),
            credits: payable.credits,
            captured: Amount::ZERO,
            forgiven: Amount::ZERO,
            captured_quantity: Decimal::ZERO,
            captured_cost: None,
            captured_costs: Vec::new(),
            cost: self.charge.cost,
            price_version,
            month_used,
            priced: payable.price.is_some(),
            created_at: open.now,
            expires_at: ends(open.now, self.ttl_seconds)?,
            pins: Vec::new(),
            first_capture: None,
            last_capture: None,
            last_request: None,
            request: self.key.as_ref().map(|key| key.request.clone()),
            dimensions: payable.charge.stored_dimensions(),
            granted: payable.granted,
            usage: self.charge.usage.clone(),
            scopes: self.scopes.clone(),
            reason: None,
            metadata: self.metadata.clone(),
            place: None,
        })
    }
}

/// The version at which captures are priced of a hold that was given in credits, and what was used in the month if the
/// price counts it.
fn capture_price(
    store: &Store,
    asset: &assets::Asset,
    request: &HoldRequest,
    open: &mut OpenWallet,
) -> Result<(Option<i32>, Option<Decimal>)> {
    let prices = prices::applicable(store, asset, &request.action, Some(&request.customer))?;
    let version = prices.at(open.now, open.now);
    let price = version.as_ref().and_then(|version| version.price.as_ref());
    let used = match price.is_some_and(|price| price.counts_months()) {
        true => Some(open.learn_used(store, &request.action, open.now)?),
        false => None,
    };
    Ok((version.map(|version| version.version), used))
}

/// A refusal for lack of credits: all that it may write is that they are to be bought.
fn buy_credits(store: &Store, request: &HoldRequest, open: &mut OpenWallet) -> Result<()> {
    if open.wants_topup() && key_is_free(store, request)? {
        open.write_back(store)?;
    }
    Ok(())
}

/// A refusal by limits: all that it may write is what they tell, where they have not told it before.
fn limits_refuse(
    store: &Store,
    request: &HoldRequest,
    open: &mut OpenWallet,
    mut limit_check: LimitCheck,
    credits: Amount,
) -> Result<()> {
    let counted = limit_check.refuse(open, credits);
    if open.tells() && key_is_free(store, request)? {
        counted.write(store, open)?;
        open.write_back(store)?;
    }
    Ok(())
}

fn key_is_free(store: &Store, request: &HoldRequest) -> Result<bool> {
    is_free::<Authorization>(store, &request.customer, request.key.as_ref())
}

/// What a refused call would have cost; one that varies, with its smallest amount.
fn needed(
    store: &Store,
    pricing: &Pricing,
    asked: Option<(&VaryRequest, Decimal)>,
    mut open: Option<&mut OpenWallet>,
) -> Result<Amount> {
    if let Some((varying, asked)) = asked {
        let (month_used, now) = match &mut open {
            Some(open) => (pricing.month_used(store, open)?, open.now),
            None => (None, assets::now(store)?),
        };
        let search = varying.search(asked, Budget::NOTHING);
        match pricing.largest(&varying.what, &search, now, month_used)? {
            Largest::Found(Affordable { units, .. }) => return Ok(Amount::from_units(units)),
            Largest::None {
                smallest: Some(units),
            } => return Ok(Amount::from_units(units)),
            Largest::None { smallest: None } => {}
        }
    }
    match open {
        Some(open) => Ok(pricing.in_wallet(store, open, None)?.credits),
        None => {
            let priced = pricing.at(None, assets::now(store)?, None)?;
            Ok(priced.map(|priced| priced.credits).unwrap_or_default())
        }
    }
}

/// A refusal is an answer, not an error: the caller's transaction goes on.
fn refusal(
    request: &HoldRequest,
    reason: &str,
    credits: Amount,
    available: Amount,
) -> AuthorizationResult {
    AuthorizationResult {
        customer: request.customer.clone(),
        asset: request.asset.clone(),
        action: request.action.clone(),
        id: None,
        reason: Some(reason.to_owned()),
        credits,
        granted: None,
        captured: Amount::ZERO,
        available,
        status: None,
        expires_at: None,
        replayed: false,
    }
}

/// An authorization again, with what is available now.
fn replay(
    store: &Store,
    customer: &str,
    authorization: Authorization,
) -> Result<AuthorizationResult> {
    let view = wallets::look(store, customer, &authorization.asset, None)?
        .ok_or_else(|| errors::wallet_not_found(customer, &authorization.asset))?;
    let action = Some(authorization.action.as_str());
    let available = view.wallet.available(view.now, action, view.limit);
    let answer = AuthorizationResult::of(customer, authorization, available, view.now);
    Ok(AuthorizationResult {
        replayed: true,
        ..answer
    })
}

// ---- what holds have in common ---------------------------------------------------------------

/// The wallet of an authorization, open for change, and the authorization; WC011.
pub fn open_authorization(
    store: &Store,
    customer: &str,
    id: Uuid,
) -> Result<(OpenWallet, Authorization)> {
    let missing = || errors::not_found("authorization", customer, id);
    let asset = authorizations::asset_of(store, customer, id)?.ok_or_else(missing)?;
    let open = wallets::open(store, customer, &asset)?;
    // Read under the lock, so that it is what the last capture or release left.
    let authorization = authorizations::by_id(store, customer, id)?.ok_or_else(missing)?;
    Ok((open, authorization))
}

/// WC004.
pub fn closed(open: &OpenWallet, authorization: &Authorization, verb: &str) -> errors::Error {
    errors::authorization_closed(
        &open.customer,
        authorization.id,
        &authorization.status,
        verb,
    )
}

// ---- release and extend -------------------------------------------------------------------------

pub fn release(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let id = args.uuid("authorization_id")?;
    let reason = args.text("reason")?;
    let answer = Store::write(|store| {
        let (mut open, mut authorization) = open_authorization(store, &customer, id)?;
        match authorization.status.as_str() {
            "released" => return replay(store, &customer, authorization),
            "captured" => return Err(closed(&open, &authorization, "released")),
            _ => {}
        }
        let pins = std::mem::take(&mut authorization.pins);
        if authorization.status == "open" && authorization.expires_at > open.now {
            open.wallet.unhold(&pins);
        }
        authorization.status = "released".to_owned();
        authorization.reason = reason;
        open.write_back(store)?;
        authorizations::update(store, &authorization)?;
        Ok(current_authorization(&open, authorization))
    })?;
    answer.row(args)
}

pub fn extend(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let id = args.uuid("authorization_id")?;
    let ttl_seconds = ttl(args)?;
    let answer = Store::write(|store| {
        let (mut open, mut authorization) = open_authorization(store, &customer, id)?;
        if authorization.status == "open" && authorization.expires_at <= open.now {
            authorization.status = "expired".to_owned();
        }
        if authorization.status != "open" {
            return Err(closed(&open, &authorization, "extended"));
        }
        authorization.expires_at = ends(open.now, ttl_seconds)?;
        open.holds_until(authorization.expires_at);
        open.write_back(store)?;
        authorizations::update(store, &authorization)?;
        Ok(current_authorization(&open, authorization))
    })?;
    answer.row(args)
}

fn current_authorization(open: &OpenWallet, authorization: Authorization) -> AuthorizationResult {
    let action = Some(authorization.action.as_str());
    let available = open.wallet.available(open.now, action, open.limit);
    AuthorizationResult::of(&open.customer, authorization, available, open.now)
}
