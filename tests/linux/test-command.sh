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
# The host's own root.
test_command_in_the_hosts_root() {
	local dir=$work/project
	mkdir "$dir"
	cd "$dir" || return
	command_vm -- sh -c 'cat /etc/debian_version; gcc --version | head -n 1'
	is "it has the host's programs" "$(out)" "$(cat /etc/debian_version; gcc --version | head -n 1)"
	command_vm -- sh -c 'echo changed >/etc/debian_version && cat /etc/debian_version && touch /usr/bin/new'
	is "what it changes it sees" "$status $(out)" "0 changed"
	check "and nobody else" sh -c 'grep -vq changed /etc/debian_version && [ ! -e /usr/bin/new ]'
	command_vm -- sh -c 'stat -f -c %T /proc /sys /dev /tmp; pwd; echo new >file'
	is "it has places of its own" "$(out | tr '\n' ' ')" "proc sysfs tmpfs tmpfs $dir "
	is "the working directory is shared" "$(cat file)" new
	command_vm --cwd overlay -- sh -c 'cat file; echo other >file; cat file'
	is "or under an overlay" "$(out | tr '\n' ' ')$(cat file)" "new other new"
	command_vm --cwd ro -- sh -c 'cat file; echo other 2>/dev/null >file'
	is "or read-only" "$status $(out)" "2 new"
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
	python3 - "$skep" "$cloud" >"$work/out" 2>"$work/err" <<'END' || true
import fcntl, os, pty, struct, sys, termios, time
skep, guest = sys.argv[1:]
pid, fd = pty.fork()
if pid == 0:
	os.execv(skep, [skep, "run", "-k", guest + "/vmlinuz", "-i", guest + "/initrd", "-m", "256", "--guest", "--",
		"sh", "-c", "trap 'stty size' WINCH; trap 'echo key' INT; tty; stty size; "
		"while ! read line; do :; done; echo \"line $line\"; exit 6"])
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
END
	is "it has size, keys, a new size, and its lines" "$(out | tr '\n' ' ')" "size key new size line 6 "
}
