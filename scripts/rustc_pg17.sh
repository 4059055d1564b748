#!/bin/sh
# The compiler, as scripts/build.sh calls it for a Postgres 17 without headers: pgrx's crate of Postgres declarations, and
# nothing else, is told to take the ones it was published with instead of making them from headers.
case " $* " in *" --crate-name pgrx_pg_sys "*) exec "$@" --cfg docsrs ;; esac
exec "$@"
