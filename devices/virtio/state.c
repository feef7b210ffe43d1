// SPDX-License-Identifier: BSD-2-Clause
#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>

#include "device.h"
#include "page.h"
#include "virtio/state.h"

static_assert(sizeof(struct virtio_queue_state) == 32, "no holes");
static_assert(sizeof(struct virtio_state) ==
		      24 + 16 + 32 + VIRTIO_CONFIG_MAX + VIRTIO_STATE_OWN + 32 * VIRTIO_MAX_QUEUES,
	      "no holes");

enum {
	DRIVER = VIRTIO_CONFIG_S_DRIVER,
	FEATURES_OK = VIRTIO_CONFIG_S_FEATURES_OK,
	DRIVER_OK = VIRTIO_CONFIG_S_DRIVER_OK,
	NEEDS_RESET = VIRTIO_CONFIG_S_NEEDS_RESET,
	/* What queues depend on. */
	RUNS = DRIVER_OK | NEEDS_RESET,
};

/* Pause */

static void pause_on_loop(void *queue)
{
	struct virtio_queue *q = queue;

	virtq_pause(&q->vq, true);
	if (q->dev->ops->give_back)
		q->dev->ops->give_back(q->dev, q->index);
}

static void resume_on_loop(void *queue)
{
	virtq_pause(&((struct virtio_queue *)queue)->vq, false);
}

static void for_each_started(struct virtio_dev *dev, void (*fn)(void *queue))
{
	for (unsigned i = 0; i < dev->num_queues; i++)
		if (dev->queue[i].started)
			loop_call(dev->queue[i].loop, fn, &dev->queue[i]);
}

void virtio_dev_pause(struct virtio_dev *dev)
{
	pthread_mutex_lock(&dev->lock);
	for_each_started(dev, pause_on_loop);
	pthread_mutex_unlock(&dev->lock);
}

void virtio_dev_resume(struct virtio_dev *dev)
{
	pthread_mutex_lock(&dev->lock);
	for_each_started(dev, resume_on_loop);
	for (unsigned i = 0; i < dev->num_queues; i++)
		virtio_queue_kick_later(dev, i);
	pthread_mutex_unlock(&dev->lock);
}

/* Save */

struct look {
	const struct virtio_queue *queue;
	bool idle;
};

static void look_on_loop(void *arg)
{
	struct look *look = arg;

	look->idle = virtq_is_idle(&look->queue->vq);
}

/* Queues of a device that needs a reset are drained instead: nothing of theirs is wanted any more. */
static int settle(struct virtio_dev *dev, struct error *e)
{
	bool broken = atomic_load(&dev->status) & NEEDS_RESET;

	for (unsigned i = 0; i < dev->num_queues; i++) {
		struct look look = {.queue = &dev->queue[i]};

		if (!dev->queue[i].started)
			continue;
		if (broken) {
			virtio_queue_drain(&dev->queue[i]);
			continue;
		}
		assert(dev->queue[i].vq.paused);
		loop_call(dev->queue[i].loop, look_on_loop, &look);
		if (!look.idle)
			return error_set(e, -EBUSY,
					 "virtio-%s: requests of queue %u are still at work",
					 dev->ops->name, i);
	}
	return 0;
}

static void save_queue(const struct virtq *vq, struct virtio_queue_state *ret)
{
	*ret = (struct virtio_queue_state){
		.desc = vq->desc_gpa.v,
		.avail = vq->avail_gpa.v,
		.used = vq->used_gpa.v,
		.next_avail = vq->next_avail,
		.next_used = vq->next_used,
		.size = vq->size,
		.ready = vq->ready,
	};
}

/* What the driver reads. */
static void save_page(struct virtio_dev *dev, struct virtio_state *s)
{
	pthread_mutex_lock(&dev->state_lock);
	virtio_drain_acks(dev);
	s->status = atomic_load(&dev->status);
	s->interrupt_status = atomic_load(virtio_reg(dev, VIRTIO_MMIO_INTERRUPT_STATUS));
	s->config_generation = atomic_load(virtio_reg(dev, VIRTIO_MMIO_CONFIG_GENERATION));
	memcpy(s->config, dev->page + VIRTIO_MMIO_CONFIG, sizeof(s->config));
	pthread_mutex_unlock(&dev->state_lock);
}

static int save_locked(struct virtio_dev *dev, struct virtio_state *s, struct error *e)
{
	int r = settle(dev, e);

	if (r < 0)
		return r;
	*s = (struct virtio_state){
		.version = VIRTIO_STATE_VERSION,
		.size = sizeof(*s),
		.device_id = dev->ops->device_id,
		.num_queues = dev->num_queues,
		.config_len = dev->config_len,
		.own_len = dev->ops->state_size,
		.features = dev->features,
		.driver_features = dev->driver_features,
		.device_features_sel = dev->device_features_sel,
		.driver_features_sel = dev->driver_features_sel,
		.queue_sel = dev->queue_sel,
		.unknown_features = dev->unknown_features,
	};
	for (unsigned i = 0; i < dev->num_queues; i++)
		save_queue(&dev->queue[i].vq, &s->queue[i]);
	save_page(dev, s);
	assert(dev->ops->state_size <= sizeof(s->own));
	return dev->ops->save ? dev->ops->save(dev, s->own, e) : 0;
}

int virtio_dev_save(struct virtio_dev *dev, struct virtio_state *ret, struct error *e)
{
	int r;

	pthread_mutex_lock(&dev->lock);
	r = save_locked(dev, ret, e);
	pthread_mutex_unlock(&dev->lock);
	return r;
}

/* Restore */

/* A status that a driver can bring a device to, step by step. */
static bool is_status(uint32_t status)
{
	static const uint32_t acknowledge = VIRTIO_CONFIG_S_ACKNOWLEDGE;
	uint32_t steps = status & ~(uint32_t)(VIRTIO_CONFIG_S_FAILED | NEEDS_RESET);

	return steps == 0 || steps == acknowledge || steps == (acknowledge | DRIVER) ||
	       steps == (acknowledge | DRIVER | FEATURES_OK) ||
	       steps == (acknowledge | DRIVER | FEATURES_OK | DRIVER_OK);
}

/* Why it cannot be a state of such a device; NULL when it can. */
static const char *why_not(const struct virtio_dev *dev, const struct virtio_state *s)
{
	uint64_t wanted = s->status & FEATURES_OK ? s->driver_features : s->features;

	if (s->version != VIRTIO_STATE_VERSION || s->size != sizeof(*s))
		return "it is of another version of skep";
	if (s->device_id != dev->ops->device_id || s->num_queues != dev->num_queues ||
	    s->config_len != dev->config_len || s->own_len != dev->ops->state_size)
		return "it is of another device, or of one with other options";
	if (!is_status(s->status) || s->unknown_features > 1)
		return "it has a status that no driver can set";
	if (s->interrupt_status & ~(uint32_t)(VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG))
		return "it has an interrupt that no device has";
	if (wanted & ~dev->features)
		return "its driver was offered features that this device lacks";
	if (s->status & FEATURES_OK &&
	    (s->unknown_features || !(s->driver_features & 1ull << VIRTIO_F_VERSION_1)))
		return "its driver accepted features that no device takes";
	for (unsigned i = 0; i < s->num_queues; i++)
		if (s->queue[i].ready > (s->status & FEATURES_OK ? 1 : 0) ||
		    s->queue[i].size > dev->queue[i].vq.max_size)
			return "it has a queue that no driver can set up";
	return NULL;
}

static int restore_queue(struct virtio_dev *dev, unsigned i, const struct virtio_queue_state *s,
			 bool runs, const char **why)
{
	struct virtq *vq = &dev->queue[i].vq;

	vq->desc_gpa = GPA(s->desc);
	vq->avail_gpa = GPA(s->avail);
	vq->used_gpa = GPA(s->used);
	vq->size = s->size;
	vq->ready = s->ready;
	if (vq->ready && i >= dev->usable_queues) {
		*why = "is ready without the feature that it takes";
		return -EINVAL;
	}
	if (!vq->ready || !runs)
		return 0;
	return virtq_activate_at(vq, dev->mem, dev->driver_features, s->next_avail, s->next_used,
				 why);
}

/* As the driver could last read it, and the configuration then as it is here: the generation moves
 * where that differs. */
static void restore_page(struct virtio_dev *dev, const struct virtio_state *s)
{
	pthread_mutex_lock(&dev->state_lock);
	memcpy(dev->page + VIRTIO_MMIO_CONFIG, s->config, sizeof(s->config));
	atomic_store(virtio_reg(dev, VIRTIO_MMIO_CONFIG_GENERATION), s->config_generation);
	virtio_page_set_status(dev, s->status);
	virtio_page_fill(dev);
	atomic_store(virtio_reg(dev, VIRTIO_MMIO_INTERRUPT_STATUS), s->interrupt_status);
	pthread_mutex_unlock(&dev->state_lock);
}

/* Interrupts for a configuration that differs, and once more for what was pending: that interrupt
 * may have been lost, and one too many is a handler that looks once more. */
static void tell_driver(struct virtio_dev *dev, const struct virtio_state *s)
{
	pthread_mutex_lock(&dev->state_lock);
	if (memcmp(dev->page + VIRTIO_MMIO_CONFIG, s->config, sizeof(s->config)) != 0 &&
	    atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER)
		virtio_interrupt(dev, VIRTIO_MMIO_INT_CONFIG);
	virtio_interrupt_again(dev);
	pthread_mutex_unlock(&dev->state_lock);
}

static int restore_locked(struct virtio_dev *dev, const struct virtio_state *s, struct error *e)
{
	bool runs = (s->status & RUNS) == DRIVER_OK;
	const char *why;
	int r;

	dev->driver_features = s->driver_features;
	dev->device_features_sel = s->device_features_sel;
	dev->driver_features_sel = s->driver_features_sel;
	dev->queue_sel = s->queue_sel;
	dev->unknown_features = s->unknown_features;
	if (s->status & FEATURES_OK && dev->ops->features_ok)
		dev->ops->features_ok(dev);
	for (unsigned i = 0; i < dev->num_queues; i++) {
		r = restore_queue(dev, i, &s->queue[i], runs, &why);
		if (r < 0)
			return error_set(e, r, "virtio-%s: cannot restore queue %u: %s",
					 dev->ops->name, i, why);
	}
	restore_page(dev, s);
	r = dev->ops->restore ? dev->ops->restore(dev, s->own, e) : 0;
	if (r < 0)
		return error_prefix(e, r, "virtio-%s", dev->ops->name);
	if (runs)
		virtio_dev_run(dev);
	tell_driver(dev, s);
	return 0;
}

int virtio_dev_restore(struct virtio_dev *dev, const struct virtio_state *state, struct error *e)
{
	const char *why = why_not(dev, state);
	int r;

	if (why)
		return error_set(e, -EINVAL, "virtio-%s: cannot restore this state: %s",
				 dev->ops->name, why);
	pthread_mutex_lock(&dev->lock);
	assert(dev->page && !atomic_load(&dev->status));
	r = restore_locked(dev, state, e);
	if (r < 0)
		virtio_dev_reset(dev);
	pthread_mutex_unlock(&dev->lock);
	return r;
}
