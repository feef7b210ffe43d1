# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Payload guests in VMs of the real monitor, as TAP. Sourced with the arguments [--keep] SKEP PAYLOAD
# IMAGE-TOOL [PATTERN], once usage() is there; the script ends in done_testing.

keep=
case ${1-} in
-h | --help)
	usage
	exit 0
	;;
--keep)
	keep=1
	shift
	;;
esac
if [ $# -lt 3 ] || [ $# -gt 4 ]; then
	usage >&2
	exit 2
fi
# shellcheck source=../patience.sh
. "${0%/*}/../patience.sh"
# shellcheck disable=SC2034 # not everybody who sources this has use for the image tool
skep=$(realpath "$1") payload=$(realpath "$2") image=$(realpath "$3") pattern=${4-*}

if ! [ -r /dev/kvm ] || ! [ -w /dev/kvm ]; then
	echo "1..0 # SKIP /dev/kvm is missing or may not be opened"
	exit 0
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/skep-guest.XXXXXX")
job=
# shellcheck disable=SC2317 # the trap calls it
clean_up() {
	if [ -n "$job" ]; then
		kill -KILL "$job" 2>/dev/null
	fi
	if [ -z "$keep" ]; then
		rm -rf "$work"
	fi
}
trap clean_up EXIT
cd "$work" || exit 125
export XDG_RUNTIME_DIR=$work

tests=0
failures=0
reason=
name=

# begin NAME: true when the test is wanted. Ends with a call of `finish`.
begin() {
	name=$1
	reason=
	# shellcheck disable=SC2254 # it is a pattern
	case $name in
	$pattern)
		# A job opens its output when it gets to it: what another test's VM said is not waited for.
		rm -f out result
		return 0
		;;
	esac
	return 1
}

fail() {
	reason="${reason:+$reason; }$*"
}

finish() {
	tests=$((tests + 1))
	if [ -z "$reason" ]; then
		echo "ok $tests - $name"
		return
	fi
	failures=$((failures + 1))
	echo "not ok $tests - $name"
	echo "# $reason"
	# Of the VM's own lines those that failed are enough, or its last.
	if grep -aq '^not ok' out; then
		grep -a '^not ok' out | head -n 20 | sed 's/^/# guest: /'
	else
		tail -n 10 out | cut -c1-200 | sed 's/^/# guest: /'
	fi
	sed 's/^/# skep: /' err | cut -c1-300 | tail -n 20
}

# await FILE REGEX: until it says so.
await() {
	local end=$((SECONDS + patience))
	until grep -aqs "$2" "$1"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}

# until_true COMMAND...: waits for it; false when it does not come true in a time that is long on
# the slowest host.
until_true() {
	for _ in $(seq $((10 * patience))); do
		"$@" && return
		sleep 0.1
	done
	return 1
}

# vm CMDLINE [SKEP-OPTIONS]: one run, its output in out and err, its status in $status.
status=
vm() {
	local cmdline=$1
	shift
	rm -f result
	timeout --kill-after=5 $((10 * patience)) "$skep" run --kernel "$payload" --append "$cmdline" \
		--memory 64M --result result "$@" <"${input:-/dev/null}" >"${output:-out}" 2>err
	status=$?
}

# The same, and the guest must have ended well, with all its checks good.
vm_good() {
	vm "$@"
	expect_good
}

expect_status() {
	if [ "$status" -ne "$1" ]; then
		fail "exit status $status, not $1"
	fi
}

expect_good() {
	expect_status 0
	if ! grep -aq '^end: [1-9][0-9]* passed, 0 failed' out; then
		fail "the guest does not report success"
	fi
}

# counter NAME: a number of the result file.
counter() {
	local v
	v=$(grep -o "\"$1\": *[0-9]*" result | head -n 1 | grep -o '[0-9]*$')
	echo "${v:--1}"
}

sectors=32768
fresh_image() {
	"$image" fill disk.img "$sectors" || fail "cannot make an image"
}

# begin_vm CMDLINE [SKEP-OPTIONS]: a VM in the background, once its guest has said that it is ready.
begin_vm() {
	local cmdline=$1
	shift
	rm -f result out
	"$skep" run --kernel "$payload" --append "$cmdline" --memory 64M --result result "$@" \
		</dev/null >out 2>err &
	job=$!
	await out '^ready' || fail "the guest does not become ready"
}
end_vm() {
	wait "$job"
	status=$?
	job=
}

blocks() { # of 512 bytes, that the file occupies
	stat -c %b "$1"
}

done_testing() {
	echo "1..$tests"
	if [ "$tests" -eq 0 ]; then
		echo "no test is named $pattern" >&2
		exit 2
	fi
	[ "$failures" -eq 0 ]
}
