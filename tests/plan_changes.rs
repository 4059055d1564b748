//! Changes of plan and seats: each once, however many connections race, and a year of them beside a naive model.
//!
//! `CREDYT_CUSTOMERS` says how many customers (60), `CREDYT_SEED` which year.

mod support;

use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::sql::{Database, attempt, clock, rows, value, values};

/// ann on the plan `pro`, 400 credits a month for 40, of which 150 roll over; and the plans around it.
fn on_pro(name: &str, starts: &str) -> (Database, Client) {
    let database = Database::new(name);
    let mut client = database.connect();
    clock(&mut client, starts);
    rows(
        &mut client,
        "SELECT credyt.create_plan('basic', 100, paid => 10, rollover => 20);
         SELECT credyt.create_plan('pro', 400, paid => 40, rollover => 150);
         SELECT credyt.create_plan('max', 1000, paid => 100);
         SELECT credyt.subscribe('ann', 'pro')",
    );
    (database, client)
}

const ISSUED: &str = "SELECT count(*), sum(credits), sum(paid) FROM credyt.grants";
const SETTLED: &str = "SELECT settled FROM credyt.balance('ann')";

/// All of them succeed, or are told what another one has made of the subscription.
fn race(database: &Database, call: impl Fn(usize) -> String + Sync) {
    database.at_once(24, |nth, client| {
        let call = call(nth);
        if let Err(refused) = attempt(client, &format!("SELECT credyt.{call}")) {
            assert!(
                ["WC005", "WC011", "22023"].contains(&&*refused.code),
                "{call}: {refused:?}"
            );
        }
    });
}

#[test]
fn seats_that_24_connections_ask_for_are_granted_once() {
    let (database, mut client) = on_pro("change_seats", "2100-06-01Z");
    // Half of the month is left: 23 seats more are 23 x 200 credits for 23 x 20, in whatever order they come.
    clock(&mut client, "2100-06-16Z");
    race(&database, |nth| {
        format!("change_plan('ann', 'pro', quantity => {})", nth + 1)
    });
    rows(
        &mut client,
        "SELECT credyt.change_plan('ann', 'pro', quantity => 24)",
    );
    let issued = value(
        &mut client,
        "SELECT sum(credits), sum(paid) FROM credyt.grants",
    );
    assert_eq!(issued, "5000 500.00");
    assert_eq!(database.broken_invariants(), [""; 0]);
}

#[test]
fn a_change_that_24_connections_ask_for_happens_once() {
    let (database, mut client) = on_pro("change_race", "2100-06-01Z");
    clock(&mut client, "2100-06-16Z");
    // With one key, and without any.
    race(&database, |_| {
        "change_plan('ann', 'pro', 'max', idempotency_key => 'up')".to_owned()
    });
    assert_eq!(value(&mut client, ISSUED), "2 700 70.00");
    race(&database, |_| {
        "change_plan('ann', 'max', 'basic', proration => 'restart')".to_owned()
    });
    assert_eq!(
        value(&mut client, "SELECT count(*) FROM credyt.ended_grants"),
        "2"
    );
    // 20 roll over.
    assert_eq!(value(&mut client, SETTLED), "120");
    assert_eq!(database.broken_invariants(), [""; 0]);
}

#[test]
fn a_change_races_a_renewal() {
    let (database, mut client) = on_pro("change_renewal", "2100-01-31Z");
    rows(
        &mut client,
        "SELECT credyt.change_plan('ann', 'pro', 'max', at => 'renewal')",
    );
    clock(&mut client, "2100-02-28Z");
    // 150 would roll over on pro, nothing does on max.
    assert_eq!(value(&mut client, SETTLED), "1000");
    race(&database, |nth| match nth % 4 {
        0 => "change_plan('ann', 'pro', 'max', at => 'renewal')".to_owned(),
        1 => "change_plan('ann', 'max', quantity => 2, idempotency_key => 'two')".to_owned(),
        2 => "subscribe('ann', 'max')".to_owned(),
        _ => "debit_credits('ann', 'image', credits => 0)".to_owned(),
    });
    // On the day of the renewal a second seat is a whole one.
    assert_eq!(value(&mut client, SETTLED), "2000");
    assert_eq!(value(&mut client, ISSUED), "3 2400 240.00");
    // Months still count from the 31st.
    let ends = "SELECT period_end FROM credyt.subscriptions WHERE customer = 'ann'";
    assert_eq!(value(&mut client, ends), "2100-03-31 00:00:00+00");
    assert_eq!(database.broken_invariants(), [""; 0]);
}

const DAY: i64 = 86_400;
/// 1 January 2100.
const FIRST_DAY: i64 = 4_102_444_800;

struct Plan {
    name: &'static str,
    every: &'static str,
    credits: i64,
    paid: i64,
    rollover: Option<i64>,
}

const PLANS: [Plan; 7] = [
    plan("free", "1 month", 0, 0, Some(0)),
    plan("basic", "1 month", 100, 10, Some(30)),
    plan("pro", "1 month", 430, 39, None),
    plan("max", "1 month", 1000, 77, Some(500)),
    plan("week", "7 days", 70, 9, Some(0)),
    plan("weeks", "7 days", 210, 20, None),
    plan("ten", "10 days", 90, 11, Some(45)),
];

const fn plan(
    name: &'static str,
    every: &'static str,
    credits: i64,
    paid: i64,
    rollover: Option<i64>,
) -> Plan {
    Plan {
        name,
        every,
        credits,
        paid,
        rollover,
    }
}

/// One customer's only subscription. Credits are counted in hundredths, money in 10^-10.
struct Customer {
    plan: usize,
    seats: i64,
    scheduled: Option<(usize, i64)>,
    /// The starts of its periods, the next one first.
    starts: Vec<i64>,
    started: i64,
    had: i64,
    had_paid: i64,
    left: i64,
    granted: i64,
    paid: i64,
}

fn money(units: i64) -> i128 {
    i128::from(units) * 10_i128.pow(10)
}

impl Customer {
    fn next(&self) -> i64 {
        self.starts[0]
    }

    fn pass_to(&mut self, now: i64, client: &mut Client) {
        while self.next() <= now {
            let start = self.starts.remove(0);
            let before = self.plan;
            if let Some((plan, seats)) = self.scheduled.take() {
                (self.plan, self.seats) = (plan, seats);
                if PLANS[plan].every != PLANS[before].every {
                    self.starts = starts(client, start, PLANS[plan].every);
                }
            }
            self.begin(start);
        }
    }

    /// A period begins, on the plan that it is on.
    fn begin(&mut self, start: i64) {
        let plan = &PLANS[self.plan];
        self.started = start;
        self.had = plan.credits * self.seats;
        self.had_paid = plan.paid * self.seats;
        self.left = plan
            .rollover
            .map_or(self.left, |cap| self.left.min(cap * 100));
        self.left += self.had * 100;
        self.granted += self.had * 100;
        self.paid += i64::try_from(money(self.had_paid)).expect("little money");
    }

    /// The difference for the time that is left, rounded up to hundredths, and the money half-even.
    fn difference(&mut self, now: i64, plan: &Plan, seats: i64) {
        let (left, whole) = (
            i128::from(self.next() - now),
            i128::from(self.next() - self.started),
        );
        let more = i128::from((plan.credits * seats - self.had).max(0)) * 100;
        let more_paid = money((plan.paid * seats - self.had_paid).max(0));
        let credits = (more * left + whole - 1) / whole;
        if credits == 0 {
            return;
        }
        let (mut paid, rest) = (more_paid * left / whole, more_paid * left % whole);
        if 2 * rest > whole || 2 * rest == whole && paid % 2 == 1 {
            paid += 1;
        }
        self.had = self.had.max(plan.credits * seats);
        self.had_paid = self.had_paid.max(plan.paid * seats);
        let credits = i64::try_from(credits).expect("few credits");
        self.left += credits;
        self.granted += credits;
        self.paid += i64::try_from(paid).expect("little money");
    }
}

/// The starts of periods after one that is counted from.
fn starts(client: &mut Client, from: i64, every: &str) -> Vec<i64> {
    let sql = format!(
        "SELECT extract(epoch FROM (to_timestamp({from}) AT TIME ZONE 'UTC' + n * interval '{every}') AT TIME ZONE 'UTC')::bigint
         FROM generate_series(1, 60) n"
    );
    let starts = values(client, &sql);
    starts
        .iter()
        .map(|at| at.parse().expect("seconds"))
        .collect()
}

#[test]
fn a_year_of_changes() {
    let setting = |name: &str, default: u64| {
        let text = std::env::var(name).ok();
        text.map_or(default, |text| text.parse().expect("a number"))
    };
    let database = Database::new("change_year");
    let client = &mut database.connect();
    let mut random = StdRng::seed_from_u64(setting("CREDYT_SEED", 1));
    clock(client, "2100-01-01Z");
    for plan in &PLANS {
        let rollover = plan
            .rollover
            .map_or("NULL".to_owned(), |cap| cap.to_string());
        rows(
            client,
            &format!(
                "SELECT credyt.create_plan('{}', {}, '{}', paid => {}, rollover => {rollover})",
                plan.name, plan.credits, plan.every, plan.paid
            ),
        );
    }
    let mut customers = Vec::new();
    for n in 0..setting("CREDYT_CUSTOMERS", 60) {
        let plan = random.random_range(0..PLANS.len());
        let seats = random.random_range(1..4);
        let start = FIRST_DAY + random.random_range(0..DAY);
        rows(
            client,
            &format!(
                "UPDATE credyt.clock SET now = to_timestamp({start});
                 SELECT credyt.subscribe('c{n}', '{}', quantity => {seats})",
                PLANS[plan].name
            ),
        );
        let mut customer = Customer {
            plan,
            seats,
            scheduled: None,
            starts: starts(client, start, PLANS[plan].every),
            started: start,
            had: 0,
            had_paid: 0,
            left: 0,
            granted: 0,
            paid: 0,
        };
        customer.begin(start);
        customers.push(customer);
    }
    for day in 1..366 {
        for (n, customer) in customers.iter_mut().enumerate() {
            if !random.random_ratio(1, 8) {
                continue;
            }
            let now = FIRST_DAY + day * DAY + random.random_range(0..DAY);
            rows(
                client,
                &format!("UPDATE credyt.clock SET now = to_timestamp({now})"),
            );
            customer.pass_to(now, client);
            if random.random_ratio(1, 3) {
                let spent = random.random_range(0..=customer.left);
                customer.left -= spent;
                rows(
                    client,
                    &format!(
                        "SELECT credyt.debit_credits('c{n}', 'image', credits => {spent} / 100.0)"
                    ),
                );
                continue;
            }
            let to = random.random_range(0..PLANS.len());
            let seats = random.random_range(1..5);
            let proration = ["difference", "restart", "none"][random.random_range(0..3)];
            let at = if random.random_ratio(1, 3) {
                "renewal"
            } else {
                "now"
            };
            let (old, new) = (&PLANS[customer.plan], &PLANS[to]);
            let sql = format!(
                "SELECT credyt.change_plan('c{n}', '{}', '{}', {seats}, '{at}', '{proration}')",
                old.name, new.name
            );
            let stays = (to, seats) == (customer.plan, customer.seats);
            if at == "now" && !stays && proration == "difference" && old.every != new.every {
                assert_eq!(
                    attempt(client, &sql).expect_err("no difference").code,
                    "22023"
                );
                continue;
            }
            rows(client, &sql);
            if at == "renewal" {
                customer.scheduled = (!stays).then_some((to, seats));
                continue;
            }
            customer.scheduled = None;
            if stays {
                continue;
            }
            match proration {
                "difference" => customer.difference(now, new, seats),
                "restart" => {
                    customer.starts = starts(client, now, new.every);
                    // Other seats of one plan roll over as that period was granted: the terms are the same.
                    (customer.plan, customer.seats) = (to, seats);
                    customer.begin(now);
                }
                _ => {
                    // Months that become days, or days months, count from the next start.
                    let unit = |plan: &Plan| plan.every.contains("month");
                    let next = customer.next();
                    if old.every != new.every {
                        let later = starts(client, next, new.every);
                        let same_unit = unit(old) == unit(new);
                        assert!(!same_unit || !unit(new), "no two plans of months");
                        customer.starts = std::iter::once(next).chain(later).collect();
                    }
                }
            }
            (customer.plan, customer.seats) = (to, seats);
        }
        let now = FIRST_DAY + (day + 1) * DAY;
        if day % 5 > 0 {
            continue;
        }
        rows(
            client,
            &format!("UPDATE credyt.clock SET now = to_timestamp({now})"),
        );
        for (n, customer) in customers.iter_mut().enumerate() {
            customer.pass_to(now, client);
            let sql = format!(
                "SELECT (settled * 100)::bigint, (available * 100)::bigint FROM credyt.balance('c{n}')"
            );
            let found = value(client, &sql);
            let left = customer.left;
            assert_eq!(found, format!("{left} {left}"), "c{n} on day {day}");
            let sql = format!(
                "SELECT s.plan, s.quantity, r.plan, r.credits FROM credyt.subscriptions s
                 JOIN credyt.renewals r USING (customer) WHERE customer = 'c{n}'"
            );
            let (next, seats) = customer
                .scheduled
                .unwrap_or((customer.plan, customer.seats));
            let (plan, next) = (&PLANS[customer.plan], &PLANS[next]);
            let expected = format!(
                "{} {} {} {}",
                plan.name,
                customer.seats,
                next.name,
                next.credits * seats
            );
            assert_eq!(value(client, &sql), expected, "c{n} on day {day}");
        }
    }
    // Book everything: what was issued and paid is the model's, and every cent is earned, lost or deferred.
    for (n, customer) in customers.iter().enumerate() {
        rows(
            client,
            &format!("SELECT credyt.debit_credits('c{n}', 'image', credits => 0)"),
        );
        let sql = format!(
            "SELECT sum(credits) * 100 = {}, sum(paid) * 1e10 = {} FROM credyt.grants
             WHERE customer = 'c{n}' AND origin IS NULL",
            customer.granted, customer.paid
        );
        assert_eq!(value(client, &sql), "t t", "c{n}");
    }
    let books = "SELECT opening + billed - earned - breakage - returned = closing, billed = (SELECT sum(paid) FROM credyt.grants WHERE origin IS NULL),
                     closing = (SELECT sum(revenue) FROM credyt.deferred_revenue)
                 FROM credyt.revenue_rollforward(NULL, NULL)";
    assert_eq!(value(client, books), "t t t");
    assert_eq!(database.broken_invariants(), [""; 0]);
}

/// What all wallets have, booked or not.
const ALL: &str =
    "SELECT customer, settled, held, available, owed FROM credyt.wallet_balances ORDER BY 1";

#[test]
fn a_life_of_changes_keeps_every_invariant() {
    let database = Database::new("change_life");
    let client = &mut database.connect();
    let mut random = StdRng::seed_from_u64(5);
    clock(client, "2100-01-30Z");
    rows(
        client,
        "SELECT credyt.create_plan('a', 100, paid => 9.99, rollover => NULL, rollover_percent => 50),
                credyt.create_plan('b', 333, paid => 29.99, rollover => 200, rollover_periods => 1),
                credyt.create_plan('c', 70, '1 week', paid => 3.3333333333, rollover => 30, applies_to => '{image}'),
                credyt.create_plan('d', 5, '12 hours', rollover => NULL, priority => 50);
         SELECT credyt.open_wallet('c' || n, overdraft_limit => n % 3 * 100) FROM generate_series(0, 19) n",
    );
    let (mut changed, mut now) = (0, FIRST_DAY + 29 * DAY);
    for step in 0..2500 {
        now += random.random_range(0..4 * 3600);
        rows(
            client,
            &format!("UPDATE credyt.clock SET now = to_timestamp({now})"),
        );
        let n = random.random_range(0..20);
        let plan = ["a", "b", "c", "d"][random.random_range(0..4)];
        let to = ["a", "b", "c", "d"][random.random_range(0..4)];
        let credits = random.random_range(1..150);
        let later = now + random.random_range(1..40) * DAY;
        let last = |kind: &str| {
            format!(
                "(SELECT id FROM credyt.ledger WHERE customer = 'c{n}' AND kind = '{kind}' ORDER BY seq DESC LIMIT 1)"
            )
        };
        let open = format!(
            "(SELECT id FROM credyt.authorizations WHERE customer = 'c{n}' AND status = 'open' ORDER BY id LIMIT 1)"
        );
        let call = match random.random_range(0..16) {
            0 | 1 => format!(
                "subscribe('c{n}', '{plan}', quantity => {})",
                credits % 3 + 1
            ),
            2 => format!(
                "subscribe('c{n}', '{plan}', paid_through => to_timestamp({later}), timezone => 'Europe/Berlin', quantity => 2)"
            ),
            3..=6 => format!(
                "change_plan('c{n}', s.plan, '{to}', {}, '{}', '{}') FROM credyt.subscriptions s
                 WHERE s.customer = 'c{n}' AND status <> 'ended' LIMIT 1",
                credits % 4 + 1,
                ["now", "now", "renewal"][random.random_range(0..3)],
                ["difference", "restart", "none"][random.random_range(0..3)]
            ),
            7 => format!("pay_subscription('c{n}', '{plan}', to_timestamp({later}))"),
            8 => format!("unsubscribe('c{n}', '{plan}', to_timestamp({later}))"),
            9 => format!("authorize('c{n}', 'image', credits => {credits}, ttl_seconds => 500000)"),
            10 => format!(
                "capture('c{n}', {open}, credits => {credits}, keep_open => {})",
                step % 2 == 0
            ),
            11 => format!("release('c{n}', {open})"),
            12 => format!("refund('c{n}', {}, 1)", last("debit")),
            13 => format!("transfer('c{n}', 'c{}', 7)", (n + 1) % 20),
            14 => format!(
                "revoke_grant('c{n}', (SELECT refers_to FROM credyt.ledger WHERE id = {}), spent => 'owe')",
                last("grant")
            ),
            _ => format!("debit_credits('c{n}', 'image', credits => {credits})"),
        };
        match attempt(client, &format!("SELECT credyt.{call}")) {
            Ok(rows) => changed += usize::from(call.starts_with("change_plan") && !rows.is_empty()),
            Err(refused) => assert!(
                !["XX000", "XX001", "22000"].contains(&&*refused.code),
                "step {step}: {call}: {refused:?}"
            ),
        }
        if step % 250 == 249 {
            let ahead = now + 45 * DAY;
            let reads = format!(
                "SELECT n, b.settled, b.available FROM generate_series(0, 19) n, credyt.balance('c' || n, at => to_timestamp({ahead})) b ORDER BY 1"
            );
            let (seen, ahead) = (values(client, ALL), values(client, &reads));
            rows(
                client,
                "SELECT credyt.open_wallet('c' || n) FROM generate_series(0, 19) n",
            );
            assert_eq!(values(client, ALL), seen, "step {step}");
            assert_eq!(values(client, &reads), ahead, "step {step}");
            assert_eq!(database.broken_invariants(), [""; 0], "step {step}");
        }
    }
    assert!(changed > 200, "{changed} changes");
}
