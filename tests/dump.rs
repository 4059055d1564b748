//! Backup and restore with Postgres' own programs, by the recipes of docs/operations.md: every row comes back, and the
//! ledger goes on.

mod support;

use postgres::Client;
use std::io::{Read, Write};
use support::everything::{fill, goes_on, hashes, tables};
use support::recipes::{self, recipe};
use support::sql::{Database, clock, rows, value, values};

fn lived_in(name: &str) -> (Database, Client) {
    let database = Database::empty(name);
    let mut client = database.connect();
    rows(&mut client, "CREATE EXTENSION credyt_pg");
    fill(&mut client);
    (database, client)
}

/// Runs a recipe, which dumps the database `shop` and restores it as `copy`, with other names for both.
fn run(recipe: &str, from: &Database, to: &Database) {
    let commands = recipe
        .replace("shop", from.name())
        .replace("copy", to.name());
    let server = from.connect_str();
    // host=... port=... user=... dbname=...
    let settings: Vec<(String, &str)> = server
        .split(' ')
        .filter_map(|setting| setting.split_once('='))
        .filter(|(name, _)| *name != "dbname")
        .map(|(name, value)| (format!("PG{}", name.to_uppercase()), value))
        .collect();
    let environment: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    recipes::run(&commands, &environment);
}

/// Dumps and restores by a recipe, or by commands like one.
fn restored(name: &str, commands: &str) {
    let (database, mut here) = lived_in(&format!("{name}_from"));
    let copy = Database::none(&format!("{name}_to"));
    rows(
        &mut here,
        &format!(
            "CREATE ROLE reader_{name}; GRANT SELECT ON credyt.wallet_balances TO reader_{name};
             GRANT EXECUTE ON FUNCTION credyt.balance(text, text, timestamptz) TO reader_{name}"
        ),
    );
    // What time it was in the test is not what time it is in the copy.
    clock(&mut here, "2040-01-01Z");
    run(commands, &database, &copy);

    let mut there = copy.connect();
    assert_eq!(hashes(&mut there), hashes(&mut here));
    // The hashes of the document, of both.
    let hashes_here = recipe("A hash of every table");
    let hashes_there = hashes_here.replace("shop", "copy");
    let same = format!("test -n \"$({hashes_here})\"; diff <({hashes_here}) <({hashes_there})");
    run(&same, &database, &copy);
    assert_eq!(value(&mut there, "SELECT count(*) FROM credyt.clock"), "0");
    assert_eq!(
        value(
            &mut there,
            &format!(
                "SELECT has_function_privilege('reader_{name}', 'credyt.balance(text, text, timestamptz)', 'EXECUTE'),
                        has_table_privilege('reader_{name}', 'credyt.wallet_balances', 'SELECT')"
            )
        ),
        "t t"
    );
    goes_on(&mut there);
    rows(&mut here, "DELETE FROM credyt.clock");
    for client in [&mut here, &mut there] {
        rows(client, &format!("DROP OWNED BY reader_{name}"));
    }
    rows(&mut here, &format!("DROP ROLE reader_{name}"));
}

#[test]
fn a_plain_dump_restores() {
    restored("plain", &recipe("A plain file"));
}

#[test]
fn a_custom_dump_restores() {
    restored("custom", &recipe("One compressed file"));
}

#[test]
fn a_folder_restores_with_many_hands() {
    restored(
        "folder",
        &recipe("A folder, dumped and restored in parallel"),
    );
}

#[test]
fn the_schema_first_and_the_rows_later_restore() {
    restored("rows", &recipe("The schema first, the rows later"));
}

#[test]
fn a_dump_of_single_schemas_restores_when_it_names_the_extension() {
    restored("single", &recipe("Single schemas, and the ledger"));
}

#[test]
fn a_dump_of_schema_credyt_has_no_rows() {
    let (database, _here) = lived_in("schema_only");
    let none = Database::new("schema_only_to");
    let commands = "test \"$(pg_dump -n credyt shop | grep -c COPY)\" = 0; pg_dump -e credyt_pg shop | grep -q '^COPY credyt.ledger'";
    run(commands, &database, &none);
}

#[test]
fn an_owner_who_is_no_superuser_restores() {
    let commands = recipe("Restored by an owner who is no superuser");
    restored("keeper", &commands.replace("keeper", "credyt_keeper_dump"));
}

#[test]
fn a_dump_of_inserts_restores() {
    restored(
        "inserts",
        "pg_dump --inserts -f file shop; createdb -T template0 copy; psql -X -q -v ON_ERROR_STOP=1 -d copy -f file >/dev/null",
    );
}

/// A session that has used the ledger before the rows came uses the rows.
#[test]
fn rows_that_are_restored_are_heard_of() {
    let (database, _here) = lived_in("heard_from");
    let copy = Database::empty("heard_to");
    let mut there = copy.connect();
    rows(&mut there, "CREATE EXTENSION credyt_pg");
    // Compiled and remembered here; a debit that is rolled back leaves no row in the way of those that come.
    rows(
        &mut there,
        "SELECT credyt.create_asset('gems'); SELECT credyt.set_price('image', '7', asset => 'gems')",
    );
    let debit = "BEGIN; SELECT g.id FROM credyt.grant_credits('x', 100, asset => 'gems') g;
                 SELECT credits, cost FROM credyt.debit_credits('x', 'image', asset => 'gems',
                     usage => '{\"vendor\": \"later\", \"model\": \"known\", \"body\": {\"second\": 10}}'); ROLLBACK";
    let mut last = || values(&mut there, debit).pop().expect("a row");
    assert_eq!([last(), last(), last()], ["7 -"; 3]);
    run(
        "pg_dump --data-only -Fc -f file shop; pg_restore --data-only --exit-on-error -d copy file",
        &database,
        &copy,
    );
    assert_eq!([last(), last(), last()], ["7 0.10"; 3]);
    let price =
        "INSERT INTO credyt.prices SELECT 'gems', 'image', 2, NULL, NULL, '8', now(), now()";
    rows(&mut copy.connect(), price);
    assert_eq!(last(), "8 0.10");
    goes_on(&mut there);
}

#[test]
fn a_wallet_s_text_and_bytes_read_back_as_they_were() {
    let (_database, mut client) = lived_in("text");
    assert_eq!(
        value(
            &mut client,
            "SELECT count(*) > 4, bool_and(state::text::credyt.wallet::bytea = state::bytea), bool_and(state::bytea::credyt.wallet::text = state::text),
                    bool_and(state::jsonb = state::text::jsonb), max(octet_length(state::bytea)) > 2000
             FROM credyt.wallets"
        ),
        "t t t t t"
    );
}

#[test]
fn every_table_goes_through_binary_copy() {
    let (_database, mut here) = lived_in("binary_from");
    let copy = Database::empty("binary_to");
    let mut there = copy.connect();
    rows(&mut there, "CREATE EXTENSION credyt_pg");
    for table in tables(&mut here) {
        let mut bytes = Vec::new();
        let out = format!("COPY {table} TO STDOUT (FORMAT binary)");
        here.copy_out(&out)
            .expect("out")
            .read_to_end(&mut bytes)
            .expect("read");
        let mut into = there
            .copy_in(&format!("COPY {table} FROM STDIN (FORMAT binary)"))
            .expect("in");
        into.write_all(&bytes).expect("written");
        into.finish().expect("finished");
    }
    assert_eq!(hashes(&mut there), hashes(&mut here));
    goes_on(&mut there);
}
