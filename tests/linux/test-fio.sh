# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# fio in the guest, which verifies what it reads: random reads, writes, flushes and discards at depths of 1
# to 128 requests, on both engines with 1, 2 and 4 queues, all at once. SKEP_FIO_ROUNDS=N does it N times.

test_fio() {
	local rounds=${SKEP_FIO_ROUNDS:-1} disks=() engine queues fs image round depth s
	local -A images
	[[ $rounds =~ ^[1-9][0-9]*$ ]] || die "SKEP_FIO_ROUNDS wants a number, not '$rounds'"
	for engine in uring sync; do
		for queues in 1 2 4; do
			case $queues in 1) fs=ext4 ;; 2) fs=xfs ;; 4) fs=btrfs ;; esac
			image=$work/on/$fs/fio.$engine
			truncate -s ${queues}M "$image"
			images[$engine.$queues]=$image
			disks+=(-d "$image,serial=$engine.$queues,engine=$engine,queues=$queues")
		done
	done
	start -k "$fio/vmlinuz" -i "$fio/initrd" -m 768M -c 4 "${disks[@]}" -a "skep.mount=off -- /t/fio $rounds"
	finish $((60 + rounds * 180))
	ends "fio: the guest powered off" 0
	for ((round = 0; round < rounds; round++)); do
		for depth in 1 8 32 128; do
			is "fio: verified at depth $depth" "$(value "verified.$round.$depth")" yes
		done
	done
	for s in "${!images[@]}"; do
		is "fio, $s queues: what is discarded reads as zeros" "$(value "nonzero.$s")" ""
		is "fio, $s queues: the image holds what the guest reads" "$(md5sum <"${images[$s]}")" "$(value "sum.$s")"
		# The half that was written last.
		settles "fio, $s queues: the image gave back what was discarded" "${images[$s]}" $((${s#*.} * mib / 2 + 256))
	done
	check "fio: no request failed, and there were some of each kind" python3 -c '
import json, sys
for disk in json.load(open(sys.argv[1]))["disks"]:
    assert disk["errors"] == 0, disk
    assert min(disk[kind] for kind in ("reads", "writes", "flushes", "discards")) > 0, disk
    print(disk)' "$vm/result"
	grep -ho "'reads.*'discards': [0-9]*" "$work/check" | sed 's/^/# /' || true
}
