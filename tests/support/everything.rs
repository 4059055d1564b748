//! A ledger with something in every table, and what has to be true of a copy of it.

use super::sql::{clock, rows, value, values};
use postgres::Client;

/// What a customer's life leaves behind, in the order in which it happens: when, and what. Whoever adds a table adds a
/// line here that puts a row into it: `fill` finds the tables by itself and leaves none empty.
const LIFE: &[(&str, &str)] = &[
    (
        "2025-01-01Z",
        r#"SELECT credyt.create_asset('credits');
           SELECT credyt.create_asset('tokens', 10, 'half_even', 'EUR', 'Europe/Berlin');
           SELECT credyt.set_price('image', '1');
           SELECT credyt.set_price('image', '{"match": [{"when": {"model": "x"}, "price": "1.50"}, {"price": 2}]}', customer => 'ann');
           SELECT credyt.set_price('chat', '0.0000000001', asset => 'tokens');
           SELECT credyt.set_price('image', '3', price_list => 'enterprise');
           SELECT credyt.set_price_list('bob', 'enterprise', as_of => '2025-01-01');
           SELECT credyt.set_price('page', '{"graduated": [{"up_to": 2, "per_unit": "0.5"}, {"per_unit": "0.25"}], "over": "month"}');
           SELECT credyt.set_vendor_rate('gpu-cloud', 'a100', '{"gpu_second": "0.0011", "currency": "EUR"}');
           SELECT credyt.set_exchange_rate('EUR', 'USD', '1.0857');
           SELECT credyt.set_expiry_notice('{7}');
           SELECT credyt.import_vendor_rates('[{"id": "acme", "models": [{"id": "m", "match": {"equals": "m"}, "prices": {"input_mtok": 1}}]}]')"#,
    ),
    // Grants of every kind; one that is revoked, one that ends unspent, one that is not live for years.
    (
        "2025-01-02Z",
        r#"SELECT credyt.grant_credits('ann', 1000, paid => 33.3333333333, metadata => '{"note": "a \"quoted\" ü\n"}');
           SELECT credyt.grant_credits('ann', 0.5, paid => 0.77, currency => 'EUR', priority => 300);
           SELECT credyt.grant_credits('ann', 10, 'included', applies_to => '{image,"video.*"}', expires_at => '2025-01-20Z');
           SELECT credyt.grant_credits('ann', 7, 'promotional', effective_at => '2100-01-01Z', priority => -1);
           SELECT credyt.revoke_grant('ann', g.id, 3, reason => 'mistake', idempotency_key => 'revoke')
               FROM credyt.grant_credits('ann', 5, paid => 1, priority => 200) g;
           SELECT credyt.revoke_grant('ann', g.id) FROM credyt.grant_credits('ann', 4, paid => 1, priority => 200) g;
           SELECT credyt.revoke_payment('ann', g.payment, reason => 'dispute', idempotency_key => 'dispute')
               FROM (SELECT 'pi_1' AS payment FROM credyt.grant_credits('ann', 4, paid => 1, payment => 'pi_1')) g;
           SELECT count(credyt.grant_credits('many', nth + 0.01, paid => nth, applies_to => ARRAY['action.' || nth || '.*']))
               FROM generate_series(0, 59) nth"#,
    ),
    // Plans, with periods that have passed and one that is not paid.
    (
        "2025-01-03Z",
        r#"SELECT credyt.create_plan('pro', 5, '1 month', rollover => 2, applies_to => '{video.*}');
           SELECT credyt.create_plan('team', 20, '1 week', paid => 9.99);
           SELECT credyt.subscribe('ann', 'pro', timezone => 'America/New_York', idempotency_key => 's');
           SELECT credyt.subscribe('bob', 'team', paid_through => '2025-01-17Z', payment => 'in_1')"#,
    ),
    // Debits with everything a debit can have, a refund, a debt and its settlement.
    (
        "2025-01-04Z",
        r#"SELECT credyt.debit_credits('ann', 'image', 3, dimensions => '{"model": "x"}', idempotency_key => 'k', cost => 0.123456789012,
                                       usage => '{"vendor": "v", "body": {"n": 1}}', scopes => '{user:a}');
           SELECT credyt.refund('ann', d.id, 1, reason => 'blurred', idempotency_key => 'refund')
               FROM credyt.debit_credits('ann', 'image', 2, usage => '{"vendor": "acme", "model": "m", "body": {"input_tokens": 1000}}') d;
           SELECT credyt.debit_credits('ann', 'page', 2.125);
           SELECT credyt.record_cost('ann', 'gpu-cloud', 'a100', '{"gpu_second": 12}', vendor_request_id => 'r1');
           SELECT credyt.record_cost('ann', 'later', 'known', '{"second": 12}');
           SELECT credyt.record_cost('ann', 'acme', 'unheard-of', cost => 0.5, source => 'invoiced',
                                     debit_id => (SELECT d.id FROM credyt.debit_credits('ann', 'image') d));
           SELECT credyt.open_wallet(E'o''brien\\', 'tokens', overdraft_limit => 1, metadata => '[1.10]');
           SELECT credyt.debit_credits(E'o''brien\\', 'chat', 12345, asset => 'tokens');
           SELECT credyt.open_wallet('owing', overdraft_limit => 100);
           SELECT credyt.debit_credits('owing', 'image', 5);
           SELECT credyt.grant_credits('owing', 3);
           SELECT credyt.debit_credits('owing', 'image', 2)"#,
    ),
    // Holds: one open for ever, one kept open after a capture, one captured, one released, one that ended.
    (
        "2025-01-05Z",
        r#"SELECT credyt.authorize('ann', 'image', 2, idempotency_key => 'hold', ttl_seconds => 2000000000);
           SELECT credyt.capture('ann', h.id, 1, keep_open => true)
               FROM credyt.authorize('ann', 'image', 4, idempotency_key => 'streaming', ttl_seconds => 2000000000) h;
           SELECT credyt.capture('ann', h.id, 2, usage => '{"vendor": "acme", "model": "m", "body": {"input_tokens": 5}}')
               FROM credyt.authorize('ann', 'image', 3) h;
           SELECT credyt.release('ann', h.id, 'too slow') FROM credyt.authorize('ann', 'image', 3) h;
           SELECT credyt.authorize('ann', 'page', 3, ttl_seconds => 2000000000);
           SELECT credyt.authorize('ann', 'image', 3, ttl_seconds => 60)"#,
    ),
    // Limits, with more users than the state has room for; alerts and top-ups that have spoken; a transfer.
    (
        "2025-01-06Z",
        r#"SELECT credyt.set_limit('many', 'user:*', 1000), credyt.set_limit('many', 'user:*', 1000, '5 hours'), credyt.set_limit('many', 'user:*', 1000, 'ever', counts => 'calls'), credyt.set_limit('many', E'user:o''b\\', 5, 'hour'),
                  credyt.set_limit('ann', 'action:im*', 90, 'day');
           SELECT credyt.grant_credits('many', 100, paid => 9);
           SELECT count(credyt.debit_credits('many', 'image', credits => 1, scopes => ARRAY['user:' || n])) FROM generate_series(1, 20) n;
           SELECT credyt.grant_credits('low', 100), credyt.set_alert('low', 90), credyt.set_topup('low', 95, 20);
           SELECT credyt.debit_credits('low', 'image', 10);
           SELECT credyt.ack_events(array_agg(id)) FROM credyt.take_events() WHERE type = 'balance.low';
           SELECT credyt.freeze_wallet('owing', reason => 'owes'), credyt.freeze_wallet('ann', reason => 'for a moment'),
                  credyt.unfreeze_wallet('ann');
           SELECT credyt.transfer('many', 'other', 3.33, reason => 'ü', idempotency_key => 'transfer')"#,
    ),
    (
        "2025-02-10Z",
        r#"SELECT credyt.debit_credits('ann', 'image', occurred_at => '2025-01-31Z');
           SELECT credyt.debit_credits('many', 'image');
           SELECT credyt.close_period('2025-02-01Z');
           SELECT credyt.maintain()"#,
    ),
    (
        "2025-03-10Z",
        r#"SELECT credyt.set_price('image', '3', customer => 'bob', effective_at => '2099-01-01Z');
           SELECT credyt.change_plan('ann', 'pro', quantity => 3, proration => 'restart');
           SELECT credyt.change_plan('ann', 'pro', quantity => 4);
           SELECT credyt.change_plan('ann', 'pro', quantity => 2, at => 'renewal');
           SELECT credyt.unsubscribe('bob', 'team');
           SELECT count(credyt.debit_credits('many', 'image', credits => 1.5, scopes => ARRAY['user:' || n])) FROM generate_series(1, 20) n;
           SELECT credyt.debit_credits('ann', 'image', scopes => '{user:a}');
           SELECT credyt.set_vendor_rate('gpu-cloud', 'a100', '{"gpu_second": "0.0012", "currency": "EUR"}');
           SELECT credyt.set_vendor_rate('later', 'known', '{"second": "0.01"}');
           SELECT credyt.erase_customer('other', 'ünasked'), credyt.close_wallet('other')"#,
    ),
];

/// Fills a database that has the extension and nothing in it. The clock is the real one again at the end, so that much
/// has fallen due since: renewals, ends of grants and holds.
pub fn fill(client: &mut Client) {
    for (now, life) in LIFE {
        clock(client, now);
        rows(client, life);
    }
    rows(client, "DELETE FROM credyt.clock");
    for table in tables(client) {
        let sql = format!("SELECT EXISTS (SELECT FROM {table})");
        assert_eq!(value(client, &sql), "t", "LIFE leaves {table} empty");
    }
}

/// The tables whose rows are the ledger: all that a dump keeps, which leaves out only the clock of tests.
pub fn tables(client: &mut Client) -> Vec<String> {
    let sql = "SELECT c.oid::regclass FROM pg_class c, pg_extension e
               WHERE c.relnamespace = 'credyt'::regnamespace AND c.relkind = 'r' AND c.relname <> 'clock'
                 AND e.extname = 'credyt_pg'
                 AND e.extcondition[array_position(e.extconfig, c.oid)] IS NOT NULL
               ORDER BY c.relname";
    values(client, sql)
}

/// Each table with the number of its rows and a hash over them: what has to be the same in a copy.
pub fn hashes(client: &mut Client) -> Vec<String> {
    let tables = tables(client);
    assert!(tables.len() > 20, "{tables:?}");
    let hash = |table: &String| {
        let sql = format!(
            "SELECT '{table}', count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM {table} t"
        );
        value(client, &sql)
    };
    tables.iter().map(hash).collect()
}

/// A copy answers old keys as the original did, takes new debits, finishes what was held, and keeps every invariant.
pub fn goes_on(client: &mut Client) {
    lawful(client);
    assert_eq!(
        value(
            client,
            r#"SELECT credits, replayed FROM credyt.debit_credits('ann', 'image', 3, dimensions => '{"model": "x"}',
                   idempotency_key => 'k', cost => 0.123456789012, usage => '{"vendor": "v", "body": {"n": 1}}', scopes => '{user:a}')"#
        ),
        "4.5 t"
    );
    assert_eq!(
        value(
            client,
            "SELECT credits, replayed FROM credyt.debit_credits('ann', 'image')"
        ),
        "2 f"
    );
    assert_eq!(
        value(
            client,
            "SELECT approved, replayed FROM credyt.authorize('ann', 'image', 2, idempotency_key => 'hold', ttl_seconds => 2000000000)"
        ),
        "t t"
    );
    assert_eq!(
        value(
            client,
            "SELECT replayed FROM credyt.subscribe('ann', 'pro', timezone => 'America/New_York', idempotency_key => 's')"
        ),
        "t"
    );
    assert_eq!(
        value(
            client,
            "SELECT count(*), sum(c.credits) FROM credyt.open_authorizations h, credyt.capture(h.customer, h.id, quantity => 2) c
             WHERE h.customer = 'ann'"
        ),
        "3 6.5"
    );
    rows(client, "SELECT credyt.maintain()");
    lawful(client);
    // Rows are reached directly here, too.
    rows(
        client,
        "BEGIN; SELECT count(credyt.debit_credits('ann', 'image')) FROM generate_series(1, 12); ROLLBACK",
    );
    let direct = "SELECT count(*) > 0 FROM credyt.direct_access_counts() WHERE reason = 'direct'";
    assert_eq!(value(client, direct), "t");
}

/// `credyt.verify()` finds nothing.
pub fn lawful(client: &mut Client) {
    let broken = values(
        client,
        "SELECT invariant, customer, detail FROM credyt.verify()",
    );
    assert!(broken.is_empty(), "{broken:#?}");
}
