// SPDX-License-Identifier: BSD-2-Clause
/*
 * The compressions of bzImage payloads (Linux: scripts/Makefile.lib, cmd_gzip and the like).
 *
 * The size of the unpacked kernel is known before, so every library unpacks in one call into one
 * buffer of that size: more than that is damage, and a bomb goes nowhere.
 */
#include <bzlib.h>
#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/magic.h"
#include "base/util.h"
#include "image.h"

/* linux/lib/decompress_unlz4.c: the legacy frame of `lz4 -l`, blocks of 8 MiB each. */
#define LZ4_LEGACY_BLOCK (8u << 20)

#define LZMA_MEMORY (256ull << 20)

/* Each: 0 and the bytes made in *made, or -EBADMSG. */
typedef int unpack_fn(const uint8_t *in, size_t len, uint8_t *out, size_t out_len, size_t *made);

static int unpack_gzip(const uint8_t *in, size_t len, uint8_t *out, size_t out_len, size_t *made)
{
	z_stream z = {
		.next_in = (Bytef *)(uintptr_t)in,
		.avail_in = (uInt)len,
		.next_out = out,
		.avail_out = (uInt)out_len,
	};
	int r;

	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return -ENOMEM;
	r = inflate(&z, Z_FINISH);
	*made = z.total_out;
	inflateEnd(&z);
	return r == Z_STREAM_END ? 0 : -EBADMSG;
}

static int unpack_bzip2(const uint8_t *in, size_t len, uint8_t *out, size_t out_len, size_t *made)
{
	unsigned n = (unsigned)out_len;
	int r = BZ2_bzBuffToBuffDecompress((char *)out, &n, (char *)(uintptr_t)in, (unsigned)len, 0,
					   0);

	*made = n;
	return r == BZ_OK ? 0 : r == BZ_MEM_ERROR ? -ENOMEM : -EBADMSG;
}

static int unpack_xz(const uint8_t *in, size_t len, uint8_t *out, size_t out_len, size_t *made)
{
	uint64_t memory = LZMA_MEMORY;
	size_t in_pos = 0;
	lzma_ret r;

	*made = 0;
	r = lzma_stream_buffer_decode(&memory, 0, NULL, in, &in_pos, len, out, made, out_len);
	return r == LZMA_OK ? 0 : r == LZMA_MEM_ERROR ? -ENOMEM : -EBADMSG;
}

static int unpack_lzma(const uint8_t *in, size_t len, uint8_t *out, size_t out_len, size_t *made)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_ret r;

	if (lzma_alone_decoder(&z, LZMA_MEMORY) != LZMA_OK)
		return -ENOMEM;
	z.next_in = in;
	z.avail_in = len;
	z.next_out = out;
	z.avail_out = out_len;
	r = lzma_code(&z, LZMA_FINISH);
	*made = (size_t)z.total_out;
	lzma_end(&z);
	return r == LZMA_STREAM_END ? 0 : r == LZMA_MEM_ERROR ? -ENOMEM : -EBADMSG;
}

static int unpack_zstd(const uint8_t *in, size_t len, uint8_t *out, size_t out_len, size_t *made)
{
	size_t frame = ZSTD_findFrameCompressedSize(in, len), n;

	if (ZSTD_isError(frame))
		return -EBADMSG;
	n = ZSTD_decompress(out, out_len, in, frame);
	if (ZSTD_isError(n))
		return -EBADMSG;
	*made = n;
	return 0;
}

static int unpack_lz4(const uint8_t *in, size_t len, uint8_t *out, size_t out_len, size_t *made)
{
	size_t at = 0, done = 0;

	while (done < out_len && len - at >= 4) {
		uint32_t block;
		int n;

		memcpy(&block, in + at, sizeof(block));
		at += 4;
		if (!memcmp(&block, MAGIC_LZ4_LEGACY, sizeof(block)))
			continue;
		if (!block || block > len - at ||
		    block > (uint32_t)LZ4_compressBound((int)LZ4_LEGACY_BLOCK))
			return -EBADMSG;
		n = LZ4_decompress_safe((const char *)in + at, (char *)out + done, (int)block,
					(int)MIN(out_len - done, LZ4_LEGACY_BLOCK));
		if (n < 0)
			return -EBADMSG;
		at += block;
		done += (size_t)n;
	}
	*made = done;
	return 0;
}

static const struct format {
	const char *name;
	const char *magic;
	size_t magic_len;
	unpack_fn *unpack;
} formats[] = {
	{"gzip", WITH_LEN(MAGIC_GZIP), unpack_gzip},
	{"bzip2", WITH_LEN(MAGIC_BZIP2), unpack_bzip2},
	{"LZMA", WITH_LEN(MAGIC_LZMA), unpack_lzma},
	{"xz", WITH_LEN(MAGIC_XZ), unpack_xz},
	{"LZ4", WITH_LEN(MAGIC_LZ4_LEGACY), unpack_lz4},
	{"zstd", WITH_LEN(MAGIC_ZSTD), unpack_zstd},
};

static const struct format *find_format(const uint8_t *in, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (len >= formats[i].magic_len &&
		    !memcmp(in, formats[i].magic, formats[i].magic_len))
			return &formats[i];
	return NULL;
}

const char *payload_format(const uint8_t *in, size_t len)
{
	const struct format *f = find_format(in, len);

	return f ? f->name : NULL;
}

int payload_unpack(const uint8_t *in, size_t len, uint8_t *out, size_t out_len, struct error *e)
{
	const struct format *f = find_format(in, len);
	size_t made = 0;
	int r;

	if (!f)
		return error_set(e, -EBADMSG, "has a payload of unknown compression");
	r = f->unpack(in, len, out, out_len, &made);
	if (r == -ENOMEM)
		return error_set(e, r, "has a payload (%s) that takes too much memory to unpack",
				 f->name);
	if (!r && made != out_len)
		r = -EBADMSG;
	if (r)
		return error_set(e, r,
				 "is damaged: its payload (%s, %zu bytes) does not unpack to %zu "
				 "bytes",
				 f->name, len, out_len);
	return 0;
}
