// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. A guest keeps what it once read from its disks, for as long as nothing else
 * wants the memory. No device can make it drop that, but the balloon can want the memory: it takes what
 * the guest says it could spare, which passes all of it to the host, and then lets go. The guest has free
 * memory then where it had a cache, and the host has the memory.
 *
 * This costs the guest some work, and the next reads of what was in the cache. So it is done when the
 * vCPUs have hardly run for a while, and again only if the cache has grown since.
 */
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "balloon.h"
#include "base/util.h"
#include "idle.h"

#define STEP_NS	  NSEC_PER_SEC
#define MAX_STILL 10u	      /* steps without progress: the guest gives no more */
#define BUSY(ns)  ((ns) / 20) /* 5 % of a CPU */
#define WORTH	  (32 * MIB)
#define RESERVE	  (32 * MIB) /* and a 16th of its memory, which the guest keeps free */

/* All of it the loop's. */
struct idle {
	struct virtio_dev *dev; /* a balloon */
	const struct device_host *host;
	uint64_t period; /* how long the guest must have been idle, nanoseconds */
	struct loop_timer timer;
	uint64_t cpu_time;  /* of the vCPUs, when it was last looked at */
	int64_t cache_left; /* bytes, when the balloon had let go; -1: not known yet */

	bool takes;	      /* the balloon grows */
	int64_t rest, target; /* bytes: its size before and after, and up to which it grows */
	int64_t size;	      /* at the last step */
	unsigned still;	      /* so many steps it has not grown */
};

/* How much the guest could spare; 0: nothing that is worth it, or it does not say. */
static uint64_t spare(struct idle *i)
{
	int64_t stat[VIRTIO_BALLOON_S_NR];
	int64_t age = balloon_stats(i->dev, stat);
	int64_t cache = stat[VIRTIO_BALLOON_S_CACHES], left, available;

	if (age < 0 || (uint64_t)age > 2 * i->period || cache < 0)
		return 0;
	if (i->cache_left < 0) /* the first word after it let go */
		i->cache_left = cache;
	if (cache < i->cache_left + (int64_t)WORTH)
		return 0;
	left = (int64_t)RESERVE + stat[VIRTIO_BALLOON_S_MEMTOT] / 16;
	available = stat[VIRTIO_BALLOON_S_AVAIL];
	return available > left ? (uint64_t)(available - left) : 0;
}

static void look(struct idle *i, struct balloon_counters *now)
{
	uint64_t cpu_time = i->host->cpu_time(i->host->ctx), bytes;
	bool busy = cpu_time - i->cpu_time > BUSY(i->period);

	i->cpu_time = cpu_time;
	bytes = busy ? 0 : spare(i);
	balloon_ask_for_stats(i->dev);
	if (!bytes)
		return;
	i->rest = now->target;
	i->size = now->size;
	i->still = 0;
	balloon_set_size(i->dev, (uint64_t)now->target + bytes);
	balloon_counters(i->dev, now);
	i->target = now->target;
	i->takes = true;
}

/* Until it has all, or gets no more, or somebody wants another size. */
static void take(struct idle *i, const struct balloon_counters *now)
{
	i->still = now->size > i->size ? 0 : i->still + 1;
	i->size = now->size;
	if (now->target == i->target && now->size < i->target && i->still < MAX_STILL)
		return;
	if (now->target == i->target)
		balloon_set_size(i->dev, (uint64_t)i->rest);
	i->takes = false;
	i->cache_left = -1;
	i->cpu_time = i->host->cpu_time(i->host->ctx);
}

static void on_timer(struct loop_timer *t)
{
	struct idle *i = container_of(t, struct idle, timer);
	struct balloon_counters now;

	balloon_counters(i->dev, &now);
	if (i->takes)
		take(i, &now);
	else
		look(i, &now);
	loop_timer_set(t, i->takes ? MIN(STEP_NS, i->period) : i->period);
}

int idle_new(struct idle **ret, struct virtio_dev *dev, const struct device_host *host,
	     uint64_t period, struct loop *loop, struct error *e)
{
	struct idle *i = malloc(sizeof(*i));
	int r;

	if (!i)
		return error_set(e, -ENOMEM, "virtio-balloon: out of memory");
	*i = (struct idle){.dev = dev, .host = host, .period = period};
	r = loop_timer_init(loop, &i->timer, on_timer);
	if (r < 0) {
		free(i);
		return error_set(e, r, "virtio-balloon: cannot make a timer: %s", strerror(-r));
	}
	loop_timer_set(&i->timer, period);
	*ret = i;
	return 0;
}

void idle_free(struct idle *i)
{
	if (i)
		loop_timer_close(&i->timer);
	free(i);
}
