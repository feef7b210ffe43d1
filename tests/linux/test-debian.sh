# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# As people use it: an installed Debian with systemd, its own kernel and initrd.img.

test_debian() {
	cp --sparse=always "$debian/disk.img" "$work/on/ext4/debian.img"
	start -k "$debian/vmlinuz" -i "$debian/initrd.img" -m 1G -c 2 --stop-timeout "$boot_patience" -d "$work/on/ext4/debian.img" \
		-a 'root=/dev/vda rw'
	await 'skep-debian login:'
	ok "Debian with systemd boots to a login prompt"
	kill -TERM "$vm_pid"
	finish
	ends "SIGTERM shuts it down" 0
	check "in order, as systemd tells" said 'Reached target.*([Pp]ower.?[Oo]ff|Power Off)'
	check "its file system is clean" e2fsck -fn "$work/on/ext4/debian.img"
	is "and was unmounted" "$(dumpe2fs -h "$work/on/ext4/debian.img" 2>/dev/null | sed -n 's/^Filesystem state: *//p')" clean
}
