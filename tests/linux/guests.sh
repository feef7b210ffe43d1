# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# The guests that the tests boot, made once and kept in the cache.

# make_guest_for NEW FLAVOUR [SET [SUITE]]: with the programs of the host that some of the guest's scripts use beside
# busybox, and the modules for them. They are apart, as each has many libraries.
make_guest_for() {
	local new=$1 flavour=$2 f args=() programs=() modules=''
	for f in "$here"/guest/*; do args+=(--add "$f:/t/${f##*/}"); done
	case ${3:-} in
	tools)
		programs=(mkfs.ext4 mkfs.xfs mkfs.btrfs
			/sbin/fstrim:/t/bin/fstrim /sbin/blkdiscard:/t/bin/blkdiscard /usr/bin/fallocate:/t/bin/fallocate)
		modules="xfs btrfs"
		;;
	fio) programs=(fio) ;;
	socat) programs=(socat) ;;
	lvm)
		programs=(mkfs.ext4 /sbin/fstrim:/t/bin/fstrim /sbin/blkdiscard:/t/bin/blkdiscard /sbin/dmsetup /sbin/lvm)
		modules="dm-thin-pool"
		;;
	esac
	for f in "${programs[@]}"; do args+=(--add "$f"); done
	[ -z "${4:-}" ] || args+=(--suite "$4")
	"$here/../../tools/mkguest" -o "$new" --flavour "$flavour" --modules "$modules" "${args[@]}"
}

# guest_for FLAVOUR [SET [SUITE]]: the directory of the default guest with the scripts of guest/ in
# /t. The key holds all that goes in, so that an edited script makes a new one.
guest_for() {
	local key dir kernel name=$1${2:+-$2}${3:+@$3}
	kernel=$(kernel_dir "$1" "${3:-}")
	key=$({
		find "$here/guest" -printf '%m %f\n' | sort
		cat "$here"/guest/* "$here/guests.sh" "$here"/../../tools/mkguest "$here"/../../tools/lib/*.sh \
			"$here"/../../tools/lib/guest-* "$here"/../../src/agent/* "$kernel/packages"
	} | sha256sum)
	dir=$(tools_cache)/test-guest/$name-${key:0:16}
	if [ ! -d "$dir" ]; then
		find "$(tools_cache)/test-guest" -maxdepth 1 -name "$name-????????????????" -mmin +1440 -exec rm -rf {} + 2>/dev/null || true
	fi
	once "$dir" make_guest_for "$@"
	printf '%s\n' "$dir"
}

# A Debian as people install it: systemd, its own kernel and initrd.img, on ext4.
make_debian() {
	local new=$1 suite
	# shellcheck source=/dev/null
	suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
	say "making a Debian root file system ($suite)"
	debootstrap --variant=minbase \
		--include=linux-image-cloud-amd64,systemd-sysv,udev,dbus,zstd \
		"$suite" "$new/root" "$(debian_archive)" >"$new/log" 2>&1 ||
		{ tail -n 20 "$new/log" >&2; die "debootstrap failed"; }
	echo skep-debian >"$new/root/etc/hostname"
	echo '/dev/vda / ext4 defaults,discard 0 1' >"$new/root/etc/fstab"
	# Its initrd.img loads no virtio_console, so systemd starts before hvc0 is there to be found.
	ln -s /lib/systemd/system/serial-getty@.service \
		"$new/root/etc/systemd/system/getty.target.wants/serial-getty@hvc0.service"
	# Beside its modules, from Linux 7.2 on.
	cp "$(find "$new"/root/usr/lib/modules/*/vmlinuz "$new"/root/boot/vmlinuz-* 2>/dev/null | sed q)" "$new/vmlinuz"
	cp "$new"/root/boot/initrd.img-* "$new/initrd.img"
	rm -rf "$new"/root/var/cache/apt/archives/*.deb
	truncate -s 2G "$new/disk.img"
	mkfs.ext4 -q -d "$new/root" "$new/disk.img"
	rm -rf "$new/root"
}

debian_guest() {
	local dir key
	key=$(declare -f make_debian | sha256sum)
	dir=$(tools_cache)/debian-guest/${key:0:16}
	once "$dir" make_debian
	printf '%s\n' "$dir"
}

prepare_guests() {
	need_packages cpio dmsetup kmod xz-utils e2fsprogs xfsprogs btrfs-progs util-linux debootstrap zstd \
		fio lvm2 systemd procps iproute2 passt socat
	cloud=$(guest_for cloud)
	tools=$(guest_for cloud tools)
	fio=$(guest_for cloud fio)
	lvm=$(guest_for cloud lvm)
	socat=$(guest_for cloud socat)
	generic=$(guest_for generic)
	debian=$(debian_guest)
}
