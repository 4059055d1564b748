//! Counts as a vendor gives them, and the disjoint amounts they become.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::Value as Json;

use super::units::{self, INPUT, TOLD_APART, Unit, Units, bit, each, kind};
use super::{ReadResult, at, expected};
use crate::ledger::interrupt::checked;
use crate::ledger::number::{MEASURED_DECIMALS, parse_measured, quoted};

/// Counts are below this.
const LIMIT: i64 = 1_000_000_000_000_000;

/// Own units that one usage may have, and the bytes of a name.
const MAX_OWN: usize = 100;
pub const MAX_UNIT_BYTES: usize = 100;

/// What a vendor counted. Counts of known units include those that lie inside them: input tokens the
/// cached ones, and so on.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    known: Vec<(Unit, Decimal)>,
    seen: Units,
    /// Units that lie inside nothing, by their names.
    pub own: BTreeMap<String, Decimal>,
}

/// Disjoint amounts: each token is in one of them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Disjoint {
    pub known: Vec<(Unit, Decimal)>,
    pub own: BTreeMap<String, Decimal>,
}

/// Reads one count, rounded half-even to the decimals that are kept.
pub fn count(value: &Json, whole: bool) -> ReadResult<Decimal> {
    let Json::Number(number) = value else {
        return Err(format!(
            "it has to be a number, not {}",
            crate::ledger::number::kind_of(value)
        ));
    };
    let text = number.as_str();
    let short = quoted(text);
    let short = short.trim_matches('"');
    let count = parse_measured(text, MEASURED_DECIMALS)?;
    if count.is_sign_negative() && !count.is_zero() {
        return Err(format!("{short} is negative"));
    }
    if count >= Decimal::from(LIMIT) {
        return Err(format!("{short} is not below 1e15"));
    }
    if whole && count.scale() > 0 {
        return Err(format!("{short} is not a whole number"));
    }
    Ok(count)
}

impl Counts {
    /// Counts as `{unit: count}`.
    ///
    /// # Errors
    /// The unit whose count is no number.
    pub fn read(usage: &Json) -> ReadResult<Counts> {
        let Json::Object(usage) = usage else {
            return Err(expected("usage", "an object of units and counts", usage));
        };
        let mut counts = Counts::default();
        for (name, value) in checked(usage) {
            let unit = units::named(name);
            let number = count(value, unit.is_some_and(|unit| kind(unit).is_whole()));
            let number = number.map_err(|why| at(&quoted(name), why))?;
            match unit {
                Some(unit) => counts.add(unit, number),
                None if name.len() > MAX_UNIT_BYTES || counts.own.len() >= MAX_OWN => {
                    let why = format_args!(
                        "a unit has at most {MAX_UNIT_BYTES} bytes, a usage {MAX_OWN} units"
                    );
                    return Err(at(&quoted(name), why));
                }
                None => {
                    counts.own.insert(name.clone(), number);
                }
            }
        }
        Ok(counts)
    }

    /// The counts that can be read of an object of which nothing is known.
    pub fn read_any(usage: &Json) -> Counts {
        let Some(usage) = usage.as_object() else {
            return Counts::default();
        };
        let readable = usage.iter().filter(|(name, value)| {
            name.len() <= MAX_UNIT_BYTES && value.is_number() && count(value, false).is_ok()
        });
        Counts {
            own: readable
                .filter_map(|(name, value)| Some((name.clone(), count(value, false).ok()?)))
                .take(MAX_OWN)
                .collect(),
            ..Counts::default()
        }
    }

    /// The number of counts.
    pub fn number(&self) -> usize {
        self.known.len() + self.own.len()
    }

    /// Whether there are output tokens but no count of input tokens, not even 0.
    pub fn tells_output_alone(&self) -> bool {
        let tokens = |way: &str| {
            let of_way = self.known().filter(|(unit, _)| kind(*unit).is_tokens(way));
            of_way.map(|(_, count)| count).max()
        };
        tokens("input").is_none() && tokens("output").is_some_and(|count| !count.is_zero())
    }

    /// Takes the counts of some units out.
    pub fn remove(&mut self, out: impl Fn(Unit) -> bool) {
        self.known.retain(|(unit, _)| !out(*unit));
        let left = self.known.iter();
        self.seen = left.fold(0, |set, (unit, _)| set | bit(*unit));
    }

    pub fn add(&mut self, unit: Unit, count: Decimal) {
        match self.known.iter_mut().find(|(known, _)| *known == unit) {
            // Counts are below 1e15 and few: their sum fits.
            Some((_, sum)) => *sum = sum.checked_add(count).unwrap_or(Decimal::MAX),
            None => {
                self.known.push((unit, count));
                self.seen |= bit(unit);
            }
        }
    }

    pub fn known(&self) -> impl Iterator<Item = (Unit, Decimal)> {
        self.known.iter().copied()
    }

    pub fn of(&self, unit: Unit) -> Decimal {
        let found = self.known.iter().find(|(known, _)| *known == unit);
        found.map_or(Decimal::ZERO, |(_, count)| *count)
    }

    /// All input tokens, by which a tier is chosen.
    pub fn all_input(&self) -> Decimal {
        self.of(*INPUT)
    }

    /// Takes the counts apart: the units that are always told apart, those that are priced apart, and
    /// those that lie inside nothing that was counted; the others stay in what they lie inside.
    ///
    /// # Errors
    /// Counts that cannot be, such as more cached tokens than there are.
    pub fn disjoint(&self, priced: Units) -> ReadResult<Disjoint> {
        let outermost = each(self.seen)
            .filter(|unit| units::around(*unit) & self.seen == 0)
            .fold(0, |set, unit| set | bit(unit));
        let apart = self.seen & (*TOLD_APART | priced | outermost);
        let apart = self.possible(apart, priced)?;
        let known = match self.take_apart(apart) {
            Ok(known) => known,
            Err(why) => {
                self.check_sums(apart)?;
                // Audio and cached tokens may overlap by as much as nobody said. Then only what is
                // priced apart is told apart.
                let fewer = self.seen & (priced | outermost);
                if fewer == apart {
                    return Err(why);
                }
                self.take_apart(fewer)?
            }
        };
        Ok(Disjoint {
            known,
            own: self.own.clone(),
        })
    }

    /// Refuses a count without one that has a price and includes it, and a count that is larger than
    /// one it lies inside: of what is priced apart, and of cached tokens in any case. Others are left
    /// where they lie: how many of the tokens were audio does not matter to a price that does not ask.
    fn possible(&self, mut apart: Units, priced: Units) -> ReadResult<Units> {
        for (inner, count) in self.known().filter(|(_, count)| !count.is_zero()) {
            let around = units::around(inner);
            if let Some(missing) = each(around & priced & !self.seen).next() {
                return Err(format!(
                    "{} is {count}, but {}, which includes it, is missing",
                    kind(inner).name,
                    kind(missing).name
                ));
            }
            let smaller = |outer: &Unit| self.of(*outer) < count;
            let Some(outer) = each(around & self.seen & (apart | priced)).find(smaller) else {
                continue;
            };
            if priced & bit(inner) == 0 && !kind(inner).is_type_alone() {
                apart &= !bit(inner);
                continue;
            }
            return Err(format!(
                "{} is {count}, more than {}, which includes it: {}",
                kind(inner).name,
                kind(outer).name,
                self.of(outer)
            ));
        }
        Ok(apart)
    }

    /// Tokens are of one type only: together they are not more than what they lie inside.
    fn check_sums(&self, apart: Units) -> ReadResult<()> {
        for outer in each(apart) {
            let inside = each(apart).filter(|inner| {
                units::around(*inner) & bit(outer) != 0 && kind(*inner).is_type_of(kind(outer))
            });
            let sum: Decimal = inside.map(|inner| self.of(inner)).sum();
            if sum > self.of(outer) {
                return Err(format!(
                    "the counts inside {} come to {sum}, more than its {}",
                    kind(outer).name,
                    self.of(outer)
                ));
            }
        }
        Ok(())
    }

    /// From each count what lies inside it is taken, the most special units first.
    fn take_apart(&self, apart: Units) -> ReadResult<Vec<(Unit, Decimal)>> {
        let mut order: Vec<(Unit, Decimal)> = self
            .known()
            .filter(|(unit, _)| apart & bit(*unit) != 0)
            .collect();
        order.sort_by_key(|(unit, _)| (Reverse(kind(*unit).depth()), *unit));
        for nth in 0..order.len() {
            let (inner, rest) = order.split_at_mut(nth);
            let Some((unit, left)) = rest.first_mut() else {
                break;
            };
            for (inside, count) in inner {
                if units::around(*inside) & bit(*unit) != 0 {
                    *left -= *count;
                }
            }
            if left.is_sign_negative() && !left.is_zero() {
                let unit = *unit;
                return Err(format!(
                    "the counts inside {} come to more than its {}",
                    kind(unit).name,
                    self.of(unit)
                ));
            }
        }
        order.sort_by_key(|(unit, _)| *unit);
        Ok(order)
    }
}

impl Disjoint {
    /// The amounts by their names, without those that are 0.
    pub fn named(&self) -> BTreeMap<String, Decimal> {
        let known = self
            .known
            .iter()
            .map(|(unit, count)| (kind(*unit).name.to_owned(), *count));
        let own = self.own.iter().map(|(name, count)| (name.clone(), *count));
        known
            .chain(own)
            .filter(|(_, count)| !count.is_zero())
            .collect()
    }
}
