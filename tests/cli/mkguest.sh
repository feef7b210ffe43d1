#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: mkguest.sh SKEP SOURCE
#
# tools/mkguest, with an archive of kernels of its own: packages as Debian's are, but small.
set -eu
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"
: >"$tmp/out"
: >"$tmp/err"
for program in dpkg-deb apt-get cpio depmod setpriv; do
	command -v $program >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v $program >/dev/null || {
		echo "1..0 # SKIP there is no $program"
		exit 0
	}
done
arch=$(dpkg --print-architecture)
# Other users are to read it, and what the packages hold.
umask 022
chmod 755 "$tmp"
mkdir "$tmp"/{tools,repo,apt}
mkdir -p "$tmp"/apt/{lists,cache/archives}/partial
cp -r "$2"/tools/{mkguest,lib} "$tmp/tools/"
cp -r "$2/src/agent" "$tmp/tools/lib/"
mkguest=$tmp/tools/mkguest
export SKEP_TOOLS_CACHE=$tmp/cache/skep/tools APT_CONFIG=$tmp/apt/apt.conf
cat >"$APT_CONFIG" <<END
Dir::Etc { SourceList "$tmp/apt/sources.list"; SourceParts "/dev/null"; };
Dir::State { Lists "$tmp/apt/lists"; Status "$tmp/apt/status"; };
Dir::Cache "$tmp/apt/cache";
APT::Sandbox::User "root";
END
touch "$tmp/apt/status"
echo "deb [trusted=yes] file:$tmp/repo ./" >"$tmp/apt/sources.list"

# package NAME DEPENDS [PATH TEXT]...: put a package with these files into the archive.
package() {
	local root=$tmp/package name=$1 depends=$2
	shift 2
	rm -rf "$root"
	mkdir -p "$root/DEBIAN"
	printf '%s\n' "Package: $name" "Version: 1-1" "Architecture: $arch" "Maintainer: nobody <nobody@localhost>" \
		${depends:+"Depends: $depends"} "Description: made up" >"$root/DEBIAN/control"
	while [ $# -gt 0 ]; do
		mkdir -p "$root/${1%/*}"
		echo "$2" >"$root/$1"
		shift 2
	done
	dpkg-deb --build "$root" "$tmp/repo/$name.deb" >/dev/null
}

publish() {
	local deb
	(
		cd "$tmp/repo"
		for deb in *.deb; do
			dpkg-deb --field "$deb"
			printf '%s\n' "Filename: ./$deb" "Size: $(stat -c %s "$deb")" "SHA256: $(sha256sum <"$deb" | cut -d ' ' -f 1)" ''
		done >Packages
		printf '%s\n' "Date: $(LC_ALL=C date -Ru)" SHA256: \
			" $(sha256sum <Packages | cut -d ' ' -f 1) $(stat -c %s Packages) Packages" >Release
	)
	apt-get -q update >"$tmp/out" 2>&1
}

# The cloud flavour as it was up to Linux 7.1, generic as it is from 7.2 on.
old=6.1.0-1-cloud-$arch new=7.2.13+deb14-$arch
package busybox-static "" bin/busybox busybox
package "linux-image-cloud-$arch" "linux-image-$old" usr/share/doc/it text
package "linux-image-$old" linux-base "boot/vmlinuz-$old" 'old kernel' "lib/modules/$old/modules.order" ''
package "linux-image-$arch" "linux-base-$arch, linux-image-$new" usr/share/doc/it text
package "linux-image-$new" "linux-base-$new (= 1-1), linux-binary-$new (= 1-1), linux-modules-$new" usr/share/doc/it text
package "linux-binary-$new" "" "usr/lib/modules/$new/vmlinuz" 'new kernel'
package "linux-base-$new" "" "usr/lib/modules/$new/modules.builtin" 'kernel/drivers/virtio/virtio_mmio.ko'
package "linux-modules-$new" "" "usr/lib/modules/$new/kernel/none" ''
publish

# guest STATUS ARG...: what mkguest ends with.
guest() {
	local want=$1
	shift
	status=0
	"$mkguest" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null || status=$?
	[ "$status" = "$want" ]
}
kernel() { [ "$(cat "$tmp/$1/vmlinuz")" = "$2" ] && [ "$(ls -A "$tmp/$1")" = $'initrd\ninitrd-boot\nrelease\nvmlinuz' ]; }

ok "a kernel in /boot" guest 0 -o "$tmp/one"
ok "is in the guest, with nothing beside" kernel one 'old kernel'
ok "a kernel beside its modules, as from Linux 7.2 on" guest 0 --flavour generic -o "$tmp/two"
ok "is in the guest" kernel two 'new kernel'
ok "which knows its release" [ "$(cat "$tmp/two/release")" = "$new" ]
ok "and what is built in" guest 0 --flavour generic -o "$tmp/two" --modules virtio_mmio
ok "a module that is not there is refused" guest 125 -o "$tmp/none" --modules none
ok "so is what is no suite" guest 2 -o "$tmp/none" --suite 'deb http://'
ok "which leaves no guest" [ -z "$(ls -A "$tmp/none" 2>/dev/null)" ]

# at_once N ARG...: so many mkguests; how many of them failed.
at_once() {
	local i pids=() failed=0
	for i in $(seq "$1"); do
		"$mkguest" "${@:2}" >"$tmp/out.$i" 2>&1 </dev/null &
		pids+=($!)
	done
	for i in "${!pids[@]}"; do
		wait "${pids[i]}" || {
			failed=$((failed + 1))
			cat "$tmp/out.$((i + 1))" >>"$tmp/err"
		}
	done
	[ $failed = 0 ]
}
ok "eight at once, of one guest" at_once 8 -o "$tmp/one"
ok "which is there" kernel one 'old kernel'
ok "eight at once that fetch the kernel again" at_once 8 -o "$tmp/one" --refresh
ok "eight at once that fetch it for the first time" env SKEP_TOOLS_CACHE="$tmp/other" bash -c \
	"mkguest='$mkguest' tmp='$tmp'; $(declare -f at_once); at_once 8 -o '$tmp/three'"
ok "which is there" kernel three 'old kernel'

mv "$tmp/repo/linux-image-$old.deb" "$tmp/away.deb"
ok "--refresh of what cannot be fetched fails" guest 125 -o "$tmp/one" --refresh
ok "and leaves the guest" kernel one 'old kernel'
ok "and the kernel in the cache" guest 0 -o "$tmp/four"
package "linux-image-$old" linux-base "boot/vmlinuz-$old" 'newer kernel' "lib/modules/$old/modules.order" ''
publish
ok "without --refresh the kernel stays" guest 0 -o "$tmp/one"
ok "as it is" kernel one 'old kernel'
ok "--refresh fetches the newer one" guest 0 -o "$tmp/one" --refresh
ok "which is there" kernel one 'newer kernel'

umask 002
rm -rf "$tmp/cache"
ok "with umask 002" guest 0 -o "$tmp/group/guest"
find "$tmp/cache" "$tmp/group" ! -type l -perm /022 >"$tmp/out"
ok "nobody else can write to what is made" out_is_empty
umask 077
ok "with umask 077" guest 0 -o "$tmp/private"
ok "anybody can read it" [ "$(stat -c %a "$tmp/private" "$tmp/private/vmlinuz" "$tmp/private/initrd")" = $'755\n644\n644' ]
umask 022

# As an ordinary user, without HOME and with what such users have on their PATH.
mkdir "$tmp/user"
user=(env -i)
if [ "$(id -u)" = 0 ]; then
	chown 65534:65534 "$tmp/user"
	user=(setpriv --reuid=65534 --regid=65534 --clear-groups env -i)
fi
mkguest_as_user() {
	"${user[@]}" PATH=/usr/local/bin:/usr/bin:/bin APT_CONFIG="$APT_CONFIG" SKEP_TOOLS_CACHE="$tmp/user/cache" \
		"$mkguest" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
}
ok "without HOME: --help" mkguest_as_user --help
ok "without HOME: a guest" mkguest_as_user -o "$tmp/user/guest"

# lock FILE: hold it as apt does, until the file "free" is there.
lock() {
	rm -f "$tmp/free" "$tmp/held"
	python3 - "$@" "$tmp/held" "$tmp/free" <<'END' &
import fcntl, os, sys, time
with open(sys.argv[1], "w") as f:
    fcntl.lockf(f, fcntl.LOCK_EX)
    open(sys.argv[2], "w").close()
    while not os.path.exists(sys.argv[3]):
        time.sleep(0.05)
END
	holder=$!
	until [ -e "$tmp/held" ]; do sleep 0.05; done
}

# waits COMMAND...: it waits for the lock and succeeds once that is free.
waits() {
	local pid
	: >"$tmp/err" # what the command before wrote must not count
	"$@" >"$tmp/out" 2>"$tmp/err" </dev/null &
	pid=$!
	until err_has 'waiting: .*lock' || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
	touch "$tmp/free"
	wait "$holder"
	status=0
	wait $pid || status=$?
	[ $status = 0 ] && err_has "waiting: Could not get lock $tmp/apt/.*process $holder "
}
# In a lab and on its host nobody waits for the other's lock.
rm -rf "$tmp/made"*
make_slowly() { bash -euc '. "$1"; flock() { :; }
	make() { touch "$1/first" "$3-$2"; until [ -e "$3-a" ] && [ -e "$3-b" ]; do sleep 0.05; done; touch "$1/last"; }
	"$2" "$4" make "$3" "$4"' make "$tmp/tools/lib/common.sh" "$@" "$tmp/made" ||
	{ touch "$tmp"/made-{a,b} && return 1; }; }
for how in once anew; do
	make_slowly $how a >"$tmp/out" 2>"$tmp/err" &
	status=0
	make_slowly $how b >>"$tmp/out" 2>>"$tmp/err" || status=$?
	wait $! || status=$?
	ok "$how, two at the same time without locks: both have it" [ "$status" = 0 ]
	ok "$how: and it is whole" [ "$(cd "$tmp/made" && echo *)" = "first last" ]
	ok "$how: nothing is left" [ "$(find "$tmp" -maxdepth 1 -name 'made.*' ! -name made.lock | wc -l)" = 0 ]
	rm -f "$tmp"/made-*
done

tools_apt() { bash -euc '. "$1"; shift; apt "$@"' apt "$tmp/tools/lib/common.sh" "$@"; }
if [ "$(id -u)" = 0 ]; then
	rm -rf "$tmp"/apt/lists/*_* "$tmp/cache"
	lock "$tmp/apt/lists/lock"
	ok "waits for a lock on the package lists" waits "$mkguest" -o "$tmp/one"
	lock "$tmp/apt/lock-frontend"
	ok "waits for a lock on the packages" waits tools_apt --download-only install busybox-static
	lock "$tmp/apt/cache/archives/lock"
	ok "waits for a lock on what is downloaded" waits tools_apt --download-only install busybox-static
else
	skip "waits for apt's locks" "needs root"
fi

done_testing
