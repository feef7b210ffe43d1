// SPDX-License-Identifier: BSD-2-Clause
/*
 * What conn.c (connections), host.c (Unix sockets), rx.c (packets to the guest), tx.c (packets from it)
 * and device.c (features, life, events) share; each calls those before it. All is done on the device's loop.
 */
#ifndef SKEP_VSOCK_DEVICE_H
#define SKEP_VSOCK_DEVICE_H

#include <linux/virtio_vsock.h>
#include <stdatomic.h>

#include "base/util.h"
#include "vsock.h"

/* Not in older headers. */
#define VSOCK_F_STREAM		  0
#define VSOCK_F_NO_IMPLIED_STREAM 2

#define VSOCK_HEADER sizeof(struct virtio_vsock_hdr)

/* What a connection's guest may send before the host has read it: this, and the lesser when those
 * that there are have been promised VSOCK_PROMISES in all. */
#define VSOCK_PROMISE	    ((uint32_t)(256 * KIB))
#define VSOCK_LEAST_PROMISE ((uint32_t)(16 * KIB))
#define VSOCK_PROMISES	    (64 * MIB)

#define VSOCK_MAX_RESETS   256u /* packets without a connection whose answer waits for buffers */
#define VSOCK_TURN_PACKETS 256u /* in one go, before others on the loop have their turn ... */
#define VSOCK_TURN_BYTES   (4 * MIB) /* ... and bytes */
#define VSOCK_MAX_BATCH	   64u	     /* buffers that one read fills */
#define VSOCK_MAX_IOV	   1024u     /* that one system call takes (UIO_MAXIOV) */
#define VSOCK_BUCKETS	   4096u
#define VSOCK_LINE	   32u /* "CONNECT 4294967295\n", and some */

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

enum vsock_state {
	VSOCK_GREETING, /* the host's program has not said which port it wants */
	VSOCK_ASKING,	/* the guest has not answered */
	VSOCK_DIALLING, /* the host's program has no room in its backlog */
	VSOCK_OPEN,
	VSOCK_LINGERING, /* for the guest it is over; the host has not taken all of it */
	VSOCK_RESETTING, /* for the host it is over; the guest has not been told */
};

struct vsock_conn {
	struct vsock *vsock;
	struct vsock_conn *next, **at; /* among all */
	struct vsock_conn *next_in_bucket;
	struct fifo_link ready_link;
	struct loop_fd socket; /* fd -1: there is none any more */
	uint32_t guest_port, host_port;
	enum vsock_state state;
	bool is_ready;		       /* it is among vsock->ready */
	bool has_ports;		       /* it is found by them */
	bool readable, ended, hung_up; /* the socket, as far as is known */
	uint32_t due; /* operations that the guest is to be told: 1 << VIRTIO_VSOCK_OP_* */
	uint32_t guest_shut, host_shut; /* VIRTIO_VSOCK_SHUTDOWN_*: what those said */

	/* From the guest. */
	uint32_t promise;   /* buf_alloc */
	uint32_t received;  /* bytes, free-running ... */
	uint32_t forwarded; /* ... of which the host has so many ... */
	uint32_t told;	    /* ... and the guest knows of these */
	uint8_t *held;	    /* those that it has not: from held_at on */
	uint32_t held_size, held_at, held_len;

	/* To the guest. */
	uint32_t guest_alloc, guest_forwarded; /* its buf_alloc and fwd_cnt */
	uint32_t sent;
	bool asked;	/* it was asked for credit */
	unsigned batch; /* buffers for the next read */

	uint64_t dialled_ns; /* when */
	unsigned line_len;
	char line[VSOCK_LINE];
};

/* An answer to a packet that belongs to no connection. */
struct vsock_reset {
	uint64_t cid;
	uint32_t guest_port, host_port;
	uint16_t type;
};

struct vsock {
	struct virtio_dev dev;
	uint32_t cid;
	char *path;
	unsigned started; /* queues, 1 << index */
	bool runs;	  /* the receive and the transmit queue among them, and nothing is broken */
	bool event_due;	  /* TRANSPORT_RESET: the connections of a saved state are gone */
	bool starved;	  /* there are no receive buffers */
	bool tx_stalled;  /* for room among the resets */

	struct loop *loop;
	struct loop_hook hook;	 /* sends to the guest */
	struct loop_timer retry; /* dials again, and looks at the listener */
	struct loop_fd listener;
	bool listener_failed;

	struct vsock_conn *all;
	unsigned num;
	uint32_t promised, next_port;
	struct fifo ready; /* connections that have something for the guest, or may */
	struct vsock_conn *bucket[VSOCK_BUCKETS];
	struct vsock_reset reset[VSOCK_MAX_RESETS];
	unsigned first_reset, num_resets;

	struct iovec tx_iov[VIRTQ_MAX_SIZE];
	struct iovec rx_iov[VSOCK_MAX_IOV], rx_data[VSOCK_MAX_IOV];

	_Atomic int64_t connections, from_guest, from_host, refused;
	_Atomic int64_t rx_bytes, rx_packets, tx_bytes, tx_packets;
};

static inline struct vsock *to_vsock(const struct virtio_dev *dev)
{
	return container_of(dev, struct vsock, dev);
}

/* conn.c */

/* A connection with a socket of the host, which it takes over, and no ports. NULL: too many, or out of
 * memory. */
struct vsock_conn *vsock_conn_new(struct vsock *v, enum vsock_state state, int fd);
void vsock_conn_free(struct vsock_conn *c);
void vsock_free_all(struct vsock *v);
/* The driver broke the protocol on queue `q`: nothing is connected any more. */
void vsock_fail(struct vsock *v, unsigned q, const char *why);
/* Clients wait while there is no room for one more. */
void vsock_look_at_listener(struct vsock *v);
void vsock_set_ports(struct vsock_conn *c, uint32_t guest_port, uint32_t host_port);
void vsock_forget_ports(struct vsock_conn *c);
struct vsock_conn *vsock_find(const struct vsock *v, uint32_t guest_port, uint32_t host_port);
/* A port of the host for a connection to this one of the guest. */
uint32_t vsock_pick_port(struct vsock *v, uint32_t guest_port);
/* Its turn to send to the guest comes. */
void vsock_make_ready(struct vsock_conn *c);
/* The guest is to be told this. */
void vsock_tell(struct vsock_conn *c, unsigned op);
/* The host's end is gone, or broken: the guest gets a reset. */
void vsock_reset_guest(struct vsock_conn *c);
void vsock_close_socket(struct vsock_conn *c);
/* What the host has not taken is lost. */
void vsock_drop_held(struct vsock_conn *c);

/* host.c */

int vsock_host_init(struct vsock *v, int listener);
void vsock_host_close(struct vsock *v);
/* The guest wants to be connected: to be answered by RESPONSE or, at once or later, a reset. Negative
 * errno: at once. */
int vsock_dial(struct vsock *v, const struct virtio_vsock_hdr *request);
/* The guest accepted. */
void vsock_greet_back(struct vsock_conn *c);
/* Passes on `len` bytes of the guest's, which are within the promise, and keeps what the host does not
 * take. */
void vsock_send_to_host(struct vsock_conn *c, struct iovec *iov, unsigned n, uint32_t len);
/* The guest has sent all, or takes no more: VIRTIO_VSOCK_SHUTDOWN_*. True when it is done with the
 * connection, which may be gone then. */
bool vsock_shut(struct vsock_conn *c, uint32_t flags);

/* tx.c, rx.c */

void vsock_transmit(struct vsock *v);
/* Sends what there is to the guest. True: there is more, for the next turn. */
bool vsock_deliver(struct vsock *v);

#endif
