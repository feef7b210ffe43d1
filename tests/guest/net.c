// SPDX-License-Identifier: BSD-2-Clause
/* A network device whose other end sends back what it gets, and a driver that breaks rules meanwhile. */
#include <linux/virtio_net.h>

#include "support.h"

enum { RX, TX };

#define QUEUE_SIZE 16u
#define PAGE	   4096u
#define GUARD_SEED 9u
#define HEADER	   sizeof(struct virtio_net_hdr_v1)
#define FRAME	   100u

static struct vio *net;
static uint8_t *packet, *buffer; /* to send, and to receive into; each a page between guards */
static volatile bool race_over, flip_over;

static void make_good(volatile struct vring_desc *rx, volatile struct vring_desc *tx)
{
	*rx = (struct vring_desc){(uint64_t)buffer, PAGE, VRING_DESC_F_WRITE, 0};
	*tx = (struct vring_desc){(uint64_t)packet, HEADER + FRAME, 0, 0};
}

/* Goes on changing the descriptors of both queues, and the packet, to bad ones and back. */
static void flip(void *arg)
{
	uint64_t rnd = 5;

	(void)arg;
	while (!race_over) {
		volatile struct vring_desc *rx = net->vq[RX].desc, *tx = net->vq[TX].desc;
		uint64_t r = random64(&rnd);
		volatile struct vring_desc *d = r & 64 ? rx : tx;

		switch (r % 6) {
		case 0:
			d->len = r & 128 ? 0xffffffff : (uint32_t)(r >> 32) % 64;
			break;
		case 1:
			d->addr = ram_top - 16;
			break;
		case 2:
			d->flags = (uint16_t)(r >> 32);
			break;
		case 3:
			d->next = (uint16_t)(r >> 32);
			d->flags |= VRING_DESC_F_NEXT;
			break;
		case 4:
			((volatile uint8_t *)packet)[(r >> 32) % (HEADER + 20)] = (uint8_t)(r >> 8);
			break;
		default:
			d->flags ^= VRING_DESC_F_WRITE;
		}
		for (unsigned i = 0; i < r % 32; i++)
			cpu_relax();
		make_good(rx, tx);
		for (unsigned i = 0; i < HEADER; i++)
			((volatile uint8_t *)packet)[i] = 0;
	}
	flip_over = true;
}

/* One packet is sent, and what comes back is received: false when nothing happens. */
static bool round_trip(void)
{
	struct vq *tx = &net->vq[TX], *rx = &net->vq[RX];

	make_good(rx->desc, tx->desc);
	if (*(volatile uint16_t *)&rx->used->idx == rx->avail_idx) {
		vq_offer(rx, 0);
		vq_notify(rx);
	}
	vq_offer(tx, 0);
	vq_notify(tx);
	return WAIT_UNTIL(*(volatile uint16_t *)&tx->used->idx == tx->avail_idx ||
			  vio_status(net) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* Earlier packets may still come before it. */
static bool works_again(void)
{
	uint32_t len;

	if (!vio_start(net, 0, 2, QUEUE_SIZE))
		return false;
	memset(packet, 0, PAGE);
	pattern_fill(packet + HEADER, FRAME, 77, 0);
	if (vq_do(&net->vq[TX], &(struct sg){packet, HEADER + FRAME}, 1, 0) != 0)
		return false;
	do {
		vq_add(&net->vq[RX], &(struct sg){buffer, PAGE}, 0, 1);
		vq_publish(&net->vq[RX]);
		vq_notify(&net->vq[RX]);
		if (vq_wait(&net->vq[RX], &len) < 0)
			return false;
	} while (len != HEADER + FRAME || pattern_check(buffer + HEADER, FRAME, 77, 0) != FRAME);
	return true;
}

void test_net_race(void)
{
	uint8_t *pages = alloc(5 * PAGE, PAGE);
	unsigned resets = 0, sent = 0;

	net = need(VIRTIO_ID_NET, 0);
	packet = pages + PAGE;
	buffer = pages + 3 * PAGE;
	for (unsigned i = 0; i < 5; i += 2)
		pattern_fill(pages + i * PAGE, PAGE, GUARD_SEED, i);
	CHECK(works_again(), "a packet comes back");
	CHECK(vio_start(net, 0, 2, QUEUE_SIZE) && smp_start(1, flip, NULL), "the other CPU");
	for (unsigned i = 0; i < (unsigned)cmdline_u64("n", 5000); i++) {
		size_t mark = heap_mark();

		if (!round_trip()) {
			CHECK(false, "packet %u is taken", i);
			break;
		}
		if (!(vio_status(net) & VIRTIO_CONFIG_S_NEEDS_RESET)) {
			sent++;
			continue;
		}
		resets++;
		if (!vio_start(net, 0, 2, QUEUE_SIZE)) {
			CHECK(false, "start after packet %u", i);
			break;
		}
		heap_release(mark);
	}
	race_over = true;
	CHECK(WAIT_UNTIL(flip_over) && vio_reset(net), "the other CPU stops, and the device");
	print("# %u packets, %u resets\n", sent, resets);
	CHECK(works_again(), "a packet comes back again");
	for (unsigned i = 0; i < 5; i += 2)
		CHECK(pattern_check(pages + i * PAGE, PAGE, GUARD_SEED, i) == PAGE, "guard page %u",
		      i);
	CHECK(bystander_works(net), "other devices work");
}
