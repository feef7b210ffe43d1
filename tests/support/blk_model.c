// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. Requests that are in flight at once never touch the same sectors
 * (`busy`), so the model can be changed when a request is sent and reads can be judged when they
 * come back. The model of allocation is by blocks of 4096 bytes: a write or a zeroed range
 * allocates what it touches, a discard (or a write of zeros that is detected) frees what it covers
 * whole. Discards side by side may be carried out as one, which frees blocks that none of them covers
 * whole; it depends on what waits when, so such a block may be a hole and may be none.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "blk_model.h"

#define BLOCK	      4096u
#define BLOCK_SECTORS (BLOCK / BLK_SECTOR)
#define MAX_DEPTH     64u
#define MAX_BYTES     (128 * KIB)
#define MAX_PIECES    24u

struct flight {
	bool used;
	uint32_t type;
	uint8_t expect; /* status */
	uint64_t sector;
	uint32_t sectors;
	struct virtio_blk_discard_write_zeroes range[8];
	unsigned num_ranges;
	struct drv_buf piece[MAX_PIECES];
	unsigned num_pieces;
};

struct model {
	const struct blk_model_run *run;
	unsigned requests;
	uint64_t seed, random;
	uint64_t sectors;
	uint64_t next_range; /* where the last one ended */
	uint8_t *data;
	uint8_t *busy;	 /* by sector */
	bool *discarded; /* by sector, and not written since */
	bool *allocated; /* by block */
	bool *written;	 /* by block: data, and no unwritten extent */
	struct flight flight[MAX_DEPTH];
	unsigned by_head[VIRTQ_MAX_SIZE]; /* flight + 1 */
	gpa_t buffer;			  /* MAX_DEPTH of MAX_BYTES, twice */
	unsigned in_flight;
};

static char why[256];

static uint64_t next(struct model *m)
{
	/* splitmix64 */
	uint64_t z = (m->random += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static uint64_t below(struct model *m, uint64_t n)
{
	return next(m) % n;
}

__attribute__((format(printf, 2, 3))) static const char *bad(const struct model *m, const char *fmt,
							     ...)
{
	va_list ap;
	int n = snprintf(why, sizeof(why), "seed %llu: ", (unsigned long long)m->seed);

	va_start(ap, fmt);
	vsnprintf(why + n, sizeof(why) - (size_t)n, fmt, ap);
	va_end(ap);
	return why;
}

/* Picks idle sectors, from `at` on, and marks them busy; false when there were none at hand. */
static bool pick_at(struct model *m, uint64_t at, uint32_t max_sectors, uint64_t *ret,
		    uint32_t *ret_sectors)
{
	unsigned align = m->run->align;
	uint32_t n = (uint32_t)(below(m, 4) ? 1 + below(m, 16) : 1 + below(m, max_sectors));

	n = ALIGN_UP(n, align);
	if (n > m->sectors - at)
		n = (uint32_t)(m->sectors - at);
	if (memchr(m->busy + at, 1, n))
		return false;
	memset(m->busy + at, 1, n);
	*ret = at;
	*ret_sectors = n;
	return true;
}

static bool pick(struct model *m, uint32_t max_sectors, uint64_t *ret, uint32_t *ret_sectors)
{
	uint64_t at = ALIGN_DOWN(below(m, m->sectors), (uint64_t)m->run->align);

	if (below(m, 3) == 0)
		at = ALIGN_DOWN(at, (uint64_t)BLOCK_SECTORS);
	return pick_at(m, at, max_sectors, ret, ret_sectors);
}

/* Every other one begins where the last one ended, so that waiting discards are joined. */
static bool pick_range(struct model *m, uint64_t *ret, uint32_t *ret_sectors)
{
	bool found = m->next_range < m->sectors && below(m, 2)
			     ? pick_at(m, m->next_range, 16, ret, ret_sectors)
			     : pick(m, 2048, ret, ret_sectors);

	if (found)
		m->next_range = *ret + *ret_sectors;
	return found;
}

static void cut(struct model *m, struct flight *f, unsigned index, bool write)
{
	uint64_t at = m->buffer.v + index * 2 * MAX_BYTES;
	uint32_t left = f->sectors * BLK_SECTOR;

	f->num_pieces = 0;
	while (left) {
		uint32_t len = left;

		if (m->run->odd_buffers && f->num_pieces < MAX_PIECES - 1 && below(m, 3)) {
			len = 1 + (uint32_t)below(m, left);
			at += below(m, 2) ? below(m, 700) : 0;
		}
		f->piece[f->num_pieces++] = (struct drv_buf){GPA(at), len, write};
		at += len;
		left -= len;
	}
}

/* What a request of ranges does to the model. */
static void apply_range(struct model *m, uint64_t sector, uint64_t sectors, bool punch)
{
	uint64_t first = sector / BLOCK_SECTORS, end = (sector + sectors - 1) / BLOCK_SECTORS + 1;

	memset(m->data + sector * BLK_SECTOR, 0, sectors * BLK_SECTOR);
	memset(m->discarded + sector, punch, sectors);
	for (uint64_t b = first; b < end; b++) {
		bool whole =
			b * BLOCK_SECTORS >= sector && (b + 1) * BLOCK_SECTORS <= sector + sectors;

		if (whole)
			m->written[b] = false;
		if (!punch)
			m->allocated[b] = true;
		else if (whole)
			m->allocated[b] = false;
	}
}

static void apply_write(struct model *m, const struct flight *f)
{
	uint64_t at = f->sector * BLK_SECTOR, unit = m->run->disk->image->granularity;
	bool zeros = m->run->zeros && below(m, 3) == 0;

	for (unsigned i = 0; i < f->num_pieces; i++) {
		uint8_t *p = drv_ptr(&m->run->disk->drv, f->piece[i].addr, f->piece[i].len);

		for (uint32_t j = 0; j < f->piece[i].len; j++)
			p[j] = zeros ? 0 : (uint8_t)next(m);
		memcpy(m->data + at, p, f->piece[i].len);
		at += f->piece[i].len;
	}
	if (zeros && f->sector * BLK_SECTOR % unit == 0 && f->sectors * BLK_SECTOR % unit == 0) {
		apply_range(m, f->sector, f->sectors, true);
		return;
	}
	memset(m->discarded + f->sector, false, f->sectors);
	for (uint64_t s = f->sector; s < f->sector + f->sectors; s++)
		m->allocated[s / BLOCK_SECTORS] = m->written[s / BLOCK_SECTORS] = true;
}

static bool plan_ranges(struct model *m, struct flight *f, unsigned index)
{
	bool zero = f->type == VIRTIO_BLK_T_WRITE_ZEROES;
	struct drv_buf *piece = &f->piece[0];
	unsigned n = 1 + (unsigned)below(m, 8);

	f->num_ranges = 0;
	while (n--) {
		uint64_t at;
		uint32_t sectors;

		if (!pick_range(m, &at, &sectors))
			continue;
		f->range[f->num_ranges++] = (struct virtio_blk_discard_write_zeroes){
			.sector = at,
			.num_sectors = sectors,
			.flags = zero && below(m, 2) ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0,
		};
		apply_range(m, at, sectors, !zero || f->range[f->num_ranges - 1].flags);
	}
	*piece = (struct drv_buf){GPA(m->buffer.v + index * 2 * MAX_BYTES),
				  f->num_ranges * (uint32_t)sizeof(f->range[0]), false};
	memcpy(drv_ptr(&m->run->disk->drv, piece->addr, piece->len), f->range, piece->len);
	f->num_pieces = 1;
	return f->num_ranges > 0;
}

/* A request that must end in an error and change nothing. */
static void plan_bad(struct model *m, struct flight *f, unsigned index)
{
	f->sectors = 8;
	f->sector = below(m, 2) ? m->sectors - 7 : UINT64_MAX >> below(m, 12);
	f->type = below(m, 2) ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
	f->expect = VIRTIO_BLK_S_IOERR;
	cut(m, f, index, f->type == VIRTIO_BLK_T_IN);
	f->sectors = 0;
}

static bool plan(struct model *m, struct flight *f, unsigned index)
{
	unsigned dice = (unsigned)below(m, 100);

	*f = (struct flight){.expect = VIRTIO_BLK_S_OK};
	if (dice < 2) {
		f->type = VIRTIO_BLK_T_FLUSH;
		return true;
	}
	if (dice < 5) {
		plan_bad(m, f, index);
		return true;
	}
	if (dice < 25) {
		f->type = dice < 15 ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES;
		return plan_ranges(m, f, index);
	}
	f->type = dice < 60 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
	if (!pick(m, MAX_BYTES / BLK_SECTOR, &f->sector, &f->sectors))
		return false;
	cut(m, f, index, f->type == VIRTIO_BLK_T_IN);
	if (f->type == VIRTIO_BLK_T_OUT)
		apply_write(m, f);
	return true;
}

static const char *send(struct model *m)
{
	unsigned index = 0;
	struct flight *f;
	int head;

	while (m->flight[index].used)
		index++;
	f = &m->flight[index];
	while (!plan(m, f, index))
		;
	head = disk_send(m->run->disk, 0, f->type, f->sector, f->piece, f->num_pieces);
	if (head < 0)
		return bad(m, "no descriptors for %u pieces", f->num_pieces);
	m->by_head[head] = index + 1;
	f->used = true;
	m->in_flight++;
	return NULL;
}

static const char *check_read(struct model *m, const struct flight *f)
{
	uint64_t at = f->sector * BLK_SECTOR;

	for (unsigned i = 0; i < f->num_pieces; i++) {
		const struct drv_buf *p = &f->piece[i];

		if (memcmp(drv_ptr(&m->run->disk->drv, p->addr, p->len), m->data + at, p->len))
			return bad(m, "read at sector %llu returned other data",
				   (unsigned long long)f->sector);
		at += p->len;
	}
	return NULL;
}

static const char *reap(struct model *m)
{
	uint32_t length, want = 1;
	uint8_t status;
	int head = disk_reap(m->run->disk, 0, &status, &length);
	struct flight *f;

	if (!m->by_head[head])
		return bad(m, "a used entry for nothing: head %d", head);
	f = &m->flight[m->by_head[head] - 1];
	m->by_head[head] = 0;
	f->used = false;
	m->in_flight--;
	if (status != f->expect)
		return bad(m, "status %u of request type %u at sector %llu (+%u), expected %u",
			   status, f->type, (unsigned long long)f->sector, f->sectors, f->expect);
	if (f->type == VIRTIO_BLK_T_IN)
		want = status == VIRTIO_BLK_S_OK ? f->sectors * BLK_SECTOR + 1 : 0;
	if (length != want)
		return bad(m, "used length %u of request type %u, expected %u", length, f->type,
			   want);
	memset(m->busy + (f->sectors ? f->sector : 0), 0, f->sectors);
	for (unsigned i = 0; i < f->num_ranges; i++)
		memset(m->busy + f->range[i].sector, 0, f->range[i].num_sectors);
	return f->type == VIRTIO_BLK_T_IN && f->sectors ? check_read(m, f) : NULL;
}

static const char *check_bytes(struct model *m, int fd)
{
	static uint8_t buf[MIB] __attribute__((aligned(4096)));
	uint64_t size = m->sectors * BLK_SECTOR;

	for (uint64_t at = 0; at < size; at += sizeof(buf)) {
		size_t len = MIN(sizeof(buf), size - at);

		if (pread_full(fd, buf, len, at) != (ssize_t)len)
			return bad(m, "cannot read the image: %s", strerror(errno));
		for (size_t i = 0; i < len; i++)
			if (buf[i] != m->data[at + i])
				return bad(m, "the image differs at byte %llu",
					   (unsigned long long)(at + i));
	}
	return NULL;
}

/* The same by way of the device. */
static const char *check_disk(struct model *m)
{
	uint64_t size = m->sectors * BLK_SECTOR;
	uint8_t *buf = malloc(MIB);
	const char *r = buf ? NULL : "out of memory";

	for (uint64_t at = 0; at < size && !r; at += MIB) {
		uint32_t len = (uint32_t)MIN(MIB, size - at);

		if (disk_read(m->run->disk, at / BLK_SECTOR, buf, len) != VIRTIO_BLK_S_OK)
			r = bad(m, "cannot read the disk at %llu", (unsigned long long)at);
		for (size_t i = 0; i < len && !r; i++)
			if (buf[i] != m->data[at + i])
				r = bad(m, "the disk differs at byte %llu",
					(unsigned long long)(at + i));
	}
	free(buf);
	return r;
}

static const char *check_holes(struct model *m, int fd)
{
	uint64_t blocks = m->sectors / BLOCK_SECTORS, allocated = 0, found;

	for (uint64_t b = 0; b < blocks; b++) {
		off_t at = (off_t)(b * BLOCK);
		off_t data = lseek(fd, at, SEEK_DATA);

		allocated += m->allocated[b];
		if (!m->allocated[b] && data == at)
			return bad(m, "block %llu was discarded and is no hole",
				   (unsigned long long)b);
		if (m->written[b] && data != at &&
		    memchr(m->discarded + b * BLOCK_SECTORS, false, BLOCK_SECTORS))
			return bad(m, "block %llu was written and is a hole",
				   (unsigned long long)b);
	}
	/* File systems count some blocks of their own. */
	found = disk_allocated(m->run->path);
	if (found > allocated * BLOCK + 256 * KIB || found + 256 * KIB < allocated * BLOCK)
		return bad(m, "%llu bytes are allocated, expected %llu", (unsigned long long)found,
			   (unsigned long long)(allocated * BLOCK));
	return NULL;
}

static bool load(struct model *m)
{
	size_t size = m->sectors * BLK_SECTOR;
	int fd = open(m->run->path, O_RDONLY | O_CLOEXEC);
	bool ok = fd >= 0 && pread_full(fd, m->data, size, 0) == (ssize_t)size;

	close(fd);
	return ok;
}

static const char *run(struct model *m)
{
	const char *r = NULL;
	int fd;

	for (unsigned i = 0; i < m->requests && !r;) {
		/* In bursts, so that batches of all sizes happen. */
		while (m->in_flight < m->run->depth && i < m->requests && below(m, 8) && !r) {
			r = send(m);
			i++;
		}
		disk_kick(m->run->disk, 0);
		if (m->in_flight && !r)
			r = reap(m);
	}
	while (m->in_flight && !r)
		r = reap(m);
	if (r)
		return r;
	if (disk_flush(m->run->disk) != VIRTIO_BLK_S_OK)
		return bad(m, "flush failed");
	fd = open(m->run->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return bad(m, "cannot open the image: %s", strerror(errno));
	r = m->run->ephemeral ? check_disk(m) : check_bytes(m, fd);
	if (!r && m->run->check_holes)
		r = check_holes(m, fd);
	close(fd);
	return r;
}

static uint64_t environment(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoull(value, NULL, 10) : otherwise;
}

const char *blk_model(const struct blk_model_run *what)
{
	uint64_t size = what->disk->image->size;
	struct model *m = calloc(1, sizeof(*m));
	const char *r = "out of memory";

	if (!m)
		return r;
	m->run = what;
	m->requests = (unsigned)environment("SKEP_BLK_MODEL_REQUESTS", what->requests);
	m->seed = what->seed + environment("SKEP_BLK_MODEL_SEED", 0);
	m->random = m->seed;
	m->sectors = size / BLK_SECTOR;
	m->data = calloc(1, size);
	m->busy = calloc(1, m->sectors);
	m->discarded = calloc(m->sectors, sizeof(bool));
	m->allocated = calloc(size / BLOCK + 1, sizeof(bool));
	m->written = calloc(size / BLOCK + 1, sizeof(bool));
	m->buffer = drv_alloc(&what->disk->drv, 2 * MAX_DEPTH * MAX_BYTES, 4096);
	if (m->data && m->busy && m->discarded && m->allocated && m->written)
		r = what->ephemeral && !load(m) ? "cannot read the image" : run(m);
	free(m->data);
	free(m->busy);
	free(m->discarded);
	free(m->allocated);
	free(m->written);
	free(m);
	return r;
}
