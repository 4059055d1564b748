//! Every report of margin equals sums that are made outside of the database: for all 128 questions, over odd
//! periods and clock changes, before, while and after the rollups are kept, and with debits going on.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use num_bigint::BigInt;
use num_rational::BigRational;
use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use support::sql::{Database, attempt, clock, quoted, refusal, rows, value, values};

const DIMENSIONS: [&str; 7] = [
    "day", "action", "customer", "vendor", "model", "kind", "scope",
];
/// An offset with half an hour and midnights that happened twice; one with clock changes; a plain one.
const ZONES: [(&str, &str); 3] = [
    ("rocks", "America/St_Johns"),
    ("berlin", "Europe/Berlin"),
    ("tokens", "UTC"),
];

/// Around the minute after which St. John's set its clocks back by an hour, into the day before.
const TWICE: [&str; 9] = [
    "2010-11-06T02:30:00Z",
    "2010-11-07T02:29:59.999999Z",
    "2010-11-07T02:30:00Z",
    "2010-11-07T02:30:30Z",
    "2010-11-07T02:31:00Z",
    "2010-11-07T02:45:00Z",
    "2010-11-07T03:29:59Z",
    "2010-11-07T03:30:00Z",
    "2010-11-08T03:30:00Z",
];

type Number = BigRational;
type Text = Option<String>;

fn number(text: &str) -> Number {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: BigInt = format!("{whole}{fraction}").parse().expect("digits");
    Number::new(digits, BigInt::from(10).pow(fraction.len() as u32))
}

fn zero() -> Number {
    number("0")
}

/// An amount in units of 10^-12: what is summed, once every share is rounded.
type Units = i128;

fn units(text: &str) -> Units {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let kept = fraction.trim_end_matches('0');
    assert!(kept.len() <= 12, "{text}");
    format!("{whole}{kept:0<12}").parse().expect("digits")
}

fn rounded(number: &Number) -> Units {
    let units = number * Number::from(BigInt::from(10).pow(12));
    assert!(units.is_integer(), "{number}");
    units.to_integer().try_into().expect("small enough")
}

// ---- the model ------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Line {
    vendor: Text,
    model: Text,
    kind: Text,
    credits: Units,
    revenue: Units,
    cost: Option<Units>,
}

#[derive(Clone, Debug)]
struct Movement {
    asset: String,
    at: i64,
    day: String,
    action: Text,
    customer: String,
    scopes: BTreeSet<String>,
    debits: i64,
    costed: bool,
    quantity: Units,
    lines: Vec<Line>,
}

/// The parts of a total by weights, each end rounded at a number of decimals; equal ones without weights.
fn parts(total: &Number, weights: &[Number], decimals: u32) -> Vec<Number> {
    let sum: Number = weights.iter().sum();
    let equal = vec![number("1"); weights.len()];
    let (weights, sum) = if sum == zero() {
        (equal.as_slice(), number(&weights.len().to_string()))
    } else {
        (weights, sum)
    };
    let unit = Number::from(BigInt::from(10).pow(decimals));
    let (mut reached, mut given) = (zero(), zero());
    let mut parts = Vec::new();
    for weight in weights {
        reached += weight;
        // Halves away from zero.
        let until = (total * &reached / &sum * &unit).round() / &unit;
        parts.push(&until - &given);
        given = until;
    }
    parts
}

fn absolute(number: &Number) -> Number {
    if *number < zero() {
        -number
    } else {
        number.clone()
    }
}

fn text_of(value: &Value, name: &str) -> Text {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// A ledger row over the kinds that paid and the models behind it.
fn lines_of(
    row: &str,
    allocations: &Value,
    costs: Option<&Value>,
    cost: Option<&str>,
) -> Vec<Line> {
    let mut paid: Vec<(Text, Number, Number)> = Vec::new();
    for part in allocations.as_array().expect("a list") {
        let amount = |name| text_of(part, name).map_or(zero(), |text| number(&text));
        let (kind, credits, revenue) =
            (text_of(part, "kind"), amount("credits"), amount("revenue"));
        match row {
            "debit" => paid.push((kind, credits, revenue)),
            "refund" => paid.push((kind, -credits, -revenue)),
            "settlement" => {
                paid.push((kind, credits.clone(), revenue));
                paid.push((Some("overdraft".to_owned()), -credits, zero()));
            }
            "revocation" => paid.push((kind, zero(), -revenue)),
            other => panic!("{other}"),
        }
    }
    if paid.is_empty() {
        paid.push((None, zero(), zero()));
    }
    let mut spent: Vec<(Text, Text, Option<Number>, Number)> = Vec::new();
    match costs {
        None => spent.push((None, None, cost.map(number), zero())),
        Some(costs) => {
            for part in costs.as_array().expect("a list") {
                let cost = text_of(part, "cost").map(|text| number(&text));
                let weight = text_of(part, "weight").map(|text| number(&text));
                let weight = weight.or(cost.clone()).unwrap_or(zero());
                spent.push((
                    text_of(part, "vendor"),
                    text_of(part, "model"),
                    cost,
                    weight,
                ));
            }
        }
    }
    let by_credits: Vec<Number> = paid.iter().map(|paid| absolute(&paid.1)).collect();
    let by_cost: Vec<Number> = spent.iter().map(|spent| spent.3.clone()).collect();
    let costs: Vec<Option<Vec<Number>>> = spent
        .iter()
        .map(|spent| spent.2.as_ref().map(|cost| parts(cost, &by_credits, 12)))
        .collect();
    let mut lines = Vec::new();
    for (k, (kind, credits, revenue)) in paid.iter().enumerate() {
        let (credits, revenue) = (parts(credits, &by_cost, 10), parts(revenue, &by_cost, 10));
        for (m, (vendor, model, ..)) in spent.iter().enumerate() {
            lines.push(Line {
                vendor: vendor.clone(),
                model: model.clone(),
                kind: kind.clone(),
                credits: rounded(&credits[m]),
                revenue: rounded(&revenue[m]),
                cost: costs[m].as_ref().map(|costs| rounded(&costs[k])),
            });
        }
    }
    lines
}

/// The day of a moment where the asset is.
fn day_of(asset: &str, at: i64) -> String {
    let zone = ZONES.iter().find(|zone| zone.0 == asset).expect("a zone").1;
    let zone = TimeZone::get(zone).expect("a time zone");
    let at = Timestamp::from_microsecond(at).expect("a moment");
    at.to_zoned(zone).date().to_string()
}

/// All that counts, read from the facts.
fn movements(client: &mut Client) -> Vec<Movement> {
    let read =
        |text: Option<&str>| text.map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
    let scopes = |text: Option<&str>| {
        let list = read(text).unwrap_or(Value::Null);
        let list = list.as_array().cloned().unwrap_or_default();
        list.iter()
            .map(|scope| scope.as_str().expect("text").to_owned())
            .collect()
    };
    let mut all = Vec::new();
    let ledger = "SELECT asset, (extract(epoch FROM accounted_at) * 1000000)::bigint, action, customer, to_json(scopes), kind,
                         cost, quantity, costs, allocations, revenue, id, refers_to
                  FROM credyt.ledger ORDER BY customer, asset, seq";
    // What was refunded of a debit counts under its scopes, and so does a debt of it that was paid.
    let mut of_debits: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows(client, ledger) {
        let kind = row.get(5).expect("a kind");
        let revenue = units(row.get(10).expect("revenue"));
        let own: BTreeSet<String> = match (kind, row.get(12)) {
            ("refund" | "settlement", Some(debit)) => {
                of_debits.get(debit).cloned().unwrap_or_default()
            }
            _ => scopes(row.get(4)),
        };
        of_debits.insert(row.get(11).expect("an id").to_owned(), own.clone());
        if !["debit", "refund", "settlement"].contains(&kind) && revenue == 0 {
            continue;
        }
        let debit = kind == "debit";
        let lines = lines_of(
            kind,
            &read(row.get(9)).expect("allocations"),
            read(row.get(8)).as_ref(),
            row.get(6),
        );
        assert_eq!(
            lines.iter().map(|line| line.revenue).sum::<Units>(),
            revenue
        );
        let asset = row.get(0).expect("an asset");
        let at = row.get(1).expect("a moment").parse().expect("a number");
        all.push(Movement {
            asset: asset.to_owned(),
            at,
            day: day_of(asset, at),
            action: row.get(2).map(str::to_owned),
            customer: row.get(3).expect("a customer").to_owned(),
            scopes: own,
            debits: i64::from(debit),
            costed: debit && row.get(6).is_some(),
            quantity: row.get(7).filter(|_| debit).map_or(0, units),
            lines,
        });
    }
    let postings = "SELECT asset, (extract(epoch FROM accounted_at) * 1000000)::bigint, action, customer, to_json(scopes),
                           debits, costed, quantity, lines
                    FROM credyt.cost_postings";
    for row in rows(client, postings) {
        let line = |line: &Value| Line {
            vendor: text_of(line, "vendor"),
            model: text_of(line, "model"),
            kind: text_of(line, "kind"),
            credits: units(&text_of(line, "credits").expect("credits")),
            revenue: units(&text_of(line, "revenue").expect("revenue")),
            cost: text_of(line, "cost").map(|cost| units(&cost)),
        };
        let lines = read(row.get(8)).expect("lines");
        let asset = row.get(0).expect("an asset");
        let at = row.get(1).expect("a moment").parse().expect("a number");
        all.push(Movement {
            asset: asset.to_owned(),
            at,
            day: day_of(asset, at),
            action: row.get(2).map(str::to_owned),
            customer: row.get(3).expect("a customer").to_owned(),
            scopes: scopes(row.get(4)),
            debits: row.get(5).expect("debits").parse().expect("a number"),
            costed: row.get(6) != Some("0"),
            quantity: units(row.get(7).expect("a quantity")),
            lines: lines.as_array().expect("a list").iter().map(line).collect(),
        });
    }
    all
}

#[derive(Clone, Debug, PartialEq)]
struct Sums {
    debits: i64,
    costed: i64,
    quantity: Units,
    credits: Units,
    revenue: Units,
    cost: Option<Units>,
}

/// Asset, then a value of each dimension.
type Key = (String, [Text; 7]);

fn expected(
    movements: &[Movement],
    by: usize,
    since: Option<i64>,
    until: Option<i64>,
    asset: Option<&str>,
) -> BTreeMap<Key, Sums> {
    let asked = |dimension: usize, value: Text| value.filter(|_| by & (1 << dimension) != 0);
    let mut groups: BTreeMap<Key, Sums> = BTreeMap::new();
    for movement in movements {
        if since.is_some_and(|since| movement.at < since)
            || until.is_some_and(|until| movement.at >= until)
            || asset.is_some_and(|asset| movement.asset != asset)
        {
            continue;
        }
        let mut scopes: Vec<Text> = movement.scopes.iter().cloned().map(Some).collect();
        if scopes.is_empty() || by & 64 == 0 {
            scopes = vec![None];
        }
        let mut touched = BTreeSet::new();
        for scope in scopes {
            for line in &movement.lines {
                let key = (
                    movement.asset.clone(),
                    [
                        asked(0, Some(movement.day.clone())),
                        asked(1, movement.action.clone()),
                        asked(2, Some(movement.customer.clone())),
                        asked(3, line.vendor.clone()),
                        asked(4, line.model.clone()),
                        asked(5, line.kind.clone()),
                        asked(6, scope.clone()),
                    ],
                );
                let sums = groups.entry(key.clone()).or_insert_with(|| Sums {
                    debits: 0,
                    costed: 0,
                    quantity: 0,
                    credits: 0,
                    revenue: 0,
                    cost: None,
                });
                sums.credits += line.credits;
                sums.revenue += line.revenue;
                if let Some(cost) = &line.cost {
                    sums.cost = Some(sums.cost.unwrap_or(0) + cost);
                }
                if touched.insert(key) {
                    sums.debits += movement.debits;
                    sums.costed += if movement.costed { movement.debits } else { 0 };
                    sums.quantity += movement.quantity;
                }
            }
        }
    }
    groups
}

// ---- against the database -------------------------------------------------------------------

/// A quotient, which Postgres rounds after sixteen digits or more.
fn near(text: Option<&str>, exact: Option<(Units, Units)>, what: &str) {
    let quotient = exact.map(|(part, whole)| part as f64 / whole as f64);
    match (
        text.map(|text| text.parse::<f64>().expect("a number")),
        quotient,
    ) {
        (None, None) => {}
        (Some(seen), Some(exact)) if (seen - exact).abs() <= 1e-13 * (1.0 + exact.abs()) => {}
        other => panic!("{what}: {other:?}"),
    }
}

fn compare(
    client: &mut Client,
    all: &[Movement],
    by: usize,
    since: Option<i64>,
    until: Option<i64>,
    asset: Option<&str>,
) {
    let names: Vec<&str> = (0..7)
        .filter(|d| by & (1 << d) != 0)
        .map(|d| DIMENSIONS[d])
        .collect();
    let moment = |at: Option<i64>| match at {
        Some(at) => format!("timestamptz 'epoch' + interval '{at} us'"),
        None => "NULL".to_owned(),
    };
    let sql = format!(
        "SELECT * FROM credyt.margin('{{{}}}', {}, {}, {})",
        names.join(","),
        moment(since),
        moment(until),
        asset.map_or("NULL".to_owned(), quoted)
    );
    let mut groups = expected(all, by, since, until, asset);
    // What late costs have moved elsewhere leaves nothing behind: no row, and no cost where none is known.
    groups.retain(|_, sums| {
        sums.cost = sums.cost.filter(|cost| *cost != 0 || sums.costed > 0);
        (
            sums.debits,
            sums.quantity,
            sums.credits,
            sums.revenue,
            sums.cost.unwrap_or(0),
        ) != (0, 0, 0, 0, 0)
    });
    for row in rows(client, &sql) {
        let at = |column: usize| row.get(column).map(str::to_owned);
        let key = (
            at(0).expect("an asset"),
            [at(1), at(2), at(3), at(4), at(5), at(6), at(7)],
        );
        let sums = groups
            .remove(&key)
            .unwrap_or_else(|| panic!("{sql}: {key:?} twice, or of nothing"));
        let what = format!("{sql}: {key:?}");
        assert_eq!(
            row.get(8),
            Some(sums.debits.to_string().as_str()),
            "debits, {what}"
        );
        let exact = |column: usize| row.get(column).map(units);
        assert_eq!(exact(9), Some(sums.quantity), "quantity, {what}");
        assert_eq!(exact(10), Some(sums.credits), "credits, {what}");
        assert_eq!(exact(11), Some(sums.revenue), "revenue, {what}");
        assert_eq!(exact(12), sums.cost, "cost, {what}");
        let margin = sums.revenue - sums.cost.unwrap_or(0);
        assert_eq!(exact(13), Some(margin), "margin, {what}");
        let ratio = (sums.revenue != 0).then_some((margin, sums.revenue));
        near(row.get(14), ratio, &what);
        let coverage = (i128::from(sums.costed), i128::from(sums.debits));
        near(row.get(15), (sums.debits != 0).then_some(coverage), &what);
    }
    assert!(groups.is_empty(), "{sql}: missing {groups:?}");
}

/// All 128 questions of all time, and each over a period of its own.
fn compare_all(client: &mut Client, random: &mut StdRng, moments: &[i64]) {
    let all = movements(client);
    for by in 0..128 {
        compare(client, &all, by, None, None, None);
        let mut pick = || {
            let near = moments[random.random_range(0..moments.len())];
            random
                .random_bool(0.8)
                .then(|| match random.random_range(0..4) {
                    0 => near,
                    1 => near + random.random_range(-3..4) * 1_800_000_000,
                    2 => near + random.random_range(-200_000_000_000..200_000_000_000_i64),
                    _ => all[random.random_range(0..all.len())].at,
                })
        };
        let (one, other) = (pick(), pick());
        let (since, until) = match (one, other) {
            (Some(one), Some(other)) => (Some(one.min(other)), Some(one.max(other))),
            both => both,
        };
        let asset = random
            .random_bool(0.3)
            .then(|| ZONES[random.random_range(0..3)].0);
        compare(client, &all, by, since, until, asset);
    }
}

/// Random movements of a few customers, the facts altered to what debits with usage leave behind.
struct World<'a> {
    client: &'a mut Client,
    random: StdRng,
    now: i64,
    posted: i64,
}

impl World<'_> {
    fn pick<'b, T: ?Sized>(&mut self, from: &[&'b T]) -> &'b T {
        from[self.random.random_range(0..from.len())]
    }

    /// A number below `below` with some decimals.
    fn decimal(&mut self, below: i64, decimals: u32) -> String {
        let units = self.random.random_range(0..below * 10_i64.pow(decimals));
        let text = format!("{units:0>width$}", width = decimals as usize + 1);
        let (whole, fraction) = text.split_at(text.len() - decimals as usize);
        format!("{whole}.{fraction}")
    }

    fn wallet(&mut self) -> (&'static str, &'static str) {
        (
            self.pick(&["ann", "bob", "cy", "dee"]),
            ZONES[self.random.random_range(0..3)].0,
        )
    }

    fn act(&mut self) {
        self.now += self.random.random_range(0..20_000_000_000);
        let now = Timestamp::from_microsecond(self.now).expect("a moment");
        clock(self.client, now);
        let (customer, asset) = self.wallet();
        let sql = match self.random.random_range(0..10) {
            0 | 1 => {
                let kind = self.pick(&["included", "promotional", "purchased"]);
                let (credits, paid) = (self.decimal(60, 2), self.decimal(20, 2));
                format!("SELECT credyt.grant_credits('{customer}', {credits} + 0.01, '{kind}', '{asset}', paid => {paid},
                                                     expires_at => '{now}'::timestamptz + interval '9 days')")
            }
            2 => {
                let debit = format!("SELECT id FROM credyt.ledger WHERE customer = '{customer}' AND asset = '{asset}'
                                     AND kind = 'debit' ORDER BY md5(id::text || '{now}') LIMIT 1");
                format!("SELECT credyt.refund('{customer}', ({debit}), credits => 0.5)")
            }
            3 if self.random.random_bool(0.4) => {
                let grant = format!("SELECT id FROM credyt.grants WHERE customer = '{customer}' AND asset = '{asset}'
                                     ORDER BY md5(id::text || '{now}') LIMIT 1");
                format!("SELECT credyt.revoke_grant('{customer}', ({grant}), spent => 'owe')")
            }
            4 if self.random.random_bool(0.5) => return self.post(customer, asset),
            _ => {
                let action = self.pick(&["image", "video", "chat"]);
                let scopes = self.pick(&[
                    "NULL",
                    "NULL",
                    "'{}'",
                    "'{user:a}'",
                    "'{user:a,user:b}'",
                    "'{key:k,key:k}'",
                ]);
                let cost = match self.random.random_range(0..4) {
                    0 => "NULL".to_owned(),
                    1 => self.decimal(2, 12),
                    _ => self.decimal(3, 3),
                };
                let (quantity, credits) = (self.decimal(5, 3), self.decimal(12, 2));
                let credits = if self.random.random_bool(0.1) {
                    "0".to_owned()
                } else {
                    credits
                };
                let back = self.random.random_range(0..3) * self.random.random_range(0..100);
                format!("SELECT credyt.debit_credits('{customer}', '{action}', {quantity}, cost => {cost}, credits => {credits},
                             asset => '{asset}', scopes => {scopes}, occurred_at => '{now}'::timestamptz - interval '{back} h')")
            }
        };
        let seq = format!(
            "SELECT coalesce(max(seq), 0) FROM credyt.ledger WHERE customer = '{customer}' AND asset = '{asset}'"
        );
        let before = value(self.client, &seq);
        if attempt(self.client, &sql).is_ok() {
            self.share(customer, asset, &before);
        }
    }

    /// Gives new rows the models that a usage would have left.
    fn share(&mut self, customer: &str, asset: &str, after: &str) {
        let new = format!("SELECT id, kind FROM credyt.ledger WHERE customer = '{customer}' AND asset = '{asset}' AND seq > {after}
                           AND kind IN ('debit', 'refund', 'settlement')");
        for row in values(self.client, &new) {
            let (id, kind) = row.split_once(' ').expect("two columns");
            if self.random.random_bool(0.4) {
                continue;
            }
            let name = if kind == "debit" { "cost" } else { "weight" };
            let mut costs = Vec::new();
            for _ in 0..self.random.random_range(1..4) {
                let (vendor, model) = (
                    self.pick(&["openai", "google"]),
                    self.pick(&["a", "b", "c"]),
                );
                let cost = if kind == "debit" && self.random.random_bool(0.15) {
                    "null".to_owned()
                } else {
                    format!("\"{}\"", self.decimal(2, 6))
                };
                costs.push(format!(
                    r#"{{"vendor": "{vendor}", "model": "{model}", "{name}": {cost}}}"#
                ));
            }
            let costs = format!("[{}]", costs.join(","));
            let sum = "(SELECT CASE WHEN bool_and(e->>'cost' IS NOT NULL) THEN sum((e->>'cost')::numeric) END FROM jsonb_array_elements(c) e)";
            rows(self.client, &format!(
                "BEGIN; SET LOCAL session_replication_role = replica;
                 UPDATE credyt.ledger SET costs = c, cost = {sum} FROM (SELECT '{costs}'::jsonb AS c) c WHERE customer = '{customer}' AND id = '{id}';
                 COMMIT"
            ));
        }
    }

    /// A cost that was recorded later, as the next row of the wallet.
    fn post(&mut self, customer: &str, asset: &str) {
        if value(
            self.client,
            &format!(
                "SELECT count(*) FROM credyt.wallets WHERE customer = '{customer}' AND asset = '{asset}'"
            ),
        ) == "0"
        {
            return;
        }
        self.posted += 1;
        let debits = self.pick(&["0", "1", "-1"]);
        let sign = if debits == "-1" { "-" } else { "" };
        let costed = if debits == "0" || self.random.random_bool(0.5) {
            "0"
        } else {
            debits
        };
        let mut lines = Vec::new();
        for _ in 0..self.random.random_range(1..4) {
            let (vendor, model) = (
                self.pick(&["\"openai\"", "null"]),
                self.pick(&["\"a\"", "\"b\"", "null"]),
            );
            let (kind, cost) = (
                self.pick(&["\"purchased\"", "\"included\"", "null"]),
                self.decimal(2, 9),
            );
            let (credits, revenue) = (self.decimal(5, 2), self.decimal(5, 10));
            let cost = if self.random.random_bool(0.2) {
                "null".to_owned()
            } else {
                format!("\"{sign}{cost}\"")
            };
            lines.push(format!(
                r#"{{"vendor": {vendor}, "model": {model}, "kind": {kind}, "credits": "{sign}{credits}", "revenue": "{sign}{revenue}", "cost": {cost}}}"#
            ));
        }
        // Lines of a posting are merged: no two of the same vendor, model and kind.
        let lines: BTreeMap<String, String> = lines
            .into_iter()
            .map(|line| {
                (
                    line.split("\"credits\"").next().expect("a key").to_owned(),
                    line,
                )
            })
            .collect();
        let lines: Vec<String> = lines.into_values().collect();
        let back = self.random.random_range(0..80);
        let (action, scopes) = if debits == "0" {
            ("NULL", "NULL")
        } else {
            (
                "'image'",
                self.pick(&["NULL", "'{user:a}'", "'{user:a,key:k}'"]),
            )
        };
        let quantity = if debits == "0" {
            "0".to_owned()
        } else {
            format!("{sign}{}", self.decimal(3, 2))
        };
        let now = Timestamp::from_microsecond(self.now).expect("a moment");
        rows(self.client, &format!(
            "BEGIN;
             UPDATE credyt.wallets w SET state = jsonb_set(w.state::jsonb, '{{seq}}', to_jsonb(credyt.seq(w.state) + 1))::text::credyt.wallet
             WHERE customer = '{customer}' AND asset = '{asset}';
             INSERT INTO credyt.cost_postings (customer, asset, seq, nth, accounted_at, action, scopes, debits, costed, quantity, lines)
             SELECT customer, asset, credyt.seq(state), 1, '{now}'::timestamptz - interval '{back} h', {action}, {scopes}, {debits}, {costed},
                    {quantity}, '[{}]'
             FROM credyt.wallets WHERE customer = '{customer}' AND asset = '{asset}';
             COMMIT", lines.join(",")
        ));
    }
}

fn micros(text: &str) -> i64 {
    text.parse::<Timestamp>()
        .expect("a moment")
        .as_microsecond()
}

#[test]
fn every_report_equals_sums_made_outside_of_the_database() {
    let database = Database::new("margin_model").lawless();
    let mut client = database.connect();
    // The last autumns in which St. John's set its clocks back at one minute past midnight, and a spring.
    let starts = [
        "2010-11-05T12:00:00Z",
        "2011-03-11T00:00:00Z",
        "2026-10-23T22:00:00Z",
    ];
    clock(&mut client, starts[0]);
    for (asset, zone) in ZONES {
        rows(
            &mut client,
            &format!("SELECT credyt.create_asset('{asset}', timezone => '{zone}')"),
        )
        .len();
        for customer in ["ann", "bob", "cy", "dee"] {
            rows(
                &mut client,
                &format!("SELECT credyt.open_wallet('{customer}', '{asset}', 40)"),
            );
        }
    }
    let mut world = World {
        client: &mut client,
        random: StdRng::seed_from_u64(20261122),
        now: 0,
        posted: 0,
    };
    // Midnights and clock changes, to ask around.
    let moments = [
        "2010-11-06T02:30:00Z",
        "2010-11-07T02:30:00Z",
        "2010-11-07T02:31:00Z",
        "2010-11-07T03:30:00Z",
        "2010-11-08T03:30:00Z",
        "2010-11-06T23:00:00Z",
        "2010-11-08T00:00:00Z",
        "2011-03-13T03:31:00Z",
        "2011-03-13T03:30:00Z",
        "2011-03-14T02:30:00Z",
        "2026-10-24T22:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-10-25T23:00:00Z",
        "2026-10-26T00:00:00Z",
        "2026-11-01T23:00:00Z",
    ]
    .map(micros);
    let mut cut = false;
    for (round, start) in starts.iter().enumerate() {
        world.now = micros(start);
        for part in 0..3 {
            for _ in 0..40 {
                world.act();
            }
            if (round, part) == (0, 1) {
                world.now = world.now.max(micros("2010-11-08T03:30:00Z"));
                let now = Timestamp::from_microsecond(world.now).expect("a moment");
                clock(world.client, now);
                for (nth, at) in TWICE.iter().enumerate() {
                    let debit = format!(
                        "SELECT credyt.debit_credits('ann', 'image', {nth}, credits => 0, asset => 'rocks', occurred_at => '{at}')"
                    );
                    rows(world.client, &debit);
                }
            }
            // Never rolled up; then a part of the wallets; all of them; and rows on top of that.
            let batch = [0, 2, 1000][part];
            let mut random = world.random.clone();
            if batch > 0 {
                rows(world.client, &format!("SELECT credyt.maintain({batch})"));
                // Reports by customer and day cut the customers in two, where statistics say at whom.
                rows(
                    world.client,
                    "ALTER TABLE credyt.margin_customers ALTER customer SET STATISTICS 1;
                     ANALYZE credyt.margin_customers",
                );
                cut |= "t"
                    == value(
                        world.client,
                        "SELECT count(histogram_bounds) > 0 FROM pg_stats
                     WHERE tablename = 'margin_customers' AND attname = 'customer'",
                    );
            }
            compare_all(world.client, &mut random, &moments);
            world.random = random;
        }
    }
    assert!(world.posted > 5, "{} postings", world.posted);
    assert!(cut, "no statistics of the rollup's customers");
    let client = world.client;
    while value(client, "SELECT rolled_up FROM credyt.maintain(3)") != "0" {}
    let mut random = StdRng::seed_from_u64(7);
    compare_all(client, &mut random, &moments);
    let all = movements(client);
    for (nth, since) in TWICE.iter().enumerate() {
        for until in &TWICE[nth..] {
            for by in [0, 1, 5, 127] {
                compare(client, &all, by, Some(micros(since)), None, None);
                compare(client, &all, by, None, Some(micros(until)), Some("rocks"));
                compare(
                    client,
                    &all,
                    by,
                    Some(micros(since)),
                    Some(micros(until)),
                    None,
                );
            }
        }
    }
    // Emptied and made again, they are the same.
    let tables = "margin_days margin_customers margin_scopes usage_days rollup_progress";
    let hash = |client: &mut Client, table: &str| {
        let sql = format!(
            "SELECT count(*), md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM credyt.{table} t"
        );
        value(client, &sql)
    };
    let before: Vec<String> = tables.split(' ').map(|table| hash(client, table)).collect();
    rows(
        client,
        &format!("TRUNCATE credyt.{}", tables.replace(' ', ", credyt.")),
    );
    compare(client, &all, 127, None, None, None);
    while value(client, "SELECT rolled_up FROM credyt.maintain(1)") != "0" {}
    compare(client, &all, 127, None, None, None);
    let after: Vec<String> = tables.split(' ').map(|table| hash(client, table)).collect();
    assert_eq!(before, after);
}

/// Debits that a rule cannot tell apart are rated together. A rule with a cost in a case that never applies rates each by
/// itself: the result is the same for every kind of debit and price, and the same as a sum over the ledger's rows.
#[test]
fn a_price_is_simulated_the_same_together_and_one_by_one() {
    let database = Database::new("margin_simulated");
    let mut client = database.connect();
    let mut random = StdRng::seed_from_u64(20261127);
    clock(&mut client, "2026-01-01T12:00:00Z");
    for setup in [
        "credyt.create_asset('other', scale => 0)",
        "credyt.set_price('image', '1')",
        "credyt.set_price('image', '1.1', 'other')",
        "credyt.set_price('image', '3', customer => 'own')",
        "credyt.set_price('image', '2.5', price_list => 'list')",
        "credyt.set_price_list('listed', 'list')",
    ] {
        rows(&mut client, &format!("SELECT {setup}"));
    }
    let customers = ["ann", "bob", "own", "listed", "kept"];
    for customer in customers {
        for (asset, paid) in [("credits", "100"), ("other", "7")] {
            rows(
                &mut client,
                &format!(
                    "SELECT credyt.grant_credits('{customer}', 900, asset => '{asset}', kind => 'promotional'),
                            credyt.grant_credits('{customer}', 100000, asset => '{asset}', paid => {paid})"
                ),
            );
        }
    }
    for round in 0..400 {
        if round == 200 {
            clock(&mut client, "2026-02-01T12:00:00Z");
            rows(
                &mut client,
                "SELECT credyt.set_price('image', '1.7'), credyt.set_price_list('kept', as_of => '2026-01-15')",
            );
        }
        let customer = customers[random.random_range(0..customers.len())];
        let asset = ["credits", "credits", "other"][random.random_range(0..3)];
        let quantity = ["0", "1", "2", "2.25", "7"][random.random_range(0..5)];
        let dimensions =
            ["{}", r#"{"size": "hd"}"#, r#"{"size": "sd", "n": 3}"#][random.random_range(0..3)];
        let cost = ["NULL", "NULL", "0.05", "0.0701"][random.random_range(0..4)];
        let given = ["NULL", "NULL", "NULL", "0"][random.random_range(0..4)];
        if random.random_bool(0.2) {
            let hold = value(
                &mut client,
                &format!(
                    "SELECT id FROM credyt.authorize('{customer}', 'image', {quantity}, '{dimensions}', asset => '{asset}')"
                ),
            );
            for keep_open in [true, false] {
                rows(
                    &mut client,
                    &format!(
                        "SELECT credyt.capture('{customer}', '{hold}', {quantity}, cost => {cost}, keep_open => {keep_open})"
                    ),
                );
            }
            continue;
        }
        let debit = value(
            &mut client,
            &format!(
                "SELECT id FROM credyt.debit_credits('{customer}', 'image', {quantity}, '{dimensions}', cost => {cost},
                                                     credits => {given}, asset => '{asset}')"
            ),
        );
        if random.random_bool(0.3) {
            rows(
                &mut client,
                &format!(
                    "SELECT credyt.record_cost('{customer}', 'acme', 'm', cost => 0.013, debit_id => '{debit}')"
                ),
            );
        }
    }
    let simulated = |client: &mut Client, rule: &str, since: &str| {
        let sql = format!(
            "SELECT s.asset, s.action, s.debits, s.unpriced, trim_scale(s.credits_before), trim_scale(s.credits_after),
                    trim_scale(s.revenue_before), trim_scale(s.revenue_after), trim_scale(s.cost),
                    trim_scale(s.margin_before), trim_scale(s.margin_after), s.customers, s.customers_pay_more
             FROM credyt.simulate_price('image', '{rule}', {since}) s ORDER BY 1"
        );
        values(client, &sql)
    };
    for rule in [
        "1.5",
        "0.001",
        "0",
        r#"{"per_unit": "2.345", "minimum": 4}"#,
        r#"{"per_unit": "2.345", "maximum": "4.69"}"#,
        r#"{"per_unit": 0, "minimum": 1}"#,
        r#"{"package": {"size": 2, "credits": "1.25"}}"#,
        r#"{"package": {"size": 3, "credits": "5"}, "minimum": 6, "maximum": 11}"#,
        r#"{"graduated": [{"up_to": 2, "per_unit": "2"}, {"per_unit": "0.333"}]}"#,
        r#"{"volume": [{"up_to": 2, "per_unit": "2"}, {"per_unit": "0.333"}], "minimum": 1}"#,
        r#"{"match": [{"when": {"size": "hd"}, "price": 9}, {"price": "1.1"}]}"#,
        r#"{"match": [{"when": {"size": "hd"}, "price": 9}]}"#,
        r#"{"match": [{"when": {"n": "3"}, "price": 1}, {"when": {"n": 3}, "price": {"per_unit": 2, "minimum": 7}}, {"price": 0}]}"#,
    ] {
        let apart = format!(
            r#"{{"match": [{{"when": {{"never": 1}}, "price": {{"cost_plus": {{"markup": 0, "credit_value": 1}}}}}}, {{"price": {rule}}}]}}"#
        );
        for since in ["NULL", "'2026-01-20'", "'2027-01-01'"] {
            let together = simulated(&mut client, rule, since);
            assert_eq!(
                together,
                simulated(&mut client, &apart, since),
                "{rule} {since}"
            );
            assert_eq!(
                together.is_empty(),
                since == "'2027-01-01'",
                "{rule} {since}"
            );
        }
    }
    // Both are what a sum over the ledger's rows says, with the price of each row asked for by itself. What is recorded
    // takes the place of a cost that was given.
    for rule in [
        "1.5",
        r#"{"per_unit": "2.345", "minimum": 4}"#,
        r#"{"match": [{"when": {"size": "hd"}, "price": 9}]}"#,
        r#"{"meters": {"n": {"per": 2, "credits": "0.5"}}, "minimum": 1}"#,
        r#"{"cost_plus": {"markup": "0.5", "credit_value": "0.01"}}"#,
    ] {
        let summed = format!(
            "WITH debits AS (
                 SELECT l.customer, l.asset, max(l.occurred_at) AS occurred_at, -sum(l.credits) AS before, sum(l.quantity) AS quantity,
                        max(l.dimensions::text)::jsonb AS dimensions, count(*) AS debits, bool_or(l.price_version IS NOT NULL) AS priced,
                        CASE WHEN bool_and(coalesce(v.cost, l.cost) IS NOT NULL) THEN sum(coalesce(v.cost, l.cost)) END AS cost
                 FROM credyt.ledger l
                 LEFT JOIN (SELECT v.debit_id, sum(v.cost) AS cost FROM credyt.vendor_costs v GROUP BY 1) v ON v.debit_id = l.id
                 WHERE l.kind = 'debit' GROUP BY l.customer, l.asset, coalesce(l.authorization_id, l.id)
             ),
             rated AS (
                 SELECT d.*, CASE WHEN d.priced AND d.asset = 'credits' AND d.customer IN ('own', 'listed')
                                       OR d.asset = 'credits' AND d.customer = 'kept' AND d.occurred_at > '2026-01-15' THEN d.before
                                  ELSE credyt.repriced('{rule}', a.scale, a.rounding, d.quantity, d.dimensions, NULL, d.cost,
                                                       d.occurred_at, NULL) END AS after
                 FROM debits d JOIN credyt.assets a ON a.asset = d.asset
             )
             SELECT r.asset, coalesce(sum(r.debits) FILTER (WHERE r.after IS NOT NULL), 0),
                    coalesce(sum(r.debits) FILTER (WHERE r.after IS NULL), 0),
                    trim_scale(sum(r.before) FILTER (WHERE r.after IS NOT NULL)), trim_scale(sum(r.after))
             FROM rated r GROUP BY r.asset ORDER BY 1"
        );
        let seen = format!(
            "SELECT asset, debits, unpriced, trim_scale(credits_before), trim_scale(credits_after)
             FROM credyt.simulate_price('image', '{rule}') ORDER BY 1"
        );
        assert_eq!(
            values(&mut client, &seen),
            values(&mut client, &summed),
            "{rule}"
        );
    }
}

/// What `margin` says in total, and what the ledger does.
const BOTH: &str = "SELECT (SELECT m::text FROM (SELECT sum(debits), sum(quantity), sum(credits), sum(revenue), sum(cost)
                                             FROM credyt.margin('{$by}')) m),
           (SELECT m::text FROM (SELECT nullif(count(*), 0), sum(quantity), -sum(credits), sum(revenue), sum(cost)
                                 FROM credyt.ledger WHERE kind = 'debit') m)";

#[test]
fn nothing_is_missed_or_counted_twice_while_debits_and_maintain_run() {
    let database = Database::new("margin_running");
    let mut client = database.connect();
    for n in 0..12 {
        rows(
            &mut client,
            &format!("SELECT credyt.grant_credits('c{n}', 100000, paid => 1000)"),
        );
    }
    let until = std::time::Instant::now() + std::time::Duration::from_secs(6);
    let running = || std::time::Instant::now() < until;
    let same = |line: String, by: &str| {
        let (left, right) = line.split_at(line.len() / 2);
        assert_eq!(left.trim(), right.trim(), "by {by}");
    };
    let done = database.at_once(8, |nth, client| {
        let mut random = StdRng::seed_from_u64(nth as u64);
        let mut done = 0_i64;
        while running() {
            let by = ["", "customer", "day,action"][random.random_range(0..3)];
            match nth {
                // Short and long transactions, some of which are undone.
                0..=3 => {
                    let debits: Vec<String> = (0..random.random_range(1..5))
                        .map(|_| {
                            let customer = random.random_range(0..12);
                            let hours = random.random_range(0..100);
                            format!("SELECT credyt.debit_credits('c{customer}', 'image', 2, cost => 0.01, occurred_at => now() - interval '{hours} h')")
                        })
                        .collect();
                    let end = if random.random_bool(0.2) { "ROLLBACK" } else { "COMMIT" };
                    let sql = format!("BEGIN; {}; {end}", debits.join(";"));
                    match attempt(client, &sql) {
                        Ok(_) => done += i64::from(end == "COMMIT"),
                        Err(refused) => {
                            assert_eq!(refused.code, "40P01", "{refused:?}");
                            rows(client, "ROLLBACK");
                        }
                    }
                }
                4 => {
                    done += value(client, &format!("SELECT rolled_up FROM credyt.maintain({})", random.random_range(1..20))).parse::<i64>().unwrap();
                }
                // Under an old snapshot it does what it should, or nothing.
                5 => {
                    rows(client, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM credyt.wallets");
                    let sql = "SELECT rolled_up FROM credyt.maintain(5)";
                    match attempt(client, sql) {
                        Ok(rows) => done += rows[0].get(0).unwrap().parse::<i64>().unwrap(),
                        Err(refused) => assert_eq!(refused.code, "40001", "{refused:?}"),
                    }
                    rows(client, if random.random_bool(0.2) { "ROLLBACK" } else { "COMMIT" });
                }
                6 => same(value(client, &BOTH.replace("$by", by)), by),
                _ => {
                    rows(client, "BEGIN ISOLATION LEVEL REPEATABLE READ");
                    same(value(client, &BOTH.replace("$by", by)), by);
                    same(value(client, &BOTH.replace("$by", by)), by);
                    rows(client, "COMMIT");
                }
            }
        }
        done
    });
    assert!(done[..5].iter().all(|done| *done > 0), "{done:?}");
    while value(&mut client, "SELECT rolled_up FROM credyt.maintain()") != "0" {}
    for by in ["", "customer", "day,action"] {
        same(value(&mut client, &BOTH.replace("$by", by)), by);
    }
    let rolled = "SELECT (SELECT sum(debits) FROM credyt.margin_days), (SELECT sum(debits) FROM credyt.margin_customers),
                         (SELECT sum(seq) FROM credyt.rollup_progress) - (SELECT count(*) FROM credyt.ledger)";
    let debits = value(
        &mut client,
        "SELECT count(*) FROM credyt.ledger WHERE kind = 'debit'",
    );
    assert_eq!(value(&mut client, rolled), format!("{debits} {debits} 0"));
}

#[test]
fn a_session_that_finds_another_at_it_leaves_at_once() {
    let database = Database::new("margin_turns");
    let (mut one, mut other) = (database.connect(), database.connect());
    rows(
        &mut one,
        "SELECT credyt.grant_credits('ann', 10); SELECT credyt.debit_credits('ann', 'image')",
    );
    rows(&mut one, "BEGIN");
    assert_eq!(
        value(&mut one, "SELECT rolled_up FROM credyt.maintain()"),
        "2"
    );
    assert_eq!(
        value(&mut other, "SELECT rolled_up FROM credyt.maintain()"),
        "0"
    );
    rows(&mut one, "ROLLBACK");
    assert_eq!(
        value(&mut other, "SELECT rolled_up FROM credyt.maintain()"),
        "2"
    );
    assert_eq!(
        value(&mut other, "SELECT rolled_up FROM credyt.maintain()"),
        "0"
    );
}

#[test]
fn what_is_no_question_is_refused() {
    let database = Database::new("margin_refused");
    let mut client = database.connect();
    for (call, code) in [
        ("margin(NULL)", "22023"),
        ("margin('{day,NULL}')", "22023"),
        ("margin('{days}')", "22023"),
        ("margin('{Day}')", "22023"),
        ("margin('{\"\"}')", "22023"),
        ("margin('{day,action,day}')", "22023"),
        ("margin('{}', '2026-01-02', '2026-01-01')", "22023"),
        ("margin('{}', 'infinity')", "22023"),
        ("margin('{}', '4713-01-01 BC')", "22003"),
        ("margin('{}', NULL, '20000-01-01')", "22003"),
        ("margin('{}', asset => '')", "22023"),
        ("margin('{}', asset => 'shells')", "WC009"),
        ("suggest_price(NULL, 0.5)", "22023"),
        ("suggest_price('image', NULL)", "22023"),
        ("suggest_price('image', 1)", "22023"),
        ("suggest_price('image', -0.1)", "22023"),
        ("suggest_price('image', 'NaN')", "22023"),
        ("simulate_price('image', NULL)", "22023"),
        ("simulate_price('image', 'null')", "22023"),
        ("simulate_price('image', '{\"per_unit\": -1}')", "22023"),
        ("simulate_price('image', '{\"unknown\": 1}')", "22023"),
        ("maintain(0)", "22023"),
        ("maintain(NULL)", "22023"),
    ] {
        let refused = refusal(&mut client, &format!("SELECT * FROM credyt.{call}"));
        assert_eq!(refused.code, code, "{call}: {refused:?}");
        assert!(refused.json().get("error").is_some(), "{call}");
    }
}
