//! A timeout, a cancel and the end of a session stop every call soon, whatever it was asked.
//!
//! CREDYT_SLACK says how many milliseconds of its own a call may take beyond its timeout. Without it there is room for
//! what Postgres itself does without a check; the worst are printed. CREDYT_TIMEOUT is the timeout in milliseconds (200).

mod support;

use std::time::{Duration, Instant};

use postgres::Client;
use support::sql::{Database, Refusal, attempt, clock, quoted, rows, value, values};

fn milliseconds(variable: &str, default: u64) -> Duration {
    let given = std::env::var(variable).ok();
    Duration::from_millis(given.and_then(|n| n.parse().ok()).unwrap_or(default))
}

fn timeout() -> Duration {
    milliseconds("CREDYT_TIMEOUT", 200)
}

fn slack() -> Duration {
    milliseconds("CREDYT_SLACK", 2000)
}

/// Documents that are long to work through, in a table, so that sending them takes no time.
const DOCUMENTS: &[(&str, &str)] = &[
    (
        "lines",
        "SELECT jsonb_agg(jsonb_build_object('vendor', 'v' || i, 'model', 'm', 'kind', 'included', 'credits', '1', 'revenue', '1', 'cost', '1'))
         FROM generate_series(1, 100000) i",
    ),
    (
        "parts",
        "SELECT jsonb_agg(jsonb_build_object('grant', NULL, 'kind', 'included', 'credits', '1', 'revenue', '1')) FROM generate_series(1, 1000) i",
    ),
    (
        "models",
        "SELECT jsonb_agg(jsonb_build_object('vendor', 'v' || i, 'model', 'm' || i, 'cost', '1')) FROM generate_series(1, 1000) i",
    ),
    (
        "debits",
        "SELECT jsonb_agg(jsonb_build_object('customer', 'many', 'action', 'a', 'credits', 0)) FROM generate_series(1, 20000)",
    ),
    (
        "grants",
        "SELECT jsonb_agg(jsonb_build_object('customer', 'c' || i, 'credits', 1)) FROM generate_series(1, 100000) i",
    ),
    (
        "usage",
        "SELECT jsonb_agg(jsonb_build_object('vendor', 'v' || i, 'model', 'm', 'body', jsonb_build_object('n', i))) FROM generate_series(1, 50000) i",
    ),
    (
        "counts",
        "SELECT jsonb_object_agg('unit' || i, i) FROM generate_series(1, 200000) i",
    ),
    ("text", "SELECT to_jsonb(repeat('x', 16000000))"),
    (
        "numbers",
        "SELECT ('[' || string_agg('1e100000', ',') || ']')::jsonb FROM generate_series(1, 160)",
    ),
    (
        "digits",
        "SELECT ('[' || string_agg('1e131071', ',') || ']')::jsonb FROM generate_series(1, 8000)",
    ),
    (
        "ones",
        "SELECT jsonb_agg(1) FROM generate_series(1, 5000000)",
    ),
    (
        "deep",
        "SELECT (repeat('[', 3000) || repeat(']', 3000))::jsonb",
    ),
    (
        "tiers",
        "SELECT jsonb_build_object('match', jsonb_agg(jsonb_build_object('when', jsonb_build_object('n', i), 'price',
             jsonb_build_object('graduated', (SELECT jsonb_agg(jsonb_build_object('up_to', t, 'per_unit', '0.1')) || '{\"per_unit\": 1}'
                                              FROM generate_series(1, 200) t)))))
         FROM generate_series(1, 1000) i",
    ),
    (
        "meters",
        "SELECT jsonb_build_object('meters', jsonb_object_agg('m' || i, jsonb_build_object('per', 1000000007 + 2 * i, 'credits', '0.1')))
         FROM generate_series(1, 1000) i",
    ),
    (
        "genai",
        "SELECT jsonb_agg(jsonb_build_object('id', 'p' || p, 'models', (
             SELECT jsonb_agg(jsonb_build_object('id', 'm' || i, 'match', jsonb_build_object('regex', '^(a|b|c){1,' || i || '}(?!x)\\w{20}$'),
                                                 'prices', jsonb_build_object('input_mtok', 1))) FROM generate_series(1, 300) i)))
         FROM generate_series(1, 10) p",
    ),
    (
        "litellm",
        "SELECT jsonb_object_agg('model' || i, jsonb_build_object('litellm_provider', 'v', 'input_cost_per_token', 0.0001))
         FROM generate_series(1, 100000) i",
    ),
];

fn document(name: &str) -> String {
    format!("(SELECT d.document FROM hostile d WHERE d.name = '{name}')")
}

/// Values for an argument of this type, the longest to work through that it can have.
fn hostile(kind: &str) -> Vec<String> {
    match kind {
        "jsonb" => ["usage", "counts", "numbers", "digits", "ones", "deep"]
            .map(document)
            .into(),
        "timestamp with time zone" => ["9999-12-31Z", "2045-01-01Z"].map(quoted).into(),
        "text" => vec!["repeat('x', 16000000)".to_owned()],
        "text[]" => vec!["array_fill('x'::text, '{1000000}')".to_owned()],
        "uuid[]" => {
            vec!["(SELECT array_agg(gen_random_uuid()) FROM generate_series(1, 200000))".to_owned()]
        }
        "integer" => vec!["2147483647".to_owned()],
        "numeric" => vec!["1e131071".to_owned()],
        "credyt.wallet" => vec![
            "(SELECT state FROM credyt.wallets WHERE customer = 'many')".to_owned(),
            "(SELECT state FROM credyt.wallets WHERE customer = 'sleeper')".to_owned(),
        ],
        _ => Vec::new(),
    }
}

/// A value for the other arguments, by their names; those that are not here keep their default, or are NULL.
fn plausible(name: &str) -> Option<&'static str> {
    Some(match name {
        "customer" => "'sleeper'",
        "to_customer" => "'other'",
        "asset" => "'credits'",
        "action" => "'a'",
        "plan" => "'p1'",
        "vendor" => "'v1'",
        "model" => "'m1'",
        "currency" | "to_currency" => "'EUR'",
        "kind" => "'debit'",
        "credits" | "quantity" | "threshold" | "target_margin" | "cap" | "rate" => "0.5",
        "at" | "since" | "through" => "'2026-11-01Z'",
        "state" | "wallet" => "(SELECT state FROM credyt.wallets WHERE customer = 'sleeper')",
        "subscription_id" => {
            "(SELECT id FROM credyt.subscriptions WHERE customer = 'sleeper' LIMIT 1)"
        }
        "allocations" | "costs" => "'[]'",
        "usage" | "body" | "dimensions" => "'{}'",
        "price" | "rates" => "'1'",
        "debits" | "scale" => "1",
        "rounding" => "'up'",
        "scope" => "'user:*'",
        "every" => "'1 month'",
        "timezone" => "'UTC'",
        "by" => "'{action}'",
        _ => return None,
    })
}

/// Calls of all functions, each with one hostile argument, or with the one it must not survive.
fn calls(client: &mut Client) -> Vec<String> {
    let arguments = values(
        client,
        "SELECT p.proname, p.oid::text, a.name, format_type(a.type, NULL), a.nth > p.pronargs - p.pronargdefaults
         FROM pg_proc p
         CROSS JOIN LATERAL ROWS FROM (unnest(p.proargnames[1:p.pronargs]), unnest(p.proargtypes::oid[])) WITH ORDINALITY AS a (name, type, nth)
         WHERE p.pronamespace = 'credyt'::regnamespace AND p.prokind = 'f' AND a.name NOT IN ('', 'request')
         ORDER BY p.oid, a.nth",
    );
    /// Name and id of a function, and its arguments: name, type, and whether it has a default.
    type Function = (String, String, Vec<(String, String, bool)>);
    let mut functions: Vec<Function> = Vec::new();
    for line in &arguments {
        let mut parts = line.splitn(4, ' ');
        let (Some(function), Some(oid), Some(name), Some(rest)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            panic!("{line}");
        };
        let (kind, optional) = rest.rsplit_once(' ').expect("a type");
        if functions.last().is_none_or(|(_, known, _)| known != oid) {
            functions.push((function.to_owned(), oid.to_owned(), Vec::new()));
        }
        if let Some((_, _, list)) = functions.last_mut() {
            list.push((name.to_owned(), kind.to_owned(), optional == "t"));
        }
    }
    assert!(functions.len() > 60, "{} functions", functions.len());
    let mut calls = Vec::new();
    for (function, _, list) in &functions {
        for (hostile_at, (_, kind, _)) in list.iter().enumerate() {
            for value in hostile(kind) {
                let arguments =
                    list.iter()
                        .enumerate()
                        .filter_map(|(at, (name, kind, optional))| {
                            if at == hostile_at {
                                return Some(format!("{name} => {value}::{kind}"));
                            }
                            match (plausible(name), optional) {
                                (Some(given), _) => Some(format!("\"{name}\" => {given}::{kind}")),
                                (None, true) => None,
                                (None, false) => Some(format!("\"{name}\" => NULL::{kind}")),
                            }
                        });
                let arguments: Vec<String> = arguments
                    .map(|argument| match argument.strip_prefix('"') {
                        Some(_) => argument,
                        None => format!("\"{}", argument.replacen(" =>", "\" =>", 1)),
                    })
                    .collect();
                calls.push(format!(
                    "SELECT count(*) FROM credyt.{function}({})",
                    arguments.join(", ")
                ));
            }
        }
    }
    calls
}

/// A customer with 990 grants for patterns, and one with a number of daily plans whose renewals were not booked for ten years.
fn fill(client: &mut Client, plans: usize) {
    rows(
        client,
        "CREATE TABLE hostile (name text PRIMARY KEY, document jsonb)",
    );
    rows(
        client,
        "ALTER TABLE hostile ALTER document SET STORAGE EXTERNAL",
    );
    for (name, sql) in DOCUMENTS {
        rows(
            client,
            &format!("INSERT INTO hostile VALUES ('{name}', ({sql}))"),
        );
    }
    rows(
        client,
        "INSERT INTO hostile
         SELECT 'with ' || name, jsonb_build_object('customer', 'many', 'action', 'a', 'credits', 0, 'metadata', document) FROM hostile",
    );
    clock(client, "2025-06-01Z");
    rows(
        client,
        &format!(
            "SELECT count(credyt.grant_credits('many', 5, paid => 1, applies_to => ARRAY(SELECT 'a' || n || '.' || k || '.*' FROM generate_series(1, 3) k)))
                 FROM generate_series(1, 990) n;
             SELECT count(credyt.create_plan('p' || n, 10, '1 day', paid => 1, rollover => 5)),
                    count(credyt.subscribe('sleeper', 'p' || n)) FROM generate_series(1, {plans}) n"
        ),
    );
    clock(client, "2035-05-30Z");
}

/// The time that a process has had a processor; `None` where Linux does not say.
fn processor_time(pid: &str) -> Option<Duration> {
    let schedstat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let nanoseconds = schedstat.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// Runs it under a timeout: by how much it went over, and what came of it. On a machine that does much else the
/// server's process waits for a processor: that share of the time is not its own.
fn overrun(
    client: &mut Client,
    pid: &str,
    timeout: Duration,
    sql: &str,
) -> (Duration, Result<(), Refusal>) {
    let limit = format!("SET statement_timeout = {}", timeout.as_millis());
    rows(client, &limit);
    rows(client, "BEGIN");
    let (began, before) = (Instant::now(), processor_time(pid));
    let answer = attempt(client, sql).map(drop);
    let took = began.elapsed();
    let worked = processor_time(pid)
        .zip(before)
        .map_or(took, |(after, before)| after - before);
    let share = (worked.as_secs_f64() / took.as_secs_f64()).min(1.0);
    let over = took.saturating_sub(timeout).mul_f64(share);
    rows(client, "ROLLBACK");
    (over, answer)
}

#[test]
fn a_timeout_ends_every_call() {
    let database = Database::new("interrupts");
    let mut client = database.connect();
    fill(&mut client, 100);
    let mut calls = calls(&mut client);
    let views = values(
        &mut client,
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'credyt'::regnamespace AND c.relkind = 'v' ORDER BY 1",
    );
    for view in views {
        calls.push(format!(
            "SELECT count(*) FROM (SELECT * FROM credyt.{view} OFFSET 0) v"
        ));
        calls.push(format!("SELECT count(v::text) FROM credyt.{view} v"));
    }
    for (function, documents) in [
        ("posting_lines", "lines, 1"),
        ("split_lines", "'debit', parts, models, 1"),
        ("debit_many", "debits"),
        ("capture_many", "debits"),
        ("grant_many", "grants"),
        ("import_vendor_rates", "genai"),
        ("import_vendor_rates", "litellm, 'litellm'"),
        ("quote", "'metered', dimensions => counts"),
    ] {
        let arguments = documents.split(", ").map(|one| {
            let (name, value) = one.split_once(" => ").unwrap_or(("", one));
            let value = match DOCUMENTS.iter().any(|(known, _)| *known == value) {
                true => document(value),
                false => value.to_owned(),
            };
            match name {
                "" => value,
                name => format!("{name} => {value}"),
            }
        });
        let arguments: Vec<String> = arguments.collect();
        calls.push(format!(
            "SELECT count(*) FROM credyt.{function}({})",
            arguments.join(", ")
        ));
    }
    for (name, _) in DOCUMENTS {
        let request = document(&format!("with {name}"));
        calls.push(format!(
            "SELECT count(*) FROM credyt.debit_credits({request})"
        ));
    }
    rows(
        &mut client,
        &format!("SELECT credyt.set_price('metered', {})", document("meters")),
    );
    let (mut worst, mut ended) = (Vec::new(), 0);
    println!("{} calls", calls.len());
    let pid = value(&mut client, "SELECT pg_backend_pid()");
    for sql in &calls {
        let (over, answer) = overrun(&mut client, &pid, timeout(), sql);
        match answer {
            Ok(()) => {}
            Err(refusal) if refusal.code == "57014" => ended += 1,
            Err(refusal) => assert!(!refusal.code.starts_with("XX"), "{sql}: {refusal:?}"),
        }
        worst.push((over, sql.as_str()));
    }
    worst.sort();
    println!(
        "{} calls, {ended} of them ended by the timeout; the worst overruns:",
        calls.len()
    );
    for (over, sql) in worst.iter().rev().take(8) {
        println!("{:>6} ms {sql}", over.as_millis());
    }
    let too_late: Vec<_> = worst.iter().filter(|(over, _)| *over > slack()).collect();
    // The session goes on, and nothing is half done.
    rows(&mut client, "RESET statement_timeout");
    assert_eq!(
        value(&mut client, "SELECT credits FROM credyt.quote('image')"),
        "1"
    );
    assert!(too_late.is_empty(), "{too_late:#?}");
    assert!(ended > 20, "only {ended} calls were long enough");
}

/// Ten years of a hundred plans are worked through in stages, of which each has to end.
#[test]
fn a_timeout_ends_a_long_renewal_whenever_it_comes() {
    let database = Database::new("interrupts_stages");
    let mut client = database.connect();
    fill(&mut client, 100);
    let pid = value(&mut client, "SELECT pg_backend_pid()");
    for sql in [
        "SELECT count(*) FROM (SELECT * FROM credyt.movements OFFSET 0) v",
        "SELECT credyt.debit_credits('sleeper', 'image')",
    ] {
        for stage in 1..12 {
            let timeout = Duration::from_millis(stage * 250);
            let (over, answer) = overrun(&mut client, &pid, timeout, sql);
            println!("{timeout:?}: {} ms {sql}", over.as_millis());
            assert!(over < slack(), "{sql} after {timeout:?}: {over:?}");
            // A fast machine is through with reading.
            assert!(answer.is_ok() || answer.is_err_and(|refusal| refusal.code == "57014"));
        }
    }
}

#[test]
fn a_cancel_and_a_termination_end_a_renewal_of_many_periods() {
    let database = Database::new("interrupts_cancel");
    let mut client = database.connect();
    fill(&mut client, 100);
    for stop in ["pg_cancel_backend", "pg_terminate_backend"] {
        let mut worker = database.connect();
        let pid = value(&mut worker, "SELECT pg_backend_pid()");
        std::thread::scope(|scope| {
            let work = scope.spawn(move || {
                worker.simple_query("SELECT credyt.debit_credits('sleeper', 'image')")
            });
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(value(&mut client, &format!("SELECT {stop}({pid})")), "t");
            let began = Instant::now();
            assert!(work.join().expect("an answer").is_err());
            let over = began.elapsed();
            println!("{stop}: {} ms", over.as_millis());
            assert!(over < slack(), "{stop}: {over:?}");
        });
    }
    assert_eq!(
        value(
            &mut client,
            "SELECT count(*) FROM credyt.ledger WHERE kind = 'debit'"
        ),
        "0"
    );
}
