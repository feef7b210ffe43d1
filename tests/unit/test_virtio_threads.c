// SPDX-License-Identifier: BSD-2-Clause
/* The transport with all its threads: a guest that sleeps until it is interrupted, loops that sleep
 * until they are kicked, and somebody else who drains ACKs at any moment. What gets lost hangs. */
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "driver.h"
#include "echo.h"

#define QUEUES 4u
#define ALL    UINT64_MAX
#define BROKEN (VIRTIO_CONFIG_S_NEEDS_RESET)

struct fixture {
	struct drv d;
	struct loop *loop[QUEUES]; /* one a queue */
	struct echo *echo;
	gpa_t buf;
	pthread_t drainer;
	bool drains;
	_Atomic bool stop;
};

static void *drain(void *arg)
{
	struct fixture *f = arg;

	while (!f->stop) {
		drv_drain(&f->d);
		sched_yield();
	}
	return NULL;
}

static struct fixture *setup(enum loop_engine engine, bool coalesced)
{
	struct fixture *f = calloc(1, sizeof(*f));

	drv_init(&f->d, 64 * MIB);
	for (unsigned i = 0; i < QUEUES; i++)
		assert_int_equal(loop_new(&f->loop[i], "test", engine, 16, NULL), 0);
	f->echo = echo_new(&f->d.mem, QUEUES, 64, f->loop[0]);
	for (unsigned i = 0; i < QUEUES; i++)
		f->echo->dev.queue[i].loop = f->loop[i];
	if (coalesced)
		drv_attach_coalesced(&f->d, &f->echo->dev);
	else
		drv_attach(&f->d, &f->echo->dev);
	for (unsigned i = 0; i < QUEUES; i++)
		assert_int_equal(loop_start(f->loop[i], NULL, NULL, NULL), 0);
	if (coalesced) {
		f->drains = true;
		assert_int_equal(pthread_create(&f->drainer, NULL, drain, f), 0);
	}
	f->buf = drv_alloc(&f->d, 4096, 16);
	return f;
}

static void teardown(struct fixture *f)
{
	f->stop = true;
	if (f->drains)
		pthread_join(f->drainer, NULL);
	virtio_dev_quiesce(&f->echo->dev);
	for (unsigned i = 0; i < QUEUES; i++)
		loop_stop(f->loop[i]);
	virtio_dev_free(&f->echo->dev);
	for (unsigned i = 0; i < QUEUES; i++)
		loop_free(f->loop[i]);
	drv_free(&f->d);
	free(f);
}

/* The handler of Linux: status, ACK, then the rings. Returns the entries that it found. */
static unsigned handle_interrupt(struct fixture *f)
{
	uint32_t s = drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS);
	unsigned n = 0;

	if (!s)
		return 0;
	drv_write32(&f->d, VIRTIO_MMIO_INTERRUPT_ACK, s);
	if (s & VIRTIO_MMIO_INT_VRING)
		for (unsigned q = 0; q < QUEUES; q++)
			while (drv_used(&f->d.queue[q], NULL, NULL))
				n++;
	return n;
}

/* `total` requests, up to `depth` at a time. The guest looks at the rings in its handler only. */
static void run_guest(struct fixture *f, unsigned total, unsigned depth)
{
	struct drv_buf buf = {f->buf, 8, true};
	unsigned submitted = 0, done = 0;

	while (done < total) {
		struct pollfd p = {.fd = f->d.irq_fd, .events = POLLIN};

		while (submitted < total && submitted - done < depth) {
			struct drv_queue *q = &f->d.queue[submitted % QUEUES];

			if (drv_add(q, &buf, 1) < 0)
				break;
			submitted++;
			drv_kick_if_needed(q);
		}
		/* A lost kick or a lost interrupt ends here. */
		assert_int_equal(poll(&p, 1, patience_ms()), 1);
		drv_irqs(&f->d);
		done += handle_interrupt(f);
	}
}

static void no_wakeup_is_lost(enum loop_engine engine, bool coalesced, uint64_t features)
{
	struct fixture *f = setup(engine, coalesced);

	drv_start(&f->d, features, 0);
	run_guest(f, 8000, 1);
	run_guest(f, 8000, 3);
	run_guest(f, 16000, 64);
	assert_int_equal(f->echo->chains, 32000);
	teardown(f);
}

static void test_no_wakeup_is_lost_coalesced(void **state)
{
	(void)state;
	no_wakeup_is_lost(LOOP_AUTO, true, ALL);
}

static void test_no_wakeup_is_lost_trapped(void **state)
{
	(void)state;
	no_wakeup_is_lost(LOOP_AUTO, false, ALL);
}

static void test_no_wakeup_is_lost_epoll(void **state)
{
	(void)state;
	no_wakeup_is_lost(LOOP_EPOLL, true, ALL);
}

static void test_no_wakeup_is_lost_without_event_idx(void **state)
{
	(void)state;
	no_wakeup_is_lost(LOOP_AUTO, true, 0);
}

/*
 * Store-to-load order between device and driver, as bare as can be: each side stores, then looks
 * at what the other side stored, in the same moment. At least one has to see the other.
 */
struct litmus {
	struct drv d;
	struct drv_queue q;
	struct virtq vq;
	_Atomic unsigned round[2]; /* how far the driver and the device are */
	bool driver_saw, device_saw;
};
#define LITMUS_ROUNDS 200000u

/* Both sides meet; spinning, so that they leave together, but not for a whole time slice. Who came
 * last leaves first, by the time that a cache line takes to move: both are held up a little, in a
 * different proportion each round. */
static void meet(struct litmus *l, unsigned side)
{
	unsigned mine = atomic_fetch_add(&l->round[side], 1) + 1, spins = 0;

	while (atomic_load(&l->round[!side]) < mine)
		if (++spins % 4096 == 0)
			sched_yield();
	for (volatile unsigned i = side ? mine % 61 : mine % 53; i; i--)
		;
}

static void litmus_setup(struct litmus *l, uint64_t features)
{
	const char *why;

	drv_init(&l->d, MIB);
	drv_queue_place(&l->q, &l->d, 64, features != 0);
	l->vq.max_size = 64;
	drv_queue_bind(&l->q, &l->vq);
	assert_int_equal(virtq_activate(&l->vq, &l->d.mem, features, &why), 0);
}

/* The driver makes an entry available and looks whether it has to kick. */
static void *driver_adds(void *arg)
{
	struct litmus *l = arg;
	struct drv_queue *q = &l->q;
	uint16_t *avail_event = (uint16_t *)(void *)&q->used->ring[q->size];

	for (unsigned i = 0; i < LITMUS_ROUNDS; i++) {
		uint16_t old = q->avail_idx;

		meet(l, 0);
		drv_make_available(q, 0);
		if (q->event_idx)
			l->driver_saw = vring_need_event(
				__atomic_load_n(avail_event, __ATOMIC_SEQ_CST), q->avail_idx, old);
		else
			l->driver_saw = !__atomic_load_n(&q->used->flags, __ATOMIC_SEQ_CST);
		meet(l, 0);
	}
	return NULL;
}

static void kick_or_look(uint64_t features)
{
	struct litmus *l = calloc(1, sizeof(*l));
	struct iovec iov[1];
	struct virtq_chain chain = {.iov = iov, .max_iov = 1};
	const char *why;
	pthread_t driver;
	unsigned lost = 0;

	litmus_setup(l, features);
	assert_int_equal(pthread_create(&driver, NULL, driver_adds, l), 0);
	for (unsigned i = 0; i < LITMUS_ROUNDS; i++) {
		virtq_disable_kicks(&l->vq);
		meet(l, 1);
		l->device_saw = virtq_enable_kicks(&l->vq);
		meet(l, 1);
		lost += !l->driver_saw && !l->device_saw;
		if (virtq_pop(&l->vq, &chain, &why) == 1)
			virtq_push(&l->vq, chain.head, 0);
	}
	pthread_join(driver, NULL);
	assert_int_equal(lost, 0);
	drv_free(&l->d);
	free(l);
}

static void test_litmus_kick_or_look(void **state)
{
	(void)state;
	kick_or_look(0);
	kick_or_look(1ull << VIRTIO_RING_F_EVENT_IDX);
}

/* The driver asks for an interrupt and looks once more at the used index. */
static void *driver_sleeps(void *arg)
{
	struct litmus *l = arg;
	struct drv_queue *q = &l->q;

	for (unsigned i = 0; i < LITMUS_ROUNDS; i++) {
		q->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
		meet(l, 0);
		if (q->event_idx)
			__atomic_store_n(&q->avail->ring[q->size], (uint16_t)i, __ATOMIC_SEQ_CST);
		else
			__atomic_store_n(&q->avail->flags, 0, __ATOMIC_SEQ_CST);
		l->driver_saw =
			__atomic_load_n(&q->used->idx, __ATOMIC_SEQ_CST) == (uint16_t)(i + 1);
		meet(l, 0);
	}
	return NULL;
}

static void interrupt_or_look(uint64_t features)
{
	struct litmus *l = calloc(1, sizeof(*l));
	struct iovec iov[1];
	struct virtq_chain chain = {.iov = iov, .max_iov = 1};
	const char *why;
	pthread_t driver;
	unsigned lost = 0;

	litmus_setup(l, features);
	assert_int_equal(pthread_create(&driver, NULL, driver_sleeps, l), 0);
	for (unsigned i = 0; i < LITMUS_ROUNDS; i++) {
		drv_make_available(&l->q, 0);
		assert_int_equal(virtq_pop(&l->vq, &chain, &why), 1);
		virtq_push(&l->vq, chain.head, 0);
		meet(l, 1);
		l->device_saw = virtq_publish(&l->vq);
		meet(l, 1);
		lost += !l->driver_saw && !l->device_saw;
	}
	pthread_join(driver, NULL);
	assert_int_equal(lost, 0);
	drv_free(&l->d);
	free(l);
}

static void test_litmus_interrupt_or_look(void **state)
{
	(void)state;
	interrupt_or_look(0);
	interrupt_or_look(1ull << VIRTIO_RING_F_EVENT_IDX);
}

static void *change_config(void *arg)
{
	struct fixture *f = arg;

	for (uint32_t i = 1; !f->stop; i++) {
		uint16_t hash = (uint16_t)(i * 40503); /* all bits change */
		uint16_t size[2] = {hash, hash};
		uint32_t pair[4] = {i, 0, i, 0};

		virtio_dev_set_config(&f->echo->dev, 0, size, sizeof(size));
		virtio_dev_set_config(&f->echo->dev, 8, pair, sizeof(pair));
		if (i % 64 == 0)
			sched_yield();
	}
	return NULL;
}

/*
 * The guest reads the page itself. A word is never torn (console: columns and rows). Two fields
 * that are changed together in one call are read, under an unmoved generation, both old, both new,
 * or as they are between the two steps, and never the second newer than the first.
 */
static void test_configuration_is_read_consistently(void **state)
{
	struct fixture *f = setup(LOOP_EPOLL, true);
	unsigned reads = 0, changes = 0;
	uint32_t last = 0;
	pthread_t writer;

	(void)state;
	virtio_dev_set_config(&f->echo->dev, 0, &last, sizeof(last));
	drv_start(&f->d, ALL, 0);
	assert_int_equal(pthread_create(&writer, NULL, change_config, f), 0);
	while (reads < 200000 || changes < 1000) {
		uint32_t before = drv_page32(&f->d, VIRTIO_MMIO_CONFIG_GENERATION);
		uint32_t size = drv_page32(&f->d, VIRTIO_MMIO_CONFIG);
		uint32_t a = drv_page32(&f->d, VIRTIO_MMIO_CONFIG + 8);
		uint32_t b = drv_page32(&f->d, VIRTIO_MMIO_CONFIG + 16);

		assert_int_equal(size >> 16, size & 0xffff);
		changes += before != last;
		last = before;
		reads++;
		if (drv_page32(&f->d, VIRTIO_MMIO_CONFIG_GENERATION) == before)
			assert_true(a == b || a == b + 1);
	}
	f->stop = true;
	pthread_join(writer, NULL);
	teardown(f);
}

static void *count_config(void *arg)
{
	struct fixture *f = arg;

	for (uint32_t i = 1; !f->stop; i++) {
		virtio_dev_set_config(&f->echo->dev, 0, &i, sizeof(i));
		if (i % 64 == 0)
			sched_yield();
	}
	return NULL;
}

/* The generation moves once before a store and once after it, not only on one side: a value is
 * never seen with the generation of the one before it, nor the last generation with an old value.
 */
static void test_generation_encloses_each_change(void **state)
{
	struct fixture *f = setup(LOOP_EPOLL, true);
	uint32_t base, seen = 0;
	pthread_t writer;

	(void)state;
	virtio_dev_set_config(&f->echo->dev, 0, (uint32_t[2]){0}, 8);
	base = drv_page32(&f->d, VIRTIO_MMIO_CONFIG_GENERATION);
	drv_start(&f->d, ALL, 0);
	assert_int_equal(pthread_create(&writer, NULL, count_config, f), 0);
	for (unsigned reads = 0; reads < 200000 || seen < 1000; reads++) {
		uint32_t value = drv_page32(&f->d, VIRTIO_MMIO_CONFIG), generation;

		generation = drv_page32(&f->d, VIRTIO_MMIO_CONFIG_GENERATION) - base;
		assert_true(generation + 1 >= 2 * value);
		seen = drv_page32(&f->d, VIRTIO_MMIO_CONFIG);
		assert_true(seen >= generation / 2);
	}
	f->stop = true;
	pthread_join(writer, NULL);
	teardown(f);
}

/* Either way, what it is over for reads so when the write has returned. */
static void reset_or_stop(struct fixture *f, bool reset)
{
	if (reset) {
		drv_write32(&f->d, VIRTIO_MMIO_STATUS, 0);
		assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_STATUS), 0);
		return;
	}
	for (unsigned q = 0; q < QUEUES; q++) {
		drv_write32(&f->d, VIRTIO_MMIO_QUEUE_SEL, q);
		drv_write32(&f->d, VIRTIO_MMIO_QUEUE_READY, 0);
		assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_QUEUE_READY), 0);
	}
}

/* After the reset write returned, or all queues were stopped, nothing of the device's touches guest
 * memory any more. */
static void test_reset_while_working(void **state)
{
	struct fixture *f = setup(LOOP_AUTO, true);
	struct drv_buf buf = {f->buf, 4096, true};
	uint64_t start_of_ram = f->d.next;

	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		uint8_t *queues;
		size_t len;

		f->d.next = start_of_ram; /* the same memory each time */
		drv_start(&f->d, round % 2 ? ALL : 0, 0);
		len = f->d.next - start_of_ram;
		for (unsigned i = 0; i < 40; i++) {
			assert_true(drv_add(&f->d.queue[i % QUEUES], &buf, 1) >= 0);
			drv_kick(&f->d.queue[i % QUEUES]);
		}
		if (round % 3 == 0) { /* broken meanwhile, on another queue's loop */
			drv_make_available(&f->d.queue[round % QUEUES], 0xffff);
			drv_kick(&f->d.queue[round % QUEUES]);
		}
		reset_or_stop(f, round % 4);
		queues = drv_ptr(&f->d, GPA(start_of_ram), len);
		memset(queues, 0x77, len);
		memset(drv_ptr(&f->d, f->buf, 4096), 0x77, 4096);
		sched_yield();
		for (size_t i = 0; i < len; i++)
			assert_int_equal(queues[i], 0x77);
	}
	assert_int_equal(f->echo->starts, f->echo->stops);
	teardown(f);
}

/* One queue's loop finds the driver broken while the others are still being started. */
static void test_failure_while_starting(void **state)
{
	struct fixture *f = setup(LOOP_AUTO, false);
	uint64_t ram = f->d.next;

	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		uint64_t end = patience_end();

		f->d.next = ram;
		assert_true(drv_negotiate(&f->d, 1ull << VIRTIO_F_VERSION_1));
		for (unsigned q = 0; q < QUEUES; q++)
			drv_queue_setup(&f->d, q, 16);
		drv_make_available(&f->d.queue[0], 0xffff);
		drv_driver_ok(&f->d);
		while (!(drv_page32(&f->d, VIRTIO_MMIO_STATUS) & BROKEN))
			assert_true(now_ns() < end);
		/* virtio_dev_fail() holds the state lock until all queues are inactive. */
		drv_read32(&f->d, VIRTIO_MMIO_CONFIG_GENERATION);
		for (unsigned q = 0; q < QUEUES; q++)
			assert_false(virtio_queue_active(&f->echo->dev, q));
	}
	teardown(f);
}

struct resize {
	struct loop_work work;
	struct fixture *f;
	uint32_t value;
	_Atomic bool done;
};

static void resize(struct loop_work *work)
{
	struct resize *r = container_of(work, struct resize, work);

	virtio_dev_set_config(&r->f->echo->dev, 0, &r->value, sizeof(r->value));
	r->done = true;
}

/* A loop changes the configuration while a vCPU waits for this loop in a reset: no deadlock. */
static void test_configuration_change_during_reset(void **state)
{
	struct fixture *f = setup(LOOP_AUTO, true);
	uint64_t ram = f->d.next;

	(void)state;
	for (uint32_t round = 0; round < 300; round++) {
		struct resize r = {.work = {.fn = resize}, .f = f, .value = round};

		f->d.next = ram;
		drv_start(&f->d, ALL, 0);
		loop_post(f->loop[round % QUEUES], &r.work);
		drv_write32(&f->d, VIRTIO_MMIO_STATUS, 0);
		while (!r.done)
			sched_yield();
		assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG), round);
	}
	teardown(f);
}

struct vcpu {
	struct fixture *f;
	uint32_t seed;
};

static void *write_at_random(void *arg)
{
	struct vcpu *v = arg;

	for (unsigned i = 0; i < 20000; i++) {
		uint32_t offset, value;

		v->seed = v->seed * 1664525 + 1013904223;
		offset = (v->seed >> 10) % 0x120 & ~3u;
		value = v->seed >> 28;
		virtio_mmio_write(&v->f->echo->dev, offset, &value, 4);
		virtio_mmio_read(&v->f->echo->dev, offset, &value, 4);
	}
	return NULL;
}

/* vCPUs that write registers at random, all at once: the page is true at the end. */
static void test_registers_from_many_vcpus(void **state)
{
	struct fixture *f = setup(LOOP_AUTO, true);
	struct vcpu vcpu[3];
	pthread_t thread[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		vcpu[i] = (struct vcpu){f, i + 1};
		assert_int_equal(pthread_create(&thread[i], NULL, write_at_random, &vcpu[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	for (uint32_t r = 0; r < VIRTIO_MMIO_PAGE; r += 4)
		assert_int_equal(drv_page32(&f->d, r), drv_read32(&f->d, r));
	assert_int_equal(f->echo->dev.status, drv_page32(&f->d, VIRTIO_MMIO_STATUS));
	drv_start(&f->d, ALL, 0);
	drv_irqs(&f->d);
	run_guest(f, 100, 4);
	teardown(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_wakeup_is_lost_coalesced),
		cmocka_unit_test(test_no_wakeup_is_lost_trapped),
		cmocka_unit_test(test_no_wakeup_is_lost_epoll),
		cmocka_unit_test(test_no_wakeup_is_lost_without_event_idx),
		cmocka_unit_test(test_litmus_kick_or_look),
		cmocka_unit_test(test_litmus_interrupt_or_look),
		cmocka_unit_test(test_configuration_is_read_consistently),
		cmocka_unit_test(test_generation_encloses_each_change),
		cmocka_unit_test(test_reset_while_working),
		cmocka_unit_test(test_failure_while_starting),
		cmocka_unit_test(test_configuration_change_during_reset),
		cmocka_unit_test(test_registers_from_many_vcpus),
	};

	log_set_level(LOG_ERROR); /* the driver here misbehaves a lot */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
