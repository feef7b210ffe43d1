// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Not every KVM runs kernels: one without VT-x or SVM below it emulates privileged code, some
 * half a microsecond an instruction, and misses instructions that Linux needs. So a payload of
 * three instructions runs at CPL 0 in long mode, as a kernel would: it counts RCX down and writes
 * to a port. The count grows until the loop takes long enough to be told from the exit itself.
 */
#include <cpuid.h>
#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "base/util.h"
#include "kvm/layout.h"
#include "kvm/machine.h"
#include "kvm/speed.h"
#include "kvm/x86.h"

#define LONG_ENOUGH_NS 4000000u
#define MAX_COUNT      20000000u
#define TIME_LIMIT_US  700000
/* For a first impression: some microseconds on hardware, 20 ms where it is emulated. */
#define TRY_COUNT 20000u
#define TRIES	  10u

#define PAGE	   4096u
#define GUEST_CODE 0x1000u
#define PTE_P_RW   (PTE_PRESENT | PTE_WRITE)

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

static int in_guest(struct machine *m, struct gmem *mem, struct error *e)
{
	*m = (struct machine){.kvm_fd = -1, .vm_fd = -1};
	*mem = (struct gmem){.num_regions = 0};
	return make_guest(m, mem, e);
}

int speed_measure(double *ret_ns, unsigned *ret_exit, struct error *e)
{
	struct machine m;
	struct gmem mem;
	int r = in_guest(&m, &mem, e);

	if (r == 0) {
		*ret_ns = measure(&m.vcpu[0]);
		*ret_exit = m.vcpu[0].run->exit_reason;
	}
	machine_destroy(&m);
	gmem_destroy(&mem);
	return r;
}

/* A processor that is busy with other work delays some tries, but not all. */
static bool is_emulated(const struct vcpu *v)
{
	bool measured = false;

	for (unsigned i = 0; i < TRIES; i++) {
		uint64_t ns = time_loop(v, TRY_COUNT);

		if (ns && (double)ns < 2 * TRY_COUNT * SPEED_OF_HARDWARE)
			return false;
		measured = measured || ns;
	}
	return measured;
}

/* VT-x (Intel SDM, volume 3, 23.6) or SVM (AMD APM, volume 2, 15.4), which KVM uses then. */
static bool has_hardware(void)
{
	unsigned a, b, c, d;

	return (__get_cpuid(1, &a, &b, &c, &d) && c & 1u << 5) ||
	       (__get_cpuid(0x80000001, &a, &b, &c, &d) && c & 1u << 2);
}

int speed_check(struct error *e)
{
	struct machine m;
	struct gmem mem;
	int r;

	if (has_hardware())
		return 0;
	r = in_guest(&m, &mem, NULL);
	r = r == 0 && is_emulated(&m.vcpu[0])
		    ? error_set(e, -ENOTSUP,
				"KVM emulates the code of kernels here, so that Linux does not "
				"boot: " SPEED_REMEDY)
		    : 0;
	machine_destroy(&m);
	gmem_destroy(&mem);
	return r;
}
