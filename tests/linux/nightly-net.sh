# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Many small packets, and large ones of all sizes, by each way that they can take. SKEP_PACKETS is how many there are in
# both directions together.

# echoes ADDRESS PORT: the guest's echo answers each packet once, with what was in it.
echoes() { "${inside[@]}" python3 "$here/packets.py" "$@" $((${SKEP_PACKETS:-10000000} / 2)); }

# sweep MTU...: as the guest sets them, one after the other.
sweep() {
	local mtu sum
	sum=$(sha "$work/web/data")
	for mtu; do
		step "mtu.$mtu"
		is "MTU $mtu: is the guest's" "$(value "mtu.$mtu")" "$mtu"
		is "MTU $mtu: from the host all is whole" "$(value "sum.$mtu")" "$sum"
		eventually test -e "$work/received.whole" || true
		is "MTU $mtu: to the host, too" "$(sha "$work/received")" "$sum"
		rm -f "$work"/received{,.whole}
		go on
	done
}

test_net_tap() {
	local mtus=(1280 1500 4096 9000 16384 32768 65520 65521) inside=()
	make_tap "many packets on a tap" 65521 || return 0
	start -k "$socat/vmlinuz" -i "$socat/initrd" -m 512M -c 2 -n tap=skep-net \
		-a "skep.mount=off ip=off -- /t/packets 192.0.2.1 192.0.2.2/24 ${mtus[*]}"
	step up
	check "small packets on a tap are all there, and whole" echoes 192.0.2.2 7
	go on
	sweep "${mtus[@]}"
	finish
	ends "the guest's own end" 0
	is "nothing to complain about" "$(cat "$vm/err")" ""
	kill "$web_pid"
	web_pid=
}

test_net_passt() {
	local mtus=(1280 1500 4096 9000 16384 32768 65520) inside=(ip netns exec skep-passt)
	make_inside "many packets behind passt" || return 0
	wrap=("${inside[@]}")
	start -k "$socat/vmlinuz" -i "$socat/initrd" -m 512M -c 2 -n passt,forward=7007:7/udp \
		-a "skep.mount=off -- /t/packets 198.51.100.1 dhcp ${mtus[*]}"
	wrap=()
	step up
	check "small packets behind passt are all there, and whole" echoes 198.51.100.1 7007
	go on
	sweep "${mtus[@]}"
	finish
	ends "the guest's own end" 0
	is "nothing to complain about" "$(cat "$vm/err")" ""
	kill "$web_pid"
	web_pid=
}

# The largest MTU of all is for streams alone.
test_net_cable() {
	peer_pid=
	trap clean_up_peer EXIT
	mkfifo "$work/peer.in"
	exec 8<>"$work/peer.in"
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" -n "socket=$work/cable,listen,mtu=65535" \
		-a 'skep.mount=off ip=off -- /t/peer listen'
	step alone
	go on
	start_peer 65535
	step connected.1
	eventually peer_serves || sed 's/^/# | /' "$work/peer"
	go on
	step done.1
	is "16 MiB from the other guest are whole" "$(value sum.1)" "$(peer_value sum)"
	is "16 MiB to it, too" "$(value back.1)" "$(peer_value sum)"
	is "with an MTU of 65535" "$(peer_value mtu)" 65535
	exec 8>&-
}
