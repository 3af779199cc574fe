#!/usr/bin/env bash
# Put the nginx of the proxy's image (Debian trixie's) into a folder, for tests on a machine with another one.
#
#   fetch-nginx.sh FOLDER     ->  FOLDER/nginx, with its own C library beside it in FOLDER/lib
#
# Nothing is installed: the packages are unpacked, and the binary is told (by patchelf) to load the libraries that it was built with.
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
mkdir -p "$work"
sources=("deb [] MIRROR trixie main")
. "$(dirname "$0")/debian.sh"
say "fetching it from Debian trixie"
packages=(nginx libc6 libcrypt1 libpcre2-8-0 libssl3t64 libzstd1 zlib1g patchelf libstdc++6 libgcc-s1)
fetch_deb "${packages[@]/%//trixie}"
for deb in "$apt_dir"/debs/*.deb; do dpkg-deb -x "$deb" "$work/root"; done

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
