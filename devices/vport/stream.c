// SPDX-License-Identifier: BSD-2-Clause
/*
 * The host's end, and bytes both ways.
 *
 * DOC: Theory of operation. Nothing is buffered here: what comes from the host is read into the guest's
 * buffers once it has given some and has opened the port, and waits in the host's kernel until then;
 * what the guest writes stays in the guest until the host takes it. Only a program that writes waits
 * for that, as on a pipe: Linux's driver does not spin for a port. So a reader gets all there is, as
 * slow as it may be. One that takes nothing for VPORT_PATIENCE_NS is given up: what is written is
 * lost, and counted, until it takes something.
 *
 * Whoever closes its end is gone for the guest when that has read what was sent before. Who only says
 * that nothing more comes (shutdown(2)) still gets what the guest writes.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "device.h"

/* Watches for what is waited for, and lets go of an end that has hung up. */
static void update(struct vport *v);

static bool takes_input(const struct vport *v)
{
	return v->watched && v->end.reads && !v->ended && v->guest_open &&
	       virtio_queue_active(&v->dev, VPORT_RX);
}

/* From the host */

/* So that one read does not take long, however large a buffer is. */
static int clip(struct iovec *iov, unsigned n)
{
	size_t left = VPORT_TURN_BYTES;
	unsigned i;

	for (i = 0; i < n && left; i++) {
		iov[i].iov_len = MIN(iov[i].iov_len, left);
		left -= iov[i].iov_len;
	}
	return (int)i;
}

/* Reads into the next of the guest's buffers. 1: go on, 0: not now, or -EBADMSG with a reason. */
static int receive_one(struct vport *v, const char **why)
{
	struct virtq *vq = &v->dev.queue[VPORT_RX].vq;
	struct virtq_chain chain = {.iov = v->rx_iov, .max_iov = ARRAY_SIZE(v->rx_iov)};
	ssize_t n = 0;
	int r = virtq_pop(vq, &chain, why);

	if (r == 0) {
		v->starved = !virtq_enable_kicks(vq);
		return !v->starved;
	}
	if (r < 0)
		return r;
	if (chain.num_out) {
		*why = "a receive buffer is device-readable";
		return -EBADMSG;
	}
	if (chain.in_bytes)
		n = readv(v->end.fd, v->rx_iov, clip(v->rx_iov, chain.num_in));
	if (n > 0 || !chain.in_bytes) {
		virtq_push(vq, chain.head, (uint32_t)n);
		v->rx_bytes += n;
		return 1;
	}
	virtq_unpop(vq, chain.head);
	v->ended = n == 0 || (errno != EAGAIN && errno != EINTR);
	return 0;
}

void vport_receive(struct vport *v)
{
	const char *why = "";
	int r = takes_input(v);

	v->starved = false;
	if (r)
		virtq_disable_kicks(&v->dev.queue[VPORT_RX].vq); /* until input waits for buffers */
	for (unsigned i = 0; i < VPORT_TURN_CHAINS && r > 0; i++)
		r = receive_one(v, &why);
	if (r < 0)
		virtio_dev_fail(&v->dev, "queue %u: %s", VPORT_RX, why);
	else
		virtio_queue_publish(&v->dev, VPORT_RX);
	update(v);
}

/* To the host */

/* Bytes that need no further thought, as they were written, or are lost; 0: they wait. */
static size_t put(struct vport *v, const void *data, size_t len)
{
	ssize_t n = -1;

	errno = EPIPE;
	if (v->watched && v->end.writes && !v->tx_stuck)
		n = write(v->end.fd, data, len);
	if (n > 0) {
		v->tx_bytes += n;
		v->last_try = false;
		return (size_t)n;
	}
	if (n < 0 && errno == EAGAIN && !v->last_try) {
		v->tx_waits = true;
		if (!v->end.patient)
			loop_timer_set(&v->timer, VPORT_PATIENCE_NS);
		return 0;
	}
	v->tx_stuck = v->tx_stuck || (n < 0 && errno == EAGAIN);
	if (n < 0 && errno != EPIPE && errno != ECONNRESET && errno != EAGAIN) {
		v->error = errno;
		log_guest("port %s: %s: %s: what the guest writes is lost", v->name, v->end.where,
			  strerror(v->error));
	}
	v->lost_bytes += (int64_t)len;
	return len;
}

/* Takes the next chain: 1, 0 when there is none, or -EBADMSG with a reason. */
static int next_chain(struct vport *v, const char **why)
{
	int r;

	v->tx = (struct virtq_chain){.iov = v->tx_iov, .max_iov = ARRAY_SIZE(v->tx_iov)};
	r = virtq_pop(&v->dev.queue[VPORT_TX].vq, &v->tx, why);
	if (r > 0 && v->tx.num_in) {
		*why = "a transmit buffer is device-writable";
		return -EBADMSG;
	}
	v->tx_next = 0;
	v->tx_busy = r > 0;
	v->tx_begun = false;
	return r;
}

/* Goes on with the chain: true when all of it is dealt with. */
static bool write_chain(struct vport *v)
{
	while (v->tx_next < v->tx.num_out && v->bytes_left && !v->tx_waits) {
		struct iovec *iov = &v->tx_iov[v->tx_next];
		size_t n = put(v, iov->iov_base, MIN(iov->iov_len, v->bytes_left));

		iov->iov_base = (uint8_t *)iov->iov_base + n;
		iov->iov_len -= n;
		v->bytes_left -= n;
		v->tx_begun |= n > 0;
		v->tx_next += iov->iov_len == 0;
	}
	return v->tx_next == v->tx.num_out;
}

/* 1: there is more, for the next turn, 0 when the queue is empty or the reader is waited for, or
 * -EBADMSG with a reason. */
static int transmit(struct vport *v, const char **why)
{
	v->bytes_left = VPORT_TURN_BYTES;
	for (unsigned i = 0; i < VPORT_TURN_CHAINS && v->bytes_left; i++) {
		int r = v->tx_busy ? 1 : next_chain(v, why);

		if (r <= 0)
			return r;
		if (!write_chain(v))
			return !v->tx_waits;
		virtq_push(&v->dev.queue[VPORT_TX].vq, v->tx.head, 0);
		v->tx_busy = false;
	}
	return 1;
}

void vport_transmit(struct vport *v)
{
	struct virtq *vq = &v->dev.queue[VPORT_TX].vq;
	const char *why = "";
	int r;

	if (!virtio_queue_active(&v->dev, VPORT_TX) || v->tx_waits)
		return;
	virtq_disable_kicks(vq);
	r = transmit(v, &why);
	if (r < 0) {
		virtio_dev_fail(&v->dev, "queue %u: %s", VPORT_TX, why);
		return;
	}
	virtio_queue_publish(&v->dev, VPORT_TX);
	if (r || (!v->tx_waits && virtq_enable_kicks(vq)))
		virtio_queue_kick_later(&v->dev, VPORT_TX);
	update(v);
}

/* What is in the queue is for nobody. */
static void lose_all(struct vport *v)
{
	const char *why = "";
	int r = 0;

	for (unsigned i = 0; i < VPORT_TURN_CHAINS; i++) {
		r = v->tx_busy ? 1 : next_chain(v, &why);
		if (r <= 0)
			break;
		for (; v->tx_next < v->tx.num_out; v->tx_next++)
			v->lost_bytes += (int64_t)v->tx_iov[v->tx_next].iov_len;
		virtq_push(&v->dev.queue[VPORT_TX].vq, v->tx.head, 0);
		v->tx_busy = false;
	}
	if (r < 0)
		virtio_dev_fail(&v->dev, "queue %u: %s", VPORT_TX, why);
	else
		virtio_queue_publish(&v->dev, VPORT_TX);
}

static void stop_waiting(struct vport *v)
{
	v->tx_waits = v->tx_stuck = v->last_try = false;
	loop_timer_set(&v->timer, 0);
}

void vport_flush(struct vport *v)
{
	uint64_t end = now_ns() + VPORT_LAST_NS, now = now_ns();
	struct pollfd p = {.fd = v->end.fd, .events = POLLOUT};
	bool works = !(atomic_load(&v->dev.status) & VIRTIO_CONFIG_S_NEEDS_RESET);
	const char *why = "";

	for (int r = works; r > 0 && now < end; now = now_ns()) {
		if (v->tx_waits)
			poll(&p, 1, (int)((end - now) / 1000000 + 1));
		v->tx_waits = false;
		r = transmit(v, &why);
		if (r < 0)
			virtio_dev_fail(&v->dev, "queue %u: %s", VPORT_TX, why);
		else
			r = r || v->tx_waits;
		works = r >= 0;
	}
	if (works)
		lose_all(v);
	v->tx_busy = false;
	stop_waiting(v);
	update(v);
}

/* Whoever is there */

static void host_is(struct vport *v, bool there)
{
	v->host_open = there;
	v->was_gone = v->was_gone || !there;
	vport_ctrl_send(v);
}

/* Nothing more is to be had from the end: the next one may come. */
static void leave(struct vport *v)
{
	loop_unwatch(&v->watch);
	close(v->end.fd);
	v->end.fd = -1;
	v->watched = v->hung_up = v->ended = false;
	if (virtio_queue_active(&v->dev, VPORT_TX))
		lose_all(v); /* it is not for whoever comes next */
	stop_waiting(v);
	host_is(v, false);
	if (v->end.listener >= 0)
		loop_resume(&v->listener);
	else
		log_info("port %s: %s has ended", v->name, v->end.where);
}

static void update(struct vport *v)
{
	uint32_t events = 0;
	bool at_end = v->hung_up || (v->ended && !v->end.writes);

	if (v->watched && at_end && !takes_input(v))
		leave(v);
	if (!v->watched)
		return;
	if (takes_input(v) && !v->starved)
		events |= EPOLLIN;
	if (v->tx_waits || v->tx_stuck)
		events |= EPOLLOUT;
	if (v->hung_up ? !events : v->watch.always && !events) {
		loop_pause(&v->watch); /* there is nothing to learn from it */
		return;
	}
	loop_watch_for(&v->watch, events);
	loop_resume(&v->watch);
}

static void end_ready(struct loop_fd *w, uint32_t events)
{
	struct vport *v = container_of(w, struct vport, watch);

	v->hung_up = v->hung_up || events & (EPOLLHUP | EPOLLERR);
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR) && (v->tx_waits || v->tx_stuck)) {
		stop_waiting(v);
		virtio_queue_kick_later(&v->dev, VPORT_TX);
	}
	vport_receive(v);
}

static int watch_end(struct vport *v)
{
	int r = loop_watch(v->loop, &v->watch, v->end.fd, EPOLLIN, end_ready);

	v->watched = r >= 0;
	return r;
}

/* One at a time: the next one waits until this one has gone. */
static void listener_ready(struct loop_fd *w, uint32_t events)
{
	struct vport *v = container_of(w, struct vport, listener);
	int fd = accept4(v->end.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), r;

	(void)events;
	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	loop_pause(w);
	v->end.fd = fd;
	r = fd < 0 ? -errno : watch_end(v);
	if (r < 0) {
		log_guest("port %s: %s: %s: trying again", v->name, v->end.where, strerror(-r));
		if (fd >= 0)
			close(fd);
		v->end.fd = -1;
		loop_timer_set(&v->timer, NSEC_PER_SEC);
		return;
	}
	host_is(v, true);
	update(v);
}

/* The reader's last chance comes, or the next one to accept somebody. */
static void timer_fired(struct loop_timer *t)
{
	struct vport *v = container_of(t, struct vport, timer);

	if (!v->watched && v->end.listener >= 0)
		loop_resume(&v->listener);
	v->last_try = v->tx_waits;
	v->tx_waits = false;
	vport_transmit(v);
}

int vport_stream_init(struct vport *v)
{
	int r = loop_timer_init(v->loop, &v->timer, timer_fired);

	v->host_open = v->end.fd >= 0;
	if (r >= 0 && v->end.listener >= 0)
		r = loop_watch(v->loop, &v->listener, v->end.listener, EPOLLIN, listener_ready);
	if (r >= 0 && v->end.fd >= 0)
		r = watch_end(v);
	if (r >= 0)
		update(v);
	return r;
}

void vport_stream_close(struct vport *v)
{
	loop_timer_close(&v->timer);
	vport_end_close(&v->end);
}
