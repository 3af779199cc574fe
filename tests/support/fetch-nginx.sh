#!/usr/bin/env bash
# Put the nginx of the proxy's image (Debian trixie's) into a folder, for tests on a machine with another one.
#
#   fetch-nginx.sh FOLDER     ->  FOLDER/nginx, with its own C library beside it in FOLDER/lib
#
# The address of the mirror is read from this machine's own apt configuration. Nothing is installed: the packages are
# unpacked, and the binary is told (by patchelf) to load the libraries that it was built with.
set -euo pipefail

folder=$(realpath -m "${1:?usage: $0 FOLDER}")
mkdir -p "$folder"
exec 9>"$folder/.lock"
flock 9 # two test runs at once: the second waits for the first one's result
[ ! -x "$folder/nginx" ] || exit 0

say() { printf 'nginx of the image: %s\n' "$*" >&2; }

# From an empty tree: what an interrupted run left would fail every later one.
work=$folder/.work
rm -rf "$work"
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/debs"

mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Identifier: Packages' 'Origin: Debian' |
  awk '$2 !~ /-/ { print $1; exit }')
[ -n "$mirror" ] || {
  say "no Debian mirror in this machine's apt configuration: add one, or run apt-get update"
  exit 1
}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
cat >"$work/sources.list" <<LIST
deb [signed-by=$keyring] $mirror trixie main
LIST
apt_own=(-q -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o "Dir::State::lists=$work/lists" -o "Dir::Cache::archives=$work/archives" -o APT::Sandbox::User=root)
say "fetching it from Debian trixie"
apt-get "${apt_own[@]}" update >"$work/apt.log" 2>&1 || { tail -5 "$work/apt.log" >&2; exit 1; }
packages=(nginx libc6 libcrypt1 libpcre2-8-0 libssl3t64 libzstd1 zlib1g patchelf libstdc++6 libgcc-s1)
(cd "$work/debs" && apt-get "${apt_own[@]}" download "${packages[@]/%//trixie}" >>"$work/apt.log" 2>&1) || {
  tail -5 "$work/apt.log" >&2
  exit 1
}
for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/root"; done

rm -rf "$folder/lib"
mkdir "$folder/lib"
find "$work/root" -path '*-linux-gnu*' -name '*.so*' -not -path '*/gconv/*' -exec cp -P {} "$folder/lib/" \;
loader=$(basename "$(find "$folder/lib" -name 'ld-linux*.so*' | head -1)")
"$folder/lib/$loader" --library-path "$folder/lib" "$work/root/usr/bin/patchelf" \
  --set-interpreter "$folder/lib/$loader" --force-rpath --set-rpath "$folder/lib" \
  --output "$work/nginx" "$work/root/usr/sbin/nginx"
"$work/nginx" -v
mv "$work/nginx" "$folder/nginx" # last: that it is there means that all of it is
rm -rf "$work"
