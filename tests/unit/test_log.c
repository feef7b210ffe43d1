// SPDX-License-Identifier: BSD-2-Clause
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"

/* stderr while a test runs: a pipe, or whatever else is put there. */
static int real_stderr, out[2];

static int setup(void **state)
{
	(void)state;
	real_stderr = dup(STDERR_FILENO);
	if (pipe2(out, O_NONBLOCK) || dup2(out[1], STDERR_FILENO) < 0)
		return -1;
	/* The log's own end blocks, as a user's does. */
	return fcntl(STDERR_FILENO, F_SETFL, 0);
}

static int teardown(void **state)
{
	(void)state;
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	close(out[0]);
	close(out[1]);
	log_set_level(LOG_NOTICE);
	log_set_crlf(false);
	return 0;
}

/* What was logged since the last call. */
static const char *logged(void)
{
	static char text[8192];
	ssize_t n = read(out[0], text, sizeof(text) - 1);

	text[MAX(n, 0)] = '\0';
	return text;
}

static void test_lines_have_a_prefix_and_a_level(void **state)
{
	(void)state;
	log_info("dropped");
	assert_string_equal(logged(), "");
	log_error("disk %d: %s", 3, "gone");
	assert_string_equal(logged(), "skep: error: disk 3: gone\n");
	log_warn("w");
	assert_string_equal(logged(), "skep: warning: w\n");
	log_notice("the console is at /dev/pts/0");
	assert_string_equal(logged(), "skep: the console is at /dev/pts/0\n");
	log_set_level(LOG_DEBUG);
	log_info("i");
	log_debug("d");
	assert_string_equal(logged(), "skep: i\nskep: debug: d\n");
}

static void test_raw_terminals_get_crlf(void **state)
{
	(void)state;
	log_set_crlf(true);
	log_warn("x");
	assert_string_equal(logged(), "skep: warning: x\r\n");
}

static void test_long_lines_are_cut(void **state)
{
	char text[3000];
	const char *line;

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_set_crlf(true);
	log_warn("%s", text);
	line = logged();
	assert_in_range(strlen(line), 1000, 1024);
	assert_string_equal(line + strlen(line) - 3, "a\r\n");
}

static void test_control_characters_do_not_reach_the_terminal(void **state)
{
	(void)state;
	log_warn("%s", "\x1b[2J\a\r\nskep: error: forged\x7f \xc3\xa9");
	assert_string_equal(logged(), "skep: warning: ?[2J???skep: error: forged? \xc3\xa9\n");
}

static void test_bursts_are_limited_and_counted(void **state)
{
	struct log_limit limit = {0};

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		log_limited(&limit, LOG_WARN, "%u", i);
	assert_string_equal(logged(), "skep: warning: 0\nskep: warning: 1\nskep: warning: 2\n"
				      "skep: warning: 3\nskep: warning: 4\nskep: warning: 5\n"
				      "skep: warning: 6\nskep: warning: 7\n");

	/* The period is over: as if the window had begun that much earlier. */
	limit.window_start -= LOG_PERIOD_NS;
	log_limited(&limit, LOG_WARN, "again");
	assert_string_equal(logged(), "skep: warning: 92 more lines like the next one were "
				      "dropped\nskep: warning: again\n");

	/* A quiet window has nothing to account for. */
	limit.window_start -= LOG_PERIOD_NS;
	log_limited(&limit, LOG_WARN, "quiet");
	assert_string_equal(logged(), "skep: warning: quiet\n");

	log_limited(&limit, LOG_INFO, "below the level");
	assert_string_equal(logged(), "");
}

static void test_each_call_site_has_its_own_limit(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++)
		log_guest("a");
	logged();
	log_guest("b");
	assert_string_equal(logged(), "skep: warning: b\n");
}

static void *log_much(void *arg)
{
	struct log_limit *limit = arg;

	for (int i = 0; i < 5000; i++)
		log_limited(limit, LOG_WARN, "from a thread");
	return NULL;
}

static void test_threads_share_a_limit(void **state)
{
	struct log_limit limit = {0};
	const char *text;
	pthread_t thread[4];
	unsigned lines = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(thread); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, log_much, &limit), 0);
	for (size_t i = 0; i < ARRAY_SIZE(thread); i++)
		pthread_join(thread[i], NULL);
	for (text = logged(); (text = strstr(text, "from a thread\n")); text++)
		lines++;
	assert_int_equal(lines, LOG_BURST);
	assert_int_equal(limit.count, 4 * 5000);
}

/* A stalled reader: lines are dropped, errors too, and nobody waits. */
static void test_full_stderr_does_not_block(void **state)
{
	static char fill[4096];

	(void)state;
	assert_int_equal(fcntl(out[1], F_SETFL, O_NONBLOCK), 0);
	while (write(out[1], fill, sizeof(fill)) > 0)
		;
	assert_int_equal(fcntl(out[1], F_SETFL, 0), 0);
	log_warn("would wait for ever");
	log_error("this, too");
	while (read(out[0], fill, sizeof(fill)) > 0)
		;
	log_warn("goes on");
	assert_string_equal(logged(), "skep: warning: goes on\n");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_lines_have_a_prefix_and_a_level),
		T(test_raw_terminals_get_crlf),
		T(test_long_lines_are_cut),
		T(test_control_characters_do_not_reach_the_terminal),
		T(test_bursts_are_limited_and_counted),
		T(test_each_call_site_has_its_own_limit),
		T(test_threads_share_a_limit),
		T(test_full_stderr_does_not_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
