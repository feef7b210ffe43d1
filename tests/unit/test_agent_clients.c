// SPDX-License-Identifier: BSD-2-Clause
/* `skep exec`, without the VM: commands of clients beside the first one. */
#include "agent_fixture.h"

#include <endian.h>
#include <sys/mman.h>

/* A client of the VM, with a command of its own. */
struct guest {
	int talk, in, out, err;
};

static void take_stream(struct std_stream *ret, int *ours, bool input)
{
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	*ours = p[input];
	*ret = (struct std_stream){.fd = p[!input], .owned = true};
	fcntl(p[!input], F_SETFL, O_NONBLOCK);
}

static int add_guest(struct fixture *f, struct guest *ret, const char *const *words,
		     struct error *e)
{
	struct relay_client client = {.setup = memfd_create("setup", MFD_CLOEXEC)};
	FILE *setup = fdopen(dup(client.setup), "w");
	int pair[2], r;

	add_command(setup, words);
	fclose(setup);
	lseek(client.setup, 0, SEEK_SET);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	fcntl(pair[1], F_SETFL, O_NONBLOCK);
	ret->talk = pair[0];
	client.talk = pair[1];
	take_stream(&client.stream[0], &ret->in, true);
	take_stream(&client.stream[1], &ret->out, false);
	take_stream(&client.stream[2], &ret->err, false);
	do
		r = relay_add(f->relay, &client, e);
	while (r == -EBUSY);
	if (r == 0)
		return 0;
	close(client.setup);
	close(client.talk);
	for (int i = 0; i < 3; i++)
		std_close(&client.stream[i]);
	return r;
}

/* What the relay says at the end; -1: it hangs up. */
static int end_guest(struct guest *g)
{
	struct agent_message m;
	ssize_t n = read_full(g->talk, &m, sizeof(m));
	char byte;

	if (n == sizeof(m))
		assert_int_equal(read(g->talk, &byte, 1), 0);
	close(g->talk);
	close_end(&g->in);
	close_end(&g->out);
	close_end(&g->err);
	if (n <= 0)
		return -1;
	assert_int_equal(n, sizeof(m));
	assert_int_equal(m.type, AGENT_EXIT);
	return (int)le32toh(m.value);
}

static void expect_text(int fd, const char *want)
{
	size_t len;
	char *got = read_some(fd, strlen(want), &len);

	assert_string_equal(got, want);
	free(got);
}

static void test_other_commands_run_beside_the_first(void **state)
{
	struct guest guest[AGENT_COMMANDS];
	struct error e = {""};
	struct fixture f;
	char text[16];

	(void)state;
	start_command(&f, COMMAND("sh", "-c", "echo up; cat; exit 2"));
	expect_text(f.out, "up\n");
	for (int i = 1; i < (int)AGENT_COMMANDS; i++)
		assert_int_equal(add_guest(&f, &guest[i],
					   COMMAND("sh", "-c", "cat; echo err >&2; exit 5"), &e),
				 0);
	assert_int_equal(add_guest(&f, &guest[0], COMMAND("true"), &e), -EUSERS);
	assert_non_null(strstr(e.msg, "16 commands at a time"));
	close_end(&guest[0].in);
	close_end(&guest[0].out);
	close_end(&guest[0].err);
	close(guest[0].talk);
	for (int i = 1; i < (int)AGENT_COMMANDS; i++) {
		snprintf(text, sizeof(text), "text %d\n", i);
		assert_true(write(guest[i].in, text, strlen(text)) > 0);
		close_end(&guest[i].in);
	}
	assert_int_equal(write(f.in, "mine\n", 5), 5);
	for (int i = AGENT_COMMANDS - 1; i; i--) {
		snprintf(text, sizeof(text), "text %d\n", i);
		expect_text(guest[i].out, text);
		expect_text(guest[i].err, "err\n");
		assert_int_equal(end_guest(&guest[i]), 5);
	}
	/* Their numbers are free again. */
	assert_int_equal(add_guest(&f, &guest[1], COMMAND("echo", "again"), &e), 0);
	expect_text(guest[1].out, "again\n");
	assert_int_equal(end_guest(&guest[1]), 0);
	close_end(&f.in);
	assert_int_equal(finish(&f, "mine\n", ""), 2);
}

static void talk(const struct guest *g, uint8_t type, uint32_t value)
{
	struct agent_message m = {.type = type, .value = htole32(value)};

	assert_int_equal(write(g->talk, &m, sizeof(m)), sizeof(m));
}

static void test_a_client_signals_and_hangs_up(void **state)
{
	static const char *const words[] = {"sh", "-c",
					    "trap 'echo told; exit 7' TERM; echo up;"
					    "while :; do sleep 0.1; done",
					    NULL};
	struct guest guest;
	struct fixture f;

	(void)state;
	start_command(&f, COMMAND("cat"));
	assert_int_equal(add_guest(&f, &guest, words, NULL), 0);
	expect_text(guest.out, "up\n");
	talk(&guest, AGENT_SIGNAL, SIGTERM);
	expect_text(guest.out, "told\n");
	assert_int_equal(end_guest(&guest), 7);
	assert_int_equal(
		add_guest(&f, &guest, COMMAND("sh", "-c", "echo $$; exec sleep 1000"), NULL), 0);
	free(read_some(guest.out, 2, &(size_t){0}));
	talk(&guest, AGENT_HELLO, 1); /* what makes no sense hangs up as well */
	assert_int_equal(end_guest(&guest), -1);
	assert_int_equal(
		add_guest(&f, &guest, COMMAND("sh", "-c", "echo up; exec sleep 1000"), NULL), 0);
	expect_text(guest.out, "up\n");
	close(guest.talk);
	/* Its output ends with it. */
	free(read_some(guest.out, 1, &(size_t){0}));
	guest.talk = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(end_guest(&guest), -1);
	assert_int_equal(end_command(&f), 0);
}

static void test_a_vm_that_ends_hangs_up_on_clients(void **state)
{
	struct guest guest;
	struct fixture f;

	(void)state;
	start_command(&f, COMMAND("cat"));
	assert_int_equal(
		add_guest(&f, &guest, COMMAND("sh", "-c", "echo up; exec sleep 1000"), NULL), 0);
	expect_text(guest.out, "up\n");
	assert_int_equal(end_command(&f), 0);
	assert_int_equal(end_guest(&guest), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_other_commands_run_beside_the_first),
		cmocka_unit_test(test_a_client_signals_and_hangs_up),
		cmocka_unit_test(test_a_vm_that_ends_hangs_up_on_clients),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
