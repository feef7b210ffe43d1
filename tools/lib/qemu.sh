# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# QEMU for labs of several processors: Debian's source, mended, in the tools' cache.
# Nothing of it is installed. Sourced after common.sh. docs/testing.md, "The lab's processors", says
# what is wrong with the others.

# fetch_qemu NEW: Debian's source of QEMU in NEW/source, of the version that is installed here, or of
# another if the archive has that no longer.
fetch_qemu() (
	new=$1
	apt_lists
	# shellcheck disable=SC2016 # placeholders of apt and dpkg
	{
		sources=$(apt-get indextargets 'Created-By: Packages' 'Origin: Debian' --format '$(REPO_URI) $(RELEASE) main' |
			sort -u)
		version=$(dpkg-query -W -f '${source:Version}' qemu-system-x86)
	}
	own_apt "$new/apt" "$sources" deb-src
	say "downloading the source of QEMU"
	cd "$new/apt" || exit
	apt --download-only source "qemu=$version" || apt --download-only source qemu ||
		die "could not download the source of QEMU: a lab of one processor does without (--cpus 1)"
	dpkg-source --no-check -x qemu_*.dsc "$new/source" >"$new/log" 2>&1 ||
		{ cat "$new/log" >&2; die "could not unpack the source of QEMU"; }
	rm -rf "$new/apt"
)

# mend_qemu SOURCE: what does not hold with several processors, or in guests of guests. Some of it is right in
# later versions.
mend_qemu() {
	local file lock=qemu_mutex_lock_iothread unlock=qemu_mutex_unlock_iothread
	local shadow='x86_ldl_phys(cs, addr + offsetof(struct vmcb, control.int_state)) \& SVM_INTERRUPT_SHADOW_MASK'
	! grep -q bql_lock "$1/include/qemu/main-loop.h" || lock=bql_lock unlock=bql_unlock
	file=$(find "$1/target/i386/tcg" -name svm_helper.c)
	mend '#include "cpu.h"' '&\n#include "qemu/main-loop.h"'
	# VMRUN delivers the interrupt that it injects, and leaves it pending as well.
	mend 'do_interrupt_x86_hardirq(env, vector, 1);' '& cs->exception_index = -1;'
	# It sets a bit of a word while other processors set theirs, and theirs may be lost: interrupts.
	grep -qF 'cpu_set_interrupt(cs, CPU_INTERRUPT_VIRQ);' "$file" ||
		mend 'cs->interrupt_request |= CPU_INTERRUPT_VIRQ;' "$lock(); & $unlock();"
	# It forgets that the guest's last instruction was STI. If that is for HLT, the guest misses the
	# interrupt that comes between the two, and sleeps on.
	[ "$(grep -cF 'control.int_state' "$file")" != 2 ] ||
		mend 'env->hflags |= HF_GUEST_MASK;' \
			"& env->hflags \&= ~HF_INHIBIT_IRQ_MASK; if ($shadow) env->hflags |= HF_INHIBIT_IRQ_MASK;"
	# FXRSTOR on any processor reads and writes a word of the first processor's, and what that sets
	# between the two is lost: whether it is in a guest, and pages as one.
	file=$(find "$1/target/i386/tcg" -name fpu_helper.c -path '*sys*')
	mend 'env->hflags2 &= ~HF2_IGNNE_MASK;' 'if (env->hflags2 \& HF2_IGNNE_MASK) &'
	# A store to code first drops what was translated from it, and is then made. What another processor
	# translates between the two is the old code. If that is the INT3 by way of which Linux patches
	# its own, it was executed for ever.
	file=$1/target/i386/tcg/excp_helper.c
	mend '#include "cpu.h"' '&\n#include "exec/cpu_ldst.h"'
	mend 'raise_interrupt(env, intno,.* next_eip_addend);' 'target_ulong pc = env->segs[R_CS].base + env->eip;
		if (intno == EXCP03_INT3 \&\& next_eip_addend == 1 \&\& cpu_ldub_code(env, pc) != 0xcc) {
			tb_page_addr_t code = get_page_addr_code(env, pc); tb_invalidate_phys_range(code, code + 1);
			cpu_loop_exit_noexc(env_cpu(env)); } &'
	file=$1/accel/tcg/translate-all.c
	! grep -q tb_lock_page0 "$file" || return 0
	# What another processor writes to code while that is translated goes unnoticed as well.
	mend 'void \*host_pc;' '& uint8_t code[TARGET_PAGE_SIZE]; size_t rest = -(pc | TARGET_PAGE_MASK);'
	mend 'trace_translate_block(tb, pc, tb->tc.ptr);' '& if (phys_pc != -1) memcpy(code, host_pc, rest);'
	mend 'existing_tb = tb_link_page(tb, tb_page_addr0(tb), tb_page_addr1(tb));' '& if (existing_tb == tb \&\&
		memcmp(code, host_pc, MIN(tb->size, rest))) { tb_phys_invalidate(tb, -1); goto buffer_overflow; }'
	# So does what is written by a TLB entry that is made at this moment.
	file=$1/accel/tcg/cputlb.c
	mend 'tlb->c.dirty |= 1 << mmu_idx;' '& if (is_ram \&\& (prot \& PAGE_WRITE) \&\& !section->readonly \&\&
		cpu_physical_memory_is_clean(iotlb)) write_address |= TLB_NOTDIRTY;'
}

# mend LINE NEW: NEW takes the place of LINE in $file, which has it once.
mend() {
	[ "$(grep -c "$1" "$file")" = 1 ] || die "QEMU's ${file##*/} is another than it was: see tools/lib/qemu.sh"
	sed -i "s@$1@${2//$'\n'/}@" "$file"
}

# build_qemu SOURCE: what a lab needs, and no more.
build_qemu() {
	printf 'CONFIG_%s=y\n' Q35 VIRTIO_PCI VIRTIO_SERIAL VHOST_USER_FS >"$1/configs/devices/x86_64-softmmu/lab.mak"
	mkdir "$1/lab" && cd "$1/lab" &&
		../configure --target-list=x86_64-softmmu --without-default-features --enable-tcg --enable-vhost-user \
			--enable-fdt=system --without-default-devices --with-devices-x86_64=lab --disable-werror \
			--extra-cflags=-g0 &&
		ninja qemu-system-x86_64
}

make_qemu_dir() {
	local new=$1 log=$1.log
	need_packages dpkg-dev gcc libc6-dev libfdt-dev libglib2.0-dev libpixman-1-dev meson ninja-build \
		pkg-config python3 python3-venv xz-utils zlib1g-dev
	fetch_qemu "$new"
	mend_qemu "$new/source"
	say "building QEMU for labs of several processors, which takes some minutes once"
	(build_qemu "$new/source") >"$log" 2>&1 </dev/null || { tail -n 30 "$log" >&2; die "could not build QEMU: see $log"; }
	strip -o "$new/qemu-system-x86_64" "$new/source/lab/qemu-system-x86_64"
	rm -rf "$new/source" "$new/log" "$log"
}

# lab_qemu CPUS: print the command of a lab's QEMU, a word a line: the mended one where it is there
# or there are several processors, else Debian's.
lab_qemu() {
	local key dir
	key=$(declare -f mend_qemu mend build_qemu | sha256sum)
	dir=$(tools_cache)/qemu/${key:0:16}
	[ "$1" = 1 ] || once "$dir" make_qemu_dir
	if [ -d "$dir" ]; then
		# Firmware is Debian's.
		printf '%s\n' "$dir/qemu-system-x86_64" -L /usr/share/seabios -L /usr/share/qemu
	else
		echo qemu-system-x86_64
	fi
}
