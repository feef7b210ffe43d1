# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# The ends of a VM and what they leave behind.

guest() { printf '%s\n' -k "$cloud/vmlinuz" -i "$cloud/initrd"; }

# Each way that Linux knows, whether or not there is such a thing, in order and after a panic.
test_ways_to_reset() {
	local how panic
	while read -r how panic; do
		# shellcheck disable=SC2046
		boot $(guest) -c 2 -a "reboot=$how skep.init=reboot"
		ends "reboot=$how: a reboot is 120" 120
		# shellcheck disable=SC2046
		boot $(guest) -c 2 -a "reboot=$how skep.init=panic"
		ends "reboot=$how: a panic is $panic" "$panic"
	done <<-EOF
		kbd 121
		bios 121
		pci 121
		efi 121
		triple 122
	EOF
}

# Debian's generic kernel takes CPUs and interrupts from the MP tables; the cloud kernel cannot.
test_no_acpi() {
	boot -k "$generic/vmlinuz" -i "$generic/initrd" --mmio-cmdline -a 'acpi=off skep.init=panic'
	ends "without ACPI a panic is 121" 121
	boot -k "$generic/vmlinuz" -i "$generic/initrd" --mmio-cmdline -a 'acpi=off skep.init=off'
	ends "without ACPI Linux halts instead of powering off: 123" 123
	boot -k "$generic/vmlinuz" -i "$generic/initrd" --mmio-cmdline -a 'acpi=off -- sh -c "printf \\064 | dd of=/dev/port bs=1 seek=1536"'
	ends "without ACPI port 0x600 powers off: 0" 0
}

test_halt() {
	# shellcheck disable=SC2046
	boot $(guest) -c 2 -a '-- halt -f'
	ends "halt -f is 123" 123
	check "and says so" complained 'the guest halted'
	is "the result file tells it" "$(result end)" halted
}

# An emergency restart that is no panic.
test_sysrq_b() {
	# shellcheck disable=SC2046
	boot $(guest) -c 2 -a '-- sh -c "echo b >/proc/sysrq-trigger"'
	ends "SysRq-B is 120" 120
}

# An initrd that does not fit unpacked, and one without drivers.
test_panic_before_the_first_byte() {
	mkdir -p "$work/large"
	head -c 120M /dev/urandom >"$work/large/large"
	(cd "$work/large" && find . | cpio -o -H newc --quiet) >"$work/large.cpio"
	boot -k "$cloud/vmlinuz" -i "$work/large.cpio" -i "$cloud/initrd" -m 256M
	ends "an initrd too large for the memory: a panic is 121" 121
	check "it says that memory is little for it, and the remedy" \
		complained 'it printed nothing on its console.* of memory are too little to unpack an initrd of .*try --memory'
	rm "$work/large.cpio" "$work/large/large"
	(cd "$work/large" && find . | cpio -o -H newc --quiet) >"$work/empty.cpio"
	boot -k "$cloud/vmlinuz" -i "$work/empty.cpio"
	ends "an initrd without drivers: a panic is 121" 121
	check "it says that the drivers are missing" complained 'does not load virtio_mmio and virtio_console'
}

test_timeout() {
	local before=$SECONDS
	# shellcheck disable=SC2046
	boot $(guest) --timeout 9 -a '-- sh -c "echo running; sleep 1000"'
	ends "--timeout is 124" 124
	at_least "--timeout is not early" "$((SECONDS - before))" 9
}

test_term() {
	# shellcheck disable=SC2046
	start $(guest) --stop-timeout "$boot_patience" -a '-- /t/ready'
	await '^@up'
	kill -TERM "$vm_pid"
	finish
	ends "SIGTERM presses the power button: 0" 0
	check "the guest shut down in order" said 'skep-guest: exit status 143'
}

test_second_term() {
	# shellcheck disable=SC2046
	start $(guest) --stop-timeout 100000 -a 'rdinit=/t/deaf'
	await '^@up'
	kill -TERM "$vm_pid"
	sleep 2
	check "a guest without a power button goes on after SIGTERM" running
	kill -TERM "$vm_pid"
	finish
	check "a second SIGTERM ends the VM (status $status)" test "$status" -gt 0
}

test_stop_timeout() {
	# shellcheck disable=SC2046
	start $(guest) --stop-timeout 2 -a 'rdinit=/t/deaf'
	await '^@up'
	kill -TERM "$vm_pid"
	finish
	check "--stop-timeout ends the VM (status $status)" test "$status" -gt 0
}

test_kill() {
	local before after
	before=$(find /tmp /run /dev/shm -xdev -not -type d -newer "$work/count" -not -path "${work%/*}/*" 2>/dev/null | sort)
	# shellcheck disable=SC2046
	start $(guest) -a '-- sh -c "echo @up; sleep 1000"'
	await '^@up'
	kill -KILL "$vm_pid"
	finish
	is "SIGKILL is SIGKILL" "$status" 137
	is "SIGKILL leaves no thread" "$(pgrep -fc "$vm/result" || true)" 0
	# Its name's socket goes with the next look at them.
	"$skep" ps >"$work/names"
	after=$(find /tmp /run /dev/shm -xdev -not -type d -newer "$work/count" -not -path "${work%/*}/*" 2>/dev/null | sort)
	is "SIGKILL leaves no file but a name's, until skep ps" "$after" "$before"
	is "nor the name's directory" "$(ls -A /run/skep)" ""
}

# The default guest is found, and its shell runs what is typed.
test_shell() {
	SKEP_GUEST_DIR=$cloud start
	await '/root #|~ #'
	# shellcheck disable=SC2016 # the guest expands it
	send 'echo two and $((1 + 1))'
	await '^two and 2'
	ok "skep run without arguments boots to a shell"
	send 'exit 5'
	finish
	ends "leaving the shell powers off" 0
	check "the shell's status is told" said 'skep-guest: exit status 5'
}

test_console_file() {
	# shellcheck disable=SC2046
	boot $(guest) --console "file=$work/console" -a '-- echo to the file'
	ends "--console file: ends with 0" 0
	check "--console file: has the output" grep -q 'to the file' "$work/console"
	is "--console file: standard output stays empty" "$(wc -c <"$out")" 0
	# shellcheck disable=SC2046
	boot $(guest) --console off -a 'skep.init=off'
	ends "--console off: ends with 0" 0
}

# A pager that nobody scrolls: Linux waits for its console with interrupts off.
test_reader_that_stalls() {
	mkfifo "$work/unread"
	exec 8<>"$work/unread"
	# shellcheck disable=SC2046
	boot $(guest) --console "file=$work/unread" -a '-- seq -s , 50000'
	exec 8<&-
	ends "a reader that stalls does not freeze the guest: ends with 0" 0
}

# A terminal of its own: raw while the VM runs, as it was afterwards; Ctrl-A x ends the VM.
test_terminal() {
	local how
	for how in escape term crash; do
		python3 "$here/terminal.py" "$boot_patience" "$how" "$skep" run -k "$cloud/vmlinuz" -i "$cloud/initrd" >"$work/terminal" 2>&1 ||
			true
		sed 's/^/# | /' "$work/terminal" | grep -v '^# | ok' || true
		check "terminal ($how): raw while it runs" grep -q '^ok raw' "$work/terminal"
		check "terminal ($how): the guest hears what is typed" grep -q '^ok echo' "$work/terminal"
		check "terminal ($how): the guest knows its size" grep -q '^ok size' "$work/terminal"
		check "terminal ($how): the guest hears of another size" grep -q '^ok resize' "$work/terminal"
		check "terminal ($how): the VM ends" grep -q '^ok end' "$work/terminal"
		check "terminal ($how): restored" grep -q '^ok restored' "$work/terminal"
	done
}
