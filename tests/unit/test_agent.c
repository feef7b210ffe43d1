// SPDX-License-Identifier: BSD-2-Clause
/* `skep run -- COMMAND`, without the VM: the relay and the agent, which runs real commands. */
#include "agent_fixture.h"

#include "agent/pack.h"

#include <sys/ioctl.h>
#include <sys/stat.h>

#define SIGNALLED(sig) ((sig) << 8)
#define ARGUMENT       100000u
#define MUCH	       (100 * MIB)

static void test_arguments_are_the_same_bytes(void **state)
{
	_cleanup_free_ char *large = malloc(ARGUMENT + 1);
	const char *const odd[] = {"",	 " a  b ", "'\"\\$x`", "line\nline", "\xff\xfe\x01\t",
				   "--", "-x"};
	const char *words[16] = {"sh", "-c", "for a; do printf '%s\\0' \"$a\"; done", "sh"};
	struct fixture f;
	char *got, *p;
	size_t len, n = 4;

	(void)state;
	memset(large, 'x', ARGUMENT);
	large[ARGUMENT] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
		words[n++] = odd[i];
	words[n++] = large;
	start_command(&f, words);
	len = ARGUMENT + 1;
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
		len += strlen(odd[i]) + 1;
	p = got = read_some(f.out, len, &len);
	for (size_t i = 4; i < n; i++, p += strlen(p) + 1)
		assert_string_equal(p, words[i]);
	assert_int_equal(p - got, len);
	free(got);
	assert_int_equal(end_command(&f), 0);
}

static void test_streams_are_apart_and_can_be_opened_again(void **state)
{
	struct fixture f;

	(void)state;
	start_command(&f,
		      COMMAND("sh", "-c",
			      "echo one; echo two >&2; echo three >/dev/stdout; "
			      "echo four >/dev/stderr; printf '\\000\\r\\n\\001' | od -An -tx1"));
	assert_int_equal(finish(&f, "one\nthree\n 00 0d 0a 01\n", "two\nfour\n"), 0);
}

/* A byte at `at` of what is sent, so that none can be lost or move. */
static uint8_t byte_at(size_t at)
{
	return (uint8_t)(at ^ at >> 8 ^ at >> 16 ^ at >> 24);
}

static pid_t send_much(struct fixture *f)
{
	pid_t pid = fork();
	uint8_t block[8192];

	if (pid) {
		close_end(&f->in);
		return pid;
	}
	close_end(&f->out);
	for (size_t at = 0; at < MUCH;) {
		for (size_t i = 0; i < sizeof(block); i++)
			block[i] = byte_at(at + i);
		if (write_full(f->in, block, sizeof(block)) != sizeof(block))
			_exit(1);
		at += sizeof(block);
	}
	_exit(0);
}

static void test_much_comes_back_as_it_was_sent(void **state)
{
	struct fixture f;
	pid_t sender;
	size_t at = 0;
	int status;

	(void)state;
	start_command(&f, COMMAND("cat"));
	sender = send_much(&f);
	while (at < MUCH) {
		size_t len;
		char *got = read_some(f.out, MIN(MUCH - at, 65536), &len);

		assert_true(len > 0);
		for (size_t i = 0; i < len; i++, at++)
			if ((uint8_t)got[i] != byte_at(at))
				fail_msg("byte %zu is another", at);
		free(got);
	}
	assert_int_equal(waitpid(sender, &status, 0), sender);
	assert_int_equal(status, 0);
	assert_int_equal(end_command(&f), 0);
}

/* The command stands still until somebody reads; the other stream goes on. */
static void test_a_reader_that_is_slow_loses_nothing(void **state)
{
	struct relay_counters counters;
	struct fixture f;
	size_t len;
	char *got;

	(void)state;
	start_command(&f, COMMAND("sh", "-c",
				  "head -c 3000000 /dev/zero | tr '\\000' x & "
				  "for i in 1 2 3; do echo $i >&2; done; wait"));
	got = read_some(f.err, 6, &len);
	assert_string_equal(got, "1\n2\n3\n");
	free(got);
	relay_counters(f.relay, &counters);
	assert_true(counters.stdout_bytes <= 65536 + 4096); /* what a pipe takes */
	got = read_some(f.out, 3000000, &len);
	assert_int_equal(len, 3000000);
	assert_int_equal(strspn(got, "x"), 3000000);
	free(got);
	assert_int_equal(end_command(&f), 0);
}

static void test_input_ends_while_output_goes_on(void **state)
{
	struct fixture f;

	(void)state;
	start_command(&f, COMMAND("sh", "-c", "cat; echo after; exit 4"));
	assert_int_equal(write(f.in, "before\n", 7), 7);
	close_end(&f.in);
	assert_int_equal(finish(&f, "before\nafter\n", ""), 4);
}

/* So the rest is for whoever comes next at the same stream. */
static void test_a_command_that_reads_no_more_takes_no_more(void **state)
{
	static uint8_t block[65536];
	struct relay_counters counters;
	struct fixture f;

	(void)state;
	start_command(&f, COMMAND("sh", "-c", "exec <&-; echo closed; read x <&2; exit 0"));
	free(read_some(f.out, 7, &(size_t){0}));
	while (f.in >= 0) {
		struct pollfd p = {.fd = f.in, .events = POLLOUT};

		if (poll(&p, 1, 200) == 0)
			break; /* nobody takes it */
		relay_counters(f.relay, &counters);
		assert_true(counters.stdin_bytes <= (int64_t)AGENT_WINDOW);
		assert_true(write(f.in, block, 4096) > 0);
	}
	relay_signal(f.relay, SIGTERM);
	end_command(&f);
}

static void test_output_that_nobody_reads_is_a_broken_pipe(void **state)
{
	struct fixture f;

	(void)state;
	start_command(&f, COMMAND("yes"));
	free(read_some(f.out, 100, &(size_t){0}));
	close_end(&f.out);
	assert_int_equal(end_command(&f), SIGNALLED(SIGPIPE));
}

static void test_statuses(void **state)
{
	char dir[] = "/tmp/skep-agent.XXXXXX", path[64];
	struct fixture f;

	(void)state;
	start_command(&f, COMMAND("sh", "-c", "exit 3"));
	assert_int_equal(finish(&f, "", ""), 3);
	start_command(&f, COMMAND("sh", "-c", "kill -9 $$"));
	assert_int_equal(finish(&f, "", ""), SIGNALLED(SIGKILL));
	start_command(&f, COMMAND("skep-no-such-command"));
	assert_int_equal(finish(&f, "", "skep: skep-no-such-command: command not found\n"), 127);
	start_command(&f, COMMAND("/nowhere/x"));
	assert_int_equal(finish(&f, "", "skep: /nowhere/x: No such file or directory\n"), 127);
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s", dir);
	start_command(&f, COMMAND(path));
	end_command(&f);
	start_command(&f, COMMAND(path));
	assert_int_equal(end_command(&f), 126);
	rmdir(dir);
}

static void test_signals_reach_all_of_the_command(void **state)
{
	static const int all[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	char line[8];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct fixture f;

		start_command(&f,
			      COMMAND("sh", "-c",
				      "trap 'echo INT; exit 1' INT; trap 'echo TERM; exit 2' TERM;"
				      "trap 'echo HUP; exit 3' HUP; trap 'echo QUIT; exit 4' QUIT;"
				      "echo up; while :; do sleep 0.1; done"));
		free(read_some(f.out, 3, &(size_t){0}));
		relay_signal(f.relay, all[i]);
		snprintf(line, sizeof(line), "%s\n", sigabbrev_np(all[i]));
		assert_int_equal(finish(&f, line, ""), i + 1);
	}
}

static void test_what_is_ignored_outside_is_ignored_inside(void **state)
{
	struct fixture f;
	FILE *setup = begin_setup(&f);

	(void)state;
	add_command(setup,
		    COMMAND("sh", "-c", "kill -HUP $$; kill -INT $$; echo alive; kill -TERM $$"));
	add_text(setup, AGENT_IGNORED, "1");
	add_text(setup, AGENT_IGNORED, "2");
	start_all(&f, setup, false);
	assert_int_equal(finish(&f, "alive\n", ""), SIGNALLED(SIGTERM));
}

static void test_what_stays_behind_holds_up_nothing(void **state)
{
	struct fixture f;

	(void)state;
	start_command(&f, COMMAND("sh", "-c", "setsid sleep 1000 & echo $!"));
	free(read_some(f.out, 1, &(size_t){0}));
	assert_int_equal(end_command(&f), 0);
}

static void test_a_terminal_has_size_and_keys(void **state)
{
	struct fixture f;
	FILE *setup = begin_setup(&f);
	size_t len;
	char *got;

	(void)state;
	add_command(setup, COMMAND("sh", "-c",
				   "trap 'stty size; exit 7' WINCH; trap 'echo keys' INT; "
				   "tty >/dev/null && stty size; while :; do sleep 0.1; done"));
	add_text(setup, AGENT_TERMINAL, "");
	f.size = 100u << 16 | 40;
	start_all(&f, setup, true);
	got = read_some(f.out, 8, &len);
	assert_string_equal(got, "40 100\r\n");
	free(got);
	assert_int_equal(write(f.in, "\003", 1), 1);
	got = read_some(f.out, 8, &len);
	assert_string_equal(got, "^Ckeys\r\n");
	free(got);
	f.size = 132u << 16 | 50;
	relay_resize(f.relay);
	got = read_some(f.out, 8, &len);
	assert_string_equal(got, "50 132\r\n");
	free(got);
	assert_int_equal(end_command(&f), 7);
}

/* Reads until `what` comes. */
static void expect(int fd, const char *what)
{
	char seen[4096] = "";
	size_t n = 0;

	while (!strstr(seen, what)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t r = poll(&p, 1, patience_ms()) == 1 ? read(fd, seen + n, 1) : 0;

		if (r <= 0 || n + 2 > sizeof(seen))
			fail_msg("no '%s' in: %s", what, seen);
		seen[++n] = '\0';
	}
}

/* A shell there has jobs, as anywhere. */
static void test_a_terminal_stops_jobs_of_a_shell(void **state)
{
	static const char first[] = "cat\n", again[] = "fg\n", text[] = "echoed\n",
			  end[] = "exit 9\n";
	struct fixture f;
	FILE *setup = begin_setup(&f);

	(void)state;
	add_command(setup, COMMAND("sh", "-i"));
	add_text(setup, AGENT_TERMINAL, "");
	add_text(setup, AGENT_VARIABLE, "PS1=ready>");
	f.size = 80u << 16 | 25;
	start_all(&f, setup, true);
	expect(f.out, "ready>");
	assert_true(write(f.in, first, sizeof(first) - 1) > 0);
	expect(f.out, "cat\r\n");
	assert_true(write(f.in, text, sizeof(text) - 1) > 0);
	expect(f.out, "echoed\r\nechoed\r\n");
	assert_true(write(f.in, "\032", 1) > 0);
	expect(f.out, "topped");
	expect(f.out, "ready>");
	assert_true(write(f.in, again, sizeof(again) - 1) > 0);
	expect(f.out, "fg\r\ncat\r\n");
	assert_true(write(f.in, text, sizeof(text) - 1) > 0);
	expect(f.out, "echoed\r\nechoed\r\n");
	assert_true(write(f.in, "\004", 1) > 0);
	expect(f.out, "ready>");
	assert_true(write(f.in, end, sizeof(end) - 1) > 0);
	assert_int_equal(end_command(&f), 9);
}

static void test_a_terminal_ends_its_input_by_a_key(void **state)
{
	struct fixture f;
	FILE *setup = begin_setup(&f);

	(void)state;
	add_command(setup, COMMAND("sh", "-c", "stty -echo; echo up; cat; exit 5"));
	add_text(setup, AGENT_TERMINAL, "");
	f.size = 80u << 16 | 25;
	start_all(&f, setup, true);
	free(read_some(f.out, 4, &(size_t){0}));
	assert_int_equal(write(f.in, "line\n", 5), 5);
	close_end(&f.in);
	assert_int_equal(finish(&f, "line\r\n", ""), 5);
}

static void test_surroundings(void **state)
{
	char dir[] = "/tmp/skep-agent.XXXXXX", want[256];
	struct fixture f;
	FILE *setup = begin_setup(&f);

	(void)state;
	assert_non_null(mkdtemp(dir));
	add_command(setup, COMMAND("sh", "-c",
				   "pwd; umask; ulimit -S -n; ulimit -H -n; env | grep ^A | sort"));
	add_text(setup, AGENT_DIRECTORY, dir);
	add_text(setup, AGENT_UMASK, "47");
	add_text(setup, AGENT_LIMIT, "7 100 200");
	add_text(setup, AGENT_VARIABLE, "A=1");
	add_text(setup, AGENT_VARIABLE, "AB=a\tb");
	add_text(setup, AGENT_VARIABLE, "A=2");
	start_all(&f, setup, false);
	snprintf(want, sizeof(want), "%s\n0057\n100\n200\nA=2\nAB=a\tb\n", dir);
	assert_int_equal(finish(&f, want, ""), 0);
	rmdir(dir);
}

static void test_users(void **state)
{
	static const struct {
		char what;
		const char *text, *says;
		int status;
	} users[] = {
		{AGENT_USER, "nobody", "65534 65534 nobody\n", 0},
		{AGENT_USER, "65534", "65534 65534 nobody\n", 0},
		{AGENT_USER, "12345:54321", "12345 54321\n", 0},
		{AGENT_USER, "no-such-user", "", 125},
	};

	(void)state;
	if (geteuid() != 0)
		skip(); /* it takes root to be somebody else */
	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		struct fixture f;
		FILE *setup = begin_setup(&f);

		add_command(setup,
			    COMMAND("sh", "-c", "echo $(id -u) $(id -g) $USER >/dev/stdout"));
		add_text(setup, users[i].what, users[i].text);
		start_all(&f, setup, false);
		assert_int_equal(finish(&f, users[i].says, ""), users[i].status);
	}
}

static void say_what_is_missing(const char *text)
{
	print_message("%s\n", text);
}

/* The command has failed, and its output is not read yet. */
static void test_artifacts_come_after_the_end(void **state)
{
	char dir[] = "/tmp/skep-agent.XXXXXX", path[64], text[8] = "";
	struct fixture f;
	FILE *setup = begin_setup(&f), *in;
	int p[2];

	(void)state;
	assert_non_null(mkdtemp(dir));
	add_command(setup, COMMAND("sh", "-c", "mkdir d; echo text >d/file; echo said; exit 3"));
	add_text(setup, AGENT_DIRECTORY, dir);
	add_text(setup, AGENT_ARTIFACT, "d");
	add_text(setup, AGENT_ARTIFACT, "nothing");
	add_text(setup, AGENT_ARTIFACT, "d/file");
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	f.artifacts = p[1];
	start_all(&f, setup, false);
	in = fdopen(p[0], "r");
	snprintf(path, sizeof(path), "%s/copy", dir);
	assert_int_equal(unpack(in, path, say_what_is_missing), 0);
	assert_int_equal(unpack(in, path, say_what_is_missing), 1);
	assert_int_equal(unpack(in, path, say_what_is_missing), 0);
	snprintf(path, sizeof(path), "%s/copy/file", dir);
	assert_int_equal(finish(&f, "said\n", ""), 3);
	fclose(in);
	close(p[1]);
	in = fopen(path, "r");
	assert_string_equal(fgets(text, sizeof(text), in), "text\n");
	fclose(in);
	snprintf(path, sizeof(path), "rm -r %s", dir);
	assert_int_equal(system(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arguments_are_the_same_bytes),
		cmocka_unit_test(test_streams_are_apart_and_can_be_opened_again),
		cmocka_unit_test(test_much_comes_back_as_it_was_sent),
		cmocka_unit_test(test_a_reader_that_is_slow_loses_nothing),
		cmocka_unit_test(test_input_ends_while_output_goes_on),
		cmocka_unit_test(test_a_command_that_reads_no_more_takes_no_more),
		cmocka_unit_test(test_output_that_nobody_reads_is_a_broken_pipe),
		cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_signals_reach_all_of_the_command),
		cmocka_unit_test(test_what_is_ignored_outside_is_ignored_inside),
		cmocka_unit_test(test_what_stays_behind_holds_up_nothing),
		cmocka_unit_test(test_a_terminal_has_size_and_keys),
		cmocka_unit_test(test_a_terminal_stops_jobs_of_a_shell),
		cmocka_unit_test(test_a_terminal_ends_its_input_by_a_key),
		cmocka_unit_test(test_surroundings),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_artifacts_come_after_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
