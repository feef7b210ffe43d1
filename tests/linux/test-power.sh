# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# The power fails: what was written and not flushed is gone with the host's page cache, which a kill
# of the monitor does not do. A device-mapper target drops all writes from a random moment on; the
# guest is the payload's test "crash" (tests/guest/crash_areas.h).

power_sectors=65536
power_runs=8

# power on|off: all writes reach the disk, or none does, and nobody is told.
power() {
	local table="0 $power_sectors flakey $loop 0 1000 0"
	if [ "$1" = off ]; then
		table="0 $power_sectors flakey $loop 0 0 1000 1 drop_writes"
	fi
	# No file system is frozen, which would flush it.
	dmsetup suspend --nolockfs skep-power
	dmsetup load skep-power --table "$table"
	dmsetup resume skep-power
}

# acknowledged: the last round that the guest said in a whole line; 0 when none.
acknowledged() {
	local line n=0
	while read -r line; do
		line=${line%$'\r'}
		case $line in
		acked=*) n=${line#acked=} ;;
		esac
	done <"$out"
	echo "$n"
}

# until_ok COMMAND...: a killed monitor's io_uring keeps its disk for a moment.
until_ok() { eventually "$@" 2>/dev/null || "$@"; }

is_closed() { [ "$(dmsetup info -c --noheadings -o open skep-power)" = 0 ]; }

# fail_power raw|ext4 OPTIONS RUN: one VM and one failure. False, with $why, when the disk does not
# hold what was acknowledged before it.
fail_power() {
	# Not left to set -e, which the caller's `if` turns off.
	local disk=/dev/mapper/skep-power before
	if [ "$1" = ext4 ]; then
		mkdir -p "$work/power"
		mkfs.ext4 -qF "$disk"
		mount "$disk" "$work/power"
		disk=$work/power/disk.img
	fi
	"$image" fill "$work/fresh" 4096
	dd if="$work/fresh" of="$disk" bs=64k conv=fsync,notrunc 2>/dev/null
	sync
	start -k "$payload" -m 64M -d "$disk,$2" -a "test=crash run=$3"
	await '^acked=' || {
		why="the guest did not come to write"
		return 1
	}
	sleep "0.$(printf %03d $((RANDOM % 300)))"
	before=$(acknowledged)
	power off
	kill -KILL "$vm_pid"
	wait "$vm_pid" 2>/dev/null || true
	vm_pid=
	exec 7>&-
	if [ "$1" = ext4 ]; then
		until_ok umount "$work/power"
	fi
	until_ok is_closed
	power on
	if [ "$1" = ext4 ]; then
		mount /dev/mapper/skep-power "$work/power"
	fi
	total=$((total + before))
	why=$("$image" crash "$disk" "$before" "$3" lost 2>&1) && why=
	if [ "$1" = ext4 ]; then
		umount "$work/power"
	fi
	[ -z "$why" ]
}

# shellcheck disable=SC2317 # the trap calls it
clean_up_power() {
	end_vm
	umount "$work/power" 2>/dev/null || true
	until_ok dmsetup remove skep-power
	detach "$loop"
}

# power_failures NAME raw|ext4 OPTIONS
power_failures() {
	local run total=0
	for run in $(seq $power_runs); do
		if ! fail_power "$2" "$3" "$run"; then
			not_ok "$1: nothing acknowledged is lost" "run $run: $why"
			return
		fi
	done
	ok "$1: nothing acknowledged is lost"
	echo "# $total rounds of 16 writes in $power_runs runs"
}

test_power_failure() {
	local total=0 why='' payload=$helpers/../guest/payload image=$helpers/../guest/guest-image
	if ! modprobe dm-flakey 2>/dev/null && ! dmsetup targets | grep -q flakey; then
		skip "power failures" "this kernel has no dm-flakey"
		return
	fi
	trap clean_up_power EXIT
	truncate -s $((power_sectors / 2))K "$work/power.disk"
	loop=$(losetup -f --show "$work/power.disk")
	# With udev or without.
	dmsetup create --verifyudev skep-power --table "0 $power_sectors flakey $loop 0 1000 0"
	dmsetup mknodes skep-power
	power_failures "a device, io_uring" raw engine=uring
	power_failures "a device, sync" raw engine=sync
	power_failures "a device, write-through" raw cache=writethrough
	power_failures "a file on ext4" ext4 engine=uring
	power_failures "a file on ext4, write-through" ext4 cache=writethrough
	# That this can be seen at all: who asks for no flushes gets none.
	fail_power raw cache=unsafe 1 || true
	is "cache=unsafe loses something" "${why/*nor one after*/lost}" lost
}
