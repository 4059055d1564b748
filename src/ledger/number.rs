//! Decimal numbers at the borders: from text and JSON to [`Decimal`] and back, exactly.
//!
//! Only what was measured is rounded, where a function says so. Any other number that a [`Decimal`]
//! cannot hold (96 bits, so 28 digits always fit and 29 sometimes; at most 28 decimals) is refused
//! with a text that says so. A number is judged by its value, not by how it is written: `1.50` and
//! `1.5e0` are the same, and trailing zeros beyond 28 decimals do no harm.

use rust_decimal::Decimal;
use serde_json::Value;

/// How much of a caller's own text an error message repeats, in characters.
const SHOWN: usize = 40;

/// The decimals with which counts, quantities and vendor costs are kept.
pub const MEASURED_DECIMALS: u32 = 12;

/// This number of digits always fits a [`Decimal`].
const DIGITS: i64 = 28;

/// Reads a decimal number, exactly: `12`, `-0.5`, `.5`, `1e-3`. The result is normalised, and a
/// zero has no sign.
///
/// # Errors
/// Text that is not a number (NaN, infinities, spaces and digit separators included), and numbers
/// that do not fit.
pub fn parse_decimal(text: &str) -> Result<Decimal, String> {
    read(text)?.exact().ok_or_else(|| {
        format!(
            "{} has more digits than can be kept exactly (28, decimals included)",
            quoted(text)
        )
    })
}

/// Reads a number that was measured, often a product of floats: rounded half-even to a number of decimals,
/// and to fewer where more than 28 digits would be left.
///
/// # Errors
/// Text that is not a number, and numbers with more than 28 digits before the point.
pub fn parse_measured(text: &str, decimals: u32) -> Result<Decimal, String> {
    let number = read(text)?;
    let exact = number.exact().filter(|exact| exact.scale() <= decimals);
    exact.or_else(|| number.rounded(decimals)).ok_or_else(|| {
        format!(
            "{} has more than {DIGITS} digits before the point",
            quoted(text)
        )
    })
}

/// A number as it is written: digits x 10^power. Zeros at its end are part of the power, so that they
/// never count as digits.
struct WrittenNumber<'a> {
    negative: bool,
    /// Before and after the decimal point.
    digits: [&'a str; 2],
    power: i64,
}

fn read(text: &str) -> Result<WrittenNumber<'_>, String> {
    let not_a_number = || format!("{} is not a number", quoted(text));
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (number, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, read_exponent(exponent).ok_or_else(not_a_number)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = whole
        .bytes()
        .chain(fraction.bytes())
        .all(|byte| byte.is_ascii_digit());
    if !all_digits || (whole.is_empty() && fraction.is_empty()) {
        return Err(not_a_number());
    }
    let fraction = fraction.trim_end_matches('0');
    let significant = if fraction.is_empty() {
        whole.trim_end_matches('0')
    } else {
        whole
    };
    Ok(WrittenNumber {
        negative,
        digits: [significant.trim_start_matches('0'), fraction],
        power: exponent
            .saturating_add(length(whole) - length(significant))
            .saturating_sub(length(fraction)),
    })
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

impl WrittenNumber<'_> {
    fn bytes(&self) -> impl Iterator<Item = u8> {
        let [whole, fraction] = self.digits;
        whole
            .bytes()
            .chain(fraction.bytes())
            .map(|byte| byte - b'0')
    }

    /// `None` where it does not fit.
    fn exact(&self) -> Option<Decimal> {
        let mut digits: i128 = 0;
        for digit in self.bytes() {
            digits = digits.checked_mul(10)?.checked_add(digit.into())?;
        }
        if digits == 0 {
            return Some(Decimal::ZERO);
        }
        let places = u32::try_from(self.power.unsigned_abs()).ok()?;
        if self.power > 0 {
            digits = digits.checked_mul(10_i128.checked_pow(places)?)?;
        }
        self.decimal(digits, if self.power > 0 { 0 } else { places })
    }

    /// `None` where more than 28 digits stand before the point.
    fn rounded(&self, decimals: u32) -> Option<Decimal> {
        let leading = self.bytes().take_while(|digit| *digit == 0).count();
        let digits = self.bytes().skip(leading);
        let count =
            length(self.digits[0]) + length(self.digits[1]) - i64::try_from(leading).ok()?;
        if count == 0 {
            return Some(Decimal::ZERO);
        }
        let before_point = count.saturating_add(self.power);
        if before_point > DIGITS {
            return None;
        }
        let decimals = i64::from(decimals).min(DIGITS - before_point.max(0));
        // So many digits are kept; the first one after them decides, then whether more follow.
        let kept = before_point.saturating_add(decimals);
        if kept < 0 {
            return Some(Decimal::ZERO);
        }
        let (mut units, mut after): (i128, _) = (0, None);
        let mut more = false;
        for (place, digit) in (0..).zip(digits) {
            if place < kept {
                units = units * 10 + i128::from(digit);
            } else if after.is_none() {
                after = Some(digit);
            } else {
                more |= digit > 0;
            }
        }
        units *= 10_i128.checked_pow(u32::try_from((kept - count).max(0)).ok()?)?;
        let up = match after {
            Some(6..) => true,
            Some(5) => more || units % 2 == 1,
            _ => false,
        };
        self.decimal(units + i128::from(up), u32::try_from(decimals).ok()?)
    }

    /// Normalised, and zero without a sign.
    fn decimal(&self, digits: i128, scale: u32) -> Option<Decimal> {
        let signed = if self.negative { -digits } else { digits };
        let decimal = Decimal::try_from_i128_with_scale(signed, scale).ok()?;
        Some(decimal.normalize())
    }
}

/// Reads a number from JSON, exactly: a JSON number, or a string that holds one.
///
/// # Errors
/// Those of [`parse_decimal`], and any other kind of JSON value.
pub fn json_decimal(value: &Value) -> Result<Decimal, String> {
    match value {
        Value::Number(number) => parse_decimal(number.as_str()),
        Value::String(text) => parse_decimal(text),
        other => Err(format!(
            "must be a number or a string with a number, not {}",
            kind_of(other)
        )),
    }
}

/// Reads a count from JSON: as [`json_decimal`] does, but rounded as [`parse_measured`] does.
///
/// # Errors
/// Those of [`parse_measured`], and any other kind of JSON value.
pub fn json_measured(value: &Value) -> Result<Decimal, String> {
    match value {
        Value::Number(number) => parse_measured(number.as_str(), MEASURED_DECIMALS),
        Value::String(text) => parse_measured(text, MEASURED_DECIMALS),
        other => json_decimal(other),
    }
}

/// The shortest plain text of a number: no exponent, no trailing zeros, no negative zero.
pub fn plain(number: Decimal) -> String {
    number.normalize().to_string()
}

/// What a JSON value is, in words, for error messages.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A caller's own text in quotes, shortened if it is long, for error messages.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("\"{}...\"", &text[..end]),
        None => format!("\"{text}\""),
    }
}

/// The digits after the `e`. An exponent too long to be read is as good as any other that fits no
/// number.
fn read_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX);
    Some(if negative { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> String {
        parse_decimal(text).map_or_else(|error| error, plain)
    }

    #[test]
    fn numbers_are_read_exactly() {
        for (text, value) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.000", "0"),
            ("+5", "5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("007", "7"),
            ("1.500", "1.5"),
            ("1e3", "1000"),
            ("1E+3", "1000"),
            ("1e-3", "0.001"),
            ("12.50e1", "125"),
            ("-2.5e-2", "-0.025"),
            ("0e99999999999999999999", "0"),
            ("1e28", "10000000000000000000000000000"),
            ("1e-28", "0.0000000000000000000000000001"),
            (
                "79228162514264337593543950335",
                "79228162514264337593543950335",
            ),
            (
                "7.9228162514264337593543950335",
                "7.9228162514264337593543950335",
            ),
            ("1.00000000000000000000000000000000000000000000", "1"),
            ("10000000000000000000000000000000000000000e-40", "1"),
            ("0.00000000000000000000000000000000000000001e41", "1"),
        ] {
            assert_eq!(read(text), value, "{text}");
        }
    }

    #[test]
    fn a_result_is_normalised() {
        assert_eq!(parse_decimal("1.500").map(|number| number.scale()), Ok(1));
        assert_eq!(parse_decimal("100").map(|number| number.scale()), Ok(0));
        assert!(parse_decimal("-0").is_ok_and(|zero| zero.is_sign_positive()));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", " ", ".", "-", "+", "e1", "1e", "1e+", "1e1.5", "--1", "+-1", "1-", " 1", "1 ",
            "1,5", "1_000", "0x1", "NaN", "nan", "Infinity", "-inf", "1.2.3", "1e1e1", "\u{661}",
            "one",
        ] {
            assert_eq!(
                parse_decimal(text),
                Err(format!("\"{text}\" is not a number")),
                "{text}"
            );
        }
    }

    #[test]
    fn too_many_digits_are_refused_not_rounded() {
        for text in [
            "79228162514264337593543950336",
            "-79228162514264337593543950336",
            "1e29",
            "1e-29",
            "0.00000000000000000000000000001",
            "1.23456789012345678901234567891",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "1234567890123456789012345678901234567890123456789",
        ] {
            assert!(
                parse_decimal(text).is_err_and(|error| error.contains("more digits")),
                "{text}"
            );
        }
    }

    #[test]
    fn what_was_measured_is_rounded_half_even() {
        let measured = |text| parse_measured(text, 12).map_or_else(|error| error, plain);
        for (text, value) in [
            ("0.30000000000000004", "0.3"),
            ("0.1234567890125", "0.123456789012"),
            ("0.1234567890135", "0.123456789014"),
            (
                "0.12345678901250000000000000000000000000001",
                "0.123456789013",
            ),
            ("0.0000000000005", "0"),
            (
                "0.00000000000050000000000000000000000000000000001",
                "0.000000000001",
            ),
            ("-0.0000000000001", "0"),
            ("1e-400000000000000000000", "0"),
            ("5e-13", "0"),
            ("15e-13", "0.000000000002"),
            ("9999999999999999.9999999999999", "10000000000000000"),
            (
                "9234567890123456789012345678.5",
                "9234567890123456789012345678",
            ),
            (
                "9234567890123456789012345678.51",
                "9234567890123456789012345679",
            ),
            (
                "123456789012345678.1234567890129",
                "123456789012345678.1234567890",
            ),
            ("1e28", "10000000000000000000000000000"),
            ("12e20", "1200000000000000000000"),
        ] {
            let value = parse_decimal(value).map_or_else(|error| error, plain);
            assert_eq!(measured(text), value, "{text}");
        }
        for text in [
            "12345678901234567890123456789.5",
            "1e29",
            "1e99999999999999999999",
        ] {
            assert!(measured(text).contains("before the point"), "{text}");
        }
        assert!(measured("NaN").contains("not a number"));
    }

    #[test]
    fn a_long_text_is_shortened_in_the_message() {
        let error = parse_decimal(&"ü".repeat(1000)).unwrap_err();
        assert!(error.chars().count() < 80, "{error}");
    }

    #[test]
    fn json_numbers_and_strings_are_read() {
        assert_eq!(json_decimal(&json!("1.5")).map(plain), Ok("1.5".into()));
        let exact: Value = serde_json::from_str("1234567890.0987654321012345678").unwrap();
        assert_eq!(
            json_decimal(&exact).map(plain),
            Ok("1234567890.0987654321012345678".into())
        );
        let exponent: Value = serde_json::from_str("1e-3").unwrap();
        assert_eq!(json_decimal(&exponent).map(plain), Ok("0.001".into()));
        for (value, kind) in [
            (json!(null), "null"),
            (json!(true), "boolean"),
            (json!([1]), "array"),
            (json!({}), "object"),
        ] {
            assert!(
                json_decimal(&value).is_err_and(|error| error.contains(kind)),
                "{value}"
            );
        }
    }

    proptest! {
        #[test]
        fn text_and_number_agree(digits in -79_228_162_514_264_337_593_543_950_335_i128..=79_228_162_514_264_337_593_543_950_335, scale in 0_u32..=28) {
            let number = Decimal::try_from_i128_with_scale(digits, scale).unwrap();
            prop_assert_eq!(parse_decimal(&number.to_string()), Ok(number));
            prop_assert_eq!(parse_decimal(&plain(number)), Ok(number));
            prop_assert_eq!(parse_decimal(&format!("{digits}e-{scale}")), Ok(number));
            prop_assert!(!plain(number).contains(['e', 'E']));
        }

        #[test]
        fn rounding_a_text_is_rounding_its_number(digits in -79_228_162_514_264_337_593_543_950_335_i128..=79_228_162_514_264_337_593_543_950_335, scale in 0_u32..=28, decimals in 0_u32..=12) {
            let number = Decimal::try_from_i128_with_scale(digits, scale).unwrap();
            let rounded = number.round_dp(decimals);
            prop_assert_eq!(parse_measured(&number.to_string(), decimals), Ok(rounded));
            prop_assert_eq!(parse_measured(&format!("{digits}e-{scale}"), decimals), Ok(rounded));
        }

        #[test]
        fn no_text_panics(text in "[-+.eE0-9]{0,80}|\\PC*") {
            let _ = parse_decimal(&text);
            let _ = parse_measured(&text, 12);
        }
    }
}
