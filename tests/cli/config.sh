#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: config.sh SKEP
#
# --config, --dry-run, --result, and where the default guest is found.
set -eu
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"

run run --dry-run -k K -d a,,b.img,readonly -d c,pin,poll=20us -c 3 --timeout 90
ok "--dry-run: status 0" [ "$status" = 0 ]
ok "--dry-run: nothing on stderr" err_is_empty
ok "--dry-run: is JSON, with defaults" json "$tmp/out" \
	'd["kernel"] == "K" and d["memory"] == "256M" and d["cpus"] == 3 and d["sandbox"] is True'
ok "--dry-run: times have units" json "$tmp/out" \
	'd["timeout"] == "90s" and d["stop-timeout"] == "30s"'
ok "--dry-run: disks" json "$tmp/out" \
	'[x["path"] for x in d["disks"]] == ["a,b.img", "c"] and d["disks"][0]["readonly"] is True and
	[(x["pin"], x["poll"]) for x in d["disks"]] == [(False, "0s"), (True, "20us")]'
ok "--dry-run: no initrd is added to an own kernel" json "$tmp/out" '"initrd" not in d'

cp "$tmp/out" "$tmp/vm.json"
run run --config "$tmp/vm.json" --dry-run
ok "what --dry-run prints is a configuration" cmp -s "$tmp/out" "$tmp/vm.json"
status=0
"$skep" run --config - --dry-run <"$tmp/vm.json" >"$tmp/out" 2>"$tmp/err" || status=$?
ok "--config - reads standard input" cmp -s "$tmp/out" "$tmp/vm.json"
run run -c 7 -m 1G -d first --config "$tmp/vm.json" -c 5 -d last --dry-run
ok "options before and after --config" json "$tmp/out" \
	'd["cpus"] == 5 and d["memory"] == "256M" and
	[x["path"] for x in d["disks"]] == ["first", "a,b.img", "c", "last"]'
ok "a device that is not there by itself has no key" json "$tmp/out" '"vsock" not in d'
run run -k K --vsock uds=v,cid=auto --dry-run
ok "--vsock" json "$tmp/out" 'd["vsock"] == {"cid": "auto", "uds": "v"}'
for cid in 0 1 2 4294967295 4294967296; do
	ok "--vsock cid=$cid" complains 2 "cid: $cid is reserved: choose one from 3 to 4294967294, or auto" run -k K --vsock "cid=$cid"
done
for cid in -3 x 3x; do
	ok "--vsock cid=$cid" complains 2 "cid: '$cid' is neither a number nor auto" run -k K --vsock "cid=$cid"
done
ok "--vsock: a path that is too long" complains 2 "longer than 96 bytes" run -k K --vsock "uds=$(printf %097d 0)"

run run -k K --share /srv/data --share "/a:b,readonly,cache=always" --share "/x,,y:z" --dry-run
ok "--share" json "$tmp/out" '[(s["source"], s["readonly"], s["cache"]) for s in d["shares"]] == [
	("/srv/data", False, "auto"), ("/a:b", True, "always"), ("/x,y:z", False, "auto")]'
cp "$tmp/out" "$tmp/shares.json"
run run --config "$tmp/shares.json" --dry-run
ok "--share: what is printed is a configuration" cmp -s "$tmp/out" "$tmp/shares.json"
ok "--share: two with one tag" complains 2 "'/a/x' and '/b:x' both have the tag 'x': give one of them another" run -k K --share /a/x --share /b:x
ok "--share: a tag that is too long" complains 2 "is longer than 36 bytes: give a shorter one, '/a:TAG'" run -k K --share "/a:$(printf %037d 0)"
ok "--share: no tag" complains 2 "give a directory and a tag" run -k K --share /a:
ok "--share: no directory" complains 2 "give a directory and a tag" run -k K --share :tag
ok "--share: a directory that is not there" complains 125 "'$tmp/none': there is no such directory" run -k K --share "$tmp/none"
ok "--share: what is no directory" complains 125 "'$tmp/shares.json': it is not a directory" run -k K --share "$tmp/shares.json:x"
ok "--share: another cache" complains 2 "cache" run -k K --share /a,cache=none

for console in stdio off pty fd=3 file=a,b fresh-file=c socket=d file=a,b,max-size=64K; do
	run run -k K --console $console --dry-run
	ok "--console $console" json "$tmp/out" "d['console'] == '$console'"
done
for console in "" tty pty= stdio=x file fd=2 fd=x file=a,max-size=1K file=,max-size=1M file=a,max-size= \
	file=a,maxsize=1M file=a,max_size=1M file=a,b,max-size file=a,max-size=1M,max-siz=1M; do
	ok "no --console '$console'" complains 2 "--console" run -k K --console "$console" --dry-run
done
run run -k K --port name=a,socket=s --port pty,name=b.c --port name=d,fd=9 --port name=e,file=f,,g --dry-run
ok "--port" json "$tmp/out" '[p["name"] for p in d["ports"]] == ["a", "b.c", "d", "e"] and
	d["ports"][1]["pty"] and d["ports"][2]["fd"] == 9 and d["ports"][3]["file"] == "f,g"'
cp "$tmp/out" "$tmp/ports.json"
run run --config "$tmp/ports.json" --dry-run
ok "--port: what is printed is a configuration" cmp -s "$tmp/out" "$tmp/ports.json"
while read -r port says; do
	ok "no port: $port" complains 2 "$says" run -k K --port name=a,pty --port "$port"
done <<'END'
pty give it a name
name=x give one of socket=PATH
name=x,pty,fd=5 give one of socket=PATH
name=a/b,pty would be no file's in the guest
name=a,fd=5 are both called 'a'
name=x,fd=1 a standard stream
END
while read -r first second says; do
	ok "no --$first with --$second" complains 2 "is both $says: give each its own" run -k K "--$first" "--$second" --dry-run
done <<'END'
port=name=a,socket=s console=socket=s the console and a port
port=name=a,socket=s control=s the control socket and a port
port=name=a,socket=s port=name=b,file=s a port and another
port=name=a,fd=5 port=name=b,fd=5 a port and another
port=name=a,fd=5 console=fd=5 the console and a port
net=fd=5 port=name=b,fd=5 a network device and a port
net=fd=5 net=fd=5 a network device and another
net=socket=s,listen net=socket=s,listen a network device and another
net=socket=s,listen vsock=uds=s a network device and the socket device
vsock=uds=s control=s the control socket and the socket device
disk=s console=socket=s the console and a disk
END
ok "a network device at the socket of another" run run -k K -n socket=s,listen -n socket=s --dry-run
ok "--port file=: not one of the VM's other files" complains 2 "is both the kernel and a port" run -k "$tmp/vm.json" --port "name=x,file=$tmp/vm.json"

printf '{\n  "memroy": 5\n}\n' >"$tmp/bad.json"
ok "an unknown key" complains 2 "bad.json:2:3: unknown key 'memroy': did you mean 'memory'" \
	run --config "$tmp/bad.json"
printf '{"cpus": 1,\n"cpus": }' >"$tmp/bad.json"
ok "broken JSON" complains 2 "bad.json:2:" run --config "$tmp/bad.json"
ok "no such file" complains 125 "No such file" run --config "$tmp/none.json"
ok "not JSON but large" complains 2 "larger than 1 MiB" run --config /dev/zero
ok "a name that JSON cannot hold" complains 125 "not UTF-8" run -k $'\xff' --dry-run

# Networks: what belongs together, and a list in a device
run run -k K -n passt,forward=8080:80,forward=127.0.0.1/53:53/udp,mtu=1400 -n socket=s,listen -n fd=7 -n tap=t --dry-run
ok "networks: of all kinds" json "$tmp/out" \
	'[n.get("forward") for n in d["nets"]] == [["8080:80", "127.0.0.1/53:53/udp"], None, None, None] and
	[n["passt"] for n in d["nets"]] == [True, False, False, False] and d["nets"][2]["fd"] == 7 and
	d["nets"][1]["socket"] == "s" and d["nets"][1]["listen"] and d["nets"][3]["tap"] == "t"'
cp "$tmp/out" "$tmp/nets.json"
run run --config "$tmp/nets.json" --dry-run
ok "networks: what is printed is a configuration" cmp -s "$tmp/out" "$tmp/nets.json"
while read -r net says; do
	ok "no network: $net" complains 2 "$says" run -k K -n "$net" --dry-run
done <<'END'
mtu=1500 one of tap=NAME, passt
passt,tap=t one of tap=NAME, passt
passt,forward=80 like 8080:80
passt,forward=80:80/tcp like 8080:80
socket=s,forward=80:80 for passt
tap=t,listen goes with socket
tap=t,host-loopback is for passt
passt,vhost vhost is for a tap
tap=t,vhost,rx-bps=1M vhost has no limits
passt,queues=2 only a tap
passt,mtu=65521 at most 65520
passt,mtu=20 at least 68
fd=2 standard stream
passt,passt given twice
tap= tap: is empty: write a NAME
tap=a/b 'a/b' is no network interface's name
tap=tap%d no network interface's name
tap=. no network interface's name
tap=0123456789abcdef at most 15 characters
tap=t,mac=00:00:00:00:00:00 of a group, or of nobody
tap=t,mac=01:00:00:00:00:00 of a group, or of nobody
END

# The default guest
ok "no default guest: says how to make one" complains 125 "skep-mkguest" run
mkdir -p "$tmp/guest"
touch "$tmp/guest/vmlinuz" "$tmp/guest/initrd"
SKEP_GUEST_DIR=$tmp/guest
run run --dry-run
ok "SKEP_GUEST_DIR" json "$tmp/out" \
	"d['kernel'] == '$tmp/guest/vmlinuz' and d['initrd'] == '$tmp/guest/initrd'"
run run -i own --dry-run
ok "an own initrd for the default kernel" json "$tmp/out" \
	"d['kernel'] == '$tmp/guest/vmlinuz' and d['initrd'] == 'own'"
unset SKEP_GUEST_DIR
mkdir -p "$tmp/.local/share/skep"
mv "$tmp/guest" "$tmp/.local/share/skep/guest"
run run --dry-run
ok "a guest in the home directory" json "$tmp/out" \
	"d['kernel'] == '$tmp/.local/share/skep/guest/vmlinuz'"

# The result
echo "not a kernel" >"$tmp/kernel"
run run -k "$tmp/kernel" --console off --result "$tmp/result.json"
ok "not a kernel: status 125" [ "$status" = 125 ]
ok "not a kernel: one line" err_is_one_line
ok "not a kernel: the result says so" json "$tmp/result.json" \
	"d['end'] == 'failed' and d['status'] == 125 and '$tmp/kernel' in d['error']"
run run -k "$tmp/kernel" --console off --vsock cid=auto --result "$tmp/result.json"
ok "a socket in the runtime directory" json "$tmp/result.json" \
	"d['vsock']['uds'] == '$tmp/runtime/skep/vsock-%d' % d['vsock']['cid']"
ok "no VM, no socket" [ -z "$(ls "$tmp/runtime/skep")" ]
ok "a result that cannot be written is an early error" complains 125 \
	"--result: '/nonexistent/r': No such file" run -k "$tmp/kernel" --result /nonexistent/r

done_testing
