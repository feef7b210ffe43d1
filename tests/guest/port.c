// SPDX-License-Identifier: BSD-2-Clause
/* A port (virtio 1.3, section 5.3.6.2) whose driver breaks the rules of its control messages, alone and
 * with another CPU at its side. */
#include <linux/virtio_console.h>

#include "support.h"

#define PAGE	   4096u
#define SIZE	   8u
#define GUARD_SEED 9u

enum { RX, TX, CTRL_RX, CTRL_TX, QUEUES };

static struct vio *port;
static struct virtio_console_control *message;
static uint8_t *answer; /* a page between two that are nobody's */
static volatile bool race_over, flip_over;

static bool start(void)
{
	return vio_start(port, FEATURE(VIRTIO_CONSOLE_F_MULTIPORT), QUEUES, SIZE);
}

static bool say(uint16_t event)
{
	*message = (struct virtio_console_control){0, event, 1};
	return vq_do(&port->vq[CTRL_TX], &(struct sg){message, sizeof(*message)}, 1, 0) == 0;
}

static bool is_told(uint16_t event)
{
	int64_t n = vq_do(&port->vq[CTRL_RX], &(struct sg){answer, 64}, 0, 1);

	return n >= (int64_t)sizeof(*message) &&
	       ((struct virtio_console_control *)(void *)answer)->event == event;
}

static bool works(void)
{
	return start() && say(VIRTIO_CONSOLE_DEVICE_READY) && is_told(VIRTIO_CONSOLE_PORT_ADD) &&
	       say(VIRTIO_CONSOLE_PORT_READY) && is_told(VIRTIO_CONSOLE_PORT_NAME) &&
	       is_told(VIRTIO_CONSOLE_PORT_OPEN) && say(VIRTIO_CONSOLE_PORT_OPEN) &&
	       vq_do(&port->vq[TX], &(struct sg){"ok\n", 3}, 1, 0) == 0;
}

static const struct crime {
	const char *name;
	unsigned queue;
	struct virtio_console_control message;
	uint32_t len;
	bool write, beyond;
} crimes[] = {
	{"half a message", CTRL_TX, {0, VIRTIO_CONSOLE_PORT_OPEN, 1}, 4, false, false},
	{"a port that is not there", CTRL_TX, {1, VIRTIO_CONSOLE_PORT_OPEN, 1}, 8, false, false},
	{"no port at all", CTRL_TX, {~0u, VIRTIO_CONSOLE_PORT_READY, 1}, 8, false, false},
	{"a writable message", CTRL_TX, {0, VIRTIO_CONSOLE_PORT_OPEN, 1}, 8, true, false},
	{"a message beyond RAM", CTRL_TX, {0, 0, 0}, 8, false, true},
	{"a message of 4 GiB", CTRL_TX, {0, 0, 0}, ~0u, false, false},
	{"an answer beyond RAM", CTRL_RX, {0, 0, 0}, 64, true, true},
	{"no room for an answer", CTRL_RX, {0, 0, 0}, 7, true, false},
	{"an answer to be read", CTRL_RX, {0, 0, 0}, 64, false, false},
	{"data beyond RAM", TX, {0, 0, 0}, PAGE, false, true},
	{"data into a writable buffer", TX, {0, 0, 0}, 64, true, false},
};

static void commit(const struct crime *c)
{
	struct vq *q = &port->vq[c->queue];

	if (!start()) {
		CHECK(false, "start before %s", c->name);
		return;
	}
	if (c->queue == CTRL_RX)
		say(VIRTIO_CONSOLE_DEVICE_READY); /* which is to be answered */
	*message = c->message;
	vq_add(q, &(struct sg){c->beyond ? (void *)ram_top : message, c->len}, !c->write, c->write);
	vq_publish(q);
	vq_notify(q);
	CHECK(WAIT_UNTIL(vio_status(port) & VIRTIO_CONFIG_S_NEEDS_RESET), "NEEDS_RESET after %s",
	      c->name);
}

/* Another CPU: messages and their descriptor change all the time. */
static void flip(void *arg)
{
	volatile struct virtio_console_control *m = message;
	uint64_t rnd = 3;

	(void)arg;
	while (!race_over) {
		volatile struct vring_desc *d = &port->vq[CTRL_TX].desc[0];
		uint64_t r = random64(&rnd);

		m->event = (uint16_t)(r >> 8) % 9;
		m->value = (uint16_t)(r >> 16) & 1;
		if (r % 4 == 0)
			m->id = (uint32_t)(r >> 32) & 1;
		if (r % 4 == 1)
			d->len = r & 64 ? ~0u : 3;
		if (r % 4 == 2)
			d->addr = r & 64 ? ram_top - 4 : (uint64_t)message;
		for (unsigned i = 0; i < r % 32; i++)
			cpu_relax();
		m->id = 0;
		d->len = sizeof(*message);
		d->addr = (uint64_t)message;
	}
	flip_over = true;
}

static bool is_idle(const struct vq *q)
{
	return *(volatile uint16_t *)&q->used->idx == q->avail_idx;
}

static void race(unsigned times)
{
	unsigned resets = 0;

	CHECK(start() && smp_start(1, flip, NULL), "the other CPU");
	for (unsigned i = 0; i < times; i++) {
		size_t mark = heap_mark();

		vq_set_desc(&port->vq[CTRL_TX], 0, (uint64_t)message, sizeof(*message), 0, 0);
		vq_offer(&port->vq[CTRL_TX], 0);
		vq_notify(&port->vq[CTRL_TX]);
		if (is_idle(&port->vq[CTRL_RX])) {
			vq_set_desc(&port->vq[CTRL_RX], 0, (uint64_t)answer, PAGE,
				    VRING_DESC_F_WRITE, 0);
			vq_offer(&port->vq[CTRL_RX], 0);
			vq_notify(&port->vq[CTRL_RX]);
		}
		if (!WAIT_UNTIL(is_idle(&port->vq[CTRL_TX]) ||
				vio_status(port) & VIRTIO_CONFIG_S_NEEDS_RESET)) {
			CHECK(false, "an answer to message %u", i);
			break;
		}
		if (!(vio_status(port) & VIRTIO_CONFIG_S_NEEDS_RESET) && i % 64)
			continue;
		resets++;
		if (!start()) {
			CHECK(false, "start after message %u", i);
			break;
		}
		heap_release(mark);
	}
	race_over = true;
	CHECK(WAIT_UNTIL(flip_over), "the other CPU stops");
	print("# %u resets\n", resets);
}

void test_port_hostile(void)
{
	uint8_t *pages = alloc(3 * PAGE, PAGE);

	port = need(VIRTIO_ID_CONSOLE, 1);
	message = alloc(sizeof(*message), 16);
	answer = pages + PAGE;
	pattern_fill(pages, PAGE, GUARD_SEED, 0);
	pattern_fill(pages + 2 * PAGE, PAGE, GUARD_SEED, 0);
	CHECK(works(), "a port works");
	for (unsigned i = 0; i < sizeof(crimes) / sizeof(crimes[0]); i++) {
		size_t mark = heap_mark();

		commit(&crimes[i]);
		CHECK(works(), "works again after %s", crimes[i].name);
		heap_release(mark);
	}
	race((unsigned)cmdline_u64("n", 2000));
	CHECK(works(), "works after the race");
	CHECK(pattern_check(pages, PAGE, GUARD_SEED, 0) == PAGE &&
		      pattern_check(pages + 2 * PAGE, PAGE, GUARD_SEED, 0) == PAGE,
	      "no other memory was written");
	CHECK(bystander_works(port), "other devices work");
}
