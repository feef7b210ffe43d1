// SPDX-License-Identifier: BSD-2-Clause
/*
 * The simplest virtio device: it copies what is device-readable in a chain to what is writable. For
 * tests of the transport and of the queues; it keeps every rule that a device has to keep.
 */
#ifndef SKEP_TEST_ECHO_H
#define SKEP_TEST_ECHO_H

#include "virtio/virtio.h"

#define ECHO_ID		 42u
#define ECHO_FEATURE	 5u  /* offered feature bits of its own ... */
#define ECHO_FEATURE_TOP 50u /* ... in both halves */
#define ECHO_MAX_IOV	 64u
#define ECHO_CONFIG_LEN	 24u
#define ECHO_WRITABLE	 8u /* configuration bytes from here on are the driver's */
#define ECHO_STATE	 (ECHO_CONFIG_LEN - ECHO_WRITABLE)

struct echo {
	struct virtio_dev dev;
	bool hold; /* keep chains in flight until echo_release() or stop_queue() */
	uint16_t held[VIRTIO_MAX_QUEUES][VIRTQ_MAX_SIZE];
	unsigned num_held[VIRTIO_MAX_QUEUES];
	unsigned budget; /* chains a kick; 0: as many as there are */

	/* What was called. */
	_Atomic unsigned starts, stops, kicks, config_writes, device_resets, chains;
	_Atomic bool *freed; /* set by destroy */
};

/* A device with `queues` queues of up to `max_size` entries. Ends the program when it cannot. */
struct echo *echo_new(const struct gmem *mem, unsigned queues, uint16_t max_size,
		      struct loop *loop);
void echo_release(struct echo *echo, unsigned q); /* completes held chains; on the loop */

#endif
