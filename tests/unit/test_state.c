// SPDX-License-Identifier: BSD-2-Clause
/* Devices that are saved and go on as others over the same guest memory: virtio/state.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "blk/device.h"
#include "console/console.h"
#include "disk.h"
#include "driver.h"
#include "echo.h"
#include "rng/rng.h"
#include "virtio/state.h"

#define ALL  UINT64_MAX
#define SIZE (8 * MIB)

struct fixture;

struct kind {
	const char *name;
	void (*open)(struct fixture *f);
	/* Makes a request of this kind available; looks at what came of it. */
	void (*send)(struct fixture *f, unsigned n);
	void (*check)(struct fixture *f, unsigned n, uint32_t len);
	unsigned queue; /* for requests */
	enum disk_engine engine;
};

/* A guest and its device. */
struct fixture {
	const struct kind *kind;
	struct drv d;
	struct loop *loop[2], *worker;
	struct virtio_dev *dev;
	struct echo *echo;
	struct tty tty;
	int out; /* what the console wrote */
	char *image;
	gpa_t buffer;
	uint8_t *data;
	struct virtio_state state;
};

/* The kinds of devices */

static void open_echo(struct fixture *f)
{
	f->echo = echo_new(&f->d.mem, 2, 64, f->loop[0]);
	f->dev = &f->echo->dev;
}

static void send_echo(struct fixture *f, unsigned n)
{
	memset(f->data, (int)n, 64);
	memset(f->data + 64, 0, 64);
	assert_true(drv_add(&f->d.queue[0],
			    (struct drv_buf[]){{f->buffer, 64, false},
					       {GPA(f->buffer.v + 64), 64, true}},
			    2) >= 0);
}

static void check_echo(struct fixture *f, unsigned n, uint32_t len)
{
	(void)n;
	assert_int_equal(len, 64);
	assert_memory_equal(f->data, f->data + 64, 64);
}

static void open_rng(struct fixture *f)
{
	assert_int_equal(rng_device_new(&f->dev, &f->d.mem, f->loop[0], NULL), 0);
}

static void send_rng(struct fixture *f, unsigned n)
{
	(void)n;
	memset(f->data, 0, 64);
	assert_true(drv_add(&f->d.queue[0], &(struct drv_buf){f->buffer, 64, true}, 1) >= 0);
}

static void check_rng(struct fixture *f, unsigned n, uint32_t len)
{
	(void)n;
	assert_int_equal(len, 64);
	assert_false(mem_is_zero(f->data, 64));
}

/* A terminal, which is another one each time. */
static void open_console(struct fixture *f)
{
	struct winsize size = {.ws_col = 132, .ws_row = 50};
	int far_end;

	if (f->out >= 0)
		close(f->out);
	assert_int_equal(openpty(&f->out, &far_end, NULL, NULL, &size), 0);
	f->tty = (struct tty){.in_fd = -1, .out_fd = far_end};
	assert_int_equal(writer_new(&f->tty.writer, far_end, "console", NULL), 0);
	assert_int_equal(tty_start(&f->tty, NULL, NULL, NULL), 0);
	assert_int_equal(console_device_new(&f->dev, &f->d.mem, &f->tty, f->loop[0], NULL), 0);
}

static void send_console(struct fixture *f, unsigned n)
{
	f->data[0] = (uint8_t)('a' + n % 26);
	assert_true(drv_add(&f->d.queue[1], &(struct drv_buf){f->buffer, 1, false}, 1) >= 0);
}

static void check_console(struct fixture *f, unsigned n, uint32_t len)
{
	char byte = 0;

	assert_int_equal(len, 0);
	assert_int_equal(read(f->out, &byte, 1), 1);
	assert_int_equal(byte, 'a' + n % 26);
}

static void open_blk(struct fixture *f)
{
	struct disk_config config = {
		.path = f->image, .queues = 2, .engine = f->kind->engine, .serial = "x"};
	struct blk_image *image;
	struct error e = {""};

	if (blk_image_open(&image, &config, &e) < 0 ||
	    blk_device_new(&f->dev, &f->d.mem, image, &config, f->loop, &e) < 0)
		fail_msg("%s", e.msg);
	f->worker = blk_device_worker(f->dev);
}

/* A write of sector n, with its status behind it. */
static void send_blk(struct fixture *f, unsigned n)
{
	struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_OUT, .sector = n};

	memcpy(f->data, &header, sizeof(header));
	memset(f->data + 512, (int)n, 512);
	f->data[1024] = 0xee;
	assert_true(drv_add(&f->d.queue[1],
			    (struct drv_buf[]){{f->buffer, 16, false},
					       {GPA(f->buffer.v + 512), 512, false},
					       {GPA(f->buffer.v + 1024), 1, true}},
			    3) >= 0);
}

static void check_blk(struct fixture *f, unsigned n, uint32_t len)
{
	uint8_t sector[512];
	int fd = open(f->image, O_RDONLY | O_CLOEXEC);

	assert_int_equal(len, 1);
	assert_int_equal(f->data[1024], VIRTIO_BLK_S_OK);
	assert_int_equal(pread(fd, sector, 512, 512 * n), 512);
	assert_memory_equal(sector, f->data + 512, 512);
	close(fd);
}

static const struct kind kinds[] = {
	{"echo", open_echo, send_echo, check_echo, 0, ENGINE_SYNC},
	{"rng", open_rng, send_rng, check_rng, 0, ENGINE_SYNC},
	{"console", open_console, send_console, check_console, 1, ENGINE_SYNC},
	{"blk, sync", open_blk, send_blk, check_blk, 1, ENGINE_SYNC},
	{"blk, auto", open_blk, send_blk, check_blk, 1, ENGINE_AUTO},
};

/* Their lives */

static void up(struct fixture *f)
{
	static const enum loop_engine engines[] = {LOOP_AUTO, LOOP_URING, LOOP_EPOLL};

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(loop_new(&f->loop[i], "test", engines[f->kind->engine], 64, NULL),
				 0);
	f->kind->open(f);
	drv_attach_coalesced(&f->d, f->dev);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(loop_start(f->loop[i], NULL, NULL, NULL), 0);
	if (f->worker)
		assert_int_equal(loop_start(f->worker, NULL, NULL, NULL), 0);
}

static void down(struct fixture *f)
{
	for (unsigned i = 0; i < 2; i++)
		loop_stop(f->loop[i]);
	if (f->worker)
		loop_stop(f->worker);
	virtio_dev_free(f->dev);
	for (unsigned i = 0; i < 2; i++)
		loop_free(f->loop[i]);
	loop_free(f->worker);
	f->worker = NULL;
	if (f->tty.writer) {
		writer_stop(f->tty.writer, TTY_LAST_NS);
		writer_free(f->tty.writer);
		close(f->tty.out_fd);
		f->tty.writer = NULL;
	}
}

static struct fixture *start(const struct kind *kind, uint64_t features)
{
	struct fixture *f = calloc(1, sizeof(*f));

	print_message("# %s\n", kind->name);
	f->kind = kind;
	f->out = -1;
	f->image = disk_file(SIZE);
	drv_init(&f->d, 16 * MIB);
	f->buffer = drv_alloc(&f->d, 4096, 16);
	f->data = drv_ptr(&f->d, f->buffer, 4096);
	up(f);
	if (features)
		drv_start(&f->d, features, 0);
	return f;
}

static void end(struct fixture *f)
{
	virtio_dev_quiesce(f->dev);
	down(f);
	drv_free(&f->d);
	if (f->out >= 0)
		close(f->out);
	unlink(f->image);
	free(f->image);
	free(f);
}

static void request(struct fixture *f, unsigned n)
{
	struct drv_queue *q = &f->d.queue[f->kind->queue];
	uint32_t len;

	f->kind->send(f, n);
	drv_kick_if_needed(q);
	drv_wait_used(q, NULL, &len);
	f->kind->check(f, n, len);
}

static void save(struct fixture *f)
{
	uint64_t until = patience_end();
	struct error e = {""};

	virtio_dev_pause(f->dev);
	while (virtio_dev_save(f->dev, &f->state, &e) == -EBUSY) {
		assert_true(now_ns() < until);
		usleep(1000);
	}
}

/* Another device takes the place of this one, as in another process. */
static void replace(struct fixture *f)
{
	down(f);
	memset(f->d.page, 0, VIRTIO_MMIO_PAGE);
	up(f);
}

static void restore(struct fixture *f)
{
	struct error e = {""};

	if (virtio_dev_restore(f->dev, &f->state, &e) < 0)
		fail_msg("%s", e.msg);
}

static void expect_refused(struct fixture *f, const char *why)
{
	struct error e = {""};

	assert_int_equal(virtio_dev_restore(f->dev, &f->state, &e), -EINVAL);
	if (!strstr(e.msg, why))
		fail_msg("not '%s' but: %s", why, e.msg);
	assert_int_equal(drv_read32(&f->d, VIRTIO_MMIO_STATUS), 0);
}

static const uint64_t plain = ALL & ~(1ull << VIRTIO_RING_F_EVENT_IDX);

/* The rings wrap several times, with and without event indices. */
static void test_it_goes_on_where_it_was(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(kinds); i++) {
		struct fixture *f = start(&kinds[i / 2], i % 2 ? plain : ALL);
		unsigned n = 0;

		for (unsigned times = 0; times < 3; times++) {
			for (unsigned end = n + 300; n < end; n++)
				request(f, n);
			save(f);
			replace(f);
			restore(f);
		}
		request(f, n);
		end(f);
	}
}

/* What the driver reads and has set is the same. */
static void test_registers_stay(void **state)
{
	static uint8_t before[VIRTIO_MMIO_PAGE];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture *f = start(&kinds[i], ALL);

		request(f, 1);
		drv_write32(&f->d, VIRTIO_MMIO_QUEUE_SEL, 1);
		drv_write32(&f->d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
		save(f);
		memcpy(before, f->d.page, sizeof(before));
		replace(f);
		restore(f);
		if (kinds[i].open == open_console) /* its terminal was asked anew */
			memcpy(before + VIRTIO_MMIO_CONFIG_GENERATION,
			       f->d.page + VIRTIO_MMIO_CONFIG_GENERATION, 4);
		assert_memory_equal(before, f->d.page, VIRTIO_MMIO_INTERRUPT_STATUS);
		assert_memory_equal(before + VIRTIO_MMIO_STATUS, f->d.page + VIRTIO_MMIO_STATUS,
				    VIRTIO_MMIO_PAGE - VIRTIO_MMIO_STATUS);
		end(f);
	}
}

/* A kick that came when nobody took requests any more is not lost, nor is an interrupt. */
static void test_a_request_waits_for_the_next_device(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture *f = start(&kinds[i], ALL);
		struct drv_queue *q = &f->d.queue[kinds[i].queue];
		uint32_t len;

		request(f, 1);
		virtio_dev_pause(f->dev);
		f->kind->send(f, 2);
		drv_kick(q);
		save(f);
		assert_false(drv_used(q, NULL, NULL));
		replace(f);
		drv_irqs(&f->d);
		restore(f);
		drv_wait_irq(&f->d);
		drv_wait_used(q, NULL, &len);
		f->kind->check(f, 2, len);
		end(f);
	}
}

static void test_the_same_device_goes_on(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture *f = start(&kinds[i], ALL);
		uint32_t len;

		request(f, 1);
		save(f);
		f->kind->send(f, 2);
		drv_kick(&f->d.queue[kinds[i].queue]);
		virtio_dev_resume(f->dev);
		drv_wait_used(&f->d.queue[kinds[i].queue], NULL, &len);
		f->kind->check(f, 2, len);
		request(f, 3);
		end(f);
	}
}

/* In each state that a driver can bring it to. */
static void test_before_it_runs(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture *f = start(&kinds[i], 0);
		uint64_t offered = drv_device_features(&f->d);

		save(f); /* nothing happened yet */
		replace(f);
		restore(f);
		assert_true(drv_negotiate(&f->d, offered));
		drv_queue_setup(&f->d, 0, 0);
		save(f); /* half of its queues are set up */
		replace(f);
		restore(f);
		for (unsigned q = 1; q < f->dev->num_queues; q++)
			drv_queue_setup(&f->d, q, 0);
		drv_driver_ok(&f->d);
		request(f, 1);
		end(f);
	}
}

static void test_a_broken_device_stays_broken(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture *f = start(&kinds[i], ALL);
		uint64_t until = patience_end();

		drv_make_available(&f->d.queue[kinds[i].queue], 0xffff);
		drv_kick(&f->d.queue[kinds[i].queue]);
		while (!(drv_read32(&f->d, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET))
			assert_true(now_ns() < until);
		save(f);
		replace(f);
		restore(f);
		assert_true(drv_read32(&f->d, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
		drv_start(&f->d, ALL, 0);
		request(f, 1);
		end(f);
	}
}

static void hold(void *echo)
{
	((struct echo *)echo)->hold = true;
}

static void release(void *echo)
{
	((struct echo *)echo)->hold = false;
	echo_release(echo, 0);
}

static void test_requests_at_work_are_waited_for(void **state)
{
	struct fixture *f = start(&kinds[0], ALL);
	struct error e = {""};

	(void)state;
	loop_call(f->loop[0], hold, f->echo);
	send_echo(f, 1);
	drv_kick(&f->d.queue[0]);
	while (!f->echo->chains)
		usleep(1000);
	virtio_dev_pause(f->dev);
	assert_int_equal(virtio_dev_save(f->dev, &f->state, &e), -EBUSY);
	assert_non_null(strstr(e.msg, "queue 0 are still at work"));
	loop_call(f->loop[0], release, f->echo);
	assert_int_equal(virtio_dev_save(f->dev, &f->state, &e), 0);
	end(f);
}

/* What a type has of its own */

static void test_what_the_driver_wrote_stays(void **state)
{
	static const uint8_t written[8] = {9, 8, 7, 6, 5, 4, 3, 2};
	struct fixture *f = start(&kinds[0], ALL);

	(void)state;
	virtio_mmio_write(f->dev, VIRTIO_MMIO_CONFIG + ECHO_WRITABLE, written, sizeof(written));
	save(f);
	replace(f);
	restore(f);
	assert_memory_equal(f->d.page + VIRTIO_MMIO_CONFIG + ECHO_WRITABLE, written,
			    sizeof(written));
	end(f);
}

static bool writes_through(const struct fixture *f)
{
	return container_of(f->dev, struct blk_device, dev)->writethrough;
}

static void test_a_disk_stays_write_through(void **state)
{
	struct fixture *f = start(&kinds[3], ALL);
	uint8_t off = 0;

	(void)state;
	assert_false(writes_through(f));
	virtio_mmio_write(f->dev, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, wce),
			  &off, 1);
	save(f);
	replace(f);
	assert_false(writes_through(f));
	restore(f);
	assert_true(writes_through(f));
	/* A driver without FLUSH has it so, whatever a state says. */
	drv_start(&f->d, ALL & ~(1ull << VIRTIO_BLK_F_FLUSH), 0);
	save(f);
	memset(f->state.own + 12, 0, 1);
	replace(f);
	restore(f);
	assert_true(writes_through(f));
	end(f);
}

/* Data that a sync lost is lost for the next device, too. */
static void test_a_sync_that_failed_stays_failed(void **state)
{
	struct virtio_blk_outhdr flush = {.type = VIRTIO_BLK_T_FLUSH};
	struct fixture *f = start(&kinds[3], ALL);

	(void)state;
	container_of(f->dev, struct blk_device, dev)->flush.error = -EIO;
	save(f);
	replace(f);
	restore(f);
	memcpy(f->data, &flush, sizeof(flush));
	drv_add(&f->d.queue[0],
		(struct drv_buf[]){{f->buffer, 16, false}, {GPA(f->buffer.v + 64), 1, true}}, 2);
	drv_kick(&f->d.queue[0]);
	drv_wait_used(&f->d.queue[0], NULL, NULL);
	assert_int_equal(f->data[64], VIRTIO_BLK_S_IOERR);
	end(f);
}

/* The driver is told, as of any disk that grew; but none shrinks. */
static void test_a_disk_of_another_size(void **state)
{
	struct fixture *f = start(&kinds[3], ALL);
	const struct virtio_blk_config *config = (const void *)(f->d.page + VIRTIO_MMIO_CONFIG);
	uint32_t generation;

	(void)state;
	save(f);
	generation = f->state.config_generation;
	assert_int_equal(truncate(f->image, 2 * SIZE), 0);
	replace(f);
	restore(f);
	assert_int_equal(config->capacity, 2 * SIZE / 512);
	assert_true(drv_page32(&f->d, VIRTIO_MMIO_CONFIG_GENERATION) != generation);
	assert_true(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	request(f, SIZE / 512 + 1);
	save(f);
	assert_int_equal(truncate(f->image, SIZE), 0);
	replace(f);
	expect_refused(f, "where its driver knows of");
	end(f);
}

/* States that are not to be trusted */

static void test_states_that_are_refused(void **state)
{
	struct fixture *f = start(&kinds[3], ALL);
	struct virtio_state good;

	(void)state;
	save(f);
	good = f->state;
	replace(f);
#define REFUSE(change, why)                                                                        \
	do {                                                                                       \
		f->state = good;                                                                   \
		f->state.change;                                                                   \
		expect_refused(f, why);                                                            \
	} while (0)
	REFUSE(version++, "another version");
	REFUSE(size--, "another version");
	REFUSE(device_id = 4, "another device");
	REFUSE(num_queues = 64, "another device");
	REFUSE(config_len = UINT32_MAX, "another device");
	REFUSE(own_len = UINT32_MAX, "another device");
	REFUSE(status = VIRTIO_CONFIG_S_DRIVER_OK, "no driver can set");
	REFUSE(status |= 1u << 31, "no driver can set");
	REFUSE(driver_features |= 1ull << 63, "this device lacks");
	REFUSE(driver_features &= ~(1ull << VIRTIO_F_VERSION_1), "no device takes");
	REFUSE(unknown_features = 1, "no device takes");
	REFUSE(unknown_features = 2, "no driver can set");
	REFUSE(queue[0].size = 512, "no driver can set up");
	REFUSE(queue[1].ready = 2, "no driver can set up");
	REFUSE(queue[0].size = 3, "queue 0: queue size is not a power of two");
	REFUSE(queue[0].desc = 1, "queue 0: descriptor table is misaligned or outside RAM");
	REFUSE(queue[1].avail = UINT64_MAX - 1, "queue 1: available ring");
	REFUSE(queue[1].used = 16 * MIB, "queue 1: used ring");
	REFUSE(driver_features &= ~(1ull << VIRTIO_BLK_F_MQ), "without the feature");
	REFUSE(own[7] = 1, "where its driver knows of");
	REFUSE(own[12] = 2, "a state that no disk has");
	REFUSE(own[8] = 1, "a state that no disk has");
	/* Nothing is left of them. */
	f->state = good;
	restore(f);
	request(f, 1);
	end(f);
}

/* Whatever is wrong in it: it is refused, or the device is one that a driver broke. */
static void test_states_with_bytes_at_random(void **state)
{
	(void)state;
	srand(1);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture *f = start(&kinds[i], ALL);
		struct virtio_state good;
		unsigned taken = 0;

		request(f, 1);
		save(f);
		good = f->state;
		replace(f);
		for (unsigned round = 0; round < 3000; round++) {
			unsigned words = 1 + (unsigned)rand() % 3;
			struct error e;

			f->state = good;
			while (words--)
				((uint8_t *)&f->state)[(unsigned)rand() %
						       (round % 2 ? sizeof(good) : 600)] =
					(uint8_t)rand();
			if (virtio_dev_restore(f->dev, &f->state, &e) < 0)
				continue;
			taken++;
			for (unsigned q = 0; q < f->dev->num_queues; q++)
				drv_write32(&f->d, VIRTIO_MMIO_QUEUE_NOTIFY, q);
			drv_write32(&f->d, VIRTIO_MMIO_STATUS, 0);
		}
		assert_true(taken > 10);
		drv_start(&f->d, ALL, 0);
		request(f, 1);
		end(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_goes_on_where_it_was),
		cmocka_unit_test(test_registers_stay),
		cmocka_unit_test(test_a_request_waits_for_the_next_device),
		cmocka_unit_test(test_the_same_device_goes_on),
		cmocka_unit_test(test_before_it_runs),
		cmocka_unit_test(test_a_broken_device_stays_broken),
		cmocka_unit_test(test_requests_at_work_are_waited_for),
		cmocka_unit_test(test_what_the_driver_wrote_stays),
		cmocka_unit_test(test_a_disk_stays_write_through),
		cmocka_unit_test(test_a_sync_that_failed_stays_failed),
		cmocka_unit_test(test_a_disk_of_another_size),
		cmocka_unit_test(test_states_that_are_refused),
		cmocka_unit_test(test_states_with_bytes_at_random),
	};

	log_set_level(LOG_ERROR); /* the driver here breaks what it can */
	return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
