# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Guests that are not Linux, built from their public sources: docs/guests.md.

# fetch_source DIR REPOSITORY REVISION
fetch_source() {
	git init -q "$1" && git -C "$1" fetch -q --depth 1 "https://github.com/$2" "$3" &&
		git -C "$1" checkout -q FETCH_HEAD
}

# A program that prints its arguments, on the platform that other monitors boot.
build_unikraft() {
	local new=$1 make=(make -C "$1/src" "A=$1/app" "O=$1/build")
	mkdir "$new/app"
	cat >"$new/app/main.c" <<-'EOF'
		#include <uk/print.h>
		int main(int argc, char *argv[])
		{
			for (int i = 0; i < argc; i++)
				uk_pr_crit("argument %d: %s\n", i, argv[i]);
			return 0;
		}
	EOF
	cat >"$new/app/Makefile.uk" <<-'EOF'
		$(eval $(call addlib,apphello))
		APPHELLO_SRCS-y += $(APPHELLO_BASE)/main.c
	EOF
	printf 'config APPHELLO\nbool "hello"\ndefault y\nselect LIBUKPRINT\n' >"$new/app/Config.uk"
	printf 'CONFIG_%s=y\n' ARCH_X86_64 PLAT_KVM KVM_VMM_FIRECRACKER KVM_BOOT_PROTO_LXBOOT APPHELLO >"$new/app/defconfig"
	fetch_source "$new/src" unikraft/unikraft eaf6fda1d420ee079b3b612f0130ea2761cf1c56 &&
		"${make[@]}" UK_DEFCONFIG="$new/app/defconfig" defconfig && "${make[@]}" &&
		cp "$new"/build/*_fc-x86_64 "$new/kernel" && rm -rf "$new"/{src,app,build}
}

make_foreign() {
	say "fetching and building $2"
	"build_$2" "$1" >"$1/log" 2>&1 || die "$2 cannot be fetched or built: $(tail -n 1 "$1/log")"
}

# foreign_guest NAME: its directory, or nothing when it cannot be had.
foreign_guest() {
	local dir key
	key=$(declare -f fetch_source "build_$1" | sha256sum)
	dir=$(tools_cache)/foreign-guest/$1-${key:0:16}
	once "$dir" make_foreign "$1" && printf '%s\n' "$dir"
}

prepare_unikraft() {
	need_packages git make gcc flex bison python3
	unikraft=$(foreign_guest unikraft) || true
}

test_unikraft() {
	[ -n "$unikraft" ] || { skip "Unikraft" "it cannot be fetched or built"; return; }
	boot -k "$unikraft/kernel" -m 64M -a 'one two' --timeout 60
	ends "Unikraft ends with a reset" 120
}
