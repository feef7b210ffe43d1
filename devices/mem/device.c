// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. The device has a range of guest-physical addresses, in blocks, and tells
 * the driver how much of it is to be plugged. The driver chooses the blocks, and asks for each to be
 * plugged or unplugged; the host never takes one by itself. What is plugged is in the guest memory's
 * map (gmem.h). A block has a memory slot of KVM's while it is plugged, so that an unplugged one is as
 * absent for vCPUs as for devices.
 *
 * A reset changes nothing: the next driver finds what is plugged, and may unplug it all (5.15.5).
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mem.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "mem.h"

#define QUEUE_SIZE 64u
#define WORDS	   (GMEM_MAX_BLOCKS / 64)

/* Linux 5.16 */
#ifndef VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE
#define VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE 1
#endif

struct mem {
	struct virtio_dev dev;
	const struct device_host *host;
	uint64_t start, max;
	_Atomic uint64_t requested, plugged, returned; /* bytes */
	struct iovec iov[VIRTQ_MAX_SIZE];
};

static struct mem *to_mem(const struct virtio_dev *dev)
{
	return container_of(dev, struct mem, dev);
}

static void set_u64(struct mem *m, size_t offset, uint64_t value, bool interrupt)
{
	uint64_t le = htole64(value);

	virtio_dev_set_config_locked(&m->dev, (uint32_t)offset, &le, sizeof(le), interrupt);
}

#define SET(m, member, value, interrupt)                                                           \
	set_u64(m, offsetof(struct virtio_mem_config, member), value, interrupt)

static unsigned count_plugged(const struct mem *m, unsigned first, unsigned num)
{
	unsigned n = 0;

	for (unsigned i = first; i < first + num; i++)
		n += gmem_is_plugged(m->dev.mem, i);
	return n;
}

/* Plugs or unplugs those blocks that are not so: all, or none and a negative errno. */
static int set_blocks(struct mem *m, unsigned first, unsigned num, bool plugged)
{
	const struct gmem *mem = m->dev.mem;
	bool change[GMEM_MAX_BLOCKS] = {false};
	unsigned n = 0, i;
	int r = 0;

	for (i = first; r >= 0 && i < first + num; i++) {
		change[i] = gmem_is_plugged(mem, i) != plugged;
		r = change[i] ? m->host->plug(m->host->ctx, i, plugged) : 0;
		n += change[i];
	}
	if (r < 0) {
		change[i - 1] = false;
		while (i-- > first)
			if (change[i])
				m->host->plug(m->host->ctx, i, !plugged);
	} else if (!plugged && n) {
		gmem_discard_unplugged(mem);
		m->returned += n * mem->hotplug.block;
	}
	m->plugged = count_plugged(m, 0, gmem_num_blocks(mem)) * mem->hotplug.block;
	SET(m, plugged_size, m->plugged, false);
	return r;
}

/* The blocks that a request names; false: they are no blocks, or not all of the region. */
static bool get_blocks(const struct mem *m, __virtio64 addr, __virtio16 nb_blocks,
		       unsigned *ret_first, unsigned *ret_num)
{
	const struct gmem_hotplug *h = &m->dev.mem->hotplug;
	uint64_t gpa = le64toh(addr), offset = gpa - h->base.v;
	unsigned num = le16toh(nb_blocks);

	if (gpa < h->base.v || offset >= h->size || offset % h->block || !num)
		return false;
	*ret_first = (unsigned)(offset / h->block);
	*ret_num = num;
	return num <= gmem_num_blocks(m->dev.mem) - *ret_first;
}

static uint16_t plug(struct mem *m, unsigned first, unsigned num)
{
	if (count_plugged(m, first, num))
		return VIRTIO_MEM_RESP_ERROR;
	if (m->plugged + num * m->dev.mem->hotplug.block > m->requested ||
	    set_blocks(m, first, num, true) < 0)
		return VIRTIO_MEM_RESP_NACK;
	return VIRTIO_MEM_RESP_ACK;
}

static uint16_t unplug(struct mem *m, unsigned first, unsigned num)
{
	if (count_plugged(m, first, num) != num)
		return VIRTIO_MEM_RESP_ERROR;
	return set_blocks(m, first, num, false) < 0 ? VIRTIO_MEM_RESP_BUSY : VIRTIO_MEM_RESP_ACK;
}

static uint16_t unplug_all(struct mem *m)
{
	int r = set_blocks(m, 0, gmem_num_blocks(m->dev.mem), false);

	return r < 0 ? VIRTIO_MEM_RESP_BUSY : VIRTIO_MEM_RESP_ACK;
}

static uint16_t state_of(const struct mem *m, unsigned first, unsigned num)
{
	unsigned n = count_plugged(m, first, num);

	if (n == num)
		return VIRTIO_MEM_STATE_PLUGGED;
	return n ? VIRTIO_MEM_STATE_MIXED : VIRTIO_MEM_STATE_UNPLUGGED;
}

static struct virtio_mem_resp respond(struct mem *m, const struct virtio_mem_req *req)
{
	uint16_t type = le16toh(req->type), answer = VIRTIO_MEM_RESP_ERROR, state = 0;
	unsigned first, num;

	/* Addresses are in the same place in all requests. */
	if (type == VIRTIO_MEM_REQ_UNPLUG_ALL) {
		answer = unplug_all(m);
	} else if (get_blocks(m, req->u.plug.addr, req->u.plug.nb_blocks, &first, &num)) {
		if (type == VIRTIO_MEM_REQ_PLUG) {
			answer = plug(m, first, num);
		} else if (type == VIRTIO_MEM_REQ_UNPLUG) {
			answer = unplug(m, first, num);
		} else if (type == VIRTIO_MEM_REQ_STATE) {
			answer = VIRTIO_MEM_RESP_ACK;
			state = state_of(m, first, num);
		}
	}
	return (struct virtio_mem_resp){.type = htole16(answer), .u.state.state = htole16(state)};
}

/* One request, which may be much work. */
static int turn(struct virtio_dev *dev, unsigned q, const char **why)
{
	struct mem *m = to_mem(dev);
	struct virtq_chain chain = {.iov = m->iov, .max_iov = VIRTQ_MAX_SIZE};
	struct virtio_mem_resp resp;
	struct virtio_mem_req req;
	int r = virtq_pop(&dev->queue[q].vq, &chain, why);

	if (r <= 0)
		return r;
	*why = "a request is too short, or has no room for the response";
	if (iov_read(chain.iov, chain.num_out, 0, &req, sizeof(req)) < sizeof(req) ||
	    chain.in_bytes < sizeof(resp))
		return -EBADMSG;
	resp = respond(m, &req);
	iov_write(chain.iov + chain.num_out, chain.num_in, 0, &resp, sizeof(resp));
	virtq_push(&dev->queue[q].vq, chain.head, sizeof(resp));
	return 1;
}

static void mem_kick(struct virtio_dev *dev, unsigned q)
{
	virtio_queue_work(dev, q, turn);
}

struct state {
	uint64_t requested, plugged[WORDS];
};
static_assert(sizeof(struct state) == 8 + GMEM_MAX_BLOCKS / 8, "no holes");

static int mem_save(struct virtio_dev *dev, void *state, struct error *e)
{
	struct state s = {.requested = to_mem(dev)->requested};

	(void)e;
	for (unsigned i = 0; i < gmem_num_blocks(dev->mem); i++)
		s.plugged[i / 64] |= (uint64_t)gmem_is_plugged(dev->mem, i) << i % 64;
	memcpy(state, &s, sizeof(s));
	return 0;
}

static bool is_bit(const uint64_t *words, unsigned i)
{
	return words[i / 64] >> i % 64 & 1;
}

static int mem_restore(struct virtio_dev *dev, const void *state, struct error *e)
{
	struct mem *m = to_mem(dev);
	unsigned num = gmem_num_blocks(dev->mem);
	struct state s;
	int r = 0;

	memcpy(&s, state, sizeof(s));
	if (s.requested > m->max - m->start || s.requested % dev->mem->hotplug.block)
		return error_set(e, -EINVAL, "the state asks for memory that the VM cannot have");
	for (unsigned i = num; i < GMEM_MAX_BLOCKS; i++)
		if (is_bit(s.plugged, i))
			return error_set(e, -EINVAL, "the state has more memory than the VM can");
	for (unsigned i = 0; r >= 0 && i < num; i++)
		r = set_blocks(m, i, 1, is_bit(s.plugged, i));
	if (r < 0)
		return error_set(e, r, "cannot give the guest its memory: %s", strerror(-r));
	m->requested = s.requested;
	SET(m, requested_size, s.requested, false);
	return 0;
}

static void mem_destroy(struct virtio_dev *dev)
{
	free(to_mem(dev));
}

static const struct virtio_ops mem_ops = {
	.name = "mem",
	.device_id = VIRTIO_ID_MEM,
	.kick = mem_kick,
	.state_size = sizeof(struct state),
	.save = mem_save,
	.restore = mem_restore,
	.destroy = mem_destroy,
};

int mem_set_size(struct virtio_dev *dev, uint64_t bytes, struct error *e)
{
	struct mem *m = to_mem(dev);
	char start[FORMAT_BYTES], max[FORMAT_BYTES];

	if (bytes < m->start || bytes > m->max)
		return error_set(e, -ERANGE,
				 "the guest's memory can be from %s, which it started with, to %s",
				 format_bytes(m->start, start), format_bytes(m->max, max));
	m->requested = ALIGN_DOWN(bytes - m->start, dev->mem->hotplug.block);
	SET(m, requested_size, m->requested, true);
	return 0;
}

void mem_counters(const struct virtio_dev *dev, struct mem_counters *ret)
{
	const struct mem *m = to_mem(dev);
	uint64_t plugged = m->plugged;

	*ret = (struct mem_counters){
		.size = (int64_t)(m->start + plugged),
		.target = (int64_t)(m->start + m->requested),
		.max = (int64_t)m->max,
		.plugged_bytes = (int64_t)plugged,
		.returned_bytes = (int64_t)m->returned,
	};
}

int mem_device_new(struct virtio_dev **ret, const struct device_host *host, uint64_t start,
		   uint64_t max, struct loop *loop, struct error *e)
{
	const struct gmem_hotplug *h = &host->mem->hotplug;
	struct mem *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return error_set(e, -ENOMEM, "virtio-mem: out of memory");
	m->host = host;
	m->start = start;
	m->max = max;
	m->dev.features = 1ull << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE;
	m->dev.config_len = sizeof(struct virtio_mem_config);
	r = virtio_dev_init(&m->dev, &mem_ops, host->mem, 1, QUEUE_SIZE, loop, e);
	if (r < 0) {
		free(m);
		return r;
	}
	SET(m, block_size, h->block, false);
	SET(m, addr, h->base.v, false);
	SET(m, region_size, h->size, false);
	SET(m, usable_region_size, h->size, false);
	*ret = &m->dev;
	return 0;
}
