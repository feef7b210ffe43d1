#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: rooms.sh SKEP SOURCE
#
# The check of names, includes and lengths finds what it is there for.
set -eu
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"
rooms=$2/tests/style/rooms.py
mkdir -p "$tmp/top/src/vm" "$tmp/top/src/kvm" "$tmp/top/include/base"
cd "$tmp/top"
git init -q .

# A tree with this one file more: the check's first line, or nothing.
says() {
	local status=0
	git add -A
	"$rooms" . >"$tmp/out" 2>"$tmp/err" || status=$?
	grep -v '^tests/style/rooms.py: ' "$tmp/out" | head -n 1 || true
	[ "$status" = 1 ] || [ ! -s "$tmp/out" ] || echo "status $status"
}
# ok NAME PATH TEXT EXPECTED: with TEXT in the file.
finds() {
	printf '%b' "$3" >"$2"
	ok "$1" [ "$(says)" = "$4" ]
	rm "$2"
}
finds "a comment may name a device" src/vm/a.c '/* a disk,\n and rng */ int x; // tty\n' ''
finds "a device's name" src/vm/a.c '/* */\nint disk_open(void);\n' \
	"src/vm/a.c:2: 'disk' is a device's: it belongs in the device's room"
finds "in a string" src/vm/a.c 'char *s = "no console";\n' \
	"src/vm/a.c:1: 'console' is a device's: it belongs in the device's room"
finds "in capitals, in a header" include/base/a.h '#define SANDBOX_DISK 1\n' \
	"include/base/a.h:1: 'DISK' is a device's: it belongs in the device's room"
finds "no part of a word" src/vm/a.c 'int diskette, string;\n' ''
finds "the table" src/vm/devices.def 'DEVICE(blk)\n' ''
finds "a lower room's header" src/vm/a.c '#include "kvm/x.h"\n' ''
finds "a higher room's header" src/kvm/a.c '#include "vm/x.h"\n' \
	"src/kvm/a.c:1: kvm includes vm/x.h, which is not below it"
finds "a long file" src/vm/a.c "$(printf '\\n%.0s' {1..601})" \
	"src/vm/a.c: has 601 lines, more than 600: it is several files"
mkdir -p src/vm include/vm
printf '#include "vm/b.h"\nint a_go(void)\n{\n\treturn b_go();\n}\n' >src/vm/a.c
echo 'int a_go(void);' >include/vm/a.h
echo 'int b_go(void);' >include/vm/b.h
finds "no circle" src/vm/b.c '#include "vm/b.h"\nint b_go(void)\n{\n\treturn 0;\n}\n' ''
finds "a circle of headers" src/vm/b.c '#include "vm/a.h"\nint b_go(void)\n{\n\treturn 0;\n}\n' \
	"vm/a -> vm/b -> vm/a: these include each other in a circle"
echo '#include "vm/a.h"' >src/vm/inside.h
finds "by way of a header without a source" src/vm/b.c '#include "inside.h"\n' \
	"vm/a -> vm/b -> vm/a: these include each other in a circle"
finds "a circle of calls" src/vm/b.c 'int a_go(void);\nint b_go(void)\n{\n\treturn a_go();\n}\n' \
	"vm/a -> vm/b -> vm/a: these call each other in a circle"
finds "a name in a comment or a string" src/vm/b.c \
	'int b_go(void)\n{\n\treturn !"a_go()"; /* a_go() */\n}\n' ''
ok "this tree" "$rooms" "$2"
done_testing
