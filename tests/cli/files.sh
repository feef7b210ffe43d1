#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: files.sh SKEP PAYLOAD
#
# The files that skep is given: looked at under their lock, taken from nobody who uses them, and never left in
# between.
set -eu

# Mounts are in a namespace of our own.
if [ "$(id -u)" = 0 ] && [ -z "${SKEP_TEST_MOUNTS-}" ] && unshare --mount true 2>/dev/null; then
	SKEP_TEST_MOUNTS=yes exec unshare --mount --propagation private "$0" "$@"
fi
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"
payload=$(realpath "$2")
mib=$((1 << 20))
loop=
trap '[ -z "$loop" ] || losetup -d "$loop"; cd /; swapoff "$tmp/a b" 2>/dev/null || true; umount -q "$tmp/on" || true; rm -rf "$tmp"' EXIT
chmod 777 "$tmp"
cp "$skep" "$tmp/skep"
cp "$payload" "$tmp/payload"
skep=$tmp/skep payload=$tmp/payload
cd "$tmp"
mkdir on

size() { stat -c %s "$1"; }
sha() { sha256sum <"$1"; }
# does ARG...: succeeds.
does() {
	run "$@"
	[ "$status" = 0 ]
}
none_or_size() { [ ! -e "$1" ] || [ "$(size "$1")" = "$2" ]; } # none_or_size FILE BYTES
quiet() { "$@" >out 2>err; }
fill() { head -c "$2" /dev/urandom >"$1"; } # fill FILE BYTES
# A VM that fails once its disks are open, and before it needs /dev/kvm.
opens_disks=(run -k "$payload" --no-cache --control none/socket)

# What is learned of an image is learned under its lock. The holder is not visible from here, so skep waits for it;
# meanwhile the holder does to the image what its second argument says.
cat >holder.py <<'PY'
import fcntl, os, struct, subprocess, sys, time
fd = os.open("img", os.O_RDWR)
fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 100, 104, 0))  # F_OFD_SETLK
waiter = subprocess.Popen(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] + sys.argv[2:],
    stdin=subprocess.DEVNULL, stdout=open("out", "w"), stderr=open("err", "w"))
def waits():  # clock_nanosleep(2), nanosleep(2)
    with open(f"/proc/{waiter.pid}/syscall") as f:
        return f.read().split()[0] in ("230", "35")
while waiter.poll() is None and not waits():
    time.sleep(0.001)
exec(sys.argv[1])
os.close(fd)
sys.exit(waiter.wait())
PY
# waits_for WHAT-THE-HOLDER-DOES ARG...: on a machine so busy that skep lost its patience, it tries again.
waits_for() {
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		rm -f img new
		fill img $((4 * mib))
		fill new $((8 * mib))
		chmod 666 img new
		status=0
		python3 holder.py "$1" "$skep" "${@:2}" || status=$?
		err_has 'is not visible from here' || return 0
	done
}
if [ "$(id -u)" != 0 ]; then
	skip "looked at before its lock" "needs root, for a holder that cannot be seen"
else
	grow='os.ftruncate(fd, 16 << 20); os.pwrite(fd, b"\xaa" * (12 << 20), 4 << 20)'
	waits_for "$grow" disk resize img +4M
	ok "stale size: resize grows what the holder left" [ "$status $(size img)" = "0 $((20 * mib))" ]
	waits_for "$grow" disk resize img 8M --shrink
	ok "stale size: resize --shrink sees the holder's data" [ "$status $(size img)" = "125 $((16 * mib))" ]
	waits_for "$grow" "${opens_disks[@]}" -d img
	ok "stale size: the probe for discards punches nothing" \
		cmp -s <(tail -c $((12 * mib)) img) <(head -c $((12 * mib)) /dev/zero | tr '\0' '\252')
	waits_for 'os.rename("img", "old"); os.rename("new", "img")' disk resize img +4M
	ok "stale name: what took the image's place is resized" \
		[ "$status $(size img) $(size old)" = "0 $((12 * mib)) $((4 * mib))" ]
	waits_for 'os.rename("img", "old"); os.rename("new", "img")' disk create img 1M --force
	ok "stale name: and replaced" [ "$status $(size img) $(size old)" = "0 $mib $((4 * mib))" ]
	rm -f img new old
fi

# Standard descriptors that are closed.
fill img $mib
hash=$(sha img)
for closed in '2>&-' '>&- 2>&-' '<&- >&- 2>&-'; do
	truncate -s $((2 * mib)) img
	eval '"$skep" disk resize img 1M --shrink </dev/null >out' "$closed" || true # it warns
	truncate -s $((mib + 100)) img
	eval '"$skep" "${opens_disks[@]}" -d img </dev/null >out' "$closed" || true # of the last 100 bytes
done
truncate -s $mib img
ok "closed descriptors: no message is written over an image" [ "$(sha img)" = "$hash" ]
status=0
"$skep" disk create new 1M >&- 2>err </dev/null || status=$?
ok "closed standard output: a failure to print is one" [ "$status" = 125 ]
ok "closed standard output: and is told" err_has 'standard output: Bad file descriptor'
ok "closed standard output: what was made is whole" [ "$(size new)" = $mib ]
status=0
"$skep" run --config - --dry-run >out 2>err <&- || status=$?
ok "closed standard input: nothing to read" err_has "'-': Bad file descriptor"
if [ -c /dev/kvm ] && [ -w /dev/kvm ]; then
	for sandbox in on off; do
		"$skep" run -k "$payload" -a test=hello --sandbox $sandbox --result r.json >&- 2>err </dev/null || true
		ok "closed standard output (sandbox=$sandbox): the guest cannot forge the result" json r.json 'd["end"] == "power-off"'
		"$skep" run -v -k "$payload" -a test=hello --sandbox $sandbox --result r.json >out 2>&- <&- || true
		ok "closed standard error (sandbox=$sandbox): the log is not in the result" json r.json 'd["end"] == "power-off"'
	done
else
	skip "closed standard output: the guest cannot forge the result" "needs /dev/kvm"
fi
rm -f img new

# Files that are written, under another name of a file that is used.
fill img $mib
cp "$payload" kernel
echo '{"kernel": "kernel"}' >config.json
uses=(run --config config.json --no-cache --control none/socket)
for file in img kernel config.json; do
	hash=$(sha $file)
	ln -s $file symbolic
	ln $file hard
	for name in ./$file symbolic hard /proc/self/cwd/$file; do
		for disk in img img,readonly img,ephemeral; do
			[ $file = img ] || [ $disk = img ] || continue
			ok "--result $name (disk $disk): refused" \
				complains 2 "^skep: --result: '$name': is also .* [(]'$file'[)]: choose another" "${uses[@]}" -d $disk --result "$name"
			run "${uses[@]}" -d $disk --console "file=$name"
			ok "--console file=$name (disk $disk): refused" \
				err_has "^skep: console file $name: is also .* [(]'$file'[)]: choose another"
			ok "$file is as it was" [ "$(sha $file)" = "$hash" ]
		done
	done
	status=0
	"$skep" "${uses[@]}" -d img 2>err </dev/null >>$file || status=$?
	ok "standard output is $file: refused" err_has "^skep: standard output: is also .* [(]'$file'[)]"
	ok "standard output is $file: which is as it was" [ "$(sha $file)" = "$hash" ]
	rm symbolic hard
done
python3 -c 'import fcntl, os, struct, time
fd = os.open("img", os.O_RDWR)
fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 100, 104, 0))  # F_OFD_SETLK
print("locked", flush=True)
time.sleep(600)' >locked &
holder=$!
until [ -s locked ]; do sleep 0.05; done
hash=$(sha img)
ok "--result FILE, the image of a VM that runs" \
	complains 125 "^skep: --result: 'img': is in use by process $holder .*choose another" "${uses[@]}" --result img
ok "--console file=FILE, the image of a VM that runs" \
	complains 125 "^skep: console file img: is in use by process $holder .*choose another" "${uses[@]}" --console file=img
ok "the image of a VM that runs is as it was" [ "$(sha img)" = "$hash" ]
kill $holder
wait $holder 2>/dev/null || true
ok "--result and --console, one file under two names" \
	complains 2 "^skep: --result: 'new': is also the console [(]'./new'[)]" "${uses[@]}" --result new --console file=./new
echo "what an earlier VM said" >new
echo "how an earlier VM ended, in more words than how this one will have ended: $(seq 1000)" >r.json
run "${uses[@]}" --result r.json --console file=new
ok "a VM that cannot be started: the result says so" json r.json 'd["end"] == "failed" and "none/socket" in d["error"]'
ok "a VM that cannot be started: what the console file holds stays" [ "$(cat new)" = "what an earlier VM said" ]
run "${uses[@]}" --result - --console off
ok "--result -: standard output" json out 'd["end"] == "failed"'
echo "before" >out
"$skep" "${uses[@]}" --result - >>out 2>err </dev/null || true
ok "--result -: what is before it stays" [ "$(sed -n 's/.*"end": "\(.*\)",/\1/p; /before/p' out | xargs)" = "before failed" ]
status=0
"$skep" "${uses[@]}" --result fd=7 7>r.json >out 2>err </dev/null || status=$?
ok "--result fd=N" json r.json 'd["end"] == "failed"'
ok "--result fd=N, which is not there" complains 125 "^skep: --result: 'fd=9': skep did not get it" "${uses[@]}" --result fd=9
ok "--result fd=N, which is a port's" complains 2 "'descriptor 9' is both the result and a port" \
	"${uses[@]}" --result fd=9 --port name=a,fd=9
exec 7>>img2
"$skep" "${uses[@]}" -d img2 --result fd=7 >out 2>err </dev/null || true
exec 7>&-
ok "--result fd=N, which is a disk's image" err_has "^skep: --result: 'fd=7': is also a disk"
rm -f img2
run "${uses[@]}" --result /dev/stdout --console off
ok "--result /dev/stdout" json out 'd["end"] == "failed"'
truncate -s 8M device.img
if [ "$(id -u)" = 0 ] && loop=$(losetup -f --show device.img 2>err); then
	ok "--result DEVICE" complains 125 "is a block device" "${uses[@]}" --result "$loop"
	ok "--console file=DEVICE" complains 125 "is a block device" "${uses[@]}" --console "file=$loop"
	losetup -d "$loop"
else
	skip "--result DEVICE" "no loop devices: $(tail -n 1 err)"
fi
loop=
for kind in 'qcow2 QFI\373' 'VMDK KDMV' 'VHDX vhdxfile' 'VHD conectix'; do
	printf '%b' "$(sed 's/.* //; s/\\/\\0/' <<<"$kind")" >img
	truncate -s $mib img
	for disk in img img,readonly img,ephemeral; do
		ok "${kind% *} as $disk" complains 125 "disk img: is a ${kind% *} image, .*qemu-img convert -O raw" \
			"${uses[@]}" -d $disk
	done
	ok "${kind% *} that is meant" complains 125 "none/socket" "${uses[@]}" -d img,format=raw
done
printf '\x1f\x8b' >img
truncate -s $mib img
run "${uses[@]}" -d img
ok "what is compressed may be data" err_has "^skep: warning: disk img: is compressed .gzip.*decompress it"
ok "what is compressed may be data: it goes on" err_has "none/socket"
rm -f img new kernel config.json r.json locked device.img

# What the host itself uses.
if [ -z "${SKEP_TEST_MOUNTS-}" ] || ! { truncate -s 64M img && mkfs.ext4 -q img && mount -o loop img on; } >out 2>err; then
	skip "an image that the host has mounted" "cannot mount here: $(tail -n 1 err)"
else
	loop=$(losetup -n -O NAME -j img)
	fill on/data $mib
	sync -f on
	chmod 666 img
	ok "mounted: is in use" complains 125 "'img': is in use by this host as $loop: .*losetup -d" disk compact img
	ok "mounted: no resize" complains 125 "as $loop" disk resize img 128M
	ok "mounted: not created anew" complains 125 "as $loop" disk create img 64M --force
	ok "mounted: no VM" complains 125 "disk img: is in use by this host as $loop" "${opens_disks[@]}" -d img
	ok "mounted: no VM that reads" complains 125 "as $loop" "${opens_disks[@]}" -d img,readonly
	ok "mounted: no ephemeral disk" complains 125 "as $loop" "${opens_disks[@]}" -d img,ephemeral
	ln img link
	ok "mounted: by whatever name" complains 125 "as $loop" disk compact link
	mv img moved
	ok "mounted: although it was renamed" complains 125 "as $loop" disk compact moved
	mv moved img
	status=0
	setpriv --reuid 65534 --regid 65534 --clear-groups "$skep" disk compact img >out 2>err || status=$?
	ok "mounted: who may not ask the loop device sees it too" err_has "as $loop"
	ok "mounted: info" does disk info img
	mount -o remount,ro on
	umount on
	loop=
	ok "no longer mounted: free again" does disk compact img
	ok "no longer mounted: undamaged" quiet e2fsck -fn img
	loop=$(losetup -r -f --show img)
	ok "a loop device that only reads: a VM that writes" complains 125 "as $loop" "${opens_disks[@]}" -d img
	ok "a loop device that only reads: a VM that reads" complains 125 "none/socket" "${opens_disks[@]}" -d img,readonly
	losetup -d "$loop"
	loop=
	rm -f link
	fill "a b" $mib
	chmod 600 "a b"
	if mkswap "a b" >out 2>err && swapon "a b" 2>err; then
		ok "swap: is in use" complains 125 "in use by this host as swap" disk compact "a b"
		swapoff "a b"
	else
		skip "swap: is in use" "swapon: $(tail -n 1 err)"
	fi
	rm -f "a b"
fi
rm -f img

# Limits on files, and none of the states in between.
limited() { # limited ARG...: with no files of more than 1 MiB
	status=0
	(ulimit -f 1024 && exec "$skep" "$@") >out 2>err </dev/null || status=$?
}
limited disk create new 4M
ok "ulimit -f: create says so" [ "$status" = 125 ]
ok "ulimit -f: the remedy" err_has "'new': its file system has no files of 4194304 bytes, or .*ulimit -f"
ok "ulimit -f: no file is left" [ ! -e new ]
fill img $((mib / 2))
hash=$(sha img)
for command in "create img 4M --force" "resize img 4M"; do
	# shellcheck disable=SC2086
	limited disk $command
	ok "ulimit -f: $command says so" err_has "'img': its file system has no files of"
	ok "ulimit -f: $command leaves it as it was" [ "$(sha img)" = "$hash" ]
done
if [ -n "${SKEP_TEST_MOUNTS-}" ] && mount -t tmpfs -o size=4m none on 2>err; then
	fill on/img $mib
	chmod 640 on/img
	ln -s img on/link
	hash=$(sha on/img)
	ok "no room: create --force --preallocate" complains 125 "room for 3 MiB only" disk create on/img 8M --force --preallocate
	ok "no room: what it held is still there" [ "$(sha on/img)" = "$hash" ]
	ok "no room: and nothing else" [ "$(ls -A on)" = $'img\nlink' ]
	ok "create --force: through a symbolic link" does disk create on/link 2M --force
	ok "create --force: which stays one" [ -L on/link ]
	ok "create --force: with the mode that it had" [ "$(stat -c '%s %a' on/img)" = "$((2 * mib)) 640" ]
	ok "create --force: nothing else is left" [ "$(ls -A on)" = $'img\nlink' ]
	umount on
else
	skip "no room: what it held is still there" "cannot mount here"
fi
# Killed at any moment: there is no file, or the whole one.
for i in 1 2 3 4 5 6 7 8; do
	rm -f new
	"$skep" disk create new 64M --preallocate >out 2>err &
	for _ in $(seq $((i * i))); do :; done
	kill -KILL $! 2>/dev/null || true
	wait $! 2>/dev/null || true
	ok "create, killed ($i): no file, or the whole one" none_or_size new $((64 * mib))
done
ok "create, killed: nothing is left beside" [ -z "$(find . -name '.skep*')" ]
# As a file system answers that knows no files without a name, and then one that breaks.
if strace -o /dev/null true 2>/dev/null; then
	rm -f new
	# The search for leaks does not work beside strace.
	ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
	export ASAN_OPTIONS
	# The first one opens the directory.
	plain=(strace -q -o /dev/null -P . -P new -e "trace=openat,renameat2,linkat" -e inject=openat:error=EOPNOTSUPP:when=2)
	ok "create, on other file systems" quiet "${plain[@]}" "$skep" disk create new 1M
	ok "create, on other file systems: makes a file" none_or_size new $mib
	rm new
	ok "create, on yet others" quiet "${plain[@]}" -e inject=renameat2:error=EINVAL "$skep" disk create new 1M
	rm new
	status=0
	quiet "${plain[@]}" -e inject=renameat2:error=EIO "$skep" disk create new 1M || status=$?
	ok "create, on a file system that breaks" [ "$status" = 125 ]
	ok "create, on a file system that breaks: nothing is left" [ -z "$(find . -name '.skep*' -o -name new)" ]
fi
# As a file system without locks answers.
if strace -o /dev/null true 2>/dev/null; then
	for command in "disk compact img" "disk resize img 1M" "disk create img 1M --force" "${opens_disks[*]} -d img"; do
		status=0
		# shellcheck disable=SC2086
		strace -o /dev/null -e trace=fcntl -e inject=fcntl:error=ENOLCK:when=1+ "$skep" $command >out 2>err || status=$?
		ok "no locks: ${command% -d*} says what it could not make sure of" \
			err_has "warning: 'img': cannot be locked .*: make sure that nobody else uses it"
	done
else
	skip "no locks: what could not be made sure of" "needs strace"
fi
rm -f img new

# However long a path is, the reason is told, and what is at its end.
long=$(printf '%0200d/' 0 0 0 0 0)
mkdir -p "$long"
name=${long: -40}none
for command in info compact "resize +1M"; do
	read -r verb size <<<"$command"
	ok "a long path: disk $verb" complains 125 "^skep: '00+\.\.\.0+/.*none': no such file or directory: 'skep disk create' makes images\$" disk "$verb" "${long}none" ${size:+"$size"}
done
ok "a long path: disk create" complains 125 "$name/x': there is no such directory: make it first" disk create "${long}none/x" 1M
ok "a long path: a disk" complains 125 "^skep: disk 00+\.\.\.0+.*$name: no such file: make one with" "${opens_disks[@]}" -d "${long}none"
ok "a long path: a kernel" complains 125 "$name: No such file" run -k "${long}none"
ok "a long path: --result" complains 125 "$name/x': No such file or directory" run -k "$payload" --result "${long}none/x"
ok "a long path: --config" complains 125 "$name': No such file or directory" run --config "${long}none"
truncate -s 1000 "${long}odd"
run "${opens_disks[@]}" -d "${long}odd"
ok "a long path: a warning" err_has "warning: disk 0.*\.\.\.0.*odd: the last 488 bytes are not visible to the guest: .* multiple of 512"

done_testing
