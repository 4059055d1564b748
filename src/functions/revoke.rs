//! Credits back out: `revoke_grant`, and what a capture of revoked credits owes.

use pgrx::pg_sys;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::grants::current_grant;
use super::once::{Outcome, once};
use super::request::{self, number};
use super::results::GrantResult;
use crate::errors::{self, Result};
use crate::ledger::Amount;
use crate::ledger::wallet::{Part, Shortfall, total};
use crate::sql_types::{Args, args as arguments};
use crate::store::Store;
use crate::store::booking;
use crate::store::grants;
use crate::store::ledger::{Entry, Key, allocations_of};
use crate::store::wallets::{self, OpenWallet};

struct Revoke {
    customer: String,
    grant_id: Uuid,
    credits: Option<Decimal>,
    owe_spent: bool,
    reason: Option<String>,
    key: Option<Key>,
}

pub fn revoke_grant(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let request = read_revoke(args)?;
    let answer = once(
        &request.customer,
        request.key.as_ref(),
        |store| revoke(store, &request).map(Outcome::of),
        |store, first: Entry| {
            let now = current_grant(store, &request.customer, first.refers_to)?;
            Ok(GrantResult {
                replayed: true,
                ..now
            })
        },
    )?;
    answer.row(args)
}

fn read_revoke(args: &Args) -> Result<Revoke> {
    let customer = args.name("customer")?;
    let grant_id = args.uuid("grant_id")?;
    let credits = args.optional_quantity("credits")?;
    let spent = args.name("spent")?;
    let owe_spent = owes(&spent)?;
    if credits.is_some_and(|credits| credits.is_zero()) {
        return Err(errors::invalid(
            "credits",
            "zero credits; NULL revokes the whole grant",
        ));
    }
    let fields = || {
        vec![
            ("grant_id", Some(grant_id.to_string())),
            number("credits", credits),
            ("spent", Some(spent)),
        ]
    };
    let key_text = args.optional_name("idempotency_key")?;
    Ok(Revoke {
        key: request::key(key_text, "revoke_grant", fields),
        reason: args.text("reason")?,
        customer,
        grant_id,
        credits,
        owe_spent,
    })
}

/// Whether what was spent is owed; otherwise the customer keeps it.
pub fn owes(spent: &str) -> Result<bool> {
    match spent {
        "keep" => Ok(false),
        "owe" => Ok(true),
        _ => Err(errors::invalid(
            "spent",
            format_args!("{spent:?} is neither keep nor owe"),
        )),
    }
}

/// Books the revocation; `None` when its key is taken.
fn revoke(store: &Store, request: &Revoke) -> Result<Option<GrantResult>> {
    let customer = &request.customer;
    let missing = || errors::not_found("grant", customer, request.grant_id);
    let mut grant = grants::by_id(store, customer, request.grant_id)?;
    if grant.is_none() {
        // It may be of a renewal that nobody has booked yet.
        booking::book_due_of(store, customer)?;
        grant = grants::by_id(store, customer, request.grant_id)?;
    }
    let grant = grant.ok_or_else(missing)?;
    let mut open = wallets::open(store, customer, &grant.asset)?;
    open.book_due_now(store)?;
    let unheld = open
        .wallet
        .grant(grant.id)
        .map_or(Amount::ZERO, |g| g.unheld());
    let (spent, earned) = if request.owe_spent {
        let (spent, earned) = grants::spent(store, customer, grant.id)?;
        (spent.or_zero(), earned)
    } else {
        (Amount::ZERO, Amount::ZERO)
    };
    // First what is unspent, the rest as debt.
    let (wanted, owed) = match request.credits {
        None => (unheld, spent),
        Some(credits) => {
            let credits = arguments::amount("credits", credits, open.asset.scale)?;
            (credits.min(unheld), credits - credits.min(unheld))
        }
    };
    if owed > spent {
        let short = Shortfall {
            needed: wanted + owed,
            available: unheld + spent,
        };
        return Err(errors::revocation_exceeds(customer, &grant.asset, short));
    }

    let whole = request.credits.is_none();
    if whole {
        open.wallet.mark_revoked(grant.id);
    }
    // A key is kept with a row, even of nothing.
    if wanted.is_zero() && owed.is_zero() && request.key.is_none() {
        open.write_back(store)?;
        grants::revoke(store, customer, grant.id, request.owe_spent, open.now)?;
        return Ok(Some(GrantResult::of(&open, grant)));
    }
    let taken = open.wallet.remove(grant.id, wanted);
    let spent = Part {
        grant: Some((grant.id, grant.kind)),
        credits: owed,
        revenue: earned.share(owed, spent),
    };
    let mut entry = Entry {
        quantity: request.credits,
        refers_to: Some(grant.id),
        reason: request.reason.clone(),
        ..revocation(&mut open, taken.as_slice(), &[spent], owed).under(request.key.as_ref())
    };
    if !open.book(store, &mut entry, Vec::new())? {
        return Ok(None);
    }
    if whole {
        grants::revoke(store, customer, grant.id, request.owe_spent, open.now)?;
    }
    Ok(Some(GrantResult::of(&open, grant)))
}

/// The row that takes `taken` out of the wallet for good, takes the revenue of `spent` back, and books so
/// much debt.
pub fn revocation(open: &mut OpenWallet, taken: &[Part], spent: &[Part], owed: Amount) -> Entry {
    let some = |parts: &[Part]| -> Vec<Part> {
        let parts = parts.iter().filter(|part| part.credits.is_positive());
        parts.cloned().collect()
    };
    let (taken, mut lines) = (some(taken), some(spent));
    let revenue: Amount = lines.iter().map(|part| part.revenue).sum();
    if owed.is_positive() {
        lines.push(Part {
            grant: None,
            credits: owed,
            revenue: Amount::ZERO,
        });
    }
    open.wallet.owed += owed;
    let unspent = taken.iter().map(|part| (part, "deferred"));
    let mut moved = unspent.chain(lines.iter().map(|part| (part, "revenue")));
    Entry {
        credits: -(total(&taken) + owed),
        revenue: -revenue,
        allocations: allocations_of(&mut moved),
        owed,
        ..Entry::new("revocation", open.now)
    }
}

/// The reason of a revocation of what a capture took.
const CAPTURED: &str = "captured";

/// What a capture took of grants that were revoked with `owe` while it was held is owed at once.
pub fn owe_captured(store: &Store, open: &mut OpenWallet, parts: &[Part]) -> Result<()> {
    for part in parts {
        let Some((grant, _)) = part.grant else {
            continue;
        };
        if !grants::owes_spent(store, &open.customer, grant)? {
            continue;
        }
        let mut entry = Entry {
            refers_to: Some(grant),
            reason: Some(CAPTURED.to_owned()),
            ..revocation(open, &[], std::slice::from_ref(part), part.credits)
        };
        open.book(store, &mut entry, Vec::new())?;
    }
    Ok(())
}
