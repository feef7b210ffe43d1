# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# `skep run -- COMMAND`: a command in a fresh guest, as if it ran here.

# command_vm OPTION... -- WORD...: what it printed is in $work/{out,err}; its status in $status.
command_vm() {
	status=0
	"$skep" run -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 1G -c 1 --timeout "$boot_patience" \
		--result "$work/result" "$@" >"$work/out" 2>"$work/err" || status=$?
}
out() { cat "$work/out"; }
err() { cat "$work/err"; }
# of_result MEMBER: of the command.
of_result() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["command"][sys.argv[2]])' "$work/result" "$1"; }

# The default guest's own root, which is nothing but memory.
test_command_in_the_guests_root() {
	local dir=$work/dir pid
	mkdir "$dir" && cd "$dir" || return
	command_vm --guest -- sh -c 'cat; echo err >&2; exit 3' < <(printf 'in\0put')
	is "its status" "$status $(of_result status) $(of_result signal)" "3 3 None"
	is "its output, as it was" "$(out | od -An -tx1)" "$(printf 'in\0put' | od -An -tx1)"
	is "its errors, and nothing else" "$(err)" err
	# shellcheck disable=SC2016
	command_vm --guest -- sh -c 'for a; do printf "%s|" "$a"; done' sh '' ' a  b' $'x\ny' $'\xff\'"$' -- -v
	is "its arguments" "$(out | od -An -c)" "$(printf '%s|' '' ' a  b' $'x\ny' $'\xff\'"$' -- -v | od -An -c)"
	command_vm --guest -- no-such-command
	is "a command that is not there" "$status $(err)" "127 skep: no-such-command: command not found"
	command_vm --guest -- /
	is "one that is none" "$status" 126
	# shellcheck disable=SC2016
	command_vm --guest -- sh -c 'kill -9 $$'
	is "one that a signal ends" "$status $(of_result status) $(of_result signal)" "137 None 9"
	command_vm --guest -- sh -c 'pwd; echo written >file'
	is "it is in the directory that skep was in" "$(out)" "$dir"
	is "and can write there" "$(cat file)" written
	command_vm --guest -- sh -c 'ls /sys/class/net'
	is "it has no network" "$(out)" lo
	command_vm --guest -- sh -c 'poweroff -f; sleep 1000'
	is "a guest that ends before it" "$status $(err | head -n 1)" "125 skep: the guest ended before the command did"
	command_vm --guest -- sh -c 'echo out; echo c >/proc/sysrq-trigger; sleep 1000'
	is "a guest that panics" "$status $(out)" "121 out"
	check "shows its kernel's log" grep -q 'sysrq triggered crash' "$work/err"
	command_vm --guest --timeout 20s -- sleep 1000
	is "a command that takes too long" "$status" 124
	# shellcheck disable=SC2016
	command_vm --guest -- sh -c 'echo $PATH $A $B $C $SKEP_TEST' </dev/null
	is "its environment is not all that of skep" "$(out)" "$PATH"
	printf '# words\nA=1\nB=x y\n' >"$work/env"
	# shellcheck disable=SC2016
	C=c SKEP_TEST=t command_vm --guest --env-file "$work/env" -e A=2 -e C -e SKEP_TEST -- \
		sh -c 'echo "$A $B $C $SKEP_TEST"'
	is "but what is asked for" "$(out)" "2 x y c t"
	"$skep" run -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 256 --guest -- \
		sh -c 'trap "echo got it; exit 9" TERM; echo up; while :; do sleep 1; done' >"$work/out" 2>"$work/err" &
	pid=$!
	eventually grep -q up "$work/out"
	kill -TERM $pid
	status=0
	wait $pid || status=$?
	is "a signal is the command's" "$status $(out | tail -n 1)" "9 got it"
	"$skep" run -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 256 --guest -- \
		sh -c 'trap "echo no" TERM; echo up; while :; do sleep 1; done' >"$work/out" 2>"$work/err" &
	pid=$!
	eventually grep -q up "$work/out"
	kill -TERM $pid
	eventually grep -q no "$work/out"
	kill -TERM $pid
	status=0
	wait $pid || status=$?
	is "and the second one ends the VM" "$status" 143
}

test_command_signals() {
	local pid
	mkdir "$work/dir" && cd "$work/dir" || return
	# shellcheck disable=SC2016
	(trap '' HUP; command_vm --guest -- sh -c 'kill -HUP $$; echo alive'; echo "$status" >status)
	is "what nohup ignores the command ignores" "$(cat status) $(out)" "0 alive"
	# Its time may be over at any moment from the first on; it is up by then, or ends before.
	command_vm --guest --timeout 30s --kill-after 1000s -- sh -c 'trap "echo told; exit 3" TERM; while :; do sleep 1; done'
	is "it is told when its time is over" "$status $(out) $(of_result status)" "124 told 3"
	command_vm --guest --timeout 30s --kill-after 1s -- sh -c 'trap "echo told" TERM; while :; do sleep 1; done'
	is "and ended a while after that" "$status" 124
	"$skep" run -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 256 --guest --kill-after 1s -- \
		sh -c 'trap "" TERM; echo up; while :; do sleep 1; done' >"$work/out" 2>"$work/err" &
	pid=$!
	eventually grep -q up "$work/out"
	kill -TERM $pid
	status=0
	wait $pid || status=$?
	is "so it is after a signal" "$status" 143
}

# 100 MB through the guest and back, with a reader that is slow.
test_command_streams() {
	local sum
	head -c 100M /dev/urandom >"$work/big"
	sum=$(sha "$work/big")
	status=0
	"$skep" run -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 512M --guest -- cat <"$work/big" |
		{ sleep 1; sha256sum; } >"$work/out" || status=$?
	is "100 MB come back as they were" "$(cut -d ' ' -f 1 "$work/out")" "$sum"
	"$skep" run -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 512M --guest -- sh -c 'yes; echo $? >&2' 2>"$work/err" |
		head -n 1 >"$work/out"
	is "output that nobody reads ends who writes it" "$(err)" 141
}

# The host's own root.
test_command_in_the_hosts_root() {
	local dir=$work/project home
	home=$(mktemp -d /var/tmp/skep-home.XXXXXX) # /tmp is the guest's own
	# shellcheck disable=SC2064
	trap "end_vm; rm -rf '$home'" EXIT
	mkdir -p "$dir" "$home/.ssh" && cd "$dir" || return
	echo secret >"$home/.ssh/id"
	echo secret >"$home/.netrc"
	command_vm -- sh -c 'cat /etc/debian_version; gcc --version | head -n 1'
	is "it has the host's programs" "$(out)" "$(cat /etc/debian_version; gcc --version | head -n 1)"
	command_vm -- sh -c 'echo changed >/etc/debian_version && cat /etc/debian_version && touch /usr/bin/new'
	is "what it changes it sees" "$status $(out)" "0 changed"
	check "and nobody else" sh -c 'grep -vq changed /etc/debian_version && [ ! -e /usr/bin/new ]'
	command_vm -- sh -c 'ls -A /run; stat -f -c %T /proc /sys /dev /tmp; pwd; echo new >file'
	is "it has places of its own" "$(out | tr '\n' ' ')" "proc sysfs tmpfs tmpfs $dir "
	is "the working directory is shared" "$(cat file)" new
	command_vm --cwd overlay -- sh -c 'cat file; echo other >file; cat file'
	is "or under an overlay" "$(out | tr '\n' ' ')$(cat file)" "new other new"
	command_vm --cwd ro -- sh -c 'cat file; echo other 2>/dev/null >file'
	is "or read-only" "$status $(out)" "2 new"
	echo other >"$home/other"
	HOME=$home command_vm -- sh -c 'cat /etc/shadow ~/.netrc ~/.ssh/id ~/other; ls -d /root'
	is "secrets are not there" "$(out)" other
	cd "$home" || return
	HOME=$home command_vm --expose "$home/.netrc" -- sh -c 'cat .netrc .ssh/id other'
	is "in the working directory, too, but for one that is asked for" "$(out | tr '\n' ' ')" "secret other "
	cd "$dir" || return
	chown nobody "$dir"
	# shellcheck disable=SC2016
	command_vm --user nobody -- sh -c 'id -un; umask; echo mine >own; echo $HOME'
	is "it is another user" "$(out | head -n 1) $(stat -c %U own)" "nobody nobody"
	command_vm -- sh -c 'printf "int main(void){return 42;}" | gcc -x c -o prog - && ./prog'
	is "it compiles, and runs what it compiled" "$status" 42
}

# What it leaves is copied out, in whatever way it ends.
test_command_artifacts() {
	mkdir "$work/dir" && cd "$work/dir" || return
	command_vm --artifact log:log.txt --artifact /tmp/out:out --artifact nothing:none -- \
		sh -c 'mkdir -p /tmp/out/sub; echo "a" >/tmp/out/sub/file; ln -s /etc/passwd /tmp/out/link; echo log >log; exit 7'
	is "the command's status stays" "$status" 7
	is "files are there" "$(cat log.txt out/sub/file; readlink out/link)" "log
a
/etc/passwd"
	check "what is missing is told" grep -qx "skep: --artifact: 'nothing': No such file or directory" "$work/err"
	command_vm --artifact nothing:none -- true
	is "and fails, if the command did not" "$status" 125
	command_vm --artifact big:copy -- sh -c 'head -c 100M /dev/urandom >big; sha256sum <big'
	is "100 MB are the same" "$(sha copy)" "$(out | cut -d " " -f 1)"
	command_vm --guest --artifact /x:x -- sh -c 'poweroff -f; sleep 1000'
	check "a VM that ends first has none" grep -q 'the VM ended before all was copied' "$work/err"
	check "no process is left" sh -c '! pgrep -x skep-artifacts'
}

# A guest that is short of something says of what, and the host stays calm.
test_command_that_takes_all() {
	mkdir "$work/dir" && cd "$work/dir" || return
	command_vm --guest -m 192M -- sh -c 'tail /dev/zero; echo survived $?'
	is "a hog of memory is killed, and only that" "$status $(out | tail -n 1)" "0 survived 137"
	check "a message says why" grep -q '^skep: warning: the guest ran out of memory.* than 192 MiB with --memory' "$work/err"
	is "and so does the result" "$(of_result out_of_memory)" True
	command_vm --disk-limit 20M -- sh -c 'head -c 30M /dev/zero >/var/tmp/full; stat -c %s /var/tmp/full'
	check "a hog of the disk finds it full" grep -q 'No space left on device' "$work/err"
	check "at its limit" [ "$(($(out) / 1000000))" = 20 ]
	is "which is no want of memory" "$(of_result out_of_memory)" False
}

# Other commands beside the first, and files in and out.
test_command_beside_another() {
	local dir=$work/dir pid vm=$work/vm.sock status sum
	mkdir "$dir" && cd "$dir" || return
	"$skep" run -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 512M --control "$vm" --timeout "$boot_patience" -- \
		sh -c 'echo first >/tmp/first; echo up; until [ -e stop ]; do sleep 1; done; exit 4' >"$work/out" 2>"$work/err" &
	pid=$!
	eventually grep -q up "$work/out"
	exec_in() { status=0; "$skep" exec "$@" >"$work/o" 2>"$work/e" || status=$?; }
	# shellcheck disable=SC2016
	exec_in "$vm" -e A='x y' -- sh -c 'cat /tmp/first; pwd; echo "$A"; cat; echo err >&2; exit 9' < <(printf 'in\0put')
	is "its status and errors" "$status $(cat "$work/e")" "9 err"
	is "it is where the first one is, with its own streams" "$(od -An -c "$work/o")" \
		"$(printf 'first\n%s\nx y\nin\0put' "$dir" | od -An -c)"
	exec_in "$vm" -- no-such-command
	is "a command that is not there" "$status $(cat "$work/e")" "127 skep: no-such-command: command not found"
	# shellcheck disable=SC2016
	exec_in "$vm" -- sh -c 'kill -9 $$'
	is "one that a signal ends" "$status" 137
	exec_in --user nobody --cwd /usr "$vm" -- sh -c 'id -un; pwd'
	is "as another user, somewhere else" "$(tr '\n' ' ' <"$work/o")" "nobody /usr "
	head -c 20M /dev/urandom >"$work/big"
	sum=$(sha "$work/big")
	for i in 1 2 3 4; do
		"$skep" exec "$vm" -- cat <"$work/big" | sha256sum | cut -d ' ' -f 1 >"$work/sum.$i" &
	done
	# shellcheck disable=SC2046
	wait $(jobs -p | grep -vx "$pid")
	is "four times 20 MB at once come back as they were" "$(sort -u "$work"/sum.*)" "$sum"
	"$skep" exec "$vm" -- sh -c 'trap "echo told; exit 3" TERM; echo up; while :; do sleep 1; done' >"$work/o" 2>"$work/e" &
	eventually grep -q up "$work/o"
	kill -TERM $!
	status=0
	wait $! || status=$?
	is "a signal is the command's" "$status $(tail -n 1 "$work/o")" "3 told"
	python3 - "$skep" "$vm" >"$work/o" 2>"$work/e" <<'END' || true
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
	os.execv(sys.argv[1], [sys.argv[1], "exec", sys.argv[2], "--", "sh", "-c", "stty size; read x; echo got $x; exit 6"])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
seen = b""
while b"40 100\r\n" not in seen and b"25 80\r\n" not in seen and b"0 0\r\n" not in seen:
	seen += os.read(fd, 4096)
os.write(fd, b"typed\n")
while b"got typed\r\n" not in seen:
	seen += os.read(fd, 4096)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
END
	is "at a terminal it has one" "$(cat "$work/o" "$work/e")" 6

	mkdir -p tree/sub
	echo text >tree/sub/file
	ln -s sub/file tree/link
	check "a directory goes in" "$skep" cp tree "$vm:/tmp/copy"
	exec_in "$vm" -- sh -c 'cat /tmp/copy/link; stat -c %U /tmp/copy/sub/file'
	is "as it is" "$(tr '\n' ' ' <"$work/o")" "text root "
	check "and out again" "$skep" cp "$vm:/tmp/copy" again
	check "the same" diff -r tree again
	check "a file goes into a directory" "$skep" cp "$work/big" "$vm:/tmp/copy"
	check "and out to a name" "$skep" cp "$vm:/tmp/copy/big" back
	is "with all its bytes" "$(sha back)" "$sum"
	status=0
	"$skep" cp "$vm:/nothing" none 2>"$work/e" || status=$?
	is "what is not there is told" "$status $(cat "$work/e")" "1 skep: '/nothing': No such file or directory"
	status=0
	"$skep" cp back "$vm:/proc/version" 2>"$work/e" || status=$?
	is "and what cannot be written" "$status $(grep -c "'/proc/version'" "$work/e")" "1 1"

	exec_in "$vm" -- sh -c 'touch stop; sleep 1000'
	is "they end with the VM" "$status $(cat "$work/e")" "125 skep: the guest ended before the command did"
	status=0
	wait "$pid" || status=$?
	is "whose status is the first command's" "$status" 4
	exec_in "$vm" -- true
	check "a VM that has ended runs none" grep -q 'nothing listens there' "$work/e"
}

# What control groups allow is what there is, by default.
test_command_in_a_cgroup() {
	local group=/sys/fs/cgroup/skep-command
	if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
		skip "limits of control groups" "cgroup2 is not mounted"
		return
	fi
	echo "+cpu +memory" >/sys/fs/cgroup/cgroup.subtree_control
	mkdir -p "$group/in"
	echo 600M >"$group/memory.max"
	echo "50000 100000" >"$group/cpu.max"
	is "half of the memory, and one processor" "$(
		echo 0 >"$group/in/cgroup.procs"
		"$skep" run -k x --dry-run -- true |
			python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["memory"], d["cpus"])'
	)" "300M 1"
	rmdir "$group/in" "$group"
}

# Each VM has a directory of a cache alone, and one that it finds again.
test_command_caches() {
	local first
	export XDG_CACHE_HOME=$work/xdg
	mkdir "$work/dir" && cd "$work/dir" || return
	command_vm --cache x:/var/cache/deep/er -- sh -c 'cd /var/cache/deep/er; ls; echo 1 >runs'
	is "it is empty at first" "$status $(out)" "0 "
	"$skep" run -k "$cloud/vmlinuz" -i "$cloud/initrd" -m 256 --cache x:/c -- \
		sh -c 'cat /c/runs; echo 2 >/c/runs; echo up; until [ -e stop ]; do sleep 1; done' >"$work/first" 2>&1 &
	first=$!
	eventually grep -q up "$work/first"
	command_vm --cache x:/c --user nobody --cwd off -- sh -c 'cat /c/runs; echo other >/c/runs'
	is "another VM has another one at the same time" "$(out)$(err)" "cat: /c/runs: No such file or directory"
	touch stop
	wait "$first"
	is "and the first kept its own" "$(cat "$work/first")" "1
up"
	command_vm --cache x:/c --cache y:/run/c -- sh -c 'cat /c/runs; ls /run/c'
	is "which the next finds" "$(out)" 2
	is "there are three" "$(cd "$XDG_CACHE_HOME/skep" && ls -d shared-*/*)" "shared-x/0
shared-x/1
shared-y/0"
}

# An image as the root.
test_command_in_an_image() {
	mkdir -p "$work/root/bin" "$work/root/dev" "$work/root/proc" "$work/root/sys" "$work/dir"
	cp "$(busybox_path)" "$work/root/bin/busybox"
	ln -s busybox "$work/root/bin/sh"
	truncate -s 64M "$work/root.img"
	mkfs.ext4 -q -d "$work/root" "$work/root.img"
	cd "$work/dir" || return
	command_vm --root "$work/root.img" -- sh -c 'busybox ls /; echo x >/new; busybox cat /new; echo y >here'
	is "it is the root" "$status $(out | tr '\n' ' ')" "0 bin dev lost+found proc run sys tmp x "
	is "with the directory" "$(cat here)" y
	command_vm --root "$work/root.img" -- sh -c 'busybox cat /new'
	is "what was written to it is gone" "$status" 1
	command_vm --root "$work/root" -- sh -c 'busybox expr 6 \* 7'
	is "a directory as the root" "$(out)" 42
}

# As at a terminal: python's is one.
test_command_at_a_terminal() {
	python3 - "$skep" "$cloud" "$boot_patience" >"$work/out" 2>"$work/err" <<'END' || true
import fcntl, os, pty, struct, sys, termios, time
skep, guest, patience = sys.argv[1:]

def start(*words):
	pid, fd = pty.fork()
	if pid == 0:
		os.execv(skep, [skep, "run", "-k", guest + "/vmlinuz", "-i", guest + "/initrd", "-m", "256", "--guest",
			"--timeout", patience, "--", *words])
	return pid, fd

pid, fd = start("sh", "-c", "trap 'stty size' WINCH; trap 'echo key' INT; tty; stty size; "
	"while ! read line; do :; done; echo \"line $line\"; exit 6")
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
seen = b""

def wait_for(what):
	global seen
	while what not in seen:
		seen += os.read(fd, 4096)
	seen = seen[seen.index(what) + len(what):]

wait_for(b"/dev/pts/0\r\n40 100\r\n")
print("size")
os.write(fd, b"\x03")
wait_for(b"key\r\n")
print("key")
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
os.kill(pid, 28)
wait_for(b"50 132\r\n")
print("new size")
os.write(fd, b"typed\n")
wait_for(b"line typed\r\n")
print("line", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
pid, fd = start("sh")
seen = b""
for keys, answer in ((b"", b"# "), (b"sh -c 'echo run; cat'\n", b"run\r\n"), (b"\x1a", b"topped"), (b"\n", b"# "),
		(b"exit 5\n", b"# "), (b"exit 5\n", b"exit 5")):
	os.write(fd, keys)
	wait_for(answer)
print("jobs", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
END
	is "it has size, keys, a new size, its lines, and jobs" "$(out | tr '\n' ' ')" "size key new size line 6 jobs 5 "
}
