// SPDX-License-Identifier: BSD-2-Clause
/*
 * The floor of what tools/bench measures: the ioctls that any monitor needs before its first
 * KVM_RUN, and nothing else: VM, RAM, a read-only slot, split irqchip, vCPU, CPUID. Nothing is
 * loaded, so there is nothing to run: the benchmark ends it at KVM_RUN.
 *
 * usage: floor [MIB]
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define HUGE_PAGE (2ul << 20)
#define ENTRIES	  256u

static long check(long r, const char *what)
{
	if (r < 0) {
		perror(what);
		exit(1);
	}
	return r;
}

static void add_slot(int vm, unsigned slot, unsigned flags, unsigned long gpa, unsigned long size)
{
	char *map = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *aligned = (char *)(((unsigned long)map + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (unsigned long)aligned,
	};

	check(map == MAP_FAILED ? -1 : 0, "mmap");
	madvise(aligned, size, MADV_HUGEPAGE);
	check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

int main(int argc, char **argv)
{
	unsigned long mib = argc > 1 ? strtoul(argv[1], NULL, 0) : 256;
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + ENTRIES * sizeof(cpuid->entries[0]));
	int kvm, vm, vcpu;
	long run_size;

	if (!cpuid)
		return 1;
	cpuid->nent = ENTRIES;
	kvm = (int)check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	check(ioctl(kvm, KVM_GET_API_VERSION, 0), "KVM_GET_API_VERSION");
	vm = (int)check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	add_slot(vm, 0, 0, 0, mib << 20);
	add_slot(vm, 1, KVM_MEM_READONLY, 0xd0000000, 4096);
	check(ioctl(vm, KVM_ENABLE_CAP, &split), "KVM_CAP_SPLIT_IRQCHIP");
	vcpu = (int)check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid), "KVM_GET_SUPPORTED_CPUID");
	check(ioctl(vcpu, KVM_SET_CPUID2, cpuid), "KVM_SET_CPUID2");
	run_size = check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	if (mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0) == MAP_FAILED)
		check(-1, "mmap of kvm_run");
	check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
	return 0;
}
