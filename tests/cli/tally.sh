#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: tally.sh SKEP SOURCE
#
# What tools/test makes of results.
set -eu
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"
tally=$2/tools/lib/tally

printf '%s\t%s\t%s\n' pass 'gcc: one' '' skip 'gcc: host: two' 'no device' pass 'linux: host: two' '' \
	skip 'gcc: man: three' 'no mandoc' skip 'asan: man: three' 'no mandoc' \
	pass 'gcc: filters: four' '' skip 'asan: filters' 'no filters' >"$tmp/results"
tally() {
	status=0
	"$tally" summary "$tmp/results" "$@" >"$tmp/out" 2>"$tmp/err" || status=$?
}
tally
ok "a part: skips do not fail it" [ "$status" = 0 ]
ok "and are named, with the reason" out_has '^skipped: asan: man: three: no mandoc$'
ok "and counted" out_has '^3 passed, 0 failed, 4 skipped$'
tally --whole
ok "the whole: what was skipped everywhere has failed" [ "$status" = 1 ]
ok "and is named" out_has '^FAILED: three: skipped everywhere: no mandoc$'
ok "what ran somewhere has not, nor a program of which parts ran" [ "$(grep -c FAILED "$tmp/out")" = 1 ]
done_testing
