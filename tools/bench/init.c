// SPDX-License-Identifier: BSD-2-Clause
/*
 * Process 1 of the Linux guest that tools/bench boots, the same under every monitor. It reads from
 * the kernel's command line:
 *
 *   bench.end=off|reboot   how the VM is ended: what its monitor takes as an end
 *   bench.do=end           (default) at once, nothing loaded
 *   bench.do=report        load the drivers, print the clocks, end
 *   bench.do=hold          load the drivers, say that it is ready, wait to be killed
 *   bench.do=free          load the drivers, use bench.mib=N MiB, free them, wait to be killed
 *   bench.do=run           load the drivers, run /bench.sh, end
 *   bench.tty=NAME         the console for that (default hvc0)
 */
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static char cmdline[4096];

static const char *word(const char *key, const char *otherwise)
{
	static char value[4][64];
	static unsigned n;
	const char *at = strstr(cmdline, key);
	char *ret = value[n++ % 4];

	if (!at)
		return otherwise;
	at += strlen(key);
	snprintf(ret, sizeof(value[0]), "%.*s", (int)strcspn(at, " \n"), at);
	return ret;
}

static double clock_s(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Those named in /modules, in its order. What a machine has no device for loads as well. */
static void load_modules(void)
{
	char line[256];
	FILE *f = fopen("/modules", "r");

	while (f && fgets(line, sizeof(line), f)) {
		int fd;

		line[strcspn(line, "\n")] = '\0';
		fd = open(line, O_RDONLY | O_CLOEXEC);
		syscall(__NR_finit_module, fd, "", 0);
		close(fd);
	}
}

static void open_console(void)
{
	char path[80];
	int fd = -1;

	snprintf(path, sizeof(path), "/dev/%s", word("bench.tty=", "hvc0"));
	for (int i = 0; fd < 0 && i < 500; i++) {
		fd = open(path, O_RDWR | O_NOCTTY);
		if (fd < 0)
			usleep(10000);
	}
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
}

/*
 * When the guest's own clock began, in the host's time, which kvmclock tells; seconds of its own
 * clock until /init, until its drivers were there, and until the end, which is now.
 */
static void report(double init, double drivers)
{
	double now = clock_s(CLOCK_MONOTONIC), real = clock_s(CLOCK_REALTIME);

	printf("bench: clocks began=%.4f init=%.4f drivers=%.4f\n", real - now, init, drivers);
	fflush(stdout);
	tcdrain(1);
	printf("bench: clocks end=%.4f\n", clock_s(CLOCK_MONOTONIC));
}

static void use_and_free(void)
{
	size_t size = (size_t)atoi(word("bench.mib=", "1")) << 20;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	printf("bench: ready\n");
	fflush(stdout);
	memset(p, 1, size);
	printf("bench: used\n");
	fflush(stdout);
	sleep(1);
	munmap(p, size);
	printf("bench: freed\n");
}

static void run(void)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		execl("/bin/sh", "sh", "/bench.sh", (char *)NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	printf("bench: status=%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 255);
}

int main(void)
{
	double init = clock_s(CLOCK_MONOTONIC), drivers;
	const char *action;
	int fd;

	mount("proc", "/proc", "proc", 0, NULL);
	fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, cmdline, sizeof(cmdline) - 1) < 0)
		return 1;
	action = word("bench.do=", "end");
	if (strcmp(action, "end") != 0) {
		/* No /sys: fio would believe the cache line size of whatever CPUID it is shown. */
		mount("dev", "/dev", "devtmpfs", 0, NULL);
		load_modules();
		drivers = clock_s(CLOCK_MONOTONIC);
		open_console();
		setenv("PATH", "/bin:/usr/bin", 1);
		if (!strcmp(action, "report"))
			report(init, drivers);
		else if (!strcmp(action, "run"))
			run();
		else if (!strcmp(action, "free"))
			use_and_free();
		else
			printf("bench: ready\n");
		fflush(stdout);
		tcdrain(1);
		while (!strcmp(action, "hold") || !strcmp(action, "free"))
			pause();
	}
	sync();
	syscall(__NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
		strcmp(word("bench.end=", "off"), "off") ? LINUX_REBOOT_CMD_RESTART
							 : LINUX_REBOOT_CMD_POWER_OFF,
		NULL);
	for (;;)
		pause();
}
