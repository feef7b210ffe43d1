// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the kernel finds when it starts: the command line, the memory map, the initrd, the ACPI
 * root, and for the 64-bit boot protocol page tables and a GDT (boot.rst, "64-bit boot protocol";
 * xen/include/public/arch-x86/hvm/start_info.h).
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "image.h"
#include "kvm/layout.h"
#include "kvm/x86.h"

#define LOADER_UNDEFINED 0xff /* boot.rst, type_of_loader: no number is assigned */
#define BOOT_FLAG	 0xaa55
#define HEADER_MAGIC	 0x53726448 /* "HdrS" */

#define MAX_RANGES    4u
#define TYPE_RAM      1u /* e820 and hvm_memmap_table_entry alike */
#define TYPE_RESERVED 2u

#define PVH_MAGIC 0x336ec578u

#define PTES 512u
#define PAGE 4096u

#define PAGE_TABLES 6u /* the top, the next, and four page directories */

/* An x86 kernel without a setup header takes this much (COMMAND_LINE_SIZE - 1). */
#define DEFAULT_CMDLINE_MAX 2047u

struct hvm_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
	uint32_t memmap_entries, reserved;
};

struct hvm_modlist_entry {
	uint64_t paddr, size, cmdline_paddr, reserved;
};

struct hvm_memmap_table_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

/* The PVH page: all that start_info points to follows it. */
struct pvh_info {
	struct hvm_start_info start;
	struct hvm_modlist_entry module;
	struct hvm_memmap_table_entry map[MAX_RANGES];
};

static_assert(sizeof(struct hvm_start_info) == 56, "the Xen ABI");
static_assert(sizeof(struct pvh_info) <= LAYOUT_ZERO_PAGE - LAYOUT_PVH_INFO, "fits its page");
static_assert(sizeof(struct boot_params) == PAGE, "the Linux ABI");
static_assert(LAYOUT_GDT + LAYOUT_GDT_SIZE <= LAYOUT_PVH_INFO, "the GDT ends before the PVH page");
static_assert(LAYOUT_ZERO_PAGE + sizeof(struct boot_params) < LAYOUT_STACK &&
		      LAYOUT_STACK < LAYOUT_PAGE_TABLES,
	      "the stack has room between boot_params and page tables");
static_assert(LAYOUT_PAGE_TABLES + PAGE_TABLES * PAGE <= LAYOUT_CMDLINE,
	      "page tables end before the command line");
static_assert(LAYOUT_CMDLINE + LAYOUT_CMDLINE_MAX <= LAYOUT_LOW_RAM_END,
	      "the command line ends with the low RAM");

static struct hvm_memmap_table_entry range(uint64_t addr, uint64_t size, uint32_t type)
{
	return (struct hvm_memmap_table_entry){.addr = addr, .size = size, .type = type};
}

static unsigned memory_map(const struct gmem *mem, struct hvm_memmap_table_entry ret[MAX_RANGES])
{
	uint64_t low = gmem_low_end(mem);
	unsigned n = 0;

	ret[n++] = range(0, LAYOUT_LOW_RAM_END, TYPE_RAM);
	ret[n++] = range(LAYOUT_ACPI, LAYOUT_HIGH_RAM - LAYOUT_ACPI, TYPE_RESERVED);
	if (low > LAYOUT_HIGH_RAM)
		ret[n++] = range(LAYOUT_HIGH_RAM, low - LAYOUT_HIGH_RAM, TYPE_RAM);
	if (mem->num_regions > 1)
		ret[n++] = range(mem->region[1].base.v, mem->region[1].size, TYPE_RAM);
	return n;
}

static int write_cmdline(const struct boot_image *b, const struct gmem *mem, const char *cmdline,
			 bool nokaslr, struct error *e)
{
	const struct image_header *h = &b->kernel->h;
	size_t max = LAYOUT_CMDLINE_MAX - 1, len = strlen(cmdline);
	const char *more = nokaslr ? "nokaslr " : "";
	size_t more_len = strlen(more);
	struct setup_header setup;
	int r;

	if (h->protocol == BOOT_LINUX64)
		max = DEFAULT_CMDLINE_MAX;
	if (h->setup_len) {
		memcpy(&setup, h->setup, sizeof(setup));
		if (setup.cmdline_size)
			max = MIN(setup.cmdline_size, LAYOUT_CMDLINE_MAX - 1);
	}
	if (more_len + len > max)
		return error_set(e, -E2BIG,
				 "the kernel command line is %zu bytes long, but this kernel takes "
				 "at most %zu: "
				 "shorten --append",
				 more_len + len, max);
	r = gmem_write(mem, GPA(LAYOUT_CMDLINE), more, more_len);
	return r ? r : gmem_write(mem, GPA(LAYOUT_CMDLINE + more_len), cmdline, len + 1);
}

static int write_boot_params(const struct boot_image *b, const struct gmem *mem, size_t cmdline_len,
			     gpa_t rsdp)
{
	struct boot_params p = {.acpi_rsdp_addr = rsdp.v};
	struct hvm_memmap_table_entry map[MAX_RANGES];

	memcpy(&p.hdr, b->kernel->h.setup, b->kernel->h.setup_len);
	if (!b->kernel->h.setup_len) {
		p.hdr.boot_flag = BOOT_FLAG;
		p.hdr.header = HEADER_MAGIC;
		p.hdr.version = 0x20f;
		p.hdr.loadflags = LOADED_HIGH;
		p.hdr.kernel_alignment = 2 * MIB;
		/* The kernel's own limit is not known; some take this for the length. */
		p.hdr.cmdline_size = (uint32_t)cmdline_len;
	}
	p.hdr.type_of_loader = LOADER_UNDEFINED;
	p.hdr.code32_start = (uint32_t)b->base;
	p.hdr.cmd_line_ptr = LAYOUT_CMDLINE;
	p.hdr.ramdisk_image = (uint32_t)b->initrd_base;
	p.hdr.ramdisk_size = (uint32_t)b->initrd_size;
	/* The kernel believes this of its own decompressor (kaslr_enabled()). */
	p.hdr.loadflags &= (uint8_t)~KASLR_FLAG;
	if (b->kaslr && !b->kernel->h.unpacks)
		p.hdr.loadflags |= KASLR_FLAG;
	p.e820_entries = (uint8_t)memory_map(mem, map);
	for (unsigned i = 0; i < p.e820_entries; i++)
		p.e820_table[i] = (struct boot_e820_entry){map[i].addr, map[i].size, map[i].type};
	return gmem_write(mem, GPA(LAYOUT_ZERO_PAGE), &p, sizeof(p));
}

static int write_pvh_info(const struct boot_image *b, const struct gmem *mem, gpa_t rsdp)
{
	struct pvh_info p = {
		.start =
			{
				.magic = PVH_MAGIC,
				.version = 1,
				.cmdline_paddr = LAYOUT_CMDLINE,
				.rsdp_paddr = rsdp.v,
				.memmap_paddr = LAYOUT_PVH_INFO + offsetof(struct pvh_info, map),
			},
	};

	if (b->initrd_size) {
		p.start.nr_modules = 1;
		p.start.modlist_paddr = LAYOUT_PVH_INFO + offsetof(struct pvh_info, module);
		p.module.paddr = b->initrd_base;
		p.module.size = b->initrd_size;
	}
	p.start.memmap_entries = memory_map(mem, p.map);
	return gmem_write(mem, GPA(LAYOUT_PVH_INFO), &p, sizeof(p));
}

/* Flat segments where the protocols and vcpu_set_entry() have them; the last two entries are the
 * task state segment that a CPU must have, of no use. */
static int write_gdt(const struct gmem *mem, bool long_mode)
{
	const uint64_t gdt[] = {
		0,
		0,
		long_mode ? 0x00af9b000000ffff : 0x00cf9b000000ffff, /* 0x10: code */
		0x00cf93000000ffff,				     /* 0x18: data */
		0x00008b0000000067,				     /* 0x20: task state */
	};
	static_assert(sizeof(gdt) == LAYOUT_GDT_SIZE, "as vCPUs are told");

	return gmem_write(mem, GPA(LAYOUT_GDT), gdt, sizeof(gdt));
}

/* Identity, the first 4 GiB in pages of 2 MiB. */
static int write_page_tables(const struct gmem *mem)
{
	const uint64_t flags = PTE_PRESENT | PTE_WRITE;
	uint64_t *table;
	void *p;
	int r;

	r = gmem_slice(mem, GPA(LAYOUT_PAGE_TABLES), PAGE_TABLES * PAGE, &p);
	if (r)
		return r;
	table = p;
	memset(table, 0, 2 * PAGE);
	table[0] = (LAYOUT_PAGE_TABLES + PAGE) | flags;
	for (unsigned i = 0; i < 4; i++)
		table[PTES + i] = (LAYOUT_PAGE_TABLES + (2 + i) * PAGE) | flags;
	for (uint64_t i = 0; i < 4 * PTES; i++)
		table[2 * PTES + i] = i * 2 * MIB | PTE_HUGE | flags;
	return 0;
}

int boot_finish(const struct boot_files *files, const struct gmem *mem, const char *cmdline,
		gpa_t rsdp, struct boot_entry *entry, struct error *e)
{
	const struct boot_image *b = files->image;
	bool linux64 = entry->protocol == BOOT_LINUX64;
	int r;

	/* One that unpacks itself moves itself, unless told not to. */
	r = write_cmdline(b, mem, cmdline, b->kernel->h.unpacks && !b->kaslr, e);
	if (r)
		return r;
	r = write_gdt(mem, linux64);
	if (!r)
		r = linux64 ? write_boot_params(b, mem, strlen(cmdline), rsdp)
			    : write_pvh_info(b, mem, rsdp);
	if (!r && linux64)
		r = write_page_tables(mem);
	if (r)
		return error_set(e, r, "guest memory is too small for the boot parameters");
	entry->params = GPA(linux64 ? LAYOUT_ZERO_PAGE : LAYOUT_PVH_INFO);
	return 0;
}
