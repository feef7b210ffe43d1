// SPDX-License-Identifier: BSD-2-Clause
/*
 * `skep check`: features are tried as skep will use them, not looked up by version, if that leaves
 * no traces; the rest is read from /proc and /sys.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <liburing.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/loop.h"
#include "base/util.h"
#include "check.h"
#include "run.h"
#include "vm/devices.h"

#define LANDLOCK_VERSION_FLAG 1u /* LANDLOCK_CREATE_RULESET_VERSION */

/* io_uring */

/* Lists the opcodes that skep uses and this kernel lacks. Returns whether there are any. */
static bool missing_opcodes(char *ret, size_t len)
{
	struct io_uring_probe *probe = io_uring_get_probe();
	size_t at = 0;

	ret[0] = '\0';
	if (!probe) {
		snprintf(ret, len, " (cannot be listed)");
		return true;
	}
	for (const struct loop_opcode *o = loop_opcodes; o->name; o++)
		if (!io_uring_opcode_supported(probe, o->op) && at < len)
			at += (size_t)snprintf(ret + at, len - at, " %s", o->name);
	io_uring_free_probe(probe);
	return at > 0;
}

/* Whether the kernel can create the threads that carry out what may block. */
static bool has_workers(void)
{
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;
	bool has = true;

	if (io_uring_queue_init(1, &ring, 0) < 0)
		return true;
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
	if (io_uring_submit(&ring) == 1 && io_uring_wait_cqe(&ring, &cqe) == 0)
		has = cqe->res != -ECANCELED;
	io_uring_queue_exit(&ring);
	return has;
}

#define TILL_THEN "; until then skep does I/O with threads"

static const char *io_uring_remedy(int r, const char *message)
{
	if (strstr(message, "io_uring_disabled"))
		return "sysctl kernel.io_uring_disabled=0" TILL_THEN;
	switch (r) {
	case -EPERM:
	case -EACCES:
		return "allow io_uring_setup(2) in the container's seccomp profile" TILL_THEN;
	case -EMFILE:
		return "raise the limit of open files (ulimit -n)" TILL_THEN;
	case -ENOMEM:
		return "raise the limit of locked memory (ulimit -l)" TILL_THEN;
	default:
		return "use Linux 5.13 or newer" TILL_THEN;
	}
}

static void check_io_uring(struct check_report *report)
{
	struct loop *loop = NULL;
	struct error e = {""};
	char missing[96];
	int r;

	r = loop_new(&loop, "check", LOOP_URING, 8, &e);
	if (r < 0) {
		check_add(report, "io_uring", CHECK_ABSENT, io_uring_remedy(r, e.msg), "%s",
			  e.msg[0] ? e.msg : strerror(-r));
		return;
	}
	loop_free(loop);
	if (!has_workers())
		check_add(report, "io_uring", CHECK_OK,
			  "raise the limit on processes (ulimit -u, TasksMax= in systemd's unit, "
			  "pids.max of the cgroup)",
			  "available, without workers: flushes and the like run one at a time");
	else if (missing_opcodes(missing, sizeof(missing)))
		check_add(report, "io_uring", CHECK_OK,
			  "use a newer kernel; until then skep does without them",
			  "available, without%s", missing);
	else
		check_add(report, "io_uring", CHECK_OK, NULL, "available, with all opcodes used");
}

/* Hole punching */

int check_punch_hole(const char *dir, const char **ret_step)
{
	_cleanup_free_ char *data = calloc(1, MIB), *template = NULL;
	_cleanup_close_ int fd = -1;
	struct stat full, punched;

	*ret_step = "creating a file";
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
		if (asprintf(&template, "%s/.skep-check-XXXXXX", dir) < 0)
			return -ENOMEM;
		fd = mkostemp(template, O_CLOEXEC);
		if (fd >= 0)
			unlink(template);
	}
	if (fd < 0)
		return -errno;
	if (!data)
		return -ENOMEM;
	memset(data, 0x5a, MIB); /* zeros might not be stored at all */
	*ret_step = "writing";
	if (write_full(fd, data, MIB) < 0 || fsync(fd) < 0 || fstat(fd, &full) < 0)
		return -errno;
	*ret_step = "fallocate(PUNCH_HOLE)";
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)MIB) < 0)
		return -errno;
	*ret_step = "the blocks stay allocated";
	if (fsync(fd) < 0 || fstat(fd, &punched) < 0)
		return -errno;
	return punched.st_blocks < full.st_blocks ? 0 : -EOPNOTSUPP;
}

static void check_block_device(struct check_report *report, const char *name, const char *path,
			       dev_t dev)
{
	if (block_queue_limit(dev, "discard_max_bytes") > 0)
		check_add(report, name, CHECK_OK, NULL, "%s: the device takes discards", path);
	else
		check_add(report, name, CHECK_ABSENT,
			  "use a device that takes discards (lsblk --discard), or an image file",
			  "%s: the device takes no discards", path);
}

static const char *punch_remedy(int r)
{
	switch (r) {
	case -ENOSPC:
	case -EDQUOT:
		return "make room for a file of 1 MiB there";
	case -EROFS:
		return "give a directory on a file system that is not read-only";
	case -EMFILE:
		return "raise the limit of open files (ulimit -n)";
	case -EFBIG:
		return "allow files of 1 MiB (ulimit -f)";
	default:
		return "give a directory that you may write to";
	}
}

static void check_discard(struct check_report *report, const char *path)
{
	_cleanup_free_ char *copy = strdup(path);
	const char *name = CHECK_DISCARD, *dir = path, *step;
	struct stat st;
	int r;

	if (!copy || stat(path, &st) < 0) {
		check_add(report, name, CHECK_FAILED, "give a path that exists", "%s: %s", path,
			  copy ? strerror(errno) : strerror(ENOMEM));
		return;
	}
	if (S_ISBLK(st.st_mode)) {
		check_block_device(report, name, path, st.st_rdev);
		return;
	}
	if (!S_ISDIR(st.st_mode))
		dir = dirname(copy);
	r = check_punch_hole(dir, &step);
	if (r == 0)
		check_add(report, name, CHECK_OK, NULL,
			  "%s: holes can be punched: images shrink when guests discard", path);
	else if (r == -EOPNOTSUPP)
		check_add(report, name, CHECK_ABSENT, "put images on ext4, XFS, btrfs or tmpfs",
			  "%s: holes are not supported here (%s)", path, step);
	else
		check_add(report, name, CHECK_ABSENT, punch_remedy(r), "%s: not tested: %s: %s",
			  path, step, strerror(-r));
}

/* The rest */

static void check_landlock(struct check_report *report)
{
#ifdef __NR_landlock_create_ruleset
	long abi = syscall(__NR_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION_FLAG);

	if (abi > 0) {
		check_add(report, "landlock", CHECK_OK, NULL, "ABI version %ld", abi);
		return;
	}
#else
	errno = ENOSYS;
#endif
	check_add(report, "landlock", CHECK_ABSENT,
		  errno == EOPNOTSUPP ? "add landlock to the kernel's lsm= parameter"
				      : "use Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK",
		  "not available: %m");
}

static void check_huge_pages(struct check_report *report)
{
	char text[64];

	if (!read_text(text, sizeof(text), "/sys/kernel/mm/transparent_hugepage/enabled"))
		check_add(report, "huge-pages", CHECK_ABSENT,
			  "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE: guests start and run "
			  "faster",
			  "no transparent huge pages");
	else if (strstr(text, "[never]"))
		check_add(
			report, "huge-pages", CHECK_ABSENT,
			"echo madvise > /sys/kernel/mm/transparent_hugepage/enabled: guests start "
			"and run faster",
			"transparent huge pages are off");
	else
		check_add(report, "huge-pages", CHECK_OK, NULL,
			  "guest RAM gets transparent huge pages");
}

static void add_finding(void *ctx, const struct device_finding *f)
{
	check_add(ctx, f->name, f->works ? CHECK_OK : CHECK_ABSENT, f->remedy, "%s", f->finding);
}

static void check_guest(struct check_report *report)
{
	struct vm_config config = {0};
	struct error e = {""};

	if (cli_default_guest(&config, &e) == 0)
		check_add(report, "default-guest", CHECK_OK, NULL, "%s", config.kernel);
	else
		check_add(report, "default-guest", CHECK_ABSENT,
			  "run skep-mkguest (tools/mkguest in the source tree), or give --kernel",
			  "no default guest");
	config_destroy(&config);
}

bool check_host(const struct check_options *options, FILE *out)
{
	struct check_report report = {.num_items = 0};

	check_kvm(&report);
	check_io_uring(&report);
	for (size_t i = 0; i < options->num_paths; i++)
		check_discard(&report, options->paths[i]);
	if (options->num_paths == 0)
		check_discard(&report, ".");
	check_huge_pages(&report);
	check_landlock(&report);
	for (const struct device_type *const *type = device_types; *type; type++)
		if ((*type)->check_host)
			(*type)->check_host(add_finding, &report);
	check_guest(&report);
	return check_print(&report, options->json, out);
}

/* The command */

const struct setting check_settings[] = {
	{"json", BOOL_FIELD(check_options, json), .help = "print the report as JSON"},
	SETTING_HELP_ROW,
	{.name = NULL},
};

static int apply_check(void *ctx, const struct setting *s, const char *value, struct error *e)
{
	struct check_options *o = ctx;

	if (s)
		return setting_set(o, s, value, e);
	if (o->num_paths == ARRAY_SIZE(o->paths))
		return error_set(e, -EINVAL, "more than %zu paths: check them in several runs",
				 ARRAY_SIZE(o->paths));
	o->paths[o->num_paths++] = value;
	return 0;
}

int cli_parse_check(int argc, char *const *argv, struct check_options *ret, struct error *e)
{
	struct parser p = {check_settings, "check", apply_check, ret, e};

	*ret = (struct check_options){0};
	return cli_parse(&p, argc, argv);
}

static int run(int argc, char *const *argv, struct error *e)
{
	struct check_options options;
	int r = cli_parse_check(argc, argv, &options, e);

	if (r < 0)
		return cli_parse_error(r);
	return check_host(&options, stdout) ? 0 : 1;
}

static void help(FILE *out)
{
	fputs("Usage: skep check [OPTION...] [PATH...]\n\n"
	      "Shows what this host offers skep, one line per feature, with a remedy for what\n"
	      "is missing: KVM and its speed, io_uring, hole punching at each PATH (default:\n"
	      "the current directory), and the rest.\n\n"
	      "Options:\n",
	      out);
	help_options(out, check_settings);
	fputs("\nExit status: 0 'skep run' works here, 1 it does not, 2 usage error.\n", out);
}

static void complete(FILE *out, int n, char *const *words)
{
	complete_options(out, check_settings, n, words);
}

const struct command command_check = {
	.name = "check",
	.summary = "show what this host offers",
	.run = run,
	.help = help,
	.complete = complete,
};
