#!/usr/bin/env bash
# tests/packages.sh <pg_config>: makes the packages, puts each into a clean folder, and uses it there. A Postgres 18 is needed,
# which finds an extension in any folder. What the machine has no tool for is skipped and says so. Ends with "N passed, N failed".
set -euo pipefail
cd "$(dirname "$0")/.."
pg_config=$(realpath "$1")
version=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" credyt_pg.control)
lib=$("$pg_config" --pkglibdir) share=$("$pg_config" --sharedir)
work=$(mktemp -d "${TMPDIR:-/tmp}/credyt_packages_XXXXXX")
chmod 755 "$work"
trap 'rm -r "$work"' EXIT
passed=0 failed=0

try() { # what it shows, command
    local what=$1
    shift
    if (set -e; "$@") > "$work/log" 2>&1; then
        echo "ok        $what"
        passed=$((passed + 1))
    else
        echo "FAILED    $what"
        tail -n 30 "$work/log"
        failed=$((failed + 1))
    fi
}
skip() { echo "skipped   $1: $2"; }
has() { command -v "$1" >/dev/null; }

one_version() {
    grep -q "^version = \"$version\"$" Cargo.toml
    python3 - "$version" <<'EOF'
import json, re, sys
meta = json.load(open("META.json"))
missing = {"name", "abstract", "version", "maintainer", "license", "provides", "meta-spec"} - meta.keys()
assert not missing, missing
assert meta["meta-spec"]["version"] == "1.0.0" and meta["license"] == "apache_2_0"
provided = meta["provides"]["credyt_pg"]
assert meta["version"] == provided["version"] == sys.argv[1], meta["version"]
assert re.fullmatch(r"\d+\.\d+\.\d+", meta["version"]) and meta["release_status"] in ("stable", "testing", "unstable")
open(provided["file"]), open(provided["docfile"])
EOF
}

# The extension in this lib and share, and no other, on a server of its own.
works_from() { # lib share
    CREDYT_OPTIONS="-c fsync=off -c extension_control_path=$2 -c dynamic_library_path=$1:\$libdir" \
        scripts/server.sh run "$pg_config" -- bash -euc '
            sql() { psql -XqAt -v ON_ERROR_STOP=1 "$@"; }
            sql -c "CREATE EXTENSION credyt_pg"
            loaded=$(sql -c "LOAD '\''credyt_pg'\''" -c "SELECT filename FROM (SELECT DISTINCT substring(line, '\''/[^ ]*credyt_pg.so'\'') AS filename
                FROM regexp_split_to_table(pg_read_file('\''/proc/self/maps'\''), '\''\n'\'') AS line) AS maps WHERE filename IS NOT NULL")
            [ "$loaded" = "$0/credyt_pg.so" ] || { echo "loaded from $loaded"; exit 1; }
            sql -c "SELECT credyt.create_asset('\''credits'\'')" -c "SELECT credyt.grant_credits('\''ada'\'', 10, paid => 1)" \
                -c "SELECT credyt.debit_credits('\''ada'\'', '\''image'\'', credits => 4)" > /dev/null
            [ "$(sql -c "SELECT available FROM credyt.balance('\''ada'\'')")" = 6 ]
            [ -z "$(sql -c "SELECT * FROM credyt.verify()")" ]' "$1"
}

deb_has_its_fields() {
    [ "$(dpkg-deb -f "$deb" Version)" = "$version-1" ]
    [ "$(dpkg-deb -f "$deb" Package)" = "postgresql-18-credyt" ]
    [ "$(dpkg-deb -f "$deb" Architecture)" = "$(dpkg --print-architecture)" ]
    dpkg-deb -f "$deb" Depends | grep -Eq 'libc6 \(>= 2\.[0-9]+\)'
    dpkg-deb -c "$deb" | awk '$2 != "root/root" { print; bad = 1 } END { exit bad }'
}

deb_works() {
    dpkg -x "$deb" "$work/deb"
    dpkg -e "$deb" "$work/control"
    (cd "$work/deb" && md5sum --quiet -c "$work/control/md5sums")
    ! readelf -S "$work/deb$lib/credyt_pg.so" | grep -q '\.debug'
    works_from "$work/deb$lib" "$work/deb$share"
}

archive_works() {
    mkdir "$work/tar"
    tar -xzf "$tar" -C "$work/tar" --strip-components 1
    [ -s "$work/tar/LICENSE" ]
    works_from "$work/tar/lib" "$work/tar/share"
}

# What PGXN's client does: unpack, make install. The folder of what is compiled is lent, so that only the extension is.
source_builds() {
    (cd "$work" && python3 -m zipfile -e "$zip" .)
    local source=$work/credyt_pg-$version
    [ -s "$source/META.json" ] && [ ! -e "$source/.ci" ]
    chmod +x "$source"/{scripts,tests}/*.sh # what Python's zipfile forgets
    ln -s "$PWD/target" "$source/target"
    eval "$(COUNTS='' scripts/env.sh clang)"
    DESTDIR=$work/pgxn make -C "$source" install PG_CONFIG="$pg_config"
    works_from "$work/pgxn$lib" "$work/pgxn$share"
}

checksums_hold() { (cd target/dist && sha256sum --quiet -c SHA256SUMS); }

lint() { "$(COUNTS='' scripts/env.sh hadolint)" packaging/docker/Dockerfile; }

try "one version everywhere, and what PGXN asks of META.json" one_version
if has dpkg-deb && has objdump; then
    deb=$(packaging/package.sh "$pg_config" deb)
    try "the Debian package says what it is" deb_has_its_fields
    try "the Debian package, unpacked, works" deb_works
else
    skip "the Debian package" "no dpkg-deb or objdump here"
fi
tar=$(packaging/package.sh "$pg_config" tar)
try "the archive, unpacked, works" archive_works
if git rev-parse --git-dir >/dev/null 2>&1; then
    zip=$(packaging/package.sh "$pg_config" pgxn)
    try "the source for PGXN builds and works" source_builds
else
    skip "the source for PGXN" "not a clone"
fi
try "the checksums are those of the packages" checksums_hold
if [ "$(uname -m)" = x86_64 ]; then
    try "the Dockerfile has no lints" lint
else
    skip "lints of the Dockerfile" "hadolint is not built for $(uname -m)"
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
