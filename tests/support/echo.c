// SPDX-License-Identifier: BSD-2-Clause
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "echo.h"

static struct echo *to_echo(struct virtio_dev *dev)
{
	return container_of(dev, struct echo, dev);
}

/* Copies device-readable bytes to writable ones; returns the bytes written. */
static uint32_t copy(const struct virtq_chain *c)
{
	const struct iovec *in = c->iov + c->num_out;
	size_t done = 0, n;
	uint8_t part[512];

	do {
		n = iov_read(c->iov, c->num_out, done, part, sizeof(part));
		n = iov_write(in, c->num_in, done, part, n);
		done += n;
	} while (n == sizeof(part));
	return (uint32_t)done;
}

static void kick(struct virtio_dev *dev, unsigned q)
{
	struct echo *echo = to_echo(dev);
	struct virtq *vq = &dev->queue[q].vq;
	struct iovec iov[ECHO_MAX_IOV];
	struct virtq_chain chain = {.iov = iov, .max_iov = ECHO_MAX_IOV};
	unsigned budget = echo->budget;
	const char *why;
	int r;

	echo->kicks++;
	virtq_disable_kicks(vq);
	do {
		while ((r = virtq_pop(vq, &chain, &why)) == 1) {
			echo->chains++;
			if (echo->hold)
				echo->held[q][echo->num_held[q]++] = chain.head;
			else
				virtq_push(vq, chain.head, copy(&chain));
			if (echo->budget && --budget == 0) {
				virtio_queue_publish(dev, q);
				virtio_queue_kick_later(dev, q);
				return;
			}
		}
		if (r < 0) {
			virtio_dev_fail(dev, "queue %u: %s", q, why);
			return;
		}
		virtio_queue_publish(dev, q);
	} while (virtq_enable_kicks(vq));
}

void echo_release(struct echo *echo, unsigned q)
{
	for (unsigned i = 0; i < echo->num_held[q]; i++)
		virtq_push(&echo->dev.queue[q].vq, echo->held[q][i], 0);
	echo->num_held[q] = 0;
	virtio_queue_publish(&echo->dev, q);
}

static void start_queue(struct virtio_dev *dev, unsigned q)
{
	(void)q;
	to_echo(dev)->starts++;
}

static void stop_queue(struct virtio_dev *dev, unsigned q)
{
	to_echo(dev)->stops++;
	echo_release(to_echo(dev), q);
}

static void config_write(struct virtio_dev *dev, uint32_t offset, const void *data, uint32_t len)
{
	to_echo(dev)->config_writes++;
	if (offset >= ECHO_WRITABLE)
		virtio_dev_set_config_locked(dev, offset, data, len, false);
}

static void reset(struct virtio_dev *dev)
{
	static const uint8_t zero[ECHO_CONFIG_LEN - ECHO_WRITABLE];

	to_echo(dev)->device_resets++;
	virtio_dev_set_config_locked(dev, ECHO_WRITABLE, zero, sizeof(zero), false);
}

/* What the driver wrote. */
static int save(struct virtio_dev *dev, void *state, struct error *e)
{
	(void)e;
	memcpy(state, dev->config + ECHO_WRITABLE, ECHO_STATE);
	return 0;
}

static int restore(struct virtio_dev *dev, const void *state, struct error *e)
{
	(void)e;
	virtio_dev_set_config_locked(dev, ECHO_WRITABLE, state, ECHO_STATE, false);
	return 0;
}

static void destroy(struct virtio_dev *dev)
{
	if (to_echo(dev)->freed)
		*to_echo(dev)->freed = true;
	free(to_echo(dev));
}

static const struct virtio_ops echo_ops = {
	.name = "echo",
	.device_id = ECHO_ID,
	.config_write = config_write,
	.start_queue = start_queue,
	.kick = kick,
	.stop_queue = stop_queue,
	.reset = reset,
	.state_size = ECHO_STATE,
	.save = save,
	.restore = restore,
	.destroy = destroy,
};

struct echo *echo_new(const struct gmem *mem, unsigned queues, uint16_t max_size, struct loop *loop)
{
	static const uint8_t config[ECHO_WRITABLE] = {1, 2, 3, 4, 5, 6, 7, 8};
	struct echo *echo = calloc(1, sizeof(*echo));

	if (!echo)
		abort();
	echo->dev.features = 1ull << ECHO_FEATURE | 1ull << ECHO_FEATURE_TOP;
	echo->dev.config_len = ECHO_CONFIG_LEN;
	if (virtio_dev_init(&echo->dev, &echo_ops, mem, queues, max_size, loop, NULL))
		abort();
	virtio_dev_set_config(&echo->dev, 0, config, sizeof(config));
	return echo;
}
