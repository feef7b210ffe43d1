// SPDX-License-Identifier: BSD-2-Clause
/*
 * A command in a VM that runs.
 *
 * DOC: Theory of operation. The VM gets the streams themselves, and a socket: by that it is told of signals
 * and the terminal's size, and says how the command ended. Only what is typed at a terminal comes by here,
 * as a process that is not in its foreground must not read it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "agent/stream.h"
#include "agent/wire.h"
#include "base/log.h"
#include "base/util.h"
#include "control.h"
#include "remote.h"

enum { TALK, SETUP, STREAMS, NUM_FILES = STREAMS + 3 }; /* as in devices/agent/type.c */

struct talk {
	struct wire wire;
	int signals, typed; /* typed: what goes to the command; -1: not by here */
	int in;
	char keys[4096];
	size_t start, len; /* of `keys` */
	bool raw;
	struct termios usual;
	int last_signal;
	int result; /* of AGENT_EXIT; -1: none yet */
};

int remote_open(struct remote *ret, const char *vm, struct error *e)
{
	int fd = memfd_create("skep-setup", MFD_CLOEXEC);

	*ret = (struct remote){.vm = vm, .stream = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}};
	ret->setup = fd < 0 ? NULL : fdopen(fd, "w");
	return ret->setup ? 0 : error_set(e, -errno, "cannot make a file in memory: %m");
}

static uint32_t terminal_size(void)
{
	struct winsize size = {.ws_row = 25, .ws_col = 80};

	for (int fd = 0; fd < 3; fd++)
		if (ioctl(fd, TIOCGWINSZ, &size) == 0)
			break;
	return (uint32_t)size.ws_col << 16 | size.ws_row;
}

static void set_raw(struct talk *t, bool raw)
{
	struct termios mode = t->usual;

	if (!t->raw)
		return;
	if (raw)
		cfmakeraw(&mode);
	tcsetattr(t->in, TCSADRAIN, &mode);
}

static int ask(const struct remote *remote, int files[NUM_FILES], const struct std_stream stream[3],
	       struct error *e)
{
	json_t *request, *answer = NULL;
	int sockets = 0, blocks = 0, r;

	for (int i = 0; i < 3; i++) {
		files[STREAMS + i] = stream[i].fd;
		sockets |= stream[i].socket << i;
		blocks |= stream[i].blocks << i;
	}
	request = json_pack("{s:s, s:i, s:i}", "command", "exec", "sockets", sockets, "blocks",
			    blocks);
	if (remote->terminal)
		json_object_set_new(request, "size", json_integer(terminal_size()));
	r = control_ask(remote->vm, request, files, NUM_FILES, CONTROL_PATIENCE_NS, &answer, e);
	json_decref(request);
	json_decref(answer);
	return r;
}

static int make_pair(int *ret_own, int *ret_other, struct error *e)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return error_set(e, -errno, "cannot make a pair of sockets: %m");
	*ret_own = pair[0];
	*ret_other = pair[1];
	return 0;
}

/* Hands all over to the VM. */
static int begin(struct talk *t, const struct remote *remote, struct error *e)
{
	static const int flags[3] = {O_RDONLY, O_WRONLY, O_WRONLY};
	_cleanup_close_ int other = -1, in = -1;
	int files[NUM_FILES], r = make_pair(&t->wire.fd, &other, e);
	struct std_stream stream[3];

	if (r == 0 && isatty(remote->stream[0]))
		r = make_pair(&t->typed, &in, e);
	if (r < 0)
		return r;
	for (int i = 0; i < 3; i++)
		std_open(&stream[i], !i && in >= 0 ? in : remote->stream[i], flags[i]);
	files[TALK] = other;
	files[SETUP] = fileno(remote->setup);
	lseek(files[SETUP], 0, SEEK_SET);
	r = ask(remote, files, stream, e);
	for (int i = 0; i < 3; i++)
		std_close(&stream[i]);
	return r;
}

static void say(struct talk *t, enum agent_kind type, uint32_t value)
{
	wire_say(&t->wire, type, 0, 0, value);
	wire_send(&t->wire);
}

/* The first of a kind is the command's; false at a second one. */
static bool on_signal(struct talk *t)
{
	struct signalfd_siginfo info;

	while (read(t->signals, &info, sizeof(info)) == sizeof(info)) {
		int sig = (int)info.ssi_signo;

		if (sig == SIGWINCH || sig == SIGCONT) {
			set_raw(t, true);
			say(t, AGENT_SIZE, terminal_size());
			continue;
		}
		if (t->last_signal == sig)
			return false;
		t->last_signal = sig;
		say(t, AGENT_SIGNAL, (uint32_t)sig);
	}
	return true;
}

static int take(void *ctx, const struct agent_message *m, const uint8_t *data)
{
	struct talk *t = ctx;

	(void)data;
	if (m->type != AGENT_EXIT || m->value & ~AGENT_EXIT_MASK)
		return -EPROTO;
	t->result = (int)m->value;
	return 0;
}

/* What was typed, on its way; its end closes the way. */
static void pass_keys(struct talk *t, bool readable)
{
	ssize_t n = 1;

	if (readable && !t->len) {
		n = read(t->in, t->keys, sizeof(t->keys));
		t->start = 0;
		t->len = n > 0 ? (size_t)n : 0;
	}
	if (t->len) {
		n = send(t->typed, t->keys + t->start, t->len, MSG_NOSIGNAL | MSG_DONTWAIT);
		t->start += n > 0 ? (size_t)n : 0;
		t->len -= n > 0 ? (size_t)n : 0;
	}
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		close(t->typed);
		t->typed = -1;
		t->len = 0;
	}
}

/* Until the command has ended, the VM has, or a second signal comes. */
static void wait_for_end(struct talk *t)
{
	bool goes_on = true;

	while (goes_on && t->result < 0) {
		struct pollfd p[] = {
			{.fd = t->wire.fd, .events = POLLIN},
			{.fd = t->signals, .events = POLLIN},
			{.fd = t->typed >= 0 && !t->len ? t->in : -1, .events = POLLIN},
			{.fd = t->len ? t->typed : -1, .events = POLLOUT},
		};

		poll(p, ARRAY_SIZE(p), -1);
		if (p[2].revents || p[3].revents)
			pass_keys(t, p[2].revents);
		if (p[1].revents)
			goes_on = on_signal(t);
		if (p[0].revents && wire_receive(&t->wire, take, t) < 0)
			goes_on = false;
	}
}

static int watch_signals(struct talk *t, sigset_t *old)
{
	static const int all[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGCONT};
	struct sigaction action;
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (sigaction(all[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
			sigaddset(&set, all[i]);
	sigprocmask(SIG_BLOCK, &set, old);
	t->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return t->signals;
}

static int result_of(const struct talk *t, struct error *e)
{
	unsigned how = (unsigned)t->result;

	if (t->result < 0 && t->last_signal)
		return 128 + t->last_signal;
	if (t->result < 0)
		return error_set(e, -ECHILD, "the guest ended before the command did");
	if (how & AGENT_OUT_OF_MEMORY)
		log_warn("the guest ran out of memory, and its kernel killed a process");
	return (int)(AGENT_SIGNALLED(how) ? 128 + AGENT_SIGNALLED(how) : AGENT_STATUS(how));
}

int remote_run(struct remote *remote, struct error *e)
{
	struct talk t = {.wire.fd = -1, .typed = -1, .in = remote->stream[0], .result = -1};
	sigset_t old;
	int r;

	fflush(remote->setup);
	watch_signals(&t, &old);
	r = ftello(remote->setup) > (off_t)AGENT_MAX_SETUP
		    ? error_set(e, -E2BIG, "the command and its environment have more than 4 MiB")
		    : begin(&t, remote, e);
	fclose(remote->setup);
	if (r == 0) {
		t.raw = remote->terminal && tcgetattr(t.in, &t.usual) == 0;
		set_raw(&t, true);
		wait_for_end(&t);
		set_raw(&t, false);
		r = result_of(&t, e);
	}
	if (t.wire.fd >= 0)
		close(t.wire.fd);
	if (t.typed >= 0)
		close(t.typed);
	close(t.signals);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return r;
}
