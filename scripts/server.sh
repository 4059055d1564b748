#!/usr/bin/env bash
# A throwaway Postgres, in a folder of its own, on a free port of this machine only.
#   scripts/server.sh run <pg_config> -- command...   starts one, runs the command on it, always removes it
#   scripts/server.sh start <pg_config> [new folder]  starts one; prints exports to eval: PGHOST, PGPORT, PGUSER,
#                                                     PGDATABASE, CREDYT_URL, CREDYT_DATA, CREDYT_SERVER
#   scripts/server.sh standby <folder>                starts a standby of that server, in a folder of its own; prints the same
#   scripts/server.sh copy <folder>                   a base backup of that server in a folder of its own, not started; prints the same
#   scripts/server.sh upgrade <folder> <pg_config>    moves that server, which stops, to this Postgres in a folder of its own
#                                                     (pg_upgrade), and starts it; prints the same
#   scripts/server.sh stop <folder>                   stops it and removes everything; <folder> is CREDYT_SERVER
#   scripts/server.sh down|up|crash <folder>          stops it at once, starts it again, both
# Environment: CREDYT_OPTIONS="-c name=value ..." settings of the server
#              CREDYT_MEMORY=kB     start: no process of the server may have more memory than that
#              CREDYT_OWNER=pid                    start: remove the server when that process is gone
# Postgres refuses to run as root: then it runs as postgres, or as nobody.
set -euo pipefail
umask 022
self=$(realpath "$0")
say() { echo "$*" >&2; }

# Runs a program as the server's user, in a bare environment (RUST_BACKTRACE would show up in error details).
as_user() {
    local bare=(env -i PATH=/usr/bin:/bin LC_ALL=C TZ=UTC)
    if [ "$(id -u)" = 0 ]; then
        local user=nobody
        ! id postgres >/dev/null 2>&1 || user=postgres
        setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups "${bare[@]}" "$@"
    else
        "${bare[@]}" "$@"
    fi
}

up() { # folder: a free port is a guess that the next try corrects
    local dir=$1 try
    cd "$dir"
    [ "${CREDYT_MEMORY:-0}" = 0 ] || ulimit -v "$CREDYT_MEMORY"
    for try in 1 2 3 4 5 6 7 8; do
        [ -s port ] || shuf -i 20000-59999 -n 1 > port
        : > log
        ! as_user "$(cat bin)/pg_ctl" start -w -t 60 -D data -l log -o "-p $(cat port)" >/dev/null 2>&1 || return 0
        grep -q 'Address already in use' log || break
        rm port
    done
    say "Postgres did not start:"
    tail -n 20 log >&2
    return 1
}

down() { # folder
    cd "$1"
    [ ! -f data/postmaster.pid ] || as_user "$(cat bin)/pg_ctl" stop -m immediate -w -D data >/dev/null
}

remove() { # folder
    [ -f "$1/bin" ] || return 0
    (down "$1") || true
    rm -rf "$1"
}

copy_programs() { # folder of the programs: what the server's user cannot read in there is copied beside the data
    local bin=$1
    echo "$bin" > "$dir/bin"
    as_user test -r "$bin/postgres" && return
    local root=${bin%/env/pg??/*} name
    [ "$root" != "$bin" ] || { say "The user that the server runs as cannot read $bin."; exit 1; }
    name=${bin#"$root"/env/}; name=${name%%/*}
    # A test of upgrades may put a script there while another test copies, and take it away: cp ends with an error, and goes again.
    local try
    for try in 1 2 3 4 5 6 7 8; do
        ! cp -r "$root/env/$name" "$dir" 2>"$dir/log" || break
    done
    [ -d "$dir/$name" ] && [ ! -s "$dir/log" ] || { cat "$dir/log" >&2; false; }
    echo "$dir/${bin#"$root"/env/}" > "$dir/bin"
}

start() { # pg_config [folder]
    local bin option
    bin=$("$1" --bindir)
    dir=${2:-$(mktemp -d "${TMPDIR:-/tmp}/credyt_XXXXXX")}
    mkdir -p "$dir"
    dir=$(realpath "$dir")
    [ -z "$(ls -A "$dir")" ] || { say "$dir is not empty."; exit 1; }
    trap 'remove "$dir"' EXIT
    trap 'exit 130' INT TERM
    touch "$dir/log" "$dir/port"
    chmod 755 "$dir"
    copy_programs "$bin"
    [ "$(id -u)" != 0 ] || chown "$(as_user id -u)" "$dir" "$dir/log"
    cd "$dir"
    as_user "$(cat bin)/initdb" -D data -U postgres -A trust -E UTF8 --no-locale -N >"$dir/log" 2>&1 || { cat log >&2; false; }
    {
        echo "listen_addresses = '127.0.0.1'"
        echo "unix_socket_directories = '$dir'"
        echo "timezone = 'UTC'"
        for option in ${CREDYT_OPTIONS:-}; do
            [ "$option" = -c ] || echo "${option%%=*} = '${option#*=}'"
        done
    } >> data/postgresql.conf
    (up "$dir")
    trap - EXIT INT TERM
    exports
}

new_folder() { # folder of the server that it begins with
    dir=$(realpath "$(mktemp -d "${TMPDIR:-/tmp}/credyt_XXXXXX")")
    trap 'remove "$dir"' EXIT
    trap 'exit 130' INT TERM
    touch "$dir/log" "$dir/port"
    chmod 755 "$dir"
    cp "$1/bin" "$dir/bin"
    [ "$(id -u)" != 0 ] || chown "$(as_user id -u)" "$dir" "$dir/log"
    cd "$dir"
}

copy() { # folder of the server, and what else pg_basebackup is told
    local from=$1
    shift
    new_folder "$from"
    as_user "$(cat bin)/pg_basebackup" -D "$dir/data" -c fast -N -h "$from" -p "$(cat "$from/port")" -U postgres "$@"
    echo "unix_socket_directories = '$dir'" >> data/postgresql.conf
    # A port that is free now, and most likely stays so.
    shuf -i 20000-59999 -n 1 > port
}

standby() { # folder of its primary
    copy "$1" -R
    up "$dir"
    trap - EXIT INT TERM
    exports
}

upgrade() { # folder of the server, pg_config of the Postgres to move to
    local old=$1 bin
    bin=$("$2" --bindir)
    as_user "$(cat "$old/bin")/pg_ctl" stop -m fast -w -D "$old/data" >/dev/null
    new_folder "$old"
    copy_programs "$bin"
    # Both with checksums, or both without: Postgres 18 makes them unless told otherwise.
    local checksums=-k
    if as_user "$(cat "$old/bin")/pg_controldata" "$old/data" | grep -q 'checksum version: *0$'; then
        checksums=
        ! as_user "$(cat bin)/initdb" --help | grep -q no-data-checksums || checksums=--no-data-checksums
    fi
    as_user "$(cat bin)/initdb" -D data -U postgres -A trust -E UTF8 --no-locale -N $checksums >log 2>&1 || { cat log >&2; false; }
    as_user "$(cat bin)/pg_upgrade" -b "$(cat "$old/bin")" -B "$(cat bin)" -d "$old/data" -D "$dir/data" -U postgres \
        --socketdir "$dir" --no-sync >log 2>&1 || { tail -n 30 log data/pg_upgrade_output.d/*/log/*.log >&2; false; }
    printf '%s\n' "listen_addresses = '127.0.0.1'" "unix_socket_directories = '$dir'" "timezone = 'UTC'" 'fsync = off' >> data/postgresql.conf
    up "$dir"
    trap - EXIT INT TERM
    exports
}

exports() { # in the folder
    if [ -n "${CREDYT_OWNER:-}" ]; then
        setsid bash -c 'while kill -0 "$0" && [ -d "$1" ]; do sleep 1; done; "$2" stop "$1"' \
            "$CREDYT_OWNER" "$dir" "$self" </dev/null >/dev/null 2>&1 &
    fi
    echo "export PGHOST='$dir' PGPORT=$(cat port) PGUSER=postgres PGDATABASE=postgres"
    echo "export CREDYT_URL='host=$dir port=$(cat port) user=postgres dbname=postgres'"
    echo "export CREDYT_DATA='$dir/data' CREDYT_SERVER='$dir'"
}

case ${1:-} in
standby) standby "$(realpath "$2")" ;;
copy) copy "$(realpath "$2")"; trap - EXIT INT TERM; exports ;;
upgrade) upgrade "$(realpath "$2")" "$3" ;;
start) start "$2" "${3:-}" ;;
stop) remove "$(realpath "$2")" ;;
down) down "$2" ;;
up) up "$2" ;;
crash) (down "$2"); up "$2" ;;
run)
    pg_config=$2
    [ "$3" = -- ]
    shift 3
    exports=$(CREDYT_OWNER=$$ "$self" start "$pg_config")
    eval "$exports"
    trap '"$self" stop "$CREDYT_SERVER"' EXIT
    trap 'exit 130' INT TERM
    PATH=$(cat "$CREDYT_SERVER/bin"):$PATH "$@" ;;
*)
    sed -n '2,/^set /p' "$self" | grep '^#' >&2
    exit 2 ;;
esac
