//! Costs that are recorded apart from their debit, and what they change in the reports.

use std::str::FromStr;

use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use super::authorizations::{self, Authorization};
use super::ledger::Entry;
use super::statement::{
    BIGINT, INT, JSONB, NUMERIC, RowRef, Statement, Store, TEXT, TEXTS, TIME, UUID,
};
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::ledger::costing::{self, Known, Source};
use crate::ledger::margin::{Line, Spent};
use crate::sql_types::value;

/// A cost as it is recorded.
#[derive(Clone, Debug)]
pub struct Cost {
    pub id: Uuid,
    pub seq: u64,
    pub asset: String,
    pub source: Source,
    /// Vendor, model, request, cost, or why there is none.
    pub spent: Spent,
    pub api_flavor: Option<String>,
    pub usage: Option<Json>,
    pub context: Option<Json>,
    pub debit_id: Option<Uuid>,
    pub authorization_id: Option<Uuid>,
    /// The cost, or the debit and the element of its usage, that is computed anew.
    pub replaces: Option<(Uuid, i32)>,
    pub occurred_at: Moment,
    pub accounted_at: Moment,
    pub created_at: Moment,
    pub metadata: Option<Json>,
}

impl Cost {
    pub fn known(&self) -> Known {
        Known {
            // What replaces a debit's own cost is as good as that was.
            source: match self.replaces {
                Some((id, _)) if Some(id) == self.debit_id => Source::Given,
                _ => self.source,
            },
            spent: self.spent.clone(),
            id: (self.id, 0),
            anew: self.replaces,
            elsewhere: false,
        }
    }
}

/// What stands for a vendor's request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claim {
    pub debit_id: Option<Uuid>,
    pub authorization_id: Option<Uuid>,
    /// `None`: the cost came with the debit.
    pub cost_id: Option<Uuid>,
}

/// A change of the reports.
pub struct Posting<'a> {
    pub seq: u64,
    pub nth: i32,
    pub accounted_at: Moment,
    pub action: Option<&'a str>,
    pub scopes: Option<&'a [String]>,
    pub debits: i32,
    pub costed: i32,
    pub quantity: Decimal,
    pub lines: &'a [Line],
}

static INSERT: Statement = Statement {
    sql: "INSERT INTO credyt.vendor_costs (customer, asset, seq, id, vendor, model, vendor_request_id,
              source, cost, reason, rate_version, api_flavor, usage, context, debit_id,
              authorization_id, replaces, part, occurred_at, accounted_at, created_at, metadata)
          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
              $19, $20, $21, $22)",
    args: &[
        TEXT, TEXT, BIGINT, UUID, TEXT, TEXT, TEXT, TEXT, NUMERIC, TEXT, INT, TEXT, JSONB, JSONB,
        UUID, UUID, UUID, INT, TIME, TIME, TIME, JSONB,
    ],
};

static POST: Statement = Statement {
    sql:
        "INSERT INTO credyt.cost_postings (customer, asset, seq, nth, accounted_at, action, scopes,
              debits, costed, quantity, lines)
          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    args: &[
        TEXT, TEXT, BIGINT, INT, TIME, TEXT, TEXTS, INT, INT, NUMERIC, JSONB,
    ],
};

static CLAIM: Statement = Statement {
    sql: "INSERT INTO credyt.vendor_requests
              (customer, vendor, vendor_request_id, source, debit_id, authorization_id, cost_id)
          VALUES ($1, $2, $3, $4, $5, $6, $7)
          ON CONFLICT (customer, vendor, vendor_request_id, source) DO NOTHING",
    args: &[TEXT, TEXT, TEXT, TEXT, UUID, UUID, UUID],
};

static CLAIM_OF: Statement = Statement {
    sql: "SELECT r.debit_id, r.authorization_id, r.cost_id FROM credyt.vendor_requests r
          WHERE r.customer = $1 AND r.vendor = $2 AND r.vendor_request_id = $3 AND r.source = $4",
    args: &[TEXT, TEXT, TEXT, TEXT],
};

static ANY_CLAIM: Statement = Statement {
    sql: "SELECT r.debit_id, r.authorization_id, r.cost_id FROM credyt.vendor_requests r
          WHERE r.customer = $1 AND r.vendor = $2 AND r.vendor_request_id = $3
          ORDER BY r.debit_id IS NULL, r.authorization_id IS NULL",
    args: &[TEXT, TEXT, TEXT],
};

macro_rules! cost {
    ($condition:literal) => {
        concat!(
            "SELECT c.id, c.seq, c.asset, c.source, c.vendor, c.model, c.vendor_request_id, c.cost,
                 c.reason, c.rate_version, c.api_flavor, c.usage, c.context, c.debit_id,
                 c.authorization_id, c.replaces, c.part, c.occurred_at, c.accounted_at, c.created_at
             FROM credyt.vendor_costs c WHERE ",
            $condition
        )
    };
}

static BY_ID: Statement = Statement {
    sql: cost!("c.customer = $1 AND c.id = $2"),
    args: &[TEXT, UUID],
};

/// Those of a debit; and those of its authorization, where $3 says which, that were recorded before
/// it was captured.
static OF_DEBIT: Statement = Statement {
    sql: cost!(
        "c.customer = $1 AND (c.debit_id = $2 OR c.authorization_id = $3 AND c.debit_id IS NULL)
         ORDER BY c.seq"
    ),
    args: &[TEXT, UUID, UUID],
};

static OF_REQUEST: Statement = Statement {
    sql: cost!(
        "c.customer = $1 AND c.asset = $2 AND coalesce(c.replaces, c.id) IN (
             SELECT r.cost_id FROM credyt.vendor_requests r
             WHERE r.customer = $1 AND r.vendor = $3 AND r.vendor_request_id = $4)
         ORDER BY c.seq"
    ),
    args: &[TEXT, TEXT, TEXT, TEXT],
};

static ANEW: Statement = Statement {
    sql: cost!("c.customer = $1 AND c.replaces = $2 ORDER BY c.seq"),
    args: &[TEXT, UUID],
};

/// Debits whose usage names a vendor (and model), customer by customer.
static DEBITS_OF: Statement = Statement {
    sql: "SELECT l.customer, l.id FROM credyt.ledger l
          WHERE l.kind = 'debit' AND ($3 IS NULL OR l.accounted_at >= $3)
            AND EXISTS (SELECT FROM jsonb_array_elements(l.costs) AS c (part)
                        WHERE c.part->>'vendor' = $1 AND ($2 IS NULL OR c.part->>'model' = $2))
          ORDER BY l.customer, l.asset, l.seq",
    args: &[TEXT, TEXT, TIME],
};

/// Recorded costs of a vendor (and model) that were to be computed, customer by customer.
static COSTS_OF: Statement = Statement {
    sql: "SELECT c.customer, c.id FROM credyt.vendor_costs c
          WHERE c.vendor = $1 AND ($2 IS NULL OR c.model = $2) AND ($3 IS NULL OR c.accounted_at >= $3)
            AND c.replaces IS NULL AND c.usage IS NOT NULL
            AND (c.rate_version IS NOT NULL OR c.reason IS NOT NULL)
          ORDER BY c.customer, c.asset, c.seq",
    args: &[TEXT, TEXT, TIME],
};

/// The assets in which a customer has a wallet; two are enough to know that it is not one.
static ASSETS_OF: Statement = Statement {
    sql: "SELECT w.asset FROM credyt.wallets w WHERE w.customer = $1 ORDER BY w.asset LIMIT 2",
    args: &[TEXT],
};

pub fn insert(store: &Store, customer: &str, new: &Cost) -> Result<()> {
    let args = [
        value::text(customer),
        value::text(&new.asset),
        value::bigint(new.seq as i64),
        value::uuid(new.id),
        value::optional_text(new.spent.vendor.as_deref()),
        value::optional_text(new.spent.model.as_deref()),
        value::optional_text(new.spent.request.as_deref()),
        value::text(&new.source.to_string()),
        new.spent.cost.and_then(value::money_decimal),
        value::optional_text(new.spent.reason.as_deref()),
        new.spent.rate_version.and_then(value::int),
        value::optional_text(new.api_flavor.as_deref()),
        value::optional_json("usage", new.usage.as_ref())?,
        value::optional_json("context", new.context.as_ref())?,
        value::optional_uuid(new.debit_id),
        value::optional_uuid(new.authorization_id),
        value::optional_uuid(new.replaces.map(|(id, _)| id)),
        new.replaces.and_then(|(_, part)| value::int(part)),
        value::moment(new.occurred_at),
        value::moment(new.accounted_at),
        value::moment(new.created_at),
        value::optional_json("metadata", new.metadata.as_ref())?,
    ];
    INSERT.run(store, &args)?;
    Ok(())
}

pub fn post(store: &Store, customer: &str, asset: &str, new: &Posting) -> Result<()> {
    let lines = Json::Array(new.lines.iter().map(Line::json).collect());
    let args = [
        value::text(customer),
        value::text(asset),
        value::bigint(new.seq as i64),
        value::int(new.nth),
        value::moment(new.accounted_at),
        value::optional_text(new.action),
        value::texts(new.scopes),
        value::int(new.debits),
        value::int(new.costed),
        value::decimal(new.quantity),
        value::jsonb(&lines.to_string()),
    ];
    POST.run(store, &args)?;
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
    let args = [
        value::text(customer),
        value::text(vendor),
        value::text(request),
        value::text(source),
        value::optional_uuid(claim.debit_id),
        value::optional_uuid(claim.authorization_id),
        value::optional_uuid(claim.cost_id),
    ];
    Ok(CLAIM.run(store, &args)?.count() > 0)
}

/// What stands for a vendor's request, by this source.
pub fn claim_of(
    store: &Store,
    customer: &str,
    vendor: &str,
    request: &str,
    source: &str,
) -> Result<Option<Claim>> {
    let args = [
        value::text(customer),
        value::text(vendor),
        value::text(request),
        value::text(source),
    ];
    let rows = CLAIM_OF.run(store, &args)?;
    Ok(rows.first().map(|row| read_claim(&row)))
}

/// What stands for a vendor's request, by whatever source; the one with a debit first.
pub fn any_claim_of(
    store: &Store,
    customer: &str,
    vendor: &str,
    request: &str,
) -> Result<Option<Claim>> {
    let args = [
        value::text(customer),
        value::text(vendor),
        value::text(request),
    ];
    let rows = ANY_CLAIM.run(store, &args)?;
    Ok(rows.first().map(|row| read_claim(&row)))
}

fn read_claim(row: &RowRef) -> Claim {
    Claim {
        debit_id: row.optional_uuid(1),
        authorization_id: row.optional_uuid(2),
        cost_id: row.optional_uuid(3),
    }
}

pub fn by_id(store: &Store, customer: &str, id: Uuid) -> Result<Option<Cost>> {
    let rows = BY_ID.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.first().map(|row| read(&row)).transpose()
}

/// The costs recorded for a debit, in the order they were; with those of the authorization whose
/// first capture it is.
pub fn of_debit(
    store: &Store,
    customer: &str,
    debit: Uuid,
    authorization: Option<Uuid>,
) -> Result<Vec<Cost>> {
    let args = [
        value::text(customer),
        value::uuid(debit),
        value::optional_uuid(authorization),
    ];
    let rows = OF_DEBIT.run(store, &args)?;
    rows.iter().map(|row| read(&row)).collect()
}

/// The costs recorded for an authorization before it was captured.
pub fn of_authorization(store: &Store, customer: &str, id: Uuid) -> Result<Vec<Cost>> {
    of_debit(store, customer, Uuid::nil(), Some(id))
}

/// The costs recorded for a vendor's request.
pub fn of_request(
    store: &Store,
    customer: &str,
    asset: &str,
    vendor: &str,
    request: &str,
) -> Result<Vec<Cost>> {
    let args = [
        value::text(customer),
        value::text(asset),
        value::text(vendor),
        value::text(request),
    ];
    let rows = OF_REQUEST.run(store, &args)?;
    rows.iter().map(|row| read(&row)).collect()
}

/// Every cost that is known of a debit, in the order it became known: what came with it, and what
/// was recorded.
pub fn known_of(store: &Store, customer: &str, debit: &Entry) -> Result<Vec<Known>> {
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
pub fn elsewhere(store: &Store, customer: &str, held: &Authorization) -> Result<Vec<Known>> {
    let Some(first) = held.first_capture else {
        return Ok(Vec::new());
    };
    let recorded = of_debit(store, customer, first, Some(held.id))?;
    Ok(recorded
        .iter()
        .filter(|cost| cost.spent.request.is_some())
        .map(|cost| Known {
            elsewhere: true,
            ..cost.known()
        })
        .collect())
}

/// The costs that came with a debit.
pub fn given(debit: Uuid, spent: Vec<Spent>) -> Vec<Known> {
    (0..)
        .zip(spent)
        .map(|(part, spent)| Known {
            source: Source::Given,
            spent,
            id: (debit, part),
            anew: None,
            elsewhere: false,
        })
        .collect()
}

/// By what the revenue of a debit that comes or goes later is shared: its costs as known now.
pub fn weights_of(store: &Store, customer: &str, debit: &Entry) -> Result<Vec<Spent>> {
    Ok(costing::weights(&costing::counting(&known_of(
        store, customer, debit,
    )?)))
}

/// What was computed anew for a cost or a debit.
pub fn anew(store: &Store, customer: &str, id: Uuid) -> Result<Vec<Cost>> {
    let rows = ANEW.run(store, &[value::text(customer), value::uuid(id)])?;
    rows.iter().map(|row| read(&row)).collect()
}

/// A customer and the id of a row of theirs.
pub type Place = (String, Uuid);

/// The debits, and the recorded costs, that a vendor's usage (of this model) stands behind.
pub fn used(
    store: &Store,
    vendor: &str,
    model: Option<&str>,
    since: Option<Moment>,
) -> Result<(Vec<Place>, Vec<Place>)> {
    let args = [
        value::text(vendor),
        value::optional_text(model),
        value::optional_moment(since),
    ];
    let places = |statement: &'static Statement| -> Result<Vec<Place>> {
        let rows = statement.run(store, &args)?;
        rows.iter()
            .map(|row| Ok((row.text(1)?, row.uuid(2)?)))
            .collect()
    };
    Ok((places(&DEBITS_OF)?, places(&COSTS_OF)?))
}

/// The asset of a customer's only wallet.
pub fn only_asset_of(store: &Store, customer: &str) -> Result<Option<String>> {
    let rows = ASSETS_OF.run(store, &[value::text(customer)])?;
    match rows.count() {
        1 => rows.first().map(|row| row.text(1)).transpose(),
        _ => Ok(None),
    }
}

fn read(row: &RowRef) -> Result<Cost> {
    let source = row.text(4)?;
    let part = row.optional_int(17).unwrap_or_default();
    Ok(Cost {
        id: row.uuid(1)?,
        seq: row.bigint(2)? as u64,
        asset: row.text(3)?,
        source: Source::from_str(&source)
            .map_err(|_| errors::corrupted("a vendor cost", source))?,
        spent: Spent {
            vendor: Some(row.text(5)?),
            model: row.optional_text(6),
            request: row.optional_text(7),
            cost: row.optional_decimal(8)?,
            weight: None,
            reason: row.optional_text(9),
            rate_version: row.optional_int(10),
        },
        api_flavor: row.optional_text(11),
        usage: row.optional_json(12)?,
        context: row.optional_json(13)?,
        debit_id: row.optional_uuid(14),
        authorization_id: row.optional_uuid(15),
        replaces: row.optional_uuid(16).map(|id| (id, part)),
        occurred_at: row.moment(18)?,
        accounted_at: row.moment(19)?,
        created_at: row.moment(20)?,
        metadata: None,
    })
}
