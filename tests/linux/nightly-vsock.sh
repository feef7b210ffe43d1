# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Much through a socket device: 1 GiB from the host to the guest, and from there back at the same time.

test_vsock_large() {
	serve_pid=
	trap clean_up_sockets EXIT
	serve_sockets 1G
	eventually test -e "$work/serving"
	start -k "$socat/vmlinuz" -i "$socat/initrd" -m 1G -c 2 --vsock "cid=78,uds=$work/v" \
		-a 'skep.mount=off -- socat -u VSOCK-CONNECT:2:8000 VSOCK-CONNECT:2:9000'
	finish 600
	ends "the guest's own end" 0
	check "the host has it all" eventually test -e "$work/received.whole"
	check "1 GiB there and back is whole" cmp "$work/sent" "$work/received"
	kill "$serve_pid"
	serve_pid=
}
