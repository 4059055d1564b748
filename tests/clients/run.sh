#!/usr/bin/env bash
# tests/clients/run.sh [name...]: the programs of this folder, each on a database of its own, on the running server that
# PGHOST and PGPORT name, with the extension installed. Whatever the client, a program prints expected.txt and leaves in
# the books what after.out says. docs/clients.md shows the programs word for word; ACCEPT=1 writes both.
set -uo pipefail
cd "$(dirname "$0")/../.."
: "${PGHOST:=localhost}" "${PGPORT:=5432}" "${PGUSER:=$(id -un)}"
export PGHOST PGPORT PGUSER LC_ALL=C.UTF-8
here=tests/clients out=$PWD/target/clients
rm -rf "$out" && mkdir -p "$out"
passed=0 failed=0

sql() { PGOPTIONS="-c client_min_messages=warning" psql -Xq -v ON_ERROR_STOP=1 "$@"; }

result() { # name: the code before it says how it went
    if [ $? = 0 ]; then
        echo "ok        $1"
        passed=$((passed + 1))
    else
        echo "FAILED    $1"
        failed=$((failed + 1))
        return 1
    fi
}

wanted() { # name
    [ ${#only[@]} = 0 ] || [[ " ${only[*]} " = *" $1 "* ]]
}

# Runs a program with the database's address in DATABASE_URL, and looks at what it printed and left.
try() { # name port command...
    local name=$1 database=clients_${1//[^a-z0-9]/_} port=$2
    shift 2
    wanted "$name" || return 0
    {
        sql -d postgres -c "DROP DATABASE IF EXISTS $database" -c "CREATE DATABASE $database TEMPLATE clients" &&
            { [ "$port" = "$PGPORT" ] || fill "$port" "$database"; } &&
            ANSWER=$PWD/$here/answer.json DATABASE_URL="postgresql://shop@127.0.0.1:$port/$database" \
                JDBC_URL="jdbc:postgresql://127.0.0.1:$port/$database?user=shop${JDBC_OPTIONS:-}" timeout 60 "$@" > "$out/$name.out" &&
            diff "$here/expected.txt" "$out/$name.out" &&
            sql -d "$database" -f "$here/after.sql" -o "$out/$name.books" &&
            { [ -z "${ACCEPT:-}" ] || cp "$out/$name.books" "$here/after.out"; } &&
            diff "$here/after.out" "$out/$name.books"
    } > "$out/$name.log" 2>&1
    result "$name" || cut -c 1-200 "$out/$name.log" | tail -n 25
}

# PgBouncer in transaction mode: three connections to the server, of which each transaction has the next one.
pooler() {
    local program user=()
    program=$(scripts/env.sh pgbouncer) || return
    pooled=$(shuf -i 20000-59999 -n 1)
    printf '%s\n' '[databases]' "* = host=127.0.0.1 port=$PGPORT user=shop min_pool_size=3" '[pgbouncer]' \
        'listen_addr = 127.0.0.1' "listen_port = $pooled" 'unix_socket_dir =' 'auth_type = any' 'pool_mode = transaction' \
        'server_round_robin = 1' 'ignore_startup_parameters = extra_float_digits' > "$out/pgbouncer.ini"
    [ "$(id -u)" != 0 ] || user=(-u nobody)
    "$program" -q "${user[@]}" "$out/pgbouncer.ini" &
    trap "kill $!" EXIT
    for _ in {1..50}; do
        ! psql -Xq -h 127.0.0.1 -p "$pooled" -U shop -d postgres -c "SELECT 1" >/dev/null 2>&1 || return 0
        sleep 0.1
    done
    return 1
}

fill() { # port database: waits for the pool's three connections
    psql -Xq -h 127.0.0.1 -p "$1" -U shop -d "$2" -o /dev/null -c 'SELECT 1' && sleep 1
}

# A program that stands in the document between ``` and ``` is the file that the comment above it names.
documented() {
    local documents=$out/clients.md file
    for file in "$here"/with_*.* "$here"/with_*/main.rs; do
        grep -qx "<!-- file: ${file#"$here/"} -->" docs/clients.md || { echo "$file is missing in docs/clients.md"; return 1; }
    done
    awk -v here="$here" '
        /^<!-- file: .* -->$/ { file = here "/" $3 }
        file != "" && /^```$/ { print; file = ""; copied = 0; next }
        file != "" && copied { next }
        { print }
        file != "" && /^```/ { copied = 1; while ((getline line < file) > 0) print line; close(file) }' docs/clients.md > "$documents"
    [ -z "${ACCEPT:-}" ] || cp "$documents" docs/clients.md
    diff docs/clients.md "$documents"
}

only=("$@")
sql -d postgres -o /dev/null -c 'DROP DATABASE IF EXISTS clients' -c 'DROP ROLE IF EXISTS shop' -c 'CREATE ROLE shop LOGIN' \
    -c 'CREATE DATABASE clients' && sql -d clients -o /dev/null -f $here/setup.sql || exit

# What a client needs is fetched the first time; without it the client fails. sqlx compiles meanwhile.
sqlx=target/clients_sqlx/debug/with_sqlx
if wanted sqlx; then
    CARGO_TARGET_DIR=target/clients_sqlx cargo build -q --locked --manifest-path $here/with_sqlx/Cargo.toml || rm -f $sqlx &
fi
PYTHONPATH=$(scripts/env.sh python):$PWD/$here
export PYTHONPATH PYTHONDONTWRITEBYTECODE=1
{ read -r scripts && read -r node; } < <(scripts/env.sh node) || scripts=none node=false
jars=$(scripts/env.sh java)
wait

for client in psycopg asyncpg sqlalchemy django; do try $client "$PGPORT" python3 $here/with_$client.py; done
for client in pg postgres prisma; do try $client "$PGPORT" "$node" "$scripts/with_$client.mjs"; done
try sqlx "$PGPORT" $sqlx
try jdbc "$PGPORT" java -cp "$jars" $here/WithJdbc.java
# Behind PgBouncer, with the settings that docs/clients.md names.
pooled=0
pooler || echo "PgBouncer did not start"
try pgbouncer_psycopg $pooled python3 -c 'import with_psycopg as p, os
db = p.psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, row_factory=p.dict_row, prepare_threshold=None)
for _ in range(10): p.credyt(db, "balance", customer=17)
p.main(db)'
try pgbouncer_pg $pooled "$node" "$scripts/with_pg.mjs"
JDBC_OPTIONS="&prepareThreshold=0" try pgbouncer_jdbc $pooled java -cp "$jars" $here/WithJdbc.java
documented
result "docs/clients.md shows these programs"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
