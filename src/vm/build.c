// SPDX-License-Identifier: BSD-2-Clause
/* Building a VM: DOC in vm.c. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "boot/cmdline.h"
#include "inside.h"
#include "kvm/layout.h"
#include "kvm/mptable.h"

static_assert(CONFIG_MAX_CPUS <= LAYOUT_MAX_CPUS, "all CPUs are in the tables");

static void on_signal(struct loop_fd *w, uint32_t events)
{
	struct vm *vm = container_of(w, struct vm, signals);
	struct signalfd_siginfo info;

	(void)events;
	while (read(vm->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		devices_signal(vm, (int)info.ssi_signo);
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
		return error_set(e, r, "cannot start a thread: %m%s", error_task_remedy(r));
	vm->boot_started = true;
	return 0;
}

int vm_join_boot(struct vm *vm, struct error *e)
{
	if (!vm->boot_started)
		return 0;
	pthread_join(vm->boot_thread, NULL);
	vm->boot_started = false;
	if (vm->boot_result && e)
		*e = vm->boot_error;
	return vm->boot_result;
}

/* The signals that devices want. */
static int watch_signals(struct vm *vm, struct error *e)
{
	sigset_t mask;
	int r;

	sigemptyset(&mask);
	devices_add_signals(vm, &mask);
	vm->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (vm->signal_fd < 0)
		return error_set(e, -errno, "signalfd: %m");
	r = loop_watch(vm->control, &vm->signals, vm->signal_fd, 1 /* EPOLLIN */, on_signal);
	return r ? error_set(e, r, "cannot watch signals: %m") : 0;
}

static int open_control(struct vm *vm, struct error *e)
{
	int r = loop_new(&vm->control, "skep", LOOP_EPOLL, 0, e);

	if (!r)
		r = ends_watch_halt(vm);
	if (r)
		return error_set(e, r, "cannot set up the control loop: %m");
	return watch_signals(vm, e);
}

/* Last of what is opened, since it shows others that there is a VM. */
static int open_sockets(struct vm *vm, struct error *e)
{
	const struct vm_config *config = vm->config;
	int r;

	vm->asked.types = device_types;
	vm->asked.devices = vm->devices;
	vm->asked.num_devices = vm->num_devices;
	vm->asked.klog = &vm->klog;
	r = place_open(vm, e);
	if (r < 0 || !config->control_path)
		return r;
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

	r = machine_create(m, &vm->mem, vm->config->cpus, vm->num_devices,
			   !vm->config->trap_registers, e);
	if (r)
		return r;
	ends_watch_machine(vm);
	r = bus_add(&m->pio, LAYOUT_ACPI_PORT, ACPI_PORTS, &acpi_pm_bus_ops, &vm->pm);
	if (!r)
		r = legacy_add(&vm->legacy, &m->pio);
	for (unsigned i = 0; !r && i < vm->num_devices; i++)
		r = plug_device(m, i, vm->devices[i].dev, e);
	return r;
}

static int finish_boot(struct vm *vm, struct error *e)
{
	struct acpi_machine machine = {.cpus = vm->config->cpus, .devices = vm->num_devices};
	gpa_t rsdp;
	int r;

	r = vm_join_boot(vm, e);
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

/* When only starting threads can still fail: if the VM does not start, the old content may be
 * wanted. */
static int empty_outputs(struct vm *vm, struct error *e)
{
	int r = empty_file(vm->result_fd);

	atomic_store(&vm->emptied, true);
	if (r < 0)
		return error_set(e, r, "--result: '%s': cannot empty it: %m",
				 vm->config->result_path);
	return devices_ready(vm, e);
}

int vm_build(struct vm *vm, struct error *e)
{
	const struct vm_config *config = vm->config;
	int r;

	if (!config->kernel)
		return error_set(e, -EINVAL, "no kernel: name one with --kernel");
	vm->request = (struct boot_request){.kernel = config->kernel,
					    .initrds = config->initrds,
					    .kaslr = config->kaslr,
					    .cache = config->cache};
	r = ends_open(vm, e);
	if (!r)
		r = open_control(vm, e);
	if (!r)
		r = devices_open(vm, e);
	if (!r)
		r = contact_open(vm, e);
	if (!r)
		r = gmem_create(&vm->mem, config->memory.start, e);
	if (!r && config->memory.max > config->memory.start)
		r = gmem_add_hotplug(&vm->mem, config->memory.max - config->memory.start, e);
	if (!r)
		r = boot_open(&vm->files, &vm->request, e);
	if (!r)
		r = devices_build(vm, e);
	if (!r)
		r = open_sockets(vm, e);
	if (!r)
		r = cmdline_build(vm->config, vm->num_devices, &vm->cmdline, e);
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
