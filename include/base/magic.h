// SPDX-License-Identifier: BSD-2-Clause
/* What compressed files begin with. */
#ifndef SKEP_MAGIC_H
#define SKEP_MAGIC_H

#define MAGIC_GZIP	 "\x1f\x8b"
#define MAGIC_BZIP2	 "BZh"
#define MAGIC_LZMA	 "\x5d\0\0"
#define MAGIC_XZ	 "\xfd\x37zXZ\0"
#define MAGIC_LZO	 "\x89LZO"
#define MAGIC_LZ4	 "\x04\x22\x4d\x18"
#define MAGIC_LZ4_LEGACY "\x02\x21\x4c\x18" /* of lz4 -l; again before each frame that follows */
#define MAGIC_ZSTD	 "\x28\xb5\x2f\xfd"

/* In an initializer: the bytes and their number. */
#define WITH_LEN(bytes) bytes, sizeof(bytes) - 1

#endif
