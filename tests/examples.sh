#!/usr/bin/env bash
# tests/examples.sh: the Python examples as tests, on the server of PGHOST, PGPORT ... (see scripts/server.sh). Ends with "N passed, N failed".
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p target/log
python=$(COUNTS='' scripts/env.sh examples)
# pytest's last line is "5 passed in 3.21s" or "1 failed, 4 passed in 3.21s".
"$python" -m pytest -q -p no:cacheprovider --durations=5 examples "$@" | tee target/log/pytest-examples.log && code=0 || code=$?
awk '/ in [0-9.]+s/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p = $(i - 1); if ($i ~ /^(failed|errors?)/) f += $(i - 1) } }
    END { printf "%d passed, %d failed\n", p, f }' target/log/pytest-examples.log
exit "$code"
