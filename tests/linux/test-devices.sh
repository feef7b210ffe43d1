# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Disks that are block devices of the host which count what they hold: a thin SCSI disk (scsi_debug,
# by UNMAP), a thin volume of the device mapper and a loop device. Devices that vanish. And the tests of
# tests/host here, where there is a device mapper.

# KiB that the devices hold.
scsi_holds() {
	tr ',' '\n' <"$scsi_map" | awk -F - 'NF { n += $NF - $1 + 1 } END { print n / 2 }'
}
thin_holds() { echo $(($(dmsetup status skep-thin | cut -d ' ' -f 4) / 2)); }

# holds DEVICE: in a way of its own, or its file.
holds() {
	if declare -F "$1_holds" >/dev/null; then "$1_holds"; else allocated "$work/on/ext4/$1.disk"; fi
}

# How the device mapper's devices are made, with udev or without.
mapper() { # mapper NAME TABLE
	dmsetup create --verifyudev "$1" --table "$2"
	dmsetup mknodes "$1"
}

scsi_debug=/sys/bus/pseudo/drivers/scsi_debug

# make_scsi N: at least so many SCSI disks, which share their content; all there are in `scsi`.
make_scsi() {
	modprobe -a sd_mod || return
	modprobe scsi_debug dev_size_mb=128 lbpu=1 lbprz=1 delay=0 || return
	scsi_map=$scsi_debug/map
	eventually find_scsi "$1"
}
find_scsi() {
	local disk
	scsi=()
	for disk in "$scsi_debug"/adapter*/host*/target*/*/block/*; do
		[ ! -b "/dev/${disk##*/}" ] || scsi+=("/dev/${disk##*/}")
	done
	[ ${#scsi[@]} -lt "$1" ] || return 0
	[ "$(cat $scsi_debug/add_host)" -ge "$1" ] || echo 1 >$scsi_debug/add_host
	return 1
}

make_thin() {
	local sectors=$((512 << 11))
	modprobe dm-thin-pool || return
	truncate -s 8M "$work/thin.meta"
	truncate -s 512M "$work/thin.data"
	thin_loops=("$(losetup -f --show "$work/thin.meta")")
	thin_loops+=("$(losetup -f --show "$work/thin.data")")
	mapper skep-pool "0 $sectors thin-pool ${thin_loops[*]} 128 0"
	dmsetup message skep-pool 0 'create_thin 0'
	mapper skep-thin "0 $sectors thin /dev/mapper/skep-pool 0"
}

make_loop() {
	truncate -s 512M "$work/on/ext4/loop.disk"
	loop=$(losetup -f --show "$work/on/ext4/loop.disk")
}

# shellcheck disable=SC2317 # the trap calls it
clean_up_devices() {
	end_vm
	dmsetup remove --retry skep-thin 2>/dev/null || true
	dmsetup remove --retry skep-pool 2>/dev/null || true
	detach "${thin_loops[@]}" ${loop:+"$loop"}
	rm -f "$work"/thin.* "$work/on/ext4/loop.disk"
}

# device_settles NAME DEVICE LIMIT: in the end it holds at most LIMIT KiB.
device_settles() {
	eventually device_holds "$2" "$3" || true
	at_most "$1" "$(holds "$2")" "$3"
}
device_holds() { [ "$(holds "$1")" -le "$2" ]; }

# devices_story ENGINE DEVICE.FS=PATH...: guest/devices on these.
devices_story() {
	local engine=$1 d s at disks=()
	local -A held
	shift
	for d; do disks+=(-d "${d#*=},serial=${d%%=*},engine=$engine"); done
	set -- "${@%%=*}"
	head -c 16M /dev/urandom >"$work/data"
	start -k "$tools/vmlinuz" -i "$tools/initrd" -m 512M "${disks[@]}" \
		-d "$work/data,serial=data,readonly" -a 'skep.mount=off skep.modules=xfs,btrfs -- /t/devices'
	for at in kept written trimmed written-again; do
		step $at
		for s; do held[$s.$at]=$(holds "${s%.*}"); done
		go on
	done
	step discarded
	for s; do
		echo "# $engine, $s holds KiB: ${held[$s.kept]} kept, ${held[$s.written]} written," \
			"${held[$s.trimmed]} trimmed"
		at_least "$engine, $s: written files occupy the device" $((held[$s.written] - held[$s.kept])) $((11 * mib))
		at_most "$engine, $s: fstrim gives deleted files back" "${held[$s.trimmed]}" $((held[$s.kept] + 2 * mib))
		device_settles "$engine, $s: mount -o discard gives them back at once" "${s%.*}" \
			$((held[$s.written-again] - 10 * mib))
	done
	go on
	step empty
	for s; do
		is "$engine, $s: the kept file is whole" "$(value "$s.keep")" whole
		is "$engine, $s: blkdiscard -z reads as zeros" "$(value "$s.zero")" 0
		is "$engine, $s: blkdiscard of an odd range leaves what is around it" "$(value "$s.around")" whole
		# None of the disk's blocks; what is left is the map of the device that says so.
		device_settles "$engine, $s: blkdiscard gives all back" "${s%.*}" 128
	done
	go on
	finish
	ends "$engine: the guest powered off" 0
}

test_devices() {
	local scsi=() scsi_map
	# Not local, for the trap.
	thin_loops=() loop=''
	if ! modprobe -n scsi_debug 2>/dev/null || ! modprobe -n dm-thin-pool 2>/dev/null; then
		skip "devices that count what they hold" "this kernel has no scsi_debug or no dm-thin"
		return
	fi
	trap clean_up_devices EXIT
	make_scsi 1
	make_thin
	make_loop
	# The SCSI disk is too small for xfs.
	devices_story uring "scsi.ext4=${scsi[0]}" thin.xfs=/dev/mapper/skep-thin "loop.btrfs=$loop"
	devices_story sync "scsi.btrfs=${scsi[0]}" thin.ext4=/dev/mapper/skep-thin "loop.xfs=$loop"
}

# SCSI disks that are taken away while the guest reads and writes them.
test_vanishing_devices() {
	local scsi=() scsi_map s i disks=() options=(engine=uring engine=sync werror=enospc-pause)
	if ! modprobe -n scsi_debug 2>/dev/null; then
		skip "devices that vanish" "this kernel has no scsi_debug"
		return
	fi
	make_scsi 4
	# The first is left to other tests.
	for i in 0 1 2; do
		s=${options[i]#*=}
		disks+=(-d "${scsi[i + 1]},serial=${s#enospc-},${options[i]}")
	done
	truncate -s 64M "$work/stays"
	start -k "$tools/vmlinuz" -i "$tools/initrd" -m 512M -c 2 "${disks[@]}" -d "$work/stays,serial=stays" \
		-a 'skep.mount=off -- /t/vanish'
	step busy
	for i in 1 2 3; do echo 1 >"/sys/block/${scsi[i]##*/}/device/delete"; done
	go on
	finish
	ends "devices that vanish: the guest goes on to its power-off" 0
	for s in uring sync pause; do
		is "vanished, $s: it worked before" "$(value $s.before)" works
		is "vanished, $s: reads fail" "$(value $s.read)" "Input/output error"
		is "vanished, $s: writes fail" "$(value $s.write)" "Input/output error"
		is "vanished, $s: a flush fails" "$(value $s.flush)" failed
		is "vanished, $s: a discard fails" "$(value $s.discard)" failed
	done
	is "vanished: a file system on another disk goes on" "$(value stays.data)" whole
	check "vanished: which the host can check" e2fsck -fn "$work/stays"
	check "vanished: the result counts errors where they were" python3 -c '
import json, sys
disks = json.load(open(sys.argv[1]))["disks"]
assert [disk["errors"] > 0 for disk in disks] == [True, True, True, False], disks
assert all(disk["space_pauses"] == 0 for disk in disks), disks' "$vm/result"
	echo -3 >$scsi_debug/add_host
	rm "$work/stays"
}

# A disk of the device mapper that does not answer until it is resumed. What skep has asked of it waits in the
# kernel, where no signal reaches it; the end is told before.
suspended_disk() { # suspended_disk ENGINE HOW SKEP-OPTION...
	local tag="a suspended disk, $1, $2"
	suspended=skep-$1-${2//[^a-z]/}
	truncate -s 64M "$work/$suspended"
	suspended_loop=$(losetup -f --show "$work/$suspended")
	mapper "$suspended" "0 131072 linear $suspended_loop 0"
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 256M -d "/dev/mapper/$suspended,engine=$1" "${@:3}" \
		-a rdinit=/t/write-on
	await '^@up'
	dmsetup suspend "$suspended"
	check "$tag: a request waits in the kernel" eventually in_kernel
	kill -TERM "$vm_pid"
	if [ "$2" = "second signal" ]; then
		eventually signal_was_taken
		kill -TERM "$vm_pid"
	fi
	check "$tag: there is a result" eventually test -s "$vm/result"
	is "$tag: before the disk answers" "$(dmsetup info -c --noheadings -o suspended "$suspended")" Suspended
	dmsetup resume "$suspended"
	finish
	ends "$tag: the status is that of the signal" 143
	check "$tag: nothing holds the disk" eventually is_let_go
	clean_up_suspended
}

# What is cut off in the kernel lets go of the disk when the kernel gets to it.
clean_up_suspended() {
	dmsetup resume "$suspended" 2>/dev/null || true
	end_vm
	dmsetup remove --deferred "$suspended" 2>/dev/null || true
	detach ${suspended_loop:+"$suspended_loop"}
	suspended_loop=
	rm -f "$work/$suspended"
}
is_let_go() {
	dmsetup remove "$suspended" 2>/dev/null || true
	! dmsetup info "$suspended" >/dev/null 2>&1
}
in_kernel() { grep -q '^State:.D' /proc/"$vm_pid"/task/*/status; }
signal_was_taken() { ! grep -q '^ShdPnd:.*[4-7c-f]...$' "/proc/$vm_pid/status"; }

test_suspended_disk() {
	local engine
	# Not local, for the trap.
	suspended='' suspended_loop=''
	trap clean_up_suspended EXIT
	for engine in uring sync; do
		suspended_disk $engine "second signal" --stop-timeout 100000
		suspended_disk $engine "--stop-timeout" --stop-timeout 1
	done
}

# The host's tests need no guest, but devices that not every host has.
test_host_devices() {
	local test line said
	modprobe dm-mod || true
	for test in blk_host blk_fs; do
		said=''
		# Long enough where they run without a lab.
		CMOCKA_MESSAGE_OUTPUT=TAP SKEP_BLK_MODEL_REQUESTS=300 "$helpers/../host/test_$test" \
			>"$work/host.tap" 2>&1 || true
		while read -r line; do
			case $line in
			'not ok '*' # SKIP '*) skip "host: ${line#*SKIP }" "$said" ;;
			'ok '*) ok "host: ${line#ok * - }" ;;
			# The reason follows, as a comment.
			'not ok '*) not_ok "host: ${line#not ok * - }" "$said" ;;
			'1..'*) ;;
			*) said=${line#\# } && echo "# $said" ;;
			esac
		done <"$work/host.tap"
		is "host: $test ran to its end" "$(grep -c '^ok\|^not ok' "$work/host.tap")" \
			"$(sed -n 's/^1\.\.//p' "$work/host.tap")"
	done
}
