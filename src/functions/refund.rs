//! `refund`: give credits of a debit back to the grants that paid.

use pgrx::pg_sys;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::answers::DebitAnswer;
use super::debit::{movement, once};
use super::request;
use crate::errors::{self, Result};
use crate::ledger::wallet::{Decided, Due, Part, total};
use crate::ledger::{Amount, Kind, Moment};
use crate::sql_types::{Args, args, value};
use crate::store::Store;
use crate::store::costs;
use crate::store::grants::{self, Issued};
use crate::store::ledger::{self, Booked, Entry, Key, allocations};
use crate::store::wallets::{self, OpenWallet};

struct Request {
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
        |store| give_back(store, &request),
        |store, first| DebitAnswer::replayed(store, &request.customer, first),
    )?;
    answer.row(args)
}

fn read(args: &Args) -> Result<Request> {
    let customer = args.name(0, "customer")?;
    let debit_id = args.uuid(1, "debit_id")?;
    let credits = args.optional_quantity(2, "credits")?;
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
    let key_text = args.optional_name(5, "idempotency_key")?;
    Ok(Request {
        key: request::key(key_text, "refund", fields),
        restore_until: args.optional_moment(3, "restore_until")?,
        reason: args.text(4, "reason")?,
        customer,
        debit_id,
        credits,
    })
}

fn give_back(store: &Store, request: &Request) -> Result<Option<DebitAnswer>> {
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
    let Refundable { grants: paid, left } = refundable(&seen, &history)?;
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
    let mut back = Back {
        store,
        open: &mut open,
        request,
        parts: Vec::new(),
        moved: Vec::new(),
        reissued: Vec::new(),
        forfeits: false,
    };
    back.forgive(forgiven);
    back.restore(paid, asked - forgiven)?;
    let Back {
        parts,
        moved,
        reissued,
        forfeits,
        ..
    } = back;

    let mut entry = Entry {
        action: seen.action.clone(),
        credits: total(&parts),
        revenue: -parts.iter().map(|part| part.revenue).sum::<Amount>(),
        costs: costs::weights_of(store, customer, &seen)?,
        allocations: value::jsonb(&allocations(&parts, "revenue")),
        refers_to: Some(request.debit_id),
        reason: reason(request.reason.as_deref(), forfeits),
        key: request.key.clone(),
        ..Entry::new("refund", open.now)
    };
    if !open.book(store, &mut entry, moved)? {
        return Ok(None);
    }
    for grant in &reissued {
        grants::insert(store, customer, grant)?;
    }
    Ok(Some(DebitAnswer::booked(&open, entry)))
}

/// What the row of a refund says when some of it did not come back, before the caller's own reason.
pub const FORFEITED: &str = "forfeited";

fn reason(given: Option<&str>, forfeits: bool) -> Option<String> {
    match (given, forfeits) {
        (given, false) => given.map(str::to_owned),
        (None, true) => Some(FORFEITED.to_owned()),
        (Some(given), true) => Some(format!("{FORFEITED}: {given}")),
    }
}

/// Credits on their way back.
struct Back<'a> {
    store: &'a Store,
    open: &'a mut OpenWallet,
    request: &'a Request,
    /// What the refund's row says.
    parts: Vec<Part>,
    /// What moved on to new grants, and those.
    moved: Vec<Due>,
    reissued: Vec<Issued>,
    /// Some of it goes to a grant that has ended or was revoked, or to a closed wallet.
    forfeits: bool,
}

impl Back<'_> {
    /// Credits that were owed are not owed any more.
    fn forgive(&mut self, credits: Amount) {
        if credits.is_positive() {
            self.parts.push(Part {
                grant: None,
                credits,
                revenue: Amount::ZERO,
            });
        }
    }

    /// Gives credits back to the grants that paid, the last one first, each with its share of the
    /// revenue.
    fn restore(&mut self, paid: Vec<Paid>, credits: Amount) -> Result<()> {
        let mut left = credits;
        for paid in paid.into_iter().rev() {
            let credits = left.min(paid.credits);
            if credits.is_zero() {
                continue;
            }
            left -= credits;
            let revocation = grants::revocation_of(self.store, &self.request.customer, paid.id)?;
            // Revenue that a revocation took back since is not given back twice.
            let revenue = if revocation.reclaimed_at > paid.seq {
                Amount::ZERO
            } else {
                paid.revenue.share(credits, paid.credits)
            };
            let part = Part {
                grant: Some((paid.id, paid.kind)),
                credits,
                revenue,
            };
            self.parts.push(part.clone());
            self.put_back(paid.id, part, revocation.whole)?;
        }
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
            let grant = Issued {
                id: Uuid::now_v7(),
                credits: part.credits,
                paid: part.revenue,
                settled: Amount::ZERO,
                settled_revenue: Amount::ZERO,
                effective_at: self.open.now,
                expires_at: Some(until),
                origin: Some(id),
                created_at: self.open.now,
                ..origin
            };
            self.open
                .add(grant.open(part.credits, part.revenue, false))?;
            let what = Decided::Moved { part, to: grant.id };
            self.moved.push(Due {
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

/// What one grant paid for a debit, less what it got back.
struct Paid {
    id: Uuid,
    kind: Kind,
    credits: Amount,
    revenue: Amount,
    /// The ledger row it paid with last.
    seq: i64,
}

/// What a debit took and has not got back.
struct Refundable {
    /// By the grants that paid, in the order they paid: with the debit, or its debt later.
    grants: Vec<Paid>,
    /// All that is left, with what is still owed.
    left: Amount,
}

/// `history` are the rows that refer to the debit: refunds, and settlements of its debt.
fn refundable(debit: &Booked, history: &[Booked]) -> Result<Refundable> {
    let mut grants: Vec<Paid> = Vec::new();
    let mut left = -debit.credits;
    for row in std::iter::once(debit).chain(history) {
        let refund = row.kind == "refund";
        if refund {
            left -= row.credits;
        }
        for part in row.parts()? {
            let Some((id, kind)) = part.grant else {
                continue;
            };
            let at = match grants.iter().position(|paid| paid.id == id) {
                Some(at) => at,
                None => {
                    let (credits, revenue) = (Amount::ZERO, Amount::ZERO);
                    grants.push(Paid {
                        id,
                        kind,
                        credits,
                        revenue,
                        seq: row.seq,
                    });
                    grants.len() - 1
                }
            };
            let paid = &mut grants[at];
            if refund {
                paid.credits -= part.credits;
                paid.revenue -= part.revenue;
            } else {
                paid.credits += part.credits;
                paid.revenue += part.revenue;
                paid.seq = row.seq;
            }
        }
    }
    Ok(Refundable { grants, left })
}
