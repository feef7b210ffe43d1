// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. Whoever builds the VM creates the ring, disabled, and tells it which
 * opcodes it will ever accept; the thread that will run it registers the files and enables it. From
 * then on nothing can be registered, so a seccomp filter can deny io_uring_register(2), and the
 * ring itself limits what the filter cannot see.
 *
 * A watch is a multishot poll; one submission serves until the kernel drops it (no
 * IORING_CQE_F_MORE), and then it is armed again, which looks at the descriptor's state anew, so no
 * event is lost. (A file that cannot be polled completes each poll at once, and so is reported at
 * each turn.) Stopping it is an ASYNC_CANCEL whose own completion nobody looks at (user data 0);
 * `armed` is cleared only by the poll's last completion, so there are never two polls of one watch.
 * (Not a POLL_REMOVE: that one fails with EALREADY, and leaves the poll be, when it just fired.)
 *
 * The kernel takes a ring down some time after it was closed, maybe after its process has ended. So
 * the loop's thread unregisters files and memory at its end, which is all that the ring still
 * allows: whoever waits for the process then finds an image or a device free. Until 6.12 that waits
 * for all requests, polls included, so these are cancelled first.
 *
 * With DEFER_TASKRUN completions are only posted on this thread, inside io_uring_enter(2): nothing
 * interrupts a busy callback. With TASKRUN_FLAG the kernel says in the ring when there are some to
 * post, so that a turn that does not wait needs no system call.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "loop_engine.h"

/* Always on a registered file, and with no other flag than that. */
const struct loop_opcode loop_opcodes[] = {
	{IORING_OP_READ, "READ"},
	{IORING_OP_WRITE, "WRITE"},
	{IORING_OP_READ_FIXED, "READ_FIXED"},
	{IORING_OP_WRITE_FIXED, "WRITE_FIXED"},
	{IORING_OP_READV, "READV"},
	{IORING_OP_WRITEV, "WRITEV"},
	{IORING_OP_FSYNC, "FSYNC"},
	{IORING_OP_FALLOCATE, "FALLOCATE"},
	{IORING_OP_URING_CMD, "URING_CMD"},
	{IORING_OP_POLL_ADD, "POLL_ADD"},
	{IORING_OP_ASYNC_CANCEL, "ASYNC_CANCEL"},
	{0},
};

static int ring_register(const struct loop *loop, unsigned opcode, const void *arg, unsigned n)
{
	return syscall(__NR_io_uring_register, loop->ring.ring_fd, opcode, arg, n) < 0 ? -errno : 0;
}

/* What io_uring_setup(2) said, in words that help. */
static int explain_denial(int r, struct error *e)
{
	char sysctl[8];

	if (r == -ENOSYS)
		return error_set(e, r,
				 "io_uring is not in this kernel, or a seccomp filter hides it");
	if (r != -EPERM)
		return error_set(e, r, "cannot set up an io_uring: %m");
	read_text(sysctl, sizeof(sysctl), "/proc/sys/kernel/io_uring_disabled");
	if (strcmp(sysctl, "1") == 0 || strcmp(sysctl, "2") == 0)
		return error_set(
			e, r, "io_uring is denied by the sysctl kernel.io_uring_disabled=%s%s",
			sysctl, sysctl[0] == '1' ? " to users outside kernel.io_uring_group" : "");
	return error_set(e, r, "io_uring is denied by a seccomp filter or a security module");
}

static int make_ring(struct loop *loop, unsigned entries)
{
	static const unsigned flags[] = {
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SINGLE_ISSUER |
			IORING_SETUP_DEFER_TASKRUN, /* 6.1 */
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_TASKRUN_FLAG |
			IORING_SETUP_COOP_TASKRUN, /* 5.19 */
		0,				   /* 5.10 */
	};
	int r = -EINVAL;

	for (size_t i = 0; i < ARRAY_SIZE(flags) && r == -EINVAL; i++) {
		/* Completions: each request that its submitter keeps in flight, and polls. */
		struct io_uring_params p = {
			.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE |
				 IORING_SETUP_CLAMP | flags[i],
			.cq_entries = MAX(4 * entries, 64u),
		};

		r = io_uring_queue_init_params(entries, &loop->ring, &p);
	}
	return r;
}

static int restrict_ring(struct loop *loop)
{
	struct io_uring_restriction res[ARRAY_SIZE(loop_opcodes) + 3] = {0};
	struct io_uring_probe *probe = io_uring_get_probe_ring(&loop->ring);
	unsigned n = 0;

	if (!probe)
		return -ENOMEM;
	for (const struct loop_opcode *o = loop_opcodes; o->name; o++) {
		if (!io_uring_opcode_supported(probe, o->op))
			continue;
		res[n].opcode = IORING_RESTRICTION_SQE_OP;
		res[n++].sqe_op = o->op;
	}
	io_uring_free_probe(probe);
	res[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	res[n++].sqe_flags = IOSQE_FIXED_FILE;
	res[n].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
	res[n++].sqe_flags = IOSQE_FIXED_FILE;
	res[n].opcode = IORING_RESTRICTION_REGISTER_OP;
	res[n++].register_op = IORING_UNREGISTER_FILES;
	res[n].opcode = IORING_RESTRICTION_REGISTER_OP;
	res[n++].register_op = IORING_UNREGISTER_BUFFERS;
	return ring_register(loop, IORING_REGISTER_RESTRICTIONS, res, n);
}

static void uring_close(struct loop *loop)
{
	/* The registered ring descriptor went with its thread; this thread may not be allowed to
	 * call io_uring_register(2), which io_uring_queue_exit() would do to drop it. */
	loop->ring.int_flags = 0;
	io_uring_queue_exit(&loop->ring);
	free(loop->stash);
}

static int uring_open(struct loop *loop, unsigned entries, struct error *e)
{
	int r = make_ring(loop, MAX(entries, 8u));

	if (r < 0)
		return explain_denial(r, e);
	/* NODROP: completions that do not fit are kept. RSRC_TAGS came with multishot polls. */
	if (!(loop->ring.features & IORING_FEAT_NODROP) ||
	    !(loop->ring.features & IORING_FEAT_RSRC_TAGS))
		r = error_set(e, -ENOSYS,
			      "io_uring of this kernel is too old: Linux 5.13 is needed");
	else
		r = restrict_ring(loop);
	if (r < 0 && r != -ENOSYS)
		error_set(e, r, "cannot restrict an io_uring: %m");
	if (r < 0)
		uring_close(loop);
	return r;
}

int loop_register_file(struct loop *loop, int fd)
{
	int *files;

	if (!loop_is_uring(loop))
		return -ENOTSUP;
	if (loop->sealed)
		return -EBUSY;
	files = reallocarray(loop->files, loop->num_files + 1, sizeof(*files));
	if (!files)
		return -ENOMEM;
	loop->files = files;
	files[loop->num_files] = fd;
	return (int)loop->num_files++;
}

/* Cuts the ranges into buffers; `ret` has room. */
static unsigned cut_buffers(const struct iovec *ranges, unsigned n, struct iovec *ret)
{
	unsigned m = 0;

	for (unsigned i = 0; i < n; i++)
		for (size_t at = 0; at < ranges[i].iov_len; at += LOOP_BUFFER)
			ret[m++] = (struct iovec){(uint8_t *)ranges[i].iov_base + at,
						  MIN(ranges[i].iov_len - at, LOOP_BUFFER)};
	return m;
}

static int explain_unpinned(int r, size_t bytes, struct error *e)
{
	struct rlimit limit = {.rlim_cur = RLIM_INFINITY};

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (r == -ENOMEM && limit.rlim_cur != RLIM_INFINITY)
		return error_set(
			e, r,
			"cannot pin %zu MiB of guest memory, which count once for each queue: "
			"there is too little memory, or the limit on locked memory (%llu KiB) is "
			"too low: raise it (`ulimit -l unlimited`, LimitMEMLOCK=infinity in "
			"systemd's unit)",
			bytes >> 20, (unsigned long long)limit.rlim_cur >> 10);
	return error_set(e, r, "cannot pin %zu MiB of guest memory: %m", bytes >> 20);
}

int loop_register_memory(struct loop *loop, const struct iovec *ranges, unsigned n, struct error *e)
{
	_cleanup_free_ struct iovec *buffers = NULL;
	size_t bytes = 0, most = n;
	int r;

	if (!loop_is_uring(loop))
		return error_set(e, -ENOTSUP, "only io_uring has fixed buffers");
	if (loop->sealed || loop->num_memory || n > LOOP_MAX_RANGES)
		return error_set(e, -EBUSY, "fixed buffers are registered once");
	for (unsigned i = 0; i < n; i++) {
		bytes += ranges[i].iov_len;
		most += ranges[i].iov_len / LOOP_BUFFER;
	}
	buffers = calloc(most, sizeof(*buffers));
	if (!buffers)
		return error_set(e, -ENOMEM, "out of memory for a list of buffers");
	r = ring_register(loop, IORING_REGISTER_BUFFERS, buffers, cut_buffers(ranges, n, buffers));
	if (r < 0)
		return explain_unpinned(r, bytes, e);
	memcpy(loop->memory, ranges, n * sizeof(*ranges));
	loop->num_memory = n;
	return 0;
}

int loop_find_buffer(const struct loop *loop, const void *p, size_t len)
{
	size_t before = 0;

	for (unsigned i = 0; i < loop->num_memory; i++) {
		const struct iovec *m = &loop->memory[i];
		size_t offset = (uintptr_t)p - (uintptr_t)m->iov_base, at = offset % LOOP_BUFFER;

		if ((uintptr_t)p >= (uintptr_t)m->iov_base && offset < m->iov_len)
			return len <= MIN(m->iov_len - offset, LOOP_BUFFER - at)
				       ? (int)(before + offset / LOOP_BUFFER)
				       : -1;
		before += (m->iov_len + LOOP_BUFFER - 1) / LOOP_BUFFER;
	}
	return -1;
}

/* The oldest completion that nobody handled yet. */
static bool next_cqe(struct loop *loop, struct io_uring_cqe *ret)
{
	const struct io_uring_cq *cq = &loop->ring.cq;
	unsigned head = *cq->khead;

	if (loop->stash_head != loop->stash_tail) {
		*ret = loop->stash[loop->stash_head++];
		return true;
	}
	loop->stash_head = loop->stash_tail = 0;
	if (head == io_uring_smp_load_acquire(cq->ktail))
		return false;
	*ret = cq->cqes[head & (cq->ring_entries - 1)];
	io_uring_cq_advance(&loop->ring, 1);
	return true;
}

static void reap(struct loop *loop)
{
	struct io_uring_cqe cqe;

	while (next_cqe(loop, &cqe)) {
		struct loop_op *op = io_uring_cqe_get_data(&cqe);

		if (op)
			op->done(op, cqe.res, cqe.flags);
	}
}

/* Takes completions off a full ring, to be handled later: an op never completes inside loop_sqe().
 */
static void stash_cqes(struct loop *loop)
{
	const struct io_uring_cq *cq = &loop->ring.cq;
	unsigned head = *cq->khead, n = io_uring_smp_load_acquire(cq->ktail) - head;
	struct io_uring_cqe *stash;

	if (n == 0)
		return;
	stash = reallocarray(loop->stash, loop->stash_tail + n, sizeof(*stash));
	if (!stash)
		return;
	loop->stash = stash;
	for (unsigned i = 0; i < n; i++)
		stash[loop->stash_tail++] = cq->cqes[(head + i) & (cq->ring_entries - 1)];
	io_uring_cq_advance(&loop->ring, n);
}

struct io_uring_sqe *loop_sqe(struct loop *loop)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&loop->ring))) {
		/* Kernels before 5.19 submit nothing (-EBUSY) while completions overflow. */
		if (io_uring_submit(&loop->ring) < 0)
			stash_cqes(loop);
	}
	return sqe;
}

static void uring_arm(struct loop_fd *w)
{
	struct io_uring_sqe *sqe;

	if (!w->loop->sealed || w->armed)
		return;
	sqe = loop_sqe(w->loop);
	io_uring_prep_poll_multishot(sqe, w->slot, w->events & ~(uint32_t)EPOLLET);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data(sqe, &w->op);
	w->armed = true;
}

static void uring_disarm(struct loop_fd *w)
{
	struct io_uring_sqe *sqe;

	if (!w->armed)
		return;
	sqe = loop_sqe(w->loop);
	io_uring_prep_cancel(sqe, &w->op, 0);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data(sqe, NULL);
}

static void polled(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct loop_fd *w = container_of(op, struct loop_fd, op);

	if (res > 0)
		loop_mark_ready(w, (uint32_t)res);
	if (cqe_flags & IORING_CQE_F_MORE)
		return;
	w->armed = false;
	if (w->paused)
		return;
	if (res < 0 && res != -ECANCELED && res != -ENOMEM && res != -EAGAIN)
		log_error("%s: descriptor %d is no longer watched: %s", w->loop->name, w->fd,
			  strerror(-res));
	else
		uring_arm(w);
}

static int uring_add(struct loop *loop, struct loop_fd *w)
{
	w->op.done = polled;
	w->slot = loop_register_file(loop, w->fd);
	return MIN(w->slot, 0);
}

static int uring_seal(struct loop *loop, struct error *e)
{
	int r = ring_register(loop, IORING_REGISTER_FILES, loop->files, loop->num_files);

	if (r < 0)
		return error_set(e, r, "cannot register %u files with an io_uring: %m",
				 loop->num_files);
	/* Saves the look-up of the ring's descriptor at each turn; does without where it fails. */
	io_uring_register_ring_fd(&loop->ring);
	r = ring_register(loop, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (r < 0)
		return error_set(e, r, "cannot enable an io_uring: %m");
	loop->sealed = true;
	for (struct loop_fd *w = loop->watches; w; w = w->next) {
		if (!w->paused)
			uring_arm(w);
	}
	return 0;
}

/* Whether the kernel has anything to do: then all there is to know is in the shared rings. */
static bool kernel_is_idle(const struct loop *loop)
{
	unsigned flags = IO_URING_READ_ONCE(*loop->ring.sq.kflags);

	return !io_uring_sq_ready(&loop->ring) &&
	       !(flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

static int uring_wait(struct loop *loop, bool block)
{
	int r = 0;

	if (block && loop->stash_head == loop->stash_tail)
		r = io_uring_submit_and_wait(&loop->ring, 1);
	else if (!kernel_is_idle(loop))
		r = io_uring_submit_and_get_events(&loop->ring);
	reap(loop);
	if (r == -EINTR || r == -EAGAIN || r == -EBUSY)
		return 0;
	return MIN(r, 0);
}

static int uring_wait_ops(struct loop *loop)
{
	return uring_wait(loop, true);
}

static bool any_is_armed(const struct loop *loop)
{
	const struct loop_fd *w = loop->watches;

	while (w && !w->armed)
		w = w->next;
	return w;
}

static void uring_release(struct loop *loop)
{
	int r = 0;

	if (!loop->sealed)
		return;
	for (struct loop_fd *w = loop->watches; w; w = w->next)
		loop_pause(w);
	while (r >= 0 && any_is_armed(loop))
		r = uring_wait(loop, true);
	if (r >= 0)
		r = ring_register(loop, IORING_UNREGISTER_FILES, NULL, 0);
	if (r >= 0 && loop->num_memory)
		r = ring_register(loop, IORING_UNREGISTER_BUFFERS, NULL, 0);
	if (r < 0)
		log_warn("%s: its files stay in use a moment longer: %s", loop->name, strerror(-r));
	loop->sealed = false;
}

const struct loop_engine_ops loop_engine_uring = {
	.is_uring = true,
	.open = uring_open,
	.close = uring_close,
	.seal = uring_seal,
	.release = uring_release,
	.add = uring_add,
	.arm = uring_arm,
	.disarm = uring_disarm,
	.wait = uring_wait,
	.wait_ops = uring_wait_ops,
};
