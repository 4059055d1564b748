//! `credyt.health` names who keeps an old snapshot, also to who may read reports and nothing else.

mod support;

use postgres::Client;
use support::sql::{Database, attempt, rows, value, values};

/// What is found after a number of minutes more.
fn after(client: &mut Client, minutes: u32) -> Vec<String> {
    rows(
        client,
        &format!("UPDATE credyt.clock SET now = clock_timestamp() + interval '{minutes} minutes'"),
    );
    found(client)
}

fn found(client: &mut Client) -> Vec<String> {
    let sql = "SELECT severity, finding, detail ~ 'session-that-forgot, idle in transaction', hint
               FROM credyt.health WHERE finding <> 'clock_replaced'";
    values(client, sql)
}

#[test]
fn an_old_snapshot_is_named_and_its_remedy_helps() {
    let database = Database::new("old_snapshot");
    let mut client = database.connect();
    rows(
        &mut client,
        "INSERT INTO credyt.clock VALUES (clock_timestamp());
         DROP ROLE IF EXISTS health_reader;
         CREATE ROLE health_reader;
         SELECT credyt.allow('health_reader', 'report')",
    );
    let mut forgetful = database.connect();
    let pid = value(&mut forgetful, "SELECT pg_backend_pid()");
    rows(
        &mut forgetful,
        "SET application_name = 'session-that-forgot'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM credyt.wallets",
    );
    assert!(after(&mut client, 4).is_empty());
    let hint = format!("SELECT pg_terminate_backend({pid});");
    let warning = format!("warning old_snapshot t {hint}");
    assert_eq!(after(&mut client, 6), [warning]);
    let critical = format!("critical old_snapshot t {hint}");
    assert_eq!(after(&mut client, 61), std::slice::from_ref(&critical));

    // Without rights on pg_stat_activity, a reader of reports sees the same.
    let mut reader = database.connect();
    rows(&mut reader, "SET ROLE health_reader");
    assert_eq!(found(&mut reader), [critical]);
    assert!(attempt(&mut reader, "SELECT * FROM credyt.wallets").is_err());
    rows(&mut reader, "RESET ROLE");

    // The remedy, as it is given.
    rows(&mut client, &hint);
    while value(
        &mut client,
        &format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"),
    ) != "0"
    {}
    assert!(found(&mut client).is_empty());
    rows(
        &mut client,
        "DROP OWNED BY health_reader; DROP ROLE health_reader; DELETE FROM credyt.clock",
    );
}
