#!/usr/bin/env bash
# tests/step.sh "What is being done" command...
# Runs the command on one line: what, how long it took, how many tests passed. What the command prints goes to a file
# under target/log; when the command fails its end is shown. With COUNTS=file, "passed failed" is added to that file.
set -uo pipefail
what=$1; shift
dir=$(dirname "$0")/../target/log
mkdir -p "$dir"
log=$(cd "$dir" && pwd)/$(tr -cs 'A-Za-z0-9\n' '-' <<<"${what%% (*}").log
began=$SECONDS
printf '%-56s ' "$what" >&2
"$@" >"$log" 2>&1 </dev/null
code=$?
# cargo test says "test result: ok. 5 passed; 0 failed; ...", tests/regress.sh "5 passed, 0 failed"
read -r passed failed <<<"$(awk '/^(test result: .*)?[0-9]+ passed[;,] [0-9]+ failed/ {
    for (i = 2; i < NF; i++) { if ($i ~ /^passed/) p += $(i - 1); if ($i ~ /^failed/) f += $(i - 1) } 
    if ($NF == "failed") f += $(NF - 1) } END { print p + 0, f + 0 }' "$log")"
[ $code = 0 ] || [ "$failed" -gt 0 ] || failed=1
[ -z "${COUNTS:-}" ] || echo "$passed $failed" >> "$COUNTS"
took="$((SECONDS - began)) s"
if [ $code = 0 ]; then
    [ "$passed" = 0 ] || took+=", $passed tests"
    echo "ok, $took" >&2
else
    echo "FAILED, $took" >&2
    tail -n "${LOG_LINES:-40}" "$log" | sed 's/^/    /' >&2
    echo "    (all of it: ${log#"$PWD"/})" >&2
fi
exit $code
