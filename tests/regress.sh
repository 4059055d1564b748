#!/usr/bin/env bash
# tests/regress.sh <pg_config>: every file of tests/sql against tests/expected, and of tests/specs, on the running server
# that PGHOST and PGPORT name, with the extension installed. Each file has a new database to itself; the extension is in
# it already, unless the file says CREATE EXTENSION. The documents are tests too: what their SQL answers is what they say.
# ACCEPT=1 makes what came out the expected output; ONLY=name runs one file.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$("$1" --bindir)
tools=$(dirname "$("$1" --pgxs)")/../test
[ -x "$tools/regress/pg_regress" ] && [ -x "$tools/isolation/pg_isolation_regress" ] || tools=$(scripts/env.sh regress)
: "${PGHOST:=localhost}" "${PGPORT:=5432}" "${PGUSER:=$(id -un)}"
export PGUSER PGOPTIONS="-c client_min_messages=warning"
database=credyt_regress template=credyt_regress_template
out=target/regress/$("$1" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
rm -rf $out && mkdir -p $out/docs tests/expected
passed=0 failed=0

sql() { "$bin/psql" -XqAt -v ON_ERROR_STOP=1 -h "$PGHOST" -p "$PGPORT" "$@"; }

try() { # runner folder file: the folder has the file in sql or specs, and what it answers in expected
    local name expected result from=$template
    name=$(basename "${3%.*}")
    expected=$2/expected/$name.out result=$out/results/$name.out
    [ -n "${ONLY:-}" ] && [ "$ONLY" != "$name" ] && return
    ! grep -qi '^ *CREATE EXTENSION.*credyt_pg' "$3" || from=template0
    sql -d postgres -c "DROP DATABASE IF EXISTS $database" -c "CREATE DATABASE $database TEMPLATE $from"
    case $3 in
    *.spec) sql -d $database -f tests/specs/setup.sql ;;
    tests/sql/*) [ $from = template0 ] || sql -d $database -f tests/support/refused.sql ;;
    esac
    [ -z "${ACCEPT:-}" ] || touch "$expected"
    if "$1" --inputdir="$2" --outputdir=$out --bindir="$bin" --use-existing --dbname=$database \
        --host="$PGHOST" --port="$PGPORT" --user="$PGUSER" "$name" > $out/run.out 2>&1; then
        echo "ok        $name"
        passed=$((passed + 1))
    elif [ -n "${ACCEPT:-}" ] && [ "$2" != $out/docs ] && [ -s "$result" ]; then
        echo "accepted  $name"
        cp "$result" "tests/expected/$name.out"
    else
        echo "FAILED    $name"
        failed=$((failed + 1))
        [ -f "$expected" ] || echo "$expected is missing: ACCEPT=1 makes it"
        if [ -s $out/regression.diffs ]; then cat $out/regression.diffs; else cat $out/run.out; echo; fi
    fi
}

# The README's tour is the test of that name, word for word.
same_tour() {
    tests/docs.sh README.md $out/tour '## Tour'
    if diff -u tests/sql/tour.sql $out/tour/sql/doc_README.sql && diff -u tests/expected/tour.out $out/tour/expected/doc_README.out; then
        echo "ok        the README's tour is tests/sql/tour.sql"
        passed=$((passed + 1))
    else
        echo "FAILED    the README's tour is not tests/sql/tour.sql"
        failed=$((failed + 1))
    fi
}

# The demo runs through, and every invariant holds after it.
demo_runs() {
    sql -d postgres -c "DROP DATABASE IF EXISTS $database" -c "CREATE DATABASE $database TEMPLATE template0"
    if sql -d $database -f examples/demo.sql > $out/demo.out 2>&1 &&
        [ -z "$(sql -d $database -c 'SELECT * FROM credyt.verify()')" ]; then
        echo "ok        examples/demo.sql"
        passed=$((passed + 1))
    else
        echo "FAILED    examples/demo.sql"
        tail -n 5 $out/demo.out
        failed=$((failed + 1))
    fi
}

shopt -s nullglob
export LC_ALL=C
sql -d postgres -c "DROP DATABASE IF EXISTS $template" -c "CREATE DATABASE $template TEMPLATE template0"
sql -d $template -c 'CREATE EXTENSION credyt_pg'
for file in tests/sql/*.sql; do try "$tools/regress/pg_regress" tests "$file"; done
for document in README.md docs/*.md; do
    tests/docs.sh "$document" $out/docs
    try "$tools/regress/pg_regress" $out/docs "$out/docs/sql/doc_$(basename "$document" .md).sql"
done
same_tour
demo_runs
# A spec runs at each isolation level. Without an expected output of its own, a level's is that of the level before.
mkdir $out/specs $out/expected
for file in tests/specs/*.spec; do
    expected=$PWD/tests/expected/$(basename "$file" .spec)_read_committed.out
    for level in read_committed repeatable_read serializable; do
        name=$(basename "$file" .spec)_$level
        [ ! -e "tests/expected/$name.out" ] || expected=$PWD/tests/expected/$name.out
        cp "$file" "$out/specs/$name.spec"
        ln -s "$expected" "$out/expected/$name.out"
        PGOPTIONS="$PGOPTIONS -c default_transaction_isolation=${level/_/\\ }" \
            try "$tools/isolation/pg_isolation_regress" $out "$out/specs/$name.spec"
    done
done
sql -d postgres -c "DROP DATABASE IF EXISTS $database" -c "DROP DATABASE $template"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
