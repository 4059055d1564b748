//! Exact fractions, and the one place where a price is rounded.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{One, Zero};
use rust_decimal::Decimal;

use super::PriceError;
use crate::ledger::Amount;
use crate::ledger::number::quoted;

/// The decimals of a unit of credits: 10^-10. No asset has more.
const UNIT_DECIMALS: u32 = crate::ledger::amount::DECIMALS;

/// Prices are below 10^15 credits; this is that limit in units.
const LIMIT: i128 = crate::ledger::Amount::MAX_ISSUE.units();

/// The decimals of the product of two [`Decimal`]s: such a number is always written out.
const DECIMALS_WRITTEN: u32 = 56;

/// The decimals written of a number that does not end.
const DECIMALS_OF_ENDLESS: usize = 20;

/// How a computed price becomes a number with the asset's decimal places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// `up`: to the next larger amount, so that no use is given away.
    Up,
    /// `down`: what lies beyond the last decimal is dropped.
    Down,
    /// `half_up`: to the nearest amount, and up when two are equally near.
    HalfUp,
    /// `half_even`: to the nearest amount, and to the even digit when two are equally near.
    HalfEven,
}

impl FromStr for Rounding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "up" => Ok(Self::Up),
            "down" => Ok(Self::Down),
            "half_up" => Ok(Self::HalfUp),
            "half_even" => Ok(Self::HalfEven),
            other => Err(format!(
                "{} is not a rounding mode; it must be up, down, half_up or half_even",
                quoted(other)
            )),
        }
    }
}

impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::HalfUp => "half_up",
            Self::HalfEven => "half_even",
        })
    }
}

impl Rounding {
    /// numerator / denominator as a whole number. The numerator is not negative, the denominator
    /// more than 0.
    fn divide<T: Integer + Clone>(self, numerator: &T, denominator: &T) -> T {
        let (quotient, rest) = numerator.div_rem(denominator);
        if rest.is_zero() {
            return quotient;
        }
        // Compared is what lies below with what is missing above: twice the rest might not fit.
        let above = denominator.clone() - rest.clone();
        let up = match (self, rest.cmp(&above)) {
            (Self::Up, _) => true,
            (Self::Down, _) => false,
            (_, Ordering::Less) => false,
            (_, Ordering::Greater) => true,
            (Self::HalfUp, Ordering::Equal) => true,
            (Self::HalfEven, Ordering::Equal) => quotient.is_odd(),
        };
        if up { quotient + T::one() } else { quotient }
    }
}

/// amount x part / whole, rounded to `scale` decimals. None is negative, and `part` is at most `whole`.
pub fn proportion(
    amount: Amount,
    part: Amount,
    whole: Amount,
    scale: u32,
    rounding: Rounding,
) -> Amount {
    let step = 10_i128.pow(UNIT_DECIMALS.saturating_sub(scale));
    let product = BigInt::from(amount.units()) * BigInt::from(part.units());
    let steps = rounding.divide(&product, &(BigInt::from(whole.units()) * step));
    let units = i128::try_from(steps * step).unwrap_or(i128::MAX);
    Amount::from_units(units)
}

/// An exact number. It is not reduced: finding common divisors costs more than the digits it would
/// save here.
#[derive(Debug, Clone)]
pub(super) struct Fraction {
    numerator: BigInt,
    /// More than 0.
    denominator: BigInt,
}

impl From<Decimal> for Fraction {
    fn from(number: Decimal) -> Self {
        Self {
            numerator: BigInt::from(number.mantissa()),
            denominator: power_of_ten(number.scale()),
        }
    }
}

impl Fraction {
    pub fn zero() -> Self {
        Self {
            numerator: BigInt::zero(),
            denominator: BigInt::one(),
        }
    }

    pub fn one() -> Self {
        Self {
            numerator: BigInt::one(),
            denominator: BigInt::one(),
        }
    }

    /// The credits of a number of units.
    pub fn of_units(units: i128) -> Self {
        Self {
            numerator: BigInt::from(units),
            denominator: power_of_ten(UNIT_DECIMALS),
        }
    }

    pub fn plus(&self, other: &Self) -> Self {
        if self.denominator == other.denominator {
            return Self {
                numerator: &self.numerator + &other.numerator,
                denominator: self.denominator.clone(),
            };
        }
        Self {
            numerator: &self.numerator * &other.denominator + &other.numerator * &self.denominator,
            denominator: &self.denominator * &other.denominator,
        }
    }

    pub fn minus(&self, other: &Self) -> Self {
        self.plus(&Self {
            numerator: -&other.numerator,
            denominator: other.denominator.clone(),
        })
    }

    pub fn times(&self, other: &Self) -> Self {
        Self {
            numerator: &self.numerator * &other.numerator,
            denominator: &self.denominator * &other.denominator,
        }
    }

    /// Divided by a number that is more than 0.
    pub fn over(&self, divisor: &Self) -> Self {
        Self {
            numerator: &self.numerator * &divisor.denominator,
            denominator: &self.denominator * &divisor.numerator,
        }
    }

    /// The next whole number that is not smaller. The number is not negative.
    pub fn round_up(&self) -> Self {
        Self {
            numerator: Rounding::Up.divide(&self.numerator, &self.denominator),
            denominator: BigInt::one(),
        }
    }

    pub fn is_below(&self, other: &Self) -> bool {
        &self.numerator * &other.denominator < &other.numerator * &self.denominator
    }

    pub fn equals(&self, other: &Self) -> bool {
        &self.numerator * &other.denominator == &other.numerator * &self.denominator
    }

    /// A price in units, rounded to `scale` decimals. The number is not negative.
    pub fn to_units(&self, scale: u32, rounding: Rounding) -> Result<i128, PriceError> {
        let filler = units_per_step(scale)?;
        let steps = rounding.divide(&(&self.numerator * power_of_ten(scale)), &self.denominator);
        i128::try_from(steps)
            .ok()
            .and_then(|steps| steps.checked_mul(filler))
            .map_or_else(|| Err(out_of_range()), within_range)
    }

    /// Plain decimal text without trailing zeros; a number that does not end is cut, and ends in
    /// `...`.
    pub fn text(&self) -> String {
        let (whole, rest) = self.numerator.div_rem(&self.denominator);
        let (decimals, rest) = (rest * power_of_ten(DECIMALS_WRITTEN)).div_rem(&self.denominator);
        let digits = format!(
            "{:0>width$}",
            decimals.to_string(),
            width = DECIMALS_WRITTEN as usize
        );
        if !rest.is_zero() {
            return format!("{whole}.{digits:.DECIMALS_OF_ENDLESS$}...");
        }
        match digits.trim_end_matches('0') {
            "" => whole.to_string(),
            digits => format!("{whole}.{digits}"),
        }
    }
}

/// a x b as a price in units, rounded to `scale` decimals, with no more than machine integers: the
/// common case, quickly. `None` where those are too small, which is for [`Fraction`] to compute.
/// Neither number is negative.
pub(super) fn product_in_units(
    a: Decimal,
    b: Decimal,
    scale: u32,
    rounding: Rounding,
) -> Result<Option<i128>, PriceError> {
    let filler = units_per_step(scale)?;
    let decimals = a.scale() + b.scale();
    let units = a.mantissa().checked_mul(b.mantissa()).and_then(|product| {
        let steps = if decimals <= scale {
            product.checked_mul(10_i128.pow(scale - decimals))?
        } else {
            rounding.divide(&product, &10_i128.checked_pow(decimals - scale)?)
        };
        steps.checked_mul(filler)
    });
    units.map(within_range).transpose()
}

/// How many units make the last decimal place of an asset.
fn units_per_step(scale: u32) -> Result<i128, PriceError> {
    let missing = UNIT_DECIMALS.checked_sub(scale);
    missing.map(|missing| 10_i128.pow(missing)).ok_or_else(|| {
        PriceError::Invalid(format!(
            "a price cannot be rounded to {scale} decimals: an asset has at most {UNIT_DECIMALS}"
        ))
    })
}

fn within_range(units: i128) -> Result<i128, PriceError> {
    if units < LIMIT {
        Ok(units)
    } else {
        Err(out_of_range())
    }
}

fn out_of_range() -> PriceError {
    PriceError::OutOfRange(
        "the price comes to 1000000000000000 (10^15) credits or more, which is beyond the limit"
            .into(),
    )
}

fn power_of_ten(exponent: u32) -> BigInt {
    // 10^38 is the largest that fits a machine integer.
    10_i128
        .checked_pow(exponent)
        .map_or_else(|| BigInt::from(10).pow(exponent), BigInt::from)
}
