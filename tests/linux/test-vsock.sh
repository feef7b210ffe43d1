# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# A guest with a socket device, as a stock kernel drives it: bytes pass both ways whole and connections end as they
# should, also beside a program that does not read, and while the driver comes and goes.

# Programs of the host, for the guest to connect to: serve_sockets SIZE.
serve_sockets() {
	head -c "$1" /dev/urandom >"$work/sent"
	python3 - "$work" <<'END' >"$work/serve.log" 2>&1 &
import os, socket, sys, threading, time
work = sys.argv[1]

def serve(port, handle):
	s = socket.socket(socket.AF_UNIX)
	s.bind("%s/v_%d" % (work, port))
	s.listen(64)
	def run():
		while True:
			c = s.accept()[0]
			threading.Thread(target=one, args=(c,), daemon=True).start()
	def one(c):
		try:
			handle(c)
		except OSError:
			pass
		c.close()
	threading.Thread(target=run, daemon=True).start()

def source(c):
	with open(work + "/sent", "rb") as f:
		while data := f.read(65536):
			c.sendall(data)

def sink(name, wait=None):
	def handle(c):
		while wait and not os.path.exists(work + wait):
			time.sleep(0.1)
		with open(work + name, "wb") as f:
			while data := c.recv(65536):
				f.write(data)
		open(work + name + ".whole", "w").close()
	return handle

serve(8000, source)
serve(9000, sink("/received"))
serve(9001, lambda c: None)
serve(9002, sink("/slow", "/go"))
serve(9003, sink("/broken-off"))
serve(9004, lambda c: open(work + "/many", "ab").write(c.recv(100)))
open(work + "/serving", "w").close()
threading.Event().wait()
END
	serve_pid=$!
}

# connect_to_guest: prints what sha256sum in the guest says of 64 MiB, and how many of 1,000 connections at once are echoed.
connect_to_guest() {
	python3 - "$work" <<'END'
import resource, socket, sys, time
work = sys.argv[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
def connect(port):
	s = socket.socket(socket.AF_UNIX)
	s.connect(work + "/v")
	s.sendall(b"CONNECT %d\n" % port)
	answer = b""
	while not answer.endswith(b"\n"):
		byte = s.recv(1)
		if not byte:
			return None
		answer += byte
	assert answer.startswith(b"OK "), answer
	return s
def until_end(s):
	got = b""
	while data := s.recv(65536):
		got += data
	return got
s = connect(7000)
s.sendall(open(work + "/sent", "rb").read())
s.shutdown(socket.SHUT_WR)
print(until_end(s).decode().split()[0])
def connect_in_the_end(port):
	while not (s := connect(port)):
		time.sleep(0.1) # its backlog is full
	return s
many = [connect_in_the_end(7001) for i in range(1000)]
for i, s in enumerate(many):
	s.sendall(b"%d" % i * 1000)
	s.shutdown(socket.SHUT_WR)
print(sum(until_end(s) == b"%d" % i * 1000 for i, s in enumerate(many)))
print(connect(7999))
END
}

# shellcheck disable=SC2317 # the trap calls it
clean_up_sockets() {
	end_vm
	[ -z "$serve_pid" ] || kill "$serve_pid" 2>/dev/null || true
}

test_vsock() {
	local sum got
	serve_pid=
	trap clean_up_sockets EXIT
	serve_sockets 64M
	eventually test -e "$work/serving"
	sum=$(sha "$work/sent")
	start -k "$socat/vmlinuz" -i "$socat/initrd" -m 1G -c 2 --control "$work/socket" \
		--vsock "cid=77,uds=$work/v" -a 'skep.mount=off -- /t/vsock'
	step up
	is "the guest has the CID that was asked for" "$(value cid)" 77
	is "the socket is its user's" "$(stat -c %a "$work/v")" 600
	got=$(connect_to_guest 2>&1 | tr '\n' ' ')
	is "the host connects: 64 MiB are whole, 1,000 at once, and nobody where nobody listens" "$got" "$sum 1000 None "
	check "a CID that is in use is refused" eval "! $skep run -k $socat/vmlinuz --vsock cid=77,uds=$work/v2 2>$work/taken"
	check "and a message says so" grep -q "CID 77 is another VM's" "$work/taken"
	check "a socket that is in use is refused" eval "! $skep run -k $socat/vmlinuz --vsock uds=$work/v 2>$work/taken"
	check "and a message says that" grep -q "'$work/v': is in use by a running VM" "$work/taken"
	go on
	step slow
	is "the guest connects: 64 MiB from the host are whole" "$(value sum)" "$sum"
	is "and 64 MiB to the host" "$(sha "$work/received")" "$sum"
	is "and beside a program that does not read" "$(value sum.beside)" "$sum"
	check "of which nothing has been read" test ! -s "$work/slow"
	touch "$work/go"
	go on
	step bound
	is "what it reads in the end is whole" "$(sha "$work/slow")" "$(head -c 4M "$work/sent" | sha256sum | cut -d ' ' -f 1)"
	is "100 of the guest at once" "$(sort -n "$work/many" | tr '\n' " ")" "$(seq -s " " 100) "
	is "where nobody listens the guest is refused" "$(value refused)" 1
	is "64 MiB after the driver was bound anew, with traffic" "$(value sum.bound)" "$sum"
	check "status" control status
	check "status: it tells of the device" grep -q "^vsock: CID 77, $work/v\$" "$work/control"
	go on
	finish
	ends "the guest's own end" 0
	python3 - "$vm/result" >"$work/counted" <<'END'
import json, sys
result = json.load(open(sys.argv[1]))
v, exits = result["vsock"], result["exits"]
if exits["mmio_read"] + exits["mmio_write"] > v["rx_packets"] / 20:
	print("exits to userspace:", exits, v)
print(v["cid"], v["connections"], v["from_host"], v["refused"] >= 2, v["rx_bytes"] > 5 * 64 << 20, v["tx_bytes"] > 64 << 20)
END
	is "the result tells what passed" "$(cat "$work/counted")" "77 0 1001 True True True"
	kill "$serve_pid"
	serve_pid=
	rm -f "$work/socket"
}
