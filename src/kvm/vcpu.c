// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: A vCPU is a thread around KVM_RUN. Exits go to the buses; nothing on the data path is one. A
 * vCPU is stopped by a signal whose handler sets immediate_exit, so that a signal that comes just
 * before KVM_RUN is not lost.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/thread.h"
#include "base/util.h"
#include "inside.h"
#include "kvm/layout.h"
#include "kvm/x86.h"

#define VCPU_STACK (64 * KIB)

/* EAGAINs of KVM_RUN in a row: up to the first number it is called again at once, at the second the
 * VM ends. */
#define REFUSALS_NORMAL 16u
#define REFUSALS_MAX	516u
#define REFUSED_MS	10

/* Intel SDM, volume 4. */
#define MSR_IA32_MISC_ENABLE	0x1a0u
#define MISC_ENABLE_FAST_STRING 1u
#define MISC_ENABLE_NO_BTS	(1u << 11) /* branch trace storage unavailable */
#define MISC_ENABLE_NO_PEBS	(1u << 12) /* precise event-based sampling unavailable */
#define MSR_MTRR_DEF_TYPE	0x2ffu
#define MTRR_ENABLED_WRITE_BACK (1u << 11 | 6u)

/* Intel SDM, volume 3: the local APIC's spurious interrupt vector register. */
#define LAPIC_SPIV   0xf0u
#define SPIV_ENABLED (1u << 8)

static _Thread_local struct vcpu *current;

static void on_vcpu_signal(int sig)
{
	(void)sig;
	if (current)
		current->run->immediate_exit = 1;
}

bool vcpu_has_lapic_on(void)
{
	struct kvm_lapic_state lapic;
	uint32_t spiv;

	if (!current || ioctl(current->fd, KVM_GET_LAPIC, &lapic) < 0)
		return false;
	memcpy(&spiv, lapic.regs + LAPIC_SPIV, sizeof(spiv));
	return spiv & SPIV_ENABLED;
}

static int set_cpuid(struct machine *m, struct vcpu *v, struct error *e)
{
	size_t size = sizeof(*m->cpuid) +
		      (m->cpuid->nent + CPUID_EXTRA) * sizeof(struct kvm_cpuid_entry2);
	_cleanup_free_ struct kvm_cpuid2 *cpuid = calloc(1, size);

	if (!cpuid)
		return error_set(e, -ENOMEM, "out of memory for the CPUID of vCPU %u", v->index);
	memcpy(cpuid, m->cpuid, sizeof(*cpuid) + m->cpuid->nent * sizeof(struct kvm_cpuid_entry2));
	cpuid_fit(cpuid, v->index, m->num_vcpus, m->tsc_khz);
	if (ioctl(v->fd, KVM_SET_CPUID2, cpuid) < 0)
		return error_set(e, -errno, "KVM refuses the CPUID of vCPU %u: %m", v->index);
	return 0;
}

static void set_msr(const struct vcpu *v, uint32_t index, uint64_t value)
{
	union {
		struct kvm_msrs head;
		uint8_t bytes[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} msrs = {.head.nmsrs = 1};

	msrs.head.entries[0] = (struct kvm_msr_entry){.index = index, .data = value};
	/* One that this processor does not have is refused, and the guest does without. */
	ioctl(v->fd, KVM_SET_MSRS, &msrs);
}

int vcpu_create(struct machine *m, struct vcpu *v, unsigned index, struct error *e)
{
	int r;

	*v = (struct vcpu){.machine = m, .index = index, .fd = -1};
	sem_init(&v->go, 0, 0);
	v->fd = ioctl(m->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (v->fd < 0)
		return error_set(e, -errno, "KVM cannot create vCPU %u: %m; try fewer with --cpus",
				 index);
	r = ioctl(m->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (r < (int)sizeof(struct kvm_run))
		return error_set(e, -EIO, "KVM_GET_VCPU_MMAP_SIZE says %d", r);
	v->run_size = (size_t)r;
	v->run = mmap(NULL, v->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		v->run = NULL;
		return error_set(e, -errno, "cannot map vCPU %u: %m", index);
	}
	if (index == 0) {
		r = ioctl(v->fd, KVM_GET_TSC_KHZ, 0);
		m->tsc_khz = r > 0 ? (uint32_t)r : 0;
	}
	r = set_cpuid(m, v, e);
	if (r)
		return r;
	/* As firmware leaves it: all memory is write-back. Without MTRRs Linux turns the PAT off.
	 */
	set_msr(v, MSR_MTRR_DEF_TYPE, MTRR_ENABLED_WRITE_BACK);
	set_msr(v, MSR_IA32_MISC_ENABLE,
		MISC_ENABLE_FAST_STRING | MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS);
	return 0;
}

void vcpu_destroy(struct vcpu *v)
{
	if (v->run)
		munmap(v->run, v->run_size);
	if (v->fd >= 0)
		close(v->fd);
	v->run = NULL;
	v->fd = -1;
}

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, bool long_mode)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = !long_mode,
		.l = long_mode,
	};
}

/*
 * Linux: Documentation/arch/x86/boot.rst, "64-bit Boot Protocol": paging on, identity mapped,
 * __BOOT_CS 0x10 and __BOOT_DS 0x18, boot_params in RSI. PVH: xen/docs/misc/pvh.pandoc: 32-bit
 * protected mode without paging, flat segments, EBX points to the start info. Neither promises a
 * stack, but some kernels call a function before they have one of their own.
 */
int vcpu_set_entry(struct vcpu *v, bool long_mode, gpa_t ip, gpa_t params, struct error *e)
{
	struct kvm_regs regs = {.rflags = X86_EFLAGS_FIXED, .rip = ip.v, .rsp = LAYOUT_STACK};
	struct kvm_sregs s;

	if (ioctl(v->fd, KVM_GET_SREGS, &s) < 0)
		return error_set(e, -errno, "KVM_GET_SREGS: %m");
	s.cs = flat_segment(0x10, 0xb, long_mode);
	s.ds = flat_segment(0x18, 0x3, false);
	s.es = s.fs = s.gs = s.ss = s.ds;
	s.tr = (struct kvm_segment){.limit = 0x67, .selector = 0x20, .type = 0xb, .present = 1};
	s.gdt.base = LAYOUT_GDT;
	s.gdt.limit = LAYOUT_GDT_SIZE - 1;
	s.idt.base = 0;
	s.idt.limit = 0;
	s.cr0 = X86_CR0_PE | X86_CR0_ET;
	s.cr4 = 0;
	s.efer = 0;
	if (long_mode) {
		s.cr3 = LAYOUT_PAGE_TABLES;
		s.cr4 = X86_CR4_PAE;
		s.cr0 |= X86_CR0_PG;
		s.efer = EFER_LME | EFER_LMA;
		regs.rsi = params.v;
	} else {
		regs.rbx = params.v;
	}
	if (ioctl(v->fd, KVM_SET_SREGS, &s) < 0)
		return error_set(e, -errno, "KVM_SET_SREGS: %m");
	if (ioctl(v->fd, KVM_SET_REGS, &regs) < 0)
		return error_set(e, -errno, "KVM_SET_REGS: %m");
	return 0;
}

static void run_pio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_IN)
			bus_read(&v->machine->pio, run->io.port, data, run->io.size);
		else
			bus_write(&v->machine->pio, run->io.port, data, run->io.size);
	}
	if (run->io.direction == KVM_EXIT_IO_IN)
		v->exits.pio_in++;
	else
		v->exits.pio_out++;
}

static void run_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	if (run->mmio.is_write) {
		v->exits.mmio_write++;
		bus_write(&v->machine->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	} else {
		v->exits.mmio_read++;
		bus_read(&v->machine->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	}
}

static void failed(struct vcpu *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void failed(struct vcpu *v, const char *fmt, ...)
{
	struct kvm_regs regs;
	char what[256], why[320];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (ioctl(v->fd, KVM_GET_REGS, &regs) < 0)
		regs.rip = 0;
	snprintf(why, sizeof(why), "vCPU %u at rip 0x%llx: %s", v->index,
		 (unsigned long long)regs.rip, what);
	v->machine->ended(v->machine->ctx, VCPU_FAILED, why);
}

static void failed_internally(struct vcpu *v)
{
	const struct kvm_run *run = v->run;

	if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
		failed(v,
		       "KVM cannot emulate an instruction of the guest (KVM_EXIT_INTERNAL_ERROR); "
		       "`skep check` tells whether this host runs guest kernels at hardware speed");
	else
		failed(v, "KVM internal error %u", run->internal.suberror);
}

/* One exit handled; false ends this vCPU's loop. */
static bool handle_exit(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		run_pio(v);
		return true;
	case KVM_EXIT_MMIO:
		run_mmio(v);
		return true;
	case KVM_EXIT_INTR:
		return true;
	case KVM_EXIT_SHUTDOWN:
		v->machine->ended(v->machine->ctx, VCPU_SHUTDOWN, "triple fault");
		return false;
	case KVM_EXIT_SYSTEM_EVENT:
		v->machine->ended(v->machine->ctx, VCPU_SHUTDOWN, "KVM system event");
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		failed_internally(v);
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		failed(v, "the processor refuses to enter the guest, reason 0x%llx",
		       (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		return false;
	case KVM_EXIT_HLT:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_IOAPIC_EOI:
		v->exits.other++;
		return true;
	default:
		failed(v, "unknown KVM exit %u", run->exit_reason);
		return false;
	}
}

/*
 * KVM_RUN says EAGAIN when a vCPU that waits for SIPI was woken, and then waits again or runs. It
 * also does when KVM cannot start a thread of its own, as often as it is asked. False when that has
 * gone on for some seconds.
 */
static bool retry_run(struct vcpu *v)
{
	if (v->refused++ < REFUSALS_NORMAL)
		return true;
	if (v->refused > REFUSALS_MAX) {
		failed(v, "KVM_RUN: %s: KVM cannot start a thread of its own%s", strerror(EAGAIN),
		       error_task_remedy(-EAGAIN));
		return false;
	}
	poll(NULL, 0, REFUSED_MS); /* nanosleep(2) is not in the sandbox */
	return true;
}

static void run_loop(struct vcpu *v)
{
	struct machine *m = v->machine;

	while (!atomic_load_explicit(&m->stop, memory_order_acquire)) {
		int r;

		vcpu_wait_paused(v);
		r = ioctl(v->fd, KVM_RUN, 0);
		if (r < 0 && errno == EINTR) {
			v->run->immediate_exit = 0;
			vcpu_answer_halted(v);
			continue;
		}
		if (r < 0 && errno == EAGAIN) {
			if (!retry_run(v))
				return;
			continue;
		}
		if (r < 0) {
			failed(v, "KVM_RUN: %s", strerror(errno));
			return;
		}
		v->refused = 0;
		machine_drain(m);
		if (!handle_exit(v))
			return;
	}
}

static void vcpu_main(void *arg)
{
	struct vcpu *v = arg;

	current = v;
	while (sem_wait(&v->go) < 0 && errno == EINTR)
		;
	run_loop(v);
	current = NULL;
	if (v->machine->inside && atomic_fetch_sub(&v->machine->inside, 1) == 1)
		v->machine->left(v->machine->ctx);
}

int vcpu_start(struct vcpu *v, int (*setup)(void *arg), void *arg, struct error *e)
{
	struct sigaction sa = {.sa_handler = on_vcpu_signal};
	char name[16];
	const struct thread_start start = {.name = name,
					   .stack = VCPU_STACK,
					   .signal = VCPU_SIGNAL,
					   .setup = setup,
					   .setup_arg = arg,
					   .main = vcpu_main,
					   .main_arg = v};
	int r;

	snprintf(name, sizeof(name), "vcpu%u", v->index);
	sigaction(VCPU_SIGNAL, &sa, NULL);
	r = thread_start(&v->thread, &start, e);
	v->started = r == 0;
	return r;
}
