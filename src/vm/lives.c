// SPDX-License-Identifier: BSD-2-Clause
/* The devices of a VM, from the config to their end: include/virtio/type.h says what is called
 * when. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "config/device_options.h"
#include "inside.h"
#include "kvm/layout.h"
#include "virtio/state.h"

/* The type's function, where it has one, for each device, until one fails. */
#define FOR_EACH(vm, function, ...)                                                                \
	({                                                                                         \
		int r_ = 0;                                                                        \
                                                                                                   \
		for (unsigned i_ = 0; r_ >= 0 && i_ < (vm)->num_devices; i_++) {                   \
			struct vm_device *d_ = &(vm)->devices[i_];                                 \
                                                                                                   \
			if (d_->type->function)                                                    \
				r_ = d_->type->function(d_, ##__VA_ARGS__);                        \
		}                                                                                  \
		r_ < 0 ? r_ : 0;                                                                   \
	})

static int alloc_list(struct vm *vm, size_t num, struct error *e)
{
	struct vm_result *result = vm->result;

	if (num > LAYOUT_MAX_DEVICES)
		return error_set(e, -EINVAL, "%zu devices are more than the %u that a VM can have",
				 num, LAYOUT_MAX_DEVICES);
	vm->devices = calloc(num + 1, sizeof(*vm->devices));
	result->devices = calloc(num + 1, sizeof(*result->devices));
	if (!vm->devices || !result->devices)
		return error_set(e, -ENOMEM, "out of memory for %zu devices", num);
	return 0;
}

static int plug(void *ctx, unsigned block, bool plugged)
{
	struct vm *vm = ctx;
	struct error e = {""};
	int r = machine_plug(&vm->machine, block, plugged, &e);

	if (r < 0)
		log_guest("%s", e.msg);
	return r;
}

static uint64_t cpu_time(void *ctx)
{
	const struct vm *vm = ctx;

	return machine_cpu_time(&vm->machine);
}

int devices_list(struct vm *vm, struct error *e)
{
	const struct device_type *const *type;
	size_t num = 0, n;
	int r;

	for (type = device_types; *type; type++) {
		assert((*type)->options->max <= LAYOUT_MAX_DEVICES);
		config_devices(vm->config, (*type)->options, &n);
		num += n;
	}
	r = alloc_list(vm, num, e);
	for (type = device_types; r == 0 && *type; type++) {
		const char *config = config_devices(vm->config, (*type)->options, &n);

		for (unsigned i = 0; i < n; i++)
			vm->devices[vm->num_devices++] = (struct vm_device){
				.type = *type,
				.index = i,
				.config = config + i * (*type)->options->size,
			};
	}
	vm->host.config = vm->config;
	vm->host.mem = &vm->mem;
	vm->host.plug = plug;
	vm->host.cpu_time = cpu_time;
	devices_count(vm, false);
	return r;
}

int devices_open(struct vm *vm, struct error *e)
{
	vm->host.loop = vm->control;
	return FOR_EACH(vm, open, &vm->host, e);
}

int devices_build(struct vm *vm, struct error *e)
{
	assert(!vm->machine.num_devices); /* of which each gets a page and an interrupt */
	return FOR_EACH(vm, build, &vm->host, e);
}

int devices_ready(struct vm *vm, struct error *e)
{
	return FOR_EACH(vm, ready, e);
}

static int start_loops(struct vm_device *d, device_setup setup, struct error *e)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < d->num_loops; i++)
		r = loop_start(d->loops[i].loop, setup, (void *)(uintptr_t)d->loops[i].role, e);
	return r;
}

int devices_start(struct vm *vm, device_setup setup, struct error *e)
{
	int r = 0;

	assert(!vm->runs);
	for (unsigned i = 0; r == 0 && i < vm->num_devices; i++)
		r = start_loops(&vm->devices[i], setup, e);
	return r < 0 ? r : FOR_EACH(vm, start, setup, e);
}

void devices_quiesce(struct vm *vm)
{
	for (unsigned i = 0; i < vm->num_devices; i++)
		virtio_dev_quiesce(vm->devices[i].dev);
}

void devices_pause(struct vm *vm, bool paused)
{
	for (unsigned i = 0; i < vm->num_devices; i++)
		(paused ? virtio_dev_pause : virtio_dev_resume)(vm->devices[i].dev);
}

void devices_stop(struct vm *vm)
{
	for (unsigned i = 0; i < vm->num_devices; i++)
		for (unsigned l = vm->devices[i].num_loops; l-- > 0;)
			loop_stop(vm->devices[i].loops[l].loop);
	for (unsigned i = 0; i < vm->num_devices; i++)
		if (vm->devices[i].type->stop)
			vm->devices[i].type->stop(&vm->devices[i]);
}

void devices_free(struct vm *vm)
{
	for (unsigned i = 0; i < vm->num_devices; i++) {
		struct vm_device *d = &vm->devices[i];

		virtio_dev_free(d->dev);
		d->dev = NULL;
		for (unsigned l = 0; l < d->num_loops; l++)
			loop_free(d->loops[l].loop);
		d->num_loops = 0;
	}
}

void devices_close(struct vm *vm)
{
	for (unsigned i = 0; i < vm->num_devices; i++) {
		assert(!vm->devices[i].dev);
		if (vm->devices[i].type->close)
			vm->devices[i].type->close(&vm->devices[i]);
	}
}

/* SIGUSR1 in any case: it would end the VM where no device has a use for it. */
void devices_add_signals(const struct vm *vm, sigset_t *set)
{
	process_add_signals(set, (const int[]){SIGUSR1, 0});
	for (unsigned i = 0; i < vm->num_devices; i++)
		process_add_signals(set, vm->devices[i].type->signals);
}

void devices_signal(struct vm *vm, int sig)
{
	bool taken = false;

	for (unsigned i = 0; i < vm->num_devices; i++) {
		const struct device_type *type = vm->devices[i].type;

		for (const int *wanted = type->signals; wanted && *wanted; wanted++)
			if (*wanted == sig) {
				type->signal(&vm->devices[i], sig);
				taken = true;
			}
	}
	if (!taken)
		log_warn("SIG%s: no device of this VM has a use for it", sigabbrev_np(sig));
}

bool devices_interrupt(struct vm *vm, int sig)
{
	for (unsigned i = 0; i < vm->num_devices; i++)
		if (vm->devices[i].type->interrupt) {
			vm->devices[i].type->interrupt(&vm->devices[i], sig);
			return true;
		}
	return false;
}

void devices_take_status(struct vm *vm)
{
	struct vm_result *result = vm->result;

	for (unsigned i = 0; i < vm->num_devices; i++) {
		const struct vm_device *d = &vm->devices[i];

		if (!d->type->exit_status || result->end != VM_POWER_OFF)
			continue;
		result->command_status = d->type->exit_status(d, &result->error);
		if (result->command_status < 0)
			result->end = VM_FAILED;
	}
}

void devices_count(struct vm *vm, bool wait)
{
	vm->result->num_devices = vm->num_devices;
	for (unsigned i = 0; i < vm->num_devices; i++)
		device_count(&vm->result->devices[i], &vm->devices[i], wait);
}

void devices_explain_end(struct vm *vm)
{
	struct guest_facts facts = {.memory = vm->config->memory.start,
				    .initrd = vm->entry.initrd_size,
				    .is_linux = vm->entry.is_linux};

	for (unsigned i = 0; i < vm->num_devices; i++) {
		struct error why = {""};

		if (vm->devices[i].type->explain_end)
			vm->devices[i].type->explain_end(&vm->devices[i], &facts, &why);
		if (why.msg[0])
			vm_result_add_reason(vm->result, &why);
	}
}

void devices_voice(const struct vm *vm, struct guest_voice *ret)
{
	*ret = (struct guest_voice){.spoke = false};
	for (unsigned i = 0; i < vm->num_devices; i++)
		if (vm->devices[i].type->voice)
			vm->devices[i].type->voice(&vm->devices[i], ret);
}

void devices_restore_host(void)
{
	for (const struct device_type *const *type = device_types; *type; type++)
		if ((*type)->restore_host)
			(*type)->restore_host();
}
