//! Costs that become known apart from their debit: `record_cost`, `recost`.

use std::str::FromStr;

use pgrx::pg_sys;
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::costing::cost_of;
use super::debit::movement;
use super::once::{Outcome, once_by};
use super::reported::{Usage, read_usage};
use super::request::read_cost;
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::ledger::costing::{self, KnownCost, Source};
use crate::ledger::margin::{KindPayment, Line, ModelCost};
use crate::sql_types::{Args, Row, row, value};
use crate::store::Store;
use crate::store::assets::{self, Asset};
use crate::store::authorizations::{self, Authorization};
use crate::store::costs::{self, Claim, Cost, Posting};
use crate::store::ledger::{self, Entry, row_id};
use crate::store::periods;
use crate::store::vendors::{self, UsageToCost};
use crate::store::wallets::{self, OpenWallet};

// ---- record_cost ------------------------------------------------------------------------------

struct CostRequest {
    customer: String,
    asked: UsageToCost,
    usage: Option<Json>,
    cost: Option<Decimal>,
    debit_id: Option<Uuid>,
    authorization_id: Option<Uuid>,
    request: Option<String>,
    source: Source,
    occurred_at: Option<Moment>,
    metadata: Option<Json>,
}

pub fn record_cost(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let request = read(args)?;
    let (cost, replayed) = once_by(
        |store| recorded_before(store, &request),
        |store| record(store, &request),
        |_, first| Ok((first, true)),
    )?;
    answer(&request.customer, &cost, replayed).datum(args)
}

fn read(args: &Args) -> Result<CostRequest> {
    let customer = args.name("customer")?;
    let vendor = args.name("vendor")?;
    let model = args.optional_name("model")?;
    let usage = args.optional_object("usage")?.map(Json::Object);
    let cost = read_cost(args)?;
    if usage.is_none() && cost.is_none() {
        return Err(errors::invalid("cost", "neither cost nor usage is given"));
    }
    let source_text = args.name("source")?;
    let source = Source::from_str(&source_text).map_err(|()| {
        errors::invalid(
            "source",
            format_args!("{source_text:?} is none of estimated, reported, invoiced"),
        )
    })?;
    let debit_id = args.optional_uuid("debit_id")?;
    let authorization_id = args.optional_uuid("authorization_id")?;
    if debit_id.is_some() && authorization_id.is_some() {
        return Err(errors::invalid(
            "authorization_id",
            "a cost is of a debit or of an authorization, not of both",
        ));
    }
    Ok(CostRequest {
        asked: UsageToCost {
            vendor,
            model,
            api_flavor: args.optional_name("api_flavor")?,
            body: usage.clone().unwrap_or_else(|| Json::Object(Map::new())),
            context: Json::Object(args.object("context")?),
        },
        usage,
        cost,
        debit_id,
        authorization_id,
        request: args.optional_name("vendor_request_id")?,
        source,
        occurred_at: args.optional_moment("occurred_at")?,
        metadata: args.optional_json("metadata")?,
        customer,
    })
}

/// What a cost is of.
enum Subject {
    Debit(Box<Entry>),
    /// Not captured yet.
    Authorization(Box<Authorization>),
    /// Neither: it counts for the customer alone.
    Nothing,
}

fn record(store: &Store, request: &CostRequest) -> Result<Outcome<(Cost, bool)>> {
    let customer = request.customer.as_str();
    // Before a wallet is locked, or made.
    if recorded_before(store, request)?.is_some() {
        return Ok(Outcome::KeyTaken);
    }
    let subject = subject(store, request)?;
    let asset = asset_of(store, customer, &subject)?;
    let now = assets::now(store)?;
    if request.occurred_at.is_some_and(|at| at > now) {
        return Err(errors::invalid("occurred_at", "it is in the future"));
    }
    let occurred_at = request.occurred_at.unwrap_or(match &subject {
        Subject::Debit(debit) => debit.occurred_at,
        _ => now,
    });
    let spent = spent(store, &asset, request, occurred_at)?;

    // The lock of the wallet: what is known of a debit changes under it alone.
    let mut open = wallets::open_or_create(store, customer, &asset.name)?;
    open.book_due_now(store)?;
    let subject = self::subject(store, request)?;
    let seq = open.wallet.seq + 1;
    let (debit_id, authorization_id) = match &subject {
        Subject::Debit(debit) => (Some(debit.id), debit.authorization_id),
        Subject::Authorization(held) => (None, Some(held.id)),
        Subject::Nothing => (None, None),
    };
    let new = Cost {
        id: row_id(open.now, seq),
        seq,
        asset: asset.name.clone(),
        source: request.source,
        spent,
        api_flavor: request.asked.api_flavor.clone(),
        usage: request.usage.clone(),
        context: Some(request.asked.context.clone()).filter(|c| *c != Json::Object(Map::new())),
        debit_id,
        authorization_id: authorization_id.filter(|_| request.debit_id.is_none()),
        replaces: None,
        occurred_at,
        accounted_at: accounted(store, &open, &subject, occurred_at)?,
        created_at: open.now,
        metadata: request.metadata.clone(),
    };
    if let (Some(vendor), Some(id)) = (&new.spent.vendor, &request.request) {
        let claim = Claim {
            debit_id,
            authorization_id,
            cost_id: Some(new.id),
        };
        let source = request.source.to_string();
        if !costs::claim(store, customer, vendor, id, &source, &claim)? {
            return Ok(Outcome::KeyTaken);
        }
    }
    next_row(store, &mut open)?;
    book(store, &open, &subject, new.clone(), &[])?;
    Ok(Outcome::Booked((new, false)))
}

/// The answer to the same request of the vendor, by the same source, again.
fn recorded_before(store: &Store, request: &CostRequest) -> Result<Option<Cost>> {
    let Some(id) = &request.request else {
        return Ok(None);
    };
    let (customer, vendor) = (
        &request.customer,
        vendors::canonical(store, &request.asked.vendor)?,
    );
    let source = request.source.to_string();
    let Some(claim) = costs::claim_of(store, customer, &vendor, id, &source)? else {
        return Ok(None);
    };
    let missing_row = || errors::corrupted("the vendors' requests", id);
    match (claim.cost_id, claim.debit_id) {
        (Some(cost), _) => Ok(Some(
            costs::by_id(store, customer, cost)?.ok_or_else(missing_row)?,
        )),
        (None, Some(debit)) => {
            let debit = ledger::by_id(store, customer, debit)?.ok_or_else(missing_row)?;
            let part = debit
                .spent()
                .into_iter()
                .find(|part| part.request.as_ref() == Some(id))
                .ok_or_else(missing_row)?;
            Ok(Some(with_debit(&debit, part, request)))
        }
        (None, None) => Err(missing_row()),
    }
}

/// A cost that came with a debit, as if it had been recorded.
fn with_debit(debit: &Entry, part: ModelCost, request: &CostRequest) -> Cost {
    Cost {
        id: debit.id,
        seq: 0,
        asset: debit.asset.clone(),
        source: request.source,
        spent: part,
        api_flavor: request.asked.api_flavor.clone(),
        usage: None,
        context: None,
        debit_id: Some(debit.id),
        authorization_id: debit.authorization_id,
        replaces: None,
        occurred_at: debit.occurred_at,
        accounted_at: debit.accounted_at,
        created_at: debit.created_at,
        metadata: None,
    }
}

/// The debit or authorization that is named; or else what the vendor's request was known to be for.
fn subject(store: &Store, request: &CostRequest) -> Result<Subject> {
    let customer = &request.customer;
    let (mut debit_id, mut authorization_id) = (request.debit_id, request.authorization_id);
    if let (None, None, Some(id)) = (debit_id, authorization_id, &request.request) {
        let vendor = vendors::canonical(store, &request.asked.vendor)?;
        if let Some(claim) = costs::any_claim_of(store, customer, &vendor, id)? {
            (debit_id, authorization_id) = (claim.debit_id, claim.authorization_id);
        }
    }
    if let Some(id) = debit_id {
        let debit = movement(store, customer, id, "debit")?;
        if debit.kind != "debit" {
            return Err(errors::not_found("debit", customer, id));
        }
        // A request may go through several captures: it counts with the first.
        return match (debit.authorization_id, &request.request) {
            (Some(held), Some(_)) => of_authorization(store, customer, held),
            _ => Ok(Subject::Debit(Box::new(debit))),
        };
    }
    let Some(id) = authorization_id else {
        return Ok(Subject::Nothing);
    };
    of_authorization(store, customer, id)
}

/// What is recorded for an authorization counts with its first capture, once there is one.
fn of_authorization(store: &Store, customer: &str, id: Uuid) -> Result<Subject> {
    let held = authorizations::by_id(store, customer, id)?
        .ok_or_else(|| errors::not_found("authorization", customer, id))?;
    match held.first_capture {
        Some(capture) => {
            let debit = movement(store, customer, capture, "capture")?;
            Ok(Subject::Debit(Box::new(debit)))
        }
        None => Ok(Subject::Authorization(Box::new(held))),
    }
}

/// The asset of the debit or authorization; otherwise that of the customer's only wallet, or credits.
fn asset_of(store: &Store, customer: &str, subject: &Subject) -> Result<std::rc::Rc<Asset>> {
    let name = match subject {
        Subject::Debit(debit) => debit.asset.clone(),
        Subject::Authorization(held) => held.asset.clone(),
        Subject::Nothing => {
            costs::only_asset_of(store, customer)?.unwrap_or_else(|| "credits".to_owned())
        }
    };
    assets::asset(store, &name)
}

/// The cost that is given, or computed from the usage.
fn spent(store: &Store, asset: &Asset, request: &CostRequest, at: Moment) -> Result<ModelCost> {
    let mut spent = match &request.usage {
        Some(_) => cost_of(store, asset, &request.asked, request.request.clone(), at)?,
        None => ModelCost {
            vendor: Some(vendors::canonical(store, &request.asked.vendor)?),
            model: match &request.asked.model {
                Some(model) => {
                    let vendor = &request.asked.vendor;
                    Some(vendors::canonical_model(store, vendor, model, at)?)
                }
                None => None,
            },
            request: request.request.clone(),
            ..ModelCost::default()
        },
    };
    if let Some(cost) = request.cost {
        spent = ModelCost {
            cost: Some(cost),
            reason: None,
            rate_version: None,
            conversion: None,
            ..spent
        };
    }
    Ok(spent)
}

/// A cost of a debit counts when the debit does, or in the first open period.
fn accounted(
    store: &Store,
    open: &OpenWallet,
    subject: &Subject,
    occurred_at: Moment,
) -> Result<Moment> {
    let at = match subject {
        Subject::Debit(debit) => debit.accounted_at,
        _ => occurred_at,
    };
    periods::accounted_at(store, &open.asset.name, at, open.now)
}

/// Counts one more row of the wallet and writes it back.
fn next_row(store: &Store, open: &mut OpenWallet) -> Result<u64> {
    open.book_due_now(store)?;
    open.wallet.seq += 1;
    let seq = open.wallet.seq;
    open.write_back(store)?;
    Ok(seq)
}

/// Keeps a new cost, and what it changes in the reports.
/// `earlier` are those it may take the place of, where it is for neither debit nor authorization.
fn book(
    store: &Store,
    open: &OpenWallet,
    subject: &Subject,
    new: Cost,
    earlier: &[Cost],
) -> Result<()> {
    let customer = open.customer.as_str();
    let mut postings = Postings {
        store,
        open,
        seq: new.seq,
        nth: 0,
    };
    match subject {
        Subject::Debit(debit) => {
            let mut changes = Vec::new();
            for debit in captures_with(store, customer, debit, &new)? {
                let before = costs::known_of(store, customer, &debit)?;
                changes.push((debit, before));
            }
            costs::insert(store, customer, &new)?;
            for (one, before) in &changes {
                let mut after = before.clone();
                after.push(KnownCost {
                    elsewhere: one.id != debit.id,
                    ..new.known()
                });
                postings.of_debit(one, before, &after)?;
            }
            Ok(())
        }
        Subject::Authorization(held) => {
            let before = costs::of_authorization(store, customer, held.id)?;
            costs::insert(store, customer, &new)?;
            let (action, scopes) = (Some(held.action.as_str()), held.scopes.as_deref());
            postings.alone(action, scopes, &before, &new)
        }
        Subject::Nothing => {
            let before = match (&new.spent.vendor, &new.spent.request) {
                (Some(vendor), Some(request)) => {
                    costs::of_request(store, customer, &new.asset, vendor, request)?
                }
                _ => earlier.to_vec(),
            };
            // Those before it, without itself: its claim is made already.
            let before: Vec<Cost> = before
                .into_iter()
                .filter(|cost| cost.id != new.id)
                .collect();
            costs::insert(store, customer, &new)?;
            postings.alone(None, None, &before, &new)
        }
    }
}

/// The debits that a cost changes: of a request that goes through several captures, all of them.
fn captures_with(store: &Store, customer: &str, debit: &Entry, new: &Cost) -> Result<Vec<Entry>> {
    match (debit.authorization_id, &new.spent.request) {
        (Some(held), Some(_)) => ledger::captures_of(store, customer, held),
        _ => Ok(vec![debit.clone()]),
    }
}

/// Writes the postings of one row.
struct Postings<'a> {
    store: &'a Store,
    open: &'a OpenWallet,
    seq: u64,
    nth: i32,
}

/// What is posted beside the lines.
#[derive(Clone, Copy)]
struct PostingHead<'a> {
    at: Moment,
    action: Option<&'a str>,
    scopes: Option<&'a [String]>,
    /// 1: a debit is put in; -1: it is taken out; 0: neither.
    debits: i32,
    costed: bool,
    quantity: Decimal,
}

impl Postings<'_> {
    fn post(&mut self, head: &PostingHead, lines: &[Line]) -> Result<()> {
        self.nth += 1;
        let asset = &self.open.asset.name;
        let posting = Posting {
            customer: self.open.customer.clone(),
            asset: asset.clone(),
            seq: self.seq,
            nth: self.nth,
            // What was reported in a closed period stays; the change counts in the first open one.
            accounted_at: periods::accounted_at(self.store, asset, head.at, self.open.now)?,
            action: head.action.map(str::to_owned),
            scopes: head.scopes.map(<[String]>::to_vec),
            debits: head.debits,
            costed: head.debits * i32::from(head.costed),
            quantity: head.quantity * Decimal::from(head.debits),
            lines: Json::Array(lines.iter().map(Line::json).collect()),
        };
        costs::post(self.store, &posting)
    }

    /// Takes a row out of the reports as it was known, and puts it in as it is known now.
    fn change(
        &mut self,
        head: &PostingHead,
        paid: &[KindPayment],
        before: &[ModelCost],
        after: &[ModelCost],
    ) -> Result<()> {
        let change = costing::change(paid, before, after);
        let out = PostingHead {
            debits: -head.debits,
            costed: costing::total(before).is_some(),
            ..*head
        };
        self.post(&out, &change.before)?;
        let costed = costing::total(after).is_some();
        self.post(&PostingHead { costed, ..*head }, &change.after)
    }

    /// A debit, and what was refunded and settled of it, as shared over the vendors' models.
    fn of_debit(&mut self, debit: &Entry, before: &[KnownCost], after: &[KnownCost]) -> Result<()> {
        let (before, after) = (costing::counting(before), costing::counting(after));
        if before == after {
            return Ok(());
        }
        let of = |row: &Entry, debits| PostingHead {
            at: row.accounted_at,
            action: debit.action.as_deref(),
            scopes: debit.scopes.as_deref(),
            debits,
            costed: false,
            quantity: debit.quantity.unwrap_or_default(),
        };
        self.change(&of(debit, 1), &debit.paid()?, &before, &after)?;
        let (before, after) = (costing::weights(&before), costing::weights(&after));
        if before == after {
            return Ok(());
        }
        for row in ledger::referring_to(self.store, &self.open.customer, debit.id)? {
            self.change(&of(&row, 0), &row.paid()?, &before, &after)?;
        }
        Ok(())
    }

    /// A cost without a debit, that takes the place of earlier ones of its request or authorization.
    fn alone(
        &mut self,
        action: Option<&str>,
        scopes: Option<&[String]>,
        before: &[Cost],
        new: &Cost,
    ) -> Result<()> {
        let mut known: Vec<KnownCost> = before.iter().map(Cost::known).collect();
        let was = costing::counting(&known);
        known.push(new.known());
        let is = costing::counting(&known);
        if was == is {
            return Ok(());
        }
        let head = PostingHead {
            at: new.accounted_at,
            action,
            scopes,
            debits: 0,
            costed: false,
            quantity: Decimal::ZERO,
        };
        let change = costing::change(&[], &was, &is);
        if !was.is_empty() {
            self.post(&head, &change.before)?;
        }
        self.post(&head, &change.after)
    }
}

fn answer(customer: &str, cost: &Cost, replayed: bool) -> Row {
    let spent = &cost.spent;
    row! {
        id: value::uuid(cost.id),
        customer: value::text(customer),
        asset: value::text(&cost.asset),
        vendor: value::optional_text(spent.vendor.as_deref()),
        model: value::optional_text(spent.model.as_deref()),
        vendor_request_id: value::optional_text(spent.request.as_deref()),
        source: value::text(&cost.source.to_string()),
        cost: spent.cost.and_then(value::money_decimal),
        reason: value::optional_text(spent.reason.as_deref()),
        rate_version: spent.rate_version.and_then(value::int),
        currency: value::optional_text(spent.conversion.as_ref().map(|from| from.currency.as_str())),
        exchange_rate: spent.conversion.as_ref().and_then(|from| value::decimal(from.rate)),
        debit_id: value::optional_uuid(cost.debit_id),
        authorization_id: value::optional_uuid(cost.authorization_id),
        occurred_at: value::moment(cost.occurred_at),
        accounted_at: value::moment(cost.accounted_at),
        created_at: value::moment(cost.created_at),
        replayed: value::bool(replayed),
    }
}

// ---- with a capture -----------------------------------------------------------------------------

/// Costs that were recorded for an authorization before it was captured: the first capture takes
/// them over.
pub struct RecordedCosts {
    before: Vec<ModelCost>,
}

impl RecordedCosts {
    /// Lets what was recorded take the place of what comes with the capture.
    pub fn take(
        store: &Store,
        open: &OpenWallet,
        held: &Authorization,
        entry: &mut Entry,
    ) -> Result<RecordedCosts> {
        let mut before = Vec::new();
        if held.first_capture.is_some() {
            let elsewhere = costs::elsewhere(store, &open.customer, held)?;
            for part in costs::given(Uuid::nil(), entry.costs.clone()) {
                if elsewhere.iter().any(|cost| cost.replaces(&part)) {
                    let spent = entry.costs.get_mut(part.id.1 as usize);
                    if let Some(spent) = spent {
                        spent.count_elsewhere();
                    }
                }
            }
            if !elsewhere.is_empty() && !entry.costs.is_empty() {
                entry.cost = costing::total(&entry.costs);
            }
        } else {
            let recorded = costs::of_authorization(store, &open.customer, held.id)?;
            let mut known: Vec<KnownCost> = recorded.iter().map(Cost::known).collect();
            before = costing::counting(&known);
            if !known.is_empty() {
                let given = if entry.costs.is_empty() && entry.cost.is_some() {
                    vec![ModelCost {
                        cost: entry.cost,
                        ..ModelCost::default()
                    }]
                } else {
                    std::mem::take(&mut entry.costs)
                };
                known.extend(costs::given(Uuid::nil(), given));
                entry.costs = costing::counting(&known);
                entry.cost = costing::total(&entry.costs);
            }
        }
        Ok(RecordedCosts { before })
    }

    /// Takes out of the reports what was counted for the authorization alone.
    pub fn take_over(&self, store: &Store, open: &OpenWallet, entry: &Entry) -> Result<()> {
        if self.before.is_empty() {
            return Ok(());
        }
        let mut postings = Postings {
            store,
            open,
            seq: entry.seq,
            nth: 0,
        };
        let head = PostingHead {
            at: entry.occurred_at,
            action: entry.action.as_deref(),
            scopes: entry.scopes.as_deref(),
            debits: 0,
            costed: false,
            quantity: Decimal::ZERO,
        };
        postings.post(&head, &costing::change(&[], &self.before, &[]).before)
    }
}

/// The totals of a capture contain what earlier captures of its authorization were not costed for: from now
/// on that is part of its cost, or of what it is uncosted for.
pub fn take_over_uncosted(
    store: &Store,
    open: &OpenWallet,
    authorization: Uuid,
    capture: Uuid,
) -> Result<()> {
    let customer = open.customer.as_str();
    for debit in ledger::captures_of(store, customer, authorization)? {
        if debit.id == capture || debit.costs.is_empty() {
            continue;
        }
        let known = costs::known_of(store, customer, &debit)?;
        for part in costs::given(debit.id, debit.spent()) {
            let is_known = part.spent.cost.is_some();
            if is_known || known.iter().any(|other| other.replaces(&part)) {
                continue;
            }
            let counted = Correction {
                source: Source::Estimated,
                spent: ModelCost {
                    cost: Some(Decimal::ZERO),
                    reason: Some("in a later capture".to_owned()),
                    conversion: None,
                    ..part.spent
                },
                replaces: part.id,
                debit_id: Some(debit.id),
                authorization_id: None,
                occurred_at: debit.occurred_at,
            };
            let subject = Subject::Debit(Box::new(debit.clone()));
            correct(store, customer, &debit.asset, &subject, counted, &[])?;
        }
    }
    Ok(())
}

// ---- recost -------------------------------------------------------------------------------------

/// A cost that another rate says, now that it is known.
struct CorrectedCost {
    customer: String,
    asset: String,
    debit_id: Option<Uuid>,
    cost_id: Option<Uuid>,
    occurred_at: Moment,
    before: Option<Decimal>,
    after: ModelCost,
}

pub fn recost(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let vendor = args.name("vendor")?;
    let model = args.optional_name("model")?;
    let since = args.optional_moment("since")?;
    let dry_run = args.bool("dry_run")?;
    let corrected = Store::write(|store| {
        let wanted = |spent: &ModelCost| {
            spent.vendor.as_ref() == Some(&vendor) && (model.is_none() || spent.model == model)
        };
        let (debits, recorded) = costs::used(store, &vendor, model.as_deref(), since)?;
        let mut places: Vec<(String, bool, Uuid)> = Vec::new();
        places.extend(
            debits
                .into_iter()
                .map(|(customer, id)| (customer, false, id)),
        );
        places.extend(
            recorded
                .into_iter()
                .map(|(customer, id)| (customer, true, id)),
        );
        // Wallets are locked in the order of their customers, as everywhere.
        places.sort();
        let mut corrected = Vec::new();
        for (customer, recorded, id) in &places {
            if *recorded {
                corrected.extend(recost_recorded(store, customer, *id, dry_run)?);
            } else {
                corrected.extend(recost_debit(store, customer, *id, &wanted, dry_run)?);
            }
        }
        Ok(corrected)
    })?;
    let rows = corrected.iter().map(|one| {
        row! {
            customer: value::text(&one.customer),
            asset: value::text(&one.asset),
            debit_id: value::optional_uuid(one.debit_id),
            cost_id: value::optional_uuid(one.cost_id),
            vendor: value::optional_text(one.after.vendor.as_deref()),
            model: value::optional_text(one.after.model.as_deref()),
            cost_before: one.before.and_then(value::money_decimal),
            cost_after: one.after.cost.and_then(value::money_decimal),
            occurred_at: value::moment(one.occurred_at),
        }
    });
    row::rows(args, rows)
}

/// Computes again what came with a debit, element by element of its usage.
fn recost_debit(
    store: &Store,
    customer: &str,
    id: Uuid,
    wanted: &dyn Fn(&ModelCost) -> bool,
    dry_run: bool,
) -> Result<Vec<CorrectedCost>> {
    let debit = movement(store, customer, id, "debit")?;
    let usage = debit.read_usage()?.filter(|_| !debit.costs.is_empty());
    let Some(usage) = usage else {
        return Ok(Vec::new());
    };
    let asset = assets::asset(store, &debit.asset)?;
    let at = debit.occurred_at;
    let mut fresh = computed_all(store, &asset, &read_usage(&usage)?, at)?;
    // The usage of a capture is the total of all captures so far.
    if let Some(held) = debit.authorization_id
        && let Some(earlier) = ledger::usage_before(store, customer, held, debit.seq)?
    {
        let before = computed_all(store, &asset, &read_usage(&earlier)?, at)?;
        fresh = costing::added(&fresh, &before, None);
    }
    let given = debit.spent();
    if given.len() != fresh.len() {
        return Ok(Vec::new());
    }
    let recomputed = costs::recomputed(store, customer, id)?;
    let mut corrected = Vec::new();
    for (part, (given, fresh)) in (0_i32..).zip(given.iter().zip(fresh)) {
        let was_computed = given.rate_version.is_some() || given.reason.is_some();
        let same = given.vendor == fresh.vendor || given.reason.is_some();
        if !was_computed || !same || given.is_counted_elsewhere() || !wanted(given) {
            continue;
        }
        let latest = recomputed
            .iter()
            .rev()
            .find(|cost| cost.replaces == Some((id, part)));
        let before = latest.map_or(given.cost, |cost| cost.spent.cost);
        if fresh.cost.is_none() || fresh.cost == before {
            continue;
        }
        if !dry_run {
            let subject = Subject::Debit(Box::new(debit.clone()));
            let new = Correction {
                source: Source::Estimated,
                spent: fresh.clone(),
                replaces: (id, part),
                debit_id: Some(id),
                authorization_id: None,
                occurred_at: at,
            };
            correct(store, customer, &debit.asset, &subject, new, &[])?;
        }
        corrected.push(CorrectedCost {
            customer: customer.to_owned(),
            asset: debit.asset.clone(),
            debit_id: Some(id),
            cost_id: None,
            occurred_at: at,
            before,
            after: fresh,
        });
    }
    Ok(corrected)
}

fn computed_all(
    store: &Store,
    asset: &Asset,
    used: &[Usage],
    at: Moment,
) -> Result<Vec<ModelCost>> {
    used.iter()
        .map(|used| cost_of(store, asset, &used.asked, used.request.clone(), at))
        .collect()
}

/// Computes again what was recorded with its usage.
fn recost_recorded(
    store: &Store,
    customer: &str,
    id: Uuid,
    dry_run: bool,
) -> Result<Option<CorrectedCost>> {
    let Some(cost) = costs::by_id(store, customer, id)? else {
        return Ok(None);
    };
    let asked = UsageToCost {
        vendor: cost.spent.vendor.clone().unwrap_or_default(),
        model: cost.spent.model.clone(),
        api_flavor: cost.api_flavor.clone(),
        body: cost
            .usage
            .clone()
            .unwrap_or_else(|| Json::Object(Map::new())),
        context: cost
            .context
            .clone()
            .unwrap_or_else(|| Json::Object(Map::new())),
    };
    let asset = assets::asset(store, &cost.asset)?;
    let request = cost.spent.request.clone();
    let fresh = cost_of(store, &asset, &asked, request, cost.occurred_at)?;
    let recomputed = costs::recomputed(store, customer, id)?;
    let before = recomputed
        .last()
        .map_or(cost.spent.cost, |latest| latest.spent.cost);
    if fresh.cost.is_none() || fresh.cost == before {
        return Ok(None);
    }
    if !dry_run {
        let subject = match (cost.debit_id, cost.authorization_id) {
            (None, None) => Subject::Nothing,
            (Some(debit), _) => {
                Subject::Debit(Box::new(movement(store, customer, debit, "debit")?))
            }
            (None, Some(held)) => of_authorization(store, customer, held)?,
        };
        let mut earlier = vec![cost.clone()];
        earlier.extend(recomputed);
        let new = Correction {
            source: cost.source,
            spent: fresh.clone(),
            replaces: (id, 0),
            debit_id: cost.debit_id,
            authorization_id: cost.authorization_id,
            occurred_at: cost.occurred_at,
        };
        correct(store, customer, &cost.asset, &subject, new, &earlier)?;
    }
    Ok(Some(CorrectedCost {
        customer: customer.to_owned(),
        asset: cost.asset,
        debit_id: cost.debit_id,
        cost_id: Some(id),
        occurred_at: cost.occurred_at,
        before,
        after: fresh,
    }))
}

/// A cost that takes the place of one that was computed by another rate.
struct Correction {
    source: Source,
    spent: ModelCost,
    replaces: (Uuid, i32),
    debit_id: Option<Uuid>,
    authorization_id: Option<Uuid>,
    occurred_at: Moment,
}

fn correct(
    store: &Store,
    customer: &str,
    asset: &str,
    subject: &Subject,
    correction: Correction,
    earlier: &[Cost],
) -> Result<()> {
    let mut open = wallets::open(store, customer, asset)?;
    let seq = next_row(store, &mut open)?;
    let new = Cost {
        id: row_id(open.now, seq),
        seq,
        asset: asset.to_owned(),
        source: correction.source,
        spent: correction.spent,
        api_flavor: None,
        usage: None,
        context: None,
        debit_id: correction.debit_id,
        authorization_id: correction.authorization_id,
        replaces: Some(correction.replaces),
        occurred_at: correction.occurred_at,
        accounted_at: accounted(store, &open, subject, correction.occurred_at)?,
        created_at: open.now,
        metadata: None,
    };
    book(store, &open, subject, new, earlier)
}
