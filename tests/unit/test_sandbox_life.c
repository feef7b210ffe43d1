// SPDX-License-Identifier: BSD-2-Clause
/* Life in the sandbox: privileges, the C library, threads, crashes, event loops. */
#include "sandbox_fixture.h"

#include <linux/capability.h>

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

#define KEPT (1u << CAP_CHOWN | 1u << CAP_SETUID)

/* Whether a thread of the role has these capabilities, and no others. */
static int look_at_kept(const char *role, uint64_t want)
{
	int fd = open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC);
	struct error e = {""};
	char text[8192];
	ssize_t n;

	sandbox_keep_capabilities("fs", KEPT);
	if (sandbox_process(NULL, &e) || sandbox_thread(role, &e))
		return 1;
	n = read_full(fd, text, sizeof(text) - 1);
	text[MAX(n, 0)] = 0;
	return status_field(text, "CapPrm:", 16) == want &&
			       status_field(text, "CapEff:", 16) == want &&
			       status_field(text, "CapInh:", 16) == 0
		       ? 0
		       : 2;
}

static int look_at_a_keeper(void *arg)
{
	(void)arg;
	return look_at_kept("fs", KEPT);
}

static int look_at_another(void *arg)
{
	(void)arg;
	return look_at_kept("control", 0);
}

static void test_one_role_keeps_capabilities(void **state)
{
	char err[1024];

	(void)state;
	if (geteuid()) {
		print_message("# it takes root\n");
		skip();
	}
	assert_int_equal(run_child(look_at_a_keeper, NULL, err, sizeof(err)), 0);
	assert_int_equal(run_child(look_at_another, NULL, err, sizeof(err)), 0);
}

struct confined {
	const char *dir;
	bool writable;
};

static int try_to_leave(void *arg)
{
	const struct confined *c = arg;
	int dir = open(c->dir, O_PATH | O_CLOEXEC), fd;
	struct error e = {""};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (sandbox_confine(&dir, 1, c->writable, &e))
		return 1;
	fd = openat(dir, "file", O_RDWR | O_CREAT, 0600);
	if (c->writable ? fd < 0 : fd >= 0 || errno != EACCES)
		return 2;
	if (c->writable && (mkdirat(dir, "sub", 0700) || renameat(dir, "file", dir, "sub/moved")))
		return 3;
	if (openat(dir, ".", O_RDONLY | O_DIRECTORY) < 0)
		return 4;
	if (open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES)
		return 5;
	if (renameat(dir, "sub/moved", AT_FDCWD, "/tmp/skep-moved") == 0)
		return 6;
	if (open("/tmp/skep-made", O_CREAT | O_WRONLY, 0600) >= 0 || errno != EACCES)
		return 7;
	return 0;
}

static void test_landlock_confines_a_thread(void **state)
{
	char dir[] = "/tmp/skep-confined.XXXXXX", err[1024], command[64];
	struct confined c = {dir, false};

	(void)state;
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1u) < 2) {
		print_message("# no Landlock here, or an old one\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	assert_int_equal(run_child(try_to_leave, &c, err, sizeof(err)), 0);
	c.writable = true;
	assert_int_equal(run_child(try_to_leave, &c, err, sizeof(err)), 0);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
}

static int try_to_remove(void *arg)
{
	int in = open(arg, O_PATH | O_CLOEXEC), own = openat(in, "own", O_PATH | O_CLOEXEC);
	struct error e = {""};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (sandbox_allow_removal(own, in, &e) != 1)
		return 1;
	if (unlinkat(in, "other/file", 0) == 0 || errno != EACCES)
		return 2;
	if (unlinkat(in, "other", AT_REMOVEDIR) == 0 || errno != ENOTEMPTY)
		return 3;
	if (openat(own, "file", O_RDONLY) >= 0 || openat(own, "new", O_CREAT, 0600) >= 0)
		return 4;
	if (renameat(own, "file", own, "moved") == 0 || unlinkat(AT_FDCWD, "/tmp/no-such", 0) == 0)
		return 5;
	if (unlinkat(own, "file", 0) || unlinkat(in, "own", AT_REMOVEDIR))
		return 6;
	return unlinkat(in, "file", 0) == 0 || errno != EACCES ? 7 : 0;
}

/* What others have beside it stays. */
static void test_a_name_is_removed_and_nothing_else(void **state)
{
	char dir[] = "/tmp/skep-removed.XXXXXX", err[1024], command[256];

	(void)state;
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1u) < 1) {
		print_message("# no Landlock here\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	snprintf(command, sizeof(command),
		 "cd %s && mkdir own other && touch file own/file other/file", dir);
	assert_int_equal(system(command), 0);
	assert_int_equal(run_child(try_to_remove, dir, err, sizeof(err)), 0);
	snprintf(command, sizeof(command),
		 "cd %s && test -e file -a -e other/file -a ! -e own && rm -r %s", dir, dir);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_process_has_no_privileges),
		cmocka_unit_test(test_exec_gives_no_privileges_back),
		cmocka_unit_test(test_one_role_keeps_capabilities),
		cmocka_unit_test(test_landlock_confines_a_thread),
		cmocka_unit_test(test_a_name_is_removed_and_nothing_else),
		cmocka_unit_test(test_library_works_in_each_role),
		cmocka_unit_test(test_threads_end_in_the_sandbox),
		cmocka_unit_test(test_abort_stays_an_abort),
		cmocka_unit_test(test_terminal_is_restored),
		cmocka_unit_test(test_uring_loop_in_the_sandbox),
		cmocka_unit_test(test_epoll_loop_in_the_sandbox),
	};

	if (is_sanitized()) {
		printf("1..0 # SKIP a sanitized build has no filters\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
