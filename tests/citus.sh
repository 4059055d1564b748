#!/usr/bin/env bash
# credyt.distribute on a coordinator and two workers of this machine: refusals, SQL tests with the answers of one server, rights,
# a mixed load with rollbacks, and the way back to one server, where every ledger and every view is the same. Needs a Postgres that has Citus.   tests/citus.sh <pg_config>
set -euo pipefail
cd "$(dirname "$0")/.."
pg_config=$1
[ -e "$("$pg_config" --pkglibdir)/citus.so" ] || { echo "skipped: no Citus"; exit 0; }
nodes=() ports=() passed=0
trap 'for node in "${nodes[@]}"; do scripts/server.sh stop "$node"; done' EXIT
trap 'exit 130' INT TERM
export CREDYT_OPTIONS="-c shared_preload_libraries=citus -c fsync=off -c max_connections=200 -c max_prepared_transactions=200 -c wal_level=logical -c citus.node_conninfo=sslmode=prefer"
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

cluster() { # a database on all nodes, the workers known
    local at
    for at in 2 1 0; do
        on $at postgres -c "SET citus.enable_create_database_propagation = off" -c "CREATE DATABASE $1"
        on $at "$1" -c "CREATE EXTENSION citus"
    done
    on 0 "$1" -c "SELECT citus_set_coordinator_host('localhost', ${ports[0]})" -c "SELECT citus_add_node('localhost', ${ports[1]})" \
        -c "SELECT citus_add_node('localhost', ${ports[2]})" -c "CREATE EXTENSION credyt_pg" >/dev/null
}

# What is not ready is refused.
for at in 1 0; do
    on $at postgres -c "SET citus.enable_create_database_propagation = off" -c "CREATE DATABASE bare"
    on $at bare -c "CREATE EXTENSION citus"
done
on 0 bare -c "CREATE EXTENSION credyt_pg"
is "a coordinator that the cluster does not know is refused" "$(message on 0 bare -c "SELECT credyt.distribute()")" \
    " the cluster does not know the coordinator's address, so it would have no copy of prices and assets"
on 0 bare -c "SELECT citus_set_coordinator_host('localhost', ${ports[0]})" >/dev/null
is "so is a cluster without workers" "$(message on 0 bare -c "SELECT credyt.distribute()")" " the cluster has no node that takes shards"

# The SQL tests whose statements Citus takes as they are answer as on one server.
for name in tour books captures refund limits; do
    cluster same
    on 0 same -c "SELECT credyt.distribute(4)" -f tests/support/refused.sql >/dev/null
    PGOPTIONS="-c client_min_messages=warning" PGTZ=PST8PDT PGDATESTYLE="Postgres, MDY" \
        psql -X -a -q -p "${ports[0]}" -d same < tests/sql/$name.sql 2>&1 | grep -v '^CONTEXT:  while executing command on' > "$scratch/out" || true
    diff tests/expected/$name.out "$scratch/out" || { echo "$name answers otherwise"; exit 1; }
    ok "$name answers as on one server"
    for at in 0 1 2; do on $at postgres -c "DROP DATABASE same WITH (FORCE)"; done
done

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
is "all tables are distributed" "$(on 0 shop -c "SELECT credyt.distribute(8) = count(*) FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind = 'r'")" "t"
is "once" "$(message on 0 shop -c "SELECT credyt.distribute()")" " the tables of credyt_pg are distributed already"
is "the data is there" "$(on 0 shop -c "SELECT count(*), sum(credits) FROM credyt.ledger WHERE kind = 'debit'")" "40|-40"
is "and all of it in shards" "$(on 0 shop -c "SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind = 'r' AND relname !~ '_[0-9]{6}'")" "0"
lawful() { is "and lawful" "$(on 0 shop -c "SELECT count(*) FROM credyt.verify()")" "0"; }
lawful

# Rights.
reports="SELECT count(*), sum(available) FROM credyt.wallet_balances" # from the shards, by functions there
is "a report role reads views" "$(on 0 shop -U reporter -c "$reports")" "$(on 0 shop -c "$reports")"
is "and reports" "$(on 0 shop -U reporter -c "SELECT action, debits FROM credyt.margin_by_action")" "image|40"
is "and spends nothing" "$(message on 0 shop -U reporter -c "SELECT credyt.debit_credits('v1', 'image')")" " permission denied for function debit_credits"
is "a spending role spends" "$(on 0 shop -U spender -c "SELECT credits FROM credyt.debit_credits('v1', 'image', 2)")" "2"
is "and reads no view" "$(message on 0 shop -U spender -c "$reports")" " permission denied for view wallet_balances"
on 0 shop -c "SELECT credyt.allow('spender', 'report')" >/dev/null
is "until it may" "$(on 0 shop -U spender -c "SELECT count(*) FROM credyt.statement WHERE customer = 'v1'")" "4"
on 0 shop -c "SELECT credyt.disallow('spender', 'report')" >/dev/null
is "and no longer" "$(message on 0 shop -U spender -c "SELECT count(*) FROM credyt.ledger")" " permission denied for table ledger"

# Facts.
is "a fact is not updated" "$(message on 0 shop -c "UPDATE credyt.ledger SET credits = 0 WHERE customer = 'v1'")" \
    " UPDATE on credyt.ledger is refused: the table is append-only"
is "nor one of the books" "$(message on 0 shop -c "UPDATE credyt.prices SET price = '0'")" \
    " UPDATE on credyt.prices is refused: the table is append-only"
is "nor deleted" "$(message on 0 shop -c "DELETE FROM credyt.grants")" " DELETE on credyt.grants is refused: the table is append-only"
is "nor truncated" "$(message on 0 shop -c "TRUNCATE credyt.ledger")" " TRUNCATE on credyt.ledger is refused: the table is append-only"
on 0 shop -c "SELECT credyt.transfer('v11', 'v12', 5, reason => 'lunch with v11')" -c "SELECT credyt.erase_customer('v11', 'asked')" >/dev/null
is "an erasure reaches both sides" "$(on 0 shop -c "SELECT count(*), count(reason), count(metadata) FROM credyt.ledger WHERE kind = 'transfer' OR customer = 'v11' AND kind = 'debit'")" "3|0|0"

# Load.
cat > "$scratch/load.sql" <<'SQL'
\set a random(1, 20)
\set b random(1, 20)
\set c random(21, 40)
BEGIN;
SELECT FROM credyt.debit_credits('v' || least(:a, :b), 'image', credits => 0.1);
SELECT FROM credyt.debit_credits('v' || greatest(:a, :b), 'image', credits => 0.1);
SELECT FROM credyt.transfer('v' || greatest(:a, :b), 'v' || :c, 1);
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
on 1 shop -c "SELECT credyt.set_price('image', '3')" >/dev/null
is "a price that was set on a worker" "$(on 0 shop -c "SELECT credits FROM credyt.debit_credits('v1', 'image')")" "3"
is "a damaged row is found" "$(on 0 shop -c "BEGIN; UPDATE credyt.wallets SET state = (SELECT state FROM credyt.wallets WHERE customer = 'v3') WHERE customer = 'v2'" \
    -c "SELECT DISTINCT customer FROM credyt.verify()" -c "ROLLBACK")" "v2"

# The way back: the dump of the coordinator has all rows.
views=$(on 0 shop -c "SELECT relname FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind = 'v' AND relname NOT IN ('health', 'capabilities') ORDER BY 1")
contents() { # port database: what every ledger and every view says, pending entries included
    {
        for n in $(seq 40); do echo "SELECT customer, rows, hash FROM credyt.ledger_hash('v$n');"; done
        for view in $views; do echo "SELECT '$view', count(*), md5(string_agg(t::text, '|' ORDER BY t::text COLLATE \"C\")) FROM credyt.$view t;"; done
    } | psql -X -q -A -t -v ON_ERROR_STOP=1 -p "$1" -d "$2"
}
pg_dump -p "${ports[0]}" -Fc -e credyt_pg -f "$scratch/dump" shop
on 1 postgres -c "SET citus.enable_create_database_propagation = off" -c "CREATE DATABASE plain"
pg_restore -p "${ports[1]}" -d plain "$scratch/dump"
moment=$(on 0 shop -c "SELECT now() + interval '45 days'")
for where in "0 shop" "1 plain"; do on $where -c "INSERT INTO credyt.clock VALUES ('$moment')"; done
contents "${ports[0]}" shop > "$scratch/there"
contents "${ports[1]}" plain > "$scratch/here"
diff "$scratch/there" "$scratch/here" || { echo "one server says otherwise"; exit 1; }
ok "every ledger and every view is the same on one server"
is "and lawful" "$(on 1 plain -c "SELECT count(*) FROM credyt.verify()")" "0"
echo "$passed passed, 0 failed"
