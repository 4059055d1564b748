//! Decimal numbers at the borders: from text and JSON to [`Decimal`] and back, exactly.
//!
//! Nothing here rounds. A number that a [`Decimal`] cannot hold (96 bits, so 28 digits always fit
//! and 29 sometimes; at most 28 decimals) is refused with a text that says so. A number is judged
//! by its value, not by how it is written: `1.50` and `1.5e0` are the same, and trailing zeros
//! beyond 28 decimals do no harm.

use rust_decimal::Decimal;
use serde_json::Value;

/// How much of a caller's own text an error message repeats, in characters.
const SHOWN: usize = 40;

/// Reads a decimal number, exactly: `12`, `-0.5`, `.5`, `1e-3`. The result is normalised, and a
/// zero has no sign.
///
/// # Errors
/// Text that is not a number (NaN, infinities, spaces and digit separators included), and numbers
/// that do not fit.
pub fn parse_decimal(text: &str) -> Result<Decimal, String> {
    let not_a_number = || format!("{} is not a number", quoted(text));
    let too_many = || {
        format!(
            "{} has more digits than can be kept exactly (28, decimals included)",
            quoted(text)
        )
    };

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

    // The value is digits x 10^power. Zeros at the end go into the power, so that they never count
    // as digits.
    let fraction = fraction.trim_end_matches('0');
    let significant = if fraction.is_empty() {
        whole.trim_end_matches('0')
    } else {
        whole
    };
    let mut digits: i128 = 0;
    for byte in significant.bytes().chain(fraction.bytes()) {
        digits = digits
            .checked_mul(10)
            .and_then(|digits| digits.checked_add(i128::from(byte - b'0')))
            .ok_or_else(too_many)?;
    }
    if digits == 0 {
        return Ok(Decimal::ZERO);
    }
    let length = |part: &str| i64::try_from(part.len()).unwrap_or(i64::MAX);
    let power = exponent
        .saturating_add(length(whole) - length(significant))
        .saturating_sub(length(fraction));
    let places = u32::try_from(power.unsigned_abs()).map_err(|_| too_many())?;
    let (digits, scale) = if power > 0 {
        let shifted = 10_i128
            .checked_pow(places)
            .and_then(|shift| digits.checked_mul(shift));
        (shifted.ok_or_else(too_many)?, 0)
    } else {
        (digits, places)
    };
    let signed = if negative { -digits } else { digits };
    Decimal::try_from_i128_with_scale(signed, scale).map_err(|_| too_many())
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
        fn no_text_panics(text in "[-+.eE0-9]{0,80}|\\PC*") {
            let _ = parse_decimal(&text);
        }
    }
}
