// SPDX-License-Identifier: BSD-2-Clause
/*
 * Runs a command and measures it, for tools/bench.
 *
 * DOC: Theory of operation. `whole` measures from before execve() until the command has been
 * reaped. `first-run` measures until a thread of the command calls ioctl(KVM_RUN), and kills the
 * command there. The call is caught by a seccomp filter that notifies us of it and lets everything
 * else pass, so the command runs at full speed: no ptrace, no stop at each new thread. Its
 * processor time is read while it is held in the call.
 * `count` runs the command to its end and lets each such call go on: their number is that of the
 * entries from userspace, so the same for every monitor, whatever its own counters call an exit.
 * Each costs a detour, so what this run takes is not the command's time.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What the child tells its parent before it becomes the command. */
struct shared {
	uint64_t start_ns, start_cpu_ns, start_real_ns;
	int listener; /* its descriptor's number in the child; -1: no filter */
	int error;
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "launch: %s: %s\n", what, strerror(errno));
	exit(125);
}

/* Notifies of ioctl(fd, KVM_RUN, ...), allows all else; the listener's descriptor, or -1. */
static int catch_kvm_run(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_ioctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_RUN, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return (int)syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			    &program);
}

static void child(struct shared *shared, const int go[2], bool catch, const char *output,
		  char **argv)
{
	int null = open("/dev/null", O_RDONLY);
	int out = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	char c;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (null < 0 || out < 0) {
		shared->error = errno;
		_exit(125);
	}
	dup2(null, 0);
	dup2(out, 1);
	dup2(out, 2);
	if (catch) {
		shared->listener = catch_kvm_run();
		if (shared->listener < 0)
			shared->error = errno;
		else
			fcntl(shared->listener, F_SETFD, FD_CLOEXEC);
	}
	if (write(go[1], "x", 1) != 1 || read(go[1], &c, 1) != 1)
		_exit(125);
	shared->start_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	shared->start_real_ns = clock_ns(CLOCK_REALTIME);
	shared->start_ns = clock_ns(CLOCK_MONOTONIC);
	execv(argv[0], argv);
	shared->error = errno;
	_exit(125);
}

#define LATE 124 /* exit status when the time ran out */

/* Until the command calls KVM_RUN: wall and processor time. 0, or why not: LATE, or 1 if it ended.
 */
static int await_first_run(pid_t pid, int listener, int timeout_ms, const struct shared *shared)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	struct seccomp_notif n = {0};
	clockid_t cpu;
	uint64_t now, used = 0;

	if (poll(&p, 1, timeout_ms) != 1)
		return LATE;
	if (!(p.revents & POLLIN))
		return 1;
	now = clock_ns(CLOCK_MONOTONIC);
	if (clock_getcpuclockid(pid, &cpu) == 0)
		used = clock_ns(cpu);
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n) < 0)
		return 1;
	printf("wall_ns=%llu cpu_ns=%llu\n", (unsigned long long)(now - shared->start_ns),
	       (unsigned long long)(used - shared->start_cpu_ns));
	return 0;
}

/* Lets every KVM_RUN pass, until nobody is left who could make one: how many there were. */
static unsigned long long pass_runs(int listener)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	unsigned long long runs = 0;

	for (;;) {
		struct seccomp_notif n = {0};
		struct seccomp_notif_resp go = {.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};

		if (poll(&p, 1, -1) < 0 && errno == EINTR)
			continue;
		if (!(p.revents & POLLIN))
			return runs;
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n) < 0)
			continue; /* the caller was killed meanwhile */
		runs++;
		go.id = n.id;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &go);
	}
}

static pid_t command;
static volatile sig_atomic_t late;

static void on_alarm(int sig)
{
	(void)sig;
	late = 1;
	kill(-command, SIGKILL);
}

static int await_end(pid_t pid, int listener, int timeout_ms, const struct shared *shared)
{
	struct rusage usage;
	unsigned long long runs = 0;
	uint64_t now;
	int status;

	command = pid;
	signal(SIGALRM, on_alarm);
	alarm((unsigned)(timeout_ms / 1000));
	if (listener >= 0)
		runs = pass_runs(listener);
	if (wait4(pid, &status, 0, &usage) < 0)
		die("wait4");
	now = clock_ns(CLOCK_MONOTONIC);
	alarm(0);
	printf("wall_ns=%llu cpu_ns=%llu maxrss_kib=%ld status=%d runs=%llu real_ns=%llu\n",
	       (unsigned long long)(now - shared->start_ns),
	       (unsigned long long)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000u +
		       (unsigned long long)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) *
			       1000u,
	       usage.ru_maxrss, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
	       runs, (unsigned long long)shared->start_real_ns);
	return late ? LATE : 0;
}

int main(int argc, char **argv)
{
	struct shared *shared;
	bool first_run, catch;
	int go[2], listener = -1, timeout_ms, pidfd, status;
	pid_t pid;
	char c;

	if (argc < 5 || (strcmp(argv[1], "first-run") != 0 && strcmp(argv[1], "count") != 0 &&
			 strcmp(argv[1], "whole") != 0)) {
		fprintf(stderr,
			"usage: launch first-run|whole|count SECONDS OUTPUT-FILE COMMAND...\n"
			"Prints wall_ns and cpu_ns; COMMAND is a path. Exit status 124: out of "
			"time.\n");
		return 2;
	}
	first_run = !strcmp(argv[1], "first-run");
	catch = first_run || !strcmp(argv[1], "count");
	timeout_ms = atoi(argv[2]) * 1000;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, go) < 0)
		die("set-up");
	*shared = (struct shared){.listener = -1};
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid)
		child(shared, go, catch, argv[3], argv + 4);
	if (read(go[0], &c, 1) != 1)
		die("the child");
	if (catch && shared->listener >= 0) {
		pidfd = (int)syscall(__NR_pidfd_open, pid, 0);
		listener = (int)syscall(__NR_pidfd_getfd, pidfd, shared->listener, 0);
		if (listener < 0)
			die("pidfd_getfd");
	}
	if (write(go[0], "x", 1) != 1)
		die("the child");
	if (first_run) {
		status = listener < 0 ? 1 : await_first_run(pid, listener, timeout_ms, shared);
		kill(-pid, SIGKILL);
		waitpid(pid, NULL, 0);
	} else {
		status = await_end(pid, listener, timeout_ms, shared);
	}
	if (shared->error) {
		errno = shared->error;
		die(argv[4]);
	}
	return status;
}
