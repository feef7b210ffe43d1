// SPDX-License-Identifier: BSD-2-Clause
/* Locks of shared files, which the host and other guests see. */
#include "fs_fixture.h"

#include <sys/file.h>

static struct fixture *begin_locks(uint64_t *ret_node)
{
	struct fixture *f = begin_share((struct fs_share){.locks = true});

	host_file(f, "file", "hello", 5);
	*ret_node = (uint64_t)look_up(f, ROOT, "file");
	return f;
}

static struct fuse_lk_in lock_of(int64_t fh, uint64_t owner, uint32_t type, uint64_t start,
				 uint64_t end)
{
	return (struct fuse_lk_in){.fh = (uint64_t)fh,
				   .owner = owner,
				   .lk = {.start = start, .end = end, .type = type}};
}

static int64_t set_lock(struct fixture *f, uint64_t node, struct fuse_lk_in in)
{
	return ASK(f, FUSE_SETLK, node, &in, NULL);
}

static int64_t set_flock(struct fixture *f, uint64_t node, int64_t fh, uint32_t type)
{
	struct fuse_lk_in in = lock_of(fh, 0, type, 0, INT64_MAX);

	in.lk_flags = FUSE_LK_FLOCK;
	return set_lock(f, node, in);
}

static int host_lock(int fd, short type, off_t start, off_t len)
{
	struct flock lock = {.l_type = type, .l_start = start, .l_len = len};

	return fcntl(fd, F_OFD_SETLK, &lock);
}

static void test_flock_is_the_hosts(void **state)
{
	uint64_t node;
	struct fixture *f = begin_locks(&node);
	int fd = open(host(f, "file"), O_RDWR | O_CLOEXEC);
	int64_t fh = open_node(f, node, O_RDWR), other = open_node(f, node, O_RDWR);

	(void)state;
	assert_int_equal(f->flags & (FUSE_FLOCK_LOCKS | FUSE_POSIX_LOCKS),
			 FUSE_FLOCK_LOCKS | FUSE_POSIX_LOCKS);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(set_flock(f, node, fh, F_RDLCK), -EAGAIN);
	assert_int_equal(flock(fd, LOCK_UN), 0);
	assert_int_equal(set_flock(f, node, fh, F_RDLCK), 0);
	assert_int_equal(set_flock(f, node, other, F_WRLCK), -EAGAIN);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	assert_int_equal(release(f, fh, false), 0);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	close(fd);
	end(f);
}

static void test_locks_are_of_processes(void **state)
{
	uint64_t node;
	struct fixture *f = begin_locks(&node);
	int fd = open(host(f, "file"), O_RDWR | O_CLOEXEC);
	int64_t fh = open_node(f, node, O_RDONLY), other;
	struct fuse_flush_in flush = {.fh = (uint64_t)fh, .lock_owner = 1};
	struct fuse_lk_in get = lock_of(fh, 2, F_RDLCK, 50, 150);
	const struct fuse_lk_out *out = f->reply;

	(void)state;
	assert_int_equal(host_lock(fd, F_WRLCK, 100, 10), 0);
	assert_int_equal(set_lock(f, node, lock_of(fh, 1, F_RDLCK, 0, INT64_MAX)), -EAGAIN);
	assert_int_equal(ASK(f, FUSE_GETLK, node, &get, NULL), sizeof(*out));
	assert_int_equal(out->lk.type, F_WRLCK);
	assert_int_equal(out->lk.start, 100);
	assert_int_equal(out->lk.end, 109);

	assert_int_equal(set_lock(f, node, lock_of(fh, 1, F_WRLCK, 0, 9)), 0);
	assert_int_equal(set_lock(f, node, lock_of(fh, 1, F_RDLCK, 5, 20)), 0);
	assert_int_equal(set_lock(f, node, lock_of(fh, 2, F_RDLCK, 0, 0)), -EAGAIN);
	assert_int_equal(host_lock(fd, F_WRLCK, 15, 1), -1);
	assert_int_equal(set_lock(f, node, lock_of(fh, 1, F_UNLCK, 10, 20)), 0);
	assert_int_equal(host_lock(fd, F_WRLCK, 15, 1), 0);
	assert_int_equal(ASK(f, FUSE_FLUSH, node, &flush, NULL), 0);
	assert_int_equal(set_lock(f, node, lock_of(fh, 2, F_RDLCK, 0, 0)), 0);
	assert_int_equal(counters(f).handles, 2); /* one has the locks */
	other = open_node(f, node, O_RDWR);
	assert_int_equal(set_lock(f, node, lock_of(other, 3, F_WRLCK, 200, 209)), 0);
	assert_int_equal(release(f, other, false), 0); /* as of an open file's own locks */
	assert_int_equal(host_lock(fd, F_WRLCK, 200, 10), 0);
	assert_int_equal(counters(f).handles, 2);
	mount_share(f, 0);
	assert_int_equal(counters(f).handles, 0);
	assert_int_equal(host_lock(fd, F_WRLCK, 0, 0), 0);
	close(fd);
	end(f);
}

/* Asks for a lock, and does not wait for the answer. */
static void ask_and_wait(struct fixture *f, uint64_t node, int64_t fh, uint64_t owner)
{
	struct fuse_lk_in in = lock_of(fh, owner, F_WRLCK, 0, 9);
	gpa_t at = drv_alloc(&f->d, 512, 16);
	struct fuse_in_header header = {
		.len = HEADER + sizeof(in), .opcode = FUSE_SETLKW, .nodeid = node, .unique = owner};
	struct drv_buf buf[2] = {{at, header.len, false}, {GPA(at.v + 256), ANSWER, true}};

	memcpy(drv_ptr(&f->d, at, HEADER), &header, HEADER);
	memcpy((uint8_t *)drv_ptr(&f->d, at, 256) + HEADER, &in, sizeof(in));
	assert_true(drv_add(&f->d.queue[REQUESTS], buf, 2) >= 0);
	drv_kick(&f->d.queue[REQUESTS]);
}

/* It is put aside. */
static void test_who_waits_for_a_lock_holds_up_nobody(void **state)
{
	uint64_t node;
	struct fixture *f = begin_locks(&node);
	int fd = open(host(f, "file"), O_RDWR | O_CLOEXEC);
	int64_t fh = open_node(f, node, O_RDWR);
	uint32_t got = 0;

	(void)state;
	assert_int_equal(host_lock(fd, F_WRLCK, 0, 0), 0);
	ask_and_wait(f, node, fh, 1);
	assert_true(ask(f, FUSE_GETATTR, node, 0, 4096) > 0);
	usleep(100000);
	assert_false(drv_used(&f->d.queue[REQUESTS], NULL, NULL));
	assert_int_equal(host_lock(fd, F_UNLCK, 0, 0), 0);
	drv_wait_used(&f->d.queue[REQUESTS], NULL, &got);
	assert_int_equal(got, ANSWER);
	assert_int_equal(host_lock(fd, F_WRLCK, 0, 0), -1);
	/* What has gone meanwhile, and a driver that has gone. */
	ask_and_wait(f, node, fh, 2);
	assert_true(ask(f, FUSE_GETATTR, node, 0, 4096) > 0);
	forget(f, node, 10);
	drv_wait_used(&f->d.queue[REQUESTS], NULL, &got);
	node = (uint64_t)look_up(f, ROOT, "file");
	ask_and_wait(f, node, fh, 3);
	assert_true(ask(f, FUSE_GETATTR, node, 0, 4096) > 0);
	drv_start(&f->d, UINT64_MAX, 0);
	mount_share(f, 0);
	assert_int_equal(host_lock(fd, F_WRLCK, 0, 0), 0);
	usleep(100000);
	assert_int_equal(look_up(f, ROOT, "none"), -ENOENT);
	close(fd);
	end(f);
}

static void test_those_who_wait_are_not_too_many(void **state)
{
	uint64_t node;
	struct fixture *f = begin_locks(&node);
	int fd = open(host(f, "file"), O_RDWR | O_CLOEXEC);
	int64_t fh = open_node(f, node, O_RDWR);
	uint32_t got;

	(void)state;
	assert_int_equal(host_lock(fd, F_WRLCK, 0, 0), 0);
	for (uint64_t owner = 1; owner <= 65; owner++)
		ask_and_wait(f, node, fh, owner);
	drv_wait_used(&f->d.queue[REQUESTS], NULL, &got); /* the last one */
	assert_true(ask(f, FUSE_GETATTR, node, 0, 4096) > 0);
	assert_int_equal(counters(f).failed, 1);
	close(fd);
	drv_reset(&f->d);
	end(f);
}

static void test_locks_that_are_none(void **state)
{
	uint64_t node;
	struct fixture *f = begin_locks(&node);
	int64_t fh = open_node(f, node, O_RDWR);

	(void)state;
	assert_int_equal(set_lock(f, node, lock_of(fh, 1, 7, 0, 9)), -EINVAL);
	assert_int_equal(set_lock(f, node, lock_of(fh, 1, F_RDLCK, 9, 8)), -EINVAL);
	assert_int_equal(set_lock(f, node, lock_of(fh, 1, F_RDLCK, 0, UINT64_MAX)), -EINVAL);
	assert_int_equal(set_flock(f, node, 77, F_RDLCK), -EBADF);
	assert_int_equal(set_lock(f, ROOT, lock_of(fh, 1, F_RDLCK, 0, 9)), 0); /* a directory's */
	end(f);
	f = begin();
	assert_int_equal(f->flags & (FUSE_FLOCK_LOCKS | FUSE_POSIX_LOCKS), 0);
	assert_int_equal(set_lock(f, ROOT, lock_of(1, 1, F_RDLCK, 0, 9)), -ENOSYS);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flock_is_the_hosts),
		cmocka_unit_test(test_locks_are_of_processes),
		cmocka_unit_test(test_who_waits_for_a_lock_holds_up_nobody),
		cmocka_unit_test(test_those_who_wait_are_not_too_many),
		cmocka_unit_test(test_locks_that_are_none),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
