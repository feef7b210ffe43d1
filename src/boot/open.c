// SPDX-License-Identifier: BSD-2-Clause
/*
 * Opens and identifies kernel and initrd, and finds the unpacked kernel or makes it.
 *
 * DOC: An unpacked kernel is kept in the cache under the hash of its bzImage, so that copies of it
 * are unpacked only once. But reading and hashing 14 MiB takes 45 ms, and starting a VM takes 3. So
 * an entry has a second name (a hard link), made from the bzImage's path, device, inode, size,
 * mtime and ctime, by which a build tool or git would recognise a file. With this name the bzImage
 * need not be read at all. Only root can set a ctime. Anyone who can put another file at the same
 * path with all the same values (a FUSE server, another disk with the same number) controls that
 * path, and could have put any kernel there. This is why the path is part of the name: nobody
 * else's kernel can take the place of one's own. A file that was changed in the last two seconds
 * gets no such name, since it may be changed again within the same tick of its clock.
 *
 * The bzImage is read once, into memory, and what is hashed is what is unpacked.
 *
 * Without a usable cache the unpacked kernel goes to a memfd; if it cannot be unpacked here at all,
 * the guest does it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "cache.h"
#include "image.h"

#define CLOCK_TICK 2 /* seconds: the coarsest file time there is (FAT) */

#define NAME_LEN (sizeof(CACHE_PREFIX) + 16 + 2 * (size_t)SHA256_DIGEST_LENGTH)

/* Reads a pipe to its end, into a memfd that takes its place. */
static int read_pipe(int *fd, struct stat *ret_st, struct error *e)
{
	_cleanup_close_ int pipe = *fd;
	struct pollfd wait = {.fd = pipe, .events = POLLIN};
	loff_t end = 0;
	ssize_t n = 1;

	*fd = memfd_create("pipe", MFD_CLOEXEC);
	if (*fd < 0)
		return error_set(e, -errno,
				 "is a pipe, and no file can be created for its content: %m");
	while (n && (uint64_t)end <= IMAGE_MAX_FILE) {
		n = splice(pipe, NULL, *fd, &end, MIB, SPLICE_F_NONBLOCK);
		if (n < 0 && errno == EAGAIN)
			poll(&wait, 1, -1);
		else if (n < 0 && errno != EINTR)
			return error_set(e, -errno, "cannot be read: %m");
	}
	if (!end)
		return error_set(e, -EINVAL, "is a pipe that nobody writes to");
	return fstat(*fd, ret_st) ? -errno : 0;
}

static int open_file(const char *path, const char *option, int *ret_fd, struct stat *ret_st,
		     struct error *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 && (errno == EACCES || errno == EPERM))
		return error_set(e, -errno,
				 "permission denied: make it readable for this user, or copy it");
	if (fd < 0)
		return error_set(e, -errno, "%m: name the file with %s", option);
	*ret_fd = fd;
	if (fstat(fd, ret_st))
		return error_set(e, -errno, "%m");
	if (S_ISFIFO(ret_st->st_mode))
		return read_pipe(ret_fd, ret_st, e);
	if (!S_ISREG(ret_st->st_mode))
		return error_set(e, S_ISDIR(ret_st->st_mode) ? -EISDIR : -EINVAL,
				 "is %s, not a file: name the file with %s",
				 file_kind(ret_st->st_mode), option);
	return 0;
}

static int not_a(const char *wanted, const struct file_identity *id, struct error *e)
{
	return error_set(e, -EINVAL, "is %s, not %s%s%s", id->what, wanted, id->hint[0] ? ": " : "",
			 id->hint);
}

static int open_initrd(const char *path, int *ret_fd, uint64_t *ret_size, struct error *e)
{
	struct file_identity id;
	struct stat st;
	int r;

	r = open_file(path, "--initrd", ret_fd, &st, e);
	if (r)
		return r;
	if ((uint64_t)st.st_size > IMAGE_MAX_FILE)
		return error_set(e, -EFBIG, "is %" PRIu64 " MiB: the maximum for an initrd is %llu",
				 (uint64_t)st.st_size / MIB, IMAGE_MAX_FILE / MIB);
	image_identify(&(struct image_source){.fd = *ret_fd, .size = (uint64_t)st.st_size}, &id);
	if (id.type == FILE_BZIMAGE || id.type == FILE_ELF)
		snprintf(id.hint, sizeof(id.hint), "a kernel goes to --kernel");
	if (id.type != FILE_MAYBE_INITRD)
		return not_a("an initramfs", &id, e);
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

/* Adds a file to the end of another. */
static int add_file(int to, uint64_t end, int from, uint64_t size)
{
	off_t at = 0;

	if (lseek(to, (off_t)end, SEEK_SET) < 0)
		return -errno;
	while ((uint64_t)at < size) {
		ssize_t n = sendfile(to, from, &at, size - (uint64_t)at);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ENODATA;
	}
	return 0;
}

/* The kernel unpacks one after the other; an archive that is not packed begins at a multiple of
 * four bytes (linux/init/initramfs.c). */
static int open_initrds(struct boot_files *files, char *const *paths, struct error *e)
{
	uint64_t *total = &files->image->initrd_size;
	bool several = paths[0] && paths[1];
	int r = 0;

	if (several && (files->initrd_fd = memfd_create("initrd", MFD_CLOEXEC)) < 0)
		return error_set(e, -errno, "cannot create a file for several initrds: %m");
	for (; !r && *paths; paths++) {
		_cleanup_close_ int fd = -1;
		uint64_t size = 0;

		r = open_initrd(*paths, several ? &fd : &files->initrd_fd, &size, e);
		*total = ALIGN_UP(*total, 4u);
		if (!r && *total + size > IMAGE_MAX_FILE)
			r = error_set(e, -EFBIG,
				      "makes the initrds %" PRIu64
				      " MiB in all: the maximum is %llu",
				      (*total + size) / MIB, IMAGE_MAX_FILE / MIB);
		if (!r && several && (r = add_file(files->initrd_fd, *total, fd, size)))
			error_set(e, r, "cannot be read: %m");
		*total += size;
		if (r)
			error_prefix(e, r, "initrd %s", *paths);
	}
	return r;
}

/* ----- names in the cache ----- */

static void name_of(char *ret, const char *kind, const void *data, size_t len)
{
	int n = snprintf(ret, NAME_LEN, CACHE_PREFIX "%u-%s-", IMAGE_VERSION, kind);

	SHA256Data(data, len, ret + n);
}

/* The name by what the file is, or "" when it cannot be told from others by that. */
static void name_by_identity(char *ret, int fd, const struct stat *st)
{
	char link[64], path[PATH_MAX], text[PATH_MAX + 256];
	ssize_t n;
	int len;

	*ret = '\0';
	if (!st->st_nlink)
		return; /* it came by a pipe, or is deleted */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return;
	path[n] = '\0';
	len = snprintf(text, sizeof(text), "%s %ju %ju %ju %jd.%09ld %jd.%09ld", path,
		       (uintmax_t)st->st_dev, (uintmax_t)st->st_ino, (uintmax_t)st->st_size,
		       (intmax_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
		       (intmax_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
	name_of(ret, "at", text, (size_t)len);
}

static bool same_file_state(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       !memcmp(&a->st_mtim, &b->st_mtim, sizeof(a->st_mtim)) &&
	       !memcmp(&a->st_ctim, &b->st_ctim, sizeof(a->st_ctim));
}

/* ----- the unpacked kernel ----- */

/* Everything that finding or making it needs. */
struct unpacking {
	struct boot_files *files;
	struct stat st;
	struct cache cache; /* dir_fd -1: none */
	char identity[NAME_LEN], content[NAME_LEN];
	uint8_t *file; /* the bzImage, once it is read */
	size_t size;
};

static int use_image(struct unpacking *u, int fd, bool cached)
{
	struct kernel_image *kernel;
	int r = image_read(fd, &kernel);

	if (r)
		return r;
	free(u->files->image->kernel);
	u->files->image->kernel = kernel;
	u->files->image->cached = cached;
	u->files->cache_fd = fd;
	return 0;
}

static bool use_entry(struct unpacking *u, const char *name)
{
	int fd, r;

	if (u->cache.dir_fd < 0 || !*name)
		return false;
	r = cache_find(&u->cache, name, &fd);
	if (r == -ENOENT)
		return false;
	if (!r) {
		r = use_image(u, fd, true);
		if (!r)
			return true;
		close(fd);
	}
	log_warn("%s/%s: %s; rebuilding it", u->cache.path, name,
		 r == -EPERM ? "others could have changed it" : "damaged");
	cache_remove(&u->cache, name);
	return false;
}

static int read_bzimage(struct unpacking *u, struct error *e)
{
	ssize_t n;
	void *map;

	map = mmap(NULL, u->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return error_set(e, -errno, "out of memory for %zu bytes", u->size);
	u->file = map;
	madvise(map, u->size, MADV_HUGEPAGE);
	n = pread_full(u->files->kernel_fd, map, u->size, 0);
	if (n < 0)
		return error_set(e, (int)n, "cannot be read: %m");
	if ((size_t)n != u->size)
		return error_set(e, -EBADMSG, "shrank while it was being read");
	return 0;
}

/* The file has not changed, and not recently either: its identity stands for its content. */
static bool is_settled(const struct unpacking *u)
{
	struct timespec now;
	struct stat st;

	clock_gettime(CLOCK_REALTIME, &now);
	return !fstat(u->files->kernel_fd, &st) && same_file_state(&st, &u->st) &&
	       st.st_ctim.tv_sec + CLOCK_TICK < now.tv_sec;
}

static void name_by_content(struct unpacking *u)
{
	name_of(u->content, "is", u->file, u->size);
}

/* Looks only once: what was not there is being made. */
static bool find_by_content(struct unpacking *u)
{
	if (u->cache.dir_fd < 0 || *u->content)
		return false;
	name_by_content(u);
	return use_entry(u, u->content);
}

/* Starts unpacking and hashes meanwhile; if the cache has an entry under the hash, takes that. */
static int build_in(struct unpacking *u, struct new_file *file, struct error *e)
{
	struct image_build job;
	int r;

	r = image_build_start(&job, u->file, u->size, file->fd, e);
	if (r)
		return r;
	if (find_by_content(u)) {
		image_build_cancel(&job);
		return 0;
	}
	r = image_build_finish(&job, e);
	if (r)
		return r;
	r = use_image(u, file->fd, false);
	if (r)
		return error_set(e, r, "is damaged: it does not unpack to a kernel");
	if (u->cache.dir_fd >= 0) {
		r = cache_publish(&u->cache, file, u->content);
		if (r)
			log_warn("%s: cannot keep the unpacked kernel: %s", u->cache.path,
				 strerror(-r));
	}
	file->fd = -1; /* it is files->cache_fd now, which boot_close() closes */
	return 0;
}

static int build_once(struct unpacking *u, struct error *e)
{
	struct new_file file = {.fd = -1};
	int r = 0;

	if (u->cache.dir_fd >= 0) {
		r = new_file_open(&file, u->cache.dir_fd, 0600);
		if (r && find_by_content(u))
			return 0; /* it can be read, if not written */
	} else if ((file.fd = memfd_create("kernel", MFD_CLOEXEC)) < 0) {
		r = -errno;
	}
	if (r)
		return error_set(e, r, "cannot create a file to unpack it to: %m");
	r = build_in(u, &file, e);
	new_file_close(&file);
	return r;
}

/* A fault of the kernel. */
static bool is_verdict(int r)
{
	return r == -EBADMSG || r == -EINVAL;
}

/* A fault of the host, which would be the same without the cache. */
static bool is_poverty(int r)
{
	return r == -ENOMEM || r == -EAGAIN || r == -ECHILD;
}

static int build(struct unpacking *u, struct error *e)
{
	int r = build_once(u, e);

	if (!r || is_verdict(r) || is_poverty(r) || u->cache.dir_fd < 0)
		return r;
	log_warn("%s: %s; starting without the cache", u->cache.path, strerror(-r));
	cache_close(&u->cache);
	return build_once(u, e);
}

/* Finds or makes the unpacked kernel. */
static int unpack(struct unpacking *u, struct error *e)
{
	int r;

	if (use_entry(u, u->identity))
		return 0;
	r = read_bzimage(u, e);
	if (!r)
		r = build(u, e);
	if (!r && u->cache.dir_fd >= 0 && *u->identity && is_settled(u))
		cache_link(&u->cache, u->content, u->identity);
	return r;
}

static int begin_unpacking(struct unpacking *u, struct boot_files *files,
			   const struct boot_request *request, struct error *e)
{
	struct error why = {""};

	*u = (struct unpacking){.files = files, .cache.dir_fd = -1};
	if (fstat(files->kernel_fd, &u->st))
		return error_set(e, -errno, "%m");
	u->size = (size_t)u->st.st_size;
	if (!request->cache)
		return 0;
	if (cache_open(&u->cache, &why))
		log_warn("no kernel cache: %s", why.msg);
	else
		name_by_identity(u->identity, files->kernel_fd, &u->st);
	return 0;
}

static void end_unpacking(struct unpacking *u)
{
	if (u->file)
		munmap(u->file, u->size);
	cache_close(&u->cache);
}

/* When it cannot be unpacked here; `e` has the reason. */
static int leave_to_guest(struct boot_files *files, const struct boot_request *request,
			  struct error *e)
{
	struct image_source src = {.fd = files->kernel_fd};
	struct kernel_image *kernel;
	struct stat st;
	int r;

	log_warn("kernel %s: %s; the guest unpacks it", request->kernel, e->msg);
	if (fstat(src.fd, &st))
		return error_set(e, -errno, "%m");
	src.size = (uint64_t)st.st_size;
	r = image_from_bzimage(&src, &kernel, e);
	if (r)
		return r;
	free(files->image->kernel);
	files->image->kernel = kernel;
	files->image->cached = false;
	return 0;
}

static int open_bzimage(struct boot_files *files, const struct boot_request *request,
			const struct image_source *src, struct error *e)
{
	struct setup_header setup;
	struct unpacking u;
	uint8_t magic[8];
	int r;

	r = bzimage_header(src, &setup, e);
	if (r)
		return r;
	if (!setup.payload_offset ||
	    image_source_read(src, bzimage_code_offset(&setup) + setup.payload_offset, magic,
			      sizeof(magic)) ||
	    !payload_format(magic, sizeof(magic))) {
		log_info("kernel %s: its compression is unknown, so the guest unpacks it",
			 request->kernel);
		return image_from_bzimage(src, &files->image->kernel, e);
	}
	r = begin_unpacking(&u, files, request, e);
	if (r)
		return r;
	r = unpack(&u, e);
	end_unpacking(&u);
	return !r || is_verdict(r) ? r : leave_to_guest(files, request, e);
}

int boot_rebuild(struct boot_files *files, const struct boot_request *request, struct error *e)
{
	struct unpacking u;
	struct error local;
	int r;

	if (!e)
		e = &local;
	close(files->cache_fd);
	files->cache_fd = -1;
	r = begin_unpacking(&u, files, request, e);
	if (!r)
		r = read_bzimage(&u, e);
	if (!r && u.cache.dir_fd >= 0) {
		name_by_content(&u);
		log_warn("%s/%s: damaged; rebuilding it", u.cache.path, u.content);
		cache_remove(&u.cache, u.identity);
		cache_remove(&u.cache, u.content);
	}
	if (!r)
		r = build(&u, e);
	end_unpacking(&u);
	if (r && !is_verdict(r))
		r = leave_to_guest(files, request, e);
	return r ? error_prefix(e, r, "kernel %s", request->kernel) : 0;
}

static int open_kernel(struct boot_files *files, const struct boot_request *request,
		       struct error *e)
{
	struct image_source src = {.mem = NULL};
	struct file_identity id;
	struct stat st;
	int r;

	r = open_file(request->kernel, "--kernel", &files->kernel_fd, &st, e);
	if (r)
		return r;
	src.fd = files->kernel_fd;
	src.size = (uint64_t)st.st_size;
	image_identify(&src, &id);
	if (id.type == FILE_ELF)
		return image_from_elf(&src, &files->image->kernel, e);
	if (id.type != FILE_BZIMAGE)
		return not_a("an x86-64 kernel", &id, e);
	if (src.size > IMAGE_MAX_KERNEL)
		return error_set(e, -EFBIG, "is %" PRIu64 " MiB: the maximum for a bzImage is %llu",
				 src.size / MIB, IMAGE_MAX_KERNEL / MIB);
	return open_bzimage(files, request, &src, e);
}

int boot_open(struct boot_files *ret, const struct boot_request *request, struct error *e)
{
	struct error local;
	int r;

	if (!e)
		e = &local;
	*ret = (struct boot_files){.kernel_fd = -1, .initrd_fd = -1, .cache_fd = -1};
	ret->image = calloc(1, sizeof(*ret->image));
	if (!ret->image)
		return error_set(e, -ENOMEM, "out of memory");
	r = open_kernel(ret, request, e);
	if (r) {
		boot_close(ret);
		return error_prefix(e, r, "kernel %s", request->kernel);
	}
	if (request->initrds)
		r = open_initrds(ret, request->initrds, e);
	if (r)
		boot_close(ret);
	return r;
}

void boot_close(struct boot_files *files)
{
	if (!files || !files->image)
		return;
	closep_(&files->kernel_fd);
	closep_(&files->initrd_fd);
	closep_(&files->cache_fd);
	free(files->image->kernel);
	free(files->image);
	*files = (struct boot_files){.kernel_fd = -1, .initrd_fd = -1, .cache_fd = -1};
}
