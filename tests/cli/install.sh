#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: install.sh SKEP BUILD
#
# meson install with DESTDIR, and that what it installs works.
set -eu
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"
build=$2
: >"$tmp/out"
: >"$tmp/err"

prefix=$(meson introspect --buildoptions "$build" | python3 -c '
import json, sys
print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')
quietly() { "$@" >"$tmp/err" 2>&1; }
ok "meson install with DESTDIR" quietly env DESTDIR="$tmp/dest" meson install -C "$build" --no-rebuild --quiet
root=$tmp/dest$prefix
find "$tmp/dest" -type f >"$tmp/out"
for file in bin/skep bin/skep-mkguest libexec/skep/mkguest libexec/skep/lib/common.sh \
	share/man/man1/skep.1 share/bash-completion/completions/skep share/zsh/site-functions/_skep \
	share/fish/vendor_completions.d/skep.fish share/doc/skep/LICENSE \
	share/doc/skep/README.md share/doc/skep/result.md lib/systemd/system/skep@.service; do
	ok "$file" [ -s "$root/$file" ]
done
run --version
"$root/bin/skep" --version >"$tmp/err"
ok "the installed program runs" cmp -s "$tmp/out" "$tmp/err"
: >"$tmp/err"
ok "mkguest finds what it sources" quietly "$root/libexec/skep/mkguest" --help
ok "skep-mkguest starts it" grep -qx "exec $prefix/libexec/skep/mkguest \"\$@\"" "$root/bin/skep-mkguest"

unit=$root/lib/systemd/system/skep@.service
ok "the unit starts what was installed" grep -qx "ExecStart=$prefix/bin/skep run --config /etc/skep/%i.json" "$unit"
stop=$("$skep" run -k x --dry-run | python3 -c 'import json, sys; print(json.load(sys.stdin)["stop-timeout"])')
ok "the unit's patience exceeds --stop-timeout" \
	[ "$(sed -n 's/^TimeoutStopSec=\([0-9]*\)s$/\1/p' "$unit")" -gt "${stop%s}" ]
if command -v systemd-analyze >/dev/null; then
	sed "s|^ExecStart=[^ ]*|ExecStart=/bin/true|; /^Documentation=/d" "$unit" >"$tmp/skep@.service"
	systemd-analyze verify "$tmp/skep@.service" >"$tmp/err" 2>&1 || true
	ok "systemd has nothing to say about the unit" [ -z "$(grep -F "skep@" "$tmp/err")" ]
else
	skip "systemd-analyze verify" "systemd-analyze is not installed"
fi

# The completion, as bash calls it: complete WORD... prints the candidates.
cat >"$tmp/complete" <<'EOS'
. "$1"
compopt() { :; }
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_skep
printf '%s\n' "${COMPREPLY[@]}"
EOS
complete() { bash "$tmp/complete" "$root/share/bash-completion/completions/skep" "$root/bin/skep" "$@" >"$tmp/out"; }

# The same in other shells: what a user has typed, the last word up to the cursor.
cat >"$tmp/complete.zsh" <<'EOS'
compset() { :; }
_files() { print -l -- $PREFIX*(N) }
compadd() { print -r -- "${@[-1]}"; }
file=$1
shift
words=("$@") CURRENT=$# PREFIX=${@[-1]}
. "$file"
EOS
complete_zsh() { zsh -f "$tmp/complete.zsh" "$root/share/zsh/site-functions/_skep" "$root/bin/skep" "$@" >"$tmp/out" 2>"$tmp/err"; }
complete_fish() {
	# shellcheck disable=SC2016 # it is fish's
	PATH=$root/bin:$PATH fish --no-config -c 'source $argv[1]; complete -C "$argv[2]"' \
		"$root/share/fish/vendor_completions.d/skep.fish" "$(printf '%s ' skep "${@:1:$#-1}")${!#}" >"$tmp/out" 2>"$tmp/err"
}

completes() {
	complete ru
	ok "$1 completes a command" out_is run
	complete run --no-k
	ok "$1 completes an option" out_is --no-kaslr
	complete stop ""
	ok "$1 completes a VM's name" out_is web
	touch "$tmp/a-kernel"
	complete run -k "$tmp/a-k"
	ok "$1 completes a file" out_has "a-kernel$"
	complete run -d "$tmp/x,re"
	ok "$1 completes an option of a disk" out_is "$tmp/x,readonly"
	complete run -d "$tmp/x,cac"
	ok "$1 completes an option of a disk that has a value" out_is "$tmp/x,cache="
}
mkdir -p "$XDG_RUNTIME_DIR/skep/web"
touch "$XDG_RUNTIME_DIR/skep/web/control"
completes bash
complete run --sandbox = of
ok "bash completes a value after =" out_is off
touch "$tmp/a kernel"
complete run -k "$tmp/a "
ok "bash completes a file with a blank" out_is "$tmp/a kernel"
for shell in zsh fish; do
	if command -v $shell >/dev/null; then
		eval "complete() { complete_$shell \"\$@\"; }"
		completes $shell
		complete run --sandbox=of
		ok "$shell completes a value after =" out_is --sandbox=off
	else
		skip "$shell completes" "$shell is not installed"
	fi
done

done_testing
