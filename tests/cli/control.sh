#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: control.sh SKEP
#
# skep control, against a server that says what the test wants. Against VMs: tests/guest/run.
set -eu
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"
cd "$tmp"
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; cd /; rm -rf "$tmp"' EXIT

# serve ANSWER: a server for one client, which notes the request in the file asked.
serve() {
	rm -f s asked
	python3 - "$1" <<'PY' &
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind("s.tmp")
s.listen(1)
os.rename("s.tmp", "s")
c, _ = s.accept()
line = c.makefile().readline()
open("asked", "w").write(line)
for byte in sys.argv[1].encode():
	c.sendall(bytes([byte]))
PY
	server=$!
	while [ ! -S s ]; do sleep 0.05; done
}
# asks REQUEST ANSWER ARG...: sends this (as JSON), and status is 0.
asks() {
	local want=$1 answer=$2
	shift 2
	serve "$answer
"
	if [ "${1#-}" = "$1" ]; then
		run control s "$@"
	else
		run "${1#-}" "${@:2}" # a command by itself
	fi
	wait "$server"
	server=
	[ "$status" = 0 ] && err_is_empty && json asked "d == $want"
}
# fails ANSWER REGEX: what it says of such an answer.
fails() {
	local failed=0
	serve "$1"
	complains 125 "$2" control s stop || failed=1
	wait "$server" || true
	server=
	return $failed
}

# fails_long ANSWER REGEX: the same, of a server that answers and closes while it is still asked.
fails_long() {
	local failed=0
	rm -f s
	python3 - "$1" <<'PY' &
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind("s.tmp")
s.listen(1)
os.rename("s.tmp", "s")
c, _ = s.accept()
c.recv(1)
c.sendall(sys.argv[1].encode() + b"\n")
c.close()
PY
	server=$!
	while [ ! -S s ]; do sleep 0.05; done
	# Each byte becomes six, and all together more than a socket's buffer.
	complains 125 "$2" control s resize-disk "$(printf '\001%.0s' {1..100000})" || failed=1
	wait "$server" || true
	server=
	return $failed
}

for words in "control --help" "control -h" "help control"; do
	# shellcheck disable=SC2086
	run $words
	ok "$words" out_has '^Usage: skep control PATH COMMAND'
	ok "$words: status 0" [ "$status" = 0 ]
done
ok "no path" complains 2 'a path is missing' control
ok "no command" complains 2 'a command is missing' control s
ok "a misspelt command" complains 2 "did you mean 'power-button'" control s powerbutton
ok "a misspelt option" complains 2 "did you mean '--json'" control s status --jsn
ok "one operand of two" complains 2 '^skep: up\|down is missing: skep control PATH link NET up\|down$' control s link 0
ok "an operand too many" complains 2 "'x': skep control PATH stop$" control s stop x
ok "an option without dashes" complains 2 'skep control PATH limit-net \[OPTION\.\.\.\] NET$' control s limit-net 0 rx-bps=1M
ok "no disk" complains 2 'a disk is missing: skep control PATH resize-disk DISK' control s resize-disk
ok "a size that is none" complains 2 'write it like 512M' control s resize-disk 0 much

ok "nothing is there" complains 125 '^skep: s: no such socket: .*--control' control s status
echo >file
ok "a file is there" complains 125 '^skep: file: nothing listens there' control file status
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("left")'
ok "a socket is left there" complains 125 '^skep: left: nothing listens there: the VM has ended' control left status
ok "a path that is too long" complains 125 'longer than the 107 bytes' control "$(printf %0200d 0)" status

ok "power-button" asks '{"command": "power-button"}' '{}' power-button
ok "power-button: nothing to say" out_is_empty
ok "stop VM" asks '{"command": "shutdown", "timeout_ns": 5 * 10**9}' '{"end": "power-off", "status": 7, "error": null}' -stop s --timeout 5s
ok "kill VM" asks '{"command": "stop"}' '{}' -kill ./s
ok "stat VM" asks '{"command": "status"}' '{"state": "running", "seconds": 1}' -stat s
ok "stat VM: the VM" out_has '^running for 1'
ok "resize-disk VM" asks '{"command": "resize-disk", "disk": 0, "grow": 1 << 30}' '{"disk": 0, "size": 4096}' -resize-disk s 0 +1G
asks '{"command": "wait"}' '{"end": "panic", "status": 121, "error": "the kernel\u001bpanicked"}' -wait s || true
ok "wait: the VM's status" [ "$status" = 121 ]
ok "wait: how it ended" out_is "panic: the kernel?panicked"
ok "a VM that there is not" complains 125 "^skep: web: no such socket: .* nor is there a VM of this name" stop web
mkdir -p "$XDG_RUNTIME_DIR/skep/web" "$XDG_RUNTIME_DIR/skep/dead" "$XDG_RUNTIME_DIR/skep/empty"
chmod 700 "$XDG_RUNTIME_DIR/skep"
serve '{"state": "running", "pid": 7, "seconds": 12.6}
'
mv s "$XDG_RUNTIME_DIR/skep/web/control"
(cd "$XDG_RUNTIME_DIR/skep/dead" && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("control")')
run ps
wait "$server"
server=
ok "ps: what runs" [ "$(tail -n 1 out | xargs)" = "web 7 running 13" ]
ok "ps: and nothing else" [ "$status $(wc -l <out)" = "0 2" ]
ok "ps: what was left behind is gone" [ "$(ls "$XDG_RUNTIME_DIR/skep")" = "$(printf 'empty\nweb')" ]
run complete stop w
ok "a VM's name is completed" out_is web
run ps --json
ok "ps --json: nothing runs any more" out_is '[]'

ok "stop" asks '{"command": "stop"}' '{}' stop
ok "resize-disk" asks '{"command": "resize-disk", "disk": 0}' '{"disk": 0, "size": 4096}' resize-disk 0
ok "resize-disk: says the size" out_is "disk 0: 4096 bytes (4 KiB)"
ok "resize-disk to a size" asks '{"command": "resize-disk", "disk": "root", "size": 2 << 30}' '{"disk": 0, "size": 1}' resize-disk root 2G
ok "resize-disk by a size" asks '{"command": "resize-disk", "disk": "r\"t", "grow": 1 << 20}' '{"disk": 0, "size": 1}' resize-disk 'r"t' +1
answer='{"state": "running", "seconds": 3.25, "disks": [{"path": "a", "serial": "x", "size": 1048576, "reads": 7}], "balloon": {"size": 2097152, "returned_bytes": 1024}}'
ok "status" asks '{"command": "status"}' "$answer" status
ok "status: the VM" out_has '^running for 3\.[23] s$'
ok "status: a disk" out_has '^disk 0 \(x\): 1 MiB, a$'
ok "status: its counters" out_has '^  7 reads of 0 B, 0 writes'
ok "status: what a VM has one of" out_has '^balloon: 2 MiB, 1 KiB given back to the host$'
ok "status --json" asks '{"command": "status"}' "$answer" status --json
ok "status --json: as it came" json out "d == $answer"

answer='{"messages": [{"seq": 7, "ns": 1234567890, "level": 4, "text": "one\ntwo"}, {"seq": 8, "ns": 0, "text": "\u001b"}], "next": 9, "end": 9}'
ok "dmesg" asks '{"command": "dmesg"}' "$answer" dmesg
ok "dmesg: each line as dmesg(1) has it" [ "$(head -n 2 out | paste -sd '|')" = '[    1.234567] one|[    1.234567] two' ]
ok "dmesg: nothing for the terminal but text" [ "$(tail -n 1 out)" = '[    0.000000] ?' ]
ok "dmesg --all" asks '{"command": "dmesg", "from": 0}' "$answer" dmesg --all
ok "dmesg --json" asks '{"command": "dmesg"}' "$answer" dmesg --json
ok "dmesg --json: a message a line" [ "$(wc -l <out)" = 2 ]

# What is at the file's name is what goes over the socket.
serve_file() {
	rm -f s asked
	python3 - <<'PY' &
import os, socket
s = socket.socket(socket.AF_UNIX)
s.bind("s.tmp")
s.listen(1)
os.rename("s.tmp", "s")
c, _ = s.accept()
line, fds, _, _ = socket.recv_fds(c, 4096, 4)
open("asked", "wb").write(line)
os.write(fds[0], b"the VM")
c.sendall(b"{}\n")
PY
	server=$!
	while [ ! -S s ]; do sleep 0.05; done
}
printf 'before, ' >log
serve_file
run control s console-file log
wait "$server"
server=
ok "console-file" json asked 'd == {"command": "console-file"}'
ok "console-file: adds to the file that was opened here" [ "$status $(cat log)" = "0 before, the VM" ]
ok "console-file: no file" complains 2 'a file is missing: skep control PATH console-file FILE' control s console-file
for file in log new; do
	serve $'{"error": "no such console"}\n'
	ok "console-file: a VM that refuses $file" complains 125 '^skep: no such console$' control s console-file $file
	wait "$server"
	server=
done
ok "console-file: refused, it leaves no new file" [ ! -e new ]
ok "console-file: refused, an old file stays" [ "$(cat log)" = "before, the VM" ]
ok "console-file: a directory" complains 125 '^skep: .: Is a directory' control s console-file .

# A VM process that was taken over says what it likes; so does who names an image.
hostile='{"state": "\u001b[2Jrunning", "seconds": 1, "disks": [{"path": "\u009b2J\u202egnp", "serial": "\r\u001b]0;x\u0007", "size": 1}]}'
no_controls() { ! LC_ALL=C grep -qP '[\x00-\x09\x0b-\x1f\x7f\x80-\xff]' "$tmp/out"; }
ok "status of a hostile VM" asks '{"command": "status"}' "$hostile" status
ok "status: nothing that a terminal obeys" no_controls
ok "status --json of a hostile VM" asks '{"command": "status"}' "$hostile" status --json
ok "status --json: nothing that a terminal obeys" no_controls
ok "status --json: nothing is lost" json out "d == json.loads(r'$hostile')"

ok "an error" fails $'{"error": "no disk 7"}\n' '^skep: no disk 7$'
ok "an error with what a terminal obeys" fails $'{"error": "\\u001b[2J\\u009bx"}\n' '^skep: \?\[2J\?\?x$'
ok "an error of several lines" fails $'{"error": "a\\nb"}\n' '^skep: a\?b$'
ok "no answer" fails '' '^skep: s: the VM ended without an answer'
ok "half an answer" fails '{"disk":' 'ended without an answer'
ok "an answer that is none" fails 'hello' 'ended without an answer'
ok "an answer of another kind" fails $'[]\n' 'the answer makes no sense'
ok "an answer without end" fails "$(printf '%0100000d' 0)" 'without an answer'

# A server that is full says so and hangs up, without a look at what is asked (which is long here).
ok "too many clients" fails_long '{"error":"too many clients: close some"}' 'too many clients'
rm -f s
python3 -c '
import os, signal, socket
s = socket.socket(socket.AF_UNIX)
s.bind("s")
s.listen(1)
os.kill(os.getpid(), signal.SIGSTOP)' &
server=$!
while [ ! -S s ] || [ "$(cut -d" " -f3 /proc/$server/stat)" != T ]; do sleep 0.05; done
ok "a VM that is stopped" complains 125 "process $server is stopped.*kill -CONT" control s status
kill -KILL $server
wait $server 2>/dev/null || true
server=

ok "a run with a path for the socket that is used" complains 2 "'x' is both the control socket and a disk" run --control x -d x
done_testing
