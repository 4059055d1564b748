//! Hostile inputs: valid documents, changed in a few places. The fuzz of the pure ledger and that of
//! the server draw from here.
#![allow(dead_code)] // each of the two uses a part of this

use std::env;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value as Json, json};

/// CREDYT_CASES says how many cases of each property are tried; a few where it does not.
pub fn cases(default: u32) -> ProptestConfig {
    let cases = env::var("CREDYT_CASES").ok();
    ProptestConfig {
        cases: cases.and_then(|n| n.parse().ok()).unwrap_or(default),
        failure_persistence: None,
        max_global_rejects: u32::MAX,
        ..ProptestConfig::default()
    }
}

/// Numbers as JSON may write them.
pub const NUMBERS: [&str; 25] = [
    "0",
    "-0",
    "0.0",
    "1",
    "-1",
    "0.5",
    "1e0",
    "1E+3",
    "3e-07",
    "1.1999999999999999e-07",
    "1e400",
    "-1e400",
    "1e-400",
    "1e999999999",
    "1e-999999999",
    "1e99999999999999999999",
    "0e99999999999999999999",
    "9223372036854775808",
    "18446744073709551616",
    "999999999999999.9999999999",
    "1000000000000000",
    "79228162514264337593543950335",
    "79228162514264337593543950336",
    "0.0000000000000000000000000001",
    "1234567890123456789012345678901234567890.1234567890",
];

/// Texts that something might stumble over.
pub const TEXTS: [&str; 24] = [
    "",
    " ",
    "a",
    "\0",
    "a\0b",
    "\u{7f}",
    "\u{202e}x",
    "e\u{301}",
    "\u{10ffff}",
    "İ",
    "ß",
    "日本語",
    "*",
    "a*b",
    "NaN",
    "Infinity",
    "-infinity",
    "1e999999999",
    "0x10",
    "\\u0000",
    "'; DROP SCHEMA credyt; --",
    "2026-02-30",
    "9999-12-31T23:59:60Z",
    "-009999-01-01T00:00:00Z",
];

/// Patterns that are costly to compile or to search for, or are none.
pub const PATTERNS: [&str; 20] = [
    "(",
    "[",
    "\\",
    "*",
    "a{1,0}",
    "a{99999999999}",
    "(?:(?:a{1000}){1000}){1000}",
    "(?:(?:(?:(?=a)a){1000}){1000}){1000}",
    "(?:\\w{1000}){1000}",
    "(?:\\p{L}{1000}){1000}x",
    "(a+)+$",
    "(?:(a+)+)+\\1$",
    "(?=(a+))*\\1b",
    "(?:a|a|a|a)*\\1(?!a)",
    "(?:(?:a?){100}a{100})\\b(?!x)",
    "(?<!(?:a|ab|abc)+)x",
    "\\G\\K",
    "(?(1)a|b)",
    "\\g<0>",
    "(?<n>a\\g<n>?b)",
];

/// Keys and texts that the formats know.
const WORDS: [&str; 70] = [
    "id",
    "models",
    "match",
    "prices",
    "extractors",
    "mappings",
    "path",
    "dest",
    "root",
    "required",
    "equals",
    "starts_with",
    "contains",
    "or",
    "and",
    "regex",
    "constraint",
    "start_date",
    "start_time",
    "end_time",
    "2026-01-01",
    "00:30:00Z",
    "24:00:00+23:59",
    "input_mtok",
    "output_mtok",
    "base",
    "tiers",
    "start",
    "price",
    "per",
    "when",
    "price_variants",
    "input_tokens",
    "cache_read_tokens",
    "requests",
    "gpu_second",
    "litellm_provider",
    "input_cost_per_token",
    "input_cost_per_token_above_200k_tokens_batches",
    "input_cost_per_token_above_4294967296k_tokens",
    "currency",
    "USD",
    "units",
    "search_context_cost_per_query",
    "search_context_size_low",
    "provider_match",
    "type",
    "array-match",
    "field",
    "variants",
    "minimum",
    "maximum",
    "above",
    "usage",
    "model",
    "vendor",
    "body",
    "fallback",
    "api_flavor",
    "vendor_request_id",
    "per_unit",
    "package",
    "size",
    "credits",
    "graduated",
    "volume",
    "up_to",
    "meters",
    "cost_plus",
    "markup",
];

pub fn number() -> impl Strategy<Value = Json> {
    let exact = |text: &str| serde_json::from_str(text).unwrap_or(Json::Null);
    prop_oneof![
        4 => select(&NUMBERS[..]).prop_map(exact),
        1 => any::<i64>().prop_map(|number| json!(number)),
        1 => (any::<i32>(), -30..30_i32).prop_map(move |(digits, power)| exact(&format!("{digits}e{power}"))),
    ]
}

pub fn text() -> impl Strategy<Value = String> {
    let long = (
        select(&["a", "é", "[", "9", "\0", "-20261122"][..]),
        1..2000_usize,
    );
    prop_oneof![
        4 => select(&WORDS[..]).prop_map(str::to_owned),
        2 => select(&TEXTS[..]).prop_map(str::to_owned),
        2 => select(&NUMBERS[..]).prop_map(str::to_owned),
        1 => select(&PATTERNS[..]).prop_map(str::to_owned),
        1 => "\\PC{0,12}",
        1 => long.prop_map(|(part, times)| part.repeat(times)),
    ]
}

/// A small document of anything.
pub fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        1 => Just(Json::Null),
        1 => any::<bool>().prop_map(Json::Bool),
        3 => number(),
        3 => text().prop_map(Json::String),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::vec((text(), inner), 0..4)
                .prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

/// What is done to one place of a document.
#[derive(Clone, Debug)]
enum Edit {
    Put(Json),
    /// What stands elsewhere in it.
    PutFrom(Index),
    /// A key, or an element, is gone.
    Drop(Index),
    Rename(Index, String),
    /// An element comes a number of times.
    Again(Index, usize),
    /// It stands inside a number of lists or objects more.
    Deeper(u8, Option<String>),
    /// A piece is put into a text, or into a number's digits.
    Splice(Index, String),
}

fn edit() -> impl Strategy<Value = Edit> {
    let times = prop_oneof![9 => 1..4_usize, 1 => Just(1001_usize)];
    let again = (any::<Index>(), times);
    let splice = (any::<Index>(), text());
    prop_oneof![
        4 => any_json().prop_map(Edit::Put),
        2 => any::<Index>().prop_map(Edit::PutFrom),
        2 => any::<Index>().prop_map(Edit::Drop),
        2 => (any::<Index>(), text()).prop_map(|(at, name)| Edit::Rename(at, name)),
        1 => again.prop_map(|(at, times)| Edit::Again(at, times)),
        1 => (1..20_u8, prop::option::of(text())).prop_map(|(levels, key)| Edit::Deeper(levels, key)),
        2 => splice.prop_map(|(at, piece)| Edit::Splice(at, piece)),
    ]
}

/// One of these documents, changed in up to five places.
pub fn edited(seeds: Vec<Json>) -> impl Strategy<Value = Json> {
    let edits = prop::collection::vec((any::<Index>(), edit()), 0..6);
    (select(seeds), edits).prop_map(|(mut json, edits)| {
        for (at, edit) in edits {
            let mut places = Vec::new();
            collect(&json, String::new(), &mut places);
            let place = at.get::<String>(&places);
            let other = match edit {
                Edit::PutFrom(from) => json.pointer(from.get::<String>(&places)).cloned(),
                _ => None,
            };
            if let Some(at) = json.pointer_mut(place) {
                apply(at, edit, other);
            }
        }
        json
    })
}

fn collect(json: &Json, place: String, places: &mut Vec<String>) {
    // Enough of a long document.
    if places.len() > 3000 {
        return;
    }
    match json {
        Json::Object(fields) => fields.iter().for_each(|(key, value)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            collect(value, format!("{place}/{key}"), places);
        }),
        Json::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(nth, value)| collect(value, format!("{place}/{nth}"), places)),
        _ => {}
    }
    places.push(place);
}

fn apply(at: &mut Json, edit: Edit, other: Option<Json>) {
    match (edit, at) {
        (Edit::Put(value), at) => *at = value,
        (Edit::PutFrom(_), at) => *at = other.unwrap_or(Json::Null),
        (Edit::Drop(nth), Json::Object(fields)) => {
            if let Some(key) = chosen(fields, nth) {
                fields.remove(&key);
            }
        }
        (Edit::Drop(nth), Json::Array(list)) if !list.is_empty() => {
            list.remove(nth.index(list.len()));
        }
        (Edit::Rename(nth, name), Json::Object(fields)) => {
            if let Some(value) = chosen(fields, nth).and_then(|key| fields.remove(&key)) {
                fields.insert(name, value);
            }
        }
        (Edit::Again(nth, times), Json::Array(list)) if !list.is_empty() && list.len() < 2000 => {
            let one = nth.get(list).clone();
            list.extend(std::iter::repeat_n(one, times));
        }
        (Edit::Again(nth, times), Json::Object(fields)) if fields.len() < 2000 => {
            if let Some((key, value)) =
                chosen(fields, nth).and_then(|key| fields.remove_entry(&key))
            {
                fields.extend((0..times).map(|nth| (format!("{key}{nth}"), value.clone())));
            }
        }
        (Edit::Deeper(levels, key), at) => {
            for _ in 0..levels {
                let inner = at.take();
                *at = match &key {
                    None => Json::Array(vec![inner]),
                    Some(key) => Json::Object([(key.clone(), inner)].into_iter().collect()),
                };
            }
        }
        (Edit::Splice(nth, piece), Json::String(text)) => splice(text, nth, &piece),
        (Edit::Splice(nth, piece), at @ Json::Number(_)) => {
            let mut text = at.to_string();
            splice(&mut text, nth, &piece);
            *at = serde_json::from_str(&text).unwrap_or(Json::String(text));
        }
        _ => {}
    }
}

fn chosen(fields: &Map<String, Json>, nth: Index) -> Option<String> {
    let keys: Vec<&String> = fields.keys().collect();
    (!keys.is_empty()).then(|| (*nth.get(&keys)).clone())
}

/// Puts a piece into a text, at a place between two characters.
pub fn splice(text: &mut String, nth: Index, piece: &str) {
    let mut at = nth.index(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.insert_str(at, piece);
}

/// Price rules of every shape.
pub fn price_rules() -> Vec<Json> {
    vec![
        json!(4),
        json!("0.5"),
        json!({"per_unit": "0.5", "minimum": "1", "maximum": "50"}),
        json!({"package": {"size": 1000, "credits": "5"}}),
        json!({"graduated": [{"up_to": 10, "per_unit": "2"}, {"up_to": "20.5", "per_unit": "1.5"}, {"per_unit": "1"}]}),
        json!({"volume": [{"up_to": 10, "per_unit": "2"}, {"per_unit": "1"}], "minimum": 3}),
        json!({"meters": {"input_tokens": {"per": 1000, "credits": "0.1"}, "output_tokens": {"per": 7, "credits": "0.4"}}}),
        json!({"cost_plus": {"markup": "0.40", "credit_value": "0.01"}, "maximum": 100}),
        json!({"match": [{"when": {"model": "gpt-5", "size": "4k"}, "price": 12},
                         {"when": {"model": "gpt-5"}, "price": {"package": {"size": "0.3", "credits": 1}}},
                         {"when": {"size": 4, "hd": true}, "price": {"match": [{"when": {"n": 1}, "price": 2}, {"price": 3}]}},
                         {"price": {"meters": {"input_tokens": {"per": 3, "credits": 1}}}}]}),
    ]
}

/// What a call says about itself.
pub fn dimensions() -> Vec<Json> {
    vec![
        json!({}),
        json!({"model": "gpt-5", "size": "4k", "n": 1}),
        json!({"size": 4, "hd": true, "input_tokens": 1234, "output_tokens": "56.5"}),
    ]
}

pub fn genai_file() -> Json {
    json!([{
        "id": "acme", "provider_match": {"or": [{"contains": "acme"}, {"regex": "^a"}]},
        "fallback_model_providers": ["other"],
        "extractors": [{"api_flavor": "default", "root": ["a", "usage"], "model_path": "model", "mappings": [
            {"path": ["list", {"type": "array-match", "field": "kind", "match": {"equals": "X"}}, "n"],
             "dest": "cache_read_tokens", "required": false},
            {"path": "in", "dest": "input_tokens", "required": true}]}],
        "models": [{"id": "m", "match": {"and": [{"starts_with": "m"}, {"regex": "m(-\\d+)?(?!x)"}]}, "prices": [
            {"prices": {"input_mtok": {"base": 1, "tiers": [{"start": 10, "price": 2}]}, "requests_kcount": 5}},
            {"constraint": {"start_time": "16:30:00Z", "end_time": "00:30:00+02:00"}, "prices": {"input_mtok": 3}},
            {"constraint": {"start_date": "2026-01-01"}, "prices": {"output_mtok": 3}}],
            "price_variants": [{"when": {"tier": "x"}, "prices": {"input_mtok": 9}}]},
            {"id": "m-2026-11-22", "match": {"equals": "m-2026-11-22"}, "prices": {"input_mtok": 3, "cache_read_mtok": 0.1}}]
    }])
}

pub fn litellm_file() -> Json {
    json!({"m": {"litellm_provider": "acme", "input_cost_per_token": 1e-06, "input_cost_per_token_above_200k_tokens": 2e-06,
                 "output_cost_per_token_batches": 2, "search_context_cost_per_query": {"search_context_size_low": 1},
                 "mode": "chat", "supports_x": true},
           "sample_spec": {"litellm_provider": "one of"},
           "x/m": {"litellm_provider": "x", "input_cost_per_second": 0.1, "cache_read_input_token_cost_priority": 1.2e-07}})
}

pub fn own_rates() -> Vec<Json> {
    vec![
        json!({"gpu_second": "0.0011", "currency": "EUR"}),
        json!({"input_tokens": {"price": "3", "per": 1000000, "minimum": 5, "tiers": [{"above": "200000", "price": "6"}]}}),
    ]
}

/// Rates in the stored form.
pub fn stored_rates() -> Json {
    json!({"prices": [{"units": {"input_tokens": {"price": "3", "per": 1000000, "tiers": [{"above": "200000", "price": "6"}]}}},
                      {"start_date": "2026-09-01", "units": {"output_tokens": {"price": "3", "per": 1}}},
                      {"start_time": "16:30:00", "end_time": "00:30:00", "units": {"gpu_second": {"price": 1, "minimum": 2}}}],
           "variants": [{"when": {"service_tier": "batch"}, "units": {"input_tokens": {"price": "1"}}}]})
}

/// Vendors' answers and their usage objects, and counts by units.
pub fn answers() -> Vec<Json> {
    vec![
        json!({"input_tokens": 100, "output_tokens": 20, "cache_read_tokens": 30, "requests": 1}),
        json!({"gpu_second": 1.5, "pages": 3}),
        json!({"model": "m-1", "a": {"usage": {"in": 10, "list": [{"kind": "T", "n": 1}, {"kind": "x", "n": 3}]}}}),
        json!({"in": 10, "list": [{"kind": "X", "n": 3}]}),
    ]
}

/// Usage as a debit takes it.
pub fn usages() -> Vec<Json> {
    let one = |body: Json| json!({"vendor": "acme", "model": "m", "body": body});
    let mut all: Vec<Json> = answers().into_iter().map(one).collect();
    all.push(Json::Array(all.clone()));
    all.push(json!({"vendor": "acme", "api_flavor": "default", "vendor_request_id": "r1", "body": answers()[2]}));
    all
}

/// What paid, as a ledger row says it.
pub fn allocations() -> Json {
    json!([{"grant": "01a19467-e800-7000-8000-000080000000", "kind": "included", "credits": "3", "revenue": "0.60"},
           {"grant": null, "kind": "overdraft", "credits": "2.5", "revenue": "0"}])
}

/// What it cost, as a ledger row says it.
pub fn costs() -> Json {
    json!([{"vendor": "acme", "model": "m", "cost": "0.5", "request": "r1", "weight": "7"}, {"vendor": "acme", "model": "m", "cost": "1"},
           {"vendor": "other", "model": null, "cost": null}])
}

/// The lines of a cost posting.
pub fn lines() -> Json {
    json!([{"vendor": "acme", "model": "m", "kind": "included", "credits": "-3", "revenue": "0.60", "cost": "0.5"},
           {"vendor": "acme", "model": null, "kind": "included", "credits": "3", "revenue": "0", "cost": null},
           {"vendor": "acme", "model": "m", "kind": "included", "credits": "0", "revenue": "0", "cost": "7.5"}])
}

// ---- packed wallets -----------------------------------------------------------------------------

/// Where in these bytes their checksum stands: it is that of all the others.
fn checksum_at(bytes: &[u8]) -> usize {
    let found = (0..bytes.len() - 4).find(|at| bytes[*at..at + 4] == checksum(bytes, *at));
    found.expect("packed bytes hold their checksum")
}

fn checksum(bytes: &[u8], at: usize) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..at]);
    hasher.update(&bytes[at + 4..]);
    hasher.finalize().to_le_bytes()
}

/// Bytes that mean something at one place or another: numbers at their ends, in either form.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let any_size = any::<u128>().prop_map(|n| varint(n >> (n % 120)));
    let moment = select(
        &[
            i64::MIN,
            -1,
            0,
            1,
            848_000_000_000_000,
            1 << 61,
            i64::MAX - 1,
            i64::MAX,
        ][..],
    );
    prop_oneof![
        4 => any::<u8>().prop_map(|byte| vec![byte]),
        2 => any_size,
        1 => select(vec![0, 127, 128, 1000, 1 << 32, 1 << 64, u128::MAX]).prop_map(varint),
        2 => moment.prop_map(|at| at.to_le_bytes().to_vec()),
        1 => any::<i64>().prop_map(|at| at.to_le_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn varint(mut value: u128) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A change of packed bytes: some go at a place, and others come there.
fn change() -> impl Strategy<Value = (Index, usize, Vec<u8>)> {
    let same = piece().prop_map(|piece| (piece.len(), piece));
    let other = (select(&[0, 1, 2, 8, 16][..]), piece());
    (any::<Index>(), prop_oneof![3 => same, 1 => other])
        .prop_map(|(at, (gone, piece))| (at, gone, piece))
}

/// Changes of packed bytes.
pub fn changes() -> impl Strategy<Value = Vec<(Index, usize, Vec<u8>)>> {
    prop::collection::vec(change(), 1..4)
}

/// The bytes of a wallet, changed, with a checksum that is right again.
pub fn forged(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    changes().prop_map(move |changes| {
        let mut bytes = bytes.clone();
        let mut sum = checksum_at(&bytes);
        for (at, gone, piece) in changes {
            let mut from = at.index(bytes.len());
            // Not the checksum itself.
            if (sum..sum + 4).contains(&from) {
                from = sum + 4;
            }
            let end = if from < sum { sum } else { bytes.len() };
            let gone = gone.min(end - from);
            if from < sum {
                sum = sum + piece.len() - gone;
            }
            bytes.splice(from..from + gone, piece);
        }
        let right = checksum(&bytes, sum);
        bytes[sum..sum + 4].copy_from_slice(&right);
        bytes
    })
}
