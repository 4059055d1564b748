//! What a wallet has used of an action in a calendar month, for prices whose tiers count over a month.
//!
//! A wallet counts in its newest month. It begins with what the ledger has of that month, and every later
//! debit of the action adds to it; so in a month after the one that is counted nothing was used. Older
//! months are summed from the ledger.

use rust_decimal::Decimal;

use super::Moment;
use super::number::MEASURED_DECIMALS;

/// More actions than this a wallet does not count in one month.
pub const MAX_ACTIONS: usize = 100;

/// Counts are below 10^15; this is that limit in units of 10^-12.
const END: i128 = 10_i128.pow(15 + MEASURED_DECIMALS);

/// A quantity in units of 10^-12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(i128);

/// What was used of an action in the month that began then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonthUse {
    pub action: String,
    pub since: Moment,
    pub used: Count,
}

/// One count an action, in the order of the actions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MonthUses(Vec<MonthUse>);

/// Why an action is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountError {
    /// `MAX_ACTIONS` are counted in this month already.
    TooMany,
    /// It would be 10^15 or more.
    OutOfRange,
}

impl Count {
    pub const ZERO: Count = Count(0);

    /// `None` where it is negative, 10^15 or more, or has more than 12 decimals.
    pub fn of(quantity: Decimal) -> Option<Count> {
        let quantity = quantity.normalize();
        let factor = 10_i128.pow(MEASURED_DECIMALS.checked_sub(quantity.scale())?);
        Count::of_units(quantity.mantissa().checked_mul(factor)?)
    }

    pub fn of_units(units: i128) -> Option<Count> {
        (0..END).contains(&units).then_some(Count(units))
    }

    pub fn units(self) -> i128 {
        self.0
    }

    /// Below 10^15 it fits a `Decimal`.
    pub fn decimal(self) -> Decimal {
        Decimal::from_i128_with_scale(self.0, MEASURED_DECIMALS).normalize()
    }

    pub fn plus(self, more: Count) -> Result<Count, CountError> {
        Count::of_units(self.0 + more.0).ok_or(CountError::OutOfRange)
    }
}

impl MonthUses {
    /// The counts of a state; `None` where they are too many or not in order.
    pub fn of(uses: Vec<MonthUse>) -> Option<MonthUses> {
        let ordered = uses.windows(2).all(|pair| pair[0].action < pair[1].action);
        (ordered && uses.len() <= MAX_ACTIONS).then_some(MonthUses(uses))
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &MonthUse> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, action: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|one| one.action.as_str().cmp(action))
    }

    pub fn counts(&self, action: &str) -> bool {
        self.place(action).is_ok()
    }

    /// What was used in the month that began then; `None`: the ledger knows.
    pub fn used(&self, action: &str, since: Moment) -> Option<Count> {
        let counted = &self.0[self.place(action).ok()?];
        match counted.since.cmp(&since) {
            std::cmp::Ordering::Less => Some(Count::ZERO),
            std::cmp::Ordering::Equal => Some(counted.used),
            std::cmp::Ordering::Greater => None,
        }
    }

    /// Counts an action from now on: the month is the one of now, with what was used of it before.
    pub fn begin(&mut self, action: &str, since: Moment, used: Count) -> Result<(), CountError> {
        if self.0.len() >= MAX_ACTIONS && !self.counts(action) {
            self.0.retain(|one| one.since >= since);
        }
        let begun = MonthUse {
            action: action.to_owned(),
            since,
            used,
        };
        match self.place(action) {
            Ok(place) => self.0[place] = begun,
            Err(_) if self.0.len() >= MAX_ACTIONS => return Err(CountError::TooMany),
            Err(place) => self.0.insert(place, begun),
        }
        Ok(())
    }

    /// Counts a use in the month that began then, where that is counted here.
    pub fn add(&mut self, action: &str, since: Moment, more: Count) -> Result<(), CountError> {
        let Ok(place) = self.place(action) else {
            return Ok(());
        };
        let counted = &mut self.0[place];
        if counted.since < since {
            (counted.since, counted.used) = (since, more);
        } else if counted.since == since {
            counted.used = counted.used.plus(more)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_count_is_exact_or_refused() {
        let count = |text: &str| Count::of(text.parse().unwrap()).map(|c| c.decimal().to_string());
        for exact in [
            "0",
            "0.000000000001",
            "999999999999999.999999999999",
            "12.5",
        ] {
            assert_eq!(count(exact).as_deref(), Some(exact));
        }
        for refused in [
            "-1",
            "1000000000000000",
            "0.0000000000001",
            "79228162514264337593543950335",
        ] {
            assert_eq!(count(refused), None, "{refused}");
        }
    }

    #[test]
    fn a_hundred_actions_are_counted_in_a_month() {
        let mut uses = MonthUses::default();
        let begin = |uses: &mut MonthUses, n: usize, month| {
            uses.begin(&format!("action {n}"), Moment(month), Count::ZERO)
        };
        for n in 0..MAX_ACTIONS {
            assert_eq!(begin(&mut uses, n, 1), Ok(()));
        }
        assert_eq!(begin(&mut uses, 100, 1), Err(CountError::TooMany));
        assert_eq!(begin(&mut uses, 7, 1), Ok(()));
        // Those of an older month make room.
        assert_eq!(begin(&mut uses, 100, 2), Ok(()));
        assert_eq!(uses.iter().len(), 1);
    }

    proptest! {
        /// Whatever is used when, in months that come and late ones: what is known is what the ledger has.
        #[test]
        fn counts_are_the_sums_of_the_ledger(
            calls in prop::collection::vec((0..3_usize, 0..4_i64, 0..3_i64, 0..1000_i128, any::<bool>()), 1..60),
        ) {
            let mut uses = MonthUses::default();
            let mut ledger: HashMap<(usize, i64), i128> = HashMap::new();
            let mut now = 0;
            for (action, passes, late, quantity, asks) in calls {
                now += passes / 3;
                let month = (now - late).max(0);
                let name = action.to_string();
                let sum = *ledger.get(&(action, month)).unwrap_or(&0);
                if asks {
                    match uses.used(&name, Moment(month)) {
                        Some(known) => prop_assert_eq!(known.units(), sum),
                        None if month == now => uses.begin(&name, Moment(month), Count(sum)).unwrap(),
                        None => {}
                    }
                }
                *ledger.entry((action, month)).or_default() += quantity;
                uses.add(&name, Moment(month), Count(quantity)).unwrap();
                for one in uses.iter() {
                    let of = (one.action.parse().unwrap(), one.since.0);
                    prop_assert_eq!(one.used.units(), ledger[&of]);
                }
            }
        }
    }
}
