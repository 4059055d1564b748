//! The arguments of a SQL function, checked. Every refusal names the argument and says why.

use std::ffi::CStr;

use pgrx::{FromDatum, direct_function_call_as_datum, fcinfo, pg_sys};
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::errors::{self, Result};
use crate::ledger::amount::NotAnAmount;
use crate::ledger::number::parse_decimal;
use crate::ledger::{Amount, Moment};

/// Names and keys are indexed, so they are short.
const MAX_NAME_BYTES: usize = 255;

pub struct Args {
    fcinfo: pg_sys::FunctionCallInfo,
}

impl Args {
    /// # Safety
    /// `fcinfo` is what Postgres passed to the function that is running.
    pub unsafe fn new(fcinfo: pg_sys::FunctionCallInfo) -> Args {
        Args { fcinfo }
    }

    /// For what only Postgres understands: the result type, set-returning machinery.
    pub fn fcinfo(&self) -> pg_sys::FunctionCallInfo {
        self.fcinfo
    }

    fn get<T: FromDatum>(&self, at: usize) -> Option<T> {
        // SAFETY: fcinfo is valid for as long as the call; the SQL declaration and the reader of an
        // argument stand side by side in the tests, which call every function with every argument.
        unsafe { fcinfo::pg_getarg(self.fcinfo, at) }
    }

    fn datum(&self, at: usize) -> Option<pg_sys::Datum> {
        // SAFETY: as above.
        unsafe { fcinfo::pg_getarg_datum(self.fcinfo, at) }
    }

    // ---- texts ------------------------------------------------------------------------------

    /// Any text, or NULL.
    pub fn text(&self, at: usize, name: &str) -> Result<Option<String>> {
        let Some(bytes) = self.get::<&[u8]>(at) else {
            return Ok(None);
        };
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(errors::invalid(name, "it is not UTF-8")),
        }
    }

    /// A name or a key: not empty, at most 255 bytes; or NULL.
    pub fn optional_name(&self, at: usize, name: &str) -> Result<Option<String>> {
        let text = self.text(at, name)?;
        if let Some(text) = &text {
            check_name(name, text)?;
        }
        Ok(text)
    }

    /// A name or an id: not NULL, not empty, at most 255 bytes.
    pub fn name(&self, at: usize, name: &str) -> Result<String> {
        required(name, self.optional_name(at, name)?)
    }

    /// An identifier of Postgres: of type name, not NULL, not empty.
    pub fn identifier(&self, at: usize, name: &str) -> Result<String> {
        // A name is a C string in a field of fixed length.
        let text = self.cstring(at, name)?;
        check_name(name, &text)?;
        Ok(text)
    }

    /// A list of texts without NULLs, at most 100; or NULL.
    pub fn names(&self, at: usize, name: &str) -> Result<Option<Vec<String>>> {
        let Some(list) = self.get::<Vec<Option<String>>>(at) else {
            return Ok(None);
        };
        if list.len() > 100 {
            return Err(errors::invalid(name, "more than 100 elements"));
        }
        let mut names = Vec::with_capacity(list.len());
        for element in list {
            let element = element.ok_or_else(|| errors::invalid(name, "an element is NULL"))?;
            check_name(name, &element)?;
            names.push(element);
        }
        Ok(Some(names))
    }

    // ---- numbers ----------------------------------------------------------------------------

    pub fn int(&self, at: usize, name: &str) -> Result<i32> {
        required(name, self.get(at))
    }

    pub fn optional_bigint(&self, at: usize) -> Option<i64> {
        self.get(at)
    }

    pub fn bool(&self, at: usize, name: &str) -> Result<bool> {
        required(name, self.get(at))
    }

    /// A number that is not negative, read exactly; or NULL.
    pub fn optional_quantity(&self, at: usize, name: &str) -> Result<Option<Decimal>> {
        let Some(datum) = self.datum(at) else {
            return Ok(None);
        };
        // SAFETY: the argument is declared numeric; numeric_out returns a C string.
        let text = unsafe {
            let text = direct_function_call_as_datum(pg_sys::numeric_out, &[Some(datum)]);
            text.map(|text| CStr::from_ptr(text.cast_mut_ptr()).to_string_lossy())
        };
        let text = required(name, text)?;
        match text.as_ref() {
            "NaN" | "Infinity" | "-Infinity" => {
                return Err(errors::invalid(
                    name,
                    format_args!("{text} is not a number to count with"),
                ));
            }
            _ => {}
        }
        let whole_digits = text
            .trim_start_matches('-')
            .split('.')
            .next()
            .map_or(0, str::len);
        if whole_digits > 28 {
            return Err(errors::out_of_range(name, "it has more than 28 digits"));
        }
        let value = parse_decimal(&text).map_err(|why| errors::invalid(name, why))?;
        if value.is_sign_negative() && !value.is_zero() {
            return Err(errors::invalid(name, format_args!("{value} is negative")));
        }
        Ok(Some(value))
    }

    pub fn quantity(&self, at: usize, name: &str) -> Result<Decimal> {
        required(name, self.optional_quantity(at, name)?)
    }

    /// An amount that is not negative, with at most `scale` decimals and below 1e15; or NULL.
    pub fn optional_amount(&self, at: usize, name: &str, scale: u32) -> Result<Option<Amount>> {
        match self.optional_quantity(at, name)? {
            None => Ok(None),
            Some(value) => amount(name, value, scale).map(Some),
        }
    }

    pub fn amount(&self, at: usize, name: &str, scale: u32) -> Result<Amount> {
        required(name, self.optional_amount(at, name, scale)?)
    }

    // ---- the rest ---------------------------------------------------------------------------

    pub fn optional_uuid(&self, at: usize) -> Option<Uuid> {
        self.get::<pgrx::datum::Uuid>(at)
            .map(|id| Uuid::from_bytes(*id.as_bytes()))
    }

    pub fn uuid(&self, at: usize, name: &str) -> Result<Uuid> {
        required(name, self.optional_uuid(at))
    }

    /// A list of ids without NULLs, not NULL itself.
    pub fn uuids(&self, at: usize, name: &str) -> Result<Vec<Uuid>> {
        let list = required(name, self.get::<Vec<Option<pgrx::datum::Uuid>>>(at))?;
        list.into_iter()
            .map(|id| {
                let id = id.ok_or_else(|| errors::invalid(name, "an element is NULL"))?;
                Ok(Uuid::from_bytes(*id.as_bytes()))
            })
            .collect()
    }

    /// A finite moment up to the year 9999; or NULL.
    pub fn optional_moment(&self, at: usize, name: &str) -> Result<Option<Moment>> {
        // A timestamptz is an i64 of microseconds, its ends the infinities.
        match self.datum(at).map(|datum| Moment(datum.value() as i64)) {
            None => Ok(None),
            Some(Moment(i64::MAX | i64::MIN)) => Err(errors::invalid(
                name,
                "it is infinite; NULL stands for no end",
            )),
            Some(moment) => match moment.plus_seconds(0) {
                Some(moment) => Ok(Some(moment)),
                None => Err(errors::out_of_range(name, "it lies beyond the year 9999")),
            },
        }
    }

    pub fn moment(&self, at: usize, name: &str) -> Result<Moment> {
        required(name, self.optional_moment(at, name)?)
    }

    /// Any JSON, its numbers exact; or NULL.
    pub fn optional_json(&self, at: usize, name: &str) -> Result<Option<Json>> {
        let Some(datum) = self.datum(at) else {
            return Ok(None);
        };
        // SAFETY: the argument is declared jsonb; jsonb_out returns a C string.
        let text = unsafe {
            let text = direct_function_call_as_datum(pg_sys::jsonb_out, &[Some(datum)]);
            text.map(|text| CStr::from_ptr(text.cast_mut_ptr()).to_string_lossy())
        };
        let text = required(name, text)?;
        // A jsonb is well-formed: depth is all that can be wrong with it.
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|_| errors::invalid(name, "it is nested deeper than 127 levels"))
    }

    /// A JSON object; or NULL.
    pub fn optional_object(&self, at: usize, name: &str) -> Result<Option<Map<String, Json>>> {
        match self.optional_json(at, name)? {
            None => Ok(None),
            Some(Json::Object(object)) => Ok(Some(object)),
            Some(_) => Err(errors::invalid(name, "it has to be a JSON object")),
        }
    }

    pub fn object(&self, at: usize, name: &str) -> Result<Map<String, Json>> {
        required(name, self.optional_object(at, name)?)
    }

    pub fn bytes(&self, at: usize, name: &str) -> Result<&[u8]> {
        required(name, self.get::<&[u8]>(at))
    }

    /// The pointer of an argument of type internal.
    pub fn internal<T>(&self, at: usize) -> Result<*mut T> {
        required("internal", self.datum(at)).map(|datum| datum.cast_mut_ptr())
    }

    /// The C string that a type's input function gets.
    pub fn cstring(&self, at: usize, name: &str) -> Result<String> {
        let text = required(name, self.get::<&CStr>(at))?;
        text.to_str()
            .map(str::to_owned)
            .map_err(|_| errors::invalid(name, "it is not UTF-8"))
    }
}

/// The amount of a decimal that is not negative.
pub fn amount(name: &str, value: Decimal, scale: u32) -> Result<Amount> {
    Amount::from_decimal(value, scale).map_err(|why| match why {
        NotAnAmount::TooPrecise { allowed } => errors::invalid(
            name,
            format_args!("{value} has more than {allowed} decimals"),
        ),
        NotAnAmount::TooLarge => {
            errors::out_of_range(name, format_args!("{value} is not below 1e15"))
        }
    })
}

pub fn required<T>(name: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| errors::invalid(name, "it may not be NULL"))
}

fn check_name(name: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(errors::invalid(name, "it is empty"));
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(errors::invalid(
            name,
            format_args!(
                "it is {} bytes long, {MAX_NAME_BYTES} are allowed",
                text.len()
            ),
        ));
    }
    Ok(())
}
