#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: start.sh SKEP PAYLOAD NO-URING
#
# A VM that cannot be started: a message with the remedy, status 125, nothing left.
set -eu
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"
payload=$(realpath "$2") no_uring=$(realpath "$3")

chmod 755 "$tmp"
cp "$skep" "$tmp/skep"
cp "$payload" "$tmp/payload"
truncate -s 1M "$tmp/disk"
chmod 666 "$tmp/disk"

as_nobody() {
	status=0
	setpriv --reuid 65534 --regid 65534 --clear-groups "$@" >"$tmp/out" 2>"$tmp/err" </dev/null ||
		status=$?
}

if [ "$(id -u)" != 0 ]; then
	skip "no permission for /dev/kvm" "needs root, to become a user without it"
elif [ ! -c /dev/kvm ]; then
	skip "no permission for /dev/kvm" "this host has no /dev/kvm"
elif as_nobody sh -c ': <>/dev/kvm' && [ "$status" = 0 ]; then
	skip "no permission for /dev/kvm" "everybody may use /dev/kvm here"
else
	as_nobody "$tmp/skep" run --no-cache -k "$tmp/payload" -d "$tmp/disk"
	ok "no permission for /dev/kvm: status 125" [ "$status" = 125 ]
	ok "no permission for /dev/kvm: the remedy" err_has '/dev/kvm: Permission denied: (add your user to the group kvm|give it to a group)'
	ok "no permission for /dev/kvm: one line" err_is_one_line
fi

# Not after a minute of silence.
if : 2>/dev/null <>/dev/kvm; then
	mkdir "$tmp/guest"
	cp "$payload" "$tmp/guest/vmlinuz"
	printf 0707010000 >"$tmp/guest/initrd"
	SKEP_GUEST_DIR=$tmp/guest run run --timeout 5s -- true
	if "$skep" check --json | grep -q '"accelerated": *true'; then
		ok "KVM that boots no Linux: this one does" eval '! err_has "KVM emulates"'
	else
		ok "KVM that boots no Linux: a command is told" err_has 'KVM emulates .*: use a host whose processor has'
		ok "KVM that boots no Linux: status 125" [ "$status" = 125 ]
	fi
fi

# Payload guests run there well, and are not spoken of.
if : 2>/dev/null <>/dev/kvm; then
	# Only Linux is linked to the top 2 GiB.
	python3 - "$(dirname "$payload")/bare-linux64" "$tmp/linux" <<'PY'
import struct, sys
elf = bytearray(open(sys.argv[1], "rb").read())
at, size, num = struct.unpack_from("<Q14xHH", elf, 32)
for header in range(at, at + size * num, size):
	if struct.unpack_from("<I", elf, header)[0] == 1:  # PT_LOAD
		struct.pack_into("<Q", elf, header + 16, 0xffffffff80000000 + struct.unpack_from("<Q", elf, header + 24)[0])
open(sys.argv[2], "wb").write(elf)
PY
	run run -k "$tmp/linux" --console off --timeout 5s
	if "$skep" check --json | grep -q '"accelerated": *true'; then
		ok "KVM that boots no Linux: this one does, no warning" eval '! err_has "KVM emulates"'
	else
		ok "KVM that boots no Linux: a plain run is warned" err_has 'KVM emulates .*: use a host whose processor has'
		ok "KVM that boots no Linux: and runs" [ "$status" != 125 ]
	fi
	run run -k "$tmp/payload" -a test=hello --console off
	ok "KVM that boots no Linux: another guest is not warned" err_is_empty
fi

if : 2>/dev/null <>/dev/kvm; then
	# With one descriptor more each time: sooner or later it is /dev/kvm that cannot be opened.
	for i in $(seq 5 60); do
		(ulimit -n "$i" && exec "$skep" run -k "$payload" --console off) >"$tmp/out" 2>"$tmp/err" </dev/null || true
		if err_has '/dev/kvm: '; then break; fi
	done
	ok "too many open files: no module is missing" err_has '/dev/kvm: Too many open files: .*ulimit -n'
else
	skip "too many open files: no module is missing" "/dev/kvm cannot be used here"
fi

ok "a disk that is missing" complains 125 'nonexistent' run -k "$tmp/payload" -d "$tmp/nonexistent"
ok "a kernel that is missing" complains 125 'nonexistent' run -k "$tmp/nonexistent"
ok "an initrd that is missing" complains 125 'nonexistent' run -k "$tmp/payload" -i "$tmp/nonexistent"
ok "a kernel that is none" complains 125 'disk' run -k "$tmp/disk"

# Each needs a handful of descriptors. The soft limit does not count, the hard one does.
disks=()
for i in $(seq 20); do
	truncate -s 1M "$tmp/disk$i"
	disks+=(-d "$tmp/disk$i,queues=4")
done
status=0
(ulimit -n 64 && exec "$skep" run -k "$payload" "${disks[@]}") >"$tmp/out" 2>"$tmp/err" </dev/null || status=$?
ok "more descriptors than the hard limit: status 125" [ "$status" = 125 ]
ok "more descriptors than the hard limit: the remedy" err_has 'all 64 descriptors.*ulimit -n.*LimitNOFILE='
ok "more descriptors than the hard limit: one line" err_is_one_line

ok "two disks with one serial number" complains 2 "disks 1 and 3 have the serial number 'x'" \
	run -k "$payload" -d "$tmp/disk1,serial=x" -d "$tmp/disk2" -d "$tmp/disk3,serial=x"
ok "the serial number that another disk has by itself" complains 2 "disks 1 and 2 have the serial number 'skep1'" \
	run -k "$payload" -d "$tmp/disk1,serial=skep1" -d "$tmp/disk2"

# Pinned memory: what may be locked is limited, for all but who may lock as much as they like.
run check
if ! out_has '^ok +io_uring '; then
	skip "pin: more than may be locked" "no io_uring here"
else
	unable=()
	if [ "$(id -u)" = 0 ]; then
		unable=(setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock)
	fi
	status=0
	"${unable[@]}" sh -c 'ulimit -l 64 && exec "$@"' - "$skep" run -k "$payload" -m 64M \
		-d "$tmp/disk,pin" >"$tmp/out" 2>"$tmp/err" </dev/null || status=$?
	ok "pin: more than may be locked: status 125" [ "$status" = 125 ]
	ok "pin: more than may be locked: the remedy" \
		err_has 'cannot pin 64 MiB.*(64 KiB).*ulimit -l unlimited.*LimitMEMLOCK=infinity'
	ok "pin: more than may be locked: one line" err_is_one_line
fi
ok "pin without io_uring, asked for" complains 2 'pin is for io_uring' \
	run -k "$payload" -d "$tmp/disk,pin,engine=sync"
ok "pin of memory that grows" complains 125 '^skep: --memory: max: a disk pins' \
	run -k "$payload" -m start=64M,max=1G -d "$tmp/disk,pin"
# It fails later, before it needs /dev/kvm.
status=0
"$no_uring" "$skep" run -k "$payload" -d "$tmp/disk,pin,queues=4" --control "$tmp/none/socket" \
	>"$tmp/out" 2>"$tmp/err" </dev/null || status=$?
ok "pin without io_uring: goes on" err_has 'none/socket'
ok "pin without io_uring: one line says so" \
	[ "$(grep -c 'disk: pin has no effect without io_uring' "$tmp/err")" = 1 ]

# --cloud-init
mkdir "$tmp/seed" "$tmp/bin"
ok "--cloud-init: no meta-data" complains 125 "'$tmp/seed/meta-data': No such file.*: make it" \
	run -k "$payload" --cloud-init "$tmp/seed"
touch "$tmp"/seed/{meta-data,user-data}
status=0
PATH=$tmp/bin "$skep" run -k "$payload" --cloud-init "$tmp/seed" 2>"$tmp/err" || status=$?
ok "--cloud-init: no program for it" [ "$status" = 125 ]
ok "--cloud-init: which package has one" err_has 'neither is installed: apt-get install genisoimage$'
printf '#!/bin/sh\necho first >&2\necho broken >&2\nexit 3\n' >"$tmp/bin/genisoimage"
chmod 755 "$tmp/bin/genisoimage"
PATH=$tmp/bin:$PATH ok "--cloud-init: a program that fails" complains 125 'genisoimage failed: broken$' \
	run -k "$payload" --cloud-init "$tmp/seed"
printf '#!/bin/sh\nshift 5\necho "$@" >%s\nhead -c 512 /dev/zero\n' "$tmp/arguments" >"$tmp/bin/genisoimage"
PATH=$tmp/bin:$PATH run run -k "$payload" --cloud-init "$tmp/seed" --control "$tmp/none/socket"
ok "--cloud-init: the files that are there" [ "$(cat "$tmp/arguments")" = "$tmp/seed/meta-data $tmp/seed/user-data" ]
ok "--cloud-init: and then it goes on" err_has 'none/socket'

done_testing
