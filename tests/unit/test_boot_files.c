// SPDX-License-Identifier: BSD-2-Clause
/* Files that are no kernels and no initrds: each is refused with a message that says what it is. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "boot/boot.h"
#include "boot/image.h"
#include "child.h"
#include "kernels.h"

static char dir[] = "/tmp/test-boot-files-XXXXXX";

static void expect_open_error(const char *kernel, char *const *initrds, int code, const char *text)
{
	const struct boot_request request = {.kernel = kernel, .initrds = initrds};
	struct error e = {""};
	struct boot_files files;
	int r = boot_open(&files, &request, &e);

	if (r != code || !strstr(e.msg, text))
		fail_msg("%s: %d \"%s\" instead of %d \"...%s...\"",
			 initrds[0] ? initrds[0] : kernel, r, e.msg, code, text);
	if (!initrds[0] || !initrds[1])
		assert_non_null(strstr(e.msg, initrds[0] ? initrds[0] : kernel));
	assert_null(files.image);
	boot_close(&files);
}

static void expect_error(const char *kernel, const char *initrd, int code, const char *text)
{
	char *const initrds[] = {(char *)(uintptr_t)initrd, NULL};

	expect_open_error(kernel, initrds, code, text);
}

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

/* ----- bzImage ----- */

static void expect_bzimage(struct blob *b, int code, const char *text)
{
	char *path = write_blob(dir, "bzimage", b);

	expect_error(path, NULL, code, text);
	free(path);
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

/* For each compression: damage, a cut, sizes that lie, and a bomb. */
static void test_damaged_payloads_are_refused(void **state)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false});

	(void)state;
	for (enum compression how = 0; how < C_LZO; how++) {
		struct blob b = make_bzimage(&v, how);
		size_t start = BZIMAGE_SETUP_LEN + BZIMAGE_PAYLOAD_OFFSET;
		uint32_t len, size;

		memcpy(&len, b.data + 0x24c, 4);
		if (how == C_GZIP || how == C_BZIP2 || how == C_XZ) { /* the others have no sum */
			b.data[start + len / 2] ^= 0x10;
			expect_bzimage(&b, -EBADMSG, "is damaged: its payload");
			b.data[start + len / 2] ^= 0x10;
		}

		memcpy(&size, b.data + start + len - 4, 4);
		size--;
		blob_put(&b, start + len - 4, &size, 4);
		expect_bzimage(&b, -EBADMSG, "is damaged: its payload");
		size += 2;
		blob_put(&b, start + len - 4, &size, 4);
		expect_bzimage(&b, -EBADMSG, "is damaged: its payload");
		size = UINT32_MAX;
		blob_put(&b, start + len - 4, &size, 4);
		expect_bzimage(&b, -EBADMSG, "claims to unpack to 4095 MiB");
		size = 0;
		blob_put(&b, start + len - 4, &size, 4);
		expect_bzimage(&b, -EBADMSG, "is damaged");

		b.len -= 4096;
		expect_bzimage(&b, -EBADMSG, "is truncated: its payload ends at byte");
		blob_free(&b);
	}
	blob_free(&v);
}

static void test_payload_that_is_no_kernel_is_refused(void **state)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false}), b;

	(void)state;
	v.data[0] = 0;
	b = make_bzimage(&v, C_LZ4);
	expect_bzimage(&b, -EBADMSG, "its payload is of an unknown format");
	blob_free(&b);
	v.data[0] = 0x7f;
	v.len = 0x200000;
	b = make_bzimage(&v, C_ZSTD);
	expect_bzimage(&b, -EBADMSG, "is damaged: its payload: is a truncated ELF file");
	blob_free(&b);
	blob_free(&v);
}

/* ----- initrd ----- */

static void expect_initrd(const char *kernel, const void *bytes, size_t len, const char *text)
{
	struct blob b = {NULL, 0};
	char *path;

	blob_put(&b, 0, bytes, len);
	path = write_blob(dir, "initrd", &b);
	if (text) {
		expect_error(kernel, path, -EINVAL, text);
	} else {
		char *const initrds[] = {path, NULL};
		const struct boot_request request = {.kernel = kernel, .initrds = initrds};
		struct boot_files files;
		struct error e = {""};

		if (boot_open(&files, &request, &e))
			fail_msg("%s", e.msg);
		assert_int_equal(files.image->initrd_size, len);
		boot_close(&files);
	}
	free(path);
	blob_free(&b);
}

static void test_initrds(void **state)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false});
	struct blob b = make_bzimage(&v, C_GZIP);
	char *kernel = write_blob(dir, "vmlinux", &v);
	char path[128];

	(void)state;
	expect_initrd(kernel, "070701", 6, NULL);
	expect_initrd(kernel, "\x1f\x8b\x08", 3, NULL);
	expect_initrd(kernel, "\x28\xb5\x2f\xfd", 4, NULL);
	expect_initrd(kernel, "\x01\x02\x03\x04", 4, NULL);
	expect_initrd(kernel, "", 0, "is empty, not an initramfs");
	expect_initrd(kernel, "#!/bin/sh\n", 10, "is a script");
	expect_initrd(kernel, b.data, b.len,
		      "is a Linux kernel (bzImage), not an initramfs: a kernel goes to --kernel");
	expect_initrd(kernel, v.data, v.len, "is an x86-64 ELF file, not an initramfs: a kernel");
	expect_error(kernel, dir, -EISDIR, "is a directory");
	snprintf(path, sizeof(path), "%s/none", dir);
	expect_error(kernel, path, -ENOENT, "No such file");
	free(kernel);
	blob_free(&b);
	blob_free(&v);
}

static uint64_t initrd_of(const char *kernel, char *const *initrds, uint8_t *ret, size_t max)
{
	const struct boot_request request = {.kernel = kernel, .initrds = initrds};
	struct boot_files files;
	struct error e = {""};
	uint64_t size;

	if (boot_open(&files, &request, &e))
		fail_msg("%s", e.msg);
	size = files.image->initrd_size;
	assert_int_equal(pread_full(files.initrd_fd, ret, max, 0), size);
	boot_close(&files);
	return size;
}

/* Microcode first: each begins at a multiple of four bytes. */
static void test_several_initrds_follow_each_other(void **state)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false});
	char *kernel = write_blob(dir, "vmlinux", &v), *paths[4] = {NULL};
	static const char *const names[] = {"first", "second", "third"};
	static const char *const content[] = {"070701first", "\x1f\x8b\x08", "070701x"};
	uint8_t all[64];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct blob b = {NULL, 0};

		blob_put(&b, 0, content[i], strlen(content[i]));
		paths[i] = write_blob(dir, names[i], &b);
		blob_free(&b);
	}
	assert_int_equal(initrd_of(kernel, paths, all, sizeof(all)), 23);
	assert_memory_equal(all,
			    "070701first\0\x1f\x8b\x08\0"
			    "070701x",
			    23);
	unlink(paths[2]);
	expect_open_error(kernel, paths, -ENOENT, paths[2]);
	for (size_t i = 0; i < 3; i++)
		free(paths[i]);
	free(kernel);
	blob_free(&v);
}

/* A pipe that holds the blob; its writer goes on writing what does not fit. */
static pid_t pipe_of(const struct blob *b, char path[32], int *ret_fd)
{
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(write_full(fds[1], b->data, b->len) < 0);
	close(fds[1]);
	snprintf(path, 32, "/proc/self/fd/%d", fds[0]);
	*ret_fd = fds[0];
	return pid;
}

/* -k <(...) -i <(...) */
static void test_kernel_and_initrd_come_by_pipes(void **state)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){.relocs = RELOCS_NONE});
	struct blob kernel = make_bzimage(&v, C_LZ4), initrd = {NULL, 0};
	char kernel_path[32], initrd_path[32], *initrds[] = {initrd_path, NULL};
	int kernel_fd, initrd_fd, status;
	pid_t writers[2];
	uint8_t *got = malloc(MIB);

	(void)state;
	blob_put(&initrd, 0, "070701", 6);
	blob_put(&initrd, 500000, "end", 3);
	writers[0] = pipe_of(&kernel, kernel_path, &kernel_fd);
	writers[1] = pipe_of(&initrd, initrd_path, &initrd_fd);
	assert_int_equal(initrd_of(kernel_path, initrds, got, MIB), initrd.len);
	assert_memory_equal(got, initrd.data, initrd.len);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(waitpid(writers[i], &status, 0), writers[i]);
		assert_int_equal(status, 0);
	}
	close(kernel_fd);
	close(initrd_fd);
	free(got);
	blob_free(&v);
	blob_free(&kernel);
	blob_free(&initrd);
}

/* ----- a host on which it cannot be unpacked: the guest does it ----- */

static void expect_left_to_guest(const char *why)
{
	struct vmlinux_spec spec = {.relocs = RELOCS_3_TABLES};
	struct blob v = make_vmlinux(&spec), b = make_bzimage(&v, C_LZ4);
	char *path = write_blob(dir, "poor", &b), log[512] = "";
	const struct boot_request request = {.kernel = path};
	FILE *said = tmpfile();
	struct error e = {""};
	struct boot_files files;

	dup2(fileno(said), 2);
	log_set_level(LOG_WARN);
	assert_int_equal(boot_open(&files, &request, &e), 0);
	assert_true(files.image->kernel->h.unpacks);
	assert_int_equal(files.cache_fd, -1);
	rewind(said);
	assert_non_null(fgets(log, sizeof(log), said));
	assert_non_null(strstr(log, why));
	assert_non_null(strstr(log, "; the guest unpacks it"));
	assert_null(fgets(log, sizeof(log), said));
	boot_close(&files);
	unlink(path);
	free(path);
	blob_free(&b);
	blob_free(&v);
}

/* The process that unpacks dies, of whatever: here at its first system call. */
static int kill_the_child(const char *arg)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_prctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_PDEATHSIG, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	(void)arg;
	assert_int_equal(filter_install(code, ARRAY_SIZE(code)), 0);
	expect_left_to_guest("died (signal 31)");
	return 0;
}

static int deny_fork(const char *arg)
{
	struct rlimit none = {0, 0};

	(void)arg;
	if (geteuid() == 0) {
		assert_int_equal(chmod(dir, 0777), 0);
		assert_int_equal(setgid(65533), 0);
		assert_int_equal(setuid(65533), 0);
	}
	assert_int_equal(setrlimit(RLIMIT_NPROC, &none), 0);
	expect_left_to_guest("cannot fork: ");
	return 0;
}

static void test_unpacking_that_dies_is_left_to_the_guest(void **state)
{
	(void)state;
	assert_int_equal(in_child(kill_the_child, NULL), 0);
}

static void test_without_processes_it_is_left_to_the_guest(void **state)
{
	(void)state;
	assert_int_equal(in_child(deny_fork, NULL), 0);
}

static int open_with_ignored_children(const char *arg)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false});
	struct blob b = make_bzimage(&v, C_LZ4);
	char *path = write_blob(dir, "ignored", &b);
	const struct boot_request request = {.kernel = path};
	struct boot_files files;

	(void)arg;
	signal(SIGCHLD, SIG_IGN); /* as who started us may have had it */
	assert_int_equal(boot_open(&files, &request, NULL), 0);
	assert_true(files.cache_fd >= 0);
	boot_close(&files);
	return 0;
}

static void test_ignored_sigchld_is_no_harm(void **state)
{
	(void)state;
	assert_int_equal(in_child(open_with_ignored_children, NULL), 0);
}

static int setup(void **state)
{
	(void)state;
	log_set_level(LOG_ERROR);
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
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
		cmocka_unit_test(test_damaged_payloads_are_refused),
		cmocka_unit_test(test_payload_that_is_no_kernel_is_refused),
		cmocka_unit_test(test_initrds),
		cmocka_unit_test(test_several_initrds_follow_each_other),
		cmocka_unit_test(test_kernel_and_initrd_come_by_pipes),
		cmocka_unit_test(test_unpacking_that_dies_is_left_to_the_guest),
		cmocka_unit_test(test_without_processes_it_is_left_to_the_guest),
		cmocka_unit_test(test_ignored_sigchld_is_no_harm),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
