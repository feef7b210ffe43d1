# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What volumes in the guest free, the host gets back: LVM and thin pools of the device mapper on its disks.

test_lvm() {
	local engine s image disks=()
	local -A kept written again
	for engine in uring sync; do
		for s in lvm thin; do
			image=$work/on/ext4/$s.$engine
			truncate -s 128M "$image"
			disks+=(-d "$image,serial=$s.$engine,engine=$engine")
		done
	done
	head -c 16M /dev/urandom >"$work/data"
	start -k "$lvm/vmlinuz" -i "$lvm/initrd" -m 512M "${disks[@]}" -d "$work/data,serial=data,readonly" \
		-a 'skep.mount=off skep.modules=dm-thin-pool -- /t/lvm'
	step kept
	for image in "$work"/on/ext4/{lvm,thin}.*; do kept[${image##*/}]=$(allocated "$image"); done
	go on
	step written
	for image in "$work"/on/ext4/{lvm,thin}.*; do written[${image##*/}]=$(allocated "$image"); done
	go on
	step trimmed
	for s in "${!kept[@]}"; do
		at_least "$s: written files occupy the image" $((written[$s] - kept[$s])) $((11 * mib))
		settles "$s: fstrim gives deleted files back" "$work/on/ext4/$s" $((kept[$s] + 2 * mib))
	done
	go on
	step discarded
	for s in "${!kept[@]}"; do
		is "$s: the kept file is whole" "$(value "$s.keep")" whole
		settles "$s: mount -o discard gives them back at once" "$work/on/ext4/$s" $((kept[$s] + 2 * mib))
	done
	go on
	step removed
	for engine in uring sync; do
		settles "lvm.$engine: lvremove gives the volume back" "$work/on/ext4/lvm.$engine" $((10 * mib))
		is "lvm.$engine: another volume is whole" "$(value "lvm.$engine.other")" whole
		settles "thin.$engine: blkdiscard of a thin volume reaches the image" "$work/on/ext4/thin.$engine" $((2 * mib))
	done
	go on
	finish
	ends "volumes in the guest: it powered off" 0
	rm "$work"/on/ext4/{lvm,thin}.*
}
