// SPDX-License-Identifier: BSD-2-Clause
/*
 * The register page and the interrupt.
 *
 * DOC: Theory of operation. The page is what the guest reads, most often directly: it is the memory
 * behind a read-only memslot. So each readable register is a word of the page that is stored whenever
 * its value changes (those behind a selector when the selector is written), and write-only and
 * reserved registers are words that stay 0.
 *
 * Interrupts. The guest's handler reads InterruptStatus (no exit), writes what it saw to
 * InterruptACK (coalesced: the write waits in KVM's ring until somebody drains it) and then looks
 * at the used rings or the configuration. Whoever drains applies an ACK before it leaves the ring.
 * virtio_interrupt() is called after the news N (a used index, configuration bytes, status)
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
 * Where the kernel interrupts by itself (vhost) nobody does (1) and (2): then the bit is always set.
 * The handler finds it, and looks at the rings each time.
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

#include "base/util.h"
#include "kvm/layout.h"
#include "page.h"

#define VENDOR_ID 0x70656b73u /* "skep" */

static_assert(VIRTIO_MMIO_CONFIG == VIRTIO_MMIO_CONFIG_OFFSET, "config space");
static_assert(VIRTIO_MMIO_PAGE == LAYOUT_VIRTIO_MMIO_STRIDE, "a register page a device");
static_assert(VIRTIO_CONFIG_MAX % 8 == 0, "config space is stored in units of 8 bytes");

static void show(struct virtio_dev *dev, uint32_t offset, uint32_t value)
{
	atomic_store_explicit(virtio_reg(dev, offset), value, memory_order_release);
}

void virtio_page_show_features(struct virtio_dev *dev)
{
	uint32_t sel = dev->device_features_sel;

	show(dev, VIRTIO_MMIO_DEVICE_FEATURES,
	     sel < 2 ? (uint32_t)(dev->features >> (32 * sel)) : 0);
}

struct virtq *virtio_selected_queue(struct virtio_dev *dev)
{
	return dev->queue_sel < dev->usable_queues ? &dev->queue[dev->queue_sel].vq : NULL;
}

void virtio_page_show_queue(struct virtio_dev *dev)
{
	const struct virtq *vq = virtio_selected_queue(dev);

	show(dev, VIRTIO_MMIO_QUEUE_NUM_MAX, vq ? vq->max_size : 0);
	show(dev, VIRTIO_MMIO_QUEUE_READY, vq ? vq->ready : 0);
}

void virtio_page_set_status(struct virtio_dev *dev, uint32_t status)
{
	atomic_store(&dev->status, status);
	atomic_store(virtio_reg(dev, VIRTIO_MMIO_STATUS), status);
}

bool virtio_page_show_config(struct virtio_dev *dev)
{
	_Atomic uint32_t *generation = virtio_reg(dev, VIRTIO_MMIO_CONFIG_GENERATION);
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

void virtio_page_fill(struct virtio_dev *dev)
{
	show(dev, VIRTIO_MMIO_MAGIC_VALUE, 0x74726976); /* "virt" */
	show(dev, VIRTIO_MMIO_VERSION, 2);
	show(dev, VIRTIO_MMIO_DEVICE_ID, dev->ops->device_id);
	show(dev, VIRTIO_MMIO_VENDOR_ID, VENDOR_ID);
	virtio_page_show_features(dev);
	virtio_page_show_queue(dev);
	show(dev, VIRTIO_MMIO_INTERRUPT_STATUS, 0);
	show(dev, VIRTIO_MMIO_STATUS, atomic_load(&dev->status));
	for (uint32_t r = VIRTIO_MMIO_SHM_LEN_LOW; r <= VIRTIO_MMIO_SHM_BASE_HIGH; r += 4)
		show(dev, r, UINT32_MAX); /* no shared memory region */
	virtio_page_show_config(dev);
}

void virtio_drain_acks(struct virtio_dev *dev)
{
	if (dev->drain_acks)
		dev->drain_acks(dev->drain_ctx);
}

void virtio_interrupt(struct virtio_dev *dev, uint32_t bit)
{
	virtio_drain_acks(dev);
	atomic_fetch_or(virtio_reg(dev, VIRTIO_MMIO_INTERRUPT_STATUS), bit);
	/* Writing fails only at the counter's end, when an interrupt is pending anyway. */
	if (atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK)
		eventfd_write(dev->irq_fd, 1);
}

void virtio_interrupt_again(struct virtio_dev *dev)
{
	virtio_drain_acks(dev);
	if (atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK &&
	    atomic_load(virtio_reg(dev, VIRTIO_MMIO_INTERRUPT_STATUS)))
		eventfd_write(dev->irq_fd, 1);
}
