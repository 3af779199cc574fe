#!/usr/bin/env bash
# Put etcd and components of a Kubernetes of today into a folder, compiled by this machine's Go from the module
# k8s.io/kubernetes as its registry serves it. What the module replaces by folders of its own tree (`staging/`) are
# published modules too: a go.mod of ours names those instead.
#
#   build-kubernetes.sh VERSION FOLDER [COMPONENT ...]      COMPONENT: kube-apiserver (default), kubelet, ...
#
# kubernetes/go.mod and go.sum beside this script pin the version that the tests use; another VERSION is checked
# against Go's own checksum database. kubernetes/etcd pins etcd: an old one tells the API server of today too little,
# and its watches stand still. Exit code 3: this machine's Go cannot do it.
set -euo pipefail

version=${1:?usage: $0 VERSION FOLDER [COMPONENT ...]}
folder=$(realpath -m "${2:?usage: $0 VERSION FOLDER [COMPONENT ...]}")
shift 2
components=("$@")
[ ${#components[@]} -gt 0 ] || components=(kube-apiserver)
here=$(realpath "$(dirname "$0")")

etcd=$folder/.etcd-$(cat "$here"/kubernetes/etcd/go.mod "$here"/kubernetes/etcd/main.go | sha256sum | cut -c1-16)
missing() {
  local each
  for each in "$@"; do
    [ -x "$folder/$each" ] || echo "$each"
  done
}
complete() { [ -e "$etcd" ] && [ -z "$(missing etcd "${components[@]}")" ]; }
! complete || exit 0 # who needs no more waits for no build of more
mkdir -p "$folder"
exec 9>"$folder/.lock"
flock 9 # two test runs at once: the second waits for the first one's result
mapfile -t missing < <(missing "${components[@]}")
! complete || exit 0

say() { printf '%s kubernetes %s build: %s\n' "$(date +%H:%M:%S)" "$version" "$*" >&2; }
work=$folder/.build
rm -rf "$work"
mkdir -p "$work/module" "$work/bin"

own_go_mod() { # the requirement, and the published modules in the place of ./staging
  local theirs
  theirs=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/^\t"GoMod": "\(.*\)",*$/\1/p')
  [ -n "$theirs" ] || return 1
  echo "module kubernetes"
  grep '^go ' "$theirs"
  echo "require k8s.io/kubernetes v$version"
  sed -n "s|^\s*\(k8s.io/[^ ]*\) => ./staging/.*|replace \1 => \1 v0.${version#1.}|p" "$theirs"
}

command -v go >/dev/null || { say "no Go here"; exit 3; }
if [ ${#missing[@]} -gt 0 ]; then
  cd "$work/module"
  if grep -q "k8s.io/kubernetes v$version\$" "$here/kubernetes/go.mod"; then
    cp "$here/kubernetes/go.mod" "$here/kubernetes/go.sum" .
  else
    own_go_mod >go.mod || { say "the module k8s.io/kubernetes v$version cannot be had, or wants a newer Go"; exit 3; }
  fi
  say "compiling ${missing[*]} (kube-apiserver alone takes some 6 minutes of a processor)"
  # Go's own build cache makes a second try short.
  GOFLAGS=-mod=mod go build -trimpath -buildvcs=false -o "$work/bin/" \
    -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$version" "${missing[@]/#/k8s.io/kubernetes/cmd/}" 9>&- &
  build=$!
  while kill -0 "$build" 2>/dev/null; do
    sleep 5
    [ $((SECONDS % 60)) -ge 5 ] || say "still compiling, $SECONDS s"
  done
  wait "$build" || { say "the build failed: Go's own words are above"; exit 3; }
  mv "$work"/bin/* "$folder/"
  cd "$folder"
fi
if [ ! -e "$etcd" ]; then
  say "compiling etcd, a minute of a processor"
  cd "$here/kubernetes/etcd"
  GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$work/bin/etcd" . || {
    say "etcd cannot be built: Go's own words are above"
    exit 3
  }
  mv "$work/bin/etcd" "$folder/etcd"
  touch "$etcd"
fi
rm -rf "$work"
say "done: $folder"
