// SPDX-License-Identifier: BSD-2-Clause
/* From files to guest memory: unpacking, placing, relocations. */
#include "boot_fixture.h"

/* ----- unpacking and placing ----- */

static void test_each_compression_unpacks_to_the_same(void **state)
{
	const struct vmlinux_spec spec = {.relocs = RELOCS_3_TABLES};
	struct blob expected = expected_image(&spec);

	(void)state;
	for (enum compression how = 0; how < C_LZO; how++) {
		char *path = make_file(&spec, (int)how, compression_names[how]);
		struct boot b = {.request = {.kernel = path}};

		must_boot(&b, CMDLINE, MEMORY);
		assert_int_equal(b.files.image->base, VMLINUX_BASE);
		assert_int_equal(b.files.image->kernel->h.span, VMLINUX_SPAN);
		assert_int_equal(b.entry.protocol, BOOT_LINUX64);
		assert_int_equal(b.entry.ip.v, VMLINUX_BASE + VMLINUX_ENTRY);
		assert_memory_equal(at(&b, VMLINUX_BASE), expected.data, VMLINUX_SPAN);
		done(&b);
		free(path);
	}
	blob_free(&expected);
}

static bool is_touched(const struct boot *b, uint64_t addr)
{
	unsigned char in_core = 0;

	assert_int_equal(mincore(at(b, addr), 4096, &in_core), 0);
	return in_core & 1;
}

/* Guest memory is fresh and zero, so what is zero is not touched. */
static void test_zeros_are_not_copied(void **state)
{
	char *packed =
		make_file(&(struct vmlinux_spec){RELOCS_NONE, false, false}, C_ZSTD, "packed");
	char *plain = make_file(&(struct vmlinux_spec){RELOCS_NONE, false, false}, -1, "plain");
	struct boot b = {.request = {.kernel = packed}};
	struct boot c = {.request = {.kernel = plain}};

	(void)state;
	must_boot(&b, CMDLINE, MEMORY);
	must_boot(&c, CMDLINE, MEMORY);
	for (uint64_t page = 0; page < 2 * MIB; page += 4096) {
		assert_false(is_touched(&b, VMLINUX_BASE + VMLINUX_SCRATCH + page));
		assert_false(is_touched(&c, VMLINUX_BASE + VMLINUX_SCRATCH + page));
	}
	assert_true(is_touched(&b, VMLINUX_BASE + VMLINUX_DATA));
	assert_true(is_touched(&c, VMLINUX_BASE + VMLINUX_DATA));
	done(&b);
	done(&c);
	free(packed);
	free(plain);
}

static void test_elf_is_loaded_where_it_is_linked(void **state)
{
	const struct vmlinux_spec spec = {.relocs = RELOCS_NONE};
	struct blob expected = expected_image(&spec);
	char *path = make_file(&spec, -1, "vmlinux");
	struct boot b = {.request = {.kernel = path, .kaslr = true}};

	(void)state;
	must_boot(&b, CMDLINE, MEMORY);
	assert_int_equal(b.files.image->base, VMLINUX_BASE);
	assert_int_equal(b.files.cache_fd, -1);
	assert_memory_equal(at(&b, VMLINUX_BASE), expected.data, VMLINUX_SPAN);
	/* A kernel without a header of its own gets what the protocol asks for. */
	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x1fe, 2), 0xaa55);
	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x202, 4), 0x53726448);
	assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x211, 1), 1); /* loaded high, not moved */
	done(&b);
	blob_free(&expected);
	free(path);
}

/* Moves where an ELF file is loaded, and its entry point with it. */
static void link_further(const char *path, uint64_t by)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	Elf64_Ehdr h;

	assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
	for (unsigned i = 0; i < h.e_phnum; i++) {
		off_t at = (off_t)(h.e_phoff + i * sizeof(Elf64_Phdr));
		Elf64_Phdr p;

		assert_int_equal(pread(fd, &p, sizeof(p), at), sizeof(p));
		p.p_paddr += by;
		assert_int_equal(pwrite(fd, &p, sizeof(p), at), sizeof(p));
	}
	h.e_entry += by;
	assert_int_equal(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
	close(fd);
}

/* However much memory there is: "0M is enough". */
static void test_a_kernel_linked_where_no_memory_is(void **state)
{
	static const uint64_t bases[] = {3 * GIB - 4096, 4 * GIB, UINT64_MAX - 64 * MIB + 1};
	char *path = make_file(&(struct vmlinux_spec){.relocs = RELOCS_NONE}, -1, "far");
	struct boot b = {.request = {.kernel = path}};
	uint64_t now = VMLINUX_BASE;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bases); i++) {
		link_further(path, bases[i] - now);
		now = bases[i];
		assert_int_equal(boot(&b, CMDLINE, MEMORY), -EINVAL);
		if (!strstr(b.e.msg, "where no VM has room for it") || strstr(b.e.msg, "--memory"))
			fail_msg("\"%s\"", b.e.msg);
		done(&b);
	}
	free(path);
}

/* Neither the kernel's size nor the initrd's may pass for the other's, and the numbers are said. */
static void test_too_little_memory_is_refused_with_numbers(void **state)
{
	char *kernel =
		make_file(&(struct vmlinux_spec){RELOCS_NONE, false, false}, C_LZ4, "kernel");
	struct blob initrd = {NULL, 0};
	struct boot b = {.request = {.kernel = kernel, .kaslr = true}};
	char *path;

	(void)state;
	assert_int_equal(boot(&b, CMDLINE, 22 * MIB), -ENOMEM);
	assert_string_equal(
		b.e.msg, "the kernel needs guest memory up to 24 MiB, but the VM has 22 MiB: give "
			 "it more with --memory (24M is enough to load it, but not to run)");
	done(&b);
	must_boot(&b, CMDLINE, 24 * MIB);
	assert_int_equal(b.files.image->base, VMLINUX_BASE);
	done(&b);

	blob_put(&initrd, 3 * MIB, "x", 1);
	path = write_blob(dir, "initrd", &initrd);
	b.request.initrds = (char *const[]){path, NULL};
	assert_int_equal(boot(&b, CMDLINE, 26 * MIB), -ENOMEM);
	assert_non_null(
		strstr(b.e.msg, "up to 24 MiB and the initrd 4 MiB, but the VM has 26 MiB"));
	assert_non_null(strstr(b.e.msg, "(28M is enough to load them"));
	done(&b);
	assert_int_equal(boot(&b, CMDLINE, 2 * MIB), -ENOMEM);
	done(&b);
	must_boot(&b, CMDLINE, 28 * MIB);
	done(&b);
	blob_free(&initrd);
	free(path);
	free(kernel);
}

static void test_initrd_lies_high_and_whole(void **state)
{
	char *kernel =
		make_file(&(struct vmlinux_spec){RELOCS_NONE, false, false}, C_LZ4, "kernel");
	struct blob initrd = {NULL, 0};
	static const uint64_t memory[] = {MEMORY, 3 * GIB, 6 * GIB};
	char *path;

	(void)state;
	blob_put(&initrd, 0, "070701", 6);
	blob_put(&initrd, 5 * MIB, "end", 4);
	path = write_blob(dir, "initrd", &initrd);
	for (size_t i = 0; i < ARRAY_SIZE(memory); i++) {
		struct boot b = {
			.request = {.kernel = kernel, .initrds = (char *const[]){path, NULL}}};
		uint64_t end = MIN(memory[i], 2 * GIB), addr;

		must_boot(&b, CMDLINE, memory[i]);
		addr = get(&b, LAYOUT_ZERO_PAGE + 0x218, 4);
		assert_int_equal(addr, ALIGN_DOWN(end - initrd.len, 4096u));
		assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x21c, 4), initrd.len);
		assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x0c0, 8), 0); /* ext_ramdisk_* */
		assert_memory_equal(at(&b, addr), initrd.data, initrd.len);
		done(&b);
	}
	blob_free(&initrd);
	free(path);
	free(kernel);
}

static void test_files_that_shrink_are_noticed(void **state)
{
	char *kernel = make_file(&(struct vmlinux_spec){RELOCS_NONE, false, false}, -1, "kernel");
	struct blob initrd = {NULL, 0};
	struct boot b = {.request = {.kernel = kernel}};
	char *path;

	(void)state;
	blob_put(&initrd, 8191, "x", 1);
	path = write_blob(dir, "initrd", &initrd);
	b.request.initrds = (char *const[]){path, NULL};
	assert_int_equal(gmem_create(&b.mem, MEMORY, NULL), 0);
	assert_int_equal(boot_open(&b.files, &b.request, &b.e), 0);
	assert_int_equal(truncate(path, 100), 0);
	assert_int_equal(boot_load(&b.files, &b.request, &b.mem, "", &b.entry, &b.e), -EIO);
	assert_non_null(strstr(b.e.msg, "shrank"));
	assert_int_equal(truncate(kernel, 0x2000), 0);
	assert_int_equal(boot_load(&b.files, &b.request, &b.mem, "", &b.entry, &b.e), -EBADMSG);
	assert_non_null(strstr(b.e.msg, "shrank"));
	done(&b);
	blob_free(&initrd);
	free(path);
	free(kernel);
}

/* ----- KASLR ----- */

/* What the image has when its virtual addresses are `delta` further up. */
static void move(struct blob *image, uint64_t delta, enum relocs relocs)
{
	for (size_t i = 0; i < ARRAY_SIZE(reloc64_offsets); i++) {
		uint64_t v;

		memcpy(&v, image->data + reloc64_offsets[i], 8);
		v += delta;
		memcpy(image->data + reloc64_offsets[i], &v, 8);
	}
	for (size_t i = 0; i < ARRAY_SIZE(reloc32_offsets); i++) {
		uint32_t v;

		memcpy(&v, image->data + reloc32_offsets[i], 4);
		v += (uint32_t)delta;
		memcpy(image->data + reloc32_offsets[i], &v, 4);
	}
	for (size_t i = 0; relocs == RELOCS_3_TABLES && i < ARRAY_SIZE(inverse_offsets); i++) {
		uint32_t v;

		memcpy(&v, image->data + inverse_offsets[i], 4);
		v -= (uint32_t)delta;
		memcpy(image->data + inverse_offsets[i], &v, 4);
	}
}

/* By how much a 32-bit word was moved. */
static uint64_t find_delta(const struct boot *b, const struct blob *plain)
{
	uint32_t was, is;

	memcpy(&was, plain->data + reloc32_offsets[0], 4);
	is = (uint32_t)get(b, b->files.image->base + reloc32_offsets[0], 4);
	return (uint64_t)(int64_t)(int32_t)(is - was);
}

static void test_kaslr_moves_the_kernel(void **state)
{
	static const enum relocs kinds[] = {RELOCS_3_TABLES, RELOCS_2_TABLES};

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		const struct vmlinux_spec spec = {.relocs = kinds[k]};
		struct blob plain = expected_image(&spec), moved = {NULL, 0};
		char *path = make_file(&spec, C_LZ4, "kernel");
		unsigned bases = 0, deltas = 0;
		uint64_t base = 0, delta = 0;

		for (unsigned i = 0; i < 12; i++) {
			struct boot b = {.request = {.kernel = path, .kaslr = true}};

			must_boot(&b, CMDLINE, 256 * MIB);
			bases += b.files.image->base != base;
			deltas += find_delta(&b, &plain) != delta;
			base = b.files.image->base;
			delta = find_delta(&b, &plain);
			assert_int_equal(base % (2 * MIB), 0);
			assert_in_range(base, VMLINUX_BASE, 256 * MIB - VMLINUX_SPAN);
			assert_int_equal(delta % (2 * MIB), 0);
			assert_in_range(VMLINUX_BASE + delta, VMLINUX_BASE, GIB - VMLINUX_SPAN);
			assert_int_equal(b.entry.ip.v, base + VMLINUX_ENTRY);
			assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x211, 1) & 2, 2);

			blob_put(&moved, 0, plain.data, plain.len);
			move(&moved, delta, kinds[k]);
			assert_memory_equal(at(&b, base), moved.data, VMLINUX_SPAN);
			done(&b);
		}
		/* 120 places and 508: that all are the same comes once in 10^22 runs. */
		assert_true(bases > 1);
		assert_true(deltas > 1);
		blob_free(&plain);
		blob_free(&moved);
		free(path);
	}
}

static void test_kaslr_keeps_clear_of_the_initrd(void **state)
{
	char *kernel =
		make_file(&(struct vmlinux_spec){RELOCS_3_TABLES, false, false}, C_LZ4, "kernel");
	struct blob initrd = {NULL, 0};
	char *path;

	(void)state;
	blob_put(&initrd, 12 * MIB, "x", 1);
	path = write_blob(dir, "initrd", &initrd);
	for (unsigned i = 0; i < 20; i++) {
		struct boot b = {.request = {.kernel = kernel,
					     .initrds = (char *const[]){path, NULL},
					     .kaslr = true}};

		must_boot(&b, CMDLINE, 40 * MIB);
		assert_true(b.files.image->base + VMLINUX_SPAN <= b.files.image->initrd_base);
		done(&b);
	}
	blob_free(&initrd);
	free(path);
	free(kernel);
}

static void expect_not_moved(const char *path, bool kaslr, const char *cmdline)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false});
	struct blob plain = make_expected(&v);

	for (unsigned i = 0; i < 3; i++) {
		struct boot b = {.request = {.kernel = path, .kaslr = kaslr}};

		must_boot(&b, cmdline, 256 * MIB);
		assert_int_equal(b.files.image->base, VMLINUX_BASE);
		assert_memory_equal(at(&b, VMLINUX_BASE), plain.data, VMLINUX_SPAN);
		assert_int_equal(get(&b, LAYOUT_ZERO_PAGE + 0x211, 1) & 2, 0);
		done(&b);
	}
	blob_free(&plain);
	blob_free(&v);
}

static void test_nokaslr_is_respected(void **state)
{
	char *path =
		make_file(&(struct vmlinux_spec){RELOCS_3_TABLES, false, false}, C_LZ4, "kernel");
	unsigned moved = 0;

	(void)state;
	expect_not_moved(path, false, CMDLINE);
	expect_not_moved(path, true, "nokaslr");
	expect_not_moved(path, true, "quiet nokaslr");
	expect_not_moved(path, true, "a nokaslr b");
	/* Not this word. */
	for (unsigned i = 0; i < 12; i++) {
		struct boot b = {.request = {.kernel = path, .kaslr = true}};

		must_boot(&b, "nokaslrx xnokaslr", 256 * MIB);
		moved += b.files.image->base != VMLINUX_BASE;
		done(&b);
	}
	assert_true(moved > 0);
	free(path);
}

/* Relocations that are none: out of the kernel, or not in a form that is known. */
static void test_kernels_that_cannot_be_moved_are_not(void **state)
{
	static const enum relocs kinds[] = {RELOCS_NONE, RELOCS_OUTSIDE, RELOCS_4_TABLES,
					    RELOCS_AFTER_JUNK};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		char *path = make_file(&(struct vmlinux_spec){.relocs = kinds[i]}, C_LZ4, "kernel");

		expect_not_moved(path, true, CMDLINE);
		free(path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_compression_unpacks_to_the_same),
		cmocka_unit_test(test_zeros_are_not_copied),
		cmocka_unit_test(test_elf_is_loaded_where_it_is_linked),
		cmocka_unit_test(test_a_kernel_linked_where_no_memory_is),
		cmocka_unit_test(test_too_little_memory_is_refused_with_numbers),
		cmocka_unit_test(test_initrd_lies_high_and_whole),
		cmocka_unit_test(test_files_that_shrink_are_noticed),
		cmocka_unit_test(test_kaslr_moves_the_kernel),
		cmocka_unit_test(test_kaslr_keeps_clear_of_the_initrd),
		cmocka_unit_test(test_nokaslr_is_respected),
		cmocka_unit_test(test_kernels_that_cannot_be_moved_are_not),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
