//! Exact amounts of credits and of money.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use ethnum::U256;
use rust_decimal::Decimal;

/// The decimals an amount keeps, and the largest scale an asset can have.
pub const DECIMALS: u32 = 10;
const ONE: i128 = 10_i128.pow(DECIMALS);

/// An exact amount, of credits or of money, counted in units of 10^-10.
///
/// Every amount from outside is below 1e15 and every wallet below 1e18 ([`Amount::MAX_ISSUE`],
/// [`Amount::MAX_WALLET`]), so sums stay far from the ends of an `i128`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i128);

/// Why a decimal is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAnAmount {
    /// It has more decimals than are allowed here.
    TooPrecise { allowed: u32 },
    /// It is 1e15 or more.
    TooLarge,
}

impl Amount {
    pub const ZERO: Amount = Amount(0);
    /// What one call may issue, spend or be paid stays below this: 1e15.
    pub const MAX_ISSUE: Amount = Amount(1_000_000_000_000_000 * ONE);
    /// What a wallet holds or owes stays below this: 1e18.
    pub const MAX_WALLET: Amount = Amount(1_000_000_000_000_000_000 * ONE);

    /// An amount from its count of 10^-10 units.
    pub const fn from_units(units: i128) -> Amount {
        Amount(units)
    }

    /// The count of 10^-10 units.
    pub const fn units(self) -> i128 {
        self.0
    }

    /// The exact amount of a decimal with at most `scale` decimals (`scale` at most 10), below 1e15
    /// in size.
    pub fn from_decimal(value: Decimal, scale: u32) -> Result<Amount, NotAnAmount> {
        let value = value.normalize();
        if value.scale() > scale.min(DECIMALS) {
            return Err(NotAnAmount::TooPrecise { allowed: scale });
        }
        let units = value
            .mantissa()
            .checked_mul(10_i128.pow(DECIMALS - value.scale()))
            .ok_or(NotAnAmount::TooLarge)?;
        if units.abs() >= Amount::MAX_ISSUE.0 {
            return Err(NotAnAmount::TooLarge);
        }
        Ok(Amount(units))
    }

    /// The amount of a plain decimal text with at most ten decimals, as Postgres prints a `numeric`;
    /// `None` when it is none, or 1e20 or more.
    pub fn parse(text: &str) -> Option<Amount> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let part = part.trim_end_matches('0');
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 20 || part.len() > DECIMALS as usize {
            return None;
        }
        if !all_digits(whole) || !all_digits(part) {
            return None;
        }
        let whole: i128 = whole.parse().ok()?;
        let part: i128 = format!("{part:0<10}").parse().ok()?;
        let units = whole * ONE + part;
        Some(Amount(if negative { -units } else { units }))
    }

    /// The same value as a decimal; `None` for sums of 7.9e18 and more, which no wallet holds.
    pub fn to_decimal(self) -> Option<Decimal> {
        Decimal::try_from_i128_with_scale(self.0, DECIMALS)
            .ok()
            .map(|value| value.normalize())
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub fn is_positive(self) -> bool {
        self.0 > 0
    }

    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// This amount, or zero when it is negative.
    pub fn or_zero(self) -> Amount {
        self.max(Amount::ZERO)
    }

    /// The share `part / whole` of this amount, rounded half up at ten decimals; all of it when
    /// `part` is `whole`.
    ///
    /// None may be negative, and `part` may not exceed `whole`. The product is taken in 256 bits.
    pub fn share(self, part: Amount, whole: Amount) -> Amount {
        assert!(
            self.0 >= 0 && part.0 >= 0 && part.0 <= whole.0,
            "a share lies within its whole"
        );
        if part == whole {
            return self;
        }
        let product = U256::from(self.0.unsigned_abs()) * U256::from(part.0.unsigned_abs());
        let whole = U256::from(whole.0.unsigned_abs());
        let units = (product + whole / 2) / whole;
        // A share of an i128 by a fraction of at most one is an i128.
        Amount(units.as_i128())
    }

    /// So many percent of this amount, rounded down at ten decimals. None may be negative, and `percent` is
    /// at most 100.
    pub fn percent(self, percent: Amount) -> Amount {
        assert!(
            self.0 >= 0 && percent.0 >= 0 && percent.0 <= 100 * ONE,
            "a share lies within its whole"
        );
        let product = U256::from(self.0.unsigned_abs()) * U256::from(percent.0.unsigned_abs());
        // At most an i128, as its whole is.
        Amount((product / U256::from(100 * ONE.unsigned_abs())).as_i128())
    }

    /// The text with at least `decimals` decimals and no trailing zeros behind them.
    pub fn text(self, decimals: usize) -> String {
        let size = self.0.unsigned_abs();
        // 1e10 units each; what a wallet can hold has less than 2^64 whole units.
        let (whole, mut part) = (size / ONE as u128, (size % ONE as u128) as u64);
        let mut text = String::with_capacity(24);
        if self.0 < 0 {
            text.push('-');
        }
        match u64::try_from(whole) {
            Ok(whole) => text.push_str(&whole.to_string()),
            Err(_) => text.push_str(&whole.to_string()),
        }
        let mut digits = [b'0'; DECIMALS as usize];
        for digit in digits.iter_mut().rev() {
            *digit += (part % 10) as u8;
            part /= 10;
        }
        let needed = digits
            .iter()
            .rposition(|digit| *digit != b'0')
            .map_or(0, |last| last + 1);
        let keep = needed.max(decimals);
        if keep > 0 {
            text.push('.');
            text.extend(digits[..keep].iter().map(|digit| char::from(*digit)));
        }
        text
    }

    /// Money as text: two decimals at least, as prices are written.
    pub fn money(self) -> String {
        self.text(2)
    }
}

/// The shortest exact text: `3`, `0.5`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(0))
    }
}

impl Add for Amount {
    type Output = Amount;
    fn add(self, other: Amount) -> Amount {
        Amount(self.0 + other.0)
    }
}

impl Sub for Amount {
    type Output = Amount;
    fn sub(self, other: Amount) -> Amount {
        Amount(self.0 - other.0)
    }
}

impl Neg for Amount {
    type Output = Amount;
    fn neg(self) -> Amount {
        Amount(-self.0)
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        *self = *self + other;
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Amount) {
        *self = *self - other;
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(amounts: I) -> Amount {
        amounts.fold(Amount::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;
    use proptest::prelude::*;

    fn amount(text: &str) -> Amount {
        Amount::from_decimal(Decimal::from_str_exact(text).unwrap(), 10).unwrap()
    }

    #[test]
    fn text_is_exact_and_short() {
        for (input, short, money) in [
            ("0", "0", "0.00"),
            ("1.00", "1", "1.00"),
            ("0.6", "0.6", "0.60"),
            ("-12.0000000001", "-12.0000000001", "-12.0000000001"),
            (
                "999999999999999.9999999999",
                "999999999999999.9999999999",
                "999999999999999.9999999999",
            ),
        ] {
            assert_eq!(Amount::parse(input), Some(amount(input)));
            assert_eq!(amount(input).to_string(), short);
            assert_eq!(amount(input).money(), money);
        }
    }

    #[test]
    fn parses_plain_decimals_only() {
        for text in [
            "",
            "-",
            ".5",
            "1e3",
            "+1",
            "1.00000000001",
            "NaN",
            "1 ",
            "123456789012345678901",
        ] {
            assert_eq!(Amount::parse(text), None, "{text}");
        }
        assert_eq!(Amount::parse("1.000000000000"), Some(amount("1")));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let decimal = |t: &str| Decimal::from_str_exact(t).unwrap();
        assert_eq!(
            Amount::from_decimal(decimal("0.001"), 2),
            Err(NotAnAmount::TooPrecise { allowed: 2 })
        );
        assert_eq!(
            Amount::from_decimal(decimal("1000000000000000"), 0),
            Err(NotAnAmount::TooLarge)
        );
        assert_eq!(
            Amount::from_decimal(Decimal::MAX, 0),
            Err(NotAnAmount::TooLarge)
        );
    }

    proptest! {
        #[test]
        fn share_is_the_exact_quotient_rounded_half_up(
            value in 0..Amount::MAX_ISSUE.0, whole in 1..Amount::MAX_WALLET.0, part in 0..=10_000_i128
        ) {
            let part = whole * part / 10_000;
            let got = Amount(value).share(Amount(part), Amount(whole)).0;
            // |got * whole - value * part| <= whole / 2, and a tie goes up
            let error = BigInt::from(got) * whole - BigInt::from(value) * part;
            prop_assert!(BigInt::from(2) * &error <= BigInt::from(whole));
            prop_assert!(BigInt::from(2) * &error > BigInt::from(-whole));
        }

        #[test]
        fn shares_taken_to_the_end_give_all(value in 0..Amount::MAX_ISSUE.0, parts in prop::collection::vec(0..1_000_000_i128, 1..20)) {
            let mut left = Amount(value);
            let mut whole: i128 = parts.iter().sum();
            for part in parts {
                let took = left.share(Amount(part), Amount(whole));
                if whole > 0 { left -= took; }
                whole -= part;
            }
            prop_assert!(left.is_zero() || value == 0 || whole == 0);
        }
    }
}
