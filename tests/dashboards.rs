//! Every panel of the dashboard shows what a program of its own adds up from the calls it made: for each asset, for the
//! whole time and for a part of it that begins and ends within a day, read by a role that may do what
//! dashboards/README.md grants and nothing else.

mod support;

#[path = "../examples/common/mod.rs"]
mod common;
#[path = "../examples/report/dashboard.rs"]
mod dashboard;
#[path = "../examples/report/page.rs"]
mod page;
#[path = "../examples/common/plot.rs"]
mod plot;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use dashboard::{Context, Dashboard, Kind, Panel, Table};
use jiff::{Span, Timestamp, tz::TimeZone};
use postgres::Client;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rust_decimal::{Decimal, RoundingStrategy};
use support::sql::{Database, clock, quoted, rows, value};

const DASHBOARD: &str = include_str!("../dashboards/credits_and_margin.json");
const README: &str = include_str!("../dashboards/README.md");

/// The first day, midnight in UTC; the last one; and when the holds and the reports are made.
const FIRST: &str = "2026-03-01T00:00:00Z";
const DAYS: i64 = 12;
const NOW: &str = "2026-03-13T09:30:00Z";
const RANGES: [(&str, &str); 2] = [
    ("2026-02-20T00:00:00Z", "2026-03-20T00:00:00Z"),
    ("2026-03-04T13:37:00.25Z", "2026-03-10T05:59:59.999Z"),
];

/// Actions, credits per unit.
const ACTIONS: [(&str, Decimal); 5] = [
    ("chat", cents(50)),
    ("image's", cents(400)),
    ("video.second", cents(200)),
    ("summary", cents(25)),
    ("gift", cents(10)),
];

/// Hundredths.
const fn cents(number: u32) -> Decimal {
    Decimal::from_parts(number, 0, 0, false, 2)
}

struct Asset {
    name: &'static str,
    scale: u32,
    currency: &'static str,
    zone: &'static str,
    /// Vendor, model, money per unit.
    models: [(&'static str, &'static str, Decimal); 3],
}

const ASSETS: [Asset; 2] = [
    Asset {
        name: "credits",
        scale: 2,
        currency: "USD",
        zone: "UTC",
        models: [
            ("acme", "large", cents(3)),
            ("acme", "small", cents(1)),
            ("zeta", "voice", cents(5)),
        ],
    },
    Asset {
        name: "to'kens",
        scale: 4,
        currency: "EUR",
        zone: "Asia/Tokyo",
        models: [
            ("euro ml", "grand", cents(2)),
            ("euro ml", "petit", cents(1)),
            ("zeta", "stimme", cents(4)),
        ],
    },
];

/// What the program knows from its own calls. Grants pay a fixed price per credit, so nothing is ever rounded.
#[derive(Default)]
struct Own {
    wallets: BTreeMap<(usize, String), Vec<Grant>>,
    facts: Vec<Fact>,
    breakage: BTreeMap<(usize, &'static str), (Decimal, Decimal)>,
    holds: Vec<Hold>,
    uncosted: Vec<Uncosted>,
}

#[derive(Clone)]
struct Grant {
    kind: &'static str,
    remaining: Decimal,
    each: Decimal,
    ends: Option<Timestamp>,
}

/// A debit or a refund.
#[derive(Clone)]
struct Fact {
    asset: usize,
    customer: String,
    action: &'static str,
    at: Timestamp,
    debits: i64,
    costed: i64,
    quantity: Decimal,
    lines: Vec<Line>,
    /// What each grant gave.
    paid: Vec<(usize, Decimal)>,
}

#[derive(Clone)]
struct Line {
    model: Option<(&'static str, &'static str)>,
    credits: Decimal,
    revenue: Decimal,
    cost: Option<Decimal>,
}

struct Hold {
    asset: usize,
    customer: String,
    action: &'static str,
    credits: Decimal,
    captured: Decimal,
    ends: Timestamp,
}

struct Uncosted {
    vendor: &'static str,
    model: &'static str,
    customer: String,
    at: Timestamp,
}

/// What is known of the vendor's bill.
enum Bill {
    Unknown,
    Given(Decimal),
    /// Of which models how many units were used.
    Used(Vec<((&'static str, &'static str, Decimal), i64)>),
    /// Used was a model that has no rate.
    NoRate(&'static str, &'static str),
}

#[derive(Clone, Default, Debug)]
struct Sums {
    debits: i64,
    costed: i64,
    quantity: Decimal,
    credits: Decimal,
    revenue: Decimal,
    cost: Option<Decimal>,
}

impl Sums {
    fn margin(&self) -> Decimal {
        self.revenue - self.cost.unwrap_or_default()
    }

    fn ratio(&self) -> Option<Decimal> {
        self.margin().checked_div(self.revenue)
    }

    fn coverage(&self) -> Option<Decimal> {
        Decimal::from(self.costed).checked_div(Decimal::from(self.debits))
    }

    /// revenue, cost, margin
    fn money(&self) -> Vec<String> {
        vec![show(self.revenue), or_dash(self.cost), show(self.margin())]
    }

    /// The columns of the tables of margin, after their key.
    fn all(&self) -> Vec<String> {
        let mut cells = vec![self.debits.to_string(), show(self.credits)];
        cells.extend(self.money());
        cells.extend([or_dash(self.ratio()), or_dash(self.coverage())]);
        cells
    }
}

/// Ratios do not end; ten decimals of them are compared.
fn show(number: Decimal) -> String {
    number.round_dp(10).normalize().to_string()
}

fn or_dash(number: Option<Decimal>) -> String {
    number.map_or("-".into(), show)
}

fn moment(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

/// As Postgres prints it in UTC.
fn printed(moment: Timestamp) -> String {
    moment.strftime("%F %T+00").to_string()
}

impl Own {
    fn wallet(&mut self, asset: usize, customer: &str) -> &mut Vec<Grant> {
        self.wallets
            .entry((asset, customer.to_owned()))
            .or_default()
    }

    fn available(&self, asset: usize, customer: &str) -> Decimal {
        let grants = self.wallets.get(&(asset, customer.to_owned()));
        grants
            .into_iter()
            .flatten()
            .map(|grant| grant.remaining)
            .sum()
    }

    /// What has ended by now is breakage.
    fn expire(&mut self, now: Timestamp) {
        for ((asset, _), grants) in &mut self.wallets {
            for grant in grants.iter_mut() {
                if grant.ends.is_some_and(|ends| ends <= now) && !grant.remaining.is_zero() {
                    let lost = self.breakage.entry((*asset, grant.kind)).or_default();
                    lost.0 += grant.remaining;
                    lost.1 += grant.remaining * grant.each;
                    grant.remaining = Decimal::ZERO;
                }
            }
        }
    }

    /// Takes credits in burn order: what ends first, then promotional, included, purchased.
    fn burn(
        &mut self,
        asset: usize,
        customer: &str,
        mut credits: Decimal,
    ) -> (Decimal, Vec<(usize, Decimal)>) {
        let grants = self.wallet(asset, customer);
        let mut order: Vec<usize> = (0..grants.len()).collect();
        let rank = |kind| {
            ["promotional", "included", "purchased"]
                .iter()
                .position(|one| *one == kind)
        };
        order.sort_by_key(|at| {
            let grant = &grants[*at];
            (grant.ends.is_none(), grant.ends, rank(grant.kind), *at)
        });
        let (mut revenue, mut paid) = (Decimal::ZERO, Vec::new());
        for at in order {
            let taken = credits.min(grants[at].remaining);
            if !taken.is_zero() {
                grants[at].remaining -= taken;
                credits -= taken;
                revenue += taken * grants[at].each;
                paid.push((at, taken));
            }
        }
        assert!(credits.is_zero(), "{customer} has too little");
        (revenue, paid)
    }

    /// Sums of the facts of an asset by a key, those within [from, to). A fact counts once under each of its keys.
    fn by<K: Ord + Clone>(
        &self,
        asset: usize,
        range: (&str, &str),
        key: impl Fn(&Fact, &Line) -> K,
    ) -> BTreeMap<K, Sums> {
        let (from, to) = (moment(range.0), moment(range.1));
        let mut all: BTreeMap<K, Sums> = BTreeMap::new();
        let facts = self.facts.iter().filter(|fact| fact.asset == asset);
        for fact in facts.filter(|fact| from <= fact.at && fact.at < to) {
            let mut counted = BTreeSet::new();
            for line in &fact.lines {
                let key = key(fact, line);
                let sums = all.entry(key.clone()).or_default();
                if counted.insert(key) {
                    sums.debits += fact.debits;
                    sums.costed += fact.costed;
                    sums.quantity += fact.quantity;
                }
                sums.credits += line.credits;
                sums.revenue += line.revenue;
                if let Some(cost) = line.cost {
                    *sums.cost.get_or_insert_default() += cost;
                }
            }
        }
        all
    }
}

/// The calls, and beside each what it has to have done.
struct Shop<'a> {
    client: &'a mut Client,
    own: Own,
    now: Timestamp,
    debits: Vec<(usize, String)>,
}

impl Shop<'_> {
    fn set_up(&mut self) {
        clock(self.client, FIRST);
        for asset in &ASSETS {
            let name = quoted(asset.name);
            let create = format!(
                "SELECT credyt.create_asset({name}, {}, currency => '{}', timezone => '{}')",
                asset.scale, asset.currency, asset.zone
            );
            rows(self.client, &create);
            for (action, price) in ACTIONS {
                let price = format!(
                    "SELECT credyt.set_price({}, '{price}', asset => {name})",
                    quoted(action)
                );
                rows(self.client, &price);
            }
            for (vendor, model, each) in asset.models {
                let rate = format!(
                    r#"SELECT credyt.set_vendor_rate('{vendor}', '{model}', '{{"unit": "{each}", "currency": "{}"}}')"#,
                    asset.currency
                );
                rows(self.client, &rate);
            }
        }
    }

    fn at(&mut self, now: Timestamp) {
        self.now = now;
        clock(self.client, now);
        self.own.expire(now);
    }

    fn grant(
        &mut self,
        asset: usize,
        customer: &str,
        kind: &'static str,
        credits: Decimal,
        each: Decimal,
        days: Option<i64>,
    ) {
        let ends = days.map(|days| moment(FIRST) + Span::new().hours(24 * days + 20));
        let sql = format!(
            "SELECT credyt.grant_credits('{customer}', {credits}, '{kind}', {}, paid => {}, expires_at => {})",
            quoted(ASSETS[asset].name),
            credits * each,
            ends.map_or("NULL".into(), |ends| format!("'{ends}'"))
        );
        rows(self.client, &sql);
        self.own.wallet(asset, customer).push(Grant {
            kind,
            remaining: credits,
            each,
            ends,
        });
    }

    /// A debit, or a hold of more and its capture, if the wallet can pay.
    fn spend(
        &mut self,
        asset: usize,
        customer: &str,
        (action, price): (&'static str, Decimal),
        units: i64,
        bill: Bill,
        held: bool,
    ) {
        let quantity = Decimal::from(units);
        let credits = quantity * price;
        if self.own.available(asset, customer) < credits + if held { price } else { Decimal::ZERO }
        {
            return;
        }
        let (name, action_text) = (quoted(ASSETS[asset].name), quoted(action));
        let bill_text = match &bill {
            Bill::Unknown => String::new(),
            Bill::Given(cost) => format!(", cost => {cost}"),
            Bill::Used(used) => {
                let parts = used
                    .iter()
                    .map(|((vendor, model, _), units)| usage(vendor, model, *units));
                let parts: Vec<String> = parts.collect();
                let parts = if let [one] = &parts[..] {
                    one.clone()
                } else {
                    format!("[{}]", parts.join(","))
                };
                format!(", usage => '{parts}'")
            }
            Bill::NoRate(vendor, model) => format!(", usage => '{}'", usage(vendor, model, 7)),
        };
        let sql = if held {
            let hold = format!(
                "SELECT id FROM credyt.authorize('{customer}', {action_text}, {}, asset => {name})",
                units + 1
            );
            let hold = value(self.client, &hold);
            format!(
                "SELECT id, credits FROM credyt.capture('{customer}', '{hold}', {units}{bill_text})"
            )
        } else {
            format!(
                "SELECT id, credits FROM credyt.debit_credits('{customer}', {action_text}, {units}, asset => {name}{bill_text})"
            )
        };
        let said = value(self.client, &sql);
        let (id, charged) = said.split_once(' ').expect("two");
        assert_eq!(
            charged.parse::<Decimal>().expect("a number"),
            credits,
            "{sql}"
        );

        let (revenue, paid) = self.own.burn(asset, customer, credits);
        let line = |model, share: Decimal, cost| Line {
            model,
            credits: credits * share,
            revenue: revenue * share,
            cost,
        };
        let lines = match &bill {
            Bill::Unknown => vec![line(None, Decimal::ONE, None)],
            Bill::Given(cost) => vec![line(None, Decimal::ONE, Some(*cost))],
            Bill::NoRate(vendor, model) => {
                self.own.uncosted.push(Uncosted {
                    vendor,
                    model,
                    customer: customer.into(),
                    at: self.now,
                });
                vec![line(Some((*vendor, *model)), Decimal::ONE, None)]
            }
            Bill::Used(used) => {
                let cost =
                    |(model, units): &((_, _, Decimal), i64)| model.2 * Decimal::from(*units);
                let whole: Decimal = used.iter().map(cost).sum();
                let each = used
                    .iter()
                    .map(|one| line(Some((one.0.0, one.0.1)), cost(one) / whole, Some(cost(one))));
                each.collect()
            }
        };
        let costed = lines.iter().all(|line| line.cost.is_some()).into();
        self.debits.push((self.own.facts.len(), id.into()));
        self.own.facts.push(Fact {
            asset,
            customer: customer.into(),
            action,
            at: self.now,
            debits: 1,
            costed,
            quantity,
            lines,
            paid,
        });
    }

    /// The whole of a debit, given back to the grants that paid it.
    fn refund(&mut self, nth: usize) {
        let (fact, id) = self.debits.swap_remove(nth);
        let fact = self.own.facts[fact].clone();
        let grants = self.own.wallet(fact.asset, &fact.customer);
        let over = |at: usize| grants[at].ends.is_some_and(|ends| ends <= self.now);
        if fact.paid.iter().any(|(at, _)| over(*at)) {
            return;
        }
        for (at, credits) in &fact.paid {
            grants[*at].remaining += credits;
        }
        rows(
            self.client,
            &format!("SELECT credyt.refund('{}', '{id}')", fact.customer),
        );
        let back = |line: &Line| Line {
            credits: -line.credits,
            revenue: -line.revenue,
            cost: None,
            ..line.clone()
        };
        self.own.facts.push(Fact {
            at: self.now,
            debits: 0,
            costed: 0,
            quantity: Decimal::ZERO,
            lines: fact.lines.iter().map(back).collect(),
            ..fact
        });
    }

    fn hold(
        &mut self,
        asset: usize,
        customer: &str,
        action: (&'static str, Decimal),
        units: i64,
        captured: i64,
        seconds: i64,
    ) {
        let sql = format!(
            "SELECT id FROM credyt.authorize('{customer}', {}, {units}, ttl_seconds => {seconds}, asset => {})",
            quoted(action.0),
            quoted(ASSETS[asset].name)
        );
        let id = value(self.client, &sql);
        assert_ne!(id, "-", "{customer} cannot hold {units}");
        let (credits, taken) = (
            action.1 * Decimal::from(units),
            action.1 * Decimal::from(captured),
        );
        self.own.holds.push(Hold {
            asset,
            customer: customer.into(),
            action: action.0,
            credits,
            captured: taken,
            ends: self.now + Span::new().seconds(seconds),
        });
        if captured > 0 {
            rows(
                self.client,
                &format!(
                    "SELECT credyt.capture('{customer}', '{id}', {captured}, cost => 0.02, keep_open => true)"
                ),
            );
            let (revenue, paid) = self.own.burn(asset, customer, taken);
            let line = Line {
                model: None,
                credits: taken,
                revenue,
                cost: Some(cents(2)),
            };
            self.own.facts.push(Fact {
                asset,
                customer: customer.into(),
                action: action.0,
                at: self.now,
                debits: 1,
                costed: 1,
                quantity: captured.into(),
                lines: vec![line],
                paid,
            });
        }
    }
}

fn usage(vendor: &str, model: &str, units: i64) -> String {
    format!(r#"{{"vendor": "{vendor}", "model": "{model}", "body": {{"unit": {units}}}}}"#)
}

/// Twelve days of a shop with two assets.
fn trade(client: &mut Client) -> Own {
    let mut random = StdRng::seed_from_u64(20260301);
    let mut shop = Shop {
        client,
        own: Own::default(),
        now: moment(FIRST),
        debits: Vec::new(),
    };
    shop.set_up();
    let customers: Vec<String> = (1..=24).map(|nth| format!("customer {nth:02}")).collect();
    for (nth, customer) in customers.iter().enumerate() {
        let asset = usize::from(nth % 4 == 3);
        shop.grant(
            asset,
            customer,
            "promotional",
            cents(2000),
            cents(0),
            Some(9 + nth as i64 % 3 * 8),
        );
        shop.grant(asset, customer, "included", cents(6000), cents(10), Some(5));
        shop.grant(asset, customer, "purchased", cents(15000), cents(20), None);
        shop.grant(
            asset,
            customer,
            "included",
            cents(4000),
            cents(15),
            Some(25 + nth as i64 % 5),
        );
    }
    for hour in 0..DAYS * 24 {
        let minute = random.random_range(0..60);
        shop.at(moment(FIRST) + Span::new().hours(hour).minutes(minute));
        for _ in 0..random.random_range(0..4) {
            let nth = random.random_range(0..customers.len());
            let (asset, customer) = (usize::from(nth % 4 == 3), &customers[nth]);
            if !shop.debits.is_empty() && random.random_ratio(1, 12) {
                let nth = random.random_range(0..shop.debits.len());
                shop.refund(nth);
                continue;
            }
            let action = *ACTIONS.choose(&mut random).expect("some");
            let units = random.random_range(1..=8);
            let models = ASSETS[asset].models;
            let bill = match (action.0, random.random_range(0..10)) {
                ("gift", _) => Bill::Given(cents(50)),
                (_, 0) => Bill::Unknown,
                (_, 1) => Bill::NoRate("acme", if units % 2 == 0 { "huge" } else { "odd" }),
                (_, 2..4) => Bill::Given(cents(1) * Decimal::from(units)),
                // The first and the second together: shares that end, of one third and two at most.
                (_, 4..6) if asset == 0 => Bill::Used(vec![(models[0], 2), (models[1], 2)]),
                _ => Bill::Used(vec![(models[random.random_range(0..3)], units)]),
            };
            let held = random.random_ratio(1, 4);
            shop.spend(asset, customer, action, units, bill, held);
        }
    }
    shop.at(moment(NOW));
    shop.hold(0, "customer 01", ACTIONS[1], 3, 0, 900);
    shop.hold(0, "customer 02", ACTIONS[1], 2, 0, 600);
    shop.hold(0, "customer 03", ACTIONS[2], 5, 2, 1200);
    shop.hold(1, "customer 04", ACTIONS[0], 6, 0, 300);
    shop.own
}

/// The rows that a panel has to show, in no order.
fn expected(own: &Own, panel: &Panel, asset: usize, range: (&str, &str)) -> Vec<Vec<String>> {
    let now = moment(NOW);
    let zone = TimeZone::get(ASSETS[asset].zone).expect("a time zone");
    let day = |at: Timestamp| at.to_zoned(zone.clone()).date().to_string();
    let action = |fact: &Fact, _: &Line| fact.action.to_owned();
    let customer = |fact: &Fact, _: &Line| fact.customer.clone();
    let rows = |key: Vec<String>, cells: Vec<String>| [key, cells].concat();
    let all_time = RANGES[0];
    let losing = || {
        let all = own.by(asset, all_time, action);
        all.into_iter()
            .filter(|(_, sums)| sums.margin() < Decimal::ZERO)
    };
    let break_even = |sums: &Sums| {
        let paid = sums.cost.unwrap_or_default() * sums.credits;
        let exact = paid.checked_div(sums.revenue * sums.quantity)?;
        Some(exact.round_dp_with_strategy(10, RoundingStrategy::AwayFromZero))
    };
    let mine = |(of, _): &(usize, String)| *of == asset;
    let grants = || {
        let wallets = own.wallets.iter().filter(|(key, _)| mine(key));
        wallets
            .flat_map(|((_, customer), grants)| grants.iter().map(move |grant| (customer, grant)))
    };
    let deferred = || {
        let mut kinds: BTreeMap<&str, (Decimal, Decimal)> = BTreeMap::new();
        for (_, grant) in grants().filter(|(_, grant)| !grant.remaining.is_zero()) {
            let sums = kinds.entry(grant.kind).or_default();
            sums.0 += grant.remaining;
            sums.1 += grant.remaining * grant.each;
        }
        kinds
    };
    let breakage = || own.breakage.iter().filter(|((of, _), _)| *of == asset);
    let uncosted = || {
        let (from, to) = (moment(range.0), moment(range.1));
        own.uncosted
            .iter()
            .filter(move |one| from <= one.at && one.at <= to)
    };
    let holds = || own.holds.iter().filter(|hold| hold.asset == asset);
    let one_table = |found: BTreeMap<String, Sums>| -> Vec<Vec<String>> {
        found
            .into_iter()
            .map(|(key, sums)| rows(vec![key], sums.all()))
            .collect()
    };
    let one_chart = |found: BTreeMap<String, Sums>| -> Vec<Vec<String>> {
        found
            .into_iter()
            .map(|(key, sums)| rows(vec![key], sums.money()))
            .collect()
    };

    match panel.title.split(" (").next().unwrap_or_default() {
        "What is left of what was earned?" => own
            .by(asset, range, |_, _| ())
            .values()
            .map(|sums| {
                rows(
                    sums.money(),
                    vec![or_dash(sums.ratio()), or_dash(sums.coverage())],
                )
            })
            .collect(),
        "Do we earn more than we spend?" => {
            one_chart(own.by(asset, range, |fact, _| format!("{} 00:00:00", day(fact.at))))
        }
        "Day by day" => one_table(own.by(asset, range, |fact, _| day(fact.at))),
        "Which actions earn, and which lose?" => one_chart(own.by(asset, range, action)),
        "Margin by action" => one_table(own.by(asset, range, action)),
        "What is earned with each model, and what does it cost?" => {
            one_chart(own.by(asset, range, |_, line| {
                line.model.map_or("(not known)".into(), |(vendor, model)| {
                    format!("{vendor} {model}")
                })
            }))
        }
        "Margin by model" => own
            .by(asset, range, |_, line| {
                line.model.unwrap_or(("(not known)", ""))
            })
            .into_iter()
            .map(|((vendor, model), sums)| rows(vec![vendor.into(), model.into()], sums.all()))
            .collect(),
        "What do the largest customers bring?" => {
            let mut all: Vec<_> = own.by(asset, range, customer).into_iter().collect();
            all.sort_by_key(|(customer, sums)| (-sums.revenue, customer.clone()));
            all.truncate(15);
            one_chart(all.into_iter().collect())
        }
        "Which customers bring least?" => one_table(own.by(asset, range, customer)),
        "What would a losing action have to cost?" => losing()
            .map(|(action, sums)| {
                let charged = (sums.credits / sums.quantity)
                    .round_dp_with_strategy(4, RoundingStrategy::MidpointAwayFromZero);
                let half_up = RoundingStrategy::MidpointAwayFromZero;
                let even = break_even(&sums).map(|even| even.round_dp_with_strategy(4, half_up));
                vec![action, show(charged), or_dash(even)]
            })
            .collect(),
        "Negative margin" => losing()
            .map(|(action, sums)| {
                let key = vec![action, sums.debits.to_string(), show(sums.quantity)];
                rows(
                    key,
                    [sums.money(), vec![or_dash(break_even(&sums))]].concat(),
                )
            })
            .collect(),
        "Whose cost is not known?" => {
            let mut models: BTreeMap<_, usize> = BTreeMap::new();
            for one in uncosted() {
                *models
                    .entry(format!("{} {}", one.vendor, one.model))
                    .or_default() += 1;
            }
            models
                .into_iter()
                .map(|(model, count)| vec![model, count.to_string()])
                .collect()
        }
        "Uncosted usage" => {
            let mut models: BTreeMap<_, Vec<&Uncosted>> = BTreeMap::new();
            for one in uncosted() {
                models.entry((one.vendor, one.model)).or_default().push(one);
            }
            let row = |((vendor, model), all): ((&str, &str), Vec<&Uncosted>)| {
                let customers: BTreeSet<&str> =
                    all.iter().map(|one| one.customer.as_str()).collect();
                let since = all.iter().map(|one| one.at).min();
                vec![
                    vendor.to_owned(),
                    model.to_owned(),
                    format!("model_unknown: no rate is known for model {model} of {vendor}"),
                    all.len().to_string(),
                    customers.len().to_string(),
                    printed(since.expect("one")),
                ]
            };
            models.into_iter().map(row).collect()
        }
        "How fast do credits burn?" => own
            .by(asset, range, |fact, _| {
                (format!("{} 00:00:00", day(fact.at)), fact.action.to_owned())
            })
            .into_iter()
            .filter(|(_, sums)| !sums.credits.is_zero())
            .map(|((day, action), sums)| vec![day, action, show(sums.credits)])
            .collect(),
        "Whose credits run out first?" => {
            let week = now - Span::new().hours(7 * 24);
            let spent = own.by(asset, (&week.to_string(), all_time.1), customer);
            let left = own
                .wallets
                .keys()
                .filter(|key| mine(key))
                .filter_map(|(_, customer)| {
                    let credits =
                        Some(spent.get(customer)?.credits).filter(|net| *net > Decimal::ZERO)?;
                    let first = own
                        .facts
                        .iter()
                        .filter(|fact| &fact.customer == customer)
                        .map(|fact| fact.at)
                        .min()?;
                    let held: Decimal = holds()
                        .filter(|hold| &hold.customer == customer)
                        .map(|hold| hold.credits - hold.captured)
                        .sum();
                    let available = own.available(asset, customer) - held;
                    let seconds = Decimal::from(now.duration_since(first.max(week)).as_secs());
                    let day = Decimal::from(86_400);
                    let round = |number: Decimal, places| {
                        number
                            .round_dp_with_strategy(places, RoundingStrategy::MidpointAwayFromZero)
                    };
                    let burn = round(round(credits * day / seconds, 10), 2);
                    let days = round(round(available * seconds / (credits * day), 2), 1);
                    Some(vec![
                        customer.clone(),
                        show(available),
                        show(burn),
                        show(days),
                    ])
                });
            left.collect()
        }
        "What is paid for and not spent yet?" => deferred()
            .into_iter()
            .map(|(kind, (_, money))| vec![kind.into(), show(money)])
            .collect(),
        "Deferred revenue by kind" => deferred()
            .into_iter()
            .map(|(kind, (credits, money))| vec![kind.into(), show(credits), show(money)])
            .collect(),
        "What was paid for and never spent?" => breakage()
            .map(|((_, kind), (_, money))| vec![(*kind).into(), show(*money)])
            .collect(),
        "Breakage by kind" => breakage()
            .map(|((_, kind), (credits, money))| vec![(*kind).into(), show(*credits), show(*money)])
            .collect(),
        "Which credits will end unspent?" => {
            let mut days: BTreeMap<String, BTreeMap<&str, Decimal>> = BTreeMap::new();
            for (_, grant) in grants().filter(|(_, grant)| !grant.remaining.is_zero()) {
                if let Some(ends) = grant.ends {
                    *days
                        .entry(day(ends))
                        .or_default()
                        .entry(grant.kind)
                        .or_default() += grant.remaining;
                }
            }
            let row = |(day, kinds): (String, BTreeMap<&str, Decimal>)| {
                let of = |kind| or_dash(kinds.get(kind).copied());
                vec![day, of("included"), of("promotional"), of("purchased")]
            };
            days.into_iter().map(row).collect()
        }
        "Expiring grants" => grants()
            .filter(|(_, grant)| !grant.remaining.is_zero())
            .filter_map(|(customer, grant)| {
                Some(vec![
                    customer.clone(),
                    grant.kind.into(),
                    show(grant.remaining),
                    printed(grant.ends?),
                ])
            })
            .collect(),
        "What is held right now?" => {
            let mut actions: BTreeMap<&str, Decimal> = BTreeMap::new();
            for hold in holds() {
                *actions.entry(hold.action).or_default() += hold.credits - hold.captured;
            }
            actions
                .into_iter()
                .map(|(action, held)| vec![action.into(), show(held)])
                .collect()
        }
        "Open holds" => holds()
            .map(|hold| {
                vec![
                    hold.customer.clone(),
                    hold.action.into(),
                    show(hold.credits),
                    show(hold.captured),
                    printed(hold.ends),
                ]
            })
            .collect(),
        other => panic!("nobody has added up what {other:?} shows"),
    }
}

/// A table's rows in the way expectations are written.
fn found(table: &Table) -> Vec<Vec<String>> {
    let cell = |(kind, cell): (Kind, &Option<String>)| match (kind, cell) {
        (_, None) => "-".to_owned(),
        (Kind::Number, Some(text)) => show(Decimal::from_str_exact(text).expect("a number")),
        (_, Some(text)) => text.clone(),
    };
    let kinds = || table.columns.iter().map(|(_, kind)| *kind);
    table
        .rows
        .iter()
        .map(|row| kinds().zip(row).map(cell).collect())
        .collect()
}

fn sorted<T: Ord + Debug>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all
}

/// The statements that the README shows.
fn grants_of_the_readme() -> String {
    let blocks = README.split("```sql\n").skip(1);
    blocks
        .filter_map(|block| block.split("```").next())
        .collect()
}

#[test]
fn every_panel_shows_what_the_calls_add_up_to() {
    let database = Database::empty("dashboards");
    let mut client = database.connect();
    rows(&mut client, "CREATE EXTENSION credyt_pg");
    let own = trade(&mut client);
    let dashboard = Dashboard::parse(DASHBOARD).expect("a dashboard");

    rows(&mut client, "DROP ROLE IF EXISTS grafana");
    client
        .batch_execute(&grants_of_the_readme())
        .expect("the README's grants");
    rows(&mut client, "SET ROLE grafana");
    for (asset, of) in ASSETS.iter().enumerate() {
        for range in RANGES {
            let mut context = Context {
                from: range.0.into(),
                to: range.1.into(),
                ..Context::default()
            };
            context.values.insert("asset".into(), of.name.into());
            context
                .choose(&mut client, &dashboard)
                .expect("a value for each variable");
            assert_eq!(context.values["currency"], of.currency);
            for panel in &dashboard.panels {
                let Some(sql) = &panel.sql else { continue };
                let table = context
                    .ask(&mut client, sql)
                    .unwrap_or_else(|error| panic!("{}: {error}", panel.title));
                let (shown, own) = (
                    sorted(found(&table)),
                    sorted(expected(&own, panel, asset, range)),
                );
                assert_eq!(shown, own, "{}, {} {range:?}", panel.title, of.name);
                let anything = (asset, range) != (0, RANGES[0]) || !shown.is_empty();
                assert!(anything, "{}: nothing to compare", panel.title);
            }
            // Every panel can be drawn, and the page needs nothing else.
            let page = page::draw(&mut client, &dashboard, &context).expect("a page");
            assert_eq!(
                page.matches("<section").count(),
                dashboard
                    .panels
                    .iter()
                    .filter(|panel| panel.sql.is_some())
                    .count()
            );
            for outside in ["://", "<script", "<link", "@import", "url("] {
                assert!(!page.contains(outside), "the page has {outside}");
            }
            for color in ["fill=\"#", "stroke=\"#"]
                .map(|of| page.split(of).skip(1))
                .into_iter()
                .flatten()
            {
                let dark = format!("=\"#{}\"] {{", &color[..6]);
                assert!(
                    page.contains(&dark),
                    "no colour in the dark for #{}",
                    &color[..6]
                );
            }
        }
    }
    rows(&mut client, "RESET ROLE");
    rows(&mut client, "DROP OWNED BY grafana; DROP ROLE grafana");
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    let dashboard = Dashboard::parse(DASHBOARD).expect("a dashboard");
    let mut ids = BTreeSet::new();
    for panel in &dashboard.panels {
        let title = &panel.title;
        assert!(
            !title.is_empty() && ids.insert(panel.id),
            "{title}: id {}",
            panel.id
        );
        let Some(sql) = &panel.sql else {
            assert_eq!(panel.kind, "row");
            continue;
        };
        assert!(panel.description.ends_with('.'), "{title}: no description");
        assert!(!["", "none"].contains(&panel.unit("")), "{title}: no unit");
        assert!(
            ["barchart", "timeseries", "stat", "table"].contains(&panel.kind.as_str()),
            "{title}"
        );
        for place in ["/datasource/uid", "/targets/0/datasource/uid"] {
            let source = panel.json.pointer(place).and_then(|uid| uid.as_str());
            assert_eq!(source, Some("${datasource}"), "{title}");
        }
        let of_all_assets = sql.contains("uncosted_usage");
        assert!(
            of_all_assets || sql.contains("${asset:sqlstring}"),
            "{title}: of which asset?"
        );
    }
}

#[test]
fn variables_and_macros_expand_as_in_grafana() {
    let context = Context {
        from: "2026-03-01T00:00:00Z".into(),
        to: "2026-03-02T12:30:00.5Z".into(),
        values: BTreeMap::from([("asset".into(), "to'kens".into())]),
    };
    let expanded = |sql: &str| context.expand(sql).map_err(|error| error.to_string());
    assert_eq!(
        expanded(
            "a = '$asset' AND b = ${asset:sqlstring} AND $__timeFilter(c) AND d < $__timeTo()"
        )
        .as_deref(),
        Ok(
            "a = 'to''kens' AND b = 'to''kens' AND c BETWEEN '2026-03-01T00:00:00Z' AND '2026-03-02T12:30:00.5Z' AND d < '2026-03-02T12:30:00.5Z'"
        )
    );
    for wrong in [
        "$nothing",
        "${asset:csv}",
        "$__timeGroup(a, '1d')",
        "$__timeFrom",
    ] {
        assert!(expanded(wrong).is_err(), "{wrong}");
    }
}
