#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: start.sh SKEP PAYLOAD
#
# A VM that cannot be started: a message with the remedy, status 125, nothing left.
set -eu
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"
payload=$(realpath "$2")

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
	ok "no permission for /dev/kvm: the remedy" err_has 'permission denied.*group kvm'
	ok "no permission for /dev/kvm: one line" err_is_one_line
fi

ok "a disk that is missing" complains 125 'nonexistent' run -k "$tmp/payload" -d "$tmp/nonexistent"
ok "a kernel that is missing" complains 125 'nonexistent' run -k "$tmp/nonexistent"
ok "an initrd that is missing" complains 125 'nonexistent' run -k "$tmp/payload" -i "$tmp/nonexistent"
ok "a kernel that is none" complains 125 'disk' run -k "$tmp/disk"

done_testing
