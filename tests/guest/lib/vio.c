// SPDX-License-Identifier: BSD-2-Clause
#include "vio.h"

#define MAGIC 0x74726976u /* "virt" */

/* Where virtio-mmio registers are, and how devices map to I/O APIC pins. */
static const struct window {
	uint64_t base;
	uint32_t stride;
	unsigned count, first_pin;
} windows[] = {
	{0xd0000000, 0x1000, VIO_MAX_DEVICES, SKEP_FIRST_PIN}, /* skep */
	{0xc0001000, 0x1000, 19, 5},			       /* Firecracker */
	{0xfeb00000, 0x200, 24, 16},			       /* QEMU microvm */
};

struct vio vio_devices[VIO_MAX_DEVICES];
unsigned num_vio_devices;

void vio_probe(void)
{
	num_vio_devices = 0;
	for (unsigned w = 0; w < sizeof(windows) / sizeof(windows[0]) && !num_vio_devices; w++) {
		for (unsigned n = 0; n < windows[w].count; n++) {
			uint64_t base = windows[w].base + (uint64_t)n * windows[w].stride;

			if (mmio_read32(base + VIRTIO_MMIO_MAGIC_VALUE) != MAGIC ||
			    mmio_read32(base + VIRTIO_MMIO_VERSION) != 2)
				break;
			vio_devices[num_vio_devices++] = (struct vio){
				.base = base,
				.id = mmio_read32(base + VIRTIO_MMIO_DEVICE_ID),
				.pin = windows[w].first_pin + n,
			};
		}
	}
}

struct vio *vio_find(uint32_t id, unsigned nth)
{
	for (unsigned i = 0; i < num_vio_devices; i++)
		if (vio_devices[i].id == id && !nth--)
			return &vio_devices[i];
	return NULL;
}

uint64_t vio_device_features(const struct vio *d)
{
	uint64_t lo, hi;

	vio_write(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	lo = vio_read(d, VIRTIO_MMIO_DEVICE_FEATURES);
	vio_write(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	hi = vio_read(d, VIRTIO_MMIO_DEVICE_FEATURES);
	return hi << 32 | lo;
}

void vio_driver_features(const struct vio *d, uint64_t features)
{
	vio_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	vio_write(d, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
	vio_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	vio_write(d, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
}

static uint64_t config_once(uint64_t at, unsigned len)
{
	switch (len) {
	case 1:
		return mmio_read8(at);
	case 2:
		return mmio_read16(at);
	case 4:
		return mmio_read32(at);
	default: /* section 4.2.2.2: as two 32-bit accesses */
		return mmio_read32(at) | (uint64_t)mmio_read32(at + 4) << 32;
	}
}

uint64_t vio_config(const struct vio *d, uint32_t offset, unsigned len)
{
	uint64_t v;
	uint32_t generation;

	do {
		generation = vio_read(d, VIRTIO_MMIO_CONFIG_GENERATION);
		v = config_once(d->base + VIRTIO_MMIO_CONFIG + offset, len);
	} while (vio_read(d, VIRTIO_MMIO_CONFIG_GENERATION) != generation);
	return v;
}

bool vio_reset(struct vio *d)
{
	vio_write(d, VIRTIO_MMIO_STATUS, 0);
	return WAIT_UNTIL(vio_status(d) == 0);
}

static void add_status(struct vio *d, uint8_t bits)
{
	vio_write(d, VIRTIO_MMIO_STATUS, vio_status(d) | bits);
}

bool vio_negotiate(struct vio *d, uint64_t want)
{
	if (!vio_reset(d))
		return false;
	add_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	add_status(d, VIRTIO_CONFIG_S_DRIVER);
	d->features = vio_device_features(d) & (want | FEATURE(VIRTIO_F_VERSION_1));
	vio_driver_features(d, d->features);
	add_status(d, VIRTIO_CONFIG_S_FEATURES_OK);
	return vio_status(d) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static void write_address(struct vio *d, uint32_t low_reg, uint64_t address)
{
	vio_write(d, low_reg, (uint32_t)address);
	vio_write(d, low_reg + 4, (uint32_t)(address >> 32));
}

bool vio_queue(struct vio *d, unsigned index, uint16_t size)
{
	struct vq *q = &d->vq[index];
	uint32_t max;

	vio_write(d, VIRTIO_MMIO_QUEUE_SEL, index);
	max = vio_read(d, VIRTIO_MMIO_QUEUE_NUM_MAX);
	if (!max || vio_read(d, VIRTIO_MMIO_QUEUE_READY))
		return false;
	if (size > max)
		size = (uint16_t)max;
	*q = (struct vq){
		.dev = d,
		.index = index,
		.size = size,
		.num_free = size,
		.desc = alloc(16ul * size, 16),
		.avail = alloc(6 + 2ul * size, 2),
		.used = alloc(6 + 8ul * size, 4),
	};
	for (uint16_t i = 0; i < size; i++)
		q->desc[i].next = (uint16_t)(i + 1);
	vio_write(d, VIRTIO_MMIO_QUEUE_NUM, size);
	write_address(d, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint64_t)q->desc);
	write_address(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint64_t)q->avail);
	write_address(d, VIRTIO_MMIO_QUEUE_USED_LOW, (uint64_t)q->used);
	vio_write(d, VIRTIO_MMIO_QUEUE_READY, 1);
	return vio_read(d, VIRTIO_MMIO_QUEUE_READY) == 1;
}

void vio_driver_ok(struct vio *d)
{
	add_status(d, VIRTIO_CONFIG_S_DRIVER_OK);
}

bool vio_start(struct vio *d, uint64_t want, unsigned queues, uint16_t size)
{
	if (!vio_negotiate(d, want))
		return false;
	for (unsigned i = 0; i < queues; i++)
		if (!vio_queue(d, i, size))
			return false;
	vio_driver_ok(d);
	return true;
}

void vq_set_desc(struct vq *q, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags,
		 uint16_t next)
{
	q->desc[i] = (struct vring_desc){addr, len, flags, next};
}

static void put_avail(struct vq *q, uint16_t head)
{
	q->avail->ring[q->avail_idx++ % q->size] = head;
}

void vq_publish(struct vq *q)
{
	barrier();
	q->published_before = q->avail->idx;
	*(volatile uint16_t *)&q->avail->idx = q->avail_idx;
	full_fence();
}

void vq_notify(struct vq *q)
{
	vio_write(q->dev, VIRTIO_MMIO_QUEUE_NOTIFY, q->index);
}

bool vq_wants_notify(const struct vq *q)
{
	if (q->dev->features & FEATURE(VIRTIO_RING_F_EVENT_IDX))
		/* Whether the last publication stepped over it: vring_need_event(), 2.7.10. */
		return (uint16_t)(q->avail_idx - VQ_AVAIL_EVENT(q) - 1) <
		       (uint16_t)(q->avail_idx - q->published_before);
	return !(*(volatile uint16_t *)&q->used->flags & VRING_USED_F_NO_NOTIFY);
}

void vq_offer(struct vq *q, uint16_t head)
{
	put_avail(q, head);
	vq_publish(q);
}

int vq_add(struct vq *q, const struct sg *sg, unsigned out, unsigned in)
{
	uint16_t head = q->free_head, at = head, last = head;

	if (!(out + in) || out + in > q->num_free)
		return -1;
	for (unsigned i = 0; i < out + in; i++) {
		struct vring_desc *d = &q->desc[at];

		d->addr = (uint64_t)sg[i].addr;
		d->len = sg[i].len;
		d->flags = VRING_DESC_F_NEXT | (i >= out ? VRING_DESC_F_WRITE : 0);
		last = at;
		at = d->next;
	}
	q->desc[last].flags &= (uint16_t)~VRING_DESC_F_NEXT;
	q->free_head = at;
	q->num_free = (uint16_t)(q->num_free - (out + in));
	put_avail(q, head);
	return head;
}

int vq_add_indirect(struct vq *q, struct vring_desc *table, const struct sg *sg, unsigned out,
		    unsigned in)
{
	uint16_t head = q->free_head;
	unsigned n = out + in;

	if (!q->num_free)
		return -1;
	for (unsigned i = 0; i < n; i++)
		table[i] = (struct vring_desc){
			.addr = (uint64_t)sg[i].addr,
			.len = sg[i].len,
			.flags = (uint16_t)((i + 1 < n ? VRING_DESC_F_NEXT : 0) |
					    (i >= out ? VRING_DESC_F_WRITE : 0)),
			.next = (uint16_t)(i + 1 < n ? i + 1 : 0),
		};
	q->free_head = q->desc[head].next;
	q->num_free--;
	q->desc[head].addr = (uint64_t)table;
	q->desc[head].len = 16 * n;
	q->desc[head].flags = VRING_DESC_F_INDIRECT;
	put_avail(q, head);
	return head;
}

int vq_poll(struct vq *q, uint32_t *ret_len)
{
	struct vring_used_elem e;
	uint16_t at, count = 1;

	if (*(volatile uint16_t *)&q->used->idx == q->last_used)
		return -1;
	barrier();
	e = q->used->ring[q->last_used++ % q->size];
	if (e.id >= q->size)
		panic("queue %u: used head %u of %u", q->index, e.id, q->size);
	for (at = (uint16_t)e.id; q->desc[at].flags & VRING_DESC_F_NEXT; count++) {
		if (count > q->size)
			panic("queue %u: used head %u is a loop", q->index, e.id);
		at = q->desc[at].next;
	}
	q->desc[at].next = q->free_head;
	q->free_head = (uint16_t)e.id;
	q->num_free = (uint16_t)(q->num_free + count);
	if (ret_len)
		*ret_len = e.len;
	return (int)e.id;
}

int vq_wait(struct vq *q, uint32_t *ret_len)
{
	int head = -1;

	WAIT_UNTIL((head = vq_poll(q, ret_len)) >= 0);
	return head;
}

int64_t vq_do(struct vq *q, const struct sg *sg, unsigned out, unsigned in)
{
	uint32_t len;

	if (vq_add(q, sg, out, in) < 0)
		return -1;
	vq_publish(q);
	vq_notify(q);
	return vq_wait(q, &len) < 0 ? -1 : (int64_t)len;
}
