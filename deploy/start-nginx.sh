#!/bin/sh
# The nginx container: wait for the first revision, remove what a killed nginx left behind, drain on SIGTERM.
set -eu
: "${RAYPROXY_STATE_DIR:=/var/lib/rayproxy}"
conf=$RAYPROXY_STATE_DIR/current/nginx.conf
run=$RAYPROXY_STATE_DIR/run

say() { echo "start-nginx: $*" >&2; }

tries=0
trap 'exit 0' TERM INT QUIT
until [ -s "$conf" ]; do
  [ "$tries" -gt 0 ] || say "waiting for the first revision, $conf"
  tries=$((tries + 1))
  if [ "$tries" -gt 300 ]; then
    say "$conf did not come within 60 s: 'rayproxy init' or 'rayproxy run' writes it. Has it the same RAYPROXY_STATE_DIR, on a volume that both containers mount?"
    exit 1
  fi
  sleep 0.2
done

# In a pod with shared processes, workers may outlive a killed master; they hold the port, so they are told to drain.
for process in /proc/[0-9]*; do
  case $(tr '\0' ' ' 2>/dev/null <"$process/cmdline" || true) in
    "nginx: worker process "*) kill -QUIT "${process#/proc/}" 2>/dev/null || true ;;
  esac
done
rm -f "$run/revision.sock" "$run/nginx.pid" # nginx does not start over a socket that is there

# rayproxy knows its nginx by this very command line.
nginx -c "$conf" -g 'daemon off;' &
nginx=$!
# SIGTERM would cut streams; QUIT lets them end, for worker_shutdown_timeout at most.
trap 'kill -QUIT "$nginx" 2>/dev/null || true' TERM INT QUIT
code=0
wait "$nginx" || code=$?
while kill -0 "$nginx" 2>/dev/null; do # a signal ended the wait, not nginx
  code=0
  wait "$nginx" || code=$?
done
exit "$code"
