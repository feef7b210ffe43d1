// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a file is, so that a message can say so when it is no kernel or no initrd.
 */
#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "image.h"
#include "kvm/layout.h"

#define HEAD_LEN 4096u

/* boot.rst, "64-bit boot protocol": from the load address. */
#define BZIMAGE_ENTRY 0x200u

int image_source_read(const struct image_source *src, uint64_t offset, void *buf, size_t len)
{
	ssize_t n;

	if (offset > src->size || len > src->size - offset)
		return -ENODATA;
	if (src->mem) {
		memcpy(buf, src->mem + offset, len);
		return 0;
	}
	n = pread_full(src->fd, buf, len, offset);
	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -ENODATA;
}

static void set(struct file_identity *ret, enum file_type type, const char *what, const char *hint)
{
	ret->type = type;
	snprintf(ret->what, sizeof(ret->what), "%s", what);
	snprintf(ret->hint, sizeof(ret->hint), "%s", hint ? hint : "");
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
	{0, 2, "\x1f\x8b", FILE_MAYBE_INITRD, "a gzip file",
	 "a kernel in it can be had with zcat; an initramfs goes to --initrd"},
	{0, 4, "\x28\xb5\x2f\xfd", FILE_MAYBE_INITRD, "a zstd file",
	 "a kernel in it can be had with zstdcat; an initramfs goes to --initrd"},
	{0, 6,
	 "\xfd"
	 "7zXZ",
	 FILE_MAYBE_INITRD, "an xz file",
	 "a kernel in it can be had with xzcat; an initramfs goes to --initrd"},
	{0, 3, "BZh", FILE_MAYBE_INITRD, "a bzip2 file",
	 "a kernel in it can be had with bzcat; an initramfs goes to --initrd"},
	{0, 4, "\x02\x21\x4c\x18", FILE_MAYBE_INITRD, "an LZ4 file (legacy format)",
	 "a kernel in it can be had with lz4cat; an initramfs goes to --initrd"},
	{0, 4, "\x04\x22\x4d\x18", FILE_MAYBE_INITRD, "an LZ4 file",
	 "a kernel in it can be had with lz4cat; an initramfs goes to --initrd"},
	{0, 4, "\x89LZO", FILE_MAYBE_INITRD, "an LZO file",
	 "a kernel in it can be had with lzop -dc; an initramfs goes to --initrd"},
	{0, 3, "\x5d\0\0", FILE_MAYBE_INITRD, "an LZMA file",
	 "a kernel in it can be had with lzcat; an initramfs goes to --initrd"},
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
	Elf64_Ehdr h; /* e_type and e_machine lie where the 32-bit header has them */

	memcpy(&h, head, sizeof(h));
	set(ret, FILE_OTHER, "", "skep runs x86-64 kernels");
	if (h.e_ident[EI_DATA] != ELFDATA2LSB)
		snprintf(ret->what, sizeof(ret->what), "a big-endian ELF file");
	else if (!(h.e_machine == EM_X86_64 && h.e_ident[EI_CLASS] == ELFCLASS64) &&
		 !(h.e_machine == EM_386 && h.e_ident[EI_CLASS] == ELFCLASS32))
		snprintf(ret->what, sizeof(ret->what), "an ELF file for %s",
			 machine_name(h.e_machine));
	else if (h.e_type == ET_REL)
		set(ret, FILE_OTHER, "an ELF object file (a kernel module?)", NULL);
	else if (h.e_type == ET_CORE)
		set(ret, FILE_OTHER, "a core dump", NULL);
	else
		set(ret, FILE_ELF,
		    h.e_machine == EM_386 ? "a 32-bit x86 ELF file" : "an x86-64 ELF file", NULL);
}

/* An EFI program: a unified kernel image has its kernel in a section, which can be taken out. */
static void identify_pe(const struct image_source *src, const uint8_t *head,
			struct file_identity *ret)
{
	uint8_t pe[24], name[8];
	uint32_t at, sections;

	set(ret, FILE_OTHER, "a DOS or Windows program", NULL);
	memcpy(&at, head + 0x3c, sizeof(at));
	if (image_source_read(src, at, pe, sizeof(pe)) || memcmp(pe, "PE\0", 4))
		return;
	set(ret, FILE_OTHER, "an EFI application (PE)",
	    "skep has no firmware: it takes a bzImage or vmlinux");
	sections = at + 24u + (uint32_t)(pe[20] | pe[21] << 8);
	for (unsigned i = 0; i < (unsigned)(pe[6] | pe[7] << 8) && i < 96; i++) {
		if (image_source_read(src, sections + i * 40u, name, sizeof(name)))
			return;
		if (!memcmp(name, ".linux\0", 8)) {
			set(ret, FILE_OTHER, "a unified kernel image (EFI)",
			    "take the kernel out: objcopy -O binary -j .linux FILE vmlinuz "
			    "(and -j .initrd)");
			return;
		}
	}
}

static void identify_text(const uint8_t *head, size_t len, struct file_identity *ret)
{
	size_t n = strcspn((const char *)head, "\n");

	if (len > 2 && !memcmp(head, "#!", 2)) {
		set(ret, FILE_OTHER, "", NULL);
		snprintf(ret->what, sizeof(ret->what), "a script (%.*s)", (int)MIN(n, 60u), head);
		for (char *c = ret->what; *c; c++)
			if (!isprint((unsigned char)*c))
				*c = '?';
		return;
	}
	for (size_t i = 0; i < len; i++)
		if (!isprint(head[i]) && !isspace(head[i]))
			return;
	set(ret, FILE_OTHER, "a text file", NULL);
}

static bool is_iso(const struct image_source *src)
{
	char id[5];

	return !image_source_read(src, 0x8001, id, sizeof(id)) && !memcmp(id, "CD001", sizeof(id));
}

static bool has_setup_header(const uint8_t *head)
{
	return head[0x1fe] == 0x55 && head[0x1ff] == 0xaa && !memcmp(head + 0x202, "HdrS", 4);
}

void image_identify(const struct image_source *src, struct file_identity *ret)
{
	uint8_t head[HEAD_LEN + 1] = {0};
	size_t len = MIN(src->size, HEAD_LEN);

	set(ret, FILE_OTHER, "empty", NULL);
	if (!len)
		return;
	set(ret, FILE_OTHER, "", NULL);
	if (image_source_read(src, 0, head, len))
		len = 0;
	if (has_setup_header(head)) {
		set(ret, FILE_BZIMAGE, "a Linux kernel (bzImage)", NULL);
		return;
	}
	if (!memcmp(head, ELFMAG, SELFMAG)) {
		identify_elf(head, ret);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
		const struct magic *m = &magics[i];

		if (m->offset + m->len <= len && !memcmp(head + m->offset, m->bytes, m->len)) {
			set(ret, m->type, m->what, m->hint);
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
		set(ret, FILE_OTHER, "an ISO 9660 image", "a disk goes to --disk");
	else if (head[0x1fe] == 0x55 && head[0x1ff] == 0xaa)
		set(ret, FILE_OTHER, "a disk image or boot sector", "a disk goes to --disk");
	else {
		ret->type = FILE_MAYBE_INITRD;
		snprintf(ret->what, sizeof(ret->what),
			 "of an unknown format (its first bytes are %02x %02x %02x %02x)", head[0],
			 head[1], head[2], head[3]);
	}
}

int bzimage_header(const struct image_source *src, struct setup_header *ret, struct error *e)
{
	uint8_t head[0x1f1 + sizeof(*ret)] = {0};
	size_t len;

	memset(ret, 0, sizeof(*ret));
	if (image_source_read(src, 0, head, MIN(src->size, sizeof(head))) ||
	    !has_setup_header(head))
		return error_set(e, -EINVAL, "is not a bzImage");
	/* The jump over the header says where it ends (boot.rst, "jump"). */
	len = 0x202u + head[0x201] - 0x1f1u;
	memcpy(ret, head + 0x1f1, MIN(len, sizeof(*ret)));
	if (!ret->setup_sects)
		ret->setup_sects = 4;
	if (!(ret->loadflags & LOADED_HIGH))
		return error_set(e, -EINVAL, "is a zImage: skep takes a bzImage or vmlinux");
	if (ret->version < 0x20c || !(ret->xloadflags & XLF_KERNEL_64))
		return error_set(e, -EINVAL,
				 "is a bzImage (boot protocol %u.%02u) without a 64-bit entry: a "
				 "32-bit kernel, or one older than Linux 3.8; skep runs x86-64 "
				 "kernels",
				 ret->version >> 8, ret->version & 0xffu);
	if (bzimage_code_offset(ret) >= src->size)
		return error_set(e, -EINVAL,
				 "is a truncated bzImage: its code begins at byte %llu of %llu",
				 (unsigned long long)bzimage_code_offset(ret),
				 (unsigned long long)src->size);
	return 0;
}

uint64_t bzimage_code_offset(const struct setup_header *h)
{
	return (h->setup_sects + 1u) * 512ull;
}

int image_from_bzimage(const struct image_source *src, struct kernel_image **ret, struct error *e)
{
	struct setup_header setup;
	struct kernel_image *image;
	uint64_t start, len;
	int r;

	r = bzimage_header(src, &setup, e);
	if (r)
		return r;
	start = bzimage_code_offset(&setup);
	len = MIN(src->size - start, setup.syssize * 16ull);
	if (len <= BZIMAGE_ENTRY || setup.init_size < len || setup.init_size > IMAGE_MAX_SPAN ||
	    setup.pref_address < LAYOUT_HIGH_RAM || setup.pref_address > GMEM_HOLE_START)
		return error_set(e, -EINVAL,
				 "is a broken bzImage: %llu bytes of code, to run in %u bytes at "
				 "0x%llx",
				 (unsigned long long)len, setup.init_size,
				 (unsigned long long)setup.pref_address);
	image = calloc(1, sizeof(*image) + sizeof(image->piece[0]));
	if (!image)
		return error_set(e, -ENOMEM, "out of memory");
	image->h = (struct image_header){
		.magic = IMAGE_MAGIC,
		.base = setup.pref_address,
		.span = setup.init_size,
		.entry = BZIMAGE_ENTRY,
		.protocol = BOOT_LINUX64,
		.num_pieces = 1,
		.unpacks = 1,
		.setup_len = sizeof(setup),
	};
	memcpy(image->h.setup, &setup, sizeof(setup));
	image->piece[0] = (struct image_piece){
		.file_offset = start,
		.len = (uint32_t)len,
		.kind = PIECE_DATA,
	};
	*ret = image;
	return 0;
}
