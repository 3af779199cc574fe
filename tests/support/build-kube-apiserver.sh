#!/usr/bin/env bash
# Put etcd and the kube-apiserver of Kubernetes 1.20 into a folder: the last resort, for a machine that has neither
# a Go of today (build-kubernetes.sh) nor a Docker engine.
#
#   build-kube-apiserver.sh FOLDER
#
# etcd comes from Debian's etcd-server package; kube-apiserver is compiled from the source package `kubernetes` of
# Debian bookworm.
# The compiler is bullseye's Go 1.15: built with bookworm's Go 1.19, this kube-apiserver crashes on
# concurrent map access and reads an empty string as null.
set -euo pipefail

folder=$(realpath -m "${1:?usage: $0 FOLDER}")

mkdir -p "$folder"
exec 9>"$folder/.lock"
flock 9 # two test runs at once: the second waits for the first one's result

if [ -x "$folder/etcd" ] && [ -x "$folder/kube-apiserver" ]; then exit 0; fi

# From an empty tree: what an interrupted build left (half an unpacked source, say) would fail every later one.
work=$folder/.build
rm -rf "$work"
mkdir -p "$work/src" "$work/go"

say() { printf '%s kube-apiserver build: %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
sources=("deb-src [] MIRROR bookworm main" "deb [] MIRROR bookworm main"
  "deb [check-valid-until=no] MIRROR bullseye main")
. "$(dirname "$0")/debian.sh"
fetch_etcd

if [ ! -x "$folder/kube-apiserver" ]; then
  say "fetching Go 1.15 and the source of Kubernetes 1.20.2"
  fetch_deb golang-1.15-go/bullseye
  fetch_deb golang-1.15-src/bullseye
  for deb in "$apt_dir"/debs/golang-1.15-*.deb; do dpkg-deb -x "$deb" "$work/go"; done
  source_dir=$work/src/k8s.io/kubernetes
  (cd "$work/src" && apt-get "${apt_own[@]}" source --download-only kubernetes >>"$work/apt.log" 2>&1 &&
    dpkg-source --no-check -x kubernetes_*.dsc "$work/src/unpacked" >>"$work/apt.log" 2>&1)
  mkdir -p "$work/src/k8s.io"
  mv "$work/src/unpacked" "$source_dir"
  # The build wants to stand inside a GOPATH: $GOPATH/src/k8s.io/kubernetes. GOENV=off: the machine's own Go may
  # have a configuration file with flags that 1.15 does not know, and an empty GOFLAGS does not overrule the file.
  export GOPATH=$work GOROOT=$work/go/usr/lib/go-1.15 GO111MODULE=off GOFLAGS= GOENV=off GOCACHE=$work/gocache
  export PATH=$GOROOT/bin:$PATH KUBE_GIT_VERSION=v1.20.2 KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=archive
  say "compiling kube-apiserver (about 5 minutes on 2 cores)"
  started=$SECONDS
  (cd "$source_dir" && exec make "WHAT=cmd/kube-apiserver" GOFLAGS=-v) >"$work/kube-apiserver.log" 2>&1 9>&- &
  build=$!
  while kill -0 "$build" 2>/dev/null; do
    sleep 5
    [ $(((SECONDS - started) % 30)) -ge 5 ] ||
      say "compiling kube-apiserver, $((SECONDS - started)) s, $(grep -c . "$work/kube-apiserver.log") packages done"
  done
  wait "$build" || { tail -20 "$work/kube-apiserver.log" >&2; say "failed, the whole log is $work/kube-apiserver.log"; exit 1; }
  install -m 755 "$source_dir/_output/bin/kube-apiserver" "$folder/kube-apiserver" 2>/dev/null ||
    install -m 755 "$source_dir/_output/local/go/bin/kube-apiserver" "$folder/kube-apiserver"
fi
rm -rf "$work" # 2 GB that nothing needs any more
say "done: $folder"
