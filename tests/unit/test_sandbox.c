// SPDX-License-Identifier: BSD-2-Clause
/* System calls that the sandbox allows, and those that end the process. */
#include "sandbox_fixture.h"

#include <linux/if_tun.h>
#include <linux/vhost.h>

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
	SYS(openat2),
	SYS(creat),
	SYS(open_by_handle_at),
	SYS(name_to_handle_at),
	SYS(readlink),
	SYS(stat),
	SYS(access),
	SYS(unlink),
	SYS(rename),
	SYS(link),
	SYS(symlink),
	SYS(mkdir),
	SYS(rmdir),
	SYS(mknod),
	SYS(fchmod),
	SYS(chown),
	SYS(fchown),
	SYS(truncate),
	SYS(fsetxattr),
	SYS(execve),
	SYS(execveat),
	SYS(clone),
	SYS(clone3),
	SYS(fork),
	SYS(vfork),
	SYS(socketpair),
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
	SYS(setuid),
	SYS(setgid),
	SYS(setresuid),
	SYS(setgroups, 1),
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
	SYS(dup),
	SYS(dup2),
	SYS(dup3),
	SYS(fcntl),
	SYS(sendfile),
	SYS(splice),
	SYS(tee),
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
	SYS(socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
	SYS(socket, AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
	SYS(socket, AF_NETLINK, SOCK_RAW, 0),
	SYS(socket, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
	SYS(ioctl, 0, TIOCSTI),
	SYS(ioctl, 0, VHOST_SET_MEM_TABLE),
	SYS(ioctl, 0, VHOST_SET_OWNER),
	SYS(ioctl, 0, KVM_CREATE_VM),
	SYS(ioctl, 0, KVM_IOEVENTFD),
	SYS(ioctl, 0, KVM_ENABLE_CAP),
	SYS(ioctl, 0, FS_IOC_SETFLAGS),
	SYS(ioctl, 0, FICLONE),
};

/* What one role may do and the others may not. `err` is what comes back: the descriptors are bad. */
#define ANY (-1) /* not every kernel has it */
static const struct {
	unsigned roles;
	struct call call;
	int err;
} of_roles[] = {
#define ONLY(role)  (1u << role)
#define NET	    (ONLY(NET_TAP) | ONLY(NET_VHOST) | NET_STREAMS)
#define NET_STREAMS (ONLY(NET_STREAM) | ONLY(NET_LISTEN) | ONLY(NET_CONNECT))
#define MAIN	    (ONLY(CONTROL) | ONLY(CONTROL_SOCKET))
	{MAIN | ONLY(NET_LISTEN) | ONLY(VSOCK) | ONLY(PORT),
	 SYS(accept4, -1, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC), EBADF},
	{ONLY(CONTROL_SOCKET) | ONLY(WRITER) | ONLY(FS), SYS(ftruncate, -1), EBADF},
	{ONLY(CONTROL_SOCKET), SYS(getsockopt, -1, SOL_SOCKET, SO_PEERCRED), EBADF},
	{ONLY(CONTROL_SOCKET), SYS(recvmsg, -1), EBADF},
	{MAIN, SYS(dup3, -1, 0, O_CLOEXEC), EBADF},
	{ONLY(CONTROL_SOCKET) | ONLY(DISK_SYNC) | ONLY(DISK_URING), SYS(ioctl, -1, BLKGETSIZE64),
	 EBADF},
	{ONLY(GUARD) | ONLY(GUARD_NAMED), SYS(rt_sigtimedwait, 0, 0, 0, 0), EINVAL},
	{ONLY(VCPU), SYS(ioctl, -1, KVM_RUN), EBADF},
	{ONLY(VCPU), SYS(ioctl, -1, KVM_KVMCLOCK_CTRL), EBADF},
	{ONLY(VCPU), SYS(ioctl, -1, KVM_SET_GSI_ROUTING), EBADF},
	{ONLY(MEM), SYS(ioctl, -1, KVM_SET_USER_MEMORY_REGION), EBADF},
	{ONLY(DISK_SYNC) | ONLY(DISK_URING), SYS(preadv2, -1), EBADF},
	{ONLY(DISK_SYNC) | ONLY(DISK_URING), SYS(pwritev2, -1), EBADF},
	{ONLY(DISK_SYNC) | ONLY(DISK_URING) | ONLY(FS), SYS(fdatasync, -1), EBADF},
	{ONLY(DISK_SYNC) | ONLY(DISK_URING) | ONLY(FS), SYS(fallocate, -1), EBADF},
	{ONLY(DISK_SYNC) | ONLY(DISK_URING), SYS(ioctl, -1, BLKDISCARD), EBADF},
	{ONLY(DISK_SYNC), SYS(ioctl, -1, BLKSECDISCARD), EBADF},
	{ONLY(DISK_URING), SYS(io_uring_enter, -1), EBADF},
	{ONLY(DISK_URING), SYS(io_uring_register, 1 << 20, IORING_UNREGISTER_FILES), EBADF},
	{ONLY(DISK_URING), SYS(io_uring_register, 1 << 20, IORING_UNREGISTER_BUFFERS), EBADF},
	{ONLY(WRITER), SYS(pread64, -1), EBADF},
	{MAIN | ONLY(WRITER) | ONLY(FS), SYS(lseek, -1), EBADF},
	{MAIN | ONLY(DISK_SYNC) | ONLY(DISK_URING), SYS(fstat, -1), EBADF},
	{MAIN, SYS(getrandom, 0, 0, 0), 0},
	{MAIN | ONLY(AGENT), SYS(ioctl, -1, TIOCGWINSZ), EBADF},
	{ONLY(AGENT), SYS(recvfrom, -1, 0, 0, MSG_DONTWAIT), EBADF},
	{ONLY(AGENT), SYS(sendto, -1, 0, 0, MSG_DONTWAIT | MSG_NOSIGNAL), EBADF},
	{MAIN | NET_STREAMS | ONLY(VSOCK) | ONLY(PORT) | ONLY(FS) | ONLY(AGENT), SYS(close, -1),
	 EBADF},
	{MAIN | ONLY(FS), SYS(fcntl, -1, F_OFD_SETLK), EBADF},
	{ONLY(VSOCK) | ONLY(NET_CONNECT), SYS(connect, -1), EBADF},
	{ONLY(VSOCK), SYS(shutdown, -1), EBADF},
	{ONLY(VSOCK) | ONLY(NET_CONNECT),
	 SYS(socket, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 1 << 20),
	 EPROTONOSUPPORT},
	{ONLY(NET_TAP) | ONLY(VSOCK) | ONLY(PORT), SYS(readv, -1), EBADF},
	{ONLY(NET_TAP) | ONLY(NET_VHOST), SYS(ioctl, -1, TUNSETOFFLOAD), EBADF},
	{ONLY(NET_TAP) | ONLY(NET_VHOST), SYS(ioctl, -1, TUNSETQUEUE), EBADF},
	{ONLY(NET_VHOST), SYS(ioctl, -1, VHOST_SET_FEATURES), EBADF},
	{ONLY(NET_VHOST), SYS(ioctl, -1, VHOST_SET_VRING_NUM), EBADF},
	{ONLY(NET_VHOST), SYS(ioctl, -1, VHOST_SET_VRING_BASE), EBADF},
	{ONLY(NET_VHOST), SYS(ioctl, -1, VHOST_SET_VRING_ADDR), EBADF},
	{ONLY(NET_VHOST), SYS(ioctl, -1, VHOST_SET_VRING_KICK), EBADF},
	{ONLY(NET_VHOST), SYS(ioctl, -1, VHOST_SET_VRING_CALL), EBADF},
	{ONLY(NET_VHOST), SYS(ioctl, -1, VHOST_SET_VRING_ERR), EBADF},
	{ONLY(NET_VHOST), SYS(ioctl, -1, VHOST_NET_SET_BACKEND), EBADF},
	{ONLY(NET_VHOST), SYS(ioctl, -1, VHOST_GET_VRING_BASE), EBADF},
	{MAIN | ONLY(DISK_SYNC) | NET | ONLY(VSOCK) | ONLY(MEM) | ONLY(PORT) | ONLY(FS) |
		 ONLY(AGENT),
	 SYS(epoll_wait, -1), EBADF},
	{MAIN | ONLY(DISK_SYNC) | ONLY(DISK_URING) | NET | ONLY(VSOCK) | ONLY(MEM) | ONLY(PORT) |
		 ONLY(FS) | ONLY(AGENT),
	 SYS(read, -1), EBADF},
	{MAIN | ONLY(DISK_SYNC) | ONLY(DISK_URING) | NET | ONLY(VSOCK) | ONLY(MEM) | ONLY(PORT) |
		 ONLY(FS) | ONLY(AGENT),
	 SYS(timerfd_settime, -1), EFAULT},
	/* A shared directory's. */
	{ONLY(FS), SYS(openat, -1), EFAULT},
	{ONLY(FS), SYS(fcntl, -1, F_DUPFD_CLOEXEC), EBADF},
	{ONLY(FS), SYS(fcntl, -1, F_OFD_GETLK), EBADF},
	{ONLY(FS), SYS(flock, -1, LOCK_UN), EBADF},
	{ONLY(FS), SYS(preadv, -1), EBADF},
	{ONLY(FS), SYS(pwritev, -1), EBADF},
	{ONLY(FS), SYS(fsync, -1), EBADF},
	{ONLY(FS), SYS(syncfs, -1), EBADF},
	{ONLY(FS), SYS(copy_file_range, -1, 0, -1), EBADF},
	{ONLY(FS), SYS(getdents64, -1), EBADF},
	{ONLY(FS), SYS(readlinkat, -1), EINVAL},
	{ONLY(FS), SYS(symlinkat, 0, -1), EFAULT},
	{ONLY(FS), SYS(mkdirat, -1), EFAULT},
	{ONLY(FS), SYS(mknodat, -1), EFAULT},
	{ONLY(FS), SYS(linkat, -1), EFAULT},
	{ONLY(FS) | ONLY(GUARD_NAMED), SYS(unlinkat, -1), EFAULT},
	{ONLY(FS), SYS(renameat, -1), EFAULT},
	{ONLY(FS), SYS(renameat2, -1), EFAULT},
	{ONLY(FS), SYS(statx, -1), EFAULT},
	{ONLY(FS), SYS(fstatfs, -1), EBADF},
	{ONLY(FS), SYS(chmod, 0), EFAULT},
	{ONLY(FS), SYS(fchownat, -1), EFAULT},
	{ONLY(FS), SYS(utimensat, -1), EBADF},
	{ONLY(FS), SYS(getxattr, 0), EFAULT},
	{ONLY(FS), SYS(setxattr, 0), EFAULT},
	{ONLY(FS), SYS(listxattr, 0), EFAULT},
	{ONLY(FS), SYS(removexattr, 0), EFAULT},
	{ONLY(FS), SYS(setfsuid, -1), 0},
	{ONLY(FS), SYS(setfsgid, -1), 0},
	{ONLY(FS), SYS(geteuid), 0},
	{ONLY(FS), SYS(getegid), 0},
	{ONLY(FS), SYS(capget), EFAULT},
	{ONLY(FS), SYS(capset), EFAULT},
	{ONLY(FS), SYS(setgroups, 0), EPERM},
	{ONLY(FS), SYS(landlock_create_ruleset), ANY},
	{ONLY(FS), SYS(landlock_add_rule, -1), ANY},
	{ONLY(FS), SYS(landlock_restrict_self, -1), ANY},
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
	return errno == a->err || a->err == ANY ? 0 : 1;
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
	};
	const struct CMUnitTest sanitized[] = {
		cmocka_unit_test(test_a_role_that_there_is_not),
		cmocka_unit_test(test_sanitized_build_has_no_filters),
	};

	if (is_sanitized())
		return cmocka_run_group_tests(sanitized, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
