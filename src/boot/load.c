// SPDX-License-Identifier: BSD-2-Clause
/*
 * Places kernel and initrd in guest memory.
 *
 * DOC: Both are copied, by pread(2) straight into guest memory, and never mapped. Measured with
 * Debian's cloud kernel (29 MiB of it are not zero) from the page cache: copying with checksums
 * takes 2.5 ms on one CPU, mmap and memcpy() take 3.0 ms. A private mapping takes no time at first,
 * but then there is a fault for each 4 KiB instead of the guest's huge pages: with kvm-amd under
 * emulation a boot took 3.1 s at best (median of six 4.5) with the copy, 5.7 s (12.0) mapped, 4.3 s
 * (11.5) mapped and populated. It would share little: relocations change 45 % of the pages, and the
 * kernel patches more of its code; 6 of 85 MiB were saved.
 *
 * A kernel that was unpacked here and has relocations is moved as its own decompressor would do it
 * (arch/x86/boot/compressed/kaslr.c): the virtual address within 1 GiB, the physical address within
 * the memory below the initrd, independent of each other and in steps of the kernel's alignment.
 * With steps of 2 MiB it needs no more huge pages than at the link address.
 *
 * The initrd lies as high as the kernel allows, where the guest's early allocations come from too.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/util.h"
#include "boot/cmdline.h"
#include "image.h"
#include "kvm/layout.h"

#define PAGE 4096u

/* Work is shared out in huge pages of the guest, so that no two threads fault in the same one. */
#define UNIT (2 * MIB)

/* With more, memory is the limit. */
#define MAX_HELPERS 3u

/* linux/Documentation/arch/x86/boot.rst: what a kernel without a header says of itself. */
#define DEFAULT_INITRD_MAX 0x7fffffffull

/* Reads a piece's bytes to where they belong and checks them. */
static int read_piece(const struct kernel_image *image, const struct image_piece *p, int fd,
		      void *dst)
{
	ssize_t n = pread_full(fd, dst, p->len, p->file_offset);

	if (n < 0)
		return (int)n;
	if ((size_t)n != p->len)
		return -EBADMSG;
	if (image->h.checked && image_checksum(dst, p->len) != p->checksum)
		return -EBADMSG;
	return 0;
}

static int relocate_piece(const struct image_header *h, const struct image_piece *p,
			  const uint32_t *offset, uint8_t *kernel, uint64_t delta)
{
	uint64_t width = p->kind == PIECE_RELOC64 ? 8 : 4;
	uint64_t max = h->span - width;
	uint32_t low = (uint32_t)(p->kind == PIECE_RELOC32_INVERSE ? 0 - delta : delta);
	size_t n = p->len / sizeof(*offset);

	for (size_t i = 0; i < n; i++) {
		uint32_t word;
		uint64_t wide;

		if (offset[i] > max)
			return -EBADMSG;
		if (width == 8) {
			memcpy(&wide, kernel + offset[i], sizeof(wide));
			wide += delta;
			memcpy(kernel + offset[i], &wide, sizeof(wide));
		} else {
			memcpy(&word, kernel + offset[i], sizeof(word));
			word += low;
			memcpy(kernel + offset[i], &word, sizeof(word));
		}
	}
	return 0;
}

/* An ELF may have pages of zeros too. Only pieces of nothing but zeros are left out, since less
 * would save no huge page; most others show that in their first page. */
static bool piece_is_zero(const struct image_piece *p, int fd)
{
	uint8_t page[PAGE];

	for (uint64_t at = 0; at < p->len; at += sizeof(page)) {
		size_t len = MIN(p->len - at, sizeof(page));

		if (pread_full(fd, page, len, p->file_offset + at) != (ssize_t)len ||
		    !mem_is_zero(page, len))
			return false;
	}
	return true;
}

/* What boot_load() and its helpers share. */
struct load {
	const struct kernel_image *image;
	int kernel_fd, initrd_fd;
	uint8_t *kernel, *initrd; /* in guest memory */
	uint64_t initrd_size, delta;
	_Atomic unsigned next; /* the first unit of work that nobody has taken */
	_Atomic int kernel_error, initrd_error;
};

/* Remembers the first error. */
static void fail(_Atomic int *error, int r)
{
	int none = 0;

	if (r)
		atomic_compare_exchange_strong(error, &none, r);
}

static uint64_t units(uint64_t size)
{
	return (size + UNIT - 1) / UNIT;
}

/* A unit of the kernel: the pieces that begin in it. */
static int load_unit(const struct load *l, uint64_t unit)
{
	int r = 0;

	for (unsigned i = 0; !r && i < l->image->h.num_pieces; i++) {
		const struct image_piece *p = &l->image->piece[i];

		if (p->kind == PIECE_DATA && p->offset / UNIT == unit &&
		    (l->image->h.checked || !piece_is_zero(p, l->kernel_fd)))
			r = read_piece(l->image, p, l->kernel_fd, l->kernel + p->offset);
	}
	return r;
}

static int load_initrd_unit(const struct load *l, uint64_t unit)
{
	size_t len = MIN(l->initrd_size - unit * UNIT, UNIT);
	ssize_t n = pread_full(l->initrd_fd, l->initrd + unit * UNIT, len, unit * UNIT);

	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -ENODATA;
}

static void *copy(void *arg)
{
	struct load *l = arg;
	uint64_t kernel_units = units(l->image->h.span), unit;

	while ((unit = atomic_fetch_add(&l->next, 1)) < kernel_units + units(l->initrd_size)) {
		if (unit < kernel_units)
			fail(&l->kernel_error, load_unit(l, unit));
		else
			fail(&l->initrd_error, load_initrd_unit(l, unit - kernel_units));
	}
	return NULL;
}

static void *relocate(void *arg)
{
	struct load *l = arg;
	uint32_t offset[IMAGE_RELOC_LEN / sizeof(uint32_t)];
	unsigned i;

	while ((i = atomic_fetch_add(&l->next, 1)) < l->image->h.num_pieces) {
		const struct image_piece *p = &l->image->piece[i];
		int r;

		if (p->kind == PIECE_DATA)
			continue;
		r = read_piece(l->image, p, l->kernel_fd, offset);
		if (!r)
			r = relocate_piece(&l->image->h, p, offset, l->kernel, l->delta);
		fail(&l->kernel_error, r);
	}
	return NULL;
}

/* Runs `work` here and on other CPUs, until it returns everywhere. */
static void run(void *(*work)(void *), struct load *l)
{
	pthread_t helper[MAX_HELPERS];
	unsigned cpus = 1, n = 0;
	cpu_set_t set;

	if (!sched_getaffinity(0, sizeof(set), &set))
		cpus = (unsigned)CPU_COUNT(&set);
	atomic_store(&l->next, 0);
	while (n < MAX_HELPERS && n + 1 < cpus && !pthread_create(&helper[n], NULL, work, l))
		n++;
	work(l);
	while (n)
		pthread_join(helper[--n], NULL);
}

/* ----- where things go ----- */

/* `min` plus a multiple of `step`, at most `max`, each as likely. */
static int random_address(uint64_t min, uint64_t max, uint64_t step, uint64_t *ret)
{
	uint64_t r;

	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		return -EIO;
	*ret = max > min ? min + r % ((max - min) / step + 1) * step : min;
	return 0;
}

static void initrd_limit(const struct image_header *h, uint64_t low_end, uint64_t *ret)
{
	struct setup_header setup;
	uint64_t max = DEFAULT_INITRD_MAX;

	if (h->protocol == BOOT_PVH)
		max = UINT32_MAX;
	if (h->setup_len) {
		memcpy(&setup, h->setup, sizeof(setup));
		max = setup.initrd_addr_max;
	}
	*ret = MIN(low_end, max + 1);
}

static int no_room(const struct boot_image *b, const struct gmem *mem, struct error *e)
{
	uint64_t kernel = b->kernel->h.base + b->kernel->h.span;
	uint64_t need = ALIGN_UP(kernel + ALIGN_UP(b->initrd_size, PAGE), 2 * MIB);
	char initrd[48] = "";

	/* Below the hole, whatever else there is; and sums of what lies far above it wrap. */
	if (kernel > GMEM_HOLE_START || b->initrd_size > GMEM_HOLE_START - kernel)
		return error_set(e, -EINVAL,
				 "the kernel needs guest memory from 0x%" PRIx64 " to 0x%" PRIx64
				 ", where no VM has room for it%s below 0x%" PRIx64,
				 b->kernel->h.base, kernel, b->initrd_size ? " and the initrd" : "",
				 (uint64_t)GMEM_HOLE_START);
	if (b->initrd_size)
		snprintf(initrd, sizeof(initrd), " and the initrd %" PRIu64 " MiB",
			 ALIGN_UP(b->initrd_size, MIB) / MIB);
	return error_set(e, -ENOMEM,
			 "the kernel needs guest memory up to %" PRIu64
			 " MiB%s, but the VM has %" PRIu64
			 " MiB: give it more with --memory (%" PRIu64
			 "M is enough to load %s, but not to run)",
			 ALIGN_UP(kernel, MIB) / MIB, initrd, gmem_size(mem) / MIB, need / MIB,
			 *initrd ? "them" : "it");
}

/* Sets base, initrd_base and kaslr, and the distance that virtual addresses are moved by. */
static int place(struct boot_image *b, const struct gmem *mem, bool kaslr, int64_t *ret_delta,
		 struct error *e)
{
	const struct image_header *h = &b->kernel->h;
	uint64_t end, virt;
	int r;

	initrd_limit(h, gmem_low_end(mem), &end);
	if (b->initrd_size) {
		if (b->initrd_size > end)
			return no_room(b, mem, e);
		end = ALIGN_DOWN(end - b->initrd_size, (uint64_t)PAGE);
		b->initrd_base = end;
	} else {
		end = gmem_low_end(mem);
	}
	b->base = h->base;
	b->kaslr = kaslr && (h->unpacks || (h->align && h->virt));
	*ret_delta = 0;
	if (h->base + h->span > end)
		return no_room(b, mem, e);
	if (!b->kaslr || h->unpacks)
		return 0;
	/* Virtual addresses begin at KERNEL_MAP + base, as image_from_elf() saw to. */
	r = random_address(h->base, end - h->span, h->align, &b->base);
	if (!r)
		r = random_address(h->base, IMAGE_MAX_SPAN - h->span, h->align, &virt);
	if (r)
		return error_set(e, r, "getrandom: %m; try --no-kaslr");
	*ret_delta = (int64_t)(virt - h->base);
	return 0;
}

/* Loads what place() has placed. */
static int load_all(struct boot_files *files, const struct gmem *mem, int64_t delta,
		    int *ret_initrd_error)
{
	const struct boot_image *b = files->image;
	struct load l = {
		.image = b->kernel,
		.kernel_fd = files->cache_fd >= 0 ? files->cache_fd : files->kernel_fd,
		.initrd_fd = files->initrd_fd,
		.initrd_size = b->initrd_size,
		.delta = (uint64_t)delta,
	};
	void *p;
	int r;

	r = gmem_slice(mem, GPA(b->base), b->kernel->h.span, &p);
	l.kernel = p;
	if (!r && l.initrd_size) {
		r = gmem_slice(mem, GPA(b->initrd_base), l.initrd_size, &p);
		l.initrd = p;
	}
	if (r)
		return r;
	run(copy, &l);
	*ret_initrd_error = l.initrd_error;
	/* Only what passed its checksums is relocated. */
	if (!l.kernel_error && delta)
		run(relocate, &l);
	return l.kernel_error;
}

static void discard(const struct gmem *mem, uint64_t base, uint64_t size)
{
	void *p;

	if (!gmem_slice(mem, GPA(base), size, &p))
		madvise(p, size, MADV_DONTNEED);
}

static int load_files(struct boot_files *files, const struct boot_request *request,
		      const struct gmem *mem, bool kaslr, struct error *e)
{
	struct boot_image *b = files->image;
	int64_t delta;
	int r, initrd_error = 0;

	r = place(b, mem, kaslr, &delta, e);
	if (r)
		return r;
	r = load_all(files, mem, delta, &initrd_error);
	if (r == -EBADMSG && b->cached) {
		/* What is there already goes: the kernel may be placed elsewhere now. */
		discard(mem, b->base, b->kernel->h.span);
		r = boot_rebuild(files, request, e);
		return r ? r : load_files(files, request, mem, kaslr, e);
	}
	if (r == -EBADMSG)
		return error_set(e, r, "kernel %s: shrank while it was being read",
				 request->kernel);
	if (r)
		return error_set(e, r, "kernel %s: cannot be read: %m", request->kernel);
	if (initrd_error == -ENODATA)
		return error_set(e, -EIO, "initrd %s: shrank while it was being read",
				 request->initrds[0]);
	if (initrd_error)
		return error_set(e, initrd_error, "initrd %s: cannot be read: %m",
				 request->initrds[0]);
	log_debug("kernel at 0x%" PRIx64 "%s, moved by 0x%" PRIx64, b->base,
		  b->kernel->h.unpacks ? " (unpacks itself)" : "", (uint64_t)delta);
	return 0;
}

int boot_load(struct boot_files *files, const struct boot_request *request, const struct gmem *mem,
	      const char *cmdline, struct boot_entry *ret, struct error *e)
{
	struct boot_image *b = files->image;
	int r;

	r = load_files(files, request, mem, request->kaslr && !cmdline_has_word(cmdline, "nokaslr"),
		       e);
	if (r)
		return r;
	*ret = (struct boot_entry){
		.protocol = (enum boot_protocol)b->kernel->h.protocol,
		.is_linux = !b->kernel->h.foreign,
		.initrd_size = b->initrd_size,
		.ip = GPA(b->base + b->kernel->h.entry),
	};
	return 0;
}
