// SPDX-License-Identifier: BSD-2-Clause
/* BLAKE2b-256 (RFC 7693), unkeyed: names the entries of the kernel cache. */
#ifndef SKEP_BLAKE2B_H
#define SKEP_BLAKE2B_H

#include <stddef.h>
#include <stdint.h>

#define BLAKE2B_LEN 32u

/* The hash of `len` bytes at `data`. Pure. */
void blake2b(uint8_t ret[BLAKE2B_LEN], const void *data, size_t len);

#endif
