// SPDX-License-Identifier: BSD-2-Clause
/* Drivers that break the rules of ports' control messages, and options that make no sense. */
#include "vport_fixture.h"

#include "config/config.h"
#include "vm/devices.h"

struct crime {
	unsigned queue;
	struct drv_buf buf[2];
	struct virtio_console_control message;
};

/* Each on a fresh device; a reset mends it. */
static void commit(const struct crime *crime)
{
	struct fixture *f = start();
	struct drv_buf buf[2];
	unsigned n = 0;

	shake_hands(f, false, true);
	for (; n < 2 && crime->buf[n].len; n++) {
		buf[n] = crime->buf[n];
		buf[n].addr = drv_alloc(&f->d, buf[n].len, 1);
		if (!buf[n].write)
			memcpy(drv_ptr(&f->d, buf[n].addr, buf[n].len), &crime->message,
			       MIN(buf[n].len, sizeof(crime->message)));
	}
	assert_true(drv_add(&f->d.queue[crime->queue], buf, n) >= 0);
	drv_kick(&f->d.queue[crime->queue]);
	close(dial(f)); /* which the driver is to be told */
	for (uint64_t until = patience_end(); !is_broken(f);)
		assert_true(now_ns() < until);
	assert_false(drv_used(&f->d.queue[crime->queue], NULL, NULL));
	drv_start(&f->d, ALL, 0);
	shake_hands(f, false, true);
	assert_false(is_broken(f));
	end(f);
}

static void test_a_broken_protocol_breaks_the_port(void **state)
{
	static const struct virtio_console_control open_other = {1, PORT_OPEN, 1};
	const struct crime crimes[] = {
		{CTRL_TX, {{GPA(0), 7, false}}, {0, PORT_READY, 1}}, /* too short */
		{CTRL_TX, {{GPA(0), 1, false}}, {0, PORT_READY, 1}},
		{CTRL_TX, {{GPA(0), 8, true}}, {0, PORT_READY, 1}}, /* writable */
		{CTRL_TX, {{GPA(0), 8, false}, {GPA(0), 1, true}}, {0, PORT_OPEN, 1}}, /* in part */
		{CTRL_TX, {{GPA(0), 8, false}}, open_other},
		{CTRL_TX, {{GPA(0), 8, false}}, {UINT32_MAX, PORT_READY, 1}},
		{CTRL_RX, {{GPA(0), 8, false}}, {0, 0, 0}}, /* readable */
		{CTRL_RX, {{GPA(0), 7, true}}, {0, 0, 0}},  /* too small */
		{TX, {{GPA(0), 8, true}}, {0, 0, 0}},
		{TX, {{GPA(0), 8, false}, {GPA(0), 8, true}}, {0, 0, 0}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(crimes); i++) {
		print_message("# %zu\n", i);
		commit(&crimes[i]);
	}
}

/* What means nothing, or was said before, does nothing. */
static void test_messages_that_mean_nothing(void **state)
{
	static const struct virtio_console_control quaint[] = {
		{7, 99, 1},	    {0, PORT_NAME, 1},
		{0, PORT_ADD, 1},   {5, VIRTIO_CONSOLE_RESIZE, 1},
		{0, UINT16_MAX, 1}, {0, VIRTIO_CONSOLE_CONSOLE_PORT, 1},
	};
	struct fixture *f = start();
	uint8_t long_one[4096] = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(quaint); i++)
		say(f, quaint[i].id, quaint[i].event, quaint[i].value);
	say(f, 0, PORT_OPEN, 1); /* of a port of which it knows nothing yet */
	transmit(f, CTRL_TX, long_one, sizeof(long_one));
	drv_wait_used(&f->d.queue[CTRL_TX], NULL, NULL);
	for (unsigned i = 0; i < 1000; i++)
		say(f, 3, DEVICE_READY, 1);
	expect(f, PORT_ADD, 1);
	for (unsigned i = 0; i < 1000; i++)
		say(f, 0, PORT_READY, i % 2);
	expect(f, PORT_NAME, 1);
	offer(f, CTRL_RX, 1, sizeof(struct message));
	settle(f->loop);
	assert_false(drv_used(&f->d.queue[CTRL_RX], NULL, NULL));
	assert_false(is_broken(f));
	end(f);
}

/* One chain of 16 MiB, as a table names the same memory over and over: others have their turn. */
static void test_work_of_a_turn_is_bounded(void **state)
{
	struct vport_end there = an_end(open("/dev/null", O_RDWR | O_CLOEXEC));
	struct fixture *f = start_with(&there, ALL);
	struct drv_buf buf[64];
	gpa_t at = drv_alloc(&f->d, 262144, 1);

	(void)state;
	for (unsigned i = 0; i < 64; i++)
		buf[i] = (struct drv_buf){at, 262144, false};
	drv_add_indirect(&f->d.queue[TX], buf, 64);
	drv_kick(&f->d.queue[TX]);
	drv_wait_used(&f->d.queue[TX], NULL, NULL);
	assert_int_equal(counters(f).tx_bytes, 64 * 262144);
	assert_false(is_broken(f));
	end(f);
}

/* A state that nobody can have saved. */
static void test_a_state_of_nonsense_is_refused(void **state)
{
	struct vport_end there = an_end(-1);
	struct fixture *f = start_with(&there, ALL);
	struct virtio_state saved;
	struct error e = {""};

	(void)state;
	virtio_dev_pause(f->dev);
	assert_int_equal(virtio_dev_save(f->dev, &saved, &e), 0);
	virtio_dev_resume(f->dev);
	drv_reset(&f->d);
	saved.own[2] = 2;
	assert_int_equal(virtio_dev_restore(f->dev, &saved, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "neither set nor clear"));
	end(f);
}

static void test_options_that_make_no_sense(void **state)
{
	static const struct {
		const char *option, *why;
	} wrong[] = {
		{"pty", "give it a name"},
		{"name=a b,pty", "would be no file's"},
		{"name=../x,pty", "would be no file's"},
		{"name=x", "give one of"},
		{"name=x,pty,fd=5", "give one of"},
		{"name=x,fd=2", "a standard stream"},
		{"name=first,pty", "both called 'first'"},
		{"name=x,socket=/tmp/s", "both a port and another"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct vm_config config;
		struct error e = {""};

		assert_int_equal(config_init(&config, vm_device_options), 0);
		assert_int_equal(config_parse_device(&config, &vport_options,
						     "name=first,socket=/tmp/s", &e),
				 0);
		assert_int_equal(config_parse_device(&config, &vport_options, wrong[i].option, &e),
				 0);
		assert_int_equal(config_validate(&config, &e), -EINVAL);
		if (!strstr(e.msg, wrong[i].why))
			fail_msg("not '%s' but: %s", wrong[i].why, e.msg);
		config_destroy(&config);
	}
}

static void test_a_descriptor_that_was_not_inherited(void **state)
{
	struct vport_config config = {.name = "t", .fd = 77};
	struct device_host host = {.mem = NULL};
	struct vport_end there;
	struct error e = {""};

	(void)state;
	assert_int_equal(vport_end_open(&there, &config, &host, &e), -EBADF);
	assert_string_equal(e.msg,
			    "port t: descriptor 77: skep did not get it from who started it");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_broken_protocol_breaks_the_port),
		cmocka_unit_test(test_messages_that_mean_nothing),
		cmocka_unit_test(test_work_of_a_turn_is_bounded),
		cmocka_unit_test(test_a_state_of_nonsense_is_refused),
		cmocka_unit_test(test_options_that_make_no_sense),
		cmocka_unit_test(test_a_descriptor_that_was_not_inherited),
	};

	log_set_level(LOG_ERROR); /* guests that err are what is tested */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
