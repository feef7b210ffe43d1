// SPDX-License-Identifier: BSD-2-Clause
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/error.h"
#include "base/util.h"

#define LONG_TEXT (PATH_MAX + 1024) /* what quotes a path, before it is shortened */

void shorten(char *text, size_t max)
{
	size_t len = strlen(text), head = max / 4, tail = max - head - 3;

	if (len <= max)
		return;
	memcpy(text + head, "...", 3);
	memmove(text + head + 3, text + len - tail, tail + 1);
}

static _Thread_local int last_code;

int error_set(struct error *e, int code, const char *fmt, ...)
{
	char text[LONG_TEXT];
	int before = errno;
	va_list ap;

	if (!e)
		return code;
	errno = -code; /* for %m */
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	errno = before;
	shorten(text, sizeof(e->msg) - 1);
	strcpy(e->msg, text);
	last_code = code;
	return code;
}

int error_last_code(void)
{
	return last_code;
}

const char *error_task_remedy(int code)
{
	return code == -EAGAIN ? ": raise the limit on processes (`ulimit -u`, TasksMax= in "
				 "systemd's unit, pids.max of the cgroup)"
			       : "";
}

int error_open(struct error *e, int err, const struct open_failure *say)
{
	switch (err) {
	case ENOENT:
	case ENOTDIR:
		return error_set(e, -err, "%s",
				 say->missing ? say->missing : "no such file or directory");
	case EACCES:
	case EPERM:
		return error_set(e, -err, "%s",
				 say->denied ? say->denied
					     : "permission denied: change its mode or owner, or "
					       "those of its directories");
	case EROFS:
		return error_set(e, -err, "is on a read-only file system%s",
				 say->read_only ? say->read_only : "");
	case ETXTBSY:
		return error_set(e, -err, "is in use as swap or as a running program");
	case EEXIST: /* it appeared, or is a symbolic link to nothing */
		return error_set(e, -err, "exists already: choose another name");
	default:
		return error_set(e, -err, "cannot %s: %m", say->action ? say->action : "open");
	}
}

int error_prefix(struct error *e, int code, const char *fmt, ...)
{
	char prefix[LONG_TEXT], whole[2 * sizeof(e->msg)];
	const char *reason;
	va_list ap;

	if (!e)
		return code;
	reason = e->msg[0] ? e->msg : strerror(-code);
	va_start(ap, fmt);
	vsnprintf(prefix, sizeof(prefix), fmt, ap);
	va_end(ap);
	/* The reason is what the user needs most. */
	shorten(prefix, sizeof(e->msg) - MIN(strlen(reason) + sizeof(": "), sizeof(e->msg) / 2));
	snprintf(whole, sizeof(whole), "%s: %s", prefix, reason);
	shorten(whole, sizeof(e->msg) - 1);
	strcpy(e->msg, whole);
	return code;
}

/* Repeats a transfer of what is left of `len` bytes from `done` on, until there is no more. */
#define TRANSFER(call)                                                                             \
	do {                                                                                       \
		size_t done = 0;                                                                   \
		ssize_t n = 1;                                                                     \
                                                                                                   \
		while (done < len && n != 0) {                                                     \
			n = call;                                                                  \
			if (n < 0 && errno != EINTR)                                               \
				return -errno;                                                     \
			done += n > 0 ? (size_t)n : 0;                                             \
		}                                                                                  \
		return (ssize_t)done;                                                              \
	} while (0)

ssize_t read_full(int fd, void *buf, size_t len)
{
	TRANSFER(read(fd, (char *)buf + done, len - done));
}

ssize_t pread_full(int fd, void *buf, size_t len, uint64_t offset)
{
	TRANSFER(pread(fd, (char *)buf + done, len - done, (off_t)(offset + done)));
}

ssize_t write_full(int fd, const void *buf, size_t len)
{
	TRANSFER(write(fd, (const char *)buf + done, len - done));
}

ssize_t pwrite_full(int fd, const void *buf, size_t len, uint64_t offset)
{
	TRANSFER(pwrite(fd, (const char *)buf + done, len - done, (off_t)(offset + done)));
}

bool read_text(char *ret, size_t len, const char *fmt, ...)
{
	_cleanup_close_ int fd = -1;
	char path[128];
	va_list ap;
	ssize_t n;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read_full(fd, ret, len - 1);
	if (n > 0 && ret[n - 1] == '\n')
		n--;
	ret[MAX(n, 0)] = '\0';
	return n >= 0;
}

bool mem_is_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;
	uint64_t block[16], any = 0;

	for (; len >= sizeof(block) && !any; p += sizeof(block), len -= sizeof(block)) {
		memcpy(block, p, sizeof(block));
		for (size_t i = 0; i < ARRAY_SIZE(block); i++)
			any |= block[i];
	}
	for (; len && !any; p++, len--)
		any = *p;
	return !any;
}

char *format_bytes(uint64_t bytes, char ret[FORMAT_BYTES])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	unsigned unit = 0;

	/* 1023.95 would be rounded to 1024.0. */
	for (; value >= 1023.95; unit++)
		value /= 1024;
	/* 1.0 is 1, and from 100 on no tenth counts. */
	if (value >= 99.95 || (unsigned)(value * 10 + 0.5) % 10 == 0)
		snprintf(ret, FORMAT_BYTES, "%.0f %s", value, units[unit]);
	else
		snprintf(ret, FORMAT_BYTES, "%.1f %s", value, units[unit]);
	return ret;
}

/* The bytes of the UTF-8 character at `s`, which ends in NUL; *ret is its code. 0: it is none. */
static size_t decode_utf8(const unsigned char *s, uint32_t *ret)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t len = *s < 0x80 ? 1 : *s < 0xc0 ? 0 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : 4;
	uint32_t code = len > 1 ? *s & 0xffu >> (len + 1) : *s;

	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3fu);
	}
	*ret = code;
	return code < least[len] || code > 0x10ffff || (code & ~0x7ffu) == 0xd800 ? 0 : len;
}

static bool is_printable(uint32_t code)
{
	bool control = code < 0x20 || (code >= 0x7f && code < 0xa0);
	bool line = code == 0x2028 || code == 0x2029;
	bool direction = code == 0x061c || code == 0x200e || code == 0x200f ||
			 (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);

	return !control && !line && !direction;
}

void text_clean(char *text)
{
	while (*text) {
		uint32_t code;
		size_t len = decode_utf8((const unsigned char *)text, &code);

		if (len && is_printable(code)) {
			text += len;
		} else {
			*text++ = '?';
		}
	}
}

void print_line(FILE *out, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (text)
		text_clean(text);
	fprintf(out, "%s\n", text ? text : "out of memory");
}

uint64_t block_queue_limit(dev_t dev, const char *name)
{
	static const char *const where[] = {"queue", "../queue"};

	for (size_t i = 0; i < ARRAY_SIZE(where); i++) {
		char text[32];

		if (read_text(text, sizeof(text), "/sys/dev/block/%u:%u/%s/%s", major(dev),
			      minor(dev), where[i], name))
			return strtoull(text, NULL, 10);
	}
	return 0;
}

const char *file_kind(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "a regular file";
	case S_IFDIR:
		return "a directory";
	case S_IFBLK:
		return "a block device";
	case S_IFCHR:
		return "a character device";
	case S_IFIFO:
		return "a pipe";
	default:
		return "a socket";
	}
}

bool is_same_file(const struct stat *a, const struct stat *b)
{
	if (S_ISBLK(a->st_mode) && S_ISBLK(b->st_mode))
		return a->st_rdev == b->st_rdev;
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

int open_again(int fd, int flags)
{
	char path[32];
	struct stat st;

	if (fstat(fd, &st) < 0 || !(S_ISFIFO(st.st_mode) || isatty(fd)))
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

int empty_file(int fd)
{
	struct stat st;

	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) && ftruncate(fd, 0) < 0 ? -errno : 0;
}

int open_descriptors(int **ret)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	int n = 0;

	*ret = NULL;
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		int fd = atoi(entry->d_name), *more; /* "." and ".." are 0 */

		if (fd <= STDERR_FILENO || fd == dirfd(dir))
			continue;
		more = reallocarray(*ret, (size_t)n + 1, sizeof(*more));
		if (!more) {
			n = -ENOMEM;
			break;
		}
		*ret = more;
		more[n++] = fd;
	}
	closedir(dir);
	if (n < 0) {
		free(*ret);
		*ret = NULL;
	}
	return n;
}

uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts = {0};

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}
