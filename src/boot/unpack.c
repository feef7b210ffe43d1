// SPDX-License-Identifier: BSD-2-Clause
/*
 * Turns a bzImage into the kernel image that is kept: unpacked, without what need not be loaded,
 * with checksums, and with the relocations from its build in a form that is easy to apply.
 *
 * DOC: The decompression libraries are large, and kernels may come from anywhere, so this runs in a
 * child process that can compute and write to one file, and nothing else. Its heap is never part of
 * skep's. The file is read back with the same checks as an entry of the cache.
 *
 * The file has the header and the pieces, then from DATA_START on the kernel as it is in memory,
 * then the relocations. Runs of zeros are holes and belong to no piece, since fresh guest memory is
 * zero: that saves copying, and huge pages that the guest may never touch.
 */
#include <assert.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/util.h"
#include "image.h"

#define PAGE 4096u

/* Of the file. Data in steps of 2 MiB, as in the guest, makes for large folios in the page cache,
 * from which copying is twice as fast as from single pages. */
#define DATA_START (2 * MIB)

static_assert(sizeof(struct kernel_image) + IMAGE_MAX_PIECES * sizeof(struct image_piece) <=
		      DATA_START,
	      "the pieces fit");

/* Zeros shorter than this are written as they are: a piece costs more. */
#define ZERO_RUN (64u * KIB)

/* A kernel's unpacking takes half a second at most. */
#define MAX_CPU_SECONDS 60u

struct builder {
	struct kernel_image *image; /* being made */
	const uint8_t *vmlinux;	    /* unpacked: the ELF, then the relocations */
	size_t size;
	int fd;
	uint64_t end; /* of what is after the data */
};

static int write_at(int fd, const void *data, size_t len, uint64_t offset)
{
	ssize_t n = pwrite_full(fd, data, len, offset);

	return n < 0 ? (int)n : (size_t)n < len ? -EIO : 0;
}

static int add_piece(struct builder *b, enum image_piece_kind kind, uint64_t file_offset,
		     uint64_t offset, const void *data, size_t len)
{
	struct image_header *h = &b->image->h;

	if (h->num_pieces == IMAGE_MAX_PIECES)
		return -EFBIG;
	b->image->piece[h->num_pieces++] = (struct image_piece){
		.file_offset = file_offset,
		.checksum = image_checksum(data, len),
		.offset = (uint32_t)offset,
		.len = (uint32_t)len,
		.kind = kind,
	};
	return write_at(b->fd, data, len, file_offset);
}

/* Where the run of zero pages (or of others) that begins at `at` ends. */
static size_t run_end(const uint8_t *data, size_t at, size_t len, bool zero)
{
	while (at < len && mem_is_zero(data + at, MIN(len - at, PAGE)) == zero)
		at += MIN(len - at, PAGE);
	return at;
}

/* The parts of a segment's piece that are not zero. */
static int add_data(struct builder *b, const struct image_piece *p)
{
	const uint8_t *data = b->vmlinux + p->file_offset;
	size_t at = run_end(data, 0, p->len, true);
	int r = 0;

	while (!r && at < p->len) {
		size_t end = at, next = at;

		do {
			end = run_end(data, next, p->len, false);
			next = run_end(data, end, p->len, true);
		} while (next < p->len && next - end < ZERO_RUN);
		r = add_piece(b, PIECE_DATA, DATA_START + p->offset + at, p->offset + at, data + at,
			      end - at);
		at = next;
	}
	return r;
}

static int add_relocs(struct builder *b, enum image_piece_kind kind, const uint8_t *words, size_t n)
{
	const struct image_header *h = &b->image->h;
	_cleanup_free_ uint32_t *offset = malloc(IMAGE_RELOC_LEN);
	uint64_t width = kind == PIECE_RELOC64 ? 8 : 4;
	int r = 0;

	if (!offset)
		return -ENOMEM;
	while (!r && n) {
		size_t count = MIN(n, IMAGE_RELOC_LEN / sizeof(*offset));

		for (size_t i = 0; i < count; i++) {
			int32_t word;

			/* The virtual address of what to change, without its upper half. */
			memcpy(&word, words + i * sizeof(word), sizeof(word));
			if ((uint64_t)(int64_t)word - h->virt > h->span - width)
				return -ERANGE;
			offset[i] = (uint32_t)((uint64_t)(int64_t)word - h->virt);
		}
		r = add_piece(b, kind, b->end, 0, offset, count * sizeof(*offset));
		b->end += count * sizeof(*offset);
		words += count * sizeof(*offset);
		n -= count;
	}
	return r;
}

/*
 * The tables after the ELF (arch/x86/boot/compressed/misc.c, handle_relocations): each begins with
 * a zero word and goes on to the next one's zero or to the end. Until Linux 6.14: 64-bit, inverse
 * 32-bit, 32-bit; after that 64-bit, 32-bit. Anything else is a kernel that cannot be moved, and
 * says so by virt == 0.
 */
static int add_all_relocs(struct builder *b, uint64_t start)
{
	static const enum image_piece_kind kinds[2][3] = {
		{PIECE_RELOC64, PIECE_RELOC32},
		{PIECE_RELOC64, PIECE_RELOC32_INVERSE, PIECE_RELOC32},
	};
	struct image_header *h = &b->image->h;
	unsigned data_pieces = h->num_pieces, tables = 0;
	size_t n, zero[3] = {0};
	const uint8_t *words;
	int r = 0;

	if (!h->virt || h->span < 8 || !start || start >= b->size)
		goto fixed;
	words = b->vmlinux + start;
	n = (b->size - start) / 4;
	for (size_t i = 0; i < n; i++) {
		uint32_t word;

		memcpy(&word, words + i * 4, sizeof(word));
		if (word)
			continue;
		if (tables == 3)
			goto fixed;
		zero[tables++] = i;
	}
	if (tables < 2 || zero[0])
		goto fixed;
	for (unsigned t = 0; !r && t < tables; t++) {
		size_t end = t + 1 < tables ? zero[t + 1] : n;

		r = add_relocs(b, kinds[tables - 2][t], words + (zero[t] + 1) * 4,
			       end - zero[t] - 1);
	}
	if (r == -ERANGE) {
		h->num_pieces = data_pieces;
		goto fixed;
	}
	return r;
fixed:
	h->virt = 0;
	return 0;
}

static int write_image(struct builder *b, const struct kernel_image *elf,
		       const struct setup_header *setup, uint64_t relocs)
{
	struct image_header *h = &b->image->h;
	size_t header_len;
	int r = 0;

	*h = elf->h;
	h->num_pieces = 0;
	h->checked = 1;
	h->align = setup->relocatable_kernel ? MAX(setup->kernel_alignment, 2 * MIB) : 0;
	h->setup_len = sizeof(*setup);
	memcpy(h->setup, setup, sizeof(*setup));
	b->end = ALIGN_UP(DATA_START + h->span, PAGE);
	for (unsigned i = 0; !r && i < elf->h.num_pieces; i++)
		r = add_data(b, &elf->piece[i]);
	if (!r)
		r = add_all_relocs(b, relocs);
	if (r)
		return r;
	h->file_size = b->end;
	h->checksum = 0;
	header_len = sizeof(*b->image) + h->num_pieces * sizeof(b->image->piece[0]);
	h->checksum = image_checksum(b->image, header_len);
	if (ftruncate(b->fd, (off_t)b->end))
		return -errno;
	return write_at(b->fd, b->image, header_len, 0);
}

static int build_from_vmlinux(const uint8_t *vmlinux, size_t size, const struct setup_header *setup,
			      int fd, struct error *e)
{
	const struct image_source src = {.mem = vmlinux, .size = size};
	_cleanup_free_ struct kernel_image *elf = NULL;
	struct builder b = {.vmlinux = vmlinux, .size = size, .fd = fd};
	struct file_identity id;
	int r;

	image_identify(&src, &id);
	if (id.type != FILE_ELF)
		return error_set(e, -EBADMSG,
				 "is damaged: its payload is %s, not an x86-64 ELF file", id.what);
	r = image_from_elf(&src, &elf, e);
	if (r)
		return error_prefix(e, -EBADMSG, "is damaged: its payload");
	if (elf->h.foreign || elf->h.protocol != BOOT_LINUX64)
		return error_set(e, -EBADMSG,
				 "is damaged: its payload is not an x86-64 Linux kernel");
	b.image = calloc(1, sizeof(*b.image) + IMAGE_MAX_PIECES * sizeof(b.image->piece[0]));
	if (!b.image)
		return error_set(e, -ENOMEM, "out of memory");
	r = write_image(&b, elf, setup, elf_end(&src));
	free(b.image);
	return r ? error_set(e, r, "%m") : 0;
}

int image_build(const uint8_t *file, size_t size, int fd, struct error *e)
{
	const struct image_source src = {.mem = file, .size = size};
	struct setup_header setup;
	uint64_t start;
	uint32_t len, out_len;
	uint8_t *out;
	int r;

	r = bzimage_header(&src, &setup, e);
	if (r)
		return r;
	start = bzimage_code_offset(&setup) + setup.payload_offset;
	len = setup.payload_length;
	if (!setup.payload_offset || len < 8)
		return error_set(e, -EBADMSG, "has no payload");
	if (start > size || len > size - start)
		return error_set(e, -EBADMSG, "is truncated: its payload ends at byte %llu of %zu",
				 (unsigned long long)(start + len), size);
	/* The build appends the unpacked size to all but gzip, which has it there anyway. */
	memcpy(&out_len, file + start + len - 4, sizeof(out_len));
	if (out_len > IMAGE_MAX_KERNEL)
		return error_set(e, -EBADMSG, "is damaged: its payload claims to unpack to %u MiB",
				 out_len >> 20);
	out = mmap(NULL, out_len + 1u, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (out == MAP_FAILED)
		return error_set(e, -errno, "out of memory for %u bytes", out_len);
	madvise(out, out_len + 1u, MADV_HUGEPAGE);
	r = payload_unpack(file + start, len, out, out_len, e);
	if (!r)
		r = build_from_vmlinux(out, out_len, &setup, fd, e);
	munmap(out, out_len + 1u);
	return r;
}

/* ----- the child ----- */

struct report {
	int result;
	struct error error;
};

#define ALLOW(name)                                                                                \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 1),                                    \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* Leaves the process memory, one file and the way out. */
static void confine(int fd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(pwrite64),
		ALLOW(ftruncate),
		ALLOW(mmap),
		ALLOW(munmap),
		ALLOW(mremap),
		ALLOW(madvise),
		ALLOW(brk),
		ALLOW(futex),
		ALLOW(rt_sigreturn),
		ALLOW(exit_group),
		/* What is denied fails, and so does the unpacking, or it does without. */
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog prog = {.len = ARRAY_SIZE(code), .filter = code};
	struct rlimit cpu = {MAX_CPU_SECONDS, MAX_CPU_SECONDS};
	struct rlimit file = {IMAGE_MAX_SPAN, IMAGE_MAX_SPAN};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CPU, &cpu);
	setrlimit(RLIMIT_FSIZE, &file);
	signal(SIGXFSZ, SIG_IGN);
	dup2(fd, 0);
	if (close_range(1, ~0u, 0))
		for (int i = 1; i < 1024; i++)
			close(i);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	/* Without seccomp in the kernel it is at least a separate process. */
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

int image_build_start(struct image_build *ret, const uint8_t *file, size_t size, int fd,
		      struct error *e)
{
	struct report *report;
	int r;

	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (report == MAP_FAILED)
		return error_set(e, -errno, "no memory: %m");
	report->result = -ECHILD;
	ret->report = report;
	ret->pid = fork();
	if (ret->pid < 0) {
		r = -errno;
		error_set(e, r, "cannot fork: %m%s", error_task_remedy(r));
		munmap(report, sizeof(*report));
		return r;
	}
	if (!ret->pid) {
		confine(fd);
		report->result = image_build(file, size, 0, &report->error);
		_exit(0);
	}
	return 0;
}

static int wait_for(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

int image_build_finish(struct image_build *job, struct error *e)
{
	int status = wait_for(job->pid), r;

	/* The report counts, not the status, of which there is none if SIGCHLD is ignored. */
	r = job->report->result;
	if (e) {
		*e = job->report->error;
		e->msg[sizeof(e->msg) - 1] = '\0'; /* it comes from where hostile input was read */
		text_clean(e->msg);
	}
	munmap(job->report, sizeof(*job->report));
	if (r == -ECHILD)
		return error_set(e, r, "the process that unpacked it died (signal %d)",
				 WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	return r > 0 || r < -4095 ? -EBADMSG : r;
}

void image_build_cancel(struct image_build *job)
{
	kill(job->pid, SIGKILL);
	wait_for(job->pid);
	munmap(job->report, sizeof(*job->report));
}
