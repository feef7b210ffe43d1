// SPDX-License-Identifier: BSD-2-Clause
/* Children that enter the sandbox, and what becomes of them. */
#ifndef SKEP_SANDBOX_FIXTURE_H
#define SKEP_SANDBOX_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>

#include <cmocka.h>

#include "base/loop.h"
#include "base/util.h"
#include "console/tty.h"
#include "patience.h"
#include "sandbox/filters.h"
#include "sandbox/sandbox.h"

#define EXIT_VIOLATION 125

enum role {
	CONTROL,
	CONTROL_SOCKET,
	VCPU,
	GUARD,
	GUARD_NAMED,
	DISK_URING,
	DISK_SYNC,
	WRITER,
	NET_TAP,
	NET_STREAM,
	NET_LISTEN,
	NET_CONNECT,
	NET_VHOST,
	VSOCK,
	MEM,
	PORT,
	FS,
	AGENT,
	ROLES
};
static const char *const role_name[ROLES] = {
	[CONTROL] = "control",
	[CONTROL_SOCKET] = "control-socket",
	[VCPU] = "vcpu",
	[GUARD] = "guard",
	[GUARD_NAMED] = "guard-named",
	[DISK_URING] = "disk-uring",
	[DISK_SYNC] = "disk-sync",
	[WRITER] = "writer",
	[NET_TAP] = "net-tap",
	[NET_STREAM] = "net-stream",
	[NET_LISTEN] = "net-listen",
	[NET_CONNECT] = "net-connect",
	[NET_VHOST] = "net-vhost",
	[VSOCK] = "vsock",
	[MEM] = "mem",
	[PORT] = "port",
	[FS] = "fs",
	[AGENT] = "agent",
};

static inline bool is_sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
	return true;
#endif
#endif
	return false;
}

/* cmocka has handlers for these, which a child must not inherit. */
static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS};

/* Runs fn(arg) in a child and collects its stderr; returns the wait status. */
static inline int run_child(int (*fn)(void *arg), void *arg, char *err, size_t size)
{
	size_t len = 0;
	int pipe_fd[2], status;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(pipe_fd[1], STDERR_FILENO);
		alarm((unsigned)patience_ms() / 1000);
		for (size_t i = 0; i < ARRAY_SIZE(crashes); i++)
			signal(crashes[i], SIG_DFL);
		_exit(fn(arg));
	}
	close(pipe_fd[1]);
	while ((n = read(pipe_fd[0], err + len, size - 1 - len)) > 0)
		len += (size_t)n;
	err[len] = 0;
	close(pipe_fd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* In a child: 0 when the thread is in the sandbox, else an exit status that tells. */
static inline int enter(enum role role)
{
	struct error e = {""};

	prctl(PR_SET_NAME, role_name[role]);
	if (sandbox_process(tty_restore, &e) || sandbox_thread(role_name[role], &e)) {
		dprintf(STDERR_FILENO, "%s\n", e.msg);
		return 99;
	}
	return 0;
}

#endif
