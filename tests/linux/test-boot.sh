# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Without --kernel: the default guest goes on with what a disk's boot loader would start. The disks
# have each layout on file systems of their kind, with the default guest itself as what they boot.

# shellcheck disable=SC2016 # what is in single quotes is the guest's

prepare_boot() {
	need_packages binutils dosfstools fdisk genisoimage systemd-boot-efi
	debian_disk >/dev/null
}

make_debian_disk() { "$here/../../tools/mkguest" --debian "$1/disk.img"; }

# An image as users make one.
debian_disk() {
	local key
	key=$(sha256sum <"$here/../../tools/lib/debian.sh")
	once "$(tools_cache)/debian-disk/${key:0:16}" make_debian_disk
	echo "$(tools_cache)/debian-disk/${key:0:16}/disk.img"
}

# file_system TYPE MIB [DIR]: $part, one with the files of the directory $tree, which is empty again then.
file_system() {
	part=$work/part.$((++parts))
	truncate -s "$2M" "$part"
	"mkfs.$1" "$part" >/dev/null
	mkdir -p "$work/mnt"
	mount -o loop "$part" "$work/mnt"
	[ "$1" != btrfs ] || btrfs -q subvolume create "$work/mnt/@"
	cp -r "$tree/." "$work/mnt/"
	umount "$work/mnt"
	rm -r "$tree"
	mkdir "$tree"
	uuid=$(blkid -p -s UUID -o value "$part")
}

# gpt DISK PART...: a disk of them.
gpt() {
	local disk=$1 at=2048 size script=label:gpt part
	shift
	for part; do
		size=$(($(stat -c %s "$part") / 512))
		script+=$'\n'"start=$at, size=$size"
		truncate -s $(((at + size + 2048) * 512)) "$disk"
		dd if="$part" of="$disk" bs=1M seek=$((at / 2048)) conv=notrunc,sparse status=none
		rm "$part"
		at=$((at + size))
	done
	sfdisk -q "$disk" <<<"$script"
}

put() {
	mkdir -p "$tree/${1%/*}"
	cat >"$tree/$1"
}
kernel_to() {
	mkdir -p "$tree/$1"
	cp "$cloud/vmlinuz" "$cloud/initrd" "$tree/$1"
}

# section FILE FLAG...: objcopy's, of a unified kernel image, behind those there are.
make_uki() {
	local out=$1 stub=/usr/lib/systemd/boot/efi/linuxx64.efi.stub
	# quiet: the kernel's own lines would come between the shell's.
	echo 'ro layout=uki quiet -- sh -c "cat /proc/cmdline; echo it is $(nproc)"' >"$work/cmdline"
	objcopy --add-section .cmdline="$work/cmdline" --change-section-vma .cmdline=0x3000000 \
		--add-section .linux="$cloud/vmlinuz" --change-section-vma .linux=0x4000000 \
		--add-section .initrd="$cloud/initrd" --change-section-vma .initrd=0x8000000 $stub "$out"
}

boot_disks() {
	local boot
	kernel_to .
	file_system ext4 64
	boot=$part
	mkdir "$tree/sbin"
	: >"$tree/sbin/init"
	file_system xfs 300
	root_uuid=$uuid
	mount -o loop "$boot" "$work/mnt"
	mkdir "$work/mnt/grub"
	cat >"$work/mnt/grub/grub.cfg" <<-END
		set default=1
		function load_video { insmod all_video; }
		menuentry 'Other' { linux /none; }
		menuentry 'GRUB, /boot' --class gnu {
			load_video
			search --no-floppy --fs-uuid --set=root $(blkid -p -s UUID -o value "$boot")
			linux /vmlinuz root=UUID=$root_uuid ro console=ttyS0 layout=grub skep.init=panic
			initrd /initrd
		}
	END
	umount "$work/mnt"
	gpt "$work/grub.img" "$boot" "$part"

	kernel_to @/boot
	put @/boot/grub/grub.cfg <<-'END'
		menuentry 'GRUB, btrfs' { linux /@/boot/vmlinuz root=/dev/vdb1 rootflags=subvol=@; initrd /@/boot/initrd; }
	END
	file_system btrfs 120
	gpt "$work/btrfs.img" "$part"

	kernel_to .
	echo 'blscfg' | put grub2/grub.cfg
	printf 'title Entry\nlinux /vmlinuz\ninitrd /initrd\noptions root=/dev/vdc1 $more\n' | put loader/entries/x-1.10.conf
	printf 'title Old\nlinux /vmlinuz\ninitrd /initrd\noptions root=/dev/vdc1\n' | put loader/entries/x-1.9.conf
	file_system ext4 64
	gpt "$work/bls.img" "$part"

	kernel_to linux
	: | put EFI/systemd/systemd-bootx64.efi
	printf 'title systemd-boot\nlinux /linux/vmlinuz\ninitrd /linux/initrd\noptions root=/dev/vdd1\n' | put loader/entries/a.conf
	file_system vfat 64
	gpt "$work/systemd.img" "$part"

	mkdir -p "$tree/EFI/BOOT"
	make_uki "$tree/EFI/BOOT/BOOTX64.EFI"
	file_system vfat 64
	boot=$part
	mkdir "$tree/sbin"
	: >"$tree/sbin/init"
	file_system ext4 16
	gpt "$work/uki.img" "$boot" "$part"

	kernel_to boot
	file_system ext4 64
	mv "$part" "$work/plain.img"

	file_system ext4 16
	mv "$part" "$work/empty"
	truncate -s 16M "$work/pv"
	printf LABELONE | dd of="$work/pv" bs=512 seek=1 conv=notrunc status=none
	gpt "$work/none.img" "$work/empty" "$work/pv"
}

would_boot() { check "boot: $1" said "^skep-boot: $2: would boot '$3' \\($4\\): $5 *\$"; }

test_boot() {
	local tree=$work/tree parts=0 part uuid root_uuid layouts=(grub btrfs bls systemd uki plain none) disks=() f
	mkdir "$tree"
	boot_disks
	for f in "${layouts[@]}"; do disks+=(-d "$work/$f.img,readonly"); done
	boot -k "$cloud/vmlinuz" -i "$cloud/initrd" -i "$cloud/initrd-boot" "${disks[@]}" \
		-a 'skep.mount=off -- sh /etc/boot --show'
	ends "boot: each layout is looked at" 0
	would_boot "GRUB, with /boot apart and an xfs" vda 'GRUB, /boot' 'GRUB, vda1:/grub/grub.cfg' \
		"vda1/vmlinuz vda1/initrd: root=UUID=$root_uuid ro console=ttyS0 layout=grub skep.init=panic"
	would_boot "GRUB on a btrfs with subvolumes" vdb 'GRUB, btrfs' 'GRUB, vdb1:/@/boot/grub/grub.cfg' \
		"vdb1/@/boot/vmlinuz vdb1/@/boot/initrd: root=/dev/vdb1 rootflags=subvol=@"
	would_boot "entries of the boot loader specification, by GRUB" vdc Entry 'GRUB, vdc1:/grub2/grub.cfg' \
		'vdc1/vmlinuz vdc1/initrd: root=/dev/vdc1'
	would_boot "systemd-boot" vdd systemd-boot 'systemd-boot on vdd1' 'vdd1/linux/vmlinuz vdd1/linux/initrd: root=/dev/vdd1'
	would_boot "a unified kernel image" vde EFI/BOOT/BOOTX64.EFI "the firmware's default on vde1" \
		'vde1/EFI/BOOT/BOOTX64.EFI : root=/dev/vde2'
	would_boot "a kernel without a loader" vdf /boot/vmlinuz 'no boot loader: a kernel that was found' \
		'vdf/boot/vmlinuz vdf/boot/initrd: ro'
	check "boot: a disk that has none" said '^skep-boot: vdg: nothing to boot: vdg1 is ext4, vdg2 is LVM, which it does not look into$'

	export SKEP_GUEST_DIR=$cloud
	cp "$work/uki.img" "$work/on/tmpfs/uki.img"
	boot -m 384M -c 2 -d "$work/none.img,readonly" -d "$work/on/tmpfs/uki.img,ephemeral" -a 'from=append skep.mount=off'
	ends "boot: a disk boots, and powers off" 0
	check "boot: the first that has a system" said "^skep-boot: vda: nothing to boot: "
	check "boot: with its options, then the machine's, then --append's" \
		said '^root=/dev/vdb2 ro layout=uki .*console=tty0 console=hvc0 .*reboot=acpi.* from=append.* -- sh -c '
	check "boot: with all processors" said '^it is 2'
	check "boot: nothing was written" cmp -s "$work/uki.img" "$work/on/tmpfs/uki.img"

	boot -d "$work/grub.img,ephemeral" --console "file=$work/boot.console"
	ends "boot: a panic of the disk's kernel is one" 121
	check "boot: and its log is its own" complained 'Kernel panic - not syncing'

	boot -d "$work/none.img,readonly"
	ends "boot: nothing to boot is a failure" 125
	check "boot: which says what to do" complained 'found nothing that it could boot.*--guest.*--kernel'
	check "boot: and where it looked" said '^skep-boot: vda: nothing to boot: vda1 is ext4, vda2 is LVM'

	mkdir "$work/seed"
	echo 'instance-id: this one' >"$work/seed/meta-data"
	echo '#cloud-config' >"$work/seed/user-data"
	boot --guest -d "$work/none.img,readonly" --cloud-init "$work/seed" \
		-a '-- grep -c -e CIDATA -e "instance-id: this one" /dev/vdb'
	ends "boot: --guest stays in the default guest" 0
	check "boot: which has what is for cloud-init" said '^2'

	# As users make one, unmodified.
	start -m 512M -c 2 -d "$(debian_disk),ephemeral" --stop-timeout "$boot_patience"
	await 'debian login:'
	ok "boot: a Debian with GRUB gets to its login"
	check "boot: by its own entry" said "^skep-boot: vda: booting 'GNU/Linux' \(GRUB, vda3:/boot/grub/grub.cfg\)"
	kill -TERM "$vm_pid"
	finish
	ends "boot: and ends at the power button" 0
	unset SKEP_GUEST_DIR
}
