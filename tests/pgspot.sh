#!/usr/bin/env bash
# tests/pgspot.sh: no SQL script of ours looks up a name or an operator in a schema that others may write to. Reads the
# install script and the upgrade scripts with pgspot, which has to find nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHONPATH=$(scripts/env.sh pgspot)
export PYTHONPATH
allowed=(
    # A search_path of its own would keep it from becoming part of the reports that use it; every name in it is qualified.
    --proc-without-search-path 'credyt.as_money(amount numeric)'
)
read_by_itself() { # what it is called; the script comes by stdin
    local found
    cat > "$script"
    # It says so and goes on where it cannot read a statement, and misses what follows.
    found=$(python3 -m pgspot "${allowed[@]}" "$script" 2>&1) || true
    [ "$(xargs <<< "$found")" != "Errors: 0 Warnings: 0 Unknown: 0" ] || return 0
    echo "$1:"
    echo "$found"
    exit 1
}

script=$(mktemp)
trap 'rm -f "$script"' EXIT
LC_ALL=C; export LC_ALL
cat sql/schema/*.sql | read_by_itself sql/schema
for upgrade in sql/credyt_pg--*--*.sql; do
    [ -e "$upgrade" ] || continue
    # What it replaces is the extension's own, whose schema nobody else may create in.
    { echo "CREATE SCHEMA credyt;"; cat "$upgrade"; } | read_by_itself "$upgrade"
done
