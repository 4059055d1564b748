//! The books: closed periods read the same for ever, whatever comes late and whoever writes while they
//! are closed; and what is deferred is, at every moment, what it was when the clock stood there.

mod support;

use postgres::Client;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::sql::{Database, attempt, clock, refusal, rows, value, values};

// ---- a naive model ------------------------------------------------------------------------------

/// Money or credits, in units of 10^-10.
fn units(text: &str) -> i128 {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    sign * format!("{whole}{part:0<10}").parse::<i128>().expect(text)
}

/// A number of seconds after the test began, and of microseconds.
fn moment(second: i64, micros: i64) -> String {
    let (day, rest) = (1 + second / 86400, second % 86400);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("2100-01-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// By kind of grant: credits left and money deferred.
type Deferred = BTreeMap<String, (i128, i128)>;

/// What the views showed when the clock stood there.
struct Seen {
    second: i64,
    deferred: Deferred,
    breakage: i128,
}

/// Money that came or was earned, by the second it is accounted at.
#[derive(Default)]
struct Model {
    seen: Vec<Seen>,
    billed: Vec<(i64, i128)>,
    earned: Vec<(i64, i128)>,
    closed: i64,
}

fn deferred(client: &mut Client, sql: &str) -> Deferred {
    let lines = values(client, sql);
    let parts = lines.iter().map(|line| {
        let cells: Vec<&str> = line.split(' ').collect();
        (cells[0].to_owned(), (units(cells[1]), units(cells[2])))
    });
    parts.filter(|(_, left)| *left != (0, 0)).collect()
}

impl Model {
    fn look(&mut self, client: &mut Client, second: i64) {
        clock(client, moment(second, 0));
        let view = "SELECT kind, credits, revenue FROM credyt.deferred_revenue";
        let broken = "SELECT coalesce(sum(revenue), 0) FROM credyt.breakage";
        self.seen.push(Seen {
            second,
            deferred: deferred(client, view),
            breakage: units(&value(client, broken)),
        });
    }

    /// A debit that happened earlier than it was booked: what was seen since was less, by its parts.
    fn late(&mut self, occurred: i64, parts: &[String]) -> i64 {
        let accounted = occurred.max(self.closed);
        for seen in self.seen.iter_mut().filter(|seen| seen.second >= accounted) {
            for part in parts {
                let cells: Vec<&str> = part.split(' ').collect();
                let left = seen.deferred.entry(cells[0].to_owned()).or_default();
                left.0 -= units(cells[1]);
                left.1 -= units(cells[2]);
            }
            seen.deferred.retain(|_, left| *left != (0, 0));
        }
        accounted
    }
}

fn total(deferred: &Deferred) -> i128 {
    deferred.values().map(|left| left.1).sum()
}

const CUSTOMERS: [&str; 4] = ["ann", "bob", "cy", "dee"];

/// One random call at this second. `simple`: none whose revenue its answer does not tell.
fn operate(client: &mut Client, random: &mut StdRng, model: &mut Model, second: i64, simple: bool) {
    let who = *CUSTOMERS.choose(random).expect("one");
    let credits = random.random_range(1..40);
    let pick = |client: &mut Client, random: &mut StdRng, sql: &str| {
        values(client, sql).choose(random).cloned()
    };
    let earn = |model: &mut Model, second: i64, answer: String| {
        model.earned.push((second, units(&answer)));
    };
    match random.random_range(0..14) {
        0..3 => {
            let kind = ["purchased", "included", "promotional"][random.random_range(0..3)];
            let paid = format!(
                "{}.{:02}",
                random.random_range(0..30),
                random.random_range(0..100)
            );
            let start = match random.random_range(0..4) {
                0 => second + random.random_range(1..200_000),
                _ => second,
            };
            let end = match random.random_range(0..3) {
                0 => "NULL".to_owned(),
                _ => format!("'{}'", moment(start + random.random_range(1..200_000), 0)),
            };
            let start = moment(start, 0);
            rows(
                client,
                &format!(
                    "SELECT credyt.grant_credits('{who}', {credits}, '{kind}', paid => {paid},
                                                 effective_at => '{start}', expires_at => {end})"
                ),
            );
            model.billed.push((second, units(&paid)));
        }
        3..6 => {
            let sql =
                format!("SELECT revenue FROM credyt.debit_credits('{who}', 'image', {credits})");
            if let Ok(answer) = attempt(client, &sql) {
                let revenue = answer[0].get(0).expect("revenue").to_owned();
                earn(model, second, revenue);
            }
        }
        6 => {
            let earliest = random.random_range(0..=second);
            let sql = format!(
                "SELECT a->>'kind', a->>'credits', a->>'revenue', d.revenue
                 FROM credyt.debit_credits('{who}', 'image', {credits}, occurred_at => '{}') d,
                      jsonb_array_elements(d.allocations) a WHERE a->>'grant' IS NOT NULL",
                moment(earliest, 0)
            );
            if let Ok(answer) = attempt(client, &sql) {
                let cell =
                    |row: &postgres::SimpleQueryRow, at| row.get(at).unwrap_or("0").to_owned();
                let part = |row| [0, 1, 2].map(|at| cell(row, at)).join(" ");
                let parts: Vec<String> = answer.iter().map(part).collect();
                let accounted = model.late(earliest, &parts);
                if let Some(row) = answer.first() {
                    earn(model, accounted, cell(row, 3));
                }
            }
        }
        7 => {
            let sql = format!(
                "SELECT h.id FROM credyt.authorize('{who}', 'image', {credits}, ttl_seconds => {}) h",
                random.random_range(1..100_000)
            );
            rows(client, &sql);
        }
        8 => {
            let holds = format!(
                "SELECT id FROM credyt.authorizations WHERE customer = '{who}' AND status = 'open'"
            );
            if let Some(id) = pick(client, random, &holds) {
                let sql = format!(
                    "SELECT CASE WHEN replayed THEN 0 ELSE revenue END FROM credyt.capture('{who}', '{id}', keep_open => {})",
                    random.random_bool(0.5)
                );
                if let Ok(answer) = attempt(client, &sql) {
                    earn(model, second, answer[0].get(0).expect("revenue").to_owned());
                }
            }
        }
        9 | 10 => {
            let debits =
                format!("SELECT id FROM credyt.ledger WHERE customer = '{who}' AND kind = 'debit'");
            if let Some(id) = pick(client, random, &debits) {
                let until = match random.random_bool(0.5) {
                    true => format!("'{}'", moment(second + 50_000, 0)),
                    false => "NULL".to_owned(),
                };
                let part = if random.random_bool(0.5) { "1" } else { "NULL" };
                let sql = format!(
                    "SELECT -revenue FROM credyt.refund('{who}', '{id}', {part}, restore_until => {until})"
                );
                if let Ok(answer) = attempt(client, &sql) {
                    earn(model, second, answer[0].get(0).expect("revenue").to_owned());
                }
            }
        }
        11 => {
            let grants = format!("SELECT id FROM credyt.grants WHERE customer = '{who}'");
            if let Some(id) = pick(client, random, &grants) {
                let spent = if simple { "keep" } else { "owe" };
                let sql =
                    format!("SELECT credyt.revoke_grant('{who}', '{id}', spent => '{spent}')");
                attempt(client, &sql).ok();
            }
        }
        12 if !simple => {
            let limit = random.random_range(0..60);
            rows(
                client,
                &format!("SELECT credyt.open_wallet('{who}', overdraft_limit => {limit})"),
            );
        }
        _ if random.random_bool(0.4) => {
            let through = random.random_range(model.closed..=second);
            rows(
                client,
                &format!("SELECT credyt.close_period('{}')", moment(through, 0)),
            );
            model.closed = through;
        }
        _ => {
            let to = CUSTOMERS.choose(random).expect("one");
            let sql = format!("SELECT credyt.transfer('{who}', '{to}', {credits})");
            attempt(client, &sql).ok();
        }
    }
}

/// opening, billed, earned, breakage, returned, closing.
fn rollforward(client: &mut Client, since: &str, until: &str) -> [i128; 6] {
    let sql = format!(
        "SELECT opening, billed, earned, breakage, returned, closing
         FROM credyt.revenue_rollforward({since}, {until}, 'credits')"
    );
    let line = value(client, &sql);
    let cells: Vec<i128> = line.split(' ').map(units).collect();
    let [opening, billed, earned, breakage, returned, closing] = cells[..] else {
        panic!("{line}");
    };
    assert_eq!(
        opening + billed - earned - breakage - returned,
        closing,
        "{sql}: {line}"
    );
    [opening, billed, earned, breakage, returned, closing]
}

fn random_books(name: &str, seed: u64, simple: bool) {
    let database = Database::new(name);
    let mut client = database.connect();
    let mut random = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    let mut frozen: Vec<(String, [i128; 6])> = Vec::new();
    let mut second = 0;
    clock(&mut client, moment(0, 0));
    // The price was set at the true time; the test's time lies behind it.
    for step in 0..250 {
        model.look(&mut client, second);
        second += 1;
        clock(&mut client, moment(second, 0));
        operate(&mut client, &mut random, &mut model, second, simple);
        if step % 25 == 24 && model.closed > 0 {
            let through = format!("'{}'", moment(model.closed, 0));
            let reads = rollforward(&mut client, "NULL", &through);
            frozen.push((through, reads));
        }
        second += random.random_range(1..8_000);
    }
    model.look(&mut client, second);
    assert!(model.closed > 0 && frozen.len() > 3, "nothing was closed");

    for (through, reads) in &frozen {
        assert_eq!(
            rollforward(&mut client, "NULL", through),
            *reads,
            "{name}: through {through}"
        );
    }
    for _ in 0..60 {
        let seen = model.seen.choose(&mut random).expect("some");
        let at = moment(seen.second, 0);
        let sql = format!(
            "SELECT kind, credits, revenue FROM credyt.deferred_revenue_at('{at}', 'credits')"
        );
        assert_eq!(
            deferred(&mut client, &sql),
            seen.deferred,
            "{name}: at {at}"
        );

        let other = model.seen.choose(&mut random).expect("some");
        let (from, to) = match seen.second <= other.second {
            true => (seen, other),
            false => (other, seen),
        };
        let [since, until] = [from, to].map(|seen| format!("'{}'", moment(seen.second, 1)));
        let [opening, billed, earned, breakage, _, closing] =
            rollforward(&mut client, &since, &until);
        let within = |moved: &[(i64, i128)]| -> i128 {
            let inside = |at: i64| from.second < at && at <= to.second;
            moved
                .iter()
                .filter(|(at, _)| inside(*at))
                .map(|(_, money)| money)
                .sum()
        };
        let window = format!("{name}: {since} to {until}");
        assert_eq!(opening, total(&from.deferred), "opening, {window}");
        assert_eq!(closing, total(&to.deferred), "closing, {window}");
        assert_eq!(billed, within(&model.billed), "billed, {window}");
        assert_eq!(breakage, to.breakage - from.breakage, "breakage, {window}");
        if simple {
            assert_eq!(earned, within(&model.earned), "earned, {window}");
        }
        // Any window at all adds up.
        let any = |random: &mut StdRng| {
            moment(
                random.random_range(0..second),
                random.random_range(0..1_000_000),
            )
        };
        let (one, two) = (any(&mut random), any(&mut random));
        rollforward(
            &mut client,
            &format!("'{}'", (&one).min(&two)),
            &format!("'{}'", (&one).max(&two)),
        );
    }
    let [.., closing] = rollforward(&mut client, "NULL", "NULL");
    let now = value(
        &mut client,
        "SELECT coalesce(sum(revenue), 0) FROM credyt.deferred_revenue",
    );
    assert_eq!(closing, units(&now));
}

#[test]
fn reports_read_what_the_views_showed() {
    for seed in 0..4 {
        random_books(&format!("simple_{seed}"), seed, true);
    }
}

#[test]
fn debts_and_what_is_owed_again_add_up_too() {
    for seed in 0..4 {
        random_books(&format!("owing_{seed}"), 100 + seed, false);
    }
}

// ---- many at once -------------------------------------------------------------------------------

/// All that is to be read of what is accounted before a moment.
fn reading(client: &mut Client, through: &str) -> Vec<String> {
    let all = format!(
        "SELECT 'r', opening, billed, earned, breakage, returned, closing
         FROM credyt.revenue_rollforward(NULL, '{through}', 'credits')
         UNION ALL
         SELECT 'd', credits, revenue, NULL, NULL, NULL, NULL
         FROM credyt.deferred_revenue_at('{through}'::timestamptz - interval '1 microsecond', 'credits')
         UNION ALL
         SELECT 'l', count(*), sum(revenue), sum(credits), sum(hashtext(id::text)), NULL, NULL
         FROM credyt.ledger WHERE asset = 'credits' AND accounted_at < '{through}'"
    );
    values(client, &all)
}

/// Says so when its owner is done, by a panic too.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_closed_period_is_frozen_while_everybody_writes() {
    const CONNECTIONS: usize = 12;
    const ROUNDS: usize = 150;
    let database = Database::new("frozen");
    let done = AtomicBool::new(false);
    let (late, again) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut closer = database.connect();
    let frozen = std::thread::scope(|scope| {
        let writers = scope.spawn(|| {
            let _done = Done(&done);
            database.at_once(CONNECTIONS, |nth, client| {
                let mut random = StdRng::seed_from_u64(nth as u64);
                let level = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"][nth % 3];
                for round in 0..ROUNDS {
                    let who = match random.random_bool(0.2) {
                        true => format!("new_{nth}_{round}"),
                        false => format!("c_{}", random.random_range(0..6)),
                    };
                    // Everything of one customer, so that no deadlock is in order.
                    let debit = |at: &str| format!("SELECT credyt.debit_credits('{who}', 'image', occurred_at => {at})");
                    let mut calls = vec![
                        format!("BEGIN ISOLATION LEVEL {level}"),
                        "SELECT 1".to_owned(),
                        format!("SELECT credyt.grant_credits('{who}', 9, paid => 1, expires_at => clock_timestamp() + interval '300 ms')"),
                        debit("NULL"),
                        debit("clock_timestamp() - interval '1 second'"),
                        debit("now() - interval '1 day'"),
                    ];
                    if random.random_bool(0.3) {
                        calls.insert(2, "SELECT pg_sleep(0.01)".to_owned());
                    }
                    if random.random_bool(0.5) {
                        calls.push(format!(
                            "SELECT credyt.refund(customer, id) FROM credyt.ledger
                             WHERE customer = '{who}' AND kind = 'debit' ORDER BY random() LIMIT 1"
                        ));
                    }
                    calls.push("COMMIT".to_owned());
                    for call in calls {
                        match attempt(client, &call).map_err(|refusal| refusal.code) {
                            Ok(_) => {}
                            Err(code) if ["WC001", "WC008", "22023"].contains(&code.as_str()) => {
                                rows(client, "ROLLBACK");
                                break;
                            }
                            Err(code) if code == "40001" && level != "READ COMMITTED" => {
                                again.store(true, Ordering::Relaxed);
                                rows(client, "ROLLBACK");
                                break;
                            }
                            Err(code) => panic!("{level}: {call}: {code}"),
                        }
                    }
                }
            });
        });
        let mut frozen: Vec<(String, Vec<String>)> = Vec::new();
        while !done.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(30));
            // Up to the very moment, so that running transactions took their time before it.
            let through = value(
                &mut closer,
                "SELECT through FROM credyt.close_period(clock_timestamp())",
            );
            frozen.push((through.clone(), reading(&mut closer, &through)));
        }
        writers.join().expect("done");
        frozen
    });
    let moved = "SELECT bool_or(accounted_at > occurred_at) FROM credyt.ledger";
    late.store(value(&mut closer, moved) == "t", Ordering::Relaxed);
    assert!(frozen.len() > 5, "closed {} times", frozen.len());
    assert!(late.load(Ordering::Relaxed), "nothing came late");
    assert!(again.load(Ordering::Relaxed), "no snapshot was too old");
    for (through, was) in &frozen {
        assert_eq!(
            &reading(&mut closer, through),
            was,
            "closed through {through}"
        );
    }
}

#[test]
fn two_close_at_once() {
    let database = Database::new("two_close");
    let mut client = database.connect();
    for nth in 0..50 {
        rows(
            &mut client,
            &format!("SELECT credyt.grant_credits('c{nth}', 5, paid => 1)"),
        );
    }
    let now = value(&mut client, "SELECT clock_timestamp()");
    let sql = format!("SELECT * FROM credyt.close_period('{now}')");
    let answers = database.at_once(4, |_, client| value(client, &sql));
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT count(*), sum(credits) FROM credyt.periods"
        ),
        "1 250"
    );

    // Each its own moment: what is behind the other's is refused.
    let answers = database.at_once(4, |nth, client| {
        let sql = format!(
            "SELECT through FROM credyt.close_period('{now}'::timestamptz + interval '{} us')",
            nth + 1
        );
        attempt(client, &sql)
            .map(|_| ())
            .map_err(|refusal| refusal.code)
    });
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().err().is_none_or(|code| code == "22023"))
    );
    assert!(answers[3].is_ok());
}

#[test]
fn a_close_waits_for_who_took_the_time_before_it() {
    let database = Database::new("waits");
    let (mut client, mut closer) = (database.connect(), database.connect());
    rows(
        &mut client,
        "SELECT credyt.grant_credits('ann', 10, paid => 10)",
    );
    rows(
        &mut client,
        "BEGIN; SELECT credyt.debit_credits('ann', 'image', 3)",
    );
    let through = value(&mut closer, "SELECT clock_timestamp()");
    let close = format!("SELECT credits, deferred FROM credyt.close_period('{through}')");
    let closed = database.waiting(
        |closer| value(closer, &close),
        || {
            rows(&mut client, "COMMIT");
        },
    );
    assert_eq!(closed, "7 7.00");

    // A wallet that is being made cannot be locked; the close waits all the same.
    rows(
        &mut client,
        "BEGIN; SELECT credyt.grant_credits('bob', 5, paid => 2)",
    );
    let through = value(&mut closer, "SELECT clock_timestamp()");
    let close = format!("SELECT credits, deferred FROM credyt.close_period('{through}')");
    let closed = database.waiting(
        |closer| value(closer, &close),
        || {
            rows(&mut client, "COMMIT");
        },
    );
    assert_eq!(closed, "12 9.00");

    // Who makes one while it is being closed waits, and comes after it.
    let through = value(&mut closer, "SELECT clock_timestamp()");
    rows(
        &mut closer,
        &format!("BEGIN; SELECT credyt.close_period('{through}')"),
    );
    let late = "SELECT credyt.grant_credits('cy', 5, paid => 2);
                SELECT credyt.debit_credits('cy', 'image', occurred_at => now() - interval '1 hour')";
    database.waiting(
        |cy| rows(cy, late),
        || {
            rows(&mut closer, "COMMIT");
        },
    );
    let booked = format!(
        "SELECT bool_and(accounted_at >= '{through}') FROM credyt.ledger WHERE customer = 'cy'"
    );
    assert_eq!(value(&mut closer, &booked), "t");
}

#[test]
fn an_old_snapshot_is_refused() {
    let database = Database::new("snapshots");
    let (mut client, mut other) = (database.connect(), database.connect());
    rows(
        &mut other,
        "SELECT credyt.grant_credits('ann', 10, paid => 10)",
    );
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1";
    let close = "SELECT credyt.close_period(clock_timestamp())";
    let late = |who: &str| {
        format!(
            "SELECT credyt.debit_credits('{who}', 'image', occurred_at => now() - interval '1 hour')"
        )
    };
    let again = |client: &mut Client, sql: &str| {
        let refused = refusal(client, sql);
        assert_eq!(refused.code, "40001", "{sql}: {refused:?}");
        rows(client, "ROLLBACK");
    };
    // It has not seen the close: neither for a wallet there is, nor for a new one.
    rows(&mut client, begin);
    rows(&mut other, close);
    again(&mut client, &late("ann"));
    rows(&mut client, begin);
    rows(&mut other, close);
    again(&mut client, "SELECT credyt.grant_credits('bob', 1)");
    // A close has not seen another close, a new wallet, or a debit.
    rows(&mut client, begin);
    rows(&mut other, close);
    again(&mut client, close);
    for missed in [
        "SELECT credyt.grant_credits('bob', 1)".to_owned(),
        late("ann"),
    ] {
        rows(&mut client, begin);
        rows(&mut other, &missed);
        again(&mut client, close);
    }
    // One that has seen everything closes, and goes on.
    rows(&mut client, begin);
    rows(&mut client, close);
    rows(&mut client, "SELECT credyt.grant_credits('cy', 1)");
    rows(&mut client, &late("cy"));
    rows(&mut client, "COMMIT");
    let behind = "SELECT count(*) FROM credyt.ledger l
                  WHERE l.customer = 'cy' AND l.accounted_at < (SELECT max(through) FROM credyt.periods)";
    assert_eq!(value(&mut client, behind), "0");
}

#[test]
fn a_clock_set_back_changes_no_closed_period() {
    let database = Database::new("set_back");
    let mut client = database.connect();
    clock(&mut client, "2100-03-01Z");
    rows(
        &mut client,
        "SELECT credyt.grant_credits('ann', 10, paid => 10, expires_at => '2100-02-10Z'::timestamptz + interval '1 year')",
    );
    rows(&mut client, "SELECT credyt.close_period('2100-03-01Z')");
    clock(&mut client, "2100-02-01Z");
    rows(&mut client, "SELECT credyt.debit_credits('ann', 'image')");
    rows(
        &mut client,
        "SELECT credyt.grant_credits('bob', 10, paid => 10)",
    );
    let behind = "SELECT count(*) FROM credyt.ledger WHERE accounted_at < '2100-03-01Z'";
    assert_eq!(value(&mut client, behind), "0");
    assert_eq!(
        value(
            &mut client,
            "SELECT billed, earned, closing FROM credyt.revenue_rollforward('2100-03-01Z', NULL)"
        ),
        "20.00 1.00 19.00"
    );
}
