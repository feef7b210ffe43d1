// SPDX-License-Identifier: BSD-2-Clause
/*
 * Who may end a VM, and what happens then.
 *
 * DOC: Theory of operation. Whoever ends the VM (a vCPU that wrote the sleep register, a client, a
 * signal) calls vm_end(); the first call counts. Then the vCPUs leave. The last one resets the
 * devices, as the guest could have, which drains the queues, and ends the control loop. So all that
 * may call a loop are gone before it ends: vCPUs call all loops, and nothing else does.
 *
 * The guard runs from first to last, for what must not wait: signals, --timeout, and an end by
 * force that takes too long, because the host's storage does not answer or the guest left too much
 * to do. Then, or while the VM is still being built, the process ends as it is.
 */
#include <assert.h>
#include <signal.h>
#include <stdio.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "inside.h"
#include "kvm/layout.h"

/* How long an end by force waits for the other threads. */
#define FORCED_END_NS (NSEC_PER_SEC * 3 / 2)
#define HALT_CHECK_NS NSEC_PER_SEC

static void end_guest(struct loop_work *work)
{
	machine_end(&container_of(work, struct vm, ending)->machine);
}

static void begin_end(struct vm *vm, enum vm_end end, int sig, const char *why)
{
	vm->result->end = end == VM_POWER_OFF && vm->timed_out ? VM_TIMEOUT : end;
	vm->result->signal = sig;
	if (why)
		snprintf(vm->result->error.msg, sizeof(vm->result->error.msg), "%s", why);
	if (!atomic_load(&vm->runs))
		return;
	atomic_store(&vm->machine.stop, true);
	loop_post(vm->control, &vm->ending);
}

/* The first to call this decides how the VM ended. Any thread. */
static void vm_end(struct vm *vm, enum vm_end end, int sig, const char *why)
{
	if (!atomic_exchange(&vm->ended, true))
		begin_end(vm, end, sig, why);
	if (end >= VM_TIMEOUT)
		atomic_store(&vm->forced, true);
	guard_wake(&vm->guard);
}

/* On the last vCPU's thread, when nobody else gives the loops work any more. */
static void on_guest_left(void *ctx)
{
	struct vm *vm = ctx;

	assert(vm->runs && vm->ended);
	devices_quiesce(vm);
	loop_quit(vm->control);
}

static void on_power_off(void *ctx)
{
	vm_end(ctx, VM_POWER_OFF, 0, NULL);
}

/* In the default guest, tools/lib/guest-boot. */
static void on_give_up(void *ctx)
{
	vm_end(ctx, VM_FAILED, 0,
	       "the default guest found nothing that it could boot: its messages say where it "
	       "looked; --guest gives a shell in it, --kernel boots another kernel");
}

/*
 * A reset carries no reason. In an orderly shutdown Linux masks all pins of the I/O APIC
 * (native_machine_shutdown()). Two things skip that: panic(), which stops the other CPUs and turns
 * its own local APIC off, and SysRq-B, which only resets. Of other guests nothing is known.
 */
static void on_reset(void *ctx)
{
	struct vm *vm = ctx;
	bool panic =
		vm->entry.is_linux && !ioapic_is_quiet(&vm->machine.ioapic) && !vcpu_has_lapic_on();

	vm_end(vm, panic ? VM_PANIC : VM_REBOOT, 0, NULL);
}

/* A triple fault is also a way to reset (Linux: reboot=triple): after an orderly shutdown it is
 * intended. */
static void on_vcpu_end(void *ctx, enum vcpu_end end, const char *why)
{
	struct vm *vm = ctx;

	if (end == VCPU_SHUTDOWN && ioapic_is_quiet(&vm->machine.ioapic))
		vm_end(vm, VM_REBOOT, 0, NULL);
	else if (end == VCPU_SHUTDOWN)
		vm_end(vm, VM_RESET, 0, why);
	else
		vm_end(vm, end == VCPU_HALTED ? VM_HALTED : VM_FAILED, 0, why);
}

static void on_quit(void *vm)
{
	vm_end(vm, VM_STOPPED, 0, NULL);
}

static void on_control_stop(void *ctx)
{
	vm_end(ctx, VM_STOPPED, 0, "the guest was ended by force over the control socket");
}

static void on_control_power_button(void *ctx)
{
	struct vm *vm = ctx;

	acpi_pm_power_button(&vm->pm);
}

static void on_loop_failure(void *ctx, const char *why)
{
	vm_end(ctx, VM_FAILED, 0, why);
}

static uint64_t stop_patience(const struct vm *vm)
{
	return vm->config->kill_after_ns ? vm->config->kill_after_ns : vm->config->stop_timeout_ns;
}

/* The first stop signal goes to the command, or presses the power button; a second one, or --stop-timeout,
 * ends the VM. */
static void on_stop_signal(struct vm *vm, int sig)
{
	if (vm->stop_signal || vm->ended || !vm->runs) {
		vm_end(vm, VM_STOPPED, sig, NULL);
		return;
	}
	vm->stop_signal = sig;
	vm->asked.stopping = true;
	if (devices_interrupt(vm, sig)) {
		log_info("signal %d: handing it to the command", sig);
	} else {
		log_info("signal %d: pressing the guest's power button", sig);
		acpi_pm_power_button(&vm->pm);
	}
	vm->stop_at = now_ns() + stop_patience(vm);
}

/* With --kill-after the command has some time to end by itself. */
static void on_timeout(struct vm *vm)
{
	vm->timeout_at = GUARD_NEVER;
	if (!vm->config->kill_after_ns || !vm->runs || vm->ended) {
		vm_end(vm, VM_TIMEOUT, 0, NULL);
		return;
	}
	vm->timed_out = true;
	vm->asked.stopping = true;
	devices_interrupt(vm, SIGTERM);
	vm->stop_at = MIN(vm->stop_at, now_ns() + vm->config->kill_after_ns);
}

bool ends_collect(struct vm *vm)
{
	const struct machine *m = &vm->machine;
	struct vm_result *result = vm->result;

	if (atomic_exchange(&vm->collected, true))
		return false;
	result->run_ns = now_ns() - vm->asked.started_ns;
	for (unsigned i = 0; i < m->num_vcpus; i++) {
		result->exits.mmio_read += m->vcpu[i].exits.mmio_read;
		result->exits.mmio_write += m->vcpu[i].exits.mmio_write;
		result->exits.pio_in += m->vcpu[i].exits.pio_in;
		result->exits.pio_out += m->vcpu[i].exits.pio_out;
		result->exits.other += m->vcpu[i].exits.other;
	}
	result->exits.unknown_mmio = m->mmio.unknown;
	result->exits.unknown_pio = m->pio.unknown;
	result->coalesced = m->drained;
	devices_count(vm, false);
	devices_take_status(vm);
	devices_explain_end(vm);
	contact_collect(vm);
	return true;
}

/* As the first signal, but again and again: the last deadline counts. */
static void shut_down(struct vm *vm, uint64_t timeout_ns)
{
	if (!vm->stop_signal && !vm->ended)
		on_stop_signal(vm, SIGTERM);
	vm->stop_at = now_ns() + timeout_ns;
}

static void on_control_shut_down(void *ctx, uint64_t timeout_ns)
{
	struct vm *vm = ctx;

	vm->asked.pause(vm, false, NULL); /* a guest that is paused would not hear of it */
	if (timeout_ns == UINT64_MAX)
		timeout_ns = stop_patience(vm);
	atomic_store(&vm->shut_down_ns, MIN(timeout_ns, (uint64_t)INT64_MAX));
	guard_wake(&vm->guard);
}

/* Leaves other threads in the system calls that they are stuck in. */
static void leave_now(struct vm *vm)
{
	if (!vm->emptied)
		empty_file(vm->result_fd);
	place_remove(vm);
	if (vm->runs)
		ends_collect(vm);
	/* From here on a signal ends the process. */
	pthread_sigmask(SIG_UNBLOCK, &vm->guard.signals, NULL);
	vm->leave(vm->leave_arg);
}

/* On the guard's thread. */
static uint64_t on_guard(struct guard *guard, int sig)
{
	struct vm *vm = container_of(guard, struct vm, guard);
	uint64_t asked = atomic_exchange(&vm->shut_down_ns, UINT64_MAX);

	if (sig)
		on_stop_signal(vm, sig);
	if (asked != UINT64_MAX)
		shut_down(vm, asked);
	if (now_ns() >= vm->timeout_at)
		on_timeout(vm);
	if (now_ns() >= vm->stop_at) {
		vm->stop_at = GUARD_NEVER;
		vm_end(vm, vm->timed_out ? VM_TIMEOUT : VM_STOPPED, vm->stop_signal, NULL);
	}
	if (vm->forced && vm->leave_at == GUARD_NEVER)
		vm->leave_at = now_ns() + (vm->runs ? FORCED_END_NS : 0);
	if (now_ns() >= vm->leave_at)
		leave_now(vm);
	return MIN(MIN(vm->timeout_at, vm->stop_at), vm->leave_at);
}

static void on_guard_left(struct guard *guard)
{
	struct vm *vm = container_of(guard, struct vm, guard);

	if (vm->place.leaves)
		place_remove(vm);
}

int ends_open(struct vm *vm, struct error *e)
{
	static const int handled[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, 0};
	uint64_t timeout = vm->config->timeout_ns;
	sigset_t mask;

	vm->timeout_at = timeout ? now_ns() + timeout : GUARD_NEVER;
	vm->stop_at = vm->leave_at = GUARD_NEVER;
	vm->ending.fn = end_guest;
	vm->host.quit = on_quit;
	vm->host.ctx = vm;
	vm->asked.power_button = on_control_power_button;
	vm->asked.shut_down = on_control_shut_down;
	vm->asked.stop = on_control_stop;
	vm->asked.ctx = vm;
	vm->guard.look = on_guard;
	vm->guard.left = on_guard_left;
	sigemptyset(&vm->guard.signals);
	process_add_signals(&vm->guard.signals, handled);
	mask = vm->guard.signals;
	devices_add_signals(vm, &mask);
	pthread_sigmask(SIG_BLOCK, &mask, NULL);
	return guard_start(&vm->guard, NULL, NULL, e);
}

static void on_halt_check(struct loop_timer *t)
{
	struct vm *vm = container_of(t, struct vm, halt_check);

	if (vm->asked.stopping && !vm->stopping_told)
		vm_event(vm, "stopping", json_object());
	vm->stopping_told = vm->asked.stopping;
	machine_check_halted(&vm->machine);
	loop_timer_set(t, HALT_CHECK_NS);
}

int ends_watch_halt(struct vm *vm)
{
	return loop_timer_init(vm->control, &vm->halt_check, on_halt_check);
}

void ends_watch_machine(struct vm *vm)
{
	struct machine *m = &vm->machine;

	m->ended = on_vcpu_end;
	m->left = on_guest_left;
	m->ctx = vm;
	pause_open(vm);
	vm->pm = (struct acpi_pm){.irq_fd = m->irq_fd[LAYOUT_GSI_GED],
				  .power_off = on_power_off,
				  .give_up = on_give_up,
				  .reset = on_reset,
				  .ctx = vm};
	vm->legacy.reset = on_reset;
	vm->legacy.ctx = vm;
}

void ends_watch_loops(struct vm *vm)
{
	loop_on_failure(vm->control, on_loop_failure, vm);
	for (unsigned i = 0; i < vm->num_devices; i++)
		for (unsigned l = 0; l < vm->devices[i].num_loops; l++)
			loop_on_failure(vm->devices[i].loops[l].loop, on_loop_failure, vm);
}

void ends_go(struct vm *vm)
{
	assert(!vm->runs && loop_is_here(vm->control));
	vm->asked.started_ns = now_ns();
	loop_timer_set(&vm->halt_check, HALT_CHECK_NS);
	contact_begin(vm);
	atomic_store(&vm->runs, true);
	machine_go(&vm->machine);
}
