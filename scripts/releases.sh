#!/usr/bin/env bash
# The install scripts of released versions, which never change again.
#   scripts/releases.sh check    are they as they were released, and is there a way from each to this version?
#   scripts/releases.sh freeze   makes the install script of this version a released one (make release)
set -euo pipefail
cd "$(dirname "$0")/.."
LC_ALL=C; export LC_ALL
name=credyt_pg
releases=sql/releases
sums=$releases/SHA256SUMS
version=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $name.control)
this=$releases/$name--$version.sql
wrong=0
refuse() { echo "$*" >&2; wrong=1; }

install_script() { cat sql/schema/*.sql; }

# The newest release but this version.
last_release() {
    local script
    for script in $releases/$name--*.sql; do
        script=${script#"$releases/$name--"}
        [ "$script" = '*.sql' ] || [ "${script%.sql}" = "$version" ] || echo "${script%.sql}"
    done | sort -V | tail -n 1
}

released() { [ ! -f $sums ] || awk '{ print $2 }' $sums; }

check() {
    local cargo last file script
    cargo=$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
    [ "$version" = "$cargo" ] || refuse "$name.control says version $version, Cargo.toml $cargo."
    if [ -f $sums ]; then
        sha256sum --quiet --check $sums >&2 ||
            refuse "What is released never changes: databases have it. Undo that, and change sql/schema and the next upgrade script."
    fi
    for file in $releases/*.sql; do
        [ ! -e "$file" ] || released | grep -qxF "$file" || refuse "$file was not made by make release: it is not in $sums."
    done
    if [ -f "$this" ]; then
        install_script | cmp -s - "$this" ||
            refuse "$version is released, and sql/schema is not what was released: raise the version in $name.control and Cargo.toml."
    fi
    last=$(last_release)
    script=sql/$name--$last--$version.sql
    [ -z "$last" ] || [ -f "$script" ] || refuse "There is no way from $last, the last release, to $version: write $script."
    for script in sql/$name--*--*.sql; do
        [ ! -e "$script" ] || [ "${script%--"$version".sql}" != "$script" ] || released | grep -qxF "$script" ||
            refuse "$script does not lead to this version, $version, nor to a released one."
    done
    return $wrong
}

freeze() {
    local last upgrade
    if [ -f "$this" ]; then echo "$version is released already." >&2; exit 1; fi
    check || exit 1
    grep -q "^## $version\$" CHANGELOG.md || { echo "CHANGELOG.md has no heading '## $version'." >&2; exit 1; }
    last=$(last_release)
    upgrade=sql/$name--$last--$version.sql
    if [ -n "$last" ] && [ "$(printf '%s\n' "$last" "$version" | sort -V | tail -n 1)" != "$version" ]; then
        echo "$version is not newer than $last." >&2
        exit 1
    fi
    mkdir -p $releases
    install_script > "$this"
    sha256sum "$this" >> $sums
    [ -z "$last" ] || sha256sum "$upgrade" >> $sums
    echo "$this is what $version installs from now on. Commit it, and tag the commit v$version."
}

case ${1:-} in
check | freeze) "$1" ;;
last) last_release ;;
*)
    sed -n '2,/^set /p' "$0" | grep '^#' >&2
    exit 2 ;;
esac
