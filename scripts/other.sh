#!/usr/bin/env bash
# scripts/other.sh <commit> <pg_config>   builds that commit and installs it into a copy of this private Postgres (scripts/env.sh);
#                                         prints the pg_config of the copy
# Each commit has a folder of its own in target/other, and is built once.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$(git rev-parse --verify --quiet --short=12 "$1^{commit}") || { echo "$1: no such commit." >&2; exit 1; }
env=$PWD/target/env
case $2 in
"$env"/*) inside=${2#"$env"/} ;;
*) echo "$2 is not of $env." >&2; exit 1 ;;
esac
name=${inside%%/*}
top=$PWD/target/other/$commit
pg_config=$top/target/env/$inside

if [ ! -f "$top/target/$name.built" ]; then
    rm -rf "$top/target/env/$name"
    mkdir -p "$top/target/env"
    git archive "$commit" | tar -x -C "$top"
    cp -r "$env/$name" "$top/target/env/"
    [ ! -d "$env/clang" ] || ln -sfn "$env/clang" "$top/target/env/clang"
    build=$top/scripts/build.sh
    [ -x "$build" ] || build=$top/tests/build.sh # where older commits have it
    scripts/step.sh "Building $commit" "$build" "$pg_config" install >&2
    touch "$top/target/$name.built"
fi
echo "$pg_config"
