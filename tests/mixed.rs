//! Random operations from many connections over a few shared customers, with savepoints and
//! rollbacks, in every isolation level. The only answer beyond the ledger's own refusals is 40001,
//! and the invariants hold at the end.

mod support;

use postgres::Client;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Mutex;
use support::sql::{Database, Refusal, attempt, rows, values};

/// Transactions of each connection: enough for every verb to succeed.
const ROUNDS: usize = 100;
const CONNECTIONS: usize = 12;
const CUSTOMERS: [&str; 5] = ["ann", "bob", "cy", "dee", "eve"];

/// Ids that any connection may use, some of them rolled back.
#[derive(Default)]
struct Known {
    grants: Vec<String>,
    debits: Vec<String>,
    holds: Vec<String>,
}

/// How often each operation ended how: `debit ok`, `debit WC001`.
type Tally = BTreeMap<String, usize>;

struct Worker<'a> {
    client: &'a mut Client,
    random: StdRng,
    level: &'a str,
    known: &'a [Mutex<Known>],
    tally: Tally,
}

#[test]
fn read_committed() {
    let tally = mix("read_committed", "READ COMMITTED");
    assert_eq!(tally.keys().find(|how| how.ends_with("40001")), None);
}

#[test]
fn repeatable_read() {
    let tally = mix("repeatable_read", "REPEATABLE READ");
    assert!(
        tally.keys().any(|how| how.ends_with("40001")),
        "they never met"
    );
}

#[test]
fn serializable() {
    let tally = mix("serializable", "SERIALIZABLE");
    assert!(
        tally.keys().any(|how| how.ends_with("40001")),
        "they never met"
    );
}

fn mix(name: &str, level: &str) -> Tally {
    let database = Database::new(name);
    let known: Vec<Mutex<Known>> = CUSTOMERS.iter().map(|_| Mutex::default()).collect();
    let tallies = database.at_once(CONNECTIONS, |nth, client| {
        let random = StdRng::seed_from_u64(nth as u64);
        let tally = Tally::new();
        let mut worker = Worker {
            client,
            random,
            level,
            known: &known,
            tally,
        };
        for _ in 0..ROUNDS {
            worker.transaction();
        }
        worker.tally
    });
    let mut tally = Tally::new();
    for (how, count) in tallies.into_iter().flatten() {
        *tally.entry(how).or_default() += count;
    }
    let refusals = [
        "ok", "WC001", "WC002", "WC004", "WC005", "WC006", "WC007", "WC008", "WC011", "40001",
    ];
    for how in tally.keys() {
        assert!(
            refusals.iter().any(|code| how.ends_with(code)),
            "{how}: {tally:#?}"
        );
    }
    for verb in VERBS {
        assert!(
            tally.contains_key(&format!("{verb} ok")),
            "{verb} never succeeded: {tally:#?}"
        );
    }

    // The books are whole now, and still when every hold has ended and that has been booked.
    assert_eq!(database.broken_invariants(), [""; 0]);
    let mut client = database.connect();
    std::thread::sleep(std::time::Duration::from_millis(3100));
    let balances =
        "SELECT customer, settled, held, available, owed FROM credyt.wallet_balances ORDER BY 1";
    let before = values(&mut client, balances);
    for customer in CUSTOMERS {
        rows(
            &mut client,
            &format!(
                "SELECT credyt.unfreeze_wallet('{customer}');
                 SELECT credyt.debit_credits('{customer}', 'nothing', credits => 0)"
            ),
        );
    }
    assert_eq!(values(&mut client, balances), before);
    tally
}

const VERBS: [&str; 16] = [
    "debit",
    "authorize",
    "capture",
    "release",
    "extend",
    "refund",
    "grant",
    "revoke",
    "balance",
    "open_wallet",
    "freeze",
    "unfreeze",
    "set_limit",
    "set_topup",
    "transfer",
    "set_price",
];

impl Worker<'_> {
    /// Some operations on one customer, or a price, or a transfer by itself: of two wallets in one
    /// transaction another session may hold the second and want the first.
    fn transaction(&mut self) {
        if self.random.random_ratio(1, 25) {
            let price = self.random.random_range(1..=3);
            let sql = format!("SELECT version FROM credyt.set_price('image', '{price}')");
            let _ = self.attempt("set_price", &sql);
            return;
        }
        let customer = self.random.random_range(0..CUSTOMERS.len());
        let begin = format!("BEGIN ISOLATION LEVEL {}", self.level);
        rows(self.client, &begin);
        if self.random.random_ratio(1, 8) {
            let to = (customer + self.random.random_range(1..CUSTOMERS.len())) % CUSTOMERS.len();
            let (from, to) = (CUSTOMERS[customer], CUSTOMERS[to]);
            let credits = self.random.random_range(1..=9);
            let key = self.one_of(&["NULL", "NULL", "'k1'", "'k5'"]);
            let sql = format!(
                "SELECT id FROM credyt.transfer('{from}', '{to}', {credits}.5, idempotency_key => {key})"
            );
            let end = match self.attempt("transfer", &sql) {
                Ok(_) if self.random.random_ratio(4, 5) => "COMMIT",
                _ => "ROLLBACK",
            };
            let _ = self.attempt("end", end);
            return;
        }
        for _ in 0..self.random.random_range(1..=5) {
            rows(self.client, "SAVEPOINT s");
            match self.operation(customer) {
                Err(refused) if refused.code == "40001" => {
                    rows(self.client, "ROLLBACK");
                    return;
                }
                Err(_) => drop(rows(self.client, "ROLLBACK TO s")),
                Ok(()) if self.random.random_ratio(1, 6) => {
                    drop(rows(self.client, "ROLLBACK TO s"))
                }
                Ok(()) => drop(rows(self.client, "RELEASE s")),
            }
        }
        let end = if self.random.random_ratio(1, 6) {
            "ROLLBACK"
        } else {
            "COMMIT"
        };
        let _ = self.attempt("end", end);
    }

    fn operation(&mut self, customer: usize) -> Result<(), Refusal> {
        let verb = self.one_of(&[
            "debit",
            "debit",
            "debit",
            "debit",
            "authorize",
            "authorize",
            "authorize",
            "capture",
            "capture",
            "release",
            "extend",
            "refund",
            "grant",
            "grant",
            "revoke",
            "balance",
            "open_wallet",
            "freeze",
            "unfreeze",
            "unfreeze",
            "unfreeze",
            "set_limit",
            "set_topup",
        ]);
        let name = CUSTOMERS[customer];
        let known = &self.known[customer];
        let (grant, debit, hold) = {
            let known = known.lock().unwrap();
            let mut recent = |ids: &[String]| {
                let last = &ids[ids.len().saturating_sub(20)..];
                last.choose(&mut self.random)
                    .cloned()
                    .unwrap_or_else(|| NOBODYS.to_owned())
            };
            (
                recent(&known.grants),
                recent(&known.debits),
                recent(&known.holds),
            )
        };
        let credits = self.random.random_range(1..=40);
        let cents = self.random.random_range(0..=99);
        let key = self.one_of(&[
            "NULL",
            "NULL",
            "'k1'",
            "'k2'",
            "'k3'",
            "'k4'",
            "gen_random_uuid()::text",
        ]);
        let ttl = self.random.random_range(1..=3);
        let scopes = self.one_of(&["NULL", "'{user:a}'", "'{user:b,key:1}'"]);
        let sql = match verb {
            "debit" => {
                let charge = self.one_of(&[
                    "quantity => 1",
                    "quantity => 2.5",
                    "credits => 0",
                    "credits => 7.77",
                ]);
                format!(
                    "SELECT id FROM credyt.debit_credits('{name}', 'image', {charge}, cost => 0.0{cents}, idempotency_key => {key}, scopes => {scopes})"
                )
            }
            "authorize" => {
                let overrun = self.one_of(&["reject", "clamp", "overdraft"]);
                format!(
                    "SELECT id FROM credyt.authorize('{name}', 'image', credits => {credits}.{cents:02}, ttl_seconds => {ttl}, overrun => '{overrun}', idempotency_key => {key}, scopes => {scopes})"
                )
            }
            "capture" => {
                let totals = self.one_of(&["NULL", "1", "6", "60"]);
                let keep_open = self.random.random_ratio(1, 3);
                format!(
                    "SELECT id FROM credyt.capture('{name}', '{hold}', quantity => {totals}, keep_open => {keep_open})"
                )
            }
            "release" => format!("SELECT id FROM credyt.release('{name}', '{hold}')"),
            "extend" => format!("SELECT id FROM credyt.extend('{name}', '{hold}', {ttl})"),
            "refund" => {
                let until = self.one_of(&["NULL", "clock_timestamp() + interval '2 s'"]);
                let credits = self.one_of(&["NULL", "0.5", "1"]);
                format!(
                    "SELECT id FROM credyt.refund('{name}', '{debit}', {credits}, restore_until => {until}, idempotency_key => {key})"
                )
            }
            "grant" => {
                let kind = self.one_of(&["included", "promotional", "purchased"]);
                let ends = self.one_of(&["NULL", "NULL", "clock_timestamp() + interval '0.9 s'"]);
                let starts = self.one_of(&["NULL", "NULL", "clock_timestamp() + interval '0.4 s'"]);
                let only = self.one_of(&["NULL", "NULL", "'{im*}'", "'{video}'"]);
                format!(
                    "SELECT id FROM credyt.grant_credits('{name}', {credits}, '{kind}', paid => {credits}.{cents:02}, expires_at => {ends}, effective_at => {starts}, applies_to => {only}, idempotency_key => {key})"
                )
            }
            "revoke" => {
                let how = self.one_of(&["NULL", "0.01", "NULL, 'owe'", "5, 'owe'", "5, 'owe'"]);
                format!(
                    "SELECT id FROM credyt.revoke_grant('{name}', '{grant}', {how}, idempotency_key => {key})"
                )
            }
            "freeze" => format!("SELECT customer FROM credyt.freeze_wallet('{name}')"),
            "unfreeze" => format!("SELECT customer FROM credyt.unfreeze_wallet('{name}')"),
            "set_limit" => {
                let scope = self.one_of(&["user:*", "user:a", "key:1", "action:im*"]);
                let every = self.one_of(&["hour", "day", "month"]);
                let cap = self.one_of(&["NULL", "NULL", "30", "1000"]);
                format!(
                    "SELECT customer FROM credyt.set_limit('{name}', '{scope}', {cap}, '{every}')"
                )
            }
            "set_topup" => {
                format!("SELECT customer FROM credyt.set_topup('{name}', {credits}, 20)")
            }
            "balance" => format!("SELECT settled FROM credyt.balance('{name}')"),
            _ => format!(
                "SELECT customer FROM credyt.open_wallet('{name}', overdraft_limit => {credits})"
            ),
        };
        let id = self.attempt(verb, &sql)?;
        let mut known = known.lock().unwrap();
        match verb {
            "grant" => known.grants.extend(id),
            "debit" | "capture" => known.debits.extend(id),
            "authorize" => known.holds.extend(id),
            _ => {}
        }
        Ok(())
    }

    /// Runs one statement and counts how it ended; the first value it returned.
    fn attempt(&mut self, what: &str, sql: &str) -> Result<Option<String>, Refusal> {
        let outcome = attempt(self.client, sql);
        let how = outcome
            .as_ref()
            .map_or_else(|refused| refused.code.as_str(), |_| "ok");
        *self.tally.entry(format!("{what} {how}")).or_default() += 1;
        if let Err(refused) = &outcome
            && !refused.code.starts_with("WC")
            && refused.code != "40001"
        {
            panic!("{sql}: {refused:?}");
        }
        outcome.map(|rows| rows.first().and_then(|row| row.get(0).map(str::to_owned)))
    }

    fn one_of<'t>(&mut self, all: &[&'t str]) -> &'t str {
        all.choose(&mut self.random).copied().unwrap_or_default()
    }
}

const NOBODYS: &str = "00000000-0000-7000-8000-000000000000";
