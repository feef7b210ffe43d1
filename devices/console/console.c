// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-console (virtio 1.3, section 5.3): one port, with its size and emergency writes.
 *
 * DOC: Theory of operation. Everything that waits is bounded, and nothing waits but the guest's own
 * console:
 *
 * - Input is read into a buffer, whether or not the guest has offered buffers. When it is full,
 * what is piped in waits in the host's kernel until the guest has taken some. A terminal is read
 * all the same, since the escape key may come any time: what does not fit is lost.
 * - Input waits a moment after DRIVER_OK, until the guest has been silent for a while: Linux offers
 *   its buffers when it sets the port up, and throws away what comes before it is done with that.
 *   (What is piped into a VM is there from the start.)
 * - Output is handed to a thread that writes it (writer.h): Linux's driver waits for the console
 *   with interrupts off, so a reader that stalls must not stall the guest's writes. What nobody
 *   reads in time is lost, and counted.
 * - Both directions stop after so many bytes or chains and go on in the loop's next turn.
 *
 * What the guest writes goes to the terminal as it is; terminals are made for that.
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
#define INPUT_SIZE  1048576u /* of a terminal: a large paste, and then some */
#define INPUT_PIPE  4096u    /* of what can wait */
#define TURN_BYTES  (64 * KIB)
#define TURN_CHAINS QUEUE_SIZE

#define ATTEND_NS 250000000u /* between looks whether the terminal is ours again */

#define HOLD_NS	 100000000u /* silence that input waits for ... */
#define HOLD_MAX 20u	    /* ... so many times at most */

struct console {
	struct virtio_dev dev;
	struct tty *tty;
	struct loop_fd in;

	uint8_t input[INPUT_SIZE];
	size_t input_start, input_len;
	bool input_ended;
	struct loop_timer attend;
	struct loop_timer hold;
	unsigned hold_left;	    /* 0: input flows */
	unsigned sent, sent_before; /* chains transmitted: now, when `hold` was set */

	struct virtq_chain tx; /* being written, when tx_busy; the entries shrink as they are */
	struct iovec tx_iov[QUEUE_SIZE];
	unsigned tx_next; /* entry of tx_iov to go on with */
	bool tx_busy;
	size_t bytes_left;	  /* of this turn */
	_Atomic bool has_printed; /* the guest sent a byte, whatever became of it */
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
	virtq_disable_kicks(vq); /* nobody waits for buffers, until somebody does */
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

/* Watches input while it can be read. */
static void update_input(struct console *c)
{
	if (c->tty->in_fd < 0)
		return;
	if (c->input_ended || c->tty->background ||
	    (!c->tty->is_terminal && c->input_len >= INPUT_PIPE))
		loop_pause(&c->in);
	else
		loop_resume(&c->in);
}

static void deliver(struct console *c)
{
	if (virtio_queue_active(&c->dev, RX))
		receive(c);
	update_input(c);
}

/* Reads what there is, or a turn's worth: false at the end of input. */
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
			log_guest("console: input is lost: the guest takes none");
		turn += (size_t)n;
	}
	loop_pause(&c->in); /* what is left is reported when it is resumed */
	return true;
}

/* The terminal may be another job's, and then ours again. */
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

	(void)events;
	attend(c);
	if (c->tty->background)
		return;
	memmove(c->input, c->input + c->input_start, c->input_len);
	c->input_start = 0;
	c->input_ended = !read_input(c);
	deliver(c);
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

/* The guest's last words, made available just before the end, are written, too. */
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

/* Emergency write (section 5.3.4): the low byte, at any time, from any state. */
static void console_config_write(struct virtio_dev *dev, uint32_t offset, const void *data,
				 uint32_t len)
{
	if (offset == offsetof(struct virtio_console_config, emerg_wr) && len > 0)
		put(to_console(dev), data, 1);
}

/* The size is that of any terminal until the driver runs, and then becomes this terminal's. Linux
 * for long looked at it only when it was told that it changed. */
static void console_reset(struct virtio_dev *dev)
{
	static const uint16_t size[2] = {80, 24};

	if (dev->features & 1ull << VIRTIO_CONSOLE_F_SIZE)
		virtio_dev_set_config_locked(dev, 0, size, sizeof(size), false);
}

/* Of the rest nothing is the guest's doing: the terminal is another one then. */
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
