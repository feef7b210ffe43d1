// SPDX-License-Identifier: BSD-2-Clause
/* A VM from the inside, for the files of this room. Who may do what when: docs/design.md, "Lives".
 * */
#ifndef SKEP_VM_INSIDE_H
#define SKEP_VM_INSIDE_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/guard.h"
#include "boot/boot.h"
#include "control/control.h"
#include "kvm/acpi.h"
#include "kvm/legacy.h"
#include "kvm/machine.h"
#include "vm/devices.h"
#include "vm/vm.h"

struct vm {
	const struct vm_config *config;
	struct vm_result *result;
	int result_fd;

	struct gmem mem;
	struct boot_files files;
	struct boot_request request;
	struct boot_entry entry;
	char *cmdline;
	pthread_t boot_thread;
	bool boot_started;
	int boot_result;
	struct error boot_error;

	struct machine machine;
	struct acpi_pm pm;
	struct legacy legacy;
	struct loop *control;
	struct control_vm asked;	/* over ... */
	struct control *socket, *named; /* of --control, of the VM's name; NULL: none */
	struct place {
		char name[CONFIG_MAX_NAME + 1];
		int dir, in;	      /* of the name, and of all names */
		_Atomic int listener; /* of `named`, until the directory is gone; -1: none */
		bool stays;	      /* the sandbox forbids to remove it */
		_Atomic bool leaves;  /* the guard is to remove it when it leaves */
	} place;
	bool confined;

	struct vm_device *devices; /* in the order of device_types */
	unsigned num_devices;
	struct device_host host;

	int signal_fd; /* of the signals that devices want; -1: none do */
	sigset_t old_mask;
	struct loop_fd signals;
	struct loop_timer halt_check;

	struct klog klog; /* the control loop's */
	struct loop_timer contact;
	unsigned contacts; /* times that it was said that the guest is silent */

	struct guard guard;
	uint64_t timeout_at, stop_at, leave_at; /* the guard's */
	/* For the guard: asked over the control socket; UINT64_MAX: not. */
	_Atomic uint64_t shut_down_ns;
	int stop_signal;	/* the first SIGTERM or the like, 0: none yet */
	_Atomic bool timed_out; /* the command was told so, and may still end by itself */
	void (*leave)(void *arg);
	void *leave_arg;

	_Atomic bool runs; /* the guest, since machine_go() */
	_Atomic bool ended, forced, collected;
	_Atomic bool emptied; /* result_fd */
	struct loop_work ending, pausing;
	_Atomic bool pausing_posted;
	bool pause_asked, stopping_told; /* the control loop's */
};

/* process.c: the process, for a VM's sake. */
void process_prepare(void);
void process_restore(void);
/* Says of a lack of descriptors what to do about it. */
void process_explain_limit(struct error *e);
/* Adds these signals, of which 0 is the last and which may be NULL, but for those that skep was started
 * to ignore (nohup, a script's background job). */
void process_add_signals(sigset_t *set, const int *sigs);

/* build.c. Opens and builds everything; what there is then, vm_close() gives back. */
int vm_build(struct vm *vm, struct error *e);
/* Waits for the thread that places the kernel, if it runs. */
int vm_join_boot(struct vm *vm, struct error *e);

/* place.c: the VM's name, and its directory. */
/* Takes the name that is asked for; else one that is made up, if there can be one. */
int place_open(struct vm *vm, struct error *e);
/* The guard's, which is there to the last, and not stuck: whether it may remove the directory later, 1 or
 * 0, before its filter; and it does. */
int place_confine(struct vm *vm, struct error *e);
void place_remove(struct vm *vm);
void place_close(struct vm *vm); /* when the guard has left */

/* Tells clients of what happened; on the control loop. Takes over the event. */
void vm_event(struct vm *vm, const char *name, json_t *event);

/* pause.c: where control_vm and the machine ask for pauses. */
void pause_open(struct vm *vm);

/* lives.c: the devices, one after the other. */
int devices_list(struct vm *vm, struct error *e); /* from the config; none is open */
int devices_open(struct vm *vm, struct error *e);
int devices_build(struct vm *vm, struct error *e);
int devices_ready(struct vm *vm, struct error *e);
int devices_start(struct vm *vm, device_setup setup, struct error *e); /* their threads */
void devices_quiesce(struct vm *vm);		/* the guest has left; the loops still run */
void devices_pause(struct vm *vm, bool paused); /* while no vCPU runs */
void devices_stop(struct vm *vm);		/* joins their threads */
void devices_free(struct vm *vm);
void devices_close(struct vm *vm); /* after the control loop was freed */
/* Adds the signals that a device wants; and hands it one that came, on the control loop. */
void devices_add_signals(const struct vm *vm, sigset_t *set);
void devices_signal(struct vm *vm, int sig);
/* Of a VM that runs a command: hands it a signal; takes its status into the result. */
bool devices_interrupt(struct vm *vm, int sig);
void devices_take_status(struct vm *vm);
/* The counters, into the result; with `wait` as count() of struct device_type has it. */
void devices_count(struct vm *vm, bool wait);
void devices_explain_end(struct vm *vm);

/* How far it gets what the guest says. */
void devices_voice(const struct vm *vm, struct guest_voice *ret);

/* contact.c: what is known of the guest where it does not say it itself. */
/* Where a user waits at a terminal, a guest that stays silent is spoken of; from contact_begin(). */
int contact_open(struct vm *vm, struct error *e);
void contact_begin(struct vm *vm);
/* Takes the end of the kernel's log into the result, unless all is well. */
void contact_collect(struct vm *vm);

/* ends.c: who may end the VM, and what comes of it. */
/* From here on the guard has the signals that end a VM, and --timeout runs. */
int ends_open(struct vm *vm, struct error *e);
/* Sources of an end: all vCPUs halted, the machine, clients, loops that fail. */
int ends_watch_halt(struct vm *vm);
void ends_watch_machine(struct vm *vm);
void ends_watch_loops(struct vm *vm); /* the control loop and the devices' */
void ends_go(struct vm *vm);	      /* the guest runs, and may end */
/* Fills the result with what the VM did; false if that was done before. */
bool ends_collect(struct vm *vm);

#endif
