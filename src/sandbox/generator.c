// SPDX-License-Identifier: BSD-2-Clause
/*
 * Writes the sandbox's seccomp filters as C, when skep is built: seccomp-gen > OUTPUT.
 *
 * DOC: Theory of operation. The table below says which thread role may make which system call, with
 * which arguments, and why. libseccomp turns each role's rows into a BPF program; these are printed
 * as arrays, so that skep itself needs neither libseccomp nor the time that it takes. A call that
 * is not in the table raises SIGSYS, whose handler (sandbox.c) names it; the names are printed,
 * too.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "base/util.h"
#include "filters.h"

#define SOCKET	   (1u << SANDBOX_CONTROL_SOCKET)
#define CONTROL	   (1u << SANDBOX_CONTROL | SOCKET)
#define VCPU	   (1u << SANDBOX_VCPU)
#define DISK_URING (1u << SANDBOX_DISK_URING)
#define DISK_SYNC  (1u << SANDBOX_DISK_SYNC)
#define GUARD	   (1u << SANDBOX_GUARD)
#define WRITER	   (1u << SANDBOX_WRITER)
#define ALL	   (CONTROL | VCPU | DISK_URING | DISK_SYNC | GUARD | WRITER)

struct row {
	unsigned roles;
	int call;
	const char *name;
	unsigned num_args;
	struct scmp_arg_cmp arg[2]; /* all must hold */
};

#define ROW(roles_, call_, num_, ...)                                                              \
	{                                                                                          \
		.roles = (roles_), .call = SCMP_SYS(call_), .name = #call_, .num_args = (num_),    \
		.arg = {__VA_ARGS__},                                                              \
	}
#define CALL(roles_, call_)		     ROW(roles_, call_, 0)
#define CALL_IF(roles_, call_, cond)	     ROW(roles_, call_, 1, cond)
#define CALL_IF2(roles_, call_, cond, cond2) ROW(roles_, call_, 2, cond, cond2)

/* Argument n has these 32 bits; the kernel looks at no more of an int. */
#define INT_IS(n, value)                                                                           \
	{                                                                                          \
		(n), SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint32_t)(value)                             \
	}
/* Of argument n's bits in `mask`, exactly those in `value` are set. */
#define BITS_ARE(n, mask, value)                                                                   \
	{                                                                                          \
		(n), SCMP_CMP_MASKED_EQ, (mask), (value)                                           \
	}
#define IOCTL(roles_, request) CALL_IF(roles_, ioctl, INT_IS(1, request))

static const struct row table[] = {
	/* The C library, on any thread. */
	CALL(ALL, futex),	    /* locks, condition variables, join */
	CALL(ALL, exit),	    /* a thread ends */
	CALL(ALL, exit_group),	    /* main() returns; the SIGSYS handler */
	CALL(ALL, rt_sigreturn),    /* a signal handler returns */
	CALL(ALL, rt_sigprocmask),  /* pthread_kill(), raise(), a thread's end */
	CALL(ALL, restart_syscall), /* after SIGCONT */
	CALL(ALL, clock_gettime),   /* where the vDSO has no clock */
	CALL(ALL, brk),		    /* malloc() */
	CALL_IF2(ALL, mmap, BITS_ARE(2, PROT_EXEC, 0), BITS_ARE(3, MAP_ANONYMOUS, MAP_ANONYMOUS)),
	CALL(ALL, mremap),				 /* realloc() of much */
	CALL(ALL, munmap),				 /* free() of much; teardown */
	CALL_IF(ALL, madvise, INT_IS(2, MADV_DONTNEED)), /* the stack of a thread that ends */

	/* abort() and pthread_kill(); a process has no signal for another one. */
	CALL(ALL, getpid),
	CALL(ALL, gettid),
	CALL_IF(ALL, tgkill, INT_IS(0, SANDBOX_OWN_PID)),

	/* Log, interrupts (eventfds), work for another loop. */
	CALL(ALL, write),
	CALL(ALL, writev), /* the C library's last words before abort(): corrupt heap or stack */
	CALL(ALL, poll),   /* is stderr ready to take a line? */

	/* tty_restore(), in a signal handler on any thread. */
	IOCTL(ALL, TCGETS),
	IOCTL(ALL, TIOCGPGRP),
	IOCTL(ALL, TCSETS),
	IOCTL(ALL, TCSETSW),
	IOCTL(ALL, TCSETSF),

	CALL(GUARD, rt_sigtimedwait), /* guard.c; else it writes the result */

	/* vcpu.c */
	IOCTL(VCPU, KVM_RUN),
	IOCTL(VCPU, KVM_GET_MP_STATE),	  /* halt.c: is it halted for good? */
	IOCTL(VCPU, KVM_GET_LAPIC),	  /* the guest resets: did it panic? */
	IOCTL(VCPU, KVM_GET_REGS),	  /* where a guest was when KVM gave up on it */
	IOCTL(VCPU, KVM_SET_GSI_ROUTING), /* the guest changed an I/O APIC entry */

	/* loop.c: timers, eventfds. */
	CALL(CONTROL | DISK_URING | DISK_SYNC, read), /* stdin, the signalfd, too */
	CALL(CONTROL | DISK_URING | DISK_SYNC, timerfd_settime),
	CALL(CONTROL | DISK_SYNC, epoll_wait),
	CALL(CONTROL | DISK_SYNC, epoll_ctl), /* a watch pauses */
	CALL(DISK_URING, io_uring_enter),     /* on a sealed ring: see loop_uring.c */
	CALL_IF(DISK_URING, io_uring_register, INT_IS(1, IORING_UNREGISTER_FILES)), /* at its end */
	CALL_IF(DISK_URING, io_uring_register, INT_IS(1, IORING_UNREGISTER_BUFFERS)),

	CALL(DISK_URING | DISK_SYNC, fstat),	     /* blk.c: what an image occupies */
	IOCTL(DISK_URING | DISK_SYNC, BLKGETSIZE64), /* no space, or a device that vanished? */

	/* blk_sync.c, where the worker's are too; blk_uring.c: writes that need no worker, and what
	 * needs one where the kernel cannot make it. */
	CALL(DISK_URING | DISK_SYNC, preadv2),
	CALL(DISK_URING | DISK_SYNC, pwritev2),
	CALL(DISK_URING | DISK_SYNC, fdatasync),
	CALL(DISK_URING | DISK_SYNC, fallocate),
	IOCTL(DISK_URING | DISK_SYNC, BLKDISCARD),
	IOCTL(DISK_SYNC, BLKSECDISCARD),

	/* Console and entropy devices. */
	CALL(CONTROL, getrandom),
	IOCTL(CONTROL, TIOCGWINSZ),

	/* control.c; a disk grows (blk_image.c), the console has another file (tty.c). */
	CALL_IF(SOCKET, accept4, INT_IS(3, SOCK_NONBLOCK | SOCK_CLOEXEC)),
	CALL(SOCKET, recvmsg),
	CALL_IF(SOCKET, dup3, INT_IS(2, O_CLOEXEC)),
	CALL(SOCKET, ftruncate),
	IOCTL(SOCKET, BLKGETSIZE64),

	/* Teardown and the result, on the main thread. */
	CALL(CONTROL, close),
	CALL_IF(CONTROL, fcntl, INT_IS(1, F_OFD_SETLK)), /* filelock.c: lets go of images */
	CALL(CONTROL, fstat),				 /* stdio looks at what it writes to */
	CALL(CONTROL, newfstatat),
	CALL(CONTROL, lseek),
};

__attribute__((noreturn)) static void die(const char *what, int r)
{
	fprintf(stderr, "seccomp-gen: %s: %s\n", what, strerror(-r));
	exit(1);
}

static scmp_filter_ctx make_filter(unsigned role)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	int r;

	if (!ctx)
		die("seccomp_init", -ENOMEM);
	/* System calls of another architecture (int 0x80) are not even worth a message. */
	r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	/* A binary tree: the kernel runs the filter once for each system call there is when it is
	 * installed, to know those that are always allowed. */
	if (!r)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r)
		die("seccomp_attr_set", r);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const struct row *row = &table[i];

		if (!(row->roles & 1u << role))
			continue;
		r = seccomp_rule_add_exact_array(ctx, SCMP_ACT_ALLOW, row->call, row->num_args,
						 row->arg);
		if (r)
			die(row->name, r);
	}
	return ctx;
}

/* The role's program; each has one place where sandbox.c writes the process ID. */
static size_t export_filter(unsigned role, struct sock_filter *ret, size_t max)
{
	scmp_filter_ctx ctx = make_filter(role);
	int fd = memfd_create("filter", MFD_CLOEXEC), r;
	unsigned own_pid = 0;
	ssize_t size;
	size_t n;

	if (fd < 0)
		die("memfd_create", -errno);
	r = seccomp_export_bpf(ctx, fd);
	if (r)
		die("seccomp_export_bpf", r);
	size = pread(fd, ret, max * sizeof(*ret), 0);
	if (size <= 0 || (size_t)size == max * sizeof(*ret))
		die("a filter is too long", -E2BIG);
	close(fd);
	seccomp_release(ctx);
	n = (size_t)size / sizeof(*ret);
	for (size_t i = 0; i < n; i++)
		own_pid += ret[i].k == SANDBOX_OWN_PID;
	if (own_pid != 1)
		die("SANDBOX_OWN_PID is not in one place", -EINVAL);
	return n;
}

static void print_filters(void)
{
	size_t start[SANDBOX_ROLES + 1] = {0};

	printf("const struct sock_filter sandbox_filters[] = {\n");
	for (unsigned role = 0; role < SANDBOX_ROLES; role++) {
		struct sock_filter insn[SANDBOX_FILTER_MAX + 1];
		size_t n = export_filter(role, insn, ARRAY_SIZE(insn));

		for (size_t i = 0; i < n; i++)
			printf("\t{0x%02x, %u, %u, 0x%08x},\n", insn[i].code, insn[i].jt,
			       insn[i].jf, insn[i].k);
		start[role + 1] = start[role] + n;
	}
	printf("};\nconst unsigned short sandbox_filter_start[SANDBOX_ROLES + 1] = {");
	for (unsigned role = 0; role <= SANDBOX_ROLES; role++)
		printf("%zu, ", start[role]);
	printf("};\n");
}

/* One string, a name after the other: pointers to them would have to be relocated at each start. */
static void print_names(void)
{
	int calls = SANDBOX_MAX_CALLS;

	printf("const char sandbox_call_names[] =\n");
	for (int i = 0; i < calls; i++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);

		printf("\t\"%s\\0\"\n", name ? name : "");
		free(name);
	}
	printf("\t;\n");
}

int main(void)
{
	printf("// Generated by sandbox/generator.c: do not edit.\n#include "
	       "\"sandbox/filters.h\"\n");
	print_filters();
	print_names();
	return fflush(stdout) || ferror(stdout);
}
