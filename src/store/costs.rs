//! Costs that are recorded apart from their debit, and what they change in the reports.

use std::str::FromStr;

use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use super::authorizations::{self, Authorization};
use super::ledger::Entry;
use super::statement::{FromRow, Query, Reader, Statement, Store, TEXT, UUID};
use super::table::{insert, query, sql, table};
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::ledger::costing::{self, KnownCost, Source};
use crate::ledger::exchange::Conversion;
use crate::ledger::margin::ModelCost;
use crate::sql_types::field::{Field, FromColumn, types};
use crate::sql_types::value::{self, Value};

/// A cost as it is recorded.
#[derive(Clone, Debug)]
pub struct Cost {
    pub id: Uuid,
    pub seq: u64,
    pub asset: String,
    pub source: Source,
    /// Vendor, model, request, cost, or why there is none.
    pub spent: ModelCost,
    pub api_flavor: Option<String>,
    pub usage: Option<Json>,
    pub context: Option<Json>,
    pub debit_id: Option<Uuid>,
    pub authorization_id: Option<Uuid>,
    /// The cost, or the debit and the element of its usage, that is computed again.
    pub replaces: Option<(Uuid, i32)>,
    pub occurred_at: Moment,
    pub accounted_at: Moment,
    pub created_at: Moment,
    pub metadata: Option<Json>,
}

impl Cost {
    pub fn known(&self) -> KnownCost {
        KnownCost {
            // What replaces a debit's own cost is as good as that was.
            source: match self.replaces {
                Some((id, _)) if Some(id) == self.debit_id => Source::Given,
                _ => self.source,
            },
            spent: self.spent.clone(),
            id: (self.id, 0),
            replaced: self.replaces,
            elsewhere: false,
        }
    }
}

table! {
    /// A cost as a row.
    pub(super) struct CostRow {
        customer: String as text,
        asset: String as text,
        seq: u64 as bigint,
        id: Uuid as uuid,
        vendor: Option<String> as text,
        model: Option<String> as text,
        vendor_request_id: Option<String> as text,
        source: Source as text,
        cost: Option<Decimal> as money,
        reason: Option<String> as text,
        rate_version: Option<i32> as int,
        currency: Option<String> as text,
        exchange_rate: Option<Decimal> as numeric,
        api_flavor: Option<String> as text,
        usage: Option<Json> as jsonb,
        context: Option<Json> as jsonb,
        debit_id: Option<Uuid> as uuid,
        authorization_id: Option<Uuid> as uuid,
        replaces: Option<Uuid> as uuid,
        part: Option<i32> as int,
        occurred_at: Moment as timestamptz,
        accounted_at: Moment as timestamptz,
        created_at: Moment as timestamptz,
        metadata: Option<Json> as jsonb,
    }
}

impl Field<types::text> for Source {
    fn value(&self, _: &str) -> Result<Value> {
        Ok(value::text(&self.to_string()))
    }
}

impl FromColumn for Source {
    fn from_value(value: Value) -> Result<Source> {
        let source = String::from_value(value)?;
        Source::from_str(&source).map_err(|()| errors::corrupted("a vendor cost", source))
    }
}

impl FromRow for Cost {
    fn from_row(row: &mut Reader) -> Result<Cost> {
        let row = CostRow::from_row(row)?;
        Ok(Cost {
            id: row.id,
            seq: row.seq,
            asset: row.asset,
            source: row.source,
            spent: ModelCost {
                vendor: row.vendor,
                model: row.model,
                cost: row.cost,
                weight: None,
                reason: row.reason,
                rate_version: row.rate_version,
                conversion: row
                    .currency
                    .zip(row.exchange_rate)
                    .map(|(currency, rate)| Conversion { currency, rate }),
                request: row.vendor_request_id,
            },
            api_flavor: row.api_flavor,
            usage: row.usage,
            context: row.context,
            debit_id: row.debit_id,
            authorization_id: row.authorization_id,
            replaces: row.replaces.map(|id| (id, row.part.unwrap_or_default())),
            occurred_at: row.occurred_at,
            accounted_at: row.accounted_at,
            created_at: row.created_at,
            metadata: row.metadata,
        })
    }
}

table! {
    /// What stands for a vendor's request.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Claim {
        debit_id: Option<Uuid> as uuid,
        authorization_id: Option<Uuid> as uuid,
        /// `None`: the cost came with the debit.
        cost_id: Option<Uuid> as uuid,
    }
}

table! {
    /// A change of the reports.
    pub struct Posting {
        customer: String as text,
        asset: String as text,
        seq: u64 as bigint,
        nth: i32 as int,
        accounted_at: Moment as timestamptz,
        action: Option<String> as text,
        scopes: Option<Vec<String>> as texts,
        debits: i32 as int,
        costed: i32 as int,
        quantity: Decimal as numeric,
        lines: Json as jsonb,
    }
}

static INSERT: Statement = insert!("vendor_costs", CostRow);

static POST: Statement = insert!("cost_postings", Posting);

table! {
    /// A vendor's request, and what stands for it.
    struct VendorRequest {
        customer: String as text,
        vendor: String as text,
        vendor_request_id: String as text,
        source: String as text,
        debit_id: Option<Uuid> as uuid,
        authorization_id: Option<Uuid> as uuid,
        cost_id: Option<Uuid> as uuid,
    }
}

static CLAIM: Statement = insert!(
    "vendor_requests",
    VendorRequest,
    " ON CONFLICT (customer, vendor, vendor_request_id, source) DO NOTHING"
);

query! {
    ClaimOf(customer: text, vendor: text, request: text, source: text):
    "SELECT ", Claim::COLUMNS, " FROM credyt.vendor_requests r
     WHERE r.customer = :customer AND r.vendor = :vendor AND r.vendor_request_id = :request AND r.source = :source"
}

query! {
    AnyClaimOf(customer: text, vendor: text, request: text):
    "SELECT ", Claim::COLUMNS, " FROM credyt.vendor_requests r
     WHERE r.customer = :customer AND r.vendor = :vendor AND r.vendor_request_id = :request
     ORDER BY r.debit_id IS NULL, r.authorization_id IS NULL"
}

macro_rules! cost {
    ($condition:literal) => {
        sql!(
            "SELECT ",
            CostRow::COLUMNS,
            " FROM credyt.vendor_costs c WHERE ",
            $condition
        )
    };
}

static BY_ID: Statement = Statement {
    sql: cost!("c.customer = $1 AND c.id = $2"),
    args: &[TEXT, UUID],
};

query! {
    /// Those of a debit; and those of its authorization, where there is one, that were recorded before it was captured.
    OfDebit(customer: text, debit: uuid, authorization: uuid):
    cost!(
        "c.customer = :customer AND (c.debit_id = :debit OR c.authorization_id = :authorization AND c.debit_id IS NULL)
         ORDER BY c.seq"
    )
}

/// Most authorizations have none: to see that costs less than to select all columns of none.
static ANY_OF_AUTHORIZATION: Statement = Statement {
    sql: "SELECT EXISTS (SELECT FROM credyt.vendor_costs c
                         WHERE c.customer = $1 AND c.authorization_id = $2 AND c.debit_id IS NULL)",
    args: &[TEXT, UUID],
};

query! {
    OfRequest(customer: text, asset: text, vendor: text, request: text):
    cost!(
        "c.customer = :customer AND c.asset = :asset AND coalesce(c.replaces, c.id) IN (
             SELECT r.cost_id FROM credyt.vendor_requests r
             WHERE r.customer = :customer AND r.vendor = :vendor AND r.vendor_request_id = :request)
         ORDER BY c.seq"
    )
}

static ANEW: Statement = Statement {
    sql: cost!("c.customer = $1 AND c.replaces = $2 ORDER BY c.seq"),
    args: &[TEXT, UUID],
};

query! {
    /// Debits whose usage names a vendor (and model), customer by customer.
    DebitsOf(vendor: text, model: text, since: timestamptz):
    "SELECT l.customer, l.id FROM credyt.ledger l
     WHERE l.kind = 'debit' AND (:since IS NULL OR l.accounted_at >= :since)
       AND EXISTS (SELECT FROM jsonb_array_elements(l.costs) AS c (part)
                   WHERE c.part->>'vendor' = :vendor AND (:model IS NULL OR c.part->>'model' = :model))
     ORDER BY l.customer, l.asset, l.seq"
}

query! {
    /// Recorded costs of a vendor (and model) that were to be computed, customer by customer.
    CostsOf(vendor: text, model: text, since: timestamptz):
    "SELECT c.customer, c.id FROM credyt.vendor_costs c
     WHERE c.vendor = :vendor AND (:model IS NULL OR c.model = :model) AND (:since IS NULL OR c.accounted_at >= :since)
       AND c.replaces IS NULL AND c.usage IS NOT NULL
       AND (c.rate_version IS NOT NULL OR c.reason IS NOT NULL)
     ORDER BY c.customer, c.asset, c.seq"
}

/// The assets in which a customer has a wallet; two are enough to know that it is not one.
static ASSETS_OF: Statement = Statement {
    sql: "SELECT w.asset FROM credyt.wallets w WHERE w.customer = $1 ORDER BY w.asset LIMIT 2",
    args: &[TEXT],
};

pub fn insert(store: &Store, customer: &str, new: &Cost) -> Result<()> {
    let new = new.clone();
    let (currency, exchange_rate) = new
        .spent
        .conversion
        .map(|from| (from.currency, from.rate))
        .unzip();
    let row = CostRow {
        customer: customer.to_owned(),
        asset: new.asset,
        seq: new.seq,
        id: new.id,
        vendor: new.spent.vendor,
        model: new.spent.model,
        vendor_request_id: new.spent.request,
        source: new.source,
        cost: new.spent.cost,
        reason: new.spent.reason,
        rate_version: new.spent.rate_version,
        currency,
        exchange_rate,
        api_flavor: new.api_flavor,
        usage: new.usage,
        context: new.context,
        debit_id: new.debit_id,
        authorization_id: new.authorization_id,
        replaces: new.replaces.map(|(id, _)| id),
        part: new.replaces.map(|(_, part)| part),
        occurred_at: new.occurred_at,
        accounted_at: new.accounted_at,
        created_at: new.created_at,
        metadata: new.metadata,
    };
    INSERT.run(store, &row.values()?)?;
    Ok(())
}

pub fn post(store: &Store, new: &Posting) -> Result<()> {
    POST.run(store, &new.values()?)?;
    Ok(())
}

/// Lets this stand for a vendor's request, by this source. False when something else does already.
pub fn claim(
    store: &Store,
    customer: &str,
    vendor: &str,
    request: &str,
    source: &str,
    claim: &Claim,
) -> Result<bool> {
    let row = VendorRequest {
        customer: customer.to_owned(),
        vendor: vendor.to_owned(),
        vendor_request_id: request.to_owned(),
        source: source.to_owned(),
        debit_id: claim.debit_id,
        authorization_id: claim.authorization_id,
        cost_id: claim.cost_id,
    };
    let claimed = CLAIM.run(store, &row.values()?)?.count() > 0;
    if claimed && claim.cost_id.is_some() {
        store.keep_key();
    }
    Ok(claimed)
}

/// What stands for a vendor's request, by this source.
pub fn claim_of(
    store: &Store,
    customer: &str,
    vendor: &str,
    request: &str,
    source: &str,
) -> Result<Option<Claim>> {
    let query = ClaimOf {
        customer,
        vendor,
        request,
        source,
    };
    query.run(store)?.read_first()
}

/// What stands for a vendor's request, by whatever source; the one with a debit first.
pub fn any_claim_of(
    store: &Store,
    customer: &str,
    vendor: &str,
    request: &str,
) -> Result<Option<Claim>> {
    let query = AnyClaimOf {
        customer,
        vendor,
        request,
    };
    query.run(store)?.read_first()
}

pub fn by_id(store: &Store, customer: &str, id: Uuid) -> Result<Option<Cost>> {
    let rows = BY_ID.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.read_first()
}

/// The costs recorded for a debit, in the order they were; with those of the authorization whose
/// first capture it is.
pub fn of_debit(
    store: &Store,
    customer: &str,
    debit: Uuid,
    authorization: Option<Uuid>,
) -> Result<Vec<Cost>> {
    let query = OfDebit {
        customer,
        debit,
        authorization,
    };
    query.run(store)?.read_all()
}

/// The costs recorded for an authorization before it was captured.
pub fn of_authorization(store: &Store, customer: &str, id: Uuid) -> Result<Vec<Cost>> {
    let args = [value::text(customer), value::uuid(id)];
    match ANY_OF_AUTHORIZATION.run(store, &args)?.read_one()? {
        true => of_debit(store, customer, Uuid::nil(), Some(id)),
        false => Ok(Vec::new()),
    }
}

/// The costs recorded for a vendor's request.
pub fn of_request(
    store: &Store,
    customer: &str,
    asset: &str,
    vendor: &str,
    request: &str,
) -> Result<Vec<Cost>> {
    let query = OfRequest {
        customer,
        asset,
        vendor,
        request,
    };
    query.run(store)?.read_all()
}

/// Every cost that is known of a debit, in the order it became known: what came with it, and what
/// was recorded.
pub fn known_of(store: &Store, customer: &str, debit: &Entry) -> Result<Vec<KnownCost>> {
    // What was recorded for an authorization counts with its first capture.
    let held = match debit.authorization_id {
        Some(id) => authorizations::by_id(store, customer, id)?,
        None => None,
    };
    let (own, elsewhere) = match held {
        Some(held) if held.first_capture == Some(debit.id) => (Some(held.id), Vec::new()),
        Some(held) => (None, elsewhere(store, customer, &held)?),
        None => (None, Vec::new()),
    };
    let recorded = of_debit(store, customer, debit.id, own)?;
    let mut known = given(debit.id, debit.spent());
    known.extend(recorded.iter().map(Cost::known));
    known.extend(elsewhere);
    Ok(known)
}

/// What was recorded for the requests of an authorization, as its later captures see it: it counts
/// with the first one.
pub fn elsewhere(store: &Store, customer: &str, held: &Authorization) -> Result<Vec<KnownCost>> {
    let Some(first) = held.first_capture else {
        return Ok(Vec::new());
    };
    let recorded = of_debit(store, customer, first, Some(held.id))?;
    Ok(recorded
        .iter()
        .filter(|cost| cost.spent.request.is_some())
        .map(|cost| KnownCost {
            elsewhere: true,
            ..cost.known()
        })
        .collect())
}

/// The costs that came with a debit.
pub fn given(debit: Uuid, spent: Vec<ModelCost>) -> Vec<KnownCost> {
    (0..)
        .zip(spent)
        .map(|(part, spent)| KnownCost {
            source: Source::Given,
            spent,
            id: (debit, part),
            replaced: None,
            elsewhere: false,
        })
        .collect()
}

/// By what the revenue of a debit that comes or goes later is shared: its costs as known now.
pub fn weights_of(store: &Store, customer: &str, debit: &Entry) -> Result<Vec<ModelCost>> {
    Ok(costing::weights(&costing::counting(&known_of(
        store, customer, debit,
    )?)))
}

/// What was computed again for a cost or a debit.
pub fn recomputed(store: &Store, customer: &str, id: Uuid) -> Result<Vec<Cost>> {
    let rows = ANEW.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.read_all()
}

/// A customer and the id of a row of theirs.
pub type RowKey = (String, Uuid);

/// The debits, and the recorded costs, that a vendor's usage (of this model) stands behind.
pub fn used(
    store: &Store,
    vendor: &str,
    model: Option<&str>,
    since: Option<Moment>,
) -> Result<(Vec<RowKey>, Vec<RowKey>)> {
    let debits = DebitsOf {
        vendor,
        model,
        since,
    };
    let costs = CostsOf {
        vendor,
        model,
        since,
    };
    Ok((
        debits.run(store)?.read_all()?,
        costs.run(store)?.read_all()?,
    ))
}

/// The asset of a customer's only wallet.
pub fn only_asset_of(store: &Store, customer: &str) -> Result<Option<String>> {
    let rows = ASSETS_OF.run(store, &[value::text(customer)])?;
    match rows.count() {
        1 => rows.read_first(),
        _ => Ok(None),
    }
}
