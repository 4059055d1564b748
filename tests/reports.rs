//! Every report against every other, at random moments of random lives, before and after `maintain`.

mod support;

use postgres::Client;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;
use support::sql::{Database, attempt, clock, rows, value, values};

/// What all reports say. `maintain` and who rolls up change none of it.
const REPORTS: &str = "
    CREATE FUNCTION reports(past timestamptz[]) RETURNS TABLE (report text, says text) LANGUAGE sql AS $$
        SELECT 'margin', string_agg(m::text, ' ' ORDER BY m::text)
        FROM credyt.margin('{day,action,customer,vendor,model,kind,scope}') m
        UNION ALL SELECT 'parts of days', string_agg(m::text, ' ' ORDER BY m::text)
        FROM credyt.margin('{day,customer,kind}', past[1] + interval '5 hours', past[2] + interval '7 hours') m
        UNION ALL SELECT 'by customer', string_agg(m::text, ' ' ORDER BY m::text) FROM credyt.margin_by_customer m
        UNION ALL SELECT 'by action', string_agg(m::text, ' ' ORDER BY m::text) FROM credyt.margin_by_action m
        UNION ALL SELECT 'negative', string_agg(m::text, ' ' ORDER BY m::text) FROM credyt.negative_margin m
        UNION ALL SELECT 'suggested', string_agg(m::text, ' ' ORDER BY m::text) FROM credyt.suggest_price('image', 0.4) m
        UNION ALL SELECT 'rollforward', string_agg(r::text, ' ' ORDER BY r::text)
        FROM credyt.revenue_rollforward(past[1], NULL) r
        UNION ALL SELECT 'deferred', string_agg(d::text, ' ' ORDER BY d::text) FROM credyt.deferred_revenue d
        UNION ALL SELECT 'deferred at', string_agg(concat_ws('|', at, d), ' ' ORDER BY at, d.kind)
        FROM unnest(past) AS at, credyt.deferred_revenue_at(at) d
        UNION ALL SELECT 'breakage', string_agg(b::text, ' ' ORDER BY b::text) FROM credyt.breakage b
        UNION ALL SELECT 'balances', string_agg(b::text, ' ' ORDER BY b::text) FROM credyt.wallet_balances b
        UNION ALL SELECT 'grants', string_agg(g::text, ' ' ORDER BY g::text) FROM credyt.grant_balances g
        UNION ALL SELECT 'order', string_agg(o::text, ' ' ORDER BY o::text) FROM credyt.spend_order o
        UNION ALL SELECT 'holds', string_agg(h::text, ' ' ORDER BY h::text) FROM credyt.open_authorizations h
        UNION ALL SELECT 'statement', string_agg(concat_ws('|', s.customer, s.occurred_at, s.kind, s.action, s.credits, s.balance,
            s.revenue, s.grant_id), ' ' ORDER BY s.customer, s.occurred_at, s.kind, s.credits, s.balance, s.grant_id)
        FROM credyt.statement s
        UNION ALL SELECT 'subscriptions', string_agg(s::text, ' ' ORDER BY s::text) FROM credyt.subscriptions s
        UNION ALL SELECT 'renewals', string_agg(r::text, ' ' ORDER BY r::text) FROM credyt.renewals r
        UNION ALL SELECT 'alerts', string_agg(a::text, ' ' ORDER BY a::text) FROM credyt.alerts a
        UNION ALL SELECT 'past', string_agg(concat_ws('|', w.customer, at, b.settled, b.owed), ' ' ORDER BY w.customer, at)
        FROM credyt.wallets w, unnest(past) AS at, credyt.balance(w.customer, at => at) b
        UNION ALL SELECT 'future', string_agg(concat_ws('|', w.customer, days, b), ' ' ORDER BY w.customer, days)
        FROM credyt.wallets w, unnest('{0,1,40}'::int[]) AS days,
             credyt.balance(w.customer, at => credyt.statement_time() + days * interval '1 day') b
    $$";

/// Where two reports say different things of the same.
const DIFFERENCES: &str = "
    WITH money AS (
        SELECT coalesce((SELECT sum(r.earned) FROM credyt.revenue_rollforward(NULL, NULL) r), 0) AS earned,
               coalesce((SELECT sum(r.breakage) FROM credyt.revenue_rollforward(NULL, NULL) r), 0) AS breakage,
               coalesce((SELECT sum(r.closing) FROM credyt.revenue_rollforward(NULL, NULL) r), 0) AS closing
    ),
    said (what, one, other) AS (
        SELECT 'margin, rollforward', coalesce((SELECT sum(m.revenue) FROM credyt.margin('{}') m), 0), m.earned FROM money m
        UNION ALL SELECT 'by action', coalesce((SELECT sum(a.revenue) FROM credyt.margin_by_action a), 0), m.earned FROM money m
        UNION ALL SELECT 'by customer', coalesce((SELECT sum(a.revenue) FROM credyt.margin_by_customer a), 0), m.earned FROM money m
        UNION ALL SELECT 'by model', coalesce((SELECT sum(a.revenue) FROM credyt.margin_by_model a), 0), m.earned FROM money m
        UNION ALL SELECT 'daily', coalesce((SELECT sum(a.revenue) FROM credyt.margin_daily a), 0), m.earned FROM money m
        UNION ALL SELECT 'statement, revenue', coalesce((SELECT sum(s.revenue) FROM credyt.statement s), 0), m.earned FROM money m
        UNION ALL SELECT 'breakage', coalesce((SELECT sum(b.revenue) FROM credyt.breakage b), 0), m.breakage FROM money m
        UNION ALL SELECT 'deferred', coalesce((SELECT sum(d.revenue) FROM credyt.deferred_revenue d), 0), m.closing FROM money m
        UNION ALL SELECT 'deferred at', coalesce((SELECT sum(d.revenue) FROM credyt.deferred_revenue_at(credyt.statement_time()) d), 0), m.closing
        FROM money m
        UNION ALL SELECT 'costs', coalesce((SELECT sum(m.cost) FROM credyt.margin('{}') m), 0),
                         coalesce((SELECT sum(a.cost) FROM credyt.margin_by_customer a), 0)
        UNION ALL SELECT 'debits', coalesce((SELECT sum(m.debits) FROM credyt.margin('{}') m), 0),
                         coalesce((SELECT sum(a.debits) FROM credyt.margin_by_customer a), 0)
        UNION ALL SELECT w.customer || ': statement, balance',
               coalesce((SELECT s.balance FROM credyt.statement s WHERE s.customer = w.customer AND s.seq IS NULL
                         OFFSET (SELECT greatest(count(*) - 1, 0) FROM credyt.statement s WHERE s.customer = w.customer AND s.seq IS NULL)),
                        (SELECT s.balance FROM credyt.statement s WHERE s.customer = w.customer AND s.seq IS NOT NULL ORDER BY s.seq DESC LIMIT 1), 0),
               b.settled + coalesce((SELECT sum(g.remaining - g.held) FROM credyt.grant_balances g
                                     WHERE g.customer = w.customer AND g.effective_at > credyt.statement_time()), 0)
        FROM credyt.wallets w, credyt.balance(w.customer) b
        UNION ALL SELECT w.customer || ': statement adds up', coalesce((SELECT sum(s.credits) FROM credyt.statement s WHERE s.customer = w.customer), 0),
               coalesce((SELECT sum(g.remaining) FROM credyt.grant_balances g WHERE g.customer = w.customer), 0) - b.owed
        FROM credyt.wallets w, credyt.balance(w.customer) b
        UNION ALL SELECT b.customer || ': view, balance', v.settled + v.available + v.owed + v.held, b.settled + b.available + b.owed + b.held
        FROM credyt.wallet_balances v, LATERAL (SELECT v.customer, b.* FROM credyt.balance(v.customer) b) b
        UNION ALL SELECT b.customer || ': order, available', coalesce((SELECT sum(o.remaining - o.held) FROM credyt.spend_order o WHERE o.customer = b.customer), 0),
               b.available - greatest(b.overdraft_limit - b.owed - b.held_overdraft, 0)
        FROM (SELECT w.customer, w.available, w.overdraft_limit, w.owed,
                     w.held - coalesce((SELECT sum(g.held) FROM credyt.grant_balances g WHERE g.customer = w.customer), 0) AS held_overdraft
              FROM credyt.wallet_balances w) b
        UNION ALL SELECT s.customer || ': the grant of ' || s.plan, count(g.id), count(s.grant_id)
        FROM credyt.subscriptions s LEFT JOIN credyt.grant_balances g ON g.customer = s.customer AND g.id = s.grant_id GROUP BY 1
    )
    SELECT what, one, other FROM said WHERE one IS DISTINCT FROM other
    UNION ALL
    SELECT invariant || ' ' || customer || ' ' || detail, NULL, NULL FROM credyt.verify()";

fn moment(second: i64) -> String {
    let (day, rest) = (1 + second / 86_400, second % 86_400);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let (month, day) = (1 + (day - 1) / 28, 1 + (day - 1) % 28);
    format!("2100-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

fn operate(client: &mut Client, random: &mut StdRng, second: i64, closed: &mut i64) {
    let who = *["ann", "bob", "cy"].choose(random).expect("one");
    let to = *["ann", "bob", "cy"].choose(random).expect("one");
    let n = random.random_range(1..40);
    let later = |random: &mut StdRng| moment(second + random.random_range(1..600_000));
    let debits =
        format!("SELECT id FROM credyt.ledger WHERE customer = '{who}' AND kind = 'debit'");
    let one = |client: &mut Client, random: &mut StdRng, sql: &str| {
        values(client, sql).choose(random).cloned()
    };
    let call = match random.random_range(0..16) {
        0..3 => {
            let end = if random.random_bool(0.7) {
                format!("'{}'", later(random))
            } else {
                "NULL".to_owned()
            };
            let start = second + if random.random_bool(0.5) { 30_000 } else { 0 };
            let start = moment(start);
            format!(
                "grant_credits('{who}', {n}, paid => {n}.{n}, effective_at => '{start}', expires_at => {end})"
            )
        }
        3..6 => {
            format!("debit_credits('{who}', 'image', {n}, cost => 0.{n}, scopes => '{{user:{n}}}')")
        }
        6 => format!(
            "authorize('{who}', 'image', {n}, ttl_seconds => {})",
            random.random_range(60..500_000)
        ),
        7 => {
            let open = format!(
                "SELECT id FROM credyt.authorizations WHERE customer = '{who}' AND status = 'open'"
            );
            match one(client, random, &open) {
                Some(id) => format!(
                    "capture('{who}', '{id}', keep_open => {})",
                    random.random_bool(0.5)
                ),
                None => return,
            }
        }
        8 => match one(client, random, &debits) {
            Some(id) => format!(
                "refund('{who}', '{id}', restore_until => '{}')",
                later(random)
            ),
            None => return,
        },
        9 => match one(client, random, &debits) {
            Some(id) => {
                format!("record_cost('{who}', 'gpus', 'h100', cost => 0.{n}, debit_id => '{id}')")
            }
            None => return,
        },
        10 => match one(
            client,
            random,
            &format!("SELECT id FROM credyt.grants WHERE customer = '{who}'"),
        ) {
            Some(id) => format!(
                "revoke_grant('{who}', '{id}', spent => '{}')",
                if n < 20 { "owe" } else { "keep" }
            ),
            None => return,
        },
        11 => format!("open_wallet('{who}', overdraft_limit => {n})"),
        12 => {
            let plan = *["pro", "week"].choose(random).expect("one");
            let paid = if random.random_bool(0.5) {
                format!("'{}'", later(random))
            } else {
                "NULL".to_owned()
            };
            format!("subscribe('{who}', '{plan}', paid_through => {paid})")
        }
        13 => format!("pay_subscription('{who}', 'pro', '{}')", later(random)),
        14 if n < 12 => {
            *closed = random.random_range(*closed..=second);
            format!("close_period('{}')", moment(*closed))
        }
        14 => format!("set_alert('{who}', {n})"),
        _ if n < 10 => format!("unsubscribe('{who}', 'week')"),
        _ => format!("transfer('{who}', '{to}', {n})"),
    };
    if let Err(refused) = attempt(client, &format!("SELECT credyt.{call}")) {
        assert!(!refused.code.starts_with("XX"), "{call}: {refused:?}");
    }
}

#[test]
fn every_report_agrees_with_every_other() {
    let steps = std::env::var("CREDYT_STEPS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(100);
    let mut seen = BTreeSet::new();
    for seed in 0..3_u64 {
        let database = Database::new(&format!("reports_{seed}"));
        let mut client = database.connect();
        let mut random = StdRng::seed_from_u64(seed);
        clock(&mut client, moment(0));
        rows(&mut client, REPORTS);
        rows(
            &mut client,
            "SELECT credyt.open_wallet(who, overdraft_limit => 60) FROM unnest('{ann,bob,cy}'::text[]) who; SELECT credyt.create_plan('pro', 50, '1 month', paid => 10, rollover => 20), credyt.create_plan('week', 9, '1 week', paid => 1)",
        );
        let (mut second, mut closed) = (0, 0);
        let mut past: Vec<String> = vec![moment(0), moment(0)];
        for step in 0..steps {
            operate(&mut client, &mut random, second, &mut closed);
            second += random.random_range(1..20_000);
            clock(&mut client, moment(second));
            if random.random_bool(0.1) {
                past[usize::from(random.random_bool(0.5))] = moment(second);
                past.sort();
            }
            if step % 5 == 0 {
                let pending = "SELECT kind FROM credyt.pending_entries WHERE kind <> 'settlement' OR revenue > 0";
                seen.extend(values(&mut client, pending));
                let differences = values(&mut client, DIFFERENCES);
                assert_eq!(differences, [""; 0], "seed {seed}, step {step}, before");
                let says = format!("SELECT report, says FROM reports('{{{}}}')", past.join(","));
                let before = values(&mut client, &says);
                value(&mut client, "SELECT credyt.maintain()");
                let after = values(&mut client, &says);
                for (before, after) in before.iter().zip(&after) {
                    assert_eq!(before, after, "seed {seed}, step {step}");
                }
                assert_eq!(
                    values(&mut client, DIFFERENCES),
                    [""; 0],
                    "seed {seed}, step {step}, after"
                );
            }
        }
    }
    let kinds = ["expiry", "grant", "settlement"];
    let missed = kinds.iter().find(|kind| !seen.contains(**kind));
    assert_eq!(missed, None, "none was pending");
}
