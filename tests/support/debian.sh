# To be sourced: Debian's packages without touching the machine's own apt. Wants $folder, $work (an empty tree), say, and
# in `sources` the lines of a sources.list, with MIRROR where the mirror stands.
# The addresses of the mirrors are read from this machine's own apt configuration.
apt_dir=$work/apt
mkdir -p "$apt_dir/lists/partial" "$apt_dir/archives/partial" "$apt_dir/debs"

# An apt configuration of its own, so that the machine's is neither changed nor needed to be complete.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Identifier: Packages' 'Origin: Debian' |
  awk '$2 !~ /-/ { print $1; exit }')
[ -n "$mirror" ] || {
  say "no Debian mirror in this machine's apt configuration: add one, or run apt-get update"
  exit 1
}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
printf '%s\n' "${sources[@]}" | sed "s|\[|[signed-by=$keyring |; s|MIRROR|$mirror|" >"$apt_dir/sources.list"
apt_own=(-q -o "Dir::Etc::sourcelist=$apt_dir/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o "Dir::State::lists=$apt_dir/lists" -o "Dir::Cache::archives=$apt_dir/archives" -o APT::Sandbox::User=root)
say "reading package lists"
apt-get "${apt_own[@]}" update >"$work/apt.log" 2>&1 || { tail -5 "$work/apt.log" >&2; exit 1; }

fetch_deb() { # PACKAGE[/RELEASE] ... -> $apt_dir/debs
  (cd "$apt_dir/debs" && apt-get "${apt_own[@]}" download "$@" >>"$work/apt.log" 2>&1) || {
    tail -5 "$work/apt.log" >&2
    exit 1
  }
}

fetch_etcd() { # -> $folder/etcd
  [ ! -x "$folder/etcd" ] || return 0
  say "fetching etcd"
  fetch_deb etcd-server/bookworm
  dpkg-deb -x "$apt_dir"/debs/etcd-server_*.deb "$work/etcd"
  install -m 755 "$work/etcd/usr/bin/etcd" "$folder/etcd"
}
