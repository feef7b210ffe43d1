// SPDX-License-Identifier: BSD-2-Clause
/* What is said of a file's content, its times, attributes and locks. */
#include "files.h"

#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/wait.h>

static void sizes(void)
{
	uint64_t at;
	int fd;

	put("file", "text", 0644);
	TIMES("file", truncate("file", 4));
	TIMES("file", truncate("file", 1234567));
	TIMES("file", truncate("file", 2));
	TRY(truncate("file", -1));
	TRY(truncate("file", 1ll << 40));
	show("file");
	TRY(truncate("file", INT64_MAX));
	TRY(truncate(".", 0));
	AS(65534, 65534) TRY(truncate("file", 0));
	put("file", "text", 06777);
	TRY(chown("file", 65534, 65534));
	TRY(chmod("file", 06777));
	AS(5, 5) TRY(truncate("file", 1)); /* takes set-user-ID away */
	show("file");
	TRY(chmod("file", 06777));
	AS(5, 5)
	{
		fd = open("file", O_WRONLY | O_CLOEXEC);
		TRY(write(fd, "x", 1));
		close(fd);
	}
	show("file");
	TRY(chmod("file", 06777));
	fd = open("file", O_RDONLY | O_CLOEXEC);
	TRY(ftruncate(fd, 0));
	TRY(write(fd, "x", 1));
	TRY(lseek(fd, -1, SEEK_SET));
	TRY(unlink("file"));
	TRY(fchmod(fd, 0600));
	TRY(fchown(fd, 3, 4));
	close(fd);
	fd = open("file", O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	TRY(write(fd, "text", 4));
	TRY(unlink("file")); /* what is open stays */
	TRY(pread(fd, &at, sizeof(at), 1));
	TRY(ftruncate(fd, 2));
	TRY(pread(fd, &at, sizeof(at), 1));
	close(fd);
}

static void times(void)
{
	static const struct timespec all[][2] = {
		{{.tv_sec = 1, .tv_nsec = 2}, {.tv_sec = 3, .tv_nsec = 999999999}},
		{{.tv_nsec = UTIME_OMIT}, {.tv_sec = 5}},
		{{.tv_sec = 6}, {.tv_nsec = UTIME_OMIT}},
		{{.tv_sec = -5, .tv_nsec = 7}, {.tv_sec = 1ll << 32}},
		{{.tv_sec = 1, .tv_nsec = 1000000000}, {.tv_sec = 1}},
	};
	struct stat st;

	put("file", "text", 0644);
	for (size_t i = 0; i < COUNT(all); i++) {
		TRY(utimensat(AT_FDCWD, "file", all[i], 0));
		stat("file", &st);
		printf("  %lld.%09ld %lld.%09ld\n", (long long)st.st_atim.tv_sec,
		       st.st_atim.tv_nsec, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	}
	TIMES("file", utimensat(AT_FDCWD, "file", NULL, 0));
	AS(65534, 65534)
	{
		TRY(utimensat(AT_FDCWD, "file", NULL, 0));
		TRY(utimensat(AT_FDCWD, "file", all[0], 0));
	}
	TRY(chmod("file", 0666));
	AS(65534, 65534)
	{
		TRY(utimensat(AT_FDCWD, "file", NULL, 0));
		TRY(utimensat(AT_FDCWD, "file", all[0], 0));
	}
	TRY(unlink("file"));
}

static void attributes(void)
{
	static const char *const names[] = {"user.a", "user."};
	static char big[65536 + 1];
	char value[64] = "";

	put("file", "text", 0644);
	for (size_t i = 0; i < COUNT(names); i++) {
		const char *name = names[i];

		TRY(setxattr("file", name, "one", 3, XATTR_REPLACE));
		TRY(setxattr("file", name, "one", 3, XATTR_CREATE));
		TRY(setxattr("file", name, "two", 3, XATTR_CREATE));
		TRY(getxattr("file", name, value, 2));
		TRY(getxattr("file", name, value, sizeof(value)));
		TRY(listxattr("file", value, 3));
		TRY(listxattr("file", value, sizeof(value)));
		TIMES("file", setxattr("file", name, "three", 5, 0));
		TRY(removexattr("file", name));
		TRY(removexattr("file", name));
	}
	TRY(setxattr("file", "user.big", big, 3000, 0));
	TRY(setxattr("file", "user.big", big, sizeof(big), 0));
	TRY(setxattr("file", "nonsense", big, 1, 0));
	make_link("file", "link");
	TRY(lsetxattr("link", "user.a", "x", 1, 0));
	AS(65534, 65534)
	{
		TRY(setxattr("file", "user.a", "x", 1, 0));
		TRY(getxattr("file", "user.big", NULL, 0));
	}
	unlink("link");
	TRY(unlink("file"));
}

/* An access control list: the owner may read and write, and user 65534 what is said. */
static int set_list(const char *path, const char *kind, uint16_t perm)
{
	const struct {
		uint32_t version;
		struct {
			uint16_t tag, perm;
			uint32_t id;
		} entry[5];
	} list = {2,
		  {{1, 6, UINT32_MAX},
		   {2, perm, 65534},
		   {4, 0, UINT32_MAX},
		   {16, 7, UINT32_MAX},
		   {32, 0, UINT32_MAX}}};
	char name[32];

	snprintf(name, sizeof(name), "system.posix_acl_%s", kind);
	return setxattr(path, name, &list, sizeof(list), 0);
}

static void lists(void)
{
	put("file", "text", 0600);
	mkdir("dir", 0755);
	TIMES("file", set_list("file", "access", 6));
	TRY(set_list("file", "default", 6));
	TRY(getxattr("file", "system.posix_acl_access", NULL, 0));
	TRY(listxattr("file", NULL, 0));
	show("file");
	AS(65534, 65534) TRY(opens("file", O_RDWR, 0));
	AS(5, 5) TRY(opens("file", O_RDONLY, 0));
	TRY(chmod("file", 0640)); /* now the mask */
	AS(65534, 65534)
	{
		TRY(opens("file", O_RDWR, 0));
		TRY(opens("file", O_RDONLY, 0));
		TRY(set_list("file", "access", 7));
	}
	TRY(chown("file", 65534, 0));
	TRY(chmod("file", 02770));
	AS(65534, 65534) TRY(set_list("file", "access", 7)); /* takes set-group-ID away */
	show("file");
	TRY(removexattr("file", "system.posix_acl_access"));
	show("file");
	umask(077);
	for (int i = 0; i < 2; i++) {
		TRY(opens("dir/new", O_CREAT | O_RDWR, 0666));
		show("dir/new");
		TRY(mkdir("dir/sub", 0777));
		show("dir/sub");
		TRY(getxattr("dir/sub", "system.posix_acl_default", NULL, 0));
		TRY(mkfifo("dir/pipe", 0666));
		show("dir/pipe");
		clear("rm -rf dir/*");
		TRY(set_list("dir", "default", 7));
	}
	umask(022);
	clear("rm -rf file dir");
}

/* In MiB: the file system's own blocks count as well. */
static void show_space(int fd)
{
	struct stat st = {.st_size = 0};

	fstat(fd, &st);
	printf("  %lld bytes in %lld MiB\n", (long long)st.st_size, (long long)st.st_blocks / 2048);
}

static void holes(void)
{
	int fd = open("file", O_CREAT | O_RDWR | O_CLOEXEC, 0644), to;
	off_t at = 0;

	TRY(pwrite(fd, "data", 4, 1 << 20));
	TRY(fsync(fd)); /* there is no hole where the guest has yet to write */
	TRY(lseek(fd, 0, SEEK_DATA));
	TRY(lseek(fd, 0, SEEK_HOLE));
	TRY(lseek(fd, 1 << 20, SEEK_HOLE));
	TRY(lseek(fd, 2 << 20, SEEK_DATA));
	TRY(fallocate(fd, 0, 0, 4 << 20));
	show_space(fd);
	TRY(fallocate(fd, FALLOC_FL_KEEP_SIZE, 4 << 20, 4 << 20));
	TRY(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 << 20));
	TRY(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 2 << 20));
	TRY(fallocate(fd, FALLOC_FL_ZERO_RANGE, 2 << 20, 1 << 20));
	TRY(fallocate(fd, 0, 0, 0));
	TRY(fallocate(fd, 0, -1, 5));
	show_space(fd);
	TRY(pwrite(fd, "some data", 9, 100));
	to = open("copy", O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	TRY(copy_file_range(fd, &at, to, NULL, 3 << 20, 0));
	TRY(copy_file_range(fd, &at, to, NULL, 3 << 20, 0));
	TRY(copy_file_range(fd, &at, to, NULL, 3 << 20, 0));
	TRY(copy_file_range(fd, NULL, to, NULL, 1, 1));
	close(to);
	show("copy");
	close(fd);
	TRY(unlink("copy"));
	TRY(unlink("file"));
}

static int lock(int fd, int command, short type, off_t start)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = 10};
	int r = fcntl(fd, command, &lock);

	return r < 0 || command != F_GETLK ? r : lock.l_type;
}

static void locks(void)
{
	int fd = open("file", O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	int other = open("file", O_RDWR | O_CLOEXEC);

	TRY(lock(fd, F_SETLK, F_WRLCK, 0));
	TRY(flock(fd, LOCK_EX));
	TRY(flock(other, LOCK_EX | LOCK_NB));
	TRY(lock(other, F_OFD_SETLK, F_RDLCK, 5));
	TRY(lock(other, F_OFD_SETLK, F_RDLCK, 10));
	fflush(stdout);
	if (fork() == 0) {
		TRY(lock(other, F_GETLK, F_RDLCK, 5));
		TRY(lock(other, F_SETLK, F_RDLCK, 5));
		TRY(lock(other, F_SETLK, F_RDLCK, 20));
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	TRY(flock(fd, LOCK_SH));
	TRY(flock(other, LOCK_SH | LOCK_NB));
	close(fd);
	close(other);
	TRY(unlink("file"));
}

void files_content(void)
{
	sizes();
	times();
	attributes();
	lists();
	holes();
	locks();
}
