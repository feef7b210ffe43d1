# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Black-box tests of the program, as TAP. Sourced by a script whose first argument
# is the program; ends in done_testing.

skep=$(realpath "$1")
[ -x "$skep" ] || {
	echo "Bail out! there is no program $1"
	exit 1
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# The machine's own default guest stays out of it.
export SKEP_GUEST_DIR=$tmp/no-guest HOME=$tmp XDG_RUNTIME_DIR=$tmp/runtime LC_ALL=C
mkdir "$XDG_RUNTIME_DIR"
unset XDG_DATA_HOME XDG_CACHE_HOME NO_COLOR
test_count=0
test_failed=0

# run ARG...: leaves status, and the outputs in the files out and err.
run() {
	status=0
	"$skep" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null || status=$?
}

# ok NAME COMMAND...: a test that passes when the command does.
ok() {
	local name=$1
	shift
	test_count=$((test_count + 1))
	if "$@"; then
		echo "ok $test_count - $name"
	else
		echo "not ok $test_count - $name"
		echo "# status ${status:-none}, failed: $*"
		sed 's/^/# out: /' "$tmp/out" | head -n 20
		sed 's/^/# err: /' "$tmp/err" | head -n 20
		test_failed=$((test_failed + 1))
	fi
}

skip() {
	test_count=$((test_count + 1))
	echo "ok $test_count - $1 # SKIP $2"
}

out_has() { grep -qE -e "$1" "$tmp/out"; }
out_is() { [ "$(cat "$tmp/out")" = "$1" ]; }
out_is_empty() { [ ! -s "$tmp/out" ]; }
err_has() { grep -qE -e "$1" "$tmp/err"; }
err_is_empty() { [ ! -s "$tmp/err" ]; }
err_is_one_line() { [ "$(wc -l <"$tmp/err")" = 1 ] && grep -q '^skep: ' "$tmp/err"; }

# complains STATUS REGEX ARG...: nothing on stdout, one line on stderr.
complains() {
	local want=$1 regex=$2
	shift 2
	run "$@"
	[ "$status" = "$want" ] && out_is_empty && err_is_one_line && err_has "$regex"
}

# json FILE EXPRESSION: whether a Python expression over the document d is true.
json() {
	python3 -c '
import json, sys
d = json.load(open(sys.argv[1]))
sys.exit(0 if eval("(" + sys.argv[2] + ")") else 1)' "$1" "$2" 2>/dev/null
}

done_testing() {
	echo "1..$test_count"
	[ "$test_failed" = 0 ]
}
