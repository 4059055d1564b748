//! Every error a caller can see: SQLSTATE, message, DETAIL and HINT. No other file names a SQLSTATE.
//!
//! DETAIL is a JSON object with `error` (the slug of the code), `customer` where there is one, and
//! the numbers of the case. HINT is the remedy, as SQL where it can be.

use std::fmt::Display;

use serde_json::{Map, Value, json};

use crate::ledger::limit::{Counts, Every, ExceededLimit, NotEvery};
use crate::ledger::month::MAX_ACTIONS;
use crate::ledger::plan::DifferentPeriods;
use crate::ledger::vendor::{Reason, Uncosted};
use crate::ledger::wallet::Shortfall;
use crate::ledger::{Amount, Moment};

pub type Result<T> = std::result::Result<T, Error>;

/// Says that direct access did not work as it must; the call itself goes on by SQL.
#[cfg(feature = "extension")]
pub fn warn_direct_access_failed(operation: &str) {
    pgrx::warning!(
        "credyt_pg: direct access could not {operation} a row that must be there; this session uses SQL from now on"
    );
}

/// What went wrong, in one of the ways the contract names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    InsufficientCredits,
    WalletNotFound,
    PriceNotFound,
    /// A price that starts from the vendor cost, which cannot be computed.
    CostUnknown,
    AuthorizationClosed,
    IdempotencyConflict,
    WalletFrozen,
    LimitExceeded,
    ScopeMissing,
    RefundExceedsDebit,
    AssetNotFound,
    PlanNotFound,
    NotFound,
    AppendOnly,
    InvalidInput,
    /// A price that counts what was used was asked for by usage that cannot be read.
    UsageUnreadable,
    InvalidText,
    OutOfRange,
    TooManyGrants,
    SerializationFailure,
    /// A trigger has changed what the call that it fires for is changing.
    TriggeredChange,
    TooManySubscriptions,
    TooManyActions,
    /// The library and the SQL objects do not fit.
    VersionsDiffer,
    /// Something has to be set up before.
    NotReady,
    /// A state that only damage explains.
    DataCorrupted,
}

impl Code {
    pub const fn sqlstate(self) -> &'static str {
        match self {
            Code::InsufficientCredits => "WC001",
            Code::WalletNotFound => "WC002",
            Code::PriceNotFound | Code::CostUnknown => "WC003",
            Code::AuthorizationClosed => "WC004",
            Code::IdempotencyConflict => "WC005",
            Code::WalletFrozen => "WC006",
            Code::LimitExceeded | Code::ScopeMissing => "WC007",
            Code::RefundExceedsDebit => "WC008",
            Code::AssetNotFound => "WC009",
            Code::PlanNotFound => "WC010",
            Code::NotFound => "WC011",
            Code::AppendOnly => "WC012",
            Code::InvalidInput | Code::UsageUnreadable => "22023",
            Code::InvalidText => "22P02",
            Code::OutOfRange => "22003",
            Code::TooManyGrants | Code::TooManySubscriptions | Code::TooManyActions => "54000",
            Code::SerializationFailure => "40001",
            Code::TriggeredChange => "27000",
            Code::VersionsDiffer | Code::NotReady => "55000",
            Code::DataCorrupted => "XX001",
        }
    }

    pub const fn slug(self) -> &'static str {
        match self {
            Code::InsufficientCredits => "insufficient_credits",
            Code::WalletNotFound => "wallet_not_found",
            Code::PriceNotFound | Code::CostUnknown => "price_not_found",
            Code::AuthorizationClosed => "authorization_closed",
            Code::IdempotencyConflict => "idempotency_conflict",
            Code::WalletFrozen => "wallet_frozen",
            Code::LimitExceeded => "limit_exceeded",
            Code::ScopeMissing => "scope_missing",
            Code::RefundExceedsDebit => "refund_exceeds_debit",
            Code::AssetNotFound => "asset_not_found",
            Code::PlanNotFound => "plan_not_found",
            Code::NotFound => "not_found",
            Code::AppendOnly => "append_only",
            Code::InvalidInput | Code::UsageUnreadable | Code::InvalidText => "invalid_input",
            Code::OutOfRange => "out_of_range",
            Code::TooManyGrants => "too_many_grants",
            Code::SerializationFailure => "serialization_failure",
            Code::TriggeredChange => "triggered_change",
            Code::TooManySubscriptions => "too_many_subscriptions",
            Code::TooManyActions => "too_many_actions",
            Code::VersionsDiffer => "versions_differ",
            Code::NotReady => "not_ready",
            Code::DataCorrupted => "data_corrupted",
        }
    }
}

/// An error on its way to the caller.
#[derive(Clone, Debug)]
pub struct Error {
    pub code: Code,
    message: String,
    detail: Map<String, Value>,
    hint: Option<String>,
}

impl Error {
    fn new(code: Code, message: impl Into<String>) -> Error {
        let mut detail = Map::new();
        detail.insert("error".to_owned(), json!(code.slug()));
        Error {
            code,
            message: message.into(),
            detail,
            hint: None,
        }
    }

    /// Says what the call was about, where the error does not say so itself.
    pub fn about(mut self, subject: Vec<(&'static str, String)>) -> Error {
        for (key, value) in subject {
            self.detail
                .entry(key)
                .or_insert_with(|| Value::String(value));
        }
        self
    }

    /// Says which element of a batch was refused: its place, from 0.
    pub fn at_index(mut self, index: usize) -> Error {
        let place = format!("requests[{index}]");
        match self.detail.get("argument").and_then(Value::as_str) {
            Some(argument) => {
                let within = format!("{place}.{argument}");
                // "invalid a: ..." or "a is out of range: ...".
                let start = match self.code {
                    Code::InvalidInput => "invalid ".len(),
                    _ => 0,
                };
                let rest = self.message.get(start..).unwrap_or_default();
                let rest = rest.replacen(argument, &within, 1);
                self.message.truncate(start);
                self.message.push_str(&rest);
                self.detail.insert("argument".to_owned(), json!(within));
            }
            None => self.message = format!("{place}: {}", self.message),
        }
        self.detail.insert("index".to_owned(), json!(index));
        self
    }

    fn with(mut self, key: &str, value: impl Display) -> Error {
        self.detail.insert(key.to_owned(), json!(value.to_string()));
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }
}

/// A text as a SQL literal, for hints: the same text whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// A name as a SQL identifier, for hints.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

// ---- what the caller passed -----------------------------------------------------------------

/// An argument is wrong: which, and why.
pub fn invalid(argument: &str, why: impl Display) -> Error {
    Error::new(Code::InvalidInput, format!("invalid {argument}: {why}")).with("argument", argument)
}

/// A text is no period of a limit.
pub fn invalid_every(text: &str, why: NotEvery) -> Error {
    match why {
        NotEvery::Other(why) => invalid("every", format_args!("{text:?} {why}")),
        NotEvery::Calendar(word) => {
            invalid("every", format_args!("{text:?} is not a valid window"))
                .hint(format!("A calendar {word} is every => '{word}'."))
        }
    }
}

/// What is paid in a currency needs a rate when it is booked.
pub fn no_exchange_rate(currency: &str, to_currency: &str) -> Error {
    invalid(
        "currency",
        format_args!("no exchange rate from {currency} to {to_currency} is known"),
    )
    .hint(format!(
        "Set it: SELECT * FROM credyt.set_exchange_rate('{currency}', '{to_currency}', ...);"
    ))
}

/// A key of a request is no argument of the function.
pub fn no_such_argument(function: &str, key: &str, nearest: Option<&str>) -> Error {
    let shown: String = key.chars().take(40).collect();
    let error = invalid(&shown, format_args!("{function} has no such argument"));
    match nearest {
        None => error,
        Some(name) => error
            .with("nearest", name)
            .hint(format!("The nearest argument is {name}.")),
    }
}

/// A request that Postgres took for a text, since it had no type.
pub fn customer_is_an_object(argument: &str) -> Error {
    invalid(
        argument,
        "it begins with { or [object: an object was passed as a text",
    )
    .hint("Cast a request to jsonb: '{\"customer\": ...}'::jsonb")
}

/// An element of a batch is no JSON object.
pub fn not_an_object() -> Error {
    Error::new(Code::InvalidInput, "it has to be a JSON object")
}

/// An argument is beyond the sizes that the ledger keeps.
pub fn out_of_range(argument: &str, why: impl Display) -> Error {
    Error::new(
        Code::OutOfRange,
        format!("{argument} is out of range: {why}"),
    )
    .with("argument", argument)
}

/// There is no such role, and none is made.
pub fn role_not_found(role: &str) -> Error {
    invalid("role", format_args!("there is no role {role}"))
        .with("role", role)
        .hint(format!("Create it: CREATE ROLE {};", identifier(role)))
}

/// What everyone may do is not to be changed.
pub fn role_is_everyone() -> Error {
    invalid("role", "public is everyone")
        .with("role", "public")
        .hint("Name the role that needs it; make one with CREATE ROLE.")
}

/// A cluster that tables cannot be distributed over as it is.
fn not_ready(message: impl Into<String>, hint: &str) -> Error {
    Error::new(Code::NotReady, message).hint(hint)
}

pub fn no_citus() -> Error {
    not_ready(
        "this database has no Citus",
        "Add citus to shared_preload_libraries on every node, restart, and run CREATE EXTENSION citus in this database on each.",
    )
}

pub fn not_the_coordinator() -> Error {
    not_ready(
        "this node is not the coordinator of the cluster",
        "Call distribute on the coordinator.",
    )
}

pub fn coordinator_not_in_cluster() -> Error {
    not_ready(
        "the cluster does not know the coordinator's address, so it would have no copy of prices and assets",
        "SELECT citus_set_coordinator_host('address of this server');",
    )
}

pub fn no_workers() -> Error {
    not_ready(
        "the cluster has no node that takes shards",
        "SELECT citus_add_node('address of a worker', 5432);",
    )
}

pub fn node_not_ready(node: &str, why: &str) -> Error {
    not_ready(
        format!("node {node} is not ready: {why}"),
        "Install the same version of credyt_pg on every node; CREATE EXTENSION credyt_pg on the coordinator reaches them all.",
    )
    .with("node", node)
}

pub fn node_refused(node: &str, why: &str) -> Error {
    not_ready(
        format!("node {node} failed: {why}"),
        "Repair the node and create the coordinator's roles on it; then call again.",
    )
    .with("node", node)
}

pub fn already_distributed() -> Error {
    not_ready(
        "the tables of credyt_pg are distributed already",
        "SELECT * FROM pg_dist_partition; shows how.",
    )
}

/// The functions run with the owner's rights, so it keeps them all.
pub fn role_is_owner(role: &str) -> Error {
    invalid(
        "role",
        format_args!("{role} owns credyt_pg and may do everything"),
    )
    .with("role", role)
    .hint("Give the work to another role: CREATE ROLE.")
}

/// A vendor's usage that cannot be read, or cannot be: whose it is, which field, and why.
pub fn usage_invalid(vendor: &str, model: Option<&str>, why: impl Display) -> Error {
    let model = model.unwrap_or("(no model)");
    let error = invalid("usage", format_args!("{vendor} {model}: {why}"));
    Error {
        code: Code::UsageUnreadable,
        ..error.with("vendor", vendor).with("model", model)
    }
}

/// A text or bytes that are no `credyt.wallet`.
pub fn not_a_wallet(why: impl Display) -> Error {
    Error::new(
        Code::InvalidText,
        format!("invalid input for type credyt.wallet: {why}"),
    )
}

// ---- what is not there ----------------------------------------------------------------------

pub fn wallet_not_found(customer: &str, asset: &str) -> Error {
    Error::new(
        Code::WalletNotFound,
        format!("customer {customer} has no wallet for {asset}"),
    )
    .with("customer", customer)
    .with("asset", asset)
    .hint(format!(
        "Grant some credits first: SELECT * FROM credyt.grant_credits({}, 100, asset => {});",
        literal(customer),
        literal(asset)
    ))
}

/// For a call about a customer as a whole.
pub fn no_wallet(customer: &str) -> Error {
    Error::new(
        Code::WalletNotFound,
        format!("customer {customer} has no wallet"),
    )
    .with("customer", customer)
    .hint("List the customers: SELECT DISTINCT customer FROM credyt.wallets;")
}

pub fn asset_not_found(asset: &str) -> Error {
    Error::new(Code::AssetNotFound, format!("there is no asset {asset}"))
        .with("asset", asset)
        .hint(format!(
            "Create it: SELECT * FROM credyt.create_asset({});",
            literal(asset)
        ))
}

pub fn plan_not_found(plan: &str) -> Error {
    Error::new(Code::PlanNotFound, format!("there is no plan {plan}"))
        .with("plan", plan)
        .hint(format!(
            "Create it: SELECT * FROM credyt.create_plan({}, 100);",
            literal(plan)
        ))
}

/// The customer was never subscribed to the plan.
pub fn not_subscribed(customer: &str, plan: &str) -> Error {
    Error::new(
        Code::NotFound,
        format!("customer {customer} has no subscription to plan {plan}"),
    )
    .with("customer", customer)
    .with("plan", plan)
    .hint(format!(
        "Subscribe first: SELECT * FROM credyt.subscribe({}, {});",
        literal(customer),
        literal(plan)
    ))
}

/// The subscription has moved to another plan. A call that ends it has to name that one, since it may come late.
pub fn subscribed_elsewhere(customer: &str, plan: &str, known: &str) -> Error {
    let (whom, on) = (literal(customer), literal(known));
    not_subscribed(customer, plan).hint(format!(
        "It was moved to plan {known}; to end it: SELECT * FROM credyt.unsubscribe({whom}, {on});"
    ))
}

/// An id that is not this customer's.
pub fn not_found(what: &str, customer: &str, id: impl Display) -> Error {
    let view = match what {
        "grant" => "grant_balances",
        "authorization" => "open_authorizations",
        "event" => "events_pending",
        "payment" => "grant_balances",
        _ => "statement",
    };
    Error::new(
        Code::NotFound,
        format!("customer {customer} has no {what} {id}"),
    )
    .with("customer", customer)
    .with("id", id)
    .hint(format!(
        "Pass an id of this customer. List them: SELECT * FROM credyt.{view} WHERE customer = {};",
        literal(customer)
    ))
}

/// An id that is no event's, or was forgotten after it was acknowledged.
pub fn event_not_found(id: impl Display) -> Error {
    Error::new(Code::NotFound, format!("there is no event {id}"))
        .with("id", id)
        .hint("List the events: SELECT * FROM credyt.events_pending;")
}

/// None is set, or it was withdrawn.
pub fn price_not_found(action: &str, asset: &str) -> Error {
    Error::new(
        Code::PriceNotFound,
        format!("action {action} has no price in {asset}"),
    )
    .with("action", action)
    .with("asset", asset)
    .hint(format!(
        "Set one: SELECT * FROM credyt.set_price({}, '1', asset => {}); or pass credits.",
        literal(action),
        literal(asset)
    ))
}

/// A price whose cases match what is asked for not at all, or ambiguously.
pub fn price_does_not_match(action: &str, asset: &str, why: impl Display) -> Error {
    Error::new(Code::PriceNotFound, format!("no price for action {action} in {asset}: {why}"))
        .with("action", action)
        .with("asset", asset)
        .hint("Pass dimensions that exactly one case of the price matches best, or credits; or set a price with a case for all others.")
}

/// The vendor cost that a cost_plus price starts from cannot be computed.
pub fn cost_unknown(
    action: &str,
    asset: &str,
    vendor: &str,
    model: Option<&str>,
    why: &Uncosted,
) -> Error {
    let of = model.map_or_else(|| vendor.to_owned(), |model| format!("{vendor} {model}"));
    let remedy = match why.reason {
        Reason::VendorUnknown | Reason::ModelUnknown | Reason::UnitUnpriced => {
            "Set the vendor's rate (credyt.set_vendor_rate), or pass cost (money) or credits."
        }
        Reason::CurrencyForeign => {
            "Set the exchange rate (credyt.set_exchange_rate), or pass cost (money) or credits."
        }
        _ => "Pass cost (money) or credits.",
    };
    Error::new(
        Code::CostUnknown,
        format!(
            "the vendor cost that the price of {action} starts from cannot be computed: {of}: {}",
            why.says
        ),
    )
    .with("action", action)
    .with("asset", asset)
    .with("vendor", vendor)
    .with("model", model.unwrap_or("(no model)"))
    .with("reason", why.reason.code())
    .hint(remedy)
}

// ---- what the wallet refuses ----------------------------------------------------------------

/// More credits are asked for than there are.
fn short_of(customer: &str, asset: &str, short: Shortfall) -> Error {
    Error::new(
        Code::InsufficientCredits,
        format!(
            "{customer} needs {} {asset}, {} available",
            short.needed, short.available
        ),
    )
    .with("customer", customer)
    .with("asset", asset)
    .with("needed", short.needed)
    .with("available", short.available)
}

/// The wallet cannot pay. `over` is the debt that a grant has to pay before its credits can be spent.
pub fn insufficient_credits(customer: &str, asset: &str, short: Shortfall, over: Amount) -> Error {
    let missing = short.needed - short.available + over;
    short_of(customer, asset, short).with("missing", missing).hint(format!(
        "Grant at least {missing} more: SELECT * FROM credyt.grant_credits({}, {missing}, asset => {});",
        literal(customer),
        literal(asset)
    ))
}

/// The wallet has fewer unheld credits of its own than a transfer asks for.
pub fn transfer_exceeds(customer: &str, asset: &str, short: Shortfall, owed: Amount) -> Error {
    let missing = short.needed - short.available + owed;
    short_of(customer, asset, short).with("missing", missing).hint(format!(
        "Held credits and the overdraft cannot be transferred. Grant at least {missing} more: SELECT * FROM credyt.grant_credits({}, {missing}, asset => {});",
        literal(customer),
        literal(asset)
    ))
}

/// More is to be revoked than is unheld.
pub fn revocation_exceeds(customer: &str, asset: &str, short: Shortfall) -> Error {
    short_of(customer, asset, short).hint(
        "Pass credits => NULL to revoke the whole grant: unheld credits now, held ones when they return.",
    )
}

/// A capture above the hold that free credits cannot pay.
pub fn capture_exceeds(
    customer: &str,
    asset: &str,
    authorization: impl Display,
    total: Amount,
    short: Shortfall,
) -> Error {
    let payable = total - (short.needed - short.available);
    let error = short_of(customer, asset, short)
        .with("authorization_id", &authorization)
        .with("payable", payable);
    error.hint(format!(
        "The authorization stays open. Capture what can be paid: SELECT * FROM credyt.capture({}, '{authorization}', credits => {payable});",
        literal(customer)
    ))
}

pub fn wallet_frozen(customer: &str, asset: &str, status: &str) -> Error {
    let error = Error::new(
        Code::WalletFrozen,
        format!("the wallet of customer {customer} for {asset} is {status}"),
    )
    .with("customer", customer)
    .with("asset", asset)
    .with("status", status);
    match status {
        "frozen" => error.hint(format!(
            "Captures, releases and refunds go on. To allow spending again: SELECT * FROM credyt.unfreeze_wallet({}, {});",
            literal(customer),
            literal(asset)
        )),
        _ => error.hint("A closed wallet stays closed. Captures, releases and refunds of earlier calls go on."),
    }
}

/// A spend limit has no room for it in the period that runs.
pub fn limit_exceeded(customer: &str, asset: &str, over: &ExceededLimit) -> Error {
    let ExceededLimit {
        scope,
        every,
        counts,
        cap,
        resets_at,
        used,
        held,
        needed,
    } = over;
    let enough = *used + *held + *needed;
    let period = match every {
        Every::Ever => "in all".to_owned(),
        every => format!("per {every}"),
    };
    let message = match counts {
        Counts::Credits => format!(
            "{customer} may spend {cap} {asset} {period} for {scope}: {used} spent, {held} held, {needed} needed"
        ),
        Counts::Calls => {
            format!("{customer} may make {cap} calls {period} for {scope}: {used} made")
        }
    };
    let resets = resets_at.map(|at| format!("The limit resets at {at}. Or allow"));
    let counting = match counts {
        Counts::Credits => "",
        Counts::Calls => ", counts => 'calls'",
    };
    let error = Error::new(Code::LimitExceeded, message);
    let error = match resets_at {
        Some(at) => error.with("resets_at", at),
        None => error,
    };
    error
        .with("customer", customer)
        .with("asset", asset)
        .with("scope", scope)
        .with("every", every)
        .with("counts", counts)
        .with("cap", cap)
        .with("used", used)
        .with("held", held)
        .with("needed", needed)
        .hint(format!(
            "{} more: SELECT * FROM credyt.set_limit({}, {}, {enough}, '{every}', asset => {}{counting});",
            resets.as_deref().unwrap_or("Allow"),
            literal(customer),
            literal(scope),
            literal(asset)
        ))
}

/// A call names no scope that a limit requires.
pub fn scope_missing(customer: &str, asset: &str, scope: &str) -> Error {
    Error::new(
        Code::ScopeMissing,
        format!("{customer} has a limit that requires a scope {scope}, and the call names none"),
    )
    .with("customer", customer)
    .with("asset", asset)
    .with("scope", scope)
    .hint(format!(
        "Name who spends: scopes => '{{{}...}}'",
        scope.trim_end_matches('*')
    ))
}

/// A capture above the hold that a spend limit has no room for.
pub fn capture_over_limit(
    customer: &str,
    asset: &str,
    authorization: impl Display,
    payable: Amount,
    over: &ExceededLimit,
) -> Error {
    limit_exceeded(customer, asset, over)
        .with("authorization_id", &authorization)
        .hint(format!(
            "The authorization stays open. Capture what the limit allows: SELECT * FROM credyt.capture({}, '{authorization}', credits => {payable});",
            literal(customer)
        ))
}

pub fn authorization_closed(customer: &str, id: impl Display, status: &str, verb: &str) -> Error {
    Error::new(
        Code::AuthorizationClosed,
        format!("authorization {id} of customer {customer} is {status}: it cannot be {verb}"),
    )
    .with("customer", customer)
    .with("authorization_id", id)
    .with("status", status)
    .hint("Charge the rest with credyt.debit_credits, or authorize again.")
}

/// More is to be refunded than is left of the debit, or nothing is left.
pub fn refund_exceeds_debit(
    customer: &str,
    debit: impl Display,
    asked: Amount,
    refundable: Amount,
) -> Error {
    let (message, hint) = if refundable.is_zero() {
        (
            format!("debit {debit} of customer {customer} is fully refunded"),
            format!(
                "Nothing is left to give back. See its refunds: SELECT * FROM credyt.ledger WHERE customer = {} AND refers_to = '{debit}';",
                literal(customer)
            ),
        )
    } else {
        (
            format!(
                "debit {debit} of customer {customer} has {refundable} credits left to refund, but {asked} were asked for"
            ),
            "Pass credits => NULL to refund what is left.".to_owned(),
        )
    };
    Error::new(Code::RefundExceedsDebit, message)
        .with("customer", customer)
        .with("debit_id", debit)
        .with("needed", asked)
        .with("refundable", refundable)
        .hint(hint)
}

/// The same key with another request.
pub fn idempotency_conflict(customer: &str, key: &str) -> Error {
    Error::new(
        Code::IdempotencyConflict,
        format!("idempotency key {key} of customer {customer} was used for another request"),
    )
    .with("customer", customer)
    .with("idempotency_key", key)
    .hint("Use a new key for a new request.")
}

// ---- what the books refuse ------------------------------------------------------------------

/// An attempt to change a fact.
pub fn append_only(table: &str, operation: &str) -> Error {
    Error::new(
        Code::AppendOnly,
        format!("{operation} on credyt.{table} is refused: the table is append-only"),
    )
    .with("table", table)
    .with("operation", operation)
    .hint("Book a correction instead: refund, revoke_grant, set_price or record a new row.")
}

pub fn asset_differs(asset: &str) -> Error {
    invalid(
        "asset",
        format_args!("asset {asset} exists with another definition"),
    )
    .with("asset", asset)
    .hint("An asset never changes; create another one under a new name.")
}

pub fn too_many_grants(customer: &str, asset: &str) -> Error {
    Error::new(
        Code::TooManyGrants,
        format!("the wallet of customer {customer} for {asset} has 1000 open grants already"),
    )
    .with("customer", customer)
    .with("asset", asset)
    .hint("Revoke grants that are not needed, or let them be spent or expire first.")
}

/// A plan's credits are of one asset for ever.
pub fn plan_differs(plan: &str, asset: &str) -> Error {
    invalid(
        "asset",
        format_args!("plan {plan} gives {asset}, and its asset never changes"),
    )
    .with("plan", plan)
    .hint("Create another plan under a new name.")
}

pub fn plan_of_another_asset(plan: &str, asset: &str, of: &str) -> Error {
    invalid(
        "to_plan",
        format_args!("plan {plan} gives {asset}, the subscription {of}"),
    )
    .with("plan", plan)
    .with("asset", asset)
    .hint("Subscribe to it, and unsubscribe from the other plan.")
}

/// A subscription has one seat at least.
pub fn no_seats() -> Error {
    invalid("quantity", "it is zero").hint("To give up the last seat, call credyt.unsubscribe.")
}

/// Seats change by `change_plan` alone, so that a retry cannot change them back.
pub fn other_quantity(customer: &str, plan: &str, has: u32, asked: u32) -> Error {
    invalid(
        "quantity",
        format_args!("customer {customer} is on plan {plan} {has} times already, not {asked}"),
    )
    .with("customer", customer)
    .with("plan", plan)
    .with("quantity", has)
    .hint(format!(
        "Change it: SELECT * FROM credyt.change_plan({}, {}, quantity => {asked});",
        literal(customer),
        literal(plan)
    ))
}

/// A subscription that is on another plan now has given this plan's credits in the period that runs, or will
/// with the next one.
pub fn goes_on_as(customer: &str, plan: &str, known: &str, ended: bool) -> Error {
    let (whom, from, to) = (literal(customer), literal(known), literal(plan));
    let error = invalid(
        "plan",
        format_args!(
            "customer {customer} has plan {plan} already in this period or the next: the subscription is on plan {known}"
        ),
    )
    .with("customer", customer)
    .with("plan", plan);
    error.hint(if ended {
        format!("Resume that one first: SELECT * FROM credyt.subscribe({whom}, {from});")
    } else if plan == known {
        format!(
            "Change the seats of it: SELECT * FROM credyt.change_plan({whom}, {to}, quantity => 2);"
        )
    } else {
        format!("Move it back: SELECT * FROM credyt.change_plan({whom}, {from}, to_plan => {to});")
    })
}

/// A subscription, asked for without a key, to a plan that a running one was moved from.
pub fn moved_on(customer: &str, plan: &str, known: &str) -> Error {
    let (whom, from, to) = (literal(customer), literal(known), literal(plan));
    invalid(
        "plan",
        format_args!("the subscription of customer {customer} was moved from plan {plan} to plan {known}"),
    )
    .with("customer", customer)
    .with("plan", plan)
    .hint(format!(
        "Move it back: SELECT * FROM credyt.change_plan({whom}, {from}, to_plan => {to}); or pass an idempotency_key for a second subscription beside it."
    ))
}

/// A change at the next renewal of a subscription that ends before it.
pub fn no_renewal(customer: &str, plan: &str, ends_at: Moment) -> Error {
    invalid(
        "at",
        format_args!("the subscription of customer {customer} to plan {plan} ends at {ends_at}, before its next renewal"),
    )
    .with("customer", customer)
    .with("plan", plan)
    .with("ends_at", ends_at.to_string())
    .hint(format!(
        "Resume it first: SELECT * FROM credyt.subscribe({}, {});",
        literal(customer),
        literal(plan)
    ))
}

pub fn different_periods(plan: &str, to_plan: &str, why: DifferentPeriods) -> Error {
    invalid(
        "proration",
        format_args!(
            "a period of plan {plan} is {}, one of plan {to_plan} {}: a difference needs equal periods",
            why.from, why.to
        ),
    )
    .with("plan", plan)
    .with("to_plan", to_plan)
    .hint("Pass proration => 'restart' or 'none', or at => 'renewal'.")
}

pub fn too_many_actions(customer: &str, asset: &str) -> Error {
    Error::new(
        Code::TooManyActions,
        format!(
            "the wallet of customer {customer} for {asset} counts {MAX_ACTIONS} actions in this month already"
        ),
    )
    .with("customer", customer)
    .with("asset", asset)
    .hint("Price fewer actions with \"over\": \"month\"; separate kinds of one action with match.")
}

pub fn too_many_subscriptions(customer: &str, asset: &str, most: usize) -> Error {
    Error::new(
        Code::TooManySubscriptions,
        format!("customer {customer} has {most} running subscriptions for {asset} already"),
    )
    .with("customer", customer)
    .with("asset", asset)
    .hint("End those that are not needed with credyt.unsubscribe.")
}

pub fn too_many_alerts(customer: &str, asset: &str, most: usize) -> Error {
    invalid(
        "threshold",
        format_args!("the wallet of customer {customer} for {asset} has {most} alerts already"),
    )
    .with("customer", customer)
    .with("asset", asset)
    .hint("Remove all of them with a threshold of NULL, then set those that are needed.")
}

pub fn wallet_too_large(customer: &str, asset: &str) -> Error {
    Error::new(
        Code::OutOfRange,
        format!("the wallet of customer {customer} for {asset} would reach 1e18"),
    )
    .with("customer", customer)
    .with("asset", asset)
}

/// A trigger made a call about a wallet that the outer call was changing.
pub fn written_by_trigger(customer: &str, asset: &str) -> Error {
    Error::new(
        Code::TriggeredChange,
        format!("a trigger has changed the wallet of customer {customer} for {asset} meanwhile"),
    )
    .with("customer", customer)
    .with("asset", asset)
    .hint("Let a constraint trigger do it at the end of the transaction: DEFERRABLE INITIALLY DEFERRED.")
}

/// Two transactions set rates, and this one does not see what the other did.
pub fn rates_changed() -> Error {
    Error::new(
        Code::SerializationFailure,
        "could not serialize access: another transaction has added rates",
    )
    .hint("Run the transaction again.")
}

/// A snapshot that does not see which periods are closed, or which wallets there are.
pub fn snapshot_too_old(asset: &str) -> Error {
    Error::new(
        Code::SerializationFailure,
        format!("could not serialize access: the books of {asset} have changed since this transaction began"),
    )
    .with("asset", asset)
    .hint("Run the transaction again.")
}

/// The rollups took in more of a customer than this transaction sees.
pub fn reports_changed(customer: &str) -> Error {
    Error::new(
        Code::SerializationFailure,
        format!("could not serialize access: the reports about {customer} have changed since this transaction began"),
    )
    .with("customer", customer)
    .hint("Run the transaction again.")
}

/// An upgrade that has been half done: the library is from one version, the SQL objects from another.
pub fn versions_differ(installed: &str, library: &str, update: bool) -> Error {
    Error::new(
        Code::VersionsDiffer,
        format!("this library is credyt_pg {library}, and does not work with SQL objects of {installed}"),
    )
    .with("installed", installed)
    .with("library", library)
    .hint(if update {
        "ALTER EXTENSION credyt_pg UPDATE;"
    } else {
        "Connect again: a session goes on with the library that it began with. If that does not help, install the newer library."
    })
}

/// A stored row that cannot be read: only damage explains it.
pub fn corrupted(what: &str, why: impl Display) -> Error {
    Error::new(Code::DataCorrupted, format!("{what} is damaged: {why}"))
        .hint("SELECT * FROM credyt.verify(); names every wallet that is wrong.")
}

// ---- the one place where an error becomes Postgres' -------------------------------------------

#[cfg(feature = "extension")]
mod raise {
    use std::ffi::{CStr, CString, c_char, c_int};

    use pgrx::pg_sys;

    use super::Error;

    // Postgres' own error reporting, which pgrx keeps to itself because its error codes are a closed
    // list. Class WC is not in it.
    unsafe extern "C-unwind" {
        fn errstart(elevel: c_int, domain: *const c_char) -> bool;
        fn errcode(sqlerrcode: c_int) -> c_int;
        fn errmsg_internal(fmt: *const c_char, ...) -> c_int;
        fn errdetail_internal(fmt: *const c_char, ...) -> c_int;
        fn errhint(fmt: *const c_char, ...) -> c_int;
        fn errfinish(filename: *const c_char, lineno: c_int, funcname: *const c_char);
    }

    /// An error whose texts Postgres owns, so that nothing is left to drop when it is raised.
    pub struct RaisedError {
        sqlstate: c_int,
        message: *mut c_char,
        detail: *mut c_char,
        hint: *mut c_char,
    }

    impl RaisedError {
        /// Hands the texts to Postgres' current memory context.
        pub fn from(error: Error) -> RaisedError {
            let detail = serde_json::Value::Object(error.detail).to_string();
            RaisedError {
                sqlstate: encode(error.code.sqlstate()),
                message: palloc(&error.message),
                detail: palloc(&detail),
                hint: error.hint.as_deref().map_or(std::ptr::null_mut(), palloc),
            }
        }

        /// Raises it. Does not return.
        ///
        /// # Safety
        /// It leaves by longjmp: the caller's frames, up to Postgres, must own no Rust value that
        /// has to be dropped.
        pub unsafe fn raise(self) -> ! {
            const TEXT: *const c_char = c"%s".as_ptr();
            // SAFETY: the calls ereport(ERROR, ...) makes, in its order; the texts were palloc'd.
            unsafe {
                if errstart(pgrx::PgLogLevel::ERROR as c_int, std::ptr::null()) {
                    errcode(self.sqlstate);
                    errmsg_internal(TEXT, self.message);
                    errdetail_internal(TEXT, self.detail);
                    if !self.hint.is_null() {
                        errhint(TEXT, self.hint);
                    }
                    errfinish(std::ptr::null(), 0, std::ptr::null());
                }
            }
            unreachable!("errfinish(ERROR) does not return")
        }
    }

    /// A copy in Postgres' memory; a NUL, which Postgres refuses in any text, would end it.
    fn palloc(text: &str) -> *mut c_char {
        let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
        // SAFETY: pstrdup copies a valid C string into the current memory context.
        unsafe { pg_sys::pstrdup(CStr::as_ptr(&text)) }
    }

    /// Postgres' MAKE_SQLSTATE: six bits a character.
    fn encode(sqlstate: &str) -> c_int {
        let six = |byte: u8| c_int::from(byte.wrapping_sub(b'0') & 0x3f);
        sqlstate
            .bytes()
            .enumerate()
            .map(|(i, byte)| six(byte) << (6 * i))
            .sum()
    }
}

#[cfg(feature = "extension")]
pub use raise::RaisedError;
