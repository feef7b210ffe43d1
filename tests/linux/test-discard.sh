# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What a guest frees, the host gets back: in all the ways to free, for file
# systems in the guest on images that lie on file systems of the host.

mib=1024 # KiB, as sizes are here

discard_disks() { # discard_disks OPTIONS DIR...: images, and the -d that name them, in `disks`
	local options=$1 host fs image
	shift
	disks=()
	for host; do
		for fs in ext4 xfs btrfs raw; do
			image=$work/on/$host/$fs.img
			rm -f "$image"
			truncate -s "$([ $fs = raw ] && echo 32M || echo 512M)" "$image"
			disks+=(-d "$image,serial=$fs.$host$options")
		done
	done
	head -c 16M /dev/urandom >"$work/data"
	disks+=(-d "$work/data,serial=data,readonly")
}

# Measure all images into the array $1.
measure() {
	local -n into=$1
	local host fs
	for host in "${hosts[@]}"; do
		for fs in ext4 xfs btrfs raw; do
			into[$fs.$host]=$(allocated "$work/on/$host/$fs.img")
		done
	done
}

# The whole story on images that lie on `hosts`; more -d options in $1.
discard_story() {
	local tag=$1 options=$2 key host fs image
	local -A kept written again sieve
	discard_disks "$options" "${hosts[@]}"
	start -k "$tools/vmlinuz" -i "$tools/initrd" -m 768M -c 2 "${disks[@]}" \
		-a 'skep.mount=off skep.modules=xfs,btrfs -- /t/discard'

	step kept
	measure kept
	go on
	step written
	measure written
	go on
	step deleted
	go on
	step trimmed
	for host in "${hosts[@]}"; do
		for fs in ext4 xfs btrfs; do
			key=$fs.$host image=$work/on/$host/$fs.img
			at_least "$tag: $fs on $host: written files occupy the image" "$((written[$key] - kept[$key]))" $((11 * mib))
			settles "$tag: $fs on $host: fstrim gives deleted files back" "$image" $((kept[$key] + 2 * mib))
		done
	done
	go on
	step written-again
	measure again
	go on
	step discarded
	for host in "${hosts[@]}"; do
		for fs in ext4 xfs btrfs; do
			key=$fs.$host image=$work/on/$host/$fs.img
			settles "$tag: $fs on $host: mount -o discard gives them back at once" "$image" $((again[$key] - 10 * mib))
		done
	done
	measure sieve
	go on
	step punched
	for host in "${hosts[@]}"; do
		for fs in ext4 xfs btrfs; do
			key=$fs.$host image=$work/on/$host/$fs.img
			settles "$tag: $fs on $host: a hole punched in a guest's file is one in the image" "$image" $((sieve[$key] - 8 * mib))
		done
	done
	go on
	step raw-written
	for host in "${hosts[@]}"; do
		at_least "$tag: raw on $host: written" "$(allocated "$work/on/$host/raw.img")" $((12 * mib))
	done
	go on
	step raw-discarded
	for host in "${hosts[@]}"; do
		image=$work/on/$host/raw.img
		settles "$tag: raw on $host: blkdiscard of a range frees it" "$image" $((6 * mib + 128))
		# As the data, but for the range.
		{
			head -c 4M "$work/data"
			head -c 6M /dev/zero
			head -c 12M "$work/data" | tail -c 2M
			head -c 20M /dev/zero
		} >"$work/expected"
		check "$tag: raw on $host: blkdiscard left the rest alone" cmp "$image" "$work/expected"
	done
	go on
	step raw-zeroed
	for host in "${hosts[@]}"; do
		is "$tag: raw on $host: blkdiscard -z reads back zeros in the guest" "$(value "raw.$host.zero")" yes
		check "$tag: raw on $host: and on the host" cmp <(head -c 2M "$work/on/$host/raw.img" | tail -c 1M) <(head -c 1M /dev/zero)
	done
	go on
	step raw-empty
	for host in "${hosts[@]}"; do
		settles "$tag: raw on $host: blkdiscard of the whole disk empties it" "$work/on/$host/raw.img" 128
	done
	go on
	finish
	ends "$tag: the guest powered off" 0

	# The host reads what the guest kept.
	mkdir -p "$work/mnt"
	head -c 4M "$work/data" >"$work/keep"
	{
		head -c 5M "$work/data" | tail -c 1M
		head -c 10M /dev/zero
		tail -c +1 "$work/data" | head -c 16M | tail -c 1M
	} >"$work/sieve"
	for host in "${hosts[@]}"; do
		for fs in ext4 xfs btrfs; do
			# btrfs tells copies apart by a UUID and mounts but one at a time.
			check "$tag: $fs on $host: the host mounts it" \
				mount -t "$fs" -o "loop,ro$([ $fs = xfs ] && echo ,nouuid || true)" "$work/on/$host/$fs.img" "$work/mnt"
			is "$tag: $fs on $host: the kept file is whole" "$(sha "$work/mnt/keep")" "$(sha "$work/keep")"
			is "$tag: $fs on $host: the punched one has its hole" "$(sha "$work/mnt/sieve")" "$(sha "$work/sieve")"
			umount "$work/mnt" || true
		done
		check "$tag: ext4 on $host: e2fsck finds nothing" e2fsck -fn "$work/on/$host/ext4.img"
	done
}

test_discard() {
	local hosts=(ext4 xfs btrfs tmpfs)
	discard_story "discard" ""
}
