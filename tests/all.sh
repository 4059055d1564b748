#!/usr/bin/env bash
# tests/all.sh <major>...: formatting, lints and the pure ledger; then, on each of these Postgres, the SQL tests, the
# isolation tests and the Rust tests: all of them on the first, those of what may differ between versions on the others.
# Nothing stops at the first failure; the last line counts.
set -uo pipefail
cd "$(dirname "$0")/.."
COUNTS=$(mktemp)
export COUNTS
trap 'rm -f "$COUNTS"' EXIT
trap 'exit 130' INT TERM
step() { tests/step.sh "$@"; }

command -v cc >/dev/null || tests/env.sh cc
step "Formatting" cargo fmt --check
step "Lints of the ledger and the programs" cargo clippy --all-targets -- -D warnings
step "The pure ledger" cargo test --lib
step "Released scripts" tests/releases.sh check
step "No name in SQL scripts that others could take" tests/pgspot.sh
nth=0
for major; do
    nth=$((nth + 1))
    rust_tests=(--test '*')
    if [ $nth != 1 ]; then
        # A third of the time to build. What is released is built, and tested, with the first.
        export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1
    fi
    [ $nth = 1 ] || rust_tests=(--test dump --test moves --test concurrency --test sessions)
    if ! { pg_config=$(COUNTS='' tests/env.sh "$major") && COUNTS='' tests/build.sh "$pg_config" install; }; then
        echo "0 1" >> "$COUNTS"
        continue
    fi
    [ $nth != 1 ] || tests/build.sh "$pg_config" clippy
    CREDYT_OPTIONS="-c fsync=off" LOG_LINES=200 step "SQL tests on PostgreSQL $major" \
        tests/server.sh run "$pg_config" -- tests/regress.sh "$pg_config"
    LOG_LINES=100 step "Rust tests on PostgreSQL $major" \
        env CREDYT_PG_CONFIG="$pg_config" cargo test --no-fail-fast "${rust_tests[@]}"
    [ $nth != 1 ] || CREDYT_OPTIONS="-c fsync=off" step "Clients on PostgreSQL $major" \
        tests/server.sh run "$pg_config" -- tests/clients/run.sh
    [ $nth != 1 ] || CREDYT_OPTIONS="-c fsync=off" step "Examples on PostgreSQL $major" \
        tests/server.sh run "$pg_config" -- tests/examples.sh
    [ $nth != 1 ] || LOG_LINES=60 step "Packages for PostgreSQL $major" tests/packages.sh "$pg_config"
    [ $nth != 1 ] || step "The demo and its pictures on PostgreSQL $major" \
        tests/server.sh run "$pg_config" -- tests/demo.sh report target/report.html
done
awk '{ p += $1; f += $2 } END { printf "%d passed, %d failed\n", p, f; exit f > 0 || p == 0 }' "$COUNTS"
