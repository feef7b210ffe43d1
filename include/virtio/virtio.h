// SPDX-License-Identifier: BSD-2-Clause
/*
 * A virtio device and its life cycle (virtio 1.3, sections 2.1, 3.1), and its virtio-mmio transport
 * (section 4.2, version 2).
 *
 * DOC: Theory of operation. Registers are written by vCPU threads, one at a time under `lock`.
 * Each queue belongs to its loop from DRIVER_OK until QueueReady is cleared or the device is reset.
 * The hand-over is loop_call(): at DRIVER_OK start_queue() runs on the queue's loop, at the end
 * stop_queue() does, and returns only when no request of that queue is in flight. Code on a loop
 * never takes `lock` (that would deadlock with loop_call()); it touches only its queues, `status`
 * and the interrupt state, which are atomics.
 *
 * The register page is the memory that the guest reads directly (a read-only memslot) where the
 * host has KVM_CAP_READONLY_MEM, so it is updated at every change. Writes to InterruptACK and
 * QueueNotify never exit: they are coalesced MMIO and ioeventfds. drain_acks() applies pending ACKs
 * before the interrupt state is read or changed; page.c explains why no interrupt is lost.
 */
#ifndef SKEP_VIRTIO_H
#define SKEP_VIRTIO_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "kvm/gmem.h"
#include "virtio/virtq.h"

#define VIRTIO_MMIO_PAGE	  4096u
#define VIRTIO_MMIO_CONFIG_OFFSET 0x100u
#define VIRTIO_CONFIG_MAX	  256u /* bytes of device configuration space */
#define VIRTIO_MAX_QUEUES	  64u

struct virtio_dev;

struct virtio_ops {
	const char *name;   /* "blk": for messages */
	uint32_t device_id; /* virtio 1.3, section 5 */

	/* The driver's features are accepted (FEATURES_OK): the place to lower `usable_queues`. vCPU
	 * thread, under the lock. May be NULL. */
	void (*features_ok)(struct virtio_dev *dev);
	/* Driver wrote the configuration space, bounds checked against config_len. vCPU thread,
	 * under the lock. NULL: writes are ignored. */
	void (*config_write)(struct virtio_dev *dev, uint32_t offset, const void *data,
			     uint32_t len);

	/* Queue `q` became active: kicks follow. Queue's loop. May be NULL. */
	void (*start_queue)(struct virtio_dev *dev, unsigned q);
	/* The driver kicked (or may have). Queue's loop; only while the queue is active. */
	void (*kick)(struct virtio_dev *dev, unsigned q);
	/* Drain: return only when no request of `q` is in flight. Queue's loop. May be NULL. */
	void (*stop_queue)(struct virtio_dev *dev, unsigned q);

	/* The driver reset the device and all queues are stopped: forget what else the driver set
	 * (e.g. by config_write). vCPU thread, under the lock. May be NULL. */
	void (*reset)(struct virtio_dev *dev);

	/* Returns chains that the device holds but has not worked on to queue `q` (virtq_unpop()), which
	 * is paused, so that nothing is in flight. Queue's loop. May be NULL. */
	void (*give_back)(struct virtio_dev *dev, unsigned q);
	/* The type's own state, for virtio/state.h: `state_size` bytes of fixed layout, zeroed, without
	 * pointers. Queues are idle. restore() is called before the queues run, when the driver's
	 * features are set; its state is not trusted. 0, -EBUSY (save: try again) or -EINVAL, with a
	 * message. vCPU thread, under the lock. May be NULL. */
	uint32_t state_size;
	int (*save)(struct virtio_dev *dev, void *state, struct error *e);
	int (*restore)(struct virtio_dev *dev, const void *state, struct error *e);

	/* Frees the device and all it owns; its loops have ended. */
	void (*destroy)(struct virtio_dev *dev);
};

struct virtio_queue {
	struct virtq vq;
	struct loop *loop;    /* set by the device's constructor */
	struct loop_fd watch; /* of kick_fd */
	struct virtio_dev *dev;
	unsigned index;
	int kick_fd;	     /* eventfd; the ioeventfd of QueueNotify == index */
	_Atomic bool active; /* since DRIVER_OK; neither stopped nor broken */
	bool started;	     /* start_queue() was called, stop_queue() is due */
};

struct virtio_dev {
	const struct virtio_ops *ops;
	const struct gmem *mem;
	uint64_t features; /* offered; VIRTIO_F_VERSION_1, INDIRECT_DESC, EVENT_IDX are added by
			      init */
	uint64_t driver_features; /* accepted; valid from FEATURES_OK */
	struct virtio_queue *queue;
	unsigned num_queues;
	unsigned usable_queues; /* that the accepted features leave; set by features_ok() */
	uint8_t config[VIRTIO_CONFIG_MAX]; /* little-endian; change only through
					      virtio_dev_set_config() */
	uint32_t config_len;

	pthread_mutex_t lock;
	/* For changes of the status and of the configuration, with their interrupt. A leaf lock, held
	 * for a few stores only, so loops may take it. `lock` is taken before it. */
	pthread_mutex_t state_lock;
	uint8_t *page; /* the register page, VIRTIO_MMIO_PAGE bytes */
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	bool unknown_features; /* the driver accepted some beyond bit 63 */
	_Atomic uint32_t status;
	_Atomic uint32_t shared_bits;  /* of InterruptStatus, which no ACK clears */
	int irq_fd;		       /* eventfd, an irqfd in a VM; written to interrupt */
	void (*drain_acks)(void *ctx); /* NULL: ACKs come as plain writes */
	void *drain_ctx;
};

/*
 * Sets up an embedded device, which is zeroed but for `features`, `config` and `config_len` (they
 * may be set before or after this). Kick eventfds are made here. Every queue gets `max_size` and
 * `loop` (a device may change queue[i].loop and vq.max_size before virtio_dev_attach()).
 */
int virtio_dev_init(struct virtio_dev *dev, const struct virtio_ops *ops, const struct gmem *mem,
		    unsigned num_queues, uint16_t max_size, struct loop *loop, struct error *e);

/* Gives the device its register page and interrupt, watches the kicks on the loops, fills the page.
 * `page` is aligned, owned by the caller, and outlives the device. drain_acks() applies pending
 * InterruptACK writes with virtio_mmio_write() before it gives up their place in the ring, under
 * its own lock; its check for emptiness is a sequentially consistent load and takes none. After
 * this the features and queue counts are fixed. Before the loops start. */
int virtio_dev_attach(struct virtio_dev *dev, uint8_t *page, int irq_fd,
		      void (*drain_acks)(void *ctx), void *drain_ctx, struct error *e);

/* Teardown: resets (draining all queues) if the driver left it running. Loops still run. */
void virtio_dev_quiesce(struct virtio_dev *dev);
/* Calls ops->destroy, which frees the device itself, and closes kick eventfds. NULL-safe. */
void virtio_dev_free(struct virtio_dev *dev);

/* Register access at `offset` in the page of a struct virtio_dev: any width, any offset; what the
 * specification does not allow reads as 0 and is ignored. vCPU threads, and for ACKs whoever
 * drains. */
void virtio_mmio_read(void *dev, uint64_t offset, void *data, uint32_t len);
void virtio_mmio_write(void *dev, uint64_t offset, const void *data, uint32_t len);
extern const struct bus_ops virtio_mmio_bus_ops;

static inline bool virtio_has(const struct virtio_dev *dev, unsigned feature_bit)
{
	return dev->driver_features & (1ull << feature_bit);
}

/* Whether the device may work on queue `q` now: for work that does not start in kick(). */
static inline bool virtio_queue_active(const struct virtio_dev *dev, unsigned q)
{
	return atomic_load_explicit(&dev->queue[q].active, memory_order_acquire);
}

/* Has kick() called again, after whatever else is ready on the loop. So work on a queue is bounded, and
 * a driver that keeps refilling it starves nobody. Any thread. */
void virtio_queue_kick_later(struct virtio_dev *dev, unsigned q);

/* Publishes pushed used entries of queue `q` and interrupts where the driver wants it. Queue's
 * loop. */
void virtio_queue_publish(struct virtio_dev *dev, unsigned q);

/* Others (the kernel, for vhost) write to irq_fd, too, when they have used buffers, and know nothing of
 * InterruptStatus: so its bit for that is always set, until the device is reset. A driver may look at
 * its queues more often than it has to. Any thread. */
void virtio_dev_share_interrupt(struct virtio_dev *dev);

/* For kick(): has turn() work on queue `q` with kicks off, and publishes what it pushed. turn()
 * returns 1 when it leaves something for later, 0 when the queue is empty, and -EBADMSG with a reason
 * when the driver broke the protocol. Its work is bounded: others on the loop have their turn before
 * the next one. */
typedef int (*virtio_turn)(struct virtio_dev *dev, unsigned q, const char **why);
void virtio_queue_work(struct virtio_dev *dev, unsigned q, virtio_turn turn);

/* Protocol error: DEVICE_NEEDS_RESET, a configuration interrupt, and no more work on any queue
 * until the driver resets the device. Logged, rate-limited. Any loop of the device. */
__attribute__((format(printf, 2, 3))) void virtio_dev_fail(struct virtio_dev *dev, const char *fmt,
							   ...);

/* Changes configuration bytes under the generation counter and, if they differ, interrupts the
 * driver: at once, or when it comes to DRIVER_OK if it may have read them before that. Any thread,
 * loops included; before virtio_dev_attach() it only sets them. The _locked form is for
 * config_write() and reset(), which mostly want no interrupt. */
void virtio_dev_set_config(struct virtio_dev *dev, uint32_t offset, const void *data, uint32_t len);
void virtio_dev_set_config_locked(struct virtio_dev *dev, uint32_t offset, const void *data,
				  uint32_t len, bool interrupt);

#endif
