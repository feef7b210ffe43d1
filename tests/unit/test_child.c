// SPDX-License-Identifier: BSD-2-Clause
/* Programs that skep runs while a VM starts. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/child.h"
#include "base/util.h"

/* A shell that runs `script`. */
static int run(const char *script, int out, int extra, struct error *e)
{
	char *argv[] = {"sh", "-c", (char *)(uintptr_t)script, NULL};

	*e = (struct error){""};
	return child_run(argv, out, extra, e);
}

static void test_what_a_program_gets(void **state)
{
	char text[100] = "";
	struct error e;
	int out[2], extra[2];

	(void)state;
	assert_int_equal(pipe(out), 0);
	assert_int_equal(pipe(extra), 0);
	signal(SIGUSR1, SIG_IGN);
	if (run("cat; echo extra >&3; kill -USR1 $$; echo alive", out[1], extra[1], &e) != -EIO)
		fail_msg("a signal that skep ignores is ignored there");
	assert_string_equal(e.msg, "it ended by SIGUSR1");
	assert_int_equal(read(extra[0], text, sizeof(text)), 6);
	if (run("cat; echo output; ls /proc/self/fd | wc -l", out[1], -1, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(read(out[0], text, sizeof(text)), 9);
	assert_memory_equal(text, "output\n4\n", 9); /* that of the directory, too */
	assert_int_equal(run("echo nowhere", -1, -1, &e), 0);
}

static void test_why_a_program_failed(void **state)
{
	static const struct {
		const char *script, *says;
	} bad[] = {
		{"exit 3", "it ended with status 3, and did not say why"},
		{"kill -SEGV $$", "it ended by SIGSEGV"},
		{"echo first >&2; echo last >&2; echo >&2; exit 1", "last"},
		{"echo no such option >&2; echo Usage: x >&2; echo '  -v' >&2; exit 1",
		 "no such option"},
		{"printf 'a\\033[2Jb\\n' >&2; exit 1", "a?[2Jb"},
	};
	struct error e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(run(bad[i].script, -1, -1, &e), -EIO);
		assert_string_equal(e.msg, bad[i].says);
	}
	assert_int_equal(child_run((char *[]){"/nonexistent/x", NULL}, -1, -1, &e), -ENOENT);
	assert_int_equal(child_run((char *[]){"/", NULL}, -1, -1, &e), -EACCES);
	assert_string_equal(e.msg, "cannot be started: Permission denied");
	signal(SIGCHLD, SIG_IGN);
	assert_int_equal(run("exit 3", -1, -1, &e), 0);
	signal(SIGCHLD, SIG_DFL);
}

/* One that hangs would stay for ever when skep was killed while it waited. */
static void test_a_program_that_hangs_ends_with_skep(void **state)
{
	struct error e;
	int out[2], status;
	char byte;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		run("echo; exec sleep 100000", out[1], -1, &e);
		_exit(0);
	}
	close(out[1]);
	assert_int_equal(read(out[0], &byte, 1), 1);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(read(out[0], &byte, 1), 0); /* nobody has the other end */
	close(out[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_a_program_gets),
		cmocka_unit_test(test_why_a_program_failed),
		cmocka_unit_test(test_a_program_that_hangs_ends_with_skep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
