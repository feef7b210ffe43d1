// SPDX-License-Identifier: BSD-2-Clause
/*
 * Stands in for libFuzzer: runs the seeds (files, or directories of files) and random changes of
 * them, the same ones each time. To see a crash again, give it the file that libFuzzer left.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define INPUT_MAX 65536u
#define VARIANTS  2000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t random_u64(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15; /* xorshift64 */

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/* In a buffer of its own length, so that an overrun is seen. */
static void run(const uint8_t *data, size_t size)
{
	uint8_t *copy = calloc(1, MAX(size, 1u));

	if (!copy)
		abort();
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static size_t change(uint8_t *data, size_t size)
{
	for (unsigned i = 0, n = 1 + (unsigned)(random_u64() % 8); i < n && size; i++) {
		size_t at = random_u64() % size, len = random_u64() % (size - at);

		switch (random_u64() % 5) {
		case 0:
			data[at] = (uint8_t)random_u64();
			break;
		case 1:
			data[at] ^= (uint8_t)(1u << (random_u64() % 8));
			break;
		case 2: /* cut a piece out */
			memmove(data + at, data + at + len, size - at - len);
			size -= len;
			break;
		case 3: /* a piece elsewhere */
			memmove(data + random_u64() % (size - len), data + at, len);
			break;
		default: /* a piece twice */
			if (size + len <= INPUT_MAX) {
				memmove(data + at + len, data + at, size - at);
				size += len;
			}
			break;
		}
	}
	return size;
}

static int run_file(const char *path)
{
	static uint8_t data[INPUT_MAX], changed[INPUT_MAX];
	FILE *f = fopen(path, "rb");
	size_t size;

	if (!f) {
		perror(path);
		return 1;
	}
	size = fread(data, 1, sizeof(data), f);
	fclose(f);
	run(data, size);
	for (unsigned i = 0; i < VARIANTS; i++) {
		memcpy(changed, data, size);
		run(changed, change(changed, size));
	}
	return 0;
}

static int run_path(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int r = 0;

	if (!dir)
		return run_file(path);
	while ((entry = readdir(dir))) {
		char file[4096];

		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		if (entry->d_name[0] != '.')
			r |= run_file(file);
	}
	closedir(dir);
	return r;
}

int main(int argc, char **argv)
{
	int r = 0;

	run((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++)
		r |= run_path(argv[i]);
	return r;
}
