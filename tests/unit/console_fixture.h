// SPDX-License-Identifier: BSD-2-Clause
/* A console between a driver and a user at two pipes, or at what the test gives. */
#ifndef SKEP_CONSOLE_FIXTURE_H
#define SKEP_CONSOLE_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "console/console.h"
#include "driver.h"
#include "loops.h"
#include "patience.h"
#include "read_all.h"

#define RX    0u
#define TX    1u
#define INPUT 4096u /* bytes that the device takes without a buffer of the guest's */

struct fixture {
	struct drv d;
	struct loop *loop;
	struct tty tty;
	struct virtio_dev *dev;
	int user_in, user_out; /* the user's ends: to write to, to read from */
	struct turns turns;
};

/* The device on `in` and `out`, at DRIVER_OK, its loop running. */
static inline struct fixture *start_with(void **state, int in, int out, uint64_t features)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct error e = {""};

	assert_non_null(f);
	signal(SIGPIPE, SIG_IGN);
	drv_init(&f->d, 16 * MIB);
	f->tty.listener = f->tty.far_end = f->tty.old = -1;
	f->tty.in_fd = in;
	f->tty.out_fd = out;
	if (loop_new(&f->loop, "test", *(const enum loop_engine *)*state, 8, &e) ||
	    (out >= 0 && writer_new(&f->tty.writer, out, "console", &e)) ||
	    console_device_new(&f->dev, &f->d.mem, &f->tty, f->loop, &e) ||
	    tty_start(&f->tty, NULL, NULL, &e))
		fail_msg("%s", e.msg);
	count_turns(f->loop, &f->turns);
	drv_attach(&f->d, f->dev);
	if (loop_start(f->loop, NULL, NULL, &e))
		fail_msg("%s", e.msg);
	if (features)
		drv_start(&f->d, features, 0);
	return f;
}

#define ALL   UINT64_MAX
#define PLAIN (1ull << VIRTIO_F_VERSION_1) /* no EVENT_IDX */

/* The same with pipes: `user_in` and `user_out` do not block, the device's ends do. */
static inline struct fixture *start(void **state, uint64_t features)
{
	struct fixture *f;
	int in[2], out[2];

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	assert_int_equal(fcntl(in[1], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(fcntl(out[0], F_SETFL, O_NONBLOCK), 0);
	f = start_with(state, in[0], out[1], features);
	f->user_in = in[1];
	f->user_out = out[0];
	return f;
}

static inline void end(struct fixture *f)
{
	virtio_dev_quiesce(f->dev);
	loop_stop(f->loop);
	virtio_dev_free(f->dev);
	loop_free(f->loop);
	writer_stop(f->tty.writer, 0);
	writer_free(f->tty.writer);
	if (f->tty.in_fd >= 0)
		close(f->tty.in_fd);
	if (f->tty.out_fd >= 0)
		close(f->tty.out_fd);
	if (f->user_in > 0)
		close(f->user_in);
	if (f->user_out > 0)
		close(f->user_out);
	drv_free(&f->d);
	free(f);
}

static inline bool is_broken(struct fixture *f)
{
	settle(f->loop);
	return drv_is_broken(&f->d);
}

/* Transmits `len` bytes in one buffer, without waiting. */
static inline int transmit(struct fixture *f, const void *data, uint32_t len)
{
	struct drv_buf buf = {drv_alloc(&f->d, len, 1), len, false};
	int head;

	memcpy(drv_ptr(&f->d, buf.addr, len), data, len);
	head = drv_add(&f->d.queue[TX], &buf, 1);
	assert_true(head >= 0);
	drv_kick_if_needed(&f->d.queue[TX]);
	return head;
}

static inline gpa_t offer(struct fixture *f, uint32_t len)
{
	struct drv_buf buf = {drv_alloc(&f->d, len, 1), len, true};

	assert_true(drv_add(&f->d.queue[RX], &buf, 1) >= 0);
	drv_kick_if_needed(&f->d.queue[RX]);
	return buf.addr;
}

static inline uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

#endif
