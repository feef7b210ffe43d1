# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Disks that are ZFS volumes, each alone in a pool, which counts what it holds: one with ZFS's own
# block size, and one whose blocks are larger than a page and compressed.

prepare_zfs() { zfs=$(zfs_dir); }

zfs_run() { LD_LIBRARY_PATH=$zfs/lib "$zfs/bin/$1" "${@:2}"; }

# KiB that a pool holds, beyond what it did when it was new. What is freed at a sync is free to be used
# two syncs later.
pool_holds() {
	local _
	for _ in 1 2 3; do zfs_run zpool sync "$1"; done
	echo $(($(zfs_run zpool list -Hpo alloc "$1") / 1024 - ${new[$1]:-0}))
}
plain_holds() { pool_holds plain; }
large_holds() { pool_holds large; }

# make_zvol NAME OPTION...: a sparse volume in a pool of its own; its device is in ${zvol[NAME]}.
make_zvol() {
	local name=$1 had device
	shift
	truncate -s 512M "$work/on/tmpfs/$name.pool"
	# Without a cache file, which would be in the /etc of the host.
	zfs_run zpool create -m none -o cachefile=none "$name" "$work/on/tmpfs/$name.pool"
	zvol[$name]=
	had=" $(echo /dev/zd*) "
	zfs_run zfs create -s -V 256M "$@" "$name/volume"
	for _ in $(seq 100); do
		for device in /dev/zd*; do
			case $had in *" $device "*) continue ;; esac
			zvol[$name]=$device
			new[$name]=$(pool_holds "$name")
			return 0
		done
		sleep 0.1
	done
	return 1
}

# shellcheck disable=SC2317 # the trap calls it
clean_up_zfs() {
	local name
	end_vm
	for name in "${!zvol[@]}"; do zfs_run zpool destroy "$name"; done
}

test_zfs() {
	# The books that a pool keeps of its free space grow.
	local engine books=512
	# Not local: they are for the trap too.
	declare -gA zvol=() new=()
	if [ "$(uname -r)" != "$(cat "$zfs/release")" ]; then
		skip "ZFS volumes" "the modules are for the lab's kernel"
		return
	fi
	modprobe -d "$zfs" zfs
	trap clean_up_zfs EXIT
	make_zvol plain
	make_zvol large -o volblocksize=64k -o compression=lz4
	for engine in uring sync; do
		devices_story $engine "plain.ext4=${zvol[plain]}" "large.ext4=${zvol[large]}"
	done
}
