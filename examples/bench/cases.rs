//! The cases that take turns, and the wallets they spend from.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use postgres::{Client, Statement};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::Options;
use crate::common::{Result, said, thousands};

/// What `--only` knows.
pub const NAMES: [&str; 21] = [
    "insert",
    "floor",
    "floor_row",
    "debit",
    "debit_nokey",
    "debit_tokens",
    "debit_usage",
    "debit_1",
    "debit_30",
    "debit_100",
    "debit_holds",
    "debit_plan",
    "debit_limits",
    "hold",
    "hold_by_hand",
    "debit_each",
    "debit_many",
    "grant_each",
    "grant_many",
    "plpgsql",
    "plpgsql_30",
];

pub const FLOOR: &str = "
    WITH paid AS (
        UPDATE bench.balances SET balance = balance - 1 WHERE customer = $1 AND balance >= 1 RETURNING balance)
    INSERT INTO bench.movements (id, customer, action, credits, idempotency_key)
    SELECT $2, $1, 'image.generate', -1, $3 FROM paid
    RETURNING id, (SELECT balance FROM paid)";
pub const DEBIT: &str =
    "SELECT * FROM credyt.debit_credits($1, 'image.generate', idempotency_key => $2)";
const DEBIT_NO_KEY: &str = "SELECT * FROM credyt.debit_credits($1, 'image.generate')";
const DEBIT_TOKENS: &str = "
    SELECT * FROM credyt.debit_credits($1, 'chat.reply', dimensions => $3, cost => '0.00061', idempotency_key => $2)";
const DEBIT_USAGE: &str =
    "SELECT * FROM credyt.debit_credits($1, 'agent.turn', usage => $3, idempotency_key => $2)";
/// A vendor's rates in the format of genai-prices; the names and numbers are made up.
const RATES: &str = r#"[{"id": "vendor", "name": "Vendor", "api_pattern": "vendor",
    "extractors": [{"api_flavor": "default", "root": "usage", "model_path": "model", "mappings": [
        {"path": "prompt_tokens", "dest": "input_tokens", "required": true},
        {"path": ["prompt_tokens_details", "cached_tokens"], "dest": "cache_read_tokens", "required": false},
        {"path": "completion_tokens", "dest": "output_tokens", "required": true}]}],
    "models": [{"id": "large", "match": {"starts_with": "large"},
                "prices": {"input_mtok": 2.5, "cache_read_mtok": 1.25, "output_mtok": 10}}]}]"#;
const DEBIT_SCOPED: &str = "
    SELECT * FROM credyt.debit_credits($1, 'image.generate', scopes => '{user:alice}', idempotency_key => $2)";
/// A plan, a top-up rule and an alert, none of which has anything to do while the benchmark runs.
const RULES: &str = "
    SELECT credyt.subscribe($1, 'pro'), credyt.set_topup($1, 50, 1000), credyt.set_alert($1, 100)";
const LIMITS: &str = "
    SELECT credyt.set_limit($1, 'user:*', 100000000000000), credyt.set_limit($1, 'action:image.*', 100000000000000, 'day')";
const DEBIT_MANY: &str = "SELECT * FROM credyt.debit_many($1::text::jsonb)";
const GRANT: &str =
    "SELECT * FROM credyt.grant_credits($1, 100, paid => 10, idempotency_key => $2)";
const GRANT_MANY: &str = "SELECT * FROM credyt.grant_many($1::text::jsonb)";
pub const AUTHORIZE: &str =
    "SELECT * FROM credyt.authorize($1, 'image.generate', quantity => 4, idempotency_key => $2)";
pub const CAPTURE: &str = "SELECT * FROM credyt.capture($1, $2, quantity => 3)";
pub const BY_HAND: &str = "SELECT * FROM bench.debit($1, 'image.generate', 1, $2)";
pub const RESERVE: &str = "SELECT bench.reserve($1, 'image.generate', 4, $2) AS id";
pub const SETTLE: &str = "SELECT bench.settle($1, $2, 3)";

/// The cases that `--other` has, too; the rest of its run is left to this library.
const OTHERS: [&str; 6] = [
    "floor",
    "debit",
    "debit_30",
    "hold",
    "debit_each",
    "debit_many",
];

/// More wallets than those that are spent from.
pub const BYSTANDERS: i32 = 1000;

/// Elements of a batch, and the wallets they are spread over.
const BATCH: u32 = 5000;
pub const BATCH_WALLETS: u32 = 2000;

type Step = Box<dyn FnMut(&mut Client) -> std::result::Result<(), postgres::Error>>;

pub struct Case {
    /// Whose: 0 the library of this checkout, 1 the other.
    side: usize,
    name: &'static str,
    what: &'static str,
    step: Step,
    /// Debits, or the like, of a step.
    size: u32,
    /// Of them a second, round by round.
    rates: Vec<f64>,
    /// Microseconds of processor time that the backend took for each, round by round.
    work: Vec<f64>,
}

/// Idempotency keys as applications make them: random UUIDs.
pub struct Keys(StdRng);

impl Keys {
    pub fn new(seed: u64) -> Keys {
        Keys(StdRng::seed_from_u64(seed))
    }

    pub fn next(&mut self) -> String {
        Uuid::from_u128(self.0.random()).to_string()
    }
}

/// Tables, prices, wallets, and the cases that are wanted on one of the two sides.
pub fn set_up(client: &mut Client, side: usize, options: &Options) -> Result<Vec<Case>> {
    client
        .batch_execute(
            r#"SELECT credyt.create_asset('credits');
               SELECT credyt.set_price('image.generate', '1');
               SELECT credyt.set_price('chat.reply', '{"meters": {"input_tokens": {"per": 1000, "credits": "0.1"},
                                                                  "output_tokens": {"per": 1000, "credits": "0.4"}}}');
               SELECT credyt.create_plan('pro', 10000000, paid => 100000);
               SELECT credyt.set_price('agent.turn', '{"cost_plus": {"markup": "0.40", "credit_value": "0.01"}}');"#,
        )
        .map_err(said("the price"))?;
    let rates: serde_json::Value = serde_json::from_str(RATES)?;
    client
        .query("SELECT * FROM credyt.import_vendor_rates($1)", &[&rates])
        .map_err(said("import_vendor_rates"))?;
    let bystanders = "
        SELECT count(*) FROM generate_series(1, $1) n, LATERAL credyt.grant_credits('bystander ' || n, 1000, paid => 10)";
    client
        .execute(bystanders, &[&BYSTANDERS])
        .map_err(said(bystanders))?;
    let debits = "
        SELECT count(*) FROM generate_series(1, 10 * $1) n,
             LATERAL credyt.debit_credits('bystander ' || 1 + n % $1, 'image.generate', idempotency_key => n::text)";
    client
        .execute(debits, &[&BYSTANDERS])
        .map_err(said(debits))?;
    client
        .batch_execute(include_str!("floor.sql"))
        .map_err(said("floor.sql"))?;
    client
        .batch_execute(include_str!("plpgsql.sql"))
        .map_err(said("plpgsql.sql"))?;
    for (customer, grants) in [
        ("debit", 3),
        ("debit_nokey", 3),
        ("debit_tokens", 3),
        ("debit_usage", 3),
        ("debit_1", 1),
        ("debit_30", 30),
        ("debit_100", 100),
        ("debit_holds", 3),
        // The plan gives the third.
        ("debit_plan", 2),
        ("debit_limits", 2),
        ("hold", 3),
        ("template", 1),
    ] {
        stack(client, customer, grants)?;
    }
    for (customer, grants) in [("plpgsql", 3), ("plpgsql_30", 30)] {
        stack_by_hand(client, customer, grants)?;
    }
    let spread = "
        INSERT INTO bench.grants (customer, kind, priority, credits, paid, remaining, deferred)
        SELECT 'many ' || n, 'purchased', g, 1000000, 1000 * g, 1000000, 1000 * g
        FROM generate_series(0, $1 - 1) n, generate_series(1, 3) g";
    client
        .execute(spread, &[&(BATCH_WALLETS as i32)])
        .map_err(said(spread))?;
    let spread = "
        SELECT count(*) FROM generate_series(0, $1 - 1) n, generate_series(1, 3) g,
             LATERAL credyt.grant_credits('many ' || n, 1000000 + g, paid => 1000 * g, priority => g)";
    client
        .execute(spread, &[&(BATCH_WALLETS as i32)])
        .map_err(said(spread))?;
    let holds = "
        SELECT count(*) FROM generate_series(1, 300) n,
             LATERAL credyt.authorize('debit_holds', 'image.generate', quantity => n, ttl_seconds => 86400)";
    client.execute(holds, &[]).map_err(said(holds))?;

    for (customer, rules) in [
        ("debit_plan", RULES),
        ("debit_limits", RULES),
        ("debit_limits", LIMITS),
    ] {
        client.execute(rules, &[&customer]).map_err(said(rules))?;
    }

    let mut cases = Vec::new();
    let mut add = |name: &'static str, what, step| {
        let is_base = name == "floor" && NAMES.iter().any(|name| options.wants(name));
        let has = side == 0 || OTHERS.contains(&name);
        if has && (options.wants(name) || is_base) {
            cases.push(Case {
                side,
                name,
                what,
                step,
                size: if name.ends_with("_many") { BATCH } else { 1 },
                rates: Vec::new(),
                work: Vec::new(),
            });
        }
    };
    add(
        "insert",
        "one INSERT into a ledger like the extension's",
        insert(client)?,
    );
    add(
        "floor",
        "one statement: UPDATE balance, INSERT movement",
        floor(client)?,
    );
    add(
        "floor_row",
        "the same with the whole ledger row and ON CONFLICT",
        floor_row(client)?,
    );
    add(
        "debit",
        "debit_credits: 3 grants, key",
        debit(client, "debit")?,
    );
    add("debit_nokey", "debit_credits: 3 grants", no_key(client)?);
    add(
        "debit_tokens",
        "debit_credits: 3 grants, key, meters, cost",
        tokens(client)?,
    );
    add(
        "debit_usage",
        "debit_credits: 3 grants, key, usage, cost_plus",
        usage(client)?,
    );
    add(
        "debit_1",
        "debit_credits: 1 grant, key",
        debit(client, "debit_1")?,
    );
    add(
        "debit_30",
        "debit_credits: 30 grants, key",
        debit(client, "debit_30")?,
    );
    add(
        "debit_100",
        "debit_credits: 100 grants, key",
        debit(client, "debit_100")?,
    );
    add(
        "debit_holds",
        "debit_credits: 3 grants, key, 300 open holds",
        debit(client, "debit_holds")?,
    );
    add(
        "debit_plan",
        "debit_credits: 3 grants, key, plan, top-up, alert",
        debit(client, "debit_plan")?,
    );
    add(
        "debit_limits",
        "the same, in a user's name, with two limits",
        keyed(client, DEBIT_SCOPED, "debit_limits", 10)?,
    );
    add(
        "hold",
        "authorize with a key, then capture: pairs",
        hold(client)?,
    );
    add(
        "hold_by_hand",
        "by hand in PL/pgSQL: reserve with a key, settle: pairs",
        hold_by_hand(client)?,
    );
    add(
        "debit_each",
        "debit_credits: 2,000 wallets of 3 grants, key",
        debit_each(client)?,
    );
    add(
        "debit_many",
        "debit_many: the same, 5,000 a call",
        debit_many(client)?,
    );
    add(
        "grant_each",
        "grant_credits: 2 or 3 to each new wallet, key",
        grant_each(client)?,
    );
    add(
        "grant_many",
        "grant_many: the same, 5,000 a call",
        grant_many(client)?,
    );
    add(
        "plpgsql",
        "by hand in PL/pgSQL: 3 grants, key",
        by_hand(client, "plpgsql")?,
    );
    add(
        "plpgsql_30",
        "by hand in PL/pgSQL: 30 grants, key",
        by_hand(client, "plpgsql_30")?,
    );
    client
        .batch_execute("VACUUM ANALYZE")
        .map_err(said("VACUUM ANALYZE"))?;
    Ok(cases)
}

/// Grants of all sorts, none of which is ever empty or over while the benchmark runs.
fn stack(client: &mut Client, customer: &str, grants: u64) -> Result<()> {
    let sql = client.prepare(
        "SELECT id FROM credyt.grant_credits($1, $2::text::numeric, $3, paid => $4::text::numeric,
                    expires_at => now() + make_interval(secs => $5), priority => $6)",
    )?;
    for grant in stack_of(customer, grants) {
        client
            .execute(
                &sql,
                &[
                    &customer,
                    &grant.credits,
                    &grant.kind,
                    &grant.paid,
                    &grant.seconds,
                    &grant.priority,
                ],
            )
            .map_err(said("grant_credits"))?;
    }
    Ok(())
}

fn stack_by_hand(client: &mut Client, customer: &str, grants: u64) -> Result<()> {
    let sql = client.prepare(
        "INSERT INTO bench.grants (customer, kind, priority, credits, paid, remaining, deferred, expires_at)
         SELECT $1, $2, $3, credits, paid, credits, paid, now() + make_interval(secs => $6)
         FROM (VALUES ($4::text::numeric, $5::text::numeric)) given (credits, paid)",
    )?;
    for grant in stack_of(customer, grants) {
        client
            .execute(
                &sql,
                &[
                    &customer,
                    &grant.kind,
                    &grant.priority,
                    &grant.credits,
                    &grant.paid,
                    &grant.seconds,
                ],
            )
            .map_err(said("bench.grants"))?;
    }
    Ok(())
}

struct Grant {
    kind: &'static str,
    credits: String,
    paid: String,
    seconds: f64,
    priority: i32,
}

fn stack_of(customer: &str, grants: u64) -> Vec<Grant> {
    let seed = customer
        .bytes()
        .fold(grants, |seed, byte| seed * 31 + u64::from(byte));
    let mut rng = StdRng::seed_from_u64(seed);
    (0..grants)
        .map(|_| Grant {
            kind: ["included", "promotional", "purchased"][rng.random_range(0..3)],
            credits: format!(
                "{}.{:02}",
                rng.random_range(10_000_000..100_000_000),
                rng.random_range(0..100)
            ),
            paid: format!(
                "{}.{:06}",
                rng.random_range(100_000..1_000_000),
                rng.random_range(0..1_000_000)
            ),
            seconds: rng.random_range(30.0..3000.0) * 86_400.0,
            priority: rng.random_range(1..1000),
        })
        .collect()
}

// The steps.

/// The row of a real debit, all of it constant but id and key: the least that a durable ledger row costs.
/// The columns of the extension's ledger but id and key, and the values that a debit writes.
fn whole_row(client: &mut Client) -> Result<(String, String)> {
    client
        .query_one(DEBIT, &[&"template", &"template"])
        .map_err(said(DEBIT))?;
    let columns = client.query_one(
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum),
                string_agg(format('quote_nullable(%I::text) || %L', attname, '::' || format_type(atttypid, atttypmod)),
                           $$ || ', ' || $$ ORDER BY attnum)
         FROM pg_attribute
         WHERE attrelid = 'bench.ledger'::regclass AND attnum > 0 AND NOT attisdropped
           AND attname NOT IN ('id', 'idempotency_key')",
        &[],
    )?;
    let (columns, values): (&str, &str) = (columns.get(0), columns.get(1));
    let row = format!(
        "SELECT {values} FROM credyt.ledger WHERE customer = 'template' AND kind = 'debit'"
    );
    let row = client.query_one(&row, &[]).map_err(said(&row))?;
    Ok((columns.to_owned(), row.get(0)))
}

fn insert(client: &mut Client) -> Result<Step> {
    let sql = insert_sql(client)?;
    let sql = prepare(client, &sql)?;
    let mut keys = Keys::new(1);
    Ok(Box::new(move |client| {
        client.query_one(&sql, &[&Uuid::now_v7(), &keys.next()])?;
        Ok(())
    }))
}

/// The row of a debit, with its id and its key.
pub fn insert_sql(client: &mut Client) -> Result<String> {
    let (columns, values) = whole_row(client)?;
    Ok(format!(
        "INSERT INTO bench.ledger (id, idempotency_key, {columns}) VALUES ($1, $2, {values}) RETURNING id"
    ))
}

/// The floor with the extension's own ledger row, and a key that may have been there before.
fn floor_row(client: &mut Client) -> Result<Step> {
    let (columns, values) = whole_row(client)?;
    let sql = format!(
        "WITH paid AS (
             UPDATE bench.balances SET balance = balance - 1 WHERE customer = $1 AND balance >= 1
             RETURNING balance)
         INSERT INTO bench.ledger (id, idempotency_key, {columns})
         SELECT $2, $3, {values} FROM paid
         ON CONFLICT (customer, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
         RETURNING id, (SELECT balance FROM paid)"
    );
    let sql = prepare(client, &sql)?;
    let mut keys = Keys::new(11);
    Ok(Box::new(move |client| {
        client.query_one(&sql, &[&"floor_row", &Uuid::now_v7(), &keys.next()])?;
        Ok(())
    }))
}

fn floor(client: &mut Client) -> Result<Step> {
    let sql = prepare(client, FLOOR)?;
    let mut keys = Keys::new(2);
    Ok(Box::new(move |client| {
        client.query_one(&sql, &[&"floor", &Uuid::now_v7(), &keys.next()])?;
        Ok(())
    }))
}

fn debit(client: &mut Client, customer: &'static str) -> Result<Step> {
    keyed(client, DEBIT, customer, 3)
}

fn by_hand(client: &mut Client, customer: &'static str) -> Result<Step> {
    keyed(client, BY_HAND, customer, 4)
}

/// A statement of a customer and a key.
fn keyed(client: &mut Client, sql: &str, customer: &'static str, seed: u64) -> Result<Step> {
    let sql = prepare(client, sql)?;
    let mut keys = Keys::new(seed);
    Ok(Box::new(move |client| {
        client.query_one(&sql, &[&customer, &keys.next()])?;
        Ok(())
    }))
}

fn debit_each(client: &mut Client) -> Result<Step> {
    let sql = prepare(client, DEBIT)?;
    let (mut keys, mut random) = (Keys::new(12), StdRng::seed_from_u64(12));
    Ok(Box::new(move |client| {
        let customer = format!("many {}", random.random_range(0..BATCH_WALLETS));
        client.query_one(&sql, &[&customer, &keys.next()])?;
        Ok(())
    }))
}

fn debit_many(client: &mut Client) -> Result<Step> {
    let sql = prepare(client, DEBIT_MANY)?;
    let (mut keys, mut random) = (Keys::new(13), StdRng::seed_from_u64(13));
    Ok(Box::new(move |client| {
        let batch = batch(|_| {
            format!(
                r#"{{"customer": "many {}", "action": "image.generate", "idempotency_key": "{}"}}"#,
                random.random_range(0..BATCH_WALLETS),
                keys.next()
            )
        });
        client.query(&sql, &[&batch])?;
        Ok(())
    }))
}

/// Whom a grant is for: as many wallets as a batch of debits has.
fn new_customer(nth: u64) -> u64 {
    nth * u64::from(BATCH_WALLETS) / u64::from(BATCH)
}

fn grant_each(client: &mut Client) -> Result<Step> {
    let sql = prepare(client, GRANT)?;
    let (mut keys, mut nth) = (Keys::new(14), 0);
    Ok(Box::new(move |client| {
        let customer = format!("each {}", new_customer(nth));
        nth += 1;
        client.query_one(&sql, &[&customer, &keys.next()])?;
        Ok(())
    }))
}

fn grant_many(client: &mut Client) -> Result<Step> {
    let sql = prepare(client, GRANT_MANY)?;
    let (mut keys, mut round) = (Keys::new(15), 0);
    Ok(Box::new(move |client| {
        round += 1;
        let batch = batch(|nth| {
            format!(
                r#"{{"customer": "batch {round} {}", "credits": 100, "paid": 10, "idempotency_key": "{}"}}"#,
                new_customer(nth.into()),
                keys.next()
            )
        });
        client.query(&sql, &[&batch])?;
        Ok(())
    }))
}

fn batch(element: impl FnMut(u32) -> String) -> String {
    let elements: Vec<String> = (0..BATCH).map(element).collect();
    format!("[{}]", elements.join(","))
}

fn no_key(client: &mut Client) -> Result<Step> {
    let sql = prepare(client, DEBIT_NO_KEY)?;
    Ok(Box::new(move |client| {
        client.query_one(&sql, &[&"debit_nokey"])?;
        Ok(())
    }))
}

fn tokens(client: &mut Client) -> Result<Step> {
    let sql = prepare(client, DEBIT_TOKENS)?;
    let mut keys = Keys::new(5);
    let dimensions = serde_json::json!({"input_tokens": 1155, "output_tokens": 211});
    Ok(Box::new(move |client| {
        client.query_one(&sql, &[&"debit_tokens", &keys.next(), &dimensions])?;
        Ok(())
    }))
}

fn usage(client: &mut Client) -> Result<Step> {
    let sql = prepare(client, DEBIT_USAGE)?;
    let mut keys = Keys::new(7);
    let usage = serde_json::json!({"vendor": "vendor", "body": {
        "id": "chatcmpl-7", "model": "large-2026-08-06", "usage": {
            "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0}}}});
    Ok(Box::new(move |client| {
        client.query_one(&sql, &[&"debit_usage", &keys.next(), &usage])?;
        Ok(())
    }))
}

fn hold(client: &mut Client) -> Result<Step> {
    let (authorize, capture) = (prepare(client, AUTHORIZE)?, prepare(client, CAPTURE)?);
    let mut keys = Keys::new(6);
    Ok(Box::new(move |client| {
        let id: Uuid = client
            .query_one(&authorize, &[&"hold", &keys.next()])?
            .try_get("id")?;
        client.query_one(&capture, &[&"hold", &id])?;
        Ok(())
    }))
}

fn hold_by_hand(client: &mut Client) -> Result<Step> {
    let (reserve, settle) = (prepare(client, RESERVE)?, prepare(client, SETTLE)?);
    let mut keys = Keys::new(16);
    Ok(Box::new(move |client| {
        let id: i64 = client
            .query_one(&reserve, &[&"hold", &keys.next()])?
            .try_get("id")?;
        client.query_one(&settle, &[&"hold", &id])?;
        Ok(())
    }))
}

fn prepare(client: &mut Client, sql: &str) -> Result<Statement> {
    client.prepare(sql).map_err(said(sql))
}

// Rounds.

/// A turn of one case: short, so that whatever else the machine does meets all cases alike.
const TURN: Duration = Duration::from_millis(100);

/// Steps before those that are timed.
const WARMING: u32 = 5;

/// Every case in every round, turn by turn, each turn beginning with another one; `clients` by side.
pub fn run(clients: &mut [Client], cases: &mut [Case], options: &Options) -> Result<()> {
    if cases.is_empty() {
        return Ok(());
    }
    let mut pids = Vec::new();
    for client in &mut *clients {
        client
            .batch_execute("CHECKPOINT")
            .map_err(said("CHECKPOINT"))?;
        pids.push(client.query_one("SELECT pg_backend_pid()", &[])?.get(0));
    }
    let turns = options.slice.div_duration_f64(TURN).ceil().max(1.0) as usize;
    let bar = ProgressBar::new((options.rounds * turns) as u64);
    let style = ProgressStyle::with_template("  {bar:40} {msg}  {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    for round in 0..options.rounds {
        bar.set_message(format!("round {} of {}", round + 1, options.rounds));
        if !stderr().is_terminal() {
            eprintln!("  round {} of {}", round + 1, options.rounds);
        }
        let mut sums = vec![(0, Duration::ZERO, Duration::ZERO); cases.len()];
        for turn in 0..turns {
            for at in 0..cases.len() {
                let at = (at + turn) % cases.len();
                let (side, case) = (cases[at].side, &mut cases[at]);
                let worked = processor_time(pids[side]);
                let (steps, took) =
                    self::turn(&mut clients[side], case).map_err(said(case.name))?;
                sums[at].0 += steps;
                sums[at].1 += took;
                sums[at].2 += processor_time(pids[side]).saturating_sub(worked);
            }
            bar.inc(1);
        }
        for (case, (steps, took, worked)) in cases.iter_mut().zip(sums) {
            case.rates.push(f64::from(steps) / took.as_secs_f64());
            let warming = if case.size == 1 {
                WARMING * turns as u32
            } else {
                0
            };
            case.work
                .push(worked.as_secs_f64() * 1e6 / f64::from(steps + warming));
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// How long a process of this machine has had a processor; nothing where the system does not tell.
pub fn processor_time(pid: i32) -> Duration {
    let told = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let nanoseconds = told.split(' ').next().and_then(|told| told.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// Debits, or the like, and the time they took; a few before them find their way back into the caches.
fn turn(
    client: &mut Client,
    case: &mut Case,
) -> std::result::Result<(u32, Duration), postgres::Error> {
    if case.size == 1 {
        for _ in 0..WARMING {
            (case.step)(client)?;
        }
    }
    let began = Instant::now();
    let mut steps = 0;
    while began.elapsed() < TURN {
        (case.step)(client)?;
        steps += case.size;
    }
    Ok((steps, began.elapsed()))
}

pub fn print(cases: &[Case]) {
    if cases.is_empty() {
        return;
    }
    println!(
        "\n{:<16}{:<55}{:>8}{:>18}{:>8}{:>10}{:>8}",
        "One connection", "", "tps", "min .. max", "ratio", "work, us", "ratio"
    );
    for case in cases {
        let mut rates = case.rates.clone();
        rates.sort_by(f64::total_cmp);
        let range = format!("{} .. {}", whole(rates[0]), whole(rates[rates.len() - 1]));
        let floor = Which(case.side, "floor");
        let this = Which(case.side, case.name);
        println!(
            "{:<16}{:<55}{:>8}{range:>18}{:>8.2}{:>10.0}{:>8.2}",
            format!("  {}{}", side(case.side), case.name),
            case.what,
            whole(median(rates)),
            ratio(cases, this, floor).unwrap_or_default(),
            median(case.work.clone()),
            work_ratio(cases, this, floor).unwrap_or_default(),
        );
    }
    println!(
        "  work: processor time of the backend a debit, which others on the machine disturb less; both ratios to the floor"
    );
    for name in OTHERS {
        let (ours, others) = (Which(0, name), Which(1, name));
        if let (Some(rate), Some(work)) =
            (ratio(cases, ours, others), work_ratio(cases, ours, others))
        {
            println!("  {name} to the other library's: tps {rate:.2}, work {work:.2}");
        }
    }
}

/// How the lines of the other library begin.
pub fn side(side: usize) -> &'static str {
    ["", "other "][side]
}

/// A case: its side and its name.
#[derive(Clone, Copy)]
pub struct Which(pub usize, pub &'static str);

fn whole(rate: f64) -> String {
    thousands(rate.round() as u64)
}

/// The median over the rounds of one case's rate against another's in the same round.
pub fn ratio(cases: &[Case], this: Which, of: Which) -> Option<f64> {
    let (this, of) = (find(cases, this)?, find(cases, of)?);
    Some(median_ratio(&this.rates, &of.rates))
}

/// The same of the processor time.
pub fn work_ratio(cases: &[Case], this: Which, of: Which) -> Option<f64> {
    let (this, of) = (find(cases, this)?, find(cases, of)?);
    Some(median_ratio(&this.work, &of.work))
}

fn find(cases: &[Case], Which(side, name): Which) -> Option<&Case> {
    cases
        .iter()
        .find(|case| case.side == side && case.name == name)
}

pub fn median_ratio(these: &[f64], of: &[f64]) -> f64 {
    median(these.iter().zip(of).map(|(this, of)| this / of).collect())
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        (values[middle - 1] + values[middle]) / 2.0
    } else {
        values[middle]
    }
}
