//! The calls that the application makes: their statements, and how their answers are read.

use postgres::error::SqlState;
use postgres::{Client, Row, Statement};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::book::Part;
use crate::common::{Result, explain, said};

/// The calls whose time is taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Debit,
    Transaction,
    Authorize,
    Capture,
    Release,
    Extend,
    Refund,
    TopUp,
    Record,
    Retry,
}

impl Call {
    pub fn label(self) -> &'static str {
        match self {
            Call::Debit => "debit_credits",
            Call::Transaction => "begin, debit, insert, commit",
            Call::Authorize => "authorize",
            Call::Capture => "capture",
            Call::Release => "release",
            Call::Extend => "extend",
            Call::Refund => "refund",
            Call::TopUp => "grant_credits",
            Call::Record => "record_cost",
            Call::Retry => "any of them again",
        }
    }
}

macro_rules! charge {
    ($call:literal) => {
        concat!(
            "SELECT id, quantity::text, credits::text, revenue::text, cost::text, replayed, reason, allocations,
                    (extract(epoch FROM created_at) * 1000000)::bigint AS at
             FROM credyt.",
            $call
        )
    };
}

const DEBIT: &str = charge!(
    "debit_credits(customer => $1, action => $2, dimensions => $3, usage => $4, cost => $5::text::numeric,
                   credits => $6::text::numeric, idempotency_key => $7)"
);
const AUTHORIZE: &str = "
    SELECT id, approved, reason, credits::text, replayed
    FROM credyt.authorize(customer => $1, action => $2, dimensions => $3, usage => $4, cost => $5::text::numeric,
                          ttl_seconds => $6, overrun => $7, idempotency_key => $8)";
const CAPTURE: &str = charge!(
    "capture(customer => $1, authorization_id => $2, dimensions => $3, usage => $4, cost => $5::text::numeric,
             keep_open => $6)"
);
const RELEASE: &str = "
    SELECT id, status, replayed
    FROM credyt.release(customer => $1, authorization_id => $2, reason => 'the vendor failed')";
const EXTEND: &str = "
    SELECT id, status FROM credyt.extend(customer => $1, authorization_id => $2, ttl_seconds => 600)";
const REFUND: &str = charge!(
    "refund(customer => $1, debit_id => $2, credits => $3::text::numeric,
            reason => 'the customer was not happy', idempotency_key => $4)"
);
const GRANT: &str = "
    SELECT id, paid::text, deferred::text, replayed,
           (extract(epoch FROM effective_at) * 1000000)::bigint AS at
    FROM credyt.grant_credits(customer => $1, credits => $2::text::numeric, paid => $3::text::numeric,
                              idempotency_key => $4)";
const RECORD: &str = "
    SELECT id, model, cost::text, debit_id, replayed
    FROM credyt.record_cost(customer => $1, vendor => $2, model => $3, usage => $4, cost => $5::text::numeric,
                            debit_id => $6, authorization_id => $7, vendor_request_id => $8, api_flavor => $9,
                            source => $10)";
pub const INSERT_REPLY: &str =
    "INSERT INTO app.replies (request, customer, debit) VALUES ($1, $2, $3)";

pub struct Statements {
    pub debit: Statement,
    pub authorize: Statement,
    pub capture: Statement,
    pub release: Statement,
    pub extend: Statement,
    pub refund: Statement,
    pub grant: Statement,
    pub record: Statement,
    pub insert_reply: Statement,
}

impl Statements {
    pub fn prepare(client: &mut Client) -> Result<Statements> {
        let mut prepare = |sql: &str| client.prepare(sql).map_err(said(sql));
        Ok(Statements {
            debit: prepare(DEBIT)?,
            authorize: prepare(AUTHORIZE)?,
            capture: prepare(CAPTURE)?,
            release: prepare(RELEASE)?,
            extend: prepare(EXTEND)?,
            refund: prepare(REFUND)?,
            grant: prepare(GRANT)?,
            record: prepare(RECORD)?,
            insert_reply: prepare(INSERT_REPLY)?,
        })
    }
}

/// A debit, capture or refund as it was answered.
pub struct Charge {
    pub id: Uuid,
    pub at: i64,
    pub quantity: Decimal,
    pub credits: Decimal,
    pub cost: Option<Decimal>,
    /// What each grant paid, and what none did.
    pub parts: Vec<Part>,
    pub replayed: bool,
    pub reason: Option<String>,
}

impl Charge {
    pub fn read(row: &Row) -> Result<Charge> {
        let number = |column| -> Result<Option<Decimal>> {
            let text: Option<&str> = row.try_get(column)?;
            Ok(text.map(Decimal::from_str_exact).transpose()?)
        };
        let allocations: serde_json::Value = row.try_get("allocations")?;
        let part = |part: &serde_json::Value| -> Result<Part> {
            let amount = |name: &str| Decimal::from_str_exact(part[name].as_str().unwrap_or("0"));
            Ok(Part {
                credits: amount("credits")?,
                revenue: amount("revenue")?,
                owed: part["kind"] == "overdraft",
            })
        };
        let parts = allocations.as_array().into_iter().flatten().map(part);
        let charge = Charge {
            id: row.try_get("id")?,
            at: row.try_get("at")?,
            quantity: number("quantity")?.unwrap_or_default(),
            credits: number("credits")?.unwrap_or_default(),
            cost: number("cost")?,
            parts: parts.collect::<Result<_>>()?,
            replayed: row.try_get("replayed")?,
            reason: row.try_get("reason")?,
        };
        let revenue = number("revenue")?.unwrap_or_default();
        let credits: Decimal = charge.parts.iter().map(|part| part.credits).sum();
        let earned: Decimal = charge.parts.iter().map(|part| part.revenue).sum();
        if (credits, earned) != (charge.credits, revenue) {
            return Err(format!(
                "{}: {} credits and a revenue of {revenue}, but allocations of {credits} and {earned}",
                charge.id, charge.credits
            )
            .into());
        }
        Ok(charge)
    }
}

/// What the server answered: a row, or one of the refusals that an application must expect.
pub enum Answer {
    Row(Row),
    Refused(String),
}

/// A row; or a refusal, when it is one that is no error of anybody, with the slug that DETAIL gives it.
pub fn answered(result: std::result::Result<Row, postgres::Error>) -> Result<Answer> {
    let error = match result {
        Ok(row) => return Ok(Answer::Row(row)),
        Err(error) => error,
    };
    let slug = match error.code().map(SqlState::code) {
        Some("WC001") => "insufficient_credits",
        Some("WC002") => "wallet_not_found",
        Some("WC003") => "price_not_found",
        _ => return Err(explain(&error).into()),
    };
    let detail = error
        .as_db_error()
        .and_then(|said| said.detail())
        .unwrap_or_default();
    let detail: serde_json::Value = serde_json::from_str(detail).unwrap_or_default();
    let is_of_customer = slug == "price_not_found" || detail["customer"].is_string();
    if detail["error"] != slug || !is_of_customer {
        return Err(format!(
            "DETAIL does not say {slug} and the customer:\n{}",
            explain(&error)
        )
        .into());
    }
    Ok(Answer::Refused(slug.into()))
}
