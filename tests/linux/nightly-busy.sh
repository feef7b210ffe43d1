# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# A guest with more to do than there are processors, for SKEP_BUSY_SECONDS (default: 3600): disks on
# both engines, the console, drivers that come and go; meanwhile the control socket and KVM's statistics are
# read, and every processor is busy with something else. No interrupt is lost, and the end is clean.

# In the background: as much other work as there are processors, and questions to the VM until it has ended.
other_work() {
	local _
	for _ in $(seq "$(nproc)"); do
		(exec 7>&- && while running; do for _ in $(seq 100000); do :; done; done) &
	done
}
ask() {
	while running; do
		"$skep" control "$work/socket" status >/dev/null 2>&1 || true
		"$skep" control "$work/socket" limit-disk uring.1.1 --iops 1000000 >/dev/null 2>&1 || true
		find /sys/kernel/debug/kvm -type f -exec cat {} + >/dev/null 2>&1 || true
		sleep 0.4
	done
}

busy_guest() { # busy_guest SECONDS
	local disks=() serials=(uring.1.1 sync.1.1 move-uring.4.32 move-sync.2.8) n=0 s engine queues still clock
	if ! modprobe null_blk "nr_devices=${#serials[@]}" gb=1; then
		skip "busy" "this kernel has no null_blk"
		return
	fi
	for s in "${serials[@]}"; do
		IFS=. read -r engine queues _ <<<"${s#move-}"
		disks+=(-d "/dev/nullb$n,cache=none,discard=ignore,serial=$s,engine=$engine,queues=$queues")
		n=$((n + 1))
	done
	start -k "$fio/vmlinuz" -i "$fio/initrd" -m 512M -c 4 "${disks[@]}" --control "$work/socket" \
		-a "skep.mount=off -- /t/busy $1"
	other_work
	(exec 7>&- && ask) &
	(exec 7>&- && exec "$here/standstill.py" >"$work/standstill") &
	clock=$!
	finish "$1"
	kill "$clock"
	wait "$clock" || true
	ends "busy: the guest powered off" 0
	is "busy: every request was answered" "$(value over)" yes
	# What is waited for while the guest itself or the lab stands still is not skep's.
	still=$(($(value still) + $(<"$work/standstill")))
	for s in "${serials[@]}"; do
		at_least "busy, $s: fio did its turns" "$(value "turns.$s")" 1
		case $s in
		*.1) at_most "busy, $s: no request waited while the guest went on" "$(value "longest.$s")" $((2000 + still)) ;;
		move*) at_least "busy, $s: its driver came and went" "$(value "moves.$s")" 1 ;;
		esac
	done
	check "busy: no request failed" python3 -c '
import json, sys
for disk in json.load(open(sys.argv[1]))["disks"]:
    assert disk["errors"] == 0 and disk["reads"] > 0 and disk["writes"] > 0, disk
    print(disk)' "$vm/result"
	echo "# the guest stood still for $(value still) ms at most, the host for $(<"$work/standstill");" \
		"requests took $(value longest.uring.1.1) and $(value longest.sync.1.1); $(grep -c . "$out") lines on the console"
}

test_busy() {
	busy_guest "${SKEP_BUSY_SECONDS:-3600}"
}
