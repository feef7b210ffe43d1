# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# ZFS for the lab's kernel: modules built from Debian's source, and the programs that go with them.
# Nothing of it is installed. Sourced after common.sh and kernel.sh.

# fetch_zfs NEW KERNEL_DIR: unpack ZFS, and the headers of this kernel, into NEW/root. ZFS is in
# contrib, which few hosts have among their sources.
fetch_zfs() (
	new=$1 kernel=$2
	release=$(kernel_release "$kernel")
	mkdir -p "$new/apt" "$new/root"
	apt_lists
	# What the host may have of it is downloaded too.
	awk -v RS= -v ORS='\n\n' '!/\nSource: zfs-linux/ && !/^Package: linux-(headers|kbuild|compiler)/' \
		/var/lib/dpkg/status >"$new/apt/status"
	# shellcheck disable=SC2016 # apt's own placeholders
	sources=$(apt-get indextargets 'Created-By: Packages' 'Origin: Debian' \
		--format '$(REPO_URI) $(RELEASE) main contrib' | sort -u)
	own_apt "$new/apt" "$sources"
	say "downloading ZFS and the headers of Linux $release"
	apt --no-install-recommends --download-only install "linux-headers-$release" zfs-dkms zfsutils-linux ||
		die "could not download ZFS or the headers of Linux $release: if the archive has a newer kernel" \
			"by now, remove $kernel and start again"
	for deb in "$new"/apt/cache/archives/*.deb; do
		dpkg-deb -x "$deb" "$new/root"
	done
	rm -rf "$new/apt"
)

# build_zfs NEW RELEASE LOG: the modules, in NEW/root/usr/src/zfs-*.
build_zfs() {
	local new=$1 release=$2 headers=$1/root/usr/src/linux-headers-$2 common
	# It names the other half of the headers by the place where they would be installed.
	sed -i "s| /usr/src/| $new/root/usr/src/|" "$headers/Makefile"
	common=$(sed -n 's|^include \(.*\)/Makefile$|\1|p' "$headers/Makefile")
	say "building ZFS for Linux $release, which takes some minutes"
	(
		cd "$new"/root/usr/src/zfs-*/ &&
			./configure --with-config=kernel --with-linux="$common" --with-linux-obj="$headers" &&
			make -j "$(nproc)"
	) >"$3" 2>&1 </dev/null || { tail -n 30 "$3" >&2; die "could not build ZFS: see $3"; }
}

make_zfs_dir() {
	local new=$1 kernel=$2 release module
	need_packages gcc make perl file libelf-dev
	release=$(kernel_release "$kernel")
	fetch_zfs "$new" "$kernel"
	build_zfs "$new" "$release" "$new.log"
	# Beside links to the kernel's own, so that modprobe knows all that they need.
	mkdir -p "$new/lib/modules/$release/zfs" "$new/bin"
	cp -al "$kernel/lib/modules/$release/kernel" "$new/lib/modules/$release/"
	cp "$kernel/lib/modules/$release"/modules.{order,builtin,builtin.modinfo} "$new/lib/modules/$release/"
	for module in "$new"/root/usr/src/zfs-*/module/*/*.ko; do
		strip -g -o "$new/lib/modules/$release/zfs/${module##*/}" "$module"
	done
	depmod -b "$new" "$release"
	printf '%s\n' "$release" >"$new/release"
	find "$new/root" -path '*bin/z*' -exec cp -L {} "$new/bin" \;
	find "$new/root" -path '*/lib/*-linux-gnu/*.so.*' -exec cp -P {} "$new/lib" \;
	rm -rf "$new/root" "$new.log"
}

# zfs_dir: print the cached directory for the lab's kernel; make it when absent. `modprobe -d DIR zfs`
# loads the modules; programs are in DIR/bin, and their libraries in DIR/lib.
zfs_dir() {
	local kernel dir
	kernel=$(kernel_dir cloud)
	dir=$(tools_cache)/zfs/$(kernel_release "$kernel")
	once "$dir" make_zfs_dir "$kernel"
	printf '%s\n' "$dir"
}
