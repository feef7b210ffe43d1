# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Hosts that deny something: the VM runs all the same, and says what it does without.

test_no_uring() {
	local hosts=(ext4)
	# shellcheck disable=SC2034 # read by start
	wrap=("$helpers/no-uring")
	check "the wrapper denies io_uring" "${wrap[@]}" python3 -c '
import ctypes, errno
assert ctypes.CDLL(None, use_errno=True).syscall(425, 1, 0) == -1 and ctypes.get_errno() == errno.EPERM'
	discard_story "without io_uring" ""
	check "without io_uring: it says so" complained 'io_uring'
	check "without io_uring: it names the engine it uses" complained 'sync'
}

# A host file system without room: the guest sees an I/O error, and the VM goes on.
test_host_disk_full() {
	mkdir -p "$work/small"
	mount -t tmpfs -o size=8M tmpfs "$work/small"
	truncate -s 64M "$work/small/disk"
	# shellcheck disable=SC2016
	boot -k "$cloud/vmlinuz" -i "$cloud/initrd" -d "$work/small/disk,serial=full" -a 'skep.mount=off -- /t/full'
	ends "host disk full: the guest goes on to its power-off" 0
	is "host disk full: the write fails" "$(value write)" failed
	is "host disk full: what fits can be written and read" "$(value small)" same
	is "host disk full: discards make room again" "$(value after)" ok
	umount "$work/small"
}

# The same with werror=enospc-pause: the guest waits until the host has room, and loses nothing.
test_host_disk_full_pauses() {
	mkdir -p "$work/small"
	mount -t tmpfs -o size=8M tmpfs "$work/small"
	truncate -s 24M "$work/small/disk"
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -d "$work/small/disk,serial=full,werror=enospc-pause" \
		-a 'skep.mount=off -- /t/wait'
	eventually complained 'writes wait' || true
	check "host disk full, writes wait: it says so" complained 'no space is left'
	mount -o remount,size=64M "$work/small"
	finish
	ends "host disk full, writes wait: the guest powered off" 0
	is "host disk full, writes wait: the write succeeds" "$(value write)" succeeded
	is "host disk full, writes wait: nothing is lost" "$(sha "$work/small/disk")" "$(value sum)"
	check "host disk full, writes wait: it says that it goes on" complained 'goes on'
	check "host disk full, writes wait: the result counts it" python3 -c '
import json, sys
disk = json.load(open(sys.argv[1]))["disks"][0]
assert disk["space_pauses"] >= 1 and disk["errors"] == 0, disk' "$vm/result"
	umount "$work/small"
}
