//! What is asked about one customer reads that customer's rows, however many others there are; and what is
//! asked of all of them is found by an index where there is nothing to do.
//!
//! CREDYT_SCALE says how many customers there are beside the one; each has ten ledger rows.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use postgres::Client;
use support::everything;
use support::sql::{Database, Refusal, attempt, rows, value, values};

/// Rows that a question may read: some times those of the customer, of small tables such as prices, and of the last pages
/// of the ledger, which no BRIN index tells apart.
const MOST_ROWS: i64 = 4_000;

/// How each function about a customer is asked. One that is not here fails the test.
const FUNCTIONS: &[(&str, &str)] = &[
    (
        "wallet_state_at",
        "'ann', 'credits', (SELECT state FROM w), now()",
    ),
    ("affordable", "'ann', 'image'"),
    ("authorize", "'ann', 'image'"),
    ("balance", "'ann'"),
    ("balance at", "'ann', at => now() - interval '1 day'"),
    ("capture", "'ann', (SELECT h.id FROM h)"),
    ("change_plan", "'ann', 'pro', 'pro', 2"),
    ("close_wallet", "'ann'"),
    (
        "debit_credits",
        "'ann', 'image', idempotency_key => 'new', scopes => '{user:a}'",
    ),
    (
        "pending_movements",
        "'ann', 'credits', (SELECT state FROM w), now()",
    ),
    ("erase_customer", "'ann', 'asked'"),
    ("extend", "'ann', (SELECT h.id FROM h)"),
    ("freeze_wallet", "'ann'"),
    (
        "grant_credits",
        "'ann', 5, paid => 1, idempotency_key => 'new'",
    ),
    (
        "pending_grants",
        "'ann', 'credits', (SELECT state FROM w), now()",
    ),
    ("history", "'ann'"),
    ("ledger_hash", "'ann'"),
    ("open_wallet", "'ann', overdraft_limit => 5"),
    ("pay_subscription", "'ann', 'pro', now()"),
    ("record_cost", "'ann', 'v', cost => 1"),
    ("refund", "'ann', (SELECT d.id FROM d)"),
    ("release", "'ann', (SELECT h.id FROM h)"),
    ("subscription_at", "'ann', (SELECT s.id FROM s), now()"),
    ("revoke_grant", "'ann', (SELECT g.id FROM g)"),
    ("revoke_payment", "'ann', 'pi_1'"),
    ("set_alert", "'ann', 5"),
    ("set_limit", "'ann', 'user:*', 1000"),
    ("set_price_list", "'ann', 'list'"),
    ("set_topup", "'ann', 5, 10"),
    ("subscribe", "'ann', 'team', timezone => 'Europe/Berlin'"),
    ("topup_failed", "'low', (SELECT e.id FROM e)"),
    ("transfer", "'ann', 'bob', 1"),
    ("unfreeze_wallet", "'ann'"),
    ("unsubscribe", "'ann', 'pro'"),
    ("usage", "'ann'"),
    ("verify", "'ann'"),
];

/// Where the arguments above find their ids.
const IDS: &str = "
    WITH w AS MATERIALIZED (SELECT state FROM credyt.wallets WHERE customer = 'ann' AND asset = 'credits'),
         h AS MATERIALIZED (SELECT id FROM credyt.authorizations WHERE customer = 'ann' AND status = 'open' ORDER BY id LIMIT 1),
         d AS MATERIALIZED (SELECT id FROM credyt.ledger WHERE customer = 'ann' AND kind = 'debit' ORDER BY id DESC LIMIT 1),
         g AS MATERIALIZED (SELECT id FROM credyt.grants WHERE customer = 'ann' ORDER BY id LIMIT 1),
         s AS MATERIALIZED (SELECT id FROM credyt.booked_subscriptions WHERE customer = 'ann' LIMIT 1),
         e AS MATERIALIZED (SELECT id FROM credyt.events WHERE customer = 'low' AND type = 'topup.requested' LIMIT 1)";

/// A rough number of customers; each is a copy of one whose life was booked by calls.
fn others() -> usize {
    let number = std::env::var("CREDYT_SCALE").ok();
    number.and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

fn fill(client: &mut Client, customers: usize) {
    everything::fill(client);
    rows(
        client,
        "SELECT credyt.create_plan('copied', 10, '1 year', paid => 5);
         SELECT credyt.grant_credits('copy', 100, paid => 10), credyt.set_limit('copy', 'user:*', 50),
                credyt.subscribe('copy', 'copied');
         SELECT credyt.authorize('copy', 'image', 2, ttl_seconds => 2000000000);
         SELECT count(credyt.debit_credits('copy', 'image', scopes => '{user:a}', idempotency_key => 'k' || n, cost => 0.1))
             FROM generate_series(1, 6) n;
         SELECT credyt.record_cost('copy', 'v', cost => 1, vendor_request_id => 'r', debit_id => (SELECT d.id FROM credyt.debit_credits('copy', 'image') d));
         SELECT credyt.maintain()",
    );
    let tables = values(
        client,
        "SELECT c.oid::regclass, string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum)
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE c.relnamespace = 'credyt'::regnamespace AND c.relkind = 'r'
         GROUP BY c.oid HAVING bool_or(a.attname = 'customer') AND c.relname <> 'prices' ORDER BY c.relname",
    );
    for table in tables {
        let (table, columns) = table.split_once(' ').expect("a table and its columns");
        let from = columns.replacen("customer", "'copy' || n", 1);
        let sql = format!(
            "INSERT INTO {table} ({columns})
             SELECT {from} FROM generate_series(1, {customers}) n, {table} t WHERE t.customer = 'copy'"
        );
        rows(client, &sql);
    }
    rows(
        client,
        "INSERT INTO credyt.wallets (customer, asset, created_at, next_due_at, overdraft_limit, status, state)
         SELECT 'long', asset, created_at, next_due_at, overdraft_limit, status, jsonb_set(state::jsonb, '{seq}', '20000')::text::credyt.wallet
         FROM credyt.wallets WHERE customer = 'copy';
         INSERT INTO credyt.ledger (customer, asset, id, seq, created_at, occurred_at, accounted_at, kind, action, quantity, credits, balance, revenue, allocations)
         SELECT 'long', 'credits', (lpad(to_hex((extract(epoch FROM m.at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(m.n), 12, '0'))::uuid,
                m.n, m.at, m.at, m.at, 'debit', 'image', 1, -1, 30000 - m.n, 0, '[]'
         FROM (SELECT n, now() - interval '1000 hours' + n * interval '3 minutes' AS at FROM generate_series(1, 20000) n) m",
    );
    rows(client, "VACUUM ANALYZE");
}

/// Rows that were read in this session and are not in the server's statistics yet, table by table.
fn rows_read(client: &mut Client) -> BTreeMap<String, i64> {
    let sql = "SELECT relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
               FROM pg_stat_xact_user_tables WHERE schemaname = 'credyt'";
    let read = |row: String| {
        let (table, read) = row.split_once(' ')?;
        Some((table.to_owned(), read.parse().ok()?))
    };
    values(client, sql).into_iter().filter_map(read).collect()
}

/// What a question cost: rows read, the most of them in this table, and the shortest time of three.
struct Cost {
    read: i64,
    most: String,
    took: Duration,
}

/// Asks in a transaction that is rolled back, three times, so that plans are made and kept.
fn ask(client: &mut Client, question: &str) -> Result<Cost, Refusal> {
    let mut cost = Cost {
        read: 0,
        most: String::new(),
        took: Duration::MAX,
    };
    for _ in 0..3 {
        rows(client, "BEGIN");
        let before = rows_read(client);
        let began = Instant::now();
        let answer = attempt(client, question);
        let took = began.elapsed();
        if answer.is_ok() {
            let mut read = rows_read(client);
            for (table, read) in &mut read {
                *read -= before.get(table).copied().unwrap_or_default();
            }
            let most = read.iter().max_by_key(|(_, read)| **read);
            cost = Cost {
                read: read.values().sum(),
                most: most.map(|(table, _)| table.clone()).unwrap_or_default(),
                took: took.min(cost.took),
            };
        }
        rows(client, "ROLLBACK");
        answer?;
    }
    Ok(cost)
}

#[test]
fn a_question_about_one_customer_reads_the_rows_of_one() {
    // To check the invariants of all of them takes longer than the test.
    let database = Database::new("scale").lawless();
    let mut client = database.connect();
    rows(
        &mut client,
        "DROP EXTENSION credyt_pg; CREATE EXTENSION credyt_pg",
    );
    let customers = others();
    let began = Instant::now();
    fill(&mut client, customers);
    println!("{customers} customers in {:.1?}", began.elapsed());
    // What helpers of a query read is not told.
    rows(&mut client, "SET max_parallel_workers_per_gather = 0");

    let mut questions: BTreeMap<String, String> = BTreeMap::new();
    for (name, arguments) in FUNCTIONS {
        let function = name.split(' ').next().unwrap_or(name);
        questions.insert(
            format!("{name}()"),
            format!("{IDS} SELECT * FROM credyt.{function}({arguments})"),
        );
    }
    let functions: BTreeSet<String> = values(
        &mut client,
        "SELECT DISTINCT p.proname FROM pg_proc p
         WHERE p.pronamespace = 'credyt'::regnamespace AND p.proargnames[1] = 'customer'",
    )
    .into_iter()
    .collect();
    let listed: BTreeSet<String> = (FUNCTIONS.iter())
        .filter_map(|(name, _)| name.split(' ').next())
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = functions.difference(&listed).collect();
    assert!(missing.is_empty(), "FUNCTIONS says nothing of {missing:?}");
    questions.retain(|name, _| {
        let function = name.split(['(', ' ']).next().unwrap_or(name);
        functions.contains(function)
    });
    let views = values(
        &mut client,
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'customer'
         WHERE c.relnamespace = 'credyt'::regnamespace AND c.relkind = 'v' ORDER BY c.relname",
    );
    for view in views {
        let sql = format!("SELECT * FROM credyt.{view} WHERE customer = 'ann'");
        questions.insert(view, sql);
    }

    // Pages of a history of 20,000 rows.
    let page = |from: &str, order: &str| {
        format!(
            "SELECT * FROM credyt.statement WHERE customer = 'long' {from} ORDER BY id {order} LIMIT 20"
        )
    };
    let middle =
        "SELECT quote_literal(id) FROM credyt.ledger WHERE customer = 'long' AND seq = 10000";
    let middle = value(&mut client, middle);
    for (name, question) in [
        ("statement, newest", page("", "DESC")),
        ("statement, oldest", page("", "")),
        (
            "statement, before",
            page(&format!("AND id < {middle}"), "DESC"),
        ),
        ("statement, after", page(&format!("AND id > {middle}"), "")),
        (
            "history, newest",
            "SELECT * FROM credyt.history('long')".to_owned(),
        ),
        (
            "usage, a day of many",
            "SELECT * FROM credyt.usage('long', now() - interval '1 day', by => '{action,kind}')"
                .to_owned(),
        ),
    ] {
        questions.insert(name.to_owned(), question);
    }

    // Each grant is looked up among the open ones, not compared with all of them.
    let plan = "EXPLAIN (COSTS OFF) SELECT * FROM credyt.grant_balances WHERE customer = 'ann'";
    let plan = values(&mut client, plan).join("\n");
    assert!(plan.contains("Hash Cond: "), "{plan}");

    let mut broken = Vec::new();
    let mut report = |name: &str, cost: Result<Cost, Refusal>| match cost {
        Ok(Cost { read, most, took }) => {
            let took = took.as_secs_f64() * 1e3;
            println!("{name:24} {read:>9} rows, most of {most:20} {took:>10.2} ms");
            // Where some state is stored out of line, health looks at the length of each. And it asks for the last pages
            // of the ledger twice, for what the rollups lack and for usage without a cost, and for those of vendor_costs.
            let more = if name == "health" {
                1_000 + i64::try_from(customers).unwrap_or_default()
            } else {
                0
            };
            if read > MOST_ROWS + more {
                broken.push(format!("{name} reads {read} rows, most of {most}"));
            }
        }
        Err(refusal) => broken.push(format!("{name}: {} {}", refusal.code, refusal.message)),
    };
    for (name, question) in &questions {
        report(name, ask(&mut client, question));
    }
    // All is in the rollups; nothing has fallen due.
    for _ in 0..2 {
        rows(&mut client, "SELECT credyt.maintain(1000000)");
    }
    for name in ["maintain()", "take_events()", "health"] {
        report(
            name,
            ask(&mut client, &format!("SELECT * FROM credyt.{name}")),
        );
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
