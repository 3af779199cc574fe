#!/usr/bin/env bash
# Put what a whole cluster needs into a folder: the components of Kubernetes, CoreDNS, kube-router's firewall, KubeRay's
# operator and its CRDs.
#
#   build-cluster.sh KUBERNETES_VERSION KUBERAY_VERSION FOLDER
#
# kubernetes/cluster beside this script is a module whose go.mod and go.sum pin CoreDNS. kube-router and the operator are
# what was released, with the dependencies that their own modules name, checked against Go's checksum database; each
# release of the operator has a folder of its own, kuberay-VERSION. What is there already is not built again; Go's own cache makes a build that was
# interrupted short.
set -euo pipefail

usage="usage: $0 KUBERNETES_VERSION KUBERAY_VERSION FOLDER"
version=${1:?$usage}
kuberay=${2:?$usage}
folder=$(realpath -m "${3:?$usage}")
here=$(realpath "$(dirname "$0")")
operator=github.com/ray-project/kuberay/ray-operator

say() { printf '%s cluster build: %s\n' "$(date +%H:%M:%S)" "$*" >&2; }

build_coredns() {
  local built
  cd "$here/kubernetes/cluster"
  built=$folder/.coredns-$(cat go.mod coredns/main.go | sha256sum | cut -c1-16)
  [ ! -e "$built" ] || return 0
  say "compiling CoreDNS, some 3 minutes of a processor"
  GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$folder/" ./coredns
  touch "$built"
}

build_firewall() {
  [ ! -x "$folder/kube-router" ] || return 0
  say "compiling kube-router, some 3 minutes of a processor"
  GOBIN=$folder go install -trimpath -ldflags "-s -w" github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@v2.1.0
}

build_operator() {
  local target=$folder/kuberay-$kuberay work=$folder/.kuberay module
  [ ! -d "$target" ] || return 0
  say "compiling KubeRay's operator $kuberay, some 4 minutes of a processor"
  rm -rf "$work"
  GOBIN=$work go install -trimpath -ldflags "-s -w" "$operator@v$kuberay" || {
    say "KubeRay $kuberay cannot be built: Go's own words are above; 1.6.2 and 1.5.1 are known to be served"
    exit 1
  }
  module=$(go mod download -json "$operator@v$kuberay" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
  install -D -m 644 -t "$work/crds" "$module"/config/crd/bases/*.yaml
  mv "$work" "$target"
}

bash "$here/build-kubernetes.sh" "$version" "$folder" \
  kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy
exec 9>"$folder/.lock"
flock 9
build_coredns
build_firewall
build_operator
say "done: $folder"
