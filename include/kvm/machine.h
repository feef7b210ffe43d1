// SPDX-License-Identifier: BSD-2-Clause
/*
 * The machine as KVM sees it: memory slots, interrupt routes, ioeventfds, vCPUs. Only machine.c,
 * vcpu.c and halt.c issue KVM's ioctls, and check_kvm.c, which tests what the host has.
 *
 * DOC: The cost of a VM depends mostly on the order of ioctls. Memory slots and the split irqchip
 * come first (KVM_CREATE_IRQCHIP would register devices on KVM's I/O bus, and the next change of a
 * slot would wait for a grace period because of them); ioeventfds and coalesced zones are
 * registered after the last slot.
 */
#ifndef SKEP_MACHINE_H
#define SKEP_MACHINE_H

#include <linux/kvm.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "kvm/bus.h"
#include "kvm/gmem.h"
#include "kvm/ioapic.h"

struct machine;

/* The oldest supported kernel: it has what is required of KVM, and the sandbox's seccomp. */
#define MACHINE_MIN_LINUX "5.10"

/* What skep needs of KVM; the required ones come first, and the last has no name. */
struct machine_cap {
	int cap;
	const char *name;
	bool required;
	const char *what; /* it is used for */
};
extern const struct machine_cap machine_caps[];

/* Why a vCPU ended the VM by itself. */
enum vcpu_end {
	VCPU_SHUTDOWN, /* triple fault, or an unexpected reset */
	VCPU_HALTED,   /* all vCPUs are halted, and nothing can wake one */
	VCPU_FAILED,   /* KVM could not go on; the error says why */
};

struct vcpu {
	struct machine *machine;
	unsigned index;
	int fd;
	struct kvm_run *run;
	size_t run_size;
	pthread_t thread;
	bool started;
	sem_t go;
	unsigned refused;    /* times in a row that KVM_RUN said EAGAIN */
	uint32_t halt_round; /* the last that it answered; its thread alone */
	/* Written by the vCPU thread alone, read after it ended. */
	struct {
		uint64_t mmio_read, mmio_write, pio_in, pio_out, other;
	} exits;
};

struct machine {
	int kvm_fd;
	int vm_fd;
	struct gmem *mem;
	struct bus mmio;
	struct bus pio;
	struct ioapic ioapic;
	int *irq_fd; /* one eventfd a GSI */
	unsigned num_gsis;
	uint8_t *pages; /* the devices' register pages, read-only memslot where the host can */
	unsigned num_devices;
	bool register_page;

	struct kvm_coalesced_mmio_ring *coalesced; /* NULL: none */
	unsigned coalesced_max;
	pthread_mutex_t drain_lock;
	uint64_t drained; /* under drain_lock */

	struct kvm_cpuid2 *cpuid; /* what KVM supports, before it is fitted to each vCPU */
	struct vcpu *vcpu;
	unsigned num_vcpus;
	uint32_t tsc_khz;	 /* 0: unknown */
	_Atomic bool stop;	 /* vCPUs leave their loop */
	_Atomic uint64_t pause;	 /* pause.c */
	_Atomic unsigned inside; /* vCPUs that have not left it, from machine_go() on */
	struct {
		uint64_t cpu_time;	/* of all vCPU threads, when it was last looked at */
		_Atomic uint64_t tally; /* which round of questions it is, and in the lower half
					   how many vCPUs have said yes */
	} halt;

	/* Called on a vCPU thread when it ends the VM, and on that of the last vCPU to leave. */
	void (*ended)(void *ctx, enum vcpu_end end, const char *why);
	void (*left)(void *ctx);
	void (*paused)(void *ctx); /* that of the last vCPU that waits since machine_pause() */
	void *ctx;
};

/* What to do when /dev/kvm could not be opened, by its errno. */
const char *machine_open_remedy(int error);

/*
 * Opens /dev/kvm and creates a VM with `mem` as its RAM, a register page and an interrupt for each
 * of `devices` virtio-mmio devices (and an interrupt for the GED), and `cpus` vCPUs that wait.
 * Messages name the remedy, as for a missing /dev/kvm, permission or capability. machine_destroy()
 * undoes it, on error too.
 */
int machine_create(struct machine *m, struct gmem *mem, unsigned cpus, unsigned devices,
		   bool register_page, struct error *e);
void machine_destroy(struct machine *m);

/* Gives the guest a block of hotplug memory, or takes it. -ENOMEM and what else KVM says, with a
 * message: nothing has changed. One thread at a time. */
int machine_plug(struct machine *m, unsigned block, bool plugged, struct error *e);

/* What device `index` is given: its register page, and the eventfd that interrupts. */
uint8_t *machine_register_page(const struct machine *m, unsigned index);
int machine_irq_fd(const struct machine *m, unsigned index);

/* Puts the registers of device `index` on the bus, for accesses that exit. Writes to QueueNotify go
 * to kick_fd[queue], those to InterruptACK wait for machine_drain(). Before the vCPUs start. */
int machine_add_device(struct machine *m, unsigned index, const struct bus_ops *ops, void *ctx,
		       const int *kick_fd, unsigned num_queues, struct error *e);

/* Brings in coalesced MMIO writes. Any thread; `machine` is a struct machine *. */
void machine_drain(void *machine);

/* The vCPU starts at `ip`: in long mode with `params` in RSI (Linux), or in protected mode without
 * paging, with `params` in EBX (PVH). For vCPU 0; the others wait for INIT and SIPI. */
int vcpu_set_entry(struct vcpu *v, bool long_mode, gpa_t ip, gpa_t params, struct error *e);

/* Starts a thread per vCPU, which waits. setup(arg) runs first on each (the sandbox), and must
 * return 0. */
int machine_start(struct machine *m, int (*setup)(void *arg), void *arg, struct error *e);
/* Lets the guest run. */
void machine_go(struct machine *m);
/* The vCPUs wait, soon, or go on. One thread, after machine_go(). */
void machine_pause(struct machine *m, bool paused);
bool machine_is_paused(const struct machine *m); /* they all wait; any thread */
/* Makes all vCPUs leave; the last one calls `left`, if the guest ran. Not once they are joined. */
void machine_end(struct machine *m);
/* The same, and joins their threads. Not from a vCPU thread. */
void machine_stop(struct machine *m);

/* Nanoseconds that the vCPUs' threads have run, all together. While they are there; any thread. */
uint64_t machine_cpu_time(const struct machine *m);

/* Called from time to time, by one thread, while the vCPUs run: if they have used no CPU time since
 * the last call, they are asked whether they are halted with interrupts off. If all are, one of
 * their threads calls ended() with VCPU_HALTED. */
void machine_check_halted(struct machine *m);

/* On a vCPU's thread, during an exit: whether the guest has its local APIC enabled. */
bool vcpu_has_lapic_on(void);

#endif
