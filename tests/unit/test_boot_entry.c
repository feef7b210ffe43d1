// SPDX-License-Identifier: BSD-2-Clause
/* What a kernel finds where it is entered: parameters, page tables, PVH. */
#include "boot_fixture.h"

/* ----- in the guest ----- */

static void test_unknown_payload_is_unpacked_by_the_guest(void **state)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){RELOCS_3_TABLES, false, false});
	struct blob z = make_bzimage(&v, C_LZO);
	char *path = write_blob(dir, "kernel", &z);
	struct boot b = {.request = {.kernel = path, .kaslr = true}};

	(void)state;
	must_boot(&b, CMDLINE, MEMORY);
	assert_int_equal(b.entry.ip.v, VMLINUX_BASE + 0x200);
	assert_int_equal(b.files.image->kernel->h.span, VMLINUX_SPAN + 4 * MIB);
	assert_memory_equal(at(&b, VMLINUX_BASE), z.data + BZIMAGE_SETUP_LEN,
			    z.len - BZIMAGE_SETUP_LEN);
	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x214, 4), VMLINUX_BASE); /* code32_start */
	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x211, 1) & 2, 0);
	assert_string_equal(at(&b, LAYOUT_CMDLINE), CMDLINE);
	done(&b);
	b.request.kaslr = false;
	must_boot(&b, CMDLINE, MEMORY);
	assert_string_equal(at(&b, LAYOUT_CMDLINE), "nokaslr " CMDLINE);
	done(&b);
	blob_free(&z);
	blob_free(&v);
	free(path);
}

/* ----- what the kernel finds ----- */

static void check_range(const struct boot *b, unsigned i, uint64_t addr, uint64_t size,
			uint32_t type)
{
	uint64_t entry = LAYOUT_ZERO_PAGE + 0x2d0 + i * 20;

	assert_int_equal(get(b, entry, 8), addr);
	assert_int_equal(get(b, entry + 8, 8), size);
	assert_int_equal(get(b, entry + 16, 4), type);
}

static void test_boot_params(void **state)
{
	char *path = make_file(&(struct vmlinux_spec){RELOCS_NONE, false, false}, C_GZIP, "kernel");
	struct boot b = {.request = {.kernel = path}};

	(void)state;
	must_boot(&b, CMDLINE, 5 * GIB);
	assert_int_equal(b.entry.params.v, LAYOUT_ZERO_PAGE);
	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x070, 8), RSDP.v); /* acpi_rsdp_addr */
	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x1ef, 1), 0);	/* sentinel */
	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x1fe, 2),
			 0xaa55); /* the kernel's own header */
	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x206, 2), 0x20f);
	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x210, 1), 0xff);
	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x218, 8), 0); /* no initrd */
	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x228, 4), LAYOUT_CMDLINE);
	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x230, 4), 2 * MIB);
	assert_string_equal(at(&b, LAYOUT_CMDLINE), CMDLINE);

	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x1e8, 1), 4); /* e820_entries */
	check_range(&b, 0, 0, 0xa0000, 1);
	check_range(&b, 1, 0xe0000, 0x20000, 2);
	check_range(&b, 2, 0x100000, 3 * GIB - 0x100000, 1);
	check_range(&b, 3, 4 * GIB, 2 * GIB, 1);
	done(&b);
	must_boot(&b, CMDLINE, MEMORY);
	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x1e8, 1), 3);
	check_range(&b, 2, 0x100000, MEMORY - 0x100000, 1);
	done(&b);
	free(path);
}

/* Walks the page tables as the CPU would. */
static uint64_t translate(const struct boot *b, uint64_t addr)
{
	uint64_t table = LAYOUT_PAGE_TABLES;

	for (unsigned shift = 39; shift >= 21; shift -= 9) {
		uint64_t entry = get(b, table + (addr >> shift & 511) * 8, 8);

		if (!(entry & 1))
			return UINT64_MAX;
		assert_int_equal(entry & 2, 2);
		table = entry & ~0xfffull;
		assert_int_equal(!!(entry & 0x80), shift == 21);
	}
	return table + (addr & (2 * MIB - 1));
}

static void test_page_tables_and_gdt(void **state)
{
	static const uint64_t addrs[] = {0, 0x7123, 0x1000040, 2 * GIB + 7, 4 * GIB - 1};
	char *path = make_file(&(struct vmlinux_spec){RELOCS_NONE, false, false}, C_GZIP, "kernel");
	struct boot b = {.request = {.kernel = path}};

	(void)state;
	must_boot(&b, CMDLINE, MEMORY);
	for (size_t i = 0; i < ARRAY_SIZE(addrs); i++)
		assert_int_equal(translate(&b, addrs[i]), addrs[i]);
	assert_int_equal(translate(&b, 4 * GIB), UINT64_MAX);
	assert_int_equal(translate(&b, 1ull << 39), UINT64_MAX);
	/* Code: execute/read, 64-bit, present, ring 0; data: read/write (AMD64 manual 2, 4.8). */
	assert_int_equal(get(&b, LAYOUT_GDT + 0x10, 8), 0x00af9b000000ffffull);
	assert_int_equal(get(&b, LAYOUT_GDT + 0x18, 8), 0x00cf93000000ffffull);
	done(&b);
	free(path);
}

static void test_long_command_line_is_refused(void **state)
{
	char *path = make_file(&(struct vmlinux_spec){RELOCS_NONE, false, false}, C_GZIP, "kernel");
	struct boot b = {.request = {.kernel = path}};
	char cmdline[2049];

	(void)state;
	memset(cmdline, 'x', sizeof(cmdline));
	cmdline[2047] = '\0';
	must_boot(&b, cmdline, MEMORY);
	assert_string_equal(at(&b, LAYOUT_CMDLINE), cmdline);
	done(&b);
	cmdline[2047] = 'x';
	cmdline[2048] = '\0';
	assert_int_equal(boot(&b, cmdline, MEMORY), -E2BIG);
	assert_non_null(strstr(b.e.msg, "is 2048 bytes long, but this kernel takes at most 2047"));
	done(&b);
	free(path);
}

static void test_pvh(void **state)
{
	const struct vmlinux_spec spec = {.pvh_note = true, .no_linux_note = true};
	struct blob expected = expected_image(&spec), initrd = {NULL, 0};
	char *kernel = make_file(&spec, -1, "kernel"), *path;
	struct boot b = {.request = {.kernel = kernel, .kaslr = true}};
	uint64_t info, map;

	(void)state;
	blob_put(&initrd, 4999, "x", 1);
	path = write_blob(dir, "initrd", &initrd);
	b.request.initrds = (char *const[]){path, NULL};
	must_boot(&b, CMDLINE, 5 * GIB);
	assert_int_equal(b.entry.protocol, BOOT_PVH);
	assert_int_equal(b.entry.ip.v, VMLINUX_BASE + 0x80);
	assert_memory_equal(at(&b, VMLINUX_BASE), expected.data, VMLINUX_SPAN);

	info = b.entry.params.v;
	assert_int_equal(info, LAYOUT_PVH_INFO);
	assert_int_equal(get(&b, info, 4), 0x336ec578);
	assert_int_equal(get(&b, info + 4, 4), 1);  /* version */
	assert_int_equal(get(&b, info + 8, 4), 0);  /* flags */
	assert_int_equal(get(&b, info + 12, 4), 1); /* modules */
	assert_int_equal(get(&b, get(&b, info + 16, 8), 8), b.files.image->initrd_base);
	assert_int_equal(get(&b, get(&b, info + 16, 8) + 8, 8), initrd.len);
	assert_memory_equal(at(&b, b.files.image->initrd_base), initrd.data, initrd.len);
	assert_string_equal(at(&b, get(&b, info + 24, 8)), CMDLINE);
	assert_int_equal(get(&b, info + 32, 8), RSDP.v);
	map = get(&b, info + 40, 8);
	assert_int_equal(get(&b, info + 48, 4), 4);
	assert_int_equal(get(&b, map + 24, 8), 0xe0000);
	assert_int_equal(get(&b, map + 24 + 16, 4), 2);
	assert_int_equal(get(&b, map + 72, 8), 4 * GIB);
	assert_int_equal(get(&b, map + 72 + 8, 8), 2 * GIB);
	assert_int_equal(get(&b, map + 72 + 16, 4), 1);
	assert_int_equal(get(&b, LAYOUT_GDT + 0x10, 8), 0x00cf9b000000ffffull);
	done(&b);

	b.request.initrds = NULL;
	must_boot(&b, CMDLINE, MEMORY);
	assert_int_equal(get(&b, info + 12, 4), 0);
	assert_int_equal(get(&b, info + 16, 8), 0);
	done(&b);
	blob_free(&expected);
	blob_free(&initrd);
	free(kernel);
	free(path);
}

/* Neither notes nor Linux's addresses, but linked where it is loaded, as unikernels are for other
 * monitors: it looks for its command line's length in the header. */
static void test_elf_linked_low_without_notes_is_entered_as_linux_is(void **state)
{
	struct blob b = make_vmlinux(&(struct vmlinux_spec){.no_linux_note = true});
	const uint64_t second = VMLINUX_BASE + VMLINUX_PERCPU;
	struct boot run = {.request = {.kaslr = true}};
	char *path;

	(void)state;
	blob_put(&b, sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, p_vaddr),
		 &second, sizeof(second));
	path = write_blob(dir, "low", &b);
	run.request.kernel = path;
	must_boot(&run, CMDLINE, MEMORY);
	assert_int_equal(run.entry.protocol, BOOT_LINUX64);
	assert_false(run.entry.is_linux);
	assert_int_equal(run.entry.ip.v, VMLINUX_BASE + VMLINUX_ENTRY);
	assert_int_equal(get(&run, LAYOUT_ZERO_PAGE + 0x238, 4), strlen(CMDLINE));
	assert_string_equal(at(&run, get(&run, LAYOUT_ZERO_PAGE + 0x228, 4)), CMDLINE);
	done(&run);
	free(path);
	blob_free(&b);
}

/* Linux has a PVH note too, but its own protocol says more. */
static void test_linux_with_a_pvh_note_is_linux(void **state)
{
	char *path = make_file(&(struct vmlinux_spec){.pvh_note = true}, -1, "kernel");
	struct boot b = {.request = {.kernel = path}};

	(void)state;
	must_boot(&b, CMDLINE, MEMORY);
	assert_int_equal(b.entry.protocol, BOOT_LINUX64);
	assert_true(b.entry.is_linux);
	done(&b);
	free(path);
}

/* ----- hashes ----- */

static void test_checksum_sees_changes(void **state)
{
	uint8_t data[8192 + 40], kept[4096];
	uint32_t x = 1;
	uint64_t sum;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
	sum = image_checksum(data, sizeof(data));
	assert_int_equal(image_checksum(data, sizeof(data)), sum);
	for (size_t bit = 0; bit < 8 * sizeof(data); bit++) {
		data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_not_equal(image_checksum(data, sizeof(data)), sum);
		data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	/* Pages that change places, words that do, and one that is lost. */
	memcpy(kept, data, sizeof(kept));
	memmove(data, data + sizeof(kept), sizeof(kept));
	memcpy(data + sizeof(kept), kept, sizeof(kept));
	assert_int_not_equal(image_checksum(data, sizeof(data)), sum);
	memmove(data + sizeof(kept), data, sizeof(kept));
	memcpy(data, kept, sizeof(kept));
	assert_int_equal(image_checksum(data, sizeof(data)), sum);
	memcpy(data, kept + 32, 8);
	memcpy(data + 32, kept, 8);
	assert_int_not_equal(image_checksum(data, sizeof(data)), sum);
	memcpy(data, kept, sizeof(kept));
	memset(data + sizeof(kept), 0, sizeof(kept));
	assert_int_not_equal(image_checksum(data, sizeof(data)), sum);
	assert_int_not_equal(image_checksum("\0\0", 1), image_checksum("\0\0", 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unknown_payload_is_unpacked_by_the_guest),
		cmocka_unit_test(test_boot_params),
		cmocka_unit_test(test_page_tables_and_gdt),
		cmocka_unit_test(test_long_command_line_is_refused),
		cmocka_unit_test(test_pvh),
		cmocka_unit_test(test_elf_linked_low_without_notes_is_entered_as_linux_is),
		cmocka_unit_test(test_linux_with_a_pvh_note_is_linux),
		cmocka_unit_test(test_checksum_sees_changes),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
