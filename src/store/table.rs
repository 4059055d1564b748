//! Tables, each declared once: the row's struct, its list of columns, placeholders, argument types,
//! writer and reader come from one declaration. To add a column: one line there, one in the SQL.

/// A column of a declared table.
pub struct Column {
    pub name: &'static str,
    pub kind: pgrx::pg_sys::Oid,
    /// What makes a value of it of an element of an array.
    pub cast: &'static str,
}

/// Where a column is among these, from 0.
pub const fn place(columns: &[Column], name: &str) -> usize {
    let mut at = 0;
    while at < columns.len() {
        if same(columns[at].name, name) {
            return at;
        }
        at += 1;
    }
    panic!("no such column")
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// More than any text has.
const SIZE: usize = 16384;

/// SQL text that is put together by the compiler.
pub struct Text {
    bytes: [u8; SIZE],
    pub length: usize,
}

impl Text {
    pub const fn new() -> Text {
        Text {
            bytes: [0; SIZE],
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

    /// A text in which `:name` stands for the place of that column.
    pub const fn with_named(mut self, text: &str, columns: &[Column]) -> Text {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let mut end = at + 1;
            if bytes[at] == b':' && (at == 0 || bytes[at - 1] != b':') {
                while end < bytes.len() && matches!(bytes[end], b'a'..=b'z' | b'_') {
                    end += 1;
                }
            }
            let piece = text.split_at(end).0.split_at(at).1;
            self = match end - at {
                1 => self.with(piece),
                _ => self.with_place(1 + place(columns, piece.split_at(1).1)),
            };
            at = end;
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
pub enum ListEncoding {
    /// `customer`
    Name,
    /// `$1`
    Place,
    /// `unnest($1)`
    Unnested,
    /// `customer = $1`
    Set,
}

/// The names of columns but for these, each behind an alias: `l.id, l.seq`.
pub const fn named_but(alias: &str, columns: &[Column], but: &[&[&str]]) -> Text {
    let mut text = Text::new();
    let mut at = 0;
    while at < columns.len() {
        let name = columns[at].name;
        let mut is_left_out = false;
        let mut list = 0;
        while list < but.len() {
            is_left_out |= has(but[list], name);
            list += 1;
        }
        if !is_left_out {
            let comma = if text.length > 0 { ", " } else { "" };
            text = text.with(comma).with(alias).with(".").with(name);
        }
        at += 1;
    }
    text
}

/// These names behind an alias.
pub const fn named_of(alias: &str, names: &[&str]) -> Text {
    let mut text = Text::new();
    let mut at = 0;
    while at < names.len() {
        let comma = if at > 0 { ", " } else { "" };
        text = text.with(comma).with(alias).with(".").with(names[at]);
        at += 1;
    }
    text
}

const fn has(names: &[&str], name: &str) -> bool {
    let mut at = 0;
    while at < names.len() {
        if same(names[at], name) {
            return true;
        }
        at += 1;
    }
    false
}

/// The columns, one after another; the first has this place.
pub const fn listed(columns: &[Column], how: ListEncoding, first: usize) -> Text {
    let mut text = Text::new();
    let mut at = 0;
    while at < columns.len() {
        if at > 0 {
            text = text.with(", ");
        }
        let Column { name, cast, .. } = &columns[at];
        text = match how {
            ListEncoding::Name => text.with(name),
            ListEncoding::Place => text.with_place(first + at),
            ListEncoding::Unnested => text
                .with("unnest(")
                .with_place(first + at)
                .with(")")
                .with(cast),
            ListEncoding::Set => text.with(name).with(" = ").with_place(first + at),
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

/// Declares a statement with its arguments, `name: SQL type`, which its text takes as `:name`. Where it is run
/// they are given by name: `Held { customer, asset, now }.run(store)`.
macro_rules! query {
    (
        $(#[$meta:meta])*
        $pub:vis $Query:ident($($arg:ident: $sql:ident),+ $(,)?):
        $($part:expr),+ $(,)?
    ) => {
        $(#[$meta])*
        #[allow(non_camel_case_types)]
        $pub struct $Query<$($arg),+> {
            $($pub $arg: $arg,)+
        }

        #[allow(non_camel_case_types)]
        impl<$($arg: $crate::sql_types::field::Field<$crate::sql_types::field::types::$sql>),+>
            $crate::store::statement::Query for $Query<$($arg),+>
        {
            type Values = [$crate::sql_types::value::Value; [$(stringify!($arg)),+].len()];

            fn statement(&self) -> &'static $crate::store::statement::Statement {
                const ARGUMENTS: &[$crate::store::table::Column] =
                    &[$($crate::store::table::column!($arg as $sql)),+];
                static STATEMENT: $crate::store::statement::Statement = $crate::store::statement::Statement {
                    sql: $crate::store::table::fixed!(
                        $crate::store::table::Text::new()$(.with_named($part, ARGUMENTS))+
                    ),
                    args: &[$(<$crate::sql_types::field::types::$sql as $crate::sql_types::field::SqlType>::OID),+],
                };
                &STATEMENT
            }

            fn values(&self) -> $crate::errors::Result<Self::Values> {
                Ok([$(self.$arg.value(stringify!($arg))?),+])
            }
        }
    };
}

/// The statement that inserts one row of a declared table, and how it ends.
macro_rules! insert {
    ($table:literal, $Row:ident $(, $end:literal)?) => {
        $crate::store::statement::Statement {
            sql: $crate::store::table::sql!(
                "INSERT INTO credyt.", $table, " (", $Row::COLUMNS, ") VALUES (", $Row::PLACES, ")" $(, $end)?
            ),
            args: $Row::TYPES,
        }
    };
}

/// The one that inserts many, from an array for each column.
macro_rules! insert_all {
    ($table:literal, $Row:ident $(, $end:literal)?) => {
        $crate::store::statement::Statement {
            sql: $crate::store::table::sql!(
                "INSERT INTO credyt.", $table, " (", $Row::COLUMNS, ") SELECT ", $Row::UNNESTED $(, $end)?
            ),
            args: $Row::LISTS,
        }
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

/// Declares a table, or what a statement takes or returns: `column: Rust type as SQL type`. `changing`
/// columns come last: an UPDATE sets them, after the key. What is `beside` the columns is in the struct
/// only.
macro_rules! table {
    (
        $(#[$meta:meta])*
        $pub:vis struct $Row:ident {
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
        $pub struct $Row {
            $($(#[$doc])* pub $column: $rust,)*
            $($($(#[$doc2])* pub $changing: $rust2,)*)?
            $($($(#[$doc3])* pub $other: $rust3,)*)?
        }

        #[allow(dead_code)]
        impl $Row {
            pub const DECLARED: &'static [$crate::store::table::Column] = &[
                $($crate::store::table::column!($column as $sql),)*
                $($($crate::store::table::column!($changing as $sql2),)*)?
            ];
            /// `customer, asset, ...`
            pub const COLUMNS: &'static str = $crate::store::table::fixed!($crate::store::table::listed(
                $Row::DECLARED, $crate::store::table::ListEncoding::Name, 1
            ));
            /// `$1, $2, ...`
            pub const PLACES: &'static str = $crate::store::table::fixed!($crate::store::table::listed(
                $Row::DECLARED, $crate::store::table::ListEncoding::Place, 1
            ));
            /// `unnest($1), unnest($2), ...`: the arrays are read in step.
            pub const UNNESTED: &'static str = $crate::store::table::fixed!($crate::store::table::listed(
                $Row::DECLARED, $crate::store::table::ListEncoding::Unnested, 1
            ));
            /// The types of `PLACES`.
            pub const TYPES: &'static [pgrx::pg_sys::Oid] = &[
                $(<$crate::sql_types::field::types::$sql as $crate::sql_types::field::SqlType>::OID,)*
                $($(<$crate::sql_types::field::types::$sql2 as $crate::sql_types::field::SqlType>::OID,)*)?
            ];
            /// The types of `UNNESTED`, and of what the arrays hold.
            pub const LISTS: &'static [pgrx::pg_sys::Oid] = &[
                $(<$crate::sql_types::field::types::$sql as $crate::sql_types::field::SqlType>::LIST,)*
                $($(<$crate::sql_types::field::types::$sql2 as $crate::sql_types::field::SqlType>::LIST,)*)?
            ];
            pub const ELEMENTS: &'static [pgrx::pg_sys::Oid] = &[
                $(<$crate::sql_types::field::types::$sql as $crate::sql_types::field::SqlType>::ELEMENT,)*
                $($(<$crate::sql_types::field::types::$sql2 as $crate::sql_types::field::SqlType>::ELEMENT,)*)?
            ];

            /// The values for `PLACES`.
            pub fn values(&self) -> $crate::errors::Result<Vec<$crate::sql_types::value::Value>> {
                use $crate::sql_types::field::{Field, types};
                Ok(vec![
                    $(Field::<types::$sql>::value(&self.$column, stringify!($column))?,)*
                    $($(Field::<types::$sql2>::value(&self.$changing, stringify!($changing))?,)*)?
                ])
            }

            /// As a row that a function returns.
            pub fn into_row(self) -> $crate::errors::Result<$crate::sql_types::Row> {
                let names = $Row::DECLARED.iter().map(|column| column.name);
                Ok($crate::sql_types::Row::new(names.zip(self.values()?).collect()))
            }

            /// A row of the arrays for `UNNESTED`.
            pub fn elements(&self) -> $crate::errors::Result<Vec<$crate::sql_types::value::Value>> {
                use $crate::sql_types::field::{Field, types};
                Ok(vec![
                    $(Field::<types::$sql>::element(&self.$column, stringify!($column))?,)*
                    $($(Field::<types::$sql2>::element(&self.$changing, stringify!($changing))?,)*)?
                ])
            }
        }

        impl $crate::store::statement::FromRow for $Row {
            /// Reads `COLUMNS`.
            fn from_row(row: &mut $crate::store::statement::Reader) -> $crate::errors::Result<$Row> {
                Ok($Row {
                    $($column: row.next()?,)*
                    $($($changing: row.next()?,)*)?
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
                    $Row::CHANGING, $crate::store::table::ListEncoding::Set, 3
                ));
                /// The types of a key of a text and a uuid, and of `CHANGES`.
                pub const CHANGE_TYPES: &'static [pgrx::pg_sys::Oid] = &[
                    pgrx::pg_sys::TEXTOID,
                    pgrx::pg_sys::UUIDOID,
                    $(<$crate::sql_types::field::types::$sql2 as $crate::sql_types::field::SqlType>::OID,)*
                ];

                /// The values for `CHANGES`.
                pub fn changes(&self) -> $crate::errors::Result<Vec<$crate::sql_types::value::Value>> {
                    use $crate::sql_types::field::{Field, types};
                    Ok(vec![$(Field::<types::$sql2>::value(&self.$changing, stringify!($changing))?,)*])
                }
            }
        )?
    };
}

macro_rules! column {
    ($name:ident as $sql:ident) => {
        $crate::store::table::Column {
            name: $crate::sql_types::row::plain(stringify!($name)),
            kind: <$crate::sql_types::field::types::$sql as $crate::sql_types::field::SqlType>::OID,
            cast:
                <$crate::sql_types::field::types::$sql as $crate::sql_types::field::SqlType>::CAST,
        }
    };
}

pub(crate) use {column, fixed, insert, insert_all, query, sql, table};
