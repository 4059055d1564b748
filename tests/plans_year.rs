//! A year of customers on plans of all kinds, day by day, with a naive model beside it: every balance
//! is the model's every day, whether anything has been booked or not.
//!
//! `CREDYT_CUSTOMERS` says how many (1,000), `CREDYT_SEED` which year.

mod support;

use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::sql::{Database, attempt, clock, rows, value, values};

const ZONES: [&str; 3] = ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe"];
const EVERY: [&str; 7] = [
    "1 day", "1 week", "10 days", "1 month", "1 month", "3 months", "1 year",
];
/// Noon of the first day, in seconds since 1970: 1 January 2100.
const FIRST_DAY: i64 = 4_102_488_000;
const DAY: i64 = 86_400;

struct Plan {
    every: &'static str,
    /// From when on: credits, and what may roll over.
    versions: Vec<(i64, i64, Option<i64>)>,
}

impl Plan {
    /// A first period is on the newest version, a renewal on one that was there before it: who read the
    /// balance at that very moment has seen what it brings.
    fn at(&self, time: i64, renews: bool) -> (i64, Option<i64>) {
        let counts = |version: &&(i64, i64, Option<i64>)| {
            if renews {
                version.0 < time
            } else {
                version.0 <= time
            }
        };
        let newest = self.versions.iter().rfind(counts);
        let (_, credits, rollover) = newest
            .or(self.versions.first())
            .expect("there was a version");
        (*credits, *rollover)
    }
}

struct Subscription {
    plan: usize,
    /// As Postgres computes them.
    starts: Vec<i64>,
    next: usize,
    paid_through: Option<i64>,
    ends_at: Option<i64>,
    /// What is left of the period, and when that ends.
    left: i64,
    left_until: i64,
    rollover: Option<i64>,
    /// What may roll over once the next period is paid for.
    waiting: i64,
}

impl Subscription {
    fn renews_at(&self) -> Option<i64> {
        let start = self.starts[self.next];
        let before = |end: Option<i64>| end.is_none_or(|end| start < end);
        (before(self.paid_through) && before(self.ends_at)).then_some(start)
    }

    /// The period is over: what may roll over waits for a payment of the next one, if that is wanted.
    fn end_period(&mut self) {
        let start = self.starts[self.next];
        let unpaid = self.paid_through.is_some_and(|paid| paid <= start);
        if unpaid && self.ends_at.is_none_or(|end| end > start) {
            self.waiting = self.left.min(self.rollover.unwrap_or(i64::MAX));
        }
        self.left = 0;
    }

    /// Does it run then, or is that within a period that it grants before its end?
    fn lasts_at(&self, at: i64) -> bool {
        let Some(end) = self.ends_at.filter(|end| *end <= at) else {
            return true;
        };
        let grants = |start: i64| start < end && self.paid_through.is_none_or(|paid| start < paid);
        let mut next = self.next;
        while grants(self.starts[next]) {
            next += 1;
        }
        next > 0 && self.starts[next] > at
    }

    fn waits_until(&self) -> i64 {
        let until = self.starts[self.next + 1];
        self.ends_at.map_or(until, |end| end.min(until))
    }
}

#[derive(Default)]
struct Customer {
    subscriptions: Vec<Subscription>,
    /// Bought, without end.
    bought: i64,
    owed: i64,
    limit: i64,
    asleep: bool,
}

impl Customer {
    /// Lives through everything up to now.
    fn pass_to(&mut self, now: i64, plans: &[Plan]) {
        loop {
            let renewals = self.subscriptions.iter().enumerate();
            let renewals = renewals.filter_map(|(n, s)| Some((s.renews_at()?, 0, n)));
            let ends = self.subscriptions.iter().enumerate();
            let ends = ends.filter(|(_, s)| s.left > 0);
            let ends = ends.map(|(n, s)| (s.left_until, 1, n));
            let waits = self.subscriptions.iter().enumerate();
            let waits = waits.filter(|(_, s)| s.waiting > 0);
            let waits = waits.map(|(n, s)| (s.waits_until(), 2, n));
            let events = renewals.chain(ends).chain(waits);
            match events.min().filter(|event| event.0 <= now) {
                None => return,
                Some((_, 1, n)) => self.subscriptions[n].end_period(),
                Some((_, 2, n)) => self.subscriptions[n].waiting = 0,
                Some((at, _, n)) => {
                    let renewed = &mut self.subscriptions[n];
                    let (credits, rollover) = plans[renewed.plan].at(at, renewed.next > 0);
                    let over = renewed.left + std::mem::take(&mut renewed.waiting);
                    let over = over.min(renewed.rollover.unwrap_or(i64::MAX));
                    let pays = self.owed.min(credits + over);
                    self.owed -= pays;
                    renewed.left = over + credits - pays;
                    renewed.rollover = rollover;
                    renewed.next += 1;
                    renewed.left_until = renewed.starts[renewed.next];
                }
            }
        }
    }

    fn waiting(&self) -> i64 {
        self.subscriptions.iter().map(|s| s.waiting).sum()
    }

    fn there(&self) -> i64 {
        self.bought + self.subscriptions.iter().map(|s| s.left).sum::<i64>()
    }

    fn available(&self) -> i64 {
        self.there() + (self.limit - self.owed).max(0)
    }

    /// The plan that ends first pays first, then what was bought, then the overdraft.
    fn spend(&mut self, credits: i64) -> bool {
        if credits > self.available() {
            return false;
        }
        let mut rest = credits;
        let mut order: Vec<&mut Subscription> = self.subscriptions.iter_mut().collect();
        order.sort_by_key(|s| s.left_until);
        for subscription in order {
            let pays = rest.min(subscription.left);
            subscription.left -= pays;
            rest -= pays;
        }
        let pays = rest.min(self.bought);
        self.bought -= pays;
        self.owed += rest - pays;
        true
    }

    /// The subscription that runs.
    fn running(&mut self, now: i64) -> Option<&mut Subscription> {
        let last = self.subscriptions.last_mut();
        last.filter(|s| s.ends_at.is_none_or(|end| end > now))
    }
}

fn time(seconds: i64) -> String {
    format!("to_timestamp({seconds})")
}

fn time_or_null(seconds: Option<i64>) -> String {
    seconds.map_or("NULL".to_owned(), time)
}

struct Year {
    client: Client,
    random: StdRng,
    plans: Vec<Plan>,
    customers: Vec<Customer>,
    now: i64,
}

impl Year {
    fn create_plan(&mut self, nth: usize) {
        let credits = if self.random.random_ratio(1, 10) {
            0
        } else {
            self.random.random_range(1..500)
        };
        let rollover = match self.random.random_range(0..3) {
            0 => None,
            1 => Some(0),
            _ => Some(self.random.random_range(1..300)),
        };
        let cap = rollover.map_or("NULL".to_owned(), |cap: i64| cap.to_string());
        let paid = if credits == 0 { 0 } else { 7 };
        let every = EVERY[nth % EVERY.len()];
        rows(
            &mut self.client,
            &format!(
                "SELECT credyt.create_plan('plan {nth}', {credits}, '{every}', paid => {paid}, rollover => {cap})"
            ),
        );
        if nth == self.plans.len() {
            self.plans.push(Plan {
                every,
                versions: Vec::new(),
            });
        }
        self.plans[nth].versions.push((self.now, credits, rollover));
    }

    fn act(&mut self, n: usize) {
        let (now, name) = (self.now, format!("c{n:05}"));
        self.customers[n].pass_to(now, &self.plans);
        let dice = self.random.random_range(0..100);
        let customer = &mut self.customers[n];
        match customer.running(now) {
            None if dice < 60 => self.subscribe(n, &name),
            Some(running) if dice < 6 => {
                let at = (dice < 3).then(|| now + self.random.random_range(1..40) * DAY);
                running.ends_at = Some(at.unwrap_or(now));
                let at = time_or_null(at);
                let plan = running.plan;
                let sql = format!("SELECT credyt.unsubscribe('{name}', 'plan {plan}', {at})");
                rows(&mut self.client, &sql);
                // Changes the plan, or leaves.
                if dice == 5 {
                    self.subscribe(n, &name);
                }
            }
            Some(running) if dice < 25 && running.paid_through.is_some() => {
                let through = now + self.random.random_range(-30..100) * DAY;
                running.paid_through = running.paid_through.max(Some(through));
                let sql = format!(
                    "SELECT credyt.pay_subscription('{name}', 'plan {}', {})",
                    running.plan,
                    time(through)
                );
                customer.pass_to(now, &self.plans);
                rows(&mut self.client, &sql);
            }
            _ if dice < 35 => {
                let bought = self.random.random_range(1..100);
                let pays = customer.owed.min(bought);
                customer.owed -= pays;
                customer.bought += bought - pays;
                let sql = format!("SELECT credyt.grant_credits('{name}', {bought}, paid => 1)");
                rows(&mut self.client, &sql);
            }
            _ if dice < 38 => {
                customer.limit = self.random.random_range(0..300);
                let sql = format!(
                    "SELECT credyt.open_wallet('{name}', overdraft_limit => {})",
                    customer.limit
                );
                rows(&mut self.client, &sql);
            }
            _ => {
                let most = customer.available() * 11 / 10 + 2;
                let credits = self.random.random_range(0..most);
                let paid = customer.spend(credits);
                let sql =
                    format!("SELECT credyt.debit_credits('{name}', 'image', credits => {credits})");
                match attempt(&mut self.client, &sql) {
                    Ok(_) => assert!(paid, "{sql}"),
                    Err(refused) => {
                        assert!(!paid, "{sql}: {refused:?}");
                        assert_eq!(refused.code, "WC001");
                    }
                }
            }
        }
    }

    fn subscribe(&mut self, n: usize, name: &str) {
        let now = self.now;
        let plan = loop {
            let plan = self.random.random_range(0..self.plans.len());
            let known = &self.customers[n].subscriptions;
            // An earlier subscription to it, so that unsubscribe and pay mean the last one.
            if known.iter().all(|s| s.plan != plan || s.ends_at.is_some()) {
                break plan;
            }
        };
        let every = self.plans[plan].every;
        let zone = ZONES[n % ZONES.len()];
        let later = self.random.random_ratio(1, 5);
        let starts_at = later.then(|| now + self.random.random_range(0..20) * DAY);
        let gate = self.random.random_ratio(2, 5);
        let paid_through = gate.then(|| now + self.random.random_range(-1..60) * DAY);
        let start = starts_at.unwrap_or(now);
        let starts = format!(
            "SELECT extract(epoch FROM ({} AT TIME ZONE '{zone}' + n * interval '{every}') AT TIME ZONE '{zone}')::bigint
             FROM generate_series(0, 400) n WHERE n <= 2 + 400 * 86400 / extract(epoch FROM interval '{every}')",
            time(start)
        );
        let starts = values(&mut self.client, &starts);
        let sql = format!(
            "SELECT credyt.subscribe('{name}', 'plan {plan}', {}, {}, '{zone}')",
            time_or_null(starts_at),
            time_or_null(paid_through)
        );
        rows(&mut self.client, &sql);
        let customer = &mut self.customers[n];
        let mut known = customer.subscriptions.iter();
        // Who comes back within a period that was granted goes on as before.
        if let Some(place) = known.rposition(|s| s.plan == plan && s.lasts_at(start)) {
            let mut resumed = customer.subscriptions.remove(place);
            resumed.ends_at = None;
            customer.subscriptions.push(resumed);
            customer.pass_to(now, &self.plans);
            return;
        }
        customer.subscriptions.push(Subscription {
            plan,
            starts: starts.iter().map(|s| s.parse().expect("seconds")).collect(),
            next: 0,
            paid_through,
            ends_at: None,
            left: 0,
            left_until: 0,
            rollover: Some(0),
            waiting: 0,
        });
        customer.pass_to(now, &self.plans);
    }

    /// Every balance is the model's.
    fn compare(&mut self) {
        let now = self.now;
        let mut expected = Vec::new();
        for (n, customer) in self.customers.iter_mut().enumerate() {
            customer.pass_to(now, &self.plans);
            expected.push(format!(
                "c{n:05} {} {} {}",
                customer.there() + customer.waiting() - customer.owed,
                customer.available(),
                customer.owed
            ));
        }
        let sql = "SELECT customer, settled, available, owed FROM credyt.wallet_balances
                   WHERE settled <> 0 OR available <> 0 OR owed <> 0 ORDER BY 1";
        let expected: Vec<&String> = expected
            .iter()
            .filter(|line| !line.ends_with(" 0 0 0"))
            .collect();
        let found = values(&mut self.client, sql);
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, *expected, "day {}", (now - FIRST_DAY) / DAY);
        }
        assert_eq!(found.len(), expected.len());
    }

    /// The next renewals, too.
    fn compare_renewals(&mut self) {
        let mut expected = Vec::new();
        for (n, customer) in self.customers.iter_mut().enumerate() {
            customer.pass_to(self.now, &self.plans);
            for s in &customer.subscriptions {
                let next = s.starts[s.next];
                if s.ends_at.is_none_or(|end| next < end) {
                    let credits = self.plans[s.plan].versions.last().expect("a version").1;
                    expected.push(format!("c{n:05} plan {} {next} {credits}", s.plan));
                }
            }
        }
        let sql = "SELECT customer, plan, extract(epoch FROM next_renewal_at)::bigint, credits FROM credyt.renewals";
        let mut found = values(&mut self.client, sql);
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_year_on_plans() {
    let setting = |name: &str, default: u64| {
        let text = std::env::var(name).ok();
        text.map_or(default, |text| text.parse().expect("a number"))
    };
    let database = Database::new("year");
    let mut year = Year {
        client: database.connect(),
        random: StdRng::seed_from_u64(setting("CREDYT_SEED", 1)),
        plans: Vec::new(),
        customers: Vec::new(),
        now: FIRST_DAY,
    };
    let count = setting("CREDYT_CUSTOMERS", 1000) as usize;
    for n in 0..count {
        year.customers.push(Customer {
            asleep: n % 100 == 7,
            ..Customer::default()
        });
    }
    clock(&mut year.client, "2100-01-01 12:00Z");
    for nth in 0..2 * EVERY.len() {
        year.create_plan(nth);
    }
    let open = "SELECT count(credyt.open_wallet('c' || lpad(n::text, 5, '0'))) FROM generate_series(0, $n - 1) n";
    rows(&mut year.client, &open.replace("$n", &count.to_string()));
    for day in 0..366 {
        year.now = FIRST_DAY + day * DAY;
        let now = format!("UPDATE credyt.clock SET now = {}", time(year.now));
        rows(&mut year.client, &now);
        // Whatever the night has brought, before anyone comes.
        year.compare();
        if day % 30 == 17 {
            // A moment later: a period that starts with a version is on it, whoever has read before.
            year.now += 3600;
            let now = format!("UPDATE credyt.clock SET now = {}", time(year.now));
            rows(&mut year.client, &now);
            let nth = year.random.random_range(0..year.plans.len());
            year.create_plan(nth);
            year.compare_renewals();
        }
        for n in 0..count {
            let sleeps = year.customers[n].asleep && day % 365 > 0;
            let acts = day % 365 == 0 || year.random.random_ratio(1, 12);
            if acts && !sleeps {
                year.act(n);
            }
        }
        if day % 7 == 0 {
            year.compare();
        }
    }
    year.compare_renewals();
    let client = &mut year.client;
    let summary = value(
        client,
        "SELECT sum(n) || ' ledger rows: ' || string_agg(kind || ' ' || n, ', ' ORDER BY kind)
         FROM (SELECT kind, count(*) AS n FROM credyt.ledger GROUP BY kind) k",
    );
    println!("{summary}");
}
