// SPDX-License-Identifier: BSD-2-Clause
/* The guest's physical address map (x86-64). docs/design.md draws it. */
#ifndef SKEP_LAYOUT_H
#define SKEP_LAYOUT_H

/* Below 640 KiB: what the boot protocols need. The guest owns all of it once it runs. */
#define LAYOUT_GDT	   0x500u
#define LAYOUT_GDT_SIZE	   40u
#define LAYOUT_PVH_INFO	   0x6000u /* hvm_start_info, module list, memory map */
#define LAYOUT_ZERO_PAGE   0x7000u /* struct boot_params */
#define LAYOUT_STACK	   0x8ff0u
#define LAYOUT_PAGE_TABLES 0x9000u /* PML4, PDPT, 4 page directories: 6 pages, identity 4 GiB */
#define LAYOUT_CMDLINE	   0x20000u
#define LAYOUT_CMDLINE_MAX 0x10000u /* bytes with the final NUL; the kernel's own limit is less */
#define LAYOUT_LOW_RAM_END 0xa0000u

/* ACPI tables: found by the RSDP address in the boot parameters, and by the scan of this area. */
#define LAYOUT_ACPI	0xe0000u
#define LAYOUT_ACPI_END 0xff000u

/* MultiProcessor tables, where kernels without ACPI look for them. */
#define LAYOUT_MPTABLE	    0xff000u
#define LAYOUT_MPTABLE_SIZE 0xff0u

/* Where a CPU goes that is sent to the BIOS, ffff:0000. */
#define LAYOUT_RESET_VECTOR 0xffff0u

#define LAYOUT_HIGH_RAM 0x100000u

/* virtio-mmio register pages, one 4 KiB page a device, in the hole below 4 GiB. */
#define LAYOUT_VIRTIO_MMIO	  0xd0000000u
#define LAYOUT_VIRTIO_MMIO_STRIDE 0x1000u
#define LAYOUT_MAX_DEVICES	  128u

#define LAYOUT_IOAPIC	   0xfec00000u
#define LAYOUT_IOAPIC_SIZE 0x1000u
#define LAYOUT_LAPIC	   0xfee00000u

/* Three pages that KVM wants for itself on Intel hosts (KVM_SET_TSS_ADDR), and its identity map. */
#define LAYOUT_KVM_IDENTITY_MAP 0xfeffc000u
#define LAYOUT_KVM_TSS		0xfeffd000u

/*
 * GSIs, each a pin of the I/O APIC: device n has pin n + 3. Pins 0 and 2 stay unused: Linux on x86
 * takes no ACPI interrupt resource with these numbers (valid_IRQ() in drivers/acpi/resource.c).
 */
#define LAYOUT_GSI_GED	  1u
#define LAYOUT_GSI_DEVICE 3u
#define LAYOUT_MAX_GSIS	  (LAYOUT_GSI_DEVICE + LAYOUT_MAX_DEVICES)

#define LAYOUT_MAX_CPUS 64u

/* The ACPI control ports (include/kvm/acpi.h). */
#define LAYOUT_ACPI_PORT 0x600u

#endif
