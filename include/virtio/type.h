// SPDX-License-Identifier: BSD-2-Clause
/*
 * How a device type describes itself, so that no other room has to name it. src/vm/devices.def lists
 * the types, and docs/adding-a-device.md shows how to write one.
 */
#ifndef SKEP_DEVICE_TYPE_H
#define SKEP_DEVICE_TYPE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/loop.h"
#include "base/util.h"
#include "kvm/gmem.h"
#include "virtio/virtio.h"

struct device_command;
struct device_options;
struct setting;
struct vm_config;
struct vm_device;

/* What a device may use of its VM; it outlives the device. */
struct device_host {
	const struct vm_config *config; /* for output_open() */
	const struct gmem *mem;
	struct loop *loop;	 /* the control loop, for a device without a loop of its own */
	void (*quit)(void *ctx); /* the user ends the VM; the control loop's thread */
	/* Gives the guest a block of mem->hotplug, or takes it: then gmem_is_plugged() is as asked.
	 * Or a negative errno, and nothing has changed. One thread at a time. */
	int (*plug)(void *ctx, unsigned block, bool plugged);
	/* Nanoseconds that the vCPUs have run, all together; on a loop. */
	uint64_t (*cpu_time)(void *ctx);
	void *ctx;
};

/* Called first on each new thread, with the name of its role in the sandbox; must return 0. NULL:
 * there is no sandbox. */
typedef int (*device_setup)(void *role);

/* A 64-bit number in the struct that count() fills; -1: unknown. */
struct device_counter {
	const char *name; /* its key in JSON; NULL: the end of the table */
	size_t offset;
};
#define DEVICE_MAX_COUNTERS 32u
/* That of a member by its name, in the type's struct. */
#define DEVICE_COUNTER(type, member)                                                               \
	{                                                                                          \
#member, offsetof(struct type, member)                                             \
	}

/* What explain_end() can use. */
struct guest_facts {
	uint64_t memory, initrd; /* bytes; no initrd: 0 */
	bool is_linux;
};

/* How far it gets what the guest says by a device. */
struct guest_voice {
	bool spoke;	     /* the guest has sent a byte */
	bool shown;	     /* who started skep is shown it as it comes ... */
	bool awaited;	     /* ... on a terminal */
	const char *silence; /* while it has not spoken: what its driver has done so far */
};

/* What `skep check` found. */
struct device_finding {
	const char *name; /* the same always: scripts may look it up */
	bool works;
	char finding[160];
	char remedy[240]; /* empty: none needed */
};
typedef void (*device_tell)(void *ctx, const struct device_finding *finding);

/*
 * A type. For each device, a VM calls these on the main thread in this order: open, build, ready,
 * start, stop, close. All but `build` may be NULL. If one fails, only stop and close follow.
 */
struct device_type {
	const char *name; /* its room's: "blk" */
	const struct device_options *options;

	/* Opens what may fail or take long, before the kernel is opened. */
	int (*open)(struct vm_device *d, const struct device_host *host, struct error *e);
	/* Creates d->dev, and the loops that it needs: device_add_loop(). */
	int (*build)(struct vm_device *d, const struct device_host *host, struct error *e);
	/* After this only the start of threads can fail: the time to empty files. */
	int (*ready)(struct vm_device *d, struct error *e);
	/* Starts threads other than loops; they run until stop(), which comes after all loops have ended. */
	int (*start)(struct vm_device *d, device_setup setup, struct error *e);
	void (*stop)(struct vm_device *d);
	/* After d->dev and all loops, the control loop too, were freed; undoes open(). */
	void (*close)(struct vm_device *d);

	/* The signals that it handles, ended by 0; one that is ignored stays so. signal() is called on
	 * the control loop. */
	const int *signals;
	void (*signal)(struct vm_device *d, int sig);

	/* For a type whose guest is there to run a command: hands it the first signal that is to end the
	 * VM, instead of the power button; and its exit status, once the guest is off, or a negative
	 * errno with a message if it has not ended. Any thread, while the VM runs. */
	void (*interrupt)(struct vm_device *d, int sig);
	int (*exit_status)(const struct vm_device *d, struct error *e);

	/* For `skep run --result` and the status over the control socket: an object of `counters`
	 * each, with what describe() adds before them (a path) and add_status() after them, in the
	 * status alone. The type's key is that of its options; without counters it has none. */
	const struct device_counter *counters;
	/* Fills the struct, which is zeroed. With `wait` it may wait for the host's file systems.
	 * d->dev is NULL if the VM could not be built. Any thread. */
	void (*count)(const struct vm_device *d, bool wait, void *ret);
	void (*describe)(const struct vm_device *d, json_t *ret);
	void (*add_status)(const struct vm_device *d, json_t *ret);
	/* The client's: prints what the status says of device `i`. */
	void (*print_status)(size_t i, const json_t *status, FILE *out);

	const struct device_command *commands; /* ends with name == NULL; NULL: none */

	/* For `skep check`: tries what the devices need of the host, and leaves no traces. */
	void (*check_host)(device_tell tell, void *ctx);

	/* For a type that the guest speaks to its user by. Fills in *ret, which is all zeros; d->dev
	 * may be NULL. Any thread. */
	void (*voice)(const struct vm_device *d, struct guest_voice *ret);
	/* The guest ended badly: why, as far as this device knows. Any thread. */
	void (*explain_end)(const struct vm_device *d, const struct guest_facts *facts,
			    struct error *ret);
	/* The process ends at once: undoes what outlives it, like a terminal's mode.
	 * Async-signal-safe. */
	void (*restore_host)(void);
};

#define DEVICE_MAX_LOOPS 20u

/* A device of a VM. */
struct vm_device {
	const struct device_type *type;
	unsigned index;	    /* among those of its type */
	const void *config; /* of the type's struct */
	void *own;	    /* the type's; NULL, to begin with */
	struct virtio_dev *dev;
	struct {
		struct loop *loop;
		const char *role; /* in the sandbox */
	} loops[DEVICE_MAX_LOOPS];
	unsigned num_loops;
};

/* Adds a loop and hands it to the VM, which starts it after those added before, stops it before
 * them, and frees it after the device. */
void device_add_loop(struct vm_device *d, struct loop *loop, const char *role);

/* A device and its counters at one moment. */
struct device_count {
	const struct vm_device *device;
	int64_t counters[DEVICE_MAX_COUNTERS];
};
void device_count(struct device_count *ret, const struct vm_device *d, bool wait);

/*
 * Adds a key to `doc` for each type that has counters, in the order of `types`, which ends with NULL:
 * an object for a type of which a VM has at most one, else an array. `counts` has the same order.
 */
void devices_to_json(json_t *doc, const struct device_type *const *types,
		     const struct device_count *counts, size_t num, bool with_status);

/*
 * A command of `skep control`, both ends of it. A request is a JSON object (docs/control.md).
 */

/* What a VM received, on the control loop. */
struct device_request {
	struct vm_device *devices; /* all of the command's type */
	unsigned num;
	const json_t *json;
	int *files; /* descriptors that were passed; a command that takes one over leaves -1 */
	unsigned num_files;
};

/* The last one that was passed; -1: none. */
static inline int request_file(const struct device_request *request)
{
	return request->num_files ? request->files[request->num_files - 1] : -1;
}

/* What was typed. */
struct device_words {
	const char *operand[2]; /* NULL: not given */
	const void *options;	/* the command's struct, by its `settings` */
};
#define DEVICE_MAX_OPTIONS 64u /* bytes */

struct device_command {
	const char *name;

	/* The VM's end: the members that a request may have, ended by NULL; and the function that
	 * carries it out and returns the answer, or NULL with a message. */
	const char *const *members;
	json_t *(*run)(const struct device_request *request, struct error *e);

	/* The client's end, unless it has no summary: then `skep control` does not know it. A first operand "FILE" is opened to append, and passed. */
	const char *operands, *summary; /* operands like "DISK [SIZE]", where SIZE is optional */
	unsigned max_operands;		/* at most 2 */
	const struct setting *settings; /* end with name == NULL; NULL: none but --help */
	const void *defaults;		/* of the options' struct ... */
	size_t options_size;		/* ... which has at most DEVICE_MAX_OPTIONS bytes */
	bool waits;			/* the answer comes when the VM ends */
	bool streams; /* more lines follow the answer until then; each is printed */
	/* Adds members to the request; NULL: it has none. -EINVAL or -ERANGE with a message. */
	int (*ask)(const struct device_words *words, json_t *request, struct error *e);
	/* Prints a successful answer; NULL: there is nothing to print. The exit status, or -ENOMEM. */
	int (*print)(const struct device_words *words, const json_t *answer, FILE *out);
	/* Whether there is more to ask for than this answer and the first one, which may be the same,
	 * have; makes the request for it out of the last one. NULL: there is not. */
	bool (*more)(const json_t *first, const json_t *answer, json_t *request);
};

/* For run(): a member that is a whole number, `least` or more; *ret stays when it is not there.
 * -EINVAL with a message. */
int request_number(const json_t *request, const char *name, json_int_t least, uint64_t *ret,
		   struct error *e);
/* For ask(): adds a device that is named by its position or by some text; and a number, unless it is
 * UINT64_MAX. */
void ask_device(json_t *request, const char *key, const char *device);
void ask_number(json_t *request, const char *name, uint64_t value);
/* ask() of a command whose one operand is a size, in MiB where it has no unit: adds "size". */
int ask_size(const struct device_words *words, json_t *request, struct error *e);

/* For print(): a member as a number, else 0; as text, else "?"; as a size like "1.5 GiB". */
#define DEVICE_BYTES_LEN FORMAT_BYTES
uint64_t answer_number(const json_t *answer, const char *name);
const char *answer_text(const json_t *answer, const char *name);
const char *answer_bytes(const json_t *answer, const char *name, char ret[DEVICE_BYTES_LEN]);

#endif
