// SPDX-License-Identifier: BSD-2-Clause
/* The register page: what changes a register stores it here. */
#ifndef SKEP_VIRTIO_PAGE_H
#define SKEP_VIRTIO_PAGE_H

#include "virtio/virtio.h"

static inline _Atomic uint32_t *virtio_reg(const struct virtio_dev *dev, uint32_t offset)
{
	return (_Atomic uint32_t *)(void *)(dev->page + offset);
}

/* Stores all registers, with no interrupt pending. */
void virtio_page_fill(struct virtio_dev *dev);
/* Store the registers behind a selector. Under the lock. */
void virtio_page_show_features(struct virtio_dev *dev);
void virtio_page_show_queue(struct virtio_dev *dev);
/* Sets the status, here and in the page. Under the state lock. */
void virtio_page_set_status(struct virtio_dev *dev, uint32_t status);
/* Copies dev->config to the page, moving the generation; true if it differed. Under the state
 * lock. */
bool virtio_page_show_config(struct virtio_dev *dev);

/* The queue that the driver selected, or NULL when there is none by that number. */
struct virtq *virtio_selected_queue(struct virtio_dev *dev);

/* Applies the InterruptACKs that the driver has written so far. */
void virtio_drain_acks(struct virtio_dev *dev);
/* Sets a bit of InterruptStatus and interrupts, after what it announces was stored sequentially
 * consistent. Before DRIVER_OK the bit alone is set: the interrupt comes with DRIVER_OK, unless
 * the driver acknowledged the bit by then. Any thread; under the state lock where that may be
 * before DRIVER_OK. */
void virtio_interrupt(struct virtio_dev *dev, uint32_t bit);
/* Interrupts for the bits that are set, if there are any, at DRIVER_OK. Under the state lock. */
void virtio_interrupt_again(struct virtio_dev *dev);

#endif
