#!/usr/bin/env bash
# scripts/step.sh "What is being done" command...
# Runs the command on one line: what, how long it took, how many tests passed. What the command prints goes to a file
# under target/log; when the command fails its end is shown. With COUNTS=file, "passed failed" is added to that file; with
# STEP_LINES=whole the line is printed when the command has ended, for steps that go on at once.
set -uo pipefail
what=$1; shift
dir=$(dirname "$0")/../target/log
mkdir -p "$dir"
log=$(cd "$dir" && pwd)/$(tr -cs 'A-Za-z0-9\n' '-' <<<"${what%% (*}").log
began=$SECONDS
line=$(printf '%-56s' "$what")
[ "${STEP_LINES:-}" = whole ] || { printf '%s ' "$line" >&2; line=; }
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
    skipped=$(sed -n '1{/^skipped: /p}' "$log")
    echo "${line:+$line }${skipped:-ok, $took}" >&2
else
    said=$(tail -n "${LOG_LINES:-40}" "$log" | sed 's/^/    /')
    printf '%s\n' "${line:+$line }FAILED, $took" "$said" "    (all of it: ${log#"$PWD"/})" >&2
fi
exit $code
