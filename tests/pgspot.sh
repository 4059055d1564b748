#!/usr/bin/env bash
# tests/pgspot.sh: does an SQL script of ours look up a name or an operator where somebody else may have put one? Reads the
# install script and the upgrade scripts with pgspot, which has to find nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHONPATH=$(tests/env.sh pgspot)
export PYTHONPATH
allowed=(
    # A search_path of its own would keep it from becoming part of the reports that use it; every name in it is qualified.
    --proc-without-search-path 'credyt.as_money(amount numeric)'
)
whole=$(mktemp)
trap 'rm -f "$whole"' EXIT
LC_ALL=C; export LC_ALL
cat sql/schema/*.sql > "$whole"
for script in "$whole" sql/credyt_pg--*--*.sql; do
    [ -e "$script" ] || continue
    # It says so and goes on where it cannot read a statement, and misses what follows.
    found=$(python3 -m pgspot "${allowed[@]}" "$script" 2>&1) || true
    if [ "$(xargs <<< "$found")" != "Errors: 0 Warnings: 0 Unknown: 0" ]; then
        echo "${script/$whole/sql/schema}:"
        echo "$found"
        exit 1
    fi
done
