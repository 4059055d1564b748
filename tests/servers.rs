//! Several independent servers with the same books, by the recipes of docs/scale.md: prices that are set on one are charged
//! on the others, reports add up, and a customer moves with his whole history.

mod support;

use postgres::Client;
use std::time::{Duration, Instant};
use support::Server;
use support::everything::lawful;
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

    // A new price is charged within a second, in sessions that have charged the old one.
    let charge = |client: &mut Client, customer: &str| {
        let debit = format!("SELECT credits FROM credyt.debit_credits('{customer}', 'image')");
        value(client, &debit)
    };
    for price in ["3", "2"] {
        let set = format!("SELECT credyt.set_price('image', '{price}')");
        rows(&mut master, &set);
        let since = Instant::now();
        for (client, customer) in there.iter_mut().zip(["c1", "c5"]) {
            while charge(client, customer) != price {
                assert!(
                    since.elapsed() < Duration::from_secs(10),
                    "still the old price"
                );
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        println!("a price reached both after {:?}", since.elapsed());
        // A customer's own price is in the books, too.
        assert_eq!(charge(&mut there[1], "c4"), "1");
    }

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
