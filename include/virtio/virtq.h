// SPDX-License-Identifier: BSD-2-Clause
/*
 * Split virtqueues, device side (virtio 1.3, section 2.7), with indirect descriptors and EVENT_IDX.
 *
 * DOC: The rings are the guest's and hostile: each descriptor and index is copied once, chains are
 * bounded by the queue's size and their table's length, every buffer is sliced whole, and any error
 * is -EBADMSG, upon which the caller sets DEVICE_NEEDS_RESET (virtio_dev_fail()). A queue belongs to
 * one thread while it is active.
 */
#ifndef SKEP_VIRTQ_H
#define SKEP_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "kvm/gmem.h"

#define VIRTQ_MAX_SIZE 256u

/* One popped descriptor chain, as host addresses: device-readable buffers first, then writable. */
struct virtq_chain {
	struct iovec *iov; /* the caller's array ... */
	unsigned max_iov;  /* ... and its length */
	unsigned num_out;  /* device-readable entries */
	unsigned num_in;   /* device-writable entries, after those */
	uint32_t out_bytes;
	uint32_t in_bytes;
	uint16_t head;
};

struct virtq {
	/* Set through the transport before it is activated (guest physical addresses). */
	gpa_t desc_gpa, avail_gpa, used_gpa;
	uint16_t size;	   /* as the driver set it */
	uint16_t max_size; /* as the device offers */
	bool ready;

	/* While active. */
	const struct gmem *mem;
	void *desc;
	void *avail;
	void *used;
	uint16_t next_avail;			 /* free-running */
	uint16_t avail_seen;			 /* avail.idx when it was last looked at */
	uint16_t next_used;			 /* free-running; what publish makes visible */
	uint16_t published;			 /* used.idx as the guest last saw it */
	bool event_idx;				 /* VIRTIO_F_EVENT_IDX negotiated */
	bool indirect;				 /* VIRTIO_F_INDIRECT_DESC negotiated */
	bool paused;				 /* pretends that there is no next chain */
	uint64_t in_flight[VIRTQ_MAX_SIZE / 64]; /* heads popped and not yet pushed */
};

/*
 * Checks size (a power of two, at most max_size), alignment (16, 2, 4), overflow and that each ring
 * lies whole in one region of RAM; maps the rings and clears the state. 0 or -EINVAL with a reason.
 */
int virtq_activate(struct virtq *vq, const struct gmem *mem, uint64_t features, const char **why);
/* The same, starting at these positions. */
int virtq_activate_at(struct virtq *vq, const struct gmem *mem, uint64_t features,
		      uint16_t next_avail, uint16_t next_used, const char **why);
void virtq_reset(struct virtq *vq); /* back to the state after device reset; max_size stays */

/*
 * The next chain: 1 with *chain filled, 0 when there is none, -EBADMSG for a broken driver (avail
 * index jump, head or next out of range, loop, unknown flags, readable after writable, buffer
 * outside RAM or wrapping, more than 2^32-1 bytes, bad or unnegotiated indirect table, more than
 * max_iov buffers, a head that is in flight), with a reason in *why.
 */
int virtq_pop(struct virtq *vq, struct virtq_chain *chain, const char **why);

/* Whether virtq_pop() would find a chain, or an error. */
bool virtq_available(const struct virtq *vq);

/* Puts a used entry; `written` counts bytes written to device-writable buffers. Not yet visible. */
void virtq_push(struct virtq *vq, uint16_t head, uint32_t written);

/* Makes pushed entries visible. True: the driver wants an interrupt. */
bool virtq_publish(struct virtq *vq);

/* Turn kicks off while working on the queue, and on before waiting. If virtq_enable_kicks() returns
 * true, more is available already, and the caller has to go on. */
void virtq_disable_kicks(struct virtq *vq);
bool virtq_enable_kicks(struct virtq *vq);

/* Undoes the last virtq_pop(), which returned the chain with this head: the next pop returns it
 * again. */
void virtq_unpop(struct virtq *vq, uint16_t head);

/* Somebody else has worked on the queue, up to this available entry, and has published what he used. */
void virtq_go_on_at(struct virtq *vq, uint16_t next_avail);

/* While the queue is paused, virtq_pop() returns no chain. */
void virtq_pause(struct virtq *vq, bool paused);
/* Whether all that was popped was pushed and published. */
bool virtq_is_idle(const struct virtq *vq);

/* Copies from/to an iovec array at a byte offset into it; returns bytes copied (less when it ends).
 */
size_t iov_read(const struct iovec *iov, unsigned n, size_t offset, void *dst, size_t len);
size_t iov_write(const struct iovec *iov, unsigned n, size_t offset, const void *src, size_t len);

#endif
