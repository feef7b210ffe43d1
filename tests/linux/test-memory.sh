# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What the guest frees of its memory, the host gets back.

# KiB of memory that the VM has of the host.
resident() { awk '/^VmRSS:/ { print $2 }' "/proc/$vm_pid/status"; }
resides() { [ "$(resident)" -le "$1" ]; }
# shrinks NAME LIMIT: in the end it has at most LIMIT KiB.
shrinks() {
	eventually resides "$2" || true
	at_most "$1" "$(resident)" "$2"
}
balloon_is() { control status --json && python3 -c '
import json, sys
sys.exit(json.load(open(sys.argv[1]))["balloon"]["size"] != int(sys.argv[2]) << 20)' "$work/control" "$1"; }

test_memory() {
	local mib=1024 idle used
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 384M --control "$work/socket" -a 'skep.mount=off -- /t/memory'
	step idle
	idle=$(resident)
	go on
	step used
	used=$(resident)
	echo "# resident: $idle KiB, and with what is used $used"
	at_least "what the guest uses is the host's memory" $((used - idle)) $((96 * mib))
	go on
	step freed
	shrinks "what it frees is the host's again, but for the 16 MiB that it keeps" $((idle + (16 + 48) * mib))
	go on
	step again
	is "and the guest has it again" "$(value sum.again)" "$(value sum)"
	go on
	step freed-again

	check "a balloon of 200 MiB" control balloon 200
	eventually balloon_is 200 || true
	check "is blown up" balloon_is 200
	go on
	step small
	at_most "the guest has so much less (KiB)" "$(value free.small)" $(($(value free) - 180 * mib))
	check "and is given its memory" control balloon 0
	eventually balloon_is 0 || true
	check "again" balloon_is 0
	check "the statistics are those of the guest" python3 -c '
import json, sys
guest = json.load(open(sys.argv[1]))["balloon"]["guest"]
sys.exit(not 150 << 20 < guest["available_bytes"] <= guest["total_bytes"] < 384 << 20)' "$work/control"
	go on
	step used-again
	is "which is as good as before" "$(value sum.last)" "$(value sum)"
	go on
	finish
	ends "the guest powered off" 0
	is "nothing to complain about" "$(cat "$vm/err")" ""
	check "the result tells what went back" python3 -c '
import json, sys
b = json.load(open(sys.argv[1]))["balloon"]
sys.exit(not (b["reported_bytes"] >= b["returned_bytes"] - b["inflated_bytes"] > 160 << 20 and b["inflated_bytes"] >= 200 << 20))' "$vm/result"
	rm -f "$work/socket"
}

# The page cache of an idle guest goes, without its help.
test_idle() {
	local mib=1024 idle used
	head -c 160M /dev/urandom >"$work/data.img"
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 384M -d "$work/data.img,serial=data" --balloon drop-caches=15s \
		--control "$work/socket" -a 'skep.mount=off -- /t/idle'
	step start
	idle=$(resident)
	go on
	step cached
	used=$(resident)
	at_least "what a guest reads is in its page cache (KiB)" "$(value cached)" $((150 * mib))
	at_least "which is the host's memory" $((used - idle)) $((140 * mib))
	shrinks "and goes back when the guest is idle" $((idle + 72 * mib))
	eventually balloon_is 0 || true
	check "the balloon has let go" balloon_is 0
	go on
	finish
	ends "the guest powered off" 0
	at_most "the guest dropped it (KiB)" "$(value dropped)" $((64 * mib))
	is "it reads the same again" "$(value sum.again)" "$(sha "$work/data.img")"
	is "as at first" "$(value sum)" "$(value sum.again)"
	is "nothing to complain about" "$(cat "$vm/err")" ""
	rm -f "$work/socket" "$work/data.img"
}

# gets_to MIB: in the end the guest has so much memory, as it was asked for.
gets_to() {
	check "asked for $1 MiB" control memory "$1"
	eventually has_memory "$1" || true
	check "the guest has $1 MiB" has_memory "$1"
}
has_memory() { control status --json && python3 -c '
import json, sys
m = json.load(open(sys.argv[1]))["memory"]
sys.exit(not m["size"] == m["target"] == int(sys.argv[2]) << 20)' "$work/control" "$1"; }

# What the host's processors do not reach is refused before a guest dies of it.
test_too_much_memory() {
	local bits
	bits=$(sed -n 's/^address sizes.*: \([0-9]*\) bits physical.*/\1/p' /proc/cpuinfo | head -n 1)
	if [ "$bits" -gt 43 ]; then
		skip "memory beyond what processors address" "they address $bits bits here, and --memory is up to 44"
		return
	fi
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -m "start=256M,max=$((1 << (bits - 30)))G"
	finish
	ends "memory beyond what processors address" 125
	check "is not to be had" complained "this host's processors address $((1 << (bits - 30))) GiB .$bits bits.: ask for less"
}

test_hotplug() {
	local mib=1024 idle used shrunk
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -m start=256M,max=1G -c 2 --control "$work/socket" \
		-a 'skep.mount=off -- /t/hotplug'
	step start
	idle=$(resident)
	gets_to 768
	go on
	step used
	used=$(resident)
	is "what is added can be used" "$(value same)" 24
	at_least "the guest sees it (KiB)" "$(value total.grown)" $(($(value total) + 500 * mib))
	at_least "it is the host's memory" $((used - idle)) $((360 * mib))
	go on
	step freed
	gets_to 384
	shrunk=$((idle + (64 + 16 + 96) * mib))
	shrinks "what was taken away, under load, is the host's again" $shrunk
	go on
	step shrunk
	is "nothing that was in use is lost" "$(value same.shrunk)" 4
	at_most "the guest sees that (KiB)" "$(value total.shrunk)" $(($(value total.grown) - 380 * mib))
	gets_to 1024
	go on
	step again
	is "it grows again" "$(value same.again)" 12
	gets_to 256
	go on
	step bound
	is "under load all was well" "$(value broken)" no
	is "in the end it has what it began with" "$(value total.end)" "$(value total)"
	gets_to 512
	go on
	finish
	ends "the guest powered off" 0
	at_least "it grows after the driver was bound anew" "$(value total.bound)" $(($(value total) + 250 * mib))
	is "nothing to complain about" "$(cat "$vm/err")" ""
	check "the result tells what went back" python3 -c '
import json, sys
m = json.load(open(sys.argv[1]))["memory"]
sys.exit(not (m["plugged_bytes"] == 256 << 20 and m["max"] == 1 << 30 and m["returned_bytes"] >= 1152 << 20))' "$vm/result"
	rm -f "$work/socket"
}
