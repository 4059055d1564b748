#!/usr/bin/env bash
# What one server does with many wallets and a long ledger: make capacity (20,000 wallets and 700,000 ledger rows, some minutes;
# ARGS=71428: 1.4 million wallets and 50 million ledger rows, 60 GB and three hours).
#
# Twenty customers live for a year: grants, debits with and without costs, usage and scopes, a refund, a capture, an expiry.
# Each is copied a number of times with all rows, so the books are whole: verify() finds nothing. Then it measures.
# The server is the one of PGHOST, PGPORT, PGUSER and PGDATABASE, as a superuser; its database `capacity` is made again.
set -euo pipefail
cd "$(dirname "$0")/.."
copies=${1:-1000}
export PGDATABASE=capacity PGOPTIONS="-c synchronous_commit=off -c client_min_messages=warning"
folder=$(mktemp -d "${TMPDIR:-/tmp}/capacity_XXXXXX")
trap 'rm -rf "$folder"' EXIT
ask() { psql -XqAt -v ON_ERROR_STOP=1 "$@"; }
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f s", b - a }'; }
say() { printf '%-52s %s\n' "$1" "$2"; }
# The best of three, of what takes less than ten seconds.
timed() { # what, SQL
    local rows best=
    for _ in 1 2 3; do
        { read -r rows; read -r _ took _; } < <(ask -c '\timing on' -c "SELECT count(*) FROM $2")
        best=$(printf '%s\n' $best "$took" | sort -n | head -n 1)
        [ "${took%.*}" -lt 10000 ] || break
    done
    say "$1" "$best ms, $rows rows"
}

ask -d postgres -c 'DROP DATABASE IF EXISTS capacity' -c 'CREATE DATABASE capacity TEMPLATE template0'
began=$(now)
ask -f - <<'SQL' >/dev/null
CREATE EXTENSION credyt_pg;
INSERT INTO credyt.clock VALUES (now() - interval '361 days');
SELECT credyt.create_asset('credits', timezone => 'Europe/Berlin');
SELECT credyt.set_vendor_rate('gpu', 'a100', '{"second": "0.0011"}');
SELECT credyt.set_price('action.' || n, (1 + n)::text::jsonb) FROM generate_series(0, 7) n;
CREATE TABLE life AS
SELECT date_trunc('day', now()) - interval '360 days' + k * interval '10 days' + c * interval '7 hours' AS at,
       format('c%s', to_char(c, 'FM00')) AS customer, c, k
FROM generate_series(0, 19) c, generate_series(0, 34) k;
SELECT format($$DELETE FROM credyt.clock; INSERT INTO credyt.clock VALUES (%L)$$, l.at),
       CASE WHEN k = 0 THEN format($$SELECT credyt.grant_credits(%L, 1000, paid => 100)$$, customer)
            WHEN k = 1 THEN format($$SELECT credyt.grant_credits(%L, 9, 'promotional', expires_at => %L)$$, customer, at + interval '60 days')
            WHEN k IN (12, 24) THEN format($$SELECT credyt.grant_credits(%L, 500, paid => 45, idempotency_key => 'pack %s')$$, customer, k)
            WHEN k = 20 THEN format($$SELECT credyt.refund(%L, id, 1) FROM credyt.ledger WHERE customer = %1$L AND kind = 'debit' ORDER BY seq DESC LIMIT 1$$, customer)
            WHEN k = 30 THEN format($$SELECT credyt.capture(h.customer, h.id, 2) FROM credyt.authorize(%L, 'action.0', 3) h$$, customer)
            WHEN (c + k) % 3 = 0 THEN format(
                $$SELECT credyt.debit_credits(%L, 'action.%s', %s, usage => '{"vendor": "gpu", "model": "a100", "body": {"second": %s}}', idempotency_key => 'job %s')$$,
                customer, (c + k) % 8, 1 + k % 3, k, k)
            ELSE format($$SELECT credyt.debit_credits(%L, 'action.%s', %s, cost => %L, scopes => %L, idempotency_key => 'job %s')$$,
                customer, (c + k) % 8, 1 + k % 3, CASE WHEN k % 5 > 0 THEN 0.0013 * k END, CASE WHEN k % 4 = 0 THEN '{user:a}' END, k) END
FROM life l ORDER BY at \gexec
DELETE FROM credyt.clock;
DROP TABLE life;
SQL
# In the order of time, as they would have been booked: the series depends on the row, so it is the inner loop.
ask -v copies="$copies" -f - <<'SQL' >/dev/null
SELECT format('INSERT INTO %1$s (%2$s) SELECT %3$s FROM (SELECT * FROM %1$s ORDER BY %4$s) t, generate_series(length(t.customer) / 100 + 1, %5$s) n', c.oid::regclass,
              string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum),
              replace(string_agg(format('t.%I', a.attname), ', ' ORDER BY a.attnum), 't.customer', 't.customer || ''-'' || n'),
              CASE WHEN bool_or(a.attname = 'created_at') THEN 'created_at' ELSE 'customer' END, :copies)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'credyt'::regnamespace AND c.relkind = 'r'
GROUP BY c.oid HAVING bool_or(a.attname = 'customer') AND c.relname <> 'prices' ORDER BY c.relname \gexec
VACUUM ANALYZE;
CHECKPOINT;
SQL
sed '/INTO bench.ledger/d' examples/bench/floor.sql | ask -f -
say "made in" "$(since "$began")"
say "wallets, ledger rows" "$(ask -c "SELECT format('%s, %s', (SELECT count(*) FROM credyt.wallets), (SELECT count(*) FROM credyt.ledger))")"

began=$(now)
while [ "$(ask -c 'SELECT rolled_up FROM credyt.maintain(10000)')" != 0 ]; do :; done
say "maintain, all of them rolled up" "$(since "$began")"
ask -c "VACUUM ANALYZE credyt.margin_days, credyt.margin_customers, credyt.margin_scopes, credyt.rollup_progress" -c CHECKPOINT
ask -F ' ' -c "SELECT format('%-52s %s and %s of indexes', relname, pg_size_pretty(pg_table_size(oid)), pg_size_pretty(pg_indexes_size(oid)))
    FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind = 'r' AND pg_total_relation_size(oid) > 10000000 ORDER BY pg_total_relation_size(oid) DESC"
say "the database" "$(ask -c "SELECT pg_size_pretty(pg_database_size(current_database()))")"
timed "maintain with nothing to do" "credyt.maintain()"
timed "margin by action, 30 days" "credyt.margin('{action}', now() - interval '30 days')"
timed "margin by action, all time" "credyt.margin('{action}')"
timed "margin by customer, 30 days" "credyt.margin('{customer}', now() - interval '30 days')"
timed "margin by customer and day, 30 days" "credyt.margin('{customer,day}', now() - interval '30 days')"
timed "margin by customer and day, all time" "credyt.margin('{customer,day}')"
timed "simulate_price of an action, all time" "credyt.simulate_price('action.1', '1.5')"
timed "deferred_revenue" "credyt.deferred_revenue"
timed "health" "credyt.health"
timed "usage of one customer by day" "credyt.usage('c07-5', now() - interval '400 days', NULL, 'day', '{action}')"
timed "history of one customer" "credyt.history('c07-5')"
timed "verify of one customer" "credyt.verify('c07-5')"

# A debit and the floor in turns: customers picked at random, then one and the same.
cat > "$folder/floor" <<'SQL'
WITH paid AS (UPDATE bench.balances SET balance = balance - 1 WHERE customer = 'floor' AND balance >= 1 RETURNING balance)
INSERT INTO bench.movements (id, customer, action, credits, idempotency_key)
SELECT gen_random_uuid(), 'floor', 'image.generate', -1, gen_random_uuid() FROM paid RETURNING id, (SELECT balance FROM paid);
SQL
cat > "$folder/any" <<SQL
\set c random(0, 19)
\set n random(1, $copies)
SELECT * FROM credyt.debit_credits('c' || lpad(:c::text, 2, '0') || '-' || :n::text, 'action.1', idempotency_key => gen_random_uuid()::text);
SQL
sed -e 's/random(0, 19)/7/' -e 's/random(1, [0-9]*)/7/' "$folder/any" > "$folder/one"
ask -c "SELECT credyt.grant_credits('c07-7', 1000000)" >/dev/null
for case in any one; do
    for round in 1 2 3 4 5 6 7; do
        for script in "$case" floor; do
            from=$(ask -c "SELECT pg_current_wal_insert_lsn()")
            pgbench -n -M prepared -T 2 -f "$folder/$script" > "$folder/out"
            count=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$folder/out")
            ask -c "SELECT $count, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '$from') / $count" >> "$folder/$case.$script"
        done
    done
    ratio=$(paste -d'|' "$folder/$case.$case" "$folder/$case.floor" | awk -F'|' '{ print $1 / $3 }' | sort -n | sed -n 4p)
    wal=$(cut -d'|' -f2 "$folder/$case.$case" | sort -n | sed -n 4p)
    rate=$(cut -d'|' -f1 "$folder/$case.$case" | sort -n | sed -n 4p)
    say "debits of $case customer" "$((rate / 2)) a second, ratio to the floor $(printf %.2f "$ratio"), ${wal%.*} bytes of WAL"
done

began=$(now)
pg_dump -Fc -Z 1 -N bench -f "$folder/dump"
say "pg_dump" "$(since "$began"), $(du -h "$folder/dump" | cut -f1)"
ask -d postgres -c 'DROP DATABASE capacity' -c 'CREATE DATABASE capacity TEMPLATE template0'
began=$(now)
pg_restore -d capacity "$folder/dump"
say "pg_restore" "$(since "$began")"
say "the database, restored" "$(ask -c "SELECT pg_size_pretty(pg_database_size(current_database()))")"
say "violations of one customer's books after it" "$(ask -c "SELECT count(*) FROM credyt.verify('c07-5')")"
