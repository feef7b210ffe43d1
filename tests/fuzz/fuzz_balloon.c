// SPDX-License-Identifier: BSD-2-Clause
/*
 * Requests to virtio-balloon. Input: options, then one command after the other. What must hold: see
 * guest_check(). Page numbers may name any page of the guest's, which then reads as zeros.
 */
#include "balloon/balloon.h"
#include "device.h"

enum { INFLATE, DEFLATE, STATS, REPORTING, NUM_QUEUES };

static void command(void)
{
	uint64_t what = take(1);
	unsigned index = (unsigned)(take(1) % NUM_QUEUES);
	struct drv_queue *q = &guest.drv.queue[index];

	if (!q->size) /* of a feature that was declined */
		return;
	if (index == INFLATE) {
		guest.lawless = true;
		mark(GPA(0), RAM);
	}
	if (what < 180)
		guest_send_any(q, index == REPORTING);
	else if (what < 190)
		balloon_ask_for_stats(guest.dev);
	else if (what < 195)
		balloon_set_size(guest.dev, take(8));
	else if (what < 200)
		drv_write32(&guest.drv, VIRTIO_MMIO_CONFIG + (uint32_t)(take(1) % 20),
			    (uint32_t)take(4));
	else
		guest_damage(q, what);
	guest_kick(q);
	guest_reap(q);
	guest_check();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct balloon_config config = {.report = true};
	unsigned commands = 0;

	guest.in = (struct input){data, size};
	guest_init(take(1) & 1);
	config.deflate_on_oom = take(1) & 1;
	check(balloon_device_new(&guest.dev, &guest.drv.mem, &config, take(1) & 1, guest.loop,
				 NULL) == 0);
	guest_start(take(1) << VIRTIO_BALLOON_F_STATS_VQ);
	while (input_left(&guest.in) && !drv_is_broken(&guest.drv) && commands++ < 64)
		command();
	guest_end();
	return 0;
}
