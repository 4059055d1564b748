//! Which of the costs that are known of a debit count, and what a late one changes in the reports.
//!
//! A debit brings costs of its own (given with it, or computed from its usage); others are recorded
//! later, by several sources. Each cost counts once: a better known one takes the place of a worse
//! known one of the same request, or of the same vendor and model where no request is named.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use uuid::Uuid;

use super::interrupt::checked;
use super::margin::{KindPayment, Line, ModelCost, lines, merged, split_cost};

/// How well a cost is known, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Came with the debit.
    Given,
    Estimated,
    Reported,
    Invoiced,
}

impl FromStr for Source {
    type Err = ();

    /// Of a cost that is recorded: what came with a debit has no such name.
    fn from_str(text: &str) -> Result<Source, ()> {
        match text {
            "estimated" => Ok(Source::Estimated),
            "reported" => Ok(Source::Reported),
            "invoiced" => Ok(Source::Invoiced),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Given => "given",
            Source::Estimated => "estimated",
            Source::Reported => "reported",
            Source::Invoiced => "invoiced",
        })
    }
}

/// A cost that is known of a debit, or that is known to be missing.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownCost {
    pub source: Source,
    pub spent: ModelCost,
    /// The debit that it came with and its place there, or the row that recorded it.
    pub id: (Uuid, i32),
    /// The cost that this one replaces, computed again by a corrected rate.
    pub replaced: Option<(Uuid, i32)>,
    /// It counts with another capture of the same authorization: what it replaces here costs nothing.
    pub elsewhere: bool,
}

impl KnownCost {
    /// Whether this cost replaces the other.
    pub fn replaces(&self, other: &KnownCost) -> bool {
        if self.spent.cost.is_none() {
            return false;
        }
        if self.replaced.is_some()
            && (self.replaced == Some(other.id) || self.replaced == other.replaced)
        {
            return true;
        }
        let better = self.source > other.source || other.spent.cost.is_none();
        better && self.same_as(other)
    }

    /// Of the same request; or, where one of them names none, of the same vendor and model.
    fn same_as(&self, other: &KnownCost) -> bool {
        // What is given with a debit in one sum stands for all its vendors.
        if other.spent.vendor.is_none() {
            return true;
        }
        if self.spent.vendor != other.spent.vendor {
            return false;
        }
        match (&self.spent.request, &other.spent.request) {
            (Some(one), Some(other)) => one == other,
            _ => match (&self.spent.model, &other.spent.model) {
                (Some(one), Some(other)) => one == other,
                _ => true,
            },
        }
    }
}

/// The costs that count, in the order they became known.
pub fn counting(known: &[KnownCost]) -> Vec<ModelCost> {
    let mut counting: Vec<ModelCost> = Vec::new();
    for (at, one) in checked(known).enumerate() {
        if one.elsewhere {
            continue;
        }
        // Of two that could replace each other the later one counts.
        let replaces = |(other_at, other): &(usize, &KnownCost)| {
            *other_at != at && other.replaces(one) && (*other_at > at || !one.replaces(other))
        };
        let mut replacing = known.iter().enumerate().filter(replaces).peekable();
        if replacing.peek().is_none() {
            counting.push(one.spent.clone());
        } else if replacing.all(|(_, other)| other.elsewhere) {
            counting.push(ModelCost {
                cost: Some(Decimal::ZERO),
                conversion: None,
                ..one.spent.clone()
            });
        }
    }
    counting
}

/// The sum of costs; `None` where one is missing, or there are none.
pub fn total(spent: &[ModelCost]) -> Option<Decimal> {
    if spent.is_empty() {
        return None;
    }
    spent
        .iter()
        .try_fold(Decimal::ZERO, |sum, one| sum.checked_add(one.cost?))
}

/// The sum of the costs that are known.
pub fn known(spent: &[ModelCost]) -> Decimal {
    let costs = spent.iter().filter_map(|one| one.cost);
    costs.fold(Decimal::ZERO, |sum, cost| sum.saturating_add(cost))
}

/// What a capture adds, by vendor and model: its totals less what was captured before. The parts add
/// up to `cost` where that is known.
pub fn added(totals: &[ModelCost], before: &[ModelCost], cost: Option<Decimal>) -> Vec<ModelCost> {
    let key = |spent: &ModelCost| {
        let ModelCost {
            vendor,
            model,
            request,
            ..
        } = spent.clone();
        (vendor, model, request)
    };
    let mut known: HashMap<_, VecDeque<Decimal>> = HashMap::new();
    for one in checked(before) {
        let costs = known.entry(key(one)).or_default();
        costs.push_back(one.cost.unwrap_or_default());
    }
    let mut added: Vec<ModelCost> = Vec::with_capacity(totals.len());
    for total in checked(totals) {
        let mut one = total.clone();
        if let Some(known) = known.get_mut(&key(total)).and_then(VecDeque::pop_front) {
            one.cost = one.cost.map(|cost| (cost - known).max(Decimal::ZERO));
        }
        added.push(one);
    }
    if let Some(cost) = cost {
        let weights: Vec<Decimal> = added
            .iter()
            .map(|one| one.cost.unwrap_or_default())
            .collect();
        for (one, share) in added.iter_mut().zip(split_cost(cost, &weights)) {
            one.cost = Some(share);
        }
    }
    added
}

/// The same costs as weights: by what the revenue of a refund is shared.
pub fn weights(spent: &[ModelCost]) -> Vec<ModelCost> {
    let named = spent.iter().any(|one| one.vendor.is_some());
    let weight = |one: &ModelCost| ModelCost {
        vendor: one.vendor.clone(),
        model: one.model.clone(),
        weight: Some(one.cost.unwrap_or_default()),
        ..ModelCost::default()
    };
    if named {
        spent.iter().map(weight).collect()
    } else {
        Vec::new()
    }
}

/// What a late cost changes for one ledger row: the row's lines as they were are taken out, and as
/// they are now put in. `None` where that is the same.
pub struct Change {
    pub before: Vec<Line>,
    pub after: Vec<Line>,
}

pub fn change(paid: &[KindPayment], before: &[ModelCost], after: &[ModelCost]) -> Change {
    let minus = |line: Line| Line {
        credits: -line.credits,
        revenue: -line.revenue,
        cost: line.cost.map(|cost| -cost),
        ..line
    };
    Change {
        before: merged(lines(paid, before)).into_iter().map(minus).collect(),
        after: merged(lines(paid, after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::number::parse_decimal;

    fn known(source: Source, vendor: &str, model: &str, request: &str, cost: &str) -> KnownCost {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        KnownCost {
            source,
            spent: ModelCost {
                vendor: text(vendor),
                model: text(model),
                cost: parse_decimal(cost).ok(),
                request: text(request),
                ..ModelCost::default()
            },
            id: (Uuid::new_v4(), 0),
            replaced: None,
            elsewhere: false,
        }
    }

    fn sum(known: &[KnownCost]) -> String {
        match total(&counting(known)) {
            Some(sum) => sum.normalize().to_string(),
            None => "unknown".to_owned(),
        }
    }

    use Source::*;

    #[test]
    fn the_strongest_source_counts_whatever_comes_first() {
        let given = known(Given, "", "", "", "0.10");
        let estimated = known(Estimated, "openai", "gpt-4o", "", "0.05");
        let reported = known(Reported, "openai", "gpt-4o", "", "0.06");
        let invoiced = known(Invoiced, "openai", "", "", "0.07");
        assert_eq!(sum(std::slice::from_ref(&given)), "0.1");
        assert_eq!(sum(&[given.clone(), estimated.clone()]), "0.05");
        assert_eq!(
            sum(&[given.clone(), reported.clone(), estimated.clone()]),
            "0.06"
        );
        assert_eq!(sum(&[invoiced, estimated, reported, given]), "0.07");
    }

    #[test]
    fn requests_and_vendors_stand_beside_each_other() {
        let a = known(Estimated, "openai", "gpt-4o", "a", "0.05");
        let b = known(Estimated, "openai", "gpt-4o", "b", "0.03");
        let a_reported = known(Reported, "openai", "gpt-4o", "a", "0.06");
        let search = known(Reported, "tavily", "search", "", "0.008");
        assert_eq!(sum(&[a.clone(), b.clone()]), "0.08");
        assert_eq!(sum(&[a.clone(), b.clone(), a_reported.clone()]), "0.09");
        assert_eq!(sum(&[a, b, a_reported, search]), "0.098");
    }

    #[test]
    fn two_of_one_source_add_up() {
        let one = known(Reported, "openai", "gpt-4o", "", "0.05");
        assert_eq!(sum(&[one.clone(), one]), "0.1");
    }

    #[test]
    fn a_missing_cost_is_never_zero_and_any_known_one_replaces_it() {
        let missing = known(Estimated, "openai", "gpt-9", "", "x");
        let other = known(Estimated, "openai", "gpt-4o", "", "0.05");
        let now = known(Estimated, "openai", "gpt-9", "", "0.07");
        assert_eq!(sum(std::slice::from_ref(&missing)), "unknown");
        assert_eq!(sum(&[missing.clone(), other.clone()]), "unknown");
        assert_eq!(sum(&[missing, other, now]), "0.12");
        assert_eq!(sum(&[]), "unknown");
    }

    #[test]
    fn a_corrected_rate_replaces_what_it_corrects_and_is_replaced_in_turn() {
        let given = known(Given, "openai", "gpt-4o", "", "0.05");
        let again = |cost| KnownCost {
            replaced: Some(given.id),
            ..known(Given, "openai", "gpt-4o", "", cost)
        };
        assert_eq!(sum(&[given.clone(), again("0.06")]), "0.06");
        assert_eq!(sum(&[given.clone(), again("0.06"), again("0.07")]), "0.07");
        let invoiced = known(Invoiced, "openai", "gpt-4o", "", "0.01");
        assert_eq!(sum(&[given.clone(), again("0.06"), invoiced]), "0.01");
        // Another call of the same model stays.
        let twin = known(Given, "openai", "gpt-4o", "", "0.02");
        assert_eq!(sum(&[given.clone(), twin, again("0.06")]), "0.08");
    }

    #[test]
    fn what_counts_with_another_capture_costs_nothing_here() {
        let estimated = known(Given, "openai", "gpt-4o", "r", "0.05");
        let other = known(Given, "openai", "gpt-4o", "s", "0.02");
        let reported = KnownCost {
            elsewhere: true,
            ..known(Reported, "openai", "gpt-4o", "r", "0.07")
        };
        assert_eq!(sum(&[estimated.clone(), reported.clone()]), "0");
        assert_eq!(sum(&[estimated, other, reported]), "0.02");
    }

    #[test]
    fn a_change_takes_out_what_it_puts_in() {
        let paid = [KindPayment {
            kind: Some("purchased".to_owned()),
            credits: crate::ledger::Amount::parse("3").unwrap(),
            revenue: crate::ledger::Amount::parse("0.3").unwrap(),
        }];
        let change = change(
            &paid,
            &[ModelCost::default()],
            &counting(&[known(Reported, "openai", "gpt-4o", "", "0.05")]),
        );
        assert_eq!(change.before[0].credits, -change.after[0].credits);
        assert_eq!(change.before[0].revenue, -change.after[0].revenue);
        assert_eq!(change.before[0].cost, None);
        assert_eq!(change.after[0].vendor.as_deref(), Some("openai"));
    }
}
