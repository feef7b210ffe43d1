// SPDX-License-Identifier: BSD-2-Clause
/* virtio-entropy (virtio 1.3, section 5.4): the host kernel's random numbers, straight into the
 * guest's buffers. */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/log.h"
#include "base/util.h"
#include "config/device_options.h"
#include "rng.h"
#include "virtio/type.h"

#define QUEUE_SIZE  16u
#define TURN_BYTES  (64 * KIB) /* in one turn; a request gets no more */
#define TURN_CHAINS QUEUE_SIZE

struct rng {
	struct virtio_dev dev;
	struct iovec iov[QUEUE_SIZE];
};

/* Fills up to `max` bytes of the chain; returns how many. A guest that asks for more gets fewer than
 * it asked for, and asks again. */
static uint32_t fill(const struct virtq_chain *chain, size_t max)
{
	size_t done = 0;

	for (unsigned i = 0; i < chain->num_in && done < max; i++) {
		size_t want = MIN(chain->iov[i].iov_len, max - done), got = 0;

		while (got < want) {
			/* Does not wait: a host that runs VMs has seeded its pool long ago. */
			ssize_t n =
				getrandom((uint8_t *)chain->iov[i].iov_base + got, want - got, 0);

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0) {
				log_guest("virtio-rng: getrandom: %m");
				return (uint32_t)(done + got);
			}
			got += (size_t)n;
		}
		done += got;
	}
	return (uint32_t)done;
}

static int answer(struct virtio_dev *dev, unsigned q, const char **why)
{
	struct rng *rng = container_of(dev, struct rng, dev);
	struct virtq *vq = &dev->queue[q].vq;
	struct virtq_chain chain = {.iov = rng->iov, .max_iov = ARRAY_SIZE(rng->iov)};
	size_t bytes = TURN_BYTES;

	for (unsigned i = 0; i < TURN_CHAINS && bytes; i++) {
		int r = virtq_pop(vq, &chain, why);
		uint32_t n;

		if (r <= 0)
			return r;
		/* Section 5.4.6.1. */
		*why = "a request has device-readable buffers";
		if (chain.num_out)
			return -EBADMSG;
		n = fill(&chain, bytes);
		bytes -= n;
		virtq_push(vq, chain.head, n);
	}
	return 1;
}

static void rng_kick(struct virtio_dev *dev, unsigned q)
{
	virtio_queue_work(dev, q, answer);
}

static void rng_destroy(struct virtio_dev *dev)
{
	free(container_of(dev, struct rng, dev));
}

static const struct virtio_ops rng_ops = {
	.name = "rng",
	.device_id = VIRTIO_ID_RNG,
	.kick = rng_kick,
	.destroy = rng_destroy,
};

int rng_device_new(struct virtio_dev **ret, const struct gmem *mem, struct loop *loop,
		   struct error *e)
{
	struct rng *rng = calloc(1, sizeof(*rng));
	int r;

	if (!rng)
		return error_set(e, -ENOMEM, "virtio-rng: out of memory");
	r = virtio_dev_init(&rng->dev, &rng_ops, mem, 1, QUEUE_SIZE, loop, e);
	if (r < 0) {
		free(rng);
		return r;
	}
	*ret = &rng->dev;
	return 0;
}

static int build(struct vm_device *d, const struct device_host *host, struct error *e)
{
	return rng_device_new(&d->dev, host->mem, host->loop, e);
}

const struct device_options rng_options = {
	.name = "rng",
	.what = "the source of random numbers",
	.max = 1,
	.defaults = "", /* a struct of no fields */
};

const struct device_type rng_type = {
	.name = "rng",
	.options = &rng_options,
	.build = build,
};
