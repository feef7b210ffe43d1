// SPDX-License-Identifier: BSD-2-Clause
/* The life cycle of a virtio device and its interrupts, on one thread; test_virtio_threads.c has
 * the rest. */
#include <fcntl.h>
#include <sys/resource.h>

#include "base/log.h"
#include "virtio_fixture.h"

static void test_bad_rings_need_a_reset(void **state)
{
	struct fixture *f = *state;

	assert_true(drv_negotiate(&f->d, VERSION));
	drv_queue_setup(&f->d, 0, 16);
	drv_queue_setup(&f->d, 1, 16);
	put(f, VIRTIO_MMIO_QUEUE_READY, 0);
	put(f, VIRTIO_MMIO_QUEUE_USED_HIGH, 0x80000000);
	put(f, VIRTIO_MMIO_QUEUE_READY, 1);
	drv_driver_ok(&f->d);
	assert_int_equal(status(f), ALIVE | BROKEN);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(drv_irqs(&f->d), 1);
	assert_int_equal(f->echo->starts, 0); /* the good queue was not started either */
	drv_kick(&f->d.queue[0]);
	drv_pump(&f->d);
	drv_start(&f->d, ALL, 0);
	assert_int_equal(f->echo->stops, 0);
	assert_works(f, 0);
	assert_page_is_true(f);
}

static void test_queues_that_are_not_ready_stay_away(void **state)
{
	struct fixture *f = *state;

	assert_true(drv_negotiate(&f->d, VERSION));
	drv_queue_setup(&f->d, 1, 16);
	drv_driver_ok(&f->d);
	assert_int_equal(status(f), ALIVE);
	assert_int_equal(f->echo->starts, 1);
	put(f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	drv_pump(&f->d);
	assert_works(f, 1);
	drv_reset(&f->d);
	assert_int_equal(f->echo->stops, 1);
}

/* A kick before DRIVER_OK is forbidden, but what it announced is seen; so are buffers that were
 * made available early without a kick. */
static void test_early_buffers_are_seen_at_driver_ok(void **state)
{
	struct fixture *f = *state;

	for (unsigned kick = 0; kick < 2; kick++) {
		assert_true(drv_negotiate(&f->d, VERSION));
		drv_queue_setup(&f->d, 0, 16);
		submit(f, 0);
		if (kick) {
			drv_kick(&f->d.queue[0]);
			drv_pump(&f->d); /* the loop sees the kick, and drops it */
		}
		assert_false(drv_used(&f->d.queue[0], NULL, NULL));
		drv_driver_ok(&f->d);
		drv_pump(&f->d);
		assert_true(drv_used(&f->d.queue[0], NULL, NULL));
	}
}

static void test_protocol_error_stops_all_queues(void **state)
{
	struct fixture *f = *state;
	uint32_t used;

	drv_start(&f->d, ALL, 0);
	assert_works(f, 1);
	drv_irqs(&f->d);
	provoke(f, 0);
	assert_int_equal(drv_irqs(&f->d), 1);
	assert_true(get(f, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	used = f->d.queue[1].used->idx;
	submit(f, 1);
	drv_kick(&f->d.queue[1]);
	drv_pump(&f->d);
	assert_int_equal(f->d.queue[1].used->idx, used);
	assert_int_equal(drv_irqs(&f->d), 0);
	virtio_dev_fail(&f->echo->dev, "again"); /* once is enough */
	assert_int_equal(drv_irqs(&f->d), 0);
	drv_start(&f->d, ALL, 0);
	assert_works(f, 0);
	assert_works(f, 1);
	assert_page_is_true(f);
}

/* What was in flight when the device broke is completed, but the driver is not led on. */
static void test_completion_after_failure_is_not_published(void **state)
{
	struct fixture *f = *state;

	drv_start(&f->d, ALL, 0);
	f->echo->hold = true;
	submit(f, 0);
	drv_kick(&f->d.queue[0]);
	drv_pump(&f->d);
	assert_int_equal(f->echo->num_held[0], 1);
	provoke(f, 1);
	drv_irqs(&f->d);
	echo_release(f->echo, 0);
	assert_int_equal(f->d.queue[0].used->idx, 0);
	assert_int_equal(drv_irqs(&f->d), 0);
}

static void test_failure_before_driver_ok_does_not_interrupt(void **state)
{
	struct fixture *f = *state;

	assert_true(drv_negotiate(&f->d, VERSION));
	virtio_dev_fail(&f->echo->dev, "the host has a problem");
	assert_int_equal(status(f), ACK | DRIVER | FEATURES | BROKEN);
	assert_int_equal(drv_irqs(&f->d), 0);
	drv_driver_ok(&f->d);
	assert_int_equal(status(f), ACK | DRIVER | FEATURES | BROKEN);
}

/* What changes before the driver reads, it reads; what changes after is news, and once. */
static void test_a_change_before_driver_ok_is_announced_at_it(void **state)
{
	struct fixture *f = *state;
	uint32_t v = 0;

	for (unsigned acked = 0; acked < 2; acked++) {
		drv_reset(&f->d);
		put(f, VIRTIO_MMIO_STATUS, ACK);
		v++;
		virtio_dev_set_config(&f->echo->dev, 0, &v, sizeof(v));
		assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
		assert_true(drv_negotiate(&f->d, VERSION));
		v++;
		virtio_dev_set_config(&f->echo->dev, 0, &v, sizeof(v));
		assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS),
				 VIRTIO_MMIO_INT_CONFIG);
		assert_int_equal(drv_irqs(&f->d), 0); /* nobody would take it */
		if (acked)
			put(f, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
		drv_driver_ok(&f->d);
		assert_int_equal(drv_irqs(&f->d), !acked);
		assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS),
				 acked ? 0 : VIRTIO_MMIO_INT_CONFIG);
	}
	drv_start(&f->d, ALL, 0);
	assert_int_equal(drv_irqs(&f->d), 0);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_page_is_true(f);
}

static void test_point_14_reset_drains(void **state)
{
	struct fixture *f = *state;

	for (unsigned broken = 0; broken < 2; broken++) {
		drv_start(&f->d, ALL, 0);
		f->echo->hold = true;
		submit(f, 0);
		submit(f, 0);
		drv_kick(&f->d.queue[0]);
		drv_pump(&f->d);
		assert_int_equal(f->echo->num_held[0], 2);
		f->echo->stops = 0;
		if (broken)
			provoke(f, 1);
		put(f, VIRTIO_MMIO_STATUS, 0);
		assert_int_equal(status(f), 0);
		assert_int_equal(f->echo->stops, QUEUES);
		assert_int_equal(f->echo->num_held[0], 0);
		assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
		assert_page_is_true(f);
	}
}

static void assert_stays_stopped(struct fixture *f, unsigned q)
{
	unsigned chains = f->echo->chains;

	submit(f, q);
	drv_kick(&f->d.queue[q]);
	drv_pump(&f->d);
	put(f, VIRTIO_MMIO_QUEUE_NUM, 8);
	put(f, VIRTIO_MMIO_QUEUE_READY, 1);
	drv_pump(&f->d);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(f->echo->chains, chains);
	assert_int_equal(f->d.queue[q].used->idx, 0);
}

/* Section 4.2.2: a driver that has read back 0 may give the queue's memory to others. */
static void test_queue_ready_0_stops_a_queue(void **state)
{
	struct fixture *f = *state;

	for (unsigned broken = 0; broken < 2; broken++) {
		drv_start(&f->d, ALL, 0);
		f->echo->hold = true;
		submit(f, 0);
		drv_kick(&f->d.queue[0]);
		drv_pump(&f->d);
		assert_int_equal(f->echo->num_held[0], 1);
		if (broken)
			provoke(f, 1);
		f->echo->stops = 0;
		put(f, VIRTIO_MMIO_QUEUE_SEL, 0);
		put(f, VIRTIO_MMIO_QUEUE_READY, 0);
		assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
		assert_int_equal(f->echo->stops, 1);
		assert_int_equal(f->echo->num_held[0], 0);
		f->echo->hold = false;
		assert_stays_stopped(f, 0);
		assert_int_equal(status(f), broken ? ALIVE | BROKEN : ALIVE);
		if (!broken)
			assert_works(f, 1);
		assert_page_is_true(f);
		put(f, VIRTIO_MMIO_QUEUE_READY, 0); /* it is */
		drv_reset(&f->d);
		assert_int_equal(f->echo->stops, QUEUES);
	}
	drv_start(&f->d, ALL, 0);
	assert_works(f, 0);
}

/* A completion that the device delivers after reset (and after a new start) goes nowhere. */
static void test_cve_2026_45782_completion_after_reset(void **state)
{
	struct fixture *f = *state;

	drv_start(&f->d, ALL, 0);
	drv_reset(&f->d);
	f->echo->held[0][0] = 3;
	f->echo->num_held[0] = 1;
	echo_release(f->echo, 0);
	assert_int_equal(f->d.queue[0].used->idx, 0);
	drv_start(&f->d, ALL, 0);
	f->echo->held[0][0] = 3;
	f->echo->num_held[0] = 1;
	echo_release(f->echo, 0);
	assert_int_equal(f->d.queue[0].used->idx, 0);
	assert_int_equal(drv_irqs(&f->d), 0);
}

static void test_quiesce_drains(void **state)
{
	struct fixture *f = *state;

	drv_start(&f->d, ALL, 0);
	f->echo->hold = true;
	submit(f, 1);
	drv_kick(&f->d.queue[1]);
	drv_pump(&f->d);
	virtio_dev_quiesce(&f->echo->dev);
	assert_int_equal(f->echo->num_held[1], 0);
	assert_int_equal(f->echo->stops, QUEUES);
	virtio_dev_quiesce(&f->echo->dev); /* nothing left to do */
	assert_int_equal(f->echo->stops, QUEUES);
}

static void test_the_device_is_told_of_resets(void **state)
{
	struct fixture *f = *state;

	put(f, VIRTIO_MMIO_STATUS, 0); /* it was reset before */
	drv_start(&f->d, ALL, 0);
	drv_start(&f->d, ALL, 0);
	assert_int_equal(f->echo->device_resets, 3);
}

static void test_point_15_work_is_bounded(void **state)
{
	struct fixture *f = *state;

	drv_start(&f->d, ALL, 0);
	drv_pump(&f->d);
	f->echo->budget = 4;
	for (unsigned i = 0; i < 10; i++)
		submit(f, 0);
	drv_kick(&f->d.queue[0]);
	f->echo->chains = 0;
	f->echo->dev.queue[0].watch.ready(&f->echo->dev.queue[0].watch, 1); /* one turn */
	assert_int_equal(f->echo->chains, 4);
	drv_pump(&f->d); /* the others follow without another kick */
	assert_int_equal(f->echo->chains, 10);
}

static void test_trapped_ack_clears_what_it_names(void **state)
{
	struct fixture *f = *state;
	uint32_t v = 7;

	drv_start(&f->d, ALL, 0);
	assert_works(f, 0);
	virtio_dev_set_config(&f->echo->dev, 0, &v, sizeof(v));
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 3);
	put(f, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	put(f, VIRTIO_MMIO_INTERRUPT_ACK, ~0u);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_page_is_true(f);
}

/* An ACK that waits in the ring belongs to an earlier interrupt: it must not take the next one. */
static void test_pending_ack_does_not_take_the_next_interrupt(void **state)
{
	struct fixture *f = *state;

	drv_start(&f->d, ALL, 0);
	assert_works(f, 0);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	put(f, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	submit(f, 0);
	virtio_queue_kick_later(&f->echo->dev, 0); /* an ioeventfd: nobody drains here */
	drv_pump(&f->d);
	drv_drain(&f->d); /* any vCPU's exit, before the guest's handler runs */
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
}

static void test_status_read_drains_acks(void **state)
{
	struct fixture *f = *state;

	drv_start(&f->d, ALL, 0);
	assert_works(f, 0);
	put(f, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

static struct fixture *observed;
static unsigned drains;

/* The guest's view when the device looks for ACKs: whatever ACK comes from now on is followed by a
 * look at the rings, so the news has to be there, and the bit not yet. */
static void observe(void *ctx)
{
	struct fixture *f = observed;

	(void)ctx;
	if (!(f->echo->dev.status & RUNNING))
		return;
	drains++;
	if (drains == 1) {
		assert_int_equal(f->d.queue[0].used->idx, 1);
		assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	} else {
		assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG), 99);
		assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS),
				 VIRTIO_MMIO_INT_VRING);
	}
	assert_int_equal(drv_irqs(&f->d), drains - 1);
}

static void test_news_is_out_before_acks_are_looked_for(void **state)
{
	struct fixture *f = *state;
	uint32_t v = 99;

	drv_start(&f->d, ALL, 0);
	observed = f;
	drains = 0;
	f->echo->dev.drain_acks = observe;
	submit(f, 0);
	virtio_queue_kick_later(&f->echo->dev, 0);
	drv_pump(&f->d);
	assert_int_equal(drains, 1);
	virtio_dev_set_config(&f->echo->dev, 0, &v, sizeof(v));
	assert_int_equal(drains, 2);
	f->echo->dev.drain_acks = NULL;
}

static void test_free_leaves_nothing(void **state)
{
	struct drv d;
	struct loop *loop;
	struct echo *echo;
	_Atomic bool freed = false;
	int fd;

	(void)state;
	drv_init(&d, MIB);
	assert_int_equal(loop_new(&loop, "test", LOOP_EPOLL, 16, NULL), 0);
	echo = echo_new(&d.mem, 3, 64, loop);
	echo->freed = &freed;
	drv_attach(&d, &echo->dev);
	fd = echo->dev.queue[2].kick_fd;
	assert_true(fcntl(fd, F_GETFD) >= 0);
	virtio_dev_free(&echo->dev);
	assert_true(freed);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	virtio_dev_free(NULL);
	loop_free(loop);
	drv_free(&d);
}

/* A VM that could not be built is torn down as any other: its devices have no page yet. */
static void test_quiesce_before_attach(void **state)
{
	struct drv d;
	struct loop *loop;
	struct echo *echo;

	(void)state;
	drv_init(&d, MIB);
	assert_int_equal(loop_new(&loop, "test", LOOP_EPOLL, 16, NULL), 0);
	echo = echo_new(&d.mem, 1, 64, loop);
	virtio_dev_quiesce(&echo->dev);
	assert_int_equal(echo->stops, 0);
	virtio_dev_free(&echo->dev);
	loop_free(loop);
	drv_free(&d);
}

static void test_init_that_fails_leaves_nothing(void **state)
{
	static const struct virtio_ops ops = {.name = "none"};
	struct virtio_dev dev = {.features = 0};
	struct error e = {""};
	struct rlimit old, low;
	int fd = dup(0);

	(void)state;
	assert_int_equal(virtio_dev_init(&dev, &ops, NULL, VIRTIO_MAX_QUEUES + 1, 64, NULL, &e),
			 -EINVAL);
	assert_int_equal(virtio_dev_init(&dev, &ops, NULL, 1, VIRTQ_MAX_SIZE + 1, NULL, &e),
			 -EINVAL);
	assert_non_null(strstr(e.msg, "virtio-none"));
	close(fd);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = (struct rlimit){(rlim_t)fd + 5, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(virtio_dev_init(&dev, &ops, NULL, 32, 64, NULL, &e), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_non_null(strstr(e.msg, "eventfd"));
	assert_int_equal(dup(0), fd); /* all closed again */
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_bad_rings_need_a_reset),
		T(test_queues_that_are_not_ready_stay_away),
		T(test_early_buffers_are_seen_at_driver_ok),
		T(test_protocol_error_stops_all_queues),
		T(test_completion_after_failure_is_not_published),
		T(test_failure_before_driver_ok_does_not_interrupt),
		T(test_a_change_before_driver_ok_is_announced_at_it),
		C(test_a_change_before_driver_ok_is_announced_at_it),
		T(test_point_14_reset_drains),
		T(test_queue_ready_0_stops_a_queue),
		T(test_cve_2026_45782_completion_after_reset),
		T(test_quiesce_drains),
		T(test_the_device_is_told_of_resets),
		T(test_point_15_work_is_bounded),
		T(test_trapped_ack_clears_what_it_names),
		C(test_pending_ack_does_not_take_the_next_interrupt),
		C(test_status_read_drains_acks),
		T(test_news_is_out_before_acks_are_looked_for),
		cmocka_unit_test(test_free_leaves_nothing),
		cmocka_unit_test(test_quiesce_before_attach),
		cmocka_unit_test(test_init_that_fails_leaves_nothing),
	};

	log_set_level(LOG_ERROR); /* the driver here misbehaves a lot */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
