#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: echo.sh SKEP SKEP-ECHO SECCOMP-GEN-ECHO
#
# A device type is what one line in the table says: skep-echo has one more than skep.
set -eu
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"
without=$skep
skep=$(realpath "$2") generator=$(realpath "$3")
cd "$tmp"
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; cd /; rm -rf "$tmp"' EXIT

# Its option
run run --help
ok "help has the option" out_has '^ +--echo NAME\[,OPTION\.\.\.\]'
ok "help has its options" out_has '^ +queues=N +queues, 1 to 4'
run complete run --ec
ok "completion of the option" out_is --echo
run complete run --echo a,q
ok "completion of its options" out_is a,queues=
run run -k K --echo a,queues=2 --echo b --dry-run
ok "the option" json out 'd["echoes"] == [{"name": "a", "queues": 2}, {"name": "b", "queues": 1}]'
mv out config.json
run run --config config.json --dry-run
ok "JSON is read back" cmp -s out config.json
echo '{"echoes": [{"queues": 9}]}' >config.json
ok "JSON that is wrong" complains 2 "config.json:1:14: queues: '9' is not a number from 1 to 4" run --config config.json
ok "a misspelt option" complains 2 "did you mean 'queues'" run --echo a,queue=2
ok "a contradiction" complains 2 "two echo devices are named 'a'" run -k K --echo a --echo a
ok "too many" complains 2 'more than 8 echoes' run --echo 1 --echo 2 --echo 3 --echo 4 --echo 5 --echo 6 --echo 7 \
	--echo 8 --echo 9

# Its counters
echo x >kernel
run run -k kernel --console off --echo a --result result
ok "the result has its counters, after the others'" json result \
	'list(d)[-1] == "echoes" and d["echoes"] == [{"name": "a", "chains": 0, "kicks": 0}]'

# Its command
run help control
ok "help has the command" out_has '^echo-tell NAME TEXT: show a guest TEXT'
ok "help has its option" out_has '^ +--upper +in capitals'
run complete control s echo
ok "completion of the command" out_is echo-tell
run complete control s echo-tell --up
ok "completion of its option" out_is --upper
ok "the command without an operand" complains 2 'a name is missing: skep control PATH echo-tell .OPTION...] NAME TEXT' \
	control s echo-tell
ok "what the command takes" complains 2 'a text of at most 8 bytes' control s echo-tell a 123456789
python3 - <<'PY' &
import os, socket
s = socket.socket(socket.AF_UNIX)
s.bind("s.tmp")
s.listen(1)
os.rename("s.tmp", "s")
for answer in b'{"echo": 0, "text": "HI"}\n', b'{"state": "running", "echoes": [{"name": "a", "chains": 7}]}\n':
	c, _ = s.accept()
	open("asked", "w").write(c.makefile().readline())
	c.sendall(answer)
PY
server=$!
while [ ! -S s ]; do sleep 0.05; done
run control s echo-tell --upper a hi
ok "the command's request" json asked 'd == {"command": "echo-tell", "echo": "a", "text": "HI"}'
ok "the command's answer" out_is "echo a: HI"
run control s status
ok "the status" out_has '^echo 0 \(a\): 7 chains$'
wait "$server"
server=

# Its role
"$generator" --table >out
ok "its role in the sandbox" out_has '^echo epoll_wait$'

skep=$without
ok "skep has none of it: the option" complains 2 "unknown option '--echo'" run --echo a
ok "skep has none of it: the command" complains 2 "unknown command.*echo-tell" control s echo-tell a b
ok "skep has none of it: not a word" [ "$(strings -a "$without" | grep -c 'echo-tell\|echoes')" = 0 ]
done_testing
