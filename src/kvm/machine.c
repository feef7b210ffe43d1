// SPDX-License-Identifier: BSD-2-Clause
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/util.h"
#include "inside.h"
#include "kvm/layout.h"

#define CPUID_ENTRIES 256u

/* Memory slots: RAM first, then the register pages, then each block of hotplug memory. */
#define SLOT_REGISTERS GMEM_MAX_REGIONS
#define SLOT_BLOCK(i)  (SLOT_REGISTERS + 1 + (i))

/* Linux: KVM_MAX_IRQ_ROUTES */
#define MAX_ROUTES 4096u

/* Linux: KVM_USER_MEM_SLOTS, where it was smallest. */
#define MAX_SLOTS 509u

static_assert(LAYOUT_VIRTIO_MMIO >= GMEM_HOLE_START, "register pages lie in the hole");
static_assert(LAYOUT_VIRTIO_MMIO + LAYOUT_MAX_DEVICES * LAYOUT_VIRTIO_MMIO_STRIDE <= LAYOUT_IOAPIC,
	      "register pages end before the I/O APIC");
static_assert(LAYOUT_IOAPIC + LAYOUT_IOAPIC_SIZE <= LAYOUT_LAPIC, "the APICs are apart");
static_assert(LAYOUT_LAPIC < LAYOUT_KVM_IDENTITY_MAP && LAYOUT_KVM_IDENTITY_MAP < LAYOUT_KVM_TSS &&
		      LAYOUT_KVM_TSS < GMEM_HOLE_END,
	      "KVM's own pages lie above the APICs, in the hole");
static_assert(LAYOUT_MAX_GSIS <= IOAPIC_MAX_PINS, "each interrupt has a pin");
static_assert(SLOT_BLOCK(GMEM_MAX_BLOCKS) <= MAX_SLOTS, "each block has a slot");
static_assert(IOAPIC_MAX_PINS <= MAX_ROUTES, "each pin has a route");
static_assert(LAYOUT_MAX_DEVICES + 1 <= BUS_MAX_RANGES, "devices and the I/O APIC are on the bus");
static_assert(LAYOUT_MAX_CPUS < UINT8_MAX, "APIC IDs have 8 bits, and the last means all CPUs");

const struct machine_cap machine_caps[] = {
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", true, "guest memory"},
	{KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP", true, "interrupts"},
	{KVM_CAP_IRQFD, "KVM_CAP_IRQFD", true, "interrupts"},
	{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD", true, "kicks without exits to skep"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", true, "stopping vCPUs"},
	{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", true, "CPUID"},
	{KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM", false, "register reads without exits"},
	{KVM_CAP_COALESCED_MMIO, "KVM_CAP_COALESCED_MMIO", false,
	 "interrupt acknowledgement without exits"},
	{KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER", false, "cheap guest timers"},
	{KVM_CAP_CLOCKSOURCE, "KVM_CAP_CLOCKSOURCE", false, "the paravirtual clock"},
	{0},
};

const char *machine_open_remedy(int error)
{
	struct stat st;

	switch (error) {
	case EPERM:
		return "allow the device 10:232 in the container's device cgroup";
	case EACCES:
		if (stat("/dev/kvm", &st) == 0 && (st.st_mode & S_IWGRP))
			return "add your user to the group kvm (usermod -aG kvm \"$USER\") and "
			       "log in again";
		return "give it to a group (chgrp kvm /dev/kvm, chmod g+rw /dev/kvm), and add your "
		       "user to that group";
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return "load kvm_intel or kvm_amd (modprobe), with virtualisation enabled in the "
		       "firmware, or nested virtualisation in the hypervisor";
	case EMFILE:
		return "too many files are open already (ulimit -n)";
	default:
		return "see the kernel's log (dmesg)";
	}
}

static int open_kvm(struct machine *m, struct error *e)
{
	int r;

	m->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (m->kvm_fd < 0)
		return error_set(e, -errno, "/dev/kvm: %m: %s", machine_open_remedy(errno));
	r = ioctl(m->kvm_fd, KVM_GET_API_VERSION, 0);
	if (r != KVM_API_VERSION)
		return error_set(e, -ENOTSUP, "/dev/kvm: API version %d, but skep needs %d", r,
				 KVM_API_VERSION);
	for (const struct machine_cap *cap = machine_caps; cap->required; cap++)
		if (ioctl(m->kvm_fd, KVM_CHECK_EXTENSION, cap->cap) <= 0)
			return error_set(e, -ENOTSUP,
					 "/dev/kvm lacks %s: skep needs Linux " MACHINE_MIN_LINUX
					 " or newer (`skep check` lists what this host has)",
					 cap->name);
	return 0;
}

static int add_slot(struct machine *m, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size,
		    const void *host, struct error *e)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};

	if (ioctl(m->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return error_set(e, -errno, "KVM refuses %llu KiB of memory at 0x%llx: %m",
				 (unsigned long long)(size / KIB), (unsigned long long)gpa);
	return 0;
}

static int add_memory(struct machine *m, struct error *e)
{
	size_t size = m->num_devices * LAYOUT_VIRTIO_MMIO_STRIDE;
	int r;

	for (unsigned i = 0; i < m->mem->num_regions; i++) {
		const struct gmem_region *g = &m->mem->region[i];

		r = add_slot(m, i, 0, g->base.v, g->size, g->host, e);
		if (r)
			return r;
	}
	if (!size)
		return 0;
	m->pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->pages == MAP_FAILED) {
		m->pages = NULL;
		return error_set(e, -errno, "cannot map the register pages: %m");
	}
	if (m->register_page && ioctl(m->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_READONLY_MEM) <= 0) {
		log_info("this KVM has no read-only memory slots: register reads will exit");
		m->register_page = false;
	}
	return m->register_page ? add_slot(m, SLOT_REGISTERS, KVM_MEM_READONLY, LAYOUT_VIRTIO_MMIO,
					   size, m->pages, e)
				: 0;
}

int machine_plug(struct machine *m, unsigned block, bool plugged, struct error *e)
{
	const struct gmem_hotplug *h = &m->mem->hotplug;
	uint64_t offset = block * h->block;
	int r;

	/* Devices have it when the guest does, and not a moment longer. */
	if (!plugged)
		gmem_set_plugged(m->mem, block, false);
	r = add_slot(m, SLOT_BLOCK(block), 0, h->base.v + offset, plugged ? h->block : 0,
		     h->host + offset, e);
	gmem_set_plugged(m->mem, block, plugged == (r == 0));
	return r;
}

static int set_routes(void *ctx, const struct ioapic_route *route, unsigned pins)
{
	struct machine *m = ctx;
	_cleanup_free_ struct kvm_irq_routing *table =
		calloc(1, sizeof(*table) + pins * sizeof(struct kvm_irq_routing_entry));

	if (!table)
		return -ENOMEM;
	for (unsigned pin = 0; pin < pins; pin++) {
		if (!route[pin].valid)
			continue;
		table->entries[table->nr++] = (struct kvm_irq_routing_entry){
			.gsi = pin,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = {.address_lo = route[pin].address_lo,
				  .address_hi = route[pin].address_hi,
				  .data = route[pin].data},
		};
	}
	return ioctl(m->vm_fd, KVM_SET_GSI_ROUTING, table) < 0 ? -errno : 0;
}

static void kick_pin(void *ctx, unsigned pin)
{
	const struct machine *m = ctx;

	if (pin < m->num_gsis)
		eventfd_write(m->irq_fd[pin], 1);
}

/* The split irqchip: local APICs in KVM, the I/O APIC here, and no PIC anywhere. */
static int add_interrupts(struct machine *m, struct error *e)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {m->num_gsis}};

	if (ioctl(m->vm_fd, KVM_ENABLE_CAP, &cap) < 0)
		return error_set(e, -errno, "KVM refuses a split irqchip of %u pins: %m",
				 m->num_gsis);
	m->irq_fd = calloc(m->num_gsis, sizeof(*m->irq_fd));
	if (!m->irq_fd)
		return error_set(e, -ENOMEM, "out of memory for %u interrupts", m->num_gsis);
	memset(m->irq_fd, 0xff, m->num_gsis * sizeof(*m->irq_fd));
	for (unsigned gsi = 0; gsi < m->num_gsis; gsi++) {
		struct kvm_irqfd irqfd = {.gsi = gsi};

		m->irq_fd[gsi] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (m->irq_fd[gsi] < 0)
			return error_set(e, -errno, "cannot create an eventfd: %m");
		irqfd.fd = (uint32_t)m->irq_fd[gsi];
		if (ioctl(m->vm_fd, KVM_IRQFD, &irqfd) < 0)
			return error_set(e, -errno, "KVM refuses an irqfd for GSI %u: %m", gsi);
	}
	ioapic_init(&m->ioapic, m->num_gsis);
	m->ioapic.set_routes = set_routes;
	m->ioapic.kick_pin = kick_pin;
	m->ioapic.ctx = m;
	return bus_add(&m->mmio, LAYOUT_IOAPIC, LAYOUT_IOAPIC_SIZE, &ioapic_bus_ops, &m->ioapic);
}

/* KVM takes memory that is further up, and the guest dies when it uses that. */
static int check_addresses(const struct machine *m, struct error *e)
{
	unsigned bits = cpuid_address_bits(m->cpuid);

	if (gmem_end(m->mem) >> bits == 0)
		return 0;
	return error_set(e, -E2BIG,
			 "--memory: it would reach to %llu GiB, and this host's processors address "
			 "%llu GiB (%u bits): ask for less",
			 (unsigned long long)(gmem_end(m->mem) / GIB), (1ull << bits) / GIB, bits);
}

static int get_cpuid(struct machine *m, struct error *e)
{
	m->cpuid = calloc(1, sizeof(*m->cpuid) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));
	if (!m->cpuid)
		return error_set(e, -ENOMEM, "out of memory for CPUID");
	m->cpuid->nent = CPUID_ENTRIES;
	if (ioctl(m->kvm_fd, KVM_GET_SUPPORTED_CPUID, m->cpuid) < 0)
		return error_set(e, -errno, "KVM_GET_SUPPORTED_CPUID: %m");
	return check_addresses(m, e);
}

/* Coalesced MMIO shares one ring for the whole VM, mapped through any vCPU. */
static void find_coalesced_ring(struct machine *m)
{
	int page = ioctl(m->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);
	size_t page_size = (size_t)sysconf(_SC_PAGESIZE);

	if (page <= 0)
		return;
	m->coalesced = (void *)((uint8_t *)m->vcpu[0].run + (size_t)page * page_size);
	m->coalesced_max = (unsigned)((page_size - sizeof(struct kvm_coalesced_mmio_ring)) /
				      sizeof(struct kvm_coalesced_mmio));
}

static int add_vcpus(struct machine *m, unsigned cpus, struct error *e)
{
	int max = ioctl(m->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);

	if (max > 0 && cpus > (unsigned)max)
		return error_set(e, -EINVAL, "%u vCPUs: this host's KVM supports at most %d", cpus,
				 max);
	m->vcpu = calloc(cpus, sizeof(*m->vcpu));
	if (!m->vcpu)
		return error_set(e, -ENOMEM, "out of memory for %u vCPUs", cpus);
	m->num_vcpus = cpus;
	for (unsigned i = 0; i < cpus; i++)
		m->vcpu[i].fd = -1;
	for (unsigned i = 0; i < cpus; i++) {
		int r = vcpu_create(m, &m->vcpu[i], i, e);

		if (r)
			return r;
	}
	find_coalesced_ring(m);
	return 0;
}

static int create_vm(struct machine *m, struct error *e)
{
	do
		m->vm_fd = ioctl(m->kvm_fd, KVM_CREATE_VM, 0);
	while (m->vm_fd < 0 && errno == EINTR);
	if (m->vm_fd < 0)
		return error_set(e, -errno, "KVM cannot create a VM: %m");

	/* No performance counters: CPUID hides them, and where KVM can it has none (Linux 5.18). */
	ioctl(m->vm_fd, KVM_ENABLE_CAP,
	      &(struct kvm_enable_cap){.cap = KVM_CAP_PMU_CAPABILITY,
				       .args = {KVM_PMU_CAP_DISABLE}});

	/* Intel hosts without unrestricted guests run real mode with these; elsewhere they do
	 * nothing. */
	if (ioctl(m->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0) {
		uint64_t identity_map = LAYOUT_KVM_IDENTITY_MAP;

		ioctl(m->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	}
	if (ioctl(m->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_TSS_ADDR) > 0)
		ioctl(m->vm_fd, KVM_SET_TSS_ADDR, (unsigned long)LAYOUT_KVM_TSS);
	return 0;
}

int machine_create(struct machine *m, struct gmem *mem, unsigned cpus, unsigned devices,
		   bool register_page, struct error *e)
{
	static int (*const steps[])(struct machine * m, struct error * e) = {
		open_kvm, create_vm, add_memory, add_interrupts, get_cpuid};
	int r = 0;

	*m = (struct machine){
		.kvm_fd = -1,
		.vm_fd = -1,
		.mem = mem,
		.num_devices = devices,
		.num_gsis = LAYOUT_GSI_DEVICE + devices,
		.register_page = register_page,
	};
	pthread_mutex_init(&m->drain_lock, NULL);
	for (size_t i = 0; !r && i < ARRAY_SIZE(steps); i++)
		r = steps[i](m, e);
	if (!r)
		r = add_vcpus(m, cpus, e);
	/* From here on nobody creates VMs with it, not even someone who took over a thread. */
	if (m->kvm_fd >= 0)
		close(m->kvm_fd);
	m->kvm_fd = -1;
	return r;
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	for (unsigned i = 0; i < m->num_vcpus; i++)
		vcpu_destroy(&m->vcpu[i]);
	free(m->vcpu);
	for (unsigned i = 0; m->irq_fd && i < m->num_gsis; i++)
		if (m->irq_fd[i] >= 0)
			close(m->irq_fd[i]);
	free(m->irq_fd);
	free(m->cpuid);
	if (m->vm_fd >= 0)
		close(m->vm_fd);
	if (m->kvm_fd >= 0)
		close(m->kvm_fd);
	if (m->pages)
		munmap(m->pages, m->num_devices * LAYOUT_VIRTIO_MMIO_STRIDE);
	pthread_mutex_destroy(&m->drain_lock);
	*m = (struct machine){.kvm_fd = -1, .vm_fd = -1};
}

static int add_ioeventfd(struct machine *m, uint64_t gpa, unsigned queue, int fd, struct error *e)
{
	struct kvm_ioeventfd ioeventfd = {
		.datamatch = queue,
		.addr = gpa + VIRTIO_MMIO_QUEUE_NOTIFY,
		.len = 4,
		.fd = fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	if (ioctl(m->vm_fd, KVM_IOEVENTFD, &ioeventfd) < 0)
		return error_set(e, -errno, "KVM refuses an ioeventfd: %m");
	return 0;
}

/* InterruptACK writes wait in KVM's ring until somebody wants to know; without a ring they exit. */
static void add_coalesced_ack(struct machine *m, uint64_t gpa)
{
	struct kvm_coalesced_mmio_zone zone = {
		.addr = gpa + VIRTIO_MMIO_INTERRUPT_ACK,
		.size = 4,
	};

	if (m->coalesced)
		ioctl(m->vm_fd, KVM_REGISTER_COALESCED_MMIO, &zone);
}

uint8_t *machine_register_page(const struct machine *m, unsigned index)
{
	return m->pages + index * LAYOUT_VIRTIO_MMIO_STRIDE;
}

int machine_irq_fd(const struct machine *m, unsigned index)
{
	return m->irq_fd[LAYOUT_GSI_DEVICE + index];
}

int machine_add_device(struct machine *m, unsigned index, const struct bus_ops *ops, void *ctx,
		       const int *kick_fd, unsigned num_queues, struct error *e)
{
	uint64_t gpa = LAYOUT_VIRTIO_MMIO + (uint64_t)index * LAYOUT_VIRTIO_MMIO_STRIDE;
	int r;

	r = bus_add(&m->mmio, gpa, LAYOUT_VIRTIO_MMIO_STRIDE, ops, ctx);
	if (r)
		return error_set(e, r, "cannot place device %u: %m", index);
	for (unsigned q = 0; q < num_queues; q++) {
		r = add_ioeventfd(m, gpa, q, kick_fd[q], e);
		if (r)
			return r;
	}
	add_coalesced_ack(m, gpa);
	return 0;
}

int machine_start(struct machine *m, int (*setup)(void *arg), void *arg, struct error *e)
{
	for (unsigned i = 0; i < m->num_vcpus; i++) {
		int r = vcpu_start(&m->vcpu[i], setup, arg, e);

		if (r)
			return r;
	}
	return 0;
}

void machine_go(struct machine *m)
{
	atomic_store(&m->inside, m->num_vcpus);
	/* vCPU 0 last: the others are waiting for its INIT and SIPI then. */
	for (unsigned i = m->num_vcpus; i-- > 0;)
		sem_post(&m->vcpu[i].go);
}

void machine_end(struct machine *m)
{
	atomic_store(&m->stop, true);
	for (unsigned i = 0; i < m->num_vcpus; i++) {
		vcpu_kick(&m->vcpu[i]);
		sem_post(&m->vcpu[i].go); /* where it is paused, or the guest never ran */
	}
}

void machine_stop(struct machine *m)
{
	machine_end(m);
	for (unsigned i = 0; i < m->num_vcpus; i++) {
		if (!m->vcpu[i].started)
			continue;
		pthread_join(m->vcpu[i].thread, NULL);
		m->vcpu[i].started = false;
	}
}
