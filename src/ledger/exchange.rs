//! Money of one currency in another.

use ethnum::I256;
use rust_decimal::Decimal;

/// What an amount was converted from, and at which rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversion {
    pub currency: String,
    pub rate: Decimal,
}

/// An amount of money times a rate, rounded half-even to a number of decimals (at most 28); `None` where
/// the product does not fit a decimal. Neither may be negative. The product is taken in 256 bits.
pub fn convert(amount: Decimal, rate: Decimal, decimals: u32) -> Option<Decimal> {
    let product = I256::from(amount.mantissa()) * I256::from(rate.mantissa());
    let scale = amount.scale() + rate.scale();
    let units = match scale.checked_sub(decimals) {
        None | Some(0) => return decimal(product, scale),
        // More than 56 decimals there are not.
        Some(extra) => {
            let divisor = I256::from(10).pow(extra);
            let (whole, rest) = (product / divisor, product % divisor);
            let above = divisor - rest;
            let up = rest > above || rest == above && whole % I256::from(2) != I256::ZERO;
            whole + I256::from(i128::from(up))
        }
    };
    decimal(units, decimals)
}

fn decimal(units: I256, scale: u32) -> Option<Decimal> {
    let units = i128::try_from(units).ok()?;
    let value = Decimal::try_from_i128_with_scale(units, scale).ok()?;
    Some(value.normalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::number::parse_decimal;
    use num_rational::BigRational;
    use proptest::prelude::*;

    fn of(text: &str) -> Decimal {
        parse_decimal(text).unwrap()
    }

    #[test]
    fn a_half_goes_to_the_even_digit() {
        for (amount, rate, expected) in [
            ("20", "1.1", "22"),
            ("0.5", "0.000000000001", "0"),
            ("1.5", "0.000000000001", "0.000000000002"),
            ("2.5", "0.000000000001", "0.000000000002"),
            ("2.50000001", "0.000000000001", "0.000000000003"),
            ("0", "1.1", "0"),
        ] {
            assert_eq!(
                convert(of(amount), of(rate), 12),
                Some(of(expected)),
                "{amount} x {rate}"
            );
        }
        assert_eq!(convert(Decimal::MAX, of("10"), 12), None);
    }

    proptest! {
        #[test]
        fn it_is_the_product_within_half_a_unit(
            amount in 0..=79_228_162_514_264_337_593_543_950_335_i128, scale in 0..=28_u32,
            rate in 1..=79_228_162_514_264_337_593_543_950_335_i128, rate_scale in 0..=28_u32, decimals in 0..=12_u32,
        ) {
            let amount = Decimal::from_i128_with_scale(amount, scale);
            let rate = Decimal::from_i128_with_scale(rate, rate_scale);
            let ratio = |d: Decimal| BigRational::new(d.mantissa().into(), num_bigint::BigInt::from(10).pow(d.scale()));
            let exact = ratio(amount) * ratio(rate);
            match convert(amount, rate, decimals) {
                Some(found) => {
                    prop_assert!(found.scale() <= decimals);
                    let unit = BigRational::new(1.into(), num_bigint::BigInt::from(10).pow(decimals));
                    let off = ratio(found) - exact;
                    let off = if off < BigRational::from_integer(0.into()) { -off } else { off };
                    prop_assert!(off * BigRational::from_integer(2.into()) <= unit);
                }
                None => prop_assert!(exact > BigRational::from_integer(79_228_162_514_i64.into())),
            }
        }
    }
}
