//! The arguments of a SQL function, checked. Every refusal names the argument and says why.

use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::{CStr, CString};

use pgrx::{Array, FromDatum, PgTryBuilder, direct_function_call_as_datum, fcinfo, pg_sys};
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::errors::{self, Result};
use crate::ledger::amount::{DECIMALS, NotAnAmount};
use crate::ledger::number::{parse_decimal, parse_measured};
use crate::ledger::{Amount, Moment};
use crate::sql_types::argument_names::ArgumentNames;
use crate::sql_types::document::{self, MAX_BYTES};
use crate::sql_types::named::{Named, Signature, encoded_twice};
use crate::sql_types::value::{self, Value};

pub use crate::sql_types::named::required;

/// Names and keys are indexed, so they are short.
const MAX_NAME_BYTES: usize = 255;

/// The arguments that say what a call is about.
const SUBJECTS: [&str; 10] = [
    "customer",
    "to_customer",
    "asset",
    "action",
    "plan",
    "scope",
    "authorization_id",
    "debit_id",
    "grant_id",
    "event_id",
];

/// The arguments of one call: as Postgres passes them, or those of a JSON object. Every reader takes their name.
pub struct Args<'a> {
    fcinfo: pg_sys::FunctionCallInfo,
    names: ArgumentNames,
    named: Option<Named<'a>>,
    /// Positions of jsonb arguments that were not read as they are stored, a bit each.
    decoded: Cell<u64>,
}

impl Args<'_> {
    /// # Safety
    /// `fcinfo` is what Postgres passed to the function that is running.
    pub unsafe fn new(fcinfo: pg_sys::FunctionCallInfo) -> Args<'static> {
        Args {
            fcinfo,
            // SAFETY: as the caller promises.
            names: unsafe { ArgumentNames::of(fcinfo) },
            named: None,
            decoded: Cell::new(0),
        }
    }

    /// The arguments that an object names.
    pub fn by_name<'a>(
        &self,
        given: &'a Map<String, Json>,
        signature: &'a Signature,
    ) -> Result<Args<'a>> {
        Ok(Args {
            fcinfo: self.fcinfo,
            names: self.names.clone(),
            named: Some(Named::new(given, signature)?),
            decoded: Cell::new(0),
        })
    }

    /// What the call is about, where the arguments can be read: it belongs into every error.
    pub fn subject(&self) -> Vec<(&'static str, String)> {
        let given = |name: &&'static str| {
            let is_there = match self.named {
                Some(named) => named.declares(name),
                None => self.names.contains(name),
            };
            let value = match name.ends_with("_id") {
                _ if !is_there => None,
                true => self.optional_uuid(name).ok()?.map(|id| id.to_string()),
                false => self.optional_name(name).ok()?,
            };
            Some((*name, value?))
        };
        SUBJECTS.iter().filter_map(given).collect()
    }

    /// The one argument of a jsonb form.
    pub fn request(&self) -> Result<Map<String, Json>> {
        self.object("request")
    }

    /// For what only Postgres understands: the result type, set-returning machinery.
    pub fn fcinfo(&self) -> pg_sys::FunctionCallInfo {
        self.fcinfo
    }

    fn position(&self, name: &str) -> Result<usize> {
        let missing = || errors::corrupted("the installation", format_args!("no argument {name}"));
        self.names.position(name).ok_or_else(missing)
    }

    /// `None`: it is NULL, or an object has the arguments.
    fn get<T: FromDatum>(&self, name: &str) -> Result<Option<T>> {
        if self.named.is_some() {
            return Ok(None);
        }
        let at = self.position(name)?;
        // SAFETY: fcinfo is valid for as long as the call; the SQL declaration and the reader of an
        // argument stand side by side in the tests, which call every function with every argument.
        Ok(unsafe { fcinfo::pg_getarg(self.fcinfo, at) })
    }

    fn datum(&self, name: &str) -> Result<Option<pg_sys::Datum>> {
        if self.named.is_some() {
            return Ok(None);
        }
        let at = self.position(name)?;
        // SAFETY: as above.
        Ok(unsafe { fcinfo::pg_getarg_datum(self.fcinfo, at) })
    }

    // ---- texts ------------------------------------------------------------------------------

    /// Any text, or NULL.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        if let Some(named) = self.named {
            return named.text(name);
        }
        let Some(bytes) = self.get::<&[u8]>(name)? else {
            return Ok(None);
        };
        utf8(name, bytes).map(|text| Some(text.to_owned()))
    }

    /// A name or a key: not empty, at most 255 bytes; or NULL.
    pub fn optional_name(&self, name: &str) -> Result<Option<String>> {
        let text = self.text(name)?;
        if let Some(text) = &text {
            check_name(name, text)?;
            // An untyped literal is a text to Postgres: the jsonb form has to be asked for.
            let start = text.trim_start();
            // [object Object] is what JavaScript makes of an object.
            let is_object = start.starts_with('{') || start.starts_with("[object ");
            if ["customer", "to_customer"].contains(&name) && is_object {
                return Err(errors::customer_is_an_object(name));
            }
        }
        Ok(text)
    }

    /// A name or an id: not NULL, not empty, at most 255 bytes.
    pub fn name(&self, name: &str) -> Result<String> {
        required(name, self.optional_name(name)?)
    }

    /// An identifier of Postgres: of type name, not NULL, not empty.
    pub fn identifier(&self, name: &str) -> Result<String> {
        // A name is a C string in a field of fixed length.
        let text = self.cstring(name)?;
        check_name(name, &text)?;
        Ok(text)
    }

    /// A list of texts without NULLs, at most 100; or NULL.
    pub fn names(&self, name: &str) -> Result<Option<Vec<String>>> {
        if let Some(named) = self.named {
            let Some(list) = named.texts(name)? else {
                return Ok(None);
            };
            let texts = list.iter().map(|text| text.as_deref().map(str::as_bytes));
            return read_names(name, list.len(), texts).map(Some);
        }
        let Some(list) = self.get::<Array<&[u8]>>(name)? else {
            return Ok(None);
        };
        read_names(name, list.len(), list.iter()).map(Some)
    }

    // ---- numbers ----------------------------------------------------------------------------

    pub fn int(&self, name: &str) -> Result<i32> {
        required(name, self.optional_int(name)?)
    }

    pub fn optional_int(&self, name: &str) -> Result<Option<i32>> {
        match self.named {
            None => self.get(name),
            Some(named) => named.whole(name, 32),
        }
    }

    pub fn optional_bigint(&self, name: &str) -> Result<Option<i64>> {
        match self.named {
            None => self.get(name),
            Some(named) => named.whole(name, 64),
        }
    }

    pub fn bool(&self, name: &str) -> Result<bool> {
        match self.named {
            None => required(name, self.get(name)?),
            Some(named) => named.bool(name),
        }
    }

    /// A number that is not negative, read exactly; or NULL.
    pub fn optional_quantity(&self, name: &str) -> Result<Option<Decimal>> {
        if let Some(number) = self.plain_number(name)? {
            return Ok(Some(number));
        }
        let text = self.number(name)?;
        text.map(|text| quantity(name, &text, None)).transpose()
    }

    /// A measurement that is not negative, rounded half-even to a number of decimals; or NULL.
    pub fn optional_measure(&self, name: &str, decimals: u32) -> Result<Option<Decimal>> {
        if let Some(number) = self.plain_number(name)?.filter(|n| n.scale() <= decimals) {
            return Ok(Some(number));
        }
        let text = self.number(name)?;
        text.map(|text| quantity(name, &text, Some(decimals)))
            .transpose()
    }

    pub fn measure(&self, name: &str, decimals: u32) -> Result<Decimal> {
        required(name, self.optional_measure(name, decimals)?)
    }

    /// A number that is not negative and needs no text to be read.
    fn plain_number(&self, name: &str) -> Result<Option<Decimal>> {
        let number = self.datum(name)?.and_then(value::read_decimal);
        Ok(number.filter(|number| !number.is_sign_negative()))
    }

    /// The text of a number.
    fn number(&self, name: &str) -> Result<Option<Cow<'_, str>>> {
        if let Some(named) = self.named {
            return Ok(named.digits(name)?.map(Cow::Owned));
        }
        let Some(datum) = self.datum(name)? else {
            return Ok(None);
        };
        // SAFETY: the argument is declared numeric; numeric_out returns a C string.
        let text = unsafe {
            let text = direct_function_call_as_datum(pg_sys::numeric_out, &[Some(datum)]);
            text.map(|text| CStr::from_ptr(text.cast_mut_ptr()).to_string_lossy())
        };
        required(name, text).map(Some)
    }

    pub fn quantity(&self, name: &str) -> Result<Decimal> {
        required(name, self.optional_quantity(name)?)
    }

    /// An amount that is not negative, with at most `scale` decimals and below 1e15; or NULL.
    pub fn optional_amount(&self, name: &str, scale: u32) -> Result<Option<Amount>> {
        match self.optional_quantity(name)? {
            None => Ok(None),
            Some(value) => amount(name, value, scale).map(Some),
        }
    }

    pub fn amount(&self, name: &str, scale: u32) -> Result<Amount> {
        required(name, self.optional_amount(name, scale)?)
    }

    /// Money that was paid: not negative, rounded half-even to ten decimals, below 1e15.
    pub fn paid(&self, name: &str) -> Result<Amount> {
        amount(name, self.measure(name, DECIMALS)?, DECIMALS)
    }

    // ---- the rest ---------------------------------------------------------------------------

    pub fn optional_uuid(&self, name: &str) -> Result<Option<Uuid>> {
        if let Some(named) = self.named {
            return named.uuid(name);
        }
        let id = self.get::<pgrx::datum::Uuid>(name)?;
        Ok(id.map(|id| Uuid::from_bytes(*id.as_bytes())))
    }

    pub fn uuid(&self, name: &str) -> Result<Uuid> {
        required(name, self.optional_uuid(name)?)
    }

    /// A list of numbers without NULLs; or NULL.
    pub fn optional_ints(&self, name: &str) -> Result<Option<Vec<i32>>> {
        let Some(list) = self.get::<Vec<Option<i32>>>(name)? else {
            return Ok(None);
        };
        let number =
            |number: Option<i32>| number.ok_or_else(|| errors::invalid(name, "an element is NULL"));
        list.into_iter()
            .map(number)
            .collect::<Result<_>>()
            .map(Some)
    }

    /// A list of ids without NULLs, not NULL itself.
    pub fn uuids(&self, name: &str) -> Result<Vec<Uuid>> {
        let list = required(name, self.get::<Vec<Option<pgrx::datum::Uuid>>>(name)?)?;
        list.into_iter()
            .map(|id| {
                let id = id.ok_or_else(|| errors::invalid(name, "an element is NULL"))?;
                Ok(Uuid::from_bytes(*id.as_bytes()))
            })
            .collect()
    }

    /// A finite moment up to the year 9999; or NULL.
    pub fn optional_moment(&self, name: &str) -> Result<Option<Moment>> {
        let datum = match self.named {
            None => self.datum(name)?,
            Some(named) => named
                .string(name, "it has to be a JSON string with a timestamp")?
                .map(|text| timestamptz(name, text))
                .transpose()?,
        };
        // A timestamptz is an i64 of microseconds, its ends the infinities.
        match datum.map(|datum| Moment(datum.value() as i64)) {
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

    pub fn moment(&self, name: &str) -> Result<Moment> {
        required(name, self.optional_moment(name)?)
    }

    /// Any JSON, its numbers exact; or NULL. What a client has encoded twice is read as what it meant.
    pub fn optional_json(&self, name: &str) -> Result<Option<Json>> {
        let json = match self.named {
            Some(named) => named.json(name).cloned(),
            None => self.json(name)?,
        };
        let meant = json.as_ref().and_then(encoded_twice);
        if meant.is_some() && self.named.is_none() {
            self.decoded
                .set(self.decoded.get() | 1 << self.position(name)?);
        }
        Ok(meant.or(json))
    }

    fn json(&self, name: &str) -> Result<Option<Json>> {
        let Some(datum) = self.datum(name)? else {
            return Ok(None);
        };
        // SAFETY: the argument is declared jsonb.
        let read = unsafe { document::read(datum) };
        read.map(Some).map_err(|why| why.about(name))
    }

    /// What was read of an argument of type jsonb, to be stored: as it was given, where Postgres has it
    /// already. NULL where there is nothing to store.
    pub fn as_given(&self, name: &str, read: Option<&Json>) -> Result<Value> {
        let is_decoded = || Ok(self.decoded.get() & 1 << self.position(name)? != 0);
        match (read, self.datum(name)?) {
            (Some(_), Some(datum)) if !is_decoded()? => Ok(Some(datum)),
            (read, _) => value::optional_json(name, read),
        }
    }

    /// A JSON object; or NULL. To languages that have one kind of array for both, `[]` is `{}`.
    pub fn optional_object(&self, name: &str) -> Result<Option<Map<String, Json>>> {
        match self.optional_json(name)? {
            None => Ok(None),
            Some(Json::Object(object)) => Ok(Some(object)),
            Some(Json::Array(list)) if list.is_empty() => Ok(Some(Map::new())),
            Some(_) => Err(errors::invalid(name, "it has to be a JSON object")),
        }
    }

    pub fn object(&self, name: &str) -> Result<Map<String, Json>> {
        required(name, self.optional_object(name)?)
    }

    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        required(name, self.optional_bytes(name)?)
    }

    /// A value as it is stored, without its length.
    pub fn optional_bytes(&self, name: &str) -> Result<Option<&[u8]>> {
        self.get::<&[u8]>(name)
    }

    /// The pointer of an argument of type internal.
    pub fn internal<T>(&self, name: &str) -> Result<*mut T> {
        required(name, self.datum(name)?).map(|datum| datum.cast_mut_ptr())
    }

    /// The C string that a type's input function gets.
    pub fn cstring(&self, name: &str) -> Result<String> {
        let text = required(name, self.get::<&CStr>(name)?)?;
        utf8(name, text.to_bytes()).map(str::to_owned)
    }
}

/// A number that is not negative, of its text: exact, or rounded to a number of decimals.
fn quantity(name: &str, text: &str, decimals: Option<u32>) -> Result<Decimal> {
    match text {
        "NaN" | "Infinity" | "-Infinity" => {
            return Err(errors::invalid(
                name,
                format_args!("{text} is not a number to count with"),
            ));
        }
        _ => {}
    }
    let whole = text.trim_start_matches('-').split('.').next();
    if whole.is_some_and(|whole| whole.len() > 28 && whole.bytes().all(|b| b.is_ascii_digit())) {
        return Err(errors::out_of_range(name, "it has more than 28 digits"));
    }
    let value = match decimals {
        None => parse_decimal(text),
        Some(decimals) => parse_measured(text, decimals),
    };
    let value = value.map_err(|why| errors::invalid(name, why))?;
    if value.is_sign_negative() && !value.is_zero() {
        return Err(errors::invalid(name, format_args!("{value} is negative")));
    }
    Ok(value)
}

/// A moment written as in SQL.
fn timestamptz(name: &str, text: &str) -> Result<pg_sys::Datum> {
    let c_text = CString::new(text).map_err(|_| errors::invalid(name, "it holds a NUL"))?;
    // SAFETY: timestamptz_in takes a C string, a type oid that it ignores and a typmod, -1 for none.
    // What it raises is raised again, in our words.
    let read = PgTryBuilder::new(|| unsafe {
        let arguments = [
            Some(pg_sys::Datum::from(c_text.as_ptr())),
            Some(pg_sys::Datum::from(0_u32)),
            Some(pg_sys::Datum::from(-1_i32)),
        ];
        direct_function_call_as_datum(pg_sys::timestamptz_in, &arguments)
    })
    .catch_others(|_| None)
    .execute();
    let shown: String = text.chars().take(40).collect();
    read.ok_or_else(|| errors::invalid(name, format_args!("{shown:?} is no moment")))
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

/// A text that is not too long. The database is in UTF-8, which CREATE EXTENSION has seen to.
fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str> {
    if bytes.len() > MAX_BYTES {
        return Err(errors::invalid(
            name,
            format_args!("it is {} bytes long, {MAX_BYTES} are allowed", bytes.len()),
        ));
    }
    std::str::from_utf8(bytes).map_err(|why| errors::corrupted("a text", why))
}

fn read_names<'t>(
    name: &str,
    count: usize,
    texts: impl Iterator<Item = Option<&'t [u8]>>,
) -> Result<Vec<String>> {
    if count > 100 {
        return Err(errors::invalid(name, "more than 100 elements"));
    }
    texts
        .map(|text| {
            let text = text.ok_or_else(|| errors::invalid(name, "an element is NULL"))?;
            let text = utf8(name, text)?;
            check_name(name, text)?;
            Ok(text.to_owned())
        })
        .collect()
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
