// SPDX-License-Identifier: BSD-2-Clause
#include <err.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "pages.h"

#define PAGE 4096u

int pages_take(void *at, size_t len)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.range = {(uintptr_t)at, len},
					.mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -1;
	if (ioctl(fd, UFFDIO_API, &api) ||
	    mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
		    at ||
	    ioctl(fd, UFFDIO_REGISTER, &range))
		err(1, "userfaultfd");
	return fd;
}

void *pages_wait(int fd, int ms, bool *is_write)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct uffd_msg message;

	if (poll(&p, 1, ms) <= 0 || read(fd, &message, sizeof(message)) != sizeof(message))
		return NULL;
	*is_write = message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE;
	return (void *)(uintptr_t)ALIGN_DOWN(message.arg.pagefault.address, PAGE);
}

void pages_give(int fd, void *page, int fill)
{
	uint8_t content[PAGE];
	struct uffdio_copy copy = {
		.dst = (uintptr_t)page, .src = (uintptr_t)content, .len = sizeof(content)};

	memset(content, fill, sizeof(content));
	if (ioctl(fd, UFFDIO_COPY, &copy))
		err(1, "userfaultfd");
}
