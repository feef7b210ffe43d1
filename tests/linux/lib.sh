# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What the Linux-guest tests share: verdicts in TAP, and one VM at a time that
# is talked to over its console. Sourced by tests/linux/run, which sets `work`
# (a scratch directory) and `skep` (the program).

# shellcheck source=../patience.sh
. "$here/../patience.sh"
# Of what boots, in the lab.
boot_patience=$((10 * patience))

# eventually COMMAND...: until it succeeds.
eventually() {
	local end=$((SECONDS + patience))
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.2
	done
}

# --- verdicts

ok() {
	echo >>"$work/count"
	printf 'ok - %s\n' "$1"
}

# not_ok NAME WHY
not_ok() {
	echo >>"$work/count"
	echo >>"$work/failed"
	printf '# %s\nnot ok - %s\n' "$2" "$1"
}

# skip NAME WHY
skip() {
	echo >>"$work/count"
	printf 'ok - %s # SKIP %s\n' "$1" "$2"
}

# is NAME GOT WANT
is() {
	if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', not '$3'"; fi
}

# at_most NAME GOT LIMIT; at_least NAME GOT LIMIT
at_most() {
	if [[ $2 =~ ^-?[0-9]+$ ]] && [ "$2" -le "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', not at most $3"; fi
}
at_least() {
	if [[ $2 =~ ^-?[0-9]+$ ]] && [ "$2" -ge "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', not at least $3"; fi
}

# check NAME COMMAND...: it succeeds.
check() {
	local name=$1
	shift
	if "$@" >"$work/check" 2>&1; then
		ok "$name"
	else
		case $1 in said | complained) transcript ;; esac
		not_ok "$name" "failed: $* $(tail -n 3 "$work/check" | tr '\n' ' ')"
	fi
}

# --- one VM at a time

vm_pid=
status=

# start ARGS...: skep run ARGS, its console on files. What was said is in $out;
# `send` types.
start() {
	vm=$(mktemp -d "$work/vm.XXXXXX")
	out=$vm/out
	mkfifo "$vm/in"
	: >"$out"
	"${wrap[@]}" "$skep" run --result "$vm/result" "$@" <"$vm/in" >"$out" 2>"$vm/err" &
	vm_pid=$!
	exec 7>"$vm/in"
}
wrap=()

# control COMMAND...: of the VM that runs with --control "$work/socket"; what it said is in $work/control.
control() { "$skep" control "$work/socket" "$@" >"$work/control" 2>&1; }

send() { printf '%s\n' "$1" >&7; }

running() { [ -n "$vm_pid" ] && kill -0 "$vm_pid" 2>/dev/null; }

# finish [SECONDS]: wait for the end of the VM, whose guest works for so long; $status is skep's.
finish() {
	local limit=$((boot_patience + 4 * ${1:-0})) watchdog
	(
		exec >/dev/null 2>&1 7>&-
		trap 'kill $!; exit' TERM
		sleep "$limit" &
		wait $!
		threads >"$vm/hung"
		kill -KILL "$vm_pid"
	) &
	watchdog=$!
	wait "$vm_pid" && status=0 || status=$?
	kill "$watchdog" 2>/dev/null || true
	wait "$watchdog" 2>/dev/null || true
	vm_pid=
	exec 7>&-
	if [ -e "$vm/hung" ]; then
		status="hung: nothing after $limit s"
		cat "$vm/hung"
		transcript
	fi
}

# What the VM's threads are at, twice, as comments.
threads() {
	local t
	for _ in 1 2; do
		for t in /proc/"$vm_pid"/task/*; do
			echo "# | $(cat "$t/comm") state $(cut -d ' ' -f 3 "$t/stat")" \
				"ticks $(cut -d ' ' -f 14,15 "$t/stat") $(head -n 4 "$t/stack" | tr '\n' ' ')"
		done
		find /sys/kernel/debug/kvm/"$vm_pid"-* -type f -exec grep -Hv '^0$' {} + 2>/dev/null |
			sed 's|.*/\([^/]*/[^/]*:\)|\1|; s/^/# | /' | grep -E 'exits|halt|irq' | paste -sd ' '
		sleep 1
	done
}

end_vm() {
	if running; then
		kill -KILL "$vm_pid"
		wait "$vm_pid" 2>/dev/null || true
		vm_pid=
	fi
}

# Show what the VM said, as comments.
transcript() {
	tail -n 25 "$out" "$vm/err" 2>/dev/null | tr -d '\r' | sed 's/^/# | /'
}

# boot ARGS...: start and finish.
boot() {
	start "$@"
	finish
}

# ends NAME WANT: the status of the VM that finished; says more when it is another.
ends() {
	[ "$status" = "$2" ] || transcript
	is "$1" "$status" "$2"
}

said() { tr -d '\r' <"$out" | grep -qE -- "$1"; }

# await REGEX: until the guest has said it; breaks the test off if it never does.
await() {
	local end=$((SECONDS + boot_patience))
	until said "$1"; do
		if ! running || [ "$SECONDS" -ge "$end" ]; then
			said "$1" && return 0
			echo "# the guest did not say '$1'"
			running && threads
			transcript
			return 1
		fi
		sleep 0.2
	done
}

# step NAME: wait until the guest's script gets there (see guest/lib); `go on` lets it go on.
step() { await "^@$1\$"; }
go() { send "go $1"; }

# value KEY: what the guest's script told by `tell KEY VALUE`.
value() { tr -d '\r' <"$out" | sed -n "s/^= $1 //p" | tail -n 1; }

# skep's standard error has a line that matches.
complained() { grep -qE -- "$1" "$vm/err"; }

# --- files

# allocated FILE: KiB that it occupies.
allocated() {
	sync "$1"
	echo $(($(stat -c '%b * %B' "$1") / 1024))
}

# settles NAME FILE LIMIT: in the end the file occupies at most LIMIT KiB. Some file systems
# discard in the background.
settles() {
	eventually occupies "$2" "$3" || true
	at_most "$1" "$(allocated "$2")" "$3"
}
occupies() { [ "$(allocated "$1")" -le "$2" ]; }

# Directories on file systems of each kind, for disk images: $work/on/ext4 and so on.
host_file_systems() {
	local fs
	for fs in ext4 xfs btrfs; do
		truncate -s 4G "$work/$fs.fs"
		"mkfs.$fs" -q "$work/$fs.fs" >/dev/null
		mkdir -p "$work/on/$fs"
		mount -o loop "$work/$fs.fs" "$work/on/$fs"
	done
	mkdir -p "$work/on/tmpfs"
	mount -t tmpfs tmpfs "$work/on/tmpfs"
}

sha() { sha256sum <"$1" | cut -d ' ' -f 1; }

# Of loop devices. One that something else had open detaches by itself once that has closed it.
detach() {
	local loop
	for loop; do
		losetup -d "$loop" 2>/dev/null || ! losetup "$loop" >/dev/null 2>&1
	done
}
