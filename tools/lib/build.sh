# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Building the monitor, and asking it about this host. Sourced after common.sh.

# shellcheck disable=SC2034 # the sourcing script installs them
build_packages="gcc libc6-dev meson ninja-build pkg-config python3
	liburing-dev libseccomp-dev libjansson-dev libmd-dev
	zlib1g-dev libzstd-dev liblz4-dev liblzma-dev libbz2-dev"

# build_skep SOURCE DIR [MESON_OPTION...]: build in DIR, quietly unless it fails. Two calls do it
# one after the other.
build_skep() {
	local dir=$2
	mkdir -p "$dir"
	if ! meson_build "$@"; then
		tail -n 60 "$dir/build.log" >&2
		return 1
	fi
}
meson_build() (
	tree=$1 dir=$2
	shift 2
	exec 8<"$dir"
	flock 8
	exec >"$dir/build.log" 2>&1
	if [ -e "$dir/build.ninja" ]; then
		meson configure "$dir" "$@"
	else
		meson setup "$dir" "$tree" "$@"
	fi && meson compile -C "$dir"
)

# kvm_runs_kernels SKEP: whether a stock kernel boots here at hardware speed. A
# software KVM emulates kernel code one instruction at a time.
kvm_runs_kernels() {
	"$1" check --json 2>/dev/null | python3 -c '
import json, sys
try:
    sys.exit(0 if json.load(sys.stdin)["kvm"]["accelerated"] is True else 1)
except (ValueError, KeyError, TypeError):
    sys.exit(1)'
}
