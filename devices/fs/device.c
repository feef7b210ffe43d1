// SPDX-License-Identifier: BSD-2-Clause
/* virtio-fs (virtio 1.3, section 5.11): configuration, queues and their life. */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "device.h"

#define TURN_CHAINS 16u

static int turn(struct virtio_dev *dev, unsigned q, const char **why)
{
	struct fs *fs = to_fs(dev);
	struct fs_worker *worker = &fs->worker[q];
	struct virtq *vq = &dev->queue[q].vq;
	struct virtq_chain chain = {.iov = worker->iov, .max_iov = ARRAY_SIZE(worker->iov)};

	for (unsigned i = 0; i < TURN_CHAINS; i++) {
		int r = virtq_pop(vq, &chain, why);
		int64_t written;

		if (r <= 0)
			return r;
		written = fs_serve_chain(fs, worker, &chain, why);
		if (written == FS_WAITS) {
			fs_wait(worker, &chain);
			continue;
		}
		if (written < 0)
			return (int)written;
		virtq_push(vq, chain.head, (uint32_t)written);
		virtio_queue_publish(dev, q); /* the next one may take long */
	}
	return 1;
}

static void fs_kick(struct virtio_dev *dev, unsigned q)
{
	virtio_queue_work(dev, q, turn);
}

/* Whoever comes next knows nothing of what this driver had; what a request holds goes with its queue. */
static void fs_stop_queue(struct virtio_dev *dev, unsigned q)
{
	to_fs(dev)->worker[q].num_waiting = 0;
	if (q >= FS_REQUESTS)
		fs_leave(to_fs(dev));
}

static int fs_save(struct virtio_dev *dev, void *state, struct error *e)
{
	(void)state;
	if (to_fs(dev)->mounted)
		return error_set(e, -EBUSY, "the guest has the shared directory '%s' mounted",
				 to_fs(dev)->share.tag);
	return 0;
}

void fs_counters(const struct virtio_dev *dev, struct fs_counters *ret)
{
	const struct fs *fs = to_fs(dev);

	*ret = (struct fs_counters){
		.requests = fs->requests,
		.failed = fs->failed,
		.read_bytes = fs->read_bytes,
		.written_bytes = fs->written_bytes,
		.inodes = fs->num_nodes,
		.handles = fs->num_handles,
	};
}

static void fs_free(struct virtio_dev *dev)
{
	struct fs *fs = to_fs(dev);

	if (fs->nodes && fs->handles)
		fs_leave(fs);
	fs_inodes_free(fs);
	for (unsigned i = 0; i < fs->num_timers; i++)
		loop_timer_close(&fs->worker[i].retry);
	close(fs->share.root);
	pthread_mutex_destroy(&fs->lock);
	free(fs);
}

static const struct virtio_ops fs_ops = {
	.name = "fs",
	.device_id = VIRTIO_ID_FS,
	.kick = fs_kick,
	.stop_queue = fs_stop_queue,
	.save = fs_save,
	.destroy = fs_free,
};

/* Gives each queue its loop, and what waits there for locks. */
static int place_queues(struct fs *fs, struct loop *const *loops, struct error *e)
{
	int r = 0;

	for (unsigned i = 0; i < fs->dev.num_queues && r == 0; i++) {
		fs->worker[i].fs = fs;
		fs->worker[i].queue = i;
		fs->dev.queue[i].loop = loops[i];
		if (fs->share.locks) {
			r = loop_timer_init(loops[i], &fs->worker[i].retry, fs_retry);
			fs->num_timers += r == 0;
		}
	}
	return r < 0 ? error_set(e, r, "virtio-fs: cannot make a timer: %s", strerror(-r)) : 0;
}

int fs_device_new(struct virtio_dev **ret, const struct gmem *mem, const struct fs_share *share,
		  struct loop *const *loops, struct error *e)
{
	struct virtio_fs_config config = {.num_request_queues = htole32(share->queues)};
	unsigned n = FS_REQUESTS + share->queues;
	struct fs *fs = calloc(1, sizeof(*fs) + n * sizeof(fs->worker[0]));
	int r;

	if (!fs) {
		close(share->root);
		return error_set(e, -ENOMEM, "virtio-fs: out of memory");
	}
	fs->share = *share;
	pthread_mutex_init(&fs->lock, NULL);
	r = fs_inodes_init(fs, e);
	if (r == 0)
		r = virtio_dev_init(&fs->dev, &fs_ops, mem, n, VIRTQ_MAX_SIZE, loops[0], e);
	if (r < 0) {
		fs_free(&fs->dev);
		return r;
	}
	r = place_queues(fs, loops, e);
	if (r < 0) {
		virtio_dev_free(&fs->dev);
		return r;
	}
	memcpy(config.tag, share->tag, strlen(share->tag));
	fs->dev.config_len = sizeof(config);
	virtio_dev_set_config(&fs->dev, 0, &config, sizeof(config));
	*ret = &fs->dev;
	return 0;
}
