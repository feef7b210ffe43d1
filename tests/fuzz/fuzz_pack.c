// SPDX-License-Identifier: BSD-2-Clause
/* A packed tree of a hostile guest. What must hold: nothing is made or changed beside the copy. */
#include <endian.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/pack.h"
#include "base/util.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char types[] = "fdlcem";
static const char *const names[] = {"a", "b",	"..",	     ".",      "/",
				    "",	 "a/b", "../victim", "victim", "../victim/x"};
static unsigned seen;

static void ignore(const char *text)
{
	(void)text;
}

/* A record that is mostly as it should be. */
static void put(FILE *out, struct input *in)
{
	uint8_t how = take8(in);
	const char *text = names[take8(in) % ARRAY_SIZE(names)];
	struct pack_record r = {.type = (uint8_t)types[how % 6], .mode = htole16(0777)};
	size_t len = r.type == PACK_END ? 0 : strlen(text);

	r.len = htole32(how & 128 ? take32(in) : (uint32_t)len);
	fwrite(&r, sizeof(r), 1, out);
	fwrite(text, 1, len, out);
}

static int remove_it(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int count(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path;
	(void)type;
	(void)ftw;
	seen++;
	check(!(st->st_mode & 07000));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char dir[] = "/tmp/skep-fuzz.XXXXXX";
	struct input in = {data, size};
	char *bytes;
	size_t len;
	FILE *f = open_memstream(&bytes, &len);

	while (input_left(&in))
		put(f, &in);
	fputc(0, f);
	fclose(f);
	check(mkdtemp(dir) && chdir(dir) == 0 && mkdir("victim", 0755) == 0);
	f = fmemopen(bytes, len, "r");
	unpack(f, "to", ignore);
	fclose(f);
	free(bytes);
	nftw("to", remove_it, 16, FTW_DEPTH | FTW_PHYS);
	seen = 0;
	nftw(".", count, 16, FTW_PHYS);
	check(seen == 2); /* this directory and the victim */
	check(rmdir("victim") == 0 && chdir("/") == 0 && rmdir(dir) == 0);
	return 0;
}
