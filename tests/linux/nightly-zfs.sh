# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Disks that are ZFS volumes, each in a pool of its own: one with ZFS's own block size, and one whose
# blocks are larger than a page and compressed.

prepare_zfs() { zfs=$(zfs_dir); }

zfs_run() { LD_LIBRARY_PATH=$zfs/lib "$zfs/bin/$1" "${@:2}"; }

# KiB that a volume holds. Not its pool, which has books of its own that grow.
volume_holds() {
	zfs_run zpool sync "$1"
	echo $(($(zfs_run zfs list -Hpo referenced "$1/volume") / 1024))
}
plain_holds() { volume_holds plain; }
large_holds() { volume_holds large; }

# make_zvol NAME OPTION...: a sparse volume in a pool of its own; its device is in ${zvol[NAME]}.
make_zvol() {
	local name=$1 had
	shift
	truncate -s 512M "$work/on/tmpfs/$name.pool"
	# Without a cache file, which would be in the /etc of the host.
	zfs_run zpool create -m none -o cachefile=none "$name" "$work/on/tmpfs/$name.pool"
	zvol[$name]=
	had=" $(echo /dev/zd*) "
	zfs_run zfs create -s -V 256M "$@" "$name/volume"
	eventually find_zvol "$name" "$had"
}
find_zvol() {
	local device
	for device in /dev/zd*; do
		case $2 in *" $device "*) continue ;; esac
		zvol[$1]=$device
		return 0
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
	local engine
	# Not local: it is for the trap too.
	declare -gA zvol=()
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
