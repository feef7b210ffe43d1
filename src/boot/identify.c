// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a file is, so that a message can say so when it is no kernel or no initrd.
 */
#include <ctype.h>
#include <elf.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/magic.h"
#include "base/util.h"
#include "image.h"

#define HEAD_LEN 4096u

/* `hint` may be NULL. */
__attribute__((format(printf, 4, 5))) static void
set(struct file_identity *ret, enum file_type type, const char *hint, const char *what, ...)
{
	va_list ap;

	ret->type = type;
	va_start(ap, what);
	vsnprintf(ret->what, sizeof(ret->what), what, ap);
	va_end(ap);
	snprintf(ret->hint, sizeof(ret->hint), "%s", hint ? hint : "");
}

#define PACKED(magic, what, tool)                                                                  \
	{                                                                                          \
		0, sizeof(magic) - 1, magic, FILE_MAYBE_INITRD, what,                              \
			"unpack a kernel with " tool "; an initramfs goes to --initrd"             \
	}

/* More than one byte order and layout hides behind "MZ", so this comes after what is told apart
 * better. First match wins. */
static const struct magic {
	uint32_t offset;
	uint32_t len;
	const char *bytes;
	enum file_type type;
	const char *what, *hint;
} magics[] = {
	{0x38, 4, "ARM\x64", FILE_OTHER, "an arm64 kernel (Image)", "skep runs x86-64 kernels"},
	{0x38, 4, "RSC\x05", FILE_OTHER, "a RISC-V kernel (Image)", "skep runs x86-64 kernels"},
	{4, 4, "zimg", FILE_OTHER, "a compressed EFI kernel of another architecture",
	 "skep runs x86-64 kernels"},
	{0, 6, "070701", FILE_MAYBE_INITRD, "a cpio archive (an initramfs)", NULL},
	{0, 6, "070702", FILE_MAYBE_INITRD, "a cpio archive (an initramfs)", NULL},
	PACKED(MAGIC_GZIP, "a gzip file", "zcat"),
	PACKED(MAGIC_ZSTD, "a zstd file", "zstdcat"),
	PACKED(MAGIC_XZ, "an xz file", "xzcat"),
	PACKED(MAGIC_BZIP2, "a bzip2 file", "bzcat"),
	PACKED(MAGIC_LZ4_LEGACY, "an LZ4 file (legacy format)", "lz4cat"),
	PACKED(MAGIC_LZ4, "an LZ4 file", "lz4cat"),
	PACKED(MAGIC_LZO, "an LZO file", "lzop -dc"),
	PACKED(MAGIC_LZMA, "an LZMA file", "lzcat"),
	{0, 4, "\x27\x05\x19\x56", FILE_OTHER, "a U-Boot image",
	 "skep takes the x86-64 bzImage or vmlinux it was made of"},
	{0, 4, "\xd0\x0d\xfe\xed", FILE_OTHER, "a device tree or FIT image",
	 "skep takes an x86-64 bzImage or vmlinux"},
	{0, 4, "QFI\xfb", FILE_OTHER, "a qcow2 disk image",
	 "a disk goes to --disk, as a raw image (qemu-img convert -O raw)"},
	{512, 8, "EFI PART", FILE_OTHER, "a disk image with a GPT", "a disk goes to --disk"},
	{0x438, 2, "\x53\xef", FILE_MAYBE_INITRD, "an ext2/3/4 file system",
	 "a disk goes to --disk"},
	{0, 4, "hsqs", FILE_MAYBE_INITRD, "a squashfs file system", "a disk goes to --disk"},
	{0, 4, "XFSB", FILE_OTHER, "an XFS file system", "a disk goes to --disk"},
	{257, 5, "ustar", FILE_OTHER, "a tar archive", "unpack it first"},
	{0, 4, "PK\3\4", FILE_OTHER, "a zip archive", "unpack it first"},
	{0, 14, "!<arch>\ndebian", FILE_OTHER, "a Debian package",
	 "unpack it first (dpkg-deb -x); the kernel is boot/vmlinuz-*"},
	{0, 4, "\xed\xab\xee\xdb", FILE_OTHER, "an RPM package", "unpack it first (rpm2cpio)"},
};

static const char *machine_name(uint16_t machine)
{
	static const struct {
		uint16_t machine;
		const char *name;
	} names[] = {
		{EM_386, "32-bit x86"}, {EM_AARCH64, "arm64"},	   {EM_ARM, "32-bit ARM"},
		{EM_RISCV, "RISC-V"},	{EM_PPC64, "POWER"},	   {EM_S390, "S/390"},
		{EM_MIPS, "MIPS"},	{258, "LoongArch"},	   {EM_SPARCV9, "SPARC"},
		{EM_PPC, "PowerPC"},	{EM_X86_64, "x86-64 x32"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].machine == machine)
			return names[i].name;
	return "another machine";
}

static void identify_elf(const uint8_t *head, struct file_identity *ret)
{
	static const char hint[] = "skep runs x86-64 kernels";
	Elf64_Ehdr h; /* e_type and e_machine lie where the 32-bit header has them */

	memcpy(&h, head, sizeof(h));
	if (h.e_ident[EI_DATA] != ELFDATA2LSB)
		set(ret, FILE_OTHER, hint, "a big-endian ELF file");
	else if (!(h.e_machine == EM_X86_64 && h.e_ident[EI_CLASS] == ELFCLASS64) &&
		 !(h.e_machine == EM_386 && h.e_ident[EI_CLASS] == ELFCLASS32))
		set(ret, FILE_OTHER, hint, "an ELF file for %s", machine_name(h.e_machine));
	else if (h.e_type == ET_REL)
		set(ret, FILE_OTHER, NULL, "an ELF object file (a kernel module?)");
	else if (h.e_type == ET_CORE)
		set(ret, FILE_OTHER, NULL, "a core dump");
	else
		set(ret, FILE_ELF, NULL, "%s ELF file",
		    h.e_machine == EM_386 ? "a 32-bit x86" : "an x86-64");
}

/* An EFI program: a unified kernel image has its kernel in a section, which can be taken out. */
static void identify_pe(const struct image_source *src, const uint8_t *head,
			struct file_identity *ret)
{
	uint8_t pe[24], name[8];
	uint32_t at, sections;

	set(ret, FILE_OTHER, NULL, "a DOS or Windows program");
	memcpy(&at, head + 0x3c, sizeof(at));
	if (image_source_read(src, at, pe, sizeof(pe)) || memcmp(pe, "PE\0", 4))
		return;
	set(ret, FILE_OTHER, "skep has no firmware: it takes a bzImage or vmlinux",
	    "an EFI application (PE)");
	sections = at + 24u + (uint32_t)(pe[20] | pe[21] << 8);
	for (unsigned i = 0; i < (unsigned)(pe[6] | pe[7] << 8) && i < 96; i++) {
		if (image_source_read(src, sections + i * 40u, name, sizeof(name)))
			return;
		if (!memcmp(name, ".linux\0", 8)) {
			set(ret, FILE_OTHER,
			    "take the kernel out: objcopy -O binary -j .linux FILE vmlinuz "
			    "(and -j .initrd)",
			    "a unified kernel image (EFI)");
			return;
		}
	}
}

static void identify_text(const uint8_t *head, size_t len, struct file_identity *ret)
{
	size_t n = strcspn((const char *)head, "\n");

	if (len > 2 && !memcmp(head, "#!", 2)) {
		set(ret, FILE_OTHER, NULL, "a script (%.*s)", (int)MIN(n, 60u), head);
		text_clean(ret->what);
		return;
	}
	for (size_t i = 0; i < len; i++)
		if (!isprint(head[i]) && !isspace(head[i]))
			return;
	set(ret, FILE_OTHER, NULL, "a text file");
}

static bool is_iso(const struct image_source *src)
{
	char id[5];

	return !image_source_read(src, 0x8001, id, sizeof(id)) && !memcmp(id, "CD001", sizeof(id));
}

void image_identify(const struct image_source *src, struct file_identity *ret)
{
	uint8_t head[HEAD_LEN + 1] = {0};
	size_t len = MIN(src->size, HEAD_LEN);

	set(ret, FILE_OTHER, NULL, "%s", len ? "" : "empty");
	if (!len)
		return;
	if (image_source_read(src, 0, head, len))
		len = 0;
	if (is_bzimage(head)) {
		set(ret, FILE_BZIMAGE, NULL, "a Linux kernel (bzImage)");
		return;
	}
	if (!memcmp(head, ELFMAG, SELFMAG)) {
		identify_elf(head, ret);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
		const struct magic *m = &magics[i];

		if (m->offset + m->len <= len && !memcmp(head + m->offset, m->bytes, m->len)) {
			set(ret, m->type, m->hint, "%s", m->what);
			return;
		}
	}
	if (!memcmp(head, "MZ", 2)) {
		identify_pe(src, head, ret);
		return;
	}
	identify_text(head, len, ret);
	if (ret->what[0])
		return;
	if (is_iso(src))
		set(ret, FILE_OTHER, "a disk goes to --disk", "an ISO 9660 image");
	else if (head[0x1fe] == 0x55 && head[0x1ff] == 0xaa)
		set(ret, FILE_OTHER, "a disk goes to --disk", "a disk image or boot sector");
	else
		set(ret, FILE_MAYBE_INITRD, NULL,
		    "of an unknown format (its first bytes are %02x %02x %02x %02x)", head[0],
		    head[1], head[2], head[3]);
}
