#!/usr/bin/env bash
# Run a command with a Docker engine: the one that answers, else one of its own, which is ended afterwards.
#
#   with-engine.sh COMMAND [ARGUMENT ...]
#
# Where the base images cannot be pulled, debootstrap makes them, with this machine's own CA certificates in it, so
# that a build reaches the package registries as the machine does. The engine's images stay in the cache folder.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/rayproxy/engine
export PATH=$PATH:/usr/sbin:/sbin
export TESTCONTAINERS_RYUK_DISABLED=true # its image would have to be pulled

say() { printf '%s engine: %s\n' "$(date +%H:%M:%S)" "$*" >&2; }

stop_engine() {
  kill "$engine" 2>/dev/null || true
  wait "$engine" || true
  umount "$run"/exec/netns/* 2>/dev/null || true
  rm -rf "$run"
}

start_engine() {
  [ "$(id -u)" = 0 ] || { say "no Docker engine answers, and only root can start one: start Docker, or become root"; exit 1; }
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9 # another run has an engine on this folder: wait for its end
  run=$(mktemp -d /tmp/rayproxy-engine-XXXXXX)
  flags=(--data-root "$cache/data" --exec-root "$run/exec" --pidfile "$run/pid" --host "unix://$run/socket"
    --storage-driver overlay2 --bridge none --iptables=false --exec-opt native.cgroupdriver=cgroupfs)
  if ! (echo -500 >/proc/self/oom_score_adj) 2>/dev/null; then
    say "this machine lets nobody lower oom_score_adj: containers run without it"
    flags+=(--add-runtime "plain=$(realpath "$(dirname "$0")")/runc-plain.sh" --default-runtime plain)
  fi
  dockerd "${flags[@]}" >"$run/log" 2>&1 9>&- &
  engine=$!
  trap stop_engine EXIT
  export DOCKER_HOST=unix://$run/socket
  for _ in $(seq 300); do
    docker info >/dev/null 2>&1 && return
    kill -0 $engine 2>/dev/null || { tail -5 "$run/log" >&2; exit 1; }
    sleep 0.2
  done
  say "dockerd did not answer within a minute: $(tail -2 "$run/log")"
  exit 1
}

import_base() { # RELEASE -> debian:RELEASE-slim
  say "making debian:$1-slim with debootstrap, about a minute"
  local mirror folder
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Identifier: Packages' 'Origin: Debian' |
    awk '$2 !~ /-/ { print $1; exit }')
  folder=$(mktemp -d)
  debootstrap --variant=minbase "$1" "$folder" "$mirror" >"$folder.log" 2>&1 || { tail -5 "$folder.log" >&2; exit 1; }
  mkdir -p "$folder/usr/local/share/ca-certificates"
  cp /usr/local/share/ca-certificates/*.crt "$folder/usr/local/share/ca-certificates/" 2>/dev/null || true
  rm -rf "$folder"/var/cache/apt/* "$folder"/var/lib/apt/lists/*
  tar -C "$folder" -c . | docker import - "debian:$1-slim" >/dev/null
  rm -rf "$folder" "$folder.log"
}

docker info >/dev/null 2>&1 || start_engine
for release in trixie bookworm; do # the proxy's; one with Python 3.11, as Ray's images have it
  docker image inspect "debian:$release-slim" >/dev/null 2>&1 ||
    timeout 120 docker pull -q "debian:$release-slim" 2>/dev/null || import_base "$release"
done
"$@"
