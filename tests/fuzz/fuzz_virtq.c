// SPDX-License-Identifier: BSD-2-Clause
/*
 * Split virtqueues: a driver that makes valid chains, and now and then scribbles over the rings,
 * also while they are being read. As long as it has not, each chain has to come out as it went in
 * and each used entry has to arrive; after that, what comes out is safe or an error.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "driver.h"
#include "input.h"

#define RAM	  (2 * MIB)
#define MAX_IOV	  24u
#define MAX_BUFS  12u
#define MAX_STEPS 400u

struct expected {
	struct drv_buf buf[MAX_BUFS];
	unsigned num_bufs;
};

struct fuzz {
	struct input in;
	struct drv_queue q;
	struct virtq vq;
	bool corrupt; /* the driver broke the rules */

	struct expected made[VIRTQ_MAX_SIZE]; /* by head */
	uint16_t order[VIRTQ_MAX_SIZE];	      /* heads made available and not popped, in order */
	unsigned num_made;
	uint16_t popped[VIRTQ_MAX_SIZE]; /* heads popped and not pushed */
	unsigned num_popped;
	struct vring_used_elem pushed[VIRTQ_MAX_SIZE]; /* published or not, not taken */
	unsigned num_pushed, num_published;
};

static struct drv guest;
static unsigned reads; /* of the device, since it last began to pop */

/* Scribbles when the device is about to read for the `countdown`th time. */
static struct {
	unsigned countdown;
	void *at;
	uint64_t value;
	size_t len;
	bool *corrupt;
} ambush;

static void spring_ambush(const struct gmem *mem, gpa_t addr, size_t len)
{
	void *host;

	check(gmem_slice(mem, addr, len, &host) == 0);
	reads++;
	if (!ambush.countdown || --ambush.countdown)
		return;
	memcpy(ambush.at, &ambush.value, ambush.len);
	*ambush.corrupt = true;
}

/* A place in the rings or in a table, and what to put there: mostly near to what is valid. */
static void *pick_target(struct fuzz *f, uint64_t *value, size_t *len)
{
	struct drv_queue *q = &f->q;
	uint8_t where = take8(&f->in);
	uint16_t i = (uint16_t)(take8(&f->in) % q->size);
	struct vring_desc *d = &q->desc[i];

	if (where & 0x80 && q->table[i].v)
		d = drv_table(q, i) + take8(&f->in) % 16;
	*value = take16(&f->in);
	*len = 2;
	switch (where % 8) {
	case 0:
		return &d->flags;
	case 1:
		return &d->next;
	case 2:
		*len = 4;
		*value = take32(&f->in);
		return &d->len;
	case 3:
		*len = 8;
		*value = RAM - 256 + take16(&f->in);
		return &d->addr;
	case 4:
		*len = 8;
		*value = take64(&f->in);
		return &d->addr;
	case 5:
		return &q->avail->ring[i];
	case 6:
		*value = (uint16_t)(q->avail_idx + (int8_t)take8(&f->in));
		return &q->avail->idx;
	default:
		return &q->avail->ring[q->size]; /* used_event: no harm, only interrupts */
	}
}

static void make_chain(struct fuzz *f)
{
	struct expected e = {.num_bufs = 1 + take8(&f->in) % MAX_BUFS};
	unsigned num_out = take8(&f->in) % (e.num_bufs + 1);
	bool indirect = take8(&f->in) & 1 && f->vq.indirect;
	int head;

	for (unsigned i = 0; i < e.num_bufs; i++) {
		uint32_t len = take16(&f->in) % 4096;

		e.buf[i] = (struct drv_buf){GPA(take16(&f->in) % (RAM - 4096)), len, i >= num_out};
	}
	head = indirect ? drv_add_indirect(&f->q, e.buf, e.num_bufs)
			: drv_add(&f->q, e.buf, e.num_bufs);
	if (head < 0)
		return;
	f->made[head] = e;
	f->order[f->num_made++ % VIRTQ_MAX_SIZE] = (uint16_t)head;
}

static void check_safe(const struct fuzz *f, const struct virtq_chain *c)
{
	const struct gmem_region *ram = &guest.mem.region[0];
	uint64_t bytes[2] = {0, 0};

	check(c->head < f->vq.size);
	check(c->num_out + c->num_in <= c->max_iov);
	for (unsigned i = 0; i < c->num_out + c->num_in; i++) {
		const uint8_t *base = c->iov[i].iov_base;

		check(c->iov[i].iov_len > 0 && c->iov[i].iov_len <= ram->size);
		check(base >= ram->host && base + c->iov[i].iov_len <= ram->host + ram->size);
		bytes[i >= c->num_out] += c->iov[i].iov_len;
	}
	check(bytes[0] == c->out_bytes && bytes[1] == c->in_bytes);
	for (unsigned i = 0; i < f->num_popped; i++)
		check(f->popped[i] != c->head);
}

/* The chain is what the driver made. */
static void check_expected(const struct fuzz *f, const struct virtq_chain *c)
{
	const struct expected *e = &f->made[c->head];
	unsigned at[2] = {0, c->num_out};

	for (unsigned i = 0; i < e->num_bufs; i++) {
		const struct drv_buf *b = &e->buf[i];
		const struct iovec *iov = &c->iov[at[b->write]];

		if (!b->len)
			continue;
		check(iov->iov_len == b->len);
		check(iov->iov_base == drv_ptr(&guest, b->addr, b->len));
		at[b->write]++;
	}
	check(at[0] == c->num_out && at[1] == c->num_out + c->num_in);
}

/* False when the queue is broken. */
static bool pop(struct fuzz *f)
{
	struct iovec iov[MAX_IOV];
	struct virtq_chain c = {.iov = iov, .max_iov = MAX_IOV};
	struct virtq before = f->vq;
	const char *why = NULL;
	bool was_corrupt = f->corrupt, ambushed = ambush.countdown;
	uint16_t more = (uint16_t)(f->q.avail->idx - f->vq.next_avail);
	int r;

	reads = 0;
	r = virtq_pop(&f->vq, &c, &why);
	check(r == 0 || r == 1 || (r == -EBADMSG && why));
	check(reads <= 1u + f->vq.size + 1024);
	if (before.next_avail == before.avail_seen && more > f->vq.size && !ambushed)
		check(r == -EBADMSG);
	if (r == 1) {
		check_safe(f, &c);
		f->popped[f->num_popped++] = c.head;
		check(f->num_popped <= f->vq.size);
	} else {
		/* Nothing was consumed. */
		check(f->vq.next_avail == before.next_avail);
		check(!memcmp(f->vq.in_flight, before.in_flight, sizeof(before.in_flight)));
	}
	if (was_corrupt || f->corrupt)
		return r >= 0;
	check(r == (f->num_made > 0));
	if (r) {
		check(c.head == f->order[0]);
		check_expected(f, &c);
		memmove(f->order, f->order + 1, --f->num_made * sizeof(f->order[0]));
	}
	return true;
}

static void push(struct fuzz *f)
{
	unsigned i = take8(&f->in);
	uint32_t written = take16(&f->in);

	if (!f->num_popped) { /* nothing in flight: must be ignored */
		virtq_push(&f->vq, (uint16_t)i, written);
		return;
	}
	i %= f->num_popped;
	virtq_push(&f->vq, f->popped[i], written);
	f->pushed[f->num_pushed++] = (struct vring_used_elem){f->popped[i], written};
	f->popped[i] = f->popped[--f->num_popped];
}

static void publish(struct fuzz *f)
{
	uint16_t old = f->vq.published, now = f->vq.next_used;
	bool wanted = old != now;

	if (f->vq.event_idx)
		wanted &= vring_need_event(f->q.avail->ring[f->vq.size], now, old);
	else
		wanted &= !(f->q.avail->flags & VRING_AVAIL_F_NO_INTERRUPT);
	check(virtq_publish(&f->vq) == wanted);
	check(f->q.used->idx == now);
	f->num_published = f->num_pushed;
}

static void take_used(struct fuzz *f)
{
	uint32_t id, len;

	if (f->corrupt) {
		f->num_pushed = f->num_published = 0;
		return;
	}
	while (f->num_published) {
		check(drv_used(&f->q, &id, &len));
		check(id == f->pushed[0].id && len == f->pushed[0].len);
		memmove(f->pushed, f->pushed + 1, --f->num_pushed * sizeof(f->pushed[0]));
		f->num_published--;
	}
	check(!drv_used(&f->q, &id, &len));
}

static bool step(struct fuzz *f)
{
	uint64_t value;
	size_t len;
	void *at;
	uint8_t op = take8(&f->in);

	switch (op % 16) {
	case 0 ... 5:
		make_chain(f);
		break;
	case 6 ... 9:
		return pop(f);
	case 10:
	case 11:
		if (f->num_pushed < f->vq.size)
			push(f);
		break;
	case 12:
		publish(f);
		break;
	case 13:
		take_used(f);
		break;
	case 14:
		virtq_disable_kicks(&f->vq);
		if (virtq_enable_kicks(&f->vq) && !f->corrupt)
			check(f->num_made > 0);
		break;
	default:
		if (op < 0xc0) /* rare */
			break;
		at = pick_target(f, &value, &len);
		if (op & 0x10) {
			memcpy(at, &value, len);
			f->corrupt = true;
		} else {
			ambush.countdown = 1 + take8(&f->in) % 16;
			ambush.at = at;
			ambush.value = value;
			ambush.len = len;
			ambush.corrupt = &f->corrupt;
		}
	}
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz f;
	uint64_t features;
	const char *why;

	if (!guest.page) {
		drv_init(&guest, RAM);
		gmem_read_hook = spring_ambush;
	}
	memset(&f, 0, sizeof(f));
	memset(&ambush, 0, sizeof(ambush));
	f.in = (struct input){data, size};
	guest.next = 64 * KIB + 4096; /* the rings are behind what chains refer to */
	features = (uint64_t)(take8(&f.in) & 3) << VIRTIO_RING_F_INDIRECT_DESC;
	drv_queue_place(&f.q, &guest, (uint16_t)(1u << take8(&f.in) % 7),
			features & (1ull << VIRTIO_RING_F_EVENT_IDX));
	f.vq.max_size = 64;
	drv_queue_bind(&f.q, &f.vq);
	check(virtq_activate(&f.vq, &guest.mem, features, &why) == 0);
	for (unsigned i = 0; i < MAX_STEPS && input_left(&f.in); i++)
		if (!step(&f))
			break;
	virtq_reset(&f.vq);
	return 0;
}
