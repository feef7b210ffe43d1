// SPDX-License-Identifier: BSD-2-Clause
/*
 * ELF kernels: which pieces of the file go where, and how the kernel is entered.
 *
 * A Linux kernel is recognised by its notes and entered by the 64-bit boot protocol. Others with a
 * PVH note, of 64 or 32 bits, are entered by PVH. A file with neither that is linked where it is
 * loaded is entered by Linux's protocol, as by other monitors, unless it looks like a program.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "image.h"
#include "kvm/layout.h"

#define MAX_SEGMENTS 64u
#define MAX_SECTIONS 4096u
#define MAX_NOTES    (64u << 10) /* bytes */

/* The top 2 GiB, where x86-64 kernels are linked to run (Linux: __START_KERNEL_map). */
#define KERNEL_MAP 0xffffffff80000000ull

/* xen/include/public/elfnote.h */
#define NOTE_XEN_GUEST_OS     6u
#define NOTE_XEN_PHYS32_ENTRY 18u

struct elf {
	Elf64_Ehdr ehdr;
	Elf64_Phdr phdr[MAX_SEGMENTS], load[MAX_SEGMENTS];
	unsigned num_phdrs, num_loads; /* `load`: those that occupy memory */
	bool is_32;
	bool is_linux;
	bool is_program; /* of some operating system */
	bool pvh;
	uint64_t pvh_entry;
};

/* The headers of 32-bit files, as those of 64 bits have them. */
static void widen_header(Elf64_Ehdr *ret, const Elf32_Ehdr *h)
{
	ret->e_entry = h->e_entry;
	ret->e_phoff = h->e_phoff;
	ret->e_phentsize = h->e_phentsize;
	ret->e_phnum = h->e_phnum;
}

static int read_wide_phdrs(const struct image_source *src, struct elf *ret)
{
	Elf32_Phdr p[MAX_SEGMENTS];
	int r = image_source_read(src, ret->ehdr.e_phoff, p, ret->ehdr.e_phnum * sizeof(p[0]));

	for (unsigned i = 0; !r && i < ret->ehdr.e_phnum; i++)
		ret->phdr[i] = (Elf64_Phdr){
			.p_type = p[i].p_type,
			.p_offset = p[i].p_offset,
			.p_vaddr = p[i].p_vaddr,
			.p_paddr = p[i].p_paddr,
			.p_filesz = p[i].p_filesz,
			.p_memsz = p[i].p_memsz,
			.p_align = p[i].p_align,
		};
	return r;
}

static int read_headers(const struct image_source *src, struct elf *ret, struct error *e)
{
	Elf64_Ehdr *h = &ret->ehdr;
	Elf32_Ehdr narrow;
	size_t size;
	int r;

	r = image_source_read(src, 0, h, sizeof(*h));
	if (r)
		return error_set(e, -EINVAL, "is a truncated ELF file");
	ret->is_32 = h->e_ident[EI_CLASS] == ELFCLASS32;
	size = ret->is_32 ? sizeof(Elf32_Phdr) : sizeof(Elf64_Phdr);
	if (ret->is_32) {
		memcpy(&narrow, h, sizeof(narrow));
		widen_header(h, &narrow);
	}
	if (h->e_phentsize != size || !h->e_phnum || h->e_phnum > MAX_SEGMENTS)
		return error_set(e, -EINVAL, "is an ELF file with %u program headers of %u bytes",
				 h->e_phnum, h->e_phentsize);
	r = ret->is_32 ? read_wide_phdrs(src, ret)
		       : image_source_read(src, h->e_phoff, ret->phdr, h->e_phnum * size);
	if (r)
		return error_set(e, -EINVAL, "is a truncated ELF file: no program headers");
	ret->num_phdrs = h->e_phnum;
	return 0;
}

static void read_note(struct elf *elf, const Elf64_Nhdr *note, const char *name, const uint8_t *d)
{
	if (note->n_namesz == 6 && !memcmp(name, "Linux", 6)) {
		elf->is_linux = true;
		return;
	}
	if (note->n_namesz == 4 && !memcmp(name, "GNU", 4) && note->n_type == NT_GNU_ABI_TAG)
		elf->is_program = true;
	if (note->n_namesz == 3 && !memcmp(name, "Go", 3))
		elf->is_program = true;
	if (note->n_namesz != 4 || memcmp(name, "Xen", 4))
		return;
	if (note->n_type == NOTE_XEN_GUEST_OS && note->n_descsz >= 5 && !memcmp(d, "linux", 5))
		elf->is_linux = true;
	if (note->n_type == NOTE_XEN_PHYS32_ENTRY && (note->n_descsz == 4 || note->n_descsz == 8)) {
		elf->pvh = true;
		elf->pvh_entry = 0;
		memcpy(&elf->pvh_entry, d, note->n_descsz);
	}
}

/* Notes that run out of their segment are left unread. */
static int read_notes(const struct image_source *src, const Elf64_Phdr *p, struct elf *elf)
{
	size_t len = MIN(p->p_filesz, MAX_NOTES), at = 0;
	size_t align = p->p_align == 8 ? 8 : 4;
	_cleanup_free_ uint8_t *buf = malloc(len ? len : 1);
	int r;

	if (!buf)
		return -ENOMEM;
	r = image_source_read(src, p->p_offset, buf, len);
	if (r)
		return r;
	while (len - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note;
		size_t name, desc, next;

		memcpy(&note, buf + at, sizeof(note));
		if (note.n_namesz > len || note.n_descsz > len)
			break;
		name = at + sizeof(note);
		desc = ALIGN_UP(name + note.n_namesz, align);
		next = ALIGN_UP(desc + note.n_descsz, align);
		if (desc + note.n_descsz > len)
			break;
		read_note(elf, &note, (const char *)buf + name, buf + desc);
		if (next >= len)
			break;
		at = next;
	}
	return 0;
}

static int check_segments(const struct image_source *src, const struct elf *elf, struct error *e)
{
	for (unsigned i = 0; i < elf->num_loads; i++) {
		const Elf64_Phdr *p = &elf->load[i];

		if (p->p_filesz > p->p_memsz || p->p_paddr + p->p_memsz < p->p_paddr)
			return error_set(e, -EINVAL, "is an ELF file whose segment %u is broken",
					 i);
		if (p->p_offset > src->size || p->p_filesz > src->size - p->p_offset)
			return error_set(e, -EINVAL,
					 "is truncated: segment %u ends at byte %llu of %llu", i,
					 (unsigned long long)(p->p_offset + p->p_filesz),
					 (unsigned long long)src->size);
		for (unsigned k = 0; k < i; k++) {
			const Elf64_Phdr *q = &elf->load[k];

			if (p->p_paddr < q->p_paddr + q->p_memsz &&
			    q->p_paddr < p->p_paddr + p->p_memsz)
				return error_set(
					e, -EINVAL,
					"is an ELF file whose segments %u and %u overlap at 0x%llx",
					k, i, (unsigned long long)MAX(p->p_paddr, q->p_paddr));
		}
	}
	if (!elf->num_loads)
		return error_set(e, -EINVAL, "is an ELF file with nothing to load");
	return 0;
}

/* The lowest segment, and where the highest ends. */
static const Elf64_Phdr *find_extent(const struct elf *elf, uint64_t *ret_end)
{
	const Elf64_Phdr *low = elf->load;

	*ret_end = 0;
	for (unsigned i = 0; i < elf->num_loads; i++) {
		const Elf64_Phdr *p = &elf->load[i];

		if (p->p_paddr < low->p_paddr)
			low = p;
		*ret_end = MAX(*ret_end, p->p_paddr + p->p_memsz);
	}
	return low;
}

static enum boot_protocol protocol_of(const struct elf *elf)
{
	return elf->pvh && (!elf->is_linux || elf->is_32) ? BOOT_PVH : BOOT_LINUX64;
}

/* Linux: e_entry is physical, in other linkings virtual. */
static int find_entry(const struct elf *elf, uint64_t *ret, struct error *e)
{
	uint64_t entry = protocol_of(elf) == BOOT_PVH ? elf->pvh_entry : elf->ehdr.e_entry;

	for (unsigned i = 0; i < elf->num_loads; i++) {
		const Elf64_Phdr *p = &elf->load[i];

		if (entry >= p->p_paddr && entry - p->p_paddr < p->p_memsz) {
			*ret = entry;
			return 0;
		}
		if (elf->is_linux && entry >= p->p_vaddr && entry - p->p_vaddr < p->p_memsz) {
			*ret = entry - p->p_vaddr + p->p_paddr;
			return 0;
		}
	}
	return error_set(e, -EINVAL,
			 "is an ELF file whose entry point 0x%llx is outside its segments",
			 (unsigned long long)entry);
}

static bool is_linked_where_loaded(const struct elf *elf)
{
	for (unsigned i = 0; i < elf->num_loads; i++)
		if (elf->load[i].p_vaddr != elf->load[i].p_paddr)
			return false;
	return true;
}

/* Old kernels have no note of their own; nothing but a kernel is linked to the top 2 GiB. */
static int find_protocol(struct elf *elf, const Elf64_Phdr *low, struct error *e)
{
	if (elf->pvh)
		return 0;
	if (elf->is_32)
		return error_set(e, -EINVAL,
				 "is an ELF file for 32-bit x86 without a PVH note: skep runs "
				 "x86-64 kernels, and others by PVH");
	if (low->p_vaddr >= KERNEL_MAP)
		elf->is_linux = true;
	if (elf->is_linux || (!elf->is_program && is_linked_where_loaded(elf)))
		return 0;
	return error_set(e, -EINVAL,
			 "is an ELF program, not a kernel: it has neither a PVH note nor a Linux "
			 "kernel's addresses");
}

static int check_extent(uint64_t start, uint64_t end, struct error *e)
{
	if (start < LAYOUT_HIGH_RAM)
		return error_set(e, -EINVAL,
				 "is an ELF kernel that loads at 0x%llx: the first MiB is reserved",
				 (unsigned long long)start);
	if (end - start > IMAGE_MAX_SPAN)
		return error_set(e, -EINVAL,
				 "is an ELF kernel of %llu MiB in memory: the maximum is %llu",
				 (unsigned long long)((end - start) / MIB), IMAGE_MAX_SPAN / MIB);
	return 0;
}

/* Cuts a segment where the guest's pages of 2 MiB are, and in between. */
static int add_segment(struct kernel_image *image, const Elf64_Phdr *p)
{
	uint64_t done = 0;

	while (done < p->p_filesz) {
		uint64_t at = p->p_paddr + done;
		uint64_t len =
			MIN(p->p_filesz - done, ALIGN_UP(at + 1, (uint64_t)IMAGE_MAX_PIECE) - at);

		if (image->h.num_pieces == IMAGE_MAX_PIECES)
			return -EFBIG;
		image->piece[image->h.num_pieces++] = (struct image_piece){
			.file_offset = p->p_offset + done,
			.offset = (uint32_t)(at - image->h.base),
			.len = (uint32_t)len,
			.kind = PIECE_DATA,
		};
		done += len;
	}
	return 0;
}

static int read_elf(const struct image_source *src, struct elf *elf, struct error *e)
{
	int r = read_headers(src, elf, e);

	for (unsigned i = 0; !r && i < elf->num_phdrs; i++) {
		const Elf64_Phdr *p = &elf->phdr[i];

		if (p->p_type == PT_LOAD && p->p_memsz)
			elf->load[elf->num_loads++] = *p;
		elf->is_program |= p->p_type == PT_INTERP;
		if (p->p_type == PT_NOTE && read_notes(src, p, elf))
			return error_set(e, -EINVAL, "is a truncated ELF file: no notes");
	}
	return r ? r : check_segments(src, elf, e);
}

int image_from_elf(const struct image_source *src, struct kernel_image **ret, struct error *e)
{
	_cleanup_free_ struct kernel_image *image = NULL;
	_cleanup_free_ struct elf *elf = calloc(1, sizeof(*elf));
	const Elf64_Phdr *low;
	uint64_t end, entry = 0;
	int r;

	image = calloc(1, sizeof(*image) + IMAGE_MAX_PIECES * sizeof(image->piece[0]));
	if (!elf || !image)
		return error_set(e, -ENOMEM, "out of memory");
	r = read_elf(src, elf, e);
	if (r)
		return r;
	low = find_extent(elf, &end);
	r = find_protocol(elf, low, e);
	if (r)
		return r;
	r = check_extent(low->p_paddr, end, e);
	if (!r)
		r = find_entry(elf, &entry, e);
	if (r)
		return r;
	image->h = (struct image_header){
		.magic = IMAGE_MAGIC,
		.base = low->p_paddr,
		.span = end - low->p_paddr,
		.virt = elf->is_linux && low->p_vaddr == KERNEL_MAP + low->p_paddr ? low->p_vaddr
										   : 0,
		.entry = entry - low->p_paddr,
		.protocol = protocol_of(elf),
		.foreign = !elf->is_linux,
	};
	for (unsigned i = 0; !r && i < elf->num_loads; i++)
		r = add_segment(image, &elf->load[i]);
	if (r)
		return error_set(e, r, "is an ELF file with too many segments");
	*ret = image;
	image = NULL;
	return 0;
}

uint64_t elf_end(const struct image_source *src)
{
	Elf64_Ehdr h;
	uint64_t end;

	if (image_source_read(src, 0, &h, sizeof(h)) || h.e_shentsize != sizeof(Elf64_Shdr) ||
	    h.e_shnum > MAX_SECTIONS || h.e_shoff > src->size)
		return 0;
	end = h.e_shoff + h.e_shnum * sizeof(Elf64_Shdr);
	for (unsigned i = 0; i < h.e_shnum; i++) {
		Elf64_Shdr s;

		if (image_source_read(src, h.e_shoff + i * sizeof(s), &s, sizeof(s)))
			return 0;
		if (s.sh_type != SHT_NOBITS && s.sh_offset + s.sh_size >= s.sh_offset)
			end = MAX(end, s.sh_offset + s.sh_size);
	}
	return end;
}
