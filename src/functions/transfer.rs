//! Between wallets, and off: `transfer`, `freeze_wallet`, `unfreeze_wallet`, `close_wallet`.

use pgrx::pg_sys;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::once::{Outcome, once};
use super::request::{self, number};
use super::results::{CurrentBalance, wallet_row};
use crate::errors::{self, Result};
use crate::ledger::wallet::{EntryKind, Part, PendingEntry};
use crate::ledger::{Amount, Grant, Moment};
use crate::sql_types::value::Value;
use crate::sql_types::{Args, Row, args as arguments, row, value};
use crate::store::Store;
use crate::store::grants::{self, GrantTerms};
use crate::store::ledger::{self, Entry, Key, TransferEnd};
use crate::store::wallets::{self, OpenWallet};

// ---- transfer ---------------------------------------------------------------------------------

struct TransferRequest {
    customer: String,
    to_customer: String,
    credits: Decimal,
    asset: String,
    reason: Option<String>,
    key: Option<Key>,
}

/// A `credyt.transfer_result`.
struct TransferResult {
    id: Uuid,
    customer: String,
    to_customer: String,
    asset: String,
    credits: Amount,
    available: Amount,
    allocations: Value,
    reason: Option<String>,
    replayed: bool,
    created_at: Moment,
}

pub fn transfer(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let request = read(args)?;
    let answer = once(
        &request.customer,
        request.key.as_ref(),
        |store| give(store, &request).map(Outcome::of),
        |store, first| TransferResult::replayed(store, &request, first),
    )?;
    answer.row().datum(args)
}

fn read(args: &Args) -> Result<TransferRequest> {
    let customer = args.name("customer")?;
    let to_customer = args.name("to_customer")?;
    if to_customer == customer {
        return Err(errors::invalid(
            "to_customer",
            "a transfer goes to another customer",
        ));
    }
    let credits = args.quantity("credits")?;
    if credits.is_zero() {
        return Err(errors::invalid("credits", "a transfer of zero credits"));
    }
    let asset = args.name("asset")?;
    let fields = || {
        vec![
            ("to_customer", Some(to_customer.clone())),
            ("asset", Some(asset.clone())),
            number("credits", Some(credits)),
        ]
    };
    let key_text = args.optional_name("idempotency_key")?;
    Ok(TransferRequest {
        key: request::key(key_text, "transfer", fields),
        reason: args.text("reason")?,
        customer,
        to_customer,
        credits,
        asset,
    })
}

/// Books both sides; `None` when the key is taken. All that can be refused is refused before the
/// first row is written.
fn give(store: &Store, request: &TransferRequest) -> Result<Option<TransferResult>> {
    let (customer, to_customer) = (&request.customer, &request.to_customer);
    let (mut from, mut to) = wallets::open_two(store, customer, to_customer, &request.asset)?;
    from.active()?;
    to.not_closed()?;
    let credits = arguments::amount("credits", request.credits, from.asset.scale)?;
    let given = from.wallet.give(from.now, credits).map_err(|short| {
        errors::transfer_exceeds(customer, &request.asset, short, from.wallet.owed)
    })?;

    let mut moves: Vec<TransferPart> = given
        .into_iter()
        .map(|(origin, part)| TransferPart::new(origin, part, to.now))
        .collect();
    let arriving = moves.iter().map(|one| one.grant.clone()).collect();
    let paid_debts = to.issue_all(store, arriving)?;
    to.refilled();
    for one in &mut moves {
        one.count_settled(&paid_debts);
    }
    to.state()?;

    let leaving: Vec<TransferEnd> = moves.iter().map(TransferPart::leaving).collect();
    let allocations = value::jsonb(&ledger::transferred(&leaving, "to", to_customer));
    let mut sent = Entry {
        credits: -credits,
        allocations,
        reason: request.reason.clone(),
        ..Entry::new("transfer", from.now).under(request.key.as_ref())
    };
    if !from.book(store, &mut sent, Vec::new())? {
        return Ok(None);
    }
    let arrived: Vec<TransferEnd> = moves.iter().map(TransferPart::arriving).collect();
    let mut received = Entry {
        credits,
        allocations: value::jsonb(&ledger::transferred(&arrived, "from", customer)),
        refers_to: Some(sent.id),
        reason: request.reason.clone(),
        ..Entry::new("transfer", to.now)
    };
    if !to.book(store, &mut received, paid_debts)? {
        return Err(errors::corrupted("the ledger", "a transfer did not arrive"));
    }
    for one in &moves {
        grants::insert(store, &one.issued(to_customer, &request.asset, to.now))?;
    }
    Ok(Some(TransferResult {
        id: sent.id,
        customer: customer.clone(),
        to_customer: to_customer.clone(),
        asset: request.asset.clone(),
        credits,
        available: from.available(),
        allocations,
        reason: sent.reason,
        replayed: false,
        created_at: from.now,
    }))
}

/// Credits of one grant on their way into a new one.
struct TransferPart {
    origin: Grant,
    part: Part,
    grant: Grant,
    settled: Amount,
    debt_revenue: Amount,
}

impl TransferPart {
    fn new(origin: Grant, part: Part, now: Moment) -> TransferPart {
        TransferPart {
            grant: origin.moved(Uuid::now_v7(), now, part.credits, part.revenue),
            origin,
            part,
            settled: Amount::ZERO,
            debt_revenue: Amount::ZERO,
        }
    }

    /// What of it paid debts on arrival.
    fn count_settled(&mut self, paid_debts: &[PendingEntry]) {
        for due in paid_debts {
            if let EntryKind::Settled { part, .. } = &due.what
                && part.grant.is_some_and(|(id, _)| id == self.grant.id)
            {
                self.settled += part.credits;
                self.debt_revenue += part.revenue;
            }
        }
    }

    fn leaving(&self) -> TransferEnd {
        TransferEnd {
            here: self.part.clone(),
            there: self.grant.id,
        }
    }

    fn arriving(&self) -> TransferEnd {
        TransferEnd {
            here: Part {
                grant: Some((self.grant.id, self.grant.kind)),
                ..self.part.clone()
            },
            there: self.origin.id,
        }
    }

    fn issued(&self, customer: &str, asset: &str, now: Moment) -> GrantTerms {
        GrantTerms {
            credits: self.part.credits,
            paid: self.part.revenue,
            settled: self.settled,
            debt_revenue: self.debt_revenue,
            origin: Some(self.origin.id),
            ..GrantTerms::of(customer, asset, &self.grant, now)
        }
    }
}

impl TransferResult {
    /// The first answer again, with what is available now.
    fn replayed(store: &Store, request: &TransferRequest, first: Entry) -> Result<TransferResult> {
        Ok(TransferResult {
            id: first.id,
            customer: request.customer.clone(),
            to_customer: request.to_customer.clone(),
            available: CurrentBalance::now(store, &request.customer, &first.asset)?.available,
            asset: first.asset,
            credits: -first.credits,
            allocations: first.allocations,
            reason: first.reason,
            replayed: true,
            created_at: first.created_at,
        })
    }

    fn row(self) -> Row {
        row! {
            id: value::uuid(self.id),
            customer: value::text(&self.customer),
            to_customer: value::text(&self.to_customer),
            asset: value::text(&self.asset),
            credits: value::credits(self.credits),
            available: value::credits(self.available),
            allocations: self.allocations,
            reason: value::optional_text(self.reason.as_deref()),
            replayed: value::bool(self.replayed),
            created_at: value::moment(self.created_at),
        }
    }
}

// ---- freeze, unfreeze and close -------------------------------------------------------------------

pub fn freeze_wallet(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let asset = args.name("asset")?;
    let reason = args.text("reason")?;
    let open = set_status(&customer, &asset, "frozen", reason.as_deref())?;
    wallet_row(&open).datum(args)
}

pub fn unfreeze_wallet(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let asset = args.name("asset")?;
    let open = set_status(&customer, &asset, "active", None)?;
    wallet_row(&open).datum(args)
}

/// From active to frozen and back; WC006 where the wallet is neither.
fn set_status(
    customer: &str,
    asset: &str,
    status: &str,
    reason: Option<&str>,
) -> Result<OpenWallet> {
    Store::write(|store| {
        let mut open = wallets::open(store, customer, asset)?;
        if !["active", "frozen"].contains(&open.status.as_str()) {
            open.active()?;
        }
        open.set_status(store, status, reason)?;
        open.write_back(store)?;
        Ok(open)
    })
}

/// Lets the rest expire, for good. A wallet that is closed is answered as it is.
pub fn close_wallet(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let customer = args.name("customer")?;
    let asset = args.name("asset")?;
    let reason = args.text("reason")?;
    let open = Store::write(|store| {
        let mut open = wallets::open(store, &customer, &asset)?;
        open.book_due_now(store)?;
        if open.status == "closed" {
            open.write_back(store)?;
        } else {
            open.close(store, reason.as_deref())?;
        }
        Ok(open)
    })?;
    wallet_row(&open).datum(args)
}
