#!/usr/bin/env bash
# tests/regress.sh <pg_config>: every file of tests/sql against tests/expected, and of tests/specs, on the running server
# that PGHOST and PGPORT name, with the extension installed. Each file has a new database to itself; the extension is in
# it already, unless the file says CREATE EXTENSION.
# ACCEPT=1 makes what came out the expected output; ONLY=name runs one file.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$("$1" --bindir)
tools=$(dirname "$("$1" --pgxs)")/../test
[ -x "$tools/regress/pg_regress" ] && [ -x "$tools/isolation/pg_isolation_regress" ] || tools=$(tests/env.sh regress)
: "${PGHOST:=localhost}" "${PGPORT:=5432}" "${PGUSER:=$(id -un)}"
export PGUSER PGOPTIONS="-c client_min_messages=warning"
database=credyt_regress
out=target/regress
rm -rf $out && mkdir -p $out tests/expected
passed=0 failed=0

sql() { "$bin/psql" -XqAt -v ON_ERROR_STOP=1 -h "$PGHOST" -p "$PGPORT" "$@"; }

try() { # runner file
    local name
    name=$(basename "${2%.*}")
    [ -n "${ONLY:-}" ] && [ "$ONLY" != "$name" ] && return
    sql -d postgres -c "DROP DATABASE IF EXISTS $database" -c "CREATE DATABASE $database TEMPLATE template0"
    grep -qi '^ *CREATE EXTENSION.*credyt_pg' "$2" || sql -d $database -c 'CREATE EXTENSION credyt_pg'
    local expected=tests/expected/$name.out result=$out/results/$name.out
    [ -z "${ACCEPT:-}" ] || touch "$expected"
    if "$1" --inputdir=tests --outputdir=$out --bindir="$bin" --use-existing --dbname=$database \
        --host="$PGHOST" --port="$PGPORT" --user="$PGUSER" "$name" > $out/run.out 2>&1; then
        echo "ok        $name"
        passed=$((passed + 1))
    elif [ -n "${ACCEPT:-}" ] && [ -s "$result" ]; then
        echo "accepted  $name"
        cp "$result" "$expected"
    else
        echo "FAILED    $name"
        failed=$((failed + 1))
        [ -f "$expected" ] || echo "$expected is missing: ACCEPT=1 makes it"
        if [ -s $out/regression.diffs ]; then cat $out/regression.diffs; else cat $out/run.out; echo; fi
    fi
}

shopt -s nullglob
export LC_ALL=C
for file in tests/sql/*.sql; do try "$tools/regress/pg_regress" "$file"; done
for file in tests/specs/*.spec; do try "$tools/isolation/pg_isolation_regress" "$file"; done
sql -d postgres -c "DROP DATABASE IF EXISTS $database"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
