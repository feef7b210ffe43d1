#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: check.sh SKEP NO-URING
#
# skep check, on whatever host this is. NO-URING runs a command where io_uring is denied.
set -eu
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"

run check --json "$tmp" /proc
ok "--json: nothing on stderr" err_is_empty
ok "--json: the members that scripts use" json "$tmp/out" \
	'type(d["ok"]) is bool and type(d["kvm"]["usable"]) is bool and
	type(d["kvm"]["accelerated"]) is bool and type(d["kvm"]["max_vcpus"]) is int'
ok "--json: every check is whole" json "$tmp/out" \
	'all(c["name"] and c["finding"] and c["state"] in ("ok", "absent", "failed") and
	(c["remedy"] is None or c["remedy"]) for c in d["checks"])'
ok "--json: what failed has a remedy" json "$tmp/out" \
	'all(c["remedy"] for c in d["checks"] if c["state"] == "failed")'
ok "--json: ok means that nothing failed" json "$tmp/out" \
	'd["ok"] == all(c["state"] != "failed" for c in d["checks"])'
ok "--json: the status says the same" json "$tmp/out" "d['ok'] == ($status == 0) and $status in (0, 1)"
ok "--json: accelerated goes with the measurement" json "$tmp/out" \
	'd["kvm"]["accelerated"] == (d["kvm"]["ns_per_instruction"] is not None and
	d["kvm"]["ns_per_instruction"] < 50)'
ok "--json: what is not accelerated does not work" json "$tmp/out" \
	'd["kvm"]["accelerated"] or not d["ok"]'
ok "--json: everything is looked at" json "$tmp/out" \
	'{"kvm", "io_uring", "discard", "huge-pages", "landlock", "vhost-net", "tun",
	"passt", "default-guest"} <= {c["name"] for c in d["checks"]}'
ok "--json: each path has its line" json "$tmp/out" \
	"[c['finding'].split(':')[0] for c in d['checks'] if c['name'] == 'discard'] == ['$tmp', '/proc']"
ok "no holes in /proc" json "$tmp/out" \
	'[c["state"] for c in d["checks"] if c["name"] == "discard"][1] == "absent"'
ok "no default guest: the remedy" json "$tmp/out" \
	'[c for c in d["checks"] if c["name"] == "default-guest"][0]["remedy"].find("skep-mkguest") >= 0'
cp "$tmp/out" "$tmp/json"
PATH=/nonexistent run check --json
ok "no passt: the remedy" json "$tmp/out" \
	'[(c["state"], "apt-get install passt" in c["remedy"]) for c in d["checks"] if c["name"] == "passt"] == [("absent", True)]'

mkdir "$tmp/cwd"
status=0
(cd "$tmp/cwd" && "$skep" check) >"$tmp/out" 2>"$tmp/err" || status=$?
ok "text: nothing on stderr" err_is_empty
ok "text: the current directory by default" out_has '^(ok|--)  discard +\.: '
ok "text: a line a check" [ "$(grep -cE '^(ok|--|no)  ' "$tmp/out")" = "$(wc -l <"$tmp/out" | awk '{print $1 - 1}')" ]
ok "text: no colours but on a terminal" [ -z "$(tr -cd '\033' <"$tmp/out")" ]
ok "text: the conclusion" out_has "^'skep run' (works|does not work) here$"
ok "nothing is left behind" [ -z "$(ls -A "$tmp/cwd")" ]

run check /nonexistent/dir
ok "a path that is not there: status 1" [ "$status" = 1 ]
ok "a path that is not there: says so" out_has '^no +discard +/nonexistent/dir: No such file'

tail -n 1 "$tmp/out" >"$tmp/conclusion"
run check "$tmp"
ok "a path that is not there: says nothing of skep run" cmp -s <(tail -n 1 "$tmp/out") "$tmp/conclusion"

status=0
(ulimit -n 3 && exec "$skep" check) >"$tmp/out" 2>"$tmp/err" || status=$?
if err_has 'shared object'; then
	skip "too many open files: no module is missing" "this program is not static, and does not even start"
else
	ok "too many open files: no module is missing" out_has '^no +kvm +/dev/kvm: Too many open files; .*ulimit -n'
fi

if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
	ok "KVM is there: it is found" json "$tmp/json" '[c for c in d["checks"] if c["name"] == "kvm"][0]["state"] == "ok"'
	ok "KVM is there: its speed is measured" json "$tmp/json" 'd["kvm"]["ns_per_instruction"] > 0'
else
	skip "KVM is there" "/dev/kvm cannot be used here"
fi

status=0
"$2" "$skep" check --json >"$tmp/out" 2>"$tmp/err" || status=$?
ok "no io_uring: done without" json "$tmp/out" \
	'[(c["state"], "seccomp" in c["remedy"]) for c in d["checks"] if c["name"] == "io_uring"] == [("absent", True)]'

if [ "$(id -u)" = 0 ] && [ -e /dev/kvm ] && [ "$(stat -Lc %a /dev/kvm)" != 666 ]; then
	cp "$skep" "$tmp/skep"
	chmod 755 "$tmp"
	status=0
	setpriv --reuid 65534 --regid 65534 --clear-groups "$tmp/skep" check --json >"$tmp/out" 2>"$tmp/err" || status=$?
	ok "no permission: status 1" [ "$status" = 1 ]
	ok "no permission: the remedy" json "$tmp/out" '"Permission denied" in d["checks"][0]["finding"] and
		"group" in d["checks"][0]["remedy"]'
else
	skip "no permission" "needs root, and a /dev/kvm that is not open to all"
fi

# In a mount namespace of our own.
if unshare --mount --map-root-user true 2>/dev/null; then
	status=0
	# shellcheck disable=SC2016 # it is that shell's
	unshare --mount --map-root-user sh -c 'mount -t tmpfs none /dev && exec "$1" check --json' - "$skep" \
		>"$tmp/out" 2>"$tmp/err" || status=$?
	ok "no /dev/kvm: status 1" [ "$status" = 1 ]
	ok "no /dev/kvm: the remedy" json "$tmp/out" \
		'not d["kvm"]["usable"] and "modprobe" in d["checks"][0]["remedy"]'
else
	skip "no /dev/kvm" "unshare --mount is not allowed here"
fi

done_testing
