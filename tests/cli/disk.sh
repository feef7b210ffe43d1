#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: disk.sh SKEP
#
# skep disk, on real files: on file systems of each kind where root can mount them.
set -eu

# Mounts are in a namespace of our own.
if [ "$(id -u)" = 0 ] && [ -z "${SKEP_TEST_MOUNTS-}" ] && unshare --mount true 2>/dev/null; then
	SKEP_TEST_MOUNTS=yes exec unshare --mount --propagation private "$0" "$@"
fi
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"
mib=$((1 << 20))
loop=
trap '[ -z "$loop" ] || losetup -d "$loop"; cd /; umount -q "$tmp/on" "$tmp/back" || true; rm -rf "$tmp"' EXIT
mkdir "$tmp/on" "$tmp/back"
cd "$tmp"

size() { stat -c %s "$1"; }
allocated() { # bytes
	sync "$1"
	echo $(($(stat -c %b "$1") * 512))
}
sha() { sha256sum <"$1"; }
# info FILE EXPRESSION: whether it is true of what info --json says.
info() {
	run disk info --json "$1"
	[ "$status" = 0 ] && err_is_empty && json out "$2"
}
# does ARG...: succeeds, with one line on stdout and nothing on stderr.
does() {
	run disk "$@"
	[ "$status" = 0 ] && [ "$(wc -l <out)" = 1 ] && err_is_empty
}

# create
ok "create: makes a file" does create a.img 64M
ok "create: of that size" [ "$(size a.img)" = $((64 * mib)) ]
ok "create: that occupies nothing" [ "$(allocated a.img)" -lt $((64 * 1024)) ]
ok "create: says so" out_is "a.img: 64 MiB"
ok "create: a bare number is MiB" does create bare.img 3
ok "create: so it is" [ "$(size bare.img)" = $((3 * mib)) ]
ok "create: half a GiB" does create half.img 0.5G
ok "create: is 512 MiB" [ "$(size half.img)" = $((512 * mib)) ]
ok "create: bytes" does create bytes.img 1536B
ok "create: so many" [ "$(size bytes.img)" = 1536 ]
echo kept >a.img
ok "create: does not overwrite" complains 125 "^skep: 'a.img': exists already: .*--force" disk create a.img 1M
ok "create: what is there stays" [ "$(cat a.img)" = kept ]
# A tmpfs has files of any size.
if ! truncate -s 4000000T huge 2>/dev/null; then
	ok "create: a size for no file leaves it too" complains 125 "no files of" disk create --force a.img 4000000T
	ok "create: as it was" [ "$(cat a.img)" = kept ]
fi
rm -f huge
ok "create --force: overwrites" does create a.img 1M --force
ok "create --force: what is there is gone" cmp -s a.img <(head -c $mib /dev/zero)
ok "create: no size" complains 2 "^skep: a size is missing: skep disk create .OPTION...] PATH SIZE" disk create x
ok "create: no path" complains 2 "^skep: a path is missing" disk create
ok "create: an empty path" complains 2 "^skep: a path is missing" disk create "" 1M
ok "create: nothing" complains 2 "0 bytes is not a valid size" disk create x 0
ok "create: no whole sectors" complains 2 "multiple of 512" disk create x 1000B
ok "create: too much" complains 2 "more than any file holds" disk create x 9000000T
ok "create: no size at all" complains 2 "'huge' is not a size" disk create x huge
ok "create: more than a size" complains 2 "unexpected argument 'y'" disk create x 1M y
ok "create: in no directory" complains 125 "'none/x': there is no such directory: make it first" disk create none/x 1M
ok "create: a directory" complains 125 "is a directory" disk create on 1M --force
mkfifo pipe
ok "create: a pipe, and does not wait for it" complains 125 "is a pipe: an image is a regular file" disk create pipe 1M --force
ok "create: nothing was made by mistake" [ ! -e x ]
ok "create --preallocate" does create full.img 8M --preallocate
ok "create --preallocate: occupies it all" [ "$(allocated full.img)" -ge $((8 * mib)) ]

# info
ok "info --json: the members" info a.img \
	'list(d) == ["path", "type", "size", "allocated", "holes", "block_size", "discard"] and
	list(d["holes"]) == ["count", "bytes"] and list(d["discard"]) == ["works", "granularity", "note"]'
ok "info --json: an empty image is one hole" info half.img \
	"d['path'] == 'half.img' and d['type'] == 'file' and d['size'] == $((512 * mib)) and
	d['holes'] == {'count': 1, 'bytes': $((512 * mib))}"
ok "info --json: whether holes can be punched" info half.img \
	'd["discard"]["works"] is True and d["discard"]["granularity"] == d["block_size"] and d["discard"]["note"] is None or
	d["discard"]["works"] is not True and d["discard"]["granularity"] == 0 and d["discard"]["note"]'
truncate -s 1M holes.img
head -c 65536 /dev/urandom | dd of=holes.img bs=65536 seek=4 conv=notrunc status=none
sync holes.img
ok "info --json: holes around data" info holes.img \
	"d['holes'] == {'count': 2, 'bytes': $((mib - 65536))} and d['allocated'] >= 65536"
cp -p holes.img before.img
chmod a-w holes.img
before=$(stat -c '%y %z %b' holes.img)
run disk info holes.img
ok "info: status 0" [ "$status" = 0 ]
ok "info: text" out_has '^size +1 MiB \(1048576 bytes\)$'
ok "info: holes" out_has "^holes +2, of 960 KiB \\($((mib - 65536)) bytes\\) together\$"
ok "info: changes nothing, not even times" [ "$(stat -c '%y %z %b' holes.img)" = "$before" ]
ok "info: leaves nothing behind" [ -z "$(find . -name '.skep*')" ]
: >empty
ok "info: an empty file" info empty 'd["size"] == 0 and d["holes"] == {"count": 0, "bytes": 0}'
ok "info: no file" complains 125 "'skep disk create' makes images" disk info none
ok "info: no whole pipe" complains 125 "is a pipe: an image is a regular file" disk info pipe
ok "info: a character device" complains 125 "is a character device" disk info /dev/null
ok "info: what does not hold for it" complains 2 "unknown option '--force': 'skep help disk'" disk info --force a.img
ok "info: a size" complains 2 "unexpected argument '1M': skep disk info .OPTION...] PATH" disk info a.img 1M
cp half.img $'odd\nname\xff' 2>/dev/null
ok "info --json: a name that is not UTF-8" info $'odd\nname\xff' 'd["path"] == "odd\nname?"'
status=0
"$skep" disk info a.img >/dev/full 2>err </dev/null || status=$?
ok "info: standard output is full" [ "$status" = 125 ]

# resize
truncate -s 0 r.img
head -c $((2 * mib)) /dev/urandom >r.img
hash=$(sha r.img)
ok "resize: grows" does resize r.img 4M
ok "resize: says so" out_is "r.img: 4 MiB, was 2 MiB"
ok "resize: to that size" [ "$(size r.img)" = $((4 * mib)) ]
ok "resize: grows by" does resize r.img +1.5M
ok "resize: that much" [ "$(size r.img)" = $((11 * mib / 2)) ]
ok "resize: to what it is" does resize r.img 5.5M
ok "resize: does not shrink unasked" complains 125 "the last 2.5 MiB would be cut off.*--shrink" disk resize r.img 3M
ok "resize: nothing shrank" [ "$(size r.img)" = $((11 * mib / 2)) ]
ok "resize: nor by --force alone" complains 125 "would be cut off" disk resize r.img 3M --force
dd if=/dev/zero of=r.img bs=1M seek=4 count=1 conv=notrunc status=none
run disk resize r.img 2M --shrink
ok "resize --shrink: zeros and holes" [ "$status" = 0 ]
ok "resize --shrink: warns" err_has '^skep: warning: r.img: the last 3.5 MiB, all zeros, are cut off'
ok "resize --shrink: to that size" [ "$(size r.img)" = $((2 * mib)) ]
ok "resize: all data is there" [ "$(sha r.img)" = "$hash" ]
ok "resize --shrink: not below data" complains 125 "has data at byte .*--force" disk resize r.img 1M --shrink
truncate -s 4M r.img
printf x | dd of=r.img bs=1 seek=$((3 * mib + 12345)) conv=notrunc status=none
ok "resize --shrink: one byte is data" complains 125 "has data at byte $((3 * mib + 12345))," disk resize r.img 2M --shrink
ok "resize --shrink: the byte at the edge" complains 125 "has data at byte" disk resize r.img $((3 * mib + 12288))B --shrink
ok "resize --shrink: nothing shrank" [ "$(size r.img)" = $((4 * mib)) ]
run disk resize r.img 1M --shrink --force
ok "resize --shrink --force: cuts" [ "$status" = 0 ]
ok "resize --shrink --force: warns" err_has 'the data in the last 3 MiB is lost'
ok "resize --shrink --force: to that size" [ "$(size r.img)" = $mib ]
truncate -s 1000 odd.img
ok "resize: by no whole sectors in sum" complains 2 "1512 bytes is not a valid size" disk resize odd.img +512B
ok "resize: an odd file to a size" does resize odd.img 1M
ok "resize: by too much" complains 2 "more than any file holds|too large to grow" disk resize odd.img +15999999T
ok "resize: by nothing there is" complains 2 "is not a size" disk resize odd.img +
ok "resize: no file is made" complains 125 "'skep disk create' makes images" disk resize none 1M

# An image in use stays as it is.
head -c $mib /dev/urandom >used.img
hash=$(sha used.img)
python3 -c 'import fcntl, signal
f = open("used.img", "r+")
fcntl.lockf(f, fcntl.LOCK_EX, 104, 100)
print("locked", flush=True)
signal.pause()' >locked &
holder=$!
until [ -s locked ]; do sleep 0.05; done
ok "in use: no compact" complains 125 "in use by process $holder \\(python3\\)" disk compact used.img
ok "in use: no resize" complains 125 "in use by process $holder" disk resize used.img 4M
ok "in use: not created anew" complains 125 "in use by process $holder" disk create used.img 4M --force
ok "in use: info" info used.img 'd["size"] == 1 << 20'
ok "in use: unchanged" [ "$(sha used.img)" = "$hash" ]
kill $holder
wait $holder 2>/dev/null || true
ok "no longer in use: resize" does resize used.img 4M

# compact
cat >sieve.py <<'PY'
"""sieve.py FILE SEED: writes data, zeros and holes of odd lengths at odd offsets."""
import os, random, sys

r = random.Random(int(sys.argv[2]))
with open(sys.argv[1], "wb") as f:
    at = 0
    while at < 12 << 20:
        n = r.choice((1, 100, 511, 4096, 5000, 65536, 300001, 2 << 20))
        n = r.randint(1, n) if r.random() < 0.8 else n
        kind = r.choice("dzzzh")
        f.seek(at)
        if kind == "d":
            f.write(r.randbytes(n))
        elif kind == "z":
            f.write(bytes(n))
        at += n
    # The last block is a part of one: data or zeros.
    f.seek(at)
    f.write(bytes(r.randint(100, 9000)) + (b"" if r.random() < 0.5 else b"\1"))
    f.flush()
    os.fsync(f.fileno())
    # No blocks that XFS keeps for a file that may still grow.
    os.ftruncate(f.fileno(), f.tell())
PY
# data_bytes FILE BLOCK: what whole blocks with data in them hold, up to the end of the file.
cat >data.py <<'PY'
import os, sys

block, total = int(sys.argv[2]), 0
with open(sys.argv[1], "rb") as f:
    while piece := f.read(block):
        total += len(piece) if any(piece) else 0
print(total)
PY
compacts() { # compacts NAME FILE: all that is to be said of one image
	local hash mtime before after data block
	hash=$(sha "$2")
	before=$(allocated "$2")
	touch -d '2001-02-03 04:05:06.789' "$2"
	mtime=$(stat -c '%s %y' "$2")
	ok "$1: compact" does compact "$2"
	ok "$1: every byte is as it was" [ "$(sha "$2")" = "$hash" ]
	ok "$1: size and modification time too" [ "$(stat -c '%s %y' "$2")" = "$mtime" ]
	after=$(allocated "$2")
	run disk info --json "$2"
	block=$(python3 -c 'import json; print(json.load(open("out"))["block_size"])')
	data=$(python3 data.py "$2" "$block")
	ok "$1: all zeros are holes" json out "d['holes']['bytes'] == d['size'] - $data"
	# A file system may need blocks of its own to know them.
	ok "$1: what they occupied is free ($before, $after, data $data)" [ "$after" -le $((data + data / 50 + 65536)) ]
	ok "$1: compact again frees nothing" does compact "$2"
	ok "$1: and says so" out_has ': 0 B freed, '
	ok "$1: still every byte" [ "$(sha "$2")" = "$hash" ]
}
sieves() { # sieves NAME DIR
	local seed
	for seed in $RANDOM $RANDOM; do
		python3 sieve.py "$2/s.img" "$seed"
		compacts "$1, seed $seed" "$2/s.img"
	done
	rm "$2/s.img"
	# It does not tell what was preallocated.
	[ "$(stat -f -c %T "$2")" != tmpfs ] || return 0
	run disk create "$2/p.img" 16M --preallocate
	head -c 5000 /dev/urandom | dd of="$2/p.img" bs=5000 seek=1000 conv=notrunc status=none
	compacts "$1, preallocated" "$2/p.img"
	rm "$2/p.img"
}
head -c $((8 * mib)) /dev/zero >zeros.img
sync zeros.img
run disk compact zeros.img
ok "compact: says what it freed" out_is "zeros.img: 8 MiB freed, 0 B still allocated"
ok "compact: an empty file" does compact empty
ok "compact: no file" complains 125 "no such file" disk compact none
ok "compact: a pipe" complains 125 "is a pipe: an image is a regular file" disk compact pipe
ok "compact: a second file" complains 2 "unexpected argument" disk compact a.img a.img

# Ended by force at any moment: the rest of the zeros is still there, and so is all else.
for i in 1 2 3 4 5; do
	python3 sieve.py k.img $i
	head -c $((32 * mib)) /dev/zero >>k.img
	hash=$(sha k.img)
	before=$(allocated k.img)
	"$skep" disk compact k.img >out 2>err &
	while kill -0 $! 2>/dev/null && [ $(($(stat -c %b k.img) * 512)) -gt $((before - i * mib)) ]; do :; done
	kill -KILL $! 2>/dev/null || true
	wait $! 2>/dev/null || true
	ok "compact, killed ($i): every byte is as it was" [ "$(sha k.img)" = "$hash" ]
done
rm k.img

# On a terminal, what is quick draws no bar; what is none never sees one.
ok "compact: no bar for what is quick" python3 - "$skep" <<'PY'
import os, pty, subprocess, sys
ours, theirs = pty.openpty()
with open("zeros.img", "wb") as f:
    f.write(bytes(1 << 20))
r = subprocess.run([sys.argv[1], "disk", "compact", "zeros.img"], stderr=theirs, stdout=subprocess.PIPE)
os.set_blocking(ours, False)
try:
    drawn = os.read(ours, 100)
except BlockingIOError:
    drawn = b""
sys.exit(0 if r.returncode == 0 and r.stdout.startswith(b"zeros.img: 1 MiB freed") and not drawn else 1)
PY

if [ "$(id -u)" = 0 ]; then
	head -c $mib /dev/zero >other.img
	chmod 666 other.img
	chmod 755 "$tmp"
	cp "$skep" skep
	hash=$(sha other.img)
	status=0
	setpriv --reuid 65534 --regid 65534 --clear-groups ./skep disk compact other.img >out 2>err || status=$?
	ok "compact: another's file that one may write" [ "$status" = 0 ]
	ok "compact: which is compact, and the same" [ "$(allocated other.img) $(sha other.img)" = "0 $hash" ]
	chmod 600 other.img
	status=0
	setpriv --reuid 65534 --regid 65534 --clear-groups ./skep disk compact other.img >out 2>err || status=$?
	ok "compact: no permission" [ "$status" = 125 ]
	ok "compact: no permission: the remedy" err_has 'permission denied: change its mode'
else
	skip "compact: another's file" "needs root"
fi

sieves "here" "$tmp"
if [ -z "${SKEP_TEST_MOUNTS-}" ]; then
	skip "file systems" "needs root, and mount namespaces"
else
	mount -t tmpfs none back
	for fs in "ext4" "ext4 -b 1024" "xfs" "btrfs" "tmpfs"; do
		if [ "$fs" = tmpfs ]; then
			mount -t tmpfs -o size=64m none on
		else
			rm -f back/fs
			truncate -s 512M back/fs
			# shellcheck disable=SC2086
			if ! { mkfs.$fs back/fs && mount -o loop back/fs on; } >out 2>err; then
				skip "$fs" "cannot be made or mounted here: $(tail -n 1 err)"
				continue
			fi
		fi
		sieves "$fs" on
		umount on
	done
	umount back

	mount -t tmpfs -o size=4m none on
	ok "create --preallocate: no room" complains 125 "room for 4 MiB only" disk create on/x 8M --preallocate
	ok "create --preallocate: nothing stays" [ -z "$(ls -A on)" ]
	umount on
	mount -t ramfs none on
	head -c $mib /dev/zero >on/x
	ok "no holes there: create --preallocate" complains 125 "leave out --preallocate" disk create on/y 1M --preallocate
	ok "no holes there: compact" complains 125 "its file system does not support holes" disk compact on/x
	ok "no holes there: info" info on/x 'd["discard"]["works"] is False and d["discard"]["note"]'
	mount -o remount,ro on
	ok "read-only: compact" complains 125 "read-only file system" disk compact on/x
	ok "read-only: create" complains 125 "read-only file system" disk create on/z 1M
	ok "read-only: info does not know" info on/x 'd["discard"]["works"] is None and "not tested" in d["discard"]["note"]'
	umount on

	truncate -s 8M device.img
	if loop=$(losetup -f --show device.img 2>err); then
		ok "block device: info" info "$loop" "d['type'] == 'device' and d['size'] == $((8 * mib)) and
			d['allocated'] is None and d['holes'] is None and d['block_size'] == 512 and d['discard']['works'] is True"
		run disk info "$loop"
		ok "block device: info as text" out_has "^device +$loop\$"
		ok "block device: create" complains 125 "is a block device: .*lvcreate" disk create "$loop" 1M --force
		ok "block device: compact" complains 125 "is a block device: .*fstrim" disk compact "$loop"
		ok "block device: resize" complains 125 "is a block device: .*lvextend" disk resize "$loop" 16M
		losetup -d "$loop"
	else
		skip "block device" "losetup: $(tail -n 1 err)"
	fi
	loop=
fi

# Usage
ok "an EINVAL of the host is not usage" complains 125 'cannot sync: Invalid argument' disk compact /proc/self/status
ok "no command" complains 2 "'skep help disk' lists them" disk
ok "a misspelt command" complains 2 "unknown command 'disk compct': did you mean 'compact'" disk compct x
ok "an unknown command" complains 2 "'skep help disk' lists the commands" disk frobnicate x
ok "a misspelt option" complains 2 "did you mean '--preallocate'" disk create x 1M --prealocate
for words in "disk --help" "disk -h" "help disk" "disk create --help" "disk resize x -h"; do
	# shellcheck disable=SC2086
	run $words
	ok "$words: status 0" [ "$status" = 0 ]
	ok "$words: lists the commands" out_has '^compact PATH: '
	ok "$words: nothing on stderr" err_is_empty
done

done_testing
