# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Guests on streams: the real passt in a network namespace whose only way out is a dummy, with a web server and a
# sink at other addresses of it, a name server on its loopback, and nothing else there that a guest could reach;
# and two guests on one cable.

inside() { ip netns exec skep-passt "$@"; }

serve_inside() {
	mkdir -p "$work/web"
	head -c 16M /dev/urandom >"$work/web/data"
	inside python3 "$here/serve.py" "$work" 0.0.0.0 :: names >"$work/web.log" 2>&1 &
	web_pid=$!
}
is_served_inside() { inside python3 -c 'import urllib.request; urllib.request.urlopen("http://127.0.0.1:8000/")' 2>/dev/null; }

# What comes back through the guest's echo: echo_of tcp|udp TEXT. (Old versions of passt take no answer of UDP to
# the host's loopback.)
echo_of() {
	inside python3 - "$@" <<'END'
import socket, sys
kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
s = socket.socket(socket.AF_INET, kind)
s.settimeout(5)
s.connect(("127.0.0.1" if sys.argv[1] == "tcp" else "198.51.100.1", 7007))
s.send(sys.argv[2].encode())
print(s.recv(100).decode())
END
}
comes_back() { [ "$(echo_of "$@" 2>/dev/null)" = "$2" ]; }

passt_pid() {
	local pid
	for pid in $(ip netns pids skep-passt); do
		case $(cat "/proc/$pid/comm") in passt*) echo "$pid" ;; esac
	done
}
passt_is_gone() { [ -z "$(passt_pid)" ]; }

# shellcheck disable=SC2317 # the trap calls it
clean_up_passt() {
	end_vm
	[ -z "$web_pid" ] || kill "$web_pid" 2>/dev/null || true
	ip netns delete skep-passt 2>/dev/null || true
}

# A namespace with a web server, for test NAME; false where there can be none.
make_inside() {
	web_pid=
	trap clean_up_passt EXIT
	modprobe dummy 2>/dev/null || true
	modprobe tun 2>/dev/null || true
	if ! ip netns add skep-passt || ! inside ip link add out type dummy; then
		skip "$1" "cannot make a network namespace with a dummy here"
		return 1
	fi
	inside ip link set lo up
	inside ip addr add 198.51.100.1/32 dev lo
	inside ip addr add fd01::1/128 dev lo
	inside ip addr add 192.0.2.2/24 dev out
	inside ip addr add fd00::2/64 dev out nodad
	inside ip link set out up
	inside ip route add default via 192.0.2.1
	inside ip route add default via fd00::1 dev out
	serve_inside
	eventually is_served_inside
}

test_passt() {
	local sum
	make_inside "a guest behind passt" || return 0
	sum=$(sha "$work/web/data")
	echo "nameserver 127.0.0.1" >"$work/resolv.conf"
	# shellcheck disable=SC2016 # it is that shell's
	wrap=(ip netns exec skep-passt sh -c 'mount --bind "$0" /etc/resolv.conf && exec "$@"' "$work/resolv.conf")
	start -k "$socat/vmlinuz" -i "$socat/initrd" --control "$work/socket" \
		-n passt,forward=127.0.0.1/7007:7,forward=7007:7/udp -a 'skep.mount=off -- /t/passt'
	wrap=()
	step up
	is "the guest has the host's address, by DHCP" "$(value address)" 192.0.2.2/24
	is "and its gateway" "$(value route)" 192.0.2.1
	is "and the largest MTU that passt has" "$(value mtu)" 65520
	is "16 MiB from the host are whole" "$(value sum)" "$sum"
	is "and by IPv6" "$(value sum6)" "$sum"
	is "names are found" "$(value dns)" 198.51.100.7
	eventually test -e "$work/received.whole" || true
	is "16 MiB to the host are whole" "$(sha "$work/received")" "$sum"
	is "the host's loopback is not at the gateway's address" "$(value gateway)" 0
	check "a forwarded port of TCP" eventually comes_back tcp hello
	check "a forwarded port of UDP" eventually comes_back udp hello
	check "status" control status
	check "status: it tells of the device" grep -q '^net 0 (passt): .*, link up' "$work/control"
	kill -KILL "$(passt_pid)"
	go on
	step gone
	is "passt is killed: the guest sees the link go down" "$(value carrier.gone)" 0
	go on
	finish
	ends "and goes on, to its own end" 0
	check "and a message says so" complained '^skep: warning: passt is gone'

	wrap=(ip netns exec skep-passt)
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -n passt,host-loopback -a 'skep.mount=off -- /t/loopback'
	wrap=()
	step up
	is "with host-loopback, it is" "$(value sum)" "$sum"
	was_there=$(passt_pid)
	end_vm
	check "skep is killed: passt ends" [ -n "$was_there" ]
	check "skep is killed: passt is gone" eventually passt_is_gone
	kill "$web_pid"
	web_pid=
	rm -f "$work/socket"
}

# start_peer [MTU]: the guest at the other end of the cable, of which nobody waits for the end.
start_peer() {
	"$skep" run -k "$cloud/vmlinuz" -i "$cloud/initrd" -n "socket=$work/cable,mtu=${1:-9000}" \
		-a 'skep.mount=off ip=off -- /t/peer connect' <"$work/peer.in" >"$work/peer" 2>&1 &
	peer_pid=$!
}
peer_serves() { tr -d '\r' <"$work/peer" | grep -q '^@served$'; }
peer_value() { tr -d '\r' <"$work/peer" | sed -n "s/^= $1 //p" | tail -n 1; }

# shellcheck disable=SC2317 # the trap calls it
clean_up_peer() {
	end_vm
	[ -z "$peer_pid" ] || kill -KILL "$peer_pid" 2>/dev/null || true
}

test_cable() {
	local round
	peer_pid=
	trap clean_up_peer EXIT
	mkfifo "$work/peer.in"
	exec 8<>"$work/peer.in"
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -n "socket=$work/cable,listen,mtu=9000" \
		-a 'skep.mount=off ip=off -- /t/peer listen'
	step alone
	is "nobody has connected: no link" "$(value carrier.alone)" 0
	go on
	for round in 1 2; do
		start_peer
		step "connected.$round"
		eventually peer_serves || sed 's/^/# | /' "$work/peer"
		go on
		step "done.$round"
		is "$round: somebody has: link" "$(value "carrier.up.$round")" 1
		is "$round: 16 MiB from the other guest are whole" "$(value "sum.$round")" "$(peer_value sum)"
		is "$round: 16 MiB to it, too" "$(value "back.$round")" "$(peer_value sum)"
		is "$round: with the MTU that was asked for" "$(peer_value mtu)" 9000
		kill -KILL "$peer_pid"
		wait "$peer_pid" 2>/dev/null || true
		peer_pid=
		go on
		step "lost.$round"
		is "$round: the other end is killed: no link" "$(value "carrier.down.$round")" 0
		check "$round: and a message says so" complained '^skep: warning: socket .*cable is gone .*until somebody connects'
		go on
	done
	finish
	ends "and goes on, to its own end" 0
	exec 8>&-
}

# Somebody at the other end, who sends nothing.
plug() {
	rm -f "$work/switch"
	python3 - "$work/switch" <<'PYTHON' &
import signal, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
c = s.accept()
signal.pause()
PYTHON
	switch_pid=$!
	eventually test -S "$work/switch"
}
unplug() {
	[ -z "$switch_pid" ] || kill "$switch_pid"
	switch_pid=
}

# shellcheck disable=SC2317 # the trap calls it
clean_up_switch() {
	end_vm
	unplug
}

test_reconnect() {
	local round
	switch_pid=
	trap clean_up_switch EXIT
	plug
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -n "socket=$work/switch" -a 'skep.mount=off ip=off -- /t/plugs'
	for round in 1 2 3; do
		step "up.$round"
		is "$round: the other end is there: link" "$(value "carrier.up.$round")" 1
		unplug
		go on
		step "down.$round"
		is "$round: the other end has gone: no link" "$(value "carrier.down.$round")" 0
		[ "$round" = 3 ] || plug
		go on
	done
	finish
	ends "and goes on, to its own end" 0
	is "with a message each time that it goes" "$(grep -c 'switch is gone .*until it is back' "$vm/err")" 3
	is "and each time that it comes" "$(grep -c 'switch is back: ' "$vm/err")" 2
}
