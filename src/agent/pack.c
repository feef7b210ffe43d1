// SPDX-License-Identifier: BSD-2-Clause
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pack.h"

#define TEXT	 (PATH_MAX + 128u)
#define MAX_TOLD 20 /* complaints */

/* To bytes */

struct packer {
	FILE *out;
	unsigned depth;
	int missing;
	char path[PATH_MAX];
};

static void put(struct packer *p, enum pack_type type, mode_t mode, const void *data, size_t len)
{
	struct pack_record r = {(uint8_t)type, 0, htole16(mode & 0777), htole32((uint32_t)len)};

	fwrite(&r, sizeof(r), 1, p->out);
	fwrite(data, 1, len, p->out);
}

static void miss(struct packer *p, const char *why)
{
	char text[TEXT];

	snprintf(text, sizeof(text), "'%s': %s", p->path, why);
	put(p, PACK_MISSING, 0, text, strlen(text));
	p->missing++;
}

static void put_head(struct packer *p, enum pack_type type, mode_t mode)
{
	const char *slash = strrchr(p->path, '/'), *name = slash ? slash + 1 : p->path;

	put(p, type, mode, name, strlen(name));
}

static void put_link(struct packer *p, int dir, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);

	if (n <= 0) {
		miss(p, strerror(errno));
		return;
	}
	put_head(p, PACK_LINK, 0);
	put(p, PACK_DATA, 0, target, (size_t)n);
	put(p, PACK_END, 0, "", 0);
}

static void put_file(struct packer *p, int fd, mode_t mode)
{
	char *data = malloc(PACK_MAX_DATA);
	ssize_t n = data ? 1 : -1;

	put_head(p, PACK_FILE, mode);
	while (n > 0 && !ferror(p->out)) {
		n = read(fd, data, PACK_MAX_DATA);
		if (n > 0)
			put(p, PACK_DATA, 0, data, (size_t)n);
	}
	if (n < 0)
		miss(p, strerror(errno));
	put(p, PACK_END, 0, "", 0);
	free(data);
}

static void put_any(struct packer *p, int dir, const char *name);

/* Takes `fd` over. */
static void put_directory(struct packer *p, int fd, mode_t mode)
{
	size_t len = strlen(p->path);
	DIR *dir = fdopendir(fd);
	const struct dirent *entry;

	put_head(p, PACK_DIRECTORY, mode);
	while (dir && !ferror(p->out) && (entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (len + 1 + strlen(entry->d_name) >= sizeof(p->path) ||
		    p->depth == PACK_DEPTH - 1) {
			miss(p, "is too deep");
			break;
		}
		sprintf(p->path + len, "/%s", entry->d_name);
		p->depth++;
		put_any(p, dirfd(dir), entry->d_name);
		p->depth--;
		p->path[len] = '\0';
	}
	put(p, PACK_END, 0, "", 0);
	if (dir)
		closedir(dir);
	else
		close(fd);
}

static void put_any(struct packer *p, int dir, const char *name)
{
	int follow = p->depth ? O_NOFOLLOW : 0, fd;
	struct stat st;

	if (fstatat(dir, name, &st, p->depth ? AT_SYMLINK_NOFOLLOW : 0) < 0) {
		miss(p, strerror(errno));
		return;
	}
	if (S_ISLNK(st.st_mode)) {
		put_link(p, dir, name);
		return;
	}
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		miss(p, "is no file or directory");
		return;
	}
	fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | follow);
	if (fd < 0 || fstat(fd, &st) < 0) {
		miss(p, strerror(errno));
	} else if (S_ISDIR(st.st_mode)) {
		put_directory(p, fd, st.st_mode);
		fd = -1;
	} else {
		put_file(p, fd, st.st_mode);
	}
	if (fd >= 0)
		close(fd);
}

int pack(FILE *out, const char *path)
{
	struct packer p = {.out = out};
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		len--;
	if (len >= sizeof(p.path))
		len = sizeof(p.path) - 1;
	memcpy(p.path, path, len);
	put_any(&p, AT_FDCWD, p.path);
	errno = EIO;
	return fflush(out) == 0 && !ferror(out) ? p.missing : -errno;
}

/* And back */

struct unpacker {
	FILE *in;
	const char *path;
	pack_complain complain;
	int complaints;
	mode_t mask;
	unsigned depth;
	struct level {
		enum pack_type type;
		mode_t mode;
		int fd; /* -1: it is left out, and so is all that is in it */
		bool is_new;
		char name[PATH_MAX];
	} level[PACK_DEPTH + 1];
	char data[PACK_MAX_DATA + 1];
};

__attribute__((format(printf, 2, 3))) static void complain_of(struct unpacker *u, const char *fmt,
							      ...)
{
	char text[TEXT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (u->complaints++ < MAX_TOLD)
		u->complain(text);
}

static bool is_component(const char *name, size_t len)
{
	return len && len <= PACK_MAX_NAME && !memchr(name, '/', len) && !memchr(name, '\0', len) &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Only what is copied is ever replaced: no device, for one. */
static void make_room(int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)))
		unlinkat(dir, name, 0);
}

static int make(int dir, struct level *l, const char *target)
{
	if (l->type == PACK_DIRECTORY) {
		l->is_new = mkdirat(dir, l->name, 0700) == 0;
		if (!l->is_new && errno != EEXIST)
			return -1;
		return openat(dir, l->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	make_room(dir, l->name);
	return target ? symlinkat(target, dir, l->name)
		      : openat(dir, l->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			       l->mode);
}

/* A name for what is to be made: one that the user gave at first, then a component. */
static int take_name(struct unpacker *u, struct level *l, size_t len)
{
	struct stat st;

	if (u->depth && !is_component(u->data, len))
		return -EPROTO;
	if (u->depth)
		snprintf(l->name, sizeof(l->name), "%.255s", u->data);
	else if (l->type == PACK_DIRECTORY || stat(u->path, &st) < 0 || !S_ISDIR(st.st_mode))
		snprintf(l->name, sizeof(l->name), "%s", u->path);
	else if (is_component(u->data, len))
		snprintf(l->name, sizeof(l->name), "%s/%.255s", u->path, u->data);
	else
		return -EPROTO;
	return 0;
}

static int begin(struct unpacker *u, const struct pack_record *r)
{
	struct level *l = &u->level[u->depth];
	int dir = u->depth ? l[-1].fd : AT_FDCWD; /* -1: nothing is made there */

	if (u->depth == PACK_DEPTH || (u->depth && l[-1].type != PACK_DIRECTORY))
		return -EPROTO;
	*l = (struct level){.type = r->type, .mode = r->mode & 0777, .fd = -1};
	if (take_name(u, l, r->len) < 0)
		return -EPROTO;
	if (dir != -1 && r->type != PACK_LINK) {
		l->fd = make(dir, l, NULL);
		if (l->fd < 0)
			complain_of(u, "'%s': %s", l->name, strerror(errno));
	}
	u->depth++;
	return 0;
}

/* Once: then it has all that it can have. */
static int take_target(struct unpacker *u, struct level *l, size_t len)
{
	int dir = l > u->level ? l[-1].fd : AT_FDCWD;

	if (l->is_new || len >= PATH_MAX || memchr(u->data, '\0', len))
		return -EPROTO;
	l->is_new = true;
	if (dir != -1 && make(dir, l, u->data) < 0)
		complain_of(u, "'%s': %s", l->name, strerror(errno));
	return 0;
}

static int take_data(struct unpacker *u, size_t len)
{
	struct level *l = u->depth ? &u->level[u->depth - 1] : NULL;
	size_t done = 0;

	if (!l || l->type == PACK_DIRECTORY || !len)
		return -EPROTO;
	if (l->type == PACK_LINK)
		return take_target(u, l, len);
	while (l->fd >= 0 && done < len) {
		ssize_t n = write(l->fd, u->data + done, len - done);

		if (n < 0 && errno != EINTR) {
			complain_of(u, "'%s': %s", l->name, strerror(errno));
			close(l->fd);
			l->fd = -1;
		}
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int end(struct unpacker *u)
{
	struct level *l;

	if (!u->depth)
		return -EPROTO;
	l = &u->level[--u->depth];
	if (l->type == PACK_DIRECTORY && l->fd >= 0 && l->is_new)
		fchmod(l->fd, l->mode & ~u->mask);
	if (l->fd >= 0)
		close(l->fd);
	return 0;
}

static int take_record(struct unpacker *u, const struct pack_record *r)
{
	switch (r->type) {
	case PACK_FILE:
	case PACK_DIRECTORY:
	case PACK_LINK:
		return begin(u, r);
	case PACK_DATA:
		return take_data(u, r->len);
	case PACK_END:
		return end(u);
	case PACK_MISSING:
		complain_of(u, "%s", u->data);
		return 0;
	default:
		return -EPROTO;
	}
}

static int read_record(struct unpacker *u)
{
	struct pack_record r;

	if (fread(&r, sizeof(r), 1, u->in) != 1)
		return -ENODATA;
	r.mode = le16toh(r.mode);
	r.len = le32toh(r.len);
	if (r.len > PACK_MAX_DATA)
		return -EPROTO;
	if (r.len && fread(u->data, r.len, 1, u->in) != 1)
		return -ENODATA;
	u->data[r.len] = '\0';
	return take_record(u, &r);
}

int unpack(FILE *in, const char *path, pack_complain complain)
{
	struct unpacker *u = calloc(1, sizeof(*u));
	int e, n;

	if (!u)
		return -ENOMEM;
	u->in = in;
	u->path = path;
	u->complain = complain;
	u->mask = umask(0);
	umask(u->mask);
	do
		e = strlen(path) < PATH_MAX ? read_record(u) : -ENAMETOOLONG;
	while (e == 0 && u->depth);
	while (u->depth)
		end(u);
	n = u->complaints;
	free(u);
	return e < 0 ? e : n;
}
