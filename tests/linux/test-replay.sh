# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Every moment at which the power could have failed: the device mapper's log-writes target records what reaches
# a disk, in order, while the guest makes files and waits until each is stable. SKEP_REPLAY_POINTS=N looks at the
# disk after N of the flushes.

# shellcheck disable=SC2317 # the trap calls it
clean_up_replay() {
	end_vm
	dmsetup remove --retry skep-log 2>/dev/null || true
	detach "${log_loops[@]}"
	rm -f "$work"/log.*
}

# replay ENGINE
replay() {
	local files=40 points=${SKEP_REPLAY_POINTS:-12}
	[[ $points =~ ^[1-9][0-9]*$ ]] || die "SKEP_REPLAY_POINTS wants a number, not '$points'"
	truncate -s 32M "$work/log.disk"
	truncate -s 256M "$work/log.log"
	mkfs.ext4 -q "$work/log.disk"
	cp --sparse=always "$work/log.disk" "$work/log.replayed"
	log_loops=("$(losetup -f --show "$work/log.disk")")
	log_loops+=("$(losetup -f --show "$work/log.log")")
	mapper skep-log "0 65536 log-writes ${log_loops[*]}"
	boot -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 256M -d "/dev/mapper/skep-log,serial=log,engine=$1" \
		-a "skep.mount=off -- /t/journal $files"
	ends "replay, $1: the guest powered off" 0
	is "replay, $1: the guest made its files" "$(value files)" $files
	dmsetup remove --retry skep-log
	detach "${log_loops[@]}"
	log_loops=()
	mkdir -p "$work/replayed"
	check "replay, $1: at each flush, all is there that was stable" python3 "$here/replay.py" "$work/log.log" \
		"$work/log.replayed" "$work/log.copy" "$work/replayed" "$points" $files
	sed 's/^/# /' "$work/check"
	rm -f "$work"/log.*
}

test_replay() {
	# Not local, for the trap.
	log_loops=()
	if ! modprobe dm-log-writes 2>/dev/null && ! dmsetup targets | grep -q log-writes; then
		skip "replay" "this kernel has no dm-log-writes"
		return
	fi
	trap clean_up_replay EXIT
	replay uring
	replay sync
}
