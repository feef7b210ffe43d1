// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-console (virtio 1.3, section 5.3): one port, with its size and emergency writes.
 *
 * DOC: Theory of operation. All buffers are bounded, and a slow reader or writer on the host delays
 * nothing but this console:
 *
 * - Input is read into a buffer, even if the guest has not offered any yet. When the buffer is full,
 *   a pipe is no longer read. A terminal still is, because the escape key may come at any time:
 *   what does not fit is lost.
 * - After DRIVER_OK input is held back until the guest has been silent for a moment: Linux offers
 *   buffers while it sets up the port, and discards what arrives before it has finished. (What is
 *   piped into a VM is there from the start.)
 * - Output goes to a thread that writes it (writer.h): Linux's driver waits for the console with
 *   interrupts off, so a reader that stalls must not stall the guest. What is not read in time is
 *   lost, and counted.
 * - Both directions stop after some bytes or chains, and go on in the loop's next turn.
 *
 * The guest's output reaches the terminal unchanged, escape sequences included.
 */
#include <errno.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "base/util.h"
#include "console.h"

#define RX 0u
#define TX 1u

#define QUEUE_SIZE  64u
#define INPUT_SIZE  1048576u /* from a terminal: more than a large paste */
#define INPUT_PIPE  4096u    /* from a pipe or a file, which can wait */
#define TURN_BYTES  (64 * KIB)
#define TURN_CHAINS QUEUE_SIZE

#define ATTEND_NS 250000000u /* between checks whether the terminal is ours again */

#define HOLD_NS	 100000000u /* of silence, which input waits for ... */
#define HOLD_MAX 20u	    /* ... at most this many times */

struct console {
	struct virtio_dev dev;
	struct tty *tty;
	struct loop_fd in;
	struct loop_fd listener; /* of a socket, to which one client at a time comes */
	bool hung_up;		 /* it has gone */

	uint8_t input[INPUT_SIZE];
	size_t input_start, input_len;
	bool input_ended;
	struct loop_timer attend;
	struct loop_timer hold;
	unsigned hold_left;	    /* 0: input flows */
	unsigned sent, sent_before; /* chains transmitted: by now; when `hold` was set */

	struct virtq_chain tx; /* being written if tx_busy; its entries shrink */
	struct iovec tx_iov[QUEUE_SIZE];
	unsigned tx_next; /* entry of tx_iov to go on with */
	bool tx_busy;
	size_t bytes_left;	  /* of this turn */
	_Atomic bool has_printed; /* the guest has sent a byte, even if it was lost */
};

static struct console *to_console(struct virtio_dev *dev)
{
	return container_of(dev, struct console, dev);
}

static void consume_input(struct console *c, size_t n)
{
	c->input_start += n;
	c->input_len -= n;
	if (c->input_len == 0)
		c->input_start = 0;
}

/* Moves input to the guest's buffers, as far as there are any. */
static void receive(struct console *c)
{
	struct virtq *vq = &c->dev.queue[RX].vq;
	struct iovec iov[QUEUE_SIZE];
	struct virtq_chain chain = {.iov = iov, .max_iov = ARRAY_SIZE(iov)};
	unsigned budget = TURN_CHAINS;
	const char *why = "a receive buffer is device-readable";
	int r = 1;

	if (c->hold_left)
		return;
	virtq_disable_kicks(vq); /* until input waits for buffers */
	for (; c->input_len && r > 0 && budget; budget--) {
		size_t n;

		r = virtq_pop(vq, &chain, &why);
		if (r == 0) {
			r = virtq_enable_kicks(vq);
			continue;
		}
		if (r < 0 || chain.num_out) {
			virtio_dev_fail(&c->dev, "%s", why);
			return;
		}
		n = iov_write(chain.iov, chain.num_in, 0, c->input + c->input_start, c->input_len);
		virtq_push(vq, chain.head, (uint32_t)n);
		consume_input(c, n);
	}
	virtio_queue_publish(&c->dev, RX);
	if (!budget)
		virtio_queue_kick_later(&c->dev, RX);
}

/* Watches for input while there is room for it, and for the end of a client, after which the next one
 * may come. */
static void update_input(struct console *c)
{
	bool is_client = c->tty->listener >= 0;

	if (is_client && c->input_ended && c->hung_up) {
		loop_unwatch(&c->in);
		tty_hang_up(c->tty);
		c->input_ended = c->hung_up = false;
		loop_resume(&c->listener);
	}
	if (c->tty->in_fd < 0)
		return;
	if (c->input_ended || c->tty->background ||
	    (!c->tty->is_terminal && c->input_len >= INPUT_PIPE)) {
		if (is_client && !c->hung_up)
			loop_watch_for(&c->in, 0);
		else
			loop_pause(&c->in);
		return;
	}
	loop_watch_for(&c->in, EPOLLIN);
	loop_resume(&c->in);
}

static void deliver(struct console *c)
{
	if (virtio_queue_active(&c->dev, RX))
		receive(c);
	update_input(c);
}

/* Reads what is there, at most a turn's worth. False at the end of input. */
static bool read_input(struct console *c)
{
	size_t size = c->tty->is_terminal ? INPUT_SIZE : INPUT_PIPE;
	uint8_t rest[512];

	for (size_t turn = 0; turn < TURN_BYTES;) {
		size_t room = size - c->input_len;
		ssize_t n;

		if (room)
			n = tty_read(c->tty, c->input + c->input_len, MIN(room, TURN_BYTES));
		else if (c->tty->is_terminal)
			n = tty_read(c->tty, rest, sizeof(rest));
		else
			break;
		if (n <= 0)
			return n == -EAGAIN;
		if (room)
			c->input_len += (size_t)n;
		else
			log_guest("console: input is lost, because the guest does not read it");
		turn += (size_t)n;
	}
	loop_pause(&c->in); /* resuming it reports what is left */
	return true;
}

/* Looks whether the terminal is another job's now, or ours again. */
static void attend(struct console *c)
{
	if (!tty_attend(c->tty) && c->tty->is_terminal)
		loop_timer_set(&c->attend, ATTEND_NS);
	update_input(c);
}

static void attend_again(struct loop_timer *t)
{
	attend(container_of(t, struct console, attend));
}

static void input_ready(struct loop_fd *w, uint32_t events)
{
	struct console *c = container_of(w, struct console, in);

	c->hung_up = events & (EPOLLHUP | EPOLLERR);
	attend(c);
	if (c->tty->background || c->tty->in_fd < 0)
		return;
	if (c->tty->far_end >= 0) /* nothing else tells that a pseudo-terminal's size has changed */
		console_device_resize(&c->dev);
	memmove(c->input, c->input + c->input_start, c->input_len);
	c->input_start = 0;
	c->input_ended = !read_input(c);
	deliver(c);
}

static void somebody_comes(struct loop_fd *w, uint32_t events)
{
	struct console *c = container_of(w, struct console, listener);
	int r = tty_accept(c->tty);

	(void)events;
	if (r == 0)
		return;
	loop_pause(w);
	if (r > 0)
		r = loop_watch(w->loop, &c->in, c->tty->in_fd, EPOLLIN, input_ready);
	if (r < 0)
		log_warn("console: nobody can connect any more: %s", strerror(-r));
	else
		update_input(c);
}

static void hold_over(struct loop_timer *t)
{
	struct console *c = container_of(t, struct console, hold);

	if (--c->hold_left && c->sent != c->sent_before) {
		c->sent_before = c->sent;
		loop_timer_set(t, HOLD_NS);
		return;
	}
	c->hold_left = 0;
	deliver(c);
}

static void put(struct console *c, const void *data, size_t len)
{
	atomic_store_explicit(&c->has_printed, true, memory_order_relaxed);
	tty_write(c->tty, data, len);
}

/* Takes the next chain of the transmit queue: 1, 0 when there is none, or -EBADMSG with a reason. */
static int next_chain(struct console *c, const char **why)
{
	int r;

	c->tx = (struct virtq_chain){.iov = c->tx_iov, .max_iov = ARRAY_SIZE(c->tx_iov)};
	r = virtq_pop(&c->dev.queue[TX].vq, &c->tx, why);
	if (r > 0 && c->tx.num_in) {
		*why = "a transmit buffer is device-writable";
		return -EBADMSG;
	}
	c->tx_next = 0;
	c->tx_busy = r > 0;
	return r;
}

/* Goes on with the chain: true when all of it is written. */
static bool write_chain(struct console *c)
{
	while (c->tx_next < c->tx.num_out && c->bytes_left) {
		struct iovec *iov = &c->tx_iov[c->tx_next];
		size_t n = MIN(iov->iov_len, c->bytes_left);

		put(c, iov->iov_base, n);
		iov->iov_base = (uint8_t *)iov->iov_base + n;
		iov->iov_len -= n;
		c->bytes_left -= n;
		c->tx_next += iov->iov_len == 0;
	}
	return c->tx_next == c->tx.num_out;
}

/* 1 after so many bytes or chains, 0 when the queue is empty, or -EBADMSG with a reason. */
static int transmit(struct console *c, size_t bytes, const char **why)
{
	c->bytes_left = bytes;
	for (unsigned i = 0; i < TURN_CHAINS && c->bytes_left; i++) {
		int r = c->tx_busy ? 1 : next_chain(c, why);

		if (r <= 0)
			return r;
		if (!write_chain(c))
			return 1;
		virtq_push(&c->dev.queue[TX].vq, c->tx.head, 0);
		c->tx_busy = false;
		c->sent++;
	}
	return 1;
}

static int transmit_turn(struct virtio_dev *dev, unsigned q, const char **why)
{
	(void)q;
	return transmit(to_console(dev), TURN_BYTES, why);
}

static void console_kick(struct virtio_dev *dev, unsigned q)
{
	if (q == TX)
		virtio_queue_work(dev, q, transmit_turn);
	else
		deliver(to_console(dev));
}

static void console_start_queue(struct virtio_dev *dev, unsigned q)
{
	struct console *c = to_console(dev);

	if (q == RX) {
		c->hold_left = HOLD_MAX;
		loop_timer_set(&c->hold, HOLD_NS);
	} else {
		console_device_resize(dev);
	}
}

/* What the guest made available just before the end is still written. */
static void console_stop_queue(struct virtio_dev *dev, unsigned q)
{
	struct console *c = to_console(dev);
	const char *why = "";

	if (q == RX) {
		loop_timer_set(&c->hold, 0);
		return;
	}
	if (!(atomic_load(&dev->status) & VIRTIO_CONFIG_S_NEEDS_RESET) &&
	    transmit(c, WRITER_SIZE, &why) < 0)
		virtio_dev_fail(dev, "queue %u: %s", q, why);
	c->tx_busy = false;
}

/* Emergency write (section 5.3.4): the low byte, in any state. */
static void console_config_write(struct virtio_dev *dev, uint32_t offset, const void *data,
				 uint32_t len)
{
	if (offset == offsetof(struct virtio_console_config, emerg_wr) && len > 0)
		put(to_console(dev), data, 1);
}

/* Until the driver runs the size is 80 x 24, and then it changes to the terminal's: older Linux looks
 * at the size only when it changes. */
static void console_reset(struct virtio_dev *dev)
{
	static const uint16_t size[2] = {80, 24};

	if (dev->features & 1ull << VIRTIO_CONSOLE_F_SIZE)
		virtio_dev_set_config_locked(dev, 0, size, sizeof(size), false);
}

/* Nothing else is saved: a restored VM has another terminal. */
struct console_state {
	uint8_t has_printed;
};

static int console_save(struct virtio_dev *dev, void *state, struct error *e)
{
	(void)e;
	*(struct console_state *)state =
		(struct console_state){.has_printed = console_device_has_printed(dev)};
	return 0;
}

static int console_restore(struct virtio_dev *dev, const void *state, struct error *e)
{
	(void)e;
	to_console(dev)->has_printed = ((const struct console_state *)state)->has_printed != 0;
	return 0;
}

bool console_device_has_printed(struct virtio_dev *dev)
{
	return atomic_load_explicit(&to_console(dev)->has_printed, memory_order_relaxed);
}

static void console_destroy(struct virtio_dev *dev)
{
	struct console *c = to_console(dev);

	loop_timer_close(&c->hold);
	loop_timer_close(&c->attend);
	free(c);
}

static const struct virtio_ops console_ops = {
	.name = "console",
	.device_id = VIRTIO_ID_CONSOLE,
	.config_write = console_config_write,
	.start_queue = console_start_queue,
	.kick = console_kick,
	.stop_queue = console_stop_queue,
	.reset = console_reset,
	.state_size = sizeof(struct console_state),
	.save = console_save,
	.restore = console_restore,
	.destroy = console_destroy,
};

void console_device_resize(struct virtio_dev *dev)
{
	uint16_t size[2]; /* struct virtio_console_config begins with cols and rows */

	if (!virtio_queue_active(dev, TX) || !virtio_has(dev, VIRTIO_CONSOLE_F_SIZE))
		return;
	tty_size(to_console(dev)->tty, &size[0], &size[1]);
	virtio_dev_set_config(dev, 0, size, sizeof(size));
}

void console_device_attend(struct virtio_dev *dev)
{
	attend(to_console(dev));
}

static int watch_tty(struct console *c, struct loop *loop)
{
	int r = loop_timer_init(loop, &c->hold, hold_over);

	if (r >= 0)
		r = loop_timer_init(loop, &c->attend, attend_again);
	if (r >= 0 && c->tty->in_fd >= 0)
		r = loop_watch(loop, &c->in, c->tty->in_fd, EPOLLIN, input_ready);
	if (r >= 0 && c->tty->listener >= 0)
		r = loop_watch(loop, &c->listener, c->tty->listener, EPOLLIN, somebody_comes);
	if (r >= 0 && c->tty->background)
		attend(c);
	return r;
}

int console_device_new(struct virtio_dev **ret, const struct gmem *mem, struct tty *tty,
		       struct loop *loop, struct error *e)
{
	struct console *c = calloc(1, sizeof(*c));
	uint16_t cols, rows;
	int r;

	if (!c)
		return error_set(e, -ENOMEM, "virtio-console: out of memory");
	c->tty = tty;
	c->dev.features = 1ull << VIRTIO_CONSOLE_F_EMERG_WRITE;
	c->dev.config_len = sizeof(struct virtio_console_config);
	tty_size(tty, &cols, &rows);
	if (cols && rows)
		c->dev.features |= 1ull << VIRTIO_CONSOLE_F_SIZE;
	c->hold.watch.fd = c->attend.watch.fd = -1;
	r = virtio_dev_init(&c->dev, &console_ops, mem, 2, QUEUE_SIZE, loop, e);
	if (r < 0) {
		free(c);
		return r;
	}
	console_reset(&c->dev);
	r = watch_tty(c, loop);
	if (r < 0) {
		virtio_dev_free(&c->dev);
		return error_set(e, r, "virtio-console: cannot watch the terminal: %s",
				 strerror(-r));
	}
	*ret = &c->dev;
	return 0;
}
