//! `debit_many`, `capture_many` and `grant_many`: a batch does what its calls would do one after another, however many
//! connections work on the same wallets, and whatever is passed.

mod support;

use postgres::Client;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use support::sql::{Database, attempt, clock, quoted, refusal, rows, value, values};

/// The same calls one after another, and all that they can change, as text without ids.
const HELPERS: &str = r#"
    CREATE FUNCTION texts(list jsonb) RETURNS text[] LANGUAGE sql AS $$
        SELECT CASE WHEN jsonb_typeof(list) = 'array' THEN ARRAY(SELECT jsonb_array_elements_text(list)) END $$;
    CREATE FUNCTION debit_one(e jsonb) RETURNS credyt.debit LANGUAGE sql AS $$
        SELECT credyt.debit_credits(e->>'customer', e->>'action', coalesce((e->>'quantity')::numeric, 1),
            coalesce(e->'dimensions', '{}'), e->'usage', (e->>'cost')::numeric, (e->>'credits')::numeric,
            coalesce(e->>'asset', 'credits'), e->>'idempotency_key', texts(e->'scopes'),
            (e->>'occurred_at')::timestamptz, e->'metadata') $$;
    CREATE FUNCTION grant_one(e jsonb) RETURNS credyt.grant LANGUAGE sql AS $$
        SELECT credyt.grant_credits(e->>'customer', (e->>'credits')::numeric, coalesce(e->>'kind', 'purchased'),
            coalesce(e->>'asset', 'credits'), coalesce((e->>'paid')::numeric, 0), (e->>'expires_at')::timestamptz,
            (e->>'effective_at')::timestamptz, coalesce((e->>'priority')::int, 100), texts(e->'applies_to'),
            e->>'idempotency_key', e->'metadata') $$;
    CREATE FUNCTION with_id(e jsonb) RETURNS jsonb LANGUAGE sql AS $$
        SELECT e - 'hold' || jsonb_build_object('authorization_id', coalesce((SELECT id FROM credyt.authorizations
            WHERE customer = e->>'customer' AND idempotency_key = e->>'hold'), '00000000-0000-0000-0000-000000000000')) $$;
    CREATE FUNCTION capture_one(e jsonb) RETURNS credyt.debit LANGUAGE sql AS $$ SELECT credyt.capture(with_id(e)) $$;
    CREATE FUNCTION without_ids(said text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
        SELECT regexp_replace(said, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', 'id', 'g') $$;
    CREATE FUNCTION one_by_one(what text, requests jsonb, skip boolean) RETURNS SETOF text LANGUAGE plpgsql AS $$
    DECLARE e jsonb; said jsonb; refused text;
    BEGIN
        FOR e IN SELECT jsonb_array_elements(requests) LOOP
            BEGIN
                EXECUTE format('SELECT to_jsonb(%s_one($1))', what) INTO said USING e;
            EXCEPTION WHEN SQLSTATE 'WC001' OR SQLSTATE 'WC002' OR SQLSTATE 'WC006' OR SQLSTATE 'WC007' THEN
                IF NOT skip THEN RAISE; END IF;
                GET STACKED DIAGNOSTICS refused = PG_EXCEPTION_DETAIL;
                said := jsonb_build_object('credits', 0, 'reason', refused::jsonb->'error');
            END;
            RETURN NEXT without_ids((said - 'id' - 'created_at')::text);
        END LOOP;
    END $$;
    CREATE FUNCTION at_once(what text, requests jsonb, skip boolean) RETURNS SETOF text LANGUAGE plpgsql AS $$
    DECLARE said jsonb;
    BEGIN
        FOR said IN EXECUTE CASE WHEN what = 'grant' THEN 'SELECT to_jsonb(g) FROM credyt.grant_many($1) g'
                WHEN what = 'capture' THEN 'SELECT to_jsonb(d) FROM credyt.capture_many(
                    (SELECT jsonb_agg(with_id(e) ORDER BY nth) FROM jsonb_array_elements($1) WITH ORDINALITY AS r (e, nth))) d'
                ELSE format('SELECT to_jsonb(d) FROM credyt.debit_many($1, %L) d', CASE WHEN skip THEN 'skip' ELSE 'reject' END) END
                USING requests LOOP
            IF said->'id' = 'null' THEN
                said := jsonb_build_object('credits', said->'credits', 'reason', said->'reason');
            END IF;
            RETURN NEXT without_ids((said - 'id' - 'created_at')::text);
        END LOOP;
    END $$;
    CREATE VIEW picture AS
        SELECT without_ids(t.line) AS line FROM (
            SELECT to_jsonb(w) - 'next_due_at' || jsonb_build_object('state', w.state::jsonb), 1, w.customer, w.asset, 0, NULL::uuid FROM credyt.wallets w
            UNION ALL SELECT to_jsonb(l), 2, l.customer, l.asset, l.seq, NULL FROM credyt.ledger l
            UNION ALL SELECT to_jsonb(g), 3, g.customer, g.asset, 0, g.id FROM credyt.grants g
            UNION ALL SELECT to_jsonb(d), 4, d.customer, d.asset, d.seq, NULL FROM credyt.open_debts d
            UNION ALL SELECT to_jsonb(e), 5, e.customer, e.asset, 0, e.id FROM credyt.events e
            UNION ALL SELECT to_jsonb(u), 6, u.customer, u.asset || u.scope || u.every || u.counts, 0, NULL FROM credyt.limit_uses u
            UNION ALL SELECT to_jsonb(a), 7, a.customer, a.asset, 0, a.id FROM credyt.authorizations a
            UNION ALL SELECT to_jsonb(s), 8, s.customer, s.asset, 0, s.id FROM credyt.booked_subscriptions s
            UNION ALL SELECT to_jsonb(r), 9, r.customer, r.vendor || r.vendor_request_id, 0, NULL FROM credyt.vendor_requests r
        ) AS r (row, kind, customer, what, seq, id),
        LATERAL (SELECT r.kind || ' ' || r.row::text) AS t (line)
        ORDER BY r.kind, r.customer, r.what, r.seq, r.id;"#;

const CUSTOMERS: [&str; 7] = ["ann", "Bob", "cy", "dee", "eve", "Zoë", "nobody"];

/// Wallets on which all kinds of things are due, watched and limited.
fn furnish(client: &mut Client) {
    clock(client, "2026-03-01 10:00Z");
    rows(client, HELPERS);
    rows(
        client,
        r#"SELECT credyt.create_asset('points', scale => 0);
           SELECT credyt.set_price('image', '1'), credyt.set_price('text', '0.35'), credyt.set_price('image', '3', asset => 'points'),
                  credyt.set_price('image', '2', customer => 'ann'),
                  credyt.set_price('turn', '{"cost_plus": {"markup": "0.40", "credit_value": "0.01"}}');
           SELECT credyt.set_vendor_rate('gpu', 'large', '{"second": "0.011"}');
           SELECT credyt.create_plan('pro', 20, '1 week', rollover => 5, paid => 7);"#,
    );
    for (nth, customer) in CUSTOMERS.iter().enumerate().take(6) {
        let who = quoted(customer);
        rows(
            client,
            &format!(
                r#"SELECT credyt.open_wallet({who}, overdraft_limit => {});
                   SELECT credyt.grant_credits({who}, 11.5, paid => 3.33, expires_at => '2026-03-09 10:00Z'),
                          credyt.grant_credits({who}, 7, 'promotional', applies_to => '{{image}}'),
                          credyt.grant_credits({who}, 25, 'included', paid => 10, priority => 50),
                          credyt.grant_credits({who}, 9, effective_at => '2026-03-08 10:00Z', paid => 1),
                          credyt.grant_credits({who}, 12, asset => 'points', idempotency_key => 'first');
                   SELECT credyt.authorize({who}, 'text', 10, ttl_seconds => 3600), credyt.authorize({who}, 'image', 3, ttl_seconds => 8640000);
                   SELECT credyt.set_alert({who}, 15), credyt.set_topup({who}, 5, 100), credyt.set_alert({who}, 6, 'points')"#,
                nth * 4
            ),
        );
    }
    rows(
        client,
        "SELECT credyt.subscribe('ann', 'pro'), credyt.subscribe('dee', 'pro');
         SELECT credyt.set_limit('ann', 'user:*', 6, 'day'), credyt.set_limit('ann', 'action:im*', 9, 'week'),
                credyt.set_limit('Zoë', 'user:a', 3, 'hour');
         SELECT credyt.debit_credits('eve', 'text', 130), credyt.debit_credits('eve', 'image', 4, idempotency_key => 'k1');
         SELECT credyt.freeze_wallet('cy', 'points'); SELECT credyt.close_period('2026-03-01 09:00Z')",
    );
    for customer in HOLDERS {
        let who = quoted(customer);
        let sql = format!(
            r#"SELECT credyt.authorize({who}, 'image', 2, ttl_seconds => 8640000, idempotency_key => 'a', scopes => '{{user:a}}', overrun => 'clamp'),
                      credyt.authorize({who}, 'turn', cost => 0.02, ttl_seconds => 8640000, idempotency_key => 'b', overrun => 'overdraft'),
                      credyt.authorize({who}, 'text', 4, idempotency_key => 'c')"#
        );
        rows(client, &sql);
    }
    clock(client, "2026-03-12 12:00Z");
}

/// Who has authorizations under the keys a, b and c; the last one has ended.
const HOLDERS: [&str; 4] = ["ann", "Bob", "dee", "Zoë"];

fn a_capture(random: &mut StdRng) -> Value {
    let hold = ["a", "b", "c"].choose(random).unwrap();
    let mut call = json!({
        "customer": HOLDERS.choose(random).unwrap(),
        "hold": hold,
        "keep_open": random.random_bool(0.85),
    });
    let mut set = |name: &str, chance: f64, random: &mut StdRng, value: Value| {
        if random.random_bool(chance) {
            call[name] = value;
        }
    };
    let quantity = random.random_range(0..6);
    set("quantity", 0.6, random, json!(quantity));
    set("credits", 0.2, random, json!("1.25"));
    set("cost", 0.2, random, json!("0.0123"));
    set("metadata", 0.1, random, json!({"note": 1}));
    if *hold == "b" {
        let seconds = random.random_range(1..4);
        let mut usage = json!({"vendor": "gpu", "model": "large", "body": {"second": seconds}});
        if random.random_bool(0.5) {
            usage["vendor_request_id"] = json!(format!("r{}", random.random_range(0..3)));
        }
        call["usage"] = usage;
    }
    call
}

fn a_debit(random: &mut StdRng) -> Value {
    let action = ["image", "text", "text", "turn"].choose(random).unwrap();
    let mut call = json!({"customer": CUSTOMERS.choose(random).unwrap(), "action": action});
    let mut set = |name: &str, chance: f64, random: &mut StdRng, value: Value| {
        if random.random_bool(chance) {
            call[name] = value;
        }
    };
    let quantity = random.random_range(0..8);
    set("quantity", 0.8, random, json!(quantity));
    set("quantity", 0.1, random, json!("2.50"));
    set("credits", 0.1, random, json!("1.25"));
    set("credits", 0.1, random, json!(0));
    set("asset", 0.15, random, json!("points"));
    set("cost", 0.2, random, json!("0.0123"));
    let key = format!("k{}", random.random_range(0..6));
    set("idempotency_key", 0.3, random, json!(key));
    let user = ["user:a", "user:b"].choose(random).unwrap();
    set("scopes", 0.5, random, json!([user, "te\"am\\,{}"]));
    set(
        "occurred_at",
        0.2,
        random,
        json!("2026-02-27 23:59:59.5+00"),
    );
    set("occurred_at", 0.1, random, json!("2026-03-12T11:00:00Z"));
    set("metadata", 0.1, random, json!({"note": [1.10, null]}));
    set("dimensions", 0.1, random, json!({"model": "x"}));
    if call["action"] == "turn" || random.random_bool(0.05) {
        let mut usage = json!({"vendor": "gpu", "model": "large", "body": {"second": 3}});
        if random.random_bool(0.5) {
            usage["vendor_request_id"] = json!(format!("r{}", random.random_range(0..3)));
        }
        call["usage"] = usage;
    }
    call
}

fn a_grant(random: &mut StdRng) -> Value {
    let mut call = json!({
        "customer": CUSTOMERS.choose(random).unwrap(),
        "credits": random.random_range(1..30),
    });
    let mut set = |name: &str, chance: f64, random: &mut StdRng, value: Value| {
        if random.random_bool(chance) {
            call[name] = value;
        }
    };
    set("credits", 0.2, random, json!("3"));
    set("kind", 0.5, random, json!("promotional"));
    set("asset", 0.2, random, json!("points"));
    set("paid", 0.5, random, json!("4.4444444444"));
    set("priority", 0.2, random, json!(7));
    set("expires_at", 0.2, random, json!("2026-03-20T00:00:00Z"));
    set("effective_at", 0.2, random, json!("2026-03-15 00:00+00"));
    set("applies_to", 0.2, random, json!(["im*", "a \"b\""]));
    let key = format!("g{}", random.random_range(0..6));
    set("idempotency_key", 0.3, random, json!(key));
    set("metadata", 0.1, random, json!("note"));
    call
}

/// What a way of making these calls answers and leaves behind, or its error; rolled back.
fn outcome(
    client: &mut Client,
    way: &str,
    what: &str,
    requests: &Value,
    skip: bool,
) -> Vec<String> {
    rows(client, "BEGIN");
    let call = format!(
        "SELECT {way}('{what}', {}, {skip})",
        quoted(&requests.to_string())
    );
    let lines = match attempt(client, &call) {
        Ok(answers) => {
            let said = answers
                .iter()
                .map(|row| row.get(0).unwrap_or("-").to_owned());
            let mut lines: Vec<String> = said.collect();
            lines.extend(values(client, "SELECT line FROM picture"));
            lines.extend(values(client, "SELECT * FROM credyt.verify()"));
            lines
        }
        Err(refused) => vec![refused.code],
    };
    rows(client, "ROLLBACK");
    lines
}

fn same_as_one_by_one(name: &str, what: &str, a_call: fn(&mut StdRng) -> Value, rounds: u64) {
    let database = Database::new(name);
    let mut client = database.connect();
    furnish(&mut client);
    let (mut went, mut refused) = (0, 0);
    for seed in 0..rounds {
        let mut random = StdRng::seed_from_u64(seed);
        let count = [2, 6, 40][seed as usize % 3];
        let requests: Value = (0..count).map(|_| a_call(&mut random)).collect();
        let skip = what == "debit" && seed % 4 != 0;
        let expected = outcome(&mut client, "one_by_one", what, &requests, skip);
        let seen = outcome(&mut client, "at_once", what, &requests, skip);
        for (seen, expected) in seen.iter().zip(&expected) {
            assert_eq!(seen, expected, "seed {seed}, skip {skip}: {requests:#}");
        }
        assert_eq!(seen.len(), expected.len(), "seed {seed}: {requests:#}");
        if seen.len() == 1 {
            refused += 1
        } else {
            went += 1
        }
    }
    assert!(
        went > 10 && refused > 2,
        "{went} went, {refused} were refused"
    );
}

#[test]
fn debits_are_the_same_as_one_by_one() {
    same_as_one_by_one("many_debits", "debit", a_debit, 60);
}

#[test]
fn grants_are_the_same_as_one_by_one() {
    same_as_one_by_one("many_grants", "grant", a_grant, 60);
}

#[test]
fn captures_are_the_same_as_one_by_one() {
    same_as_one_by_one("many_captures", "capture", a_capture, 60);
}

#[test]
fn a_refused_capture_is_named_and_books_nothing() {
    let database = Database::new("many_captures_refused");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.create_asset('credits'); SELECT credyt.set_price('image', '1');
         SELECT credyt.grant_credits('ann', 10); SELECT credyt.authorize('ann', 'image', 3)",
    );
    let hold = value(&mut client, "SELECT id FROM credyt.authorizations");
    let nobodys = "00000000-0000-0000-0000-000000000000";
    let call = |second: &str| {
        format!(
            r#"SELECT * FROM credyt.capture_many('[{{"customer": "ann", "authorization_id": "{hold}", "quantity": 2}}, {second}]')"#
        )
    };
    for (second, code, wanted) in [
        (
            format!(r#"{{"customer": "ann", "authorization_id": "{nobodys}"}}"#),
            "WC011",
            "requests[1]",
        ),
        (
            format!(r#"{{"customer": "ann", "authorization_id": "{hold}", "quantity": 3}}"#),
            "WC004",
            "requests[1]",
        ),
        (
            r#"{"customer": "ann"}"#.to_owned(),
            "22023",
            "requests[1].authorization_id",
        ),
    ] {
        let refused = refusal(&mut client, &call(&second));
        assert_eq!(refused.code, code, "{refused:?}");
        assert!(refused.message.contains(wanted), "{refused:?}");
        let booked = "SELECT count(*) FROM credyt.ledger WHERE kind = 'debit'";
        assert_eq!(value(&mut client, booked), "0");
    }
    // The same totals again are the replay, in a batch as anywhere.
    let again =
        format!(r#"{{"customer": "ann", "authorization_id": "{hold}", "quantity": "2.0"}}"#);
    let replayed = format!(
        "SELECT string_agg(replayed::text, ' ') FROM ({}) c",
        call(&again)
    );
    assert_eq!(value(&mut client, &replayed), "false true");
    assert_eq!(value(&mut client, &replayed), "true true");
    assert_eq!(
        value(&mut client, "SELECT count(*) FROM credyt.verify()"),
        "0"
    );
}

/// A batch over many of 40 customers, each several times, in any order.
fn a_batch(random: &mut StdRng, nth: usize, round: usize) -> Value {
    let mut calls: Vec<Value> = (0..60)
        .map(|call| {
            let asset = ["credits", "points"].choose(random).unwrap();
            let mut one = json!({
                "customer": format!("c{}", random.random_range(0..40)),
                "action": "image",
                "asset": asset,
            });
            if random.random_bool(0.5) {
                one["idempotency_key"] = json!(format!("{nth} {round} {call}"));
            }
            one
        })
        .collect();
    calls.shuffle(random);
    Value::Array(calls)
}

fn crowd(name: &str, level: &str, may_repeat: bool) {
    let database = Database::new(name);
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.create_asset('points'), credyt.set_price('image', '1', asset => 'points');
         SELECT count(*) FROM generate_series(0, 39) n, unnest('{credits,points}'::text[]) a,
             LATERAL credyt.grant_credits('c' || n, 1000, asset => a, paid => 10)",
    );
    let booked: usize = database
        .at_once(24, |nth, client| {
            let mut random = StdRng::seed_from_u64(nth as u64);
            let mut booked = 0;
            for round in 0..6 {
                let batch = quoted(&a_batch(&mut random, nth, round).to_string());
                let grants = quoted(&json!([
                    {"customer": format!("c{}", random.random_range(0..40)), "credits": 1},
                    {"customer": format!("new{}", random.random_range(0..9)), "credits": 1},
                    {"customer": format!("c{}", random.random_range(0..40)), "credits": 1, "asset": "points"},
                    {"customer": format!("new{}", random.random_range(0..9)), "credits": 1, "idempotency_key": "k"},
                ]).to_string());
                loop {
                    let call = format!(
                        "BEGIN ISOLATION LEVEL {level};
                         SAVEPOINT s; SELECT count(*) FROM credyt.debit_many({batch}); ROLLBACK TO s;
                         SELECT count(*) FROM credyt.debit_many({batch});
                         COMMIT;
                         BEGIN ISOLATION LEVEL {level};
                         SELECT count(*) FROM credyt.grant_many({grants});
                         COMMIT"
                    );
                    match attempt(client, &call) {
                        Ok(_) => break,
                        Err(refused) => {
                            assert!(may_repeat && refused.code == "40001", "{level}: {refused:?}");
                            rows(client, "ROLLBACK");
                        }
                    }
                }
                booked += 1;
            }
            booked
        })
        .into_iter()
        .sum();
    assert_eq!(booked, 24 * 6);
    if !may_repeat {
        let debits = "SELECT count(*), sum(credits) FROM credyt.ledger WHERE kind = 'debit'";
        assert_eq!(value(&mut client, debits), format!("{0} -{0}", booked * 60));
    }
}

#[test]
fn a_crowd_read_committed() {
    crowd("crowd_committed", "READ COMMITTED", false);
}

#[test]
fn a_crowd_repeatable_read() {
    crowd("crowd_repeatable", "REPEATABLE READ", true);
}

#[test]
fn a_crowd_serializable() {
    crowd("crowd_serializable", "SERIALIZABLE", true);
}

#[test]
fn the_same_batch_at_the_same_time_is_booked_once() {
    let database = Database::new("once");
    let mut client = database.connect();
    let grants: Value = (0..50)
        .map(|n| json!({"customer": format!("c{n}"), "credits": 10, "idempotency_key": "g"}))
        .collect();
    let debits: Value = (0..200)
        .map(|n| json!({"customer": format!("c{}", n % 50), "action": "image", "idempotency_key": format!("d{n}")}))
        .collect();
    let (grants, debits) = (quoted(&grants.to_string()), quoted(&debits.to_string()));
    let said = database.at_once(8, |_, client| {
        let granted = format!("SELECT count(*) FILTER (WHERE NOT replayed) FROM credyt.grant_many({grants})");
        let debited = format!("SELECT count(*) FILTER (WHERE NOT replayed), string_agg(id::text, ',') FROM credyt.debit_many({debits})");
        (value(client, &granted), value(client, &debited))
    });
    let first = |how: &str| said.iter().filter(|(granted, _)| granted == how).count();
    assert_eq!((first("50"), first("0")), (1, 7));
    let ids: Vec<&str> = said
        .iter()
        .map(|(_, debited)| debited.split_once(' ').unwrap().1)
        .collect();
    assert!(ids.iter().all(|same| *same == ids[0]));
    let counts = "SELECT count(*) FILTER (WHERE kind = 'grant'), count(*) FILTER (WHERE kind = 'debit') FROM credyt.ledger";
    assert_eq!(value(&mut client, counts), "50 200");
}

/// A key that another transaction takes in another asset while the batch waits for it.
#[test]
fn a_key_that_is_taken_meanwhile_books_nothing() {
    let database = Database::new("meanwhile");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.create_asset('points');
         SELECT credyt.grant_credits('ann', 10), credyt.grant_credits('ann', 10, asset => 'points'), credyt.grant_credits('bob', 10)",
    );
    let mut other = database.connect();
    let batch = r#"[{"customer": "bob", "action": "image"}, {"customer": "ann", "action": "image", "idempotency_key": "k"}]"#;
    for (booked, access) in (1..).zip(["on", "off"]) {
        let batch = batch.replace("\"k\"", &format!("\"{access}\""));
        rows(
            &mut other,
            &format!(
                "BEGIN; SELECT credyt.debit_credits('ann', 'x', credits => 1, asset => 'points', idempotency_key => '{access}')"
            ),
        );
        let refused = database.waiting(
            |client| {
                rows(client, &format!("SET credyt.direct_access = {access}"));
                refusal(client, &format!("SELECT credyt.debit_many('{batch}')"))
            },
            || drop(rows(&mut other, "COMMIT")),
        );
        assert_eq!(
            (refused.code.as_str(), refused.json()["index"].as_u64()),
            ("WC005", Some(1)),
            "{access}"
        );
        assert_eq!(refused.json()["idempotency_key"], access);
        let debits = "SELECT count(*) FROM credyt.ledger WHERE kind = 'debit'";
        assert_eq!(value(&mut client, debits), booked.to_string());
    }
    // Where the other gives up, the batch is booked.
    let batch = batch.replace("\"k\"", "\"k2\"");
    rows(
        &mut other,
        "BEGIN; SELECT credyt.debit_credits('ann', 'x', credits => 1, asset => 'points', idempotency_key => 'k2')",
    );
    let call = format!("SELECT count(*) FROM credyt.debit_many('{batch}')");
    let said = database.waiting(
        |client| value(client, &call),
        || drop(rows(&mut other, "ROLLBACK")),
    );
    assert_eq!(said, "2");
}

/// A batch waits for one wallet, and then counts from what the other transaction left.
#[test]
fn a_batch_that_waited_sees_the_newest_wallet() {
    let database = Database::new("newest");
    let mut client = database.connect();
    rows(
        &mut client,
        "SELECT credyt.grant_credits('ann', 10), credyt.grant_credits('bob', 10)",
    );
    let mut other = database.connect();
    rows(
        &mut other,
        "BEGIN; SELECT credyt.debit_credits('bob', 'image', 9, idempotency_key => 'k')",
    );
    let call = r#"SELECT string_agg(coalesce(reason, available || ' ' || replayed), ', ') FROM credyt.debit_many(
        '[{"customer": "bob", "action": "image", "quantity": 2}, {"customer": "bob", "action": "image", "quantity": 9, "idempotency_key": "k"},
          {"customer": "ann", "action": "image"}]', 'skip')"#;
    let said = database.waiting(
        |client| value(client, call),
        || drop(rows(&mut other, "COMMIT")),
    );
    assert_eq!(said, "insufficient_credits, 1 true, 9 false");
}

#[test]
fn nothing_is_left_of_a_batch_that_is_rolled_back() {
    let database = Database::new("rolled_back");
    let mut client = database.connect();
    rows(&mut client, HELPERS);
    rows(&mut client, "SELECT credyt.grant_credits('ann', 10)");
    let before = values(&mut client, "SELECT line FROM picture");
    let grants = r#"SELECT credyt.grant_many('[{"customer": "ann", "credits": 1}, {"customer": "new", "credits": 1}]')"#;
    let debits = r#"SELECT credyt.debit_many('[{"customer": "ann", "action": "image", "idempotency_key": "k"}]')"#;
    rows(&mut client, &format!("BEGIN; {grants}; {debits}; ROLLBACK"));
    assert_eq!(values(&mut client, "SELECT line FROM picture"), before);
    rows(
        &mut client,
        &format!("BEGIN; SAVEPOINT s; {grants}; {debits}; ROLLBACK TO s; {debits}; COMMIT"),
    );
    assert_eq!(
        value(&mut client, "SELECT settled FROM credyt.balance('ann')"),
        "9"
    );
}

/// The elements take what the functions take, and mean the same where something is left out.
#[test]
fn the_arguments_are_those_of_the_single_calls() {
    let database = Database::new("arguments");
    let mut client = database.connect();
    rows(&mut client, HELPERS);
    for single in ["debit_credits", "grant_credits"] {
        let names = format!(
            "SELECT unnest(proargnames) FROM pg_proc WHERE proname = '{single}' AND proargnames[1] = 'customer'"
        );
        let many = single.replace("credits", "many");
        for name in values(&mut client, &names) {
            let refused = refusal(
                &mut client,
                &format!("SELECT credyt.{many}('[{{\"{name}\": []}}]')"),
            );
            assert!(!refused.message.contains("no such argument"), "{refused:?}");
            assert!(refused.message.contains("requests[0]."), "{refused:?}");
        }
        let unknown = refusal(
            &mut client,
            &format!("SELECT credyt.{many}('[{{\"custommer\": \"ann\"}}]')"),
        );
        assert_eq!(unknown.json()["argument"], "requests[0].custommer");
    }
    for (what, call) in [
        ("grant", json!({"customer": "ann", "credits": 5})),
        (
            "grant",
            json!({"customer": "ann", "credits": "5", "kind": null, "paid": null, "asset": null, "priority": null, "metadata": null}),
        ),
        ("debit", json!({"customer": "ann", "action": "image"})),
        (
            "debit",
            json!({"customer": "ann", "action": "image", "quantity": null, "dimensions": null, "asset": null, "scopes": null}),
        ),
    ] {
        clock(&mut client, "2026-03-01 10:00Z");
        rows(&mut client, "SELECT credyt.grant_credits('ann', 5)");
        let alone = json!({"customer": call["customer"], "credits": call["credits"], "action": call["action"]});
        let plain: Value = alone
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let expected = outcome(&mut client, "one_by_one", what, &json!([plain]), false);
        assert_eq!(
            outcome(&mut client, "at_once", what, &json!([call]), false),
            expected,
            "{call}"
        );
    }
}

#[test]
fn whatever_is_passed() {
    let database = Database::new("hostile");
    let mut client = database.connect();
    rows(&mut client, "SELECT credyt.grant_credits('ann', 10)");
    for requests in ["NULL", "'null'", "'{}'", "'3'", "'\"x\"'", "'true'"] {
        for many in ["debit_many", "grant_many"] {
            let refused = refusal(&mut client, &format!("SELECT credyt.{many}({requests})"));
            assert_eq!(
                (refused.code.as_str(), refused.json()["argument"].as_str()),
                ("22023", Some("requests"))
            );
        }
    }
    for many in ["debit_many", "grant_many"] {
        assert_eq!(
            values(&mut client, &format!("SELECT credyt.{many}('[]')")),
            [""; 0]
        );
        let huge = refusal(
            &mut client,
            &format!("SELECT credyt.{many}((SELECT jsonb_agg(1) FROM generate_series(1, 100001)))"),
        );
        assert_eq!(huge.code, "22003");
        for bad in ["null", "[]", "1", "\"x\"", "{}"] {
            let refused = refusal(&mut client, &format!("SELECT credyt.{many}('[{bad}]')"));
            assert_eq!(
                (refused.code.as_str(), refused.json()["index"].as_u64()),
                ("22023", Some(0)),
                "{refused:?}"
            );
        }
    }
    for on_shortfall in ["NULL", "''", "'SKIP'", "'x'"] {
        let refused = refusal(
            &mut client,
            &format!("SELECT credyt.debit_many('[]', {on_shortfall})"),
        );
        assert_eq!(refused.json()["argument"], "on_shortfall");
    }
    let long = "x".repeat(300);
    // Deeper ones are refused as a whole.
    let deep = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    let kinds: [&str; 26] = [
        "true",
        "[]",
        "[1]",
        "{}",
        "{\"a\": 1}",
        "\"\"",
        "\"x\"",
        "\"NaN\"",
        "\"Infinity\"",
        "-1",
        "\"-1\"",
        "1e30",
        "\"1e30\"",
        "1e-20",
        "99999999999999999999999999999999999999",
        "1.5",
        "\"0x10\"",
        "\" 1\"",
        "\"infinity\"",
        "\"9999-99-99\"",
        "\"now\"",
        "\"1e999999999999\"",
        "[null]",
        "[\"\"]",
        &long,
        &deep,
    ];
    let mut refusals = 0;
    for (many, good) in [
        ("debit_many", r#"{"customer": "ann", "action": "image"}"#),
        ("grant_many", r#"{"customer": "ann", "credits": 1}"#),
    ] {
        let single = many.replace("many", "credits");
        let names = values(
            &mut client,
            &format!(
                "SELECT unnest(proargnames) FROM pg_proc WHERE proname = '{single}' AND proargnames[1] = 'customer'"
            ),
        );
        for name in &names {
            for bad in kinds {
                let bad = if bad == long {
                    format!("\"{bad}\"")
                } else {
                    bad.to_owned()
                };
                let call = format!(
                    "SELECT credyt.{many}('[{good}, ' || ({}::jsonb || {})::text || ']')",
                    quoted(good),
                    quoted(&format!("{{\"{name}\": {bad}}}"))
                );
                let call = call
                    .replace("SELECT credyt.", "BEGIN; SELECT credyt.")
                    .replace("|| ']')", "|| ']')::jsonb)")
                    .replacen("('[", "(('[", 1);
                if let Err(refused) = attempt(&mut client, &call) {
                    refusals += 1;
                    assert!(
                        ["22023", "22003", "WC001", "WC002", "WC003", "WC009"]
                            .contains(&refused.code.as_str()),
                        "{call}: {refused:?}"
                    );
                    assert_eq!(refused.json()["index"], 1, "{call}: {refused:?}");
                    assert!(!refused.message.contains("panick"), "{refused:?}");
                    if let Some(argument) = refused.json()["argument"].as_str() {
                        assert!(argument.starts_with("requests[1]."), "{call}: {refused:?}");
                        assert!(refused.message.contains(argument), "{refused:?}");
                    }
                }
                rows(&mut client, "ROLLBACK");
            }
        }
    }
    assert!(refusals > 250, "{refusals}");
    assert_eq!(
        value(&mut client, "SELECT settled FROM credyt.balance('ann')"),
        "10"
    );
}
