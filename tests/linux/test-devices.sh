# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Disks that are block devices of the host which count what they hold: a thin SCSI disk (scsi_debug,
# by UNMAP) and a thin volume of the device mapper. And the tests of tests/host here, where there is
# a device mapper.

# KiB that the devices hold.
scsi_holds() {
	tr ',' '\n' <"$scsi_map" | awk -F - 'NF { n += $NF - $1 + 1 } END { print n / 2 }'
}
thin_holds() { echo $(($(dmsetup status skep-thin | cut -d ' ' -f 4) / 2)); }

# How the device mapper's devices are made, with udev or without.
mapper() { # mapper NAME TABLE
	dmsetup create --verifyudev "$1" --table "$2"
	dmsetup mknodes "$1"
}

make_scsi() {
	local host
	modprobe -a sd_mod || return
	modprobe scsi_debug dev_size_mb=128 lbpu=1 lbprz=1 delay=0 || return
	scsi_map=/sys/bus/pseudo/drivers/scsi_debug/map
	for _ in $(seq 100); do
		for host in /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*; do
			scsi=/dev/${host##*/}
			[ -b "$scsi" ] && return 0
		done
		sleep 0.1
	done
	return 1
}

make_thin() {
	local sectors=$((256 << 11))
	modprobe dm-thin-pool || return
	truncate -s 8M "$work/thin.meta"
	truncate -s 256M "$work/thin.data"
	thin_loops=("$(losetup -f --show "$work/thin.meta")")
	thin_loops+=("$(losetup -f --show "$work/thin.data")")
	mapper skep-pool "0 $sectors thin-pool ${thin_loops[*]} 128 0"
	dmsetup message skep-pool 0 'create_thin 0'
	mapper skep-thin "0 $sectors thin /dev/mapper/skep-pool 0"
}

# shellcheck disable=SC2317 # the trap calls it
clean_up_devices() {
	end_vm
	dmsetup remove --retry skep-thin 2>/dev/null || true
	dmsetup remove --retry skep-pool 2>/dev/null || true
	[ -z "${thin_loops[*]}" ] || losetup -d "${thin_loops[@]}"
}

# devices_story ENGINE NAME=DEVICE...: guest/devices on these; NAME_holds prints the KiB that one holds,
# $books how many it may hold when it is empty.
devices_story() {
	local engine=$1 d s at disks=()
	local -A held
	shift
	for d; do disks+=(-d "${d#*=},serial=${d%%=*},engine=$engine"); done
	head -c 16M /dev/urandom >"$work/data"
	start -k "$tools/vmlinuz" -i "$tools/initrd" -m 512M "${disks[@]}" \
		-d "$work/data,serial=data,readonly" -a 'skep.mount=off -- /t/devices'
	for at in kept written trimmed empty; do
		step $at
		for d; do held[${d%%=*}.$at]=$("${d%%=*}_holds"); done
		go on
	done
	finish
	ends "$engine: the guest powered off" 0
	for d; do
		s=${d%%=*}
		echo "# $engine, $s holds KiB: ${held[$s.kept]} kept, ${held[$s.written]} written," \
			"${held[$s.trimmed]} trimmed, ${held[$s.empty]} empty"
		at_least "$engine, $s: written files occupy the device" \
			$((held[$s.written] - held[$s.kept])) $((11 * mib))
		at_most "$engine, $s: fstrim gives deleted files back" \
			"${held[$s.trimmed]}" $((held[$s.kept] + 2 * mib))
		is "$engine, $s: the kept file is whole" "$(value "$s.keep")" whole
		is "$engine, $s: blkdiscard -z reads as zeros" "$(value "$s.zero")" 0
		is "$engine, $s: blkdiscard of an odd range leaves what is around it" "$(value "$s.around")" whole
		at_most "$engine, $s: blkdiscard gives all back" "${held[$s.empty]}" "${books:-128}"
	done
}

test_devices() {
	local scsi scsi_map engine
	# Not local: it is for the trap too.
	thin_loops=()
	if ! modprobe -n scsi_debug 2>/dev/null || ! modprobe -n dm-thin-pool 2>/dev/null; then
		skip "devices that count what they hold" "this kernel has no scsi_debug or no dm-thin"
		return
	fi
	trap clean_up_devices EXIT
	make_scsi
	make_thin
	for engine in uring sync; do
		devices_story $engine "scsi=$scsi" thin=/dev/mapper/skep-thin
	done
}

# The host's tests need no guest, but devices that not every host has.
test_host_devices() {
	local line said=''
	modprobe dm-mod || true
	# Long enough where they run without a lab.
	CMOCKA_MESSAGE_OUTPUT=TAP SKEP_BLK_MODEL_REQUESTS=300 "$helpers/../host/test_blk_host" \
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
	is "host: it ran to its end" "$(grep -c '^ok\|^not ok' "$work/host.tap")" \
		"$(sed -n 's/^1\.\.//p' "$work/host.tap")"
}
