// SPDX-License-Identifier: BSD-2-Clause
/*
 * BLAKE2b (RFC 7693) with a digest of 32 bytes. Names in the cache must stand against someone who
 * makes kernels to collide, so the hash is a cryptographic one; this one runs at 1 GB/s in plain C,
 * three times what SHA-256 does without its instructions.
 */
#include <string.h>

#include "blake2b.h"
#include "util.h"

#define BLOCK 128u

static const uint64_t iv[8] = {
	0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
	0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

static const uint8_t sigma[10][16] = {
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	{14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
	{11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
	{7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
	{9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
	{2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
	{12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
	{13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
	{6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
	{10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

static inline uint64_t ror(uint64_t x, unsigned n)
{
	return x >> n | x << (64 - n);
}

#define G(a, b, c, d, x, y)                                                                        \
	do {                                                                                       \
		v[a] += v[b] + (x);                                                                \
		v[d] = ror(v[d] ^ v[a], 32);                                                       \
		v[c] += v[d];                                                                      \
		v[b] = ror(v[b] ^ v[c], 24);                                                       \
		v[a] += v[b] + (y);                                                                \
		v[d] = ror(v[d] ^ v[a], 16);                                                       \
		v[c] += v[d];                                                                      \
		v[b] = ror(v[b] ^ v[c], 63);                                                       \
	} while (0)

/* `done` counts the bytes up to and with this block. The host is little-endian, as the words are.
 */
static void compress(uint64_t h[8], const uint8_t *block, uint64_t done, bool last)
{
	uint64_t m[16], v[16];

	memcpy(m, block, sizeof(m));
	memcpy(v, h, 64);
	memcpy(v + 8, iv, 64);
	v[12] ^= done;
	if (last)
		v[14] = ~v[14];
	for (unsigned round = 0; round < 12; round++) {
		const uint8_t *s = sigma[round % 10];

		G(0, 4, 8, 12, m[s[0]], m[s[1]]);
		G(1, 5, 9, 13, m[s[2]], m[s[3]]);
		G(2, 6, 10, 14, m[s[4]], m[s[5]]);
		G(3, 7, 11, 15, m[s[6]], m[s[7]]);
		G(0, 5, 10, 15, m[s[8]], m[s[9]]);
		G(1, 6, 11, 12, m[s[10]], m[s[11]]);
		G(2, 7, 8, 13, m[s[12]], m[s[13]]);
		G(3, 4, 9, 14, m[s[14]], m[s[15]]);
	}
	for (unsigned i = 0; i < 8; i++)
		h[i] ^= v[i] ^ v[i + 8];
}

void blake2b(uint8_t ret[BLAKE2B_LEN], const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t tail[BLOCK] = {0};
	uint64_t h[8];
	size_t done = 0;

	memcpy(h, iv, sizeof(h));
	h[0] ^= 0x01010000 ^ BLAKE2B_LEN;
	for (; len - done > BLOCK; done += BLOCK)
		compress(h, p + done, done + BLOCK, false);
	if (len > done)
		memcpy(tail, p + done, len - done);
	compress(h, tail, len, true);
	memcpy(ret, h, BLAKE2B_LEN);
}
