// SPDX-License-Identifier: BSD-2-Clause
/* What is no kernel is refused with a message that says what it is. */
#include "boot_files_fixture.h"

/* `size` bytes with `bytes` at `offset`. */
static void expect_bytes(size_t offset, const void *bytes, size_t len, size_t size,
			 const char *text)
{
	struct blob b = {NULL, 0};
	char *path;

	blob_put(&b, size - 1, "", 1);
	blob_put(&b, offset, bytes, len);
	path = write_blob(dir, "file", &b);
	expect_error(path, NULL, -EINVAL, text);
	unlink(path);
	free(path);
	blob_free(&b);
}

static void test_other_files_are_named(void **state)
{
	static const struct {
		size_t offset;
		const char *bytes;
		size_t len;
		const char *text;
	} files[] = {
		{0, "\x1f\x8b\x08", 3, "is a gzip file, not an x86-64 kernel: "},
		{0, "\x28\xb5\x2f\xfd", 4, "is a zstd file"},
		{0,
		 "\xfd"
		 "7zXZ",
		 6, "is an xz file"},
		{0, "BZh9", 4, "is a bzip2 file"},
		{0, "\x02\x21\x4c\x18", 4, "is an LZ4 file (legacy format)"},
		{0, "\x04\x22\x4d\x18", 4, "is an LZ4 file,"},
		{0, "\x89LZO", 4, "is an LZO file"},
		{0, "\x5d\0\0\x80", 4, "is an LZMA file"},
		{0, "070701", 6, "is a cpio archive (an initramfs)"},
		{0x38, "ARM\x64", 4, "is an arm64 kernel (Image)"},
		{0x38, "RSC\x05", 4, "is a RISC-V kernel"},
		{0, "MZ\0\0zimg", 8, "compressed EFI kernel"},
		{0, "MZ\x90", 3, "is a DOS or Windows program"},
		{0, "\x27\x05\x19\x56", 4, "is a U-Boot image"},
		{0, "\xd0\x0d\xfe\xed", 4, "is a device tree"},
		{0, "QFI\xfb", 4, "is a qcow2 disk image"},
		{512, "EFI PART", 8, "is a disk image with a GPT"},
		{510, "\x55\xaa", 2, "is a disk image or boot sector"},
		{0x438, "\x53\xef", 2, "is an ext2/3/4 file system"},
		{0, "hsqs", 4, "is a squashfs file system"},
		{257, "ustar", 5, "is a tar archive"},
		{0, "PK\3\4", 4, "is a zip archive"},
		{0, "!<arch>\ndebian-binary", 21, "is a Debian package"},
		{0x8001, "CD001", 5, "is an ISO 9660 image"},
		{0, "\x12\x34\x56\x78", 4, "unknown format (its first bytes are 12 34 56 78)"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		expect_bytes(files[i].offset, files[i].bytes, files[i].len, 40000, files[i].text);
}

static void test_texts_are_named(void **state)
{
	static const char script[] = "#!/bin/sh\nexit 0\n", text[] = "a kernel, some day\n";
	static const char odd[] = "#!/bin/\033[2Jsh\n";

	(void)state;
	expect_bytes(0, script, strlen(script), strlen(script), "is a script (#!/bin/sh), not");
	expect_bytes(0, odd, strlen(odd), strlen(odd), "is a script (#!/bin/?[2Jsh)");
	expect_bytes(0, text, strlen(text), strlen(text), "is a text file");
}

static void test_efi_programs_are_named(void **state)
{
	uint8_t pe[512] = {'M', 'Z'};

	(void)state;
	pe[0x3c] = 0x80;
	memcpy(pe + 0x80, "PE\0\0\x64\x86\x02\0", 8);
	pe[0x80 + 20] = 0x70; /* the optional header's size */
	memcpy(pe + 0x80 + 24 + 0x70, ".osrel\0\0", 8);
	expect_bytes(0, pe, sizeof(pe), 4096, "is an EFI application (PE)");
	memcpy(pe + 0x80 + 24 + 0x70 + 40, ".linux\0\0", 8);
	expect_bytes(0, pe, sizeof(pe), 4096, "objcopy -O binary -j .linux");
	/* Headers that point out of the file. */
	memset(pe + 0x3c, 0xff, 4);
	expect_bytes(0, pe, sizeof(pe), 4096, "is a DOS or Windows program");
}

static void test_other_things_than_files_are_named(void **state)
{
	struct blob empty = {NULL, 0};
	char path[128], *file;

	(void)state;
	expect_error(dir, NULL, -EISDIR, "is a directory");
	expect_error("/dev/null", NULL, -EINVAL, "is a character device");
	snprintf(path, sizeof(path), "%s/none", dir);
	expect_error(path, NULL, -ENOENT, "No such file");
	snprintf(path, sizeof(path), "%s/fifo", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_error(path, NULL, -EINVAL, "is a pipe"); /* and does not wait for a writer */
	file = write_blob(dir, "empty", &empty);
	expect_error(file, NULL, -EINVAL, "is empty");
	free(file);
}

static void test_unreadable_file_has_a_remedy(void **state)
{
	struct blob b = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false});
	char *path = write_blob(dir, "unreadable", &b);

	(void)state;
	chmod(path, 0);
	if (geteuid() == 0 && seteuid(65534)) /* root reads everything */
		fail_msg("seteuid");
	chmod(dir, 0755);
	expect_error(path, NULL, -EACCES, "permission denied: make it readable");
	if (geteuid() == 65534)
		assert_int_equal(seteuid(0), 0);
	free(path);
	blob_free(&b);
}

/* ----- ELF ----- */

/* Writes a vmlinux with `len` bytes at `offset` changed. */
static void expect_elf(size_t offset, const void *bytes, size_t len, const char *text)
{
	struct blob b = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false});
	char *path;

	blob_put(&b, offset, bytes, len);
	path = write_blob(dir, "elf", &b);
	expect_error(path, NULL, -EINVAL, text);
	free(path);
	blob_free(&b);
}

static void expect_elf16(size_t offset, uint16_t value, const char *text)
{
	expect_elf(offset, &value, sizeof(value), text);
}

static void expect_elf64(size_t offset, uint64_t value, const char *text)
{
	expect_elf(offset, &value, sizeof(value), text);
}

#define PHDR(n, field) (sizeof(Elf64_Ehdr) + (n) * sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, field))

static void test_elf_of_another_kind_is_named(void **state)
{
	const uint8_t class32 = ELFCLASS32, big = ELFDATA2MSB;

	(void)state;
	expect_elf16(offsetof(Elf64_Ehdr, e_machine), EM_AARCH64, "is an ELF file for arm64");
	expect_elf16(offsetof(Elf64_Ehdr, e_machine), EM_386, "is an ELF file for 32-bit x86");
	expect_elf16(offsetof(Elf64_Ehdr, e_machine), 9999, "is an ELF file for another machine");
	expect_elf16(offsetof(Elf64_Ehdr, e_type), ET_REL, "object file (a kernel module?)");
	expect_elf16(offsetof(Elf64_Ehdr, e_type), ET_CORE, "is a core dump");
	expect_elf(EI_CLASS, &class32, 1, "is an ELF file for x86-64 x32");
	expect_elf(EI_DATA, &big, 1, "is a big-endian ELF file");
	expect_error("/proc/self/exe", NULL, -EINVAL, "is an ELF program, not a kernel");
}

/* By PVH, and by nothing else. */
static void test_elf_of_32_bits_needs_a_pvh_note(void **state)
{
	const struct {
		uint32_t name_len, desc_len, type;
		char name[4];
		uint32_t entry;
	} note = {4, 4, 18, "Xen", 0x100004};
	const Elf32_Ehdr header = {
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_386,
		.e_phoff = sizeof(header),
		.e_phentsize = sizeof(Elf32_Phdr),
		.e_phnum = 2,
	};
	const Elf32_Phdr load = {PT_LOAD, 0x1000, 0x100000, 0x100000, 4096, 8192, PF_X, 4096};
	Elf32_Phdr notes = {PT_NOTE, 0x800, 0, 0, sizeof(note), sizeof(note), PF_R, 4};
	struct blob b = {NULL, 0};
	struct boot_request request = {0};
	struct boot_files files;
	struct error e = {""};
	char *path;

	(void)state;
	blob_put(&b, 0, &header, sizeof(header));
	blob_put(&b, sizeof(header), &load, sizeof(load));
	blob_put(&b, sizeof(header) + sizeof(load), &notes, sizeof(notes));
	blob_put(&b, notes.p_offset, &note, sizeof(note));
	blob_put(&b, 0x2000, NULL, 0);
	path = write_blob(dir, "elf32", &b);
	request.kernel = path;
	if (boot_open(&files, &request, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(files.image->kernel->h.protocol, BOOT_PVH);
	assert_int_equal(files.image->kernel->h.base, 0x100000);
	assert_int_equal(files.image->kernel->h.span, 8192);
	assert_int_equal(files.image->kernel->h.entry, 4);
	assert_int_equal(files.image->kernel->h.foreign, 1);
	boot_close(&files);
	free(path);

	notes.p_filesz = 0;
	blob_put(&b, sizeof(header) + sizeof(load), &notes, sizeof(notes));
	path = write_blob(dir, "elf32", &b);
	expect_error(path, NULL, -EINVAL, "is an ELF file for 32-bit x86 without a PVH note");
	free(path);
	blob_free(&b);
}

static void test_broken_elf_is_refused(void **state)
{
	(void)state;
	expect_elf16(offsetof(Elf64_Ehdr, e_phnum), 0, "0 program headers");
	expect_elf16(offsetof(Elf64_Ehdr, e_phnum), 65, "65 program headers");
	expect_elf16(offsetof(Elf64_Ehdr, e_phentsize), 32, "of 32 bytes");
	expect_elf64(offsetof(Elf64_Ehdr, e_phoff), UINT64_MAX - 8, "no program headers");
	expect_elf64(offsetof(Elf64_Ehdr, e_entry), 0x12345, "entry point 0x12345");
	expect_elf64(PHDR(0, p_filesz), UINT64_MAX, "segment 0 is broken");
	expect_elf64(PHDR(0, p_paddr), UINT64_MAX - 4095, "segment 0 is broken");
	expect_elf64(PHDR(0, p_offset), UINT64_MAX - 4095, "is truncated: segment 0");
	expect_elf64(PHDR(0, p_offset), 1ull << 40, "is truncated: segment 0");
	expect_elf64(PHDR(1, p_paddr), VMLINUX_BASE + 4096, "segments 0 and 1 overlap");
	expect_elf64(PHDR(0, p_paddr), 0x1000, "loads at 0x1000: the first MiB");
	expect_elf64(PHDR(3, p_paddr), 1ull << 40, "MiB in memory");
	expect_elf64(PHDR(4, p_offset), 1ull << 40, "no notes");
}

static void test_elf_with_nothing_to_load_is_refused(void **state)
{
	struct blob b = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false});
	char *path;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		blob_put(&b, PHDR(i, p_memsz), &(uint64_t){0}, 8);
	path = write_blob(dir, "elf", &b);
	expect_error(path, NULL, -EINVAL, "nothing to load");
	free(path);
	b.len = 40;
	path = write_blob(dir, "elf", &b);
	expect_error(path, NULL, -EINVAL, "is a truncated ELF file");
	free(path);
	blob_free(&b);
}

static void test_program_without_notes_is_no_kernel(void **state)
{
	struct blob b = make_vmlinux(&(struct vmlinux_spec){.no_linux_note = true});
	char *path = write_blob(dir, "program", &b);

	(void)state;
	expect_error(path, NULL, -EINVAL, "is an ELF program, not a kernel");
	free(path);
	blob_free(&b);
}

/* Notes whose lengths lie, up to the largest: read without harm, and not believed. */
static void test_lying_notes_are_left_unread(void **state)
{
	static const uint32_t lengths[] = {UINT32_MAX, UINT32_MAX - 3, 0x7fffffff, 65536, 60};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
		for (size_t field = 0; field < 8; field += 4) {
			struct blob b = make_vmlinux(
				&(struct vmlinux_spec){.no_linux_note = true, .pvh_note = true});
			char *path;

			blob_put(&b, 0x310000 + field, &lengths[i], 4);
			path = write_blob(dir, "notes", &b);
			expect_error(path, NULL, -EINVAL, "is an ELF program, not a kernel");
			free(path);
			blob_free(&b);
		}
}

static void test_old_and_32_bit_kernels_are_named(void **state)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false});
	struct blob b = make_bzimage(&v, C_GZIP);

	(void)state;
	b.data[0x211] = 0;
	expect_bzimage(&b, -EINVAL, "is a zImage");
	b.data[0x211] = 1;
	b.data[0x236] = 0;
	expect_bzimage(&b, -EINVAL, "without a 64-bit entry");
	b.data[0x236] = 1;
	b.data[0x206] = 4;
	expect_bzimage(&b, -EINVAL, "boot protocol 2.04");
	b.data[0x206] = 15;
	b.len = BZIMAGE_SETUP_LEN;
	expect_bzimage(&b, -EINVAL, "is a truncated bzImage");
	b.len = 0x210; /* ends within the header */
	expect_bzimage(&b, -EINVAL, "is a zImage");
	blob_free(&b);
	blob_free(&v);
}

static void test_broken_code_is_refused(void **state)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false});
	struct blob b = make_bzimage(&v, C_LZO);

	(void)state;
	blob_put(&b, 0x260, &(uint32_t){4096}, 4); /* init_size */
	expect_bzimage(&b, -EINVAL, "is a broken bzImage");
	blob_put(&b, 0x260, &(uint32_t){UINT32_MAX}, 4);
	expect_bzimage(&b, -EINVAL, "is a broken bzImage");
	blob_put(&b, 0x260, &(uint32_t){VMLINUX_SPAN + (4 << 20)}, 4);
	blob_put(&b, 0x258, &(uint64_t){UINT64_MAX}, 8); /* pref_address */
	expect_bzimage(&b, -EINVAL, "is a broken bzImage");
	blob_free(&b);
	blob_free(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_other_files_are_named),
		cmocka_unit_test(test_texts_are_named),
		cmocka_unit_test(test_efi_programs_are_named),
		cmocka_unit_test(test_other_things_than_files_are_named),
		cmocka_unit_test(test_unreadable_file_has_a_remedy),
		cmocka_unit_test(test_elf_of_another_kind_is_named),
		cmocka_unit_test(test_elf_of_32_bits_needs_a_pvh_note),
		cmocka_unit_test(test_broken_elf_is_refused),
		cmocka_unit_test(test_elf_with_nothing_to_load_is_refused),
		cmocka_unit_test(test_program_without_notes_is_no_kernel),
		cmocka_unit_test(test_lying_notes_are_left_unread),
		cmocka_unit_test(test_old_and_32_bit_kernels_are_named),
		cmocka_unit_test(test_broken_code_is_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
