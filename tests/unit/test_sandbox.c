// SPDX-License-Identifier: BSD-2-Clause
/* Each check runs in a child of its own, since there is no way out of a sandbox. */
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

enum role { CONTROL, CONTROL_SOCKET, VCPU, GUARD, DISK_URING, DISK_SYNC, WRITER, ROLES };
static const char *const role_name[ROLES] = {
	[CONTROL] = "control", [CONTROL_SOCKET] = "control-socket", [VCPU] = "vcpu",
	[GUARD] = "guard",     [DISK_URING] = "disk-uring",	    [DISK_SYNC] = "disk-sync",
	[WRITER] = "writer",
};

static bool is_sanitized(void)
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
static int run_child(int (*fn)(void *arg), void *arg, char *err, size_t size)
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
static int enter(enum role role)
{
	struct error e = {""};

	prctl(PR_SET_NAME, role_name[role]);
	if (sandbox_process(tty_restore, &e) || sandbox_thread(role_name[role], &e)) {
		dprintf(STDERR_FILENO, "%s\n", e.msg);
		return 99;
	}
	return 0;
}

/* A system call with what it must do. */
struct call {
	const char *name;
	long number;
	long arg[6];
};
#define SYS(name_, ...)                                                                            \
	{                                                                                          \
		.name = #name_, .number = SYS_##name_, .arg = {__VA_ARGS__},                       \
	}

static long do_call(const struct call *c)
{
	return syscall(c->number, c->arg[0], c->arg[1], c->arg[2], c->arg[3], c->arg[4], c->arg[5]);
}

/* What no thread of a running VM may do. */
static const struct call forbidden[] = {
	SYS(open),
	SYS(openat),
	SYS(openat2),
	SYS(creat),
	SYS(open_by_handle_at),
	SYS(name_to_handle_at),
	SYS(readlink),
	SYS(getdents64),
	SYS(stat),
	SYS(access),
	SYS(unlink),
	SYS(unlinkat),
	SYS(rename),
	SYS(renameat2),
	SYS(link),
	SYS(linkat),
	SYS(symlink),
	SYS(mkdir),
	SYS(rmdir),
	SYS(mknod),
	SYS(chmod),
	SYS(fchmod),
	SYS(chown),
	SYS(fchown),
	SYS(truncate),
	SYS(setxattr),
	SYS(fsetxattr),
	SYS(utimensat),
	SYS(execve),
	SYS(execveat),
	SYS(clone),
	SYS(clone3),
	SYS(fork),
	SYS(vfork),
	SYS(socket),
	SYS(socketpair),
	SYS(connect),
	SYS(bind),
	SYS(listen),
	SYS(accept),
	SYS(sendto),
	SYS(sendmsg),
	SYS(sendmmsg),
	SYS(recvfrom),
	SYS(ptrace),
	SYS(process_vm_readv),
	SYS(process_vm_writev),
	SYS(kcmp),
	SYS(pidfd_open),
	SYS(pidfd_getfd),
	SYS(pidfd_send_signal),
	SYS(process_madvise),
	SYS(kill),
	SYS(tkill),
	SYS(rt_sigqueueinfo),
	SYS(rt_tgsigqueueinfo),
	SYS(rt_sigaction),
	SYS(sigaltstack),
	SYS(io_uring_setup),
	SYS(io_uring_register),
	SYS(io_uring_register, -1, IORING_REGISTER_FILES),
	SYS(io_uring_register, -1, IORING_REGISTER_FILES_UPDATE),
	SYS(io_setup),
	SYS(io_submit),
	SYS(mprotect),
	SYS(pkey_mprotect),
	SYS(remap_file_pages),
	SYS(memfd_create),
	SYS(memfd_secret),
	SYS(shmget),
	SYS(shmat),
	SYS(userfaultfd),
	SYS(mlock),
	SYS(mlockall),
	SYS(seccomp),
	SYS(prctl),
	SYS(arch_prctl),
	SYS(personality),
	SYS(bpf),
	SYS(perf_event_open),
	SYS(capset),
	SYS(setuid),
	SYS(setgid),
	SYS(setresuid),
	SYS(setgroups),
	SYS(setrlimit),
	SYS(prlimit64),
	SYS(setpriority),
	SYS(sched_setaffinity),
	SYS(sched_setscheduler),
	SYS(unshare),
	SYS(setns),
	SYS(mount),
	SYS(umount2),
	SYS(chroot),
	SYS(pivot_root),
	SYS(fsopen),
	SYS(move_mount),
	SYS(open_tree),
	SYS(swapon),
	SYS(acct),
	SYS(quotactl),
	SYS(keyctl),
	SYS(add_key),
	SYS(request_key),
	SYS(init_module),
	SYS(finit_module),
	SYS(delete_module),
	SYS(kexec_load),
	SYS(kexec_file_load),
	SYS(reboot),
	SYS(iopl),
	SYS(ioperm),
	SYS(modify_ldt),
	SYS(syslog),
	SYS(settimeofday),
	SYS(clock_settime),
	SYS(adjtimex),
	SYS(sethostname),
	SYS(fanotify_init),
	SYS(inotify_init1),
	SYS(landlock_create_ruleset),
	SYS(dup),
	SYS(dup2),
	SYS(dup3),
	SYS(fcntl),
	SYS(sendfile),
	SYS(splice),
	SYS(tee),
	SYS(copy_file_range),
	SYS(eventfd2),
	SYS(epoll_create1),
	SYS(timerfd_create),
	SYS(signalfd4),
	SYS(setsid),
	SYS(setpgid),
	/* What is allowed, with arguments that are not. */
	SYS(mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	SYS(mmap, 0, 4096, PROT_READ, MAP_SHARED, 0, 0),
	SYS(madvise, 0, 0, MADV_HUGEPAGE),
	SYS(tgkill, 1, 1, 0),
	SYS(accept4, -1, 0, 0, 0),
	SYS(ioctl, 0, TIOCSTI),
	SYS(ioctl, 0, KVM_CREATE_VM),
	SYS(ioctl, 0, KVM_SET_USER_MEMORY_REGION),
	SYS(ioctl, 0, KVM_IOEVENTFD),
	SYS(ioctl, 0, KVM_ENABLE_CAP),
	SYS(ioctl, 0, FS_IOC_SETFLAGS),
	SYS(ioctl, 0, FICLONE),
};

/* What one role may do and the others may not. `err` is what comes back: the descriptors are bad.
 */
static const struct {
	unsigned roles;
	struct call call;
	int err;
} of_roles[] = {
#define ONLY(role) (1u << role)
#define MAIN	   (ONLY(CONTROL) | ONLY(CONTROL_SOCKET))
	{ONLY(CONTROL_SOCKET), SYS(accept4, -1, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC), EBADF},
	{ONLY(CONTROL_SOCKET), SYS(ftruncate, -1), EBADF},
	{ONLY(CONTROL_SOCKET), SYS(recvmsg, -1), EBADF},
	{ONLY(CONTROL_SOCKET), SYS(dup3, -1, 0, O_CLOEXEC), EBADF},
	{ONLY(CONTROL_SOCKET) | ONLY(DISK_SYNC) | ONLY(DISK_URING), SYS(ioctl, -1, BLKGETSIZE64),
	 EBADF},
	{ONLY(GUARD), SYS(rt_sigtimedwait, 0, 0, 0, 0), EINVAL},
	{ONLY(VCPU), SYS(ioctl, -1, KVM_RUN), EBADF},
	{ONLY(VCPU), SYS(ioctl, -1, KVM_SET_GSI_ROUTING), EBADF},
	{ONLY(DISK_SYNC) | ONLY(DISK_URING), SYS(preadv2, -1), EBADF},
	{ONLY(DISK_SYNC) | ONLY(DISK_URING), SYS(pwritev2, -1), EBADF},
	{ONLY(DISK_SYNC) | ONLY(DISK_URING), SYS(fdatasync, -1), EBADF},
	{ONLY(DISK_SYNC) | ONLY(DISK_URING), SYS(fallocate, -1), EBADF},
	{ONLY(DISK_SYNC) | ONLY(DISK_URING), SYS(ioctl, -1, BLKDISCARD), EBADF},
	{ONLY(DISK_SYNC), SYS(ioctl, -1, BLKSECDISCARD), EBADF},
	{ONLY(DISK_URING), SYS(io_uring_enter, -1), EBADF},
	{ONLY(DISK_URING), SYS(io_uring_register, 1 << 20, IORING_UNREGISTER_FILES), EBADF},
	{ONLY(DISK_URING), SYS(io_uring_register, 1 << 20, IORING_UNREGISTER_BUFFERS), EBADF},
	{MAIN | ONLY(DISK_SYNC) | ONLY(DISK_URING), SYS(fstat, -1), EBADF},
	{MAIN, SYS(getrandom, 0, 0, 0), 0},
	{MAIN, SYS(ioctl, -1, TIOCGWINSZ), EBADF},
	{MAIN, SYS(close, -1), EBADF},
	{MAIN, SYS(fcntl, -1, F_OFD_SETLK), EBADF},
	{MAIN | ONLY(DISK_SYNC), SYS(epoll_wait, -1), EBADF},
	{MAIN | ONLY(DISK_SYNC) | ONLY(DISK_URING), SYS(read, -1), EBADF},
	{MAIN | ONLY(DISK_SYNC) | ONLY(DISK_URING), SYS(timerfd_settime, -1), EFAULT},
};

struct attempt {
	enum role role;
	const struct call *call;
	int err;
};

static int attempt(void *arg)
{
	const struct attempt *a = arg;
	int r = enter(a->role);

	if (r)
		return r;
	errno = 0;
	do_call(a->call);
	return errno == a->err ? 0 : 1;
}

static void expect_violation(enum role role, const struct call *call)
{
	struct attempt a = {.role = role, .call = call};
	char err[1024], want[256], request[64] = "";
	int status;

	if (call->number == SYS_ioctl)
		snprintf(request, sizeof(request), ", request 0x%x", (unsigned)call->arg[1]);
	snprintf(want, sizeof(want),
		 "skep: the sandbox stopped thread \"%s\": system call %s (%ld%s) is not allowed; "
		 "this is a bug in skep: please report it, and run with --sandbox=off meanwhile\n",
		 role_name[role], call->name, call->number, request);
	status = run_child(attempt, &a, err, sizeof(err));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_VIOLATION || strcmp(err, want) != 0)
		fail_msg("%s, %s: status 0x%x, said: %s", role_name[role], call->name,
			 (unsigned)status, err);
}

static int send_sigsys(void *arg)
{
	struct error e;

	(void)arg;
	if (sandbox_process(tty_restore, &e))
		return 1;
	kill(getpid(), SIGSYS);
	return 2;
}

static void test_sigsys_from_outside_is_no_bug(void **state)
{
	char err[1024];
	int status;

	(void)state;
	if (is_sanitized())
		skip();
	status = run_child(send_sigsys, NULL, err, sizeof(err));
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 128 + SIGSYS);
	assert_null(strstr(err, "bug"));
	assert_non_null(strstr(err, "SIGSYS, sent by process"));
}

static void test_forbidden_calls_end_the_process(void **state)
{
	(void)state;
	for (unsigned role = 0; role < ROLES; role++)
		for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++)
			expect_violation(role, &forbidden[i]);
}

static void test_each_role_has_its_own_calls(void **state)
{
	char err[1024];

	(void)state;
	for (unsigned role = 0; role < ROLES; role++) {
		for (size_t i = 0; i < ARRAY_SIZE(of_roles); i++) {
			struct attempt a = {role, &of_roles[i].call, of_roles[i].err};

			if (!(of_roles[i].roles & 1u << role)) {
				expect_violation(role, a.call);
				continue;
			}
			if (run_child(attempt, &a, err, sizeof(err)) != 0)
				fail_msg("%s may not %s: %s", role_name[role], a.call->name, err);
		}
	}
}

static int call_foreign_abi(void *arg)
{
	int r = enter(CONTROL);
	long ret;

	if (r)
		return r;
	if (arg) /* x32: write(2) by its other number */
		return (int)syscall(0x40000000 | SYS_write, STDERR_FILENO, "x", 1);
	/* i386: getpid() */
	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(20L) : "memory");
	return (int)ret;
}

static void test_other_abis_kill(void **state)
{
	char err[1024];
	int status;

	(void)state;
	status = run_child(call_foreign_abi, &err, err, sizeof(err));
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
	status = run_child(call_foreign_abi, NULL, err, sizeof(err));
	assert_true(WIFSIGNALED(status)); /* SIGSEGV where the kernel has no such gate */
	assert_true(WTERMSIG(status) == SIGSYS || WTERMSIG(status) == SIGSEGV);
}

static uint64_t status_field(const char *text, const char *name, int base)
{
	const char *line = strstr(text, name);

	return line ? strtoull(line + strlen(name), NULL, base) : UINT64_MAX;
}

static int look_at_privileges(void *arg)
{
	static const char *const sets[] = {"CapInh:", "CapPrm:", "CapEff:", "CapAmb:"};
	struct error e = {""};
	char text[8192];
	ssize_t n;
	int fd;

	(void)arg;
	fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	if (sandbox_process(tty_restore, &e))
		return 1;
	n = read_full(fd, text, sizeof(text) - 1);
	text[MAX(n, 0)] = 0;
	if (status_field(text, "NoNewPrivs:", 10) != 1)
		return 2;
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		if (status_field(text, sets[i], 16) != 0)
			return 10 + (int)i;
	if (prctl(PR_GET_DUMPABLE) != 0)
		return 3;
	return 0;
}

static void test_process_has_no_privileges(void **state)
{
	char err[1024];

	(void)state;
	assert_int_equal(run_child(look_at_privileges, NULL, err, sizeof(err)), 0);
}

/* As root, an exec would give all of the bounding set, were it not for no-new-privs. */
static int exec_for_privileges(void *arg)
{
	(void)arg;
	if (sandbox_process(NULL, NULL))
		return 1;
	execlp("grep", "grep", "-q", "CapEff:[[:space:]]*0000000000000000$", "/proc/self/status",
	       NULL);
	return 2;
}

static void test_exec_gives_no_privileges_back(void **state)
{
	char err[1024];

	(void)state;
	assert_int_equal(run_child(exec_for_privileges, NULL, err, sizeof(err)), 0);
}

/* What the C library does on any thread. */
static int use_library(enum role role)
{
	char *p = malloc(100);
	struct pollfd pfd = {.fd = STDERR_FILENO, .events = POLLOUT};
	uint64_t one = 1;

	if (!p)
		return 1;
	for (size_t size = 1000; size < 64 * MIB; size *= 2) {
		p = realloc(p, size);
		if (!p)
			return 2;
		memset(p, 1, size);
	}
	free(p);
	for (unsigned i = 0; i < 100; i++)
		free(malloc(i * 4096));
	if (poll(&pfd, 1, 0) < 0 || write(-1, &one, 8) != -1 || now_ns() == 0)
		return 3;
	if (pthread_kill(pthread_self(), 0) != 0 ||
	    tcsetattr(-1, TCSANOW, &(struct termios){0}) == 0)
		return 4;
	(void)role;
	return 0;
}

static int use_library_in(void *arg)
{
	enum role role = *(enum role *)arg;
	int r = enter(role);

	return r ? r : use_library(role);
}

static void test_library_works_in_each_role(void **state)
{
	char err[1024];

	(void)state;
	for (enum role role = 0; role < ROLES; role++) {
		int status = run_child(use_library_in, &role, err, sizeof(err));

		if (status)
			fail_msg("%s: status 0x%x: %s", role_name[role], (unsigned)status, err);
	}
}

struct team {
	pthread_barrier_t barrier;
	_Atomic unsigned failures, signals;
};

static struct team team;

static void on_signal(int sig)
{
	(void)sig;
	team.signals++;
}

static void *member(void *arg)
{
	struct error e = {""};

	team.failures += sandbox_thread(role_name[(uintptr_t)arg], &e) != 0;
	pthread_barrier_wait(&team.barrier);
	pthread_barrier_wait(&team.barrier); /* all are in, and were signalled */
	team.failures += use_library((enum role)(uintptr_t)arg) != 0;
	return NULL;
}

/* Threads start before their filters, are signalled, end and are joined, as in a VM. */
static int run_team(void *arg)
{
	pthread_t thread[ROLES];
	struct error e = {""};

	(void)arg;
	mallopt(M_ARENA_MAX, 1); /* as vm_run() does: further arenas would take mprotect(2) */
	signal(SIGRTMIN + 1, on_signal);
	pthread_barrier_init(&team.barrier, NULL, ROLES + 1);
	if (sandbox_process(tty_restore, &e))
		return 1;
	for (uintptr_t role = 0; role < ROLES; role++)
		if (pthread_create(&thread[role], NULL, member, (void *)role))
			return 2;
	pthread_barrier_wait(&team.barrier);
	if (sandbox_thread("control", &e))
		return 3;
	for (unsigned i = 0; i < ROLES; i++)
		pthread_kill(thread[i], SIGRTMIN + 1);
	while (team.signals < ROLES)
		poll(NULL, 0, 1);
	pthread_barrier_wait(&team.barrier);
	for (unsigned i = 0; i < ROLES; i++)
		pthread_join(thread[i], NULL);
	printf("# the result goes to stdout, and exit() flushes it\n");
	fflush(stdout);
	return team.failures ? 4 : 0;
}

static void test_threads_end_in_the_sandbox(void **state)
{
	char err[1024];
	int status;

	(void)state;
	status = run_child(run_team, NULL, err, sizeof(err));
	if (status)
		fail_msg("status 0x%x: %s", (unsigned)status, err);
}

static int abort_in(void *arg)
{
	int r = enter(*(enum role *)arg);

	if (r)
		return r;
	abort();
}

static int free_wrongly_in(void *arg)
{
	void (*volatile release)(void *p) = free;
	char *p = calloc(1, 100); /* what passes for the chunk's size must not say "mapped" */
	int r = enter(*(enum role *)arg);

	if (r)
		return r;
	release(p + 8);
	return 0;
}

/* A crash is told from a violation: the C library says what is wrong and aborts. */
static void test_abort_stays_an_abort(void **state)
{
	char err[1024];

	(void)state;
	for (enum role role = 0; role < ROLES; role++) {
		int status = run_child(abort_in, &role, err, sizeof(err));

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
			fail_msg("%s: status 0x%x: %s", role_name[role], (unsigned)status, err);
		status = run_child(free_wrongly_in, &role, err, sizeof(err));
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || !strstr(err, "free()"))
			fail_msg("%s: status 0x%x: %s", role_name[role], (unsigned)status, err);
	}
}

struct crash {
	enum role role;
	int terminal, sig; /* 0: a system call that is not allowed */
};

static int crash_on_terminal(void *arg)
{
	const struct console_config config = {.mode = CONSOLE_STDIO};
	const struct crash *c = arg;
	struct error e = {""};
	struct termios t;
	struct tty tty;
	int r;

	dup2(c->terminal, STDIN_FILENO);
	r = tty_open(&tty, &config, NULL, &e);
	if (r || tcgetattr(c->terminal, &t) || (t.c_lflag & ICANON))
		return 98;
	r = enter(c->role);
	if (r)
		return r;
	if (c->sig)
		raise(c->sig);
	else
		syscall(SYS_socket, 0, 0, 0);
	return 0;
}

/* Whichever thread it is that crashes or is stopped, the terminal is not left in raw mode. */
static void test_terminal_is_restored(void **state)
{
	static const int sigs[] = {0, SIGSEGV, SIGABRT};
	int pty = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct crash c = {.terminal = -1};
	struct termios before = {0}, after = {0};
	char err[1024];

	(void)state;
	assert_true(pty >= 0);
	assert_int_equal(grantpt(pty) | unlockpt(pty), 0);
	c.terminal = open(ptsname(pty), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(c.terminal >= 0);
	assert_int_equal(tcgetattr(c.terminal, &before), 0);
	for (c.role = 0; c.role < ROLES; c.role++) {
		for (size_t i = 0; i < ARRAY_SIZE(sigs); i++) {
			int status;

			c.sig = sigs[i];
			status = run_child(crash_on_terminal, &c, err, sizeof(err));
			if (c.sig ? !WIFSIGNALED(status) || WTERMSIG(status) != c.sig
				  : !WIFEXITED(status) || WEXITSTATUS(status) != EXIT_VIOLATION)
				fail_msg("%s, signal %d: status 0x%x: %s", role_name[c.role], c.sig,
					 (unsigned)status, err);
			assert_int_equal(tcgetattr(c.terminal, &after), 0);
			assert_memory_equal(&before, &after, sizeof(before));
		}
	}
	close(c.terminal);
	close(pty);
}

/* A loop's thread in its sandbox: a kick, a timer, a read through the ring, and the end. */
struct looper {
	struct loop *loop;
	struct loop_fd kick;
	struct loop_timer timer;
	struct loop_op op;
	int file, slot, result;
	char data[5];
};

static int enter_disk(void *arg)
{
	const struct looper *l = arg;

	return sandbox_thread(loop_is_uring(l->loop) ? "disk-uring" : "disk-sync", NULL);
}

static void read_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct looper *l = container_of(op, struct looper, op);

	(void)cqe_flags;
	l->result = res;
	loop_quit(l->loop);
}

static void timer_fired(struct loop_timer *t)
{
	struct looper *l = container_of(t, struct looper, timer);
	struct io_uring_sqe *sqe;

	if (!loop_is_uring(l->loop)) {
		struct iovec iov = {l->data, sizeof(l->data)};

		read_done(&l->op, (int)preadv2(l->file, &iov, 1, 0, 0), 0);
		return;
	}
	sqe = loop_sqe(l->loop);
	io_uring_prep_read(sqe, l->slot, l->data, sizeof(l->data), 0);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data(sqe, &l->op);
}

static void kicked(struct loop_fd *w, uint32_t events)
{
	struct looper *l = container_of(w, struct looper, kick);

	(void)events;
	loop_drain_eventfd(w);
	loop_pause(w);
	loop_resume(w);
	loop_timer_set(&l->timer, 1000000);
}

static int run_loop_in_sandbox(void *arg)
{
	enum loop_engine engine = *(enum loop_engine *)arg;
	struct looper l = {.op.done = read_done, .file = memfd_create("image", MFD_CLOEXEC)};
	int kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct error e = {""};
	uint64_t one = 1;

	if (loop_new(&l.loop, "disk0", engine, 8, &e))
		return 77; /* no io_uring here */
	if (write(l.file, "hello", 5) != 5 || sandbox_process(tty_restore, &e))
		return 1;
	l.slot = loop_register_file(l.loop, l.file);
	if (loop_watch(l.loop, &l.kick, kick, EPOLLIN, kicked) ||
	    loop_timer_init(l.loop, &l.timer, timer_fired))
		return 2;
	if (loop_start(l.loop, enter_disk, &l, &e)) {
		dprintf(STDERR_FILENO, "%s\n", e.msg);
		return 3;
	}
	if (sandbox_thread("control", &e))
		return 4;
	if (write(kick, &one, sizeof(one)) != sizeof(one))
		return 5;
	while (!l.result)
		poll(NULL, 0, 1);
	loop_stop(l.loop);
	loop_timer_close(&l.timer);
	loop_free(l.loop);
	return l.result == 5 && memcmp(l.data, "hello", 5) == 0 ? 0 : 6;
}

static void run_loop(enum loop_engine engine)
{
	char err[1024];
	int status = run_child(run_loop_in_sandbox, &engine, err, sizeof(err));

	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("# this host denies io_uring\n");
		skip();
	}
	if (status)
		fail_msg("status 0x%x: %s", (unsigned)status, err);
}

static void test_uring_loop_in_the_sandbox(void **state)
{
	(void)state;
	run_loop(LOOP_URING);
}

static void test_epoll_loop_in_the_sandbox(void **state)
{
	(void)state;
	run_loop(LOOP_EPOLL);
}

/* Those of the VM, and of each device type in the table. */
static void test_all_roles_are_tested(void **state)
{
	(void)state;
	assert_int_equal(sandbox_num_roles, ROLES);
	for (unsigned i = 0; i < ROLES; i++) {
		unsigned n = 0;

		while (n < ROLES && strcmp(role_name[n], sandbox_roles[i].name) != 0)
			n++;
		assert_true(n < ROLES);
	}
}

static void test_a_role_that_there_is_not(void **state)
{
	struct error e = {""};

	(void)state;
	assert_int_equal(sandbox_thread("disk", &e), -ENOENT);
	assert_non_null(strstr(e.msg, "no role 'disk'"));
}

static void test_sanitized_build_has_no_filters(void **state)
{
	struct error e = {""};

	(void)state;
	assert_int_equal(sandbox_process(tty_restore, &e), 0);
	assert_int_equal(sandbox_thread("vcpu", &e), 0);
	close(open("/", O_RDONLY | O_CLOEXEC));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_roles_are_tested),
		cmocka_unit_test(test_a_role_that_there_is_not),
		cmocka_unit_test(test_sigsys_from_outside_is_no_bug),
		cmocka_unit_test(test_forbidden_calls_end_the_process),
		cmocka_unit_test(test_each_role_has_its_own_calls),
		cmocka_unit_test(test_other_abis_kill),
		cmocka_unit_test(test_process_has_no_privileges),
		cmocka_unit_test(test_exec_gives_no_privileges_back),
		cmocka_unit_test(test_library_works_in_each_role),
		cmocka_unit_test(test_threads_end_in_the_sandbox),
		cmocka_unit_test(test_abort_stays_an_abort),
		cmocka_unit_test(test_terminal_is_restored),
		cmocka_unit_test(test_uring_loop_in_the_sandbox),
		cmocka_unit_test(test_epoll_loop_in_the_sandbox),
	};
	const struct CMUnitTest sanitized[] = {
		cmocka_unit_test(test_a_role_that_there_is_not),
		cmocka_unit_test(test_sanitized_build_has_no_filters),
	};

	if (is_sanitized())
		return cmocka_run_group_tests(sanitized, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
