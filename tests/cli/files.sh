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

rm -f img new

done_testing
