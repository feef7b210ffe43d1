// SPDX-License-Identifier: BSD-2-Clause
/* A shared directory whose guest asks on several queues at once. */
#include "fs_fixture.h"

#include <pthread.h>
#include <signal.h>

/* A request that the host keeps waiting: the file has a lease. */
struct held {
	int lease; /* the file, by whoever has it */
	struct drv_queue *queue;
};

static struct held hold(struct fixture *f, uint64_t *ret_node)
{
	struct held h = {.queue = &f->d.queue[REQUESTS]};
	struct fuse_in_header header = {.opcode = FUSE_OPEN, .len = HEADER + 8};
	struct drv_buf buf[2];

	signal(SIGIO, SIG_IGN);
	host_file(f, "held", "public", 6);
	h.lease = open(host(f, "held"), O_RDWR | O_CLOEXEC);
	if (fcntl(h.lease, F_SETLEASE, F_WRLCK) < 0)
		skip(); /* this file system has none */
	*ret_node = header.nodeid = (uint64_t)look_up(f, ROOT, "held");
	memset(f->args, 0, 8);
	memcpy(drv_ptr(&f->d, f->out, HEADER), &header, HEADER);
	buf[0] = (struct drv_buf){f->out, header.len, false};
	buf[1] = (struct drv_buf){f->in, 4096, true};
	assert_true(drv_add(h.queue, buf, 2) >= 0);
	drv_kick(h.queue);
	while (fcntl(h.lease, F_GETLEASE) == F_WRLCK) /* until it is asked for */
		usleep(1000);
	use_queue(f, REQUESTS + 1);
	return h;
}

/* Lets it go on; its answer's bytes. */
static uint32_t let_go(const struct held *h)
{
	uint32_t got;

	assert_false(drv_used(h->queue, NULL, NULL));
	assert_int_equal(fcntl(h->lease, F_SETLEASE, F_UNLCK), 0);
	drv_wait_used(h->queue, NULL, &got);
	close(h->lease);
	return got;
}

static void test_a_request_that_waits_holds_up_no_other_queue(void **state)
{
	struct fixture *f = begin();
	uint64_t node = 0, other;
	struct held h = hold(f, &node);

	(void)state;
	host_file(f, "file", "public", 6);
	other = (uint64_t)look_up(f, ROOT, "file");
	assert_int_equal(read_at(f, open_node(f, other, O_RDONLY), 0, 100), 6);
	assert_int_equal(counters(f).inodes, 3);
	forget(f, other, 1);
	assert_int_equal(counters(f).inodes, 2);
	assert_int_equal(let_go(&h), ANSWER + sizeof(struct fuse_open_out));
	end(f);
}

/* What it names is still that, whatever the guest says meanwhile. */
static void test_what_a_request_names_stays_until_it_has_ended(void **state)
{
	struct fixture *f = begin();
	uint64_t node = 0;
	struct held h = hold(f, &node);

	(void)state;
	forget(f, node, 1);
	assert_int_equal(ask(f, FUSE_GETATTR, node, 0, 4096), -ESTALE);
	assert_int_equal(counters(f).inodes, 2);
	assert_int_equal(look_up(f, ROOT, "held"), node); /* the same, again */
	forget(f, node, 1);
	mount_share(f, 0);
	assert_int_equal(let_go(&h), ANSWER + sizeof(struct fuse_open_out));
	assert_int_equal(counters(f).inodes, 1);
	end(f);
}

/* Each with a queue of its own, and the same numbers. */
enum { GUESTS = LOOPS - 1, TURNS = 400, FORGET = 12 };

struct racer {
	pthread_t thread;
	struct fixture *f;
	unsigned queue;
};

static void list(struct fixture *f, int64_t fh)
{
	*(struct fuse_read_in *)f->args = (struct fuse_read_in){.fh = (uint64_t)fh, .size = 4096};
	ask(f, FUSE_READDIRPLUS, ROOT, sizeof(struct fuse_read_in), 4096);
}

static void do_anything(struct fixture *f, uint64_t rnd)
{
	static const char *const names[] = {"a", "b", "c"};
	const char *name = names[rnd / 16 % 3];
	uint64_t node = 2 + rnd / 64 % 4;
	int64_t fh = (int64_t)(1 + rnd / 256 % 4), r;

	if (rnd % 16 < 3)
		look_up(f, ROOT, name);
	else if (rnd % 16 < 5)
		open_node(f, node, O_RDWR);
	else if (rnd % 16 == 5)
		ask(f, FUSE_GETATTR, node, 0, 4096);
	else if (rnd % 16 == 6)
		release(f, fh, rnd & 1024);
	else if (rnd % 16 == 7)
		create(f, ROOT, name, O_RDWR, &node);
	else if (rnd % 16 == 8)
		ask_named(f, FUSE_UNLINK, ROOT, NULL, 0, "c", NULL);
	else if (rnd % 16 == 9)
		write_at(f, fh, 0, "public", 6);
	else if (rnd % 16 == 10)
		open_dir(f, ROOT);
	else if (rnd % 16 == 11)
		list(f, fh);
	else if (rnd % 16 == FORGET)
		forget(f, node, 1 + rnd / 1024 % 3);
	else if ((r = read_at(f, fh, 0, 6)) > 0)
		assert_memory_equal(f->reply, "public", (size_t)r);
}

static void *race(void *arg)
{
	struct racer *racer = arg;
	struct fixture *f = racer->f;
	uint64_t rnd = racer->queue;

	for (unsigned i = 0; i < TURNS; i++) {
		rnd = rnd * 6364136223846793005u + 1442695040888963407u;
		/* The queue for what is forgotten is the first one's. */
		if (racer->queue == REQUESTS || (rnd >> 32) % 16 != FORGET)
			do_anything(f, rnd >> 32);
	}
	return NULL;
}

/* Other parts of the process open files as well: a number that was closed may be theirs. */
static _Atomic bool over;
static void *open_others(void *arg)
{
	while (!over) {
		int fd = open(host(arg, "../outside"), O_RDWR | O_CLOEXEC);

		assert_true(fd >= 0);
		close(fd);
	}
	return NULL;
}

static void test_numbers_are_of_the_share_whoever_closes_them(void **state)
{
	struct fixture *f = begin_with(false, FS_CACHE_AUTO, 20);
	struct racer racers[GUESTS];
	pthread_t others;
	char text[8] = "";
	int fd;

	(void)state;
	host_file(f, "a", "public", 6);
	host_file(f, "b", "public", 6);
	over = false;
	assert_int_equal(pthread_create(&others, NULL, open_others, f), 0);
	for (unsigned i = 0; i < GUESTS; i++) {
		racers[i] = (struct racer){.f = malloc(sizeof(*f)), .queue = REQUESTS + i};
		memcpy(racers[i].f, f, sizeof(*f));
		use_queue(f, REQUESTS); /* the next buffers */
		racers[i].f->out = f->out;
		racers[i].f->in = f->in;
		racers[i].f->args = f->args;
		racers[i].f->reply = f->reply;
		racers[i].f->queue = REQUESTS + i;
		assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
	}
	for (unsigned i = 0; i < GUESTS; i++) {
		pthread_join(racers[i].thread, NULL);
		free(racers[i].f);
	}
	over = true;
	pthread_join(others, NULL);
	assert_true(counters(f).inodes + counters(f).handles <= 20);
	fd = open(host(f, "../outside"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, sizeof(text)), 6);
	assert_string_equal(text, "secret");
	close(fd);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_that_waits_holds_up_no_other_queue),
		cmocka_unit_test(test_what_a_request_names_stays_until_it_has_ended),
		cmocka_unit_test(test_numbers_are_of_the_share_whoever_closes_them),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
