// SPDX-License-Identifier: BSD-2-Clause
/* The disk, its queues, their lanes and requests: for the files of devices/blk/ alone. */
#ifndef SKEP_BLK_DISK_H
#define SKEP_BLK_DISK_H

#include <linux/virtio_blk.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/fifo.h"
#include "base/rate.h"
#include "base/util.h"
#include "engine.h"
#include "poll.h"
#include "virtio/virtio.h"

#define BLK_HEADER ((uint32_t)sizeof(struct virtio_blk_outhdr))

/* How often an operation is tried again that failed for no lasting reason. */
#define BLK_MAX_RETRIES 16u
/* Buffers of a request that need no more memory than the request itself. */
#define BLK_SMALL 8u

union blk_buffers {
	struct iovec iov;
	struct virtio_blk_discard_write_zeroes range;
};

/* One request of the guest; its place in the table is its head descriptor. */
struct blk_request {
	struct blk_req io; /* the operation in flight for it */
	struct blk_queue *queue;
	struct blk_lane *lane;	 /* in which it takes turns */
	struct fifo_link link;	 /* in a lane, among riders, or with those that wait */
	struct fifo riders;	 /* discards that go on where this one ends, in the same step */
	uint8_t *status;	 /* in guest memory */
	uint64_t offset, length; /* IN, OUT: of the whole, bytes */
	uint64_t moved;		 /* IN, OUT: bytes done; ranges: bytes done of the current one */
	uint32_t type;
	uint32_t in_bytes; /* device-writable, the status byte included */
	uint16_t head;
	uint16_t current;      /* range at work */
	unsigned num;	       /* buffers or ranges */
	uint8_t retries;       /* of transient errors */
	uint32_t share;	       /* of the `max` of its lane, while it is at work there */
	uint8_t bounce;	       /* index of the bounce buffer */
	bool hole;	       /* OUT of zeros that is carried out as a WRITE_ZEROES */
	bool held;	       /* found no space; not done since */
	bool stable;	       /* a sync is still to come before it is finished */
	uint64_t flush_number; /* of the sync that it waits for */
	struct iovec piece;    /* a bounce buffer, zeros, or a part of the first of `buffers` */
	union blk_buffers *buffers; /* what is left to do; small, or the head's slot */
	union blk_buffers small[BLK_SMALL];
};

/* Limits how many requests are at work, or how many bytes; the others wait in their order. */
struct blk_lane {
	struct fifo waiting;
	uint64_t at_work, max; /* their shares; the last one may be too much; max 0: closed */
	bool waits;	       /* for the disk's limits */
	/* Prepares the request's next operation. Its share, or 0: it waits after all. */
	uint32_t (*step)(struct blk_request *r);
};

/* Ranges in one DISCARD or WRITE_ZEROES request: what a request's slot of buffers holds. */
#define BLK_MAX_RANGES VIRTQ_MAX_SIZE
/* Sectors in one range: 2 GiB. */
#define BLK_MAX_RANGE_SECTORS (1u << 22)
/* Requests in one go, before other descriptors of the loop have their turn. */
#define BLK_KICK_BUDGET 256u
/* Those of them with data: then they are submitted, and what is done is published, so that the
 * guest goes on with that while the next are at work. */
#define BLK_KICK_TRANSFERS 8u
/* The most bytes that one operation reads or writes, and about what those at work in a queue do
 * together: so a driver decides neither how long an operation takes, nor a reset. */
#define BLK_PIECE     (2 * MIB)
#define BLK_IN_FLIGHT (8 * MIB)
/* The most that one step of a block device declares to be zeros, which may be a write of them. */
#define BLK_ZERO_STEP (4 * MIB)
/* DISCARD and WRITE_ZEROES requests of a queue that are at work at once, each in one step. */
#define BLK_MAX_RANGES_AT_WORK 2u
/* The most that one step discards or zeroes while the guest reads, bytes, and how many such steps
 * without a read tell that it does not. */
#define BLK_SHORT_STEP	MIB
#define BLK_SHORT_STEPS 64u
/* Requests of a queue that go through bounce buffers at once, and the size of these. */
#define BLK_MAX_BOUNCES 4u
#define BLK_BOUNCE_SIZE (256 * KIB)

/* One mapping per queue; a page is only used once it is touched. */
struct blk_memory {
	struct blk_request request[VIRTQ_MAX_SIZE];
	struct iovec scratch[VIRTQ_MAX_SIZE]; /* of the chain just popped */
	union blk_buffers slot[VIRTQ_MAX_SIZE][VIRTQ_MAX_SIZE] __attribute__((aligned(4096)));
	uint8_t bounce[BLK_MAX_BOUNCES][BLK_BOUNCE_SIZE] __attribute__((aligned(4096)));
};

struct blk_queue {
	struct blk_device *blk;
	struct virtio_queue *vq;
	struct blk_engine *engine;
	struct blk_memory *memory;
	struct loop_hook hook;
	struct blk_poll poll;
	bool worked;		      /* since `poll` was last told */
	bool kick_again;	      /* a kick left something to do */
	bool kicks_off;		      /* the queue is looked at without */
	bool limited;		      /* the virtqueue waits for the disk's limits, */
	struct rate_timer rate_timer; /* kicks the queue */
	bool stopping;		      /* reset: nothing new is submitted */
	bool pushed;		      /* used entries wait to be published */
	bool no_punch, no_zero;	      /* BLK_ZERO_PUNCH, BLK_ZERO_RANGE: found not supported */
	unsigned bounces;	      /* bit n: bounce[n] is in use */
	struct blk_lane transfers, ranges, bounced;
	uint64_t reads_seen;	      /* of all queues, when the last step began */
	unsigned short_steps;	      /* still to come */
	bool ranges_at_work;	      /* as told to blk_space_begin() */
	struct fifo held;	      /* requests that wait for space, to be tried again */
	unsigned num_held;	      /* `held` requests, in the list or being tried */
	uint64_t held_ns;	      /* until the next try */
	struct loop_timer held_timer; /* with werror=enospc-pause */
	struct fifo unsynced;	      /* requests that are to wait for the next sync that begins */
	struct fifo flushes;	      /* those that wait for one, in the order of its number */
	uint64_t flush_number;	      /* of the last of them */
	struct blk_req sync;	      /* the disk's, when this queue began it */
	unsigned sync_retries;
	struct {
		_Atomic uint64_t reads, writes, flushes, discards, write_zeroes, secure_erases,
			errors;
		_Atomic uint64_t read_bytes, written_bytes, discarded_bytes, detected_zero_bytes;
	} count;
};

/* The syncs of a disk, one at a time. */
struct blk_flush {
	pthread_mutex_t lock;
	bool at_work;
	uint64_t begun, done; /* numbers of the last that began, and that succeeded */
	uint64_t waiting;     /* bit n: queue n has requests that wait */
	int error;	      /* of the first that failed since reset; negative errno */
};

struct blk_device {
	struct virtio_dev dev;
	struct blk_image *image;
	struct loop *worker;
	char serial[BLK_SERIAL_LEN]; /* not terminated when it is full */
	_Atomic uint64_t sectors;    /* capacity; it only grows */
	bool discard, secure_erase;  /* offered */
	bool detect_zeroes;
	struct rate rate;
	struct blk_flush flush;
	bool wait_for_space;	  /* werror=enospc-pause */
	_Atomic uint64_t told[2]; /* bit N: a failure of the host with errno N was logged */
	struct {
		pthread_mutex_t lock;
		unsigned at_work; /* queues with ranges at work */
		int64_t start, last, returned;
	} space;			/* what the image occupies, bytes; -1: unknown */
	_Atomic unsigned paused_queues; /* that hold requests */
	_Atomic uint64_t space_pauses;
	bool wce;		   /* the configuration's, to begin with */
	_Atomic bool writethrough; /* a write is stable when it is done */
	unsigned num_queues;
	struct blk_queue queue[];
};

static inline struct blk_device *blk_of(const struct virtio_dev *dev)
{
	return container_of(dev, struct blk_device, dev);
}

#endif
