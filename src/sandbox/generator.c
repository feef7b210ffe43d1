// SPDX-License-Identifier: BSD-2-Clause
/*
 * Writes the sandbox's seccomp filters as C, when skep is built: seccomp-gen > OUTPUT. With --table
 * it prints what each role may, but what all may: a line "ROLE CALL" each.
 *
 * DOC: Theory of operation. The table below, and those of the device types (sandbox/rows.h), say
 * which thread role may make which system call, with which arguments, and why. libseccomp turns each
 * role's rows into a BPF program; these are printed as arrays, so that skep itself needs neither
 * libseccomp nor the time that it takes. A call that is not in a table raises SIGSYS, whose handler
 * (sandbox.c) names it; the names are printed, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "base/util.h"
#include "filters.h"
#include "sandbox/rows.h"

#define DEVICE(name) extern const struct sandbox_rows name##_sandbox;
#include "vm/devices.def"
#undef DEVICE

#define ALL UINT32_MAX

static const struct sandbox_row table[] = {
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

	/* The terminal is put right in a signal handler on any thread. */
	IOCTL(ALL, TCGETS),
	IOCTL(ALL, TIOCGPGRP),
	IOCTL(ALL, TCSETS),
	IOCTL(ALL, TCSETSW),
	IOCTL(ALL, TCSETSF),

	CALL(GUARD, rt_sigtimedwait), /* guard.c; else it writes the result */
	CALL(GUARD_NAMED, unlinkat),  /* place.c: Landlock says where */

	/* vcpu.c */
	IOCTL(VCPU, KVM_RUN),
	IOCTL(VCPU, KVM_GET_MP_STATE),	  /* halt.c: is it halted for good? */
	IOCTL(VCPU, KVM_GET_LAPIC),	  /* the guest resets: did it panic? */
	IOCTL(VCPU, KVM_KVMCLOCK_CTRL),	  /* pause.c: the guest is told that it was paused */
	IOCTL(VCPU, KVM_GET_REGS),	  /* where a guest was when KVM gave up on it */
	IOCTL(VCPU, KVM_SET_GSI_ROUTING), /* the guest changed an I/O APIC entry */

	CALL(CONTROL | GUARD, mincore), /* klog/: which of the guest's pages are there */

	EPOLL_LOOP(CONTROL), /* stdin and the signalfd are read, too */

	/* Whoever connects to a socket that listens, as control/socket.c has one. */
	CALL_IF(CONTROL, accept4, INT_IS(3, SOCK_NONBLOCK | SOCK_CLOEXEC)),
	CALL(CONTROL_SOCKET, recvmsg),
	CALL_IF2(CONTROL_SOCKET, getsockopt, INT_IS(1, SOL_SOCKET), INT_IS(2, SO_PEERCRED)),

	/* Teardown and the result, on the main thread. */
	CALL(CONTROL, close),
	CALL(CONTROL, fstat), /* stdio looks at what it writes to */
	CALL(CONTROL, newfstatat),
	CALL(CONTROL, lseek),
};

static const struct sandbox_rows vm_rows = {.rows = table, .num = ARRAY_SIZE(table)};

/* Whose rows there are. */
static const struct sandbox_rows *const rooms[] = {
	&vm_rows,
#define DEVICE(name) &name##_sandbox,
#include "vm/devices.def"
#undef DEVICE
};

/* A role: `bit` in the rows of its room, and where it is one that every VM has in all others. */
struct role {
	const char *name;
	const struct sandbox_rows *room;
	unsigned bit;
};

#define MAX_ROLES 32u
static struct role roles[MAX_ROLES] = {
	{"control", &vm_rows, CONTROL & ~CONTROL_SOCKET},
	{"control-socket", &vm_rows, CONTROL_SOCKET},
	{"vcpu", &vm_rows, VCPU},
	{"guard", &vm_rows, GUARD & ~GUARD_NAMED},
	{"guard-named", &vm_rows, GUARD_NAMED},
};
static unsigned num_roles = 5;

static void add_roles(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(rooms); i++)
		for (unsigned n = 0; n < SANDBOX_MAX_OWN && rooms[i]->roles[n]; n++)
			roles[num_roles++] = (struct role){rooms[i]->roles[n], rooms[i], OWN(n)};
}

static bool has_row(const struct role *role, const struct sandbox_rows *room,
		    const struct sandbox_row *row)
{
	if (row->roles == ALL)
		return true;
	return row->roles & role->bit && (role->room == room || role->room == &vm_rows);
}

__attribute__((noreturn)) static void die(const char *what, int r)
{
	fprintf(stderr, "seccomp-gen: %s: %s\n", what, strerror(-r));
	exit(1);
}

static void add_rows(scmp_filter_ctx ctx, const struct role *role, const struct sandbox_rows *room)
{
	for (size_t i = 0; i < room->num; i++) {
		const struct sandbox_row *row = &room->rows[i];
		int r;

		if (!has_row(role, room, row))
			continue;
		r = seccomp_rule_add_exact_array(ctx, SCMP_ACT_ALLOW, row->call, row->num_args,
						 row->arg);
		if (r)
			die(row->name, r);
	}
}

static scmp_filter_ctx make_filter(const struct role *role)
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
	for (size_t i = 0; i < ARRAY_SIZE(rooms); i++)
		add_rows(ctx, role, rooms[i]);
	return ctx;
}

/* The role's program; each has one place where sandbox.c writes the process ID. */
static size_t export_filter(const struct role *role, struct sock_filter *ret, size_t max)
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
	size_t num[MAX_ROLES], start = 0;

	printf("const struct sock_filter sandbox_filters[] = {\n");
	for (unsigned i = 0; i < num_roles; i++) {
		struct sock_filter insn[SANDBOX_FILTER_MAX + 1];

		num[i] = export_filter(&roles[i], insn, ARRAY_SIZE(insn));
		for (size_t n = 0; n < num[i]; n++)
			printf("\t{0x%02x, %u, %u, 0x%08x},\n", insn[n].code, insn[n].jt,
			       insn[n].jf, insn[n].k);
	}
	printf("};\nconst struct sandbox_role sandbox_roles[] = {\n");
	for (unsigned i = 0; i < num_roles; start += num[i++])
		printf("\t{\"%s\", %zu, %zu},\n", roles[i].name, start, num[i]);
	printf("};\nconst unsigned sandbox_num_roles = %u;\n", num_roles);
}

static void print_table(void)
{
	for (unsigned i = 0; i < num_roles; i++)
		for (size_t n = 0; n < ARRAY_SIZE(rooms); n++)
			for (size_t row = 0; row < rooms[n]->num; row++)
				if (rooms[n]->rows[row].roles != ALL &&
				    has_row(&roles[i], rooms[n], &rooms[n]->rows[row]))
					printf("%s %s\n", roles[i].name, rooms[n]->rows[row].name);
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

int main(int argc, char **argv)
{
	add_roles();
	if (argc > 1 && strcmp(argv[1], "--table") == 0) {
		print_table();
	} else {
		printf("// Generated by sandbox/generator.c: do not edit.\n#include "
		       "\"sandbox/filters.h\"\n");
		print_filters();
		print_names();
	}
	return fflush(stdout) || ferror(stdout);
}
