//! Tables, each declared once: the row's struct, its list of columns, placeholders, argument types,
//! writer and reader come from one declaration. To add a column: one line there, one in the SQL.

use std::borrow::Cow;
use std::str::FromStr;

use pgrx::pg_sys::{self, Oid};
use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use super::statement::RowRef;
use crate::errors::{self, Result};
use crate::ledger::wallet::Overrun;
use crate::ledger::{Amount, Kind, Moment};
use crate::sql_types::value::{self, Value};

/// A SQL type that columns have.
pub trait SqlType {
    const OID: Oid;
    /// Of an array with a value for each of many rows.
    const LIST: Oid;
    /// What such an array holds, and the cast that makes a column's value of it. An array of arrays
    /// has them all of one length, so arrays come as text.
    const ELEMENT: Oid = Self::OID;
    const CAST: &'static str = "";
}

/// A Rust type that a column of a SQL type is read into and written from.
pub trait Field<S: SqlType>: Sized {
    fn value(&self, column: &str) -> Result<Value>;
    fn read(row: &RowRef, at: usize) -> Result<Self>;

    /// The value among those of many rows.
    fn element(&self, column: &str) -> Result<Value> {
        self.value(column)
    }
}

impl<S: SqlType, T: Field<S>> Field<S> for Option<T> {
    fn value(&self, column: &str) -> Result<Value> {
        self.as_ref().map_or(Ok(None), |some| some.value(column))
    }

    fn element(&self, column: &str) -> Result<Value> {
        self.as_ref().map_or(Ok(None), |some| some.element(column))
    }

    fn read(row: &RowRef, at: usize) -> Result<Option<T>> {
        match row.value(at) {
            Some(_) => T::read(row, at).map(Some),
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
    }

    pub enum texts {}
    impl super::SqlType for texts {
        const OID: Oid = pg_sys::TEXTARRAYOID;
        const LIST: Oid = pg_sys::TEXTARRAYOID;
        const ELEMENT: Oid = pg_sys::TEXTOID;
        const CAST: &'static str = "::text[]";
    }
}

macro_rules! fields {
    ($($rust:ty as $sql:ident: |$some:ident| $value:expr, |$row:ident, $at:ident| $read:expr;)*) => {
        $(
            impl Field<types::$sql> for $rust {
                fn value(&self, _: &str) -> Result<Value> {
                    let $some = self;
                    Ok($value)
                }

                fn read($row: &RowRef, $at: usize) -> Result<$rust> {
                    $read
                }
            }
        )*
    };
}

fields! {
    String as text: |text| value::text(text), |row, at| row.text(at);
    Cow<'static, str> as text: |text| value::text(text), |row, at| row.text(at).map(Cow::Owned);
    Kind as text: |kind| value::text(kind.as_str()), |row, at| parsed(row.text(at)?);
    Overrun as text: |overrun| value::text(overrun.as_str()), |row, at| parsed(row.text(at)?);
    i32 as int: |number| value::int(*number), |row, at| row.int(at);
    u64 as bigint: |number| value::bigint(*number as i64), |row, at| row.bigint(at).map(|n| n as u64);
    bool as boolean: |yes| value::bool(*yes), |row, at| row.bool(at);
    Decimal as numeric: |number| value::decimal(*number), |row, at| row.decimal(at);
    Amount as credits: |amount| value::credits(*amount), |row, at| row.amount(at);
    Amount as money: |amount| value::money(*amount), |row, at| row.amount(at);
    Decimal as money: |amount| value::money_decimal(*amount), |row, at| row.decimal(at);
    Moment as timestamptz: |moment| value::moment(*moment), |row, at| row.moment(at);
    Uuid as uuid: |id| value::uuid(*id), |row, at| row.uuid(at);
    Vec<u8> as bytea: |bytes| value::bytes(bytes), |row, at| row.bytes(at).map(<[u8]>::to_vec);
    pg_sys::Datum as jsonb: |jsonb| Some(*jsonb), |row, at| row.jsonb(at);
}

impl Field<types::jsonb> for Json {
    fn value(&self, column: &str) -> Result<Value> {
        value::json(column, self)
    }

    fn read(row: &RowRef, at: usize) -> Result<Json> {
        row.json(at)
    }
}

impl Field<types::texts> for Vec<String> {
    fn value(&self, _: &str) -> Result<Value> {
        Ok(value::texts(Some(self)))
    }

    fn element(&self, _: &str) -> Result<Value> {
        Ok(value::printed_texts(Some(self)))
    }

    fn read(row: &RowRef, at: usize) -> Result<Vec<String>> {
        row.texts(at)
    }
}

fn parsed<T: FromStr>(text: String) -> Result<T> {
    T::from_str(&text).map_err(|_| errors::corrupted("a row", text))
}

/// A column of a declared table.
pub struct Column {
    pub name: &'static str,
    pub cast: &'static str,
}

/// SQL text that is put together by the compiler.
pub struct Text {
    bytes: [u8; 2048],
    pub length: usize,
}

impl Text {
    pub const fn new() -> Text {
        Text {
            bytes: [0; 2048],
            length: 0,
        }
    }

    pub const fn with(mut self, text: &str) -> Text {
        let mut at = 0;
        while at < text.len() {
            self.bytes[self.length] = text.as_bytes()[at];
            self.length += 1;
            at += 1;
        }
        self
    }

    const fn with_place(self, place: usize) -> Text {
        let mut text = self.with("$");
        if place > 9 {
            text.bytes[text.length] = b'0' + (place / 10) as u8;
            text.length += 1;
        }
        text.bytes[text.length] = b'0' + (place % 10) as u8;
        text.length += 1;
        text
    }

    pub const fn exact<const LENGTH: usize>(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let mut at = 0;
        while at < LENGTH {
            bytes[at] = self.bytes[at];
            at += 1;
        }
        bytes
    }
}

/// How a column is written into a list.
#[derive(Clone, Copy)]
pub enum Listed {
    /// `customer`
    Name,
    /// `$1`
    Place,
    /// `unnest($1)`
    Unnested,
    /// `customer = $1`
    Set,
}

/// The columns, one after another; the first has this place.
pub const fn listed(columns: &[Column], how: Listed, first: usize) -> Text {
    let mut text = Text::new();
    let mut at = 0;
    while at < columns.len() {
        if at > 0 {
            text = text.with(", ");
        }
        let Column { name, cast } = &columns[at];
        text = match how {
            Listed::Name => text.with(name),
            Listed::Place => text.with_place(first + at),
            Listed::Unnested => text
                .with("unnest(")
                .with_place(first + at)
                .with(")")
                .with(cast),
            Listed::Set => text.with(name).with(" = ").with_place(first + at),
        };
        at += 1;
    }
    text
}

/// One SQL text of several, which may be lists of a declared table.
macro_rules! sql {
    ($($part:expr),+ $(,)?) => {
        $crate::store::table::fixed!($crate::store::table::Text::new()$(.with($part))+)
    };
}

macro_rules! fixed {
    ($text:expr) => {{
        const TEXT: $crate::store::table::Text = $text;
        const BYTES: [u8; TEXT.length] = TEXT.exact();
        const SQL: &str = match std::str::from_utf8(&BYTES) {
            Ok(sql) => sql,
            Err(_) => panic!("no UTF-8"),
        };
        SQL
    }};
}

/// Declares a table, or what a statement returns: `column: Rust type as SQL type`. `changing` columns
/// come last: an UPDATE sets them, after the key. What is `beside` the columns is in the struct only.
macro_rules! table {
    (
        $(#[$meta:meta])*
        pub struct $Row:ident {
            $($(#[$doc:meta])* $column:ident: $rust:ty as $sql:ident,)*
        }
        $(changing {
            $($(#[$doc2:meta])* $changing:ident: $rust2:ty as $sql2:ident,)*
        })?
        $(beside {
            $($(#[$doc3:meta])* $other:ident: $rust3:ty = $initial:expr,)*
        })?
    ) => {
        $(#[$meta])*
        pub struct $Row {
            $($(#[$doc])* pub $column: $rust,)*
            $($($(#[$doc2])* pub $changing: $rust2,)*)?
            $($($(#[$doc3])* pub $other: $rust3,)*)?
        }

        #[allow(dead_code)]
        impl $Row {
            const DECLARED: &'static [$crate::store::table::Column] = &[
                $($crate::store::table::column!($column as $sql),)*
                $($($crate::store::table::column!($changing as $sql2),)*)?
            ];
            /// `customer, asset, ...`
            pub const COLUMNS: &'static str = $crate::store::table::fixed!($crate::store::table::listed(
                $Row::DECLARED, $crate::store::table::Listed::Name, 1
            ));
            /// `$1, $2, ...`
            pub const PLACES: &'static str = $crate::store::table::fixed!($crate::store::table::listed(
                $Row::DECLARED, $crate::store::table::Listed::Place, 1
            ));
            /// `unnest($1), unnest($2), ...`: the arrays are read in step.
            pub const UNNESTED: &'static str = $crate::store::table::fixed!($crate::store::table::listed(
                $Row::DECLARED, $crate::store::table::Listed::Unnested, 1
            ));
            /// The types of `PLACES`.
            pub const TYPES: &'static [pgrx::pg_sys::Oid] = &[
                $(<$crate::store::table::types::$sql as $crate::store::table::SqlType>::OID,)*
                $($(<$crate::store::table::types::$sql2 as $crate::store::table::SqlType>::OID,)*)?
            ];
            /// The types of `UNNESTED`, and of what the arrays hold.
            pub const LISTS: &'static [pgrx::pg_sys::Oid] = &[
                $(<$crate::store::table::types::$sql as $crate::store::table::SqlType>::LIST,)*
                $($(<$crate::store::table::types::$sql2 as $crate::store::table::SqlType>::LIST,)*)?
            ];
            pub const ELEMENTS: &'static [pgrx::pg_sys::Oid] = &[
                $(<$crate::store::table::types::$sql as $crate::store::table::SqlType>::ELEMENT,)*
                $($(<$crate::store::table::types::$sql2 as $crate::store::table::SqlType>::ELEMENT,)*)?
            ];

            /// The values for `PLACES`.
            pub fn values(&self) -> $crate::errors::Result<Vec<$crate::sql_types::value::Value>> {
                use $crate::store::table::{Field, types};
                Ok(vec![
                    $(Field::<types::$sql>::value(&self.$column, stringify!($column))?,)*
                    $($(Field::<types::$sql2>::value(&self.$changing, stringify!($changing))?,)*)?
                ])
            }

            /// A row of the arrays for `UNNESTED`.
            pub fn elements(&self) -> $crate::errors::Result<Vec<$crate::sql_types::value::Value>> {
                use $crate::store::table::{Field, types};
                Ok(vec![
                    $(Field::<types::$sql>::element(&self.$column, stringify!($column))?,)*
                    $($(Field::<types::$sql2>::element(&self.$changing, stringify!($changing))?,)*)?
                ])
            }

            /// Reads a row that begins with `COLUMNS`.
            pub fn read(row: &$crate::store::statement::RowRef) -> $crate::errors::Result<$Row> {
                use $crate::store::table::{Field, types};
                let mut place = 0_usize;
                let mut next = || {
                    place += 1;
                    place
                };
                Ok($Row {
                    $($column: Field::<types::$sql>::read(row, next())?,)*
                    $($($changing: Field::<types::$sql2>::read(row, next())?,)*)?
                    $($($other: $initial,)*)?
                })
            }
        }

        $(
            #[allow(dead_code)]
            impl $Row {
                const CHANGING: &'static [$crate::store::table::Column] =
                    &[$($crate::store::table::column!($changing as $sql2),)*];
                /// `status = $3, ...`: the key is $1 and $2.
                pub const CHANGES: &'static str = $crate::store::table::fixed!($crate::store::table::listed(
                    $Row::CHANGING, $crate::store::table::Listed::Set, 3
                ));
                /// The types of a key of a text and a uuid, and of `CHANGES`.
                pub const CHANGE_TYPES: &'static [pgrx::pg_sys::Oid] = &[
                    pgrx::pg_sys::TEXTOID,
                    pgrx::pg_sys::UUIDOID,
                    $(<$crate::store::table::types::$sql2 as $crate::store::table::SqlType>::OID,)*
                ];

                /// The values for `CHANGES`.
                pub fn changes(&self) -> $crate::errors::Result<Vec<$crate::sql_types::value::Value>> {
                    use $crate::store::table::{Field, types};
                    Ok(vec![$(Field::<types::$sql2>::value(&self.$changing, stringify!($changing))?,)*])
                }
            }
        )?
    };
}

macro_rules! column {
    ($name:ident as $sql:ident) => {
        $crate::store::table::Column {
            name: stringify!($name),
            cast: <$crate::store::table::types::$sql as $crate::store::table::SqlType>::CAST,
        }
    };
}

pub(crate) use {column, fixed, sql, table};
