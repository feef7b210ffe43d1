# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What every script in tools/ shares: messages, packages, the cache. Sourced,
# never run. The caller has `set -eu`.

shopt -s inherit_errexit

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

# A fresh image has no package lists at all.
apt_lists() {
	local lists
	lists=$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -print -quit 2>/dev/null || true)
	if [ -z "$lists" ] || [ "${1:-}" = refresh ]; then
		is_root || die "the package lists are missing: run 'apt-get update' as root first"
		say "fetching the package lists"
		apt-get -q update >&2
	fi
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
	DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@" >&2 ||
		{
			apt_lists refresh
			DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@" >&2
		} || die "could not install $*"
}

# deb_unpack DIR PKG...: download packages and unpack them into DIR without
# installing them (a kernel in the host's /boot would become its next boot).
deb_unpack() {
	local dir=$1 tmp deb
	shift
	apt_lists
	tmp=$(mktemp -d)
	say "downloading $*"
	# As root, apt would drop to a user that may not write here.
	if ! (cd "$tmp" && apt-get -q -o APT::Sandbox::User=root download "$@" >&2); then
		# The lists may name a version that the archive has replaced since.
		apt_lists refresh
		(cd "$tmp" && apt-get -q -o APT::Sandbox::User=root download "$@" >&2) ||
			{ rm -rf "$tmp"; die "could not download $*"; }
	fi
	mkdir -p "$dir"
	for deb in "$tmp"/*.deb; do
		dpkg-deb -x "$deb" "$dir"
	done
	rm -rf "$tmp"
}

# once DIR FUNCTION [ARGS...]: make DIR by calling FUNCTION NEWDIR ARGS..., unless it
# exists; safe against concurrent calls and interrupted ones.
once() {
	local dir=$1 make=$2
	shift 2
	[ -d "$dir" ] && return 0
	mkdir -p "${dir%/*}"
	(
		flock 9
		[ -d "$dir" ] && exit 0
		rm -rf "$dir.new"
		mkdir "$dir.new"
		"$make" "$dir.new" "$@"
		mv -T "$dir.new" "$dir"
	) 9>"$dir.lock"
}
