//! Facts never change, not even for the superuser; and who was given nothing can do nothing.

mod support;

use postgres::Client;
use support::sql::{Database, attempt, refusal, rows, value, values};

fn some_facts(client: &mut Client) {
    rows(
        client,
        "SELECT credyt.grant_credits('ann', 10); SELECT credyt.debit_credits('ann', 'image');
         SELECT credyt.authorize('ann', 'image')",
    );
}

#[test]
fn facts_never_change() {
    let database = Database::new("facts");
    let mut client = database.connect();
    some_facts(&mut client);
    for table in [
        "ledger",
        "grants",
        "prices",
        "vendors",
        "vendor_rates",
        "plans",
        "subscription_keys",
        "subscription_payments",
    ] {
        for (operation, sql) in [
            (
                "UPDATE",
                format!("UPDATE credyt.{table} SET created_at = now()"),
            ),
            (
                "UPDATE",
                format!("UPDATE credyt.{table} SET created_at = now() WHERE false"),
            ),
            ("DELETE", format!("DELETE FROM credyt.{table}")),
            ("TRUNCATE", format!("TRUNCATE credyt.{table}")),
            (
                "TRUNCATE",
                format!("TRUNCATE credyt.wallets, credyt.{table} CASCADE"),
            ),
            (
                "UPDATE",
                format!(
                    "MERGE INTO credyt.{table} USING (SELECT 1) s ON true WHEN MATCHED THEN UPDATE SET created_at = now()"
                ),
            ),
        ] {
            let refused = refusal(&mut client, &sql);
            assert_eq!(refused.code, "WC012", "{sql}");
            assert_eq!(
                refused.json(),
                serde_json::json!({"error": "append_only", "table": table, "operation": operation}),
                "{sql}"
            );
            assert!(refused.hint.contains("correction"), "{refused:?}");
        }
    }
    // The trigger is no function to call.
    assert_eq!(
        refusal(&mut client, "SELECT credyt.refuse_change()").code,
        "22023"
    );
}

#[test]
fn who_was_given_nothing_can_do_nothing() {
    let database = Database::new("nothing");
    let mut client = database.connect();
    some_facts(&mut client);
    rows(
        &mut client,
        "DROP ROLE IF EXISTS nobody_here; CREATE ROLE nobody_here; SET ROLE nobody_here",
    );

    // Every table and view, read and written.
    let relations = "SELECT relname FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind IN ('r', 'v')";
    let relations = values(&mut client, relations);
    assert!(relations.len() > 15, "{relations:?}");
    for relation in &relations {
        for sql in [
            format!("SELECT * FROM credyt.{relation}"),
            format!("INSERT INTO credyt.{relation} DEFAULT VALUES"),
            format!("DELETE FROM credyt.{relation}"),
        ] {
            let refused = refusal(&mut client, &sql);
            assert!(
                ["42501", "55000"].contains(&refused.code.as_str()),
                "{sql}: {refused:?}"
            );
        }
    }

    // Every function but those of the type itself.
    let type_s = "('wallet_in', 'wallet_out', 'wallet_recv', 'wallet_send', 'pack', 'unpack')";
    let open = format!(
        "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'credyt'::regnamespace
         AND p.proname NOT IN {type_s} AND has_function_privilege(p.oid, 'EXECUTE')"
    );
    assert_eq!(values(&mut client, &open), [""; 0]);
    // Postgres asks for the right when it calls, which a strict function with a NULL is spared.
    let calls = "SELECT format('SELECT credyt.%I(%s)', p.proname, string_agg('NULL::' || format_type(a.type, NULL), ', ' ORDER BY a.at))
                 FROM pg_proc p, unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, at)
                 WHERE p.pronamespace = 'credyt'::regnamespace
                   AND NOT p.proisstrict
                 GROUP BY p.oid, p.proname";
    let calls = values(&mut client, calls);
    assert!(calls.len() > 15, "{calls:?}");
    for call in calls {
        assert_eq!(refusal(&mut client, &call).code, "42501", "{call}");
    }
    rows(&mut client, "RESET ROLE; DROP ROLE nobody_here");
}

#[test]
fn a_function_given_is_enough_to_use_it_and_gives_no_more() {
    let database = Database::new("given");
    let mut client = database.connect();
    some_facts(&mut client);
    rows(
        &mut client,
        "DROP ROLE IF EXISTS spender_here; CREATE ROLE spender_here;
         DO $$ DECLARE f regprocedure; BEGIN
             FOR f IN SELECT oid FROM pg_proc WHERE proname IN ('debit_credits', 'authorize', 'capture', 'release') LOOP
                 EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO spender_here', f);
             END LOOP;
         END $$;
         GRANT CREATE ON SCHEMA public TO spender_here; SET ROLE spender_here",
    );
    let debit =
        "SELECT available FROM credyt.debit_credits('ann', 'image', idempotency_key => 'k')";
    assert_eq!(value(&mut client, debit), "7");
    let hold = value(
        &mut client,
        "SELECT id FROM credyt.authorize('ann', 'image')",
    );
    rows(
        &mut client,
        &format!("SELECT credyt.capture('ann', '{hold}')"),
    );
    for sql in [
        "SELECT * FROM credyt.ledger",
        "SELECT credyt.grant_credits('ann', 1)",
        "SELECT credyt.balance('ann')",
    ] {
        assert_eq!(refusal(&mut client, sql).code, "42501", "{sql}");
    }

    // What the caller puts in the way is not looked at.
    rows(
        &mut client,
        "CREATE TEMP TABLE clock (now timestamptz, one boolean); INSERT INTO clock VALUES ('2200-01-01Z', true);
         CREATE FUNCTION public.never(numeric, numeric) RETURNS boolean LANGUAGE sql AS 'SELECT false';
         CREATE OPERATOR public.= (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = public.never);
         CREATE FUNCTION public.broken(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''reached''; END';
         CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.broken);
         SET search_path = public, pg_temp, pg_catalog",
    );
    assert_eq!(value(&mut client, debit), "6");
    let year = "SELECT created_at < '2100-01-01' FROM credyt.debit_credits('ann', 'image')";
    assert_eq!(value(&mut client, year), "t");
    rows(
        &mut client,
        "RESET search_path; DROP FUNCTION public.never, public.broken CASCADE; RESET ROLE;
         DROP OWNED BY spender_here; DROP ROLE spender_here",
    );
}

#[test]
fn only_the_superuser_sets_the_clock() {
    let database = Database::new("clock_owner");
    let mut client = database.connect();
    rows(
        &mut client,
        "DROP ROLE IF EXISTS operator_here; CREATE ROLE operator_here; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA credyt TO operator_here",
    );
    rows(&mut client, "SET ROLE operator_here");
    for sql in [
        "INSERT INTO credyt.clock (now) VALUES ('2200-01-01Z')",
        "SELECT * FROM credyt.clock",
    ] {
        assert_eq!(refusal(&mut client, sql).code, "42501", "{sql}");
    }
    rows(
        &mut client,
        "RESET ROLE; DROP OWNED BY operator_here; DROP ROLE operator_here",
    );
    // One row at most.
    rows(
        &mut client,
        "INSERT INTO credyt.clock (now) VALUES ('2200-01-01Z')",
    );
    assert_eq!(
        attempt(
            &mut client,
            "INSERT INTO credyt.clock (now) VALUES ('2201-01-01Z')"
        )
        .unwrap_err()
        .code,
        "23505"
    );
}
