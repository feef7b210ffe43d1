# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# fio in the guest, which verifies what it reads: random reads, writes, flushes and discards at depths of 1
# to 128 requests, on both engines with 1 and 4 queues, all at once. SKEP_FIO_ROUNDS=N does it N times.

test_fio() {
	local rounds=${SKEP_FIO_ROUNDS:-1} disks=() fs image round depth s
	local -A images
	[[ $rounds =~ ^[1-9][0-9]*$ ]] || die "SKEP_FIO_ROUNDS wants a number, not '$rounds'"
	for s in uring.1 uring.4 sync.1 sync.4; do
		case $s in uring.1) fs=xfs ;; sync.1) fs=btrfs ;; *) fs=ext4 ;; esac
		image=$work/on/$fs/fio.$s
		truncate -s "${s#*.}M" "$image"
		images[$s]=$image
		disks+=(-d "$image,serial=$s,engine=${s%.*},queues=${s#*.}")
	done
	start -k "$fio/vmlinuz" -i "$fio/initrd" -m 768M -c 4 "${disks[@]}" -a "skep.mount=off -- /t/fio $rounds"
	finish $((60 * rounds))
	ends "fio: the guest powered off" 0
	for ((round = 0; round < rounds; round++)); do
		for depth in 1 8 32 128; do
			is "fio: verified at depth $depth" "$(value "verified.$round.$depth")" yes
		done
	done
	for s in "${!images[@]}"; do
		is "fio, $s: what is discarded reads as zeros" "$(value "nonzero.$s")" ""
		is "fio, $s: the image holds what the guest reads" "$(md5sum <"${images[$s]}")" "$(value "sum.$s")"
		# The half that was written last.
		settles "fio, $s: the image gave back what was discarded" "${images[$s]}" $((${s#*.} * mib / 2 + 256))
	done
	check "fio: no request failed, and there were some of each kind" python3 -c '
import json, sys
for disk in json.load(open(sys.argv[1]))["disks"]:
    assert disk["errors"] == 0, disk
    assert min(disk[kind] for kind in ("reads", "writes", "flushes", "discards")) > 0, disk
    print(disk)' "$vm/result"
	grep -ho "'reads.*'discards': [0-9]*" "$work/check" | sed 's/^/# /' || true
}
