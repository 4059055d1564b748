#!/usr/bin/env bash
# credyt.distribute on a coordinator and two workers of this machine: what it refuses, the SQL tests and the demo with the answers
# of one server, rights, calls that are delegated, a mixed load with rollbacks, a shard that moves and a worker that is killed under
# it, an update of the extension, and the way back to one server, where every ledger and every view is the same. Needs a Postgres
# that has Citus.   tests/citus.sh <pg_config>     ONLY=name: one SQL test alone; ACCEPT=1: what differs from one server is as it came out
set -euo pipefail
cd "$(dirname "$0")/.."
pg_config=$1
[ -e "$("$pg_config" --pkglibdir)/citus.so" ] || { echo "skipped: no Citus"; exit 0; }
nodes=() ports=() passed=0 scripts=()
trap 'for node in "${nodes[@]}"; do scripts/server.sh stop "$node"; done; rm -f "${scripts[@]}"' EXIT
trap 'exit 130' INT TERM
export CREDYT_OPTIONS="-c shared_preload_libraries=citus -c fsync=off -c max_connections=200 -c max_prepared_transactions=200 -c wal_level=logical -c citus.node_conninfo=sslmode=prefer -c track_functions=all"
export CREDYT_OWNER=$$
for node in coordinator worker worker; do
    exports=$(scripts/server.sh start "$pg_config")
    eval "$exports"
    nodes+=("$CREDYT_SERVER") ports+=("$PGPORT")
done
PATH=$(cat "${nodes[0]}/bin"):$PATH
scratch=${nodes[0]}
export PGHOST=localhost PGUSER=postgres PGOPTIONS="-c client_min_messages=error"
unset PGDATABASE PGPORT

on() { # node database, and what psql is told
    psql -X -q -A -t -v ON_ERROR_STOP=1 -p "${ports[$1]}" -d "$2" "${@:3}"
}
ok() { echo "ok        $1"; passed=$((passed + 1)); }
is() { [ "$2" = "$3" ] || { printf '%s: %s instead of %s\n' "$1" "$2" "$3"; exit 1; }; ok "$1"; }
message() { # the first line of an error
    local said
    said=$("$@" 2>&1 || true)
    said=${said#*: }
    echo "${said%%$'\n'*}"
}
database() { # on every node, with Citus
    local at
    for at in 2 1 0; do
        on $at postgres -c "SET citus.enable_create_database_propagation = off" -c "CREATE DATABASE $1"
        on $at "$1" -c "CREATE EXTENSION citus"
    done
}
cluster() { # a database on all nodes, the workers known
    database "$1"
    on 0 "$1" -c "SELECT citus_set_coordinator_host('localhost', ${ports[0]})" -c "SELECT citus_add_node('localhost', ${ports[1]})" \
        -c "SELECT citus_add_node('localhost', ${ports[2]})" -c "CREATE EXTENSION credyt_pg" >/dev/null
}
drop() { # database
    local at
    for at in 0 1 2; do on $at postgres -c "DROP DATABASE $1 WITH (FORCE)"; done
}
copy() { # of a database on all nodes, Citus's own tables included
    local at
    for at in 0 1 2; do
        on $at postgres -c "ALTER DATABASE $1 ALLOW_CONNECTIONS false" \
            -c "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE datname = '$1'" \
            -c "SET citus.enable_create_database_propagation = off" -c "CREATE DATABASE $2 TEMPLATE $1" >/dev/null
    done
}
called() { # the functions of the database that were called are noted
    local at
    for at in 0 1 2; do
        on $at "$1" -c "SELECT funcid::regprocedure FROM pg_stat_user_functions WHERE schemaname = 'credyt'" >> "$scratch/called"
    done
}
recipe() { # heading nth: the commands of a section of docs/scale.md, for the servers here
    awk -v heading="### $1" -v nth="$2" '/^##/ { here = $0 == heading } here && /^```sh$/ { block++; next } /^```$/ { if (block == nth) exit; next }
        here && block == nth' docs/scale.md |
        sed "s/coordinator.example', 5432/localhost', ${ports[0]}/; s/worker1.example', 5432/localhost', ${ports[1]}/; s/worker2.example', 5432/localhost', ${ports[2]}/; s/=> 32/=> 4/; s/=ann/=v1/"
}

# What is not ready is refused, with its remedy.
refused() { # what, node, database, and the error: message | HINT
    local said
    said=$(on "$2" "$3" -v VERBOSITY=verbose -c "SELECT credyt.distribute()" 2>&1 | sed -n 's/localhost:[0-9]*/localhost/; s/^ERROR:  //p; s/^HINT:  /| /p' | tr '\n' ' ') || true
    is "$1" "$said" "55000: $4 "
}
refusals() {
    local versions="| Install the same version of credyt_pg on every node; CREATE EXTENSION credyt_pg on the coordinator reaches them all."
    on 0 postgres -c "CREATE EXTENSION credyt_pg"
    refused "a database without Citus is refused" 0 postgres \
        "this database has no Citus | Add citus to shared_preload_libraries on every node, restart, and run CREATE EXTENSION citus in this database on each."
    on 0 postgres -c "DROP EXTENSION credyt_pg CASCADE"
    database bare
    on 0 bare -c "CREATE EXTENSION credyt_pg"
    refused "a coordinator that the cluster does not know" 0 bare \
        "the cluster does not know the coordinator's address, so it would have no copy of prices and assets | SELECT citus_set_coordinator_host('address of this server');"
    on 0 bare -c "SELECT citus_set_coordinator_host('localhost', ${ports[0]})" >/dev/null
    refused "a cluster without workers" 0 bare "the cluster has no node that takes shards | SELECT citus_add_node('address of a worker', 5432);"
    on 0 bare -c "SELECT citus_add_node('localhost', ${ports[1]})" >/dev/null
    refused "a call on a worker" 1 bare "this node is not the coordinator of the cluster | Call distribute on the coordinator."
    local set="SET allow_system_table_mods = on"
    on 1 bare -c "$set" -c "UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'credyt_pg'"
    refused "a node whose SQL objects are older" 0 bare "node localhost is not ready: it has version 0.0.9 $versions"
    on 1 bare -c "$set" -c "UPDATE pg_extension SET extversion = '9.0.0' WHERE extname = 'credyt_pg'"
    refused "a node whose library is older" 0 bare "node localhost is not ready: ERROR:  this library is credyt_pg $version, and does not work with SQL objects of 9.0.0 $versions"
    on 1 bare -c "SET citus.enable_ddl_propagation = off" -c "DROP EXTENSION credyt_pg CASCADE"
    refused "a node without credyt_pg" 0 bare "node localhost is not ready: ERROR:  schema \"credyt\" does not exist $versions"
    drop bare
}

# The SQL tests answer as on one server, but for what tests/citus says.
sql_tests() {
    local name differs
    cluster same
    on 0 same -c "SELECT credyt.distribute(2)" -f tests/support/refused.sql >/dev/null
    for name in tests/sql/*.sql; do
        name=$(basename "$name" .sql)
        [ "${ONLY:-$name}" = "$name" ] || continue
        # Those have a database of one server of their own.
        ! grep -qi '^ *CREATE EXTENSION.*credyt_pg' "tests/sql/$name.sql" || continue
        copy same test
        PGOPTIONS="-c client_min_messages=warning" PGTZ=PST8PDT PGDATESTYLE="Postgres, MDY" \
            timeout 120 psql -X -a -q -p "${ports[0]}" -d test < "tests/sql/$name.sql" 2>&1 |
            sed '/^CONTEXT:  while executing command on/d; s/localhost:[0-9]*/localhost/g; s/pg_temp_[0-9]*/pg_temp/g; s/_10[0-9]\{4\}\b/_SHARD/g' > "$scratch/out" || true
        called test
        drop test
        differs=tests/citus/$name.diff
        diff "tests/expected/$name.out" "$scratch/out" > "$scratch/diff" || true
        if [ -n "${ACCEPT:-}" ]; then
            [ -s "$scratch/diff" ] || rm -f "$differs"
            [ ! -s "$scratch/diff" ] || { { sed -n '/^#/p' "$differs" 2>/dev/null || echo "# ?"; cat "$scratch/diff"; } > "$scratch/accepted"; cp "$scratch/accepted" "$differs"; }
            echo "accepted  $name"
        elif [ -e "$differs" ] && ! grep -q '^[^#]' "$differs"; then
            ! grep -q 'server closed the connection' "$scratch/out" || { echo "$name ended the server"; exit 1; }
            ok "$name runs, not compared: $(sed -n 's/^# //p' "$differs" | tr '\n' ' ')"
        elif [ -e "$differs" ]; then
            sed '/^#/d' "$differs" | diff - "$scratch/diff" || { echo "$name does not differ as $differs says"; exit 1; }
            ok "$name, but: $(sed -n 's/^# //p' "$differs" | tr '\n' ' ')"
        else
            [ ! -s "$scratch/diff" ] || { cat "$scratch/diff"; echo "$name answers otherwise"; exit 1; }
            ok "$name answers as on one server"
        fi
    done
}

version=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" credyt_pg.control)
if [ -n "${ONLY:-}${ACCEPT:-}" ]; then
    sql_tests
    exit
fi
refusals
sql_tests

# The demo says the same as on one server, in a database that is made as docs/scale.md says.
database demo
PGPORT=${ports[0]} PGDATABASE=demo bash -euo pipefail -c "$(recipe How 1)" >/dev/null
on 1 postgres -c "SET citus.enable_create_database_propagation = off" -c "CREATE DATABASE one"
on 1 one -c "CREATE EXTENSION credyt_pg"
for where in "0 demo" "1 one"; do
    grep -vi '^ *CREATE EXTENSION' examples/demo.sql | on $where -P footer=off 2>&1 | sed '/^CONTEXT:  while executing command on/d' > "$scratch/demo_${where% *}"
done
[ -s "$scratch/demo_1" ] && diff "$scratch/demo_1" "$scratch/demo_0" || { echo "the demo answers otherwise"; exit 1; }
ok "the demo answers as on one server"
is "and is lawful" "$(on 0 demo -c "SELECT count(*) FROM credyt.verify()")" "0"
called demo
drop demo
on 1 postgres -c "DROP DATABASE one"

# A thousand customers: reports are summed on the nodes, and say what they say from the rollups of one server.
cluster many
on 0 many >/dev/null <<'SQL'
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('action.' || n, '1') FROM generate_series(0, 3) n;
SELECT count(*) FROM credyt.grant_many((SELECT jsonb_agg(jsonb_build_object('customer', 'c' || n, 'credits', 1000, 'paid', 10)) FROM generate_series(1, 1000) n));
SELECT count(*) FROM generate_series(1, 30) r, LATERAL (SELECT count(*) FROM credyt.debit_many((
    SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('customer', 'c' || n, 'action', 'action.' || (n + r) % 4, 'quantity', 1 + r % 3,
        'cost', CASE WHEN r % 5 > 0 THEN 0.0013 * r END,
        'scopes', CASE WHEN r % 3 = 0 THEN jsonb_build_array('user:' || n % 7, 'user:' || n % 5) END)))
    FROM generate_series(1, 1000) n WHERE r > 0))) d;
SELECT count(credyt.refund('c' || n, (SELECT id FROM credyt.ledger WHERE customer = 'c' || n AND kind = 'debit' ORDER BY seq LIMIT 1), 1)) FROM generate_series(1, 50) n;
SELECT credyt.maintain(100000);
VACUUM ANALYZE;
SQL
reports() {
    local by
    for by in '' action customer day,customer day,action,kind scope customer,scope,action; do
        on 0 many -c "SET statement_timeout = '3s'" -c "SELECT md5(string_agg(m::text, ',' ORDER BY m::text)), count(*) FROM credyt.margin('{$by}') m" \
            -c "SELECT md5(string_agg(m::text, ',' ORDER BY m::text)), count(*) FROM credyt.margin('{$by}', now() - interval '1 h', now()) m"
    done
    on 0 many -c "SET statement_timeout = '3s'" -c "SELECT * FROM credyt.suggest_price('action.1', 0.4)" -c "SELECT * FROM credyt.margin_by_customer WHERE customer = 'c7'"
}
before=$(reports)
on 0 many -c "SELECT credyt.distribute(8)" >/dev/null
is "reports of many customers" "$(reports)" "$before"
drop many

# A database with data in it, and roles that were allowed something.
cluster shop
on 0 shop >/dev/null <<'SQL'
CREATE ROLE reporter LOGIN;
CREATE ROLE spender LOGIN;
SELECT credyt.allow('reporter', 'report'), credyt.allow('spender', 'spend');
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image', '1');
SELECT credyt.create_plan('pro', 100, paid => 30);
SELECT credyt.grant_credits('v' || n, 10000, paid => 100) FROM generate_series(1, 40) n;
SELECT credyt.subscribe('v' || n, 'pro') FROM generate_series(1, 10) n;
SELECT credyt.debit_credits('v' || n, 'image', cost => 0.01, scopes => ARRAY['user:' || n % 3], metadata => '{"a": 1}')
FROM generate_series(1, 40) n;
SELECT credyt.maintain();
SQL
# Meanwhile debits go on: a transaction that is open is waited for, and what comes later waits.
cat > "$scratch/debit.sql" <<'SQL'
\set n random(1, 40)
SELECT FROM credyt.debit_credits('v' || :n::text, 'image', credits => 0.5);
SQL
debits() { on 0 shop -c "SELECT count(*) FROM credyt.ledger WHERE credits = -0.5"; }
pgbench -n -p "${ports[0]}" -c 4 -T 12 -f "$scratch/debit.sql" shop > "$scratch/bench" 2>&1 &
on 0 shop -c "BEGIN" -c "SELECT FROM credyt.debit_credits('v1', 'image', credits => 0.25)" -c "SELECT pg_sleep(2)" -c "COMMIT" &
sleep 1
is "all tables are distributed" "$(on 0 shop -c "SELECT credyt.distribute(8) = count(*) FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind = 'r'")" "t"
wait
is "no debit failed meanwhile" "$(sed -n 's/^number of failed transactions: \([0-9]*\) .*/\1/p; /aborted/p' "$scratch/bench")" "0"
is "each is there" "$(debits)" "$(sed -n 's/^number of transactions actually processed: //p' "$scratch/bench")"
is "and that of the open transaction" "$(on 0 shop -c "SELECT count(*) FROM credyt.ledger WHERE credits = -0.25")" "1"
refused "a second time" 0 shop "the tables of credyt_pg are distributed already | SELECT * FROM pg_dist_partition; shows how."
is "the data is there" "$(on 0 shop -c "SELECT count(*), sum(credits) FROM credyt.ledger WHERE kind = 'debit' AND credits = -1")" "40|-40"
is "and all of it in shards" "$(on 0 shop -c "SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind = 'r' AND relname !~ '_[0-9]{6}'")" "0"
lawful() { is "and lawful" "$(on 0 shop -c "SELECT * FROM credyt.verify() LIMIT 10")" ""; }
lawful

# Rights.
reports="SELECT count(*), sum(available) FROM credyt.wallet_balances" # from the shards, by functions there
is "a report role reads views" "$(on 0 shop -U reporter -c "$reports")" "$(on 0 shop -c "$reports")"
is "and reports" "$(on 0 shop -U reporter -c "SELECT action, debits > 40 FROM credyt.margin_by_action")" "image|t"
is "and spends nothing" "$(message on 0 shop -U reporter -c "SELECT credyt.debit_credits('v1', 'image')")" " permission denied for function debit_credits"
is "a spending role spends" "$(on 0 shop -U spender -c "SELECT credits FROM credyt.debit_credits('v1', 'image', 2)")" "2"
is "and reads no view" "$(message on 0 shop -U spender -c "$reports")" " permission denied for view wallet_balances"
on 0 shop -c "SELECT credyt.allow('spender', 'report')" >/dev/null
is "until it may" "$(on 0 shop -U spender -c "SELECT count(*) > 3 FROM credyt.statement WHERE customer = 'v1'")" "t"
on 0 shop -c "SELECT credyt.disallow('spender', 'report')" >/dev/null
is "and no longer" "$(message on 0 shop -U spender -c "SELECT count(*) FROM credyt.ledger")" " permission denied for table ledger"

on 0 shop >/dev/null <<'SQL'
CREATE ROLE late LOGIN;
CREATE ROLE app NOLOGIN;
GRANT app TO late;
SELECT credyt.allow('late', 'spend'), credyt.allow('app', 'spend');
SQL
for at in 0 1 2; do
    is "a role that came later spends on node $at" "$(on $at shop -U late -c "SELECT credits FROM credyt.debit_credits('v1', 'image', 2)" \
        -c "SELECT credits FROM credyt.debit_credits('v2', 'image', 2)" | tr '\n' ' ')" "2 2 "
    is "and so does one that cannot log in" "$(on $at shop -U late -c "SET ROLE app" -c "SELECT credits FROM credyt.debit_credits('v1', 'image', 2)" \
        -c "SELECT credits FROM credyt.debit_credits('v2', 'image', 2)" | tr '\n' ' ')" "2 2 "
done
on 0 shop -c "SELECT credyt.disallow('late', 'spend'), credyt.disallow('app', 'spend')" >/dev/null
for at in 0 1 2; do
    is "and no longer on node $at" "$(message on $at shop -U late -c "SELECT credyt.debit_credits('v1', 'image')")" " permission denied for function debit_credits"
done

# Calls go to the node of their customer as a whole: one statement, however they are written.
statements() { # what is sent to other nodes, but for the ends of transactions
    PGOPTIONS="-c client_min_messages=notice -c citus.log_remote_commands=on" on 0 shop -c "$1" 2>&1 | grep -c '^NOTICE:  issuing' || true
}
is "a debit is one statement" "$(statements "SELECT credits FROM credyt.debit_credits('v1', 'image')")" "1"
is "and three in a transaction" "$(statements "BEGIN; SELECT credits FROM credyt.debit_credits('v1', 'image'); COMMIT")" "3"
IFS='|' read -r host port <<< "$(PGPORT=${ports[1]} PGDATABASE=shop bash -c "$(recipe How 2)")"
PGOPTIONS="-c client_min_messages=notice -c citus.log_remote_commands=on" psql -X -q -h "$host" -p "$port" -d shop \
    -c "SELECT credits FROM credyt.debit_credits('v1', 'image')" > "$scratch/out" 2>&1
is "and none on the node that has the customer" "$(grep -c '^NOTICE:  issuing' "$scratch/out" || true)" "0"
delegated=$(on 0 shop -c "SELECT count(*) FROM pg_dist_object WHERE distribution_argument_index IS NOT NULL")
is "so are others" "$((delegated > 20))" "1"
# Citus 14 follows a NULL customer as an address: it must not see one. The same session goes on.
on 0 shop > "$scratch/nulls" <<'SQL'
SELECT format('DO $d$ BEGIN PERFORM * FROM credyt.%1$I(%2$s); EXCEPTION WHEN invalid_parameter_value OR SQLSTATE ''22023'' THEN NULL; END $d$; SELECT credyt.%1$I(%2$s)',
              p.proname, string_agg(format('%I => NULL', a.name), ', '))
FROM pg_proc p, unnest(p.proargnames[:p.pronargs]) AS a (name)
WHERE p.prosupport = 'credyt.keep_call_here'::regproc GROUP BY p.oid, p.proname ORDER BY 1;
SQL
is "each is known" "$(wc -l < "$scratch/nulls")" "$delegated"
sed 's/$/;/' "$scratch/nulls" > "$scratch/nulls.sql"
cat >> "$scratch/nulls.sql" <<'SQL'
PREPARE debit(text) AS SELECT credits FROM credyt.debit_credits($1, 'image');
EXECUTE debit(NULL);
SELECT credits FROM credyt.debit_credits(NULL, 'image');
SELECT credits FROM credyt.debit_credits(NULL::varchar, 'image');
SELECT credits FROM LATERAL credyt.debit_credits(nullif('v1', 'v1'), 'image');
BEGIN; EXECUTE debit(NULL); ROLLBACK;
EXECUTE debit('v1');
SQL
is "a NULL customer is refused, and the session goes on" \
    "$(psql -X -q -A -t -p "${ports[0]}" -d shop -f "$scratch/nulls.sql" 2> "$scratch/errors"; grep -c 'invalid customer: it may not be NULL' "$scratch/errors"; grep -v -c 'invalid customer\|DETAIL' "$scratch/errors")" \
    "1"$'\n'"$((delegated + 5))"$'\n'"0"

# Facts.
is "a fact is not updated" "$(message on 0 shop -c "UPDATE credyt.ledger SET credits = 0 WHERE customer = 'v1'")" \
    " UPDATE on credyt.ledger is refused: the table is append-only"
is "nor one of the books" "$(message on 0 shop -c "UPDATE credyt.prices SET price = '0'")" \
    " UPDATE on credyt.prices is refused: the table is append-only"
is "nor deleted" "$(message on 0 shop -c "DELETE FROM credyt.grants")" " DELETE on credyt.grants is refused: the table is append-only"
is "nor truncated" "$(message on 0 shop -c "TRUNCATE credyt.ledger")" " TRUNCATE on credyt.ledger is refused: the table is append-only"
on 0 shop -c "SELECT credyt.transfer('v11', 'v12', 5, reason => 'lunch with v11')" -c "SELECT credyt.erase_customer('v11', 'asked')" >/dev/null
is "an erasure reaches both sides" "$(on 0 shop -c "SELECT count(*) FILTER (WHERE kind = 'transfer'), count(reason), count(metadata) FROM credyt.ledger WHERE kind = 'transfer' OR customer = 'v11' AND kind = 'debit'")" "2|0|0"

# Load.
cat > "$scratch/load.sql" <<'SQL'
\set a random(1, 20)
\set b random(1, 20)
\set c random(21, 40)
BEGIN;
SELECT FROM credyt.debit_credits('v' || least(:a, :b)::text, 'image', credits => 0.1);
SELECT FROM credyt.debit_credits('v' || greatest(:a, :b)::text, 'image', credits => 0.1);
SELECT FROM credyt.transfer('v' || greatest(:a, :b)::text, 'v' || :c::text, 1);
COMMIT;
SQL
sed 's/COMMIT/ROLLBACK/' "$scratch/load.sql" > "$scratch/back.sql"
booked() { on 0 shop -c "SELECT count(*) FILTER (WHERE kind = 'debit'), count(*) FILTER (WHERE kind = 'transfer') FROM credyt.ledger"; }
load() { # committed transactions of some seconds
    pgbench -n -p "${ports[0]}" -c 4 -j 2 -T "$1" --max-tries=20 -f "$scratch/load.sql@2" -f "$scratch/back.sql@1" shop > "$scratch/out" 2> "$scratch/errors" || true
    sed -n '/load.sql/,/back.sql/s/.* - \([0-9]*\) transactions (.*/\1/p' "$scratch/out"
}
IFS='|' read -r debits transfers <<< "$(booked)"
committed=$(load 5)
is "what was committed is there, and nothing else ($committed)" "$(booked)" "$((debits + 2 * committed))|$((transfers + 2 * committed))"
lawful

# A new price is charged by the next debit, in sessions that were open on every node, for customers of every node.
cat > "$scratch/open.sql" <<'SQL'
SELECT sum(credits) FROM (SELECT (credyt.debit_credits(jsonb_build_object('customer', 'v' || n, 'action', 'image'))).credits FROM generate_series(20, 29) n) d;
SELECT credits FROM credyt.debit_credits('v1', 'image');
SELECT credits FROM credyt.debit_credits('v2', 'image');
SQL
for at in 0 1 2; do
    rm -f "$scratch/price_$at"
    {
        cat "$scratch/open.sql"
        echo "\\! touch $scratch/price_$at; until [ -e $scratch/priced ]; do sleep 0.1; done"
        cat "$scratch/open.sql"
    } | timeout 60 psql -X -q -A -t -v ON_ERROR_STOP=1 -p "${ports[$at]}" -d shop > "$scratch/charged_$at" 2>&1 &
done
for at in 0 1 2; do until [ -e "$scratch/price_$at" ]; do sleep 0.1; done; done
on 0 shop -c "SELECT credyt.set_price('image', '3')" >/dev/null
touch "$scratch/priced"
wait
for at in 0 1 2; do is "a new price is charged by open sessions on node $at" "$(tr '\n' ' ' < "$scratch/charged_$at")" "10 1 1 30 3 3 "; done
on 1 shop -c "SELECT credyt.set_price('image', '2')" >/dev/null
is "so is one that was set on a worker" "$(on 0 shop -c "SELECT credits FROM credyt.debit_credits('v1', 'image')")" "2"

# Both forms of every function: those that the SQL tests and the demo call are noted there.
on 0 shop >/dev/null <<'SQL'
SELECT credyt.create_plan('free', 10), credyt.create_plan('team', 50, paid => 20);
SELECT credyt.open_wallet('{"customer": "j", "overdraft_limit": 5}'::jsonb), credyt.open_wallet('{"customer": "k"}'::jsonb);
SELECT id AS grant FROM credyt.grant_credits('{"customer": "j", "credits": 100, "paid": 10, "payment": "pi_j"}'::jsonb) \gset
SELECT credyt.grant_credits('j', 1, paid => 1, payment => 'pi_2');
SELECT id AS given FROM credyt.grant_credits('{"customer": "j", "credits": 5, "kind": "promotional"}'::jsonb) \gset
SELECT id AS debit FROM credyt.debit_credits('{"customer": "j", "action": "image"}'::jsonb) \gset
SELECT id AS hold FROM credyt.authorize('{"customer": "j", "action": "image"}'::jsonb) \gset
SELECT id AS held FROM credyt.authorize('{"customer": "j", "action": "image"}'::jsonb) \gset
SELECT credyt.extend(jsonb_build_object('customer', 'j', 'authorization_id', :'hold', 'ttl_seconds', 600));
SELECT credyt.capture(jsonb_build_object('customer', 'j', 'authorization_id', :'hold'));
SELECT credyt.release(jsonb_build_object('customer', 'j', 'authorization_id', :'held'));
SELECT id AS held FROM credyt.authorize('j', 'image') \gset
SELECT credyt.capture_many(jsonb_build_array(jsonb_build_object('customer', 'j', 'authorization_id', :'held')));
SELECT credyt.record_cost(jsonb_build_object('customer', 'j', 'debit_id', :'debit', 'vendor', 'acme', 'cost', 0.01));
SELECT credyt.known_cost('[{"cost": "0.01"}]'), (SELECT count(*) FROM credyt.rolled_up_to()), (SELECT count(*) FROM credyt.direct_access_counts());
SELECT credyt.refund(jsonb_build_object('customer', 'j', 'debit_id', :'debit'));
SELECT credyt.revoke_grant(jsonb_build_object('customer', 'j', 'grant_id', :'given'));
SELECT credyt.transfer('{"customer": "j", "to_customer": "k", "credits": 3}'::jsonb);
SELECT credyt.set_limit('{"customer": "j", "scope": "user:*", "cap": 50}'::jsonb), credyt.set_alert('{"customer": "j", "threshold": 5}'::jsonb);
SELECT credyt.set_topup('{"customer": "j", "threshold": 1000, "credits": 10}'::jsonb);
SELECT credyt.debit_credits('{"customer": "j", "action": "image", "scopes": ["user:a"]}'::jsonb);
SELECT id AS event FROM credyt.events WHERE customer = 'j' AND type = 'topup.requested' LIMIT 1 \gset
SELECT credyt.topup_failed(jsonb_build_object('customer', 'j', 'event_id', :'event', 'reason', 'declined'));
SELECT count(*) AS taken FROM credyt.take_events(100) \gset
SELECT credyt.ack_events(ARRAY[:'event']::uuid[]);
SELECT credyt.subscribe('{"customer": "j", "plan": "free"}'::jsonb);
SELECT credyt.change_plan('{"customer": "j", "plan": "free", "to_plan": "team"}'::jsonb);
SELECT credyt.pay_subscription(jsonb_build_object('customer', 'j', 'plan', 'team', 'paid_through', now() + interval '2 months'));
SELECT credyt.unsubscribe('{"customer": "j", "plan": "team"}'::jsonb);
SELECT credyt.set_price('image', '1', price_list => 'enterprise');
SELECT credyt.set_price_list('{"customer": "k", "price_list": "enterprise"}'::jsonb), credyt.set_price_list('j', 'enterprise');
SELECT credyt.freeze_wallet('{"customer": "k", "reason": "asked"}'::jsonb), credyt.unfreeze_wallet('{"customer": "k"}'::jsonb);
SELECT count(credyt.affordable('{"customer": "j", "action": "image"}'::jsonb)), count(credyt.quote('image'));
SELECT count(*) FROM credyt.usage('{"customer": "j"}'::jsonb), credyt.history('{"customer": "j"}'::jsonb);
SELECT credyt.balance('{"customer": "j"}'::jsonb), credyt.ledger_hash('{"customer": "j"}'::jsonb);
SELECT count(*) FROM credyt.verify('{"customer": "j"}'::jsonb);
SELECT credyt.revoke_payment('{"customer": "j", "payment": "pi_j"}'::jsonb), credyt.revoke_payment('j', 'pi_2');
SELECT credyt.erase_customer('{"customer": "k", "reason": "asked"}'::jsonb);
SELECT credyt.open_wallet('l'), credyt.close_wallet('{"customer": "l"}'::jsonb);
SQL

# Books are closed while customers come on every node: nothing is committed into a closed period afterwards.
cat > "$scratch/new.sql" <<'SQL'
\set n random(1, 1000000000)
SELECT FROM credyt.open_wallet('n' || :n::text, overdraft_limit => 10);
SELECT FROM credyt.debit_credits('n' || :n::text, 'image', occurred_at => now() - interval '1 minute');
SQL
for at in 0 1 2; do
    pgbench -n -p "${ports[$at]}" -c 2 -T 6 -f "$scratch/new.sql" shop > "$scratch/bench_$at" 2>&1 &
done
for n in 1 2 3; do
    sleep 1
    on 0 shop -c "SELECT credyt.close_period(now() - interval '1 second')" >/dev/null
done
wait
is "customers came while books were closed, and none failed" "$(cat "$scratch"/bench_? | sed -n 's/^number of failed transactions: \([0-9]*\) .*/\1/p; /aborted/p' | tr '\n' ' ')" "0 0 0 "
is "each of them is there" "$(on 0 shop -c "SELECT count(*) FROM credyt.ledger WHERE customer ~ '^n' AND kind = 'debit'")" \
    "$(cat "$scratch"/bench_? | sed -n 's/^number of transactions actually processed: //p' | awk '{ sum += $1 } END { print sum + 0 }')"
is "and nothing was booked into a closed period after its close" "$(on 0 shop -c "SELECT count(*) FROM credyt.periods")|$(on 0 shop \
    -c "SELECT count(*) FROM credyt.ledger l CROSS JOIN (SELECT * FROM credyt.periods) p WHERE l.accounted_at < p.through AND l.created_at > p.closed_at")" "3|0"
lawful

# A shard moves and a worker is killed, while sessions repeat what was not answered, by its keys, until it is.
session() { # its number
    local batch n=0 key
    while [ ! -e "$scratch/enough" ]; do
        n=$((n + 1))
        key=$1/$n
        cat > "$scratch/session_$1" <<SQL
SELECT credyt.debit_credits('v$((12 + (n + $1) % 8))', 'image', idempotency_key => 'a$key');
BEGIN;
SELECT credyt.debit_credits('v$((12 + n % 8))', 'image', idempotency_key => 'b$key');
SELECT credyt.debit_credits(jsonb_build_object('customer', 'v$((22 + n % 8))', 'action', 'image', 'idempotency_key', 'c$key'));
SELECT credyt.transfer('v$((22 + n % 8))', 'v$((32 + n % 8))', 1, idempotency_key => 't$key');
COMMIT;
BEGIN;
SELECT credyt.debit_credits('v$((12 + n % 8))', 'image', idempotency_key => 'x$key');
SELECT credyt.debit_credits('v$((22 + n % 8))', 'image', idempotency_key => 'x$key');
ROLLBACK;
SQL
        until timeout 30 psql -X -q -v ON_ERROR_STOP=1 -p "${ports[0]}" -d shop -f "$scratch/session_$1" >/dev/null 2>> "$scratch/session_errors_$1"; do
            echo "$key" >> "$scratch/repeated"
            sleep 0.2
        done
        echo "$key" >> "$scratch/answered"
    done
}
: > "$scratch/repeated"
touch "$scratch/answered"
for n in 1 2 3 4; do session $n & done
sleep 2
IFS='|' read -r shard from to <<< "$(on 0 shop -c "SELECT p.shardid, n.nodeport, (SELECT o.nodeport FROM pg_dist_node o WHERE o.groupid NOT IN (0, n.groupid))
    FROM pg_dist_placement p JOIN pg_dist_node n USING (groupid) WHERE p.shardid = get_shard_id_for_distribution_column('credyt.wallets', 'v12')")"
on 0 shop -c "SELECT citus_move_shard_placement($shard, 'localhost', $from, 'localhost', $to)" >/dev/null
is "a shard moves under load" "$(on 0 shop -c "SELECT n.nodeport FROM pg_dist_placement p JOIN pg_dist_node n USING (groupid) WHERE p.shardid = $shard")" "$to"
moved=$(wc -l < "$scratch/answered")
sleep 2
kill -9 "$(head -n 1 "${nodes[2]}/data/postmaster.pid")"
sleep 1
# The processes of the old one take a moment to notice, and as long as they are there no other begins.
for try in $(seq 30); do ! scripts/server.sh up "${nodes[2]}" 2>/dev/null || break; sleep 1; done
sleep 3
touch "$scratch/enough"
wait
answered=$(sort -u "$scratch/answered" | wc -l)
[ "$answered" -gt "$moved" ] && [ "$moved" -gt 0 ] && [ -s "$scratch/repeated" ] || { echo "$moved answers before the kill, $answered in all, $(wc -l < "$scratch/repeated") repeated"; exit 1; }
# What was prepared on a node when it ended is committed or rolled back by the node that began it.
prepared() { for at in 0 1 2; do on $at shop -c "SELECT count(*) FROM pg_prepared_xacts WHERE database = 'shop'"; done | awk '{ sum += $1 } END { print sum + 0 }'; }
for try in $(seq 30); do
    for at in 0 1 2; do on $at shop -c "SELECT recover_prepared_transactions()" >/dev/null; done
    [ "$(prepared)" != 0 ] || break
    sleep 1
done
is "no transaction is left in doubt" "$(prepared)" "0"
is "a shard moved, a worker was killed: each of $answered answers is there once, $(sort -u "$scratch/repeated" | wc -l) repeated" \
    "$(on 0 shop -c "SELECT count(*), count(DISTINCT idempotency_key) FROM credyt.ledger WHERE idempotency_key ~ '^[abc][1-4]/'")" "$((3 * answered))|$((3 * answered))"
is "so are both sides of each transfer" "$(on 0 shop -c "SELECT count(*), sum(credits) FROM credyt.ledger l
    WHERE kind = 'transfer' AND (l.idempotency_key ~ '^t[1-4]/' OR l.refers_to IN (SELECT id FROM credyt.ledger WHERE idempotency_key ~ '^t[1-4]/'))")" "$((2 * answered))|0"
is "and nothing that was rolled back" "$(on 0 shop -c "SELECT count(*) FROM credyt.ledger WHERE idempotency_key ~ '^x'")" "0"
lawful

is "a damaged row is found" "$(on 0 shop -c "BEGIN; UPDATE credyt.wallets SET state = (SELECT state FROM credyt.wallets WHERE customer = 'v3') WHERE customer = 'v2'" \
    -c "SELECT DISTINCT customer FROM credyt.verify()" -c "ROLLBACK")" "v2"

# The way back: the dump of the coordinator has all rows.
views=$(on 0 shop -c "SELECT relname FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind = 'v' AND relname NOT IN ('health', 'capabilities') ORDER BY 1")
contents() { # port database: what every ledger and every view says, pending entries included; 0.00 is 0
    {
        for n in $(seq 40); do echo "SELECT customer, rows, hash FROM credyt.ledger_hash('v$n');"; done
        for view in $views; do echo "SELECT '$view', count(*), md5(string_agg(t.t, '|' ORDER BY t.t COLLATE \"C\"))
                  FROM (SELECT regexp_replace(regexp_replace(t::text, '([.][0-9]*?)0+([,)])', E'\\\\1\\\\2', 'g'), '[.]([,)])', E'\\\\1', 'g') AS t FROM credyt.$view t) t;"; done
    } | psql -X -q -A -t -v ON_ERROR_STOP=1 -p "$1" -d "$2"
}
back=$(recipe "The way back" 1)
(cd "$scratch" && COORDINATOR="port=${ports[0]} dbname=shop" PGPORT=${ports[1]} bash -euo pipefail -c "$back" >/dev/null)
moment=$(on 0 shop -c "SELECT now() + interval '45 days'")
for where in "0 shop" "1 plain"; do on $where -c "INSERT INTO credyt.clock VALUES ('$moment')"; done
contents "${ports[0]}" shop > "$scratch/there"
contents "${ports[1]}" plain > "$scratch/here"
diff "$scratch/there" "$scratch/here" || { echo "one server says otherwise"; exit 1; }
ok "every ledger and every view is the same on one server"
is "and lawful" "$(on 1 plain -c "SELECT count(*) FROM credyt.verify()")" "0"

# Every view was read, and every function was called on the cluster, by the tests above or here.
for view in health capabilities; do on 0 shop -c "SELECT count(*) FROM credyt.$view" >/dev/null; done
called shop
# Not counted by Postgres: what reads and prints a type, aggregates, and SQL that is put in place of a call.
on 0 shop -c "SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'credyt'::regnamespace
              AND NOT (p.proname ~ '^wallet_(in|out|recv|send)$' OR p.prorettype = 'internal'::regtype OR p.prokind = 'a'
                       OR p.prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql') AND p.proconfig IS NULL)" | sort -u > "$scratch/functions"
is "every function was called" "$(sort -u "$scratch/called" | comm -13 - "$scratch/functions" | tr '\n' ' ')" ""

# An update of the extension reaches every node; distribute puts back what it took of a cluster's views, and distributes what is new.
for at in 0 1 2; do
    on $at shop -c "SET allow_system_table_mods = on" -c "UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'credyt_pg'"
    script=$("$(cat "${nodes[$at]}/bin")/pg_config" --sharedir)/extension/credyt_pg--0.0.9--$version.sql
    scripts+=("$script")
    {
        sed -n '/^CREATE VIEW credyt.current_wallets AS/,/;$/p' sql/schema/05_wallets.sql | sed '1s/CREATE/CREATE OR REPLACE/'
        echo "ALTER TABLE credyt.events ADD COLUMN IF NOT EXISTS note text;"
        echo "CREATE TABLE IF NOT EXISTS credyt.notes (customer text, id uuid, note text, PRIMARY KEY (customer, id));"
    } > "$script"
done
on 0 shop -c "COMMENT ON FUNCTION credyt.distribute(int) IS 'Distributed for version 0.0.9'"
on 0 shop -c "ALTER EXTENSION credyt_pg UPDATE"
for at in 0 1 2; do is "an update reaches node $at" "$(on $at shop -c "SELECT extversion FROM pg_extension WHERE extname = 'credyt_pg'")" "$version"; done
is "and shards" "$(on 0 shop -c "SELECT count(*), count(note) FROM credyt.events")" "$(on 0 shop -c "SELECT count(*), 0 FROM credyt.events")"
is "debits go on" "$(on 0 shop -c "SELECT credits FROM credyt.debit_credits('v1', 'image')")" "2"
is "what is new is distributed" "$(on 0 shop -c "SELECT credyt.distribute()")" "1"
refused "once" 0 shop "the tables of credyt_pg are distributed already | SELECT * FROM pg_dist_partition; shows how."
is "and the views are a cluster's" "$(on 0 shop -c "SELECT count(*) > 0 FROM credyt.current_wallets")" "t"
lawful

echo "$passed passed, 0 failed"
