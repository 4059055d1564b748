#!/usr/bin/env bash
# tests/docs.sh <document.md> <folder> [heading]: makes a pg_regress test out of a document, or of one section of it:
# <folder>/sql/doc_<name>.sql with its ```sql blocks, <folder>/expected/doc_<name>.out with the ``` blocks of what they
# answer. A block without an answer has only to run. What <!-- sql ... --> hides from the reader is run as well.
set -euo pipefail
name=doc_$(basename "$1" .md)
mkdir -p "$2/sql" "$2/expected"
sql=$2/sql/$name.sql out=$2/expected/$name.out
: > "$sql"
[ -n "${3:-}" ] || echo "SET timezone = 'UTC'; SET datestyle = 'ISO';" > "$sql"
cp "$sql" "$out"
awk -v sql="$sql" -v out="$out" -v heading="${3:-}" '
    function say(text) { # psql echoes no empty lines
        printf "%s", text >> sql; gsub(/\n\n+/, "\n", text); printf "%s", text >> out
    }
    function flush() { if (block != "") say("\\o /dev/null\n" block "\\o\n"); block = "" }
    !state && /^## / { flush(); wanted = $0 == heading }
    heading != "" && !wanted { next }
    state && (state == "hidden" ? /^-->/ : /^```/) { state = ""; next }
    state == "sql" || state == "hidden" { block = block $0 "\n"; next }
    state == "answer" { print >> out; if (/^\([0-9]+ rows?\)$/) print "" >> out; next }
    state { next }
    /^```sql$/ { flush(); state = "sql"; next }
    /^<!-- sql$/ { flush(); state = "hidden"; next }
    /^```$/ && block != "" { say(block); block = ""; state = "answer"; next }
    /^```/ { state = "other"; next }
    /[^ ]/ { flush() }
    END { flush() }' "$1"
