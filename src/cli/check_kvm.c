// SPDX-License-Identifier: BSD-2-Clause
/*
 * What KVM offers, and how fast guest kernel code runs.
 *
 * DOC: Not every KVM runs kernels: one without VT-x or SVM below it emulates privileged code, some
 * half a microsecond an instruction, and misses instructions that Linux needs. So a payload of
 * three instructions runs at CPL 0 in long mode, as a kernel would: it counts RCX down and writes
 * to a port. The count grows until the loop takes long enough to be told from the exit itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "base/util.h"
#include "check.h"
#include "config/config.h"
#include "kvm/machine.h"
#include "kvm/x86.h"

/* Hardware needs less than one nanosecond, kvm on an emulated processor a few, an emulating KVM
 * several hundred. */
#define ACCELERATED_NS 50.0
#define LONG_ENOUGH_NS 4000000u
#define MAX_COUNT      20000000u
#define TIME_LIMIT_US  700000

/* The payload's memory. */
#define GUEST_PML4 0x1000u
#define GUEST_PDPT 0x2000u
#define GUEST_PD   0x3000u
#define GUEST_CODE 0x4000u
#define GUEST_SIZE 0x5000u

#define PTE_P_RW (PTE_PRESENT | PTE_WRITE)

struct probe {
	int kvm_fd, vm_fd, vcpu_fd;
	struct kvm_run *run;
	size_t run_size;
	uint8_t *mem;
};

static bool open_kvm(struct check_report *report, struct probe *p)
{
	int version;

	p->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (p->kvm_fd < 0) {
		check_add(report, "kvm", CHECK_FAILED, machine_open_remedy(errno), "/dev/kvm: %m");
		return false;
	}
	version = ioctl(p->kvm_fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION) {
		check_add(report, "kvm", CHECK_FAILED, "use a newer Linux kernel",
			  "/dev/kvm has API version %d, not %d", version, KVM_API_VERSION);
		return false;
	}
	check_add(report, "kvm", CHECK_OK, NULL, "/dev/kvm, API version %d", version);
	return true;
}

static bool check_caps(struct check_report *report, const struct probe *p)
{
	bool all = true;
	int max;

	for (const struct machine_cap *cap = machine_caps; cap->name; cap++) {
		bool has = ioctl(p->kvm_fd, KVM_CHECK_EXTENSION, cap->cap) > 0;

		if (has)
			check_add(report, cap->name, CHECK_OK, NULL, "%s", cap->what);
		else if (cap->required)
			check_add(report, cap->name, CHECK_FAILED,
				  "use Linux " MACHINE_MIN_LINUX " or newer as the host's kernel",
				  "missing: %s", cap->what);
		else
			check_add(report, cap->name, CHECK_ABSENT, NULL, "not there: no %s",
				  cap->what);
		all = all && (has || !cap->required);
	}
	max = ioctl(p->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	if (max <= 0)
		max = ioctl(p->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS);
	report->max_vcpus = max > 0 ? (unsigned)max : 4; /* Documentation/virt/kvm/api.rst, 4.7 */
	check_add(report, "vcpus", CHECK_OK, NULL, "up to %u in a VM, of which skep uses %u",
		  report->max_vcpus, MIN(report->max_vcpus, CONFIG_MAX_CPUS));
	return all;
}

/* A VM with one vCPU. Returns what failed, or NULL. */
static const char *create(struct probe *p)
{
	struct kvm_userspace_memory_region region = {.memory_size = GUEST_SIZE};
	int size;

	p->vm_fd = ioctl(p->kvm_fd, KVM_CREATE_VM, 0);
	if (p->vm_fd < 0)
		return "KVM_CREATE_VM";
	p->mem = mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->mem == MAP_FAILED)
		return "mmap";
	region.userspace_addr = (uintptr_t)p->mem;
	if (ioctl(p->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return "KVM_SET_USER_MEMORY_REGION";
	p->vcpu_fd = ioctl(p->vm_fd, KVM_CREATE_VCPU, 0);
	if (p->vcpu_fd < 0)
		return "KVM_CREATE_VCPU";
	size = ioctl(p->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < 0)
		return "KVM_GET_VCPU_MMAP_SIZE";
	p->run_size = (size_t)size;
	p->run = mmap(NULL, p->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu_fd, 0);
	return p->run == MAP_FAILED ? "mmap of the vCPU" : NULL;
}

static void destroy(const struct probe *p)
{
	if (p->run != MAP_FAILED)
		munmap(p->run, p->run_size);
	if (p->vcpu_fd >= 0)
		close(p->vcpu_fd);
	if (p->vm_fd >= 0)
		close(p->vm_fd);
	if (p->kvm_fd >= 0)
		close(p->kvm_fd);
	if (p->mem != MAP_FAILED)
		munmap(p->mem, GUEST_SIZE);
}

static const char *enter_long_mode(const struct probe *p)
{
	static const uint8_t code[] = {
		0x48, 0xff, 0xc9, /* 1: dec %rcx */
		0x75, 0xfb,	  /* jnz 1b */
		0xe6, 0x80,	  /* out %al, $0x80 */
	};
	const struct kvm_segment data = {.limit = 0xffffffff,
					 .selector = 16,
					 .type = 3,
					 .present = 1,
					 .db = 1,
					 .s = 1,
					 .g = 1};
	const struct kvm_segment text = {.limit = 0xffffffff,
					 .selector = 8,
					 .type = 11,
					 .present = 1,
					 .l = 1,
					 .s = 1,
					 .g = 1};
	struct kvm_sregs sregs;

	*(uint64_t *)(p->mem + GUEST_PML4) = GUEST_PDPT | PTE_P_RW;
	*(uint64_t *)(p->mem + GUEST_PDPT) = GUEST_PD | PTE_P_RW;
	*(uint64_t *)(p->mem + GUEST_PD) = PTE_HUGE | PTE_P_RW;
	memcpy(p->mem + GUEST_CODE, code, sizeof(code));

	if (ioctl(p->vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		return "KVM_GET_SREGS";
	sregs.cs = text;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr3 = GUEST_PML4;
	sregs.cr4 = X86_CR4_PAE;
	sregs.cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_PG;
	sregs.efer = EFER_LME | EFER_LMA;
	return ioctl(p->vcpu_fd, KVM_SET_SREGS, &sregs) < 0 ? "KVM_SET_SREGS" : NULL;
}

/* Nanoseconds that the loop takes with this count; 0 when the payload did not come through. */
static uint64_t time_loop(const struct probe *p, uint64_t count)
{
	struct kvm_regs regs = {.rip = GUEST_CODE, .rcx = count, .rflags = X86_EFLAGS_FIXED};
	uint64_t start;

	if (ioctl(p->vcpu_fd, KVM_SET_REGS, &regs) < 0)
		return 0;
	start = now_ns();
	if (ioctl(p->vcpu_fd, KVM_RUN, 0) < 0 || p->run->exit_reason != KVM_EXIT_IO)
		return 0;
	return MAX(now_ns() - start, 1u);
}

static void nothing(int sig)
{
	(void)sig;
}

/* KVM_RUN returns with EINTR when this goes off. */
static void set_alarm(long us)
{
	struct sigaction sa = {.sa_handler = nothing};
	struct itimerval timer = {.it_value = {.tv_usec = us}};

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

/* Nanoseconds for one instruction of guest kernel code, or 0. */
static double measure(const struct probe *p)
{
	uint64_t exit_ns = UINT64_MAX, ns = 0, count = 100;

	set_alarm(TIME_LIMIT_US);
	for (unsigned i = 0; i < 5; i++) { /* the first one also faults memory in */
		ns = time_loop(p, 1);
		if (ns == 0)
			break;
		exit_ns = MIN(exit_ns, ns);
	}
	while (ns != 0) {
		ns = time_loop(p, count);
		if (ns >= LONG_ENOUGH_NS + exit_ns || count >= MAX_COUNT)
			break;
		count *= 4;
	}
	set_alarm(0);
	if (ns == 0)
		return 0;
	return (double)(ns > exit_ns ? ns - exit_ns : 1) / (double)(2 * count);
}

static void check_speed(struct check_report *report, const struct probe *p)
{
	const char *failed = enter_long_mode(p);

	if (failed) {
		check_add(report, "kvm-speed", CHECK_FAILED, "use another host", "%s: %m", failed);
		return;
	}
	report->ns_per_instruction = measure(p);
	if (report->ns_per_instruction == 0) {
		check_add(report, "kvm-speed", CHECK_FAILED,
			  "use a host whose processor has VT-x or SVM",
			  "this KVM cannot run guest kernel code (exit reason %u)",
			  p->run->exit_reason);
	} else if (report->ns_per_instruction > ACCELERATED_NS) {
		check_add(
			report, "kvm-speed", CHECK_FAILED,
			"use a host whose processor has VT-x or SVM, or has them passed through "
			"by its hypervisor; for tests, tools/lab emulates one",
			"this KVM emulates guest kernel code (%.0f ns an instruction): Linux does "
			"not boot",
			report->ns_per_instruction);
	} else {
		report->kvm_accelerated = true;
		check_add(report, "kvm-speed", CHECK_OK, NULL,
			  "guest kernel code runs at hardware speed (%.2f ns an instruction)",
			  report->ns_per_instruction);
	}
}

void check_kvm(struct check_report *report)
{
	struct probe p = {
		.kvm_fd = -1, .vm_fd = -1, .vcpu_fd = -1, .run = MAP_FAILED, .mem = MAP_FAILED};
	const char *failed;

	if (!open_kvm(report, &p))
		return;
	report->kvm_usable = check_caps(report, &p);
	failed = create(&p);
	if (failed) {
		report->kvm_usable = false;
		check_add(report, "kvm-vm", CHECK_FAILED,
			  errno == EBUSY ? "end the other hypervisor that holds the processor's "
					   "virtualisation"
					 : "see the kernel's log (dmesg)",
			  "%s: %m", failed);
	} else {
		check_speed(report, &p);
	}
	destroy(&p);
}
