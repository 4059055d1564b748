//! A jsonb, read and made. Postgres' way to its text and back does not check for interrupts, and knows no end: 100 kB of
//! jsonb can hold numbers whose text is a gigabyte. Only what is short goes that way.

use std::ffi::{CStr, CString, c_char};
use std::io::{BufReader, Read};
use std::mem::MaybeUninit;

use pgrx::pg_sys::JsonbIteratorToken as token;
use pgrx::{direct_function_call_as_datum, pg_sys};
use serde_json::{Map, Value as Json};

use crate::errors::{self, Error};
use crate::ledger::interrupt::check;

/// Longer texts and documents are refused before they are copied. Postgres turns memory that is not to be had into an
/// error, Rust into the end of the server.
pub const MAX_BYTES: usize = 16 << 20;

/// A document of that many bytes has no more as jsonb: a digit, a comma and a space are three, and fifteen there.
const MAX_BINARY: usize = 5 * MAX_BYTES;

/// A document of this many bytes and values is made by way of its text.
const FEW: usize = 1 << 16;

/// As deep as serde reads a text.
const MAX_DEPTH: usize = 127;

/// Why a jsonb is not read.
pub enum Unreadable {
    TooLong,
    TooDeep,
    Corrupted(Error),
}

impl Unreadable {
    pub fn about(self, name: &str) -> Error {
        match self {
            Unreadable::TooLong => errors::invalid(
                name,
                format_args!("it is longer than the {MAX_BYTES} bytes that are allowed"),
            ),
            Unreadable::TooDeep => errors::invalid(name, "it is nested deeper than 127 levels"),
            Unreadable::Corrupted(error) => error,
        }
    }
}

type Result<T> = std::result::Result<T, Unreadable>;

/// Any JSON, its numbers exact.
///
/// # Safety
/// The datum is a jsonb.
pub unsafe fn read(jsonb: pg_sys::Datum) -> Result<Json> {
    // SAFETY: it is a varlena, whose length is known before it is read.
    unsafe {
        let size = pg_sys::toast_raw_datum_size(jsonb);
        if size > MAX_BINARY {
            return Err(Unreadable::TooLong);
        }
        walk(pg_sys::pg_detoast_datum(jsonb.cast_mut_ptr()).cast())
    }
}

/// A JSON text, read. A long one is read in pieces, between which the call can be interrupted; that takes longer
/// as a whole.
pub fn parsed(text: &str) -> serde_json::Result<Json> {
    if text.len() <= FEW {
        return serde_json::from_str(text);
    }
    serde_json::from_reader(BufReader::with_capacity(FEW, InPieces(text.as_bytes())))
}

/// Bytes that are read piece by piece.
struct InPieces<'a>(&'a [u8]);

impl Read for InPieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        check();
        self.0.read(buffer)
    }
}

/// Whether the document is small enough to be made faster from its text. Stops counting as soon as that is known.
pub fn is_short(value: &Json) -> bool {
    fn count(value: &Json, left: &mut usize) -> Option<()> {
        let size = match value {
            Json::String(text) => text.len(),
            Json::Number(number) => number.as_str().len(),
            _ => 0,
        };
        *left = left.checked_sub(size + 1)?;
        match value {
            Json::Array(list) => list.iter().try_for_each(|part| count(part, left)),
            Json::Object(map) => map.iter().try_for_each(|(key, part)| {
                *left = left.checked_sub(key.len())?;
                count(part, left)
            }),
            _ => Some(()),
        }
    }
    let mut left = FEW;
    count(value, &mut left).is_some()
}

/// A jsonb of a long document. `None`: a string in it holds a NUL, which Postgres cannot keep.
pub fn make(value: &Json) -> Option<pg_sys::Datum> {
    let mut state = std::ptr::null_mut();
    // SAFETY: the tokens come in the order of a document, and all texts live until the jsonb is made.
    unsafe {
        let made = push(&mut state, token::WJB_ELEM, value)?;
        Some(pg_sys::Datum::from(pg_sys::JsonbValueToJsonb(made)))
    }
}

/// Adds a value, of a list or of an object; the first one is the document.
unsafe fn push(
    state: &mut *mut pg_sys::JsonbParseState,
    place: token::Type,
    value: &Json,
) -> Option<*mut pg_sys::JsonbValue> {
    check();
    let none = std::ptr::null_mut();
    // SAFETY: as in `make`; Postgres copies the value that it is given, but not its text.
    unsafe {
        let mut part = MaybeUninit::<pg_sys::JsonbValue>::zeroed().assume_init();
        match value {
            Json::Array(list) => {
                pg_sys::pushJsonbValue(state, token::WJB_BEGIN_ARRAY, none);
                for value in list {
                    push(state, token::WJB_ELEM, value)?;
                }
                return Some(pg_sys::pushJsonbValue(state, token::WJB_END_ARRAY, none));
            }
            Json::Object(map) => {
                pg_sys::pushJsonbValue(state, token::WJB_BEGIN_OBJECT, none);
                // In the order of a jsonb, so that Postgres has nothing to sort.
                let mut members: Vec<(&String, &Json)> = map.iter().collect();
                members.sort_by(|(one, _), (other, _)| {
                    check();
                    (one.len(), one).cmp(&(other.len(), other))
                });
                for (key, value) in members {
                    part = string(key)?;
                    pg_sys::pushJsonbValue(state, token::WJB_KEY, &mut part);
                    push(state, token::WJB_VALUE, value)?;
                }
                return Some(pg_sys::pushJsonbValue(state, token::WJB_END_OBJECT, none));
            }
            Json::Null => part.type_ = pg_sys::jbvType::jbvNull,
            Json::Bool(boolean) => {
                part.type_ = pg_sys::jbvType::jbvBool;
                part.val.boolean = *boolean;
            }
            Json::Number(number) => {
                let text = CString::new(number.as_str()).ok()?;
                let arguments = [
                    Some(pg_sys::Datum::from(text.as_ptr())),
                    Some(pg_sys::Datum::from(0_u32)),
                    Some(pg_sys::Datum::from(-1_i32)),
                ];
                let number = direct_function_call_as_datum(pg_sys::numeric_in, &arguments)?;
                part.type_ = pg_sys::jbvType::jbvNumeric;
                part.val.numeric = number.cast_mut_ptr();
            }
            Json::String(text) => part = string(text)?,
        }
        if state.is_null() {
            // It is the whole document.
            let copy = pg_sys::palloc(size_of::<pg_sys::JsonbValue>()).cast::<pg_sys::JsonbValue>();
            copy.write(part);
            return Some(copy);
        }
        Some(pg_sys::pushJsonbValue(state, place, &mut part))
    }
}

/// A text, as Postgres is given it; `None` where it holds a NUL.
unsafe fn string(text: &str) -> Option<pg_sys::JsonbValue> {
    if text.contains('\0') {
        return None;
    }
    // SAFETY: its type says which of the values it is.
    unsafe {
        let mut part = MaybeUninit::<pg_sys::JsonbValue>::zeroed().assume_init();
        part.type_ = pg_sys::jbvType::jbvString;
        part.val.string.len = i32::try_from(text.len()).ok()?;
        part.val.string.val = text.as_ptr().cast::<c_char>().cast_mut();
        Some(part)
    }
}

/// What an output function makes of a value.
unsafe fn output<'a>(
    function: unsafe fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum,
    value: pg_sys::Datum,
) -> Result<&'a [u8]> {
    // SAFETY: an output function takes a value of its type and returns a C string.
    unsafe {
        let text = direct_function_call_as_datum(function, &[Some(value)]);
        let text = text.map(|text| CStr::from_ptr(text.cast_mut_ptr()).to_bytes());
        text.ok_or_else(|| corrupted("it has no text"))
    }
}

fn corrupted(why: impl std::fmt::Display) -> Unreadable {
    Unreadable::Corrupted(errors::corrupted("a document", why))
}

/// A list or an object that is being read.
enum Open {
    List(Vec<Json>),
    Object(Map<String, Json>, String),
    /// What is neither is kept as a list of one.
    Scalar,
}

unsafe fn walk(jsonb: *mut pg_sys::Jsonb) -> Result<Json> {
    let (mut open, mut length): (Vec<Open>, usize) = (Vec::new(), 0);
    // SAFETY: the iterator reads a jsonb that stays where it is, and says by its token what it put into `part`.
    unsafe {
        let mut iterator = pg_sys::JsonbIteratorInit(&raw mut (*jsonb).root);
        let mut part = MaybeUninit::<pg_sys::JsonbValue>::zeroed().assume_init();
        loop {
            check();
            let read = match pg_sys::JsonbIteratorNext(&mut iterator, &mut part, false) {
                token::WJB_BEGIN_ARRAY | token::WJB_BEGIN_OBJECT if open.len() == MAX_DEPTH => {
                    return Err(Unreadable::TooDeep);
                }
                token::WJB_BEGIN_ARRAY if part.val.array.rawScalar => {
                    open.push(Open::Scalar);
                    continue;
                }
                token::WJB_BEGIN_ARRAY => {
                    open.push(Open::List(Vec::new()));
                    continue;
                }
                token::WJB_BEGIN_OBJECT => {
                    open.push(Open::Object(Map::new(), String::new()));
                    continue;
                }
                token::WJB_KEY => {
                    let Json::String(name) = scalar(&part)? else {
                        return Err(corrupted("a key is no text"));
                    };
                    // Its quotation marks and the colon.
                    length += name.len() + 4;
                    if let Some(Open::Object(_, key)) = open.last_mut() {
                        *key = name;
                    }
                    continue;
                }
                token::WJB_VALUE | token::WJB_ELEM => {
                    let read = scalar(&part)?;
                    length += match &read {
                        Json::String(text) => text.len() + 2,
                        Json::Number(number) => number.as_str().len(),
                        _ => 4,
                    };
                    read
                }
                token::WJB_END_ARRAY | token::WJB_END_OBJECT => match open.pop() {
                    Some(Open::List(list)) => Json::Array(list),
                    Some(Open::Object(map, _)) => Json::Object(map),
                    _ => return Err(corrupted("its parts do not fit")),
                },
                _ => return Err(corrupted("it ends within")),
            };
            // The comma.
            length += 2;
            if length > MAX_BYTES {
                return Err(Unreadable::TooLong);
            }
            match open.last_mut() {
                Some(Open::List(list)) => list.push(read),
                Some(Open::Object(map, key)) => {
                    map.insert(std::mem::take(key), read);
                }
                Some(Open::Scalar) | None => return Ok(read),
            }
        }
    }
}

/// A part that holds no others.
unsafe fn scalar(part: &pg_sys::JsonbValue) -> Result<Json> {
    // SAFETY: the type says which of the values it is.
    unsafe {
        match part.type_ {
            pg_sys::jbvType::jbvNull => Ok(Json::Null),
            pg_sys::jbvType::jbvBool => Ok(Json::Bool(part.val.boolean)),
            pg_sys::jbvType::jbvString => {
                let text = part.val.string;
                let length = usize::try_from(text.len).unwrap_or_default();
                let bytes = match length {
                    0 => &[][..],
                    _ => std::slice::from_raw_parts(text.val.cast::<u8>(), length),
                };
                let text = std::str::from_utf8(bytes).map_err(corrupted)?;
                Ok(Json::String(text.to_owned()))
            }
            pg_sys::jbvType::jbvNumeric => {
                let number = pg_sys::Datum::from(part.val.numeric);
                let text = output(pg_sys::numeric_out, number)?;
                let read = serde_json::from_slice(text).map(Json::Number);
                pg_sys::pfree(text.as_ptr().cast::<c_char>().cast_mut().cast());
                read.map_err(corrupted)
            }
            other => Err(corrupted(format_args!("it has a part of type {other}"))),
        }
    }
}
