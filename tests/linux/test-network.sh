# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# A guest on a tap: it is found, packets pass both ways whole, also while the driver comes and goes, the plug
# can be pulled, and a tap that is removed is no end.

# A web server and a sink at the host's end.
serve_network() {
	mkdir -p "$work/web"
	head -c 8M /dev/urandom >"$work/web/data"
	python3 "$here/serve.py" "$work" 192.0.2.1 192.0.2.1 >"$work/web.log" 2>&1 &
	web_pid=$!
}
is_served() { wget -q -O /dev/null http://192.0.2.1:8000/ 2>/dev/null || python3 -c 'import urllib.request; urllib.request.urlopen("http://192.0.2.1:8000/")' 2>/dev/null; }

# shellcheck disable=SC2317 # the trap calls it
clean_up_network() {
	end_vm
	[ -z "$web_pid" ] || kill "$web_pid" 2>/dev/null || true
	ip link delete skep-net 2>/dev/null || true
}

no_limits() { ! control limit-net skep-net --rx-bps 1M && grep -q vhost "$work/control"; }
is_vhost() { ! complained "no vhost"; }

# make_tap NAME MTU: with a web server, for this test; false where there can be none.
make_tap() {
	web_pid=
	modprobe tun 2>/dev/null || true
	if ! ip tuntap add skep-net mode tap multi_queue 2>/dev/null; then
		skip "$1" "cannot make a tap here"
		return 1
	fi
	trap clean_up_network EXIT
	ip addr add 192.0.2.1/24 dev skep-net
	ip link set skep-net mtu "$2" up
	serve_network
	eventually is_served
}

# on_a_tap OPTIONS
on_a_tap() {
	local sum begin packets exits
	make_tap "a guest on a tap" 1400 || return 0
	sum=$(sha "$work/web/data")
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -c 2 --control "$work/socket" \
		-n "tap=skep-net,queues=2,mac=02:00:00:00:00:42$1" -a 'skep.mount=off ip=off -- /t/network'
	step up
	is "the guest has the address that was asked for" "$(value mac)" 02:00:00:00:00:42
	is "and the tap's MTU" "$(value mtu)" 1400
	is "and a queue for each CPU" "$(value queues)" 2
	is "20 pings" "$(value pings)" 20
	is "8 MiB from the host are whole" "$(value sum)" "$sum"
	is "once more, after the driver was bound anew, with traffic" "$(value sum.bound)" "$sum"
	eventually test -e "$work/received.whole" || true
	is "8 MiB to the host are whole" "$(sha "$work/received")" "$sum"
	check "status" control status
	check "status: it tells of the device" grep -q '^net 0 (skep-net): 02:00:00:00:00:42, link up' "$work/control"
	check "the plug is pulled" control link skep-net down
	go on
	step down
	is "the guest sees that" "$(value carrier.down)" 0
	check "and plugged in" control link 0 up
	go on
	step replugged
	is "the guest sees that, too" "$(value carrier.up)" 1
	is "and pings pass again" "$(value pings.up)" 5
	if [ -z "$1" ]; then
		check "1 MiB a second" control limit-net skep-net --rx-bps 1M
	else
		check "no limits with vhost" no_limits
	fi
	begin=$SECONDS
	go on
	step slow
	[ -n "$1" ] || at_least "8 MiB take their time" $((SECONDS - begin)) 6
	is "and are whole" "$(value sum.slow)" "$sum"
	packets=$(($(cat /sys/class/net/skep-net/statistics/[rt]x_packets | paste -sd +)))
	kill "$web_pid"
	web_pid=
	ip link delete skep-net
	go on
	step gone
	is "the tap is removed: the guest sees it" "$(value carrier.gone)" 0
	go on
	finish
	ends "and goes on, to its own end" 0
	check "and a message says so" complained '^skep: warning: tap skep-net is gone'
	rm -f "$work/socket"
	# The driver comes four times, and others once: that takes some hundred.
	exits=$(python3 -c 'import json, sys; e = json.load(open(sys.argv[1]))["exits"]; print(e["mmio_read"] + e["mmio_write"])' \
		"$vm/result")
	echo "# $packets packets, $exits exits"
	at_most "exits: none for most packets" "$exits" $((1000 + packets / 20))
}

test_network() {
	on_a_tap ""
	python3 - "$vm/result" >"$work/net" <<'END'
import json, sys
n = json.load(open(sys.argv[1]))["nets"][0]
# A driver that comes and goes offers too little for a moment.
print(n["name"], n["rx_bytes"] > 16 << 20, n["tx_bytes"] > 8 << 20, n["rx_dropped"] < 100)
END
	is "the result tells what passed" "$(cat "$work/net")" "skep-net True True True"
}

# The same by the host's kernel, and first the unit tests that it takes.
test_vhost() {
	local counted
	if ! modprobe vhost_net 2>/dev/null; then
		skip "vhost" "no module vhost_net here"
		return
	fi
	check "net_vhost: unit tests" "$(dirname "$helpers")/unit/test_net_vhost"
	on_a_tap ,vhost
	check "vhost was there" is_vhost
	counted=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["nets"][0]["rx_packets"])' "$vm/result")
	is "the kernel counts" "$counted" None
}
