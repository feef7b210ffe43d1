# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What every script in tools/ shares: messages, packages, the cache. Sourced,
# never run. The caller has `set -eu`.

shopt -s inherit_errexit

# Others may read what is made here, and none may write to it: skep uses no cache of which that is not so.
umask 022
# As ~, which needs no HOME.
export HOME=${HOME:-~}
# depmod and mkfs are not on an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin

prog=${0##*/}

say() { printf '%s: %s\n' "$prog" "$*" >&2; }
die() { say "$*"; exit 125; }
usage_error() { say "$*"; say "try '$prog --help'"; exit 2; }

# Print the comment block at the head of the calling script as its help text.
usage_from_header() {
	sed -n '/^#:/s/^#: \{0,1\}//p' "$1"
}

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { [ "$(id -u)" = 0 ]; }

# Parts that take time to make live outside the tree, apart for each release of
# the distribution because they are built from its packages.
tools_cache() {
	local base release
	if [ -n "${SKEP_TOOLS_CACHE:-}" ]; then
		base=$SKEP_TOOLS_CACHE
	elif is_root; then
		base=/var/cache/skep/tools
	else
		base=${XDG_CACHE_HOME:-$HOME/.cache}/skep/tools
	fi
	# shellcheck source=/dev/null
	release=$(. /etc/os-release && printf '%s' "${ID:-linux}-${VERSION_CODENAME:-${VERSION_ID:-unknown}}")
	mkdir -p "$base/$release"
	printf '%s\n' "$base/$release"
}

missing_packages() {
	local want have_list p
	want=("$@")
	have_list=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${want[@]}" 2>/dev/null || true)
	for p in "${want[@]}"; do
		case $'\n'"$have_list"$'\n' in
		*$'\n'"$p installed"$'\n'*) ;;
		*) printf '%s\n' "$p" ;;
		esac
	done
}

# apt ARG...: apt-get, which waits while another process has apt's or dpkg's locks.
apt() {
	local said status waits_for='' lock
	while :; do
		said=$(LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" 2>&1 |
			tee >(sed -u '/Could not get lock/,$d' >&2) && exit "${PIPESTATUS[0]}") && return 0 || status=$?
		lock=$(grep -m 1 'Could not get lock' <<<"$said") || return $status
		[ "$lock" = "$waits_for" ] || say "waiting: ${lock#E: }"
		waits_for=$lock
		sleep 1
	done
}

apt_update() { apt -o APT::Update::Error-Mode=any update; }

# A fresh image has no package lists at all.
apt_lists() {
	# shellcheck disable=SC2016 # apt's own placeholder
	if [ "${1:-}" != refresh ] && [ -n "$(apt-get indextargets --format '$(IDENTIFIER)' 'Created-By: Packages')" ]; then
		return 0
	fi
	is_root || die "the package lists are missing or old: run 'apt-get update' as root first"
	say "fetching the package lists"
	apt_update || say "not all of them could be fetched"
}

# own_apt DIR SOURCES [deb-src]: from here on, in this shell, apt is one with files of its own in DIR, which takes no
# root: its sources are these lines ("URI SUITE COMPONENT..."), of packages or of their source code, and what it takes
# for installed is what DIR/status says.
own_apt() {
	local dir=$1 kind=${3:-deb} target=Packages line
	[ "$kind" = deb ] || target=Sources
	mkdir -p "$dir"/{lists,cache/archives}/partial
	while read -r line; do
		echo "$kind [target=$target signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $line"
	done <<<"$2" >"$dir/sources.list"
	touch "$dir/status"
	cat >"$dir/apt.conf" <<-END
		Dir::Etc { SourceList "$dir/sources.list"; SourceParts "/dev/null"; Preferences "/dev/null"; PreferencesParts "/dev/null"; };
		Dir::State { Lists "$dir/lists"; Status "$dir/status"; };
		Dir::Cache "$dir/cache";
		APT::Sandbox::User "root";
	END
	export APT_CONFIG=$dir/apt.conf
	say "fetching the package lists of Debian"
	apt_update || die "could not fetch the package lists: is this a suite of Debian's archive, and is there a network?"
}

# need_packages PKG...: install those that are missing.
need_packages() {
	local list
	list=$(missing_packages "$@")
	[ -n "$list" ] || return 0
	# One per line to words: package names hold no blanks.
	# shellcheck disable=SC2086
	set -- $list
	is_root || die "missing packages: $*: install them with 'apt-get install $*' as root"
	apt_lists
	say "installing $*"
	apt --no-install-recommends install "$@" ||
		{ apt_lists refresh && apt --no-install-recommends install "$@"; } || die "could not install $*"
}

# deb_unpack DIR PKG...: download packages and unpack them into DIR without
# installing them (a kernel in the host's /boot would become its next boot).
deb_unpack() {
	local dir=$1 deb
	shift
	apt_lists
	mkdir -p "$dir.debs" "$dir"
	say "downloading $*"
	# The lists may name a version that the archive has replaced since.
	apt_download "$dir.debs" "$@" || { apt_lists refresh && apt_download "$dir.debs" "$@"; } ||
		die "could not download $*"
	for deb in "$dir.debs"/*.deb; do
		dpkg-deb -x "$deb" "$dir"
	done
	rm -rf "$dir.debs"
}

# As root, apt would drop to a user that may not write here.
apt_download() { (cd "$1" && apt -o APT::Sandbox::User=root download "${@:2}"); }

# once DIR FUNCTION [ARGS...]: make DIR by calling FUNCTION NEWDIR ARGS..., unless it
# exists; safe against concurrent calls and interrupted ones.
once() { [ -d "$1" ] || make_dir once "$@"; }

# anew DIR FUNCTION [ARGS...]: the same if it exists: what it holds stays until there is new.
anew() { make_dir anew "$@"; }

# Locks hold on the host and in each lab alone, and all have one cache: so what is being made has a name of its own, and
# the first to be ready is it.
make_dir() {
	local how=$1 dir=$2 make=$3 new tries
	shift 3
	mkdir -p "${dir%/*}"
	(
		flock 9
		# An interrupted call may have left it there.
		[ -d "$dir" ] || [ ! -d "$dir.old" ] || mv -T "$dir.old" "$dir"
		[ "$how" = anew ] || [ ! -d "$dir" ] || exit 0
		find "${dir%/*}" -maxdepth 1 -name "${dir##*/}.new.*" -mmin +1440 -exec rm -rf {} +
		new=$(mktemp -d "$dir.new.XXXXXX")
		# shellcheck disable=SC2064 # now
		trap "rm -rf '$new'" EXIT
		chmod +rx "$new"
		"$make" "$new" "$@"
		# Another may do the same at this moment.
		tries=0
		until [ "$how" = once ] || [ ! -d "$dir" ] || mv -T "$dir" "$dir.old" 2>/dev/null; do
			rm -rf "$dir.old"
			tries=$((tries + 1))
			[ $tries -lt 100 ] || die "cannot move $dir away"
		done
		mv -T "$new" "$dir" 2>/dev/null || [ -d "$dir" ] || die "cannot make $dir"
		rm -rf "$dir.old"
	) 9>"$dir.lock"
}
