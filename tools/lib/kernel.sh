# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Debian kernel packages and initramfs images made from them. Sourced after
# common.sh.

debian_arch() { dpkg --print-architecture; }

kernel_meta_package() {
	case $1 in
	cloud) printf 'linux-image-cloud-%s\n' "$(debian_arch)" ;;
	generic) printf 'linux-image-%s\n' "$(debian_arch)" ;;
	*) printf '%s\n' "$1" ;;
	esac
}

# The packages with files that a meta package pulls in: from some release on,
# kernel and modules are packages of their own.
kernel_packages() {
	local todo=("$1") done_list=' ' p d out=()
	while [ ${#todo[@]} -gt 0 ]; do
		p=${todo[0]}
		todo=("${todo[@]:1}")
		case $done_list in *" $p "*) continue ;; esac
		done_list+="$p "
		[[ $p =~ ^linux-(image|modules|binary|base|image-unsigned)-[0-9] ]] && out+=("$p")
		for d in $(apt-cache depends --important "$p" 2>/dev/null |
			sed -n 's/^ *|\{0,1\}Depends: \(linux-\(image\|modules\|binary\|base\)-[a-z0-9.+-]*\)$/\1/p'); do
			todo+=("$d")
		done
	done
	[ ${#out[@]} -gt 0 ] || return 1
	printf '%s\n' "${out[@]}"
}

# debian_archive: the address of the archive that the host has.
debian_archive() {
	local uri
	apt_lists
	# shellcheck disable=SC2016 # apt's own placeholders
	uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sed q)
	[ -n "$uri" ] || die "apt names no Debian archive to install from"
	printf '%s\n' "$uri"
}

make_kernel_dir() {
	local new=$1 meta=$2 suite=$3 list modules release vmlinuz
	if [ -n "$suite" ]; then
		need_packages debian-archive-keyring
		own_apt "$new/apt" "$(debian_archive) $suite main"
	fi
	apt_lists
	list=$(kernel_packages "$meta") || { apt_lists refresh; list=$(kernel_packages "$meta"); } ||
		die "no kernel package behind '$meta': is it a Debian package name?"
	# shellcheck disable=SC2086
	deb_unpack "$new/root" $list
	modules=$(find "$new"/root/{,usr/}lib/modules -mindepth 1 -maxdepth 1 -type d 2>/dev/null | head -n 1)
	[ -n "$modules" ] || die "'$meta' holds no modules"
	release=${modules##*/}
	# In /boot, or beside the modules (from Linux 7.2 on).
	vmlinuz=$(find "$new/root/boot" "$modules" -maxdepth 1 -name 'vmlinu[xz]*' 2>/dev/null | head -n 1)
	[ -n "$vmlinuz" ] || die "'$meta' holds no kernel"
	mv "$vmlinuz" "$new/vmlinuz"
	mkdir -p "$new/lib/modules"
	mv "$modules" "$new/lib/modules/"
	rm -rf "$new/root" "$new/apt"
	depmod -b "$new" "$release"
	printf '%s\n' "$release" >"$new/release"
	# shellcheck disable=SC2086
	printf '%s\n' $list >"$new/packages"
}

# kernel_dir FLAVOUR|PACKAGE [SUITE]: print the cached directory that holds this kernel's
# vmlinuz, release, packages and lib/modules; make it when absent. The kernel is that of
# SUITE of the Debian archive (bookworm-backports, sid), or what the host's apt would install.
kernel_dir() { cached_kernel once "$@"; }

# refresh_kernel FLAVOUR|PACKAGE [SUITE]: the same, fetched again.
refresh_kernel() {
	[ -n "${2:-}" ] || apt_lists refresh
	cached_kernel anew "$@"
}

cached_kernel() {
	local make=$1 meta dir
	meta=$(kernel_meta_package "$2")
	dir=$(tools_cache)/kernel/$meta${3:+@$3}
	"$make" "$dir" make_kernel_dir "$meta" "${3:-}"
	printf '%s\n' "$dir"
}

make_busybox_dir() {
	deb_unpack "$1/root" busybox-static
	mv "$(find "$1/root" -type f -name busybox -path '*bin*' | head -n 1)" "$1/busybox"
	rm -rf "$1/root"
}

# Print the path of a static busybox. It is taken from its package and not
# installed, because it conflicts with Debian's other busybox.
busybox_path() {
	local dir
	dir=$(tools_cache)/busybox-static
	once "$dir" make_busybox_dir
	printf '%s\n' "$dir/busybox"
}

# kernel_modules DIR MODULE...: print the paths, relative to DIR, of the named
# modules and all they depend on, in loading order. A module that is built in,
# or that this kernel does not have, is left out: ask kernel_has_module.
kernel_modules() {
	local dir=$1 release m
	shift
	release=$(cat "$dir/release")
	for m; do
		modprobe -C /dev/null -d "$dir" -S "$release" --show-depends "$m" 2>/dev/null || true
	done | sed -n "s|^insmod \\(.*\\)/lib/modules/|lib/modules/|p" | sed 's/ *$//' | awk '!seen[$0]++'
}

# kernel_has_module DIR MODULE: as a module or built in.
kernel_has_module() {
	modprobe -C /dev/null -d "$1" -S "$(cat "$1/release")" --show-depends "$2" >/dev/null 2>&1
}

# kernel_release DIR
kernel_release() { cat "$1/release"; }

# unpack_module SRC DST: copy a module, uncompressed: the initramfs is small
# enough, and unpacking costs the guest time.
unpack_module() {
	case $1 in
	*.xz) xz -dc "$1" >"$2" ;;
	*.zst) zstd -qdc "$1" >"$2" ;;
	*.gz) gzip -dc "$1" >"$2" ;;
	*) cp "$1" "$2" ;;
	esac
}

# copy_with_libraries ROOT FILE[:DEST]...: copy programs of the host into ROOT
# with the shared libraries they need.
copy_with_libraries() {
	local root=$1 f src dst lib
	shift
	for f; do
		src=${f%%:*}
		dst=${f#*:}
		case $src in
		/*) ;;
		*) src=$(command -v "$src") || die "'$src' is not on this host" ;;
		esac
		case $dst in /*) ;; *) dst=/bin/${src##*/} ;; esac
		mkdir -p "$root${dst%/*}"
		cp -L "$src" "$root$dst"
		for lib in $( (ldd "$src" 2>/dev/null || true) | grep -o '/[^ ]*'); do
			[ -e "$root$lib" ] && continue
			mkdir -p "$root${lib%/*}"
			cp -L "$lib" "$root$lib"
		done
	done
}

# What the default guest can load. Those that a kernel lacks are left out; xfs and
# btrfs are too big to be paid for by everyone.
guest_modules="virtio_mmio virtio_blk virtio_console virtio_rng virtio_net virtio_balloon virtio_mem
	vmw_vsock_virtio_transport virtiofs 9pnet_virtio 9p button evdev pvpanic-mmio
	loop overlay ext4 crc32c_intel vfat nls_cp437 nls_ascii squashfs"
lib_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Installed, or in the source tree.
agent_dir=$lib_dir/agent
[ -d "$agent_dir" ] || agent_dir=$lib_dir/../../src/agent

# guest_root ROOT KERNEL_DIR [MODULE...]: the file tree of the default guest's
# initramfs, with more modules if asked for.
guest_root() {
	local root=$1 kernel=$2
	shift 2
	mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,dev,proc,sys,tmp,run,root,mnt,etc/acpi/PWRF}
	cp "$(busybox_path)" "$root/bin/busybox"
	ln -s busybox "$root/bin/sh"
	# The kernel's own request for a module.
	ln -s ../bin/busybox "$root/sbin/modprobe"
	install -m 755 "$lib_dir/guest-init" "$root/init"
	put_program "$root" skep-agent "$agent_dir" "$agent_dir"/*.c
	install -m 755 "$lib_dir/guest-dhcp" "$root/etc/dhcp"
	printf 'proc /proc proc\nsys /sys sysfs\ndev /dev devtmpfs\n' >"$root/etc/fstab"
	printf '#!/bin/sh\nexec /bin/busybox kill -USR2 1\n' >"$root/etc/acpi/PWRF/00000080"
	chmod 755 "$root/etc/acpi/PWRF/00000080"
	# shellcheck disable=SC2086
	guest_put_modules "$root" "$kernel" $guest_modules "$@"
}

guest_put_modules() {
	local root=$1 kernel=$2 release m
	shift 2
	release=$(kernel_release "$kernel")
	mkdir -p "$root/lib/modules/$release"
	for m in $(kernel_modules "$kernel" "$@"); do
		unpack_module "$kernel/$m" "$root/lib/modules/$release/$(basename "${m%.ko*}").ko"
	done
	# An empty list of what is built in keeps depmod quiet.
	touch "$root/lib/modules/$release"/modules.{order,builtin,builtin.modinfo}
	depmod -b "$root" "$release"
	(cd "$root/lib/modules/$release" && rm -f modules.*.bin modules.order modules.builtin* \
		modules.devname modules.softdep modules.symbols)
}

# make_program NEW NAME FILE...: from C sources, for the guest.
make_program() { gcc -O2 -static -s -D_GNU_SOURCE -I"$include" -o "$1/$2" "${@:3}"; }

# put_program ROOT NAME INCLUDE FILE...: builds it once, and puts it into ROOT's /bin.
put_program() {
	local root=$1 name=$2 include=$3 dir
	shift 3
	need_packages gcc libc6-dev
	dir=$(tools_cache)/$name/$(find "$include" "$@" -name '*.[ch]' -type f -exec sha256sum {} + | cut -c 1-64 |
		sort | sha256sum | cut -c 1-16)
	once "$dir" make_program "$name" "$@"
	install -D -m 755 "$dir/$name" "$root/bin/$name"
}

# guest_boot_root ROOT KERNEL_DIR GUEST [MODULE...]: what the initramfs has more that boots disks: it is unpacked over
# that of GUEST.
guest_boot_root() {
	local root=$1 kernel=$2 guest=$3
	shift 3
	mkdir -p "$root/etc"
	put_program "$root" guest-kexec "$lib_dir" "$lib_dir/guest-kexec.c"
	install -m 755 "$lib_dir/guest-boot" "$root/etc/boot"
	cat "$lib_dir"/guest-{find,grub}.awk >"$root/etc/boot.awk"
	# shellcheck disable=SC2086
	guest_put_modules "$root" "$kernel" $guest_modules xfs btrfs "$@"
	# Only the lists of modules are in both.
	(cd "$guest" && find lib/modules -name '*.ko') | (cd "$root" && xargs -r rm -f)
}

# pack_initramfs ROOT FILE: an uncompressed newc archive of ROOT, owned by
# root, with no times or inode numbers of the host in it.
pack_initramfs() {
	(cd "$1" && find . -mindepth 1 -printf '%P\n' | LC_ALL=C sort |
		cpio -o -H newc -R 0:0 --reproducible --quiet) >"$2"
}
