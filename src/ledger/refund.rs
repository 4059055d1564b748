//! What a refund gives back, and to whom.
//!
//! The grants that paid get their credits back, the last one first. Where a grant's spent credits were
//! revoked, they are owed: then the refund lowers that debt, and gives what has been paid of it back to
//! the grants that paid it. So a refund and a revocation end alike in either order.

use std::collections::HashMap;

use uuid::Uuid;

use super::wallet::Part;
use super::{Amount, Kind};

/// What a grant paid, for a debit or for a debt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    pub grant: (Uuid, Kind),
    pub credits: Amount,
    pub revenue: Amount,
    /// So much of the credits was given back.
    pub back: Amount,
}

/// The debt that the revocation of a grant's spent credits left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedDebt {
    /// The revocation's ledger row.
    pub id: Uuid,
    /// What is still owed of it.
    pub owed: Amount,
    /// Who paid the rest, in the order they paid.
    pub settled: Vec<Paid>,
}

/// What was revoked of a grant after it was spent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// In the order they were booked; none where nothing of it was.
    pub debts: Vec<RevokedDebt>,
    /// What the grant has spent that was neither refunded nor revoked, and what that has earned. Not
    /// looked at without debts.
    pub spent: Amount,
    pub earned: Amount,
}

/// One part of a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Back {
    /// Without a grant: so much less is owed.
    pub part: Part,
    /// The grant that paid the debit, where its credits were revoked and others get them back.
    pub instead_of: Option<Uuid>,
    /// The revocation whose debt is lowered, or was paid by the grant.
    pub debt: Option<Uuid>,
}

impl RevokedDebt {
    /// A revocation that booked so much debt: what is `left` of it, what refunds have `returned` so far,
    /// and all that was ever settled. Refunds lower a debt first; so what they returned beyond that came
    /// back to those who settled it, the last one first.
    pub fn new(
        id: Uuid,
        booked: Amount,
        left: Amount,
        returned: Amount,
        mut settled: Vec<Paid>,
    ) -> RevokedDebt {
        let paid: Amount = settled.iter().map(|paid| paid.credits).sum();
        let lowered = booked - left - paid;
        let mut back = returned - lowered;
        for paid in settled.iter_mut().rev() {
            paid.back = back.min(paid.credits);
            back -= paid.back;
        }
        RevokedDebt {
            id,
            owed: left,
            settled,
        }
    }
}

impl Paid {
    /// Gives so many credits back, with their share of the revenue: all together, exactly all of it.
    fn give_back(&mut self, credits: Amount) -> Amount {
        let before = self.revenue.share(self.back, self.credits);
        self.back += credits;
        self.revenue.share(self.back, self.credits) - before
    }
}

/// Shares a refund out over what paid the debit, the last one first. `revoked` tells what was revoked
/// of a grant.
pub fn give_back<E>(
    paid: &mut [Paid],
    credits: Amount,
    revoked: impl FnMut(Uuid) -> Result<Revoked, E>,
) -> Result<Vec<Back>, E> {
    let mut refund = Refund {
        load: revoked,
        revoked: HashMap::new(),
        backs: Vec::new(),
    };
    let mut left = credits;
    for paid in paid.iter_mut().rev() {
        let credits = left.min(paid.credits - paid.back);
        if credits.is_positive() {
            left -= credits;
            let revenue = paid.give_back(credits);
            refund.give_to(paid.grant, credits, revenue, None)?;
        }
    }
    Ok(refund.backs)
}

struct Refund<L> {
    load: L,
    revoked: HashMap<Uuid, Revoked>,
    backs: Vec<Back>,
}

/// Why credits come to a grant: another one paid the debit, but its credits were revoked, and this one
/// paid the revocation's debt.
#[derive(Clone, Copy)]
struct Detour {
    instead_of: Uuid,
    debt: Uuid,
}

impl<E, L: FnMut(Uuid) -> Result<Revoked, E>> Refund<L> {
    /// Gives a grant credits back that have earned so much, unless they were revoked.
    fn give_to(
        &mut self,
        grant: (Uuid, Kind),
        credits: Amount,
        revenue: Amount,
        detour: Option<Detour>,
    ) -> Result<(), E> {
        if !self.revoked.contains_key(&grant.0) {
            let revoked = (self.load)(grant.0)?;
            self.revoked.insert(grant.0, revoked);
        }
        let instead_of = detour.map_or(grant.0, |detour| detour.instead_of);
        let mut left = credits;
        let mut others = Vec::new();
        let Some(revoked) = self.revoked.get_mut(&grant.0) else {
            return Ok(());
        };
        for debt in &mut revoked.debts {
            let lowered = left.min(debt.owed);
            if lowered.is_positive() {
                debt.owed -= lowered;
                left -= lowered;
                self.backs.push(Back {
                    part: Part {
                        grant: None,
                        credits: lowered,
                        revenue: Amount::ZERO,
                    },
                    instead_of: Some(instead_of),
                    debt: Some(debt.id),
                });
            }
            for settled in debt.settled.iter_mut().rev() {
                let credits = left.min(settled.credits - settled.back);
                if credits.is_positive() {
                    left -= credits;
                    let debt = debt.id;
                    let revenue = settled.give_back(credits);
                    others.push((settled.grant, credits, revenue, Detour { instead_of, debt }));
                }
            }
        }
        if left.is_positive() {
            // What a revocation took back is not given back twice.
            let revenue = if revoked.debts.is_empty() {
                revenue
            } else {
                let revenue = if left < revoked.spent {
                    revoked.earned.share(left, revoked.spent)
                } else {
                    revoked.earned
                };
                revoked.spent -= left;
                revoked.earned -= revenue;
                revenue
            };
            self.backs.push(Back {
                part: Part {
                    grant: Some(grant),
                    credits: left,
                    revenue,
                },
                instead_of: detour.map(|detour| detour.instead_of),
                debt: detour.map(|detour| detour.debt),
            });
        }
        for (grant, credits, revenue, detour) in others {
            self.give_to(grant, credits, revenue, Some(detour))?;
        }
        Ok(())
    }
}
