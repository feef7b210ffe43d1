// SPDX-License-Identifier: BSD-2-Clause
/* The disk on real block devices: loop devices, and device mapper's error target. */
#include "base/log.h"
#include "blk_host_fixture.h"

static void test_loop_discard(void **state)
{
	struct fixture *f = *state;
	struct virtio_blk_discard_write_zeroes ranges[] = {
		{.sector = 2048, .num_sectors = 2048},
		{.sector = 8192, .num_sectors = 4096},
	};
	struct disk_result result;

	up_on_loop(f, 8 * MIB, 0);
	assert_true(f->disk.image->device);
	assert_true(drv_device_features(&f->disk.drv) & BIT(VIRTIO_BLK_F_DISCARD));
	assert_true(config(&f->disk)->discard_sector_alignment > 0);
	print_message("# discards by %s\n",
		      f->disk.image->uring_discard ? "BLOCK_URING_CMD_DISCARD" : "BLKDISCARD");
	assert_int_equal(disk_read(&f->disk, 0, f->data, 8 * MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 8 * MIB));
	assert_int_equal(disk_ranges(&f->disk, VIRTIO_BLK_T_DISCARD, ranges, 2), VIRTIO_BLK_S_OK);
	assert_in_range(disk_allocated(f->backing), 5 * MIB, 5 * MIB + 64 * KIB);
	/* The page cache over the device does not show what is gone. */
	assert_int_equal(disk_read(&f->disk, 0, f->data, 8 * MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, MIB));
	assert_true(mem_is_zero(f->data + MIB, MIB));
	assert_true(disk_is_fill(f->data + 2 * MIB, 2 * MIB, 2 * MIB));
	assert_true(mem_is_zero(f->data + 4 * MIB, 2 * MIB));
	assert_true(disk_is_fill(f->data + 6 * MIB, 6 * MIB, 2 * MIB));
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, SECTORS, 0),
			 VIRTIO_BLK_S_OK);
	assert_in_range(disk_allocated(f->backing), 0, 64 * KIB);
	/* What a device does with it, nobody knows. */
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.discarded_bytes, 3 * MIB + SIZE);
	assert_int_equal(result.returned_bytes, -1);
	assert_int_equal(result.allocated_start, -1);
	assert_int_equal(result.allocated_end, -1);
}

static void test_loop_write_zeroes(void **state)
{
	struct fixture *f = *state;

	up_on_loop(f, 8 * MIB, 0);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 2048, 0),
			 VIRTIO_BLK_S_OK);
	assert_in_range(disk_allocated(f->backing), 8 * MIB, 8 * MIB + 64 * KIB);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 4096, 2048, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_in_range(disk_allocated(f->backing), 7 * MIB, 7 * MIB + 64 * KIB);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 12289, 1, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 8 * MIB), VIRTIO_BLK_S_OK);
	assert_true(mem_is_zero(f->data, MIB));
	assert_true(disk_is_fill(f->data + MIB, MIB, MIB));
	assert_true(mem_is_zero(f->data + 2 * MIB, MIB));
	assert_true(disk_is_fill(f->data + 3 * MIB, 3 * MIB, 3 * MIB + 512));
	assert_true(mem_is_zero(f->data + 6 * MIB + 512, 512));
	assert_true(disk_is_fill(f->data + 6 * MIB + 1024, 6 * MIB + 1024, 2 * MIB - 1024));
}

static void test_loop_of_4096_byte_blocks(void **state)
{
	struct fixture *f = *state;
	bool direct = f->options.direct;

	up_on_loop(f, 4 * MIB, 4096);
	assert_int_equal(config(&f->disk)->blk_size, 4096);
	assert_int_equal(config(&f->disk)->capacity, SECTORS);
	assert_int_equal(config(&f->disk)->discard_sector_alignment % 8, 0);
	/* Units are sectors of 512 bytes nevertheless. */
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 2048, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 4 * MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, MIB));
	assert_true(mem_is_zero(f->data + MIB, 4096));
	assert_true(disk_is_fill(f->data + MIB + 4096, MIB + 4096, 3 * MIB - 4096));
	memset(f->data, 1, 512);
	assert_int_equal(disk_write(&f->disk, 1, f->data, 512),
			 direct ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
	assert_int_equal(disk_write(&f->disk, 8, f->data, 8192), VIRTIO_BLK_S_OK);
}

/* A loop device cannot, which is found out without an erasure. */
static void test_no_secure_erase(void **state)
{
	struct fixture *f = *state;

	up_on_loop(f, 4 * MIB, 0);
	assert_false(f->disk.image->secure_erase);
	assert_false(drv_device_features(&f->disk.drv) & BIT(VIRTIO_BLK_F_SECURE_ERASE));
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_SECURE_ERASE, 0, 8, 0),
			 VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 4 * MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 4 * MIB));
}

/* Were it asked, it says no, and the guest is told; discards take their way as before. */
static void test_secure_erase_refused(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = f->options;

	f->options.secure_erase = true;
	up_on_loop(f, 4 * MIB, 0);
	f->options = o;
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_SECURE_ERASE, 0, SECTORS, 0),
			 VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 4 * MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 4 * MIB));
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, SECTORS, 0),
			 VIRTIO_BLK_S_OK);
	assert_in_range(disk_allocated(f->backing), 0, 64 * KIB);
}

static void test_readonly_device(void **state)
{
	struct fixture *f = *state;
	struct disk_options readonly = f->options;
	struct error e = {""};

	disk_fill(f->backing, 0, MIB);
	f->loop_fd = attach(f->backing, LO_FLAGS_READ_ONLY, 0, f->device);
	assert_true(disk_open(&f->disk, f->device, &f->options, &e) < 0);
	f->disk.dev = NULL;
	assert_non_null(strstr(e.msg, "readonly"));
	if (readonly.engine == ENGINE_URING && no_uring)
		return;
	readonly.readonly = true;
	assert_int_equal(disk_open(&f->disk, f->device, &readonly, &e), 0);
	disk_start(&f->disk);
	assert_false(drv_device_features(&f->disk.drv) & BIT(VIRTIO_BLK_F_DISCARD));
	assert_int_equal(disk_read(&f->disk, 0, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, MIB));
	assert_int_equal(disk_write(&f->disk, 0, f->data, 4096), VIRTIO_BLK_S_IOERR);
}

static void test_a_device_in_use(void **state)
{
	struct fixture *f = *state;
	struct error e = {""};
	int held;

	f->loop_fd = attach(f->backing, 0, 0, f->device);
	held = open(f->device, O_RDWR | O_EXCL | O_CLOEXEC); /* as a mount does */
	assert_true(held >= 0);
	assert_int_equal(disk_open(&f->disk, f->device, &f->options, &e), -EBUSY);
	f->disk.dev = NULL;
	assert_non_null(strstr(e.msg, "mounted"));
	close(held);
}

/* Whoever only reads what this host may write has to know. */
static void test_a_device_that_is_mounted(void **state)
{
	struct fixture *f = *state;
	char said[4096] = "", *file = disk_file(0);
	int log = open(file, O_RDWR | O_CLOEXEC), before = log_set_fd(log);
	int mounted = mount_fs(f, "ext4");

	f->options.readonly = true;
	snprintf(f->device, sizeof(f->device), "/proc/self/fd/%d", mounted);
	up_on(f, f->device);
	down(f);
	assert_true(pread(log, said, sizeof(said) - 1, 0) > 0);
	assert_non_null(strstr(said, mount_point));
	assert_non_null(strstr(said, "unmount it there"));
	/* Mounted read-only it cannot change. */
	assert_int_equal(mount(NULL, mount_point, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	assert_int_equal(ftruncate(log, 0), 0);
	up_on(f, f->device);
	down(f);
	assert_int_equal(pread(log, said, sizeof(said), 0), 0);
	f->options.readonly = false;
	log_set_fd(before);
	close(log);
	unlink(file);
	free(file);
	unmount();
	close(mounted);
}

/* As null_blk makes one, with a zone that may be written anywhere before those that may not. */
static void test_a_zoned_device(void **state)
{
	static const char *const nullb = "/sys/kernel/config/nullb/skep-test";
	struct fixture *f = *state;
	struct error e = {""};

	/* The module brings configfs with it, which may be mounted or not. */
	run("modprobe -q null_blk nr_devices=0");
	mount("configfs", "/sys/kernel/config", "configfs", 0, NULL);
	if (run("mkdir %s 2>/dev/null && cd %s && "
		"for set in zoned=1 zone_size=4 zone_nr_conv=1 size=64 memory_backed=1 power=1; do "
		"echo ${set#*=} >${set%%=*} || exit; done",
		nullb, nullb)) {
		run("rmdir %s 2>/dev/null", nullb);
		print_message("# there is no null_blk with zones here\n");
		skip();
	}
	/* Kernels name it as its directory is named, or by its index. */
	assert_int_equal(run("dev=/dev/skep-test; [ -b $dev ] || dev=/dev/nullb$(cat %s/index); "
			     "[ -b $dev ] && ln -sf $dev %s",
			     nullb, f->backing),
			 0);
	assert_int_equal(disk_open(&f->disk, f->backing, &f->options, &e), -EOPNOTSUPP);
	f->disk.dev = NULL;
	assert_non_null(strstr(e.msg, "zoned device"));
	assert_non_null(strstr(e.msg, "dm-zoned"));
	f->options.readonly = true;
	up_on(f, f->backing);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 65536), VIRTIO_BLK_S_OK);
	down(f);
	f->options.readonly = false;
	assert_int_equal(run("echo 0 >%s/power && rmdir %s", nullb, nullb), 0);
}

/* A VM's claim has a name, and ends with the VM, whatever its io_uring still has in hand. */
static void test_a_device_of_another_vm(void **state)
{
	struct fixture *f = *state;
	struct error e = {""};
	char who[32], byte;
	int ready[2], status;
	pid_t pid;

	f->loop_fd = attach(f->backing, 0, 0, f->device);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		disk_up(&f->disk, f->device, &f->options);
		(void)!write(ready[1], "r", 1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	snprintf(who, sizeof(who), "in use by process %d (", (int)pid);
	for (unsigned readonly = 0; readonly < 2; readonly++) {
		f->options.readonly = readonly;
		assert_int_equal(disk_open(&f->disk, f->device, &f->options, &e), -EBUSY);
		assert_non_null(strstr(e.msg, who));
	}
	f->options.readonly = false;
	f->disk.dev = NULL;
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(ready[0]);
	close(ready[1]);
	disk_up(&f->disk, f->device, &f->options);
}

/* A device whose medium fails: reads past the end of the shrunk file are EIO. */
static void test_a_device_that_grows(void **state)
{
	struct fixture *f = *state;
	struct error e = {""};

	up_on_loop(f, SIZE, 4096);
	assert_int_equal(blk_device_resize(f->disk.dev, 2 * SIZE, &e), -ENOSPC);
	assert_non_null(strstr(e.msg, "enlarge that first"));
	assert_int_equal(truncate(f->backing, 2 * SIZE), 0);
	assert_int_equal(ioctl(f->loop_fd, LOOP_SET_CAPACITY, 0), 0);
	assert_int_equal(blk_device_resize(f->disk.dev, SIZE + 512, &e), -EINVAL);
	assert_int_equal(blk_device_resize(f->disk.dev, SIZE + 4096, NULL), SIZE + 4096);
	assert_int_equal(config(&f->disk)->capacity, SECTORS + 8);
	assert_int_equal(blk_device_resize(f->disk.dev, 0, NULL), 2 * SIZE);
	assert_int_equal(config(&f->disk)->capacity, 2 * SECTORS);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 65536), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 65536));
	assert_int_equal(disk_write(&f->disk, 2 * SECTORS - 128, f->data, 65536), VIRTIO_BLK_S_OK);
}

static void test_device_errors(void **state)
{
	struct fixture *f = *state;

	disk_fill(f->backing, 0, SIZE);
	up_on_loop(f, 0, 0);
	assert_int_equal(truncate(f->backing, MIB), 0);
	if (disk_read(&f->disk, SECTORS / 2, f->data, 65536) == VIRTIO_BLK_S_OK) {
		assert_true(mem_is_zero(f->data, 65536));
		print_message("# the loop driver of this kernel adds zeros to a short file\n");
		skip();
	}
	assert_int_equal(disk_status(&f->disk, 0, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 65536), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 65536));
	assert_int_equal(disk_write(&f->disk, 0, f->data, 65536), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
}

/* The device becomes smaller, and is as large as before again. */
static void vanish_and_return(struct fixture *f)
{
	uint32_t large = 65536, small = 4096;

	disk_fill(f->backing, 0, SIZE);
	up_on_loop(f, 0, 0);
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(truncate(f->backing, MIB), 0);
		assert_int_equal(ioctl(f->loop_fd, LOOP_SET_CAPACITY, 0), 0);
		assert_int_equal(disk_read(&f->disk, SECTORS / 2, f->data, small),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_read(&f->disk, 2048 - 8, f->data, large), VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_write(&f->disk, SECTORS / 2, f->data, large),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, SECTORS / 2, 2048, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(
			disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, SECTORS / 2, 2048, 0),
			VIRTIO_BLK_S_IOERR);
		/* What is left of it works. */
		assert_int_equal(disk_read(&f->disk, 0, f->data, large), VIRTIO_BLK_S_OK);
		assert_true(disk_is_fill(f->data, 0, large));
		assert_int_equal(disk_write(&f->disk, 0, f->data, large), VIRTIO_BLK_S_OK);
		assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
		assert_int_equal(truncate(f->backing, SIZE), 0);
		assert_int_equal(ioctl(f->loop_fd, LOOP_SET_CAPACITY, 0), 0);
		assert_int_equal(disk_write(&f->disk, SECTORS / 2, f->data, large),
				 VIRTIO_BLK_S_OK);
	}
}

static void test_a_device_that_vanishes(void **state)
{
	vanish_and_return(*state);
}

/* The kernel calls it ENOSPC, but no space will come. */
static void test_a_device_that_vanishes_is_not_full(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = f->options;
	struct disk_result result;

	f->options.wait_for_space = true;
	vanish_and_return(f);
	f->options = o;
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.space_pauses, 0);
}

static void test_reset_with_device_discards_in_flight(void **state)
{
	struct fixture *f = *state;

	up_on_loop(f, 4 * MIB, 0);
	f->disk.image->discard_step = 64 * KIB;
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 30; i++)
			send_range(&f->disk, i, VIRTIO_BLK_T_DISCARD, SECTORS / 2, SECTORS / 2);
		disk_kick(&f->disk, 0);
		usleep(round * 20);
		disk_restart(&f->disk);
	}
	assert_int_equal(disk_read(&f->disk, 0, f->data, 4 * MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 4 * MIB));
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, SECTORS, 0),
			 VIRTIO_BLK_S_OK);
}

/* Writes through the page cache to even sectors, and ranges of odd ones in the same pages. */
static void ranges_beside_writes(struct fixture *f, uint32_t type)
{
	static const unsigned depth[2] = {32, 8};
	unsigned sent[2] = {0}, done[2] = {0};
	struct disk *d = &f->disk;
	gpa_t ranges = GPA(d->buffer.v + MIB);
	uint8_t status;

	memset(drv_ptr(&d->drv, d->buffer, MIB), 0x55, MIB);
	while (done[1] < 10000) {
		for (unsigned q = 0; q < 2; q++) {
			for (; sent[q] - done[q] < depth[q]; sent[q]++) {
				struct drv_buf buf = {d->buffer, 512, false};
				uint64_t sector = sent[q] * 7 % 32 * 2 + q;

				if (q) {
					buf = (struct drv_buf){GPA(ranges.v + sent[q] % 64 * 16),
							       16, false};
					*(struct virtio_blk_discard_write_zeroes *)drv_ptr(
						&d->drv, buf.addr, 16) =
						(struct virtio_blk_discard_write_zeroes){sector, 1,
											 0};
				}
				assert_true(disk_send(d, q, q ? type : VIRTIO_BLK_T_OUT,
						      q ? 0 : sector, &buf, 1) >= 0);
			}
			disk_kick(d, q);
		}
		for (unsigned q = 0; q < 2; q++) {
			disk_reap(d, q, &status, NULL);
			assert_int_equal(status, VIRTIO_BLK_S_OK);
			done[q]++;
		}
	}
	disk_restart(d);
}

static void test_ranges_beside_writes_in_one_page(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = f->options;

	f->options.queues = 2;
	up_on_loop(f, 0, 512);
	f->options = o;
	ranges_beside_writes(f, VIRTIO_BLK_T_DISCARD);
	ranges_beside_writes(f, VIRTIO_BLK_T_WRITE_ZEROES);
	/* What was written is there. */
	memset(f->data, 0x66, 512);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 1, 1, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 1024), VIRTIO_BLK_S_OK);
	assert_int_equal(f->data[0], 0x66);
	assert_int_equal(f->data[511], 0x66);
}

static void test_loop_model(void **state)
{
	struct fixture *f = *state;

	up_on_loop(f, 0, 0);
	run_model(f, f->backing, 1);
}

static void test_loop_model_of_4096_byte_blocks(void **state)
{
	struct fixture *f = *state;

	up_on_loop(f, 0, 4096);
	run_model(f, f->backing, 1);
}

/* An image with blocks of 512, copied to a device that has larger ones. */
static void test_a_device_with_the_images_blocks(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = f->options;

	f->options.block_size = BLOCK_SIZE_512;
	up_on_loop(f, 4 * MIB, 4096);
	f->options = o;
	assert_int_equal(config(&f->disk)->blk_size, 512);
	assert_false(f->disk.image->direct);
	/* What the device cannot do in parts of its blocks is done otherwise, or is not done. */
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 1, 10, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 1, 10, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 2048, 16, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 2 * MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 512));
	assert_true(mem_is_zero(f->data + 512, 10 * 512));
	assert_true(disk_is_fill(f->data + 11 * 512, 11 * 512, MIB - 11 * 512));
	assert_true(mem_is_zero(f->data + MIB, 8192));
}

/* Device mapper: the second half of the disk answers every request with EIO. */
static void test_dm_error(void **state)
{
	struct fixture *f = *state;
	const char *name = "skep-test-error";

	if (run("dmsetup version >/dev/null 2>&1")) {
		print_message("# device mapper is not available\n");
		skip();
	}
	run("modprobe -q dm-mod");
	f->loop_fd = attach(f->backing, 0, 0, f->device);
	assert_int_equal(run("printf '0 %lu linear %s 0\\n%lu %lu error\\n' | "
			     "dmsetup create --verifyudev %s >/dev/null",
			     SECTORS / 2, f->device, SECTORS / 2, SECTORS / 2, name),
			 0);
	run("dmsetup mknodes %s", name);
	up_on(f, "/dev/mapper/skep-test-error");
	memset(f->data, 3, 65536);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t bad = SECTORS / 2 + 128 * i;

		assert_int_equal(disk_write(&f->disk, 128, f->data, 65536), VIRTIO_BLK_S_OK);
		assert_int_equal(disk_read(&f->disk, bad, f->data, 65536), VIRTIO_BLK_S_IOERR);
		/* A buffered write fails when it is flushed. */
		if (disk_write(&f->disk, bad, f->data, 65536) == VIRTIO_BLK_S_OK)
			assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_IOERR);
		if (drv_device_features(&f->disk.drv) & BIT(VIRTIO_BLK_F_DISCARD))
			assert_in_range(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, bad, 128, 0),
					VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, bad, 128, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_read(&f->disk, 128, f->data, 65536), VIRTIO_BLK_S_OK);
		assert_int_equal(f->data[65535], 3);
		memset(f->data, 3, 65536);
	}
	down(f);
	assert_int_equal(run("dmsetup remove %s", name), 0);
}

int main(void)
{
	static struct fixture uring = {.options = {.engine = ENGINE_URING}};
	static struct fixture worker = {.options = {.engine = ENGINE_URING, .blkdiscard = true}};
	static struct fixture sync = {.options = {.engine = ENGINE_SYNC}};
	static struct fixture direct = {.options = {.engine = ENGINE_URING, .direct = true}};
	const struct CMUnitTest tests[] = {
		TEST(loop_discard),
		TEST(loop_write_zeroes),
		TEST(loop_of_4096_byte_blocks),
		TEST(a_device_that_vanishes),
		TEST(a_device_that_vanishes_is_not_full),
		TEST(no_secure_erase),
		TEST(secure_erase_refused),
		TEST(reset_with_device_discards_in_flight),
		TEST(ranges_beside_writes_in_one_page),
		TEST(loop_model),
		TEST(loop_model_of_4096_byte_blocks),
		TEST(dm_error),
		NAMED(uring, a_device_that_grows),
		NAMED(uring, readonly_device),
		NAMED(uring, a_device_in_use),
		NAMED(sync, a_device_that_is_mounted),
		NAMED(sync, a_zoned_device),
		NAMED(uring, a_device_of_another_vm),
		NAMED(uring, device_errors),
		NAMED(sync, device_errors),
		TEST(a_device_with_the_images_blocks),
	};

	return host_tests("blk_host", tests);
}
