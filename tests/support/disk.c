// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "disk.h"

struct slot {
	struct virtio_blk_outhdr header;
	uint8_t status;
	uint8_t pad[15];
};

#define must(condition) must_(condition, #condition, __LINE__)

static void must_(bool ok, const char *what, int line)
{
	if (ok)
		return;
	fprintf(stderr, "disk.c:%d: %s (%s)\n", line, what, strerror(errno));
	abort();
}

int disk_open(struct disk *ret, const char *path, const struct disk_options *options,
	      struct error *e)
{
	static const enum loop_engine loop_engines[] = {
		[ENGINE_AUTO] = LOOP_AUTO, [ENGINE_URING] = LOOP_URING, [ENGINE_SYNC] = LOOP_EPOLL};
	struct disk_config config = {
		.path = (char *)path,
		.readonly = options->readonly,
		.ephemeral = options->ephemeral,
		.cache = options->direct ? CACHE_NONE : options->cache,
		.block_size = options->block_size,
		.discard = options->ignore ? DISCARD_IGNORE : DISCARD_UNMAP,
		.detect_zeroes = options->detect_zeroes ? DETECT_ZEROES_UNMAP : DETECT_ZEROES_OFF,
		.werror = options->wait_for_space ? WERROR_ENOSPC_PAUSE : WERROR_REPORT,
		.engine = options->engine,
		.pin = options->pin,
		.poll_ns = options->poll_ns,
		.queues = MAX(options->queues, 1u),
		.bps = options->limits.bytes_per_s,
		.iops = (unsigned)options->limits.ops_per_s,
		.burst_ns = options->limits.burst_ns,
	};
	int r;

	memset(ret, 0, sizeof(*ret));
	snprintf(config.serial, sizeof(config.serial), "%s",
		 options->serial ? options->serial : "test");
	r = blk_image_open(&ret->image, &config, e);
	if (r < 0)
		return r;
	if (options->secure_erase)
		ret->image->secure_erase = true;
	if (options->blkdiscard)
		ret->image->uring_discard = false;
	ret->queues = config.queues;
	for (unsigned i = 0; i < ret->queues && r >= 0; i++)
		r = loop_new(&ret->loop[i], "disk", loop_engines[options->engine],
			     options->entries ? options->entries : 256, e);
	drv_init(&ret->drv, DISK_RAM);
	if (r >= 0)
		r = blk_device_new(&ret->dev, &ret->drv.mem, ret->image, &config, ret->loop, e);
	else
		blk_image_close(ret->image);
	if (r < 0) {
		for (unsigned i = 0; i < ret->queues; i++)
			loop_free(ret->loop[i]);
		drv_free(&ret->drv);
		return r;
	}
	drv_attach(&ret->drv, ret->dev);
	ret->features = ~options->decline;
	ret->buffer = drv_alloc(&ret->drv, DISK_BUFFER, 4096);
	for (unsigned i = 0; i < ret->queues; i++)
		ret->slot[i] = drv_alloc(&ret->drv, VIRTQ_MAX_SIZE * sizeof(struct slot), 16);
	return 0;
}

void disk_start(struct disk *disk)
{
	for (unsigned i = 0; i < disk->queues; i++)
		must(loop_start(disk->loop[i], NULL, NULL, NULL) == 0);
	if (blk_device_worker(disk->dev))
		must(loop_start(blk_device_worker(disk->dev), NULL, NULL, NULL) == 0);
	drv_start(&disk->drv, disk->features, 0);
}

void disk_restart(struct disk *disk)
{
	drv_reset(&disk->drv);
	drv_start(&disk->drv, disk->features, 0);
}

void disk_up(struct disk *ret, const char *path, const struct disk_options *options)
{
	struct error e = {""};

	if (disk_open(ret, path, options, &e) < 0) {
		fprintf(stderr, "%s: %s\n", path, e.msg);
		abort();
	}
	disk_start(ret);
}

void disk_close(struct disk *disk)
{
	struct loop *worker = blk_device_worker(disk->dev);

	virtio_dev_quiesce(disk->dev);
	for (unsigned i = 0; i < disk->queues; i++)
		loop_stop(disk->loop[i]);
	loop_stop(worker);
	virtio_dev_free(disk->dev);
	for (unsigned i = 0; i < disk->queues; i++)
		loop_free(disk->loop[i]);
	loop_free(worker);
	drv_free(&disk->drv);
}

static gpa_t slot_of(const struct disk *disk, unsigned q, unsigned head)
{
	return GPA(disk->slot[q].v + head * sizeof(struct slot));
}

int disk_send(struct disk *disk, unsigned q, uint32_t type, uint64_t sector,
	      const struct drv_buf *data, unsigned n)
{
	struct drv_queue *dq = &disk->drv.queue[q];
	struct drv_buf bufs[256];
	struct slot *slot;
	unsigned head = 0;
	gpa_t at;
	int r;

	/* Where drv_add() will put it. */
	while (head < dq->size && dq->owner[head])
		head++;
	if (head == dq->size)
		return -ENOSPC;
	must(n + 2 <= ARRAY_SIZE(bufs));
	at = slot_of(disk, q, head);
	slot = drv_ptr(&disk->drv, at, sizeof(*slot));
	*slot = (struct slot){.header = {.type = type, .sector = sector}, .status = DISK_PENDING};
	bufs[0] = (struct drv_buf){at, sizeof(slot->header), false};
	for (unsigned i = 0; i < n; i++)
		bufs[i + 1] = data[i];
	bufs[n + 1] = (struct drv_buf){GPA(at.v + offsetof(struct slot, status)), 1, true};
	if (disk->dev->driver_features & (1ull << VIRTIO_RING_F_INDIRECT_DESC))
		r = drv_add_indirect(dq, bufs, n + 2);
	else
		r = drv_add(dq, bufs, n + 2);
	must(r == (int)head || r == -ENOSPC);
	return r;
}

void disk_kick(struct disk *disk, unsigned q)
{
	drv_kick_if_needed(&disk->drv.queue[q]);
}

uint8_t disk_status(struct disk *disk, unsigned q, unsigned head)
{
	struct slot *slot = drv_ptr(&disk->drv, slot_of(disk, q, head), sizeof(*slot));

	return slot->status;
}

int disk_reap(struct disk *disk, unsigned q, uint8_t *status, uint32_t *length)
{
	uint32_t head;

	drv_wait_used(&disk->drv.queue[q], &head, length);
	if (status)
		*status = disk_status(disk, q, head);
	return (int)head;
}

uint8_t disk_do(struct disk *disk, uint32_t type, uint64_t sector, const struct drv_buf *data,
		unsigned n)
{
	uint8_t status;
	int head = disk_send(disk, 0, type, sector, data, n);

	must(head >= 0);
	disk_kick(disk, 0);
	must(disk_reap(disk, 0, &status, &disk->length) == head);
	return status;
}

uint8_t disk_read(struct disk *disk, uint64_t sector, void *data, uint32_t len)
{
	struct drv_buf buf = {disk->buffer, len, true};
	uint8_t status = disk_do(disk, VIRTIO_BLK_T_IN, sector, &buf, 1);

	memcpy(data, drv_ptr(&disk->drv, disk->buffer, len), len);
	return status;
}

uint8_t disk_write(struct disk *disk, uint64_t sector, const void *data, uint32_t len)
{
	struct drv_buf buf = {disk->buffer, len, false};

	memcpy(drv_ptr(&disk->drv, disk->buffer, len), data, len);
	return disk_do(disk, VIRTIO_BLK_T_OUT, sector, &buf, 1);
}

uint8_t disk_flush(struct disk *disk)
{
	return disk_do(disk, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
}

uint8_t disk_ranges(struct disk *disk, uint32_t type,
		    const struct virtio_blk_discard_write_zeroes *ranges, unsigned n)
{
	uint32_t len = n * (uint32_t)sizeof(*ranges);
	struct drv_buf buf = {disk->buffer, len, false};

	memcpy(drv_ptr(&disk->drv, disk->buffer, len), ranges, len);
	return disk_do(disk, type, 0, &buf, n ? 1 : 0);
}

uint8_t disk_range(struct disk *disk, uint32_t type, uint64_t sector, uint32_t sectors,
		   uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes range = {
		.sector = sector, .num_sectors = sectors, .flags = flags};

	return disk_ranges(disk, type, &range, 1);
}

char *disk_file(uint64_t size)
{
	const char *dir = getenv("TMPDIR");
	char *path;
	int fd;

	must(asprintf(&path, "%s/skep-test-XXXXXX", dir && *dir ? dir : "/var/tmp") > 0);
	fd = mkstemp(path);
	must(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	close(fd);
	return path;
}

uint64_t disk_allocated(const char *path)
{
	struct stat st;

	/* Delayed allocation would count for nothing. */
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	must(fd >= 0 && fsync(fd) == 0 && fstat(fd, &st) == 0);
	close(fd);
	return (uint64_t)st.st_blocks * 512;
}

static uint8_t fill_byte(uint64_t at)
{
	return (uint8_t)((at * 0x9e3779b97f4a7c15ull >> 56) | 1);
}

void disk_fill(const char *path, uint64_t offset, uint64_t len)
{
	uint8_t *data = malloc(len);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	must(data && fd >= 0);
	for (uint64_t i = 0; i < len; i++)
		data[i] = fill_byte(offset + i);
	must(pwrite(fd, data, len, (off_t)offset) == (ssize_t)len && fsync(fd) == 0);
	close(fd);
	free(data);
}

bool disk_is_fill(const void *data, uint64_t offset, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (((const uint8_t *)data)[i] != fill_byte(offset + i))
			return false;
	return true;
}
