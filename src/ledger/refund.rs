//! What a refund gives back, and to whom.
//!
//! The payments of a debit are undone in reverse: the grant that paid last gets its credits back first.
//! Where a grant's spent credits were revoked, they are owed: then the refund lowers that debt, and undoes
//! the payments of it in the same way. So a refund and a revocation end alike in either order, also where
//! the grant that paid the debt has been revoked itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use uuid::Uuid;

use super::interrupt::check;
use super::wallet::Part;
use super::{Amount, Kind};

/// One payment of a grant for a debit or a debt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantPayment {
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
    pub settled: Vec<GrantPayment>,
}

/// What was revoked of a grant after it was spent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevokedGrant {
    /// In the order they were booked; none where nothing of it was.
    pub debts: Vec<RevokedDebt>,
    /// Revenue of what it spent was taken back. True with debts, and where another customer owes it.
    pub reclaimed: bool,
    /// What the grant has spent that was neither refunded nor revoked, and what that has earned. Not
    /// looked at where nothing was reclaimed.
    pub spent: Amount,
    pub earned: Amount,
}

/// One part of a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundPart {
    /// Without a grant: so much less is owed.
    pub part: Part,
    /// The revocations whose debts led here, in order: each grant that paid the one before was revoked in
    /// the next. The part lowers the last one, or undoes a payment of it.
    pub debts: Vec<Uuid>,
}

/// Marks `credits` of these payments as given back, the last payment first. Payments are given back
/// only when the debit or debt is fully paid, so none is added later.
pub fn mark_back(paid: &mut [GrantPayment], credits: Amount) {
    let mut left = credits;
    for paid in paid.iter_mut().rev() {
        paid.back = left.min(paid.credits);
        left -= paid.back;
    }
}

impl RevokedDebt {
    /// A revocation that booked so much debt: what is `left` of it, what refunds have `returned` so far,
    /// and all that was ever settled. Refunds lower a debt first; what they returned beyond that was given
    /// back to those who settled it.
    pub fn new(
        id: Uuid,
        booked: Amount,
        left: Amount,
        returned: Amount,
        mut settled: Vec<GrantPayment>,
    ) -> RevokedDebt {
        let paid: Amount = settled.iter().map(|paid| paid.credits).sum();
        let lowered = booked - left - paid;
        mark_back(&mut settled, returned - lowered);
        RevokedDebt {
            id,
            owed: left,
            settled,
        }
    }
}

impl GrantPayment {
    /// A payment of which nothing was given back; `None` for a part that no grant paid.
    pub fn of(part: Part) -> Option<GrantPayment> {
        Some(GrantPayment {
            grant: part.grant?,
            credits: part.credits,
            revenue: part.revenue,
            back: Amount::ZERO,
        })
    }

    /// Gives credits back with their share of the revenue; all parts together give back exactly all of it.
    fn give_back(&mut self, credits: Amount) -> Amount {
        let before = self.revenue.share(self.back, self.credits);
        self.back += credits;
        self.revenue.share(self.back, self.credits) - before
    }
}

/// Gives up to `credits` of these payments back, the last one first. What each of them gave.
fn undo(paid: &mut [GrantPayment], left: &mut Amount) -> Vec<Part> {
    let mut given = Vec::new();
    for paid in paid.iter_mut().rev() {
        let credits = (*left).min(paid.credits - paid.back);
        if credits.is_positive() {
            *left -= credits;
            let revenue = paid.give_back(credits);
            let grant = Some(paid.grant);
            given.push(Part {
                grant,
                credits,
                revenue,
            });
        }
    }
    given
}

/// Shares a refund out over what paid the debit. `load` tells what was revoked of a grant.
pub fn give_back<E>(
    paid: &mut [GrantPayment],
    credits: Amount,
    mut load: impl FnMut(Uuid) -> Result<RevokedGrant, E>,
) -> Result<Vec<RefundPart>, E> {
    let mut known: HashMap<Uuid, RevokedGrant> = HashMap::new();
    let mut backs = Vec::new();
    let mut left = credits;
    // What is to be given to a grant next is at the end.
    let mut given: Vec<RefundPart> = undo(paid, &mut left)
        .into_iter()
        .rev()
        .map(|part| RefundPart {
            part,
            debts: Vec::new(),
        })
        .collect();
    while let Some(RefundPart { part, debts }) = given.pop() {
        check();
        let Some((grant, _)) = part.grant else {
            continue;
        };
        let revoked = match known.entry(grant) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(load(grant)?),
        };
        let untouched = !revoked.reclaimed;
        let mut left = part.credits;
        let mut others = Vec::new();
        for debt in &mut revoked.debts {
            let path = || debts.iter().copied().chain([debt.id]).collect();
            let lowered = left.min(debt.owed);
            if lowered.is_positive() {
                debt.owed -= lowered;
                left -= lowered;
                backs.push(RefundPart {
                    part: Part {
                        grant: None,
                        credits: lowered,
                        revenue: Amount::ZERO,
                    },
                    debts: path(),
                });
            }
            for part in undo(&mut debt.settled, &mut left) {
                let debts = path();
                others.push(RefundPart { part, debts });
            }
        }
        if left.is_positive() {
            let revenue = if untouched {
                part.revenue
            } else {
                revoked.take_earned(left)
            };
            backs.push(RefundPart {
                part: Part {
                    credits: left,
                    revenue,
                    ..part
                },
                debts,
            });
        }
        given.extend(others.into_iter().rev());
    }
    Ok(backs)
}

impl RevokedGrant {
    /// What credits have earned and do not earn any more: what a revocation took back is not
    /// given back twice.
    fn take_earned(&mut self, credits: Amount) -> Amount {
        let revenue = if credits < self.spent {
            self.earned.share(credits, self.spent)
        } else {
            self.earned
        };
        self.spent -= credits;
        self.earned -= revenue;
        revenue
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn grant(n: u8) -> (Uuid, Kind) {
        (Uuid::from_u128(n.into()), Kind::Purchased)
    }

    /// What came back, by grant.
    fn by_grant(backs: Vec<(Uuid, i128)>) -> Vec<(Uuid, i128)> {
        let mut sums: Vec<(Uuid, i128)> = Vec::new();
        for (grant, units) in backs {
            match sums.iter_mut().find(|(known, _)| *known == grant) {
                Some((_, sum)) => *sum += units,
                None => sums.push((grant, units)),
            }
        }
        sums.sort();
        sums
    }

    proptest! {
        /// Naively: every unit lies on a stack in the order in which it was paid.
        #[test]
        fn the_last_payment_comes_back_first(
            payments in prop::collection::vec((0..3_u8, 1..9_i128, 0..100_i128), 1..8),
            refunds in prop::collection::vec(1..20_i128, 1..8),
        ) {
            let mut stack: Vec<Uuid> = Vec::new();
            let mut paid: Vec<GrantPayment> = Vec::new();
            for (n, credits, revenue) in payments {
                stack.extend((0..credits).map(|_| grant(n).0));
                paid.push(GrantPayment {
                    grant: grant(n),
                    credits: Amount::from_units(credits),
                    revenue: Amount::from_units(revenue),
                    back: Amount::ZERO,
                });
            }
            let money: Amount = paid.iter().map(|paid| paid.revenue).sum();
            let (mut back, mut returned) = (Amount::ZERO, Amount::ZERO);
            for units in refunds {
                // Each refund reads the payments again, and how much has come back so far.
                let mut again = paid.clone();
                mark_back(&mut again, back);
                let units = units.min(stack.len() as i128);
                let credits = Amount::from_units(units);
                let none = |_| Ok::<_, Infallible>(RevokedGrant::default());
                let Ok(backs) = give_back(&mut again, credits, none);
                let popped = (0..units).filter_map(|_| Some((stack.pop()?, 1))).collect();
                let given = backs.iter().filter_map(|back| Some((back.part.grant?.0, back.part.credits.units())));
                prop_assert_eq!(by_grant(given.collect()), by_grant(popped));
                back += credits;
                returned += backs.iter().map(|back| back.part.revenue).sum::<Amount>();
            }
            if stack.is_empty() {
                prop_assert_eq!(returned, money);
            }
        }
    }
}
