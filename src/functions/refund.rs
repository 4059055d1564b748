//! `refund`: give credits of a debit back to the grants that paid.

use pgrx::pg_sys;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::debit::movement;
use super::once::{Outcome, once};
use super::request;
use super::results::{DebitResult, FORFEITED};
use crate::errors::{self, Result};
use crate::ledger::refund::{self, GrantPayment, RefundPart};
use crate::ledger::wallet::{EntryKind, Part, PendingEntry};
use crate::ledger::{Amount, Moment};
use crate::sql_types::{Args, args, value};
use crate::store::Store;
use crate::store::costs;
use crate::store::grants::{self, GrantTerms};
use crate::store::ledger::{self, Entry, Key, given_back};
use crate::store::wallets::{self, OpenWallet};

struct RefundRequest {
    customer: String,
    debit_id: Uuid,
    credits: Option<Decimal>,
    restore_until: Option<Moment>,
    reason: Option<String>,
    key: Option<Key>,
}

pub fn refund(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let request = read(args)?;
    let answer = once(
        &request.customer,
        request.key.as_ref(),
        |store| give_back(store, &request).map(Outcome::of),
        |store, first| DebitResult::replayed(store, &request.customer, first),
    )?;
    answer.row(args)
}

fn read(args: &Args) -> Result<RefundRequest> {
    let customer = args.name("customer")?;
    let debit_id = args.uuid("debit_id")?;
    let credits = args.optional_quantity("credits")?;
    if credits.is_some_and(|credits| credits.is_zero()) {
        return Err(errors::invalid(
            "credits",
            "zero credits; NULL refunds the rest",
        ));
    }
    let fields = || {
        vec![
            ("debit_id", Some(debit_id.to_string())),
            request::number("credits", credits),
        ]
    };
    let key_text = args.optional_name("idempotency_key")?;
    Ok(RefundRequest {
        key: request::key(key_text, "refund", fields),
        restore_until: args.optional_moment("restore_until")?,
        reason: args.text("reason")?,
        customer,
        debit_id,
        credits,
    })
}

fn give_back(store: &Store, request: &RefundRequest) -> Result<Option<DebitResult>> {
    let customer = &request.customer;
    let seen = movement(store, customer, request.debit_id, "debit")?;
    if seen.kind != "debit" {
        return Err(errors::not_found("debit", customer, request.debit_id));
    }
    let mut open = wallets::open(store, customer, &seen.asset)?;
    if request.restore_until.is_some_and(|until| until <= open.now) {
        return Err(errors::invalid("restore_until", "it is not in the future"));
    }
    // Read under the lock: what was refunded and settled before counts.
    open.book_due_now(store)?;
    let history = ledger::referring_to(store, customer, request.debit_id)?;
    let RefundableDebit { mut paid, left } = refundable(&seen, &history)?;
    let asked = match request.credits {
        Some(credits) => args::amount("credits", credits, open.asset.scale)?,
        None => left,
    };
    if asked > left || left.is_zero() && !seen.credits.is_zero() {
        return Err(errors::refund_exceeds_debit(
            customer,
            request.debit_id,
            asked,
            left,
        ));
    }

    let forgiven = asked.min(open.owed_by(store, request.debit_id)?);
    open.lower_debt(store, request.debit_id, forgiven)?;
    let given = refund::give_back(&mut paid, asked - forgiven, |grant| {
        open.revoked(store, grant)
    })?;
    let mut back = ReturnedCredits {
        store,
        open: &mut open,
        request,
        parts: Vec::new(),
        moved: Vec::new(),
        reissued: Vec::new(),
        forfeits: false,
    };
    back.forgive(forgiven);
    for given in given {
        back.give(given)?;
    }
    let ReturnedCredits {
        parts,
        moved,
        reissued,
        forfeits,
        ..
    } = back;
    let revenue: Amount = parts.iter().map(|back| back.part.revenue).sum();

    let mut entry = Entry {
        action: seen.action.clone(),
        credits: asked,
        revenue: -revenue,
        costs: costs::weights_of(store, customer, &seen)?,
        allocations: value::jsonb(&given_back(&parts)),
        refers_to: Some(request.debit_id),
        reason: reason(request.reason.as_deref(), forfeits),
        ..Entry::new("refund", open.now).under(request.key.as_ref())
    };
    if !open.book(store, &mut entry, moved)? {
        return Ok(None);
    }
    for grant in &reissued {
        grants::insert(store, grant)?;
    }
    Ok(Some(DebitResult::booked(&open, entry)))
}

fn reason(given: Option<&str>, forfeits: bool) -> Option<String> {
    match (given, forfeits) {
        (given, false) => given.map(str::to_owned),
        (None, true) => Some(FORFEITED.to_owned()),
        (Some(given), true) => Some(format!("{FORFEITED}: {given}")),
    }
}

/// Credits on their way back.
struct ReturnedCredits<'a> {
    store: &'a Store,
    open: &'a mut OpenWallet,
    request: &'a RefundRequest,
    /// What the refund's row says.
    parts: Vec<RefundPart>,
    /// What moved on to new grants, and those.
    moved: Vec<PendingEntry>,
    reissued: Vec<GrantTerms>,
    /// Some of it goes to a grant that has ended or was revoked, or to a closed wallet.
    forfeits: bool,
}

impl ReturnedCredits<'_> {
    /// Credits that were owed are not owed any more.
    fn forgive(&mut self, credits: Amount) {
        if credits.is_positive() {
            self.parts.push(RefundPart {
                part: Part {
                    grant: None,
                    credits,
                    revenue: Amount::ZERO,
                },
                debts: Vec::new(),
            });
        }
    }

    fn give(&mut self, back: RefundPart) -> Result<()> {
        let credits = back.part.credits;
        let lowered = back.debts.last().filter(|_| back.part.grant.is_none());
        for debt in &back.debts {
            (self.open).return_debt(self.store, *debt, credits, lowered == Some(debt))?;
        }
        if let Some((id, _)) = back.part.grant {
            let revoked = grants::is_revoked(self.store, &self.request.customer, id)?;
            self.put_back(id, back.part.clone(), revoked)?;
        }
        self.parts.push(back);
        Ok(())
    }

    /// Into the grant; or, where that has ended and the caller says so, into a new one on its terms.
    /// A grant that has ended or was revoked loses them again when the wallet is swept.
    fn put_back(&mut self, id: Uuid, part: Part, revoked: bool) -> Result<()> {
        let customer = &self.request.customer;
        let origin = grants::by_id(self.store, customer, id)?
            .ok_or_else(|| errors::corrupted("the ledger", "a grant that paid is not there"))?;
        let ended = origin.expires_at.is_some_and(|end| end <= self.open.now);
        let reissues = ended && !revoked && self.request.restore_until.is_some();
        self.forfeits |= self.open.wallet.closed || revoked || ended && !reissues;
        if let (true, false, Some(until)) = (ended, revoked, self.request.restore_until) {
            let grant = GrantTerms {
                id: Uuid::now_v7(),
                credits: part.credits,
                paid: part.revenue,
                settled: Amount::ZERO,
                debt_revenue: Amount::ZERO,
                effective_at: self.open.now,
                expires_at: Some(until),
                origin: Some(id),
                created_at: self.open.now,
                payment: None,
                currency: None,
                currency_paid: None,
                exchange_rate: None,
                ..origin
            };
            self.open
                .add(grant.open(part.credits, part.revenue, false))?;
            let what = EntryKind::Moved { part, to: grant.id };
            self.moved.push(PendingEntry {
                at: self.open.now,
                what,
            });
            self.reissued.push(grant);
        } else if !self.open.wallet.restore(id, part.credits, part.revenue) {
            self.open
                .add(origin.open(part.credits, part.revenue, revoked))?;
        }
        Ok(())
    }
}

/// What a debit took and has not got back.
struct RefundableDebit {
    /// The payments of grants in the order they were made: with the debit, or for its debt later.
    paid: Vec<GrantPayment>,
    /// All that is left, with what is still owed.
    left: Amount,
}

/// `history` are the rows that refer to the debit: refunds, and settlements of its debt.
fn refundable(debit: &Entry, history: &[Entry]) -> Result<RefundableDebit> {
    let mut paid: Vec<GrantPayment> = Vec::new();
    let (mut left, mut back) = (-debit.credits, Amount::ZERO);
    for row in std::iter::once(debit).chain(history) {
        if row.kind != "refund" {
            paid.extend(row.parts()?.into_iter().filter_map(GrantPayment::of));
            continue;
        }
        left -= row.credits;
        for RefundPart { part, debts } in row.backs()? {
            // Without a grant and without a revocation the debit itself owed it.
            if part.grant.is_some() || !debts.is_empty() {
                back += part.credits;
            }
        }
    }
    refund::mark_back(&mut paid, back);
    Ok(RefundableDebit { paid, left })
}
