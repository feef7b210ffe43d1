// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: A pause begins with the vCPUs. When the last one waits, the control loop pauses the devices:
 * what they have begun they finish, and nothing new begins until the VM goes on. The control loop does
 * not wait meanwhile, since a vCPU may need it to get out of a register access.
 */
#include <errno.h>

#include "base/loop.h"
#include "base/util.h"
#include "inside.h"

void vm_event(struct vm *vm, const char *name, json_t *event)
{
	json_object_set_new(event, "event", json_string(name));
	control_event(vm->named, event);
	control_event(vm->socket, event);
	json_decref(event);
}

static void all_wait(struct loop_work *work)
{
	struct vm *vm = container_of(work, struct vm, pausing);
	json_t *done;

	atomic_store(&vm->pausing_posted, false);
	if (vm->asked.paused || !machine_is_paused(&vm->machine))
		return;
	devices_pause(vm, true);
	vm->asked.paused = true;
	vm_event(vm, "paused", json_object());
	done = json_object();
	control_tell(vm->named, CONTROL_PAUSED, done);
	control_tell(vm->socket, CONTROL_PAUSED, done);
	json_decref(done);
}

/* On the last vCPU's thread. */
static void on_paused(void *ctx)
{
	struct vm *vm = ctx;

	if (!atomic_exchange(&vm->pausing_posted, true))
		loop_post(vm->control, &vm->pausing);
}

static int on_control_pause(void *ctx, bool paused, struct error *e)
{
	struct vm *vm = ctx;

	if (!paused && vm->pause_asked && !vm->asked.paused)
		return error_set(e, -EBUSY, "the VM is not paused yet: try again");
	if (paused == vm->pause_asked)
		return 0;
	vm->pause_asked = paused;
	if (!paused) {
		devices_pause(vm, false);
		vm->asked.paused = false;
		vm_event(vm, "resumed", json_object());
	}
	machine_pause(&vm->machine, paused);
	return 0;
}

void pause_open(struct vm *vm)
{
	vm->asked.pause = on_control_pause;
	vm->machine.paused = on_paused;
	vm->pausing.fn = all_wait;
}
