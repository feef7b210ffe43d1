// SPDX-License-Identifier: BSD-2-Clause
/*
 * Requests to virtio-entropy. Input: options, then one command after the other. What must hold: see
 * guest_check(); and as long as the driver keeps the rules, each chain is answered.
 */
#include "device.h"
#include "rng/rng.h"

static void command(void)
{
	struct drv_queue *q = &guest.drv.queue[0];
	uint64_t what = take(1);

	if (what < 200)
		for (unsigned n = 1 + (unsigned)(what % 4); n; n--)
			guest_send_any(q, what != 199);
	else
		guest_damage(q, what);
	guest_kick(q);
	guest_reap(q);
	guest_check();
	check(guest.changing || drv_is_broken(&guest.drv) || guest.lawless ||
	      guest.answered == guest.sent);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned commands = 0;

	guest.in = (struct input){data, size};
	guest_init(take(1) & 1);
	check(rng_device_new(&guest.dev, &guest.drv.mem, guest.loop, NULL) == 0);
	guest_start(take(1) << 28);
	while (input_left(&guest.in) && !drv_is_broken(&guest.drv) && commands++ < 64)
		command();
	guest_end();
	return 0;
}
