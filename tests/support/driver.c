// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "base/util.h"
#include "driver.h"

#define must(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #cond);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

void drv_init(struct drv *d, uint64_t ram_bytes)
{
	memset(d, 0, sizeof(*d));
	must(gmem_create(&d->mem, ram_bytes, NULL) == 0);
	d->next = 4096;
	d->page = mmap(NULL, VIRTIO_MMIO_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	must(d->page != MAP_FAILED);
	d->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	must(d->irq_fd >= 0);
	must(pthread_mutex_init(&d->drain_lock, NULL) == 0);
}

void drv_free(struct drv *d)
{
	gmem_destroy(&d->mem);
	munmap(d->page, VIRTIO_MMIO_PAGE);
	close(d->irq_fd);
	pthread_mutex_destroy(&d->drain_lock);
}

void drv_attach(struct drv *d, struct virtio_dev *dev)
{
	d->dev = dev;
	must(virtio_dev_attach(dev, d->page, d->irq_fd, NULL, NULL, NULL) == 0);
}

void drv_attach_coalesced(struct drv *d, struct virtio_dev *dev)
{
	d->dev = dev;
	d->coalesced = true;
	must(virtio_dev_attach(dev, d->page, d->irq_fd, drv_drain, d, NULL) == 0);
}

/* As for KVM's ring: the emptiness check takes no lock, and `first` moves after the ACK worked.
 * `last` is looked at before `first`: then equality says that all ACKs up to that look are in. */
void drv_drain(void *ctx)
{
	struct drv *d = ctx;
	uint32_t last = atomic_load(&d->last);

	if (atomic_load(&d->first) == last)
		return;
	pthread_mutex_lock(&d->drain_lock);
	while (atomic_load(&d->first) != atomic_load(&d->last)) {
		uint32_t *ack = &d->ack[atomic_load(&d->first) % DRV_COALESCED];

		virtio_mmio_write(d->dev, VIRTIO_MMIO_INTERRUPT_ACK, ack, sizeof(*ack));
		atomic_fetch_add(&d->first, 1);
	}
	pthread_mutex_unlock(&d->drain_lock);
}

gpa_t drv_alloc(struct drv *d, size_t len, size_t align)
{
	gpa_t addr = GPA(ALIGN_UP(d->next, align));
	void *p;

	if (gmem_slice(&d->mem, addr, len, &p) && addr.v < GMEM_HOLE_END) {
		addr = GPA(GMEM_HOLE_END);
		must(gmem_slice(&d->mem, addr, len, &p) == 0);
	}
	memset(p, 0, len);
	d->next = addr.v + len;
	return addr;
}

void *drv_ptr(struct drv *d, gpa_t addr, size_t len)
{
	void *p;

	must(gmem_slice(&d->mem, addr, len, &p) == 0);
	return p;
}

uint32_t drv_read32(struct drv *d, uint32_t offset)
{
	uint32_t v;

	virtio_mmio_read(d->dev, offset, &v, sizeof(v));
	return v;
}

uint32_t drv_page32(struct drv *d, uint32_t offset)
{
	return __atomic_load_n((uint32_t *)(void *)(d->page + offset), __ATOMIC_ACQUIRE);
}

void drv_write32(struct drv *d, uint32_t offset, uint32_t value)
{
	if (d->coalesced && offset == VIRTIO_MMIO_INTERRUPT_ACK &&
	    atomic_load(&d->last) - atomic_load(&d->first) < DRV_COALESCED) {
		d->ack[atomic_load(&d->last) % DRV_COALESCED] = value;
		atomic_fetch_add(&d->last, 1);
		return;
	}
	if (d->coalesced)
		drv_drain(d); /* as at each exit to user space */
	virtio_mmio_write(d->dev, offset, &value, sizeof(value));
}

bool drv_is_broken(struct drv *d)
{
	return drv_read32(d, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

uint64_t drv_device_features(struct drv *d)
{
	uint64_t low;

	drv_write32(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	low = drv_read32(d, VIRTIO_MMIO_DEVICE_FEATURES);
	drv_write32(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	return low | (uint64_t)drv_read32(d, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
}

static void status_add(struct drv *d, uint32_t bit)
{
	drv_write32(d, VIRTIO_MMIO_STATUS, drv_read32(d, VIRTIO_MMIO_STATUS) | bit);
}

void drv_reset(struct drv *d)
{
	drv_write32(d, VIRTIO_MMIO_STATUS, 0);
	must(drv_read32(d, VIRTIO_MMIO_STATUS) == 0);
	drv_irqs(d);
}

bool drv_negotiate(struct drv *d, uint64_t features)
{
	drv_reset(d);
	status_add(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	status_add(d, VIRTIO_CONFIG_S_DRIVER);
	drv_write32(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	drv_write32(d, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
	drv_write32(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	drv_write32(d, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
	status_add(d, VIRTIO_CONFIG_S_FEATURES_OK);
	return drv_read32(d, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK;
}

void drv_queue_place(struct drv_queue *q, struct drv *d, uint16_t size, bool event_idx)
{
	must(size <= VIRTQ_MAX_SIZE);
	memset(q, 0, sizeof(*q));
	q->drv = d;
	q->size = size;
	q->event_idx = event_idx;
	q->desc_gpa = drv_alloc(d, 16u * size, 16);
	q->avail_gpa = drv_alloc(d, 6 + 2u * size, 2);
	q->used_gpa = drv_alloc(d, 6 + 8u * size, 4);
	q->desc = drv_ptr(d, q->desc_gpa, 16u * size);
	q->avail = drv_ptr(d, q->avail_gpa, 6 + 2u * size);
	q->used = drv_ptr(d, q->used_gpa, 6 + 8u * size);
}

void drv_queue_bind(const struct drv_queue *q, struct virtq *vq)
{
	vq->desc_gpa = q->desc_gpa;
	vq->avail_gpa = q->avail_gpa;
	vq->used_gpa = q->used_gpa;
	vq->size = q->size;
}

static void write_address(struct drv *d, uint32_t low_register, gpa_t addr)
{
	drv_write32(d, low_register, (uint32_t)addr.v);
	drv_write32(d, low_register + 4, (uint32_t)(addr.v >> 32));
}

void drv_queue_setup(struct drv *d, unsigned index, uint16_t size)
{
	struct drv_queue *q = &d->queue[index];
	bool event_idx = d->dev->driver_features & (1ull << VIRTIO_RING_F_EVENT_IDX);

	drv_write32(d, VIRTIO_MMIO_QUEUE_SEL, index);
	if (!size)
		size = (uint16_t)drv_read32(d, VIRTIO_MMIO_QUEUE_NUM_MAX);
	drv_queue_place(q, d, size, event_idx);
	q->index = index;
	drv_write32(d, VIRTIO_MMIO_QUEUE_NUM, size);
	write_address(d, VIRTIO_MMIO_QUEUE_DESC_LOW, q->desc_gpa);
	write_address(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, q->avail_gpa);
	write_address(d, VIRTIO_MMIO_QUEUE_USED_LOW, q->used_gpa);
	drv_write32(d, VIRTIO_MMIO_QUEUE_READY, 1);
}

void drv_driver_ok(struct drv *d)
{
	status_add(d, VIRTIO_CONFIG_S_DRIVER_OK);
}

void drv_start(struct drv *d, uint64_t features, uint16_t size)
{
	features |= 1ull << VIRTIO_F_VERSION_1;
	must(drv_negotiate(d, features & drv_device_features(d)));
	for (unsigned i = 0; i < d->dev->num_queues; i++) {
		drv_write32(d, VIRTIO_MMIO_QUEUE_SEL, i);
		if (drv_read32(d, VIRTIO_MMIO_QUEUE_NUM_MAX))
			drv_queue_setup(d, i, size);
	}
	drv_driver_ok(d);
	must(drv_read32(d, VIRTIO_MMIO_STATUS) ==
	     (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |
	      VIRTIO_CONFIG_S_DRIVER_OK));
}

static void fill(struct vring_desc *desc, const struct drv_buf *buf, bool more, uint16_t next)
{
	*desc = (struct vring_desc){
		.addr = buf->addr.v,
		.len = buf->len,
		.flags = (uint16_t)((buf->write ? VRING_DESC_F_WRITE : 0) |
				    (more ? VRING_DESC_F_NEXT : 0)),
		.next = more ? next : 0,
	};
}

/* A free descriptor from `start` on, or `size`. */
static uint16_t next_free(const struct drv_queue *q, uint16_t start)
{
	while (start < q->size && q->owner[start])
		start++;
	return start;
}

void drv_make_available(struct drv_queue *q, uint16_t head)
{
	q->avail->ring[q->avail_idx % q->size] = head;
	q->avail_idx++;
	__atomic_store_n(&q->avail->idx, q->avail_idx, __ATOMIC_SEQ_CST);
}

int drv_add(struct drv_queue *q, const struct drv_buf *bufs, unsigned n)
{
	uint16_t head = next_free(q, 0), at = head;

	for (unsigned i = 0, f = head; i < n; i++, f++) {
		f = next_free(q, (uint16_t)f);
		if (f == q->size)
			return -ENOSPC;
	}
	for (unsigned i = 0; i < n; i++) {
		uint16_t next = next_free(q, (uint16_t)(at + 1));

		fill(&q->desc[at], &bufs[i], i + 1 < n, next);
		q->owner[at] = (uint16_t)(head + 1);
		at = next;
	}
	drv_make_available(q, head);
	return head;
}

struct vring_desc *drv_table(struct drv_queue *q, uint16_t head)
{
	if (!q->table[head].v)
		q->table[head] = drv_alloc(q->drv, 4096, 16);
	return drv_ptr(q->drv, q->table[head], 4096);
}

int drv_add_indirect(struct drv_queue *q, const struct drv_buf *bufs, unsigned n)
{
	uint16_t head = next_free(q, 0);
	struct vring_desc *table;

	must(n <= 256);
	if (head == q->size)
		return -ENOSPC;
	table = drv_table(q, head);
	for (unsigned i = 0; i < n; i++)
		fill(&table[i], &bufs[i], i + 1 < n, (uint16_t)(i + 1));
	q->desc[head] = (struct vring_desc){
		.addr = q->table[head].v, .len = n * 16, .flags = VRING_DESC_F_INDIRECT};
	q->owner[head] = (uint16_t)(head + 1);
	drv_make_available(q, head);
	return head;
}

void drv_kick(struct drv_queue *q)
{
	q->kicked = q->avail_idx;
	q->kicks++;
	drv_write32(q->drv, VIRTIO_MMIO_QUEUE_NOTIFY, q->index);
}

bool drv_kick_if_needed(struct drv_queue *q)
{
	uint16_t *avail_event = (uint16_t *)(void *)&q->used->ring[q->size];
	uint16_t old = q->kicked;
	bool needed;

	/* avail.idx was stored sequentially consistent: these loads do not pass it. */
	if (q->event_idx)
		needed = vring_need_event(__atomic_load_n(avail_event, __ATOMIC_SEQ_CST),
					  q->avail_idx, old);
	else
		needed = !(__atomic_load_n(&q->used->flags, __ATOMIC_SEQ_CST) &
			   VRING_USED_F_NO_NOTIFY);
	q->kicked = q->avail_idx;
	if (needed)
		drv_kick(q);
	return needed;
}

static void want_interrupt(struct drv_queue *q)
{
	if (q->event_idx)
		__atomic_store_n(&q->avail->ring[q->size], q->last_used, __ATOMIC_SEQ_CST);
}

bool drv_used(struct drv_queue *q, uint32_t *id, uint32_t *len)
{
	struct vring_used_elem e;

	want_interrupt(q);
	if (__atomic_load_n(&q->used->idx, __ATOMIC_SEQ_CST) == q->last_used)
		return false;
	e = q->used->ring[q->last_used % q->size];
	q->last_used++;
	want_interrupt(q);
	for (unsigned i = 0; i < q->size; i++)
		if (q->owner[i] == e.id + 1)
			q->owner[i] = 0;
	if (id)
		*id = e.id;
	if (len)
		*len = e.len;
	return true;
}

void drv_wait_used(struct drv_queue *q, uint32_t *id, uint32_t *len)
{
	uint64_t end = patience_end();

	while (!drv_used(q, id, len)) {
		struct pollfd p = {.fd = q->drv->irq_fd, .events = POLLIN};

		must(now_ns() < end);
		/* In slices: a test that suppresses interrupts gets its entry all the same. */
		if (poll(&p, 1, 10) == 1)
			drv_irqs(q->drv);
	}
}

unsigned drv_irqs(struct drv *d)
{
	uint64_t n = 0;

	return read(d->irq_fd, &n, sizeof(n)) == sizeof(n) ? (unsigned)n : 0;
}

void drv_wait_irq(struct drv *d)
{
	struct pollfd p = {.fd = d->irq_fd, .events = POLLIN};

	must(poll(&p, 1, patience_ms()) == 1);
	must(drv_irqs(d) > 0);
}

void drv_pump(struct drv *d)
{
	bool again;

	do {
		again = false;
		for (unsigned i = 0; i < d->dev->num_queues; i++) {
			struct virtio_queue *q = &d->dev->queue[i];
			uint64_t n;

			if (read(q->kick_fd, &n, sizeof(n)) != sizeof(n))
				continue;
			q->watch.ready(&q->watch, EPOLLIN);
			again = true;
		}
	} while (again);
}
