#!/usr/bin/env bash
# tests/all.sh <major>...: formatting, lints and the pure ledger; then, on each of these Postgres, the SQL tests, the
# isolation tests and the Rust tests: all of them on the first, those of what may differ between versions on the others.
# Tests wait more than they compute, so two things go on at once: first what needs no Postgres, and the build; then all that is
# tested on the first Postgres, and its packages with the other Postgres after them.
# Nothing stops at the first failure; the last line counts.
set -uo pipefail
cd "$(dirname "$0")/.."
began=$SECONDS
COUNTS=$(mktemp)
# A step is one line, printed when it has ended: lines of both do not mix.
export COUNTS STEP_LINES=whole
trap 'rm -f "$COUNTS"' EXIT
trap 'exit 130' TERM
trap 'kill 0' INT
step() { scripts/step.sh "$@"; }

without_postgres() {
    step "Formatting" cargo fmt --check
    step "Lints of the ledger and the programs" cargo clippy --all-targets -- -D warnings
    step "The pure ledger" cargo test --lib
    step "Released scripts" scripts/releases.sh check
    step "No name in SQL scripts that others could take" tests/pgspot.sh
}

build() { # major: prints its pg_config
    local pg_config
    if pg_config=$(COUNTS='' scripts/env.sh "$1") && COUNTS='' scripts/build.sh "$pg_config" install; then
        echo "$pg_config"
    else
        echo "0 1" >> "$COUNTS"
        return 1
    fi
}

sql_tests() { # major pg_config
    CREDYT_OPTIONS="-c fsync=off" LOG_LINES=200 step "SQL tests on PostgreSQL $1" \
        scripts/server.sh run "$2" -- tests/regress.sh "$2"
}

rust_tests() { # major pg_config, and what cargo test is told
    LOG_LINES=100 step "Rust tests on PostgreSQL $1" env CREDYT_PG_CONFIG="$2" cargo test --no-fail-fast "${@:3}"
}

around_it() { # major pg_config: lints, and what uses the extension
    scripts/build.sh "$2" clippy
    CREDYT_OPTIONS="-c fsync=off" step "Clients on PostgreSQL $1" scripts/server.sh run "$2" -- tests/clients/run.sh
    CREDYT_OPTIONS="-c fsync=off" step "Examples on PostgreSQL $1" scripts/server.sh run "$2" -- tests/examples.sh
    LOG_LINES=60 step "Citus on PostgreSQL $1" tests/citus.sh "$2"
    step "The demo and its pictures on PostgreSQL $1" scripts/server.sh run "$2" -- scripts/demo.sh report target/report.html
}

other_versions() { # major...
    local major pg_config
    # What is released is built, and tested, with the first.
    export CREDYT_BUILD=test
    for major; do
        pg_config=$(build "$major") || continue
        sql_tests "$major" "$pg_config"
        rust_tests "$major" "$pg_config" --test dump --test moves --test concurrency --test sessions
        LOG_LINES=100 step "Direct access to rows on PostgreSQL $major" env CREDYT_PG_CONFIG="$pg_config" \
            cargo test --test direct_access -- the_same_calls errors_within batches calls_within
    done
}

command -v cc >/dev/null || scripts/env.sh cc
first=${1:-}
[ $# = 0 ] || shift
without_postgres &
[ -z "$first" ] || pg_config=$(build "$first")
wait
if [ -n "${pg_config:-}" ]; then
    { LOG_LINES=60 step "Packages for PostgreSQL $first" tests/packages.sh "$pg_config"; other_versions "$@"; } &
    sql_tests "$first" "$pg_config"
    rust_tests "$first" "$pg_config" --test '*'
    around_it "$first" "$pg_config"
    wait
else
    other_versions "$@"
fi
awk -v took=$((SECONDS - began)) '{ p += $1; f += $2 }
    END { printf "%d minutes\n%d passed, %d failed\n", (took + 59) / 60, p, f; exit f > 0 || p == 0 }' "$COUNTS"
