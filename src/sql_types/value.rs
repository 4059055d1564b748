//! Values that go to Postgres: arguments of statements and columns of rows.

use std::ffi::{CStr, CString};

use pgrx::{IntoDatum, direct_function_call_as_datum, pg_sys};
use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::errors::{self, Result};
use crate::ledger::{Amount, Moment};

/// One value, `None` for NULL. It lives in the memory context that was current when it was made.
pub type Value = Option<pg_sys::Datum>;

pub const NULL: Value = None;

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
    numeric(&amount.to_string())
}

/// Money: at least two decimals.
pub fn money(amount: Amount) -> Value {
    numeric(&amount.money())
}

/// Money with more decimals than an amount keeps: a vendor cost, or a margin over one.
pub fn money_decimal(value: Decimal) -> Value {
    let value = value.normalize();
    let mut text = value.to_string();
    if value.scale() < 2 {
        text.push_str([".00", "0"][value.scale() as usize]);
    }
    numeric(&text)
}

pub fn decimal(value: Decimal) -> Value {
    numeric(&value.normalize().to_string())
}

/// A `numeric` of its text.
fn numeric(text: &str) -> Value {
    let text = CString::new(text).ok()?;
    // SAFETY: numeric_in takes a C string, a type oid that it ignores and a typmod, -1 for none.
    unsafe {
        direct_function_call_as_datum(
            pg_sys::numeric_in,
            &[
                Some(pg_sys::Datum::from(text.as_ptr())),
                Some(pg_sys::Datum::from(0_u32)),
                Some(pg_sys::Datum::from(-1_i32)),
            ],
        )
    }
}

/// A `jsonb`. A text that Postgres cannot keep (a NUL in a string) is 22023, naming the argument.
pub fn json(argument: &str, value: &Json) -> Result<Value> {
    let text = value.to_string();
    // The escape may also be text that looks like one, after a backslash that is escaped itself.
    if text.contains("\\u0000") && holds_nul(value) {
        return Err(errors::invalid(
            argument,
            "a string in it holds a NUL character",
        ));
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

/// A jsonb, read.
pub fn read_json(jsonb: Value) -> Result<Option<Json>> {
    let Some(jsonb) = jsonb else {
        return Ok(None);
    };
    // SAFETY: an output function takes a value of its type and returns a C string.
    let text = unsafe {
        let text = direct_function_call_as_datum(pg_sys::jsonb_out, &[Some(jsonb)]);
        text.map(|text| CStr::from_ptr(text.cast_mut_ptr()).to_bytes())
    };
    serde_json::from_slice(text.unwrap_or_default())
        .map(Some)
        .map_err(|why| errors::corrupted("a document", why))
}
