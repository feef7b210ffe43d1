#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: man.sh SKEP SOURCE SECCOMP-GEN
#
# The documents say what the program does.
set -eu
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"
source=$2 generator=$3
: >"$tmp/out"
: >"$tmp/err"

# The options that this command has.
options() { "$skep" complete "$1" --; }

ok "there are options to look for" [ "$(options run | wc -l)" -gt 15 ]
if command -v mandoc >/dev/null; then
	# Whether other manuals are installed is not ours to say.
	mandoc -Tlint "$source/docs/man/skep.1" 2>/dev/null | grep -v 'referenced manual not found' >"$tmp/out" || true
	ok "skep(1) has no lint" out_is_empty
	mandoc -Tascii "$source/docs/man/skep.1" 2>/dev/null | sed 's/.\x08//g' >"$tmp/out"
	for option in $(options run) $(options check); do
		ok "skep(1) has $option" out_has "^ +(-., )?$option( |\$)"
	done
	for command in $("$skep" complete disk ""); do
		ok "skep(1) has disk $command" out_has "^ +skep disk $command|^ +$command "
		for option in $("$skep" complete disk "$command" --); do
			ok "skep(1) has disk $command's $option" out_has "^ +(-., )?$option( |\$)"
		done
	done
	for command in $("$skep" complete control s ""); do
		ok "skep(1) has control $command" out_has "^ +$command( |\$)"
	done
	for device in disk share; do
		for option in $("$skep" complete run --$device x,); do
			ok "skep(1) has the $device's ${option#x,}" out_has "^ +${option#x,}"
		done
	done
	for device in net vsock balloon port; do
		for option in $("$skep" complete run --$device ""); do
			ok "skep(1) has --$device $option" out_has "^ +$option"
		done
	done
	for status in 0 120 121 122 124 125 2; do
		ok "skep(1) has exit status $status" out_has "^ +$status  "
	done
	"$skep" run -k K -i I -a A --result R --control C --name N -d D,serial=S -n tap=T,mac=02:00:00:00:00:01 --vsock cid=3,uds=U --port name=N,socket=W --port name=M,file=F --share S --dry-run >"$tmp/json"
	for key in $(python3 -c '
import json, sys
d = json.load(open(sys.argv[1]))
print(*d, *d["disks"][0], *d["nets"][0], *d["balloon"], *d["vsock"], *d["ports"][0], *d["ports"][1], *d["shares"][0])' "$tmp/json"); do
		ok "skep(1) has the key $key" out_has "$key"
	done
else
	skip "skep(1)" "mandoc is not installed"
fi

# What README and docs/result.md promise
ok "README: the two commands come first" [ "$(grep -E '^    ' "$source/README.md" | head -n 2 | xargs)" = "tools/demo tools/test" ]
echo x >"$tmp/kernel"
run run -k "$tmp/kernel" -d "$tmp/kernel,readonly" --console off --result "$tmp/result.json"
ok "docs/result.md has the members that are written" python3 - "$tmp/result.json" "$source/docs/result.md" <<'PY'
import json, re, sys
written = json.load(open(sys.argv[1]))
example = json.loads(re.search(r"```json\n(.*?)```", open(sys.argv[2]).read(), re.S).group(1))
same = (list(written) == list(example) and list(written["exits"]) == list(example["exits"]) and
	all(list(d) == list(example["disks"][0]) for d in written["disks"]))
sys.exit(0 if same else 1)
PY

ok "README names the oldest kernel as the messages do" python3 - "$source" <<'PY'
import re, sys
top = sys.argv[1]
oldest = re.search(r'MACHINE_MIN_LINUX "([\d.]+)"', open(top + "/include/kvm/machine.h").read())[1]
sys.exit(0 if f"Linux {oldest} or newer on x86-64" in open(top + "/README.md").read() else 1)
PY
"$generator" --table >"$tmp/table"
ok "docs/threat-model.md has each role's calls" python3 - "$source/docs/threat-model.md" "$tmp/table" <<'PY'
import re, sys
made = {}
for line in open(sys.argv[2]):
	role, call = line.split()
	made.setdefault(role, set()).add(call)
made["guard-named"] -= made["guard"]
made["control-socket"] -= made["control"]
told = {}
for roles, calls in re.findall(r"^\| [^|]*\((?:role|roles) `([^|]*)`\)[^|]*\| (.*) \|$", open(sys.argv[1]).read(), re.M):
	for role in roles.split("`, `"):
		told[role] = set(re.findall(r"`(\w+)`", calls))
names = sorted(made.keys() | told.keys())
different = {role: made.get(role, set()) ^ told.get(role, set()) for role in names}
if any(different.values()):
	print("#", different)
sys.exit(0 if len(told) >= 7 and not any(different.values()) else 1)
PY

# What docs/virtio.md names
named_tests() { grep -oE '\b(guest:[a-z_]+|test_[a-z0-9_]+|test-[a-z]+\.sh)' "$source/docs/virtio.md" | sort -u; }
missing=
for name in $(named_tests); do
	case $name in
	guest:*) grep -q "X(${name#guest:})" "$source/tests/guest/tests.h" ;;
	test-*) [ -e "$source/tests/linux/$name" ] ;;
	*) grep -rqE "\\b$name\\(void \\*\\*state\\)" "$source/tests/unit" "$source/tests/host" ;;
	esac || missing+=" $name"
done
ok "docs/virtio.md names many tests" [ "$(named_tests | wc -l)" -gt 50 ]
ok "docs/virtio.md names tests that there are:$missing" [ -z "$missing" ]

done_testing
