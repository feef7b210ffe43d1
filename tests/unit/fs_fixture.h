// SPDX-License-Identifier: BSD-2-Clause
/* A shared directory of the host, and a guest that speaks FUSE. */
#ifndef SKEP_FS_FIXTURE_H
#define SKEP_FS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "driver.h"
#include "fs/fs.h"

#define ROOT	  ((uint64_t)FUSE_ROOT_ID)
#define BUFFER	  (2 * MIB)
#define HEADER	  ((uint32_t)sizeof(struct fuse_in_header))
#define ANSWER	  ((uint32_t)sizeof(struct fuse_out_header))
#define ANY_FLAGS UINT32_MAX

enum { HIPRIO, REQUESTS, LOOPS = 4 }; /* three queues for requests */

struct fixture {
	struct drv d;
	struct loop *loop[LOOPS];
	struct virtio_dev *dev;
	unsigned queue;	   /* that requests take */
	char dir[64];	   /* what is shared is its directory "in" */
	gpa_t out, in;	   /* BUFFER bytes each */
	uint8_t *args;	   /* of the next request, after its header */
	const void *reply; /* to the last one, after its header */
	uint32_t flags;	   /* of INIT's reply */
	uint32_t uid, gid;
};

/* A request with `len` bytes of arguments, which are in f->args. The bytes of the reply, or its
 * error. */
static inline int64_t ask(struct fixture *f, uint32_t opcode, uint64_t node, size_t len,
			  size_t room)
{
	struct drv_buf buf[2] = {{f->out, HEADER + (uint32_t)len, false},
				 {f->in, ANSWER + (uint32_t)room, true}};
	struct fuse_in_header header = {
		.len = buf[0].len, .opcode = opcode, .nodeid = node, .unique = 77};
	const struct fuse_out_header *answer = drv_ptr(&f->d, f->in, ANSWER);
	uint32_t got;

	header.uid = f->uid;
	header.gid = f->gid;
	memcpy(drv_ptr(&f->d, f->out, HEADER), &header, HEADER);
	assert_true(drv_add(&f->d.queue[f->queue], buf, 2) >= 0);
	drv_kick(&f->d.queue[f->queue]);
	drv_wait_used(&f->d.queue[f->queue], NULL, &got);
	assert_int_equal(got, answer->len);
	assert_true(got >= ANSWER && got <= buf[1].len);
	assert_int_equal(answer->unique, 77);
	assert_true(answer->error <= 0 && (answer->error == 0 || got == ANSWER));
	return answer->error ? answer->error : (int64_t)(got - ANSWER);
}

/* The same with a struct, and up to two names after it. */
static inline int64_t ask_named(struct fixture *f, uint32_t opcode, uint64_t node, const void *args,
				size_t len, const char *name, const char *name2)
{
	if (len)
		memcpy(f->args, args, len);
	for (const char *s = name; s; s = s == name ? name2 : NULL) {
		memcpy(f->args + len, s, strlen(s) + 1);
		len += strlen(s) + 1;
	}
	return ask(f, opcode, node, len, 4096);
}
#define ASK(f, opcode, node, args, name)                                                           \
	ask_named(f, opcode, node, args, sizeof(*(args)), name, NULL)

/* Tells no number. */
static inline void forget(struct fixture *f, uint64_t node, uint64_t lookups)
{
	struct fuse_in_header header = {.len = HEADER + sizeof(struct fuse_forget_in),
					.opcode = FUSE_FORGET,
					.nodeid = node};
	struct drv_buf buf = {f->out, header.len, false};
	uint32_t got;

	memcpy(drv_ptr(&f->d, f->out, HEADER), &header, HEADER);
	*(struct fuse_forget_in *)f->args = (struct fuse_forget_in){.nlookup = lookups};
	assert_true(drv_add(&f->d.queue[HIPRIO], &buf, 1) >= 0);
	drv_kick(&f->d.queue[HIPRIO]);
	drv_wait_used(&f->d.queue[HIPRIO], NULL, &got);
	assert_int_equal(got, 0);
}

static inline void mount_share(struct fixture *f, uint32_t flags)
{
	struct fuse_init_in in = {.major = 7, .minor = 38, .flags = flags, .max_readahead = 131072};
	const struct fuse_init_out *out = f->reply;

	assert_int_equal(ASK(f, FUSE_INIT, 0, &in, NULL), sizeof(*out));
	assert_int_equal(out->major, 7);
	f->flags = out->flags;
}

/* From now on requests take that queue, and buffers of their own. */
static inline void use_queue(struct fixture *f, unsigned queue)
{
	f->queue = queue;
	f->out = drv_alloc(&f->d, BUFFER, 4096);
	f->in = drv_alloc(&f->d, BUFFER, 4096);
	f->args = (uint8_t *)drv_ptr(&f->d, f->out, BUFFER) + HEADER;
	f->reply = (uint8_t *)drv_ptr(&f->d, f->in, BUFFER) + ANSWER;
}

static inline void new_loops(struct fixture *f)
{
	for (unsigned i = 0; i < LOOPS; i++)
		assert_int_equal(loop_new(&f->loop[i], "test", LOOP_EPOLL, 0, NULL), 0);
}

static inline void start_loops(struct fixture *f)
{
	for (unsigned i = 0; i < LOOPS; i++)
		assert_int_equal(loop_start(f->loop[i], NULL, NULL, NULL), 0);
}

/* And frees the device. */
static inline void stop_loops(struct fixture *f)
{
	for (unsigned i = 0; i < LOOPS; i++)
		loop_stop(f->loop[i]);
	virtio_dev_free(f->dev);
	for (unsigned i = 0; i < LOOPS; i++)
		loop_free(f->loop[i]);
}

/* With a directory "in", and beside it a file "outside". share.max_files: 0 for many. */
static inline struct fixture *begin_share(struct fs_share share)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct error e = {""};
	char path[80];
	int fd;

	assert_non_null(f);
	strcpy(f->dir, "/tmp/skep-fs.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(path, sizeof(path), "%s/outside", f->dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, "secret", 6), 6);
	close(fd);
	strcat(f->dir, "/in");
	assert_int_equal(mkdir(f->dir, 0755), 0);
	share.root = open(f->dir, O_PATH | O_CLOEXEC);
	share.max_files = share.max_files ? share.max_files : 10000;
	share.queues = LOOPS - 1;
	strcpy(share.tag, "share");
	drv_init(&f->d, 32 * MIB);
	new_loops(f);
	assert_int_equal(fs_device_new(&f->dev, &f->d.mem, &share, f->loop, &e), 0);
	drv_attach(&f->d, f->dev);
	start_loops(f);
	assert_int_equal(fs_device_enter(f->dev, false, &e), 0);
	drv_start(&f->d, UINT64_MAX, 0);
	use_queue(f, REQUESTS);
	umask(0);
	f->uid = geteuid();
	f->gid = getegid();
	mount_share(f, ANY_FLAGS);
	return f;
}

static inline struct fixture *begin_with(bool readonly, enum fs_cache cache, unsigned max_files)
{
	return begin_share(
		(struct fs_share){.readonly = readonly, .cache = cache, .max_files = max_files});
}

static inline struct fixture *begin(void)
{
	return begin_with(false, FS_CACHE_AUTO, 0);
}

static inline void end(struct fixture *f)
{
	char command[96];

	assert_false(drv_is_broken(&f->d));
	virtio_dev_quiesce(f->dev);
	stop_loops(f);
	drv_free(&f->d);
	snprintf(command, sizeof(command), "rm -rf %.*s", (int)strlen(f->dir) - 3, f->dir);
	assert_int_equal(system(command), 0);
	free(f);
}

/* Counters as they are now. */
static inline struct fs_counters counters(struct fixture *f)
{
	struct fs_counters c;

	fs_counters(f->dev, &c);
	return c;
}

/* A path of the host in the shared directory; good until the next call but three. */
static inline const char *host(const struct fixture *f, const char *name)
{
	static char path[4][512];
	static unsigned i;

	snprintf(path[++i % 4], sizeof(path[0]), "%s/%s", f->dir, name);
	return path[i % 4];
}

static inline void host_file(const struct fixture *f, const char *name, const void *data,
			     size_t len)
{
	int fd = open(host(f, name), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write_full(fd, data, len), len);
	close(fd);
}

/* What the guest does: nodes and handles, or a negative errno. */
static inline int64_t look_up(struct fixture *f, uint64_t dir, const char *name)
{
	int64_t r = ask_named(f, FUSE_LOOKUP, dir, NULL, 0, name, NULL);

	return r < 0 ? r : (int64_t)((const struct fuse_entry_out *)f->reply)->nodeid;
}

static inline int64_t open_node(struct fixture *f, uint64_t node, uint32_t flags)
{
	struct fuse_open_in in = {.flags = flags};
	int64_t r = ASK(f, FUSE_OPEN, node, &in, NULL);

	return r < 0 ? r : (int64_t)((const struct fuse_open_out *)f->reply)->fh;
}

static inline int64_t open_dir(struct fixture *f, uint64_t node)
{
	struct fuse_open_in in = {.flags = 0};
	int64_t r = ASK(f, FUSE_OPENDIR, node, &in, NULL);

	return r < 0 ? r : (int64_t)((const struct fuse_open_out *)f->reply)->fh;
}

static inline int64_t create(struct fixture *f, uint64_t dir, const char *name, uint32_t flags,
			     uint64_t *ret_node)
{
	struct fuse_create_in in = {.flags = flags, .mode = S_IFREG | 0644};
	int64_t r = ASK(f, FUSE_CREATE, dir, &in, name);
	const struct fuse_entry_out *entry = f->reply;

	if (r < 0)
		return r;
	*ret_node = entry->nodeid;
	return (int64_t)((const struct fuse_open_out *)(entry + 1))->fh;
}

static inline int64_t read_at(struct fixture *f, int64_t fh, uint64_t offset, uint32_t size)
{
	*(struct fuse_read_in *)f->args =
		(struct fuse_read_in){.fh = (uint64_t)fh, .offset = offset, .size = size};
	return ask(f, FUSE_READ, ROOT, sizeof(struct fuse_read_in), size);
}

static inline int64_t write_at(struct fixture *f, int64_t fh, uint64_t offset, const void *data,
			       uint32_t size)
{
	struct fuse_write_in in = {.fh = (uint64_t)fh, .offset = offset, .size = size};
	int64_t r;

	memcpy(f->args, &in, sizeof(in));
	memcpy(f->args + sizeof(in), data, size);
	r = ask(f, FUSE_WRITE, ROOT, sizeof(in) + size, sizeof(struct fuse_write_out));
	return r < 0 ? r : ((const struct fuse_write_out *)f->reply)->size;
}

static inline int64_t release(struct fixture *f, int64_t fh, bool is_dir)
{
	struct fuse_release_in in = {.fh = (uint64_t)fh};

	return ASK(f, is_dir ? FUSE_RELEASEDIR : FUSE_RELEASE, ROOT, &in, NULL);
}

#endif
