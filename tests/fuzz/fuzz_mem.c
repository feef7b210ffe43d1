// SPDX-License-Identifier: BSD-2-Clause
/*
 * Requests to virtio-mem, from a driver that mostly plugs and unplugs what there is. Input: options,
 * then one command after the other. What must hold: see guest_check(); no more is ever plugged than
 * was asked for, or was there before; and what is unplugged reads as zeros.
 */
#include "device.h"
#include "mem.h"

static struct mem_host host;

static void send_request(struct drv_queue *q)
{
	uint64_t how = take(1);
	gpa_t at = GPA(RAM - AREA + take(1) * 256);
	uint64_t first = how % 16 ? take(1) % 40 : take(8);
	uint16_t num = how % 9 ? (uint16_t)(take(1) % 9) : (uint16_t)take(2);
	struct drv_buf bufs[] = {{at, 24, false}, {GPA(at.v + 64), 10, true}};

	mem_request(&guest.drv, drv_ptr(&guest.drv, at, 24), (uint16_t)(how / 9 % 5), first, num);
	if (how > 250)
		bufs[how & 1].len = (uint32_t)take(1);
	guest_send(q, bufs, 2, how & 0x20);
}

/* A device that writes where it was allowed to a moment ago. */
static void write_late(void)
{
	const struct gmem_hotplug *h = &guest.drv.mem.hotplug;

	h->host[take(1) % gmem_num_blocks(&guest.drv.mem) * h->block] = 1;
}

static void command(void)
{
	struct drv_queue *q = &guest.drv.queue[0];
	struct mem_counters before, now;
	uint64_t what = take(1);

	mem_counters(guest.dev, &before);
	if (what < 170)
		send_request(q);
	else if (what < 180)
		guest_send_any(q, what & 1);
	else if (what < 190)
		mem_set_size(guest.dev, RAM + take(1) * 4 * MIB, NULL);
	else if (what < 195)
		host.fails_in = (unsigned)take(1) % 8;
	else if (what < 200)
		write_late();
	else
		guest_damage(q, what);
	guest_kick(q);
	guest_reap(q);
	guest_check();
	mem_counters(guest.dev, &now);
	check(now.size <= MAX(now.target, before.size));
	check(now.plugged_bytes == now.size - (int64_t)RAM && now.size <= now.max);
}

static void check_unplugged(void)
{
	const struct gmem_hotplug *h = &guest.drv.mem.hotplug;

	gmem_discard_unplugged(&guest.drv.mem);
	for (unsigned i = 0; i < gmem_num_blocks(&guest.drv.mem); i++)
		check(gmem_is_plugged(&guest.drv.mem, i) || !h->host[i * h->block]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned commands = 0;

	guest.in = (struct input){data, size};
	guest_init(take(1) & 1);
	guest.dev = mem_open(&host, &guest.drv, guest.loop);
	check(guest.dev);
	mem_set_size(guest.dev, RAM + take(1) % 33 * 4 * MIB, NULL);
	guest_start(take(1) << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE);
	while (input_left(&guest.in) && !drv_is_broken(&guest.drv) && commands++ < 64)
		command();
	check_unplugged();
	guest_end();
	return 0;
}
