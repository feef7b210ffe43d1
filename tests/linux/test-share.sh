# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Directories that a guest shares, as a stock kernel mounts them.

# A directory with something of everything, and a small root file system.
make_shares() {
	data=$1/data root=$1/root
	mkdir -p "$data/many" "$root/bin"
	echo hi >"$data/hello"
	head -c 20M /dev/urandom >"$data/big"
	(cd "$data/many" && seq 5000 | xargs touch)
	echo secret >"$1/outside"
	ln -s "$1/outside" "$data/outside"
	cp "$(busybox_path)" "$root/bin/busybox"
	ln -s busybox "$root/bin/sh"
}

test_share() {
	local data root
	mkdir "$work/on/ext4/share"
	make_shares "$work/on/ext4/share"
	mkdir "$data/sub"
	mount -t tmpfs tmpfs "$data/sub"
	echo below >"$data/sub/file"
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 512M --share "$data" --share "$root,readonly" \
		--control "$work/socket" -a 'skep.mount=off -- /t/share'
	step written
	is "a file is read" "$(value hello)" hi
	is "a large one, too" "$(value sum)" "$(sha "$data/big")"
	is "and a directory of 5,000" "$(value many)" 5000
	is "a program runs from a share that is a root file system" "$(value ran)" 42
	is "which is read-only" "$(value denied)" "Read-only file system"
	check "so nothing is new there" test ! -e "$root/new"
	is "what is mounted on the host in it is a file system of its own" "$(value sub)" "below other"
	is "what was written is whole" "$(sha "$data/copy")" "$(sha "$data/big")"
	is "what was appended to, and moved" "$(cat "$data/dir/sub/moved")" "$(printf 'one\ntwo')"
	is "with its mode, owner and time" \
		"$(TZ=UTC stat -c '%a %u:%g %y' "$data/dir/sub/moved")" "4711 0:0 2001-02-03 04:05:06.000000000 +0000"
	is "a link" "$(value link)" "hi ../hello"
	is "a hard link" "$(stat -c %h "$data/hello")" 2
	is "a pipe is the guest's own" "$(stat -c %F "$data/pipe") $(cat "$data/piped")" "fifo through"
	is "a file that was removed is there while it is open" "$(value unlinked)" x
	is "a file of 5 GiB" "$(stat -c %s "$data/huge")" $((5 * 1024 ** 3 + 4))
	is "a link to outside leads to a place in the guest" "$(value outside)" "no such file"
	is "files of a guest's user are that user's" "$(value user) $(stat -c %u:%g "$data/users/file" "$data/users/dir" | tr '\n' ' ')" \
		"65534:65534 65534:65534 65534:65534 "
	echo news >"$data/from-host"
	"$skep" control "$work/socket" status >"$work/status"
	check "status tells of the share" grep -q "^share data: $data; [0-9]* inodes known, [0-9]* files open" "$work/status"
	go on
	step seen
	is "what the host writes the guest sees" "$(value seen)" news
	go on
	finish
	ends "the guest's own end" 0
	is "nothing is left open" "$(python3 -c '
import json, sys
print(*((s["tag"], s["inodes"], s["handles"]) for s in json.load(open(sys.argv[1]))["shares"]))' "$vm/result")" \
		"('data', 1, 0) ('root', 1, 0)"
	umount "$data/sub"
	rm -r "$work/on/ext4/share"
}

# What the host does meanwhile is seen as the cache mode says.
test_share_cache() {
	local mode args=()
	for mode in auto always never; do
		mkdir "$work/$mode"
		echo old >"$work/$mode/file"
		args+=(--share "$work/$mode,cache=$mode")
	done
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 512M "${args[@]}" -a 'skep.mount=off -- /t/share-cache'
	step read
	for mode in auto always never; do
		echo new >"$work/$mode/file"
		echo >"$work/$mode/name"
		is "$mode: what the guest wrote is there" "$(cat "$work/$mode/guest")" "of the guest"
	done
	go on
	step again
	is "auto: what is opened again is new" "$(value auto.file)" new
	is "auto: a name is there after a second" "$(value auto.name)" yes
	is "never: what is open is new" "$(value never.open)" new
	is "never: a name is there at once" "$(value never.name)" yes
	is "always: the guest knows what it knew" "$(value always.file) $(value always.name)" "old no"
	go on
	finish
	ends "the guest's own end" 0
}

# What system calls say, and what is in files, is the same in the guest as on the host.
test_share_conformance() {
	local mode dir=$work/on/ext4/same known
	cp "$helpers/files" "$helpers/fsx" "$work"
	cd "$work" || return
	mkdir -p "$dir/host"
	./files "$dir/host" >host
	at_least "calls on the host" "$(wc -l <host)" 1000
	for mode in auto always never; do
		mkdir "$dir/$mode"
		# shellcheck disable=SC2016
		command_vm --share "$dir/$mode,cache=$mode,acl,locks,queues=3" -- sh -c 'mount -t virtiofs $1 /mnt && ./files /mnt &&
			for seed in 1 2; do ./fsx /mnt/fsx 2000 $seed || exit; sha256sum </mnt/fsx; done' sh "$mode"
		# Linux's own: truncate() to the size that there is.
		known=
		[ $mode != always ] || known=$(printf '<   changes of file: mtime ctime\n>   changes of file:')
		is "cache=$mode: system calls say the same as on the host" \
			"$(diff host <(out | head -n "$(wc -l <host)") | grep '^[<>]')" "$known"
		is "cache=$mode: and files hold what they should" "$status $(out | tail -n 1)" "0 $(sha256sum <"$dir/$mode/fsx")"
	done
	rm -r "$dir"
}

# With `locks` the guest and the host have one lock between them.
test_share_locks() {
	cd "$work" || return
	mkdir locks
	: >locks/file
	mkfifo let-go
	flock locks/file sh -c ': <let-go' &
	{
		eventually test -s locks/busy
		: >let-go
		eventually test -s locks/has
		flock -n locks/file true || echo busy >locks/for-host
		python3 -c 'import fcntl; fcntl.lockf(open("locks/file", "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null ||
			echo busy >>locks/for-host
		echo >locks/end
	} &
	# shellcheck disable=SC2016
	command_vm --share "$work/locks,locks,cache=never" -- sh -c 'mount -t virtiofs locks /mnt && cd /mnt &&
		flock -n file true || echo busy >busy
		flock file python3 -c "
import fcntl, os, time
f = open(\"file\", \"r+\")
fcntl.lockf(f, fcntl.LOCK_EX)
print(\"mine\")
open(\"has\", \"w\").write(\"x\")
while not os.path.exists(\"end\"): time.sleep(0.1)"'
	wait
	is "the guest waits for the host's lock" "$status $(cat locks/busy) $(out)" "0 busy mine"
	is "and the host does not get the guest's, of both kinds" "$(cat locks/for-host)" "$(printf 'busy\nbusy')"
	check "until it has ended" flock -n locks/file true
}

# Thousands of files, unpacked in the guest, are on the host as they were, with their owners, modes and times.
test_share_tree() {
	local dir=$work/on/ext4/tree
	mkdir "$dir" && cd "$work" || return
	tar_of() { tar -C "$1" --sort=name -cf - include share/perl lib/python3; }
	command_vm --share "$dir,cache=always" -- sh -c 'mount -t virtiofs tree /mnt &&
		tar -C /usr -cf - include share/perl lib/python3 | tar -C /mnt -xf - && find /mnt | wc -l'
	at_least "files are unpacked" "$(out)" 5000
	is "as they were" "$(tar_of "$dir" | sha256sum)" "$(tar_of /usr | sha256sum)"
	rm -r "$dir"
}

# A full file system, and one whose disk fails: the guest is told, at the latest by fsync.
test_share_errors() {
	local loop sectors=$((64 << 11))
	mkdir "$work/small" "$work/bad"
	mount -t tmpfs -o size=1M tmpfs "$work/small"
	truncate -s 64M "$work/on/ext4/bad.disk"
	loop=$(losetup -f --show "$work/on/ext4/bad.disk")
	mapper skep-bad "0 $sectors linear $loop 0"
	mkfs.ext4 -q -O ^has_journal /dev/mapper/skep-bad
	mount /dev/mapper/skep-bad "$work/bad"
	echo good >"$work/bad/file"
	sync
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 512M --share "$work/small" --share "$work/bad" \
		-a 'skep.mount=off -- /t/share-errors'
	step full
	is "a full file system" "$(value full)" "No space left on device"
	is "which is none when a file is gone" "$(value again)" yes
	dmsetup suspend --noflush skep-bad
	dmsetup reload skep-bad --table "0 $sectors error"
	dmsetup resume skep-bad
	go on
	step failed
	is "fsync tells of a disk that fails" "$(value fsync)" "Input/output error"
	rm -r "$work/small/dir"
	go on
	step gone
	is "a directory that is gone" "$(value gone)" "no such file"
	go on
	finish
	ends "the guest's own end" 0
	umount -l "$work/bad"
	umount "$work/small"
	dmsetup remove --force --retry skep-bad
	losetup -d "$loop"
	rm "$work/on/ext4/bad.disk"
}

# A file system of the host that does not answer: the VM's end does not wait for it, and is told before it does.
test_share_frozen() {
	truncate -s 64M "$work/frozen.fs"
	mkfs.ext4 -q "$work/frozen.fs"
	mkdir "$work/frozen"
	mount -o loop "$work/frozen.fs" "$work/frozen"
	trap 'fsfreeze -u "$work/frozen" 2>/dev/null || true; end_vm' EXIT
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 256M --share "$work/frozen" --stop-timeout 1 \
		-a 'skep.mount=off -- sh -c "mount -t virtiofs frozen /mnt && echo @up; while :; do echo >/mnt/x; done"'
	step up
	fsfreeze -f "$work/frozen"
	check "a request waits in the kernel" eventually in_kernel
	kill -TERM "$vm_pid"
	check "there is a result" eventually test -s "$vm/result"
	fsfreeze -u "$work/frozen"
	finish
	ends "the status is that of the signal" 143
	is "nothing holds the directory" "$(umount "$work/frozen" 2>&1)" ""
}
