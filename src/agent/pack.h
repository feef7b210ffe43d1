// SPDX-License-Identifier: BSD-2-Clause
/*
 * A file, or a directory with all that is in it, as bytes: for both ends of the talk. Who reads them takes
 * who wrote them for hostile.
 */
#ifndef SKEP_PACK_H
#define SKEP_PACK_H

#include <stdint.h>
#include <stdio.h>

#define PACK_DEPTH    128u /* directories within each other, at most */
#define PACK_MAX_NAME 255u
#define PACK_MAX_DATA 65536u

/* `len` bytes follow; numbers are little-endian. A file, directory or link is its head, what is in it, and
 * PACK_END. */
struct pack_record {
	uint8_t type; /* enum pack_type */
	uint8_t zero;
	uint16_t mode; /* of a file or directory: permissions */
	uint32_t len;
};

enum pack_type {
	PACK_FILE = 'f', /* the head of one: its name follows, a component of a path */
	PACK_DIRECTORY = 'd',
	PACK_LINK = 'l',
	PACK_DATA = 'c', /* a piece of a file, or all of what a link says */
	PACK_END = 'e',
	PACK_MISSING = 'm', /* something is not there that should be: the text says what, and why */
};

/* Told in a line what could not be copied, as the user is to read it; the text may be the other end's. */
typedef void (*pack_complain)(const char *text);

/* Writes what is at `path`, a link followed: one tree, or one PACK_MISSING. What cannot be read of it is
 * left out, and told of in the same way. The number of these, or a negative errno of `out`. */
int pack(FILE *out, const char *path);

/*
 * Reads one tree and makes it at `path`. What is there already: files and links are replaced, a directory
 * gets the new one's files as well as its own; a file for a directory goes into it, under its name. No link
 * is followed below `path`, and all names are components of it. Permissions are those that were packed,
 * but for set-user-ID and the like, and the umask. The number of complaints; -ENODATA: `in` ends too early;
 * -EPROTO: it makes no sense.
 */
int unpack(FILE *in, const char *path, pack_complain complain);

#endif
