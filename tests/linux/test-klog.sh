# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154
#
# The guest kernel's log, read from its memory.

not_complained() { ! complained "$1"; }

# log_has REGEX: the result's kernel_log has a line that matches.
log_has() {
	python3 -c 'import json, re, sys
log = json.load(open(sys.argv[1]))["kernel_log"] or []
sys.exit(not any(re.search(sys.argv[2], line) for line in log))' "$vm/result" "$1"
}

# An initrd without drivers, or an init.
empty_initrd() {
	mkdir -p "$work/empty"
	(cd "$work/empty" && find . | cpio -o -H newc --quiet) >"$work/empty.cpio"
}

# A panic whose text nobody was shown: its last lines are in skep's own message, and in the result.
test_kernel_log_after_a_panic() {
	local cpus
	for cpus in 1 4; do
		boot -k "$cloud/vmlinuz" -i "$cloud/initrd" -c "$cpus" --console "file=$work/panic.log" -a 'skep.init=panic'
		ends "$cpus CPUs: a panic is 121" 121
		check "$cpus CPUs: the message has the kernel's last words" \
			complained '^\[ +[0-9]+\.[0-9]{6}\] Kernel panic - not syncing: sysrq'
		check "$cpus CPUs: and what came before them" complained '^\[ +[0-9]+\.[0-9]{6}\] sysrq: Trigger a crash'
		check "$cpus CPUs: so has the result" log_has 'Kernel panic - not syncing'
	done
	boot -k "$cloud/vmlinuz" -i "$cloud/initrd" -a 'skep.init=panic'
	ends "a panic on the console is 121" 121
	check "what the console showed is not said again" not_complained "kernel's log"
	check "but is in the result" log_has 'Kernel panic - not syncing'
	boot -k "$cloud/vmlinuz" -i "$cloud/initrd" --console off -a 'skep.init=off'
	ends "a power-off is 0" 0
	check "nothing is said of its log" not_complained .
	is "nor has the result one" "$(result kernel_log)" None
}

test_kernel_log_before_the_console() {
	local seconds
	empty_initrd
	boot -k "$cloud/vmlinuz" -i "$work/empty.cpio"
	ends "without drivers: a panic is 121" 121
	check "the message says why" complained '^\[ +[0-9]+\.[0-9]{6}\] Kernel panic - not syncing: .*(root|init)'
	# It hangs instead; if it did not come so far, with more time.
	for seconds in 20 60 "$boot_patience"; do
		boot -k "$cloud/vmlinuz" -i "$work/empty.cpio" --timeout "$seconds" -a 'panic=0'
		! complained 'Kernel panic' || break
	done
	ends "a hung guest that runs out of time is 124" 124
	check "the message says why it hangs" complained '^\[ +[0-9]+\.[0-9]{6}\] Kernel panic - not syncing'
}

# The guest's own dmesg, and that of skep control: the guest's first lines may be gone since.
same_log() {
	tr -d '\r' <"$out" | sed -n '/^@begin$/,/^@end$/p' | grep '^\[ *[0-9.]*\]' | tr '\t' ' ' >"$work/inside"
	"$skep" control "$work/sock" dmesg --all >"$work/outside"
	python3 - "$work/inside" "$work/outside" <<-EOF
		import sys
		inside, outside = (open(f).read().split("\n")[:-1] for f in sys.argv[1:])
		assert len(inside) > 100, len(inside)
		first = inside.index(outside[0]) if outside[0] in inside else 0
		assert first < len(inside) / 2, first
		for i, line in enumerate(inside[first:]):
		    assert line == outside[i], (i, line, outside[i])
	EOF
}

dmesg_story() { # dmesg_story NAME CPUS APPEND COMMAND
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -c "$2" --control "$work/sock" \
		-a "quiet loglevel=1 $3 -- sh -c \"$4; echo @begin; dmesg; echo @end; sleep 100000\""
	await '^@end'
	check "$1: control dmesg has what the guest's has" same_log
	"$skep" control "$work/sock" dmesg --json >"$work/json"
	check "$1: and as JSON" python3 -c 'import json, sys
assert len([json.loads(line)["text"] for line in open(sys.argv[1])]) > 100' "$work/json"
	"$skep" control "$work/sock" stop
	finish
	ends "$1: stopped is 130" 130
	check "$1: who stops a guest that speaks is told nothing of its log" not_complained "kernel's log"
}

test_control_dmesg() {
	dmesg_story "one CPU" 1 '' true
	dmesg_story "4 CPUs, a log of its own memory" 4 'log_buf_len=4M' true
	dmesg_story "a log that wrapped" 2 'printk.devkmsg=on' \
		"seq 6000 | while read -r i; do echo line \$i >/dev/kmsg; done"
}

# On a terminal, a guest that shows nothing is spoken of.
test_first_contact() {
	empty_initrd
	python3 "$here/terminal.py" "$boot_patience" silence "$skep" run -k "$cloud/vmlinuz" \
		-i "$work/empty.cpio" -a 'panic=0' >"$work/terminal" 2>&1 || true
	sed 's/^/# | /' "$work/terminal" | grep -v '^# | ok' || true
	check "what is known of a silent guest is said" grep -q '^ok silence' "$work/terminal"
	check "and its kernel's last message" grep -q '^ok last message' "$work/terminal"
	check "Ctrl-A x ends it" grep -q '^ok end' "$work/terminal"
	check "the terminal is restored" grep -q '^ok restored' "$work/terminal"
}
