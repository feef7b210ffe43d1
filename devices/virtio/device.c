// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. Who may call what is in include/virtio/virtio.h. Three things are
 * subtle:
 *
 * - virtio_dev_fail() on one loop races with start_queue() on another: the first sets NEEDS_RESET
 *   and then clears `active`, the second sets `active` and then checks NEEDS_RESET, all
 *   sequentially consistent. So a queue of a broken device never stays active.
 * - Reset clears `active` everywhere first, then drains each queue on its loop, and only then
 *   forgets its rings. A loop is asked to drain whether or not its queue is still active: a broken
 *   device may have requests in flight as well.
 * - A queue is looked at once when it becomes active, without a kick: what the driver made
 *   available before (or a kick that came before) is seen. Kicks to an inactive queue are dropped.
 */
#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "base/util.h"
#include "device.h"
#include "page.h"

int virtio_dev_init(struct virtio_dev *dev, const struct virtio_ops *ops, const struct gmem *mem,
		    unsigned num_queues, uint16_t max_size, struct loop *loop, struct error *e)
{
	struct virtio_queue *queue;

	if (num_queues > VIRTIO_MAX_QUEUES || max_size > VIRTQ_MAX_SIZE)
		return error_set(e, -EINVAL, "virtio-%s: %u queues of %u entries are too many",
				 ops->name, num_queues, max_size);
	queue = calloc(MAX(num_queues, 1u), sizeof(*queue));
	if (!queue)
		return error_set(e, -ENOMEM, "virtio-%s: out of memory", ops->name);
	for (unsigned i = 0; i < num_queues; i++) {
		queue[i] = (struct virtio_queue){.loop = loop, .dev = dev, .index = i};
		queue[i].vq.max_size = max_size;
		queue[i].kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (queue[i].kick_fd < 0) {
			int r = -errno;

			while (i--)
				close(queue[i].kick_fd);
			free(queue);
			return error_set(e, r, "virtio-%s: cannot make an eventfd: %s", ops->name,
					 strerror(-r));
		}
	}
	dev->ops = ops;
	dev->mem = mem;
	dev->queue = queue;
	dev->num_queues = dev->usable_queues = num_queues;
	dev->irq_fd = -1;
	dev->features |= 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC |
			 1ull << VIRTIO_RING_F_EVENT_IDX;
	pthread_mutex_init(&dev->lock, NULL);
	pthread_mutex_init(&dev->state_lock, NULL);
	return 0;
}

static void kicked(struct loop_fd *watch, uint32_t events)
{
	struct virtio_queue *q = container_of(watch, struct virtio_queue, watch);

	(void)events;
	loop_drain_eventfd(watch);
	if (!atomic_load_explicit(&q->active, memory_order_acquire))
		return;
	assert(q->started && loop_is_here(q->loop));
	q->dev->ops->kick(q->dev, q->index);
}

int virtio_dev_attach(struct virtio_dev *dev, uint8_t *page, int irq_fd,
		      void (*drain_acks)(void *ctx), void *drain_ctx, struct error *e)
{
	assert(!dev->page);
	dev->page = page;
	dev->irq_fd = irq_fd;
	dev->drain_acks = drain_acks;
	dev->drain_ctx = drain_ctx;
	virtio_page_fill(dev);
	for (unsigned i = 0; i < dev->num_queues; i++) {
		struct virtio_queue *q = &dev->queue[i];
		int r = loop_watch(q->loop, &q->watch, q->kick_fd, EPOLLIN | EPOLLET, kicked);

		if (r < 0)
			return error_set(e, r, "virtio-%s: cannot watch the kicks of queue %u: %s",
					 dev->ops->name, i, strerror(-r));
	}
	return 0;
}

void virtio_dev_quiesce(struct virtio_dev *dev)
{
	if (!dev->page) /* never attached */
		return;
	pthread_mutex_lock(&dev->lock);
	virtio_dev_reset(dev);
	pthread_mutex_unlock(&dev->lock);
}

void virtio_dev_free(struct virtio_dev *dev)
{
	struct virtio_queue *queue;
	unsigned n;

	if (!dev)
		return;
	queue = dev->queue;
	n = dev->num_queues;
	for (unsigned i = 0; i < n; i++) /* stopped, or paused with nothing at work */
		assert(!queue[i].started || virtq_is_idle(&queue[i].vq));
	pthread_mutex_destroy(&dev->lock);
	pthread_mutex_destroy(&dev->state_lock);
	dev->ops->destroy(dev);
	for (unsigned i = 0; i < n; i++)
		close(queue[i].kick_fd);
	free(queue);
}

static void start_on_loop(void *arg)
{
	struct virtio_queue *q = arg;
	struct virtio_dev *dev = q->dev;

	atomic_store(&q->active, true);
	if (atomic_load(&dev->status) & VIRTIO_CONFIG_S_NEEDS_RESET) {
		atomic_store(&q->active, false);
		return;
	}
	q->started = true;
	if (dev->ops->start_queue)
		dev->ops->start_queue(dev, q->index);
	virtio_queue_kick_later(dev, q->index);
}

void virtio_dev_start(struct virtio_dev *dev)
{
	for (unsigned i = 0; i < dev->num_queues; i++) {
		struct virtq *vq = &dev->queue[i].vq;
		const char *why;

		if (vq->ready && virtq_activate(vq, dev->mem, dev->driver_features, &why)) {
			virtio_dev_fail(dev, "queue %u: %s", i, why);
			return;
		}
	}
	virtio_dev_run(dev);
}

void virtio_dev_run(struct virtio_dev *dev)
{
	for (unsigned i = 0; i < dev->num_queues; i++)
		if (dev->queue[i].vq.ready)
			loop_call(dev->queue[i].loop, start_on_loop, &dev->queue[i]);
}

static void stop_on_loop(void *arg)
{
	struct virtio_queue *q = arg;

	if (q->dev->ops->stop_queue)
		q->dev->ops->stop_queue(q->dev, q->index);
	q->started = false;
}

void virtio_queue_drain(struct virtio_queue *q)
{
	loop_call(q->loop, stop_on_loop, q);
}

void virtio_queue_stop(struct virtio_queue *q)
{
	atomic_store(&q->active, false);
	if (q->started) {
		virtio_queue_drain(q);
		virtq_reset(&q->vq);
	}
	q->vq.ready = false;
}

void virtio_dev_reset(struct virtio_dev *dev)
{
	for (unsigned i = 0; i < dev->num_queues; i++)
		atomic_store(&dev->queue[i].active, false);
	for (unsigned i = 0; i < dev->num_queues; i++) {
		virtio_queue_stop(&dev->queue[i]);
		virtq_reset(&dev->queue[i].vq);
	}

	pthread_mutex_lock(&dev->state_lock);
	dev->driver_features = 0;
	dev->unknown_features = false;
	dev->device_features_sel = dev->driver_features_sel = dev->queue_sel = 0;
	dev->usable_queues = dev->num_queues;
	atomic_store(&dev->shared_bits, 0);
	virtio_page_set_status(dev, 0);
	virtio_page_fill(dev);
	pthread_mutex_unlock(&dev->state_lock);
	if (dev->ops->reset)
		dev->ops->reset(dev);
}

void virtio_queue_kick_later(struct virtio_dev *dev, unsigned q)
{
	/* Fails only at the counter's end, when a kick is pending anyway. */
	eventfd_write(dev->queue[q].kick_fd, 1);
}

void virtio_queue_publish(struct virtio_dev *dev, unsigned q)
{
	assert(loop_is_here(dev->queue[q].loop));
	/* After a reset the rings are gone; after a failure the driver is not to be led on. */
	if (!virtio_queue_active(dev, q))
		return;
	if (virtq_publish(&dev->queue[q].vq))
		virtio_interrupt(dev, VIRTIO_MMIO_INT_VRING);
}

void virtio_dev_share_interrupt(struct virtio_dev *dev)
{
	atomic_store(&dev->shared_bits, VIRTIO_MMIO_INT_VRING); /* before ACKs can clear it */
	atomic_fetch_or(virtio_reg(dev, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
}

void virtio_dev_fail(struct virtio_dev *dev, const char *fmt, ...)
{
	char why[160];
	va_list ap;

	pthread_mutex_lock(&dev->state_lock);
	if (atomic_load(&dev->status) & VIRTIO_CONFIG_S_NEEDS_RESET) {
		pthread_mutex_unlock(&dev->state_lock);
		return;
	}
	virtio_page_set_status(dev, atomic_load(&dev->status) | VIRTIO_CONFIG_S_NEEDS_RESET);
	for (unsigned i = 0; i < dev->num_queues; i++)
		atomic_store(&dev->queue[i].active, false);
	if (atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_interrupt(dev, VIRTIO_MMIO_INT_CONFIG);
	pthread_mutex_unlock(&dev->state_lock);

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	log_guest("virtio-%s: the driver broke the protocol (%s); the device stops until it is "
		  "reset",
		  dev->ops->name, why);
}

void virtio_queue_work(struct virtio_dev *dev, unsigned q, virtio_turn turn)
{
	struct virtq *vq = &dev->queue[q].vq;
	const char *why = "";
	int r;

	virtq_disable_kicks(vq);
	r = turn(dev, q, &why);
	if (r < 0) {
		virtio_dev_fail(dev, "queue %u: %s", q, why);
		return;
	}
	virtio_queue_publish(dev, q);
	if (r || virtq_enable_kicks(vq))
		virtio_queue_kick_later(dev, q);
}

void virtio_dev_set_config_locked(struct virtio_dev *dev, uint32_t offset, const void *data,
				  uint32_t len, bool interrupt)
{
	if (offset > VIRTIO_CONFIG_MAX || len > VIRTIO_CONFIG_MAX - offset)
		return;
	pthread_mutex_lock(&dev->state_lock);
	memcpy(dev->config + offset, data, len);
	/* A driver that is not at DRIVER yet has read nothing. */
	if (dev->page && virtio_page_show_config(dev) && interrupt &&
	    atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER)
		virtio_interrupt(dev, VIRTIO_MMIO_INT_CONFIG);
	pthread_mutex_unlock(&dev->state_lock);
}

void virtio_dev_set_config(struct virtio_dev *dev, uint32_t offset, const void *data, uint32_t len)
{
	virtio_dev_set_config_locked(dev, offset, data, len, true);
}
