// SPDX-License-Identifier: BSD-2-Clause
/* A shared directory (virtio 1.3, section 5.11) whose driver wants to leave it, alone and with another CPU
 * at its side, which changes requests while they are read. */
#include <linux/fuse.h>

#include "support.h"

#define PAGE	    4096u
#define FS_TAG_SIZE 36u
#define SIZE	    16u
#define GUARD_SEED  11u
#define NO_ANSWER   (-4096)
#define EINVAL	    22
#define ELOOP	    40
#define EROFS	    30
#define ESTALE	    116
#define O_RDWR	    2
#define S_IFREG	    0100000u

enum { HIPRIO, REQUESTS };

static struct vio *fs;
static unsigned queues;
static uint8_t *request; /* a page */
static uint8_t *reply;	 /* one between two that are nobody's */
static volatile bool race_over, other_over;

static void *args(void)
{
	return request + sizeof(struct fuse_in_header);
}

static const void *body(void)
{
	return reply + sizeof(struct fuse_out_header);
}

/* A request with `len` bytes of arguments, which are there: 0, or a negative errno. */
static int ask(uint32_t opcode, uint64_t node, uint32_t len)
{
	static unsigned turn;
	struct fuse_in_header header = {
		.len = (uint32_t)sizeof(header) + len, .opcode = opcode, .nodeid = node};
	struct sg sg[2] = {{request, header.len}, {reply, PAGE}};
	int64_t n;

	memcpy(request, &header, sizeof(header));
	n = vq_do(&fs->vq[REQUESTS + turn++ % (queues - REQUESTS)], sg, 1, 1);
	if (n < (int64_t)sizeof(struct fuse_out_header))
		return NO_ANSWER;
	return ((const struct fuse_out_header *)(const void *)reply)->error;
}

/* With a struct and names. */
static int ask_named(uint32_t opcode, uint64_t node, const void *in, uint32_t len, const char *name,
		     const char *name2)
{
	uint8_t *p = args();

	memcpy(p, in, len);
	memcpy(p + len, name, strlen(name) + 1);
	len += (uint32_t)strlen(name) + 1;
	if (name2)
		memcpy(p + len, name2, strlen(name2) + 1);
	return ask(opcode, node, len + (name2 ? (uint32_t)strlen(name2) + 1 : 0));
}

static bool mount(void)
{
	*(struct fuse_init_in *)args() = (struct fuse_init_in){.major = 7, .minor = 38};
	return ask(FUSE_INIT, 0, sizeof(struct fuse_init_in)) == 0;
}

static uint64_t look_up(const char *name)
{
	int r = ask_named(FUSE_LOOKUP, FUSE_ROOT_ID, "", 0, name, NULL);

	return r ? 0 : ((const struct fuse_entry_out *)body())->nodeid;
}

static int open_node(uint64_t node)
{
	*(struct fuse_open_in *)args() = (struct fuse_open_in){.flags = 0};
	return ask(FUSE_OPEN, node, sizeof(struct fuse_open_in));
}

/* Reads "hello" from the file of that name: 0, or a negative errno. */
static int read_hello(void)
{
	uint64_t node = look_up("hello");
	int r = node ? open_node(node) : NO_ANSWER;

	if (r)
		return r;
	*(struct fuse_read_in *)args() = (struct fuse_read_in){
		.fh = ((const struct fuse_open_out *)body())->fh, .size = 100};
	r = ask(FUSE_READ, node, sizeof(struct fuse_read_in));
	return r || memcmp(body(), "hello", 5) == 0 ? r : NO_ANSWER;
}

static bool works(void)
{
	return vio_start(fs, 0, queues, SIZE) && mount() && read_hello() == 0;
}

static const struct crime {
	const char *name;
	uint32_t out, in;
	bool beyond;
} crimes[] = {
	{"half a header", 20, PAGE, false},	  {"no room for a reply", 40, 15, false},
	{"a request beyond RAM", 40, PAGE, true}, {"a request of 4 GiB", ~0u, PAGE, false},
	{"a reply of 4 GiB", 40, ~0u, false},
};

static void commit(const struct crime *c)
{
	struct vq *q = &fs->vq[REQUESTS];
	struct sg sg[2] = {{c->beyond ? (void *)ram_top : request, c->out}, {reply, c->in}};

	if (!works()) {
		CHECK(false, "start before %s", c->name);
		return;
	}
	vq_add(q, sg, 1, 1);
	vq_publish(q);
	vq_notify(q);
	CHECK(WAIT_UNTIL(vio_status(fs) & VIRTIO_CONFIG_S_NEEDS_RESET), "NEEDS_RESET after %s",
	      c->name);
}

/* Ways out, each by every request that takes a name. */
static void leave(bool readonly)
{
	static const char *const ways[] = {"..", ".", "../outside", "/tmp", "dir/../../outside",
					   ""};
	static const uint64_t zeros[16] = {0};
	static const struct fuse_rename_in to = {.newdir = FUSE_ROOT_ID};
	int want = readonly ? -EROFS : -EINVAL;

	CHECK(works(), "it works before");
	for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		const char *way = ways[i];

		CHECK(ask_named(FUSE_LOOKUP, 1, "", 0, way, NULL) == -EINVAL, "LOOKUP '%s'", way);
		CHECK(ask_named(FUSE_MKDIR, 1, zeros, 8, way, NULL) == want, "MKDIR '%s'", way);
		CHECK(ask_named(FUSE_CREATE, 1, zeros, 16, way, NULL) == want, "CREATE '%s'", way);
		CHECK(ask_named(FUSE_UNLINK, 1, "", 0, way, NULL) == want, "UNLINK '%s'", way);
		CHECK(ask_named(FUSE_SYMLINK, 1, "", 0, way, "x") == want, "SYMLINK '%s'", way);
		CHECK(ask_named(FUSE_RENAME, 1, &to, 8, "hello", way) == want, "RENAME '%s'", way);
	}
	CHECK(open_node(look_up("link")) == -ELOOP, "a link to outside is not opened");
	CHECK(open_node(look_up("pipe")) < 0, "a pipe is not opened");
	CHECK(open_node(12345) < 0, "a number is not opened");
}

/* Another CPU: what is one component of a path when it is checked may be another when it is used. */
static void flip(void *arg)
{
	volatile uint8_t *name = args();
	uint64_t rnd = 5;

	(void)arg;
	while (!race_over) {
		volatile struct vring_desc *d = &fs->vq[REQUESTS].desc[0];
		uint64_t r = random64(&rnd);

		name[r & 3] = (r >> 8) & 1 ? '/' : '.';
		if (r % 16 == 0)
			d->len = r & 1024 ? ~0u : 41;
		for (unsigned i = 0; i < (r >> 16) % 32; i++)
			cpu_relax();
		name[r & 3] = 'x';
		d->len = 40 + 10;
	}
	other_over = true;
}

/* Another CPU: forgets what this one is at work with. */
static void forget(void *arg)
{
	struct {
		struct fuse_in_header header;
		struct fuse_forget_in in;
	} *rq = arg;
	struct sg sg = {rq, sizeof(*rq)};
	uint64_t rnd = 7;

	rq->header = (struct fuse_in_header){.len = sizeof(*rq), .opcode = FUSE_FORGET};
	rq->in.nlookup = 1;
	while (!race_over) {
		rq->header.nodeid = 2 + random64(&rnd) % 2;
		if (vq_do(&fs->vq[HIPRIO], &sg, 1, 0) != 0)
			break;
	}
	other_over = true;
}

/* What it is at work with is the file, or is not there; requests take the queues in turn. */
static void race_with_forget(unsigned times)
{
	unsigned good = 0;

	race_over = other_over = false;
	CHECK(works() && smp_start(1, forget, alloc(64, 16)), "the other CPU, which forgets");
	for (unsigned i = 0; i < times; i++) {
		int r = read_hello();

		good += r == 0;
		if (r != 0 && r != -ESTALE) {
			CHECK(false, "%d of request %u", r, i);
			break;
		}
		if (i % 64 == 63 && !mount()) /* what is open is closed */
			CHECK(false, "mount");
	}
	race_over = true;
	CHECK(WAIT_UNTIL(other_over), "the other CPU stops");
	CHECK(!(vio_status(fs) & VIRTIO_CONFIG_S_NEEDS_RESET), "the device goes on");
	CHECK(good > 0, "a file is read while it is forgotten");
	print("# %u of %u read\n", good, times);
}

static void race(unsigned times)
{
	static const uint32_t opcodes[] = {FUSE_LOOKUP, FUSE_UNLINK, FUSE_SYMLINK};
	struct vq *q = &fs->vq[REQUESTS];
	unsigned resets = 0;

	CHECK(works() && smp_start(1, flip, NULL), "the other CPU");
	for (unsigned i = 0; i < times; i++) {
		struct fuse_in_header header = {.len = 50, .opcode = opcodes[i % 3], .nodeid = 1};
		size_t mark = heap_mark();

		memcpy(args(), "xxxx\0xxxx", 10);
		memcpy(request, &header, sizeof(header));
		vq_set_desc(q, 0, (uint64_t)request, 50, VRING_DESC_F_NEXT, 1);
		vq_set_desc(q, 1, (uint64_t)reply, PAGE, VRING_DESC_F_WRITE, 0);
		vq_offer(q, 0);
		vq_notify(q);
		if (!WAIT_UNTIL(*(volatile uint16_t *)&q->used->idx == q->avail_idx ||
				vio_status(fs) & VIRTIO_CONFIG_S_NEEDS_RESET)) {
			CHECK(false, "an answer to request %u", i);
			break;
		}
		if (!(vio_status(fs) & VIRTIO_CONFIG_S_NEEDS_RESET))
			continue;
		resets++;
		while (!vio_start(fs, 0, queues, SIZE))
			cpu_relax();
		heap_release(mark);
	}
	race_over = true;
	CHECK(WAIT_UNTIL(other_over), "the other CPU stops");
	print("# %u resets\n", resets);
}

void test_share_hostile(void)
{
	uint8_t *pages = alloc(3 * PAGE, PAGE);
	bool readonly = cmdline_u64("readonly", 0);

	fs = need(VIRTIO_ID_FS, 0);
	queues = REQUESTS + (unsigned)vio_config(fs, FS_TAG_SIZE, 4);
	request = alloc(PAGE, PAGE);
	reply = pages + PAGE;
	pattern_fill(pages, PAGE, GUARD_SEED, 0);
	pattern_fill(pages + 2 * PAGE, PAGE, GUARD_SEED, 0);
	CHECK(works(), "a file is read");
	for (unsigned i = 0; i < sizeof(crimes) / sizeof(crimes[0]); i++) {
		size_t mark = heap_mark();

		commit(&crimes[i]);
		CHECK(works(), "works again after %s", crimes[i].name);
		heap_release(mark);
	}
	leave(readonly);
	race((unsigned)cmdline_u64("n", 2000));
	CHECK(works(), "works after the race");
	race_with_forget((unsigned)cmdline_u64("n", 2000));
	CHECK(works(), "works after that");
	CHECK(pattern_check(pages, PAGE, GUARD_SEED, 0) == PAGE &&
		      pattern_check(pages + 2 * PAGE, PAGE, GUARD_SEED, 0) == PAGE,
	      "no other memory was written");
	CHECK(bystander_works(fs), "other devices work");
}
