// SPDX-License-Identifier: BSD-2-Clause
/* What a hostile guest says to the relay, and a hostile skep to the agent. */
#include "agent_fixture.h"

#include <endian.h>

struct step {
	uint8_t type, stream;
	uint32_t value, len; /* so many zeros follow; ... */
	uint32_t said;	     /* ... this is what is said, unless it is 0 */
};

static void send_step(int fd, const struct step *s)
{
	static uint8_t zeros[65536];
	struct agent_message m = {s->type, s->stream,
				  htole16((uint16_t)(s->said ? s->said : s->len)),
				  htole32(s->value)};

	if (write_full(fd, &m, sizeof(m)) > 0)
		write_full(fd, zeros, s->len);
}

static bool is_step(const struct step *s)
{
	return s->type || s->value;
}

#define MAX_STEPS 12u
static const struct hostile {
	const char *name, *says;
	struct step steps[MAX_STEPS];
} hostile[] = {
	{"data before hello", "out of order", {{AGENT_DATA, AGENT_STDOUT, 0, 1, 0}}},
	{"two hellos", "out of order", {{.value = AGENT_VERSION}, {.value = AGENT_VERSION}}},
	{"another version", "of another version of skep (7, not 2)", {{.value = 7}}},
	{"an unknown type", "no meaning", {{.value = AGENT_VERSION}, {200, 0, 0, 0, 0}}},
	{"a message to the agent",
	 "no meaning",
	 {{.value = AGENT_VERSION}, {AGENT_SIGNAL, 0, 9, 0, 0}}},
	{"output to standard input",
	 "may not send",
	 {{.value = AGENT_VERSION}, {AGENT_DATA, AGENT_STDIN, 0, 1, 0}}},
	{"output to no stream",
	 "may not send",
	 {{.value = AGENT_VERSION}, {AGENT_DATA, 6, 0, 1, 0}}},
	{"output of no command",
	 "out of order",
	 {{.value = AGENT_VERSION}, {AGENT_DATA, AGENT_STREAM_OF(1, 1), 0, 1, 0}}},
	{"output of a command beyond all",
	 "out of order",
	 {{.value = AGENT_VERSION}, {AGENT_DATA, 255, 0, 1, 0}}},
	{"the end of no stream",
	 "is none",
	 {{.value = AGENT_VERSION}, {AGENT_END, AGENT_SETUP, 0, 0, 0}}},
	{"output of no length",
	 "may not send",
	 {{.value = AGENT_VERSION}, {AGENT_DATA, AGENT_STDOUT, 0, 0, 0}}},
	{"a length too large",
	 "no length",
	 {{.value = AGENT_VERSION}, {AGENT_DATA, AGENT_STDOUT, 0, 0, 32761}}},
	{"the largest length",
	 "no length",
	 {{.value = AGENT_VERSION}, {AGENT_DATA, AGENT_STDOUT, 0, 0, 65535}}},
	{"a length where there is none",
	 "no length",
	 {{.value = AGENT_VERSION}, {AGENT_CREDIT, 0, 1, 4, 0}}},
	{"output after its end",
	 "may not send",
	 {{.value = AGENT_VERSION},
	  {AGENT_END, AGENT_STDOUT, 0, 0, 0},
	  {AGENT_DATA, AGENT_STDOUT, 0, 1, 0}}},
	{"artifacts that nobody wants",
	 "may not send",
	 {{.value = AGENT_VERSION}, {AGENT_DATA, AGENT_ARTIFACTS, 0, 1, 0}}},
	{"credit for what was not sent",
	 "more input",
	 {{.value = AGENT_VERSION}, {AGENT_CREDIT, AGENT_STDIN, 1, 0, 0}}},
	{"credit that overflows",
	 "more input",
	 {{.value = AGENT_VERSION}, {AGENT_CREDIT, AGENT_STDIN, UINT32_MAX, 0, 0}}},
	{"credit for output",
	 "more input",
	 {{.value = AGENT_VERSION}, {AGENT_CREDIT, AGENT_STDOUT, 1, 0, 0}}},
	{"a signal that is none",
	 "signal that is none",
	 {{.value = AGENT_VERSION}, {AGENT_EXIT, 0, 65 << 8, 0, 0}}},
	{"an end of no meaning",
	 "signal that is none",
	 {{.value = AGENT_VERSION}, {AGENT_EXIT, 0, 2 * AGENT_OUT_OF_MEMORY, 0, 0}}},
	{"something after the end",
	 "out of order",
	 {{.value = AGENT_VERSION}, {AGENT_EXIT, 0, 0, 0, 0}, {AGENT_DATA, AGENT_STDOUT, 0, 1, 0}}},
};

static void test_what_breaks_the_protocol_ends_the_talk(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
		struct error e = {""};
		struct fixture f;
		char byte;

		fclose(begin_setup(&f));
		make_streams(&f);
		start_relay(&f, false);
		for (size_t n = 0; n < MAX_STEPS && is_step(&hostile[i].steps[n]); n++)
			send_step(f.port, &hostile[i].steps[n]);
		while (read(f.port, &byte, 1) > 0)
			; /* until it hangs up */
		loop_stop(f.loop);
		relay_finish(f.relay);
		if (strcmp(hostile[i].name, "something after the end") != 0 &&
		    (relay_result(f.relay, &e) != -EPROTO || !strstr(e.msg, hostile[i].says)))
			fail_msg("%s: said '%s'", hostile[i].name, e.msg);
		f.agent = fork();
		if (f.agent == 0)
			_exit(0);
		end_command(&f);
	}
}

/* More than the window, while nobody reads. */
static void test_output_beyond_the_window_is_refused(void **state)
{
	struct error e = {""};
	struct fixture f;
	char byte;

	(void)state;
	fclose(begin_setup(&f));
	make_streams(&f);
	start_relay(&f, false);
	fcntl(f.port, F_SETFL, O_NONBLOCK);
	send_step(f.port, &(struct step){.value = AGENT_VERSION});
	for (size_t n = 0; relay_result(f.relay, &e) != -EPROTO; n++) {
		struct pollfd p = {.fd = f.port, .events = POLLOUT};

		assert_true(n < 100);
		poll(&p, 1, patience_ms());
		send_step(f.port, &(struct step){AGENT_DATA, AGENT_STDERR, 0, 16384, 0});
		settle(f.loop);
	}
	assert_non_null(strstr(e.msg, "may not send"));
	while (read(f.port, &byte, 1) > 0)
		;
	f.agent = fork();
	if (f.agent == 0)
		_exit(0);
	end_command(&f);
}

/* The guest may end at any time: the reason says how far it got. */
static void test_an_end_before_the_commands_own_is_told(void **state)
{
	struct error e = {""};
	struct fixture f;

	(void)state;
	fclose(begin_setup(&f));
	make_streams(&f);
	start_relay(&f, false);
	assert_int_equal(relay_result(f.relay, &e), -ENODATA);
	assert_non_null(strstr(e.msg, "started no agent"));
	send_step(f.port, &(struct step){.value = AGENT_VERSION});
	send_step(f.port, &(struct step){AGENT_DATA, AGENT_STDOUT, 0, 5, 0});
	free(read_some(f.out, 5, &(size_t){0}));
	assert_int_equal(relay_result(f.relay, &e), -ECHILD);
	f.agent = fork();
	if (f.agent == 0)
		_exit(0);
	end_command(&f);
}

static const struct step to_agent[] = {
	{200, 0, 0, 0, 0},
	{AGENT_HELLO, 0, 1, 0, 0},
	{AGENT_EXIT, 0, 0, 0, 0},
	{AGENT_DATA, AGENT_STDOUT, 0, 1, 0},
	{AGENT_DATA, AGENT_SETUP, 0, 0, 65535},
	{AGENT_CREDIT, AGENT_STDOUT, 1, 0, 0},
	{AGENT_CREDIT, AGENT_STDERR, UINT32_MAX, 0, 0},
	{AGENT_SIGNAL, 0, 9, 0, 0},	   /* before there is a command */
	{AGENT_END, AGENT_SETUP, 0, 0, 0}, /* without one */
};

static void test_the_agent_takes_no_nonsense(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(to_agent); i++) {
		struct fixture f = {.port = -1};
		int pair[2], status;

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		fcntl(pair[0], F_SETFD, FD_CLOEXEC);
		f.port = pair[1];
		start_agent(&f);
		send_step(pair[0], &to_agent[i]);
		assert_int_equal(waitpid(f.agent, &status, 0), f.agent);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 125);
		close(pair[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_breaks_the_protocol_ends_the_talk),
		cmocka_unit_test(test_output_beyond_the_window_is_refused),
		cmocka_unit_test(test_an_end_before_the_commands_own_is_told),
		cmocka_unit_test(test_the_agent_takes_no_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
