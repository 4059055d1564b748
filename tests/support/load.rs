//! Clients that go on whatever happens to their server, and remember every answer they got.
//!
//! Each call carries a key (or may be repeated by its nature), so a client that got no answer asks again until it gets
//! one. In the end the database has to hold exactly what was answered: nothing lost, nothing twice.

use super::sql::{rows, value, values};
use postgres::{Client, NoTls, SimpleQueryMessage};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const CUSTOMERS: usize = 3;

/// How many loads there have been: each has keys of its own.
static LOADS: AtomicUsize = AtomicUsize::new(0);

/// An answer that a client got, as the database has to repeat it, and from when to when it waited for that.
#[derive(Clone)]
pub struct Answer {
    pub line: String,
    pub asked: Instant,
    pub answered: Instant,
}

#[derive(Default)]
struct Shared {
    /// How to connect; another server after a switch-over.
    server: Mutex<String>,
    stop: AtomicBool,
    /// The backend of each client, 0 while it has none.
    backends: Vec<AtomicUsize>,
    /// Answers that each client got.
    counts: Vec<AtomicUsize>,
    answers: Mutex<Vec<Answer>>,
    /// Calls that were answered by an error, by its code, and asked again.
    errors: Mutex<BTreeMap<String, usize>>,
    /// The most rows that a connection has reached directly.
    direct: AtomicUsize,
}

/// Clients at work until `stop`.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many clients, which all use the same few wallets of a database with the extension.
    pub fn start(server: &str, clients: usize) -> Load {
        let mut client = Client::connect(server, NoTls).expect("a connection");
        rows(
            &mut client,
            "SELECT credyt.create_asset('credits'); SELECT credyt.set_price('load.image', '1')",
        );
        for nth in 0..CUSTOMERS {
            let sql =
                format!("SELECT credyt.grant_credits('load{nth}', 1e9, idempotency_key => 'open')");
            rows(&mut client, &sql);
        }
        let counters = || (0..clients).map(|_| AtomicUsize::new(0)).collect();
        let shared = Arc::new(Shared {
            server: Mutex::new(server.to_owned()),
            backends: counters(),
            counts: counters(),
            ..Shared::default()
        });
        let load = LOADS.fetch_add(1, Relaxed);
        let start = |nth| {
            let shared = shared.clone();
            std::thread::spawn(move || Caller::new(load, nth, shared).run())
        };
        Load {
            clients: (0..clients).map(start).collect(),
            shared,
        }
    }

    /// Waits until every client has got a number of answers more.
    pub fn wait(&self, answers: usize) {
        let counts = || self.shared.counts.iter().map(|count| count.load(Relaxed));
        let (before, since): (Vec<usize>, _) = (counts().collect(), Instant::now());
        while counts()
            .zip(&before)
            .any(|(now, before)| now < before + answers)
        {
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "no answers: {:?}",
                self.shared.errors.lock().expect("errors")
            );
            assert!(
                !self.clients.iter().any(JoinHandle::is_finished),
                "a client gave up"
            );
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// The backend of one of the clients, if it has one.
    pub fn a_backend(&self) -> Option<usize> {
        let nth = rand::rng().random_range(0..self.shared.backends.len());
        Some(self.shared.backends[nth].load(Relaxed)).filter(|pid| *pid != 0)
    }

    /// From now on the clients connect to this server, and go on there.
    pub fn move_to(&self, server: &str) {
        server.clone_into(&mut self.shared.server.lock().expect("the server"));
    }

    /// Every answer until now.
    pub fn answers(&self) -> Vec<Answer> {
        self.shared.answers.lock().expect("answers").clone()
    }

    /// The errors that the clients saw until now, by code.
    pub fn errors(&self) -> BTreeMap<String, usize> {
        self.shared.errors.lock().expect("errors").clone()
    }

    /// Lets every client finish its round; all their answers, and the errors they saw. Some of what they did must have
    /// been done by direct access to rows.
    pub fn stop(mut self) -> (Vec<Answer>, BTreeMap<String, usize>) {
        self.shared.stop.store(true, Relaxed);
        for client in self.clients.drain(..) {
            client.join().expect("a client");
        }
        assert!(self.shared.direct.load(Relaxed) > 0, "all went by SQL");
        (self.answers(), self.errors())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // After a failed test nobody asks any more.
        self.shared.stop.store(true, Relaxed);
    }
}

/// What the database says of everything the clients did, in the words of their answers.
pub fn booked(client: &mut Client) -> BTreeSet<String> {
    let sql = "SELECT kind, customer, coalesce(CASE WHEN kind = 'grant' THEN refers_to END, id), trim_scale(abs(credits))
               FROM credyt.ledger WHERE customer LIKE 'load%' AND idempotency_key IS DISTINCT FROM 'open'
               UNION ALL
               SELECT status, customer, id, trim_scale(captured) FROM credyt.authorizations
               WHERE customer LIKE 'load%' AND status IN ('captured', 'released')";
    let lines = values(client, sql);
    let unique: BTreeSet<String> = lines.iter().cloned().collect();
    assert_eq!(unique.len(), lines.len());
    unique
}

/// Everything that was answered is booked.
pub fn none_lost(client: &mut Client, answers: &[Answer]) {
    let booked = booked(client);
    let lost: Vec<&str> = answers
        .iter()
        .map(|answer| answer.line.as_str())
        .filter(|line| !booked.contains(*line))
        .collect();
    assert!(lost.is_empty(), "answered, but not booked: {lost:#?}");
}

/// Everything that was answered is booked, and nothing else: for when no call is under way.
pub fn exactly_once(client: &mut Client, answers: &[Answer]) {
    none_lost(client, answers);
    let answers: BTreeSet<&str> = answers.iter().map(|answer| answer.line.as_str()).collect();
    let booked = booked(client);
    let more: Vec<&String> = booked
        .iter()
        .filter(|line| !answers.contains(line.as_str()))
        .collect();
    assert!(more.is_empty(), "booked, but never answered: {more:#?}");
    let held =
        "SELECT coalesce(sum(held), 0) FROM credyt.wallet_balances WHERE customer LIKE 'load%'";
    assert_eq!(value(client, held), "0");
}

/// One client: what it calls is decided by chance.
struct Caller {
    nth: usize,
    shared: Arc<Shared>,
    client: Option<Client>,
    load: usize,
    keys: usize,
    /// Debits that may be refunded: of whom, and which.
    debits: Vec<(String, String)>,
}

impl Caller {
    fn new(load: usize, nth: usize, shared: Arc<Shared>) -> Caller {
        Caller {
            nth,
            shared,
            client: None,
            load,
            keys: 0,
            debits: Vec::new(),
        }
    }

    fn run(mut self) {
        while !self.shared.stop.load(Relaxed) {
            let mut rng = rand::rng();
            let customer = format!("load{}", rng.random_range(0..CUSTOMERS));
            let quantity = rng.random_range(2..5);
            match rng.random_range(0..100) {
                0..45 => self.debit(&customer, quantity),
                45..65 => self.hold(&customer, quantity),
                65..80 => self.grant(&customer),
                80..90 => self.refund(),
                _ => self.two_at_once(quantity),
            }
            self.look();
        }
    }

    /// How many rows has this connection reached directly? Asked until one had some.
    fn look(&mut self) {
        let sql =
            "SELECT sum(calls)::text FROM credyt.direct_access_counts() WHERE reason = 'direct'";
        if self.shared.direct.load(Relaxed) == 0
            && let Some(client) = self.client.as_mut()
            && let Ok(messages) = client.simple_query(sql)
        {
            let direct = messages.into_iter().filter_map(line).collect::<String>();
            let direct = direct.parse().unwrap_or(0);
            self.shared.direct.fetch_max(direct, Relaxed);
        }
    }

    fn key(&mut self) -> String {
        self.keys += 1;
        format!("{}-{}-{}", self.load, self.nth, self.keys)
    }

    fn debit(&mut self, customer: &str, quantity: u32) {
        let sql = debit(customer, quantity, &self.key());
        for line in self.record(&sql) {
            let id = line.split(' ').nth(2).expect("an id").to_owned();
            self.debits.push((customer.to_owned(), id));
        }
    }

    /// Two customers in one transaction, in the order of their names: both, or neither.
    fn two_at_once(&mut self, quantity: u32) {
        let sql = format!(
            "{}; {}",
            debit("load0", quantity, &self.key()),
            debit("load1", quantity, &self.key())
        );
        assert_eq!(self.record(&sql).len(), 2);
    }

    fn grant(&mut self, customer: &str) {
        // Spent first, so that few are open at any time.
        let sql = format!(
            "SELECT 'grant', customer, id, trim_scale(credits)
             FROM credyt.grant_credits('{customer}', 4, paid => 1, priority => 1, idempotency_key => '{}')",
            self.key()
        );
        self.record(&sql);
    }

    fn refund(&mut self) {
        let Some((customer, debit)) = self.debits.pop() else {
            return;
        };
        let sql = format!(
            "SELECT kind, customer, id, trim_scale(credits)
             FROM credyt.refund('{customer}', '{debit}', 1, idempotency_key => '{}')",
            self.key()
        );
        self.record(&sql);
    }

    /// Authorizes, and captures some of it at once or in two steps, or releases it.
    fn hold(&mut self, customer: &str, quantity: u32) {
        let sql = format!(
            "SELECT id FROM credyt.authorize('{customer}', 'load.image', {quantity}, ttl_seconds => 100000, idempotency_key => '{}')",
            self.key()
        );
        let asked = Instant::now();
        let id = self.call(&sql).concat();
        let capture = |quantity: u32, options: &str| {
            format!(
                "SELECT kind, customer, id, trim_scale(credits)
                 FROM credyt.capture('{customer}', '{id}', {quantity}{options})"
            )
        };
        let done = match rand::rng().random_range(0..3) {
            0 => {
                let sql = format!("SELECT status FROM credyt.release('{customer}', '{id}')");
                assert_eq!(self.call(&sql), ["released"]);
                format!("released {customer} {id} 0")
            }
            1 => {
                self.record(&capture(1, ", keep_open => true"));
                self.record(&capture(quantity, ""));
                format!("captured {customer} {id} {quantity}")
            }
            _ => {
                self.record(&capture(quantity - 1, ""));
                format!("captured {customer} {id} {}", quantity - 1)
            }
        };
        self.remember(vec![done], asked);
    }

    /// Calls until there is an answer, and remembers it.
    fn record(&mut self, sql: &str) -> Vec<String> {
        let asked = Instant::now();
        let lines = self.call(sql);
        self.remember(lines.clone(), asked);
        lines
    }

    fn remember(&self, lines: Vec<String>, asked: Instant) {
        let answered = Instant::now();
        let answers = lines.into_iter().map(|line| Answer {
            line,
            asked,
            answered,
        });
        self.shared.answers.lock().expect("answers").extend(answers);
    }

    /// Calls until there is an answer.
    fn call(&mut self, sql: &str) -> Vec<String> {
        loop {
            let Some(client) = self.connected() else {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            };
            match client.simple_query(sql) {
                Ok(messages) => {
                    self.shared.counts[self.nth].fetch_add(1, Relaxed);
                    return messages.into_iter().filter_map(line).collect();
                }
                Err(error) => self.error(sql, &error),
            }
        }
    }

    fn connected(&mut self) -> Option<&mut Client> {
        if self.client.is_none() {
            let server = self.shared.server.lock().expect("the server").clone();
            let mut client = match Client::connect(&server, NoTls) {
                Ok(client) => client,
                Err(error) => {
                    assert!(
                        !self.shared.stop.load(Relaxed) || is_passing(&error),
                        "{error}"
                    );
                    return None;
                }
            };
            let pid = client.query_one("SELECT pg_backend_pid()", &[]).ok()?;
            let pid = usize::try_from(pid.get::<_, i32>(0)).expect("a process");
            self.shared.backends[self.nth].store(pid, Relaxed);
            self.client = Some(client);
        }
        self.client.as_mut()
    }

    /// What a client may see when its server fails, and nothing else. It asks again.
    fn error(&mut self, sql: &str, error: &postgres::Error) {
        assert!(is_passing(error), "{sql}: {error:?}");
        let code = error.code().map_or("no answer", |code| code.code());
        let mut errors = self.shared.errors.lock().expect("errors");
        *errors.entry(code.to_owned()).or_default() += 1;
        if self.client.as_ref().is_some_and(Client::is_closed) || code.starts_with("57P") {
            self.shared.backends[self.nth].store(0, Relaxed);
            self.client = None;
        }
    }
}

/// The server is gone or going (57P..), or may not write any more (25006); the call was cancelled (57014), a lock not
/// had (40P01, 55P03), or no memory or disk (53...).
fn is_passing(error: &postgres::Error) -> bool {
    match error.code().map(|code| code.code()) {
        None => true,
        Some(code) => {
            code.starts_with("57P")
                || code.starts_with("53")
                || ["25006", "57014", "40P01", "55P03"].contains(&code)
        }
    }
}

fn debit(customer: &str, quantity: u32, key: &str) -> String {
    format!(
        "SELECT kind, customer, id, trim_scale(credits)
         FROM credyt.debit_credits('{customer}', 'load.image', {quantity}, idempotency_key => '{key}')"
    )
}

fn line(message: SimpleQueryMessage) -> Option<String> {
    let SimpleQueryMessage::Row(row) = message else {
        return None;
    };
    let cells: Vec<&str> = (0..row.len()).filter_map(|at| row.get(at)).collect();
    Some(cells.join(" "))
}
