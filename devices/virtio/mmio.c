// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-mmio, version 2 (virtio 1.3, section 4.2).
 *
 * DOC: Theory of operation. The register page is what the guest reads, most often directly: it is
 * the memory behind a read-only memslot. So each readable register is a word of the page that is
 * stored whenever its value changes (the ones behind a selector when the selector is written), and
 * write-only and reserved registers are words that stay 0. Reads that are trapped all the same are
 * answered from the page, under the specification's rules on width.
 *
 * Status machine. Bits are taken one after the other, each only on top of all the earlier ones; a
 * write that would clear a bit, or sets one that does not exist, changes nothing:
 *
 *	0 --> ACKNOWLEDGE --> DRIVER --> FEATURES_OK --> DRIVER_OK        any --> FAILED
 *	                      accepts    sets up         stops
 *	                      features   queues          queues
 *
 * Below each state is what the driver may do in it besides. Nothing but a reset (a write of 0)
 * leads out of DRIVER_OK, of FAILED, and of NEEDS_RESET, which the device sets.
 *
 * Interrupts. The guest's handler reads InterruptStatus (no exit), writes what it saw to
 * InterruptACK (coalesced: the write waits in KVM's ring until somebody drains it) and then looks
 * at the used rings or the configuration. Whoever drains applies an ACK before it leaves the ring.
 * virtio_mmio_interrupt() is called after the news N (a used index, configuration bytes, status)
 * was stored, and then does: (1) drain pending ACKs, (2) set the bit, (3) write irq_fd. No
 * interrupt is lost, because an ACK A that clears the bit again
 *
 * - was in the ring before (1) looked at it: then A was applied by the end of (1), by us or by
 *   another thread that we waited for (or it had left the ring and so was applied already). The bit
 *   that (2) sets stays set, and the handler that (3) starts finds it. Or
 * - was not in the ring yet when (1) looked: then it came after N in the order of memory (N was
 *   stored sequentially consistent before our look, and KVM has a full barrier between its store
 *   to the ring and the guest's next instruction). The handler that wrote A looks at the rings
 *   after A, and so it sees N: A may clear the bit and even make the handler started by (3) find
 *   nothing, but N has been delivered.
 *
 * Without (1) an old ACK could be applied between (2) and the handler's read, and N would wait for
 * the next interrupt. An ACK that is applied late only leaves the bit set for longer, and a bit too
 * many is a handler that looks once more.
 *
 * Configuration changes. The driver reads generation, fields, generation, and again if it moved.
 * It reads without us, so a change is made of steps that it cannot see half of: each aligned 8
 * bytes are one store, with the generation moved directly before and after. A field of up to 4
 * bytes that does not cross a word is then never torn, whatever the driver does; a reading that
 * spans two or more steps always sees the generation move. What is left is a 64-bit field read as
 * two words, all of it including both generation reads inside the few nanoseconds between two
 * increments; every change ends in an interrupt, upon which the driver reads again. (Trapped reads
 * do not have even that: they take the state lock.)
 */
#include <assert.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "base/util.h"
#include "kvm/bus.h"
#include "kvm/layout.h"
#include "mmio.h"

#define VENDOR_ID 0x70656b73u /* "skep" */

#define STATUS_STEPS                                                                               \
	((uint32_t)(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |                         \
		    VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK))
#define STATUS_DRIVER (STATUS_STEPS | (uint32_t)VIRTIO_CONFIG_S_FAILED) /* what the driver sets */

static_assert(VIRTIO_MMIO_CONFIG == VIRTIO_MMIO_CONFIG_OFFSET, "config space");
static_assert(VIRTIO_MMIO_PAGE == LAYOUT_VIRTIO_MMIO_STRIDE, "a register page a device");
static_assert(VIRTIO_CONFIG_MAX % 8 == 0, "config space is stored in units of 8 bytes");

static _Atomic uint32_t *reg(const struct virtio_dev *dev, uint32_t offset)
{
	return (_Atomic uint32_t *)(void *)(dev->page + offset);
}

static void show(struct virtio_dev *dev, uint32_t offset, uint32_t value)
{
	atomic_store_explicit(reg(dev, offset), value, memory_order_release);
}

static void show_features(struct virtio_dev *dev)
{
	uint32_t sel = dev->device_features_sel;

	show(dev, VIRTIO_MMIO_DEVICE_FEATURES,
	     sel < 2 ? (uint32_t)(dev->features >> (32 * sel)) : 0);
}

/* The selected queue, or NULL when there is none by that number. */
static struct virtq *selected_queue(struct virtio_dev *dev)
{
	return dev->queue_sel < dev->usable_queues ? &dev->queue[dev->queue_sel].vq : NULL;
}

static void show_queue(struct virtio_dev *dev)
{
	const struct virtq *vq = selected_queue(dev);

	show(dev, VIRTIO_MMIO_QUEUE_NUM_MAX, vq ? vq->max_size : 0);
	show(dev, VIRTIO_MMIO_QUEUE_READY, vq ? vq->ready : 0);
}

void virtio_mmio_set_status(struct virtio_dev *dev, uint32_t status)
{
	atomic_store(&dev->status, status);
	atomic_store(reg(dev, VIRTIO_MMIO_STATUS), status);
}

bool virtio_mmio_show_config(struct virtio_dev *dev)
{
	_Atomic uint32_t *generation = reg(dev, VIRTIO_MMIO_CONFIG_GENERATION);
	bool differed = false;

	for (uint32_t i = 0; i < VIRTIO_CONFIG_MAX; i += 8) {
		_Atomic uint64_t *shown =
			(_Atomic uint64_t *)(void *)(dev->page + VIRTIO_MMIO_CONFIG + i);
		uint64_t value = 0;

		if (i < dev->config_len)
			memcpy(&value, dev->config + i, MIN(dev->config_len - i, 8u));
		if (value == atomic_load_explicit(shown, memory_order_relaxed))
			continue;
		atomic_fetch_add(generation, 1);
		atomic_store(shown, value);
		atomic_fetch_add(generation, 1);
		differed = true;
	}
	return differed;
}

void virtio_mmio_fill(struct virtio_dev *dev)
{
	show(dev, VIRTIO_MMIO_MAGIC_VALUE, 0x74726976); /* "virt" */
	show(dev, VIRTIO_MMIO_VERSION, 2);
	show(dev, VIRTIO_MMIO_DEVICE_ID, dev->ops->device_id);
	show(dev, VIRTIO_MMIO_VENDOR_ID, VENDOR_ID);
	show_features(dev);
	show_queue(dev);
	show(dev, VIRTIO_MMIO_INTERRUPT_STATUS, 0);
	show(dev, VIRTIO_MMIO_STATUS, atomic_load(&dev->status));
	for (uint32_t r = VIRTIO_MMIO_SHM_LEN_LOW; r <= VIRTIO_MMIO_SHM_BASE_HIGH; r += 4)
		show(dev, r, UINT32_MAX); /* no shared memory region */
	virtio_mmio_show_config(dev);
}

static void drain_acks(struct virtio_dev *dev)
{
	if (dev->drain_acks)
		dev->drain_acks(dev->drain_ctx);
}

void virtio_mmio_interrupt(struct virtio_dev *dev, uint32_t bit)
{
	drain_acks(dev);
	atomic_fetch_or(reg(dev, VIRTIO_MMIO_INTERRUPT_STATUS), bit);
	/* Writing fails only at the counter's end, when an interrupt is pending anyway. */
	if (atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK)
		eventfd_write(dev->irq_fd, 1);
}

void virtio_mmio_save(struct virtio_dev *dev, struct virtio_state *ret)
{
	drain_acks(dev);
	ret->status = atomic_load(&dev->status);
	ret->interrupt_status = atomic_load(reg(dev, VIRTIO_MMIO_INTERRUPT_STATUS));
	ret->config_generation = atomic_load(reg(dev, VIRTIO_MMIO_CONFIG_GENERATION));
	memcpy(ret->config, dev->page + VIRTIO_MMIO_CONFIG, sizeof(ret->config));
}

void virtio_mmio_restore(struct virtio_dev *dev, const struct virtio_state *state)
{
	memcpy(dev->page + VIRTIO_MMIO_CONFIG, state->config, sizeof(state->config));
	show(dev, VIRTIO_MMIO_CONFIG_GENERATION, state->config_generation);
	virtio_mmio_set_status(dev, state->status);
	virtio_mmio_fill(dev);
	show(dev, VIRTIO_MMIO_INTERRUPT_STATUS, state->interrupt_status);
}

/* An interrupt that was on its way then may have been lost: one too many is a handler that looks
 * once more. */
void virtio_mmio_go_on(struct virtio_dev *dev, const struct virtio_state *state)
{
	uint32_t status = atomic_load(&dev->status);

	if (memcmp(dev->page + VIRTIO_MMIO_CONFIG, state->config, sizeof(state->config)) != 0 &&
	    status & VIRTIO_CONFIG_S_DRIVER)
		virtio_mmio_interrupt(dev, VIRTIO_MMIO_INT_CONFIG);
	if (status & VIRTIO_CONFIG_S_DRIVER_OK &&
	    atomic_load(reg(dev, VIRTIO_MMIO_INTERRUPT_STATUS)))
		eventfd_write(dev->irq_fd, 1);
}

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
	virtio_mmio_set_status(dev, atomic_load(&dev->status) | bits);
	if (bits & VIRTIO_CONFIG_S_DRIVER_OK) {
		drain_acks(dev);
		if (atomic_load(reg(dev, VIRTIO_MMIO_INTERRUPT_STATUS)))
			eventfd_write(dev->irq_fd, 1);
	}
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
		show_queue(dev);
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
	struct virtq *vq = selected_queue(dev);

	if (offset == VIRTIO_MMIO_QUEUE_READY && !(value & 1)) {
		if (vq) {
			virtio_queue_stop(&dev->queue[dev->queue_sel]);
			show_queue(dev);
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
		show_queue(dev);
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
		show_features(dev);
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		dev->driver_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		write_features(dev, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		dev->queue_sel = value;
		show_queue(dev);
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

void virtio_mmio_write(struct virtio_dev *dev, uint64_t offset, const void *data, uint32_t len)
{
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
		atomic_fetch_and(reg(dev, VIRTIO_MMIO_INTERRUPT_STATUS), ~value);
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

void virtio_mmio_read(struct virtio_dev *dev, uint64_t offset, void *data, uint32_t len)
{
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
		drain_acks(dev);
	value = atomic_load(reg(dev, (uint32_t)offset));
	memcpy(data, &value, sizeof(value));
}

static void bus_read_page(void *ctx, uint64_t offset, void *data, uint32_t len)
{
	virtio_mmio_read(ctx, offset, data, len);
}

static void bus_write_page(void *ctx, uint64_t offset, const void *data, uint32_t len)
{
	virtio_mmio_write(ctx, offset, data, len);
}

const struct bus_ops virtio_mmio_bus_ops = {bus_read_page, bus_write_page};
