// SPDX-License-Identifier: BSD-2-Clause
/* Files as bytes and back, and bytes that no good agent would send. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/pack.h"
#include "base/util.h"
#include "cli/run.h"

static char said[65536];

static void note(const char *text)
{
	strncat(said, text, sizeof(said) - strlen(said) - 2);
	strcat(said, "\n");
}

/* What a shell says of the directory that the tests are in. */
static char *shell(const char *command)
{
	static char text[4096];
	FILE *f = popen(command, "r");

	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	pclose(f);
	return text;
}

static int enter(void **state)
{
	char dir[] = "/tmp/skep-pack.XXXXXX";

	said[0] = '\0';
	umask(022);
	if (!mkdtemp(dir) || chdir(dir) < 0)
		return -1;
	*state = strdup(dir);
	return 0;
}

static int leave(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", (char *)*state,
		 (char *)*state);
	free(*state);
	return chdir("/") < 0 || system(command);
}

/* Packs and unpacks; what unpack() returns. */
static int copy(const char *from, const char *to)
{
	char *bytes;
	size_t len;
	FILE *f = open_memstream(&bytes, &len);
	int r;

	pack(f, from);
	fclose(f);
	f = fmemopen(bytes, len, "r");
	r = unpack(f, to, note);
	assert_int_equal(fgetc(f), EOF); /* all of it was taken */
	fclose(f);
	free(bytes);
	return r;
}

static void test_a_tree_comes_out_as_it_went_in(void **state)
{
	(void)state;
	shell("mkdir -p from/sub/empty from/closed; printf 'a\\000b' >from/bin; : >from/none;"
	      "head -c 300000 /dev/urandom >from/sub/large; ln -s /nowhere/x from/dangling; ln -s "
	      "bin from/link;"
	      "printf x >\"$(printf 'from/\\377 \\n')\"; chmod 4755 from/bin; chmod 640 from/none;"
	      "echo in >from/closed/in; chmod 555 from/closed");
	assert_int_equal(copy("from/", "to"), 0);
	assert_string_equal(said, "");
	assert_string_equal(shell("diff -r --no-dereference from to 2>&1"), "");
	assert_string_equal(shell("stat -c '%a %N' to/bin to/none to/closed to/link to/dangling"),
			    "755 'to/bin'\n640 'to/none'\n555 'to/closed'\n777 'to/link' -> 'bin'\n"
			    "777 'to/dangling' -> '/nowhere/x'\n");
}

static void test_one_file_and_where_it_goes(void **state)
{
	(void)state;
	shell("echo text >file; ln -s file link; mkdir dir; echo old >there; mkfifo pipe");
	assert_int_equal(copy("link", "copy"), 0);
	assert_int_equal(copy("file", "dir"), 0);
	assert_int_equal(copy("file", "there"), 0);
	assert_string_equal(shell("cat copy dir/file there; test -L copy || echo file"),
			    "text\ntext\ntext\nfile\n");
	assert_int_equal(copy("dir", "there"), 1);
	assert_non_null(strstr(said, "'there': Not a directory"));
	assert_int_equal(copy("file", "pipe"), 1); /* it is not replaced, nor written */
	assert_string_equal(shell("stat -c %F pipe"), "fifo\n");
}

static void test_a_directory_that_is_there_is_merged(void **state)
{
	(void)state;
	shell("mkdir -p a/sub b/sub victim; echo new >a/sub/x; echo old >b/sub/x; echo own >b/own;"
	      "mkdir a/out; echo no >a/out/file; ln -s ../victim b/out");
	assert_int_equal(copy("a", "b"), 1);
	assert_string_equal(shell("cat b/sub/x b/own; ls victim"), "new\nown\n");
	assert_non_null(strstr(said, "'out': Not a directory"));
}

static void test_what_is_not_there_is_told(void **state)
{
	(void)state;
	assert_int_equal(copy("nothing", "to"), 1);
	assert_string_equal(said, "'nothing': No such file or directory\n");
	shell("mkdir from; mkfifo from/pipe; echo x >from/x");
	assert_int_equal(copy("from", "to"), 1);
	assert_non_null(strstr(said, "'from/pipe': is no file or directory"));
	assert_string_equal(shell("ls to"), "x\n");
	shell("i=0; d=deep; while [ $i -lt 130 ]; do d=$d/d; i=$((i+1)); done; mkdir -p $d");
	assert_int_equal(copy("deep", "deep2"), 1);
	assert_non_null(strstr(said, "is too deep"));
}

struct step {
	char type;
	uint16_t mode;
	const char *data;
	uint32_t said; /* its length, unless it is 0 */
};

static int feed(const struct step *steps)
{
	char *bytes;
	size_t len;
	FILE *f = open_memstream(&bytes, &len);
	int r;

	for (; steps->type; steps++) {
		size_t n = steps->data ? strlen(steps->data) : 0;
		struct pack_record record = {
			.type = (uint8_t)steps->type,
			.mode = htole16(steps->mode),
			.len = htole32(steps->said ? steps->said : (uint32_t)n)};

		fwrite(&record, sizeof(record), 1, f);
		fwrite(steps->data, 1, n, f);
	}
	fclose(f);
	f = fmemopen(bytes, len + 1, "r"); /* its NUL, too: a length of 0 is none */
	r = unpack(f, "to", note);
	fclose(f);
	free(bytes);
	return r;
}

static const struct hostile {
	const char *name;
	int result;
	struct step steps[8];
} hostile[] = {
	{"a name that is ..", -EPROTO, {{'d', 0755, "x", 0}, {'f', 0644, "..", 0}}},
	{"a name that is .", -EPROTO, {{'d', 0755, "x", 0}, {'d', 0644, ".", 0}}},
	{"a name with a slash", -EPROTO, {{'d', 0755, "x", 0}, {'f', 0644, "../victim", 0}}},
	{"an absolute name", -EPROTO, {{'d', 0755, "x", 0}, {'f', 0644, "/victim", 0}}},
	{"no name", -EPROTO, {{'d', 0755, "x", 0}, {'f', 0644, "", 0}}},
	{"a NUL in a name", -EPROTO, {{'d', 0755, "x", 0}, {'f', 0644, "a", 2}}},
	{"a file in a file", -EPROTO, {{'f', 0644, "x", 0}, {'f', 0644, "y", 0}}},
	{"a file in a link", -EPROTO, {{'l', 0, "x", 0}, {'c', 0, "..", 0}, {'f', 0644, "y", 0}}},
	{"two targets", -EPROTO, {{'l', 0, "x", 0}, {'c', 0, "a", 0}, {'c', 0, "b", 0}}},
	{"data of a directory", -EPROTO, {{'d', 0755, "x", 0}, {'c', 0, "y", 0}}},
	{"data of nothing", -EPROTO, {{'c', 0, "y", 0}}},
	{"an end of nothing", -EPROTO, {{'e', 0, "", 0}}},
	{"an unknown type", -EPROTO, {{'z', 0, "", 0}}},
	{"too long", -EPROTO, {{'f', 0644, "x", 65537}}},
	{"the longest", -EPROTO, {{'f', 0644, "x", UINT32_MAX}}},
	{"no end", -ENODATA, {{'f', 0644, "x", 0}}},
	{"a link, then a directory of its name",
	 1,
	 {{'d', 0755, "x", 0},
	  {'l', 0, "a", 0},
	  {'c', 0, "../victim", 0},
	  {'e', 0, "", 0},
	  {'d', 0755, "a", 0},
	  {'e', 0, "", 0},
	  {'e', 0, "", 0}}},
	{"a link, then a file of its name",
	 0,
	 {{'d', 0755, "x", 0},
	  {'l', 0, "a", 0},
	  {'c', 0, "../victim/b", 0},
	  {'e', 0, "", 0},
	  {'f', 0644, "a", 0},
	  {'e', 0, "", 0},
	  {'e', 0, "", 0}}},
};

static void test_a_hostile_stream_stays_inside(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
		int r;

		shell("mkdir victim");
		r = feed(hostile[i].steps);
		if (r != hostile[i].result)
			fail_msg("%s: %d, not %d", hostile[i].name, r, hostile[i].result);
		if (strcmp(shell("ls -d -- * victim/* 2>/dev/null; test ! -L victim || echo link"),
			   "victim\n") != 0 &&
		    strcmp(shell("ls -d -- * victim/* 2>/dev/null"), "to\nvictim\n") != 0)
			fail_msg("%s: wrote %s", hostile[i].name, shell("ls -lR"));
		shell("rm -rf to victim");
	}
}

static void test_no_privileges_come_with_a_file(void **state)
{
	(void)state;
	assert_int_equal(feed((const struct step[]){{'f', 07777, "x", 0}, {'e', 0, "", 0}, {0}}),
			 0);
	assert_string_equal(shell("stat -c %a to"), "755\n");
}

static void test_a_flood_of_complaints_is_cut(void **state)
{
	static struct step steps[1003] = {{'d', 0755, "x", 0}};
	unsigned lines = 0;

	(void)state;
	for (int i = 1; i <= 1000; i++)
		steps[i] = (struct step){'m', 0, "no", 0};
	steps[1001] = (struct step){'e', 0, "", 0};
	assert_int_equal(feed(steps), 1000);
	for (const char *p = said; *p; p++)
		lines += *p == '\n';
	assert_int_equal(lines, 20);
}

static int is_made(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd >= 0 ? 1 : errno == EACCES ? 0 : -1;
}

/* Whoever takes over the process that reads what the guest sends. */
static void test_files_are_made_only_where_they_belong(void **state)
{
	char *paths[] = {"of/guest:new/name", "of/guest:there", "of/guest:none/name", NULL};
	struct error e = {""};
	int status;
	pid_t pid;

	(void)state;
	if (SANITIZED || syscall(SYS_landlock_create_ruleset, NULL, 0, 1u) < 2) {
		print_message("# a sanitized build, or no Landlock\n");
		skip();
	}
	assert_string_equal(shell("mkdir new there other"), "");
	pid = fork();
	if (pid == 0)
		_exit(cli_confine_unpack(paths, ':', &e)	   ? 1
		      : is_made("new/name") != 1		   ? 2
		      : is_made("there/file") != 1		   ? 3
		      : is_made("other/file") != 0		   ? 4
		      : is_made("file") != 0			   ? 5
		      : open("/etc/passwd", O_RDONLY) >= 0	   ? 6
		      : rename("new/name", "other/name") == 0	   ? 7
		      : unlink("there/file") || unlink("new/name") ? 8
								   : 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_tree_comes_out_as_it_went_in, enter, leave),
		cmocka_unit_test_setup_teardown(test_one_file_and_where_it_goes, enter, leave),
		cmocka_unit_test_setup_teardown(test_a_directory_that_is_there_is_merged, enter,
						leave),
		cmocka_unit_test_setup_teardown(test_what_is_not_there_is_told, enter, leave),
		cmocka_unit_test_setup_teardown(test_a_hostile_stream_stays_inside, enter, leave),
		cmocka_unit_test_setup_teardown(test_no_privileges_come_with_a_file, enter, leave),
		cmocka_unit_test_setup_teardown(test_files_are_made_only_where_they_belong, enter,
						leave),
		cmocka_unit_test_setup_teardown(test_a_flood_of_complaints_is_cut, enter, leave),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
