//! The ledger on another server: pg_upgrade, a standby and its promotion, logical replication, point-in-time recovery.

mod support;

use postgres::Client;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use support::Server;
use support::everything::{fill, goes_on, hashes, lawful};
use support::load::{Load, exactly_once, none_lost};
use support::recipes::{recipe, run, until};
use support::sql::{attempt, rows, value, values};

/// A server whose database `shop` has everything in it.
fn shop(settings: &[&str]) -> (Server, Client) {
    let server = Server::start_with(&[&["fsync=off"], settings].concat());
    let mut client = server.fresh_database("shop");
    fill(&mut client);
    (server, client)
}

/// The Postgres that servers are moved to: 18, once the extension is there; or else the one that is tested.
fn newest() -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/env.sh");
    let output = Command::new(script).arg("18").output().expect("env.sh");
    let newest = String::from_utf8(output.stdout).expect("UTF-8");
    let newest = newest.trim();
    let shared = Command::new(newest).arg("--sharedir").output();
    let shared = shared.map(|output| String::from_utf8(output.stdout).expect("UTF-8"));
    let has_extension = shared.is_ok_and(|folder| {
        Path::new(folder.trim())
            .join("extension/credyt_pg.control")
            .exists()
    });
    match has_extension {
        true => newest.to_owned(),
        false => std::env::var("CREDYT_PG_CONFIG").expect("CREDYT_PG_CONFIG"),
    }
}

#[test]
fn pg_upgrade_keeps_everything() {
    let (old, mut client) = shop(&[]);
    let before = hashes(&mut client);
    let version = value(&mut client, "SHOW server_version");
    // 15.20 notes an option with every column that pg_upgrade hands on and 18.6 does not know, of whatever table.
    rows(
        &mut client,
        "SET allow_system_table_mods = on;
         UPDATE pg_attribute SET attoptions = NULL WHERE attoptions::text LIKE '{pg_attver=%'",
    );
    drop(client);
    let new = old.upgraded(&newest());
    let mut client = new.client_to("shop");
    println!(
        "pg_upgrade from {version} to {}",
        value(&mut client, "SHOW server_version")
    );
    assert_eq!(hashes(&mut client), before);
    goes_on(&mut client);
}

/// Waits until a standby has replayed all that its primary has written by now.
fn follow(primary: &mut Client, standby: &mut Client) {
    let written = value(primary, "SELECT pg_current_wal_lsn()");
    until(
        standby,
        &format!("SELECT pg_last_wal_replay_lsn() >= '{written}'"),
    );
}

/// A call of every form of every function of the extension that is volatile (or else: that is not), with values that make
/// sense for the arguments that it needs.
fn calls(client: &mut Client, volatile: bool) -> Vec<(String, String)> {
    let sql = format!(
        r#"SELECT p.proname, 'SELECT * FROM ' || p.oid::regproc || CASE WHEN by_name THEN '(jsonb_build_object(' ELSE '(' END || coalesce(string_agg(
               CASE WHEN by_name THEN quote_literal(a.name) || ', ' ELSE '' END ||
               CASE WHEN p.proname = 'topup_failed' AND a.name = 'customer' THEN '''low'''
                    WHEN a.name = 'customer' THEN '''ann''' WHEN a.name = 'to_customer' THEN '''bob'''
                    WHEN a.name = 'action' THEN '''image''' WHEN a.name = 'plan' THEN '''pro'''
                    WHEN a.name = 'asset' THEN '''credits''' WHEN a.name = 'scope' THEN '''user:a'''
                    WHEN p.proname = 'recost' THEN '''later'''
                    WHEN a.name = 'vendor' THEN '''gpu-cloud''' WHEN a.name = 'model' THEN '''a100'''
                    WHEN a.name = 'by' THEN '''{{action}}''' WHEN a.name = 'kind' THEN '''debit'''
                    WHEN a.name = 'what' THEN '''spend''' WHEN a.type = 'name'::regtype THEN '''postgres'''
                    WHEN a.name = 'target_margin' THEN '0.4'
                    WHEN a.name = 'every' THEN '''day''' WHEN a.name = 'timezone' THEN '''UTC'''
                    WHEN a.name = 'rounding' THEN '''up''' WHEN a.name = 'price' THEN '''2'''
                    WHEN p.proname = 'import_vendor_rates' THEN
                        '''[{{"id": "acme", "models": [{{"id": "m", "match": {{"equals": "m"}}, "prices": {{"input_mtok": 2}}}}]}}]'''
                    WHEN a.name = 'currency' THEN '''EUR''' WHEN a.name = 'to_currency' THEN '''USD'''
                    WHEN a.name = 'rates' THEN '''{{"gpu_second": 2}}''' WHEN a.name = 'usage' THEN '''{{"gpu_second": 3}}'''
                    WHEN a.name IN ('allocations', 'costs', 'lines') THEN '''[]'''
                    WHEN a.name = 'grant_id' THEN '(SELECT id FROM credyt.grant_balances WHERE customer = ''ann'' AND remaining > 100)'
                    WHEN a.name = 'debit_id' THEN '(SELECT id FROM credyt.ledger WHERE customer = ''ann'' AND idempotency_key = ''k'')'
                    WHEN a.name = 'authorization_id' THEN '(SELECT id FROM credyt.authorizations WHERE customer = ''ann'' AND idempotency_key = ''hold'')'
                    WHEN a.name = 'subscription_id' THEN '(SELECT id FROM credyt.booked_subscriptions WHERE customer = ''ann'')'
                    WHEN a.name = 'event_id' THEN '(SELECT id FROM credyt.events WHERE type = ''topup.requested'')'
                    WHEN p.proname = 'debit_many' THEN '''[{{"customer": "ann", "action": "image"}}]'''
                    WHEN p.proname = 'capture_many' THEN '(SELECT jsonb_build_array(jsonb_build_object(''customer'', customer, ''authorization_id'', id))
                        FROM credyt.authorizations WHERE customer = ''ann'' AND idempotency_key = ''hold'')'
                    WHEN p.proname = 'known_cost' THEN '''[]'''
                    WHEN p.proname = 'grant_many' THEN '''[{{"customer": "ann", "credits": 1}}]'''
                    WHEN a.name = 'ids' THEN '(SELECT array_agg(id) FROM credyt.events)'
                    WHEN a.type = 'credyt.wallet'::regtype THEN '(SELECT state FROM credyt.wallets LIMIT 1)'
                    WHEN a.type = 'bytea'::regtype THEN '(SELECT state::bytea FROM credyt.wallets LIMIT 1)'
                    WHEN a.type = 'text'::regtype THEN '''x''' WHEN a.type = 'text[]'::regtype THEN '''{{x}}''' WHEN a.type = 'int[]'::regtype THEN '''{{1}}'''
                    WHEN a.type = 'jsonb'::regtype THEN '''{{}}''' WHEN a.type = 'uuid'::regtype THEN 'gen_random_uuid()'
                    WHEN a.type = 'timestamptz'::regtype THEN '''2025-06-01Z''' ELSE '1' END
               || '::' || a.type::regtype, ', ' ORDER BY a.nth), '')
               || CASE WHEN p.proname = 'record_cost' THEN CASE WHEN by_name THEN ', ''cost'', 1' ELSE ', cost => 1' END
                       WHEN p.proname = 'set_topup' THEN CASE WHEN by_name THEN ', ''credits'', 1' ELSE ', credits => 1' END ELSE '' END
               || CASE WHEN by_name THEN '))' ELSE ')' END
           FROM pg_proc p
           JOIN (VALUES (false), (true)) form (by_name)
               ON NOT by_name OR EXISTS (SELECT FROM pg_proc j WHERE j.pronamespace = p.pronamespace AND j.proname = p.proname AND j.proargnames[1] = 'request')
           LEFT JOIN LATERAL (SELECT nth, type, coalesce(p.proargnames[nth], '') AS name
                              FROM unnest(p.proargtypes) WITH ORDINALITY a (type, nth)
                              WHERE nth <= p.pronargs - p.pronargdefaults) a ON true
           WHERE p.pronamespace = 'credyt'::regnamespace AND (p.provolatile = 'v') = {volatile}
             AND p.prorettype NOT IN ('trigger'::regtype, 'cstring'::regtype) AND 'internal'::regtype <> ALL (p.proargtypes)
             AND p.prokind <> 'a' AND p.proname <> 'wallet_in' AND p.proargnames[1] IS DISTINCT FROM 'request'
           GROUP BY p.oid, p.proname, by_name ORDER BY 1"#
    );
    let lines = values(client, &sql);
    let pair = |line: String| {
        let (name, call) = line.split_once(' ').expect("a call");
        (name.to_owned(), call.to_owned())
    };
    lines.into_iter().map(pair).collect()
}

#[test]
fn a_standby_reads_refuses_to_write_and_takes_over_under_load() {
    let (primary, mut here) = shop(&["max_connections=30"]);
    let standby = primary.standby();
    let mut there = standby.client_to("shop");
    follow(&mut here, &mut there);
    assert_eq!(value(&mut there, "SELECT pg_is_in_recovery()"), "t");
    assert_eq!(hashes(&mut there), hashes(&mut here));
    lawful(&mut there);

    // Everything that reads, reads.
    let views = "SELECT 'SELECT count(*) FROM ' || oid::regclass FROM pg_class
                 WHERE relnamespace = 'credyt'::regnamespace AND relkind = 'v' ORDER BY 1";
    for view in values(&mut here, views) {
        assert_eq!(value(&mut there, &view), value(&mut here, &view), "{view}");
    }
    let reads = calls(&mut here, false);
    assert!(reads.len() > 20, "{reads:?}");
    for (name, call) in reads {
        if let Err(refusal) = attempt(&mut there, &call) {
            panic!("{name}: {refusal:?}");
        }
    }

    // Everything that writes says why it cannot; and what only looks like it, answers.
    let writers = calls(&mut here, true);
    assert!(writers.len() > 30, "{writers:?}");
    let mut wrong = Vec::new();
    for (name, call) in writers {
        let answer = attempt(&mut there, &call);
        let code = answer.as_ref().err().map(|refusal| refusal.code.as_str());
        let right = match name.as_str() {
            "quote" | "vendor_cost" | "direct_access_counts" => code.is_none(),
            // Called by other functions only, and never with arguments like these.
            "spend" | "keep_period" => code.is_none_or(|code| !code.starts_with("XX")),
            // It looks for Citus first.
            "distribute" => code == Some("55000"),
            _ => code == Some("25006"),
        };
        if !right {
            wrong.push(format!("{call}: {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    lawful(&mut there);

    // What is set on the primary counts on the standby, in a session that has asked before.
    let quote = "SELECT credits FROM credyt.quote('image', customer => 'ann')";
    assert_eq!(value(&mut there, quote), "2");
    rows(
        &mut here,
        "SELECT credyt.set_price('image', '2.5', customer => 'ann')",
    );
    follow(&mut here, &mut there);
    assert_eq!(value(&mut there, quote), "2.5");
    rows(
        &mut here,
        "SELECT credyt.set_price('image', '2', customer => 'ann')",
    );

    // An answer that the standby has not heard of would be lost with the primary: this is what waiting for it is for.
    rows(
        &mut here,
        "ALTER SYSTEM SET synchronous_standby_names = '*'",
    );
    rows(&mut here, "SELECT pg_reload_conf()");
    until(
        &mut here,
        "SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync'",
    );
    let load = Load::start(&primary.connect_str_to("shop"), 4);
    load.wait(50);
    primary.stop();
    assert_eq!(value(&mut there, "SELECT pg_promote()"), "t");
    load.move_to(&standby.connect_str_to("shop"));
    load.wait(50);
    let (answers, errors) = load.stop();
    println!("promotion: {} answers, errors {errors:?}", answers.len());
    exactly_once(&mut there, &answers);
    goes_on(&mut there);
}

#[test]
fn logical_replication_carries_everything_to_another_server() {
    let (old, mut here) = shop(&["wal_level=logical", "max_connections=40"]);
    let new = Server::start_with(&["fsync=off"]);
    rows(&mut new.client(), "CREATE DATABASE shop TEMPLATE template0");
    let load = Load::start(&old.connect_str_to("shop"), 2);
    load.wait(20);
    let (from, to) = (old.connect_str_to("shop"), new.connect_str_to("shop"));
    let environment = [("OLD", from.as_str()), ("NEW", to.as_str())];
    run(
        &recipe("To another server, while the first one works"),
        &environment,
    );

    let mut there = new.client_to("shop");
    until(
        &mut there,
        "SELECT count(*) > 20 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel",
    );
    // The clock of tests is not among the tables.
    assert_eq!(
        value(
            &mut there,
            "SELECT count(*) FROM pg_subscription_rel WHERE srrelid = 'credyt.clock'::regclass"
        ),
        "0"
    );
    load.wait(20);
    lawful(&mut there);
    // A session there that has compiled a price (a debit that is rolled back leaves no row behind) hears of the next one.
    let debit = "BEGIN; SELECT d.id FROM credyt.grant_credits('x', 100) d; SELECT credits FROM credyt.debit_credits('x', 'image'); ROLLBACK";
    for _ in 0..3 {
        assert_eq!(value_of_last(&mut there, debit), "1");
    }
    for price in ["1.25", "1.5", "1.75"] {
        rows(
            &mut here,
            &format!("SELECT credyt.set_price('image', '{price}')"),
        );
        until(
            &mut there,
            &format!(
                "SELECT count(*) = 1 FROM credyt.prices WHERE action = 'image' AND price = '{price}'"
            ),
        );
        assert_eq!(value_of_last(&mut there, debit), price);
    }
    // Rollups have no primary key: publishing them must not stop what changes them.
    rows(&mut here, "SELECT credyt.maintain()");
    rows(&mut here, "SELECT credyt.set_price('image', '1')");
    let (answers, _) = load.stop();

    // Nobody writes any more; the new server takes over when it has everything.
    let expected = hashes(&mut here);
    run(&recipe("The switch-over"), &environment);
    assert_eq!(hashes(&mut there), expected);
    exactly_once(&mut there, &answers);
    drop(old);
    goes_on(&mut there);
    let load = Load::start(&to, 2);
    load.wait(20);
    let more = load.stop().0;
    exactly_once(&mut there, &[answers, more].concat());
    lawful(&mut there);
}

fn value_of_last(client: &mut Client, statements: &str) -> String {
    values(client, statements).pop().expect("a row")
}

#[test]
fn recovery_goes_back_to_a_name_and_to_a_moment() {
    let (server, mut client) = shop(&["archive_mode=on", "max_connections=30"]);
    let archive = server.data_directory().with_file_name("archive");
    std::fs::create_dir(&archive).expect("an archive");
    std::fs::set_permissions(&archive, std::fs::Permissions::from_mode(0o777)).expect("open");
    let archive = archive.display();
    rows(
        &mut client,
        &format!("ALTER SYSTEM SET archive_command = 'cp %p {archive}/%f'"),
    );
    rows(&mut client, "SELECT pg_reload_conf()");

    // Two base backups while there is work.
    let url = server.connect_str_to("shop");
    let load = Load::start(&url, 4);
    load.wait(20);
    let settings = |target: &str| {
        [
            format!("restore_command = 'cp {archive}/%f %p'"),
            "recovery_target_action = 'promote'".to_owned(),
            "archive_mode = off".to_owned(),
            target.to_owned(),
        ]
    };
    let by_name = server.copy(&settings("recovery_target_name = 'quiet'"));
    let by_time = server.copy(&settings(""));
    load.wait(20);
    let (first, _) = load.stop();

    // A name for a moment at which nobody writes.
    rows(&mut client, "SELECT pg_create_restore_point('quiet')");
    let expected = hashes(&mut client);

    // And a moment in the middle of things.
    let load = Load::start(&url, 4);
    load.wait(50);
    let before = Instant::now();
    let moment = value(&mut client, "SELECT clock_timestamp()");
    let after = Instant::now();
    load.wait(50);
    let (second, _) = load.stop();
    let last = value(&mut client, "SELECT pg_walfile_name(pg_switch_wal())");
    until(
        &mut client,
        &format!("SELECT coalesce(last_archived_wal, '') >= '{last}' FROM pg_stat_archiver"),
    );

    let mut there = recovered(&by_name);
    assert_eq!(hashes(&mut there), expected);
    exactly_once(&mut there, &first);
    goes_on(&mut there);

    std::fs::OpenOptions::new()
        .append(true)
        .open(by_time.data_directory().join("postgresql.conf"))
        .and_then(|mut file| {
            std::io::Write::write_all(
                &mut file,
                format!("recovery_target_time = '{moment}'\n").as_bytes(),
            )
        })
        .expect("the target");
    let mut there = recovered(&by_time);
    none_lost(&mut there, &first);
    let answered: Vec<_> = second
        .iter()
        .filter(|answer| answer.answered < before)
        .cloned()
        .collect();
    none_lost(&mut there, &answered);
    let booked = support::load::booked(&mut there);
    let later = second.iter().filter(|answer| answer.asked > after);
    let too_late: Vec<&str> = later
        .map(|answer| answer.line.as_str())
        .filter(|line| booked.contains(*line))
        .collect();
    assert!(
        too_late.is_empty() && booked.len() > first.len(),
        "{too_late:?}"
    );
    println!(
        "recovered {} of {} movements",
        booked.len(),
        first.len() + second.len()
    );
    goes_on(&mut there);
}

/// Starts a base backup, which replays the archive up to its target and then goes its own way.
fn recovered(copy: &Server) -> Client {
    let signal: PathBuf = copy.data_directory().join("recovery.signal");
    std::fs::write(signal, "").expect("recovery.signal");
    copy.start_again();
    let mut client = copy.client_to("shop");
    until(&mut client, "SELECT NOT pg_is_in_recovery()");
    client
}
