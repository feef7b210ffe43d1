# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# The systemd unit, under a real systemd: the host's, in namespaces of its own on an overlay of the
# host's root, with nothing beside it but the journal.

# in_systemd COMMAND...
in_systemd() { nsenter -t "$systemd" -m -p -C -u -i -r -w -- "$@"; }

# shows UNIT PROPERTY
shows() { in_systemd systemctl show -P "$2" "skep@$1"; }

journal() { in_systemd journalctl -q -a -o cat --no-pager -u "skep@$1" | tr -d '\r'; }

state_is() { [ "$(shows "$1" ActiveState)" = "$2" ]; }
gone() { ! kill -0 "$1" 2>/dev/null; }
journal_has() { journal "$1" | grep -qE -- "$2"; }

# unit_says UNIT REGEX: breaks the test off if its guest never does.
unit_says() {
	eventually journal_has "$1" "$2" && return
	echo "# skep@$1 did not say '$2'"
	in_systemd systemctl --no-pager status "skep@$1" | sed 's/^/# | /'
	return 1
}

# ended NAME UNIT STATE RESULT STATUS
ended() {
	is "systemd: $1" "$(shows "$2" ActiveState) $(shows "$2" Result) $(shows "$2" ExecMainStatus)" "$3 $4 $5"
}

# vm NAME ARGS...: its configuration, as a user makes it.
vm() {
	local name=$1
	shift
	"$skep" run -k "$cloud/vmlinuz" -i "$cloud/initrd" "$@" --dry-run >"$root/etc/skep/$name.json"
}

disk_image() {
	truncate -s 64M "$work/$1.img"
	mkfs.ext4 -q "$work/$1.img"
}

# A root where systemd has next to nothing to start, and the unit is installed.
make_root() {
	local unit
	unit=$(dirname "$skep")/data/skep@.service
	mkdir -p "$work/systemd"
	mount -t tmpfs tmpfs "$work/systemd"
	mkdir "$work"/systemd/{upper,work,root}
	root=$work/systemd/root
	mount -t overlay overlay -o "lowerdir=/,upperdir=$work/systemd/upper,workdir=$work/systemd/work" "$root"
	rm -rf "$root"/{etc,lib,usr/lib}/systemd/system/*.{wants,requires} "$root"/{lib,usr/lib}/systemd/system-generators \
		"$root/etc/fstab" "$root/var/log/journal"
	mkdir -p "$root/etc/systemd/system/sysinit.target.wants" "$root/etc/skep" "$root$work"
	ln -s /lib/systemd/system/systemd-journald.service "$root/etc/systemd/system/sysinit.target.wants/"
	tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
	cp "$unit" "$root/etc/systemd/system/"
	# What skep waits for is decided by its configuration.
	mkdir "$root/etc/systemd/system/skep@.service.d"
	printf '[Service]\nTimeoutStopSec=infinity\n' >"$root/etc/systemd/system/skep@.service.d/patience.conf"
	install -D "$skep" "$root$(sed -n 's/^ExecStart=\([^ ]*\) .*/\1/p' "$unit")"
}

# What unshare starts, with the root, $work and the cgroup.
# shellcheck disable=SC2016 # for that shell
enter_root='
	set -e
	mount --rbind /dev "$1/dev"
	mount -t proc proc "$1/proc"
	mount -t sysfs sysfs "$1/sys"
	mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
	mount -t tmpfs tmpfs "$1/run"
	mount -t tmpfs tmpfs "$1/tmp"
	mkdir -p "$1$2"
	mount -o bind "$2" "$1$2"
	cd "$1"
	pivot_root . .
	umount -l .
	exec env -i container=skep PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target'

start_systemd() {
	make_root
	cgroup=/sys/fs/cgroup/skep-systemd
	mkdir "$cgroup"
	# shellcheck disable=SC2016
	sh -c 'echo $$ >"$0/cgroup.procs"
		exec unshare --mount --pid --fork --cgroup --uts --ipc --kill-child sh -c "$@"' \
		"$cgroup" "$enter_root" sh "$root" "$work" </dev/null >"$work/systemd.log" 2>&1 &
	unshared=$!
	eventually booted && return
	echo "# systemd did not start"
	sed 's/^/# | /' "$work/systemd.log"
	dmesg | tail -n 20 | sed 's/^/# | /'
	return 1
}

booted() {
	systemd=$(pgrep -P "$unshared") || return
	[ "$(in_systemd systemctl is-system-running 2>/dev/null)" = running ]
}

make_way_out() {
	modprobe dummy 2>/dev/null || true
	ip link add skep-out type dummy
	ip addr add 192.0.2.2/24 dev skep-out
	ip link set skep-out up
	ip route add default via 192.0.2.1
}

# shellcheck disable=SC2317 # the trap calls it
clean_up_systemd() {
	ip link delete skep-out 2>/dev/null || true
	if kill -KILL "$unshared" 2>/dev/null; then wait "$unshared" || true; fi
	rmdir "$cgroup"/* "$cgroup" 2>/dev/null || true
	umount "$root" "$work/systemd"
}

test_systemd() {
	local systemd patience=$boot_patience
	if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
		skip "the systemd unit" "cgroup2 is not mounted"
		return
	fi
	trap clean_up_systemd EXIT
	start_systemd

	check "systemd: a VM without a configuration does not start" \
		eval '! in_systemd systemctl start skep@none'

	disk_image kept
	vm kept -d "$work/kept.img" --stop-timeout "$patience" \
		-a '-- sh -c "echo kept >/mnt/vda/kept; exec /t/ready"'
	check "systemd: a VM starts" in_systemd systemctl start skep@kept
	unit_says kept '^@up'
	check "systemd: and stops" in_systemd systemctl stop skep@kept
	check "systemd: the guest shut down in order" journal_has kept 'skep-guest: exit status 143'
	ended "to stop is no failure" kept inactive success 0
	check "systemd: the disk was unmounted" e2fsck -fn "$work/kept.img"
	is "systemd: it has what the guest wrote" "$(debugfs -R 'cat kept' "$work/kept.img" 2>/dev/null)" kept

	# passt wants a way out of the host.
	[ -n "$(ip route show default)" ] || make_way_out
	vm net -n passt --stop-timeout "$patience" -a '-- /t/ready'
	check "systemd: a VM behind passt starts" in_systemd systemctl start skep@net
	unit_says net '^@up'
	in_systemd systemctl stop skep@net
	ended "and ends in order" net inactive success 0
	check "systemd: it had its network until then" eval '! journal_has net "passt is gone"'

	vm deaf --stop-timeout 2 -a 'rdinit=/t/deaf'
	in_systemd systemctl start skep@deaf
	unit_says deaf '^@up'
	in_systemd systemctl stop skep@deaf || true
	ended "a guest that does not hear the power button fails" deaf failed exit-code 143

	vm panics -a 'panic=1 skep.init=panic'
	in_systemd systemctl start skep@panics
	check "systemd: a guest's panic ends its unit" eventually state_is panics failed
	ended "as a failure" panics failed exit-code 121
	is "systemd: and it is not started again" "$(shows panics NRestarts)" 0

	disk_image again
	vm again -d "$work/again.img" --stop-timeout "$patience" \
		-a '-- sh -c "if [ -e /mnt/vda/once ]; then exec /t/ready; else : >/mnt/vda/once; reboot; sleep 1000; fi"'
	in_systemd systemctl start skep@again
	unit_says again '^@up'
	is "systemd: a guest that reboots is started again" "$(shows again ActiveState) $(shows again NRestarts)" "active 1"
	check "systemd: and did not fail in between" eval '! journal_has again "Failed with result"'

	in_systemd systemctl --no-block start poweroff.target
	check "systemd: the host's shutdown ends" eventually gone "$unshared"
	check "systemd: it lets guests unmount their disks" e2fsck -fn "$work/again.img"
	is "systemd: clean" "$(dumpe2fs -h "$work/again.img" 2>/dev/null | grep -c needs_recovery)" 0
}
