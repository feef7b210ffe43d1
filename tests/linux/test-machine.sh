# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# The machine as a Linux guest sees it, small to large; each VM ends in another way.

# named_image FILE SERIAL
named_image() {
	printf 'this is %s\n' "$2" >"$1"
	truncate -s 1M "$1"
}

result() { python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$vm/result" "$1" 2>/dev/null; }

test_small() {
	named_image "$work/one" solo
	named_image "$work/two" locked
	boot -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 128M -c 1 -d "$work/one,serial=solo,engine=sync" \
		-d "$work/two,serial=locked,readonly" -a 'skep.mount=off -- /t/machine'
	ends "1 CPU, 128 MiB: power-off is 0" 0
	is "1 CPU, 128 MiB: one CPU" "$(value cpus)" 1
	at_least "1 CPU, 128 MiB: memory (KiB)" "$(value memory)" $((64 * 1024))
	at_most "1 CPU, 128 MiB: no more than it was given" "$(value memory)" $((128 * 1024))
	is "the clock is kvmclock" "$(value clock)" kvm-clock
	at_least "there is a random number generator" "$(value random)" 16
	is "no legacy interrupt controller" "$(value pic)" 0
	is "no real-time clock, no keyboard controller" "$(value legacy)" 0
	is "no UART" "$(value uarts)" 0
	is "no PCI" "$(value pci)" 0
	is "disks carry their serial numbers" "$(value serials)" "locked solo "
	is "each disk is the one it says" "$(value right)" 2
	is "a read-only disk says so" "$(value locked.ro)" 1
	is "a read-only disk refuses a write" "$(value locked.write)" no
	is "a read-only disk offers no discard" "$(value locked.discard)" 0
	is "a read-only disk is unchanged" "$(head -n 1 "$work/two")" "this is locked"
	is "the result file tells the status" "$(result status)" 0
	is "nothing to complain about" "$(cat "$vm/err")" ""
	value text >"$work/text.1"
}

test_large() {
	local i disks=() image
	for i in $(seq 1 40); do
		image=$work/many.$i
		named_image "$image" "disk-$i"
		disks+=(-d "$image,serial=disk-$i")
	done
	boot -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 4G -c 4 "${disks[@]}" -a 'skep.mount=off -- /t/machine reboot'
	ends "4 CPUs, 4 GiB, 40 disks: reboot is 120" 120
	is "4 CPUs: the guest sees them" "$(value cpus)" 4
	is "4 CPUs: all online" "$(value online)" 0-3
	is "4 CPUs: all work" "$(value worked)" 4
	is "4 CPUs: cores of one package" "$(value cores)" 4
	is "4 CPUs: one package" "$(value packages)" 1
	is "no nested virtualisation" "$(value nested)" 0
	is "no performance counters" "$(value counters)" 0
	at_least "4 GiB: memory beyond the MMIO hole (KiB)" "$(value memory)" $((3700 * 1024))
	is "40 disks: all there" "$(value disks)" 40
	is "40 disks: each is the one it says" "$(value right)" 40
	is "the result file tells a reboot" "$(result status)" 120
	value text >"$work/text.2"
}

test_resize() {
	local image=$work/on/ext4/grows.img sum presses
	head -c 8M /dev/urandom >"$image"
	sum=$(sha <(head -c 1M "$image"))
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -d "$image,serial=grows" --control "$work/socket" \
		-a 'skep.mount=off -- /t/resize'
	step ready
	check "a disk of a VM that runs is resized" control resize-disk grows 2G
	go on
	check "it is paused at work" control pause
	check "it is paused: the status says so" control status
	check "it is paused: it says nothing else" grep -q '^paused for' "$work/control"
	sleep 2
	check "it goes on" control resume
	step written
	is "before that it has its old size" "$(value before)" $((8 * 2048))
	is "Linux sees the new one without a reboot" "$(value after)" $((2048 * 2048))
	at_least "Linux logs it" "$(value log)" 1
	is "what it held was there" "$(value sum.before)" "$sum"
	is "and is" "$(value sum.after)" "$sum"
	is "writes meanwhile go well" "$(value busy)" ""
	is "its new end is written" "$(value end)" written
	is "what is beyond that is not" "$(value beyond)" refused
	is "the image has that size" "$(stat -c %s "$image")" $((2 << 30))
	check "the image has it at its end" cmp <(tail -c 4096 "$image") <(yes skep | head -c 4096)
	is "the image's start is as it was" "$(sha <(head -c 1M "$image"))" "$sum"
	check "status: it tells" control status
	check "status: it tells the size" grep -q '^disk 0 (grows): 2 GiB' "$work/control"
	check "the power button is pressed" control power-button
	# Its driver may have come just now.
	(
		exec 7>&-
		while sleep 1 && control power-button; do :; done
	) &
	presses=$!
	finish
	kill $presses 2>/dev/null || true
	ends "the power button over the control socket: 0" 0
	is "nothing to complain about" "$(cat "$vm/err")" ""
	rm -f "$image" "$work/socket"
}

test_cache_modes() {
	local disk
	named_image "$work/back" back
	named_image "$work/through" through
	boot -k "$cloud/vmlinuz" -i "$cloud/initrd" -d "$work/back,serial=back" \
		-d "$work/through,serial=through,cache=writethrough" -a 'skep.mount=off -- /t/cache'
	ends "cache modes" 0
	is "the cache is write-back" "$(value back.before)" "write back"
	is "the cache is write-through" "$(value through.before)" "write through"
	for disk in back through; do
		is "$disk: the guest can make it write-through" "$(value $disk.through)" "write through"
		is "$disk: the guest can make it write-back" "$(value $disk.back)" "write back"
	done
}

test_generic_kernel() {
	named_image "$work/one" solo
	boot -k "$generic/vmlinuz" -i "$generic/initrd" -m 256M -c 2 -d "$work/one,serial=solo" \
		-a 'nokaslr skep.mount=off -- /t/machine panic'
	ends "generic kernel: panic is 121" 121
	is "generic kernel: sees both CPUs" "$(value online)" 0-1
	is "generic kernel: finds its disk" "$(value right)" 1
	is "nokaslr is respected" "$(value text)" ffffffff81000000
	is "the result file tells a panic" "$(result status)" 121
}

test_kaslr() {
	local addresses n
	# The two boots before this have told theirs, if they ran.
	for n in 1 2; do
		[ -s "$work/text.$n" ] || {
			boot -k "$cloud/vmlinuz" -i "$cloud/initrd" -a 'skep.mount=off -- /t/machine'
			value text >"$work/text.$n"
		}
	done
	# One boot in 500 may hit the address of another.
	boot -k "$cloud/vmlinuz" -i "$cloud/initrd" -a 'skep.mount=off -- /t/machine'
	value text >"$work/text.3"
	addresses=$(sort -u "$work"/text.[123] | grep -c '^ffffffff')
	at_least "the kernel's address moves between boots" "$addresses" 2
	boot -k "$cloud/vmlinuz" -i "$cloud/initrd" --no-kaslr -a 'skep.mount=off -- /t/machine'
	is "--no-kaslr leaves it where it was linked" "$(value text)" ffffffff81000000
}

test_no_cache() {
	XDG_CACHE_HOME=$work/nowhere boot -k "$cloud/vmlinuz" -i "$cloud/initrd" --no-cache -a 'skep.init=off'
	ends "--no-cache boots" 0
	is "--no-cache leaves nothing behind" "$(find "$work/nowhere" -type f 2>/dev/null | wc -l)" 0
}

# One that is not packed before the other, as microcode is, and both files by pipes.
test_initrds() {
	mkdir -p "$work/early"
	echo 'from the first initrd' >"$work/early/early"
	(cd "$work/early" && find . | cpio -o -H newc --quiet) >"$work/early.cpio"
	boot -k <(cat "$cloud/vmlinuz") -i "$work/early.cpio" -i <(cat "$cloud/initrd") -a '-- cat /early'
	ends "kernel and initrd by pipes" 0
	check "the guest has the files of both initrds" said 'from the first initrd'
	is "nothing to complain about" "$(cat "$vm/err")" ""
}

test_serial_console() {
	boot -k "$cloud/vmlinuz" -i "$cloud/initrd" -a 'console=ttyS0 skep.init=off'
	ends "console=ttyS0: ends with 0" 0
	check "console=ttyS0: there is a warning" complained 'console=ttyS0: there is no serial port'
}
