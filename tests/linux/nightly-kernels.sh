# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# The kernels of Debian's releases, as the archive has them today, whatever the host's is.

kernel_suites="bullseye bookworm bookworm-backports trixie trixie-backports sid"
declare -A kernel_of

prepare_kernels() {
	local suite kernel
	for suite in $kernel_suites; do
		# As of today, where there may be a network.
		kernel=$(tools_cache)/kernel/$(kernel_meta_package cloud)@$suite
		if [ -z "${SKEP_LAB:-}" ] && [ -n "$(find "$kernel" -maxdepth 0 -mmin +720 2>/dev/null)" ]; then
			refresh_kernel cloud "$suite" >/dev/null
		fi
		kernel_of[$suite]=$(guest_for cloud tools "$suite")
	done
}

kernel_story() { # kernel_story SUITE
	# A serial number has 20 characters.
	local name=${1/backports/bpo} tools=${kernel_of[$1]}
	echo "# $1: Linux $(cat "$tools/release")"
	named_image "$work/one" solo
	boot -k "$tools/vmlinuz" -i "$tools/initrd" -m 256M -c 2 -d "$work/one,serial=solo" \
		-a 'skep.mount=off -- /t/machine panic'
	ends "$name: panic is 121" 121
	is "$name: sees both CPUs" "$(value online)" 0-1
	is "$name: finds its disk" "$(value right)" 1
	is "$name: the clock is kvmclock" "$(value clock)" kvm-clock
	truncate -s 512M "$work/on/ext4/$name.disk"
	devices_story uring "$name.ext4=$work/on/ext4/$name.disk"
	rm "$work/on/ext4/$name.disk"
}

test_kernels() {
	local suite
	for suite in $kernel_suites; do attempt "$suite" kernel_story "$suite"; done
}
