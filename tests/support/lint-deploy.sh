#!/usr/bin/env bash
# Read the Dockerfiles, deploy/ and the rendered nginx configuration for known mistakes. Any finding fails.
#
#   lint-deploy.sh VENV    the environment with kubectl; checkov, hadolint and gixy lie in .venv-deploy
#
# gixy's findings that are accepted:
#   host_spoofing            the model sees the Host that the browser sent, as the documented directives have it;
#                            nothing is chosen by it
#   proxy_pass_normalized    the prefix is stripped by nginx, so %2F arrives decoded: documented, and tested
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=$1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

for overlay in deploy deploy/overlays/one-namespace; do
  "$venv/bin/kubectl" kustomize "$overlay" >"$out/$(basename "$overlay").yaml"
done
"$venv/bin/rayproxy" render --source manifests --manifests examples/manifests --listen 0.0.0.0:8080 \
  --state-dir /var/lib/rayproxy --output "$out/nginx" >/dev/null
touch "$out/nginx/revision.conf" # written with a revision, which render does not make
# gixy cannot read a possessive `++` or `*+`. What `+` and `*` match in their place is the same, only not as fast.
sed -i 's/)\([+*]\)+/)\1/g' "$out"/nginx/*.conf

.venv-deploy/bin/hadolint Dockerfile.*
.venv-deploy/bin/checkov --config-file deploy/checkov.yaml --skip-download --quiet --compact --framework kubernetes -d "$out"
.venv-deploy/bin/checkov --config-file deploy/checkov.yaml --skip-download --quiet --compact --framework dockerfile \
  $(printf -- '-f %s ' Dockerfile.*)
for conf in "$out/nginx/nginx.conf" examples/frontend/nginx.conf; do
  .venv-deploy/bin/gixy --skips host_spoofing,proxy_pass_normalized "$conf"
done
