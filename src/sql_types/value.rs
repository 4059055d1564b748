//! Values that go to Postgres: arguments of statements and columns of rows.

use std::ffi::CString;

use pgrx::{IntoDatum, direct_function_call_as_datum, pg_sys};
use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::errors::{self, Result};
use crate::ledger::amount::DECIMALS;
use crate::ledger::numeric::Number;
use crate::ledger::{Amount, Moment};
use crate::sql_types::document;

/// One value, `None` for NULL. It lives in the memory context that was current when it was made.
pub type Value = Option<pg_sys::Datum>;

pub const NULL: Value = None;

/// Where a row of a table is: `ctid`.
pub type TablePlace = [u8; 6];

pub fn text(text: &str) -> Value {
    text.into_datum()
}

pub fn optional_text(text: Option<&str>) -> Value {
    text.and_then(IntoDatum::into_datum)
}

pub fn texts(texts: Option<&[String]>) -> Value {
    texts.and_then(|texts| texts.to_vec().into_datum())
}

/// An identifier of Postgres, of type name.
pub fn name(text: &str) -> Value {
    let text = CString::new(text).ok()?;
    // SAFETY: namein takes a C string.
    unsafe {
        direct_function_call_as_datum(pg_sys::namein, &[Some(pg_sys::Datum::from(text.as_ptr()))])
    }
}

/// A list of texts as the text of a `text[]`: what a list of such lists is made of, since an array of
/// arrays has them all of one length.
pub fn printed_texts(texts: Option<&[String]>) -> Value {
    let quoted = |text: &String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    texts.and_then(|texts| {
        let list: Vec<String> = texts.iter().map(quoted).collect();
        text(&format!("{{{}}}", list.join(",")))
    })
}

/// An array of values of one type, which is not itself an array.
pub fn array(kind: pg_sys::Oid, values: &[Value]) -> Value {
    let mut nulls: Vec<bool> = values.iter().map(Option::is_none).collect();
    let mut datums: Vec<pg_sys::Datum> = (values.iter())
        .map(|value| value.unwrap_or(pg_sys::Datum::from(0_usize)))
        .collect();
    let mut length = i32::try_from(values.len()).ok()?;
    let (mut from, mut size, mut by_value, mut align) = (1, 0_i16, false, 0);
    // SAFETY: the values are of this type, and there are as many flags as values.
    unsafe {
        pg_sys::get_typlenbyvalalign(kind, &mut size, &mut by_value, &mut align);
        let array = pg_sys::construct_md_array(
            datums.as_mut_ptr(),
            nulls.as_mut_ptr(),
            1,
            &mut length,
            &mut from,
            kind,
            i32::from(size),
            by_value,
            align,
        );
        Some(pg_sys::Datum::from(array))
    }
}

pub fn bytes(bytes: &[u8]) -> Value {
    bytes.into_datum()
}

pub fn table_place(place: &TablePlace) -> Value {
    // SAFETY: a tid is passed by reference; it is copied into memory that is aligned for it.
    unsafe {
        let copy = pg_sys::palloc(place.len());
        std::ptr::copy_nonoverlapping(place.as_ptr(), copy.cast(), place.len());
        Some(pg_sys::Datum::from(copy))
    }
}

pub fn bool(value: bool) -> Value {
    Some(pg_sys::Datum::from(value))
}

pub fn int(value: i32) -> Value {
    Some(pg_sys::Datum::from(value))
}

pub fn bigint(value: i64) -> Value {
    Some(pg_sys::Datum::from(value))
}

pub fn moment(moment: Moment) -> Value {
    bigint(moment.0)
}

pub fn optional_moment(moment: Option<Moment>) -> Value {
    moment.and_then(self::moment)
}

pub fn uuid(id: Uuid) -> Value {
    pgrx::datum::Uuid::from_bytes(*id.as_bytes()).into_datum()
}

pub fn ints(numbers: impl Iterator<Item = i32>) -> Value {
    numbers.collect::<Vec<_>>().into_datum()
}

pub fn uuids(ids: impl Iterator<Item = Uuid>) -> Value {
    let ids = ids.map(|id| pgrx::datum::Uuid::from_bytes(*id.as_bytes()));
    ids.collect::<Vec<_>>().into_datum()
}

pub fn optional_uuid(id: Option<Uuid>) -> Value {
    id.and_then(uuid)
}

/// Credits: as many decimals as they need.
pub fn credits(amount: Amount) -> Value {
    numeric(of_amount(amount).trimmed(0))
}

/// Money: at least two decimals.
pub fn money(amount: Amount) -> Value {
    numeric(of_amount(amount).trimmed(2))
}

/// Money with more decimals than an amount keeps: a vendor cost, or a margin over one.
pub fn money_decimal(value: Decimal) -> Value {
    numeric(of_decimal(value).trimmed(2))
}

pub fn decimal(value: Decimal) -> Value {
    numeric(of_decimal(value).trimmed(0))
}

fn of_amount(amount: Amount) -> Number {
    Number {
        units: amount.units(),
        scale: DECIMALS,
    }
}

fn of_decimal(value: Decimal) -> Number {
    Number {
        units: value.mantissa(),
        scale: value.scale(),
    }
}

/// A `numeric` in the form that `numeric_in` makes.
fn numeric(number: Number) -> Value {
    number.encode().as_bytes().into_datum()
}

/// A numeric, where it has a form and a size that need no text: of fewer than 28 digits.
pub fn read_number(numeric: pg_sys::Datum) -> Option<Number> {
    // SAFETY: a numeric is a varlena.
    let bytes = unsafe {
        let varlena = numeric.cast_mut_ptr::<pg_sys::varlena>();
        let plain = !pgrx::varlena::varatt_is_1b_e(varlena)
            && (pgrx::varlena::varatt_is_1b(varlena) || pgrx::varlena::varatt_is_4b_u(varlena));
        plain.then(|| pgrx::varlena::varlena_to_byte_slice(varlena))
    };
    let number = Number::decode(bytes?)?.trimmed(0);
    let fits = number.scale <= 28 && number.units.unsigned_abs() < 10_u128.pow(28);
    fits.then_some(number)
}

/// Such a number as a decimal.
pub fn read_decimal(numeric: pg_sys::Datum) -> Option<Decimal> {
    let Number { units, scale } = read_number(numeric)?;
    Decimal::try_from_i128_with_scale(units, scale).ok()
}

/// A `jsonb`. A text that Postgres cannot keep (a NUL in a string) is 22023, naming the argument.
pub fn json(argument: &str, value: &Json) -> Result<Value> {
    let holds_a_nul = || errors::invalid(argument, "a string in it holds a NUL character");
    if !document::is_short(value) {
        return document::make(value).map(Some).ok_or_else(holds_a_nul);
    }
    let text = value.to_string();
    // The escape may also be text that looks like one, after a backslash that is escaped itself.
    if text.contains("\\u0000") && holds_nul(value) {
        return Err(holds_a_nul());
    }
    Ok(jsonb(&text))
}

fn holds_nul(value: &Json) -> bool {
    match value {
        Json::String(text) => text.contains('\0'),
        Json::Array(list) => list.iter().any(holds_nul),
        Json::Object(object) => object
            .iter()
            .any(|(key, value)| key.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

pub fn optional_json(argument: &str, value: Option<&Json>) -> Result<Value> {
    value.map_or(Ok(NULL), |value| json(argument, value))
}

/// A `jsonb` of a JSON text.
pub fn jsonb(text: &str) -> Value {
    let text = CString::new(text).ok()?;
    // SAFETY: jsonb_in takes a C string.
    unsafe {
        direct_function_call_as_datum(
            pg_sys::jsonb_in,
            &[Some(pg_sys::Datum::from(text.as_ptr()))],
        )
    }
}

/// A `jsonb` of its bytes in the form that `jsonb_in` makes.
pub fn jsonb_bytes(bytes: &[u8]) -> Value {
    bytes.into_datum()
}

/// A jsonb, read.
pub fn read_json(jsonb: Value) -> Result<Option<Json>> {
    let Some(jsonb) = jsonb else {
        return Ok(None);
    };
    // SAFETY: callers pass the value of a jsonb column.
    let read = unsafe { document::read(jsonb) };
    read.map(Some)
        .map_err(|_| errors::corrupted("a document", "it is too long or too deep"))
}
