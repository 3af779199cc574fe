#!/usr/bin/env bash
# Run pytest on everything that is named; the few tests that failed then run once more, one after the other.
#
#   run-tests.sh PYTHON [ARGUMENT ...]
#
# The tests start real servers and wait for them with deadlines, and a machine with all cores taken is late at times.
# What fails again has failed. What passes the second time is named at the end, and wants looking into: it raced.
set -uo pipefail
python=$1
shift
bound=5 # more failures than that are no accident, and would take long

"$python" -m pytest --cache-clear "$@"
status=$?
[ $status = 1 ] || exit $status # 1: tests failed; all else is none of their doing, or none
failed=$("$python" -c 'import json; print(*json.load(open(".pytest_cache/v/cache/lastfailed")), sep="\n")') || exit 1
[ "$(wc -l <<<"$failed")" -le $bound ] || exit 1
printf '\nThese failed, and run once more without others beside them:\n%s\n\n' "$failed"
"$python" -m pytest --last-failed --last-failed-no-failures none "$@" -n 0 || exit 1
printf '\nPassed the second time, and want looking into:\n%s\n' "$failed"
