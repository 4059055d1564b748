//! Whatever is passed: an answer, or a refusal that names the argument. Never XX000, never a panic,
//! and the connection goes on.

mod support;

use postgres::Client;
use support::sql::{Database, Refusal, attempt, clock, quoted, refusal, rows, value, values};

/// How an argument is tried: by its type.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Int,
    Json,
    Id,
    Time,
    Texts,
    Ints,
    Ids,
    Bool,
}
use Kind::{Bool, Id, Ids, Int, Ints, Json, Number, Text, Texts, Time};

impl Kind {
    fn of(sql: &str) -> Kind {
        match sql {
            "text" => Text,
            "numeric" => Number,
            "integer" | "bigint" => Int,
            "jsonb" => Json,
            "uuid" => Id,
            "timestamp with time zone" => Time,
            "text[]" => Texts,
            "integer[]" => Ints,
            "uuid[]" => Ids,
            "boolean" => Bool,
            _ => panic!("say what is tried for an argument of type {sql}"),
        }
    }
}

/// An argument, with a value that makes a good call, as SQL.
struct Argument {
    name: String,
    /// Its type, as SQL.
    sql: String,
    kind: Kind,
    good: &'static str,
}

/// A function of the catalog.
struct Function {
    name: String,
    arguments: Vec<Argument>,
}

/// Every function that people call, as the catalog has it. Left out are those of the type, of triggers and of views.
fn functions(client: &mut Client) -> Vec<Function> {
    let internal = "as_money keep_period known_cost limit_period matches_action old_snapshots posting_lines repriced rolled_up_to \
                    rollup_backlog split_lines statement_time subscription_at total total_count uncosted_since";
    let sql = format!(
        "SELECT p.proname, coalesce(string_agg(format('%s:%s', a.name, format_type(a.type, NULL)), ';' ORDER BY a.nth)
                            FILTER (WHERE a.nth IS NOT NULL), '') AS arguments
         FROM pg_proc p LEFT JOIN unnest(p.proargnames[:p.pronargs], p.proargtypes::oid[]) WITH ORDINALITY AS a (name, type, nth) ON true
         WHERE p.pronamespace = 'credyt'::regnamespace AND p.prorettype <> 'trigger'::regtype
           AND p.proargnames[1] IS DISTINCT FROM 'request' AND p.proname <> ALL (string_to_array('{internal}', ' '))
           AND p.proname NOT IN ('allow', 'disallow') -- tests/capabilities.rs
           AND p.proname <> 'distribute' -- tests/sql/distribute.sql
           AND NOT p.proargtypes::oid[] && ARRAY['credyt.wallet', 'cstring', 'internal', 'bytea']::regtype[]::oid[]
         GROUP BY p.oid ORDER BY 1"
    );
    let functions = attempt(client, &sql).expect("the catalog");
    let read = |row: &postgres::SimpleQueryRow| {
        let name = row.get("proname").expect("a name").to_owned();
        let arguments = row
            .get("arguments")
            .expect("arguments")
            .split_terminator(';');
        let arguments = arguments.map(|argument| {
            let (argument, sql) = argument.split_once(':').expect("a type");
            Argument {
                name: argument.to_owned(),
                sql: sql.to_owned(),
                kind: Kind::of(sql),
                good: good(&name, argument),
            }
        });
        Function {
            arguments: arguments.collect(),
            name,
        }
    };
    functions.iter().map(read).collect()
}

/// What makes a good call of this function: what is said for it, or for every function.
fn good(function: &str, argument: &str) -> &'static str {
    let own = GOOD.iter().find(|(name, _)| *name == function);
    let own = own.and_then(|(_, values)| values.iter().find(|(name, _)| *name == argument));
    let own = own.or_else(|| GOOD_EVERYWHERE.iter().find(|(name, _)| *name == argument));
    own.unwrap_or_else(|| panic!("say a good value for {argument} of {function}"))
        .1
}

const GOOD_EVERYWHERE: &[(&str, &str)] = &[
    ("action", "'image'"),
    ("api_flavor", "NULL"),
    ("applies_to", "'{image}'"),
    ("as_of", "NULL"),
    ("asset", "'credits'"),
    ("at", "NULL"),
    ("at_least", "NULL"),
    ("authorization_id", "'$hold'"),
    ("batch", "10"),
    ("before", "NULL"),
    ("bucket", "'day'"),
    ("by", "'{action}'"),
    ("cap", "50"),
    ("contents", "true"),
    ("context", "'{}'"),
    ("cooldown_seconds", "60"),
    ("cost", "0.01"),
    ("count", "5"),
    ("counts", "'credits'"),
    ("credits", "5"),
    ("currency", "'USD'"),
    ("customer", "'ann'"),
    ("days", "'{7,1}'"),
    ("debit_id", "'$debit'"),
    ("dimensions", "'{\"model\": \"x\"}'"),
    ("dry_run", "false"),
    ("effective_at", "NULL"),
    ("enabled", "true"),
    ("event_id", "'$event'"),
    ("every", "'day'"),
    ("expires_at", "NULL"),
    ("format", "'genai-prices'"),
    ("grant_id", "'$grant'"),
    ("idempotency_key", "'key'"),
    ("ids", "'{$event}'"),
    ("keep_open", "false"),
    ("kind", "'included'"),
    ("kinds", "'{purchased}'"),
    ("lease_seconds", "60"),
    ("max_credits", "500"),
    ("metadata", "'{}'"),
    ("model", "'m'"),
    ("occurred_at", "NULL"),
    ("on_shortfall", "'skip'"),
    ("overdraft_limit", "5"),
    ("overrun", "'reject'"),
    ("paid", "1"),
    ("paid_through", "now()"),
    ("payment", "'pi'"),
    ("plan", "'pro'"),
    ("price", "'2'"),
    ("price_list", "'enterprise'"),
    ("priority", "100"),
    ("proration", "'difference'"),
    ("quantity", "2"),
    ("rate", "1.1"),
    ("reason", "'why'"),
    ("required", "true"),
    ("restore_until", "NULL"),
    ("rollover", "NULL"),
    ("rollover_percent", "50"),
    ("rollover_periods", "NULL"),
    ("rounding", "'up'"),
    ("scale", "2"),
    ("scope", "'user:*'"),
    ("scopes", "'{user:a}'"),
    ("since", "NULL"),
    ("source", "'reported'"),
    ("spent", "'owe'"),
    ("starts_at", "NULL"),
    ("step", "1"),
    ("target_margin", "0.4"),
    ("threshold", "50"),
    ("through", "NULL"),
    ("timezone", "NULL"),
    ("to_balance", "NULL"),
    ("to_currency", "'USD'"),
    ("to_customer", "'bob'"),
    ("to_plan", "NULL"),
    ("ttl_seconds", "60"),
    ("unit", "'percent'"),
    ("until", "NULL"),
    ("usage", "NULL"),
    ("vary", "NULL"),
    ("vendor", "'v'"),
    ("vendor_request_id", "'req'"),
    ("warn_at", "0.5"),
];

const GOOD: &[(&str, &[(&str, &str)])] = &[
    (
        "affordable",
        &[("vary", "'quantity'"), ("dimensions", "'{}'")],
    ),
    ("authorize", &[("credits", "NULL")]),
    ("capture", &[("credits", "NULL")]),
    ("capture_many", &[("requests", "'[]'")]),
    ("change_plan", &[("at", "'now'")]),
    ("close_period", &[("through", "now() - interval '1 hour'")]),
    (
        "create_asset",
        &[("asset", "'points'"), ("timezone", "'UTC'")],
    ),
    ("create_plan", &[("plan", "'basic'"), ("every", "'1 week'")]),
    ("debit_credits", &[("credits", "NULL")]),
    (
        "debit_many",
        &[(
            "requests",
            "'[{\"customer\": \"ann\", \"action\": \"image\"}]'",
        )],
    ),
    ("deferred_revenue_at", &[("at", "now()"), ("asset", "NULL")]),
    ("grant_credits", &[("currency", "NULL")]),
    (
        "grant_many",
        &[("requests", "'[{\"customer\": \"ann\", \"credits\": 5}]'")],
    ),
    (
        "import_vendor_rates",
        &[(
            "rates",
            "'[{\"id\": \"v\", \"models\": [{\"id\": \"m\", \"match\": {\"equals\": \"m\"}, \"prices\": {\"input_mtok\": 1}}]}]'",
        )],
    ),
    ("ledger_hash", &[("asset", "NULL")]),
    ("margin", &[("asset", "NULL")]),
    (
        "record_cost",
        &[
            ("vendor", "'acme'"),
            ("model", "'gpu'"),
            ("usage", "'{\"second\": 1}'"),
            ("authorization_id", "NULL"),
        ],
    ),
    ("refund", &[("credits", "1")]),
    ("revenue_rollforward", &[("asset", "NULL")]),
    ("revoke_grant", &[("credits", "NULL"), ("spent", "'keep'")]),
    ("set_exchange_rate", &[("currency", "'EUR'")]),
    ("set_price", &[("customer", "NULL"), ("price_list", "NULL")]),
    ("set_topup", &[("credits", "100")]),
    (
        "set_vendor_rate",
        &[("rates", "'{\"gpu_second\": \"0.0011\"}'")],
    ),
    (
        "subscribe",
        &[
            ("customer", "'bob'"),
            ("paid_through", "NULL"),
            ("quantity", "1"),
        ],
    ),
    ("vendor_cost", &[("usage", "'{\"gpu_second\": 2}'")]),
];

/// What is tried for an argument of this kind, as SQL.
fn hostile(kind: Kind) -> Vec<String> {
    let texts = [
        "''",
        "repeat('x', 1048576)",
        "repeat('é', 128)",
        "E'\\n'",
        "E'it''s \"\\\\ $1 %s {} \\t'",
        "'''; DROP SCHEMA credyt CASCADE; --'",
        "E'\\u202e\\U0001F600\\u0301'",
        "'NULL'",
        "' '",
    ];
    let numbers = [
        "0",
        "-1",
        "-0.0000000001",
        "'NaN'",
        "'Infinity'",
        "'-Infinity'",
        "1e30",
        "-1e30",
        "1e131071",
        "1e-16383",
        "0.001",
        "0.00000000000000000001",
        "999999999999999.99",
        "1000000000000000",
        "79228162514264337593543950336",
        "1.0000000000000000000000000000000000000",
    ];
    let ints = ["0", "-1", "1", "11", "2147483647", "-2147483648"];
    let documents = [
        "'null'",
        "'[]'",
        "'{}'",
        "'[null]'",
        "'\"\"'",
        "'\"1\"'",
        "'-1'",
        "'1e400'",
        "'1e-400'",
        "'true'",
        "'{\"\": {}}'",
        "'{\"a\": null}'",
        "'{\"model\": [[[]]]}'",
        "'{\"model\": 1e30}'",
        "to_jsonb(repeat('x', 1048576))",
        "jsonb_build_object(repeat('k', 1048576), 1)",
        "(repeat('[', 1000) || repeat(']', 1000))::jsonb",
        "(repeat('{\"match\":[{\"price\":', 1000) || '1' || repeat('}]}', 1000))::jsonb",
        "(repeat('{\"a\":', 1000) || '1' || repeat('}', 1000))::jsonb",
        "'{\"a\": \"\\\\u0000\"}'",
        "'{\"vendor\": 1, \"body\": {}}'",
        "'{\"vendor\": \"v\", \"body\": []}'",
        "'{\"vendor\": \"v\", \"body\": {\"n\": 1e99}}'",
        "'[{\"vendor\": \"v\", \"body\": {}}, 1]'",
        "'{\"per_unit\": \"NaN\"}'",
        "'{\"per_unit\": -1}'",
        "'{\"per_unit\": 1, \"more\": 1}'",
        "'{\"package\": {\"size\": 0, \"credits\": 1}}'",
        "'{\"graduated\": []}'",
        "'{\"volume\": [{\"up_to\": 1, \"per_unit\": 1}]}'",
        "'{\"meters\": {\"model\": {\"per\": 1, \"credits\": 1}}}'",
        "'{\"cost_plus\": {\"markup\": -1, \"credit_value\": 0}}'",
        "'{\"match\": [{\"when\": {\"model\": \"x\"}, \"price\": 1}, {\"when\": {\"model\": \"x\"}, \"price\": 1}]}'",
        "'{\"per_unit\": \"1e28\"}'",
        "'{\"per_unit\": 9999999999999999999999999999}'",
    ];
    let ids = [
        "'00000000-0000-0000-0000-000000000000'",
        "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        "'$bob'",
        "'$grant'",
        "'$debit'",
        "'$hold'",
    ];
    let times = [
        "'infinity'",
        "'-infinity'",
        "'4714-11-24 00:00:00+00 BC'",
        "'0001-01-01Z'",
        "'9999-12-31 23:59:59.999999Z'",
        "'10000-01-01Z'",
        "'100000-01-01Z'",
        "'294276-12-31Z'",
        "'2000-01-01Z'",
        "now()",
        "now() + interval '1 hour'",
    ];
    let lists = [
        "'{}'",
        "ARRAY[NULL]::text[]",
        "ARRAY['a', NULL]",
        "ARRAY['']",
        "ARRAY['*']",
        "ARRAY['a*b']",
        "ARRAY['**']",
        "array_fill('x'::text, ARRAY[101])",
        "array_fill('x'::text, ARRAY[2, 2])",
        "'[-5:-4]={a,b}'::text[]",
        "ARRAY[repeat('x', 1048576)]",
        "array_fill('x'::text, ARRAY[100000])",
        "ARRAY[E'\\n', '''']",
    ];
    let int_lists = [
        "'{}'",
        "'{NULL}'",
        "'{7,NULL}'",
        "'{0}'",
        "'{-1}'",
        "'{2147483647}'",
        "'{-2147483648}'",
        "'[-5:-4]={3,4}'",
        "'{{1,2},{3,4}}'",
        "array_fill(7, ARRAY[100000])",
        "ARRAY(SELECT generate_series(1, 100000))",
    ];
    let id_lists = [
        "'{}'",
        "'{NULL}'",
        "'[-5:-4]={00000000-0000-0000-0000-000000000000,NULL}'",
        "array_fill(gen_random_uuid(), ARRAY[2, 2])",
        "array_fill(gen_random_uuid(), ARRAY[100000])",
    ];
    let list: &[&str] = match kind {
        Text => &texts,
        Number => &numbers,
        Int => &ints,
        Json => &documents,
        Id => &ids,
        Time => &times,
        Texts => &lists,
        Ints => &int_lists,
        Ids => &id_lists,
        Bool => &["true"],
    };
    std::iter::once("NULL")
        .chain(list.iter().copied())
        .map(str::to_owned)
        .collect()
}

/// An answer of ours: it explains itself. 22023 and 22003 name an argument.
fn check(refused: &Refusal, call: &str) {
    let slug = match refused.code.as_str() {
        "22023" => "invalid_input",
        "22003" => "out_of_range",
        "54000" => "too_many_grants",
        "WC001" => "insufficient_credits",
        "WC002" => "wallet_not_found",
        "WC003" => "price_not_found",
        "WC004" => "authorization_closed",
        "WC005" => "idempotency_conflict",
        "WC008" => "refund_exceeds_debit",
        "WC009" => "asset_not_found",
        "WC010" => "plan_not_found",
        "WC011" => "not_found",
        _ => panic!("{call}: {refused:?}"),
    };
    let detail = refused.json();
    assert_eq!(detail["error"], slug, "{call}: {refused:?}");
    if let Some(argument) = detail["argument"].as_str() {
        assert!(refused.message.contains(argument), "{call}: {refused:?}");
    }
    assert!(
        refused.code.starts_with('2') || !refused.hint.is_empty(),
        "{call}: {refused:?}"
    );
    for trace in [
        "panicked",
        ".rs",
        "RUST_BACKTRACE",
        "unwrap",
        "Decimal",
        "serde",
        "line 1 column",
    ] {
        let shown = format!("{} {} {}", refused.message, refused.detail, refused.hint);
        assert!(!shown.contains(trace), "{call}: {refused:?}");
    }
    assert!(
        refused.message.len() < 2000 && refused.detail.len() < 2000,
        "a message of {} bytes: {call}",
        refused.message.len()
    );
}

/// A database with something to refer to; `$grant`, `$debit`, `$hold` are ann's, `$bob` is bob's.
fn prepared(name: &str) -> (Database, Client, [(&'static str, String); 4]) {
    let database = Database::new(name);
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.create_plan('pro', 50, '1 day', rollover => 5), credyt.subscribe('ann', 'pro')",
    );
    let grant = "SELECT id FROM credyt.grant_credits('$who', 100, paid => 10, payment => 'pi')";
    let ids = [
        ("$grant", value(&mut client, &grant.replace("$who", "ann"))),
        (
            "$debit",
            value(
                &mut client,
                "SELECT id FROM credyt.debit_credits('ann', 'image', 3)",
            ),
        ),
        (
            "$hold",
            value(
                &mut client,
                "SELECT id FROM credyt.authorize('ann', 'image', 5)",
            ),
        ),
        ("$bob", value(&mut client, &grant.replace("$who", "bob"))),
    ];
    (database, client, ids)
}

fn with_ids(sql: &str, ids: &[(&str, String)]) -> String {
    ids.iter()
        .fold(sql.to_owned(), |sql, (name, id)| sql.replace(name, id))
}

#[test]
fn every_argument_of_every_function() {
    let (database, mut client, ids) = prepared("arguments");
    rows(
        &mut client,
        "SELECT credyt.set_topup('ann', 145, 10); SELECT credyt.debit_credits('ann', 'image', 1)",
    );
    let event = "SELECT id FROM credyt.events_pending";
    let ids = [&ids[..], &[("$event", value(&mut client, event))]].concat();
    let mut refusals = 0;
    for function in functions(&mut client) {
        let call = |changed: Option<(&str, &str)>| {
            let argument = |Argument { name, good, .. }: &Argument| match changed {
                Some((this, bad)) if this == name => format!("\"{name}\" => {bad}"),
                _ => format!("\"{name}\" => {good}"),
            };
            let arguments: Vec<String> = function.arguments.iter().map(argument).collect();
            with_ids(
                &format!(
                    "SELECT * FROM credyt.{}({})",
                    function.name,
                    arguments.join(", ")
                ),
                &ids,
            )
        };
        rows(&mut client, &format!("BEGIN; {}; ROLLBACK", call(None)));
        for argument in &function.arguments {
            let name = argument.name.as_str();
            for bad in hostile(argument.kind) {
                let sql = call(Some((name, &bad)));
                rows(&mut client, "BEGIN");
                if let Err(refused) = attempt(&mut client, &sql) {
                    // Postgres' own parsing of a JSON text or a year.
                    if !["22P05", "22008"].contains(&refused.code.as_str()) {
                        check(&refused, &sql);
                        let detail = refused.json();
                        let about = detail["argument"].as_str().unwrap_or(name);
                        // A quantity may be fine by itself and cost too much.
                        let named = about == name
                            || about.starts_with(&format!("{name}["))
                            || (refused.code == "22003" && about == "credits")
                            || (["since", "until"].contains(&name) && about == "bucket")
                            || name == "effective_at";
                        assert!(named, "{sql}: {refused:?}");
                        refusals += 1;
                    }
                } else if bad == "NULL" {
                    let optional = [
                        "usage",
                        "cost",
                        "credits",
                        "customer",
                        "price_list",
                        "effective_at",
                        "expires_at",
                        "applies_to",
                        "idempotency_key",
                        "metadata",
                        "model",
                        "debit_id",
                        "vendor_request_id",
                        "since",
                        "reason",
                        "scopes",
                        "occurred_at",
                        "restore_until",
                        "overdraft_limit",
                        "at",
                        "quantity",
                        "dimensions",
                        "threshold",
                        "cap",
                        "max_credits",
                        "days",
                        "payment",
                    ];
                    assert!(
                        argument.good == "NULL" || optional.contains(&name),
                        "NULL taken: {sql}"
                    );
                }
                rows(&mut client, "ROLLBACK");
            }
        }
    }
    assert!(refusals > 400, "{refusals}");
    assert_eq!(database.broken_invariants(), [""; 0]);
}

/// docs/reference.md has a row for every function that people call, with its arguments as the catalog has them.
#[test]
fn the_reference_has_every_function() {
    let database = Database::new("reference");
    let mut client = database.connect();
    let page = include_str!("../docs/reference.md");
    let mut names: Vec<String> = functions(&mut client)
        .into_iter()
        .map(|function| function.name)
        .collect();
    names.extend(["allow", "disallow", "distribute"].map(str::to_owned));
    for name in names {
        let sql = format!(
            "SELECT pg_get_function_arguments(p.oid) FROM pg_proc p
             WHERE p.pronamespace = 'credyt'::regnamespace AND p.proname = '{name}' AND p.proargnames[1] IS DISTINCT FROM 'request'"
        );
        let arguments = value(&mut client, &sql)
            .replace("timestamp with time zone", "timestamptz")
            .replace("integer", "int")
            .replace('"', "");
        // A default of NULL is not shown, nor the type of one.
        let shown = arguments
            .split(", ")
            .map(|argument| match argument.split_once(" DEFAULT ") {
                None => argument.to_owned(),
                Some((argument, default)) => match default.split("::").next() {
                    None | Some("NULL") => argument.to_owned(),
                    Some(default) => format!("{argument} = {default}"),
                },
            });
        let shown = shown.collect::<Vec<_>>().join(", ");
        let row = match shown.as_str() {
            "" => format!("\n| `{name}` | | "),
            shown => format!("\n| `{name}` | `{shown}` | "),
        };
        assert!(
            page.contains(&row),
            "docs/reference.md has no row that begins with {row}"
        );
    }
}

/// What a statement answers in a transaction that is rolled back: its rows, or code and message; new ids left out.
fn outcome(client: &mut Client, sql: &str) -> Result<Vec<String>, (String, String)> {
    rows(client, "BEGIN");
    let answer = attempt(client, sql);
    rows(client, "ROLLBACK");
    let line = |row: &postgres::SimpleQueryRow| {
        let cell = |at| row.get(at).unwrap_or("NULL");
        without_ids(&(0..row.len()).map(cell).collect::<Vec<_>>().join(" "))
    };
    match answer {
        Ok(rows) => Ok(rows.iter().map(line).collect()),
        Err(refused) => Err((refused.code, without_ids(&refused.message))),
    }
}

fn without_ids(text: &str) -> String {
    let is_id =
        |word: &str| word.len() == 36 && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let words = text.split_inclusive(|c: char| !c.is_ascii_hexdigit() && c != '-');
    let blank = |word: &str| match word.get(..36) {
        Some(id) if is_id(id) => word.replacen(id, "<id>", 1),
        _ => word.to_owned(),
    };
    words.map(blank).collect()
}

/// Every function with a jsonb form answers both forms alike, whatever is passed.
#[test]
fn both_forms_are_one() {
    let (database, mut client, ids) = prepared("forms");
    rows(
        &mut client,
        "SELECT credyt.set_topup('ann', 145, 10); SELECT credyt.debit_credits('ann', 'image', 1)",
    );
    let now = value(&mut client, "SELECT now()");
    clock(&mut client, &now);
    let event = "SELECT id FROM credyt.events_pending";
    let ids = [&ids[..], &[("$event", value(&mut client, event))]].concat();
    let with_form = "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'credyt'::regnamespace AND proargnames[1] = 'request'";
    let with_form = values(&mut client, with_form);
    let (mut answers, mut refusals) = (0, 0);
    let mut functions = functions(&mut client);
    functions.retain(|function| with_form.contains(&function.name));
    assert_eq!(functions.len(), with_form.len());
    // Its first form is SQL, which finds nothing wrong with a customer that nobody can be.
    functions.retain(|function| function.name != "verify");
    for function in functions {
        let call = |changed: Option<(&str, &str)>, by_name: bool| {
            let argument = |Argument {
                                name, sql, good, ..
                            }: &Argument| {
                let given = match changed {
                    Some((this, bad)) if this == name => bad,
                    _ => good,
                };
                // The same moment in both calls.
                let given = given.replace("now()", &format!("'{now}'::timestamptz"));
                match by_name {
                    true => format!("'{name}', ({given})::{sql}"),
                    false => format!("\"{name}\" => {given}"),
                }
            };
            let arguments: Vec<String> = function.arguments.iter().map(argument).collect();
            let arguments = match by_name {
                true => format!("jsonb_build_object({})", arguments.join(", ")),
                false => arguments.join(", "),
            };
            with_ids(
                &format!("SELECT * FROM credyt.{}({arguments})", function.name),
                &ids,
            )
        };
        let good = outcome(&mut client, &call(None, false));
        assert!(good.is_ok(), "{}: {good:?}", function.name);
        assert_eq!(good, outcome(&mut client, &call(None, true)));
        for Argument { name, kind, .. } in &function.arguments {
            for bad in hostile(*kind) {
                // A null is left out; lists of lists and documents of any depth exist in SQL only.
                if ["NULL", "'null'"].contains(&bad.as_str())
                    || bad.contains("1000")
                    || bad.contains("[2, 2]")
                {
                    continue;
                }
                let by_position = outcome(&mut client, &call(Some((name, &bad)), false));
                // Postgres' own parsing of what is no value of the type.
                if matches!(&by_position, Err((code, _)) if ["22P05", "22008"].contains(&code.as_str()))
                {
                    continue;
                }
                let by_name = outcome(&mut client, &call(Some((name, &bad)), true));
                assert_eq!(by_position, by_name, "{} {name} {bad}", function.name);
                match by_name {
                    Ok(_) => answers += 1,
                    Err(_) => refusals += 1,
                }
            }
        }
    }
    assert!(answers > 300 && refusals > 300, "{answers} {refusals}");
    assert_eq!(database.broken_invariants(), [""; 0]);
}

/// An untyped literal or parameter is a text wherever a call with as many texts exists.
#[test]
fn untyped_literals_take_the_text_form() {
    let database = Database::new("untyped");
    let mut client = database.connect();
    let functions = "SELECT proname, pronargs - pronargdefaults, pronargs, proargtypes[0]::regtype FROM pg_proc p
                     WHERE pronamespace = 'credyt'::regnamespace AND proargnames[1] <> 'request'
                       AND EXISTS (SELECT FROM pg_proc j WHERE j.pronamespace = p.pronamespace AND j.proname = p.proname AND j.proargnames[1] = 'request')";
    let functions = values(&mut client, functions);
    assert!(functions.len() > 20, "{functions:?}");
    for line in functions {
        let words: Vec<&str> = line.split(' ').collect();
        let (name, required, all): (_, usize, usize) = (
            words[0],
            words[1].parse().unwrap(),
            words[2].parse().unwrap(),
        );
        assert_eq!(words[3], "text", "{line}");
        for count in (1..=all).filter(|count| *count == 1 || *count >= required) {
            let unknowns: Vec<String> = (1..=count).map(|nth| format!("${nth}")).collect();
            let call = format!("credyt.{name}({})", unknowns.join(", "));
            rows(&mut client, &format!("PREPARE p AS SELECT * FROM {call}"));
            let types = "SELECT parameter_types[1] FROM pg_prepared_statements WHERE name = 'p'";
            // With too few arguments for the text form one argument can only be a request.
            let expected = if count < required { "jsonb" } else { "text" };
            assert_eq!(value(&mut client, types), expected, "{call}");
            rows(&mut client, "DEALLOCATE p");
        }
    }
    rows(&mut client, "SELECT credyt.grant_credits('ann', 10)");
    for call in [
        "balance('ann')",
        "balance(customer => 'ann')",
        "ledger_hash('ann')",
        "verify('ann')",
        "open_wallet('ann')",
        "freeze_wallet('ann')",
        "unfreeze_wallet('ann')",
        "grant_credits('ann', '5')",
        "debit_credits('ann', 'image')",
        "debit_credits('{\"customer\": \"ann\", \"action\": \"image\"}')",
        "balance(request => '{\"customer\": \"ann\"}')",
        "close_wallet('ann')",
    ] {
        rows(&mut client, &format!("SELECT * FROM credyt.{call}"));
    }
    let refused = refusal(
        &mut client,
        "SELECT credyt.balance('{\"customer\": \"ann\"}')",
    );
    assert_eq!(refused.code, "22023");
    assert!(refused.hint.contains("::jsonb"), "{refused:?}");
}

#[test]
fn names_are_only_names() {
    let database = Database::new("names");
    let mut client = database.connect();
    for name in [
        "o'brien",
        "\"quoted\"",
        "back\\slash",
        "new\nline",
        "tab\t",
        "$1",
        "%s%n",
        "a{}",
        "null",
        "'; DROP SCHEMA credyt CASCADE; --",
        "Ünïcödé",
        "日本語",
        "\u{202e}rtl",
        "e\u{301}",
        "😀",
        " ",
        "*",
        "a*",
        &"é".repeat(127),
    ] {
        let who = quoted(name);
        rows(
            &mut client,
            &format!(
                "SELECT credyt.create_asset({who});
                 SELECT credyt.set_price({who}, '2', asset => {who}, customer => {who});
                 SELECT credyt.grant_credits({who}, 10, asset => {who}, idempotency_key => {who}, applies_to => NULL,
                                             metadata => jsonb_build_object({who}, {who}));
                 SELECT credyt.debit_credits({who}, {who}, asset => {who}, scopes => ARRAY[{who}], idempotency_key => {who} || '2',
                                             dimensions => jsonb_build_object({who}, {who}));
                 SELECT credyt.release({who}, h.id, {who}) FROM credyt.authorize({who}, {who}, asset => {who}) h"
            ),
        );
        let balance = format!("SELECT available FROM credyt.balance({who}, {who})");
        assert_eq!(value(&mut client, &balance), "8", "{name}");
        let short = refusal(
            &mut client,
            &format!("SELECT credyt.debit_credits({who}, {who}, 5, asset => {who})"),
        );
        assert_eq!(short.json()["customer"], name);
        rows(&mut client, short.remedy());
        assert_eq!(value(&mut client, &balance), "10", "{name}");
        let exists =
            format!("SELECT count(*) FROM credyt.ledger WHERE customer = {who} AND asset = {who}");
        assert_eq!(value(&mut client, &exists), "3");
    }
}

#[test]
fn a_text_that_looks_like_an_escape_is_kept() {
    let database = Database::new("escapes");
    let mut client = database.connect();
    // Six characters, not a NUL.
    let metadata = r#"'{"a": "\\u0000", "\\u0000": 1}'"#;
    rows(
        &mut client,
        &format!("SELECT credyt.grant_credits('ann', 1, metadata => {metadata})"),
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT metadata = '{\"a\": \"\\\\u0000\", \"\\\\u0000\": 1}' FROM credyt.grants"
        ),
        "t"
    );
    let price = r#"SELECT credyt.set_price('odd', '{"match": [{"when": {"\\u0000": "\\u0000"}, "price": 3}, {"price": 1}]}')"#;
    rows(&mut client, price);
    let quote =
        r#"SELECT credits FROM credyt.quote('odd', dimensions => '{"\\u0000": "\\u0000"}')"#;
    assert_eq!(value(&mut client, quote), "3");
}

#[test]
fn metadata_comes_back_as_it_was() {
    let database = Database::new("metadata");
    let mut client = database.connect();
    for json in [
        r#"{"a": 1.10, "b": 1e2, "c": 0.1234567890123456789012345678901234567890}"#,
        r#"[1, "x", null, true, {"deep": [[[[]]]]}]"#,
        r#""text""#,
        "123456789012345678901234567890123456789012345678901234567890",
        "null",
    ] {
        let grant = format!(
            "SELECT id FROM credyt.grant_credits('ann', 1, metadata => {})",
            quoted(json)
        );
        let id = value(&mut client, &grant);
        let kept = format!(
            "SELECT metadata::text = {}::jsonb::text FROM credyt.grants WHERE id = '{id}'",
            quoted(json)
        );
        assert_eq!(value(&mut client, &kept), "t", "{json}");
    }
}

#[test]
fn times_at_the_ends() {
    let (_database, mut client, _) = prepared("times");
    clock(&mut client, "9999-12-30 00:00Z");
    rows(
        &mut client,
        "SELECT credyt.grant_credits('cy', 5, expires_at => '9999-12-30 22:00Z')",
    );
    assert_eq!(
        value(&mut client, "SELECT settled FROM credyt.balance('cy')"),
        "5"
    );
    let hold = refusal(
        &mut client,
        "SELECT credyt.authorize('cy', 'image', ttl_seconds => 2147483647)",
    );
    assert_eq!(
        (hold.code.as_str(), &hold.json()["argument"]),
        ("22003", &"ttl_seconds".into())
    );
}

#[test]
fn a_wallet_s_text_is_read_with_suspicion() {
    let (_database, mut client, _) = prepared("wallet_text");
    let good = value(
        &mut client,
        "SELECT state::text FROM credyt.wallets WHERE customer = 'ann'",
    );
    let read = |client: &mut Client, text: &str| {
        attempt(client, &format!("SELECT {}::credyt.wallet", quoted(text)))
    };
    assert!(read(&mut client, &good).is_ok());
    for cut in 0..good.len() {
        assert_eq!(
            read(&mut client, &good[..cut]).unwrap_err().code,
            "22P02",
            "cut at {cut}"
        );
    }
    rows(
        &mut client,
        "SELECT credyt.set_limit('ann', 'user:*', 50), credyt.set_topup('ann', 145, 10), credyt.set_alert('ann', 7);
         SELECT credyt.debit_credits('ann', 'image', 1, scopes => '{user:a}')",
    );
    let watched = value(
        &mut client,
        "SELECT state::text FROM credyt.wallets WHERE customer = 'ann'",
    );
    assert!(read(&mut client, &watched).is_ok());
    for (what, with) in [
        ("\"limits\":[{", "\"limits\":[[],{"),
        ("\"limits\":[{", "\"limits\":[{\"more\":1,"),
        ("\"user:*\"", "\"team:*\""),
        ("\"month\"", "\"decade\""),
        ("\"month\"", "\"ever\""),
        ("\"counts\":\"credits\"", "\"counts\":\"tokens\""),
        ("\"warn_at\":\"0.8\"", "\"warn_at\":\"1.1\""),
        ("\"uses\":[{", "\"uses\":[[],{"),
        ("\"cap\":\"50\"", "\"cap\":\"-50\""),
        ("\"used\":\"1\"", "\"used\":\"-1\""),
        ("\"since\":\"", "\"since\":\"x"),
        ("\"threshold\":\"7\"", "\"threshold\":\"-7\""),
        ("\"unit\":\"credits\"", "\"unit\":\"tokens\""),
        ("\"alerts\":[{", "\"alerts\":[[],{"),
        ("\"refilled\":\"", "\"refilled\":\"-"),
        ("\"asked\":{", "\"asked\":[],\"other\":{"),
        ("\"capped\":false", "\"capped\":0"),
        ("\"until\":\"", "\"until\":\"x"),
        ("\"cooldown_seconds\":3600", "\"cooldown_seconds\":-1"),
        ("\"credits\":\"10\"", "\"to_balance\":\"145\""),
        ("\"topup\":{", "\"topup\":[],\"other\":{"),
        ("\"enabled\":true", "\"enabled\":1"),
        ("\"threshold\":\"145\"", "\"threshold\":\"NaN\""),
        ("\"in_flight\":\"", "\"in_flight\":\"x"),
        ("\"events\":1", "\"events\":-1"),
    ] {
        let bad = watched.replacen(what, with, 1);
        assert_ne!(bad, watched, "{what} in {watched}");
        let refused = read(&mut client, &bad).map(|_| ()).unwrap_err();
        assert_eq!(refused.code, "22P02", "{with}: {refused:?}");
    }
    let held = "\"held\":\"5\"";
    assert!(good.contains(held), "{good}");
    for (what, with) in [
        (held, "\"held\":\"-5\""),
        (held, "\"held\":\"98\""),
        (held, "\"held\":5"),
        (held, "\"held\":\"NaN\""),
        (held, "\"held\":\"1e3\""),
        (
            held,
            "\"held\":\"99999999999999999999999999999999999999999999\"",
        ),
        (held, "\"held\":\"0.00000000001\""),
        (held, "\"more\":1,\"held\":\"5\""),
        ("\"version\":1", "\"version\":2"),
        ("\"version\":1", "\"version\":-1"),
        ("\"version\":1", "\"version\":1e999"),
        ("\"seq\":", "\"seq\":-"),
        ("\"seq\":", "\"seq\":99999999999999999999"),
        ("\"owed\":\"0\"", "\"owed\":\"-1\""),
        ("\"purchased\"", "\"stolen\""),
        ("\"changed_at\":\"2", "\"changed_at\":\"x2"),
        ("\"changed_at\":\"2", "\"changed_at\":\"+99999"),
        ("\"applies_to\":null", "\"applies_to\":[null]"),
        ("\"expires_at\":null", "\"expires_at\":\"infinity\""),
    ] {
        let bad = good.replacen(what, with, 1);
        assert_ne!(bad, good, "{what}");
        let refused = read(&mut client, &bad).map(|_| ()).unwrap_err();
        assert_eq!(refused.code, "22P02", "{with}: {refused:?}");
        assert!(refused.message.contains("credyt.wallet"), "{refused:?}");
    }
    for text in [
        "",
        "null",
        "[]",
        "{}",
        "\u{1}",
        &"[".repeat(100_000),
        &"x".repeat(1 << 20),
    ] {
        assert_eq!(
            read(&mut client, text).map(|_| ()).unwrap_err().code,
            "22P02"
        );
    }
}

#[test]
fn the_helpers_of_the_views_take_anything() {
    let (_database, mut client, _) = prepared("helpers");
    let state = "(SELECT state FROM credyt.wallets WHERE customer = 'ann')";
    for at in [
        "NULL",
        "'infinity'",
        "'-infinity'",
        "'100000-01-01Z'",
        "'4714-11-24 00:00:00+00 BC'",
        "now()",
    ] {
        for call in [
            "settled($s, $t)",
            "next_expiry($s, $t)",
            "available($s, 0, $t)",
            "wallet_state_at('ann', 'credits', $s, $t)",
            "pending_movements('ann', 'credits', $s, $t)",
            "pending_grants('ann', 'credits', $s, $t)",
            "subscription_at('ann', (SELECT id FROM credyt.booked_subscriptions), $t)",
            "subscription_at('bob', gen_random_uuid(), $t)",
            "alert_rules($s, $t)",
            "topup_rules($s, $t)",
        ] {
            let call = call.replace("$s", state).replace("$t", at);
            if let Err(refused) = attempt(&mut client, &format!("SELECT credyt.{call}")) {
                check(&refused, &call);
            }
        }
    }
    for limit in ["NULL", "'NaN'", "'Infinity'", "-1", "1e30", "0.00000000001"] {
        if let Err(refused) = attempt(
            &mut client,
            &format!("SELECT credyt.available({state}, {limit}, now())"),
        ) {
            check(&refused, limit);
        }
    }
    for call in [
        format!("limits({state})"),
        format!("limit_counts({state})"),
        "limit_period('month', 'UTC', 'infinity')".to_owned(),
        "limit_period('month', 'UTC', '4714-11-24 00:00:00+00 BC')".to_owned(),
        "limit_period('hour', 'Europe/Berlin', '9999-12-31 23:59:59Z')".to_owned(),
        "limit_period('', '', now())".to_owned(),
        "limit_period('day', E'\\n', now())".to_owned(),
        "matches_action('action:*', '')".to_owned(),
        "matches_action('', repeat('x', 1048576))".to_owned(),
    ] {
        if let Err(refused) = attempt(&mut client, &format!("SELECT credyt.{call}")) {
            check(&refused, &call);
        }
    }
}
