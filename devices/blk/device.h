// SPDX-License-Identifier: BSD-2-Clause
/* The disk and its queues: what the files of devices/blk/ share, and nobody else includes. */
#ifndef SKEP_BLK_DEVICE_H
#define SKEP_BLK_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>

#include "blk.h"
#include "poll.h"
#include "rate.h"
#include "request.h"

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
	bool worked;	   /* since `poll` was last told */
	bool kick_again;   /* a kick left something to do */
	bool kicks_off;	   /* the queue is looked at without */
	bool limited;	   /* the virtqueue waits for the disk's limits, */
	uint64_t rate_due; /* at most until then (CLOCK_MONOTONIC, nanoseconds); 0: nothing waits */
	struct loop_timer rate_timer;
	bool stopping;		/* reset: nothing new is submitted */
	bool pushed;		/* used entries wait to be published */
	bool no_punch, no_zero; /* BLK_ZERO_PUNCH, BLK_ZERO_RANGE: found not supported */
	unsigned bounces;	/* bit n: bounce[n] is in use */
	struct blk_lane transfers, ranges, bounced;
	uint64_t reads_seen;	      /* of all queues, when the last step began */
	unsigned short_steps;	      /* still to come */
	bool ranges_at_work;	      /* as told to blk_space_begin() */
	struct fifo held;	      /* requests that wait for space, to be tried again */
	unsigned num_held;	      /* `held` requests, in the list or being tried */
	uint64_t held_ns;	      /* until the next try */
	struct loop_timer held_timer; /* with werror=enospc-pause */
	struct fifo flushes;   /* requests that wait for a sync, in the order of its number */
	uint64_t flush_number; /* of the last of them */
	struct blk_req sync;   /* the disk's, when this queue began it */
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
	struct blk_rate rate;
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

/* The queues' part of the device (struct virtio_ops): queue.c. */
void blk_kick(struct virtio_dev *dev, unsigned index);
void blk_start_queue(struct virtio_dev *dev, unsigned index);
void blk_stop_queue(struct virtio_dev *dev, unsigned index);
/* Makes queue `index` on `loop`, without its engine; in any case blk_queue_close() undoes it. */
int blk_queue_init(struct blk_device *blk, unsigned index, struct loop *loop,
		   const struct disk_config *config, struct error *e);
void blk_queue_close(struct blk_queue *q);
/* Something in the queue has to wait so long, nanoseconds, for the disk's limits: after that it is
 * kicked. */
void blk_wait_for_limits(struct blk_queue *q, uint64_t wait);

/* Ends requests of the queue that waited for a sync which is done, and begins one where there are
 * more and none is at work: then true. At the end of a turn of the queue's loop. */
bool blk_flush_look(struct blk_queue *q);
/* The driver reset the device, no queue is active: what was lost before is forgotten. */
void blk_flush_forget(struct blk_device *blk);

/* Requests that wait for space: what all of the queue's do is tried again; they are forgotten. */
void blk_held_retry(struct blk_queue *q);
void blk_held_reset(struct blk_queue *q);

/* Ranges of the queue are at work from now on, or not any more; one more of their steps is done.
 * What the image shrank by meanwhile is what discards gave back. */
void blk_space_begin(struct blk_device *blk);
void blk_space_sample(struct blk_device *blk);
void blk_space_end(struct blk_device *blk);

#endif
