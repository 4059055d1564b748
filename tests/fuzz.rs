//! Hostile inputs over a connection (CREDYT_CASES=1000000 cargo test --test fuzz, for long): edited
//! documents, forged wallets and odd texts into every argument of every SQL function. Whatever comes,
//! it is answered or refused with a code of the caller's; no panic, no crash, and every invariant holds.

mod support;

#[path = "support/hostile.rs"]
mod hostile;

use std::cell::{Cell, RefCell};
use std::error::Error;

use postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use postgres::{Client, NoTls};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::{Just, Union};
use proptest::test_runner::{TestCaseError, TestRunner};
use serde_json::Value as Json;

use hostile::{cases, edited};
use support::sql::{Database, Refusal, attempt, quoted, refusal, rows, value, values};

/// A function of the extension, and its arguments with their types.
struct Function {
    name: String,
    arguments: Vec<(String, String)>,
}

/// What there is to refer to in the database.
struct Known {
    grant: String,
    debit: String,
    hold: String,
    text: String,
    bytes: Vec<u8>,
}

fn prepared(name: &str) -> (Database, Client, Known) {
    let database = Database::new(name);
    let mut client = database.connect();
    let import = format!(
        "SELECT credyt.import_vendor_rates({})",
        quoted(&hostile::genai_file().to_string())
    );
    rows(&mut client, &import);
    rows(
        &mut client,
        "SET statement_timeout = '20s';
         SELECT credyt.set_vendor_rate('acme', 'gpu', '{\"gpu_second\": 1}');
         SELECT credyt.create_plan('pro', 50, '1 day', rollover => 5), credyt.subscribe('ann', 'pro');
         SELECT credyt.grant_credits('ann', 30, 'promotional', expires_at => now() + interval '1 day', applies_to => '{image,up*}')",
    );
    let sql = "SELECT id FROM credyt.grant_credits('ann', 1000000, paid => 10)";
    let grant = value(&mut client, sql);
    let sql = "SELECT id FROM credyt.debit_credits('ann', 'image', 40)";
    let debit = value(&mut client, sql);
    let sql = "SELECT id FROM credyt.authorize('ann', 'image', 5)";
    let hold = value(&mut client, sql);
    let state = |client: &mut Client, form: &str| {
        value(
            client,
            &format!("SELECT state::{form} FROM credyt.wallets WHERE customer = 'ann'"),
        )
    };
    let text = state(&mut client, "text");
    let hex = state(&mut client, "bytea");
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    let bytes = (2..hex.len()).step_by(2).map(byte).collect();
    let known = Known {
        grant,
        debit,
        hold,
        text,
        bytes,
    };
    (database, client, known)
}

/// Every function that SQL can call, but the one that close_period has its rows written by.
fn functions(client: &mut Client) -> Vec<Function> {
    let sql = "SELECT p.proname || '|' || string_agg(coalesce(nullif(p.proargnames[a.nth], ''), '$') || ' ' || a.type::regtype, '|' ORDER BY a.nth)
               FROM pg_proc p, unnest(p.proargtypes) WITH ORDINALITY a(type, nth)
               WHERE p.pronamespace = 'credyt'::regnamespace AND p.prokind = 'f' AND p.proname <> 'keep_period'
               GROUP BY p.oid, p.proname
               HAVING bool_and((SELECT t.typtype <> 'p' FROM pg_type t WHERE t.oid = a.type)) ORDER BY 1";
    let read = |line: String| {
        let mut parts = line.split('|').map(str::to_owned);
        let name = parts.next().expect("a name");
        let pair = |part: String| {
            let (name, of) = part.split_once(' ').expect("a name and a type");
            (name.to_owned(), of.to_owned())
        };
        Function {
            name,
            arguments: parts.map(pair).collect(),
        }
    };
    values(client, sql).into_iter().map(read).collect()
}

fn bytea(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("'\\x{hex}'::bytea")
}

/// One of these, as SQL.
fn one_of(sql: &[&str]) -> BoxedStrategy<String> {
    let all: Vec<String> = sql.iter().map(|one| (*one).to_owned()).collect();
    select(all).boxed()
}

/// Documents that an argument of this name takes, to start from.
fn seeds(name: &str) -> Vec<Json> {
    match name {
        "price" => hostile::price_rules(),
        "rates" => {
            let mut all = hostile::own_rates();
            all.extend([hostile::genai_file(), hostile::litellm_file()]);
            all
        }
        "usage" => [hostile::usages(), hostile::answers()].concat(),
        "allocations" => vec![hostile::allocations()],
        "costs" => vec![hostile::costs()],
        "lines" => vec![hostile::lines()],
        _ => hostile::dimensions(),
    }
}

/// A value for an argument, as SQL: a plausible one, or a hostile one.
fn argument(name: &str, of: &str, known: &Known) -> BoxedStrategy<String> {
    let hostile = match of {
        "jsonb" => {
            let deep = one_of(&[
                "(repeat('[', 10000) || repeat(']', 10000))::jsonb",
                "(repeat('{\"a\":', 10000) || '1' || repeat('}', 10000))::jsonb",
                "(repeat('{\"match\":[{\"price\":', 5000) || '1' || repeat('}]}', 5000))::jsonb",
                "(SELECT jsonb_agg(i) FROM generate_series(1, 20000) i)",
                "(SELECT jsonb_object_agg(i, i) FROM generate_series(1, 20000) i)",
                "to_jsonb(repeat('x', 1000000))",
                "'1e131071'",
                "'{\"a\": 1, \"a\": 2}'",
                "'{\"input_tokens\": 1e-16383}'",
            ]);
            let document = |json: Json| quoted(&json.to_string());
            prop_oneof![
                20 => edited(seeds(name)).prop_map(document),
                4 => hostile::any_json().prop_map(document),
                1 => deep,
            ]
            .boxed()
        }
        "credyt.wallet" => {
            let json = serde_json::from_str(&known.text).expect("JSON");
            let read = |text: String| format!("{}::credyt.wallet", quoted(&text));
            let text = known.text.clone();
            prop_oneof![
                4 => hostile::forged(known.bytes.clone()).prop_map(|bytes| format!("{}::credyt.wallet", bytea(&bytes))),
                2 => edited(vec![json]).prop_map(move |json| read(json.to_string())),
                1 => (any::<prop::sample::Index>(), hostile::text()).prop_map(move |(at, piece)| {
                    let mut text = text.clone();
                    hostile::splice(&mut text, at, &piece.replace('\0', ""));
                    read(text)
                }),
                1 => Just("(SELECT state FROM credyt.wallets WHERE customer = 'ann')".to_owned()),
            ]
            .boxed()
        }
        "bytea" => hostile::forged(known.bytes.clone())
            .prop_map(|bytes| bytea(&bytes))
            .boxed(),
        "numeric" => {
            let number =
                (any::<i64>(), -12..12_i32).prop_map(|(digits, power)| format!("{digits}e{power}"));
            prop_oneof![
                1 => select(&hostile::NUMBERS[..18]).prop_map(|number| format!("{number}::numeric")),
                1 => number,
                1 => one_of(&["'NaN'", "'Infinity'", "1e131071", "1e-16383", "0.01", "3"]),
            ]
            .boxed()
        }
        "integer" | "bigint" => one_of(&["0", "-1", "1", "100", "2147483647", "-2147483648"]),
        "boolean" => one_of(&["true", "false"]),
        "timestamp with time zone" => one_of(&[
            "'infinity'",
            "'-infinity'",
            "'4714-11-24 00:00:00+00 BC'",
            "'0001-01-01Z'",
            "'9999-12-31 23:59:59.999999Z'",
            "'294276-12-31Z'",
            "now()",
            "now() - interval '1 hour'",
            "now() + interval '40 days'",
        ]),
        "uuid" => one_of(&[
            &quoted(&known.grant),
            &quoted(&known.debit),
            &quoted(&known.hold),
            "gen_random_uuid()",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        ]),
        "text[]" => {
            let list = prop::collection::vec(hostile::text(), 0..4).prop_map(|texts| {
                let texts: Vec<String> = texts
                    .iter()
                    .map(|text| quoted(&text.replace('\0', "")))
                    .collect();
                format!("ARRAY[{}]::text[]", texts.join(", "))
            });
            prop_oneof![
                3 => list,
                1 => one_of(&["ARRAY[NULL]::text[]", "'[-5:-4]={a,b}'::text[]", "array_fill('x'::text, ARRAY[2, 2])"]),
            ]
            .boxed()
        }
        _ => hostile::text()
            .prop_map(|text| quoted(&text.replace('\0', "")))
            .boxed(),
    };
    let plausible: &[&str] = match (name, of) {
        ("customer", _) => &["'ann'", "'ann'", "'bob'"],
        ("asset", _) => &["'credits'"],
        ("action", _) => &["'image'"],
        ("vendor", _) => &["'acme'"],
        ("model", _) => &["'gpu'", "'m'", "NULL"],
        ("plan", _) => &["'pro'"],
        ("kind", _) => &["'purchased'", "'included'", "'debit'", "'settlement'"],
        ("every", _) => &["'1 month'"],
        ("format", _) => &["'genai-prices'", "'litellm'"],
        ("by", _) => &[
            "ARRAY['day', 'kind']",
            "ARRAY['scope', 'model', 'vendor', 'action', 'customer']",
        ],
        ("grant_id", _) => &[],
        (_, "numeric") => &["1", "2.5"],
        (_, "timestamp with time zone") => &["NULL", "now()"],
        _ => &["NULL"],
    };
    if plausible.is_empty() {
        return hostile;
    }
    prop_oneof![hostile, one_of(plausible)].boxed()
}

/// A call of this function, as SQL.
fn call(function: &Function, known: &Known) -> BoxedStrategy<String> {
    let name = function.name.clone();
    let names: Vec<String> = function
        .arguments
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    let arguments: Vec<_> = function
        .arguments
        .iter()
        .map(|(name, of)| argument(name, of, known))
        .collect();
    arguments
        .prop_map(move |given| {
            let named: Vec<String> = names
                .iter()
                .zip(&given)
                .map(|(name, sql)| match name.as_str() {
                    "$" => sql.clone(),
                    name => format!("\"{name}\" => {sql}"),
                })
                .collect();
            format!("SELECT * FROM credyt.\"{name}\"({})", named.join(", "))
        })
        .boxed()
}

/// Is it the caller who is told that he is wrong?
fn check(refused: &Refusal) -> Result<(), TestCaseError> {
    let ours = ["XX", "57", "58", "53", "F0"];
    let fault = ours.iter().any(|class| refused.code.starts_with(class));
    prop_assert!(!fault, "{refused:?}");
    prop_assert!(!refused.message.contains("panicked"), "{refused:?}");
    Ok(())
}

#[test]
fn every_function_answers_or_refuses() {
    let (_database, mut client, known) = prepared("fuzz");
    let functions = functions(&mut client);
    assert!(functions.len() > 40, "{} functions", functions.len());
    let calls = Union::new(functions.iter().map(|function| call(function, &known)));
    let (client, answered, refused) = (RefCell::new(client), Cell::new(0), Cell::new(0));
    let tried = TestRunner::new(cases(600)).run(&(calls, any::<u8>()), |(sql, luck)| {
        let mut client = client.borrow_mut();
        // Most of it is taken back; what is kept makes the next calls less alike.
        let end = if luck % 8 == 0 { "COMMIT" } else { "ROLLBACK" };
        let outcome = attempt(&mut client, &format!("BEGIN; {sql}; {end}"));
        match outcome {
            Ok(_) => answered.set(answered.get() + 1),
            Err(refusal) => {
                refused.set(refused.get() + 1);
                rows(&mut client, "ROLLBACK");
                check(&refusal)?;
            }
        }
        Ok(())
    });
    tried.unwrap_or_else(|why| panic!("{why}"));
    let (answered, refused) = (answered.get(), refused.get());
    assert!(
        answered > refused / 20 && refused > answered / 20,
        "{answered} answered, {refused} refused"
    );
}

/// Bytes as they are, whatever type the server asks for.
#[derive(Debug)]
struct Raw(Vec<u8>);

impl ToSql for Raw {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[test]
fn the_binary_form_is_a_wallet_s_or_refused() {
    let (_database, mut client, known) = prepared("fuzz_binary");
    let statement = client
        .prepare("SELECT w.state::text::credyt.wallet::bytea = w.state::bytea FROM (SELECT $1::credyt.wallet AS state) w")
        .expect("prepared");
    let mut same = |bytes: Vec<u8>| match client.query_one(&statement, &[&Raw(bytes)]) {
        Ok(row) => Ok(row.get::<_, bool>(0)),
        Err(error) => Err(Refusal::of(&error).code),
    };
    assert_eq!(same(known.bytes.clone()), Ok(true));
    let same = RefCell::new(same);
    let bytes = prop_oneof![
        hostile::forged(known.bytes.clone()),
        prop::collection::vec(any::<u8>(), 0..200),
    ];
    let tried = TestRunner::new(cases(300)).run(&bytes, |bytes| {
        let outcome = (same.borrow_mut())(bytes);
        prop_assert!(
            outcome == Ok(true) || outcome == Err("22P02".to_owned()),
            "{outcome:?}"
        );
        Ok(())
    });
    tried.unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn another_encoding_is_refused_by_create_extension() {
    let utf8 = Database::new("fuzz_utf8");
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_JP"] {
        rows(
            &mut utf8.connect(),
            &format!(
                "CREATE DATABASE fuzz_other TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
            ),
        );
        {
            let other = utf8.connect_str().replace("fuzz_utf8", "fuzz_other");
            let mut client = Client::connect(&other, NoTls).expect("connected");
            let refused = refusal(&mut client, "CREATE EXTENSION credyt_pg");
            assert_eq!(refused.code, "0A000", "{refused:?}");
            let says =
                format!("needs a database with encoding UTF8, and fuzz_other has {encoding}");
            assert!(refused.message.contains(&says), "{refused:?}");
            assert!(refused.hint.contains("ENCODING 'UTF8'"), "{refused:?}");
            let left = "SELECT count(*) FROM pg_namespace WHERE nspname = 'credyt'";
            assert_eq!(value(&mut client, left), "0");
        }
        rows(&mut utf8.connect(), "DROP DATABASE fuzz_other");
    }
}
