// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. The filters are BPF programs in read-only data, generated when skep is
 * built (generator.c, which also has the table of what is allowed); installing one is one system
 * call. A call that is not allowed does not happen: it raises SIGSYS, whose handler names the call
 * and ends the process. The handler only informs the user; the protection is the filter.
 */
#include <assert.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "filters.h"
#include "sandbox/sandbox.h"

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code: which <signal.h> of glibc lacks */
#endif

/* Of this thread, kept for a handler that cannot ask for it. */
static _Thread_local char thread_name[16];

/* What sandbox_drop_files() closes; since sandbox_process(). */
static struct {
	int *fds;
	int n;
} files;

static void (*restore_host)(void);

/* What sandbox_keep_capabilities() was told. */
static struct {
	const char *role;
	uint64_t capabilities;
} privileged;

void sandbox_keep_capabilities(const char *role, uint64_t capabilities)
{
	privileged.role = role;
	privileged.capabilities = capabilities;
}

static const char *call_name(int call)
{
	const char *name = sandbox_call_names;

	if (call < 0 || call >= SANDBOX_MAX_CALLS)
		return "of an unknown name";
	while (call--)
		name += strlen(name) + 1;
	return *name ? name : "of an unknown name";
}

__attribute__((noreturn)) static void leave(const char *line, int status)
{
	(void)!write(STDERR_FILENO, line, strlen(line));
	_exit(status);
}

/* Here snprintf() takes neither memory nor a lock. */
static void on_violation(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	char line[320], request[32] = "";

	if (restore_host)
		restore_host();
	if (info->si_code != SYS_SECCOMP) {
		snprintf(line, sizeof(line),
			 "skep: the VM was ended by SIGSYS, sent by process %d\n",
			 (int)info->si_pid);
		leave(line, 128 + sig);
	}
	if (info->si_syscall == SYS_ioctl)
		snprintf(request, sizeof(request), ", request 0x%x",
			 (unsigned)uc->uc_mcontext.gregs[REG_RSI]);
	snprintf(line, sizeof(line),
		 "skep: the sandbox stopped thread \"%s\": system call %s (%d%s) is not allowed; "
		 "this "
		 "is a bug in skep: please report it, and run with --sandbox=off meanwhile\n",
		 thread_name, call_name(info->si_syscall), info->si_syscall, request);
	leave(line, STATUS_FAILED);
}

/*
 * Clears the inheritable and ambient sets, and all but `keep` of the permitted and effective ones. The
 * bounding set stays: it limits what an exec may gain, which is nothing under no-new-privs, and no
 * filter allows an exec. (Emptying it costs 41 system calls and 50 microseconds.)
 */
static int drop_capabilities(uint64_t keep)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2] = {{0}};

	if (keep && syscall(SYS_capget, &header, caps) < 0)
		return -errno;
	for (unsigned i = 0; i < 2; i++) {
		caps[i].permitted &= (uint32_t)(keep >> 32 * i);
		caps[i].effective = caps[i].permitted;
		caps[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, caps) < 0 ? -errno : 0;
}

/* While /proc can still be read. */
static void list_files(void)
{
	int *fds, n = open_descriptors(&fds), kept = 0;
	struct stat st;

	for (int i = 0; i < n; i++)
		if (fstat(fds[i], &st) == 0 &&
		    (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || S_ISSOCK(st.st_mode)))
			fds[kept++] = fds[i];
	free(files.fds);
	files.fds = fds;
	files.n = kept;
}

int sandbox_process(void (*restore)(void), struct error *e)
{
	struct sigaction sa = {.sa_sigaction = on_violation, .sa_flags = SA_SIGINFO};
	int r;

	if (SANITIZED) {
		log_info("no sandbox: this is a build with a sanitizer, which needs more system "
			 "calls than skep");
		return 0;
	}
	assert(!files.fds);
	list_files();
	restore_host = restore;
	if (sigaction(SIGSYS, &sa, NULL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set(e, -errno, "cannot enter the sandbox: no-new-privs: %m");
	r = drop_capabilities(privileged.capabilities);
	if (r)
		return error_set(e, r, "cannot enter the sandbox: dropping capabilities: %m");
	/* Guest memory is not for other processes of the same user: no ptrace, no core dump. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_set(e, -errno, "cannot enter the sandbox: PR_SET_DUMPABLE: %m");
	return 0;
}

void sandbox_drop_files(void)
{
	/* This closes nothing; it is unshare(2), which containers deny. */
	if (SANITIZED || close_range(~0u, ~0u, CLOSE_RANGE_UNSHARE))
		return;
	for (int i = 0; i < files.n; i++)
		close(files.fds[i]);
}

static const struct sandbox_role *find_role(const char *name)
{
	for (unsigned i = 0; i < sandbox_num_roles; i++)
		if (strcmp(sandbox_roles[i].name, name) == 0)
			return &sandbox_roles[i];
	return NULL;
}

int sandbox_thread(const char *name, struct error *e)
{
	const struct sandbox_role *role = find_role(name);
	struct sock_filter insn[SANDBOX_FILTER_MAX];
	struct sock_fprog program = {.filter = insn};
	uint32_t pid = (uint32_t)getpid();
	int r = 0;

	if (!role)
		return error_set(e, -ENOENT, "cannot enter the sandbox: there is no role '%s'",
				 name);
	if (SANITIZED)
		return 0;
	if (privileged.capabilities && strcmp(name, privileged.role) != 0)
		r = drop_capabilities(0);
	if (r < 0)
		return error_set(e, r, "cannot enter the sandbox: dropping capabilities: %m");
	prctl(PR_GET_NAME, thread_name);
	program.len = role->num;
	memcpy(insn, sandbox_filters + role->start, role->num * sizeof(*insn));
	for (unsigned i = 0; i < role->num; i++) {
		if (insn[i].k == SANDBOX_OWN_PID)
			insn[i].k = pid;
	}
	/* SPEC_ALLOW: kernels before 5.16 would else slow the thread down against Spectre v4,
	 * which newer ones leave to programs that ask for it. */
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW,
		    &program) < 0)
		return error_set(e, -errno,
				 "cannot enter the sandbox: seccomp: %m; where this kernel or "
				 "container has no seccomp filters, run with --sandbox=off");
	return 0;
}
