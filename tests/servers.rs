//! Several independent servers with the same books, by the recipes of docs/scale.md: prices that are set on one are charged
//! on the others, reports add up, a customer moves with his whole history, and one server after another gets a new version.

mod support;

use postgres::{Client, NoTls};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use support::Server;
use support::everything::lawful;
use support::older::{Older, VERSION};
use support::recipes::{recipe, refused, run, until};
use support::sql::{refusal, rows, value, values};

const SHOP: &str = r#"
    SELECT credyt.create_asset('credits');
    SELECT credyt.set_price('image', '2');
    SELECT credyt.set_price('chat', '{"meters": {"input_tokens": {"per": 1000, "credits": "0.1"}}}');
    SELECT credyt.set_price('image', '1', customer => 'c4');
    SELECT credyt.create_plan('pro', 100, paid => 30, rollover => 50);
    SELECT credyt.set_vendor_rate('gpu', 'a100', '{"second": "0.0011"}');"#;

/// What customers of one server do.
fn live(client: &mut Client, customers: &[&str]) {
    for (nth, customer) in customers.iter().enumerate() {
        rows(
            client,
            &format!(
                r#"SELECT credyt.grant_credits('{customer}', 100, paid => {nth}.37, idempotency_key => 'pack');
                   SELECT credyt.grant_credits('{customer}', 5, 'promotional', expires_at => now() + interval '1 day');
                   SELECT credyt.subscribe('{customer}', 'pro');
                   SELECT count(credyt.debit_credits('{customer}', 'image', n, cost => n * 0.011, scopes => '{{user:a}}', idempotency_key => 'image-' || n))
                   FROM generate_series(1, 5) n;
                   SELECT credyt.debit_credits('{customer}', 'chat', usage => '{{"vendor": "gpu", "model": "a100", "body": {{"second": 3}}}}', credits => 1);
                   SELECT credyt.refund('{customer}', id, 1) FROM credyt.ledger WHERE customer = '{customer}' AND quantity = 5;
                   SELECT credyt.authorize('{customer}', 'image', idempotency_key => 'hold');
                   SELECT credyt.set_limit('{customer}', 'user:*', 1000);
                   SELECT credyt.set_alert('{customer}', 10)"#
            ),
        );
    }
}

const MARGIN: &str = "SELECT asset, action, debits, credits, revenue, cost, margin FROM credyt.margin_by_action ORDER BY 1, 2";

fn server(settings: &[&str]) -> Server {
    let server = Server::start_with(&[&["fsync=off"], settings].concat());
    rows(
        &mut server.client(),
        "CREATE DATABASE shop TEMPLATE template0",
    );
    server
}

fn port(server: &Server) -> String {
    value(&mut server.client(), "SHOW port")
}

#[test]
fn servers_share_books_add_up_and_hand_over_customers() {
    let books = server(&["wal_level=logical"]);
    let (one, two) = (server(&[]), server(&[]));
    let at_books = books.connect_str_to("shop");
    let mut master = books.client_to("shop");
    rows(&mut master, "CREATE EXTENSION credyt_pg");
    rows(&mut master, SHOP);
    for (name, server) in [("one", &one), ("two", &two)] {
        run(
            &recipe("The books"),
            &[
                ("BOOKS", &at_books),
                ("NEW", &server.connect_str_to("shop")),
                ("NAME", name),
            ],
        );
    }
    let mut there = [one.client_to("shop"), two.client_to("shop")];
    let customers = [["c1", "c2", "c3"], ["c4", "c5", "c6"]];
    for (client, customers) in there.iter_mut().zip(&customers) {
        until(
            client,
            "SELECT count(*) > 5 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel",
        );
        live(client, customers);
    }

    // A new price reaches the others within a second. Once its row is there, the next call charges it, in sessions that
    // have charged the old one.
    let charge = |client: &mut Client, customer: &str| {
        let debit = format!("SELECT credits FROM credyt.debit_credits('{customer}', 'image')");
        value(client, &debit)
    };
    let mut watchers = [one.client_to("shop"), two.client_to("shop")];
    let mut arrived = Vec::new();
    for price in ["3", "4", "5", "6", "2"] {
        let set = format!("SELECT version FROM credyt.set_price('image', '{price}')");
        let is_there = format!(
            "SELECT EXISTS (SELECT FROM credyt.prices WHERE action = 'image' AND version = {})",
            value(&mut master, &set)
        );
        let since = Instant::now();
        for watcher in &mut watchers {
            until(watcher, &is_there);
        }
        arrived.push(since.elapsed());
        for (watcher, (client, customer)) in
            watchers.iter_mut().zip(there.iter_mut().zip(["c1", "c5"]))
        {
            // A row is seen a little before its transaction has told the other sessions and lets its locks go.
            rows(
                watcher,
                "BEGIN; LOCK TABLE credyt.prices IN SHARE MODE; COMMIT",
            );
            assert_eq!(charge(client, customer), price);
        }
        // A customer's own price is in the books, too.
        assert_eq!(charge(&mut there[1], "c4"), "1");
    }
    // The machine may be busy with other things: the quickest of them tells what it takes.
    let quickest = arrived.iter().min().expect("prices");
    assert!(*quickest < Duration::from_secs(1), "{arrived:?}");

    // Reports add up over both: what a single server with all of it would say.
    for (name, server) in [("one", &one), ("two", &two)] {
        rows(
            &mut server.client_to("shop"),
            "CREATE ROLE reader LOGIN; SELECT credyt.allow('reader', 'report')",
        );
        let reach = [
            ("REPORTS", at_books.as_str()),
            ("NAME", name),
            ("HOST", "localhost"),
            ("PORT", &port(server)),
            ("DATABASE", "shop"),
            ("READER", "reader"),
        ];
        let blocks = recipe("Reports over all of them");
        let (foreign, views) = blocks.split_once("\nSQL\n").expect("two commands");
        run(&format!("{foreign}\nSQL\n"), &reach);
        if name == "two" {
            run(views, &reach);
        }
    }
    let add_up = |there: &mut [Client; 2], master: &mut Client| {
        for (total, part) in [
            (
                "sum(revenue) || ' ' || sum(cost) || ' ' || sum(debits) FROM all_margin_by_action",
                "margin_by_action",
            ),
            (
                "sum(revenue) || ' ' || sum(credits) FROM all_deferred_revenue",
                "deferred_revenue",
            ),
        ] {
            let (what, _) = total.split_once(" FROM ").expect("FROM");
            let columns: Vec<&str> = what.split(" || ' ' || ").collect();
            let sums: Vec<String> = columns
                .iter()
                .map(|column| {
                    let parts: Vec<String> = there
                        .iter_mut()
                        .map(|client| value(client, &format!("SELECT {column} FROM credyt.{part}")))
                        .collect();
                    value(
                        master,
                        &format!("SELECT {}::numeric + {}", parts[0], parts[1]),
                    )
                })
                .collect();
            assert_eq!(value(master, &format!("SELECT {total}")), sums.join(" "));
        }
        value(
            master,
            "SELECT sum(revenue) || ' ' || sum(cost) || ' ' || sum(debits) FROM all_margin_by_action",
        )
    };
    let before = add_up(&mut there, &mut master);

    // A customer moves, with rollups on both servers; everything about him is as it was.
    for client in &mut there {
        rows(client, "SELECT credyt.maintain()");
    }
    let about = |client: &mut Client| {
        [
            "SELECT * FROM credyt.statement WHERE customer = 'c2' ORDER BY seq",
            "SELECT * FROM credyt.wallet_balances WHERE customer = 'c2'",
            "SELECT * FROM credyt.grant_balances WHERE customer = 'c2' ORDER BY id",
            "SELECT * FROM credyt.limits_used WHERE customer = 'c2'",
            "SELECT * FROM credyt.subscriptions WHERE customer = 'c2'",
            "SELECT * FROM credyt.alerts WHERE customer = 'c2'",
            "SELECT * FROM credyt.ledger_hash('c2')",
            "SELECT * FROM credyt.margin_by_customer WHERE customer = 'c2'",
        ]
        .map(|sql| values(client, sql))
    };
    let history = about(&mut there[0]);
    assert!(history.iter().all(|rows| !rows.is_empty()), "{history:?}");
    let (old, new) = (one.connect_str_to("shop"), two.connect_str_to("shop"));
    let mut blocks = recipe("A customer moves");
    let rebuild = blocks.split_off(blocks.find("for server in").expect("the rollups"));
    let move_c2 = [
        ("OLD", old.as_str()),
        ("NEW", new.as_str()),
        ("CUSTOMER", "c2"),
    ];
    run(&blocks, &move_c2);
    run(&rebuild, &move_c2);
    assert_eq!(about(&mut there[1]), history);
    assert_eq!(
        refusal(&mut there[0], "SELECT credyt.debit_credits('c2', 'image')").code,
        "WC002"
    );
    for client in &mut there {
        lawful(client);
    }
    assert_eq!(add_up(&mut there, &mut master), before);

    // His keys, his hold and his price are known where he is now.
    let here = &mut there[1];
    let replayed = "SELECT replayed FROM credyt.debit_credits('c2', 'image', 3, cost => 0.033, scopes => '{user:a}', idempotency_key => 'image-3')";
    assert_eq!(value(here, replayed), "t");
    let capture = "SELECT c.credits FROM credyt.open_authorizations h, credyt.capture(h.customer, h.id) c WHERE h.customer = 'c2'";
    assert_eq!(value(here, capture), "2");
    assert_eq!(charge(here, "c2"), "2");
    lawful(here);
    println!("{}", values(here, MARGIN).join("\n"));

    // Moving who is there already is refused, and nothing changes on either side.
    live(&mut there[0], &["c2"]);
    let counts =
        |client: &mut Client| value(client, "SELECT count(*), sum(credits) FROM credyt.ledger");
    let unchanged = [counts(&mut there[0]), counts(&mut there[1])];
    let why = refused(&blocks, &move_c2);
    assert!(why.contains("duplicate key"), "{why}");
    assert_eq!([counts(&mut there[0]), counts(&mut there[1])], unchanged);
}

/// A session that debits one customer for as long as the test goes, each debit with a key of its own. When its connection is
/// lost it connects again and sends the same call again.
struct Charging {
    booked: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Charging {
    fn start(connect: String, customer: &'static str) -> Charging {
        let (booked, lost) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let (counted, losses, until) = (booked.clone(), lost.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut client = None;
            let debit = "SELECT credits FROM credyt.debit_credits($1, 'image', idempotency_key => 'job ' || $2::bigint)";
            while !until.load(Ordering::Relaxed) {
                let nth = counted.load(Ordering::Relaxed) as i64;
                let answer = match &mut client {
                    Some(client) => Client::query_one(client, debit, &[&customer, &nth]),
                    none => match Client::connect(&connect, NoTls) {
                        Ok(connected) => {
                            none.insert(connected).query_one(debit, &[&customer, &nth])
                        }
                        Err(error) => Err(error),
                    },
                };
                match answer {
                    Ok(_) => {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    // Only what a restart does is expected: no answer, or the server says that it ends or starts (class 57).
                    Err(error) => {
                        let code = error.code().map(|code| code.code());
                        assert!(code.is_none_or(|code| code.starts_with("57P")), "{error:?}");
                        losses.fetch_add(1, Ordering::Relaxed);
                        client = None;
                        thread::sleep(Duration::from_millis(20));
                    }
                }
            }
        });
        Charging {
            booked,
            lost,
            stop,
            thread,
        }
    }

    fn booked(&self) -> u64 {
        self.booked.load(Ordering::Relaxed)
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits for some more debits.
    fn goes_on(&self) {
        let (from, since) = (self.booked(), Instant::now());
        while self.booked() < from + 5 {
            assert!(since.elapsed().as_secs() < 60, "no debits any more");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn one_server_after_another_gets_a_new_version_while_the_others_charge() {
    let older = Older::install();
    let follow = "wal_retrieve_retry_interval=200ms";
    let servers = [
        server(&[follow]),
        server(&[follow]),
        server(&["wal_level=logical"]),
    ];
    let [_, _, books] = &servers;
    let connect = servers
        .each_ref()
        .map(|server| server.connect_str_to("shop"));
    let create = format!("CREATE EXTENSION credyt_pg VERSION '{}'", older.version);
    rows(&mut books.client_to("shop"), &create);
    rows(&mut books.client_to("shop"), SHOP);
    let customers = ["c1", "c2", "c3"];
    for (at, name) in ["one", "two"].into_iter().enumerate() {
        let books_recipe = recipe("The books");
        assert!(books_recipe.contains("CREATE EXTENSION credyt_pg"));
        run(
            &books_recipe.replace("CREATE EXTENSION credyt_pg", &create),
            &[
                ("BOOKS", &connect[2]),
                ("NEW", &connect[at]),
                ("NAME", name),
            ],
        );
        until(
            &mut servers[at].client_to("shop"),
            "SELECT count(*) > 5 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel",
        );
    }
    let version = "SELECT extversion FROM pg_extension WHERE extname = 'credyt_pg'";
    for (server, customer) in servers.iter().zip(customers) {
        let mut client = server.client_to("shop");
        assert_eq!(value(&mut client, version), older.version);
        rows(
            &mut client,
            &format!("SELECT credyt.grant_credits('{customer}', 100000000, paid => 1000000)"),
        );
    }
    let charging: Vec<Charging> = connect
        .iter()
        .zip(customers)
        .map(|(connect, customer)| Charging::start(connect.clone(), customer))
        .collect();
    charging.iter().for_each(Charging::goes_on);

    for (nth, server) in servers.iter().enumerate() {
        let others = |what: fn(&Charging) -> u64| -> Vec<u64> {
            let others = charging.iter().enumerate().filter(|(at, _)| *at != nth);
            others.map(|(_, charging)| what(charging)).collect()
        };
        let (lost, booked) = (others(Charging::lost), others(Charging::booked));
        // Sessions that connect from now on load the new library; after a restart all have it.
        server.restart_immediate();
        charging[nth].goes_on();
        run(
            &recipe("An upgrade, server by server"),
            &[("SERVER", &connect[nth])],
        );
        assert_eq!(value(&mut server.client_to("shop"), version), VERSION);
        charging.iter().for_each(Charging::goes_on);
        assert_eq!(others(Charging::lost), lost, "another server noticed");
        assert!(
            others(Charging::booked)
                .iter()
                .zip(&booked)
                .all(|(now, then)| now > then)
        );

        // With servers of two versions a new price still reaches all of them, in the sessions that charge.
        let price = (nth + 3).to_string();
        rows(
            &mut books.client_to("shop"),
            &format!("SELECT credyt.set_price('image', '{price}')"),
        );
        for (server, customer) in servers.iter().zip(customers) {
            let charged = format!(
                "SELECT -credits = {price} FROM credyt.ledger WHERE customer = '{customer}' ORDER BY seq DESC LIMIT 1"
            );
            until(&mut server.client_to("shop"), &charged);
        }
    }

    // Every call was booked, once; what is new is there.
    for ((server, customer), charging) in servers.iter().zip(customers).zip(charging) {
        charging.stop.store(true, Ordering::Relaxed);
        charging.thread.join().expect("every debit was answered");
        let mut client = server.client_to("shop");
        let debits = format!(
            "SELECT count(*), count(DISTINCT idempotency_key) FROM credyt.ledger WHERE customer = '{customer}' AND kind = 'debit'"
        );
        let booked = charging.booked.load(Ordering::Relaxed);
        assert_eq!(value(&mut client, &debits), format!("{booked} {booked}"));
        rows(&mut client, "SELECT * FROM credyt.runway");
        lawful(&mut client);
    }
}
