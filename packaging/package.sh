#!/usr/bin/env bash
# packaging/package.sh <pg_config> <kind>...: builds for that Postgres and makes packages in target/dist; prints their paths.
#   deb    a Debian package, named as those of PostgreSQL's own repository are
#   tar    an archive of the same files: lib/ and share/extension/
#   pgxn   the committed source, as PGXN distributes it; builds nothing
# The same commit gives the same bytes, with the same compiler.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
export LC_ALL=C
pg_config=$1
shift
name=credyt_pg
version=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $name.control)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.lock)}
export SOURCE_DATE_EPOCH
dist=$PWD/target/dist
tree=$PWD/target/package
mkdir -p "$dist"

# The installed files below target/package, without what only a debugger reads.
tree() {
    [ ! -e "$tree" ] || rm -r "$tree"
    # A crate compiles its C again, and with it all that needs it, when this variable changes; no file of ours has it.
    env -u SOURCE_DATE_EPOCH DESTDIR="$tree" scripts/build.sh "$pg_config" install
    major=$("$pg_config" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
    lib=$("$pg_config" --pkglibdir) share=$("$pg_config" --sharedir)
    strip --strip-unneeded "$tree$lib/$name.so"
}

deb() {
    local package=postgresql-$major-credyt architecture depends doc file
    architecture=$(dpkg --print-architecture)
    # The newest symbol that it takes from the C library.
    depends="libc6 (>= $(objdump -T "$tree$lib/$name.so" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -Vu | tail -n 1))"
    [[ $lib != /usr/lib/postgresql/* ]] || depends="postgresql-$major, $depends"
    doc=$tree/usr/share/doc/$package
    mkdir -p "$tree/DEBIAN" "$doc"
    cp LICENSE "$doc/copyright"
    cp README.md "$doc"
    gzip -9n < CHANGELOG.md > "$doc/changelog.gz"
    cat > "$tree/DEBIAN/control" <<EOF
Package: $package
Version: $version-1
Architecture: $architecture
Maintainer: $(sed -n 's/^ *"maintainer": "\(.*\)",$/\1/p' META.json)
Depends: $depends
Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$tree" | cut -f1)
Section: database
Priority: optional
Description: credits, prices and margin for AI products, inside Postgres $major
 Sells credits in the application's own transaction: grants, holds, debits,
 plans, limits, vendor costs, and reports of revenue and margin.
 .
 In each database, as a superuser: CREATE EXTENSION credyt_pg;
EOF
    (cd "$tree" && find . -path ./DEBIAN -prune -o -type f -print0 | sort -z | xargs -0 md5sum | sed 's, \./, ,' > DEBIAN/md5sums)
    file=$dist/${package}_$version-1_$architecture.deb
    dpkg-deb --root-owner-group -Zxz --build "$tree" "$file" >/dev/null
    rm -r "$tree/DEBIAN" "$tree/usr/share/doc"
    echo "$file"
}

tarball() {
    local folder=$name-$version-pg$major-linux-$(uname -m) file
    file=$dist/$folder.tar.gz
    tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --transform "s,^${tree#/}$lib,$folder/lib,;s,^${tree#/}$share,$folder/share,;s,^${PWD#/}/LICENSE,$folder/LICENSE," \
        -P -c -C / "${tree#/}$lib/$name.so" "${tree#/}$share/extension" "${PWD#/}/LICENSE" | gzip -9n > "$file"
    echo "$file"
}

pgxn() {
    local file=$dist/$name-$version.zip
    git diff --quiet HEAD || echo "Not committed, and so not in the distribution: $(git diff --name-only HEAD | tr '\n' ' ')" >&2
    git archive --format=zip -9 --prefix="$name-$version/" -o "$file" HEAD
    echo "$file"
}

for kind; do
    case $kind in
    deb | tar) [ -n "${major:-}" ] || tree ;;
    pgxn) ;;
    *) sed -n '2,/^set /p' "$0" | grep '^#' >&2; exit 2 ;;
    esac
done
for kind; do
    case $kind in deb) deb ;; tar) tarball ;; pgxn) pgxn ;; esac
done
cd "$dist"
sha256sum -- *.deb *.tar.gz *.zip 2>/dev/null > SHA256SUMS || true
