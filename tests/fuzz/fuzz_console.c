// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-console between a guest and a user at a pipe. Input: options, then one command after the
 * other. What must hold: see guest_check(); as long as the driver keeps the rules, what it
 * transmits is taken; and it receives no more than was typed.
 */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "base/loop_engine.h"
#include "console/console.h"
#include "device.h"

#define RX 0u
#define TX 1u

static struct fuzz {
	struct tty tty;
	int user; /* types here */
	uint64_t typed, received;
	unsigned transmitted;
} fuzz;

/* Input is ready, and timers that are set run out; kicks are drv_pump()'s. */
static void turn(void)
{
	struct itimerspec left;

	for (struct loop_fd *w = guest.loop->watches; w; w = w->next) {
		struct loop_timer *timer = container_of(w, struct loop_timer, watch);

		if (w->fd == fuzz.tty.in_fd && !w->paused)
			w->ready(w, EPOLLIN);
		else if (timerfd_gettime(w->fd, &left) == 0 && left.it_value.tv_nsec)
			timer->fired(timer);
	}
}

static void type(void)
{
	char text[256];
	size_t n = take(1);
	ssize_t r;

	memset(text, (int)take(1), sizeof(text));
	r = write(fuzz.user, text, n);
	fuzz.typed += r > 0 ? (uint64_t)r : 0;
}

static void command(void)
{
	uint64_t what = take(1);
	unsigned i = what & 1 ? TX : RX;
	struct drv_queue *q = &guest.drv.queue[i];

	if (what < 200)
		guest_send_any(q, i == RX);
	else if (what < 227)
		guest_damage(q, what);
	else if (what < 250)
		type();
	else /* emergency writes, and what is none */
		drv_write32(&guest.drv, VIRTIO_MMIO_CONFIG + (uint32_t)take(1) % 16,
			    (uint32_t)what);
	guest_kick(q);
	turn();
	drv_pump(&guest.drv);
	fuzz.received += guest_reap(&guest.drv.queue[RX]);
	guest_reap(&guest.drv.queue[TX]);
	guest_check();
	check(guest.changing || guest.lawless || fuzz.received <= fuzz.typed);
	check(guest.changing || drv_is_broken(&guest.drv) || guest.lawless ||
	      guest.drv.queue[TX].last_used == guest.drv.queue[TX].avail_idx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned commands = 0;
	int pipe_fds[2];

	guest.in = (struct input){data, size};
	guest_init(take(1) & 1);
	check(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) == 0);
	fuzz = (struct fuzz){.tty = {.in_fd = pipe_fds[0],
				     .out_fd = -1,
				     .listener = -1,
				     .far_end = -1,
				     .old = -1},
			     .user = pipe_fds[1]};
	check(console_device_new(&guest.dev, &guest.drv.mem, &fuzz.tty, guest.loop, NULL) == 0);
	guest_start(take(1) << 28);
	while (input_left(&guest.in) && !drv_is_broken(&guest.drv) && commands++ < 64)
		command();
	guest_end();
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	return 0;
}
