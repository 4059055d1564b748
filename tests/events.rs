//! The outbox under many workers: nothing is lost, nothing comes out of order, a request is answered once.

mod support;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use support::sql::{Database, attempt, rows, value, values};

#[test]
fn one_top_up_is_asked_for_by_twenty_four_connections() {
    let database = Database::new("asked_once");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 480), credyt.set_topup('acme', 240, 500), credyt.set_alert('acme', 100)",
    );
    let debit = "SELECT credyt.debit_credits('acme', 'image')";
    let spent = database.at_once(24, |_, client| {
        (0..20).filter(|_| attempt(client, debit).is_ok()).count()
    });
    assert_eq!(spent.iter().sum::<usize>(), 480);
    let told = "SELECT type, payload->>'available' FROM credyt.events_pending ORDER BY id";
    assert_eq!(
        values(&mut client, told),
        [
            "topup.requested 240",
            "balance.low 100",
            "balance.depleted 0"
        ]
    );
}

#[test]
fn a_top_up_that_arrives_twice_is_granted_once() {
    let database = Database::new("arrives_twice");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 10), credyt.set_topup('acme', 5, 100);
         SELECT credyt.debit_credits('acme', 'image', 6)",
    );
    // A slow worker and the one that took over, the webhook beside them.
    let granted = database.at_once(12, |_, client| {
        value(
            client,
            "SELECT remaining, replayed FROM credyt.grant_credits('acme', 100, paid => 10, idempotency_key => 'pay_1')",
        )
    });
    let first = granted.iter().filter(|answer| *answer == "100 f").count();
    assert_eq!(
        (first, granted.iter().filter(|a| *a == "100 t").count()),
        (1, 11)
    );
    assert_eq!(
        value(&mut client, "SELECT available FROM credyt.balance('acme')"),
        "104"
    );
}

#[test]
fn what_a_dead_worker_took_comes_again() {
    let database = Database::new("dead_worker");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('acme', 10), credyt.set_alert('acme', 5);
         SELECT credyt.debit_credits('acme', 'image', 10)",
    );
    let take = "SELECT id, type FROM credyt.take_events(10, 1)";
    // Dead before its transaction is over: at once.
    let mut dying = database.connect();
    rows(&mut dying, "BEGIN");
    let first = values(&mut dying, take);
    assert_eq!(first.len(), 2, "{first:?}");
    assert_eq!(values(&mut client, take), [""; 0]);
    drop(dying);
    let since = Instant::now();
    let taken = || {
        let mut client = database.connect();
        let mut events = values(&mut client, take);
        while events.is_empty() && since.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(50));
            events = values(&mut client, take);
        }
        events
    };
    assert_eq!(taken(), first);
    // Dead between take and ack: when its lease is over, the same in the same order.
    assert_eq!(values(&mut client, take), [""; 0]);
    assert_eq!(taken(), first);
    // One of them acknowledged, late and twice: the other one comes.
    let id = first[0].split(' ').next().unwrap();
    let ack = format!("SELECT events FROM credyt.ack_events('{{{id}}}')");
    assert_eq!(value(&mut client, &ack), "1");
    assert_eq!(value(&mut client, &ack), "0");
    assert_eq!(taken(), first[1..]);
}

#[test]
fn eight_workers_keep_the_order_of_every_customer() {
    let database = Database::new("eight_workers");
    let mut client = database.connect();
    let customers = 12;
    rows(
        &mut client,
        &format!(
            "SELECT credyt.grant_credits('c' || n, 11), credyt.set_alert('c' || n, 10) FROM generate_series(1, {customers}) n"
        ),
    );
    let seen: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());
    // Four connections make events: each pair of calls crosses the threshold and recovers.
    let made = 15 * customers;
    database.at_once(12, |nth, client| {
        if nth < 4 {
            for round in 0..15 {
                for customer in (1..=customers).filter(|n| n % 4 == nth) {
                    let debit =
                        format!("SELECT id FROM credyt.debit_credits('c{customer}', 'image')");
                    let id = value(client, &debit);
                    rows(
                        client,
                        &format!("SELECT credyt.refund('c{customer}', '{id}')"),
                    );
                    if round % 5 == 0 {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
            }
            return;
        }
        let since = Instant::now();
        while seen.lock().unwrap().len() < made && since.elapsed() < Duration::from_secs(60) {
            let batch = nth % 3 + 1;
            let take = format!("SELECT customer, id FROM credyt.take_events({batch}, 600)");
            for event in values(client, &take) {
                let (customer, id) = event.split_once(' ').unwrap();
                let mut seen = seen.lock().unwrap();
                seen.push((customer.to_owned(), id.to_owned()));
                drop(seen);
                std::thread::yield_now();
                let ack = format!("SELECT events FROM credyt.ack_events('{{{id}}}')");
                assert_eq!(value(client, &ack), "1");
            }
        }
    });
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), made);
    for n in 1..=customers {
        let customer = format!("c{n}");
        let mine = seen.iter().filter(|(c, _)| *c == customer);
        let ids: Vec<&String> = mine.map(|(_, id)| id).collect();
        assert_eq!(ids.len(), 15, "{customer}");
        assert!(ids.is_sorted(), "{customer}: {ids:?}");
    }
    let rows_of = "SELECT count(*), count(DISTINCT id), count(acknowledged_at) FROM credyt.events";
    assert_eq!(value(&mut client, rows_of), format!("{made} {made} {made}"));
    // In the order in which the wallet moved.
    let order = "SELECT count(*) FROM (SELECT created_at < lag(created_at) OVER (PARTITION BY customer ORDER BY id) AS wrong
                 FROM credyt.events) o WHERE wrong";
    assert_eq!(value(&mut client, order), "0");
}
