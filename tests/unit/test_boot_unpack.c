// SPDX-License-Identifier: BSD-2-Clause
/* Payloads that are damaged, initrds, pipes, and hosts that cannot unpack. */
#include "boot_files_fixture.h"

/* For each compression: damage, a cut, sizes that lie, and a bomb. */
static void test_damaged_payloads_are_refused(void **state)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false});

	(void)state;
	for (enum compression how = 0; how < C_LZO; how++) {
		struct blob b = make_bzimage(&v, how);
		size_t start = BZIMAGE_SETUP_LEN + BZIMAGE_PAYLOAD_OFFSET;
		uint32_t len, size;

		memcpy(&len, b.data + 0x24c, 4);
		if (how == C_GZIP || how == C_BZIP2 || how == C_XZ) { /* the others have no sum */
			b.data[start + len / 2] ^= 0x10;
			expect_bzimage(&b, -EBADMSG, "is damaged: its payload");
			b.data[start + len / 2] ^= 0x10;
		}

		memcpy(&size, b.data + start + len - 4, 4);
		size--;
		blob_put(&b, start + len - 4, &size, 4);
		expect_bzimage(&b, -EBADMSG, "is damaged: its payload");
		size += 2;
		blob_put(&b, start + len - 4, &size, 4);
		expect_bzimage(&b, -EBADMSG, "is damaged: its payload");
		size = UINT32_MAX;
		blob_put(&b, start + len - 4, &size, 4);
		expect_bzimage(&b, -EBADMSG, "claims to unpack to 4095 MiB");
		size = 0;
		blob_put(&b, start + len - 4, &size, 4);
		expect_bzimage(&b, -EBADMSG, "is damaged");

		b.len -= 4096;
		expect_bzimage(&b, -EBADMSG, "is truncated: its payload ends at byte");
		blob_free(&b);
	}
	blob_free(&v);
}

static void test_payload_that_is_no_kernel_is_refused(void **state)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false}), b;

	(void)state;
	v.data[0] = 0;
	b = make_bzimage(&v, C_LZ4);
	expect_bzimage(&b, -EBADMSG, "its payload is of an unknown format");
	blob_free(&b);
	v.data[0] = 0x7f;
	v.len = 0x200000;
	b = make_bzimage(&v, C_ZSTD);
	expect_bzimage(&b, -EBADMSG, "is damaged: its payload: is a truncated ELF file");
	blob_free(&b);
	blob_free(&v);
}

/* ----- initrd ----- */

static void expect_initrd(const char *kernel, const void *bytes, size_t len, const char *text)
{
	struct blob b = {NULL, 0};
	char *path;

	blob_put(&b, 0, bytes, len);
	path = write_blob(dir, "initrd", &b);
	if (text) {
		expect_error(kernel, path, -EINVAL, text);
	} else {
		char *const initrds[] = {path, NULL};
		const struct boot_request request = {.kernel = kernel, .initrds = initrds};
		struct boot_files files;
		struct error e = {""};

		if (boot_open(&files, &request, &e))
			fail_msg("%s", e.msg);
		assert_int_equal(files.image->initrd_size, len);
		boot_close(&files);
	}
	free(path);
	blob_free(&b);
}

static void test_initrds(void **state)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false});
	struct blob b = make_bzimage(&v, C_GZIP);
	char *kernel = write_blob(dir, "vmlinux", &v);
	char path[128];

	(void)state;
	expect_initrd(kernel, "070701", 6, NULL);
	expect_initrd(kernel, "\x1f\x8b\x08", 3, NULL);
	expect_initrd(kernel, "\x28\xb5\x2f\xfd", 4, NULL);
	expect_initrd(kernel, "\x01\x02\x03\x04", 4, NULL);
	expect_initrd(kernel, "", 0, "is empty, not an initramfs");
	expect_initrd(kernel, "#!/bin/sh\n", 10, "is a script");
	expect_initrd(kernel, b.data, b.len,
		      "is a Linux kernel (bzImage), not an initramfs: a kernel goes to --kernel");
	expect_initrd(kernel, v.data, v.len, "is an x86-64 ELF file, not an initramfs: a kernel");
	expect_error(kernel, dir, -EISDIR, "is a directory");
	snprintf(path, sizeof(path), "%s/none", dir);
	expect_error(kernel, path, -ENOENT, "No such file");
	free(kernel);
	blob_free(&b);
	blob_free(&v);
}

static uint64_t initrd_of(const char *kernel, char *const *initrds, uint8_t *ret, size_t max)
{
	const struct boot_request request = {.kernel = kernel, .initrds = initrds};
	struct boot_files files;
	struct error e = {""};
	uint64_t size;

	if (boot_open(&files, &request, &e))
		fail_msg("%s", e.msg);
	size = files.image->initrd_size;
	assert_int_equal(pread_full(files.initrd_fd, ret, max, 0), size);
	boot_close(&files);
	return size;
}

/* Microcode first: each begins at a multiple of four bytes. */
static void test_several_initrds_follow_each_other(void **state)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false});
	char *kernel = write_blob(dir, "vmlinux", &v), *paths[4] = {NULL};
	static const char *const names[] = {"first", "second", "third"};
	static const char *const content[] = {"070701first", "\x1f\x8b\x08", "070701x"};
	uint8_t all[64];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct blob b = {NULL, 0};

		blob_put(&b, 0, content[i], strlen(content[i]));
		paths[i] = write_blob(dir, names[i], &b);
		blob_free(&b);
	}
	assert_int_equal(initrd_of(kernel, paths, all, sizeof(all)), 23);
	assert_memory_equal(all,
			    "070701first\0\x1f\x8b\x08\0"
			    "070701x",
			    23);
	unlink(paths[2]);
	expect_open_error(kernel, paths, -ENOENT, paths[2]);
	for (size_t i = 0; i < 3; i++)
		free(paths[i]);
	free(kernel);
	blob_free(&v);
}

/* A pipe that holds the blob; its writer goes on writing what does not fit. */
static pid_t pipe_of(const struct blob *b, char path[32], int *ret_fd)
{
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(write_full(fds[1], b->data, b->len) < 0);
	close(fds[1]);
	snprintf(path, 32, "/proc/self/fd/%d", fds[0]);
	*ret_fd = fds[0];
	return pid;
}

/* -k <(...) -i <(...) */
static void test_kernel_and_initrd_come_by_pipes(void **state)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){.relocs = RELOCS_NONE});
	struct blob kernel = make_bzimage(&v, C_LZ4), initrd = {NULL, 0};
	char kernel_path[32], initrd_path[32], *initrds[] = {initrd_path, NULL};
	int kernel_fd, initrd_fd, status;
	pid_t writers[2];
	uint8_t *got = malloc(MIB);

	(void)state;
	blob_put(&initrd, 0, "070701", 6);
	blob_put(&initrd, 500000, "end", 3);
	writers[0] = pipe_of(&kernel, kernel_path, &kernel_fd);
	writers[1] = pipe_of(&initrd, initrd_path, &initrd_fd);
	assert_int_equal(initrd_of(kernel_path, initrds, got, MIB), initrd.len);
	assert_memory_equal(got, initrd.data, initrd.len);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(waitpid(writers[i], &status, 0), writers[i]);
		assert_int_equal(status, 0);
	}
	close(kernel_fd);
	close(initrd_fd);
	free(got);
	blob_free(&v);
	blob_free(&kernel);
	blob_free(&initrd);
}

/* ----- a host on which it cannot be unpacked: the guest does it ----- */

static void expect_left_to_guest(const char *why)
{
	struct vmlinux_spec spec = {.relocs = RELOCS_3_TABLES};
	struct blob v = make_vmlinux(&spec), b = make_bzimage(&v, C_LZ4);
	char *path = write_blob(dir, "poor", &b), log[512] = "";
	const struct boot_request request = {.kernel = path};
	FILE *said = tmpfile();
	struct error e = {""};
	struct boot_files files;

	dup2(fileno(said), 2);
	log_set_level(LOG_WARN);
	assert_int_equal(boot_open(&files, &request, &e), 0);
	assert_true(files.image->kernel->h.unpacks);
	assert_int_equal(files.cache_fd, -1);
	rewind(said);
	assert_non_null(fgets(log, sizeof(log), said));
	assert_non_null(strstr(log, why));
	assert_non_null(strstr(log, "; the guest unpacks it"));
	assert_null(fgets(log, sizeof(log), said));
	boot_close(&files);
	unlink(path);
	free(path);
	blob_free(&b);
	blob_free(&v);
}

/* The process that unpacks dies, of whatever: here at its first system call. */
static int kill_the_child(const char *arg)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_prctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_PDEATHSIG, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	(void)arg;
	assert_int_equal(filter_install(code, ARRAY_SIZE(code)), 0);
	expect_left_to_guest("died (signal 31)");
	return 0;
}

static int deny_fork(const char *arg)
{
	struct rlimit none = {0, 0};

	(void)arg;
	if (geteuid() == 0) {
		assert_int_equal(chmod(dir, 0777), 0);
		assert_int_equal(setgid(65533), 0);
		assert_int_equal(setuid(65533), 0);
	}
	assert_int_equal(setrlimit(RLIMIT_NPROC, &none), 0);
	expect_left_to_guest("cannot fork: ");
	return 0;
}

static void test_unpacking_that_dies_is_left_to_the_guest(void **state)
{
	(void)state;
	assert_int_equal(in_child(kill_the_child, NULL), 0);
}

static void test_without_processes_it_is_left_to_the_guest(void **state)
{
	(void)state;
	assert_int_equal(in_child(deny_fork, NULL), 0);
}

static int open_with_ignored_children(const char *arg)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){RELOCS_NONE, false, false});
	struct blob b = make_bzimage(&v, C_LZ4);
	char *path = write_blob(dir, "ignored", &b);
	const struct boot_request request = {.kernel = path};
	struct boot_files files;

	(void)arg;
	signal(SIGCHLD, SIG_IGN); /* as who started us may have had it */
	assert_int_equal(boot_open(&files, &request, NULL), 0);
	assert_true(files.cache_fd >= 0);
	boot_close(&files);
	return 0;
}

static void test_ignored_sigchld_is_no_harm(void **state)
{
	(void)state;
	assert_int_equal(in_child(open_with_ignored_children, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_damaged_payloads_are_refused),
		cmocka_unit_test(test_payload_that_is_no_kernel_is_refused),
		cmocka_unit_test(test_initrds),
		cmocka_unit_test(test_several_initrds_follow_each_other),
		cmocka_unit_test(test_kernel_and_initrd_come_by_pipes),
		cmocka_unit_test(test_unpacking_that_dies_is_left_to_the_guest),
		cmocka_unit_test(test_without_processes_it_is_left_to_the_guest),
		cmocka_unit_test(test_ignored_sigchld_is_no_harm),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
