// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. All three rings are guest memory that the driver may change at any
 * time, so each field is loaded once into a local and judged there: load() for the 16-bit ring
 * fields, snapshot() for descriptors. Callers get host addresses of ranges that were checked whole.
 *
 * Ordering. avail.idx is loaded with acquire before the entries that it covers. used.idx is stored
 * after the entries that it covers. Two pairs need store-to-load order against the driver: used.idx
 * before used_event or avail.flags (else the interrupt that the driver just asked for is missed),
 * and avail_event or used.flags before avail.idx (else the kick that was just saved is missed).
 * Sequentially consistent accesses on both sides of each pair give it: on x86 one XCHG and a plain
 * load, on arm64 STLR and LDAR. There is no other fence.
 */
#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "base/util.h"
#include "virtio/virtq.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the rings are little-endian");
static_assert(sizeof(struct vring_desc) == 16 && sizeof(struct vring_used_elem) == 8, "layout");

/*
 * An indirect table may be longer than the queue (Linux builds such tables), but the cost of a
 * chain must be bounded: it has at most as many hops as its table is long, and that is at most
 * this.
 */
#define MAX_INDIRECT 1024u

#define KNOWN_FLAGS (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)

#define unlikely(x) __builtin_expect(!!(x), 0)

static inline uint16_t load(const uint16_t *p, int order)
{
	return __atomic_load_n(p, order);
}

static inline struct vring_avail *avail_ring(const struct virtq *vq)
{
	return vq->avail;
}

static inline struct vring_used *used_ring(const struct virtq *vq)
{
	return vq->used;
}

/* The driver's wish with EVENT_IDX, behind the available ring ... */
static inline uint16_t *used_event(const struct virtq *vq)
{
	return &avail_ring(vq)->ring[vq->size];
}

/* ... and the device's, behind the used ring. */
static inline uint16_t *avail_event(const struct virtq *vq)
{
	return (uint16_t *)(void *)&used_ring(vq)->ring[vq->size];
}

static bool has(uint64_t features, unsigned bit)
{
	return features & (1ull << bit);
}

static int map_ring(const struct gmem *mem, gpa_t addr, size_t len, unsigned align, void **ret)
{
	if (!IS_ALIGNED(addr.v, align))
		return -EINVAL;
	return gmem_slice(mem, addr, len, ret);
}

int virtq_activate(struct virtq *vq, const struct gmem *mem, uint64_t features, const char **why)
{
	return virtq_activate_at(vq, mem, features, 0, 0, why);
}

int virtq_activate_at(struct virtq *vq, const struct gmem *mem, uint64_t features,
		      uint16_t next_avail, uint16_t next_used, const char **why)
{
	void *desc, *avail, *used;
	size_t size = vq->size;

	if (size == 0 || (size & (size - 1)) || size > vq->max_size || size > VIRTQ_MAX_SIZE) {
		*why = "queue size is not a power of two up to the maximum";
		return -EINVAL;
	}
	if (map_ring(mem, vq->desc_gpa, 16 * size, 16, &desc)) {
		*why = "descriptor table is misaligned or outside RAM";
		return -EINVAL;
	}
	if (map_ring(mem, vq->avail_gpa, 6 + 2 * size, 2, &avail)) {
		*why = "available ring is misaligned or outside RAM";
		return -EINVAL;
	}
	if (map_ring(mem, vq->used_gpa, 6 + 8 * size, 4, &used)) {
		*why = "used ring is misaligned or outside RAM";
		return -EINVAL;
	}
	vq->mem = mem;
	vq->desc = desc;
	vq->avail = avail;
	vq->used = used;
	vq->next_avail = vq->avail_seen = next_avail;
	vq->next_used = vq->published = next_used;
	vq->paused = false;
	vq->event_idx = has(features, VIRTIO_RING_F_EVENT_IDX);
	vq->indirect = has(features, VIRTIO_RING_F_INDIRECT_DESC);
	memset(vq->in_flight, 0, sizeof(vq->in_flight));
	/* With EVENT_IDX nobody writes it again (section 2.7.10.2). */
	__atomic_store_n(&used_ring(vq)->flags, 0, __ATOMIC_RELAXED);
	return 0;
}

void virtq_reset(struct virtq *vq)
{
	*vq = (struct virtq){.max_size = vq->max_size};
}

/*
 * One copy of the descriptor at `p`, whose guest physical address is `addr`. The compiler
 * cannot see through the barrier, so it cannot load a field again after it was checked.
 */
static inline struct vring_desc snapshot(const struct virtq *vq, const uint8_t *p, uint64_t addr)
{
	struct vring_desc d;
	uint64_t low, high;

	if (unlikely(gmem_read_hook))
		gmem_read_hook(vq->mem, GPA(addr), sizeof(d));
	memcpy(&low, p, 8);
	memcpy(&high, p + 8, 8);
	__asm__ volatile("" : "+r"(low), "+r"(high));
	d.addr = low;
	d.len = (uint32_t)high;
	d.flags = (uint16_t)(high >> 32);
	d.next = (uint16_t)(high >> 48);
	return d;
}

/* Where a walk is: the queue's descriptor table, or an indirect one. */
struct walk {
	const uint8_t *table;
	uint64_t table_gpa;
	uint32_t entries;
	uint32_t hops_left;
	uint32_t index;
	bool indirect;
};

static int broken(const char **why, const char *what)
{
	*why = what;
	return -EBADMSG;
}

/* Follows `d`, which has VRING_DESC_F_INDIRECT: section 2.7.5.3, WRITE is ignored here. */
static int enter_table(const struct virtq *vq, struct walk *w, const struct vring_desc *d,
		       const char **why)
{
	void *table;

	if (!vq->indirect)
		return broken(why, "indirect descriptor without VIRTIO_F_INDIRECT_DESC");
	if (w->indirect)
		return broken(why, "indirect descriptor in an indirect table");
	if (d->flags & VRING_DESC_F_NEXT)
		return broken(why, "indirect descriptor with a next one");
	if (d->len == 0 || d->len % 16 || d->len / 16 > MAX_INDIRECT)
		return broken(why, "indirect table of a bad length");
	if (gmem_slice(vq->mem, GPA(d->addr), d->len, &table))
		return broken(why, "indirect table outside RAM");
	*w = (struct walk){
		.table = table,
		.table_gpa = d->addr,
		.entries = d->len / 16,
		.hops_left = d->len / 16,
		.indirect = true,
	};
	return 0;
}

/* Adds the buffer of `d` to the chain; *total counts its bytes so far. */
static int add_buffer(const struct virtq *vq, struct virtq_chain *chain, uint64_t *total,
		      const struct vring_desc *d, const char **why)
{
	bool in = d->flags & VRING_DESC_F_WRITE;
	unsigned n = chain->num_out + chain->num_in;
	void *host;

	if (!in && chain->num_in)
		return broken(why, "device-readable descriptor after a writable one");
	if (d->len == 0)
		return 0; /* nothing to touch */
	*total += d->len;
	if (*total > UINT32_MAX)
		return broken(why, "chain of more than 2^32-1 bytes");
	if (n == chain->max_iov)
		return broken(why, "chain of more buffers than the device takes");
	if (gmem_slice(vq->mem, GPA(d->addr), d->len, &host))
		return broken(why, "buffer outside RAM");
	chain->iov[n] = (struct iovec){.iov_base = host, .iov_len = d->len};
	if (in) {
		chain->num_in++;
		chain->in_bytes += d->len;
	} else {
		chain->num_out++;
		chain->out_bytes += d->len;
	}
	return 0;
}

static int walk_chain(const struct virtq *vq, struct virtq_chain *chain, const char **why)
{
	struct walk w = {
		.table = vq->desc,
		.table_gpa = vq->desc_gpa.v,
		.entries = vq->size,
		.hops_left = vq->size,
		.index = chain->head,
	};
	uint64_t total = 0;

	for (;;) {
		struct vring_desc d;
		int r;

		if (w.hops_left-- == 0)
			return broken(why, "descriptor chain loops");
		d = snapshot(vq, w.table + w.index * 16, w.table_gpa + w.index * 16);
		if (d.flags & ~KNOWN_FLAGS)
			return broken(why, "unknown descriptor flags");
		if (d.flags & VRING_DESC_F_INDIRECT) {
			r = enter_table(vq, &w, &d, why);
			if (r)
				return r;
			continue;
		}
		r = add_buffer(vq, chain, &total, &d, why);
		if (r)
			return r;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 0;
		if (d.next >= w.entries)
			return broken(why, "next descriptor out of range");
		w.index = d.next;
	}
}

/* Looks at avail.idx: 1 when there is more, 0 when not, -EBADMSG (and nothing is remembered). */
static int look_for_more(struct virtq *vq, const char **why)
{
	uint16_t idx;

	if (unlikely(vq->paused))
		return 0;
	if (unlikely(gmem_read_hook))
		gmem_read_hook(vq->mem, GPA(vq->avail_gpa.v + 2), 2);
	idx = load(&avail_ring(vq)->idx, __ATOMIC_ACQUIRE);
	if ((uint16_t)(idx - vq->next_avail) > vq->size)
		return broken(why, "available index jumped by more than the queue size");
	vq->avail_seen = idx;
	return idx != vq->next_avail;
}

bool virtq_available(const struct virtq *vq)
{
	return !vq->paused && load(&avail_ring(vq)->idx, __ATOMIC_RELAXED) != vq->next_avail;
}

int virtq_pop(struct virtq *vq, struct virtq_chain *chain, const char **why)
{
	uint16_t head;
	uint64_t bit;
	int r;

	if (vq->next_avail == vq->avail_seen) {
		r = look_for_more(vq, why);
		if (r <= 0)
			return r;
	}
	head = load(&avail_ring(vq)->ring[vq->next_avail & (vq->size - 1u)], __ATOMIC_RELAXED);
	if (head >= vq->size)
		return broken(why, "head descriptor out of range");
	bit = 1ull << (head % 64);
	if (vq->in_flight[head / 64] & bit)
		return broken(why, "head descriptor is in flight already");

	chain->head = head;
	chain->num_out = chain->num_in = 0;
	chain->out_bytes = chain->in_bytes = 0;
	r = walk_chain(vq, chain, why);
	if (r)
		return r;
	vq->in_flight[head / 64] |= bit;
	vq->next_avail++;
	return 1;
}

void virtq_push(struct virtq *vq, uint16_t head, uint32_t written)
{
	uint64_t bit = 1ull << (head % 64);
	struct vring_used_elem *e;

	/* Late (the queue was reset) or pushed before: there is one used entry per chain. */
	if (head >= vq->size || !(vq->in_flight[head / 64] & bit))
		return;
	vq->in_flight[head / 64] &= ~bit;
	e = &used_ring(vq)->ring[vq->next_used & (vq->size - 1u)];
	e->id = head;
	e->len = written;
	vq->next_used++;
}

void virtq_unpop(struct virtq *vq, uint16_t head)
{
	uint64_t bit = 1ull << (head % 64);

	assert(head < vq->size && vq->in_flight[head / 64] & bit);
	vq->in_flight[head / 64] &= ~bit;
	vq->avail_seen = --vq->next_avail; /* the rest has to be looked for anew */
}

bool virtq_publish(struct virtq *vq)
{
	uint16_t old = vq->published, now = vq->next_used;

	if (old == now)
		return false;
	vq->published = now;
	__atomic_store_n(&used_ring(vq)->idx, now, __ATOMIC_SEQ_CST);
	if (!vq->event_idx)
		return !(load(&avail_ring(vq)->flags, __ATOMIC_SEQ_CST) &
			 VRING_AVAIL_F_NO_INTERRUPT);
	/* Is used_event in [old, now)? vring_need_event() of the specification. */
	return (uint16_t)(now - load(used_event(vq), __ATOMIC_SEQ_CST) - 1) < (uint16_t)(now - old);
}

/* With EVENT_IDX there is nothing to do: the driver kicks only when it passes avail_event, which
 * stays behind. */
void virtq_disable_kicks(struct virtq *vq)
{
	if (!vq->event_idx)
		__atomic_store_n(&used_ring(vq)->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}

bool virtq_enable_kicks(struct virtq *vq)
{
	if (vq->event_idx)
		__atomic_store_n(avail_event(vq), vq->next_avail, __ATOMIC_SEQ_CST);
	else
		__atomic_store_n(&used_ring(vq)->flags, 0, __ATOMIC_SEQ_CST);
	return load(&avail_ring(vq)->idx, __ATOMIC_SEQ_CST) != vq->next_avail && !vq->paused;
}

void virtq_pause(struct virtq *vq, bool paused)
{
	vq->paused = paused;
	vq->avail_seen = vq->next_avail; /* the rest has to be looked for anew */
}

void virtq_go_on_at(struct virtq *vq, uint16_t next_avail)
{
	vq->next_avail = vq->avail_seen = next_avail;
	vq->next_used = vq->published = load(&used_ring(vq)->idx, __ATOMIC_ACQUIRE);
}

bool virtq_is_idle(const struct virtq *vq)
{
	uint64_t in_flight = 0;

	for (unsigned i = 0; i < VIRTQ_MAX_SIZE / 64; i++)
		in_flight |= vq->in_flight[i];
	return !in_flight && vq->next_used == vq->published;
}

/* Both copies go through the array in the same way; only the direction differs. */
static size_t iov_copy(const struct iovec *iov, unsigned n, size_t offset, void *to,
		       const void *from, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		uint8_t *base = iov[i].iov_base;
		size_t part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - offset, len - done);
		if (to)
			memcpy((uint8_t *)to + done, base + offset, part);
		else
			memcpy(base + offset, (const uint8_t *)from + done, part);
		done += part;
		offset = 0;
	}
	return done;
}

size_t iov_read(const struct iovec *iov, unsigned n, size_t offset, void *dst, size_t len)
{
	return iov_copy(iov, n, offset, dst, NULL, len);
}

size_t iov_write(const struct iovec *iov, unsigned n, size_t offset, const void *src, size_t len)
{
	return iov_copy(iov, n, offset, NULL, src, len);
}
