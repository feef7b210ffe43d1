// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. vm_run() opens everything, then builds, then locks itself in, then
 * runs:
 *
 *   boot_open ── boot thread: boot_load ─┐
 *   devices, their loops ── KVM ─────────┴ ACPI, boot_finish ── sandbox ── threads ── run
 *
 * The kernel is placed by a thread of its own while the VM is created, since both take
 * milliseconds. After the sandbox nothing is opened any more. The guest runs when all threads are
 * in it. The main thread is the control loop: slow devices, clients, signals for devices. When it
 * ends (ends.c), the main thread joins what is left.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/inherited.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "inside.h"
#include "kvm/speed.h"
#include "sandbox/sandbox.h"

static int enter_sandbox(void *role)
{
	struct error e = {""};
	int r = sandbox_thread(role, &e);

	if (r)
		log_error("%s", e.msg);
	return r;
}

static int enter_vcpu(void *role)
{
	sandbox_drop_files();
	return enter_sandbox(role);
}

static int enter_guard(void *arg)
{
	struct vm *vm = arg;
	struct error e = {""};
	int r = place_confine(vm, &e);

	if (r >= 0)
		r = sandbox_thread(r ? "guard-named" : "guard", &e);
	if (r < 0)
		log_error("%s", e.msg);
	return r;
}

static void *role(const char *name)
{
	return (void *)(uintptr_t)name;
}

static int vm_start(struct vm *vm, struct error *e)
{
	device_setup setup = vm->config->sandbox ? enter_sandbox : NULL;
	int r = 0;

	inherited_close();
	guard_stop(&vm->guard);
	if (setup)
		r = sandbox_process(devices_restore_host, e);
	if (!r)
		r = guard_start(&vm->guard, setup ? enter_guard : NULL, vm, e);
	ends_watch_loops(vm);
	if (!r)
		r = devices_start(vm, setup, e);
	if (!r)
		r = machine_start(&vm->machine, setup ? enter_vcpu : NULL, role("vcpu"), e);
	if (!r && setup) {
		vm->confined = true;
		r = sandbox_thread(vm->socket || vm->named ? "control-socket" : "control", e);
	}
	if (r)
		return r;
	ends_go(vm);
	return 0;
}

/* Joins all threads of the VM except the guard. Then the output has the guest's last words. */
static void vm_stop(struct vm *vm)
{
	machine_stop(&vm->machine);
	devices_stop(vm);
}

static void tell_end(struct vm *vm)
{
	json_t *end = vm->named || vm->socket ? vm_result_end(vm->result) : NULL;

	control_tell(vm->named, CONTROL_END, end);
	control_tell(vm->socket, CONTROL_END, end);
	if (end)
		vm_event(vm, "ended", end);
}

static void vm_destroy(struct vm *vm)
{
	vm_join_boot(vm, NULL);
	tell_end(vm);
	/* First: it ends the watches of its clients, and the list of these has devices' watches, too. */
	control_close(vm->named, false);
	control_close(vm->socket, !vm->confined);
	devices_free(vm);
	machine_destroy(&vm->machine);
	boot_close(&vm->files);
	loop_timer_close(&vm->halt_check);
	loop_timer_close(&vm->contact);
	loop_free(vm->control);
	devices_close(vm);
	if (vm->signal_fd >= 0)
		close(vm->signal_fd);
	gmem_destroy(&vm->mem);
	free(vm->cmdline);
}

/* Other guests than Linux may well run where it does not boot. */
static int check_speed(const struct vm *vm, struct error *e)
{
	struct error why;
	int r = vm->entry.is_linux || vm->config->command ? speed_check(&why) : 0;

	if (r < 0 && vm->config->command)
		return error_set(e, r, "%s", why.msg);
	if (r < 0)
		log_warn("%s", why.msg);
	return 0;
}

int vm_run(struct vm **ret, const struct vm_config *config, int result_fd, struct vm_result *result,
	   void (*leave)(void *arg), void *arg, struct error *e)
{
	struct vm *vm = malloc(sizeof(*vm));
	int r;

	*ret = vm;
	*result = (struct vm_result){.end = VM_FAILED};
	if (!vm)
		return error_set(e, -ENOMEM, "out of memory");
	*vm = (struct vm){
		.config = config,
		.result = result,
		.result_fd = result_fd,
		.machine = {.kvm_fd = -1, .vm_fd = -1},
		.files = {.kernel_fd = -1, .initrd_fd = -1, .cache_fd = -1},
		.signal_fd = -1,
		.halt_check.watch.fd = -1,
		.contact.watch.fd = -1,
		.shut_down_ns = UINT64_MAX,
		.place = {.dir = -1, .in = -1, .listener = -1},
		.leave = leave,
		.leave_arg = arg,
	};
	pthread_sigmask(SIG_BLOCK, NULL, &vm->old_mask);
	process_prepare();
	r = devices_list(vm, e);
	if (!r)
		r = vm_build(vm, e);
	if (!r)
		r = check_speed(vm, e);
	if (!r)
		r = vm_start(vm, e);
	if (!r)
		loop_run(vm->control);
	if (r == -EMFILE)
		process_explain_limit(e);
	vm_stop(vm);
	if (!r && ends_collect(vm))
		devices_count(vm, true);
	return r;
}

void vm_close(struct vm *vm)
{
	if (!vm)
		return;
	vm_destroy(vm);
	vm->place.leaves = true;
	guard_stop(&vm->guard);
	place_close(vm);
	process_restore();
	pthread_sigmask(SIG_SETMASK, &vm->old_mask, NULL);
	free(vm->devices);
	free(vm);
}
