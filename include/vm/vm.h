// SPDX-License-Identifier: BSD-2-Clause
/* A VM from its config to its end. */
#ifndef SKEP_VM_H
#define SKEP_VM_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/writer.h"
#include "config/config.h"

/* How a VM ended. Exit statuses: DOC in docs/design.md, "Ends of a VM". */
enum vm_end {
	VM_POWER_OFF, /* 0 */
	VM_REBOOT,    /* 120 */
	VM_PANIC,     /* 121: reset without the orderly way down */
	VM_RESET,     /* 122: triple fault or other unasked reset */
	VM_HALTED,    /* 123: all CPUs halted for good */
	/* By force, from here on: not even a disk that does not answer is waited for. */
	VM_TIMEOUT, /* 124 */
	VM_FAILED,  /* 125: skep itself failed */
	VM_STOPPED, /* ended by force after SIGTERM (128 + signal), Ctrl-A x or by control (130) */
};

struct disk_result {
	uint64_t reads, writes, flushes, discards, write_zeroes, secure_erases,
		errors; /* requests */
	uint64_t read_bytes, written_bytes, discarded_bytes;
	uint64_t detected_zero_bytes; /* of written_bytes: punched, not written */
	uint64_t space_pauses;	      /* times that writes had to wait for space */
	/* What the image occupied when it was opened and at the end, and by how much it shrank
	 * while ranges were discarded or zeroed; -1: unknown (a block device). */
	int64_t allocated_start, allocated_end, returned_bytes;
};

struct vm_result {
	enum vm_end end;
	int signal; /* VM_STOPPED: which signal, 0 for the escape key and the control socket */
	struct error error; /* why, where there is more to say than `end` does */
	uint64_t run_ns;    /* from the first KVM_RUN to the end */
	/* Exits from KVM_RUN to userspace, all vCPUs. */
	struct {
		uint64_t mmio_read, mmio_write, pio_in, pio_out, unknown_mmio, unknown_pio, other;
	} exits;
	uint64_t coalesced;	     /* coalesced MMIO writes drained */
	struct writer_count console; /* bytes of its output */
	struct disk_result *disks;   /* num_disks of the config; freed by vm_result_destroy */
	size_t num_disks;
};

/*
 * Builds the VM and runs it to its end. 0 with *result filled for every way a VM can end; a
 * negative errno with a message when it could not be started. `result_fd`, if it is not -1, is
 * emptied once the VM is built, or given up. Then vm_close() gives back what *ret
 * has, and signals, which vm_run() takes over. Main thread.
 *
 * From beginning to vm_close(), leave(arg) may be called on another thread: it has waited long
 * enough. The result is filled; leave() does not return but ends the process.
 */
struct vm;
int vm_run(struct vm **ret, const struct vm_config *config, int result_fd, struct vm_result *result,
	   void (*leave)(void *arg), void *arg, struct error *e);
void vm_close(struct vm *vm); /* NULL-safe */
void vm_result_destroy(struct vm_result *result);

/*
 * Adds to result->error that the guest ended before it printed a byte, the likely reasons and the
 * remedy; not when it powered off, or was ended by force. `memory` and `initrd` (0: none) in bytes.
 */
void vm_result_explain_silence(struct vm_result *result, uint64_t memory, uint64_t initrd,
			       bool is_linux);

/* The exit status of `skep run` for this end. */
int vm_result_status(const struct vm_result *result);

/* One line that says why it ended; empty after a power-off. */
void vm_result_describe(const struct vm_result *result, struct error *ret);

/* A disk's part of the result. NULL when memory is short. */
json_t *vm_disk_json(const struct disk_config *config, const struct disk_result *disk);

/* The result as a JSON object (docs/result.md), whole, in one write to `fd`. */
int vm_result_write(int fd, const struct vm_config *config, const struct vm_result *result);

#endif
