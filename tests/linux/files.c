// SPDX-License-Identifier: BSD-2-Clause
/*
 * files DIR: what a file system says to system calls on names, owners, modes, times and sizes, a line
 * for each call. DIR is empty, and skep's tests compare what this prints on the host and in a guest that
 * shares a directory of the same file system. It runs as root.
 */
#include "files.h"

#include <sys/socket.h>
#include <sys/un.h>

static char long_name[257]; /* of 256 bytes, one too many */
static char name_255[256];
static char long_path[4097];

void say(const char *call, long long r)
{
	printf("%s = %lld%s%s\n", call, r, r < 0 ? " " : "", r < 0 ? strerrorname_np(errno) : "");
}

int opens(const char *path, int flags, mode_t mode)
{
	int fd = open(path, flags | O_CLOEXEC, mode);

	return fd < 0 ? fd : close(fd);
}

void show(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		printf("  %s: %s\n", path, strerrorname_np(errno));
	else
		printf("  %s: %06o %u:%u %llu links, %lld bytes\n", path, st.st_mode, st.st_uid,
		       st.st_gid, S_ISDIR(st.st_mode) ? 0ull : (unsigned long long)st.st_nlink,
		       S_ISDIR(st.st_mode) ? 0ll : (long long)st.st_size);
}

static struct timespec old_ctime;

void set_old(const char *path)
{
	static const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
	struct stat st = {.st_mode = 0};

	utimensat(AT_FDCWD, path, old, AT_SYMLINK_NOFOLLOW);
	lstat(path, &st);
	old_ctime = st.st_ctim;
	usleep(20000); /* a tick of the host's clock, and more */
}

void show_times(const char *path)
{
	struct stat st = {.st_mode = 0};

	lstat(path, &st);
	printf("  changes of %s:%s%s%s\n", path, st.st_atim.tv_sec == 1000 ? "" : " atime",
	       st.st_mtim.tv_sec == 2000 ? "" : " mtime",
	       memcmp(&st.st_ctim, &old_ctime, sizeof(old_ctime)) == 0 ? "" : " ctime");
}

bool become(uid_t uid, gid_t gid)
{
	if (seteuid(0) < 0 || setegid(gid) < 0 || seteuid(uid) < 0)
		abort();
	return true;
}

void put(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, mode);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		say("put", -1);
	close(fd);
	chmod(path, mode);
}

void make_link(const char *to, const char *path)
{
	if (symlink(to, path) < 0 && errno != EEXIST)
		say("symlink", -1);
}

void clear(const char *command)
{
	if (system(command) != 0)
		say(command, -1);
}

static void make_all(void)
{
	put("file", "text", 0644);
	mkdir("dir", 0755);
	make_link("loop", "loop");
	make_link("nowhere", "dangling");
}

/* What all calls that take a path say of paths that lead nowhere. */
static void paths(void)
{
	const char *const all[] = {"",	       "nothing",   "nothing/x", "file/x",	"loop",
				   "loop/x",   long_name,   long_path,	 "dir/../file", "dir/.",
				   "dangling", "dangling/", "file/",	 name_255};

	for (size_t i = 0; i < COUNT(all); i++) {
		const char *path = all[i];
		struct stat st;
		char target[8];

		printf("-- %.20s\n", path);
		make_all();
		TRY(stat(path, &st));
		TRY(lstat(path, &st));
		TRY(access(path, R_OK));
		TRY(chmod(path, 0755));
		TRY(chown(path, 1, 1));
		TRY(lchown(path, 0, 0));
		TRY(truncate(path, 3));
		TRY(opens(path, O_RDONLY, 0));
		TRY(opens(path, O_RDWR | O_DIRECTORY, 0));
		TRY(opens(path, O_RDONLY | O_NOFOLLOW, 0));
		TRY(readlink(path, target, sizeof(target)));
		TRY(utimensat(AT_FDCWD, path, NULL, 0));
		TRY(utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW));
		TRY(link(path, "new"));
		TRY(unlink("new"));
		TRY(rename(path, path));
		TRY(rename("file", path));
		TRY(access("file", F_OK));
		put("file", "text", 0644);
		TRY(mkdir(path, 0700));
		TRY(mkfifo(path, 0644));
		TRY(symlink("to", path));
		TRY(opens(path, O_CREAT | O_EXCL | O_RDWR, 0644));
		TRY(rmdir(path));
		TRY(unlink(path));
		show(path);
	}
	make_all();
	TRY(rmdir("dir"));
	TRY(unlink("loop"));
	TRY(unlink("dangling"));
}

static void modes(void)
{
	static const mode_t all[] = {0, 0777, 0644, 04755, 02755, 01777, 06644, 07777, 02644};

	put("file", "text", 0644);
	mkdir("dir", 0755);
	mkfifo("pipe", 0644);
	make_link("file", "link");
	for (size_t i = 0; i < COUNT(all); i++) {
		TRY(chmod("file", all[i]));
		show("file");
		TRY(chmod("dir", all[i]));
		show("dir");
		TRY(chmod("pipe", all[i]));
		show("pipe");
	}
	TIMES("file", chmod("file", 0640));
	TRY(chmod("link", 0600));
	show("file");
	show("link");
	TRY(fchmodat(AT_FDCWD, "link", 0600, AT_SYMLINK_NOFOLLOW));
	TRY(chown("file", 65534, 65533));
	AS(65534, 65534)
	{
		TRY(chmod("file", 0755));
		TRY(chmod("file", 02755)); /* of a group that it is not in */
		show("file");
		TRY(chmod("dir", 0777));
	}
	AS(65534, 65533)
	{
		TRY(chmod("file", 02755));
		show("file");
	}
	AS(1, 1) TRY(chmod("file", 0777));
}

static void owners(void)
{
	static const mode_t all[] = {06777, 06644, 02755, 04700, 0644};

	for (size_t i = 0; i < COUNT(all); i++) {
		TRY(chown("file", 65534, 65534));
		TRY(chmod("file", all[i]));
		TRY(chown("file", 0, 0)); /* takes set-user-ID away */
		show("file");
		TRY(chown("file", 65534, 65534));
		TRY(chmod("file", all[i]));
		AS(65534, 65534)
		{
			TRY(chown("file", 65534, 65534));
			show("file");
			TRY(chown("file", 0, (gid_t)-1));
			TRY(chown("file", (uid_t)-1, 0));
		}
	}
	TRY(chmod("dir", 06777));
	TRY(chown("dir", 5, 6));
	show("dir");
	TRY(lchown("link", 7, 8));
	show("link");
	TRY(chown("link", 9, 10));
	show("file");
	TRY(chown("pipe", 11, 12));
	show("pipe");
	TIMES("file", chown("file", 1, 2));
	TIMES("file", chown("file", (uid_t)-1, (gid_t)-1));
	TRY(chown("file", 0x7ffffffe, 0x7ffffffd));
	show("file");
	AS(1, 1) TRY(chown("file", 1, 1));
	TRY(unlink("file"));
	TRY(unlink("pipe"));
	TRY(unlink("link"));
	TRY(rmdir("dir"));
}

/* Who may do what in whose directory, and what is new there belongs to whom. */
static void directories(void)
{
	static const mode_t all[] = {0755, 0777, 01777, 02777, 0711, 0744, 0733};

	for (size_t i = 0; i < COUNT(all); i++) {
		mkdir("d", 0755);
		TRY(chown("d", 1, 2));
		TRY(chmod("d", all[i]));
		put("d/roots", "text", 0644);
		mkdir("d/sub", 0755);
		show("d/sub");
		AS(65534, 65533)
		{
			TRY(opens("d", O_RDONLY | O_DIRECTORY, 0));
			TRY(opens("d/roots", O_RDONLY, 0));
			TRY(opens("d/roots", O_RDWR, 0));
			TRY(opens("d/mine", O_CREAT | O_RDWR, 02755));
			TRY(mkdir("d/mydir", 0775));
			TRY(mkfifo("d/mypipe", 0664));
			TRY(symlink("x", "d/mylink"));
			TRY(link("d/roots", "d/hard"));
			TRY(rename("d/roots", "d/moved"));
			TRY(unlink("d/moved"));
			TRY(unlink("d/roots"));
			TRY(rmdir("d/sub"));
		}
		AS(1, 1) TRY(unlink("d/mypipe"));
		AS(5, 5) TRY(rename("d/mine", "d/theirs"));
		show("d/mine");
		show("d/mydir");
		show("d/mypipe");
		show("d/mylink");
		clear("rm -rf d");
	}
}

/* The modes of what is new. */
static void masks(void)
{
	for (unsigned mask = 0; mask < 0777; mask += 0111) {
		umask(mask);
		TRY(opens("file", O_CREAT | O_WRONLY, 07777));
		show("file");
		TRY(mkdir("dir", 07777));
		show("dir");
		TRY(mkfifo("pipe", 0666));
		show("pipe");
		unlink("file");
		unlink("pipe");
		rmdir("dir");
	}
	umask(022);
}

static void links(void)
{
	put("file", "text", 0644);
	mkdir("dir", 0755);
	TIMES("file", link("file", "hard"));
	TIMES(".", link("file", "dir/hard"));
	TIMES("dir", link("file", "dir/hard2"));
	show("file");
	TRY(link("file", "hard"));
	TRY(link("dir", "dir2"));
	TRY(link("file", "dir"));
	TRY(symlink("file", "link"));
	TRY(link("link", "link2"));
	show("link2");
	TRY(linkat(AT_FDCWD, "link", AT_FDCWD, "hard3", AT_SYMLINK_FOLLOW));
	show("hard3");
	TIMES("file", unlink("hard"));
	TIMES("dir", unlink("dir/hard2"));
	TRY(unlink("dir"));
	TRY(rmdir("file"));
	TRY(rmdir("dir"));
	TRY(rmdir("."));
	TRY(rmdir("dir/.."));
	TRY(unlink("dir/hard"));
	TRY(unlink("link2"));
	TRY(unlink("hard3"));
	TIMES(".", rmdir("dir"));
	TRY(symlink("", "empty"));
	TRY(symlink(long_path, "long"));
	long_path[4095] = '\0';
	TRY(symlink(long_path, "long"));
	show("long");
	TRY(unlink("long"));
	long_path[4095] = '/';
	TRY(symlink("again", "link"));
	TRY(unlink("link"));
	TRY(unlink("file"));
}

static void renames(void)
{
	static const char *const kinds[] = {"file", "dir", "full", "link", "pipe", "none"};

	for (size_t i = 0; i < COUNT(kinds) * COUNT(kinds); i++) {
		const char *from = kinds[i / COUNT(kinds)], *to = kinds[i % COUNT(kinds)];
		char path[16];

		if (from == to)
			continue;
		put("file", "text", 0644);
		mkdir("dir", 0755);
		mkdir("full", 0755);
		put("full/x", "x", 0644);
		make_link("file", "link");
		mkfifo("pipe", 0644);
		mkdir("t", 0755);
		snprintf(path, sizeof(path), "t/%s", to);
		if (strcmp(to, "none") != 0 && rename(to, path) < 0)
			say("rename", -1);
		printf("-- %s to %s\n", from, to);
		TRY(renameat2(AT_FDCWD, from, AT_FDCWD, path, RENAME_NOREPLACE));
		show(path);
		TRY(renameat2(AT_FDCWD, from, AT_FDCWD, path, RENAME_EXCHANGE));
		show(from);
		TRY(rename(from, path));
		show(from);
		show(path);
		TIMES("t", rename(path, "back"));
		clear("rm -rf file dir full link pipe t back");
	}
}

static void renames_of_directories(void)
{
	mkdir("d", 0755);
	mkdir("d/e", 0755);
	TRY(rename("d", "d/e/f"));
	TRY(rename("d/e", "d/e"));
	TRY(rename("d/.", "x"));
	TRY(rename("d/e/..", "x"));
	TRY(rename("d", "d/.."));
	put("d/a", "a", 0644);
	TRY(link("d/a", "d/b"));
	TRY(rename("d/a", "d/b")); /* the same file: nothing happens */
	show("d/a");
	TRY(renameat2(AT_FDCWD, "d/a", AT_FDCWD, "c", RENAME_NOREPLACE | RENAME_EXCHANGE));
	TRY(renameat2(AT_FDCWD, "d/a", AT_FDCWD, "c", 64));
	TIMES("d/a", rename("d/a", "d/c"));
	TRY(chmod("d", 01777));
	mkdir("open", 0777);
	TRY(chmod("open", 0777));
	AS(65534, 65534)
	{
		TRY(rename("d/b", "open/b"));
		TRY(mkdir("d/mine", 0755));
		TRY(rename("d/mine", "open/mine"));
	}
	clear("rm -rf d open");
}

static void opening(void)
{
	static const int flags[] = {O_RDONLY,
				    O_WRONLY,
				    O_RDWR,
				    O_WRONLY | O_TRUNC,
				    O_RDWR | O_APPEND,
				    O_RDONLY | O_CREAT,
				    O_RDWR | O_CREAT | O_EXCL,
				    O_RDONLY | O_DIRECTORY,
				    O_RDONLY | O_NOFOLLOW,
				    O_PATH,
				    O_WRONLY | O_CREAT | O_TRUNC,
				    O_RDONLY | O_NOATIME};
	static const char *const kinds[] = {"file", "dir", "link", "socket", "closed"};
	struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = "socket"};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	mkdir("dir", 0755);
	make_link("file", "link");
	TRY(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	close(fd);
	show("socket");
	for (size_t i = 0; i < COUNT(flags) * COUNT(kinds); i++) {
		const char *path = kinds[i % COUNT(kinds)];

		put("file", "text", 0644);
		put("closed", "text", 0600);
		printf("-- %s %o\n", path, (unsigned)flags[i / COUNT(kinds)]);
		TRY(opens(path, flags[i / COUNT(kinds)], 0644));
		AS(65534, 65534) TRY(opens(path, flags[i / COUNT(kinds)], 0644));
		show("file");
	}
	TIMES("file", opens("file", O_WRONLY | O_TRUNC, 0));
	TIMES("file", opens("file", O_RDONLY, 0));
	TIMES(".", opens("file", O_CREAT | O_WRONLY, 0644));
	TIMES(".", opens("new", O_CREAT | O_WRONLY, 0644));
	TRY(opens("created", O_CREAT | O_RDWR, 0)); /* of mode 0, and yet written */
	TRY(mknod("block", S_IFREG | 0640, 0));
	show("block");
	clear("rm -rf *");
}

int main(int argc, char **argv)
{
	static void (*const all[])(void) = {paths,   modes,	   owners,  directories,
					    masks,   links,	   renames, renames_of_directories,
					    opening, files_content};

	if (argc != 2 || chdir(argv[1]) < 0 || geteuid() != 0)
		return 2;
	umask(022);
	memset(long_name, 'n', sizeof(long_name) - 1);
	memset(name_255, 'm', sizeof(name_255) - 1);
	for (size_t i = 0; i < sizeof(long_path) - 1; i++)
		long_path[i] = i % 2 ? '/' : '.';
	for (size_t i = 0; i < COUNT(all); i++)
		all[i]();
	return 0;
}
