# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# A guest with ports of each kind, as a stock kernel drives them: bytes pass both ways whole, a reader that is slow,
# stuck or not there holds nothing up, and programs and the driver come and go.

# begin_at_port COMMAND ARG...: a program at the socket, or the pseudo-terminal; it is connected when this returns.
# What it says is in at_port.
begin_at_port() {
	rm -f "$work/connected" "$work/go"
	python3 - "$work" "$@" <<'END' >"$work/at_port" 2>&1 &
import hashlib, os, socket, sys, time
work, what, args = sys.argv[1], sys.argv[2], sys.argv[3:]
SIZE = 4 << 20

def connected():
	open(work + "/connected", "w").close()

def connect():
	s = socket.socket(socket.AF_UNIX)
	s.connect(work + "/port")
	connected()
	return s

def read(take, pause=0):
	got = b""
	while len(got) < SIZE and (data := take(min(65536, SIZE - len(got)))):
		got += data
		time.sleep(pause)
	print(hashlib.sha256(got).hexdigest(), flush=True)

def wait():
	while not os.path.exists(work + "/go"):
		time.sleep(0.1)

sent = open(work + "/sent", "rb").read()
if what == "send":
	connect().sendall(sent)
elif what == "read":
	read(connect().recv, float(args[0]))
elif what == "stuck":
	s = connect()
	wait()
elif what == "ask":
	s = connect()
	s.sendall(args[0].encode() + b"\n")
	print(s.makefile().readline().strip())
elif what == "terminal":
	fd = os.open(args[0], os.O_RDWR | os.O_NOCTTY)
	connected()
	read(lambda n: os.read(fd, n))
	sent = sent[:65536]
	while sent:
		sent = sent[os.write(fd, sent):]
	wait()
elif what == "both": # takes and gives, while the driver comes and goes
	s = connect()
	s.setblocking(False)
	while not os.path.exists(work + "/go"):
		for do in lambda: s.recv(65536), lambda: s.send(bytes(4096)):
			try:
				do()
			except BlockingIOError:
				pass
		time.sleep(0.01)
END
	client=$!
	eventually test -e "$work/connected"
}
# Ends one that waits; what it said is in at_port.
end_at_port() {
	touch "$work/go"
	wait "$client" || true
	client=
}
at_port() { cat "$work/at_port"; }

# What the guest's driver holds is lost when the reader is given up.
is_lost() { control status && grep -Eq '^  .* [1-9][0-9.]* [KM]iB lost$' "$work/control"; }

# shellcheck disable=SC2317 # the trap calls it
clean_up_ports() {
	end_vm
	[ -z "$client" ] || kill "$client" 2>/dev/null || true
}

test_ports() {
	local sum data pty i
	client=
	trap clean_up_ports EXIT
	head -c 4M /dev/urandom >"$work/sent"
	sum=$(sha "$work/sent")
	start -k "$cloud/vmlinuz" -i "$cloud/initrd" --control "$work/socket" -a 'skep.mount=off -- /t/ports' \
		--port "name=socket,socket=$work/port" --port "name=file,file=$work/file" --port name=pty,pty \
		--port name=in,fd=8 --port name=out,fd=9 8<"$work/sent" 9>"$work/out"
	step nobody
	data=$(value data)
	is "the guest finds the ports by their names" "$(value ports)" "file in out pty socket "
	is "nobody is there: there is nothing to read" "$(value read)" 0
	is "and a write waits" "$(value write)" 143
	is "the socket is its user's" "$(stat -c %a "$work/port")" 600
	begin_at_port send
	go on
	step sent
	end_at_port
	is "4 MiB from the host are whole" "$(value sum)" "$sum"
	begin_at_port read 0
	go on
	step quick
	end_at_port
	is "and 4 MiB to it" "$(at_port)" "$data"
	begin_at_port read 0.05
	go on
	step slow
	end_at_port
	is "and when the host reads slowly" "$(at_port)" "$data"
	begin_at_port stuck
	go on
	step stuck
	check "a reader that is stuck does not hold the guest up, and the loss is shown" eventually is_lost
	end_at_port
	for i in 1 2 3; do
		begin_at_port ask "hello $i"
		go on
		step "client$i"
		end_at_port
		is "client $i is answered" "$(at_port)" "you said hello $i"
	done
	go on
	step descriptors
	is "the file has all that was written" "$(sha "$work/file")" "$data"
	is "and a descriptor" "$(sha "$work/out")" "$data"
	is "what a descriptor has comes, and its end" "$(value sum.in)" "$sum"
	control status --json
	pty=$(python3 -c 'import json, sys; print([p["where"] for p in json.load(sys.stdin)["ports"] if p["name"] == "pty"][0])' <"$work/control")
	check "the pseudo-terminal's name is told" complained "port pty is at $pty\$"
	begin_at_port terminal "$pty"
	go on
	step pty
	end_at_port
	is "4 MiB by the pseudo-terminal are whole" "$(at_port)" "$data"
	is "and 64 KiB to the guest" "$(value sum.pty)" "$(head -c 64K "$work/sent" | sha256sum | cut -d ' ' -f 1)"
	begin_at_port both
	go on
	step bound
	end_at_port
	begin_at_port read 0
	go on
	step over
	end_at_port
	is "4 MiB after the driver was bound anew, with traffic" "$(at_port)" "$data"
	go on
	finish
	ends "the guest's own end" 0
	check "the loss is told at the end" complained 'port socket: [0-9]* bytes are lost'
	python3 - "$vm/result" >"$work/counted" <<'END'
import json, sys
p = {p["name"]: p for p in json.load(open(sys.argv[1]))["ports"]}
size = 4 << 20
print(p["file"]["tx_bytes"] == size, p["in"]["rx_bytes"] == size, p["pty"]["rx_bytes"], p["socket"]["lost_bytes"] > 0,
      [p[n]["lost_bytes"] for n in ("file", "in", "out", "pty")])
END
	is "the result tells what passed" "$(cat "$work/counted")" "True True 65536 True [0, 0, 0, 0]"
	rm -f "$work/socket"
}
