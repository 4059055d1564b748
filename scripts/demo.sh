#!/usr/bin/env bash
# scripts/demo.sh <major> [1]: examples/demo.sql on a throwaway Postgres; with 1 the server is left running.
# Every line of the file is shown as it is read, then what it answers; psql's own commands are not shown.
# scripts/demo.sh report <file>: the demo on the server of PGHOST ..., and the pictures of its four weeks.
# An error ends the demo, unless the file says \set ON_ERROR_STOP off before it, and on after it.
set -euo pipefail
cd "$(dirname "$0")/.."

show() {
    echo
    grep -qi '^ *CREATE EXTENSION' examples/demo.sql || psql -X -q -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION credyt_pg'
    psql -X -q -a -v ON_ERROR_STOP=1 -P pager=off -P footer=off < examples/demo.sql 2>&1 |
        awk '/^\\/ { next }
             /^-- / && !comment || error && !/^(DETAIL|HINT|CONTEXT)/ { print "" }
             { comment = /^-- /; error = /^(ERROR|DETAIL|HINT|CONTEXT)/; print; fflush() }' | cat -s
}

[ "$1" != show ] || { show; exit; }
[ "$1" != report ] || {
    told=$(show) || { echo "$told" >&2; exit 1; }
    cargo run -q --example report -- "$2" --from 2026-02-02T00:00:00Z
    exit
}
pg_config=$(scripts/env.sh "$1")
scripts/build.sh "$pg_config" install
if [ -z "${2:-}" ]; then
    scripts/server.sh run "$pg_config" -- "$0" show
else
    exports=$(scripts/server.sh start "$pg_config")
    eval "$exports"
    psql=$("$pg_config" --bindir)/psql
    PATH=${psql%/*}:$PATH show
    echo
    echo "The server is still running. To look around, and to stop it and remove everything:"
    echo "    $psql -h $PGHOST -p $PGPORT -U postgres"
    echo "    scripts/server.sh stop $CREDYT_SERVER"
fi
