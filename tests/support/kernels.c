// SPDX-License-Identifier: BSD-2-Clause
#include <bzlib.h>
#include <elf.h>
#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/magic.h"
#include "kernels.h"

#define LZ4_BLOCK (1u << 20)

const char *const compression_names[C_COUNT] = {"gzip", "bzip2", "lzma", "xz",
						"lz4",	"zstd",	 "lzo"};

/* One lies across a 2 MiB page. */
const uint32_t reloc64_offsets[3] = {0x1000, (2u << 20) - 4, VMLINUX_DATA + 8};
const uint32_t reloc32_offsets[3] = {0x2000, (2u << 20) + 0x101, VMLINUX_DATA + 0x20};
const uint32_t inverse_offsets[2] = {0x3000, VMLINUX_PERCPU + 0x10};

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "test kernels: %s\n", what);
	abort();
}

void blob_free(struct blob *b)
{
	free(b->data);
	*b = (struct blob){NULL, 0};
}

void blob_put(struct blob *b, size_t offset, const void *data, size_t len)
{
	if (offset + len > b->len) {
		b->data = realloc(b->data, offset + len);
		must(b->data, "out of memory");
		memset(b->data + b->len, 0, offset + len - b->len);
		b->len = offset + len;
	}
	if (len && data)
		memcpy(b->data + offset, data, len);
}

static void put_word(struct blob *b, size_t offset, uint32_t word)
{
	blob_put(b, offset, &word, sizeof(word));
}

static void append_word(struct blob *b, uint32_t word)
{
	put_word(b, b->len, word);
}

static size_t put_note(struct blob *b, size_t at, const char *name, uint32_t type, const void *desc,
		       uint32_t len)
{
	Elf64_Nhdr note = {(uint32_t)strlen(name) + 1, len, type};

	blob_put(b, at, &note, sizeof(note));
	blob_put(b, at + sizeof(note), name, note.n_namesz);
	at += sizeof(note) + ((note.n_namesz + 3) & ~3u);
	blob_put(b, at, desc, len);
	return at + ((len + 3) & ~3u);
}

static void put_text(struct blob *b, size_t at)
{
	uint32_t x = 1;

	blob_put(b, at, NULL, VMLINUX_LEN);
	for (uint32_t i = 0; i < VMLINUX_LEN; i += 4) {
		/* Every second KiB is the same, so that it packs. */
		x = i % 2048 < 1024 ? x * 1664525u + 1013904223u : 0x90909090u;
		put_word(b, at + i, i >= 1u << 20 && i < 1536u << 10 ? 0 : x);
	}
}

static void append_table(struct blob *b, const uint32_t *offset, size_t n)
{
	append_word(b, 0);
	for (size_t i = 0; i < n; i++)
		append_word(b, (uint32_t)(VMLINUX_VIRT + offset[i]));
}

static void append_relocs(struct blob *b, enum relocs relocs)
{
	static const uint32_t outside[] = {VMLINUX_SPAN - 2};

	if (relocs == RELOCS_NONE)
		return;
	if (relocs == RELOCS_AFTER_JUNK)
		append_word(b, 1);
	append_table(b, reloc64_offsets, 3);
	if (relocs != RELOCS_2_TABLES)
		append_table(b, inverse_offsets, 2);
	if (relocs == RELOCS_4_TABLES)
		append_table(b, inverse_offsets, 2);
	append_table(b, reloc32_offsets, 3);
	if (relocs == RELOCS_OUTSIDE)
		append_word(b, (uint32_t)(VMLINUX_VIRT + outside[0]));
}

struct blob make_vmlinux(const struct vmlinux_spec *spec)
{
	const uint64_t map = spec->no_linux_note ? 0 : VMLINUX_VIRT - VMLINUX_BASE;
	const size_t text = 0x1000, data = 0x300000, scratch = 0x400000, notes = 0x310000;
	const uint64_t pvh = VMLINUX_BASE + 0x80;
	struct blob b = {NULL, 0};
	Elf64_Phdr ph[5] = {
		{PT_LOAD, PF_R | PF_X, text, map + VMLINUX_BASE, VMLINUX_BASE, VMLINUX_LEN,
		 VMLINUX_LEN, 4096},
		{PT_LOAD, PF_R | PF_W, data, 0, VMLINUX_BASE + VMLINUX_PERCPU, 8192, 8192, 4096},
		{PT_LOAD, PF_R | PF_W, data, map + VMLINUX_BASE + VMLINUX_DATA,
		 VMLINUX_BASE + VMLINUX_DATA, 65536, 1 << 20, 4096},
		{PT_LOAD, PF_R | PF_W, scratch, map + VMLINUX_BASE + VMLINUX_SCRATCH,
		 VMLINUX_BASE + VMLINUX_SCRATCH, 2 << 20, 2 << 20, 4096},
		{PT_NOTE, PF_R, notes, 0, 0, 0, 0, 4},
	};
	Elf64_Shdr sh[2] = {{.sh_type = SHT_NULL},
			    {.sh_type = SHT_PROGBITS, .sh_offset = scratch, .sh_size = 2 << 20}};
	Elf64_Ehdr eh = {
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = VMLINUX_BASE + VMLINUX_ENTRY,
		.e_phoff = sizeof(eh),
		.e_shoff = scratch + (2 << 20),
		.e_ehsize = sizeof(eh),
		.e_phentsize = sizeof(ph[0]),
		.e_phnum = 5,
		.e_shentsize = sizeof(sh[0]),
		.e_shnum = 2,
	};
	size_t at = notes;

	put_text(&b, text);
	/* One whose upper half changes too. */
	blob_put(&b, text + reloc64_offsets[0], &(uint64_t){0x1ffffffff}, 8);
	blob_put(&b, data, NULL, 65536);
	for (uint32_t i = 0; i < 65536; i += 4)
		put_word(&b, data + i, i ^ 0x5a5a5a5au);
	if (spec->pvh_note)
		at = put_note(&b, at, "Xen", 18, &pvh, sizeof(pvh));
	if (!spec->no_linux_note)
		at = put_note(&b, at, "Linux", 0x100, "", 1);
	at = put_note(&b, at, "GNU", 3, "0123456789abcdef0123", 20);
	ph[4].p_filesz = ph[4].p_memsz = at - notes;
	blob_put(&b, 0, &eh, sizeof(eh));
	blob_put(&b, sizeof(eh), ph, sizeof(ph));
	blob_put(&b, eh.e_shoff, sh, sizeof(sh));
	append_relocs(&b, spec->relocs);
	return b;
}

struct blob make_expected(const struct blob *vmlinux)
{
	struct blob b = {NULL, 0};
	Elf64_Ehdr eh;
	Elf64_Phdr ph;

	blob_put(&b, 0, NULL, VMLINUX_SPAN);
	memcpy(&eh, vmlinux->data, sizeof(eh));
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		memcpy(&ph, vmlinux->data + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type == PT_LOAD)
			blob_put(&b, ph.p_paddr - VMLINUX_BASE, vmlinux->data + ph.p_offset,
				 ph.p_filesz);
	}
	return b;
}

/* ----- compression ----- */

static size_t pack_gzip(const struct blob *in, uint8_t *out, size_t max)
{
	z_stream z = {.next_in = in->data,
		      .avail_in = (uInt)in->len,
		      .next_out = out,
		      .avail_out = (uInt)max};

	must(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK,
	     "gzip");
	must(deflate(&z, Z_FINISH) == Z_STREAM_END, "gzip");
	deflateEnd(&z);
	return z.total_out;
}

static size_t pack_bzip2(const struct blob *in, uint8_t *out, size_t max)
{
	unsigned n = (unsigned)max;

	must(BZ2_bzBuffToBuffCompress((char *)out, &n, (char *)in->data, (unsigned)in->len, 9, 0,
				      0) == BZ_OK,
	     "bzip2");
	return n;
}

static size_t run_lzma(lzma_stream *z, const struct blob *in, uint8_t *out, size_t max)
{
	z->next_in = in->data;
	z->avail_in = in->len;
	z->next_out = out;
	z->avail_out = max;
	must(lzma_code(z, LZMA_FINISH) == LZMA_STREAM_END, "lzma");
	lzma_end(z);
	return (size_t)z->total_out;
}

static size_t pack_lzma(const struct blob *in, uint8_t *out, size_t max)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_options_lzma options;

	lzma_lzma_preset(&options, 1);
	must(lzma_alone_encoder(&z, &options) == LZMA_OK, "lzma");
	return run_lzma(&z, in, out, max);
}

/* As scripts/xz_wrap.sh: the x86 filter and CRC32. */
static size_t pack_xz(const struct blob *in, uint8_t *out, size_t max)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_options_lzma options;
	lzma_filter filters[] = {
		{LZMA_FILTER_X86, NULL}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};

	lzma_lzma_preset(&options, 1);
	must(lzma_stream_encoder(&z, filters, LZMA_CHECK_CRC32) == LZMA_OK, "xz");
	return run_lzma(&z, in, out, max);
}

static size_t pack_zstd(const struct blob *in, uint8_t *out, size_t max)
{
	size_t n = ZSTD_compress(out, max, in->data, in->len, 1);

	must(!ZSTD_isError(n), "zstd");
	return n;
}

/* As lz4 -l, but for the size of the blocks. */
static size_t pack_lz4(const struct blob *in, uint8_t *out, size_t max)
{
	size_t n = 4;

	memcpy(out, MAGIC_LZ4_LEGACY, 4);
	for (size_t at = 0; at < in->len; at += LZ4_BLOCK) {
		size_t len = in->len - at < LZ4_BLOCK ? in->len - at : LZ4_BLOCK;
		int block = LZ4_compress_default((char *)in->data + at, (char *)out + n + 4,
						 (int)len, (int)(max - n - 4));

		must(block > 0, "lz4");
		memcpy(out + n, &block, 4);
		n += 4 + (size_t)block;
	}
	return n;
}

static size_t pack_lzo(const struct blob *in, uint8_t *out, size_t max)
{
	must(in->len + 9 <= max, "lzo");
	memcpy(out, "\x89LZO\0\r\n\x1a\n", 9);
	memcpy(out + 9, in->data, in->len);
	return in->len + 9;
}

struct blob make_bzimage(const struct blob *vmlinux, enum compression how)
{
	static size_t (*const pack[C_COUNT])(const struct blob *, uint8_t *, size_t) = {
		pack_gzip, pack_bzip2, pack_lzma, pack_xz, pack_lz4, pack_zstd, pack_lzo};
	const size_t start = BZIMAGE_SETUP_LEN + BZIMAGE_PAYLOAD_OFFSET;
	const uint64_t base = VMLINUX_BASE;
	struct blob b = {NULL, 0};
	size_t max = vmlinux->len + vmlinux->len / 8 + 65536, n;

	blob_put(&b, start, NULL, max);
	n = pack[how](vmlinux, b.data + start, max);
	b.len = start + n;
	if (how != C_GZIP)
		append_word(&b, (uint32_t)vmlinux->len);
	n = b.len - start;
	blob_put(&b, b.len, NULL, 16 - b.len % 16);

	/* boot.rst, "The Real-Mode Kernel Header" */
	b.data[0x1f1] = BZIMAGE_SETUP_LEN / 512 - 1;
	put_word(&b, 0x1f4, (uint32_t)(b.len - BZIMAGE_SETUP_LEN) / 16);
	blob_put(&b, 0x1fe, "\x55\xaa\xeb\x6aHdrS\x0f\x02", 10);
	b.data[0x211] = 1;				      /* loadflags: LOADED_HIGH */
	put_word(&b, 0x214, 0x100000);			      /* code32_start */
	put_word(&b, 0x22c, 0x7fffffff);		      /* initrd_addr_max */
	put_word(&b, 0x230, 0x200000);			      /* kernel_alignment */
	b.data[0x234] = 1;				      /* relocatable_kernel */
	b.data[0x236] = 1;				      /* xloadflags: XLF_KERNEL_64 */
	put_word(&b, 0x238, 2047);			      /* cmdline_size */
	put_word(&b, 0x248, BZIMAGE_PAYLOAD_OFFSET);	      /* payload_offset */
	put_word(&b, 0x24c, (uint32_t)n);		      /* payload_length */
	blob_put(&b, 0x258, &base, sizeof(base));	      /* pref_address */
	put_word(&b, 0x260, VMLINUX_SPAN + (4 << 20));	      /* init_size */
	memset(b.data + BZIMAGE_SETUP_LEN + 0x200, 0xf4, 16); /* where the 64-bit entry is */
	return b;
}

char *write_blob(const char *dir, const char *name, const struct blob *b)
{
	char *path;
	FILE *f;

	must(asprintf(&path, "%s/%s", dir, name) > 0, "out of memory");
	f = fopen(path, "w");
	must(f && (!b->len || fwrite(b->data, 1, b->len, f) == b->len) && !fclose(f), path);
	return path;
}
