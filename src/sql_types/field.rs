//! What a column is in SQL and in Rust: the types that declarations of tables and of results name.

use std::borrow::Cow;
use std::ffi::CStr;
use std::str::FromStr;

use pgrx::{FromDatum, direct_function_call_as_datum, pg_sys};
use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use super::value::{self, TablePlace, Value};
use crate::errors::{self, Result};
use crate::ledger::amount::DECIMALS;
use crate::ledger::number::parse_decimal;
use crate::ledger::wallet::Overrun;
use crate::ledger::{Amount, Kind, Moment, Wallet, packed};

/// `credyt.wallet`, whose oid is another in every database.
pub const WALLET: pg_sys::Oid = pg_sys::Oid::from_u32(u32::MAX);

/// A SQL type that columns have.
pub trait SqlType {
    const OID: pg_sys::Oid;
    /// Of an array with a value for each of many rows.
    const LIST: pg_sys::Oid;
    /// What such an array holds, and the cast that makes a column's value of it. An array of arrays
    /// has them all of one length, so arrays come as text.
    const ELEMENT: pg_sys::Oid = Self::OID;
    const CAST: &'static str = "";
}

/// A Rust type that a column of a SQL type is written from.
pub trait Field<S: SqlType> {
    /// `column` is for the error.
    fn value(&self, column: &str) -> Result<Value>;

    /// The value among those of many rows.
    fn element(&self, column: &str) -> Result<Value> {
        self.value(column)
    }
}

/// A Rust type that a column is read into.
pub trait FromColumn: Sized {
    /// A NULL where none can be is damage.
    fn from_value(value: Value) -> Result<Self>;
}

impl<S: SqlType, T: Field<S>> Field<S> for Option<T> {
    fn value(&self, column: &str) -> Result<Value> {
        self.as_ref().map_or(Ok(None), |some| some.value(column))
    }

    fn element(&self, column: &str) -> Result<Value> {
        self.as_ref().map_or(Ok(None), |some| some.element(column))
    }
}

impl<S: SqlType, T: Field<S>> Field<S> for &T {
    fn value(&self, column: &str) -> Result<Value> {
        (*self).value(column)
    }
}

impl<T: FromColumn> FromColumn for Option<T> {
    fn from_value(value: Value) -> Result<Option<T>> {
        match value {
            Some(_) => T::from_value(value).map(Some),
            None => Ok(None),
        }
    }
}

/// The SQL types of columns, as declarations name them. `credits` and `money` are numeric: money has
/// at least two decimals.
#[allow(non_camel_case_types)]
pub mod types {
    use pgrx::pg_sys::{self, Oid};

    macro_rules! sql_types {
        ($($name:ident = $oid:ident, $list:ident;)*) => {
            $(
                pub enum $name {}
                impl super::SqlType for $name {
                    const OID: Oid = pg_sys::$oid;
                    const LIST: Oid = pg_sys::$list;
                }
            )*
        };
    }

    sql_types! {
        text = TEXTOID, TEXTARRAYOID;
        int = INT4OID, INT4ARRAYOID;
        bigint = INT8OID, INT8ARRAYOID;
        boolean = BOOLOID, BOOLARRAYOID;
        numeric = NUMERICOID, NUMERICARRAYOID;
        credits = NUMERICOID, NUMERICARRAYOID;
        money = NUMERICOID, NUMERICARRAYOID;
        timestamptz = TIMESTAMPTZOID, TIMESTAMPTZARRAYOID;
        uuid = UUIDOID, UUIDARRAYOID;
        jsonb = JSONBOID, JSONBARRAYOID;
        bytea = BYTEAOID, BYTEAARRAYOID;
        date = DATEOID, DATEARRAYOID;
        tid = TIDOID, TIDARRAYOID;
    }

    pub enum texts {}
    impl super::SqlType for texts {
        const OID: Oid = pg_sys::TEXTARRAYOID;
        const LIST: Oid = pg_sys::TEXTARRAYOID;
        const ELEMENT: Oid = pg_sys::TEXTOID;
        const CAST: &'static str = "::text[]";
    }

    pub enum dates {}
    impl super::SqlType for dates {
        const OID: Oid = pg_sys::DATEARRAYOID;
        const LIST: Oid = pg_sys::TEXTARRAYOID;
        const ELEMENT: Oid = pg_sys::TEXTOID;
        const CAST: &'static str = "::date[]";
    }

    pub enum uuids {}
    impl super::SqlType for uuids {
        const OID: Oid = pg_sys::UUIDARRAYOID;
        const LIST: Oid = pg_sys::TEXTARRAYOID;
        const ELEMENT: Oid = pg_sys::TEXTOID;
        const CAST: &'static str = "::uuid[]";
    }

    pub enum ints {}
    impl super::SqlType for ints {
        const OID: Oid = pg_sys::INT4ARRAYOID;
        const LIST: Oid = pg_sys::TEXTARRAYOID;
        const ELEMENT: Oid = pg_sys::TEXTOID;
        const CAST: &'static str = "::int[]";
    }

    pub enum wallet {}
    impl super::SqlType for wallet {
        const OID: Oid = super::WALLET;
        const LIST: Oid = pg_sys::BYTEAARRAYOID;
        const ELEMENT: Oid = pg_sys::BYTEAOID;
        const CAST: &'static str = "::credyt.wallet";
    }
}

macro_rules! written {
    ($($rust:ty as $sql:ident: |$some:ident| $value:expr;)*) => {
        $(
            impl Field<types::$sql> for $rust {
                fn value(&self, _: &str) -> Result<Value> {
                    let $some = self;
                    Ok($value)
                }
            }
        )*
    };
}

written! {
    String as text: |text| value::text(text);
    &str as text: |text| value::text(text);
    Cow<'_, str> as text: |text| value::text(text);
    Kind as text: |kind| value::text(kind.as_str());
    Overrun as text: |overrun| value::text(overrun.as_str());
    i32 as int: |number| value::int(*number);
    u32 as int: |number| value::int(number.cast_signed());
    i64 as bigint: |number| value::bigint(*number);
    u64 as bigint: |number| value::bigint(*number as i64);
    bool as boolean: |yes| value::bool(*yes);
    Decimal as numeric: |number| value::decimal(*number);
    Amount as credits: |amount| value::credits(*amount);
    Amount as money: |amount| value::money(*amount);
    Decimal as money: |amount| value::money_decimal(*amount);
    Moment as timestamptz: |moment| value::moment(*moment);
    Uuid as uuid: |id| value::uuid(*id);
    Wallet as wallet: |wallet| value::bytes(&packed::pack(wallet));
    &[u8] as wallet: |packed| value::bytes(packed);
    TablePlace as tid: |place| value::table_place(place);
    Vec<u8> as bytea: |bytes| value::bytes(bytes);
    pg_sys::Datum as jsonb: |jsonb| Some(*jsonb);
    pg_sys::Datum as numeric: |number| Some(*number);
    Day as date: |day| Some(pg_sys::Datum::from(day.0));
    pg_sys::Datum as dates: |days| Some(*days);
    pg_sys::Datum as timestamptz: |moment| Some(*moment);
}

impl Field<types::jsonb> for Json {
    fn value(&self, column: &str) -> Result<Value> {
        value::json(column, self)
    }
}

impl Field<types::texts> for Vec<String> {
    fn value(&self, _: &str) -> Result<Value> {
        Ok(value::texts(Some(self)))
    }

    fn element(&self, _: &str) -> Result<Value> {
        Ok(value::printed_texts(Some(self)))
    }
}

impl Field<types::texts> for Vec<Kind> {
    fn value(&self, column: &str) -> Result<Value> {
        let texts: Vec<String> = self.iter().map(Kind::to_string).collect();
        texts.value(column)
    }
}

macro_rules! written_list {
    ($($rust:ty as $sql:ident: |$some:ident| $value:expr;)*) => {
        $(
            impl Field<types::$sql> for Vec<$rust> {
                fn value(&self, _: &str) -> Result<Value> {
                    let $some = self.iter().copied();
                    Ok($value)
                }

                fn element(&self, _: &str) -> Result<Value> {
                    let printed: Vec<String> = self.iter().map(<$rust>::to_string).collect();
                    Ok(value::text(&format!("{{{}}}", printed.join(","))))
                }
            }
        )*
    };
}

written_list! {
    Uuid as uuids: |ids| value::uuids(ids);
    i32 as ints: |numbers| value::ints(numbers);
}

macro_rules! read {
    ($($rust:ty: |$value:ident| $read:expr;)*) => {
        $(
            impl FromColumn for $rust {
                fn from_value($value: Value) -> Result<$rust> {
                    $read
                }
            }
        )*
    };
}

read! {
    String: |text| get(text);
    Cow<'static, str>: |text| get(text).map(Cow::Owned);
    Kind: |text| parsed(get(text)?);
    Overrun: |text| parsed(get(text)?);
    i32: |number| get(number);
    u32: |number| get::<i32>(number).map(i32::cast_unsigned);
    i64: |number| get(number);
    u64: |number| get::<i64>(number).map(|number| number as u64);
    bool: |yes| get(yes);
    pg_sys::Oid: |oid| get(oid);
    Moment: |moment| get(moment).map(Moment);
    Uuid: |id| get(id).map(|id: pgrx::datum::Uuid| Uuid::from_bytes(*id.as_bytes()));
    Vec<u8>: |bytes| get(bytes);
    Vec<String>: |texts| get(texts);
    Vec<i32>: |list| get(list);
    Vec<Kind>: |texts| get::<Vec<String>>(texts)?.into_iter().map(parsed).collect();
    Wallet: |state| read_wallet(get(state)?);
    Json: |jsonb| required(value::read_json(jsonb)?);
    Amount: |number| amount(required(number)?);
    Decimal: |number| decimal(required(number)?);
}

impl FromColumn for Vec<Uuid> {
    fn from_value(list: Value) -> Result<Vec<Uuid>> {
        let ids: Vec<pgrx::datum::Uuid> = get(list)?;
        let ids = ids.iter().map(|id| Uuid::from_bytes(*id.as_bytes()));
        Ok(ids.collect())
    }
}

/// A value as it is stored, to be passed on: a copy in the memory that is current.
impl FromColumn for pg_sys::Datum {
    fn from_value(value: Value) -> Result<pg_sys::Datum> {
        let datum = required(value)?;
        // SAFETY: what is passed on so, jsonb, numeric and arrays, is a varlena; perhaps out of line.
        unsafe {
            let from = datum.cast_mut_ptr::<pg_sys::varlena>();
            let size = pgrx::varlena::varsize_any(from);
            let copy = pg_sys::palloc(size);
            std::ptr::copy_nonoverlapping(from.cast::<u8>(), copy.cast::<u8>(), size);
            Ok(pg_sys::Datum::from(copy))
        }
    }
}

/// A date as it is stored, which may be infinite.
#[derive(Clone, Copy, Debug)]
pub struct Day(pg_sys::DateADT);

impl FromColumn for Day {
    fn from_value(value: Value) -> Result<Day> {
        Ok(Day(required(value)?.value() as pg_sys::DateADT))
    }
}

/// A place in a table, `ctid`.
impl FromColumn for TablePlace {
    fn from_value(value: Value) -> Result<TablePlace> {
        let datum = required(value)?;
        // SAFETY: a tid is passed by reference and has six bytes.
        Ok(unsafe { *datum.cast_mut_ptr::<TablePlace>() })
    }
}

/// Which of the rows that were passed as arrays a row is about, from 0: its ordinality.
pub struct Nth(pub usize);

impl FromColumn for Nth {
    fn from_value(value: Value) -> Result<Nth> {
        let from_one = get::<i64>(value)?.checked_sub(1);
        required(from_one.and_then(|nth| usize::try_from(nth).ok())).map(Nth)
    }
}

fn get<T: FromDatum>(value: Value) -> Result<T> {
    // SAFETY: each statement selects the types that it is read into, as the tests that run it show.
    required(value.and_then(|datum| unsafe { T::from_datum(datum, false) }))
}

/// The state of a wallet.
pub fn read_wallet(state: &[u8]) -> Result<Wallet> {
    packed::unpack(state).map_err(|why| errors::corrupted("a wallet", why))
}

fn required<T>(value: Option<T>) -> Result<T> {
    value.ok_or_else(|| errors::corrupted("a row", "a column is NULL"))
}

fn parsed<T: FromStr>(text: String) -> Result<T> {
    T::from_str(&text).map_err(|_| errors::corrupted("a row", text))
}

fn amount(numeric: pg_sys::Datum) -> Result<Amount> {
    if let Some(number) = value::read_number(numeric)
        && let Some(more) = DECIMALS.checked_sub(number.scale)
        && let Some(units) = number.units.checked_mul(10_i128.pow(more))
        && units.unsigned_abs() < 10_u128.pow(20 + DECIMALS)
    {
        return Ok(Amount::from_units(units));
    }
    let text = printed(numeric)?;
    Amount::parse(&text).ok_or_else(|| errors::corrupted("an amount", text))
}

fn decimal(numeric: pg_sys::Datum) -> Result<Decimal> {
    if let Some(decimal) = value::read_decimal(numeric) {
        return Ok(decimal);
    }
    parse_decimal(&printed(numeric)?).map_err(|why| errors::corrupted("a number", why))
}

fn printed(numeric: pg_sys::Datum) -> Result<String> {
    // SAFETY: numeric_out returns a C string.
    let text = unsafe {
        direct_function_call_as_datum(pg_sys::numeric_out, &[Some(numeric)]).map(|text| {
            CStr::from_ptr(text.cast_mut_ptr())
                .to_string_lossy()
                .into_owned()
        })
    };
    required(text)
}
