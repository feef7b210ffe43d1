// SPDX-License-Identifier: BSD-2-Clause
/* A VM from its config to its end. */
#ifndef SKEP_VM_H
#define SKEP_VM_H

#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "config/config.h"
#include "klog/klog.h"

/* How a VM ended. Exit statuses: DOC in docs/design.md, "Ends of a VM". */
enum vm_end {
	VM_POWER_OFF, /* 0 */
	VM_REBOOT,    /* 120 */
	VM_PANIC,     /* 121: reset without the orderly way down */
	VM_RESET,     /* 122: triple fault or other unexpected reset */
	VM_HALTED,    /* 123: all CPUs halted for good */
	/* By force, from here on: without waiting even for a disk that does not answer. */
	VM_TIMEOUT, /* 124 */
	VM_FAILED,  /* 125: skep itself failed */
	VM_STOPPED, /* ended by force after SIGTERM (128 + signal), Ctrl-A x or by control (130) */
};

struct device_count;

struct vm_result {
	enum vm_end end;
	int signal; /* VM_STOPPED: which signal, 0 for the escape key and the control socket */
	int command_status; /* VM_POWER_OFF: of the command that the VM ran; 0: there was none */
	struct error error; /* why, where there is more to say than `end` does */
	uint64_t run_ns;    /* from the first KVM_RUN to the end */
	/* Exits from KVM_RUN to userspace, all vCPUs. */
	struct {
		uint64_t mmio_read, mmio_write, pio_in, pio_out, unknown_mmio, unknown_pio, other;
	} exits;
	uint64_t coalesced; /* coalesced MMIO writes drained */
	/* The end of the kernel's log where the end was bad; freed by vm_result_destroy(). */
	struct klog_page kernel_log;
	bool log_is_news; /* what the user was shown of the guest does not have it */
	/* The devices' counters; freed by vm_result_destroy(), written before vm_close(). */
	struct device_count *devices;
	unsigned num_devices;
};

/*
 * Builds the VM and runs it to its end. 0 with *result filled, however the VM ends; a negative
 * errno with a message when it could not be started. `result_fd`, unless it is -1, is emptied once
 * the VM is built, or cannot be. vm_run() takes over the process's signals; afterwards vm_close()
 * restores them and frees *ret. Main thread.
 *
 * Until vm_close(), another thread may call leave(arg), when an end takes too long. *result is
 * filled then; leave() ends the process.
 */
struct vm;
int vm_run(struct vm **ret, const struct vm_config *config, int result_fd, struct vm_result *result,
	   void (*leave)(void *arg), void *arg, struct error *e);
void vm_close(struct vm *vm); /* NULL-safe */
void vm_result_destroy(struct vm_result *result);

/* Adds a reason to result->error, unless the guest powered off or was ended by force. */
void vm_result_add_reason(struct vm_result *result, const struct error *why);

/* The exit status of `skep run` for this end. */
int vm_result_status(const struct vm_result *result);

/* One line that says why it ended; empty after a power-off. */
void vm_result_describe(const struct vm_result *result, struct error *ret);

/*
 * The end of the kernel's log as lines for people, and somewhat earlier ones where it began to go
 * wrong. NULL when there are none, or the console showed them. Freed by the caller.
 */
char *vm_result_kernel_log(const struct vm_result *result);

/* How it ended: the first members of that. NULL when memory is short. */
json_t *vm_result_end(const struct vm_result *result);

/* The result as a JSON object (docs/result.md), whole, in one write to `fd`. */
int vm_result_write(int fd, const struct vm_result *result);

#endif
