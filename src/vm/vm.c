// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. vm_run() opens everything, then builds, then locks itself in, then
 * runs:
 *
 *   boot_open ── boot thread: boot_load ─────┐
 *   disks, terminal, loops ── KVM ── devices ┴ ACPI, boot_finish ── sandbox ── threads ── run
 *
 * The kernel is placed by a thread of its own while the VM is created, since both take
 * milliseconds. After the sandbox nothing is opened any more. The guest runs when all threads are
 * in it.
 *
 * The main thread is the control loop: console, entropy, clients. Whoever ends the VM (a vCPU that
 * wrote the sleep register, a client, a signal) calls vm_end(), of which the first counts. Then
 * vCPUs leave; the last one resets the devices, as the guest could have, which drains the queues,
 * and ends the control loop. So whoever may call a loop is gone before it ends: vCPUs call all
 * loops, and nothing else does. The main thread joins what is left.
 *
 * The guard is there from first to last, for what must not wait: signals, --timeout, and an end by
 * force that takes too long, because a disk does not answer or the guest has left it too much to
 * do. Then, or while the VM is still being built, the process ends as it is.
 */
#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/guard.h"
#include "base/inherited.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "blk/blk.h"
#include "boot/boot.h"
#include "boot/cmdline.h"
#include "config/output.h"
#include "console/tty.h"
#include "control/control.h"
#include "devices.h"
#include "kvm/acpi.h"
#include "kvm/layout.h"
#include "kvm/legacy.h"
#include "kvm/machine.h"
#include "kvm/mptable.h"
#include "sandbox/sandbox.h"
#include "vm/vm.h"

#define DISK_LOOP_ENTRIES 256u
/* What an end by force may take before it does without the other threads. */
#define FORCED_END_NS (NSEC_PER_SEC * 3 / 2)
#define HALT_CHECK_NS NSEC_PER_SEC
#define MAX_DEVICES   (CONFIG_MAX_DISKS + 2u)
static_assert(MAX_DEVICES <= LAYOUT_MAX_DEVICES, "all devices have a register page");
static_assert(CONFIG_MAX_CPUS <= LAYOUT_MAX_CPUS, "all CPUs are in the tables");

struct disk {
	struct virtio_dev *dev;
	struct loop *loop[CONFIG_MAX_QUEUES + 1]; /* one a queue, and the worker if it has one */
	unsigned num_loops;
};

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
	struct control_vm asked; /* over ... */
	struct control *socket;	 /* NULL: none */
	bool confined;
	struct tty tty;
	struct virtio_dev *console;
	struct disk *disk;
	struct virtio_dev *dev[MAX_DEVICES];
	unsigned num_devs, first_disk;

	int signal_fd;
	sigset_t old_mask;
	struct loop_fd signals;
	struct loop_timer halt_check;

	struct guard guard;
	uint64_t timeout_at, stop_at, leave_at; /* the guard's */
	int stop_signal;			/* the first SIGTERM or the like, 0: none yet */
	void (*leave)(void *arg);
	void *leave_arg;

	_Atomic bool runs; /* the guest, since machine_go() */
	_Atomic bool ended, forced, collected;
	_Atomic bool emptied; /* result_fd */
	struct loop_work ending;
};

static void end_guest(struct loop_work *work)
{
	machine_end(&container_of(work, struct vm, ending)->machine);
}

static void begin_end(struct vm *vm, enum vm_end end, int sig, const char *why)
{
	vm->result->end = end;
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

/* On the last vCPU's thread: nobody else gives the loops work any more. */
static void on_guest_left(void *ctx)
{
	struct vm *vm = ctx;

	for (unsigned i = 0; i < vm->num_devs; i++)
		virtio_dev_quiesce(vm->dev[i]);
	loop_quit(vm->control);
}

static void on_power_off(void *ctx)
{
	vm_end(ctx, VM_POWER_OFF, 0, NULL);
}

/*
 * A reset has no place for a reason. On the orderly way down Linux masks all pins of the I/O APIC
 * (native_machine_shutdown()). What skips that is panic(), which stops the other CPUs and turns its
 * own local APIC off, or SysRq-B, which does nothing but reset. Of other guests nothing is known.
 */
static void on_reset(void *ctx)
{
	struct vm *vm = ctx;
	bool panic =
		vm->entry.is_linux && !ioapic_is_quiet(&vm->machine.ioapic) && !vcpu_has_lapic_on();

	vm_end(vm, panic ? VM_PANIC : VM_REBOOT, 0, NULL);
}

/* A triple fault is a way to reset, too (Linux: reboot=triple): after the orderly way down it is
 * meant. */
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

static void on_escape(void *ctx)
{
	vm_end(ctx, VM_STOPPED, 0, NULL);
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

static int on_control_console_file(void *ctx, int fd, struct error *e)
{
	struct vm *vm = ctx;

	return tty_replace_file(&vm->tty, fd, e);
}

static void on_loop_failure(void *ctx, const char *why)
{
	vm_end(ctx, VM_FAILED, 0, why);
}

static void on_halt_check(struct loop_timer *t)
{
	struct vm *vm = container_of(t, struct vm, halt_check);

	machine_check_halted(&vm->machine);
	loop_timer_set(t, HALT_CHECK_NS);
}

/* The first stop signal presses the power button; a second one, or --stop-timeout, ends the VM. */
static void on_stop_signal(struct vm *vm, int sig)
{
	if (vm->stop_signal || vm->ended || !vm->runs) {
		vm_end(vm, VM_STOPPED, sig, NULL);
		return;
	}
	vm->stop_signal = sig;
	vm->asked.stopping = true;
	log_info("signal %d: pressing the guest's power button", sig);
	acpi_pm_power_button(&vm->pm);
	vm->stop_at = now_ns() + vm->config->stop_timeout_ns;
}

static void explain_silence(const struct vm *vm)
{
	if (vm->console && !console_device_has_printed(vm->console))
		vm_result_explain_silence(vm->result, vm->config->memory, vm->entry.initrd_size,
					  vm->entry.is_linux);
}

static void vm_collect(const struct vm *vm)
{
	const struct machine *m = &vm->machine;
	struct vm_result *result = vm->result;

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
	for (size_t i = 0; i < result->num_disks; i++)
		blk_device_counters(vm->disk[i].dev, &result->disks[i]);
	explain_silence(vm);
}

/* What the kernel is stuck in goes on, or ends, without us. */
static void leave_now(struct vm *vm)
{
	if (!vm->emptied)
		output_empty(vm->result_fd);
	if (vm->runs && !atomic_exchange(&vm->collected, true))
		vm_collect(vm);
	/* From here on a signal ends this, too. */
	pthread_sigmask(SIG_UNBLOCK, &vm->guard.signals, NULL);
	vm->leave(vm->leave_arg);
}

/* On the guard's thread. */
static uint64_t on_guard(struct guard *guard, int sig)
{
	struct vm *vm = container_of(guard, struct vm, guard);

	if (sig)
		on_stop_signal(vm, sig);
	if (now_ns() >= vm->timeout_at) {
		vm->timeout_at = GUARD_NEVER;
		vm_end(vm, VM_TIMEOUT, 0, NULL);
	}
	if (now_ns() >= vm->stop_at) {
		vm->stop_at = GUARD_NEVER;
		vm_end(vm, VM_STOPPED, vm->stop_signal, NULL);
	}
	if (vm->forced && vm->leave_at == GUARD_NEVER)
		vm->leave_at = now_ns() + (vm->runs ? FORCED_END_NS : 0);
	if (now_ns() >= vm->leave_at)
		leave_now(vm);
	return MIN(MIN(vm->timeout_at, vm->stop_at), vm->leave_at);
}

/* Stops, as SIGTSTP would have done had it not been taken, with the terminal as it was. */
static void suspend(struct vm *vm)
{
	sigset_t set;

	tty_yield(&vm->tty);
	sigemptyset(&set);
	sigaddset(&set, SIGTSTP);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	raise(SIGTSTP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void on_terminal_signal(struct vm *vm, int sig)
{
	if (sig == SIGTSTP)
		suspend(vm);
	if (!vm->console)
		return;
	if (sig != SIGWINCH)
		console_device_attend(vm->console);
	console_device_resize(vm->console); /* meanwhile it may have changed */
}

static void on_signal(struct loop_fd *w, uint32_t events)
{
	struct vm *vm = container_of(w, struct vm, signals);
	struct signalfd_siginfo info;

	(void)events;
	while (read(vm->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		on_terminal_signal(vm, (int)info.ssi_signo);
	}
}

static void *boot_thread(void *arg)
{
	struct vm *vm = arg;

	vm->boot_result = boot_load(&vm->files, &vm->request, &vm->mem, vm->cmdline, &vm->entry,
				    &vm->boot_error);
	return NULL;
}

static int start_boot(struct vm *vm, struct error *e)
{
	int r = -pthread_create(&vm->boot_thread, NULL, boot_thread, vm);

	if (r)
		return error_set(e, r, "cannot start a thread: %s%s", strerror(-r),
				 error_task_remedy(r));
	vm->boot_started = true;
	return 0;
}

static int join_boot(struct vm *vm, struct error *e)
{
	if (!vm->boot_started)
		return 0;
	pthread_join(vm->boot_thread, NULL);
	vm->boot_started = false;
	if (vm->boot_result && e)
		*e = vm->boot_error;
	return vm->boot_result;
}

static void add_device(struct vm *vm, struct virtio_dev *dev)
{
	vm->dev[vm->num_devs++] = dev;
}

static enum loop_engine loop_engine(enum disk_engine engine)
{
	static const enum loop_engine map[] = {
		[ENGINE_AUTO] = LOOP_AUTO,
		[ENGINE_URING] = LOOP_URING,
		[ENGINE_SYNC] = LOOP_EPOLL,
	};

	return map[engine];
}

static int open_disk(struct vm *vm, unsigned index, struct error *e)
{
	const struct disk_config *config = &vm->config->disks[index];
	struct disk_config named = *config;
	struct disk *disk = &vm->disk[index];
	struct blk_image *image;
	struct loop *worker;
	int r;

	config_disk_serial(vm->config, index, named.serial);
	r = blk_image_open(&image, config, e);
	if (r)
		return error_prefix(e, r, "disk %s", config->path);
	for (unsigned q = 0; q < config->queues; q++) {
		char name[16];

		snprintf(name, sizeof(name), config->queues > 1 ? "disk%u.%u" : "disk%u", index, q);
		r = loop_new(&disk->loop[q], name, loop_engine(config->engine), DISK_LOOP_ENTRIES,
			     e);
		if (r) {
			blk_image_close(image);
			return error_prefix(e, r, "disk %s", config->path);
		}
		disk->num_loops++;
	}
	r = blk_device_new(&disk->dev, &vm->mem, image, &named, disk->loop, e);
	if (r)
		return error_prefix(e, r, "disk %s", config->path);
	add_device(vm, disk->dev);
	worker = blk_device_worker(disk->dev);
	if (worker)
		disk->loop[disk->num_loops++] = worker;
	return 0;
}

static int open_devices(struct vm *vm, struct error *e)
{
	const struct vm_config *config = vm->config;
	struct virtio_dev *rng;
	int r;

	if (config->console.mode != CONSOLE_OFF) {
		r = console_device_new(&vm->console, &vm->mem, &vm->tty, vm->control, e);
		if (r)
			return r;
		add_device(vm, vm->console);
	}
	r = rng_device_new(&rng, &vm->mem, vm->control, e);
	if (r)
		return r;
	add_device(vm, rng);
	vm->first_disk = vm->num_devs;
	vm->disk = calloc(config->num_disks ? config->num_disks : 1, sizeof(*vm->disk));
	if (!vm->disk)
		return error_set(e, -ENOMEM, "out of memory for %zu disks", config->num_disks);
	for (unsigned i = 0; i < config->num_disks; i++) {
		r = open_disk(vm, i, e);
		if (r)
			return r;
	}
	return 0;
}

/* Not what who started skep wants ignored (nohup, a script's background job). */
static void add_signals(sigset_t *set, const int *sigs, size_t n)
{
	struct sigaction sa;

	for (size_t i = 0; i < n; i++)
		if (sigaction(sigs[i], NULL, &sa) == 0 && sa.sa_handler != SIG_IGN)
			sigaddset(set, sigs[i]);
}

/* Those that are the control loop's; the guard has the others. */
static void terminal_signals(sigset_t *ret)
{
	static const int sigs[] = {SIGTSTP, SIGCONT, SIGWINCH};

	sigemptyset(ret);
	add_signals(ret, sigs, ARRAY_SIZE(sigs));
}

/* From here on the guard has these signals, and --timeout runs. */
static int take_signals(struct vm *vm, struct error *e)
{
	static const int handled[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	uint64_t timeout = vm->config->timeout_ns;
	sigset_t mask;

	vm->timeout_at = timeout ? now_ns() + timeout : GUARD_NEVER;
	sigemptyset(&vm->guard.signals);
	add_signals(&vm->guard.signals, handled, ARRAY_SIZE(handled));
	terminal_signals(&mask);
	add_signals(&mask, handled, ARRAY_SIZE(handled));
	pthread_sigmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN);
	return guard_start(&vm->guard, NULL, NULL, e);
}

static int open_control(struct vm *vm, struct error *e)
{
	sigset_t mask;
	int r;

	terminal_signals(&mask);
	vm->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (vm->signal_fd < 0)
		return error_set(e, -errno, "signalfd: %s", strerror(errno));

	r = loop_new(&vm->control, "skep", LOOP_EPOLL, 0, e);
	if (!r)
		r = loop_watch(vm->control, &vm->signals, vm->signal_fd, 1 /* EPOLLIN */,
			       on_signal);
	if (!r)
		r = loop_timer_init(vm->control, &vm->halt_check, on_halt_check);
	if (r)
		return error_set(e, r, "cannot set up the control loop: %s", strerror(-r));
	r = tty_open(&vm->tty, vm->config, e);
	vm->tty.quit = on_escape;
	vm->tty.quit_ctx = vm;
	return r;
}

/* When all else that can fail on its own is open: it shows that there is a VM. */
static int open_socket(struct vm *vm, struct error *e)
{
	const struct vm_config *config = vm->config;
	int r;

	vm->asked = (struct control_vm){.config = config,
					.disks = vm->dev + vm->first_disk,
					.power_button = on_control_power_button,
					.stop = on_control_stop,
					.console_file = on_control_console_file,
					.ctx = vm};
	if (!config->control_path)
		return 0;
	r = control_open(&vm->socket, vm->control, config->control_path, &vm->asked, e);
	return r < 0 ? error_prefix(e, r, "--control: '%s'", config->control_path) : 0;
}

/* Gives the device its page, interrupt and kicks. */
static int plug_device(struct machine *m, unsigned index, struct virtio_dev *dev, struct error *e)
{
	int kick_fd[VIRTIO_MAX_QUEUES], r;

	for (unsigned q = 0; q < dev->num_queues; q++)
		kick_fd[q] = dev->queue[q].kick_fd;
	r = virtio_dev_attach(dev, machine_register_page(m, index), machine_irq_fd(m, index),
			      machine_drain, m, e);
	return r ? r
		 : machine_add_device(m, index, &virtio_mmio_bus_ops, dev, kick_fd, dev->num_queues,
				      e);
}

static int create_machine(struct vm *vm, struct error *e)
{
	struct machine *m = &vm->machine;
	int r;

	r = machine_create(m, &vm->mem, vm->config->cpus, vm->num_devs, !vm->config->trap_registers,
			   e);
	if (r)
		return r;
	m->ended = on_vcpu_end;
	m->left = on_guest_left;
	m->ctx = vm;
	vm->pm = (struct acpi_pm){.irq_fd = m->irq_fd[LAYOUT_GSI_GED],
				  .power_off = on_power_off,
				  .reset = on_reset,
				  .ctx = vm};
	vm->legacy.reset = on_reset;
	vm->legacy.ctx = vm;
	r = bus_add(&m->pio, LAYOUT_ACPI_PORT, ACPI_PORTS, &acpi_pm_bus_ops, &vm->pm);
	if (!r)
		r = legacy_add(&vm->legacy, &m->pio);
	for (unsigned i = 0; !r && i < vm->num_devs; i++)
		r = plug_device(m, i, vm->dev[i], e);
	return r;
}

static int finish_boot(struct vm *vm, struct error *e)
{
	struct acpi_machine machine = {.cpus = vm->config->cpus, .devices = vm->num_devs};
	gpa_t rsdp;
	int r;

	r = join_boot(vm, e);
	if (!r)
		r = acpi_build(&vm->mem, &machine, &rsdp, e);
	if (!r)
		r = legacy_write_reset_vector(&vm->mem);
	if (!r && vm->config->mmio_cmdline)
		r = mptable_build(&vm->mem, vm->config->cpus, vm->machine.num_gsis, e);
	if (!r)
		r = boot_finish(&vm->files, &vm->mem, vm->cmdline, rsdp, &vm->entry, e);
	if (!r)
		r = vcpu_set_entry(&vm->machine.vcpu[0], vm->entry.protocol == BOOT_LINUX64,
				   vm->entry.ip, vm->entry.params, e);
	boot_close(&vm->files);
	return r;
}

/* Last, when nothing else can fail but threads: what they held may still be wanted. */
static int empty_outputs(struct vm *vm, struct error *e)
{
	int r = output_empty(vm->result_fd);

	atomic_store(&vm->emptied, true);
	if (r < 0)
		return error_set(e, r, "--result: '%s': cannot empty it: %s",
				 vm->config->result_path, strerror(-r));
	if (vm->config->console.mode == CONSOLE_FILE && vm->config->console.fresh)
		r = output_empty(vm->tty.out_fd);
	return r < 0 ? error_set(e, r, "console file %s: cannot empty it: %s",
				 vm->config->console.path, strerror(-r))
		     : 0;
}

static int vm_build(struct vm *vm, struct error *e)
{
	const struct vm_config *config = vm->config;
	int r;

	if (!config->kernel)
		return error_set(e, -EINVAL, "no kernel: name one with --kernel");
	vm->request = (struct boot_request){.kernel = config->kernel,
					    .initrds = config->initrds,
					    .kaslr = config->kaslr,
					    .cache = config->cache};
	r = take_signals(vm, e);
	if (!r)
		r = open_control(vm, e);
	if (!r)
		r = gmem_create(&vm->mem, config->memory, e);
	if (!r)
		r = boot_open(&vm->files, &vm->request, e);
	if (!r)
		r = open_devices(vm, e);
	if (!r)
		r = open_socket(vm, e);
	if (!r)
		r = cmdline_build(vm->config, vm->num_devs, &vm->cmdline, e);
	if (!r)
		r = start_boot(vm, e);
	if (!r)
		r = create_machine(vm, e);
	if (!r)
		r = finish_boot(vm, e);
	if (!r)
		r = empty_outputs(vm, e);
	return r;
}

static int enter_sandbox(void *role)
{
	struct error e = {""};
	int r = sandbox_thread((enum sandbox_role)(uintptr_t)role, &e);

	if (r)
		log_error("%s", e.msg);
	return r;
}

static int enter_vcpu(void *arg)
{
	(void)arg;
	sandbox_drop_files();
	return enter_sandbox((void *)(uintptr_t)SANDBOX_VCPU);
}

static int start_disks(struct vm *vm, struct error *e)
{
	int (*setup)(void *arg) = vm->config->sandbox ? enter_sandbox : NULL;

	for (size_t i = 0; i < vm->config->num_disks; i++)
		for (unsigned q = 0; q < vm->disk[i].num_loops; q++) {
			struct loop *loop = vm->disk[i].loop[q];
			uintptr_t role =
				loop_is_uring(loop) ? SANDBOX_DISK_URING : SANDBOX_DISK_SYNC;
			int r;

			loop_on_failure(loop, on_loop_failure, vm);
			r = loop_start(loop, setup, (void *)role, e);
			if (r)
				return r;
		}
	return 0;
}

static int vm_start(struct vm *vm, struct error *e)
{
	int (*setup)(void *arg) = vm->config->sandbox ? enter_sandbox : NULL;
	int r = 0;

	inherited_close();
	guard_stop(&vm->guard);
	if (setup)
		r = sandbox_process(e);
	if (!r)
		r = guard_start(&vm->guard, setup, (void *)(uintptr_t)SANDBOX_GUARD, e);
	if (!r)
		r = start_disks(vm, e);
	if (!r)
		r = tty_start(&vm->tty, setup, (void *)(uintptr_t)SANDBOX_WRITER, e);
	if (!r)
		r = machine_start(&vm->machine, setup ? enter_vcpu : NULL, NULL, e);
	if (!r && setup) {
		vm->confined = true;
		r = sandbox_thread(vm->socket ? SANDBOX_CONTROL_SOCKET : SANDBOX_CONTROL, e);
	}
	if (r)
		return r;
	loop_on_failure(vm->control, on_loop_failure, vm);
	vm->asked.started_ns = now_ns();
	loop_timer_set(&vm->halt_check, HALT_CHECK_NS);
	atomic_store(&vm->runs, true);
	machine_go(&vm->machine);
	return 0;
}

/* Joins all threads that the VM has but the guard. The console has the guest's last words by then.
 */
static void vm_stop(struct vm *vm)
{
	machine_stop(&vm->machine);
	/* A disk's worker, the last of its loops, posts to the others. */
	for (size_t i = 0; vm->disk && i < vm->config->num_disks; i++)
		for (unsigned q = vm->disk[i].num_loops; q-- > 0;)
			loop_stop(vm->disk[i].loop[q]);
	vm->result->console = tty_stop(&vm->tty);
	if (vm->result->console.lost)
		log_warn("console: %llu bytes of its output are lost: nobody read them in time",
			 (unsigned long long)vm->result->console.lost);
}

static void vm_destroy(struct vm *vm)
{
	join_boot(vm, NULL);
	for (unsigned i = 0; i < vm->num_devs; i++)
		virtio_dev_free(vm->dev[i]);
	for (size_t i = 0; vm->disk && i < vm->config->num_disks; i++)
		for (unsigned q = 0; q < vm->disk[i].num_loops; q++)
			loop_free(vm->disk[i].loop[q]);
	free(vm->disk);
	machine_destroy(&vm->machine);
	boot_close(&vm->files);
	loop_timer_close(&vm->halt_check);
	control_close(vm->socket, !vm->confined);
	loop_free(vm->control);
	tty_close(&vm->tty);
	if (vm->signal_fd >= 0)
		close(vm->signal_fd);
	gmem_destroy(&vm->mem);
	free(vm->cmdline);
}

static int alloc_result(struct vm_result *result, const struct vm_config *config, struct error *e)
{
	*result = (struct vm_result){.num_disks = config->num_disks};
	if (!config->num_disks)
		return 0;
	result->disks = calloc(config->num_disks, sizeof(*result->disks));
	if (!result->disks)
		return error_set(e, -ENOMEM, "out of memory");
	/* Until they are asked, nobody knows. */
	for (size_t i = 0; i < config->num_disks; i++)
		result->disks[i].allocated_start = result->disks[i].allocated_end =
			result->disks[i].returned_bytes = -1;
	return 0;
}

/* A disk has a handful of descriptors for each queue, and the usual limit of 1024 is there for
 * programs with select(2). */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void explain_descriptor_limit(struct error *e)
{
	struct error found = *e;
	struct rlimit limit = {0};

	getrlimit(RLIMIT_NOFILE, &limit);
	error_set(e, -EMFILE,
		  "%.300s: all %llu descriptors are in use: raise the limit (ulimit -n, or "
		  "LimitNOFILE= of a systemd unit), or give disks fewer queues",
		  found.msg, (unsigned long long)limit.rlim_cur);
}

int vm_run(struct vm **ret, const struct vm_config *config, int result_fd, struct vm_result *result,
	   void (*leave)(void *arg), void *arg, struct error *e)
{
	struct vm *vm = malloc(sizeof(*vm));
	int r;

	*ret = vm;
	if (!vm)
		return error_set(e, -ENOMEM, "out of memory");
	*vm = (struct vm){
		.config = config,
		.result = result,
		.result_fd = result_fd,
		.machine = {.kvm_fd = -1, .vm_fd = -1},
		.tty = {.in_fd = -1, .out_fd = -1, .log_fd = -1},
		.files = {.kernel_fd = -1, .initrd_fd = -1, .cache_fd = -1},
		.signal_fd = -1,
		.halt_check.watch.fd = -1,
		.guard.look = on_guard,
		.stop_at = GUARD_NEVER,
		.leave_at = GUARD_NEVER,
		.leave = leave,
		.leave_arg = arg,
		.ending.fn = end_guest,
	};
	pthread_sigmask(SIG_BLOCK, NULL, &vm->old_mask);
	mallopt(M_ARENA_MAX, 1); /* threads hardly allocate: one arena keeps fewer pages dirty */
	raise_descriptor_limit();
	r = alloc_result(result, config, e);
	if (!r)
		r = vm_build(vm, e);
	if (!r)
		r = vm_start(vm, e);
	if (!r)
		loop_run(vm->control);
	if (r == -EMFILE)
		explain_descriptor_limit(e);
	vm_stop(vm);
	if (r || atomic_exchange(&vm->collected, true))
		return r;
	vm_collect(vm);
	for (size_t i = 0; i < result->num_disks; i++)
		blk_device_result(vm->disk[i].dev, &result->disks[i]);
	return 0;
}

void vm_close(struct vm *vm)
{
	if (!vm)
		return;
	vm_destroy(vm);
	guard_stop(&vm->guard);
	pthread_sigmask(SIG_SETMASK, &vm->old_mask, NULL);
	free(vm);
}
