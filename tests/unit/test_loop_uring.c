// SPDX-License-Identifier: BSD-2-Clause
/* The ring alone: operations, what it refuses, and what becomes of a host without it. */
#include "loop_fixture.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <liburing.h>

#include "child.h"

#define OPS 1000

struct ops {
	struct loop *loop;
	int slot;
	unsigned pending, left, in_sqe, done_in_sqe, wrong;
	struct one {
		struct loop_op op;
		struct ops *all;
		uint8_t byte, want;
		int res; /* wanted, too */
	} one[OPS];
};

static void op_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct one *o = container_of(op, struct one, op);

	(void)cqe_flags;
	o->all->pending--;
	o->all->done_in_sqe += o->all->in_sqe;
	if (res != o->res || o->byte != o->want)
		o->all->wrong++;
}

static void submit_ops(void *arg)
{
	struct ops *ops = arg;

	ops->pending = OPS;
	for (unsigned i = 0; i < OPS; i++) {
		struct one *o = &ops->one[i];
		struct io_uring_sqe *sqe;

		*o = (struct one){.op = {.done = op_done}, .all = ops};
		o->want = i % 7 ? (uint8_t)i : 0;
		ops->in_sqe = 1;
		sqe = loop_sqe(ops->loop);
		ops->in_sqe = 0;
		o->res = i % 7 > 0;
		if (o->res)
			io_uring_prep_read(sqe, ops->slot, &o->byte, 1, i);
		else
			io_uring_prep_fsync(sqe, ops->slot, 0); /* the kernel's workers' */
		io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
		io_uring_sqe_set_data(sqe, &o->op);
	}
}

static void submit_and_drain(void *arg)
{
	struct ops *ops = arg;

	submit_ops(ops);
	loop_wait_ops(ops->loop, &ops->pending);
}

static void look_at_pending(void *arg)
{
	((struct ops *)arg)->left = ((struct ops *)arg)->pending;
}

/* A thousand in flight on a ring of 8 entries and 64 completions. */
static void test_ops_beyond_the_rings_size(void **state)
{
	struct loop *loop = new_loop(state);
	struct ops *ops = calloc(1, sizeof(*ops));
	int fd = memfd_create("ops", MFD_CLOEXEC);
	uint64_t end;

	assert_non_null(ops);
	for (unsigned i = 0; i < OPS; i++)
		assert_int_equal(pwrite(fd, &(uint8_t){(uint8_t)i}, 1, i), 1);
	ops->loop = loop;
	ops->slot = loop_register_file(loop, fd);
	assert_true(ops->slot >= 0);
	start(loop);
	assert_int_equal(loop_register_file(loop, fd), -EBUSY); /* sealed */
	for (int i = 0; i < 20; i++) {
		loop_call(loop, submit_and_drain, ops);
		assert_int_equal(ops->pending, 0);
		assert_int_equal(ops->wrong, 0);
		assert_int_equal(ops->done_in_sqe, 0);
	}
	/* And without waiting for them: the turns complete them. */
	loop_call(loop, submit_ops, ops);
	end = patience_end();
	do {
		assert_true(now_ns() < end);
		usleep(1000);
		loop_call(loop, look_at_pending, ops);
	} while (ops->left);
	assert_int_equal(ops->wrong, 0);
	loop_stop(loop);
	loop_free(loop);
	close(fd);
	free(ops);
}

struct forbidden {
	struct loop_op op;
	struct loop *loop;
	void (*prepare)(struct io_uring_sqe *sqe);
	unsigned pending;
	int res;
};

static void forbidden_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct forbidden *f = container_of(op, struct forbidden, op);

	(void)cqe_flags;
	f->res = res;
	f->pending = 0;
}

static void submit_forbidden(void *arg)
{
	struct forbidden *f = arg;
	struct io_uring_sqe *sqe = loop_sqe(f->loop);

	f->prepare(sqe);
	io_uring_sqe_set_data(sqe, &f->op);
	f->pending = 1;
	loop_wait_ops(f->loop, &f->pending);
}

static void prepare_openat(struct io_uring_sqe *sqe)
{
	io_uring_prep_openat(sqe, AT_FDCWD, "/dev/null", O_RDONLY, 0);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
}

static void prepare_read_of_plain_fd(struct io_uring_sqe *sqe)
{
	static char byte;

	io_uring_prep_read(sqe, STDIN_FILENO, &byte, 1, 0);
}

static void prepare_sendmsg(struct io_uring_sqe *sqe)
{
	io_uring_prep_sendmsg(sqe, 0, NULL, 0);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
}

static void prepare_poll(struct io_uring_sqe *sqe, unsigned flags)
{
	io_uring_prep_poll_add(sqe, 0, EPOLLOUT);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE | flags);
}

static void prepare_linked(struct io_uring_sqe *sqe)
{
	prepare_poll(sqe, IOSQE_IO_LINK);
}

static void prepare_async(struct io_uring_sqe *sqe)
{
	prepare_poll(sqe, IOSQE_ASYNC);
}

static uint8_t any_opcode;

static void prepare_any(struct io_uring_sqe *sqe)
{
	io_uring_prep_rw(any_opcode, sqe, 0, NULL, 0, 0);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
}

static bool is_listed(uint8_t op)
{
	for (const struct loop_opcode *o = loop_opcodes; o->name; o++)
		if (o->op == op)
			return true;
	return false;
}

/* loop_opcodes[] is all that a ring takes. */
static void test_ring_refuses_opcodes_not_listed(void **state)
{
	struct loop *loop = new_loop(state);

	start(loop);
	for (any_opcode = 0; any_opcode < IORING_OP_LAST; any_opcode++) {
		struct forbidden f = {
			.op = {.done = forbidden_done}, .loop = loop, .prepare = prepare_any};

		if (is_listed(any_opcode))
			continue;
		loop_call(loop, submit_forbidden, &f);
		assert_int_equal(f.res, -EACCES);
	}
	loop_stop(loop);
	loop_free(loop);
}

static void test_ring_refuses_what_is_not_needed(void **state)
{
	static void (*const prepare[])(struct io_uring_sqe *
				       sqe) = {prepare_openat, prepare_read_of_plain_fd,
					       prepare_sendmsg, prepare_linked, prepare_async};
	struct loop *loop = new_loop(state);

	start(loop);
	for (size_t i = 0; i < ARRAY_SIZE(prepare); i++) {
		struct forbidden f = {
			.op = {.done = forbidden_done}, .loop = loop, .prepare = prepare[i]};

		loop_call(loop, submit_forbidden, &f);
		assert_int_equal(f.res, -EACCES);
	}
	loop_stop(loop);
	loop_free(loop);
}

static int deny_register(void *arg)
{
	(void)arg;
	return filter_syscall(__NR_io_uring_register, SECCOMP_RET_KILL_PROCESS);
}

static int allow_release(void *arg)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_register, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IORING_UNREGISTER_FILES, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	(void)arg;
	return filter_install(filter, ARRAY_SIZE(filter));
}

/* After its start the loop needs io_uring_register(2) only at its end, and not to be freed. */
static int use_loop_without_register(const char *arg)
{
	enum loop_engine engine = LOOP_URING;
	void *state = &engine;
	struct loop *loop = new_loop(&state);
	struct counter c = {.drain = false};
	struct flip f = {&c.watch, 20};
	int fd = eventfd(0, EFD_NONBLOCK);

	(void)arg;
	if (loop_watch(loop, &c.watch, fd, EPOLLIN, count) ||
	    loop_start(loop, allow_release, NULL, NULL) || deny_register(NULL))
		return 1;
	kick(fd);
	await(&c.calls, 1);
	loop_call(loop, flip, &f);
	await(&c.calls, 2);
	loop_stop(loop);
	loop_free(loop);
	return 0;
}

static void test_sealed_loop_needs_no_register(void **state)
{
	(void)state;
	assert_int_equal(in_child(use_loop_without_register, NULL), 0);
}

/* Kilobytes of this process's memory that are pinned. */
static unsigned long pinned(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[128];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) && sscanf(line, "VmPin: %lu", &kib) != 1)
		;
	fclose(f);
	return kib;
}

/* Whether all have let go of a pipe's other end. */
static bool is_free(int fd)
{
	char byte;

	return read(fd, &byte, 1) == 0;
}

/* Once it has stopped, nothing of it is in use any more: the kernel takes rings down when it likes.
 */
static void test_a_stopped_loop_holds_nothing(void **state)
{
	const size_t size = MIB;
	uint8_t *memory =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct counter c = {.drain = false}, paused = {.drain = false};
	uint64_t end = patience_end();

	assert_ptr_not_equal(memory, MAP_FAILED);
	/* The kernel takes down a ring that never ran, an earlier test's, in its own time. */
	while (pinned()) {
		assert_true(now_ns() < end);
		usleep(1000);
	}
	for (unsigned i = 0; i < 20; i++) {
		struct loop *loop = new_loop(state);
		unsigned long before = pinned();
		int file[2], watched[2];
		bool pins;

		assert_int_equal(pipe2(file, O_CLOEXEC | O_NONBLOCK), 0);
		assert_int_equal(pipe2(watched, O_CLOEXEC | O_NONBLOCK), 0);
		assert_true(loop_register_file(loop, file[1]) >= 0);
		/* One that never fires, one that always does, one of which nothing is wanted. */
		assert_int_equal(loop_watch(loop, &c.watch, watched[1], EPOLLIN, count), 0);
		assert_int_equal(loop_watch(loop, &paused.watch, watched[1], EPOLLOUT, count), 0);
		if (i % 2)
			loop_pause(&paused.watch);
		pins = loop_register_memory(loop, &(struct iovec){memory, size}, 1, NULL) == 0;
		start(loop);
		if (i % 4 < 2)
			settle(loop);
		assert_int_equal(pinned() > before, pins);
		loop_stop(loop);
		close(file[1]);
		close(watched[1]);
		assert_true(is_free(file[0]));
		assert_true(is_free(watched[0]));
		assert_int_equal(pinned(), before);
		loop_free(loop);
		close(file[0]);
		close(watched[0]);
	}
	munmap(memory, size);
}

/* The fall-back must do the same work. 0 when it did and the message has `why` in it. */
static int auto_falls_back(const char *why)
{
	struct counter c = {.drain = true};
	struct error e = {""};
	struct loop *loop;

	if (loop_new(&loop, "test", LOOP_URING, 8, &e) >= 0 || !strstr(e.msg, why)) {
		fprintf(stderr, "# unexpected: \"%s\"\n", e.msg);
		return 1;
	}
	e.msg[0] = '\0';
	if (loop_new(&loop, "test", LOOP_AUTO, 8, &e) < 0 || loop_is_uring(loop) ||
	    !strstr(e.msg, why) || loop_register_file(loop, 0) != -ENOTSUP)
		return 2;
	if (loop_watch(loop, &c.watch, eventfd(0, EFD_NONBLOCK), EPOLLIN, count) ||
	    loop_start(loop, NULL, NULL, NULL) < 0)
		return 3;
	kick(c.watch.fd);
	await(&c.calls, 1);
	loop_stop(loop);
	loop_free(loop);
	return 0;
}

static int hidden_by_seccomp(const char *arg)
{
	(void)arg;
	return filter_syscall(__NR_io_uring_setup, SECCOMP_RET_ERRNO | ENOSYS)
		       ? 9
		       : auto_falls_back("not in this kernel, or a seccomp filter hides it");
}

static int denied_by_seccomp(const char *arg)
{
	(void)arg;
	return filter_syscall(__NR_io_uring_setup, SECCOMP_RET_ERRNO | EPERM)
		       ? 9
		       : auto_falls_back("denied by a seccomp filter");
}

/* The sysctl is the whole host's, so a file of this process's own stands in for it. */
static int denied_by_sysctl(const char *arg)
{
	char path[] = "/tmp/skep-test-sysctl-XXXXXX";
	int fd = mkstemp(path), r;

	(void)arg;
	if (fd < 0 || write(fd, "2\n", 2) != 2 || own_mounts())
		return 8;
	r = mount(path, "/proc/sys/kernel/io_uring_disabled", NULL, MS_BIND, NULL);
	unlink(path);
	if (r || filter_syscall(__NR_io_uring_setup, SECCOMP_RET_ERRNO | EPERM))
		return 9;
	return auto_falls_back("kernel.io_uring_disabled=2");
}

static int restrictions_denied(const char *arg)
{
	(void)arg;
	return filter_syscall(__NR_io_uring_register, SECCOMP_RET_ERRNO | EPERM)
		       ? 9
		       : auto_falls_back("cannot restrict an io_uring");
}

static void test_denials_are_named_and_survived(void **state)
{
	(void)state;
	assert_int_equal(in_child(hidden_by_seccomp, NULL), 0);
	assert_int_equal(in_child(denied_by_seccomp, NULL), 0);
	assert_int_equal(in_child(restrictions_denied, NULL), 0);
}

static void test_sysctl_is_named(void **state)
{
	(void)state;
	if (access("/proc/sys/kernel/io_uring_disabled", F_OK)) {
		print_message("# this kernel has no kernel.io_uring_disabled\n");
		skip();
	}
	if (geteuid()) {
		print_message("# a mount needs root\n");
		skip();
	}
	assert_int_equal(in_child(denied_by_sysctl, NULL), 0);
}

/* A gigabyte and more of the same few pages. */
static uint8_t *map_much(size_t bytes)
{
	const size_t step = 32 * MIB;
	int fd = memfd_create("pages", MFD_CLOEXEC);
	uint8_t *all =
		mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(all, MAP_FAILED);
	assert_int_equal(ftruncate(fd, (off_t)step), 0);
	for (size_t at = 0; at < bytes; at += step)
		assert_ptr_equal(mmap(all + at, MIN(bytes - at, step), PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, fd, 0),
				 all + at);
	close(fd);
	return all;
}

static void test_fixed_buffers(void **state)
{
	const size_t size = GIB + 64 * KIB;
	struct loop *loop = new_loop(state);
	uint8_t *all = map_much(2 * size);
	struct iovec ranges[2] = {{all, size}, {all + size + 4096, 64 * KIB}};
	struct error e = {""};
	int r = loop_register_memory(loop, ranges, 2, &e);

	if (r == -ENOMEM) {
		print_message("# %s\n", e.msg);
		loop_free(loop);
		munmap(all, 2 * size);
		skip();
	}
	if (loop_is_uring(loop)) {
		assert_int_equal(r, 0);
		assert_int_equal(loop_find_buffer(loop, all, GIB), 0);
		assert_int_equal(loop_find_buffer(loop, all + GIB - 4096, 4096), 0);
		/* One that lies in two. */
		assert_int_equal(loop_find_buffer(loop, all + GIB - 4096, 4097), -1);
		assert_int_equal(loop_find_buffer(loop, all + GIB, 64 * KIB), 1);
		assert_int_equal(loop_find_buffer(loop, all + GIB, 64 * KIB + 1), -1);
		assert_int_equal(loop_find_buffer(loop, all + size, 1), -1);
		assert_int_equal(loop_find_buffer(loop, all + size + 4096, 64 * KIB), 2);
		assert_int_equal(loop_find_buffer(loop, all + size + 4095, 1), -1);
		assert_int_equal(loop_find_buffer(loop, all - 1, 1), -1);
		assert_int_equal(loop_find_buffer(loop, all, SIZE_MAX), -1);
		assert_int_equal(loop_register_memory(loop, ranges, 1, &e), -EBUSY);
	} else {
		assert_int_equal(r, -ENOTSUP);
		assert_int_equal(loop_find_buffer(loop, all, 1), -1);
	}
	loop_free(loop);
	munmap(all, 2 * size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_fixed_buffers),
		URING(test_ops_beyond_the_rings_size),
		URING(test_ring_refuses_what_is_not_needed),
		URING(test_ring_refuses_opcodes_not_listed),
		URING(test_a_stopped_loop_holds_nothing),
		cmocka_unit_test(test_sealed_loop_needs_no_register),
		cmocka_unit_test(test_denials_are_named_and_survived),
		cmocka_unit_test(test_sysctl_is_named),
	};

	return cmocka_run_group_tests_name("loop_uring", tests, NULL, NULL);
}
