// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-mmio, version 2 (virtio 1.3, section 4.2): what the driver writes, and reads that are trapped,
 * which are answered from the register page under the specification's rules on width.
 *
 * DOC: Theory of operation. The status machine: bits are taken one after the other, each only on top of all the earlier ones; a
 * write that would clear a bit, or sets one that does not exist, changes nothing:
 *
 *	0 --> ACKNOWLEDGE --> DRIVER --> FEATURES_OK --> DRIVER_OK        any --> FAILED
 *	                      accepts    sets up         stops
 *	                      features   queues          queues
 *
 * Below each state is what the driver may do in it besides. Nothing but a reset (a write of 0)
 * leads out of DRIVER_OK, of FAILED, and of NEEDS_RESET, which the device sets.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "device.h"
#include "kvm/bus.h"
#include "page.h"

#define STATUS_STEPS                                                                               \
	((uint32_t)(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |                         \
		    VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK))
#define STATUS_DRIVER (STATUS_STEPS | (uint32_t)VIRTIO_CONFIG_S_FAILED) /* what the driver sets */

static void out_of_order(const struct virtio_dev *dev, uint32_t offset, uint32_t value)
{
	log_guest("virtio-%s: ignored 0x%x written to register 0x%x at status 0x%x", dev->ops->name,
		  value, offset, atomic_load(&dev->status));
}

/* Did the driver accept what it may? (section 2.2; VERSION_1 is section 6.1) */
static bool features_ok(const struct virtio_dev *dev)
{
	if (!dev->unknown_features && !(dev->driver_features & ~dev->features) &&
	    virtio_has(dev, VIRTIO_F_VERSION_1))
		return true;
	log_guest("virtio-%s: refused the driver's features 0x%llx of 0x%llx%s", dev->ops->name,
		  (unsigned long long)dev->driver_features, (unsigned long long)dev->features,
		  virtio_has(dev, VIRTIO_F_VERSION_1) ? "" : ": VIRTIO_F_VERSION_1 is missing");
	return false;
}

/* Sets status bits that the driver added; NEEDS_RESET may come from a loop meanwhile. With
 * DRIVER_OK comes the interrupt for what changed since the driver may have read it. */
static void add_status(struct virtio_dev *dev, uint32_t bits)
{
	pthread_mutex_lock(&dev->state_lock);
	virtio_page_set_status(dev, atomic_load(&dev->status) | bits);
	if (bits & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_interrupt_again(dev);
	pthread_mutex_unlock(&dev->state_lock);
}

/* Takes the step `bit` on top of the steps `before`; false when the driver may not. */
static bool status_step(struct virtio_dev *dev, uint32_t before, uint32_t bit)
{
	uint32_t now = atomic_load(&dev->status);

	if ((now & STATUS_STEPS) != before ||
	    now & (VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_NEEDS_RESET))
		return false;
	if (bit == VIRTIO_CONFIG_S_FEATURES_OK && !features_ok(dev))
		return false;
	if (bit == VIRTIO_CONFIG_S_FEATURES_OK && dev->ops->features_ok) {
		dev->ops->features_ok(dev);
		virtio_page_show_queue(dev);
	}
	add_status(dev, bit);
	if (bit == VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_dev_start(dev);
	return true;
}

static void write_status(struct virtio_dev *dev, uint32_t value)
{
	static const uint32_t steps[] = {VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER,
					 VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_DRIVER_OK};
	uint32_t now = atomic_load(&dev->status), before = 0;

	if (value == 0) {
		virtio_dev_reset(dev);
		return;
	}
	/* NEEDS_RESET is the device's: a driver that read the status before it was set writes it
	 * back clear, and one that read it after writes it back set. */
	value &= ~(uint32_t)VIRTIO_CONFIG_S_NEEDS_RESET;
	now &= ~(uint32_t)VIRTIO_CONFIG_S_NEEDS_RESET;
	if (now & ~value || value & ~STATUS_DRIVER) {
		out_of_order(dev, VIRTIO_MMIO_STATUS, value);
		return;
	}
	if (value & VIRTIO_CONFIG_S_FAILED)
		add_status(dev, VIRTIO_CONFIG_S_FAILED);
	for (unsigned i = 0; i < ARRAY_SIZE(steps); before |= steps[i++]) {
		if (value & ~now & steps[i] && !status_step(dev, before, steps[i])) {
			out_of_order(dev, VIRTIO_MMIO_STATUS, value);
			return;
		}
	}
}

static void write_features(struct virtio_dev *dev, uint32_t value)
{
	uint32_t sel = dev->driver_features_sel;

	/* Between DRIVER and FEATURES_OK. */
	if ((atomic_load(&dev->status) & STATUS_STEPS) !=
	    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)) {
		out_of_order(dev, VIRTIO_MMIO_DRIVER_FEATURES, value);
		return;
	}
	if (sel < 2) {
		dev->driver_features &= ~(0xffffffffull << (32 * sel));
		dev->driver_features |= (uint64_t)value << (32 * sel);
	} else if (value) {
		dev->unknown_features = true;
	}
}

/* One half of a ring's address, whose register is at `offset`. */
static void set_address(struct virtq *vq, uint32_t offset, uint32_t value)
{
	gpa_t *addr = offset <= VIRTIO_MMIO_QUEUE_DESC_HIGH    ? &vq->desc_gpa
		      : offset <= VIRTIO_MMIO_QUEUE_AVAIL_HIGH ? &vq->avail_gpa
							       : &vq->used_gpa;
	uint64_t low = addr->v & UINT32_MAX, high = addr->v >> 32;

	if (offset & 4)
		high = value;
	else
		low = value;
	addr->v = high << 32 | low;
}

/* The registers behind QueueSel: between FEATURES_OK and DRIVER_OK, and while QueueReady is 0. They
 * are judged when the queue is activated. Only QueueReady can be cleared at any time: that stops
 * the queue, and the driver reads 0 once that is done. (Linux also clears it after a reset.) */
static void write_queue(struct virtio_dev *dev, uint32_t offset, uint32_t value)
{
	struct virtq *vq = virtio_selected_queue(dev);

	if (offset == VIRTIO_MMIO_QUEUE_READY && !(value & 1)) {
		if (vq) {
			virtio_queue_stop(&dev->queue[dev->queue_sel]);
			virtio_page_show_queue(dev);
		}
		return;
	}
	if (!vq || vq->ready ||
	    (atomic_load(&dev->status) & STATUS_STEPS) !=
		    (STATUS_STEPS & ~(uint32_t)VIRTIO_CONFIG_S_DRIVER_OK)) {
		out_of_order(dev, offset, value);
		return;
	}
	if (offset == VIRTIO_MMIO_QUEUE_NUM) {
		vq->size = value <= vq->max_size ? (uint16_t)value : 0; /* 0 fails later */
	} else if (offset == VIRTIO_MMIO_QUEUE_READY) {
		vq->ready = true;
		virtio_page_show_queue(dev);
	} else {
		set_address(vq, offset, value);
	}
}

/* All but InterruptACK and QueueNotify. Under the lock. */
static void write_register(struct virtio_dev *dev, uint32_t offset, uint32_t value)
{
	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		dev->device_features_sel = value;
		virtio_page_show_features(dev);
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		dev->driver_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		write_features(dev, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		dev->queue_sel = value;
		virtio_page_show_queue(dev);
		break;
	case VIRTIO_MMIO_QUEUE_NUM:
	case VIRTIO_MMIO_QUEUE_READY:
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		write_queue(dev, offset, value);
		break;
	case VIRTIO_MMIO_STATUS:
		write_status(dev, value);
		break;
	case VIRTIO_MMIO_SHM_SEL: /* whatever is selected is absent */
		break;
	default:
		out_of_order(dev, offset, value);
	}
}

static void write_config(struct virtio_dev *dev, uint64_t offset, const void *data, uint32_t len)
{
	if (!dev->ops->config_write || offset > dev->config_len || len > dev->config_len - offset) {
		log_guest("virtio-%s: ignored %u bytes written to configuration offset %llu",
			  dev->ops->name, len, (unsigned long long)offset);
		return;
	}
	pthread_mutex_lock(&dev->lock);
	dev->ops->config_write(dev, (uint32_t)offset, data, len);
	pthread_mutex_unlock(&dev->lock);
}

void virtio_mmio_write(void *ctx, uint64_t offset, const void *data, uint32_t len)
{
	struct virtio_dev *dev = ctx;
	uint32_t value;

	if (offset >= VIRTIO_MMIO_CONFIG) {
		write_config(dev, offset - VIRTIO_MMIO_CONFIG, data, len);
		return;
	}
	if (len != 4 || offset % 4) {
		log_guest("virtio-%s: ignored a write of %u bytes to register 0x%x", dev->ops->name,
			  len, (unsigned)offset);
		return;
	}
	memcpy(&value, data, sizeof(value));
	switch (offset) {
	case VIRTIO_MMIO_INTERRUPT_ACK: /* any thread that drains: no lock */
		atomic_fetch_and(virtio_reg(dev, VIRTIO_MMIO_INTERRUPT_STATUS),
				 ~value | atomic_load(&dev->shared_bits));
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY: /* mostly an ioeventfd: then it does not get here */
		if (value < dev->num_queues)
			virtio_queue_kick_later(dev, value);
		else
			out_of_order(dev, VIRTIO_MMIO_QUEUE_NOTIFY, value);
		break;
	default:
		pthread_mutex_lock(&dev->lock);
		write_register(dev, (uint32_t)offset, value);
		pthread_mutex_unlock(&dev->lock);
	}
}

void virtio_mmio_read(void *ctx, uint64_t offset, void *data, uint32_t len)
{
	struct virtio_dev *dev = ctx;
	uint32_t value;

	memset(data, 0, len);
	if (offset >= VIRTIO_MMIO_CONFIG || offset == VIRTIO_MMIO_CONFIG_GENERATION) {
		bool ok = offset >= VIRTIO_MMIO_CONFIG
				  ? offset < VIRTIO_MMIO_PAGE && len <= VIRTIO_MMIO_PAGE - offset
				  : len == 4;

		if (!ok)
			return;
		pthread_mutex_lock(&dev->state_lock);
		memcpy(data, dev->page + offset, len);
		pthread_mutex_unlock(&dev->state_lock);
		return;
	}
	if (len != 4 || offset % 4)
		return;
	if (offset == VIRTIO_MMIO_INTERRUPT_STATUS)
		virtio_drain_acks(dev);
	value = atomic_load(virtio_reg(dev, (uint32_t)offset));
	memcpy(data, &value, sizeof(value));
}

const struct bus_ops virtio_mmio_bus_ops = {virtio_mmio_read, virtio_mmio_write};
