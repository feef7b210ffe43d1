# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# A Debian on a disk image, as an installer leaves it: GPT, GRUB (for a BIOS), one ext4; root logs in without a
# password. Sourced after common.sh and kernel.sh.

# shellcheck disable=SC2154 # of common.sh, or passed on

# debian_image IMAGE SUITE [PACKAGE...]: needs root; no suite is the host's. The image has its name when it is whole.
debian_image() {
	local suite=$2 new
	# shellcheck source=/dev/null
	[ -n "$suite" ] || suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
	is_root || die "a Debian image needs root: its file system is mounted"
	need_packages debootstrap fdisk e2fsprogs util-linux debian-archive-keyring
	new=$(mktemp "$1.new.XXXXXX")
	chmod +r "$new"
	truncate -s 4G "$new"
	printf '%s\n' 'label: gpt' 'size=1MiB, type=21686148-6449-6E6F-744E-656564454649' 'size=64MiB, type=uefi' \
		'type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709' | sfdisk -q "$new"
	# In a mount namespace of its own, so that nothing stays mounted, whatever happens.
	archive=$(debian_archive) unshare -m bash -euc "$(declare -f say fill_debian); prog=\$0; fill_debian \"\$@\"" "$prog" "$new" "$suite" \
		linux-image-cloud-amd64 grub2-common grub-pc-bin systemd-sysv udev dbus zstd e2fsprogs "${@:3}" ||
		{ rm "$new"; tail -n 20 "$new.log" >&2; die "could not make a Debian (the whole log is $new.log)"; }
	rm -f "$new.log"
	mv "$new" "$1"
}

# In that namespace. Where there is no udev, partitions have no nodes, and no file system a link by its UUID.
fill_debian() {
	local image=$1 suite=$2 disk part root=$1.root start size uuid dir
	shift 2
	exec 3>&2 >"$image.log" 2>&1
	read -r start size < <(sfdisk -q -l -o Start,Sectors "$image" | tail -n 1)
	disk=$(losetup -f --show "$image")
	part=$(losetup -f --show -o $((start * 512)) --sizelimit $((size * 512)) "$image")
	# shellcheck disable=SC2064 # now
	trap "umount -R '$root' || true; rmdir '$root' || true; losetup -d '$part' || true; losetup -d '$disk'" EXIT
	mkdir -p "$root"
	mkfs.ext4 -q "$part"
	uuid=$(blkid -p -s UUID -o value "$part")
	mount "$part" "$root"
	say "making a Debian ($suite)" 2>&3
	debootstrap --variant=minbase --include="$(IFS=,; echo "$*")" "$suite" "$root" "$archive"
	echo debian >"$root/etc/hostname"
	chroot "$root" passwd -d root
	echo "UUID=$uuid / ext4 defaults,discard 0 1" >"$root/etc/fstab"
	for dir in proc sys; do mount --rbind "/$dir" "$root/$dir"; done
	mount -t tmpfs dev "$root/dev"
	cp -a /dev/{null,zero,full,random,urandom} "$disk" "$part" "$root/dev/"
	mkdir -p "$root/dev/disk/by-uuid"
	ln -s ../../vda3 "$root/dev/disk/by-uuid/$uuid"
	chroot "$root" grub-install --target=i386-pc "$disk"
	# GRUB makes no entries for what is on a loop device.
	cp -a "$part" "$root/dev/vda3"
	printf '%s\n' '#!/bin/sh' 'case $* in' "*=device*) echo /dev/vda3 ;;" "*=fs_uuid*) echo $uuid ;;" '*=fs*) echo ext2 ;;' \
		'*=partmap*) echo gpt ;;' 'esac' >"$root/dev/grub-probe"
	chmod 755 "$root/dev/grub-probe"
	mount --bind "$root/dev/grub-probe" "$root/usr/sbin/grub-probe"
	chroot "$root" update-grub
	chroot "$root" apt-get clean
}
