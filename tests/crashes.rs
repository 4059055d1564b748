//! Servers and sessions that end at the worst moment: what was answered is there, what was not is there once or not at
//! all, and every invariant holds.
//!
//! CREDYT_KILLS, CREDYT_STOPS and CREDYT_CANCELS say how many there are to be.

mod support;

use postgres::{Client, NoTls};
use rand::Rng;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use support::Server;
use support::everything::lawful;
use support::load::{Load, exactly_once, none_lost};
use support::sql::{Database, attempt, refusal, rows, value};

/// Nothing is flushed: a process that is killed, and a server that is stopped at once, leave behind what they have written
/// to the operating system, which goes on. Only its own crash would lose that. Commits are synchronous, as they are in
/// production: an answer comes after its WAL is written. Little memory, so that starting again is quick; little WAL, so
/// that checkpoints happen under load, too.
fn server() -> Server {
    Server::start_with(&[
        "fsync=off",
        "shared_buffers=16MB",
        "max_connections=20",
        "max_wal_size=48MB",
        "min_wal_size=32MB",
    ])
}

fn count(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |count| count.parse().expect(name))
}

/// Crashes a server under load again and again. How often, and how long each crash took.
fn crash(what: &str, times: usize, crash: impl Fn(&Server, &Load) -> Duration) {
    let server = server();
    drop(server.fresh_database("crashes"));
    let url = server.connect_str_to("crashes");
    let load = Load::start(&url, 4);
    let mut took = Vec::new();
    for nth in 1..=times {
        load.wait(3);
        std::thread::sleep(Duration::from_micros(rand::rng().random_range(0..10_000)));
        took.push(crash(&server, &load));
        if nth % 25 == 0 {
            let answers = load.answers();
            let mut client = server.client_to("crashes");
            none_lost(&mut client, &answers);
            lawful(&mut client);
        }
    }
    load.wait(3);
    let (answers, errors) = load.stop();
    let mut client = server.client_to("crashes");
    exactly_once(&mut client, &answers);
    lawful(&mut client);
    took.sort();
    println!(
        "{times} {what}, {} answers, errors {errors:?}; back after {:?} (median), {:?} (longest)",
        answers.len(),
        took[times / 2],
        took[times - 1]
    );
}

#[test]
fn nothing_is_lost_or_doubled_when_backends_are_killed() {
    crash("kills", count("CREDYT_KILLS", 200), |server, load| {
        let url = server.connect_str_to("crashes");
        let mut witness = Client::connect(&url, NoTls).expect("a witness");
        let backend = loop {
            match load.a_backend() {
                Some(backend) => break backend.to_string(),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let since = Instant::now();
        let kill = Command::new("kill").args(["-9", &backend]).status();
        assert!(kill.expect("kill").success());
        // A backend that is killed takes all the others with it.
        while witness.simple_query("SELECT 1").is_ok() {
            assert!(since.elapsed() < Duration::from_secs(20), "nobody died");
            std::thread::sleep(Duration::from_millis(1));
        }
        while Client::connect(&url, NoTls).is_err() {
            assert!(since.elapsed() < Duration::from_secs(60), "no server");
            std::thread::sleep(Duration::from_millis(1));
        }
        since.elapsed()
    });
}

#[test]
fn nothing_is_lost_or_doubled_when_the_server_is_stopped_at_once() {
    crash("immediate stops", count("CREDYT_STOPS", 50), |server, _| {
        let since = Instant::now();
        server.restart_immediate();
        since.elapsed()
    });
}

/// A folder on a file system of its own, with so much room. Only root may make one: without it the test has nothing to try.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(server: &Server, megabytes: usize) -> Option<SmallDisk> {
        let data = server.data_directory();
        let folder = data.with_file_name("small");
        std::fs::create_dir(&folder).expect("a folder");
        let owner = std::fs::metadata(data).expect("the data");
        let options = format!(
            "size={megabytes}m,mode=700,uid={},gid={}",
            owner.uid(),
            owner.gid()
        );
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "credyt_small"])
            .arg(&folder)
            .status();
        match mounted.is_ok_and(|status| status.success()) {
            true => Some(SmallDisk(folder)),
            false => {
                println!("not tried: a small file system cannot be mounted here");
                None
            }
        }
    }

    /// Fills it up to the last byte.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("ballast")).expect("ballast");
        for size in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Its server may still be there: the folder lets go when it is gone.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_calls_and_harms_nothing() {
    let server = server();
    let Some(disk) = SmallDisk::new(&server, 24) else {
        return;
    };
    let place = disk.0.display();
    let mut admin = server.client();
    rows(
        &mut admin,
        &format!("CREATE TABLESPACE small LOCATION '{place}'"),
    );
    rows(
        &mut admin,
        "CREATE DATABASE crashes TEMPLATE template0 TABLESPACE small",
    );
    let mut client = server.client_to("crashes");
    rows(&mut client, "CREATE EXTENSION credyt_pg");
    let load = Load::start(&server.connect_str_to("crashes"), 4);
    load.wait(20);
    disk.fill();
    // Pages that are there take rows for a while: then each call needs room and is refused.
    let since = Instant::now();
    while load.errors().get("53100").copied().unwrap_or_default() < 40 {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "{:?}",
            load.errors()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let full = refusal(
        &mut client,
        "SELECT count(d.id) FROM generate_series(1, 20000) n, credyt.debit_credits('load0', 'load.image', 1 + 0 * n) d",
    );
    assert_eq!(full.code, "53100", "{full:?}");
    assert!(full.message.contains("No space left on device"), "{full:?}");
    // Reading goes on, and all that was answered is there.
    none_lost(&mut client, &load.answers());
    lawful(&mut client);
    disk.empty();
    load.wait(20);
    let (answers, errors) = load.stop();
    println!("full disk: {} answers, errors {errors:?}", answers.len());
    exactly_once(&mut client, &answers);
    lawful(&mut client);
}

#[test]
fn a_full_disk_for_wal_stops_the_server_and_loses_nothing() {
    let server = server();
    let Some(disk) = SmallDisk::new(&server, 80) else {
        return;
    };
    drop(server.fresh_database("crashes"));
    let wal = server.data_directory().join("pg_wal");
    server.stop();
    let moved = Command::new("cp")
        .arg("-a")
        .arg(wal.join("."))
        .arg(&disk.0)
        .status();
    assert!(moved.is_ok_and(|status| status.success()));
    std::fs::remove_dir_all(&wal).expect("moved");
    std::os::unix::fs::symlink(&disk.0, &wal).expect("linked");
    server.start_again();
    let load = Load::start(&server.connect_str_to("crashes"), 4);
    load.wait(20);
    disk.fill();
    // WAL files are used again and again; writing more than they hold takes the server down.
    let since = Instant::now();
    while let Ok(mut client) = Client::connect(server.connect_str(), NoTls) {
        assert!(since.elapsed() < Duration::from_secs(60), "it still runs");
        let _ = client.batch_execute("CREATE TABLE IF NOT EXISTS filler (x text); INSERT INTO filler SELECT repeat(md5(n::text), 30) FROM generate_series(1, 20000) n");
        std::thread::sleep(Duration::from_millis(5));
    }
    disk.empty();
    server.restart_immediate();
    load.wait(20);
    let (answers, errors) = load.stop();
    println!(
        "full disk for WAL: {} answers, errors {errors:?}",
        answers.len()
    );
    let mut client = server.client_to("crashes");
    exactly_once(&mut client, &answers);
    lawful(&mut client);
}

/// One statement that does a lot, long enough to be hit anywhere in it. All of it carries the number of the round.
fn busy(round: usize) -> String {
    format!(
        "WITH prices AS (SELECT credyt.set_price('busy', to_jsonb({round} + n)) FROM generate_series(1, 3) n)
         SELECT (SELECT count(*) FROM prices),
                count(credyt.debit_credits('ann', 'image', idempotency_key => '{round}-debit-' || n)),
                count(credyt.grant_credits('ann', 2, paid => 1, priority => 1, idempotency_key => '{round}-grant-' || n)),
                count(credyt.debit_credits('ann', 'busy', credits => 1, scopes => ARRAY['user:' || n], idempotency_key => '{round}-busy-' || n)),
                count(credyt.release('ann', (credyt.authorize('ann', 'image', idempotency_key => '{round}-hold-' || n)).id)),
                count(credyt.capture('ann', (credyt.authorize('ann', 'image', idempotency_key => '{round}-capture-' || n)).id))
         FROM generate_series(1, 10) n"
    )
}

/// What a round has left behind: everything (50 keys, 3 versions of a price), or nothing.
fn left(client: &mut Client, round: usize) -> String {
    let sql = format!(
        "SELECT (SELECT count(*) FROM credyt.ledger WHERE idempotency_key LIKE '{round}-%')
              + (SELECT count(*) FROM credyt.authorizations WHERE idempotency_key LIKE '{round}-%'),
                (SELECT count(*) FROM credyt.prices WHERE action = 'busy' AND price = to_jsonb({round} + 3))"
    );
    value(client, &sql)
}

fn busy_database(name: &str) -> (Database, Client) {
    let database = Database::new(name);
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.set_price('busy', '1'); SELECT credyt.grant_credits('ann', 1e9); SELECT credyt.set_limit('ann', 'user:*', 1e9)",
    );
    (database, client)
}

/// How a session is used after it was interrupted: what it remembers is what is committed.
fn still_right(client: &mut Client) {
    assert_eq!(
        value(
            client,
            "SELECT credits FROM credyt.debit_credits('ann', 'image')"
        ),
        "1"
    );
    let price = "SELECT price #>> '{}' FROM credyt.prices WHERE action = 'busy' ORDER BY version DESC LIMIT 1";
    let price = value(client, price);
    assert_eq!(
        value(
            client,
            "SELECT credits FROM credyt.debit_credits('ann', 'busy')"
        ),
        price
    );
}

#[test]
fn a_cancelled_statement_leaves_nothing_half_done() {
    let (database, mut client) = busy_database("cancelled");
    let backend = value(&mut client, "SELECT pg_backend_pid()");
    // How long it takes when it is let be.
    rows(&mut client, &busy(1_000_000));
    let since = Instant::now();
    rows(&mut client, &busy(2_000_000));
    let usual = since.elapsed();
    let mut other = database.connect();
    let mut cancelled = 0;
    for nth in 1..=count("CREDYT_CANCELS", 150) {
        let round = nth * 10;
        let done = std::thread::scope(|scope| {
            let work = scope.spawn(|| attempt(&mut client, &busy(round)).map(|_| ()));
            std::thread::sleep(usual.mul_f64(rand::rng().random_range(0.0..1.1)));
            rows(&mut other, &format!("SELECT pg_cancel_backend({backend})"));
            work.join().expect("done")
        });
        let expected = match &done {
            Ok(()) => "50 1",
            Err(refusal) => {
                assert_eq!(refusal.code, "57014", "{refusal:?}");
                cancelled += 1;
                "0 0"
            }
        };
        assert_eq!(left(&mut other, round), expected);
        // A signal that came too late for one statement may meet the next.
        let _ = attempt(&mut client, "SELECT 1");
        still_right(&mut client);
        if nth % 25 == 0 {
            lawful(&mut other);
        }
    }
    println!("{cancelled} cancelled, a statement of {usual:?}");
    assert!(cancelled > 10);
}

#[test]
fn a_timeout_leaves_nothing_half_done() {
    let (database, mut client) = busy_database("timeouts");
    let mut other = database.connect();
    rows(&mut client, &busy(1_000_000));
    rows(
        &mut client,
        "CREATE TEMP TABLE outcome (round int, caught boolean)",
    );

    // Caught in PL/pgSQL: the session and the transaction go on, without what the block had done.
    let mut caught = 0;
    for nth in 1..=40 {
        let round = nth * 10;
        rows(
            &mut client,
            &format!("SET statement_timeout = {}", 1 + nth % 12),
        );
        let block = format!(
            "DO $do$ BEGIN
                 PERFORM credyt.debit_credits('ann', 'image', idempotency_key => 'before-{round}');
                 BEGIN
                     PERFORM * FROM ({}) b;
                     INSERT INTO outcome VALUES ({round}, false);
                 EXCEPTION WHEN query_canceled THEN
                     INSERT INTO outcome VALUES ({round}, true);
                 END;
                 PERFORM credyt.debit_credits('ann', 'image', idempotency_key => 'after-{round}');
             END $do$",
            busy(round)
        );
        let done = attempt(&mut client, &block);
        // Which may come too late itself.
        while attempt(&mut client, "SET statement_timeout = 0").is_err() {}
        let expected = match done {
            Ok(_) => {
                let outcome = format!("SELECT caught FROM outcome WHERE round = {round}");
                match value(&mut client, &outcome).as_str() {
                    "t" => {
                        caught += 1;
                        "0 0 2"
                    }
                    _ => "50 1 2",
                }
            }
            // Before the block, or after it.
            Err(refusal) => {
                assert_eq!(refusal.code, "57014", "{refusal:?}");
                "0 0 0"
            }
        };
        let sql = format!(
            "SELECT count(*) FROM credyt.ledger WHERE idempotency_key IN ('before-{round}', 'after-{round}')"
        );
        let left = format!("{} {}", left(&mut other, round), value(&mut other, &sql));
        assert_eq!(left, expected);
        still_right(&mut client);
    }
    println!("{caught} timeouts caught");
    assert!(caught > 5);
    lawful(&mut other);

    // A lock that is not had: nothing is waited for behind it.
    rows(
        &mut other,
        "BEGIN; SELECT credyt.debit_credits('ann', 'image', idempotency_key => 'holds the wallet')",
    );
    rows(&mut client, "SET lock_timeout = '20ms'");
    let debit = "SELECT credits, replayed FROM credyt.debit_credits('ann', 'image', idempotency_key => 'waits')";
    assert_eq!(refusal(&mut client, debit).code, "55P03");
    rows(&mut other, "ROLLBACK");
    assert_eq!(value(&mut client, debit), "1 f");

    // A session that is ended in the middle of a transaction, by whatever: its wallet is free, and as it was.
    let mut endings = vec![("SET idle_in_transaction_session_timeout = 50", "25P03")];
    if value(
        &mut other,
        "SELECT current_setting('server_version_num')::int >= 170000",
    ) == "t"
    {
        endings.push(("SET transaction_timeout = 50", "25P04"));
    }
    for (setting, code) in endings {
        let mut client = database.connect();
        // On a busy machine it may end before the debit has.
        let debit = "SELECT credyt.debit_credits('ann', 'image', idempotency_key => 'ended')";
        let _ = client.simple_query(&format!("{setting}; BEGIN; {debit}"));
        std::thread::sleep(Duration::from_millis(200));
        let ended = refusal_or_end(&mut client);
        assert!(ended.is_none_or(|ended| ended == code), "{setting}");
        assert_eq!(
            value(
                &mut other,
                "SELECT count(*) FROM credyt.ledger WHERE idempotency_key = 'ended'"
            ),
            "0"
        );
        still_right(&mut other);
    }
}

/// The code of the error that a session ended with, where it has one.
fn refusal_or_end(client: &mut Client) -> Option<String> {
    let error = client.simple_query("SELECT 1").expect_err("it has ended");
    error.code().map(|code| code.code().to_owned())
}

#[test]
fn memory_that_is_not_to_be_had_is_an_error() {
    // The server and all its processes have little to ask for.
    let server = Server::start_limited(&["fsync=off", "shared_buffers=16MB"], 600_000);
    let mut client = server.fresh_database("small");
    rows(
        &mut client,
        "SELECT credyt.create_asset('credits'); SELECT credyt.set_price('image', '1');
         SELECT credyt.grant_credits('ann', 1000)",
    );
    let started = value(
        &mut client,
        "SELECT pg_postmaster_start_time(), pg_backend_pid()",
    );
    let documents = [
        "to_jsonb(repeat('x', 60000000))",
        "(SELECT jsonb_agg('1e100000'::jsonb) FROM generate_series(1, 500))",
    ];
    let calls = [
        "credyt.debit_credits('ann', 'image', metadata => $)",
        "credyt.debit_credits('ann', 'image', usage => jsonb_build_object('vendor', 'v', 'body', $))",
        "credyt.open_wallet($::text)",
        "credyt.freeze_wallet('ann', reason => $::text)",
        "credyt.grant_credits('ann', 1, applies_to => ARRAY(SELECT repeat('x', 200) FROM generate_series(1, length($::text) / 200)))",
    ];
    let mut all: Vec<String> = calls
        .iter()
        .flat_map(|call| documents.map(|document| call.replace('$', document)))
        .collect();
    all.push(calls[0].replace('$', "to_jsonb(repeat('x', 130000000))"));
    for call in all {
        let refusal = refusal(&mut client, &format!("SELECT * FROM {call}"));
        let expected = ["22023", "53200", "54000"].contains(&refusal.code.as_str());
        assert!(expected, "{call}: {refusal:?}");
    }
    // What is allowed passes, even here.
    rows(
        &mut client,
        "SELECT credyt.debit_credits('ann', 'image', metadata => to_jsonb(repeat('x', 16000000)))",
    );
    assert_eq!(
        value(&mut client, "SELECT available FROM credyt.balance('ann')"),
        "999"
    );
    assert_eq!(
        value(
            &mut client,
            "SELECT pg_postmaster_start_time(), pg_backend_pid()"
        ),
        started
    );
    lawful(&mut client);
}
