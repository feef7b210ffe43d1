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
#include <sys/time.h>

#include "base/util.h"
#include "check.h"
#include "config/config.h"
#include "kvm/layout.h"
#include "kvm/machine.h"
#include "kvm/x86.h"

/* Hardware needs less than one nanosecond, kvm on an emulated processor a few, an emulating KVM
 * several hundred. */
#define ACCELERATED_NS 50.0
#define LONG_ENOUGH_NS 4000000u
#define MAX_COUNT      20000000u
#define TIME_LIMIT_US  700000

#define PAGE	   4096u
#define GUEST_CODE 0x1000u
#define PTE_P_RW   (PTE_PRESENT | PTE_WRITE)

static bool check_version(struct check_report *report, int kvm_fd)
{
	int version;

	if (kvm_fd < 0) {
		check_add(report, "kvm", CHECK_FAILED, machine_open_remedy(errno), "/dev/kvm: %m");
		return false;
	}
	version = ioctl(kvm_fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION) {
		check_add(report, "kvm", CHECK_FAILED, "use a newer Linux kernel",
			  "/dev/kvm has API version %d, not %d", version, KVM_API_VERSION);
		return false;
	}
	check_add(report, "kvm", CHECK_OK, NULL, "/dev/kvm, API version %d", version);
	return true;
}

static bool check_caps(struct check_report *report, int kvm_fd)
{
	bool all = true;
	int max;

	for (const struct machine_cap *cap = machine_caps; cap->name; cap++) {
		bool has = ioctl(kvm_fd, KVM_CHECK_EXTENSION, cap->cap) > 0;

		if (has)
			check_add(report, cap->name, CHECK_OK, NULL, "%s", cap->what);
		else if (cap->required)
			check_add(report, cap->name, CHECK_FAILED,
				  "use Linux " MACHINE_MIN_LINUX " or newer as the host's kernel",
				  "missing: %s", cap->what);
		else
			check_add(report, cap->name, CHECK_ABSENT, NULL, "not available: no %s",
				  cap->what);
		all = all && (has || !cap->required);
	}
	max = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	if (max <= 0)
		max = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS);
	report->max_vcpus = max > 0 ? (unsigned)max : 4; /* Documentation/virt/kvm/api.rst, 4.7 */
	check_add(report, "vcpus", CHECK_OK, NULL, "up to %u in a VM, of which skep uses %u",
		  report->max_vcpus, MIN(report->max_vcpus, CONFIG_MAX_CPUS));
	return all;
}

/* A VM with the payload in page tables that map 2 MiB; to be destroyed in either case. */
static int make_guest(struct machine *m, struct gmem *mem, struct error *e)
{
	static const uint8_t code[] = {
		0x48, 0xff, 0xc9, /* 1: dec %rcx */
		0x75, 0xfb,	  /* jnz 1b */
		0xe6, 0x80,	  /* out %al, $0x80 */
	};
	static const uint64_t levels[] = {(LAYOUT_PAGE_TABLES + PAGE) | PTE_P_RW,
					  (LAYOUT_PAGE_TABLES + 2 * PAGE) | PTE_P_RW,
					  PTE_HUGE | PTE_P_RW};
	int r = gmem_create(mem, MIB, e);

	if (!r)
		r = machine_create(m, mem, 1, 0, false, e);
	for (size_t i = 0; !r && i < ARRAY_SIZE(levels); i++)
		r = gmem_write(mem, GPA(LAYOUT_PAGE_TABLES + i * PAGE), &levels[i],
			       sizeof(levels[i]));
	if (!r)
		r = gmem_write(mem, GPA(GUEST_CODE), code, sizeof(code));
	return r ? r : vcpu_set_entry(&m->vcpu[0], true, GPA(GUEST_CODE), GPA(0), e);
}

/* Nanoseconds that the loop takes with this count; 0 when the payload did not come through. */
static uint64_t time_loop(const struct vcpu *v, uint64_t count)
{
	struct kvm_regs regs = {.rip = GUEST_CODE, .rcx = count, .rflags = X86_EFLAGS_FIXED};
	uint64_t start;

	if (ioctl(v->fd, KVM_SET_REGS, &regs) < 0)
		return 0;
	start = now_ns();
	if (ioctl(v->fd, KVM_RUN, 0) < 0 || v->run->exit_reason != KVM_EXIT_IO)
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
static double measure(const struct vcpu *v)
{
	uint64_t exit_ns = UINT64_MAX, ns = 0, count = 100;

	set_alarm(TIME_LIMIT_US);
	for (unsigned i = 0; i < 5; i++) { /* the first one also faults memory in */
		ns = time_loop(v, 1);
		if (ns == 0)
			break;
		exit_ns = MIN(exit_ns, ns);
	}
	while (ns != 0) {
		ns = time_loop(v, count);
		if (ns >= LONG_ENOUGH_NS + exit_ns || count >= MAX_COUNT)
			break;
		count *= 4;
	}
	set_alarm(0);
	if (ns == 0)
		return 0;
	return (double)(ns > exit_ns ? ns - exit_ns : 1) / (double)(2 * count);
}

static void check_speed(struct check_report *report, const struct vcpu *v)
{
	report->ns_per_instruction = measure(v);
	if (report->ns_per_instruction == 0) {
		check_add(report, "kvm-speed", CHECK_FAILED,
			  "use a host whose processor has VT-x or SVM",
			  "this KVM cannot run guest kernel code (exit reason %u)",
			  v->run->exit_reason);
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
	_cleanup_close_ int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct machine m = {.kvm_fd = -1, .vm_fd = -1};
	struct gmem mem = {.num_regions = 0};
	struct error e = {""};
	int r;

	if (!check_version(report, kvm_fd))
		return;
	report->kvm_usable = check_caps(report, kvm_fd);
	if (!report->kvm_usable)
		return;
	r = make_guest(&m, &mem, &e);
	if (r) {
		report->kvm_usable = false;
		check_add(report, "kvm-vm", CHECK_FAILED,
			  r == -EBUSY ? "end the other hypervisor that holds the processor's "
					"virtualisation"
				      : "see the kernel's log (dmesg)",
			  "%s", e.msg);
	} else {
		check_speed(report, &m.vcpu[0]);
	}
	machine_destroy(&m);
	gmem_destroy(&mem);
}
