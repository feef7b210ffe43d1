// SPDX-License-Identifier: BSD-2-Clause
/*
 * The control socket of a running VM (docs/control.md): a UNIX stream socket on the control loop.
 * Each line is a request, one JSON object, and is answered with one line.
 *
 * Clients are this user's and root's, as the socket has mode 0600, but may be buggy: for each one
 * skep keeps a line of 64 KiB, the last descriptor that it passed, and an answer; until the client
 * has read that, nothing more is taken from it.
 */
#ifndef SKEP_CONTROL_H
#define SKEP_CONTROL_H

#include <jansson.h>

#include "base/error.h"
#include "base/loop.h"
#include "klog/klog.h"
#include "virtio/type.h"

#define CONTROL_MAX_FILES   5u /* that come with a request */
#define CONTROL_PROTOCOL    1  /* within it nothing changes its meaning */
#define CONTROL_MAX_CLIENTS 16u
#define CONTROL_MAX_LINE    65536u /* bytes, the newline included */

/* What the commands look at and act on, on the loop's thread. */
struct control_vm {
	const struct device_type *const *types; /* of all devices, ends with NULL */
	struct vm_device *devices;		/* in the order of `types` */
	unsigned num_devices;
	struct klog *klog;
	const char *name;      /* NULL: none */
	uint64_t started_ns;   /* now_ns(), when the guest began to run */
	_Atomic bool stopping; /* a signal pressed the power button */
	void (*power_button)(void *ctx);
	/* As SIGTERM does; by force after `timeout_ns`, UINT64_MAX: after what is configured. */
	void (*shut_down)(void *ctx, uint64_t timeout_ns);
	void (*stop)(void *ctx); /* ends the VM by force */
	bool paused; /* vCPUs and devices do nothing; until then control_tell_paused() */
	/* Pauses it, soon, or lets it go on. -EBUSY with a message. */
	int (*pause)(void *ctx, bool paused, struct error *e);
	void *ctx;
	int *files; /* what came with the request that is carried out */
	unsigned num_files;
};

struct control;

/*
 * Creates the socket and listens on `loop`, an epoll loop that has not started; requests look at
 * `vm`. A socket at `path` on which nobody listens any more is replaced. A negative errno with a
 * message that does not repeat the path.
 */
int control_open(struct control **ret, struct loop *loop, const char *path, struct control_vm *vm,
		 struct error *e);
int control_listener(const struct control *control); /* the socket */
/* Answers those who wait for this: on the loop's thread, or after it ended. NULL-safe. */
enum control_wait { CONTROL_PAUSED = 1, CONTROL_END, CONTROL_EVENTS };
void control_tell(struct control *control, enum control_wait what, const json_t *answer);
/* Tells those who asked for events of one; who does not read is dropped. As control_tell(). */
void control_event(struct control *control, const json_t *event);
/* After the loop ended; NULL-safe. `remove`: also removes the socket's name, which the sandbox does
 * not allow; otherwise the next VM replaces it. */
void control_close(struct control *control, bool remove);

/* Carries out a request: the answer, or NULL with a message; without one when out of memory. A number:
 * the answer is that of control_tell() of that. */
json_t *control_command(const struct control_vm *vm, const json_t *request, struct error *e);

#endif
