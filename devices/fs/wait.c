// SPDX-License-Identifier: BSD-2-Clause
/* Requests that wait for a lock: they are put aside, and tried again at intervals. */
#include <errno.h>
#include <string.h>

#include "device.h"

#define RETRY_NS (NSEC_PER_SEC / 50)

void fs_wait(struct fs_worker *worker, const struct virtq_chain *chain)
{
	struct fs_waiting *w = &worker->waiting[worker->num_waiting++];

	*w = (struct fs_waiting){.head = chain->head, .header = worker->header};
	memcpy(&w->args, worker->args, sizeof(w->args));
	/* Its reply is but a header, of so many pieces at most. */
	w->num_in = MIN(chain->num_in, (unsigned)ARRAY_SIZE(w->in));
	memcpy(w->in, chain->iov + chain->num_out, w->num_in * sizeof(w->in[0]));
	loop_timer_set(&worker->retry, RETRY_NS);
}

static bool try_again(struct fs *fs, struct fs_worker *worker, struct fs_waiting *w)
{
	struct virtq_chain chain = {.head = w->head, .iov = w->in, .num_in = w->num_in};
	struct fs_request rq = {
		.worker = worker, .header = &w->header, .args = &w->args, .chain = &chain};
	ssize_t r = -ESTALE;

	rq.node = fs_node(fs, &rq, w->header.nodeid);
	if (rq.node)
		r = fs_setlk(fs, &rq);
	fs_let_go(fs, &rq);
	if (r == -EAGAIN)
		return false;
	virtq_push(&fs->dev.queue[worker->queue].vq, w->head, (uint32_t)fs_answer(fs, &rq, r));
	return true;
}

void fs_retry(struct loop_timer *timer)
{
	struct fs_worker *worker = container_of(timer, struct fs_worker, retry);
	struct fs *fs = worker->fs;
	unsigned kept = 0;

	if (!virtio_queue_active(&fs->dev, worker->queue))
		return;
	for (unsigned i = 0; i < worker->num_waiting; i++)
		if (!try_again(fs, worker, &worker->waiting[i]))
			worker->waiting[kept++] = worker->waiting[i];
	worker->num_waiting = kept;
	virtio_queue_publish(&fs->dev, worker->queue);
	if (kept)
		loop_timer_set(timer, RETRY_NS);
}
